from fastbp.kernels.dispatch cimport int64_t, real

cdef void count_labels(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                       const int64_t *labels, const real *weights,
                       double *sums) noexcept nogil
cdef void count_signs(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                      const real *weights, bint whole_rows, double *sums) noexcept nogil
cdef void add_squares(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                      const real *weights, const double *mean, double *sums) noexcept nogil
