from typing import Any

import numpy as np
from numpy.typing import NDArray

_Floats = NDArray[np.floating[Any]]

def add_labels(
    Z: _Floats,
    labels: NDArray[np.int64],
    weights: _Floats | None,
    sums: NDArray[np.float64],
) -> None: ...
def add_label_rows(
    Z: _Floats, Y: _Floats, weights: _Floats | None, sums: NDArray[np.float64]
) -> None: ...
def add_sign_rows(
    Z: _Floats,
    Y: _Floats,
    weights: _Floats | None,
    whole_rows: bool,
    sums: NDArray[np.float64],
) -> None: ...
def add_square_rows(
    Z: _Floats,
    Y: _Floats,
    weights: _Floats | None,
    mean: NDArray[np.float64],
    sums: NDArray[np.float64],
) -> None: ...
def weighted_mean(Y: _Floats, weights: _Floats | None, mean: NDArray[np.float64]) -> None: ...
