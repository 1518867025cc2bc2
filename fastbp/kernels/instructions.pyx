"""Execution of a program's instructions.

`execute` runs the instructions of a section, in one thread or in a team whose threads each do their
part of every instruction.  At a layer written in Python it returns, for its caller to call that
layer; and at the statistics of columns of a minibatch that several processes share.
"""

from libc.string cimport memcpy, memset

from fastbp.kernels.bfloat16 cimport fused_space, packing_space
from fastbp.kernels.dense cimport (
    bias_product, fbp_gemm, forward_product, input_product, matmul, weights_product,
)
from fastbp.kernels.dispatch cimport (
    FBP_HIGHEST, FBP_OPS, FBP_UNARIES, fbp_add, fbp_column_dots, fbp_column_moments, fbp_dropout,
    fbp_embedding, fbp_embedding_backward, fbp_inverse_sqrt, fbp_normalize_columns,
    fbp_normalize_columns_backward, fbp_normalize_rows, fbp_normalize_rows_backward, fbp_prelu,
    fbp_periodic, fbp_periodic_backward, fbp_periodic_backward_input, fbp_piecewise,
    fbp_piecewise_backward, fbp_piecewise_backward_input, fbp_piecewise_nodes, fbp_prelu_backward,
    fbp_prelu_slope, fbp_repeat, fbp_running_average, fbp_scale, fbp_scale_shift_backward,
    fbp_softmax, fbp_sum_members, fbp_take_rows, fbp_unary, fbp_unary_backward, int64_t, real, tier,
)
from fastbp.kernels.encoded cimport Code, Instruction, Place
from fastbp.kernels.members cimport separate_forward, separate_input, separate_weights
from fastbp.kernels.threads cimport fbp_barrier, fbp_partition, fbp_set_flag, fbp_worker

cdef extern from "simd/dispatch.h":
    enum:
        FBP_OP_dense, FBP_OP_dense_backward_weights, FBP_OP_dense_backward_bias
        FBP_OP_dense_backward_input, FBP_OP_dropout, FBP_OP_dropout_backward, FBP_OP_softmax
        FBP_OP_add, FBP_OP_scale, FBP_OP_scale_shift, FBP_OP_column_dots
        FBP_OP_normalize_rows, FBP_OP_normalize_rows_backward, FBP_OP_column_moments
        FBP_OP_inverse_sqrt, FBP_OP_normalize_columns, FBP_OP_normalize_columns_backward
        FBP_OP_running_mean, FBP_OP_running_variance
        FBP_OP_prelu, FBP_OP_prelu_backward, FBP_OP_prelu_slope
        FBP_OP_embedding, FBP_OP_embedding_backward, FBP_OP_scale_shift_backward
        FBP_OP_periodic, FBP_OP_periodic_features, FBP_OP_periodic_backward
        FBP_OP_periodic_backward_input
        FBP_OP_piecewise_nodes, FBP_OP_piecewise, FBP_OP_piecewise_backward
        FBP_OP_piecewise_backward_input
        FBP_OP_repeat, FBP_OP_sum_members
        FBP_OP_shared_dense, FBP_OP_shared_product, FBP_OP_shared_backward_weights
        FBP_OP_shared_backward_bias, FBP_OP_shared_backward_input
        FBP_OP_separate_dense, FBP_OP_separate_backward_weights, FBP_OP_separate_backward_input
        FBP_OP_take_columns, FBP_OP_take_columns_backward, FBP_OP_join
        FBP_OP_python, FBP_OP_python_backward

# Columns shared among threads are split at multiples of this: a cache line of elements.
cdef enum:
    COLUMN_GRAIN = 16


cdef void resolve(const Code *code, void **at, char *arena, Py_ssize_t rows,
                  Py_ssize_t size) noexcept nogil:
    """Fill in where each value is, with an arena that has room for so many rows.

    The caller fills in inputs and outputs; `size` is that of an element, in bytes.
    """
    cdef const Place *value
    cdef int i, j
    memcpy(at, code.at, code.n_values * sizeof(void *))
    for j in range(code.n_temporaries):
        i = code.temporaries[j]
        value = &code.values[i]
        at[i] = arena + (value.start + value.start_per_row * rows) * size


cdef Py_ssize_t workspace_of(const Code *code, int stop, Py_ssize_t rows) noexcept nogil:
    """The workspace, in elements, that each thread needs for the instructions up to `stop` to be
    executed with so many rows; 0 where products can do without."""
    cdef Py_ssize_t found = 0
    cdef const Instruction *each
    cdef const Place *W
    cdef int i
    for i in range(stop if code.reduced else 0):
        each = &code.instructions[i]
        if each.precision == FBP_HIGHEST:
            continue
        if each.op == FBP_OP_dense_backward_weights:
            W = &code.values[each.writes[0]]
            found = max(found, packing_space(W.rows, W.columns, rows, each.precision))
            if i >= code.weights:
                found = max(found, fused_space(W.columns, rows, each.precision))
            continue
        W = &code.values[each.reads[1]]
        if each.op == FBP_OP_dense_backward_input:
            found = max(found, packing_space(rows, W.rows, W.columns, each.precision))
        elif rows > 1:
            found = max(found, packing_space(rows, W.columns, W.rows, each.precision))
    return found


cdef int execute(Frame *frame, int i, int stop, fbp_worker *me,
                 real *workspace) noexcept nogil:
    """Execute this thread's part of the instructions from i to `stop`.

    Returns `stop`, the index of an instruction that needs Python, or -1 when interrupted.
    """
    cdef const Instruction *each
    while i < stop:
        each = &frame.code.instructions[i]
        if needs_python(frame, each):
            return i
        carry_out(frame, each, me, workspace)
        if each.barrier and not fbp_barrier(me):
            return -1
        i += 1
    return i


cdef bint needs_python(const Frame *frame, const Instruction *each) noexcept nogil:
    """Whether an instruction is a layer written in Python, or statistics that it has to ask other
    processes for."""
    return (each.op == FBP_OP_python or each.op == FBP_OP_python_backward
            or (frame.shared and (each.op == FBP_OP_column_moments
                                  or each.op == FBP_OP_normalize_columns_backward)))


cdef bint add_up(Frame *frame, const Instruction *each, Py_ssize_t first, Py_ssize_t stop,
                 fbp_worker *me, real *workspace) noexcept nogil:
    """Execute this thread's part of an instruction that sums over rows: if it is the gradient of
    weights, its rows from `first` to `stop`, else all of it.  Returns whether to continue."""
    cdef const Place *W = &frame.code.values[each.writes[0]]
    cdef fbp_gemm product
    if each.op != FBP_OP_dense_backward_weights:
        carry_out(frame, each, me, workspace)
        return True
    product = weights_product(frame.rows, W.rows, W.columns, <const real *>frame.at[each.reads[0]],
                              <const real *>frame.at[each.reads[1]],
                              <real *>frame.at[each.writes[0]])
    product.part, product.precision = frame.part, each.precision
    fbp_take_rows(&product, first, stop, sizeof(real))
    return matmul(product, me, workspace)


cdef void carry_out(Frame *frame, const Instruction *each, fbp_worker *me,
                    real *workspace) noexcept nogil:
    """Execute this thread's part of one instruction.

    X and Y are the first two values that are read, Z the first that is written: in the backward
    pass of a dense layer, for example, X, dZ and dW.
    """
    cdef const Place *values = frame.code.values
    cdef void **at = frame.at
    cdef Py_ssize_t m = frame.rows, n, first, stop
    cdef const real *X = <const real *>at[each.reads[0]]
    cdef const real *Y = NULL
    cdef real *Z = <real *>at[each.writes[0]]
    cdef const Place *W
    cdef fbp_gemm product
    cdef real one = 1
    cdef int op = each.op
    if each.reads[1] >= 0:
        Y = <const real *>at[each.reads[1]]
    if op == FBP_OP_dense:
        W = &values[each.reads[1]]
        product = forward_product(m, W.rows, W.columns, X, Y, <const real *>at[each.reads[2]], Z)
        product.relu, product.precision = each.relu, each.precision
        matmul(product, me, workspace)
    elif op == FBP_OP_dense_backward_weights:
        W = &values[each.writes[0]]
        add_up(frame, each, 0, W.rows, me, workspace)
    elif op == FBP_OP_dense_backward_bias:
        product = bias_product(m, values[each.reads[0]].columns, &one, X, Z)
        product.part = frame.part
        matmul(product, me, workspace)
    elif op == FBP_OP_dense_backward_input:
        W = &values[each.reads[1]]
        product = input_product(m, W.rows, W.columns, X, Y, Z)
        product.precision = each.precision
        if each.relu_mask >= 0:
            product.relu_mask = at[each.relu_mask]
        matmul(product, me, workspace)
    elif FBP_OP_shared_dense <= op and op <= FBP_OP_separate_backward_input:
        carry_out_members(frame, each, me, workspace, X, Y, Z)
    elif op == FBP_OP_softmax:
        n = values[each.reads[0]].columns
        fbp_partition(me, m, 1, &first, &stop)
        fbp_softmax(tier, stop - first, n, X + first * n, Z + first * n)
    elif op >= FBP_OPS or op == FBP_OP_dropout or op == FBP_OP_dropout_backward:
        # Element by element.
        fbp_partition(me, m * values[each.reads[0]].columns, GRAIN, &first, &stop)
        if op < FBP_OPS:
            fbp_dropout(tier, stop - first, X + first, Z + first, each.numbers[0],
                        frame.keys[each.layer], frame.steps[each.layer] + frame.steps_ahead,
                        frame.first * values[each.reads[0]].columns + first)
        elif op >= FBP_OPS + FBP_UNARIES:
            fbp_unary_backward(tier, op - FBP_OPS - FBP_UNARIES, stop - first, X + first,
                               Y + first, Z + first, each.numbers[0])
        else:
            fbp_unary(tier, op - FBP_OPS, stop - first, X + first, Z + first, each.numbers[0])
    else:
        carry_out_other(frame, each, me, X, Y, Z)


cdef void carry_out_members(Frame *frame, const Instruction *each, fbp_worker *me,
                            real *workspace, const real *X, const real *Y,
                            real *Z) noexcept nogil:
    """The part of `carry_out` for dense layers of several members, whose columns are side by side.

    In memory, m rows of k members are m·k rows, for the product with weights that they share.
    """
    cdef const Place *values = frame.code.values
    cdef const int *reads = each.reads
    cdef const Place *W
    cdef Py_ssize_t m = frame.rows, columns, members, n_in, i
    cdef fbp_gemm product
    cdef real one = 1
    cdef int op = each.op
    if op == FBP_OP_shared_dense or op == FBP_OP_shared_product:
        W = &values[reads[1]]
        m *= values[reads[0]].columns // W.rows
        product = forward_product(m, W.rows, W.columns, X, Y, <const real *>NULL, Z)
        if op == FBP_OP_shared_dense:
            product.bias = frame.at[reads[2]]
        product.relu = each.relu
        matmul(product, me, workspace)
    elif op == FBP_OP_shared_backward_weights:
        W = &values[each.writes[0]]
        m *= values[reads[0]].columns // W.rows
        product = weights_product(m, W.rows, W.columns, X, Y, Z)
        product.part = frame.part
        matmul(product, me, workspace)
    elif op == FBP_OP_shared_backward_bias:
        columns = values[each.writes[0]].columns
        m *= values[reads[0]].columns // columns
        product = bias_product(m, columns, &one, X, Z)
        product.part = frame.part
        matmul(product, me, workspace)
    elif op == FBP_OP_shared_backward_input:
        W = &values[reads[1]]
        m *= values[reads[0]].columns // W.columns
        product = input_product(m, W.rows, W.columns, X, Y, Z)
        if each.relu_mask >= 0:
            product.relu_mask = frame.at[each.relu_mask]
        matmul(product, me, workspace)
    else:
        W = &values[each.writes[0] if op == FBP_OP_separate_backward_weights else reads[1]]
        columns = values[each.writes[0] if op == FBP_OP_separate_dense else
                         reads[0] if op == FBP_OP_separate_backward_input else reads[1]].columns
        members = columns // W.columns
        n_in = W.rows // members
        for i in range(members):
            if op == FBP_OP_separate_dense:
                product = separate_forward(m, members, n_in, W.columns, X, Y,
                                           <const real *>frame.at[reads[2]], Z, i)
            elif op == FBP_OP_separate_backward_weights:
                product = separate_weights(m, members, n_in, W.columns, X, Y, Z, i)
                product.part = frame.part
            else:
                product = separate_input(m, members, n_in, W.columns, X, Y, Z, i)
            matmul(product, me, workspace)


cdef void carry_out_other(Frame *frame, const Instruction *each, fbp_worker *me, const real *X,
                          const real *Y, real *Z) noexcept nogil:
    """The part of `carry_out` for normalization, sums, embeddings and columns.

    X, Y and Z are those of `carry_out`.  Threads divide rows, or columns where an operation sums
    over rows.
    """
    cdef const Place *values = frame.code.values
    cdef void **at = frame.at
    cdef Py_ssize_t m = frame.rows, n = values[each.writes[0]].columns, first, stop, i
    cdef Py_ssize_t k = values[each.reads[0]].columns
    cdef real *V = NULL
    cdef const real *U = NULL
    cdef int op = each.op
    if each.writes[1] >= 0:
        V = <real *>at[each.writes[1]]
    if Y is not NULL and each.reads[2] >= 0:
        U = <const real *>at[each.reads[2]]
    if op == FBP_OP_add:
        fbp_partition(me, m * n, GRAIN, &first, &stop)
        fbp_add(tier, stop - first, X + first, Y + first, Z + first, each.numbers[0] != 0)
        return
    if op == FBP_OP_inverse_sqrt:
        fbp_partition(me, n, GRAIN, &first, &stop)
        fbp_inverse_sqrt(tier, stop - first, X + first, Z + first, each.numbers[0])
        return
    if op == FBP_OP_scale_shift_backward:
        fbp_partition(me, k, COLUMN_GRAIN, &first, &stop)
        fbp_scale_shift_backward(tier, m, stop - first, k, X + first, Y + first, Z + first,
                                 V + first, frame.part)
        return
    if FBP_OP_periodic <= op and op <= FBP_OP_periodic_backward_input:
        carry_out_periodic(frame, each, me, X, Y, Z)
        return
    if FBP_OP_piecewise_nodes <= op and op <= FBP_OP_piecewise_backward_input:
        carry_out_piecewise(frame, each, me, X, Y, Z)
        return
    if op == FBP_OP_running_mean or op == FBP_OP_running_variance:
        average(frame, each, me, X, Z, n)
        return
    if (op == FBP_OP_column_dots or op == FBP_OP_column_moments or op == FBP_OP_prelu_slope
            or op == FBP_OP_normalize_columns_backward or op == FBP_OP_embedding_backward):
        fbp_partition(me, n, COLUMN_GRAIN, &first, &stop)
        if first == stop:
            return
        if op == FBP_OP_column_dots:
            fbp_column_dots(tier, m, stop - first, n, X + first, Y + first, Z + first,
                            frame.part)
        elif op == FBP_OP_column_moments:
            fbp_column_moments(tier, m, stop - first, n, X + first, Z + first, V + first)
        elif op == FBP_OP_prelu_slope:
            fbp_prelu_slope(tier, m, stop - first, n, X + first, Y + first, Z + first,
                            frame.part)
        elif op == FBP_OP_normalize_columns_backward:
            fbp_normalize_columns_backward(tier, m, stop - first, n, X + first, Y + first,
                                           U + first, Z + first)
        else:
            fbp_embedding_backward(tier, m, stop - first, n, X, 1, Y + first,
                                   values[each.writes[0]].rows, Z + first, frame.part)
        return
    fbp_partition(me, m, 1, &first, &stop)
    m = stop - first
    Z += first * n
    if op == FBP_OP_normalize_rows:
        fbp_normalize_rows(tier, m, n, X + first * n, Z, V + first, each.numbers[0],
                           each.numbers[1] != 0)
    elif op == FBP_OP_normalize_rows_backward:
        fbp_normalize_rows_backward(tier, m, n, X + first * n, Y + first * n, U + first, Z,
                                    each.numbers[0] != 0)
    elif op == FBP_OP_scale:
        fbp_scale(tier, m, n, X + first * n, Y, <const real *>NULL, Z, each.numbers[0] != 0)
    elif op == FBP_OP_scale_shift:
        fbp_scale(tier, m, n, X + first * n, Y, U, Z, False)
    elif op == FBP_OP_normalize_columns:
        fbp_normalize_columns(tier, m, n, X + first * n, Y, U, Z)
    elif op == FBP_OP_prelu:
        fbp_prelu(tier, m, n, X + first * n, Y, Z)
    elif op == FBP_OP_prelu_backward:
        fbp_prelu_backward(tier, m, n, X + first * n, Y + first * n, U, Z)
    elif op == FBP_OP_embedding:
        for i in range(first, stop):
            # X may have been changed since it was checked, or computed by a layer before.
            if not (0 <= X[i] < values[each.reads[1]].rows and X[i] == <real><Py_ssize_t>X[i]):
                fbp_set_flag(&frame.bad_code)
                memset(Z, 0, m * n * sizeof(real))
                return
        fbp_embedding(tier, m, n, X + first, 1, Y, Z)
    elif op == FBP_OP_repeat:
        fbp_repeat(tier, m, k, n // k, X + first * k, each.numbers[0], Z, each.numbers[1] != 0)
    elif op == FBP_OP_sum_members:
        fbp_sum_members(tier, m, n, k // n, X + first * k, each.numbers[0], Z,
                        each.numbers[1] != 0)
    elif op == FBP_OP_take_columns:
        take_columns(m, k, n, X + first * k, each.columns, Z)
    elif op == FBP_OP_take_columns_backward:
        put_columns(m, k, n, X + first * k, each.columns, Z)
    elif op == FBP_OP_join:
        join(frame, each, first, stop, Z, n)


cdef void carry_out_periodic(const Frame *frame, const Instruction *each, fbp_worker *me,
                             const real *X, const real *Y, real *Z) noexcept nogil:
    """The part of `carry_out` for periodic embeddings: threads divide rows, or columns of Z."""
    cdef void **at = frame.at
    cdef const int *reads = each.reads
    cdef const int *writes = each.writes
    cdef const Place *values = frame.code.values
    cdef const real *U = <const real *>at[reads[2]]
    cdef const real *S = <const real *>at[reads[3]]
    cdef const real *T = <const real *>at[reads[4]]
    cdef real *N = NULL
    cdef Py_ssize_t m = frame.rows, first, stop, k, d, n
    if each.op == FBP_OP_periodic or each.op == FBP_OP_periodic_features:
        k, d = values[reads[3]].rows, values[reads[3]].columns
        n = k * d
        fbp_partition(me, m, 1, &first, &stop)
        if each.op == FBP_OP_periodic_features:
            N = <real *>at[writes[1]] + first * n
        fbp_periodic(tier, stop - first, k, d, X + first * k, Y, U, S, T, Z + first * n, N)
        return
    k, d = values[reads[4]].rows, values[reads[4]].columns
    n = k * d
    if each.op == FBP_OP_periodic_backward:
        fbp_partition(me, n, COLUMN_GRAIN, &first, &stop)
        fbp_periodic_backward(tier, m, k, d, first, stop, X, Y, U, S, T, Z,
                              <real *>at[writes[1]], <real *>at[writes[2]],
                              <real *>at[writes[3]], frame.part)
    elif each.op == FBP_OP_periodic_backward_input:
        fbp_partition(me, m, 1, &first, &stop)
        fbp_periodic_backward_input(tier, stop - first, k, d, X + first * n, Y + first * k, U, S,
                                    T, Z + first * k)


cdef void carry_out_piecewise(const Frame *frame, const Instruction *each, fbp_worker *me,
                              const real *X, const real *Y, real *Z) noexcept nogil:
    """The part of `carry_out` for piecewise linear embeddings: threads divide rows, or features."""
    cdef void **at = frame.at
    cdef const int *reads = each.reads
    cdef const int *writes = each.writes
    cdef const Place *values = frame.code.values
    cdef const int64_t *starts = each.columns
    cdef Py_ssize_t m = frame.rows, first, stop, k, d, n
    if each.op == FBP_OP_piecewise_nodes:
        d = values[reads[0]].columns
        k = values[reads[1]].columns // d
        fbp_partition(me, k, 1, &first, &stop)
        fbp_piecewise_nodes(tier, stop - first, d, starts + first, X, Y + first * d, Z)
    elif each.op == FBP_OP_piecewise:
        k, d = values[reads[0]].columns, values[reads[2]].columns
        n = k * d
        fbp_partition(me, m, 1, &first, &stop)
        fbp_piecewise(tier, stop - first, k, d, starts, X + first * k, Y,
                      <const real *>at[reads[2]], <const real *>at[reads[4]], Z + first * n,
                      <real *>at[writes[1]] + first * k, <real *>at[writes[2]] + first * k)
    elif each.op == FBP_OP_piecewise_backward:
        k, d = values[reads[1]].columns, values[writes[0]].columns
        fbp_partition(me, k, 1, &first, &stop)
        fbp_piecewise_backward(tier, m, k, d, starts, first, stop, X, Y,
                               <const real *>at[reads[2]], Z, frame.part)
    elif each.op == FBP_OP_piecewise_backward_input:
        k, d = values[reads[1]].columns, values[reads[3]].columns
        n = k * d
        fbp_partition(me, m, 1, &first, &stop)
        fbp_piecewise_backward_input(tier, stop - first, k, d, starts, X + first * n,
                                     Y + first * k, <const real *>at[reads[2]],
                                     <const real *>at[reads[3]], Z + first * k)


cdef void average(const Frame *frame, const Instruction *each, fbp_worker *me, const real *X,
                  real *Z, Py_ssize_t n) noexcept nogil:
    """Update a running mean, or a running variance with the unbiased variance of the rows."""
    cdef Py_ssize_t first, stop, m = frame.batch
    cdef double momentum = each.numbers[0], weight = momentum
    if each.op == FBP_OP_running_variance:
        if m == 1:  # no estimate from one row
            return
        weight = momentum * <double>m / <double>(m - 1)
    fbp_partition(me, n, GRAIN, &first, &stop)
    fbp_running_average(tier, stop - first, Z + first, X + first, 1 - momentum, weight)


cdef void take_columns(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, const real *X,
                       const int64_t *columns, real *Y) noexcept nogil:
    """Y[i, j] = X[i, columns[j]]; X has k columns, and Y n."""
    cdef Py_ssize_t i, j
    for i in range(m):
        for j in range(n):
            Y[i * n + j] = X[i * k + columns[j]]


cdef void put_columns(Py_ssize_t m, Py_ssize_t k, Py_ssize_t n, const real *dY,
                      const int64_t *columns, real *dX) noexcept nogil:
    """The gradient of `take_columns`: dX[i, columns[j]] += dY[i, j]; dY has k columns, and dX n."""
    cdef Py_ssize_t i, j
    memset(dX, 0, m * n * sizeof(real))
    for i in range(m):
        for j in range(k):
            dX[i * n + columns[j]] += dY[i * k + j]


cdef void join(const Frame *frame, const Instruction *each, Py_ssize_t first, Py_ssize_t stop,
               real *Z, Py_ssize_t n) noexcept nogil:
    """Z = rows `first` to `stop` of all values that are read, side by side."""
    cdef const real *part
    cdef Py_ssize_t i, k, at = 0
    cdef int j = 0
    while each.reads[j] >= 0:
        part = <const real *>frame.at[each.reads[j]]
        k = frame.code.values[each.reads[j]].columns
        for i in range(first, stop):
            memcpy(Z + (i - first) * n + at, part + i * k, k * sizeof(real))
        at += k
        j += 1
