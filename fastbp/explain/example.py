"""A network small enough to follow every number."""

from __future__ import annotations

from ..builders import mlp
from ..losses import MeanSquaredError
from .explanation import Explanation, explain

__all__ = ["example"]


def example() -> Explanation:
    """Explain a network of 2 inputs, two hidden layers of 3 tanh units, and 1 output.

    Returns
    -------
    Explanation

    Examples
    --------
    >>> print(example().network)
    2 → Dense 3 → Tanh → Dense 3 → Tanh → Dense 1
    """
    net = mlp([2, 3, 3, 1], "tanh", seed=7)
    return explain(net, [0.8, -0.4], 0.5, loss=MeanSquaredError(), learning_rate=0.2)
