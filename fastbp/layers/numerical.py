"""Embeddings of numbers: several columns for each, which the layers after them can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..kernels import checks
from ..kernels.types import Array, Floats
from .base import Layer

if TYPE_CHECKING:
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = ["PeriodicEmbedding", "PiecewiseLinearEmbedding", "quantile_edges"]


class PeriodicEmbedding(Layer):
    """Each number and some cosines of it: ``Z = gamma·(x, cos 2πt₁, cos 2πt₂, …) + beta``.

    ``tⱼ = frequencyⱼ·x + phaseⱼ``.  Each column of the input is a feature with frequencies, phases,
    gamma and beta of its own, which becomes `n_per_feature` columns of the output: the first is
    for x itself, the others for its cosines.

    Parameters
    ----------
    n_features : int
        Columns of the input.
    n_per_feature : int
        Columns of the output for each of them, at least 2.
    scale : float above 0, default 1.0
        Standard deviation of the initial frequencies, in periods per unit of x.  It is the setting
        that matters most; try values from 0.01 to 10 for standardized x.
    trainable : bool, default True
        Whether frequencies and phases are trained.  If not, they are buffers, which are saved but
        keep their initial values.
    random_phases : bool, default False
        Whether initial phases are uniform between 0 and 1, instead of 0.

    Attributes
    ----------
    frequencies, dfrequencies : ndarray of shape (n_features, n_per_feature - 1)
        Initially normal with mean 0 and standard deviation `scale`, without what lies beyond 3
        standard deviations: a few very high frequencies would make a function that no data can
        support.
    phases, dphases : ndarray of shape (n_features·(n_per_feature - 1),)
        In turns.
    gamma, dgamma : ndarray of shape (n_features, n_per_feature)
        Initially 0.
    beta, dbeta : ndarray of shape (n_features·n_per_feature,)
        Initially 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is of another type, or out of range.

    Notes
    -----
    ``dfrequencies`` and ``dphases`` exist only where these are trained.

    Weight decay is meant for gamma and the frequencies, and not for beta and the phases: give the
    optimizer ``groups=[fb.Group("beta", weight_decay=0), fb.Group("phases", weight_decay=0)]``.
    `l2` of `fit`, which is for two-dimensional parameters, leaves out the same two.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022; the form with x itself, gamma and beta: "TabPack", arXiv:2607.05380.

    Examples
    --------
    >>> import fastbp as fb
    >>> layer = fb.PeriodicEmbedding(1, 3)
    >>> net = fb.Sequential([layer], seed=0)
    >>> layer.frequencies, layer.gamma = [[1, 2]], 1
    >>> net.predict([[0.25]]).round(6).tolist()
    [[0.25, 0.0, -1.0]]
    """

    n_in: int
    n_out: int
    validators = Layer.validators | {"scale": checks.positive, "random_phases": checks.boolean}
    frequencies: ArrayAttribute
    dfrequencies: ArrayAttribute
    phases: ArrayAttribute
    dphases: ArrayAttribute
    gamma: ArrayAttribute
    dgamma: ArrayAttribute
    beta: ArrayAttribute
    dbeta: ArrayAttribute

    def __init__(self, n_features: int, n_per_feature: int, scale: float = 1.0, *,
                 trainable: bool = True, random_phases: bool = False) -> None:
        k = checks.integer("n_features", n_features, 1)
        d = checks.integer("n_per_feature", n_per_feature, 2)
        scales = {"gamma": (k, d), "beta": (k * d,)}
        waves = {"frequencies": (k, d - 1), "phases": (k * (d - 1),)}
        if checks.boolean("trainable", trainable):
            super().__init__(k, k * d, **scales, **waves)
        else:
            super().__init__(k, k * d, **scales)
            self.add_buffers(**waves)
        self.scale = scale
        self.random_phases = random_phases

    @property
    def n_features(self) -> int:
        """Columns of the input."""
        return self.n_in

    @property
    def n_per_feature(self) -> int:
        """Columns of the output for each of the input."""
        return self.n_out // self.n_in

    @property
    def trainable(self) -> bool:
        """Whether frequencies and phases are trained."""
        return "frequencies" in self.parameter_shapes

    def initialize(self, rng: np.random.Generator) -> None:
        shape = self.array_shapes["frequencies"]
        normal = rng.standard_normal(shape)
        while (beyond := abs(normal) > 3).any():
            normal[beyond] = rng.standard_normal(np.count_nonzero(beyond))
        self.frequencies = self.scale * normal
        if self.random_phases:
            self.phases = rng.uniform(size=self.array_shapes["phases"])

    def lower(self, builder: Builder, x: Value) -> Value:
        get = builder.parameter if self.trainable else builder.buffer
        reads = (x, get(self, "frequencies"), get(self, "phases"),
                 builder.parameter(self, "gamma"), builder.parameter(self, "beta"))
        z: Value
        if builder.training and not self.trainable:
            z, _ = builder.op("periodic_features", *reads)
        else:
            z = builder.op("periodic", *reads)
        return z


class PiecewiseLinearEmbedding(Layer):
    """A point on a piecewise linear curve for each number: ``Z = b + Σₜ eₜ·Wₜ``.

    Each column of the input is a feature with bins of its own, and each bin t has a row of W.
    ``eₜ`` is 1 if x is above the bin, 0 if it is below, and ``(x - edgeₜ) / (edgeₜ₊₁ - edgeₜ)``
    inside; the first bin is open below, and the last above.  So x walks along a curve that bends
    at the edges: a linear layer can then represent any function that is linear between them.

    Parameters
    ----------
    edges : sequence of array_like
        For each feature the edges of its bins, at least two finite numbers that ascend, as
        `quantile_edges` makes them.
    n_per_feature : int
        Columns of the output for each feature.

    Attributes
    ----------
    W, dW : ndarray of shape (bins, n_per_feature)
        A row for each bin of the first feature, then of the second, and so on.  Initially normal
        with mean 0 and variance 2/bins of the feature: then Z has variance 1 in the mean over bins,
        as the vectors of `Embedding`, however many bins there are.
    b, db : ndarray of shape (n_features·n_per_feature,)
        Initially 0.
    edges : ndarray of shape (bins + n_features,)
        The edges of all features, one after the other; a buffer, which is saved but not trained.

    Raises
    ------
    TypeError, ValueError
        If `edges` are not ascending numbers, or `n_per_feature` is not a positive integer.

    See Also
    --------
    quantile_edges : Edges with about as many numbers in each bin.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> net = fb.Sequential([fb.PiecewiseLinearEmbedding(fb.quantile_edges(X, 16), 8),
    ...                      fb.Dense(24, 1)], seed=0)
    >>> history = net.fit(X, abs(X[:, :1]), loss=fb.MeanSquaredError(), optimizer=fb.Adam(0.01),
    ...                   epochs=20, seed=0)
    >>> history["loss"][-1] < 0.1  # a linear layer alone: 0.36
    True
    """

    n_in: int
    n_out: int
    n_bins: tuple[int, ...]
    _given: Array  # the constructor's edges
    W: ArrayAttribute
    dW: ArrayAttribute
    b: ArrayAttribute
    db: ArrayAttribute
    edges: ArrayAttribute

    def __init__(self, edges: Sequence[ArrayLike] | Array, n_per_feature: int) -> None:
        given = _checked_edges(edges)
        d = checks.integer("n_per_feature", n_per_feature, 1)
        n_bins = tuple(each.size - 1 for each in given)
        k = len(n_bins)
        super().__init__(k, k * d, W=(sum(n_bins), d), b=(k * d,))
        self.add_buffers(edges=(sum(n_bins) + k,))
        vars(self).update(n_bins=n_bins, _given=np.concatenate(given))

    @property
    def n_features(self) -> int:
        """Columns of the input."""
        return self.n_in

    @property
    def n_per_feature(self) -> int:
        """Columns of the output for each of the input."""
        return self.n_out // self.n_in

    def check_dtype(self, dtype: DTypeLike) -> None:
        """Check that all edges differ in a network's dtype.

        Parameters
        ----------
        dtype : dtype_like
            float32 or float64.

        Raises
        ------
        ValueError
            If two edges of a feature are the same number, or one is infinite.
        """
        for f, each in enumerate(self._by_feature()):
            with np.errstate(over="ignore"):
                each = each.astype(dtype)
            if not (np.isfinite(each).all() and (np.diff(each) > 0).all()):
                raise ValueError(f"edges[{f}]: expected edges that are finite and differ in a "
                                 f"network of {np.dtype(dtype)}; use dtype=\"float64\", or "
                                 f"quantile_edges(X.astype(np.float32), …)")

    def _by_feature(self) -> list[Array]:
        """The edges of each feature, as they are now."""
        edges = np.asarray(vars(self).get("edges", self._given))
        ends = np.cumsum([n + 1 for n in self.n_bins])
        return np.split(edges, ends[:-1])

    def initialize(self, rng: np.random.Generator) -> None:
        self.edges = self._given
        counts = np.array(self.n_bins)
        deviations = np.repeat(np.sqrt(2 / counts), counts)[:, None]
        self.W = deviations * rng.standard_normal(self.parameter_shapes["W"])

    def lower(self, builder: Builder, x: Value) -> Value:
        W, b = builder.parameter(self, "W"), builder.parameter(self, "b")
        starts = (0, *np.cumsum(self.n_bins).tolist())
        nodes = builder.op("piecewise_nodes", W, b, columns=starts)
        z: Value
        z, _, _ = builder.op("piecewise", x, builder.buffer(self, "edges"), W, b, nodes,
                             columns=starts)
        return z

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, with the edges as they are now."""
        return {"edges": [each.tolist() for each in self._by_feature()],
                "n_per_feature": self.n_per_feature}

    def __repr__(self) -> str:
        return (f"{type(self).__name__}(edges=<of {self.n_features} features, "
                f"{sum(self.n_bins)} bins>, n_per_feature={self.n_per_feature})")


def _checked_edges(edges: Any) -> list[Array]:
    """The edges of each feature as an array of float64."""
    if isinstance(edges, str | bytes) or not np.iterable(edges):
        raise TypeError(f"edges: expected a sequence with the edges of each feature, got {edges!r}")
    given: list[Array] = []
    for f, each in enumerate(edges):
        array = checks.real_numbers(f"edges[{f}]", each).astype(np.float64)
        if array.ndim != 1 or array.size < 2:
            raise ValueError(f"edges[{f}]: expected at least two numbers in one dimension, got "
                             f"shape {array.shape}; pass a sequence for each feature")
        checks.finite(f"edges[{f}]", array)
        if not (np.diff(array) > 0).all():
            i = int(np.argmin(np.diff(array) > 0))
            raise ValueError(f"edges[{f}]: expected numbers that ascend, got {array[i]} before "
                             f"{array[i + 1]}; pass np.unique of them")
        given.append(array)
    if not given:
        raise ValueError("edges: expected the edges of at least one feature, got none")
    return given


def quantile_edges(X: ArrayLike, n_bins: int) -> list[Floats]:
    """Edges of bins with about as many of the numbers of a column in each.

    They are the quantiles 0, 1/n_bins, …, 1, interpolated between neighbours, without repetitions:
    a number that fills several bins ends up between two edges, and leaves fewer bins.  A constant
    column c has one bin, from c to c + max(1, abs(c)).

    Parameters
    ----------
    X : array_like of shape (rows, features)
        Rows for training.  The edges are distinct in its dtype, if that is float32 or float64.
    n_bins : int
        How many bins to make of each column at most.

    Returns
    -------
    list of ndarray
        For each column its edges, at most ``n_bins + 1`` and at least 2.

    Raises
    ------
    TypeError, ValueError
        If `X` is not a table of finite numbers, or `n_bins` is not a positive integer.

    Examples
    --------
    >>> import fastbp as fb
    >>> [each.tolist() for each in fb.quantile_edges([[1, 5], [2, 5], [3, 5], [9, 5]], 3)]
    [[1.0, 2.0, 3.0, 9.0], [5.0, 10.0]]
    """
    n_bins = checks.integer("n_bins", n_bins, 1)
    X = checks.data("X", X)
    if X.ndim != 2:
        raise ValueError(f"X: expected 2 dimensions, got {X.ndim} (shape {X.shape}); for one "
                         f"column use X[:, None]")
    dtype = np.dtype(np.float32 if X.dtype == np.float32 else np.float64)
    # Where each quantile lies among the sorted numbers: whole numbers, so that nothing is rounded.
    place, rest = np.divmod(np.arange(n_bins + 1) * (len(X) - 1), n_bins)
    weight = rest / n_bins
    edges = []
    for column in X.T:
        column = np.sort(column.astype(np.float64))
        low, high = column[place], column[np.minimum(place + 1, len(X) - 1)]
        quantiles = np.unique((low + (high - low) * weight).astype(dtype))
        if quantiles.size == 1:
            quantiles = np.append(quantiles, quantiles + np.maximum(abs(quantiles), dtype.type(1)))
        edges.append(quantiles)
    return edges
