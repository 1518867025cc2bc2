"""Layers that consist of other layers."""

import numpy as np

from ..kernels import checks
from .base import Layer
from .sequences import Container, LayerSequence, chain, check_each_once, checked_layers

__all__ = ["Columns", "Residual"]


class Residual(Container):
    """What some layers make of X, added to X: ``Z = X + F(X)``.

    Parameters
    ----------
    layers : sequence of Layer
        They return as many columns as they take.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(self, layers):
        layers = checked_layers(layers)
        n_in, n_out = chain(layers)
        if n_in != n_out:
            raise ValueError(f"layers: expected layers that return as many columns as they take, "
                             f"got {n_in} to {n_out}")
        super().__init__(n_in)
        vars(self)["_layers"] = layers

    @property
    def layers(self):
        """The layers, a tuple."""
        return self._layers

    @property
    def children(self):
        """The layers, each with its place."""
        return [(str(i), layer) for i, layer in enumerate(self._layers)]

    def lower(self, builder, x):
        z = x
        for i, layer in enumerate(self._layers):
            z = builder.layer(i, layer, z)
        return builder.op("add", x, z, gradient=0.0)


class Columns(Container):
    """Parts of the input's columns, each through its own layers, side by side.

    Parameters
    ----------
    parts : sequence of tuple (columns, layers)
        Columns are a whole number, a slice with a start and a stop, or a sequence of whole
        numbers; layers are one or a sequence, or none, for columns that are taken as they are.
    n_in : int, optional
        Columns of the input; by default as many as the highest that is named needs.

    Examples
    --------
    A number and two categories, of 7 and 12 codes::

        Columns([(0, []), (1, Embedding(7, 4)), (2, Embedding(12, 6))])
    """

    def __init__(self, parts, n_in=None):
        try:
            parts = [(columns, layers) for columns, layers in parts]
        except (TypeError, ValueError):
            raise TypeError(f"parts: expected pairs (columns, layers), got {parts!r}") from None
        if not parts:
            raise ValueError("parts: expected at least one, got none")
        columns = [_columns(f"parts[{i}]", part) for i, (part, _) in enumerate(parts)]
        n_named = 1 + max(max(part) for part in columns)
        n_in = n_named if n_in is None else checks.integer("n_in", n_in, n_named)
        sequences, n_out = [], 0
        for i, (part, (_, layers)) in enumerate(zip(columns, parts, strict=True)):
            layers = [layers] if isinstance(layers, Layer | LayerSequence) else layers
            layers = checked_layers(layers, name=f"parts[{i}]") if layers or not isinstance(
                layers, list | tuple) else ()
            takes, returns = chain(layers) if layers else (None, None)
            if takes not in (None, len(part)):
                raise ValueError(f"parts[{i}]: expected layers that take {len(part)} columns, got "
                                 f"{takes}")
            sequences.append(layers)
            n_out += returns or len(part)
        check_each_once([layer for layers in sequences for layer in layers])
        super().__init__(n_in, n_out)
        vars(self).update(_columns=columns, _sequences=sequences)

    @property
    def parts(self):
        """The layers of each part."""
        return self._sequences

    @property
    def children(self):
        """The layers, each with its place: the part's, and that in it."""
        return [(f"{i}.{j}", layer) for i, part in enumerate(self._sequences)
                for j, layer in enumerate(part)]

    def lower(self, builder, x):
        results = []
        for i, (columns, layers) in enumerate(zip(self._columns, self._sequences, strict=True)):
            z = builder.op("take_columns", x, columns=columns, sizes={"n": len(columns)})
            for j, layer in enumerate(layers):
                z = builder.layer(f"{i}.{j}", layer, z)
            results.append(z)
        return builder.op("join", *results)

    def config(self):
        """The constructor's arguments, with layers among them."""
        parts = [[list(columns), list(layers)]
                 for columns, layers in zip(self._columns, self._sequences, strict=True)]
        return {"parts": parts, "n_in": self.n_in}


def _columns(name, columns):
    """The numbers of some columns."""
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
    return columns
