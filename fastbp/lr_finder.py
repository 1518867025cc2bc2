"""A learning rate for a network and an optimizer: the range test of Smith [1]_.

References
----------
.. [1] L. N. Smith, "Cyclical learning rates for training neural networks", WACV 2017.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from . import kernels, optimizers, plot
from .callbacks import Callback
from .kernels import checks
from .training import Dataset

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from .kernels.types import Array, Doubles
    from .losses import Loss
    from .network import Sequential
    from .optimizers import Optimizer
    from .training import Training

__all__ = ["LearningRateTest", "lr_finder"]

# The suggestion is the rate at which the loss is lowest, divided by this: at that rate itself, and
# in more steps than the test makes with it, training is about to diverge.
MARGIN = 4


@dataclass(frozen=True, eq=False)
class LearningRateTest:
    """What `lr_finder` returns.

    Attributes
    ----------
    rates : ndarray of shape (steps,), float64
        The learning rate of each step, up to the one at which training diverged.  Steps whose rows
        all have a weight of 0 are left out.
    losses : ndarray of shape (steps,), float64
        The loss of each minibatch before its step.
    smoothed : ndarray of shape (smoothed steps,), float64
        Their course without the differences between minibatches, up to where it has risen again.
    suggestion : float or None
        A learning rate to begin with; None if the loss did not fall.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("train")
    >>> fb.lr_finder(fb.mlp([64, 64, 10], seed=0), X, y, loss=fb.SoftmaxCrossEntropy(), steps=100)
    LearningRateTest(suggestion=0.0116; 100 steps from 1e-06 to 10)
    """

    rates: Doubles
    losses: Doubles
    smoothed: Doubles
    suggestion: float | None

    def plot(self, ax: Axes | None = None) -> Figure:
        """Plot the loss over the learning rate: `fastbp.plot.learning_rates`.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional

        Returns
        -------
        matplotlib.figure.Figure
        """
        return plot.learning_rates(self, ax)

    def __repr__(self) -> str:
        found = ("None, as the loss did not fall" if self.suggestion is None
                 else f"{self.suggestion:.3g}")
        return (f"LearningRateTest(suggestion={found}; {len(self.rates)} steps from "
                f"{self.rates[0]:.3g} to {self.rates[-1]:.3g})")


class _Recorder(Callback):
    """Keeps the losses of all steps, also of an epoch that does not end."""

    def __init__(self) -> None:
        self.training: Training | None = None
        self.epochs: list[Doubles] = []

    def on_train_begin(self, training: Training) -> None:
        self.training = training

    def on_epoch_end(self, training: Training) -> None:
        assert training.sums is not None
        self.epochs.append(training.sums.step_stats.copy())

    def losses(self, steps: int) -> tuple[Array, Doubles]:
        """Which of the first steps have a finite loss, until one has not, and these losses.

        Minibatches whose rows all have a weight of 0 have no loss; the weight of steps that were
        not made is 0 too.
        """
        epochs = list(self.epochs)
        assert self.training is not None
        if self.training.epoch == len(epochs) and self.training.sums is not None:
            epochs.append(self.training.sums.step_stats)  # of the epoch in which it diverged
        found = np.concatenate(epochs)[:steps]
        weighted = found[:, 2] > 0
        diverged = np.logical_or.accumulate(weighted & ~np.isfinite(found[:, 0]))
        counted = np.flatnonzero(weighted & ~diverged)
        return counted, found[counted, 0]


class _Rates:
    """The schedule of the test: a rate for each step."""

    def __init__(self, rates: Doubles, steps_per_epoch: int) -> None:
        self.rates, self.steps_per_epoch = rates, steps_per_epoch

    def __call__(self, epoch: float) -> float:
        step = round(epoch * self.steps_per_epoch)
        return float(self.rates[min(step, len(self.rates) - 1)])


def lr_finder(
    net: Sequential,
    X: ArrayLike,
    y: ArrayLike,
    *,
    loss: Loss,
    optimizer: Optimizer | None = None,
    sample_weight: ArrayLike | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 200,
    batch_size: int = 32,
    l2: float = 0.0,
    seed: int = 0,
) -> LearningRateTest:
    """Find a learning rate: train a copy of a network with rates that rise from step to step.

    The network, its optimizer and the layers' random numbers stay as they are, and the same
    arguments give the same result.  As the rate rises, by the same factor at each step, the loss
    hardly falls at first, then falls, and in the end rises.  The suggestion is a quarter of the
    rate at which it is lowest.  For that the losses are smoothed, after the loss of the untrained
    network on the same minibatch, with the same dropout, was subtracted from each, so that it does
    not matter which minibatches are hard.

    Parameters
    ----------
    net : Sequential
        As it is to be trained: usually one that is not trained yet.
    X : array_like of shape (rows, n_in)
    y : array_like
        Targets, as `loss` takes them.
    loss : Loss
    optimizer : Optimizer, default Adam()
        A copy is used, without its state; its learning rate does not matter.  Groups with a rate
        of their own keep that.
    sample_weight : array_like of shape (rows,), optional
    low, high : float, default 1e-6 and 10
        The first and the last rate.
    steps : int, default 200
        How many minibatches are taken, at most; the test ends when training diverges.
    batch_size : int, default 32
        As for `fit`: the rate that suits depends on it.
    l2 : float, default 0.0
        As for `fit`.
    seed : int, default 0
        Of the choice of rows and of dropout.

    Returns
    -------
    LearningRateTest

    Raises
    ------
    TypeError, ValueError
        If an argument is invalid; the message names it.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("train")
    >>> net, loss = fb.mlp([64, 64, 10], seed=0), fb.SoftmaxCrossEntropy()
    >>> test = fb.lr_finder(net, X, y, loss=loss, optimizer=fb.SGD(momentum=0.9))
    >>> round(test.suggestion, 2)
    0.11
    >>> history = net.fit(X, y, loss=loss, optimizer=fb.SGD(test.suggestion, momentum=0.9), seed=0)
    >>> history["accuracy"][-1] > 0.95
    True
    """
    optimizer = optimizers.Adam() if optimizer is None else optimizer
    if not isinstance(optimizer, optimizers.Optimizer):
        raise TypeError(f"optimizer: expected an Optimizer such as Adam(), got {optimizer!r}")
    if not hasattr(net, "checked_rows"):
        raise TypeError(f"net: expected a network, a Sequential, got {type(net).__name__}")
    low, high = checks.positive("low", low), checks.positive("high", high)
    if not low < high:
        raise ValueError(f"low, high: expected a low rate below the high one, got {low:g} and "
                         f"{high:g}")
    steps = checks.integer("steps", steps, 10)
    batch_size = checks.integer("batch_size", batch_size, 1)
    seed = checks.integer("seed", seed, 0)
    data = Dataset(net, X, y, loss, sample_weight)

    # Equal ratios, by exp and log that are the same on every machine.
    ends = kernels.log(np.array([low, high]))
    rates: Doubles = kernels.exp(np.linspace(ends[0], ends[1], steps)).astype(np.float64)
    n_rows = min(len(data), steps * batch_size)
    rows = np.random.default_rng(seed).permutation(len(data))[:n_rows]
    targets, weights = data.targets_of(rows)
    per_epoch = -(-n_rows // batch_size)

    def losses(by: Optimizer) -> tuple[Array, Doubles]:
        """Steps that a copy of the network makes, and their losses."""
        trial, recorder = copy.deepcopy(net), _Recorder()
        with contextlib.suppress(FloatingPointError):  # to diverge is how a test ends
            trial.fit(data.X[rows], targets, loss=loss, optimizer=by,
                      epochs=-(-steps // per_epoch), batch_size=batch_size, sample_weight=weights,
                      l2=l2, callbacks=[recorder], seed=seed)
        return recorder.losses(steps)

    tested = copy.copy(optimizer)
    tested.learning_rate = _Rates(rates, per_epoch)
    made, found = losses(tested)
    _, untrained = losses(optimizers.SGD(0.0))  # has no groups, whose own rates would train
    if not len(found):
        raise ValueError(f"low: expected a rate at which a first step can be made, got {low:g}; "
                         f"check the values of X, y and sample_weight")
    rates = rates[made]
    smoothed, suggestion = _analysis(rates, found, untrained[: len(found)])
    return LearningRateTest(rates, found, smoothed, suggestion)


def _analysis(rates: Doubles, losses: Doubles, untrained: Doubles) -> tuple[Doubles, float | None]:
    """The smoothed losses, up to where they have risen, and the suggested rate.

    How hard a minibatch is, which differs more from one to the next than what a step changes, is
    known from the same network before training: what counts is the difference.
    """
    level = float(np.mean(untrained))
    # Losses far above that have no say in means with those before them.
    change = np.minimum(losses - untrained, 2 * abs(level))
    half = max(1, len(losses) // 20)
    padded = np.concatenate([np.zeros(half), change, np.full(half, change[-1])])
    sums = np.concatenate([[0.0], np.cumsum(padded)])
    smoothed = level + (sums[2 * half + 1 :] - sums[: -2 * half - 1]) / (2 * half + 1)
    lowest = np.minimum.accumulate(smoothed)
    risen = smoothed > lowest + np.maximum(level - lowest, 0.1 * abs(level))
    smoothed = smoothed[: max(1, int(np.argmax(risen)))] if risen.any() else smoothed
    best = int(np.argmin(smoothed))
    if not smoothed[best] < level - 0.01 * abs(level):
        return smoothed, None
    return smoothed, float(rates[best]) / MARGIN
