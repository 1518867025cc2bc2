"""The losses: most name a row of the table of operations (kernels/ops.def)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from .. import kernels
from ..kernels import checks, ops
from ..kernels.types import Array, Floats, Labels
from ..metrics import R2, Accuracy, BinaryAccuracy, Metric, RateR2
from .base import Loss, checked_loss, compute_loss

__all__ = [
    "Huber",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PinballLoss",
    "PoissonDeviance",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
]


def _cap(name: str, value: Any) -> float | None:
    return None if value is None else checks.positive(name, value)


class SoftmaxCrossEntropy(Loss):
    """Classification into one of n_out classes; the network returns scores (logits).

    ``l = log Σⱼ exp(zⱼ) - Σⱼ tⱼ·zⱼ`` for a row, ``dZ = (softmax(Z) - T) / batch``.  Targets are
    labels from 0 to n_out - 1, or rows of probabilities.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default 0.0
        ``T = (1 - label_smoothing)·onehot(y) + label_smoothing / n_out``.
    cap : float above 0, optional
        Upper bound for the loss of a row.  It applies to the value, not to the gradient.

    Raises
    ------
    TypeError, ValueError
        If a setting is not such a number, here or when it is set.

    Examples
    --------
    >>> import fastbp as fb
    >>> value, dZ = fb.SoftmaxCrossEntropy()(np.zeros((1, 4)), [2])
    >>> round(value, 6)
    1.386294
    >>> dZ
    array([[ 0.25,  0.25, -0.75,  0.25]])
    """

    validators = {"label_smoothing": checks.fraction, "cap": _cap}
    metric = Accuracy

    def __init__(self, label_smoothing: float = 0.0, cap: float | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.cap = cap

    @property
    def operation(self) -> tuple[Any, ...]:  # type: ignore[override]  # it follows from settings
        return "softmax_cross_entropy", self.label_smoothing, self.cap or math.inf

    def __call__(self, Z: Floats, y: ArrayLike,
                 sample_weight: ArrayLike | None = None) -> tuple[float, Floats]:
        targets = checks.real_numbers("y", y)
        if targets.ndim != 1:
            targets = _like(Z, "y", targets)
        weights = None if sample_weight is None else _like(Z, "sample_weight", sample_weight)
        return kernels.softmax_cross_entropy(Z, targets, weights,
                                             label_smoothing=self.label_smoothing, cap=self.cap)

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """The checked targets: labels of shape (rows,), int64, or probabilities (rows, n_out)."""
        array = checks.data("y", y)
        if array.ndim == 1:
            return _labels(array, n_out)
        is_column = array.ndim == 2 and array.shape[1] == 1
        checks.shape("y", array, (None, n_out), "for probabilities, or labels of one dimension",
                     "; for labels use y.ravel()" if is_column else "")
        with np.errstate(over="ignore"):
            wrong = (array < 0).any(axis=1) | ~(abs(array.sum(axis=1) - 1) <= 1e-3)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"y: expected labels of one dimension, or rows of probabilities "
                             f"that add up to 1, got {array[i]} in row {i}")
        return np.ascontiguousarray(array, dtype)


def _labels(y: Array, n_out: int) -> Labels:
    """Labels, checked."""
    wrong = (y < 0) | (y >= n_out)
    if y.dtype.kind == "f":
        wrong |= y != np.floor(y)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"y: expected labels that are whole numbers from 0 to {n_out - 1}, one for "
            f"each of the network's {n_out} outputs, got {y[i]} in row {i}"
        )
    return np.ascontiguousarray(y, np.int64)


class Elementwise(Loss):
    """Base class of losses that are a mean over the batch and the outputs.

    Examples
    --------
    >>> import fastbp as fb
    >>> isinstance(fb.Huber(), fb.losses.builtin.Elementwise)
    True
    """

    _kernel: ClassVar[str] = ""  # the row of kernels/ops.def, and the function of fastbp.kernels
    _settings: ClassVar[tuple[str, ...]] = ()  # the function's further arguments: attributes

    @property
    def operation(self) -> tuple[Any, ...]:  # type: ignore[override]  # it follows from settings
        settings = self._arguments()
        return self._kernel, settings.get("delta", 0.0), settings.get("cap") or math.inf

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self._settings}

    def __call__(self, Z: Floats, y: ArrayLike,
                 sample_weight: ArrayLike | None = None) -> tuple[float, Floats]:
        weights = None if sample_weight is None else _like(Z, "sample_weight", sample_weight)
        kernel: Callable[..., tuple[float, Floats]] = getattr(kernels, self._kernel)
        return kernel(Z, _like(Z, "y", y), weights, **self._arguments())

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """The checked targets, in the range of the loss."""
        targets = super().targets(y, n_out, dtype)
        kernels.losses.check_targets(ops.LOSSES[self._kernel], targets)
        return targets


class SigmoidCrossEntropy(Elementwise):
    """Binary and multi-label classification: a yes or no for each output.

    ``l = log(1 + exp(z)) - y·z`` for an output, ``dZ = (sigmoid(Z) - Y) / (batch·n_out)``.  The
    network returns scores (logits); targets are between 0 and 1.

    Parameters
    ----------
    cap : float above 0, optional
        Upper bound for the loss of an output.  It applies to the value, not to the gradient.

    Raises
    ------
    TypeError, ValueError
        If `cap` is not such a number, here or when it is set.

    Examples
    --------
    >>> import fastbp as fb
    >>> value, dZ = fb.SigmoidCrossEntropy()(np.zeros((1, 2)), [[0.0, 1.0]])
    >>> dZ
    array([[ 0.25, -0.25]])
    """

    validators = {"cap": _cap}
    _kernel = "sigmoid_cross_entropy"
    _settings = ("cap",)
    metric = BinaryAccuracy

    def __init__(self, cap: float | None = None) -> None:
        self.cap = cap


class MeanSquaredError(Elementwise):
    """Regression of the mean: ``l = (z - y)²``, ``dZ = 2·(Z - Y) / (batch·n_out)``.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.MeanSquaredError()(np.array([[3.0, 0.0]]), [[1.0, 0.0]])
    (2.0, array([[2., 0.]]))
    """

    _kernel = "mean_squared_error"
    metric = R2


class MeanAbsoluteError(Elementwise):
    """Regression of the median: ``l = |z - y|``, ``dZ = sign(Z - Y) / (batch·n_out)``.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.MeanAbsoluteError()(np.array([[3.0, 0.0]]), [[1.0, 0.0]])
    (1.0, array([[0.5, 0. ]]))
    """

    _kernel = "mean_absolute_error"
    metric = R2


class Huber(Elementwise):
    """Regression that is robust to outliers: squared for small residuals, absolute for large ones.

    With ``r = z - y``: ``l = r²/2`` if ``|r| ≤ delta``, else ``delta·(|r| - delta/2)``;
    ``dZ = clip(Z - Y, -delta, delta) / (batch·n_out)``.

    Parameters
    ----------
    delta : float above 0, default 1.0
        The residual at which the loss becomes linear.

    Raises
    ------
    TypeError, ValueError
        If `delta` is not such a number, here or when it is set.

    References
    ----------
    P. J. Huber, "Robust estimation of a location parameter", Annals of Mathematical Statistics
    35, 1964.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Huber()(np.array([[0.5, 10.0]]), [[0.0, 0.0]])
    (4.8125, array([[0.25, 0.5 ]]))
    """

    validators = {"delta": checks.positive}
    _kernel = "huber"
    _settings = ("delta",)
    metric = R2

    def __init__(self, delta: float = 1.0) -> None:
        self.delta = delta


class PinballLoss(Elementwise):
    """Regression of quantiles, one for each output; also called quantile loss.

    ``l = max(q·(y - z), (q - 1)·(y - z))`` for an output and its quantile q; ``dZ`` is
    ``1 - q`` where z is above y, ``-q`` where it is below and 0 where they are equal, divided by
    ``batch·n_out``.  The best constant z is a number that a share q of the targets are below.

    Parameters
    ----------
    quantiles : float or sequence of float, default 0.5
        Between 0 and 1, both excluded.  Of a sequence each output has one, in any order, and
        targets of shape (rows,) or (rows, 1) are those of all outputs.  A single number is for all
        outputs, each with targets of its own.

    Raises
    ------
    TypeError, ValueError
        If `quantiles` are not such numbers, here or when they are set; in training if they are not
        as many as outputs.

    Notes
    -----
    The outputs are not forced to be in the order of their quantiles: sort them, as in
    ``np.sort(net.predict(X), axis=1)`` for ascending quantiles, which never makes the loss larger
    [2]_.  Targets and outputs of a standard deviation of about 1 are easiest to train.

    References
    ----------
    .. [1] R. Koenker, G. Bassett, "Regression quantiles", Econometrica 46, 1978.
    .. [2] V. Chernozhukov, I. Fernández-Val, A. Galichon, "Quantile and probability curves without
       crossing", Econometrica 78, 2010.

    Examples
    --------
    The quartiles of the same targets:

    >>> import fastbp as fb
    >>> fb.PinballLoss([0.25, 0.75])(np.array([[0.0, 4.0]]), [2.0])
    (0.5, array([[-0.125,  0.125]]))
    """

    validators = {"quantiles": kernels.losses.check_quantiles}
    _kernel = "pinball_loss"
    _settings = ("quantiles",)
    quantiles: float | tuple[float, ...]

    def __init__(self, quantiles: float | Sequence[float] = 0.5) -> None:
        self.quantiles = kernels.losses.check_quantiles("quantiles", quantiles)

    @property
    def operation(self) -> tuple[Any, ...]:  # type: ignore[override]  # as above
        return self._kernel, self.quantiles, math.inf

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """The checked targets; of one column they are repeated for each quantile of several."""
        if not isinstance(self.quantiles, tuple):
            return super().targets(y, n_out, dtype)
        if len(self.quantiles) != n_out:
            raise ValueError(f"loss: expected a quantile for each of the network's {n_out} "
                             f"outputs, got {len(self.quantiles)}, {self}; give the last layer "
                             f"as many outputs")
        array = checks.data("y", y)
        if array.ndim != 1 and array.shape[1:] != (1,):
            return super().targets(array, n_out, dtype)
        return np.repeat(super().targets(array, 1, dtype), n_out, axis=1)


class PoissonDeviance(Elementwise):
    """Regression of counts: half the Poisson deviance; the network returns log-rates.

    ``l = exp(z) - y - y·(z - log y)``, ``dZ = (exp(Z) - Y) / (batch·n_out)``.  Targets are at
    least 0.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.PoissonDeviance()(np.zeros((1, 1)), [[3.0]])[1]
    array([[-2.]])
    """

    _kernel = "poisson_deviance"
    metric = RateR2


class Scaled(Loss):
    """Another loss with its value and its gradient multiplied by factors.

    ``Scaled(SigmoidCrossEntropy(), n_out, n_out)`` sums over the outputs instead of averaging.

    Parameters
    ----------
    loss : Loss
    value, gradient : float above 0
        The factors.

    Raises
    ------
    TypeError, ValueError
        If `loss` is not a loss, or a factor is invalid.

    Examples
    --------
    >>> import fastbp as fb
    >>> loss = fb.losses.Scaled(fb.MeanSquaredError(), 0.5, 0.5)
    >>> loss(np.array([[3.0]]), [[1.0]])
    (2.0, array([[2.]]))
    """

    validators = {"value": checks.positive, "gradient": checks.positive}

    def __init__(self, loss: Loss, value: float, gradient: float) -> None:
        self.loss = checked_loss(loss)
        self.value = value
        self.gradient = gradient

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "loss" and "loss" in vars(self):
            raise AttributeError("Scaled.loss is read-only; make another Scaled")
        super().__setattr__(name, value)

    @property
    def metric(self) -> type[Metric] | None:  # type: ignore[override]  # that of the loss
        return self.loss.metric

    @property
    def operation(self) -> tuple[Any, ...] | None:  # type: ignore[override]  # as above
        operation = checks.compiled_form(self.loss)
        if operation is None or len(operation) > 3:  # it has factors already
            return None
        return *operation, self.value, self.gradient

    def __call__(self, Z: Floats, y: Array,
                 sample_weight: Array | None = None) -> tuple[float, Floats]:
        value, dZ = compute_loss(self.loss, Z, y, sample_weight)
        if self.gradient != 1:
            dZ = dZ * dZ.dtype.type(self.gradient)
        return value * self.value, dZ

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """As for the loss that is scaled."""
        return self.loss.targets(y, n_out, dtype)


def _like(Z: Array, name: str, value: ArrayLike) -> Array:
    """Targets or weights in the dtype of the output."""
    return np.asarray(checks.real_numbers(name, value), Z.dtype)
