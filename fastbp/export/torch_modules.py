"""Networks as modules of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import layers as own
from ..program import Builder, Value, runs_in_python
from .torch_names import entries
from .torch_operations import operation

if TYPE_CHECKING:
    from ..layers import Layer
    from ..network import Sequential

__all__ = ["import_torch", "to_torch"]


def import_torch() -> Any:
    """The package `torch`, or an error that says how to install it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed.
    """
    try:
        import torch
        import torch.fx
    except ImportError as error:
        raise ImportError('PyTorch modules need the package torch: '
                          'pip install "fastbp[torch]"') from error
    return torch


def to_torch(network: Sequential) -> Any:
    """A network as a `torch.nn.Sequential`; see `Exportable.to_torch`.

    Parameters
    ----------
    network : Sequential

    Returns
    -------
    torch.nn.Sequential

    Raises
    ------
    ImportError
        If PyTorch is not installed.
    ValueError
        If a layer runs in Python.
    """
    torch = import_torch()
    make = _Modules(torch)
    module = torch.nn.Sequential(*(make.module(layer, str(i))
                                   for i, layer in enumerate(network.layers)))
    module.to(torch.float32 if network.dtype == np.float32 else torch.float64)
    state = module.state_dict()
    with torch.no_grad():
        for each in entries(network.leaves):
            state[each.name].copy_(torch.from_numpy(each.get().copy()))
    return module.eval()


class _Modules:
    """Makes modules of layers."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch
        nn = torch.nn

        class Residual(nn.Module):  # type: ignore[misc, name-defined]  # torch is of any type here
            """``x + f(x)``, with f the children in sequence."""

            def forward(self, x: Any) -> Any:
                z = x
                for child in self.children():
                    z = child(z)
                return x + z

        class Columns(nn.Module):  # type: ignore[misc, name-defined]
            """Groups of columns, each through children of its own, side by side."""

            def __init__(self, columns: list[list[int]]) -> None:
                super().__init__()
                self.columns = columns

            def forward(self, x: Any) -> Any:
                parts = []
                for columns, child in zip(self.columns, self.children(), strict=True):
                    parts.append(child(x[:, columns]))
                return torch.cat(parts, 1)

        class Codes(nn.Embedding):  # type: ignore[misc, name-defined]
            """An embedding of one column of codes."""

            def forward(self, x: Any) -> Any:
                return super().forward(x[:, 0].long())

        class Lowered(nn.Module):  # type: ignore[misc, name-defined]
            """A layer that PyTorch lacks, as the operations that it is lowered to."""

            def __init__(self, layer: Layer, where: str) -> None:
                super().__init__()
                self.config = type(layer), layer.config()
                for name, shape in layer.parameter_shapes.items():
                    self.register_parameter(name, nn.Parameter(torch.empty(shape)))
                for name, shape in layer.buffer_shapes.items():
                    self.register_buffer(name, torch.empty(shape))
                self.steps, self.output = _lowered(torch, layer, where)

            def forward(self, x: Any) -> Any:
                values = {"X": x}
                for function, reads, writes in self.steps:
                    values[writes] = function(*(
                        values[name] if name in values else getattr(self, name)
                        for name in reads))
                return values[self.output]

        self.Residual, self.Columns, self.Codes, self.Lowered = Residual, Columns, Codes, Lowered

    def module(self, layer: Layer, where: str) -> Any:
        """The module of a layer, with arrays yet to be set."""
        make = STANDARD.get(type(layer))
        if make is not None:
            return make(self.torch.nn, layer)
        if isinstance(layer, own.Embedding):
            return self.Codes(layer.n_categories, layer.n_out)
        if isinstance(layer, own.Residual):
            return self._with_children(self.Residual(), layer.children, where)
        if isinstance(layer, own.Columns):
            nn, module = self.torch.nn, self.Columns(layer.columns)
            for i, part in enumerate(layer.parts):
                children = [(str(j), each) for j, each in enumerate(part)]
                module.add_module(str(i), self._with_children(
                    nn.Sequential(), children, f"{where}.{i}"))
            return module
        cls: type = type(layer)
        if runs_in_python(cls) or isinstance(layer, own.Container):
            raise ValueError(
                f"layer {where} ({layer!r}): expected one that is lowered to operations of "
                f"kernels/ops.def, got one that runs in Python or holds others; write its module "
                f"by hand, or leave it out: net.layers = […]")
        return self.Lowered(layer, where)

    def _with_children(self, module: Any, children: Any, where: str) -> Any:
        for name, child in children:
            module.add_module(name, self.module(child, f"{where}.{name}"))
        return module


# The modules of PyTorch that do what layers do.
STANDARD: dict[type, Callable[[Any, Any], Any]] = {
    own.Dense: lambda nn, layer: nn.Linear(layer.n_in, layer.n_out),
    own.Dropout: lambda nn, layer: nn.Dropout(layer.rate),
    own.LayerNorm: lambda nn, layer: nn.LayerNorm(layer.n, layer.epsilon),
    own.RMSNorm: lambda nn, layer: nn.RMSNorm(layer.n, layer.epsilon),
    own.BatchNorm: lambda nn, layer: nn.BatchNorm1d(layer.n, layer.epsilon, layer.momentum),
    own.PReLU: lambda nn, layer: nn.PReLU(layer.n),
    **{own.ACTIVATIONS[name]: make for name, make in {
        "relu": lambda nn, layer: nn.ReLU(),
        "leaky_relu": lambda nn, layer: nn.LeakyReLU(layer.alpha),
        "sigmoid": lambda nn, layer: nn.Sigmoid(),
        "tanh": lambda nn, layer: nn.Tanh(),
        "elu": lambda nn, layer: nn.ELU(layer.alpha),
        "gelu": lambda nn, layer: nn.GELU(),
        "silu": lambda nn, layer: nn.SiLU(),
        "mish": lambda nn, layer: nn.Mish(),
        "selu": lambda nn, layer: nn.SELU(),
    }.items()},
}


def _lowered(torch: Any, layer: Layer,
             where: str) -> tuple[list[tuple[Any, list[str], str]], str]:
    """The functions of a layer's instructions, with the names that they read and write."""
    builder = Builder()
    builder.where = where
    # Layers without columns of their own are element-wise.
    x = Value("X", "input", None, layer.n_in or 1)
    z = layer.lower(builder, x)

    def name(value: Value) -> str:
        return value.name if value.owner is None else value.owner[1]

    return [(operation(torch, each), [name(value) for value in each.reads], name(each.writes[0]))
            for each in builder.instructions], name(z)
