"""Names of the types that annotations share."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Doubles", "Floats", "Labels"]

Array: TypeAlias = NDArray[Any]
Floats: TypeAlias = NDArray[np.floating[Any]]  # float32 or float64, the network's
Doubles: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[np.int64]
