"""Sequences of layers, and layers nested in layers."""

import copy

from .base import Layer

__all__ = ["Container", "LayerSequence", "chain", "check_each_once", "checked_layers", "leaves"]


class LayerSequence:
    """What consists of layers, `layers`, one after the other: a network."""


class Container(Layer):
    """Base class of layers that consist of layers, which they name in `children`."""

    @property
    def n_parameters(self):
        """How many numbers the parameters of its layers are."""
        return sum(layer.n_parameters for _, layer in self.children)

    @property
    def bound(self):
        """Whether its layers are in a network."""
        return any(layer.bound for _, layer in self.children)


def leaves(layers):
    """The layers that consist of no others, in order, each with its place, such as ``"2.0"``."""
    found = []
    for i, layer in enumerate(layers):
        found += _leaves(str(i), layer)
    return found


def _leaves(where, layer):
    if not isinstance(layer, Container):
        return [(where, layer)]
    return [leaf for i, child in layer.children for leaf in _leaves(f"{where}.{i}", child)]


def checked_layers(sequence, own=(), name="layers"):
    """A tuple of layers that can be put into a network, or a layer, whose layers are `own`.

    A network among them stands for copies of its layers, with their weights.

    Raises
    ------
    TypeError
        If it is no sequence of layers.
    ValueError
        If there are none, one comes twice, or one is in another network.
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
    found = []
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


def check_each_once(sequence, name="layers"):
    first = {}
    for where, layer in leaves(sequence):
        if first.setdefault(id(layer), where) != where:
            raise ValueError(f"{name}: layer {where} is the same object as layer "
                             f"{first[id(layer)]}; make another {type(layer).__name__}")


def chain(sequence):
    """Columns of the input and the output, if each layer takes what the last returns."""
    n_in = width = source = None
    for i, layer in enumerate(sequence):
        if layer.n_in is None:
            continue
        if width is None:
            n_in = layer.n_in
        elif layer.n_in != width:
            raise ValueError(
                f"layers: layer {i} ({layer!r}) takes {layer.n_in} columns, but layer "
                f"{source} ({sequence[source]!r}) returns {width}"
            )
        width, source = layer.n_out, i
    return n_in, width
