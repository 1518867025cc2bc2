"""Dense layers, and dropout between them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import initializers
from ..kernels import checks
from .base import Layer

if TYPE_CHECKING:
    from ..initializers import Initializer
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = ["Dense", "Dropout"]


class Dense(Layer):
    """Affine map of each row: ``Z = X·W + b``.

    Parameters
    ----------
    n_in, n_out : int
        Columns of the input and the output.
    init : str or callable, default "he_uniform"
        Initial weights: ``"he_uniform"``, ``"he_normal"``, ``"glorot_uniform"``,
        ``"glorot_normal"``, or a callable ``(rng, n_in, n_out) -> (n_in, n_out) array``.
        The biases are initially 0.

    Attributes
    ----------
    W, dW : ndarray of shape (n_in, n_out)
        The weights and their gradient.
    b, db : ndarray of shape (n_out,)
        The biases and their gradient.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or `init` is not an initializer.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Dense(2, 1)], seed=0)
    >>> net.layers[0].W = [[2], [3]]
    >>> net.layers[0].b = 1
    >>> net.predict([[10.0, 100.0]])
    array([[321.]], dtype=float32)
    """

    n_in: int
    n_out: int
    W: ArrayAttribute
    dW: ArrayAttribute
    b: ArrayAttribute
    db: ArrayAttribute

    def __init__(self, n_in: int, n_out: int, init: str | Initializer = "he_uniform") -> None:
        n_in = checks.integer("n_in", n_in, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(n_in, n_out, W=(n_in, n_out), b=(n_out,))
        initializers.get(init)
        self.init = init

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("dense", x, builder.parameter(self, "W"),
                              builder.parameter(self, "b"))
        return z

    def initialize(self, rng: np.random.Generator) -> None:
        weights = initializers.get(self.init)(rng, self.n_in, self.n_out)
        weights = checks.data("init", weights)
        checks.shape("init", weights, self.parameter_shapes["W"], "from the callable")
        self.W = weights
        self.b = 0

    def config(self) -> dict[str, Any]:
        """`Layer.config` without a callable `init`, which is no longer needed."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config


class Dropout(Layer):
    """In training, zero each input with probability `rate` and scale the others up.

    The others are multiplied by ``1 / (1 - rate)``.  In prediction the layer does nothing.

    Parameters
    ----------
    rate : float in [0, 1)

    Raises
    ------
    TypeError, ValueError
        If `rate` is not a number in [0, 1).

    Notes
    -----
    The mask is a function of the seed, the layer's path, the step and the index of the element
    (`fastbp.kernels.dropout`), so the backward pass computes it again instead of storing it.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov, "Dropout: a simple way
    to prevent neural networks from overfitting", JMLR 15, 2014.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Dense(4, 32), fb.ReLU(), fb.Dropout(0.5), fb.Dense(32, 2)])
    """

    validators = Layer.validators | {
        "rate": checks.fraction,
        "key": lambda name, value: checks.integer(name, value, 0, 2**64 - 1),
        "step": lambda name, value: checks.integer(name, value, 0, 2**62),
    }

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def lower(self, builder: Builder, x: Value) -> Value:
        if not builder.training:
            return x
        z: Value = builder.op("dropout", x, layer=self, rate=self.rate)
        return z
