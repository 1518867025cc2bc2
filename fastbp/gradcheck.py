"""Check the gradients of backpropagation against central differences in float64."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from .kernels import checks
from .losses import compute_loss
from .training import Dataset

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike

    from .kernels.types import Array, Floats
    from .losses import Loss
    from .network import Sequential

__all__ = ["GradientCheck", "gradcheck"]

# Step sizes of a difference quotient, largest first.  The next one is tried if the quotients of h
# and h/2 disagree, as they do when a kink (ReLU at 0) lies between the points.
STEPS = (2.0**-12, 2.0**-15, 2.0**-18, 2.0**-21)


@dataclass
class GradientCheck:
    """The result of `gradcheck`.

    Attributes
    ----------
    error : float
        The largest relative error.
    layer : str
        The layer with the largest error, by its index and class, or ``"input"``.
    parameter : str
        The name of that layer's parameter, or ``"X"``.
    index : tuple of int
        The index of the element in that parameter.
    analytic, numeric : float
        The two values of the gradient with respect to that element.
    checked : int
        How many elements were compared.
    by_parameter : dict of str to float
        The largest relative error of each parameter, by names such as ``"0 Dense.W"``.

    Examples
    --------
    >>> import fastbp as fb
    >>> check = fb.gradcheck(fb.mlp([2, 1], seed=0), [[1.0, 2.0]], [[3.0]],
    ...                      loss=fb.MeanSquaredError())
    >>> check.checked, sorted(check.by_parameter)
    (5, ['0 Dense.W', '0 Dense.b', 'input.X'])
    """

    error: float
    layer: str
    parameter: str
    index: tuple[int, ...]
    analytic: float
    numeric: float
    checked: int
    by_parameter: dict[str, float] = field(repr=False)

    def __str__(self) -> str:
        return (f"worst relative error {self.error:.2g} at {self.layer}.{self.parameter}"
                f"{list(self.index)}: backward gives {self.analytic:.10g}, differences give "
                f"{self.numeric:.10g} ({self.checked} elements checked)")


def gradcheck(
    net: Sequential, X: ArrayLike, y: ArrayLike, *, loss: Loss,
    sample_weight: ArrayLike | None = None, samples: int = 200,
) -> GradientCheck:
    """Compare the gradients that `backward` computes with numeric derivatives of the loss.

    A copy of the network in float64 is checked, in training mode, with the same dropout mask
    throughout.  The numeric derivative is a central difference D(h) with one step of Richardson
    extrapolation, ``(4·D(h/2) - D(h)) / 3``.

    The error of an element is ``|analytic - numeric|`` relative to the larger of the two, or to a
    thousandth of the parameter's largest gradient if both are below that, since differences
    cannot resolve smaller ones.

    Parameters
    ----------
    net : Sequential
        It may contain your own layers.
    X : array_like of shape (rows, n_in)
        A few rows are enough.
    y : array_like
        Targets, as `loss` takes them.
    loss : Loss
    sample_weight : array_like of shape (rows,), optional
    samples : int, default 200
        How many elements of each parameter, and of X, are checked, evenly spaced; all of them if
        there are fewer.

    Returns
    -------
    GradientCheck
        An error below 1e-6 means that the gradients are right; a wrong formula gives 1e-2 or
        more.

    Raises
    ------
    TypeError, ValueError
        As `Sequential.fit`.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(5, 3))
    >>> check = fb.gradcheck(fb.mlp([3, 8, 2], "tanh", seed=0), X, [0, 1, 0, 1, 1],
    ...                      loss=fb.SoftmaxCrossEntropy())
    >>> check.error < 1e-6
    True
    """
    samples = checks.integer("samples", samples, 1)
    net = net.astype("float64")
    data = Dataset(net, X, y, loss, sample_weight)
    rows, targets, weights = data.batch(slice(None))
    rows = rows.copy()
    steps = [layer.step for _, layer in net.leaves]
    buffers = net.buffers.copy()

    def value_and_gradient() -> tuple[float, Floats]:
        net.buffers[...] = buffers
        for (_, layer), step in zip(net.leaves, steps, strict=True):
            layer.step = step  # so that dropout draws the same mask each time
        return compute_loss(loss, net.forward(rows), targets, weights)

    def value() -> float:
        return value_and_gradient()[0]

    dX = net.backward(value_and_gradient()[1])
    assert dX is not None  # which it is only with input_gradient=False
    arrays: dict[tuple[str, str], tuple[Array, Array]] = {("input", "X"): (rows, dX)}
    for where, layer in net.leaves:
        for name in layer.parameter_shapes:
            key = f"{where} {type(layer).__name__}", name
            arrays[key] = getattr(layer, name), getattr(layer, "d" + name).copy()

    found: list[tuple[float, str, str, tuple[int, ...], float, float]] = []
    by_parameter: dict[str, float] = {}
    for (place, name), (array, analytic) in arrays.items():
        floor = max(1e-3 * float(np.abs(analytic).max(initial=0.0)), 1e-12)
        flat = array.reshape(-1)  # a view: writing to it changes the network
        elements = np.arange(flat.size)
        if place == "input":  # codes have no gradient
            codes = [column for column, *_ in net.codes(rows.shape[1])]
            elements = elements[~np.isin(elements % rows.shape[1], codes)]
        chosen = np.linspace(0, elements.size - 1, min(samples, elements.size)).astype(int)
        for i in elements[np.unique(chosen)]:
            numeric = _derivative(value, flat, i, floor)
            a = float(analytic.reshape(-1)[i])
            error = abs(a - numeric) / max(abs(a), abs(numeric), floor)
            error = float("inf") if np.isnan(error) else error
            parameter = f"{place}.{name}"
            by_parameter[parameter] = max(error, by_parameter.get(parameter, 0.0))
            index = tuple(int(j) for j in np.unravel_index(i, array.shape))
            found.append((error, place, name, index, a, numeric))
    worst = max(found, key=operator.itemgetter(0))
    return GradientCheck(*worst, len(found), by_parameter)


def _derivative(value: Callable[[], float], flat: Array, i: int, floor: float) -> float:
    """The numeric derivative of ``value()`` with respect to ``flat[i]``."""
    at = flat[i]
    tried: list[tuple[float, float]] = []

    def quotient(h: float) -> float:
        flat[i] = at + h
        above, high = value(), flat[i]
        flat[i] = at - h
        below, low = value(), flat[i]
        flat[i] = at
        return float((above - below) / (high - low))

    for step in STEPS:
        h = step * max(1.0, abs(at))
        wide, narrow = quotient(h), quotient(h / 2)
        disagreement = abs(wide - narrow)
        tried.append((disagreement, (4 * narrow - wide) / 3))
        if disagreement <= 1e-5 * max(abs(narrow), floor):
            break
    return float(min(tried, key=operator.itemgetter(0))[1])
