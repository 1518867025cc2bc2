/* Columns that belong to the members of an ensemble: one member's after the other's. */

/* Y[i, t n + j] = factor X[i, j] for each of k members t */
static void repeat_columns(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *X, double factor,
                           real *Y, int gradient)
{
    const real least = least_result(gradient);
    const vec scale = v_splat((real)factor);
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = X + i * n;
        for (ptrdiff_t t = 0; t < k; t++) {
            real *y = Y + (i * k + t) * n;
            for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
                v_store_part(y + j, n - j,
                             v_zero_below(scale * v_load_part(x + j, n - j, 0), least));
            }
        }
    }
}

/* Y[i, j] = factor (X[i, j] + X[i, n + j] + ...), added in the order of the k members */
static void sum_members(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *X, double factor,
                        real *Y, int gradient)
{
    const real least = least_result(gradient);
    const vec scale = v_splat((real)factor);
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = X + i * k * n;
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            vec sum = v_load_part(x + j, n - j, 0);
            for (ptrdiff_t t = 1; t < k; t++) sum = sum + v_load_part(x + t * n + j, n - j, 0);
            v_store_part(Y + i * n + j, n - j, v_zero_below(scale * sum, least));
        }
    }
}
