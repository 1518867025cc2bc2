from fastbp.kernels.dispatch cimport (
    FBP_MOST_ATTRIBUTES, FBP_MOST_STATE, fbp_penalize, fbp_sum_of_squares, fbp_update, int64_t,
    real, tier,
)

# Squares are summed in blocks of this many elements.
cdef enum:
    SQUARES_BLOCK = 1 << 13

cdef double penalize_block(Py_ssize_t n, const real *parameters, real *gradients,
                           double strength) noexcept nogil
cdef double sum_of_squares_of(Py_ssize_t n, const real *X) noexcept nogil
