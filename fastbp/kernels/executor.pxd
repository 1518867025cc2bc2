from fastbp.kernels.dispatch cimport int64_t, real, uint64_t
from fastbp.kernels.encoded cimport Code, EncodedProgram
from fastbp.kernels.guards cimport Borrowed
from fastbp.kernels.threads cimport fbp_worker


# Numbers of an array that threads share element by element are cut at multiples of this: a
# cache line of them, and what dropout's generator asks for.
cdef enum:
    GRAIN = 64


# Where the values of one minibatch are.
cdef struct Frame:
    const Code *code
    void **at
    Py_ssize_t rows
    const uint64_t *keys           # of dropout, one for each layer
    const uint64_t *steps          # likewise; at the first step of a run
    uint64_t steps_ahead           # of those
    bint bad_code                  # an embedding was asked for what it has not


cdef void resolve(const Code *code, void **at, char *arena, Py_ssize_t rows,
                  Py_ssize_t size) noexcept nogil
cdef int execute(Frame *frame, int i, int stop, fbp_worker *me,
                 real *workspace) noexcept nogil


# One prediction: rows to outputs.
cdef struct Call:
    const Code *code
    const void *X
    void *Z
    Py_ssize_t rows
    bint large                     # enough for the products' workspace to pay
    bint no_memory, bad_code


# Parameters, gradients and buffers.
cdef enum:
    N_ARRAYS = 3


cdef class Executor:
    cdef EncodedProgram program    # which the code's pointers point into
    cdef object pointers           # likewise
    cdef list borrowed             # the network's arrays
    cdef void *base[N_ARRAYS]      # where they are
    cdef Py_ssize_t n_bytes[N_ARRAYS]
    cdef Borrowed array            # of the parameters
    cdef bint ready                # only once it is made whole
    cdef Code code
    cdef int typenum
    cdef readonly tuple random
    cdef readonly bint in_python

    cdef int _find_places(self, Py_ssize_t size) except -1
    cdef bint takes(self, array, Py_ssize_t columns)
    cdef bint is_apart(self, out)
    cdef int run(self, X, out, Py_ssize_t rows) except -1
    cdef int run_in_turns(self, Call *call, bint single, list given) except -1
    cdef int check(self) except -1
    cdef int call(self, Frame *frame, int i) except -1
