/* Periodic embeddings of numbers: each feature x becomes d columns,
 *
 *   Z = gamma * N + beta,  N = x, cos(2 pi t_1), ..., cos(2 pi t_{d-1}),  t_j = frequency_j x +
 * phase_j.
 *
 * The columns of all features lie side by side, and vectors run along them, across the borders of
 * features: d is often less than a vector holds.  Sums over rows are those of normalization.h:
 * chains over blocks of FBP_K_BLOCK rows, which are added in order.
 */

/* A vector of columns: which features they are of, and what holds for all rows. */
typedef struct {
    ptrdiff_t feature;    /* of the first lane */
    int features;         /* how many there are */
    ivec from[FBP_LANES]; /* the lanes of the u-th feature and those after it */
    ivec is_x;            /* the first columns of features */
    vec frequency, phase; /* 0 in those */
} periodic_columns;

/* The vector from column c on, of which `left` columns are used. */
static void load_columns(ptrdiff_t c, ptrdiff_t left, ptrdiff_t d, const real *frequencies,
                         const real *phases, periodic_columns *columns)
{
    real frequency[FBP_LANES], phase[FBP_LANES];
    integer is_x[FBP_LANES], of[FBP_LANES];
    ptrdiff_t feature = c / d, j = c % d;
    const real *omega = frequencies + feature * (d - 1), *phi = phases + feature * (d - 1);
    columns->feature = feature;
    int u = 0;
    for (ptrdiff_t l = 0; l < FBP_LANES; l++) {
        const int inside = l < left && j > 0;
        of[l] = u;
        is_x[l] = -(integer)(j == 0);
        frequency[l] = inside ? omega[j - 1] : 0;
        phase[l] = inside ? phi[j - 1] : 0;
        if (++j == d && l + 1 < left &&
            l + 1 < FBP_LANES) { /* lanes past the end stay with this one */
            j = 0, u++;
            omega += d - 1, phi += d - 1;
        }
    }
    columns->features = u + 1;
    ivec number;
    memcpy(&number, of, sizeof number);
    for (int i = 1; i <= u; i++) columns->from[i] = ~((number - v_isplat(i)) >> (FBP_BITS - 1));
    memcpy(&columns->is_x, is_x, sizeof is_x);
    columns->frequency = v_load(frequency);
    columns->phase = v_load(phase);
}

/* Each lane's feature, from a row of X. */
INLINE vec spread(const periodic_columns *columns, int features, const real *x)
{
    x += columns->feature;
    vec spread = v_splat(x[0]);
    for (int u = 1; u < features; u++) spread = v_select(columns->from[u], v_splat(x[u]), spread);
    return spread;
}

INLINE void periodic_rows(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n, ptrdiff_t left,
                          const periodic_columns *columns, int features, const real *X, vec gamma,
                          vec beta, real *Z, real *N)
{
    const vec frequency = columns->frequency, phase = columns->phase;
    const ivec is_x = columns->is_x;
    for (ptrdiff_t i = 0; i < m; i++) {
        const vec x = spread(columns, features, X + i * k);
        const vec cosine = v_cos_turns(v_turns(v_fma(frequency, x, phase)));
        const vec y = v_select(is_x, x, cosine);
        v_store_part(Z + i * n, left, v_zero_below(v_fma(gamma, y, beta), FBP_MIN_NORMAL));
        if (N) v_store_part(N + i * n, left, v_zero_below(y, FBP_MIN_NORMAL));
    }
}

/* N may be NULL. */
static void periodic(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const real *X, const real *frequencies,
                     const real *phases, const real *gamma, const real *beta, real *Z, real *N)
{
    const ptrdiff_t n = k * d;
    for (ptrdiff_t first = 0; first < m; first += FBP_K_BLOCK) {
        const ptrdiff_t rows = m - first < FBP_K_BLOCK ? m - first : FBP_K_BLOCK;
        for (ptrdiff_t c = 0; c < n; c += FBP_LANES) {
            const ptrdiff_t left = n - c;
            const real *x = X + first * k;
            real *z = Z + first * n + c, *y = N ? N + first * n + c : NULL;
            const vec g = v_load_part(gamma + c, left, 0), b = v_load_part(beta + c, left, 0);
            periodic_columns columns;
            load_columns(c, left, d, frequencies, phases, &columns);
            if (left < FBP_LANES)
                periodic_rows(rows, k, n, left, &columns, columns.features, x, g, b, z, y);
            else if (columns.features == 1)
                periodic_rows(rows, k, n, FBP_LANES, &columns, 1, x, g, b, z, y);
            else if (columns.features == 2)
                periodic_rows(rows, k, n, FBP_LANES, &columns, 2, x, g, b, z, y);
            else
                periodic_rows(rows, k, n, FBP_LANES, &columns, columns.features, x, g, b, z, y);
        }
    }
}

/* The sums that the gradients of a vector of columns need. */
typedef struct {
    vec beta, gamma, phase, frequency;
} periodic_sums;

INLINE periodic_sums periodic_sums_of(ptrdiff_t m, ptrdiff_t k, ptrdiff_t n, ptrdiff_t left,
                                      const periodic_columns *columns, int features, const real *dZ,
                                      const real *X, const periodic_sums *before)
{
    const vec frequency = columns->frequency, phase = columns->phase, zero = v_splat(0);
    const ivec is_x = columns->is_x;
    periodic_sums sum = {zero, zero, zero, zero};
    if (before) sum = *before;
    for (ptrdiff_t first = 0; first < m; first += FBP_K_BLOCK) {
        const ptrdiff_t stop = m - first < FBP_K_BLOCK ? m : first + FBP_K_BLOCK;
        periodic_sums chain = {zero, zero, zero, zero};
        for (ptrdiff_t i = first; i < stop; i++) {
            const vec x = spread(columns, features, X + i * k);
            const vec t = v_fma(frequency, x, phase);
            const turns a = v_turns(t);
            const vec y = v_select(is_x, x, v_cos_turns(a));
            const vec dz = v_load_part(dZ + i * n, left, 0);
            const vec slope = dz * v_sin_turns(a, t);
            chain.beta = chain.beta + dz;
            chain.gamma = v_fma(dz, y, chain.gamma);
            chain.phase = chain.phase + slope;
            chain.frequency = v_fma(slope, x, chain.frequency);
        }
        if (first == 0 && !before) {
            sum = chain;
        } else {
            sum.beta = sum.beta + chain.beta;
            sum.gamma = sum.gamma + chain.gamma;
            sum.phase = sum.phase + chain.phase;
            sum.frequency = sum.frequency + chain.frequency;
        }
    }
    return sum;
}

#define TWO_PI ((real)0x1.921fb54442d18p2)

/* The gradients of the columns from `first` to `stop`; dphase = -2 pi gamma sum(dZ sin(2 pi t)),
 * and dfrequency likewise, with another factor x. */
static void periodic_backward(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, ptrdiff_t first,
                              ptrdiff_t stop, const real *dZ, const real *X,
                              const real *frequencies, const real *phases, const real *gamma,
                              real *dgamma, real *dbeta, real *dfrequencies, real *dphases,
                              int part)
{
    const ptrdiff_t n = k * d;
    for (ptrdiff_t c = first; c < stop; c += FBP_LANES) {
        const ptrdiff_t left = stop - c;
        const real *dz = dZ + c;
        periodic_columns columns;
        load_columns(c, left, d, frequencies, phases, &columns);
        periodic_sums sum, so_far;
        const periodic_sums *before = NULL;
        real dfrequency[FBP_LANES] = {0}, dphase[FBP_LANES] = {0};
        if (part & FBP_CONTINUES) {
            for (ptrdiff_t l = 0; l < FBP_LANES && l < left; l++) {
                const ptrdiff_t feature = (c + l) / d, j = (c + l) % d;
                if (j == 0) continue;
                dfrequency[l] = dfrequencies[feature * (d - 1) + j - 1];
                dphase[l] = dphases[feature * (d - 1) + j - 1];
            }
            so_far =
                (periodic_sums){v_load_part(dbeta + c, left, 0), v_load_part(dgamma + c, left, 0),
                                v_load(dphase), v_load(dfrequency)};
            before = &so_far;
        }
        if (left < FBP_LANES)
            sum = periodic_sums_of(m, k, n, left, &columns, columns.features, dz, X, before);
        else if (columns.features == 1)
            sum = periodic_sums_of(m, k, n, FBP_LANES, &columns, 1, dz, X, before);
        else if (columns.features == 2)
            sum = periodic_sums_of(m, k, n, FBP_LANES, &columns, 2, dz, X, before);
        else
            sum = periodic_sums_of(m, k, n, FBP_LANES, &columns, columns.features, dz, X, before);
        v_store_part(dbeta + c, left, finished(sum.beta, part));
        v_store_part(dgamma + c, left, finished(sum.gamma, part));
        if (!(part & FBP_UNFINISHED)) {
            const vec factor = v_splat(-TWO_PI) * v_load_part(gamma + c, left, 0);
            sum.frequency = factor * sum.frequency;
            sum.phase = factor * sum.phase;
        }
        v_store(dfrequency, finished(sum.frequency, part));
        v_store(dphase, finished(sum.phase, part));
        for (ptrdiff_t l = 0; l < FBP_LANES && l < left; l++) {
            const ptrdiff_t feature = (c + l) / d, j = (c + l) % d;
            if (j == 0) continue;
            dfrequencies[feature * (d - 1) + j - 1] = dfrequency[l];
            dphases[feature * (d - 1) + j - 1] = dphase[l];
        }
    }
}

/* dX = dZ gamma of the first column - 2 pi sum(dZ gamma frequency sin(2 pi t)) of the others, the
 * sum in lanes. */
static void periodic_backward_input(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const real *dZ,
                                    const real *X, const real *frequencies, const real *phases,
                                    const real *gamma, real *dX)
{
    const ptrdiff_t p = d - 1;
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t f = 0; f < k; f++) {
            const real *dz = dZ + (i * k + f) * d, *g = gamma + f * d;
            const real *omega = frequencies + f * p, *phi = phases + f * p;
            const vec x = v_splat(X[i * k + f]);
            vec lanes[VECTORS];
            clear(lanes);
            for (ptrdiff_t j = 0; j < p; j += FBP_LANES) {
                const vec frequency = v_load_part(omega + j, p - j, 0);
                const vec t = v_fma(frequency, x, v_load_part(phi + j, p - j, 0));
                const vec weight = v_load_part(g + 1 + j, p - j, 0) * frequency;
                /* Past the last column -0 times 0 is added, whatever x is. */
                real slopes[FBP_LANES];
                v_store(slopes, weight * v_sin_turns(v_turns(t), t));
                const vec slope = v_load_part(slopes, p - j, 0);
                const vec each = v_load_part(dz + 1 + j, p - j, (real)-0.0);
                lanes[LANE(j)] = v_fma(each, slope, lanes[LANE(j)]);
            }
            const vec sum = v_splat(-TWO_PI) * v_splat(add_lanes(lanes));
            const vec dx = v_fma(v_splat(dz[0]), v_splat(g[0]), sum);
            v_store_part(dX + i * k + f, 1, v_zero_below(dx, FBP_MIN_GRADIENT));
        }
    }
}
#undef TWO_PI
