/* Activations, their derivatives, and dropout: one number in, one number out.
 *
 * Each formula is a function of vectors; MAP and MAP_BACKWARD below make the loops
 * over arrays.  X and Y, or dA and dZ, may be the same array.
 */

static inline vec v_relu(vec z) { return v_select(v_le(z, v_splat(0)), v_splat(0), z); }

static inline vec v_leaky_relu(vec z, vec slope)
{
    return v_select(v_lt(v_splat(0), z), z, slope * z);
}

/* alpha (e^z - 1) where z <= 0 */
static inline vec v_elu(vec z, vec alpha)
{
    return v_select(v_lt(v_splat(0), z), z, alpha * v_expm1(z));
}

/* The standard normal distribution: Phi(z) = (1 + erf(z / sqrt(2))) / 2. */
static inline vec v_normal_cdf(vec z)
{
    const vec half = v_splat((real)0.5);
    return v_fma(half, v_erf(z * v_splat((real)0.70710678118654752440)), half);
}

static inline vec v_gelu(vec z) { return z * v_normal_cdf(z); }

static inline vec v_silu(vec z) { return z * v_sigmoid(z); }

/* The derivatives.  A NaN in z is passed on even where 0 or 1 would do. */

static inline vec v_relu_slope(vec z, vec slope)
{
    const vec zero = v_splat(0);
    return v_select(v_lt(zero, z), v_splat(1), v_select(v_le(z, zero), slope, z));
}

/* alpha e^z where z <= 0 */
static inline vec v_elu_slope(vec z, vec alpha)
{
    return v_select(v_lt(v_splat(0), z), v_splat(1), alpha * v_exp(z));
}

/* Phi(z) + z phi(z), with the normal density phi(z) = exp(-z^2 / 2) / sqrt(2 pi) */
static inline vec v_gelu_slope(vec z)
{
    const vec density = v_exp(z * z * v_splat((real)-0.5)) * v_splat((real)0.39894228040143267794);
    return v_fma(z, density, v_normal_cdf(z));
}

/* s (1 + z (1 - s)) with s = sigmoid(z); 1 - s is sigmoid(-z) */
static inline vec v_silu_slope(vec z) { return v_sigmoid(z) * v_fma(z, v_sigmoid(-z), v_splat(1)); }

/* ReLU's own backward selects, so that its 0 is exact whatever dA is. */
static inline vec v_relu_backward(vec dA, vec z)
{
    const vec zero = v_splat(0);
    return v_select(v_lt(zero, z), dA, v_select(v_le(z, zero), zero, z));
}

#define MAP(name, expression)                                                   \
    static void map_##name(ptrdiff_t n, const real *X, real *Y, real parameter) \
    {                                                                           \
        const vec p = v_splat(parameter);                                       \
        (void)p;                                                                \
        for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {                          \
            const vec x = v_load_part(X + i, n - i, 0);                         \
            v_store_part(Y + i, n - i, v_zero_below(expression, FBP_LEAST));    \
        }                                                                       \
    }

MAP(relu, v_relu(x))
MAP(leaky_relu, v_leaky_relu(x, p))
MAP(sigmoid, v_sigmoid(x))
MAP(tanh, v_tanh(x))
MAP(elu, v_elu(x, p))
MAP(gelu, v_gelu(x))
MAP(silu, v_silu(x))
MAP(exp, v_exp(x))
MAP(expm1, v_expm1(x))
MAP(log, v_log(x))
MAP(log1p, v_log1p(x))
MAP(erf, v_erf(x))

#undef MAP

#define MAP_BACKWARD(name, expression)                                                      \
    static void map_##name##_backward(ptrdiff_t n, const real *dA, const real *Z, real *dZ, \
                                      real parameter)                                       \
    {                                                                                       \
        const vec p = v_splat(parameter), one = v_splat(1);                                 \
        (void)p, (void)one;                                                                 \
        for (ptrdiff_t i = 0; i < n; i += FBP_LANES) {                                      \
            const vec d = v_load_part(dA + i, n - i, 0);                                    \
            const vec z = v_load_part(Z + i, n - i, 0);                                     \
            v_store_part(dZ + i, n - i, v_zero_below(expression, FBP_LEAST_GRADIENT));      \
        }                                                                                   \
    }

MAP_BACKWARD(relu, v_relu_backward(d, z))
MAP_BACKWARD(leaky_relu, d *v_relu_slope(z, p))
MAP_BACKWARD(sigmoid, d *(z *(one - z)))
MAP_BACKWARD(tanh, d *v_fma(-z, z, one))
MAP_BACKWARD(elu, d *v_elu_slope(z, p))
MAP_BACKWARD(gelu, d *v_gelu_slope(z))
MAP_BACKWARD(silu, d *v_silu_slope(z))

#undef MAP_BACKWARD

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
            Y[i + l] = word[l] < threshold ? 0 : v_zero_below(X[i + l] * scale, FBP_LEAST);
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
            const vec y = v_zero_below(x * v_splat(scale), FBP_LEAST);
            v_store_part(Y + i + l, n - i - l, v_from_bits(v_bits(y) & kept));
        }
    }
#endif
}
