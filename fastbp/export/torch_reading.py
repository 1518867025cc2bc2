"""Networks from modules of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..kernels.types import Array
from ..layers import Dropout
from ..network import Sequential
from .pairs import embedded, pairwise
from .steps import (
    Flow,
    Node,
    NotReadable,
    Step,
    common_ancestor,
    layers_of,
    normalized,
    path,
    refused,
)
from .torch_modules import import_torch

__all__ = ["from_torch"]

# Most columns: what arrays of them would take is beyond any machine.
MOST_COLUMNS = 1 << 40


def from_torch(module: Any, *, n_in: int | None = None) -> Sequential:
    """A network with the layers and weights of a module of PyTorch's.

    Parameters
    ----------
    module : torch.nn.Module
        An `nn.Sequential` of linear layers, activations, normalization and dropout, or a module
        whose `forward` combines such, with residual connections, parts of the columns and
        concatenation; `torch.fx` traces it, which calls `forward` once.
    n_in : int, optional
        Columns of the input, where the first layer is not `nn.Linear`.

    Returns
    -------
    Sequential
        In float64 if the module is, else in float32.

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    TypeError
        If it is no module.
    ValueError
        If it cannot be traced, or has something that fastbp has no layer for; the message names
        the first.

    Examples
    --------
    >>> import fastbp as fb
    >>> from torch import nn  # doctest: +SKIP
    >>> net = fb.from_torch(nn.Sequential(nn.Linear(4, 8), nn.ReLU()))  # doctest: +SKIP
    """
    torch = import_torch()
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"module: expected a torch.nn.Module, got {module!r}")
    graph, lowered = _traced(torch, module)
    arrays = [each for each in module.state_dict().values() if each.is_floating_point()]
    dtype = "float64" if any(each.dtype == torch.float64 for each in arrays) else "float32"
    try:
        return _Reader(torch, module, graph, lowered, n_in).network(dtype)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        text = str(error) if isinstance(error, NotReadable) else f"{type(error).__name__}: {error}"
        raise ValueError(f"module: {type(module).__name__} cannot be read as a network: "
                         f"{text}") from None


def _traced(torch: Any, module: Any) -> tuple[Any, Callable[[Any], bool]]:
    """The graph of a module, and what tells modules that fastbp made from others."""
    def lowered(each: Any) -> bool:
        return hasattr(each, "config") and hasattr(each, "steps")

    class Tracer(torch.fx.Tracer):  # type: ignore[misc]
        def is_leaf_module(self, each: Any, name: str) -> bool:
            leaf: bool = super().is_leaf_module(each, name)
            return leaf or lowered(each) or isinstance(each, torch.nn.Embedding)

    class Root(torch.nn.Module):  # type: ignore[misc]
        """So that a module that is a layer itself is traced as one."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Any) -> Any:
            return self.module(x)

    try:
        return Tracer().trace(Root()), lowered
    except Exception as error:
        raise ValueError(f"module: {type(module).__name__} cannot be traced: "
                         f"{type(error).__name__}: {error}; its forward must not depend on the "
                         f"values of its input") from None


class _Reader:
    """Follows the input through a traced graph."""

    def __init__(self, torch: Any, module: Any, graph: Any, lowered: Callable[[Any], bool],
                 n_in: int | None) -> None:
        self.torch, self.graph, self.lowered = torch, graph, lowered
        self.modules = {"module": module} | {
            f"module.{name}": each for name, each in module.named_modules() if name}
        self.arrays = {f"module.{name}": each for name, each in (
            *module.named_parameters(), *module.named_buffers())}
        self.root = Flow(None, None, (n_in,))
        self.values: dict[Any, Any] = {}

    def network(self, dtype: str) -> Sequential:
        """The network of the steps from the input to the output."""
        made: list[Any] = []
        for node in self.graph.nodes:
            if node.op == "output":
                end = self._value(node.args[0])
                if not isinstance(end, Flow):
                    raise NotReadable("expected one output that depends on the input")
                steps = path(self.root, end) or []
                made, _ = layers_of(normalized(steps), self.root.columns, MOST_COLUMNS)
            else:
                self.values[node] = self._run(node)
        return Sequential(made or [Dropout(0.0)], dtype)

    def _value(self, argument: Any) -> Any:
        """What an argument of a call stands for."""
        if isinstance(argument, self.torch.fx.Node):
            return self.values[argument]
        if isinstance(argument, list | tuple):
            return type(argument)(map(self._value, argument))
        return argument

    def _run(self, node: Any) -> Any:
        """The value of a node of the graph."""
        if node.op == "placeholder":
            return self.root
        if node.op == "get_attr":
            return _array(self.arrays[node.target])
        arguments = [self._value(each) for each in node.args]
        options = {name: self._value(each) for name, each in node.kwargs.items()}
        if node.op == "call_module":
            module = self.modules[node.target]
            where = f"{node.target.removeprefix('module').lstrip('.') or 'it'} " \
                    f"({type(module).__name__})"
            return self._of_module(module, Node(type(module).__name__, [], [], {}, where),
                                   arguments[0])
        name = getattr(node.target, "__name__", str(node.target))
        call = Node(name, [], [], options, f"{node.name} ({name})")
        handler = FUNCTIONS.get(name)
        if handler is None:
            raise refused(call)
        return handler(call, *arguments)

    def _of_module(self, module: Any, node: Node, x: Any) -> Flow:
        nn = self.torch.nn
        if not isinstance(x, Flow):
            raise refused(node)
        if self.lowered(module):
            cls, config = module.config
            layer = cls(**config)
            for name in layer.array_shapes:
                setattr(layer, name, _array(getattr(module, name)))
            return x.then(Step("layer", node.where, {"layer": layer}), (layer.n_out,))
        if isinstance(module, nn.Embedding):
            return embedded(node, x, _array(module.weight))
        for name, make in MODULES.items():
            if type(module) is getattr(nn, name, None):
                return make(node, x, module)
        raise refused(node)


def _array(tensor: Any) -> Array:
    array: Array = tensor.detach().cpu().double().numpy()
    return array


# Modules: a node for messages, the value before and the module, to the value after.


def _linear(node: Node, x: Flow, module: Any) -> Flow:
    W = _array(module.weight).T
    b = np.zeros(W.shape[1]) if module.bias is None else _array(module.bias)
    return x.then(Step("dense", node.where, {"W": W, "b": b}), (W.shape[1],))


def _activation(name: str, alpha: str | None = None) -> Callable[[Node, Flow, Any], Flow]:
    def make(node: Node, x: Flow, module: Any) -> Flow:
        options: dict[str, Any] = {"name": name}
        if alpha is not None:
            options["alpha"] = float(getattr(module, alpha))
        if getattr(module, "approximate", "none") != "none":
            raise refused(node, 'with approximate="none"')
        return x.then(Step("activation", node.where, options))
    return make


def _layer_norm(node: Node, x: Flow, module: Any) -> Flow:
    n = _one_size(node, module)
    gamma = np.ones(n) if module.weight is None else _array(module.weight)
    beta = np.zeros(n) if getattr(module, "bias", None) is None else _array(module.bias)
    return x.then(Step("layer_norm", node.where, {
        "gamma": gamma, "beta": beta, "epsilon": module.eps}), (n,))


def _rms_norm(node: Node, x: Flow, module: Any) -> Flow:
    n = _one_size(node, module)
    gamma = np.ones(n) if module.weight is None else _array(module.weight)
    epsilon = float(np.finfo(np.float32).eps) if module.eps is None else module.eps
    return x.then(Step("rms_norm", node.where, {"gamma": gamma, "epsilon": epsilon}), (n,))


def _one_size(node: Node, module: Any) -> int:
    if len(module.normalized_shape) != 1:
        raise refused(node, "over the columns of a row")
    return int(module.normalized_shape[0])


def _batch_norm(node: Node, x: Flow, module: Any) -> Flow:
    if module.running_mean is None or module.momentum is None:
        raise refused(node, "with running averages and a momentum")
    n = module.num_features
    arrays = {"gamma": module.weight, "beta": module.bias, "mean": module.running_mean,
              "variance": module.running_var}
    options: dict[str, Any] = {
        name: np.full(n, float(name == "gamma")) if each is None else _array(each)
        for name, each in arrays.items()}
    return x.then(Step("batch_norm", node.where, options | {
        "epsilon": module.eps, "momentum": module.momentum}), (n,))


def _prelu(node: Node, x: Flow, module: Any) -> Flow:
    return x.then(Step("prelu", node.where, {"slope": _array(module.weight)}))


def _dropout(node: Node, x: Flow, module: Any) -> Flow:
    return x.then(Step("layer", node.where, {"layer": Dropout(module.p)}))


def _flatten(node: Node, x: Flow, module: Any) -> Flow:
    return x


MODULES: dict[str, Callable[[Node, Flow, Any], Flow]] = {
    "Linear": _linear, "LayerNorm": _layer_norm, "RMSNorm": _rms_norm,
    "BatchNorm1d": _batch_norm, "PReLU": _prelu, "Dropout": _dropout, "Flatten": _flatten,
    "Identity": _flatten, "ReLU": _activation("relu"),
    "LeakyReLU": _activation("leaky_relu", "negative_slope"), "Sigmoid": _activation("sigmoid"),
    "Tanh": _activation("tanh"), "ELU": _activation("elu", "alpha"), "GELU": _activation("gelu"),
    "SiLU": _activation("silu"), "Mish": _activation("mish"), "SELU": _activation("selu"),
}


# Functions and methods: a node with keyword arguments, and the others.


def _pair(op: str) -> Callable[..., Flow]:
    def run(node: Node, a: Any, b: Any) -> Flow:
        values = [each if isinstance(each, Flow) else np.asarray(each, np.float64)
                  for each in (a, b)]
        return pairwise(Node(op, [], [], {}, node.where), *values)
    return run


def _function(name: str) -> Callable[..., Flow]:
    def run(node: Node, x: Any, *rest: Any) -> Flow:
        if not isinstance(x, Flow) or rest or set(node.attributes) - {"inplace"}:
            raise refused(node, "with no arguments but the input")
        return x.then(Step("activation", node.where, {"name": name}))
    return run


def _cat(node: Node, parts: Any, dim: int = 0) -> Flow:
    if node.attributes.get("dim", dim) not in (1, -1) or not all(
            isinstance(each, Flow) for each in parts):
        raise refused(node, "of columns")
    start = common_ancestor(list(parts))
    steps = [normalized(path(start, each) or []) for each in parts]
    widths = [each.columns for each in parts]
    total = None if None in widths else sum(n for n in widths if n is not None)
    return start.then(Step("columns", node.where, {"parts": steps}), (total,))


def _getitem(node: Node, x: Any, index: Any) -> Flow:
    whole = isinstance(index, tuple) and len(index) == 2 and index[0] in (slice(None), Ellipsis)
    if not isinstance(x, Flow) or not whole:
        raise refused(node, "of columns, as in x[:, 2:5]")
    columns = index[1]
    if isinstance(columns, slice):
        if x.columns is None and (columns.stop is None or columns.stop < 0):
            raise refused(node, "from a number of columns that is known; pass n_in=…")
        columns = list(range(columns.stop if x.columns is None else x.columns))[columns]
    single = isinstance(columns, int)
    indices = [columns] if single else list(columns)
    if min(indices) < 0:
        if x.columns is None:
            raise refused(node, "from a number of columns that is known; pass n_in=…")
        indices = [each + x.columns * (each < 0) for each in indices]
    n_in = max(indices) + 1 if x.columns is None else x.columns
    return x.then(Step("take", node.where, {"columns": indices, "n_in": n_in}),
                  () if single else (len(indices),))


def _same(node: Node, x: Any, *rest: Any) -> Flow:
    if not isinstance(x, Flow):
        raise refused(node)
    return x


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: _pair(op) for op, names in {
        "Add": ("add",), "Sub": ("sub",), "Mul": ("mul", "multiply"),
        "Div": ("truediv", "div", "true_divide"), "Pow": ("pow",)}.items() for name in names},
    **{name: _function(name) for name in ("relu", "sigmoid", "tanh", "silu", "mish", "selu",
                                          "gelu")},
    "cat": _cat, "concat": _cat, "getitem": _getitem, "flatten": _same, "long": _same,
    "float": _same, "contiguous": _same,
}
