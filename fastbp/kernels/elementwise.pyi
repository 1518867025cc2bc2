from numpy.typing import ArrayLike

from .types import Floats

def add(
    X: ArrayLike, Y: ArrayLike, gradient: bool = False, *, out: Floats | None = None
) -> Floats: ...
def inverse_sqrt(X: ArrayLike, epsilon: float, *, out: Floats | None = None) -> Floats: ...
def running_average(
    average: Floats, X: ArrayLike, keep: float, weight: float | None = None
) -> None: ...
