"""Fitted models from and for scikit-learn's own classes."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.utils.validation import check_is_fitted

from .parameters import hidden_activations
from .sklearn_private import MLPS, restore_private

if TYPE_CHECKING:
    from ..kernels.types import Array
    from ..network import Sequential

__all__ = ["Convertible"]


class Convertible:
    """Base class of estimators that scikit-learn has too, of the same name."""

    coefs_: list[Array]
    intercepts_: list[Array]
    _activations: tuple[str, ...]

    if TYPE_CHECKING:  # which BaseEstimator and BaseMLP define
        activation: Any

        def get_params(self) -> dict[str, Any]: ...
        def _network(self) -> Sequential: ...

    @classmethod
    def from_sklearn(cls, fitted: Any) -> Self:
        """An estimator with the weights of a fitted one of scikit-learn's.

        Parameters
        ----------
        fitted : sklearn.neural_network.MLPClassifier or MLPRegressor
            Of the same name as this class.

        Returns
        -------
        estimator
            With copies of the parameters and of the attributes that end with ``_``.

        Raises
        ------
        TypeError
            If it is something else.
        sklearn.exceptions.NotFittedError
            If it has not been fitted.

        See Also
        --------
        fastbp.from_sklearn : Takes pipelines too.

        Examples
        --------
        >>> from sklearn import neural_network
        >>> import fastbp as fb
        >>> X, y = np.eye(3), [0.5, 1.5, 2.5]
        >>> fitted = neural_network.MLPRegressor(solver="lbfgs", random_state=0).fit(X, y)
        >>> bool(np.allclose(fb.MLPRegressor.from_sklearn(fitted).predict(X), fitted.predict(X)))
        True
        """
        own = MLPS[_name_of(cls)]
        if not isinstance(fitted, own):
            raise TypeError(f"fitted: expected a fitted {own.__module__.rpartition('.')[0]}."
                            f"{own.__name__}, got {fitted!r}")
        check_is_fitted(fitted, "coefs_")
        model: Any = cls()
        known = model.get_params()
        for name, value in fitted.get_params().items():
            if name in known:
                setattr(model, name, copy.deepcopy(value))
        for name, value in vars(fitted).items():
            if name.endswith("_") and not name.startswith("_"):
                setattr(model, name, copy.deepcopy(value))
        model.coefs_, model.intercepts_ = list(model.coefs_), list(model.intercepts_)
        model._activations = hidden_activations(model.activation, len(model.coefs_) - 1)
        model._built = model._optimizer = model._plateau = None
        if hasattr(fitted, "classes_"):
            model._set_classes(_representative(fitted))
        model._network()  # which checks the arrays
        return model  # type: ignore[no-any-return]

    def to_sklearn(self) -> Any:
        """A fitted estimator of scikit-learn's class of this name, with the same weights.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            With copies of the parameters that it knows and of the attributes that end with ``_``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator has not been fitted.
        ValueError
            If scikit-learn has no such activations, solver or loss; the message says what to do.

        Examples
        --------
        >>> import fastbp as fb
        >>> X, y = np.eye(3), ["u", "v", "u"]
        >>> model = fb.MLPClassifier((4,), solver="lbfgs", random_state=0).fit(X, y)
        >>> model.to_sklearn().predict(X)
        array(['u', 'v', 'u'], dtype='<U1')
        """
        check_is_fitted(self, "coefs_")
        own = MLPS[_name_of(type(self))]
        parameters = self.get_params()
        names = set(self._activations) or {self.activation}
        for name, found, allowed in (
                ("activation", names, {"identity", "logistic", "tanh", "relu"}),
                ("solver", {parameters["solver"]}, {"lbfgs", "sgd", "adam"}),
                ("loss", {parameters.get("loss", "poisson")}, {"squared_error", "poisson"})):
            if len(found) > 1 or not found <= allowed:
                raise ValueError(
                    f"{name}: expected one that scikit-learn has, {', '.join(sorted(allowed))}, "
                    f"got {', '.join(sorted(found))}"
                    + (f"; predictions do not depend on it: model.set_params({name}=…)"
                       if name != "activation" else ""))
        parameters["activation"] = names.pop()
        fitted = own(**{name: copy.deepcopy(value) for name, value in parameters.items()
                        if name in own().get_params() and not callable(value)})
        for name, value in vars(self).items():
            if name.endswith("_") and not name.startswith("_") and name != "history_":
                setattr(fitted, name, copy.deepcopy(value))
        if hasattr(self, "classes_"):
            restore_private(fitted, _representative(self))
        else:
            restore_private(fitted)
        return fitted


def _name_of(cls: type) -> str:
    """The name of scikit-learn's class, also for a subclass of a user's."""
    return next(each.__name__ for each in cls.__mro__ if each.__name__ in MLPS)


def _representative(fitted: Any) -> Array:
    """Targets with all classes."""
    if fitted.out_activation_ == "logistic" and fitted.n_outputs_ > 1:  # several labels a row
        return np.stack([np.zeros(fitted.n_outputs_, int), np.ones(fitted.n_outputs_, int)])
    classes: Array = fitted.classes_
    return classes
