"""Normalisation of rows and of columns, and what else layers do with whole columns.

With N = (X - mean)·rstd, where rstd = 1/√(variance + epsilon), the chain rule gives

    dX = rstd·(dN - mean(dN) - N·mean(dN·N))

the means being those of N's row (LayerNorm) or column (BatchNorm).  Where nothing is
centred (RMSNorm) the first mean is absent.

A sum along a row runs in 16 lanes that are added as a tree; a sum down a column is a chain
over the rows in ascending order, cut into blocks of 256 whose sums are added in order: the
same bits in every tier.
"""

from fastbp.kernels.dispatch cimport (
    fbp_add, fbp_column_dots, fbp_column_moments, fbp_inverse_sqrt, fbp_normalize_columns,
    fbp_normalize_columns_backward, fbp_normalize_rows, fbp_normalize_rows_backward, fbp_prelu,
    fbp_prelu_backward, fbp_prelu_slope, fbp_running_average, fbp_scale, real, tier,
)

import numpy as np

from . import checks


cdef int apply_add(const real[::1] X, const real[::1] Y, real[::1] Z, bint gradient) except -1:
    with nogil:
        fbp_add(tier, X.shape[0], &X[0], &Y[0], &Z[0], gradient)
    return 0


cdef int rows(const real[:, ::1] X, real[:, ::1] N, real[::1] rstd, double epsilon,
              bint center) except -1:
    with nogil:
        fbp_normalize_rows(tier, X.shape[0], X.shape[1], &X[0, 0], &N[0, 0], &rstd[0], epsilon,
                           center)
    return 0


cdef int rows_backward(const real[:, ::1] dN, const real[:, ::1] N, const real[::1] rstd,
                       real[:, ::1] dX, bint center) except -1:
    with nogil:
        fbp_normalize_rows_backward(tier, dN.shape[0], dN.shape[1], &dN[0, 0], &N[0, 0],
                                    &rstd[0], &dX[0, 0], center)
    return 0


cdef int moments(const real[:, ::1] X, real[::1] mean, real[::1] variance) except -1:
    with nogil:
        fbp_column_moments(tier, X.shape[0], X.shape[1], X.shape[1], &X[0, 0], &mean[0],
                           &variance[0])
    return 0


cdef int apply_inverse_sqrt(const real[::1] X, real[::1] Y, double epsilon) except -1:
    with nogil:
        fbp_inverse_sqrt(tier, X.shape[0], &X[0], &Y[0], epsilon)
    return 0


cdef int columns(const real[:, ::1] X, const real[::1] mean, const real[::1] rstd,
                 real[:, ::1] N) except -1:
    with nogil:
        fbp_normalize_columns(tier, X.shape[0], X.shape[1], &X[0, 0], &mean[0], &rstd[0],
                              &N[0, 0])
    return 0


cdef int columns_backward(const real[:, ::1] dN, const real[:, ::1] N, const real[::1] rstd,
                          real[:, ::1] dX) except -1:
    with nogil:
        fbp_normalize_columns_backward(tier, dN.shape[0], dN.shape[1], dN.shape[1], &dN[0, 0],
                                       &N[0, 0], &rstd[0], &dX[0, 0])
    return 0


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
        fbp_column_dots(tier, A.shape[0], A.shape[1], A.shape[1], &A[0, 0], B_data, &sums[0])
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
                        &dslope[0])
    return 0


cdef int move_average(real[::1] average, const real[::1] X, double keep,
                      double weight) except -1:
    with nogil:
        fbp_running_average(tier, X.shape[0], &average[0], &X[0], keep, weight)
    return 0


def _matrix(name, X, axis):
    """An array of 2 dimensions, with at least one of the rows (axis 0) or columns (axis 1)."""
    X = checks.floats(name, X, 2)
    if X.shape[axis] == 0:
        raise ValueError(f"{name}: expected at least one {('row', 'column')[axis]}, "
                         f"got shape {X.shape}")
    return X


def _like(name, array, first, other):
    """An array of the shape and dtype of the call's first one."""
    array = checks.floats(name, array, 2, other.dtype)
    checks.shape(name, array, other.shape, f"like {first}")
    return array


def _vector(name, array, size, dtype, why):
    """An array of one number for each row or column."""
    array = checks.floats(name, array, 1, dtype)
    checks.shape(name, array, (size,), why)
    return array


def add(X, Y, gradient=False, *, out=None):
    """Sum of two arrays: ``Z = X + Y``.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
    Y : ndarray like X
    gradient : bool, default False
        Whether they are gradients: then 0 takes the place of a result below 2**-100 (float32)
        or 2**-960 (float64) in magnitude, and not only of a subnormal one.
    out : ndarray like X, optional
        Where to write the result; may be `X` or `Y`.

    Returns
    -------
    Z : ndarray like X

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `gradient` is no bool.
    ValueError
        If the shapes differ, or `out` cannot be written as it is.
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


def normalize_rows(X, epsilon=1e-5, center=True, *, out=None):
    """Shift and scale every row to mean 0 and variance 1: ``N = (X - mean)·rstd``.

    ``rstd = 1/√(variance + epsilon)``, with the mean and the biased variance of the row.

    Parameters
    ----------
    X : ndarray of shape (batch, n), float32 or float64
    epsilon : float above 0, default 1e-5
        Keeps rows that are all the same finite.
    center : bool, default True
        Whether to take the mean off.  Without, as in RMSNorm, the mean counts as 0:
        ``N = X/√(Σⱼ X²/n + epsilon)``.
    out : ndarray of shape (batch, n), optional
        Where to write N; may be `X`.

    Returns
    -------
    N : ndarray of shape (batch, n)
    rstd : ndarray of shape (batch,)
        What `normalize_rows_backward` needs besides N.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or `center` is no bool.
    ValueError
        If `X` has no columns or not 2 dimensions, `epsilon` is not above 0, or `out` cannot be
        written as it is.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450;
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """
    X = _matrix("X", X, 1)
    epsilon = checks.positive("epsilon", epsilon)
    center = checks.boolean("center", center)
    N = checks.output(out, X.shape, X.dtype, in_place=[X])
    rstd = np.empty(X.shape[0], X.dtype)
    if X.dtype == "f4":
        rows[float](X, N, rstd, epsilon, center)
    else:
        rows[double](X, N, rstd, epsilon, center)
    return N, rstd


def normalize_rows_backward(dN, N, rstd, center=True, *, out=None):
    """Gradient through `normalize_rows`: ``dX = rstd·(dN - mean(dN) - N·mean(dN·N))``.

    The means are those of the row; the first is absent without `center`.

    Parameters
    ----------
    dN : ndarray of shape (batch, n), float32 or float64
        The loss's gradient with respect to N.
    N : ndarray of shape (batch, n), same dtype
    rstd : ndarray of shape (batch,), same dtype
        What `normalize_rows` returned.
    center : bool, default True
        What `normalize_rows` was given.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `dN` or `N`.

    Returns
    -------
    dX : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `center` is no bool.
    ValueError
        If dimensions or sizes do not fit, there are no columns, or `out` cannot be written as
        it is.
    """
    dN = _matrix("dN", dN, 1)
    N = _like("N", N, "dN", dN)
    rstd = _vector("rstd", rstd, dN.shape[0], dN.dtype, "to match dN's rows")
    center = checks.boolean("center", center)
    dX = checks.output(out, dN.shape, dN.dtype, in_place=[dN, N], rstd=rstd)
    if dN.dtype == "f4":
        rows_backward[float](dN, N, rstd, dX, center)
    else:
        rows_backward[double](dN, N, rstd, dX, center)
    return dX


def column_moments(X):
    """Mean and biased variance of every column.

    Parameters
    ----------
    X : ndarray of shape (batch, n), float32 or float64

    Returns
    -------
    mean : ndarray of shape (n,)
    variance : ndarray of shape (n,)
        ``Σᵢ (X - mean)² / batch``, in a pass of its own.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `X` has no rows or not 2 dimensions.
    """
    X = _matrix("X", X, 0)
    mean, variance = np.empty(X.shape[1], X.dtype), np.empty(X.shape[1], X.dtype)
    if X.dtype == "f4":
        moments[float](X, mean, variance)
    else:
        moments[double](X, mean, variance)
    return mean, variance


def inverse_sqrt(X, epsilon, *, out=None):
    """``1/√(X + epsilon)``, element by element: rstd of a variance.

    Parameters
    ----------
    X : ndarray of any shape, float32 or float64
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
        If `epsilon` is not above 0, or `out` cannot be written as it is.
    """
    X = checks.floats("X", X)
    epsilon = checks.positive("epsilon", epsilon)
    Y = checks.output(out, X.shape, X.dtype, in_place=[X])
    if X.dtype == "f4":
        apply_inverse_sqrt[float](X.reshape(-1), Y.reshape(-1), epsilon)
    else:
        apply_inverse_sqrt[double](X.reshape(-1), Y.reshape(-1), epsilon)
    return Y


def normalize_columns(X, mean, rstd, *, out=None):
    """Shift and scale every column: ``N = (X - mean)·rstd``.

    Parameters
    ----------
    X : ndarray of shape (batch, n), float32 or float64
    mean, rstd : ndarray of shape (n,), same dtype
        In training those of the batch (`column_moments`, `inverse_sqrt`), else running ones.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `X`.

    Returns
    -------
    N : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.
    """
    X = checks.floats("X", X, 2)
    mean = _vector("mean", mean, X.shape[1], X.dtype, "to match X's columns")
    rstd = _vector("rstd", rstd, X.shape[1], X.dtype, "to match X's columns")
    N = checks.output(out, X.shape, X.dtype, in_place=[X], mean=mean, rstd=rstd)
    if X.dtype == "f4":
        columns[float](X, mean, rstd, N)
    else:
        columns[double](X, mean, rstd, N)
    return N


def normalize_columns_backward(dN, N, rstd, *, out=None):
    """Gradient through normalisation by a batch's own mean and variance.

    ``dX = rstd·(dN - Σᵢ dN/batch - N·Σᵢ (dN·N)/batch)``, where the statistics are functions of
    X.  Where they are not, the gradient is ``scale_columns(dN, rstd, gradient=True)``.

    Parameters
    ----------
    dN : ndarray of shape (batch, n), float32 or float64
        The loss's gradient with respect to N.
    N : ndarray of shape (batch, n), same dtype
        What `normalize_columns` returned.
    rstd : ndarray of shape (n,), same dtype
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `dN` or `N`.

    Returns
    -------
    dX : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    dN = checks.floats("dN", dN, 2)
    N = _like("N", N, "dN", dN)
    rstd = _vector("rstd", rstd, dN.shape[1], dN.dtype, "to match dN's columns")
    dX = checks.output(out, dN.shape, dN.dtype, in_place=[dN, N], rstd=rstd)
    if dN.dtype == "f4":
        columns_backward[float](dN, N, rstd, dX)
    else:
        columns_backward[double](dN, N, rstd, dX)
    return dX


def scale_columns(X, gamma, beta=None, gradient=False, *, out=None):
    """Scale and shift every column: ``Y = X·gamma + beta``.

    The gradients are ``dX = scale_columns(dY, gamma, gradient=True)``,
    ``dgamma = column_dots(dY, X)`` and ``dbeta = column_dots(dY)``.

    Parameters
    ----------
    X : ndarray of shape (batch, n), float32 or float64
    gamma : ndarray of shape (n,), same dtype
    beta : ndarray of shape (n,), same dtype, optional
        Without it, ``Y = X·gamma``.
    gradient : bool, default False
        Whether the result is a gradient: then 0 takes the place of what is below 2**-100
        (float32) or 2**-960 (float64) in magnitude, and not only of what is subnormal.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `gradient` is no bool.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    X = checks.floats("X", X, 2)
    gamma = _vector("gamma", gamma, X.shape[1], X.dtype, "to match X's columns")
    if beta is not None:
        beta = _vector("beta", beta, X.shape[1], X.dtype, "to match X's columns")
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
    A : ndarray of shape (batch, n), float32 or float64
    B : ndarray of shape (batch, n), same dtype, optional
        Without it, the sums of A's columns, with the bits of `dense_backward_bias`.
    out : ndarray of shape (n,), optional
        Where to write the result; C-contiguous, and no part of an input.

    Returns
    -------
    ndarray of shape (n,)
        0 where it would be too small for a gradient: 2**-100 (float32), 2**-960 (float64).

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    A = checks.floats("A", A, 2)
    if B is not None:
        B = _like("B", B, "A", A)
    sums = checks.output(out, A.shape[1:], A.dtype, A=A, B=B)
    if A.dtype == "f4":
        dots[float](A, B, sums)
    else:
        dots[double](A, B, sums)
    return sums


def prelu(X, slope, *, out=None):
    """Rectified linear unit with a slope to be trained: ``Y = X`` above 0, ``slope·X`` elsewhere.

    Parameters
    ----------
    X : ndarray of shape (batch, n), float32 or float64
    slope : ndarray of shape (n,), same dtype
        For negative input, one for each column.
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
        If dimensions or sizes do not fit, or `out` cannot be written as it is.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.
    """
    X = checks.floats("X", X, 2)
    slope = _vector("slope", slope, X.shape[1], X.dtype, "to match X's columns")
    Y = checks.output(out, X.shape, X.dtype, in_place=[X], slope=slope)
    if X.dtype == "f4":
        apply_prelu[float](X, slope, Y)
    else:
        apply_prelu[double](X, slope, Y)
    return Y


def prelu_backward(dY, X, slope, *, out=None):
    """Gradient of the input of `prelu`: ``dX = dY`` where X > 0, ``slope·dY`` elsewhere.

    Parameters
    ----------
    dY : ndarray of shape (batch, n), float32 or float64
        The loss's gradient with respect to Y.
    X : ndarray of shape (batch, n), same dtype
        What `prelu` was given.
    slope : ndarray of shape (n,), same dtype
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
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    dY = checks.floats("dY", dY, 2)
    X = _like("X", X, "dY", dY)
    slope = _vector("slope", slope, dY.shape[1], dY.dtype, "to match dY's columns")
    dX = checks.output(out, dY.shape, dY.dtype, in_place=[dY, X], slope=slope)
    if dY.dtype == "f4":
        apply_prelu_backward[float](dY, X, slope, dX)
    else:
        apply_prelu_backward[double](dY, X, slope, dX)
    return dX


def prelu_slope_gradient(dY, X, *, out=None):
    """Gradient of the slope of `prelu`: ``dslope[j] = Σᵢ dY[i, j]·min(X[i, j], 0)``.

    Parameters
    ----------
    dY : ndarray of shape (batch, n), float32 or float64
        The loss's gradient with respect to Y.
    X : ndarray of shape (batch, n), same dtype
        What `prelu` was given.
    out : ndarray of shape (n,), optional
        Where to write the result; C-contiguous, and no part of an input.

    Returns
    -------
    dslope : ndarray of shape (n,)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    dY = checks.floats("dY", dY, 2)
    X = _like("X", X, "dY", dY)
    dslope = checks.output(out, dY.shape[1:], dY.dtype, dY=dY, X=X)
    if dY.dtype == "f4":
        slope_gradient[float](dY, X, dslope)
    else:
        slope_gradient[double](dY, X, dslope)
    return dslope


def running_average(average, X, keep, weight=None):
    """Exponential moving average, in place: ``average = keep·average + weight·X``.

    Parameters
    ----------
    average : ndarray of any shape, float32 or float64
        Changed in place.
    X : ndarray like average
    keep : float in [0, 1]
    weight : float, at least 0, default 1 - keep

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, they are mixed, or `average` is no ndarray.
    ValueError
        If the shapes differ, the arrays overlap, `average` is read-only or not contiguous, or
        a number is out of range.
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
