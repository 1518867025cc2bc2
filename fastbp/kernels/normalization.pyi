from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.floating[Any]]

def add(
    X: ArrayLike, Y: ArrayLike, gradient: bool = False, *, out: _Floats | None = None
) -> _Floats: ...
def normalize_rows(
    X: ArrayLike, epsilon: float = 1e-05, center: bool = True, *, out: _Floats | None = None
) -> tuple[_Floats, _Floats]: ...
def normalize_rows_backward(
    dN: ArrayLike,
    N: ArrayLike,
    rstd: ArrayLike,
    center: bool = True,
    *,
    out: _Floats | None = None,
) -> _Floats: ...
def column_moments(X: ArrayLike) -> tuple[_Floats, _Floats]: ...
def inverse_sqrt(X: ArrayLike, epsilon: float, *, out: _Floats | None = None) -> _Floats: ...
def normalize_columns(
    X: ArrayLike, mean: ArrayLike, rstd: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def normalize_columns_backward(
    dN: ArrayLike, N: ArrayLike, rstd: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def scale_columns(
    X: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike | None = None,
    gradient: bool = False,
    *,
    out: _Floats | None = None,
) -> _Floats: ...
def column_dots(
    A: ArrayLike, B: ArrayLike | None = None, *, out: _Floats | None = None
) -> _Floats: ...
def prelu(X: ArrayLike, slope: ArrayLike, *, out: _Floats | None = None) -> _Floats: ...
def prelu_backward(
    dY: ArrayLike, X: ArrayLike, slope: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def prelu_slope_gradient(
    dY: ArrayLike, X: ArrayLike, *, out: _Floats | None = None
) -> _Floats: ...
def running_average(
    average: _Floats, X: ArrayLike, keep: float, weight: float | None = None
) -> None: ...
