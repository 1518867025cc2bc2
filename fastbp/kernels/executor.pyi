from collections.abc import Callable
from typing import Any, final

from numpy.typing import NDArray

_Array = NDArray[Any]

KINDS: dict[str, int]

@final
class Executor:
    n_random: int
    in_python: bool
    work_per_row_of_a_step: int
    def __init__(
        self,
        values: list[tuple[Any, ...]],
        forward: list[tuple[Any, ...]],
        backward: list[tuple[Any, ...]],
        update: list[tuple[Any, ...]],
        x: int,
        z: int,
        dz: int,
        arena: int,
        arena_per_row: int,
        parameters: _Array,
        gradients: _Array,
        buffers: _Array,
        calls: list[Callable[[_Array], _Array | None]],
    ) -> None: ...
    def __call__(self, X: Any, out: Any = None) -> _Array | None: ...
    def accepts(self, X: Any) -> bool: ...
