/* The tiers compiled in, and which of them this machine can run. */
#define _GNU_SOURCE /* syscall */
#include <unistd.h>

#include "dispatch.h"
#ifdef FBP_AMX
#include <cpuid.h>
#include <sys/syscall.h>
#endif

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
static int has_avx2(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
FBP_DECLARE_TIER(avx512);
static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#elif defined(__aarch64__)
FBP_DECLARE_TIER(neon);
#endif

#ifdef FBP_AMX
extern const fbp_bf16 fbp_amx_bf16;

/* Linux makes room for a process's tiles once it asks for them. */
static enum fbp_amx ask_for_amx(void)
{
    unsigned a, b, c, d;
    const unsigned amx_bf16 = 1u << 22, amx_tile = 1u << 24; /* of leaf 7's edx */
    if (!has_avx512() || !__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & amx_bf16) ||
        !(d & amx_tile))
        return FBP_AMX_MISSING;
    const unsigned avx512_bf16 = 1u << 5; /* of subleaf 1's eax */
    if (!__get_cpuid_count(7, 1, &a, &b, &c, &d) || !(a & avx512_bf16)) return FBP_AMX_MISSING;
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) ? FBP_AMX_REFUSED : FBP_AMX_RUNS;
}

enum fbp_amx fbp_amx_status(void)
{
    static int asked = 0; /* at import, by one thread */
    static enum fbp_amx answer;
    if (!asked) answer = ask_for_amx(), asked = 1;
    return answer;
}

static int has_amx(void) { return fbp_amx_status() == FBP_AMX_RUNS; }
#else
enum fbp_amx fbp_amx_status(void) { return FBP_AMX_NOT_BUILT; }
#endif

static const fbp_tier tiers[] = {
    {"scalar", always, 1 << 25, &fbp_scalar_f32, &fbp_scalar_f64, &fbp_scalar_bf16},
#if defined(__x86_64__)
    {"avx2", has_avx2, 1 << 30, &fbp_avx2_f32, &fbp_avx2_f64, &fbp_avx2_bf16},
    {"avx512", has_avx512, 1 << 30, &fbp_avx512_f32, &fbp_avx512_f64, &fbp_avx512_bf16},
#ifdef FBP_AMX
    {"amx", has_amx, 1 << 30, &fbp_avx512_f32, &fbp_avx512_f64, &fbp_amx_bf16},
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
#ifdef _SC_LEVEL2_CACHE_SIZE
    const long bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
    if (bytes > 0) fbp_level2_bytes = bytes;
#endif
}
