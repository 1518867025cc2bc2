"""A minibatch that several processes share.

It is cut at multiples of 256 rows, the blocks in which sums over rows are added up, and each
process runs the program for its rows.  A sum over rows goes from process to process: each adds its
blocks to those of the processes before, one after the other, as one process would, and the last one
finishes it.  Gradients of parameters are added up in segments, so that a process adds to one while
those before it add to the next.  The output and the loss are those of the whole minibatch in every
process.

What is sent to other processes, and how, is up to `fastbp.training.shared_turns`.
"""

cimport cython
cimport numpy as cnp

import numpy as np

from fastbp.kernels.dispatch cimport (
    FBP_CONTINUES, FBP_K_BLOCK, FBP_UNFINISHED, fbp_column_dots, fbp_column_means,
    fbp_column_squares, fbp_normalize_columns_from_sums, real, tier,
)
from fastbp.kernels.encoded cimport GRADIENT, Code, Instruction, Place
from fastbp.kernels.threads cimport fbp_partition, fbp_worker, run_team

from . import checks, segments

cnp.import_array()

cdef extern from "simd/dispatch.h":
    enum:
        FBP_OP_column_moments, FBP_OP_dense_backward_weights

# Columns shared among threads are split at multiples of this: a cache line of elements.
cdef enum:
    COLUMN_GRAIN = 16


cdef void share_of(Py_ssize_t rows, int rank, int processes, Py_ssize_t *first,
                   Py_ssize_t *stop) noexcept nogil:
    """The rows of a minibatch that are a process's, which is described at `share`."""
    cdef Py_ssize_t blocks = (rows + FBP_K_BLOCK - 1) // FBP_K_BLOCK
    cdef Py_ssize_t working = min(blocks, <Py_ssize_t>processes)
    first[0] = min(rows, blocks * min(rank, working) // working * FBP_K_BLOCK)
    stop[0] = min(rows, blocks * min(rank + 1, working) // working * FBP_K_BLOCK)


def share(rows, rank, processes):
    """The rows of a minibatch that are a process's, in whole blocks of 256.

    Parameters
    ----------
    rows : int
        Of the minibatch.
    rank, processes : int

    Returns
    -------
    first, stop : int
        The first row, and the one after the last.  If there are fewer blocks than processes, the
        last processes have none.

    Examples
    --------
    >>> from fastbp.kernels.shares import share
    >>> [share(1000, rank, 3) for rank in range(3)]
    [(0, 256), (256, 512), (512, 1000)]
    >>> [share(300, rank, 3) for rank in range(3)]
    [(0, 256), (256, 300), (300, 300)]
    """
    cdef Py_ssize_t first, stop
    share_of(checks.integer("rows", rows, 1), rank, checks.integer("processes", processes, 1),
             &first, &stop)
    return first, stop


@cython.final
cdef class Shares:
    """A process's part in the steps of a training, for `fastbp.kernels.steps.Steps`.

    Parameters
    ----------
    executor : Executor
        Of a program whose gradients come last: see `fastbp.program.planner.plan`.
    rank, processes : int
        Which of how many processes this is.
    batch_size : int
    dtype : numpy.dtype

    Raises
    ------
    ValueError
        If the program is not one that processes can share.
    """

    def __init__(self, Executor executor not None, rank, processes, batch_size, dtype):
        cdef Py_ssize_t first, stop
        self.rank = checks.integer("rank", rank, 0, processes - 1)
        self.processes = checks.integer("processes", processes, 1)
        self.executor, self.dtype, self.arrays = executor, dtype, []
        self.most_rows = 1
        for each in range(self.processes):  # not all have as many
            share_of(batch_size, each, self.processes, &first, &stop)
            self.most_rows = max(self.most_rows, stop - first)
        if executor.in_python:
            raise ValueError("executor: expected a program without layers that run in Python")
        self.find_segments()
        shape = batch_size, executor.code.n_out
        self.Z, self.dZ = np.zeros(shape, dtype), np.zeros(shape, dtype)

    cdef int find_segments(self) except -1:
        cdef const Code *code = &self.executor.code
        cdef const Instruction *each
        cdef const Place *value
        cdef int i, j
        sums = []
        for i in range(code.sums, code.backward):
            each = &code.instructions[i]
            ranges, j = [], 0
            while each.writes[j] >= 0:
                value = &code.values[each.writes[j]]
                ranges.append((value.start, value.start + value.rows * value.columns))
                j += 1
            value = &code.values[each.writes[0]]
            sums.append((i, value.rows if each.op == FBP_OP_dense_backward_weights else 1, ranges))
        for i in range(code.sums):
            if code.values[code.instructions[i].writes[0]].kind == GRADIENT:
                raise ValueError("executor: expected a program whose gradients come last")
        n_parameters = sum(map(lambda each: sum(map(lambda r: r[1] - r[0], each[2])), sums))
        found = segments.cut(sums, segments.segment_size(n_parameters, self.processes))
        n_pieces = sum(map(lambda segment: len(segment[0]), found))
        pieces = np.zeros((n_pieces + 1) * sizeof(Piece), np.uint8)
        starts = np.zeros(len(found) + 1, np.intc)
        cdef Piece *at = <Piece *>cnp.PyArray_DATA(pieces)
        self.segments, self.n_segments = [], len(found)
        j = 0
        for i, (of_segment, ranges) in enumerate(found):
            for index, first, stop in of_segment:
                at[j].instruction, at[j].first, at[j].stop = index, first, stop
                j += 1
            starts[i + 1] = j
            self.segments.append(ranges)
        self.arrays += [pieces, starts]
        self.pieces, self.starts = at, <const int *>cnp.PyArray_DATA(starts)
        return 0

    cdef int average(self, turns, Frame *frame, int i, int threads) except -1:
        """Execute an instruction that needs the mean of columns over the whole minibatch."""
        cdef const Instruction *each = &frame.code.instructions[i]
        cdef Py_ssize_t n = frame.code.values[each.reads[0]].columns
        cdef bint is_double = self.dtype == np.float64
        cdef Average work
        cdef int k
        cdef cnp.ndarray sums = np.zeros((2, n), self.dtype)
        work.frame, work.each, work.n = frame, each, n
        work.sums = cnp.PyArray_DATA(sums)
        if each.op == FBP_OP_column_moments:
            kinds = SUMS, SQUARES
        else:
            kinds = SUMS_AND_DOTS,
        for k in kinds:
            work.kind = k
            turns.begin_sum(sums, frame.batch)
            if frame.rows > 0:
                with nogil:
                    run_team(threads, average_doubles if is_double else average_floats, &work)
            turns.end_sum(sums)
            work.kind = REST_OF + k
            with nogil:
                run_team(threads, average_doubles if is_double else average_floats, &work)
        return 0


# What is summed, and what follows once the sum is known.
cdef enum:
    SUMS, SQUARES, SUMS_AND_DOTS, REST_OF


cdef struct Average:
    const Frame *frame
    const Instruction *each
    int kind
    Py_ssize_t n
    void *sums      # of n columns, twice


cdef void average_floats(void *work, fbp_worker *me) noexcept nogil:
    average_part(<const Average *>work, me, <float *>(<Average *>work).sums)


cdef void average_doubles(void *work, fbp_worker *me) noexcept nogil:
    average_part(<const Average *>work, me, <double *>(<Average *>work).sums)


cdef void average_part(const Average *work, fbp_worker *me, real *sums) noexcept nogil:
    """This thread's columns of a sum, or of the mean, or its rows of the gradient."""
    cdef const Frame *frame = work.frame
    cdef void **at = frame.at
    cdef const int *reads = work.each.reads
    cdef const int *writes = work.each.writes
    cdef const real *X = <const real *>at[reads[0]]
    cdef real *Z = <real *>at[writes[0]]
    cdef Py_ssize_t m = frame.rows, n = work.n, first, stop
    cdef int part = (frame.part & FBP_CONTINUES) | FBP_UNFINISHED
    if work.kind == REST_OF + SUMS_AND_DOTS:
        fbp_partition(me, m, 1, &first, &stop)
        fbp_normalize_columns_from_sums(
            tier, stop - first, n, n, X + first * n, <const real *>at[reads[1]] + first * n,
            <const real *>at[reads[2]], frame.batch, sums, sums + n, Z + first * n)
        return
    fbp_partition(me, n, COLUMN_GRAIN, &first, &stop)
    if first == stop:
        return
    if work.kind == SUMS or work.kind == SUMS_AND_DOTS:
        fbp_column_dots(tier, m, stop - first, n, X + first, <const real *>NULL, sums + first, part)
        if work.kind == SUMS_AND_DOTS:
            fbp_column_dots(tier, m, stop - first, n, X + first,
                            <const real *>at[reads[1]] + first, sums + n + first, part)
    elif work.kind == SQUARES:
        fbp_column_squares(tier, m, stop - first, n, X + first, Z + first, sums + first, part)
    else:
        Z = <real *>at[writes[work.kind - REST_OF]]  # the mean, or the variance
        fbp_column_means(tier, stop - first, sums + first, frame.batch, Z + first)
