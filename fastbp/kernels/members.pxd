from fastbp.kernels.dispatch cimport fbp_gemm, real

cdef fbp_gemm separate_forward(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                               Py_ssize_t n_out, const real *X, const real *W, const real *b,
                               real *Z, Py_ssize_t i) noexcept nogil
cdef fbp_gemm separate_weights(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                               Py_ssize_t n_out, const real *X, const real *dZ, real *dW,
                               Py_ssize_t i) noexcept nogil
cdef fbp_gemm separate_input(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                             Py_ssize_t n_out, const real *dZ, const real *W, real *dX,
                             Py_ssize_t i) noexcept nogil
