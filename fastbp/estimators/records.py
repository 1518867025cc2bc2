"""How `Sequential.fit` follows scikit-learn's rules, and what it records as scikit-learn does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..callbacks import Callback, Plateau

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernels.types import Array
    from ..training import Training
    from .base import BaseMLP

__all__ = ["InverseScaling", "Record", "Shuffle", "continued_rate"]


class Record(Callback):
    """The record of one `fit`: sets scikit-learn's attributes of the estimator, prints its lines.

    The attributes are `n_iter_`, `t_`, `loss_`, `best_loss_`, `loss_curve_`, `validation_scores_`,
    `validation_loss_curve_`, `best_validation_score_` and `history_`.  Only this class sets them,
    except that a new fit sets `n_iter_` and `t_` to 0.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    score_of : callable
        What scikit-learn calls the score, from the value of the loss's metric.

    Attributes
    ----------
    begun : bool
        Whether training has begun: before that, an error means invalid arguments.
    plateau : Plateau
        Decides when to stop; to be set before the first epoch of a stochastic solver.
    iterations : int
        Iterations of lbfgs so far.
    """

    plateau: Plateau

    def __init__(self, estimator: BaseMLP, score_of: Callable[[float], float]) -> None:
        self.estimator = estimator
        self.score_of = score_of
        self.begun = False
        self.iterations = 0

    def clear(self) -> None:
        """Empty the curves, before the first epoch of a stochastic solver."""
        estimator = self.estimator
        estimator.loss_curve_ = []
        estimator.best_loss_ = None if estimator.early_stopping else np.inf
        estimator.validation_scores_ = estimator.validation_loss_curve_ = None
        estimator.best_validation_score_ = None

    def validation_curves(self) -> tuple[list[float], list[float]]:
        """The curves of the validation data, scores and losses, empty in the beginning."""
        estimator = self.estimator
        if estimator.validation_scores_ is None or estimator.validation_loss_curve_ is None:
            estimator.validation_scores_, estimator.validation_loss_curve_ = [], []
            estimator.best_validation_score_ = -np.inf
        return estimator.validation_scores_, estimator.validation_loss_curve_

    def on_train_begin(self, training: Training) -> None:
        self.plateau.on_train_begin(training)
        self.estimator.history_ = training.history

    def epochs_ahead(self, training: Training) -> float:
        return 0 if self.estimator.verbose else self.plateau.epochs_ahead(training)

    def on_epoch_begin(self, training: Training) -> None:
        self.begun = True  # no other callback has refused in its on_train_begin

    def on_epoch_end(self, training: Training) -> None:
        estimator, history = self.estimator, training.history
        # scikit-learn averages over minibatches by their rows, whatever the rows' weights.
        sums = training.sums
        assert sums is not None  # an epoch was run
        losses = sums.step_stats[:, 0] + sums.step_stats[:, 1]
        loss = float(losses @ sums.rows / sums.n_rows)
        history["loss"][-1] = loss
        estimator.n_iter_ += 1
        estimator.t_ += sums.n_rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        self.say(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        metric = training.loss.metric
        if metric is not None and "val_loss" in history:
            scores = history["val_" + metric.name]
            score = scores[-1] = self.score_of(scores[-1])
            self._validated(score, history["val_loss"][-1])
            best = estimator.best_validation_score_
            estimator.best_validation_score_ = score if best is None else max(score, best)
            self.say(f"Validation score: {score:f}")
        self._watch(training)

    def _validated(self, score: float, loss: float) -> None:
        scores, losses = self.validation_curves()
        scores.append(score)
        losses.append(loss)

    def _watch(self, training: Training) -> None:
        """Let the plateau count the epoch, and say what it does."""
        plateau, rate = self.plateau, training.optimizer.learning_rate
        plateau.on_epoch_end(training)
        if not self.estimator.early_stopping:
            self.estimator.best_loss_ = plateau.best
        if training.stopping:
            self.say(f"{training.history.stopped}. Stopping.")
        elif plateau.factor is not None and training.optimizer.learning_rate != rate:
            self.say(f"{plateau.monitor} did not improve more than tol={plateau.tol:f} for "
                     f"{plateau.patience} consecutive epochs. Setting learning rate to "
                     f"{training.optimizer.learning_rate:f}")

    def diverged(self) -> None:
        """Record an epoch without validation, since its weights were not finite."""
        self._validated(np.nan, np.nan)

    def on_iteration(self, intermediate_result: Any) -> None:
        """Print the line of an iteration of lbfgs.

        Parameters
        ----------
        intermediate_result : scipy.optimize.OptimizeResult
            SciPy goes by the name of this parameter.
        """
        self.iterations += 1
        self.say(f"Iteration {self.iterations}, loss = {intermediate_result.fun:.8f}")

    def minimized(self, result: Any) -> None:
        """Record the result of lbfgs.

        Parameters
        ----------
        result : scipy.optimize.OptimizeResult
        """
        self.begun = True
        estimator = self.estimator
        estimator.__dict__.pop("history_", None)  # from another solver
        estimator.n_iter_ = min(result.nit, estimator.max_iter)
        estimator.loss_ = result.fun

    def say(self, line: str) -> None:
        """Print a line if the estimator is verbose."""
        if self.estimator.verbose:
            print(line, flush=True)


class InverseScaling(Callback):
    """scikit-learn's ``learning_rate="invscaling"``: divide by a power of the rows seen so far.

    The learning rate of each epoch but the first is ``first / (t_ + 1) ** power``.  As a callback
    it sets that after each epoch; it is also a schedule, so that several epochs can run at once
    where nobody else has a say in the learning rate.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
        Whose `t_` is the number of rows seen, as `Record` counts them.
    first : float
        The learning rate of the first epoch.
    power : float
    start : float
        The learning rate of this fit's first epoch.
    n_rows : int
        Rows of an epoch.
    """

    def __init__(self, estimator: BaseMLP, first: float, power: float, start: float,
                 n_rows: int) -> None:
        self.estimator = estimator
        self.first, self.power, self.start = first, power, start
        self.seen, self.n_rows = estimator.t_, n_rows

    def _rate(self, seen: int) -> float:
        with np.errstate(over="ignore"):  # Python's power would raise OverflowError
            return float(self.first / np.float64(seen + 1) ** self.power)

    def on_epoch_end(self, training: Training) -> None:
        training.optimizer.learning_rate = self._rate(self.estimator.t_)

    def __call__(self, epoch: float) -> float:
        """The learning rate at a time in this fit."""
        return self.start if epoch < 1 else self._rate(self.seen + int(epoch) * self.n_rows)

    def end(self) -> float:
        """The learning rate for the next epoch, in another fit."""
        return self.start if self.estimator.t_ == self.seen else self._rate(self.estimator.t_)


class Shuffle:
    """The order of the rows in each epoch, as scikit-learn draws it.

    Parameters
    ----------
    n_rows : int
    random_state : RandomState
    ahead : bool
        Whether it may draw the orders of several epochs before the first of them: if nobody else
        uses `random_state`, who would notice when training ends early.

    Examples
    --------
    >>> shuffle = Shuffle(4, np.random.RandomState(0), ahead=True)
    >>> shuffle(4)
    array([2, 3, 1, 0])
    """

    def __init__(self, n_rows: int, random_state: np.random.RandomState, ahead: bool) -> None:
        self.order = np.arange(n_rows)
        self.random_state, self.ahead = random_state, ahead

    def __call__(self, n_rows: int) -> Array:
        places = np.arange(n_rows)
        self.random_state.shuffle(places)
        self.order = self.order[places]
        return self.order


def continued_rate(schedule: Callable[[float], float], epochs: int, epoch: float) -> float:
    """The learning rate of a schedule in a fit that continues an earlier one.

    Parameters
    ----------
    schedule : callable
    epochs : int
        Epochs before this fit.
    epoch : float
        Epochs since this fit began.

    Returns
    -------
    float

    Examples
    --------
    >>> continued_rate(lambda epoch: 1 / (1 + epoch), 3, 1)
    0.2
    """
    return schedule(epochs + epoch)
