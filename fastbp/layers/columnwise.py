"""Layers with a parameter for each column: their base class, and PReLU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels import checks
from .base import Layer

if TYPE_CHECKING:
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = ["PReLU"]


class Columnwise(Layer):
    """Base class of layers with one parameter or more for each of `n` columns.

    They return as many columns as they take.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.LayerNorm(3).n
    3
    """

    n_in: int
    n_out: int

    @property
    def n(self) -> int:
        """The number of columns."""
        return self.n_in


class PReLU(Columnwise):
    """Leaky ReLU with a learned slope for each column: ``A = Z`` if Z > 0, else ``slope·Z``.

    Parameters
    ----------
    n : int
        Number of columns.
    initial_slope : float, default 0.25
        Initial value of all slopes.

    Attributes
    ----------
    slope, dslope : ndarray of shape (n,)
        The slopes and their gradient.

    Raises
    ------
    TypeError, ValueError
        If an argument is not a number, or out of range.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.PReLU(2)])
    >>> net.layers[0].slope[1] = 0.5
    >>> net.predict([[-1.0, -1.0], [1.0, 1.0]])
    array([[-0.25, -0.5 ],
           [ 1.  ,  1.  ]], dtype=float32)
    """

    validators = Layer.validators | {"initial_slope": checks.number}
    slope: ArrayAttribute
    dslope: ArrayAttribute

    def __init__(self, n: int, initial_slope: float = 0.25) -> None:
        n = checks.integer("n", n, 1)
        super().__init__(n, slope=(n,))
        self.initial_slope = initial_slope

    def initialize(self, rng: np.random.Generator) -> None:
        self.slope = self.initial_slope

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("prelu", x, builder.parameter(self, "slope"))
        return z
