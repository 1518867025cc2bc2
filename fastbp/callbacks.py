"""Callbacks: what `fit` calls between epochs."""

import numpy as np

from .kernels import checks

__all__ = ["Callback", "EarlyStopping", "Plateau"]


class Callback:
    """Base class of callbacks; define what you need.

    Each method gets the running `fastbp.training.Training`, with the attributes
    ``network``, ``history``, ``epoch`` (from 0), ``epochs``, ``optimizer``, ``loss``,
    ``batch_size``, ``l2``, and the method ``stop(reason)``, which ends the training after the
    epoch.  The last three of the attributes may be set, and so may weights and the settings of
    the optimizer and the layers; the rest is read-only.

    Attributes
    ----------
    kept : tuple of str
        Names of the attributes that a checkpoint keeps: numbers, texts, arrays or None.
    """

    kept = ()

    def check_kept(self, values, network):
        """Raise if a checkpoint's values cannot be this callback's, before any of them is set.

        A checkpoint is a file, and may hold anything; by default all values will do.

        Parameters
        ----------
        values : dict
            By the names in `kept`: what JSON knows, and arrays where arrays were kept.
        network : Sequential

        Raises
        ------
        TypeError, ValueError
            The message becomes part of the one that `fit` raises.
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


def _best(name, value):
    """A number, which may be infinite or NaN."""
    return float(value) if isinstance(value, float | np.floating) else checks.number(name, value)


class EarlyStopping(checks.Validated, Callback):
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

    validators = {"best": _best}
    kept = ("best", "best_epoch", "_best_parameters")

    def __init__(self, patience=10, min_delta=0.0, monitor="val_loss", restore_best=True):
        self.patience = checks.integer("patience", patience, 1)
        self.min_delta = checks.number("min_delta", min_delta, 0)
        self.monitor = monitor
        self.restore_best = restore_best

    def check_kept(self, values, network):
        """Raise unless these are numbers, and parameters like the network's."""
        _check_best(values, network)
        if values.get("best_epoch") is not None:
            checks.integer("best_epoch", values["best_epoch"], 0)

    def on_train_begin(self, training):
        _check_recorded(self, training)
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
                self._best_parameters = training.network.get_state()
        elif training.epoch - self.best_epoch >= self.patience:
            training.stop(f"{self.monitor} has not improved for {self.patience} epochs")

    def on_train_end(self, training):
        if self._best_parameters is not None:
            training.network.set_state(self._best_parameters)
            self._best_parameters = None


class Plateau(checks.Validated, Callback):
    """Turn the learning rate down when a value stops improving, or stop; as scikit-learn does.

    An epoch counts against the training unless the value is better than the best so far by
    `tol`; a plateau is more than `patience` such epochs in a row.  Used in another `fit`, it
    goes on counting where it was.

    Parameters
    ----------
    patience : int or infinity, default 10
        Epochs in a row that may pass without improvement; infinity for any number.
    tol : float, default 1e-4
    monitor : str, default "loss"
        A key of the history.  Losses should fall; every other value should rise.
    factor : float in (0, 1), optional
        What the learning rate is multiplied by at a plateau.  Without it the training stops.
    least : float, default 1e-6
        At a plateau with a learning rate no larger than this the training stops.
    keep_best : bool, default False
        Whether to keep a copy of the best parameters, for `restore`.

    Attributes
    ----------
    best : float
        The best value so far, infinite before the first.
    count : int
        Epochs in a row without improvement.
    """

    validators = {"best": _best}
    kept = ("best", "count", "_best_parameters")

    def __init__(self, patience=10, tol=1e-4, monitor="loss", factor=None, least=1e-6,
                 keep_best=False):
        self.patience = patience if patience == np.inf else checks.integer("patience", patience, 1)
        self.tol = checks.not_negative("tol", tol)
        self.monitor = monitor
        if factor is not None:
            factor = checks.number("factor", factor, 0, 1, low_open=True, high_open=True)
        self.factor = factor
        self.least = checks.not_negative("least", least)
        self.keep_best = keep_best
        self._sign = -1 if str(monitor).endswith("loss") else 1
        self.best = -self._sign * np.inf
        self.count = 0
        self._best_parameters = None

    def check_kept(self, values, network):
        """Raise unless these are numbers, and parameters like the network's."""
        _check_best(values, network)
        checks.integer("count", values.get("count", 0), 0)

    def on_train_begin(self, training):
        _check_recorded(self, training)
        if self.factor is not None and callable(training.optimizer.learning_rate):
            raise ValueError("Plateau(factor=...): expected an optimizer whose learning_rate is "
                             "a number, got a schedule, which says itself when to change")
        if self.keep_best and self._best_parameters is None:
            self._best_parameters = training.network.get_state()

    def on_epoch_end(self, training):
        value = self._sign * training.history[self.monitor][-1]
        best = self._sign * self.best
        self.count = self.count + 1 if value < best + self.tol else 0
        if value > best:
            self.best = self._sign * value
            if self.keep_best:
                self._best_parameters = training.network.get_state()
        if self.count > self.patience:
            self.count = 0 if self.turn_down(training) else self.count

    def turn_down(self, training):
        """Lower the learning rate or stop; whether the training goes on."""
        optimizer = training.optimizer
        reason = f"{self.monitor} has not improved by {self.tol:g} for {self.patience} epochs"
        if self.factor is None:
            training.stop(reason)
        elif optimizer.learning_rate <= self.least:
            training.stop(f"{reason}, and the learning rate is {optimizer.learning_rate:g}")
        else:
            optimizer.learning_rate *= self.factor
        return not training.stopping

    def restore(self, network):
        """Set the parameters to the best ones, if any epoch gave some."""
        if self._best_parameters is not None:
            network.set_state(self._best_parameters)


def _check_recorded(callback, training):
    """Raise unless what the callback watches is in the history."""
    if callback.monitor not in training.history:
        keys = ", ".join(key for key in training.history if key != "seconds")
        remedy = ("; give fit validation_data or validation_fraction"
                  if str(callback.monitor).startswith("val_") else "")
        raise ValueError(f"{type(callback).__name__}(monitor={callback.monitor!r}): expected one "
                         f"of {keys}, which is what this fit records{remedy}")


def _check_best(values, network):
    """Raise unless a checkpoint's best value is a number, and the best parameters fit."""
    best, parameters = values.get("best", 0.0), values.get("_best_parameters")
    if not isinstance(best, float | int) or isinstance(best, bool):  # NaN and infinity will do
        raise TypeError(f"best: expected a number, got {type(best).__name__}")
    float(best)  # raises OverflowError for a whole number that is too large
    if parameters is not None:
        size = network.parameters.size + network.buffers.size
        checks.exactly("_best_parameters", parameters, (size,), network.dtype)
