/* What Muon does to a matrix besides products (kernels/muon.pyx), and the update of the parameters
 * that are in none. */

/* AdamW: update_adam with its decay decoupled. */
static void update_muon(ptrdiff_t n, real *parameters, const real *gradients, real *const *state,
                        double learning_rate, int64_t step, const double *attributes)
{
    const double adamw[] = {attributes[0], attributes[1], attributes[2], attributes[3], 1, 0};
    update_adam(n, parameters, gradients, state, learning_rate, step, adamw);
}

/* B = momentum B + (1 - momentum) G
 * U = B, or with Nesterov's momentum U = momentum B + (1 - momentum) G */
static void muon_direction(ptrdiff_t n, const real *G, real *B, real *U, double momentum,
                           int nesterov)
{
    const vec keep = v_splat((real)momentum), rest = v_splat((real)(1.0 - momentum));
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec g = rest * v_load_part(G + i, n - i, 0);
        const vec b = v_zero_below(v_fma(keep, v_load_part(B + i, n - i, 0), g), FBP_MIN_NORMAL);
        v_store_part(B + i, n - i, b);
        v_store_part(U + i, n - i, nesterov ? v_fma(keep, b, g) : b);
    }
}

/* Y = scale X, 0 below FBP_MIN_ROOT, so that no square is subnormal; Y may be X. */
static void scale_to_unit(ptrdiff_t n, const real *X, real *Y, double scale)
{
    const vec factor = v_splat((real)scale);
    for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {
        const vec y = factor * v_load_part(X + i, n - i, 0);
        v_store_part(Y + i, n - i, v_zero_below(y, FBP_MIN_ROOT));
    }
}

/* Y = a I + b X + c Y, for some rows and columns of square matrices, rows `stride` apart; the
 * diagonal of the whole has column i + `diagonal` in row i. */
static void newton_schulz(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, ptrdiff_t diagonal,
                          const real *X, real *Y)
{
    const real a = (real)3.4445;
    const vec b = v_splat((real)-4.7750), c = v_splat((real)2.0315);
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *x = X + i * stride;
        real *y = Y + i * stride;
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
            const vec bx = b * v_load_part(x + j, n - j, 0);
            const vec sum = v_fma(c, v_load_part(y + j, n - j, 0), bx);
            v_store_part(y + j, n - j, v_zero_below(sum, FBP_MIN_NORMAL));
        }
        const ptrdiff_t at = i + diagonal;
        if (at >= 0 && at < n) y[at] = a + y[at];
    }
}

/* Y (n, m) = the transpose of X (m, n) */
static void transpose_matrix(ptrdiff_t m, ptrdiff_t n, const real *X, ptrdiff_t x_row, real *Y,
                             ptrdiff_t y_row)
{
    for (ptrdiff_t i = 0; i < m; i += FBP_LANES) {
        ptrdiff_t j = 0;
#if FBP_LANES > 1
        for (; m - i >= FBP_LANES && n - j >= FBP_LANES; j += FBP_LANES) {
            vec square[FBP_LANES];
#pragma GCC unroll 16
            for (int l = 0; l < FBP_LANES; l++) square[l] = v_load(X + (i + l) * x_row + j);
            transpose(square);
#pragma GCC unroll 16
            for (int l = 0; l < FBP_LANES; l++) v_store(Y + (j + l) * y_row + i, square[l]);
        }
#endif
        for (; j < n; j++)
            for (ptrdiff_t l = i; l < m && l < i + FBP_LANES; l++)
                Y[j * y_row + l] = X[l * x_row + j];
    }
}
