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

/* The register tile: TILE_ROWS rows of A by TILE_VECTORS vectors of B's columns, whose sums
 * stay in registers while p runs.  Of 32 registers 28 are sums (24 on Arm, where the
 * broadcast needs some), of 16 registers 12; the rest hold B's vectors and A's number. */
#define TILE_VECTORS 2
#define TILE_COLUMNS (TILE_VECTORS * FBP_LANES)
#if FBP_LANES * FBP_BITS == 512
#define TILE_ROWS 14
#elif defined(__aarch64__)
#define TILE_ROWS 12
#else
#define TILE_ROWS 6
#endif

#define INLINE static inline __attribute__((always_inline))

/* Where a tile reads and writes, and what its sums start from. */
typedef struct {
    ptrdiff_t k;   /* the length of the chains, at most FBP_K_BLOCK */
    const real *A; /* element (i, p) at A[i * a_row + p * a_col] */
    ptrdiff_t a_row, a_col;
    const real *B; /* row p's vectors at B[p * b_row] */
    ptrdiff_t b_row;
    const real *bias;      /* the first chain starts here, or at 0 where NULL */
    int is_first, is_last; /* of the blocks along k */
    real least;            /* results below it are 0 */
    real *C;               /* row i at C[i * c_row] */
    ptrdiff_t c_row;
    ptrdiff_t columns; /* of C that the tile may write */
} tile_t;

INLINE void tile(const tile_t *t, const int rows, const int vectors)
{
    vec sum[TILE_ROWS][TILE_VECTORS];
    for (int u = 0; u < vectors; u++) {
        vec start = v_splat(0);
        if (t->is_first && t->bias)
            start = v_load_part(t->bias + u * FBP_LANES, t->columns - u * FBP_LANES, 0);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) sum[i][u] = start;
    }

    /* Three rows share a pointer: the processor adds 0, 1 or 2 times a_row by itself. */
    const ptrdiff_t a_row = t->a_row, a_col = t->a_col, b_row = t->b_row;
    const real *b = t->B, *a[(TILE_ROWS + 2) / 3];
#pragma GCC unroll 8
    for (int g = 0; g < (rows + 2) / 3; g++) a[g] = t->A + 3 * g * a_row;
    for (ptrdiff_t p = t->k; p > 0; p--) {
        vec b_p[TILE_VECTORS];
        for (int u = 0; u < vectors; u++) b_p[u] = v_load(b + u * FBP_LANES);
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const vec a_i = v_splat(a[i / 3][i % 3 * a_row]);
            for (int u = 0; u < vectors; u++) sum[i][u] = v_fma(a_i, b_p[u], sum[i][u]);
        }
#pragma GCC unroll 8
        for (int g = 0; g < (rows + 2) / 3; g++) a[g] += a_col;
        b += b_row;
    }

#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        for (int u = 0; u < vectors; u++) {
            real *c = t->C + i * t->c_row + u * FBP_LANES;
            const ptrdiff_t columns = t->columns - u * FBP_LANES;
            if (!t->is_first) sum[i][u] = v_load_part(c, columns, 0) + sum[i][u];
            if (t->is_last) sum[i][u] = v_zero_below(sum[i][u], t->least);
            v_store_part(c, columns, sum[i][u]);
        }
    }
}

/* Each height and width of a tile is code of its own. */
#define TILE(rows)                                                     \
    static void tile_##rows##_1(const tile_t *t) { tile(t, rows, 1); } \
    static void tile_##rows##_2(const tile_t *t) { tile(t, rows, 2); }
#define TILE_ENTRY(rows) {tile_##rows##_1, tile_##rows##_2}
TILE(1)
TILE(2) TILE(3) TILE(4) TILE(5) TILE(6)
#if TILE_ROWS > 6
    TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#endif
#if TILE_ROWS > 12
        TILE(13) TILE(14)
#endif
            static void (*const tiles[TILE_ROWS][TILE_VECTORS])(const tile_t *) = {
                TILE_ENTRY(1),  TILE_ENTRY(2),  TILE_ENTRY(3),
                TILE_ENTRY(4),  TILE_ENTRY(5),  TILE_ENTRY(6),
#if TILE_ROWS > 6
                TILE_ENTRY(7),  TILE_ENTRY(8),  TILE_ENTRY(9),
                TILE_ENTRY(10), TILE_ENTRY(11), TILE_ENTRY(12),
#endif
#if TILE_ROWS > 12
                TILE_ENTRY(13), TILE_ENTRY(14),
#endif
};
#undef TILE
#undef TILE_ENTRY

INLINE ptrdiff_t least_of(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }

/* Copies k rows of B, `columns` of each, to `packed`, filled up with 0 to TILE_COLUMNS. */
static void pack_b(ptrdiff_t k, ptrdiff_t columns, const real *B, ptrdiff_t b_row, ptrdiff_t b_col,
                   real *packed)
{
    for (ptrdiff_t p = 0; p < k; p++) {
        for (ptrdiff_t j = 0; j < columns; j++)
            packed[p * TILE_COLUMNS + j] = B[p * b_row + j * b_col];
        for (ptrdiff_t j = columns; j < TILE_COLUMNS; j++) packed[p * TILE_COLUMNS + j] = 0;
    }
}

static void matmul(ptrdiff_t m, ptrdiff_t n, ptrdiff_t k, const real *A, ptrdiff_t a_row,
                   ptrdiff_t a_col, const real *B, ptrdiff_t b_row, ptrdiff_t b_col,
                   const real *bias, int gradient, real *C)
{
    /* As many tiles as it takes, of heights that differ by one at most: a tile of a few
     * rows at the end would wait for its own sums. */
    real packed[FBP_K_BLOCK * TILE_COLUMNS] __attribute__((aligned(64)));
    const ptrdiff_t n_tiles = (m + TILE_ROWS - 1) / TILE_ROWS;
    ptrdiff_t start = 0;
    do {
        tile_t t = {
            .k = least_of(k - start, FBP_K_BLOCK),
            .a_row = a_row,
            .a_col = a_col,
            .is_first = start == 0,
            .is_last = k - start <= FBP_K_BLOCK,
            .least = gradient ? FBP_LEAST_GRADIENT : FBP_LEAST,
            .c_row = n,
        };
        for (ptrdiff_t j = 0; j < n; j += TILE_COLUMNS) {
            t.columns = least_of(n - j, TILE_COLUMNS);
            const int vectors = t.columns > FBP_LANES ? 2 : 1;
            t.B = B + start * b_row + j * b_col;
            t.b_row = b_row;
            if (b_col != 1 || t.columns < vectors * FBP_LANES || n * sizeof(real) >= 2048) {
                pack_b(t.k, t.columns, t.B, b_row, b_col, packed);
                t.B = packed;
                t.b_row = TILE_COLUMNS;
            }
            t.bias = bias ? bias + j : NULL;
            for (ptrdiff_t i = 0, tile = 0; tile < n_tiles; tile++) {
                const ptrdiff_t stop = m * (tile + 1) / n_tiles;
                t.A = A + i * a_row + start * a_col;
                t.C = C + i * n + j;
                tiles[stop - i - 1][vectors - 1](&t);
                i = stop;
            }
        }
        start += FBP_K_BLOCK;
    } while (start < k);
}

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
