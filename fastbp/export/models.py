"""What an exporter needs of each kind of model: networks, ensembles, fitted estimators."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..ensemble import Ensemble
from ..kernels import checks
from ..network import Sequential
from ..program import Instruction, Value
from .reading import Model, Network, read_network

__all__ = ["model_of"]


def model_of(model: Any, *, activation: str | None = None, n_in: int | None = None) -> Model:
    """What an exporter needs of a network, an ensemble or a fitted estimator.

    Parameters
    ----------
    model : Sequential, Ensemble, estimator or Model
    activation : {"softmax", "sigmoid", "exp"}, optional
        Applied to a network's outputs.  An ensemble and an estimator have one of their own.
    n_in : int, optional
        Columns of the input, for a network in which no layer fixes it.

    Returns
    -------
    Model

    Raises
    ------
    TypeError
        If it is none of these.
    ValueError
        If it cannot be exported.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, Sequential):
        if activation not in (None, "softmax", "sigmoid", "exp"):
            raise ValueError(f"activation: expected softmax, sigmoid, exp, or None, got "
                             f"{activation!r}")
        return Model((_read(model, activation, n_in),))
    if activation is not None or n_in is not None:
        raise ValueError(f"activation, n_in: expected None, since a {type(model).__name__} has its "
                         f"own, got {activation!r}, {n_in!r}")
    if isinstance(model, Ensemble):
        return _of_ensemble(model)
    for base in type(model).__mro__:
        if base.__module__.startswith("fastbp.estimators."):
            return _of_estimator(model)
    raise TypeError(f"model: expected a Sequential, an Ensemble or a fitted estimator of fastbp's, "
                    f"got {model!r}")


def _read(network: Sequential, activation: str | None = None, n_in: int | None = None) -> Network:
    n_in = None if n_in is None else checks.integer("n_in", n_in, 1)
    if None not in (n_in, network.n_in) and n_in != network.n_in:
        raise ValueError(f"n_in: expected {network.n_in}, which the network's first layer takes, "
                         f"got {n_in}")
    return replace(read_network(network.layers, network.n_in or n_in, network.dtype, activation),
                   precision=network.precision)


def _of_ensemble(ensemble: Ensemble) -> Model:
    dtypes = {str(network.dtype) for network in ensemble.networks}
    if len(dtypes) > 1:
        raise ValueError(f"networks: expected one dtype, got {', '.join(sorted(dtypes))}; "
                         f"convert some with net.astype")
    return Model(tuple(_read(network, ensemble.activation, ensemble.n_in)
                       for network in ensemble.networks), ensemble.weights)


def _of_estimator(estimator: Any) -> Model:
    from sklearn.utils.validation import check_is_fitted

    from ..estimators import (
        MLPClassifier,
        MLPRegressor,
        TabMClassifier,
        TabMRegressor,
        TabPackClassifier,
        TabPackRegressor,
    )

    check_is_fitted(estimator)
    if isinstance(estimator, MLPClassifier | MLPRegressor):
        ends = {"identity": None, "logistic": "sigmoid", "softmax": "softmax", "exp": "exp"}
        network = _read(estimator.to_network(), ends[estimator.out_activation_])
        if isinstance(estimator, MLPRegressor):
            return Model((network,), is_estimator=True)
        if network.z.columns > 1 and estimator.out_activation_ == "logistic":
            return Model((network,), labels=estimator.classes_,
                         is_estimator=True)
        return Model((network,), classes=estimator.classes_, both=network.z.columns == 1,
                     is_estimator=True)
    if isinstance(estimator, TabPackClassifier | TabPackRegressor):
        model = _of_ensemble(estimator.ensemble_)
    elif isinstance(estimator, TabMClassifier | TabMRegressor):
        model = Model((_mean_of_members(_read(estimator.network_), estimator.n_members,
                                        estimator.activation_),))
    else:
        raise TypeError(f"model: expected an estimator with a network, got {estimator!r}")
    if isinstance(estimator, TabPackClassifier | TabMClassifier):
        return replace(model, is_estimator=True, encoder=estimator.encoder_,
                       classes=estimator.classes_, both=len(estimator.classes_) == 2)
    scaler = estimator.target_scaler_
    scale = np.where(np.isinf(scaler.scale), 0.0, scaler.scale)
    quantiles = getattr(estimator, "quantiles_", None)
    return replace(model, is_estimator=True, encoder=estimator.encoder_, scale=scale,
                   mean=scaler.mean, ascending=quantiles is not None)


def _mean_of_members(network: Network, n_members: int, activation: str | None) -> Network:
    """The mean of the members' activated outputs."""
    z, added = network.z, []
    n = z.columns // n_members
    if activation is not None:
        a = Value("activated", "temporary", None, z.columns)
        # A softmax of each member's own columns.
        own = {"n_members": n_members} if activation == "softmax" else {}
        added.append(Instruction(activation, (z,), (a,), own))
        z = a
    mean = Value("mean", "temporary", None, n)
    added.append(Instruction("sum_members", (z,), (mean,),
                             {"factor": 1 / n_members, "gradient": 0.0}))
    return replace(network, z=mean, instructions=(*network.instructions, *added))
