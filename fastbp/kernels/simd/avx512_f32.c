/* The AVX-512 tier: 512-bit vectors. */
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma")
#endif
#define FBP_BITS 32
#define FBP_LANES (512 / FBP_BITS)
#define FBP_TABLE fbp_avx512_f32
#define FBP_BF16_TABLE fbp_avx512_bf16
#include "tier.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
