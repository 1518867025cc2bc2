"""The largest of all paths from the loss to a unit, without going through all of them.

A path's product is a product of factors, so the largest K products at a unit are made of the
largest K at the units that depend on it: one pass over the graph, as backpropagation's own, finds
them for every unit.  See A. Griewank, A. Walther, "Evaluating Derivatives", SIAM 2008, on
derivatives as sums over paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ..kernels.types import Array, Doubles
    from .graph import Edge, Graph, Node

__all__ = ["BestPaths", "Hop", "Ways"]


# More paths than that are counted as so many.
MOST_PATHS = 1e200


@dataclass(frozen=True)
class Hop:
    """One unit on a path, and the factor by which the path gets there.

    Attributes
    ----------
    node : Node
    row, unit : int
    factor : float
        The derivative of the unit before with respect to this one; of the loss with respect to it
        where the path begins.
    moves : bool
        Whether the unit before is this one, passed on.
    """

    node: Node
    row: int
    unit: int
    factor: float
    moves: bool


@dataclass(eq=False)
class Ways:
    """The largest paths to each unit of one node, and how many there are.

    Attributes
    ----------
    product : ndarray of shape (rows, columns, K)
        Of the factors, by descending magnitude; NaN where there are fewer than K paths.
    edge, row, unit, slot : ndarray of int, likewise
        The edge by which each path arrives (-1: it begins here), and which path it continues.
    count, nonzero : ndarray of shape (rows, columns)
        The number of all paths, and of those without a factor of 0.
    magnitude : ndarray of shape (rows, columns)
        The sum of all products' magnitudes, against which rounding errors count.
    """

    product: Doubles
    edge: Array
    row: Array
    unit: Array
    slot: Array
    count: Doubles
    nonzero: Doubles
    magnitude: Doubles


class BestPaths:
    """The largest K paths from the loss to every unit of a graph.

    Parameters
    ----------
    graph : Graph
    k : int

    Attributes
    ----------
    ways : dict of Node to Ways
    """

    def __init__(self, graph: Graph, k: int) -> None:
        self.graph, self.k = graph, k
        self.ways: dict[Node, Ways] = {node: _none(node.value.shape, k) for node in graph.nodes}
        start = self.ways[graph.output]
        dZ = graph.output.gradient
        start.product[:, :, 0] = dZ
        start.count[...] = 1
        start.nonzero[...] = dZ != 0
        start.magnitude[...] = np.abs(dZ)
        for place, edge in enumerate(graph.edges):
            self._follow(place, edge)

    def _follow(self, place: int, edge: Edge) -> None:
        before, after = self.ways[edge.write], self.ways[edge.read]
        after.count += edge.back(before.count, np.ones_like)
        after.nonzero += edge.back(before.nonzero, lambda factor: (factor != 0).astype(float))
        for counts in after.count, after.nonzero:
            np.minimum(counts, MOST_PATHS, out=counts)
        after.magnitude += edge.back(before.magnitude, np.abs)
        for r in range(len(edge.factor)):
            self._merge(place, edge, r, before, after)

    def _merge(self, place: int, edge: Edge, r: int, before: Ways, after: Ways) -> None:
        """Add the paths by one edge to one row of a node, and keep the largest K."""
        row, unit, factor = edge.row[r], edge.unit[r], edge.factor[r]
        best = np.abs(before.product[row, unit, 0] * factor)
        best = np.where(edge.exists[r] & ~np.isnan(best), best, -1.0)
        # Only the K units whose own largest paths are the largest can be on one of K.
        s = np.argsort(-best, axis=1, kind="stable")[:, : self.k]
        i = np.arange(len(s))[:, None]
        row, unit, factor, exists = row[i, s], unit[i, s], factor[i, s], edge.exists[r][i, s]
        product = before.product[row, unit] * factor[:, :, None]
        product = np.where(exists[:, :, None], product, np.nan)
        shape = product.shape

        def candidates(new: Array, old: Array) -> Array:
            return np.concatenate([old[r], np.broadcast_to(new, shape).reshape(len(s), -1)], axis=1)

        product = candidates(product, after.product)
        order = np.argsort(np.where(np.isnan(product), 1.0, -np.abs(product)), axis=1,
                           kind="stable")[:, : self.k]
        after_r = {
            "edge": candidates(np.array(place), after.edge),
            "row": candidates(row[:, :, None], after.row),
            "unit": candidates(unit[:, :, None], after.unit),
            "slot": candidates(np.arange(self.k), after.slot),
        }
        after.product[r] = product[i, order]
        for name, array in after_r.items():
            getattr(after, name)[r] = array[i, order]

    def hops(self, node: Node, row: int, unit: int, slot: int) -> list[Hop]:
        """The units of a path, from the loss to a unit.

        Parameters
        ----------
        node : Node
        row, unit : int
            The unit where it ends.
        slot : int
            Which of the largest K it is.

        Returns
        -------
        list of Hop
        """
        found: list[Hop] = []
        while True:
            before = self.before(node, row, unit, slot)
            if before is None:
                factor = float(self.ways[node].product[row, unit, slot])
                found.append(Hop(node, row, unit, factor, False))
                return found[::-1]
            place, *unit_before, factor = before
            edge = self.graph.edges[place]
            found.append(Hop(node, row, unit, factor, edge.moves))
            node, (row, unit, slot) = edge.write, unit_before

    def before(self, node: Node, row: int, unit: int,
               slot: int) -> tuple[int, int, int, int, float] | None:
        """Where a path to a unit comes from.

        Parameters
        ----------
        node, row, unit, slot
            As for `hops`.

        Returns
        -------
        edge, row, unit, slot : int
            The edge by its place in the graph's list, the unit of its `write`, and which of the
            largest paths there it continues.
        factor : float
            None instead of all five if the path begins here.
        """
        ways = self.ways[node]
        place = int(ways.edge[row, unit, slot])
        if place < 0:
            return None
        edge = self.graph.edges[place]
        r, u, s = (int(array[row, unit, slot]) for array in (ways.row, ways.unit, ways.slot))
        here = (edge.row[row, unit] == r) & (edge.unit[row, unit] == u) & edge.exists[row, unit]
        return place, r, u, s, float(edge.factor[row, unit, np.flatnonzero(here)[0]])


def _none(shape: tuple[int, ...], k: int) -> Ways:
    """No path to any unit yet."""
    indices = [np.full((*shape, k), -1) for _ in range(4)]
    return Ways(np.full((*shape, k), np.nan), *indices, *(np.zeros(shape) for _ in range(3)))
