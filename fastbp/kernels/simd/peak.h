/* Nothing but fused multiply-adds: what the processor can do at most, for benchmarks. */

#define CHAINS 12 /* enough that none waits for itself: a latency of 4 or 5, two at a time */

/* `length` steps of independent chains; the floating-point operations made. */
static double fma_chains(ptrdiff_t length)
{
    volatile real one = 1; /* the compiler must not know the result */
    const vec a = v_splat(one), b = v_splat(0);
    vec sum[CHAINS];
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) sum[i] = v_splat(one);
    for (ptrdiff_t p = 0; p < length; p++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) sum[i] = v_fma(sum[i], a, b);
    }
    for (int i = 1; i < CHAINS; i++) sum[0] = sum[0] + sum[i];
    real lanes[FBP_LANES];
    v_store(lanes, sum[0]);
    one = lanes[0];
    return 2.0 * CHAINS * FBP_LANES * (double)length;
}

#undef CHAINS
