/* The kernels that exist once per instruction set, as tables of function pointers.
 *
 * A tier is one compilation of the templates (tier.h) for one instruction set.
 * It fills one table for float and one for double.  dispatch.c lists the tiers
 * that were compiled in and says which of them this machine can run.
 *
 * Arrays are C-contiguous unless strides are given; strides and sizes count
 * elements.  No kernel allocates, and none can fail.  A kernel with a `stride` (the distance of
 * rows) handles only some columns of its arrays; its pointers are to the first of these.
 */
#ifndef FBP_DISPATCH_H
#define FBP_DISPATCH_H

#include <stddef.h>
#include <stdint.h>

/* A sum over k is cut at multiples of this; each block is a chain of fused
 * multiply-adds of its own, and the blocks' sums are added in order.  Results
 * depend on it, so it is the same in every tier: two vectors of a
 * 512-bit register file by 256 rows are 32 KiB, what a level-1 cache holds. */
#define FBP_K_BLOCK 256

/* The most rows of a minibatch for which descend_product is used. */
#define FBP_FEW_ROWS 8

/* In reduced precision a sum over k is cut at multiples of this instead: see bfloat16.h. */
#define FBP_BF16_BLOCK 32

/* Size in elements of the workspace into which a large matrix product copies rows of its first
 * operand: of so many rows, FBP_K_BLOCK columns and some room between the rows. */
#define FBP_MOST_COPIED 1024
#define FBP_WORKSPACE ((FBP_K_BLOCK + 16) * FBP_MOST_COPIED)

/* Of a core's level-2 cache, by which operands are blocked; results do not depend on it. */
extern ptrdiff_t fbp_level2_bytes;
void fbp_find_caches(void);

/* A sum along a row runs in this many lanes, element j in lane j % 16, and the
 * lanes are added as a tree: l + (l + 8), then 4, 2, 1. */
#define FBP_SUM_LANES 16

/* Element-wise functions of one array, those with a derivative first.  `parameter` is the alpha of
 * those that have one. */
enum fbp_unary {
#define FBP_ACTIVATION(name, ...) FBP_UNARY_##name,
#include "../ops.def"
    FBP_ACTIVATIONS,
    FBP_LAST_ACTIVATION = FBP_ACTIVATIONS - 1,
#define FBP_FUNCTION(name, ...) FBP_UNARY_##name,
#include "../ops.def"
    FBP_UNARIES
};

/* Losses.  `parameter` is the label smoothing of softmax cross-entropy and the
 * delta of Huber; the others ignore it. */
enum fbp_loss {
#define FBP_LOSS(name, ...) FBP_LOSS_##name,
#include "../ops.def"
    FBP_LOSSES
};

enum fbp_update {
#define FBP_UPDATE(name, ...) FBP_UPDATE_##name,
#include "../ops.def"
    FBP_UPDATES
};

/* Instructions of a program: those that ops.def names, then each element-wise function, then the
 * gradient of each activation. */
enum fbp_op {
#define FBP_OP(name, ...) FBP_OP_##name,
#include "../ops.def"
    FBP_OPS
};

/* The most state arrays and attributes that an update may have. */
enum { FBP_MOST_STATE = 8, FBP_MOST_ATTRIBUTES = 16 };

/* Names, for Python. */
extern const char *const fbp_unary_names[FBP_UNARIES];
extern const char *const fbp_loss_names[FBP_LOSSES];
extern const char *const fbp_update_names[FBP_UPDATES];
extern const char *const fbp_op_names[FBP_OPS];

/* A sum over rows may be a part of a longer one, whose other rows are in other processes: the
 * result holds the sum of the rows before, or rows follow and it is not finished. */
enum { FBP_CONTINUES = 1, FBP_UNFINISHED = 2 };

/* How exactly a product's operands are taken: by the names of PyTorch and JAX. */
enum fbp_precision { FBP_HIGHEST, FBP_HIGH, FBP_MEDIUM };

/* A matrix product, C (m, n) = bias + A (m, k) . B (k, n), and what is applied to each sum
 * before it is stored.  The pointers are to the dtype of the table. */
typedef struct {
    ptrdiff_t m, n, k;
    const void *A; /* element (i, p) is A[i * a_row + p * a_col] */
    ptrdiff_t a_row, a_col;
    const void *B; /* element (p, j) is B[p * b_row + j * b_col] */
    ptrdiff_t b_row, b_col;
    const void *bias; /* (n,); may be NULL */
    void *C;          /* element (i, j) is C[i * c_row + j] */
    ptrdiff_t c_row;
    int gradient; /* C is a gradient: see vectors.h */
    int part;     /* FBP_CONTINUES, FBP_UNFINISHED: of a sum along k, without bias or ReLU */
    int relu;     /* C becomes max(C, 0) */
    const void *relu_mask; /* laid out as C: C becomes 0 where this is not above 0; may be NULL */
    int precision; /* other than FBP_HIGHEST in float32 only, by the functions of fbp_bf16 */
    int over_rows; /* the sum is over a minibatch's rows: see bfloat16.h */
} fbp_gemm;

/* Narrow a product to some rows, or columns, of C; `size` is that of an element, in bytes. */
static inline void fbp_take_rows(fbp_gemm *p, ptrdiff_t first, ptrdiff_t stop, size_t size)
{
    const ptrdiff_t bytes = (ptrdiff_t)size;
    p->m = stop - first;
    p->A = (const char *)p->A + first * p->a_row * bytes;
    p->C = (char *)p->C + first * p->c_row * bytes;
    if (p->relu_mask) p->relu_mask = (const char *)p->relu_mask + first * p->c_row * bytes;
}

static inline void fbp_take_columns(fbp_gemm *p, ptrdiff_t first, ptrdiff_t stop, size_t size)
{
    const ptrdiff_t bytes = (ptrdiff_t)size;
    p->n = stop - first;
    p->B = (const char *)p->B + first * p->b_col * bytes;
    p->C = (char *)p->C + first * bytes;
    if (p->bias) p->bias = (const char *)p->bias + first * bytes;
    if (p->relu_mask) p->relu_mask = (const char *)p->relu_mask + first * bytes;
}

#define FBP_DECLARE_TABLE(real, dtype)                                                             \
    typedef struct {                                                                               \
        /* workspace may be NULL, which makes a large product slower */                            \
        void (*matmul)(const fbp_gemm *product, real *workspace);                                  \
        void (*unary[FBP_UNARIES])(ptrdiff_t n, const real *X, real *Y, real parameter);           \
        /* dZ from dA and what ops.def defines as saved: Z or A */                                 \
        void (*unary_backward[FBP_ACTIVATIONS])(ptrdiff_t n, const real *dA, const real *saved,    \
                                                real *dZ, real parameter);                         \
        /* Y = X / (1 - rate) where the generator keeps, else 0; X[0] is element `first` of        \
         * the generator's sequence, a multiple of 4 */                                            \
        void (*dropout)(ptrdiff_t n, const real *X, real *Y, double rate, uint64_t key,            \
                        uint64_t step, ptrdiff_t first);                                           \
        void (*softmax)(ptrdiff_t m, ptrdiff_t n, const real *Z, real *P);                         \
        /* From Z (m, n) and the targets, which are Y (m, n) or, where labels (m,) is not          \
         * NULL, labels: dZ (m, n), row i times scale * weights[i], and each row's own loss,       \
         * of which a row (softmax) or an element (the others) counts `cap` at most.               \
         * weights (m,) may be NULL: all 1.  A loss has one parameter, or one for each of the n    \
         * outputs. */                                                                             \
        void (*loss[FBP_LOSSES])(ptrdiff_t m, ptrdiff_t n, const real *Z, const real *Y,           \
                                 const int64_t *labels, const real *weights, double scale,         \
                                 const real *parameters, real cap, real *dZ, double *row_losses);  \
        void (*largest_at_label)(ptrdiff_t m, ptrdiff_t n, const real *Z, const int64_t *labels,   \
                                 unsigned char *right);                                            \
        /* Z = X + Y; like Y of scale, a gradient where it is said to be one: see vectors.h */     \
        void (*add)(ptrdiff_t n, const real *X, const real *Y, real *Z, int gradient);             \
        /* rstd[i] = 1 / sqrt(variance + epsilon) of row i, about 0 where not `center`, and        \
         * N = (X - mean) * rstd; N may be X, and dX may be dN */                                  \
        void (*normalize_rows)(ptrdiff_t m, ptrdiff_t n, const real *X, real *N, real *rstd,       \
                               double epsilon, int center);                                        \
        void (*normalize_rows_backward)(ptrdiff_t m, ptrdiff_t n, const real *dN, const real *N,   \
                                        const real *rstd, real *dX, int center);                   \
        void (*column_moments)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *X,          \
                               real *mean, real *variance);                                        \
        void (*inverse_sqrt)(ptrdiff_t n, const real *X, real *Y, double epsilon);                 \
        void (*normalize_columns)(ptrdiff_t m, ptrdiff_t n, const real *X, const real *mean,       \
                                  const real *rstd, real *N);                                      \
        void (*normalize_columns_backward)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride,             \
                                           const real *dN, const real *N, const real *rstd,        \
                                           real *dX);                                              \
        /* column_moments and normalize_columns_backward in steps, for rows that are a part of     \
         * `rows` rows: sums of columns are by column_dots, those of squares are not finished */   \
        void (*column_means)(ptrdiff_t n, const real *sum, double rows, real *mean);               \
        void (*column_squares)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *X,          \
                               const real *mean, real *out, int part);                             \
        void (*normalize_columns_from_sums)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride,            \
                                            const real *dN, const real *N, const real *rstd,       \
                                            double rows, const real *sums, const real *dots,       \
                                            real *dX);                                             \
        /* Y = X * gamma + beta by columns; beta may be NULL, and Y may be X */                    \
        void (*scale)(ptrdiff_t m, ptrdiff_t n, const real *X, const real *gamma,                  \
                      const real *beta, real *Y, int gradient);                                    \
        /* the column sums of A * B, or of A where B is NULL */                                    \
        void (*column_dots)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *A,             \
                            const real *B, real *out, int part);                                   \
        /* those of dY * X, and those of dY */                                                     \
        void (*scale_shift_backward)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dY,   \
                                     const real *X, real *dgamma, real *dbeta, int part);          \
        /* Y = X where X > 0, slope * X by columns elsewhere; dX may be dY */                      \
        void (*prelu)(ptrdiff_t m, ptrdiff_t n, const real *X, const real *slope, real *Y);        \
        void (*prelu_backward)(ptrdiff_t m, ptrdiff_t n, const real *dY, const real *X,            \
                               const real *slope, real *dX);                                       \
        void (*prelu_slope)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dY,            \
                            const real *X, real *dslope, int part);                                \
        /* average = keep * average + (1 - keep) * X */                                            \
        void (*running_average)(ptrdiff_t n, real *average, const real *X, double keep,            \
                                double weight);                                                    \
        /* Z[i] = table[codes[i * codes_stride]]; codes are whole numbers that were checked */     \
        void (*embedding)(ptrdiff_t m, ptrdiff_t n, const real *codes, ptrdiff_t codes_stride,     \
                          const real *table, real *Z);                                             \
        /* of n columns of a table; `stride` is that of dZ and of dtable */                        \
        void (*embedding_backward)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *codes,  \
                                   ptrdiff_t codes_stride, const real *dZ, ptrdiff_t n_categories, \
                                   real *dtable, int part);                                        \
        /* Z (m, k * d) from X (m, k): periodic.h, piecewise.h; N may be NULL */                   \
        void (*periodic)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const real *X,                     \
                         const real *frequencies, const real *phases, const real *gamma,           \
                         const real *beta, real *Z, real *N);                                      \
        /* of the columns of Z from `first` to `stop` */                                           \
        void (*periodic_backward)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, ptrdiff_t first,          \
                                  ptrdiff_t stop, const real *dZ, const real *X,                   \
                                  const real *frequencies, const real *phases, const real *gamma,  \
                                  real *dgamma, real *dbeta, real *dfrequencies, real *dphases,    \
                                  int part);                                                       \
        void (*periodic_backward_input)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const real *dZ,     \
                                        const real *X, const real *frequencies,                    \
                                        const real *phases, const real *gamma, real *dX);          \
        void (*piecewise_nodes)(ptrdiff_t k, ptrdiff_t d, const int64_t *starts, const real *W,    \
                                const real *b, real *nodes);                                       \
        void (*piecewise)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const int64_t *starts,            \
                          const real *X, const real *edges, const real *W, const real *nodes,      \
                          real *Z, real *bins, real *fractions);                                   \
        /* of the features from `first` to `stop` */                                               \
        void (*piecewise_backward)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const int64_t *starts,   \
                                   ptrdiff_t first, ptrdiff_t stop, const real *dZ,                \
                                   const real *bins, const real *fractions, real *dW, int part);   \
        void (*piecewise_backward_input)(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d,                    \
                                         const int64_t *starts, const real *dZ, const real *bins,  \
                                         const real *edges, const real *W, real *dX);              \
        /* members.h */                                                                            \
        void (*repeat)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *X, double factor,        \
                       real *Y, int gradient);                                                     \
        void (*sum_members)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *X, double factor,   \
                            real *Y, int gradient);                                                \
        /* gradients += strength * parameters */                                                   \
        void (*penalize)(ptrdiff_t n, const real *parameters, real *gradients, real strength);     \
        /* One step, the first being 1; attributes and state arrays in the order of ops.def. */    \
        void (*update[FBP_UPDATES])(ptrdiff_t n, real *parameters, const real *gradients,          \
                                    real *const *state, double learning_rate, int64_t step,        \
                                    const double *attributes);                                     \
        /* The update sgd of W, laid out as the C of the product, which is its gradient but for    \
         * the penalty; for sums of at most FBP_FEW_ROWS */                                        \
        void (*descend_product)(const fbp_gemm *product, real *W, real strength,                   \
                                double learning_rate, const double *attributes);                   \
        /* The steps of Muon for matrices: muon.h. */                                              \
        void (*muon_direction)(ptrdiff_t n, const real *G, real *B, real *U, double momentum,      \
                               int nesterov);                                                      \
        void (*scale_to_unit)(ptrdiff_t n, const real *X, real *Y, double scale);                  \
        void (*newton_schulz)(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t diagonal,      \
                              const real *X, real *Y);                                             \
        void (*transpose)(ptrdiff_t m, ptrdiff_t n, const real *X, ptrdiff_t x_row, real *Y,       \
                          ptrdiff_t y_row);                                                        \
        double (*sum_of_squares)(ptrdiff_t n, const real *X);                                      \
        double (*largest)(ptrdiff_t n, const real *X); /* of |X|; NaN if there is one */           \
        /* floating-point operations made in some chains of this length: peak.h */                 \
        double (*fma_chains)(ptrdiff_t length);                                                    \
    } fbp_table_##dtype

FBP_DECLARE_TABLE(float, f32);
FBP_DECLARE_TABLE(double, f64);

/* Products of reduced precision.  Operands are packed first, A by rows and B by columns; both may
 * be packed in part, of a product that was narrowed to these rows or columns. */
typedef struct {
    void (*pack_a)(const fbp_gemm *product, float *packed);
    void (*pack_b)(const fbp_gemm *product, float *packed);
    void (*multiply)(const fbp_gemm *product, const float *packed_a, const float *packed_b);
    /* of one row of A, where B's rows are contiguous; packs nothing */
    void (*row)(const fbp_gemm *product);
    /* floating-point operations made by independent instructions in so many steps, to measure the
     * processor's peak speed */
    double (*peak)(ptrdiff_t length);
} fbp_bf16;

static inline ptrdiff_t fbp_round_up(ptrdiff_t n, ptrdiff_t grain)
{
    return (n + grain - 1) / grain * grain;
}

/* k, padded with zeros to whole blocks. */
static inline ptrdiff_t fbp_padded(ptrdiff_t k)
{
    return k < 1 ? FBP_BF16_BLOCK : fbp_round_up(k, FBP_BF16_BLOCK);
}

/* How many numbers along k a packed row of A or column of B holds: the rounded ones, and in
 * FBP_HIGH the rest of each. */
static inline ptrdiff_t fbp_packed_length(ptrdiff_t k, int precision)
{
    return fbp_padded(k) * (precision == FBP_HIGH ? 2 : 1);
}

/* Packed rows or columns start this many floats apart, so that few share a cache set, and are
 * padded to a multiple of FBP_BF16_BLOCK.  This is the most that a tier needs. */
static inline ptrdiff_t fbp_packed_stride(ptrdiff_t k, int precision)
{
    return fbp_packed_length(k, precision) + 16;
}

static inline ptrdiff_t fbp_packed_size(ptrdiff_t lines, ptrdiff_t k, int precision)
{
    return fbp_round_up(lines, FBP_BF16_BLOCK) * fbp_packed_stride(k, precision);
}

typedef struct {
    const char *name;
    int (*runs)(void);       /* whether this machine can run it */
    ptrdiff_t work_per_look; /* multiply-adds between checks for signals: some 0.01 s */
    const fbp_table_f32 *f32;
    const fbp_table_f64 *f64;
    const fbp_bf16 *bf16;
} fbp_tier;

/* A kernel of a tier, for the dtype that `pointer` points to. */
#define FBP_OF(tier, pointer)       \
    _Generic((pointer),             \
        float *: (tier)->f32,       \
        const float *: (tier)->f32, \
        double *: (tier)->f64,      \
        const double *: (tier)->f64)

#define fbp_matmul(tier, product, workspace) FBP_OF(tier, workspace)->matmul(product, workspace)
#define fbp_unary(tier, which, n, X, ...) FBP_OF(tier, X)->unary[which](n, X, __VA_ARGS__)
#define fbp_unary_backward(tier, which, n, dA, ...) \
    FBP_OF(tier, dA)->unary_backward[which](n, dA, __VA_ARGS__)
#define fbp_dropout(tier, n, X, ...) FBP_OF(tier, X)->dropout(n, X, __VA_ARGS__)
#define fbp_softmax(tier, m, n, Z, P) FBP_OF(tier, Z)->softmax(m, n, Z, P)
#define fbp_loss(tier, which, m, n, Z, ...) FBP_OF(tier, Z)->loss[which](m, n, Z, __VA_ARGS__)
#define fbp_largest_at_label(tier, m, n, Z, ...) \
    FBP_OF(tier, Z)->largest_at_label(m, n, Z, __VA_ARGS__)
#define fbp_add(tier, n, X, ...) FBP_OF(tier, X)->add(n, X, __VA_ARGS__)
#define fbp_normalize_rows(tier, m, n, X, ...) FBP_OF(tier, X)->normalize_rows(m, n, X, __VA_ARGS__)
#define fbp_normalize_rows_backward(tier, m, n, dN, ...) \
    FBP_OF(tier, dN)->normalize_rows_backward(m, n, dN, __VA_ARGS__)
#define fbp_column_moments(tier, m, n, stride, X, ...) \
    FBP_OF(tier, X)->column_moments(m, n, stride, X, __VA_ARGS__)
#define fbp_inverse_sqrt(tier, n, X, ...) FBP_OF(tier, X)->inverse_sqrt(n, X, __VA_ARGS__)
#define fbp_normalize_columns(tier, m, n, X, ...) \
    FBP_OF(tier, X)->normalize_columns(m, n, X, __VA_ARGS__)
#define fbp_normalize_columns_backward(tier, m, n, stride, dN, ...) \
    FBP_OF(tier, dN)->normalize_columns_backward(m, n, stride, dN, __VA_ARGS__)
#define fbp_column_means(tier, n, sum, ...) FBP_OF(tier, sum)->column_means(n, sum, __VA_ARGS__)
#define fbp_column_squares(tier, m, n, stride, X, ...) \
    FBP_OF(tier, X)->column_squares(m, n, stride, X, __VA_ARGS__)
#define fbp_normalize_columns_from_sums(tier, m, n, stride, dN, ...) \
    FBP_OF(tier, dN)->normalize_columns_from_sums(m, n, stride, dN, __VA_ARGS__)
#define fbp_scale(tier, m, n, X, ...) FBP_OF(tier, X)->scale(m, n, X, __VA_ARGS__)
#define fbp_column_dots(tier, m, n, stride, A, ...) \
    FBP_OF(tier, A)->column_dots(m, n, stride, A, __VA_ARGS__)
#define fbp_scale_shift_backward(tier, m, n, stride, dY, ...) \
    FBP_OF(tier, dY)->scale_shift_backward(m, n, stride, dY, __VA_ARGS__)
#define fbp_prelu(tier, m, n, X, ...) FBP_OF(tier, X)->prelu(m, n, X, __VA_ARGS__)
#define fbp_prelu_backward(tier, m, n, dY, ...) \
    FBP_OF(tier, dY)->prelu_backward(m, n, dY, __VA_ARGS__)
#define fbp_prelu_slope(tier, m, n, stride, dY, ...) \
    FBP_OF(tier, dY)->prelu_slope(m, n, stride, dY, __VA_ARGS__)
#define fbp_running_average(tier, n, average, ...) \
    FBP_OF(tier, average)->running_average(n, average, __VA_ARGS__)
#define fbp_embedding(tier, m, n, codes, ...) \
    FBP_OF(tier, codes)->embedding(m, n, codes, __VA_ARGS__)
#define fbp_embedding_backward(tier, m, n, stride, codes, ...) \
    FBP_OF(tier, codes)->embedding_backward(m, n, stride, codes, __VA_ARGS__)
#define fbp_periodic(tier, m, k, d, X, ...) FBP_OF(tier, X)->periodic(m, k, d, X, __VA_ARGS__)
#define fbp_periodic_backward(tier, m, k, d, first, stop, dZ, ...) \
    FBP_OF(tier, dZ)->periodic_backward(m, k, d, first, stop, dZ, __VA_ARGS__)
#define fbp_periodic_backward_input(tier, m, k, d, dZ, ...) \
    FBP_OF(tier, dZ)->periodic_backward_input(m, k, d, dZ, __VA_ARGS__)
#define fbp_piecewise_nodes(tier, k, d, starts, W, ...) \
    FBP_OF(tier, W)->piecewise_nodes(k, d, starts, W, __VA_ARGS__)
#define fbp_piecewise(tier, m, k, d, starts, X, ...) \
    FBP_OF(tier, X)->piecewise(m, k, d, starts, X, __VA_ARGS__)
#define fbp_piecewise_backward(tier, m, k, d, starts, first, stop, dZ, ...) \
    FBP_OF(tier, dZ)->piecewise_backward(m, k, d, starts, first, stop, dZ, __VA_ARGS__)
#define fbp_piecewise_backward_input(tier, m, k, d, starts, dZ, ...) \
    FBP_OF(tier, dZ)->piecewise_backward_input(m, k, d, starts, dZ, __VA_ARGS__)
#define fbp_repeat(tier, m, n, k, X, ...) FBP_OF(tier, X)->repeat(m, n, k, X, __VA_ARGS__)
#define fbp_sum_members(tier, m, n, k, X, ...) FBP_OF(tier, X)->sum_members(m, n, k, X, __VA_ARGS__)
#define fbp_penalize(tier, n, parameters, ...) \
    FBP_OF(tier, parameters)->penalize(n, parameters, __VA_ARGS__)
#define fbp_update(tier, which, n, parameters, ...) \
    FBP_OF(tier, parameters)->update[which](n, parameters, __VA_ARGS__)
#define fbp_descend_product(tier, product, W, ...) \
    FBP_OF(tier, W)->descend_product(product, W, __VA_ARGS__)
#define fbp_muon_direction(tier, n, G, ...) FBP_OF(tier, G)->muon_direction(n, G, __VA_ARGS__)
#define fbp_scale_to_unit(tier, n, X, Y, scale) FBP_OF(tier, X)->scale_to_unit(n, X, Y, scale)
#define fbp_newton_schulz(tier, m, n, stride, diagonal, X, Y) \
    FBP_OF(tier, X)->newton_schulz(m, n, stride, diagonal, X, Y)
#define fbp_transpose(tier, m, n, X, ...) FBP_OF(tier, X)->transpose(m, n, X, __VA_ARGS__)
#define fbp_sum_of_squares(tier, n, X) FBP_OF(tier, X)->sum_of_squares(n, X)
#define fbp_largest(tier, n, X) FBP_OF(tier, X)->largest(n, X)

/* Whether products of reduced precision run on AMX, or why not. */
enum fbp_amx { FBP_AMX_RUNS, FBP_AMX_NOT_BUILT, FBP_AMX_MISSING, FBP_AMX_REFUSED };
enum fbp_amx fbp_amx_status(void);

/* The i-th tier compiled in, the slowest first; NULL past the last. */
const fbp_tier *fbp_tier_at(int i);
#endif
