"""A planned program (fastbp/program) in the form that compiled code reads.

Everything that the executor relies on without checking is checked here, once for all networks whose
layers have the same kinds and sizes; an `Executor` adds a network's arrays.
"""

import itertools

cimport cython
cimport numpy as cnp

from operator import attrgetter, itemgetter

import numpy as np

from . import ops
from .checks import PRECISIONS as _PRECISIONS
from .dispatch import OP_INDEX as _OP_INDEX

cnp.import_array()

cdef extern from "simd/dispatch.h":
    enum:
        FBP_OP_dense, FBP_OP_dense_backward_weights, FBP_OP_dense_backward_input
        FBP_OP_shared_dense, FBP_OP_separate_backward_input
        FBP_OP_shared_backward_weights, FBP_OP_shared_backward_bias
        FBP_OP_shared_backward_input, FBP_OP_separate_backward_weights
        FBP_OP_periodic_backward, FBP_OP_piecewise_backward

KINDS = {"input": INPUT, "output": OUTPUT, "parameter": PARAMETER, "gradient": GRADIENT,
         "buffer": BUFFER, "temporary": TEMPORARY}

# A limit on sizes: more elements than any machine can hold, whose sums do not overflow.
MOST = 2**40

# Rough cost of an element-wise function in multiply-adds, half of it for its gradient.
cdef enum:
    WORK_OF_A_MAP = 16


def _are_starts(starts, k, n_bins):
    """Whether these say where the bins of each of k features begin, and where the last's end."""
    return (starts is not None and len(starts) == k + 1 and starts[0] == 0
            and starts[k] == n_bins and all(a < b for a, b in itertools.pairwise(starts)))


@cython.final
cdef class EncodedProgram:
    """A planned program, checked and encoded.

    Parameters
    ----------
    values : list of tuple
        ``(kind, rows, columns, place, place_per_row)`` of each; see `fastbp.program.Value`.
    forward, backward, update : list of tuple
        The instructions: ``(op, reads, writes, numbers, columns, layer, relu, relu_mask,
        precision, barrier)``.  Values are given by their indices; `layer` is an index into `calls`
        for layers written in Python, and otherwise into `random`.
    x, z, dz : int
        The input, the output and its gradient; dz is -1 without `backward`.
    arena, arena_per_row : int
        Elements that the temporaries need, and how many more per row.
    calls : sequence of callable
        What runs in Python: each is given a copy of what its instruction reads, and returns what
        it writes.
    random : sequence of Layer
        The layers that draw random numbers.
    n_sums : int, default 0
        How many instructions at the end of `backward` are all those that write gradients.

    Raises
    ------
    ValueError
        If an instruction's values do not match its operands, or a value is outside its array.
    """

    def __init__(self, values, forward, backward, update, n_fused, x, z, dz, arena, arena_per_row,
                 calls, random, n_sums=0):
        if self.arrays is not None:
            raise RuntimeError("EncodedProgram: already initialized; make another")
        self.arrays, self.calls, self.random = [], tuple(calls), tuple(random)
        if not (0 <= arena < MOST and 0 <= arena_per_row < MOST):
            raise ValueError(f"arena: expected sizes below 2**40, got {arena} and {arena_per_row}")
        cdef Code *code = &self.code
        code.values = self._places(values, arena, arena_per_row)
        code.n_values = len(values)
        code.arena, code.arena_per_row = arena, arena_per_row
        code.x, code.z, code.dz = x, z, dz
        last = "temporary" if backward or dz >= 0 else "output"
        for name, i, kinds in (("x", x, ["input"]), ("z", z, ["input", last]),
                               ("dz", dz, ["temporary"])):
            if name == "dz" and i == -1 and not backward:
                continue
            if not 0 <= i < len(values) or values[i][0] not in kinds or values[i][1] is not None:
                raise ValueError(f"{name}: expected an index of a value of the minibatch, got {i}")
        kinds = list(map(itemgetter(0), values))
        if kinds.count("input") != 1 or (dz >= 0 and "output" in kinds):
            raise ValueError("values: expected one input, and no output beside the way back")
        temporaries, outputs = (list(filter(lambda i: kinds[i] == wanted, range(len(kinds))))
                                for wanted in ("temporary", "output"))
        code.n_temporaries, code.n_outputs = len(temporaries), len(outputs)
        code.temporaries, code.outputs = self._indices(temporaries), self._indices(outputs)
        code.n_in, code.n_out = values[x][2], values[z][2]
        if any(values[i][2] != code.n_out for i in outputs):
            raise ValueError(f"values: expected outputs of {code.n_out} columns")
        if dz >= 0 and values[dz][2] != code.n_out:
            raise ValueError(f"dz: expected {code.n_out} columns, got {values[dz][2]}")
        code.forward = len(forward)
        code.backward = code.forward + len(backward)
        code.update = code.backward + len(update)
        code.instructions = self._instructions([*forward, *backward, *update], values)
        if not 0 <= n_fused <= len(backward):
            raise ValueError(f"n_fused: expected 0 to {len(backward)} instructions, got {n_fused}")
        code.weights = code.backward - n_fused
        if any(each[0] != "dense_backward_weights" for each in backward[len(backward) - n_fused:]):
            raise ValueError(f"n_fused: expected {n_fused} gradients of weights to end `backward`")
        if n_fused and code.weights > 0 and not code.instructions[code.weights - 1].barrier:
            raise ValueError("n_fused: expected a barrier before the gradients of weights")
        if not 0 <= n_sums <= len(backward) - n_fused or any(
                kinds[i] != "gradient" for each in backward[len(backward) - n_sums:]
                for i in each[2]):
            raise ValueError(f"n_sums: expected {n_sums} instructions that write gradients to end "
                             f"`backward`")
        code.sums = code.backward - n_sums
        self.ready = True

    cdef void *_pointer(self, array) except NULL:
        """A pointer to an array's elements; the array is kept alive."""
        self.arrays.append(array)
        return cnp.PyArray_DATA(array)

    cdef const int *_indices(self, indices) except NULL:
        return <const int *>self._pointer(np.array([*indices, -1], np.intc))

    cdef Place *_places(self, values, arena, arena_per_row) except NULL:
        cdef Place *places = <Place *>self._pointer(
            np.zeros(max(1, len(values)) * sizeof(Place), np.uint8))
        cdef int i
        needed = {"parameter": 0, "gradient": 0, "buffer": 0}
        for i, (kind, rows, columns, start, start_per_row) in enumerate(values):
            fits = 1 <= columns < MOST and start >= 0 and (rows is None or 1 <= rows < MOST)
            if kind in needed:
                fits = fits and rows is not None and start + rows * columns < MOST
                needed[kind] = max(needed[kind], start + rows * columns if fits else 0)
            elif kind == "temporary" and rows is None:
                fits &= (start <= arena and 0 <= start_per_row
                         and start_per_row + columns <= arena_per_row)
            elif kind == "temporary":
                fits &= start + rows * columns <= arena
            else:
                fits &= kind in KINDS and rows is None
            if not fits:
                raise ValueError(f"values: expected a part of its array, got {values[i]} at {i}, "
                                 f"with an arena of {arena} + {arena_per_row} a row")
            places[i].kind, places[i].rows, places[i].columns = KINDS[kind], rows or 0, columns
            places[i].start, places[i].start_per_row = start, start_per_row
        self.n_parameters = max(needed["parameter"], needed["gradient"])
        self.n_buffers = needed["buffer"]
        return places

    cdef Instruction *_instructions(self, instructions, values) except NULL:
        """Encode the instructions, after checks of their values, attributes and layers."""
        cdef Instruction *code = <Instruction *>self._pointer(
            np.zeros(max(1, len(instructions)) * sizeof(Instruction), np.uint8))
        cdef Instruction *each
        cdef int i
        tables = set()  # pairs: the codes that an embedding checks, and the rows of its table
        shapes = list(map(itemgetter(1, 2), values))
        written = {i for i, (kind, *_) in enumerate(values)
                   if kind in ("output", "gradient", "buffer", "temporary")}
        for i, (name, reads, writes, numbers, columns, layer, relu, relu_mask, precision,
                barrier) in enumerate(instructions):
            op = ops.OPS.get(name)
            if op is None:
                raise ValueError(f"instructions: expected an operation of ops.def at {i}, got "
                                 f"{name!r}")
            used = [*reads, *writes, *([] if relu_mask is None else [relu_mask])]
            if not reads or not all(0 <= j < len(values) for j in used):
                raise ValueError(f"{name}: expected indices of {len(values)} values at {i}, got "
                                 f"{used}")
            if name in ("dropout", "dropout_backward") and self.code.dz < 0:
                raise ValueError(f"{name}: expected it in a program for training alone; lower it "
                                 f"where builder.training is true")
            if name.startswith("python") and i >= self.code.backward:
                raise ValueError(f"{name}: expected nothing that runs in Python after a step")
            wanted = bool(writes) or name != "python_backward"
            ops.sizes(op, list(map(shapes.__getitem__, reads)),
                      list(map(shapes.__getitem__, writes)) if wanted else None)
            if not set(writes) <= written:
                raise ValueError(f"{name}: expected values that may be written to at {i}")
            if len(numbers) != len(op.attributes) or len(numbers) > MOST_NUMBERS:
                raise ValueError(f"{name}: expected {len(op.attributes)} attributes at {i}, got "
                                 f"{len(numbers)}")
            if name == "embedding":
                tables.add((reads[0], shapes[reads[1]][0]))
            elif name == "embedding_backward" and (
                    i < self.code.forward or (reads[0], shapes[writes[0]][0]) not in tables):
                raise ValueError(f"{name}: expected codes at {i} that an embedding of as many rows "
                                 f"has checked")
            if relu and name not in ("dense", "shared_dense"):
                raise ValueError(f"{name}: expected no ReLU in it at {i}")
            if relu_mask is not None and (name not in ("dense_backward_input",
                                                       "shared_backward_input")
                                          or shapes[relu_mask] != shapes[writes[0]]):
                raise ValueError(f"{name}: expected no ReLU's gradient of this size in it at {i}")
            known = _PRECISIONS if name in ops.REDUCED else _PRECISIONS[:1]
            if precision not in known:
                raise ValueError(f"{name}: expected one of the precisions {', '.join(known)} at "
                                 f"{i}, got {precision!r}")
            each = &code[i]
            each.precision = _PRECISIONS.index(precision)
            self.code.reduced |= each.precision != 0
            each.op = _OP_INDEX[name]
            each.reads, each.writes = self._indices(reads), self._indices(writes)
            for j, number in enumerate(numbers):
                each.numbers[j] = number
            each.columns = NULL
            if name.startswith("take_columns"):
                wide, narrow = (reads[0], writes[0])[::1 if name == "take_columns" else -1]
                if (columns is None or len(columns) != shapes[narrow][1]
                        or not all(0 <= column < shapes[wide][1] for column in columns)):
                    raise ValueError(f"{name}: expected {shapes[narrow][1]} columns of "
                                     f"{shapes[wide][1]} at {i}, got {columns}")
                each.columns = <const int64_t *>self._pointer(np.array(columns, np.int64))
            elif name.startswith("piecewise"):
                named = dict(zip(map(attrgetter("name"), (*op.reads, *op.writes)),
                                 map(shapes.__getitem__, (*reads, *writes)), strict=True))
                n_bins, d = named["dW" if name == "piecewise_backward" else "W"]
                k = named["b"][1] // d if name == "piecewise_nodes" else named["bins"][1]
                if not _are_starts(columns, k, n_bins) or (
                        name == "piecewise_nodes" and named["b"][1] != k * d):
                    raise ValueError(f"{name}: expected `columns` at {i} that say where the bins "
                                     f"of each of {k} features begin, and where the {n_bins} "
                                     f"end, got {columns}")
                each.columns = <const int64_t *>self._pointer(np.array(columns, np.int64))
            each.relu, each.barrier = relu, barrier
            each.relu_mask = -1 if relu_mask is None else relu_mask
            each.layer = -1 if layer is None else layer
            self._count_work(each, i)
            if name in ("python", "python_backward"):
                self.in_python = True
                if not 0 <= each.layer < len(self.calls):
                    raise ValueError(f"{name}: expected one of {len(self.calls)} calls at {i}, got "
                                     f"{layer}")
            elif name in ("dropout", "dropout_backward"):
                if not 0 <= each.layer < len(self.random):
                    raise ValueError(f"{name}: expected one of {len(self.random)} layers at {i}, "
                                     f"got {layer}")
        return code

    cdef int _count_work(self, const Instruction *each, int i) except -1:
        """Add an instruction's work per row to that of a prediction and of a step."""
        cdef Code *code = &self.code
        cdef const Place *values = code.values
        cdef Py_ssize_t n = 0
        if each.op == FBP_OP_dense or each.op == FBP_OP_dense_backward_input:
            n = values[each.reads[1]].rows * values[each.reads[1]].columns
        elif each.op == FBP_OP_dense_backward_weights:
            n = values[each.reads[0]].columns * values[each.reads[1]].columns
        elif each.op == FBP_OP_shared_backward_bias:
            n = values[each.reads[0]].columns
        elif (each.op == FBP_OP_shared_backward_weights
              or each.op == FBP_OP_separate_backward_weights):
            n = values[each.reads[0]].columns * values[each.writes[0]].columns
        elif FBP_OP_shared_dense <= each.op and each.op <= FBP_OP_separate_backward_input:
            # Weights, for each member.
            n = values[each.reads[0]].columns * values[each.reads[1]].columns
            if each.op == FBP_OP_shared_backward_input:
                n = values[each.reads[0]].columns * values[each.reads[1]].rows
            elif each.op == FBP_OP_separate_backward_input:
                n = values[each.writes[0]].columns * values[each.reads[1]].columns
        elif each.writes[0] >= 0 and values[each.writes[0]].rows == 0:
            n = WORK_OF_A_MAP * values[each.writes[0]].columns
            code.work_per_row_of_a_step -= n // 2
        elif each.op == FBP_OP_periodic_backward or each.op == FBP_OP_piecewise_backward:
            n = WORK_OF_A_MAP * values[each.reads[0]].columns // 2
        code.work_per_row_of_a_step += n
        if i < code.forward:
            code.work_per_row += n
        return 0
