from numpy.typing import ArrayLike

from .types import Floats

def repeat_columns(
    X: ArrayLike,
    n_members: int,
    factor: float = 1.0,
    gradient: bool = False,
    *,
    out: Floats | None = None,
) -> Floats: ...
def sum_members(
    X: ArrayLike,
    n_members: int,
    factor: float = 1.0,
    gradient: bool = False,
    *,
    out: Floats | None = None,
) -> Floats: ...
def separate_dense_forward(
    X: ArrayLike, W: ArrayLike, b: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
def separate_dense_backward_weights(
    X: ArrayLike, dZ: ArrayLike, n_members: int, *, out: Floats | None = None
) -> Floats: ...
def separate_dense_backward_input(
    dZ: ArrayLike, W: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
