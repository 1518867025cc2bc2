from fastbp.kernels.dispatch cimport (
    fbp_loss, int64_t, real, tier,
)

cdef double loss_scale(Py_ssize_t m, const real *weights) noexcept nogil
cdef double sum_of_weights(Py_ssize_t m, const real *weights) noexcept nogil
cdef double sum_of_losses(Py_ssize_t m, const real *weights,
                          const double *row_losses) noexcept nogil
