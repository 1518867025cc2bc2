/* Chains of fused multiply-adds, to measure the processor's peak speed in benchmarks. */

#define CHAINS 12 /* enough to hide a latency of 4 or 5 cycles at two per cycle */

/* `length` steps of independent chains.  Returns the number of floating-point operations. */
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
