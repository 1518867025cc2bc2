"""The intermediate representation: values, and instructions that read and write them."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["Instruction", "Kind", "Program", "Value"]

Kind: TypeAlias = Literal["input", "output", "parameter", "gradient", "buffer", "temporary"]


@dataclass(eq=False, slots=True)
class Value:
    """An array that instructions read and write.

    Attributes
    ----------
    name : str
    kind : {"input", "output", "parameter", "gradient", "buffer", "temporary"}
        Parameters, gradients and buffers are parts of the network's flat arrays; the input and
        the output of a prediction are the caller's arrays; temporaries are in the arena, one
        block of memory that the executor allocates.
    rows : int or None
        None for as many as the minibatch has.
    columns : int
    owner : tuple of Layer and str, or None
        The layer, and the name there, of a parameter, gradient or buffer.
    needs_gradient : bool
        Whether backpropagation has to compute its gradient: true if it depends on a parameter, and,
        in a program for training, for the input.
    place, place_per_row : int
        Its offset in its array, in elements: ``place + place_per_row · rows``, where `rows` is the
        number of rows for which the arena was allocated.
    """

    name: str
    kind: Kind
    rows: int | None
    columns: int
    owner: tuple[Layer, str] | None = None
    needs_gradient: bool = False
    place: int = 0
    place_per_row: int = 0

    @property
    def shape(self) -> str:
        """Rows and columns as text; ``m`` stands for the rows of the minibatch."""
        return f"({'m' if self.rows is None else self.rows}, {self.columns})"


@dataclass(eq=False, slots=True)
class Instruction:
    """One operation of kernels/ops.def on values.

    Attributes
    ----------
    op : str
    reads, writes : tuple of Value
    attributes : dict
        The operation's attributes, by the names of ops.def, and `columns` where it selects some.
    layer : Layer or None
        The layer that is needed to run it: a user's own, which runs in Python, or one that draws
        random numbers.
    where : str
        The layer's path in the network.
    relu : bool
        Whether a ReLU was fused into it; set by the planner.
    precision : {"highest", "high", "medium"}
        Of a dense layer's product.
    relu_mask : Value or None
        The output of the ReLU whose gradient was fused into it; set by the planner.
    barrier : bool
        Whether threads wait for each other after it.
    """

    op: str
    reads: tuple[Value, ...]
    writes: tuple[Value, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: Layer | None = None
    where: str = ""
    precision: str = "highest"
    relu: bool = False
    relu_mask: Value | None = None
    barrier: bool = True

    @property
    def all_reads(self) -> tuple[Value, ...]:
        """`reads`, and `relu_mask` if there is one."""
        return self.reads if self.relu_mask is None else (*self.reads, self.relu_mask)

    def __str__(self) -> str:
        inputs = [value.name for value in self.reads]
        inputs += [f"{name}={value:g}" if isinstance(value, float) else f"{name}={value}"
                   for name, value in self.attributes.items()]
        if self.precision != "highest":
            inputs.append(f"precision={self.precision}")
        if self.layer is not None:
            inputs.append(f"layer={type(self.layer).__name__}")
        text = f"{self.op}({', '.join(inputs)})"
        if self.relu:
            text = f"relu({text})"
        if self.relu_mask is not None:
            text = f"relu_backward({text}, {self.relu_mask.name})"
        if not self.writes:
            return text
        return f"{', '.join(value.name for value in self.writes)} = {text}"


@dataclass(eq=False, slots=True)
class Program:
    """A network as data.

    Attributes
    ----------
    x, z : Value
        The input and the output.
    dz, dx : Value or None
        Their gradients, in a program for training; dx is None where nothing needs it.
    forward, backward : list of Instruction
    update : list of Instruction
        Run at the end of a training step: updates of buffers.
    n_fused : int
        How many instructions at the end of `backward`, all of them gradients of weights, can be
        fused with the update; set by the planner.
    n_sums : int
        How many instructions at the end of `backward` are all those that write gradients, which are
        sums over rows; set by the planner for a minibatch that several processes share.
    arena, arena_per_row : int
        Size of the arena in elements, and its increase per row; set by the planner.
    """

    x: Value
    z: Value
    dz: Value | None = None
    dx: Value | None = None
    forward: list[Instruction] = field(default_factory=list)
    backward: list[Instruction] = field(default_factory=list)
    update: list[Instruction] = field(default_factory=list)
    n_fused: int = 0
    n_sums: int = 0
    arena: int = 0
    arena_per_row: int = 0

    @property
    def instructions(self) -> list[Instruction]:
        """Those of all sections, in order."""
        return [*self.forward, *self.backward, *self.update]

    def structure(self) -> tuple[Any, ...] | None:
        """The forward pass without its layers: programs that have it in common compute the same.

        Returns
        -------
        tuple or None
            To look encoded programs up by; None if an instruction needs a layer when it runs.
        """
        indices: dict[Value, int] = {}
        found: list[Any] = []

        def index(value: Value) -> int:
            if value not in indices:
                indices[value] = len(indices)
                found.append((value.kind, value.rows, value.columns, value.place,
                              value.needs_gradient))
            return indices[value]

        index(self.x)
        for section in (self.forward, self.update):
            for each in section:
                if each.layer is not None:
                    return None
                attributes = dict(each.attributes)
                columns = attributes.pop("columns", None)
                # The bytes of numbers: 0.0 and -0.0, which are equal, are not the same.
                found.append((each.op, each.precision, *map(index, each.reads),
                              *map(index, each.writes), columns,
                              struct.pack(f"{len(attributes)}d", *map(float, attributes.values()))))
            found.append(None)  # the section's end
        return *found, index(self.z)

    def values(self) -> list[Value]:
        """Every value once, in the order of their first use."""
        found: dict[Value, None] = {self.x: None, self.z: None}
        if self.dz is not None:
            found[self.dz] = None
        for each in self.instructions:
            found |= dict.fromkeys((*each.reads, *each.writes))
        return list(found)
