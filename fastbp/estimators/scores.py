"""How good predictions on validation rows are: what members of an ensemble are chosen by."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.metrics import get_scorer, roc_auc_score

from .. import kernels
from ..kernels.types import Array, Doubles

__all__ = ["Score", "classification_score", "regression_score"]


class Score:
    """The score of predictions for known targets; the higher the better.

    A mean of several predictions has the score of the mean of what `reduced` returns for them.

    Attributes
    ----------
    name : str
        In words, for a picture.
    """

    name = "score"

    def reduced(self, predictions: Array) -> Doubles:
        """What the score is a function of, an array with a row for each row of the predictions.

        Parameters
        ----------
        predictions : ndarray of shape (rows, outputs)
        """
        return np.asarray(predictions, float)

    def __call__(self, reduced: Doubles) -> float:
        """The score."""
        raise NotImplementedError


class RootMeanSquaredError(Score):
    """Minus the root of the mean squared error.

    Parameters
    ----------
    y : ndarray of shape (rows, outputs)
    weights : ndarray of shape (rows,) or None
    """

    name = "negative RMSE of standardized targets"

    def __init__(self, y: Array, weights: Array | None) -> None:
        self._y = np.asarray(y, float)
        weights = np.ones(len(y)) if weights is None else weights
        self._roots = np.sqrt(weights / (_total(weights) * y.shape[1]))[:, None]

    def __call__(self, reduced: Doubles) -> float:
        return -kernels.norm(np.ravel(self._roots * (reduced - self._y)))


class Pinball(Score):
    """Minus the mean pinball loss, the mean over several quantiles.

    Parameters
    ----------
    y : ndarray of shape (rows, 1)
    quantiles : ndarray of shape (outputs,)
    weights : ndarray of shape (rows,) or None
    """

    name = "negative pinball loss of standardized targets"

    def __init__(self, y: Array, quantiles: Array, weights: Array | None) -> None:
        self._y, self._quantiles, self._weights = np.asarray(y, float), quantiles, weights

    def __call__(self, reduced: Doubles) -> float:
        residuals = self._y - reduced
        losses = np.maximum(self._quantiles * residuals, (self._quantiles - 1) * residuals)
        return -_mean(losses.mean(1), self._weights)


class ClassScore(Score):
    """Base class of scores of probabilities; of two classes, the second one's is enough.

    Parameters
    ----------
    codes : ndarray of int of shape (rows,)
        The classes.
    weights : ndarray of shape (rows,) or None
    """

    def __init__(self, codes: Array, weights: Array | None) -> None:
        self._codes, self._weights = codes, weights

    def reduced(self, predictions: Array) -> Doubles:
        P = np.asarray(predictions, float)
        return P[:, 1] if P.shape[1] == 2 else P


class Accuracy(ClassScore):
    """The share of rows whose class is the most probable one."""

    name = "accuracy"

    def __call__(self, reduced: Doubles) -> float:
        predicted = reduced > 0.5 if reduced.ndim == 1 else reduced.argmax(1)
        return _mean(predicted == self._codes, self._weights)


class LogLoss(ClassScore):
    """The mean logarithm of the probability of the right class."""

    name = "negative log loss"

    def reduced(self, predictions: Array) -> Doubles:
        return np.asarray(predictions[np.arange(len(self._codes)), self._codes], float)

    def __call__(self, reduced: Doubles) -> float:
        # A probability of 0 in float32 was a tiny one.
        return _mean(kernels.log(np.maximum(reduced, 1e-38)), self._weights)


class AreaUnderCurve(ClassScore):
    """The area under the ROC curve; of more than two classes, the mean of each against the rest.

    Classes that no row has do not count.
    """

    name = "area under the ROC curve"

    def __call__(self, reduced: Doubles) -> float:
        columns = [reduced] if reduced.ndim == 1 else reduced.T
        first = 1 if reduced.ndim == 1 else 0
        areas = [roc_auc_score(self._codes == k, column, sample_weight=self._weights)
                 for k, column in enumerate(columns, first)
                 if 0 < np.count_nonzero(self._codes == k) < len(self._codes)]
        return float(np.mean(areas)) if areas else math.nan


class Scorer(Score):
    """A score of scikit-learn's, or one that keeps to its interface.

    Parameters
    ----------
    scoring : str or callable
        A name of scikit-learn's, or ``scorer(estimator, X, y)``.
    y : ndarray of shape (rows,) or (rows, outputs)
        As the estimator's user has it.
    weights : ndarray of shape (rows,) or None
    fitted : callable
        Takes predictions, and returns an estimator that makes them.
    """

    def __init__(self, scoring: Any, y: Array, weights: Array | None,
                 fitted: Callable[[Array], BaseEstimator]) -> None:
        scorer: Callable[..., float] = get_scorer(scoring)
        self.name = str(scoring if isinstance(scoring, str)
                        else getattr(scoring, "__name__", "score"))
        self._scorer, self._y, self._fitted = scorer, y, fitted
        self._weights = {}
        if weights is not None and _takes_weights(scorer):
            self._weights = {"sample_weight": weights}

    def __call__(self, reduced: Doubles) -> float:
        rows = np.zeros((len(reduced), 1))
        return float(self._scorer(self._fitted(reduced), rows, self._y, **self._weights))


def _takes_weights(scorer: Callable[..., float]) -> bool:
    """Whether it is one of scikit-learn's, or a function with that argument."""
    parameters = inspect.signature(scorer).parameters.values()
    return any(each.name == "sample_weight" or each.kind is each.VAR_KEYWORD
               for each in parameters)


class _FittedClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # without types
    """What scikit-learn's scorers need of a classifier with known predictions."""

    def __init__(self, classes: Array, P: Array) -> None:
        self.classes_, self._P = classes, P

    def predict_proba(self, X: Any) -> Array:
        P: Array = self._P / self._P.sum(1, keepdims=True)
        return P

    def predict(self, X: Any) -> Array:
        classes: Array = self.classes_[self._P.argmax(1)]
        return classes


class _FittedRegressor(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # without types
    """What scikit-learn's scorers need of a regressor with known predictions."""

    def __init__(self, y: Array) -> None:
        self._y = y

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def predict(self, X: Any) -> Array:
        return self._y


def classification_score(scoring: Any, codes: Array, classes: Array,
                         weights: Array | None) -> Score:
    """The score that a classifier chooses by.

    Parameters
    ----------
    scoring : str or callable
        "log_loss", "accuracy", "roc_auc", another name or a function of scikit-learn's.
    codes : ndarray of int of shape (rows,)
    classes : ndarray
    weights : ndarray of shape (rows,) or None

    Returns
    -------
    Score
    """
    own: dict[Any, Callable[..., Score]] = {
        "log_loss": LogLoss, "neg_log_loss": LogLoss, "accuracy": Accuracy,
        "roc_auc": AreaUnderCurve, "roc_auc_ovr": AreaUnderCurve,
    }
    if scoring is None:
        scoring = "log_loss"
    if isinstance(scoring, str) and scoring in own:
        return own[scoring](codes, weights)
    return Scorer(scoring, classes[codes], weights,
                  lambda P: _FittedClassifier(classes, P))


def regression_score(scoring: Any, y: Array, weights: Array | None, quantiles: Array | None,
                     inverse: Callable[[Array], Array]) -> Score:
    """The score that a regressor chooses by.

    Parameters
    ----------
    scoring : str, callable or None
        "rmse", another name or a function of scikit-learn's; None is "rmse", or the pinball loss
        if there are quantiles.
    y : ndarray of shape (rows, outputs)
        Standardized targets.
    weights : ndarray of shape (rows,) or None
    quantiles : ndarray or None
    inverse : callable
        Takes standardized targets and returns them in the user's units.

    Returns
    -------
    Score
    """
    if scoring is None and quantiles is not None:
        return Pinball(y, quantiles, weights)
    if scoring in (None, "rmse", "neg_root_mean_squared_error", "neg_mean_squared_error"):
        return RootMeanSquaredError(y, weights)
    return Scorer(scoring, inverse(y), weights,
                  lambda Z: _FittedRegressor(inverse(Z)))


def _total(values: Array) -> float:
    """The sum, added in order; NumPy's adds in another order on other machines."""
    return float(np.cumsum(values, dtype=np.float64)[-1])


def _mean(values: Array, weights: Array | None) -> float:
    if weights is None:
        return _total(values) / len(values)
    return _total(values * weights) / _total(weights)
