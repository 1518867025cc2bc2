"""The compiled kernels as functions of arrays, for people who write their own training loop.

Shapes and formulas are in each function's docstring.  All functions take float32 or float64
arrays, one dtype per call.  Inputs may be read-only or strided (those that are not contiguous are
copied), and ``out=`` writes the result into an existing array.

========================  ==============================================================
``activations``           activations, other element-wise functions, dropout and softmax
``dense``                 the dense layer and its gradients; matrix products
``bfloat16``              matrix products of reduced precision
``losses``                losses with their gradients
``normalization``         normalization of rows and columns
``columns``               scales, shifts and slopes, one element per column
``elementwise``           sums, inverse square roots and running averages
``embeddings``            rows of a table and their gradient
``periodic_embeddings``   numbers as cosines of their multiples
``piecewise_embeddings``  numbers as points on piecewise linear curves
``members``               columns of an ensemble's members, side by side
``optimizers``            updates of the parameters, penalties and norms
``muon``                  updates of matrices, made orthogonal
``metrics``               sums that metrics are computed from
``encoded``               a program in the form that compiled code reads
``instructions``          the execution of a program's instructions
``executor``              a program over a network's arrays; prediction
``stages``                the stages of a training step
``updates``               from gradients to parameters: penalty, check, update
``steps``                 runs of training steps
``shares``, ``segments``  what each of several processes computes and sends
``gather``                rows of X, dense or sparse, copied into a minibatch
``threads``, ``team.h``   teams of threads
``dispatch``, ``simd``    instruction-set tiers, and the kernels themselves in C
``guards``                checks that arrays still have the same memory and layout
``checks``, ``memory``    checks of arguments; aligned arrays
``step_checks``           checks of the arguments of training steps
``ops``, ``ops.def``      the table of operations
``types``                 names of types that annotations share
``platform.h``            what differs between operating systems, compilers and processors
========================  ==============================================================
"""

from . import activations, losses
from .activations import *
from .columns import (
    column_dots,
    prelu,
    prelu_backward,
    prelu_slope_gradient,
    scale_columns,
    scale_shift_backward,
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
from .members import (
    repeat_columns,
    separate_dense_backward_input,
    separate_dense_backward_weights,
    separate_dense_forward,
    sum_members,
)
from .muon import muon_step, orthogonalize
from .normalization import (
    column_moments,
    normalize_columns,
    normalize_columns_backward,
    normalize_rows,
    normalize_rows_backward,
)
from .optimizers import adam_step, norm, penalize, sgd_step
from .periodic_embeddings import (
    periodic,
    periodic_backward,
    periodic_backward_input,
    periodic_features,
)
from .piecewise_embeddings import (
    piecewise,
    piecewise_backward,
    piecewise_backward_input,
    piecewise_nodes,
)

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
    "muon_step",
    "norm",
    "normalize_columns",
    "normalize_columns_backward",
    "normalize_rows",
    "normalize_rows_backward",
    "orthogonalize",
    "penalize",
    "periodic",
    "periodic_backward",
    "periodic_backward_input",
    "periodic_features",
    "piecewise",
    "piecewise_backward",
    "piecewise_backward_input",
    "piecewise_nodes",
    "prelu",
    "prelu_backward",
    "prelu_slope_gradient",
    "repeat_columns",
    "running_average",
    "scale_columns",
    "scale_shift_backward",
    "separate_dense_backward_input",
    "separate_dense_backward_weights",
    "separate_dense_forward",
    "sgd_step",
    "sum_members",
]
__all__ += activations.__all__ + losses.__all__
