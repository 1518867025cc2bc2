"""From gradients to parameters: the penalty, the check that a step is safe, and the update.

Weights may be fused with the update: their gradients are computed here, a panel at a time, and are
never written to memory as a whole.
"""

from libc.math cimport INFINITY, isfinite, sqrt

from fastbp.kernels.bfloat16 cimport multiply_panel
from fastbp.kernels.dense cimport fbp_gemm, weights_product
from fastbp.kernels.dispatch cimport (
    FBP_FEW_ROWS, FBP_HIGHEST, FBP_MOST_STATE, FBP_UPDATE_sgd, fbp_descend_product, fbp_largest,
    fbp_matmul, fbp_packed_size, fbp_take_rows, int64_t, real, tier,
)
from fastbp.kernels.encoded cimport Code
from fastbp.kernels.instructions cimport GRAIN
from fastbp.kernels.losses cimport loss_scale
from fastbp.kernels.muon cimport MatrixStep, matrix_step, step_of_matrix
from fastbp.kernels.optimizers cimport (
    SQUARES_BLOCK, fbp_penalize, fbp_sum_of_squares, fbp_update, penalize_block,
    sum_of_squares_of,
)
from fastbp.kernels.stages cimport (
    LEAST_PANEL, PANEL_ROWS, Fused, Part, Plan, Run, panel_bytes, panel_row,
)
from fastbp.kernels.threads cimport fbp_barrier, fbp_partition, fbp_worker


# The least number that is infinite in bfloat16.
cdef double LEAST_ROUNDED_UP = (2 - 2.0**-8) * 2.0**127


cdef bint is_safe(const Run *run, const double *rates, double size, double decay_size,
                  const real *parameters) noexcept nogil:
    """Whether loss and gradients are finite and the update cannot make a weight infinite."""
    # Products of numbers below the square root of the largest do not overflow.
    cdef double limit = (sqrt(<double>3.4028234663852886e38) if real is float
                         else sqrt(1.7976931348623157e308))
    cdef double rate = 0
    cdef int i
    for i in range(run.plan.n_groups):
        rate = max(rate, rates[i])
    if run.clip_norm == 0:  # then the size is the largest gradient, not the norm
        limit /= sqrt(<double>max(1, run.plan.n_parameters))
    # Weight decay of more than the weight itself makes weights grow even without a gradient.
    cdef double reach = max(1.0, rate) * max(1.0, run.weight_decay) * max(1.0, size + decay_size)
    # `max` drops NaN, hence the separate check of the size.
    return (isfinite(run.loss + run.penalty) and isfinite(size + decay_size) and reach < limit
            and rate * run.weight_decay <= 1)


cdef bint penalize(Run *run, fbp_worker *me, Py_ssize_t m, real *parameters,
                   real *gradients) noexcept nogil:
    """Add the gradient of the penalty on the weights, and record the penalty."""
    cdef const Plan *plan = run.plan
    cdef double strength = run.l2 * loss_scale(m, <const real *>plan.w_batch)
    cdef double *squares = plan.squares
    cdef Py_ssize_t first, stop, n, start, block
    cdef int i
    if run.l2 == 0:
        return True
    for i in range(plan.n_weights):
        n = plan.weights[i].size
        fbp_partition(me, n_blocks(n), 1, &first, &stop)
        for block in range(first, stop):
            start = plan.weights[i].start + block * SQUARES_BLOCK
            squares[block] = penalize_block(
                min(n - block * SQUARES_BLOCK, SQUARES_BLOCK), parameters + start,
                gradients + start, strength)
        squares += n_blocks(n)
    if not fbp_barrier(me):
        return False
    if me.part == 0:
        run.penalty = 0.5 * strength * sum_of_squared_weights(plan)
    return True


cdef void square_weights(const Run *run, fbp_worker *me, const real *parameters) noexcept nogil:
    """Sum the squares of this thread's blocks of the weights."""
    cdef const Plan *plan = run.plan
    cdef double *squares = plan.squares
    cdef Py_ssize_t first, stop, n, start, block
    cdef int i
    for i in range(plan.n_weights):
        n = plan.weights[i].size
        fbp_partition(me, n_blocks(n), 1, &first, &stop)
        for block in range(first, stop):
            start = block * SQUARES_BLOCK
            squares[block] = fbp_sum_of_squares(tier, min(n - start, SQUARES_BLOCK),
                                                parameters + plan.weights[i].start + start)
        squares += n_blocks(n)


cdef double sum_of_squared_weights(const Plan *plan) noexcept nogil:
    """The sum of the blocks of `square_weights`, layer by layer."""
    cdef const double *squares = plan.squares
    cdef double layer, total = 0
    cdef Py_ssize_t block
    cdef int i
    for i in range(plan.n_weights):
        layer = 0
        for block in range(n_blocks(plan.weights[i].size)):
            layer += squares[block]
        total += layer
        squares += n_blocks(plan.weights[i].size)
    return total


cdef inline Py_ssize_t n_blocks(Py_ssize_t n) noexcept nogil:
    """The number of blocks in which the squares of n elements are summed."""
    return (n + SQUARES_BLOCK - 1) // SQUARES_BLOCK


cdef bint size_of(const Run *run, fbp_worker *me, const real *X, double *size) noexcept nogil:
    """The norm of X (parameters or gradients) if gradients are clipped, else its largest magnitude.

    The norm has the bits of `sum_of_squares_of`; the largest magnitude is quicker to find.  Both
    are NaN if an element is.
    """
    cdef const Plan *plan = run.plan
    cdef double part
    cdef Py_ssize_t i, first, stop, n_parts
    if run.clip_norm > 0:
        n_parts = n_blocks(plan.n_parameters)
        fbp_partition(me, n_parts, 1, &first, &stop)
        for i in range(first, stop):
            plan.sizes[i] = fbp_sum_of_squares(
                tier, min(plan.n_parameters - i * SQUARES_BLOCK, SQUARES_BLOCK),
                X + i * SQUARES_BLOCK)
    else:
        n_parts = me.parts
        fbp_partition(me, plan.n_parameters, GRAIN, &first, &stop)
        plan.sizes[me.part] = fbp_largest(tier, stop - first, X + first)
    if not fbp_barrier(me):
        return False
    size[0] = 0
    for i in range(n_parts):
        part = plan.sizes[i]
        if run.clip_norm > 0:
            size[0] += part
        elif part > size[0] or part != part:
            size[0] = part
    if run.clip_norm > 0:
        size[0] = sqrt(size[0])
    return True


cdef bint update(const Run *run, fbp_worker *me, const double *rates, double norm, int64_t step,
                 real *parameters, real *gradients, real *workspace) noexcept nogil:
    """Clip the gradients and make one step of the optimizer, group by group."""
    cdef const double *attributes = run.attributes
    cdef int i
    for i in range(run.plan.n_groups):
        if run.plan.groups[i].columns == 0:
            update_group(run, me, run.plan.groups[i], rates[i], attributes, norm, step,
                         parameters, gradients)
        elif not update_matrix(run, me, run.plan.groups[i], rates[i], attributes, norm,
                               parameters, gradients, workspace):
            return False
        attributes += run.n_attributes
    return True


cdef bint update_matrix(const Run *run, fbp_worker *me, Part group, double rate,
                        const double *attributes, double norm, real *parameters, real *gradients,
                        real *workspace) noexcept nogil:
    cdef MatrixStep step = matrix_step(group.size // group.columns, group.columns, rate,
                                       attributes)
    step.W, step.G = parameters + group.start, gradients + group.start
    step.B = <real *>run.plan.state[0] + group.start
    step.scratch, step.squares = run.plan.matrix, run.plan.matrix_squares
    if run.clip_norm > 0 and norm > run.clip_norm:
        step.clip = run.clip_norm / norm
    return step_of_matrix(&step, me, workspace)


cdef void update_group(const Run *run, const fbp_worker *me, Part group, double rate,
                       const double *attributes, double norm, int64_t step, real *parameters,
                       real *gradients) noexcept nogil:
    cdef const Plan *plan = run.plan
    cdef real *state[FBP_MOST_STATE]
    cdef real factor
    cdef Py_ssize_t i, first, stop
    fbp_partition(me, group.size, GRAIN, &first, &stop)
    first, stop = first + group.start, stop + group.start
    if run.clip_norm > 0 and norm > run.clip_norm:
        factor = <real>(run.clip_norm / norm)
        for i in range(first, stop):
            gradients[i] *= factor
    for i in range(plan.n_state):
        state[i] = <real *>plan.state[i] + first
    fbp_update(tier, plan.update, stop - first, parameters + first, gradients + first, state,
               rate, step, attributes)


cdef bint bound_of(Run *run, fbp_worker *me, Py_ssize_t m, const real *parameters,
                   const real *gradients, double *size) noexcept nogil:
    """A bound on the magnitude of the gradients, before those of fused weights are computed.

    An element of dW = Xᵀ·dZ is at most m times the largest |X| times the largest |dZ|, and the
    penalty adds its strength times a weight, which is at most the root of the sum of all squares.
    Also records the penalty.  The bound is NaN if a number is.
    """
    cdef const Plan *plan = run.plan
    cdef const Code *code = run.frame.code
    cdef double strength = run.l2 * loss_scale(m, <const real *>plan.w_batch), total = 0
    cdef double most, part
    cdef Py_ssize_t n = 2 * plan.n_fused + 1, first, stop
    cdef double *own = plan.bounds + me.part * n
    cdef const int *reads
    cdef int i, j, k
    if run.l2 != 0:
        square_weights(run, me, parameters)
    for i in range(plan.n_fused):
        reads = code.instructions[plan.fused[i].instruction].reads
        for j in range(2):
            fbp_partition(me, m * code.values[reads[j]].columns, GRAIN, &first, &stop)
            own[2 * i + j] = fbp_largest(tier, stop - first,
                                         <const real *>run.frame.at[reads[j]] + first)
    own[n - 1] = 0
    for i in range(plan.n_rest):
        fbp_partition(me, plan.rest[i].size, GRAIN, &first, &stop)
        own[n - 1] = larger(own[n - 1], fbp_largest(
            tier, stop - first, gradients + plan.rest[i].start + first))
    if not fbp_barrier(me):
        return False
    if run.l2 != 0:
        total = sum_of_squared_weights(plan)
        if me.part == 0:
            run.penalty = 0.5 * strength * total
    size[0] = 0
    for i in range(plan.n_fused + 1):
        part = m if i < plan.n_fused else 1
        for j in range(2 * i, min(2 * i + 2, n)):
            most = plan.bounds[j]
            for k in range(1, me.parts):
                most = larger(most, plan.bounds[k * n + j])
            if most >= LEAST_ROUNDED_UP and plan.reduced:
                most = INFINITY
            part *= most
        size[0] = larger(size[0], part)
    # Twice, for sums are rounded; the strength is rounded too, perhaps to infinity.
    size[0] = 2 * (size[0] + <double><real>strength * sqrt(total))
    return fbp_barrier(me)


cdef inline double larger(double a, double b) noexcept nogil:
    """The larger one, or NaN if one is."""
    return a if a > b or a != a else b


cdef void update_fused(const Run *run, const fbp_worker *me, Py_ssize_t m, const double *rates,
                       int64_t step, real *parameters, const real *gradients,
                       real *workspace) noexcept nogil:
    """As `update` after `penalize`, without clipping: a panel of each fused gradient at a time,
    which stays in the cache, is computed and used.  A gradient that is a sum of few rows, as that
    of a small minibatch, does not leave the registers."""
    cdef const Plan *plan = run.plan
    cdef double strength = run.l2 * loss_scale(m, <const real *>plan.w_batch)
    cdef real *panel = <real *>plan.panels + me.part * plan.panel_size
    cdef const Fused *each
    cdef const int *reads
    cdef fbp_gemm whole, product
    cdef float *room
    cdef Py_ssize_t first, stop, end, start, grain, grains, n_panels, row_bytes, most, j
    cdef Py_ssize_t together  # rows whose gradients follow each other without a gap
    cdef int i
    for i in range(plan.n_rest):
        fbp_partition(me, plan.rest[i].size, GRAIN, &first, &stop)
        start = plan.rest[i].start + first
        step_of_part(run, plan.rest[i].group, rates, step, start, stop - first,
                     strength if plan.rest[i].penalized else 0, parameters, gradients + start)
    for i in range(plan.n_fused):
        each = &plan.fused[i]
        reads = run.frame.code.instructions[each.instruction].reads
        row_bytes = each.columns * <Py_ssize_t>sizeof(real)
        whole = weights_product(m, each.rows, each.columns, <const real *>run.frame.at[reads[0]],
                                <const real *>run.frame.at[reads[1]], panel)
        whole.precision = run.frame.code.instructions[each.instruction].precision
        if m <= FBP_FEW_ROWS and whole.precision == FBP_HIGHEST and plan.update == FBP_UPDATE_sgd:
            fbp_partition(me, each.rows, 1, &first, &end)
            fbp_take_rows(&whole, first, end, sizeof(real))
            fbp_descend_product(tier, &whole, parameters + each.start + first * each.columns,
                                strength, rates[each.group],
                                run.attributes + each.group * run.n_attributes)
            continue
        if whole.precision == FBP_HIGHEST:
            grain, most = 1, panel_bytes(plan.batch_size, row_bytes)
        else:  # dZ is packed once
            grain, most = PANEL_ROWS, LEAST_PANEL
            whole.c_row = panel_row(each.columns)
            room = <float *>workspace + fbp_packed_size(each.columns, m, whole.precision)
            tier.bf16.pack_b(&whole, <float *>workspace)
        fbp_partition(me, each.rows, grain, &first, &end)
        grains = (end - first + grain - 1) // grain
        n_panels = min(grains, (grains * grain * row_bytes + most - 1) // most)
        for j in range(n_panels):
            start = first + grains * j // n_panels * grain
            stop = min(first + grains * (j + 1) // n_panels * grain, end)
            product = whole
            fbp_take_rows(&product, start, stop, sizeof(real))
            product.C = panel
            if product.precision != FBP_HIGHEST:
                multiply_panel(product, <float *>workspace, room)
            else:
                fbp_matmul(tier, &product, workspace)
            together = stop - start if product.c_row == each.columns else 1
            while start < stop:
                step_of_part(run, each.group, rates, step, each.start + start * each.columns,
                             together * each.columns, strength, parameters, <real *>product.C)
                start += together
                product.C = <real *>product.C + together * product.c_row


cdef void step_of_part(const Run *run, int group, const double *rates, int64_t step,
                       Py_ssize_t start, Py_ssize_t n, double strength, real *parameters,
                       const real *gradients) noexcept nogil:
    """The optimizer's step for n parameters of one group, with their gradients."""
    cdef const Plan *plan = run.plan
    cdef real *state[FBP_MOST_STATE]
    cdef int i
    if strength != 0:
        fbp_penalize(tier, n, parameters + start, <real *>gradients, strength)
    for i in range(plan.n_state):
        state[i] = <real *>plan.state[i] + start
    fbp_update(tier, plan.update, n, parameters + start, gradients, state, rates[group], step,
               run.attributes + group * run.n_attributes)


cdef void add_layer_norms(const Plan *plan, const real *gradients,
                          double *norms) noexcept nogil:
    cdef int i
    for i in range(plan.n_layers):
        norms[i] += sqrt(sum_of_squares_of(plan.layers[i].size,
                                           gradients + plan.layers[i].start))
