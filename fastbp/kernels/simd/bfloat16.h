/* What products of reduced precision compute, and what all tiers share of them.
 *
 * FBP_MEDIUM: the operands are rounded to bfloat16 (to nearest, ties to even; what is then below
 * FBP_MIN_ROOT counts as 0).  k is cut into blocks of FBP_BF16_BLOCK, padded with zeros.  A block
 * is two chains of fused multiply-adds in float32, each from 0 and in ascending order: one over
 * even k, one over odd k; block = even + odd.  Blocks are added in order to a sum that starts at 0.
 *
 * FBP_HIGH: an operand is hi + lo, with hi = bfloat16(x) and lo = bfloat16(x - hi), which is 0
 * where hi is not finite.  For each block of k, the products lo.hi, hi.lo and hi.hi are made as
 * above and added, in this order, to the one sum.
 *
 * That is what TDPBF16PS, an instruction of Intel's AMX, computes.  A product of two rounded
 * numbers is exact in float32 and a multiple of 2^-126, and so is every sum: none is subnormal.
 *
 * A sum over a minibatch's rows, dW, starts again from 0 every FBP_K_BLOCK rows, and the sums of
 * these are added in order: they may be computed apart (FBP_CONTINUES).  Bias and ReLU come after
 * the sum.
 */

/* x, rounded; NaN stays NaN. */
INLINE vec v_bfloat16(vec x)
{
#if FBP_LANES == 16
    const __m512i bits = (__m512i)x, lowest = _mm512_set1_epi32(1);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), lowest);
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const mask is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    return v_zero_below((vec)_mm512_mask_and_epi32(bits, is_number, up, _mm512_set1_epi32(~0xffff)),
                        FBP_MIN_ROOT);
#else
    const ivec is_number = v_le(v_abs(x), v_splat(INFINITY));
    const ivec bits = v_bits(v_select(is_number, x, v_splat(0)));
    const ivec to_even = v_isplat(0x7fff) + ((bits >> 16) & v_isplat(1));
    const vec rounded = v_from_bits((bits + to_even) & v_isplat(~0xffff));
    return v_zero_below(v_select(is_number, rounded, x), FBP_MIN_ROOT);
#endif
}

/* Term 0 of x is hi, term 1 is lo. */
INLINE vec v_term(vec x, const int term)
{
    const vec hi = v_bfloat16(x);
    if (term == 0) return hi;
    return v_select(v_lt(v_abs(hi), v_splat(INFINITY)), v_bfloat16(x - hi), v_splat(0));
}

/* The terms of A and of B in each of the products of a block, for FBP_HIGH; FBP_MEDIUM has only
 * the last. */
static const int bf16_terms[3][2] = {{1, 0}, {0, 1}, {0, 0}};

INLINE int first_product(int precision) { return precision == FBP_HIGH ? 0 : 2; }

/* Where a sum over k from `p` on starts again from 0. */
INLINE ptrdiff_t end_of_sum(const fbp_gemm *c, ptrdiff_t p)
{
    return c->over_rows ? least_of(c->k, p + FBP_K_BLOCK) : c->k;
}

/* Complete `rows` by `columns` sums, rows `stride` apart, and store them to C from (i, j) on.
 * `whole`: whether the columns fill their vectors. */
INLINE void finish_rows(const fbp_gemm *c, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows,
                        ptrdiff_t columns, const float *sums, ptrdiff_t stride, const int whole)
{
    const float least = c->part & FBP_UNFINISHED ? 0
                        : c->gradient            ? FBP_MIN_GRADIENT
                                                 : FBP_MIN_NORMAL;
    const float *bias = c->bias ? (const float *)c->bias + j : NULL;
    const ptrdiff_t c_row = c->c_row, start = i * c_row + j;
    const float *relu_mask = c->relu_mask ? (const float *)c->relu_mask + start : NULL;
    const int relu = c->relu;
    float *C = (float *)c->C + start;
    for (ptrdiff_t r = 0; r < rows; r++) {
        for (ptrdiff_t u = 0; u < columns; u += FBP_LANES) {
            const ptrdiff_t part = whole ? FBP_LANES : columns - u;
            const vec shift = bias ? v_load_part(bias + u, part, 0) : v_splat(0);
            /* No sum is -0, so to add 0 changes none. */
            vec sum = v_zero_below(v_load_part(sums + r * stride + u, part, 0) + shift, least);
            if (relu) sum = v_relu(sum);
            if (relu_mask)
                sum = v_relu_backward(sum, v_load_part(relu_mask + r * c_row + u, part, 0));
            v_store_part(C + r * c_row + u, part, sum);
        }
    }
}

INLINE void finish(const fbp_gemm *c, ptrdiff_t i, ptrdiff_t j, ptrdiff_t rows, ptrdiff_t columns,
                   const float *sums, ptrdiff_t stride)
{
    if (columns % FBP_LANES == 0)
        finish_rows(c, i, j, rows, columns, sums, stride, 1);
    else
        finish_rows(c, i, j, rows, columns, sums, stride, 0);
}
