"""TabPackClassifier and TabPackRegressor: ensembles of small networks for tables."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state, compute_sample_weight
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..ensemble import Ensemble
from ..layers import Columns, Dense, Dropout, Embedding, Layer, PeriodicEmbedding, ReLU
from ..losses import (
    Loss,
    MeanSquaredError,
    PinballLoss,
    SigmoidCrossEntropy,
    SoftmaxCrossEntropy,
)
from ..network import Sequential
from ..optimizers import Group, Muon
from ..training import fit_many
from .arguments import validation_arguments
from .scores import Pinball, classification_score, regression_score
from .selection import PackHistory, Selection, Snapshot
from .sklearn_private import (
    Interval,
    StrOptions,
    check_sample_weight,
    take_rows,
    validates_parameters,
)
from .table_encoder import TableEncoder
from .targets import TargetScaler, checked_quantiles, encode_classes, real_targets

if TYPE_CHECKING:
    from numpy.random import RandomState

    from ..kernels.types import Array, Doubles, Floats
    from ..optimizers import Optimizer
    from .scores import Score

__all__ = ["TabPackClassifier", "TabPackRegressor"]

# Rows from which on minibatches are larger, by default.
MANY_ROWS = 50_000
# Fewer rows than this are for training and validation at once.
FEW_ROWS = 10
# Most columns for a category's embedding.
MOST_EMBEDDED = 16


class Draw(NamedTuple):
    """A member's hyperparameters, drawn at random."""

    n_blocks: int
    n_per_feature: int
    dropout: float
    scale: float
    learning_rate: float
    muon_learning_rate: float
    weight_decay: float
    seed: int

    @classmethod
    def from_generator(cls, rng: np.random.Generator) -> Draw:
        """The hyperparameters of the next member."""

        def log_uniform(low: float, high: float) -> float:
            return float(np.exp(rng.uniform(np.log(low), np.log(high))))

        return cls(
            n_blocks=int(rng.integers(1, 4)), n_per_feature=4 * int(rng.integers(2, 9)),
            dropout=float(rng.integers(2) * rng.uniform(0, 0.3)), scale=log_uniform(0.3, 4),
            learning_rate=log_uniform(5e-4, 5e-3), muon_learning_rate=log_uniform(1.5e-3, 0.03),
            weight_decay=log_uniform(5e-3, 0.3), seed=int(rng.integers(2**31)))

    def network(self, encoder: TableEncoder, width: int, n_out: int) -> Sequential:
        """An untrained network for an encoded table."""
        first = _embeddings(encoder, self.n_per_feature, self.scale)
        stack: list[Layer] = [first]
        n = first.n_out
        for _ in range(self.n_blocks):
            stack += [Dense(n, width, _uniform), ReLU()]
            if self.dropout:
                stack.append(Dropout(self.dropout))
            n = width
        network = Sequential([*stack, Dense(n, n_out, _uniform)], seed=self.seed)
        rng = np.random.default_rng(self.seed)
        for _, layer in network.leaves:
            if isinstance(layer, Dense):
                layer.b = _uniform(rng, layer.n_in, layer.n_out)[0]
        return network

    def optimizer(self) -> Optimizer:
        """Muon for the hidden layers and AdamW for all else."""
        return Muon(self.muon_learning_rate, weight_decay=self.weight_decay,
                    adam_learning_rate=self.learning_rate,
                    groups=[Group("b", weight_decay=0), Group("beta", weight_decay=0)])


def _uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    return rng.uniform(-1, 1, (n_in, n_out)) / np.sqrt(n_in)


def _embeddings(encoder: TableEncoder, n_per_feature: int, scale: float) -> Columns:
    """The first layer: numbers, zeros and ones, and codes, side by side."""
    n, n_binary = encoder.n_numeric_, encoder.n_binary_
    parts: list[tuple[Any, Any]] = []
    if n:
        parts.append((slice(0, n), PeriodicEmbedding(n, n_per_feature, scale, trainable=False,
                                                     random_phases=True)))
    if n_binary:
        parts.append((slice(n, n + n_binary), []))
    for column, n_codes in enumerate(encoder.n_codes_, n + n_binary):
        parts.append((column, Embedding(n_codes, min(MOST_EMBEDDED, n_codes))))
    return Columns(parts)


@dataclass(kw_only=True)
class Task:
    """What the members learn, and how their predictions are scored.

    Attributes
    ----------
    targets : ndarray of shape (rows,) or (rows, outputs)
        Of the training rows, as the loss takes them.
    weights : ndarray of shape (rows,) or None
    loss : Loss
    n_out : int
        Outputs of a network.
    activation : str or None
        As for `Ensemble`.
    score : Score
    predictions : callable
        Turns activated outputs into what the score takes.
    """

    targets: Array
    weights: Array | None
    loss: Loss
    n_out: int
    activation: str | None
    score: Score
    predictions: Callable[[Floats], Floats]


class BaseTabPack(BaseEstimator):  # type: ignore[misc]  # scikit-learn comes without types
    """What classifier and regressor have in common: fitting, from top to bottom.

    A subclass reads the targets, and says in `_task` what is learned.

    Parameters
    ----------
    parameters : dict
        The local variables of the subclass's constructor.
    """

    n_members: int
    width: int
    batch_size: int | None
    max_epochs: int
    patience: int
    ensemble_patience: int
    max_ensemble_size: int
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
    ensemble_: Ensemble
    history_: PackHistory
    best_score_: float

    _parameter_constraints = {
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 0, None, closed="left")],
        "ensemble_patience": [Interval(Integral, 0, None, closed="left")],
        "max_ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "scoring": [str, callable, None],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
        "categories": ["array-like", None],
        "numbers": ["array-like", None],
        "random_state": ["random_state"],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "verbose": ["verbose"],
    }

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        raise NotImplementedError

    def _fit(self, X: Any, y: Array, weights: Array | None, validation: Any,
             stratify: Array | None) -> None:
        """Encode the rows, train the members, and set the attributes."""
        begin = time.monotonic()
        random = check_random_state(self.random_state)
        if validation is None:
            kept, aside = self._split(len(y), stratify, random)
            validation = (take_rows(X, aside), y[aside],
                          None if weights is None else weights[aside])
            X, y = take_rows(X, kept), y[kept]
            weights = None if weights is None else weights[kept]
        X_val, y_val, weights_val = validation
        self.encoder_ = TableEncoder(self.categories, numbers=self.numbers,
                                     random_state=random.randint(2**31))
        encoded = self.encoder_.fit_transform(X)
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self.encoder_, name):
                setattr(self, name, getattr(self.encoder_, name))
        if self.verbose:
            print(self.encoder_.describe(), flush=True)
        draws = np.random.default_rng(random.randint(2**31))
        members = [Draw.from_generator(draws) for _ in range(self.n_members)]
        task = self._task(y, y_val, weights, weights_val)
        deadline = np.inf if self.time_limit is None else begin + self.time_limit
        selection = self._train(members, task, encoded, self.encoder_.transform(X_val), deadline)
        self.ensemble_ = Ensemble([self._restored(members, each, task)
                                   for each in selection.chosen], activation=task.activation)
        self.history_ = PackHistory(selection, [each._asdict() for each in members])
        self.best_score_ = selection.best_score

    def _split(self, n: int, stratify: Array | None, random: RandomState) -> tuple[Array, Array]:
        """The rows to train on, and those that are set aside for validation."""
        rows = np.arange(n)
        if n < FEW_ROWS:
            return rows, rows
        n_aside = max(1, round(n * self.validation_fraction))
        if stratify is not None:
            counts = np.bincount(stratify)
            if counts.min() < 2 or not len(counts) <= n_aside <= n - len(counts):
                stratify = None
        kept, aside = train_test_split(rows, test_size=n_aside, random_state=random,
                                       stratify=stratify)
        return np.sort(kept), np.sort(aside)

    def _train(self, members: list[Draw], task: Task, X: Floats, X_val: Floats,
               deadline: float) -> Selection:
        def predict(network: Sequential) -> Floats:
            Z = network.predict(X_val, activation=task.activation, n_threads=self.n_threads)
            return task.predictions(Z)

        selection = Selection(
            predict, task.score, n_members=len(members), patience=self.patience,
            ensemble_patience=self.ensemble_patience, max_size=self.max_ensemble_size,
            deadline=deadline)
        fit_many([each.network(self.encoder_, self.width, task.n_out) for each in members],
                 X, task.targets, loss=task.loss,
                 optimizers=[each.optimizer() for each in members], epochs=self.max_epochs,
                 batch_size=self.batch_size or (512 if len(X) > MANY_ROWS else 256),
                 sample_weight=task.weights, on_epoch_end=selection,
                 seeds=[each.seed for each in members], n_threads=self.n_threads,
                 verbose=int(self.verbose))
        return selection

    def _restored(self, members: list[Draw], snapshot: Snapshot, task: Task) -> Sequential:
        network = members[snapshot.member].network(self.encoder_, self.width, task.n_out)
        network.set_state(snapshot.state)
        return network

    def _outputs(self, X: Any) -> Floats:
        check_is_fitted(self, "ensemble_")
        return self.ensemble_.predict(self.encoder_.transform(X), n_threads=self.n_threads)


class TabPackClassifier(ClassifierMixin, BaseTabPack):  # type: ignore[misc]  # without types
    """TODO"""

    class_weight: Any
    classes_: Array

    _parameter_constraints = BaseTabPack._parameter_constraints | {
        "class_weight": [dict, StrOptions({"balanced"}), None]}

    def __init__(
        self, n_members: int = 16, *, width: int = 128, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 8, ensemble_patience: int = 8,
        max_ensemble_size: int = 32, scoring: Any = "log_loss", validation_fraction: float = 0.2,
        time_limit: float | None = None, class_weight: Any = None,
        categories: Sequence[str | int] | None = None, numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_members = n_members
        self.width = width
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.ensemble_patience = ensemble_patience
        self.max_ensemble_size = max_ensemble_size
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.time_limit = time_limit
        self.class_weight = class_weight
        self.categories = categories
        self.numbers = numbers
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    @validates_parameters
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, sample_weight: Any = None,
            sample_weight_val: Any = None) -> Self:
        validation = validation_arguments(X_val, y_val, sample_weight_val)
        codes, self.classes_ = encode_classes(y)
        check_consistent_length(X, codes)
        weights = self._weights(codes, sample_weight)
        if validation is not None:
            codes_val, _ = encode_classes(y_val, self.classes_)
            check_consistent_length(X_val, codes_val)
            validation = X_val, codes_val, self._weights(codes_val, sample_weight_val)
        self._fit(X, codes, weights, validation, codes)
        return self

    def _weights(self, codes: Array, sample_weight: Any) -> Array | None:
        if sample_weight is None and self.class_weight is None:
            return None
        weights: Array = check_sample_weight(sample_weight, codes, ensure_non_negative=True)
        if self.class_weight is not None:
            weights = weights * compute_sample_weight(self.class_weight, self.classes_[codes])
        return weights

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        score = classification_score(self.scoring, y_val, self.classes_, weights_val)
        if len(self.classes_) == 2:
            return Task(targets=y[:, None], weights=weights, loss=SigmoidCrossEntropy(), n_out=1,
                        activation="sigmoid", score=score, predictions=_both)
        return Task(targets=y, weights=weights, loss=SoftmaxCrossEntropy(),
                    n_out=len(self.classes_), activation="softmax", score=score,
                    predictions=lambda P: P)

    def predict_proba(self, X: Any) -> Floats:
        P = self._outputs(X)
        return _both(P) if len(self.classes_) == 2 else P

    def predict(self, X: Any) -> Array:
        P = self.predict_proba(X)
        predicted: Array = self.classes_[P.argmax(axis=1)]
        return predicted


class TabPackRegressor(RegressorMixin, BaseTabPack):  # type: ignore[misc]  # without types
    """TODO"""

    target_scaler_: TargetScaler
    quantiles_: float | tuple[float, ...] | None

    _parameter_constraints = BaseTabPack._parameter_constraints | {
        "quantiles": [Interval(Real, 0, 1, closed="neither"), "array-like", None]}

    def __init__(
        self, n_members: int = 16, *, width: int = 128, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 8, ensemble_patience: int = 8,
        max_ensemble_size: int = 32, scoring: Any = None, validation_fraction: float = 0.2,
        time_limit: float | None = None, quantiles: float | Sequence[float] | None = None,
        categories: Sequence[str | int] | None = None, numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.n_members = n_members
        self.width = width
        self.batch_size = batch_size
        self.max_epochs = max_epochs
        self.patience = patience
        self.ensemble_patience = ensemble_patience
        self.max_ensemble_size = max_ensemble_size
        self.scoring = scoring
        self.validation_fraction = validation_fraction
        self.time_limit = time_limit
        self.quantiles = quantiles
        self.categories = categories
        self.numbers = numbers
        self.random_state = random_state
        self.n_threads = n_threads
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.quantiles is None
        tags.regressor_tags.poor_score = self.quantiles is not None  # it is minus a loss
        return tags

    @validates_parameters
    def fit(self, X: Any, y: Any, X_val: Any = None, y_val: Any = None, sample_weight: Any = None,
            sample_weight_val: Any = None) -> Self:
        validation = validation_arguments(X_val, y_val, sample_weight_val)
        y = real_targets(y)
        check_consistent_length(X, y)
        weights = _weights(y, sample_weight)
        if validation is not None:
            y_val = real_targets(y_val)
            check_consistent_length(X_val, y_val)
            validation = X_val, y_val, _weights(y_val, sample_weight_val)
        self._fit(X, y, weights, validation, None)
        return self

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        self.target_scaler_ = scaler = TargetScaler(y)
        self.quantiles_ = checked_quantiles(self.quantiles, self.scoring, y)
        if self.quantiles_ is not None:
            return self._task_of_quantiles(self.quantiles_, y, y_val, weights, weights_val)
        score = regression_score(self.scoring, scaler.transform(y_val, float), weights_val, None,
                                 scaler.inverse)
        return Task(targets=scaler.transform(y), weights=weights, loss=MeanSquaredError(),
                    n_out=len(scaler.mean), activation=None, score=score, predictions=lambda Z: Z)

    def _task_of_quantiles(self, quantiles: float | tuple[float, ...], y: Array, y_val: Array,
                           weights: Array | None, weights_val: Array | None) -> Task:
        scaler, n_out = self.target_scaler_, np.size(quantiles)
        score = regression_score(self.scoring, scaler.transform(y_val, float), weights_val,
                                 np.atleast_1d(quantiles), scaler.inverse_quantiles)
        # Repeated here, as otherwise each member would have a copy.
        return Task(targets=np.repeat(scaler.transform(y), n_out, axis=1), weights=weights,
                    loss=PinballLoss(quantiles), n_out=n_out, activation=None, score=score,
                    predictions=lambda Z: Z)

    def predict(self, X: Any) -> Doubles:
        Z = self._outputs(X)
        if self.quantiles_ is None:
            return self.target_scaler_.inverse(Z)
        y = self.target_scaler_.inverse_quantiles(Z)
        return y.reshape(len(y), -1) if isinstance(self.quantiles_, tuple) else y

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """R², or with quantiles minus the mean pinball loss.

        Parameters
        ----------
        X, y, sample_weight
            As for `fit`.

        Returns
        -------
        float
            The higher, the better.  The pinball loss is the mean over the quantiles, in the units
            of y, as by `sklearn.metrics.mean_pinball_loss` for each of them.
        """
        check_is_fitted(self, "ensemble_")
        if self.quantiles_ is None:
            r2: float = super().score(X, y, sample_weight)
            return r2
        y = real_targets(y)
        check_consistent_length(X, y)
        checked_quantiles(self.quantiles_, None, y)
        predicted = self.predict(X).reshape(len(y), -1)
        return Pinball(y, np.atleast_1d(self.quantiles_), _weights(y, sample_weight))(predicted)


def _both(P: Floats) -> Floats:
    """The probabilities of both classes, from that of the second one."""
    return np.hstack([1 - P, P])


def _weights(y: Array, sample_weight: Any) -> Array | None:
    if sample_weight is None:
        return None
    weights: Array = check_sample_weight(sample_weight, y, ensure_non_negative=True)
    return weights
