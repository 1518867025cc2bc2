"""What a training recorded: epoch by epoch, and the sums within an epoch.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["EpochSums", "History"]

class History(dict):
    """What happened in each epoch: a dict of lists, a value per epoch.

    Attributes
    ----------
    layer_names : list of str
        The layers that ``history["gradient_norms"]`` speaks of, in its order.
    stopped : str or None
        Why the training ended before its last epoch.
    """

    def __init__(self, keys=(), layer_names=()):
        super().__init__({key: [] for key in keys})
        self.layer_names = list(layer_names)
        self.stopped = None

    def append(self, **values):
        """Add a row."""
        for key, value in values.items():
            self.setdefault(key, []).append(value)


@dataclass
class EpochSums:
    """What an epoch adds up.

    Attributes
    ----------
    n_rows, batch_size : int
    step_stats : ndarray of shape (steps, 3)
        The loss, the penalty and the batch's weight of each step; zeros before it is made.
    metric : Accuracy, R2 or None
    norms : ndarray or None
        The norm of each layer's gradients.
    """

    n_rows: int
    batch_size: int
    step_stats: np.ndarray
    metric: object
    norms: np.ndarray | None

    @property
    def rows(self):
        """How many each step has, an array of shape (steps,)."""
        return np.minimum(self.batch_size, self.n_rows - np.arange(0, self.n_rows, self.batch_size))

    @property
    def loss(self):
        """The mean so far."""
        losses, penalties, weights = self.step_stats.T
        # Cumulative sums add in the order of the steps; NumPy's sum does not.
        total, weight = ((losses + penalties) * weights).cumsum()[-1], weights.cumsum()[-1]
        return float(total / weight) if weight > 0 else float("nan")
