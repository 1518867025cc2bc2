from numpy.typing import ArrayLike

from .types import Floats

def muon_step(
    W: Floats,
    G: ArrayLike,
    m: Floats,
    *,
    learning_rate: float,
    momentum: float = 0.95,
    nesterov: bool = True,
    steps: int = 5,
    weight_decay: float = 0.0,
) -> None: ...
def orthogonalize(G: ArrayLike, steps: int = 5, *, out: Floats | None = None) -> Floats: ...
def needs(shapes: list[tuple[int, int]], size: int) -> tuple[int, int, float]: ...
