"""Scores for people, gathered batch by batch beside the loss."""

import numpy as np

__all__ = ["R2", "Accuracy"]


def _weights(sample_weight, n):
    return np.ones(n) if sample_weight is None else np.asarray(sample_weight, np.float64)


class Accuracy:
    """Share of rows whose largest score is at the right label."""

    name = "accuracy"

    def __init__(self, targets, sample_weight=None):
        self.right = self.total = 0.0

    def update(self, Z, targets, sample_weight=None):
        """Count a batch: scores Z (batch, n_out) and what the loss's `targets` made of y."""
        right = self.right_rows(Z, targets)
        if sample_weight is None:
            self.right += float(right.sum())
            self.total += len(Z)
        else:
            weights = _weights(sample_weight, len(Z))
            self.right += float((weights * right).sum())
            self.total += float(weights.sum())

    def right_rows(self, Z, targets):
        """How far each row is right, from 0 to 1."""
        labels = targets if targets.ndim == 1 else targets.argmax(axis=1)
        return Z.argmax(axis=1) == labels

    def result(self):
        """The accuracy of everything counted, NaN if that is nothing."""
        return self.right / self.total if self.total > 0 else float("nan")


class BinaryAccuracy(Accuracy):
    """Share of outputs on the right side of 0, where each is a yes or no of its own."""

    def right_rows(self, Z, targets):
        return ((Z > 0) == (targets > 0.5)).mean(axis=1)


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

    def __init__(self, targets, sample_weight=None):
        weights = _weights(sample_weight, len(targets))
        total = weights.sum()
        self.mean = weights @ targets / total if total > 0 else np.zeros(targets.shape[1])
        self.residual = np.zeros(targets.shape[1])
        self.spread = np.zeros(targets.shape[1])

    def update(self, Z, targets, sample_weight=None):
        """Count a batch: predictions Z and targets, both (batch, n_out)."""
        weights = _weights(sample_weight, len(Z))
        targets = targets.astype(np.float64)
        self.spread += weights @ (targets - self.mean) ** 2
        with np.errstate(over="ignore", invalid="ignore"):  # while a training diverges
            self.residual += weights @ (Z - targets) ** 2

    def result(self):
        """The score of everything counted."""
        constant = self.spread == 0
        ratio = self.residual / np.where(constant, 1, self.spread)
        return float(np.mean(np.where(constant, self.residual == 0, 1 - ratio)))
