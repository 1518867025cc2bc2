/* The tiers compiled in, and which of them this machine can run. */
#include "dispatch.h"

#define FBP_DECLARE_TIER(isa)                   \
    extern const fbp_table_f32 fbp_##isa##_f32; \
    extern const fbp_table_f64 fbp_##isa##_f64

FBP_DECLARE_TIER(scalar);

static int always(void) { return 1; }

static const fbp_tier tiers[] = {
    {"scalar", always, &fbp_scalar_f32, &fbp_scalar_f64},
};

const fbp_tier *fbp_tier_at(int i)
{
    const int n = (int)(sizeof tiers / sizeof tiers[0]);
    return 0 <= i && i < n ? &tiers[i] : NULL;
}
