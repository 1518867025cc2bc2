"""Activations and their derivatives, element by element, and dropout.

With A = f(Z), backpropagation needs dZ = dA · f'(Z).  Most derivatives are a function
of Z; those of sigmoid and tanh are simpler in A, and take A.

Every function works on arrays of any shape; `out` may be the array that is read.
NaN in, NaN out.  exp, tanh and erf are our own polynomials, within 2 units in the last
place, with the same bits on every machine (simd/vector_math.h).
"""

from fastbp.kernels.dispatch cimport (
    FBP_ELU, FBP_ERF, FBP_EXP, FBP_EXPM1, FBP_GELU, FBP_LEAKY_RELU, FBP_LOG, FBP_LOG1P,
    FBP_RELU, FBP_SIGMOID, FBP_SILU, FBP_TANH,
    fbp_dropout, fbp_map, fbp_map_backward, fbp_softmax, real, tier, uint64_t,
)

from . import checks


cdef int apply(int which, const real[::1] X, real[::1] Y, double parameter) except -1:
    with nogil:
        fbp_map(tier, which, X.shape[0], &X[0], &Y[0], parameter)
    return 0


cdef int apply_backward(int which, const real[::1] dA, const real[::1] Z, real[::1] dZ,
                        double parameter) except -1:
    with nogil:
        fbp_map_backward(tier, which, dA.shape[0], &dA[0], &Z[0], &dZ[0], parameter)
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


cdef _map(int which, name, X, out, double parameter=0.0):
    X = checks.floats(name, X)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X])
    if X.dtype == "f4":
        apply[float](which, X.reshape(-1), Y.reshape(-1), parameter)
    else:
        apply[double](which, X.reshape(-1), Y.reshape(-1), parameter)
    return Y


cdef _map_backward(int which, dA, name, Z, out, double parameter=0.0):
    dA = checks.floats("dA", dA)
    Z = checks.floats(name, Z, None, dA.dtype)
    checks.shape(name, Z, dA.shape, "like dA")
    dZ = checks.output(out, dA.shape, dA.dtype, in_place=[dA, Z])
    if dA.dtype == "f4":
        apply_backward[float](which, dA.reshape(-1), Z.reshape(-1), dZ.reshape(-1), parameter)
    else:
        apply_backward[double](which, dA.reshape(-1), Z.reshape(-1), dZ.reshape(-1), parameter)
    return dZ


def relu(Z, *, out=None):
    """Rectified linear unit: ``A = max(Z, 0)``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.
    """
    return _map(FBP_RELU, "Z", Z, out)


def relu_backward(dA, Z, *, out=None):
    """Gradient through `relu`: ``dZ = 0 where Z ≤ 0, exactly, and dA elsewhere``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    Z : ndarray like dA
        What `relu` was given.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `Z`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_RELU, dA, "Z", Z, out)


def leaky_relu(Z, alpha=0.01, *, out=None):
    """Leaky rectified linear unit: ``A = Z where Z > 0, alpha·Z elsewhere``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    alpha : float, default 0.01
        The slope for negative input.
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.

    References
    ----------
    A. L. Maas, A. Y. Hannun, A. Y. Ng, "Rectifier nonlinearities improve neural network
    acoustic models", ICML 2013.
    """
    return _map(FBP_LEAKY_RELU, "Z", Z, out, checks.number("alpha", alpha))


def leaky_relu_backward(dA, Z, alpha=0.01, *, out=None):
    """Gradient through `leaky_relu`: ``dZ = dA where Z > 0, alpha·dA elsewhere``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    Z : ndarray like dA
        What `leaky_relu` was given.
    alpha : float, default 0.01
        The slope for negative input.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `Z`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_LEAKY_RELU, dA, "Z", Z, out, checks.number("alpha", alpha))


def sigmoid(Z, *, out=None):
    """Logistic sigmoid: ``A = 1 / (1 + exp(-Z))``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.
    """
    return _map(FBP_SIGMOID, "Z", Z, out)


def sigmoid_backward(dA, A, *, out=None):
    """Gradient through `sigmoid`: ``dZ = dA · A · (1 - A)``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    A : ndarray like dA
        What `sigmoid` returned.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `A`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_SIGMOID, dA, "A", A, out)


def tanh(Z, *, out=None):
    """Hyperbolic tangent: ``A = tanh(Z)``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.
    """
    return _map(FBP_TANH, "Z", Z, out)


def tanh_backward(dA, A, *, out=None):
    """Gradient through `tanh`: ``dZ = dA · (1 - A²)``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    A : ndarray like dA
        What `tanh` returned.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `A`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_TANH, dA, "A", A, out)


def elu(Z, alpha=1.0, *, out=None):
    """Exponential linear unit: ``A = Z where Z > 0, alpha·(exp(Z) - 1) elsewhere``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    alpha : float, default 1.0
        Minus the limit at -∞.
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.

    References
    ----------
    D.-A. Clevert, T. Unterthiner, S. Hochreiter, "Fast and accurate deep network learning
    by exponential linear units (ELUs)", ICLR 2016.
    """
    return _map(FBP_ELU, "Z", Z, out, checks.number("alpha", alpha))


def elu_backward(dA, Z, alpha=1.0, *, out=None):
    """Gradient through `elu`: ``dZ = dA where Z > 0, dA · alpha·exp(Z) elsewhere``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    Z : ndarray like dA
        What `elu` was given.
    alpha : float, default 1.0
        Minus the limit at -∞.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `Z`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_ELU, dA, "Z", Z, out, checks.number("alpha", alpha))


def gelu(Z, *, out=None):
    """Gaussian error linear unit, exact: ``A = Z·Φ(Z), with Φ(Z) = (1 + erf(Z/√2)) / 2``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.

    References
    ----------
    D. Hendrycks, K. Gimpel, "Gaussian Error Linear Units", arXiv:1606.08415.
    """
    return _map(FBP_GELU, "Z", Z, out)


def gelu_backward(dA, Z, *, out=None):
    """Gradient through `gelu`: ``dZ = dA · (Φ(Z) + Z·φ(Z)), with φ(Z) = exp(-Z²/2) / √(2π)``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    Z : ndarray like dA
        What `gelu` was given.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `Z`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_GELU, dA, "Z", Z, out)


def silu(Z, *, out=None):
    """Sigmoid linear unit, also called swish: ``A = Z·σ(Z), with σ the sigmoid``.

    Parameters
    ----------
    Z : ndarray of any shape, float32 or float64
    out : ndarray like Z, optional
        Where to write the result; may be `Z`.

    Returns
    -------
    A : ndarray like Z

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot be written as it is.

    References
    ----------
    S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units for neural network
    function approximation in reinforcement learning", Neural Networks 107, 2018.
    """
    return _map(FBP_SILU, "Z", Z, out)


def silu_backward(dA, Z, *, out=None):
    """Gradient through `silu`: ``dZ = dA · σ(Z)·(1 + Z·σ(-Z))``.

    Parameters
    ----------
    dA : ndarray of any shape, float32 or float64
        The loss's gradient by A.
    Z : ndarray like dA
        What `silu` was given.
    out : ndarray like dA, optional
        Where to write the result; may be `dA` or `Z`.

    Returns
    -------
    dZ : ndarray like dA

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
    """
    return _map_backward(FBP_SILU, dA, "Z", Z, out)


def exp(X, *, out=None):
    """``exp(X)``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError, ValueError
        As `relu`.
    """
    return _map(FBP_EXP, "X", X, out)


def expm1(X, *, out=None):
    """``exp(X) - 1``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError, ValueError
        As `relu`.
    """
    return _map(FBP_EXPM1, "X", X, out)


def log(X, *, out=None):
    """``log(X)``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError, ValueError
        As `relu`.
    """
    return _map(FBP_LOG, "X", X, out)


def log1p(X, *, out=None):
    """``log(1 + X)``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError, ValueError
        As `relu`.
    """
    return _map(FBP_LOG1P, "X", X, out)


def erf(X, *, out=None):
    """``erf(X)``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError, ValueError
        As `relu`.
    """
    return _map(FBP_ERF, "X", X, out)


def dropout(X, rate, key, step, *, out=None):
    """Zero each element with probability `rate`, and divide the others by ``1 - rate``.

    Which elements go depends on `key`, `step` and the element's index alone.  The
    gradient passes through the same elements: ``dX = dropout(dY, rate, key, step)``.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    rate : float in [0, 1)
    key, step : int in [0, 2**64)
        Which mask: the key names the stream, the step the mask in it.
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or `key` or `step` is not whole.
    ValueError
        If `rate`, `key` or `step` is out of range, or `out` cannot be written as it is.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a
    simple way to prevent neural networks from overfitting", JMLR 15, 2014.
    """
    X = checks.floats("X", X)
    rate = checks.number("rate", rate, 0, 1, high_open=True)
    key = checks.whole("key", key, 0, 2**64 - 1)
    step = checks.whole("step", step, 0, 2**64 - 1)
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
    Z : ndarray of shape (batch, classes), float32 or float64
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
        If `Z` has no columns or not 2 dimensions, or `out` cannot be written as it is.
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
