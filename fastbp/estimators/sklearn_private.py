"""The parts of scikit-learn that fastbp uses although they are private there.

Tested with scikit-learn 1.7.2 and 1.9.1.  Everything else that `fastbp.estimators` imports from
scikit-learn is documented in its API reference.  If a new version of scikit-learn breaks the
estimators, look here first; when it is tested, add it above.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from sklearn.base import _fit_context
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import Interval, Options, StrOptions
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

__all__ = ["MLPS", "MLP_CONSTRAINTS", "Interval", "Options", "StrOptions",
           "check_feature_names_in", "check_sample_weight", "restore_private",
           "validates_parameters"]

Method = TypeVar("Method", bound=Callable[..., Any])

# What its own estimators accept, by the names of their parameters.  A subclass of `BaseEstimator`
# states the same of its parameters in the class attribute `_parameter_constraints`.
MLP_CONSTRAINTS: dict[str, Any] = MLPClassifier._parameter_constraints

# Its multilayer perceptrons by their names, which are those of fastbp's too.
MLPS: dict[str, Any] = {"MLPClassifier": MLPClassifier, "MLPRegressor": MLPRegressor}

check_sample_weight: Callable[..., Any] = _check_sample_weight

# The names of X's columns, for `get_feature_names_out`.
check_feature_names_in: Callable[..., Any] = _check_feature_names_in


def restore_private(fitted: Any, y: Any = None) -> None:
    """Set what its multilayer perceptrons keep in private attributes after a fit.

    Parameters
    ----------
    fitted : MLPClassifier or MLPRegressor
        Of scikit-learn, with the attributes that are not private.
    y : array_like, optional
        Targets with all classes, for a classifier.
    """
    fitted._no_improvement_count = 0
    if y is not None:
        fitted._label_binarizer = LabelBinarizer().fit(y)


def validates_parameters(method: Method) -> Method:
    """Decorate `fit` or `partial_fit` to check the parameters by `_parameter_constraints` first.

    Parameters
    ----------
    method : function

    Returns
    -------
    function
        It raises `sklearn.utils._param_validation.InvalidParameterError`, a ValueError and
        TypeError, unless scikit-learn's ``skip_parameter_validation`` is set.

    Examples
    --------
    >>> from sklearn.base import BaseEstimator
    >>> class Estimator(BaseEstimator):
    ...     _parameter_constraints = {"alpha": [float]}
    ...     def __init__(self, alpha=1.0):
    ...         self.alpha = alpha
    ...     @validates_parameters
    ...     def fit(self, X, y):
    ...         return self
    >>> Estimator(alpha="1").fit([[0.0]], [0])
    Traceback (most recent call last):
        ...
    sklearn.utils._param_validation.InvalidParameterError: The 'alpha' parameter of Estimator \
must be an instance of 'float'. Got '1' instead.
    """
    decorated: Method = _fit_context(prefer_skip_nested_validation=True)(method)
    return decorated
