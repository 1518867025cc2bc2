"""An explanation as text, for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..messages import counted
from .flow import flow, verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .explanation import Explanation, WeightGradient
    from .paths import Hop

__all__ = ["gradient_text", "number", "text"]

# Units of a layer and parameters that are printed; of others the largest are.
SHOWN = 6
# The width of the bar of the layer with the largest gradient.
BAR = 32


def number(value: float) -> str:
    """A number with four significant digits.

    Examples
    --------
    >>> number(0.123456), number(-12345678.0), number(0.0)
    ('0.1235', '-1.235e+07', '0')
    """
    return f"{value:.4g}" if value else "0"


def text(explanation: Explanation) -> str:
    """All of an explanation: values and gradients, paths, their growth, and a step of SGD.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    str
    """
    it = explanation
    lines = [f"Backpropagation through {it.network}",
             f"{counted(it.rows, 'row')}, {it.loss!r}: L = {number(it.before)}"]
    if it.dropout:
        lines.append("Dropout is off here.")
    lines += ["", "Forward and backward"]
    for node in it.nodes:
        label = f"  {node.name:<5}{f'{node.where} {node.layer}'.strip()}"
        lines.append(label + (f", of {node.value.shape[1]} units"
                              if node.value.shape[1] > SHOWN else ""))
        for r in range(min(it.rows, SHOWN)):
            row = f"[{r}]" if it.rows > 1 else ""
            units = _largest(node.gradient[r])
            lines += _table([f"{node.name}{row}", f"∂L/∂{node.name}{row}"], [
                [node.value[r, j], node.gradient[r, j]] for j in units], units,
                node.value.shape[1])
        if it.rows > SHOWN:
            lines.append(f"       and {it.rows - SHOWN} more rows")
    lines += ["", "The gradients of the parameters, each a sum over paths from the loss"]
    for name in it.parameters:
        lines += ["", *str(it.weight(name, *it.largest(name), paths=3)).splitlines()]
    lines += ["", "From layer to layer: the root mean square of ∂L/∂unit, from the loss back"]
    steps = flow(it)
    most = max((step.size for step in steps), default=0.0) or 1.0
    for step in steps:
        bar = "█" * max(round(BAR * step.size / most), int(step.size > 0))
        ratio = "" if step.ratio is None else f"× {number(step.ratio)}"
        lines.append(f"  {step.node.name:<5}{step.node.layer:<14} {number(step.size):>10} "
                     f"{ratio:<10} {bar}")
    lines += [f"  {verdict(it)}", "",
              f"One step of SGD with learning rate {number(it.learning_rate)}: w ← w − "
              f"{number(it.learning_rate)} · ∂L/∂w"]
    for name, parameter in it.parameters.items():
        i = it.largest(name)
        lines.append(f"  {_element(name, i):<14} {number(parameter.before[i]):>10} − "
                     f"{number(it.learning_rate)} · {number(parameter.gradient[i])} = "
                     f"{number(parameter.after[i])}")
    lines += [f"  {'L':<14} {number(it.before):>10} → {number(it.after)}", "",
              f"All sums of paths equal the gradients of the compiled engine, to at most "
              f"{it.error:.1g} of the paths' magnitudes."]
    return "\n".join(lines)


def gradient_text(gradient: WeightGradient) -> str:
    """The gradient with respect to one parameter, path by path.

    Parameters
    ----------
    gradient : WeightGradient

    Returns
    -------
    str
    """
    name = _element(gradient.parameter, gradient.index)
    lines = [f"∂L/∂{name}, where {name} = {number(gradient.value)}"]
    several = len({hop.row for path in gradient.paths for hop in path.hops}) > 1
    for i, path in enumerate(gradient.paths):
        units = [_unit(hop, several) for hop in path.hops]
        if i == 0:  # as a formula, once
            lines.append("  = " + " · ".join(
                [f"∂{a}/∂{b}" for a, b in zip(["L", *units], [*units, name], strict=True)])
                + (" + …" if gradient.n_paths > 1 else ""))
        lines.append(f"  {path.product:>12.4g} = " + " · ".join(map(number, path.factors))
                     + "   by " + " ← ".join(["L", *units]))
    others = gradient.n_paths - len(gradient.paths)
    if others:
        lines.append(f"  {gradient.rest:>12.4g}   the sum of {_paths(others, 'other path')}")
    if gradient.n_zero:
        lines.append(f"  {'':>12}   ({_paths(gradient.n_zero, 'path')} with a factor of 0)")
    lines.append(f"  {gradient.total:>12.4g}   the sum; the engine's gradient: "
                 f"{gradient.engine:.4g}")
    return "\n".join(lines)


def _paths(n: int, noun: str) -> str:
    return counted(n, noun) if n <= 2**53 else f"about {n:.3g} {noun}s"


def _element(name: str, index: tuple[int, ...]) -> str:
    return f"{name}[{','.join(map(str, index))}]"


def _unit(hop: Hop, several: bool) -> str:
    return f"{hop.node.name}[{f'{hop.row},' if several else ''}{hop.unit}]"


def _largest(gradients: np.ndarray) -> list[int]:
    """The units to print: all of a few, otherwise those with the largest gradients."""
    if len(gradients) <= SHOWN:
        return list(range(len(gradients)))
    return sorted(int(j) for j in np.argsort(-np.abs(gradients), kind="stable")[:SHOWN])


def _table(names: Sequence[str], columns: list[list[float]], units: list[int],
           n: int) -> list[str]:
    """A line for each name, under the numbers of the units."""
    cells = [[f"[{j}]", *map(number, column)] for j, column in zip(units, columns, strict=True)]
    widths = [max(map(len, column)) for column in cells]
    more = f"  … {n - len(units)} more" if n > len(units) else ""
    return [f"    {name:<10}" + " ".join(
        f"{column[i]:>{width + 1}}" for column, width in zip(cells, widths, strict=True))
        + (more if i == 0 else "") for i, name in enumerate(["", *names])]
