"""Losses: the formulas of docs/formulas.md, their gradients, weights and targets."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import scipy.special
import sklearn.metrics
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb
from fastbp import training
from fastbp.losses import Scaled
from fastbp.metrics import BinaryAccuracy, RateR2, SubsetAccuracy
from fastbp.program import reference

from .cases import each

pytestmark = pytest.mark.once

ln2, ln3 = math.log(2), math.log(3)


def softmax(Z):
    E = np.exp(Z - Z.max(axis=1, keepdims=True))
    return E / E.sum(axis=1, keepdims=True)


def huber(R, delta):
    A = abs(R)
    return np.where(delta >= A, R**2 / 2, delta * (A - delta / 2))


# Each row's loss l(Z, T), and its gradient with respect to Z, as docs/formulas.md has them; the
# mean over rows is made below.
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
    "PoissonDeviance": (
        fb.PoissonDeviance,
        lambda Z, Y: (np.exp(Z) - Y - Y * Z + scipy.special.xlogy(Y, Y)).mean(axis=1),
        lambda Z, Y: (np.exp(Z) - Y) / Z.shape[1],
    ),
    "PinballLoss": (
        partial(fb.PinballLoss, 0.3),
        lambda Z, Y: np.maximum(0.3 * (Y - Z), -0.7 * (Y - Z)).mean(axis=1),
        lambda Z, Y: np.where(Z > Y, 0.7, -0.3) / Z.shape[1],
    ),
    "scaled": (
        lambda: Scaled(fb.Huber(0.7), 3, 0.5),
        lambda Z, Y: 3 * huber(Z - Y, 0.7).mean(axis=1),
        lambda Z, Y: 0.5 * np.clip(Z - Y, -0.7, 0.7) / Z.shape[1],
    ),
}
DIFFERENTIATED = [name for name in FORMULAS if name != "scaled"]  # this is no derivative


def smooth(T, s):
    return (1 - s) * T + s / T.shape[1]


def targets(name, m, n, rng):
    """Targets that the loss takes, and the same as the T or Y of the formula."""
    if name in ("SoftmaxCrossEntropy", "smoothed"):
        labels = rng.integers(0, n, m)
        return labels, np.eye(n)[labels]
    if name == "PoissonDeviance":
        Y = rng.poisson(2, size=(m, n)).astype(float)
    elif name == "SigmoidCrossEntropy":
        Y = rng.random((m, n))
    else:
        Y = rng.normal(size=(m, n))
    return Y, Y


close = {"float32": {"rtol": 3e-6, "atol": 1e-6}, "float64": {"rtol": 1e-13, "atol": 1e-14}}
cases = given(m=st.integers(1, 8), n=st.integers(1, 8), seed=st.integers(0, 10**6))
each_loss = pytest.mark.parametrize("name", FORMULAS)


@each_loss
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


@each_loss
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


@each(
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
        # rates of 3 and 2 for 1 and 0: (3 - 1 - ln 3 + 2) / 2
        (fb.PoissonDeviance(), [[ln3, ln2]], [[1, 0]], 2 - ln3 / 2, [[1, 1]]),
        (fb.PinballLoss(), [[1, 3], [5, 2]], [[1, 2], [7, 4]], 5 / 8,
         [[0, 1 / 8], [-1 / 8, -1 / 8]]),
        (fb.PinballLoss([0.25, 0.75]), [[1, 6], [-1, 2]], [4, 0], (3 + 2 + 1 + 2) / 16,
         [[-1 / 16, 1 / 16], [-1 / 16, 1 / 16]]),
        (fb.PinballLoss([0.75, 0.25]), [[1, 6]], [[4]], (9 + 6) / 8, [[-3 / 8, 3 / 8]]),
        (Scaled(fb.SigmoidCrossEntropy(), 2, 4), [[ln3, 0]], [[0, 1]], math.log(4) + ln2,
         [[3 / 2, -1]]),
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


@pytest.mark.parametrize("name", DIFFERENTIATED)
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


@each("name", [name for name in FORMULAS if name != "PoissonDeviance"])
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


@each(
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
counts = fb.PoissonDeviance()
median, quartiles = fb.PinballLoss(), fb.PinballLoss([0.25, 0.75])


@each(
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
        (counts, [[0, 1], [2, -1]], ValueError, "at least 0, got -1.0 in row 1, column 1"),
        (counts, [[0, nan]], ValueError, "finite.*got nan in row 0, column 1"),
        (Scaled(counts, 2, 2), [[0, -0.5]], ValueError, "at least 0, got -0.5 in row 0, column 1"),
        (Scaled(softmax_loss, 2, 2), [0, 2], ValueError, "from 0 to 1.*got 2 in row 1"),
        (squared, [1, 2], ValueError, r"expected shape \(any, 2\).*got \(2,\)"),
        (squared, [[[1, 2]]], ValueError, r"expected shape \(any, 2\)"),
        (squared, [[1, 2], [inf, nan]], ValueError, "got inf in row 1, column 0"),
        (squared, [[1, 2], [3]], ValueError, "array of numbers"),
        (squared, [[1, None]], TypeError, "object"),
        (squared, [[1, 2j]], TypeError, "complex"),
        (squared, np.array([["2020-01-01"] * 2], "M8[D]"), TypeError, "datetime64"),
        (squared, None, TypeError, "None"),
        (median, [1, 2], ValueError, r"expected shape \(any, 2\).*got \(2,\)"),
        (median, [[1], [2]], ValueError, r"expected shape \(any, 2\).*got \(2, 1\)"),
        (quartiles, [[1, 2, 3]], ValueError, r"expected shape \(any, 2\).*got \(1, 3\)"),
        (quartiles, [1, nan], ValueError, "finite.*got nan in row 1"),
        (quartiles, [[1], [inf]], ValueError, "finite.*got inf in row 1"),
        (quartiles, ["a", "b"], TypeError, "real numbers.*text"),
        (quartiles, 1, ValueError, r"expected shape \(any, 2\)"),
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


@each(
    ("make", "message"),
    [
        (lambda: fb.Huber(0), "^delta: .*above 0, got 0"),
        (lambda: fb.Huber(inf), "^delta: .*finite"),
        (lambda: fb.SoftmaxCrossEntropy(1), "^label_smoothing: .*below 1, got 1"),
        (lambda: fb.SoftmaxCrossEntropy(-0.1), "^label_smoothing: .*at least 0"),
        (lambda: fb.PinballLoss(1), "^quantiles: .*below 1, got 1"),
        (lambda: fb.PinballLoss([0.1, 0]), r"^quantiles\[1\]: .*above 0 and below 1, got 0"),
        (lambda: setattr(fb.PinballLoss(), "quantiles", []), r"^quantiles: .*shape \(0,\)"),
        (lambda: Scaled(squared, 0, 1), "^value: .*above 0, got 0"),
        (lambda: Scaled(squared, 1, -2), "^gradient: .*above 0, got -2"),
        (lambda: Scaled(squared, inf, 1), "^value: .*finite"),
        (lambda: Scaled(squared, 1, nan), "^gradient: .*finite"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_metrics_and_representations():
    losses = [fb.SoftmaxCrossEntropy(0.1), fb.SigmoidCrossEntropy(), fb.MeanSquaredError(),
              fb.MeanAbsoluteError(), fb.Huber(2), fb.PoissonDeviance(),
              fb.PinballLoss(0.9), fb.PinballLoss(np.array([0.25, 0.75])),
              Scaled(fb.SigmoidCrossEntropy(), 2, 0.5)]
    assert [loss.metric and loss.metric.name for loss in losses] == [
        *["accuracy"] * 2, *["r2"] * 4, None, None, "accuracy"]
    assert [losses[5].metric, losses[-1].metric] == [RateR2, BinaryAccuracy]
    assert [repr(loss) for loss in losses] == [
        "SoftmaxCrossEntropy(label_smoothing=0.1, cap=None)", "SigmoidCrossEntropy(cap=None)",
        "MeanSquaredError()", "MeanAbsoluteError()", "Huber(delta=2.0)", "PoissonDeviance()",
        "PinballLoss(quantiles=0.9)", "PinballLoss(quantiles=(0.25, 0.75))",
        "Scaled(loss=SigmoidCrossEntropy(cap=None), value=2.0, gradient=0.5)",
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


# Counts, subsets, and another convention


def both_paths(loss, X, y, dtype, n_out=None, **options):
    """What compiled and interpreted steps leave behind, and whether the first were all compiled."""
    found = []
    for new_steps in (training.run.new_steps, reference.new_steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", new_steps)
            sizes, runs = [X.shape[1], 6, n_out or y.shape[1]], []
            net = fb.mlp(sizes, "tanh", dtype=dtype, seed=0)
            history = net.fit(X, y, loss=loss, optimizer=fb.Adam(0.02), epochs=4, batch_size=7,
                              seed=0, callbacks=[runs.append], **options)
            del history["seconds"]
            found.append((net.parameters.tobytes(), dict(history), runs[0].compiled.in_python))
    *one, in_python = found[0]
    return one, list(found[1][:2]), not in_python


def batch(rng, columns=2, rows=40):
    X = rng.normal(size=(rows, 3))
    return X, rng.poisson(np.exp(0.7 * X[:, :columns])).astype(float), rng.random(rows)


@pytest.mark.parametrize("weighted", [False, True])
def test_counts(dtype, weighted, rng):
    X, Y, w = batch(rng)
    w = w if weighted else None
    one, other, compiled = both_paths(
        fb.PoissonDeviance(), X, Y, dtype, sample_weight=w, validation_fraction=0.25)
    assert compiled
    assert one == other
    net = fb.mlp([3, 8, 2], "tanh", dtype=dtype, seed=0)
    net.fit(X, Y, loss=fb.PoissonDeviance(), optimizer=fb.Adam(0.02), epochs=60, seed=0,
            sample_weight=w)
    scores, rates = net.evaluate(X, Y, loss=fb.PoissonDeviance(), sample_weight=w), np.exp(
        net.predict(X).astype(float))
    deviances = [sklearn.metrics.mean_poisson_deviance(Y[:, j], rates[:, j], sample_weight=w)
                 for j in range(2)]
    assert scores["loss"] == pytest.approx(np.mean(deviances) / 2, rel=1e-5)
    assert scores["r2"] == pytest.approx(
        sklearn.metrics.r2_score(Y, rates, sample_weight=w), rel=1e-4, abs=1e-6)
    constant = sklearn.metrics.mean_poisson_deviance(
        Y[:, 0], np.full(40, np.average(Y[:, 0], weights=w)), sample_weight=w)
    assert deviances[0] < 0.8 * constant


def test_fit_refuses_negative_counts(rng):
    X, Y, _ = batch(rng)
    with pytest.raises(ValueError, match=r"^y: expected targets of at least 0, got -3.0 in row 0"):
        fb.mlp([3, 2]).fit(X, Y - 3 - Y[0, 0], loss=fb.PoissonDeviance())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("columns", [0, 1, 3])
def test_quantiles(dtype, weighted, columns, rng):
    X, _, w = batch(rng, rows=200)
    Y = np.abs(X[:, :1]) * rng.normal(size=(200, 3))
    y, w = Y[:, :columns] if columns else Y[:, 0], w if weighted else None
    quantiles = [0.1, 0.5, 0.8]
    loss = fb.PinballLoss(quantiles)
    one, other, compiled = both_paths(
        loss, X, y, dtype, n_out=3, sample_weight=w, validation_fraction=0.25)
    assert compiled
    assert one == other
    net = fb.mlp([3, 16, 3], "tanh", dtype=dtype, seed=0)
    net.fit(X, y, loss=loss, optimizer=fb.Adam(0.02), epochs=100, seed=0, sample_weight=w)
    Z = net.predict(X)
    scores = net.evaluate(X, y, loss=loss, sample_weight=w)
    expected = np.mean([sklearn.metrics.mean_pinball_loss(
        Y[:, j if columns == 3 else 0], Z[:, j], alpha=q, sample_weight=w)
        for j, q in enumerate(quantiles)])
    assert scores == {"loss": pytest.approx(expected, rel=1e-5)}
    if columns < 2:
        shares = np.average(Y[:, :1] < Z, axis=0, weights=w)
        np.testing.assert_allclose(shares, quantiles, atol=0.1)
    assert fb.Ensemble([net]).evaluate(X, y, loss=loss, sample_weight=w) == pytest.approx(scores)


def test_the_best_constant_is_the_quantile(rng):
    y = rng.normal(size=1000)
    net = fb.Sequential([fb.Dense(1, 3)], "float64", seed=0)
    net.fit(np.zeros((1000, 1)), y, loss=fb.PinballLoss([0.9, 0.1, 0.5]), epochs=300,
            optimizer=fb.SGD(fb.schedules.Cosine(1.0, 300)), batch_size=1000)
    np.testing.assert_allclose(net.predict([[0.0]])[0], np.quantile(y, [0.9, 0.1, 0.5]), atol=0.01)


def test_as_many_quantiles_as_outputs(rng):
    X, Y, _ = batch(rng)
    net = fb.mlp([3, 2], seed=0)
    for call in (net.fit, net.evaluate, partial(training.lbfgs, net)):
        with pytest.raises(ValueError, match=r"^loss: expected a quantile for each of the "
                                             r"network's 2 outputs, got 3, PinballLoss\(.*0.1, "):
            call(X, Y[:, 0], loss=fb.PinballLoss([0.1, 0.2, 0.3]))
    loss = fb.PinballLoss([0.1, 0.2])

    def change(run):
        loss.quantiles = 0.1, 0.2, 0.3

    with pytest.raises(ValueError, match=r"^loss: expected a parameter for each of 2 outputs"):
        net.fit(X, Y, loss=loss, epochs=3, callbacks=[change])


def test_quantiles_changed_by_a_callback(rng):
    X, Y, _ = batch(rng)

    def run(new_steps):
        loss = fb.PinballLoss([0.1, 0.2])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", new_steps)
            net = fb.mlp([3, 4, 2], seed=0)
            history = net.fit(X, Y[:, 0], loss=loss, epochs=3, seed=0, callbacks=[
                lambda run: setattr(loss, "quantiles", [0.7, 0.9])])
            return net.parameters.tobytes(), history["loss"]

    assert run(training.run.new_steps) == run(reference.new_steps)


def test_going_on_with_other_quantiles(tmp_path, rng):
    X, Y, _ = batch(rng)

    def fit(quantiles, epochs=4, **options):
        net = fb.mlp([3, 4, 2], seed=0)
        net.fit(X, Y[:, 0], loss=fb.PinballLoss(quantiles), epochs=epochs, seed=0, **options)
        return net.parameters.tobytes()

    def interrupt(run):
        if run.epoch == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit([0.1, 0.9], checkpoint=tmp_path / "run", callbacks=[interrupt])
    with pytest.raises(ValueError, match=r"^resume: .*'quantiles': \(0.1, 0.9\).*\(0.2, 0.9\)"):
        fit([0.2, 0.9], checkpoint=tmp_path / "run", resume=True, callbacks=[lambda run: None])
    assert fit([0.1, 0.9], checkpoint=tmp_path / "run", resume=True,
               callbacks=[lambda run: None]) == fit([0.1, 0.9])


def test_copies_of_a_loss_have_its_quantiles():
    loss = fb.PinballLoss([0.1, 0.9])
    for made in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert made.operation == loss.operation == ("pinball_loss", (0.1, 0.9), inf)


@pytest.mark.parametrize("by", ["instance", "subclass", "scaled"])
@pytest.mark.parametrize("weighted", [False, True])
def test_subsets(dtype, by, weighted, rng):
    class Subsets(fb.SigmoidCrossEntropy):
        metric = SubsetAccuracy

    X, _, w = batch(rng)
    Y = (X[:, :2] + rng.normal(size=(40, 2)) > 0).astype(float)
    loss = Subsets() if by == "subclass" else fb.SigmoidCrossEntropy()
    loss.metric = SubsetAccuracy
    loss = Scaled(loss, 2, 2) if by == "scaled" else loss
    w = w if weighted else None
    one, other, compiled = both_paths(loss, X, Y, dtype, sample_weight=w, validation_fraction=0.25)
    assert one == other
    assert compiled == (by != "subclass")
    net = fb.mlp([3, 2], dtype=dtype, seed=0)
    expected = sklearn.metrics.accuracy_score(Y, net.predict(X) > 0, sample_weight=w)
    assert net.evaluate(X, Y, loss=loss, sample_weight=w)["accuracy"] == pytest.approx(expected)
    history = net.fit(X, Y, loss=loss, optimizer=fb.SGD(0), epochs=1, sample_weight=w)
    assert history["accuracy"] == pytest.approx([expected])
    assert fb.SigmoidCrossEntropy().metric is BinaryAccuracy


@pytest.mark.parametrize("make", [
    fb.SoftmaxCrossEntropy, fb.SigmoidCrossEntropy, fb.MeanSquaredError,
    partial(fb.SoftmaxCrossEntropy, 0.2), fb.PoissonDeviance, partial(fb.Huber, 0.3),
    partial(fb.PinballLoss, [0.3, 0.6]),
], ids=lambda make: repr(make()))
@pytest.mark.parametrize(("value", "gradient"), [(2, 2), (0.5, 1 / 3), (7, 1), (1, 0.1)])
def test_scaled(dtype, make, value, gradient, rng):
    X, _, w = batch(rng)
    Y = np.eye(2)[rng.integers(0, 2, 40)]
    one, other, compiled = both_paths(
        Scaled(make(), value, gradient), X, Y, dtype, sample_weight=w, validation_fraction=0.25)
    assert compiled
    assert one == other
    Z, y = rng.normal(size=(9, 2)).astype(dtype), Y[:9].astype(dtype)
    plain, slope = make()(Z, y, w[:9].astype(dtype))
    got, dZ = Scaled(make(), value, gradient)(Z, y, w[:9].astype(dtype))
    assert got == value * plain
    np.testing.assert_array_equal(dZ, slope * dtype.type(gradient))


def test_a_gradient_twice_as_large_is_twice_the_learning_rate(dtype, rng):
    X, _, _ = batch(rng)
    y = rng.integers(0, 3, 40)

    def run(loss, rate):
        net = fb.mlp([3, 5, 3], dtype=dtype, seed=0)
        history = net.fit(X, y, loss=loss, optimizer=fb.SGD(rate), epochs=3, seed=0)
        return net.parameters.tobytes(), history["loss"], history["accuracy"]

    parameters, losses, accuracies = run(fb.SoftmaxCrossEntropy(), 0.5)
    scaled, four_times, the_same = run(Scaled(fb.SoftmaxCrossEntropy(), 4, 2), 0.25)
    assert (scaled, the_same) == (parameters, accuracies)
    assert four_times == [4 * value for value in losses]


def test_scaled_around_a_loss_of_ones_own(dtype, rng):
    loss = Scaled(LogCosh(), 3, 0.5)
    assert loss.metric is None
    assert loss.operation is None
    X, Y, w = batch(rng)
    one, other, compiled = both_paths(loss, X, Y, dtype, sample_weight=w)
    assert not compiled
    assert one == other
    net = fb.mlp([3, 2], dtype=dtype, seed=0)
    assert net.evaluate(X, Y, loss=loss)["loss"] == pytest.approx(
        3 * net.evaluate(X, Y, loss=LogCosh())["loss"], rel=1e-6)


def test_scaled_by_a_callback(dtype, rng):
    """Other factors count from the next epoch on."""
    X, Y, _ = batch(rng)

    def change(run):
        run.loss.value, run.loss.gradient = 5, 0.1

    def run(new_steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", new_steps)
            net = fb.mlp([3, 4, 2], dtype=dtype, seed=0)
            history = net.fit(X, Y, loss=Scaled(fb.MeanSquaredError(), 1, 1), epochs=3, seed=0,
                              callbacks=[change])
            return net.parameters.tobytes(), history["loss"]

    assert run(training.run.new_steps) == run(reference.new_steps)


class HalfSquares(fb.Loss):
    """Its gradient is the very array it was given."""

    metric = fb.metrics.R2

    def __call__(self, Z, y, sample_weight=None):
        return float((Z**2).sum() / 2), Z


def test_scaled_leaves_the_arrays_of_another_loss_alone(dtype):
    Z = np.array([[1.0, 2]], dtype)
    value, dZ = Scaled(HalfSquares(), 1, 2)(Z, Z)
    assert (value, dZ.tolist(), Z.tolist()) == (2.5, [[2, 4]], [[1, 2]])


@pytest.mark.parametrize("inner", [fb.MeanSquaredError, LogCosh])
def test_scaled_twice(dtype, inner, rng):
    X, Y, _ = batch(rng)
    one, other, _ = both_paths(Scaled(Scaled(inner(), 2, 3), 4, 0.5), X, Y, dtype)
    assert one == other


# Losses of one's own, and what they are held to


class Odd(fb.Loss):
    """One that returns what it is told to, made of what a right one returns."""

    def __init__(self, function):
        self.function = function

    def __call__(self, Z, y, sample_weight=None):
        return self.function(*fb.MeanSquaredError()(Z, y, sample_weight))

    def __repr__(self):
        return "Odd()"


@each("scaled", [False, True])
@each(("function", "message"), [
    (lambda value, dZ: None, "None; expected a pair"),
    (lambda value, dZ: float(value), "0.*; expected a pair"),
    (lambda value, dZ: "ab", "'ab'; expected a pair"),
    (lambda value, dZ: np.array([value, value]), r"an array of shape \(2,\); expected a pair"),
    (lambda value, dZ: (value, dZ, 0), "a tuple of 3; expected a pair"),
    (lambda value, dZ: (None, dZ), r"None as its value; expected a real number"),
    (lambda value, dZ: ("1.5", dZ), "'1.5' as its value"),
    (lambda value, dZ: (complex(value), dZ), "as its value"),
    (lambda value, dZ: (np.complex64(value), dZ), "as its value"),
    (lambda value, dZ: (np.full(1, value), dZ), r"an array of shape \(1,\) as its value"),
    (lambda value, dZ: (dZ, dZ), r"an array of shape \(6, 3\) as its value"),
    (lambda value, dZ: (value, None), "None; expected dZ"),
    (lambda value, dZ: (value, dZ.tolist()), "a list; expected dZ"),
    (lambda value, dZ: (value, dZ[:, :1]), r"of shape \(6, 1\); expected dZ.*\(6, 3\)"),
    (lambda value, dZ: (value, dZ[:1]), r"of shape \(1, 3\); expected dZ"),
    (lambda value, dZ: (value, dZ.sum()), "expected dZ"),
    (lambda value, dZ: (value, dZ.astype("f2")), "float16 .*; expected dZ"),
    (lambda value, dZ: (value, dZ + 0j), "complex.*; expected dZ"),
])
def test_what_a_loss_returns_is_checked(function, message, scaled, dtype):
    loss = Scaled(Odd(function), 2, 3) if scaled else Odd(function)
    net = fb.mlp([4, 5, 3], dtype=dtype, seed=0)
    X, y, before = np.ones((6, 4)), np.zeros((6, 3)), net.parameters.copy()
    for call in (net.fit, net.evaluate, partial(fb.gradcheck, net)):
        with pytest.raises((TypeError, ValueError), match=rf"^loss Odd\(\) returned .*{message}"):
            call(X, y, loss=loss)
    assert net.parameters.tobytes() == before.tobytes()


@each("number", [float, np.float32, np.float64, np.array, lambda value: 0])
def test_what_counts_as_a_losss_value(number, dtype):
    net = fb.mlp([4, 3], dtype=dtype, seed=0)
    history = net.fit(np.ones((6, 4)), np.zeros((6, 3)), epochs=1,
                      loss=Odd(lambda value, dZ: (number(value), dZ)))
    assert type(history["loss"][0]) is float


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_loss_is_given_read_only_arrays(which):
    class Overwrites(fb.MeanSquaredError):
        def __call__(self, *arrays):
            arrays[which][...] = 7
            return super().__call__(*arrays)

    net = fb.mlp([4, 3], seed=0)
    y, w = np.zeros((6, 3), "f4"), np.ones(6, "f4")
    for call in (net.fit, net.evaluate):
        with pytest.raises(ValueError, match="read-only"):
            call(np.ones((6, 4)), y, loss=Overwrites(), sample_weight=w)
    assert not y.any() and (w == 1).all()


def test_targets_of_three_dimensions_are_for_a_loss_of_ones_own():
    class Pairs(fb.Loss):
        def targets(self, y, n_out, dtype):
            return np.asarray(y, dtype)

        def __call__(self, Z, y, sample_weight=None):
            return fb.MeanSquaredError()(Z, np.ascontiguousarray(y[:, :, 0]))

    net = fb.mlp([4, 3], seed=0)
    assert len(net.fit(np.ones((6, 4)), np.zeros((6, 3, 2)), loss=Pairs(), epochs=2)["loss"]) == 2


@each(("targets", "error", "message"), [
    (lambda y: y.tolist(), TypeError, "targets returned a list"),
    (lambda y: None, TypeError, "targets returned a NoneType"),
    (lambda y: np.float32(0), TypeError, "targets returned a float32"),
    (lambda y: y[:-1], ValueError, "y: expected 6 rows like X, got 5"),
])
def test_what_targets_returns_is_checked(targets, error, message):
    class Own(fb.MeanSquaredError):
        def targets(self, y, n_out, dtype):
            return targets(np.asarray(y, dtype))

    net, X, y = fb.mlp([4, 3], seed=0), np.ones((6, 4)), np.zeros((6, 3))
    for call in (net.fit, net.evaluate):
        with pytest.raises(error, match=message):
            call(X, y, loss=Own())

    def change(run):
        run.loss = Own()

    with pytest.raises(error, match=message):
        net.fit(X, y, loss=fb.MeanSquaredError(), callbacks=[change])


def test_the_loss_of_a_scaled_one_stays():
    loss = Scaled(fb.MeanSquaredError(), 1, 2)
    for other in (fb.Huber(), "x", loss):
        with pytest.raises(AttributeError, match=r"Scaled\.loss is read-only"):
            loss.loss = other


def test_masked_targets_are_refused_by_a_loss():
    Z = np.zeros((2, 3), "f4")
    with pytest.raises(ValueError, match="y: expected no masked values, got 1"):
        fb.SoftmaxCrossEntropy()(Z, np.ma.array([0, 1], mask=[True, False]))


def test_attributes_of_ones_own_change_no_loss():
    class Own(fb.MeanSquaredError):
        name = kernel = "mean_absolute_error"
        cap = delta = 1.0

    Z, y = np.ones((2, 1)), np.array([[3.0], [4.0]])
    assert Own()(Z, y)[0] == fb.MeanSquaredError()(Z, y)[0] == 6.5


def test_settings_of_a_subclass_count_wherever_they_are():
    class Wide(fb.Huber):
        delta = 10.0

        def __init__(self):
            pass

    Z, y = np.array([[0.0, 20.0]]), np.zeros((1, 2))
    assert Wide()(Z, y)[0] == fb.Huber(10.0)(Z, y)[0] == 75
    assert Wide().operation == fb.Huber(10.0).operation
