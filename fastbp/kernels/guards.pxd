cimport numpy as cnp


cdef class Borrowed:
    cdef readonly str name
    cdef readonly cnp.ndarray array
    cdef cnp.ndarray owner  # of the memory: the array itself, or what it is a view of
    cdef void *owner_data
    cdef Py_ssize_t owner_size
    cdef void *data
    cdef int typenum, ndim
    cdef bint swapped
    cdef cnp.npy_intp[2] shape
    cdef cnp.npy_intp[2] strides

    cpdef int check(self) except -1


cdef int check_chain(i, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t width, Py_ssize_t offset,
                     Py_ssize_t n_parameters) except -1
