"""The reference interpreter: a program carried out instruction by instruction, in Python.

It calls the functions of `fastbp.kernels`, one for each instruction, and keeps every value.  The
executor, with its fused products, its arena and its threads, must give the same bits; this is also
what `Sequential.forward` and `backward` and a layer's own run, and the place to read how
backpropagation goes.
"""


import numpy as np

from .. import kernels
from ..kernels import checks, ops
from .gradients import for_parameters

__all__ = ["Interpreter", "Steps", "call_backward", "call_forward", "new_steps"]


# The kernel of each operation, but for those that the interpreter asks a layer about.
KERNELS = {
    "dense": kernels.dense_forward,
    "dense_backward_weights": kernels.dense_backward_weights,
    "dense_backward_bias": kernels.dense_backward_bias,
    "dense_backward_input": kernels.dense_backward_input,
    "softmax": kernels.softmax,
    "add": lambda X, Y, gradient: kernels.add(X, Y, gradient=gradient != 0),
    "scale": lambda X, gamma, gradient: kernels.scale_columns(X, gamma, gradient=gradient != 0),
    "scale_shift": kernels.scale_columns,
    "column_dots": kernels.column_dots,
    "normalize_rows": lambda X, epsilon, center: kernels.normalize_rows(X, epsilon, center != 0),
    "normalize_rows_backward": lambda dN, N, rstd, center: kernels.normalize_rows_backward(
        dN, N, rstd, center != 0),
    "column_moments": kernels.column_moments,
    "inverse_sqrt": kernels.inverse_sqrt,
    "normalize_columns": kernels.normalize_columns,
    "normalize_columns_backward": kernels.normalize_columns_backward,
    "prelu": kernels.prelu,
    "prelu_backward": kernels.prelu_backward,
    "prelu_slope": kernels.prelu_slope_gradient,
    "embedding": lambda codes, table: kernels.embedding(codes[:, 0], table),
    "take_columns": lambda X, columns: X.take(columns, axis=1),
    "join": lambda *parts: np.concatenate(parts, axis=1),
    **{name: getattr(kernels, name) for name in (*ops.ACTIVATIONS, *ops.FUNCTIONS)},
    **{f"{name}_backward": getattr(kernels, f"{name}_backward") for name in ops.ACTIVATIONS},
}


def call_forward(where, layer, X, training, n_out):
    """What a layer that runs in Python returns, in C order, if that is what it should.

    Parameters
    ----------
    where : str
        The layer's place in the network, for messages.
    layer : Layer
    X : ndarray of shape (rows, n_in)
    training : bool
    n_out : int

    Raises
    ------
    TypeError, ValueError
        If it is no array of shape (rows, n_out) and X's dtype.
    """
    layer.restore_views()
    Z = layer.forward(checks.read_only(X), training=training)
    checks.returned(f"layer {where} ({layer!r}): forward", "Z", Z, (len(X), n_out), X.dtype)
    return np.ascontiguousarray(Z)


def call_backward(where, layer, dZ, n_in):
    """As `call_forward`, for the way back; without `n_in`, nobody asks for the result."""
    if n_in is None:
        layer.backward_parameters(checks.read_only(dZ))
        return None
    dX = layer.backward(checks.read_only(dZ))
    checks.returned(f"layer {where} ({layer!r}): backward", "dX", dX, (len(dZ), n_in), dZ.dtype)
    return np.ascontiguousarray(dX)


class Interpreter:
    """Carries out one program.

    Parameters
    ----------
    program : Program
        Without a plan.
    training : bool, default True
        What layers of the user's own are told.

    Attributes
    ----------
    values : dict of Value to ndarray
        Of the last `forward` and `backward`.
    """

    def __init__(self, program, training=True):
        self.program, self.training = program, training
        self.values, self._masks, self._for_parameters = {}, {}, None

    def forward(self, X, update=True):
        """The output for X (rows, n_in); and `update`, if the step is sure to be made."""
        program = self.program
        self.values = {program.x: X}
        for each in program.forward:
            self._carry_out(each)
        if update:
            self.update()
        return self.values[program.z]

    def update(self):
        """What a step changes besides the parameters: running statistics."""
        for each in self.program.update:
            self._carry_out(each)

    def backward(self, dZ, input_gradient=True):
        """The gradient with respect to X; those of the parameters go where they belong."""
        program = self.program
        self.values[program.dz] = np.ascontiguousarray(dZ)
        if not input_gradient and self._for_parameters is None:
            self._for_parameters = for_parameters(program)
        for each in program.backward if input_gradient else self._for_parameters:
            self._carry_out(each)
        if not input_gradient:
            return None
        X = self.values[program.x]
        return np.zeros_like(X) if program.dx is None else self.values[program.dx]

    def take_back_step(self):
        """Have layers that draw random numbers not count the last `forward`."""
        for layer, (_, step) in self._masks.items():
            layer.step = step

    def _carry_out(self, each):
        reads = [self._read(value) for value in each.reads]
        if each.op == "python":
            results = call_forward(each.where, each.layer, *reads, self.training,
                                   each.writes[0].columns)
        elif each.op == "python_backward":
            results = call_backward(each.where, each.layer, *reads,
                                    each.writes[0].columns if each.writes else None)
        elif each.op == "dropout":
            mask = self._masks[each.layer] = each.layer.key, each.layer.step
            each.layer.step += 1
            results = kernels.dropout(*reads, each.attributes["rate"], *mask)
        elif each.op == "dropout_backward":
            results = kernels.dropout(*reads, each.attributes["rate"], *self._masks[each.layer])
        elif each.op in ("running_mean", "running_variance"):
            results = self._average(each, *reads)
        elif each.op == "embedding_backward":
            results = kernels.embedding_backward(reads[0][:, 0], reads[1], each.writes[0].rows)
        elif each.op == "take_columns_backward":
            results = np.zeros((len(reads[0]), each.writes[0].columns), reads[0].dtype)
            for column, dY in zip(each.attributes["columns"], reads[0].T, strict=True):
                results[:, column] += dY
        else:
            results = KERNELS[each.op](*reads, **each.attributes)
        if type(results) is not tuple:
            results = (results,) * len(each.writes)
        for value, result in zip(each.writes, results, strict=True):
            self._write(value, result)

    def _average(self, each, X):
        """A running mean, or variance: of the population that the rows are drawn from."""
        average, rows = self._read(each.writes[0]), len(self.values[self.program.x])
        momentum = weight = each.attributes["momentum"]
        if each.op == "running_variance":
            if rows == 1:  # which says nothing of it
                return average
            weight = momentum * rows / (rows - 1)
        kernels.running_average(average, X, 1 - momentum, weight)
        return average

    def _read(self, value):
        if value.owner is None:
            return self.values[value]
        layer, name = value.owner
        layer.restore_views()
        return getattr(layer, name)

    def _write(self, value, result):
        if value.kind == "buffer":
            return  # which was changed in place
        if value.kind == "gradient":
            layer, name = value.owner
            layer.restore_views()
            getattr(layer, "d" + name)[...] = result
        else:
            self.values[value] = result


class Steps:
    """Steps of training, as kernels/steps.pyx makes them, in Python.

    Parameters
    ----------
    interpreter : Interpreter
        Of a program for training.
    batch_size, weights, layers, update, metric, average, turns, parameters, gradients
        As `fastbp.kernels.steps.Steps` has them; the rest it asks `turns` for.
    """

    in_python = "gather", "layers", "loss", "update", "metric"

    def __init__(self, interpreter, *, parameters, gradients, batch_size, update, metric, weights,
                 layers, average, turns, **rest):
        self.interpreter = interpreter
        self.parameters, self.gradients, self.batch_size = parameters, gradients, batch_size
        self.update, self.metric, self.turns = update, metric, turns
        self.weights, self.layers, self.average = weights, layers, average
        self.made = self.updates = 0
        self.threads = 1

    def run(self, rows, first, stop, rates, attributes, average_keep, weight_decay, clip_norm, l2,
            steps_before, random, step_stats, metric_sums, metric_mean, layer_norms):
        """As `fastbp.kernels.steps.Steps.run`; all steps at once."""
        for step in range(first, stop):
            try:
                loss, penalty, weight = self._make(step, l2, average_keep, layer_norms)
            except BaseException:
                self.interpreter.take_back_step()
                raise
            step_stats[step] = loss, penalty, weight
        return stop - first

    def _make(self, step, l2, average_keep, layer_norms):
        turns = self.turns
        weight = turns.weight(step)
        Z = self.interpreter.forward(turns.gather(step), update=False)
        loss, dZ = turns.compute_loss(step, Z)
        self.interpreter.backward(dZ, input_gradient=False)
        penalty = self._penalize(l2 * (1 / weight if weight > 0 else 0.0)) if l2 > 0 else 0.0
        if layer_norms is not None:
            layer_norms += [kernels.norm(self.gradients[start : start + size])
                            for start, size in self.layers]
        if self.update is not None:
            turns.update(step, loss, penalty)
            self.interpreter.update()
        if self.average is not None:
            kernels.running_average(self.average, self.parameters, average_keep)
        if self.metric is not None:
            turns.count(step, Z)
        return loss, penalty, weight

    def _penalize(self, strength):
        squares = 0.0
        for start, size in self.weights:
            part = slice(start, start + size)
            squares += kernels.penalize(self.parameters[part], self.gradients[part], strength)
        return 0.5 * strength * squares


def new_steps(programs, n_in, **arguments):
    """What stands in for the compiled steps in `fastbp.training` where these are to be checked."""
    return Steps(programs.interpreter(n_in, training=True), **arguments)
