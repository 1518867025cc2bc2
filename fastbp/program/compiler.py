"""A planned program, as the executor takes it."""

from ..kernels import ops
from ..kernels.encoded import EncodedProgram
from .reference import call_backward, call_forward

__all__ = ["encode"]


def encode(program):
    """A planned program as the executor takes it.

    Parameters
    ----------
    program : Program

    Returns
    -------
    fastbp.kernels.encoded.EncodedProgram
    """
    values = {value: i for i, value in enumerate(program.values())}
    random, calls = [], []
    training = program.dz is not None

    def layer_index(each):
        if each.op in ("dropout", "dropout_backward"):
            if each.layer not in random:
                random.append(each.layer)
            return random.index(each.layer)
        if each.op in ("python", "python_backward"):
            calls.append(_call(each, training))
            return len(calls) - 1
        return None

    def section(instructions):
        return [
            (each.op, [values[value] for value in each.reads],
             [values[value] for value in each.writes],
             [each.attributes[name] for name in ops.OPS[each.op].attributes],
             each.attributes.get("columns"), layer_index(each), each.relu,
             None if each.relu_mask is None else values[each.relu_mask], each.barrier)
            for each in instructions
        ]

    return EncodedProgram(
        values=[(value.kind, value.rows, value.columns, value.place, value.place_per_row)
                for value in values],
        forward=section(program.forward), backward=section(program.backward),
        update=section(program.update),
        x=values[program.x], z=values[program.z], dz=values[program.dz] if training else -1,
        arena=program.arena, arena_per_row=program.arena_per_row, calls=calls, random=random,
    )


def _call(each, training):
    """What Python does for an instruction that is a layer's own: array in, array out."""
    if each.op == "python":
        n_out = each.writes[0].columns
        return lambda X: call_forward(each.where, each.layer, X, training, n_out)
    n_in = each.writes[0].columns if each.writes else None
    return lambda dZ: call_backward(each.where, each.layer, dZ, n_in)
