/* What an exported network needs besides the kernels: one row at a time, any processor.
 *
 * Written with the operations of kernels/simd/vectors.h, and read as those headers are: see
 * c_sources.py. */

/* y = x W + b for a row x of k numbers; b may be NULL.
 *
 * Blocks of FBP_K_BLOCK, each a chain of fused multiply-adds in ascending p, added in order.  The
 * first chain starts at b and is summed up in y, the others at 0, some columns at a time. */
static void dense(ptrdiff_t k, ptrdiff_t n, const real *restrict x, const real *restrict W,
                  const real *restrict b, real *restrict y)
{
    const ptrdiff_t first = k < FBP_K_BLOCK ? k : FBP_K_BLOCK;
    for (ptrdiff_t j = 0; j < n; j++) y[j] = b ? b[j] : 0;
    for (ptrdiff_t p = 0; p < first; p++) {
        const real a = x[p];
        for (ptrdiff_t j = 0; j < n; j++) y[j] = v_fma(a, W[p * n + j], y[j]);
    }
    for (ptrdiff_t start = first; start < k; start += FBP_K_BLOCK) {
        const ptrdiff_t stop = k - start < FBP_K_BLOCK ? k : start + FBP_K_BLOCK;
        for (ptrdiff_t from = 0; from < n; from += 64) {
            const ptrdiff_t columns = n - from < 64 ? n - from : 64;
            real chain[64];
            for (ptrdiff_t j = 0; j < columns; j++) chain[j] = 0;
            for (ptrdiff_t p = start; p < stop; p++) {
                const real a = x[p];
                for (ptrdiff_t j = 0; j < columns; j++)
                    chain[j] = v_fma(a, W[p * n + from + j], chain[j]);
            }
            for (ptrdiff_t j = 0; j < columns; j++) y[from + j] = y[from + j] + chain[j];
        }
    }
    for (ptrdiff_t j = 0; j < n; j++) y[j] = v_zero_below(y[j], FBP_MIN_NORMAL);
}

/* The row of a table that a code selects; NaN where the code is not one. */
static void embedding(ptrdiff_t n_categories, ptrdiff_t n, real code, const real *table, real *y)
{
    const int known = code >= 0 && code < (real)n_categories;
    const real *row = table + (known ? (ptrdiff_t)code : 0) * n;
    for (ptrdiff_t j = 0; j < n; j++) y[j] = known ? v_zero_below(row[j], FBP_MIN_NORMAL) : NAN;
}

/* y = gamma (x, cos(2 pi t_1), cos(2 pi t_2), ...) + beta, d columns for each of k features, with
 * t_j = frequency_j x + phase_j. */
static void periodic_row(ptrdiff_t k, ptrdiff_t d, const real *x, const real *frequencies,
                         const real *phases, const real *gamma, const real *beta, real *y)
{
    for (ptrdiff_t i = 0; i < k * d; i++) {
        const ptrdiff_t f = i / d, wave = i - f - 1; /* each feature has d - 1 waves */
        real n = x[f];
        if (i % d > 0) n = v_cos_turns(v_turns(v_fma(frequencies[wave], x[f], phases[wave])));
        y[i] = v_zero_below(v_fma(gamma[i], n, beta[i]), FBP_MIN_NORMAL);
    }
}

/* What NumPy's interp gives for n ascending numbers and the values there. */
static real interpolate(ptrdiff_t n, const real *numbers, const real *values, real x)
{
    const ptrdiff_t i = count_at_most(n, numbers, x) - 1;
    if (x != x) return x;
    if (i < 0) return values[0];
    if (i == n - 1 || numbers[i] == x) return values[i];
    const real slope = (values[i + 1] - values[i]) / (numbers[i + 1] - numbers[i]);
    const real above = slope * (x - numbers[i]);
    return above + values[i];
}

/* Coefficients of AS 241 (M. J. Wichura, "The percentage points of the normal distribution",
 * Applied Statistics 37, 1988), the constant first: near the centre, and in the tails. */
static const real centre_num[] = {
    (real)3.3871328727963666080e0, (real)1.3314166789178437745e2, (real)1.9715909503065514427e3,
    (real)1.3731693765509461125e4, (real)4.5921953931549871457e4, (real)6.7265770927008700853e4,
    (real)3.3430575583588128105e4, (real)2.5090809287301226727e3,
};
static const real centre_den[] = {
    1,
    (real)4.2313330701600911252e1,
    (real)6.8718700749205790830e2,
    (real)5.3941960214247511077e3,
    (real)2.1213794301586595867e4,
    (real)3.9307895800092710610e4,
    (real)2.8729085735721942674e4,
    (real)5.2264952788528545610e3,
};
static const real tail_num[] = {
    (real)1.42343711074968357734e0,  (real)4.63033784615654529590e0,
    (real)5.76949722146069140550e0,  (real)3.64784832476320460504e0,
    (real)1.27045825245236838258e0,  (real)2.41780725177450611770e-1,
    (real)2.27238449892691845833e-2, (real)7.74545014278341407640e-4,
};
static const real tail_den[] = {
    1,
    (real)2.05319162663775882187e0,
    (real)1.67638483018380384940e0,
    (real)6.89767334985100004550e-1,
    (real)1.48103976427480074590e-1,
    (real)1.51986665636164571966e-2,
    (real)5.47593808499534494600e-4,
    (real)1.05075007164441684324e-9,
};
static const real far_num[] = {
    (real)6.65790464350110377720e0,  (real)5.46378491116411436990e0,
    (real)1.78482653991729133580e0,  (real)2.96560571828504891230e-1,
    (real)2.65321895265761230930e-2, (real)1.24266094738807843860e-3,
    (real)2.71155556874348757815e-5, (real)2.01033439929228813265e-7,
};
static const real far_den[] = {
    1,
    (real)5.99832206555887937690e-1,
    (real)1.36929880922735805310e-1,
    (real)1.48753612908506148525e-2,
    (real)7.86869131145613259100e-4,
    (real)1.84631831751005468180e-5,
    (real)1.42151175831644588870e-7,
    (real)2.04426310338993978564e-15,
};

/* The p-quantile of the standard normal distribution, between low and high; 0 where p is NaN. */
static real normal_quantile(real p, real low, real high)
{
    const real q = p - (real)0.5;
    real z;
    if (p != p) return 0;
    if (v_abs(q) <= (real)0.425) {
        const real r = (real)0.180625 - q * q;
        z = q * (POLY(r, centre_num) / POLY(r, centre_den));
    } else {
        const real tail = q < 0 ? p : 1 - p;
        const real r = tail > 0 ? v_sqrt(-v_log(tail)) : 27;
        z = r <= 5 ? POLY(r - (real)1.6, tail_num) / POLY(r - (real)1.6, tail_den)
                   : POLY(r - 5, far_num) / POLY(r - 5, far_den);
        if (q < 0) z = -z;
    }
    return z < low ? low : z > high ? high : z;
}
