"""How the gradient shrinks or grows from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .explanation import Explanation
    from .graph import Node

__all__ = ["Step", "flow", "verdict"]

# By how much a gradient changes per layer with weights, before it is said to vanish or explode.
VANISHING, EXPLODING = 0.5, 2.0


@dataclass(frozen=True)
class Step:
    """The gradient with respect to the units of one node.

    Attributes
    ----------
    node : Node
    size : float
        The root mean square over rows and units.
    ratio : float or None
        To that of the node before it, on the way back from the loss; None at the output, and where
        that is 0.
    """

    node: Node
    size: float
    ratio: float | None


def flow(explanation: Explanation) -> list[Step]:
    """The size of the gradient at each node that has one, from the output back to the input.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    list of Step
    """
    steps: list[Step] = []
    for node in reversed(explanation.nodes):
        largest = float(np.abs(node.gradient).max())  # squares of small numbers would be 0
        size = largest * float(np.sqrt(np.mean((node.gradient / largest) ** 2))) if largest else 0.0
        ratio = size / steps[-1].size if steps and steps[-1].size else None
        steps.append(Step(node, size, ratio))
    return steps


def verdict(explanation: Explanation) -> str:
    """What the sizes say, in a sentence.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    str
    """
    if not explanation.graph.output.gradient.any():
        return ("The gradient of the loss with respect to the network's output is 0, and so are "
                "all others.")
    layers = [step for step in flow(explanation) if step.node.name.startswith("z")]
    for step in layers:
        if not step.size:
            return f"No gradient arrives at {step.node.name}: {_lost(explanation, step.node)}."
    if len(layers) < 2:
        return (f"A gradient vanishes or explodes between layers with weights, of which this "
                f"network has {'only one' if layers else 'none'}.")
    first, last = layers[-1], layers[0]
    whole = first.size / last.size
    each = whole ** (1 / (len(layers) - 1))
    said = (f"Between {last.node.name} and {first.node.name} it is multiplied by {whole:.3g} "
            f"in all, by {each:.3g} for each layer with weights: ")
    if each < VANISHING:
        return said + "it vanishes, the deeper the network the more."
    if each > EXPLODING:
        return said + "it explodes, the deeper the network the more."
    return said + "it neither vanishes nor explodes."


def _lost(explanation: Explanation, node: Node) -> str:
    """Why the gradient with respect to a node is 0."""
    ways = explanation.best_paths().ways[node]
    if not ways.nonzero.any():
        return "each path to it has a factor of 0"
    return ("the paths to it cancel out" if ways.magnitude.any()
            else "the products along the paths are too small for float64")
