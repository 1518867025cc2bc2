"""What the nodes of a graph do to a value, step by step, and the layers that do the same.

Graphs come from ONNX files and from PyTorch's modules.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import layers as fb
from ..kernels.types import Array

__all__ = ["Flow", "Node", "NotReadable", "Step", "common_ancestor", "layers_of", "normalized",
           "path", "refused"]


class NotReadable(ValueError):
    """What a graph holds that cannot be read; what reads it adds where it is from."""


@dataclass
class Node:
    """One node of a graph.

    Attributes
    ----------
    op : str
        The operator's name, with the domain before it unless that is ONNX's.
    reads, writes : list of str
        An empty name stands for an input that is left out.
    attributes : dict
        Numbers, text, lists, arrays.
    where : str
        What messages call it.
    """

    op: str
    reads: list[str]
    writes: list[str]
    attributes: dict[str, Any]
    where: str


def refused(node: Node, why: str = "") -> NotReadable:
    """The error for an operator that no layer of fastbp computes.

    Parameters
    ----------
    node : Node
    why : str, optional
        With what it can be read, if it can be read at all: goes after "only".

    Returns
    -------
    NotReadable
    """
    if why:
        return NotReadable(f"{node.where}: can be read only {why}; change it, or take it out of "
                           f"the model and apply it before or after the network")
    return NotReadable(f"{node.where}: expected operators of layers that fastbp has; take it out "
                       f"of the model, and apply it before or after the network")


@dataclass(frozen=True, eq=False)
class Step:
    """One thing that is done to all rows.

    Attributes
    ----------
    op : str
    where : str
        The node, for messages.
    options : dict
        Arrays and numbers.
    """

    op: str
    where: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Flow:
    """A value that depends on the input: the value before, and the step from that.

    Attributes
    ----------
    parent : Flow or None
        None for the input.
    step : Step or None
    shape : tuple
        Sizes after that of the batch; None where unknown.
    depth : int
    batch : int or None
        The rows, where there can only be so many.
    """

    parent: Flow | None
    step: Step | None
    shape: tuple[int | None, ...]
    depth: int = 0
    batch: int | None = None

    def then(self, step: Step, shape: tuple[int | None, ...] | None = None) -> Flow:
        """The value after another step."""
        return Flow(self, step, self.shape if shape is None else shape, self.depth + 1,
                    self.batch)

    @property
    def columns(self) -> int | None:
        """How many numbers a row has."""
        if None in self.shape:
            return None
        return math.prod(size for size in self.shape if size is not None)


def path(start: Flow, end: Flow) -> list[Step] | None:
    """The steps from one value to another; None if that does not depend on it alone."""
    steps: list[Step] = []
    each: Flow | None = end
    while each is not None and each is not start:
        if each.step is not None:
            steps.append(each.step)
        each = each.parent
    return steps[::-1] if each is start else None


def common_ancestor(flows: list[Flow]) -> Flow:
    """The last value from which all of these come."""
    current = list(flows)
    while any(each is not current[0] for each in current):
        deepest = max(range(len(current)), key=lambda i: current[i].depth)
        parent = current[deepest].parent
        assert parent is not None  # all come from the one input
        current[deepest] = parent
    return current[0]


def normalized(steps: list[Step]) -> list[Step]:
    """The same without changes of shape, and with adjacent scales and shifts as one."""
    found: list[Step] = []
    for step in steps:
        if step.op == "reshape":
            continue
        if step.op == "affine" and found and found[-1].op == "affine":
            first, then = found.pop().options, step.options
            step = Step("affine", step.where, {
                "scale": first["scale"] * then["scale"],
                "shift": first["shift"] * then["scale"] + then["shift"]})
        if step.op == "affine" and (step.options["scale"] == 1).all() and not (
                step.options["shift"]).any():
            continue
        found.append(step)
    return found


def layers_of(steps: list[Step], columns: int | None, limit: int) -> tuple[list[fb.Layer], Any]:
    """The layers that do what the steps do.

    Parameters
    ----------
    steps : list of Step
    columns : int or None
        Of the value before them.
    limit : int
        Most columns that a layer without arrays of the file may have.

    Returns
    -------
    layers : list of Layer
    columns : int or None
        Of the value after them.

    Raises
    ------
    NotReadable
        If there are no such layers; the message names the node.
    """
    maker = _Maker(normalized(steps), columns, limit)
    return maker.layers(), maker.columns


class _Maker:
    """Makes layers of normalized steps, from the first to the last."""

    def __init__(self, steps: list[Step], columns: int | None, limit: int) -> None:
        self.steps, self.columns, self.limit, self.at = steps, columns, limit, 0

    def layers(self) -> list[fb.Layer]:
        """All layers."""
        made: list[fb.Layer] = []
        while self.at < len(self.steps):
            step = self.steps[self.at]
            self.at += 1
            make = MAKERS.get(step.op)
            if make is None:
                raise NotReadable(f"{step.where}: expected operators of layers that fastbp has; "
                                  f"take it out of the model, and apply it before or after the "
                                  f"network")
            try:
                layers = make(self, step)
            except NotReadable:
                raise
            except (ValueError, TypeError, IndexError, ArithmeticError) as error:
                raise NotReadable(f"{step.where}: its arrays or attributes do not fit "
                                  f"{self.columns} columns ({error}); export the model with shapes "
                                  f"that fit") from None
            for layer in layers:
                if layer.n_in is not None and self.columns not in (None, layer.n_in):
                    raise NotReadable(f"{step.where}: expected {layer.n_in} columns, got "
                                      f"{self.columns}; export the model with shapes that fit")
                self.columns = layer.n_out or self.columns
                if self.columns is not None and self.columns > self.limit:
                    raise NotReadable(f"{step.where}: {self.columns:,} columns are more than the "
                                      f"file has bytes")
                made.append(layer)
        return made

    def next_affine(self, n: int | None) -> tuple[Array, Array] | None:
        """The scale and shift of the next step, which is used up, if it is one."""
        if self.at == len(self.steps) or self.steps[self.at].op != "affine":
            return None
        step = self.steps[self.at]
        self.at += 1
        return self.affine(step, n)

    def affine(self, step: Step, n: int | None) -> tuple[Array, Array]:
        """Scale and shift of a step, for each of n columns."""
        n = self.width(step, n)
        try:
            scale, shift = (np.broadcast_to(step.options[name], (n,))
                            for name in ("scale", "shift"))
        except ValueError:
            raise NotReadable(f"{step.where}: expected one number for each of {n} "
                              f"columns") from None
        return scale, shift

    def width(self, step: Step, n: int | None = None) -> int:
        """The number of columns, which has to be known, and no more than the file has bytes."""
        n = self.columns if n is None else n
        if n is None:
            raise NotReadable(f"{step.where}: the number of columns before it is unknown; export "
                              f"the model with a fixed number of columns")
        if n > self.limit:
            raise NotReadable(f"{step.where}: {n:,} columns are more than the file has bytes")
        return n


def _with(layer: fb.Layer, **arrays: Array) -> list[fb.Layer]:
    for name, array in arrays.items():
        setattr(layer, name, np.asarray(array).reshape(layer.array_shapes[name]))
    return [layer]


def _dense(maker: _Maker, step: Step) -> list[fb.Layer]:
    W, b = step.options["W"], step.options["b"]
    if b is None:  # a product, and perhaps a sum after it
        after = maker.next_affine(W.shape[1])
        b = np.zeros(W.shape[1])
        if after is not None:
            W, b = W * after[0], after[1]
    return _with(fb.Dense(*W.shape), W=W, b=np.broadcast_to(b, W.shape[1:]))


def _affine(maker: _Maker, step: Step) -> list[fb.Layer]:
    scale, shift = maker.affine(step, None)
    following = maker.steps[maker.at] if maker.at < len(maker.steps) else None
    if following is not None and following.op == "shared_product" and not shift.any():
        maker.at += 1
        return _ensemble(maker, following, scale)
    if not shift.any():
        return _with(fb.Scale(len(scale)), gamma=scale)
    # The variance and epsilon are powers of 2 whose sum is 1 exactly.
    tiny = 2.0**-20
    return _with(fb.BatchNorm(len(scale), epsilon=tiny), gamma=scale, beta=shift,
                 mean=np.zeros(len(scale)), variance=np.full(len(scale), 1 - tiny))


def _shared_product(maker: _Maker, step: Step) -> list[fb.Layer]:
    return _ensemble(maker, step, np.ones(maker.width(step)))


def _ensemble(maker: _Maker, step: Step, r: Array) -> list[fb.Layer]:
    W = step.options["W"]
    n_members = _members(step, len(r), len(W))
    s, b = (np.ones(n_members * W.shape[1]), np.zeros(n_members * W.shape[1]))
    after = maker.next_affine(len(b))
    if after is not None:
        s, b = after
    n_in, n_out = W.shape
    return _with(fb.EnsembleDense(n_in, n_out, n_members), W=W, r=r, s=s, b=b)


def _members(step: Step, columns: int, own: int) -> int:
    if own == 0 or columns % own:
        raise NotReadable(f"{step.where}: expected a multiple of {own} columns, got {columns}")
    return columns // own


def _shared_dense(maker: _Maker, step: Step) -> list[fb.Layer]:
    W, b = step.options["W"], step.options["b"]
    n_members = _members(step, maker.width(step), len(W))
    n_in, n_out = W.shape
    return _with(fb.EnsembleDense(n_in, n_out, n_members, None), W=W, b=b)


def _separate(maker: _Maker, step: Step) -> list[fb.Layer]:
    W, b = step.options["W"], step.options["b"]
    k, n_in, n_out = W.shape
    return _with(fb.SeparateDense(n_in, n_out, k), W=W, b=b)


def _repeat(maker: _Maker, step: Step) -> list[fb.Layer]:
    n = maker.width(step)
    maker.width(step, n * step.options["n_members"])
    return [fb.Repeat(n, step.options["n_members"])]


def _mean(maker: _Maker, step: Step) -> list[fb.Layer]:
    n_members = step.options["n_members"]
    n = maker.width(step)
    return [fb.MeanOfMembers(n // _members(step, n, n // n_members), n_members)]


def _layer_norm(maker: _Maker, step: Step) -> list[fb.Layer]:
    n = maker.width(step)
    if "gamma" in step.options:
        gamma, beta = step.options["gamma"], step.options["beta"]
    else:
        gamma, beta = maker.next_affine(n) or (np.ones(n), np.zeros(n))
    return _with(fb.LayerNorm(n, step.options["epsilon"]), gamma=np.broadcast_to(gamma, n),
                 beta=np.broadcast_to(beta, n))


def _rms_norm(maker: _Maker, step: Step) -> list[fb.Layer]:
    n = maker.width(step)
    layer = fb.RMSNorm(n, step.options["epsilon"])
    if "gamma" in step.options:
        return _with(layer, gamma=np.broadcast_to(step.options["gamma"], n))
    following = maker.steps[maker.at] if maker.at < len(maker.steps) else None
    if following is not None and following.op == "affine" and not following.options["shift"].any():
        maker.at += 1
        return _with(layer, gamma=maker.affine(following, n)[0])
    return _with(layer, gamma=np.ones(n))


def _batch_norm(maker: _Maker, step: Step) -> list[fb.Layer]:
    arrays = dict(step.options)
    settings = {name: arrays.pop(name) for name in ("epsilon", "momentum") if name in arrays}
    return _with(fb.BatchNorm(arrays["gamma"].size, **settings), **arrays)


def _prelu(maker: _Maker, step: Step) -> list[fb.Layer]:
    slope = step.options["slope"].ravel()
    n = slope.size if maker.columns is None and slope.size > 1 else maker.width(step)
    return _with(fb.PReLU(n), slope=np.broadcast_to(slope, n))


def _embedding(maker: _Maker, step: Step) -> list[fb.Layer]:
    table = step.options["table"]
    return _with(fb.Embedding(*table.shape), table=table)


def _periodic(maker: _Maker, step: Step) -> list[fb.Layer]:
    k, d = step.options["gamma"].shape
    return _with(fb.PeriodicEmbedding(k, d), **step.options)


def _piecewise(maker: _Maker, step: Step) -> list[fb.Layer]:
    low, width, largest, W = (step.options[name] for name in ("low", "width", "largest", "W"))
    edges, rows = [], []
    for f in range(len(low)):
        n = int((largest[f] > 0).sum())  # the others are no bins
        edges.append([*low[f, :n].tolist(), float(low[f, n - 1] + width[f, n - 1])])
        rows.append(W[f, :n])
    layer = fb.PiecewiseLinearEmbedding(edges, W.shape[2])
    return _with(layer, W=np.concatenate(rows), b=step.options["b"],
                 edges=np.concatenate(edges))


def _take(maker: _Maker, step: Step) -> list[fb.Layer]:
    return [fb.Columns([(step.options["columns"], [])], n_in=step.options["n_in"])]


def _residual(maker: _Maker, step: Step) -> list[fb.Layer]:
    inner, _ = layers_of(step.options["steps"], maker.columns, maker.limit)
    return [fb.Residual(inner)]


def _columns(maker: _Maker, step: Step) -> list[fb.Layer]:
    parts, n_in = [], maker.columns
    for steps in step.options["parts"]:
        first = steps[0] if steps else None
        if first is not None and first.op == "take":
            columns, steps, n_in = first.options["columns"], steps[1:], first.options["n_in"]
        else:
            columns = list(range(maker.width(step)))
        inner, _ = layers_of(steps, len(columns), maker.limit)
        parts.append((columns, inner))
    return [fb.Columns(parts, n_in=n_in)]


def _sum(maker: _Maker, step: Step) -> list[fb.Layer]:
    """The mean of two, doubled."""
    joined, = _columns(maker, step)
    assert joined.n_out is not None
    n = joined.n_out // 2
    return [joined, fb.MeanOfMembers(n, 2), *_with(fb.Scale(n), gamma=np.full(n, 2.0))]


def _layer(maker: _Maker, step: Step) -> list[fb.Layer]:
    return [step.options["layer"]]


def _activation(maker: _Maker, step: Step) -> list[fb.Layer]:
    return [fb.ACTIVATIONS[step.options["name"]](
        *[step.options[name] for name in ("alpha",) if name in step.options])]


# How layers are made of each step.
MAKERS: dict[str, Any] = {
    "activation": _activation, "affine": _affine, "batch_norm": _batch_norm, "columns": _columns,
    "dense": _dense, "embedding": _embedding, "layer": _layer, "layer_norm": _layer_norm,
    "mean": _mean,
    "periodic": _periodic, "piecewise": _piecewise, "prelu": _prelu, "repeat": _repeat,
    "residual": _residual, "rms_norm": _rms_norm, "separate": _separate,
    "shared_dense": _shared_dense, "shared_product": _shared_product, "sum": _sum, "take": _take,
}
