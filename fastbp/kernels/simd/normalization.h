/* Statistics of rows and of columns, normalization by them, and other operations on columns.
 *
 * A sum along a row runs in the lanes of lanes.h.  A sum down a column is a chain over the rows in
 * ascending order, cut into blocks of FBP_K_BLOCK rows, each a chain from 0, that are added in
 * order: the same bits as a matrix product with a row of ones or of a transposed matrix.
 */

/* 1 / sqrt(variance + epsilon).  A float cannot hold every epsilon, and an epsilon of 0 would make
 * 0 * infinity of equal numbers. */
INLINE vec inverse_root(vec variance, double epsilon)
{
    const real least = (real)epsilon < FBP_MIN_NORMAL ? FBP_MIN_NORMAL : (real)epsilon;
    return v_splat(1) / v_sqrt(variance + v_splat(least));
}

static inline real least_result(int gradient)
{
    return gradient ? FBP_MIN_GRADIENT : FBP_MIN_NORMAL;
}

static void add(ptrdiff_t n, const real *X, const real *Y, real *Z, int gradient)
{
    const real least = least_result(gradient);
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec z = v_load_part(X + i, n - i, 0) + v_load_part(Y + i, n - i, 0);
        v_store_part(Z + i, n - i, v_zero_below(z, least));
    }
}

/* average = keep average + (1 - keep) X */
static void running_average(ptrdiff_t n, real *average, const real *X, double keep, double weight)
{
    const vec kept = v_splat((real)keep), rest = v_splat((real)weight);
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec x = rest * v_load_part(X + i, n - i, 0);
        const vec y = v_fma(kept, v_load_part(average + i, n - i, 0), x);
        v_store_part(average + i, n - i, v_zero_below(y, FBP_MIN_NORMAL));
    }
}

static void inverse_sqrt(ptrdiff_t n, const real *X, real *Y, double epsilon)
{
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec y = inverse_root(v_load_part(X + i, n - i, 0), epsilon);
        v_store_part(Y + i, n - i, v_zero_below(y, FBP_MIN_NORMAL));
    }
}

/* Rows */

/* Sums along a row, in lanes: of its elements, of their squared distances from a mean, of products
 * with another row.  Whole rounds of the lanes come first, so that they stay in registers. */
INLINE real row_sum(ptrdiff_t n, const real *x)
{
    vec lanes[VECTORS];
    clear(lanes);
    ptrdiff_t j = 0;
    for (; j + FBP_SUM_LANES <= n; j += FBP_SUM_LANES) {
#pragma GCC unroll 16
        for (int u = 0; u < VECTORS; u++) lanes[u] = lanes[u] + v_load(x + j + u * FBP_LANES);
    }
    for (; j < n; j += FBP_LANES) lanes[LANE(j)] = lanes[LANE(j)] + v_load_part(x + j, n - j, 0);
    return add_lanes(lanes);
}

INLINE real row_squares(ptrdiff_t n, const real *x, vec mean)
{
    vec lanes[VECTORS];
    clear(lanes);
    ptrdiff_t j = 0;
    for (; j + FBP_SUM_LANES <= n; j += FBP_SUM_LANES) {
#pragma GCC unroll 16
        for (int u = 0; u < VECTORS; u++) {
            const vec d = v_load(x + j + u * FBP_LANES) - mean;
            lanes[u] = v_fma(d, d, lanes[u]);
        }
    }
    for (; j < n; j += FBP_LANES) {
        /* Past the last column the distance is 0, whatever the mean is. */
        real distances[FBP_LANES];
        v_store(distances, v_load_part(x + j, n - j, 0) - mean);
        const vec d = v_load_part(distances, n - j, 0);
        lanes[LANE(j)] = v_fma(d, d, lanes[LANE(j)]);
    }
    return add_lanes(lanes);
}

INLINE real row_dot(ptrdiff_t n, const real *x, const real *y)
{
    vec lanes[VECTORS];
    clear(lanes);
    ptrdiff_t j = 0;
    for (; j + FBP_SUM_LANES <= n; j += FBP_SUM_LANES) {
#pragma GCC unroll 16
        for (int u = 0; u < VECTORS; u++)
            lanes[u] =
                v_fma(v_load(x + j + u * FBP_LANES), v_load(y + j + u * FBP_LANES), lanes[u]);
    }
    for (; j < n; j += FBP_LANES) {
        /* Past the last column -0 times 0 is added, which leaves even a lane of -0 as it is. */
        const vec d = v_load_part(x + j, n - j, (real)-0.0);
        lanes[LANE(j)] = v_fma(d, v_load_part(y + j, n - j, 0), lanes[LANE(j)]);
    }
    return add_lanes(lanes);
}

static void normalize_rows(ptrdiff_t m, ptrdiff_t n, const real *X, real *N, real *rstd,
                           double epsilon, int center)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = X + i * n;
        real *y = N + i * n;
        const vec mean = v_splat(center ? row_sum(n, x) / (real)n : 0);
        const vec inverse = inverse_root(v_splat(row_squares(n, x, mean) / (real)n), epsilon);
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec d = v_load_part(x + j, n - j, 0) - mean;
            v_store_part(y + j, n - j, v_zero_below(d * inverse, FBP_MIN_NORMAL));
        }
        v_store_part(rstd + i, 1, inverse);
    }
}

/* dX = rstd (dN - mean(dN) - N mean(dN N)), without the first mean unless `center` */
static void normalize_rows_backward(ptrdiff_t m, ptrdiff_t n, const real *dN, const real *N,
                                    const real *rstd, real *dX, int center)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *dy = dN + i * n, *y = N + i * n;
        const vec mean = v_splat(center ? row_sum(n, dy) / (real)n : 0);
        const vec slope = v_splat(-(row_dot(n, dy, y) / (real)n)), scale = v_splat(rstd[i]);
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec d = v_load_part(dy + j, n - j, 0) - mean;
            const vec r = scale * v_fma(v_load_part(y + j, n - j, 0), slope, d);
            v_store_part(dX + i * n + j, n - j, v_zero_below(r, FBP_MIN_GRADIENT));
        }
    }
}

/* Columns */

/* Vectors of columns whose chains run side by side, so that none waits for itself. */
#define SIDE_BY_SIDE 4
#define STRIPE (SIDE_BY_SIDE * FBP_LANES)

/* A link adds one term to a chain. */
typedef vec link_t(vec chain, vec a, vec b, vec center);

static inline vec link_sum(vec chain, vec a, vec b, vec center)
{
    return (void)b, (void)center, chain + a;
}
static inline vec link_square(vec chain, vec a, vec b, vec center)
{
    const vec d = a - center;
    return (void)b, v_fma(d, d, chain);
}
static inline vec link_dot(vec chain, vec a, vec b, vec center)
{
    return (void)center, v_fma(a, b, chain);
}
/* a min(b, 0); a NaN in b gives NaN. */
static inline vec link_negative(vec chain, vec a, vec b, vec center)
{
    const vec zero = v_splat(0);
    return (void)center, v_fma(a, v_select(v_lt(zero, b), zero, b), chain);
}

/* The sums of the first `columns` columns of a stripe; B may be NULL where no link reads it.
 * They are added to `before`, the sums of the rows before, unless that is NULL. */
INLINE void sum_of_columns(ptrdiff_t m, ptrdiff_t columns, ptrdiff_t stride, const real *A,
                           const real *B, const vec *center, link_t *const add_link,
                           const real *before, vec sum[SIDE_BY_SIDE])
{
    for (int u = 0; u < SIDE_BY_SIDE; u++)
        sum[u] =
            before ? v_load_part(before + u * FBP_LANES, columns - u * FBP_LANES, 0) : v_splat(0);
    for (ptrdiff_t first = 0; first < m; first += FBP_K_BLOCK) {
        const ptrdiff_t stop = m - first < FBP_K_BLOCK ? m : first + FBP_K_BLOCK;
        vec chain[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) chain[u] = v_splat(0);
        for (ptrdiff_t i = first; i < stop; i++) {
            const real *a = A + i * stride;
#pragma GCC unroll 4
            for (int u = 0; u < SIDE_BY_SIDE; u++) {
                const ptrdiff_t at = u * FBP_LANES;
                const vec x = v_load_part(a + at, columns - at, 0);
                const vec y = B ? v_load_part(B + i * stride + at, columns - at, 0) : x;
                chain[u] = add_link(chain[u], x, y, center[u]);
            }
        }
        for (int u = 0; u < SIDE_BY_SIDE; u++)
            sum[u] = first == 0 && !before ? chain[u] : sum[u] + chain[u];
    }
}

/* One function for each link; whole stripes, the usual case, need no count of columns. */
#define SUM_OF_COLUMNS(name, B, link)                                              \
    static void name(ptrdiff_t m, ptrdiff_t left, ptrdiff_t stride, const real *A, \
                     const real *second, const vec *center, const real *before,    \
                     vec sum[SIDE_BY_SIDE])                                        \
    {                                                                              \
        if (left >= STRIPE)                                                        \
            sum_of_columns(m, STRIPE, stride, A, B, center, link, before, sum);    \
        else                                                                       \
            sum_of_columns(m, left, stride, A, B, center, link, before, sum);      \
        (void)second;                                                              \
    }
SUM_OF_COLUMNS(stripe_sum, NULL, link_sum)
SUM_OF_COLUMNS(stripe_squares, NULL, link_square)
SUM_OF_COLUMNS(stripe_dot, second, link_dot)
SUM_OF_COLUMNS(stripe_negative_dot, second, link_negative)
#undef SUM_OF_COLUMNS

/* How many of n columns a vector from column j on holds; 0 or less for none. */
#define STORE_STRIPE(out, j, n, u, x) \
    v_store_part((out) + (j) + (u) * FBP_LANES, (n) - (j) - (u) * FBP_LANES, x)

static void column_moments(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *X, real *mean,
                           real *variance)
{
    const vec rows = v_splat((real)m);
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec sum[SIDE_BY_SIDE], center[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) center[u] = v_splat(0);
        stripe_sum(m, n - j, stride, X + j, NULL, center, NULL, sum);
        for (int u = 0; u < SIDE_BY_SIDE; u++)
            center[u] = v_zero_below(sum[u] / rows, FBP_MIN_NORMAL);
        stripe_squares(m, n - j, stride, X + j, NULL, center, NULL, sum);
        for (int u = 0; u < SIDE_BY_SIDE; u++) {
            STORE_STRIPE(mean, j, n, u, center[u]);
            STORE_STRIPE(variance, j, n, u, v_zero_below(sum[u] / rows, FBP_MIN_NORMAL));
        }
    }
}

/* The mean of `rows` rows from their sum */
static void column_means(ptrdiff_t n, const real *sum, double rows, real *mean)
{
    for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
        const vec x = v_load_part(sum + j, n - j, 0) / v_splat((real)rows);
        v_store_part(mean + j, n - j, v_zero_below(x, FBP_MIN_NORMAL));
    }
}

/* The column sums of (X - mean)^2, which are not finished */
static void column_squares(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *X,
                           const real *mean, real *out, int part)
{
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec sum[SIDE_BY_SIDE], center[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++)
            center[u] = v_load_part(mean + j + u * FBP_LANES, n - j - u * FBP_LANES, 0);
        stripe_squares(m, n - j, stride, X + j, NULL, center, part & FBP_CONTINUES ? out + j : NULL,
                       sum);
        for (int u = 0; u < SIDE_BY_SIDE; u++) STORE_STRIPE(out, j, n, u, sum[u]);
    }
}

static void normalize_columns(ptrdiff_t m, ptrdiff_t n, const real *X, const real *mean,
                              const real *rstd, real *N)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec d = v_load_part(X + i * n + j, n - j, 0) - v_load_part(mean + j, n - j, 0);
            const vec y = d * v_load_part(rstd + j, n - j, 0);
            v_store_part(N + i * n + j, n - j, v_zero_below(y, FBP_MIN_NORMAL));
        }
    }
}

/* dX = rstd (dN - mean + N slope) for the columns of a stripe from column j on */
INLINE void subtract_means(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t j, const real *dN,
                           const real *N, const real *rstd, const vec mean[SIDE_BY_SIDE],
                           const vec slope[SIDE_BY_SIDE], real *dX)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        for (int u = 0; u < SIDE_BY_SIDE; u++) {
            const ptrdiff_t column = j + u * FBP_LANES, left = n - column;
            const ptrdiff_t at = i * stride + column;
            if (left <= 0) break;
            const vec d = v_load_part(dN + at, left, 0) - mean[u];
            const vec r = v_fma(v_load_part(N + at, left, 0), slope[u], d);
            const vec scale = v_load_part(rstd + column, left, 0);
            v_store_part(dX + at, left, v_zero_below(scale * r, FBP_MIN_GRADIENT));
        }
    }
}

/* dX = rstd (dN - mean(dN) - N mean(dN N)) */
static void normalize_columns_backward(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dN,
                                       const real *N, const real *rstd, real *dX)
{
    const vec rows = v_splat((real)m);
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec mean[SIDE_BY_SIDE], slope[SIDE_BY_SIDE], none[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) none[u] = v_splat(0);
        stripe_sum(m, n - j, stride, dN + j, NULL, none, NULL, mean);
        stripe_dot(m, n - j, stride, dN + j, N + j, none, NULL, slope);
        for (int u = 0; u < SIDE_BY_SIDE; u++) {
            mean[u] = mean[u] / rows;
            slope[u] = -(slope[u] / rows);
        }
        subtract_means(m, n, stride, j, dN, N, rstd, mean, slope, dX);
    }
}

/* The same for some rows, from the sums of dN and of dN N over all `rows` rows */
static void normalize_columns_from_sums(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dN,
                                        const real *N, const real *rstd, double rows,
                                        const real *sums, const real *dots, real *dX)
{
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec mean[SIDE_BY_SIDE], slope[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) {
            const ptrdiff_t at = j + u * FBP_LANES;
            mean[u] = v_load_part(sums + at, n - at, 0) / v_splat((real)rows);
            slope[u] = -(v_load_part(dots + at, n - at, 0) / v_splat((real)rows));
        }
        subtract_means(m, n, stride, j, dN, N, rstd, mean, slope, dX);
    }
}

/* Y = X gamma + beta, or X gamma where beta is NULL */
static void scale_columns(ptrdiff_t m, ptrdiff_t n, const real *X, const real *gamma,
                          const real *beta, real *Y, int gradient)
{
    const real least = least_result(gradient);
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec x = v_load_part(X + i * n + j, n - j, 0);
            const vec g = v_load_part(gamma + j, n - j, 0);
            const vec y = beta ? v_fma(x, g, v_load_part(beta + j, n - j, 0)) : x * g;
            v_store_part(Y + i * n + j, n - j, v_zero_below(y, least));
        }
    }
}

/* What a sum over rows becomes once it is finished */
static inline vec finished(vec sum, int part)
{
    return part & FBP_UNFINISHED ? sum : v_zero_below(sum, FBP_MIN_GRADIENT);
}

/* The column sums of A B, or of A where B is NULL */
static void column_dots(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *A, const real *B,
                        real *out, int part)
{
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec sum[SIDE_BY_SIDE], none[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) none[u] = v_splat(0);
        const real *before = part & FBP_CONTINUES ? out + j : NULL;
        if (B)
            stripe_dot(m, n - j, stride, A + j, B + j, none, before, sum);
        else
            stripe_sum(m, n - j, stride, A + j, NULL, none, before, sum);
        for (int u = 0; u < SIDE_BY_SIDE; u++) STORE_STRIPE(out, j, n, u, finished(sum[u], part));
    }
}

/* The column sums of dY X and of dY, as those of column_dots, in one pass */
static void scale_shift_backward(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dY,
                                 const real *X, real *dgamma, real *dbeta, int part)
{
    const int continues = part & FBP_CONTINUES;
    for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
        const ptrdiff_t left = n - j;
        vec dots = continues ? v_load_part(dgamma + j, left, 0) : v_splat(0);
        vec sums = continues ? v_load_part(dbeta + j, left, 0) : v_splat(0);
        for (ptrdiff_t first = 0; first < m; first += FBP_K_BLOCK) {
            const ptrdiff_t stop = m - first < FBP_K_BLOCK ? m : first + FBP_K_BLOCK;
            vec dot = v_splat(0), sum = v_splat(0);
            for (ptrdiff_t i = first; i < stop; i++) {
                const vec d = v_load_part(dY + i * stride + j, left, 0);
                dot = v_fma(d, v_load_part(X + i * stride + j, left, 0), dot);
                sum = sum + d;
            }
            dots = first == 0 && !continues ? dot : dots + dot;
            sums = first == 0 && !continues ? sum : sums + sum;
        }
        v_store_part(dgamma + j, left, finished(dots, part));
        v_store_part(dbeta + j, left, finished(sums, part));
    }
}

/* As leaky_relu in elementwise.h, with a separate slope for each column. */
static void prelu(ptrdiff_t m, ptrdiff_t n, const real *X, const real *slope, real *Y)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec x = v_load_part(X + i * n + j, n - j, 0);
            const vec y = f_leaky_relu(x, v_load_part(slope + j, n - j, 0));
            v_store_part(Y + i * n + j, n - j, v_zero_below(y, FBP_MIN_NORMAL));
        }
    }
}

static void prelu_backward(ptrdiff_t m, ptrdiff_t n, const real *dY, const real *X,
                           const real *slope, real *dX)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec d = v_load_part(dY + i * n + j, n - j, 0);
            const vec x = v_load_part(X + i * n + j, n - j, 0);
            const vec r = d_leaky_relu(d, x, v_load_part(slope + j, n - j, 0));
            v_store_part(dX + i * n + j, n - j, v_zero_below(r, FBP_MIN_GRADIENT));
        }
    }
}

/* The column sums of dY min(X, 0) */
static void prelu_slope(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *dY, const real *X,
                        real *dslope, int part)
{
    for (ptrdiff_t j = 0; j < n; j += STRIPE) {
        vec sum[SIDE_BY_SIDE], none[SIDE_BY_SIDE];
        for (int u = 0; u < SIDE_BY_SIDE; u++) none[u] = v_splat(0);
        stripe_negative_dot(m, n - j, stride, dY + j, X + j, none,
                            part & FBP_CONTINUES ? dslope + j : NULL, sum);
        for (int u = 0; u < SIDE_BY_SIDE; u++)
            STORE_STRIPE(dslope, j, n, u, finished(sum[u], part));
    }
}

#undef SIDE_BY_SIDE
#undef STRIPE
#undef STORE_STRIPE
