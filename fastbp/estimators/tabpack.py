"""TabPackClassifier and TabPackRegressor: ensembles of small networks for tables."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from ..ensemble import Ensemble
from ..kernels import checks
from ..losses import PinballLoss
from ..network import Sequential
from ..training import fit_many
from .members import Draw, default_batch_size
from .scores import Pinball, regression_score
from .selection import PackHistory, Selection, Snapshot
from .sklearn_private import Interval, StrOptions
from .tables import (
    LEAST_EPOCHS,
    TableClassifier,
    TableEstimator,
    TableRegressor,
    Task,
    checked_sample_weight,
    most_per_number,
    seconds_per_epoch,
)
from .targets import TargetScaler, checked_quantiles, real_targets

if TYPE_CHECKING:
    from numpy.random import RandomState

    from ..kernels.types import Array, Doubles, Floats
    from ..training import Training

__all__ = ["TabPackClassifier", "TabPackRegressor"]

# Of the time that is left once the rows are encoded, how much is for `refit`.
REFIT_SHARE = 0.35
# Fewer members than this have narrower embeddings within a time limit, if that makes them more.
FEW_MEMBERS = 8
# Within a time limit members should be trained for so many steps, even if they are fewer.
LEAST_STEPS = 200
# Members to measure the speed with.
MEASURED_MEMBERS = 4


class BaseTabPack(TableEstimator):
    """What classifier and regressor have in common: the members, from their training to the
    ensemble."""

    n_members: int
    width: int
    batch_size: int | None
    max_epochs: int
    patience: int
    ensemble_patience: int
    max_ensemble_size: int
    refit: bool
    precision: str

    ensemble_: Ensemble
    history_: PackHistory
    best_score_: float

    _max_one_hot = 4
    _parameter_constraints = TableEstimator._parameter_constraints | {
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 0, None, closed="left")],
        "ensemble_patience": [Interval(Integral, 0, None, closed="left")],
        "max_ensemble_size": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "precision": [StrOptions(set(checks.PRECISIONS))],
    }

    def _train(self, task: Task, X: Floats, X_val: Floats, random: RandomState,
               deadline: float) -> None:
        draws = np.random.default_rng(random.randint(2**31))
        members = [Draw.from_generator(draws) for _ in range(self.n_members)]
        batch_size = self.batch_size or default_batch_size(len(X))
        first_deadline = self._first_deadline(deadline)
        if deadline < math.inf:
            members = self._affordable(members, task, X, batch_size, first_deadline)

        def predict(network: Sequential) -> Floats:
            Z = network.predict(X_val, activation=task.activation, n_threads=self.n_threads)
            return task.predictions(Z)

        selection = Selection(
            predict, task.score, n_members=len(members), patience=self.patience,
            ensemble_patience=self.ensemble_patience, max_size=self.max_ensemble_size,
            deadline=first_deadline)
        begin = time.monotonic()
        self._fit_many(members, task, X, [self.max_epochs] * len(members), batch_size, selection)
        if not selection.chosen:
            raise ValueError(
                f"no member has a score on the validation rows: scoring={self.scoring!r} is not a "
                f"number for any, as where only one class is among them, or all trainings "
                f"diverged; pass another scoring, or X_val and y_val with all classes")
        seconds = (time.monotonic() - begin) / sum(map(len, selection.member_scores))
        states = [each.state for each in selection.chosen]
        # Few rows are for training and validation at once.
        if self.refit and not (len(X) == len(X_val) and np.array_equal(X, X_val)):
            if self.verbose:
                print(f"training the {len(states)} chosen ones again, on all rows", flush=True)
            seconds *= (len(X) + len(X_val)) / len(X)
            states = self._refit(members, task.with_validation(), np.concatenate([X, X_val]),
                                 batch_size, selection.chosen, deadline, seconds) or states
        networks = []
        for snapshot, state in zip(selection.chosen, states, strict=True):
            network = members[snapshot.member].network(self.encoder_, self.width, task.n_out,
                                                       self.precision)
            network.set_state(state)
            networks.append(network)
        self.ensemble_ = Ensemble(networks, activation=task.activation)
        self.history_ = PackHistory(selection, [each._asdict() for each in members])
        self.best_score_ = selection.best_score

    def _first_deadline(self, deadline: float) -> float:
        """When the members' training ends, so that there is time to train the chosen ones again."""
        if not self.refit or deadline == math.inf:
            return deadline
        return deadline - REFIT_SHARE * (deadline - time.monotonic())

    def _affordable(self, members: list[Draw], task: Task, X: Floats, batch_size: int,
                    deadline: float) -> list[Draw]:
        """As many of the members as there is time for, with narrower embeddings if they are few."""
        steps = -(-len(X) // batch_size)
        epochs = min(self.max_epochs, max(LEAST_EPOCHS, -(-LEAST_STEPS // steps)))

        def affordable(members: list[Draw]) -> int:
            if time.monotonic() >= deadline:
                return 0
            few = members[:MEASURED_MEMBERS]

            def train(rows: int, on_epoch_end: Any) -> None:
                self._fit_many(few, task.first(rows), X[:rows], [2] * len(few), batch_size,
                               on_epoch_end, verbose=0)

            seconds = epochs * seconds_per_epoch(train, len(X), batch_size) / len(few)
            left = max(0.0, deadline - time.monotonic())
            return len(members) if seconds * len(members) <= left else int(left / seconds)

        n = affordable(members)
        if (n < min(len(members), FEW_MEMBERS) and self.encoder_.n_numeric_
                and most_per_number(self.encoder_) > 2):
            narrower = [each._replace(n_per_feature=2) for each in members]
            n_narrower = affordable(narrower)
            if n == 0 or n_narrower > n:
                members, n = narrower, n_narrower
        return members[: max(1, n)]

    def _refit(self, members: list[Draw], task: Task, X: Floats, batch_size: int,
               chosen: list[Snapshot], deadline: float, seconds: float) -> list[Floats]:
        """The states of the chosen snapshots after training on these rows; empty if there is not
        enough time, at so many seconds for an epoch of a member, or a training diverged."""
        last: dict[int, int] = {}  # epoch of each member
        for each in chosen:
            last[each.member] = max(last.get(each.member, 0), each.epoch)
        if time.monotonic() + seconds * (sum(last.values()) + len(last)) > deadline:
            return []
        states: dict[tuple[int, int], Floats] = {}

        def keep(trainings: list[Training]) -> None:
            for member, training in zip(last, trainings, strict=True):
                place = member, len(training.history["loss"]) - 1
                if place not in states and any(place == each[:2] for each in chosen):
                    states[place] = training.network.get_state()
                if time.monotonic() > deadline:
                    training.stop("the time limit was reached")

        self._fit_many([members[i] for i in last], task, X, [n + 1 for n in last.values()],
                       batch_size, keep)
        complete = all(each[:2] in states for each in chosen)
        return [states[each[:2]] for each in chosen] if complete else []

    def _fit_many(self, members: list[Draw], task: Task, X: Floats, epochs: list[int],
                  batch_size: int, on_epoch_end: Any, verbose: int = 2) -> None:
        networks = [each.network(self.encoder_, self.width, task.n_out, self.precision)
                    for each in members]
        fit_many(networks, X, task.targets, loss=task.loss,
                 optimizers=[each.optimizer() for each in members], epochs=epochs,
                 batch_size=batch_size, sample_weight=task.weights, on_epoch_end=on_epoch_end,
                 seeds=[each.seed for each in members], n_threads=self.n_threads,
                 verbose=verbose if self.verbose else 0)

    def _outputs(self, X: Any) -> Floats:
        check_is_fitted(self, "ensemble_")
        return self.ensemble_.predict(self.encoder_.transform(X), n_threads=self.n_threads)


class TabPackClassifier(BaseTabPack, TableClassifier):
    """Predict the classes of a table's rows with an ensemble of small networks.

    Many small networks with hyperparameters drawn at random are trained at the same time, and after
    each epoch an ensemble of snapshots of them is chosen by its score on validation rows [1]_ [2]_.
    No setting needs to be tuned.  Columns may be numbers, booleans, dates, text or categories, with
    missing values: see `TableEncoder`.

    Parameters
    ----------
    n_members : int, default 32
        Networks to train.
    width : int, default 128
        Columns of their hidden layers.
    batch_size : int, optional
        By default 16 to 256, for at least 32 minibatches an epoch where there are enough rows, and
        512 for more than 50,000 training rows.
    max_epochs : int, default 1000
        The largest number of epochs; members usually end much earlier.
    patience : int, default 8
        A member ends after more than so many epochs without a better score on the validation rows.
    ensemble_patience : int, default 8
        All end after more than so many epochs in which no better ensemble was found.
    max_ensemble_size : int, default 32
        The largest number of snapshots in the ensemble.
    refit : bool, default True
        Whether to train the chosen members again, for as many epochs, on the training and the
        validation rows together.
    precision : {"highest", "high", "medium"}, default "highest"
        Of the networks' products of matrices: see `fastbp.Sequential`.  On processors with AMX,
        ``"medium"`` is faster to fit and to predict with.
    scoring : str or callable, default "log_loss"
        What members and ensemble are chosen by: "log_loss", "accuracy", "roc_auc", or another name
        or function of scikit-learn's.
    validation_fraction : float in (0, 1), default 0.2
        Of the rows, to set aside for validation where `fit` is given none.  Fewer than 10 rows are
        for both.
    time_limit : float, optional
        Seconds after which training ends, at the end of an epoch.  Where there is no time for 10
        epochs and 200 steps of each member, fewer members are trained, and if that leaves few,
        numbers become 2 columns each.  Results then depend on the speed of the machine.
    class_weight : dict or "balanced", optional
        Weights of the classes, as in scikit-learn.
    categories, numbers : sequence of str or int, optional
        As for `TableEncoder`.
    random_state : int, RandomState instance or None, default None
        Determines the rows set aside, the members' hyperparameters, initial weights, orders of rows
        and dropout.
    n_threads : int, optional
        As for `fastbp.fit_many`.  Results do not depend on it.
    verbose : int, default 0
        1 prints what the columns were taken as, and a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    encoder_ : TableEncoder
    ensemble_ : fastbp.Ensemble
        Its networks take encoded rows.
    history_ : PackHistory
        Scores of the members and of the ensemble after each epoch, and which members were chosen;
        ``history_.plot()`` is a picture of it.
    best_score_ : float
        The score of the chosen ensemble on the validation rows, before `refit`; higher is better.
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.

    Notes
    -----
    Each number becomes 8 to 32 columns by a `fastbp.PeriodicEmbedding` with frozen frequencies, and
    a category of more than 4 levels a `fastbp.Embedding`.  After them come 1 to 3 hidden layers
    with ReLU and dropout, trained by `fastbp.Muon`.

    An ensemble begins with the best snapshots of several members where there are at most 500
    validation rows: 1000 divided by their number, but no more than a quarter of the members.

    Memory: the encoded table in float32, twice with `refit`; for each member its weights, their
    gradients, the optimizer's two arrays of that size, what a minibatch needs, and up to three
    snapshots of the weights and of the predictions for the validation rows, these in float64.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, I. Rubachev, A. Babenko, "TabPack", ICML 2026,
       arXiv:2607.05380.
    .. [2] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries
       of models", ICML 2004.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TabPackClassifier(n_members=4, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    def __init__(
        self, n_members: int = 32, *, width: int = 128, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 8, ensemble_patience: int = 8,
        max_ensemble_size: int = 32, refit: bool = True,
        precision: str = "highest", scoring: Any = "log_loss",
        validation_fraction: float = 0.2, time_limit: float | None = None,
        class_weight: Any = None, categories: Sequence[str | int] | None = None,
        numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(locals())


class TabPackRegressor(BaseTabPack, TableRegressor):
    """Predict numbers, or quantiles of them, for a table's rows with an ensemble of small networks.

    Many small networks with hyperparameters drawn at random are trained at the same time, and after
    each epoch an ensemble of snapshots of them is chosen by its score on validation rows [1]_ [2]_.
    No setting needs to be tuned.  Columns may be numbers, booleans, dates, text or categories, with
    missing values: see `TableEncoder`.

    Parameters
    ----------
    n_members : int, default 32
        Networks to train.
    width : int, default 128
        Columns of their hidden layers.
    batch_size : int, optional
        By default 16 to 256, for at least 32 minibatches an epoch where there are enough rows, and
        512 for more than 50,000 training rows.
    max_epochs : int, default 1000
        The largest number of epochs; members usually end much earlier.
    patience : int, default 8
        A member ends after more than so many epochs without a better score on the validation rows.
    ensemble_patience : int, default 8
        All end after more than so many epochs in which no better ensemble was found.
    max_ensemble_size : int, default 32
        The largest number of snapshots in the ensemble.
    refit : bool, default True
        Whether to train the chosen members again, for as many epochs, on the training and the
        validation rows together.
    precision : {"highest", "high", "medium"}, default "highest"
        Of the networks' products of matrices: see `fastbp.Sequential`.  On processors with AMX,
        ``"medium"`` is faster to fit and to predict with.
    scoring : str or callable, optional
        What members and ensemble are chosen by: the root mean squared error or, with `quantiles`,
        the pinball loss, both of standardized targets; or another name or function of
        scikit-learn's.
    validation_fraction : float in (0, 1), default 0.2
        Of the rows, to set aside for validation where `fit` is given none.  Fewer than 10 rows are
        for both.
    time_limit : float, optional
        Seconds after which training ends, at the end of an epoch.  Where there is no time for 10
        epochs and 200 steps of each member, fewer members are trained, and if that leaves few,
        numbers become 2 columns each.  Results then depend on the speed of the machine.
    quantiles : float or sequence of float in (0, 1), optional
        Predict these quantiles, in ascending order, instead of the mean.  They never cross
        [3]_.
    categories, numbers : sequence of str or int, optional
        As for `TableEncoder`.
    random_state : int, RandomState instance or None, default None
        Determines the rows set aside, the members' hyperparameters, initial weights, orders of rows
        and dropout.
    n_threads : int, optional
        As for `fastbp.fit_many`.  Results do not depend on it.
    verbose : int, default 0
        1 prints what the columns were taken as, and a line for each epoch.

    Attributes
    ----------
    encoder_ : TableEncoder
    target_scaler_ : TargetScaler
    ensemble_ : fastbp.Ensemble
        Its networks take encoded rows.
    history_ : PackHistory
        Scores of the members and of the ensemble after each epoch, and which members were chosen;
        ``history_.plot()`` is a picture of it.
    best_score_ : float
        The score of the chosen ensemble on the validation rows, before `refit`; higher is better.
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.
    quantiles_ : float, tuple of float or None

    Notes
    -----
    Each number becomes 8 to 32 columns by a `fastbp.PeriodicEmbedding` with frozen frequencies, and
    a category of more than 4 levels a `fastbp.Embedding`.  After them come 1 to 3 hidden layers
    with ReLU and dropout, trained by `fastbp.Muon`.

    An ensemble begins with the best snapshots of several members where there are at most 500
    validation rows: 1000 divided by their number, but no more than a quarter of the members.

    Memory: the encoded table in float32, twice with `refit`; for each member its weights, their
    gradients, the optimizer's two arrays of that size, what a minibatch needs, and up to three
    snapshots of the weights and of the predictions for the validation rows, these in float64.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, I. Rubachev, A. Babenko, "TabPack", ICML 2026,
       arXiv:2607.05380.
    .. [2] R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries
       of models", ICML 2004.
    .. [3] V. Chernozhukov, I. Fernández-Val, A. Galichon, "Quantile and probability curves without
       crossing", Econometrica 78, 2010.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TabPackRegressor(n_members=4, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4
    True
    """

    quantiles: float | Sequence[float] | None
    quantiles_: float | tuple[float, ...] | None

    _parameter_constraints = BaseTabPack._parameter_constraints | {
        "quantiles": [Interval(Real, 0, 1, closed="neither"), "array-like", None]}

    def __init__(
        self, n_members: int = 32, *, width: int = 128, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 8, ensemble_patience: int = 8,
        max_ensemble_size: int = 32, refit: bool = True,
        precision: str = "highest", scoring: Any = None,
        validation_fraction: float = 0.2, time_limit: float | None = None,
        quantiles: float | Sequence[float] | None = None,
        categories: Sequence[str | int] | None = None,
        numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = self.quantiles is None
        tags.regressor_tags.poor_score = self.quantiles is not None  # it is minus a loss
        return tags

    def _task(self, y: Array, y_val: Array, weights: Array | None,
              weights_val: Array | None) -> Task:
        self.quantiles_ = checked_quantiles(self.quantiles, self.scoring, y)
        if self.quantiles_ is None:
            return super()._task(y, y_val, weights, weights_val)
        self.target_scaler_ = scaler = TargetScaler(y)
        n_out = np.size(self.quantiles_)
        score = regression_score(self.scoring, scaler.transform(y_val, float), weights_val,
                                 np.atleast_1d(self.quantiles_), scaler.inverse_quantiles)
        # Repeated here, as otherwise each member would have a copy.
        targets, targets_val = (np.repeat(scaler.transform(each), n_out, axis=1)
                                for each in (y, y_val))
        return Task(targets=targets, weights=weights, targets_val=targets_val,
                    weights_val=weights_val, loss=PinballLoss(self.quantiles_), n_out=n_out,
                    activation=None, score=score, predictions=lambda Z: Z)

    def predict(self, X: Any) -> Doubles:
        """The expected targets, or their quantiles.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows,), (rows, outputs) or (rows, quantiles), float64
        """
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
        weights = checked_sample_weight(y, sample_weight)
        return Pinball(y, np.atleast_1d(self.quantiles_), weights)(predicted)
