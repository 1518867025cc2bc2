"""The arguments of `Sequential.fit`, checked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..callbacks import Callback, EachEpoch
from ..kernels import checks
from ..losses import Loss
from ..optimizers import Optimizer
from .distributed import Processes

__all__ = ["Settings", "check_verbose"]


@dataclass(kw_only=True)
class Settings:
    """The arguments of `Sequential.fit` but for X, y and the threads.

    They are checked and converted when an object is made.  `Sequential.fit` documents them, and has
    the defaults.
    """

    loss: Loss
    optimizer: Optimizer
    epochs: int
    batch_size: int
    sample_weight: ArrayLike | None
    l2: float
    validation_data: Any
    validation_fraction: float
    callbacks: Any  # a list of Callback, once they are checked
    shuffle: bool | Callable[[int], ArrayLike]
    gradient_norms: bool
    seed: int | None
    verbose: int
    checkpoint: Any
    checkpoint_every: int
    resume: bool
    ema: float | None
    processes: Processes | None = None

    def __post_init__(self) -> None:
        self.epochs = checks.integer("epochs", self.epochs, 1)
        self.batch_size = checks.integer("batch_size", self.batch_size, 1)
        self.validation_fraction = checks.number(
            "validation_fraction", self.validation_fraction, 0, 1, high_open=True)
        self.l2 = checks.not_negative("l2", self.l2)
        if self.seed is not None:
            self.seed = checks.integer("seed", self.seed, 0)
        if not isinstance(self.optimizer, Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer such as Adam(), got "
                            f"{self.optimizer!r}")
        self.shuffle = _checked_shuffle(self.shuffle)
        self.gradient_norms = checks.boolean("gradient_norms", self.gradient_norms)
        self.resume = checks.boolean("resume", self.resume)
        check_verbose(self.verbose)
        if self.processes is not None and self.processes.rank > 0:
            self.verbose = 0  # the first process prints
        if self.ema is not None:
            self.ema = checks.fraction("ema", self.ema)
            if self.optimizer.averaged is not None:
                raise ValueError(f"ema: expected None with {type(self.optimizer).__name__}, which "
                                 f"averages the weights itself")
        self.callbacks = _checked_callbacks(self.callbacks)
        self.checkpoint_every = checks.integer("checkpoint_every", self.checkpoint_every, 1)
        if self.checkpoint is None and self.resume:
            raise ValueError("resume: expected False without checkpoint, the folder to go on from")
        if self.checkpoint is not None and callable(self.shuffle):
            raise ValueError("shuffle: expected True or False with checkpoint, which cannot keep "
                             "the state of a function")
        if self.validation_data is not None:
            given = self.validation_data
            if not isinstance(given, tuple | list) or len(given) not in (2, 3):
                raise ValueError(f"validation_data: expected a tuple (X, y) or (X, y, "
                                 f"sample_weight), got {type(given).__name__}")
            self.validation_fraction = 0.0

    def identity(self) -> dict[str, Any]:
        """The settings that must match a checkpoint's for training to resume from it.

        Returns
        -------
        dict
            For `fastbp.training.described.describe`.
        """
        names = ("loss", "optimizer", "l2", "batch_size", "shuffle", "gradient_norms", "seed",
                 "validation_fraction")
        described = {name: getattr(self, name) for name in names}
        described["callbacks"] = [type(callback).__name__ for callback in self.callbacks]
        if self.ema is not None:
            described["ema"] = self.ema
        if self.optimizer.groups:
            described["groups"] = [repr(group) for group in self.optimizer.groups]
        return described


def check_verbose(verbose: object) -> None:
    """Raise ValueError unless `verbose` is 0, 1, 2 or 3."""
    if not isinstance(verbose, int | np.integer) or not 0 <= verbose <= 3:
        raise ValueError(f"verbose: expected 0, 1, 2 or 3, got {verbose!r}")


def _checked_shuffle(shuffle: Any) -> bool | Callable[[int], ArrayLike]:
    if callable(shuffle):
        return shuffle  # type: ignore[no-any-return]  # what it returns is checked in each epoch
    if isinstance(shuffle, bool | np.bool_):
        return bool(shuffle)
    raise TypeError(f"shuffle: expected True, False or a function that returns an order of the "
                    f"rows, got a {type(shuffle).__name__}; for the same order in each epoch "
                    f"pass shuffle=lambda n: order, for orders that follow from a seed pass seed")


def _checked_callbacks(callbacks: Any) -> list[Callback]:
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
    return [_checked_callback(callback) for callback in callbacks]


def _checked_callback(callback: Any) -> Callback:
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type):
        raise TypeError(f"callbacks: expected a callback, got the class {callback.__name__}; "
                        f"make one: {callback.__name__}()")
    if callable(callback):
        return EachEpoch(callback)
    raise TypeError(f"callbacks: expected Callback objects or functions, got {callback!r}")
