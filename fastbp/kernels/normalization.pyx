"""Normalisation of rows and of columns.

With N = (X - mean)·rstd, where rstd = 1/√(variance + epsilon), the chain rule gives

    dX = rstd·(dN - mean(dN) - N·mean(dN·N))

the means being those of N's row (LayerNorm) or column (BatchNorm).  Where nothing is
centred (RMSNorm) the first mean is absent.

A sum along a row runs in 16 lanes that are added as a tree; a sum down a column is a chain
over the rows in ascending order, cut into blocks of 256 whose sums are added in order: the
same bits in every tier.
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
    mean = checks.vector("mean", mean, X.shape[1], X.dtype, "to match X's columns")
    rstd = checks.vector("rstd", rstd, X.shape[1], X.dtype, "to match X's columns")
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
    N = checks.like("N", N, "dN", dN)
    rstd = checks.vector("rstd", rstd, dN.shape[1], dN.dtype, "to match dN's columns")
    dX = checks.output(out, dN.shape, dN.dtype, in_place=[dN, N], rstd=rstd)
    if dN.dtype == "f4":
        columns_backward[float](dN, N, rstd, dX)
    else:
        columns_backward[double](dN, N, rstd, dX)
    return dX
