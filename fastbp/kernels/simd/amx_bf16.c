/* The AMX tier: products of reduced precision by Intel's matrix instructions; everything else is
 * that of the AVX-512 tier.
 *
 * TDPBF16PS computes what bfloat16.h says, of a tile of C that is 16 by 16: two chains for each
 * element, over the 32 numbers of a row of A's tile and a column of B's.  In a tile of A a row is
 * 32 numbers along k; in a tile of B a row is the numbers 2q and 2q + 1 along k of 16 columns.
 *
 * The tiles' configuration belongs to a thread.  Each product sets it and releases it again, so
 * that threads need no preparation and switches between them save no tiles. */
#include "../platform.h"

#include "dispatch.h"
#ifdef FBP_AMX
#include <immintrin.h>
#include <math.h>
#include <string.h>
#if defined(__clang__)
#pragma clang attribute push(                                                                 \
    __attribute__((                                                                           \
        target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx512bf16,avx2,fma,amx-tile,amx-bf16")
#endif
#define FBP_BITS 32
#define FBP_LANES 16
#include "vectors.h"
#include "transpose.h"
#include "bfloat16.h"

/* A tile's rows or columns, and its bytes. */
#define TILE 16
#define TILE_BYTES 1024

/* v_bfloat16 of two vectors; `low` becomes the first 16 numbers. */
INLINE __m512i to_bfloat16(vec low, vec high)
{
    const __m512i x = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    const __m512i magnitude = _mm512_and_si512(x, _mm512_set1_epi16(0x7fff));
    const __m512i least = _mm512_set1_epi16((127 - 56) << 7); /* FBP_MIN_ROOT */
    return _mm512_maskz_mov_epi16(_mm512_cmpge_epu16_mask(magnitude, least), x);
}

INLINE vec widen(__m256i x) { return (vec)_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16); }

/* lo, as in v_term, of two vectors whose hi is given. */
INLINE __m512i rest_of(vec low, vec high, __m512i hi)
{
    const __m512i lo = to_bfloat16(low - widen(_mm512_castsi512_si256(hi)),
                                   high - widen(_mm512_extracti64x4_epi64(hi, 1)));
    const __m512i magnitude = _mm512_and_si512(hi, _mm512_set1_epi16(0x7fff));
    const __m512i infinity = _mm512_set1_epi16(0x7f80);
    return _mm512_maskz_mov_epi16(_mm512_cmplt_epu16_mask(magnitude, infinity), lo);
}

/* Number l of the first half beside number l of the second half. */
INLINE vec in_pairs(__m512i x)
{
    const ivec lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const __m512i order = (__m512i)(lane * 0x10001 + v_isplat(TILE << 16));
    return (vec)_mm512_permutexvar_epi16(order, x);
}

/* How many tiles a block along k takes: with those of FBP_MEDIUM, which are half as large, two that
 * are multiplied together start 2 KiB from those of the next block in the level-1 cache's sets. */
static ptrdiff_t block_tiles(ptrdiff_t lines, int terms)
{
    const ptrdiff_t tiles = (lines + TILE - 1) / TILE;
    return terms == 1 ? fbp_round_up(tiles + 2, 4) - 2 : tiles;
}

/* Store the tiles, one for each term, of `lines` rows of A or columns of B by k numbers of each;
 * what is missing is 0.  Pairs of numbers are made along k; a vector has those of one line where k
 * is contiguous, else one pair of each line. */
INLINE void pack_tile(const float *x, ptrdiff_t line_step, ptrdiff_t k_step, ptrdiff_t lines,
                      ptrdiff_t k, const int terms, const int contiguous, const int by_line,
                      char *packed)
{
    vec tile[2][TILE];
#pragma GCC unroll 16
    for (int l = 0; l < TILE; l++) {
        vec low, high;
        if (contiguous) {
            const float *line = x + l * line_step;
            low = v_load_part(line, l < lines ? k : 0, 0);
            high = v_load_part(line + TILE, l < lines ? k - TILE : 0, 0);
        } else {
            const float *line = x + 2 * l * k_step;
            low = v_load_part(line, 2 * l < k ? lines : 0, 0);
            high = v_load_part(line + k_step, 2 * l + 1 < k ? lines : 0, 0);
        }
        const __m512i hi = to_bfloat16(low, high);
        tile[0][l] = contiguous ? (vec)hi : in_pairs(hi);
        if (terms == 1) continue;
        const __m512i lo = rest_of(low, high, hi);
        tile[1][l] = contiguous ? (vec)lo : in_pairs(lo);
    }
    for (int term = 0; term < terms; term++) {
        if (contiguous != by_line) transpose(tile[term]);
#pragma GCC unroll 16
        for (int l = 0; l < TILE; l++)
            v_store((float *)(packed + term * TILE_BYTES) + l * TILE, tile[term][l]);
    }
}

/* Tiles of all lines follow each other, in FBP_HIGH hi before lo; then come those of the next
 * FBP_BF16_BLOCK numbers along k.  They are made in the order in which x has them. */
INLINE void pack_tiles(const float *x, ptrdiff_t line_step, ptrdiff_t k_step, ptrdiff_t lines,
                       ptrdiff_t k, const int terms, const int contiguous, const int by_line,
                       char *packed)
{
    const ptrdiff_t blocks = fbp_padded(k) / FBP_BF16_BLOCK;
    const ptrdiff_t groups = (lines + TILE - 1) / TILE;
    const ptrdiff_t bytes = terms * TILE_BYTES;
    const ptrdiff_t block_bytes = block_tiles(lines, terms) * bytes;
    for (ptrdiff_t at = 0; at < groups * blocks; at++) {
        const ptrdiff_t group = contiguous ? at / blocks : at % groups;
        const ptrdiff_t block = contiguous ? at % blocks : at / groups;
        const ptrdiff_t l = group * TILE, p = block * FBP_BF16_BLOCK;
        const float *from = x + l * line_step + p * k_step;
        char *to = packed + block * block_bytes + group * bytes;
        if (lines - l >= TILE && k - p >= FBP_BF16_BLOCK)
            pack_tile(from, line_step, k_step, TILE, FBP_BF16_BLOCK, terms, contiguous, by_line,
                      to);
        else
            pack_tile(from, line_step, k_step, lines - l, k - p, terms, contiguous, by_line, to);
    }
}

/* The same where no tile has to be transposed: two rows of k at a time, through all lines. */
INLINE void pack_rows(const float *x, ptrdiff_t k_step, ptrdiff_t lines, ptrdiff_t k,
                      const int terms, char *packed)
{
    const ptrdiff_t blocks = fbp_padded(k) / FBP_BF16_BLOCK;
    const ptrdiff_t bytes = terms * TILE_BYTES;
    const ptrdiff_t block_bytes = block_tiles(lines, terms) * bytes;
    for (ptrdiff_t q = 0; q < blocks * TILE; q++) {
        char *to = packed + q / TILE * block_bytes + q % TILE * 64;
        for (ptrdiff_t l = 0; l < lines; l += TILE) {
            const float *two = x + 2 * q * k_step + l;
            const vec low = v_load_part(two, 2 * q < k ? lines - l : 0, 0);
            const vec high = v_load_part(two + k_step, 2 * q + 1 < k ? lines - l : 0, 0);
            const __m512i hi = to_bfloat16(low, high);
            v_store((float *)to, in_pairs(hi));
            if (terms == 2) v_store((float *)(to + TILE_BYTES), in_pairs(rest_of(low, high, hi)));
            to += bytes;
        }
    }
}

INLINE void pack(const float *x, ptrdiff_t line_step, ptrdiff_t k_step, ptrdiff_t lines,
                 const fbp_gemm *c, const int by_line, float *packed)
{
    const int contiguous = k_step == 1;
    if (contiguous && c->precision == FBP_HIGH)
        pack_tiles(x, line_step, 1, lines, c->k, 2, 1, by_line, (char *)packed);
    else if (contiguous)
        pack_tiles(x, line_step, 1, lines, c->k, 1, 1, by_line, (char *)packed);
    else if (!by_line && c->precision == FBP_HIGH)
        pack_rows(x, k_step, lines, c->k, 2, (char *)packed);
    else if (!by_line)
        pack_rows(x, k_step, lines, c->k, 1, (char *)packed);
    else if (c->precision == FBP_HIGH)
        pack_tiles(x, 1, k_step, lines, c->k, 2, 0, by_line, (char *)packed);
    else
        pack_tiles(x, 1, k_step, lines, c->k, 1, 0, by_line, (char *)packed);
}

static void pack_a(const fbp_gemm *c, float *packed)
{
    pack(c->A, c->a_row, c->a_col, c->m, c, 1, packed);
}

static void pack_b(const fbp_gemm *c, float *packed)
{
    pack(c->B, c->b_col, c->b_row, c->n, c, 0, packed);
}

/* A strip of C: squares of two by two tiles, side by side. */
#define SQUARE (2 * TILE)
#define SQUARES 4
#define STRIP (SQUARES * SQUARE)
typedef float strip[SQUARE * STRIP] __attribute__((aligned(64)));

/* Where the tiles of an operand are: those of the next lines, and of the next block along k. */
typedef struct {
    const char *first;
    ptrdiff_t line, block;
} tiles;

/* Make the products of `blocks` along k and add them to the sums of a square, or to 0.  Of it,
 * `rows` by `columns` tiles exist. */
INLINE void add_blocks(tiles A, tiles B, ptrdiff_t blocks, const int high, const int rows,
                       const int columns, int from_zero, float *sums)
{
    const int both = rows == 2 && columns == 2;
    const char *a = A.first, *b = B.first;
    if (from_zero) {
        _tile_zero(0);
        if (columns == 2) _tile_zero(1);
        if (rows == 2) _tile_zero(2);
        if (both) _tile_zero(3);
    } else {
        _tile_loadd(0, sums, 4 * STRIP);
        if (columns == 2) _tile_loadd(1, sums + TILE, 4 * STRIP);
        if (rows == 2) _tile_loadd(2, sums + TILE * STRIP, 4 * STRIP);
        if (both) _tile_loadd(3, sums + TILE * STRIP + TILE, 4 * STRIP);
    }
    for (ptrdiff_t p = 0; p < blocks; p++) {
        for (int each = high ? 0 : 2; each < 3; each++) {
            if (!(high && each == 2)) { /* the same term of A as before */
                const char *from = a + bf16_terms[each][0] * TILE_BYTES;
                _tile_loadd(4, from, 64);
                if (rows == 2) _tile_loadd(5, from + A.line, 64);
            }
            const char *from = b + bf16_terms[each][1] * TILE_BYTES;
            _tile_loadd(6, from, 64);
            if (columns == 2) _tile_loadd(7, from + B.line, 64);
            _tile_dpbf16ps(0, 4, 6);
            if (rows == 2) _tile_dpbf16ps(2, 5, 6);
            if (columns == 2) _tile_dpbf16ps(1, 4, 7);
            if (both) _tile_dpbf16ps(3, 5, 7);
        }
        a += A.block;
        b += B.block;
    }
    _tile_stored(0, sums, 4 * STRIP);
    if (columns == 2) _tile_stored(1, sums + TILE, 4 * STRIP);
    if (rows == 2) _tile_stored(2, sums + TILE * STRIP, 4 * STRIP);
    if (both) _tile_stored(3, sums + TILE * STRIP + TILE, 4 * STRIP);
}

/* totals += sums; before the first sums, totals are C's elements from (i, j) on, or 0. */
static void add_sums(const fbp_gemm *c, ptrdiff_t i, ptrdiff_t j, int first, const float *sums,
                     float *totals)
{
    const ptrdiff_t columns = least_of(c->n - j, STRIP);
    for (ptrdiff_t r = 0; r < least_of(c->m - i, SQUARE); r++) {
        const float *row = (const float *)c->C + (i + r) * c->c_row + j;
        for (ptrdiff_t u = 0; u < columns; u += FBP_LANES) {
            float *total = totals + r * STRIP + u;
            const vec before = !first                    ? v_load(total)
                               : c->part & FBP_CONTINUES ? v_load_part(row + u, columns - u, 0)
                                                         : v_splat(0);
            v_store(total, before + v_load(sums + r * STRIP + u));
        }
    }
}

/* Of the rows of A, DEPTH blocks along k stay in the level-1 cache while the squares of a strip are
 * computed. */
#define DEPTH(high) (FBP_K_BLOCK / FBP_BF16_BLOCK / ((high) ? 2 : 1))

INLINE void multiply_tiles(const fbp_gemm *c, const char *packed_a, const char *packed_b,
                           const int high)
{
    const ptrdiff_t bytes = (high ? 2 : 1) * TILE_BYTES; /* of a block's tiles */
    const ptrdiff_t blocks = fbp_padded(c->k) / FBP_BF16_BLOCK;
    const ptrdiff_t per_sum = c->over_rows ? FBP_K_BLOCK / FBP_BF16_BLOCK : blocks;
    const int adds = per_sum < blocks || c->part & FBP_CONTINUES;
    const ptrdiff_t a_block = block_tiles(c->m, high ? 2 : 1) * bytes;
    const ptrdiff_t b_block = block_tiles(c->n, high ? 2 : 1) * bytes;
    strip sums, totals;
    for (ptrdiff_t i = 0; i < c->m; i += SQUARE) {
        for (ptrdiff_t j = 0; j < c->n; j += STRIP) {
            const ptrdiff_t columns = least_of(c->n - j, STRIP);
            for (ptrdiff_t p = 0, end; p < blocks; p = end) {
                const ptrdiff_t whole = least_of(blocks, p / per_sum * per_sum + per_sum);
                const int from_zero = p % per_sum == 0;
                end = least_of(whole, p + DEPTH(high));
                const tiles A = {packed_a + i / TILE * bytes + p * a_block, bytes, a_block};
                for (ptrdiff_t u = 0; u < columns; u += SQUARE) {
                    const tiles B = {packed_b + (j + u) / TILE * bytes + p * b_block, bytes,
                                     b_block};
                    if (c->m - i > TILE && columns - u > TILE)
                        add_blocks(A, B, end - p, high, 2, 2, from_zero, sums + u);
                    else if (c->m - i > TILE)
                        add_blocks(A, B, end - p, high, 2, 1, from_zero, sums + u);
                    else if (columns - u > TILE)
                        add_blocks(A, B, end - p, high, 1, 2, from_zero, sums + u);
                    else
                        add_blocks(A, B, end - p, high, 1, 1, from_zero, sums + u);
                }
                if (adds && end == whole) add_sums(c, i, j, p < per_sum, sums, totals);
            }
            finish(c, i, j, least_of(c->m - i, SQUARE), columns, adds ? totals : sums, STRIP);
        }
    }
}

static void configure(void)
{
    static const struct {
        uint8_t palette, start_row, reserved[14];
        uint16_t bytes[16];
        uint8_t rows[16];
    } config __attribute__((aligned(64))) = {
        .palette = 1,
        .bytes = {64, 64, 64, 64, 64, 64, 64, 64},
        .rows = {TILE, TILE, TILE, TILE, TILE, TILE, TILE, TILE},
    };
    _tile_loadconfig(&config);
}

static double peak(ptrdiff_t length)
{
    configure();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_zero(4);
    _tile_zero(5);
    _tile_zero(6);
    _tile_zero(7);
    for (ptrdiff_t p = 0; p < length; p++) {
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_release();
    return 2.0 * 4 * TILE * TILE * FBP_BF16_BLOCK * (double)length;
}

static void multiply(const fbp_gemm *c, const float *packed_a, const float *packed_b)
{
    configure();
    if (c->precision == FBP_HIGH)
        multiply_tiles(c, (const char *)packed_a, (const char *)packed_b, 1);
    else
        multiply_tiles(c, (const char *)packed_a, (const char *)packed_b, 0);
    _tile_release();
}

extern const fbp_bf16 fbp_avx512_bf16, fbp_amx_bf16;
static void multiply_row(const fbp_gemm *c) { fbp_avx512_bf16.row(c); }

const fbp_bf16 fbp_amx_bf16 = {pack_a, pack_b, multiply, multiply_row, peak};

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
