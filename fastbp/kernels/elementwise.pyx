"""Element-wise arithmetic besides the activations: sums, inverse roots and running averages."""

from fastbp.kernels.dispatch cimport (
    fbp_add, fbp_inverse_sqrt, fbp_running_average, real, tier,
)

from . import checks


cdef int apply_add(const real[::1] X, const real[::1] Y, real[::1] Z, bint gradient) except -1:
    with nogil:
        fbp_add(tier, X.shape[0], &X[0], &Y[0], &Z[0], gradient)
    return 0


cdef int apply_inverse_sqrt(const real[::1] X, real[::1] Y, double epsilon) except -1:
    with nogil:
        fbp_inverse_sqrt(tier, X.shape[0], &X[0], &Y[0], epsilon)
    return 0


cdef int move_average(real[::1] average, const real[::1] X, double keep,
                      double weight) except -1:
    with nogil:
        fbp_running_average(tier, X.shape[0], &average[0], &X[0], keep, weight)
    return 0


def add(X, Y, gradient=False, *, out=None):
    """Sum of two arrays: ``Z = X + Y``.

    Parameters
    ----------
    X : array_like of any shape, float32 or float64
    Y : array_like, same shape and dtype as X
    gradient : bool, default False
        Whether the arrays are gradients: then not only subnormal results but all below 2**-100
        (float32) or 2**-960 (float64) in magnitude become 0.
    out : ndarray like X, optional
        Where to write the result; may be `X` or `Y`.

    Returns
    -------
    Z : ndarray like X

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `gradient` is not a bool.
    ValueError
        If the shapes differ, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.add([1.0, 2.0], [0.5, -2.0]).tolist()
    [1.5, 0.0]
    """
    X = checks.floats("X", X)
    Y = checks.floats("Y", Y, None, X.dtype)
    checks.shape("Y", Y, X.shape, "like X")
    gradient = checks.boolean("gradient", gradient)
    Z = checks.output(out, X.shape, X.dtype, in_place=[X, Y])
    if X.dtype == "f4":
        apply_add[float](X.reshape(-1), Y.reshape(-1), Z.reshape(-1), gradient)
    else:
        apply_add[double](X.reshape(-1), Y.reshape(-1), Z.reshape(-1), gradient)
    return Z


def inverse_sqrt(X, epsilon, *, out=None):
    """``1/√(X + epsilon)``, element by element: the reciprocal standard deviation of a variance.

    Parameters
    ----------
    X : array_like of any shape, float32 or float64
    epsilon : float above 0
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `epsilon` is not above 0, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.inverse_sqrt([3.0, 15.0], 1.0).tolist()
    [0.5, 0.25]
    """
    X = checks.floats("X", X)
    epsilon = checks.positive("epsilon", epsilon)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X])
    if X.dtype == "f4":
        apply_inverse_sqrt[float](X.reshape(-1), Y.reshape(-1), epsilon)
    else:
        apply_inverse_sqrt[double](X.reshape(-1), Y.reshape(-1), epsilon)
    return Y


def running_average(average, X, keep, weight=None):
    """Exponential moving average, in place: ``average = keep·average + weight·X``.

    Parameters
    ----------
    average : ndarray of any shape, float32 or float64
        Changed in place.
    X : array_like, same shape and dtype
    keep : float in [0, 1]
    weight : float, at least 0, default 1 - keep

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, they are mixed, or `average` is not an ndarray.
    ValueError
        If the shapes differ, the arrays overlap, `average` is read-only or not contiguous, or
        a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> average = np.array([1.0, 2.0])
    >>> kernels.running_average(average, [3.0, 2.0], keep=0.75)
    >>> average.tolist()
    [1.5, 2.0]
    """
    checks.writable("average", average)
    X = checks.floats("X", X, None, average.dtype)
    checks.shape("X", X, average.shape, "like average")
    keep = checks.number("keep", keep, 0, 1)
    weight = 1.0 - keep if weight is None else checks.number("weight", weight, 0)
    checks.output(average, average.shape, average.dtype, "average", X=X)
    if X.dtype == "f4":
        move_average[float](average.reshape(-1), X.reshape(-1), keep, weight)
    else:
        move_average[double](average.reshape(-1), X.reshape(-1), keep, weight)
