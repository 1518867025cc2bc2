"""Scores against scikit-learn's, however the rows are cut into batches."""

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

from fastbp.metrics import R2, Accuracy, BinaryAccuracy, RateR2, SubsetAccuracy

from .cases import each


def score(metric, Z, y, weights=None, batch=3):
    counted = metric(y, weights)
    for start in range(0, len(Z), batch):
        rows = slice(start, start + batch)
        counted.update(Z[rows], y[rows], None if weights is None else weights[rows])
    return counted.result()


cases = given(
    n=st.integers(2, 20), columns=st.integers(1, 4), batch=st.integers(1, 25),
    weighted=st.booleans(), seed=st.integers(0, 10**6),
)


def numbers(n, columns, weighted, seed):
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 4, n).astype(float) if weighted else None
    if weighted:
        weights[0] = 1
    return rng, rng.normal(size=(n, columns)), weights


@cases
def test_accuracy(n, columns, batch, weighted, seed):
    rng, Z, weights = numbers(n, columns, weighted, seed)
    y = rng.integers(0, columns, n)
    expected = sklearn.metrics.accuracy_score(y, Z.argmax(axis=1), sample_weight=weights)
    assert score(Accuracy, Z, y, weights, batch) == pytest.approx(expected, rel=1e-14)
    assert score(Accuracy, Z, np.eye(columns)[y], weights, batch) == pytest.approx(expected)


@each("dtype", [np.float32, np.float64])
@given(n=st.integers(1, 150), columns=st.integers(1, 40), seed=st.integers(0, 10**6))
def test_accuracy_of_ties_and_nan_is_that_of_argmax(dtype, n, columns, seed):
    rng = np.random.default_rng(seed)
    Z = rng.choice([-np.inf, -1, -0.0, 0, 2, np.inf, np.nan], (n, columns)).astype(dtype)
    y = rng.integers(0, columns, n)
    assert score(Accuracy, Z, y, batch=n) == np.mean(Z.argmax(axis=1) == y)


@pytest.mark.parametrize("label", [-1, 3, 10**12])
def test_a_label_that_is_none_counts_as_wrong(label):
    Z = np.array([[0.0, 0, 5], [1, 2, 3], [3, 2, 1]])
    assert score(Accuracy, Z, np.array([2, label, 0])) == 2 / 3


@cases
def test_binary_accuracy(n, columns, batch, weighted, seed):
    rng, Z, weights = numbers(n, columns, weighted, seed)
    Y = rng.integers(0, 2, (n, columns)).astype(float)
    expected = np.mean([
        sklearn.metrics.accuracy_score(Y[:, j], Z[:, j] > 0, sample_weight=weights)
        for j in range(columns)
    ])
    assert score(BinaryAccuracy, Z, Y, weights, batch) == pytest.approx(expected, rel=1e-13)


@cases
def test_subset_accuracy(n, columns, batch, weighted, seed):
    """As scikit-learn's accuracy of indicator matrices: a row counts only as a whole."""
    rng, Z, weights = numbers(n, columns, weighted, seed)
    Y = rng.integers(0, 2, (n, columns)).astype(float)
    rows = rng.random(n) < 0.6
    Y[rows] = Z[rows] > 0
    if columns == 1:
        expected = sklearn.metrics.accuracy_score(Y[:, 0], Z[:, 0] > 0, sample_weight=weights)
    else:
        expected = sklearn.metrics.accuracy_score(Y, Z > 0, sample_weight=weights)
    assert score(SubsetAccuracy, Z, Y, weights, batch) == pytest.approx(expected, rel=1e-14)


def test_subset_accuracy_at_0_and_of_nan():
    """A score of 0 or NaN says no, and a target of 1/2 is one."""
    Z = np.array([[0.0, 1], [0, 1], [np.nan, 1], [np.nan, 1]])
    Y = np.array([[0.0, 1], [1, 1], [0.5, 0.6], [0.6, 1]])
    assert score(SubsetAccuracy, Z, Y) == 0.5
    assert score(BinaryAccuracy, Z, Y) == 0.75
    assert np.isnan(score(SubsetAccuracy, Z, Y, np.zeros(4)))


@cases
def test_rate_r2(n, columns, batch, weighted, seed):
    rng, Z, weights = numbers(n, columns, weighted, seed)
    Y = np.exp(Z) + rng.normal(size=Z.shape)
    if weighted:
        weights += 1
    expected = sklearn.metrics.r2_score(Y, np.exp(Z), sample_weight=weights)
    assert score(RateR2, Z, Y, weights, batch) == pytest.approx(expected, rel=1e-9)


def test_rate_r2_leaves_the_scores_alone(dtype):
    Z = np.zeros((4, 2), dtype)
    assert score(RateR2, Z, np.ones((4, 2), dtype)) == 1
    assert not Z.any()


@cases
def test_r2(n, columns, batch, weighted, seed):
    rng, Z, weights = numbers(n, columns, weighted, seed)
    Y = Z + rng.normal(size=Z.shape) + 100
    if weighted:
        weights += 1  # one row of weight alone has no spread
    expected = sklearn.metrics.r2_score(Y, Z, sample_weight=weights)
    assert score(R2, Z, Y, weights, batch) == pytest.approx(expected, rel=1e-9)


@each("value", [0.0, 0.5, 0.1, 1 / 3, 1e4 + 0.1])
@each("n", [1, 2, 3, 10])
def test_r2_of_a_constant_target(dtype, value, n):
    """As in scikit-learn: 1 if it is met exactly, 0 otherwise."""
    Y = np.full((n, 1), value, dtype)
    assert score(R2, Y, Y) == 1
    assert score(R2, Y + 1, Y) == 0
    weights = np.linspace(0.1, 0.7, n, dtype=dtype)
    assert score(R2, Y, Y, weights) == 1
    assert score(R2, Y + 1, Y, weights) == 0


def test_r2_is_the_mean_over_outputs():
    Y = np.array([[0.0, 5], [2, 5], [4, 5]])
    Z = np.array([[0.0, 5], [2, 5], [2, 5]])
    assert score(R2, Z, Y) == pytest.approx((0.5 + 1) / 2)


def test_r2_of_no_rows():
    with pytest.raises(ValueError, match="at least one row"):
        R2(np.empty((0, 2)))
