"""Metrics: scores that are reported beside the loss, summed up batch by batch.

A metric is a class.  It is called with all targets that will be counted; `update` adds a batch, and
`result` gives the score.

Examples
--------
>>> import numpy as np
>>> from fastbp import metrics
>>> y = np.array([0, 1, 1])
>>> accuracy = metrics.Accuracy(y)
>>> accuracy.update(np.array([[2.0, 1.0], [0.0, 3.0]]), y[:2])
>>> accuracy.update(np.array([[5.0, 4.0]]), y[2:])
>>> round(accuracy.result(), 3)
0.667
"""

from __future__ import annotations

from typing import ClassVar, Protocol

import numpy as np

from . import kernels
from .kernels import metrics as sums_of
from .kernels.types import Array, Doubles, Floats

__all__ = ["R2", "Accuracy", "BinaryAccuracy", "RateR2", "SubsetAccuracy"]


class Metric(Protocol):
    """What a loss's `metric` has to be; write your own as a class like `Accuracy`.

    Parameters
    ----------
    targets : ndarray
        All targets that will be counted, as `Loss.targets` returns them.
    sample_weight : ndarray of shape (rows,), optional

    Attributes
    ----------
    name : str
        The key of the score in the history and in the results of `evaluate`.

    Examples
    --------
    >>> import fastbp as fb
    >>> class MaxError:
    ...     name = "max_error"
    ...
    ...     def __init__(self, targets, sample_weight=None):
    ...         self.largest = 0.0
    ...
    ...     def update(self, Z, targets, sample_weight=None):
    ...         self.largest = max(self.largest, float(abs(Z - targets).max()))
    ...
    ...     def result(self):
    ...         return self.largest
    ...
    >>> class SquaredError(fb.MeanSquaredError):
    ...     metric = MaxError
    ...
    >>> net = fb.Sequential([fb.PReLU(1)])
    >>> net.evaluate([[1], [2]], [[1], [5]], loss=SquaredError())
    {'loss': 4.5, 'max_error': 3.0}
    """

    name: str

    def __init__(self, targets: Array, sample_weight: Floats | None = None) -> None: ...

    def update(self, Z: Floats, targets: Array, sample_weight: Floats | None = None) -> None:
        """Add a batch of outputs Z (batch, n_out) and their targets."""

    def result(self) -> float:
        """The score of all batches."""
        ...


class Accuracy:
    """Share of rows whose largest score is that of the right label.

    Parameters
    ----------
    targets : ndarray
        All targets that will be counted, as `Loss.targets` returns them.
    sample_weight : ndarray of shape (rows,), optional

    Examples
    --------
    >>> from fastbp import metrics
    >>> y = np.array([0, 1, 1, 1])
    >>> accuracy = metrics.Accuracy(y)
    >>> accuracy.update(np.array([[2.0, 1.0], [0.0, 3.0], [0.0, 1.0], [5.0, 4.0]]), y)
    >>> accuracy.result()
    0.75
    """

    name = "accuracy"
    operation: ClassVar[str] = "accuracy"  # what compiled steps compute instead
    mean: Doubles | None = None

    def __init__(self, targets: Array, sample_weight: Floats | None = None) -> None:
        self.sums = np.zeros(2)  # right, all

    def update(self, Z: Floats, targets: Array, sample_weight: Floats | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        Z : ndarray of shape (batch, n_out)
            Scores.
        targets : ndarray of shape (batch,) or (batch, n_out)
            Labels, or rows of probabilities, of which the largest counts.
        sample_weight : ndarray of shape (batch,), optional
        """
        add = sums_of.add_labels if targets.ndim == 1 else sums_of.add_label_rows
        add(Z, targets, sample_weight, self.sums)

    def result(self) -> float:
        """The score of all batches; NaN if there were none."""
        right, total = self.sums
        return float(right / total) if total > 0 else float("nan")


class BinaryAccuracy(Accuracy):
    """Share of outputs on the right side of 0, each being a yes or no of its own.

    Examples
    --------
    >>> from fastbp import metrics
    >>> y = np.array([[0.0, 1.0], [1.0, 1.0]])
    >>> accuracy = metrics.BinaryAccuracy(y)
    >>> accuracy.update(np.array([[-1.0, 2.0], [3.0, -2.0]]), y)
    >>> accuracy.result()
    0.75
    """

    operation = "signs"
    whole_rows: ClassVar[bool] = False

    def update(self, Z: Floats, targets: Array, sample_weight: Floats | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        Z : ndarray of shape (batch, n_out)
            Scores.
        targets : ndarray of shape (batch, n_out)
            Numbers from 0 to 1; those above 0.5 mean yes.
        sample_weight : ndarray of shape (batch,), optional
        """
        sums_of.add_sign_rows(Z, targets, sample_weight, self.whole_rows, self.sums)


class SubsetAccuracy(BinaryAccuracy):
    """Share of rows whose outputs are all on the right side of 0.

    Examples
    --------
    >>> from fastbp import metrics
    >>> y = np.array([[0.0, 1.0], [1.0, 1.0]])
    >>> accuracy = metrics.SubsetAccuracy(y)
    >>> accuracy.update(np.array([[-1.0, 2.0], [3.0, -2.0]]), y)
    >>> accuracy.result()
    0.5
    """

    operation = "rows of signs"
    whole_rows = True


class R2:
    """Coefficient of determination: 1 - Σ(z - y)² / Σ(y - ȳ)², averaged over the outputs.

    As in scikit-learn, an output whose targets are all equal scores 1 if they are predicted
    exactly, and 0 otherwise.

    Parameters
    ----------
    targets : ndarray of shape (rows, n_out)
        All targets that will be counted: ȳ is their mean.
    sample_weight : ndarray of shape (rows,), optional

    Examples
    --------
    >>> from fastbp import metrics
    >>> y = np.array([[1.0], [2.0], [3.0]])
    >>> r2 = metrics.R2(y)
    >>> r2.update(np.array([[1.0], [2.0], [2.0]]), y)
    >>> r2.result()
    0.5
    """

    name = "r2"
    operation: ClassVar[str] = "r2"  # what compiled steps compute instead

    def __init__(self, targets: Floats, sample_weight: Floats | None = None) -> None:
        self.mean = np.empty(targets.shape[1])
        sums_of.weighted_mean(targets, sample_weight, self.mean)
        self.sums = np.zeros(2 * targets.shape[1])  # residuals, deviations, by output

    def update(self, Z: Floats, targets: Floats, sample_weight: Floats | None = None) -> None:
        """Add a batch.

        Parameters
        ----------
        Z : ndarray of shape (batch, n_out)
            Predictions.
        targets : ndarray of shape (batch, n_out)
        sample_weight : ndarray of shape (batch,), optional
        """
        sums_of.add_square_rows(Z, targets, sample_weight, self.mean, self.sums)

    def result(self) -> float:
        """The score of all batches."""
        residual, deviation = np.split(self.sums, 2)
        constant = deviation == 0
        ratio = residual / np.where(constant, 1, deviation)
        return float(np.mean(np.where(constant, residual == 0, 1 - ratio)))


class RateR2(R2):
    """R² of the rates exp(Z), for a network whose outputs Z are their logarithms.

    Examples
    --------
    >>> from fastbp import metrics
    >>> y = np.array([[1.0], [2.0], [3.0]])
    >>> r2 = metrics.RateR2(y)
    >>> r2.update(np.log([[1.0], [2.0], [2.0]]), y)
    >>> round(r2.result(), 6)
    0.5
    """

    operation = "r2 of rates"

    def update(self, Z: Floats, targets: Floats, sample_weight: Floats | None = None) -> None:
        """`R2.update`, for Z that are logarithms of rates."""
        super().update(kernels.exp(Z), targets, sample_weight)
