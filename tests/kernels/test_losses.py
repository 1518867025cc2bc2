"""Losses and their gradients: by hand, closed forms in float64, and central differences."""

import math
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from fastbp.kernels import (
    huber,
    mean_absolute_error,
    mean_squared_error,
    pinball_loss,
    poisson_deviance,
    sigmoid_cross_entropy,
    softmax,
    softmax_cross_entropy,
)

from ..cases import each

LEAST_GRADIENT = {"float32": 2.0**-100, "float64": 2.0**-960}

# Each row's own loss, and the loss's slope in each output before the mean over the batch.


def softmax_rows(Z, T):
    rows = special.logsumexp(Z, axis=1) - (T * Z).sum(axis=1)
    return rows, special.softmax(Z, axis=1) - T


def sigmoid_rows(Z, Y):
    rows = -(special.xlogy(Y, special.expit(Z)) + special.xlogy(1 - Y, special.expit(-Z)))
    return rows.mean(axis=1), (special.expit(Z) - Y) / Z.shape[1]


def squared_rows(Z, Y):
    return ((Z - Y) ** 2).mean(axis=1), 2 * (Z - Y) / Z.shape[1]


def absolute_rows(Z, Y):
    return abs(Z - Y).mean(axis=1), np.sign(Z - Y) / Z.shape[1]


def huber_rows(Z, Y, delta=1.0):
    return (special.huber(delta, Z - Y).mean(axis=1),
            np.clip(Z - Y, -delta, delta) / Z.shape[1])


def poisson_rows(Z, Y):
    with np.errstate(over="ignore"):
        rates = np.exp(Z)
    return (rates - Y - Y * Z + special.xlogy(Y, Y)).mean(axis=1), (rates - Y) / Z.shape[1]


def pinball_rows(Z, Y, quantiles=0.5):
    q, r = np.array(quantiles), Y - Z
    slopes = np.where(r < 0, 1 - q, -q) * (r != 0)
    return np.maximum(q * r, (q - 1) * r).mean(axis=1), slopes / Z.shape[1]


ROWS = {
    softmax_cross_entropy: softmax_rows,
    sigmoid_cross_entropy: sigmoid_rows,
    mean_squared_error: squared_rows,
    mean_absolute_error: absolute_rows,
    huber: huber_rows,
    poisson_deviance: poisson_rows,
    pinball_loss: pinball_rows,
}
LOSSES = list(ROWS)
ROW_MEANS = LOSSES[1:]


def name(loss):
    return loss.__name__


def truth(loss, Z, Y, weights=None, **options):
    """The loss and its gradient in float64, by the formula."""
    rows, slopes = ROWS[loss](Z.astype(np.float64), Y.astype(np.float64), **options)
    w = np.ones(len(Z)) if weights is None else weights.astype(np.float64)
    return (w * rows).sum() / w.sum(), w[:, None] * slopes / w.sum()


def example(shape, dtype, seed=0, spread=2.0):
    """Outputs, targets that suit every loss, and weights."""
    rng = np.random.default_rng(seed)
    Y = rng.random(shape) + 0.01
    Y = (Y / Y.sum(axis=1, keepdims=True)).astype(dtype)
    return rng.normal(0, spread, shape).astype(dtype), Y, rng.random(shape[0]).astype(dtype)


def onehot(y, classes, smoothing=0.0):
    return (1 - smoothing) * np.eye(classes)[np.asarray(y, int)] + smoothing / classes


class TestByHand:
    def test_softmax(self, dtype):
        Z = np.log([[1.0, 3.0], [4.0, 4.0]]).astype(dtype)  # p is (1/4, 3/4) and (1/2, 1/2)
        eps = float(np.finfo(dtype).eps)
        value, dZ = softmax_cross_entropy(Z, [0, 1])
        assert value == pytest.approx((math.log(4) + math.log(2)) / 2, rel=4 * eps)
        np.testing.assert_allclose(dZ, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=4 * eps)

        value, dZ = softmax_cross_entropy(Z[:1], [1], label_smoothing=0.2)  # T is (0.1, 0.9)
        assert value == pytest.approx(math.log(4) - 0.9 * math.log(3), rel=8 * eps)
        np.testing.assert_allclose(dZ, [[0.15, -0.15]], rtol=8 * eps)

        value, dZ = softmax_cross_entropy(Z[:1], np.array([[0.5, 0.5]], dtype))
        assert value == pytest.approx(math.log(4) - 0.5 * math.log(3), rel=4 * eps)
        np.testing.assert_allclose(dZ, [[-1 / 4, 1 / 4]], rtol=4 * eps)

    def test_sigmoid(self, dtype):
        Z = np.array([[0.0, math.log(3)]], dtype)  # p is 1/2 and 3/4
        value, dZ = sigmoid_cross_entropy(Z, np.array([[1, 0]], dtype))
        eps = float(np.finfo(dtype).eps)
        assert value == pytest.approx((math.log(2) + math.log(4)) / 2, rel=4 * eps)
        np.testing.assert_allclose(dZ, [[-1 / 4, 3 / 8]], rtol=4 * eps)

    Z = np.array([[1.0, 2.0], [3.0, -5.0]])

    def test_squared(self, dtype):
        value, dZ = mean_squared_error(self.Z.astype(dtype), np.ones((2, 2), dtype))
        assert value == (0 + 1 + 4 + 36) / 4
        assert dZ.tolist() == [[0.0, 0.5], [1.0, -3.0]]

    def test_absolute(self, dtype):
        value, dZ = mean_absolute_error(self.Z.astype(dtype), np.ones((2, 2), dtype))
        assert value == (0 + 1 + 2 + 6) / 4
        assert dZ.tolist() == [[0.0, 0.25], [0.25, -0.25]]

    def test_huber(self, dtype):
        value, dZ = huber(self.Z.astype(dtype), np.ones((2, 2), dtype), delta=2.0)
        assert value == (0 + 0.5 + 2 + 2 * (6 - 1)) / 4
        assert dZ.tolist() == [[0.0, 0.25], [0.5, -0.5]]
        value, dZ = huber(self.Z.astype(dtype), np.ones((2, 2), dtype))
        assert value == (0 + 0.5 + 1.5 + 5.5) / 4
        assert dZ.tolist() == [[0.0, 0.25], [0.25, -0.25]]

    def test_pinball(self, dtype):
        Z, q = self.Z.astype(dtype), [0.25, 0.875]
        value, dZ = pinball_loss(Z, np.ones((2, 2), dtype), quantiles=q)
        assert value == (0 + 0.125 + 0.75 * 2 + 0.875 * 6) / 4
        assert dZ.tolist() == [[0.0, 0.125 / 4], [0.75 / 4, -0.875 / 4]]
        value, dZ = pinball_loss(Z, np.ones((2, 2), dtype), quantiles=0.25)
        assert value == (0 + 0.75 + 0.75 * 2 + 0.25 * 6) / 4
        assert dZ.tolist() == [[0.0, 0.75 / 4], [0.75 / 4, -0.25 / 4]]

    def test_weights(self, dtype):
        weights = np.array([1, 3], dtype)
        value, dZ = mean_squared_error(self.Z.astype(dtype), np.ones((2, 2), dtype), weights)
        assert value == (1 * 0.5 + 3 * 20) / 4
        assert dZ.tolist() == [[0.0, 0.25], [1.5, -4.5]]


class TestFormula:
    @each("loss", LOSSES, ids=name)
    @each("shape", [(1, 1), (1, 10), (7, 3), (2, 257), (50, 16), (13, 17)])
    @each("weighted", [False, True], ids=["unweighted", "weighted"])
    def test_value_and_gradient(self, loss, shape, weighted, dtype):
        Z, Y, weights = example(shape, dtype)
        weights = weights if weighted else None
        value, dZ = loss(Z, Y, weights)
        true_value, true_dZ = truth(loss, Z, Y, weights)
        eps = float(np.finfo(dtype).eps)
        assert type(value) is float
        assert dZ.dtype == dtype
        assert dZ.shape == shape
        # A probability has a rounding error of its own: hence the absolute tolerance.
        assert value == pytest.approx(true_value, rel=20 * eps, abs=20 * eps)
        np.testing.assert_allclose(dZ, true_dZ, rtol=10 * eps, atol=10 * eps / shape[0])

    @each("delta", [0.01, 0.5, 1.0, 3.0, 1e6])
    def test_huber_delta(self, delta, dtype):
        Z, Y, weights = example((9, 5), dtype)
        value, dZ = huber(Z, Y, weights, delta=delta)
        true_value, true_dZ = truth(huber, Z, Y, weights, delta=delta)
        assert value == pytest.approx(true_value, rel=20 * float(np.finfo(dtype).eps))
        np.testing.assert_allclose(dZ, true_dZ, rtol=10 * float(np.finfo(dtype).eps))

    @each("n", [1, 3, 16, 21, 40])
    @each("weighted", [False, True], ids=["unweighted", "weighted"])
    def test_quantiles(self, n, weighted, dtype, metrics):
        Z, Y, weights = example((9, n), dtype)
        quantiles = np.random.default_rng(n).uniform(0.01, 0.99, n).tolist()
        weights = weights if weighted else None
        value, dZ = pinball_loss(Z, Y, weights, quantiles=quantiles)
        true_value, true_dZ = truth(pinball_loss, Z, Y, weights, quantiles=quantiles)
        eps = float(np.finfo(dtype).eps)
        assert value == pytest.approx(true_value, rel=20 * eps)
        np.testing.assert_allclose(dZ, true_dZ, rtol=60 * eps)
        by_column = [metrics.mean_pinball_loss(Y[:, j], Z[:, j], sample_weight=weights,
                                               alpha=quantiles[j]) for j in range(n)]
        assert value == pytest.approx(np.mean(by_column), rel=20 * eps)

    @each("n", [1, 3, 16, 37])
    def test_quantiles_have_the_same_bits_in_every_tier(self, n, dtype, same_in_every_tier):
        Z, Y, weights = example((9, n), dtype)
        Y[::2, 0] = Z[::2, 0]
        quantiles = np.linspace(0.05, 0.9, n)
        same_in_every_tier(lambda: pinball_loss(Z, Y, weights, quantiles=quantiles))

    @given(
        n=st.integers(1, 20), rows=st.integers(1, 40), weighted=st.booleans(),
        by_label=st.booleans(), smoothing=st.sampled_from([0.0, 0.3]),
        rare=st.lists(st.tuples(st.integers(0, 39), st.integers(0, 19), st.sampled_from(
            [0.0, -0.0, math.inf, -math.inf, math.nan, 1e30, -1e-40])), max_size=4),
    )
    def test_softmax_has_the_same_bits_in_every_tier(self, n, rows, weighted, by_label, smoothing,
                                                     rare, dtype, same_in_every_tier):
        rng = np.random.default_rng(n * rows)
        Z = (3 * rng.normal(size=(rows, n))).astype(dtype)
        for i, j, value in rare:
            Z[i % rows, j % n] = value
        Y, y = rng.dirichlet(np.ones(n), rows).astype(dtype), rng.integers(n, size=rows)
        y = y if by_label else Y
        weights = rng.integers(0, 3, rows).astype(dtype) if weighted else None
        options = {"label_smoothing": smoothing, "cap": 5.0}
        same_in_every_tier(lambda: softmax_cross_entropy(Z, y, weights, **options))

    def test_central_differences_of_quantiles(self):
        Z, Y, weights = example((3, 4), np.float64, seed=3)
        options, h = {"sample_weight": weights, "quantiles": [0.1, 0.3, 0.5, 0.95]}, 1e-5
        _, dZ = pinball_loss(Z, Y, **options)
        for place in np.ndindex(Z.shape):
            nudge = np.zeros_like(Z)
            nudge[place] = h
            above, below = (pinball_loss(Z + move, Y, **options)[0] for move in (nudge, -nudge))
            assert dZ[place] == pytest.approx((above - below) / (2 * h), abs=1e-9)

    @each("smoothing", [0.0, 0.1, 0.5, 0.999])
    @each("classes", [1, 2, 3, 10, 33])
    def test_labels_and_smoothing(self, smoothing, classes, dtype):
        Z, Y, weights = example((8, classes), dtype)
        y = np.random.default_rng(1).integers(classes, size=8)
        eps = float(np.finfo(dtype).eps)
        for given_y, T in (
            (y, onehot(y, classes, smoothing)),
            (onehot(y, classes).astype(dtype), onehot(y, classes, smoothing)),
            (Y, (1 - smoothing) * Y.astype(np.float64) + smoothing / classes),
        ):
            value, dZ = softmax_cross_entropy(Z, given_y, weights, label_smoothing=smoothing)
            true_value, true_dZ = truth(softmax_cross_entropy, Z, T, weights)
            assert value == pytest.approx(true_value, rel=20 * eps, abs=20 * eps)
            np.testing.assert_allclose(dZ, true_dZ, rtol=10 * eps, atol=10 * eps / 8)

    @each("loss", LOSSES, ids=name)
    @each("weighted", [False, True], ids=["unweighted", "weighted"])
    def test_central_differences(self, loss, weighted):
        Z, Y, weights = example((3, 4), np.float64, seed=3)
        weights, h = weights if weighted else None, 1e-5
        residual = abs(Z - Y)
        assert residual.min() > h  # none at a corner, of either kind
        assert abs(residual - 1).min() > h
        _, dZ = loss(Z, Y, weights)
        for place in np.ndindex(Z.shape):
            nudge = np.zeros_like(Z)
            nudge[place] = h
            slope = (loss(Z + nudge, Y, weights)[0] - loss(Z - nudge, Y, weights)[0]) / (2 * h)
            assert dZ[place] == pytest.approx(slope, abs=1e-9)

    @pytest.mark.parametrize("smoothing", [0.0, 0.3])
    def test_central_differences_with_labels(self, smoothing):
        Z, _, weights = example((3, 4), np.float64)
        y, h = [3, 0, 2], 1e-5
        _, dZ = softmax_cross_entropy(Z, y, weights, label_smoothing=smoothing)
        for place in np.ndindex(Z.shape):
            nudge = np.zeros_like(Z)
            nudge[place] = h
            above, below = (
                softmax_cross_entropy(moved, y, weights, label_smoothing=smoothing)[0]
                for moved in (Z + nudge, Z - nudge)
            )
            assert dZ[place] == pytest.approx((above - below) / (2 * h), abs=1e-9)

    def test_scikit_learn_agrees(self, metrics):
        Z, Y, weights = example((40, 5), np.float64)
        y = np.random.default_rng(1).integers(5, size=40)
        y[:5] = range(5)
        assert softmax_cross_entropy(Z, y, weights)[0] == pytest.approx(
            metrics.log_loss(y, softmax(Z), sample_weight=weights), rel=1e-12
        )
        binary = (y > 2).astype(float)
        assert sigmoid_cross_entropy(Z[:, :1], binary, weights)[0] == pytest.approx(
            metrics.log_loss(binary, special.expit(Z[:, 0]), sample_weight=weights), rel=1e-12
        )
        for loss, metric in ((mean_squared_error, metrics.mean_squared_error),
                             (mean_absolute_error, metrics.mean_absolute_error)):
            assert loss(Z, Y, weights)[0] == pytest.approx(
                metric(Y, Z, sample_weight=weights), rel=1e-12
            )

    def test_two_classes_are_a_sigmoid(self):
        Z, _, weights = example((20, 2), np.float64)
        y = np.random.default_rng(1).integers(2, size=20)
        value, dZ = softmax_cross_entropy(Z, y, weights)
        difference = Z[:, 1:] - Z[:, :1]
        other, d = sigmoid_cross_entropy(difference, y.astype(float), weights)
        assert value == pytest.approx(other, rel=1e-13)
        np.testing.assert_allclose(dZ, np.hstack([-d, d]), rtol=1e-11, atol=1e-16)

    def test_batch_is_summed_in_float64(self):
        # In float32 the sum of 100 000 rows would be off by 1e-6 and more.
        Z = np.random.default_rng(0).random((100_000, 1)).astype(np.float32)
        value, _ = mean_absolute_error(Z, np.zeros_like(Z))
        assert value == pytest.approx(math.fsum(Z[:, 0].tolist()) / len(Z), rel=1e-12)

    @each("n", [1, 15, 16, 17, 33, 100])
    def test_promised_bits_of_a_row(self, n, dtype):
        # Element j is added in lane j % 16, and the lanes as a tree.
        Z = np.ldexp(1, np.random.default_rng(n).integers(-30, 1, size=(1, n))).astype(dtype)
        lanes = np.zeros(16, dtype)
        for j in range(n):
            lanes[j % 16] += Z[0, j]
        while lanes.size > 1:
            lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
        assert mean_absolute_error(Z, np.zeros_like(Z))[0] == float(lanes[0]) / n

    @given(batch=st.integers(1, 20), n=st.integers(1, 40), seed=st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_any_shape(self, dtype, batch, n, seed):
        Z, Y, weights = example((batch, n), dtype, seed, spread=15)
        eps = float(np.finfo(dtype).eps)
        for loss in LOSSES:
            value, dZ = loss(Z, Y, weights)
            true_value, true_dZ = truth(loss, Z, Y, weights)
            assert value == pytest.approx(true_value, rel=50 * eps, abs=50 * eps), name(loss)
            # The difference of two scores is rounded before it is an exponent.
            np.testing.assert_allclose(dZ, true_dZ, rtol=100 * eps, atol=20 * eps)


class TestAccuracyNearZero:
    """A loss close to 0 is small for any reason, and is still right to the last digits."""

    @each("z", [0.5, 3.0, 10.0, 15.0, 30.0, 60.0])
    def test_sigmoid_of_either_class(self, z, dtype):
        Z, eps = np.array([[z]], dtype), float(np.finfo(dtype).eps)
        true = math.log1p(math.exp(-z))
        for scores, target in ((-Z, 0), (Z, 1)):
            value, dZ = sigmoid_cross_entropy(scores, np.array([[target]], dtype))
            assert value == pytest.approx(true, rel=8 * eps, abs=0), f"target {target}"
            # 1 - p is rounded as a number near 1 is.
            error = abs(abs(dZ[0, 0]) - special.expit(-z))
            assert error <= (2 if target else special.expit(-z)) * 2 * eps

    @each("size", [1e4, 1e30])
    def test_large_scores(self, size, dtype):
        Z = np.array([[size, -size], [size, -size]], dtype)
        value, dZ = softmax_cross_entropy(Z[:1], [0])
        assert value == 0
        assert dZ.tolist() == [[0, 0]]
        value, dZ = softmax_cross_entropy(Z, [0, 1])
        assert value == pytest.approx(size)
        assert dZ.tolist() == [[0, 0], [0.5, -0.5]]
        value, dZ = softmax_cross_entropy(Z[:, ::-1], [0, 1])
        assert value == pytest.approx(size)
        assert dZ.tolist() == [[-0.5, 0.5], [0, 0]]
        value, dZ = sigmoid_cross_entropy(Z, np.array([[1, 0], [0, 1]], dtype))
        assert value == pytest.approx(size / 2)
        assert dZ.tolist() == [[0, 0], [0.25, -0.25]]

    def test_residuals_as_large_as_a_square_can_be(self, dtype):
        size = math.sqrt(float(np.finfo(dtype).max)) / 4
        Z, Y = np.array([[size, -size]], dtype), np.zeros((1, 2), dtype)
        assert mean_squared_error(Z, Y)[0] == pytest.approx(size**2)
        assert mean_absolute_error(Z, Y)[0] == pytest.approx(size)
        value, dZ = huber(Z, Y, delta=0.5)
        assert value == pytest.approx(0.5 * size)
        assert dZ.tolist() == [[0.25, -0.25]]

    def test_a_class_ruled_out_by_minus_infinity(self, dtype):
        Z = np.array([[0.0, -np.inf, 0.0]], dtype)
        value, dZ = softmax_cross_entropy(Z, [0])
        assert value == pytest.approx(math.log(2))
        assert dZ.tolist() == [[-0.5, 0.0, 0.5]]
        assert softmax_cross_entropy(Z, [1])[0] == np.inf

    @each("loss", LOSSES, ids=name)
    def test_nan_shows_and_spoils_no_other_row(self, loss, dtype):
        Z, Y, _ = example((3, 20), dtype)
        for j in (0, 7, 19):
            spoilt = Z.copy()
            spoilt[1, j] = np.nan
            value, dZ = loss(spoilt, Y)
            assert math.isnan(value)
            assert np.isnan(dZ[1, j])
            np.testing.assert_array_equal(dZ[[0, 2]], loss(Z, Y)[1][[0, 2]])


class TestCap:
    """Terms count `cap` at most in the loss, and the gradient is what it was."""

    def test_rows_of_softmax(self, dtype, same_bits):
        Z = np.array([[0, 9, 0], [0, 0, 0], [np.nan, 0, 0]], dtype)
        y = np.array([0, 1, 2])
        value, dZ = softmax_cross_entropy(Z[:2], y[:2], cap=2.5)
        assert value == pytest.approx((2.5 + np.log(3)) / 2, rel=1e-6)
        same_bits(dZ, softmax_cross_entropy(Z[:2], y[:2])[1])
        assert np.isnan(softmax_cross_entropy(Z, y, cap=2.5)[0])

    def test_elements_of_sigmoid(self, dtype, same_bits):
        rng = np.random.default_rng(0)
        Z, Y = (10 * rng.normal(size=(7, 33))).astype(dtype), rng.integers(0, 2, (7, 33))
        value, dZ = sigmoid_cross_entropy(Z, Y.astype(dtype), cap=3.0)
        terms = np.logaddexp(0, np.where(Y, -Z, Z).astype("f8"))
        assert value == pytest.approx(np.minimum(terms, 3).mean(), rel=1e-5)
        assert (terms > 3).any()
        same_bits(dZ, sigmoid_cross_entropy(Z, Y.astype(dtype))[1])

    @each("bad", [0, -1, np.nan, "1", [1]])
    def test_no_cap(self, bad):
        for loss in (softmax_cross_entropy, sigmoid_cross_entropy):
            with pytest.raises((TypeError, ValueError), match=r"^cap: expected"):
                loss(np.ones((1, 1)), np.ones((1, 1)), cap=bad)


class TestPoisson:
    """Beyond what `TestFormula` asks of every loss."""

    @pytest.mark.parametrize("weighted", [False, True], ids=["unweighted", "weighted"])
    def test_scikit_learn_agrees(self, weighted, metrics):
        rng = np.random.default_rng(0)
        Z, Y = rng.normal(1, 1.5, (60, 1)), rng.poisson(3, (60, 1)).astype(float)
        Y[::7] = 0
        weights = rng.random(60) if weighted else None
        expected = metrics.mean_poisson_deviance(Y[:, 0], np.exp(Z[:, 0]), sample_weight=weights)
        assert poisson_deviance(Z, Y, weights)[0] == pytest.approx(expected / 2, rel=1e-13)

    def test_worked_by_hand(self, dtype):
        # Rates of 2 for counts of 0, 2 and 1: 2, 0 and 2 - 1 - log 2.
        Z = np.full((1, 3), math.log(2), dtype)
        value, dZ = poisson_deviance(Z, np.array([[0, 2, 1]], dtype))
        eps = float(np.finfo(dtype).eps)
        assert value == pytest.approx((3 - math.log(2)) / 3, rel=8 * eps)
        np.testing.assert_allclose(dZ, [[2 / 3, 0, 1 / 3]], rtol=8 * eps, atol=eps)

    @each("z", [-1e4, -50.0, -1.0, 0.0, 3.0, 40.0])
    def test_a_count_of_0_costs_its_rate(self, z, dtype):
        value, dZ = poisson_deviance(np.array([[z]], dtype), np.zeros((1, 1), dtype))
        true = math.exp(z) if z > np.log(LEAST_GRADIENT[dtype.name]) else 0
        eps = float(np.finfo(dtype).eps)
        assert value == pytest.approx(true, rel=4 * eps, abs=0)
        assert dZ[0, 0] == pytest.approx(true, rel=4 * eps, abs=0)

    @each("n", [1, 5, 16, 19])
    def test_the_rest_of_a_vector_costs_nothing(self, n, dtype):
        assert poisson_deviance(np.full((2, n), -1e4, dtype), np.zeros((2, n), dtype))[0] == 0

    @each("y", [0, 1e-3, 5, 1e30])
    @each("z", [1e3, 1e30])
    def test_huge_rates_are_infinite(self, z, y, dtype):
        value, dZ = poisson_deviance(np.array([[0, z]], dtype), np.array([[0, y]], dtype))
        assert value == np.inf
        assert dZ.tolist() == [[0.5, np.inf]]

    def test_the_smallest_counts(self, dtype):
        info = np.finfo(dtype)
        for y in (info.smallest_subnormal, info.smallest_normal, dtype.type(1e-30)):
            value, dZ = poisson_deviance(np.zeros((1, 1), dtype), np.full((1, 1), y))
            assert (value, dZ.tolist()) == (1, [[1]])

    @each("y", [3.0, 1e3, 1e6])
    def test_close_to_the_counts(self, y, dtype):
        """Nothing is left but the rounding of numbers as large as y·z."""
        z = dtype.type(math.log(y) + 1e-2)
        value, dZ = poisson_deviance(np.full((1, 1), z), np.full((1, 1), y, dtype))
        off = float(z) - math.log(y)
        bound = 4 * float(np.finfo(dtype).eps) * y * math.log(y)
        assert abs(value - y * (math.expm1(off) - off)) <= bound
        assert abs(dZ[0, 0] - y * math.expm1(off)) <= bound

    @each("bad", [-1.0, -1e-30, np.nan, -np.inf])
    def test_counts_are_not_negative(self, bad, dtype):
        Z, Y, _ = example((4, 3), dtype)
        Y[2, 1] = bad
        with pytest.raises(ValueError, match=r"^y: expected .*at least 0.* in row 2, column 1"):
            poisson_deviance(Z, Y)


class TestWeights:
    @each("loss", LOSSES, ids=name)
    def test_equal_weights_change_nothing(self, loss, dtype, same_bits):
        Z, Y, _ = example((6, 3), dtype)
        plain = loss(Z, Y)
        for weight in (1.0, 4.0, 0.125):
            value, dZ = loss(Z, Y, np.full(6, weight, dtype))
            assert value == pytest.approx(plain[0], rel=1e-14)
            np.testing.assert_allclose(dZ, plain[1], rtol=2 * float(np.finfo(dtype).eps))
        same_bits(loss(Z, Y, np.ones(6, dtype))[1], plain[1])

    @each("loss", LOSSES, ids=name)
    def test_a_weight_of_2_is_the_row_twice(self, loss):
        Z, Y, _ = example((4, 3), np.float64)
        value, dZ = loss(Z, Y, np.array([1.0, 2.0, 1.0, 0.0]))
        again, d = loss(Z[[0, 1, 1, 2]], Y[[0, 1, 1, 2]])
        assert value == pytest.approx(again, rel=1e-14)
        np.testing.assert_allclose(dZ[:3], [d[0], d[1] + d[2], d[3]], rtol=1e-14)
        assert not dZ[3].any()

    @each("loss", LOSSES, ids=name)
    def test_no_weight_at_all(self, loss, dtype, same_bits):
        Z, Y, _ = example((4, 3), dtype)
        value, dZ = loss(Z, Y, np.zeros(4, dtype))
        assert value == 0
        same_bits(dZ, np.zeros((4, 3), dtype))

    @each("loss", LOSSES, ids=name)
    @each("spoilt", [np.nan, np.inf, -np.inf])
    def test_a_row_of_weight_0_is_left_out_of_the_value(self, loss, spoilt, dtype):
        Z, Y, _ = example((4, 3), dtype)
        expected, _ = loss(Z[:3], Y[:3])
        Z[3] = spoilt
        value, _ = loss(Z, Y, np.array([1, 1, 1, 0], dtype))
        assert value == pytest.approx(expected, rel=1e-14)

    @each("loss", LOSSES, ids=name)
    @each("spoilt", [np.nan, np.inf, -np.inf])
    def test_a_row_of_weight_0_has_gradient_0(self, loss, spoilt, dtype):
        Z, Y, _ = example((4, 3), dtype)
        Z[3] = spoilt
        _, dZ = loss(Z, Y, np.array([1, 1, 1, 0], dtype))
        assert dZ[3].tolist() == [0, 0, 0]

    @each("loss", [mean_squared_error, mean_absolute_error, huber], ids=name)
    def test_missing_targets_can_be_weighted_away(self, loss, dtype):
        Z, Y, _ = example((4, 3), dtype)
        expected, d = loss(Z[:3], Y[:3])
        Y[3] = np.nan
        value, dZ = loss(Z, Y, np.array([1, 1, 1, 0], dtype))
        assert value == pytest.approx(expected, rel=1e-14)
        np.testing.assert_allclose(dZ, [*d, [0, 0, 0]], rtol=1e-6)

    @each("loss", LOSSES, ids=name)
    @each("bad", [-1.0, -1e-30, np.nan, np.inf, -np.inf])
    def test_bad_weights(self, loss, bad, dtype):
        Z, Y, weights = example((4, 3), dtype)
        weights[2] = bad
        with pytest.raises(ValueError, match=r"^sample_weight: expected .* in row 2"):
            loss(Z, Y, weights)

    @each("loss", LOSSES, ids=name)
    @each("shape", [(3,), (5,), (4, 1), (1,), ()])
    def test_weights_of_another_shape(self, loss, shape):
        Z, Y, _ = example((4, 3), np.float64)
        with pytest.raises(ValueError, match=r"^sample_weight: expected"):
            loss(Z, Y, np.ones(shape))

    @each("loss", LOSSES, ids=name)
    def test_by_name(self, loss, same_bits):
        Z, Y, weights = example((4, 3), np.float64)
        same_bits(loss(Z=Z, y=Y, sample_weight=weights)[1], loss(Z, Y, weights)[1])


class TestGradient:
    @each("loss", LOSSES, ids=name)
    def test_in_place_has_the_same_bits(self, loss, dtype, same_bits):
        Z, Y, weights = example((5, 19), dtype)
        for arguments in ((Y,), (Y, weights)):
            value, dZ = loss(Z, *arguments)
            room = Z.copy()
            again, result = loss(room, *arguments, out=room)
            assert result is room
            assert again == value
            same_bits(result, dZ)

    @each("smoothing", [0.0, 0.1])
    def test_in_place_with_labels(self, smoothing, dtype, same_bits):
        Z, _, weights = example((5, 19), dtype)
        y = np.array([0, 18, 7, 7, 16])
        value, dZ = softmax_cross_entropy(Z, y, weights, label_smoothing=smoothing)
        again, result = softmax_cross_entropy(Z, y, weights, label_smoothing=smoothing, out=Z)
        assert again == value
        same_bits(result, dZ)

    @each("loss", LOSSES, ids=name)
    def test_tiny_gradients_become_zero(self, loss, dtype):
        least = LEAST_GRADIENT[dtype.name]
        Z, Y, _ = example((2, 3), dtype)
        weights = np.array([1, 2**-90], dtype) if dtype == "f4" else np.array([1, 2.0**-950])
        dZ = loss(Z * 2**-9, Y, weights)[1]
        assert dZ.any(axis=1).tolist() == [True, True]
        for factor in (2.0**-9, 2.0**-14):
            dZ = loss(Z, Y, weights * np.array([1, factor], dtype))[1]
            assert ((dZ == 0) | (abs(dZ) >= least)).all()
        assert not dZ[1].any()

    def test_absolute_and_huber_at_their_corners(self, dtype):
        Z = np.array([[0.0, -0.0, 0.5, -0.5]], dtype)
        assert mean_absolute_error(Z, Z)[1].tolist() == [[0, 0, 0, 0]]
        _, dZ = huber(Z, np.zeros_like(Z), delta=0.5)
        assert dZ.tolist() == [[0, 0, 0.125, -0.125]]

    def test_pinball_at_its_corner_and_far_out(self, dtype):
        Z = np.array([[0.0, -0.0, 2.0]], dtype)
        value, dZ = pinball_loss(Z, Z, quantiles=[0.1, 0.5, 0.9])
        assert (value, dZ.tolist()) == (0, [[0, 0, 0]])
        largest = np.finfo(dtype).max
        value, dZ = pinball_loss(np.array([[largest, -largest]]), np.zeros((1, 2), dtype),
                                 quantiles=[0.75, 0.25])
        assert (value, dZ.tolist()) == (largest / 4, [[0.125, -0.125]])

    def test_softmax_gradients_of_a_row_add_up_to_zero(self, dtype):
        Z, Y, weights = example((10, 12), dtype)
        _, dZ = softmax_cross_entropy(Z, Y, weights)
        assert abs(dZ.sum(axis=1, dtype=np.float64)).max() <= 10 * float(np.finfo(dtype).eps)

    @each("loss", LOSSES, ids=name)
    def test_rows_have_the_same_bits_in_any_batch(self, loss, dtype, same_bits):
        Z, Y, _ = example((8, 21), dtype)
        whole = loss(Z, Y)[1]
        for i in range(8):  # a power of 2 of rows, so that the scale is exact
            same_bits(loss(Z[i : i + 1], Y[i : i + 1])[1] / 8, whole[i : i + 1])


class TestLabels:
    Z = np.random.default_rng(0).normal(size=(4, 3))
    y = np.array([2, 0, 1, 2])

    @each("kind", ["i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", ">i4", ">i8",
                   "f2", "f4", "f8", ">f4", "g"])
    def test_any_integer_type_and_whole_floats(self, kind, dtype, same_bits):
        Z = self.Z.astype(dtype)
        value, dZ = softmax_cross_entropy(Z, self.y)
        again, d = softmax_cross_entropy(Z, self.y.astype(kind))
        assert again == value
        same_bits(d, dZ)

    def test_booleans(self, same_bits):
        y = np.array([True, False, False, True])
        same_bits(softmax_cross_entropy(self.Z, y)[1], softmax_cross_entropy(self.Z, y * 1)[1])

    def test_more_classes_than_the_labels_type_can_count(self):
        Z = np.zeros((2, 300))
        for kind in (np.uint8, np.int8, bool):
            _, dZ = softmax_cross_entropy(Z, np.array([1, 0], kind))
            assert (dZ < 0).nonzero()[1].tolist() == [1, 0]

    def test_lists_strides_and_read_only(self, same_bits):
        dZ = softmax_cross_entropy(self.Z, self.y)[1]
        strided = np.repeat(self.y, 2)[::2]
        frozen = self.y.copy()
        frozen.flags.writeable = False
        for y in (self.y.tolist(), strided, self.y[::-1].copy()[::-1], frozen):
            same_bits(softmax_cross_entropy(self.Z, y)[1], dZ)

    def test_labels_are_not_changed(self):
        y = self.y.copy()
        softmax_cross_entropy(self.Z, y)
        np.testing.assert_array_equal(y, self.y)

    def test_first_and_last_label(self):
        assert softmax_cross_entropy(self.Z, [0, 0, 0, 2])[1][3, 2] < 0

    @each(
        "bad", [-1, 3, 2**31, -(2**63), 2**63, 2**64 - 1, 0.5, 2.0000001, -0.5, np.nan, np.inf,
                -np.inf, 1e300]
    )
    def test_bad_labels(self, bad):
        kind = np.float64 if isinstance(bad, float) else np.uint64 if bad > 0 else np.int64
        y = self.y.astype(kind)
        y[1] = bad
        with pytest.raises(ValueError, match=r"^y: expected labels .* from 0 to 2, .* in row 1"):
            softmax_cross_entropy(self.Z, y)

    @each("shape", [(3,), (5,), (1,), ()])
    def test_wrong_number_of_labels(self, shape):
        with pytest.raises((ValueError, TypeError), match=r"^y: expected"):
            softmax_cross_entropy(self.Z, np.zeros(shape, int))

    @each(
        "bad, error",
        [(["a", "b", "c", "a"], TypeError), (np.array([0, 1, 2, 0], object), TypeError),
         (np.array([0j, 1, 2, 0]), TypeError), (np.zeros(4, "M8[s]"), TypeError), (None, TypeError),
         ([[0], [1, 2], [0], [0]], ValueError)],
    )
    def test_no_numbers(self, bad, error):
        with pytest.raises(error, match=r"\by\b"):
            softmax_cross_entropy(self.Z, bad)

    def test_gradient_must_not_be_written_over_the_labels(self):
        # Rows' labels would be read after they are overwritten: in a process of its own,
        # since that can be a place outside the array.
        code = """
            import numpy as np
            from fastbp.kernels import softmax_cross_entropy
            memory = np.zeros(4)
            labels = memory.view(np.int64)[:2]
            try:
                softmax_cross_entropy(np.zeros((2, 2)), labels, out=memory.reshape(2, 2))
            except ValueError as error:
                print(error)
        """
        command = [sys.executable, "-c", textwrap.dedent(code)]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stderr
        assert run.stdout.startswith("out overlaps y")


class TestTargets:
    @each(
        "row", [[0.5, 0.6, 0.0], [0.2, 0.2, 0.2], [-0.1, 0.6, 0.5], [np.nan, 0.5, 0.5],
                [np.inf, 0.0, 0.0], [np.inf, -np.inf, 1.0], [0.0, 0.0, 0.0], [1e30, 0, 0],
                [3e38, 3e38, 0]]
    )
    def test_bad_probabilities(self, row, dtype):
        Z, Y, _ = example((4, 3), dtype)
        if dtype == np.float64 and row[0] == 3e38:
            row = [1e308, 1e308, 0]
        Y[2] = row
        with pytest.raises(ValueError, match=r"^y: expected rows of probabilities .* in row 2"):
            softmax_cross_entropy(Z, Y)

    def test_probabilities_may_be_rounded(self, dtype):
        Y = np.array([[0.333, 0.333, 0.3339]], dtype)
        value, _ = softmax_cross_entropy(np.zeros((1, 3), dtype), Y)
        assert value == pytest.approx(math.log(3))

    @each("bad", [-1e-7, 1.0000001, -1, 2, np.nan, np.inf, -np.inf])
    def test_sigmoid_targets_are_between_0_and_1(self, bad):
        Z, Y, _ = example((4, 3), np.float64)
        Y[2, 1] = bad
        with pytest.raises(ValueError, match=r"^y: expected .* in row 2, column 1"):
            sigmoid_cross_entropy(Z, Y)

    @each("loss", ROW_MEANS, ids=name)
    def test_one_output_takes_flat_targets(self, loss, dtype, same_bits):
        Z, Y, weights = example((6, 1), dtype)
        Y *= 0.3
        value, dZ = loss(Z, Y, weights)
        again, d = loss(Z, Y[:, 0], weights)
        assert again == value
        same_bits(d, dZ)

    @each("n", [1, 3, 21])
    def test_one_column_of_targets_for_all_quantiles(self, n, dtype, same_bits):
        Z, Y, weights = example((6, n), dtype)
        quantiles = np.linspace(0.1, 0.9, n)
        value, dZ = pinball_loss(Z, np.repeat(Y[:, :1], n, 1), weights, quantiles=quantiles)
        for y in (Y[:, 0], Y[:, :1]):
            again, d = pinball_loss(Z, y, weights, quantiles=quantiles)
            assert again == value
            same_bits(d, dZ)

    @each("shape", [(4, 2), (3, 3), (1, 3), (4, 3, 1), (12,), (3,), (3, 1), ()])
    def test_targets_of_another_shape_for_quantiles(self, shape):
        with pytest.raises(ValueError, match=r"^y: expected"):
            pinball_loss(np.zeros((4, 3)), np.full(shape, 0.5), quantiles=[0.1, 0.5, 0.9])

    @each("loss", LOSSES, ids=name)
    @each("shape", [(4, 2), (3, 3), (4, 1), (1, 3), (4, 3, 1), (12,), (3,), ()])
    def test_targets_of_another_shape(self, loss, shape):
        with pytest.raises(ValueError, match=r"^y: expected"):
            loss(np.zeros((4, 3)), np.full(shape, 0.5))

    @each("loss", LOSSES, ids=name)
    @each("shape", [(0, 3), (3, 0), (0, 0), (3,), (), (2, 3, 4)])
    def test_scores_without_rows_or_columns(self, loss, shape):
        with pytest.raises(ValueError, match=r"^Z: expected"):
            loss(np.ones(shape), np.ones(shape))

    @each("bad", [-0.1, 1.0, 1.5, np.nan, np.inf])
    def test_label_smoothing_out_of_range(self, bad):
        with pytest.raises(ValueError, match=r"^label_smoothing: expected"):
            softmax_cross_entropy(np.ones((1, 2)), [0], label_smoothing=bad)

    @each("bad", [0, -1.0, np.nan, np.inf])
    def test_delta_out_of_range(self, bad):
        with pytest.raises(ValueError, match=r"^delta: expected"):
            huber(np.ones((1, 2)), np.ones((1, 2)), delta=bad)

    @each("bad, error", [
        (0, ValueError), (1, ValueError), (-0.1, ValueError), (np.nan, ValueError),
        ([0.5, 1.0], ValueError), ([0.5, np.nan], ValueError), ([], ValueError),
        ([[0.1, 0.9]], ValueError), ([0.1, 0.5, 0.9], ValueError), ([0.5], ValueError),
        ("0.5", TypeError), (None, TypeError), ({0.1, 0.9}, TypeError), ([0.1, None], TypeError),
        ([[0.1], [0.2, 0.3]], ValueError), ([0.1j, 0.5], TypeError),
    ])
    def test_bad_quantiles(self, bad, error):
        with pytest.raises(error, match=r"^quantiles(\[1\])?: expected"):
            pinball_loss(np.ones((1, 2)), np.ones((1, 2)), quantiles=bad)
