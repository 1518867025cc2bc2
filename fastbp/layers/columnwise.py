"""Layers with a parameter for each column: their base class, and PReLU."""

from ..kernels import checks
from .base import Layer

__all__ = ["PReLU"]


class Columnwise(Layer):
    """Base class of layers with a parameter for each of `n` columns, as many as they return."""

    @property
    def n(self):
        """Columns."""
        return self.n_in


class PReLU(Columnwise):
    """Leaky ReLU whose slope for negative input is learned, a slope for each column.

    ``A = Z`` where Z > 0, ``slope·Z`` elsewhere.

    Parameters
    ----------
    n : int
        Columns.
    initial_slope : float, default 0.25

    Attributes
    ----------
    slope, dslope : ndarray of shape (n,)

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.
    """

    validators = Layer.validators | {"initial_slope": checks.number}

    def __init__(self, n, initial_slope=0.25):
        n = checks.integer("n", n, 1)
        super().__init__(n, slope=(n,))
        self.initial_slope = initial_slope

    def initialize(self, rng):
        self.slope = self.initial_slope

    def lower(self, builder, x):
        return builder.op("prelu", x, builder.parameter(self, "slope"))
