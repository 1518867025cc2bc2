"""Are the gradients right?  Backpropagation against central differences in float64."""

from dataclasses import dataclass, field

import numpy as np

from .kernels import checks
from .losses import compute_loss
from .training import Dataset

__all__ = ["GradientCheck", "gradcheck"]

# Steps tried for a difference quotient, largest first.  The next is tried where two
# quotients disagree, as they do where a kink (ReLU at 0) lies between the points.
STEPS = (2.0**-12, 2.0**-15, 2.0**-18, 2.0**-21)


@dataclass
class GradientCheck:
    """What `gradcheck` found.

    Attributes
    ----------
    error : float
        The worst relative error.
    layer : str
        Where it is: the layer's index and class, or ``"input"``.
    parameter : str
        The parameter's name there, or ``"X"``.
    index : tuple of int
        The element of that parameter.
    analytic, numeric : float
        The two values of that element's gradient.
    checked : int
        How many elements were compared.
    by_parameter : dict of str to float
        The worst relative error of each parameter, as ``"0 Dense.W"``.
    """

    error: float
    layer: str
    parameter: str
    index: tuple
    analytic: float
    numeric: float
    checked: int
    by_parameter: dict = field(repr=False)

    def __str__(self):
        return (f"worst relative error {self.error:.2g} at {self.layer}.{self.parameter}"
                f"{list(self.index)}: backward gives {self.analytic:.10g}, differences give "
                f"{self.numeric:.10g} ({self.checked} elements checked)")


def gradcheck(net, X, y, *, loss, sample_weight=None, samples=200):
    """Compare the gradients that `backward` gives with differences of the loss.

    A copy of the network in float64 is checked, in training mode: dropout keeps the same
    mask throughout.  The numeric gradient is a central difference with one step of
    Richardson extrapolation, ``(4·D(h/2) - D(h)) / 3``.

    The error of an element is ``|analytic - numeric|`` relative to the larger of the two,
    or to a thousandth of the largest gradient of the same parameter where both are below
    that, because differences cannot resolve them there.

    Parameters
    ----------
    net : Sequential
        With layers of your own too.
    X : array_like of shape (rows, n_in)
        A few rows are enough.
    y : array_like
        Targets, as `loss` takes them.
    loss : Loss
    sample_weight : array_like of shape (rows,), optional
    samples : int, default 200
        Elements of each parameter, and of X, that are checked: evenly spread, all if
        there are no more.

    Returns
    -------
    GradientCheck
        Below 1e-6 is right; a wrong formula gives 1e-2 or more.

    Raises
    ------
    TypeError, ValueError
        As `Sequential.fit`.
    """
    samples = checks.integer("samples", samples, 1)
    net = net.astype("float64")
    data = Dataset(net, X, y, loss, sample_weight)
    X, y, weights = data.batch(slice(None))
    X = X.copy()
    steps = [layer.step for _, layer in net.leaves]
    buffers = net.buffers.copy()

    def value_and_gradient():
        net.buffers[...] = buffers
        for (_, layer), step in zip(net.leaves, steps, strict=True):
            layer.step = step  # so that the random numbers are the same each time
        return compute_loss(loss, net.forward(X), y, weights)

    def value():
        return value_and_gradient()[0]

    dX = net.backward(value_and_gradient()[1])
    arrays = {("input", "X"): (X, dX)}
    for where, layer in net.leaves:
        for name in layer.parameter_shapes:
            key = f"{where} {type(layer).__name__}", name
            arrays[key] = getattr(layer, name), getattr(layer, "d" + name).copy()

    worst, by_parameter, checked = None, {}, 0
    for (layer, name), (array, analytic) in arrays.items():
        floor = max(1e-3 * float(np.abs(analytic).max(initial=0.0)), 1e-12)
        flat = array.reshape(-1)  # a view: writing to it moves the network
        places = np.arange(flat.size)
        if layer == "input":  # codes have no gradient
            codes = [column for column, *_ in net.codes(X.shape[1])]
            places = places[~np.isin(places % X.shape[1], codes)]
        chosen = np.linspace(0, places.size - 1, min(samples, places.size)).astype(int)
        indices = places[np.unique(chosen)]
        for i in indices:
            numeric = _difference(value, flat, i, floor)
            a = float(analytic.reshape(-1)[i])
            error = abs(a - numeric) / max(abs(a), abs(numeric), floor)
            error = float("inf") if np.isnan(error) else error
            checked += 1
            key = f"{layer}.{name}"
            by_parameter[key] = max(error, by_parameter.get(key, 0.0))
            if worst is None or error > worst[0]:
                index = tuple(int(j) for j in np.unravel_index(i, array.shape))
                worst = error, layer, name, index, a, numeric
    return GradientCheck(*worst, checked, by_parameter)


def _difference(value, flat, i, floor):
    """The derivative of `value()` by ``flat[i]``, numerically."""
    at, best = flat[i], None

    def quotient(h):
        flat[i] = at + h
        above, high = value(), flat[i]
        flat[i] = at - h
        below, low = value(), flat[i]
        flat[i] = at
        return (above - below) / (high - low)

    for step in STEPS:
        h = step * max(1.0, abs(at))
        wide, narrow = quotient(h), quotient(h / 2)
        disagreement = abs(wide - narrow)
        if best is None or disagreement < best[0]:
            best = disagreement, (4 * narrow - wide) / 3
        if disagreement <= 1e-5 * max(abs(narrow), floor):
            break
    return float(best[1])
