"""Training a network: `Sequential.fit` and what it consists of.

=============  ==================================================================================
`settings`     the arguments of `fit`, checked
`data`         rows, targets and sample weights
`loop`         the loop over epochs
`run`          a running training: its steps, as callbacks see it
`turns`        Python's part of a step
`history`      what is recorded
`progress`     what is printed
`interrupts`   Ctrl-C
`checkpoints`  files from which a training that was killed goes on
`state`        what such a file holds
`described`    what a training consists of, to compare it with a checkpoint's
`lbfgs`        SciPy's L-BFGS-B in place of an optimizer
=============  ==================================================================================
"""

from .data import Dataset, batch_weight
from .history import EpochSums, History
from .lbfgs import lbfgs
from .loop import fit
from .run import Training
from .settings import Settings

__all__ = [
    "Dataset", "EpochSums", "History", "Settings", "Training", "batch_weight", "fit", "lbfgs",
]
