"""Data of which each process has rows of its own, and outputs of which each computes a part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import gather
from ..kernels.types import Array, Floats, Labels
from ..losses import Loss
from .data import Dataset

if TYPE_CHECKING:
    from ..network import Sequential
    from .distributed import Processes

__all__ = ["OwnRows", "outputs_of"]

# Elements of X that are predicted at a time.
AT_ONCE = 1 << 20


class OwnRows(Dataset):
    """The rows of all processes, one process's after the other's, of which each has its own X.

    Targets and sample weights are gathered in all processes.

    Parameters
    ----------
    processes : Processes
    network, X, y, loss, sample_weight, prefix
        As for `Dataset`; the rows are this process's.

    Raises
    ------
    TypeError, ValueError
        As `Dataset`, in all processes.
    """

    described = "y", "sample_weight"  # no process has all of X

    def __init__(self, processes: Processes, network: Sequential, X: Any, y: ArrayLike, loss: Loss,
                 sample_weight: ArrayLike | None = None, prefix: str = "") -> None:
        self._processes: Processes | None = None
        super().__init__(network, X, y, loss, sample_weight, prefix)
        processes.check_same({
            f"{prefix}X: columns": self.X.shape[1],
            f"{prefix}y: dtype and shape of a row": [str(self.y.dtype), *self.y.shape[1:]],
            f"{prefix}sample_weight: given": self.sample_weight is not None})
        self._processes = processes
        starts = np.cumsum([0, *processes.of_all(len(self.y))])
        self._starts, self.n_rows = starts, int(starts[-1])
        self.y = np.concatenate(processes.of_all(self.y))
        if self.sample_weight is not None:
            weights = np.concatenate(processes.of_all(self.sample_weight))
            self._check_largest(f"{prefix}sample_weight", weights, weights.max())
            self.sample_weight = weights
        self._borrow()

    def _check_largest(self, name: str, weights: Floats, given: float) -> None:
        if self._processes is not None:  # those of this process alone may all be 0
            super()._check_largest(name, weights, given)

    @property
    def compiled_X(self) -> None:
        """None: rows come from other processes."""
        return None

    def targets(self, loss: Loss) -> Array:
        """The targets of all processes, in the form that a loss takes; see `Dataset.targets`."""
        targets = super().targets(loss)
        if self._processes is None:  # the others are not known yet
            return targets
        return np.concatenate(self._processes.of_all(targets))

    def owners(self, order: Labels) -> Labels:
        """The process that has each of some rows of the dataset."""
        found: Labels = np.searchsorted(self._starts, self.row_indices(order), side="right") - 1
        return found

    def own_inputs(self, order: Labels) -> Floats:
        """X of some rows of the dataset, all of them this process's."""
        assert self._processes is not None
        self.check_unchanged()
        rows = self.row_indices(order) - self._starts[self._processes.rank]
        return gather.dense_rows(self.X, rows, self.dtype)

    def share_of(self, order: Labels, shares: Sequence[tuple[int, int]]) -> Floats:
        """Send each process its share of a minibatch, and return that of this one.

        Parameters
        ----------
        order : ndarray of int
            The rows of the minibatch.
        shares : sequence of tuple of int
            As `Processes.shares` returns them.

        Returns
        -------
        ndarray of shape (share, n_in)
        """
        assert self._processes is not None
        processes, owners, n_in = self._processes, self.owners(order), int(self.X.shape[1])
        rank = processes.rank
        leaving = [a + np.flatnonzero(owners[a:b] == rank) for a, b in shares]
        a, b = shares[rank]
        arriving = [np.flatnonzero(owners[a:b] == each) for each in range(processes.size)]
        try:
            X = self.own_inputs(order[np.concatenate(leaving)])
        except Exception as error:
            processes.agree(error)
            raise
        processes.agree()
        received: Floats = np.empty((b - a, n_in), self.dtype)
        processes.communicator.Alltoallv([X, [n_in * len(each) for each in leaving]],
                                         [received, [n_in * len(each) for each in arriving]])
        share: Floats = np.empty_like(received)
        share[np.concatenate(arriving)] = received
        return share


def outputs_of(processes: Processes, network: Sequential, data: Dataset) -> Floats:
    """The network's outputs for the rows of a dataset, each computed by one process.

    Parameters
    ----------
    processes : Processes
    network : Sequential
    data : Dataset

    Returns
    -------
    ndarray of shape (rows, n_out)
        The same in all processes.
    """
    size, n_out = processes.size, data.n_out
    if isinstance(data, OwnRows):
        owners = data.owners(np.arange(len(data)))
        parts = [np.flatnonzero(owners == rank) for rank in range(size)]
    else:
        parts = np.array_split(np.arange(len(data)), size)
    own = parts[processes.rank]
    Z: Floats = np.empty((len(own), n_out), data.dtype)
    n = max(1, AT_ONCE // int(data.X.shape[1]))
    for start in range(0, len(own), n):
        order = own[start : start + n]
        X = data.own_inputs(order) if isinstance(data, OwnRows) else data.inputs(order)
        Z[start : start + n] = network.outputs(X)
    processes.agree()
    gathered: Floats = np.empty((len(data), n_out), data.dtype)
    processes.communicator.Allgatherv(Z, [gathered, [len(each) * n_out for each in parts]])
    in_order: Floats = np.empty_like(gathered)
    in_order[np.concatenate(parts)] = gathered
    return in_order
