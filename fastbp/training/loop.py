"""The loop over epochs that `Sequential.fit` runs.

From top to bottom: check the arguments, then for each epoch run the steps, evaluate, record, and
call the callbacks.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from ..kernels.types import Array
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
    if optimizer.groups:
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
    streams = network.random_streams(settings.seed)
    rng = np.random.default_rng(streams[0])
    if settings.validation_fraction > 0:
        data, validation = data.split(data.n_validation(settings.validation_fraction), rng)
    run = Training(network, data, settings.optimizer, settings.epochs, settings.batch_size,
                   history, settings.l2, validation, settings.ema)
    run.go_on()
    for callback in callbacks:
        callback.on_train_begin(run)
    network.use_streams(streams)
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
    history, shuffle, callbacks = run.history, settings.shuffle, settings.callbacks
    rows = None if shuffle else np.arange(n_rows)
    with DeferInterrupt() as interrupts:
        try:
            for epoch in range(len(history["loss"]), run.epochs):
                if run.stopping:
                    break
                run.begin_epoch(epoch)
                for callback in callbacks:
                    callback.on_epoch_begin(run)
                if callbacks:  # one may have installed a signal handler of its own
                    interrupts.install()
                start = time.perf_counter()
                order: Array | None = None  # the last epoch's is freed before the next is drawn
                order = _order(shuffle, n_rows, rng) if rows is None else rows
                with Progress(run, settings.verbose) as progress:
                    row = run.run_epoch(order, interrupts, progress)
                history.append(seconds=time.perf_counter() - start, **row)
                if settings.verbose in (1, 2):
                    print(epoch_line(run), flush=True)
                for callback in callbacks:
                    callback.on_epoch_end(run)
                checkpoints.after_epoch(run, rng, callbacks)
        finally:
            interrupts.call(run.count_steps)
            interrupts.call(run.use_average)


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
