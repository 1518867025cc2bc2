from typing import Any, final

from .encoded import EncodedProgram
from .types import Array

@final
class Executor:
    random: tuple[Any, ...]
    in_python: bool
    def __init__(
        self, program: EncodedProgram, parameters: Array, gradients: Array, buffers: Array
    ) -> None: ...
    def __call__(self, X: Any, out: Any = None) -> Array | None: ...
    def accepts(self, X: Any) -> bool: ...
