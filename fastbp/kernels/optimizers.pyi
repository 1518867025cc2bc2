from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

_Floats = NDArray[np.floating[Any]]

def update_step(
    name: str,
    parameters: _Floats,
    gradients: ArrayLike,
    state: dict[str, _Floats],
    *,
    learning_rate: float,
    step: int,
    attributes: dict[str, float],
) -> None: ...
def sgd_step(
    parameters: _Floats,
    gradients: ArrayLike,
    velocity: _Floats | None = None,
    *,
    learning_rate: float,
    momentum: float = 0.0,
    nesterov: bool = False,
    weight_decay: float = 0.0,
) -> None: ...
def adam_step(
    parameters: _Floats,
    gradients: ArrayLike,
    m: _Floats,
    v: _Floats,
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
def penalize(parameters: ArrayLike, gradients: _Floats, strength: float) -> float: ...
def norm(X: ArrayLike) -> float: ...
