"""What classifier and regressor have in common."""

from __future__ import annotations

import copy
import functools
import numbers
import operator
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state, column_or_1d
from sklearn.utils.validation import check_is_fitted, validate_data

from .. import optimizers, training
from ..callbacks import Plateau
from ..export.methods import Exportable
from ..kernels import memory, threads
from .arguments import renamed, set_parameters, split_rows
from .conversion import Convertible
from .parameters import (
    CONSTRAINTS,
    OUTPUT_ACTIVATIONS,
    checked_parameter,
    hidden_activations,
    hidden_sizes,
)
from .records import InverseScaling, Record, Shuffle, continued_rate
from .sklearn_private import check_sample_weight
from .weights import build_network, checked_weights, initial_weights

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import RandomState
    from numpy.typing import ArrayLike, DTypeLike

    from ..callbacks import Callback
    from ..kernels.types import Array, Floats
    from ..layers import Dense
    from ..losses import Loss
    from ..network import Sequential
    from ..optimizers import Optimizer
    from ..training import History, Training

__all__ = ["BaseMLP"]

NOT_FINITE = ("Solver produced non-finite parameter weights. The input data may contain large "
              "values and need to be preprocessed.")


class BaseMLP(Convertible, Exportable, BaseEstimator):  # type: ignore[misc]  # without types
    """Base class of the estimators: trains a `Sequential` by scikit-learn's rules.

    A subclass defines what it is trained for: `_validated` brings X, y and the weights into the
    form that the network takes, and `_loss` is the loss.

    Parameters
    ----------
    parameters : dict
        The local variables of the subclass's constructor.
    """

    hidden_layer_sizes: ArrayLike
    activation: str | Sequence[str]
    solver: str
    alpha: float
    batch_size: int | str
    learning_rate: str | Callable[[float], float]
    learning_rate_init: float
    power_t: float
    max_iter: int
    shuffle: bool
    random_state: int | RandomState | None
    tol: float
    verbose: bool
    warm_start: bool
    momentum: float
    nesterovs_momentum: bool
    early_stopping: bool
    validation_fraction: float
    beta_1: float
    beta_2: float
    epsilon: float
    n_iter_no_change: float
    max_fun: int
    dropout: float
    weight_decay: float
    clip_norm: float | None
    monitor: str
    dtype: DTypeLike | None
    precision: str
    n_threads: int | None
    callbacks: Sequence[Callback | Callable[[Training], object]] | None

    coefs_: list[Array]
    intercepts_: list[Array]
    n_features_in_: int
    n_outputs_: int
    n_layers_: int
    out_activation_: str
    n_iter_: int
    t_: int
    loss_: float
    best_loss_: float | None
    loss_curve_: list[float]
    validation_scores_: list[float] | None
    validation_loss_curve_: list[float] | None
    best_validation_score_: float | None
    history_: History

    # Activations of the hidden layers.
    _activations: tuple[str, ...]
    # The network, its dense layers, and the dropout that it was built with.
    _built: tuple[Sequential, list[Dense], float] | None
    # What partial_fit continues with: the optimizer, its epochs so far, and learning_rate,
    # learning_rate_init and power_t of when it was made.
    _optimizer: Optimizer | None
    _epochs: int
    _rule: tuple[str | Callable[[float], float], float, float]
    _plateau: Plateau | None

    _parameter_constraints = CONSTRAINTS

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        set_parameters(self, parameters)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def to_network(self) -> Sequential:
        """A copy of the network, to be used and trained without the estimator.

        Returns
        -------
        Sequential
            Its outputs are those before `out_activation_`: ``predict(X, activation=...)`` applies
            it.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.

        Examples
        --------
        >>> import fastbp as fb
        >>> X, y = np.eye(3), np.arange(3)
        >>> model = fb.MLPClassifier((8,), solver="lbfgs", random_state=0).fit(X, y)
        >>> network = model.to_network()
        >>> P = network.predict(X, activation="softmax")
        >>> bool((P == model.predict_proba(X)).all())
        True
        """
        check_is_fitted(self, "coefs_")
        return copy.deepcopy(self._network())

    # What a subclass defines.

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, first: bool, incremental: bool
    ) -> tuple[Any, Array, Array | None]:
        """X, y and weights as the network takes them; sets `out_activation_`.

        Parameters
        ----------
        X, y, sample_weight
            As the user passes them.
        first : bool
            Whether training starts from new weights.
        incremental : bool
            Whether y may lack some of the classes.
        """
        raise NotImplementedError

    def _loss(self) -> Loss:
        raise NotImplementedError

    def _score_of(self, score: float) -> float:
        """What scikit-learn calls the score, from the value of the loss's metric."""
        return score

    # Fitting, from top to bottom.

    def _fit(
        self, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any] | None,
        epochs: int | None = None, communicator: Any = None,
    ) -> None:
        """Fit, or continue for a number of epochs, as `partial_fit` does; None in `fit`."""
        incremental = epochs is not None
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        before = self.__dict__.copy()
        record = Record(self, self._score_of)
        given_weights, given_validation = sample_weight, validation
        try:
            self._check_together(validation, communicator)
            X, y, sample_weight = self._validated(X, y, sample_weight, first, incremental)
            if validation is not None:
                names = "X_val, y_val" + ", sample_weight_val" * (validation[2] is not None)
                try:
                    validation = self._validated(*validation, first=False, incremental=True)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{names}: {error}") from None
            random_state = check_random_state(self.random_state)
            self._initialize(X, y, random_state, first, record)
            if self.solver == "lbfgs":
                try:
                    self._fit_lbfgs(X, y, sample_weight, record)
                except FloatingPointError as error:
                    raise ValueError(f"{NOT_FINITE} {error}") from error
            else:
                self._fit_stochastic(X, y, sample_weight, validation, random_state, epochs, record,
                                     communicator)
        except Exception as error:
            if not record.begun:  # a fit that is refused changes nothing
                self.__dict__ = before
            message = renamed(str(error), given_weights, given_validation)
            if message == str(error):
                raise
            raise type(error)(message) from None
        if not np.isfinite(self._network().parameters).all():
            raise ValueError(NOT_FINITE)

    def _check_together(self, validation: tuple[Any, Any, Any] | None, communicator: Any) -> None:
        """Raise ValueError if parameters that are valid by themselves contradict each other."""
        if self.solver == "lbfgs":
            others = {"dropout": self.dropout > 0, "clip_norm": self.clip_norm is not None,
                      "callbacks": bool(self.callbacks), "X_val": validation is not None,
                      "communicator": communicator is not None,
                      "learning_rate": callable(self.learning_rate)}
            for name in (name for name, is_set in others.items() if is_set):
                raise ValueError(f"{name}: expected its default with solver='lbfgs', which takes "
                                 f"all rows in one step; use 'adam', 'adamw' or 'sgd'")
        if self.dropout > 0 and not hidden_sizes(self.hidden_layer_sizes):
            raise ValueError(f"dropout: expected 0 without hidden layers, got {self.dropout}")

    def _setting(self, name: str) -> Any:
        """A numeric parameter, checked, as a Python number."""
        return checked_parameter(name, getattr(self, name))

    def _validated_arrays(
        self, X: Any, y: Any, sample_weight: Any, first: bool, y_numeric: bool
    ) -> tuple[Any, Any, Array | None]:
        """X, y and the weights after scikit-learn's checks."""
        dtype: Any = (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype).type
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
                             dtype=dtype, reset=first, y_numeric=y_numeric)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = check_sample_weight(sample_weight, X)
        return X, y, sample_weight

    def _initialize(
        self, X: Any, y: Array, random_state: RandomState, first: bool, record: Record
    ) -> None:
        """Draw scikit-learn's initial weights, or check that the present ones can be trained on."""
        n_outputs = self._n_outputs(y)
        hidden = hidden_sizes(self.hidden_layer_sizes)
        sizes = [X.shape[1], *hidden, n_outputs]
        activations = hidden_activations(self.activation, len(hidden))
        if not first:
            self._network()  # raises an error if the user has set weights that do not fit
            before = [X.shape[1], *(len(b) for b in self.intercepts_)]
            if sizes != before or activations != self._activations:
                same_hidden = (sizes[:-1], activations) == (before[:-1], self._activations)
                name = "y" if same_hidden else "hidden_layer_sizes, activation"
                raise ValueError(
                    f"{name}: expected the layers of the previous fit, to continue with: sizes "
                    f"{before} with {self._activations}, got {sizes} with {activations}; call fit "
                    f"with warm_start=False to start from new weights"
                )
            return
        memory.check("hidden_layer_sizes", 24 * sum(map(operator.mul, sizes, sizes[1:])))
        self._activations = activations
        self.n_outputs_, self.n_layers_ = n_outputs, len(sizes)
        self.n_iter_ = self.t_ = 0
        # The output layer's weights are spread like those of the last hidden layer.
        last = activations[-1] if activations else self.activation
        self.coefs_, self.intercepts_ = initial_weights(
            sizes, (*activations, str(last)), random_state,
            X.dtype if self.dtype is None else np.dtype(self.dtype),
        )
        self._built = self._optimizer = self._plateau = None
        if self.solver != "lbfgs":
            record.clear()

    def _n_outputs(self, y: Array) -> int:
        """Columns of the network's output, for targets that `_validated` has returned."""
        return int(y.shape[1])

    def _fit_lbfgs(self, X: Any, y: Array, sample_weight: Array | None, record: Record) -> None:
        with threads.using(self._setting("n_threads")):
            result = training.lbfgs(
                self._network(), X, y, loss=self._loss(), sample_weight=sample_weight,
                l2=self._setting("alpha"), max_iter=self._setting("max_iter"),
                max_evaluations=self._setting("max_fun"), tol=self._setting("tol"),
                callback=record.on_iteration,
            )
        record.minimized(result)
        if result.status != 0:
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s) (status="
                f"{result.status}): {result.message}. Increase max_iter or max_fun, or scale "
                f"the data, for example with StandardScaler", ConvergenceWarning, stacklevel=6,
            )

    def _fit_stochastic(
        self, X: Any, y: Array, sample_weight: Array | None,
        validation: tuple[Any, Array, Array | None] | None, random_state: RandomState,
        epochs: int | None, record: Record, communicator: Any,
    ) -> None:
        network = self._network()
        incremental = epochs is not None
        if not hasattr(self, "loss_curve_"):  # the previous solver was lbfgs
            record.clear()
        optimizer = self._continued_optimizer(network, incremental)
        if callable(self.learning_rate):
            # Each call of Sequential.fit counts its epochs from 0.
            optimizer.learning_rate = functools.partial(
                continued_rate, self.learning_rate, self._epochs)
        # With an int as random_state each call would draw the same seed, but t_ grows.
        seed = int(random_state.randint(2**31)) + self.t_ if self.dropout > 0 else 0
        if self.early_stopping and validation is None:
            binary = self.out_activation_ == "logistic" and y.shape[1] == 1
            X, y, sample_weight, validation = split_rows(
                X, y, sample_weight, fraction=self.validation_fraction, random_state=random_state,
                stratify=y > 0.5 if binary else None,
            )
        if validation is not None:
            record.validation_curves()
        plateau = self._plateau = record.plateau = self._new_plateau(self._plateau)
        callbacks: list[Any] = [record]
        kind, first_rate, power = self._rule
        n_rows = X.shape[0]
        scaling: InverseScaling | None = None
        if self.solver == "sgd" and kind == "invscaling":
            rate: Any = optimizer.learning_rate
            scaling = InverseScaling(self, first_rate, power, rate, n_rows)
            if self.callbacks or self.verbose or callable(rate):  # which see the number
                callbacks.append(scaling)
            else:
                optimizer.learning_rate = scaling
        shuffle = Shuffle(n_rows, random_state,
                          ahead=isinstance(self.random_state, numbers.Integral))
        self.n_iter_ = 0
        try:
            network.fit(
                X, y, loss=self._loss(), optimizer=optimizer,
                epochs=epochs or self._setting("max_iter"), batch_size=self._batch_size(n_rows),
                sample_weight=sample_weight, l2=self._setting("alpha"), validation_data=validation,
                callbacks=[*callbacks, *(self.callbacks or ())],
                shuffle=shuffle if self.shuffle else False, seed=seed,
                n_threads=self._setting("n_threads"), verbose=3 if self.verbose else 0,
                communicator=communicator,
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=6)
        except FloatingPointError as error:
            if not self.early_stopping:
                raise ValueError(f"{NOT_FINITE} {error}") from error
            record.diverged()
            warnings.warn(f"{error}. The weights are those with the best validation score",
                          ConvergenceWarning, stacklevel=6)
        else:
            if not incremental and self.n_iter_ == self.max_iter and not self.history_.stopped:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.n_iter_}) reached and the "
                    f"optimization hasn't converged yet.", ConvergenceWarning, stacklevel=6,
                )
        finally:
            if scaling is not None and optimizer.learning_rate is scaling:
                optimizer.learning_rate = scaling.end()
        self._epochs += self.n_iter_
        patience_is_over = plateau.count > plateau.patience
        if self.early_stopping and (patience_is_over or not incremental):
            plateau.restore(network)
        if patience_is_over and incremental:
            plateau.count = 0  # the next call of partial_fit has patience again

    def _continued_optimizer(self, network: Sequential, incremental: bool) -> Optimizer:
        """The optimizer of the previous call if this one continues it, else a new one."""
        if self._optimizer is None or not incremental:
            self._optimizer, self._epochs = self._new_optimizer(), 0
            self._rule = (self.learning_rate, self._setting("learning_rate_init"),
                          self._setting("power_t"))
        elif self._optimizer.state:
            # The network may be another object since, if the user has set weights.
            optimizer, parameters = self._optimizer, network.parameters
            if all((array.shape, array.dtype) == (parameters.shape, parameters.dtype)
                   for array in optimizer.state.values()):
                optimizer.resume(parameters, optimizer.state, optimizer.steps)
        return self._optimizer

    def _new_optimizer(self) -> Optimizer:
        rate, clip = self._setting("learning_rate_init"), self._setting("clip_norm")
        if self.solver == "sgd":
            nesterov = bool(self.nesterovs_momentum)
            return optimizers.SGD(rate, self.momentum, nesterov, clip_norm=clip)
        beta_1, beta_2 = self._setting("beta_1"), self._setting("beta_2")
        epsilon = self._setting("epsilon")
        if self.solver == "adamw":
            return optimizers.AdamW(rate, beta_1, beta_2, epsilon, self._setting("weight_decay"),
                                    clip)
        return optimizers.Adam(rate, beta_1, beta_2, epsilon, clip_norm=clip, epsilon_hat=True)

    def _new_plateau(self, previous: Plateau | None) -> Plateau:
        """The rule for stopping; continues to count where the previous call's was."""
        monitor = "loss"
        if self.early_stopping:
            metric: Any = self._loss().metric
            monitor = "val_loss" if self.monitor == "loss" else f"val_{metric.name}"
        turns_down = self.solver == "sgd" and self._rule[0] == "adaptive"
        plateau = Plateau(self._setting("n_iter_no_change"), self._setting("tol"), monitor,
                          factor=0.2 if turns_down else None, keep_best=bool(self.early_stopping))
        if previous is not None and previous.monitor == monitor:
            for name in Plateau.kept:
                setattr(plateau, name, getattr(previous, name))
        return plateau

    def _batch_size(self, n_rows: int) -> int:
        if self.batch_size == "auto":
            return min(200, n_rows)
        batch_size: int = self._setting("batch_size")
        if batch_size > n_rows:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going "
                          "to be clipped", stacklevel=7)
        return min(batch_size, n_rows)

    # The network and its outputs.

    def _network(self) -> Sequential:
        """The network whose weights are `coefs_` and `intercepts_`.

        They are views of its parameters.  It is built again if a user has set other arrays, and
        after unpickling.
        """
        weights, biases = self.coefs_, getattr(self, "intercepts_", None)
        built = self.__dict__.get("_built")
        if built is not None and type(weights) is list and type(biases) is list:
            network: Sequential
            network, dense, dropout = built
            if dropout == self.dropout and len(dense) == len(weights) == len(biases):
                for layer, W, b in zip(dense, weights, biases, strict=True):
                    if layer.W is not W or layer.b is not b:
                        break
                else:
                    if network.precision != self.precision:
                        network.precision = self.precision
                    return network
        network, dense = build_network(
            *checked_weights(weights, biases, n_layers=len(self._activations) + 1,
                             n_in=self.n_features_in_, n_out=self.n_outputs_),
            self._activations, self._setting("dropout"), self.precision,
        )
        self.coefs_, self.intercepts_ = [each.W for each in dense], [each.b for each in dense]
        self._built = network, dense, self.dropout
        return network

    def _outputs(self, X: Any) -> Floats:
        """The network's outputs after the output activation, for X as users pass it."""
        if "coefs_" not in self.__dict__:
            check_is_fitted(self, "coefs_")
        network, activation = self._network(), OUTPUT_ACTIVATIONS[self.out_activation_]
        if self.n_threads is None and "feature_names_in_" not in self.__dict__:
            predictor = network.programs.predictor(activation)
            # What it accepts needs none of the checks below.
            if predictor is not None and predictor.accepts(X):
                Z = predictor(X)
                if Z is not None:
                    return Z
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return network.predict(X, activation=activation, n_threads=self._setting("n_threads"))

    def __getstate__(self) -> dict[str, Any]:
        """Leave the network out: its weights are in `coefs_` and `intercepts_`."""
        state = dict(super().__getstate__())
        state.pop("_built", None)
        optimizer = state.get("_optimizer")
        if optimizer is not None:
            state["_optimizer_state"] = optimizer.state, optimizer.steps
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        optimizer_state = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if optimizer_state is not None and self._optimizer is not None:
            self._optimizer.state, self._optimizer.steps = optimizer_state
