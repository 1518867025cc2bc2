"""The compiled training loop: whole epochs of a network of built-in layers.

An `Engine` is a network, loss and optimizer lowered to a list of operations over one
workspace that is allocated once.  A step runs the kernels that the layers run, on the same
numbers, so parameters and history come out with the same bits as layer by layer; what it
leaves out is Python.

A step gathers its rows, goes forward through the operations, lets the loss write its
gradient, goes back, and updates the parameters.  If anything is unusual (a loss or gradient
that is not finite, a step so large that it might make a weight infinite) the engine stops
before the update, and the caller does that step the careful way.
"""

cimport cython
from libc.math cimport isfinite, sqrt
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy
from posix.time cimport CLOCK_MONOTONIC, clock_gettime, timespec

import numpy as np

from fastbp.kernels.dense cimport FBP_WORKSPACE, fbp_column_sums, matmul
from fastbp.kernels.dispatch cimport (
    FBP_ELU, FBP_GELU, FBP_LEAKY_RELU, FBP_RELU, FBP_SIGMOID, FBP_SILU, FBP_TANH,
    fbp_dropout, fbp_map, fbp_map_backward, int64_t, real, tier, uint64_t,
)
from fastbp.kernels.losses cimport (
    FBP_HUBER, FBP_MEAN_ABSOLUTE_ERROR, FBP_MEAN_SQUARED_ERROR, FBP_SIGMOID_CROSS_ENTROPY,
    FBP_SOFTMAX_CROSS_ENTROPY, mean_loss_of,
)
from fastbp.kernels.metrics cimport add_squares, count_labels, count_signs
from fastbp.kernels.optimizers cimport (
    FBP_ADAM_CONSTANTS, fbp_adam, fbp_sgd, fbp_sum_of_squares, set_adam_constants,
)

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

cdef enum:
    DENSE = -1
    DROPOUT = -2

MAPS = {
    "relu": FBP_RELU, "leaky_relu": FBP_LEAKY_RELU, "sigmoid": FBP_SIGMOID, "tanh": FBP_TANH,
    "elu": FBP_ELU, "gelu": FBP_GELU, "silu": FBP_SILU,
}
LOSSES = {
    "softmax_cross_entropy": FBP_SOFTMAX_CROSS_ENTROPY,
    "sigmoid_cross_entropy": FBP_SIGMOID_CROSS_ENTROPY,
    "mean_squared_error": FBP_MEAN_SQUARED_ERROR,
    "mean_absolute_error": FBP_MEAN_ABSOLUTE_ERROR,
    "huber": FBP_HUBER,
}
# These overwrite their input: what they return tells their derivative as well.
IN_PLACE = {"relu", "sigmoid", "tanh"}
TAKE_LABELS = {"softmax_cross_entropy", "accuracy", None}  # losses and metrics; others rows of y
SOURCES = "fdbhilBHIL?"

# How long a run goes on before it comes up for air: for Ctrl-C and the progress bar.
cdef double SECONDS_PER_RUN = 0.05


cdef struct Operation:
    int kind               # DENSE, DROPOUT, or the index of a map
    Py_ssize_t n_in, n_out
    Py_ssize_t parameters  # where a dense layer's W, then b, are in the flat arrays
    double parameter       # a map's parameter, or the rate of dropout
    uint64_t key           # of dropout
    void *input
    void *output


@cython.final
cdef class Engine:
    """A network, loss and optimizer, lowered.

    Parameters
    ----------
    operations : list of tuple
        ``("dense", n_in, n_out)``, ``("dropout", rate, key)`` or
        ``(activation, parameter)``, in the order of the layers.
    parameters, gradients : ndarray of shape (n,)
        The network's flat arrays.
    loss : tuple
        ``(name, parameter)``.
    metric : str or None
        ``"accuracy"``, ``"signs"`` or ``"r2"``.
    optimizer : dict
        ``name`` ("sgd" or "adam") and its numbers.
    state : list of ndarray
        The optimizer's arrays, changed with each step.
    X : ndarray of shape (rows, n_in)
        One that `readable` accepts.
    y : ndarray
        int64 labels of shape (rows,), or targets (rows, n_out) of the parameters' dtype.
    sample_weight : ndarray of shape (rows,) or None
    batch_size : int
    """

    cdef readonly bint careful     # the next step is to be made the careful way
    cdef readonly Py_ssize_t made  # steps of all runs
    cdef list arrays  # what the pointers below point into
    cdef Operation *operations
    cdef int n_operations, first_dense
    cdef bint is_double
    cdef Py_ssize_t n_parameters, n_in, n_out, batch_size
    cdef void *parameters
    cdef void *gradients

    cdef int loss, metric
    cdef double loss_parameter

    cdef bint is_adam, nesterov, decoupled
    cdef double momentum, beta1, beta2, epsilon, weight_decay, clip_norm
    cdef void *state[2]

    cdef char x_kind
    cdef Py_ssize_t x_row, x_column  # bytes between rows, and between columns
    cdef const char *X
    cdef const void *Y
    cdef const int64_t *labels
    cdef const void *weights

    cdef void *x_batch
    cdef void *y_batch
    cdef void *w_batch
    cdef int64_t *label_batch
    cdef double *row_losses
    cdef void *upstream[2]
    cdef void *workspace

    def __init__(self, operations, parameters, gradients, loss, metric, optimizer, state, X,
                 y, sample_weight, batch_size):
        self.arrays = []
        dtype = parameters.dtype
        check_fit(dtype, parameters, gradients, loss, metric, optimizer, state, y,
                  sample_weight, len(X))
        self.is_double = dtype == np.float64
        self.parameters = self._pointer(parameters)
        self.gradients = self._pointer(gradients)
        self.n_parameters = parameters.size
        self.batch_size = batch_size
        self.n_in = X.shape[1]

        self.x_kind = ord(X.dtype.char)
        self.x_row, self.x_column = X.strides
        self.X = <const char *>self._pointer(X)
        self.x_batch = self._new(batch_size * self.n_in, dtype)
        self.n_operations = len(operations)
        self._lower(operations, dtype)
        if y.ndim == 2 and y.shape[1] != self.n_out:
            raise ValueError(f"y: expected {self.n_out} columns, got {y.shape[1]}")

        self.loss, self.loss_parameter = LOSSES[loss[0]], loss[1]
        self.metric = {None: 0, "accuracy": 1, "signs": 2, "r2": 3}[metric]
        if y.ndim == 1:
            self.labels = <const int64_t *>self._pointer(y)
            self.label_batch = <int64_t *>self._new(batch_size, np.int64)
        else:
            self.Y = self._pointer(y)
            self.y_batch = self._new(batch_size * self.n_out, dtype)
        if sample_weight is not None:
            self.weights = self._pointer(sample_weight)
            self.w_batch = self._new(batch_size, dtype)
        self.row_losses = <double *>self._new(batch_size, np.float64)

        self.is_adam = optimizer["name"] == "adam"
        self.momentum = optimizer.get("momentum", 0)
        self.nesterov = optimizer.get("nesterov", False)
        self.beta1 = optimizer.get("beta1", 0)
        self.beta2 = optimizer.get("beta2", 0)
        self.epsilon = optimizer.get("epsilon", 0)
        self.decoupled = optimizer.get("decoupled", False)
        self.weight_decay = optimizer["weight_decay"]
        self.clip_norm = optimizer["clip_norm"] or 0
        for i, array in enumerate(state):
            self.state[i] = self._pointer(array)

    cdef void *_pointer(self, array) except NULL:
        """Where an array's numbers are; the array lives as long as the engine."""
        self.arrays.append(array)
        return <void *><size_t>array.ctypes.data

    cdef void *_new(self, Py_ssize_t n, dtype) except NULL:
        """n numbers of the workspace, from the start of a cache line."""
        dtype = np.dtype(dtype)
        array = np.empty(n * dtype.itemsize + 64, np.uint8)
        cdef size_t address = <size_t>self._pointer(array)
        return <void *>((address + 63) & ~<size_t>63)

    cdef int _lower(self, list operations, dtype) except -1:
        cdef Operation *op
        cdef Py_ssize_t width = self.n_in, widest = self.n_in, offset = 0
        cdef void *current = self.x_batch
        self.operations = <Operation *>self._new(
            self.n_operations * sizeof(Operation), np.uint8)
        self.first_dense = self.n_operations
        for i, (name, *details) in enumerate(operations):
            op = &self.operations[i]
            op.n_in = op.n_out = width
            op.parameter, op.key = 0, 0
            op.input = current
            if name == "dense":
                op.kind = DENSE
                op.n_in, op.n_out = details
                op.parameters = offset
                offset += op.n_in * op.n_out + op.n_out
                self.first_dense = min(self.first_dense, i)
            elif name == "dropout":
                op.kind = DROPOUT
                op.parameter, op.key = details
            else:
                op.kind = MAPS[name]
                op.parameter, = details
            width = op.n_out
            widest = max(widest, width)
            # Nothing but this operation needs what a dense layer returned.
            in_place = name in IN_PLACE and i > 0 and operations[i - 1][0] == "dense"
            op.output = current if in_place else self._new(self.batch_size * width, dtype)
            current = op.output
        self.n_out = width
        for i in range(2):
            self.upstream[i] = self._new(self.batch_size * widest, dtype)
        self.workspace = self._new(FBP_WORKSPACE, dtype)
        return 0

    def run(self, const int64_t[::1] rows, Py_ssize_t first, Py_ssize_t stop,
            const double[::1] rates, long steps_before, uint64_t dropout_steps_before,
            double[::1] totals, double[::1] metric_sums, const double[::1] metric_mean,
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
        totals : memoryview of float64, 2 numbers
            The weighted sum of the losses and of the weights; added to.
        metric_sums, metric_mean : memoryview of float64
            The metric's sums, added to, and the mean that R² needs; None without.
        layer_norms : memoryview of float64 or None
            The norms of each dense layer's gradients; added to.

        Returns
        -------
        int
            Steps made; fewer than asked for when time is up or, where `careful` is set
            then, when the next step has to be made the careful way.
        """
        cdef double *metric_data = NULL if metric_sums is None else &metric_sums[0]
        cdef const double *mean_data = NULL
        if metric_mean is not None:
            mean_data = &metric_mean[0]
        cdef double *norm_data = NULL if layer_norms is None else &layer_norms[0]
        cdef Py_ssize_t before = self.made
        with nogil:
            if self.is_double:
                run_steps[double](
                    self, &rows[0], rows.shape[0], first, stop, &rates[0], steps_before,
                    dropout_steps_before, &totals[0], metric_data, mean_data, norm_data,
                    <double *>self.parameters, <double *>self.gradients)
            else:
                run_steps[float](
                    self, &rows[0], rows.shape[0], first, stop, &rates[0], steps_before,
                    dropout_steps_before, &totals[0], metric_data, mean_data, norm_data,
                    <float *>self.parameters, <float *>self.gradients)
        return self.made - before


def readable(X):
    """Whether an engine can gather rows of this array: plain numbers, in whatever order."""
    return X.dtype.char in SOURCES and X.dtype.isnative and X.flags.aligned


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
    if labels and not (loss[0] in TAKE_LABELS and metric in TAKE_LABELS):
        raise ValueError(f"y: expected targets of two dimensions for {loss[0]} and the metric "
                         f"{metric}, got labels")
    cdef Py_ssize_t n_state = 2 if optimizer["name"] == "adam" else bool(optimizer["momentum"])
    if len(state) != n_state:
        raise ValueError(f"state: expected {n_state} arrays for {optimizer}, got {len(state)}")


cdef double seconds() noexcept nogil:
    cdef timespec now
    clock_gettime(CLOCK_MONOTONIC, &now)
    return now.tv_sec + 1e-9 * now.tv_nsec


cdef int run_steps(Engine e, const int64_t *rows, Py_ssize_t n_rows, Py_ssize_t first,
                   Py_ssize_t stop, const double *rates, long steps_before,
                   uint64_t dropout_steps_before, double *totals, double *metric_sums,
                   const double *metric_mean, double *layer_norms,
                   real *parameters, real *gradients) except -1 nogil:
    cdef double deadline = seconds() + SECONDS_PER_RUN
    cdef double loss, norm, size, weight, decay_size = 0, limit
    cdef Py_ssize_t i, m, step = first
    cdef real *Z
    e.careful = False
    # Below the square root of the largest number nothing that is multiplied overflows.
    limit = sqrt(<double>3.4028234663852886e38) if real is float else sqrt(1.7976931348623157e308)
    if e.weight_decay > 0:
        decay_size = e.weight_decay * sqrt(fbp_sum_of_squares(tier, e.n_parameters, parameters))
    while step < stop:
        m = min(e.batch_size, n_rows - step * e.batch_size)
        if not gather(e, rows + step * e.batch_size, m, <real *>e.x_batch):
            e.careful = True
            break
        Z = forward(e, m, dropout_steps_before + <uint64_t>(step - first), parameters)
        loss = mean_loss_of(
            e.loss, m, e.n_out, Z, <const real *>e.y_batch, e.label_batch,
            <const real *>e.w_batch, e.loss_parameter, <real *>e.upstream[0], e.row_losses)
        backward(e, m, dropout_steps_before + <uint64_t>(step - first), parameters, gradients)
        norm = sqrt(fbp_sum_of_squares(tier, e.n_parameters, gradients))
        # Where weight decay more than undoes a weight, weights can grow without a gradient.
        size = (max(1.0, rates[step]) * max(1.0, e.weight_decay)
                * max(1.0, norm + decay_size))
        # `max` drops a NaN, so the norm is asked for one by itself.
        if not (isfinite(loss) and isfinite(norm) and size < limit
                and rates[step] * e.weight_decay <= 1):
            e.careful = True
            break

        weight = 0
        for i in range(m):
            weight += 1.0 if e.w_batch is NULL else (<const real *>e.w_batch)[i]
        totals[0] += loss * weight
        totals[1] += weight
        score(e, m, Z, metric_sums, metric_mean)
        if layer_norms is not NULL:
            add_layer_norms(e, gradients, layer_norms)
        update(e, rates[step], norm, steps_before + (step - first) + 1, parameters, gradients)
        step += 1
        e.made += 1
        if seconds() > deadline:
            break
    return 0


cdef bint gather(Engine e, const int64_t *rows, Py_ssize_t m, real *out) noexcept nogil:
    """The batch's rows of X to `out`, and those of the targets and weights to theirs.

    False if a label is none: somebody has changed y since it was checked.
    """
    cdef real *y = <real *>e.y_batch
    cdef real *w = <real *>e.w_batch
    cdef Py_ssize_t i
    if e.x_kind == c"f":
        copy_rows(<const float *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"d":
        copy_rows(<const double *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"B" or e.x_kind == c"?":
        copy_rows(<const uint8_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"b":
        copy_rows(<const int8_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"h":
        copy_rows(<const int16_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"H":
        copy_rows(<const uint16_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"i":
        copy_rows(<const int32_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"I":
        copy_rows(<const uint32_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    elif e.x_kind == c"l":
        copy_rows(<const int64_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    else:
        copy_rows(<const uint64_t *>e.X, e.x_row, e.x_column, rows, m, e.n_in, out)
    for i in range(m):
        if e.labels is not NULL:
            e.label_batch[i] = e.labels[rows[i]]
            if not 0 <= e.label_batch[i] < e.n_out:
                return False
        else:
            memcpy(y + i * e.n_out, <const real *>e.Y + rows[i] * e.n_out,
                   e.n_out * sizeof(real))
        if w is not NULL:
            w[i] = (<const real *>e.weights)[rows[i]]
    return True


cdef void copy_rows(const source *X, Py_ssize_t row_bytes, Py_ssize_t column_bytes,
                    const int64_t *rows, Py_ssize_t m, Py_ssize_t n,
                    real *out) noexcept nogil:
    """out[i, j] = X[rows[i], j]; the bytes are between rows and between columns of X."""
    cdef const char *row
    cdef Py_ssize_t i, j
    for i in range(m):
        row = <const char *>X + rows[i] * row_bytes
        if column_bytes == sizeof(source):
            for j in range(n):
                out[i * n + j] = <real>(<const source *>row)[j]
        else:
            for j in range(n):
                out[i * n + j] = <real>(<const source *>(row + j * column_bytes))[0]


cdef real *forward(Engine e, Py_ssize_t m, uint64_t dropout_step,
                   real *parameters) except? NULL nogil:
    """The output of the last operation, each having written its own."""
    cdef Operation *op
    cdef real *W
    cdef int i
    for i in range(e.n_operations):
        op = &e.operations[i]
        if op.kind == DENSE:
            W = parameters + op.parameters
            matmul(m, op.n_out, op.n_in, <const real *>op.input, op.n_in, 1, <const real *>W,
                   op.n_out, 1, <const real *>(W + op.n_in * op.n_out), False,
                   <real *>op.output, <real *>e.workspace)
        elif op.kind == DROPOUT:
            fbp_dropout(tier, m * op.n_out, <const real *>op.input, <real *>op.output,
                        op.parameter, op.key, dropout_step)
        else:
            fbp_map(tier, op.kind, m * op.n_out, <const real *>op.input, <real *>op.output,
                    op.parameter)
    return <real *>e.operations[e.n_operations - 1].output


cdef int backward(Engine e, Py_ssize_t m, uint64_t dropout_step, real *parameters,
                  real *gradients) except -1 nogil:
    """The gradients of all parameters, from the loss's in the first upstream array."""
    cdef Operation *op
    cdef real *dZ = <real *>e.upstream[0]
    cdef real *dX = <real *>e.upstream[1]
    cdef real *saved
    cdef real *dW
    cdef int i
    for i in range(e.n_operations - 1, e.first_dense - 1, -1):
        op = &e.operations[i]
        if op.kind == DENSE:
            dW = gradients + op.parameters
            matmul(op.n_in, op.n_out, m, <const real *>op.input, 1, op.n_in,
                   <const real *>dZ, op.n_out, 1, <const real *>NULL, True, dW,
                   <real *>e.workspace)
            fbp_column_sums(tier, m, op.n_out, dZ, dW + op.n_in * op.n_out)
            if i > e.first_dense:
                matmul(m, op.n_in, op.n_out, <const real *>dZ, op.n_out, 1,
                       <const real *>(parameters + op.parameters), 1, op.n_out,
                       <const real *>NULL, True, dX, <real *>e.workspace)
                dZ, dX = dX, dZ
        elif op.kind == DROPOUT:
            fbp_dropout(tier, m * op.n_out, dZ, dZ, op.parameter, op.key, dropout_step)
        else:
            saved = <real *>op.input
            if op.kind == FBP_SIGMOID or op.kind == FBP_TANH:
                saved = <real *>op.output
            fbp_map_backward(tier, op.kind, m * op.n_out, dZ, saved, dZ, op.parameter)
    return 0


cdef void score(Engine e, Py_ssize_t m, const real *Z, double *sums,
                const double *mean) noexcept nogil:
    cdef const real *Y = <const real *>e.y_batch
    cdef const real *weights = <const real *>e.w_batch
    if e.metric == 1:
        count_labels(m, e.n_out, Z, Y, e.label_batch, weights, sums)
    elif e.metric == 2:
        count_signs(m, e.n_out, Z, Y, weights, sums)
    elif e.metric == 3:
        add_squares(m, e.n_out, Z, Y, weights, mean, sums)


cdef void add_layer_norms(Engine e, const real *gradients, double *norms) noexcept nogil:
    cdef Operation *op
    cdef int i, layer = 0
    for i in range(e.n_operations):
        op = &e.operations[i]
        if op.kind == DENSE:
            norms[layer] += sqrt(fbp_sum_of_squares(
                tier, op.n_in * op.n_out + op.n_out, gradients + op.parameters))
            layer += 1


cdef void update(Engine e, double rate, double norm, long step, real *parameters,
                 real *gradients) noexcept nogil:
    """Clip, and one step of the optimizer."""
    cdef double[FBP_ADAM_CONSTANTS] constants
    cdef real factor
    cdef Py_ssize_t i
    if e.clip_norm > 0 and norm > e.clip_norm:
        factor = <real>(e.clip_norm / norm)
        for i in range(e.n_parameters):
            gradients[i] *= factor
    if e.is_adam:
        set_adam_constants(constants, step, rate, e.beta1, e.beta2, e.epsilon, e.weight_decay,
                           e.decoupled)
        fbp_adam(tier, e.n_parameters, parameters, gradients, <real *>e.state[0],
                 <real *>e.state[1], constants)
    else:
        fbp_sgd(tier, e.n_parameters, parameters, gradients, <real *>e.state[0], rate,
                e.momentum, e.nesterov, e.weight_decay)
