from typing import Any, final

from numpy.typing import NDArray

from fastbp.kernels.encoded import EncodedProgram

_Array = NDArray[Any]

@final
class Executor:
    random: tuple[Any, ...]
    in_python: bool
    def __init__(
        self, program: EncodedProgram, parameters: _Array, gradients: _Array, buffers: _Array
    ) -> None: ...
    def __call__(self, X: Any, out: Any = None) -> _Array | None: ...
    def accepts(self, X: Any) -> bool: ...
