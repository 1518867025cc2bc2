"""Optimizers: small classes over the kernels that hold the state between steps.

===========  ===================================================
`builtin`    `SGD`, `Adam` and the other optimizers
`base`       `Optimizer`, their base class
`groups`     `Group`: parameters with settings of their own
`rates`      learning rates, which are numbers or schedules
===========  ===================================================

By hand::

    optimizer = SGD(learning_rate=0.1, momentum=0.9)
    optimizer.step(net.parameters, net.gradients)
"""

from typing import TYPE_CHECKING

from . import base, builtin, groups
from .base import *
from .builtin import *
from .groups import *

if not TYPE_CHECKING:  # type checkers take what is imported with a star as exported
    __all__ = [name for module in (base, builtin, groups) for name in module.__all__]
