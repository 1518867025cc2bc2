from numpy.typing import ArrayLike

from .types import Floats

def scale_columns(
    X: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike | None = None,
    gradient: bool = False,
    *,
    out: Floats | None = None,
) -> Floats: ...
def column_dots(
    A: ArrayLike, B: ArrayLike | None = None, *, out: Floats | None = None
) -> Floats: ...
def scale_shift_backward(dY: ArrayLike, X: ArrayLike) -> tuple[Floats, Floats]: ...
def prelu(X: ArrayLike, slope: ArrayLike, *, out: Floats | None = None) -> Floats: ...
def prelu_backward(
    dY: ArrayLike, X: ArrayLike, slope: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
def prelu_slope_gradient(
    dY: ArrayLike, X: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
