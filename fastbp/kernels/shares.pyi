from typing import Any, final

import numpy as np

from .executor import Executor
from .types import Floats

def share(rows: int, rank: int, processes: int) -> tuple[int, int]: ...
@final
class Shares:
    rank: int
    processes: int
    most_rows: int
    segments: list[list[tuple[int, int]]]
    Z: Floats
    dZ: Floats
    def __init__(
        self,
        executor: Executor,
        rank: int,
        processes: int,
        batch_size: int,
        dtype: np.dtype[Any],
    ) -> None: ...
