"""The run with ``--predict``: predict the rows of a file with a model that was saved."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from .. import datasets
from ..builders import load
from ..files import replace_file
from ..messages import counted
from .estimator import need_estimators

if TYPE_CHECKING:
    from .options import Options

__all__ = ["predict_rows"]


def predict_rows(options: Options, path: str) -> None:
    """Predict the target of each row of a CSV file, and write ``predictions.csv``.

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
    try:
        about = json.loads((folder / "model.json").read_text("utf-8"))
    except FileNotFoundError:
        raise ValueError(f"--predict: expected a model in the folder {str(folder)!r}, got no "
                         f"model.json in it; train one with --data FILE.csv --target COLUMN, or "
                         f"say where it is with --output FOLDER") from None
    except ValueError as error:
        raise ValueError(f"{folder / 'model.json'}: expected JSON, got {error}") from None
    learned_from_csv = isinstance(about, dict) and {"columns", "target"} <= about.keys()
    if not learned_from_csv or path.lower().endswith(".npz"):
        raise ValueError(f"--predict: expected a CSV file, and a model that learned from one in "
                         f"the folder {str(folder)!r}, got {path} and a model of "
                         f"{about.get('data') if isinstance(about, dict) else about!r}; predict "
                         f"others in Python, with fastbp.load")
    model = folder / "model.safetensors"
    values = _from_estimator if "model" in about else _from_network
    predicted = values(str(model), path, about)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([about["target"]])
    writer.writerows([value] for value in predicted)
    file = folder / "predictions.csv"
    replace_file(file, text.getvalue().encode())
    options.say(f"predicted {about['target']!r} of {counted(len(predicted), 'row')}: {file}")


def _from_estimator(model: str, path: str, about: dict[str, Any]) -> list[Any]:
    estimator = need_estimators(f"{model} is a {about['model']}").load_model(model)
    X = datasets.read_frame(path, kinds=estimator.encoder_.kinds_)
    predicted: list[Any] = estimator.predict(X).tolist()
    return predicted


def _from_network(model: str, path: str, about: dict[str, Any]) -> list[Any]:
    X = datasets.read_table(path, columns=about["columns"]).X
    Z = load(model).predict(X)
    if "classes" in about:
        return [about["classes"][i] for i in Z.argmax(axis=1)]
    values: list[Any] = Z[:, 0].tolist()
    return values
