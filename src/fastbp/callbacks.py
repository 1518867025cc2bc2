"""Callbacks: what `fit` calls between epochs."""

import numpy as np

from .kernels import checks

__all__ = ["Callback", "EarlyStopping"]


class Callback:
    """Base class of callbacks; define what you need.

    Each method gets the running `fastbp.training.Training`, with the attributes
    ``network``, ``history``, ``epoch`` (from 0), ``epochs``, ``optimizer``, ``loss``, and
    the method ``stop(reason)``, which ends the training after the epoch.
    """

    def on_train_begin(self, training):
        """Before the first epoch."""

    def on_epoch_begin(self, training):
        """Before each epoch."""

    def on_epoch_end(self, training):
        """After each epoch, once its row is in the history."""

    def on_train_end(self, training):
        """After the last epoch, also when stopped; not after an error."""


class EachEpoch(Callback):
    """A plain function as a callback: called at the end of each epoch."""

    def __init__(self, function):
        self.function = function

    def on_epoch_end(self, training):
        self.function(training)


class EarlyStopping(Callback):
    """Stop when a value of the history has not improved for some epochs.

    Parameters
    ----------
    patience : int, default 10
        Epochs without improvement before it stops.
    min_delta : float, default 0.0
        What counts as an improvement has to be larger than this.
    monitor : str, default "val_loss"
        A key of the history.  Losses should fall; every other value should rise.
    restore_best : bool, default True
        Whether to go back to the weights of the best epoch when the training ends,
        whether or not it was stopped early.

    Attributes
    ----------
    best : float
        The best value so far.
    best_epoch : int or None
        The epoch it was reached in, from 0.
    """

    def __init__(self, patience=10, min_delta=0.0, monitor="val_loss", restore_best=True):
        self.patience = checks.whole("patience", patience, 1)
        self.min_delta = checks.number("min_delta", min_delta, 0)
        self.monitor = monitor
        self.restore_best = restore_best

    def on_train_begin(self, training):
        if self.monitor not in training.history:
            keys = ", ".join(key for key in training.history if key != "seconds")
            remedy = ("; give fit validation_data or validation_fraction"
                      if str(self.monitor).startswith("val_") else "")
            raise ValueError(f"EarlyStopping(monitor={self.monitor!r}): expected one of {keys}, "
                             f"which is what this fit records{remedy}")
        self._sign = -1 if self.monitor.endswith("loss") else 1
        self.best = -self._sign * np.inf
        self.best_epoch = None
        self._best_parameters = None

    def on_epoch_end(self, training):
        value = training.history[self.monitor][-1]
        improved = self._sign * (value - self.best) > self.min_delta
        if improved or (np.isnan(self.best) and not np.isnan(value)) or self.best_epoch is None:
            self.best, self.best_epoch = value, training.epoch
            if self.restore_best:
                self._best_parameters = training.network.parameters.copy()
        elif training.epoch - self.best_epoch >= self.patience:
            training.stop(f"{self.monitor} has not improved for {self.patience} epochs")

    def on_train_end(self, training):
        if self._best_parameters is not None:
            training.network.parameters[...] = self._best_parameters
            self._best_parameters = None
