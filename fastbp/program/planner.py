"""Make a lowered program ready to run: fuse, place values in memory, insert barriers.

Every pass keeps the results bitwise identical.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from ..kernels import ops
from . import gradients
from .ir import Instruction, Program, Value

__all__ = ["plan"]

# Temporaries start at a multiple of this many elements: 64 bytes of float32, a cache line.
ALIGNMENT = 16
# Extra elements between two temporaries.  Arrays at a distance of a multiple of the page size share
# cache sets, and a load from one waits for stores to the other.
SKEW = 5 * ALIGNMENT

# The gradients of dense layers that the kernel for matrix products can fuse with a ReLU's, and the
# gradients of their weights.
PRODUCTS_FOR_DX = "dense_backward_input", "shared_backward_input"
PRODUCTS_FOR_DW = "dense_backward_weights", "shared_backward_weights"

# An instruction, or None for the loss and the metric, and what it reads and writes.
_Step: TypeAlias = tuple[Instruction | None, tuple[Value, ...], tuple[Value, ...]]
# Where some values begin and end.
_Spans: TypeAlias = list[tuple[int, int]]


def plan(program: Program, fuse_update: bool = False, shared: bool = False) -> Program:
    """Fuse instructions, assign every value its memory, and insert barriers.

    Parameters
    ----------
    program : Program
        As returned by `lower`; changed in place.
    fuse_update : bool, default False
        Whether the gradients of weights come last, so that they can be fused with the update.
    shared : bool, default False
        Whether several processes share a minibatch: then all gradients of parameters come last.

    Returns
    -------
    Program
        The same object.
    """
    program.backward, program.dx = gradients.for_parameters(program), None
    fuse_relu_forward(program)
    fuse_relu_backward(program)
    if shared:
        move_sums_last(program)
    elif fuse_update:
        move_weights_last(program)
    allocate(program)
    first_last = len(program.backward) - program.n_fused - program.n_sums
    for section in (program.forward, program.backward[:first_last],
                    program.backward[first_last:]):
        place_barriers(section)
    return program


def move_weights_last(program: Program) -> None:
    """Move the gradients of weights to the end, when nothing reads the weights any more."""
    others = [each for each in program.backward if each.op != "dense_backward_weights"]
    weights = [each for each in program.backward if each.op == "dense_backward_weights"]
    program.backward, program.n_fused = others + weights, len(weights)


def move_sums_last(program: Program) -> None:
    """Move all gradients of parameters to the end, when everything that they read is there."""
    def is_sum(each: Instruction) -> bool:
        return any(value.kind == "gradient" for value in each.writes)

    sums = [each for each in program.backward if is_sum(each)]
    program.backward = [each for each in program.backward if not is_sum(each)] + sums
    program.n_sums = len(sums)


def _readers(program: Program) -> Counter[Value]:
    """How many instructions read each value; the loss counts as one that reads the output."""
    readers = Counter(value for each in program.instructions for value in each.reads)
    readers[program.z] += 1
    return readers


def fuse_relu_forward(program: Program) -> None:
    """Fuse each ReLU that follows a dense layer into the layer's matrix product."""
    def absorb(product: Instruction, _: Instruction) -> None:
        product.relu = True

    _fuse(program.forward, _readers(program), ("dense", "shared_dense"), "relu", absorb)


def fuse_relu_backward(program: Program) -> None:
    """Fuse each ReLU's gradient that follows a dense layer's dX into the matrix product for dX.

    The gradient of ReLU needs only the sign of its output.  The output is kept, so its input can be
    overwritten.
    """
    def absorb(product: Instruction, relu: Instruction) -> None:
        product.relu_mask = relu.reads[1]

    _fuse(program.backward, _readers(program), PRODUCTS_FOR_DX, "relu_backward", absorb)


def _fuse(instructions: list[Instruction], readers: Counter[Value], products: Sequence[str],
          relu: str, absorb: Callable[[Instruction, Instruction], None]) -> None:
    """Fuse a ReLU into the matrix product before it if nothing else reads the product."""
    made_by = {each.writes[0]: each for each in instructions if each.op in products}
    for each in [each for each in instructions if each.op == relu]:
        before = made_by.get(each.reads[0])
        if before is not None and readers[each.reads[0]] == 1:
            before.writes = each.writes
            absorb(before, each)
            instructions.remove(each)


class _Place:
    """A range of the arena, the values that share it, and the steps in which it is in use."""

    def __init__(self, value: Value, first: int) -> None:
        self.values, self.first, self.last = [value], first, first
        self.size = -(-value.columns // ALIGNMENT) * ALIGNMENT
        self.start = 0

    @property
    def stop(self) -> int:
        return self.start + self.size


def allocate(program: Program) -> None:
    """Place every temporary in the arena; space is reused once its value is no longer read."""
    if program.dz is None and program.z is not program.x:
        program.z.kind = "output"
    # The loss comes between forward and backward, and the metric at the end.
    steps: list[_Step] = [(each, each.all_reads, each.writes) for each in program.forward]
    if program.dz is not None:
        steps.append((None, (program.z,), (program.dz,)))
        steps += [(each, each.all_reads, each.writes)
                  for each in (*program.backward, *program.update)]
        steps.append((None, (program.z,), ()))
    last = {value: i for i, (_, reads, _) in enumerate(steps) for value in reads}
    _keep_for_the_next_products(steps, last)
    places: dict[Value, _Place] = {}
    for i, (each, reads, writes) in enumerate(steps):
        for j, value in enumerate(writes):
            if value.kind not in ("temporary", "output"):
                continue
            source = reads[0]
            in_place = (
                each is not None and j == 0 and _may_be_in_place(ops.OPS[each.op], value)
                and source in places and last[source] == i
                and (source.rows, source.columns) == (value.rows, value.columns)
            )
            if in_place:
                places[value] = places[source]
                places[value].values.append(value)
            else:
                places[value] = _Place(value, i)
            places[value].last = max(i, last.get(value, i))
    _lay_out(program, list(dict.fromkeys(places.values())))


def _may_be_in_place(op: ops.Op, value: Value) -> bool:
    return op.in_place == "yes" or (op.in_place == "lines" and value.columns % ALIGNMENT == 0)


def _keep_for_the_next_products(steps: list[_Step], last: dict[Value, int]) -> None:
    """Keep dW's operand until dX is computed, so that no barrier is needed between the two."""
    at: dict[Value, Value] = {}
    for i, (each, reads, _) in enumerate(steps):
        if each is None:
            continue
        if each.op in PRODUCTS_FOR_DW:
            at[reads[1]] = reads[0]
        elif each.op in PRODUCTS_FOR_DX and reads[0] in at:
            X = at[reads[0]]
            last[X] = max(last[X], i)


def _lay_out(program: Program, places: list[_Place]) -> None:
    """Put each place into the first gap that is wide enough while the place is in use."""
    for place in places:
        if any(value.kind == "output" for value in place.values):
            for value in place.values:
                value.kind = "output"
    # Temporaries whose number of rows is fixed come first; they are few and small.
    program.arena = 0
    per_row: list[_Place] = []
    for place in places:
        value = place.values[0]
        if value.kind == "output":
            continue
        if value.rows is not None:
            value.place = program.arena
            program.arena += -(-value.rows * value.columns // ALIGNMENT) * ALIGNMENT
            continue
        neighbours = sorted((other for other in per_row
                             if other.first <= place.last and place.first <= other.last),
                            key=lambda other: other.start)
        for other in neighbours:
            if place.stop <= other.start:
                break
            place.start = max(place.start, other.stop)
        per_row.append(place)
    starts = sorted({place.start for place in per_row})
    for place in per_row:
        for value in place.values:
            value.place_per_row = place.start
            value.place = program.arena + SKEW * starts.index(place.start)
    program.arena += SKEW * len(starts)
    program.arena_per_row = max((place.stop for place in per_row), default=0)


def place_barriers(instructions: Sequence[Instruction]) -> None:
    """Insert a barrier wherever an instruction touches memory that other threads still use.

    Only temporaries and the output matter: within a section no instruction writes parameters or
    reads gradients.
    """
    read: _Spans = []
    written: _Spans = []
    before: Instruction | None = None
    for each in instructions:
        reads, writes = _places_of(each.all_reads), _places_of(each.writes)
        if before is not None:
            before.barrier = (_overlap(written, reads) or _overlap(written, writes)
                              or _overlap(read, writes))
            if before.barrier:
                read, written = [], []
        read += reads
        written += writes
        before = each
    if before is not None:
        before.barrier = True


def _places_of(values: Iterable[Value]) -> _Spans:
    """The ranges of temporaries and of the output, as if all were in one array."""
    places = []
    for value in values:
        if value.kind == "output":
            places.append((-1, 0))
        elif value.kind == "temporary" and value.rows is None:
            places.append((value.place_per_row, value.place_per_row + value.columns))
        elif value.kind == "temporary":  # fixed number of rows: negative, apart from others
            places.append((-2 - value.place, -1 - value.place))
    return places


def _overlap(some: _Spans, others: _Spans) -> bool:
    for start, stop in some:
        for first, last in others:
            if start < last and first < stop:
                return True
    return False
