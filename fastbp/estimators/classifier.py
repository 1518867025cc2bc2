"""MLPClassifier: scikit-learn's classifier, trained by fastbp."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels

from .. import losses, metrics
from ..kernels import checks
from .arguments import validation_arguments
from .base import BaseMLP
from .parameters import in_all_processes, with_stochastic_solvers
from .sklearn_private import Interval, StrOptions, validates_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

    from numpy.random import RandomState
    from numpy.typing import ArrayLike, DTypeLike

    from ..callbacks import Callback
    from ..kernels.types import Array, Floats
    from ..training import Training

__all__ = ["MLPClassifier"]

# The probabilities 1 - p and p of two classes are p times the first and plus the second.
BOTH: dict[Any, tuple[Any, Any]] = {
    np.dtype(each): (np.array([-1, 1], each), np.array([1, 0], each))
    for each in (np.float32, np.float64)}


class MLPClassifier(ClassifierMixin, BaseMLP):  # type: ignore[misc]  # no types in scikit-learn
    """Multilayer perceptron for classification, a drop-in replacement for scikit-learn's.

    The same parameters and `random_state` give the same model.  Parameters that scikit-learn's
    class does not have are keyword-only and off by default.  Computations are in float32 if X is
    float32 and in float64 otherwise, unless `dtype` is given.

    Parameters
    ----------
    hidden_layer_sizes : array_like of int, default (100,)
        Columns of each hidden layer.
    activation : str or sequence of str, default "relu"
        ``"identity"``, ``"logistic"``, ``"tanh"``, ``"relu"``, or any other activation by the
        name of its function in `fastbp.kernels`.  A sequence has one for each hidden layer:
        ``activation=("tanh", "relu")``.
    solver : {"lbfgs", "sgd", "adam", "adamw"}, default "adam"
        ``"adamw"`` is Adam with decoupled `weight_decay`: ``solver="adamw", weight_decay=0.05``.
    alpha : float, default 0.0001
        Strength of the L2 penalty, divided by the total weight of a minibatch's rows.
    batch_size : int or "auto", default "auto"
        Rows of a minibatch.  ``"auto"`` is the smaller of 200 and the number of rows.
    learning_rate : {"constant", "invscaling", "adaptive"} or callable, default "constant"
        For ``solver="sgd"``: constant; divided by ``(t_ + 1) ** power_t`` after each epoch; or
        divided by 5 whenever training stalls.  For every solver but lbfgs it may be a schedule, a
        function of the time in epochs that replaces `learning_rate_init`:
        ``learning_rate=fb.schedules.Cosine(0.01, epochs=50, warm_up=2)``.
    learning_rate_init : float, default 0.001
        The learning rate of the first epoch.
    power_t : float, default 0.5
        The exponent for ``learning_rate="invscaling"``.
    max_iter : int, default 200
        The largest number of epochs; of iterations for lbfgs.
    shuffle : bool, default True
        Whether each epoch takes the rows in a new order.
    random_state : int, RandomState instance or None, default None
        Determines the initial weights, the rows set aside, their order and dropout.
    tol : float, default 0.0001
        By how much the loss or score has to improve.
    verbose : bool, default False
        Whether to print a line for each epoch, and show a progress bar in a terminal (with
        ``pip install "fastbp[progress]"``).
    warm_start : bool, default False
        Whether `fit` starts from the weights of the previous fit.
    momentum : float in [0, 1], default 0.9
        For ``solver="sgd"``.
    nesterovs_momentum : bool, default True
        Whether the momentum is Nesterov's.
    early_stopping : bool, default False
        Whether to set rows aside (or use `fit`'s `X_val`), stop when the score on them stops
        improving, and restore the best weights.
    validation_fraction : float in [0, 1), default 0.1
        The fraction of the rows to set aside.
    beta_1, beta_2 : float in [0, 1), default 0.9 and 0.999
        Decay rates of the running averages of gradients and of their squares, for
        ``solver="adam"`` and ``"adamw"``.
    epsilon : float, default 1e-8
        Added to the denominator for ``solver="adam"`` and ``"adamw"``.
    n_iter_no_change : int, default 10
        Epochs that may pass without an improvement of `tol`.
    max_fun : int, default 15000
        The largest number of evaluations of the loss, for lbfgs.
    dropout : float in [0, 1), default 0.0
        The fraction of each hidden layer's outputs that a training step sets to 0:
        ``dropout=0.2``.
    weight_decay : float, default 0.01
        For ``solver="adamw"``.
    clip_norm : float, optional
        Gradients with a larger norm are scaled down to it: ``clip_norm=1.0``.
    monitor : {"score", "loss"}, default "score"
        What early stopping monitors on the validation data: ``monitor="loss"``.
    class_weight : dict, "balanced" or None, default None
        Weights of the classes: ``class_weight="balanced"``.
    label_smoothing : float in [0, 1), default 0.0
        The share of each target that is spread over all classes: ``label_smoothing=0.1``.
    dtype : {"float32", "float64"}, optional
        The dtype of the weights and all computations: ``dtype="float32"``.
    precision : {"highest", "high", "medium"}, default "highest"
        Of the matrix products in float32; see `Sequential`:
        ``MLPClassifier(dtype="float32", precision="medium")``.
    n_threads : int, optional
        The largest number of threads; by default the process's share of the cores.
    callbacks : list of Callback or callable, optional
        See `fastbp.callbacks`: ``callbacks=[lambda training: print(training.epoch)]``.  They are
        not copied: what they count continues from fit to fit.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray
    coefs_, intercepts_ : list of ndarray
        Weights of shape (n_in, n_out) and biases of shape (n_out,) of each layer.
    loss_, best_loss_ : float
        The last loss, and the smallest (None with early stopping).
    loss_curve_ : list of float
        The loss of each epoch, with the penalty.
    validation_scores_, validation_loss_curve_ : list of float or None
        Accuracy and loss on the validation data after each epoch.
    best_validation_score_ : float or None
    n_iter_, t_ : int
        Epochs of the last fit; rows seen in all.
    n_layers_, n_outputs_ : int
    out_activation_ : str
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.
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

    class_weight: Mapping[Any, float] | str | None
    label_smoothing: float

    classes_: Any
    _label_binarizer: Any

    _parameter_constraints = {
        **BaseMLP._parameter_constraints,
        "class_weight": [dict, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }
    loss = "log_loss"

    def __init__(
        self, hidden_layer_sizes: ArrayLike = (100,), activation: str | Sequence[str] = "relu", *,
        solver: str = "adam", alpha: float = 0.0001, batch_size: int | str = "auto",
        learning_rate: str | Callable[[float], float] = "constant",
        learning_rate_init: float = 0.001, power_t: float = 0.5, max_iter: int = 200,
        shuffle: bool = True, random_state: int | RandomState | None = None, tol: float = 1e-4,
        verbose: bool = False, warm_start: bool = False, momentum: float = 0.9,
        nesterovs_momentum: bool = True, early_stopping: bool = False,
        validation_fraction: float = 0.1, beta_1: float = 0.9, beta_2: float = 0.999,
        epsilon: float = 1e-8, n_iter_no_change: float = 10, max_fun: int = 15000,
        dropout: float = 0.0, weight_decay: float = 0.01, clip_norm: float | None = None,
        monitor: str = "score", class_weight: Mapping[Any, float] | str | None = None,
        label_smoothing: float = 0.0, dtype: DTypeLike | None = None,
        precision: str = "highest", n_threads: int | None = None,
        callbacks: Sequence[Callback | Callable[[Training], object]] | None = None,
    ) -> None:
        super().__init__(locals())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

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
            Labels; for several labels per row, a row of zeros and ones each.
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
        >>> X, y = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], [0, 1, 1, 0]
        >>> model = MLPClassifier((8,), "tanh", solver="lbfgs", random_state=0)
        >>> model.fit(X, y).predict(X)
        array([0, 1, 1, 0])
        """
        self._fit(X, y, sample_weight, validation_arguments(X_val, y_val, sample_weight_val),
                  communicator=communicator)
        return self

    @with_stochastic_solvers
    @in_all_processes
    @validates_parameters
    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None,
        classes: ArrayLike | None = None, *, epochs: int = 1, X_val: ArrayLike | None = None,
        y_val: ArrayLike | None = None, sample_weight_val: ArrayLike | None = None,
        communicator: Any = None,
    ) -> Self:
        """Continue to train, with the state of the optimizer.

        With `early_stopping` the count of epochs without improvement continues from call to call.
        When it exceeds `n_iter_no_change`, training stops at the best weights, and the next call
        starts a new count.

        Parameters
        ----------
        X, y, sample_weight, X_val, y_val, sample_weight_val, communicator
            As for `fit`.
        classes : array_like of shape (n_classes,), optional
            All classes that y will ever have; required in the first call.
        epochs : int, default 1

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            As `fit`, or if `classes` is missing or not the same as before.

        Examples
        --------
        >>> X, y = np.eye(4), np.array([0, 1, 2, 0])
        >>> model = MLPClassifier((16,), learning_rate_init=0.1, random_state=0)
        >>> model = model.partial_fit(X[:2], y[:2], classes=[0, 1, 2])
        >>> model.partial_fit(X, y, epochs=20).predict(X)
        array([0, 1, 2, 0])
        >>> model.t_  # rows seen
        82
        """
        if self.class_weight == "balanced":
            raise ValueError("class_weight='balanced' is not supported for partial_fit, which "
                             "does not see all of y; pass weights by class as a dict, from "
                             "compute_class_weight('balanced', classes=classes, y=y)")
        epochs = checks.integer("epochs", epochs, 1)
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
            self._fit(X, y, sample_weight, validation_arguments(X_val, y_val, sample_weight_val),
                      epochs, communicator)
        except Exception:
            if first and not hasattr(self, "coefs_"):  # it was refused
                for name in ("classes_", "_label_binarizer"):
                    self.__dict__.pop(name, None)
            raise
        return self

    def predict(self, X: ArrayLike) -> Array:
        """The most probable class of each row.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        y : ndarray of shape (rows,) or (rows, n_outputs)
            Labels; rows of zeros and ones if a row may have several labels.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        TypeError, ValueError
            If X is invalid.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0]], ["low", "middle", "high"]
        >>> model = MLPClassifier((8,), solver="lbfgs", random_state=0).fit(X, y)
        >>> [str(label) for label in model.predict([[0.1], [1.9]])]
        ['low', 'high']
        """
        P = self._outputs(X)
        if self.out_activation_ == "softmax":
            labels: Array = self.classes_[P.argmax(axis=1)]
        elif P.shape[1] == 1 and len(self.classes_) == 2:
            labels = self.classes_.take(P.ravel() > 0.5)
        else:
            labels = self._label_binarizer.inverse_transform(P.ravel() if P.shape[1] == 1 else P)
        return labels

    def predict_proba(self, X: ArrayLike) -> Floats:
        """Probabilities of the classes.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        P : ndarray of shape (rows, n_classes)
            In the order of `classes_`, of the dtype of the weights.

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict`.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
        >>> model = MLPClassifier((8,), solver="lbfgs", random_state=0).fit(X, y)
        >>> P = model.predict_proba(X)
        >>> P.shape, bool((P > 0.9).any(axis=1).all())
        ((3, 2), True)
        """
        P = self._outputs(X)
        if P.shape[1] > 1:
            return P
        signs, ones = BOTH[P.dtype]
        both: Floats = P * signs + ones  # for one row faster than to write two columns
        return both

    def predict_log_proba(self, X: ArrayLike) -> Floats:
        """Logarithms of the probabilities of the classes.

        Parameters
        ----------
        X : {array_like, sparse matrix} of shape (rows, n_features)

        Returns
        -------
        log_P : ndarray of shape (rows, n_classes)

        Raises
        ------
        sklearn.exceptions.NotFittedError, TypeError, ValueError
            As `predict`.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0]], [0, 1, 1]
        >>> model = MLPClassifier((8,), solver="lbfgs", random_state=0).fit(X, y)
        >>> bool((np.exp(model.predict_log_proba(X)).sum(axis=1) > 0.999).all())
        True
        """
        P = self.predict_proba(X)
        log_P: Floats = np.log(P, out=P)
        return log_P

    def _set_classes(self, y: Any) -> None:
        self._label_binarizer = LabelBinarizer().fit(y)
        self.classes_ = self._label_binarizer.classes_

    def _n_outputs(self, y: Array) -> int:
        return len(self.classes_) if y.ndim == 1 else y.shape[1]

    def _validated(
        self, X: Any, y: Any, sample_weight: Any, first: bool, incremental: bool
    ) -> tuple[Any, Array, Array | None]:
        X, y, sample_weight = self._validated_arrays(X, y, sample_weight, first, False)
        if not hasattr(self, "classes_") or (first and not incremental):
            self._set_classes(y)
        else:
            self._check_classes(y, incremental)
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

    def _check_classes(self, y: Any, incremental: bool) -> None:
        """Raise ValueError unless y has the classes of the previous fit, or some in partial_fit."""
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
            raise ValueError(f"y: expected {'rows of zeros and ones' if several else 'labels'} as "
                             f"in the previous fit, got {type_of_target(y)} targets")

    def _class_weights(self, y: Any) -> Array:
        """A weight for each row."""
        if y.ndim == 2 and self.class_weight != "balanced":
            raise ValueError("class_weight: expected 'balanced' or None where a row may have "
                             "several labels; use sample_weight")
        if self.class_weight is None or isinstance(self.class_weight, str):
            balanced: Array = compute_sample_weight(self.class_weight, y)
            return balanced
        unknown = set(self.class_weight) - set(self.classes_.tolist())
        if unknown:
            raise ValueError(f"class_weight: expected only classes of y, {self.classes_}, got also "
                             f"{', '.join(map(repr, unknown))}")
        weights = np.array([
            checks.not_negative(f"class_weight[{label!r}]", self.class_weight.get(label, 1.0))
            for label in self.classes_.tolist()
        ])
        by_row: Array = weights[np.searchsorted(self.classes_, y)]
        return by_row

    def _score_of(self, score: float) -> float:
        return 1.0 if len(self.classes_) == 1 else score  # a single class is always right

    def _loss(self) -> losses.Loss:
        n = self.n_outputs_
        # In scikit-learn's loss no probability is smaller than the dtype's epsilon.
        cap = None if self.label_smoothing else -np.log(np.finfo(self.coefs_[0].dtype).eps)
        if self.out_activation_ == "softmax":
            return losses.SoftmaxCrossEntropy(self.label_smoothing, cap)
        loss = losses.SigmoidCrossEntropy(cap)
        if n == 1:
            return loss
        loss.metric = metrics.SubsetAccuracy
        return losses.Scaled(loss, n, n)  # the sum over the outputs
