"""A planned program, as the executor takes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..kernels import ops
from ..kernels.encoded import EncodedProgram
from ..kernels.types import Floats
from .ir import Instruction, Program
from .reference import call_backward, call_forward

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["encode"]


def encode(program: Program) -> EncodedProgram:
    """A planned program as the executor takes it.

    Parameters
    ----------
    program : Program

    Returns
    -------
    fastbp.kernels.encoded.EncodedProgram
    """
    values = {value: i for i, value in enumerate(program.values())}
    random: dict[int, Layer] = {}  # by id: layers may be equal
    calls: list[Callable[[Floats], Floats | None]] = []
    training = program.dz is not None

    def layer_index(each: Instruction) -> int | None:
        if each.op in ("dropout", "dropout_backward"):
            assert each.layer is not None  # the builder has seen to it
            random.setdefault(id(each.layer), each.layer)
            return list(random).index(id(each.layer))
        if each.op in ("python", "python_backward"):
            calls.append(_call(each, training))
            return len(calls) - 1
        return None

    def section(instructions: list[Instruction]) -> list[tuple[Any, ...]]:
        return [
            (each.op, [values[value] for value in each.reads],
             [values[value] for value in each.writes],
             [each.attributes[name] for name in ops.OPS[each.op].attributes],
             each.attributes.get("columns"), layer_index(each), each.relu,
             None if each.relu_mask is None else values[each.relu_mask], each.precision,
             each.barrier)
            for each in instructions
        ]

    return EncodedProgram(
        values=[(value.kind, value.rows, value.columns, value.place, value.place_per_row)
                for value in values],
        forward=section(program.forward), backward=section(program.backward),
        update=section(program.update), n_fused=program.n_fused,
        x=values[program.x], z=values[program.z],
        dz=-1 if program.dz is None else values[program.dz],
        arena=program.arena, arena_per_row=program.arena_per_row, calls=calls,
        random=[*random.values()], n_sums=program.n_sums,
    )


def _call(each: Instruction, training: bool) -> Callable[[Floats], Floats | None]:
    """What Python does for an instruction that is a layer's own: array in, array out."""
    layer = each.layer
    assert layer is not None
    if each.op == "python":
        n_out = each.writes[0].columns
        return lambda X: call_forward(each.where, layer, X, training, n_out)
    n_in = each.writes[0].columns if each.writes else None
    return lambda dZ: call_backward(each.where, layer, dZ, n_in)
