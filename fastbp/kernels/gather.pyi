from typing import Any, final

import numpy as np

from .types import Array, Labels

KINDS: str

@final
class Rows:
    def __init__(self, X: Any, dtype: np.dtype[Any]) -> None: ...

def readable(X: Any, dtype: np.dtype[Any]) -> bool: ...
def permutations(rng: np.random.Generator, count: int, n: int) -> Labels: ...
def dense_rows(X: Any, rows: Labels, dtype: np.dtype[Any]) -> Array: ...
