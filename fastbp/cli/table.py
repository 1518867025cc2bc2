"""The run with ``--data``: learn a column of the user's file from the others."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import datasets, plot
from ..builders import mlp
from ..messages import counted
from ..optimizers import Adam
from ..schedules import Cosine
from .estimator import need_estimators, train_estimator
from .output import save
from .tasks import Classification, Regression, Split, decide_task, target_of
from .training import train

if TYPE_CHECKING:
    from ..datasets import Frame, Table
    from .options import Options

__all__ = ["train_network", "train_on_table"]


def train_on_table(options: Options, path: str) -> None:
    """Learn a column of a file from the others, save the model, and show how to use it.

    Parameters
    ----------
    options : Options
    path : str
        The file: CSV, Parquet or ``.npz``.

    Raises
    ------
    OSError, ValueError
        As `fastbp.datasets.read_table`.
    ValueError
        If the target cannot be learned.
    ImportError
        If the table is one for an estimator, and scikit-learn is not installed.

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> options = parse(["--quiet", "--data", "iris.csv", "--target", "kind"])
    >>> train_on_table(options, "iris.csv")  # doctest: +SKIP
    held out  accuracy 0.9333   (always setosa: 0.3333)
    """
    if options.model == "mlp":
        train_network(options, path, datasets.read_table(path, options.target, options.drop))
        return
    frame = datasets.read_frame(path, options.target, options.drop)
    if options.model == "auto" and frame.is_complete:
        train_network(options, path, frame.to_table())
        return
    if options.model == "auto":
        need_estimators(f"{path} holds text or lacks values, which --model tabpack takes")
        options.model = "tabpack"
    train_estimator(options, path, frame, _split(options, path, frame))


def _split(options: Options, path: str, table: Table | Frame) -> Split:
    """Decide the task, hold rows out, and say so."""
    y = target_of(table)
    kind, reason = decide_task(table, options.task)
    trained, tested = datasets.hold_out(y, options.test_share, options.seed,
                                        stratify=kind == "classification")
    if len(np.unique(y[trained])) == 1:
        raise ValueError(f"{path}: the target {table.target!r} is {y[trained[0]]} in every row to "
                         f"train on; there is nothing to learn")
    options.say(f"data      {Path(path).name}: {counted(len(y), 'row')}, "
                f"{counted(len(table.columns), 'column')} to learn {table.target!r} from")
    options.say(f"task      {kind}: {reason}")
    options.say(f"rows      {len(trained):,} to train on, {len(tested):,} held out, drawn at "
                f"random with seed {options.seed}")
    return Split(kind, trained, tested)


def train_network(options: Options, path: str, table: Table) -> None:
    """Train a multilayer perceptron on a table of numbers.

    Parameters
    ----------
    options : Options
    path : str
        The file that the table was read from.
    table : fastbp.datasets.Table

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> options = parse(["--quiet", "--data", "iris.csv", "--target", "kind"])
    >>> table = datasets.read_table("iris.csv", "kind")  # doctest: +SKIP
    >>> train_network(options, "iris.csv", table)  # doctest: +SKIP
    held out  accuracy 0.9333   (always setosa: 0.3333)
    """
    kind, trained, tested = _split(options, path, table)
    y = target_of(table)
    # Standardized by the training rows alone, so that the held-out ones have no influence.
    inputs = datasets.Standardizer(table.X[trained], table.columns)
    X = inputs(table.X)
    task = (Classification if kind == "classification" else Regression)(y, trained, table.target)
    sizes = [X.shape[1], *options.hidden, task.n_out]
    net = mlp(sizes, options.activation, options.dropout, precision=options.precision,
              seed=options.seed)
    optimizer = Adam(Cosine(options.learning_rate, options.epochs))
    # As with the digits, nothing is chosen by the held-out rows.
    history = train(options, net, (X[trained], task.targets[trained]),
                    (X[tested], task.targets[tested]), task.loss, optimizer)

    # The network that is saved and scored takes the columns in the file's units.
    net = datasets.fold(net, inputs, task.outputs)
    score, baseline, text = task.scores(net.predict(table.X[tested]), tested)
    print(f"held out  {text}")
    model, description = save(options, net.save, lambda: plot.learning_curves(history), {
        "data": Path(path).name,
        "task": kind,
        "target": table.target,
        "columns": table.columns,
        **task.about,
        "rows": {"train": len(trained), "test": len(tested)},
        "score": score,
        "baseline": baseline,
    })
    options.say("\nTo use it on these rows, or on others: the file need not have the target, nor "
                "the same\norder of columns.\n")
    options.say(textwrap.indent(_code(path, task, model, description), "    "))


def _code(
    path: str, task: Classification | Regression, model: Path, description: Path
) -> str:
    """Python code that predicts the rows of the file with the saved network."""
    return "\n".join([
        "import json",
        "from pathlib import Path",
        "from fastbp import datasets, load",
        "",
        f"about = json.loads(Path({str(description)!r}).read_text('utf-8'))",
        # Columns are read by name, since a file to predict from may lack the target or have them
        # in another order.
        f"X = datasets.read_table({path!r}, columns=about['columns']).X",
        f"net = load({str(model)!r})",
        f"prediction = {task.prediction}",
    ])
