"""The compiled way from rows to outputs, for prediction.

A `Predictor` is a network of built-in layers lowered to a list of operations.  Where a batch
is in the network's dtype and contiguous, a call is one pass through the kernels on a
workspace of its own, so that many threads may call at once.
"""

cimport cython
cimport numpy as cnp
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy

from fastbp.kernels.dense cimport FBP_WORKSPACE, WORK_FOR_WORKSPACE, matmul
from fastbp.kernels.dispatch cimport fbp_map, real, tier

from .engine import MAPS as _MAPS

cnp.import_array()

# Multiply-adds below which giving up the GIL costs more than it gives others.
cdef Py_ssize_t WORK_WORTH_A_THREAD = 1 << 16

# Rows that go through at once.
cdef Py_ssize_t CHUNK_ROWS = 256

cdef enum:
    DENSE = -1


cdef struct Operation:
    int kind               # DENSE, or the index of a map
    Py_ssize_t n_in, n_out
    Py_ssize_t parameters  # where a dense layer's W, then b, are in the flat array
    double parameter       # a map's


@cython.final
cdef class Predictor:
    """A network, lowered for prediction.

    Parameters
    ----------
    operations : list of tuple
        As for `fastbp.kernels.engine.Engine`; dropout does nothing here.
    parameters : ndarray of shape (n,)
        The network's flat array.
    n_in : int
        Columns of the input.
    """

    cdef object array
    cdef const void *parameters
    cdef int typenum, n_operations
    cdef Operation *operations
    cdef Py_ssize_t n_in, n_out, widest, work_per_row

    def __init__(self, list operations, parameters, Py_ssize_t n_in):
        cdef Operation *op
        cdef Py_ssize_t width = n_in, offset = 0
        self.array = parameters
        self.parameters = cnp.PyArray_DATA(parameters)
        self.typenum = cnp.PyArray_TYPE(parameters)
        free(self.operations)  # NULL, unless this is called again
        self.n_operations = self.work_per_row = 0
        self.operations = <Operation *>malloc(max(1, len(operations)) * sizeof(Operation))
        if self.operations is NULL:
            raise MemoryError("no memory for a list of operations")
        self.n_in = self.widest = n_in
        for name, *details in operations:
            if name == "dropout":
                continue
            op = &self.operations[self.n_operations]
            self.n_operations += 1
            op.n_in = op.n_out = width
            if name == "dense":
                op.kind = DENSE
                op.n_in, op.n_out = details
                op.parameters = offset
                offset += (op.n_in + 1) * op.n_out
                self.work_per_row += op.n_in * op.n_out
            else:
                op.kind = _MAPS[name]
                op.parameter, = details
                self.work_per_row += 16 * op.n_out  # about what a map costs in multiply-adds
            width = op.n_out
            self.widest = max(self.widest, width)
        self.n_out = width

    def __dealloc__(self):
        free(self.operations)

    def __call__(self, X, out=None):
        """Outputs (rows, n_out) for X (rows, n_in), or None where this is not for X or `out`.

        Both have to be plain contiguous arrays of the network's dtype, and apart.
        """
        cdef cnp.npy_intp[2] shape
        if not self.takes(X, self.n_in):
            return None
        shape[0], shape[1] = cnp.PyArray_DIM(X, 0), self.n_out
        if out is None:
            out = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        elif not (self.takes(out, self.n_out) and cnp.PyArray_DIM(out, 0) == shape[0]
                  and cnp.PyArray_ISWRITEABLE(out) and apart(X, out)):
            return None
        if self.typenum == cnp.NPY_FLOAT:
            run(self, <const float *>cnp.PyArray_DATA(X), shape[0],
                <float *>cnp.PyArray_DATA(out))
        else:
            run(self, <const double *>cnp.PyArray_DATA(X), shape[0],
                <double *>cnp.PyArray_DATA(out))
        return out

    cdef bint takes(self, array, Py_ssize_t columns):
        return (type(array) is cnp.ndarray and cnp.PyArray_NDIM(array) == 2
                and cnp.PyArray_TYPE(array) == self.typenum
                and cnp.PyArray_DIM(array, 1) == columns
                and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array)
                and cnp.PyArray_ISNOTSWAPPED(array))


cdef bint apart(X, Z):
    """Whether two contiguous arrays have no byte in common."""
    cdef const char *x = <const char *>cnp.PyArray_DATA(X)
    cdef const char *z = <const char *>cnp.PyArray_DATA(Z)
    return x + cnp.PyArray_NBYTES(X) <= z or z + cnp.PyArray_NBYTES(Z) <= x


cdef int run(Predictor p, const real *X, Py_ssize_t rows, real *Z) except -1:
    if rows * p.work_per_row < WORK_WORTH_A_THREAD:
        return run_chunks(p, X, rows, Z)
    with nogil:
        return run_chunks(p, X, rows, Z)


cdef int run_chunks(Predictor p, const real *X, Py_ssize_t rows, real *Z) except -1 nogil:
    """All rows, a chunk at a time, between two arrays that take turns."""
    cdef Py_ssize_t chunk = max(1, min(rows, CHUNK_ROWS)), first = 0
    cdef Py_ssize_t room = (chunk * p.widest + 15) // 16 * 16
    cdef bint large = chunk * p.work_per_row >= WORK_FOR_WORKSPACE
    cdef real *memory = <real *>malloc(
        (2 * room + (FBP_WORKSPACE if large else 0)) * sizeof(real))
    if memory is NULL:
        with gil:
            raise MemoryError("no memory for the outputs of a chunk of rows")
    try:
        while first < rows:
            forward(p, X + first * p.n_in, min(chunk, rows - first), Z + first * p.n_out,
                    memory, memory + room, memory + 2 * room if large else <real *>NULL)
            first += chunk
    finally:
        free(memory)
    return 0


cdef int forward(Predictor p, const real *X, Py_ssize_t rows, real *Z, real *here, real *there,
                 real *workspace) except -1 nogil:
    """One chunk; the last operation writes to Z, the others to `here` and `there` in turn."""
    cdef const real *current = X
    cdef const real *W
    cdef real *output
    cdef Operation *op
    cdef int i
    for i in range(p.n_operations):
        op = &p.operations[i]
        output = Z if i == p.n_operations - 1 else here
        if op.kind == DENSE:
            W = <const real *>p.parameters + op.parameters
            matmul(rows, op.n_out, op.n_in, current, op.n_in, 1, W, op.n_out, 1,
                   W + op.n_in * op.n_out, False, output, workspace)
        else:
            fbp_map(tier, op.kind, rows * op.n_out, current, output, op.parameter)
        current = output
        here, there = there, here
    if p.n_operations == 0:
        memcpy(Z, X, rows * p.n_out * sizeof(real))
    return 0
