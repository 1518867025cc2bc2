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
import warnings
import zlib

import numpy as np

from . import io
from .kernels import checks

try:
    import fcntl
except ImportError:  # Windows, where two processes that share a folder are not told
    fcntl = None

__all__ = ["Checkpoints"]

HEAD = b"fastbp checkpoint 1\n"
NAME = re.compile(r"checkpoint-(\d{8,})\.fastbp")
UNFINISHED = re.compile(NAME.pattern + r"\.[0-9a-f]{8}\.part")
LOCK = ".fastbp-lock"
KEPT = 2

# Locks that are held.  A forked child would go on holding them.
claims = set()


def _leave_to_parent():
    for lock in claims:
        lock.close()
    claims.clear()


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
        If the checkpoints there are of another training, or all damaged.
    OSError
        If the folder cannot be made or written to.
    """

    def __init__(self, path, every, resume, described, learning_rate):
        if path is not None and not (isinstance(path, str | bytes | os.PathLike) and path):
            raise TypeError(f"checkpoint: expected the path of a folder, got {path!r}")
        self.path = None if path is None else os.path.abspath(os.fsdecode(path))
        self.every = every
        self.resume = resume
        self.described = described
        self.learning_rate = _describe(learning_rate)
        self.saved = None

    def __enter__(self):
        if self.path is None:
            return self
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise NotADirectoryError(f"checkpoint: expected a folder, got the file {self.path!r}")
        os.makedirs(self.path, exist_ok=True)
        self._lock = open(os.path.join(self.path, LOCK), "a")
        try:
            self._claim()
            if self._epochs() and not self.resume:
                raise FileExistsError(
                    f"checkpoint: there are checkpoints in {self.path!r}; pass resume=True to go "
                    f"on from them, or another folder to start afresh"
                )
            for name in os.listdir(self.path):
                if UNFINISHED.fullmatch(name):  # what a killed training has left
                    os.unlink(os.path.join(self.path, name))
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
        claims.discard(self._lock)
        self._lock.close()

    def _claim(self):
        claims.add(self._lock)
        if fcntl is None:
            return
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(f"checkpoint: another training is using {self.path!r}; wait for "
                               f"it, or pass another folder") from None

    def begin(self, network):
        """Before the first random number is drawn: go back to where the seeds stood."""
        if self.saved is not None:
            state, _ = self.saved
            network._entropy, network._reseeded = state["entropy"], state["reseeded"]
        self.seeds = {"entropy": network._entropy, "reseeded": network._reseeded}

    def restore(self, run, rng, callbacks):
        """Set a training that has just begun to the state that was kept; keep the first one."""
        if self.saved is not None:
            if self.saved[0].get("first_rate") != self.learning_rate:
                self.saved[0]["learning_rate"] = None  # the caller has another in mind
            try:
                _restore(run, rng, callbacks, *self.saved)
            except (AttributeError, ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise ValueError(f"checkpoint: the newest in {self.path!r} is whole, but not one "
                                 f"of this training ({type(error).__name__}: {error})") from None
            self.saved = None
        else:
            self._keep(run, rng, callbacks)

    def after_epoch(self, run, rng, callbacks):
        """Keep the state, where it is time to."""
        made = run.epoch + 1
        if made % self.every == 0 or made == run.epochs or run.stopping:
            self._keep(run, rng, callbacks)

    def _keep(self, run, rng, callbacks):
        if self.path is not None:
            state, arrays = _state(run, rng, callbacks)
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
            io.replace_file(self._file(epoch), HEAD + digest + b"\n" + content)
        except OSError as error:
            warnings.warn(f"the checkpoint after epoch {epoch} was not written: {error}; the "
                          f"training goes on", RuntimeWarning, stacklevel=2)
            return
        with contextlib.suppress(OSError):
            for old in self._epochs()[KEPT:]:
                os.unlink(self._file(old))

    def _newest(self):
        """The state and arrays of the newest checkpoint that is whole; None without any.

        One that is damaged is passed over with a warning.
        """
        epochs = self._epochs()
        for epoch in epochs:
            path = self._file(epoch)
            try:
                state, arrays = _read(path)
            except (OSError, ValueError) as error:
                warnings.warn(f"{path} is passed over: {error}", RuntimeWarning, stacklevel=2)
                continue
            _compare(state["fit"], self.described)
            return state, arrays
        if epochs:
            raise ValueError(f"checkpoint: none of the {len(epochs)} checkpoints in "
                             f"{self.path!r} is whole; pass another folder to start afresh")
        return None


def _state(run, rng, callbacks):
    """A training between two epochs: what JSON can hold, and arrays."""
    network, optimizer = run.network, run.optimizer
    optimizer.start(network.parameters)
    arrays = {"parameters": network.parameters}
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state.items()}
    kept = [{name: getattr(callback, name) for name in callback.kept} for callback in callbacks]
    for i, values in enumerate(kept):
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                # safetensors would write a view's memory, whatever its strides.
                arrays[f"callbacks.{i}.{name}"] = np.array(value, order="C")
                values[name] = None
    rate = optimizer.learning_rate
    state = {
        "rng": rng.bit_generator.state, "history": dict(run.history),
        "stopped": run.history.stopped if run.stopping else None,
        "steps": optimizer.steps, "learning_rate": None if callable(rate) else rate,
        "layer_steps": [layer.step for layer in network.layers], "callbacks": kept,
    }
    return state, arrays


def _restore(run, rng, callbacks, state, arrays):
    """Set a training to what `_state` made."""
    network, optimizer = run.network, run.optimizer
    network.parameters[...] = arrays["parameters"]
    moments = {name: arrays[f"optimizer.{name}"] for name in optimizer.state_names}
    optimizer.resume(network.parameters, moments, state["steps"])
    if state["learning_rate"] is not None:
        optimizer.learning_rate = state["learning_rate"]
    for layer, step in zip(network.layers, state["layer_steps"], strict=True):
        layer.step = step
    for i, (callback, values) in enumerate(zip(callbacks, state["callbacks"], strict=True)):
        for name in callback.kept:
            setattr(callback, name, arrays.get(f"callbacks.{i}.{name}", values[name]))
    rng.bit_generator.state = state["rng"]
    for key, values in state["history"].items():
        run.history[key] = [np.array(value) if isinstance(value, list) else value
                            for value in values]
    if state["stopped"] is not None:
        run.stop(state["stopped"])


def describe(data, validation, **settings):
    """What a training is made of, for comparison: as JSON has it.

    Parameters
    ----------
    data, validation : Dataset
        `validation` may be None.
    **settings
        Numbers, texts, layers, losses and optimizers, or lists of them.
    """
    described = {name: _describe(value) for name, value in settings.items()}
    described["shape of X"] = list(data.X.shape)
    described["rows of validation_data"] = None if validation is None else len(validation)
    for suffix, each in (("", data), (" of validation_data", validation)):
        if each is not None:
            described["checksum of X" + suffix] = _checksum(each.X)
            described["checksum of y" + suffix] = zlib.crc32(np.ascontiguousarray(each.y))
    weights = data.sample_weight
    described["sample_weight"] = None if weights is None else zlib.crc32(weights)
    return described


def _checksum(X):
    """Of a thousand rows, so that no array has to be read whole."""
    rows = X.data if checks.is_sparse(X) else X
    return zlib.crc32(np.ascontiguousarray(rows[:: len(rows) // 1000 + 1]))


def _describe(value):
    """An object by its class and settings; functions by nothing, since they have no text."""
    if isinstance(value, list | tuple):
        return [_describe(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(getattr(value, "config", None)):  # a layer, by what saving would write
        try:
            settings = value.config()
        except AttributeError:
            settings = {}
    else:
        settings = {name: _describe(setting) if isinstance(setting, checks.Settings) else setting
                    for name, setting in sorted(getattr(value, "__dict__", {}).items())}
    settings = {name: setting for name, setting in settings.items()
                if isinstance(setting, bool | int | float | str) and name not in COUNTERS}
    return f"{type(value).__name__} {settings}"


# What goes on changing in an optimizer; the checkpoint has it.
COUNTERS = {"steps", "learning_rate", "_first_rate"}


def _compare(saved, now):
    """Raise unless the checkpoint is one of the same training; its length may differ."""
    for name, value in now.items():
        if saved.get(name) != value:
            raise ValueError(f"resume: expected the same training as the checkpoint's, which has "
                             f"{name} = {saved.get(name)!r}, got {value!r}")


def _plain(value):
    """Numbers and arrays of NumPy's as JSON knows them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"checkpoint: expected numbers, texts and arrays to be kept, got {value!r} "
                    f"({type(value).__name__})")


def _read(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with open(path, "rb") as file:
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
    if not isinstance(state.get("fit"), dict) or not all(
        isinstance(state.get(name), int) for name in ("entropy", "reseeded")
    ):
        raise ValueError("it is not one of a training")
    return state, arrays
