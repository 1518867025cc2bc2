/* The matrix product behind the three dense operations, and column sums. */

#if FBP_LANES == 1

/* One element at a time, as the numerics contract says it: blocks of FBP_K_BLOCK,
 * each a chain of fused multiply-adds in ascending p, added in order.  The first
 * chain starts at the bias, the others at 0. */
static void matmul(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *A, ptrdiff_t a_row,
                   ptrdiff_t a_col, const real *B, ptrdiff_t b_row, ptrdiff_t b_col,
                   const real *bias, int gradient, real *C)
{
    const real least = gradient ? FBP_LEAST_GRADIENT : FBP_LEAST;
    for (ptrdiff_t i = 0; i < m; i++) {
        for (ptrdiff_t j = 0; j < n; j++) {
            real sum = bias ? bias[j] : 0;
            for (ptrdiff_t start = 0; start < k; start += FBP_K_BLOCK) {
                const ptrdiff_t stop = k - start < FBP_K_BLOCK ? k : start + FBP_K_BLOCK;
                real chain = start == 0 ? sum : 0;
                for (ptrdiff_t p = start; p < stop; p++)
                    chain = v_fma(A[i * a_row + p * a_col], B[p * b_row + j * b_col], chain);
                sum = start == 0 ? chain : sum + chain;
            }
            C[i * n + j] = v_zero_below(sum, least);
        }
    }
}

#else
#error "matmul: this tier's register tile is not written yet"
#endif

/* sums[j] = A[0, j] + A[1, j] + ..., with the blocks of a dot product; it is the
 * gradient of a bias. */
static void column_sums(ptrdiff_t m, ptrdiff_t n, const real *A, real *sums)
{
    for (ptrdiff_t j = 0; j < n; j += FBP_LANES) {
        vec sum = v_splat(0);
        for (ptrdiff_t start = 0; start < m; start += FBP_K_BLOCK) {
            const ptrdiff_t stop = m - start < FBP_K_BLOCK ? m : start + FBP_K_BLOCK;
            vec chain = v_splat(0);
            for (ptrdiff_t i = start; i < stop; i++)
                chain = chain + v_load_part(A + i * n + j, n - j, 0);
            sum = start == 0 ? chain : sum + chain;
        }
        v_store_part(sums + j, n - j, v_zero_below(sum, FBP_LEAST_GRADIENT));
    }
}
