"""What compiled code asks before it trusts a pointer that it kept, or a size that it was told.

An assignment to `array.dtype` or `array.shape` makes another array of what was checked; its
numbers may change at any time.
"""

cimport numpy as cnp

cdef struct Layout:
    const void *data
    int typenum, ndim
    cnp.npy_intp[2] shape
    cnp.npy_intp[2] strides


cdef inline Layout layout_of(cnp.ndarray array) noexcept:
    """Of an array of one or two dimensions; other arrays have no typenum here."""
    cdef Layout layout
    cdef int i, ndim = cnp.PyArray_NDIM(array)
    layout.data, layout.ndim = cnp.PyArray_DATA(array), ndim
    layout.typenum = -1
    if ndim <= 2 and cnp.PyArray_ISNOTSWAPPED(array):
        layout.typenum = cnp.PyArray_TYPE(array)
    for i in range(2):
        layout.shape[i] = cnp.PyArray_DIM(array, i) if i < ndim else 0
        layout.strides[i] = cnp.PyArray_STRIDE(array, i) if i < ndim else 0
    return layout


cdef inline bint same_layout(const Layout *before, cnp.ndarray array) noexcept:
    cdef Layout now = layout_of(array)
    return (now.data == before.data and now.typenum == before.typenum and now.typenum >= 0
            and now.ndim == before.ndim
            and now.shape[0] == before.shape[0] and now.shape[1] == before.shape[1]
            and now.strides[0] == before.strides[0] and now.strides[1] == before.strides[1])


cdef inline int check_chain(i, Py_ssize_t n_in, Py_ssize_t n_out, Py_ssize_t width,
                            Py_ssize_t offset, Py_ssize_t n_parameters) except -1:
    """Raise unless a dense layer takes what the operation before returns, and has parameters."""
    if n_in != width or n_out < 1:
        raise ValueError(f"operations: expected a dense layer that takes {width} columns at {i}, "
                         f"got one from {n_in} to {n_out}")
    # Divided rather than multiplied, which might overflow.
    if n_out > (n_parameters - offset) // (n_in + 1):
        raise ValueError(f"operations: expected at most {n_parameters} parameters, as many as "
                         f"there are, got more with the dense layer from {n_in} to {n_out} at {i}")
    return 0
