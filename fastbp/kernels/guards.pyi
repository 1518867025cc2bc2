from typing import Any, final

from numpy.typing import NDArray

@final
class Borrowed:
    name: str
    array: NDArray[Any]
    def __init__(self, name: str, array: NDArray[Any]) -> None: ...
    def check(self) -> int: ...
