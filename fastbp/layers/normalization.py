"""Normalization of rows and of columns."""

from ..kernels import checks
from .base import Layer
from .columnwise import Columnwise

__all__ = [
    "BatchNorm",
    "LayerNorm",
    "RMSNorm",
]


class LayerNorm(Columnwise):
    """Normalise each row, then scale and shift the columns: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``, with the mean and the variance of the row.

    Parameters
    ----------
    n : int
        Columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.
    beta, dbeta : ndarray of shape (n,)
        0 in the beginning.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450.
    """

    validators = Layer.validators | {"epsilon": checks.positive}

    def __init__(self, n, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1

    def lower(self, builder, x):
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=1.0)
        return builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                          builder.parameter(self, "beta"))


class RMSNorm(Columnwise):
    """Divide each row by its root mean square, then scale the columns: ``Z = N·gamma``.

    ``N = X / √(mean(X²) + epsilon)``.

    Parameters
    ----------
    n : int
        Columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.

    References
    ----------
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """

    validators = Layer.validators | {"epsilon": checks.positive}

    def __init__(self, n, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,))
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1

    def lower(self, builder, x):
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=0.0)
        return builder.op("scale", normal, builder.parameter(self, "gamma"), gradient=0.0)


class BatchNorm(Columnwise):
    """Normalise each column over the minibatch, then scale and shift it: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``.  In training these are the minibatch's, and move
    running ones towards them; prediction goes by those, so a row's output does not depend on the
    rows around it.

    Parameters
    ----------
    n : int
        Columns.
    momentum : float in [0, 1], default 0.1
        How much of a minibatch goes into the running statistics:
        ``running = (1 - momentum)·running + momentum·minibatch``.  The variance is that of the
        population (a sum divided by rows - 1) there; a minibatch of one row leaves it alone.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.
    beta, dbeta : ndarray of shape (n,)
        0 in the beginning.
    mean, variance : ndarray of shape (n,)
        The running statistics, buffers: saved, but not trained.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.
    """

    validators = Layer.validators | {
        "epsilon": checks.positive,
        "momentum": lambda name, value: checks.number(name, value, 0, 1),
    }

    def __init__(self, n, momentum=0.1, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.add_buffers(mean=(n,), variance=(n,))
        self.momentum = momentum
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1
        self.variance = 1

    def lower(self, builder, x):
        running = [builder.buffer(self, name) for name in ("mean", "variance")]
        mean, variance = builder.op("column_moments", x) if builder.training else running
        rstd = builder.op("inverse_sqrt", variance, epsilon=self.epsilon)
        normal = builder.op("normalize_columns", x, mean, rstd)
        if builder.training:
            for value, average in zip((mean, variance), running, strict=True):
                builder.after_step(f"running_{average.owner[1]}", value, out=average,
                                   momentum=self.momentum)
        return builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                          builder.parameter(self, "beta"))
