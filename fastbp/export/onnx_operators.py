"""Operators of ONNX: what each does to a value that depends on the input."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.types import Array
from .onnx_functions import DOMAIN
from .pairs import embedded, pairwise
from .steps import Flow, Node, NotReadable, Step, common_ancestor, normalized, path, refused

__all__ = ["OPERATORS"]


def _activation(name: str, **defaults: float) -> Callable[..., Flow]:
    def run(node: Node, x: Flow) -> Flow:
        options: dict[str, Any] = {"name": name}
        for key, value in defaults.items():
            options[key] = node.attributes.get(key, value)
        return x.then(Step("activation", node.where, options))
    return run


def _plain(op: str) -> Callable[..., Flow]:
    def run(node: Node, x: Flow) -> Flow:
        return x.then(Step(op, node.where))
    return run


def _gelu(node: Node, x: Flow) -> Flow:
    if node.attributes.get("approximate", "none") != "none":
        raise refused(node, 'with approximate="none"')
    return x.then(Step("activation", node.where, {"name": "gelu"}))


def _selu(node: Node, x: Flow) -> Flow:
    if not (math.isclose(node.attributes.get("alpha", 1.67326319), 1.67326319, rel_tol=1e-5)
            and math.isclose(node.attributes.get("gamma", 1.05070102), 1.05070102, rel_tol=1e-5)):
        raise refused(node, "with the usual alpha and gamma")
    return x.then(Step("activation", node.where, {"name": "selu"}))


def _swish(node: Node, x: Flow) -> Flow:
    if node.attributes.get("alpha", 1.0) != 1:
        raise refused(node, "with alpha=1")
    return x.then(Step("activation", node.where, {"name": "silu"}))


def _clip(node: Node, x: Flow, low: Any = None, high: Any = None) -> Flow:
    low = node.attributes.get("min", low)
    high = node.attributes.get("max", high)
    if low is None or np.any(np.asarray(low) != 0) or (
            high is not None and np.any(np.asarray(high) < 3e38)):
        raise refused(node, "from 0 to infinity, as a ReLU")
    return x.then(Step("activation", node.where, {"name": "relu"}))


def _maximum(node: Node, *reads: Any) -> Flow:
    flows = [each for each in reads if isinstance(each, Flow)]
    others = [each for each in reads if not isinstance(each, Flow)]
    if (len(flows) != 1 or len(others) != 1 or np.any(np.asarray(others[0]) != 0)
            or np.size(others[0]) not in (1, flows[0].columns)):
        raise refused(node, "with 0, as a ReLU")
    return flows[0].then(Step("activation", node.where, {"name": "relu"}))


def _gemm(node: Node, x: Any, W: Any, b: Any = None) -> Flow:
    get = node.attributes.get
    if not isinstance(x, Flow) or isinstance(W, Flow) or isinstance(b, Flow) or get("transA", 0):
        raise refused(node, "with constant weights")
    weights = _matrix(node, W)
    weights = (weights.T if get("transB", 0) else weights) * get("alpha", 1.0)
    bias = np.zeros(weights.shape[1]) if b is None else _row(node, b, weights.shape[1])
    return _product(node, x, weights, bias * get("beta", 1.0))


def _matmul(node: Node, x: Any, W: Any) -> Flow:
    if not isinstance(x, Flow) or isinstance(W, Flow):
        raise refused(node, "with constant weights")
    return _product(node, x, _matrix(node, W), None)


def _product(node: Node, x: Flow, W: Array, b: Array | None) -> Flow:
    if x.shape and x.shape[-1] not in (None, len(W)):
        raise NotReadable(f"{node.where}: expected {x.shape[-1]} rows of weights, got {len(W)}")
    if any(size != 1 for size in x.shape[:-1]) or 0 in W.shape:
        raise refused(node, "with one row of numbers for each example")
    return x.then(Step("dense", node.where, {"W": W, "b": b}), (*x.shape[:-1], W.shape[1]))


def _matrix(node: Node, W: Array) -> Array:
    if W.ndim != 2 or W.dtype.kind != "f":
        raise NotReadable(f"{node.where}: expected weights with two dimensions, got shape "
                          f"{W.shape}")
    return W


def _row(node: Node, values: Array, n: int) -> Array:
    """One number for each of n columns."""
    values = np.asarray(values)
    if (values.size not in (1, n) or values.dtype.kind not in "fi"
            or values.shape[-1:] not in ((), (values.size,))):
        raise NotReadable(f"{node.where}: expected {n} numbers, got shape {values.shape}")
    return np.broadcast_to(values.ravel(), (n,))


def _columns_of(node: Node, values: Array) -> Array:
    """A constant as one number for each column, or for all."""
    values = np.asarray(values)
    if values.size != max(values.shape, default=1) or (
            values.ndim and values.size > 1 and values.shape[-1] != values.size):
        raise refused(node, "with one number for each column")
    return values.ravel()


def _layer_norm(node: Node, x: Flow, gamma: Any, beta: Any = None) -> Flow:
    _check_last(node, x, node.attributes.get("axis", -1))
    options = {"gamma": gamma, "beta": np.zeros(1) if beta is None else beta,
               "epsilon": node.attributes.get("epsilon", 1e-5)}
    return x.then(Step("layer_norm", node.where, options))


def _rms_norm(node: Node, x: Flow, gamma: Any) -> Flow:
    _check_last(node, x, node.attributes.get("axis", -1))
    return x.then(Step("rms_norm", node.where, {
        "gamma": gamma, "epsilon": node.attributes.get("epsilon", 1e-5)}))


def _check_last(node: Node, x: Flow, axis: int) -> None:
    if axis not in (-1, len(x.shape)) or any(size != 1 for size in x.shape[:-1]):
        raise refused(node, "over the columns of a row")


def _batch_norm(node: Node, x: Flow, gamma: Any, beta: Any, mean: Any, variance: Any) -> Flow:
    if node.attributes.get("training_mode", 0) or len(x.shape) != 1:
        raise refused(node, "over columns, in its form for prediction")
    arrays = {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
    sizes = {np.shape(each) for each in arrays.values()}
    if len(sizes) != 1 or len(sizes.pop()) != 1:
        raise NotReadable(f"{node.where}: expected four arrays of one size")
    if np.any(np.asarray(variance) < 0):
        raise NotReadable(f"{node.where}: expected variances of at least 0")
    return x.then(Step("batch_norm", node.where, arrays | {
        "epsilon": node.attributes.get("epsilon", 1e-5)}))


def _prelu(node: Node, x: Any, slope: Any) -> Flow:
    if not isinstance(x, Flow) or isinstance(slope, Flow):
        raise refused(node, "with constant slopes")
    result: Flow = x.then(Step("prelu", node.where, {"slope": _columns_of(node, slope)}))
    return result


def _mean(node: Node, x: Flow, axes: Any = None) -> Flow:
    axes = node.attributes.get("axes", axes)
    axes = [] if axes is None else np.ravel(axes).tolist()
    if len(axes) != 1 or not node.attributes.get("keepdims", 1):
        raise refused(node, "over the columns of a row")
    _check_last(node, x, axes[0])
    return x.then(Step("row_mean", node.where), (*x.shape[:-1], 1))


def _softmax(node: Node, x: Flow) -> Flow:
    _check_last(node, x, node.attributes.get("axis", -1))
    return x.then(Step("softmax", node.where))


def _cast(node: Node, x: Flow) -> Flow:
    kind = node.attributes.get("to")
    if kind in (6, 7):  # int32, int64: codes of categories
        return x.then(Step("integer", node.where))
    if kind not in (1, 11):
        raise refused(node, "to float32 or float64")
    return x


def _reshape(node: Node, x: Flow, shape: Any = None) -> Flow:
    """Any change of shape that leaves a row's numbers together."""
    if isinstance(shape, Flow):
        raise refused(node, "with a constant shape")
    if node.op == "Reshape":
        rows, *new = np.ravel(shape).tolist()
        if rows not in (0, -1, x.batch):
            raise refused(node, "if it keeps the rows")
        new = tuple(x.shape[i] if size == 0 and i < len(x.shape) else size
                    for i, size in enumerate(new))
        if new.count(-1) == 1 and x.columns is not None:
            rest = math.prod(size for size in new if size != -1 and size is not None)
            new = tuple(x.columns // max(1, rest) if size == -1 else size for size in new)
    elif node.op == "Flatten":
        if node.attributes.get("axis", 1) not in (1, -len(x.shape)):
            raise refused(node, "if it keeps the rows")
        new = (x.columns,)
    elif node.op == "Unsqueeze":
        axes = np.ravel(node.attributes.get("axes", shape)).tolist()
        if axes not in ([-1], [len(x.shape) + 1]):
            raise refused(node, "if the new axis is the last")
        new = (*x.shape, 1)
    else:
        new = tuple(size for size in x.shape if size != 1) or (1,)
    if None in new or -1 in new:
        new = (None,)
    result = x.then(Step("reshape", node.where), new)
    if None not in (result.columns, x.columns) and result.columns != x.columns:
        raise refused(node, f"if it leaves {x.columns} numbers in each row")
    return result


def _identity(node: Node, x: Flow, *others: Any) -> Flow:
    if any(isinstance(each, Flow) for each in others) or (
            len(others) > 1 and others[1] is not None and np.any(others[1])):
        raise refused(node, "in its form for prediction")
    return x


def _gather(node: Node, data: Any, indices: Any) -> Flow:
    axis = node.attributes.get("axis", 0)
    if isinstance(indices, Flow):
        if isinstance(data, Flow) or axis != 0 or data.ndim != 2 or indices.columns not in (
                1, None) or data.dtype.kind != "f":
            raise refused(node, "from a table of vectors, by one column of codes")
        return embedded(node, indices, data)
    columns = np.asarray(indices)
    taken = _taken(node, data, axis, columns.ravel())
    return taken if columns.ndim else taken.then(Step("reshape", node.where), ())


def _taken(node: Node, x: Flow, axis: int, columns: Any) -> Flow:
    n = x.columns
    if axis not in (-1, 1) or len(x.shape) != 1 or n is None:
        raise refused(node, "of the columns of a row, whose number is known")
    indices = [int(each) + n * (each < 0) for each in columns]
    if not indices or not all(0 <= each < n for each in indices):
        raise NotReadable(f"{node.where}: takes columns that are not there, of {n}")
    return x.then(Step("take", node.where, {"columns": indices, "n_in": n}), (len(indices),))


def _slice(node: Node, x: Flow, starts: Any = None, ends: Any = None, axes: Any = None,
           steps: Any = None) -> Flow:
    parts = [node.attributes.get(name, value) for name, value in (
        ("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))]
    parts = [[default] if each is None else np.ravel(each).tolist()
             for each, default in zip(parts, (0, 0, 0, 1), strict=True)]
    if any(len(each) != 1 for each in parts) or x.columns is None:
        raise refused(node, "of the columns of a row, whose number is known")
    (start,), (stop,), (axis,), (step,) = parts
    if step == 0:
        raise refused(node, "with steps other than 0")
    return _taken(node, x, axis, range(x.columns)[start:stop:step])


def _split(node: Node, x: Flow, sizes: Any = None) -> list[Flow]:
    n, sizes = x.columns, node.attributes.get("split", sizes)
    if n is None:
        raise refused(node, "of the columns of a row, whose number is known")
    if sizes is None:  # of equal size but for the last
        count = node.attributes.get("num_outputs", len(node.writes))
        each = -(-n // max(1, count))
        sizes = [each] * (count - 1) + [n - each * (count - 1)]
    sizes = np.ravel(sizes).tolist()
    if sum(sizes) != n or min(sizes, default=0) < 1 or len(sizes) != len(node.writes):
        raise refused(node, f"into parts that add up to the {n} columns, one for each output, not "
                            f"{sizes}")
    ends = np.cumsum(sizes).tolist()
    return [_taken(node, x, node.attributes.get("axis", 0), range(end - size, end))
            for end, size in zip(ends, sizes, strict=True)]


def _concat(node: Node, *reads: Any) -> Flow:
    if not all(isinstance(each, Flow) for each in reads):
        raise refused(node, "of columns that depend on the input")
    if node.attributes.get("axis") not in (-1, len(reads[0].shape)) or any(
            len(each.shape) != 1 for each in reads):
        raise refused(node, "of columns that depend on the input")
    start = common_ancestor(list(reads))
    parts = [normalized(path(start, each) or []) for each in reads]
    if [[step.op for step in part] for part in parts] == [["affine"], []] and _is_sigmoid(start):
        options = parts[0][0].options
        if start.columns == 1 and (options["scale"] == -1).all() and (options["shift"] == 1).all():
            return start.then(Step("both", node.where), (2,))
    widths = [each.columns for each in reads]
    total = None if None in widths else sum(n for n in widths if n is not None)
    return start.then(Step("columns", node.where, {"parts": parts}), (total,))


def _is_sigmoid(value: Flow) -> bool:
    return (value.step is not None and value.step.op == "activation"
            and value.step.options["name"] == "sigmoid")


def _tile(node: Node, x: Flow, repeats: Any) -> Flow:
    counts = np.ravel(repeats).tolist()
    if isinstance(repeats, Flow) or len(counts) != 2 or counts[0] != 1 or counts[1] < 1 or len(
            x.shape) != 1:
        raise refused(node, "of columns, a number of times that is known")
    n = None if x.columns is None else x.columns * counts[1]
    return x.then(Step("repeat", node.where, {"n_members": counts[1]}), (n,))


def _scaler(node: Node, x: Flow) -> Flow:
    scale, offset = (np.array(node.attributes.get(name) or [default], np.float64)
                     for name, default in (("scale", 1.0), ("offset", 0.0)))
    return x.then(Step("affine", node.where, {"scale": scale, "shift": -offset * scale}))


def _own(op: str, *names: str) -> Callable[..., Flow]:
    """A function of fastbp's."""
    def run(node: Node, x: Any, *arrays: Any) -> Flow:
        options = dict(zip(names, arrays, strict=True))
        if any(isinstance(each, Flow) for each in arrays) or not isinstance(x, Flow):
            raise refused(node, "with constant weights")
        flat = node.attributes.get("flat", [-1, None])
        members = node.attributes.get("members", [-1])
        if op == "mean":
            options, flat = {"n_members": members[1]}, [-1, members[2]]
        result: Flow = x.then(Step(op, node.where, options), (flat[1],))
        return result
    return run


# A function of a node and what it reads, which returns what it writes.
OPERATORS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(("Add", "Div", "Mul", "Pow", "Sub"), pairwise),
    "Relu": _activation("relu"), "LeakyRelu": _activation("leaky_relu", alpha=0.01),
    "Sigmoid": _activation("sigmoid"), "Tanh": _activation("tanh"),
    "Elu": _activation("elu", alpha=1.0), "Mish": _activation("mish"), "Gelu": _gelu,
    "Selu": _selu, "Swish": _swish, "Clip": _clip, "Max": _maximum,
    **{op: _plain(op.lower()) for op in ("Erf", "Exp", "Reciprocal", "Softplus", "Sqrt")},
    "Neg": lambda node, x: x.then(Step("affine", node.where, {
        "scale": np.array([-1.0]), "shift": np.zeros(1)})),
    "Gemm": _gemm, "MatMul": _matmul, "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm, "BatchNormalization": _batch_norm, "PRelu": _prelu,
    "ReduceMean": _mean, "Softmax": _softmax, "Cast": _cast, "CastLike": _identity,
    "Reshape": _reshape, "Flatten": _reshape, "Squeeze": _reshape, "Unsqueeze": _reshape,
    "Identity": _identity, "Dropout": _identity, "ai.onnx.ml.ZipMap": _identity,
    "ai.onnx.ml.Scaler": _scaler, "Gather": _gather, "Slice": _slice, "Split": _split,
    "Concat": _concat, "Tile": _tile,
    f"{DOMAIN}.SharedDense": _own("shared_dense", "W", "b"),
    f"{DOMAIN}.SharedProduct": _own("shared_product", "W"),
    f"{DOMAIN}.SeparateDense": _own("separate", "W", "b"),
    f"{DOMAIN}.MeanOfMembers": _own("mean"),
    f"{DOMAIN}.Periodic": _own("periodic", "frequencies", "phases", "gamma", "beta"),
    f"{DOMAIN}.PiecewiseLinear": _own("piecewise", "low", "width", "least", "largest", "W", "b"),
}
