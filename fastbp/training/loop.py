"""The loop over epochs that `Sequential.fit` runs, and `fit_many` for each network.

From top to bottom: check the arguments, then for each epoch run the steps, evaluate, record, and
call the callbacks.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import checks
from ..kernels.gather import permutations
from ..kernels.types import Array
from ..locks import Exclusive
from ..stack import shuffling
from .checkpoints import Checkpoints
from .data import Dataset
from .described import checksum, describe, describe_piece
from .distributed import Processes
from .history import History
from .interrupts import DeferInterrupt
from .own_rows import OwnRows
from .progress import Progress, StepProgress, epoch_line
from .run import Training

if TYPE_CHECKING:
    from ..network import Sequential
    from .settings import Settings

__all__ = ["Loop", "fit"]


def fit(network: Sequential, X: ArrayLike, y: ArrayLike, settings: Settings) -> History:
    """Train a network; `Sequential.fit` has the description.

    Parameters
    ----------
    network : Sequential
    X, y : array_like
    settings : Settings

    Returns
    -------
    History
    """
    with Loop(network, X, y, settings) as loop:
        loop.prepare()
        loop.begin()
        with loop.interrupts if settings.processes is None else nullcontext():
            try:
                while loop.is_running:
                    loop.begin_epochs()
                    if settings.callbacks:  # one may have installed a signal handler of its own
                        loop.interrupts.install()
                    try:
                        with Progress(loop.run, settings.verbose) as progress:
                            loop.run_epochs(progress)
                    finally:
                        loop.end_epochs()
                    loop.agree()
            finally:
                loop.settle()
        loop.end()
        return loop.run.history


class Loop:
    """The loop over the epochs of one training, taken apart for `fit` and `fit_many`.

    It is a context manager, in which no other training can use the optimizer, the callbacks that
    have a state, and the folder of checkpoints.  The methods are called in this order::

        prepare(); begin()
        while is_running:
            begin_epochs(); run_epochs(); end_epochs()
        settle(); end()

    After an error, `end_epochs` records the epochs that were completed, `settle` is called, and
    `end` is not.

    Parameters
    ----------
    network : Sequential
    X, y : array_like
    settings : Settings

    Attributes
    ----------
    run : Training
        From `prepare` on.
    interrupts : DeferInterrupt

    Raises
    ------
    TypeError, ValueError
        If data and settings do not fit the network.
    """

    run: Training

    def __init__(self, network: Sequential, X: ArrayLike, y: ArrayLike,
                 settings: Settings) -> None:
        self._network, self._settings = network, settings
        optimizer, processes = settings.optimizer, settings.processes
        if processes is not None:  # before the arrays, some of which would have no counterpart
            processes.check_same({
                "sample_weight": None if settings.sample_weight is None else "an array",
                "validation_data": None if settings.validation_data is None else "a tuple"})
        if optimizer.uses_layers:
            optimizer.assign(network)
        optimizer.group_rates(0.0, network.parameters.size)
        self._data = self._dataset(X, y, settings.sample_weight)
        self._validation: Dataset | None = None
        if settings.validation_data is not None:
            X_val, y_val, *w_val = settings.validation_data
            self._validation = self._dataset(X_val, y_val, w_val[0] if w_val else None,
                                             "validation_data ")
        if settings.validation_fraction > 0:
            self._data.n_validation(settings.validation_fraction)
        described = {} if settings.checkpoint is None and processes is None else describe(
            self._data, self._validation, layers=network.layers, dtype=str(network.dtype),
            precision=network.precision,
            **settings.identity())
        folder = settings.checkpoint
        if processes is not None:
            self._check_same(processes, described)
            if processes.rank > 0:
                folder = None  # the first process writes, and reads for all
        self._checkpoints = Checkpoints(folder, settings.checkpoint_every, settings.resume,
                                        described, optimizer.initial_learning_rate)
        self.interrupts = DeferInterrupt() if processes is None else processes.interrupts
        self._next = 0  # the first epoch that has not been recorded
        self._at_once = 1  # epochs that run next
        self._seconds = 0.0  # that the last ones took
        self._stop_is_saved = False
        self._orders: Array | None = None
        self._ran: dict[str, list[Any]] = {"loss": []}  # of the epochs to record
        self._locks: list[threading.Lock] = []

    def __enter__(self) -> Self:
        try:
            self._locks.append(self._settings.optimizer.exclusive_use("optimizer"))
            for callback in {id(each): each for each in self._settings.callbacks}.values():
                if isinstance(callback, Exclusive):
                    name = type(callback).__name__
                    self._locks.append(callback.exclusive_use(
                        name, f"in another fit or for another network of fit_many; callbacks: "
                              f"expected each to have its own {name}"))
            self._checkpoints.__enter__()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._checkpoints.__exit__(*error)
        finally:
            self._release()

    def _release(self) -> None:
        for lock in self._locks:
            lock.release()
        self._locks.clear()

    def prepare(self) -> None:
        """Call the callbacks' `on_train_begin`, which may refuse the arguments."""
        network, settings, data = self._network, self._settings, self._data
        callbacks, validation = settings.callbacks, self._validation
        history = self._new_history()
        if settings.processes is not None:
            self._checkpoints.saved = settings.processes.of_first(self._checkpoints.saved)
        self._checkpoints.begin(network, settings.optimizer, callbacks, history)
        self._stream = network.random_stream(settings.seed)
        self._rng = shuffling(self._stream)
        if settings.validation_fraction > 0:
            n_validation = data.n_validation(settings.validation_fraction)
            data, validation = data.split(n_validation, self._rng)
        self._n_rows = len(data)
        self.run = Training(network, data, settings.optimizer, settings.epochs,
                            settings.batch_size, history, settings.l2, validation, settings.ema,
                            settings.processes)
        self.run.averages.resume()
        for callback in callbacks:
            callback.on_train_begin(self.run)

    def begin(self) -> None:
        """Restore a checkpoint if there is one."""
        history = self.run.history
        self._network.use_stream(self._stream)
        self._network.history = history
        self._checkpoints.restore(self.run, self._rng, self._settings.callbacks)
        self._next = len(history["loss"])
        self.run.begin_epoch(max(0, self._next - 1))

    def _dataset(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None,
                 prefix: str = "") -> Dataset:
        processes, loss = self._settings.processes, self._settings.loss
        if processes is not None and processes.rows == "own":
            return OwnRows(processes, self._network, X, y, loss, sample_weight, prefix)
        return Dataset(self._network, X, y, loss, sample_weight, prefix)

    def _check_same(self, processes: Processes, described: dict[str, Any]) -> None:
        """Raise unless all processes are about to train the same network in the same way."""
        network, settings = self._network, self._settings
        optimizer = settings.optimizer
        program = network.programs.training(self._data.X.shape[1], settings.batch_size, True)
        if program.in_python:
            raise ValueError("layers: expected layers that are made of fastbp's operations, with "
                             "several processes; one that runs in Python would see a part of each "
                             "minibatch")
        state = optimizer.state if optimizer.is_for(network.parameters) else {}
        arrays = {"parameters of the network, which follow from its seed": network.parameters,
                  "running statistics of the network": network.buffers,
                  **{f"optimizer's {name}": array for name, array in state.items()}}
        processes.check_same({
            "epochs": settings.epochs, "checkpoint": settings.checkpoint is not None,
            "checkpoint_every": settings.checkpoint_every, "resume": settings.resume,
            **described, **{name: checksum(array) for name, array in arrays.items()},
            "steps of the optimizer": optimizer.steps,
            "seed of the network": None if settings.seed is not None else
            list(network.seeds.values()),
            "steps of the layers": [layer.step for _, layer in network.leaves]})

    def _check_same_epoch(self, processes: Processes) -> None:
        """Raise unless all processes are about to make the same steps."""
        run = self.run
        rates = run.optimizer.group_rates(float(run.epoch), self._network.parameters.size)
        processes.check_same({
            "batch_size": run.batch_size, "l2": run.l2, "loss": describe_piece(run.loss),
            "optimizer": describe_piece(run.optimizer), "learning rates": list(rates),
            "layers": describe_piece([layer for _, layer in self._network.leaves]),
            "parameters": checksum(self._network.parameters),
            "shuffle: order": None if self._orders is None else checksum(self._orders)})

    def _new_history(self) -> History:
        settings, loss = self._settings, self._settings.loss
        metric = [] if loss.metric is None else [loss.metric.name]
        keys = ["loss", *metric]
        if self._validation is not None or settings.validation_fraction > 0:
            keys += ["val_" + key for key in keys]
        keys += ["learning_rate", "seconds"] + ["gradient_norms"] * settings.gradient_norms
        names = [f"{where} {type(layer).__name__}"
                 for where, layer in self._network.leaves if layer.n_parameters]
        return History(keys, names)

    @property
    def is_running(self) -> bool:
        """Whether another epoch is to be run."""
        return self._next < self.run.epochs and not self.run.stopping

    @property
    def next_epoch(self) -> int:
        """The epoch that runs next, from 0."""
        return self._next

    def begin_epochs(self, at_most: float = math.inf) -> None:
        """Call the callbacks' `on_epoch_begin`, and decide how many epochs run at once.

        Parameters
        ----------
        at_most : int or infinity
        """
        shuffle = self._settings.shuffle
        self.run.begin_epoch(self._next)
        for callback in self._settings.callbacks:
            callback.on_epoch_begin(self.run)
        self._at_once = max(1, int(min(at_most, self._epochs_at_once())))
        self._orders = None  # the last are freed before the next are drawn
        if callable(shuffle):
            self._orders = _orders(shuffle, self._at_once, self._n_rows, self._rng)
        if self._settings.processes is not None:
            self._check_same_epoch(self._settings.processes)

    def run_epochs(self, progress: StepProgress) -> None:
        """Run the epochs.  This alone may be called in another thread.

        Parameters
        ----------
        progress : StepProgress
        """
        if self._orders is None:
            self._orders = _orders(self._settings.shuffle, self._at_once, self._n_rows, self._rng)
        begin = time.monotonic()
        try:
            self._ran = self.run.run_epochs(self._orders, self.interrupts, progress)
            if self._settings.processes is not None:  # whose clocks differ
                seconds = self._settings.processes.of_first(self._ran["seconds"])
                self._ran["seconds"] = seconds
        except BaseException:
            self._ran = self.run.complete_epochs()
            raise
        finally:
            self._seconds = time.monotonic() - begin

    def end_epochs(self) -> None:
        """Record the epochs that have run, and call who is to be called between them."""
        done, begin = len(self._ran["loss"]), time.monotonic()
        try:
            if done == 1:
                self._record_and_call()
            else:
                self.interrupts.call(self._record_and_call)
        finally:
            self._next += done
            self._ran = {"loss": []}
        if done:
            self.run.measure((self._seconds + time.monotonic() - begin) / done)

    def save_stop(self) -> None:
        """Write a checkpoint if the training has been stopped since the last one."""
        if self.run.stopping and not self._stop_is_saved:
            self._checkpoints.after_epoch(self.run, self._rng, self._settings.callbacks)
            self._stop_is_saved = True

    def _record_and_call(self) -> None:
        run, callbacks = self.run, self._settings.callbacks
        done = len(self._ran["loss"])
        if done > 1 and not callbacks and self._settings.verbose == 0:
            # Nobody looks at single epochs, and recording one can take longer than its steps.
            run.begin_epoch(self._next + done - 1)
            run.end_epoch()
            run.history.extend(**self._ran)
            self._stop_is_saved = run.stopping
            return
        rows = [dict(zip(self._ran, row, strict=True))
                for row in zip(*self._ran.values(), strict=True)]
        for i, row in enumerate(rows):
            run.begin_epoch(self._next + i)
            try:
                if i > 0:
                    for callback in callbacks:
                        callback.on_epoch_begin(run)
                run.end_epoch()
                run.history.append(**row)
                if self._settings.verbose in (1, 2):
                    print(epoch_line(run), flush=True)
                for callback in callbacks:
                    callback.on_epoch_end(run)
                self._checkpoints.after_epoch(run, self._rng, callbacks)
                self._stop_is_saved = run.stopping
            except BaseException:
                recorded = len(run.history["loss"]) - self._next
                for later in rows[recorded:]:  # the weights are those after the last one
                    run.history.append(**later)
                raise

    def agree(self) -> None:
        """Raise what another process has raised, and stop if another has been stopped."""
        if self._settings.processes is None:
            return
        self._settings.processes.agree()
        run = self.run
        for stopped in self._settings.processes.of_all(run.history.stopped):
            if stopped is not None and not run.stopping:
                run.stop(stopped)
        self.save_stop()

    def settle(self) -> None:
        """Leave step counts and weights as the caller is to find them."""
        self.interrupts.call(self.run.count_steps)
        self.interrupts.call(self.run.averages.use_average)

    def end(self) -> None:
        """Call the callbacks' `on_train_end`."""
        for callback in self._settings.callbacks:
            callback.on_train_end(self.run)

    def _epochs_at_once(self) -> float:
        """How many epochs may run before anybody else has a turn."""
        run, settings = self.run, self._settings
        shuffle = settings.shuffle
        kind: Any = type(shuffle)
        draws_ahead = checks.is_own(kind) and getattr(shuffle, "ahead", False)
        if (settings.checkpoint is not None or settings.verbose in (1, 3)
                or (callable(shuffle) and not draws_ahead)):
            return 1
        most: float = min(run.epochs - run.epoch, run.epochs_at_once())
        for callback in settings.callbacks:
            ahead: object = callback.epochs_ahead(run)
            if not isinstance(ahead, int | float | np.floating | np.integer) or not ahead >= 0:
                raise ValueError(f"{type(callback).__name__}.epochs_ahead: expected a number of "
                                 f"epochs, 0 or more, got {ahead!r}")
            if ahead < most:
                most = min(most, float(ahead) + 1)
        return most


def _orders(shuffle: bool | Callable[[int], ArrayLike], epochs: int, n: int,
            rng: np.random.Generator) -> Array:
    """The orders in which some epochs take n rows, an array of shape (epochs, n)."""
    if shuffle is False:
        order = np.arange(n)[None]
        return order if epochs == 1 else order.repeat(epochs, axis=0)
    if not callable(shuffle):
        return permutations(rng, epochs, n)
    if epochs == 1:
        return _order(shuffle, n)[None]
    return np.array([_order(shuffle, n) for _ in range(epochs)])


def _order(shuffle: Callable[[int], ArrayLike], n: int) -> Array:
    """An epoch's order of n rows, as the caller's function returns it."""
    order = shuffle(n)
    try:
        order = np.asarray(order)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"shuffle: expected {n} whole numbers from the callable, but "
                         f"{error}") from None
    if order.shape != (n,) or order.dtype.kind not in "iu":
        raise ValueError(f"shuffle: expected {n} whole numbers from the callable, one for each "
                         f"row, got {order.dtype} of shape {order.shape}")
    if order.min() < 0 or order.max() >= n:
        raise ValueError(f"shuffle: expected numbers from 0 to {n - 1} from the callable, got "
                         f"some from {order.min()} to {order.max()}")
    return np.ascontiguousarray(order, np.int64)
