"""Layers written to and read from safetensors files.

A file holds one tensor for each parameter, named ``layers.0.W`` and so on, and the
architecture as JSON in its metadata.  Reading makes layers from that description and
hands them the numbers; nothing in a file is ever executed.  What checkpoints share with it is
here too: which paths there are, and how a file is opened and replaced.
"""

import contextlib
import errno
import functools
import json
import os
import stat
import warnings

import numpy as np

from . import layers as built_in

FORMAT = "fastbp"
VERSION = 1
CODES = {"float32": "F32", "float64": "F64"}  # safetensors' names


def checked_path(name, path, what="file"):
    """A path as text, if it is one that the system takes.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    path : str or path-like
    what : str, default "file"
        What it is the path of, for the message.

    Raises
    ------
    TypeError
        If it is no path: bytes, a number, None, empty.
    ValueError
        If it holds characters that no path may have.
    """
    text = path.__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text:
        hint = "; decode it with os.fsdecode" if isinstance(text, bytes) and text else ""
        raise TypeError(f"{name}: expected the path of a {what}, a string or a path-like object, "
                        f"got {path!r}{hint}")
    try:
        has_nul = b"\0" in os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: expected the path of a {what}, got {text!r}, which the system "
                         f"cannot encode ({error.reason})") from None
    if has_nul:
        raise ValueError(f"{name}: expected the path of a {what}, got {text!r}, which holds a NUL "
                         f"character")
    return text


def status(path):
    """What `os.stat` says, or None where there is nothing."""
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_regular(path):
    """Whether there is a file, and not a folder, a pipe or a device."""
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def from_handler(error):
    """Whether an OSError is one that a signal handler has raised, TimeoutError say.

    The system's own have an `errno`; to ignore another would be to ignore the signal.
    """
    return isinstance(error, OSError) and error.errno is None


@contextlib.contextmanager
def ignored_errors():
    """Ignore the system's errors in the with statement."""
    try:
        yield
    except OSError as error:
        if from_handler(error):
            raise


def write(path, layers, dtype):
    """Write layers to a file, replacing it only once the new one is whole.

    Parameters
    ----------
    path : str or path-like
    layers : sequence of Layer
        In a network.
    dtype : numpy.dtype
        The network's.

    Raises
    ------
    TypeError
        If `path` is none, or a layer's `config` cannot be written as JSON.
    ValueError
        If there is a pipe or a device at the path, or no file can have such a name.
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    path = checked_path("path", path)
    leaves = built_in.leaves(layers)
    described = []
    for i, layer in enumerate(layers):
        name = type(layer).__name__
        try:
            description = _described(layer)
            json.dumps(description, allow_nan=False)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"layer {i} ({name}): its config() cannot be written ({error}); "
                            f"keep each of the constructor's arguments in an attribute of the "
                            f"same name, or define a config() of plain numbers and "
                            f"strings") from None
        described.append(description)
    # One entry: of several, safetensors changes the order from file to file.
    architecture = {"version": VERSION, "dtype": str(dtype), "layers": described}
    metadata = {FORMAT: json.dumps(architecture)}
    for _, layer in leaves:
        layer.restore_views()
    tensors = {
        f"layers.{where}.{name}": getattr(layer, name)
        for where, layer in leaves
        for name in layer.array_shapes
    }
    replace_file(path, save(tensors, metadata))


def _described(value):
    """A layer as its type and configuration, and what is in that likewise."""
    if isinstance(value, built_in.Layer):
        return {"type": type(value).__name__, "config": _described(value.config())}
    if isinstance(value, dict):
        if set(value) == {"type", "config"}:
            raise ValueError("a dict of `type` and `config` would be read as a layer")
        return {key: _described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_described(each) for each in value]
    return value


def replace_file(path, content):
    """Write a file beside `path`, flush it to the disk, then rename it to `path`.

    Links are followed, and a file that is replaced passes on its mode.

    Parameters
    ----------
    path : str or path-like
    content : bytes

    Raises
    ------
    ValueError
        If there is a pipe or a device at the path.
    OSError
        If the file cannot be written.
    """
    path = os.fspath(path)
    old = status(path)
    if os.path.basename(path) == "" or (old is not None and stat.S_ISDIR(old.st_mode)):
        raise _is_directory(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise ValueError(f"path: expected a file, or none yet, got the pipe or device {path!r}")
    folder, name = os.path.split(os.path.realpath(path))
    # 60 characters are 240 bytes at most, and a name may have 255.
    temporary = os.path.join(folder, f"{name[:60]}.{os.urandom(4).hex()}.part")
    # Nobody else may read it before it has the old one's mode.
    opener = functools.partial(os.open, mode=0o666 if old is None else 0o600)
    try:
        with open(temporary, "xb", opener=opener) as file:
            file.write(content)
            file.flush()
            if old is not None:
                _take_mode(temporary, old)
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(folder, name))
    except BaseException:
        with ignored_errors():
            os.unlink(temporary)
        raise


def _take_mode(path, old):
    """Give a new file the owner, group and mode of an old one, as far as the system lets us."""
    mode = old.st_mode & 0o777
    if hasattr(os, "chown"):
        for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
            with ignored_errors():
                os.chown(path, owner, group)
        if os.stat(path).st_gid != old.st_gid:
            mode &= 0o707  # what the old one's group might read is not for another
    with ignored_errors():
        os.chmod(path, mode)


def _is_directory(path):
    error = IsADirectoryError(f"path: expected a file, got the directory {path!r}")
    error.errno = errno.EISDIR  # as the system's own has, see `from_handler`
    return error


def open_regular(path, mode):
    """Open a file as `open` does, but not what is no regular file, and never wait for a pipe.

    Raises
    ------
    ValueError
        If there is a pipe, a device or a socket at the path.
    OSError
        If it cannot be opened.
    """
    irregular = ValueError(f"expected a file, got the pipe or device {path!r}")
    try:
        with contextlib.ExitStack() as on_error:
            file = on_error.enter_context(open(path, mode, opener=_open_at_once))
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise irregular
            on_error.pop_all()
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise irregular from None
        raise
    return file


def _open_at_once(path, flags):
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)


def read(path, layer_types=()):
    """Layers, with their parameters, and the dtype; see `fastbp.load`."""
    from safetensors import SafetensorError, safe_open

    path = checked_path("path", path)
    found = status(path)
    if found is None:
        raise FileNotFoundError(f"path: there is no file {path!r}")
    if stat.S_ISDIR(found.st_mode):
        raise _is_directory(path)
    if not stat.S_ISREG(found.st_mode):  # to read a pipe might never end
        raise ValueError(f"path: {path!r} is no fastbp model: it is a pipe or a device")
    known = built_in.BUILT_IN | _by_name(layer_types)
    try:
        with safe_open(path, framework="numpy") as file:
            layers, dtype = _describe(path, file.metadata() or {}, known)
            expected = {
                f"layers.{where}.{name}": (layer, name)
                for where, layer in built_in.leaves(layers)
                for name in layer.array_shapes
            }
            _compare_names(path, set(file.keys()), set(expected))
            for key, (layer, name) in expected.items():
                header, shape = file.get_slice(key), list(layer.array_shapes[name])
                if header.get_shape() != shape or header.get_dtype() != CODES[dtype]:
                    raise damaged(path, f"{key} is {header.get_dtype()} of shape "
                                         f"{header.get_shape()}, expected {CODES[dtype]} of "
                                         f"shape {shape}")
                setattr(layer, name, file.get_tensor(key))
    except SafetensorError as error:
        raise ValueError(f"path: {path!r} is no fastbp model: it is not a safetensors file, or "
                         f"a damaged one ({error})") from None
    wild = [key for key, (layer, name) in expected.items()
            if not np.isfinite(getattr(layer, name)).all()]
    if wild:
        warnings.warn(f"path: {path!r} holds NaN or infinity in {', '.join(wild[:5])}"
                      f"{', ...' * (len(wild) > 5)}", RuntimeWarning, stacklevel=3)
    return layers, dtype


def _by_name(layer_types):
    try:
        classes = list(layer_types)
    except TypeError:
        classes = [None]
    if not all(isinstance(cls, type) and issubclass(cls, built_in.Layer) for cls in classes):
        raise TypeError(f"layer_types: expected a list of Layer classes, got {layer_types!r}")
    return {cls.__name__: cls for cls in classes}


def damaged(path, what):
    """The error for a file that is not a whole model."""
    return ValueError(f"path: {os.fspath(path)!r} is no whole fastbp model: {what}")


def _describe(path, metadata, known):
    """The layers that the metadata describe, without parameters, and the dtype."""
    if FORMAT not in metadata:
        raise ValueError(f"path: {path!r} is no fastbp model: it is a safetensors file of "
                         f"another program")
    try:
        architecture = json.loads(metadata[FORMAT])
        version, dtype = architecture["version"], architecture["dtype"]
        described = [(str(layer["type"]), dict(layer["config"]))
                     for layer in architecture["layers"]]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, f"its description cannot be read "
                             f"({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise ValueError(f"path: {path!r} is a fastbp model of version {version!r}; this fastbp "
                         f"reads version {VERSION}")
    if not isinstance(dtype, str) or dtype not in CODES:
        raise damaged(path, f"its dtype is {dtype!r}, expected float32 or float64")
    return [_made(path, str(i), name, config, known)
            for i, (name, config) in enumerate(described)], dtype


def _made(path, where, name, config, known):
    """A layer of this type and configuration, in which there may be descriptions of others."""
    if name not in known:
        raise ValueError(f"path: {path!r} has a layer {name!r} at {where}, which fastbp does not "
                         f"know; pass its class as load(path, layer_types=[{name}])")

    def layers_of(value, where):
        if isinstance(value, dict) and set(value) == {"type", "config"}:
            if not isinstance(value["config"], dict):
                raise damaged(path, f"layer {where}: its configuration is no object")
            return _made(path, where, str(value["type"]), value["config"], known)
        if isinstance(value, list):
            return [layers_of(each, f"{where}.{i}") for i, each in enumerate(value)]
        return value

    try:
        return known[name](**{key: layers_of(value, where) for key, value in config.items()})
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if str(error).startswith("path: "):
            raise
        raise damaged(path, f"layer {where}: {name}: {error}") from None


def _compare_names(path, got, expected):
    if got != expected:
        differences = {"missing": sorted(expected - got), "not expected": sorted(got - expected)}
        raise damaged(path, "; ".join(
            f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
            for what, names in differences.items() if names
        ))
