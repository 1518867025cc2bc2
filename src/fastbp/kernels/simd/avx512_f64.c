/* The AVX-512 tier: 512-bit vectors. */
#if defined(__x86_64__)
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,fma,avx2")
#include <immintrin.h>
#define FBP_BITS 64
#define FBP_LANES (512 / FBP_BITS)
#define FBP_TABLE fbp_avx512_f64
#include "tier.h"
#endif
