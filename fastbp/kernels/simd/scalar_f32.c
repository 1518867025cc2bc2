/* The scalar tier: plain loops and fma(), built on every machine.  It is the
 * oracle that every other tier must equal bit for bit. */
#include "../platform.h" /* for an fma that is one */

#define FBP_BITS 32
#define FBP_LANES 1
#define FBP_TABLE fbp_scalar_f32
#define FBP_BF16_TABLE fbp_scalar_bf16
#include "tier.h"
