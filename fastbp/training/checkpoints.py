"""Checkpoints of a training: a folder of files from which a killed `fit` goes on.

A file holds a line that says what it is, a line with the SHA-256 of the rest, and the rest: the
state as safetensors, numbers as tensors and everything else as JSON in the metadata.  It is
written beside its place, flushed and renamed, so that it is there whole or not at all; the last
two are kept, so that there is one to fall back on.
"""

import contextlib
import hashlib
import json
import os
import re
import stat
import warnings

import numpy as np

from .. import files, io
from . import described as descriptions
from . import state as states

try:
    import fcntl
except ImportError:  # Windows, where two processes that share a folder are not told
    fcntl = None

__all__ = ["Checkpoints"]

HEAD = b"fastbp checkpoint 1\n"
NAME = re.compile(r"checkpoint-(\d{8}|[1-9]\d{8,})\.fastbp", re.ASCII)
UNFINISHED = re.compile(NAME.pattern + r"\.[0-9a-f]{8}\.part", re.ASCII)
LOCK = ".fastbp-lock"
KEPT = 2

# Locks that are held.  A forked child would go on holding them.
held_locks = set()


def _leave_to_parent():
    for lock in held_locks:
        lock.close()
    held_locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_to_parent)


class Checkpoints:
    """The checkpoints of one training, for the with statement.

    Meanwhile no other training may use the folder.

    Parameters
    ----------
    path : str, path-like or None
        The folder, made if it is not there; with None nothing is kept.
    every : int
        Epochs between two checkpoints.
    resume : bool
        Whether to go on from a checkpoint in it; without it there may be none.
    described : dict
        What the training is made of; the same for those that may be gone on from.
    learning_rate : float or callable
        What the optimizer was made with.

    Raises
    ------
    TypeError
        If `path` is none.
    FileExistsError, NotADirectoryError
        If there are checkpoints and `resume` is false, or the folder is a file.
    RuntimeError
        If another training uses the folder.
    ValueError
        If the checkpoints there are of another training, or all damaged, or `path` holds
        characters that no path may have.
    OSError
        If the folder cannot be made or written to.
    """

    def __init__(self, path, every, resume, described, learning_rate):
        self.path = path
        if path is not None:
            self.path = os.path.abspath(files.checked_path("checkpoint", path, "folder"))
        self.every = every
        self.resume = resume
        self.described = described
        self.learning_rate = descriptions.describe_piece(learning_rate)
        self.saved = None

    def __enter__(self):
        if self.path is None:
            return self
        self._make_folder()
        self._lock = self._open_lock()
        try:
            self._acquire()
            if self._epochs() and not self.resume:
                raise FileExistsError(
                    f"checkpoint: there are checkpoints in {self.path!r}; pass resume=True to go "
                    f"on from them, or another folder to start afresh"
                )
            for name in os.listdir(self.path):
                path = os.path.join(self.path, name)
                if UNFINISHED.fullmatch(name) and stat.S_ISREG(os.lstat(path).st_mode):
                    os.unlink(path)  # what a killed training has left
            self.saved = self._newest()
        except BaseException:
            self._give_up()
            raise
        return self

    def __exit__(self, *error):
        if self.path is not None:
            self._give_up()

    def _give_up(self):
        """Let others have the folder, as the end of the process would."""
        held_locks.discard(self._lock)
        self._lock.close()

    def _make_folder(self):
        if files.status(self.path) is None:
            with contextlib.suppress(FileExistsError):  # another training's, or a link to nothing
                os.makedirs(self.path)
        found = files.status(self.path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            what = "a link to nothing at" if found is None else "the file"
            raise NotADirectoryError(f"checkpoint: expected a folder, got {what} {self.path!r}")

    def _open_lock(self):
        path = os.path.join(self.path, LOCK)
        try:
            return files.open_regular(path, "ab")
        except (ValueError, IsADirectoryError):
            raise ValueError(f"checkpoint: expected a lock file or none at {path!r}, got a pipe, "
                             f"a device or a folder; remove it, or pass another folder") from None

    def _acquire(self):
        held_locks.add(self._lock)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"checkpoint: another training is using {self.path!r}; wait for "
                               f"it, or pass another folder") from None

    def begin(self, network, optimizer, callbacks, history):
        """Before the first random number is drawn: go back to where the seeds stood.

        Raises
        ------
        ValueError
            Before anything is changed, if the checkpoint does not fit these in every respect.
        """
        if self.saved is not None:
            state, arrays, epoch = self.saved
            try:
                states.check(state, arrays, epoch, network, optimizer, callbacks, history)
            except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
                    ValueError) as error:
                raise ValueError(f"checkpoint: {self._file(epoch)!r} is whole, but not one of "
                                 f"this training: {states.reason(error)}; remove it to go on "
                                 f"from the one before, or pass another folder") from None
            network.seeds = {"entropy": state["entropy"], "reseeded": state["reseeded"]}
        seeds = network.seeds
        self.seeds = {name: seeds[name] for name in ("entropy", "reseeded")}

    def restore(self, run, rng, callbacks):
        """Set a training that has just begun to the state that was kept; keep the first one."""
        if self.saved is None:
            self._keep(run, rng, callbacks)
            return
        state, arrays, _ = self.saved
        if state.get("first_rate") != self.learning_rate:
            state["learning_rate"] = None  # the caller has another in mind
        states.restore(run, rng, callbacks, state, arrays)
        self.saved = None

    def after_epoch(self, run, rng, callbacks):
        """Keep the state, where it is time to."""
        made = run.epoch + 1
        if made % self.every == 0 or made == run.epochs or run.stopping:
            self._keep(run, rng, callbacks)

    def _keep(self, run, rng, callbacks):
        if self.path is not None:
            state, arrays = states.take(run, rng, callbacks)
            fit = {"fit": self.described, "first_rate": self.learning_rate}
            self._write(len(run.history["loss"]), self.seeds | fit | state, arrays)

    def _epochs(self):
        """Of the files there are, the newest first."""
        found = map(NAME.fullmatch, os.listdir(self.path))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def _file(self, epoch):
        return os.path.join(self.path, f"checkpoint-{epoch:08d}.fastbp")

    def _write(self, epoch, state, arrays):
        """Add a checkpoint, and remove those before the last two.

        If it cannot be written there is a warning, and those before it stay.
        """
        from safetensors.numpy import save

        content = save(arrays, {io.FORMAT: json.dumps(state, default=_plain)})
        digest = hashlib.sha256(content).hexdigest().encode()
        try:
            files.replace_file(self._file(epoch), HEAD + digest + b"\n" + content)
        except (OSError, ValueError) as error:  # ValueError: a pipe is in its place
            if files.from_handler(error):
                raise
            warnings.warn(f"the checkpoint after epoch {epoch} was not written: {error}; the "
                          f"training goes on", RuntimeWarning, stacklevel=2)
            return
        # Those of later epochs, which were passed over, do not count, nor does what is no file.
        with files.ignored_errors():
            earlier = [self._file(old) for old in self._epochs() if old < epoch]
            for path in list(filter(files.is_regular, earlier))[KEPT - 1 :]:
                os.unlink(path)

    def _newest(self):
        """The newest checkpoint that is whole, as state, arrays and epoch; None without any.

        One that is damaged is passed over with a warning.
        """
        epochs = self._epochs()
        for epoch in epochs:
            path = self._file(epoch)
            try:
                state, arrays = _read(path)
            except (OSError, ValueError) as error:
                if files.from_handler(error):
                    raise
                warnings.warn(f"{path} is passed over: {error}", RuntimeWarning, stacklevel=2)
                continue
            descriptions.compare(state["fit"], self.described)
            return state, arrays, epoch
        if epochs:
            raise ValueError(f"checkpoint: none of the {len(epochs)} checkpoints in "
                             f"{self.path!r} is whole; pass another folder to start afresh")
        return None


def _plain(value):
    """Numbers and arrays of NumPy's as JSON knows them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"checkpoint: expected numbers, texts and arrays to be kept, got {value!r} "
                    f"({type(value).__name__})")


def _read(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with files.open_regular(path, "rb") as file:
        head, digest, content = file.readline(80), file.readline(80), file.read()
    if head != HEAD:
        raise ValueError("it is no checkpoint of this version of fastbp")
    if hashlib.sha256(content).hexdigest().encode() + b"\n" != digest:
        raise ValueError("it is damaged: its checksum is another")
    # The checksum vouches for the rest; these are for a file that somebody has made.
    try:
        arrays = load(content)
        length = int.from_bytes(content[:8], "little")
        state = dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"][io.FORMAT]))
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read ({type(error).__name__}: {error})") from None
    if not isinstance(state.get("fit"), dict):
        raise ValueError("it is not one of a training")
    return state, arrays
