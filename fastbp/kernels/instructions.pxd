from fastbp.kernels.dispatch cimport real, uint64_t
from fastbp.kernels.encoded cimport Code
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
