"""Fitted estimators for tables as safetensors files, from which nothing is ever executed.

A file holds the networks as that of a `fastbp.Ensemble` does.  What else predictions need is JSON
in its metadata: the encoder's quantiles and levels, the classes, the scale of the targets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .. import io
from ..ensemble import Ensemble
from ..messages import counted
from ..network import Sequential
from .table_encoder import TableEncoder
from .tables import TableClassifier
from .tabm import TabMClassifier, TabMRegressor
from .tabpack import TabPackClassifier, TabPackRegressor
from .targets import TargetScaler

if TYPE_CHECKING:
    import os

    from .tables import TableEstimator

__all__ = ["load_model", "save_model"]

KINDS = {each.__name__: each for each in (TabPackClassifier, TabPackRegressor, TabMClassifier,
                                          TabMRegressor)}

# Parameters that say nothing about the model: equal models have equal files.
OF_THE_RUN = ("n_threads", "verbose")


def save_model(path: str | os.PathLike[str], model: TableEstimator) -> None:
    """Write a fitted TabPack or TabM to a file, for `load_model`.

    Parameters
    ----------
    path : str or path-like
    model : TabPackClassifier, TabPackRegressor, TabMClassifier or TabMRegressor
        Its history is not saved, nor `n_threads`, `verbose`, and parameters that are objects, such
        as a scoring function.

    Raises
    ------
    TypeError
        If it is no such estimator, or its classes are neither text nor numbers.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.
    ValueError, OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> X, y = [[0.5, "a"], [1.5, "b"], [2.5, "a"]] * 9, ["u", "v", "u"] * 9
    >>> model = TabPackClassifier(2, max_epochs=3, random_state=0).fit(X, y)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_model(Path(folder, "model.safetensors"), model)
    ...     loaded = load_model(Path(folder, "model.safetensors"))
    >>> (loaded.predict_proba(X) == model.predict_proba(X)).all()
    np.True_
    """
    kind = type(model).__name__
    if KINDS.get(kind) is not type(model):
        raise TypeError(f"model: expected one of {', '.join(KINDS)}, got {model!r}")
    check_is_fitted(model, "encoder_")
    state: dict[str, Any] = {
        "kind": kind,
        "parameters": {name: _plain(value) for name, value in model.get_params().items()
                       if _is_plain(_plain(value)) and name not in OF_THE_RUN},
        "encoder": model.encoder_.get_state(),
    }
    if isinstance(model, TableClassifier):
        classes = model.classes_
        if classes.dtype.kind not in "Uiufb":
            raise TypeError(f"model: expected classes that are text or numbers, got "
                            f"{classes.dtype}")
        state["classes"] = {"dtype": classes.dtype.str, "values": classes.tolist()}
    else:
        scaler = model.target_scaler_
        state["scaler"] = {
            "mean": scaler.mean.tolist(), "one_dimension": scaler.one_dimension,
            "scale": [None if np.isinf(each) else each for each in scaler.scale.tolist()]}
        state["quantiles"] = getattr(model, "quantiles_", None)
    if isinstance(model, TabPackClassifier | TabPackRegressor):
        networks = list(model.ensemble_.networks)
        state |= {"weights": model.ensemble_.weights.tolist(),
                  "activation": model.ensemble_.activation}
    else:
        networks = [model.network_]
        state["activation"] = model.activation_
    io.write_ensemble(path, [(each.layers, each.dtype, each.precision) for each in networks],
                      {"estimator": state})


def load_model(path: str | os.PathLike[str]) -> Any:
    """Read an estimator that `save_model` wrote.  Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    TabPackClassifier, TabPackRegressor, TabMClassifier or TabMRegressor
        It predicts what the saved one does, bit for bit.

    Raises
    ------
    FileNotFoundError, TypeError, ValueError
        If there is no such file, it is damaged, or holds something else.
    """
    read, settings = io.read_ensemble(path)
    if "estimator" not in settings:
        raise ValueError(f"path: {str(path)!r} holds an ensemble without an encoder; read it with "
                         f"fastbp.Ensemble.load")
    try:
        return _restored([Sequential(layers, dtype, precision=precision)
                          for layers, dtype, precision in read], settings["estimator"])
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise io.damaged(path, f"{type(error).__name__}: {error}") from None


def _plain(value: Any) -> Any:
    """A number of NumPy's as one of Python's."""
    return value.item() if isinstance(value, np.generic) else value


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold a parameter."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in (type(None), bool, int, float, str)


def _restored(networks: list[Sequential], state: dict[str, Any]) -> Any:
    parameters = dict(state["parameters"])
    quantiles = state.get("quantiles")
    if quantiles is not None:
        quantiles = tuple(quantiles) if isinstance(quantiles, list) else float(quantiles)
        parameters["quantiles"] = quantiles
    model = KINDS[state["kind"]](**parameters)
    model.encoder_ = encoder = TableEncoder.from_state(state["encoder"])
    n_encoded = encoder.n_numeric_ + encoder.n_binary_ + len(encoder.n_codes_)
    if n_encoded != networks[0].n_in:
        raise ValueError(f"its encoder makes {n_encoded} columns, its networks take "
                         f"{networks[0].n_in}")
    for name in ("n_features_in_", "feature_names_in_"):
        if hasattr(encoder, name):
            setattr(model, name, getattr(encoder, name))
    if isinstance(model, TableClassifier):
        dtype = np.dtype(state["classes"]["dtype"])
        if dtype.kind not in "Uiufb":
            raise ValueError(f"its classes are of dtype {dtype}")
        model.classes_ = np.array(state["classes"]["values"], dtype=dtype)
        n_out = 1 if len(model.classes_) == 2 else len(model.classes_)
        width = getattr(model, "n_members", 1) if isinstance(model, TabMClassifier) else 1
        if n_out * width != networks[0].n_out:
            raise ValueError(f"it has {counted(len(model.classes_), 'class')}, its networks have "
                             f"{networks[0].n_out} outputs")
    else:
        scaler = state["scaler"]
        model.target_scaler_ = TargetScaler.restored(
            scaler["mean"], [np.inf if each is None else each for each in scaler["scale"]],
            bool(scaler["one_dimension"]))
    if isinstance(model, TabPackRegressor):
        model.quantiles_ = quantiles
    if isinstance(model, TabPackClassifier | TabPackRegressor):
        model.ensemble_ = Ensemble(networks, state["weights"], state["activation"])
    else:
        (model.network_,), model.activation_ = networks, state["activation"]
    return model
