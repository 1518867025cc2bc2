"""Scores for people, gathered batch by batch beside the loss.

A metric is made for the targets it will count, is given batches with `update`, and says
what they come to with `result`.
"""

import numpy as np

from . import kernels
from .kernels import metrics as sums_of

__all__ = ["R2", "Accuracy", "BinaryAccuracy", "RateR2", "SubsetAccuracy"]


class Accuracy:
    """Share of rows whose largest score is at the right label.

    Parameters
    ----------
    targets : ndarray
        All targets that will be counted, as the loss's `targets` returns them.
    sample_weight : ndarray of shape (rows,), optional
    """

    name = "accuracy"
    operation = "accuracy"  # what compiled steps count in its place
    mean = None

    def __init__(self, targets, sample_weight=None):
        self.sums = np.zeros(2)  # right, all

    def update(self, Z, targets, sample_weight=None):
        """Count a batch of scores Z (batch, n_out) and their targets."""
        add = sums_of.add_labels if targets.ndim == 1 else sums_of.add_label_rows
        add(Z, targets, sample_weight, self.sums)

    def result(self):
        """The score of everything counted, NaN if that is nothing."""
        right, total = self.sums
        return float(right / total) if total > 0 else float("nan")


class BinaryAccuracy(Accuracy):
    """Share of outputs on the right side of 0, where each is a yes or no of its own."""

    operation = "signs"
    whole_rows = False

    def update(self, Z, targets, sample_weight=None):
        """Count a batch of scores Z (batch, n_out) and their targets, of the same shape."""
        sums_of.add_sign_rows(Z, targets, sample_weight, self.whole_rows, self.sums)


class SubsetAccuracy(BinaryAccuracy):
    """Share of rows all of whose outputs are on the right side of 0."""

    operation = "rows of signs"
    whole_rows = True


class R2:
    """Coefficient of determination: 1 - Σ(z - y)² / Σ(y - ȳ)², the mean over outputs.

    An output whose targets are all equal scores 1 if it is met exactly and 0 otherwise,
    as in scikit-learn.

    Parameters
    ----------
    targets : ndarray of shape (rows, n_out)
        All targets that will be counted: their mean is taken once, here.
    sample_weight : ndarray of shape (rows,), optional
    """

    name = "r2"
    operation = "r2"

    def __init__(self, targets, sample_weight=None):
        self.mean = np.empty(targets.shape[1])
        sums_of.weighted_mean(targets, sample_weight, self.mean)
        self.sums = np.zeros(2 * targets.shape[1])  # residuals, deviations, by output

    def update(self, Z, targets, sample_weight=None):
        """Count a batch of predictions Z and their targets, both (batch, n_out)."""
        sums_of.add_square_rows(Z, targets, sample_weight, self.mean, self.sums)

    def result(self):
        """The score of everything counted."""
        residual, deviation = np.split(self.sums, 2)
        constant = deviation == 0
        ratio = residual / np.where(constant, 1, deviation)
        return float(np.mean(np.where(constant, residual == 0, 1 - ratio)))


class RateR2(R2):
    """R² of the rates exp(Z), for a network that returns their logarithms Z."""

    operation = "r2 of rates"

    def update(self, Z, targets, sample_weight=None):
        """Count a batch of log-rates Z and their targets, both (batch, n_out)."""
        super().update(kernels.exp(Z), targets, sample_weight)
