from fastbp.kernels.dispatch cimport (
    FBP_WORKSPACE, fbp_matmul, fbp_gemm, fbp_take_columns, fbp_take_rows, real, tier,
)
from fastbp.kernels.threads cimport (
    fbp_worker, fbp_partition, check_signals, run_team, threads_for,
)

# Products of fewer multiply-adds are faster without a workspace.
cdef enum:
    WORK_FOR_WORKSPACE = 1 << 22

cdef fbp_gemm forward_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                              const real *X, const real *W, const real *b,
                              real *Z) noexcept nogil
cdef fbp_gemm weights_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                              const real *X, const real *dZ, real *dW) noexcept nogil
cdef fbp_gemm bias_product(Py_ssize_t batch, Py_ssize_t n_out, const real *one,
                           const real *dZ, real *db) noexcept nogil
cdef fbp_gemm input_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                            const real *dZ, const real *W, real *dX) noexcept nogil
cdef bint matmul(fbp_gemm product, fbp_worker *me, real *workspace) noexcept nogil
