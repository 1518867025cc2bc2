from typing import Any, final

import numpy as np
from numpy.typing import NDArray

KINDS: str

@final
class Rows:
    def __init__(self, X: Any, dtype: np.dtype[Any]) -> None: ...

def readable(X: Any, dtype: np.dtype[Any]) -> bool: ...
def dense_rows(X: Any, rows: NDArray[np.int64], dtype: np.dtype[Any]) -> NDArray[Any]: ...
