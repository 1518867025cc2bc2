"""Learning-rate schedules.

A schedule is a callable of the time in epochs, a float: 0 at the first step, 2.5 half-way
through the third epoch.  Any callable will do; ``SGD(learning_rate=lambda t: 0.1 / (1 + t))``
is one.  Those here use no function of the system's mathematics library, which would give
other bits on another system.
"""

import math

import numpy as np

from . import kernels
from .kernels import checks

__all__ = ["Constant", "Cosine", "Exponential", "InverseScaling", "Step"]


def _exp(x):
    return float(kernels.exp(np.float64(x)))


def _log(x):
    return float(kernels.log(np.float64(x)))


def _sin(x):
    """sin(x) for |x| ≤ π/2: its Taylor series to x²¹, which leaves less than 2⁻⁵²."""
    term = total = x
    for k in range(2, 22, 2):
        term *= -x * x / (k * (k + 1))
        total += term
    return total


class Schedule:
    """Base class: the learning rate at the start, and a readable form."""

    def __init__(self, learning_rate):
        self.learning_rate = checks.number("learning_rate", learning_rate, 0)

    def __repr__(self):
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Constant(Schedule):
    """The same rate all the time.

    Parameters
    ----------
    learning_rate : float
    """

    def __call__(self, epoch):
        return self.learning_rate


class Step(Schedule):
    """Multiplied by `factor` after every `every` epochs.

    Parameters
    ----------
    learning_rate : float
        The rate at the start.
    every : float
        Epochs between two changes.
    factor : float, default 0.1
    """

    def __init__(self, learning_rate, every, factor=0.1):
        super().__init__(learning_rate)
        self.every = checks.number("every", every, 0, low_open=True)
        self.factor = checks.number("factor", factor, 0)

    def __call__(self, epoch):
        rate = self.learning_rate
        product, changes = 1.0, int(epoch // self.every)
        # One after the other, as C's pow differs between systems; and no longer than it changes.
        while changes > 0 and product * self.factor != product:
            product *= self.factor
            changes -= 1
        return rate * product


class Exponential(Schedule):
    """``learning_rate · factor^epoch``, changing at every step.

    Parameters
    ----------
    learning_rate : float
        The rate at the start.
    factor : float above 0
        What an epoch multiplies the rate by.
    """

    def __init__(self, learning_rate, factor):
        super().__init__(learning_rate)
        self.factor = checks.number("factor", factor, 0, low_open=True)

    def __call__(self, epoch):
        return self.learning_rate * _exp(epoch * _log(self.factor))


class InverseScaling(Schedule):
    """``learning_rate / (1 + epoch)^power``.

    Parameters
    ----------
    learning_rate : float
        The rate at the start.
    power : float, default 0.5
    """

    def __init__(self, learning_rate, power=0.5):
        super().__init__(learning_rate)
        self.power = checks.number("power", power, 0)

    def __call__(self, epoch):
        return self.learning_rate * _exp(-self.power * _log(1.0 + epoch))


class Cosine(Schedule):
    """Half a cosine from `learning_rate` down to `final`, after a linear warm-up from 0.

    Parameters
    ----------
    learning_rate : float
        The highest rate.
    epochs : float
        When `final` is reached; it stays from there on.
    warm_up : float, default 0
        Epochs of warm-up, part of `epochs`.  The first step then has the rate 0.
    final : float, default 0

    References
    ----------
    I. Loshchilov, F. Hutter, "SGDR: stochastic gradient descent with warm restarts",
    ICLR 2017.
    """

    def __init__(self, learning_rate, epochs, warm_up=0.0, final=0.0):
        super().__init__(learning_rate)
        self.epochs = checks.number("epochs", epochs, 0, low_open=True)
        self.warm_up = checks.number("warm_up", warm_up, 0)
        if self.warm_up >= self.epochs:
            raise ValueError(f"warm_up: expected less than epochs={epochs}, got {warm_up}")
        self.final = checks.number("final", final, 0)

    def __call__(self, epoch):
        if epoch < self.warm_up:
            return self.learning_rate * epoch / self.warm_up
        progress = min(1.0, (epoch - self.warm_up) / (self.epochs - self.warm_up))
        # (1 + cos πp) / 2, and cos πp = -sin(π(p - 1/2)), which rounding may take past 1
        share = max(0.0, (1.0 - _sin(math.pi * (progress - 0.5))) / 2)
        return self.final + (self.learning_rate - self.final) * share
