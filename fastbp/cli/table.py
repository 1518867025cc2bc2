"""The run with ``--data``: learn a column of the user's file from the others."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import datasets
from ..builders import mlp
from ..messages import counted
from ..optimizers import Adam
from ..schedules import Cosine
from .output import save
from .tasks import Classification, Regression, decide_task, target_of
from .training import train

if TYPE_CHECKING:
    from .options import Options

__all__ = ["train_on_table"]


def train_on_table(options: Options, path: str) -> None:
    """Learn a column of a file from the others, save the network, and show how to use it.

    Parameters
    ----------
    options : Options
    path : str
        The file: CSV or ``.npz``.

    Raises
    ------
    OSError, ValueError
        As `fastbp.datasets.read_table`.
    ValueError
        If the target cannot be learned.

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> options = parse(["--quiet", "--data", "iris.csv", "--target", "kind"])
    >>> train_on_table(options, "iris.csv")  # doctest: +SKIP
    held out  accuracy 0.9333   (always setosa: 0.3333)
    """
    table = datasets.read_table(path, options.target, options.drop)
    y = target_of(table)
    kind, reason = decide_task(table, options.task)
    classify = kind == "classification"
    trained, tested = datasets.hold_out(y, options.test_share, options.seed, stratify=classify)
    if len(np.unique(y[trained])) == 1:
        raise ValueError(f"{path}: the target {table.target!r} is {y[trained[0]]} in every row to "
                         f"train on; there is nothing to learn")
    name = Path(path).name
    options.say(f"data      {name}: {counted(len(table.X), 'row')}, "
                f"{counted(len(table.columns), 'column')} to learn {table.target!r} from")
    options.say(f"task      {kind}: {reason}")
    options.say(f"rows      {len(trained):,} to train on, {len(tested):,} held out, drawn at "
                f"random with seed {options.seed}")

    # Standardized by the training rows alone, so that the held-out ones have no influence.
    inputs = datasets.Standardizer(table.X[trained], table.columns)
    X = inputs(table.X)
    task = (Classification if classify else Regression)(y, trained, table.target)
    sizes = [X.shape[1], *options.hidden, task.n_out]
    net = mlp(sizes, options.activation, options.dropout, seed=options.seed)
    optimizer = Adam(Cosine(options.learning_rate, options.epochs))
    # As with the digits, nothing is chosen by the held-out rows.
    history = train(options, net, (X[trained], task.targets[trained]),
                    (X[tested], task.targets[tested]), task.loss, optimizer)

    # The network that is saved and scored takes the columns in the file's units.
    net = datasets.fold(net, inputs, task.outputs)
    score, baseline, text = task.scores(net.predict(table.X[tested]), tested)
    print(f"held out  {text}")
    model, description = save(options, net, history, {
        "data": name,
        "task": kind,
        "target": table.target,
        "columns": table.columns,
        **task.about,
        "rows": {"train": len(trained), "test": len(tested)},
        "score": score,
        "baseline": baseline,
    })
    csv = not path.lower().endswith(".npz")
    options.say("\nTo use it on these rows, or on others: the file need not have the target, nor "
                "the same\norder of columns.\n" if csv else
                "\nTo use it on these rows, or on others with the same columns in X:\n")
    options.say(textwrap.indent(_code(path, csv, task, model, description), "    "))


def _code(
    path: str, csv: bool, task: Classification | Regression, model: Path, description: Path
) -> str:
    """Python code that predicts the rows of the file with the saved network."""
    lines = []
    if csv or task.about:
        lines += ["import json", "from pathlib import Path"]
    if not csv:
        lines += ["import numpy as np"]
    lines += ["from fastbp import datasets, load" if csv else "from fastbp import load", ""]
    if csv or task.about:
        lines += [f"about = json.loads(Path({str(description)!r}).read_text('utf-8'))"]
    return "\n".join([
        *lines,
        # Columns are read by name, since a file to predict from may lack the target or have them
        # in another order.
        f"X = datasets.read_table({path!r}, columns=about['columns']).X" if csv
        else f"X = np.load({path!r})['X']",
        f"net = load({str(model)!r})",
        f"prediction = {task.prediction}",
    ])
