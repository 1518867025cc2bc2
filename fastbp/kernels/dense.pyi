from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.floating[Any]]

def dense_forward(
    X: ArrayLike, W: ArrayLike, b: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def dense_backward_weights(
    X: ArrayLike, dZ: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def dense_backward_bias(dZ: ArrayLike, *, out: _Floats | None = None) -> _Floats: ...
def dense_backward_input(dZ: ArrayLike, W: ArrayLike, *, out: _Floats | None = None) -> _Floats: ...
