"""Ways to make a network: the usual stack of dense layers, and from a file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import io, layers
from .kernels import checks
from .network import Sequential

__all__ = ["load", "mlp"]


def mlp(sizes: ArrayLike, activation: str | Sequence[str] = "relu", dropout: float = 0.0, *,
        dtype: Any = "float32", precision: str = "highest",
        seed: int | None = None) -> Sequential:
    """The usual stack: dense layers with an activation after each but the last.

    Parameters
    ----------
    sizes : sequence of int
        Columns of the input, of each hidden layer, and of the output.
    activation : str or sequence of str, default "relu"
        The name of an activation's function in `fastbp.kernels`, such as ``"tanh"``; or one for
        each hidden layer.
    dropout : float in [0, 1), default 0.0
        After each activation.
    dtype : {"float32", "float64"}, default "float32"
    precision : {"highest", "high", "medium"}, default "highest"
        Of the matrix products; see `Sequential`.
    seed : int, optional
        See `Sequential`.

    Returns
    -------
    Sequential
        Weights start as He's (uniform) before relu-like activations, as Glorot's before
        sigmoid, tanh and the output.

    Raises
    ------
    TypeError, ValueError
        If a size is not a whole number of at least 1, there are fewer than two, or an
        activation is unknown.

    Examples
    --------
    >>> mlp([784, 256, 10], seed=0).parameters.size
    203530
    """
    text = str | bytes | bytearray | memoryview  # sequences too, but of other things
    if isinstance(sizes, text) or not isinstance(sizes, Sequence | np.ndarray) or (
        isinstance(sizes, np.ndarray) and sizes.ndim == 0
    ):
        raise TypeError(f"sizes: expected a sequence of whole numbers, got {sizes!r}")
    sizes = [checks.integer(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes)]
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least two, those of input and output, got {sizes}")
    dropout = checks.number("dropout", dropout, 0, 1, high_open=True)
    n_hidden = len(sizes) - 2
    names = [activation] * n_hidden if isinstance(activation, str) else activation
    if isinstance(names, text) or not isinstance(names, Sequence):
        raise TypeError(f"activation: expected a name or a sequence of names, got {activation!r}")
    for name in [activation] if isinstance(activation, str) else names:
        if not (isinstance(name, str) and name in layers.ACTIVATIONS):
            raise ValueError(f"activation: expected one of {', '.join(layers.ACTIVATIONS)}, "
                             f"got {name!r}")
    if len(names) != n_hidden:
        raise ValueError(f"activation: expected a name or {n_hidden} names, one for each hidden "
                         f"layer, got {len(names)}")
    stack = []
    for n_in, n_out, name in zip(sizes, sizes[1:-1], names, strict=False):
        init = "glorot_uniform" if name in ("sigmoid", "tanh") else "he_uniform"
        stack += [layers.Dense(n_in, n_out, init), layers.ACTIVATIONS[name]()]
        if dropout:
            stack.append(layers.Dropout(dropout))
    stack.append(layers.Dense(sizes[-2], sizes[-1], "glorot_uniform"))
    return Sequential(stack, dtype, seed, precision=precision)


def load(path: str | os.PathLike[str],
         layer_types: Iterable[type[layers.Layer]] = ()) -> Sequential:
    """Read a network from a file that `Sequential.save` wrote.

    Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like
    layer_types : iterable of type, optional
        Your own layer classes that the network was made with.

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is not a path.
    ValueError
        If it is not a fastbp model, or a damaged one; the message says what is wrong.

    Examples
    --------
    >>> mlp([4, 8, 3], seed=0).save("model.safetensors")
    >>> load("model.safetensors").n_out
    3
    """
    read, dtype, precision = io.read(path, layer_types)
    try:
        return Sequential(read, dtype, precision=precision)
    except ValueError as error:
        raise io.damaged(path, error) from None
