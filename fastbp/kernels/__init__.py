"""The compiled kernels as functions of arrays, for people who write their own loop.

Shapes and formulas are in each function's docstring.  All take float32 or float64
arrays, one dtype in a call; inputs may be read-only or strided (a copy is made of those
that are not contiguous), and ``out=`` writes the result into memory of yours.
"""

from . import activations
from .activations import *
from .dense import (
    dense_backward_bias,
    dense_backward_input,
    dense_backward_weights,
    dense_forward,
)
from .losses import (
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson_deviance,
    sigmoid_cross_entropy,
    softmax_cross_entropy,
)
from .optimizers import adam_step, norm, penalize, sgd_step

__all__ = [
    "adam_step",
    "dense_backward_bias",
    "dense_backward_input",
    "dense_backward_weights",
    "dense_forward",
    "huber",
    "mean_absolute_error",
    "mean_squared_error",
    "norm",
    "penalize",
    "poisson_deviance",
    "sgd_step",
    "sigmoid_cross_entropy",
    "softmax_cross_entropy",
]
__all__ += activations.__all__
