"""An explanation as one HTML page, made of page.html, page.css, page.js and its numbers."""

from __future__ import annotations

import html
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..version import __version__
from .flow import flow, verdict
from .graph import ELEMENTWISE
from .text import text

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..kernels.types import Array
    from .explanation import Explanation, Parameter
    from .graph import Edge, Node
    from .paths import BestPaths

__all__ = ["page", "page_in_notebook"]

FILES = Path(__file__).parent
# Units of a layer that a page has, by how many parameters that makes; others are folded.
SHOWN = 64, 32, 16, 8
MOST_PARAMETERS = 60_000
# Lines that the picture has between two layers that are no dense ones.
DRAWN = 64
HEIGHT = 780


def page(explanation: Explanation) -> str:
    """The page, with everything it needs inside.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    str
    """
    parts = {"title": html.escape(explanation.network), "text": html.escape(text(explanation)),
             "data": _json(_numbers(explanation))}
    parts |= {name: (FILES / file).read_text("utf-8").rstrip()
              for name, file in (("style", "page.css"), ("script", "page.js"))}
    # Split, so that nothing in a part is taken for the name of another.
    pieces = (FILES / "page.html").read_text("utf-8").split("{{")
    made = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        made += [parts[name], rest]
    return "".join(made)


def page_in_notebook(explanation: Explanation) -> str:
    """The page in a frame, so that its style and the notebook's do not mix.

    Parameters
    ----------
    explanation : Explanation

    Returns
    -------
    str
    """
    return (f'<iframe title="Backpropagation" style="width:100%;height:{HEIGHT}px;border:0" '
            f'sandbox="allow-scripts" srcdoc="{html.escape(page(explanation))}"></iframe>')


def _json(value: Any) -> str:
    """JSON that ends no script element, whatever text is in it."""
    encoded = json.dumps(_named(value), allow_nan=False, separators=(",", ":"), ensure_ascii=False)
    for each in "<>&\u2028\u2029":
        encoded = encoded.replace(each, f"\\u{ord(each):04x}")
    return encoded


def _named(value: Any) -> Any:
    """The same with the names that JavaScript has for numbers that JSON cannot express."""
    if isinstance(value, dict):
        return {key: _named(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_named(each) for each in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _numbers(it: Explanation) -> dict[str, Any]:
    """All that page.js shows."""
    limit = next((n for n in SHOWN if sum(
        np.prod([min(n, size) for size in parameter.before.shape])
        for parameter in it.parameters.values()) <= MOST_PARAMETERS), SHOWN[-1])
    place = {node: i for i, node in enumerate(it.nodes)}
    sizes = {node: np.abs(node.gradient).sum(axis=0) + 1e-9 * np.abs(node.value).sum(axis=0)
             for node in it.nodes}
    # A weight's gradient is its input times its output's gradient: show inputs by what they add.
    reads = {name: it.graph.dense_input(*it.owners[name]) for name in it.parameters}
    for name, parameter in it.parameters.items():
        read = reads[name]
        if read is not None:
            sizes[read] = np.abs(parameter.gradient).max(axis=1)
    like = _like(it)
    of_all: dict[Node, Any] = {}
    for node, size in sizes.items():  # of nodes whose units correspond, the same are shown
        of_all[like[node]] = of_all.get(like[node], 0) + size / (size.max() or 1)
    shown = {node: _largest(of_all[like[node]], limit) for node in it.nodes}
    parameters = [_parameter(it, parameter, reads[name], shown, place)
                  for name, parameter in it.parameters.items()]
    best = it.best_paths()
    drawn = _with_largest_paths(best, shown)
    wanted = [(parameter.node, r, unit) for parameter in it.parameters.values()
              for r in range(it.rows) for unit in shown[parameter.node]]
    wanted += [(it.nodes[made["node"]], r, unit) for made in parameters
               for row in made["entries"] or () for entries in row for r, unit, _ in entries]
    start = max(range(len(parameters)), key=lambda i: (parameters[i]["read"] is not None, -i))
    return {
        "version": __version__, "network": it.network, "loss": type(it.loss).__name__,
        "before": it.before, "after": it.after, "learningRate": it.learning_rate,
        "rows": it.rows, "dropout": it.dropout, "error": it.error, "listed": best.k,
        "output": place[it.graph.output], "start": start,
        "nodes": [{"name": node.name, "where": node.where, "layer": node.layer,
                   "like": place[like[node]], "n": node.value.shape[1], "shown": drawn[node],
                   "value": node.value[:, drawn[node]].tolist(),
                   "gradient": node.gradient[:, drawn[node]].tolist()} for node in it.nodes],
        "edges": [{"write": place[edge.write], "read": place[edge.read], "kind": _kind(edge),
                   "pairs": _pairs(edge, drawn)} for edge in it.graph.edges],
        "parameters": parameters,
        "ways": _ways(best, wanted, place),
        "flow": [{"node": place[step.node], "size": step.size, "ratio": step.ratio}
                 for step in flow(it)],
        "verdict": verdict(it),
    }


def _like(it: Explanation) -> dict[Node, Node]:
    """For each node the first one whose units are its own before activations and the like."""
    like = {node: node for node in it.nodes}
    for edge in reversed(it.graph.edges):  # in the order of the forward pass
        if edge.write.op in ELEMENTWISE:
            like[edge.write] = like[edge.read]
    return like


def _largest(sizes: Array, n: int) -> list[int]:
    """The indices of the n largest, ascending."""
    return sorted(np.argsort(-sizes, kind="stable")[:n].tolist())


def _with_largest_paths(best: BestPaths,
                        shown: dict[Node, list[int]]) -> dict[Node, list[int]]:
    """The units that are shown, and those on the largest paths to them."""
    found = {node: set(units) for node, units in shown.items()}
    for node, units in shown.items():
        for unit in units:
            for r in range(len(node.value)):
                if not np.isnan(best.ways[node].product[r, unit, 0]):
                    for hop in best.hops(node, r, unit, 0):
                        found[hop.node].add(hop.unit)
    return {node: sorted(units) for node, units in found.items()}


def _parameter(it: Explanation, parameter: Parameter, read: Node | None,
               shown: dict[Node, list[int]], place: dict[Node, int]) -> dict[str, Any]:
    name, shape = parameter.name, parameter.before.shape
    matrix = parameter.before.reshape(-1, shape[-1])
    gradient = parameter.gradient.reshape(matrix.shape)
    limit = max(map(len, shown.values()))
    if read is not None:
        rows, columns = shown[read], shown[parameter.node]
    elif shape[-1] == parameter.node.value.shape[1]:
        columns = shown[parameter.node]
        rows = _largest(np.abs(gradient).max(axis=1), limit)
    else:
        columns = _largest(np.abs(gradient).max(axis=0), limit)
        rows = _largest(np.abs(gradient).max(axis=1), limit)
    some = np.ix_(rows, columns)
    top = divmod(int(np.abs(gradient[some]).argmax()), len(columns))
    index = [rows[top[0]], columns[top[1]]]
    entries = None
    if read is None:
        entries = [[[[each.row, each.unit, each.factor] for each in it.graph.entries(
            *it.owners[name], i * shape[-1] + j)] for j in columns] for i in rows]
    vector = len(shape) == 1
    return {"name": name, "layer": parameter.layer, "node": place[parameter.node],
            "read": None if read is None else place[read],
            "shape": list(shape),
            "shown": [columns] if vector else [rows, columns], "start": index[vector:],
            "largest": float(np.abs(gradient).max()), "before": matrix[some].tolist(),
            "gradient": gradient[some].tolist(), "entries": entries}


def _kind(edge: Edge) -> str:
    """What the factors of an edge are."""
    if edge.moves:
        return "moves"
    return {"dense": "weight"}.get(edge.write.op,
                                   "derivative" if edge.write.op in ELEMENTWISE else "mixed")


def _pairs(edge: Edge, shown: dict[Node, list[int]]) -> list[list[int]]:
    """Units that a line connects: of what is read, and of what is written."""
    found: dict[tuple[int, int], None] = {}
    for i in shown[edge.read]:
        for unit, exists in zip(edge.unit[0, i], edge.exists[0, i], strict=True):
            if exists:
                found[i, int(unit)] = None
        if len(found) > DRAWN * DRAWN:
            break
    return [list(pair) for pair in found]


def _ways(best: BestPaths, wanted: Iterable[tuple[Node, int, int]],
          place: dict[Node, int]) -> dict[int, dict[str, Any]]:
    """The largest paths to the wanted units, and to those that these go through."""
    found: dict[int, dict[str, Any]] = {}
    todo = list(wanted)
    while todo:
        node, row, unit = todo.pop()
        of_node = found.setdefault(place[node], {})
        if f"{row},{unit}" in of_node:
            continue
        ways = best.ways[node]
        paths: list[list[float]] = []
        for slot, product in enumerate(ways.product[row, unit].tolist()):
            if np.isnan(product):
                break
            before = best.before(node, row, unit, slot)
            if before is None:
                paths.append([product])
            else:
                edge, r, u, s, factor = before
                paths.append([product, edge, r, u, s, factor])
                todo.append((best.graph.edges[edge].write, r, u))
        of_node[f"{row},{unit}"] = {
            "gradient": float(node.gradient[row, unit]),
            "magnitude": float(ways.magnitude[row, unit]), "count": float(ways.count[row, unit]),
            "nonzero": float(ways.nonzero[row, unit]), "paths": paths}
    return found
