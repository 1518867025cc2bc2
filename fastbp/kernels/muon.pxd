from fastbp.kernels.dispatch cimport real
from fastbp.kernels.threads cimport fbp_worker


# A step of Muon for the weights W of a dense layer, with n_in rows and n_out columns.
cdef struct MatrixStep:
    Py_ssize_t n_in, n_out
    void *W
    void *G
    void *B                # the average of the gradients
    double clip            # G is first multiplied by it
    double momentum
    bint nesterov
    int steps
    double keep, rate      # W becomes keep·W - rate·X
    void *scratch          # `scratch_size` elements
    double *squares        # `n_squares` numbers


cdef MatrixStep matrix_step(Py_ssize_t n_in, Py_ssize_t n_out, double learning_rate,
                            const double *attributes) noexcept nogil
cdef bint step_of_matrix(const MatrixStep *t, fbp_worker *me, real *workspace) noexcept nogil
