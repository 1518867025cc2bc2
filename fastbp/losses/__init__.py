"""Losses: settings, and checks of the targets; kernels do the work.

===========  ================================================================
`builtin`    `SoftmaxCrossEntropy`, `MeanSquaredError` and the other losses
`members`    `EnsembleLoss`, of members whose outputs are side by side
`base`       `Loss`, their base class, and the checks of user-defined losses
===========  ================================================================

A loss is called with the network's output and the targets, ``value, dZ = loss(Z, y)``, and returns
the mean over the batch and the gradient with respect to Z.

Examples
--------
>>> import numpy as np, fastbp as fb
>>> value, dZ = fb.MeanSquaredError()(np.array([[1.0], [4.0]]), [[0.0], [2.0]])
>>> value
2.5
>>> dZ
array([[1.],
       [2.]])
"""

from typing import TYPE_CHECKING

from . import builtin, members
from .base import Loss as Loss
from .base import checked_loss as checked_loss
from .base import compute_loss as compute_loss
from .builtin import *
from .builtin import Scaled as Scaled
from .members import *

if not TYPE_CHECKING:  # type checkers take what is imported with a star as exported
    __all__ = ["Loss", *builtin.__all__, *members.__all__]
