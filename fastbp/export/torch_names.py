"""The arrays of a network under PyTorch's names, in safetensors files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import layers as own
from ..files import checked_path, is_regular, replace_file

if TYPE_CHECKING:
    from ..kernels.types import Array
    from ..layers import Layer
    from ..network import Sequential

__all__ = ["Entry", "entries", "load_weights", "save_weights"]

# What PyTorch's modules call the arrays of layers that they have too.
NAMES: dict[type[Layer], dict[str, str]] = {
    own.Dense: {"W": "weight", "b": "bias"},
    own.LayerNorm: {"gamma": "weight", "beta": "bias"},
    own.RMSNorm: {"gamma": "weight"},
    own.BatchNorm: {"gamma": "weight", "beta": "bias", "mean": "running_mean",
                    "variance": "running_var"},
    own.PReLU: {"slope": "weight"},
    own.Embedding: {"table": "weight"},
}
# What only PyTorch has.
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Entry:
    """An array of a network, and its name in PyTorch.

    Attributes
    ----------
    layer : Layer
    attribute : str
        Of the layer.
    own_name, name : str
        With the layer's path: fastbp's and PyTorch's.
    """

    layer: Layer
    attribute: str
    own_name: str
    name: str

    @property
    def transposed(self) -> bool:
        """Whether rows and columns are exchanged in PyTorch."""
        return isinstance(self.layer, own.Dense) and self.attribute == "W"

    def get(self) -> Array:
        """The array as PyTorch has it."""
        self.layer.restore_views()
        array: Array = getattr(self.layer, self.attribute)
        return np.ascontiguousarray(array.T if self.transposed else array)

    def set(self, array: Array) -> None:
        """Set it to what PyTorch has; shapes are checked before."""
        setattr(self.layer, self.attribute, array.T if self.transposed else array)


def entries(leaves: Iterable[tuple[str, Layer]]) -> list[Entry]:
    """All arrays of a network.

    Parameters
    ----------
    leaves : iterable of tuple (path, Layer)
        ``net.leaves``

    Returns
    -------
    list of Entry

    Examples
    --------
    >>> import fastbp as fb
    >>> [each.name for each in entries(fb.mlp([2, 8, 1]).leaves)]
    ['0.weight', '0.bias', '2.weight', '2.bias']
    """
    return [Entry(layer, name, f"{where}.{name}",
                  f"{where}.{NAMES.get(type(layer), {}).get(name, name)}")
            for where, layer in leaves for name in layer.array_shapes]


def _renamed(network: Sequential, weights: Mapping[str, str] | None) -> dict[str, Entry]:
    """The arrays by their names in the file."""
    found = entries(network.leaves)
    if weights is None:
        return {each.name: each for each in found}
    if not isinstance(weights, Mapping):
        raise TypeError(f"weights: expected a dict of names, got {weights!r}")
    known = {each.own_name for each in found}
    unknown = [name for name in weights if name not in known]
    if unknown:
        raise ValueError(f"weights: expected names of the network's arrays, such as "
                         f"{', '.join(sorted(known)[:3])}, got {unknown[0]!r}")
    names = {weights.get(each.own_name, each.name): each for each in found}
    if len(names) < len(found):
        raise ValueError("weights: expected another name for each array, got one twice")
    return names


def save_weights(path: str | os.PathLike[str], network: Sequential,
                 weights: Mapping[str, str] | None = None) -> None:
    """Write a network's arrays to a safetensors file, under PyTorch's names.

    Parameters
    ----------
    path : str or path-like
    network : Sequential
    weights : dict of str to str, optional
        Other names for some arrays, by fastbp's.

    Raises
    ------
    TypeError, ValueError, OSError
        As `Sequential.save_torch`.
    """
    from safetensors.numpy import save

    path = checked_path("path", path)
    names = _renamed(network, weights)
    tensors = {name: each.get() for name, each in names.items()}
    for name, each in names.items():
        if isinstance(each.layer, own.BatchNorm) and each.attribute == "mean":
            tensors[f"{name.rpartition('.')[0]}.{COUNTER}"] = np.array(0, np.int64)
    replace_file(path, save(tensors))


def load_weights(path: str | os.PathLike[str], network: Sequential,
                 weights: Mapping[str, str] | None = None) -> None:
    """Set a network's arrays to those in a safetensors file, under PyTorch's names.

    Parameters
    ----------
    path : str or path-like
    network : Sequential
    weights : dict of str to str, optional
        Other names of some arrays, by fastbp's; the file may then hold more.

    Raises
    ------
    TypeError, ValueError, FileNotFoundError
        As `Sequential.load_torch`.
    """
    from safetensors import SafetensorError, safe_open

    path = checked_path("path", path)
    if not is_regular(path):
        if os.path.exists(path):
            raise ValueError(f"path: expected a file, got {path!r}")
        raise FileNotFoundError(f"path: there is no file {path!r}")
    names = _renamed(network, weights)
    arrays: dict[str, Any] = {}
    try:
        with safe_open(path, framework="numpy") as file:
            there = set(file.keys())
            missing = [name for name in names if name not in there]
            more = [] if weights is not None else [
                name for name in sorted(there - names.keys()) if not name.endswith(COUNTER)]
            if missing or more:
                raise ValueError(
                    f"path: {path!r} holds other arrays than the network: "
                    + "; ".join(f"{what}: {', '.join(some[:5])}{', …' * (len(some) > 5)}"
                                for what, some in (("missing", missing), ("not expected", more))
                                if some)
                    + "; name them with weights={own name: name in the file}")
            for name, each in names.items():
                header = file.get_slice(name)
                if header.get_dtype() not in ("F16", "F32", "F64") or (
                        list(header.get_shape()) != list(each.get().shape)):
                    raise ValueError(f"path: {path!r}: {name}: expected numbers of shape "
                                     f"{each.get().shape}, got {header.get_dtype()} of shape "
                                     f"{tuple(header.get_shape())}")
                arrays[name] = file.get_tensor(name)
    except SafetensorError as error:
        raise ValueError(f"path: {path!r} is not a safetensors file, or a damaged one "
                         f"({error})") from None
    for name, each in names.items():  # all of them are there, and fit
        each.set(arrays[name])
