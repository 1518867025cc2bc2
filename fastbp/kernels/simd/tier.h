/* One instruction set and dtype: every template, in the order they build on each other,
 * and the table of what they define.
 *
 * A tier is two files of a few lines, one for each dtype, which set
 *
 *   FBP_BITS     32 or 64, for float or double
 *   FBP_LANES    how many of them a vector holds; 1 in the scalar tier
 *   FBP_TABLE    the table's name: fbp_scalar_f32, ...
 *
 * and include this one, under `#pragma GCC target` where the instructions need it.
 * dispatch.c lists the tables.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "dispatch.h"

#include "vectors.h"
#include "vector_math.h"
#include "random.h"
#include "elementwise.h"
#include "matmul.h"
#include "losses.h"
#include "optimizers.h"
#include "peak.h"

#if FBP_BITS == 32
typedef fbp_table_f32 table;
#else
typedef fbp_table_f64 table;
#endif

extern const table FBP_TABLE;
const table FBP_TABLE = {
    .matmul = matmul,
    .map =
        {
            [FBP_RELU] = map_relu,
            [FBP_LEAKY_RELU] = map_leaky_relu,
            [FBP_SIGMOID] = map_sigmoid,
            [FBP_TANH] = map_tanh,
            [FBP_ELU] = map_elu,
            [FBP_GELU] = map_gelu,
            [FBP_SILU] = map_silu,
            [FBP_EXP] = map_exp,
            [FBP_EXPM1] = map_expm1,
            [FBP_LOG] = map_log,
            [FBP_LOG1P] = map_log1p,
            [FBP_ERF] = map_erf,
        },
    .map_backward =
        {
            [FBP_RELU] = map_relu_backward,
            [FBP_LEAKY_RELU] = map_leaky_relu_backward,
            [FBP_SIGMOID] = map_sigmoid_backward,
            [FBP_TANH] = map_tanh_backward,
            [FBP_ELU] = map_elu_backward,
            [FBP_GELU] = map_gelu_backward,
            [FBP_SILU] = map_silu_backward,
        },
    .dropout = dropout,
    .softmax = softmax,
    .loss =
        {
            [FBP_SOFTMAX_CROSS_ENTROPY] = softmax_cross_entropy,
            [FBP_SIGMOID_CROSS_ENTROPY] = sigmoid_cross_entropy,
            [FBP_MEAN_SQUARED_ERROR] = mean_squared_error,
            [FBP_MEAN_ABSOLUTE_ERROR] = mean_absolute_error,
            [FBP_HUBER] = huber,
            [FBP_POISSON_DEVIANCE] = poisson_deviance,
        },
    .penalize = penalize,
    .sgd = sgd,
    .adam = adam,
    .sum_of_squares = sum_of_squares,
    .largest = largest,
    .fma_chains = fma_chains,
};
