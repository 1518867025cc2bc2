"""The compiled way from rows to outputs, for prediction.

A `Predictor` is a network of built-in layers lowered to a list of operations.  Where a batch
is in the network's dtype and contiguous, a call is one pass through the kernels on a
workspace of its own, so that many threads may call at once.  Large batches are shared out by
rows among a team of threads.
"""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport isfinite
from libc.string cimport memcpy

from fastbp.kernels.dense cimport (
    FBP_WORKSPACE, WORK_FOR_WORKSPACE, fbp_gemm, forward_product, matmul,
)
from fastbp.kernels.dispatch cimport (
    fbp_largest, fbp_softmax, fbp_unary, real, tier,
)
from fastbp.kernels.guards cimport Borrowed, apart, check_chain
from fastbp.kernels.threads cimport (
    fbp_worker, fbp_note, fbp_partition, fbp_task, check_signals, run_team, threads_for,
)

from . import checks
from .dispatch import UNARY_INDEX as _UNARY_INDEX

cnp.import_array()

# Multiply-adds below which giving up the GIL costs more than it gives others.
cdef Py_ssize_t WORK_WORTH_A_THREAD = 1 << 16

# Rows that go through at once.
cdef Py_ssize_t CHUNK_ROWS = 256

cdef enum:
    DENSE = -1
    SOFTMAX = -2

# What may be made of the last layer's outputs.
ENDS = {"softmax": SOFTMAX, **{name: _UNARY_INDEX[name] for name in ("sigmoid", "exp")}}


cdef struct Operation:
    int kind               # DENSE, SOFTMAX, or the index of a function
    Py_ssize_t n_in, n_out
    Py_ssize_t parameters  # where a dense layer's W, then b, are in the flat array
    double parameter       # a function's
    bint relu              # a dense layer that applies the ReLU after it


# One call: rows to outputs.
cdef struct Call:
    const Operation *operations
    int n_operations
    Py_ssize_t n_in, n_out, widest, work_per_row
    bint large             # enough for the products' workspace to pay
    const void *parameters
    const void *X
    void *Z
    Py_ssize_t rows
    bint no_memory


@cython.final
cdef class Predictor:
    """A network, lowered for prediction.

    Parameters
    ----------
    operations : list of tuple
        As for `fastbp.kernels.engine.Engine`; dropout does nothing here.  The last may be
        one of `ENDS`, ``(name, 0.0)``.
    parameters : ndarray of shape (n,)
        The network's flat array.
    n_in : int
        Columns of the input.
    """

    cdef Borrowed array
    cdef bint ready  # only once it is made whole
    cdef const void *parameters
    cdef int typenum, n_operations
    cdef Operation *operations
    cdef Py_ssize_t n_in, n_out, widest, work_per_row

    def __init__(self, list operations, parameters, Py_ssize_t n_in):
        cdef Operation *op
        cdef Py_ssize_t width = n_in, offset = 0, n_parameters
        if self.array is not None:
            raise RuntimeError("Predictor: this one is made already; make another")
        if checks.floats("parameters", parameters, 1) is not parameters:
            raise ValueError("parameters: expected a contiguous array in native byte order")
        if n_in < 1:
            raise ValueError(f"n_in: expected at least one column, got {n_in}")
        self.array, n_parameters = Borrowed("parameters", parameters), parameters.size
        self.parameters = cnp.PyArray_DATA(parameters)
        self.typenum = cnp.PyArray_TYPE(parameters)
        self.n_operations = self.work_per_row = 0
        self.operations = <Operation *>PyMem_RawMalloc(
            max(1, len(operations)) * sizeof(Operation))
        if self.operations is NULL:
            raise MemoryError("no memory for a list of operations")
        self.n_in = self.widest = n_in
        for name, *details in operations:
            if name == "dropout":
                continue
            if name == "relu" and self.n_operations > 0:
                op = &self.operations[self.n_operations - 1]
                if op.kind == DENSE and not op.relu:
                    op.relu = True
                    continue
            op = &self.operations[self.n_operations]
            self.n_operations += 1
            op.n_in = op.n_out = width
            op.relu = False
            if name == "dense":
                op.kind = DENSE
                op.n_in, op.n_out = details
                check_chain(self.n_operations - 1, op.n_in, op.n_out, width, offset,
                            n_parameters)
                op.parameters = offset
                offset += (op.n_in + 1) * op.n_out
                self.work_per_row += op.n_in * op.n_out
            else:
                op.kind = SOFTMAX if name == "softmax" else _UNARY_INDEX[name]
                op.parameter, = details
                self.work_per_row += 16 * op.n_out  # about what a function costs in multiply-adds
            width = op.n_out
            self.widest = max(self.widest, width)
        if offset != n_parameters:
            raise ValueError(f"operations: expected {n_parameters} parameters, as many as there "
                             f"are, got {offset}")
        self.n_out = width
        self.ready = True

    def __dealloc__(self):
        PyMem_RawFree(self.operations)

    def __call__(self, X, out=None):
        """Outputs (rows, n_out) for X (rows, n_in), or None where this is not for X or `out`.

        Both have to be plain contiguous arrays of the network's dtype, apart from each other
        and from the parameters.

        Raises
        ------
        ValueError
            If the array of parameters is no longer the one that was checked.
        """
        cdef cnp.npy_intp[2] shape
        if not self.takes(X, self.n_in):
            return None
        if not self.ready:
            raise RuntimeError("Predictor: expected one that was made whole")
        shape[0], shape[1] = cnp.PyArray_DIM(X, 0), self.n_out
        if out is None:
            out = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        elif not (self.takes(out, self.n_out) and cnp.PyArray_DIM(out, 0) == shape[0]
                  and cnp.PyArray_ISWRITEABLE(out) and apart(X, out)
                  and apart(self.array.array, out)):
            return None
        self.array.check()
        self.run(cnp.PyArray_DATA(X), shape[0], cnp.PyArray_DATA(out))
        return out

    def accepts(self, X):
        """Whether X is a plain contiguous array of the network's dtype and columns, with at
        least one row, and finite."""
        cdef double largest
        if not self.ready or not self.takes(X, self.n_in) or cnp.PyArray_DIM(X, 0) == 0:
            return False
        if self.typenum == cnp.NPY_FLOAT:
            largest = fbp_largest(tier, cnp.PyArray_SIZE(X), <const float *>cnp.PyArray_DATA(X))
        else:
            largest = fbp_largest(tier, cnp.PyArray_SIZE(X), <const double *>cnp.PyArray_DATA(X))
        return bool(isfinite(largest))

    cdef bint takes(self, array, Py_ssize_t columns):
        return (type(array) is cnp.ndarray and cnp.PyArray_NDIM(array) == 2
                and cnp.PyArray_TYPE(array) == self.typenum
                and cnp.PyArray_DIM(array, 1) == columns
                and cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISALIGNED(array)
                and cnp.PyArray_ISNOTSWAPPED(array))

    cdef int run(self, const void *X, Py_ssize_t rows, void *Z) except -1:
        cdef fbp_task task = run_floats if self.typenum == cnp.NPY_FLOAT else run_doubles
        cdef double work = <double>rows * self.work_per_row
        cdef Call call
        call.operations, call.n_operations = self.operations, self.n_operations
        call.n_in, call.n_out, call.widest = self.n_in, self.n_out, self.widest
        call.work_per_row = self.work_per_row
        call.large = work >= WORK_FOR_WORKSPACE
        call.parameters = self.parameters
        call.X, call.Z, call.rows = X, Z, rows
        call.no_memory = False
        if work < WORK_WORTH_A_THREAD:
            run_team(1, task, &call)
        else:
            with nogil:
                run_team(threads_for(work), task, &call)
        if call.no_memory:
            raise MemoryError("no memory for the outputs of a chunk of rows")
        return 0


cdef void run_floats(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    run_chunks(call, me, <const float *>call.X, <float *>call.Z)


cdef void run_doubles(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    run_chunks(call, me, <const double *>call.X, <double *>call.Z)


cdef void run_chunks(Call *call, fbp_worker *me, const real *X, real *Z) noexcept nogil:
    """This thread's rows, a chunk at a time, between two arrays that take turns."""
    cdef Py_ssize_t first, stop, rows, work = 0
    fbp_partition(me, call.rows, 1, &first, &stop)
    cdef fbp_worker alone = me[0]  # in each product: nobody shares in it
    alone.parts = 1
    cdef Py_ssize_t chunk = max(1, min(stop - first, CHUNK_ROWS))
    cdef Py_ssize_t room = (chunk * call.widest + 15) // 16 * 16
    cdef real *memory = <real *>PyMem_RawMalloc(
        (2 * room + (FBP_WORKSPACE if call.large else 0)) * sizeof(real))
    if memory is NULL:
        fbp_note(&call.no_memory)
        return
    while first < stop:
        rows = min(chunk, stop - first)
        if not forward(call, &alone, X + first * call.n_in, rows, Z + first * call.n_out,
                       memory, memory + room,
                       memory + 2 * room if call.large else <real *>NULL):
            break
        first += rows
        work += rows * call.work_per_row
        if work >= tier.work_per_look:
            work = 0
            if not check_signals(me):
                break
    PyMem_RawFree(memory)


cdef bint forward(const Call *call, fbp_worker *me, const real *X, Py_ssize_t rows, real *Z,
                  real *here, real *there, real *workspace) noexcept nogil:
    """One chunk; the last operation writes to Z, the others to `here` and `there` in turn.

    Whether to go on: false when it was interrupted.
    """
    cdef const real *current = X
    cdef const real *W
    cdef real *output
    cdef const Operation *op
    cdef fbp_gemm product
    cdef int i
    for i in range(call.n_operations):
        op = &call.operations[i]
        output = Z if i == call.n_operations - 1 else here
        if op.kind == DENSE:
            W = <const real *>call.parameters + op.parameters
            product = forward_product(rows, op.n_in, op.n_out, current, W,
                                      W + op.n_in * op.n_out, output)
            product.relu = op.relu
            if not matmul(product, me, workspace):
                return False
        elif op.kind == SOFTMAX:
            fbp_softmax(tier, rows, op.n_out, current, output)
        else:
            fbp_unary(tier, op.kind, rows * op.n_out, current, output, op.parameter)
        current = output
        here, there = there, here
    if call.n_operations == 0:
        memcpy(Z, X, rows * call.n_out * sizeof(real))
    return True
