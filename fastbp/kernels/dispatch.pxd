"""The kernels of simd/dispatch.h as other Cython modules call them.

Each name below is a C macro that looks up the table of the dtype its pointers have,
so that one call in a function over fused types serves float and double:

    fbp_unary(tier, which, n, &X[0], ...)
"""

from libc.stdint cimport int64_t, uint64_t

ctypedef fused real:
    float
    double


cdef extern from "simd/dispatch.h" nogil:
    enum:
        FBP_UNARIES, FBP_LOSSES, FBP_UPDATES, FBP_OPS  # how many of each ops.def declares

        FBP_MOST_STATE, FBP_MOST_ATTRIBUTES

        FBP_WORKSPACE, FBP_K_BLOCK, FBP_FEW_ROWS

        FBP_UPDATE_sgd

        FBP_CONTINUES, FBP_UNFINISHED  # parts of a sum over rows

        FBP_HIGHEST, FBP_HIGH, FBP_MEDIUM  # precision of a matrix product
        FBP_AMX_RUNS, FBP_AMX_NOT_BUILT, FBP_AMX_MISSING, FBP_AMX_REFUSED

    const char *const *fbp_unary_names
    const char *const *fbp_loss_names
    const char *const *fbp_update_names
    const char *const *fbp_op_names

    ctypedef struct fbp_table_f32:
        double (*fma_chains)(Py_ssize_t length) noexcept nogil

    ctypedef struct fbp_table_f64:
        double (*fma_chains)(Py_ssize_t length) noexcept nogil

    ctypedef struct fbp_gemm:
        Py_ssize_t m, n, k
        const void *A
        Py_ssize_t a_row, a_col
        const void *B
        Py_ssize_t b_row, b_col
        const void *bias
        void *C
        Py_ssize_t c_row
        bint gradient
        int part
        bint relu
        const void *relu_mask
        int precision
        bint over_rows

    ctypedef struct fbp_bf16:
        void (*pack_a)(const fbp_gemm *product, float *packed) noexcept nogil
        void (*pack_b)(const fbp_gemm *product, float *packed) noexcept nogil
        void (*multiply)(const fbp_gemm *product, const float *packed_a,
                         const float *packed_b) noexcept nogil
        void (*row)(const fbp_gemm *product) noexcept nogil
        double (*peak)(Py_ssize_t length) noexcept nogil

    ctypedef struct fbp_tier:
        const char *name
        const fbp_table_f32 *f32
        const fbp_table_f64 *f64
        const fbp_bf16 *bf16
        bint (*runs)() noexcept
        Py_ssize_t work_per_look

    const fbp_tier *fbp_tier_at(int i) noexcept
    int fbp_amx_status() noexcept
    void fbp_find_caches() noexcept

    Py_ssize_t fbp_packed_stride(Py_ssize_t k, int precision) noexcept
    Py_ssize_t fbp_packed_size(Py_ssize_t lines, Py_ssize_t k, int precision) noexcept
    void fbp_take_rows(fbp_gemm *product, Py_ssize_t first, Py_ssize_t stop,
                       size_t size) noexcept
    void fbp_take_columns(fbp_gemm *product, Py_ssize_t first, Py_ssize_t stop,
                          size_t size) noexcept
    void fbp_matmul(const fbp_tier *tier, const fbp_gemm *product, void *workspace) noexcept
    void fbp_unary(const fbp_tier *tier, int which, Py_ssize_t n,
                   const void *X, void *Y, double parameter) noexcept
    void fbp_unary_backward(const fbp_tier *tier, int which, Py_ssize_t n, const void *dA,
                            const void *saved, void *dZ, double parameter) noexcept
    void fbp_dropout(const fbp_tier *tier, Py_ssize_t n, const void *X, void *Y,
                     double rate, uint64_t key, uint64_t step, Py_ssize_t first) noexcept
    void fbp_softmax(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                     const void *Z, void *P) noexcept
    void fbp_loss(const fbp_tier *tier, int which, Py_ssize_t m, Py_ssize_t n,
                  const void *Z, const void *Y, const int64_t *labels, const void *weights,
                  double scale, const void *parameters, double cap, void *dZ,
                  double *row_losses) noexcept
    void fbp_largest_at_label(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *Z,
                              const int64_t *labels, unsigned char *right) noexcept
    void fbp_add(const fbp_tier *tier, Py_ssize_t n, const void *X, const void *Y, void *Z,
                 bint gradient) noexcept
    void fbp_normalize_rows(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *X,
                            void *N, void *rstd, double epsilon, bint center) noexcept
    void fbp_normalize_rows_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                                     const void *dN, const void *N, const void *rstd, void *dX,
                                     bint center) noexcept
    void fbp_column_moments(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                            const void *X, void *mean, void *variance) noexcept
    void fbp_inverse_sqrt(const fbp_tier *tier, Py_ssize_t n, const void *X, void *Y,
                          double epsilon) noexcept
    void fbp_normalize_columns(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *X,
                               const void *mean, const void *rstd, void *N) noexcept
    void fbp_normalize_columns_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                                        Py_ssize_t stride, const void *dN, const void *N,
                                        const void *rstd, void *dX) noexcept
    void fbp_column_means(const fbp_tier *tier, Py_ssize_t n, const void *sum, double rows,
                          void *mean) noexcept
    void fbp_column_squares(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                            const void *X, const void *mean, void *out, int part) noexcept
    void fbp_normalize_columns_from_sums(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                                         Py_ssize_t stride, const void *dN, const void *N,
                                         const void *rstd, double rows, const void *sums,
                                         const void *dots, void *dX) noexcept
    void fbp_scale(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *X,
                   const void *gamma, const void *beta, void *Y, bint gradient) noexcept
    void fbp_column_dots(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                         const void *A, const void *B, void *out, int part) noexcept
    void fbp_scale_shift_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                                  Py_ssize_t stride, const void *dY, const void *X, void *dgamma,
                                  void *dbeta, int part) noexcept
    void fbp_prelu(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *X,
                   const void *slope, void *Y) noexcept
    void fbp_prelu_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *dY,
                            const void *X, const void *slope, void *dX) noexcept
    void fbp_prelu_slope(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                         const void *dY, const void *X, void *dslope, int part) noexcept
    void fbp_running_average(const fbp_tier *tier, Py_ssize_t n, void *average, const void *X,
                             double keep, double weight) noexcept
    void fbp_embedding(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *codes,
                       Py_ssize_t codes_stride, const void *table, void *Z) noexcept
    void fbp_embedding_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n,
                                Py_ssize_t stride, const void *codes, Py_ssize_t codes_stride,
                                const void *dZ, Py_ssize_t n_categories, void *dtable,
                                int part) noexcept
    void fbp_periodic(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k, Py_ssize_t d,
                      const void *X, const void *frequencies, const void *phases,
                      const void *gamma, const void *beta, void *Z, void *N) noexcept
    void fbp_periodic_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k, Py_ssize_t d,
                               Py_ssize_t first, Py_ssize_t stop, const void *dZ, const void *X,
                               const void *frequencies, const void *phases, const void *gamma,
                               void *dgamma, void *dbeta, void *dfrequencies,
                               void *dphases, int part) noexcept
    void fbp_periodic_backward_input(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k,
                                     Py_ssize_t d, const void *dZ, const void *X,
                                     const void *frequencies, const void *phases,
                                     const void *gamma, void *dX) noexcept
    void fbp_piecewise_nodes(const fbp_tier *tier, Py_ssize_t k, Py_ssize_t d,
                             const int64_t *starts, const void *W, const void *b,
                             void *nodes) noexcept
    void fbp_piecewise(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k, Py_ssize_t d,
                       const int64_t *starts, const void *X, const void *edges, const void *W,
                       const void *nodes, void *Z, void *bins, void *fractions) noexcept
    void fbp_piecewise_backward(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k, Py_ssize_t d,
                                const int64_t *starts, Py_ssize_t first, Py_ssize_t stop,
                                const void *dZ, const void *bins, const void *fractions,
                                void *dW, int part) noexcept
    void fbp_piecewise_backward_input(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t k,
                                      Py_ssize_t d, const int64_t *starts, const void *dZ,
                                      const void *bins, const void *edges, const void *W,
                                      void *dX) noexcept
    void fbp_repeat(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                    const void *X, double factor, void *Y, bint gradient) noexcept
    void fbp_sum_members(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                         const void *X, double factor, void *Y, bint gradient) noexcept
    void fbp_penalize(const fbp_tier *tier, Py_ssize_t n, const void *parameters,
                      void *gradients, double strength) noexcept
    void fbp_update(const fbp_tier *tier, int which, Py_ssize_t n, void *parameters,
                    const void *gradients, void *state, double learning_rate, int64_t step,
                    const double *attributes) noexcept
    void fbp_descend_product(const fbp_tier *tier, const fbp_gemm *product, void *W,
                             double strength, double learning_rate,
                             const double *attributes) noexcept
    void fbp_muon_direction(const fbp_tier *tier, Py_ssize_t n, const void *G, void *B, void *U,
                            double momentum, bint nesterov) noexcept
    void fbp_scale_to_unit(const fbp_tier *tier, Py_ssize_t n, const void *X, void *Y,
                           double scale) noexcept
    void fbp_newton_schulz(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, Py_ssize_t stride,
                           Py_ssize_t diagonal, const void *X, void *Y) noexcept
    void fbp_transpose(const fbp_tier *tier, Py_ssize_t m, Py_ssize_t n, const void *X,
                       Py_ssize_t x_row, void *Y, Py_ssize_t y_row) noexcept
    double fbp_sum_of_squares(const fbp_tier *tier, Py_ssize_t n, const void *X) noexcept
    double fbp_largest(const fbp_tier *tier, Py_ssize_t n, const void *X) noexcept


# The tier in use, chosen at import.
cdef const fbp_tier *tier
