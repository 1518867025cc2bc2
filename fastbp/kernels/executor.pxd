from fastbp.kernels.encoded cimport Code, EncodedProgram
from fastbp.kernels.guards cimport Borrowed
from fastbp.kernels.instructions cimport Frame
from fastbp.kernels.threads cimport fbp_flag


# One prediction.
cdef struct Call:
    const Code *code
    const void *X
    void *Z
    Py_ssize_t rows
    Py_ssize_t workspace           # elements, for products; may be 0
    fbp_flag no_memory, bad_code


# The network's arrays: parameters, gradients and buffers.
cdef enum:
    N_ARRAYS = 3


cdef class Executor:
    cdef EncodedProgram program    # keeps alive what the code points into
    cdef object pointers           # likewise
    cdef list borrowed             # the network's arrays
    cdef void *base[N_ARRAYS]      # their memory
    cdef Py_ssize_t n_bytes[N_ARRAYS]
    cdef Borrowed parameters, buffers
    cdef bint ready                # whether __init__ has succeeded
    cdef Code code
    cdef int typenum
    cdef readonly tuple random
    cdef readonly bint in_python

    cdef int _find_places(self, Py_ssize_t size) except -1
    cdef bint takes(self, array, Py_ssize_t columns)
    cdef bint is_over(self, parameters, gradients)
    cdef bint is_apart(self, out)
    cdef int run(self, X, out, Py_ssize_t rows) except -1
    cdef int run_in_turns(self, Call *call, bint single, list given) except -1
    cdef int check(self) except -1
    cdef int call(self, Frame *frame, int i) except -1
