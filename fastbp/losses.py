"""Losses: small classes over the kernels.

A loss is called with the network's output and the targets, ``value, dZ = loss(Z, y)``,
and gives its mean over the batch and the gradient with respect to Z.
"""

import math
import reprlib

import numpy as np

from . import kernels
from .kernels import checks, ops
from .metrics import R2, Accuracy, BinaryAccuracy, RateR2

__all__ = [
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "PoissonDeviance",
    "SigmoidCrossEntropy",
    "SoftmaxCrossEntropy",
]


class Loss(checks.Validated):
    """Base class of all losses, and of your own: define ``__call__``.

    Attributes
    ----------
    metric : class or None
        The score that `fit` and `evaluate` report beside the loss (see
        `fastbp.metrics`).
    """

    metric = None
    operation = None  # what compiled steps run in its place; fastbp's own have one

    def __call__(self, Z, y, sample_weight=None):
        """The mean loss and its gradient.

        Parameters
        ----------
        Z : ndarray of shape (batch, n_out)
            What the network returned.
        y : ndarray
            Targets of the batch.
        sample_weight : ndarray of shape (batch,), optional
            How much each row counts.

        Returns
        -------
        value : float
        dZ : ndarray of shape (batch, n_out)
        """
        raise NotImplementedError(f"{type(self).__name__} needs __call__(Z, y, sample_weight)")

    def targets(self, y, n_out, dtype):
        """All of y, checked and in the form that ``__call__`` takes, before training.

        The default is numbers of shape (rows, n_out) in the network's dtype; (rows,) will
        do where n_out is 1.

        Parameters
        ----------
        y : array_like
        n_out : int
            Columns of the network's output.
        dtype : numpy.dtype
            The network's.

        Raises
        ------
        TypeError
            If y is not made of real numbers.
        ValueError
            If its shape does not fit, or a value is NaN, infinite or out of range.
        """
        y = checks.data("y", y)
        if y.ndim == 1 and n_out == 1:
            y = y[:, None]
        checks.shape("y", y, (None, n_out), "for the network's outputs")
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(y, dtype)
        checks.finite("y", converted)
        return converted

    @reprlib.recursive_repr()
    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


def _cap(name, value):
    return None if value is None else checks.positive(name, value)


class SoftmaxCrossEntropy(Loss):
    """Classification into one of n_out classes; the network returns scores (logits).

    ``l = log Σⱼ exp(zⱼ) - Σⱼ tⱼ·zⱼ`` for a row, ``dZ = (softmax(Z) - T) / batch``.  Targets
    are labels 0 … n_out - 1, or rows of probabilities.

    Parameters
    ----------
    label_smoothing : float in [0, 1), default 0.0
        ``T = (1 - label_smoothing)·onehot(y) + label_smoothing / n_out``.
    cap : float above 0, optional
        What a row counts at most in the value; the gradient knows nothing of it.
    """

    validators = {"label_smoothing": checks.fraction, "cap": _cap}
    metric = Accuracy

    def __init__(self, label_smoothing=0.0, cap=None):
        self.label_smoothing = label_smoothing
        self.cap = cap

    @property
    def operation(self):
        return "softmax_cross_entropy", self.label_smoothing, self.cap or math.inf

    def __call__(self, Z, y, sample_weight=None):
        y = checks.real_numbers("y", y)
        targets = y if y.ndim == 1 else _like(Z, "y", y)
        weights = _like(Z, "sample_weight", sample_weight)
        return kernels.softmax_cross_entropy(Z, targets, weights,
                                             label_smoothing=self.label_smoothing, cap=self.cap)

    def targets(self, y, n_out, dtype):
        y = checks.data("y", y)
        if y.ndim == 1:
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
        hint = "; for labels use y.ravel()" if y.ndim == 2 and y.shape[1] == 1 else ""
        checks.shape("y", y, (None, n_out), "for probabilities, or labels of one dimension", hint)
        with np.errstate(over="ignore"):
            wrong = (y < 0).any(axis=1) | ~(abs(y.sum(axis=1) - 1) <= 1e-3)
        if wrong.any():
            i = int(np.argmax(wrong))
            raise ValueError(f"y: expected labels of one dimension, or rows of probabilities "
                             f"that add up to 1, got {y[i]} in row {i}")
        return np.ascontiguousarray(y, dtype)


class Elementwise(Loss):
    """Base class of losses that are a mean over outputs: `name` is their row's in ops.def."""

    name = ""

    @property
    def operation(self):
        cap = getattr(self, "cap", None) or math.inf
        return self.name, getattr(self, "delta", 0.0), cap

    def __call__(self, Z, y, sample_weight=None):
        settings = {name: vars(self)[name] for name in ("delta", "cap") if name in vars(self)}
        kernel = getattr(kernels, self.name)
        return kernel(Z, _like(Z, "y", y), _like(Z, "sample_weight", sample_weight), **settings)

    def targets(self, y, n_out, dtype):
        targets = super().targets(y, n_out, dtype)
        kernels.losses.check_targets(ops.LOSSES[self.name], targets)
        return targets


class SigmoidCrossEntropy(Elementwise):
    """Yes or no for each output on its own: binary and multi-label classification.

    ``l = log(1 + exp(z)) - y·z`` for an output, ``dZ = (sigmoid(Z) - Y) / (batch·n_out)``.
    The network returns scores (logits); targets are between 0 and 1.

    Parameters
    ----------
    cap : float above 0, optional
        What an output counts at most in the value; the gradient knows nothing of it.
    """

    validators = {"cap": _cap}
    name = "sigmoid_cross_entropy"
    metric = BinaryAccuracy

    def __init__(self, cap=None):
        self.cap = cap


class MeanSquaredError(Elementwise):
    """Regression: ``l = (z - y)²``, ``dZ = 2·(Z - Y) / (batch·n_out)``."""

    name = "mean_squared_error"
    metric = R2


class MeanAbsoluteError(Elementwise):
    """Regression to the median: ``l = |z - y|``, ``dZ = sign(Z - Y) / (batch·n_out)``."""

    name = "mean_absolute_error"
    metric = R2


class Huber(Elementwise):
    """Regression that outliers pull on less: squared near 0, absolute beyond `delta`.

    With ``r = z - y``: ``l = r²/2`` where ``|r| ≤ delta``, else ``delta·(|r| - delta/2)``;
    ``dZ = clip(Z - Y, -delta, delta) / (batch·n_out)``.

    Parameters
    ----------
    delta : float above 0, default 1.0
    """

    validators = {"delta": checks.positive}
    name = "huber"
    metric = R2

    def __init__(self, delta=1.0):
        self.delta = delta


class PoissonDeviance(Elementwise):
    """Regression of counts: half their Poisson deviance; the network returns log-rates.

    ``l = exp(z) - y - y·(z - log y)`` for a target of at least 0,
    ``dZ = (exp(Z) - Y) / (batch·n_out)``.
    """

    name = "poisson_deviance"
    metric = RateR2


class Scaled(Loss):
    """Another loss by another convention: its value and its gradient, each times a factor.

    ``Scaled(SigmoidCrossEntropy(), n_out, n_out)`` is a sum over the outputs rather than
    their mean.

    Parameters
    ----------
    loss : Loss
    value, gradient : float above 0
    """

    validators = {"value": checks.positive, "gradient": checks.positive}

    def __init__(self, loss, value, gradient):
        self.loss = checked_loss(loss)
        self.value = value
        self.gradient = gradient

    def __setattr__(self, name, value):
        if name == "loss" and "loss" in vars(self):
            raise AttributeError("Scaled.loss is read-only; make another Scaled")
        super().__setattr__(name, value)

    @property
    def metric(self):
        return self.loss.metric

    @property
    def operation(self):
        operation = checks.compiled_form(self.loss)
        if operation is None or isinstance(self.loss, Scaled):
            return None
        return *operation, self.value, self.gradient

    def __call__(self, Z, y, sample_weight=None):
        value, dZ = compute_loss(self.loss, Z, y, sample_weight)
        if self.gradient != 1:
            dZ = dZ * dZ.dtype.type(self.gradient)
        return value * self.value, dZ

    def targets(self, y, n_out, dtype):
        return self.loss.targets(y, n_out, dtype)


def compute_loss(loss, Z, y, sample_weight=None):
    """What a loss gives for a batch; that of a loss of the user's own is checked.

    Parameters
    ----------
    loss : Loss
    Z : ndarray of shape (batch, n_out)
    y : ndarray
        As `Loss.targets` returned it.
    sample_weight : ndarray of shape (batch,), optional

    Returns
    -------
    value : float
    dZ : ndarray of shape (batch, n_out)

    Raises
    ------
    TypeError, ValueError
        If ``loss(Z, y, sample_weight)`` is no pair of a real number, which may be infinite or
        NaN, and an array of Z's shape and dtype.
    """
    if checks.compiled_form(loss) is not None:
        return loss(Z, y, sample_weight)
    arrays = [checks.read_only(each) if isinstance(each, np.ndarray) else each
              for each in (Z, y, sample_weight)]
    result = loss(*arrays)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise TypeError(f"loss {loss!r} returned {_shown(result)}; expected a pair (value, dZ)")
    value, dZ = result
    try:
        if isinstance(value, str | bytes) or np.ndim(value) != 0 or np.iscomplexobj(value):
            raise TypeError
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"loss {loss!r} returned {_shown(value)} as its value; expected a real "
                        f"number") from None
    checks.returned(f"loss {loss!r}", "dZ", dZ, Z.shape, Z.dtype)
    return value, dZ


def _shown(value):
    """A value for a message: arrays and sequences by their size."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)


def checked_loss(loss):
    """`loss`, if it is one.

    Raises
    ------
    TypeError
        If it is anything else, such as the class.
    """
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss: expected a loss, got the class {loss.__name__}; "
                        f"make one: {loss.__name__}()")
    if not isinstance(loss, Loss):
        raise TypeError(f"loss: expected a Loss such as SoftmaxCrossEntropy(), got {loss!r}")
    return loss


def _like(Z, name, value):
    """Targets and weights follow the output's dtype."""
    return None if value is None else np.asarray(checks.real_numbers(name, value), Z.dtype)
