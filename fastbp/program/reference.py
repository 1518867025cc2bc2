"""The reference interpreter, which executes a program one instruction at a time, in Python.

It runs an unplanned program one instruction at a time, each with one function of `fastbp.kernels`
or NumPy, and keeps every value.  The executor, with its fused matrix products, its arena and its
threads, must give the same bits.  `forward` and `backward` of `Sequential` and of layers run it
too, and it is the place to read how backpropagation works.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import kernels
from ..kernels import checks, ops
from ..kernels.stages import seconds
from ..kernels.types import Array, Doubles, Floats
from .gradients import for_parameters
from .ir import Instruction, Program, Value

if TYPE_CHECKING:
    from ..layers import Layer
    from .cache import Programs

__all__ = ["Interpreter", "Steps", "call_backward", "call_forward", "new_steps"]


def _by_feature(X: Floats, frequencies: Floats, phases: Floats, gamma: Floats,
                *beta: Floats) -> list[Floats]:
    """The phases and beta, which a layer has as vectors, with a row for each feature."""
    return [X, frequencies, phases.reshape(frequencies.shape), gamma,
            *(each.reshape(gamma.shape) for each in beta)]


def _rows_of_members(array: Floats, columns: int) -> Floats:
    """A row for each member, of a row that has the columns of all."""
    return array.reshape(-1, columns)


def _shared_dense(X: Floats, W: Floats, *b: Floats) -> Floats:
    Z = kernels.dense_forward(_rows_of_members(X, len(W)), W,
                              *(b or [np.zeros(W.shape[1], W.dtype)]))
    return Z.reshape(len(X), -1)


# The kernel of each operation that needs nothing but its operands and attributes.
KERNELS: dict[str, Callable[..., Any]] = {
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
    "scale_shift_backward": kernels.scale_shift_backward,
    "periodic": lambda *reads: kernels.periodic(*_by_feature(*reads)),
    "periodic_features": lambda *reads: kernels.periodic_features(*_by_feature(*reads)),
    "periodic_backward": lambda dZ, *reads: kernels.periodic_backward(dZ, *_by_feature(*reads)),
    "periodic_backward_input": lambda dZ, *reads: kernels.periodic_backward_input(
        dZ, *_by_feature(*reads)),
    "piecewise_nodes": lambda W, b, columns: kernels.piecewise_nodes(
        W, b.reshape(-1, W.shape[1]), np.diff(columns)),
    "piecewise": lambda X, edges, W, b, nodes, columns: kernels.piecewise(
        X, edges, W, nodes, np.diff(columns)),
    "piecewise_backward": lambda dZ, bins, fractions, columns: kernels.piecewise_backward(
        dZ, bins, fractions, np.diff(columns)),
    "piecewise_backward_input": lambda dZ, bins, edges, W, columns:
        kernels.piecewise_backward_input(dZ, bins, edges, W, np.diff(columns)),
    "shared_dense": _shared_dense,
    "shared_product": _shared_dense,
    "shared_backward_input": lambda dZ, W: kernels.dense_backward_input(
        _rows_of_members(dZ, W.shape[1]), W).reshape(len(dZ), -1),
    "separate_dense": lambda X, W, b: kernels.separate_dense_forward(
        X, W, b.reshape(len(W), -1)),
    "separate_backward_input": kernels.separate_dense_backward_input,
    "take_columns": lambda X, columns: X.take(columns, axis=1),
    "join": lambda *parts: np.concatenate(parts, axis=1),
    **{name: getattr(kernels, name) for name in (*ops.ACTIVATIONS, *ops.FUNCTIONS)},
    **{f"{name}_backward": getattr(kernels, f"{name}_backward") for name in ops.ACTIVATIONS},
}


# Kernels that need the number of members, or of the columns of each, besides.
MEMBERS: dict[str, Callable[..., Any]] = {
    "repeat": lambda each, X: kernels.repeat_columns(
        X, each.writes[0].columns // X.shape[1], **_factor(each)),
    "sum_members": lambda each, X: kernels.sum_members(
        X, X.shape[1] // each.writes[0].columns, **_factor(each)),
    "shared_backward_weights": lambda each, X, dZ: kernels.dense_backward_weights(
        _rows_of_members(X, each.writes[0].rows), _rows_of_members(dZ, each.writes[0].columns)),
    "shared_backward_bias": lambda each, dZ: kernels.dense_backward_bias(
        _rows_of_members(dZ, each.writes[0].columns)),
    "separate_backward_weights": lambda each, X, dZ: kernels.separate_dense_backward_weights(
        X, dZ, dZ.shape[1] // each.writes[0].columns),
}


def _factor(each: Instruction) -> dict[str, Any]:
    return {"factor": each.attributes["factor"], "gradient": each.attributes["gradient"] != 0}


def call_forward(where: str, layer: Layer, X: Floats, training: bool, n_out: int) -> Floats:
    """Call `forward` of a layer that runs in Python, and check what it returns.

    Parameters
    ----------
    where : str
        The layer's path in the network, for messages.
    layer : Layer
    X : ndarray of shape (rows, n_in)
    training : bool
    n_out : int

    Returns
    -------
    Z : ndarray of shape (rows, n_out), in C order

    Raises
    ------
    TypeError, ValueError
        If the layer returns anything but an array of this shape and X's dtype.
    """
    layer.restore_views()
    Z = layer.forward(checks.read_only(X), training=training)
    checks.returned(f"layer {where} ({layer!r}): forward", "Z", Z, (len(X), n_out), X.dtype)
    return np.ascontiguousarray(Z)


def call_backward(where: str, layer: Layer, dZ: Floats, n_in: int | None) -> Floats | None:
    """Call `backward`, or `backward_parameters` where `n_in` is None, and check what it returns."""
    if n_in is None:
        layer.backward_parameters(checks.read_only(dZ))
        return None
    dX = layer.backward(checks.read_only(dZ))
    checks.returned(f"layer {where} ({layer!r}): backward", "dX", dX, (len(dZ), n_in), dZ.dtype)
    return np.ascontiguousarray(dX)


class Interpreter:
    """Executes one program.

    Parameters
    ----------
    program : Program
        Not planned.
    training : bool, default True
        Passed on to layers that run in Python.

    Attributes
    ----------
    values : dict of Value to ndarray
        Of the last `forward` and `backward`.
    """

    def __init__(self, program: Program, training: bool = True) -> None:
        self.program, self.training = program, training
        self.values: dict[Value, Floats] = {}
        self._masks: dict[Layer, tuple[int, int]] = {}
        self._for_parameters: list[Instruction] | None = None

    def forward(self, X: Floats, update: bool = True) -> Floats:
        """The output for X (rows, n_in), followed by `update` unless that is false."""
        program = self.program
        self.values = {program.x: X}
        for each in program.forward:
            self._carry_out(each)
        if update:
            self.update()
        return self.values[program.z]

    def update(self) -> None:
        """Run the instructions for the end of a training step: running statistics."""
        for each in self.program.update:
            self._carry_out(each)

    def backward(self, dZ: Floats, input_gradient: bool = True) -> Floats | None:
        """The gradient with respect to X; those of the parameters are written to the layers."""
        program = self.program
        assert program.dz is not None
        self.values[program.dz] = np.ascontiguousarray(dZ)
        if not input_gradient:
            if self._for_parameters is None:
                self._for_parameters = for_parameters(program)
            for each in self._for_parameters:
                self._carry_out(each)
            return None
        for each in program.backward:
            self._carry_out(each)
        X = self.values[program.x]
        return np.zeros_like(X) if program.dx is None else self.values[program.dx]

    def take_back_step(self) -> None:
        """Reset the step counters of layers that draw random numbers to before `forward`."""
        for layer, (_, step) in self._masks.items():
            layer.step = step

    def _carry_out(self, each: Instruction) -> None:
        reads = [self._read(value) for value in each.reads]
        results: Any
        if each.layer is not None:
            results = self._of_layer(each, each.layer, reads[0])
        elif each.op in ("running_mean", "running_variance"):
            results = self._average(each, *reads)
        elif each.op == "embedding_backward":
            n_categories = each.writes[0].rows
            assert n_categories is not None
            results = kernels.embedding_backward(reads[0][:, 0], reads[1], n_categories)
        elif each.op == "take_columns_backward":
            results = np.zeros((len(reads[0]), each.writes[0].columns), reads[0].dtype)
            for column, dY in zip(each.attributes["columns"], reads[0].T, strict=True):
                results[:, column] += dY
        elif each.op in MEMBERS:
            results = MEMBERS[each.op](each, *reads)
        else:
            options = {"precision": each.precision} if each.op in ops.REDUCED else {}
            results = KERNELS[each.op](*reads, **each.attributes, **options)
        if type(results) is not tuple:
            results = (results,) * len(each.writes)
        for value, result in zip(each.writes, results, strict=True):
            self._write(value, result)

    def _of_layer(self, each: Instruction, layer: Layer, X: Floats) -> Floats | None:
        """Execute an instruction that needs its layer."""
        columns = each.writes[0].columns if each.writes else None
        if each.op == "python":
            assert columns is not None
            return call_forward(each.where, layer, X, self.training, columns)
        if each.op == "python_backward":
            return call_backward(each.where, layer, X, columns)
        if each.op == "dropout":
            self._masks[layer] = layer.key, layer.step
            layer.step += 1
        key, step = self._masks[layer]
        return kernels.dropout(X, each.attributes["rate"], key, step)

    def _average(self, each: Instruction, X: Floats) -> Floats:
        """Update a running mean or variance; the variance is the unbiased estimate."""
        average: Floats = self._read(each.writes[0])
        rows = len(self.values[self.program.x])
        momentum = weight = each.attributes["momentum"]
        if each.op == "running_variance":
            if rows == 1:  # no estimate of a variance
                return average
            weight = momentum * rows / (rows - 1)
        kernels.running_average(average, X, 1 - momentum, weight)
        return average

    def _read(self, value: Value) -> Any:
        if value.owner is None:
            return self.values[value]
        layer, name = value.owner
        layer.restore_views()
        return getattr(layer, name)

    def _write(self, value: Value, result: Floats) -> None:
        if value.kind == "buffer":
            return  # it was changed in place
        if value.owner is not None:
            layer, name = value.owner
            layer.restore_views()
            gradient = getattr(layer, "d" + name)
            gradient[...] = result.reshape(gradient.shape)
        else:
            self.values[value] = result


class Steps:
    """Training steps in Python, instead of those of kernels/steps.pyx.

    Parameters
    ----------
    interpreter : Interpreter
        Of a program for training.
    batch_size, weights, layers, update, metric, average, turns, parameters, gradients
        As for `fastbp.kernels.steps.Steps`; everything else comes from `turns`.
    """

    in_python: tuple[str, ...] = "gather", "layers", "loss", "update", "metric"

    def __init__(self, interpreter: Interpreter, *, parameters: Floats, gradients: Floats,
                 batch_size: int, update: str | None, metric: str | None,
                 weights: list[tuple[int, int]], layers: list[tuple[int, int]],
                 average: Floats | None, turns: Any, **rest: Any) -> None:
        self.interpreter = interpreter
        self.parameters, self.gradients, self.batch_size = parameters, gradients, batch_size
        self.update, self.metric, self.turns = update, metric, turns
        self.weights, self.layers, self.average = weights, layers, average
        self.made = self.updates = 0
        self.threads = 1

    def run(self, rows: Array, first: int, stop: int, rates: Doubles, attributes: Doubles,
            average_keep: float, weight_decay: float, clip_norm: float, l2: float,
            steps_before: int, random: Array, step_stats: Doubles, metric_sums: Doubles | None,
            metric_mean: Doubles | None, layer_norms: Doubles | None, epoch_stats: Doubles) -> int:
        """Like `fastbp.kernels.steps.Steps.run`, without interruptions and for one epoch."""
        norms = None if layer_norms is None else layer_norms[0]
        for step in range(first, stop):
            try:
                loss, penalty, weight = self._make(step, l2, average_keep, norms)
            except BaseException:
                self.interpreter.take_back_step()
                raise
            step_stats[step] = loss, penalty, weight
            epoch_stats[0, :2] += (loss + penalty) * weight, weight
        epoch_stats[0, 2] = seconds()
        return stop - first

    def _make(self, step: int, l2: float, average_keep: float,
              layer_norms: Doubles | None) -> tuple[float, float, float]:
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

    def _penalize(self, strength: float) -> float:
        squares = 0.0
        for start, size in self.weights:
            part = slice(start, start + size)
            squares += kernels.penalize(self.parameters[part], self.gradients[part], strength)
        return 0.5 * strength * squares


def new_steps(programs: Programs, n_in: int, **arguments: Any) -> Steps:
    """Drop-in replacement for `fastbp.training.run.new_steps`, to compare results in tests."""
    return Steps(programs.interpreter(n_in, training=True), **arguments)
