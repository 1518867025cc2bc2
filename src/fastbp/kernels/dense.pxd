from fastbp.kernels.dispatch cimport fbp_column_sums, fbp_matmul, real, tier

cdef int forward(const real[:, ::1] X, const real[:, ::1] W, const real[::1] b,
                 real[:, ::1] Z) except -1 nogil
cdef int backward_weights(const real[:, ::1] X, const real[:, ::1] dZ,
                          real[:, ::1] dW) except -1 nogil
cdef void backward_bias(const real[:, ::1] dZ, real[::1] db) noexcept nogil
cdef int backward_input(const real[:, ::1] dZ, const real[:, ::1] W,
                        real[:, ::1] dX) except -1 nogil
