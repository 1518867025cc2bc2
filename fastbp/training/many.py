"""Many networks trained on the same data at the same time: `fastbp.fit_many`."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike

from ..callbacks import EarlyStopping
from ..files import checked_path
from ..kernels import checks, threads
from ..optimizers import Adam, Optimizer
from ..stack import Stack
from .interrupts import DeferInterrupt
from .loop import Loop
from .progress import EpochProgress
from .settings import Settings, check_verbose

if TYPE_CHECKING:
    from ..callbacks import Callback
    from ..losses import Loss
    from ..network import Sequential
    from .history import History
    from .run import Training

__all__ = ["fit_many"]

# Each has a stack of its own.
MOST_WORKERS = 256
# Seconds until Ctrl-C is noticed while workers are waited for.
POLL = 0.05


def fit_many(
    networks: Sequence[Sequential], X: ArrayLike, y: ArrayLike, *,
    loss: Loss | Sequence[Loss], optimizers: Optimizer | Sequence[Optimizer] | None = None,
    epochs: int | Sequence[int] = 10, batch_size: int | Sequence[int] = 32,
    sample_weight: ArrayLike | None = None, l2: float | Sequence[float] = 0.0,
    validation_data: Any = None, validation_fraction: float = 0.0,
    patience: int | Sequence[int | None] | None = None,
    callbacks: Sequence[Sequence[Callback | Callable[[Training], Any]]] | None = None,
    on_epoch_end: Callable[[list[Training]], object] | None = None,
    shuffle: bool = True, gradient_norms: bool = False,
    seeds: int | Sequence[int | None] | None = None, n_threads: int | None = None,
    verbose: int = 0, checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 1, resume: bool = False,
    ema: float | Sequence[float | None] | None = None,
) -> list[History]:
    """Train many networks on the same data at the same time.

    Threads are shared out over the networks and, once there are fewer networks than threads, within
    them.  Each network ends with the same bits as when it is trained alone by `Sequential.fit`,
    whatever the number of threads and the other networks.

    Parameters
    ----------
    networks : sequence of Sequential
        They need not be alike.
    X, y : array_like
        As for `Sequential.fit`.
    loss : Loss or sequence of Loss
        Like every argument of which sequences are accepted: one for all networks, or one for each.
    optimizers : Optimizer or sequence of Optimizer, default Adam()
        One for each network.  Of a single one, each network gets a copy.
    epochs : int or sequence of int, default 10
    batch_size : int or sequence of int, default 32
    sample_weight : array_like of shape (rows,), optional
    l2 : float or sequence of float, default 0.0
    validation_data : tuple (X, y) or (X, y, sample_weight), optional
    validation_fraction : float in [0, 1), default 0.0
        Each network's validation rows are drawn with its seed.
    patience : int or sequence of int, optional
        End a network's training when its validation loss has not improved for so many epochs, and
        restore its best weights, as by `EarlyStopping`.
    callbacks : sequence of sequences of Callback or callable, optional
        A list for each network, as `Sequential.fit` takes it.  A callback with a state of its own
        should be in one list only; `EarlyStopping`, `Plateau` and `TensorBoard` must.
    on_epoch_end : callable, optional
        Called after each epoch with a list of all networks' `fastbp.training.Training`, also of
        those that have ended.  It may end any of them: ``trainings[2].stop(reason)``.
    shuffle : bool, default True
    gradient_norms : bool, default False
    seeds : int or sequence of int, optional
        The seed of each network's `fit`; a number s stands for s, s + 1, s + 2, …
    n_threads : int, optional
        Largest number of threads for all networks together, instead of the one set by
        `set_num_threads`.  Results do not depend on it.
    verbose : int, default 0
        0 prints nothing; 1 a line per epoch and a progress bar over all networks' epochs (with
        ``pip install "fastbp[progress]"``); 2 the lines alone; 3 the bar alone.
    checkpoint : str or path-like, optional
        Folder in which each network has a folder for its checkpoints: ``0000``, ``0001``, …
    checkpoint_every : int, default 1
    resume : bool, default False
        As for `Sequential.fit`, for each network.
    ema : float in [0, 1) or sequence of float, optional

    Returns
    -------
    list of History
        One for each network.  Where a training diverged, its attribute `stopped` says so.

    Warns
    -----
    RuntimeWarning
        If the training of a network diverges.  It keeps its last finite weights, or with `patience`
        its best ones, and the others are trained on.

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid, before anything is changed; the message, or a note added to it,
        names the network.
    FileExistsError, NotADirectoryError, RuntimeError
        As `Sequential.fit`.
    KeyboardInterrupt
        On Ctrl-C.  Each network keeps the steps made.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(200, 4))
    >>> y = X[:, :1] * X[:, 1:2]
    >>> rates = [0.001, 0.01, 0.1]
    >>> networks = [fb.mlp([4, 32, 1], seed=0) for _ in rates]
    >>> histories = fb.fit_many(networks, X, y, loss=fb.MeanSquaredError(), epochs=20, seeds=0,
    ...                         optimizers=[fb.Adam(rate) for rate in rates])
    >>> [len(history["loss"]) for history in histories]
    [20, 20, 20]
    """
    networks = _checked_networks(networks)
    n = len(networks)
    check_verbose(verbose)
    if on_epoch_end is not None and not callable(on_epoch_end):
        raise TypeError(f"on_epoch_end: expected a function of a list of trainings, got "
                        f"{on_epoch_end!r}")
    if callable(shuffle):
        raise TypeError("shuffle: expected True or False, got a function, whose orders would "
                        "depend on which network asks first; use Sequential.fit")
    folder = None if checkpoint is None else checked_path("checkpoint", checkpoint, "folder")
    each: dict[str, list[Any]] = {
        "loss": _one_each("loss", loss, n),
        "optimizer": _optimizers(optimizers, n),
        "callbacks": _callbacks(callbacks, patience, n),
        "seed": _seeds(seeds, n),
        "checkpoint": [None if folder is None else os.path.join(folder, f"{i:04d}")
                       for i in range(n)],
    }
    for name, value in {"epochs": epochs, "batch_size": batch_size, "l2": l2, "ema": ema}.items():
        each[name] = _one_each(name, value, n)
    X = _converted(X, {network.dtype for network in networks})
    held: list[threading.Lock] = []
    try:
        with threads.using(n_threads), contextlib.ExitStack() as stack:
            loops = []
            for i, network in enumerate(networks):
                with _noting(i):
                    held.append(network.exclusive_use("network"))
                    settings = Settings(
                        **{name: values[i] for name, values in each.items()},
                        sample_weight=sample_weight, validation_data=validation_data,
                        validation_fraction=validation_fraction, shuffle=shuffle,
                        gradient_norms=gradient_norms, verbose=0,
                        checkpoint_every=checkpoint_every, resume=resume)
                    loops.append(Loop(network, X, y, settings))
            for i, loop in enumerate(loops):
                with _noting(i):
                    stack.enter_context(loop)
            for i, loop in enumerate(loops):
                with _noting(i):
                    loop.prepare()
            for i, loop in enumerate(loops):
                with _noting(i):
                    loop.begin()
            _Rounds(loops, on_epoch_end, verbose).run()
            return [loop.run.history for loop in loops]
    finally:
        for lock in held:
            lock.release()


class _Cancelled(Exception):
    """Raised in a training to end it because another one has failed."""


class _Rounds:
    """The trainings, in rounds: in each, every network that is not done runs some epochs.

    Between the rounds only the calling thread is at work, so callbacks are called in the order of
    the networks.  With `on_epoch_end` a round is one epoch, the same of all networks.
    """

    def __init__(self, loops: list[Loop], on_epoch_end: Callable[[list[Training]], object] | None,
                 verbose: int) -> None:
        self.loops, self.on_epoch_end, self.verbose = loops, on_epoch_end, verbose
        self.trainings = [loop.run for loop in loops]
        self.interrupts, self.caller = DeferInterrupt(), threading.get_ident()
        self.cancelled = threading.Event()
        self.diverged: dict[int, FloatingPointError] = {}

    def run(self) -> None:
        """Train all networks to their ends."""
        with (_Workers(len(self.loops)) as workers, self.interrupts,
              EpochProgress(self.trainings, self.verbose) as progress):
            try:
                while running := self._running():
                    self._begin_epochs(running)
                    # Python ignores an exception that a signal handler raises at some places, so it
                    # is called in `update`, and while the workers are waited for.
                    self.interrupts.call(self._run_round, running, workers)
                    if self.on_epoch_end is not None:
                        self.on_epoch_end(list(self.trainings))
                    self.interrupts.call(_for_each, running, self._save_stop)
                    progress.update()
            finally:
                self.interrupts.call(_for_each, range(len(self.loops)), self._settle)
        for i, loop in enumerate(self.loops):
            with _noting(i):
                loop.end()

    def _save_stop(self, i: int) -> None:
        self.loops[i].save_stop()

    def _settle(self, i: int) -> None:
        self.loops[i].settle()

    def _running(self) -> list[int]:
        """The networks that take part in the next round."""
        running = [i for i, loop in enumerate(self.loops) if loop.is_running]
        if self.on_epoch_end is None or not running:
            return running
        # Of networks that resume from checkpoints of different epochs, those behind run first.
        epoch = min(self.loops[i].next_epoch for i in running)
        return [i for i in running if self.loops[i].next_epoch == epoch]

    def _begin_epochs(self, running: list[int]) -> None:
        one_by_one = self.on_epoch_end is not None or self.verbose in (1, 2)
        for i in running:
            with _noting(i):
                self.loops[i].begin_epochs(1 if one_by_one else math.inf)
        self.interrupts.install()  # a callback may have installed a handler of its own

    def _run_round(self, running: list[int], workers: _Workers) -> None:
        # The longest first, so that at the end of the round few threads wait for long.
        order = sorted(running, key=lambda i: -self.trainings[i].network.parameters.size)
        try:
            workers.map(self._run_epochs, order, self.cancelled, self.interrupts)
        finally:
            _for_each(running, self._end_epochs)

    def _run_epochs(self, i: int) -> None:
        with _noting(i):
            try:
                self.loops[i].run_epochs(self)
            except FloatingPointError as error:  # no reason to end the others
                self.diverged[i] = error

    def update(self, steps: int, run: Training) -> None:
        """After some steps of a training: handle Ctrl-C, or end it if another one has failed."""
        if threading.get_ident() == self.caller:
            self.interrupts.handle()
        if self.cancelled.is_set():
            raise _Cancelled

    def _end_epochs(self, i: int) -> None:
        error = self.diverged.pop(i, None)
        self.loops[i].end_epochs()
        if error is not None:
            self.trainings[i].stop(str(error))
            self.loops[i].settle()  # it has run its last step
            warnings.warn(f"networks[{i}]: {error}", RuntimeWarning, stacklevel=7)


class _Workers:
    """Threads that train networks; a context manager.

    Parameters
    ----------
    n_networks : int
    """

    def __init__(self, n_networks: int) -> None:
        self.limit = threads.get_num_threads()
        self.n_workers = min(self.limit, n_networks, MOST_WORKERS)
        self.left, self.lock = 0, threading.Lock()

    def __enter__(self) -> Self:
        self.pool = ThreadPoolExecutor(self.n_workers, "fastbp") if self.n_workers > 1 else None
        return self

    def __exit__(self, *error: object) -> None:
        if self.pool is not None:
            self.pool.shutdown()

    def map(self, function: Callable[[int], None], items: list[int], cancelled: threading.Event,
            interrupts: DeferInterrupt) -> None:
        """Call a function of each item, and raise the first error once all calls have ended.

        Parameters
        ----------
        function : callable
        items : list of int
        cancelled : threading.Event
            Set if one raises an error, or on Ctrl-C; then the others should end early.
        interrupts : DeferInterrupt
        """
        if self.pool is None or len(items) == 1:  # with all threads
            for item in items:
                function(item)
            return
        self.left = len(items)
        futures: list[Future[None]] = []
        try:
            for item in items:
                futures.append(self.pool.submit(self._call, function, item))
            while not any(map(_has_failed, futures)) and wait(futures, POLL).not_done:
                interrupts.handle()
        finally:
            if not all(future.done() for future in futures):
                cancelled.set()
                wait(futures)
        errors = [error for future in futures if (error := future.exception()) is not None]
        for error in errors:
            if not isinstance(error, _Cancelled):
                raise error

    def _call(self, function: Callable[[int], None], item: int) -> None:
        try:
            with threads.using(self.limit, shared_by=min(self.n_workers, self.left)):
                function(item)
        finally:
            with self.lock:
                self.left -= 1


def _has_failed(future: Future[None]) -> bool:
    return future.done() and future.exception() is not None


def _for_each(networks: Iterable[int], function: Callable[[int], None]) -> None:
    """Call a function for each network, even after an error, and raise the first one."""
    first: BaseException | None = None
    for i in networks:
        try:
            with _noting(i):
                function(i)
        except BaseException as raised:
            first = first or raised
    if first is not None:
        raise first


@contextlib.contextmanager
def _noting(i: int) -> Iterator[None]:
    """Add to an error which network it was raised for."""
    try:
        yield
    except (KeyboardInterrupt, _Cancelled):
        raise
    except BaseException as error:
        error.add_note(f"(for networks[{i}])")
        raise


def _checked_networks(networks: Any) -> list[Sequential]:
    if isinstance(networks, Stack) or not isinstance(networks, Iterable):
        raise TypeError(f"networks: expected a list of networks, got a {type(networks).__name__}")
    checked = list(networks)
    for i, network in enumerate(checked):
        if not isinstance(network, Stack):
            raise TypeError(f"networks[{i}]: expected a Sequential, got {network!r}")
    if not checked:
        raise ValueError("networks: expected at least one network, got none")
    _check_different("networks", checked)
    return checked


def _converted(X: Any, dtypes: set[np.dtype[Any]]) -> Any:
    """X as an array, which the networks share; a sparse one in their dtype, if it is the same."""
    if not checks.is_sparse(X):
        return checks.real_numbers("X", X)
    X = checks.sparse_rows("X", X)
    if len(dtypes) == 1 and X.dtype.kind == "f":
        with np.errstate(over="ignore"):  # what is infinite then is refused
            X = X.astype(dtypes.pop(), copy=False)
    return X


def _check_different(name: str, objects: list[Any]) -> None:
    first: dict[int, int] = {}
    for i, each in enumerate(objects):
        if first.setdefault(id(each), i) != i:
            raise ValueError(f"{name}: expected {len(objects)} different ones, got the same at "
                             f"{first[id(each)]} and {i}; use a copy: copy.deepcopy")


def _are_several(value: Any) -> bool:
    return (isinstance(value, Sequence) and not isinstance(value, str)) or (
        isinstance(value, np.ndarray) and value.ndim > 0)


def _one_each(name: str, value: Any, n: int) -> list[Any]:
    """A value for each of n networks."""
    if not _are_several(value):
        return [value] * n
    if len(value) != n:
        raise ValueError(f"{name}: expected one for all networks or {n}, one for each, got "
                         f"{len(value)}")
    return list(value)


def _optimizers(optimizers: Any, n: int) -> list[Any]:
    if optimizers is None:
        return [Adam() for _ in range(n)]
    if isinstance(optimizers, Optimizer):
        return [copy.deepcopy(optimizers) for _ in range(n)]
    if not _are_several(optimizers):
        raise TypeError(f"optimizers: expected an Optimizer such as Adam(), or {n} of them, got "
                        f"{optimizers!r}")
    each = _one_each("optimizers", optimizers, n)
    _check_different("optimizers", each)
    return each


def _seeds(seeds: Any, n: int) -> list[Any]:
    if seeds is None or _are_several(seeds):
        return _one_each("seeds", seeds, n)
    first = checks.integer("seeds", seeds, 0)
    return [first + i for i in range(n)]


def _callbacks(callbacks: Any, patience: Any, n: int) -> list[list[Any]]:
    if callbacks is None:
        lists: list[Any] = [[] for _ in range(n)]
    else:
        lists = list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
        if len(lists) != n or not all(isinstance(each, list | tuple) for each in lists):
            raise ValueError(f"callbacks: expected {n} lists, one for each network, got "
                             f"{callbacks!r}; for a function that is called once an epoch use "
                             f"on_epoch_end")
    stopping = [None if each is None else EarlyStopping(each)
                for each in _one_each("patience", patience, n)]
    return [[*([] if stop is None else [stop]), *each]
            for stop, each in zip(stopping, lists, strict=True)]
