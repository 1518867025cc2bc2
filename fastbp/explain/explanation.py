"""`explain`: one network on a few rows, and every gradient as a sum over paths."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import losses
from ..files import checked_path, replace_file
from ..kernels import checks, norm
from ..layers import Dropout
from ..network import Sequential
from ..optimizers import SGD
from ..training import Dataset
from .graph import Graph, Node
from .page import page, page_in_notebook
from .paths import BestPaths, Hop
from .text import gradient_text, text

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from ..kernels.types import Doubles
    from ..layers import Layer
    from ..losses import Loss
    from ..program import Interpreter

__all__ = ["Explanation", "Parameter", "Path", "WeightGradient", "explain"]

# Rows that can be explained at once: a page shows the units of each.
MOST_ROWS = 16
# Paths that a page or a text lists.
LISTED = 8
# How far the sum of paths may be from the engine's gradient, relative to their magnitudes.
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Parameter:
    """One array of parameters, before and after a step of SGD.

    Attributes
    ----------
    name : str
        The layer's path and the parameter's name there, such as ``"0.W"``.
    layer : str
        The layer's class.
    before, after : ndarray
        Its values.
    gradient : ndarray, likewise
        As the compiled engine computed it.
    node : Node
        What its layer's instruction returns.
    """

    name: str
    layer: str
    before: Doubles
    after: Doubles
    gradient: Doubles
    node: Node


@dataclass(frozen=True)
class Path:
    """A path from the loss to a parameter, and the factors along it.

    Attributes
    ----------
    hops : tuple of Hop
        The units, from the network's output on.
    factor : float
        The derivative of the last unit with respect to the parameter.
    product : float
        Of the hops' factors and this one.
    """

    hops: tuple[Hop, ...]
    factor: float
    product: float

    @property
    def factors(self) -> list[float]:
        """The numbers whose product it is, from the loss to the parameter."""
        return [*(hop.factor for hop in self.hops), self.factor]


@dataclass(frozen=True)
class WeightGradient:
    """The gradient with respect to one parameter, as a sum over paths.

    Attributes
    ----------
    parameter : str
        Such as ``"0.W"``.
    index : tuple of int
    value : float
        The parameter's.
    paths : tuple of Path
        Those of the largest magnitude, largest first.
    rest : float
        The sum of all other paths.
    total : float
        The sum of all paths.
    engine : float
        The gradient that the compiled engine computed.
    n_paths, n_zero : int
        How many paths there are, and how many of these have a factor of 0; rounded to float64's
        precision where they are more than 2⁵³.
    magnitude : float
        The sum of the magnitudes of all products: rounding errors are relative to it.
    """

    parameter: str
    index: tuple[int, ...]
    value: float
    paths: tuple[Path, ...]
    rest: float
    total: float
    engine: float
    n_paths: int
    n_zero: int
    magnitude: float

    def __str__(self) -> str:
        return gradient_text(self)


@dataclass(eq=False)
class Explanation:
    """What `explain` returns: ``print`` it, or ``save`` it as a page.

    Attributes
    ----------
    network : str
        In words.
    loss : Loss
    before, after : float
        The loss's value before and after one step of SGD on these rows.
    learning_rate : float
        Of that step.
    rows : int
    targets : ndarray
    nodes : list of Node
        What each layer returns (Z, A), and the gradient of the loss with respect to it (dZ, dA),
        from the input to the output.
    parameters : dict of str to Parameter
        By their names: values, gradients (dW, db) and what a step makes of them.
    dropout : bool
        Whether the network has dropout, which is off here.
    error : float
        The largest difference between a sum of paths and the engine's gradient, relative to the
        paths' magnitudes.
    graph : Graph

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Dense(2, 2), fb.Tanh(), fb.Dense(2, 1)], seed=0)
    >>> explanation = fb.explain(net, [1.0, 2.0], 0.5, loss=fb.MeanSquaredError())
    >>> gradient = explanation.weight("0.W", 1, 0)
    >>> gradient.n_paths, len(gradient.paths[0].factors)
    (1, 4)
    >>> abs(gradient.total - gradient.engine) < 1e-15
    True
    """

    network: str
    loss: Loss
    before: float
    after: float
    learning_rate: float
    rows: int
    targets: Any
    nodes: list[Node]
    parameters: dict[str, Parameter]
    dropout: bool
    graph: Graph = field(repr=False)
    owners: dict[str, tuple[Layer, str]] = field(repr=False)
    error: float = 0.0
    _best: dict[int, BestPaths] = field(default_factory=dict, repr=False)

    def best_paths(self, k: int = LISTED) -> BestPaths:
        """The largest `k` paths to every unit."""
        if k not in self._best:
            self._best[k] = BestPaths(self.graph, k)
        return self._best[k]

    def weight(self, parameter: str, *index: int, paths: int = LISTED) -> WeightGradient:
        """The gradient with respect to one parameter, path by path.

        Parameters
        ----------
        parameter : str
            One of `parameters`, such as ``"0.W"``.
        *index : int
            The element: ``weight("0.W", 2, 3)`` is W[2, 3], from the layer's input 2 to its output
            3.
        paths : int, default 8
            How many to list; the others are summed.

        Returns
        -------
        WeightGradient

        Raises
        ------
        KeyError
            If there is no such parameter.
        IndexError
            If it has no such element.
        TypeError, ValueError
            If `paths` or an index is no whole number, or `paths` is below 1.
        """
        if parameter not in self.parameters:
            raise KeyError(f"parameter: expected one of {', '.join(self.parameters)}, got "
                           f"{parameter!r}")
        k = checks.integer("paths", paths, 1)
        it = self.parameters[parameter]
        index = tuple(checks.integer("index", each, 0) for each in index)
        if len(index) != it.before.ndim or any(
                i >= n for i, n in zip(index, it.before.shape, strict=True)):
            raise IndexError(f"index: expected {it.before.ndim} of shape {it.before.shape}, the "
                             f"shape of {parameter}, got {index}")
        best = self.best_paths(k)
        flat = int(np.ravel_multi_index(index, it.before.shape))
        entries = self.graph.entries(*self.owners[parameter], flat)
        ways = best.ways[it.node]
        found = [(ways.product[entry.row, entry.unit, slot] * entry.factor, entry, slot)
                 for entry in entries for slot in range(k)
                 if not np.isnan(ways.product[entry.row, entry.unit, slot])]
        found.sort(key=lambda each: -abs(each[0]))
        listed = tuple(
            Path(tuple(best.hops(it.node, entry.row, entry.unit, slot)), entry.factor,
                 float(product))
            for product, entry, slot in found[:k])

        def over(array: Doubles, factor: Any = lambda entry: entry.factor) -> float:
            return float(sum(array[entry.row, entry.unit] * factor(entry) for entry in entries))

        total = over(it.node.gradient)
        n_paths = int(over(ways.count, lambda entry: 1))
        n_nonzero = int(over(ways.nonzero, lambda entry: entry.factor != 0))
        rest = 0.0 if len(listed) == n_paths else total - sum(path.product for path in listed)
        return WeightGradient(
            parameter, index, float(it.before[index]), listed, rest, total,
            float(it.gradient[index]), n_paths, n_paths - n_nonzero,
            over(ways.magnitude, lambda entry: abs(entry.factor)))

    def largest(self, parameter: str) -> tuple[int, ...]:
        """The index of the element of a parameter with the largest gradient."""
        gradient = self.parameters[parameter].gradient
        return tuple(int(i) for i in np.unravel_index(np.abs(gradient).argmax(), gradient.shape))

    def __str__(self) -> str:
        return text(self)

    def html(self) -> str:
        """The explanation as one HTML page, which needs nothing else and no network."""
        return page(self)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page to a file, whole or not at all.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError, ValueError
            If it is not the path of a file.
        OSError
            If it cannot be written.
        """
        replace_file(checked_path("path", path), self.html().encode())

    def _repr_html_(self) -> str:
        return page_in_notebook(self)


def explain(net: Sequential, x: ArrayLike, y: ArrayLike, *, loss: Loss,
            learning_rate: float = 0.1) -> Explanation:
    """Explain how backpropagation computes the gradients of a network on these numbers.

    A copy of the network in float64 makes one step of training on the rows, in compiled code; all
    else is computed from the network's layers, and compared with that.  Dropout is off.

    The gradient of the loss with respect to a weight is a sum over all paths from the loss to the
    weight, of the products of the derivatives along each (the chain rule).  Between units of
    normalization and the like these are entries of the layer's Jacobian.

    Parameters
    ----------
    net : Sequential
    x : array_like of shape (n_in,) or (rows, n_in)
        A row, or at most 16.
    y : array_like
        The row's target, or one for each row, as `loss` takes them.
    loss : Loss
    learning_rate : float above 0, default 0.1
        Of the step of SGD that is shown.

    Returns
    -------
    Explanation
        ``print(explanation)`` shows it as text, a notebook as a page with which to go through it,
        and ``explanation.save("backprop.html")`` writes that page.

    Raises
    ------
    TypeError, ValueError
        If `net` is not a network, has no parameters, or has a layer whose gradients are no sums of
        derivatives between units, which returns something else each time, or which has too many
        derivatives; if x, y, `loss` or `learning_rate` do not fit or are not finite;
        if there are more than 16 rows; if a gradient is not finite.
    FloatingPointError
        If the step of SGD leads to weights that are not finite.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.mlp([2, 3, 1], "tanh", seed=0)
    >>> explanation = fb.explain(net, [0.5, -1.0], 1.0, loss=fb.MeanSquaredError())
    >>> explanation.after < explanation.before
    True
    >>> print(explanation.weight("0.W", 1, 2).n_paths)
    1
    >>> explanation.save("backprop.html")
    """
    if not isinstance(net, Sequential):
        hint = "; pass model.to_network()" if hasattr(net, "to_network") else ""
        raise TypeError(f"net: expected a Sequential, got {type(net).__name__}{hint}")
    if net.parameters.size == 0:
        raise ValueError("net: expected a network with parameters, whose gradients can be "
                         "explained, got one without")
    learning_rate = checks.positive("learning_rate", learning_rate)
    losses.checked_loss(loss)
    X, y = _rows(net, x, y)
    net = net.astype("float64")
    if not np.isfinite(net.parameters).all():
        raise ValueError("net: expected finite weights, got some that are infinite or NaN")
    layers = _all_layers((str(i), layer) for i, layer in enumerate(net.layers))
    dropped = [layer for layer in layers.values() if isinstance(layer, Dropout)]
    for dropout in dropped:
        dropout.rate = 0.0
    data = Dataset(net, X, y, loss)
    rows, targets, _ = data.batch(slice(None))
    run = net.programs.interpreter(rows.shape[1], training=True)
    names = {where: type(layer).__name__ for where, layer in layers.items()}
    before, dZ = losses.compute_loss(loss, _forward(run, rows, names), targets)
    if not (np.isfinite(before) and np.isfinite(dZ).all()):
        raise ValueError(f"net: expected a network whose loss on these rows is finite, and so its "
                         f"gradient, got a loss of {before}; look at the weights, at "
                         f"x and at y")
    stepped = _after_a_step(net, X, y, loss, learning_rate)
    graph = Graph(run, dZ, names)
    parameters: dict[str, Parameter] = {}
    owners: dict[str, tuple[Layer, str]] = {}
    for (where, layer), (_, after) in zip(net.leaves, stepped.leaves, strict=True):
        for name in layer.parameter_shapes:
            if (layer, name) in graph.parameters:  # which the loss depends on
                owners[f"{where}.{name}"] = layer, name
                parameters[f"{where}.{name}"] = Parameter(
                    f"{where}.{name}", type(layer).__name__, getattr(layer, name).copy(),
                    getattr(after, name).copy(), getattr(after, "d" + name).copy(),
                    graph.parameters[layer, name][0])
    Z = stepped.programs.interpreter(rows.shape[1], training=True).forward(rows, update=False)
    explanation = Explanation(_in_words(net), loss, before,
                              losses.compute_loss(loss, Z, targets)[0], learning_rate, len(rows),
                              targets, graph.nodes, parameters, bool(dropped), graph, owners)
    explanation.error = _error(explanation)
    return explanation


def _after_a_step(net: Sequential, X: Any, y: Any, loss: Loss, learning_rate: float) -> Sequential:
    """A copy of the network in float64 after one step of SGD on all rows."""
    stepped = net.astype("float64")
    try:
        stepped.fit(X, y, loss=loss, optimizer=SGD(learning_rate), epochs=1,
                    batch_size=X.shape[0], shuffle=False, seed=0)
    except FloatingPointError:
        if np.isfinite(norm(stepped.gradients)):
            raise FloatingPointError(f"learning_rate: expected one whose step leads to finite "
                                     f"weights, got {learning_rate:g}; choose a smaller one"
                                     ) from None
        raise ValueError("net: expected a network whose gradients on these rows are finite, and "
                         "their squares too, got larger ones; look at the weights, and scale x, "
                         "and y if it holds numbers, to magnitudes of about 1") from None
    return stepped


def _rows(net: Sequential, x: Any, y: Any) -> tuple[Any, Any]:
    """x and y as rows; a single row may come without its dimension."""
    if not checks.is_sparse(x):
        x = checks.real_numbers("x", x)
        if x.ndim == 1:
            x = x[None]
            y = np.asarray(y)
            if y.ndim == 0 or (y.ndim == 1 and len(y) > 1):
                y = y[None]
    if len(x.shape) == 2 and x.shape[0] > MOST_ROWS:
        raise ValueError(f"x: expected a row, or at most {MOST_ROWS}, got {x.shape[0]}; pass some "
                         f"of them, as in x[:{MOST_ROWS}] and y[:{MOST_ROWS}]")
    return x, y


def _all_layers(children: Iterable[tuple[str, Layer]], outer: str = "") -> dict[str, Layer]:
    """All layers by their paths, containers included."""
    found: dict[str, Layer] = {}
    for where, layer in children:
        found[outer + where] = layer
        found |= _all_layers(layer.children, f"{outer}{where}.")
    return found


def _forward(run: Interpreter, rows: Any, names: dict[str, str]) -> Any:
    """What the network returns; raises ValueError if a layer returns something else each time."""
    Z = run.forward(rows, update=False)
    in_python = [each for each in run.program.forward if each.op == "python"]
    first = [np.array(run.values[each.writes[0]]) for each in in_python]
    if in_python:
        Z = run.forward(rows, update=False)
    for each, value in zip(in_python, first, strict=True):
        if not np.array_equal(value, run.values[each.writes[0]], equal_nan=True):
            raise ValueError(f"net: layer {each.where} ({names.get(each.where, 'python')}): "
                             f"expected a layer that returns the same each time, got two results "
                             f"for the same rows; switch its random numbers off, or explain the "
                             f"network without it")
    return Z


def _in_words(net: Sequential) -> str:
    """The layers with what each returns: ``"2 → Dense 3 → Tanh → Dense 1"``."""
    words, width = [str(net.n_in or "any")], net.n_in
    for layer in net.layers:
        changed = layer.n_out not in (None, width) or type(layer).__name__ == "Dense"
        words.append(type(layer).__name__ + (f" {layer.n_out}" if changed else ""))
        width = layer.n_out or width
    return " → ".join(words)


def _error(explanation: Explanation) -> float:
    """The largest difference of a sum of paths from the engine's gradient.

    It is relative to the magnitudes of the paths: where these cancel out, their sum has the
    rounding errors of the largest.
    """
    worst = 0.0
    best = explanation.best_paths()
    for name, parameter in explanation.parameters.items():
        node = parameter.node
        magnitude = best.ways[node].magnitude
        total, summed = (explanation.graph.sums(*explanation.owners[name], of_node)
                         for of_node in (node.gradient, magnitude))
        scale = max(float(np.abs(summed).max()), float(magnitude.max()),
                    float(np.finfo(float).tiny))
        error = float(np.abs(total - parameter.gradient).max()) / scale
        if not (np.isfinite(scale) and error <= TOLERANCE):
            where, _, own = name.rpartition(".")
            raise ValueError(f"net: layer {where} ({parameter.layer}): expected paths whose sums "
                             f"are the gradients of its {own}, got sums that differ from these by "
                             f"{error:.2g} of the paths' magnitudes; fb.gradcheck tells which "
                             f"layer's backward pass is wrong")
        worst = max(worst, error)
    return worst
