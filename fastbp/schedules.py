"""Learning-rate schedules.

A schedule is a callable that maps the time in epochs to a learning rate.  The time is a float: 0 at
the first step, 2.5 halfway through the third epoch.  It can be any callable, such as
``SGD(learning_rate=lambda t: 0.1 / (1 + t))``.  The schedules here avoid the system's mathematics
library, whose last bits differ from system to system.

Examples
--------
>>> import fastbp as fb
>>> schedule = fb.schedules.Cosine(0.1, epochs=10)
>>> schedule(0), schedule(10)
(0.1, 0.0)
>>> optimizer = fb.SGD(schedule)
"""

from __future__ import annotations

import math

import numpy as np

from . import kernels
from .kernels import checks

__all__ = ["Constant", "Cosine", "Exponential", "InverseScaling", "Step"]


def _exp(x: float) -> float:
    return float(kernels.exp(np.float64(x)))


def _log(x: float) -> float:
    return float(kernels.log(np.float64(x)))


def _sin(x: float) -> float:
    """sin(x) for |x| ≤ π/2: its Taylor series up to x²¹, whose remainder is below 2⁻⁵²."""
    term = total = x
    for k in range(2, 22, 2):
        term *= -x * x / (k * (k + 1))
        total += term
    return total


class Schedule:
    """Base class of the schedules: the learning rate at the start, and a readable form.

    Parameters
    ----------
    learning_rate : float

    Raises
    ------
    TypeError, ValueError
        If it is not a finite number of at least 0.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.schedules.Step(0.1, every=5)
    Step(learning_rate=0.1, every=5.0, factor=0.1)
    """

    def __init__(self, learning_rate: float) -> None:
        self.learning_rate = checks.number("learning_rate", learning_rate, 0)

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Constant(Schedule):
    """The same learning rate at all times.

    Parameters
    ----------
    learning_rate : float

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.schedules.Constant(0.1)(7.5)
    0.1
    """

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in epochs."""
        return self.learning_rate


class Step(Schedule):
    """A learning rate that is multiplied by `factor` after every `every` epochs.

    Parameters
    ----------
    learning_rate : float
        The learning rate at the start.
    every : float above 0
        Epochs from one change to the next.
    factor : float, default 0.1

    Examples
    --------
    >>> import fastbp as fb
    >>> schedule = fb.schedules.Step(1.0, every=10, factor=0.5)
    >>> schedule(9.9), schedule(10), schedule(20)
    (1.0, 0.5, 0.25)
    """

    def __init__(self, learning_rate: float, every: float, factor: float = 0.1) -> None:
        super().__init__(learning_rate)
        self.every = checks.number("every", every, 0, low_open=True)
        self.factor = checks.number("factor", factor, 0)

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in epochs."""
        rate = self.learning_rate
        product, changes = 1.0, int(epoch // self.every)
        # Multiply repeatedly instead of calling C's pow, which differs between systems.  Stop once
        # the product no longer changes.
        while changes > 0 and product * self.factor != product:
            product *= self.factor
            changes -= 1
        return rate * product


class Exponential(Schedule):
    """``learning_rate · factor^epoch``, which changes at every step.

    Parameters
    ----------
    learning_rate : float
        The learning rate at the start.
    factor : float above 0
        Factor for each epoch.

    Examples
    --------
    >>> import fastbp as fb
    >>> round(fb.schedules.Exponential(0.1, factor=0.5)(2), 6)
    0.025
    """

    def __init__(self, learning_rate: float, factor: float) -> None:
        super().__init__(learning_rate)
        self.factor = checks.number("factor", factor, 0, low_open=True)

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in epochs."""
        return self.learning_rate * _exp(epoch * _log(self.factor))


class InverseScaling(Schedule):
    """``learning_rate / (1 + epoch)^power``.

    Parameters
    ----------
    learning_rate : float
        The learning rate at the start.
    power : float, default 0.5

    Examples
    --------
    >>> import fastbp as fb
    >>> round(fb.schedules.InverseScaling(0.1)(3), 6)
    0.05
    """

    def __init__(self, learning_rate: float, power: float = 0.5) -> None:
        super().__init__(learning_rate)
        self.power = checks.number("power", power, 0)

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in epochs."""
        return self.learning_rate * _exp(-self.power * _log(1.0 + epoch))


class Cosine(Schedule):
    """Half a cosine from `learning_rate` down to `final`, after a linear warm-up from 0.

    Parameters
    ----------
    learning_rate : float
        The highest learning rate.
    epochs : float above 0
        When `final` is reached; the learning rate is constant from then on.
    warm_up : float, default 0
        Epochs of warm-up, which are part of `epochs`.  The first step then has the learning rate
        0.
    final : float, default 0

    Raises
    ------
    ValueError
        If `warm_up` is not less than `epochs`.

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts",
    ICLR 2017.

    Examples
    --------
    >>> import fastbp as fb
    >>> schedule = fb.schedules.Cosine(0.1, epochs=11, warm_up=1)
    >>> [round(schedule(epoch), 6) for epoch in (0, 0.5, 1, 6, 11, 20)]
    [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, learning_rate: float, epochs: float, warm_up: float = 0.0,
                 final: float = 0.0) -> None:
        super().__init__(learning_rate)
        self.epochs = checks.number("epochs", epochs, 0, low_open=True)
        self.warm_up = checks.number("warm_up", warm_up, 0)
        if self.warm_up >= self.epochs:
            raise ValueError(f"warm_up: expected less than epochs={epochs}, got {warm_up}")
        self.final = checks.number("final", final, 0)

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in epochs."""
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        progress = min(1.0, (epoch - self.warm_up) / (self.epochs - self.warm_up))
        # (1 + cos πp) / 2 with cos πp = -sin(π(p - 1/2)), which rounding may take past 1
        share = max(0.0, (1.0 - _sin(math.pi * (progress - 0.5))) / 2)
        return self.final + (self.learning_rate - self.final) * share
