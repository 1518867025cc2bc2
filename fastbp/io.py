"""Layers in safetensors files.

A file holds one tensor for each array of a layer, named ``layers.0.W`` and so on, and the
architecture as JSON in its metadata.  Reading makes layers from that description and sets their
arrays; nothing in a file is ever executed.
"""

from __future__ import annotations

import json
import os
import stat
import warnings
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from . import layers as built_in
from .files import checked_path, directory_error, is_regular, replace_file, status
from .kernels import checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from os import PathLike

    from .layers import Layer

__all__ = ["FORMAT", "VERSION", "damaged", "kind_of", "read", "read_ensemble", "write",
           "write_ensemble"]

FORMAT = "fastbp"  # the metadata's key
VERSION = 1
CODES = {"float32": "F32", "float64": "F64"}  # safetensors' names


# A network in a file: its layers, dtype and precision.
Network: TypeAlias = tuple[list[Any], str, str]


def write(path: str | PathLike[str], layers: Sequence[Layer], dtype: np.dtype[Any],
          precision: str = "highest") -> None:
    """Write layers to a file, which is replaced only when the new one is complete.

    Parameters
    ----------
    path : str or path-like
    layers : sequence of Layer
        Those of a network.
    dtype : numpy.dtype
        The network's.
    precision : str, default "highest"
        Likewise.

    Raises
    ------
    TypeError
        If `path` is not a path, or a layer's `config` cannot be serialized to JSON.
    ValueError
        If the path is a pipe or a device, or is not a valid file name.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import fastbp as fb
    >>> net = fb.mlp([2, 8, 1], seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     write(path, net.layers, net.dtype)
    ...     layers, dtype, precision = read(path)
    >>> [type(layer).__name__ for layer in layers], dtype, precision
    (['Dense', 'ReLU', 'Dense'], 'float32', 'highest')
    """
    description, tensors = _contents(layers, dtype, precision)
    _write(path, description, tensors)


def write_ensemble(path: str | PathLike[str],
                   networks: Sequence[tuple[Sequence[Layer], np.dtype[Any], str]],
                   settings: dict[str, Any]) -> None:
    """Write several networks to one file.

    Parameters
    ----------
    path : str or path-like
    networks : sequence of tuple (layers, dtype, precision)
    settings : dict
        What JSON can hold.

    Raises
    ------
    TypeError, ValueError
        As `write`.
    """
    descriptions: list[dict[str, Any]] = []
    tensors: dict[str, Any] = {}
    for i, (layers, dtype, precision) in enumerate(networks):
        description, own = _contents(layers, dtype, precision, f"networks.{i}.")
        descriptions.append(description)
        tensors |= own
    _write(path, {"networks": descriptions, "settings": settings}, tensors)


def _contents(layers: Sequence[Layer], dtype: np.dtype[Any], precision: str, prefix: str = "",
              ) -> tuple[dict[str, Any], dict[str, Any]]:
    """A network's description, and its arrays by their names in the file."""
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
    for _, layer in leaves:
        layer.restore_views()
    tensors = {
        f"{prefix}layers.{where}.{name}": getattr(layer, name)
        for where, layer in leaves
        for name in layer.array_shapes
    }
    description = {"dtype": str(dtype), "layers": described}
    if precision != "highest":  # files of earlier versions have no other
        description["precision"] = precision
    return description, tensors


def _write(path: Any, description: dict[str, Any], tensors: dict[str, Any]) -> None:
    from safetensors.numpy import save

    path = checked_path("path", path)
    # A single entry, since safetensors varies the order of several from file to file.
    metadata = {FORMAT: json.dumps({"version": VERSION} | description)}
    replace_file(path, save(tensors, metadata))


def _described(value: Any) -> Any:
    """A value for JSON, in which layers are dicts of their type and configuration."""
    if isinstance(value, built_in.Layer):
        return {"type": type(value).__name__, "config": _described(value.config())}
    if isinstance(value, dict):
        if set(value) == {"type", "config"}:
            raise ValueError("a dict of `type` and `config` would be read as a layer")
        return {key: _described(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_described(each) for each in value]
    return value


def read(
    path: str | PathLike[str], layer_types: Iterable[type[Layer]] = ()
) -> Network:
    """Read the layers in a file that `write` wrote.

    Parameters
    ----------
    path : str or path-like
    layer_types : iterable of type, optional
        The user's own layer classes.

    Returns
    -------
    layers : list of Layer
        With their parameters.
    dtype : str
        "float32" or "float64".
    precision : str
        "highest", "high" or "medium".

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no file at the path.
    TypeError
        If `path` is not a path, or `layer_types` holds something else than layer classes.
    ValueError
        If it is not a fastbp model, or a damaged one; the message says what is wrong.

    Warns
    -----
    RuntimeWarning
        If a parameter is NaN or infinite.

    Examples
    --------
    >>> read("no such file")
    Traceback (most recent call last):
        ...
    FileNotFoundError: path: there is no file 'no such file'
    """
    (found,), settings = _read(path, layer_types)
    if settings is not None:
        raise ValueError(f"path: {os.fspath(path)!r} holds an ensemble; read it with "
                         f"fastbp.Ensemble.load")
    return found


def read_ensemble(
    path: str | PathLike[str], layer_types: Iterable[type[Layer]] = ()
) -> tuple[list[Network], dict[str, Any]]:
    """Read the networks in a file that `write_ensemble` wrote.

    Parameters
    ----------
    path : str or path-like
    layer_types : iterable of type, optional

    Returns
    -------
    networks : list of tuple (layers, dtype, precision)
    settings : dict

    Raises
    ------
    FileNotFoundError, IsADirectoryError, TypeError, ValueError
        As `read`.
    """
    found, settings = _read(path, layer_types)
    if settings is None:
        raise ValueError(f"path: {os.fspath(path)!r} holds a single network; read it with "
                         f"fastbp.load")
    return found, settings


def kind_of(path: str | PathLike[str]) -> str:
    """What a model file holds, by its description.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    {"network", "ensemble", "estimator"}
        "network" where that cannot be told: reading one says what is wrong.

    Examples
    --------
    >>> kind_of("no such file")
    'network'
    """
    from safetensors import SafetensorError, safe_open

    if not is_regular(path):
        return "network"
    try:
        with safe_open(path, framework="numpy") as file:
            settings = json.loads((file.metadata() or {})[FORMAT])["settings"]
        return "estimator" if "estimator" in settings else "ensemble"
    except (SafetensorError, KeyError, TypeError, ValueError, RecursionError):
        return "network"


def _read(
    path: str | PathLike[str], layer_types: Iterable[type[Layer]]
) -> tuple[list[Network], dict[str, Any] | None]:
    """The networks in a file, and the settings of an ensemble, or None."""
    from safetensors import SafetensorError, safe_open

    path = checked_path("path", path)
    found = status(path)
    if found is None:
        raise FileNotFoundError(f"path: there is no file {path!r}")
    if stat.S_ISDIR(found.st_mode):
        raise directory_error(path)
    if not stat.S_ISREG(found.st_mode):  # reading a pipe might never end
        raise ValueError(f"path: {path!r} is not a fastbp model: it is a pipe or a device")
    known = built_in.BUILT_IN | _by_name(layer_types)
    try:
        with safe_open(path, framework="numpy") as file:
            networks, settings = _describe(path, file.metadata() or {}, known)
            expected = {
                f"{'' if settings is None else f'networks.{i}.'}layers.{where}.{name}":
                (layer, name, dtype)
                for i, (layers, dtype, _) in enumerate(networks)
                for where, layer in built_in.leaves(layers)
                for name in layer.array_shapes
            }
            _compare_names(path, set(file.keys()), set(expected))
            for key, (layer, name, dtype) in expected.items():
                header, shape = file.get_slice(key), list(layer.array_shapes[name])
                if header.get_shape() != shape or header.get_dtype() != CODES[dtype]:
                    raise damaged(path, f"{key} is {header.get_dtype()} of shape "
                                         f"{header.get_shape()}, expected {CODES[dtype]} of "
                                         f"shape {shape}")
                setattr(layer, name, file.get_tensor(key))
    except SafetensorError as error:
        raise ValueError(f"path: {path!r} is not a fastbp model: it is not a safetensors file, or "
                         f"a damaged one ({error})") from None
    wild = [key for key, (layer, name, _) in expected.items()
            if not np.isfinite(getattr(layer, name)).all()]
    if wild:
        warnings.warn(f"path: {path!r} holds NaN or infinity in {', '.join(wild[:5])}"
                      f"{', ...' * (len(wild) > 5)}", RuntimeWarning, stacklevel=4)
    return networks, settings


def _by_name(layer_types: Iterable[type[Layer]]) -> dict[str, type[Layer]]:
    try:
        classes: list[Any] = list(layer_types)
    except TypeError:
        classes = [None]
    if not all(isinstance(cls, type) and issubclass(cls, built_in.Layer) for cls in classes):
        raise TypeError(f"layer_types: expected a list of Layer classes, got {layer_types!r}")
    return {cls.__name__: cls for cls in classes}


def damaged(path: str | PathLike[str], what: object) -> ValueError:
    """The error for a file that is not a complete model.

    Parameters
    ----------
    path : str or path-like
    what : object
        What is wrong with it: a text or another error.

    Returns
    -------
    ValueError

    Examples
    --------
    >>> print(damaged("model.safetensors", "missing: layers.0.W"))
    path: 'model.safetensors' is not a complete fastbp model: missing: layers.0.W
    """
    return ValueError(f"path: {os.fspath(path)!r} is not a complete fastbp model: {what}")


def _describe(
    path: str, metadata: Mapping[str, str], known: Mapping[str, type[Layer]]
) -> tuple[list[Network], dict[str, Any] | None]:
    """The networks that the metadata describe, without parameters, and an ensemble's settings."""
    if FORMAT not in metadata:
        raise ValueError(f"path: {path!r} is not a fastbp model: it is a safetensors file of "
                         f"another program")
    try:
        description = json.loads(metadata[FORMAT])
        version = description["version"]
        settings = dict(description["settings"]) if "networks" in description else None
        described = [
            (network["dtype"], network.get("precision", "highest"),
             [(str(layer["type"]), dict(layer["config"])) for layer in network["layers"]])
            for network in ([description] if settings is None else description["networks"])]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise damaged(path, f"its description cannot be read "
                             f"({type(error).__name__}: {error})") from None
    if version != VERSION:
        raise ValueError(f"path: {path!r} is a fastbp model of version {version!r}; this fastbp "
                         f"reads version {VERSION}")
    networks = []
    for dtype, precision, layers in described:
        if not isinstance(dtype, str) or dtype not in CODES:
            raise damaged(path, f"its dtype is {dtype!r}, expected float32 or float64")
        try:
            checks.precision(precision, np.dtype(dtype))
        except ValueError as error:
            raise damaged(path, error) from None
        networks.append(([_made(path, str(i), name, config, known)
                          for i, (name, config) in enumerate(layers)], dtype, precision))
    return networks, settings


def _made(
    path: str, where: str, name: str, config: Mapping[str, Any], known: Mapping[str, type[Layer]]
) -> Layer:
    """A layer of this type and configuration, which may contain descriptions of other layers."""
    if name not in known:
        raise ValueError(f"path: {path!r} has a layer {name!r} at {where}, which fastbp does not "
                         f"know; pass its class as load(path, layer_types=[{name}])")

    def layers_of(value: Any, where: str) -> Any:
        if isinstance(value, dict) and set(value) == {"type", "config"}:
            if not isinstance(value["config"], dict):
                raise damaged(path, f"layer {where}: its configuration is not an object")
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


def _compare_names(path: str, got: set[str], expected: set[str]) -> None:
    if got != expected:
        differences = {"missing": sorted(expected - got), "not expected": sorted(got - expected)}
        raise damaged(path, "; ".join(
            f"{what}: {', '.join(names[:5])}{', ...' * (len(names) > 5)}"
            for what, names in differences.items() if names
        ))
