"""What compiled code asks before it trusts a pointer that it kept, or a size that it was told.

An assignment to `array.dtype` or `array.shape` makes another array of what was checked; its
numbers may change at any time.
"""

cimport cython
cimport numpy as cnp

cnp.import_array()


@cython.final
cdef class Borrowed:
    """Somebody else's array of one or two dimensions, as it lies in memory now.

    Parameters
    ----------
    name : str
        For messages.
    array : numpy.ndarray
    """

    def __init__(self, str name, cnp.ndarray array not None):
        self.name, self.array = name, array
        self.data = cnp.PyArray_DATA(array)
        self.typenum, self.ndim = cnp.PyArray_TYPE(array), cnp.PyArray_NDIM(array)
        if not 1 <= self.ndim <= 2:
            raise ValueError(f"{name}: expected one or two dimensions, got {self.ndim}")
        cdef int i
        for i in range(self.ndim):
            self.shape[i] = cnp.PyArray_DIM(array, i)
            self.strides[i] = cnp.PyArray_STRIDE(array, i)
        self.swapped = not cnp.PyArray_ISNOTSWAPPED(array)
        owner = array
        while isinstance(owner.base, cnp.ndarray):
            owner = owner.base
        self.owner = owner
        self.owner_data, self.owner_size = cnp.PyArray_DATA(owner), cnp.PyArray_NBYTES(owner)

    cpdef int check(self) except -1:
        """Raise ValueError unless it lies there still, with the dtype and shape that it had."""
        cdef cnp.ndarray array = self.array
        cdef int i
        # A view's memory is another array's, and goes where that is resized.
        cdef bint same = (
            cnp.PyArray_DATA(self.owner) == self.owner_data
            and cnp.PyArray_NBYTES(self.owner) == self.owner_size
            and cnp.PyArray_DATA(array) == self.data and cnp.PyArray_TYPE(array) == self.typenum
            and cnp.PyArray_NDIM(array) == self.ndim
            and (not cnp.PyArray_ISNOTSWAPPED(array)) == self.swapped)
        if same:
            for i in range(self.ndim):
                same = (same and cnp.PyArray_DIM(array, i) == self.shape[i]
                        and cnp.PyArray_STRIDE(array, i) == self.strides[i])
        if not same:
            shape = tuple([self.shape[i] for i in range(self.ndim)])
            raise ValueError(f"{self.name}: expected the array as it was when it was checked, of "
                             f"shape {shape}, got {(<object>array).dtype} of shape "
                             f"{(<object>array).shape}; only its numbers may change while it is "
                             f"in use")
        return 0


cdef int check_chain(i, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t width, Py_ssize_t offset,
                     Py_ssize_t n_parameters) except -1:
    """Raise unless a dense layer takes what the operation before returns, and has parameters."""
    if n_in != width or n_out < 1:
        raise ValueError(f"operations: expected a dense layer that takes {width} columns at {i}, "
                         f"got one from {n_in} to {n_out}")
    # Divided rather than multiplied, which might overflow.
    if n_out > (n_parameters - offset) // (n_in + 1):
        raise ValueError(f"operations: expected at most {n_parameters} parameters, as many as "
                         f"there are, got more with the dense layer from {n_in} to {n_out} at {i}")
    return 0
