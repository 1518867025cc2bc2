from numpy.typing import ArrayLike

from .types import Floats

def periodic(
    X: ArrayLike,
    frequencies: ArrayLike,
    phases: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    out: Floats | None = None,
) -> Floats: ...
def periodic_features(
    X: ArrayLike,
    frequencies: ArrayLike,
    phases: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    out: Floats | None = None,
) -> tuple[Floats, Floats]: ...
def periodic_backward(
    dZ: ArrayLike, X: ArrayLike, frequencies: ArrayLike, phases: ArrayLike, gamma: ArrayLike
) -> tuple[Floats, Floats, Floats, Floats]: ...
def periodic_backward_input(
    dZ: ArrayLike,
    X: ArrayLike,
    frequencies: ArrayLike,
    phases: ArrayLike,
    gamma: ArrayLike,
    *,
    out: Floats | None = None,
) -> Floats: ...
