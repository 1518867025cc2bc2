"""Sequences of layers, as networks and containers have them: nesting, checks, and sizes."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

from .base import Layer

__all__ = ["Container", "LayerSequence", "chain", "check_each_once", "checked_layers", "leaves"]


class LayerSequence:
    """Base class of `Sequential`: an object whose `layers` are applied one after the other.

    Examples
    --------
    >>> import fastbp as fb
    >>> isinstance(fb.mlp([2, 1]), fb.layers.LayerSequence)
    True
    """

    layers: Any


class Container(Layer):
    """Base class of layers that consist of other layers, which `children` lists.

    Its `lower` adds the children with `fastbp.program.Builder.layer`.

    Examples
    --------
    >>> import fastbp as fb
    >>> class Twice(fb.layers.Container):
    ...     def __init__(self, layer):
    ...         super().__init__(layer.n_in, layer.n_out)
    ...         self.layer = layer
    ...
    ...     @property
    ...     def children(self):
    ...         return [("0", self.layer)]
    ...
    ...     def lower(self, builder, x):
    ...         z = builder.layer(0, self.layer, x)
    ...         return builder.op("add", z, z, gradient=0.0)
    ...
    >>> net = fb.Sequential([Twice(fb.Dense(2, 2, init=lambda rng, *shape: [[1, 0], [0, 1]]))])
    >>> net.predict([[1.0, 2.0]])
    array([[2., 4.]], dtype=float32)
    """

    @property
    def n_parameters(self) -> int:
        """Total size of the children's parameters."""
        return sum(layer.n_parameters for _, layer in self.children)

    @property
    def bound(self) -> bool:
        """Whether the children are in a network."""
        return any(layer.bound for _, layer in self.children)


def leaves(layers: Iterable[Layer]) -> list[tuple[str, Layer]]:
    """The layers that are not containers, nested ones included, in order.

    Parameters
    ----------
    layers : iterable of Layer

    Returns
    -------
    list of tuple (str, Layer)
        Each layer with its path, such as ``"2.0"`` for the first child of layer 2.

    Examples
    --------
    >>> import fastbp as fb
    >>> layers = [fb.Dense(2, 3), fb.Residual([fb.ReLU(), fb.Dense(3, 3)])]
    >>> for where, layer in fb.layers.leaves(layers):
    ...     print(where, layer)
    0 Dense(n_in=2, n_out=3, init='he_uniform')
    1.0 ReLU()
    1.1 Dense(n_in=3, n_out=3, init='he_uniform')
    """
    found = []
    for i, layer in enumerate(layers):
        found += _leaves(str(i), layer)
    return found


def _leaves(where: str, layer: Layer) -> list[tuple[str, Layer]]:
    if not isinstance(layer, Container):
        return [(where, layer)]
    return [leaf for i, child in layer.children for leaf in _leaves(f"{where}.{i}", child)]


def checked_layers(sequence: Any, own: Sequence[Layer] = (),
                   name: str = "layers") -> tuple[Layer, ...]:
    """Check that layers can become those of a network or of a container.

    Parameters
    ----------
    sequence : sequence of Layer
        A network in the sequence is replaced by copies of its layers, including their weights.
    own : sequence of Layer
        Layers that may be in a network already: the one that is being changed.
    name : str, default "layers"
        The name of the argument, for messages.

    Returns
    -------
    tuple of Layer

    Raises
    ------
    TypeError
        If it is not a sequence of layers.
    ValueError
        If it is empty, a layer occurs twice, or one is in another network.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.layers.checked_layers([fb.ReLU(), fb.ReLU()])
    (ReLU(), ReLU())
    >>> fb.layers.checked_layers([fb.ReLU])
    Traceback (most recent call last):
    TypeError: layers: expected a layer at 0, got the class ReLU; make one: ReLU(...)
    """
    if isinstance(sequence, Layer):
        raise TypeError(f"{name}: expected a sequence of layers, got {sequence!r} alone; "
                        f"put it in a list")
    try:
        sequence = list(sequence)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence of layers, got {sequence!r}") from None
    if not sequence:
        raise ValueError(f"{name}: expected at least one layer, got none")
    found: list[Layer] = []
    for i, layer in enumerate(sequence):
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise TypeError(f"{name}: expected a layer at {i}, got the class {layer.__name__}; "
                            f"make one: {layer.__name__}(...)")
        if isinstance(layer, LayerSequence):
            found += [copy.deepcopy(each) for each in layer.layers]
            continue
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}: expected a layer at {i}, got {layer!r} "
                            f"({type(layer).__name__})")
        if not hasattr(layer, "parameter_shapes"):
            raise TypeError(f"{name}: layer {i} ({type(layer).__name__}) was not set up; its "
                            f"__init__ has to call super().__init__()")
        if layer.bound and not any(layer is each for each in own):
            raise ValueError(f"{name}: layer {i} ({layer!r}) is in another network already; "
                             f"use copy.deepcopy(layer), which brings its weights along")
        found.append(layer)
    check_each_once(found, name)
    return tuple(found)


def check_each_once(sequence: Iterable[Layer], name: str = "layers") -> None:
    """Raise ValueError if a layer occurs twice, nested ones included.

    Parameters
    ----------
    sequence : iterable of Layer
    name : str, default "layers"
        The name of the argument, for the message.

    Examples
    --------
    >>> import fastbp as fb
    >>> from fastbp.layers.sequences import check_each_once
    >>> relu = fb.ReLU()
    >>> check_each_once([relu, fb.Dense(2, 2), relu])
    Traceback (most recent call last):
    ValueError: layers: layer 2 is the same object as layer 0; make another ReLU
    """
    first: dict[int, str] = {}
    for where, layer in leaves(sequence):
        if first.setdefault(id(layer), where) != where:
            raise ValueError(f"{name}: layer {where} is the same object as layer "
                             f"{first[id(layer)]}; make another {type(layer).__name__}")


def chain(sequence: Sequence[Layer]) -> tuple[int | None, int | None]:
    """The columns that layers in a row take and return, after a check that their sizes fit.

    Parameters
    ----------
    sequence : sequence of Layer

    Returns
    -------
    n_in, n_out : int or None
        None if no layer determines them.

    Raises
    ------
    ValueError
        If a layer takes another number of columns than the layer before it returns.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.layers.chain([fb.Dropout(0.5), fb.Dense(2, 3), fb.ReLU()])
    (2, 3)
    """
    n_in = width = source = None
    for i, layer in enumerate(sequence):
        if layer.n_in is None:
            continue
        if width is None:
            n_in = layer.n_in
        elif layer.n_in != width:
            assert source is not None
            raise ValueError(
                f"layers: layer {i} ({layer!r}) takes {layer.n_in} columns, but layer "
                f"{source} ({sequence[source]!r}) returns {width}"
            )
        width, source = layer.n_out, i
    return n_in, width
