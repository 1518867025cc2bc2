/* The matrix product behind the four dense operations (kernels/dense.pyx).  `matmul` calls
 * `product`, which calls `run_tile` and so `tile`, the inner loop, or for one row of A
 * `run_row_tile` and so `row_tile`; columns that do not fill a vector go through
 * `transposed_product` first. */

#if FBP_LANES == 1

/* One element at a time, by the definition of the results: blocks of FBP_K_BLOCK,
 * each a chain of fused multiply-adds in ascending p, added in order.  The first
 * chain starts at the bias, the others at 0. */
static void matmul(const fbp_gemm *c, real *workspace)
{
    (void)workspace;
    const real *A = c->A, *B = c->B, *bias = c->bias, *relu_mask = c->relu_mask;
    const real least = c->gradient ? FBP_MIN_GRADIENT : FBP_MIN_NORMAL;
    for (ptrdiff_t i = 0; i < c->m; i++) {
        for (ptrdiff_t j = 0; j < c->n; j++) {
            const ptrdiff_t at = i * c->c_row + j;
            const int continues = c->part & FBP_CONTINUES;
            real sum = continues ? ((const real *)c->C)[at] : bias ? bias[j] : 0;
            for (ptrdiff_t start = 0; start < c->k; start += FBP_K_BLOCK) {
                const ptrdiff_t stop = c->k - start < FBP_K_BLOCK ? c->k : start + FBP_K_BLOCK;
                const int is_first = start == 0 && !continues;
                real chain = is_first ? sum : 0;
                for (ptrdiff_t p = start; p < stop; p++)
                    chain = v_fma(A[i * c->a_row + p * c->a_col], B[p * c->b_row + j * c->b_col],
                                  chain);
                sum = is_first ? chain : sum + chain;
            }
            if (!(c->part & FBP_UNFINISHED)) sum = v_zero_below(sum, least);
            if (c->relu) sum = v_relu(sum);
            if (relu_mask) sum = v_relu_backward(sum, relu_mask[at]);
            ((real *)c->C)[at] = sum;
        }
    }
}

#else

/* The register tile: TILE_ROWS rows of A by TILE_VECTORS vectors of B's columns, whose sums stay in
 * registers while p runs.  Of 32 registers 28 are sums (24 on Arm, where the broadcast needs some),
 * of 16 registers 12; the rest hold B's vectors and A's element. */
#define TILE_VECTORS 2
#define TILE_COLUMNS (TILE_VECTORS * FBP_LANES)
#if FBP_LANES * FBP_BITS == 512
#define TILE_ROWS 14
#elif defined(__aarch64__)
#define TILE_ROWS 12
#else
#define TILE_ROWS 6
#endif

/* Rows this many bytes apart lie in different pages, which the processor does not prefetch. */
#define FAR_APART 2048

/* Rows whose distance is a multiple of this share few cache sets and evict each other; rows of a
 * copy are SPREAD elements longer. */
#define ALIASED 256
#define SPREAD (FBP_WORKSPACE / FBP_MOST_COPIED - FBP_K_BLOCK)

typedef struct {
    ptrdiff_t k;   /* the length of the chains, at most FBP_K_BLOCK */
    const real *A; /* element (i, p) at A[i * a_row + p * a_col] */
    ptrdiff_t a_row, a_col;
    const real *B; /* element (p, j) at B[p * b_row + j] */
    ptrdiff_t b_row;
    const real *start;     /* what the chains start from, by column; 0 where NULL */
    const real *row_start; /* the same by row */
    int is_first, is_last; /* whether this is the first or last block along k */
    real least;            /* results below it are 0 */
    int relu;              /* see fbp_gemm */
    const real *relu_mask;
    real *C; /* element (i, j) at C[i * c_row + j] */
    ptrdiff_t c_row;
    ptrdiff_t columns; /* of C that the tile may write */
} tile_t;

/* The u-th vector of the tile's columns at p, of which the last may be partial. */
INLINE vec load_vector(const tile_t *t, const real *p, const int vectors, const int partial,
                       const int u)
{
    if (!partial || u < vectors - 1) return v_load(p + u * FBP_LANES);
    return v_load_part(p + u * FBP_LANES, t->columns - u * FBP_LANES, 0);
}

INLINE void store_vector(const tile_t *t, real *p, const int vectors, const int partial,
                         const int u, vec x)
{
    if (!partial || u < vectors - 1)
        v_store(p + u * FBP_LANES, x);
    else
        v_store_part(p + u * FBP_LANES, t->columns - u * FBP_LANES, x);
}

#define EACH_SUM                                            \
    _Pragma("GCC unroll 16") for (int i = 0; i < rows; i++) \
        _Pragma("GCC unroll 2") for (int u = 0; u < vectors; u++)

/* The tile: load, multiply and add, and finish in registers.  Every loop over the sums is
 * unrolled by pragma: if one is not, gcc keeps all sums in memory. */
INLINE void tile(const tile_t *t, const int rows, const int vectors, const int partial)
{
    vec sum[TILE_ROWS][TILE_VECTORS];
    if (t->row_start) {
        EACH_SUM sum[i][u] = v_splat(t->row_start[i]);
    } else if (t->start) {
        vec start[TILE_VECTORS];
#pragma GCC unroll 2
        for (int u = 0; u < vectors; u++) start[u] = load_vector(t, t->start, vectors, partial, u);
        EACH_SUM sum[i][u] = start[u];
    } else {
        EACH_SUM sum[i][u] = v_splat(0);
    }

    /* Five rows share a pointer: the processor adds 0, 1, 2 or 4 times a_row by itself. */
    const ptrdiff_t a_row = t->a_row, a_col = t->a_col, b_row = t->b_row, c_row = t->c_row;
    const real *b = t->B, *a[(TILE_ROWS + 4) / 5];
    real *const c = t->C;
#pragma GCC unroll 8
    for (int g = 0; g < (rows + 4) / 5; g++) a[g] = t->A + 5 * g * a_row;
#if FBP_MASKS
    const mask last = v_first(t->columns - (vectors - 1) * FBP_LANES);
#endif
    const real *ahead = c;
    for (ptrdiff_t p = t->k; p > 0; p--) {
        if (p % 8 == 0) {
            /* A row of C, which is likely not in the level-1 cache. */
#pragma GCC unroll 2
            for (int u = 0; u < vectors; u++) __builtin_prefetch(ahead + u * FBP_LANES, 1);
            ahead += c_row;
        }
        vec b_p[TILE_VECTORS];
#pragma GCC unroll 2
        for (int u = 0; u < vectors; u++) {
#if FBP_MASKS
            if (partial && u == vectors - 1) {
                b_p[u] = v_load_masked(b + u * FBP_LANES, last, 0);
                continue;
            }
#endif
            b_p[u] = v_load(b + u * FBP_LANES); /* without masks B is padded */
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const vec a_i = v_splat(a[i / 5][i % 5 * a_row]);
#pragma GCC unroll 2
            for (int u = 0; u < vectors; u++) sum[i][u] = v_fma(a_i, b_p[u], sum[i][u]);
        }
#pragma GCC unroll 8
        for (int g = 0; g < (rows + 4) / 5; g++) a[g] += a_col;
        b += b_row;
    }

    if (!t->is_first) {
        EACH_SUM sum[i][u] = load_vector(t, c + i * c_row, vectors, partial, u) + sum[i][u];
    }
    if (t->is_last) {
        const real least = t->least;
        EACH_SUM sum[i][u] = v_zero_below(sum[i][u], least);
        if (t->relu) {
            EACH_SUM sum[i][u] = v_relu(sum[i][u]);
        }
        if (t->relu_mask) {
            const real *const relu_mask = t->relu_mask;
            EACH_SUM sum[i][u] = v_relu_backward(
                sum[i][u], load_vector(t, relu_mask + i * c_row, vectors, partial, u));
        }
    }
    EACH_SUM store_vector(t, c + i * c_row, vectors, partial, u, sum[i][u]);
}
#undef EACH_SUM

/* Each height and width of a tile is a function of its own, with its sums in registers; a
 * single function for all takes compilers minutes. */
/* clang-format off */
#define TILE(rows)                                                                \
    static void tile_##rows##_1(const tile_t *t) { tile(t, rows, 1, 0); }         \
    static void tile_##rows##_1_partial(const tile_t *t) { tile(t, rows, 1, 1); }  \
    static void tile_##rows##_2(const tile_t *t) { tile(t, rows, 2, 0); }         \
    static void tile_##rows##_2_partial(const tile_t *t) { tile(t, rows, 2, 1); }
#define ENTRY(rows) \
    {tile_##rows##_1, tile_##rows##_1_partial, tile_##rows##_2, tile_##rows##_2_partial},
#if TILE_ROWS == 6
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6)
#elif TILE_ROWS == 12
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12)
#else
#define EACH_HEIGHT(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#endif
EACH_HEIGHT(TILE)
static void (*const tiles[TILE_ROWS][4])(const tile_t *) = {EACH_HEIGHT(ENTRY)};
#undef TILE
#undef ENTRY
#undef EACH_HEIGHT
/* clang-format on */

static void run_tile(const tile_t *t, ptrdiff_t rows)
{
    const int vectors = t->columns > FBP_LANES ? 2 : 1;
    const int partial = t->columns < vectors * FBP_LANES;
    tiles[rows - 1][(vectors - 1) * 2 + partial](t);
}

/* One row alone, where a tile of two sums would wait for each of them: several vectors of
 * columns side by side. */
#define ROW_VECTORS 8
#define LINES_AHEAD 32
INLINE void row_tile(const tile_t *t, const int vectors)
{
    vec sum[ROW_VECTORS];
    const ptrdiff_t rest = t->columns - (vectors - 1) * FBP_LANES; /* columns of the last */
#pragma GCC unroll 8
    for (int u = 0; u < vectors; u++)
        sum[u] = t->start ? v_load_part(t->start + u * FBP_LANES, t->columns - u * FBP_LANES, 0)
                          : v_splat(0);
    for (ptrdiff_t p = 0; p < t->k; p++) {
        const vec a = v_splat(t->A[p * t->a_col]);
        const real *b = t->B + p * t->b_row;
#if FBP_LANES * FBP_BITS == 512
        /* A vector that is a whole cache line, but crosses into the next, is loaded in two parts,
         * and so would be its neighbour.  Thus lines are loaded, but not where they may reach
         * beyond B, and shifted. */
        const ptrdiff_t offset = (ptrdiff_t)((uintptr_t)b / sizeof(real) % FBP_LANES);
        if (offset && 0 < p && p < t->k - 1 && t->b_row >= FBP_LANES) {
            const ivec lanes = v_lanes() + v_isplat((integer)offset);
            const real *line = b - offset;
            vec low = v_load(line);
#pragma GCC unroll 8
            for (int u = 0; u < vectors; u++) {
                line += FBP_LANES;
                __builtin_prefetch(line + LINES_AHEAD * FBP_LANES);
                const vec high = u < vectors - 1 || offset + rest > FBP_LANES ? v_load(line) : low;
                sum[u] = v_fma(a, v_pick(low, high, lanes), sum[u]);
                low = high;
            }
            continue;
        }
#endif
#pragma GCC unroll 8
        for (int u = 0; u < vectors - 1; u++) sum[u] = v_fma(a, v_load(b + u * FBP_LANES), sum[u]);
        sum[vectors - 1] =
            v_fma(a, v_load_part(b + (vectors - 1) * FBP_LANES, rest, 0), sum[vectors - 1]);
    }
#pragma GCC unroll 8
    for (int u = 0; u < vectors; u++) {
        real *c = t->C + u * FBP_LANES;
        const ptrdiff_t columns = t->columns - u * FBP_LANES;
        if (!t->is_first) sum[u] = v_load_part(c, columns, 0) + sum[u];
        if (t->is_last) {
            sum[u] = v_zero_below(sum[u], t->least);
            if (t->relu) sum[u] = v_relu(sum[u]);
            if (t->relu_mask)
                sum[u] =
                    v_relu_backward(sum[u], v_load_part(t->relu_mask + u * FBP_LANES, columns, 0));
        }
        v_store_part(c, columns, sum[u]);
    }
}

static void run_row_tile(const tile_t *t)
{
    switch ((t->columns + FBP_LANES - 1) / FBP_LANES) {
    case 1:
        row_tile(t, 1);
        break;
    case 2:
        row_tile(t, 2);
        break;
    case 3:
        row_tile(t, 3);
        break;
    case 4:
        row_tile(t, 4);
        break;
    case 5:
        row_tile(t, 5);
        break;
    case 6:
        row_tile(t, 6);
        break;
    case 7:
        row_tile(t, 7);
        break;
    case 8:
        row_tile(t, 8);
        break;
    }
}

/* packed[p, j] = B[p, j] for k rows and `columns` columns, rows TILE_COLUMNS apart.  Numbers past
 * the last column are not used, or are 0 where the processor has no masks. */
static void pack_b(ptrdiff_t k, ptrdiff_t columns, const real *B, ptrdiff_t b_row, ptrdiff_t b_col,
                   real *packed)
{
    if (!FBP_MASKS && columns < TILE_COLUMNS)
        memset(packed, 0, (size_t)(k * TILE_COLUMNS) * sizeof(real));
    if (b_col == 1) {
        for (ptrdiff_t p = 0; p < k; p++)
            for (ptrdiff_t j = 0; j < columns; j += FBP_LANES)
                v_store_part(packed + p * TILE_COLUMNS + j, columns - j,
                             v_load_part(B + p * b_row + j, columns - j, 0));
        return;
    }
    for (ptrdiff_t j = 0; j < columns; j += FBP_LANES) {
        ptrdiff_t p = 0;
        if (b_row == 1 && columns - j >= FBP_LANES) {
            for (; p + FBP_LANES <= k; p += FBP_LANES) {
                vec square[FBP_LANES];
#pragma GCC unroll 16
                for (int l = 0; l < FBP_LANES; l++) square[l] = v_load(B + p + (j + l) * b_col);
                transpose(square);
#pragma GCC unroll 16
                for (int l = 0; l < FBP_LANES; l++)
                    v_store(packed + (p + l) * TILE_COLUMNS + j, square[l]);
            }
        }
        for (ptrdiff_t l = j; l < least_of(columns, j + FBP_LANES); l++)
            for (ptrdiff_t q = p; q < k; q++)
                packed[q * TILE_COLUMNS + l] = B[q * b_row + l * b_col];
    }
}

/* Prefetch the part from `first` to `stop`, of `all`, of what pack_b will read next. */
static void prefetch_b(const real *B, ptrdiff_t b_row, ptrdiff_t b_col, ptrdiff_t k,
                       ptrdiff_t first, ptrdiff_t stop, ptrdiff_t all)
{
    const ptrdiff_t line = 64 / sizeof(real);
    const ptrdiff_t rows = b_col == 1 ? k : TILE_COLUMNS, length = b_col == 1 ? TILE_COLUMNS : k;
    const ptrdiff_t step = b_col == 1 ? b_row : b_col;
    for (ptrdiff_t i = rows * first / all; i < rows * stop / all; i++)
        for (ptrdiff_t j = 0; j < length; j += line) __builtin_prefetch(B + i * step + j, 0, 2);
}

/* Rows of A that are copied together where its own layout is slow: with FBP_K_BLOCK columns they
 * take half of the level-2 cache, but there are at least 256. */
static ptrdiff_t most_copied(void)
{
    const ptrdiff_t half = fbp_level2_bytes / 2 / (FBP_K_BLOCK * (ptrdiff_t)sizeof(real));
    return half < 256 ? 256 : least_of(half, FBP_MOST_COPIED);
}

/* Copies a block of A, whose rows are contiguous, SPREAD elements further apart. */
static void copy_rows(ptrdiff_t height, ptrdiff_t k, const real *A, ptrdiff_t a_row, real *copy)
{
    for (ptrdiff_t i = 0; i < height; i++)
        memcpy(copy + i * (k + SPREAD), A + i * a_row, (size_t)k * sizeof(real));
}

/* Copies a block of A, whose columns are contiguous, tile by tile.  In place a tile would read a
 * part of a line at each p, and the whole lines would fill the level-1 cache. */
static void copy_columns(ptrdiff_t height, ptrdiff_t k, const real *A, ptrdiff_t a_col,
                         ptrdiff_t n_tiles, real *copy)
{
    for (ptrdiff_t i = 0, number = 1; i < height; number++) {
        const ptrdiff_t rows = height * number / n_tiles - i;
        for (ptrdiff_t p = 0; p < k; p++)
            for (ptrdiff_t l = 0; l < rows; l += FBP_LANES)
                v_store_part(copy + i * k + p * rows + l, rows - l,
                             v_load_part(A + p * a_col + i + l, rows - l, 0));
        i += rows;
    }
}

/* A matrix product whose chains start from a value for each column, or else for each row. */
static void product(const fbp_gemm *c, const real *row_start, real *workspace)
{
    const ptrdiff_t m = c->m, n = c->n, k = c->k, a_row = c->a_row, a_col = c->a_col;
    const ptrdiff_t b_row = c->b_row, b_col = c->b_col, c_row = c->c_row;
    const real *A = c->A, *B = c->B, *start = c->bias, *relu_mask = c->relu_mask;
    real *C = c->C;
    _Alignas(64) real packed[FBP_K_BLOCK * TILE_COLUMNS];
    const ptrdiff_t a_bytes = (a_row > a_col ? a_row : a_col) * (ptrdiff_t)sizeof(real);
    const ptrdiff_t b_bytes = (b_row > b_col ? b_row : b_col) * (ptrdiff_t)sizeof(real);
    const int by_column = a_row == 1;
    const int copy_a =
        workspace && m > TILE_ROWS &&
        (by_column ? n >= 8 * TILE_COLUMNS && k > FBP_K_BLOCK / 4
                   : a_bytes >= FAR_APART && a_bytes % ALIASED == 0 && n > TILE_COLUMNS);
    const int pack = b_col != 1 || (b_bytes >= FAR_APART && m > 2 * TILE_ROWS);
    const int prefetch = pack && b_bytes >= FAR_APART;
    const ptrdiff_t m_block = copy_a ? most_copied() : m;
    const int is_row = m == 1 && b_col == 1 && !row_start;
    const ptrdiff_t width = is_row ? ROW_VECTORS * FBP_LANES : TILE_COLUMNS;

    for (ptrdiff_t p = 0; p == 0 || p < k; p += FBP_K_BLOCK) {
        tile_t t = {
            .k = least_of(k - p, FBP_K_BLOCK),
            .is_first = p == 0 && !(c->part & FBP_CONTINUES),
            .is_last = k - p <= FBP_K_BLOCK && !(c->part & FBP_UNFINISHED),
            .least = c->gradient ? FBP_MIN_GRADIENT : FBP_MIN_NORMAL,
            .relu = c->relu,
            .c_row = c_row,
        };
        for (ptrdiff_t i_block = 0; i_block < m; i_block += m_block) {
            const ptrdiff_t height = least_of(m - i_block, m_block);
            const real *A_block = A + i_block * a_row + p * a_col;
            /* As many tiles as it takes, of heights that differ by one at most: one of a few
             * rows at the end would wait for its own sums. */
            const ptrdiff_t n_tiles = (height + TILE_ROWS - 1) / TILE_ROWS;
            ptrdiff_t a_step = a_row; /* from one row of the block to the next tile's */
            t.a_row = a_row;
            t.a_col = a_col;
            if (copy_a && by_column) {
                copy_columns(height, t.k, A_block, a_col, n_tiles, workspace);
                a_step = t.k;
            } else if (copy_a) {
                copy_rows(height, t.k, A_block, a_row, workspace);
                a_step = t.a_row = t.k + SPREAD;
            }
            if (copy_a) A_block = workspace;
            for (ptrdiff_t j = 0; j < n; j += width) {
                t.columns = least_of(n - j, width);
                t.B = B + p * b_row + j * b_col;
                t.b_row = b_row;
                if (is_row) {
                    t.A = A_block;
                    t.start = start && p == 0 ? start + j : NULL;
                    t.C = C + j;
                    t.relu_mask = relu_mask ? relu_mask + j : NULL;
                    run_row_tile(&t);
                    continue;
                }
                if (pack || (!FBP_MASKS && t.columns < TILE_COLUMNS)) {
                    pack_b(t.k, t.columns, t.B, b_row, b_col, packed);
                    t.B = packed;
                    t.b_row = TILE_COLUMNS;
                }
                t.start = start && p == 0 ? start + j : NULL;
                for (ptrdiff_t i = 0, number = 1; i < height; number++) {
                    const ptrdiff_t stop = height * number / n_tiles;
                    t.A = A_block + i * a_step;
                    if (copy_a && by_column) t.a_col = stop - i; /* the rows of this tile */
                    t.C = C + (i_block + i) * c_row + j;
                    t.relu_mask = relu_mask ? relu_mask + (i_block + i) * c_row + j : NULL;
                    t.row_start = row_start && p == 0 ? row_start + i_block + i : NULL;
                    if (prefetch && n - j >= 2 * width)
                        prefetch_b(B + p * b_row + (j + width) * b_col, b_row, b_col, t.k, i, stop,
                                   height);
                    run_tile(&t, stop - i);
                    i = stop;
                }
            }
        }
    }
}

/* C as the transpose of B^T A^T, for few columns, which would leave lanes idle. */
#define MIRROR_ROWS 256
static void transposed_product(const fbp_gemm *c)
{
    real mirror[FBP_LANES * MIRROR_ROWS];
    for (ptrdiff_t i = 0; i < c->m; i += MIRROR_ROWS) {
        const ptrdiff_t width = least_of(c->m - i, MIRROR_ROWS);
        const fbp_gemm mirrored = {
            .m = c->n,
            .n = width,
            .k = c->k,
            .A = c->B,
            .a_row = c->b_col,
            .a_col = c->b_row,
            .B = (const real *)c->A + i * c->a_row,
            .b_row = c->a_col,
            .b_col = c->a_row,
            .C = mirror,
            .c_row = width,
            .gradient = c->gradient,
            .part = c->part,
            .relu = c->relu,
        };
        if (c->part & FBP_CONTINUES)
            for (ptrdiff_t l = 0; l < width; l++)
                for (ptrdiff_t j = 0; j < c->n; j++)
                    mirror[j * width + l] = ((const real *)c->C)[(i + l) * c->c_row + j];
        product(&mirrored, c->bias, NULL);
        for (ptrdiff_t l = 0; l < width; l++) {
            for (ptrdiff_t j = 0; j < c->n; j++) {
                const ptrdiff_t at = (i + l) * c->c_row + j;
                real sum = mirror[j * width + l];
                if (c->relu_mask) {
                    const real relu_mask = ((const real *)c->relu_mask)[at];
                    sum = relu_mask > 0 ? sum : relu_mask <= 0 ? 0 : relu_mask;
                }
                ((real *)c->C)[at] = sum;
            }
        }
    }
}

static void matmul(const fbp_gemm *c, real *workspace)
{
    /* The columns that do not fill a vector, if they are few.  Where A's columns are not
     * contiguous the mirrored product transposes them first, which pays only for very few. */
    const ptrdiff_t few = c->a_row == 1 ? FBP_LANES : FBP_LANES / 4 + 1;
    const ptrdiff_t rest = c->n % FBP_LANES;
    if (rest == 0 || rest >= few || c->m < FBP_LANES) {
        product(c, NULL, workspace);
        return;
    }
    fbp_gemm whole = *c, part = *c;
    fbp_take_columns(&whole, 0, c->n - rest, sizeof(real));
    fbp_take_columns(&part, c->n - rest, c->n, sizeof(real));
    if (whole.n > 0) product(&whole, NULL, workspace);
    transposed_product(&part);
}

#endif
