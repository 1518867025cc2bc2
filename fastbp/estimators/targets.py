"""Targets as a network takes them: classes as whole numbers, and numbers standardized."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import column_or_1d
from sklearn.utils.multiclass import check_classification_targets

from ..datasets.preprocessing import Standardizer
from ..kernels.losses import check_quantiles
from ..messages import counted, listed
from .table_columns import Column, is_missing

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from ..kernels.types import Array, Doubles, Floats, Labels

__all__ = ["TargetScaler", "checked_quantiles", "encode_classes", "real_targets"]


def encode_classes(y: Any, classes: Array | None = None,
                   argument: str = "y") -> tuple[Labels, Array]:
    """Classes as whole numbers.

    Parameters
    ----------
    y : array_like of shape (rows,)
        Text, booleans, whole numbers or categories.
    classes : ndarray, optional
        The classes of the training rows, for other rows.
    argument : str, default "y"
        What messages call y.

    Returns
    -------
    codes : ndarray of int64
        ``y == classes[codes]``
    classes : ndarray
        Those given, or those of y in ascending order.

    Raises
    ------
    TypeError, ValueError
        If y is not such an array, or classes are missing; if there is only one, or one that is not
        among those given.

    Examples
    --------
    >>> codes, classes = encode_classes(["dog", "cat", "dog"])
    >>> codes, classes
    (array([1, 0, 1]), array(['cat', 'dog'], dtype='<U3'))
    >>> encode_classes(["cat", "cow"], classes)
    Traceback (most recent call last):
        ...
    ValueError: y: expected the classes of the training rows, 'cat', 'dog', got 'cow' too; remove \
such rows, or add some to the training rows
    """
    y = _as_targets(y, argument)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    if y.ndim == 1:
        _check_present(y, argument)
        if y.dtype == object:
            y = np.array(y.tolist())  # of the type that all of them have
        check_classification_targets(y)
    if y.ndim != 1:
        raise ValueError(f"{argument}: expected one class for each row, an array of one dimension, "
                         f"got shape {y.shape}")
    if len(y) == 0:
        raise ValueError(f"{argument}: expected a class for each row, got none")
    found, codes = np.unique(y, return_inverse=True)
    if classes is None:
        if len(found) < 2:
            raise ValueError(f"This classifier needs samples of at least 2 classes in the data, "
                             f"but the data contains only one class: {found.tolist()[0]!r}")
        return codes.astype(np.int64), found
    places = {label: i for i, label in enumerate(classes.tolist())}
    unknown = [str(label) for label in found.tolist() if label not in places]
    if unknown:
        raise ValueError(f"{argument}: expected the classes of the training rows, "
                         f"{listed([str(label) for label in classes.tolist()])}, got "
                         f"{listed(unknown)} too; remove such rows, or add some to the training "
                         f"rows")
    return np.array([places[label] for label in found.tolist()], dtype=np.int64)[codes], classes


class TargetScaler:
    """Shift and scale the targets of a regression to mean 0 and standard deviation 1.

    Parameters
    ----------
    y : array_like of shape (rows,) or (rows, n_outputs)
        Of the training rows.

    Attributes
    ----------
    mean, scale : ndarray of shape (n_outputs,), float64
        As those of `fastbp.datasets.Standardizer`: a constant target's scale is infinite.
    one_dimension : bool
        Whether predictions are of shape (rows,).

    Raises
    ------
    TypeError, ValueError
        If y holds anything but finite numbers, or such that float64 cannot hold their squares.

    Examples
    --------
    >>> scaler = TargetScaler([10.0, 30.0])
    >>> scaler.transform([10.0, 40.0])
    array([[-1.],
           [ 2.]], dtype=float32)
    >>> scaler.inverse([[-1.0], [2.0]])
    array([10., 40.])
    """

    mean: Doubles
    scale: Doubles

    def __init__(self, y: Any) -> None:
        table = real_targets(y)
        self.one_dimension = np.ndim(y) == 1 or table.shape[1] == 1
        names = ["y"] if table.shape[1] == 1 else [f"{i} of y" for i in range(table.shape[1])]
        self._standardizer = Standardizer(table, names)
        self.mean, self.scale = self._standardizer.mean, self._standardizer.scale

    @classmethod
    def restored(cls, mean: Any, scale: Any, one_dimension: bool) -> TargetScaler:
        """A scaler of these means and scales.

        Parameters
        ----------
        mean, scale : array_like of shape (n_outputs,)
        one_dimension : bool
            Whether predictions are of shape (rows,).

        Returns
        -------
        TargetScaler
        """
        scaler = cls(np.zeros((1, len(mean))))
        scaler.mean, scaler.scale = np.array(mean, np.float64), np.array(scale, np.float64)
        scaler._standardizer.mean, scaler._standardizer.scale = scaler.mean, scaler.scale
        scaler.one_dimension = one_dimension
        return scaler

    def transform(self, y: Any, dtype: DTypeLike = "float32") -> Floats:
        """Standardize targets, those of other rows included.

        Parameters
        ----------
        y : array_like of shape (rows,) or (rows, n_outputs)
        dtype : {"float32", "float64"}, default "float32"

        Returns
        -------
        ndarray of shape (rows, n_outputs)

        Raises
        ------
        TypeError, ValueError
            If y holds anything but finite numbers, or has another number of outputs.

        Examples
        --------
        >>> TargetScaler([10.0, 30.0]).transform([20.0])
        array([[0.]], dtype=float32)
        """
        table = real_targets(y)
        if table.shape[1] != len(self.mean):
            raise ValueError(f"y: expected {counted(len(self.mean), 'output')} as in training, got "
                             f"{table.shape[1]}")
        standardized: Floats = self._standardizer(table).astype(dtype)
        return standardized

    def inverse(self, Z: Any) -> Doubles:
        """Predictions in the units of the targets.

        Parameters
        ----------
        Z : array_like of shape (rows, n_outputs)

        Returns
        -------
        ndarray of shape (rows,), or (rows, n_outputs) for several outputs, float64

        Examples
        --------
        >>> TargetScaler([[0.0, 5.0], [2.0, 5.0]]).inverse([[1.0, 1.0]])
        array([[2., 5.]])
        """
        scale = np.where(np.isinf(self.scale), 0.0, self.scale)
        y: Doubles = np.asarray(Z, dtype=np.float64) * scale + self.mean
        return y[:, 0] if self.one_dimension else y

    def inverse_quantiles(self, Z: Any) -> Doubles:
        """Predictions of several quantiles of one target in its units, in ascending order.

        Sorting a row never makes the pinball loss larger.

        Parameters
        ----------
        Z : array_like of shape (rows, n_quantiles)

        Returns
        -------
        ndarray of shape (rows,), or (rows, n_quantiles) for several quantiles, float64

        References
        ----------
        V. Chernozhukov, I. Fernández-Val, A. Galichon, "Quantile and probability curves without
        crossing", Econometrica 78, 2010.

        Examples
        --------
        >>> TargetScaler([10.0, 30.0]).inverse_quantiles([[0.5, 0.0, 1.0]])
        array([[20., 25., 30.]])
        """
        table = np.asarray(Z)
        y = np.sort(self.inverse(table.reshape(-1, 1)).reshape(table.shape), axis=1)
        return y[:, 0] if y.shape[1] == 1 else y


def checked_quantiles(quantiles: Any, scoring: Any,
                      y: Array) -> float | tuple[float, ...] | None:
    """The quantiles that a regressor predicts.

    Parameters
    ----------
    quantiles : float, sequence of float or None
    scoring : str, callable or None
        Names are those of scores of a single prediction.
    y : ndarray of shape (rows, outputs)

    Returns
    -------
    float, tuple of float or None
        As they were given.

    Raises
    ------
    TypeError, ValueError
        If they are not numbers between 0 and 1 in ascending order, `scoring` cannot be of several
        of them, or there are several outputs.

    Examples
    --------
    >>> checked_quantiles([0.5, 0.1], None, np.zeros((3, 1)))
    Traceback (most recent call last):
        ...
    ValueError: quantiles: expected numbers in ascending order, got 0.1 after 0.5
    """
    if quantiles is None:
        return None
    checked: float | tuple[float, ...] = check_quantiles("quantiles", quantiles)
    several = checked if isinstance(checked, tuple) else (checked,)
    for low, high in pairwise(several):
        if low >= high:
            raise ValueError(f"quantiles: expected numbers in ascending order, got {high} after "
                             f"{low}")
    if y.shape[1] > 1:
        raise ValueError(f"y: expected one dimension with quantiles, got {y.shape[1]} outputs; "
                         f"fit a regressor for each")
    if isinstance(scoring, str) and len(several) > 1:
        raise ValueError(f"scoring: expected None with several quantiles, which is their pinball "
                         f"loss, or a function (estimator, X, y), got {scoring!r}")
    return checked


def real_targets(y: Any, argument: str = "y") -> Doubles:
    """The targets of a regression as numbers.

    Parameters
    ----------
    y : array_like of shape (rows,) or (rows, n_outputs)
    argument : str, default "y"
        What messages call it.

    Returns
    -------
    ndarray of shape (rows, n_outputs), float64

    Raises
    ------
    TypeError, ValueError
        If y holds anything but finite numbers.

    Examples
    --------
    >>> real_targets([1, 2])
    array([[1.],
           [2.]])
    """
    array = _as_targets(y, argument)
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"{argument}: expected numbers of shape (rows,) or (rows, outputs), got "
                         f"shape {array.shape}")
    table = array.reshape(len(array), -1)
    columns = []
    for i in range(table.shape[1]):
        name = argument if array.ndim == 1 else f"{argument}, column {i}"
        _check_present(table[:, i], name)
        columns.append(_numbers(table[:, i], name))
    return np.column_stack(columns)


def _as_targets(y: Any, argument: str) -> Array:
    if y is None:
        raise ValueError("requires y to be passed, but the target y is None")
    if hasattr(y, "toarray") and hasattr(y, "nnz"):
        raise TypeError(f"Sparse data was passed for {argument}, but dense data is required. Use "
                        f"{argument}.toarray() to convert it to a dense array.")
    array = np.asarray(y)
    if array.dtype.kind in "US" and not hasattr(y, "dtype"):
        array = np.array(y, dtype=object)  # None and NaN are not text
    return array


def _check_present(y: Array, name: str) -> None:
    """Raise ValueError if targets are missing."""
    if y.dtype.kind in "fcmM":
        missing = np.isnat(y) if y.dtype.kind in "mM" else np.isnan(y)
    elif y.dtype.kind == "O":
        missing = np.array([is_missing(cell) for cell in y], dtype=bool)
    else:
        return
    rows = np.flatnonzero(missing)
    if len(rows):
        raise ValueError(f"Input {name} contains NaN: {counted(len(rows), 'missing value')} in "
                         f"{len(y)} rows, the first in row {rows[0]}; remove such rows from "
                         f"features and targets")


def _numbers(y: Array, name: str) -> Doubles:
    if y.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{name} holds complex numbers")
    cells = y.tolist() if y.dtype.kind in "OUS" else y
    if isinstance(cells, list):
        text = next((row for row, cell in enumerate(cells) if isinstance(cell, str | bytes)), None)
        if text is not None:
            raise ValueError(f"{name}: expected numbers, got {cells[text]!r} in row {text}; "
                             f"convert them, as with y.astype(float)")
    return Column(name, cells).numbers()
