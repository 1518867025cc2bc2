/* Optimizer steps over flat arrays, the L2 penalty, and the norm that clipping needs. */

INLINE vec penalized(vec p, vec g, real strength)
{
    return v_zero_below(v_fma(v_splat(strength), p, g), FBP_MIN_GRADIENT);
}

/* gradient += strength * parameter, the gradient of strength / 2 times the sum of squares */
static void penalize(ptrdiff_t n, const real *parameters, real *gradients, real strength)
{
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec p = v_load_part(parameters + i, n - i, 0);
        const vec g = v_load_part(gradients + i, n - i, 0);
        v_store_part(gradients + i, n - i, penalized(p, g, strength));
    }
}

/* g = gradient + weight_decay * parameter
 * without momentum:  parameter -= learning_rate g
 * with momentum:     velocity = momentum velocity - learning_rate g
 *                    parameter += velocity
 *    or (Nesterov):  parameter += momentum velocity - learning_rate g
 */
typedef struct {
    vec rate, momentum, l2;
    int nesterov;
} sgd_t;

/* `left` elements, or as many as a vector holds. */
INLINE void sgd_vector(const sgd_t *s, real *parameters, const real *gradients, real *velocity,
                       ptrdiff_t left)
{
    vec p = v_load_part(parameters, left, 0);
    const vec g = v_fma(s->l2, p, v_load_part(gradients, left, 0));
    if (velocity) {
        const vec descent = s->rate * g;
        const vec v = v_fma(s->momentum, v_load_part(velocity, left, 0), -descent);
        p = p + (s->nesterov ? v_fma(s->momentum, v, -descent) : v);
        v_store_part(velocity, left, v_zero_below(v, FBP_MIN_NORMAL));
    } else {
        p = v_fma(-s->rate, g, p);
    }
    v_store_part(parameters, left, v_zero_below(p, FBP_MIN_NORMAL));
}

static void update_sgd(ptrdiff_t n, real *parameters, const real *gradients, real *const *state,
                       double learning_rate, int64_t step, const double *attributes)
{
    const sgd_t s = {.rate = v_splat((real)learning_rate), .l2 = v_splat((real)attributes[0])};
    ptrdiff_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES)
        sgd_vector(&s, parameters + i, gradients + i, NULL, FBP_LANES);
    if (i < n) sgd_vector(&s, parameters + i, gradients + i, NULL, n - i);
    (void)state, (void)step;
}

#define ROW_OF_VECTORS 4

/* Element (i, j) of the product and of W, and those after it: `vectors` of them, or `left`.
 * `penalizes` tells whether the strength is not 0. */
INLINE void descend(const sgd_t *s, const fbp_gemm *c, ptrdiff_t i, ptrdiff_t j, real *W,
                    real strength, const int penalizes, const int vectors, ptrdiff_t left)
{
    const real *a = (const real *)c->A + i * c->a_row, *b = (const real *)c->B + j;
    real *w = W + i * c->c_row + j;
    vec g[ROW_OF_VECTORS];
#pragma GCC unroll 4
    for (int u = 0; u < vectors; u++) g[u] = v_splat(0);
    for (ptrdiff_t p = 0; p < c->k; p++) {
        const vec a_p = v_splat(a[p * c->a_col]);
#pragma GCC unroll 4
        for (int u = 0; u < vectors; u++)
            g[u] = v_fma(a_p, v_load_part(b + p * c->b_row + u * FBP_LANES, left, 0), g[u]);
    }
#pragma GCC unroll 4
    for (int u = 0; u < vectors; u++) {
        vec w_u = v_load_part(w + u * FBP_LANES, left, 0);
        g[u] = v_zero_below(g[u], FBP_MIN_GRADIENT);
        if (penalizes) g[u] = penalized(w_u, g[u], strength);
        w_u = v_fma(-s->rate, v_fma(s->l2, w_u, g[u]), w_u);
        v_store_part(w + u * FBP_LANES, left, v_zero_below(w_u, FBP_MIN_NORMAL));
    }
}

/* B's rows are taken so many columns at a time that they stay in the level-1 cache. */
INLINE void descend_rows(const sgd_t *s, const fbp_gemm *c, real *W, real strength,
                         const int penalizes)
{
    enum { BLOCK = 512, STEP = ROW_OF_VECTORS * FBP_LANES };
    for (ptrdiff_t first = 0; first < c->n; first += BLOCK) {
        const ptrdiff_t stop = least_of(c->n, first + BLOCK);
        for (ptrdiff_t i = 0; i < c->m; i++) {
            ptrdiff_t j = first;
            for (; j + STEP <= stop; j += STEP)
                descend(s, c, i, j, W, strength, penalizes, ROW_OF_VECTORS, FBP_LANES);
            for (; j < stop; j += FBP_LANES)
                descend(s, c, i, j, W, strength, penalizes, 1, stop - j);
        }
    }
}

/* matmul into gradients, penalize and update_sgd in one, for a product of a few rows of B: memory
 * sees no gradient. */
static void descend_product(const fbp_gemm *c, real *W, real strength, double learning_rate,
                            const double *attributes)
{
    const sgd_t s = {.rate = v_splat((real)learning_rate), .l2 = v_splat((real)attributes[0])};
    if (strength == 0)
        descend_rows(&s, c, W, 0, 0);
    else
        descend_rows(&s, c, W, strength, 1);
}

static void update_momentum(ptrdiff_t n, real *parameters, const real *gradients,
                            real *const *state, double learning_rate, int64_t step,
                            const double *attributes)
{
    const sgd_t s = {v_splat((real)learning_rate), v_splat((real)attributes[1]),
                     v_splat((real)attributes[0]), attributes[2] != 0};
    real *velocity = state[0];
    ptrdiff_t i = 0;
    for (; i + FBP_LANES <= n; i += FBP_LANES)
        sgd_vector(&s, parameters + i, gradients + i, velocity + i, FBP_LANES);
    if (i < n) sgd_vector(&s, parameters + i, gradients + i, velocity + i, n - i);
    (void)step;
}

/* base^exponent by squaring: C's pow differs in the last bit between systems. */
static double power(double base, int64_t exponent)
{
    double result = 1;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) result *= base;
        base *= base;
    }
    return result;
}

/* g = gradient + l2 * parameter
 * m = beta1 m + (1 - beta1) g
 * v = beta2 v + (1 - beta2) g^2
 * parameter = keep * parameter - rate m / (correction sqrt(v) + epsilon)
 * where g counts as 0 below FBP_MIN_ROOT, so that g^2 is not subnormal.
 */
static void update_adam(ptrdiff_t n, real *parameters, const real *gradients, real *const *state,
                        double learning_rate, int64_t step, const double *attributes)
{
    const double weight_decay = attributes[0], b1 = attributes[1], b2 = attributes[2];
    const int decoupled = attributes[4] != 0, epsilon_hat = attributes[5] != 0;
    const double root = 1.0 / sqrt(1.0 - power(b2, step));
    const vec rate = v_splat((real)(learning_rate / (1.0 - power(b1, step))));
    const vec beta1 = v_splat((real)b1), rest1 = v_splat((real)(1.0 - b1));
    const vec beta2 = v_splat((real)b2), rest2 = v_splat((real)(1.0 - b2));
    const vec correction = v_splat((real)root);
    /* Added before the correction, epsilon is corrected along with sqrt(v).  A float cannot hold
     * every epsilon, and an epsilon of 0 would make 0 / 0 where all gradients were 0. */
    const real eps = (real)(epsilon_hat ? attributes[3] * root : attributes[3]);
    const vec epsilon = v_splat(eps < FBP_MIN_NORMAL ? FBP_MIN_NORMAL : eps);
    const vec l2 = v_splat((real)(decoupled ? 0.0 : weight_decay));
    const vec keep = v_splat((real)(decoupled ? 1.0 - learning_rate * weight_decay : 1.0));
    real *m = state[0], *v = state[1];
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec p = v_load_part(parameters + i, n - i, 0);
        const vec g =
            v_zero_below(v_fma(l2, p, v_load_part(gradients + i, n - i, 0)), FBP_MIN_ROOT);
        const vec m_new = v_fma(beta1, v_load_part(m + i, n - i, 0), rest1 * g);
        const vec v_new = v_fma(beta2, v_load_part(v + i, n - i, 0), rest2 * (g * g));
        const vec scale = v_fma(correction, v_sqrt(v_new), epsilon);
        const vec p_new = v_fma(-rate, m_new / scale, keep * p);
        v_store_part(m + i, n - i, v_zero_below(m_new, FBP_MIN_NORMAL));
        v_store_part(v + i, n - i, v_zero_below(v_new, FBP_MIN_NORMAL));
        v_store_part(parameters + i, n - i, v_zero_below(p_new, FBP_MIN_NORMAL));
    }
}

/* parameter = keep * parameter - rate * sign(beta1 m + (1 - beta1) gradient)
 * m = beta2 m + (1 - beta2) gradient
 * with keep = 1 - rate * weight_decay; the sign of 0 is 0. */
static void update_lion(ptrdiff_t n, real *parameters, const real *gradients, real *const *state,
                        double learning_rate, int64_t step, const double *attributes)
{
    const vec keep = v_splat((real)(1.0 - learning_rate * attributes[0]));
    const vec beta1 = v_splat((real)attributes[1]), rest1 = v_splat((real)(1.0 - attributes[1]));
    const vec beta2 = v_splat((real)attributes[2]), rest2 = v_splat((real)(1.0 - attributes[2]));
    const vec rate = v_splat((real)learning_rate), zero = v_splat(0);
    real *m = state[0];
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec p = v_load_part(parameters + i, n - i, 0);
        const vec g = v_load_part(gradients + i, n - i, 0);
        const vec before = v_load_part(m + i, n - i, 0);
        const vec u = v_fma(beta1, before, rest1 * g);
        const vec step_size = v_select(v_lt(zero, u), rate, v_select(v_lt(u, zero), -rate, zero));
        const vec m_new = v_fma(beta2, before, rest2 * g);
        v_store_part(m + i, n - i, v_zero_below(m_new, FBP_MIN_NORMAL));
        v_store_part(parameters + i, n - i,
                     v_zero_below(v_fma(keep, p, -step_size), FBP_MIN_NORMAL));
    }
    (void)step;
}

/* d = gradient / (sqrt(v / (1 - beta2^step)) + epsilon) + weight_decay * parameter
 * z = z - rate d
 * x = x + average (z - x)
 * parameter = z + beta1 (x - z)
 * with v as in Adam.  Gradients are taken at the parameters; x, the weighted mean of all z, is the
 * result of the training.  Before the first step z and x are the parameters, and v is 0.
 *
 * `average` is the last step's share in the mean, rate^2 / (the sum of rate^2 over the steps),
 * which the caller keeps: 1 at the first step, where x becomes z, and 1 / step while the rate stays
 * as it is.  The difference is scaled, rather than x and z, so that a weight whose gradient is
 * always 0 does not move.
 *
 * A. Defazio, X. Yang, H. Mehta, K. Mishchenko, A. Khaled, A. Cutkosky, "The road less scheduled",
 * NeurIPS 2024, algorithm 1. */
static void update_schedule_free_adamw(ptrdiff_t n, real *parameters, const real *gradients,
                                       real *const *state, double learning_rate, int64_t step,
                                       const double *attributes)
{
    const vec decay = v_splat((real)attributes[0]), beta1 = v_splat((real)attributes[1]);
    const vec beta2 = v_splat((real)attributes[2]), rest2 = v_splat((real)(1.0 - attributes[2]));
    const vec correction = v_splat((real)(1.0 / sqrt(1.0 - power(attributes[2], step))));
    const real eps = (real)attributes[3];
    const vec epsilon = v_splat(eps < FBP_MIN_NORMAL ? FBP_MIN_NORMAL : eps);
    const double weight = attributes[4] > 0 ? attributes[4] : 1.0 / (double)step;
    const vec average = v_splat((real)weight), rate = v_splat((real)learning_rate);
    const ivec is_first = v_isplat(weight == 1 ? -1 : 0);
    real *z = state[0], *v = state[1], *x = state[2];
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec y = v_load_part(parameters + i, n - i, 0);
        const vec g = v_zero_below(v_load_part(gradients + i, n - i, 0), FBP_MIN_ROOT);
        const vec before = v_load_part(x + i, n - i, 0);
        const vec v_new = v_fma(beta2, v_load_part(v + i, n - i, 0), rest2 * (g * g));
        const vec d = v_fma(decay, y, g / v_fma(correction, v_sqrt(v_new), epsilon));
        const vec z_new =
            v_zero_below(v_fma(-rate, d, v_load_part(z + i, n - i, 0)), FBP_MIN_NORMAL);
        const vec mean = v_select(is_first, z_new, v_fma(average, z_new - before, before));
        const vec x_new = v_zero_below(mean, FBP_MIN_NORMAL);
        const vec y_new = v_fma(beta1, x_new - z_new, z_new);
        v_store_part(z + i, n - i, z_new);
        v_store_part(v + i, n - i, v_zero_below(v_new, FBP_MIN_NORMAL));
        v_store_part(x + i, n - i, x_new);
        v_store_part(parameters + i, n - i, v_zero_below(y_new, FBP_MIN_NORMAL));
    }
}

/* In float64 whatever the dtype, in the lanes of a row's sum. */
static double sum_of_squares(ptrdiff_t n, const real *X)
{
    enum { WIDES = FBP_SUM_LANES / WIDE_LANES };
    double lanes[FBP_SUM_LANES] = {0};
    real rest[FBP_SUM_LANES] = {0};
    wide sum[WIDES];
    memcpy(sum, lanes, sizeof sum);
    for (ptrdiff_t i = 0; i < n; i += FBP_SUM_LANES) {
        const real *x = X + i;
        if (n - i < FBP_SUM_LANES) {
            memcpy(rest, x, (size_t)(n - i) * sizeof(real));
            x = rest;
        }
        for (int u = 0; u < WIDES; u++) {
            const wide x_u = w_load(x + u * WIDE_LANES);
            sum[u] = w_fma(x_u, x_u, sum[u]);
        }
    }
    memcpy(lanes, sum, sizeof lanes);
    for (int width = FBP_SUM_LANES / 2; width > 0; width /= 2)
        for (int l = 0; l < width; l++) lanes[l] = lanes[l] + lanes[l + width];
    return lanes[0];
}

/* The largest |x|, or NaN where one is infinite or NaN: 0 times that is NaN, which persists. */
static double largest(ptrdiff_t n, const real *X)
{
    enum { SIDE_BY_SIDE = 4 };
    vec most[SIDE_BY_SIDE], zero[SIDE_BY_SIDE];
    for (int u = 0; u < SIDE_BY_SIDE; u++) most[u] = zero[u] = v_splat(0);
    for (ptrdiff_t i = 0; i < n; i += SIDE_BY_SIDE * FBP_LANES) {
#pragma GCC unroll 4
        for (int u = 0; u < SIDE_BY_SIDE; u++) {
            const ptrdiff_t at = i + u * FBP_LANES;
            const vec x = v_load_part(X + at, n - at, 0);
            most[u] = v_max(most[u], v_abs(x));
            zero[u] = v_fma(x, v_splat(0), zero[u]);
        }
    }
    for (int u = 1; u < SIDE_BY_SIDE; u++) {
        most[0] = v_max(most[0], most[u]);
        zero[0] = zero[0] + zero[u];
    }
    return (double)(v_fold(most[0], v_max) + v_fold(zero[0], v_add));
}
