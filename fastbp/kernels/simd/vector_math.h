/* exp, expm1, log, log1p, tanh, sigmoid, erf, and cos and sin of 2 pi t, of a vector.
 *
 * Written with the operations of vectors.h only, each rounded once and none of them left to
 * the compiler to contract, so a number has the same bits in a lane of any tier.  There are no
 * branches: where a function needs several formulas it evaluates all of them and selects.
 *
 * What holds for all of them:
 *   - the error is below 2 ULP wherever the true result is a normal number (but for the last two
 *     functions); the maxima measured, float / double, stand above each function
 *   - exp and sigmoid give 0 instead of a result below FBP_MIN_NORMAL; the others give a subnormal
 *     result only for an argument about as small
 *   - NaN gives NaN; infinities, overflow and poles give what C's functions give
 *   - the odd functions are odd to the bit; expm1, log1p and the odd ones keep the sign of a
 *     zero
 */

/* The coefficients, the constant first.  Each polynomial is minimax for the relative error of
 * the function's result.
 *
 *   exp_poly   (e^r - 1 - r) / r^2, in r                  |r| <= ln(2)/2      degree 4 / 9
 *   log_poly   (log((1+s)/(1-s)) - 2s) / s^3, in s^2      |s| <= 0.1716       degree 2 / 6
 *   tanh_num,
 *   tanh_den   (tanh(a)/a - 1) / a^2, in a^2              0 <= a <= 0.63      degrees 1, 1 / 2, 3
 *   erf_poly   erf(a)/a - 1, in a^2                       0 <= a <= 1         degree 6 / 11
 *   erfc_poly  log(1 - erf(a)), in a                      1 <= a <= ERF_ONE   degree 6 / 17
 *   sin_poly   sin(2 pi s) / s, in s^2                    |s| <= 1/4          degree 4 / 8
 *   cos_poly   cos(2 pi s) / (1 - 16 s^2), in s^2         |s| <= 1/4          degree 4 / 7
 */
#if FBP_BITS == 32
typedef uint32_t unsigned_integer;
#define SQRT_HALF_BITS 0x3f3504f3
#define LOG2_E 0x1.715476p0f
#define LN2_HIGH 0x1.62e43p-1f
#define LN2_LOW (-0x1.05c61p-29f)  /* ln(2) - LN2_HIGH */
#define EXP_LEAST (-0x1.5d589ep6f) /* the least x for which e^x is normal */
#define EXP_LARGEST 0x1.62e42ep6f  /* the largest x for which e^x is finite */
#define EXPM1_TINY 0x1p-26f        /* e^x - 1 rounds to x where |x| is less */
#define ERF_ONE 4.0f               /* erf rounds to 1 from here on */
static const real exp_poly[] = {
    0x1p-1f, 0x1.5554ap-3f, 0x1.555444p-5f, 0x1.1234fcp-7f, 0x1.6e5f78p-10f,
};
static const real log_poly[] = {0x1.55557ap-1f, 0x1.995ed4p-2f, 0x1.31e0eep-2f};
static const real tanh_num[] = {-0x1.555544p-2f, -0x1.941344p-10f};
static const real tanh_den[] = {0x1p0f, 0x1.9e528cp-2f};
static const real erf_poly[] = {
    0x1.06eba8p-3f, -0x1.81273ep-2f,  0x1.ce2ce6p-4f, -0x1.b7f71ap-6f,
    0x1.53f224p-8f, -0x1.a3515cp-11f, 0x1.4771fp-14f,
};
static const real erfc_poly[] = {
    -0x1.72ecd8p-12f, -0x1.2085bp0f,   -0x1.46c58ep-1f, -0x1.a60a22p-4f,
    0x1.65411cp-6f,   -0x1.8149f8p-9f, 0x1.8526bap-13f,
};
static const real sin_poly[] = {
    0x1.921fb6p2f, -0x1.4abbd8p5f, 0x1.466b28p6f, -0x1.328054p6f, 0x1.407faap5f,
};
static const real cos_poly[] = {
    0x1p0f, -0x1.de9e6p1f, 0x1.472a7cp2f, -0x1.d47ab8p1f, 0x1.8c0ca8p0f,
};
#else
typedef uint64_t unsigned_integer;
#define SQRT_HALF_BITS 0x3fe6a09e667f3bcd
#define LOG2_E 0x1.71547652b82fep0
#define LN2_HIGH 0x1.62e42fefa39efp-1
#define LN2_LOW 0x1.abc9e3b39803fp-56
#define EXP_LEAST (-0x1.6232bdd7abcd2p9)
#define EXP_LARGEST 0x1.62e42fefa39efp9
#define EXPM1_TINY 0x1p-55
#define ERF_ONE 6.0
static const real exp_poly[] = {
    0x1p-1,
    0x1.5555555555555p-3,
    0x1.5555555553cb1p-5,
    0x1.111111111453p-7,
    0x1.6c16c17984f8cp-10,
    0x1.a01a0185606d1p-13,
    0x1.a019b50076f91p-16,
    0x1.71de72e2ec592p-19,
    0x1.28961adb5396dp-22,
    0x1.ae7a0da95182ap-26,
};
static const real log_poly[] = {
    0x1.5555555555592p-1, 0x1.999999997fefbp-2, 0x1.24924941e4a91p-2, 0x1.c71c521047085p-3,
    0x1.74663e05da7c1p-3, 0x1.39a1c5dae60b2p-3, 0x1.2f055b1368dbcp-3,
};
static const real tanh_num[] = {
    -0x1.5555555555554p-2,
    -0x1.4fd189750034dp-6,
    -0x1.a183d375c6fb2p-13,
};
static const real tanh_den[] = {
    0x1p0,
    0x1.d890e35f89924p-2,
    0x1.7d8f622ed2fc2p-6,
    0x1.b0ed67688e0bp-13,
};
static const real erf_poly[] = {
    0x1.06eba8214db68p-3,  -0x1.812746b03799dp-2,  0x1.ce2f21a03f8b8p-4,  -0x1.b82ce311a972cp-6,
    0x1.565bcceed7dcbp-8,  -0x1.c02daeb68034dp-11, 0x1.f9a296a427f85p-14, -0x1.f4c82dc94223dp-17,
    0x1.b96b48f81e507p-20, -0x1.5b8c05bda5e6fp-23, 0x1.d3da829cd5daap-27, -0x1.a2339159e812fp-31,
};
static const real erfc_poly[] = {
    -0x1.139163b258bbdp-21, -0x1.20dd1e2e51b88p0,   -0x1.45f635b694494p-1,  -0x1.a4ab26c3c8808p-4,
    0x1.371995e9f7e1p-6,    0x1.b1a2e10956a4ap-12,  -0x1.f70b05ebfd09cp-10, 0x1.954d496ee4d9fp-11,
    -0x1.1e62f19a42ee2p-13, -0x1.478283deb1a9bp-16, 0x1.7a07210e0aaefp-16,  -0x1.1fd978e6a262fp-17,
    0x1.1bd65ccfdafb5p-19,  -0x1.8ccf06909ae6cp-22, 0x1.8a8da49e51371p-25,  -0x1.0b4fdedfdb7c3p-28,
    0x1.bc435e2cefbc8p-33,  -0x1.56564ede2ac63p-38,
};
static const real sin_poly[] = {
    0x1.921fb54442d18p2,  -0x1.4abbce625be39p5,  0x1.466bc67759fcap6,
    -0x1.32d2cce5e6546p6, 0x1.5078346aa719fp5,   -0x1.e307419cd9ba5p3,
    0x1.e8f020c9c7e5bp1,  -0x1.6f04b22f4ceeap-1, 0x1.8f8d070c38947p-4,
};
static const real cos_poly[] = {
    0x1p0,
    -0x1.de9e64df22ebbp1,
    0x1.472be12240994p2,
    -0x1.d4fcd82e4056ap1,
    0x1.9f05c9937fc52p0,
    -0x1.f3092332dd826p-2,
    0x1.b22dc11064c3dp-4,
    -0x1.155ba1707a1e6p-6,
};
#endif

/* c[0] + x (c[1] + x (...)), one fma a step */
static inline __attribute__((always_inline)) vec v_poly(vec x, const real *c, int n)
{
    vec sum = v_splat(c[n - 1]);
#ifndef __clang__ /* which unrolls it unasked */
#pragma GCC unroll 32
#endif
    for (int i = n - 2; i >= 0; i--) sum = v_fma(sum, x, v_splat(c[i]));
    return sum;
}
#define POLY(x, c) v_poly(x, c, (int)(sizeof(c) / sizeof(real)))

#if FBP_LANES == 1
typedef unsigned_integer uvec;
#else
typedef unsigned_integer uvec __attribute__((vector_size(FBP_LANES * FBP_BITS / 8)));
#endif

/* Addition and left shift that wrap around; on signed integers C leaves that undefined. */
static inline ivec v_wrap_add(ivec a, ivec b) { return (ivec)((uvec)a + (uvec)b); }
static inline ivec v_wrap_shl(ivec a, int n) { return (ivec)((uvec)a << n); }

/* a with the sign of x, where a is positive, +0, or has that sign already */
static inline vec v_with_sign(vec a, vec x)
{
    return v_from_bits(v_bits(a) | (v_bits(x) & v_isplat(SIGN_BIT)));
}

/* max(x, low) and min(x, high); NaN stays NaN. */
static inline vec v_at_least(vec x, real low)
{
    return v_select(v_lt(x, v_splat(low)), v_splat(low), x);
}
static inline vec v_at_most(vec x, real high)
{
    return v_select(v_lt(v_splat(high), x), v_splat(high), x);
}

/* x 2^n and 2^n, the n taken from the low bits and the results normal numbers */
static inline vec v_scale(vec x, ivec n)
{
    return v_from_bits(v_wrap_add(v_bits(x), v_wrap_shl(n, FBP_MANTISSA_BITS)));
}
static inline vec v_pow2(ivec n) { return v_scale(v_splat(1), n); }

/* Added to a much smaller number, this rounds it to an integer, which then is in the low bits
 * of the sum. */
#define ROUNDER ((real)1.5 * (real)((integer)1 << FBP_MANTISSA_BITS))

/* The reduction all the exponentials use: x = n ln(2) + r with |r| <= ln(2)/2.  It declares
 * these: n, r, rounded, which has n in its low bits, and r_high, the part of r that has no
 * rounding error, since x and n LN2_HIGH nearly cancel. */
#define EXP_REDUCE(x)                                                \
    const vec rounded = v_fma(x, v_splat(LOG2_E), v_splat(ROUNDER)); \
    const vec n = rounded - v_splat(ROUNDER);                        \
    const vec r_high = v_fma(n, v_splat(-LN2_HIGH), x);              \
    const vec r = v_fma(n, v_splat(-LN2_LOW), r_high)

/* e^r = 1 + r + r^2 exp_poly(r) */
static inline vec v_exp_reduced(vec r)
{
    const vec one = v_splat(1);
    return v_fma(r, v_fma(r, POLY(r, exp_poly), one), one);
}

/* e^x where 2^n is normal; NaN stays NaN. */
static inline vec v_exp_in_range(vec x)
{
    EXP_REDUCE(x);
    return v_exp_reduced(r) * v_pow2(v_bits(rounded));
}

/* 2^n e^r, by adding to the exponent, as 2^n itself can be too large.
 * Max error 0.93 / 0.94 ULP.
 */
static inline vec v_exp(vec x)
{
    EXP_REDUCE(x);
    const vec e_x = v_scale(v_exp_reduced(r), v_bits(rounded));
    const vec y = v_select(v_lt(x, v_splat(EXP_LEAST)), v_splat(0), e_x);
    return v_select(v_le(x, v_splat(EXP_LARGEST)), y, x + v_splat(INFINITY));
}

/* e^x - 1 = (2^n - 1) + 2^n r_high + 2^n (r - r_high + r^2 exp_poly(r)), added in this order,
 * where only the last term, a small one, has rounding errors before.  All of it is halved, as 2^n
 * can be too large; tiny x, which have no exact half, are kept out.  The result is -1 already
 * at -40.
 * Max error 1.22 / 1.33 ULP.
 */
static inline vec v_expm1(vec x)
{
    const vec z = v_at_least(x, -40);
    EXP_REDUCE(z);
    const vec rest = v_fma(r * r, POLY(r, exp_poly), n * v_splat(-LN2_LOW));
    const vec scale = v_pow2(v_wrap_add(v_bits(rounded), v_isplat(-1)));
    const vec half = v_fma(scale, rest, v_fma(scale, r_high, scale - v_splat((real)0.5)));
    const vec y = v_select(v_lt(v_abs(x), v_splat(EXPM1_TINY)), x, half + half);
    return v_select(v_le(x, v_splat(EXP_LARGEST)), y, x + v_splat(INFINITY));
}

/* With a = |x| = n ln(2) + r: sigmoid(-a) = 1 / (1 + e^a), and sigmoid(a) is 1 less that.
 * 1 + e^a = 1 + 2^n + 2^n (e^r - 1) is d plus its rounding error d_low, and one Newton step
 * makes 1 / d the inverse of both.
 * Max error 1.07 / 1.17 ULP.
 */
static inline vec v_sigmoid(vec x)
{
    const vec one = v_splat(1);
    const vec a = v_abs(x);
    EXP_REDUCE(a);
    const vec expm1_r = v_fma(r * r, POLY(r, exp_poly), r);
    const vec scale = v_pow2(v_bits(rounded));
    const vec d = v_fma(scale, expm1_r, one + scale);
    const vec d_low = v_fma(scale, expm1_r, scale - d) + one;
    const vec inverse = one / d;
    const vec residual = v_fma(-d_low, inverse, v_fma(-d, inverse, one));
    const vec newton = v_fma(inverse, residual, inverse);
    const vec y = v_select(v_lt(v_splat(-EXP_LEAST), a), v_splat(0), newton);
    return v_select(v_lt(x, v_splat(0)), y, one - y);
}

/* The logarithms write a positive normal number as 2^k m with m in [1/sqrt(2), sqrt(2)).
 * This is k. */
static inline ivec v_log_exponent(vec x)
{
    return v_wrap_add(v_bits(x), v_isplat(-SQRT_HALF_BITS)) >> FBP_MANTISSA_BITS;
}

/* k ln(2) + log(1 + f + f_low), where f_low is f's rounding error or 0.  With s = f / (2 + f),
 *   log(1 + f) = log((1+s)/(1-s)) = 2s + s^3 log_poly(s^2) = f - s (f - s^2 log_poly(s^2)).
 * The large terms n ln(2) and f are added first, and sum_low is the rounding error of that.
 */
static inline vec v_log_of_parts(ivec k, vec f, vec f_low)
{
    const vec n = v_from_bits(v_bits(v_splat(ROUNDER)) + k) - v_splat(ROUNDER);
    const vec s = f / (v_splat(2) + f);
    const vec s2 = s * s;
    const vec rest = s * v_fma(s2, POLY(s2, log_poly), -f);
    const vec sum = v_fma(n, v_splat(LN2_HIGH), f);
    const vec sum_low = v_fma(n, v_splat(LN2_HIGH), -sum) + f + f_low;
    return sum + (sum_low + v_fma(n, v_splat(LN2_LOW), rest));
}

/* y is log(x) where x is positive and finite; this puts in the others. */
static inline vec v_log_edges(vec x, vec y)
{
    const vec zero = v_splat(0), infinity = v_splat(INFINITY);
    const vec below = v_select(v_lt(x, zero), v_splat(NAN), -infinity);
    return v_select(v_le(x, zero), below, v_select(v_lt(x, infinity), y, x + infinity));
}

/* Subnormal numbers are scaled to normal ones first.
 * Max error 0.96 / 0.99 ULP.
 */
static inline vec v_log(vec x)
{
    const ivec subnormal = v_lt(x, v_splat(FBP_MIN_NORMAL));
    const vec scale = v_splat((real)((integer)1 << FBP_MANTISSA_BITS));
    const vec z = v_select(subnormal, x * scale, x);
    const ivec k = v_log_exponent(z);
    const vec f = v_scale(z, -k) - v_splat(1);
    const ivec scaled_by = subnormal & v_isplat(FBP_MANTISSA_BITS);
    return v_log_edges(x, v_log_of_parts(k - scaled_by, f, v_splat(0)));
}

/* log(u + c), where u = 1 + x = 2^k m and its rounding error is c = x - (u - 1).  f is
 * m - 1 + 2^-k c, which is x itself if k = 0.  2^-k takes two factors, because for the largest
 * x it is not a normal number.
 * Max error 1.06 / 1.05 ULP.
 */
static inline vec v_log1p(vec x)
{
    const vec one = v_splat(1);
    const vec u = one + x;
    const vec c = x - (u - one);
    const ivec k = v_log_exponent(u);
    const vec c_scaled = c * v_pow2(v_isplat(1) - k) * v_splat((real)0.5);
    const vec m_less_1 = v_scale(u, -k) - one;
    const vec f = m_less_1 + c_scaled;
    const vec f_low = (m_less_1 - f) + c_scaled;
    return v_log_edges(u, v_with_sign(v_log_of_parts(k, f, f_low), x));
}

/* With a = |x|: a + a^3 tanh_num(a^2) / tanh_den(a^2) if a < 0.625, else 1 - 2 / (e^2a + 1).
 * One division serves both.  The result is 1 already at 20.
 * Max error 1.37 / 1.41 ULP.
 */
static inline vec v_tanh(vec x)
{
    const vec one = v_splat(1);
    const vec a = v_at_most(v_abs(x), 20);
    const vec a2 = a * a;
    const ivec small = v_lt(a, v_splat((real)0.625));
    const vec num = v_select(small, a * a2 * POLY(a2, tanh_num), v_splat(-2));
    const vec den = v_select(small, POLY(a2, tanh_den), v_exp_in_range(a + a) + one);
    return v_with_sign(v_select(small, a, one) + num / den, x);
}

/* With a = |x|: a + a erf_poly(a^2) if a < 1, else 1 - e^erfc_poly(a).
 * Max error 1.05 / 1.15 ULP.
 */
static inline vec v_erf(vec x)
{
    const vec one = v_splat(1);
    const vec a = v_at_most(v_abs(x), ERF_ONE);
    const vec a2 = a * a;
    const vec small = v_fma(a, POLY(a2, erf_poly), a);
    const vec large = one - v_exp_in_range(POLY(a, erfc_poly));
    return v_with_sign(v_select(v_lt(a, one), small, large), x);
}

/* Angles in turns: the functions below are of 2 pi t.  r is what is left of |t| after whole turns,
 * from -1/2 to 1/2 and without error: adding WHOLE rounds to a whole number, and from WHOLE on
 * every number is one, infinity too, so that no finite product overflows to NaN.  s is 1/4 - |r|.
 */
#define WHOLE ((real)((integer)1 << FBP_MANTISSA_BITS))
typedef struct {
    vec r, s, s2;
} turns;

static inline turns v_turns(vec t)
{
    const vec a = v_min(v_splat(WHOLE), v_abs(t));
    const vec r = a - ((a + v_splat(WHOLE)) - v_splat(WHOLE));
    const vec s = v_splat((real)0.25) - v_abs(r);
    return (turns){r, s, s * s};
}

/* cos(2 pi t) = sin(2 pi s), which is s sin_poly(s^2).
 * Max error 2.32 / 2.27 ULP, 1.38e-7 / 2.52e-16.
 */
static inline vec v_cos_turns(turns a) { return a.s * POLY(a.s2, sin_poly); }

/* sin(2 pi t) is cos(2 pi s), with the signs of t and r: (1 - 16 s^2) cos_poly(s^2), exactly 0
 * where t is a whole number or one half more.
 * Max error 1.28e-7 / 2.53e-16.
 */
static inline vec v_sin_turns(turns a, vec t)
{
    const vec c = v_fma(v_splat(-16), a.s2, v_splat(1)) * POLY(a.s2, cos_poly);
    return v_from_bits(v_bits(c) ^ ((v_bits(t) ^ v_bits(a.r)) & v_isplat(SIGN_BIT)));
}

#undef SQRT_HALF_BITS
#undef LOG2_E
#undef LN2_HIGH
#undef LN2_LOW
#undef EXP_LEAST
#undef EXP_LARGEST
#undef EXPM1_TINY
#undef ERF_ONE
#undef POLY
#undef ROUNDER
#undef WHOLE
#undef EXP_REDUCE
