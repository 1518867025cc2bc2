"""The executor: a program over a network's arrays, and prediction with it.

An `Executor` is a planned program (encoded.pyx) over a network's flat arrays; `execute`
(instructions.pyx) runs its instructions.  Training (steps.pyx) runs it on a minibatch at a time,
with a team of threads that work on each instruction together.  In prediction each thread of a team
runs the whole program on its own rows.

A layer written in Python is an instruction at which `execute` returns; the executor calls it and
continues after it.
"""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport isfinite
from libc.string cimport memcpy

import numpy as np

from fastbp.kernels.dense cimport FBP_WORKSPACE, WORK_FOR_WORKSPACE
from fastbp.kernels.dispatch cimport fbp_largest, real, tier
from fastbp.kernels.encoded cimport (
    BUFFER, GRADIENT, PARAMETER, Code, EncodedProgram, Instruction, Place,
)
from fastbp.kernels.guards cimport Borrowed, apart
from fastbp.kernels.instructions cimport Frame, execute, resolve, workspace_of
from fastbp.kernels.threads cimport (
    check_signals, fbp_barrier, fbp_partition, fbp_set_flag, fbp_worker, run_team, threads_for,
)

from . import checks

cnp.import_array()

# Predictions of fewer multiply-adds keep the GIL, as releasing it would cost more than it gains.
cdef Py_ssize_t WORK_WORTH_A_THREAD = 1 << 16

# Rows of a prediction that are processed at a time: CHUNK_ROWS per thread in compiled code; more in
# reduced precision, where weights are packed for each chunk; PYTHON_CHUNK_ROWS if some layers run
# in Python.
cdef Py_ssize_t CHUNK_ROWS = 256
cdef Py_ssize_t REDUCED_CHUNK_ROWS = 512
cdef Py_ssize_t PYTHON_CHUNK_ROWS = 1024

# Arenas of up to this many bytes are on the stack: malloc would take longer than one row.
cdef enum:
    STACK = 4096


@cython.final
cdef class Executor:
    """A program over a network's arrays.

    Parameters
    ----------
    program : EncodedProgram
    parameters, gradients, buffers : ndarray of shape (n,)
        The network's flat arrays.

    Attributes
    ----------
    random : tuple of Layer
        The layers that draw random numbers, in the order of their keys.
    in_python : bool
        Whether some layers run in Python.

    Raises
    ------
    ValueError
        If the arrays overlap, or do not have the dtype, layout or size that the program needs.
    """

    def __init__(self, EncodedProgram program not None, parameters, gradients, buffers):
        if self.borrowed is not None:
            raise RuntimeError("Executor: already initialized; make another")
        self.borrowed = []
        if not program.ready:
            raise RuntimeError("EncodedProgram: expected an initialized one")
        for name, array in (("parameters", parameters), ("gradients", gradients),
                            ("buffers", buffers)):
            if checks.floats(name, array, 1, parameters.dtype) is not array:
                raise ValueError(f"{name}: expected a contiguous array in native byte order")
            if not cnp.PyArray_ISWRITEABLE(array):
                raise ValueError(f"{name}: expected a writable array")
        for name, array, other in (("gradients", gradients, parameters),
                                   ("buffers", buffers, parameters),
                                   ("buffers", buffers, gradients)):
            if not apart(array, other):
                raise ValueError(f"{name}: expected memory of its own")
        if gradients.shape != parameters.shape:
            raise ValueError(f"gradients: expected shape {parameters.shape} like the parameters, "
                             f"got {gradients.shape}")
        for name, array, n in (("parameters", parameters, program.n_parameters),
                               ("buffers", buffers, program.n_buffers)):
            if array.size < n:
                raise ValueError(f"{name}: expected at least {n} numbers for the program, got "
                                 f"{array.size}")
        if program.code.reduced and parameters.dtype != np.float32:
            raise ValueError(f"precision: expected the highest with {parameters.dtype}; lower ones "
                             f"are for float32")
        self.program, self.code = program, program.code
        self.in_python, self.random = program.in_python, program.random
        self.typenum = cnp.PyArray_TYPE(parameters)
        for i, (name, array) in enumerate((("parameters", parameters), ("gradients", gradients),
                                           ("buffers", buffers))):
            self.borrowed.append(Borrowed(name, array))
            self.base[i], self.n_bytes[i] = cnp.PyArray_DATA(array), array.nbytes
        self.code.parameters, self.code.gradients = self.base[0], self.base[1]
        self.code.buffers = self.base[2]
        self.parameters, self.buffers = self.borrowed[0], self.borrowed[2]
        self._find_places(parameters.itemsize)
        self.ready = True

    cdef int _find_places(self, Py_ssize_t size) except -1:
        """Fill in the pointers that all calls share: to parameters, gradients and buffers."""
        cdef Code *code = &self.code
        cdef void *bases[6]
        cdef int i, kind
        bases[PARAMETER], bases[GRADIENT] = code.parameters, code.gradients
        bases[BUFFER] = code.buffers
        self.pointers = np.zeros(code.n_values, np.uintp)
        code.at = <void **>cnp.PyArray_DATA(self.pointers)
        for i in range(code.n_values):
            kind = code.values[i].kind
            if kind == PARAMETER or kind == GRADIENT or kind == BUFFER:
                code.at[i] = <char *>bases[kind] + code.values[i].start * size
        return 0

    cdef int check(self) except -1:
        """Raise unless initialized and the arrays are unchanged in memory and layout."""
        cdef Borrowed array
        if not self.ready:
            raise RuntimeError("Executor: expected an initialized one")
        for array in self.borrowed:
            array.check()
        return 0

    cdef int call(self, Frame *frame, int i) except -1:
        """Execute an instruction that is a layer written in Python."""
        cdef const Instruction *each = &self.code.instructions[i]
        cdef const Place *value = &self.code.values[each.reads[0]]
        cdef cnp.npy_intp[2] shape
        shape[0], shape[1] = frame.rows, value.columns
        cdef cnp.ndarray given = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        memcpy(cnp.PyArray_DATA(given), frame.at[each.reads[0]], cnp.PyArray_NBYTES(given))
        returned = self.program.calls[each.layer](given)
        cdef cnp.ndarray result
        if each.writes[0] >= 0:
            shape[1] = self.code.values[each.writes[0]].columns
            result = np.ascontiguousarray(returned)
            checks.exactly("returned", result, (shape[0], shape[1]), given.dtype)
            memcpy(frame.at[each.writes[0]], cnp.PyArray_DATA(result),
                   cnp.PyArray_NBYTES(result))
        self.check()  # Python may have changed their memory or layout
        return 0

    def __call__(self, X, out=None):
        """Outputs (rows, n_out) for X (rows, n_in), or None if X or `out` does not qualify.

        Both have to be plain contiguous arrays of the network's dtype that overlap neither each
        other nor the network's arrays.

        Raises
        ------
        ValueError
            If the memory, dtype or shape of a flat array has changed since it was checked, or the
            program is for training.
        """
        cdef cnp.npy_intp[2] shape
        if not self.takes(X, self.code.n_in):
            return None
        if not self.ready:
            raise RuntimeError("Executor: expected an initialized one")
        if self.code.dz >= 0:
            raise ValueError("Executor: expected a program for prediction, got one for training")
        shape[0], shape[1] = cnp.PyArray_DIM(X, 0), self.code.n_out
        if out is None:
            out = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        elif not (self.takes(out, self.code.n_out) and cnp.PyArray_DIM(out, 0) == shape[0]
                  and cnp.PyArray_ISWRITEABLE(out) and apart(X, out)
                  and self.is_apart(out)):
            return None
        self.parameters.check()
        if self.program.n_buffers > 0:
            self.buffers.check()
        self.run(X, out, shape[0])
        return out

    cdef bint is_over(self, parameters, gradients):
        """Whether these are the flat arrays that the program works on, or like them."""
        cdef int i
        for i, array in enumerate((parameters, gradients)):
            if not (cnp.PyArray_DATA(array) == self.base[i]
                    and cnp.PyArray_NBYTES(array) == self.n_bytes[i]
                    and cnp.PyArray_TYPE(array) == self.typenum and array.ndim == 1):
                return False
        return True

    cdef bint is_apart(self, out):
        """Whether an array shares no memory with the network's arrays."""
        cdef const char *start = <const char *>cnp.PyArray_DATA(out)
        cdef const char *stop = start + cnp.PyArray_NBYTES(out)
        cdef const char *base
        cdef int i
        for i in range(N_ARRAYS):
            base = <const char *>self.base[i]
            if start < base + self.n_bytes[i] and base < stop:
                return False
        return True

    def accepts(self, X):
        """Whether X is a plain contiguous array of the network's dtype and columns, with at
        least one row, and finite."""
        cdef double largest
        if not self.ready or not self.takes(X, self.code.n_in) or cnp.PyArray_DIM(X, 0) == 0:
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

    cdef int run(self, X, out, Py_ssize_t rows) except -1:
        """Predict: the forward section for all rows of X."""
        cdef bint single = self.typenum == cnp.NPY_FLOAT
        cdef Call call
        call.code = &self.code
        call.X, call.Z, call.rows = cnp.PyArray_DATA(X), cnp.PyArray_DATA(out), rows
        call.no_memory = call.bad_code = False
        cdef double work = <double>rows * self.code.work_per_row
        call.workspace = FBP_WORKSPACE if work >= WORK_FOR_WORKSPACE else 0
        if self.code.reduced:
            call.workspace = max(call.workspace, workspace_of(
                &self.code, self.code.forward, min(rows, REDUCED_CHUNK_ROWS)))
        if self.in_python:
            self.run_in_turns(&call, single, [Borrowed("X", X), Borrowed("out", out)])
        elif work < WORK_WORTH_A_THREAD:
            run_team(1, predict_floats if single else predict_doubles, &call)
        else:
            with nogil:
                run_team(threads_for(work), predict_floats if single else predict_doubles, &call)
        if call.no_memory:
            raise MemoryError("no memory for the outputs of a chunk of rows")
        if call.bad_code:
            raise checks.CodeError("X: expected codes that are whole numbers, and that each "
                                   "embedding has")
        return 0

    cdef int run_in_turns(self, Call *call, bint single, list given) except -1:
        """Predict with layers in Python: all threads work on one chunk of rows together."""
        cdef size_t size = sizeof(float) if single else sizeof(double)
        cdef Py_ssize_t chunk = max(1, min(call.rows, PYTHON_CHUNK_ROWS)), first = 0
        cdef int threads = threads_for(<double>chunk * self.code.work_per_row)
        cdef Code *code = &self.code
        cdef Borrowed array
        dtype = np.dtype(np.float32 if single else np.float64)
        arena = np.empty(code.arena + code.arena_per_row * chunk + 16, dtype)
        cdef Py_ssize_t space = max(FBP_WORKSPACE, workspace_of(code, code.forward, chunk))
        workspace = np.empty(threads * space, dtype)
        pointers = np.empty(max(1, code.n_values), np.uintp)
        cdef Turn turn
        turn.frame.code, turn.frame.at = code, <void **>cnp.PyArray_DATA(pointers)
        turn.frame.keys = turn.frame.steps = NULL
        turn.frame.shared, turn.frame.first, turn.frame.part = False, 0, 0
        turn.frame.bad_code = False
        turn.workspace, turn.space = cnp.PyArray_DATA(workspace), space
        resolve(code, turn.frame.at, <char *>cnp.PyArray_DATA(arena), chunk, size)
        while first < call.rows:
            turn.frame.rows = min(chunk, call.rows - first)
            turn.frame.at[code.x] = <char *>call.X + first * code.n_in * size
            if code.z != code.x:
                turn.frame.at[code.z] = <char *>call.Z + first * code.n_out * size
            place_output(code, turn.frame.at, <char *>call.Z + first * code.n_out * size)
            turn.i, turn.stop = 0, code.forward
            while turn.i < turn.stop:
                with nogil:
                    run_team(threads, turn_floats if single else turn_doubles, &turn)
                if turn.i < turn.stop:
                    self.call(&turn.frame, turn.i)
                    for array in given:  # Python may have changed their memory or layout
                        array.check()
                    turn.i += 1
            if code.z == code.x:
                memcpy(<char *>call.Z + first * code.n_out * size, turn.frame.at[code.x],
                       turn.frame.rows * code.n_out * size)
            first += turn.frame.rows
        call.bad_code = turn.frame.bad_code
        return 0


# The instructions up to the next layer written in Python.
cdef struct Turn:
    Frame frame
    int i, stop
    void *workspace
    Py_ssize_t space  # elements of it for each thread


cdef inline void place_output(const Code *code, void **at, void *Z) noexcept nogil:
    cdef int j
    for j in range(code.n_outputs):
        at[code.outputs[j]] = Z


cdef void turn_floats(void *work, fbp_worker *me) noexcept nogil:
    take_turn(<Turn *>work, me, <float *>(<Turn *>work).workspace)


cdef void turn_doubles(void *work, fbp_worker *me) noexcept nogil:
    take_turn(<Turn *>work, me, <double *>(<Turn *>work).workspace)


cdef void take_turn(Turn *turn, fbp_worker *me, real *workspace) noexcept nogil:
    cdef int i = execute(&turn.frame, turn.i, turn.stop, me, workspace + me.part * turn.space)
    # It is read only after the team has ended.
    if fbp_barrier(me) and me.part == 0:
        turn.i = i


cdef void predict_floats(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    predict(call, me, <const float *>call.X, <float *>call.Z)


cdef void predict_doubles(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    predict(call, me, <const double *>call.X, <double *>call.Z)


cdef void predict(Call *call, fbp_worker *me, const real *X, real *Z) noexcept nogil:
    """Predict this thread's rows, a chunk at a time, in an arena of its own."""
    cdef const Code *code = call.code
    cdef Py_ssize_t first, stop, work = 0
    fbp_partition(me, call.rows, 1, &first, &stop)
    cdef fbp_worker alone = me[0]  # this thread alone executes each instruction
    alone.parts = 1
    cdef Py_ssize_t chunk = max(1, min(
        stop - first, REDUCED_CHUNK_ROWS if call.code.reduced else CHUNK_ROWS))
    cdef Py_ssize_t room = code.arena + code.arena_per_row * chunk
    cdef Py_ssize_t n_pointers = (code.n_values + 7) // 8 * 8  # a cache line of them
    cdef size_t size = (n_pointers * sizeof(void *)
                        + (room + call.workspace) * sizeof(real) + 64)
    cdef char on_the_stack[STACK]
    cdef char *memory = &on_the_stack[0]
    if size > STACK:
        memory = <char *>PyMem_RawMalloc(size)
    if memory is NULL:
        fbp_set_flag(&call.no_memory)
        return
    cdef char *aligned = memory + (64 - <size_t>memory % 64) % 64
    cdef real *arena = <real *>(aligned + n_pointers * sizeof(void *))
    cdef Frame frame
    frame.code, frame.at = code, <void **>aligned
    frame.keys = frame.steps = NULL
    frame.shared, frame.first, frame.part = False, 0, 0
    frame.bad_code = False
    resolve(code, frame.at, <char *>arena, chunk, sizeof(real))
    while first < stop:
        frame.rows = min(chunk, stop - first)
        frame.at[code.x] = <void *>(X + first * code.n_in)
        place_output(code, frame.at, Z + first * code.n_out)
        if execute(&frame, 0, code.forward, &alone,
                   arena + room if call.workspace > 0 else <real *>NULL) < code.forward:
            break
        if code.z == code.x:
            memcpy(Z + first * code.n_out, X + first * code.n_in,
                   frame.rows * code.n_out * sizeof(real))
        first += frame.rows
        work += frame.rows * code.work_per_row
        if work >= tier.work_per_look:
            work = 0
            if not check_signals(me):
                break
    if frame.bad_code:
        fbp_set_flag(&call.bad_code)
    if size > STACK:
        PyMem_RawFree(memory)
