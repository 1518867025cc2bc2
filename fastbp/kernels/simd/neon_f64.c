/* The NEON tier: 128-bit vectors, on 64-bit Arm. */
#if defined(__aarch64__)
#include <arm_neon.h>
#define FBP_BITS 64
#define FBP_LANES (128 / FBP_BITS)
#define FBP_TABLE fbp_neon_f64
#include "tier.h"
#endif
