"""The compiled kernels as functions of arrays, for people who write their own loop.

Shapes and formulas are in each function's docstring.  All take float32 or float64
arrays, one dtype in a call; inputs may be read-only or strided (a copy is made of those
that are not contiguous), and ``out=`` writes the result into memory of yours.
"""

from . import activations, losses
from .activations import *
from .columns import (
    column_dots,
    prelu,
    prelu_backward,
    prelu_slope_gradient,
    scale_columns,
)
from .dense import (
    dense_backward_bias,
    dense_backward_input,
    dense_backward_weights,
    dense_forward,
)
from .elementwise import add, inverse_sqrt, running_average
from .embeddings import embedding, embedding_backward
from .losses import *
from .normalization import (
    column_moments,
    normalize_columns,
    normalize_columns_backward,
    normalize_rows,
    normalize_rows_backward,
)
from .optimizers import adam_step, norm, penalize, sgd_step

__all__ = [
    "adam_step",
    "add",
    "column_dots",
    "column_moments",
    "dense_backward_bias",
    "dense_backward_input",
    "dense_backward_weights",
    "dense_forward",
    "embedding",
    "embedding_backward",
    "inverse_sqrt",
    "norm",
    "normalize_columns",
    "normalize_columns_backward",
    "normalize_rows",
    "normalize_rows_backward",
    "penalize",
    "prelu",
    "prelu_backward",
    "prelu_slope_gradient",
    "running_average",
    "scale_columns",
    "sgd_step",
]
__all__ += activations.__all__ + losses.__all__
