"""Networks of scikit-learn as fastbp's estimators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ..kernels.types import Doubles

__all__ = ["from_sklearn"]


def from_sklearn(fitted: Any) -> Any:
    """An estimator that predicts what a fitted one of scikit-learn's does, to rounding.

    Parameters
    ----------
    fitted : MLPClassifier, MLPRegressor or Pipeline
        In a pipeline there may be a `StandardScaler` and a `MinMaxScaler` before it, which become
        part of the first layer.

    Returns
    -------
    fastbp.MLPClassifier or fastbp.MLPRegressor
        With scikit-learn's attributes; ``coefs_[0]`` and ``intercepts_[0]`` are for unscaled rows
        where there were scalers, and then all weights are in float64.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    TypeError
        If it is something else, or the pipeline has other steps; the message names the step.
    sklearn.exceptions.NotFittedError
        If it has not been fitted.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> from sklearn.neural_network import MLPClassifier
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> X, y = np.random.default_rng(0).normal(5, 3, (60, 2)), np.arange(60) % 2
    >>> theirs = make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=20, tol=1))
    >>> ours = fb.from_sklearn(theirs.fit(X, y))
    >>> bool(np.allclose(ours.predict_proba(X), theirs.predict_proba(X)))
    True
    """
    from sklearn.pipeline import Pipeline
    from sklearn.utils.validation import check_is_fitted

    from .. import estimators
    from ..estimators.sklearn_private import MLPS

    if not isinstance(fitted, Pipeline):
        steps, last = [], fitted
    else:
        *steps, (_, last) = fitted.steps
        steps = [(name, step) for name, step in steps if step not in (None, "passthrough")]
    kind = next((name for name, each in MLPS.items() if isinstance(last, each)), None)
    if kind is None:
        raise TypeError(f"fitted: expected an MLPClassifier or MLPRegressor of scikit-learn's, or "
                        f"a Pipeline that ends with one, got {last!r}")
    if not steps:
        return getattr(estimators, kind).from_sklearn(last)
    maps = []
    for name, step in steps:
        check_is_fitted(step)
        maps.append(_affine(name, step))
    model = getattr(estimators, kind).from_sklearn(last)
    scale, shift = maps[0]
    for more, then in maps[1:]:
        scale, shift = scale * more, shift * more + then
    W, b = model.coefs_[0].astype(np.float64), model.intercepts_[0].astype(np.float64)
    model.coefs_ = [scale[:, None] * W, *(each.astype(np.float64) for each in model.coefs_[1:])]
    model.intercepts_ = [b + shift @ W,
                         *(each.astype(np.float64) for each in model.intercepts_[1:])]
    if hasattr(fitted, "feature_names_in_"):
        model.feature_names_in_ = fitted.feature_names_in_
    elif hasattr(model, "feature_names_in_"):
        del model.feature_names_in_  # the names of what the scaler returned
    return model


def _affine(name: str, step: Any) -> tuple[Doubles, Doubles]:
    """A scaler's column-wise map ``x·scale + shift``."""
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    if isinstance(step, StandardScaler):
        n = step.n_features_in_
        scale = np.ones(n) if step.scale_ is None else 1 / step.scale_
        return scale, np.zeros(n) if step.mean_ is None or not step.with_mean else (
            -step.mean_ * scale)
    if isinstance(step, MinMaxScaler) and not step.clip:
        return step.scale_.astype(np.float64), step.min_.astype(np.float64)
    raise TypeError(f"fitted: step {name!r}: expected a StandardScaler, or a MinMaxScaler without "
                    f"clip, got {step!r}; keep it before the model in a pipeline of your own")
