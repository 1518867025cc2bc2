"""Callbacks: objects that `fit` calls before and after each epoch."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from .files import checked_path
from .kernels import checks
from .locks import Exclusive

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .kernels.types import Floats
    from .network import Sequential
    from .training import Training

__all__ = ["Callback", "EarlyStopping", "Plateau", "TensorBoard"]


class Callback:
    """Base class of callbacks: override the methods you need.

    Each method gets the running `fastbp.training.Training`, with the attributes ``network``,
    ``history``, ``epoch`` (from 0), ``epochs``, ``optimizer``, ``loss``, ``batch_size``, ``l2``,
    and the method ``stop(reason)``, which ends training after the current epoch (or before the
    first, if called in `on_train_begin`).  A callback may set ``loss``, ``batch_size`` and ``l2``,
    the weights, and the settings of the optimizer and the layers; everything else is read-only.

    Attributes
    ----------
    kept : tuple of str
        Names of the attributes that are saved in a checkpoint: numbers, strings, arrays or None.

    Examples
    --------
    >>> import fastbp as fb
    >>> class GrowBatches(fb.Callback):
    ...     def on_epoch_end(self, training: Training) -> None:
    ...         training.batch_size *= 2
    ...         if training.history["loss"][-1] < 0.01:
    ...             training.stop("the loss is below 0.01")
    >>> X = np.eye(4)
    >>> history = fb.mlp([4, 8, 4], seed=0).fit(
    ...     X, X, loss=fb.MeanSquaredError(), optimizer=fb.Adam(0.05), epochs=500, batch_size=1,
    ...     callbacks=[GrowBatches()], seed=0)
    >>> history.stopped
    'the loss is below 0.01'
    """

    kept: tuple[str, ...] = ()

    def check_kept(self, values: Mapping[str, Any], network: Sequential) -> None:
        """Raise an error if values from a checkpoint do not suit this callback.

        Called before any of them is set, since a checkpoint is a file and may hold anything.
        By default all values are accepted.

        Parameters
        ----------
        values : dict
            The values of the attributes named in `kept`: what JSON can hold, and arrays where
            arrays were saved.
        network : Sequential

        Raises
        ------
        TypeError, ValueError
            With a message that becomes part of the one that `fit` raises.
        """

    def on_train_begin(self, training: Training) -> None:
        """Called before the first epoch."""

    def on_epoch_begin(self, training: Training) -> None:
        """Called before each epoch."""

    def on_epoch_end(self, training: Training) -> None:
        """Called after each epoch, when its values have been appended to the history."""

    def on_train_end(self, training: Training) -> None:
        """Called after the last epoch, also if training was stopped, but not after an error.
        """

    def epochs_ahead(self, training: Training) -> float:
        """For how many epochs after the next one nothing but the history matters to the callback.

        Short epochs are faster if several run before Python has its turn.  The callback is then
        called for each of them afterwards, in order, with the history and the sums as they were,
        but with later weights.  In these epochs it must not need the weights, change anything or
        stop training.

        Returns
        -------
        int or infinity
            By default 0: the callback is called before another epoch begins.
        """
        return 0


class EachEpoch(Callback):
    """A plain function as a callback: it is called at the end of each epoch.

    Parameters
    ----------
    function : callable
        Called with the running `fastbp.training.Training`.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.eye(2)
    >>> history = fb.mlp([2, 2], seed=0).fit(
    ...     X, X, loss=fb.MeanSquaredError(), epochs=3, seed=0,
    ...     callbacks=[lambda training: print(training.epoch)])
    0
    1
    2
    """

    def __init__(self, function: Callable[[Training], object]) -> None:
        self.function = function

    def on_epoch_end(self, training: Training) -> None:
        self.function(training)


def _best(name: str, value: Any) -> float:
    """The value as a float, which may be infinite or NaN."""
    return float(value) if isinstance(value, float | np.floating) else checks.number(name, value)


class EarlyStopping(checks.Validated, Exclusive, Callback):
    """Stop when a value of the history has not improved for a number of epochs.

    Parameters
    ----------
    patience : int, default 10
        Epochs without improvement after which training stops.
    min_delta : float, default 0.0
        A change counts as an improvement if it is larger than this.
    monitor : str, default "val_loss"
        A key of the history.  A loss improves by falling, every other value by rising.
    restore_best : bool, default True
        Whether to restore the weights of the best epoch at the end of training, whether or not it
        stopped early.  They are not restored after an error or Ctrl-C.

    Attributes
    ----------
    best : float
        The best value so far.
    best_epoch : int or None
        The epoch with that value, from 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; from `fit`, if it does not record `monitor`.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> y = (X[:, 0] > 0).astype(int)
    >>> history = fb.mlp([5, 32, 2], seed=0).fit(
    ...     X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01), epochs=1000, seed=0,
    ...     validation_fraction=0.3, callbacks=[fb.EarlyStopping(patience=5)])
    >>> history.stopped
    'val_loss has not improved for 5 epochs'
    """

    validators = {"best": _best}
    kept = ("best", "best_epoch", "_best_parameters")

    best: float
    best_epoch: int | None

    def __init__(
        self,
        patience: int = 10,
        min_delta: float = 0.0,
        monitor: str = "val_loss",
        restore_best: bool = True,
    ) -> None:
        self.patience = checks.integer("patience", patience, 1)
        self.min_delta = checks.number("min_delta", min_delta, 0)
        self.monitor = monitor
        self.restore_best = restore_best

    def check_kept(self, values: Mapping[str, Any], network: Sequential) -> None:
        """Raise an error unless the best value is a number and the best weights fit the network."""
        _check_best(values, network)
        if values.get("best_epoch") is not None:
            checks.integer("best_epoch", values["best_epoch"], 0)

    def on_train_begin(self, training: Training) -> None:
        _check_recorded(self, training)
        self._sign = -1 if self.monitor.endswith("loss") else 1
        self.best = -self._sign * np.inf
        self.best_epoch = None
        self._best_parameters: Floats | None = None

    def on_epoch_end(self, training: Training) -> None:
        value = training.history[self.monitor][-1]
        improved = self._sign * (value - self.best) > self.min_delta
        if improved or (np.isnan(self.best) and not np.isnan(value)) or self.best_epoch is None:
            self.best, self.best_epoch = value, training.epoch
            if self.restore_best:
                self._best_parameters = training.network.get_state()
        elif training.epoch - self.best_epoch >= self.patience:
            training.stop(f"{self.monitor} has not improved for {self.patience} epochs")

    def on_train_end(self, training: Training) -> None:
        if self._best_parameters is not None:
            training.network.set_state(self._best_parameters)
            self._best_parameters = None


class Plateau(checks.Validated, Exclusive, Callback):
    """Reduce the learning rate, or stop, when a value has stopped improving.

    Like scikit-learn, it acts after more than `patience` consecutive epochs without an improvement
    of at least `tol` over the best value so far.  A callback that is passed to another `fit`
    continues to count where it was.

    Parameters
    ----------
    patience : int or infinity, default 10
        Consecutive epochs that may pass without improvement; infinity for any number.
    tol : float, default 1e-4
        How much better a value has to be to count as an improvement.
    monitor : str, default "loss"
        A key of the history.  A loss improves by falling, every other value by rising.
    factor : float in (0, 1), optional
        The learning rate is multiplied by it at a plateau.  Without it training stops there.
    least : float, default 1e-6
        Training stops at a plateau if the learning rate is at most this.
    keep_best : bool, default False
        Whether to keep a copy of the best weights for `restore`.

    Attributes
    ----------
    best : float
        The best value so far; before the first, infinity for a loss and minus infinity for
        other values.
    count : int
        Consecutive epochs without improvement.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above; from `fit`, if it does not record `monitor`, or if
        `factor` is given and the optimizer's learning rate is a schedule.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(60, 5))
    >>> optimizer = fb.SGD(0.1)
    >>> history = fb.mlp([5, 1], seed=0).fit(
    ...     X, X[:, :1], loss=fb.MeanSquaredError(), optimizer=optimizer, epochs=100, seed=0,
    ...     callbacks=[fb.callbacks.Plateau(patience=3, factor=0.5)])
    >>> optimizer.learning_rate < 0.1
    True
    """

    validators = {"best": _best}
    kept = ("best", "count", "_best_parameters")

    def __init__(
        self,
        patience: float = 10,
        tol: float = 1e-4,
        monitor: str = "loss",
        factor: float | None = None,
        least: float = 1e-6,
        keep_best: bool = False,
    ) -> None:
        self.patience = patience if patience == np.inf else checks.integer("patience", patience, 1)
        self.tol = checks.not_negative("tol", tol)
        self.monitor = monitor
        if factor is not None:
            factor = checks.number("factor", factor, 0, 1, low_open=True, high_open=True)
        self.factor = factor
        self.least = checks.not_negative("least", least)
        self.keep_best = keep_best
        self._sign = -1 if str(monitor).endswith("loss") else 1
        self.best: float = -self._sign * np.inf
        self.count = 0
        self._best_parameters: Floats | None = None

    def check_kept(self, values: Mapping[str, Any], network: Sequential) -> None:
        """Raise an error unless the best value is a number and the best weights fit the network."""
        _check_best(values, network)
        checks.integer("count", values.get("count", 0), 0)

    def on_train_begin(self, training: Training) -> None:
        _check_recorded(self, training)
        if self.factor is not None and callable(training.optimizer.learning_rate):
            raise ValueError("Plateau(factor=...): expected an optimizer whose learning_rate is "
                             "a number, got a schedule, which already sets it each epoch")
        if self.keep_best and self._best_parameters is None:
            self._best_parameters = training.network.get_state()

    def on_epoch_end(self, training: Training) -> None:
        value = self._sign * training.history[self.monitor][-1]
        best = self._sign * self.best
        self.count = self.count + 1 if value < best + self.tol else 0
        if value > best:
            self.best = self._sign * value
            if self.keep_best:
                self._best_parameters = training.network.get_state()
        if self.count > self.patience:
            self.count = 0 if self.turn_down(training) else self.count

    def epochs_ahead(self, training: Training) -> float:
        if type(self) is not Plateau or self.keep_best:
            return 0
        return max(0, self.patience - self.count)  # each epoch counts one more at most

    def turn_down(self, training: Training) -> bool:
        """Reduce the learning rate, or stop.

        Parameters
        ----------
        training : fastbp.training.Training

        Returns
        -------
        bool
            Whether training continues.
        """
        optimizer = training.optimizer
        reason = f"{self.monitor} has not improved by {self.tol:g} for {self.patience} epochs"
        rate: Any = optimizer.learning_rate
        if self.factor is None:
            training.stop(reason)
        elif rate <= self.least:
            training.stop(f"{reason}, and the learning rate is {rate:g}")
        else:
            optimizer.learning_rate = rate * self.factor
        return not training.stopping

    def restore(self, network: Sequential) -> None:
        """Set a network's weights to the best ones, if any were kept.

        Parameters
        ----------
        network : Sequential
            The one that was trained.
        """
        if self._best_parameters is not None:
            network.set_state(self._best_parameters)


class TensorBoard(Exclusive, Callback):
    """Write the history to files that TensorBoard shows, epoch by epoch.

    Losses and metrics of training and of validation are in subfolders ``train`` and ``validation``,
    so that TensorBoard draws both into one picture.  In ``train`` are also the learning rate, the
    seconds, and in a fit with ``gradient_norms=True`` the norms of the layers' gradients.  Epochs
    are counted from 1.  Of processes that train together the first one writes.

    Parameters
    ----------
    folder : str or path-like
        Made if it is not there.  A second `fit` into the same folder takes the place of the first;
        a resumed one goes on where the first ended.

    Raises
    ------
    TypeError, ValueError
        If `folder` is not a path.
    ImportError
        From `fit`, if tensorboardX is not installed.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("train")
    >>> history = fb.mlp([64, 10], seed=0).fit(
    ...     X, y, loss=fb.SoftmaxCrossEntropy(), epochs=3, validation_fraction=0.2, seed=0,
    ...     callbacks=[fb.callbacks.TensorBoard("runs/first")])

    Then ``tensorboard --logdir runs`` (``pip install tensorboard``) shows them in a browser.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = checked_path("folder", folder, "folder")
        self._writers: dict[str, Any] = {}

    def on_train_begin(self, training: Training) -> None:
        self._close()
        if os.path.exists(self.folder) and not os.path.isdir(self.folder):
            raise NotADirectoryError(f"TensorBoard(folder={self.folder!r}): expected a folder, or "
                                     f"none yet, got a file; choose another path")
        if training.is_first:
            _summary_writer()  # raises at once if it is missing

    def on_epoch_end(self, training: Training) -> None:
        if not training.is_first:
            return
        history, step = training.history, training.epoch + 1
        for key, values in history.items():
            if key == "gradient_norms":
                for name, norm in zip(history.layer_names, values[-1], strict=True):
                    self._add("train", f"gradient_norm/{name.replace(' ', '_')}", norm,
                              step)
            else:
                name = key.removeprefix("val_")
                self._add("train" if key == name else "validation", name, values[-1], step)
        if os.path.isdir(os.path.join(self.folder, "validation")):
            self._writer("validation", step)  # of an earlier fit, where this one has none
        for writer in self._writers.values():
            writer.flush()

    def on_train_end(self, training: Training) -> None:
        self._close()

    def epochs_ahead(self, training: Training) -> float:
        return np.inf if type(self) is TensorBoard else 0  # it reads the history alone

    def _add(self, part: str, name: str, value: float, step: int) -> None:
        self._writer(part, step).add_scalar(name, value, step)

    def _writer(self, part: str, step: int) -> Any:
        """What writes this part; `step` is the first that it may write."""
        if part not in self._writers:
            # What an earlier fit has written of this epoch and later ones is not shown any more.
            # Files are named by the second, in which that fit may have begun too.
            self._writers[part] = _summary_writer()(
                os.path.join(self.folder, part), purge_step=step, filename_suffix=f".{step:06}")
        return self._writers[part]

    def _close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_writers": {}}  # open files cannot be copied


def _summary_writer() -> Any:
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ImportError('TensorBoard: needs tensorboardX: pip install '
                          '"fastbp[tensorboard]"') from None
    return SummaryWriter


def _check_recorded(callback: EarlyStopping | Plateau, training: Training) -> None:
    """Raise ValueError unless the value that the callback monitors is in the history."""
    if callback.monitor not in training.history:
        keys = ", ".join(key for key in training.history if key != "seconds")
        remedy = ("; give fit validation_data or validation_fraction"
                  if str(callback.monitor).startswith("val_") else "")
        raise ValueError(f"{type(callback).__name__}(monitor={callback.monitor!r}): expected one "
                         f"of {keys}, which is what this fit records{remedy}")


def _check_best(values: Mapping[str, Any], network: Sequential) -> None:
    """Raise an error unless the best value is a number and the best weights fit the network."""
    best, parameters = values.get("best", 0.0), values.get("_best_parameters")
    if not isinstance(best, float | int) or isinstance(best, bool):  # NaN and infinity are fine
        raise TypeError(f"best: expected a number, got {type(best).__name__}")
    float(best)  # raises OverflowError for a whole number that is too large
    if parameters is not None:
        size = network.parameters.size + network.buffers.size
        checks.exactly("_best_parameters", parameters, (size,), network.dtype)
