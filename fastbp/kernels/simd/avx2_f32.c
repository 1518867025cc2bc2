/* The AVX2 tier: 256-bit vectors, with FMA. */
#if defined(__x86_64__)
#include <immintrin.h>
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define FBP_BITS 32
#define FBP_LANES (256 / FBP_BITS)
#define FBP_TABLE fbp_avx2_f32
#define FBP_BF16_TABLE fbp_avx2_bf16
#include "tier.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
