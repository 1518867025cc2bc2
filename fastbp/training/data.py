"""The checked data of a fit or an evaluation; a dense X is never copied whole."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import checks, gather
from ..kernels.guards import Borrowed
from ..kernels.types import Array, Floats, Labels
from ..losses import Loss, checked_loss
from ..metrics import Metric
from ..program import check_codes

if TYPE_CHECKING:
    from ..network import Sequential

__all__ = ["Dataset", "batch_weight"]

# Rows that are searched for NaN at a time, so that a memmap is never read into memory whole.
CHECK_ROWS = 8192


class Dataset:
    """The checked data of `fit` and `evaluate`; a dense X is never copied whole.

    Parameters
    ----------
    network : Sequential
    X : array_like or sparse array of shape (rows, n_in)
    y : array_like
        Targets, one for each row of X.
    loss : Loss
    sample_weight : array_like of shape (rows,), optional
    prefix : str, default ""
        Put before the names of the arguments in messages.

    Attributes
    ----------
    X : ndarray or sparse array
        All rows, in the caller's memory where possible.
    y : ndarray
        All targets, in the form that `loss` takes.
    sample_weight : ndarray of shape (rows,) or None
        In the network's dtype.
    loss : Loss
    dtype : numpy.dtype
        The network's.
    n_out : int
        Columns of the network's output.
    n_rows : int
        Rows of y, and of X.
    described : tuple of str
        The arrays by whose contents a checkpoint knows the dataset.
    rows : ndarray of int64 or None
        Which rows of X, y and sample_weight belong to the dataset, in its order; None if all do.

    Raises
    ------
    TypeError, ValueError
        If an argument has the wrong type, shape or dtype, or holds NaN or infinity.

    Examples
    --------
    >>> import fastbp as fb
    >>> from fastbp.training import Dataset
    >>> net = fb.Sequential([fb.Dense(2, 1)])
    >>> data = Dataset(net, [[1, 2], [3, 4], [5, 6]], [0, 1, 2], fb.MeanSquaredError())
    >>> len(data)
    3
    >>> X, y, sample_weight = data.batch(np.array([2, 0]))
    >>> X
    array([[5., 6.],
           [1., 2.]], dtype=float32)
    """

    described: tuple[str, ...] = "X", "y", "sample_weight"

    def __init__(self, network: Sequential, X: Any, y: ArrayLike, loss: Loss,
                 sample_weight: ArrayLike | None = None, prefix: str = "") -> None:
        checked_loss(loss)
        self.prefix = prefix
        self.dtype = network.dtype
        self.rows: Labels | None = None
        self.X = network.checked_rows(prefix + "X", X)
        if 0 in self.X.shape:
            raise ValueError(f"{prefix}X: expected at least one row and one column, "
                             f"got shape {self.X.shape}")
        if checks.is_sparse(self.X):
            self.X = self._checked_sparse(prefix + "X")
        self.n_rows = int(self.X.shape[0])
        self._codes = network.codes(self.X.shape[1])
        self._given = y
        self.n_out: int = network.n_out or self.X.shape[1]
        self.loss, self.y = loss, self.targets(loss)
        self.sample_weight: Floats | None = None
        if sample_weight is not None:
            self.sample_weight = self._checked_weights(prefix + "sample_weight", sample_weight)
        self._check_finite(prefix + "X")
        self._borrow()

    def _borrow(self) -> None:
        """Record the memory layout of the arrays, so that `check_unchanged` can detect changes."""
        arrays = checks.memory("X", self.X) | {"y": self.y}
        if self.sample_weight is not None:
            arrays["sample_weight"] = self.sample_weight
        # Targets of more dimensions are for a custom loss, and NumPy gathers their rows.
        self._borrowed = [Borrowed(self.prefix + name, array) for name, array in arrays.items()
                          if array.ndim <= 2]

    def check_unchanged(self) -> None:
        """Raise if the caller has changed the shape, dtype or memory of an array since the checks.

        Its elements may change; labels are checked again when they are used.

        Raises
        ------
        ValueError
            If an array's shape, dtype or memory has changed.
        """
        for array in self._borrowed:
            array.check()

    def _checked_weights(self, name: str, sample_weight: ArrayLike) -> Floats:
        weights = checks.data(name, sample_weight)
        checks.shape(name, weights, self.X.shape[:1], "one for each row of X")
        if (weights < 0).any():
            i = int(np.argmax(weights < 0))
            raise ValueError(f"{name}: expected numbers of at least 0, got {weights[i]} in row {i}")
        with np.errstate(over="ignore"):
            converted: Floats = np.ascontiguousarray(weights, self.dtype)
        self._check_largest(name, converted, weights.max())
        return converted

    def _check_largest(self, name: str, weights: Floats, given: float) -> None:
        """Raise unless the weights have a sum, and it is not 0."""
        least, most = np.finfo(self.dtype).tiny, np.finfo(self.dtype).max / len(weights)
        if not least <= weights.max() <= most:
            raise ValueError(f"{name}: expected the largest to be between {least:.2g} and "
                             f"{most:.2g}, got {given}")

    def targets(self, loss: Loss) -> Array:
        """The given targets, in the form that a loss takes.

        Parameters
        ----------
        loss : Loss

        Returns
        -------
        ndarray
            One row for each row of X.

        Raises
        ------
        TypeError, ValueError
            If they do not fit the loss, or its method `targets` returns something else.
        """
        try:
            targets: object = loss.targets(self._given, self.n_out, self.dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.prefix}{error}") from None
        if not isinstance(targets, np.ndarray) or targets.ndim == 0:
            raise TypeError(f"loss {loss!r}: targets returned a {type(targets).__name__}; expected "
                            f"a numpy.ndarray with a row for each row of X")
        if len(targets) != self.X.shape[0]:
            raise ValueError(f"{self.prefix}y: expected {self.X.shape[0]} rows like "
                             f"{self.prefix}X, got {len(targets)}")
        return targets

    def use(self, loss: Loss, targets: Array) -> None:
        """Switch to another loss.

        Parameters
        ----------
        loss : Loss
        targets : ndarray
            What the method `targets` returned for it.
        """
        self.loss, self.y = loss, targets
        self._borrow()

    def _checked_sparse(self, name: str) -> Any:
        """X in the network's dtype: a new sparse array, which shares the caller's memory if the
        dtype is the same."""
        checks.finite(f"{name}.data", self.X.data)
        with np.errstate(over="ignore"):
            converted = self.X.astype(self.dtype, copy=False)
        checks.finite(f"{name}.data as {self.dtype}", converted.data)
        return copy.copy(converted)

    def _check_finite(self, name: str) -> None:
        """Raise unless X is finite, also in the network's dtype, and its category codes valid."""
        if checks.is_sparse(self.X):
            if self._codes:
                check_codes(name, checks.dense(self.X[:, [each[0] for each in self._codes]],
                                               self.dtype), self._codes, codes_alone=True)
            return
        for start in range(0, self.X.shape[0], CHECK_ROWS):
            rows = self.X[start : start + CHECK_ROWS]
            checks.finite(name, rows, first_row=start)
            check_codes(name, rows, self._codes, first_row=start)
            if rows.dtype.kind == "f" and rows.dtype.itemsize > self.dtype.itemsize:
                with np.errstate(over="ignore"):
                    rows = rows.astype(self.dtype)
                checks.finite(f"{name} as {self.dtype}", rows, first_row=start)

    def __len__(self) -> int:
        return self.n_rows if self.rows is None else len(self.rows)

    @property
    def compiled_X(self) -> Any:
        """X, if compiled code can read its rows; else None."""
        return self.X if gather.readable(self.X, self.dtype) else None

    def row_indices(self, order: Any) -> Any:
        """Convert row numbers of the dataset to row indices of X, y and sample_weight.

        Parameters
        ----------
        order : ndarray of int or slice
            Rows of the dataset.

        Returns
        -------
        ndarray of int or slice
        """
        return order if self.rows is None else self.rows[order]

    def batch(self, order: Any) -> tuple[Floats, Array, Floats | None]:
        """Some rows, as by `inputs` and `targets_of`.

        Parameters
        ----------
        order : ndarray of int or slice
            Rows of the dataset.

        Returns
        -------
        X : ndarray of shape (batch, n_in)
        y : ndarray
        sample_weight : ndarray of shape (batch,) or None
        """
        return self.inputs(order), *self.targets_of(order)

    def inputs(self, order: Any) -> Floats:
        """X of some rows, dense and in the network's dtype.

        Parameters
        ----------
        order : ndarray of int or slice
            Rows of the dataset.

        Returns
        -------
        ndarray of shape (batch, n_in)
        """
        self.check_unchanged()
        rows = self.row_indices(order)
        if checks.is_sparse(self.X):
            return gather.dense_rows(self.X, np.arange(self.X.shape[0])[rows], self.dtype)
        return np.ascontiguousarray(self.X[rows], self.dtype)

    def targets_of(self, order: Any) -> tuple[Array, Floats | None]:
        """The targets and sample weights of some rows.

        Parameters
        ----------
        order : ndarray of int or slice
            Rows of the dataset.

        Returns
        -------
        y : ndarray
        sample_weight : ndarray of shape (batch,) or None
        """
        self.check_unchanged()
        rows = self.row_indices(order)
        return self.y[rows], None if self.sample_weight is None else self.sample_weight[rows]

    def new_metric(self) -> Metric | None:
        """The loss's metric, with nothing counted yet; None if it has none."""
        if self.loss.metric is None:
            return None
        rows = slice(None) if self.rows is None else self.rows
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return self.loss.metric(self.y[rows], weights)

    def n_validation(self, fraction: float) -> int:
        """How many rows a validation fraction sets aside.

        Parameters
        ----------
        fraction : float

        Returns
        -------
        int

        Raises
        ------
        ValueError
            If these are none of the rows, or all of them.
        """
        n = round(len(self) * fraction)
        if not 0 < n < len(self):
            raise ValueError(f"validation_fraction: expected a fraction that leaves rows for both "
                             f"training and validation, got {fraction}, which sets aside {n} of "
                             f"{len(self)} rows")
        return n

    def split(self, n_validation: int, rng: np.random.Generator) -> tuple[Dataset, Dataset]:
        """Split the rows at random into two datasets, which share the arrays of this one.

        Parameters
        ----------
        n_validation : int
        rng : numpy.random.Generator

        Returns
        -------
        kept : Dataset
            All but `n_validation` rows.
        aside : Dataset
            The other `n_validation` rows.
        """
        order = gather.permutations(rng, 1, len(self))[0]
        kept, aside = copy.copy(self), copy.copy(self)
        kept.rows, aside.rows = order[n_validation:], order[:n_validation]
        return kept, aside


def batch_weight(weights: Floats | None, n: int) -> float:
    """The weight of a batch in a mean over all rows.

    Parameters
    ----------
    weights : ndarray of shape (n,) or None
        The sample weights of its rows.
    n : int
        The number of its rows.

    Returns
    -------
    float
        The sum of the weights; `n` if there are none.

    Examples
    --------
    >>> from fastbp.training import batch_weight
    >>> batch_weight(None, 3)
    3.0
    >>> batch_weight(np.array([0.5, 2.0, 1.0]), 3)
    3.5
    """
    # A cumulative sum adds in the order of the rows; NumPy's sum does not.
    return float(n) if weights is None else float(np.cumsum(weights, dtype=np.float64)[-1])
