"""The run with ``--data`` on a table of text and missing values: TabPack or TabM."""

from __future__ import annotations

import shlex
import textwrap
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import plot
from ..messages import counted
from .output import prepare, save
from .tasks import Classification, Regression

if TYPE_CHECKING:
    from ..datasets import Frame
    from ..kernels.types import Array
    from .options import Options
    from .tasks import Split

__all__ = ["need_estimators", "train_estimator"]

NAMES = {"tabpack": "TabPack", "tabm": "TabM"}


def need_estimators(why: str) -> Any:
    """The package of the estimators, for which scikit-learn must be installed.

    Parameters
    ----------
    why : str
        What needs it.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed; the message says how to install it.

    Examples
    --------
    >>> need_estimators("--model tabpack").__name__
    'fastbp.estimators'
    """
    try:
        from .. import estimators
    except ImportError as error:
        raise ImportError(f"{why}: {error}") from None
    return estimators


def train_estimator(options: Options, path: str, frame: Frame, split: Split) -> None:
    """Learn a column from the others with an estimator, save it, and show how to predict with it.

    Parameters
    ----------
    options : Options
        Its model is "tabpack" or "tabm".
    path : str
        The file that the frame was read from.
    frame : fastbp.datasets.Frame
    split : Split
        The task, and the rows to train on and to hold out.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If there is nothing to learn from.

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> from fastbp.cli.table import train_on_table
    >>> options = parse(["--quiet", "--data", "houses.csv", "--target", "price"])
    >>> train_on_table(options, "houses.csv")  # doctest: +SKIP
    held out  RMSE 51,432, R² 0.8012   (always the mean: RMSE 115,388, R² -0.0002)
    """
    name, classify = NAMES[options.model], split.kind == "classification"
    if options.processes is not None:
        raise ValueError(f"--model {options.model}: expected one process, got "
                         f"{options.processes.size}; choose --model mlp, which they can share")
    estimators = need_estimators(f"--model {options.model}")
    prepare(options.output)
    assert frame.y is not None
    task = (Classification if classify else Regression)(frame.y, split.train, frame.target)
    labels = _labels(task.about["classes"])[task.targets] if classify else frame.y
    kind = getattr(estimators, name + ("Classifier" if classify else "Regressor"))
    settings: dict[str, Any] = {} if options.members is None else {"n_members": options.members}
    if options.model == "tabpack":
        settings["precision"] = options.precision
    model = kind(**settings, time_limit=options.time_limit, random_state=options.seed,
                 verbose=int(not options.quiet))
    options.say(f"training  {name}; columns are taken as\n")  # which the estimator prints
    begin = time.perf_counter()
    with warnings.catch_warnings():
        # The description of the columns has them.
        warnings.filterwarnings("ignore", message=".*like identifiers")
        model.fit(frame[split.train], labels[split.train])
    seconds = time.perf_counter() - begin
    options.say()
    members, epochs, note = _members(model)
    options.say(f"model     {name}: {note}")
    options.say(f"seconds   {seconds:.1f}")

    held_out = frame[split.test]
    if classify:
        # The model's classes are in another order, and some may be in no row to train on.
        Z = np.zeros((len(held_out), task.n_out))
        places = {label: i for i, label in enumerate(_labels(task.about["classes"]).tolist())}
        Z[:, [places[label] for label in model.classes_.tolist()]] = model.predict_proba(held_out)
    else:
        Z = model.predict(held_out)[:, None]
    score, baseline, text = task.scores(Z, split.test)
    print(f"held out  {text}")

    history = model.history_
    file, _ = save(
        options, lambda path: estimators.save_model(path, model),
        lambda: (plot.ensemble_selection if options.model == "tabpack"
                 else plot.learning_curves)(history),
        {
            "data": Path(path).name,
            "model": name,
            "task": split.kind,
            "target": frame.target,
            "columns": frame.columns,
            "taken_as": model.encoder_.kinds_,
            "left_out": model.encoder_.dropped_,
            **task.about,
            "members": members,
            "epochs": epochs,
            "seconds": round(seconds, 2),
            "rows": {"train": len(split.train), "test": len(split.test)},
            "score": score,
            "baseline": baseline,
        })
    is_default = str(options.output) == "fastbp-output"
    folder = "" if is_default else f" --output {shlex.quote(str(options.output))}"
    options.say(f"\nTo predict the rows of a file that has these columns, in any order:\n\n"
                f"    fastbp --predict NEW.csv{folder}\n\nThe same in Python, on these rows:\n")
    options.say(textwrap.indent(_code(path, file), "    "))


def _labels(classes: list[Any]) -> Array:
    """Classes as an estimator takes them: fractions as text, since they look like amounts."""
    labels = np.array(classes)
    return labels.astype(str) if labels.dtype.kind == "f" else labels


def _members(model: Any) -> tuple[int, int, str]:
    """How many members an estimator has, its epochs, and both for the user."""
    if hasattr(model, "ensemble_"):
        trained, chosen = len(model.history_.members), len(model.ensemble_)
        epochs = len(model.history_.ensemble_scores)
        note = (f"{counted(trained, 'network')} trained for up to {counted(epochs, 'epoch')}, "
                f"{chosen} of their states chosen")
        return trained, epochs, note
    epochs = len(model.history_["loss"])
    note = (f"one network of {counted(model.n_members, 'member')}, trained for "
            f"{counted(epochs, 'epoch')}, the best of which is {model.best_epoch_ + 1}")
    return model.n_members, epochs, note


def _code(path: str, file: Path) -> str:
    """Python code that predicts the rows of the file with the saved model."""
    return "\n".join([
        "from fastbp import datasets, estimators",
        "",
        f"model = estimators.load_model({str(file)!r})",
        f"X = datasets.read_frame({path!r}, kinds=model.encoder_.kinds_)",
        "prediction = model.predict(X)",
    ])
