from fastbp.kernels.dispatch cimport int64_t, real


# A dense array, or a sparse one in CSR format.
cdef struct Source:
    Py_ssize_t n_rows, n_columns
    char kind                   # NumPy's character code of the dtype
    Py_ssize_t row, column      # strides in bytes
    const char *data
    bint sparse                 # then these are used instead of the three above:
    const void *starts          # where each row starts in the next two (indptr)
    const void *columns
    const void *values
    Py_ssize_t n_values
    bint wide                   # whether starts and columns are int64


cdef class Rows:
    cdef Source source
    cdef list borrowed

    cdef int check(self) except -1


cdef void read_rows(const Source *X, const int64_t *rows, Py_ssize_t m, real *out) noexcept nogil
