from fastbp.kernels.dispatch cimport int64_t


# Where a value is.
cdef struct Place:
    int kind
    Py_ssize_t rows               # 0: those of the minibatch
    Py_ssize_t columns
    Py_ssize_t start, start_per_row


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
    const int *temporaries        # which values lie in the arena
    const int *outputs            # which are the output
    int n_temporaries, n_outputs
    int x, z, dz
    Py_ssize_t n_in, n_out, arena, arena_per_row
    Py_ssize_t work_per_row       # multiply-adds of the way forward
    Py_ssize_t work_per_row_of_a_step
    # Of an executor's: where a network's arrays are, and what values lie in them.
    void *parameters
    void *gradients
    void *buffers
    void **at


cdef enum:
    INPUT, OUTPUT, PARAMETER, GRADIENT, BUFFER, TEMPORARY


cdef class EncodedProgram:
    cdef list arrays              # what the code's pointers point into
    cdef bint ready               # only once it is made whole
    cdef Code code
    cdef readonly tuple calls
    cdef readonly tuple random
    cdef readonly bint in_python  # whether some of it runs in Python
    cdef Py_ssize_t n_parameters, n_buffers  # at least as many are needed

    cdef void *_pointer(self, array) except NULL
    cdef Place *_places(self, values, arena, arena_per_row) except NULL
    cdef const int *_indices(self, indices) except NULL
    cdef Instruction *_instructions(self, instructions, values) except NULL
    cdef int _count_work(self, const Instruction *each, int i) except -1
