"""Losses: the formulas of the README, their gradients, weights and targets."""

import math
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb

ln2, ln3 = math.log(2), math.log(3)


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def huber(R, delta):
    A = abs(R)
    return np.where(delta >= A, R**2 / 2, delta * (A - delta / 2))


# Each row's loss l(Z, T), and its gradient by Z, as the README's table has them; the mean
# over rows is made below.
FORMULAS = {
    "SoftmaxCrossEntropy": (
        fb.SoftmaxCrossEntropy,
        lambda Z, T: np.log(np.exp(Z).sum(axis=1)) - (T * Z).sum(axis=1),
        lambda Z, T: softmax(Z) - T,
    ),
    "smoothed": (
        partial(fb.SoftmaxCrossEntropy, label_smoothing=0.3),
        lambda Z, T: np.log(np.exp(Z).sum(axis=1)) - (smooth(T, 0.3) * Z).sum(axis=1),
        lambda Z, T: softmax(Z) - smooth(T, 0.3),
    ),
    "SigmoidCrossEntropy": (
        fb.SigmoidCrossEntropy,
        lambda Z, Y: (np.log(1 + np.exp(Z)) - Y * Z).mean(axis=1),
        lambda Z, Y: (1 / (1 + np.exp(-Z)) - Y) / Z.shape[1],
    ),
    "MeanSquaredError": (
        fb.MeanSquaredError,
        lambda Z, Y: ((Z - Y) ** 2).mean(axis=1),
        lambda Z, Y: 2 * (Z - Y) / Z.shape[1],
    ),
    "MeanAbsoluteError": (
        fb.MeanAbsoluteError,
        lambda Z, Y: abs(Z - Y).mean(axis=1),
        lambda Z, Y: np.sign(Z - Y) / Z.shape[1],
    ),
    "Huber": (
        partial(fb.Huber, delta=0.7),
        lambda Z, Y: huber(Z - Y, 0.7).mean(axis=1),
        lambda Z, Y: np.clip(Z - Y, -0.7, 0.7) / Z.shape[1],
    ),
}


def smooth(T, s):
    return (1 - s) * T + s / T.shape[1]


def targets(name, m, n, rng):
    """Targets that the loss takes, and the same as the T or Y of the formula."""
    if name in ("SoftmaxCrossEntropy", "smoothed"):
        labels = rng.integers(0, n, m)
        return labels, np.eye(n)[labels]
    Y = rng.random((m, n)) if name == "SigmoidCrossEntropy" else rng.normal(size=(m, n))
    return Y, Y


close = {"float32": {"rtol": 3e-6, "atol": 1e-6}, "float64": {"rtol": 1e-13, "atol": 1e-14}}
cases = given(m=st.integers(1, 8), n=st.integers(1, 8), seed=st.integers(0, 10**6))
each = pytest.mark.parametrize("name", FORMULAS)


@each
@cases
def test_formulas(dtype, name, m, n, seed):
    make, value, gradient = FORMULAS[name]
    rng = np.random.default_rng(seed)
    Z = rng.normal(scale=3, size=(m, n)).astype(dtype)
    y, T = targets(name, m, n, rng)
    if T is y:
        y = y.astype(dtype)
        T = y.astype(float)
    L, dZ = make()(Z, y)
    Z = Z.astype(float)
    assert isinstance(L, float)
    assert dZ.dtype == dtype
    np.testing.assert_allclose(L, value(Z, T).mean(), **close[str(dtype)])
    np.testing.assert_allclose(dZ, gradient(Z, T) / m, **close[str(dtype)])


@each
@cases
def test_weighted_formulas(dtype, name, m, n, seed):
    """Row i counts wᵢ / Σ w in place of 1/m."""
    make, value, gradient = FORMULAS[name]
    rng = np.random.default_rng(seed)
    Z = rng.normal(scale=3, size=(m, n)).astype(dtype)
    y, T = targets(name, m, n, rng)
    if T is y:
        y = y.astype(dtype)
        T = y.astype(float)
    w = rng.integers(0, 5, m) / 4
    w[0] = 1
    L, dZ = make()(Z, y, w)
    Z, w = Z.astype(float), w / w.sum()
    np.testing.assert_allclose(L, w @ value(Z, T), **close[str(dtype)])
    np.testing.assert_allclose(dZ, gradient(Z, T) * w[:, None], **close[str(dtype)])


@pytest.mark.parametrize(
    ("loss", "Z", "y", "L", "dZ"),
    [
        # softmax of (0, ln 3) is (1/4, 3/4)
        (fb.SoftmaxCrossEntropy(), [[0, ln3]], [1], math.log(4 / 3), [[1 / 4, -1 / 4]]),
        (fb.SoftmaxCrossEntropy(), [[0, ln3]], [[1, 0]], math.log(4), [[-3 / 4, 3 / 4]]),
        (fb.SoftmaxCrossEntropy(), [[0, ln3]], [[0.5, 0.5]], math.log(4) - ln3 / 2,
         [[-1 / 4, 1 / 4]]),
        (fb.SoftmaxCrossEntropy(), [[0, ln3], [5, 5]], [0, 1], (math.log(4) + ln2) / 2,
         [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]]),
        # with smoothing 1/2, T = (1/4, 3/4)
        (fb.SoftmaxCrossEntropy(0.5), [[0, ln3]], [1], math.log(4) - 3 / 4 * ln3, [[0, 0]]),
        # sigmoid(ln 3) = 3/4
        (fb.SigmoidCrossEntropy(), [[ln3]], [1], math.log(4 / 3), [[-1 / 4]]),
        (fb.SigmoidCrossEntropy(), [[ln3, 0]], [[0, 1]], (math.log(4) + ln2) / 2,
         [[3 / 8, -1 / 4]]),
        (fb.MeanSquaredError(), [[1, 2], [3, 4]], [[1, 0], [0, 8]], 29 / 4,
         [[0, 1], [3 / 2, -2]]),
        (fb.MeanSquaredError(), [[1], [3]], [0, 5], 5 / 2, [[1], [-2]]),
        (fb.MeanAbsoluteError(), [[1, 2], [3, 4]], [[1, 0], [0, 8]], 9 / 4,
         [[0, 1 / 4], [1 / 4, -1 / 4]]),
        (fb.Huber(), [[0.5, 3]], [[0, 0]], (1 / 8 + 5 / 2) / 2, [[1 / 4, 1 / 2]]),
        (fb.Huber(2), [[2, -4]], [[0, 0]], (2 + 6) / 2, [[1, -1]]),
    ],
    ids=repr,
)
def test_worked_by_hand(dtype, loss, Z, y, L, dZ):
    value, gradient = loss(np.array(Z, dtype), np.array(y))
    np.testing.assert_allclose(value, L, **close[str(dtype)])
    np.testing.assert_allclose(gradient, dZ, **close[str(dtype)])


def test_weights_worked_by_hand(dtype):
    Z, y = np.array([[1], [3]], dtype), [0, 5]
    value, gradient = fb.MeanSquaredError()(Z, y, [3, 1])
    assert value == (3 * 1 + 1 * 4) / 4
    assert gradient.tolist() == [[2 * 3 / 4], [-4 / 4]]


@each
def test_gradients_agree_with_central_differences(name, rng):
    loss = FORMULAS[name][0]()
    Z = rng.normal(size=(4, 3))
    y, _ = targets(name, 4, 3, rng)
    w = np.array([1.0, 0, 2, 0.5])
    dZ = loss(Z, y, w)[1]
    h = 1e-6
    for i in np.ndindex(Z.shape):
        above, below = Z.copy(), Z.copy()
        above[i] += h
        below[i] -= h
        numeric = (loss(above, y, w)[0] - loss(below, y, w)[0]) / (2 * h)
        assert dZ[i] == pytest.approx(numeric, rel=1e-7, abs=1e-9)


@each
def test_stable_far_out(dtype, name):
    loss = FORMULAS[name][0]()
    Z = np.array([[1e4, -1e4], [-1e4, 1e4]], dtype)
    y = np.array([1, 1]) if "mooth" in name or "Softmax" in name else np.array([[0, 1], [0, 1]])
    value, dZ = loss(Z, y)
    assert np.isfinite(value)
    assert np.isfinite(dZ).all()
    if name == "SoftmaxCrossEntropy":
        assert value == 1e4  # (2e4 + 0) / 2
        assert dZ.tolist() == [[0.5, -0.5], [0, 0]]


# Targets


@pytest.mark.parametrize(
    "y", [[2, 0, 1], np.array([2, 0, 1], "u1"), np.array([2.0, 0, 1]), np.array([2, 0, 1], ">i4")]
)
def test_labels_of_any_kind(y):
    made = fb.SoftmaxCrossEntropy().targets(y, 3, np.dtype("f4"))
    assert made.dtype == np.int64
    assert made.tolist() == [2, 0, 1]
    assert fb.SoftmaxCrossEntropy().targets([True, False], 2, np.dtype("f4")).tolist() == [1, 0]


def test_targets_follow_the_networks_dtype(dtype):
    for loss, y in [
        (fb.MeanSquaredError(), [[1, 2]]),
        (fb.SigmoidCrossEntropy(), np.array([[True, False]])),
        (fb.SoftmaxCrossEntropy(), [[0.25, 0.75]]),
    ]:
        made = loss.targets(y, 2, dtype)
        assert made.dtype == dtype
        assert made.tolist() == np.asarray(y).tolist()
    assert fb.Huber().targets([1, 2, 3], 1, dtype).shape == (3, 1)


nan, inf = math.nan, math.inf
softmax_loss, sigmoid_loss, squared = (
    fb.SoftmaxCrossEntropy(), fb.SigmoidCrossEntropy(), fb.MeanSquaredError()
)


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        (softmax_loss, [0, 1, -1], ValueError, "whole numbers from 0 to 1.*got -1 in row 2"),
        (softmax_loss, [0, 2], ValueError, "from 0 to 1.*2 outputs, got 2 in row 1"),
        (softmax_loss, [0.5, 1], ValueError, "whole.*got 0.5 in row 0"),
        (softmax_loss, [0, nan], ValueError, "finite.*got nan in row 1"),
        (softmax_loss, ["a", "b"], TypeError, "real numbers.*text"),
        (softmax_loss, [[0, 1, 0]], ValueError, r"expected shape \(any, 2\).*got \(1, 3\)"),
        (softmax_loss, [[0], [1]], ValueError, r"expected shape \(any, 2\).*got \(2, 1\)"),
        (softmax_loss, [[0.5, 0.5], [0.5, 0.6]], ValueError, "add up to 1.*row 1"),
        (softmax_loss, [[1.5, -0.5]], ValueError, "probabilities.*row 0"),
        (softmax_loss, [], ValueError, "at least one row"),
        (softmax_loss, 1, ValueError, r"expected shape \(any, 2\)"),
        (sigmoid_loss, [[0, 1], [2, 0]], ValueError, "between 0 and 1, got 2.0 in row 1, column 0"),
        (sigmoid_loss, [[0, -1]], ValueError, "between 0 and 1, got -1.0 in row 0, column 1"),
        (squared, [1, 2], ValueError, r"expected shape \(any, 2\).*got \(2,\)"),
        (squared, [[[1, 2]]], ValueError, r"expected shape \(any, 2\)"),
        (squared, [[1, 2], [inf, nan]], ValueError, "got inf in row 1, column 0"),
        (squared, [[1, 2], [3]], ValueError, "array of numbers"),
        (squared, [[1, None]], TypeError, "object"),
        (squared, [[1, 2j]], TypeError, "complex"),
        (squared, np.array([["2020-01-01"] * 2], "M8[D]"), TypeError, "datetime64"),
        (squared, None, TypeError, "None"),
    ],
)
def test_bad_targets(loss, y, error, message):
    with pytest.raises(error, match=f"^y: .*{message}"):
        loss.targets(y, 2, np.dtype("f8"))


def test_targets_too_large_for_the_dtype():
    assert squared.targets([1e300], 1, np.dtype("f8")).tolist() == [[1e300]]
    with pytest.raises(ValueError, match=r"^y.*inf in row 0"):
        squared.targets([1e300], 1, np.dtype("f4"))


# Settings, and losses of one's own


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fb.Huber(0), "^delta: .*above 0, got 0"),
        (lambda: fb.Huber(inf), "^delta: .*finite"),
        (lambda: fb.SoftmaxCrossEntropy(1), "^label_smoothing: .*below 1, got 1"),
        (lambda: fb.SoftmaxCrossEntropy(-0.1), "^label_smoothing: .*at least 0"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_metrics_and_representations():
    losses = [fb.SoftmaxCrossEntropy(0.1), fb.SigmoidCrossEntropy(), fb.MeanSquaredError(),
              fb.MeanAbsoluteError(), fb.Huber(2)]
    assert [loss.metric.name for loss in losses] == ["accuracy"] * 2 + ["r2"] * 3
    assert [repr(loss) for loss in losses] == [
        "SoftmaxCrossEntropy(label_smoothing=0.1)", "SigmoidCrossEntropy()",
        "MeanSquaredError()", "MeanAbsoluteError()", "Huber(delta=2.0)",
    ]


class LogCosh(fb.Loss):
    """l = log cosh(z - y); no metric."""

    def __call__(self, Z, y, sample_weight=None):
        w = np.ones(len(Z), Z.dtype) if sample_weight is None else sample_weight
        w = w[:, None] / w.sum()
        return float((w * np.log(np.cosh(Z - y))).sum()), w * np.tanh(Z - y)


def test_a_loss_of_ones_own(dtype, rng):
    net = fb.mlp([3, 5, 1], "tanh", dtype=dtype, seed=0)
    X = rng.normal(size=(60, 3))
    y = X[:, 0] - X[:, 1]
    assert fb.gradcheck(net, X[:5], y[:5], loss=LogCosh()).error < 1e-6
    history = net.fit(X, y, loss=LogCosh(), optimizer=fb.Adam(0.02), epochs=15, seed=0)
    assert list(history) == ["loss", "learning_rate", "seconds"]
    assert net.evaluate(X, y, loss=LogCosh())["loss"] < history["loss"][0] / 4


def test_a_loss_derived_from_another_has_settings_of_its_own(dtype):
    class Scaled(fb.MeanSquaredError):
        def __init__(self, scale):
            self.scale = scale

        def __call__(self, Z, y, sample_weight=None):
            value, dZ = super().__call__(Z, y, sample_weight)
            return self.scale * value, self.scale * dZ

    value, dZ = Scaled(3)(np.array([[2]], dtype), [0])
    assert (value, dZ.tolist()) == (12, [[12]])


def test_a_loss_of_ones_own_must_be_callable():
    class Nothing(fb.Loss):
        pass

    with pytest.raises(NotImplementedError, match="Nothing needs __call__"):
        fb.mlp([2, 1]).evaluate([[1, 2]], [1], loss=Nothing())
