"""Models from files, and what is known about them."""

from __future__ import annotations

import json
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
        If it is not JSON.

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
    return about if isinstance(about, dict) else {}
