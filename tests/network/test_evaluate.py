"""evaluate, against the formulas and scikit-learn."""

import numpy as np
import pytest

import fastbp as fb


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_evaluate_a_classifier(dtype, weighted, chunk, rng, monkeypatch, metrics):
    monkeypatch.setattr(fb.network, "CHUNK_ROWS", chunk)
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    X, y = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    w = rng.integers(0, 3, 20).astype(dtype) if weighted else None
    loss = fb.SoftmaxCrossEntropy(0.1)
    scores = net.evaluate(X, y, loss=loss, sample_weight=w)
    Z = net.predict(X)
    assert list(scores) == ["loss", "accuracy"]
    assert scores["loss"] == pytest.approx(loss(Z, y, w)[0], rel=1e-6)
    assert scores["accuracy"] == pytest.approx(
        metrics.accuracy_score(y, Z.argmax(axis=1), sample_weight=w))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [fb.MeanSquaredError(), fb.MeanAbsoluteError(), fb.Huber(0.5)],
                         ids=repr)
def test_evaluate_a_regression(dtype, weighted, loss, rng, monkeypatch, metrics):
    monkeypatch.setattr(fb.network, "CHUNK_ROWS", 6)
    net = fb.mlp([4, 6, 2], dtype=dtype, seed=0)
    X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    w = rng.random(20) if weighted else None
    scores = net.evaluate(X, Y, loss=loss, sample_weight=w)
    Z = net.predict(X)
    assert list(scores) == ["loss", "r2"]
    assert scores["loss"] == pytest.approx(loss(Z, Y, w)[0], rel=1e-6)
    assert scores["r2"] == pytest.approx(
        metrics.r2_score(Y, Z, sample_weight=w), rel=1e-5)


def test_evaluate_yes_and_no(rng):
    net = fb.mlp([4, 6, 2], seed=0)
    X, Y = rng.normal(size=(20, 4)), rng.integers(0, 2, (20, 2))
    scores = net.evaluate(X, Y, loss=fb.SigmoidCrossEntropy())
    assert scores["accuracy"] == pytest.approx(((net.predict(X) > 0) == Y).mean())


def test_evaluate_a_target_of_one_column_and_a_constant_one(rng):
    net = fb.mlp([4, 1], dtype="float64", seed=0)
    X = rng.normal(size=(20, 4))
    y = net.predict(X)[:, 0]
    assert net.evaluate(X, y, loss=fb.MeanSquaredError()) == {"loss": 0, "r2": 1}
    assert net.evaluate(X, y[:, None], loss=fb.MeanSquaredError()) == {"loss": 0, "r2": 1}
    assert net.evaluate(X, np.full(20, 0.1), loss=fb.MeanSquaredError())["r2"] == 0
