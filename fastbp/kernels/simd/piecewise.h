/* Piecewise linear embeddings of numbers.
 *
 * Feature f has the edges b_0 < ... < b_T of T bins and a row of W for each; t is x's bin, the
 * first open below and the last above, and e = (x - b_t) / (b_{t+1} - b_t).  Then
 *
 *   Z = ((b + W_0) + W_1 + ... + W_{t-1}) + e W_t,
 *
 * a chain of fused multiply-adds: those of the bins below x have the factor 1, those above the
 * factor 0.  All that comes before e W_t is the same for every x of a bin: `nodes`, the values at
 * the bins' left edges, has one row for each bin, as W.  The bins of feature f are the rows
 * starts[f] to starts[f + 1] of W, and its edges begin at starts[f] + f.
 */

static void piecewise_nodes(ptrdiff_t k, ptrdiff_t d, const int64_t *starts, const real *W,
                            const real *b, real *nodes)
{
    for (ptrdiff_t f = 0; f < k; f++) {
        for (ptrdiff_t j = 0; j < d; j += FBP_LANES) {
            vec sum = v_load_part(b + f * d + j, d - j, 0);
            for (ptrdiff_t t = starts[f]; t < starts[f + 1]; t++) {
                v_store_part(nodes + t * d + j, d - j, v_zero_below(sum, FBP_MIN_NORMAL));
                sum = sum + v_load_part(W + t * d + j, d - j, 0);
            }
        }
    }
}

/* How many of n ascending numbers are at most x. */
static inline ptrdiff_t count_at_most(ptrdiff_t n, const real *numbers, real x)
{
    const real *from = numbers;
    while (n > 1) {
        const ptrdiff_t half = n / 2;
        from += half * (from[half - 1] <= x); /* no branch depends on x */
        n -= half;
    }
    return from - numbers + (n > 0 && *from <= x);
}

/* The bin of each x, of a feature with n inner edges.  Comparing all edges with a vector of rows is
 * faster than a search for each row, unless there are very many. */
static inline void find_bins(ptrdiff_t n, const real *inner, const real *x, integer *bin)
{
    if (FBP_LANES > 1 && n <= 8 * FBP_LANES) {
        ivec count = v_isplat(0);
        const vec numbers = v_load(x);
        for (ptrdiff_t t = 0; t < n; t++) count = count - v_le(v_splat(inner[t]), numbers);
        memcpy(bin, &count, sizeof count);
    } else {
        for (int l = 0; l < FBP_LANES; l++) bin[l] = (integer)count_at_most(n, inner, x[l]);
    }
}

static void piecewise(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const int64_t *starts, const real *X,
                      const real *edges, const real *W, const real *nodes, real *Z, real *bins,
                      real *fractions)
{
    for (ptrdiff_t first = 0; first < m; first += FBP_LANES) {
        const ptrdiff_t rows = m - first < FBP_LANES ? m - first : FBP_LANES;
        for (ptrdiff_t f = 0; f < k; f++) {
            const real *edge = edges + starts[f] + f, *x = X + first * k + f;
            real number[FBP_LANES], left[FBP_LANES], right[FBP_LANES], fraction[FBP_LANES];
            integer bin[FBP_LANES];
            for (ptrdiff_t l = 0; l < FBP_LANES; l++) number[l] = x[(l < rows ? l : 0) * k];
            find_bins(starts[f + 1] - starts[f] - 1, edge + 1, number, bin);
            for (int l = 0; l < FBP_LANES; l++) left[l] = edge[bin[l]], right[l] = edge[bin[l] + 1];
            const vec low = v_load(left), width = v_load(right) - low;
            v_store(fraction, v_zero_below((v_load(number) - low) / width, FBP_MIN_NORMAL));
            for (ptrdiff_t l = 0; l < rows; l++) {
                const ptrdiff_t at = (first + l) * k + f, row = starts[f] + bin[l];
                const real *w = W + row * d, *node = nodes + row * d;
                const vec e = v_splat(fraction[l]);
                bins[at] = (real)bin[l];
                fractions[at] = fraction[l];
                for (ptrdiff_t j = 0; j < d; j += FBP_LANES) {
                    const vec slope = v_load_part(w + j, d - j, 0);
                    const vec z = v_fma(e, slope, v_load_part(node + j, d - j, 0));
                    v_store_part(Z + at * d + j, d - j, v_zero_below(z, FBP_MIN_NORMAL));
                }
            }
        }
    }
}

/* Up to this many bins are handled together: as many as lists of rows. */
#define BINS FBP_K_BLOCK

/* Add the part of some rows to `vectors` vectors of columns of dW, for the bins of one window, from
 * the last to the first; `above` is the sum of the rows of all bins above, and grows. */
INLINE void add_bins(ptrdiff_t n_bins, const int16_t *first, const int16_t *next, ptrdiff_t n,
                     const real *dZ, ptrdiff_t k, const real *fractions, ptrdiff_t d,
                     ptrdiff_t left, int vectors, real *dW, vec *above)
{
    for (ptrdiff_t t = n_bins - 1; t >= 0; t--) {
        vec inside[4], rows[4];
        for (int u = 0; u < vectors; u++) inside[u] = rows[u] = v_splat(0);
        for (int i = first[t]; i >= 0; i = next[i]) {
            const vec e = v_splat(fractions[i * k]);
            for (int u = 0; u < vectors; u++) {
                const ptrdiff_t at = u * FBP_LANES;
                const vec dz = v_load_part(dZ + i * n + at, left - at, 0);
                inside[u] = v_fma(e, dz, inside[u]);
                rows[u] = rows[u] + dz;
            }
        }
        for (int u = 0; u < vectors; u++) {
            const ptrdiff_t at = u * FBP_LANES;
            real *out = dW + t * d + at;
            const vec sum = inside[u] + above[u];
            v_store_part(out, left - at, v_load_part(out, left - at, 0) + sum);
            above[u] = above[u] + rows[u];
        }
    }
}

/* The gradients of the rows of W that are feature f's.
 *
 * dW_t is the sum of e dZ over the rows in bin t, a chain of fused multiply-adds, and of dZ over
 * the rows in the bins above: each bin's are added up in a chain, and the bins from the last down.
 * All of that is done in blocks of FBP_K_BLOCK rows, which are added in order. */
static void piecewise_backward_feature(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, ptrdiff_t n_bins,
                                       const real *dZ, const real *bins, const real *fractions,
                                       real *dW, int part)
{
    const ptrdiff_t n = k * d, last = (n_bins - 1) / BINS * BINS;
    if (!(part & FBP_CONTINUES)) memset(dW, 0, (size_t)(n_bins * d) * sizeof(real));
    for (ptrdiff_t start = 0; start < m; start += FBP_K_BLOCK) {
        const ptrdiff_t rows = m - start < FBP_K_BLOCK ? m - start : FBP_K_BLOCK;
        const real *bin = bins + start * k, *e = fractions + start * k, *dz = dZ + start * n;
        for (ptrdiff_t j = 0; j < d; j += 4 * FBP_LANES) {
            vec above[4] = {v_splat(0), v_splat(0), v_splat(0), v_splat(0)};
            for (ptrdiff_t low = last; low >= 0; low -= BINS) {
                const ptrdiff_t count = n_bins - low < BINS ? n_bins - low : BINS;
                int16_t first[BINS], next[FBP_K_BLOCK]; /* lists of rows, each ending with -1 */
                memset(first, -1, sizeof first);
                for (ptrdiff_t i = rows - 1; i >= 0; i--) {
                    const real t = bin[i * k] - (real)low;
                    if (!(t >= 0 && t < (real)count)) continue;
                    next[i] = first[(int)t];
                    first[(int)t] = (int16_t)i;
                }
                real *out = dW + low * d + j;
                const ptrdiff_t left = d - j;
                if (left <= FBP_LANES)
                    add_bins(count, first, next, n, dz + j, k, e, d, left, 1, out, above);
                else if (left <= 2 * FBP_LANES)
                    add_bins(count, first, next, n, dz + j, k, e, d, left, 2, out, above);
                else
                    add_bins(count, first, next, n, dz + j, k, e, d, left, 4, out, above);
            }
        }
    }
    for (ptrdiff_t j = 0; j < n_bins * d; j += FBP_LANES) {
        const vec sum = v_load_part(dW + j, n_bins * d - j, 0);
        v_store_part(dW + j, n_bins * d - j, finished(sum, part));
    }
}

/* For the features from `first` to `stop` of k. */
static void piecewise_backward(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const int64_t *starts,
                               ptrdiff_t first, ptrdiff_t stop, const real *dZ, const real *bins,
                               const real *fractions, real *dW, int part)
{
    for (ptrdiff_t f = first; f < stop; f++)
        piecewise_backward_feature(m, k, d, starts[f + 1] - starts[f], dZ + f * d, bins + f,
                                   fractions + f, dW + starts[f] * d, part);
}

/* dX = dZ W_t / (b_{t+1} - b_t), the product's sum in lanes; 0 where t is no bin. */
static void piecewise_backward_input(ptrdiff_t m, ptrdiff_t k, ptrdiff_t d, const int64_t *starts,
                                     const real *dZ, const real *bins, const real *edges,
                                     const real *W, real *dX)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t f = 0; f < k; f++) {
            const real t = bins[i * k + f];
            real dx = 0;
            if (t >= 0 && t < (real)(starts[f + 1] - starts[f])) {
                const ptrdiff_t row = starts[f] + (ptrdiff_t)t;
                const real *edge = edges + row + f;
                dx = row_dot(d, dZ + (i * k + f) * d, W + row * d) / (edge[1] - edge[0]);
            }
            v_store_part(dX + i * k + f, 1, v_zero_below(v_splat(dx), FBP_MIN_GRADIENT));
        }
    }
}
#undef BINS
