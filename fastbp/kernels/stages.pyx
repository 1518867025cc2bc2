"""The stages of a training step, as a team of threads executes them.

The stages are gather, forward, loss, backward, add up (the gradients, where several processes share
a minibatch), reduce (the penalty, and the norm for clipping), update and record.
All threads of a team execute them together: each does its part of every stage, and they wait at a
barrier where one needs the results of others.  Where Python is needed, `leave` records the
position, and the team ends.

Nothing here touches a Python object.
"""

from libc.string cimport memcpy

from fastbp.kernels.dispatch cimport (
    FBP_CONTINUES, FBP_UNFINISHED, fbp_running_average, fbp_unary, int64_t, real, tier, uint64_t,
)
from fastbp.kernels.gather cimport read_rows
from fastbp.kernels.instructions cimport GRAIN, Frame, add_up, execute
from fastbp.kernels.losses cimport fbp_loss, loss_scale, sum_of_losses, sum_of_weights
from fastbp.kernels.metrics cimport add_squares, count_labels, count_signs
from fastbp.kernels.shares cimport Piece, share_of
from fastbp.kernels.threads cimport fbp_barrier, fbp_partition, fbp_set_flag, fbp_worker
from fastbp.kernels.updates cimport (
    add_layer_norms, bound_of, is_safe, penalize, size_of, update, update_fused,
)

from . import ops
from .dispatch import UNARY_INDEX as _UNARY_INDEX

cdef extern from "platform.h" nogil:
    double fbp_seconds() noexcept

cdef int EXP = _UNARY_INDEX["exp"]


cpdef double seconds() noexcept nogil:
    """Seconds of the clock by which compiled steps say when an epoch ended."""
    return fbp_seconds()


cdef void run_floats(void *work, fbp_worker *me) noexcept nogil:
    cdef Run *run = <Run *>work
    run_steps(run, me, <float *>run.frame.code.parameters, <float *>run.frame.code.gradients)


cdef void run_doubles(void *work, fbp_worker *me) noexcept nogil:
    cdef Run *run = <Run *>work
    run_steps(run, me, <double *>run.frame.code.parameters, <double *>run.frame.code.gradients)


cdef inline void leave(Run *run, fbp_worker *me, int stage, int i, Py_ssize_t step) noexcept nogil:
    """Record the stage, instruction and step at which Python takes over and the next team resumes.

    The barrier makes sure that every thread has read the old values first.
    """
    if fbp_barrier(me) and me.part == 0:
        run.stage, run.i, run.step, run.turn = stage, i, step, True


cdef void run_steps(Run *run, fbp_worker *me, real *parameters, real *gradients) noexcept nogil:
    """This thread's part of every step, until time runs out or Python is needed.

    All threads take the same branches, as the values they depend on are the same for all.
    """
    cdef const Plan *plan = run.plan
    cdef bint leads = me.part == 0, done = run.done, fused = False
    cdef double size = 0, decay_size = 0
    cdef const double *rates
    cdef Py_ssize_t m, first, stop, epoch, batch, step = run.step
    cdef double now
    cdef int stage = run.stage, i = run.i, end
    cdef real *workspace = <real *>plan.for_products + me.part * plan.workspace
    cdef real *Z = <real *>plan.Z
    if plan.update >= 0 and run.weight_decay > 0:
        if not size_of(run, me, parameters, &decay_size):
            return
        decay_size *= run.weight_decay
    while True:
        epoch = step // run.per_epoch
        batch = step - epoch * run.per_epoch
        m = min(plan.batch_size, run.n_rows - batch * plan.batch_size)
        if stage == GATHER:
            if not plan.gathers and not done:
                leave(run, me, stage, i, step)
                return
            if leads:
                run.frame.steps_ahead = <uint64_t>(step - run.first)
                place(run, m, Z)
            gather(run, me, run.rows + epoch * run.n_rows + batch * plan.batch_size, m,
                   <real *>plan.x_batch)
            if not fbp_barrier(me):
                return
            if run.no_label or run.no_row:
                leave(run, me, stage, i, step)
                return
            # The last step writes all gradients, for whoever looks at them afterwards.
            fused = run.fuses and step < run.stop - 1
            stage, i = FORWARD, 0
        elif stage == FORWARD or stage == BACKWARD:
            end = plan.forward
            if stage == BACKWARD:
                end = plan.weights_section if fused or plan.processes > 1 else plan.backward
            i = execute(&run.frame, i, end, me, workspace)
            if i < 0:
                return
            if i < end or run.frame.bad_code:
                leave(run, me, stage, i, step)
                return
            stage = LOSS if stage == FORWARD else REDUCE
            if stage == REDUCE and plan.processes > 1:
                stage, i = ADD_UP, 0
        elif stage == LOSS:
            if (plan.loss == IN_PYTHON or plan.processes > 1) and not done:
                leave(run, me, stage, i, step)
                return
            if plan.loss >= 0 and not compute_loss(run, me, m, Z, <real *>plan.dZ):
                return
            stage, i = BACKWARD, plan.forward
        elif stage == ADD_UP:
            # Before each segment, and after the last, Python sends and receives.
            if not done:
                leave(run, me, stage, i, step)
                return
            if i == plan.n_segments:
                stage = REDUCE
            elif not add_up_segment(run, i, me, workspace):
                return
            i += 1
        elif stage == REDUCE and fused:
            if not bound_of(run, me, m, parameters, gradients, &size):
                return
            stage = UPDATE
            if not is_safe(run, run.rates + step * plan.n_groups, size, decay_size, parameters):
                # The gradients themselves, which may be smaller, decide.
                fused = False
                stage, i = BACKWARD, plan.weights_section
        elif stage == REDUCE:
            if not penalize(run, me, m, parameters, gradients):
                return
            stage = UPDATE
            if plan.update == NONE:
                stage = RECORD
            elif not size_of(run, me, gradients, &size):
                return
            elif run.layer_norms is not NULL:
                if leads:
                    add_layer_norms(plan, gradients, run.layer_norms + epoch * plan.n_layers)
                if not fbp_barrier(me):  # before they are clipped
                    return
        elif stage == UPDATE:
            if not done:
                rates = run.rates + step * plan.n_groups
                if plan.update < 0 or not is_safe(run, rates, size, decay_size, parameters):
                    leave(run, me, stage, i, step)
                    return
                if fused:
                    update_fused(run, me, m, rates, run.steps_before + (step - run.first) + 1,
                                 parameters, gradients, workspace)
                elif not update(run, me, rates, size, run.steps_before + (step - run.first) + 1,
                                parameters, gradients, workspace):
                    return
                if leads:
                    run.updates += 1
                # `record` overwrites dZ, from which other threads may still compute gradients.
                if fused and plan.metric == SQUARES_OF_RATES and not fbp_barrier(me):
                    return
            if plan.average is not NULL:
                if not fbp_barrier(me):  # groups are partitioned differently
                    return
                fbp_partition(me, plan.n_parameters, GRAIN, &first, &stop)
                fbp_running_average(tier, stop - first, <real *>plan.average + first,
                                    parameters + first, run.average_keep, 1 - run.average_keep)
            if execute(&run.frame, plan.backward, plan.update_section, me,
                       workspace) < plan.update_section:
                return
            stage = RECORD
        else:
            if not done:
                if leads:
                    record(run, epoch, step, m, Z)
                if plan.metric == IN_PYTHON:
                    leave(run, me, stage, i, step)
                    return
            if leads:
                run.made += 1
                now = seconds()
                run.in_time = now < run.deadline
                if batch == run.per_epoch - 1:
                    run.epoch_stats[N_EPOCH_STATS * epoch + 2] = now
            # Interrupts take effect only here, after a complete step.
            if not fbp_barrier(me) or not run.in_time:
                return
            stage, step = GATHER, step + 1
            if step == run.stop:
                return
        done = False


cdef void place(Run *run, Py_ssize_t m, real *Z) noexcept nogil:
    """Say which of the minibatch's m rows are here, and where their outputs are."""
    cdef const Plan *plan = run.plan
    cdef Frame *frame = &run.frame
    cdef Py_ssize_t stop
    frame.batch, frame.shared = m, plan.processes > 1
    share_of(m, plan.rank, plan.processes, &frame.first, &stop)
    frame.rows = stop - frame.first
    frame.part = 0
    if frame.shared:
        frame.part = ((FBP_CONTINUES if frame.first > 0 else 0)
                      | (FBP_UNFINISHED if stop < m else 0))
        frame.at[plan.z] = Z + frame.first * plan.n_out
        frame.at[plan.dz] = <real *>plan.dZ + frame.first * plan.n_out


cdef bint add_up_segment(Run *run, int segment, fbp_worker *me, real *workspace) noexcept nogil:
    """Add the rows that are here to a segment of the gradients.  Returns whether to continue."""
    cdef const Plan *plan = run.plan
    cdef const Piece *piece
    cdef int i
    if run.frame.rows > 0:
        for i in range(plan.segments[segment], plan.segments[segment + 1]):
            piece = &plan.pieces[i]
            if not add_up(&run.frame, &run.frame.code.instructions[piece.instruction], piece.first,
                          piece.stop, me, workspace):
                return False
    return fbp_barrier(me)


cdef void gather(Run *run, const fbp_worker *me, const int64_t *rows, Py_ssize_t m,
                 real *x) noexcept nogil:
    """Copy the batch's rows of X that are here, all targets and all weights into the workspace.

    Targets, and weights for the loss, are repeated for each member of an ensemble.  Rows and labels
    are checked again, as the order or y may have been changed meanwhile.
    """
    cdef const Plan *plan = run.plan
    cdef real *y = <real *>plan.y_batch
    cdef real *w = <real *>plan.w_batch
    cdef real *w_loss = <real *>plan.loss_weights
    cdef Py_ssize_t i, j, first, stop, here, members = plan.members, n = plan.n_out // members
    cdef int64_t label
    fbp_partition(me, m, 1, &first, &stop)
    if not are_rows(run, rows, first, stop):
        return
    for i in range(first, stop):
        if plan.labels is not NULL:
            label = plan.labels[rows[i]]
            if not 0 <= label < n:
                label = 0
                fbp_set_flag(&run.no_label)
            for j in range(i * members, (i + 1) * members):
                plan.label_batch[j] = label
        elif y is not NULL:
            for j in range(i * members, (i + 1) * members):
                memcpy(y + j * n, <const real *>plan.Y + rows[i] * n, n * sizeof(real))
        if w is not NULL:
            w[i] = (<const real *>plan.row_weights)[rows[i]]
            if members > 1:
                for j in range(i * members, (i + 1) * members):
                    w_loss[j] = w[i]
    if plan.gathers:
        share_of(m, plan.rank, plan.processes, &here, &stop)
        fbp_partition(me, stop - here, 1, &first, &stop)
        if are_rows(run, rows + here, first, stop):
            read_rows(run.X, rows + here + first, stop - first, x + first * run.X.n_columns)


cdef bint are_rows(Run *run, const int64_t *rows, Py_ssize_t first, Py_ssize_t stop) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(first, stop):
        if not 0 <= rows[i] < run.plan.n_rows:
            fbp_set_flag(&run.no_row)
            return False
    return True


cdef bint compute_loss(Run *run, fbp_worker *me, Py_ssize_t m, const real *Z,
                       real *dZ) noexcept nogil:
    """Compute the loss and its gradient.

    Returns whether to continue, as do the functions below.
    """
    cdef const Plan *plan = run.plan
    cdef const real *Y = <const real *>plan.y_batch
    cdef const real *weights = <const real *>plan.loss_weights
    cdef Py_ssize_t i, first, stop, n = plan.n_out // plan.members
    m *= plan.members  # in memory, each member has rows of its own
    cdef double scale = loss_scale(m, weights)
    cdef const int64_t *labels = plan.label_batch
    fbp_partition(me, m, 1, &first, &stop)
    fbp_loss(tier, plan.loss, stop - first, n, Z + first * n, &Y[first * n] if Y else Y,
             &labels[first] if labels else labels, &weights[first] if weights else weights,
             scale, plan.loss_parameters, plan.loss_cap, dZ + first * n, plan.row_losses + first)
    if plan.gradient_scale != 1:
        for i in range(first * n, stop * n):
            dZ[i] *= <real>plan.gradient_scale
    if not fbp_barrier(me):
        return False
    if me.part == 0:
        run.loss = sum_of_losses(m, weights, plan.row_losses) * scale * plan.value_scale
    return True


cdef void record(Run *run, Py_ssize_t epoch, Py_ssize_t step, Py_ssize_t m,
                 const real *Z) noexcept nogil:
    """Record the step's loss, penalty and weight, and add to the metric's sums."""
    cdef const Plan *plan = run.plan
    cdef const real *Y = <const real *>plan.y_batch
    cdef const real *weights = <const real *>plan.w_batch
    cdef double *step_stats = run.step_stats + N_STATS * step
    cdef double *epoch_stats = run.epoch_stats + N_EPOCH_STATS * epoch
    cdef double *metric_sums = run.metric_sums + epoch * run.n_metric_sums
    cdef real *rates
    step_stats[0], step_stats[1] = run.loss, run.penalty
    step_stats[2] = sum_of_weights(m, weights)
    epoch_stats[0] += (run.loss + run.penalty) * step_stats[2]
    epoch_stats[1] += step_stats[2]
    if plan.metric == LABELS:
        count_labels(m, plan.n_out, Z, Y, plan.label_batch, weights, metric_sums)
    elif plan.metric == SIGNS or plan.metric == ROWS_OF_SIGNS:
        count_signs(m, plan.n_out, Z, Y, weights, plan.metric == ROWS_OF_SIGNS, metric_sums)
    elif plan.metric == SQUARES:
        add_squares(m, plan.n_out, Z, Y, weights, run.metric_mean, metric_sums)
    elif plan.metric == SQUARES_OF_RATES:
        rates = <real *>plan.dZ  # no longer needed, so free for the rates
        fbp_unary(tier, EXP, m * plan.n_out, Z, rates, 0)
        add_squares(m, plan.n_out, <const real *>rates, Y, weights, run.metric_mean,
                    metric_sums)


cdef int check_sums(int metric, Py_ssize_t n_out, Py_ssize_t epochs,
                    const double[:, ::1] metric_sums, const double[::1] metric_mean) except -1:
    """Raise unless the metric's arrays have the shapes that it needs."""
    cdef Py_ssize_t n = 2 * n_out if metric >= SQUARES else 2
    if metric >= 0 and (metric_sums is None or metric_sums.shape[0] < epochs
                        or metric_sums.shape[1] != n):
        shape = None if metric_sums is None else (metric_sums.shape[0], metric_sums.shape[1])
        raise ValueError(f"metric_sums: expected shape {(epochs, n)} for the metric's sums over "
                         f"each epoch, got {shape}")
    if metric >= SQUARES and (metric_mean is None or metric_mean.shape[0] != n_out):
        raise ValueError(f"metric_mean: expected the means of {n_out} targets for R², got "
                         f"{None if metric_mean is None else metric_mean.shape[0]}")
    return 0


cdef int check_run(const Plan *plan, Py_ssize_t epochs, Py_ssize_t n_random,
                   const double[:, ::1] rates, const double[:, ::1] attributes,
                   const uint64_t[:, ::1] random, const double[:, ::1] layer_norms,
                   const double[:, ::1] epoch_stats) except -1:
    """Raise unless these arguments of `Steps.run` have the shapes that the program needs."""
    if layer_norms is not None and (layer_norms.shape[0] < epochs
                                    or layer_norms.shape[1] != plan.n_layers):
        raise ValueError(f"layer_norms: expected shape {(epochs, plan.n_layers)}, a number for "
                         f"each epoch and layer with parameters, got "
                         f"{(layer_norms.shape[0], layer_norms.shape[1])}")
    if epoch_stats.shape[0] < epochs or epoch_stats.shape[1] != N_EPOCH_STATS:
        raise ValueError(f"epoch_stats: expected shape {(epochs, N_EPOCH_STATS)}, got "
                         f"{(epoch_stats.shape[0], epoch_stats.shape[1])}")
    if rates.shape[1] < max(1, plan.n_groups) and plan.update != NONE:
        raise ValueError(f"rates: expected {plan.n_groups} for each step, one for each group, "
                         f"got {rates.shape[1]}")
    if plan.update >= 0 and (attributes.shape[0] != plan.n_groups
                             or attributes.shape[1] != N_ATTRIBUTES[plan.update]):
        raise ValueError(f"attributes: expected {N_ATTRIBUTES[plan.update]} numbers for each "
                         f"of {plan.n_groups} groups, got shape "
                         f"{(attributes.shape[0], attributes.shape[1])}")
    if random.shape[0] != 2 or random.shape[1] < n_random:
        raise ValueError(f"random: expected a key and a step for each of {n_random} layers, got "
                         f"{random.shape[1]}")
    return 0


cdef list N_ATTRIBUTES = [len(op.attributes) for op in ops.UPDATES.values()]
