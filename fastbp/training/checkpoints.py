"""Checkpoints: files in a folder from which a `fit` that was killed resumes.

A file consists of a line that names the format, a line with the SHA-256 of the rest, and the rest:
the state in the safetensors format, with arrays as tensors and everything else as JSON in the
metadata.  It is written to a temporary file, flushed and renamed, so that it never exists in part.
The last two are kept, in case the newest gets damaged.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
import warnings
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from .. import files, io
from ..kernels.types import Array
from .described import check_same, describe_piece
from .state import check_state, reason, restore_state, take_state

if TYPE_CHECKING:
    from ..callbacks import Callback
    from ..network import Sequential
    from ..optimizers import Optimizer
    from ..optimizers.rates import Rate
    from .history import History
    from .run import Training

try:
    import fcntl
except ImportError:  # on Windows, where two processes that share a folder go unnoticed
    fcntl = None  # type: ignore[assignment]  # mypy takes it for a module everywhere

__all__ = ["Checkpoints"]

HEAD = b"fastbp checkpoint 1\n"
NAME = re.compile(r"checkpoint-(\d{8}|[1-9]\d{8,})\.fastbp", re.ASCII)
UNFINISHED = re.compile(NAME.pattern + r"\.[0-9a-f]{8}\.part", re.ASCII)
LOCK = ".fastbp-lock"
KEPT = 2

# Open lock files.  A forked child inherits them, and would hold the locks after its parent's end.
held_locks: set[IO[bytes]] = set()


def _leave_to_parent() -> None:
    for lock in held_locks:
        lock.close()
    held_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class Checkpoints:
    """The checkpoints of one training, a context manager.

    In the with statement the folder is locked, so that no other training uses it.

    Parameters
    ----------
    path : str, path-like or None
        The folder, which is made if there is none; with None nothing is saved.
    every : int
        Epochs between two checkpoints.
    resume : bool
        Whether to resume from the newest checkpoint in the folder, if there is one; if False,
        there must be none.
    description : dict
        What `describe` returns for this fit; that of the checkpoints must be the same.
    learning_rate : float or callable
        What the optimizer was made with.

    Raises
    ------
    TypeError
        If `path` is not a path.
    FileExistsError, NotADirectoryError
        On entering, if there are checkpoints and `resume` is False, or the folder is a file.
    RuntimeError
        On entering, if another training uses the folder.
    ValueError
        If `path` has characters that no path may have; on entering, if the checkpoints are of
        another training, or all damaged.
    OSError
        On entering, if the folder cannot be made or written to.

    Examples
    --------
    >>> import tempfile
    >>> import fastbp as fb
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     history = fb.mlp([1, 8, 1]).fit(X, X**2, loss=fb.MeanSquaredError(), epochs=5,
    ...                                      checkpoint=folder)
    ...     sorted(name for name in os.listdir(folder) if name.endswith(".fastbp"))
    ['checkpoint-00000004.fastbp', 'checkpoint-00000005.fastbp']
    """

    def __init__(self, path: Any, every: int, resume: bool, description: dict[str, Any],
                 learning_rate: Rate) -> None:
        self.path = ""  # nothing is saved
        if path is not None:
            self.path = os.path.abspath(files.checked_path("checkpoint", path, "folder"))
        self.every = every
        self.resume = resume
        self.description = description
        self.learning_rate = describe_piece(learning_rate)
        # What to resume from, if anything: the state, its arrays and the number of epochs.
        self.saved: tuple[dict[str, Any], dict[str, Array], int] | None = None

    def __enter__(self) -> Self:
        if not self.path:
            return self
        self._make_folder()
        self._lock = self._open_lock()
        try:
            self._acquire()
            if self._epochs() and not self.resume:
                raise FileExistsError(
                    f"checkpoint: there are checkpoints in {self.path!r}; pass resume=True to "
                    f"resume from them, or another folder to start afresh"
                )
            for name in os.listdir(self.path):
                path = os.path.join(self.path, name)
                if UNFINISHED.fullmatch(name) and stat.S_ISREG(os.lstat(path).st_mode):
                    os.unlink(path)  # left behind by a process that was killed
            self.saved = self._newest()
        except BaseException:
            self._release()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self.path:
            self._release()

    def _release(self) -> None:
        """Unlock the folder."""
        held_locks.discard(self._lock)
        self._lock.close()

    def _make_folder(self) -> None:
        """Make the folder if there is none."""
        if files.status(self.path) is None:
            with contextlib.suppress(FileExistsError):  # made meanwhile, or a broken link
                os.makedirs(self.path)
        found = files.status(self.path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            what = "the broken link" if found is None else "the file"
            raise NotADirectoryError(f"checkpoint: expected a folder, got {what} {self.path!r}")

    def _open_lock(self) -> IO[bytes]:
        path = os.path.join(self.path, LOCK)
        try:
            return files.open_regular(path, "ab")
        except (ValueError, IsADirectoryError):
            raise ValueError(f"checkpoint: expected nothing or a lock file at {path!r}, got a "
                             f"pipe, a device or a folder; remove it, or pass another "
                             f"folder") from None

    def _acquire(self) -> None:
        """Lock the folder, where the system can."""
        held_locks.add(self._lock)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"checkpoint: another training is using {self.path!r}; wait for "
                               f"it, or pass another folder") from None

    def begin(self, network: Sequential, optimizer: Optimizer, callbacks: Sequence[Callback],
              history: History) -> None:
        """Check the loaded checkpoint, if any, and restore the network's seeds.

        Must be called before any random number is drawn.

        Parameters
        ----------
        network : Sequential
        optimizer : Optimizer
        callbacks : sequence of Callback
        history : History
            That of the fit that resumes, still empty.

        Raises
        ------
        ValueError
            If the checkpoint does not fit the arguments in every respect; nothing is changed then.
        """
        if self.saved is not None:
            state, arrays, epoch = self.saved
            try:
                check_state(state, arrays, epoch, network, optimizer, callbacks, history)
            except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
                    ValueError) as error:
                raise ValueError(f"checkpoint: {self._file(epoch)!r} is intact, but does not fit "
                                 f"this training: {reason(error)}; remove it to resume from the "
                                 f"one before, or pass another folder") from None
            network.seeds = {"entropy": state["entropy"], "reseeded": state["reseeded"]}
        seeds = network.seeds
        self.seeds = {name: seeds[name] for name in ("entropy", "reseeded")}

    def restore(self, run: Training, rng: np.random.Generator,
                callbacks: Sequence[Callback]) -> None:
        """Restore the saved training state, or save the initial state if there is none.

        Parameters
        ----------
        run : Training
            Before its first step.
        rng : numpy.random.Generator
            The one that shuffles the rows.
        callbacks : sequence of Callback
        """
        if self.saved is None:
            self._save(run, rng, callbacks)
            return
        state, arrays, _ = self.saved
        if state.get("first_rate") != self.learning_rate:
            state["learning_rate"] = None  # keep the optimizer's, which the caller has changed
        restore_state(run, rng, callbacks, state, arrays)
        self.saved = None

    def after_epoch(self, run: Training, rng: np.random.Generator,
                    callbacks: Sequence[Callback]) -> None:
        """Save the state if a checkpoint is due after this epoch.

        Parameters
        ----------
        run : Training
        rng : numpy.random.Generator
            The one that shuffles the rows.
        callbacks : sequence of Callback
        """
        finished = run.epoch + 1
        if finished % self.every == 0 or finished == run.epochs or run.stopping:
            self._save(run, rng, callbacks)

    def _save(self, run: Training, rng: np.random.Generator,
              callbacks: Sequence[Callback]) -> None:
        if self.path:
            state, arrays = take_state(run, rng, callbacks)
            fit = {"fit": self.description, "first_rate": self.learning_rate}
            self._write(len(run.history["loss"]), self.seeds | fit | state, arrays)

    def _epochs(self) -> list[int]:
        """The epochs of the checkpoints in the folder, newest first."""
        found = map(NAME.fullmatch, os.listdir(self.path))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _file(self, epoch: int) -> str:
        return os.path.join(self.path, f"checkpoint-{epoch:08d}.fastbp")

    def _write(self, epoch: int, state: dict[str, Any], arrays: dict[str, Array]) -> None:
        """Write a checkpoint and delete all older ones except the most recent.

        If writing fails, warn and delete nothing.
        """
        from safetensors.numpy import save

        try:
            content = save(arrays, {io.FORMAT: json.dumps(state, default=_plain)})
            digest = hashlib.sha256(content).hexdigest().encode()
            files.replace_file(self._file(epoch), HEAD + digest + b"\n" + content)
        # ValueError: there is a pipe of its name; RecursionError: lists in the history are nested
        # too deep.
        except (OSError, RecursionError, ValueError) as error:
            if files.from_handler(error):
                raise
            warnings.warn(f"the checkpoint after epoch {epoch} was not written: {error}; the "
                          f"training continues", RuntimeWarning, stacklevel=2)
            return
        # Files of later epochs are damaged ones that `_newest` skipped.  Ignore folders and pipes.
        with files.ignored_errors():
            earlier = [self._file(old) for old in self._epochs() if old < epoch]
            for path in list(filter(files.is_regular, earlier))[KEPT - 1 :]:
                os.unlink(path)

    def _newest(self) -> tuple[dict[str, Any], dict[str, Array], int] | None:
        """The state, arrays and epoch of the newest checkpoint that is intact; None if the folder
        has no checkpoints.

        Damaged ones are skipped, with a warning.
        """
        epochs = self._epochs()
        for epoch in epochs:
            path = self._file(epoch)
            try:
                state, arrays = _read(path)
            except (OSError, ValueError) as error:
                if files.from_handler(error):
                    raise
                warnings.warn(f"{path} was skipped: {error}", RuntimeWarning, stacklevel=2)
                continue
            check_same(state["fit"], self.description)
            return state, arrays, epoch
        if epochs:
            raise ValueError(f"checkpoint: none of the {len(epochs)} checkpoints in "
                             f"{self.path!r} is intact; pass another folder to start afresh")
        return None


def _plain(value: object) -> Any:
    """NumPy's numbers and arrays as JSON's numbers and lists."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"checkpoint: expected numbers, strings and arrays to save, got {value!r} "
                    f"({type(value).__name__})")


def _read(path: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """The state and the arrays in a file; ValueError if it is not an intact checkpoint."""
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with files.open_regular(path, "rb") as file:
        head, digest, content = file.readline(80), file.readline(80), file.read()
    if head != HEAD:
        raise ValueError("it is not a checkpoint that this version of fastbp can read")
    if hashlib.sha256(content).hexdigest().encode() + b"\n" != digest:
        raise ValueError("it is damaged: its checksum does not match")
    # Past the checksum, only a file that fastbp did not write can be wrong.
    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        state = dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"][io.FORMAT]))
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__}: {error})") from None
    if not isinstance(state.get("fit"), dict):
        raise ValueError("it does not hold the state of a training")
    return state, arrays
