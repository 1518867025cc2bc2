"""The arguments of the estimators' constructors and of fit, and what messages call them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.model_selection import train_test_split

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.random import RandomState

    from ..kernels.types import Array

__all__ = ["renamed", "set_parameters", "split_rows", "validation_arguments"]


def set_parameters(estimator: Any, arguments: Mapping[str, Any]) -> None:
    """Keep the arguments of an estimator's constructor as attributes, as scikit-learn asks.

    Parameters
    ----------
    estimator : BaseEstimator
    arguments : dict
        The local variables of the constructor.

    Examples
    --------
    >>> class Estimator:
    ...     def __init__(self, alpha=1.0):
    ...         set_parameters(self, locals())
    >>> Estimator().alpha
    1.0
    """
    for name, value in arguments.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def validation_arguments(
    X_val: Any, y_val: Any, sample_weight_val: Any
) -> tuple[Any, Any, Any] | None:
    """The three arguments of `fit` that are the validation data, or None without any.

    Raises
    ------
    ValueError
        If some of them are missing.

    Examples
    --------
    >>> validation_arguments(None, None, None)
    >>> validation_arguments([[1.0]], None, None)
    Traceback (most recent call last):
        ...
    ValueError: X_val and y_val: expected both or neither, got only X_val
    """
    if X_val is None and y_val is None:
        if sample_weight_val is not None:
            raise ValueError("sample_weight_val: expected None without X_val and y_val")
        return None
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val: expected both or neither, got only "
                         f"{'y_val' if X_val is None else 'X_val'}")
    return X_val, y_val, sample_weight_val


def split_rows(
    X: Any, y: Array, sample_weight: Array | None, *, fraction: float, random_state: RandomState,
    stratify: Array | None,
) -> tuple[Any, Array, Array | None, tuple[Any, Array, Array | None]]:
    """Set rows aside for validation, drawn as scikit-learn draws them.

    Parameters
    ----------
    X : ndarray or sparse array of shape (rows, n_features)
    y : ndarray of shape (rows,) or (rows, n_outputs)
    sample_weight : ndarray of shape (rows,) or None
    fraction : float in [0, 1)
        Of the rows to set aside.
    random_state : RandomState
    stratify : ndarray of shape (rows,) or (rows, 1), or None
        Labels whose shares are the same on both sides.

    Returns
    -------
    X, y, sample_weight
        The rows to train on.
    validation : tuple
        X, y and sample_weight of the rows that were set aside.

    Raises
    ------
    ValueError
        If there are too few rows.

    Examples
    --------
    >>> X = np.arange(10.0).reshape(5, 2)
    >>> X, y, weights, (X_val, y_val, weights_val) = split_rows(
    ...     X, np.arange(5), None, fraction=0.4, random_state=np.random.RandomState(0),
    ...     stratify=None)
    >>> y, y_val
    (array([1, 3, 4]), array([2, 0]))
    """
    try:
        kept, aside = train_test_split(np.arange(X.shape[0]), random_state=random_state,
                                       test_size=fraction, stratify=stratify)
    except ValueError as error:  # which is about test_size
        raise type(error)(f"validation_fraction: {error}") from None
    if len(aside) < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or "
                         "the size of your dataset.")
    weights = (None, None) if sample_weight is None else (
        sample_weight[kept], sample_weight[aside])
    return X[kept], y[kept], weights[0], (X[aside], y[aside], weights[1])


def renamed(message: str, sample_weight: Any, validation: tuple[Any, Any, Any] | None) -> str:
    """A message of `Sequential.fit` with the names that arguments have in the estimators' fit.

    Parameters
    ----------
    message : str
    sample_weight : array_like or None
        As it was passed to the estimator's `fit`.
    validation : tuple or None
        From `validation_arguments`.

    Returns
    -------
    str

    Examples
    --------
    >>> renamed("validation_data X: expected 3 columns", None, ([[1.0]], [0], None))
    'X_val: expected 3 columns'
    """
    weights = "class_weight" if sample_weight is None else "sample_weight"
    if validation is None:
        names = {name: f"{name}, of the rows set aside" for name in ("X", "y", weights)}
    else:
        weights_val = "class_weight" if validation[2] is None else "sample_weight_val"
        names = {"X": "X_val", "y": "y_val", weights: weights_val}
    replacements = {
        "^sample_weight(?=:)": weights,
        "^validation_data X(?=[:.])": names["X"],
        "^validation_data y(?=:)": names["y"],
        "^validation_data sample_weight(?=:)": names[weights],
        "give fit validation_data or validation_fraction$":
            "set early_stopping=True, or give fit X_val and y_val",
    }
    for pattern, name in replacements.items():
        message = re.sub(pattern, name, message)
    return message
