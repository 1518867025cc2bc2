from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .executor import Executor
from .types import Array, Doubles, Labels

METRICS: dict[str | None, int]

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
        parameters: Array,
        gradients: Array,
        X: Any,
        y: Array | None,
        sample_weight: Array | None,
        n_rows: int,
        batch_size: int,
        loss: tuple[Any, ...] | None,
        metric: str | None,
        update: str | None,
        state: list[Array],
        weights: list[tuple[int, int]],
        layers: list[tuple[int, int]],
        groups: list[tuple[int, int]],
        shapes: list[tuple[int, int] | None],
        average: Array | None,
        turns: Any,
        share: tuple[int, int] | None = None,
    ) -> None: ...
    def run(
        self,
        rows: Labels,
        first: int,
        stop: int,
        rates: Doubles,
        attributes: Doubles,
        average_keep: float,
        weight_decay: float,
        clip_norm: float,
        l2: float,
        steps_before: int,
        random: NDArray[np.uint64],
        step_stats: Doubles,
        metric_sums: Doubles | None,
        metric_mean: Doubles | None,
        layer_norms: Doubles | None,
        epoch_stats: Doubles,
    ) -> int: ...
