from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.floating[Any]]

def softmax_cross_entropy(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    label_smoothing: float = 0.0,
    cap: float | None = None,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
def sigmoid_cross_entropy(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    cap: float | None = None,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
def mean_squared_error(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
def mean_absolute_error(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
def huber(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    delta: float = 1.0,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
def poisson_deviance(
    Z: ArrayLike,
    y: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    out: _Floats | None = None,
) -> tuple[float, _Floats]: ...
