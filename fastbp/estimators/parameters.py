"""What the parameters of the estimators may be, and decorators of their methods."""

from __future__ import annotations

import functools
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from sklearn.utils.metaestimators import available_if

from .. import layers, training
from ..kernels import checks
from .sklearn_private import MLP_CONSTRAINTS, Interval, Options, StrOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .base import BaseMLP

__all__ = ["ACTIVATIONS", "CONSTRAINTS", "OUTPUT_ACTIVATIONS", "checked_parameter",
           "hidden_activations", "hidden_sizes", "in_all_processes", "with_stochastic_solvers"]

Method = TypeVar("Method", bound="Callable[..., Any]")

# Layers by the names of activations: scikit-learn's names, and fastbp's of all others.
ACTIVATIONS: dict[str, Callable[[], layers.Layer] | None] = {
    "identity": None,
    "logistic": layers.ACTIVATIONS["sigmoid"],
    **{name: layer for name, layer in layers.ACTIVATIONS.items() if name != "sigmoid"},
}

# What `Sequential.predict` calls scikit-learn's activations of the outputs.
OUTPUT_ACTIVATIONS = {
    "identity": None, "logistic": "sigmoid", "softmax": "softmax", "exp": "exp",
}

# In scikit-learn's form: for each parameter, what it accepts.
CONSTRAINTS: dict[str, Any] = {
    **MLP_CONSTRAINTS,
    "activation": [StrOptions(set(ACTIVATIONS)), tuple, list],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"})],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), callable],
    "dropout": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
    "monitor": [StrOptions({"score", "loss"})],
    "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64}), None],
    "precision": [StrOptions(set(checks.PRECISIONS))],
    "n_threads": [Interval(Integral, 1, None, closed="left"), None],
    "callbacks": [list, tuple, None],
}

# Parameters that are floats.  They are checked here too, since scikit-learn's constraints accept
# integers that are too large for a float.  Other numbers are counts.
FLOATS = {
    "alpha": checks.not_negative, "learning_rate_init": checks.positive,
    "power_t": checks.not_negative, "tol": checks.not_negative, "beta_1": checks.fraction,
    "beta_2": checks.fraction, "epsilon": checks.positive, "dropout": checks.fraction,
    "weight_decay": checks.not_negative, "clip_norm": checks.positive,
    "label_smoothing": checks.fraction, "huber_delta": checks.positive,
}


def checked_parameter(name: str, value: Any) -> Any:
    """The value of a numeric parameter as a Python number.

    Parameters
    ----------
    name : str
    value : float, int or None

    Returns
    -------
    float, int or None
        None where `value` is.

    Raises
    ------
    TypeError, ValueError
        If it is not a finite number in the parameter's range.

    Examples
    --------
    >>> checked_parameter("alpha", np.float32(0.5)), checked_parameter("max_iter", np.int8(5))
    (0.5, 5)
    """
    if value is None:
        return None
    if name in FLOATS:
        return FLOATS[name](name, value)
    return value if name == "n_iter_no_change" and value == np.inf else _count(name, value)


def hidden_sizes(hidden_layer_sizes: Any) -> list[int]:
    """The columns of each hidden layer.

    Parameters
    ----------
    hidden_layer_sizes : int or array_like of int

    Returns
    -------
    list of int

    Raises
    ------
    TypeError, ValueError
        If one is not an integer of at least 1.

    Examples
    --------
    >>> hidden_sizes(100), hidden_sizes(np.array([8, 4]))
    ([100], [8, 4])
    """
    sizes = list(hidden_layer_sizes) if np.iterable(hidden_layer_sizes) else [hidden_layer_sizes]
    return [_count(f"hidden_layer_sizes[{i}]", size) for i, size in enumerate(sizes)]


def hidden_activations(activation: str | Sequence[str], n_hidden: int) -> tuple[str, ...]:
    """The name of each hidden layer's activation.

    Parameters
    ----------
    activation : str or sequence of str
        One name for all hidden layers, or one for each.
    n_hidden : int
        How many hidden layers there are.

    Returns
    -------
    tuple of str

    Raises
    ------
    ValueError
        If a name is unknown, or there are not `n_hidden` names.

    Examples
    --------
    >>> hidden_activations("tanh", 2)
    ('tanh', 'tanh')
    """
    if isinstance(activation, str):
        return (activation,) * n_hidden
    if len(activation) != n_hidden:
        raise ValueError(f"activation: expected a name, or one name for each hidden layer "
                         f"({n_hidden}), got {len(activation)}")
    for name in activation:
        if not (isinstance(name, str) and name in ACTIVATIONS):
            raise ValueError(f"activation: expected names among {', '.join(ACTIVATIONS)}, got "
                             f"{name!r}")
    return tuple(activation)


def with_stochastic_solvers(method: Method) -> Method:
    """Decorate `partial_fit` so that estimators with ``solver="lbfgs"`` have no such method.

    Parameters
    ----------
    method : function

    Returns
    -------
    descriptor
        For other solvers, the method.

    Examples
    --------
    >>> import fastbp as fb
    >>> hasattr(fb.MLPRegressor(), "partial_fit")
    True
    >>> hasattr(fb.MLPRegressor(solver="lbfgs"), "partial_fit")
    False
    """
    available: Method = available_if(_check_stochastic)(method)
    return available


def in_all_processes(method: Method) -> Method:
    """Decorate `fit` so that what one process raises is raised by all that train together.

    Parameters
    ----------
    method : function
        Its keyword `communicator` is an MPI communicator or None; the method gets, instead of a
        communicator, what `fastbp.training.together` yields.

    Returns
    -------
    function

    Examples
    --------
    >>> class Estimator:
    ...     @in_all_processes
    ...     def fit(self, X, *, communicator=None):
    ...         return communicator
    >>> Estimator().fit([[0.0]]) is None
    True
    """
    @functools.wraps(method)
    def wrapped(self: Any, *arguments: Any, communicator: Any = None, **keywords: Any) -> Any:
        if communicator is None:
            return method(self, *arguments, **keywords)
        with training.together(communicator) as processes:
            return method(self, *arguments, communicator=processes, **keywords)

    found: Any = wrapped
    return found  # type: ignore[no-any-return]


def _check_stochastic(estimator: BaseMLP) -> bool:
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is only available for stochastic solvers: sgd, adam "
                             "and adamw; lbfgs is not stochastic")
    return True


def _count(name: str, value: Any) -> int:
    """An integer of at least 1; True counts as 1, as in scikit-learn."""
    return checks.integer(name, int(value) if isinstance(value, bool | np.bool_) else value, 1)
