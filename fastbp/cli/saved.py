"""Models from files, and what is known about them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..builders import load
from ..ensemble import Ensemble
from ..io import kind_of
from .estimator import need_estimators

__all__ = ["about_saved", "read_saved"]


def read_saved(path: Path) -> Any:
    """Read a network, an ensemble or an estimator, whichever a file holds.

    Parameters
    ----------
    path : pathlib.Path
        A file that one of them was saved in, or an ONNX file.

    Returns
    -------
    Sequential, Ensemble or estimator

    Raises
    ------
    FileNotFoundError, ValueError, ImportError
        If there is no such file, it is damaged, or scikit-learn or onnx is not installed.

    Examples
    --------
    >>> from fastbp import mlp
    >>> mlp([4, 8, 3], seed=0).save("model.safetensors")
    >>> read_saved(Path("model.safetensors")).n_out
    3
    """
    if path.is_dir():
        inside = path / "model.safetensors"
        remedy = f"; choose {inside}" if inside.is_file() else "; name a file in it"
        raise ValueError(f"MODEL: expected a file that holds a model, got the folder "
                         f"{str(path)!r}{remedy}")
    if path.suffix == ".onnx":
        from ..export.onnx_reading import from_onnx

        return from_onnx(path)
    kind = kind_of(path)
    if kind == "estimator":
        return need_estimators(f"{path} is an estimator").load_model(path)
    return Ensemble.load(path) if kind == "ensemble" else load(path)


def about_saved(path: Path) -> dict[str, Any]:
    """What the file ``model.json`` beside a model says about it.

    Parameters
    ----------
    path : pathlib.Path
        Of the model.

    Returns
    -------
    dict
        Empty if there is none, or the model has another name than those that a run saves.

    Raises
    ------
    ValueError
        If it is not JSON, or something in it is not what a run writes.

    Examples
    --------
    >>> about_saved(Path("somewhere", "net.safetensors"))
    {}
    """
    file = path.parent / "model.json"
    if path.name != "model.safetensors" or not file.is_file():
        return {}
    try:
        about = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: expected JSON, got {error}") from None
    if not isinstance(about, dict):
        raise ValueError(f"{file}: expected an object of JSON, as a run writes it, got {about!r}")
    for key, (what, fits) in EXPECTED.items():
        if key in about and not fits(about[key]):
            raise ValueError(f"{file}: {key}: expected {what}, as a run writes it, got "
                             f"{about[key]!r}; train again, or restore it")
    return about


def _is_list_of(types: Any) -> Callable[[Any], bool]:
    return lambda value: (isinstance(value, list) and bool(value)
                          and all(isinstance(each, types) for each in value))


# What is read from model.json, in words, and whether a value is that.
EXPECTED: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "target": ("the name of a column", lambda value: isinstance(value, str)),
    "columns": ("a list of names of columns", _is_list_of(str)),
    "classes": ("a list of names or numbers", _is_list_of(str | float | int)),
    "task": ('"classification" or "regression"',
             lambda value: value in ("classification", "regression")),
}
