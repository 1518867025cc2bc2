"""Runs of training steps.

`Steps` is an executor's program with data, a loss and an optimizer.  It checks them once, because
the compiled stages (stages.pyx) cannot, and runs teams of threads through many steps at a time.

When a step needs Python (a user-defined layer, loss, metric or optimizer, rows that cannot be
gathered here, an update that may make a weight infinite), all threads return, Python is called, and
a new team resumes from there.
"""

cimport cython
cimport numpy as cnp
from libc.string cimport memcpy

import numpy as np

from fastbp.kernels.dense cimport FBP_WORKSPACE
from fastbp.kernels.dispatch cimport int64_t, uint64_t
from fastbp.kernels.encoded cimport Code, Place
from fastbp.kernels.executor cimport Executor
from fastbp.kernels.gather cimport Rows
from fastbp.kernels.guards cimport Borrowed
from fastbp.kernels.instructions cimport resolve, workspace_of
from fastbp.kernels.optimizers cimport SQUARES_BLOCK
from fastbp.kernels.shares cimport Shares, share_of
from fastbp.kernels.stages cimport (
    ADD_UP, BACKWARD, FORWARD, GATHER, IN_PYTHON, LABELS, LOSS, N_STATS, NONE,
    PANEL_ROWS, ROWS_OF_SIGNS, SIGNS, SQUARES, SQUARES_OF_RATES, UPDATE, Fused, Part, Plan, Rest,
    Run, check_run, check_sums, panel_bytes, panel_row, run_doubles, run_floats, seconds,
)
from fastbp.kernels.threads cimport most_threads_for, run_team, threads_for

from . import checks, memory, muon, step_checks
from .dispatch import LOSS_INDEX as _LOSS_INDEX
from .dispatch import UPDATE_INDEX as _UPDATE_INDEX

cnp.import_array()

METRICS = {
    None: NONE, "python": IN_PYTHON, "accuracy": LABELS, "signs": SIGNS,
    "rows of signs": ROWS_OF_SIGNS, "r2": SQUARES, "r2 of rates": SQUARES_OF_RATES,
}
# How long a run lasts before it returns, so that Ctrl-C and the progress bar respond.
cdef double SECONDS_PER_RUN = 0.05


@cython.final
cdef class Steps:
    """Steps of training on some data.

    Parameters
    ----------
    executor : Executor
        Of a program for training.
    parameters, gradients : ndarray of shape (n,)
        The network's flat arrays, the same as the executor's.
    X : ndarray or sparse array of shape (rows, n_in), or None
        Must be `gather.readable`; None where Python gathers the rows.
    y : ndarray or None
        int64 labels of shape (rows,), or targets (rows, n_out / members) of the parameters' dtype;
        None where the loss is computed in Python.
    sample_weight : ndarray of shape (rows,) or None
    n_rows : int
        Number of rows of the data.
    batch_size : int
    loss : tuple or None
        ``(name, parameter, cap)``, optionally followed by ``value_scale, gradient_scale``, and
        these by the number of members of an ensemble that the loss is the mean of; the parameter is
        a number, or a tuple of one for each output.  None where the loss is computed in Python.
    metric : str or None
        One of `METRICS`.
    update : str or None
        The update's name in ops.def, ``"python"`` for an optimizer written in Python, None to
        compute gradients only.
    state : list of ndarray
        The optimizer's arrays, changed with each step.
    weights : list of tuple of int
        Start and size of each range of penalized parameters.
    layers : list of tuple of int
        Start and size of each layer's parameters, for the norms of their gradients.
    groups : list of tuple of int
        Start and size of each group of parameters with its own learning rate and attributes;
        together they are all parameters.
    shapes : list of tuple of int, or None
        For each group the shape of a matrix that is updated as a whole, or None.
    average : ndarray of shape (n,) or None
        The exponential moving average of the parameters, changed with each step.
    share : tuple of int or None
        This process's number, and how many share each minibatch; y and the weights are of all.
    turns : object
        The work done in Python, given a step's number in the epoch: ``gather(step)`` returns rows
        of X, ``compute_loss(step, Z)`` returns a loss and dZ, ``update(step, loss, penalty)``
        updates the parameters or raises an error, ``count(step, Z)`` updates the metric, and
        ``refuse(step)`` raises an error that says what is wrong with the step's data.  With
        `share`, the rows of X are this process's, and it sends and receives all outputs
        (``share_outputs(step, Z)``), sums over a minibatch, to which it adds between two calls
        (``begin_sum(array, rows)``, ``end_sum(array)``), and the gradients, before segment i of
        them is added up and after the last (``share_gradients(segments, i)``).

    Raises
    ------
    ValueError
        If an array's dtype, shape or memory is not what the compiled code needs.
    """

    cdef readonly Py_ssize_t made      # completed steps of all runs
    cdef readonly Py_ssize_t updates   # those whose update was compiled
    cdef bint ready                    # whether __init__ has succeeded
    cdef Executor executor
    cdef Rows rows                     # of X
    cdef object turns
    cdef list arrays                   # the memory behind the plan's pointers
    cdef list borrowed                 # those of them owned by others
    cdef object flat                   # the parameters
    cdef object pointers               # to the values of a minibatch
    cdef Plan plan
    cdef bint is_double
    cdef Shares shares                 # None where nothing is shared
    cdef double work                   # of a step, in multiply-adds
    cdef readonly int threads          # of the last run
    cdef int most_threads              # that a run may have

    def __init__(self, Executor executor not None, parameters, gradients, X, y, sample_weight,
                 n_rows, batch_size, loss, metric, update, state, weights, layers, groups, shapes,
                 average, turns, share=None):
        if self.arrays is not None:
            raise RuntimeError("Steps: already initialized; make another")
        self.arrays, self.borrowed = [], []
        executor.check()
        self.executor, self.turns = executor, turns
        dtype = parameters.dtype
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t size = dtype.itemsize
        if not executor.is_over(parameters, gradients):
            raise ValueError("parameters, gradients: expected those that the executor has")
        if executor.code.dz < 0:
            raise ValueError("executor: expected one of a program for training")
        others = state if average is None else [*state, average]
        step_checks.check_fit(dtype, parameters, gradients, loss, metric, update, others, y,
                              sample_weight, n_rows, len(others) - len(state))
        self.is_double, self.flat = dtype == np.float64, parameters
        plan.forward, plan.backward = executor.code.forward, executor.code.backward
        plan.update_section = executor.code.update
        plan.x, plan.z, plan.dz = executor.code.x, executor.code.z, executor.code.dz
        plan.n_parameters, plan.n_out = parameters.size, executor.code.n_out
        plan.batch_size = checks.integer("batch_size", batch_size, 1)
        plan.n_rows = n_rows
        plan.reduced = executor.code.reduced

        plan.gathers = X is not None
        if X is not None:
            self.rows = Rows(X, dtype)
            if X.shape != (n_rows, executor.code.n_in):
                raise ValueError(f"X: expected shape {(n_rows, executor.code.n_in)}, got {X.shape}")
        plan.loss, plan.members = IN_PYTHON, step_checks.members_of(loss, metric, plan.n_out)
        if loss is not None:
            plan.loss, plan.loss_cap = _LOSS_INDEX[loss[0]], loss[2]
            plan.loss_parameters = self._pointer(
                step_checks.loss_parameters(loss[1], plan.n_out // plan.members, dtype))
        plan.value_scale, plan.gradient_scale = loss[3:5] if loss and len(loss) > 3 else (1, 1)
        plan.metric = METRICS[metric]
        if y is not None and y.ndim != 1 and y.shape != (n_rows, plan.n_out // plan.members):
            raise ValueError(f"y: expected shape {(n_rows, plan.n_out // plan.members)}, got "
                             f"{y.shape}")
        if y is not None and y.ndim == 1:
            plan.labels = <const int64_t *>self._borrow("y", y)
        elif y is not None:
            plan.Y = self._borrow("y", y)
        if sample_weight is not None:
            plan.row_weights = self._borrow("sample_weight", sample_weight)

        plan.update = NONE
        if update is not None:
            plan.update = IN_PYTHON if update == "python" else _UPDATE_INDEX[update]
        plan.n_state = len(state)
        for i, array in enumerate(state):
            plan.state[i] = self._borrow(f"state[{i}]", array)
        plan.weights, plan.n_weights = self._parts("weights", weights), len(weights)
        plan.layers, plan.n_layers = self._parts("layers", layers), len(layers)
        step_checks.check_shapes(groups, shapes, update)
        plan.groups, plan.n_groups = self._parts("groups", groups, shapes), len(groups)
        if average is not None:
            plan.average = self._borrow("average", average)
        if not any(shapes):  # the update of a matrix needs its whole gradient
            self._find_fused(weights, groups, size)
        plan.rank, plan.processes = 0, 1
        cdef Py_ssize_t most_rows = plan.batch_size
        if share is not None:
            self.shares = Shares(executor, share[0], share[1], plan.batch_size, dtype)
            plan.rank, plan.processes = self.shares.rank, self.shares.processes
            plan.pieces, plan.segments = self.shares.pieces, self.shares.starts
            plan.n_segments, plan.weights_section = self.shares.n_segments, executor.code.sums
            most_rows = self.shares.most_rows
        squares, scratch, work = muon.needs(list(filter(None, shapes)), size)
        self.work = <double>most_rows * executor.code.work_per_row_of_a_step + work
        self.threads = self.most_threads = most_threads_for(self.work)
        self._allocate(size, squares, scratch, most_rows)
        self.pointers = np.zeros(executor.code.n_values, np.uintp)
        cdef void **at = <void **>cnp.PyArray_DATA(self.pointers)
        resolve(&executor.code, at, <char *>plan.arena, most_rows, size)
        at[plan.x] = plan.x_batch
        plan.Z, plan.dZ = at[plan.z], at[plan.dz]
        if share is not None:
            plan.Z, plan.dZ = self._pointer(self.shares.Z), self._pointer(self.shares.dZ)
        self.ready = True

    @property
    def in_python(self):
        """What is done in Python: a tuple of some of ``"gather"``, ``"layers"``, ``"loss"``,
        ``"update"`` and ``"metric"``."""
        cdef Plan *plan = &self.plan
        # No call, whose arguments Python 3.11 would leak where memory runs out.
        return (("gather",) * (not plan.gathers) + ("layers",) * self.executor.in_python
                + ("loss",) * (plan.loss == IN_PYTHON) + ("update",) * (plan.update == IN_PYTHON)
                + ("metric",) * (plan.metric == IN_PYTHON))

    cdef void *_pointer(self, array) except NULL:
        """A pointer to an array's elements; the array is kept alive."""
        self.arrays.append(array)
        return cnp.PyArray_DATA(array)

    cdef void *_borrow(self, name, array) except NULL:
        """A pointer to an array that the caller owns; `check` verifies that it stays valid."""
        self.borrowed.append(Borrowed(name, array))
        return self._pointer(array)

    cdef int _allocate(self, Py_ssize_t size, squares, scratch, Py_ssize_t here) except -1:
        """Allocate the workspace; `size` is that of an element, in bytes, `here` is the most rows
        that are here, and the others are as `muon.needs` returns them."""
        cdef Plan *plan = &self.plan
        cdef const Code *code = &self.executor.code
        cdef Py_ssize_t rows = plan.batch_size, n_blocks = plan.n_parameters // SQUARES_BLOCK + 1
        plan.workspace = max(FBP_WORKSPACE, workspace_of(code, code.backward, here))
        block, starts = memory.workspace([
            here * code.n_in * size,
            rows * plan.n_out * size if plan.Y else 0,
            rows * size if plan.row_weights else 0,
            rows * plan.members * size if plan.row_weights and plan.members > 1 else 0,
            rows * plan.members * sizeof(int64_t) if plan.labels else 0,
            rows * plan.members * sizeof(double),
            max(self.most_threads, n_blocks) * sizeof(double),
            (n_blocks + plan.n_weights) * sizeof(double),
            self.most_threads * (2 * plan.n_fused + 1) * sizeof(double) if plan.n_fused else 0,
            self.most_threads * plan.panel_size * size,
            squares * sizeof(double),
            scratch * size,
            (code.arena + code.arena_per_row * here) * size,
        ])
        cdef char *start = <char *>self._pointer(block)
        plan.x_batch = start + <Py_ssize_t>starts[0]
        plan.y_batch = start + <Py_ssize_t>starts[1] if plan.Y else NULL
        plan.w_batch = start + <Py_ssize_t>starts[2] if plan.row_weights else NULL
        plan.loss_weights = plan.w_batch if plan.members == 1 or not plan.w_batch else (
            start + <Py_ssize_t>starts[3])
        plan.label_batch = <int64_t *>(start + <Py_ssize_t>starts[4]) if plan.labels else NULL
        plan.row_losses = <double *>(start + <Py_ssize_t>starts[5])
        plan.sizes = <double *>(start + <Py_ssize_t>starts[6])
        plan.squares = <double *>(start + <Py_ssize_t>starts[7])
        plan.bounds = <double *>(start + <Py_ssize_t>starts[8])
        plan.panels = start + <Py_ssize_t>starts[9]
        plan.matrix_squares = <double *>(start + <Py_ssize_t>starts[10])
        plan.matrix = start + <Py_ssize_t>starts[11]
        plan.arena = start + <Py_ssize_t>starts[12]
        # Apart, as zeros would take longer than the steps of a small network.
        plan.for_products = self._pointer(memory.aligned(
            self.most_threads * plan.workspace * size, np.uint8, zeros=False))
        return 0

    cdef const Part *_parts(self, name, parts, shapes=()) except NULL:
        """Ranges of the flat arrays, checked to be in order; some may be matrices."""
        cdef Part *found = <Part *>self._pointer(np.zeros(3 * len(parts) + 1, np.intp))
        cdef Py_ssize_t stop = 0
        for i, (start, size) in enumerate(parts):
            if not stop <= start <= start + size <= self.plan.n_parameters:
                raise ValueError(f"{name}: expected parts of {self.plan.n_parameters} parameters "
                                 f"in their order, got {parts}")
            found[i].start, found[i].size = start, size
            stop = start + size
        for i, shape in enumerate(shapes):
            found[i].columns = shape[1] if shape else 0
        return found

    cdef int _find_fused(self, weights, groups, Py_ssize_t size) except -1:
        """Find the weights whose gradients are computed in the update, and all other parameters.

        Nothing is fused if Python has a part in a step, and might look at a gradient.  `size` is
        that of an element, in bytes.
        """
        cdef Plan *plan = &self.plan
        cdef const Code *code = &self.executor.code
        cdef const Place *W
        cdef int i, n = code.backward - code.weights
        plan.n_fused = plan.n_rest = 0
        plan.panel_size = 0
        plan.weights_section = code.weights
        if n == 0 or plan.update < 0 or self.in_python:
            return 0
        cdef Fused *fused = <Fused *>self._pointer(np.zeros(n * sizeof(Fused), np.uint8))
        taken = []
        for i in range(n):
            W = &code.values[code.instructions[code.weights + i].writes[0]]
            group = step_checks.range_with(groups, W.start, W.rows * W.columns)
            if None in (group, step_checks.range_with(weights, W.start, W.rows * W.columns)):
                return 0
            fused[i].instruction, fused[i].group = code.weights + i, group
            fused[i].start, fused[i].rows, fused[i].columns = W.start, W.rows, W.columns
            taken.append((W.start, W.rows * W.columns))
            row = W.columns * size
            most_rows = PANEL_ROWS + 1 + panel_bytes(plan.batch_size, row) // row
            plan.panel_size = max(plan.panel_size, most_rows * panel_row(W.columns))
        rest = step_checks.rest_of(groups, weights, taken)
        cdef Rest *others = <Rest *>self._pointer(
            np.zeros((len(rest) + 1) * sizeof(Rest), np.uint8))
        for i, (start, size, group, penalized) in enumerate(rest):
            others[i].start, others[i].size = start, size
            others[i].group, others[i].penalized = group, penalized
        plan.fused, plan.n_fused = fused, n
        plan.rest, plan.n_rest = others, len(rest)
        return 0

    cdef int check(self) except -1:
        """Raise unless every borrowed array is unchanged in memory and layout."""
        cdef Borrowed array
        self.executor.check()
        if self.rows is not None:
            self.rows.check()
        for array in self.borrowed:
            array.check()
        return 0

    def run(self, const int64_t[:, ::1] rows, Py_ssize_t first, Py_ssize_t stop,
            const double[:, ::1] rates, const double[:, ::1] attributes, double average_keep,
            double weight_decay, double clip_norm, double l2, int64_t steps_before,
            const uint64_t[:, ::1] random, double[:, ::1] step_stats, double[:, ::1] metric_sums,
            const double[::1] metric_mean, double[:, ::1] layer_norms, double[:, ::1] epoch_stats):
        """Make steps `first` to `stop` of some epochs, or as many as take 1/20 s.

        Parameters
        ----------
        rows : memoryview of int64, of shape (epochs, rows)
            The order in which each epoch takes the rows of X, y and the weights.
        first, stop : int
            The steps, counted from the start of the first epoch.
        rates : memoryview of float64, of shape (steps, groups)
            The learning rates of each of the epochs' steps.
        attributes : memoryview of float64, of shape (groups, attributes)
            Of the update, in the order of ops.def.
        average_keep : float
            Factor of the moving average of the parameters at each step.
        weight_decay : float
            The largest weight decay of all groups.
        clip_norm : float
            0 where gradients are not clipped.
        l2 : float
            Strength of the penalty on the weights.
        steps_before : int
            Number of the optimizer's steps before step `first`.
        random : memoryview of uint64, of shape (2, layers)
            For the layers that draw random numbers, their keys and their counts of steps before
            step `first`.
        step_stats : memoryview of float64, of shape (steps, 3)
            Loss, penalty and batch weight of each of the epochs' steps; written to.
        metric_sums : memoryview of float64, of shape (epochs, sums), or None
            The metric's sums over each epoch; added to.
        metric_mean : memoryview of float64 or None
            The mean that R² needs.
        layer_norms : memoryview of float64, of shape (epochs, layers), or None
            Sums over each epoch's steps of the norms of each layer's gradients; added to.
        epoch_stats : memoryview of float64, of shape (epochs, 3)
            The sums over each epoch's steps of ``(loss + penalty) * weight`` and of the weights,
            added to; and when the epoch ended, in seconds by CLOCK_MONOTONIC, written to.

        Returns
        -------
        int
            Steps made; fewer than asked for when time runs out.

        Raises
        ------
        ValueError
            If an argument's shape does not match, or an array's memory, dtype or shape has changed.
        """
        cdef Run run
        if not self.ready:
            raise RuntimeError("Steps.run: expected an initialized object")
        cdef Plan *plan = &self.plan
        cdef Py_ssize_t epochs = rows.shape[0]
        cdef Py_ssize_t per_epoch = (rows.shape[1] + plan.batch_size - 1) // plan.batch_size
        cdef Py_ssize_t most = min(step_stats.shape[0], rates.shape[0], epochs * per_epoch)
        if not 0 <= first < stop <= most or step_stats.shape[1] != N_STATS:
            raise ValueError(f"stop: expected at most {most} steps, as there are minibatches and "
                             f"rows of step_stats and rates, got {first} to {stop}")
        check_sums(plan.metric, plan.n_out, epochs, metric_sums, metric_mean)
        check_run(plan, epochs, len(self.executor.random), rates, attributes, random, layer_norms,
                  epoch_stats)
        self.check()
        run.plan = plan
        run.frame.code, run.frame.at = (&self.executor.code,
                                        <void **>cnp.PyArray_DATA(self.pointers))
        run.frame.keys = run.frame.steps = NULL
        if random.shape[1] > 0:
            run.frame.keys, run.frame.steps = &random[0, 0], &random[1, 0]
        run.frame.bad_code = False
        run.rows, run.n_rows, run.per_epoch = &rows[0, 0], rows.shape[1], per_epoch
        run.first, run.stop = first, stop
        run.rates = &rates[0, 0] if rates.shape[1] > 0 else NULL
        run.attributes, run.n_attributes = NULL, <int>attributes.shape[1]
        if attributes.shape[0] > 0 and attributes.shape[1] > 0:
            run.attributes = &attributes[0, 0]
        run.average_keep = average_keep
        run.weight_decay, run.clip_norm, run.l2 = weight_decay, clip_norm, l2
        run.fuses = plan.n_fused > 0 and clip_norm == 0 and layer_norms is None
        run.steps_before = steps_before
        run.step_stats = &step_stats[0, 0]
        run.metric_sums, run.n_metric_sums = NULL, 0
        if metric_sums is not None:
            run.metric_sums, run.n_metric_sums = &metric_sums[0, 0], metric_sums.shape[1]
        run.metric_mean = NULL
        if metric_mean is not None:
            run.metric_mean = &metric_mean[0]
        run.layer_norms = NULL if layer_norms is None else &layer_norms[0, 0]
        run.epoch_stats = &epoch_stats[0, 0]
        run.loss = run.penalty = 0
        run.no_label = run.no_row = False
        run.made = run.updates = 0
        run.X = NULL if self.rows is None else &self.rows.source
        run.stage, run.i, run.step, run.done = GATHER, 0, first, False
        run.in_time, run.turn = True, True
        run.deadline = seconds() + SECONDS_PER_RUN
        cdef Py_ssize_t made_before = self.made
        # The limit may be lower by now, or this is a forked process.
        self.threads = min(self.most_threads, threads_for(self.work))
        try:
            while run.turn:
                run.turn = False
                with nogil:
                    run_team(self.threads, run_doubles if self.is_double else run_floats, &run)
                if run.turn:
                    self.take_turn(&run)
        finally:
            self.count(&run)
        return self.made - made_before

    cdef void count(self, Run *run):
        """Add the steps made since the last call."""
        self.made += run.made
        self.updates += run.updates
        run.made = run.updates = 0

    cdef int take_turn(self, Run *run) except -1:
        """Do in Python what the current stage needs."""
        cdef Plan *plan = &self.plan
        step = run.step
        run.done = True
        self.count(run)  # an optimizer in Python reads these counts
        if run.no_label or run.no_row or run.frame.bad_code:
            self.turns.refuse(step)
            raise ValueError("X, y: expected data that stay as they were when they were checked")
        if run.stage == GATHER:
            self._fill("X", plan.x_batch, plan.x, self.turns.gather(step), self.rows_here(run))
        elif run.stage == FORWARD or run.stage == BACKWARD:
            if self.shares is None:
                self.executor.call(&run.frame, run.i)
            else:
                self.shares.average(self.turns, &run.frame, run.i, self.threads)
            run.i += 1
        elif run.stage == LOSS:
            if self.shares is not None:
                self.turns.share_outputs(step, self.shares.Z[:run.frame.batch])
            if plan.loss == IN_PYTHON:
                run.loss, dZ = self.turns.compute_loss(step, self._outputs(run))
                self._fill("dZ", plan.dZ, plan.dz, dZ, run.frame.batch)
        elif run.stage == ADD_UP:
            self.turns.share_gradients(self.shares.segments, run.i)
        elif run.stage == UPDATE:
            self.turns.update(step, run.loss, run.penalty)
        else:
            self.turns.count(step, self._outputs(run))
        self.check()  # Python may have changed their memory or layout
        return 0

    cdef _fill(self, name, void *into, int value, array, Py_ssize_t rows):
        """Copy an array into a value of the program."""
        cdef cnp.ndarray given = np.ascontiguousarray(array)
        checks.exactly(name, given, (rows, self.executor.code.values[value].columns),
                       self.flat.dtype)
        memcpy(into, cnp.PyArray_DATA(given), cnp.PyArray_NBYTES(given))

    cdef _outputs(self, Run *run):
        """A copy of the minibatch's outputs, for Python."""
        cdef cnp.ndarray copied = np.empty((run.frame.batch, self.plan.n_out), self.flat.dtype)
        memcpy(cnp.PyArray_DATA(copied), self.plan.Z, cnp.PyArray_NBYTES(copied))
        return copied

    cdef Py_ssize_t rows_here(self, Run *run):
        """How many rows of the minibatch this process has."""
        cdef const Plan *plan = &self.plan
        cdef Py_ssize_t first, stop, batch = run.step % run.per_epoch
        batch = min(plan.batch_size, run.n_rows - batch * plan.batch_size)
        share_of(batch, plan.rank, plan.processes, &first, &stop)
        return stop - first
