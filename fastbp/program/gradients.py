"""Backpropagation: a rule for each operation, applied from the last instruction to the first.

A rule is given an instruction of the forward pass and the loss's gradient with respect to what it
wrote.  It adds the instructions that make the gradients with respect to what it read.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..kernels import ops
from .ir import Instruction, Program, Value

if TYPE_CHECKING:
    from .builder import Builder

__all__ = ["add_backward", "for_parameters"]


class Backward:
    """The gradients computed so far, by value.

    Parameters
    ----------
    builder : Builder
        Collects the instructions.
    """

    def __init__(self, builder: Builder) -> None:
        self.op = builder.op
        self._builder = builder
        self._gradients: dict[Value, Value] = {}
        self._written: set[Any] = set()

    def of(self, value: Value) -> Value | None:
        """The gradient with respect to a value; None if the loss does not depend on it."""
        return self._gradients.get(value)

    def add(self, value: Value, gradient: Value) -> None:
        """Add one consumer's gradient; with several consumers, the last one's comes first."""
        before = self._gradients.get(value)
        self._gradients[value] = (gradient if before is None
                                  else self.op("add", before, gradient, gradient=1.0))

    def write(self, parameters: Value | tuple[Value, ...], name: str, *reads: Value,
              **options: Any) -> None:
        """Add an instruction that writes the gradients with respect to one or more parameters."""
        if isinstance(parameters, Value):
            parameters = parameters,
        for each in parameters:
            self._will_be_written(each, name)
        self.op(name, *reads, out=tuple(map(self._builder.gradient, parameters)), **options)

    def _will_be_written(self, parameter: Value, name: str) -> None:
        if parameter.kind != "parameter":
            raise NotImplementedError(
                f"layer {self._builder.where}: expected a parameter where {parameter.name}, "
                f"{'an' if parameter.kind == 'input' else 'a'} {parameter.kind}, is read, whose "
                f"gradient {name} would write"
            )
        if parameter.owner in self._written:
            raise NotImplementedError(f"{parameter.name}: a parameter that two instructions read")
        self._written.add(parameter.owner)


def add_backward(builder: Builder, program: Program) -> None:
    """Add the backward pass to a program that has the forward pass.

    Parameters
    ----------
    builder : Builder
        That of the forward pass.
    program : Program
        Its `backward`, `dz` and `dx` are set.
    """
    builder.instructions = program.backward
    back = Backward(builder)
    program.dz = Value("dZ", "temporary", None, program.z.columns)
    back.add(program.z, program.dz)
    for each in reversed(program.forward):
        builder.where = each.where
        dZ = back.of(each.writes[0])
        if each.op in SEVERAL and any(back.of(value) is not None for value in each.writes[1:]):
            raise NotImplementedError(f"layer {each.where}: only the first value that {each.op} "
                                      f"writes has a gradient")
        if each.op == "normalize_columns":
            _check_own_moments(program, each)
        if each.op == "piecewise":
            _check_own_nodes(program, each)
        if dZ is not None and any(value.needs_gradient for value in (*each.reads, *each.writes)):
            if each.op not in RULES:
                raise NotImplementedError(f"layer {each.where}: {each.op} has no gradient; it is "
                                          f"for prediction alone")
            RULES[each.op](back, each, dZ)
    program.dx = back.of(program.x)


# Operations that write more than one value; their rules handle the gradient of the first alone.
SEVERAL = "normalize_rows", "column_moments", "periodic_features", "piecewise"


def _check_own_nodes(program: Program, each: Instruction) -> None:
    """Raise unless a piecewise linear embedding's nodes are those of its own W and b."""
    _, _, W, b, nodes = each.reads
    if not any(earlier.op == "piecewise_nodes" and earlier.writes[0] is nodes
               and [value.owner for value in earlier.reads] == [W.owner, b.owner]
               for earlier in program.forward):
        raise NotImplementedError(f"layer {each.where}: piecewise has a gradient where its nodes "
                                  f"are those of {W.name} and {b.name}")


def _check_own_moments(program: Program, each: Instruction) -> None:
    """Raise unless a value is normalized by its own mean and variance, as the rule assumes."""
    made_by = {value: earlier for earlier in program.forward for value in earlier.writes}
    X, mean, rstd = each.reads
    root = made_by.get(rstd)
    moments = made_by.get(mean)
    if (root is None or root.op != "inverse_sqrt" or moments is None
            or moments.op != "column_moments" or moments.reads[0] is not X
            or mean is not moments.writes[0] or root.reads[0] is not moments.writes[1]):
        raise NotImplementedError(f"layer {each.where}: normalize_columns has a gradient where the "
                                  f"mean and the variance are those of {X.name} alone")


def for_parameters(program: Program) -> list[Instruction]:
    """The backward pass without the instructions that only the gradient of the input needs.

    Parameters
    ----------
    program : Program

    Returns
    -------
    list of Instruction
    """
    needed: set[Value] = set()
    kept: list[Instruction] = []
    for each in reversed(program.backward):
        if needed.isdisjoint(each.writes):
            if each.op == "python_backward":  # its layer may have something of its own to do
                each = replace(each, writes=())
            elif not any(value.kind == "gradient" for value in each.writes):
                continue
        needed.update(each.reads)
        kept.append(each)
    return kept[::-1]


def _dense(back: Backward, each: Instruction, dZ: Value) -> None:
    X, W, b = each.reads
    back.write(W, "dense_backward_weights", X, dZ)
    back.write(b, "dense_backward_bias", dZ)
    if X.needs_gradient:
        back.add(X, back.op("dense_backward_input", dZ, W))


def _activation(back: Backward, each: Instruction, dA: Value) -> None:
    Z, = each.reads
    A, = each.writes
    saved = Z if ops.ACTIVATIONS[each.op].saved == "Z" else A
    if Z.needs_gradient:
        back.add(Z, back.op(f"{each.op}_backward", dA, saved, **each.attributes))


def _dropout(back: Backward, each: Instruction, dY: Value) -> None:
    X, = each.reads
    if X.needs_gradient:
        back.add(X, back.op("dropout_backward", dY, layer=each.layer, **each.attributes))


def _add(back: Backward, each: Instruction, dZ: Value) -> None:
    for value in each.reads:
        if value.needs_gradient:
            back.add(value, dZ)


def _scale(back: Backward, each: Instruction, dY: Value) -> None:
    X, gamma, *beta = each.reads
    back.write(gamma, "column_dots", dY, X)
    for each_beta in beta:
        back.write(each_beta, "dense_backward_bias", dY)
    if X.needs_gradient:
        back.add(X, back.op("scale", dY, gamma, gradient=1.0))


def _normalize_rows(back: Backward, each: Instruction, dN: Value) -> None:
    X, = each.reads
    N, rstd = each.writes
    if X.needs_gradient:
        back.add(X, back.op("normalize_rows_backward", dN, N, rstd,
                            center=each.attributes["center"]))


def _normalize_columns(back: Backward, each: Instruction, dN: Value) -> None:
    """Includes the gradient through the mean and the variance, which are X's own."""
    X, _, rstd = each.reads
    if X.needs_gradient:
        back.add(X, back.op("normalize_columns_backward", dN, each.writes[0], rstd))


def _prelu(back: Backward, each: Instruction, dY: Value) -> None:
    X, slope = each.reads
    back.write(slope, "prelu_slope", dY, X)
    if X.needs_gradient:
        back.add(X, back.op("prelu_backward", dY, X, slope))


def _embedding(back: Backward, each: Instruction, dZ: Value) -> None:
    codes, table = each.reads
    back.write(table, "embedding_backward", codes, dZ, sizes={"c": table.rows})


def _periodic(back: Backward, each: Instruction, dZ: Value) -> None:
    """Frozen frequencies and phases are buffers; then the forward pass keeps the cosines."""
    X, frequencies, phases, gamma, beta = each.reads
    if each.op == "periodic_features":
        back.write((gamma, beta), "scale_shift_backward", dZ, each.writes[1])
    else:
        back.write((gamma, beta, frequencies, phases), "periodic_backward", dZ, X, frequencies,
                   phases, gamma)
    if X.needs_gradient:
        back.add(X, back.op("periodic_backward_input", dZ, X, frequencies, phases, gamma))


def _piecewise(back: Backward, each: Instruction, dZ: Value) -> None:
    X, edges, W, b, _ = each.reads
    _, bins, fractions = each.writes
    columns = each.attributes["columns"]
    back.write(W, "piecewise_backward", dZ, bins, fractions, columns=columns,
               sizes={"s": W.rows, "d": W.columns})
    back.write(b, "dense_backward_bias", dZ)
    if X.needs_gradient:
        back.add(X, back.op("piecewise_backward_input", dZ, bins, edges, W, columns=columns))


def _repeat(back: Backward, each: Instruction, dY: Value) -> None:
    X, = each.reads
    if X.needs_gradient:
        back.add(X, back.op("sum_members", dY, sizes={"n": X.columns},
                            factor=each.attributes["factor"], gradient=1.0))


def _sum_members(back: Backward, each: Instruction, dY: Value) -> None:
    X, = each.reads
    if X.needs_gradient:
        back.add(X, back.op("repeat", dY, sizes={"v": X.columns},
                            factor=each.attributes["factor"], gradient=1.0))


def _shared(back: Backward, each: Instruction, dZ: Value) -> None:
    """Sums over the rows of all members, as the weights are the same for all."""
    X, W, *b = each.reads
    back.write(W, "shared_backward_weights", X, dZ, sizes={"k": W.rows, "n": W.columns})
    for each_b in b:
        back.write(each_b, "shared_backward_bias", dZ, sizes={"n": W.columns})
    if X.needs_gradient:
        back.add(X, back.op("shared_backward_input", dZ, W, sizes={"u": X.columns}))


def _separate(back: Backward, each: Instruction, dZ: Value) -> None:
    X, W, b = each.reads
    back.write(W, "separate_backward_weights", X, dZ, sizes={"n": W.columns})
    back.write(b, "dense_backward_bias", dZ)
    if X.needs_gradient:
        back.add(X, back.op("separate_backward_input", dZ, W))


def _take_columns(back: Backward, each: Instruction, dY: Value) -> None:
    X, = each.reads
    if X.needs_gradient:
        back.add(X, back.op("take_columns_backward", dY, columns=each.attributes["columns"],
                            sizes={"k": X.columns}))


def _join(back: Backward, each: Instruction, dZ: Value) -> None:
    start = 0
    for part in each.reads:
        columns = range(start, start + part.columns)
        if part.needs_gradient:
            back.add(part, back.op("take_columns", dZ, columns=columns,
                                   sizes={"n": part.columns}))
        start += part.columns


def _python(back: Backward, each: Instruction, dZ: Value) -> None:
    X, = each.reads
    dX = back.op("python_backward", dZ, layer=each.layer, sizes={"k": X.columns})
    back.add(X, dX)


RULES: dict[str, Callable[[Backward, Instruction, Value], None]] = {
    "dense": _dense, "dropout": _dropout, "python": _python, "add": _add, "scale": _scale,
    "scale_shift": _scale, "normalize_rows": _normalize_rows,
    "normalize_columns": _normalize_columns, "prelu": _prelu, "embedding": _embedding,
    "take_columns": _take_columns, "join": _join, "periodic": _periodic,
    "periodic_features": _periodic, "piecewise": _piecewise, "repeat": _repeat,
    "sum_members": _sum_members, "shared_dense": _shared, "shared_product": _shared,
    "separate_dense": _separate,
    **dict.fromkeys(ops.ACTIVATIONS, _activation),
}
