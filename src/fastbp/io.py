"""Layers written to and read from safetensors files.

A file holds one tensor for each parameter, named ``layers.0.W`` and so on, and the
architecture as JSON in its metadata.  Reading makes layers from that description and
hands them the numbers; nothing in a file is ever executed.
"""

import contextlib
import json
import os
import warnings

import numpy as np

from . import layers as built_in

FORMAT = "fastbp"
VERSION = 1
CODES = {"float32": "F32", "float64": "F64"}  # safetensors' names


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
        If a layer's `config` cannot be written as JSON.
    OSError
        If the file cannot be written.
    """
    from safetensors.numpy import save

    described = []
    for i, layer in enumerate(layers):
        name = type(layer).__name__
        try:
            config = layer.config()
            json.dumps(config, allow_nan=False)
        except (AttributeError, TypeError, ValueError) as error:
            raise TypeError(f"layer {i} ({name}): its config() cannot be written ({error}); "
                            f"keep each of the constructor's arguments in an attribute of the "
                            f"same name, or define a config() of plain numbers and "
                            f"strings") from None
        described.append({"type": name, "config": config})
    # One entry: of several, safetensors changes the order from file to file.
    architecture = {"version": VERSION, "dtype": str(dtype), "layers": described}
    metadata = {FORMAT: json.dumps(architecture)}
    tensors = {
        f"layers.{i}.{name}": getattr(layer, name)
        for i, layer in enumerate(layers)
        for name in layer.parameter_shapes
    }
    replace_file(os.fspath(path), save(tensors, metadata))


def replace_file(path, content):
    """Write a file beside `path`, flush it to the disk, then rename it to `path`."""
    temporary = f"{path}.{os.urandom(4).hex()}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def read(path, layer_types=()):
    """Layers, with their parameters, and the dtype; see `fastbp.load`."""
    from safetensors import SafetensorError, safe_open

    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"path: there is no file {path!r}")
    if os.path.isdir(path):
        raise IsADirectoryError(f"path: expected a file, got the directory {path!r}")
    if not os.path.isfile(path):  # to read a pipe might never end
        raise ValueError(f"path: {path!r} is no fastbp model: it is a pipe or a device")
    known = built_in.BUILT_IN | _by_name(layer_types)
    try:
        with safe_open(path, framework="numpy") as file:
            layers, dtype = _describe(path, file.metadata() or {}, known)
            expected = {
                f"layers.{i}.{name}": (layer, name)
                for i, layer in enumerate(layers)
                for name in layer.parameter_shapes
            }
            _compare_names(path, set(file.keys()), set(expected))
            for key, (layer, name) in expected.items():
                header, shape = file.get_slice(key), list(layer.parameter_shapes[name])
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
    layers = []
    for i, (name, config) in enumerate(described):
        if name not in known:
            raise ValueError(f"path: {path!r} has a layer {name!r} at {i}, which fastbp does not "
                             f"know; pass its class as load(path, layer_types=[{name}])")
        try:
            layers.append(known[name](**config))
        except (TypeError, ValueError, OverflowError) as error:
            raise damaged(path, f"layer {i}: {name}: {error}") from None
    return layers, dtype


def _compare_names(path, got, expected):
    if got != expected:
        differences = {"missing": sorted(expected - got), "not expected": sorted(got - expected)}
        raise damaged(path, "; ".join(
            f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
            for what, names in differences.items() if names
        ))
