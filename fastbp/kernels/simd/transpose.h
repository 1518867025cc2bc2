/* Transposition in registers. */

#if FBP_LANES > 1

/* A square of FBP_LANES vectors, mirrored at its diagonal: blocks of half the width are
 * exchanged, then of a quarter, ... */
INLINE void transpose(vec square[FBP_LANES])
{
#ifdef __clang__
    real from[FBP_LANES][FBP_LANES], to[FBP_LANES][FBP_LANES];
    memcpy(from, square, sizeof from);
    for (int i = 0; i < FBP_LANES; i++)
        for (int j = 0; j < FBP_LANES; j++) to[j][i] = from[i][j];
    memcpy(square, to, sizeof to);
#else
    const ivec lane = v_lanes();
#pragma GCC unroll 4
    for (int half = FBP_LANES / 2; half > 0; half /= 2) {
        /* Of two vectors a and b, lanes counted on from a to b. */
        const ivec upper = (lane & v_isplat(half)) != v_isplat(0);
        const ivec from_low = lane + (upper & v_isplat(FBP_LANES - half));
        const ivec from_high = lane + v_isplat(half) + (upper & v_isplat(FBP_LANES - half));
#pragma GCC unroll 16
        for (int i = 0; i < FBP_LANES; i++) {
            if (i & half) continue;
            const vec a = square[i], b = square[i + half];
            square[i] = __builtin_shuffle(a, b, from_low);
            square[i + half] = __builtin_shuffle(a, b, from_high);
        }
    }
#endif
}

#endif
