"""Parameters with one element per column, and their gradients.

Scaling and shifting of columns, PReLU with a slope per column, and the column sums that give the
gradients of these parameters.
"""

from fastbp.kernels.dispatch cimport (
    fbp_column_dots, fbp_prelu, fbp_prelu_backward, fbp_prelu_slope, fbp_scale,
    fbp_scale_shift_backward, real, tier,
)

import numpy as np

from . import checks


cdef int scale(const real[:, ::1] X, const real[::1] gamma, const real[::1] beta,
               real[:, ::1] Y, bint gradient) except -1:
    cdef const real *beta_data = <const real *>NULL if beta is None else &beta[0]
    with nogil:
        fbp_scale(tier, X.shape[0], X.shape[1], &X[0, 0], &gamma[0], beta_data, &Y[0, 0],
                  gradient)
    return 0


cdef int dots(const real[:, ::1] A, const real[:, ::1] B, real[::1] sums) except -1:
    cdef const real *B_data = <const real *>NULL if B is None else &B[0, 0]
    with nogil:
        fbp_column_dots(tier, A.shape[0], A.shape[1], A.shape[1], &A[0, 0], B_data, &sums[0], 0)
    return 0


cdef int dots_and_sums(const real[:, ::1] dY, const real[:, ::1] X, real[::1] dgamma,
                       real[::1] dbeta) except -1:
    with nogil:
        fbp_scale_shift_backward(tier, X.shape[0], X.shape[1], X.shape[1], &dY[0, 0], &X[0, 0],
                                 &dgamma[0], &dbeta[0], 0)
    return 0


cdef int apply_prelu(const real[:, ::1] X, const real[::1] slope, real[:, ::1] Y) except -1:
    with nogil:
        fbp_prelu(tier, X.shape[0], X.shape[1], &X[0, 0], &slope[0], &Y[0, 0])
    return 0


cdef int apply_prelu_backward(const real[:, ::1] dY, const real[:, ::1] X,
                              const real[::1] slope, real[:, ::1] dX) except -1:
    with nogil:
        fbp_prelu_backward(tier, X.shape[0], X.shape[1], &dY[0, 0], &X[0, 0], &slope[0],
                           &dX[0, 0])
    return 0


cdef int slope_gradient(const real[:, ::1] dY, const real[:, ::1] X, real[::1] dslope) except -1:
    with nogil:
        fbp_prelu_slope(tier, X.shape[0], X.shape[1], X.shape[1], &dY[0, 0], &X[0, 0],
                        &dslope[0], 0)
    return 0


def scale_columns(X, gamma, beta=None, gradient=False, *, out=None):
    """Scale and shift every column: ``Y = X·gamma + beta``.

    The gradients are ``dX = scale_columns(dY, gamma, gradient=True)``,
    ``dgamma = column_dots(dY, X)`` and ``dbeta = column_dots(dY)``.

    Parameters
    ----------
    X : array_like of shape (batch, n), float32 or float64
    gamma : array_like of shape (n,), same dtype
    beta : array_like of shape (n,), same dtype, optional
        Without it, ``Y = X·gamma``.
    gradient : bool, default False
        Whether the result is a gradient: then not only subnormal results but all below 2**-100
        (float32) or 2**-960 (float64) in magnitude become 0.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `gradient` is not a bool.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.scale_columns([[1.0, 2.0], [3.0, 4.0]], [10.0, 1.0], [0.0, 0.5]).tolist()
    [[10.0, 2.5], [30.0, 4.5]]
    """
    X = checks.floats("X", X, 2)
    gamma = checks.vector("gamma", gamma, X.shape[1], X.dtype, "to match X's columns")
    if beta is not None:
        beta = checks.vector("beta", beta, X.shape[1], X.dtype, "to match X's columns")
    gradient = checks.boolean("gradient", gradient)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X], gamma=gamma, beta=beta)
    if X.dtype == "f4":
        scale[float](X, gamma, beta, Y, gradient)
    else:
        scale[double](X, gamma, beta, Y, gradient)
    return Y


def column_dots(A, B=None, *, out=None):
    """Sum of products down every column: ``Σᵢ A[i, j]·B[i, j]``.

    Parameters
    ----------
    A : array_like of shape (batch, n), float32 or float64
    B : array_like of shape (batch, n), same dtype, optional
        Without it, the sums of A's columns, bit for bit those of `dense_backward_bias`.
    out : ndarray of shape (n,), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    ndarray of shape (n,)
        Results below 2**-100 (float32) or 2**-960 (float64) in magnitude become 0.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.column_dots([[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0], [2.0, 0.0]]).tolist()
    [7.0, 2.0]
    >>> kernels.column_dots([[1.0, 2.0], [3.0, 4.0]]).tolist()
    [4.0, 6.0]
    """
    A = checks.floats("A", A, 2)
    if B is not None:
        B = checks.like("B", B, "A", A)
    sums = checks.output(out, A.shape[1:], A.dtype, A=A, B=B)
    if A.dtype == "f4":
        dots[float](A, B, sums)
    else:
        dots[double](A, B, sums)
    return sums


def scale_shift_backward(dY, X):
    """Gradients of `scale_columns` with respect to gamma and beta, in one pass.

    They are ``column_dots(dY, X)`` and ``column_dots(dY)``, bit for bit.

    Parameters
    ----------
    dY : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to Y.
    X : array_like of shape (batch, n), same dtype

    Returns
    -------
    dgamma, dbeta : ndarray of shape (n,)
        Results below 2**-100 (float32) or 2**-960 (float64) in magnitude become 0.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match.

    Examples
    --------
    >>> from fastbp import kernels
    >>> dgamma, dbeta = kernels.scale_shift_backward([[1.0, 2.0], [3.0, 4.0]],
    ...                                              [[1.0, 1.0], [2.0, 0.0]])
    >>> dgamma.tolist(), dbeta.tolist()
    ([7.0, 2.0], [4.0, 6.0])
    """
    dY = checks.floats("dY", dY, 2)
    X = checks.like("X", X, "dY", dY)
    dgamma, dbeta = np.empty(X.shape[1], X.dtype), np.empty(X.shape[1], X.dtype)
    if X.dtype == "f4":
        dots_and_sums[float](dY, X, dgamma, dbeta)
    else:
        dots_and_sums[double](dY, X, dgamma, dbeta)
    return dgamma, dbeta


def prelu(X, slope, *, out=None):
    """Rectified linear unit with trained slopes: ``Y = X`` above 0, ``slope·X`` elsewhere.

    Parameters
    ----------
    X : array_like of shape (batch, n), float32 or float64
    slope : array_like of shape (n,), same dtype
        The slope for negative input, one for each column.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `X`, but the gradients need X.

    Returns
    -------
    Y : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.prelu([[-1.0, -1.0], [2.0, 2.0]], [0.5, 0.25]).tolist()
    [[-0.5, -0.25], [2.0, 2.0]]
    """
    X = checks.floats("X", X, 2)
    slope = checks.vector("slope", slope, X.shape[1], X.dtype, "to match X's columns")
    Y = checks.output(out, X.shape, X.dtype, in_place=[X], slope=slope)
    if X.dtype == "f4":
        apply_prelu[float](X, slope, Y)
    else:
        apply_prelu[double](X, slope, Y)
    return Y


def prelu_backward(dY, X, slope, *, out=None):
    """Gradient with respect to X of `prelu`: ``dX = dY`` where X > 0, ``slope·dY`` elsewhere.

    Parameters
    ----------
    dY : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to Y.
    X : array_like of shape (batch, n), same dtype
        The input of `prelu`.
    slope : array_like of shape (n,), same dtype
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `dY` or `X`.

    Returns
    -------
    dX : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> dY, X = [[1.0, 1.0], [1.0, 1.0]], [[-1.0, -1.0], [2.0, 2.0]]
    >>> kernels.prelu_backward(dY, X, [0.5, 0.25]).tolist()
    [[0.5, 0.25], [1.0, 1.0]]
    """
    dY = checks.floats("dY", dY, 2)
    X = checks.like("X", X, "dY", dY)
    slope = checks.vector("slope", slope, dY.shape[1], dY.dtype, "to match dY's columns")
    dX = checks.output(out, dY.shape, dY.dtype, in_place=[dY, X], slope=slope)
    if dY.dtype == "f4":
        apply_prelu_backward[float](dY, X, slope, dX)
    else:
        apply_prelu_backward[double](dY, X, slope, dX)
    return dX


def prelu_slope_gradient(dY, X, *, out=None):
    """Gradient with respect to the slopes: ``dslope[j] = Σᵢ dY[i, j]·min(X[i, j], 0)``.

    Parameters
    ----------
    dY : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to Y.
    X : array_like of shape (batch, n), same dtype
        The input of `prelu`.
    out : ndarray of shape (n,), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dslope : ndarray of shape (n,)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> dY, X = [[1.0, 1.0], [1.0, 3.0]], [[-1.0, 2.0], [-0.5, -2.0]]
    >>> kernels.prelu_slope_gradient(dY, X).tolist()
    [-1.5, -6.0]
    """
    dY = checks.floats("dY", dY, 2)
    X = checks.like("X", X, "dY", dY)
    dslope = checks.output(out, dY.shape[1:], dY.dtype, dY=dY, X=X)
    if dY.dtype == "f4":
        slope_gradient[float](dY, X, dslope)
    else:
        slope_gradient[double](dY, X, dslope)
    return dslope
