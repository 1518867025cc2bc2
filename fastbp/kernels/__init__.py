"""The compiled kernels as functions of arrays, for people who write their own loop.

Shapes and formulas are in each function's docstring.  All take float32 or float64
arrays, one dtype in a call; inputs may be read-only or strided (a copy is made of those
that are not contiguous), and ``out=`` writes the result into memory of yours.
"""

from .activations import (
    dropout,
    elu,
    elu_backward,
    erf,
    exp,
    expm1,
    gelu,
    gelu_backward,
    leaky_relu,
    leaky_relu_backward,
    log,
    log1p,
    relu,
    relu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    tanh,
    tanh_backward,
)
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
    "dropout",
    "elu",
    "elu_backward",
    "erf",
    "exp",
    "expm1",
    "gelu",
    "gelu_backward",
    "huber",
    "leaky_relu",
    "leaky_relu_backward",
    "log",
    "log1p",
    "mean_absolute_error",
    "mean_squared_error",
    "norm",
    "penalize",
    "poisson_deviance",
    "relu",
    "relu_backward",
    "sgd_step",
    "sigmoid",
    "sigmoid_backward",
    "sigmoid_cross_entropy",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_cross_entropy",
    "tanh",
    "tanh_backward",
]
