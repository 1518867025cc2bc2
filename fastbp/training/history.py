"""What training records: values per epoch, and the sums within an epoch."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..kernels.types import Array, Doubles
from ..metrics import Metric

__all__ = ["EpochSums", "History"]


class History(dict[str, list[Any]]):
    """A record of each epoch: a dict of lists with one value per epoch.

    Attributes
    ----------
    layer_names : list of str
        The layers of ``history["gradient_norms"]``, in its order.
    stopped : str or None
        The reason given to `Training.stop`, or None if nothing called it (also after an error or
        Ctrl-C).

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


@dataclass
class EpochSums:
    """Sums over the steps of an epoch.

    Attributes
    ----------
    n_rows, batch_size : int
    step_stats : ndarray of shape (steps, 3)
        The loss, the penalty and the minibatch's weight of each step; zeros before it is made.
    metric : Metric or None
    norms : ndarray of shape (layers,) or None
        The norm of each layer's gradients, summed over the steps.
    """

    n_rows: int
    batch_size: int
    step_stats: Doubles
    metric: Metric | None
    norms: Doubles | None

    @property
    def rows(self) -> Array:
        """The number of rows of each step, an array of shape (steps,)."""
        return np.minimum(self.batch_size, self.n_rows - np.arange(0, self.n_rows, self.batch_size))

    @property
    def loss(self) -> float:
        """The mean loss so far, with the penalty."""
        losses, penalties, weights = self.step_stats.T
        # Cumulative sums add in the order of the steps; NumPy's sum does not.
        total, weight = ((losses + penalties) * weights).cumsum()[-1], weights.cumsum()[-1]
        return float(total / weight) if weight > 0 else float("nan")
