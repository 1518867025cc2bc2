from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .executor import Executor

_Array = NDArray[Any]
_Doubles = NDArray[np.float64]

METRICS: dict[str | None, int]
TAKE_LABELS: set[str | None]

@final
class Steps:
    made: int
    updates: int
    threads: int
    @property
    def in_python(self) -> tuple[str, ...]: ...
    def __init__(
        self,
        executor: Executor,
        parameters: _Array,
        gradients: _Array,
        X: Any,
        y: _Array | None,
        sample_weight: _Array | None,
        n_rows: int,
        batch_size: int,
        loss: tuple[Any, ...] | None,
        metric: str | None,
        update: str | None,
        state: list[_Array],
        weights: list[tuple[int, int]],
        layers: list[tuple[int, int]],
        groups: list[tuple[int, int]],
        average: _Array | None,
        turns: Any,
    ) -> None: ...
    def run(
        self,
        rows: NDArray[np.int64],
        first: int,
        stop: int,
        rates: _Doubles,
        attributes: _Doubles,
        average_keep: float,
        weight_decay: float,
        clip_norm: float,
        l2: float,
        steps_before: int,
        random: NDArray[np.uint64],
        step_stats: _Doubles,
        metric_sums: _Doubles | None,
        metric_mean: _Doubles | None,
        layer_norms: _Doubles | None,
    ) -> int: ...

def check_fit(
    dtype: np.dtype[Any],
    parameters: _Array,
    gradients: _Array,
    loss: tuple[Any, ...] | None,
    metric: str | None,
    update: str | None,
    state: list[_Array],
    y: _Array | None,
    sample_weight: _Array | None,
    n_rows: int,
    n_more: int = 0,
) -> None: ...
