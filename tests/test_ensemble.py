"""`Ensemble`, and the choice of its members."""

import json

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import scipy.sparse
import scipy.special
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb

from .cases import each

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4))
LABELS = RNG.integers(0, 3, 50)
CROSS_ENTROPY = fb.SoftmaxCrossEntropy()


def networks(n=3, n_out=3, dtype="float32"):
    return [fb.mlp([4, 8 + i, n_out], seed=i, dtype=dtype) for i in range(n)]


class TestPredict:
    def test_the_mean_of_what_each_predicts(self):
        nets = networks()
        mean = np.mean([net.predict(X) for net in nets], axis=0)
        predicted = fb.Ensemble(nets).predict(X)
        assert predicted.dtype == np.float32
        np.testing.assert_allclose(predicted, mean, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize(("activation", "function"), [
        ("softmax", lambda Z: scipy.special.softmax(Z, 1)), ("sigmoid", scipy.special.expit),
        ("exp", np.exp)])
    def test_weights_and_activation(self, activation, function):
        nets, weights = networks(dtype="float64"), [1, 0, 3]
        ensemble = fb.Ensemble(nets, weights, activation)
        expected = 0.25 * function(nets[0].predict(X)) + 0.75 * function(nets[2].predict(X))
        np.testing.assert_allclose(ensemble.predict(X), expected, rtol=1e-12)
        assert ensemble.weights.tolist() == [0.25, 0, 0.75]

    def test_threads_and_sparse_rows_change_no_bit(self):
        ensemble = fb.Ensemble(networks(), activation="softmax")
        expected = ensemble.predict(X).tobytes()
        assert ensemble.predict(X, n_threads=3).tobytes() == expected
        assert ensemble.predict(scipy.sparse.csr_array(X)).tobytes() == expected

    def test_threads_that_share_the_rows_change_no_bit(self):
        nets = [fb.mlp([4, 512, 512, 3], seed=seed) for seed in range(2)]
        rows = RNG.normal(size=(131, 4))
        ensemble = fb.Ensemble(nets, [1, 3], "softmax")
        expected = ensemble.predict(rows, n_threads=1)
        for n_threads in (2, 3, 4, 7):
            assert (ensemble.predict(rows, n_threads=n_threads) == expected).all()

    def test_a_bad_code_in_another_threads_rows(self):
        nets = [fb.Sequential([fb.Columns([([0, 1, 2], []), (3, fb.Embedding(5, 512))]),
                               fb.Dense(515, 512), fb.Dense(512, 3)], seed=seed)
                for seed in range(2)]
        rows = np.ones((131, 4))
        rows[100, 3] = 5
        with pytest.raises(ValueError, match="row 100"):
            fb.Ensemble(nets).predict(rows, n_threads=2)

    def test_one_network_and_networks_of_both_dtypes(self):
        net = networks(1)[0]
        assert fb.Ensemble([net]).predict(X).tobytes() == net.predict(X).tobytes()
        assert fb.Ensemble([net, net.astype("float64")]).predict(X).dtype == np.float64

    def test_bad_rows(self):
        with pytest.raises(ValueError, match="X: expected 4 columns"):
            fb.Ensemble(networks()).predict(X[:, :3])


class TestEvaluate:
    @pytest.mark.parametrize("weighted", [False, True])
    def test_log_loss_of_the_mean_probabilities(self, weighted):
        weights = np.linspace(0.5, 2, 50) if weighted else None
        ensemble = fb.Ensemble(networks(dtype="float64"), activation="softmax")
        P = ensemble.predict(X)
        scores = ensemble.evaluate(X, LABELS, loss=CROSS_ENTROPY, sample_weight=weights)
        losses, right = -np.log(P[range(50), LABELS]), P.argmax(1) == LABELS
        assert scores["loss"] == pytest.approx(np.average(losses, weights=weights))
        assert scores["accuracy"] == pytest.approx(np.average(right, weights=weights))

    def test_sigmoid(self):
        ensemble = fb.Ensemble(networks(n_out=1, dtype="float64"), activation="sigmoid")
        y, p = LABELS > 1, ensemble.predict(X)[:, 0]
        scores = ensemble.evaluate(X, y, loss=fb.SigmoidCrossEntropy())
        assert scores["loss"] == pytest.approx(-np.mean(np.log(np.where(y, p, 1 - p))))

    def test_certain_members(self):
        net = fb.mlp([4, 1], seed=0)
        net.layers[0].b[...] = 1000
        scores = fb.Ensemble([net], activation="sigmoid").evaluate(
            X, np.ones(50), loss=fb.SigmoidCrossEntropy())
        assert scores["loss"] < 1e-6

    def test_as_the_network_alone(self):
        net = networks(1, n_out=2)[0]
        Y = RNG.normal(size=(50, 2))
        ours = fb.Ensemble([net]).evaluate(X, Y, loss=fb.Huber())
        assert ours == pytest.approx(net.evaluate(X, Y, loss=fb.Huber()))

    def test_bad_targets(self):
        with pytest.raises(ValueError, match="y"):
            fb.Ensemble(networks()).evaluate(X, LABELS[:3], loss=CROSS_ENTROPY)


@each("arguments, error, message", [
    ({"networks": []}, ValueError, "at least one network"),
    ({"networks": fb.mlp([4, 2])}, TypeError, "expected a list of networks"),
    ({"networks": ["net"]}, TypeError, r"networks\[0\]: expected a Sequential"),
    ({"networks": [fb.mlp([4, 2]), fb.mlp([4, 3])]}, ValueError, "n_out=2 like networks"),
    ({"networks": [fb.mlp([4, 2]), fb.mlp([5, 2])]}, ValueError, "n_in=4 like networks"),
    ({"weights": [1, 2]}, ValueError, "weights: expected shape"),
    ({"weights": [1, -1, 1]}, ValueError, "weights: expected numbers of at least 0"),
    ({"weights": [0, 0, 0]}, ValueError, "weights: expected numbers of at least 0"),
    ({"weights": [1, np.nan, 1]}, ValueError, "weights"),
    ({"weights": "abc"}, TypeError, "weights"),
    ({"activation": "relu"}, ValueError, "activation: expected None"),
])
def test_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        fb.Ensemble(**{"networks": networks()} | arguments)


class TestFiles:
    def test_there_and_back(self, tmp_path):
        nets = [*networks(2), fb.Sequential([fb.LayerNorm(4), fb.Dropout(0.1), fb.Dense(4, 3)],
                                            "float64")]
        ensemble = fb.Ensemble(nets, [1, 2, 3], "softmax")
        ensemble.save(tmp_path / "model.safetensors")
        loaded = fb.Ensemble.load(tmp_path / "model.safetensors")
        assert loaded.predict(X).tobytes() == ensemble.predict(X).tobytes()
        assert repr(loaded) == repr(ensemble)
        assert loaded.weights.tolist() == ensemble.weights.tolist()

    def test_own_layers(self, tmp_path):
        class Halve(fb.Layer):
            def forward(self, X, training=True):
                return X / 2

        fb.Ensemble([fb.Sequential([Halve(), fb.Dense(4, 1)])]).save(tmp_path / "model")
        with pytest.raises(ValueError, match=r"layer_types=\[Halve\]"):
            fb.Ensemble.load(tmp_path / "model")
        assert len(fb.Ensemble.load(tmp_path / "model", layer_types=[Halve])) == 1

    def test_networks_and_ensembles_are_told_apart(self, tmp_path):
        path = tmp_path / "model"
        networks(1)[0].save(path)
        with pytest.raises(ValueError, match=r"a single network; read it with fastbp.load"):
            fb.Ensemble.load(path)
        fb.Ensemble(networks(1)).save(path)
        with pytest.raises(ValueError, match=r"read it with fastbp.Ensemble.load"):
            fb.load(path)

    @pytest.mark.parametrize("change", [
        {"settings": {"weights": [1], "activation": None}}, {"networks": []},
        {"settings": {"weights": [1, 1], "activation": None, "more": 1}}, {"networks": 3},
        {"settings": {"weights": [1, 1], "activation": ["a"]}}, {"settings": None}])
    def test_damaged(self, tmp_path, change):
        from safetensors.numpy import load, save

        fb.Ensemble(networks(2)).save(tmp_path / "model")
        content = (tmp_path / "model").read_bytes()
        length = int.from_bytes(content[:8], "little")
        described = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["fastbp"])
        (tmp_path / "model").write_bytes(
            save(load(content), {"fastbp": json.dumps(described | change)}))
        with pytest.raises(ValueError, match="is not a complete fastbp model"):
            fb.Ensemble.load(tmp_path / "model")


def minus_rmse(y, prediction):
    return -np.sqrt(np.mean((y - prediction) ** 2))


class TestGreedy:
    @given(hnp.arrays(float, st.tuples(st.integers(1, 6), st.integers(1, 5)),
                      elements=st.floats(-9, 9)), st.integers(1, 7))
    def test_each_step_is_the_best_one(self, predictions, most):
        y = np.zeros(predictions.shape[1])
        chosen = fb.greedy_ensemble(predictions, y, minus_rmse, most)
        assert 1 <= len(chosen) == len(set(chosen)) <= most

        def score(members):
            return minus_rmse(y, sum((predictions[i] for i in members), np.zeros(len(y)))
                              / len(members))

        for n in range(1, len(chosen) + 1):
            best = max(score([*chosen[: n - 1], i]) for i in range(len(predictions))
                       if i not in chosen[: n - 1])
            assert score(chosen[:n]) == best
            assert n == 1 or best > score(chosen[: n - 1])
        rest = [i for i in range(len(predictions)) if i not in chosen]
        if rest and len(chosen) < most:
            assert max(score([*chosen, i]) for i in rest) <= score(chosen)

    def test_probabilities(self):
        P = RNG.dirichlet(np.ones(3), (8, 50))
        chosen = fb.greedy_ensemble(P, LABELS, lambda y, p: np.mean(np.argmax(p, 1) == y))
        accuracy = [np.mean(p.argmax(1) == LABELS) for p in P]
        assert chosen[0] == np.argmax(accuracy)
        assert np.mean(P[chosen].mean(0).argmax(1) == LABELS) >= max(accuracy)

    def test_nan_scores(self):
        predictions = np.array([[np.nan, 1.0], [1.0, 1.0], [0.0, 0.1]])
        assert fb.greedy_ensemble(predictions[1:], np.zeros(2), minus_rmse) == [1]
        assert fb.greedy_ensemble(predictions, np.zeros(2), minus_rmse) == [2]
        assert len(fb.greedy_ensemble(predictions, np.zeros(2), lambda y, p: np.nan)) == 1

    def test_members_to_begin_with(self):
        predictions, y = np.array([[0.0], [3.0], [-2.0], [9.0]]), np.zeros(1)
        assert fb.greedy_ensemble(predictions, y, minus_rmse) == [0]
        assert fb.greedy_ensemble(predictions, y, minus_rmse, start=[1]) == [1, 2, 0]
        assert fb.greedy_ensemble(predictions, y, minus_rmse, 2, start=[3, 1]) == [3, 1]
        for start in ([1, 1], [0, 1, 2]):
            with pytest.raises(ValueError, match="start: expected at most 2 different members"):
                fb.greedy_ensemble(predictions, y, minus_rmse, 2, start=start)
        with pytest.raises(ValueError, match=r"start: expected members from 0 to 3, got \[4\]"):
            fb.greedy_ensemble(predictions, y, minus_rmse, start=[4])
        for start in (5, None):
            with pytest.raises(TypeError, match=f"start: expected a sequence of int.*got {start}"):
                fb.greedy_ensemble(predictions, y, minus_rmse, start=start)

    @each("arguments, error, message", [
        (([[1.0, 2.0]], [0, 0], lambda y, p: "high"), TypeError, "metric: expected it to return"),
        (([1.0, 2.0], [0, 0], minus_rmse), ValueError, "predictions: expected shape"),
        ((np.empty((0, 2)), [0, 0], minus_rmse), ValueError, "at least one member"),
        ((["a"], [0, 0], minus_rmse), TypeError, "predictions"),
        (([[1.0]], [0], minus_rmse, 0), ValueError, "max_size: expected"),
    ])
    def test_bad_arguments(self, arguments, error, message):
        with pytest.raises(error, match=message):
            fb.greedy_ensemble(*arguments)
