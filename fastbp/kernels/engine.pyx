"""The compiled training loop: whole epochs of a network of built-in layers.

An `Engine` is a network, loss and optimizer lowered to a list of operations over one
workspace that is allocated once.  A step runs the kernels that the layers run, on the same
numbers, so parameters and history come out with the same bits as layer by layer; what it
leaves out is Python.

A step gathers its rows, goes forward through the operations, lets the loss write its
gradient, goes back, and updates the parameters.  A team of threads makes a run of steps
together: each does its part of every operation, and they meet before the next one.

If anything is unusual (a loss or gradient that is not finite, a step so large that it might
make a weight infinite) the engine stops before the update, and the caller makes that step
layer by layer, which finds out what is wrong.
"""

cimport cython
cimport numpy as cnp
from libc.math cimport isfinite, sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy as np

from fastbp.kernels.dense cimport (
    FBP_WORKSPACE, bias_product, fbp_gemm, forward_product, input_product, matmul,
    weights_product,
)
from fastbp.kernels.dispatch cimport (
    fbp_dropout, fbp_largest, fbp_unary, fbp_unary_backward, int64_t, real, tier, uint64_t,
)
from fastbp.kernels.guards cimport Borrowed, apart, check_chain
from fastbp.kernels.losses cimport (
    fbp_loss, loss_scale, sum_of_losses, sum_of_weights,
)
from fastbp.kernels.metrics cimport add_squares, count_labels, count_signs
from fastbp.kernels.optimizers cimport (
    FBP_MOST_ATTRIBUTES, FBP_MOST_STATE, SQUARES_BLOCK, fbp_sum_of_squares, fbp_update,
    penalize_block, sum_of_squares_of,
)
from fastbp.kernels.threads cimport (
    fbp_barrier, fbp_worker, fbp_note, fbp_partition, run_team, threads_for,
)

from . import checks, memory, ops
from .dispatch import LOSS_INDEX as _LOSS_INDEX
from .dispatch import UNARY_INDEX as _UNARY_INDEX
from .dispatch import UPDATE_INDEX as _UPDATE_INDEX

cnp.import_array()

ctypedef fused source:
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused index:
    int32_t
    int64_t

cdef enum:
    DENSE = -1
    DROPOUT = -2

cdef int EXP = _UNARY_INDEX["exp"]

cdef enum:
    NO_UPDATE = -1

cdef enum:
    NO_METRIC, LABELS, SIGNS, ROWS_OF_SIGNS, SQUARES, SQUARES_OF_RATES

# What the engine writes down of a step: the loss, the penalty, and the batch's weight.
cdef enum:
    N_STATS = 3

METRICS = {
    None: NO_METRIC, "accuracy": LABELS, "signs": SIGNS, "rows of signs": ROWS_OF_SIGNS,
    "r2": SQUARES, "r2 of rates": SQUARES_OF_RATES,
}
# Losses and metrics that take labels; the others take rows of y.
TAKE_LABELS = {"accuracy", None, *(op.name for op in ops.LOSSES.values()
                                   if op.targets == "labels")}
SOURCES = "fdbhilBHIL?"

# How long a run goes on before it comes up for air: for Ctrl-C and the progress bar.
cdef double SECONDS_PER_RUN = 0.05

# Numbers of an array that threads share element by element are cut at multiples of this: a
# cache line of them, and what dropout's generator asks for.
cdef enum:
    GRAIN = 64


cdef struct Operation:
    int kind               # DENSE, DROPOUT, or the index of a function
    Py_ssize_t n_in, n_out
    Py_ssize_t parameters  # where a dense layer's W, then b, are in the flat arrays
    double parameter       # a function's parameter, or the rate of dropout
    bint from_output       # a function whose derivative is taken from its output
    uint64_t key           # of dropout
    int64_t steps_ahead    # of dropout: how far its count is from that of the run
    bint fused_in_forward        # a ReLU that the dense layer before it applies
    bint fused_in_backward       # a ReLU whose backward the dense layer after it applies
    void *input
    void *output


# What the threads of a run read, and nobody changes.
cdef struct Plan:
    Operation *operations
    int n_operations, first_dense
    Py_ssize_t n_parameters, n_in, n_out, batch_size
    Py_ssize_t n_rows           # of X, the targets and the weights
    void *parameters
    void *gradients

    int loss, metric
    double loss_parameter, loss_cap, value_scale, gradient_scale, l2

    int update             # of ops.def, or NO_UPDATE
    double weight_decay, clip_norm
    double attributes[FBP_MOST_ATTRIBUTES]
    int n_state
    void *state[FBP_MOST_STATE]

    char x_kind
    Py_ssize_t x_row, x_column  # bytes between rows, and between columns
    const char *X
    bint sparse                 # then, in place of these, X is in rows of compressed columns:
    const void *starts          # where each row starts, and the last ends, in the next two
    const void *columns
    const void *values
    Py_ssize_t n_values
    bint wide                   # whether the first two are of 64 bits
    const void *Y
    const int64_t *labels
    const void *weights

    # The workspace.
    void *x_batch
    void *y_batch
    void *w_batch
    int64_t *label_batch
    double *row_losses
    double *sizes          # of blocks of parameters or gradients
    double *squares        # sums of blocks of weights
    void *grad_buffers[2]
    void *for_products     # FBP_WORKSPACE numbers for each thread


# A run of steps.  What part 0 writes here the others read after the next meeting.
cdef struct Run:
    const Plan *plan
    const int64_t *rows
    Py_ssize_t n_rows, first, stop
    const double *rates
    long steps_before
    uint64_t dropout_steps_before
    double *step_stats
    double *metric_sums
    const double *metric_mean
    double *layer_norms
    double loss, penalty
    bint needs_fallback, no_label, no_row, in_time
    Py_ssize_t made


@cython.final
cdef class Engine:
    """A network, loss and optimizer, lowered.

    Parameters
    ----------
    operations : list of tuple
        ``("dense", n_in, n_out)``, ``("dropout", rate, key, steps ahead of the run's)`` or
        ``(activation, parameter)``, in the order of the layers.
    parameters, gradients : ndarray of shape (n,)
        The network's flat arrays.
    loss : tuple
        ``(name, parameter, cap)``, or with ``value_scale, gradient_scale`` besides.
    metric : str or None
        One of `METRICS`.
    optimizer : dict
        ``update``, a pair of its name in ops.def, or None to make gradients and nothing of
        them, and the list of its attributes; ``weight_decay`` and ``clip_norm``.
    state : list of ndarray
        The optimizer's arrays, changed with each step.
    X : ndarray or sparse array of shape (rows, n_in)
        One that `readable` accepts.
    y : ndarray
        int64 labels of shape (rows,), or targets (rows, n_out) of the parameters' dtype.
    sample_weight : ndarray of shape (rows,) or None
    batch_size : int
    l2 : float
        Strength of the penalty on the weights.

    Raises
    ------
    ValueError
        If the operations do not chain from X's columns to those of y, their parameters are
        not as many as there are, or an array is not what the compiled code takes it for.
    """

    cdef readonly bint needs_fallback     # the next step is the caller's to make
    cdef readonly Py_ssize_t made  # steps of all runs
    cdef bint ready                # only once it is made whole
    cdef list arrays               # what the plan's pointers point into
    cdef list borrowed             # those of them that are not the engine's own
    cdef Plan plan
    cdef bint is_double
    cdef double work               # of a step, in multiply-adds
    cdef Py_ssize_t n_dense
    cdef readonly int threads      # that a run may have

    def __init__(self, operations, parameters, gradients, loss, metric, optimizer, state, X,
                 y, sample_weight, batch_size, l2):
        if self.arrays is not None:
            raise RuntimeError("Engine: this one is made already; make another")
        self.arrays, self.borrowed = [], []
        dtype = parameters.dtype
        check_fit(dtype, parameters, gradients, loss, metric, optimizer, state, y,
                  sample_weight, X.shape[0])
        if dtype not in checks.FLOATS or not readable(X, dtype):
            raise ValueError("X: expected an array or a sparse one that `readable` accepts")
        cdef Plan *plan = &self.plan
        self.is_double = dtype == np.float64
        plan.parameters = self._borrow("parameters", parameters)
        plan.gradients = self._borrow("gradients", gradients)
        plan.n_parameters = parameters.size
        plan.batch_size = checks.integer("batch_size", batch_size, 1)
        plan.n_rows, plan.n_in = X.shape

        self._take(X)
        plan.x_batch = self._new(batch_size, dtype, plan.n_in)
        plan.n_operations = len(operations)
        self.work = self._lower(operations, dtype)
        if y.ndim != 1 and y.shape != (plan.n_rows, plan.n_out):
            raise ValueError(f"y: expected shape {(plan.n_rows, plan.n_out)}, got {y.shape}")

        name, plan.loss_parameter, plan.loss_cap, *scales = loss
        plan.loss = _LOSS_INDEX[name]
        plan.value_scale, plan.gradient_scale = scales or (1.0, 1.0)
        plan.l2 = l2
        plan.metric = METRICS[metric]
        if y.ndim == 1:
            plan.labels = <const int64_t *>self._borrow("y", y)
            plan.label_batch = <int64_t *>self._new(batch_size, np.int64)
        else:
            plan.Y = self._borrow("y", y)
            plan.y_batch = self._new(batch_size, dtype, plan.n_out)
        if sample_weight is not None:
            plan.weights = self._borrow("sample_weight", sample_weight)
            plan.w_batch = self._new(batch_size, dtype)
        plan.row_losses = <double *>self._new(batch_size, np.float64)

        name, attributes = optimizer["update"]
        plan.update = NO_UPDATE if name is None else _UPDATE_INDEX[name]
        for i, attribute in enumerate(attributes):
            plan.attributes[i] = attribute
        plan.weight_decay = optimizer["weight_decay"]
        plan.clip_norm = optimizer["clip_norm"] or 0
        plan.n_state = len(state)
        for i, array in enumerate(state):
            plan.state[i] = self._borrow(f"state[{i}]", array)

        self.threads = threads_for(self.work)
        plan.for_products = self._new(self.threads * FBP_WORKSPACE, dtype)
        plan.sizes = <double *>self._new(
            max(self.threads, plan.n_parameters // SQUARES_BLOCK + 1), np.float64)
        plan.squares = <double *>self._new(
            plan.n_parameters // SQUARES_BLOCK + plan.n_operations, np.float64)
        self.ready = True

    cdef int _take(self, X) except -1:
        """Note where X is and how it lies."""
        cdef Plan *plan = &self.plan
        plan.sparse = checks.is_sparse(X)
        if plan.sparse:
            plan.starts = self._borrow("X.indptr", X.indptr)
            plan.columns = self._borrow("X.indices", X.indices)
            plan.values, plan.n_values = self._borrow("X.data", X.data), X.data.size
            plan.wide = X.indices.dtype == np.int64
        else:
            plan.x_kind = ord(X.dtype.char)
            plan.x_row, plan.x_column = X.strides
            plan.X = <const char *>self._borrow("X", X)
        return 0

    cdef void *_pointer(self, array) except NULL:
        """Where an array's numbers are; the array lives as long as the engine."""
        self.arrays.append(array)
        return cnp.PyArray_DATA(array)

    cdef void *_borrow(self, name, array) except NULL:
        """Where the numbers of somebody else's array are; `run` asks whether they still are."""
        self.borrowed.append(Borrowed(name, array))
        return self._pointer(array)

    cdef void *_new(self, Py_ssize_t n, dtype, Py_ssize_t columns=1) except NULL:
        """n rows of so many numbers of the workspace."""
        return self._pointer(memory.aligned((n, columns), dtype))

    cdef double _lower(self, list operations, dtype) except -1:
        """Fill in the operations; the multiply-adds of a step."""
        cdef Operation *op
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t width = plan.n_in, widest = plan.n_in, offset = 0
        cdef void *current = plan.x_batch
        cdef double work = 0
        plan.operations = <Operation *>self._new(
            plan.n_operations * sizeof(Operation), np.uint8)
        plan.first_dense = plan.n_operations
        names = [name for name, *_ in operations]
        for i, (name, *details) in enumerate(operations):
            op = &plan.operations[i]
            op.n_in = op.n_out = width
            op.parameter, op.key, op.steps_ahead, op.from_output = 0, 0, 0, False
            in_place = False
            op.input = current
            if name == "dense":
                op.kind = DENSE
                op.n_in, op.n_out = details
                check_chain(i, op.n_in, op.n_out, width, offset, plan.n_parameters)
                op.parameters = offset
                offset += op.n_in * op.n_out + op.n_out
                # Its product, and the two of its gradients, or one where nobody asks for dX.
                work += <double>plan.batch_size * op.n_in * op.n_out * (
                    3 if plan.first_dense < i else 2)
                plan.first_dense = min(plan.first_dense, i)
                self.n_dense += 1
            elif name == "dropout":
                op.kind = DROPOUT
                op.parameter, op.key, op.steps_ahead = details
            else:
                op.kind = _UNARY_INDEX[name]
                op.parameter, = details
                op.from_output = ops.ACTIVATIONS[name].from_output
                # Nothing but this operation needs what a dense layer returned.
                in_place = ops.ACTIVATIONS[name].in_place and names[i - 1:i] == ["dense"]
                work += 16 * plan.batch_size * width  # about what a map costs
            width = op.n_out
            widest = max(widest, width)
            op.fused_in_forward = name == "relu" and in_place
            op.fused_in_backward = name == "relu" and names[i + 1:i + 2] == ["dense"]
            op.output = current if in_place else self._new(plan.batch_size, dtype, width)
            current = op.output
        if offset != plan.n_parameters:
            raise ValueError(f"operations: expected {plan.n_parameters} parameters, as many as "
                             f"there are, got {offset}")
        plan.n_out = width
        for i in range(2):
            plan.grad_buffers[i] = self._new(plan.batch_size, dtype, widest)
        return work

    def run(self, const int64_t[::1] rows, Py_ssize_t first, Py_ssize_t stop,
            const double[::1] rates, long steps_before, uint64_t dropout_steps_before,
            double[:, ::1] step_stats, double[::1] metric_sums, const double[::1] metric_mean,
            double[::1] layer_norms):
        """Steps `first` to `stop` of an epoch, or as many as a twentieth of a second allows.

        Parameters
        ----------
        rows : memoryview of int64
            The epoch's order: a row of X, y and the weights for each place.
        first, stop : int
            The steps, counted from the start of the epoch.
        rates : memoryview of float64
            The learning rate of each of the epoch's steps.
        steps_before, dropout_steps_before : int
            Steps that the optimizer and dropout have counted before step `first`.
        step_stats : memoryview of float64, of shape (steps, 3)
            The loss, the penalty and the batch's weight of each of the epoch's steps;
            written to.
        metric_sums, metric_mean : memoryview of float64
            The metric's sums, added to, and the mean that R² needs; None without.
        layer_norms : memoryview of float64 or None
            The norms of each dense layer's gradients; added to.

        Returns
        -------
        int
            Steps made; fewer than asked for when time is up or, where `needs_fallback` is set
            then, when the next step is the caller's to make.
        """
        cdef Run run
        if not self.ready:
            raise RuntimeError("Engine.run: expected an engine that was made whole")
        cdef Py_ssize_t batches = (rows.shape[0] + self.plan.batch_size - 1) // self.plan.batch_size
        cdef Py_ssize_t most = min(step_stats.shape[0], rates.shape[0], batches)
        if not 0 <= first < stop <= most or step_stats.shape[1] != N_STATS:
            raise ValueError(f"stop: expected at most {most} steps, as there are minibatches and "
                             f"rows of step_stats and rates, got {first} to {stop}")
        check_sums(self.plan.metric, self.plan.n_out, metric_sums, metric_mean)
        if layer_norms is not None and layer_norms.shape[0] != self.n_dense:
            raise ValueError(f"layer_norms: expected {self.n_dense} numbers, one for each dense "
                             f"layer, got {layer_norms.shape[0]}")
        cdef Borrowed array
        for array in self.borrowed:
            array.check()
        run.plan = &self.plan
        run.rows, run.n_rows = &rows[0], rows.shape[0]
        run.first, run.stop = first, stop
        run.rates = &rates[0]
        run.steps_before, run.dropout_steps_before = steps_before, dropout_steps_before
        run.step_stats = &step_stats[0, 0]
        run.metric_sums = NULL if metric_sums is None else &metric_sums[0]
        run.metric_mean = NULL
        if metric_mean is not None:
            run.metric_mean = &metric_mean[0]
        run.layer_norms = NULL if layer_norms is None else &layer_norms[0]
        run.penalty = 0
        run.needs_fallback = run.no_label = run.no_row = False
        run.made = 0
        # Fewer, if that is what somebody wants by now, or this is a fork.
        cdef int threads = min(self.threads, threads_for(self.work))
        try:
            with nogil:
                run_team(threads, run_doubles if self.is_double else run_floats, &run)
        finally:
            self.needs_fallback = run.needs_fallback
            self.made += run.made
        return run.made


def readable(X, dtype):
    """Whether an engine of this dtype can gather rows of X: plain numbers in whatever order,
    or a sparse array of the dtype in rows of compressed columns."""
    if not checks.is_sparse(X):
        return X.dtype.char in SOURCES and X.dtype.isnative and X.flags.aligned
    arrays = X.data, X.indices, X.indptr
    return (X.format == "csr" and X.data.dtype == dtype
            and X.indices.dtype in (np.int32, np.int64) and X.indptr.dtype == X.indices.dtype
            and X.indptr.shape == (X.shape[0] + 1,) and X.indices.shape == X.data.shape
            and all(array.dtype.isnative and array.flags.aligned and array.flags.c_contiguous
                    for array in arrays))


def dense_rows(X, const int64_t[::1] rows, dtype):
    """Some rows of a sparse array that `readable` accepts, as an array.

    SciPy would not ask whether the places are in the row.
    """
    if not readable(X, dtype):
        raise ValueError("X: expected a sparse array as it was when it was checked")
    cdef Engine gatherer = Engine.__new__(Engine)
    cdef Plan *plan = &gatherer.plan
    out = np.empty((rows.shape[0], X.shape[1]), dtype)
    cdef void *to = <void *><size_t>out.ctypes.data
    gatherer.arrays, gatherer.borrowed = [], []
    gatherer._take(X)
    plan.n_rows, plan.n_in = X.shape
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < plan.n_rows:
            raise IndexError(f"rows: expected numbers from 0 to {plan.n_rows - 1}, got {rows[i]}")
    if rows.shape[0] > 0 and dtype == np.float32:
        read_rows(plan, &rows[0], rows.shape[0], <float *>to)
    elif rows.shape[0] > 0:
        read_rows(plan, &rows[0], rows.shape[0], <double *>to)
    return out


cdef int check_sums(int metric, Py_ssize_t n_out, const double[::1] metric_sums,
                    const double[::1] metric_mean) except -1:
    """Raise unless the metric's arrays are as long as its kind needs."""
    cdef Py_ssize_t n = 2 * n_out if metric >= SQUARES else 2
    if metric != NO_METRIC and (metric_sums is None or metric_sums.shape[0] != n):
        raise ValueError(f"metric_sums: expected an array of {n} numbers for the metric's sums, "
                         f"got {None if metric_sums is None else metric_sums.shape[0]}")
    if metric >= SQUARES and (metric_mean is None or metric_mean.shape[0] != n_out):
        raise ValueError(f"metric_mean: expected the means of {n_out} targets for R², got "
                         f"{None if metric_mean is None else metric_mean.shape[0]}")
    return 0


def check_fit(dtype, parameters, gradients, loss, metric, optimizer, state, y, sample_weight,
              rows):
    """Raise unless the arrays are what the compiled code, which cannot ask, takes them for."""
    size = parameters.shape
    flat = {"parameters": (parameters, size), "gradients": (gradients, size)}
    flat |= {f"state[{i}]": (array, size) for i, array in enumerate(state)}
    if sample_weight is not None:
        flat["sample_weight"] = (sample_weight, (rows,))
    labels = y.ndim == 1
    for name, (array, shape) in flat.items():
        if not (array.dtype == dtype and array.shape == shape and array.flags.c_contiguous):
            raise ValueError(f"{name}: expected a contiguous {dtype} array of shape {shape}, "
                             f"got {array.dtype} of shape {array.shape}")
    if not (len(y) == rows and y.flags.c_contiguous and y.dtype == (np.int64 if labels else dtype)):
        raise ValueError(f"y: expected {rows} contiguous rows of labels or {dtype} targets, "
                         f"got {y.dtype} of shape {y.shape}")
    written = [(name, array) for name, (array, _) in flat.items() if name != "sample_weight"]
    for i, (name, array) in enumerate(written):
        for other, another in written[:i]:
            if not apart(array, another):
                raise ValueError(f"{name} overlaps {other}; give each memory of its own")
    if labels and not (loss[0] in TAKE_LABELS and metric in TAKE_LABELS):
        raise ValueError(f"y: expected targets of two dimensions for {loss[0]} and the metric "
                         f"{metric}, got labels")
    name, attributes = optimizer["update"]
    if name is None:
        n_state = n_attributes = 0
    else:
        n_state, n_attributes = len(ops.UPDATES[name].state), len(ops.UPDATES[name].attributes)
    if len(state) != n_state or n_state > FBP_MOST_STATE:
        raise ValueError(f"state: expected {n_state} arrays for {name}, got {len(state)}")
    if len(attributes) != n_attributes or n_attributes > FBP_MOST_ATTRIBUTES:
        raise ValueError(f"optimizer: expected {n_attributes} attributes of {name}, got "
                         f"{len(attributes)}")


cdef double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef void run_floats(void *work, fbp_worker *me) noexcept nogil:
    cdef Run *run = <Run *>work
    run_steps(run, me, <float *>run.plan.parameters, <float *>run.plan.gradients)


cdef void run_doubles(void *work, fbp_worker *me) noexcept nogil:
    cdef Run *run = <Run *>work
    run_steps(run, me, <double *>run.plan.parameters, <double *>run.plan.gradients)


cdef void run_steps(Run *run, fbp_worker *me, real *parameters, real *gradients) noexcept nogil:
    """This thread's part of every step, until the time is up or something is in the way.

    All threads go through this alike: what they decide on is the same for all.
    """
    cdef const Plan *plan = run.plan
    cdef bint leads = me.part == 0
    cdef double deadline = seconds() + SECONDS_PER_RUN
    cdef double size = 0, decay_size = 0, reach, limit, rate
    cdef Py_ssize_t m, step = run.first
    cdef uint64_t dropout_step
    cdef real *Z
    # Below the square root of the largest number nothing that is multiplied overflows.
    limit = sqrt(<double>3.4028234663852886e38) if real is float else sqrt(1.7976931348623157e308)
    if plan.clip_norm == 0:  # what is compared is no norm, but that is what the layers ask for
        limit /= sqrt(<double>plan.n_parameters)
    if plan.weight_decay > 0:
        if not size_of(plan, me, parameters, &decay_size):
            return
        decay_size *= plan.weight_decay
    while step < run.stop:
        m = min(plan.batch_size, run.n_rows - step * plan.batch_size)
        rate = run.rates[step]
        dropout_step = run.dropout_steps_before + <uint64_t>(step - run.first)
        gather(run, me, run.rows + step * plan.batch_size, m, <real *>plan.x_batch)
        if not fbp_barrier(me):
            return
        if run.no_label or run.no_row:
            if leads:
                run.needs_fallback = True
            return
        if not forward(plan, me, m, dropout_step, parameters):
            return
        Z = <real *>plan.operations[plan.n_operations - 1].output
        if not (compute_loss(run, me, m, Z)
                and backward(plan, me, m, dropout_step, parameters, gradients)
                and penalize(run, me, m, parameters, gradients)
                and size_of(plan, me, gradients, &size)):
            return
        # Where weight decay more than undoes a weight, weights can grow without a gradient.
        reach = max(1.0, rate) * max(1.0, plan.weight_decay) * max(1.0, size + decay_size)
        # `max` drops a NaN, so the size is asked for one by itself.
        if not (isfinite(run.loss + run.penalty) and isfinite(size + decay_size) and reach < limit
                and rate * plan.weight_decay <= 1):
            if leads:
                run.needs_fallback = True
            return
        if run.layer_norms is not NULL:
            if leads:
                add_layer_norms(plan, gradients, run.layer_norms)
            if not fbp_barrier(me):  # before anybody clips them
                return
        update(plan, me, rate, size, run.steps_before + (step - run.first) + 1, parameters,
               gradients)
        if leads:
            record(run, step, m, Z)
            run.made += 1
            run.in_time = seconds() < deadline
        # A step that was made is whole, whatever has come up in the meantime.
        if not fbp_barrier(me) or not run.in_time:
            return
        step += 1


cdef void gather(Run *run, const fbp_worker *me, const int64_t *rows, Py_ssize_t m,
                 real *x) noexcept nogil:
    """The batch's rows of X to `x`, and those of the targets and weights to their places.

    A row or label may be none, if somebody has changed the order or y since it was checked.
    """
    cdef const Plan *plan = run.plan
    cdef real *y = <real *>plan.y_batch
    cdef real *w = <real *>plan.w_batch
    cdef Py_ssize_t i, first, stop, n = plan.n_out
    fbp_partition(me, m, 1, &first, &stop)
    for i in range(first, stop):
        if not 0 <= rows[i] < plan.n_rows:
            fbp_note(&run.no_row)
            return
    read_rows(plan, rows + first, stop - first, x + first * plan.n_in)
    for i in range(first, stop):
        if plan.labels is not NULL:
            plan.label_batch[i] = plan.labels[rows[i]]
            if not 0 <= plan.label_batch[i] < n:
                plan.label_batch[i] = 0
                fbp_note(&run.no_label)
        else:
            memcpy(y + i * n, <const real *>plan.Y + rows[i] * n, n * sizeof(real))
        if w is not NULL:
            w[i] = (<const real *>plan.weights)[rows[i]]


cdef void read_rows(const Plan *plan, const int64_t *rows, Py_ssize_t m,
                    real *out) noexcept nogil:
    """Rows of X, converted."""
    if plan.sparse:
        if plan.wide:
            spread_rows(plan, <const int64_t *>plan.starts, <const int64_t *>plan.columns, rows,
                        m, out)
        else:
            spread_rows(plan, <const int32_t *>plan.starts, <const int32_t *>plan.columns, rows,
                        m, out)
    elif plan.x_kind == c"f":
        copy_rows(<const float *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"d":
        copy_rows(<const double *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"B" or plan.x_kind == c"?":
        copy_rows(<const uint8_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"b":
        copy_rows(<const int8_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"h":
        copy_rows(<const int16_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"H":
        copy_rows(<const uint16_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"i":
        copy_rows(<const int32_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"I":
        copy_rows(<const uint32_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    elif plan.x_kind == c"l":
        copy_rows(<const int64_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)
    else:
        copy_rows(<const uint64_t *>plan.X, plan.x_row, plan.x_column, rows, m, plan.n_in, out)


cdef void copy_rows(const source *X, Py_ssize_t row_bytes, Py_ssize_t column_bytes,
                    const int64_t *rows, Py_ssize_t m, Py_ssize_t n,
                    real *out) noexcept nogil:
    """out[i, j] = X[rows[i], j]; the bytes are between rows and between columns of X."""
    cdef const char *row
    cdef Py_ssize_t i, j
    for i in range(m):
        row = <const char *>X + rows[i] * row_bytes
        if (source is float and real is float) or (source is double and real is double):
            if column_bytes == sizeof(source):
                memcpy(out + i * n, row, n * sizeof(real))
                continue
        if column_bytes == sizeof(source):
            for j in range(n):
                out[i * n + j] = <real>(<const source *>row)[j]
        else:
            for j in range(n):
                out[i * n + j] = <real>(<const source *>(row + j * column_bytes))[0]


cdef void spread_rows(const Plan *plan, const index *starts, const index *columns,
                      const int64_t *rows, Py_ssize_t m, real *out) noexcept nogil:
    """out[i, columns[p]] += values[p] for each p of row rows[i], and 0 elsewhere.

    A place outside the row, where somebody has changed them since they were checked, is none.
    """
    cdef const real *values = <const real *>plan.values
    cdef Py_ssize_t i, p, j, n = plan.n_in
    memset(out, 0, m * n * sizeof(real))
    for i in range(m):
        for p in range(max(<Py_ssize_t>starts[rows[i]], 0),
                       min(<Py_ssize_t>starts[rows[i] + 1], plan.n_values)):
            j = columns[p]
            if 0 <= j < n:
                out[i * n + j] += values[p]


cdef bint forward(const Plan *plan, fbp_worker *me, Py_ssize_t m, uint64_t dropout_step,
                  real *parameters) noexcept nogil:
    """Each operation writes its output.  Whether to go on, as everywhere below."""
    cdef const Operation *op
    cdef fbp_gemm product
    cdef real *workspace = <real *>plan.for_products + me.part * FBP_WORKSPACE
    cdef real *W
    cdef const real *X
    cdef real *Z
    cdef Py_ssize_t first, stop
    cdef int i
    for i in range(plan.n_operations):
        op = &plan.operations[i]
        if op.fused_in_forward:
            continue
        X, Z = <const real *>op.input, <real *>op.output
        fbp_partition(me, m * op.n_out, GRAIN, &first, &stop)
        if op.kind == DENSE:
            W = parameters + op.parameters
            product = forward_product(m, op.n_in, op.n_out, X, <const real *>W,
                                      <const real *>(W + op.n_in * op.n_out), Z)
            product.relu = i + 1 < plan.n_operations and plan.operations[i + 1].fused_in_forward
            matmul(product, me, workspace)
        elif op.kind == DROPOUT:
            fbp_dropout(tier, stop - first, X + first, Z + first, op.parameter, op.key,
                        dropout_step + <uint64_t>op.steps_ahead, first)
        else:
            fbp_unary(tier, op.kind, stop - first, X + first, Z + first, op.parameter)
        if not fbp_barrier(me):
            return False
    return True


cdef bint compute_loss(Run *run, fbp_worker *me, Py_ssize_t m, const real *Z) noexcept nogil:
    """The loss, for the record, and its gradient in the first grad_buffers array."""
    cdef const Plan *plan = run.plan
    cdef const real *Y = <const real *>plan.y_batch
    cdef const real *weights = <const real *>plan.w_batch
    cdef double scale = loss_scale(m, weights)
    cdef const int64_t *labels = plan.label_batch
    cdef real *dZ = <real *>plan.grad_buffers[0]
    cdef Py_ssize_t i, first, stop, n = plan.n_out
    fbp_partition(me, m, 1, &first, &stop)
    fbp_loss(tier, plan.loss, stop - first, n, Z + first * n, &Y[first * n] if Y else Y,
             &labels[first] if labels else labels, &weights[first] if weights else weights,
             scale, plan.loss_parameter, plan.loss_cap, dZ + first * n, plan.row_losses + first)
    if plan.gradient_scale != 1:
        for i in range(first * n, stop * n):
            dZ[i] *= <real>plan.gradient_scale
    if not fbp_barrier(me):
        return False
    if me.part == 0:
        run.loss = sum_of_losses(m, weights, plan.row_losses) * scale * plan.value_scale
    return True


cdef bint backward(const Plan *plan, fbp_worker *me, Py_ssize_t m, uint64_t dropout_step,
                   real *parameters, real *gradients) noexcept nogil:
    """The gradients of all parameters, from the loss's in the first grad_buffers array."""
    cdef const Operation *op
    cdef fbp_gemm product
    cdef real *dZ = <real *>plan.grad_buffers[0]
    cdef real *dX = <real *>plan.grad_buffers[1]
    cdef real *workspace = <real *>plan.for_products + me.part * FBP_WORKSPACE
    cdef real *saved
    cdef real *dW
    cdef real one = 1
    cdef Py_ssize_t first, stop
    cdef int i
    for i in range(plan.n_operations - 1, plan.first_dense - 1, -1):
        op = &plan.operations[i]
        if op.fused_in_backward:
            continue
        fbp_partition(me, m * op.n_out, GRAIN, &first, &stop)
        if op.kind == DENSE:
            dW = gradients + op.parameters
            # Three products that read dZ and write apart: no need to meet in between.
            matmul(weights_product(m, op.n_in, op.n_out, <const real *>op.input,
                                   <const real *>dZ, dW), me, workspace)
            matmul(bias_product(m, op.n_out, &one, <const real *>dZ,
                                dW + op.n_in * op.n_out), me, workspace)
            if i > plan.first_dense:
                product = input_product(m, op.n_in, op.n_out, <const real *>dZ,
                                        <const real *>(parameters + op.parameters), dX)
                if plan.operations[i - 1].fused_in_backward:
                    product.relu_mask = op.input
                matmul(product, me, workspace)
                dZ, dX = dX, dZ
        elif op.kind == DROPOUT:
            fbp_dropout(tier, stop - first, dZ + first, dZ + first, op.parameter, op.key,
                        dropout_step + <uint64_t>op.steps_ahead, first)
        else:
            saved = <real *>(op.output if op.from_output else op.input)
            fbp_unary_backward(tier, op.kind, stop - first, dZ + first, saved + first,
                               dZ + first, op.parameter)
        if not fbp_barrier(me):
            return False
    return True


cdef bint penalize(Run *run, fbp_worker *me, Py_ssize_t m, real *parameters,
                   real *gradients) noexcept nogil:
    """Add the gradient of the penalty on the weights, and note what it is."""
    cdef const Plan *plan = run.plan
    cdef const Operation *op
    cdef double *squares = plan.squares
    cdef double layer, total = 0, strength = plan.l2 * loss_scale(m, <const real *>plan.w_batch)
    cdef Py_ssize_t first, stop, n, start, block
    cdef int i
    if plan.l2 == 0:
        return True
    for i in range(plan.first_dense, plan.n_operations):
        op = &plan.operations[i]
        if op.kind == DENSE:
            n = op.n_in * op.n_out
            fbp_partition(me, n_blocks(n), 1, &first, &stop)
            for block in range(first, stop):
                start = block * SQUARES_BLOCK
                squares[block] = penalize_block(
                    min(n - start, SQUARES_BLOCK), parameters + op.parameters + start,
                    gradients + op.parameters + start, strength)
            squares += n_blocks(n)
    if not fbp_barrier(me):
        return False
    if me.part == 0:
        squares = plan.squares
        for i in range(plan.first_dense, plan.n_operations):
            op = &plan.operations[i]
            if op.kind == DENSE:
                n = n_blocks(op.n_in * op.n_out)
                layer = 0
                for block in range(n):
                    layer += squares[block]
                total += layer
                squares += n
        run.penalty = 0.5 * strength * total
    return True


cdef inline Py_ssize_t n_blocks(Py_ssize_t n) noexcept nogil:
    """How many blocks so many numbers are, whose squares are summed on their own."""
    return (n + SQUARES_BLOCK - 1) // SQUARES_BLOCK


cdef bint size_of(const Plan *plan, fbp_worker *me, const real *X, double *size) noexcept nogil:
    """The norm of the parameters or gradients where clipping needs it, as `sum_of_squares_of`
    adds it up; otherwise the largest of them, which is quicker to find.  NaN if one is."""
    cdef double part
    cdef Py_ssize_t i, first, stop, n_parts
    if plan.clip_norm > 0:
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
        if plan.clip_norm > 0:
            size[0] += part
        elif part > size[0] or part != part:
            size[0] = part
    if plan.clip_norm > 0:
        size[0] = sqrt(size[0])
    return True


cdef void update(const Plan *plan, const fbp_worker *me, double rate, double norm, long step,
                 real *parameters, real *gradients) noexcept nogil:
    """Clip, and one step of the optimizer, if there is one."""
    cdef real *state[FBP_MOST_STATE]
    cdef real factor
    cdef Py_ssize_t i, first, stop
    if plan.update == NO_UPDATE:
        return
    fbp_partition(me, plan.n_parameters, GRAIN, &first, &stop)
    if plan.clip_norm > 0 and norm > plan.clip_norm:
        factor = <real>(plan.clip_norm / norm)
        for i in range(first, stop):
            gradients[i] *= factor
    for i in range(plan.n_state):
        state[i] = <real *>plan.state[i] + first
    fbp_update(tier, plan.update, stop - first, parameters + first, gradients + first, state,
               rate, step, plan.attributes)


cdef void add_layer_norms(const Plan *plan, const real *gradients,
                          double *norms) noexcept nogil:
    cdef const Operation *op
    cdef int i, layer = 0
    for i in range(plan.n_operations):
        op = &plan.operations[i]
        if op.kind == DENSE:
            norms[layer] += sqrt(sum_of_squares_of(
                op.n_in * op.n_out + op.n_out, gradients + op.parameters))
            layer += 1


cdef void record(Run *run, Py_ssize_t step, Py_ssize_t m, const real *Z) noexcept nogil:
    """Write the step's step_stats down, and add it to the metric's sums."""
    cdef const Plan *plan = run.plan
    cdef const real *Y = <const real *>plan.y_batch
    cdef const real *weights = <const real *>plan.w_batch
    cdef double *step_stats = run.step_stats + N_STATS * step
    cdef real *rates
    step_stats[0], step_stats[1] = run.loss, run.penalty
    step_stats[2] = sum_of_weights(m, weights)
    if plan.metric == LABELS:
        count_labels(m, plan.n_out, Z, Y, plan.label_batch, weights, run.metric_sums)
    elif plan.metric == SIGNS or plan.metric == ROWS_OF_SIGNS:
        count_signs(m, plan.n_out, Z, Y, weights, plan.metric == ROWS_OF_SIGNS, run.metric_sums)
    elif plan.metric == SQUARES:
        add_squares(m, plan.n_out, Z, Y, weights, run.metric_mean, run.metric_sums)
    elif plan.metric == SQUARES_OF_RATES:
        rates = <real *>plan.grad_buffers[0]  # nobody needs what is there any more
        fbp_unary(tier, EXP, m * plan.n_out, Z, rates, 0)
        add_squares(m, plan.n_out, <const real *>rates, Y, weights, run.metric_mean,
                    run.metric_sums)
