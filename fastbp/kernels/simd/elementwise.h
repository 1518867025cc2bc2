/* Activations, their derivatives, and dropout: one element in, one element out.
 *
 * For an operation `name` of ops.def, f_name is its formula, of x and the parameter alpha, and
 * d_name, if it has a derivative, is d = dA times the derivative, as a function of z: Z or A, as
 * the table's column `saved` defines.  The loops over arrays are generated from the table.  X and
 * Y, or dA and dZ, may be the same array.
 */

static inline vec f_relu(vec x, vec alpha) { return (void)alpha, v_relu(x); }
static inline vec d_relu(vec d, vec z, vec alpha) { return (void)alpha, v_relu_backward(d, z); }

static inline vec f_leaky_relu(vec x, vec alpha)
{
    return v_select(v_lt(v_splat(0), x), x, alpha * x);
}
static inline vec d_leaky_relu(vec d, vec z, vec alpha)
{
    const vec zero = v_splat(0);
    return d * v_select(v_lt(zero, z), v_splat(1), v_select(v_le(z, zero), alpha, z));
}

static inline vec f_sigmoid(vec x, vec alpha) { return (void)alpha, v_sigmoid(x); }
static inline vec d_sigmoid(vec d, vec a, vec alpha)
{
    return (void)alpha, d * (a * (v_splat(1) - a));
}

static inline vec f_tanh(vec x, vec alpha) { return (void)alpha, v_tanh(x); }
static inline vec d_tanh(vec d, vec a, vec alpha)
{
    return (void)alpha, d * v_fma(-a, a, v_splat(1));
}

static inline vec f_elu(vec x, vec alpha)
{
    return v_select(v_lt(v_splat(0), x), x, alpha * v_expm1(x));
}
static inline vec d_elu(vec d, vec z, vec alpha)
{
    return d * v_select(v_lt(v_splat(0), z), v_splat(1), alpha * v_exp(z));
}

/* The standard normal distribution: Phi(z) = (1 + erf(z / sqrt(2))) / 2. */
static inline vec v_normal_cdf(vec z)
{
    const vec half = v_splat((real)0.5);
    return v_fma(half, v_erf(z * v_splat((real)0.70710678118654752440)), half);
}

static inline vec f_gelu(vec x, vec alpha) { return (void)alpha, x * v_normal_cdf(x); }
/* Phi(z) + z phi(z), with the normal density phi(z) = exp(-z^2 / 2) / sqrt(2 pi) */
static inline vec d_gelu(vec d, vec z, vec alpha)
{
    const vec density = v_exp(z * z * v_splat((real)-0.5)) * v_splat((real)0.39894228040143267794);
    return (void)alpha, d * v_fma(z, density, v_normal_cdf(z));
}

static inline vec f_silu(vec x, vec alpha) { return (void)alpha, x * v_sigmoid(x); }
/* s (1 + z (1 - s)) with s = sigmoid(z); 1 - s is sigmoid(-z) */
static inline vec d_silu(vec d, vec z, vec alpha)
{
    return (void)alpha, d * (v_sigmoid(z) * v_fma(z, v_sigmoid(-z), v_splat(1)));
}

/* With e = exp(z) and w = e (e + 2), tanh(log(1 + e)) is w / (w + 2).  Beyond 40 it is 1 in either
 * dtype, and e^2 would overflow in one. */
static inline vec v_mish_exp(vec z)
{
    return v_exp(v_select(v_lt(v_splat(40), z), v_splat(40), z));
}

static inline vec f_mish(vec x, vec alpha)
{
    const vec e = v_mish_exp(x), w = e * (e + v_splat(2));
    return (void)alpha, x * (w / (w + v_splat(2)));
}
/* w / (w + 2) + z 4 e (1 + e) / (w + 2)^2 */
static inline vec d_mish(vec d, vec z, vec alpha)
{
    const vec e = v_mish_exp(z), w = e * (e + v_splat(2)), below = w + v_splat(2);
    const vec slope = v_fma(z * v_splat(4), e / below * ((v_splat(1) + e) / below), w / below);
    return (void)alpha, d * v_select(v_lt(v_splat(40), z), v_splat(1), slope);
}

#define SELU_SCALE 1.0507009873554804934
#define SELU_ALPHA 1.6732632423543772848

static inline vec f_selu(vec x, vec alpha)
{
    const vec scale = v_splat((real)SELU_SCALE);
    const vec low = v_splat((real)(SELU_SCALE * SELU_ALPHA)) * v_expm1(x);
    return (void)alpha, v_select(v_lt(v_splat(0), x), scale * x, low);
}
static inline vec d_selu(vec d, vec z, vec alpha)
{
    const vec low = v_splat((real)(SELU_SCALE * SELU_ALPHA)) * v_exp(z);
    return (void)alpha, d * v_select(v_lt(v_splat(0), z), v_splat((real)SELU_SCALE), low);
}

static inline vec f_exp(vec x, vec alpha) { return (void)alpha, v_exp(x); }
static inline vec f_expm1(vec x, vec alpha) { return (void)alpha, v_expm1(x); }
static inline vec f_log(vec x, vec alpha) { return (void)alpha, v_log(x); }
static inline vec f_log1p(vec x, vec alpha) { return (void)alpha, v_log1p(x); }
static inline vec f_erf(vec x, vec alpha) { return (void)alpha, v_erf(x); }

#define UNARY(name)                                                                       \
    static void unary_##name(ptrdiff_t n, const real *X, real *Y, real parameter)         \
    {                                                                                     \
        const vec alpha = v_splat(parameter);                                             \
        for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {                                    \
            const vec x = v_load_part(X + i, n - i, 0);                                   \
            v_store_part(Y + i, n - i, v_zero_below(f_##name(x, alpha), FBP_MIN_NORMAL)); \
        }                                                                                 \
    }
#define UNARY_BACKWARD(name)                                                                      \
    static void unary_##name##_backward(ptrdiff_t n, const real *dA, const real *saved, real *dZ, \
                                        real parameter)                                           \
    {                                                                                             \
        const vec alpha = v_splat(parameter);                                                     \
        for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {                                            \
            const vec d = v_load_part(dA + i, n - i, 0);                                          \
            const vec z = v_load_part(saved + i, n - i, 0);                                       \
            v_store_part(dZ + i, n - i, v_zero_below(d_##name(d, z, alpha), FBP_MIN_GRADIENT));   \
        }                                                                                         \
    }

#define FBP_ACTIVATION(name, ...) UNARY(name) UNARY_BACKWARD(name)
#define FBP_FUNCTION(name, ...) UNARY(name)
#include "../ops.def"

#undef UNARY
#undef UNARY_BACKWARD

/* Element i of the sequence is kept where word i % 4 of counter i / 4 is at least
 * rate * 2^32. */
static void dropout(ptrdiff_t n, const real *X, real *Y, double rate, uint64_t key, uint64_t step,
                    ptrdiff_t first)
{
    const uint32_t threshold = (uint32_t)(rate * 4294967296.0);
    const real scale = (real)(1.0 / (1.0 - rate));
#if FBP_LANES == 1
    for (ptrdiff_t i = 0; i < n; i += 4) {
        uint32_t word[4];
        fbp_philox((uint64_t)(first + i) / 4, step, key, word);
        for (ptrdiff_t l = 0; l < 4 && i + l < n; l++)
            Y[i + l] = word[l] < threshold ? 0 : v_zero_below(X[i + l] * scale, FBP_MIN_NORMAL);
    }
#else
    typedef uint32_t words __attribute__((vector_size(FBP_LANES * 4)));
    for (ptrdiff_t i = 0; i < n; i += 4 * COUNTERS) {
        uint32_t word[4 * COUNTERS];
        philox_of_many((uint64_t)(first + i) / 4, step, key, word);
        for (ptrdiff_t l = 0; l < 4 * COUNTERS; l += FBP_LANES) {
            words w;
            memcpy(&w, word + l, sizeof w);
            const ivec kept = __builtin_convertvector(w >= threshold - (words){0}, ivec);
            const vec x = v_load_part(X + i + l, n - i - l, 0);
            const vec y = v_zero_below(x * v_splat(scale), FBP_MIN_NORMAL);
            v_store_part(Y + i + l, n - i - l, v_from_bits(v_bits(y) & kept));
        }
    }
#endif
}
