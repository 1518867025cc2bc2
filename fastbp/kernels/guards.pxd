cimport cython
cimport numpy as cnp


@cython.final
cdef class Borrowed:
    cdef readonly str name
    cdef readonly cnp.ndarray array
    cdef cnp.ndarray owner  # of the memory: the array itself, or what it is a view of
    cdef void *data
    cdef void *owner_data
    cdef Py_ssize_t owner_size
    cdef int typenum, ndim
    cdef bint swapped
    cdef cnp.npy_intp[2] shape
    cdef cnp.npy_intp[2] strides

    cpdef int check(self) except -1

    cdef inline bint same(self) noexcept:
        """Whether the array is unchanged; called for the parameters at every prediction."""
        cdef bint same = (
            cnp.PyArray_DATA(self.array) == self.data
            and cnp.PyArray_TYPE(self.array) == self.typenum
            and cnp.PyArray_ISNOTSWAPPED(self.array) != self.swapped
            and cnp.PyArray_NDIM(self.array) == self.ndim
            and cnp.PyArray_DIM(self.array, 0) == self.shape[0]
            and cnp.PyArray_STRIDE(self.array, 0) == self.strides[0])
        if same and self.ndim == 2:
            same = (cnp.PyArray_DIM(self.array, 1) == self.shape[1]
                    and cnp.PyArray_STRIDE(self.array, 1) == self.strides[1])
        if same and self.owner is not self.array:  # resizing the owner would move the memory
            same = (cnp.PyArray_DATA(self.owner) == self.owner_data
                    and cnp.PyArray_NBYTES(self.owner) == self.owner_size)
        return same


cpdef bint apart(X, Z)
