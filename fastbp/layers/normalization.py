"""Normalization of each row, or of each column over the minibatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels import checks
from .base import Layer
from .columnwise import Columnwise

if TYPE_CHECKING:
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = [
    "BatchNorm",
    "LayerNorm",
    "RMSNorm",
]


class LayerNorm(Columnwise):
    """Normalize each row, then scale and shift the columns: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``, with the mean and variance of the row.

    Parameters
    ----------
    n : int
        Number of columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        Initially 1.
    beta, dbeta : ndarray of shape (n,)
        Initially 0.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number, or out of range.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Sequential([fb.LayerNorm(3)]).predict([[1.0, 2.0, 3.0]]).round(3)
    array([[-1.225,  0.   ,  1.225]], dtype=float32)
    """

    validators = Layer.validators | {"epsilon": checks.positive}
    gamma: ArrayAttribute
    dgamma: ArrayAttribute
    beta: ArrayAttribute
    dbeta: ArrayAttribute

    def __init__(self, n: int, epsilon: float = 1e-5) -> None:
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.epsilon = epsilon

    def initialize(self, rng: np.random.Generator) -> None:
        self.gamma = 1

    def lower(self, builder: Builder, x: Value) -> Value:
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=1.0)
        z: Value = builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                              builder.parameter(self, "beta"))
        return z


class RMSNorm(Columnwise):
    """Divide each row by its root mean square, then scale the columns: ``Z = N·gamma``.

    ``N = X / √(mean(X²) + epsilon)``.

    Parameters
    ----------
    n : int
        Number of columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        Initially 1.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number, or out of range.

    References
    ----------
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Sequential([fb.RMSNorm(2)]).predict([[1.0, 7.0]]).round(3)
    array([[0.2, 1.4]], dtype=float32)
    """

    validators = Layer.validators | {"epsilon": checks.positive}
    gamma: ArrayAttribute
    dgamma: ArrayAttribute

    def __init__(self, n: int, epsilon: float = 1e-5) -> None:
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,))
        self.epsilon = epsilon

    def initialize(self, rng: np.random.Generator) -> None:
        self.gamma = 1

    def lower(self, builder: Builder, x: Value) -> Value:
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=0.0)
        z: Value = builder.op("scale", normal, builder.parameter(self, "gamma"), gradient=0.0)
        return z


class BatchNorm(Columnwise):
    """Normalize each column over the minibatch, then scale and shift it: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``.  In training, the mean and variance are those of
    the minibatch, and running averages of them are kept; prediction uses the running averages, so
    the output for a row does not depend on the other rows.

    Parameters
    ----------
    n : int
        Number of columns.
    momentum : float in [0, 1], default 0.1
        Weight of the minibatch in the running averages:
        ``running = (1 - momentum)·running + momentum·minibatch``.  The minibatch's variance enters
        as the unbiased estimate, a sum divided by rows - 1; a minibatch of one row has none and
        leaves the running variance unchanged.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        Initially 1.
    beta, dbeta : ndarray of shape (n,)
        Initially 0.
    mean, variance : ndarray of shape (n,)
        The running averages, which are buffers: saved, but not trained.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number, or out of range.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.

    Examples
    --------
    Prediction uses the running averages, initially 0 and 1:

    >>> import fastbp as fb
    >>> norm = fb.BatchNorm(1, epsilon=1e-7)
    >>> net = fb.Sequential([norm])
    >>> net.predict([[3.0], [5.0]])
    array([[3.],
           [5.]], dtype=float32)
    >>> norm.mean, norm.variance = 4, 4
    >>> net.predict([[3.0], [5.0]])
    array([[-0.5],
           [ 0.5]], dtype=float32)
    """

    validators = Layer.validators | {
        "epsilon": checks.positive,
        "momentum": lambda name, value: checks.number(name, value, 0, 1),
    }
    gamma: ArrayAttribute
    dgamma: ArrayAttribute
    beta: ArrayAttribute
    dbeta: ArrayAttribute
    mean: ArrayAttribute
    variance: ArrayAttribute

    def __init__(self, n: int, momentum: float = 0.1, epsilon: float = 1e-5) -> None:
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.add_buffers(mean=(n,), variance=(n,))
        self.momentum = momentum
        self.epsilon = epsilon

    def initialize(self, rng: np.random.Generator) -> None:
        self.gamma = 1
        self.variance = 1

    def lower(self, builder: Builder, x: Value) -> Value:
        names = "mean", "variance"
        running = [builder.buffer(self, name) for name in names]
        mean, variance = builder.op("column_moments", x) if builder.training else running
        rstd = builder.op("inverse_sqrt", variance, epsilon=self.epsilon)
        normal = builder.op("normalize_columns", x, mean, rstd)
        if builder.training:
            for name, value, average in zip(names, (mean, variance), running, strict=True):
                builder.after_step(f"running_{name}", value, out=average, momentum=self.momentum)
        z: Value = builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                              builder.parameter(self, "beta"))
        return z
