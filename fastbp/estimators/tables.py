"""What estimators for tables have in common, from the arguments of fit to encoded rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.validation import check_consistent_length

from ..export.methods import Exportable
from ..layers import Columns, Embedding, Layer
from ..losses import Loss, MeanSquaredError, SigmoidCrossEntropy, SoftmaxCrossEntropy
from ..messages import counted
from .arguments import set_parameters, validation_arguments
from .scores import classification_score, regression_score
from .sklearn_private import (
    Interval,
    StrOptions,
    check_sample_weight,
    validates_parameters,
)
from .table_encoder import TableEncoder
from .table_reading import read_columns
from .targets import TargetScaler, encode_classes, real_targets

if TYPE_CHECKING:
    from numpy.random import RandomState

    from ..initializers import Initializer
    from ..kernels.types import Array, Doubles, Floats
    from .scores import Score

__all__ = ["LEAST_EPOCHS", "TableClassifier", "TableEstimator", "TableRegressor", "Task",
           "checked_sample_weight", "embeddings", "most_per_number", "seconds_per_epoch"]

# Fewer rows than this are for training and validation at once.
FEW_ROWS = 10
# Most columns for a category's embedding.
MOST_EMBEDDED = 16
# Numbers that the numeric columns become together, where each becomes more than two.
MOST_EMBEDDED_NUMBERS = 8192
# Within a time limit there should be so many epochs, of networks that are smaller if need be.
LEAST_EPOCHS = 10


@dataclass(kw_only=True)
class Task:
    """What a network learns, and how its predictions are scored.

    Attributes
    ----------
    targets : ndarray of shape (rows,) or (rows, outputs)
        Of the training rows, as the loss takes them.
    weights : ndarray of shape (rows,) or None
    targets_val, weights_val : ndarray or None
        Likewise of the validation rows.
    loss : Loss
    n_out : int
        Outputs of a network.
    activation : str or None
        Of the outputs: "softmax", "sigmoid" or None.
    score : Score
    predictions : callable
        Turns activated outputs into what the score takes.
    """

    targets: Array
    weights: Array | None
    targets_val: Array
    weights_val: Array | None
    loss: Loss
    n_out: int
    activation: str | None
    score: Score
    predictions: Callable[[Floats], Floats]

    def with_validation(self) -> Task:
        """The same task, with the validation rows after the training rows."""
        weights = None
        if self.weights is not None or self.weights_val is not None:
            weights = np.concatenate([
                np.ones(len(targets)) if each is None else each
                for targets, each in ((self.targets, self.weights),
                                      (self.targets_val, self.weights_val))])
        return replace(self, targets=np.concatenate([self.targets, self.targets_val]),
                       weights=weights)

    def first(self, rows: int) -> Task:
        """The same task with the first training rows only, and without weights."""
        return replace(self, targets=self.targets[:rows], weights=None)


class TableEstimator(Exportable, BaseEstimator):  # type: ignore[misc]  # without types
    """Base class of estimators that encode a table, set rows aside, and train on the others.

    A subclass defines `_train`, and `_outputs` for predictions.

    Parameters
    ----------
    parameters : dict
        The local variables of the subclass's constructor.
    """

    scoring: Any
    validation_fraction: float
    time_limit: float | None
    categories: Sequence[str | int] | None
    numbers: Sequence[str | int] | None
    random_state: int | RandomState | None
    n_threads: int | None
    verbose: int

    n_features_in_: int
    feature_names_in_: Array
    encoder_: TableEncoder

    # Columns of more levels become codes: see `TableEncoder`.
    _max_one_hot = 32
    _parameter_constraints = {
        "scoring": [str, callable, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "categories": ["array-like", None],
        "numbers": ["array-like", None],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose"],
    }

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        set_parameters(self, parameters)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        raise NotImplementedError

    def _train(self, task: Task, X: Floats, X_val: Floats, random: RandomState,
               deadline: float) -> None:
        """Train on encoded rows, until `deadline` by `time.monotonic`, and set the attributes."""
        raise NotImplementedError

    def _outputs(self, X: Any) -> Floats:
        """Activated outputs for rows as the user has them."""
        raise NotImplementedError

    def _fit(self, X: Any, y: Array, weights: Array | None, validation: Any,
             stratify: Array | None) -> None:
        """Set rows aside where there are none for validation, encode all, and train."""
        begin = time.monotonic()
        random = check_random_state(self.random_state)
        table = read_columns(X)
        if validation is None:
            rows, rows_val = self._split(len(y), stratify, random)
            table, table_val = table.take(rows), table.take(rows_val)
            y, y_val = y[rows], y[rows_val]
            weights, weights_val = (None, None) if weights is None else (
                weights[rows], weights[rows_val])
        else:
            X_val, y_val, weights_val = validation
            table_val = read_columns(X_val, "X_val")
        if weights_val is not None and not (weights_val > 0).any():
            name = "sample_weight" if validation is None else "sample_weight_val"
            raise ValueError(f"{name}: expected one above 0 among the validation rows; pass X_val, "
                             f"y_val and sample_weight_val, or a larger validation_fraction")
        self.encoder_ = TableEncoder(self.categories, numbers=self.numbers,
                                     max_one_hot=self._max_one_hot,
                                     random_state=random.randint(2**31))
        encoded = self.encoder_.fit_transform(table)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.encoder_, name):
                setattr(self, name, getattr(self.encoder_, name))
        if self.verbose:
            print(self.encoder_.describe(), flush=True)
        task = self._task(y, y_val, weights, weights_val)
        deadline = np.inf if self.time_limit is None else begin + self.time_limit
        self._train(task, encoded, self.encoder_.transform(table_val), random, deadline)

    def _forget(self) -> None:
        """Delete what an earlier `fit` has set, so that nothing of it is left if this one fails."""
        for name in [name for name in vars(self) if name.endswith("_")]:
            delattr(self, name)

    def _split(self, n: int, stratify: Array | None, random: RandomState) -> tuple[Array, Array]:
        """The rows to train on, and those that are set aside for validation."""
        rows = np.arange(n)
        if n < FEW_ROWS:
            return rows, rows
        n_validation = min(n - 1, max(1, round(n * self.validation_fraction)))
        if stratify is not None:
            counts = np.bincount(stratify)
            if counts.min() < 2 or not len(counts) <= n_validation <= n - len(counts):
                stratify = None
        split = train_test_split(rows, test_size=n_validation, random_state=random,
                                 stratify=stratify)
        rows, rows_val = map(np.sort, split)
        return rows, rows_val


class TableClassifier(ClassifierMixin, TableEstimator):  # type: ignore[misc]  # without types
    """Base class of classifiers: classes as codes, their weights, probabilities."""

    class_weight: Any
    classes_: Array

    _parameter_constraints = TableEstimator._parameter_constraints | {
        "class_weight": [dict, StrOptions({"balanced"}), None]}

    @validates_parameters
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, sample_weight: Any = None,
            sample_weight_val: Any = None) -> Self:
        """Train on rows and their classes.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)
            As for `TableEncoder`.
        y : array_like of shape (rows,)
            Classes: text, booleans, whole numbers or categories.
        X_val, y_val : optional
            Rows to choose networks and epochs by; without them, a share `validation_fraction` of X
            and y is set aside, from each class alike where that is possible.
        sample_weight, sample_weight_val : array_like of shape (rows,), optional
            How much each row counts, in training and in the choice of networks and epochs.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or a parameter of the estimator is invalid.
        """
        validation = validation_arguments(X_val, y_val, sample_weight_val)
        self._forget()
        codes, self.classes_ = encode_classes(y)
        check_consistent_length(X, codes)
        weights = self._weights(codes, sample_weight)
        if validation is not None:
            codes_val, _ = encode_classes(y_val, self.classes_, "y_val")
            _check_validation_length(X_val, codes_val)
            validation = X_val, codes_val, self._weights(codes_val, sample_weight_val,
                                                         "sample_weight_val")
        self._fit(X, codes, weights, validation, codes)
        return self

    def _weights(self, codes: Array, sample_weight: Any,
                 argument: str = "sample_weight") -> Array | None:
        weights = checked_sample_weight(codes, sample_weight, argument)
        if self.class_weight is not None:
            if weights is None:
                weights = np.ones(len(codes))
            if isinstance(self.class_weight, dict):
                own = [self.class_weight.get(label, 1.0) for label in self.classes_.tolist()]
                weights = weights * np.array(own, float)[codes]
            else:
                weights = weights * compute_sample_weight(self.class_weight, codes)
        return weights

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        score = classification_score(self.scoring, y_val, self.classes_, weights_val)
        if len(self.classes_) == 2:
            return Task(targets=y[:, None], weights=weights, targets_val=y_val[:, None],
                        weights_val=weights_val, loss=SigmoidCrossEntropy(), n_out=1,
                        activation="sigmoid", score=score, predictions=_both)
        return Task(targets=y, weights=weights, targets_val=y_val, weights_val=weights_val,
                    loss=SoftmaxCrossEntropy(), n_out=len(self.classes_), activation="softmax",
                    score=score, predictions=lambda P: P)

    def predict_proba(self, X: Any) -> Floats:
        """The probabilities of the classes.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows, classes)
            In the order of `classes_`.
        """
        P = self._outputs(X)
        return _both(P) if len(self.classes_) == 2 else P

    def predict(self, X: Any) -> Array:
        """The most probable classes.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,)
        """
        P = self.predict_proba(X)
        predicted: Array = self.classes_[P.argmax(axis=1)]
        return predicted


class TableRegressor(RegressorMixin, TableEstimator):  # type: ignore[misc]  # without types
    """Base class of regressors: standardized targets, one or several."""

    target_scaler_: TargetScaler

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    @validates_parameters
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, sample_weight: Any = None,
            sample_weight_val: Any = None) -> Self:
        """Train on rows and their targets.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)
            As for `TableEncoder`.
        y : array_like of shape (rows,) or (rows, outputs)
            Numbers.
        X_val, y_val : optional
            Rows to choose networks and epochs by; without them, a share `validation_fraction` of X
            and y is set aside.
        sample_weight, sample_weight_val : array_like of shape (rows,), optional
            How much each row counts, in training and in the choice of networks and epochs.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or a parameter of the estimator is invalid.
        """
        validation = validation_arguments(X_val, y_val, sample_weight_val)
        self._forget()
        y = real_targets(y)
        check_consistent_length(X, y)
        weights = checked_sample_weight(y, sample_weight)
        if validation is not None:
            y_val = real_targets(y_val, "y_val")
            if y_val.shape[1] != y.shape[1]:
                raise ValueError(f"y_val: expected {counted(y.shape[1], 'output')} as in y, got "
                                 f"{y_val.shape[1]}")
            _check_validation_length(X_val, y_val)
            validation = X_val, y_val, checked_sample_weight(y_val, sample_weight_val,
                                                             "sample_weight_val")
        self._fit(X, y, weights, validation, None)
        return self

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        self.target_scaler_ = scaler = TargetScaler(y)
        score = regression_score(self.scoring, scaler.transform(y_val, float), weights_val, None,
                                 scaler.inverse)
        return Task(targets=scaler.transform(y), weights=weights,
                    targets_val=scaler.transform(y_val), weights_val=weights_val,
                    loss=MeanSquaredError(), n_out=len(scaler.mean), activation=None, score=score,
                    predictions=lambda Z: Z)

    def predict(self, X: Any) -> Doubles:
        """The expected targets.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,), or (rows, outputs) for several outputs, float64
        """
        Z = self._outputs(X)
        return self.target_scaler_.inverse(Z)


def embeddings(encoder: TableEncoder, of_numbers: Layer | None,
               init: str | Initializer = "normal") -> Columns:
    """A network's first layer: numbers, zeros and ones, and codes, side by side.

    Parameters
    ----------
    encoder : TableEncoder
    of_numbers : Layer or None
        What numbers go through; None passes them on.
    init : str or callable
        Of the embeddings of codes.

    Returns
    -------
    Columns
    """
    n, n_binary = encoder.n_numeric_, encoder.n_binary_
    parts: list[tuple[Any, Any]] = []
    if n:
        parts.append((slice(0, n), [] if of_numbers is None else of_numbers))
    if n_binary:
        parts.append((slice(n, n + n_binary), []))
    for column, n_codes in enumerate(encoder.n_codes_, n + n_binary):
        parts.append((column, Embedding(n_codes, min(MOST_EMBEDDED, n_codes), init)))
    return Columns(parts)


def most_per_number(encoder: TableEncoder) -> int:
    """Most columns for each number: of a wide table fewer, as memory and time grow with them."""
    return max(2, MOST_EMBEDDED_NUMBERS // max(1, encoder.n_numeric_))


def seconds_per_epoch(train: Callable[[int, Callable[[Any], None]], object], n_rows: int,
                      batch_size: int) -> float:
    """How long an epoch would take, by one of a single minibatch.

    Parameters
    ----------
    train : callable
        Trains for two epochs on as many rows as its first argument says, and calls the second one
        after each.
    n_rows, batch_size : int
        Of the epoch.

    Returns
    -------
    float
        It may be 0, if that is too short for the clock.
    """
    rows = min(n_rows, batch_size)
    times = [time.perf_counter()]  # finer than `time.monotonic` on Windows
    train(rows, lambda _: times.append(time.perf_counter()))
    # The first epoch has to set up things; but the second one may have been interrupted.
    return min(times[1] - times[0], times[2] - times[1]) * n_rows / rows


def _both(P: Floats) -> Floats:
    """The probabilities of both classes, from that of the second one."""
    return np.hstack([1 - P, P])


def checked_sample_weight(y: Array, sample_weight: Any,
                          argument: str = "sample_weight") -> Array | None:
    """Sample weights as an array with a number of at least 0 for each row of y, or None."""
    if sample_weight is None:
        return None
    try:
        weights: Array = check_sample_weight(sample_weight, y, ensure_non_negative=True)
    except (TypeError, ValueError) as error:
        message = str(error).replace("sample_weight", argument)
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(message if argument in message else f"{argument}: {message}") from None
    return weights


def _check_validation_length(X_val: Any, y_val: Array) -> None:
    try:
        check_consistent_length(X_val, y_val)
    except (TypeError, ValueError) as error:
        raise type(error)(f"X_val, y_val: {error}") from None
