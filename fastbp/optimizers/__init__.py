"""Optimizers: settings, and the state that is kept from step to step; kernels do the work.

===========  ====================================================
`builtin`    `SGD`, `Adam` and the other optimizers
`muon`       `Muon`, which treats matrices as such
`base`       `Optimizer`, their base class
`groups`     `Group`: parameters with their own settings
`rates`      learning rates, which are numbers or schedules
===========  ====================================================

Examples
--------
`fit` takes an optimizer; in your own training loop, call `step`:

>>> import numpy as np, fastbp as fb
>>> net, loss = fb.mlp([2, 8, 1], seed=0), fb.MeanSquaredError()
>>> optimizer = fb.SGD(learning_rate=0.1, momentum=0.9)
>>> X, y = np.eye(2, dtype="float32"), [[1], [2]]
>>> for _ in range(200):
...     value, dZ = loss(net.forward(X), y)
...     dX = net.backward(dZ)
...     optimizer.step(net.parameters, net.gradients)
>>> value < 0.01
True
"""

from typing import TYPE_CHECKING

from . import base, builtin, groups, muon
from .base import *
from .builtin import *
from .groups import *
from .muon import *

if not TYPE_CHECKING:  # type checkers take what is imported with a star as exported
    __all__ = [name for module in (base, builtin, groups, muon) for name in module.__all__]
