"""Checkpoints of a training: a folder of files from which a killed `fit` goes on.

A file holds a line that says what it is, a line with the SHA-256 of the rest, and the rest: the
state as safetensors, numbers as tensors and everything else as JSON in the metadata.  It is
written beside its place, flushed and renamed, so that it is there whole or not at all; the last
two are kept, so that there is one to fall back on.
"""

import contextlib
import copy
import hashlib
import json
import math
import os
import re
import reprlib
import stat
import warnings

import numpy as np

from . import io
from .kernels import checks
from .layers import Container

try:
    import fcntl
except ImportError:  # Windows, where two processes that share a folder are not told
    fcntl = None

__all__ = ["Checkpoints"]

HEAD = b"fastbp checkpoint 1\n"
NAME = re.compile(r"checkpoint-(\d{8}|[1-9]\d{8,})\.fastbp", re.ASCII)
UNFINISHED = re.compile(NAME.pattern + r"\.[0-9a-f]{8}\.part", re.ASCII)
LOCK = ".fastbp-lock"
CONTENTS = "contents of"
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
        If the checkpoints there are of another training, or all damaged, or `path` holds
        characters that no path may have.
    OSError
        If the folder cannot be made or written to.
    """

    def __init__(self, path, every, resume, described, learning_rate):
        self.path = path
        if path is not None:
            self.path = os.path.abspath(io.checked_path("checkpoint", path, "folder"))
        self.every = every
        self.resume = resume
        self.described = described
        self.learning_rate = _describe(learning_rate)
        self.saved = None

    def __enter__(self):
        if self.path is None:
            return self
        self._make_folder()
        self._lock = self._open_lock()
        try:
            self._claim()
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
        claims.discard(self._lock)
        self._lock.close()

    def _make_folder(self):
        if io.status(self.path) is None:
            with contextlib.suppress(FileExistsError):  # another training's, or a link to nothing
                os.makedirs(self.path)
        found = io.status(self.path)
        if found is None or not stat.S_ISDIR(found.st_mode):
            what = "a link to nothing at" if found is None else "the file"
            raise NotADirectoryError(f"checkpoint: expected a folder, got {what} {self.path!r}")

    def _open_lock(self):
        path = os.path.join(self.path, LOCK)
        try:
            return io.open_regular(path, "ab")
        except (ValueError, IsADirectoryError):
            raise ValueError(f"checkpoint: expected a lock file or none at {path!r}, got a pipe, "
                             f"a device or a folder; remove it, or pass another folder") from None

    def _claim(self):
        claims.add(self._lock)
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
                _check(state, arrays, epoch, network, optimizer, callbacks, history)
            except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError,
                    ValueError) as error:
                raise ValueError(f"checkpoint: {self._file(epoch)!r} is whole, but not one of "
                                 f"this training: {_reason(error)}; remove it to go on from the "
                                 f"one before, or pass another folder") from None
            network._entropy, network._reseeded = state["entropy"], state["reseeded"]
        self.seeds = {"entropy": network._entropy, "reseeded": network._reseeded}

    def restore(self, run, rng, callbacks):
        """Set a training that has just begun to the state that was kept; keep the first one."""
        if self.saved is None:
            self._keep(run, rng, callbacks)
            return
        state, arrays, _ = self.saved
        if state.get("first_rate") != self.learning_rate:
            state["learning_rate"] = None  # the caller has another in mind
        _restore(run, rng, callbacks, state, arrays)
        self.saved = None

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
        except (OSError, ValueError) as error:  # ValueError: a pipe is in its place
            if io.from_handler(error):
                raise
            warnings.warn(f"the checkpoint after epoch {epoch} was not written: {error}; the "
                          f"training goes on", RuntimeWarning, stacklevel=2)
            return
        # Those of later epochs, which were passed over, do not count, nor does what is no file.
        with io.ignored_errors():
            earlier = [self._file(old) for old in self._epochs() if old < epoch]
            for path in list(filter(io.is_regular, earlier))[KEPT - 1 :]:
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
                if io.from_handler(error):
                    raise
                warnings.warn(f"{path} is passed over: {error}", RuntimeWarning, stacklevel=2)
                continue
            _compare(state["fit"], self.described)
            return state, arrays, epoch
        if epochs:
            raise ValueError(f"checkpoint: none of the {len(epochs)} checkpoints in "
                             f"{self.path!r} is whole; pass another folder to start afresh")
        return None


def _state(run, rng, callbacks):
    """A training between two epochs: what JSON can hold, and arrays."""
    network, optimizer = run.network, run.optimizer
    optimizer.start(network.parameters)
    arrays = {"parameters": network.parameters}
    if network.buffers.size:
        arrays["buffers"] = network.buffers
    if run.trained is not None:
        arrays["trained"] = run.trained
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state.items()}
    kept = [{name: getattr(callback, name) for name in callback.kept} for callback in callbacks]
    for i, values in enumerate(kept):
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if value.dtype.kind not in "fiub":
                    raise TypeError(f"checkpoint: callback {i} ({type(callbacks[i]).__name__}): "
                                    f"{name}: expected an array of real numbers to be kept, got "
                                    f"{value.dtype}")
                # safetensors would write a view's memory, whatever its strides.
                arrays[f"callbacks.{i}.{name}"] = np.array(value, order="C")
                values[name] = None
    rate = optimizer.learning_rate
    state = {
        "rng": rng.bit_generator.state, "history": dict(run.history),
        "stopped": run.history.stopped if run.stopping else None,
        "steps": optimizer.steps, "learning_rate": None if callable(rate) else rate,
        "layer_steps": [layer.step for _, layer in network.leaves], "callbacks": kept,
        "batch_size": run.batch_size, "l2": run.l2, "arrays": sorted(arrays),
        "settings": [_settings(piece) for piece in _pieces(optimizer, network)],
    }
    return state, arrays


def _pieces(optimizer, network):
    """What has settings of its own."""
    return [optimizer, *(layer for _, layer in network.leaves)]


def _settings(piece):
    """The numbers of an optimizer or a layer that may be set as the training goes on."""
    values = {name: getattr(piece, name, None) for name in sorted(piece.validators)}
    return {name: value for name, value in values.items()
            if name not in KEPT_ELSEWHERE and isinstance(value, bool | int | float | None)}


# What `_state` has by itself, and what follows from the seed.
KEPT_ELSEWHERE = {"learning_rate", "state", "steps", "key", "step"}


def _check(state, arrays, epoch, network, optimizer, callbacks, history):
    """Raise unless this is what `_state` makes of such a training after so many epochs.

    Nothing that this lets through may make `_restore` fail.
    """
    _expect("the names of its arrays", state.get("arrays", sorted(arrays)), sorted(arrays))
    if "settings" in state:  # older versions did not keep them
        _list("settings", state["settings"], 1 + len(network.leaves))
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            _check_settings(piece, settings)
        optimizer = copy.copy(optimizer)  # which state it has depends on its settings
        vars(optimizer).update(state["settings"][0])
    for name in ("parameters", *(f"optimizer.{name}" for name in optimizer.state_names)):
        checks.exactly(name, arrays.get(name), network.parameters.shape, network.dtype)
    if network.buffers.size:
        checks.exactly("buffers", arrays.get("buffers"), network.buffers.shape, network.dtype)
    if "trained" in arrays:
        checks.exactly("trained", arrays["trained"], network.parameters.shape, network.dtype)
    for name in ("steps", "reseeded"):
        _count(name, state[name])
    _require("entropy", _is_whole(state["entropy"]) and state["entropy"] >= 0,
             "a whole number of at least 0", state["entropy"])
    _list("layer_steps", state["layer_steps"], len(network.leaves), _count)
    if state["learning_rate"] is not None:
        _not_negative("learning_rate", state["learning_rate"])
    if "batch_size" in state:  # older versions did not keep these two
        _count("batch_size", state["batch_size"], 1)
    if "l2" in state:
        _not_negative("l2", state["l2"])
    _require("stopped", state["stopped"] is None or isinstance(state["stopped"], str),
             "a text or None", state["stopped"])
    _check_rng(state["rng"])
    _check_history(state["history"], epoch, history)
    _list("callbacks", state["callbacks"], len(callbacks))
    for i, callback in enumerate(callbacks):
        _check_callback(i, callback, state["callbacks"][i], arrays, network)


def _check_settings(piece, settings):
    """Raise unless these can be set."""
    name = f"settings of {type(piece).__name__}"
    _require(name, isinstance(settings, dict), "numbers by name", settings)
    _expect(f"{name}: the names", sorted(settings), sorted(_settings(piece)))
    for key, value in settings.items():
        try:
            piece.validators[key](key, value)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: {_reason(error)}") from None


def _check_rng(state):
    trial = np.random.default_rng(0).bit_generator
    try:
        trial.state = state
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"rng: {_reason(error)}") from None
    _expect("rng", state, trial.state)


def _check_history(saved, epoch, history):
    _require("history", isinstance(saved, dict), "columns by name", saved)
    for key, values in saved.items():
        _list(f"history[{key!r}]", values)
    for key in history:
        if key == "gradient_norms":
            _list(f"history[{key!r}]", saved[key], epoch, lambda name, row: _list(
                name, row, len(history.layer_names), _number))
        else:
            _list(f"history[{key!r}]", saved[key], epoch, _number)


def _check_callback(i, callback, values, arrays, network):
    name = f"callback {i} ({type(callback).__name__})"
    _require(name, isinstance(values, dict), "values by name", values)
    _expect(f"{name}: the names of its values", sorted(values), sorted(set(callback.kept)))
    for key in values:
        if f"callbacks.{i}.{key}" in arrays:
            _require(f"{name}: {key}", values[key] is None, "None beside its array", values[key])
    try:
        callback.check_kept(_kept(i, values, arrays), network)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {_reason(error)}") from None


def _kept(i, values, arrays):
    """What a callback has kept, with its arrays in their places."""
    return {name: arrays.get(f"callbacks.{i}.{name}", value) for name, value in values.items()}


def _restore(run, rng, callbacks, state, arrays):
    """Set a training to what `_state` made, once `_check` has seen it."""
    network, optimizer = run.network, run.optimizer
    network.parameters[...] = arrays["parameters"]
    if network.buffers.size:
        network.buffers[...] = arrays["buffers"]
    if "settings" in state:
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            for name, value in settings.items():
                setattr(piece, name, value)
    moments = {name: arrays[f"optimizer.{name}"] for name in optimizer.state_names}
    optimizer.resume(network.parameters, moments, state["steps"])
    run.go_on(arrays.get("trained"))
    if state["learning_rate"] is not None:
        optimizer.learning_rate = state["learning_rate"]
    for name in ("batch_size", "l2"):
        if name in state:
            setattr(run, name, state[name])
    for (_, layer), step in zip(network.leaves, state["layer_steps"], strict=True):
        layer.step = step
    for i, callback in enumerate(callbacks):
        for name, value in _kept(i, state["callbacks"][i], arrays).items():
            setattr(callback, name, value)
    rng.bit_generator.state = state["rng"]
    for key, values in state["history"].items():
        run.history[key] = [_as_array(value) if isinstance(value, list) else value
                            for value in values]
    if state["stopped"] is not None:
        run.stop(state["stopped"])


def _as_array(values):
    """A list of a user's history as an array, unless its rows are of different lengths."""
    try:
        return np.array(values)
    except ValueError:
        return values


# What a checkpoint holds, value by value: each raises an error that says what is wrong.


shown = reprlib.Repr()  # a file may hold texts and lists of any length, lists of any depth
shown.maxstring = shown.maxother = 300
shown.maxlist = shown.maxdict = 100


def _require(name, condition, expected, value):
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {shown.repr(value)}")


def _expect(name, value, expected):
    _require(name, value == expected, shown.repr(expected), value)


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _count(name, value, least=0):
    # Below 2⁶², so that a training can count on without leaving 64 bits.
    _require(name, _is_whole(value) and least <= value < 1 << 62,
             f"a whole number from {least} to 2**62 - 1", value)


def _number(name, value):
    _require(name, isinstance(value, float) or (_is_whole(value) and abs(value) < 1 << 64),
             "a number", value)


def _not_negative(name, value):
    _number(name, value)
    _require(name, 0 <= value < math.inf, "a finite number of at least 0", value)


def _list(name, values, length=None, check=None):
    """Of this length, and `check` likes each of it."""
    of_length = "" if length is None else f" of length {length}"
    _require(name, isinstance(values, list) and length in (None, len(values)),
             f"a list{of_length}", values)
    for i, value in enumerate(values if check else ()):
        check(f"{name}[{i}]", value)


def _reason(error):
    """An error in words; those of a dict say no more than a key."""
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)


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
    for prefix, each in (("", data), ("validation_data ", validation)):
        if each is not None:
            for name in ("X", "y", "sample_weight"):
                described[f"{CONTENTS} {prefix}{name}"] = _contents(getattr(each, name))
    return described


def _contents(array):
    """A checksum of an array's shape, dtype and numbers, or of a sparse one's parts."""
    if array is None:
        return None
    if not checks.is_sparse(array):
        return checksum(np.asarray(array))
    places = (checksum(part, np.dtype(np.int64)) for part in (array.indices, array.indptr))
    return " ".join([checksum(array.data), *places])


# Words of 8 bytes: a block, its multipliers and its products fit in L2 caches.  With another
# number all checksums would be others, and no checkpoint that is there could be gone on from.
BLOCK = 1 << 14


def checksum(array, dtype=None):
    """A checksum of an array's shape, dtype and numbers, whatever their order in memory.

    Some GB a second, more than twice what CRC-32 or SHA-256 do.  Each word of a block is
    multiplied by an odd number of its own; when a single word is another, so is the sum of the
    products modulo 2⁶⁴.  The sums are hashed.

    Parameters
    ----------
    array : ndarray of numbers
    dtype : numpy.dtype, optional
        What the numbers are to be taken for, in place of the array's own.

    Returns
    -------
    str
    """
    dtype = (dtype or array.dtype).newbyteorder("<")
    if dtype.kind == "f" and dtype.itemsize > 8:  # has bytes that may be anything
        dtype = np.dtype("<f8")
    digest = hashlib.sha256(f"{dtype.str} {array.shape}".encode())
    multipliers = np.random.PCG64(0).random_raw(BLOCK) | np.uint64(1)
    scratch = np.empty(BLOCK, np.uint64)
    rows = max(1, 8 * BLOCK * len(array) // max(1, array.size * dtype.itemsize))
    for start in range(0, len(array), rows):
        part = np.ascontiguousarray(array[start : start + rows], dtype).reshape(-1)
        content = part.view(np.uint8)
        whole = content.size - content.size % 8
        words = content[:whole].view("<u8")
        for first in range(0, len(words), BLOCK):
            block = words[first : first + BLOCK]
            mixed = scratch[: len(block)]
            # A number's sign must get below the top bit, where two of them would cancel out.
            np.right_shift(block, 29, out=mixed)
            np.bitwise_xor(block, mixed, out=mixed)
            np.multiply(mixed, multipliers[: len(block)], out=mixed)
            digest.update(int(np.add.reduce(mixed)).to_bytes(8, "little"))
        digest.update(content[whole:])
    return digest.hexdigest()


@reprlib.recursive_repr()  # one may hold itself
def _describe(value):
    """An object by its class and settings; functions by nothing, since they have no text."""
    if isinstance(value, list | tuple):
        return [_describe(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Container):
        return [type(value).__name__, _describe(list(value.config().items()))]
    if callable(getattr(value, "config", None)):  # a layer, by what saving would write
        try:
            settings = value.config()
        except AttributeError:
            settings = {}
    else:
        settings = {name: _describe(setting) if isinstance(setting, checks.Validated) else setting
                    for name, setting in sorted(getattr(value, "__dict__", {}).items())}
    settings = {name: setting for name, setting in settings.items()
                if isinstance(setting, bool | int | float | str) and name not in COUNTERS}
    return f"{type(value).__name__} {settings}"


# What goes on changing in an optimizer; the checkpoint has it.
COUNTERS = {"steps", "learning_rate", "_first_rate"}


def _compare(saved, now):
    """Raise unless the checkpoint is one of the same training; its length may differ."""
    for name, value in now.items():
        if name not in saved or saved[name] == value:  # an older version described less
            continue
        if name.startswith(CONTENTS):
            raise ValueError(f"resume: expected the same training as the checkpoint's, but the "
                             f"{name} are not the same; pass what it had, or another folder")
        raise ValueError(f"resume: expected the same training as the checkpoint's, which has "
                         f"{name} = {shown.repr(saved[name])}, got {value!r}")


def _plain(value):
    """Numbers and arrays of NumPy's as JSON knows them."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"checkpoint: expected numbers, texts and arrays to be kept, got {value!r} "
                    f"({type(value).__name__})")


def _read(path):
    from safetensors import SafetensorError
    from safetensors.numpy import load

    with io.open_regular(path, "rb") as file:
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
