from fastbp.kernels.dispatch cimport (
    FBP_ADAM_BETA1, FBP_ADAM_BETA2, FBP_ADAM_CONSTANTS, FBP_ADAM_CORRECTION,
    FBP_ADAM_EPSILON, FBP_ADAM_KEEP, FBP_ADAM_L2, FBP_ADAM_RATE,
    fbp_adam, fbp_penalize, fbp_sgd, fbp_sum_of_squares, real, tier,
)

# Numbers whose squares are summed on their own.
cdef enum:
    SQUARES_BLOCK = 1 << 13

cdef double penalize_block(Py_ssize_t n, const real *parameters, real *gradients,
                           double strength) noexcept nogil
cdef double sum_of_squares_of(Py_ssize_t n, const real *X) noexcept nogil
cdef void set_adam_constants(double *constants, long step, double learning_rate, double beta1,
                             double beta2, double epsilon, double weight_decay,
                             bint decoupled, bint epsilon_hat) noexcept nogil
