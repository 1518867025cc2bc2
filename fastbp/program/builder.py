"""Lowering: each layer adds the instructions that compute it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from ..kernels import ops
from . import gradients
from .ir import Instruction, Kind, Program, Value

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["Builder", "Places", "lower", "lower_forward", "lower_layer", "runs_in_python"]

# Where each parameter and buffer starts in its flat array, by the layer's id and the name.
Places: TypeAlias = Mapping[tuple[int, str], int]


class Builder:
    """Collects the instructions of a program; `Layer.lower` is given one.

    Parameters
    ----------
    training : bool
        Whether the program is for training, in which layers such as `Dropout` differ.
    places : dict, optional
        The offset of each parameter and buffer in its flat array, by the layer's id and the name.
    precision : {"highest", "high", "medium"}, default "highest"
        Of the products of dense layers.

    Attributes
    ----------
    instructions : list of Instruction
    update : list of Instruction
        Instructions for the end of a training step.
    where : str
        The path of the layer that is being lowered, such as ``"2.0"``.
    """

    def __init__(self, training: bool = False, places: Places | None = None,
                 precision: str = "highest") -> None:
        self.training, self.precision = training, precision
        self.instructions: list[Instruction] = []
        self.update: list[Instruction] = []
        self._places = places
        self._count, self.where = 0, ""

    def op(self, name: str, *reads: Value, layer: Layer | None = None,
           sizes: Mapping[str, int] | None = None, out: Value | tuple[Value, ...] | None = None,
           columns: Iterable[int] | None = None, **attributes: float) -> Any:
        """Add an instruction.

        Parameters
        ----------
        name : str
            One of kernels/ops.def.
        *reads : Value
        layer : Layer, optional
            As `Instruction.layer`.
        sizes : dict of str to int, optional
            Sizes that cannot be derived from `reads`, by their letters in ops.def.
        out : Value or tuple of Value, optional
            Where the first results are written, instead of to new values.
        columns : tuple of int, optional
            For operations that select columns; for those of piecewise linear embeddings, where the
            bins of each feature begin, and where the last's end.
        **attributes : float
            In the order of ops.def.

        Returns
        -------
        Value or tuple of Value
            What it writes; a tuple if that is more than one value.

        Raises
        ------
        ValueError
            If there is no such operation, or sizes or attributes do not fit it.
        """
        op = ops.OPS.get(name)
        if op is None:
            raise ValueError(f"name: expected an operation of ops.def, got {name!r}")
        if name.startswith("dropout") and layer is None:
            raise ValueError(f"{name}: expected the layer whose key and step it takes, got None; "
                             f"pass layer=self")
        outs = () if out is None else out if isinstance(out, tuple) else (out,)
        for each in outs:
            if each.kind != "gradient" and not (
                    each.kind == "buffer" and self.instructions is self.update):
                raise ValueError(f"{name}: expected no `out` but a buffer's in `after_step`, got "
                                 f"{each.name}")
        if tuple(attributes) != op.attributes:
            raise ValueError(f"{name}: expected the attributes {', '.join(op.attributes)}, got "
                             f"{', '.join(attributes)}")
        shapes = [(value.rows, value.columns) for value in reads]
        found = ops.sizes(op, shapes, known=sizes or {})
        needs_gradient = any(value.needs_gradient for value in reads)
        writes = []
        for i, operand in enumerate(op.writes):
            if i < len(outs):
                writes.append(outs[i])
                continue
            self._count += 1
            n = found[operand.columns]
            assert n is not None  # only rows are as many as the minibatch has
            writes.append(Value(f"{operand.name}{self._count}", "temporary", found[operand.rows], n,
                                needs_gradient=needs_gradient))
        numbers: dict[str, Any] = dict(attributes)
        if columns is not None:
            numbers["columns"] = tuple(columns)
        precision = self.precision if name in ops.REDUCED else "highest"
        self.instructions.append(Instruction(name, reads, tuple(writes), numbers, layer,
                                             self.where, precision))
        return writes[0] if len(writes) == 1 else tuple(writes)

    def layer(self, where: int | str, layer: Layer, x: Value) -> Value:
        """Add a layer, applied to x.

        Parameters
        ----------
        where : int or str
            Its index in the sequence it is part of.
        layer : Layer
        x : Value

        Returns
        -------
        Value
        """
        outer = self.where
        self.where = f"{outer}.{where}" if outer else str(where)
        cls: type = type(layer)
        z = self.python(layer, x) if runs_in_python(cls) else layer.lower(self, x)
        if not isinstance(z, Value):
            raise TypeError(f"layer {self.where} ({layer!r}): lower returned {z!r}; expected the "
                            f"value that the layer returns")
        self.where = outer
        return z

    def python(self, layer: Layer, x: Value) -> Value:
        """Add a layer that runs in Python: its `forward`, and `backward` for the gradients."""
        n_out = x.columns if layer.n_out is None else layer.n_out
        z: Value = self.op("python", x, layer=layer, sizes={"n": n_out})
        z.needs_gradient = True  # it may have parameters
        return z

    def parameter(self, layer: Layer, name: str) -> Value:
        """A parameter of a layer, as a value to read."""
        return self._part("parameter", layer, name, layer.parameter_shapes[name])

    def buffer(self, layer: Layer, name: str) -> Value:
        """A buffer of a layer, as a value to read, or to write in `update`."""
        return self._part("buffer", layer, name, layer.buffer_shapes[name])

    def after_step(self, name: str, *reads: Value, **options: Any) -> Any:
        """Add an instruction for the end of a training step; arguments as for `op`."""
        instructions, self.instructions = self.instructions, self.update
        try:
            return self.op(name, *reads, **options)
        finally:
            self.instructions = instructions

    def gradient(self, parameter: Value) -> Value:
        """The gradient with respect to a parameter, as a value to write."""
        return Value(f"d({parameter.name})", "gradient", parameter.rows, parameter.columns,
                     parameter.owner, place=parameter.place)

    def _part(self, kind: Kind, layer: Layer, name: str, shape: tuple[int, ...]) -> Value:
        *leading, columns = shape
        rows = math.prod(leading)
        place = 0
        if self._places is not None:
            try:
                place = self._places[id(layer), name]
            except KeyError:
                raise ValueError(f"{layer!r}: expected a layer of the network, got one that a "
                                 f"layer keeps to itself; derive that from "
                                 f"fastbp.layers.Container, which names its children") from None
        full_name = f"{self.where}.{name}" if self.where else name
        return Value(full_name, kind, rows, columns, (layer, name),
                     needs_gradient=kind == "parameter", place=place)


@functools.lru_cache(maxsize=256)
def runs_in_python(cls: type) -> bool:
    """Whether a class of layers is defined by `forward` and `backward` rather than by `lower`.

    The most derived class decides: one that overrides `forward` of a layer that can be lowered
    computes something else.
    """
    for each in cls.__mro__:
        own = {"lower", "forward", "backward", "backward_parameters"}.intersection(vars(each))
        if own:
            return "lower" not in own
    return True


def lower(layers: Iterable[Layer], n_in: int, *, training: bool = False,
          places: Places | None = None, end: str | None = None,
          precision: str = "highest") -> Program:
    """The program of a network.

    Parameters
    ----------
    layers : sequence of Layer
    n_in : int
        Columns of the input.
    training : bool, default False
        Whether to add the backward pass.
    places : dict, optional
        As for `Builder`.
    end : str, optional
        An operation to apply to the output, for example ``"softmax"``.
    precision : {"highest", "high", "medium"}, default "highest"
        As for `Builder`.

    Returns
    -------
    Program
        Not planned yet.
    """
    builder, program = lower_forward(layers, n_in, training=training, places=places, end=end,
                                     precision=precision)
    if training:
        gradients.add_backward(builder, program)
    return program


def lower_forward(layers: Iterable[Layer], n_in: int, *, training: bool = False,
                  places: Places | None = None, end: str | None = None,
                  precision: str = "highest") -> tuple[Builder, Program]:
    """The forward pass alone; arguments as for `lower`.

    Returns
    -------
    builder : Builder
        For `add_backward`.
    program : Program
    """
    def body(builder: Builder, x: Value) -> Value:
        for i, layer in enumerate(layers):
            x = builder.layer(i, layer, x)
        if end is not None:
            x = builder.op(end, x)
        return x

    return _forward(body, n_in, Builder(training, places, precision))


def lower_layer(layer: Layer, n_in: int, training: bool) -> Program:
    """The program of a single layer."""
    builder, program = _forward(layer.lower, n_in, Builder(training))
    if training:
        gradients.add_backward(builder, program)
    return program


def _forward(body: Callable[[Builder, Value], Value], n_in: int,
             builder: Builder) -> tuple[Builder, Program]:
    x = Value("X", "input", None, n_in, needs_gradient=builder.training)
    z = body(builder, x)
    return builder, Program(x, z, forward=builder.instructions, update=builder.update)
