from numpy.typing import ArrayLike

from .types import Floats

def normalize_rows(
    X: ArrayLike, epsilon: float = 1e-05, center: bool = True, *, out: Floats | None = None
) -> tuple[Floats, Floats]: ...
def normalize_rows_backward(
    dN: ArrayLike,
    N: ArrayLike,
    rstd: ArrayLike,
    center: bool = True,
    *,
    out: Floats | None = None,
) -> Floats: ...
def column_moments(X: ArrayLike) -> tuple[Floats, Floats]: ...
def normalize_columns(
    X: ArrayLike, mean: ArrayLike, rstd: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
def normalize_columns_backward(
    dN: ArrayLike, N: ArrayLike, rstd: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
