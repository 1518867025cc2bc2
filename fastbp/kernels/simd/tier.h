/* One instruction set and dtype: every template, in the order they build on each other,
 * and the table of what they define.
 *
 * A tier is two files of a few lines, one for each dtype, which set
 *
 *   FBP_BITS     32 or 64, for float or double
 *   FBP_LANES    how many of them a vector holds; 1 in the scalar tier
 *   FBP_TABLE    the table's name: fbp_scalar_f32, ...
 *   FBP_BF16_TABLE  that of the products of reduced precision: fbp_scalar_bf16, ...; for float
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
#include "transpose.h"
#include "matmul.h"
#include "peak.h"
#if FBP_BITS == 32
#include "bfloat16.h"
#include "bfloat16_products.h"
#endif
#include "lanes.h"
#include "losses.h"
#include "normalization.h"
#include "embedding.h"
#include "periodic.h"
#include "piecewise.h"
#include "members.h"
#include "optimizers.h"
#include "muon.h"

#if FBP_BITS == 32
typedef fbp_table_f32 table;
#else
typedef fbp_table_f64 table;
#endif

extern const table FBP_TABLE;
const table FBP_TABLE = {
    .matmul = matmul,
    .unary =
        {
#define FBP_ACTIVATION(name, ...) [FBP_UNARY_##name] = unary_##name,
#define FBP_FUNCTION(name, ...) [FBP_UNARY_##name] = unary_##name,
#include "../ops.def"
        },
    .unary_backward =
        {
#define FBP_ACTIVATION(name, ...) [FBP_UNARY_##name] = unary_##name##_backward,
#include "../ops.def"
        },
    .dropout = dropout,
    .softmax = softmax,
    .loss =
        {
#define FBP_LOSS(name, ...) [FBP_LOSS_##name] = name,
#include "../ops.def"
        },
    .largest_at_label = largest_at_label,
    .add = add,
    .normalize_rows = normalize_rows,
    .normalize_rows_backward = normalize_rows_backward,
    .column_moments = column_moments,
    .inverse_sqrt = inverse_sqrt,
    .normalize_columns = normalize_columns,
    .normalize_columns_backward = normalize_columns_backward,
    .column_means = column_means,
    .column_squares = column_squares,
    .normalize_columns_from_sums = normalize_columns_from_sums,
    .scale = scale_columns,
    .column_dots = column_dots,
    .scale_shift_backward = scale_shift_backward,
    .prelu = prelu,
    .prelu_backward = prelu_backward,
    .prelu_slope = prelu_slope,
    .running_average = running_average,
    .embedding = embedding,
    .embedding_backward = embedding_backward,
    .periodic = periodic,
    .periodic_backward = periodic_backward,
    .periodic_backward_input = periodic_backward_input,
    .piecewise_nodes = piecewise_nodes,
    .piecewise = piecewise,
    .piecewise_backward = piecewise_backward,
    .piecewise_backward_input = piecewise_backward_input,
    .repeat = repeat_columns,
    .sum_members = sum_members,
    .penalize = penalize,
    .update =
        {
#define FBP_UPDATE(name, ...) [FBP_UPDATE_##name] = update_##name,
#include "../ops.def"
        },
    .descend_product = descend_product,
    .muon_direction = muon_direction,
    .scale_to_unit = scale_to_unit,
    .newton_schulz = newton_schulz,
    .transpose = transpose_matrix,
    .sum_of_squares = sum_of_squares,
    .largest = largest,
    .fma_chains = fma_chains,
};
