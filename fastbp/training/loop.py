"""The loop over epochs that `Sequential.fit` runs.

From top to bottom: check the arguments, then for each epoch run the steps, evaluate, record, and
call the callbacks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import checks
from ..kernels.types import Array
from ..stack import shuffling
from .checkpoints import Checkpoints
from .data import Dataset
from .described import describe
from .history import History
from .interrupts import DeferInterrupt
from .progress import Progress, epoch_line
from .run import Training

if TYPE_CHECKING:
    from ..network import Sequential
    from .settings import Settings

__all__ = ["fit"]


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
    optimizer = settings.optimizer
    if optimizer.uses_layers:
        optimizer.assign(network)
    optimizer.group_rates(0.0, network.parameters.size)
    data = Dataset(network, X, y, settings.loss, settings.sample_weight)
    validation = None
    if settings.validation_data is not None:
        X_val, y_val, *w_val = settings.validation_data
        validation = Dataset(network, X_val, y_val, settings.loss, w_val[0] if w_val else None,
                             prefix="validation_data ")
    if settings.validation_fraction > 0:
        data.n_validation(settings.validation_fraction)
    described = {} if settings.checkpoint is None else describe(
        data, validation, layers=network.layers, dtype=str(network.dtype), **settings.identity())
    lock = optimizer.exclusive_use("optimizer")
    try:
        with Checkpoints(settings.checkpoint, settings.checkpoint_every, settings.resume,
                         described, optimizer.initial_learning_rate) as checkpoints:
            return _fit(network, data, validation, settings, checkpoints)
    finally:
        lock.release()


def _fit(network: Sequential, data: Dataset, validation: Dataset | None, settings: Settings,
         checkpoints: Checkpoints) -> History:
    """`fit` with all arguments checked."""
    loss, callbacks = settings.loss, settings.callbacks
    metric = [] if loss.metric is None else [loss.metric.name]
    keys = ["loss", *metric]
    if validation is not None or settings.validation_fraction > 0:
        keys += ["val_" + key for key in keys]
    keys += ["learning_rate", "seconds"] + ["gradient_norms"] * settings.gradient_norms
    names = [
        f"{where} {type(layer).__name__}"
        for where, layer in network.leaves if layer.n_parameters
    ]
    history = History(keys, names)
    checkpoints.begin(network, settings.optimizer, callbacks, history)
    stream = network.random_stream(settings.seed)
    rng = shuffling(stream)
    if settings.validation_fraction > 0:
        data, validation = data.split(data.n_validation(settings.validation_fraction), rng)
    run = Training(network, data, settings.optimizer, settings.epochs, settings.batch_size,
                   history, settings.l2, validation, settings.ema)
    run.averages.resume()
    for callback in callbacks:
        callback.on_train_begin(run)
    network.use_stream(stream)
    network.history = history
    checkpoints.restore(run, rng, callbacks)
    run.begin_epoch(max(0, len(history["loss"]) - 1))
    _run_epochs(run, len(data), settings, rng, checkpoints)
    for callback in callbacks:
        callback.on_train_end(run)
    return history


def _run_epochs(run: Training, n_rows: int, settings: Settings, rng: np.random.Generator,
                checkpoints: Checkpoints) -> None:
    """Run the epochs that are left."""
    callbacks, epoch = settings.callbacks, len(run.history["loss"])

    def finish(values: dict[str, list[Any]]) -> None:
        """Record epochs that have run, and call who is to be called between them."""
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        for i, row in enumerate(rows):
            run.begin_epoch(epoch + i)
            try:
                if i > 0:
                    for callback in callbacks:
                        callback.on_epoch_begin(run)
                run.end_epoch()
                run.history.append(**row)
                if settings.verbose in (1, 2):
                    print(epoch_line(run), flush=True)
                for callback in callbacks:
                    callback.on_epoch_end(run)
                checkpoints.after_epoch(run, rng, callbacks)
            except BaseException:
                recorded = len(run.history["loss"]) - epoch
                for later in rows[recorded:]:  # the weights are those after the last one
                    run.history.append(**later)
                raise

    with DeferInterrupt() as interrupts:
        try:
            while epoch < run.epochs and not run.stopping:
                run.begin_epoch(epoch)
                for callback in callbacks:
                    callback.on_epoch_begin(run)
                if callbacks:  # one may have installed a signal handler of its own
                    interrupts.install()
                orders: Array | None = None  # the last are freed before the next are drawn
                orders = _orders(settings.shuffle, _epochs_at_once(run, settings), n_rows, rng)
                try:
                    with Progress(run, settings.verbose) as progress:
                        values = run.run_epochs(orders, interrupts, progress)
                except BaseException:
                    finish(run.complete_epochs())
                    raise
                done = len(values["loss"])
                if done == 1:
                    finish(values)
                else:
                    interrupts.call(finish, values)
                run.measure(done)
                epoch += done
        finally:
            interrupts.call(run.count_steps)
            interrupts.call(run.averages.use_average)


def _epochs_at_once(run: Training, settings: Settings) -> int:
    """How many epochs to run before anybody else has a turn."""
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
    return max(1, int(most))


def _orders(shuffle: bool | Callable[[int], ArrayLike], epochs: int, n: int,
            rng: np.random.Generator) -> Array:
    """The orders in which some epochs take n rows, an array of shape (epochs, n)."""
    if shuffle is False:
        order = np.arange(n)[None]
        return order if epochs == 1 else order.repeat(epochs, axis=0)
    if epochs == 1:
        return _order(shuffle, n, rng)[None]
    return np.array([_order(shuffle, n, rng) for _ in range(epochs)])


def _order(shuffle: bool | Callable[[int], ArrayLike], n: int, rng: np.random.Generator) -> Array:
    """An epoch's order of n rows: at random, or as the caller's function returns it."""
    if not callable(shuffle):
        return rng.permutation(n)
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
