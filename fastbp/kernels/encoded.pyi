from collections.abc import Callable, Sequence
from typing import Any, final

from .types import Array

KINDS: dict[str, int]
MOST: int

@final
class EncodedProgram:
    calls: tuple[Callable[[Array], Array | None], ...]
    random: tuple[Any, ...]
    in_python: bool
    def __init__(
        self,
        values: list[tuple[Any, ...]],
        forward: list[tuple[Any, ...]],
        backward: list[tuple[Any, ...]],
        update: list[tuple[Any, ...]],
        n_fused: int,
        x: int,
        z: int,
        dz: int,
        arena: int,
        arena_per_row: int,
        calls: Sequence[Callable[[Array], Array | None]],
        random: Sequence[Any],
        n_sums: int = 0,
    ) -> None: ...
