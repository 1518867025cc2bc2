"""Normalization of rows and of columns.

With N = (X - mean)·rstd, where rstd = 1/√(variance + epsilon), the chain rule gives

    dX = rstd·(dN - mean(dN) - N·mean(dN·N))

with the means over N's row (LayerNorm) or column (BatchNorm).  Without centering (RMSNorm) the
first mean is absent.

A sum along a row runs in 16 lanes that are added as a tree; a sum down a column is a chain
over the rows in ascending order, cut into blocks of 256 whose sums are added in order.  The bits
are the same in every tier.
"""

from fastbp.kernels.dispatch cimport (
    fbp_column_moments, fbp_normalize_columns, fbp_normalize_columns_backward, fbp_normalize_rows,
    fbp_normalize_rows_backward, real, tier,
)

import numpy as np

from . import checks


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


def normalize_rows(X, epsilon=1e-5, center=True, *, out=None):
    """Shift and scale every row to mean 0 and variance 1: ``N = (X - mean)·rstd``.

    ``rstd = 1/√(variance + epsilon)``, with the mean and the biased variance of the row.

    Parameters
    ----------
    X : array_like of shape (batch, n), float32 or float64
    epsilon : float above 0, default 1e-5
        Keeps the result finite for rows of equal elements.
    center : bool, default True
        Whether to subtract the mean.  Without it, as in RMSNorm, the mean counts as 0:
        ``N = X/√(Σⱼ X²/n + epsilon)``.
    out : ndarray of shape (batch, n), optional
        Where to write N; may be `X`.

    Returns
    -------
    N : ndarray of shape (batch, n)
    rstd : ndarray of shape (batch,)
        Needed by `normalize_rows_backward`.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or `center` is not a bool.
    ValueError
        If `X` has no columns or not 2 dimensions, `epsilon` is not above 0, or `out` cannot
        hold the result.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450;
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.

    Examples
    --------
    >>> from fastbp import kernels
    >>> N, rstd = kernels.normalize_rows([[1.0, 3.0], [5.0, 5.0]])
    >>> N.round(4).tolist(), rstd.round(4).tolist()
    ([[-1.0, 1.0], [0.0, 0.0]], [1.0, 316.2278])
    """
    X = checks.matrix("X", X, 1)
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
    dN : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to N.
    N : array_like of shape (batch, n), same dtype
    rstd : array_like of shape (batch,), same dtype
        The second output of `normalize_rows`.
    center : bool, default True
        As given to `normalize_rows`.
    out : ndarray of shape (batch, n), optional
        Where to write the result; may be `dN` or `N`.

    Returns
    -------
    dX : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `center` is not a bool.
    ValueError
        If dimensions or shapes do not match, there are no columns, or `out` cannot
        hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> N, rstd = kernels.normalize_rows([[1.0, 2.0, 3.0]])
    >>> kernels.normalize_rows_backward([[1.0, 0.0, 0.0]], N, rstd).round(4).tolist()
    [[0.2041, -0.4082, 0.2041]]
    """
    dN = checks.matrix("dN", dN, 1)
    N = checks.like("N", N, "dN", dN)
    rstd = checks.vector("rstd", rstd, dN.shape[0], dN.dtype, "to match dN's rows")
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
    X : array_like of shape (batch, n), float32 or float64

    Returns
    -------
    mean : ndarray of shape (n,)
    variance : ndarray of shape (n,)
        ``Σᵢ (X - mean)² / batch``, in a second pass.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `X` has no rows or not 2 dimensions.

    Examples
    --------
    >>> from fastbp import kernels
    >>> mean, variance = kernels.column_moments([[1.0, 5.0], [3.0, 5.0]])
    >>> mean.tolist(), variance.tolist()
    ([2.0, 5.0], [1.0, 0.0])
    """
    X = checks.matrix("X", X, 0)
    mean, variance = np.empty(X.shape[1], X.dtype), np.empty(X.shape[1], X.dtype)
    if X.dtype == "f4":
        moments[float](X, mean, variance)
    else:
        moments[double](X, mean, variance)
    return mean, variance


def normalize_columns(X, mean, rstd, *, out=None):
    """Shift and scale every column: ``N = (X - mean)·rstd``.

    Parameters
    ----------
    X : array_like of shape (batch, n), float32 or float64
    mean, rstd : array_like of shape (n,), same dtype
        Of the batch in training (see `column_moments`, `inverse_sqrt`), else running statistics.
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
        If dimensions or shapes do not match, or `out` cannot hold the result.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.normalize_columns([[1.0, 5.0], [3.0, 6.0]], [2.0, 5.0], [1.0, 0.5]).tolist()
    [[-1.0, 0.0], [1.0, 0.5]]
    """
    X = checks.floats("X", X, 2)
    mean = checks.vector("mean", mean, X.shape[1], X.dtype, "to match X's columns")
    rstd = checks.vector("rstd", rstd, X.shape[1], X.dtype, "to match X's columns")
    N = checks.output(out, X.shape, X.dtype, in_place=[X], mean=mean, rstd=rstd)
    if X.dtype == "f4":
        columns[float](X, mean, rstd, N)
    else:
        columns[double](X, mean, rstd, N)
    return N


def normalize_columns_backward(dN, N, rstd, *, out=None):
    """Gradient through normalization by the batch's mean and variance.

    ``dX = rstd·(dN - Σᵢ dN/batch - N·Σᵢ (dN·N)/batch)``, as the statistics depend on X.  For
    running statistics the gradient is ``scale_columns(dN, rstd, gradient=True)``.

    Parameters
    ----------
    dN : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to N.
    N : array_like of shape (batch, n), same dtype
        The output of `normalize_columns`.
    rstd : array_like of shape (n,), same dtype
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
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> mean, variance = kernels.column_moments([[1.0], [2.0], [3.0]])
    >>> rstd = kernels.inverse_sqrt(variance, 1e-5)
    >>> N = kernels.normalize_columns([[1.0], [2.0], [3.0]], mean, rstd)
    >>> kernels.normalize_columns_backward([[1.0], [0.0], [0.0]], N, rstd).round(4).tolist()
    [[0.2041], [-0.4082], [0.2041]]
    """
    dN = checks.floats("dN", dN, 2)
    N = checks.like("N", N, "dN", dN)
    rstd = checks.vector("rstd", rstd, dN.shape[1], dN.dtype, "to match dN's columns")
    dX = checks.output(out, dN.shape, dN.dtype, in_place=[dN, N], rstd=rstd)
    if dN.dtype == "f4":
        columns_backward[float](dN, N, rstd, dX)
    else:
        columns_backward[double](dN, N, rstd, dX)
    return dX
