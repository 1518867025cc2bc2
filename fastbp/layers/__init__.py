"""Layers, the building blocks of networks; each is a few instructions of a program.

=================  =================================================================================
`base`             `Layer`, the base class
`parameters`       its arrays: parameters, gradients and buffers, bound to a network or not
`dense`            `Dense` and `Dropout`
`activations`      `ReLU` and the others, made from the table of operations
`columnwise`       `PReLU`, and the base class of layers with a parameter for each column
`normalization`    `LayerNorm`, `RMSNorm` and `BatchNorm`
`embedding`        `Embedding`
`numerical`        `PeriodicEmbedding` and `PiecewiseLinearEmbedding`, with `quantile_edges`
`members`          `EnsembleDense`, `SeparateDense` and others for ensembles in one network
`containers`       `Residual` and `Columns`, which consist of other layers
`sequences`        sequences of layers, as networks and containers have them: nesting, checks, sizes
=================  =================================================================================

Examples
--------
>>> import fastbp as fb
>>> net = fb.Sequential([fb.Dense(4, 16), fb.ReLU(), fb.Dropout(0.2), fb.Dense(16, 3)], seed=0)
>>> net.predict([[1, 2, 3, 4]]).shape
(1, 3)
"""

from typing import TYPE_CHECKING

from . import (
    activations,
    base,
    columnwise,
    containers,
    dense,
    embedding,
    members,
    normalization,
    numerical,
)
from .activations import *
from .activations import ACTIVATIONS as ACTIVATIONS
from .activations import Activation as Activation
from .base import Layer as Layer
from .columnwise import *
from .columnwise import Columnwise as Columnwise
from .containers import *
from .dense import *
from .embedding import *
from .members import *
from .normalization import *
from .numerical import *
from .sequences import Container as Container
from .sequences import LayerSequence as LayerSequence
from .sequences import chain as chain
from .sequences import checked_layers as checked_layers
from .sequences import leaves as leaves

_MODULES = (activations, base, columnwise, containers, dense, embedding, members,
            normalization, numerical)

if not TYPE_CHECKING:  # type checkers take what is imported with a star as exported
    __all__ = [name for module in _MODULES for name in module.__all__]

# The layers that a file may hold, by the names of their classes.
BUILT_IN: dict[str, type[Layer]] = {
    name: getattr(module, name) for module in _MODULES if module is not base
    for name in module.__all__ if isinstance(getattr(module, name), type)
}
