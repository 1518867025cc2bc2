"""Layers that ONNX has no operators for, as functions that a file defines with its operators."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["DOMAIN", "FUNCTIONS", "function"]

DOMAIN = "fastbp"

# Of each function: inputs, attributes (lists of whole numbers, which are shapes), and nodes:
# an operator, what it reads, and its attributes.  A node's result goes by its index in the list; a
# name among what it reads is an input, or an attribute as a constant.
Node = tuple[str, list[str | int], dict[str, Any]]
FUNCTIONS: dict[str, tuple[list[str], list[str], list[Node]]] = {
    # The columns of members, side by side, times the same weights.
    "SharedDense": (["X", "W", "b"], ["members", "flat"], [
        ("Reshape", ["X", "members"], {}),
        ("Gemm", [0, "W", "b"], {}),
        ("Reshape", [1, "flat"], {}),
    ]),
    "SharedProduct": (["X", "W"], ["members", "flat"], [
        ("Reshape", ["X", "members"], {}),
        ("MatMul", [0, "W"], {}),
        ("Reshape", [1, "flat"], {}),
    ]),
    # Each member's own weights.
    "SeparateDense": (["X", "W", "b"], ["members", "flat"], [
        ("Reshape", ["X", "members"], {}),
        ("Transpose", [0], {"perm": [1, 0, 2]}),
        ("MatMul", [1, "W"], {}),
        ("Transpose", [2], {"perm": [1, 0, 2]}),
        ("Reshape", [3, "flat"], {}),
        ("Add", [4, "b"], {}),
    ]),
    "MeanOfMembers": (["X"], ["members"], [
        ("Reshape", ["X", "members"], {}),
        ("Constant", [], {"value_ints": [1]}),
        ("ReduceMean", [0, 1], {"keepdims": 0}),
    ]),
    # gamma (x, cos 2 pi t_1, cos 2 pi t_2, ...) + beta, t less its whole turns.
    "Periodic": (["X", "frequencies", "phases", "gamma", "beta"], ["features", "flat"], [
        ("Reshape", ["X", "features"], {}),
        ("Mul", [0, "frequencies"], {}),
        ("Add", [1, "phases"], {}),
        ("Round", [2], {}),
        ("Sub", [2, 3], {}),
        ("Constant", [], {"value_float": 2 * math.pi}),
        ("CastLike", [5, "X"], {}),
        ("Mul", [4, 6], {}),
        ("Cos", [7], {}),
        ("Concat", [0, 8], {"axis": 2}),
        ("Mul", [9, "gamma"], {}),
        ("Add", [10, "beta"], {}),
        ("Reshape", [11, "flat"], {}),
    ]),
    # b + the sum of e W over bins, e = (x - edges) / width between least and largest.
    "PiecewiseLinear": (["X", "edges", "width", "least", "largest", "W", "b"],
                        ["features", "flat"], [
        ("Reshape", ["X", "features"], {}),
        ("Sub", [0, "edges"], {}),
        ("Div", [1, "width"], {}),
        ("Max", [2, "least"], {}),
        ("Min", [3, "largest"], {}),
        ("Transpose", [4], {"perm": [1, 0, 2]}),
        ("MatMul", [5, "W"], {}),
        ("Transpose", [6], {"perm": [1, 0, 2]}),
        ("Reshape", [7, "flat"], {}),
        ("Add", [8, "b"], {}),
    ]),
}


def function(onnx: Any, name: str, opset: int) -> Any:
    """The definition of a function, for a file.

    Parameters
    ----------
    onnx : module
    name : str
        Of `FUNCTIONS`.
    opset : int
        The operators' version.

    Returns
    -------
    onnx.FunctionProto
    """
    helper = onnx.helper
    inputs, attributes, body = FUNCTIONS[name]
    nodes = []
    for attribute in attributes:
        node = helper.make_node("Constant", [], [f"_{attribute}"])
        node.attribute.append(onnx.AttributeProto(
            name="value_ints", ref_attr_name=attribute, type=onnx.AttributeProto.INTS))
        nodes.append(node)
    for i, (op, reads, options) in enumerate(body):
        names = [f"_{each}" if isinstance(each, int) or each in attributes else each
                 for each in reads]
        out = "Z" if i == len(body) - 1 else f"_{i}"
        nodes.append(helper.make_node(op, names, [out], **options))
    return helper.make_function(DOMAIN, name, inputs, ["Z"], nodes,
                                [helper.make_opsetid("", opset)], attributes)
