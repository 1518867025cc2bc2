from fastbp.kernels.executor cimport Executor
from fastbp.kernels.instructions cimport Frame


# A part of an instruction that sums over rows: rows of the gradient of weights, or all of it.
cdef struct Piece:
    int instruction
    Py_ssize_t first, stop


cdef void share_of(Py_ssize_t rows, int rank, int processes, Py_ssize_t *first,
                   Py_ssize_t *stop) noexcept nogil


cdef class Shares:
    cdef readonly int rank, processes
    cdef readonly Py_ssize_t most_rows  # of a minibatch that are here
    cdef readonly list segments         # the ranges of the flat gradients that each writes
    cdef readonly object Z, dZ          # the outputs of the whole minibatch, and their gradient
    cdef object dtype
    cdef list arrays                    # the memory behind the pointers
    cdef Executor executor
    cdef const Piece *pieces
    cdef const int *starts              # of each segment's pieces, and where the last's end
    cdef int n_segments

    cdef int find_segments(self) except -1
    cdef int average(self, turns, Frame *frame, int i, int threads) except -1
