/* A vector of FBP_LANES elements, and the operations of the templates on it.
 *
 * FBP_BITS is 32 or 64, for float or double; FBP_LANES is 1 in the scalar tier.
 *
 * This defines `real`, `vec` (FBP_LANES reals) and `ivec` (as many signed integers of the same
 * size; also the masks: a lane is all ones or all zeros).  Every operation works lane by lane and
 * rounds once, as IEEE 754 says, so that a formula written with them gives an element the same bits
 * in a lane of any tier.  `+ - * /`, unary `-` and, on ivec, `& | ~ << >>` are the language's own.
 *
 * Subnormal numbers cost some processors a hundred cycles each, so no kernel returns
 * one: results below FBP_MIN_NORMAL, the least normal number, become 0.  Gradients
 * become 0 below FBP_MIN_GRADIENT, so that their products with weights and inputs of
 * an ordinary size are normal too, and numbers to be squared count as 0 below
 * FBP_MIN_ROOT.  These rules are part of the results and the same on every machine;
 * no floating-point mode is changed.
 */

#define INLINE static inline __attribute__((always_inline))

#if FBP_BITS == 32
typedef float real;
typedef int32_t integer;
#define FBP_MANTISSA_BITS 23
#define SIGN_BIT INT32_MIN
#define FBP_MIN_NORMAL 0x1p-126f
#define FBP_MIN_GRADIENT 0x1p-100f
#define FBP_MIN_ROOT 0x1p-56f
#else
typedef double real;
typedef int64_t integer;
#define FBP_MANTISSA_BITS 52
#define SIGN_BIT INT64_MIN
#define FBP_MIN_NORMAL 0x1p-1022
#define FBP_MIN_GRADIENT 0x1p-960
#define FBP_MIN_ROOT 0x1p-500
#endif

#if FBP_LANES == 1

typedef real vec;
typedef integer ivec;

static inline vec v_splat(real x) { return x; }
static inline ivec v_isplat(integer x) { return x; }
static inline vec v_load(const real *p) { return *p; }
static inline void v_store(real *p, vec x) { *p = x; }
/* The first n elements of a vector: all of it where n is larger, none where n <= 0. */
static inline vec v_load_part(const real *p, ptrdiff_t n, real fill) { return n > 0 ? *p : fill; }
static inline void v_store_part(real *p, ptrdiff_t n, vec x)
{
    if (n > 0) *p = x;
}
static inline ivec v_lt(vec a, vec b) { return -(integer)(a < b); }
static inline ivec v_le(vec a, vec b) { return -(integer)(a <= b); }
static inline vec v_select(ivec mask, vec a, vec b) { return mask ? a : b; }
#if FBP_BITS == 32
static inline vec v_fma(vec a, vec b, vec c) { return fmaf(a, b, c); }
static inline vec v_sqrt(vec a) { return sqrtf(a); }
#else
static inline vec v_fma(vec a, vec b, vec c) { return fma(a, b, c); }
static inline vec v_sqrt(vec a) { return sqrt(a); }
#endif
static inline vec v_max(vec a, vec b) { return a > b ? a : b; }
static inline vec v_min(vec a, vec b) { return a < b ? a : b; }

#else

typedef real vec __attribute__((vector_size(FBP_LANES * FBP_BITS / 8)));
typedef integer ivec __attribute__((vector_size(FBP_LANES * FBP_BITS / 8)));

/* x - 0 rather than x + 0, which would turn -0 into +0. */
static inline vec v_splat(real x) { return x - (vec){0}; }
static inline ivec v_isplat(integer x) { return x - (ivec){0}; }
static inline ivec v_lanes(void) /* 0, 1, 2, ... */
{
    ivec lane;
    for (int l = 0; l < FBP_LANES; l++) lane[l] = l;
    return lane;
}
static inline vec v_load(const real *p)
{
    vec x;
    memcpy(&x, p, sizeof x);
    return x;
}
static inline void v_store(real *p, vec x) { memcpy(p, &x, sizeof x); }
static inline vec v_load_part(const real *p, ptrdiff_t n, real fill);
static inline void v_store_part(real *p, ptrdiff_t n, vec x);
static inline ivec v_lt(vec a, vec b) { return a < b; }
static inline ivec v_le(vec a, vec b) { return a <= b; }
static inline vec v_select(ivec mask, vec a, vec b)
{
    return (vec)((mask & (ivec)a) | (~mask & (ivec)b));
}

#if FBP_LANES * FBP_BITS == 512
#define X86(op) _mm512_##op
#elif FBP_LANES * FBP_BITS == 256
#define X86(op) _mm256_##op
#else
#define X86(op) _mm_##op
#endif
/* v_max is used for magnitudes only: processors differ in which of two NaNs or zeros it returns.
 * v_min likewise, and its first operand is no NaN; if the second is one, so is the result. */
#if defined(__aarch64__) && FBP_BITS == 32
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f32(c, a, b); }
static inline vec v_sqrt(vec a) { return vsqrtq_f32(a); }
static inline vec v_max(vec a, vec b) { return vmaxq_f32(a, b); }
static inline vec v_min(vec a, vec b) { return vminq_f32(a, b); }
#elif defined(__aarch64__)
static inline vec v_fma(vec a, vec b, vec c) { return vfmaq_f64(c, a, b); }
static inline vec v_sqrt(vec a) { return vsqrtq_f64(a); }
static inline vec v_max(vec a, vec b) { return vmaxq_f64(a, b); }
static inline vec v_min(vec a, vec b) { return vminq_f64(a, b); }
#elif FBP_BITS == 32
static inline vec v_fma(vec a, vec b, vec c) { return X86(fmadd_ps)(a, b, c); }
static inline vec v_sqrt(vec a) { return X86(sqrt_ps)(a); }
static inline vec v_max(vec a, vec b) { return X86(max_ps)(a, b); }
static inline vec v_min(vec a, vec b) { return X86(min_ps)(a, b); }
#else
static inline vec v_fma(vec a, vec b, vec c) { return X86(fmadd_pd)(a, b, c); }
static inline vec v_sqrt(vec a) { return X86(sqrt_pd)(a); }
static inline vec v_max(vec a, vec b) { return X86(max_pd)(a, b); }
static inline vec v_min(vec a, vec b) { return X86(min_pd)(a, b); }
#endif

/* The first n lanes, as a mask for loads and stores where the processor has them. */
#if FBP_LANES * FBP_BITS == 512
#define FBP_MASKS 1
#if FBP_BITS == 32
typedef __mmask16 mask;
#define TYPED(op) op##_ps
#else
typedef __mmask8 mask;
#define TYPED(op) op##_pd
#endif
static inline mask v_first(ptrdiff_t n) { return (mask)((1u << n) - 1); }
static inline vec v_load_masked(const real *p, mask m, real fill)
{
    return TYPED(_mm512_mask_loadu)(v_splat(fill), m, p);
}
static inline void v_store_masked(real *p, mask m, vec x) { TYPED(_mm512_mask_storeu)(p, m, x); }
/* Lanes of a, and of b, which count on from those of a. */
static inline vec v_pick(vec a, vec b, ivec lanes)
{
    return TYPED(_mm512_permutex2var)(a, (__m512i)lanes, b);
}
#elif FBP_LANES * FBP_BITS == 256
#define FBP_MASKS 1
typedef ivec mask;
#if FBP_BITS == 32
#define TYPED(op) op##_ps
static inline mask v_first(ptrdiff_t n)
{
    return (ivec){0, 1, 2, 3, 4, 5, 6, 7} < v_isplat((int)n);
}
#else
#define TYPED(op) op##_pd
static inline mask v_first(ptrdiff_t n) { return (ivec){0, 1, 2, 3} < v_isplat(n); }
#endif
static inline vec v_load_masked(const real *p, mask m, real fill)
{
    return v_select(m, TYPED(_mm256_maskload)(p, (__m256i)m), v_splat(fill));
}
static inline void v_store_masked(real *p, mask m, vec x)
{
    TYPED(_mm256_maskstore)(p, (__m256i)m, x);
}
#else
#define FBP_MASKS 0
#endif
#undef TYPED

static inline vec v_load_part(const real *p, ptrdiff_t n, real fill)
{
    if (n >= FBP_LANES) return v_load(p);
    if (n <= 0) return v_splat(fill);
#if FBP_MASKS
    return v_load_masked(p, v_first(n), fill);
#else
    vec x = v_splat(fill);
    for (ptrdiff_t l = 0; l < n; l++) x[l] = p[l];
    return x;
#endif
}
static inline void v_store_part(real *p, ptrdiff_t n, vec x)
{
    if (n >= FBP_LANES) {
        v_store(p, x);
    } else if (n > 0) {
#if FBP_MASKS
        v_store_masked(p, v_first(n), x);
#else
        for (ptrdiff_t l = 0; l < n; l++) p[l] = x[l];
#endif
    }
}
#undef X86

#endif

/* A register of doubles, loaded from reals, for sums in float64. */
#if FBP_BITS == 64
#define WIDE_LANES FBP_LANES
typedef vec wide;
static inline wide w_load(const real *p) { return v_load(p); }
static inline wide w_fma(wide a, wide b, wide c) { return v_fma(a, b, c); }
#elif FBP_LANES == 1
#define WIDE_LANES 1
typedef double wide;
static inline wide w_load(const real *p) { return (double)*p; }
static inline wide w_fma(wide a, wide b, wide c) { return fma(a, b, c); }
#else
#define WIDE_LANES (FBP_LANES / 2)
typedef double wide __attribute__((vector_size(WIDE_LANES * 8)));
static inline wide w_load(const real *p)
{
    float x __attribute__((vector_size(WIDE_LANES * 4)));
    memcpy(&x, p, sizeof x);
    return __builtin_convertvector(x, wide);
}
#if FBP_LANES == 16
static inline wide w_fma(wide a, wide b, wide c) { return _mm512_fmadd_pd(a, b, c); }
#elif FBP_LANES == 8
static inline wide w_fma(wide a, wide b, wide c) { return _mm256_fmadd_pd(a, b, c); }
#elif defined(__aarch64__)
static inline wide w_fma(wide a, wide b, wide c) { return vfmaq_f64(c, a, b); }
#endif
#endif

/* The same bits read as integers, and back. */
static inline ivec v_bits(vec a)
{
    ivec b;
    memcpy(&b, &a, sizeof b);
    return b;
}

static inline vec v_from_bits(ivec a)
{
    vec b;
    memcpy(&b, &a, sizeof b);
    return b;
}

static inline vec v_abs(vec x) { return v_from_bits(v_bits(x) & v_isplat(~SIGN_BIT)); }

static inline vec v_add(vec a, vec b) { return a + b; }

/* v_swap(x, half): lane l of the result is lane l ^ half of x.  A macro, since both compilers
 * want to see constants. */
#if FBP_LANES == 2
#define XOR(h) 0 ^ h, 1 ^ h
#elif FBP_LANES == 4
#define XOR(h) 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h
#elif FBP_LANES == 8
#define XOR(h) 0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h
#elif FBP_LANES == 16
#define XOR(h)                                                                                    \
    0 ^ h, 1 ^ h, 2 ^ h, 3 ^ h, 4 ^ h, 5 ^ h, 6 ^ h, 7 ^ h, 8 ^ h, 9 ^ h, 10 ^ h, 11 ^ h, 12 ^ h, \
        13 ^ h, 14 ^ h, 15 ^ h
#endif
#ifdef __clang__
#define v_swap(x, half) __builtin_shufflevector(x, x, XOR(half))
#else
#define v_swap(x, half) __builtin_shuffle(x, (ivec){XOR(half)})
#endif

/* One number of all lanes: l with l + FBP_LANES / 2, then half of that, ... 1. */
INLINE real v_fold(vec x, vec (*const with)(vec, vec))
{
#if FBP_LANES >= 16
    x = with(x, v_swap(x, 8));
#endif
#if FBP_LANES >= 8
    x = with(x, v_swap(x, 4));
#endif
#if FBP_LANES >= 4
    x = with(x, v_swap(x, 2));
#endif
#if FBP_LANES >= 2
    return with(x, v_swap(x, 1))[0];
#else
    (void)with;
    return x;
#endif
}

/* 0 where |x| < least */
static inline vec v_zero_below(vec x, real least)
{
#if FBP_LANES == 1
    return v_abs(x) < least ? 0 : x;
#elif FBP_LANES * FBP_BITS == 512 && FBP_BITS == 32
    const mask kept = _mm512_cmp_ps_mask(v_abs(x), v_splat(least), _CMP_NLT_UQ);
    return _mm512_maskz_mov_ps(kept, x);
#elif FBP_LANES * FBP_BITS == 512
    const mask kept = _mm512_cmp_pd_mask(v_abs(x), v_splat(least), _CMP_NLT_UQ);
    return _mm512_maskz_mov_pd(kept, x);
#else
    return v_from_bits(v_bits(x) & ~v_lt(v_abs(x), v_splat(least)));
#endif
}

/* ReLU, which matrix products apply to their sums as well.  The derivative selects rather than
 * multiplies, so that its 0 is exact for any dA.  A NaN in z gives NaN, as in all derivatives. */
static inline vec v_relu(vec z) { return v_select(v_le(z, v_splat(0)), v_splat(0), z); }

static inline vec v_relu_backward(vec dA, vec z)
{
    const vec zero = v_splat(0);
    return v_select(v_lt(zero, z), dA, v_select(v_le(z, zero), zero, z));
}

INLINE ptrdiff_t least_of(ptrdiff_t a, ptrdiff_t b) { return a < b ? a : b; }
