from typing import Any, final

import numpy as np
from numpy.typing import NDArray

_Array = NDArray[Any]
_Doubles = NDArray[np.float64]

METRICS: dict[str | None, int]
TAKE_LABELS: set[str | None]
SOURCES: str

@final
class Engine:
    needs_fallback: bool
    made: int
    threads: int
    def __init__(
        self,
        operations: list[tuple[Any, ...]],
        parameters: _Array,
        gradients: _Array,
        loss: tuple[Any, ...],
        metric: str | None,
        optimizer: dict[str, Any],
        state: list[_Array],
        X: Any,
        y: _Array,
        sample_weight: _Array | None,
        batch_size: int,
        l2: float,
    ) -> None: ...
    def run(
        self,
        rows: NDArray[np.int64],
        first: int,
        stop: int,
        rates: _Doubles,
        steps_before: int,
        dropout_steps_before: int,
        step_stats: _Doubles,
        metric_sums: _Doubles | None,
        metric_mean: _Doubles | None,
        layer_norms: _Doubles | None,
    ) -> int: ...

def readable(X: Any, dtype: np.dtype[Any]) -> bool: ...
def dense_rows(X: Any, rows: NDArray[np.int64], dtype: np.dtype[Any]) -> _Array: ...
def check_fit(
    dtype: np.dtype[Any],
    parameters: _Array,
    gradients: _Array,
    loss: tuple[Any, ...],
    metric: str | None,
    optimizer: dict[str, Any],
    state: list[_Array],
    y: _Array,
    sample_weight: _Array | None,
    rows: int,
) -> None: ...
