from numpy.typing import ArrayLike

from .types import Floats

def update_step(
    name: str,
    parameters: Floats,
    gradients: ArrayLike,
    state: dict[str, Floats],
    *,
    learning_rate: float,
    step: int,
    attributes: dict[str, float],
) -> None: ...
def sgd_step(
    parameters: Floats,
    gradients: ArrayLike,
    velocity: Floats | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None: ...
def adam_step(
    parameters: Floats,
    gradients: ArrayLike,
    m: Floats,
    v: Floats,
    step: int,
    *,
    learning_rate: float = 0.001,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-08,
    weight_decay: float = 0.0,
    decoupled: bool = False,
    epsilon_hat: bool = False,
) -> None: ...
def penalize(parameters: ArrayLike, gradients: Floats, strength: float) -> float: ...
def norm(X: ArrayLike) -> float: ...
