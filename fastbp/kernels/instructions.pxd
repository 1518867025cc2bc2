from fastbp.kernels.dispatch cimport real, uint64_t
from fastbp.kernels.encoded cimport Code, Instruction
from fastbp.kernels.threads cimport fbp_flag, fbp_worker


# Arrays shared among threads element by element are split at multiples of this: a cache line of
# elements, and what dropout's generator needs.
cdef enum:
    GRAIN = 64


# One minibatch: where each value of the program is in memory.
cdef struct Frame:
    const Code *code
    void **at
    Py_ssize_t rows                # that are here, and of the minibatch the first of them
    Py_ssize_t first
    Py_ssize_t batch               # rows of the minibatch
    bint shared                    # whether other processes have rows of it
    int part                       # FBP_CONTINUES, FBP_UNFINISHED: of sums over its rows
    const uint64_t *keys           # of the random layers (dropout)
    const uint64_t *steps          # likewise, the layers' counts at the first step of a run
    uint64_t steps_ahead           # to be added to those counts
    fbp_flag bad_code              # whether an embedding was given a code out of range


cdef void resolve(const Code *code, void **at, char *arena, Py_ssize_t rows,
                  Py_ssize_t size) noexcept nogil
cdef bint needs_python(const Frame *frame, const Instruction *each) noexcept nogil
cdef bint add_up(Frame *frame, const Instruction *each, Py_ssize_t first, Py_ssize_t stop,
                 fbp_worker *me, real *workspace) noexcept nogil
cdef Py_ssize_t workspace_of(const Code *code, int stop, Py_ssize_t rows) noexcept nogil
cdef int execute(Frame *frame, int i, int stop, fbp_worker *me,
                 real *workspace) noexcept nogil
