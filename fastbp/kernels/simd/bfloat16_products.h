/* Products of reduced precision with fused multiply-adds: bfloat16.h says what they compute. */

#if FBP_LANES == 1

/* Packed rows of A and columns of B alike: the terms one after the other. */
static void pack_line(const float *x, ptrdiff_t step, ptrdiff_t k, int precision, float *packed)
{
    const ptrdiff_t padded = fbp_padded(k);
    for (int term = 0; term < (precision == FBP_HIGH ? 2 : 1); term++)
        for (ptrdiff_t p = 0; p < padded; p++)
            packed[term * padded + p] = p < k ? v_term(x[p * step], term) : 0;
}

static void bf16_pack_a(const fbp_gemm *c, float *packed)
{
    for (ptrdiff_t i = 0; i < c->m; i++)
        pack_line((const float *)c->A + i * c->a_row, c->a_col, c->k, c->precision,
                  packed + i * fbp_packed_stride(c->k, c->precision));
}

static void bf16_pack_b(const fbp_gemm *c, float *packed)
{
    for (ptrdiff_t j = 0; j < c->n; j++)
        pack_line((const float *)c->B + j * c->b_col, c->b_row, c->k, c->precision,
                  packed + j * fbp_packed_stride(c->k, c->precision));
}

static float block_of(const float *a, const float *b)
{
    float even = 0, odd = 0;
    for (int p = 0; p < FBP_BF16_BLOCK; p += 2) {
        even = fmaf(a[p], b[p], even);
        odd = fmaf(a[p + 1], b[p + 1], odd);
    }
    return even + odd;
}

static void bf16_multiply(const fbp_gemm *c, const float *packed_a, const float *packed_b)
{
    const ptrdiff_t padded = fbp_padded(c->k);
    const ptrdiff_t stride = fbp_packed_stride(c->k, c->precision);
    for (ptrdiff_t i = 0; i < c->m; i++) {
        for (ptrdiff_t j = 0; j < c->n; j++) {
            const float *a = packed_a + i * stride, *b = packed_b + j * stride;
            const int continues = c->part & FBP_CONTINUES;
            float total = continues ? ((const float *)c->C)[i * c->c_row + j] : 0;
            for (ptrdiff_t start = 0, stop; start < c->k; start = stop) {
                float sum = 0;
                stop = end_of_sum(c, start);
                for (ptrdiff_t p = start; p < stop; p += FBP_BF16_BLOCK)
                    for (int each = first_product(c->precision); each < 3; each++)
                        sum += block_of(a + bf16_terms[each][0] * padded + p,
                                        b + bf16_terms[each][1] * padded + p);
                total = start == 0 && !continues ? sum : total + sum;
            }
            finish(c, i, j, 1, 1, &total, 1);
        }
    }
}

#else

/* The register tile: BF16_ROWS rows by TILE_VECTORS vectors, with two chains for each element. */
#if FBP_LANES == 16
#define BF16_ROWS 7
#elif defined(__aarch64__)
#define BF16_ROWS 6
#else
#define BF16_ROWS 3
#endif

/* The terms of a square of FBP_LANES rows of A, or columns of B, by as many numbers along k, in
 * vectors along k (`along_k`) or across it.  Of x, some lines and numbers of k exist; the rest is
 * 0. */
INLINE void bf16_square(const float *x, ptrdiff_t line_step, ptrdiff_t k_step, ptrdiff_t lines,
                        ptrdiff_t k, const int terms, const int along_k, vec square[2][FBP_LANES])
{
    const int contiguous = k_step == 1;
    const ptrdiff_t step = contiguous ? line_step : k_step;
    const ptrdiff_t vectors = contiguous ? lines : k, lanes = contiguous ? k : lines;
    for (int l = 0; l < FBP_LANES; l++) {
        const vec number = v_load_part(x + l * step, l < vectors ? lanes : 0, 0);
        for (int term = 0; term < terms; term++) square[term][l] = v_term(number, term);
    }
    for (int term = 0; term < terms; term++)
        if (contiguous != along_k) transpose(square[term]);
}

/* Row i of A starts at i * fbp_packed_stride; the terms follow each other. */
INLINE void bf16_pack_rows(const fbp_gemm *c, const int terms, float *packed)
{
    const ptrdiff_t padded = fbp_padded(c->k);
    const ptrdiff_t stride = fbp_packed_stride(c->k, c->precision);
    for (ptrdiff_t i = 0; i < c->m; i += FBP_LANES) {
        const ptrdiff_t rows = least_of(c->m - i, FBP_LANES);
        for (ptrdiff_t p = 0; p < padded; p += FBP_LANES) {
            vec square[2][FBP_LANES];
            bf16_square((const float *)c->A + i * c->a_row + p * c->a_col, c->a_row, c->a_col, rows,
                        c->k - p, terms, 1, square);
            for (int term = 0; term < terms; term++)
                for (ptrdiff_t l = 0; l < rows; l++)
                    v_store(packed + (i + l) * stride + term * padded + p, square[term][l]);
        }
    }
}

/* Panels of TILE_COLUMNS columns, in each the terms one after the other, in rows along k. */
INLINE void bf16_pack_columns(const fbp_gemm *c, const int terms, float *packed)
{
    const ptrdiff_t padded = fbp_padded(c->k);
    for (ptrdiff_t j = 0; j < c->n; j += TILE_COLUMNS) {
        for (ptrdiff_t p = 0; p < padded; p += FBP_LANES) {
            for (int u = 0; u < TILE_COLUMNS; u += FBP_LANES) {
                vec square[2][FBP_LANES];
                bf16_square((const float *)c->B + p * c->b_row + (j + u) * c->b_col, c->b_col,
                            c->b_row, c->n - j - u, c->k - p, terms, 0, square);
                for (int term = 0; term < terms; term++)
                    for (int l = 0; l < FBP_LANES; l++)
                        v_store(packed + (term * padded + p + l) * TILE_COLUMNS + u,
                                square[term][l]);
            }
        }
        packed += terms * padded * TILE_COLUMNS;
    }
}

static void bf16_pack_a(const fbp_gemm *c, float *packed)
{
    if (c->precision == FBP_HIGH)
        bf16_pack_rows(c, 2, packed);
    else
        bf16_pack_rows(c, 1, packed);
}

static void bf16_pack_b(const fbp_gemm *c, float *packed)
{
    if (c->precision == FBP_HIGH)
        bf16_pack_columns(c, 2, packed);
    else
        bf16_pack_columns(c, 1, packed);
}

typedef struct {
    const float *A;
    ptrdiff_t a_row, k, a_term, b_term; /* distances of rows of A, and of the terms */
    const float *B;
    int first;   /* product of a block */
    float *sums; /* rows TILE_COLUMNS apart */
} bf16_tile;

/* One step of the chains of a tile; to start one with a product rather than with 0 changes at most
 * the sign of a zero, which the sum does not keep. */
INLINE void bf16_step(const float *const *a, ptrdiff_t a_row, ptrdiff_t q, const float *b,
                      const int rows, const int vectors, const int is_first,
                      vec chains[BF16_ROWS][TILE_VECTORS])
{
    vec b_q[TILE_VECTORS];
#pragma GCC unroll 2
    for (int u = 0; u < vectors; u++) b_q[u] = v_load(b + u * FBP_LANES);
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
        const vec a_i = v_splat(a[i / 3][i % 3 * a_row + q]);
#pragma GCC unroll 2
        for (int u = 0; u < vectors; u++)
            chains[i][u] = is_first ? a_i * b_q[u] : v_fma(a_i, b_q[u], chains[i][u]);
    }
}

/* Add the blocks to the sums of a tile. */
INLINE void bf16_tile_of(const bf16_tile *t, const int rows, const int vectors)
{
    const ptrdiff_t a_row = t->a_row;
    for (ptrdiff_t p = 0; p < t->k; p += FBP_BF16_BLOCK) {
        for (int each = t->first; each < 3; each++) {
            vec even[BF16_ROWS][TILE_VECTORS], odd[BF16_ROWS][TILE_VECTORS];
            const float *a[(BF16_ROWS + 2) / 3];
            const float *b = t->B + bf16_terms[each][1] * t->b_term + p * TILE_COLUMNS;
#pragma GCC unroll 8
            for (int g = 0; g < (rows + 2) / 3; g++)
                a[g] = t->A + bf16_terms[each][0] * t->a_term + p + 3 * g * a_row;
            bf16_step(a, a_row, 0, b, rows, vectors, 1, even);
            bf16_step(a, a_row, 1, b + TILE_COLUMNS, rows, vectors, 1, odd);
            for (int q = 2; q < FBP_BF16_BLOCK; q += 2) {
                b += 2 * TILE_COLUMNS;
                bf16_step(a, a_row, q, b, rows, vectors, 0, even);
                bf16_step(a, a_row, q + 1, b + TILE_COLUMNS, rows, vectors, 0, odd);
            }
#pragma GCC unroll 8
            for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
                for (int u = 0; u < vectors; u++) {
                    float *sum = t->sums + i * TILE_COLUMNS + u * FBP_LANES;
                    v_store(sum, v_load(sum) + (even[i][u] + odd[i][u]));
                }
            }
        }
    }
}

/* clang-format off */
#define TILE(rows)                                                                  \
    static void bf16_tile_##rows##_1(const bf16_tile *t) { bf16_tile_of(t, rows, 1); } \
    static void bf16_tile_##rows##_2(const bf16_tile *t) { bf16_tile_of(t, rows, 2); }
#define ENTRY(rows) {bf16_tile_##rows##_1, bf16_tile_##rows##_2},
#if BF16_ROWS == 3
#define EACH_HEIGHT(X) X(1) X(2) X(3)
#elif BF16_ROWS == 6
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#else
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#endif
EACH_HEIGHT(TILE)
static void (*const bf16_tiles[BF16_ROWS][2])(const bf16_tile *) = {EACH_HEIGHT(ENTRY)};
#undef TILE
#undef ENTRY
#undef EACH_HEIGHT
/* clang-format on */

/* k is cut at multiples of FBP_K_BLOCK, so that this much of a panel of B stays in the level-1
 * cache; between them sums are in C. */
static void bf16_multiply(const fbp_gemm *c, const float *packed_a, const float *packed_b)
{
    const ptrdiff_t padded = fbp_padded(c->k);
    const ptrdiff_t stride = fbp_packed_stride(c->k, c->precision);
    const ptrdiff_t panel = fbp_packed_length(c->k, c->precision) * TILE_COLUMNS;
    const ptrdiff_t n_tiles = (c->m + BF16_ROWS - 1) / BF16_ROWS;
    for (ptrdiff_t j = 0; j < c->n; j += TILE_COLUMNS) {
        const ptrdiff_t columns = least_of(c->n - j, TILE_COLUMNS);
        for (ptrdiff_t p = 0; p < padded; p += FBP_K_BLOCK) {
            for (ptrdiff_t number = 1, i = 0; number <= n_tiles; number++) {
                const ptrdiff_t rows = c->m * number / n_tiles - i;
                _Alignas(64) float sums[BF16_ROWS * TILE_COLUMNS];
                float *C = (float *)c->C + i * c->c_row + j;
                const bf16_tile t = {
                    .A = packed_a + i * stride + p,
                    .a_row = stride,
                    .k = least_of(padded - p, FBP_K_BLOCK),
                    .a_term = padded,
                    .b_term = padded * TILE_COLUMNS,
                    .B = packed_b + j / TILE_COLUMNS * panel + p * TILE_COLUMNS,
                    .first = first_product(c->precision),
                    .sums = sums,
                };
                for (ptrdiff_t r = 0; r < rows; r++)
                    for (int u = 0; u < TILE_COLUMNS; u += FBP_LANES)
                        v_store(sums + r * TILE_COLUMNS + u,
                                p > 0 && !c->over_rows
                                    ? v_load_part(C + r * c->c_row + u, columns - u, 0)
                                    : v_splat(0));
                bf16_tiles[rows - 1][columns > FBP_LANES](&t);
                const int is_last = p + FBP_K_BLOCK >= padded,
                          adds = c->over_rows && (p > 0 || c->part & FBP_CONTINUES);
                for (ptrdiff_t r = 0; r < rows && (adds || !is_last); r++) {
                    for (int u = 0; u < TILE_COLUMNS; u += FBP_LANES) {
                        float *sum = sums + r * TILE_COLUMNS + u;
                        vec total = v_load(sum);
                        if (adds) total = v_load_part(C + r * c->c_row + u, columns - u, 0) + total;
                        if (is_last)
                            v_store(sum, total);
                        else
                            v_store_part(C + r * c->c_row + u, columns - u, total);
                    }
                }
                if (is_last) finish(c, i, j, rows, columns, sums, TILE_COLUMNS);
                i += rows;
            }
        }
    }
}

#endif

/* One row, whose weights are read once: they are rounded in registers. */
#define BF16_ROW_VECTORS 4
static void bf16_multiply_row(const fbp_gemm *c)
{
    const float *A = c->A;
    const ptrdiff_t width = BF16_ROW_VECTORS * FBP_LANES;
    for (ptrdiff_t j = 0; j < c->n; j += width) {
        float sums[BF16_ROW_VECTORS * FBP_LANES];
        vec sum[BF16_ROW_VECTORS];
        for (int u = 0; u < BF16_ROW_VECTORS; u++) sum[u] = v_splat(0);
        for (ptrdiff_t p = 0; p < c->k; p += FBP_BF16_BLOCK) {
            const ptrdiff_t stop = least_of(c->k, p + FBP_BF16_BLOCK);
            for (int each = first_product(c->precision); each < 3; each++) {
                vec chains[2][BF16_ROW_VECTORS];
                for (int u = 0; u < BF16_ROW_VECTORS; u++) chains[0][u] = chains[1][u] = v_splat(0);
                for (ptrdiff_t q = p; q < stop; q++) {
                    const vec a = v_term(v_splat(A[q * c->a_col]), bf16_terms[each][0]);
                    vec *chain = chains[q % 2];
                    for (int u = 0; u < BF16_ROW_VECTORS; u++) {
                        const ptrdiff_t at = j + u * FBP_LANES;
                        const vec b =
                            v_load_part((const float *)c->B + q * c->b_row + at, c->n - at, 0);
                        chain[u] = v_fma(a, v_term(b, bf16_terms[each][1]), chain[u]);
                    }
                }
                for (int u = 0; u < BF16_ROW_VECTORS; u++)
                    sum[u] = sum[u] + (chains[0][u] + chains[1][u]);
            }
        }
        for (int u = 0; u < BF16_ROW_VECTORS; u++) v_store(sums + u * FBP_LANES, sum[u]);
        finish(c, 0, j, 1, least_of(c->n - j, width), sums, width);
    }
}

extern const fbp_bf16 FBP_BF16_TABLE;
const fbp_bf16 FBP_BF16_TABLE = {bf16_pack_a, bf16_pack_b, bf16_multiply, bf16_multiply_row,
                                 fma_chains};
