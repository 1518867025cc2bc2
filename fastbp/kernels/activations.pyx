"""Activations and their derivatives, element by element, and dropout.

The functions of the activations are generated from the table of operations, ops.def.

With A = f(Z), backpropagation needs dZ = dA · f'(Z).  Most derivatives are a function
of Z; those of sigmoid and tanh are simpler in A, and take A.

The element-wise functions and `dropout` take arrays of any shape, `softmax` two-dimensional ones;
`out` may be the input.  NaN gives NaN.  exp, tanh and erf are polynomials (simd/vector_math.h),
within 2 units in the last place and with the same bits on every machine.
"""

from fastbp.kernels.dispatch cimport (
    fbp_dropout, fbp_softmax, fbp_unary, fbp_unary_backward, real, tier, uint64_t,
)

from . import checks, ops
from .dispatch import UNARY_INDEX


cdef int apply(int which, const real[::1] X, real[::1] Y, double parameter) except -1:
    with nogil:
        fbp_unary(tier, which, X.shape[0], &X[0], &Y[0], parameter)
    return 0


cdef int apply_backward(int which, const real[::1] dA, const real[::1] Z, real[::1] dZ,
                        double parameter) except -1:
    with nogil:
        fbp_unary_backward(tier, which, dA.shape[0], &dA[0], &Z[0], &dZ[0], parameter)
    return 0


cdef int apply_dropout(const real[::1] X, real[::1] Y, double rate, uint64_t key,
                       uint64_t step) except -1:
    with nogil:
        fbp_dropout(tier, X.shape[0], &X[0], &Y[0], rate, key, step, 0)
    return 0


cdef int apply_softmax(const real[:, ::1] Z, real[:, ::1] P) except -1:
    with nogil:
        fbp_softmax(tier, Z.shape[0], Z.shape[1], &Z[0, 0], &P[0, 0])
    return 0


cdef _unary(int which, name, X, out, double parameter=0.0):
    X = checks.floats(name, X)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X])
    if X.dtype == "f4":
        apply[float](which, X.reshape(-1), Y.reshape(-1), parameter)
    else:
        apply[double](which, X.reshape(-1), Y.reshape(-1), parameter)
    return Y


cdef _unary_backward(int which, dA, name, Z, out, double parameter=0.0):
    dA = checks.floats("dA", dA)
    Z = checks.floats(name, Z, None, dA.dtype)
    checks.shape(name, Z, dA.shape, "like dA")
    dZ = checks.output(out, dA.shape, dA.dtype, in_place=[dA, Z])
    if dA.dtype == "f4":
        apply_backward[float](which, dA.reshape(-1), Z.reshape(-1), dZ.reshape(-1), parameter)
    else:
        apply_backward[double](which, dA.reshape(-1), Z.reshape(-1), dZ.reshape(-1), parameter)
    return dZ


def _activation(op):
    """Make the functions of an activation and of its gradient from its row in the table."""
    cdef int which = UNARY_INDEX[op.name]
    default = op.default_alpha
    if default is None:
        def forward(Z, *, out=None):
            return _unary(which, "Z", Z, out)
    else:
        def forward(Z, alpha=default, *, out=None):
            return _unary(which, "Z", Z, out, checks.number("alpha", alpha))

    if op.from_output:
        if default is not None:
            raise NotImplementedError(f"{op.name}: a derivative that takes A and alpha")

        def backward(dA, A, *, out=None):
            return _unary_backward(which, dA, "A", A, out)
    elif default is None:
        def backward(dA, Z, *, out=None):
            return _unary_backward(which, dA, "Z", Z, out)
    else:
        def backward(dA, Z, alpha=default, *, out=None):
            return _unary_backward(which, dA, "Z", Z, out, checks.number("alpha", alpha))

    _add(forward, op.name, ops.forward_docstring(op))
    _add(backward, f"{op.name}_backward", ops.backward_docstring(op))


def _function(op):
    """Make an element-wise function from its row in the table."""
    cdef int which = UNARY_INDEX[op.name]

    def function(X, *, out=None):
        return _unary(which, "X", X, out)

    _add(function, op.name, ops.function_docstring(op))


def _add(function, name, doc):
    """Add a function to this module and to `__all__`."""
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    globals()[name] = function
    __all__.append(name)


__all__ = []
for _op in ops.ACTIVATIONS.values():
    _activation(_op)
for _op in ops.FUNCTIONS.values():
    _function(_op)
__all__ += ["dropout", "softmax"]


def dropout(X, rate, key, step, *, out=None):
    """Zero each element with probability `rate`, and divide the others by ``1 - rate``.

    Which elements become 0 depends only on `key`, `step` and the element's index.  The
    gradient passes through the others: ``dX = dropout(dY, rate, key, step)``.

    Parameters
    ----------
    X : array_like of any shape, float32 or float64
    rate : float in [0, 1)
    key, step : int in [0, 2**64)
        Which mask: the key selects a stream of masks, the step a mask in it.
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or `key` or `step` is not an integer.
    ValueError
        If `rate`, `key` or `step` is out of range, or `out` cannot hold the result.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a
    simple way to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> Y = kernels.dropout(np.ones(1000), 0.25, key=0, step=1)
    >>> sorted({round(y, 4) for y in Y.tolist()})
    [0.0, 1.3333]
    >>> np.array_equal(Y, kernels.dropout(np.ones(1000), 0.25, key=0, step=1))
    True
    """
    X = checks.floats("X", X)
    rate = checks.number("rate", rate, 0, 1, high_open=True)
    key = checks.integer("key", key, 0, 2**64 - 1)
    step = checks.integer("step", step, 0, 2**64 - 1)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X])
    if X.dtype == "f4":
        apply_dropout[float](X.reshape(-1), Y.reshape(-1), rate, key, step)
    else:
        apply_dropout[double](X.reshape(-1), Y.reshape(-1), rate, key, step)
    return Y


def softmax(Z, *, out=None):
    """Each row's exponentials divided by their sum: ``P = exp(Z) / Σⱼ exp(Z)``.

    Parameters
    ----------
    Z : array_like of shape (batch, classes), float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    P : ndarray of shape (batch, classes)
        Rows of probabilities.  The row's largest Z is subtracted first, so that
        nothing overflows.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `Z` has no columns or not 2 dimensions, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.softmax([[0.0, 0.0], [1000.0, 0.0]]).tolist()
    [[0.5, 0.5], [1.0, 0.0]]
    """
    Z = checks.floats("Z", Z, 2)
    if Z.shape[1] == 0:
        raise ValueError(f"Z: expected at least one column, got shape {Z.shape}")
    P = checks.output(out, Z.shape, Z.dtype, in_place=[Z])
    if Z.dtype == "f4":
        apply_softmax[float](Z, P)
    else:
        apply_softmax[double](Z, P)
    return P
