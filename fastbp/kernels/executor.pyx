"""The executor: carries out a program's instructions.

An `Executor` is a planned program (encoded.pyx) over a network's flat arrays.  `execute` goes
through the instructions of a section, in one thread or in a team whose threads each do their part
of every instruction.  Training (steps.pyx) gives it a minibatch at a time; for prediction a call
gives it rows, which the threads of a team share out, each for itself.

An instruction may be Python's, for a layer of the user's own: there `execute` returns, Python is
called, and execution goes on after it.
"""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.math cimport isfinite
from libc.string cimport memcpy, memset

import numpy as np

from fastbp.kernels.dense cimport (
    FBP_WORKSPACE, WORK_FOR_WORKSPACE, bias_product, fbp_gemm, forward_product, input_product,
    matmul, weights_product,
)
from fastbp.kernels.dispatch cimport (
    FBP_OPS, FBP_UNARIES, fbp_add, fbp_column_dots, fbp_column_moments, fbp_dropout, fbp_embedding,
    fbp_embedding_backward, fbp_inverse_sqrt, fbp_largest, fbp_normalize_columns,
    fbp_normalize_columns_backward, fbp_normalize_rows, fbp_normalize_rows_backward, fbp_prelu,
    fbp_prelu_backward, fbp_prelu_slope, fbp_running_average, fbp_scale, fbp_softmax, fbp_unary,
    fbp_unary_backward, tier,
)
from fastbp.kernels.encoded cimport (
    BUFFER, GRADIENT, PARAMETER, Code, EncodedProgram, Instruction, Place,
)
from fastbp.kernels.guards cimport apart
from fastbp.kernels.threads cimport (
    check_signals, fbp_barrier, fbp_partition, fbp_set_flag, run_team, threads_for,
)

from . import checks

cnp.import_array()

cdef extern from "simd/dispatch.h":
    enum:
        FBP_OP_dense, FBP_OP_dense_backward_weights, FBP_OP_dense_backward_bias
        FBP_OP_dense_backward_input, FBP_OP_dropout, FBP_OP_dropout_backward, FBP_OP_softmax
        FBP_OP_add, FBP_OP_scale, FBP_OP_scale_shift, FBP_OP_column_dots
        FBP_OP_normalize_rows, FBP_OP_normalize_rows_backward, FBP_OP_column_moments
        FBP_OP_inverse_sqrt, FBP_OP_normalize_columns, FBP_OP_normalize_columns_backward
        FBP_OP_running_mean, FBP_OP_running_variance
        FBP_OP_prelu, FBP_OP_prelu_backward, FBP_OP_prelu_slope
        FBP_OP_embedding, FBP_OP_embedding_backward
        FBP_OP_take_columns, FBP_OP_take_columns_backward, FBP_OP_join
        FBP_OP_python, FBP_OP_python_backward

# Multiply-adds below which giving up the GIL costs more than it gives others.
cdef Py_ssize_t WORK_WORTH_A_THREAD = 1 << 16

# Rows of a prediction that go through at once; and where some of it runs in Python.
cdef Py_ssize_t CHUNK_ROWS = 256
cdef Py_ssize_t PYTHON_CHUNK_ROWS = 1024

# Bytes of an arena that need not be asked for: a row's, whose prediction takes less than malloc.
cdef enum:
    STACK = 4096

# Columns that threads share are cut at multiples of this: a cache line of them.
cdef enum:
    COLUMN_GRAIN = 16


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
        Those that draw random numbers, in the order in which they are given the numbers' keys.
    in_python : bool
        Whether some of it runs in Python.

    Raises
    ------
    ValueError
        If there are fewer numbers in the arrays than the program needs.
    """

    def __init__(self, EncodedProgram program not None, parameters, gradients, buffers):
        if self.borrowed is not None:
            raise RuntimeError("Executor: this one is made already; make another")
        self.borrowed = []
        if not program.ready:
            raise RuntimeError("EncodedProgram: expected one that was made whole")
        for name, array in (("parameters", parameters), ("gradients", gradients),
                            ("buffers", buffers)):
            if checks.floats(name, array, 1, parameters.dtype) is not array:
                raise ValueError(f"{name}: expected a contiguous array in native byte order")
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
        self.program, self.code = program, program.code
        self.in_python, self.random = program.in_python, program.random
        self.typenum = cnp.PyArray_TYPE(parameters)
        for i, (name, array) in enumerate((("parameters", parameters), ("gradients", gradients),
                                           ("buffers", buffers))):
            self.borrowed.append(Borrowed(name, array))
            self.base[i], self.n_bytes[i] = cnp.PyArray_DATA(array), array.nbytes
        self.code.parameters, self.code.gradients = self.base[0], self.base[1]
        self.code.buffers = self.base[2]
        self.array = self.borrowed[0]
        self._find_places(parameters.itemsize)
        self.ready = True

    cdef int _find_places(self, Py_ssize_t size) except -1:
        """Note what is where in all calls: the parameters, gradients and buffers."""
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
        """Raise unless it was made whole, and the arrays lie where they did."""
        cdef Borrowed array
        if not self.ready:
            raise RuntimeError("Executor: expected one that was made whole")
        for array in self.borrowed:
            array.check()
        return 0

    cdef int call(self, Frame *frame, int i) except -1:
        """Carry out an instruction that is Python's."""
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
        self.check()  # whatever it has done
        return 0

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
        if not self.takes(X, self.code.n_in):
            return None
        if not self.ready:
            raise RuntimeError("Executor: expected one that was made whole")
        shape[0], shape[1] = cnp.PyArray_DIM(X, 0), self.code.n_out
        if out is None:
            out = cnp.PyArray_EMPTY(2, shape, self.typenum, 0)
        elif not (self.takes(out, self.code.n_out) and cnp.PyArray_DIM(out, 0) == shape[0]
                  and cnp.PyArray_ISWRITEABLE(out) and apart(X, out)
                  and self.is_apart(out)):
            return None
        self.array.check()
        self.run(X, out, shape[0])
        return out

    cdef bint is_apart(self, out):
        """Whether an array shares no memory with the network's."""
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
        """The way forward, for prediction."""
        cdef bint single = self.typenum == cnp.NPY_FLOAT
        cdef Call call
        call.code = &self.code
        call.X, call.Z, call.rows = cnp.PyArray_DATA(X), cnp.PyArray_DATA(out), rows
        call.no_memory = call.bad_code = False
        cdef double work = <double>rows * self.code.work_per_row
        call.large = work >= WORK_FOR_WORKSPACE
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
        """As `run`, where some instructions are Python's: all threads at one chunk of rows."""
        cdef size_t size = sizeof(float) if single else sizeof(double)
        cdef Py_ssize_t chunk = max(1, min(call.rows, PYTHON_CHUNK_ROWS)), first = 0
        cdef int threads = threads_for(<double>chunk * self.code.work_per_row)
        cdef Code *code = &self.code
        cdef Borrowed array
        dtype = np.dtype(np.float32 if single else np.float64)
        arena = np.empty(code.arena + code.arena_per_row * chunk + 16, dtype)
        workspace = np.empty(threads * FBP_WORKSPACE, dtype)
        pointers = np.empty(max(1, code.n_values), np.uintp)
        cdef Turn turn
        turn.frame.code, turn.frame.at = code, <void **>cnp.PyArray_DATA(pointers)
        turn.frame.keys = turn.frame.steps = NULL
        turn.frame.bad_code = False
        turn.workspace = cnp.PyArray_DATA(workspace)
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
                    for array in given:  # whatever Python has done to them
                        array.check()
                    turn.i += 1
            if code.z == code.x:
                memcpy(<char *>call.Z + first * code.n_out * size, turn.frame.at[code.x],
                       turn.frame.rows * code.n_out * size)
            first += turn.frame.rows
        call.bad_code = turn.frame.bad_code
        return 0


# Instructions up to the next that is Python's.
cdef struct Turn:
    Frame frame
    int i, stop
    void *workspace


cdef void resolve(const Code *code, void **at, char *arena, Py_ssize_t rows,
                  Py_ssize_t size) noexcept nogil:
    """Where each value is, with an arena that has room for so many rows.

    Inputs and outputs are left to the caller; `size` is that of a number, in bytes.
    """
    cdef const Place *value
    cdef int i, j
    memcpy(at, code.at, code.n_values * sizeof(void *))
    for j in range(code.n_temporaries):
        i = code.temporaries[j]
        value = &code.values[i]
        at[i] = arena + (value.start + value.start_per_row * rows) * size


cdef inline void place_output(const Code *code, void **at, void *Z) noexcept nogil:
    cdef int j
    for j in range(code.n_outputs):
        at[code.outputs[j]] = Z


cdef void turn_floats(void *work, fbp_worker *me) noexcept nogil:
    take_turn(<Turn *>work, me, <float *>(<Turn *>work).workspace)


cdef void turn_doubles(void *work, fbp_worker *me) noexcept nogil:
    take_turn(<Turn *>work, me, <double *>(<Turn *>work).workspace)


cdef void take_turn(Turn *turn, fbp_worker *me, real *workspace) noexcept nogil:
    cdef int i = execute(&turn.frame, turn.i, turn.stop, me, workspace + me.part * FBP_WORKSPACE)
    # Nobody reads it before the team has ended.
    if fbp_barrier(me) and me.part == 0:
        turn.i = i


cdef void predict_floats(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    predict(call, me, <const float *>call.X, <float *>call.Z)


cdef void predict_doubles(void *work, fbp_worker *me) noexcept nogil:
    cdef Call *call = <Call *>work
    predict(call, me, <const double *>call.X, <double *>call.Z)


cdef void predict(Call *call, fbp_worker *me, const real *X, real *Z) noexcept nogil:
    """This thread's rows, a chunk at a time, in an arena of its own."""
    cdef const Code *code = call.code
    cdef Py_ssize_t first, stop, work = 0
    fbp_partition(me, call.rows, 1, &first, &stop)
    cdef fbp_worker alone = me[0]  # in each instruction: nobody shares in it
    alone.parts = 1
    cdef Py_ssize_t chunk = max(1, min(stop - first, CHUNK_ROWS))
    cdef Py_ssize_t room = code.arena + code.arena_per_row * chunk
    cdef Py_ssize_t n_pointers = (code.n_values + 7) // 8 * 8  # a cache line of them
    cdef size_t size = (n_pointers * sizeof(void *)
                        + (room + (FBP_WORKSPACE if call.large else 0)) * sizeof(real) + 64)
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
    frame.bad_code = False
    resolve(code, frame.at, <char *>arena, chunk, sizeof(real))
    while first < stop:
        frame.rows = min(chunk, stop - first)
        frame.at[code.x] = <void *>(X + first * code.n_in)
        place_output(code, frame.at, Z + first * code.n_out)
        if execute(&frame, 0, code.forward, &alone,
                   arena + room if call.large else <real *>NULL) < code.forward:
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


cdef int execute(Frame *frame, int i, int stop, fbp_worker *me,
                 real *workspace) noexcept nogil:
    """Instructions from i on: this thread's part of each.

    Returns the first that is not carried out: `stop`, one that is Python's to carry out, or -1
    where it was interrupted.
    """
    cdef const Instruction *each
    while i < stop:
        each = &frame.code.instructions[i]
        if each.op == FBP_OP_python or each.op == FBP_OP_python_backward:
            return i
        carry_out(frame, each, me, workspace)
        if each.barrier and not fbp_barrier(me):
            return -1
        i += 1
    return i


cdef void carry_out(Frame *frame, const Instruction *each, fbp_worker *me,
                    real *workspace) noexcept nogil:
    cdef const Place *values = frame.code.values
    cdef void **at = frame.at
    cdef Py_ssize_t m = frame.rows, n, first, stop
    cdef const real *X = <const real *>at[each.reads[0]]
    cdef const real *Y = NULL
    cdef real *Z = <real *>at[each.writes[0]]
    cdef const Place *W
    cdef fbp_gemm product
    cdef real one = 1
    cdef int op = each.op
    if each.reads[1] >= 0:
        Y = <const real *>at[each.reads[1]]
    if op == FBP_OP_dense:
        W = &values[each.reads[1]]
        product = forward_product(m, W.rows, W.columns, X, Y, <const real *>at[each.reads[2]], Z)
        product.relu = each.relu
        matmul(product, me, workspace)
    elif op == FBP_OP_dense_backward_weights:
        W = &values[each.writes[0]]
        matmul(weights_product(m, W.rows, W.columns, X, Y, Z), me, workspace)
    elif op == FBP_OP_dense_backward_bias:
        matmul(bias_product(m, values[each.reads[0]].columns, &one, X, Z), me, workspace)
    elif op == FBP_OP_dense_backward_input:
        W = &values[each.reads[1]]
        product = input_product(m, W.rows, W.columns, X, Y, Z)
        if each.relu_mask >= 0:
            product.relu_mask = at[each.relu_mask]
        matmul(product, me, workspace)
    elif op == FBP_OP_softmax:
        n = values[each.reads[0]].columns
        fbp_partition(me, m, 1, &first, &stop)
        fbp_softmax(tier, stop - first, n, X + first * n, Z + first * n)
    elif op >= FBP_OPS or op == FBP_OP_dropout or op == FBP_OP_dropout_backward:
        # Element by element.
        fbp_partition(me, m * values[each.reads[0]].columns, GRAIN, &first, &stop)
        if op < FBP_OPS:
            fbp_dropout(tier, stop - first, X + first, Z + first, each.numbers[0],
                        frame.keys[each.layer], frame.steps[each.layer] + frame.steps_ahead,
                        first)
        elif op >= FBP_OPS + FBP_UNARIES:
            fbp_unary_backward(tier, op - FBP_OPS - FBP_UNARIES, stop - first, X + first,
                               Y + first, Z + first, each.numbers[0])
        else:
            fbp_unary(tier, op - FBP_OPS, stop - first, X + first, Z + first, each.numbers[0])
    else:
        carry_out_other(frame, each, me, X, Y, Z)


cdef void carry_out_other(Frame *frame, const Instruction *each, fbp_worker *me, const real *X,
                          const real *Y, real *Z) noexcept nogil:
    """Normalisation, sums, embeddings and columns; X, Y and Z are what is read and written first.

    Some are shared out by rows, those that sum over rows by columns.
    """
    cdef const Place *values = frame.code.values
    cdef void **at = frame.at
    cdef Py_ssize_t m = frame.rows, n = values[each.writes[0]].columns, first, stop, i
    cdef Py_ssize_t k = values[each.reads[0]].columns
    cdef real *V = NULL
    cdef const real *U = NULL
    cdef int op = each.op
    if each.writes[1] >= 0:
        V = <real *>at[each.writes[1]]
    if Y is not NULL and each.reads[2] >= 0:
        U = <const real *>at[each.reads[2]]
    if op == FBP_OP_add:
        fbp_partition(me, m * n, GRAIN, &first, &stop)
        fbp_add(tier, stop - first, X + first, Y + first, Z + first, each.numbers[0] != 0)
        return
    if op == FBP_OP_inverse_sqrt:
        fbp_partition(me, n, GRAIN, &first, &stop)
        fbp_inverse_sqrt(tier, stop - first, X + first, Z + first, each.numbers[0])
        return
    if op == FBP_OP_running_mean or op == FBP_OP_running_variance:
        average(frame, each, me, X, Z, n)
        return
    if (op == FBP_OP_column_dots or op == FBP_OP_column_moments or op == FBP_OP_prelu_slope
            or op == FBP_OP_normalize_columns_backward or op == FBP_OP_embedding_backward):
        fbp_partition(me, n, COLUMN_GRAIN, &first, &stop)
        if first == stop:
            return
        if op == FBP_OP_column_dots:
            fbp_column_dots(tier, m, stop - first, n, X + first, Y + first, Z + first)
        elif op == FBP_OP_column_moments:
            fbp_column_moments(tier, m, stop - first, n, X + first, Z + first, V + first)
        elif op == FBP_OP_prelu_slope:
            fbp_prelu_slope(tier, m, stop - first, n, X + first, Y + first, Z + first)
        elif op == FBP_OP_normalize_columns_backward:
            fbp_normalize_columns_backward(tier, m, stop - first, n, X + first, Y + first,
                                           U + first, Z + first)
        else:
            fbp_embedding_backward(tier, m, stop - first, n, X, 1, Y + first,
                                   values[each.writes[0]].rows, Z + first)
        return
    fbp_partition(me, m, 1, &first, &stop)
    m = stop - first
    Z += first * n
    if op == FBP_OP_normalize_rows:
        fbp_normalize_rows(tier, m, n, X + first * n, Z, V + first, each.numbers[0],
                           each.numbers[1] != 0)
    elif op == FBP_OP_normalize_rows_backward:
        fbp_normalize_rows_backward(tier, m, n, X + first * n, Y + first * n, U + first, Z,
                                    each.numbers[0] != 0)
    elif op == FBP_OP_scale:
        fbp_scale(tier, m, n, X + first * n, Y, <const real *>NULL, Z, each.numbers[0] != 0)
    elif op == FBP_OP_scale_shift:
        fbp_scale(tier, m, n, X + first * n, Y, U, Z, False)
    elif op == FBP_OP_normalize_columns:
        fbp_normalize_columns(tier, m, n, X + first * n, Y, U, Z)
    elif op == FBP_OP_prelu:
        fbp_prelu(tier, m, n, X + first * n, Y, Z)
    elif op == FBP_OP_prelu_backward:
        fbp_prelu_backward(tier, m, n, X + first * n, Y + first * n, U, Z)
    elif op == FBP_OP_embedding:
        for i in range(first, stop):
            # Whoever has changed X since it was checked, or a layer before it.
            if not (0 <= X[i] < values[each.reads[1]].rows and X[i] == <real><Py_ssize_t>X[i]):
                fbp_set_flag(&frame.bad_code)
                memset(Z, 0, m * n * sizeof(real))
                return
        fbp_embedding(tier, m, n, X + first, 1, Y, Z)
    elif op == FBP_OP_take_columns:
        take_columns(m, k, n, X + first * k, each.columns, Z)
    elif op == FBP_OP_take_columns_backward:
        put_columns(m, k, n, X + first * k, each.columns, Z)
    elif op == FBP_OP_join:
        join(frame, each, first, stop, Z, n)


cdef void average(const Frame *frame, const Instruction *each, fbp_worker *me, const real *X,
                  real *Z, Py_ssize_t n) noexcept nogil:
    """A running mean, or variance: of the population that the rows are drawn from."""
    cdef Py_ssize_t first, stop, m = frame.rows
    cdef double momentum = each.numbers[0], weight = momentum
    if each.op == FBP_OP_running_variance:
        if m == 1:  # which says nothing of it
            return
        weight = momentum * <double>m / <double>(m - 1)
    fbp_partition(me, n, GRAIN, &first, &stop)
    fbp_running_average(tier, stop - first, Z + first, X + first, 1 - momentum, weight)


cdef void take_columns(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, const real *X,
                       const int64_t *columns, real *Y) noexcept nogil:
    """Y[i, j] = X[i, columns[j]]; X has k columns, and Y n."""
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            Y[i * n + j] = X[i * k + columns[j]]


cdef void put_columns(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, const real *dY,
                      const int64_t *columns, real *dX) noexcept nogil:
    """The gradient of that: dX[i, columns[j]] += dY[i, j]; dY has k columns, and dX n."""
    cdef Py_ssize_t i, j
    memset(dX, 0, m * n * sizeof(real))
    for i in range(m):
        for j in range(k):
            dX[i * n + columns[j]] += dY[i * k + j]


cdef void join(const Frame *frame, const Instruction *each, Py_ssize_t first, Py_ssize_t stop,
               real *Z, Py_ssize_t n) noexcept nogil:
    """Rows `first` to `stop` of what is read, side by side."""
    cdef const real *part
    cdef Py_ssize_t i, k, at = 0
    cdef int j = 0
    while each.reads[j] >= 0:
        part = <const real *>frame.at[each.reads[j]]
        k = frame.code.values[each.reads[j]].columns
        for i in range(first, stop):
            memcpy(Z + (i - first) * n + at, part + i * k, k * sizeof(real))
        at += k
        j += 1
