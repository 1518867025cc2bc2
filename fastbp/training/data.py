"""Rows, targets and sample weights of a training or an evaluation, checked and never copied whole.
"""

import copy

import numpy as np

from .. import losses
from ..kernels import checks, gather
from ..kernels.guards import Borrowed
from ..program import check_codes

__all__ = ["Dataset", "batch_weight"]

# Rows looked at at once when X is searched for NaN: a memmap is never read whole.
CHECK_ROWS = 8192


class Dataset:
    """Rows and targets as `fit` and `evaluate` need them: checked, never copied whole.

    Parameters
    ----------
    network : Sequential
    X, y, loss, sample_weight
        As in `Sequential.fit`.
    prefix : str, default ""
        Goes before the arguments' names in messages.
    """

    def __init__(self, network, X, y, loss, sample_weight=None, prefix=""):
        losses.checked_loss(loss)
        self.prefix = prefix
        self.dtype = network.dtype
        self.rows = None  # all of them, in their order
        self.X = network.checked_rows(prefix + "X", X)
        if 0 in self.X.shape:
            raise ValueError(f"{prefix}X: expected at least one row and one column, "
                             f"got shape {self.X.shape}")
        if checks.is_sparse(self.X):
            self.X = self._checked_sparse(prefix + "X")
        self._codes = network.codes(self.X.shape[1])
        self._given, self.n_out = y, network.n_out or self.X.shape[1]
        self.sample_weight = self._borrowed = None
        self.use(loss, self.targets(loss))
        if sample_weight is not None:
            self.sample_weight = self._checked_weights(prefix + "sample_weight", sample_weight)
        self._check_finite(prefix + "X")
        self._borrow()

    def _borrow(self):
        """Remember how the arrays lie that rows are read from: the caller's own, mostly."""
        arrays = checks.memory("X", self.X) | {"y": self.y, "sample_weight": self.sample_weight}
        # Targets of more dimensions are for a loss of the user's own, which NumPy gathers.
        self._borrowed = [Borrowed(self.prefix + name, array) for name, array in arrays.items()
                          if array is not None and array.ndim <= 2]

    def check_unchanged(self):
        """Raise where the caller has turned an array into another since it was checked.

        The numbers may change, and labels are checked again as they are used.
        """
        for array in self._borrowed:
            array.check()

    def _checked_weights(self, name, sample_weight):
        weights = checks.data(name, sample_weight)
        checks.shape(name, weights, self.X.shape[:1], "one for each row of X")
        if (weights < 0).any():
            i = int(np.argmax(weights < 0))
            raise ValueError(f"{name}: expected numbers of at least 0, got {weights[i]} in row {i}")
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(weights, self.dtype)
        least, most = np.finfo(self.dtype).tiny, np.finfo(self.dtype).max / len(weights)
        if not least <= converted.max() <= most:
            raise ValueError(f"{name}: expected some numbers between {least:.2g} and {most:.2g}, "
                             f"and none above, got at most {weights.max()}")
        return converted

    def targets(self, loss):
        """y in the form that this loss takes."""
        try:
            targets = loss.targets(self._given, self.n_out, self.dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.prefix}{error}") from None
        if not isinstance(targets, np.ndarray) or targets.ndim == 0:
            raise TypeError(f"loss {loss!r}: targets returned a {type(targets).__name__}; expected "
                            f"a numpy.ndarray with a row for each row of X")
        if len(targets) != self.X.shape[0]:
            raise ValueError(f"{self.prefix}y: expected {self.X.shape[0]} rows like "
                             f"{self.prefix}X, got {len(targets)}")
        return targets

    def use(self, loss, targets):
        """From now on go by this loss, with what `targets` made for it."""
        self.loss, self.y = loss, targets
        if self._borrowed is not None:
            self._borrow()

    def _checked_sparse(self, name):
        """X in the network's dtype, in a sparse array of its own over arrays of the caller's."""
        checks.finite(f"{name}.data", self.X.data)
        with np.errstate(over="ignore"):
            converted = self.X.astype(self.dtype, copy=False)
        checks.finite(f"{name}.data as {self.dtype}", converted.data)
        return copy.copy(converted)

    def _check_finite(self, name):
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

    def __len__(self):
        return self.X.shape[0] if self.rows is None else len(self.rows)

    def row_indices(self, order):
        """Where in X, y and the weights the rows of this order are."""
        return order if self.rows is None else self.rows[order]

    def batch(self, order):
        """X, y and weights of some rows, X in the network's dtype."""
        return self.inputs(order), *self.targets_of(order)

    def inputs(self, order):
        """X of some rows, in the network's dtype."""
        self.check_unchanged()
        rows = self.row_indices(order)
        if checks.is_sparse(self.X):
            return gather.dense_rows(self.X, np.arange(self.X.shape[0])[rows], self.dtype)
        return np.ascontiguousarray(self.X[rows], self.dtype)

    def targets_of(self, order):
        """y and the weights of some rows."""
        self.check_unchanged()
        rows = self.row_indices(order)
        return self.y[rows], None if self.sample_weight is None else self.sample_weight[rows]

    def new_metric(self):
        """The loss's metric, with nothing counted yet; None if it has none."""
        if self.loss.metric is None:
            return None
        rows = slice(None) if self.rows is None else self.rows
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return self.loss.metric(self.y[rows], weights)

    def n_validation(self, fraction):
        """How many rows a validation fraction sets aside."""
        n = round(len(self) * fraction)
        if not 0 < n < len(self):
            raise ValueError(f"validation_fraction: expected a share that leaves rows on both "
                             f"sides, got {fraction}, which sets aside {n} of {len(self)}")
        return n

    def split(self, n_validation, rng):
        """All but n_validation rows, and those, at random; both parts are views of this one."""
        order = rng.permutation(len(self))
        kept, aside = copy.copy(self), copy.copy(self)
        kept.rows, aside.rows = order[n_validation:], order[:n_validation]
        return kept, aside


def batch_weight(weights, n):
    """What a batch of n rows counts in a mean over all rows."""
    # A cumulative sum adds in the order of the rows; NumPy's sum does not.
    return float(n) if weights is None else float(np.cumsum(weights, dtype=np.float64)[-1])
