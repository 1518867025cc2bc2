from fastbp.kernels.encoded cimport Code, EncodedProgram
from fastbp.kernels.guards cimport Borrowed
from fastbp.kernels.instructions cimport Frame


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
