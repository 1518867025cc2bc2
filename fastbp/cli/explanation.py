"""``fastbp explain``: backpropagation on the numbers of a saved network, or of an example."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets, losses
from ..datasets.tables import file_format
from ..explain import MOST_ROWS, Explanation, example, explain
from ..kernels import checks
from ..network import Sequential
from .options import Parser, file_to_write
from .saved import about_saved, read_saved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..datasets import Table
    from ..kernels.types import Array

__all__ = ["explain_parser", "explain_saved"]

EXPLAIN = """\
Show backpropagation: every value and gradient of a network on a few rows, and the gradient with
respect to each weight as a sum over the paths from the loss to it.

Prints it, and writes a page for the browser in which to click from weight to weight.  Without MODEL
it explains a small network that comes with fastbp.
"""
LOSSES = ("SoftmaxCrossEntropy", "SigmoidCrossEntropy", "MeanSquaredError", "MeanAbsoluteError",
          "Huber", "PoissonDeviance")


def explain_parser() -> Parser:
    """The parser of ``fastbp explain``.

    Returns
    -------
    Parser

    Examples
    --------
    >>> explain_parser().parse_args(["--row", "3"]).row
    [3]
    """
    parser = Parser(prog="fastbp explain", description=EXPLAIN, allow_abbrev=False,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("model", metavar="MODEL", nargs="?", type=Path, help="a saved network")
    add("rows", metavar="ROWS", nargs="?", help="a .csv with the rows and their targets")
    text = "the targets' column; default what fastbp --data learned"
    add("--target", metavar="COLUMN", help=text)
    text = "default what the model was trained with, where model.json beside it says that"
    add("--loss", choices=LOSSES, help=text)
    text = f"explain row N, the first is 0; may be repeated; default all, at most {MOST_ROWS}"
    add("--row", metavar="N", type=int, action="append", help=text)
    add("--learning-rate", metavar="RATE", type=float, help="of the step of SGD, default 0.1")
    text = "the file to write the page to, default backprop.html"
    add("--output", metavar="FILE", type=file_to_write, default=Path("backprop.html"), help=text)
    return parser


def explain_saved(options: argparse.Namespace) -> None:
    """Run ``fastbp explain``.

    Parameters
    ----------
    options : argparse.Namespace
        From `explain_parser`.

    Raises
    ------
    OSError, ValueError, ImportError
        If an argument is invalid, a file cannot be read or written, or the model is none that can
        be explained.

    Examples
    --------
    >>> explain_saved(explain_parser().parse_args([]))  # doctest: +ELLIPSIS
    Backpropagation through 2 → Dense 3 → Tanh → Dense 3 → Tanh → Dense 1
    ...
    backprop.html
    """
    if options.model is None:
        given = [f"--{name.replace('_', '-')}"
                 for name in ("target", "loss", "row", "learning_rate")
                 if getattr(options, name) is not None]
        if given:
            raise ValueError(f"{given[0]}: expected MODEL and ROWS with it, got neither; the "
                             f"example has its own")
        explanation = example()
    else:
        explanation = _explained(options)
    explanation.save(options.output)
    print(explanation)
    print(f"\n{options.output}")


def _explained(options: argparse.Namespace) -> Explanation:
    if options.rows is None:
        raise ValueError("ROWS: expected a .csv with the rows to explain after MODEL, got none")
    net, about = read_saved(options.model), about_saved(options.model)
    if not isinstance(net, Sequential):
        raise ValueError(f"MODEL: expected a single network, got {options.model}, a "
                         f"{type(net).__name__}; fastbp --data with --model mlp trains one")
    target = options.target or about.get("target")
    if target is None and file_format(options.rows) == "npz":
        target = "y"  # as for read_table
    if target is None:
        raise ValueError("--target: expected the name of the column with the targets, got none")
    if target in about.get("columns", ()):
        known = f", such as {about['target']!r}" if "target" in about else ""
        raise ValueError(f"--target: expected a column with the targets{known}, got {target!r}, "
                         f"which is an input of the model; leave the option out, or name another "
                         f"column")
    table = datasets.read_table(options.rows, target, columns=about.get("columns") or None)
    name = options.loss or {"classification": "SoftmaxCrossEntropy",
                            "regression": "MeanSquaredError"}.get(about.get("task", ""))
    if name is None:
        raise ValueError(f"--loss: expected one of {', '.join(LOSSES)}, got none; {options.model} "
                         f"does not say what it was trained with")
    classes = about.get("classes")
    if name == "SoftmaxCrossEntropy" and classes and isinstance(classes[0], str):
        table = replace(table, y=_text(options.rows, table))
    y = _targets(table, classes, name)
    X = table.X
    if options.row is not None:
        if len(options.row) > MOST_ROWS:
            raise ValueError(f"--row: expected it at most {MOST_ROWS} times, got it "
                             f"{len(options.row)} times; leave some out")
        for row in options.row:
            if not 0 <= row < len(X):
                raise ValueError(f"--row: expected a row from 0 to {len(X) - 1}, got {row}")
        X, y = X[options.row], y[options.row]
    elif len(X) > MOST_ROWS:
        raise ValueError(f"{options.rows}: expected at most {MOST_ROWS} rows, got {len(X):,}; "
                         f"choose some, as in --row 0 --row 7")
    rate = {} if options.learning_rate is None else {
        "learning_rate": checks.positive("--learning-rate", options.learning_rate)}
    return explain(net, X, y, loss=getattr(losses, name)(), **rate)


def _text(path: str, table: Table) -> Array:
    """The target as text, also where all of its cells are numbers."""
    assert table.y is not None and table.target is not None
    if table.y.dtype.kind == "U" or file_format(path) == "npz":
        return table.y
    cells = datasets.read_frame(path, kinds={table.target: "category"}).cells[0]
    return np.array([str(cell) for cell in cells])


def _targets(table: Table, classes: Sequence[Any] | None, loss: str) -> Array:
    """The targets as the loss takes them: classes by their indices."""
    y = table.y
    assert y is not None  # a target was asked for
    if loss != "SoftmaxCrossEntropy":
        if y.dtype.kind == "U":
            raise ValueError(f"--target: expected numbers for {loss}, got text in {table.target!r}")
        return y
    if classes is None:
        if y.dtype.kind == "U" or (y != np.floor(y)).any():
            raise ValueError(f"--target: expected the classes' indices in {table.target!r}, whole "
                             f"numbers from 0, since the model's classes are not known, got "
                             f"{y.tolist()[0]!r}")
        return y.astype(np.int64)
    known = {each if isinstance(each, str) else float(each): i for i, each in enumerate(classes)}
    for row, each in enumerate(y.tolist()):
        if each not in known:
            raise ValueError(f"--target: expected one of the model's classes, "
                             f"{', '.join(map(str, classes))}, got {each!r} in row {row}")
    indices: Array = np.array([known[each] for each in y.tolist()])
    return indices
