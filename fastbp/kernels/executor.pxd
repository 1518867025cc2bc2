from fastbp.kernels.dispatch cimport int64_t, real, uint64_t
from fastbp.kernels.guards cimport Borrowed
from fastbp.kernels.threads cimport fbp_worker


# Where a value is.
cdef struct Place:
    int kind
    Py_ssize_t rows               # 0: those of the minibatch
    Py_ssize_t columns
    Py_ssize_t start, start_per_row


# Numbers of an array that threads share element by element are cut at multiples of this: a
# cache line of them, and what dropout's generator asks for.
cdef enum:
    GRAIN = 64

cdef enum:
    MOST_NUMBERS = 2


cdef struct Instruction:
    int op                        # of simd/dispatch.h
    const int *reads              # indices of values
    const int *writes             # the first is -1 where nobody wants it
    double numbers[MOST_NUMBERS]  # its attributes, in the order of ops.def
    const int64_t *columns        # of an operation that picks some
    bint relu                     # see fbp_gemm
    int relu_mask                 # a value, or -1
    bint barrier
    int layer                     # of Python's, or of those that draw random numbers; or -1


# A program, as compiled code reads it.  The sections follow each other.
cdef struct Code:
    const Place *values
    const Instruction *instructions
    int n_values, forward, backward, update  # where sections end
    void **at                     # of parameters, gradients and buffers: where they are
    const int *temporaries        # which values lie in the arena
    const int *outputs            # which are the output
    int n_temporaries, n_outputs
    int x, z, dz
    Py_ssize_t n_in, n_out, arena, arena_per_row
    void *parameters
    void *gradients
    void *buffers


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
    Py_ssize_t rows, work_per_row
    bint large                     # enough for the products' workspace to pay
    bint no_memory, bad_code


cdef class Executor:
    cdef list calls
    cdef list arrays               # what the code's pointers point into
    cdef list borrowed             # those of them that are somebody else's
    cdef Borrowed array            # of the parameters
    cdef bint ready                # only once it is made whole
    cdef Code code
    cdef int typenum
    cdef readonly int n_random     # layers that draw random numbers
    cdef readonly bint in_python   # whether some of it runs in Python
    cdef Py_ssize_t work_per_row   # multiply-adds of the way forward
    cdef readonly Py_ssize_t work_per_row_of_a_step

    cdef void *_pointer(self, array) except NULL
    cdef void *_borrow(self, name, array) except NULL
    cdef Place *_places(self, values, sizes, arena, arena_per_row) except NULL
    cdef int _find_places(self, values, Py_ssize_t size) except -1
    cdef Instruction *_instructions(self, instructions, values) except NULL
    cdef int _count_work(self, const Instruction *each, int i) except -1
    cdef bint takes(self, array, Py_ssize_t columns)
    cdef bint is_apart(self, out)
    cdef int run(self, X, out, Py_ssize_t rows) except -1
    cdef int run_in_turns(self, Call *call, bint single, list given) except -1
    cdef int check(self) except -1
    cdef int call(self, Frame *frame, int i) except -1
