"""Piecewise linear embeddings of numbers: linear interpolation between learned vectors.

Feature x has bins between ascending edges, and each bin t has a share ``eₜ`` of x, which is 1 if x
is above the bin, 0 if it is below, and ``(x - edgeₜ) / (edgeₜ₊₁ - edgeₜ)`` inside; the first bin
is open below, and the last above.  The embedding is ``Z = b + Σₜ eₜ·Wₜ``, a chain of fused
multiply-adds in ascending t.  ``nodes``, its values at the bins' left edges, are the beginnings of
that chain, made once for all rows.

The gradient of W is a sum over rows, in blocks of 256 that are added in order.  In a block the rows
of each bin make two chains in ascending order, of ``e·dZ`` and of dZ; the second ones are added up
from the last bin down, since they belong to all bins below.
"""

from fastbp.kernels.dispatch cimport (
    fbp_piecewise, fbp_piecewise_backward, fbp_piecewise_backward_input, fbp_piecewise_nodes,
    int64_t, real, tier,
)

import numpy as np

from . import checks


cdef int make_nodes(const real[:, ::1] W, const real[:, ::1] b, const int64_t[::1] starts,
                    real[:, ::1] nodes) except -1:
    with nogil:
        fbp_piecewise_nodes(tier, b.shape[0], b.shape[1], &starts[0], &W[0, 0], &b[0, 0],
                            &nodes[0, 0])
    return 0


cdef int interpolate(const real[:, ::1] X, const real[::1] edges, const real[:, ::1] W,
                     const real[:, ::1] nodes, const int64_t[::1] starts, real[:, ::1] Z,
                     real[:, ::1] bins, real[:, ::1] fractions) except -1:
    with nogil:
        fbp_piecewise(tier, X.shape[0], X.shape[1], W.shape[1], &starts[0], &X[0, 0], &edges[0],
                      &W[0, 0], &nodes[0, 0], &Z[0, 0], &bins[0, 0], &fractions[0, 0])
    return 0


cdef int backward(const real[:, ::1] dZ, const real[:, ::1] bins, const real[:, ::1] fractions,
                  const int64_t[::1] starts, real[:, ::1] dW) except -1:
    with nogil:
        fbp_piecewise_backward(tier, dZ.shape[0], bins.shape[1], dW.shape[1], &starts[0], 0,
                               bins.shape[1], &dZ[0, 0], &bins[0, 0], &fractions[0, 0], &dW[0, 0],
                               0)
    return 0


cdef int input_gradient(const real[:, ::1] dZ, const real[:, ::1] bins, const real[::1] edges,
                        const real[:, ::1] W, const int64_t[::1] starts,
                        real[:, ::1] dX) except -1:
    with nogil:
        fbp_piecewise_backward_input(tier, dZ.shape[0], bins.shape[1], W.shape[1], &starts[0],
                                     &dZ[0, 0], &bins[0, 0], &edges[0], &W[0, 0], &dX[0, 0])
    return 0


def _starts(n_bins):
    """Where the bins of each feature begin and the last's end; how many features and bins."""
    if isinstance(n_bins, str) or not np.iterable(n_bins):
        raise TypeError(f"n_bins: expected a sequence of whole numbers, one for each feature, got "
                        f"{n_bins!r}")
    counts = list(map(lambda count: checks.integer("n_bins", count, 1), n_bins))
    return np.cumsum([0, *counts], dtype=np.int64), len(counts), sum(counts)


def _edges(edges, starts, k, n, dtype):
    edges = checks.vector("edges", edges, n + k, dtype,
                          "with one more for each feature than it has bins")
    rising = np.isfinite(edges)
    within = np.ones(n + k, bool)
    within[starts[:k] + np.arange(k)] = False  # the first of each feature
    rising &= ~within | (edges > np.roll(edges, 1))
    if not rising.all():
        raise ValueError("edges: expected finite numbers that ascend within each feature, got "
                         f"{edges[int(np.argmin(rising))]} in place {int(np.argmin(rising))}")
    return edges


def _bins(bins, dZ, starts, k):
    bins = checks.real_numbers("bins", bins)
    if bins.ndim != 2 or bins.shape != (dZ.shape[0], k):
        raise ValueError(f"bins: expected shape {(dZ.shape[0], k)}, dZ's rows and a column for "
                         f"each feature, got {bins.shape}")
    if not ((bins >= 0) & (bins < np.diff(starts)) & (bins == np.floor(bins))).all():
        raise ValueError("bins: expected whole numbers from 0 to the number of a feature's bins, "
                         "as `piecewise` returns them")
    return np.require(bins, dZ.dtype, ["C", "ALIGNED"])


def piecewise_nodes(W, b, n_bins, *, out=None):
    """Values of `piecewise` at the left edges of all bins.

    Parameters
    ----------
    W : array_like of shape (bins, n), float32 or float64
        A row for each bin of the first feature, then of the second, and so on.
    b : array_like of shape (features, n), same dtype
    n_bins : sequence of int
        How many bins each feature has.
    out : ndarray of shape (bins, n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    nodes : ndarray of shape (bins, n)
        For each feature b, b + W₀, b + W₀ + W₁, and so on.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `n_bins` are not whole
        numbers.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.piecewise_nodes([[1.0], [2.0], [5.0]], [[10.0], [0.0]], [2, 1]).tolist()
    [[10.0], [11.0], [0.0]]
    """
    W = checks.floats("W", W, 2)
    starts, k, n = _starts(n_bins)
    checks.shape("W", W, (n, None), "with a row for each bin")
    b = checks.floats("b", b, 2, W.dtype)
    checks.shape("b", b, (k, W.shape[1]), "with a row for each feature")
    nodes = checks.output(out, W.shape, W.dtype, W=W, b=b)
    if W.dtype == "f4":
        make_nodes[float](W, b, starts, nodes)
    else:
        make_nodes[double](W, b, starts, nodes)
    return nodes


def piecewise(X, edges, W, nodes, n_bins, *, out=None):
    """Piecewise linear embedding of every column: ``Z = nodesₜ + e·Wₜ``, t being x's bin.

    Parameters
    ----------
    X : array_like of shape (batch, features), float32 or float64
    edges : array_like of shape (bins + features,), same dtype
        The edges of the first feature's bins, which ascend, then those of the second, and so on.
    W : array_like of shape (bins, n), same dtype
        A row for each bin, likewise.
    nodes : array_like of shape (bins, n), same dtype
        Of `piecewise_nodes`.
    n_bins : sequence of int
        How many bins each feature has.
    out : ndarray of shape (batch, features·n), optional
        Where to write Z; C-contiguous, and must not overlap an input.

    Returns
    -------
    Z : ndarray of shape (batch, features·n)
        The n columns of the first feature, then those of the second, and so on.
    bins : ndarray of shape (batch, features)
        The bin of each number, counted within its feature, for the gradients.
    fractions : ndarray of shape (batch, features)
        Where in its bin each number lies, from 0 to 1; outside of all bins below 0 or above 1.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `n_bins` are not whole
        numbers.
    ValueError
        If edges do not ascend, dimensions or shapes do not match, or `out` cannot hold the result.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022.

    Examples
    --------
    >>> from fastbp import kernels
    >>> W, b = [[1.0], [10.0]], [[0.5]]
    >>> Z, bins, fractions = kernels.piecewise(
    ...     [[1.0], [3.0]], [0.0, 2.0, 4.0], W, kernels.piecewise_nodes(W, b, [2]), [2])
    >>> Z.tolist(), bins.tolist(), fractions.tolist()
    ([[1.0], [6.5]], [[0.0], [1.0]], [[0.5], [0.5]])
    """
    X = checks.floats("X", X, 2)
    starts, k, n = _starts(n_bins)
    checks.shape("X", X, (None, k), "with a column for each feature of n_bins")
    edges = _edges(edges, starts, k, n, X.dtype)
    W = checks.floats("W", W, 2, X.dtype)
    checks.shape("W", W, (n, None), "with a row for each bin")
    nodes = checks.like("nodes", nodes, "W", W)
    Z = checks.output(out, (X.shape[0], X.shape[1] * W.shape[1]), X.dtype, X=X, edges=edges, W=W,
                      nodes=nodes)
    bins, fractions = np.empty_like(X), np.empty_like(X)
    if X.dtype == "f4":
        interpolate[float](X, edges, W, nodes, starts, Z, bins, fractions)
    else:
        interpolate[double](X, edges, W, nodes, starts, Z, bins, fractions)
    return Z, bins, fractions


def piecewise_backward(dZ, bins, fractions, n_bins, *, out=None):
    """Gradient with respect to W of `piecewise`; that of b is the sum of dZ's rows.

    Parameters
    ----------
    dZ : array_like of shape (batch, features·n), float32 or float64
        Gradient of the loss with respect to Z.
    bins, fractions : array_like of shape (batch, features)
        As `piecewise` returned them.
    n_bins : sequence of int
        How many bins each feature has.
    out : ndarray of shape (bins, n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dW : ndarray of shape (bins, n)
        Results below 2**-100 (float32) or 2**-960 (float64) in magnitude become 0.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `n_bins` are not whole
        numbers.
    ValueError
        If a bin does not exist, dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.piecewise_backward([[1.0], [10.0]], [[0], [1]], [[0.5], [0.25]], [2]).tolist()
    [[10.5], [2.5]]
    """
    dZ = checks.floats("dZ", dZ, 2)
    starts, k, n = _starts(n_bins)
    if k == 0 or dZ.shape[1] % k:
        raise ValueError(f"dZ: expected as many columns for each of {k} features, got shape "
                         f"{dZ.shape}")
    bins = _bins(bins, dZ, starts, k)
    fractions = checks.floats("fractions", fractions, 2, dZ.dtype)
    checks.shape("fractions", fractions, bins.shape, "like bins")
    dW = checks.output(out, (n, dZ.shape[1] // k), dZ.dtype, dZ=dZ, bins=bins,
                       fractions=fractions)
    if dZ.dtype == "f4":
        backward[float](dZ, bins, fractions, starts, dW)
    else:
        backward[double](dZ, bins, fractions, starts, dW)
    return dW


def piecewise_backward_input(dZ, bins, edges, W, n_bins, *, out=None):
    """Gradient with respect to the input of `piecewise`: ``dx = (dZ·Wₜ) / (edgeₜ₊₁ - edgeₜ)``.

    Parameters
    ----------
    dZ : array_like of shape (batch, features·n), float32 or float64
        Gradient of the loss with respect to Z.
    bins : array_like of shape (batch, features)
        As `piecewise` returned them.
    edges, W : array_like, same dtype as dZ
        As for `piecewise`.
    n_bins : sequence of int
        How many bins each feature has.
    out : ndarray of shape (batch, features), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dX : ndarray of shape (batch, features)
        On an edge, the slope on its right.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `n_bins` are not whole
        numbers.
    ValueError
        If a bin does not exist, edges do not ascend, dimensions or shapes do not match, or `out`
        cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.piecewise_backward_input([[1.0]], [[1]], [0.0, 2.0, 4.0], [[1.0], [10.0]],
    ...                                  [2]).tolist()
    [[5.0]]
    """
    dZ = checks.floats("dZ", dZ, 2)
    starts, k, n = _starts(n_bins)
    bins = _bins(bins, dZ, starts, k)
    edges = _edges(edges, starts, k, n, dZ.dtype)
    W = checks.floats("W", W, 2, dZ.dtype)
    checks.shape("W", W, (n, dZ.shape[1] // max(k, 1)),
                 "with a row for each bin and a column for each of a feature in dZ")
    checks.shape("dZ", dZ, (None, k * W.shape[1]), "with W's columns for each feature")
    dX = checks.output(out, bins.shape, dZ.dtype, dZ=dZ, bins=bins, edges=edges, W=W)
    if dZ.dtype == "f4":
        input_gradient[float](dZ, bins, edges, W, starts, dX)
    else:
        input_gradient[double](dZ, bins, edges, W, starts, dX)
    return dX
