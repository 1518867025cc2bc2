/* The tiers compiled in, and which of them this machine can run. */
#include "../platform.h"

#include "dispatch.h"

const char *const fbp_unary_names[FBP_UNARIES] = {
#define FBP_ACTIVATION(name, ...) [FBP_UNARY_##name] = #name,
#define FBP_FUNCTION(name, ...) [FBP_UNARY_##name] = #name,
#include "../ops.def"
};

const char *const fbp_update_names[FBP_UPDATES] = {
#define FBP_UPDATE(name, ...) [FBP_UPDATE_##name] = #name,
#include "../ops.def"
};

const char *const fbp_loss_names[FBP_LOSSES] = {
#define FBP_LOSS(name, ...) [FBP_LOSS_##name] = #name,
#include "../ops.def"
};

const char *const fbp_op_names[FBP_OPS] = {
#define FBP_OP(name, ...) [FBP_OP_##name] = #name,
#include "../ops.def"
};

#define FBP_DECLARE_TIER(isa)                   \
    extern const fbp_table_f32 fbp_##isa##_f32; \
    extern const fbp_table_f64 fbp_##isa##_f64; \
    extern const fbp_bf16 fbp_##isa##_bf16

FBP_DECLARE_TIER(scalar);
static int always(void) { return 1; }

#if defined(__x86_64__)
FBP_DECLARE_TIER(avx2);
FBP_DECLARE_TIER(avx512);
#elif defined(__aarch64__)
FBP_DECLARE_TIER(neon);
#endif

#ifdef FBP_AMX
extern const fbp_bf16 fbp_amx_bf16;

static enum fbp_amx ask_for_amx(void)
{
    if (!fbp_has_amx()) return FBP_AMX_MISSING;
    return fbp_request_amx() ? FBP_AMX_RUNS : FBP_AMX_REFUSED;
}

enum fbp_amx fbp_amx_status(void)
{
    static int asked = 0; /* at import, by one thread */
    static enum fbp_amx answer;
    if (!asked) answer = ask_for_amx(), asked = 1;
    return answer;
}

static int runs_amx(void) { return fbp_amx_status() == FBP_AMX_RUNS; }
#else
enum fbp_amx fbp_amx_status(void) { return FBP_AMX_NOT_BUILT; }
#endif

static const fbp_tier tiers[] = {
    {"scalar", always, 1 << 25, &fbp_scalar_f32, &fbp_scalar_f64, &fbp_scalar_bf16},
#if defined(__x86_64__)
    {"avx2", fbp_has_avx2, 1 << 30, &fbp_avx2_f32, &fbp_avx2_f64, &fbp_avx2_bf16},
    {"avx512", fbp_has_avx512, 1 << 30, &fbp_avx512_f32, &fbp_avx512_f64, &fbp_avx512_bf16},
#ifdef FBP_AMX
    {"amx", runs_amx, 1 << 30, &fbp_avx512_f32, &fbp_avx512_f64, &fbp_amx_bf16},
#endif
#elif defined(__aarch64__)
    {"neon", always, 1 << 30, &fbp_neon_f32, &fbp_neon_f64, &fbp_neon_bf16},
#endif
};

const fbp_tier *fbp_tier_at(int i)
{
    const int n = (int)(sizeof tiers / sizeof tiers[0]);
    return 0 <= i && i < n ? &tiers[i] : NULL;
}

ptrdiff_t fbp_level2_bytes = 1 << 19;

void fbp_find_caches(void)
{
    const ptrdiff_t bytes = fbp_level2_cache();
    if (bytes) fbp_level2_bytes = bytes;
}
