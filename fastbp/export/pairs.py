"""Operators of two values, from which normalization and activations are recognized, and of
constants."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..kernels.types import Array
from .steps import Flow, Node, NotReadable, Step, common_ancestor, normalized, path, refused

__all__ = ["constant_result", "embedded", "pairwise"]


def pairwise(node: Node, a: Any, b: Any) -> Flow:
    """The result of Add, Sub, Mul, Div or Pow where one value, or both, depend on the input.

    Parameters
    ----------
    node : Node
    a, b : Flow or ndarray

    Returns
    -------
    Flow

    Raises
    ------
    NotReadable
        If it is part of nothing that fastbp has a layer for.
    """
    if isinstance(a, Flow) and isinstance(b, Flow):
        start = common_ancestor([a, b])
        of_a, of_b = (normalized(path(start, each) or []) for each in (a, b))
        found = None
        if node.op in ("Mul", "Div"):
            found = _scaled_by_itself(node, start, of_a, of_b)
        elif node.op in ("Add", "Sub"):
            found = _sum(node, start, a, b)
        if found is None:
            raise refused(node)
        return found
    flow, values = (a, b) if isinstance(a, Flow) else (b, a)
    return _with_constant(node, flow, np.asarray(values), flow is a)


def _with_constant(node: Node, x: Flow, values: Array, first: bool) -> Flow:
    """``x op values``, or ``values op x``."""
    if values.size != max(values.shape, default=1) or values.dtype.kind not in "fi" or (
            values.size > 1 and values.shape[-1] != values.size):
        raise refused(node)
    c = values.ravel().astype(np.float64)
    one, zero = np.ones(1), np.zeros(1)
    op = node.op
    if op == "Pow" and first and c.size == 1 and c[0] in (2, 0.5, -0.5):
        if c[0] == 2:
            return x.then(Step("square", node.where))
        root = x.then(Step("sqrt", node.where))
        return root if c[0] == 0.5 else root.then(Step("reciprocal", node.where))
    if op == "Div" and not first and c.size == 1 and c[0] == 1:
        return x.then(Step("reciprocal", node.where))
    affine = {
        ("Add", True): (one, c), ("Add", False): (one, c), ("Sub", True): (one, -c),
        ("Sub", False): (-one, c), ("Mul", True): (c, zero), ("Mul", False): (c, zero),
    }
    with np.errstate(all="ignore"):
        affine["Div", True] = 1 / c, zero
    if (op, first) not in affine:
        raise refused(node)
    scale, shift = affine[op, first]
    shape = x.shape
    if c.size > 1 and x.shape and x.shape[-1] not in (None, c.size):
        raise NotReadable(f"{node.where}: expected {x.shape[-1]} numbers, got {c.size}")
    return x.then(Step("affine", node.where, {"scale": scale, "shift": shift}), shape)


def _scaled_by_itself(node: Node, x: Flow, of_a: list[Step], of_b: list[Step]) -> Flow | None:
    """``f(x)·g(x)`` or ``f(x) / g(x)`` where that is an activation or a normalization of x."""
    if node.op == "Mul" and len(of_b) < len(of_a):
        of_a, of_b = of_b, of_a
    factor = np.ones(1)
    if [step.op for step in of_a] == ["affine"] and not of_a[0].options["shift"].any():
        factor, of_a = of_a[0].options["scale"], []
    if of_a:
        return None
    names = [step.options.get("name", step.op) for step in of_b]
    result = None
    if node.op == "Mul" and names == ["sigmoid"]:
        result = x.then(Step("activation", node.where, {"name": "silu"}))
    elif node.op == "Mul" and names == ["softplus", "tanh"]:
        result = x.then(Step("activation", node.where, {"name": "mish"}))
    elif node.op == "Mul" and names == ["affine", "erf", "affine"]:
        inner, outer = of_b[0].options, of_b[2].options
        if (np.allclose(inner["scale"], math.sqrt(0.5), rtol=1e-5) and not inner["shift"].any()
                and outer["scale"].size == 1 and (outer["scale"] == outer["shift"]).all()):
            result = x.then(Step("activation", node.where, {"name": "gelu"}))
            factor = factor * 2 * outer["scale"]
    elif node.op == "Mul" and names == []:
        result = x.then(Step("square", node.where))
    elif names == ["square", "row_mean", "affine", "sqrt"] + ["reciprocal"] * (node.op == "Mul"):
        epsilon = of_b[2].options
        if epsilon["scale"].size == epsilon["shift"].size == 1 and epsilon["scale"][0] == 1:
            result = _normalized_rows(node, x, float(epsilon["shift"][0]))
    if result is None or (factor == 1).all():
        return result
    return result.then(Step("affine", node.where, {"scale": factor, "shift": np.zeros(1)}))


def _normalized_rows(node: Node, x: Flow, epsilon: float) -> Flow:
    """A row divided by its root mean square; if its mean was subtracted before, a layer norm."""
    if x.step is not None and x.step.op == "center":
        assert x.parent is not None
        return x.parent.then(Step("layer_norm", node.where, {"epsilon": epsilon}))
    return x.then(Step("rms_norm", node.where, {"epsilon": epsilon}))


def _sum(node: Node, start: Flow, a: Flow, b: Flow) -> Flow | None:
    """A residual connection, a sum of two, or a row less its mean."""
    negative = Step("affine", node.where, {"scale": -np.ones(1), "shift": np.zeros(1)})
    of_a, of_b = (normalized(path(start, each) or []) for each in (a, b))
    if node.op == "Sub":
        if not of_a and [step.op for step in of_b] == ["row_mean"]:
            return start.then(Step("center", node.where))
        of_b = normalized([*of_b, negative])
    if None not in (a.columns, b.columns) and a.columns != b.columns:
        raise NotReadable(f"{node.where}: expected as many columns, got {a.columns} and "
                          f"{b.columns}")
    if not of_a or not of_b:
        steps = of_b or of_a
        if not steps:  # x + x
            return start.then(Step("affine", node.where, {"scale": 2 * np.ones(1),
                                                          "shift": np.zeros(1)}))
        return start.then(Step("residual", node.where, {"steps": steps}))
    return start.then(Step("sum", node.where, {"parts": [of_a, of_b]}), a.shape)


def embedded(node: Node, codes: Flow, table: Array) -> Flow:
    """The rows of a table that codes select.

    Parameters
    ----------
    node : Node
    codes : Flow
        Perhaps converted to whole numbers before.
    table : ndarray of shape (n_categories, n_out)

    Returns
    -------
    Flow
    """
    if codes.step is not None and codes.step.op == "integer" and codes.parent is not None:
        codes = codes.parent
    return codes.then(Step("embedding", node.where, {"table": table}),
                      (*codes.shape, int(table.shape[1])))


def constant_result(node: Node, reads: list[Any], limit: int) -> Any:
    """What a node makes of constants.

    Parameters
    ----------
    node : Node
    reads : list of ndarray or None
    limit : int
        Most bytes of the result.

    Returns
    -------
    ndarray

    Raises
    ------
    NotReadable
        If it is too large, or the operator is none of those that exporters leave in a file.
    """
    attributes = node.attributes
    if node.op == "Constant":
        for name, dtype in (("value", None), ("value_float", np.float32), ("value_int", np.int64),
                            ("value_floats", np.float32), ("value_ints", np.int64)):
            if attributes.get(name) is not None:
                return np.asarray(attributes[name], dtype)
        raise refused(node)
    if any(each is None for each in reads) or not reads:
        raise refused(node)
    first = reads[0]
    result: Any = None
    if node.op == "Identity":
        result = first
    elif node.op == "Transpose":
        result = first.transpose(attributes.get("perm"))
    elif node.op == "Cast" and attributes.get("to") in (1, 7, 11):
        result = first.astype({1: np.float32, 7: np.int64, 11: np.float64}[attributes["to"]])
    elif node.op == "Reshape" and len(reads) == 2:
        result = first.reshape(np.ravel(reads[1]).tolist())
    elif node.op in ("Unsqueeze", "Squeeze"):
        axes = attributes.get("axes", reads[1] if len(reads) == 2 else None)
        axes = None if axes is None else tuple(np.ravel(axes).tolist())
        result = (np.squeeze(first, axes) if node.op == "Squeeze" or axes is None
                  else np.expand_dims(first, axes))
    elif node.op in ("Add", "Sub", "Mul", "Div") and len(reads) == 2:
        shape = np.broadcast_shapes(*(each.shape for each in reads))
        if math.prod(shape) * 8 <= limit:
            compute: Any = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply,
                            "Div": np.divide}[node.op]
            with np.errstate(all="ignore"):
                result = compute(*reads).astype(first.dtype)
    if result is None:
        raise refused(node)
    return result
