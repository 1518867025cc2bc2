/* The scalar tier: plain loops and fma(), built on every machine.  It is the
 * oracle that every other tier must equal bit for bit. */
#include "../platform.h" /* for an fma that is one */

#define FBP_BITS 64
#define FBP_LANES 1
#define FBP_TABLE fbp_scalar_f64
#include "tier.h"
