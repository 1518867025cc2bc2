from fastbp.kernels.dispatch cimport (
    FBP_HUBER, FBP_MEAN_ABSOLUTE_ERROR, FBP_MEAN_SQUARED_ERROR, FBP_SIGMOID_CROSS_ENTROPY,
    FBP_SOFTMAX_CROSS_ENTROPY,
    fbp_loss, int64_t, real, tier,
)

cdef double mean_loss_of(int which, Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                         const int64_t *labels, const real *weights, double parameter,
                         real *dZ, double *row_losses) noexcept nogil
