/* What depends on the processor or the system: atomics and a monitor for teams, a clock, which
 * instructions there are, the size of a cache.
 *
 * All other C is C11, and in simd/ the extensions for vectors that gcc and clang share.  So on
 * Windows the compiler is MinGW-w64's.  Include this before any header of the system.
 */
#ifndef FBP_PLATFORM_H
#define FBP_PLATFORM_H

#ifndef __GNUC__
#error "fastbp: expected gcc or clang, whose vectors its kernels use; on Windows MinGW-w64"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* for clock_gettime, syscall */
#endif

#include <math.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#ifdef _WIN32
#ifndef WIN32_LEAN_AND_MEAN
#define WIN32_LEAN_AND_MEAN
#endif
#include <windows.h>
#else
#include <pthread.h>
#include <time.h>
#include <unistd.h>
#endif
#ifdef __linux__
#include <sys/syscall.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif

#ifdef _WIN32
/* MinGW's fused multiply-adds round twice; these are exact.  In a type of more than twice the bits
 * the product is exact, and the sum is rounded to odd: its last bit is 1 where it is not exact, so
 * that to round it again is to round once. */
#define FBP_DEFINE_FMA(name, real, wide, word)                                             \
    static inline real name(real a, real b, real c)                                        \
    {                                                                                      \
        const wide product = (wide)a * b;                                                  \
        wide sum = product + c;                                                            \
        const wide added = sum - product, error = (product - (sum - added)) + (c - added); \
        word bits;                                                                         \
        memcpy(&bits, &sum, sizeof bits);                                                  \
        if (sum - sum == 0 && error != 0 && !(bits & 1))                                   \
            bits += (error > 0) == (sum > 0) ? 1 : -1;                                     \
        memcpy(&sum, &bits, sizeof bits);                                                  \
        return (real)sum;                                                                  \
    }
FBP_DEFINE_FMA(fbp_fmaf, float, double, uint64_t)
FBP_DEFINE_FMA(fbp_fma, double, __float128, unsigned __int128)
#define fmaf fbp_fmaf
#define fma fbp_fma
#endif

/* Whether the compiler knows AMX, and the system may permit it. */
#if defined(__x86_64__) && defined(__linux__) && \
    (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define FBP_AMX
#endif

/* A monitor: a mutex, and threads that have it and wait to be woken. */
#ifdef _WIN32
typedef struct {
    SRWLOCK mutex;
    CONDITION_VARIABLE wake;
} fbp_monitor;
#define FBP_MONITOR_INIT {SRWLOCK_INIT, CONDITION_VARIABLE_INIT}
static inline void fbp_monitor_enter(fbp_monitor *m) { AcquireSRWLockExclusive(&m->mutex); }
static inline void fbp_monitor_leave(fbp_monitor *m) { ReleaseSRWLockExclusive(&m->mutex); }
static inline void fbp_monitor_wake_all(fbp_monitor *m) { WakeAllConditionVariable(&m->wake); }
static inline void fbp_monitor_wait(fbp_monitor *m)
{
    SleepConditionVariableSRW(&m->wake, &m->mutex, INFINITE, 0);
}
#else
typedef struct {
    pthread_mutex_t mutex;
    pthread_cond_t wake;
} fbp_monitor;
#define FBP_MONITOR_INIT {PTHREAD_MUTEX_INITIALIZER, PTHREAD_COND_INITIALIZER}
static inline void fbp_monitor_enter(fbp_monitor *m) { pthread_mutex_lock(&m->mutex); }
static inline void fbp_monitor_leave(fbp_monitor *m) { pthread_mutex_unlock(&m->mutex); }
static inline void fbp_monitor_wake_all(fbp_monitor *m) { pthread_cond_broadcast(&m->wake); }
static inline void fbp_monitor_wait(fbp_monitor *m) { pthread_cond_wait(&m->wake, &m->mutex); }
#endif

/* Say to the processor that this thread polls. */
static inline void fbp_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Seconds of a clock that never goes back. */
static inline double fbp_seconds(void)
{
#ifdef _WIN32
    LARGE_INTEGER now, per_second;
    QueryPerformanceCounter(&now);
    QueryPerformanceFrequency(&per_second);
    return (double)now.QuadPart / (double)per_second.QuadPart;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
#endif
}

#ifdef __x86_64__
enum { FBP_EAX, FBP_EBX, FBP_ECX, FBP_EDX };

/* A register of a leaf of CPUID; 0 where the processor lacks the leaf. */
static inline uint32_t fbp_cpuid(uint32_t leaf, uint32_t subleaf, int which)
{
    uint32_t r[4] = {leaf & 0x80000000u, 0, 0, 0};
    for (int asked = 0; asked < 2; asked++) { /* for the last leaf of this kind, then for ours */
        __asm__ volatile("cpuid"
                         : "+a"(r[FBP_EAX]), "=b"(r[FBP_EBX]), "+c"(r[FBP_ECX]), "=d"(r[FBP_EDX]));
        if (asked) return r[which];
        if (r[FBP_EAX] < leaf) break;
        r[FBP_EAX] = leaf, r[FBP_ECX] = subleaf;
    }
    return 0;
}

/* Whether the system saves the registers of these bits of XCR0. */
static inline int fbp_saves(uint32_t registers)
{
    const uint32_t has_xgetbv = 1u << 27;
    if (!(fbp_cpuid(1, 0, FBP_ECX) & has_xgetbv)) return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (low & registers) == registers;
}

static inline int fbp_has_avx2(void)
{
    const uint32_t fma = 1u << 12, avx = 1u << 28, avx2 = 1u << 5;
    return (~fbp_cpuid(1, 0, FBP_ECX) & (fma | avx)) == 0 && fbp_cpuid(7, 0, FBP_EBX) & avx2 &&
           fbp_saves(0x6);
}

/* The foundation, and byte, word, doubleword and shorter vectors.  macOS says that it saves the
 * registers only once a thread has used them, so there the answer is no. */
static inline int fbp_has_avx512(void)
{
    const uint32_t f = 1u << 16, dq = 1u << 17, bw = 1u << 30, vl = 1u << 31;
    return fbp_has_avx2() && (~fbp_cpuid(7, 0, FBP_EBX) & (f | dq | bw | vl)) == 0 &&
           fbp_saves(0xe6);
}

/* AMX for bfloat16, with AVX-512's conversions to it. */
static inline int fbp_has_amx(void)
{
    const uint32_t amx_bf16 = 1u << 22, amx_tile = 1u << 24, avx512_bf16 = 1u << 5;
    return fbp_has_avx512() && (~fbp_cpuid(7, 0, FBP_EDX) & (amx_bf16 | amx_tile)) == 0 &&
           fbp_cpuid(7, 1, FBP_EAX) & avx512_bf16;
}
#endif

#ifdef FBP_AMX
/* Linux makes room for a process's tiles once it asks for them.  Returns whether it did. */
static inline int fbp_request_amx(void)
{
    const long request_permission = 0x1023, tile_data = 18;
    return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
}
#endif

/* Bytes of a core's level-2 cache, or 0 where neither the system nor the processor says. */
static inline ptrdiff_t fbp_level2_cache(void)
{
    long bytes = 0;
#ifdef _SC_LEVEL2_CACHE_SIZE
    bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
#ifdef __APPLE__
    int64_t answer = 0;
    size_t size = sizeof answer;
    if (sysctlbyname("hw.l2cachesize", &answer, &size, NULL, 0) == 0) bytes = (long)answer;
#endif
#ifdef __x86_64__
    if (bytes <= 0) bytes = (long)(fbp_cpuid(0x80000006u, 0, FBP_ECX) >> 16) << 10;
#endif
    return bytes > 0 ? (ptrdiff_t)bytes : 0;
}
#endif
