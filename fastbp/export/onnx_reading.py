"""Networks from ONNX files, fastbp's and those of other programs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ensemble import Ensemble
from ..layers import Dense, Dropout
from ..network import Sequential
from .onnx_files import Graph, read_graph
from .onnx_operators import OPERATORS
from .pairs import constant_result
from .steps import Flow, Node, NotReadable, layers_of, normalized, path, refused

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["from_onnx"]


def from_onnx(path: str | PathLike[str]) -> Sequential | Ensemble:
    """A network from an ONNX file; nothing in the file is executed.

    Dense layers (``Gemm``, ``MatMul``, ``Add``), activations, normalization, residual connections,
    embeddings, and parts of the columns are read, from fastbp's files, those of PyTorch's
    exporters, and chains of such operators in general.

    Parameters
    ----------
    path : str or path-like
        Arrays may be in another file of the same folder.

    Returns
    -------
    Sequential or Ensemble
        A graph that ends with a softmax, or an exp, becomes an ensemble of one network with that
        activation, which `Ensemble.predict` applies.  Labels are left out: it has the
        probabilities.

    Raises
    ------
    ImportError
        If the package onnx is not installed.
    FileNotFoundError, IsADirectoryError
        If there is no file at the path.
    ValueError
        If it is no ONNX file, a damaged one, or has operators that no layer of fastbp computes;
        the message names the first.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.from_onnx("net.onnx")  # doctest: +SKIP
    """
    try:
        with np.errstate(all="ignore"):  # a file may hold any numbers, infinite ones too
            return _Network(read_graph(path)).model()
    except NotReadable as error:
        message = str(error)
    except (FileNotFoundError, IsADirectoryError, MemoryError):
        raise
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError,
            RecursionError, ZeroDivisionError) as error:
        message = f"{type(error).__name__}: {error}"
        if message.startswith("TypeError: path: "):
            raise
    raise ValueError(f"path: {os.fspath(path)!r} cannot be read as a network: {message}") from None


class _Network:
    """Follows the input through a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[str, Any] = dict(graph.constants)
        self.output = self._chosen_output()
        needed = self._needed()
        inputs = [name for name in graph.inputs if name in needed]
        if len(inputs) != 1:
            raise NotReadable(f"expected one input, got {len(inputs)}: {', '.join(inputs[:5])}")
        self.dtype, shape = graph.inputs[inputs[0]]
        if not shape:
            raise NotReadable(f"its input {inputs[0]!r} has no shape; export the model with an "
                              f"input of shape (rows, columns), of which the rows may be open")
        self.root = Flow(None, None, tuple(shape[1:]), batch=shape[0] if shape else None)
        if self.root.columns is not None and self.root.columns > graph.n_bytes:
            raise NotReadable(f"its input has {self.root.columns:,} columns, more than the file "
                              f"has bytes")
        self.values[inputs[0]] = self.root
        for node in graph.nodes:
            if needed.intersection(node.writes):
                self._run(node)

    def model(self) -> Sequential | Ensemble:
        """The network of the steps from the input to the output."""
        end = self.values.get(self.output)
        if not isinstance(end, Flow):
            raise NotReadable(f"its output {self.output!r} does not depend on the input")
        steps = normalized(path(self.root, end) or [])
        activation = None
        if steps and steps[-1].op in ("softmax", "exp"):
            activation = steps.pop().op
        both = bool(steps) and steps[-1].op == "both"
        if both:  # the sigmoid of z, and 1 less it, are the softmax of 0 and z
            steps = steps[:-2]
            activation = "softmax"
        made, columns = layers_of(steps, self.root.columns, self.graph.n_bytes)
        if both:
            made.append(_zero_and(1 if columns is None else columns))
        dtype = "float64" if self.dtype == "float64" else "float32"
        network = Sequential(made or [Dropout(0.0)], dtype)
        return network if activation is None else Ensemble([network], activation=activation)

    def _chosen_output(self) -> str:
        """The one output, or the probabilities of a classifier."""
        outputs = self.graph.outputs
        named = [name for name in outputs if "prob" in name.lower()]
        if not outputs or (len(outputs) > 1 and len(named) != 1):
            raise NotReadable(f"expected one output, or one of probabilities, got "
                              f"{', '.join(outputs[:5]) or 'none'}")
        return outputs[0] if len(outputs) == 1 else named[0]

    def _needed(self) -> set[str]:
        """The names that the output depends on."""
        sources = {name: node for node in self.graph.nodes for name in node.writes if name}
        needed: set[str] = set()
        waiting = [self.output]
        while waiting:
            name = waiting.pop()
            if name and name not in needed:
                needed.add(name)
                if name in sources:
                    waiting += sources[name].reads
        return needed

    def _run(self, node: Node) -> None:
        """The values that a node writes."""
        reads = []
        for name in node.reads:
            if name and name not in self.values:
                raise NotReadable(f"{node.where}: reads {name!r}, which nothing before it writes")
            reads.append(self.values[name] if name else None)
        if not any(isinstance(each, Flow) for each in reads):
            results = [constant_result(node, reads, self.graph.n_bytes)]
        elif node.op in OPERATORS:
            try:
                result = OPERATORS[node.op](node, *reads)
            except NotReadable:
                raise
            except (ValueError, TypeError, AttributeError, IndexError, ArithmeticError) as error:
                raise NotReadable(f"{node.where}: what it reads, or its attributes, do not fit the "
                                  f"operator ({error}); check the file with "
                                  f"onnx.checker.check_model") from None
            results = result if isinstance(result, list) else [result]
        else:
            raise refused(node)
        for name, value in zip(node.writes, results, strict=False):
            if name in self.values:
                raise NotReadable(f"{node.where}: writes {name!r}, which is there already")
            self.values[name] = value


def _zero_and(n: int) -> Dense:
    """A layer of two columns, 0 and the one before."""
    if n != 1:
        raise NotReadable(f"expected two probabilities of one score, got {n}")
    layer = Dense(1, 2)
    layer.W, layer.b = [[0, 1]], 0
    return layer
