from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.floating[Any]]

def embedding(
    codes: ArrayLike, table: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def embedding_backward(
    codes: ArrayLike, dZ: ArrayLike, n_categories: int, *, out: _Floats | None = None
) -> _Floats: ...
