"""The run with ``--predict``: predict the rows of a file with a model that was saved."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import datasets
from ..datasets.tables import column_names
from ..files import replace_file
from ..messages import counted
from .saved import about_saved, read_saved

if TYPE_CHECKING:
    from .options import Options

__all__ = ["predict_rows", "predictions"]


def predict_rows(options: Options, path: str) -> None:
    """Predict the target of each row of a file, and write ``predictions.csv``.

    Parameters
    ----------
    options : Options
        Its output folder is the one that a run with ``--data`` saved a model in.
    path : str
        The file.

    Raises
    ------
    OSError
        If a file cannot be read or written.
    ValueError
        If there is no such model, or the file lacks a column.

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> predict_rows(parse(["--predict", "new.csv"]), "new.csv")  # doctest: +SKIP
    predicted 'price' of 120 rows: fastbp-output/predictions.csv
    """
    folder = options.output
    if not (folder / "model.json").is_file():
        raise ValueError(f"--predict: expected a model in the folder {str(folder)!r}, got no "
                         f"model.json in it; train one with --data FILE.csv --target COLUMN, or "
                         f"say where it is with --output FOLDER")
    model = folder / "model.safetensors"
    about = about_saved(model)
    if not {"columns", "target"} <= about.keys():
        raise ValueError(f"--predict: expected a model that learned from a table in the folder "
                         f"{str(folder)!r}, got a model of {about.get('data')!r}; predict others "
                         f"in Python, with fastbp.load")
    text, n_rows = predictions(read_saved(model), path, about)
    file = folder / "predictions.csv"
    replace_file(file, text.encode())
    options.say(f"predicted {about['target']!r} of {counted(n_rows, 'row')}: {file}")


def predictions(model: Any, path: str, about: dict[str, Any]) -> tuple[str, int]:
    """Predict the rows of a file.

    Parameters
    ----------
    model : Sequential, Ensemble or estimator
    path : str
        The file: CSV, Parquet or ``.npz``.
    about : dict
        What is known about the model: of a run with ``--data``, the contents of ``model.json``,
        with the names of its columns and of its classes; otherwise it may be empty, and a
        network takes all columns of the file, in their order.

    Returns
    -------
    text : str
        CSV: the name of the target and a line for each row; without a name, a number for each
        output.
    n_rows : int

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or lacks a column.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if hasattr(model, "encoder_"):
        X = datasets.read_frame(path, kinds=model.encoder_.kinds_)
        predicted = model.predict(X)
    else:
        columns = about.get("columns") or column_names(path)
        table = datasets.read_table(path, columns=columns)
        predicted = model.predict(table.X)
        if "classes" in about:
            if len(about["classes"]) != predicted.shape[1]:
                raise ValueError(f"model.json: classes: expected one for each of the model's "
                                 f"{counted(predicted.shape[1], 'output')}, got "
                                 f"{len(about['classes'])}; restore the file, or train again")
            predicted = np.array(about["classes"], dtype=object)[predicted.argmax(axis=1)]
    rows = predicted.reshape(len(predicted), -1).tolist()
    n_out = len(rows[0]) if rows else 1
    target = about.get("target", "prediction")
    writer.writerow([target] if n_out == 1 else [f"{target}_{i}" for i in range(n_out)])
    writer.writerows(rows)
    return text.getvalue(), len(rows)
