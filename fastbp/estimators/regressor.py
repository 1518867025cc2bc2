"""MLPRegressor: scikit-learn's regressor, trained by fastbp."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

from sklearn.base import RegressorMixin

from .. import losses
from ..kernels import checks
from .arguments import validation_arguments
from .base import BaseMLP
from .parameters import in_all_processes, with_stochastic_solvers
from .sklearn_private import Interval, StrOptions, validates_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Self

    from numpy.random import RandomState
    from numpy.typing import ArrayLike, DTypeLike

    from ..callbacks import Callback
    from ..kernels.types import Array, Floats
    from ..training import Training

__all__ = ["MLPRegressor"]


class MLPRegressor(RegressorMixin, BaseMLP):  # type: ignore[misc]  # no types in scikit-learn
    """Multilayer perceptron for regression, a drop-in replacement for scikit-learn's.

    The same parameters and `random_state` give the same model.  Parameters that scikit-learn's
    class does not have are keyword-only and off by default.  Computations are in float32 if X is
    float32 and in float64 otherwise, unless `dtype` is given.

    Parameters
    ----------
    loss : str, default "squared_error"
        ``"squared_error"``, half the squared error, averaged over the outputs; ``"poisson"``,
        half the Poisson deviance, for targets of at least 0; and, less sensitive to outliers,
        ``"absolute_error"`` and ``"huber"``.
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, \
learning_rate_init, power_t, max_iter, shuffle, random_state, tol, verbose, warm_start, \
momentum, nesterovs_momentum, early_stopping, validation_fraction, beta_1, beta_2, epsilon, \
n_iter_no_change, max_fun, dropout, weight_decay, clip_norm, monitor, dtype, precision, n_threads, \
callbacks
        As for `MLPClassifier`; the score is R².
    huber_delta : float, default 1.0
        For ``loss="huber"``: the error at which it changes from squared to absolute:
        ``MLPRegressor("huber", huber_delta=0.5)``.

    Attributes
    ----------
    coefs_, intercepts_, loss_, best_loss_, loss_curve_, validation_scores_, \
validation_loss_curve_, best_validation_score_, n_iter_, t_, n_layers_, n_outputs_, \
out_activation_, n_features_in_, feature_names_in_, history_
        As for `MLPClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> model = MLPRegressor(hidden_layer_sizes=(8,), learning_rate_init=0.1, random_state=0)
    >>> model.fit(20 * X, y / 100).score(20 * X, y / 100) > 0.5
    True
    """

    loss: str
    huber_delta: float

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "loss": [StrOptions({"squared_error", "poisson", "absolute_error", "huber"})],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self, loss: str = "squared_error", hidden_layer_sizes: ArrayLike = (100,),
        activation: str | Sequence[str] = "relu", *, solver: str = "adam", alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: int | RandomState | None = None, tol: float = 1e-4,
        verbose: bool = False, warm_start: bool = False, momentum: float = 0.9,
        nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, n_iter_no_change: float = 10, max_fun: int = 15000,
        dropout: float = 0.0, weight_decay: float = 0.01, clip_norm: float | None = None,
        monitor: str = "score", huber_delta: float = 1.0, dtype: DTypeLike | None = None,
        precision: str = "highest", n_threads: int | None = None,
        callbacks: Sequence[Callback | Callable[[Training], object]] | None = None,
    ) -> None:
        super().__init__(locals())

    @in_all_processes
    @validates_parameters
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *,
        X_val: ArrayLike | None = None, y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None, communicator: Any = None,
    ) -> Self:
        """Train on X and y.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)
        y : {array_like, sparse matrix} of shape (rows,) or (rows, n_outputs)
        sample_weight : array_like of shape (rows,), optional
        X_val, y_val, sample_weight_val : array_like, optional
            Data to validate on after each epoch, instead of rows that are set aside.  A pipeline
            passes them on as they are: transform them first.
        communicator : mpi4py.MPI.Comm, optional
            Of processes that train together, as in `Sequential.fit`: each calls this with the same
            arguments, and a `random_state` that is a number.  Not for lbfgs.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If an argument or parameter is invalid, or training diverges.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> model = MLPRegressor("squared_error", (16,), solver="lbfgs", random_state=0)
        >>> model.fit(X, y).score(X, y) > 0.999
        True
        """
        self._fit(X, y, sample_weight, validation_arguments(X_val, y_val, sample_weight_val),
                  communicator=communicator)
        return self

    @with_stochastic_solvers
    @in_all_processes
    @validates_parameters
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *,
        epochs: int = 1, X_val: ArrayLike | None = None, y_val: ArrayLike | None = None,
        sample_weight_val: ArrayLike | None = None, communicator: Any = None,
    ) -> Self:
        """Continue to train, with the state of the optimizer.

        With `early_stopping` the count of epochs without improvement continues from call to call.
        When it exceeds `n_iter_no_change`, training stops at the best weights, and the next call
        starts a new count.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val, communicator
            As for `fit`.
        epochs : int, default 1

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> model = MLPRegressor(learning_rate_init=0.01, random_state=0)
        >>> first = model.partial_fit(X, y).loss_
        >>> model.partial_fit(X, y, epochs=20).loss_ < first, len(model.loss_curve_)
        (True, 21)
        """
        validation = validation_arguments(X_val, y_val, sample_weight_val)
        self._fit(X, y, sample_weight, validation, checks.integer("epochs", epochs, 1),
                  communicator)
        return self

    def predict(self, X: ArrayLike) -> Floats:
        """Predicted targets.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        y : ndarray of shape (rows,) or (rows, n_outputs)
            Of the dtype of the weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        TypeError, ValueError
            If X is invalid.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [1.0, 3.0, 5.0, 7.0]
        >>> model = MLPRegressor("squared_error", (16,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.predict([[1.5]]).round(1)
        array([4.])
        """
        Z = self._outputs(X)
        return Z.ravel() if Z.shape[1] == 1 else Z

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, first: bool, incremental: bool
    ) -> tuple[Any, Array, Array | None]:
        X, y, sample_weight = self._validated_arrays(X, y, sample_weight, first, True)
        y = checks.dense(y, y.dtype)
        self.out_activation_ = "exp" if self.loss == "poisson" else "identity"
        return X, y.reshape(len(y), -1), sample_weight

    def _loss(self) -> losses.Loss:
        # scikit-learn's gradients are of the sum over the outputs, and its values are the mean,
        # except for Poisson's.
        n = self.n_outputs_
        if self.loss == "squared_error":
            return losses.Scaled(losses.MeanSquaredError(), 0.5, n / 2)
        if self.loss == "poisson":
            return losses.Scaled(losses.PoissonDeviance(), n, n)
        if self.loss == "huber":
            return losses.Scaled(losses.Huber(self._setting("huber_delta")), 1, n)
        return losses.Scaled(losses.MeanAbsoluteError(), 1, n)
