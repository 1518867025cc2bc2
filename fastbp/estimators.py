"""MLPClassifier and MLPRegressor: scikit-learn's, trained by fastbp.

The same parameters, attributes and random state give the same model as scikit-learn's classes
of these names.  An estimator says what is to be trained and keeps scikit-learn's records of it;
the training is `Sequential.fit` and `training.lbfgs`.
"""

import copy
import functools
import operator
import re
import warnings
from numbers import Integral, Real

import numpy as np

try:
    from sklearn import neural_network
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, _fit_context
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.model_selection import train_test_split
    from sklearn.preprocessing import LabelBinarizer
    from sklearn.utils import check_random_state, column_or_1d, compute_sample_weight
    from sklearn.utils._param_validation import Interval, Options, StrOptions
    from sklearn.utils.metaestimators import available_if
    from sklearn.utils.multiclass import type_of_target, unique_labels
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError as error:
    raise ImportError(
        'MLPClassifier and MLPRegressor need scikit-learn 1.7 or newer: '
        'pip install "fastbp[sklearn]"'
    ) from error

from . import layers, losses, metrics, optimizers, training
from .callbacks import Callback, Plateau
from .kernels import checks, memory, threads
from .network import Sequential

__all__ = ["MLPClassifier", "MLPRegressor"]

# scikit-learn's names, and fastbp's of the others.
ACTIVATIONS = {"identity": None, "logistic": layers.ACTIVATIONS["sigmoid"], **layers.ACTIVATIONS}
del ACTIVATIONS["sigmoid"]
# What becomes of the last layer's outputs, in the names of `Sequential.predict`.
OUTPUT_ACTIVATIONS = {
    "identity": None, "logistic": "sigmoid", "softmax": "softmax", "exp": "exp",
}
DTYPES = {"float32", "float64"}
# Parameters that are floats, checked under the names that users know: scikit-learn's constraints
# let whole numbers through that are too large for one.  Other numbers are counts.
NUMBERS = {
    "alpha": checks.not_negative, "learning_rate_init": checks.positive,
    "power_t": checks.not_negative, "tol": checks.not_negative, "beta_1": checks.fraction,
    "beta_2": checks.fraction, "epsilon": checks.positive, "dropout": checks.fraction,
    "weight_decay": checks.not_negative, "clip_norm": checks.positive,
    "label_smoothing": checks.fraction, "huber_delta": checks.positive,
}


class Record(Callback):
    """Keeps scikit-learn's records of a training in an estimator, and prints its lines.

    Parameters
    ----------
    estimator : MLPClassifier or MLPRegressor
    plateau : Plateau
        What decides when to stop.
    """

    def __init__(self, estimator, plateau):
        self.estimator = estimator
        self.plateau = plateau

    def on_train_begin(self, training):
        self.plateau.on_train_begin(training)
        self.estimator.history_ = training.history

    def on_epoch_begin(self, training):
        self.estimator._begun = True  # no other callback has refused

    def on_epoch_end(self, training):
        estimator, plateau, history = self.estimator, self.plateau, training.history
        # scikit-learn's mean over minibatches counts their rows, whatever these weigh.
        losses, rows = training.sums.step_stats[:, :2].sum(axis=1), training.sums.rows
        loss = float(losses @ rows / rows.sum())
        history["loss"][-1] = loss
        estimator.n_iter_ += 1
        estimator.t_ += training.sums.n_rows
        estimator.loss_ = loss
        estimator.loss_curve_.append(loss)
        self.say(f"Iteration {estimator.n_iter_}, loss = {loss:.8f}")
        if "val_loss" in history:
            scores = history["val_" + training.loss.metric.name]
            score = scores[-1] = estimator._score_of(scores[-1])
            estimator.validation_scores_.append(score)
            estimator.validation_loss_curve_.append(history["val_loss"][-1])
            estimator.best_validation_score_ = max(score, estimator.best_validation_score_)
            self.say(f"Validation score: {score:f}")
        kind, first_rate, power = estimator._rule
        if estimator.solver == "sgd" and kind == "invscaling":
            with np.errstate(over="ignore"):  # Python's power would raise OverflowError
                divisor = np.float64(estimator.t_ + 1) ** power
            training.optimizer.learning_rate = first_rate / divisor
        rate = training.optimizer.learning_rate
        plateau.on_epoch_end(training)
        if not estimator.early_stopping:
            estimator.best_loss_ = plateau.best
        if training.stopping:
            self.say(f"{history.stopped}. Stopping.")
        elif plateau.factor is not None and training.optimizer.learning_rate != rate:
            self.say(f"{plateau.monitor} did not improve more than tol={plateau.tol:f} for "
                     f"{plateau.patience} consecutive epochs. Setting learning rate to "
                     f"{training.optimizer.learning_rate:f}")

    def say(self, line):
        """Print a line where the estimator is verbose."""
        if self.estimator.verbose:
            print(line, flush=True)


class BaseMLP(BaseEstimator):
    """What classifier and regressor have in common.

    A subclass says what it is trained towards: `_validated` brings X, y and weights into the
    form the network takes, and `_loss` is the loss.
    """

    _parameter_constraints = {
        **neural_network.MLPClassifier._parameter_constraints,
        "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
        "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"})],
        "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), callable],
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "monitor": [StrOptions({"score", "loss"})],
        "dtype": [StrOptions(DTYPES), Options(type, {np.float32, np.float64}), None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "callbacks": [list, tuple, None],
    }

    def __init__(self, parameters):
        for name, value in parameters.items():
            if name not in ("self", "__class__"):
                setattr(self, name, value)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def to_network(self):
        """A copy of the network, to be used and trained without the estimator.

        Returns
        -------
        Sequential
            Its outputs are those before `out_activation_`: ``predict(X, activation=…)``
            applies one.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If there was no `fit`.
        """
        check_is_fitted(self, "coefs_")
        return copy.deepcopy(self._network())

    def _check_solver(self):
        if self.solver == "lbfgs":
            raise AttributeError("partial_fit is only available for stochastic solvers: sgd, adam "
                                 "and adamw; lbfgs is not stochastic")
        return True

    # Fitting, from top to bottom.

    def _fit(self, X, y, sample_weight, validation, epochs=None):
        """`epochs` is None in `fit`."""
        incremental = epochs is not None
        first = not hasattr(self, "coefs_") or not (self.warm_start or incremental)
        before = self.__dict__.copy()
        self._begun = False
        our_names = _our_names(sample_weight, validation)
        try:
            self._check_together(validation)
            X, y, sample_weight = self._validated(X, y, sample_weight, first, incremental)
            if validation is not None:
                names = "X_val, y_val" + ", sample_weight_val" * (validation[2] is not None)
                try:
                    validation = self._validated(*validation, first=False, incremental=True)
                except (TypeError, ValueError) as error:
                    raise type(error)(f"{names}: {error}") from None
            random_state = check_random_state(self.random_state)
            self._initialize(X, y, random_state, first)
            if self.solver == "lbfgs":
                try:
                    self._fit_lbfgs(X, y, sample_weight)
                except FloatingPointError as error:
                    raise ValueError(f"{NOT_FINITE} {error}") from error
            else:
                self._fit_stochastic(X, y, sample_weight, validation, random_state, epochs)
        except Exception as error:
            if not self._begun:  # a fit that is refused changes nothing
                self.__dict__ = before
            message = str(error)
            for pattern, name in our_names.items():
                message = re.sub(pattern, name, message)
            if message == str(error):
                raise
            raise type(error)(message) from None
        if not np.isfinite(self._network().parameters).all():
            raise ValueError(NOT_FINITE)
        return self

    def _check_together(self, validation):
        """Raise where settings that are right alone are not so together."""
        if self.solver == "lbfgs":
            others = {"dropout": self.dropout > 0, "clip_norm": self.clip_norm is not None,
                      "callbacks": bool(self.callbacks), "X_val": validation is not None,
                      "learning_rate": callable(self.learning_rate)}
            for name in (name for name, is_set in others.items() if is_set):
                raise ValueError(f"{name}: expected its default with solver='lbfgs', which takes "
                                 f"all rows in one step; use 'adam', 'adamw' or 'sgd'")
        if self.dropout > 0 and not self._hidden_sizes():
            raise ValueError("dropout: expected 0 where there is no hidden layer to drop from")

    def _setting(self, name):
        """A parameter as a plain number, or None where it is."""
        value = getattr(self, name)
        if value is None:
            return None
        if name in NUMBERS:
            return NUMBERS[name](name, value)
        return value if name == "n_iter_no_change" and value == np.inf else _count(name, value)

    def _hidden_sizes(self):
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if np.iterable(sizes) else [sizes]
        return [_count(f"hidden_layer_sizes[{i}]", size) for i, size in enumerate(sizes)]

    def _hidden_activations(self):
        n_hidden, names = len(self._hidden_sizes()), self.activation
        if isinstance(names, str):
            return (names,) * n_hidden
        if len(names) != n_hidden:
            raise ValueError(f"activation: expected a name or {n_hidden} names, one for each "
                             f"hidden layer, got {len(names)}")
        for name in names:
            if not (isinstance(name, str) and name in ACTIVATIONS):
                raise ValueError(f"activation: expected each one of {', '.join(ACTIVATIONS)}, "
                                 f"got {name!r}")
        return tuple(names)

    def _validated_arrays(self, X, y, sample_weight, first, y_numeric):
        """X and y as scikit-learn checks them, and the weights."""
        dtype = (np.float64, np.float32) if self.dtype is None else np.dtype(self.dtype).type
        X, y = validate_data(self, X, y, accept_sparse=["csr", "csc"], multi_output=True,
                             dtype=dtype, reset=first, y_numeric=y_numeric)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        return X, y, sample_weight

    def _initialize(self, X, y, random_state, first):
        """A network with scikit-learn's weights, unless there is one to go on with."""
        n_outputs = len(self.classes_) if y.ndim == 1 else y.shape[1]
        sizes = [X.shape[1], *self._hidden_sizes(), n_outputs]
        activations = self._hidden_activations()
        if not first:
            self._network()  # which may have to be made anew, of other weights
            before = [X.shape[1], *(len(b) for b in self.intercepts_)]
            if sizes != before or activations != self._activations:
                hidden = (sizes[:-1], activations) != (before[:-1], self._activations)
                raise ValueError(
                    f"{'hidden_layer_sizes, activation' if hidden else 'y'}: expected the layers "
                    f"of the fit before, to go on with: sizes {before} with {self._activations}, "
                    f"got {sizes} with {activations}; set warm_start=False to start anew"
                )
            return
        memory.check("hidden_layer_sizes", 24 * sum(map(operator.mul, sizes, sizes[1:])))
        self._activations = activations
        self.n_outputs_, self.n_layers_ = sizes[-1], len(sizes)
        self.n_iter_ = self.t_ = 0
        dtype = X.dtype if self.dtype is None else np.dtype(self.dtype)
        weights, biases = [], []
        # The output layer's weights are spread as those of the last hidden layer.
        spread = (*activations, activations[-1] if activations else self.activation)
        for n_in, n_out, name in zip(sizes, sizes[1:], spread, strict=False):
            bound = np.sqrt((2.0 if name == "logistic" else 6.0) / (n_in + n_out))
            weights.append(random_state.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
            biases.append(random_state.uniform(-bound, bound, n_out).astype(dtype))
        self.coefs_, self.intercepts_ = weights, biases
        self._built = self._optimizer = self._plateau = None
        if self.solver != "lbfgs":
            self._start_records()

    def _start_records(self):
        self.loss_curve_ = []
        self.best_loss_ = None if self.early_stopping else np.inf
        self.validation_scores_ = self.validation_loss_curve_ = None
        self.best_validation_score_ = None

    def _fit_lbfgs(self, X, y, sample_weight):
        def say(intermediate_result):
            say.iteration += 1
            if self.verbose:
                print(f"Iteration {say.iteration}, loss = {intermediate_result.fun:.8f}")

        say.iteration = 0
        with threads.using(self._setting("n_threads")):
            result = training.lbfgs(
                self._network(), X, y, loss=self._loss(), sample_weight=sample_weight,
                l2=self._setting("alpha"), max_iter=self._setting("max_iter"),
                max_evaluations=self._setting("max_fun"), tol=self._setting("tol"), callback=say,
            )
        self._begun = True
        self.__dict__.pop("history_", None)  # that of another solver
        self.n_iter_ = min(result.nit, self.max_iter)
        self.loss_ = result.fun
        if result.status != 0:
            warnings.warn(
                f"lbfgs failed to converge after {self.n_iter_} iteration(s) (status="
                f"{result.status}): {result.message}. Increase max_iter or max_fun, or scale "
                f"the data, for example with StandardScaler", ConvergenceWarning, stacklevel=5,
            )

    def _fit_stochastic(self, X, y, sample_weight, validation, random_state, epochs):
        network = self._network()
        incremental = epochs is not None
        if not hasattr(self, "loss_curve_"):  # it was lbfgs before
            self._start_records()
        if self._optimizer is None or not incremental:
            self._optimizer, self._epochs = self._new_optimizer(), 0
            self._rule = (self.learning_rate, self._setting("learning_rate_init"),
                          self._setting("power_t"))
        elif self._optimizer.state:
            self._take_along(self._optimizer, network)
        if callable(self.learning_rate):
            # Each call of Network.fit counts its epochs from 0.
            schedule = functools.partial(_later, self.learning_rate, self._epochs)
            self._optimizer.learning_rate = schedule
        # An int as random_state draws the same in each call, but t_ goes on.
        seed = int(random_state.randint(2**31)) + self.t_ if self.dropout > 0 else 0
        if self.early_stopping and validation is None:
            X, y, sample_weight, validation = self._split(X, y, sample_weight, random_state)
        if validation is not None and self.validation_scores_ is None:
            self.validation_scores_, self.validation_loss_curve_ = [], []
            self.best_validation_score_ = -np.inf
        plateau = self._plateau = self._new_plateau(self._plateau)
        n_rows = X.shape[0]
        self.n_iter_ = 0
        try:
            network.fit(
                X, y, loss=self._loss(), optimizer=self._optimizer,
                epochs=epochs or self._setting("max_iter"), batch_size=self._batch_size(n_rows),
                sample_weight=sample_weight, l2=self._setting("alpha"), validation_data=validation,
                callbacks=[Record(self, plateau), *(self.callbacks or ())],
                shuffle=Shuffle(n_rows, random_state) if self.shuffle else False, seed=seed,
                n_threads=self._setting("n_threads"), verbose=3 if self.verbose else 0,
            )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=5)
        except FloatingPointError as error:
            if not self.early_stopping:
                raise ValueError(f"{NOT_FINITE} {error}") from error
            self.validation_scores_.append(np.nan)
            self.validation_loss_curve_.append(np.nan)
            warnings.warn(f"{error}. The weights are those with the best validation score",
                          ConvergenceWarning, stacklevel=5)
        else:
            if not incremental and self.n_iter_ == self.max_iter and not self.history_.stopped:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({self.n_iter_}) reached and the "
                    f"optimization hasn't converged yet.", ConvergenceWarning, stacklevel=5,
                )
        self._epochs += self.n_iter_
        patience_is_over = plateau.count > plateau.patience
        if self.early_stopping and (patience_is_over or not incremental):
            plateau.restore(network)
        if patience_is_over and incremental:
            plateau.count = 0  # another call is another try

    def _new_optimizer(self):
        rate, clip = self._setting("learning_rate_init"), self._setting("clip_norm")
        if self.solver == "sgd":
            nesterov = bool(self.nesterovs_momentum)
            return optimizers.SGD(rate, self.momentum, nesterov, clip_norm=clip)
        betas = [self._setting(name) for name in ("beta_1", "beta_2", "epsilon")]
        if self.solver == "adamw":
            return optimizers.AdamW(rate, *betas, self._setting("weight_decay"), clip)
        return optimizers.Adam(rate, *betas, clip_norm=clip, epsilon_hat=True)

    def _new_plateau(self, before):
        """One that goes on counting where that of the call before was."""
        monitor = "loss"
        if self.early_stopping:
            monitor = "val_loss" if self.monitor == "loss" else f"val_{self._loss().metric.name}"
        turns_down = self.solver == "sgd" and self._rule[0] == "adaptive"
        plateau = Plateau(self._setting("n_iter_no_change"), self._setting("tol"), monitor,
                          factor=0.2 if turns_down else None, keep_best=bool(self.early_stopping))
        if before is not None and before.monitor == monitor:
            for name in Plateau.kept:
                setattr(plateau, name, getattr(before, name))
        return plateau

    def _batch_size(self, n_rows):
        if self.batch_size == "auto":
            return min(200, n_rows)
        batch_size = self._setting("batch_size")
        if batch_size > n_rows:
            warnings.warn("Got `batch_size` less than 1 or larger than sample size. It is going "
                          "to be clipped", stacklevel=6)
        return min(batch_size, n_rows)

    def _split(self, X, y, sample_weight, random_state):
        """What is left to train with, and what is set aside, drawn as scikit-learn does."""
        binary = self.out_activation_ == "logistic" and y.shape[1] == 1
        try:
            kept, aside = train_test_split(
                np.arange(X.shape[0]), random_state=random_state,
                test_size=self.validation_fraction, stratify=y > 0.5 if binary else None,
            )
        except ValueError as error:  # which speaks of test_size
            raise type(error)(f"validation_fraction: {error}") from None
        if len(aside) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or "
                             "the size of your dataset.")
        weights = (None, None) if sample_weight is None else (
            sample_weight[kept], sample_weight[aside])
        return X[kept], y[kept], weights[0], (X[aside], y[aside], weights[1])

    # The network, and what comes out of it.

    def _network(self):
        """The network whose weights coefs_ and intercepts_ are.

        They are views of its parameters; if somebody has put other arrays in their place, or
        it was left behind in a pickle, it is made of them anew.
        """
        weights, biases = self.coefs_, getattr(self, "intercepts_", None)
        built = self.__dict__.get("_built")
        if built is not None and type(weights) is type(biases) is list:
            network, dense, dropout = built
            if dropout == self.dropout and len(dense) == len(weights) == len(biases) and all(
                layer.W is W and layer.b is b
                for layer, W, b in zip(dense, weights, biases, strict=True)
            ):
                return network
        weights, biases = self._checked_weights()
        single = all(array.dtype == np.float32 for array in (*weights, *biases))
        stack, dense = [], []
        for W, b, name in zip(weights, biases, (*self._activations, "identity"), strict=True):
            layer = layers.Dense(*W.shape)
            layer.W, layer.b = W, b
            dense.append(layer)
            stack.append(layer)
            if ACTIVATIONS[name] is not None:
                stack.append(ACTIVATIONS[name]())
            if self.dropout > 0 and len(dense) < len(weights):
                stack.append(layers.Dropout(self._setting("dropout")))
        network = Sequential(stack, dtype="float32" if single else "float64")
        self.coefs_, self.intercepts_ = [each.W for each in dense], [each.b for each in dense]
        self._built = network, dense, self.dropout
        return network

    def _checked_weights(self):
        """coefs_ and intercepts_ as arrays that fit each other, or an error that says which not."""
        n_layers = len(self._activations) + 1
        for name in ("coefs_", "intercepts_"):
            given = getattr(self, name, None)
            if not isinstance(given, list | tuple | np.ndarray):
                raise TypeError(f"{name}: expected a list of {n_layers} arrays, one for each "
                                f"layer, got a {type(given).__name__}")
            if len(given) != n_layers:
                raise ValueError(f"{name}: expected {n_layers} arrays, one for each layer, got "
                                 f"{len(given)}")
        weights, biases, n_in = [], [], self.n_features_in_
        for i, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            W = checks.real_numbers(f"coefs_[{i}]", W)
            n_out = self.n_outputs_ if i == n_layers - 1 else None
            checks.shape(f"coefs_[{i}]", W, (n_in, n_out), "to fit the layers around it")
            n_in = W.shape[1]
            if n_in == 0:
                raise ValueError(f"coefs_[{i}]: expected at least one column, got {W.shape}")
            b = checks.real_numbers(f"intercepts_[{i}]", b)
            if b.ndim == 0:  # one for all, as scikit-learn takes it
                b = np.full(n_in, b)
            checks.shape(f"intercepts_[{i}]", b, (n_in,), f"like the columns of coefs_[{i}]")
            weights.append(W)
            biases.append(b)
        return weights, biases

    @staticmethod
    def _take_along(optimizer, network):
        """Let the optimizer go on with a network that was made anew."""
        parameters = network.parameters
        if all((array.shape, array.dtype) == (parameters.shape, parameters.dtype)
               for array in optimizer.state.values()):
            optimizer.resume(parameters, optimizer.state, optimizer.steps)

    def _score_of(self, score):
        """A score as scikit-learn's rules have it."""
        return score

    def _outputs(self, X):
        """The network's outputs through the output activation, for X as users give it."""
        if "coefs_" not in self.__dict__:
            check_is_fitted(self, "coefs_")
        network, activation = self._network(), OUTPUT_ACTIVATIONS[self.out_activation_]
        if self.n_threads is None and "feature_names_in_" not in self.__dict__:
            predictor = network.programs.predictor(activation)
            if predictor.accepts(X):  # which is all that is checked below
                return predictor(X)
        X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        return network.predict(X, activation=activation, n_threads=self._setting("n_threads"))

    def __getstate__(self):
        """The weights are kept once, in coefs_ and intercepts_."""
        state = dict(super().__getstate__())
        state.pop("_built", None)
        optimizer = state.get("_optimizer")
        if optimizer is not None:
            state["_optimizer_state"] = optimizer.state, optimizer.steps
        return state

    def __setstate__(self, state):
        optimizer_state = state.pop("_optimizer_state", None)
        super().__setstate__(state)
        if optimizer_state is not None:
            self._optimizer.state, self._optimizer.steps = optimizer_state


NOT_FINITE = ("Solver produced non-finite parameter weights. The input data may contain large "
              "values and need to be preprocessed.")


class Shuffle:
    """Orders of the rows, epoch after epoch, as scikit-learn draws them."""

    def __init__(self, n_rows, random_state):
        self.order = np.arange(n_rows)
        self.random_state = random_state

    def __call__(self, n_rows):
        places = np.arange(n_rows)
        self.random_state.shuffle(places)
        self.order = self.order[places]
        return self.order


def _later(schedule, epochs, epoch):
    return schedule(epochs + epoch)


def _count(name, value):
    """A whole number of at least 1; True is one, as in scikit-learn."""
    return checks.integer(name, int(value) if isinstance(value, bool | np.bool_) else value, 1)


def _checked_epochs(epochs):
    return checks.integer("epochs", epochs, 1)


def _our_names(sample_weight, validation):
    """What errors of the training call otherwise: patterns, and what to put in their place."""
    weights = "class_weight" if sample_weight is None else "sample_weight"
    if validation is None:
        of_validation = {name: f"{name}, of the rows set aside" for name in ("X", "y", weights)}
    else:
        weights_val = "class_weight" if validation[2] is None else "sample_weight_val"
        of_validation = {"X": "X_val", "y": "y_val", weights: weights_val}
    return {
        "^sample_weight(?=:)": weights,
        "^validation_data X(?=[:.])": of_validation["X"],
        "^validation_data y(?=:)": of_validation["y"],
        "^validation_data sample_weight(?=:)": of_validation[weights],
        "give fit validation_data or validation_fraction$":
            "set early_stopping=True, or give fit X_val and y_val",
    }


def _pair(X_val, y_val, sample_weight_val):
    """Validation data, or None without."""
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val: expected None without X_val and y_val")
        return None
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val: expected both or neither, got only "
                         f"{'y_val' if X_val is None else 'X_val'}")
    return X_val, y_val, sample_weight_val


class MLPClassifier(ClassifierMixin, BaseMLP):
    """Multilayer perceptron for classification, in place of scikit-learn's.

    The same parameters and `random_state` give the same model.  What scikit-learn's has not is
    by keyword and off by default.  Everything is float32 where X is, and float64 elsewhere,
    unless `dtype` says otherwise.

    Parameters
    ----------
    hidden_layer_sizes : array_like of int, default (100,)
        Columns of each hidden layer.
    activation : str or sequence of str, default "relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``; also any other activation, by the
        name of its function in `fastbp.kernels`.  A sequence has one for each hidden layer:
        ``activation=("tanh", "relu")``.
    solver : {"lbfgs", "sgd", "adam", "adamw"}, default "adam"
        ``"adamw"`` is Adam with `weight_decay` apart from the gradient:
        ``solver="adamw", weight_decay=0.05``.
    alpha : float, default 0.0001
        Strength of the L2 penalty, divided by the weight of the rows of a minibatch.
    batch_size : int or "auto", default "auto"
        ``"auto"`` is the smaller of 200 and the number of rows.
    learning_rate : {"constant", "invscaling", "adaptive"} or callable, default "constant"
        For ``solver="sgd"``: constant; divided by ``(t_ + 1) ** power_t`` after each epoch; or
        divided by 5 whenever training stalls.  Or, for every solver but lbfgs, a schedule: a
        function of the time in epochs, which stands in for `learning_rate_init`:
        ``learning_rate=fb.schedules.Cosine(0.01, epochs=50, warm_up=2)``.
    learning_rate_init : float, default 0.001
    power_t : float, default 0.5
    max_iter : int, default 200
        Epochs at most; iterations of lbfgs.
    shuffle : bool, default True
        Whether each epoch goes through the rows in a new order.
    random_state : int, RandomState instance or None, default None
        Determines weights, splits, shuffles and dropout.
    tol : float, default 0.0001
        The loss or score has to improve by this.
    verbose : bool, default False
        Whether to print a line for each epoch, and a progress bar in a terminal (with
        ``pip install "fastbp[progress]"``).
    warm_start : bool, default False
        Whether `fit` goes on from the weights of the `fit` before.
    momentum : float in [0, 1], default 0.9
        For ``solver="sgd"``, as `nesterovs_momentum`.
    nesterovs_momentum : bool, default True
    early_stopping : bool, default False
        Whether to set rows aside (or use `fit`'s `X_val`), stop when the score there stops
        improving, and go back to the best weights.
    validation_fraction : float in [0, 1), default 0.1
        The share of rows to set aside.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        For ``solver="adam"`` and ``"adamw"``, as `epsilon`.
    epsilon : float, default 1e-8
    n_iter_no_change : int, default 10
        Epochs that may pass without an improvement of `tol`.
    max_fun : int, default 15000
        Evaluations of the loss at most, for lbfgs.
    dropout : float in [0, 1), default 0.0
        Share of each hidden layer's outputs that a training step leaves out: ``dropout=0.2``.
    weight_decay : float, default 0.01
        For ``solver="adamw"``.
    clip_norm : float, optional
        Gradients whose norm is above this are scaled down to it: ``clip_norm=1.0``.
    monitor : {"score", "loss"}, default "score"
        What of the validation data early stopping watches: ``monitor="loss"``.
    class_weight : dict, "balanced" or None, default None
        Weights of the classes: ``class_weight="balanced"``.
    label_smoothing : float in [0, 1), default 0.0
        How much of each target goes to all classes alike: ``label_smoothing=0.1``.
    dtype : {"float32", "float64"}, optional
        To train in, whatever X is: ``dtype="float32"``.
    n_threads : int, optional
        Threads at most; by default this process's share of the cores.
    callbacks : list of Callback or callable, optional
        See `fastbp.callbacks`: ``callbacks=[lambda training: print(training.epoch)]``.  They
        are used as they are: what they count goes on from fit to fit.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray
    coefs_, intercepts_ : list of ndarray
        Weights (n_in, n_out) and biases (n_out,) of each layer.
    loss_, best_loss_ : float
        The last loss, and the smallest (None with early stopping).
    loss_curve_ : list of float
        The loss of each epoch, with the penalty.
    validation_scores_, validation_loss_curve_ : list of float or None
        Accuracy and loss on validation data after each epoch.
    best_validation_score_ : float or None
    n_iter_, t_ : int
        Epochs of the last fit; rows seen in all.
    n_layers_, n_outputs_ : int
    out_activation_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray
        Where X has names of type str.
    history_ : History
        Of the last fit, for `fastbp.plot.learning_curves`; lbfgs has none.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> X, y = load_digits(return_X_y=True)
    >>> model = MLPClassifier((32,), learning_rate_init=0.01, early_stopping=True, random_state=0)
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.95
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    loss = "log_loss"

    def __init__(
        self, hidden_layer_sizes=(100,), activation="relu", *, solver="adam", alpha=0.0001,
        batch_size="auto", learning_rate="constant", learning_rate_init=0.001, power_t=0.5,
        max_iter=200, shuffle=True, random_state=None, tol=1e-4, verbose=False,
        warm_start=False, momentum=0.9, nesterovs_momentum=True, early_stopping=False,
        validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8, n_iter_no_change=10,
        max_fun=15000, dropout=0.0, weight_decay=0.01, clip_norm=None, monitor="score",
        class_weight=None, label_smoothing=0.0, dtype=None, n_threads=None, callbacks=None,
    ):
        super().__init__(locals())

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Train on X and y.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)
        y : {array_like, sparse matrix} of shape (rows,) or (rows, n_outputs)
            Labels; or a row of zeros and ones, for several labels at once.
        sample_weight : array_like of shape (rows,), optional
        X_val, y_val, sample_weight_val : array_like, optional
            What to validate on after each epoch, in place of rows set aside.  In a pipeline
            they come as they are: transform them first.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument or parameter is wrong, or the training diverges.
        """
        return self._fit(X, y, sample_weight, _pair(X_val, y_val, sample_weight_val))

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None, *, epochs=1, X_val=None,
                    y_val=None, sample_weight_val=None):
        """Go on training, with the optimizer as it is.

        With `early_stopping` the count of epochs without improvement goes on from call to call;
        when it is full, the training stops at the best weights, and the next call counts anew.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As `fit`.
        classes : array_like of shape (n_classes,), optional
            All classes there will be; needed in the first call.
        epochs : int, default 1

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`, or if `classes` are missing, or others than before.
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' is not supported for partial_fit, which "
                             "does not see all of y; pass weights by class as a dict, from "
                             "compute_class_weight('balanced', classes=classes, y=y)")
        epochs = _checked_epochs(epochs)
        first = not hasattr(self, "classes_")
        if classes is None and first:
            raise ValueError("classes must be passed on the first call to partial_fit.")
        try:
            if classes is not None:
                classes = unique_labels(classes)
                if first:
                    self._set_classes(y if type_of_target(y).startswith("multilabel") else classes)
                elif not np.array_equal(self.classes_, classes):
                    raise ValueError(f"`classes={classes!r}` is not the same as on last call to "
                                     f"partial_fit, was: {self.classes_!r}")
            return self._fit(X, y, sample_weight, _pair(X_val, y_val, sample_weight_val), epochs)
        except Exception:
            if first and not hasattr(self, "coefs_"):  # it was refused
                for name in ("classes_", "_label_binarizer"):
                    self.__dict__.pop(name, None)
            raise

    def predict(self, X):
        """The most probable class of each row.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        y : ndarray of shape (rows,) or (rows, n_outputs)
            Labels; zeros and ones where there may be several.
        """
        P = self._outputs(X)
        if self.out_activation_ == "softmax":
            return self.classes_[P.argmax(axis=1)]
        return self._label_binarizer.inverse_transform(P.ravel() if P.shape[1] == 1 else P)

    def predict_proba(self, X):
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        P : ndarray of shape (rows, n_classes)
            In the order of `classes_`.
        """
        P = self._outputs(X)
        if P.shape[1] > 1:
            return P
        both = np.empty((len(P), 2), P.dtype)
        np.subtract(1, P[:, 0], out=both[:, 0])
        both[:, 1] = P[:, 0]
        return both

    def predict_log_proba(self, X):
        """Logarithms of `predict_proba`.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        log_P : ndarray of shape (rows, n_classes)
        """
        P = self.predict_proba(X)
        return np.log(P, out=P)

    def _set_classes(self, y):
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _validated(self, X, y, sample_weight, first, incremental):
        X, y, sample_weight = self._validated_arrays(X, y, sample_weight, first, False)
        if not hasattr(self, "classes_") or (first and not incremental):
            self._set_classes(y)
        else:
            present = unique_labels(y)
            if not incremental and set(present) != set(self.classes_):
                raise ValueError("warm_start can only be used where `y` has the same classes as "
                                 f"in the previous call to fit. Previously got {self.classes_}, "
                                 f"`y` has {present}")
            if len(np.setdiff1d(present, self.classes_)):
                raise ValueError(f"`y` has classes not in `self.classes_`. `self.classes_` has "
                                 f"{self.classes_}. 'y' has {present}.")
            several = self._label_binarizer.y_type_.startswith("multilabel")
            if type_of_target(y).startswith("multilabel") != several:
                raise ValueError(f"y: expected {'rows of zeros and ones' if several else 'labels'}"
                                 f" as before, got {type_of_target(y)} targets")
        if self.class_weight is not None:
            by_class = self._class_weights(y)
            sample_weight = by_class if sample_weight is None else sample_weight * by_class
        self.out_activation_ = "logistic"
        if self._label_binarizer.y_type_ == "multiclass":
            self.out_activation_ = "softmax"
            return X, np.searchsorted(self.classes_, y), sample_weight
        targets = self._label_binarizer.transform(y)
        targets = np.asarray(targets.toarray() if hasattr(targets, "toarray") else targets, X.dtype)
        smoothing = self.label_smoothing
        return X, (1 - smoothing) * targets + smoothing / 2, sample_weight

    def _class_weights(self, y):
        """A weight for each row."""
        if y.ndim == 2 and self.class_weight != "balanced":
            raise ValueError("class_weight: expected 'balanced' or None where a row may have "
                             "several labels; use sample_weight")
        if self.class_weight == "balanced":
            return compute_sample_weight(self.class_weight, y)
        unknown = set(self.class_weight) - set(self.classes_.tolist())
        if unknown:
            raise ValueError(f"class_weight: expected classes of y, {self.classes_}, got "
                             f"{', '.join(map(repr, unknown))} besides")
        weights = np.array([
            checks.not_negative(f"class_weight[{label!r}]", self.class_weight.get(label, 1.0))
            for label in self.classes_.tolist()
        ])
        return weights[np.searchsorted(self.classes_, y)]

    def _score_of(self, score):
        return 1.0 if len(self.classes_) == 1 else score  # it can predict nothing else

    def _loss(self):
        n = self.n_outputs_
        # scikit-learn takes no probability to be smaller than this in the loss.
        cap = None if self.label_smoothing else -np.log(np.finfo(self.coefs_[0].dtype).eps)
        if self.out_activation_ == "softmax":
            return losses.SoftmaxCrossEntropy(self.label_smoothing, cap)
        loss = losses.SigmoidCrossEntropy(cap)
        if n == 1:
            return loss
        loss.metric = metrics.SubsetAccuracy
        return losses.Scaled(loss, n, n)  # the sum over the outputs


class MLPRegressor(RegressorMixin, BaseMLP):
    """Multilayer perceptron for regression, in place of scikit-learn's.

    The same parameters and `random_state` give the same model.  What scikit-learn's has not is
    by keyword and off by default.  Everything is float32 where X is, and float64 elsewhere,
    unless `dtype` says otherwise.

    Parameters
    ----------
    loss : str, default "squared_error"
        ``"squared_error"``, the mean over the outputs of half of it; ``"poisson"``, half the
        Poisson deviance, for targets of at least 0; also ``"absolute_error"`` and ``"huber"``,
        which outliers pull on less.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, \
learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, \
momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
n_iter_no_change, max_fun, dropout, weight_decay, clip_norm, monitor, dtype, n_threads, callbacks
        As `MLPClassifier`; the score is R².
    huber_delta : float, default 1.0
        For ``loss="huber"``: where it turns from squared to absolute:
        ``MLPRegressor("huber", huber_delta=0.5)``.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, \
validation_loss_curve_, best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, \
out_activation_, n_features_in_, feature_names_in_, history_
        As `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.1, random_state=0)
    >>> model.fit(20 * X, y / 100).score(20 * X, y / 100) > 0.5
    True
    """

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "absolute_error", "huber"})],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, loss="squared_error", hidden_layer_sizes=(100,), activation="relu", *,
        solver="adam", alpha=0.0001, batch_size="auto", learning_rate="constant",
        learning_rate_init=0.001, power_t=0.5, max_iter=200, shuffle=True, random_state=None,
        tol=1e-4, verbose=False, warm_start=False, momentum=0.9, nesterovs_momentum=True,
        early_stopping=False, validation_fraction=0.1, beta_1=0.9, beta_2=0.999, epsilon=1e-8,
        n_iter_no_change=10, max_fun=15000, dropout=0.0, weight_decay=0.01, clip_norm=None,
        monitor="score", huber_delta=1.0, dtype=None, n_threads=None, callbacks=None,
    ):
        super().__init__(locals())

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None, sample_weight_val=None):
        """Train on X and y.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)
        y : {array_like, sparse matrix} of shape (rows,) or (rows, n_outputs)
        sample_weight : array_like of shape (rows,), optional
        X_val, y_val, sample_weight_val : array_like, optional
            What to validate on after each epoch, in place of rows set aside.  In a pipeline
            they come as they are: transform them first.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument or parameter is wrong, or the training diverges.
        """
        return self._fit(X, y, sample_weight, _pair(X_val, y_val, sample_weight_val))

    @available_if(lambda self: self._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, *, epochs=1, X_val=None, y_val=None,
                    sample_weight_val=None):
        """Go on training, with the optimizer as it is.

        With `early_stopping` the count of epochs without improvement goes on from call to call;
        when it is full, the training stops at the best weights, and the next call counts anew.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val
            As `fit`.
        epochs : int, default 1

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        return self._fit(X, y, sample_weight, _pair(X_val, y_val, sample_weight_val),
                         _checked_epochs(epochs))

    def predict(self, X):
        """Predictions.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        y : ndarray of shape (rows,) or (rows, n_outputs)
        """
        Z = self._outputs(X)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def _validated(self, X, y, sample_weight, first, incremental):
        X, y, sample_weight = self._validated_arrays(X, y, sample_weight, first, True)
        y = checks.dense(y, y.dtype)
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return X, y.reshape(len(y), -1), sample_weight

    def _loss(self):
        # scikit-learn's gradients are of the sum over the outputs, and its values, but for
        # Poisson's, the mean.
        n = self.n_outputs_
        if self.loss == "squared_error":
            return losses.Scaled(losses.MeanSquaredError(), 0.5, n / 2)
        if self.loss == "poisson":
            return losses.Scaled(losses.PoissonDeviance(), n, n)
        if self.loss == "huber":
            return losses.Scaled(losses.Huber(self._setting("huber_delta")), 1, n)
        return losses.Scaled(losses.MeanAbsoluteError(), 1, n)
