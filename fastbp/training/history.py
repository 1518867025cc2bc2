"""What training records: values per epoch, and the sums within an epoch."""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ..kernels import checks
from ..kernels.types import Array, Doubles
from ..metrics import Metric

__all__ = ["EpochSums", "History", "RunSums"]


class History(dict[str, list[Any]]):
    """A record of each epoch: a dict of lists with one value per epoch.

    Attributes
    ----------
    layer_names : list of str
        The layers of ``history["gradient_norms"]``, in its order.
    stopped : str or None
        The reason given to `Training.stop`, or None if nothing called it: if all epochs ran, or
        an error or Ctrl-C ended the training.

    Examples
    --------
    >>> history = History(["loss"])
    >>> history.append(loss=0.5)
    >>> history["loss"]
    [0.5]
    """

    def __init__(self, keys: Iterable[str] = (), layer_names: Iterable[str] = ()) -> None:
        super().__init__({key: [] for key in keys})
        self.layer_names = list(layer_names)
        self.stopped: str | None = None

    def append(self, **values: Any) -> None:
        """Add an epoch's values, by name."""
        for key, value in values.items():
            self.setdefault(key, []).append(value)

    def extend(self, **values: list[Any]) -> None:
        """Add the values of several epochs, by name."""
        for key, of_epochs in values.items():
            self.setdefault(key, []).extend(of_epochs)


class EpochSums:
    """Sums over the steps of an epoch.

    Parameters
    ----------
    run : RunSums
    epoch : int
        Of the run, from 0.

    Attributes
    ----------
    n_rows, batch_size : int
    step_stats : ndarray of shape (steps, 3)
        The loss, the penalty and the minibatch's weight of each step; zeros before it is made.
    norms : ndarray of shape (layers,) or None
        The norm of each layer's gradients, summed over the steps.
    """

    def __init__(self, run: RunSums, epoch: int) -> None:
        self._run, self._epoch = run, epoch
        self.n_rows, self.batch_size = run.n_rows, run.batch_size
        first = epoch * run.n_steps
        self.step_stats = run.step_stats[first : first + run.n_steps]
        self.norms = None if run.norms is None else run.norms[epoch]

    @property
    def metric(self) -> Metric | None:
        """The loss's metric, as far as it has counted this epoch's rows."""
        return self._run.metric_of(self._epoch)

    @property
    def rows(self) -> Array:
        """The number of rows of each step, a read-only array of shape (steps,)."""
        return _rows_of_steps(self.n_rows, self.batch_size)

    @property
    def loss(self) -> float:
        """The mean loss so far, with the penalty."""
        losses, penalties, weights = self.step_stats.T
        # Cumulative sums add in the order of the steps; NumPy's sum does not.
        total, weight = ((losses + penalties) * weights).cumsum()[-1], weights.cumsum()[-1]
        return float(total / weight) if weight > 0 else math.nan


class RunSums:
    """The `EpochSums` of epochs that run one after the other, and the arrays they are parts of.

    Parameters
    ----------
    epochs : int
    n_steps : int
        Of each epoch.
    n_rows, batch_size : int
    metric : Metric or None
    n_layers : int or None
        Layers with parameters; None if the norms of gradients are not recorded.

    Attributes
    ----------
    step_stats : ndarray of shape (epochs · n_steps, 3)
    metric_sums : ndarray of shape (epochs, sums) or None
        None for a metric that is computed in Python.
    norms : ndarray of shape (epochs, n_layers) or None
    epoch_stats : ndarray of shape (epochs, 3)
        The sums over each epoch's steps of its weighted losses and its weights, and when it ended,
        in seconds by CLOCK_MONOTONIC.
    """

    def __init__(self, epochs: int, n_steps: int, n_rows: int, batch_size: int,
                 metric: Metric | None, n_layers: int | None) -> None:
        self.epochs, self.n_steps, self.n_rows = epochs, n_steps, n_rows
        self.batch_size, self.metric = batch_size, metric
        self.step_stats = np.zeros((epochs * n_steps, 3))
        self.norms = None if n_layers is None else np.zeros((epochs, n_layers))
        self.epoch_stats = np.zeros((epochs, 3))
        self.metric_sums: Doubles | None = None
        if metric is not None and checks.compiled_form(metric) is not None:
            sums: Doubles = metric.sums  # type: ignore[attr-defined]  # all compiled ones have it
            self.metric_sums = np.zeros((epochs, sums.size))
        self._metrics: dict[int, Metric | None] = {}

    def metric_of(self, epoch: int) -> Metric | None:
        """The metric with an epoch's sums."""
        if self.metric_sums is None:
            return self.metric
        if epoch not in self._metrics:
            metric: Any = copy.copy(self.metric)
            metric.sums = self.metric_sums[epoch]
            self._metrics[epoch] = metric
        return self._metrics[epoch]

    def _results(self, epochs: int, metric: Any) -> list[float]:
        if self.metric_sums is None:
            return [metric.result() for _ in range(epochs)]
        metric, results = copy.copy(metric), []  # one copy for all epochs
        for sums in self.metric_sums[:epochs]:
            metric.sums = sums
            results.append(metric.result())
        return results

    def __getitem__(self, epoch: int) -> EpochSums:
        return EpochSums(self, epoch)

    def values(self, epochs: int) -> dict[str, list[Any]]:
        """What the history records of the first epochs, which are complete.

        Parameters
        ----------
        epochs : int

        Returns
        -------
        dict
            Lists with a value for each epoch.
        """
        found: dict[str, list[Any]] = {"loss": [
            total / weight if weight > 0 else math.nan
            for total, weight, _ in self.epoch_stats[:epochs].tolist()]}
        if self.metric is not None:
            found[self.metric.name] = self._results(epochs, self.metric)
        if self.norms is not None:
            found["gradient_norms"] = list(self.norms[:epochs] / self.n_steps)
        return found


@functools.lru_cache(maxsize=16)
def _rows_of_steps(n_rows: int, batch_size: int) -> Array:
    rows: Array = np.minimum(batch_size, n_rows - np.arange(0, n_rows, batch_size))
    rows.flags.writeable = False
    return rows
