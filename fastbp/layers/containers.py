"""Layers that consist of other layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from ..kernels import checks
from .base import Layer
from .sequences import Container, LayerSequence, chain, check_each_once, checked_layers

if TYPE_CHECKING:
    from ..program import Builder, Value

__all__ = ["Columns", "Residual"]

# What `Columns` takes for each part: which columns, and the layers for them.
Part: TypeAlias = tuple[
    int | slice | Sequence[int], Layer | LayerSequence | Sequence[Layer | LayerSequence]]


class Residual(Container):
    """A residual connection around layers: ``Z = X + F(X)``, where F is the layers in sequence.

    Parameters
    ----------
    layers : sequence of Layer
        Together they return as many columns as they take.

    Raises
    ------
    TypeError
        If `layers` is not a sequence of layers.
    ValueError
        If the numbers of columns do not fit, or a layer is in use elsewhere.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.

    Examples
    --------
    >>> import fastbp as fb
    >>> block = fb.Residual([fb.LayerNorm(8), fb.Dense(8, 8), fb.ReLU()])
    >>> net = fb.Sequential([fb.Dense(4, 8), block, fb.Dense(8, 2)])
    """

    _layers: tuple[Layer, ...]

    def __init__(self, layers: Iterable[Layer | LayerSequence]) -> None:
        checked = checked_layers(layers)
        n_in, n_out = chain(checked)
        if n_in != n_out:
            raise ValueError(f"layers: expected layers that return as many columns as they take, "
                             f"got {n_in} to {n_out}")
        super().__init__(n_in)
        vars(self)["_layers"] = checked

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers."""
        return self._layers

    @property
    def children(self) -> list[tuple[str, Layer]]:
        """The layers, each with its path."""
        return [(str(i), layer) for i, layer in enumerate(self._layers)]

    def lower(self, builder: Builder, x: Value) -> Value:
        z = x
        for i, layer in enumerate(self._layers):
            z = builder.layer(i, layer, z)
        total: Value = builder.op("add", x, z, gradient=0.0)
        return total


class Columns(Container):
    """Pass groups of columns through separate layers, and concatenate what these return.

    Parameters
    ----------
    parts : sequence of tuple (columns, layers)
        The columns are a whole number, a slice with a start and a stop, or a sequence of whole
        numbers.  The layers are a layer, a sequence of layers, or an empty list, which passes the
        columns on unchanged.
    n_in : int, optional
        Columns of the input; by default, just enough for the highest column in `parts`.

    Attributes
    ----------
    n_in, n_out : int

    Raises
    ------
    TypeError
        If `parts` is not made of such pairs.
    ValueError
        If it is empty, numbers of columns do not fit, or a layer is in use elsewhere.

    Examples
    --------
    One numeric column, and two categories with 7 and 12 codes:

    >>> import fastbp as fb
    >>> columns = fb.Columns([(0, []), (1, fb.Embedding(7, 4)), (2, fb.Embedding(12, 6))])
    >>> columns.n_in, columns.n_out
    (3, 11)
    """

    n_in: int
    n_out: int
    _columns: list[list[int]]
    _sequences: list[tuple[Layer, ...]]

    def __init__(self, parts: Iterable[Part], n_in: int | None = None) -> None:
        try:
            pairs = [(columns, layers) for columns, layers in parts]
        except (TypeError, ValueError):
            raise TypeError(f"parts: expected pairs (columns, layers), got {parts!r}") from None
        if not pairs:
            raise ValueError("parts: expected at least one, got none")
        columns = [_columns(f"parts[{i}]", part) for i, (part, _) in enumerate(pairs)]
        n_named = 1 + max(max(part) for part in columns)
        n_in = n_named if n_in is None else checks.integer("n_in", n_in, n_named)
        sequences, n_out = [], 0
        for i, (part, (_, layers)) in enumerate(zip(columns, pairs, strict=True)):
            sequence = _sequence(f"parts[{i}]", layers)
            takes, returns = chain(sequence)
            if takes not in (None, len(part)):
                raise ValueError(f"parts[{i}]: expected layers that take {len(part)} columns, got "
                                 f"{takes}")
            sequences.append(sequence)
            n_out += returns or len(part)
        check_each_once([layer for sequence in sequences for layer in sequence])
        super().__init__(n_in, n_out)
        vars(self).update(_columns=columns, _sequences=sequences)

    @property
    def columns(self) -> list[list[int]]:
        """The indices of each part's columns."""
        return self._columns

    @property
    def parts(self) -> list[tuple[Layer, ...]]:
        """The layers of each part."""
        return self._sequences

    @property
    def children(self) -> list[tuple[str, Layer]]:
        """The layers, each with the index of its part and its index there, as in ``"0.1"``."""
        return [(f"{i}.{j}", layer) for i, part in enumerate(self._sequences)
                for j, layer in enumerate(part)]

    def lower(self, builder: Builder, x: Value) -> Value:
        results = []
        for i, (columns, layers) in enumerate(zip(self._columns, self._sequences, strict=True)):
            z = builder.op("take_columns", x, columns=columns, sizes={"n": len(columns)})
            for j, layer in enumerate(layers):
                z = builder.layer(f"{i}.{j}", layer, z)
            results.append(z)
        joined: Value = builder.op("join", *results)
        return joined

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, with the layers themselves among them."""
        parts = [[list(columns), list(layers)]
                 for columns, layers in zip(self._columns, self._sequences, strict=True)]
        return {"parts": parts, "n_in": self.n_in}


def _columns(name: str, columns: Any) -> list[int]:
    """The indices of the columns of a part."""
    if isinstance(columns, slice):
        if columns.start is None or columns.stop is None or columns.step not in (None, 1):
            raise ValueError(f"{name}: expected a slice with a start and a stop, got {columns}")
        columns = range(*(checks.integer(f"{name}: {end}", getattr(columns, end), 0)
                          for end in ("start", "stop")))
    elif not isinstance(columns, str) and np.ndim(columns) == 0:
        columns = [columns]
    columns = [checks.integer(f"{name}: a column", column, 0) for column in columns]
    if not columns:
        raise ValueError(f"{name}: expected at least one column, got none")
    indices: list[int] = columns
    return indices


def _sequence(name: str, layers: Any) -> tuple[Layer, ...]:
    """The layers of a part."""
    if isinstance(layers, list | tuple) and not layers:
        return ()
    if isinstance(layers, Layer | LayerSequence):
        layers = [layers]
    return checked_layers(layers, name=name)
