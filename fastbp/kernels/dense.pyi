from numpy.typing import ArrayLike

from .types import Floats

def dense_forward(
    X: ArrayLike, W: ArrayLike, b: ArrayLike, *, out: Floats | None = None,
    precision: str = "highest",
) -> Floats: ...
def dense_backward_weights(
    X: ArrayLike, dZ: ArrayLike, *, out: Floats | None = None, precision: str = "highest"
) -> Floats: ...
def dense_backward_bias(dZ: ArrayLike, *, out: Floats | None = None) -> Floats: ...
def dense_backward_input(
    dZ: ArrayLike, W: ArrayLike, *, out: Floats | None = None, precision: str = "highest"
) -> Floats: ...
