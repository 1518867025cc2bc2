/* Rows of a table looked up by index, and the gradient of the table.
 *
 * The codes are whole numbers stored as reals, one every codes_stride elements, which the caller
 * has checked.
 */

static void embedding(ptrdiff_t m, ptrdiff_t n, const real *codes, ptrdiff_t codes_stride,
                      const real *table, real *Z)
{
    for (ptrdiff_t i = 0; i < m; i++) {
        const real *row = table + (ptrdiff_t)codes[i * codes_stride] * n;
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES)
            v_store_part(Z + i * n + j, n - j,
                         v_zero_below(v_load_part(row + j, n - j, 0), FBP_MIN_NORMAL));
    }
}

/* The rows of a block as lists, one for each code, in ascending order: `first` holds the heads, and
 * `next` of a row the following one with its code, or -1. */
#define HASH_BITS 9 /* twice as many places as rows */
typedef struct {
    int16_t first[FBP_K_BLOCK], next[FBP_K_BLOCK];
    int lists;
} code_lists;

static void list_by_code(ptrdiff_t rows, const real *codes, ptrdiff_t codes_stride, code_lists *by)
{
    enum { PLACES = 1 << HASH_BITS };
    int16_t head[PLACES], last[FBP_K_BLOCK]; /* of the list at each place, or -1 */
    memset(head, -1, sizeof head);
    by->lists = 0;
    for (ptrdiff_t i = 0; i < rows; i++) {
        const real code = codes[i * codes_stride];
        uint32_t at = ((uint32_t)(int64_t)code * 2654435769u) >> (32 - HASH_BITS);
        while (head[at] >= 0 && codes[head[at] * codes_stride] != code) at = (at + 1) % PLACES;
        by->next[i] = -1;
        if (head[at] < 0)
            by->first[by->lists++] = head[at] = (int16_t)i;
        else
            by->next[last[head[at]]] = (int16_t)i;
        last[head[at]] = (int16_t)i;
    }
}

/* The rows of dZ with one code are added up in blocks of FBP_K_BLOCK rows of the batch, each a
 * chain of additions from 0 in ascending order, and the blocks in order. */
static void embedding_backward(ptrdiff_t m, ptrdiff_t n, ptrdiff_t stride, const real *codes,
                               ptrdiff_t codes_stride, const real *dZ, ptrdiff_t n_categories,
                               real *dtable, int part)
{
    enum { SIDE_BY_SIDE = 4 };
    for (ptrdiff_t c = 0; c < n_categories && !(part & FBP_CONTINUES); c++)
        memset(dtable + c * stride, 0, (size_t)n * sizeof(real));
    for (ptrdiff_t start = 0; start < m; start += FBP_K_BLOCK) {
        const ptrdiff_t rows = m - start < FBP_K_BLOCK ? m - start : FBP_K_BLOCK;
        const real *block = codes + start * codes_stride, *dz = dZ + start * stride;
        code_lists by;
        list_by_code(rows, block, codes_stride, &by);
        for (int l = 0; l < by.lists; l++) {
            const int first = by.first[l];
            real *out = dtable + (ptrdiff_t)block[first * codes_stride] * stride;
            for (ptrdiff_t j = 0; j < n; j += SIDE_BY_SIDE * FBP_LANES) {
                vec sum[SIDE_BY_SIDE];
                for (int u = 0; u < SIDE_BY_SIDE; u++) sum[u] = v_splat(0);
                for (int i = first; i >= 0; i = by.next[i]) {
                    for (int u = 0; u < SIDE_BY_SIDE; u++) {
                        const ptrdiff_t at = j + u * FBP_LANES;
                        sum[u] = sum[u] + v_load_part(dz + i * stride + at, n - at, 0);
                    }
                }
                for (int u = 0; u < SIDE_BY_SIDE; u++) {
                    const ptrdiff_t at = j + u * FBP_LANES;
                    v_store_part(out + at, n - at, v_load_part(out + at, n - at, 0) + sum[u]);
                }
            }
        }
    }
    if (part & FBP_UNFINISHED) return;
    /* The rows that were written, or all of them, whichever are fewer. */
    const int by_code = m < n_categories && !(part & FBP_CONTINUES);
    for (ptrdiff_t i = 0; i < (by_code ? m : n_categories); i++) {
        real *row = dtable + (by_code ? (ptrdiff_t)codes[i * codes_stride] : i) * stride;
        for (ptrdiff_t j = 0; j < n; j += FBP_LANES)
            v_store_part(row + j, n - j,
                         v_zero_below(v_load_part(row + j, n - j, 0), FBP_MIN_GRADIENT));
    }
}
#undef HASH_BITS
