/* Losses: each row's value and its gradient in the same pass. */

/* Which number is returned for a row with a NaN does not matter, as its loss is NaN. */
static inline real row_max(ptrdiff_t n, const real *z)
{
    vec largest = v_load_part(z, n, (real)-INFINITY);
    for (ptrdiff_t j = FBP_LANES; j < n; j += FBP_LANES)
        largest = v_max(largest, v_load_part(z + j, n - j, (real)-INFINITY));
    return v_fold(largest, v_max);
}

/* e[j] = exp(z[j] - largest) and their sum; the largest term is 1, so nothing overflows.  e, which
 * has room for `room` elements, may be z. */
static inline real shifted_exp(ptrdiff_t n, const real *z, real largest, real *e, ptrdiff_t room)
{
    vec lanes[VECTORS];
    clear(lanes);
    for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
        const vec x = v_load_part(z + j, n - j, (real)-INFINITY);
        const vec y = v_exp(x - v_splat(largest));
        lanes[LANE(j)] = lanes[LANE(j)] + y;
        v_store_part(e + j, room - j, y);
    }
    return add_lanes(lanes);
}

static void softmax(ptrdiff_t m, ptrdiff_t n, const real *Z, real *P)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *z = Z + i * n;
        real *p = P + i * n;
        const real sum = shifted_exp(n, z, row_max(n, z), p, n);
        const vec inverse = v_splat((real)1 / sum);
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES)
            v_store_part(p + j, n - j,
                         v_zero_below(v_load_part(p + j, n - j, 0) * inverse, FBP_MIN_NORMAL));
    }
}

/* sum over j of t[j] (z[j] - largest); t NULL stands for 1 everywhere. */
static inline real shifted_dot(ptrdiff_t n, const real *t, const real *z, real largest)
{
    vec lanes[VECTORS];
    clear(lanes);
    for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
        const vec x = v_load_part(z + j, n - j, largest) - v_splat(largest);
        const vec y = t ? v_load_part(t + j, n - j, 0) : v_splat(1);
        lanes[LANE(j)] = v_fma(y, x, lanes[LANE(j)]);
    }
    return add_lanes(lanes);
}

/* A row of weight 0 has the loss and gradient 0, even where they would be NaN. */
static inline int left_out(const real *weights, ptrdiff_t i, ptrdiff_t n, real *dz,
                           double *row_losses)
{
    if (!weights || weights[i] != 0) return 0;
    memset(dz, 0, (size_t)n * sizeof(real));
    row_losses[i] = 0;
    return 1;
}

/* With p = softmax(z), n classes, smoothing s and targets t = (1 - s) y + s / n:
 *
 *   loss = log sum_j exp(z[j]) - sum_j t[j] z[j],   dz = scale (p - t)
 *
 * where y is a row of Y, or 1 at the label and 0 elsewhere.  Every z is taken
 * less the row's largest.  dZ may be Z: a row of z is read before it is written.
 *
 * A row of few columns would leave most lanes of a vector idle, so such rows lie side by side in
 * the lanes, and columns are added up as the lanes of a row's sum are.
 */
#define NARROW (FBP_LANES / 2)
#if FBP_LANES > 1
/* The sum of n columns: a lane of the result is what `add_lanes` returns of a row. */
static inline vec add_columns(ptrdiff_t n, vec columns[NARROW])
{
    for (ptrdiff_t half = FBP_SUM_LANES / 2; half > 0; half /= 2)
        for (ptrdiff_t j = 0; j < half && j < n; j++)
            columns[j] = columns[j] + (j + half < n ? columns[j + half] : v_splat(0));
    return columns[0];
}

static void softmax_cross_entropy_of_narrow_rows(ptrdiff_t m, ptrdiff_t n, const real *Z,
                                                 const real *Y, const int64_t *labels,
                                                 const real *weights, double scale, real smoothing,
                                                 real cap, real *dZ, double *row_losses)
{
    const vec keep = v_splat((real)1 - smoothing), spread = v_splat(smoothing / (real)n);
    for (ptrdiff_t first = 0; first < m; first += FBP_LANES) {
        const ptrdiff_t rows = least_of(m - first, FBP_LANES);
        real z[NARROW][FBP_LANES] = {{0}}, y[NARROW][FBP_LANES] = {{0}};
        real row_scale[FBP_LANES] = {0}, loss[FBP_LANES];
        for (ptrdiff_t r = 0; r < rows; r++) {
            const ptrdiff_t i = first + r;
            for (ptrdiff_t j = 0; j < n; j++) z[j][r] = Z[i * n + j];
            if (labels) y[labels[i]][r] = 1;
            for (ptrdiff_t j = 0; Y && j < n; j++) y[j][r] = Y[i * n + j];
            row_scale[r] = (real)(weights ? scale * (double)weights[i] : scale);
        }
        vec largest = v_load(z[0]), e[NARROW], terms[NARROW] = {v_splat(0)};
        for (ptrdiff_t j = 1; j < n; j++) largest = v_max(largest, v_load(z[j]));
        for (ptrdiff_t j = 0; j < n; j++) {
            const vec x = v_load(z[j]) - largest;
            v_store(z[j], x);
            e[j] = v_exp(x);
        }
        vec score;
        if (labels) { /* not a sum, in which 0 times minus infinity would be NaN */
            real at_label[FBP_LANES] = {0};
            for (ptrdiff_t r = 0; r < rows; r++) at_label[r] = z[labels[first + r]][r];
            score = v_load(at_label);
        } else {
            for (ptrdiff_t j = 0; j < n; j++)
                terms[j] = v_fma(v_load(y[j]), v_load(z[j]), v_splat(0));
            score = add_columns(n, terms);
        }
        if (smoothing > 0) {
            for (ptrdiff_t j = 0; j < n; j++)
                terms[j] = v_fma(v_splat(1), v_load(z[j]), v_splat(0));
            score = keep * score + spread * add_columns(n, terms);
        }
        for (ptrdiff_t j = 0; j < n; j++) terms[j] = e[j];
        const vec sum = add_columns(n, terms), inverse = v_splat(1) / sum;
        const vec value = v_log(sum) - score, most = v_splat(cap);
        v_store(loss, v_select(v_lt(most, value), most, value)); /* a NaN stays one */
        for (ptrdiff_t j = 0; j < n; j++) {
            const vec t = v_fma(keep, v_load(y[j]), spread);
            v_store(z[j], v_zero_below(v_load(row_scale) * (e[j] * inverse - t), FBP_MIN_GRADIENT));
        }
        for (ptrdiff_t r = 0; r < rows; r++) {
            const ptrdiff_t i = first + r;
            if (left_out(weights, i, n, dZ + i * n, row_losses)) continue;
            for (ptrdiff_t j = 0; j < n; j++) dZ[i * n + j] = z[j][r];
            row_losses[i] = (double)loss[r];
        }
    }
}
#endif

#define ROWS 16 /* rows whose logarithms are computed together */
static void softmax_cross_entropy(ptrdiff_t m, ptrdiff_t n, const real *Z, const real *Y,
                                  const int64_t *labels, const real *weights, double scale,
                                  const real *parameters, real cap, real *dZ, double *row_losses)
{
    const real smoothing = parameters[0];
#if FBP_LANES > 1
    if (n <= NARROW) {
        softmax_cross_entropy_of_narrow_rows(m, n, Z, Y, labels, weights, scale, smoothing, cap, dZ,
                                             row_losses);
        return;
    }
#endif
    const real keep = (real)1 - smoothing, spread = smoothing / (real)n;
    for (ptrdiff_t first = 0; first < m; first += ROWS) {
        const ptrdiff_t stop = m - first < ROWS ? m : first + ROWS;
        real target_score[ROWS], sum[ROWS], log_sum[ROWS], inverse[ROWS];
        real e_short[ROWS][FBP_SUM_LANES]; /* a short row's, where whole vectors may go */
        const int is_short = n <= FBP_SUM_LANES;
        for (int r = 0; r < ROWS; r++) sum[r] = 1;
        for (ptrdiff_t i = first; i < stop; i++) {
            const real *z = Z + i * n;
            if (weights && weights[i] == 0) continue;
            const real largest = row_max(n, z);
            real score = labels ? z[labels[i]] - largest : shifted_dot(n, Y + i * n, z, largest);
            if (smoothing > 0) score = keep * score + spread * shifted_dot(n, NULL, z, largest);
            target_score[i - first] = score;
            real *e = is_short ? e_short[i - first] : dZ + i * n;
            sum[i - first] = shifted_exp(n, z, largest, e, is_short ? FBP_SUM_LANES : n);
        }
        for (int r = 0; r < ROWS; r += FBP_LANES) {
            const vec s = v_load(sum + r);
            v_store(log_sum + r, v_log(s));
            v_store(inverse + r, v_splat(1) / s);
        }
        for (ptrdiff_t i = first; i < stop; i++) {
            real *dz = dZ + i * n;
            if (left_out(weights, i, n, dz, row_losses)) continue;
            const real loss = log_sum[i - first] - target_score[i - first];
            row_losses[i] = (double)(cap < loss ? cap : loss); /* a NaN stays one */
            const real row_scale = (real)(weights ? scale * (double)weights[i] : scale);
            const vec inverse_sum = v_splat(inverse[i - first]);
            const real *e = is_short ? e_short[i - first] : dz;
            const ptrdiff_t room = is_short ? FBP_SUM_LANES : n;
            const real label_p = labels ? e[labels[i]] * inverse[i - first] : 0;
            for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
                const vec y = labels ? v_splat(0) : v_load_part(Y + i * n + j, n - j, 0);
                const vec t = v_fma(v_splat(keep), y, v_splat(spread));
                const vec p = v_load_part(e + j, room - j, 0) * inverse_sum;
                v_store_part(dz + j, n - j,
                             v_zero_below(v_splat(row_scale) * (p - t), FBP_MIN_GRADIENT));
            }
            if (labels) {
                const real d = row_scale * (label_p - (keep + spread));
                dz[labels[i]] = d < FBP_MIN_GRADIENT && -FBP_MIN_GRADIENT < d ? 0 : d;
            }
        }
    }
}
#undef ROWS
#undef NARROW

/* The other losses are a mean over the row of a function of z and y alone: its value,
 * and its slope, the derivative with respect to z. */

/* log(1 + e^z) - y z, written so that nothing overflows or cancels:
 * z ((z > 0) - y) + log(1 + e^-|z|) */
static inline void sigmoid_element(vec z, vec y, vec unused, vec *value, vec *slope)
{
    (void)unused;
    const vec side = v_select(v_lt(v_splat(0), z), v_splat(1), v_splat(0));
    *value = v_fma(z, side - y, v_log1p(v_exp(-v_abs(z))));
    *slope = v_sigmoid(z) - y;
}

static inline void squared_element(vec z, vec y, vec unused, vec *value, vec *slope)
{
    (void)unused;
    const vec r = z - y;
    *value = r * r;
    *slope = r + r;
}

/* |r|, whose slope is the sign of r: 0 at 0, NaN at NaN */
static inline void absolute_element(vec z, vec y, vec unused, vec *value, vec *slope)
{
    (void)unused;
    const vec r = z - y, zero = v_splat(0);
    *value = v_abs(r);
    *slope = v_select(v_lt(zero, r), v_splat(1), v_select(v_lt(r, zero), v_splat(-1), r));
}

/* r^2 / 2 where |r| <= delta, delta (|r| - delta / 2) beyond */
static inline void huber_element(vec z, vec y, vec delta, vec *value, vec *slope)
{
    const vec r = z - y, size = v_abs(r), half = v_splat((real)0.5);
    const ivec beyond = v_lt(delta, size);
    *value = v_select(beyond, delta * v_fma(-half, delta, size), half * r * r);
    *slope = v_select(beyond, v_select(v_lt(r, v_splat(0)), -delta, delta), r);
}

/* e^z - y - y (z - log y): half the Poisson deviance of y counted and e^z expected */
static inline void poisson_element(vec z, vec y, vec unused, vec *value, vec *slope)
{
    (void)unused;
    const vec rate = v_exp(z), zero = v_splat(0);
    const vec log_y = v_select(v_lt(zero, y), v_log(y), zero);
    *value = v_fma(-y, v_splat(1) + (z - log_y), rate);
    *slope = rate - y;
}

/* max(-q r, (1 - q) r) with r = z - y, of slope 0 at 0 and NaN at NaN */
static inline void pinball_element(vec z, vec y, vec q, vec *value, vec *slope)
{
    const vec r = z - y, zero = v_splat(0), above = v_splat(1) - q;
    const ivec is_above = v_lt(zero, r);
    *value = v_abs(r) * v_select(is_above, above, q);
    *slope = v_select(is_above, above, v_select(v_lt(r, zero), -q, r));
}

/* `parameter` is that of the outputs from j on. */
/* `idle`, as z with y = 0, has the value 0 exactly: it fills up the last vector. */
#define ROW_MEAN_LOSS_WITH(name, element, idle, parameter)                           \
    static void name(ptrdiff_t m, ptrdiff_t n, const real *Z, const real *Y,         \
                     const int64_t *labels, const real *weights, double scale,       \
                     const real *parameters, real cap, real *dZ, double *row_losses) \
    {                                                                                \
        const vec first_parameter = v_splat(parameters[0]);                          \
        (void)labels, (void)first_parameter;                                         \
        for (ptrdiff_t i = 0; i < m; i++) {                                          \
            if (left_out(weights, i, n, dZ + i * n, row_losses)) continue;           \
            const double weighted = weights ? scale * (double)weights[i] : scale;    \
            const vec row_scale = v_splat((real)(weighted / (double)n));             \
            vec lanes[VECTORS];                                                      \
            clear(lanes);                                                            \
            for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {                           \
                const vec z = v_load_part(Z + i * n + j, n - j, (real)(idle));       \
                const vec y = v_load_part(Y + i * n + j, n - j, 0);                  \
                vec value, slope;                                                    \
                element(z, y, parameter, &value, &slope);                            \
                value = v_select(v_lt(v_splat(cap), value), v_splat(cap), value);    \
                lanes[LANE(j)] = lanes[LANE(j)] + value;                             \
                v_store_part(dZ + i * n + j, n - j,                                  \
                             v_zero_below(row_scale * slope, FBP_MIN_GRADIENT));     \
            }                                                                        \
            row_losses[i] = (double)add_lanes(lanes) / (double)n;                    \
        }                                                                            \
    }

#define ROW_MEAN_LOSS(name, element, idle) ROW_MEAN_LOSS_WITH(name, element, idle, first_parameter)

ROW_MEAN_LOSS(sigmoid_cross_entropy, sigmoid_element, -10000)
ROW_MEAN_LOSS(mean_squared_error, squared_element, 0)
ROW_MEAN_LOSS(mean_absolute_error, absolute_element, 0)
ROW_MEAN_LOSS(huber, huber_element, 0)
ROW_MEAN_LOSS(poisson_deviance, poisson_element, -10000)
ROW_MEAN_LOSS_WITH(pinball_loss, pinball_element, 0, v_load_part(parameters + j, n - j, 0))

#undef ROW_MEAN_LOSS_WITH
#undef ROW_MEAN_LOSS

/* The metric of a classifier: right[i] is 1 where the largest score of row i is the one at
 * labels[i], and the first of several, else 0.  As in NumPy, a NaN is larger than any number. */
static void largest_at_label(ptrdiff_t m, ptrdiff_t n, const real *Z, const int64_t *labels,
                             unsigned char *right)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *z = Z + i * n;
        const int64_t label = labels[i];
        right[i] = 0;
        if (label < 0 || label >= n) continue;
        if (z[label] != z[label]) {
            ptrdiff_t j = 0;
            while (j < label && z[j] == z[j]) j++;
            right[i] = j == label;
            continue;
        }
        const vec score = v_splat(z[label]);
        vec wrong = v_splat(0); /* 0 or 1 */
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec x = v_load_part(z + j, n - j, (real)-INFINITY);
            wrong = v_select(v_le(x, score), wrong, v_splat(1));
        }
        for (ptrdiff_t j = 0; j < label; j += FBP_LANES) {
            const vec x = v_load_part(z + j, label - j, (real)-INFINITY);
            wrong = v_select(v_lt(x, score), wrong, v_splat(1));
        }
        right[i] = v_fold(wrong, v_max) == 0;
    }
}
