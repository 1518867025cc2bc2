from typing import Any, final

from numpy.typing import NDArray

ENDS: dict[str, int]

@final
class Predictor:
    def __init__(
        self, operations: list[tuple[Any, ...]], parameters: NDArray[Any], n_in: int
    ) -> None: ...
    def __call__(self, X: Any, out: Any = None) -> NDArray[Any] | None: ...
    def accepts(self, X: Any) -> bool: ...
