"""Training a network: `Sequential.fit` and its parts.

============== ==================================================================================
`settings`     the arguments of `fit`, checked
`data`         rows, targets and sample weights
`loop`         the loop over epochs
`many`         `fit_many`: loops over many networks, on several threads
`run`          a running training: its steps, as callbacks see it
`turns`        callbacks from compiled steps into Python
`history`      what is recorded
`progress`     what is printed
`interrupts`   Ctrl-C
`distributed`  training over several processes, by MPI
`own_rows`     data of which each process has a part
`shared_turns` what processes send to each other within a step
`checkpoints`  files from which interrupted training resumes
`state`        the contents of such a file
`described`    a fingerprint of data and settings, to check that a checkpoint matches
`lbfgs`        SciPy's L-BFGS-B instead of an optimizer
============== ==================================================================================
"""

from .data import Dataset, batch_weight
from .distributed import together, world
from .history import EpochSums, History
from .lbfgs import lbfgs
from .loop import fit
from .many import fit_many
from .run import Training
from .settings import Settings

__all__ = [
    "Dataset", "EpochSums", "History", "Settings", "Training", "batch_weight", "fit", "fit_many",
    "lbfgs", "together", "world",
]
