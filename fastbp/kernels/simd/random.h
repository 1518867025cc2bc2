/* Philox4x32-10: four random words from a 128-bit counter and a 64-bit key.
 *
 * J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011.  A number depends on its counter alone, so any part
 * of a sequence can be made by any thread, in any order, without the rest.
 */
static inline void fbp_philox(uint64_t counter, uint64_t step, uint64_t key, uint32_t word[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)step, c3 = (uint32_t)(step >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        const uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u; /* the golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

#if FBP_LANES > 1

/* As many counters as a vector has 64-bit lanes; the generator's numbers are the lower halves
 * of these, the upper ones may hold anything. */
#define COUNTERS (FBP_LANES * FBP_BITS / 64)
typedef uint64_t counters __attribute__((vector_size(COUNTERS * 8)));

static inline counters splat_counters(uint64_t x) { return x - (counters){0}; }

static inline counters multiply_lower(counters a, uint32_t b)
{
#if defined(__aarch64__)
    return (counters)vmull_u32(vmovn_u64((uint64x2_t)a), vdup_n_u32(b));
#elif FBP_LANES * FBP_BITS == 512
    return (counters)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b));
#else
    return (counters)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b));
#endif
}

/* Which lanes of two vectors, one after the other, take turns: the first or the second half. */
#if COUNTERS == 8
#define TURNS(h) 0 + h, 8 + h, 1 + h, 9 + h, 2 + h, 10 + h, 3 + h, 11 + h
#elif COUNTERS == 4
#define TURNS(h) 0 + h, 4 + h, 1 + h, 5 + h
#else
#define TURNS(h) 0 + h, 2 + h
#endif
#ifdef __clang__
#define take_turns(a, b, half) __builtin_shufflevector(a, b, TURNS(half))
#else
#define take_turns(a, b, half) __builtin_shuffle(a, b, (counters){TURNS(half)})
#endif

/* `fbp_philox` of COUNTERS counters in a row. */
static inline void philox_of_many(uint64_t first, uint64_t step, uint64_t key,
                                  uint32_t word[4 * COUNTERS])
{
    counters c0 = splat_counters(first);
    for (int l = 0; l < COUNTERS; l++) c0[l] += (uint64_t)l;
    counters c1 = c0 >> 32, c2 = splat_counters(step), c3 = splat_counters(step >> 32);
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
    for (int round = 0; round < 10; round++) {
        const counters p0 = multiply_lower(c0, 0xD2511F53u);
        const counters p1 = multiply_lower(c2, 0xCD9E8D57u);
        c0 = (p1 >> 32) ^ c1 ^ splat_counters(k0);
        c2 = (p0 >> 32) ^ c3 ^ splat_counters(k1);
        c1 = p1;
        c3 = p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    const counters lower = splat_counters(0xFFFFFFFFu);
    const counters a = (c0 & lower) | (c1 << 32), b = (c2 & lower) | (c3 << 32);
    const counters front = take_turns(a, b, 0), back = take_turns(a, b, COUNTERS / 2);
    memcpy(word, &front, sizeof front);
    memcpy(word + 2 * COUNTERS, &back, sizeof back);
}

#undef TURNS
#endif
