"""Dense layers, and dropout between them."""

from .. import initializers
from ..kernels import checks
from .base import Layer

__all__ = ["Dense", "Dropout"]


class Dense(Layer):
    """Affine map of every row: ``Z = X·W + b``.

    Parameters
    ----------
    n_in, n_out : int
    init : str or callable, default "he_uniform"
        Initial weights: ``"he_uniform"``, ``"he_normal"``, ``"glorot_uniform"``,
        ``"glorot_normal"``, or a callable ``(rng, n_in, n_out) -> (n_in, n_out) array``.
        The bias starts at 0.

    Attributes
    ----------
    W, dW : ndarray of shape (n_in, n_out)
    b, db : ndarray of shape (n_out,)
    """

    def __init__(self, n_in, n_out, init="he_uniform"):
        n_in = checks.integer("n_in", n_in, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(n_in, n_out, W=(n_in, n_out), b=(n_out,))
        initializers.get(init)
        self.init = init

    @property
    def signature(self):
        return ("Dense", *self.parameter_shapes.values()) if type(self) is Dense else None

    def lower(self, builder, x):
        return builder.op("dense", x, builder.parameter(self, "W"), builder.parameter(self, "b"))

    def initialize(self, rng):
        weights = initializers.get(self.init)(rng, self.n_in, self.n_out)
        weights = checks.data("init", weights)
        checks.shape("init", weights, self.parameter_shapes["W"], "from the callable")
        self.W = weights
        self.b = 0

    def config(self):
        """As `Layer.config`; a callable `init` has done its work and is left out."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config


class Dropout(Layer):
    """Zero each input with probability `rate` while training, scale the rest up.

    Parameters
    ----------
    rate : float in [0, 1)

    Notes
    -----
    The mask is a function of the seed, the layer's place, the step and the element's
    index (`fastbp.kernels.dropout`), so it is made anew for the backward pass rather
    than kept.
    """

    validators = Layer.validators | {
        "rate": checks.fraction,
        "key": lambda name, value: checks.integer(name, value, 0, 2**64 - 1),
        "step": lambda name, value: checks.integer(name, value, 0, 2**62),
    }

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def lower(self, builder, x):
        return builder.op("dropout", x, layer=self, rate=self.rate) if builder.training else x
