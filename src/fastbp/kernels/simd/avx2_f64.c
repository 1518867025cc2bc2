/* The AVX2 tier: 256-bit vectors, with FMA. */
#if defined(__x86_64__)
#pragma GCC target("avx2,fma")
#include <immintrin.h>
#define FBP_BITS 64
#define FBP_LANES (256 / FBP_BITS)
#define FBP_TABLE fbp_avx2_f64
#include "tier.h"
#endif
