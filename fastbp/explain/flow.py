"""How the gradient shrinks or grows from layer to layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

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


def verdict(steps: Sequence[Step]) -> str:
    """What the sizes say, in a sentence.

    Parameters
    ----------
    steps : sequence of Step
        As `flow` returns them.

    Returns
    -------
    str
    """
    layers = [step for step in steps if step.node.name.startswith("z")]
    if len(layers) < 2:
        return "There is one layer with weights, so that there is no way on which to shrink."
    first, last = layers[-1], layers[0]
    if not (first.size and last.size):
        return (f"No gradient arrives at {first.node.name}: all paths have a factor of 0."
                if last.size else "The loss is at a minimum of its own: its gradient is 0.")
    whole = first.size / last.size
    each = whole ** (1 / (len(layers) - 1))
    said = (f"Between {last.node.name} and {first.node.name} it is multiplied by {whole:.3g}, "
            f"{each:.3g} for each layer with weights: ")
    if each < VANISHING:
        return said + "it vanishes, the deeper the network the more."
    if each > EXPLODING:
        return said + "it explodes, the deeper the network the more."
    return said + "it neither vanishes nor explodes."
