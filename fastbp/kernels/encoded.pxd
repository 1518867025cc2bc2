from fastbp.kernels.dispatch cimport int64_t


# A value's size and place.
cdef struct Place:
    int kind
    Py_ssize_t rows               # 0 where they are those of the minibatch
    Py_ssize_t columns
    Py_ssize_t start, start_per_row


cdef enum:
    MOST_NUMBERS = 2


cdef struct Instruction:
    int op                        # of simd/dispatch.h
    const int *reads              # indices of values
    const int *writes             # the first is -1 where the result is not used
    double numbers[MOST_NUMBERS]  # its attributes, in the order of ops.def
    const int64_t *columns        # to select, or where the bins of each feature begin
    bint relu                     # see fbp_gemm
    int precision                 # likewise
    int relu_mask                 # a value, or -1
    bint barrier
    int layer                     # index into `calls` or `random`, or -1


# A program in the form that compiled code reads.  Its sections follow each other.
cdef struct Code:
    const Place *values
    const Instruction *instructions
    int n_values, forward, backward, update  # where sections end
    int weights                   # where gradients of weights begin that the update may compute
    int sums                      # where gradients begin that are sums over rows, if they are last
    const int *temporaries        # the values in the arena
    const int *outputs            # the values that are the output
    int n_temporaries, n_outputs
    int x, z, dz
    Py_ssize_t n_in, n_out, arena, arena_per_row
    Py_ssize_t work_per_row       # multiply-adds of the forward section
    Py_ssize_t work_per_row_of_a_step
    bint reduced                  # whether some products are of reduced precision
    # Filled in by an executor: a network's arrays, and pointers to the values in them.
    void *parameters
    void *gradients
    void *buffers
    void **at


cdef enum:
    INPUT, OUTPUT, PARAMETER, GRADIENT, BUFFER, TEMPORARY


cdef class EncodedProgram:
    cdef list arrays              # the memory behind the code's pointers
    cdef bint ready               # whether __init__ has succeeded
    cdef Code code
    cdef readonly tuple calls
    cdef readonly tuple random
    cdef readonly bint in_python  # whether some layers run in Python
    cdef Py_ssize_t n_parameters, n_buffers  # needed at least

    cdef void *_pointer(self, array) except NULL
    cdef Place *_places(self, values, arena, arena_per_row) except NULL
    cdef const int *_indices(self, indices) except NULL
    cdef Instruction *_instructions(self, instructions, values) except NULL
    cdef int _count_work(self, const Instruction *each, int i) except -1
