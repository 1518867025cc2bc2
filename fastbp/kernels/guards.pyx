"""Checks of borrowed arrays before compiled code uses a pointer or size that it has kept.

Assigning to `array.dtype` or `array.shape`, or resizing the array, makes a kept pointer or size
wrong.  Only the array's elements may change.
"""

cimport cython
cimport numpy as cnp

cnp.import_array()


@cython.final
cdef class Borrowed:
    """An array that the caller owns, with its address, dtype, shape and strides as of now.

    Parameters
    ----------
    name : str
        For messages.
    array : numpy.ndarray
    """

    def __init__(self, str name, array):
        if self.array is not None:
            raise RuntimeError("Borrowed: already initialized; make another")
        if not isinstance(array, cnp.ndarray):
            raise TypeError(f"{name}: expected a numpy.ndarray, got {type(array).__name__}")
        self.name = name
        cdef cnp.ndarray given = array
        self.data = cnp.PyArray_DATA(given)
        self.typenum, self.swapped = cnp.PyArray_TYPE(given), not array.dtype.isnative
        self.ndim = cnp.PyArray_NDIM(given)
        if not 1 <= self.ndim <= 2:
            raise ValueError(f"{name}: expected one or two dimensions, got {self.ndim}")
        cdef int i
        for i in range(self.ndim):
            self.shape[i] = cnp.PyArray_DIM(given, i)
            self.strides[i] = cnp.PyArray_STRIDE(given, i)
        owner = array
        while isinstance(owner.base, cnp.ndarray):
            owner = owner.base
        self.owner = owner
        self.owner_data, self.owner_size = cnp.PyArray_DATA(owner), cnp.PyArray_NBYTES(owner)
        self.array = array  # last: it marks the object as initialized

    cpdef int check(self) except -1:
        """Raise ValueError unless the array's memory, dtype and shape are unchanged."""
        if self.array is None:
            raise RuntimeError("Borrowed: expected an initialized one")
        if not self.same():
            shape = ()
            for i in range(self.ndim):
                shape += (self.shape[i],)
            raise ValueError(f"{self.name}: expected the array as it was when it was checked, of "
                             f"shape {shape}, got {(<object>self.array).dtype} of shape "
                             f"{(<object>self.array).shape}; only its numbers may change while it "
                             f"is in use")
        return 0


cpdef bint apart(X, Z):
    """Whether two contiguous arrays share no memory."""
    cdef const char *x = <const char *>cnp.PyArray_DATA(X)
    cdef const char *z = <const char *>cnp.PyArray_DATA(Z)
    return x + cnp.PyArray_NBYTES(X) <= z or z + cnp.PyArray_NBYTES(Z) <= x
