"""TabMClassifier and TabMRegressor: one network for tables that is an ensemble by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .. import kernels
from ..callbacks import Callback
from ..layers import (
    Columns,
    Dropout,
    Embedding,
    EnsembleDense,
    Layer,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    ReLU,
    Repeat,
    Scale,
    SeparateDense,
    quantile_edges,
)
from ..losses import EnsembleLoss
from ..network import Sequential
from ..optimizers import AdamW
from .sklearn_private import Interval, StrOptions
from .tables import (
    LEAST_EPOCHS,
    TableClassifier,
    TableEstimator,
    TableRegressor,
    Task,
    embeddings,
    most_per_number,
    seconds_per_epoch,
)

if TYPE_CHECKING:
    from numpy.random import RandomState

    from ..kernels.types import Doubles, Floats
    from ..training import History, Training
    from .scores import Score
    from .table_encoder import TableEncoder

__all__ = ["TabMClassifier", "TabMRegressor"]

# Rows from which on minibatches are larger, by default.
MANY_ROWS = 50_000
# Outputs to compute at a time.
OUTPUTS_AT_ONCE = 1 << 24


class BestEpoch(Callback):
    """Scores a network after each epoch, keeps the best state, and ends a training that is done.

    Parameters
    ----------
    predict : callable
        Returns a network's predictions on the validation rows, of shape (rows, outputs).
    score : Score
    patience : int
        How many epochs may pass without a better score.
    deadline : float
        Training ends after the first epoch that ends later than this, by `time.monotonic`.
    verbose : bool
        Whether to print a line for each epoch.

    Attributes
    ----------
    best_score : float
    best_epoch : int
    state : ndarray or None
        After that epoch, as `Sequential.get_state` returns it.
    """

    def __init__(self, predict: Callable[[Sequential], Floats], score: Score, patience: int,
                 deadline: float = np.inf, verbose: bool = False) -> None:
        self.predict, self.score = predict, score
        self.patience, self.deadline, self.verbose = patience, deadline, verbose
        self.best_score, self.best_epoch = -np.inf, 0
        self.state: Floats | None = None

    def on_epoch_end(self, training: Training) -> None:
        score = self.score(self.score.reduced(self.predict(training.network)))
        training.history.append(val_score=score)
        if self.verbose:
            print(f"epoch {training.epoch + 1}  loss {training.history['loss'][-1]:.4f}  "
                  f"val_score {score:.4f}", flush=True)
        if score > self.best_score or self.state is None:
            self.best_score, self.best_epoch = score, training.epoch
            self.state = training.network.get_state()
        elif training.epoch - self.best_epoch >= self.patience:
            training.stop(f"no better on the validation rows for {self.patience} epochs")
        if time.monotonic() > self.deadline and not training.stopping:
            training.stop("the time limit was reached")


class BaseTabM(TableEstimator):
    """What classifier and regressor have in common: the network, its training and its outputs."""

    n_members: int
    variant: str
    n_blocks: int
    width: int
    dropout: float
    embedding: str | None
    n_per_feature: int
    n_bins: int
    learning_rate: float
    weight_decay: float
    ema: float | None
    batch_size: int | None
    max_epochs: int
    patience: int

    network_: Sequential
    history_: History
    best_score_: float
    best_epoch_: int

    _parameter_constraints = TableEstimator._parameter_constraints | {
        "n_members": [Interval(Integral, 1, None, closed="left")],
        "variant": [StrOptions({"tabm", "tabm-mini"})],
        "n_blocks": [Interval(Integral, 1, None, closed="left")],
        "width": [Interval(Integral, 1, None, closed="left")],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "embedding": [StrOptions({"periodic", "piecewise"}), None],
        "n_per_feature": [Interval(Integral, 2, None, closed="left")],
        "n_bins": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "ema": [Interval(Real, 0, 1, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left"), None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "patience": [Interval(Integral, 1, None, closed="left")],
    }

    def _train(self, task: Task, X: Floats, X_val: Floats, random: RandomState,
               deadline: float) -> None:
        seed = int(random.randint(2**31))
        batch_size = self.batch_size or (512 if len(X) > MANY_ROWS else 256)
        network = self._affordable(task, X, seed, batch_size, deadline)

        def predict(network: Sequential) -> Floats:
            return task.predictions(self._mean(network, X_val, task.activation))

        # In short epochs, an average of more than the last two would lag behind.
        steps = -(-len(X) // batch_size)
        ema = None if self.ema is None else min(self.ema, 1 - 1 / (2 * steps))
        best = BestEpoch(predict, task.score, self.patience, deadline,
                         bool(self.verbose))
        history = self._fit_network(network, X, task, epochs=self.max_epochs, seed=seed,
                                    batch_size=batch_size, callbacks=[best], ema=ema)
        assert best.state is not None
        network.set_state(best.state)
        self.network_, self.history_ = network, history
        self.best_score_, self.best_epoch_ = best.best_score, best.best_epoch
        self.activation_ = task.activation

    def _fit_network(self, network: Sequential, X: Floats, task: Task, **options: Any) -> History:
        return network.fit(X, task.targets, loss=EnsembleLoss(task.loss, self.n_members),
                           optimizer=AdamW(self.learning_rate, weight_decay=self.weight_decay),
                           sample_weight=task.weights, n_threads=self.n_threads, **options)

    def _affordable(self, task: Task, X: Floats, seed: int, batch_size: int,
                    deadline: float) -> Sequential:
        """An untrained network, with narrower embeddings if there is no time for others."""

        def train(rows: int, on_epoch_end: Any) -> None:
            self._fit_network(network, X[:rows], task.first(rows), epochs=2, seed=seed,
                              batch_size=batch_size, callbacks=[on_epoch_end])

        widest = 0 if self.embedding is None else min(self.n_per_feature,
                                                      most_per_number(self.encoder_))
        if deadline == np.inf or self.encoder_.n_numeric_ == 0:
            return self._network(X, task.n_out, seed, widest)
        epochs = min(LEAST_EPOCHS, self.max_epochs)
        for d in dict.fromkeys((widest, 2) if widest else ()):
            if time.monotonic() >= deadline:
                break
            network = self._network(X, task.n_out, seed, d)
            state = network.get_state()
            seconds = seconds_per_epoch(train, len(X), batch_size)
            if time.monotonic() + epochs * seconds < deadline:
                network.set_state(state)
                return network
        return self._network(X, task.n_out, seed, 0)

    def _network(self, X: Floats, n_out: int, seed: int, n_per_feature: int) -> Sequential:
        """An untrained network for an encoded table; 0 `n_per_feature` are numbers themselves."""
        k, width = self.n_members, self.width
        first, widths = self._embeddings(X, self.encoder_, n_per_feature)
        n = first.n_out
        stack: list[Layer] = [first, Repeat(n, k)]
        is_mini = self.variant == "tabm-mini"
        if is_mini:
            stack.append(Scale(n * k))
        for i in range(self.n_blocks):
            stack += [EnsembleDense(width if i else n, width, k, None if is_mini else "ones",
                                    _uniform), ReLU()]
            if self.dropout:
                stack.append(Dropout(self.dropout))
        network = Sequential([*stack, SeparateDense(width, n_out, k, _uniform)], seed=seed)
        rng = np.random.default_rng(seed)
        for _, layer in network.leaves:
            if isinstance(layer, PeriodicEmbedding):
                layer.gamma = 1
            elif isinstance(layer, EnsembleDense):  # the same biases for all members
                b = _uniform(rng, layer.n_inputs, layer.n_outputs)[0]
                layer.b = np.tile(b, layer.b.size // b.size)
        last = network.layers[-1]
        assert isinstance(last, SeparateDense)
        last.b = _uniform(rng, width, n_out * k)[0]
        # The columns of a feature begin with the same factor, of their own for each member.
        if n_per_feature == 0:
            factors = rng.integers(0, 2, (k, len(widths))) * 2.0 - 1
        else:
            factors = rng.standard_normal((k, len(widths)))
        factors = np.repeat(factors, widths, axis=1).ravel()
        adapted: Any = stack[2]
        if is_mini:
            adapted.gamma = factors
        else:
            adapted.r = factors
        return network

    def _embeddings(self, X: Floats, encoder: TableEncoder, d: int) -> tuple[Columns, list[int]]:
        """The first layer, and how many columns each feature has after it."""
        n = encoder.n_numeric_
        of_numbers: Layer | None = None
        if n and d and self.embedding == "periodic":
            of_numbers = PeriodicEmbedding(n, d)
        elif n and d and self.embedding == "piecewise":
            of_numbers = PiecewiseLinearEmbedding(quantile_edges(X[:, :n], self.n_bins), d)
        first = embeddings(encoder, of_numbers)
        codes = [layer.n_out for _, layer in first.children if isinstance(layer, Embedding)]
        return first, [1 if of_numbers is None else d] * n + [1] * encoder.n_binary_ + codes

    def _mean(self, network: Sequential, X: Floats, activation: str | None) -> Floats:
        """The mean of the members' activated outputs, for encoded rows."""
        k = self.n_members
        assert network.n_out is not None
        at_once = max(1, OUTPUTS_AT_ONCE // network.n_out)
        means = []
        for i in range(0, len(X), at_once):
            Z = network.predict(X[i : i + at_once], n_threads=self.n_threads)
            if activation == "sigmoid":
                Z = kernels.sigmoid(Z)
            elif activation == "softmax":
                Z = kernels.softmax(Z.reshape(len(Z) * k, -1)).reshape(len(Z), -1)
            means.append(kernels.sum_members(Z, k, 1 / k))
        return np.concatenate(means)

    def _outputs(self, X: Any) -> Floats:
        check_is_fitted(self, "network_")
        return self._mean(self.network_, self.encoder_.transform(X), self.activation_)


def _uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    weights: Doubles = rng.uniform(-1, 1, (n_in, n_out)) / np.sqrt(n_in)
    return weights


class TabMClassifier(BaseTabM, TableClassifier):
    """Classify the rows of a table with TabM, a network that is an ensemble by itself.

    The members share the weights of their hidden layers and differ in the factors of each layer's
    inputs and outputs and in their last layers [1]_; the prediction is the mean of theirs.  Columns
    may be numbers, dates, text or categories, with missing values: see `TableEncoder`.

    Parameters
    ----------
    n_members : int, default 16
    variant : {"tabm-mini", "tabm"}, default "tabm-mini"
        "tabm-mini" has factors for the inputs of the first layer alone, and is faster.
    n_blocks : int, default 3
        Hidden layers.
    width : int, default 128
        Columns of each member's hidden layers.
    dropout : float in [0, 1), default 0.1
    embedding : {"piecewise", "periodic"} or None, default "piecewise"
        What becomes of numbers first: `fastbp.PiecewiseLinearEmbedding` on bins with as many
        training rows each, or `fastbp.PeriodicEmbedding`.
    n_per_feature : int, default 16
        Columns of the embedding of each number, at least 2.  Where there are many numbers, they are
        fewer: at most 8192 together, but 2 of each.
    n_bins : int, default 128
        Bins of each feature at most, for "piecewise".
    learning_rate : float, default 4e-3
        Of AdamW.
    weight_decay : float, default 3e-4
    ema : float in [0, 1) or None, default 0.99
        Of the moving average of the weights that is scored and predicts, as for `Sequential.fit`;
        in epochs of n < 50 steps, 1 - 1/2n at most.  None for the weights themselves.
    batch_size : int, optional
        By default 256, and 512 for more than 50,000 rows.
    max_epochs : int, default 1000
    patience : int, default 16
        Training ends after so many epochs without a better score on the validation rows.
    scoring : str or callable, default "log_loss"
        What the best epoch is chosen by: "log_loss", "accuracy", "roc_auc", or another name or
        function of scikit-learn's.
    validation_fraction : float in (0, 1), default 0.2
        Of the rows, to set aside for validation where `fit` is given none.  Fewer than 10 rows are
        for both.
    time_limit : float, optional
        Seconds after which training ends, at the end of an epoch.  If there were fewer than 10
        epochs, as of a table of thousands of columns, numbers are embedded in 2 columns each, or
        not at all.  Results depend on the machine's speed where it takes effect.
    class_weight : dict or "balanced", optional
        Weights of the classes, as in scikit-learn.
    categories, numbers : sequence of str or int, optional
        As for `TableEncoder`.
    random_state : int, RandomState instance or None, default None
        Determines the rows set aside, the initial weights, the order of rows and dropout.
    n_threads : int, optional
        As for `Sequential.fit`.  Results do not depend on it.
    verbose : int, default 0
        1 prints what the columns were taken as, and a line for each epoch.

    Attributes
    ----------
    classes_ : ndarray of shape (classes,)
    encoder_ : TableEncoder
    network_ : fastbp.Sequential
        The outputs of all members, before the activation.
    activation_ : str
        "sigmoid" for two classes, otherwise "softmax".
    history_ : dict
        Lists with a value for each epoch: "loss", and "val_score" on the validation rows.
    best_score_ : float
        The highest of the latter, after the epoch `best_epoch_`, from 0, whose weights are kept.
    best_epoch_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.

    Notes
    -----
    The network is in float32 and has no lower `precision`, unlike those of `TabPackClassifier`: the
    products of layers whose weights are shared or stacked do not take one.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: advancing tabular deep learning with
       parameter-efficient ensembling", ICLR 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> X, y = load_iris(return_X_y=True)
    >>> model = TabMClassifier(n_members=8, width=32, max_epochs=40, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.95
    True
    """

    def __init__(
        self, n_members: int = 16, *, variant: str = "tabm-mini", n_blocks: int = 3,
        width: int = 128, dropout: float = 0.1, embedding: str | None = "piecewise",
        n_per_feature: int = 16, n_bins: int = 128, learning_rate: float = 4e-3,
        weight_decay: float = 3e-4, ema: float | None = 0.99, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 16, scoring: Any = "log_loss",
        validation_fraction: float = 0.2, time_limit: float | None = None, class_weight: Any = None,
        categories: Sequence[str | int] | None = None, numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(locals())


class TabMRegressor(BaseTabM, TableRegressor):
    """Predict numbers for the rows of a table with TabM, a network that is an ensemble by itself.

    The members share the weights of their hidden layers and differ in the factors of each layer's
    inputs and outputs and in their last layers [1]_; the prediction is the mean of theirs.  Columns
    may be numbers, dates, text or categories, with missing values: see `TableEncoder`.

    Parameters
    ----------
    n_members : int, default 16
    variant : {"tabm-mini", "tabm"}, default "tabm-mini"
        "tabm-mini" has factors for the inputs of the first layer alone, and is faster.
    n_blocks : int, default 3
        Hidden layers.
    width : int, default 128
        Columns of each member's hidden layers.
    dropout : float in [0, 1), default 0.1
    embedding : {"piecewise", "periodic"} or None, default "piecewise"
        What becomes of numbers first: `fastbp.PiecewiseLinearEmbedding` on bins with as many
        training rows each, or `fastbp.PeriodicEmbedding`.
    n_per_feature : int, default 16
        Columns of the embedding of each number, at least 2.  Where there are many numbers, they are
        fewer: at most 8192 together, but 2 of each.
    n_bins : int, default 128
        Bins of each feature at most, for "piecewise".
    learning_rate : float, default 4e-3
        Of AdamW.
    weight_decay : float, default 3e-4
    ema : float in [0, 1) or None, default 0.99
        Of the moving average of the weights that is scored and predicts, as for `Sequential.fit`;
        in epochs of n < 50 steps, 1 - 1/2n at most.  None for the weights themselves.
    batch_size : int, optional
        By default 256, and 512 for more than 50,000 rows.
    max_epochs : int, default 1000
    patience : int, default 16
        Training ends after so many epochs without a better score on the validation rows.
    scoring : str or callable, optional
        What the best epoch is chosen by: the root mean squared error, or another name or function
        of scikit-learn's.
    validation_fraction : float in (0, 1), default 0.2
        Of the rows, to set aside for validation where `fit` is given none.  Fewer than 10 rows are
        for both.
    time_limit : float, optional
        Seconds after which training ends, at the end of an epoch.  If there were fewer than 10
        epochs, as of a table of thousands of columns, numbers are embedded in 2 columns each, or
        not at all.  Results depend on the machine's speed where it takes effect.
    categories, numbers : sequence of str or int, optional
        As for `TableEncoder`.
    random_state : int, RandomState instance or None, default None
        Determines the rows set aside, the initial weights, the order of rows and dropout.
    n_threads : int, optional
        As for `Sequential.fit`.  Results do not depend on it.
    verbose : int, default 0
        1 prints what the columns were taken as, and a line for each epoch.

    Attributes
    ----------
    encoder_ : TableEncoder
    target_scaler_ : TargetScaler
    network_ : fastbp.Sequential
        The outputs of all members, of standardized targets.
    activation_ : None
    history_ : dict
        Lists with a value for each epoch: "loss", and "val_score" on the validation rows.
    best_score_ : float
        The highest of the latter, after the epoch `best_epoch_`, from 0, whose weights are kept.
    best_epoch_ : int
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.

    Notes
    -----
    The network is in float32 and has no lower `precision`, unlike that of `TabPackRegressor`: the
    products of layers whose weights are shared or stacked do not take one.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: advancing tabular deep learning with
       parameter-efficient ensembling", ICLR 2025.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = TabMRegressor(n_members=8, width=32, max_epochs=20, random_state=0).fit(X, y)
    >>> model.score(X, y) > 0.4
    True
    """

    def __init__(
        self, n_members: int = 16, *, variant: str = "tabm-mini", n_blocks: int = 3,
        width: int = 128, dropout: float = 0.1, embedding: str | None = "piecewise",
        n_per_feature: int = 16, n_bins: int = 128, learning_rate: float = 4e-3,
        weight_decay: float = 3e-4, ema: float | None = 0.99, batch_size: int | None = None,
        max_epochs: int = 1000, patience: int = 16, scoring: Any = None,
        validation_fraction: float = 0.2, time_limit: float | None = None,
        categories: Sequence[str | int] | None = None, numbers: Sequence[str | int] | None = None,
        random_state: int | RandomState | None = None, n_threads: int | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(locals())
