"""The derivatives between units: what backpropagation multiplies along a path.

A *unit* is a number of the forward pass: one row and one column of what a layer returns.  Each
instruction of the network's program gives the derivatives of the units that it writes with respect
to those that it reads, computed by the program's own rules from unit vectors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import ops
from ..program import Builder, Instruction, Interpreter, Program, Value
from ..program.gradients import add_backward

if TYPE_CHECKING:
    from ..kernels.types import Array, Doubles, Floats
    from ..layers import Layer

__all__ = ["ELEMENTWISE", "Edge", "Entry", "Graph", "Node"]

# Operations whose results depend on the same column of the same row alone.
ELEMENTWISE = {*ops.ACTIVATIONS, "scale", "scale_shift", "prelu"}
# Those that write what they read, in other columns or to several readers.
MOVES = {"add", "dropout", "join", "take_columns"}
# What an instruction needs beside itself for its rule.
HELPERS = {"normalize_columns": ("column_moments", "inverse_sqrt"),
           "piecewise": ("piecewise_nodes",)}
LETTERS = {"dense": "z", "shared_dense": "z", "shared_product": "z", "separate_dense": "z",
           "add": "r", "join": "c", "take_columns": "t", "normalize_rows": "n",
           "normalize_columns": "n", "scale": "s", "scale_shift": "s", "embedding": "e",
           "periodic": "e", "periodic_features": "e", "piecewise": "e", "repeat": "m",
           "sum_members": "m", "python": "p", "dropout": "d"}
# Numbers that are computed, at most, to differentiate one instruction by its parameters.
MOST_NUMBERS = 1 << 32
# Numbers that are kept, at most, of an instruction's derivatives by what it reads: 1 GiB.
MOST_KEPT = 1 << 27


@dataclass(eq=False)
class Node:
    """A value of the network: all units that one instruction writes.

    Attributes
    ----------
    name : str
        As lecture notes have it: ``"z1"`` for what the first dense layer returns, ``"a1"`` for its
        activation, ``"x"`` for the input.
    where : str
        The layer's path in the network; empty for the input.
    layer : str
        The layer's class, and for a container's own operations what they do.
    op : str
        The operation of the program.
    value : ndarray of shape (rows, columns)
    gradient : ndarray of shape (rows, columns)
        Of the loss with respect to each unit; zeros where it does not depend on the unit.
    """

    name: str
    where: str
    layer: str
    op: str
    value: Doubles
    gradient: Doubles


@dataclass(eq=False)
class Edge:
    """The derivatives of a node's units with respect to the units of a node that it is made of.

    Attributes
    ----------
    write, read : Node
    factor : ndarray of shape (rows, columns of read, n)
        The derivatives of n units of `write` with respect to each unit of `read`.
    row, unit : ndarray of int, likewise
        Which units of `write` these are.
    exists : ndarray of bool, likewise
        False where a unit of `read` has fewer than n that depend on it.
    moves : bool
        Whether the units are only passed on, so that every factor is 1.
    """

    write: Node
    read: Node
    factor: Doubles
    row: Array
    unit: Array
    exists: Array
    moves: bool

    def back(self, of_write: Doubles,
             change: Callable[[Doubles], Doubles] = lambda factor: factor) -> Doubles:
        """For each unit of `read`: the sum of what its units of `write` have, times the factors.

        Parameters
        ----------
        of_write : ndarray of shape (rows, columns of write)
        change : callable, optional
            Makes of the factors what to multiply by instead.

        Returns
        -------
        ndarray of shape (rows, columns of read)
        """
        total = np.empty(self.factor.shape[:2])
        for r in range(len(total)):  # a row at a time, to bound what is gathered
            gathered = of_write[self.row[r], self.unit[r]]
            total[r] = (change(self.factor[r]) * self.exists[r] * gathered).sum(axis=1)
        return total


@dataclass(frozen=True)
class Entry:
    """A unit that depends directly on a parameter, and its derivative with respect to it."""

    row: int
    unit: int
    factor: float


class Graph:
    """All nodes and edges of a network on some rows.

    Parameters
    ----------
    run : Interpreter
        Of a program for training in float64, after its `forward`.  Dropout must be off.
    dZ : ndarray of shape (rows, n_out)
        The gradient of the loss with respect to the output.
    names : dict of str to str
        The class of each layer, by its path.

    Attributes
    ----------
    nodes : list of Node
        In the order of the forward pass; the first is the input.
    edges : list of Edge
        In the order of the backward pass.
    output : Node
    parameters : dict of (Layer, str) to (Node, Instruction)
        The node that each parameter's instruction writes.

    Raises
    ------
    ValueError
        If a layer that runs in Python does not have a derivative for each row by itself, or a layer
        has too many derivatives.
    """

    def __init__(self, run: Interpreter, dZ: Floats, names: dict[str, str]) -> None:
        self._run, self._names, self._known = run, names, set[str]()
        self._dense = 0
        self._tables: dict[Instruction, dict[str, dict[int, list[Entry]]]] = {}
        program = run.program
        self.n_rows = len(dZ)
        self._nodes: dict[Value, Node] = {}
        self._add_node(program.x, None)
        self.edges: list[Edge] = []
        for each in program.forward:
            if each.writes[0].rows is None and each.writes[0].needs_gradient and any(
                    value in self._nodes for value in each.reads):
                self._add_node(each.writes[0], each)
        self.output = self._nodes[program.z]
        self.output.gradient[...] = dZ
        reached = {program.z}
        self.parameters: dict[tuple[Layer, str], tuple[Node, Instruction]] = {}
        for each in reversed(program.forward):
            write = each.writes[0]
            if write not in reached or write not in self._nodes:
                continue
            for value in each.reads:
                if value.kind == "parameter" and value.owner is not None:
                    self.parameters[value.owner] = self._nodes[write], each
            for edge, read in self._edges(each):
                self._check(each, edge)
                self.edges.append(edge)
                edge.read.gradient += edge.back(edge.write.gradient)
                reached.add(read)
        self.nodes = [node for value, node in self._nodes.items()
                      if value in reached or value is program.x]

    def _add_node(self, value: Value, each: Instruction | None) -> None:
        array: Any = self._run.values[value]  # float64
        if each is None:
            name, where, layer, op = "x", "", "input", "input"
        else:
            name, where, op = self._name(each), each.where, each.op
            layer = self._names.get(where, "")
        self._known.add(name)
        self._nodes[value] = Node(name, where, layer, op, array, np.zeros_like(array))

    def _name(self, each: Instruction) -> str:
        """A letter and a number: those of dense layers count up, others follow what they read."""
        letter = LETTERS.get(each.op, "a")
        read = next(self._nodes[value].name for value in each.reads if value in self._nodes)
        number = int(read[1:] or 0)
        if letter == "z":
            self._dense += 1
            number = self._dense
        number = max(number, 1)
        while f"{letter}{number}" in self._known:
            number += 1
        return f"{letter}{number}"

    def _edges(self, each: Instruction) -> list[tuple[Edge, Value]]:
        write = self._nodes[each.writes[0]]
        found = []
        start = 0
        for i, value in enumerate(each.reads):
            if value in self._nodes and value.needs_gradient:
                read = self._nodes[value]
                for columns, factor, row in self._derivatives(each, i, value, start):
                    found.append((self._edge(write, read, columns, factor, row,
                                             each.op in MOVES), value))
            start += value.columns
        return found

    def _edge(self, write: Node, read: Node, unit: Any, factor: Any, row: Any,
              moves: bool) -> Edge:
        shape = (*read.value.shape, np.shape(factor)[-1])
        exists, unit = unit >= 0, np.maximum(unit, 0)
        row = np.arange(self.n_rows)[:, None, None] if row is None else row
        return Edge(write, read, np.broadcast_to(factor, shape), np.broadcast_to(row, shape),
                    np.broadcast_to(unit, shape), np.broadcast_to(exists, shape), moves)

    def _derivatives(self, each: Instruction, i: int, value: Value,
                     start: int) -> list[tuple[Any, Any, Any]]:
        """For each unit that is read: units that are written (-1: none), factors, and rows."""
        n_in, n_out = value.columns, each.writes[0].columns
        own = np.arange(n_in)[:, None]
        if each.op == "dense":
            W = self._array(each.reads[1])
            return [(np.arange(n_out), W, None)]
        if each.op in ("add", "dropout"):
            return [(own, np.ones((1, 1)), None)]
        if each.op == "join":
            return [(own + start, np.ones((1, 1)), None)]
        if each.op == "take_columns":
            return [(unit[:, None], np.ones((1, 1)), None)
                    for unit in _occurrences(each.attributes["columns"], n_in)]
        back = self._rule(each, value)
        ones = np.ones((self.n_rows, n_out))
        if each.op in ELEMENTWISE:
            return [(own, back(ones)[:, :, None].copy(), None)]
        if each.op == "normalize_columns":  # a unit depends on all rows of its column
            factor = np.empty((self.n_rows, n_in, self.n_rows))
            for r in range(self.n_rows):
                factor[:, :, r] = back(ones * (np.arange(self.n_rows) == r)[:, None])
            return [(own, factor, np.arange(self.n_rows))]
        self._check_size(each, self.n_rows * n_in * n_out, MOST_KEPT, "what it reads")
        factor = np.empty((self.n_rows, n_in, n_out))
        for j in range(n_out):
            factor[:, :, j] = back(ones * (np.arange(n_out) == j))
        none = ~(factor != 0).any(axis=0)  # of an operation that mixes some of the columns only
        unit = np.where(none, -1, np.arange(n_out)) if each.op != "python" else np.arange(n_out)
        return [(unit, factor, None)]

    def _rule(self, each: Instruction, read: Value) -> Any:
        """The gradient with respect to what an instruction reads, from that of what it writes."""
        helpers = [other for other in self._run.program.forward
                   if other.op in HELPERS.get(each.op, ())]
        program = Program(read, each.writes[0], forward=[*helpers, each])
        add_backward(Builder(training=True), program)
        run = Interpreter(program)
        run.values = dict(self._run.values)
        return run.backward

    def _check(self, each: Instruction, edge: Edge) -> None:
        """Raise unless the derivatives of a layer that runs in Python are those of single rows."""
        if each.op != "python":
            return
        whole = self._rule(each, each.reads[0])(edge.write.gradient)
        summed = edge.back(edge.write.gradient)
        if not np.allclose(whole, summed, rtol=1e-9, atol=1e-12 * (1 + np.abs(whole).max())):
            raise ValueError(f"net: layer {each.where} ({each.layer!r}): expected a layer whose "
                             f"backward treats each row by itself and gives the same result each "
                             f"time, got one whose gradient is no sum of derivatives between "
                             f"units; explain the network without this layer")

    def _check_size(self, each: Instruction, numbers: int, most: int, by: str) -> None:
        """Raise if there are too many derivatives of what an instruction writes."""
        if numbers > most:
            remedy = ("explain fewer rows" if numbers // self.n_rows <= most
                      else "explain a network in which this layer is narrower")
            raise ValueError(f"net: layer {each.where} ({self._names.get(each.where, each.op)}): "
                             f"expected at most {most:,} derivatives of what it returns with "
                             f"respect to {by}, got {numbers:,}; {remedy}")

    def _array(self, value: Value) -> Doubles:
        assert value.owner is not None
        layer, name = value.owner
        layer.restore_views()
        array: Doubles = getattr(layer, name).reshape(value.rows, value.columns)
        return array

    def entries(self, layer: Layer, name: str, index: int) -> list[Entry]:
        """The units that depend directly on one parameter.

        Parameters
        ----------
        layer : Layer
        name : str
            The parameter's, in the layer.
        index : int
            Of the element in the flattened parameter.

        Returns
        -------
        list of Entry
            One for each row where the layer is dense.
        """
        _, each = self.parameters[layer, name]
        place = [value.owner for value in each.reads].index((layer, name))
        rows = range(self.n_rows)
        if each.op == "dense":
            if place == 2:
                return [Entry(r, index, 1.0) for r in rows]
            X = self._run.values[each.reads[0]]
            i, j = divmod(index, each.writes[0].columns)
            return [Entry(r, j, float(X[r, i])) for r in rows]
        if each.op in ("scale", "scale_shift"):
            X = self._run.values[each.reads[0]]
            return [Entry(r, index, float(X[r, index]) if place == 1 else 1.0) for r in rows]
        if each not in self._tables:
            self._tables[each] = self._table(each)
        return self._tables[each][name].get(index, [])

    def dense_input(self, layer: Layer, name: str) -> Node | None:
        """What the units are multiplied by, for the weights of a dense layer; else None."""
        _, each = self.parameters[layer, name]
        if each.op != "dense" or each.reads[1].owner != (layer, name):
            return None
        return self._nodes[each.reads[0]]

    def sums(self, layer: Layer, name: str, of_node: Doubles) -> Doubles:
        """For each element of a parameter: the sum of `of_node` over its entries, by their factors.

        Parameters
        ----------
        layer : Layer
        name : str
        of_node : ndarray of shape (rows, columns)
            A number for each unit of the node that depends on the parameter, such as its gradient.

        Returns
        -------
        ndarray
            Of the parameter's shape.
        """
        _, each = self.parameters[layer, name]
        data = next(value for value in each.reads if value.rows is None)
        self._rule(each, data)(of_node)
        total: Doubles = getattr(layer, "d" + name).copy()
        return total

    def _table(self, each: Instruction) -> dict[str, dict[int, list[Entry]]]:
        """For each parameter of an instruction and each element: the units that depend on it."""
        owned = [value.owner for value in each.reads
                 if value.kind == "parameter" and value.owner is not None]
        n_out = each.writes[0].columns
        numbers = self.n_rows * n_out * sum(value.rows * value.columns for value in each.reads
                                            if value.kind == "parameter" and value.rows)
        self._check_size(each, numbers, MOST_NUMBERS, "its parameters")
        tables: dict[str, dict[int, list[Entry]]] = {name: {} for _, name in owned}
        data = next(value for value in each.reads if value.rows is None)
        back = self._rule(each, data)
        for r in range(self.n_rows):
            for j in range(n_out):
                unit = np.zeros((self.n_rows, n_out))
                unit[r, j] = 1
                back(unit)
                for layer, name in owned:
                    gradient = getattr(layer, "d" + name).reshape(-1)
                    for index in np.flatnonzero(gradient):
                        tables[name].setdefault(int(index), []).append(
                            Entry(r, j, float(gradient[index])))
        return tables


def _occurrences(columns: Any, n: int) -> list[Array]:
    """For the first, second, … time that a column is taken: where to, -1 where it is not."""
    found: list[Array] = []
    seen = [0] * n
    for place, column in enumerate(columns):
        if seen[column] == len(found):
            found.append(np.full(n, -1))
        found[seen[column]][column] = place
        seen[column] += 1
    return found
