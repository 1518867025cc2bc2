from fastbp.kernels.dispatch cimport FBP_WORKSPACE, fbp_column_sums, fbp_matmul, real, tier

# Multiply-adds from which on a product pays for a workspace.
cdef enum:
    WORK_FOR_WORKSPACE = 1 << 22

cdef int matmul(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                const real *A, Py_ssize_t a_row, Py_ssize_t a_col,
                const real *B, Py_ssize_t b_row, Py_ssize_t b_col,
                const real *bias, bint gradient, real *C, real *workspace) except -1 nogil
