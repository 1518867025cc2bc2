from fastbp.kernels.dispatch cimport fbp_gemm
from fastbp.kernels.threads cimport fbp_worker

cdef Py_ssize_t packing_space(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                              int precision) noexcept nogil
cdef bint matmul_bf16(fbp_gemm product, fbp_worker *me, float *workspace) noexcept nogil
cdef Py_ssize_t fused_space(Py_ssize_t n, Py_ssize_t batch, int precision) noexcept nogil
cdef void multiply_panel(fbp_gemm product, const float *packed_b, float *room) noexcept nogil
