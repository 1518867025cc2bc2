/* The NEON tier: 128-bit vectors, on 64-bit Arm. */
#if defined(__aarch64__)
#include <arm_neon.h>
#define FBP_BITS 32
#define FBP_LANES (128 / FBP_BITS)
#define FBP_TABLE fbp_neon_f32
#define FBP_BF16_TABLE fbp_neon_bf16
#include "tier.h"
#endif
