"""Models as ONNX files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import checked_path, replace_file
from ..kernels import ops
from ..program import Instruction, Value
from ..version import __version__
from .onnx_functions import DOMAIN, FUNCTIONS, function
from .reading import Model, Network

if TYPE_CHECKING:
    from os import PathLike

    from ..kernels.types import Array

__all__ = ["import_onnx", "write_onnx"]

# The operators' version, which ONNX Runtime has from 1.17 on, and that of the format.
OPSET, IR_VERSION = 20, 9

# Activations whose operator computes the same; alpha is an attribute of the same name.
SAME = {"relu": "Relu", "leaky_relu": "LeakyRelu", "sigmoid": "Sigmoid", "tanh": "Tanh",
        "elu": "Elu", "gelu": "Gelu", "mish": "Mish", "selu": "Selu", "exp": "Exp", "log": "Log",
        "erf": "Erf"}

# Those that ONNX Runtime has for float32 alone; float64 networks compute them in float32.
FLOAT32_ONLY = "Elu", "Erf", "Gelu", "LeakyRelu", "Mish", "PRelu", "Selu"


def import_onnx() -> Any:
    """The package `onnx`, or an error that says how to install it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError('ONNX files need the package onnx: pip install "fastbp[onnx]"') from error
    return onnx


def write_onnx(path: str | PathLike[str], model: Model) -> None:
    """Write a model to an ONNX file, which is replaced only by a complete one.

    Parameters
    ----------
    path : str or path-like
    model : Model
        A network's or ensemble's input is ``X`` and its output ``Z``.  A classifier's outputs are
        ``label`` and ``probabilities``, a regressor's is ``variable``, as skl2onnx has them.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    TypeError, ValueError
        If the path is not one, or there is an operation without a counterpart.
    OSError
        If the file cannot be written.
    """
    onnx = import_onnx()
    path = checked_path("path", path)
    if model.encoder is not None:
        raise ValueError("model: expected a network, an ensemble or a multilayer perceptron, got "
                         "one with an encoder of tables, which ONNX has no operators for; export "
                         "its ensemble_ or network_, which take what encoder_.transform returns")
    graph = _Graph(onnx, model.dtype)
    x = "X"
    outputs = [graph.network(network, x) for network in model.networks]
    infos = _finished(graph, model, outputs)
    made = onnx.helper.make_graph(
        graph.nodes, "fastbp", [graph.info(x, (None, model.n_in))], infos, graph.initializers)
    proto = onnx.helper.make_model(
        made, ir_version=IR_VERSION, producer_name="fastbp", producer_version=__version__,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)]
        + [onnx.helper.make_opsetid(DOMAIN, 1)] * bool(graph.functions),
        functions=[function(onnx, name, OPSET) for name in sorted(graph.functions)])
    try:
        content = proto.SerializeToString()
    except ValueError as error:  # more than protobuf's 2 GiB
        raise ValueError(f"model: expected one that fits into an ONNX file: {error}") from None
    replace_file(path, content)


class _Graph:
    """Collects nodes and arrays."""

    def __init__(self, onnx: Any, dtype: Any) -> None:
        self.onnx, self.dtype = onnx, np.dtype(dtype)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.functions: set[str] = set()
        self._names: set[str] = set()
        self._arrays: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def info(self, name: str, shape: Sequence[int | None], kind: Any = None) -> Any:
        """A description of an input or output; None in the shape stands for the rows."""
        kind = self.dtype if kind is None else kind
        return self.onnx.helper.make_tensor_value_info(
            name, self.onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind)),
            ["rows" if n is None else n for n in shape])

    def array(self, name: str, values: Any, dtype: Any = None) -> str:
        """The name of a constant array, which is added if it is new."""
        values = np.asarray(values, self.dtype if dtype is None else dtype)
        key = values.dtype.str, values.shape, values.tobytes()
        if key not in self._arrays:
            self._arrays[key] = self._new(name)
            self.initializers.append(
                self.onnx.numpy_helper.from_array(values, self._arrays[key]))
        return self._arrays[key]

    def _new(self, name: str) -> str:
        base, count = name, 1
        while name in self._names or name in ("X", "Z", "label", "probabilities", "variable"):
            count += 1
            name = f"{base}_{count}"
        self._names.add(name)
        return name

    def node(self, op: str, *reads: str, name: str = "", out: str | None = None,
             domain: str = "", **attributes: Any) -> str:
        """Add a node; the name of its output."""
        if op in FLOAT32_ONLY and self.dtype == np.float64:
            kind = self.onnx.TensorProto
            single = [self.node("Cast", each, to=kind.FLOAT) for each in reads]
            result = self._new(name or op)
            self.nodes.append(self.onnx.helper.make_node(op, single, [result], **attributes))
            return self.node("Cast", result, out=out, to=kind.DOUBLE)
        out = out or self._new(name or op)
        self.nodes.append(self.onnx.helper.make_node(op, list(reads), [out], domain=domain,
                                                     **attributes))
        return out

    def network(self, network: Network, x: str) -> str:
        """Add a network's instructions; the name of its output."""
        writer = _NetworkNodes(self, network, x)
        return writer.output()


class _NetworkNodes:
    """Adds the nodes of one network."""

    def __init__(self, graph: _Graph, network: Network, x: str) -> None:
        self.graph, self.network = graph, network
        self.names: dict[Value, str] = {network.x: x}
        self._readers: dict[Value, list[Instruction]] = {}
        for each in network.instructions:
            for value in each.reads:
                self._readers.setdefault(value, []).append(each)
        self._done: set[int] = set()

    def output(self) -> str:
        """Add all nodes; the name of the output."""
        for each in self.network.instructions:
            if id(each) in self._done:
                continue
            if each.op in WRITERS:
                WRITERS[each.op](self, each)
            elif each.op in SAME:
                attributes = {name: float(each.attributes[name])
                              for name in ops.OPS[each.op].attributes}
                self.write(each, SAME[each.op], *self.reads(each), **attributes)
            else:
                raise ValueError(f"layer {each.where}: expected operations that ONNX has, got "
                                 f"{each.op}; leave the layer out")
        return self.name(self.network.z)

    def constant(self, value: Value) -> Array:
        """The array of a value that does not depend on the input."""
        return self.network.constants[value]

    def name(self, value: Value) -> str:
        """The name of a value in the graph."""
        if value in self.network.constants:
            return self.graph.array(value.name, self.network.constants[value])
        return self.names[value]

    def reads(self, each: Instruction) -> list[str]:
        """The names of the values that an instruction reads."""
        return [self.name(value) for value in each.reads]

    def write(self, each: Instruction, op: str, *reads: str, **attributes: Any) -> None:
        """Add the node that gives an instruction's result."""
        self.names[each.writes[0]] = self.graph.node(
            op, *reads, name=each.where or each.op, **attributes)

    def write_own(self, each: Instruction, name: str, *reads: str, **shapes: list[int]) -> None:
        """Add the node of a function of fastbp's, which the file defines."""
        if "flat" in FUNCTIONS[name][1]:
            shapes["flat"] = [-1, each.writes[0].columns]
        self.graph.functions.add(name)
        self.write(each, name, *reads, domain=DOMAIN, **shapes)

    def only_reader(self, value: Value, op: str) -> Instruction | None:
        """The instruction that reads a value, if it is one and of this kind."""
        readers = self._readers.get(value, [])
        fits = len(readers) == 1 and readers[0].op == op and value is not self.network.z
        return readers[0] if fits and readers[0].reads[0] is value else None

    def affine(self, each: Instruction | None, n: int) -> list[str]:
        """The factors and summands of an instruction, or ones and zeros."""
        if each is not None:
            return [self.name(value) for value in each.reads[1:]]
        return [self.graph.array("ones", np.ones(n)), self.graph.array("zeros", np.zeros(n))]

    def merge(self, each: Instruction, first: Instruction) -> None:
        """Let an instruction's result be that of an earlier one's node."""
        self._done.add(id(each))
        self.names[each.writes[0]] = self.names[first.writes[0]]


def _dense(net: _NetworkNodes, each: Instruction) -> None:
    net.write(each, "Gemm", *net.reads(each))


def _shared(net: _NetworkNodes, each: Instruction) -> None:
    name = "SharedDense" if len(each.reads) == 3 else "SharedProduct"
    net.write_own(each, name, *net.reads(each),
                  members=[-1, len(net.constant(each.reads[1]))])


def _separate(net: _NetworkNodes, each: Instruction) -> None:
    k, n_in, _ = net.constant(each.reads[1]).shape
    net.write_own(each, "SeparateDense", *net.reads(each), members=[-1, k, n_in])


def _softmax(net: _NetworkNodes, each: Instruction) -> None:
    n_members = each.attributes.get("n_members", 1)
    x, n = net.name(each.reads[0]), each.reads[0].columns
    if n_members == 1:
        net.write(each, "Softmax", x, axis=-1)
        return
    shape = net.graph.array("shape", [-1, n_members, n // n_members], np.int64)
    flat = net.graph.array("shape", [-1, n], np.int64)
    by_member = net.graph.node("Softmax", net.graph.node("Reshape", x, shape), axis=-1)
    net.write(each, "Reshape", by_member, flat)


def _scale(net: _NetworkNodes, each: Instruction) -> None:
    x, gamma, *beta = net.reads(each)
    if beta:
        net.write(each, "Add", net.graph.node("Mul", x, gamma), *beta)
    else:
        net.write(each, "Mul", x, gamma)


def _normalize_rows(net: _NetworkNodes, each: Instruction) -> None:
    n, x = each.reads[0].columns, net.name(each.reads[0])
    epsilon = each.attributes["epsilon"]
    if each.attributes["center"]:
        after = net.only_reader(each.writes[0], "scale_shift")
        gamma, beta = net.affine(after, n)
        net.write(each, "LayerNormalization", x, gamma, beta, axis=-1, epsilon=epsilon)
        if after is not None:
            net.merge(after, each)
        return
    axes = net.graph.array("last", [-1], np.int64)
    mean = net.graph.node("ReduceMean", net.graph.node("Mul", x, x), axes, keepdims=1)
    root = net.graph.node("Sqrt", net.graph.node(
        "Add", mean, net.graph.array("epsilon", epsilon)))
    net.write(each, "Div", x, root)


def _normalize_columns(net: _NetworkNodes, each: Instruction) -> None:
    x, mean, rstd = each.reads
    source = net.network.sources[rstd]
    after = net.only_reader(each.writes[0], "scale_shift")
    gamma, beta = net.affine(after, x.columns)
    net.write(each, "BatchNormalization", net.name(x), gamma, beta, net.name(mean),
              net.name(source.reads[0]), epsilon=source.attributes["epsilon"])
    if after is not None:
        net.merge(after, each)


def _prelu(net: _NetworkNodes, each: Instruction) -> None:
    net.write(each, "PRelu", *net.reads(each))


def _embedding(net: _NetworkNodes, each: Instruction) -> None:
    codes, table = net.reads(each)
    graph = net.graph
    whole = graph.node("Cast", codes, to=graph.onnx.TensorProto.INT64)
    row = graph.node("Gather", table, whole, axis=0)
    net.write(each, "Reshape", row, graph.array("shape", [-1, each.writes[0].columns], np.int64))


def _periodic(net: _NetworkNodes, each: Instruction) -> None:
    x, frequencies, phases, gamma, beta = each.reads
    k, d = net.constant(gamma).shape
    net.write_own(each, "Periodic", *map(net.name, (x, frequencies)),
                  net.graph.array(phases.name, net.constant(phases).reshape(k, d - 1)),
                  net.name(gamma), net.graph.array(beta.name, net.constant(beta).reshape(k, d)),
                  features=[-1, k, 1])


def _piecewise(net: _NetworkNodes, each: Instruction) -> None:
    """As many bins for each feature: those that it lacks are of width 1, and always 0."""
    x, edges, W, b, _ = each.reads
    starts = each.attributes["columns"]
    k, most = x.columns, int(np.diff(starts).max())
    all_edges, rows = net.constant(edges), net.constant(W)
    low, width = np.zeros((k, most)), np.ones((k, most))
    least, largest = np.zeros((k, most)), np.zeros((k, most))
    weights = np.zeros((k, most, rows.shape[1]))
    for f, (start, stop) in enumerate(pairwise(starts)):
        own = all_edges[start + f : stop + f + 1]
        n = stop - start
        low[f, :n], width[f, :n] = own[:-1], np.diff(own)
        largest[f, :n] = 1
        least[f, 0], largest[f, n - 1] = -np.inf, np.inf
        weights[f, :n] = rows[start:stop]
    arrays = ((edges.name, low), ("width", width), ("least", least), ("largest", largest),
              (W.name, weights))
    net.write_own(each, "PiecewiseLinear", net.name(x),
                  *(net.graph.array(name, values) for name, values in arrays), net.name(b),
                  features=[-1, k, 1])


def _repeat(net: _NetworkNodes, each: Instruction) -> None:
    n_members = each.writes[0].columns // each.reads[0].columns
    net.write(each, "Tile", net.name(each.reads[0]),
              net.graph.array("repeats", [1, n_members], np.int64))


def _sum_members(net: _NetworkNodes, each: Instruction) -> None:
    n = each.writes[0].columns
    n_members = each.reads[0].columns // n
    assert each.attributes["factor"] == 1 / n_members
    net.write_own(each, "MeanOfMembers", net.name(each.reads[0]), members=[-1, n_members, n])


def _take_columns(net: _NetworkNodes, each: Instruction) -> None:
    columns = net.graph.array("columns", each.attributes["columns"], np.int64)
    net.write(each, "Gather", net.name(each.reads[0]), columns, axis=1)


def _join(net: _NetworkNodes, each: Instruction) -> None:
    net.write(each, "Concat", *net.reads(each), axis=1)


def _silu(net: _NetworkNodes, each: Instruction) -> None:
    x = net.name(each.reads[0])
    net.write(each, "Mul", x, net.graph.node("Sigmoid", x))


# How each operation is written, other than those of SAME.
WRITERS: dict[str, Callable[[_NetworkNodes, Instruction], None]] = {
    "dense": _dense,
    "shared_dense": _shared,
    "shared_product": _shared,
    "separate_dense": _separate,
    "softmax": _softmax,
    "add": lambda net, each: net.write(each, "Add", *net.reads(each)),
    "scale": _scale,
    "scale_shift": _scale,
    "normalize_rows": _normalize_rows,
    "normalize_columns": _normalize_columns,
    "prelu": _prelu,
    "embedding": _embedding,
    "periodic": _periodic,
    "piecewise": _piecewise,
    "repeat": _repeat,
    "sum_members": _sum_members,
    "take_columns": _take_columns,
    "join": _join,
    "silu": _silu,
}


def _finished(graph: _Graph, model: Model, outputs: list[str]) -> list[Any]:
    """Combine the outputs of networks, and add what estimators have; the graph's outputs."""
    onnx, last = graph.onnx, outputs[0]
    if model.weights is not None:
        kind = onnx.TensorProto
        parts = []
        for output, weight in zip(outputs, model.weights, strict=True):
            double = graph.node("Cast", output, to=kind.DOUBLE)
            parts.append(graph.node("Mul", double, graph.array("weight", weight, np.float64)))
        while len(parts) > 1:  # in the order of the networks
            parts[:2] = [graph.node("Add", *parts[:2])]
        last = graph.node("Cast", parts[0], to=onnx.helper.np_dtype_to_tensor_dtype(model.dtype))
    n = model.n_out
    if model.both:
        rest = graph.node("Sub", graph.array("one", 1), last)
        last = graph.node("Concat", rest, last, axis=1)
    if model.classes is None and model.labels is None:
        graph.node("Identity", last, out="variable" if model.is_estimator else "Z")
        return [graph.info("variable" if model.is_estimator else "Z", (None, n))]
    graph.node("Identity", last, out="probabilities")
    if model.classes is None:
        half = graph.node("Greater", last, graph.array("half", 0.5))
        graph.node("Cast", half, out="label", to=onnx.TensorProto.INT64)
        return [graph.info("label", (None, n), np.int64),
                graph.info("probabilities", (None, n))]
    index = graph.node("ArgMax", last, axis=1, keepdims=0)
    classes = model.classes
    if classes.dtype.kind in "OU":
        texts = [str(each).encode() for each in classes.tolist()]
        kind, values = onnx.TensorProto.STRING, onnx.helper.make_tensor(
            "classes", onnx.TensorProto.STRING, [len(texts)], texts)
    else:
        whole = classes.astype(np.int64 if classes.dtype.kind in "iub" else np.float64)
        kind = onnx.helper.np_dtype_to_tensor_dtype(whole.dtype)
        values = onnx.numpy_helper.from_array(whole, "classes")
    graph.initializers.append(values)
    graph.node("Gather", "classes", index, out="label", axis=0)
    return [onnx.helper.make_tensor_value_info("label", kind, ["rows"]),
            graph.info("probabilities", (None, n))]
