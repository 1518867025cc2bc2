from fastbp.kernels.dispatch cimport int64_t, real


# An array of numbers, or one in CSR format.
cdef struct Source:
    Py_ssize_t n_rows, n_columns
    char kind                   # NumPy's letter for the dtype
    Py_ssize_t row, column      # bytes between rows, and between columns
    const char *data
    bint sparse                 # then, in place of these three:
    const void *starts          # where each row starts, and the last ends, in the next two
    const void *columns
    const void *values
    Py_ssize_t n_values
    bint wide                   # whether the first two are of 64 bits


cdef class Rows:
    cdef Source source
    cdef list borrowed

    cdef int check(self) except -1


cdef void read_rows(const Source *X, const int64_t *rows, Py_ssize_t m, real *out) noexcept nogil
