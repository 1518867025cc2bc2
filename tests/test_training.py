"""fit: what it sees, what it records, how it ends, and what it refuses."""

import copy
import hashlib
import math
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import scipy.special
import sklearn.datasets
import tqdm.auto
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch
from fastbp.program import reference

CROSS_ENTROPY, SQUARED = fb.SoftmaxCrossEntropy(), fb.MeanSquaredError()


class Recorder(fb.Layer):
    """Passes its input on, and keeps the first column of what it saw."""

    def __init__(self):
        super().__init__()
        self.trained, self.predicted = [], []

    def forward(self, X, training=True):
        (self.trained if training else self.predicted).append(X[:, 0].tolist())
        return X

    def backward(self, dZ):
        return dZ


def flat(batches):
    return [row for batch in batches for row in batch]


def record(optimizer):
    """The optimizer, which now keeps each step's learning rate and the parameters after it."""
    kind = type(optimizer)

    class Recorded(kind):
        def update(self, parameters, gradients, learning_rate):
            kind.update(self, parameters, gradients, learning_rate)
            self.rates.append(learning_rate)
            self.after.append(parameters.copy())

    optimizer.__class__, optimizer.rates, optimizer.after = Recorded, [], []
    return optimizer


def classes(n=23, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def a_net(dtype="float32", seed=0):
    return fb.mlp([4, 6, 3], "tanh", dropout=0.2, dtype=dtype, seed=seed)


def a_fit(net, X=None, y=None, **options):
    if X is None:
        X, y = classes()
    return net.fit(X, y, **{"loss": CROSS_ENTROPY, "epochs": 2, "batch_size": 5} | options)


def timeless(history):
    return {key: np.array(values).tolist() for key, values in history.items() if key != "seconds"}


# It learns


def test_xor(dtype):
    X, y = np.array([[0, 0], [0, 1], [1, 0], [1, 1]]), np.array([0, 1, 1, 0])
    net = fb.mlp([2, 8, 2], "tanh", dtype=dtype, seed=1)
    history = net.fit(X, y, loss=CROSS_ENTROPY, optimizer=fb.Adam(0.05), epochs=150, batch_size=4)
    assert history["accuracy"][-1] == 1
    assert net.predict(X).argmax(axis=1).tolist() == y.tolist()


def test_regression_is_the_same_with_a_linear_last_layer():
    X, y = sklearn.datasets.make_friedman1(500, random_state=0)
    X, y = (X - X.mean(axis=0)) / X.std(axis=0), (y - y.mean()) / y.std()
    net = fb.mlp([10, 24, 1], seed=0)
    net.fit(X[:400], y[:400], loss=SQUARED, optimizer=fb.Adam(0.01), epochs=40, seed=0)
    scores = net.evaluate(X[400:], y[400:], loss=SQUARED)
    line = np.linalg.lstsq(np.c_[X[:400], np.ones(400)], y[:400])[0]
    linear = np.mean((np.c_[X[400:], np.ones(100)] @ line - y[400:]) ** 2)
    assert scores["loss"] < linear / 2
    assert scores["r2"] > 0.85


def test_yes_or_no():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 2))
    Y = np.c_[X[:, 0] > 0, X[:, 0] * X[:, 1] > 0]
    net = fb.mlp([2, 16, 2], seed=0)
    net.fit(X, Y, loss=fb.SigmoidCrossEntropy(), optimizer=fb.Adam(0.02), epochs=30, seed=0)
    assert net.evaluate(X, Y, loss=fb.SigmoidCrossEntropy())["accuracy"] > 0.95


def test_gradients_vanish_in_a_deep_sigmoid_network_and_not_with_relu():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(64, 10)), rng.integers(0, 3, 64)

    def norms(activation):
        net = fb.mlp([10, *[16] * 7, 3], activation, seed=0)
        history = a_fit(net, X, y, gradient_norms=True, epochs=1)
        assert history.layer_names == [f"{i} Dense" for i in range(0, 15, 2)]
        return history["gradient_norms"][0]

    sigmoid, relu = norms("sigmoid"), norms("relu")
    assert sigmoid[0] < 1e-3 * sigmoid[-1]
    assert (np.diff(sigmoid) > 0).all()
    assert relu[0] > 0.05 * relu[-1]


# Same seed, same bits


@pytest.mark.parametrize("options", [{}, {"validation_fraction": 0.2, "shuffle": False}],
                         ids=["plain", "validation"])
def test_same_seed_same_bits(dtype, options):
    def run(seed):
        net = a_net(dtype)
        history = a_fit(net, seed=seed, gradient_norms=True, **options)
        return timeless(history), net.parameters.tobytes(), net.predict(classes()[0]).tobytes()

    assert run(7) == run(7)
    assert run(7)[1] != run(8)[1]


def test_the_seed_counts_and_not_what_was_trained_before(dtype):
    net = a_net(dtype)
    start, bits = net.parameters.copy(), set()
    for _ in range(2):
        net.parameters[:] = start
        a_fit(net, seed=7)
        bits.add(net.parameters.tobytes())
    assert len(bits) == 1


def test_without_a_seed_the_networks_own_decides():
    def run(seed):
        net, bits = a_net(seed=seed), []
        for _ in range(2):
            a_fit(net)
            bits.append(net.parameters.tobytes())
        return bits

    assert run(1) == run(1)
    assert run(1)[0] != run(2)[0]


def test_another_fit_has_another_order():
    recorder = Recorder()
    net = fb.Sequential([recorder, fb.Dense(4, 3)], seed=0)
    a_fit(net, epochs=2)
    a_fit(net, epochs=1)
    orders = [tuple(flat(recorder.trained[i : i + 5])) for i in (0, 5, 10)]
    assert len(set(orders)) == 3
    assert len({tuple(sorted(order)) for order in orders}) == 1


DIGEST = """
import hashlib, numpy as np, fastbp as fb
rng = np.random.default_rng(0)
X, y = rng.normal(size=(23, 4)), rng.integers(0, 3, 23)
net = fb.mlp([4, 6, 3], "tanh", dropout=0.2, seed=0)
net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=2, batch_size=5, seed=7)
print(hashlib.sha256(net.parameters.tobytes()).hexdigest())
"""


def test_same_bits_in_another_process():
    result = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True,
                            check=True)
    net = a_net()
    a_fit(net, seed=7)
    assert result.stdout.strip() == hashlib.sha256(net.parameters.tobytes()).hexdigest()


def test_same_bits_on_every_path_and_instruction_set(dtype):
    """An optimizer of one's own is called step by step; a built-in one need not be."""
    used, found = dispatch.isa(), {}
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for watch in (record, lambda optimizer: optimizer):
                net = a_net(dtype)
                history = a_fit(net, seed=0, optimizer=watch(fb.AdamW(0.01, clip_norm=1)))
                found[isa, watch] = timeless(history), net.parameters.tobytes()
    finally:
        dispatch.use(used)
    assert all(result == found["scalar", record] for result in found.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda training: setattr(training.optimizer, "learning_rate", 0.1),
        lambda training: setattr(training.optimizer, "momentum", 0.1),
        lambda training: setattr(training.optimizer, "momentum", 1),
        lambda training: setattr(training, "l2", 3.0),
        lambda training: setattr(training.optimizer, "weight_decay", 0.5),
        lambda training: setattr(training.optimizer, "clip_norm", 0.01),
        lambda training: setattr(training.network.layers[2], "rate", 0.7),
        lambda training: setattr(training, "loss", fb.SoftmaxCrossEntropy(0.5)),
        lambda training: setattr(training.network.layers[0], "W", 0),
        lambda training: training.optimizer.step(np.ones(2), np.ones(2)),
    ],
    ids=["learning_rate", "momentum", "all of it", "l2", "weight_decay", "clip_norm", "dropout",
         "loss", "weights", "state"],
)
def test_what_a_callback_changes_counts_on_every_path(change):
    def run(watch):
        net = a_net()
        optimizer = watch(fb.SGD(0.01, momentum=0.9))
        a_fit(net, seed=0, optimizer=optimizer, callbacks=[change], epochs=3)
        return net.parameters.tobytes()

    assert run(lambda optimizer: optimizer) == run(record)


@pytest.mark.parametrize("setting", [{"epsilon_hat": True}, {"epsilon": 0.1}])
def test_what_a_callback_changes_of_adam_counts_on_every_path(dtype, setting):
    def run(watch):
        net = a_net(dtype)
        a_fit(net, seed=0, optimizer=watch(fb.Adam(0.01, epsilon=0.01)), epochs=3,
              callbacks=[lambda run: vars(run.optimizer).update(setting)])
        return net.parameters.tobytes()

    plain = a_net(dtype)
    a_fit(plain, seed=0, optimizer=fb.Adam(0.01, epsilon=0.01), epochs=3)
    assert run(lambda optimizer: optimizer) == run(record) != plain.parameters.tobytes()


def test_trainings_in_threads_do_not_disturb_each_other():
    def train(seed):
        net = a_net(seed=seed)
        a_fit(net, epochs=20)
        return net.parameters.tobytes()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(train, range(6))) == [train(seed) for seed in range(6)]


# Which rows it sees


@settings(max_examples=30)
@given(n=st.integers(1, 20), batch_size=st.integers(1, 25), shuffle=st.booleans())
def test_every_row_once_in_each_epoch(n, batch_size, shuffle):
    recorder = Recorder()
    net = fb.Sequential([recorder, fb.Dense(1, 1)], seed=0)
    X = np.arange(n)[:, None]
    net.fit(X, np.zeros(n), loss=SQUARED, optimizer=fb.SGD(0), epochs=3, batch_size=batch_size,
            shuffle=shuffle, seed=n)
    per_epoch = -(-n // batch_size)
    assert len(recorder.trained) == 3 * per_epoch
    for epoch in range(3):
        batches = recorder.trained[epoch * per_epoch : (epoch + 1) * per_epoch]
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [batch_size] * (per_epoch - 1), "only the last batch is short"
        rows = flat(batches)
        assert sorted(rows) == list(range(n))
        assert shuffle or rows == list(range(n))


def an_order(n):
    """With repeats, and not in the order of the rows."""
    return (7 * np.arange(n)) % (n - n // 4)


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8, ">i2", list, "reversed"])
def test_an_order_of_ones_own(kind):
    recorder, asked = Recorder(), []

    def order(n):
        asked.append(n)
        places = (an_order(n) + len(asked)) % n
        if kind == "reversed":
            return places[::-1].copy()[::-1]
        return places.tolist() if kind is list else places.astype(kind)

    X, y = classes()
    X[:, 0] = np.arange(23)
    history = a_fit(fb.Sequential([recorder, fb.Dense(4, 3)]), X, y, shuffle=order, epochs=3)
    assert asked == [23] * 3
    assert flat(recorder.trained) == [(row + i) % 23 for i in (1, 2, 3) for row in an_order(23)]
    assert len(history["loss"]) == 3


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fraction", [0, 0.3])
def test_an_order_of_ones_own_on_both_paths(dtype, weighted, fraction):
    X, y = classes()
    w = np.arange(23.0) if weighted else None

    def run(watch, order):
        net = a_net(dtype)
        history = a_fit(net, X, y, seed=0, shuffle=order, sample_weight=w, epochs=3,
                        optimizer=watch(fb.Adam(0.01)), validation_fraction=fraction)
        return timeless(history), net.parameters.tobytes()

    assert run(record, an_order) == run(lambda optimizer: optimizer, an_order)
    if not fraction:
        same = run(lambda optimizer: optimizer, lambda n: np.arange(n))
        assert same == run(lambda optimizer: optimizer, False)


def test_an_order_is_one_of_the_rows_that_are_not_set_aside():
    recorder, asked = Recorder(), []
    X, y = classes(40)
    X[:, 0] = np.arange(40)

    def order(n):
        asked.append(n)
        return np.zeros(n, int) if len(asked) == 1 else np.arange(n)

    a_fit(fb.Sequential([recorder, fb.Dense(4, 3)], seed=0), X, y, shuffle=order,
          validation_fraction=0.3)
    assert asked == [28, 28]
    seen, aside = flat(recorder.trained), set(flat(recorder.predicted))
    assert len(set(seen[:28])) == 1
    assert len(aside) == 12
    assert set(seen[28:]) == set(range(40)) - aside


def test_an_order_that_is_the_callers_own_array_is_left_alone():
    places = np.arange(23)[::-1].copy()
    places.setflags(write=False)
    a_fit(a_net(), shuffle=lambda n: places)
    assert places.tolist() == list(range(23))[::-1]


@pytest.mark.parametrize("order", [
    lambda n: np.arange(n - 1), lambda n: np.arange(n + 1), lambda n: np.arange(n)[None],
    lambda n: np.arange(n, dtype=float), lambda n: np.ones(n, bool), lambda n: None,
    lambda n: 3, lambda n: [], lambda n: ["a"] * n, lambda n: np.arange(n) - 1,
    lambda n: np.arange(n) + 1, lambda n: np.full(n, 2**64 - 1, np.uint64),
    lambda n: np.full(n, -(2**63)), lambda n: [*range(n - 1), n], lambda n: [2**70] * n,
    lambda n: [[0], [1, 2]],
], ids=range(16))
@pytest.mark.parametrize("own", [False, True])
def test_an_order_that_is_none(order, own):
    net = a_net()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"^shuffle: expected .*callable"):
        a_fit(net, shuffle=order, optimizer=record(fb.SGD(1)) if own else fb.SGD(1))
    assert net.parameters.tobytes() == before


def test_an_order_that_is_none_later_on():
    net, twin, orders = a_net(), a_net(), iter([np.arange(23), np.arange(23), np.arange(22)])
    with pytest.raises(ValueError, match=r"^shuffle: expected 23 whole numbers"):
        a_fit(net, shuffle=lambda n: next(orders), epochs=5, seed=0)
    a_fit(twin, shuffle=False, epochs=2, seed=0)
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    assert len(net.history["loss"]) == 2


def test_targets_and_weights_go_with_their_rows():
    seen = []

    class Watching(fb.MeanSquaredError):
        def __call__(self, Z, y, sample_weight=None):
            seen.append(np.c_[Z, y, sample_weight])
            return super().__call__(Z, y, sample_weight)

    X = np.arange(1.0, 12)[:, None]
    net = fb.Sequential([fb.LeakyReLU()])
    net.fit(X, 10 * X, loss=Watching(), epochs=2, batch_size=4, sample_weight=X[:, 0] / 100)
    Z, y, w = np.concatenate(seen).T
    np.testing.assert_allclose(y, 10 * Z)
    np.testing.assert_allclose(w, Z / 100, rtol=1e-6)


def numbers(n=12):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 2))


@pytest.mark.parametrize("optimizer", [fb.SGD(0.1, momentum=0.5), fb.Adam(0.05)], ids=repr)
def test_a_weight_of_two_is_a_row_twice_and_of_zero_a_row_left_out(optimizer):
    X, Y = numbers()
    w = np.array([2, 1, 0, 1, 2, 2, 0, 1, 1, 0, 2, 1])

    def run(X, Y, w):
        net = fb.mlp([2, 5, 2], "tanh", dtype="float64", seed=0)
        history = net.fit(X, Y, loss=SQUARED, optimizer=optimizer, epochs=15, batch_size=100,
                          shuffle=False, sample_weight=w)
        return np.r_[net.parameters, history["loss"], history["r2"]]

    twice = np.repeat(np.arange(12), w)
    np.testing.assert_allclose(run(X, Y, w), run(X[twice], Y[twice], None), rtol=1e-9)
    np.testing.assert_allclose(run(X, Y, w * 3), run(X, Y, w), rtol=1e-9)
    assert abs(run(X, Y, w) - run(X, Y, None)).max() > 1e-3


def test_a_batch_whose_weights_are_all_zero():
    X, Y = numbers(8)
    w = [0, 0, 0, 0, 1, 2, 3, 4]
    for optimizer in (fb.SGD(0.1), fb.Adam(0.1)):
        net = fb.mlp([2, 2], dtype="float64", seed=0)
        history = net.fit(X, Y, loss=SQUARED, optimizer=optimizer, batch_size=4, shuffle=False,
                          sample_weight=w, epochs=3)
        assert np.isfinite(net.parameters).all()
        assert np.isfinite(history["loss"]).all()


# Validation


def test_validation_fraction_sets_rows_aside(dtype):
    recorder = Recorder()
    X, y = classes(40)
    X[:, 0] = np.arange(40)
    net = fb.Sequential([recorder, fb.Dense(4, 3)], dtype, seed=0)
    history = a_fit(net, X, y, validation_fraction=0.3, epochs=3, seed=5)
    per_epoch = -(-28 // 5)
    aside = set(flat(recorder.predicted))
    assert len(aside) == 12
    for epoch in range(3):
        batches = recorder.trained[epoch * per_epoch : (epoch + 1) * per_epoch]
        assert set(flat(batches)) == set(range(40)) - aside
    rows = sorted(map(int, aside))
    assert rows != list(range(12)), "drawn at random"
    scores = net.evaluate(X[rows], y[rows], loss=CROSS_ENTROPY)
    assert history["val_accuracy"][-1] == pytest.approx(scores["accuracy"])
    assert history["val_loss"][-1] == pytest.approx(scores["loss"], rel=1e-6)


def test_what_is_set_aside_follows_from_the_seed():
    def aside(seed):
        recorder = Recorder()
        a_fit(fb.Sequential([recorder, fb.Dense(4, 3)]), validation_fraction=0.3, seed=seed)
        return sorted(recorder.predicted[0])

    assert aside(1) == aside(1)
    assert aside(1) != aside(2)


def test_validation_data_is_evaluated_after_each_epoch_and_not_learned_from():
    X_val, y_val = classes(9, seed=1)
    w_val = np.arange(9)
    net, plain = a_net(), a_net()
    scores = []
    history = a_fit(
        net, seed=0, epochs=3, validation_data=(X_val, y_val, w_val), validation_fraction=0.5,
        callbacks=[lambda training: scores.append(
            net.evaluate(X_val, y_val, loss=CROSS_ENTROPY, sample_weight=w_val))],
    )
    a_fit(plain, seed=0, epochs=3)
    assert history["val_loss"] == [score["loss"] for score in scores]
    assert history["val_accuracy"] == [score["accuracy"] for score in scores]
    assert net.parameters.tobytes() == plain.parameters.tobytes()


# The penalty on weights


def a_numpy_network(shapes, parameters):
    """W and b of each layer, out of a flat array."""
    start = 0
    for n_in, n_out in shapes:
        yield parameters[start : start + n_in * n_out].reshape(n_in, n_out), \
            parameters[start + n_in * n_out : start + (n_in + 1) * n_out]
        start += (n_in + 1) * n_out


def numpy_objective(parameters, shapes, X, T, w, l2):
    """Cross-entropy of a tanh network, with the penalty, and its gradient, in float64."""
    layers = list(a_numpy_network(shapes, parameters))
    outputs = [X]
    for W, b in layers[:-1]:
        outputs.append(np.tanh(outputs[-1] @ W + b))
    W, b = layers[-1]
    Z = outputs[-1] @ W + b
    loss = (w * (scipy.special.logsumexp(Z, axis=1) - (T * Z).sum(axis=1))).sum()
    penalty = l2 / 2 * sum((W**2).sum() for W, _ in layers)
    dZ, gradient = w[:, None] * (scipy.special.softmax(Z, axis=1) - T), []
    for (W, _), A in zip(layers[::-1], outputs[::-1], strict=True):
        gradient[:0] = [(A.T @ dZ + l2 * W).ravel(), dZ.sum(axis=0)]
        dZ = (dZ @ W.T) * (1 - A**2)
    return (loss + penalty) / w.sum(), np.concatenate(gradient) / w.sum()


SHAPES = [(4, 6), (6, 3)]


def penalized(seed=0, rows=23):
    """A network in float64, data, targets as rows, and weights."""
    X, y = classes(rows, seed)
    w = np.random.default_rng(seed).random(rows) + 0.1
    return fb.mlp([4, 6, 3], "tanh", dtype="float64", seed=seed), X, y, np.eye(3)[y], w


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3, 20.0])
@pytest.mark.parametrize("watch", [record, lambda optimizer: optimizer], ids=["layers", "engine"])
def test_a_penalty_is_that_of_a_loop_in_numpy(weighted, l2, watch):
    net, X, y, T, w = penalized()
    P, w = net.parameters.copy(), w if weighted else np.ones(23)
    history = a_fit(net, X, y, optimizer=watch(fb.SGD(0.1)), shuffle=False, l2=l2, epochs=3,
                    sample_weight=w if weighted else None)
    losses = []
    for _ in range(3):
        total = 0
        for start in range(0, 23, 5):
            rows = slice(start, start + 5)
            value, gradient = numpy_objective(P, SHAPES, X[rows], T[rows], w[rows], l2)
            P -= 0.1 * gradient
            total += value * w[rows].sum()
        losses.append(total / w.sum())
    np.testing.assert_allclose(net.parameters, P, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_penaltys_gradient_agrees_with_central_differences(weighted):
    net, X, y, _, w = penalized()
    w, l2, h = w if weighted else None, 0.7, 1e-5
    start = net.parameters.copy()

    def objective(P):
        net.parameters[:] = P
        weights = sum((layer.W**2).sum() for layer in net.layers[::2])
        total = 23 if w is None else w.sum()
        return net.evaluate(X, y, loss=CROSS_ENTROPY, sample_weight=w)["loss"] \
            + l2 / 2 * weights / total

    history = a_fit(net, X, y, optimizer=fb.SGD(1), epochs=1, batch_size=23, sample_weight=w,
                    l2=l2)
    gradient = start - net.parameters
    assert history["loss"] == pytest.approx([objective(start)], rel=1e-12)
    for i in range(start.size):
        nudge = np.zeros(start.size)
        nudge[i] = h
        slope = (objective(start + nudge) - objective(start - nudge)) / (2 * h)
        assert gradient[i] == pytest.approx(slope, abs=1e-8)


def test_a_penalty_on_weights_of_several_blocks(dtype):
    """Of 8192 numbers each: the sum is that of all, compiled and interpreted."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 130)), rng.normal(size=(6, 90))
    found = []
    for new_steps in (training.new_steps, reference.new_steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "new_steps", new_steps)
            net = fb.mlp([130, 200, 90], dtype=dtype, seed=0)
            plain = net.evaluate(X, Y, loss=SQUARED)["loss"]
            squares = math.fsum(float(x) ** 2 for layer in net.layers[::2] for x in layer.W.flat)
            history = net.fit(X, Y, loss=SQUARED, optimizer=fb.SGD(0.01), epochs=1, batch_size=6,
                              l2=0.5, seed=0)
            assert history["loss"][0] == pytest.approx(plain + 0.5 / 2 * squares / 6, rel=1e-6)
            found.append((history["loss"], net.parameters.tobytes()))
    assert found[0] == found[1]


class Bilinear(fb.Layer):
    """A layer of one's own whose parameters have one, two and three dimensions."""

    def __init__(self):
        super().__init__(3, 2, one=(2,), two=(3, 2), three=(2, 2, 2))

    def initialize(self, rng):
        for name in self.parameter_shapes:
            getattr(self, name)[...] = rng.normal(size=getattr(self, name).shape)

    def forward(self, X, training=True):
        self.X = X
        return X @ self.two + self.one + self.three.sum(axis=(0, 1))

    def backward(self, dZ):
        self.dtwo[...] = self.X.T @ dZ
        self.done[...] = dZ.sum(axis=0)
        self.dthree[...] = dZ.sum(axis=0)
        return dZ @ self.two.T


def test_parameters_of_two_dimensions_alone_are_penalized(dtype):
    X, Y = np.zeros((5, 3)), np.zeros((5, 2))
    net = fb.Sequential([Bilinear()], dtype, seed=0)
    layer, start = net.layers[0], net.parameters.copy()
    layer.one, layer.three = 0, 0
    squares = float((layer.two.astype(float) ** 2).sum())
    history = net.fit(X, Y, loss=SQUARED, optimizer=fb.SGD(0.5), epochs=1, batch_size=5, l2=2)
    assert history["loss"] == pytest.approx([2 / 2 * squares / 5], rel=1e-6)
    twin = fb.Sequential([Bilinear()], dtype, seed=0)
    np.testing.assert_array_equal(twin.parameters, start)
    np.testing.assert_allclose(layer.two, twin.layers[0].two * (1 - 0.5 * 2 / 5), rtol=1e-6)
    assert not layer.one.any()
    assert not layer.three.any()


def test_a_penalty_is_no_part_of_validation(dtype):
    X, y = classes()
    net = fb.mlp([4, 3], dtype=dtype, seed=0)
    history = a_fit(net, X, y, l2=5.0, validation_data=(X, y), optimizer=fb.SGD(0), epochs=1,
                    batch_size=23)
    squares = float((net.layers[0].W.astype(float) ** 2).sum())
    assert history["val_loss"] == [net.evaluate(X, y, loss=CROSS_ENTROPY)["loss"]]
    assert history["loss"][0] - history["val_loss"][0] == pytest.approx(
        5 / 2 * squares / 23, rel=1e-5)


def test_a_penalty_where_a_batch_has_no_weight(dtype):
    X, Y = numbers(8)

    def run(watch):
        net = fb.mlp([2, 3, 2], dtype=dtype, seed=0)
        start = net.parameters.copy()
        history = net.fit(X, Y, loss=SQUARED, optimizer=watch(fb.SGD(0.1)), batch_size=4,
                          shuffle=lambda n: [*range(4)] * 2, sample_weight=[0] * 4 + [1] * 4,
                          epochs=2, l2=3.0)
        assert net.parameters.tobytes() == start.tobytes()
        return timeless(history)

    for history in (run(record), run(lambda optimizer: optimizer)):
        assert np.isnan(history["loss"]).all()


@pytest.mark.parametrize("l2", [1e39, 1e300])
@pytest.mark.parametrize("watch", [record, lambda optimizer: optimizer], ids=["layers", "engine"])
def test_a_penalty_that_is_too_strong(dtype, l2, watch):
    net = a_net(dtype)
    with pytest.raises(FloatingPointError, match="diverged at step"):
        a_fit(net, l2=l2, optimizer=watch(fb.SGD(1.0)), epochs=200)
    assert np.isfinite(net.parameters).all()


def test_a_callback_can_change_the_penalty(dtype):
    def run(watch):
        net = a_net(dtype)
        history = a_fit(net, seed=0, l2=0.1, epochs=3, optimizer=watch(fb.Adam(0.01)),
                        callbacks=[lambda run: setattr(run, "l2", 2.0 * run.epoch)])
        return timeless(history), net.parameters.tobytes()

    assert run(record) == run(lambda optimizer: optimizer)


# Sparse rows


def sparse(X, form, kind=scipy.sparse.csr_array, index=None, dtype=None):
    rows = kind(X.astype(dtype or X.dtype))
    if index is not None:
        rows.indices, rows.indptr = rows.indices.astype(index), rows.indptr.astype(index)
    return rows.asformat(form)


def some_zeros(n=23):
    X, y = classes(n)
    X = np.round(4 * X)
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0
    X[[0, 5, 6, n - 1]] = 0
    return X, y


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("watch", [record, lambda optimizer: optimizer], ids=["layers", "engine"])
def test_sparse_rows_give_the_bits_of_dense_ones(dtype, form, kind, watch):
    X, y = some_zeros()
    w = np.arange(23.0)

    def run(X, **options):
        net = a_net(dtype)
        history = a_fit(net, X, y, seed=0, optimizer=watch(fb.Adam(0.01)), **options)
        return timeless(history), net.parameters.tobytes(), net.predict(X).tobytes(), \
            net.evaluate(X, y, loss=CROSS_ENTROPY)

    for options in ({}, {"sample_weight": w, "validation_fraction": 0.3, "l2": 0.1},
                    {"validation_data": (sparse(X, form, kind), y, w)}):
        expected = run(X, **options)
        assert run(sparse(X, form, kind), **options) == expected
        for other in ("f4", "f8", "i1", "i8", "g"):
            assert run(sparse(X, form, kind, dtype=other), **options) == expected, other
        if form == "csr":
            for index in ("i4", "i8"):
                assert run(sparse(X, form, kind, index), **options) == expected, index
    assert run(sparse(X > 1, form, kind)) == run((X > 1).astype(dtype))


@pytest.mark.parametrize("watch", [record, lambda optimizer: optimizer], ids=["layers", "engine"])
def test_sparse_rows_without_a_number(dtype, watch):
    y = classes()[1]
    results = []
    for X in (np.zeros((23, 4)), scipy.sparse.csr_array((23, 4)), scipy.sparse.coo_matrix((23, 4))):
        net = a_net(dtype)
        results.append((timeless(a_fit(net, X, y, seed=0, optimizer=watch(fb.Adam()))),
                        net.parameters.tobytes(), net.predict(X).tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "u1", "?"])
@pytest.mark.parametrize("watch", [record, lambda optimizer: optimizer], ids=["layers", "engine"])
def test_sparse_rows_with_duplicates_in_any_order(dtype, kind, watch):
    """They are summed as SciPy sums them, whatever their dtype, by `fit` as by `predict`."""
    rng = np.random.default_rng(0)
    starts = np.r_[0, np.cumsum(rng.integers(0, 9, 23) * np.r_[9, [1] * 21, 9])]
    values = rng.normal(size=starts[-1]) if kind[0] == "f" else rng.integers(0, 99, starts[-1])
    X = scipy.sparse.csr_array((values.astype(kind), rng.integers(0, 4, starts[-1]), starts),
                               shape=(23, 4))
    assert not X.has_canonical_format
    y, kept, results = classes()[1], X.copy(), []
    for rows in (X, X.toarray()):
        net = a_net(dtype)
        history = a_fit(net, rows, y, seed=0, optimizer=watch(fb.SGD(0.1)),
                        validation_fraction=0.2)
        results.append((timeless(history), net.parameters.tobytes(), net.predict(rows).tobytes(),
                        net.evaluate(rows, y, loss=CROSS_ENTROPY)))
    assert results[0] == results[1]
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, name), getattr(kept, name))


def broken(**parts):
    """Rows of compressed columns, whose arrays are changed behind their back."""
    X = scipy.sparse.csr_array(np.ones((12, 4)))
    for name, (place, value) in parts.items():
        getattr(X, name)[place] = value
    return X


@pytest.mark.parametrize("parts", [
    {"indices": (5, 4)}, {"indices": (5, 10**9)}, {"indices": (5, -1)}, {"indptr": (3, 10**9)},
    {"indptr": (3, -1)}, {"indptr": (12, 10**6)}, {"indptr": (0, 1)}, {"indptr": (3, 40)},
    {"data": (7, math.nan)}, {"data": (7, -math.inf)}, {"data": (7, 1e39)},
], ids=str)
@pytest.mark.parametrize("prefix", ["", "validation_data "])
def test_sparse_rows_that_are_broken(parts, prefix):
    X, y, net = broken(**parts), np.arange(12) % 3, a_net()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=f"^{prefix}X[.:]"):
        if prefix:
            a_fit(net, np.ones((12, 4)), y, validation_data=(X, y))
        else:
            a_fit(net, X, y)
    assert net.parameters.tobytes() == before
    with pytest.raises(ValueError, match=r"^X"):
        net.evaluate(X, y, loss=CROSS_ENTROPY)


@pytest.mark.parametrize(("X", "error", "message"), [
    (scipy.sparse.csr_array(np.ones((12, 3))), ValueError, "X: expected 4 columns.*got 3"),
    (scipy.sparse.csr_array((0, 4)), ValueError, r"X: expected at least one row.*\(0, 4\)"),
    (scipy.sparse.coo_array(np.ones(4)), ValueError, "X: expected 2 dimensions.*got 1"),
    (scipy.sparse.csr_array(np.ones((12, 4), complex)), TypeError, "X.*real numbers.*complex"),
    (scipy.sparse.csr_array(np.ones((11, 4))), ValueError, "y: expected 11 rows"),
])
def test_sparse_rows_that_do_not_fit(X, error, message):
    with pytest.raises(error, match=f"^{message}"):
        a_fit(a_net(), X, np.arange(12) % 3)


@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_sparse_rows_are_left_alone(index, kind):
    X = sparse(some_zeros()[0], "csr", index=index, dtype=kind)
    kept = X.copy()
    a_fit(a_net(), X, some_zeros()[1], validation_fraction=0.3)
    a_net().predict(X)
    for name in ("data", "indices", "indptr"):
        after, before = getattr(X, name), getattr(kept, name)
        assert (after.dtype, after.tobytes()) == (before.dtype, before.tobytes())


# L-BFGS


def minimum(shapes, X, T, w, l2, start):
    """Of the objective in NumPy, by SciPy alone."""
    return scipy.optimize.minimize(
        numpy_objective, start, (shapes, X, T, w, l2), method="L-BFGS-B", jac=True,
        options={"gtol": 1e-9, "ftol": 0, "maxiter": 5000, "maxfun": 50000})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.5, 5.0])
@pytest.mark.parametrize("own", [False, True], ids=["engine", "layers"])
def test_lbfgs_finds_the_minimum_of_a_convex_loss(dtype, weighted, l2, own):
    """There is only one, up to a number that softmax ignores."""
    class Own(fb.SoftmaxCrossEntropy):
        pass

    X, y = classes(60)
    w = np.random.default_rng(0).random(60) + 0.1 if weighted else np.ones(60)
    net = fb.mlp([4, 3], dtype=dtype, seed=0)
    expected = minimum([(4, 3)], X, np.eye(3)[y], w, l2, net.parameters.astype(float))
    result = training.lbfgs(net, X, y, loss=Own() if own else CROSS_ENTROPY, l2=l2, tol=1e-6,
                            sample_weight=w if weighted else None)
    close = 3e-3 if dtype == "f4" else 1e-4
    assert result.fun == pytest.approx(expected.fun, rel=3e-7 if dtype == "f4" else 1e-8)
    W, b = next(a_numpy_network([(4, 3)], expected.x))
    np.testing.assert_allclose(net.layers[0].W, W, atol=close)
    np.testing.assert_allclose(net.layers[0].b - net.layers[0].b.mean(), b - b.mean(), atol=close)


def test_lbfgs_goes_as_far_down_as_scipy_does():
    """Of several minima they find the same: float64 and the same steps."""
    net, X, y, T, w = penalized(seed=3, rows=40)
    expected = minimum(SHAPES, X, T, w, 0.3, net.parameters.copy())
    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, sample_weight=w, l2=0.3, tol=1e-7,
                            max_iter=5000)
    assert result.fun == pytest.approx(expected.fun, rel=1e-6)
    value, gradient = numpy_objective(net.parameters, SHAPES, X, T, w, 0.3)
    assert value == pytest.approx(result.fun, rel=1e-12)
    assert abs(gradient).max() < 1e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_has_the_same_bits_on_every_path(dtype, weighted):
    class Own(fb.SoftmaxCrossEntropy):
        pass

    X, y = some_zeros()
    w, used, found = np.arange(23.0) if weighted else None, dispatch.isa(), set()
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for loss in (fb.SoftmaxCrossEntropy(), Own()):
                for rows in (X, scipy.sparse.csr_array(X)):
                    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
                    result = training.lbfgs(net, rows, y, loss=loss, sample_weight=w, l2=0.1,
                                            max_iter=8)
                    found.add((result.fun, result.nit, net.parameters.tobytes()))
    finally:
        dispatch.use(used)
    assert len(found) == 1


@pytest.mark.parametrize("loss", [SQUARED, fb.MeanAbsoluteError(), fb.PoissonDeviance(),
                                  fb.SigmoidCrossEntropy()], ids=repr)
def test_lbfgs_lowers_every_loss(dtype, loss):
    X, y = classes(40)
    Y = np.eye(3)[y]
    net = fb.mlp([4, 8, 3], "tanh", dtype=dtype, seed=0)
    before = net.evaluate(X, Y, loss=loss)["loss"]
    result = training.lbfgs(net, X, Y, loss=loss, max_iter=60)
    assert net.evaluate(X, Y, loss=loss)["loss"] == pytest.approx(result.fun, rel=1e-5)
    assert result.fun < 0.8 * before


def test_what_lbfgs_returns(dtype):
    X, y = classes(60)
    net, seen = fb.mlp([4, 3], dtype=dtype, seed=0), []

    def callback(intermediate_result):
        seen.append(float(intermediate_result.fun))

    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, l2=1.0, callback=callback)
    assert result.success
    assert result.status == 0
    assert isinstance(result.message, str)
    assert len(seen) == result.nit > 1
    assert result.nfev >= result.nit
    assert seen[-1] == pytest.approx(result.fun)
    assert seen == sorted(seen, reverse=True)
    squares = float((net.layers[0].W.astype(float) ** 2).sum())
    assert result.fun == pytest.approx(
        net.evaluate(X, y, loss=CROSS_ENTROPY)["loss"] + squares / 2 / 60, rel=1e-6)
    assert net.history is None


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_lbfgs_stops_where_it_is_told_to(limit):
    X, y = classes(60)
    net = fb.mlp([4, 6, 3], dtype="float64", seed=0)
    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, max_iter=limit)
    assert (result.nit, result.status, result.success) == (limit, 1, False)
    again = training.lbfgs(fb.mlp([4, 6, 3], dtype="float64", seed=0), X, y, loss=CROSS_ENTROPY,
                           max_evaluations=limit)
    assert limit <= again.nfev <= limit + 25
    assert again.status == 1
    twin = fb.mlp([4, 6, 3], dtype="float64", seed=0)
    assert training.lbfgs(twin, X, y, loss=CROSS_ENTROPY, tol=1e9).nit == 0
    np.testing.assert_array_equal(
        twin.parameters, fb.mlp([4, 6, 3], dtype="float64", seed=0).parameters)


def test_a_callback_can_stop_lbfgs():
    def callback(intermediate_result):
        raise StopIteration

    X, y = classes()
    result = training.lbfgs(fb.mlp([4, 3]), X, y, loss=CROSS_ENTROPY, callback=callback)
    assert result.nit == 1


@pytest.mark.parametrize("x", [np.nan, np.inf, 1e300])  # the last is infinite in float32
def test_lbfgs_that_diverges_leaves_the_first_weights(monkeypatch, x):
    def minimize(objective, start, **options):
        objective(np.full_like(start, x))
        return scipy.optimize.OptimizeResult(x=np.full_like(start, x))

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    net = fb.Sequential([fb.Dense(2, 1)], seed=0)
    before = net.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="lbfgs diverged"):
        training.lbfgs(net, np.ones((2, 2)), [0, 1], loss=SQUARED)
    assert net.parameters.tobytes() == before.tobytes()


def test_lbfgs_refuses_dropout():
    net = a_net()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"^network: expected .*without dropout"):
        training.lbfgs(net, *classes(), loss=CROSS_ENTROPY)
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize("arguments", [{"X": np.ones((12, 2))}, {"y": np.full(12, 3)},
                                       {"loss": None}, {"sample_weight": [1]},
                                       {"X": np.full((12, 4), np.nan)}, {"l2": -1.0},
                                       {"l2": math.nan}, {"l2": "1"}])
def test_lbfgs_refuses_what_fit_refuses(arguments):
    net = fb.mlp([4, 6, 3], seed=0)
    before = net.parameters.tobytes()
    good = {"X": np.ones((12, 4)), "y": np.arange(12) % 3, "loss": CROSS_ENTROPY}
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(arguments))}: "):
        training.lbfgs(net, **good | arguments)
    assert net.parameters.tobytes() == before


# History


@pytest.mark.parametrize(
    ("loss", "options", "keys"),
    [
        (CROSS_ENTROPY, {}, "loss accuracy learning_rate seconds"),
        (CROSS_ENTROPY, {"validation_fraction": 0.3},
         "loss accuracy val_loss val_accuracy learning_rate seconds"),
        (SQUARED, {"validation_fraction": 0.3, "gradient_norms": True},
         "loss r2 val_loss val_r2 learning_rate seconds gradient_norms"),
    ],
)
def test_history_has_a_value_for_each_epoch(loss, options, keys):
    X, y = classes()
    y = y if loss is CROSS_ENTROPY else np.eye(3)[y]
    net = a_net()
    history = net.fit(X, y, loss=loss, epochs=3, **options)
    assert history is net.history
    assert isinstance(history, fb.History)
    assert list(history) == keys.split()
    assert all(len(values) == 3 for values in history.values())
    assert all(seconds > 0 for seconds in history["seconds"])
    assert history.layer_names == ["0 Dense", "3 Dense"]
    assert history.stopped is None


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("regression", [False, True])
def test_history_has_the_mean_over_the_epochs_batches(dtype, weighted, regression):
    """With a learning rate of 0 it is what `evaluate` says."""
    X, y = classes(22)
    loss, metric = (SQUARED, "r2") if regression else (CROSS_ENTROPY, "accuracy")
    y = np.eye(3)[y] if regression else y
    w = np.arange(22.0) if weighted else None
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    history = net.fit(X, y, loss=loss, optimizer=fb.SGD(0), epochs=2, batch_size=5,
                      sample_weight=w)
    scores = net.evaluate(X, y, loss=loss, sample_weight=w)
    assert history["loss"] == pytest.approx([scores["loss"]] * 2, rel=1e-6)
    assert history[metric] == pytest.approx([scores[metric]] * 2, rel=1e-6)


def test_gradient_norms_are_those_of_each_layer(dtype):
    X, y = classes()
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    twin = net.astype(dtype)
    twin.backward(CROSS_ENTROPY(twin.forward(X), y)[1])
    expected = [
        np.linalg.norm(np.r_[layer.dW.ravel(), layer.db].astype(float))
        for layer in (twin.layers[0], twin.layers[2])
    ]
    clipped = fb.SGD(0.1, clip_norm=1e-3)  # norms are of the gradients as they came
    history = a_fit(net, X, y, epochs=1, batch_size=100, shuffle=False, optimizer=clipped,
                    gradient_norms=True)
    np.testing.assert_allclose(history["gradient_norms"][0], expected, rtol=1e-5)


def test_gradient_norms_are_the_mean_over_the_steps():
    X, y = classes(20)
    net = fb.mlp([4, 3], dtype="float64", seed=0)
    singles = [
        a_fit(net.astype("float64"), X[rows], y[rows], epochs=1, optimizer=fb.SGD(0),
              gradient_norms=True)["gradient_norms"][0]
        for rows in np.arange(20).reshape(4, 5)
    ]
    history = a_fit(net, X, y, epochs=1, optimizer=fb.SGD(0), shuffle=False, gradient_norms=True)
    np.testing.assert_allclose(history["gradient_norms"][0], np.mean(singles, axis=0), rtol=1e-12)


# Optimizer and learning rate


def test_adam_is_the_default():
    nets = a_net(), a_net()
    a_fit(nets[0], seed=0)
    a_fit(nets[1], seed=0, optimizer=fb.Adam())
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()


@pytest.mark.parametrize("make", [lambda: fb.SGD(0.1, momentum=0.9), lambda: fb.Adam(0.01)],
                         ids=["SGD", "Adam"])
def test_the_optimizers_state_goes_on_over_fits(dtype, make):
    X, y = classes()

    def run(*epochs):
        net, optimizer = fb.mlp([4, 6, 3], dtype=dtype, seed=0), make()
        for n in epochs:
            a_fit(net, X, y, optimizer=optimizer, epochs=n, shuffle=False)
        assert optimizer.steps == 5 * sum(epochs)
        return net, optimizer

    first, optimizer = run(5)
    straight = first.parameters.tobytes()
    assert run(2, 3)[0].parameters.tobytes() == straight
    other = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    a_fit(other, X, y, optimizer=optimizer, epochs=5, shuffle=False)
    assert optimizer.steps == 25
    assert other.parameters.tobytes() == straight, "another network starts afresh"


def test_the_schedule_is_asked_for_the_time_of_each_step():
    times = []

    def schedule(time):
        times.append(time)
        return 0.1 / (1 + time)

    optimizer = record(fb.SGD(schedule))
    history = a_fit(a_net(), optimizer=optimizer, epochs=3)  # 5 steps an epoch
    expected = [epoch + i / 5 for epoch in range(3) for i in range(5)]
    assert list(dict.fromkeys(times)) == pytest.approx(expected, rel=1e-15)
    assert optimizer.rates == pytest.approx([0.1 / (1 + time) for time in expected])
    assert history["learning_rate"] == optimizer.rates[4::5]


def test_training_goes_on_after_the_end_of_a_cosine():
    schedule = fb.schedules.Cosine(0.1, epochs=2, warm_up=1)
    optimizer = record(fb.SGD(schedule))
    a_fit(a_net(), optimizer=optimizer, epochs=4)
    assert optimizer.rates[0] == 0
    assert optimizer.rates[5] == pytest.approx(0.1)
    assert optimizer.rates[10:] == pytest.approx([0] * 10, abs=1e-15)


@pytest.mark.parametrize("clip_norm", [1e-3, 0.1])
def test_clipping_bounds_every_step(dtype, clip_norm):
    net = a_net(dtype)
    optimizer = record(fb.SGD(1, clip_norm=clip_norm))
    start = net.parameters.copy()
    a_fit(net, optimizer=optimizer)
    moves = np.diff([start, *optimizer.after], axis=0)
    assert np.linalg.norm(moves, axis=1).max() <= clip_norm * 1.001
    assert np.linalg.norm(moves, axis=1).max() >= clip_norm * 0.999, "none was clipped"


def test_fit_is_the_loop_by_hand(dtype):
    X, y = classes()
    net, hand = fb.mlp([4, 6, 3], dtype=dtype, seed=0), fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    a_fit(net, X, y, optimizer=fb.Adam(0.01), shuffle=False)
    optimizer = fb.Adam(0.01)
    for _ in range(2):
        for start in range(0, 23, 5):
            rows = slice(start, start + 5)
            _, dZ = CROSS_ENTROPY(hand.forward(X[rows]), y[rows])
            hand.backward(dZ)
            optimizer.step(hand.parameters, hand.gradients)
    assert net.parameters.tobytes() == hand.parameters.tobytes()


# The data is neither converted whole nor touched


def forms(X, tmp_path):
    """The same numbers in all forms that `fit` takes."""
    mapped = np.memmap(tmp_path / "X", np.float64, "w+", shape=X.shape)
    mapped[:] = X
    mapped.flush()
    frozen = X.copy()
    frozen.setflags(write=False)
    wide = np.zeros((2 * len(X), X.shape[1] + 3))
    wide[::2, 1:-2] = X
    yield from (X.astype(kind) for kind in ("f2", "f4", "f8", np.longdouble, "u1", "i8", ">f4"))
    yield np.memmap(tmp_path / "X", np.float64, "r", shape=X.shape)
    yield from (frozen, np.asfortranarray(X), wide[::2, 1:-2], X[::-1][::-1], X.tolist())
    yield ArrayLike(X)


class ArrayLike:
    """What a table of another library looks like to NumPy."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def test_any_form_of_X_gives_the_same_bits(dtype, tmp_path):
    X, y = np.random.default_rng(0).integers(0, 5, (23, 4)).astype(dtype), classes()[1]

    def run(X, y=y):
        net = a_net(dtype)
        history = a_fit(net, X, y, seed=0, validation_fraction=0.2)
        return timeless(history), net.parameters.tobytes()

    expected = run(X)
    for form in forms(X.astype(float), tmp_path):
        assert run(form) == expected
    assert run(X > 2) == run((X > 2).astype(dtype))
    for kind in ("u1", "f8", ">i2"):
        assert run(X, y.astype(kind)) == expected
    for labels in (y.tolist(), np.repeat(y, 2)[::2], ArrayLike(y)):
        assert run(X, labels) == expected


def test_the_data_is_left_alone():
    X, y = classes()
    w = np.ones(23)
    before = X.tobytes(), y.tobytes(), w.tobytes()
    a_fit(a_net("float64"), X, y, sample_weight=w)
    assert (X.tobytes(), y.tobytes(), w.tobytes()) == before


@pytest.mark.parametrize("fraction", [0, 0.25])
def test_X_is_not_copied_whole(tmp_path, fraction):
    X = np.memmap(tmp_path / "X", np.float64, "w+", shape=(40_000, 50))
    X[:, ::7] = 1
    net = fb.mlp([50, 1], seed=0)
    y = np.zeros(len(X))
    tracemalloc.start()
    net.fit(X, y, loss=SQUARED, epochs=1, batch_size=1000, validation_fraction=fraction)
    net.predict(X)
    net.evaluate(X, y, loss=SQUARED)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < X.nbytes / 2


# Bad input


def with_value(value, row, column=None, shape=(12, 4)):
    array = np.ones(shape)
    array[(row,) if column is None else (row, column)] = value
    return array


X, y = np.ones((12, 4)), np.arange(12) % 3
nan, inf = math.nan, math.inf
FAMILIES = {
    "dimensions": [
        ({"X": X[0]}, ValueError, r"X: expected 2 dimensions.*got 1 \(shape \(4,\)\)"),
        ({"X": X[None]}, ValueError, "X: expected 2 dimensions.*got 3"),
        ({"X": 1.0}, ValueError, "X: expected 2 dimensions.*got 0"),
        ({"y": y[:, None]}, ValueError, r"y: expected shape \(any, 3\).*got \(12, 1\)"),
        ({"y": y[None, None]}, ValueError, r"y: expected shape \(any, 3\)"),
        ({"sample_weight": np.ones((12, 1))}, ValueError, r"sample_weight: .*got \(12, 1\)"),
        ({"validation_data": (X[0], y)}, ValueError, "validation_data X: expected 2 dimensions"),
    ],
    "sizes": [
        ({"X": X[:, :3]}, ValueError, r"X: expected 4 columns.*got 3 \(shape \(12, 3\)\)"),
        ({"y": y[:11]}, ValueError, "y: expected 12 rows like X, got 11"),
        ({"y": np.ones((12, 4)) / 4}, ValueError, r"y: expected shape \(any, 3\).*got \(12, 4\)"),
        ({"sample_weight": np.ones(11)}, ValueError, r"sample_weight: expected shape \(12,\)"),
        ({"validation_data": (X[:, 1:], y)}, ValueError, "validation_data X: expected 4 columns"),
        ({"validation_data": (X, y[1:])}, ValueError, "validation_data y: expected 12 rows"),
        ({"validation_data": (X, y, np.ones(3))}, ValueError, "validation_data sample_weight: "),
        ({"y": X[:, :2], "loss": SQUARED}, ValueError, r"y: .*\(any, 3\).*got \(12, 2\)"),
    ],
    "kinds of arrays": [
        ({"X": X.astype(object)}, TypeError, "X: expected an array of real numbers.*object"),
        ({"X": X.astype(str)}, TypeError, "X: .*<U32.*text"),
        ({"X": X.astype(complex)}, TypeError, "X: .*complex128"),
        ({"X": X.astype("M8[D]")}, TypeError, r"X: .*datetime64"),
        ({"X": [[1, 2, 3, 4], [5]]}, ValueError, "X: expected an array of numbers"),
        ({"X": None}, TypeError, "X: .*None"),
        ({"y": y.astype(object)}, TypeError, "y: .*object"),
        ({"y": y.astype(str)}, TypeError, "y: .*text"),
        ({"y": y + 0j}, TypeError, "y: .*complex"),
        ({"sample_weight": ["a"] * 12}, TypeError, "sample_weight: .*text"),
        ({"validation_data": (X, y.astype(str))}, TypeError, "validation_data y: .*text"),
    ],
    "NaN and infinity": [
        ({"X": with_value(nan, 7, 2)}, ValueError, "X: .*got nan in row 7, column 2"),
        ({"X": with_value([-inf, nan], 3, slice(1, 3))}, ValueError, "-inf in row 3, column 1"),
        ({"X": with_value(1e39, 5, 1)}, ValueError, "X as float32: .*inf in row 5, column 1"),
        ({"X": with_value(inf, 0, 3).astype("f2")}, ValueError, "X: .*inf in row 0, column 3"),
        ({"y": with_value(nan, 4, None, 12)}, ValueError, "y: .*got nan in row 4"),
        ({"y": with_value(inf, 4, 1, (12, 3)), "loss": SQUARED}, ValueError,
         "y: .*inf in row 4, column 1"),
        ({"sample_weight": with_value(nan, 2, None, 12)}, ValueError, "sample_weight: .*row 2"),
        ({"validation_data": (with_value(nan, 1, 0), y)}, ValueError,
         "validation_data X: .*row 1, column 0"),
    ],
    "labels": [
        ({"y": y - 1}, ValueError, "y: .*whole numbers from 0 to 2.*got -1 in row 0"),
        ({"y": y + 1}, ValueError, "y: .*3 outputs, got 3 in row 2"),
        ({"y": y + 0.5}, ValueError, "y: .*got 0.5 in row 0"),
        ({"y": np.ones((12, 3))}, ValueError, "y: .*add up to 1.*row 0"),
        ({"y": 2 * np.eye(3)[y], "loss": fb.SigmoidCrossEntropy()}, ValueError,
         "y: .*between 0 and 1, got 2.0 in row 0, column 0"),
    ],
    "weights": [
        ({"sample_weight": with_value(-1, 3, None, 12)}, ValueError,
         "sample_weight: .*got -1.0 in row 3"),
        ({"sample_weight": np.zeros(12)}, ValueError, "sample_weight: expected some numbers"),
    ],
    "nothing": [
        ({"X": np.ones((0, 4)), "y": []}, ValueError, r"X: expected at least one row.*\(0, 4\)"),
        ({"X": []}, ValueError, "X: expected 2 dimensions"),
        ({"y": []}, ValueError, "y: expected at least one row"),
        ({"sample_weight": []}, ValueError, "sample_weight: expected at least one row"),
        ({"validation_data": (X[:0], y[:0])}, ValueError, "validation_data X: expected at least"),
    ],
    "counts": [
        *(({name: value}, error, f"{name}: expected a whole number.*got {value!r}")
          for name in ("epochs", "batch_size")
          for value, error in [(0, ValueError), (-3, ValueError), (2.5, TypeError),
                               ("8", TypeError), (None, TypeError), (True, ValueError)]),
        ({"seed": -1}, ValueError, "seed: .*at least 0, got -1"),
        ({"seed": 1.5}, TypeError, "seed: .*got 1.5"),
    ],
    "penalty": [
        *(({"l2": value}, ValueError, f"l2: expected a finite number and at least 0, got {value}")
          for value in (-1, nan, inf)),
        ({"l2": "1"}, TypeError, "l2: expected a number, got '1'"),
        ({"l2": None}, TypeError, "l2: expected a number, got None"),
    ],
    "shares": [
        *(({"validation_fraction": value}, ValueError, f"validation_fraction: .*got {value}")
          for value in (1, -0.1, nan, 0.01, 0.99)),
        ({"validation_fraction": "0.2"}, TypeError, "validation_fraction: .*got '0.2'"),
    ],
    "learning rate": [
        ({"optimizer": fb.SGD(lambda t: -1)}, ValueError, "learning_rate at epoch 0: .*got -1"),
        ({"optimizer": fb.Adam(lambda t: nan)}, ValueError, "learning_rate at epoch 0: .*got nan"),
        ({"optimizer": fb.SGD(lambda t: None)}, TypeError, "learning_rate at epoch 0: .*None"),
    ],
    "objects": [
        ({"loss": None}, TypeError, "loss: expected a Loss.*got None"),
        ({"loss": "mse"}, TypeError, "loss: expected a Loss.*got 'mse'"),
        ({"loss": fb.Huber}, TypeError, r"loss: .*the class Huber; make one: Huber\(\)"),
        ({"optimizer": "adam"}, TypeError, "optimizer: expected an Optimizer.*got 'adam'"),
        ({"optimizer": fb.Adam}, TypeError, "optimizer: .*Adam"),
        ({"callbacks": [3]}, TypeError, "callbacks: .*got 3"),
        ({"callbacks": [fb.EarlyStopping]}, TypeError, "callbacks: .*class EarlyStopping"),
        ({"callbacks": fb.EarlyStopping()}, TypeError, "callbacks: "),
        ({"callbacks": None}, TypeError, "callbacks: "),
        ({"callbacks": [fb.EarlyStopping()]}, ValueError, "val_loss.*validation_data"),
        ({"validation_data": X}, ValueError, r"validation_data: .*\(X, y\).*ndarray"),
        ({"validation_data": (X,)}, ValueError, r"validation_data: .*\(X, y\)"),
    ],
}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [pytest.param(*case, id=f"{family} {i}") for family, cases in FAMILIES.items()
     for i, case in enumerate(cases)],
)
def test_bad_input(arguments, error, message):
    """It is refused, by name, and the network is as if the call had not been made."""
    net, twin = a_net(), a_net()
    for each in (net, twin):
        a_fit(each, X, y)
    bits, gradients, history = net.parameters.tobytes(), net.gradients.tobytes(), net.history
    good = {"X": X, "y": y, "loss": CROSS_ENTROPY, "epochs": 1}
    with pytest.raises(error, match=message):
        net.fit(**good | arguments)
    assert net.parameters.tobytes() == bits
    if "at epoch" in message:  # a schedule is asked in the middle of a training
        return
    assert net.gradients.tobytes() == gradients
    assert net.history is history
    for each in (net, twin):
        a_fit(each, X, y)
    assert net.parameters.tobytes() == twin.parameters.tobytes()


def test_nan_is_found_far_into_the_data():
    X = np.zeros((20_000, 2), "f4")
    X[17_654, 1] = nan
    X[19_000, 0] = inf
    with pytest.raises(ValueError, match=r"^X: .*nan in row 17654, column 1"):
        fb.mlp([2, 1]).fit(X, np.zeros(len(X)), loss=SQUARED)


@pytest.mark.parametrize("arguments", [{"X": X[:, :2]}, {"y": y - 1}, {"loss": None},
                                       {"sample_weight": [1]}, {"X": with_value(nan, 7, 2)}])
def test_evaluate_refuses_the_same(arguments):
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(arguments))}: "):
        a_net().evaluate(**{"X": X, "y": y, "loss": CROSS_ENTROPY} | arguments)


# Divergence


class Turns(fb.MeanSquaredError):
    """Fine for three batches, then the value or the gradient is not."""

    def __init__(self, value=1.0, gradient=1.0):
        self.after = iter([(1.0, 1.0)] * 3 + [(value, gradient)])

    def __call__(self, Z, y, sample_weight=None):
        value, gradient = next(self.after)
        return value, np.full_like(Z, gradient)


DIVERGES = {
    "SGD": lambda: (fb.SGD(1e4), SQUARED),
    "enormous rate": lambda: (fb.SGD(1e300), SQUARED),
    "momentum": lambda: (fb.SGD(1e3, momentum=0.9, nesterov=True), SQUARED),
    "Adam": lambda: (fb.Adam(1e200), SQUARED),
    "AdamW": lambda: (fb.AdamW(1e20, weight_decay=1e10), SQUARED),
    "L2": lambda: (fb.SGD(0.1, weight_decay=1e30), SQUARED),
    "decay": lambda: (fb.SGD(1e-3, weight_decay=1e300), SQUARED),
    "schedule": lambda: (fb.SGD(lambda t: 10.0 ** (40 * t)), SQUARED),
    "loss": lambda: (fb.SGD(0.01), Turns(value=nan)),
    "gradient": lambda: (fb.SGD(0.01), Turns(gradient=inf)),
}


@pytest.mark.parametrize("case", DIVERGES)
def test_divergence_stops_with_the_last_finite_weights(dtype, case):
    rng = np.random.default_rng(0)
    X, Y = 10 * rng.normal(size=(20, 2)), rng.normal(size=(20, 2))

    def diverge(watch):
        net = fb.mlp([2, 4, 2], "relu", dtype=dtype, seed=0)
        start = net.parameters.copy()
        optimizer, loss = DIVERGES[case]()
        watch(optimizer)
        with pytest.raises(FloatingPointError, match=r"step \d+ .*smaller learning rate") as error:
            net.fit(X, Y, loss=loss, optimizer=optimizer, epochs=2000, batch_size=8, seed=1)
        return net, optimizer, str(error.value), start

    net, optimizer, message, _ = diverge(lambda optimizer: None)
    _, recorded, the_same, start = diverge(record)
    assert message == the_same
    assert np.isfinite(net.parameters).all()
    step = int(message.split("step ")[1].split()[0])
    epoch, batch = divmod(step - 1, 3)
    assert f"(epoch {epoch + 1}, batch {batch + 1} of 3)" in message
    last = [start, *recorded.after][step - 1]
    assert net.parameters.tobytes() == last.tobytes(), "not the weights from before this step"
    assert optimizer.steps == step - 1
    assert all(np.isfinite(array).all() for array in optimizer.state.values())
    assert len(net.history["loss"]) == epoch
    assert np.isfinite(net.history["loss"]).all()


@pytest.mark.parametrize("make", [lambda: fb.SGD(1e39), lambda: fb.Adam(1e39),
                                  lambda: fb.SGD(0.1, weight_decay=1e39),
                                  lambda: fb.AdamW(0.1, weight_decay=1e41),
                                  lambda: fb.Adam(epsilon=1e-50),
                                  lambda: fb.Adam(epsilon=1e-50, epsilon_hat=True),
                                  lambda: fb.Adam(epsilon=1e300, epsilon_hat=True)],
                         ids=["SGD", "Adam", "L2", "decay", "epsilon", "epsilon hat", "enormous"])
def test_settings_beyond_float32_make_no_nan(make):
    """They round to infinity or 0, and 0 times infinity, or 0 / 0, is NaN."""
    net = fb.Sequential([fb.Dense(2, 2, init=lambda rng, n_in, n_out: np.zeros((n_in, n_out)))])
    X = np.array([[0, 1], [0, 2]])  # the first input's weights have no gradient
    for Y in (np.zeros((2, 2)), np.ones((2, 2))):
        try:
            net.fit(X, Y, loss=SQUARED, optimizer=make(), epochs=2)
        except FloatingPointError:
            pass
        except ValueError as error:
            assert "epsilon" in str(error) or "weight_decay" in str(error) \
                or "learning_rate" in str(error)
        assert np.isfinite(net.parameters).all()


def test_after_divergence_the_same_optimizer_can_train():
    """Its memory of the squares, once infinite, would make every later step 0."""
    X, Y = numbers()
    net, optimizer = fb.mlp([2, 2], seed=0), fb.Adam(0.01)
    with pytest.raises(FloatingPointError, match="diverged at step 1 "):
        net.fit(X * 1e18, Y * 1e18, loss=SQUARED, optimizer=optimizer)
    before = net.evaluate(X, X, loss=SQUARED)["loss"]
    net.fit(X, X, loss=SQUARED, optimizer=optimizer, epochs=100)
    assert net.evaluate(X, X, loss=SQUARED)["loss"] < 0.8 * before


# Ctrl-C


@pytest.fixture
def ctrl_c():
    """Python's own handler, even where the tests run in the background of a shell."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, previous)


CHILD = """
import signal, sys
import numpy as np, fastbp as fb
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(3200, 20)), rng.normal(size=(3200, 2))

class Enough(Exception):
    pass

class Counted(fb.Adam):
    until = None
    def update(self, parameters, gradients, learning_rate):
        super().update(parameters, gradients, learning_rate)
        if self.steps == self.until:
            raise Enough

def train(until=None, tell=()):
    net = fb.mlp([20, 128, 128, 2], dropout=0.2, seed=1)
    optimizer = Counted() if until else fb.Adam()
    optimizer.until = until
    try:
        net.fit(X, Y, loss=fb.Huber(), optimizer=optimizer, epochs=10**9, batch_size=64, seed=2,
                callbacks=tell)
    except (Enough, KeyboardInterrupt) as error:
        assert isinstance(error, KeyboardInterrupt) == (until is None)
    return net.parameters.tobytes(), optimizer.steps

class Tell(fb.Callback):
    def on_epoch_begin(self, training):
        if training.epoch == 0:
            print("training", flush=True)

for line in sys.stdin:
    bits, steps = train(tell=[Tell()])
    print("stopped", flush=True)
    whole = steps == 0 or train(until=steps)[0] == bits
    print("whole" if whole else "torn", steps, flush=True)
"""


def test_ctrl_c_leaves_whole_steps():
    """Interrupted at random, it has exactly the parameters of as many steps made anew."""
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    rng = np.random.default_rng()
    try:
        with child:
            for _ in range(6):
                child.stdin.write("go\n")
                child.stdin.flush()
                assert child.stdout.readline() == "training\n"
                time.sleep(0.02 + 0.2 * rng.random())
                sent = time.monotonic()
                child.send_signal(signal.SIGINT)
                assert child.stdout.readline() == "stopped\n"
                assert time.monotonic() - sent < 10
                verdict, steps = child.stdout.readline().split()
                assert verdict == "whole", f"after {steps} steps"
            child.stdin.close()
            assert child.wait() == 0
    finally:
        watchdog.cancel()
        child.kill()


LONG_STEP = """
import signal
import numpy as np, fastbp as fb
signal.signal(signal.SIGINT, signal.default_int_handler)

class Tell(fb.Callback):
    def on_epoch_begin(self, training):
        print("training", flush=True)

net = fb.mlp([4000, 4000, 1], seed=0)
before = net.parameters.tobytes()
X = np.ones((4000, 4000), "f4")
try:
    net.fit(X, X[:, 0], loss=fb.Huber(), batch_size=4000, callbacks=[Tell()])
except KeyboardInterrupt:
    print(net.parameters.tobytes() == before)
"""


def test_ctrl_c_is_answered_within_a_long_step():
    """One product here takes two minutes in the scalar tier."""
    child = subprocess.Popen([sys.executable, "-c", LONG_STEP], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"FASTBP_ISA": "scalar"})
    with child:
        try:
            assert child.stdout.readline() == "training\n"
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            assert child.communicate(timeout=10)[0] == "True\n"
        finally:
            child.kill()


def test_ctrl_c_within_a_step_waits_for_its_end(ctrl_c):
    class Interrupted(fb.Adam):
        def update(self, parameters, gradients, learning_rate):
            if self.steps == 7:
                signal.raise_signal(signal.SIGINT)
            parameters[0] += 0  # Python's chance to answer the signal
            super().update(parameters, gradients, learning_rate)

    net, twin, optimizer, whole = a_net(), a_net(), Interrupted(), record(fb.Adam())
    with pytest.raises(KeyboardInterrupt):
        a_fit(net, optimizer=optimizer, seed=0)
    a_fit(twin, optimizer=whole, seed=0)
    assert optimizer.steps == 7
    assert net.parameters.tobytes() == whole.after[6].tobytes()
    assert len(net.history["loss"]) == 1, "the epoch before it stays in the history"
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_ctrl_c_between_steps_is_answered_at_once(ctrl_c):
    class Interrupting(Recorder):
        def forward(self, X, training=True):
            signal.raise_signal(signal.SIGINT)
            return super().forward(X, training)

    net = fb.Sequential([Interrupting(), fb.Dense(4, 3)], seed=0)
    before = net.parameters.copy()
    with pytest.raises(KeyboardInterrupt):
        a_fit(net)
    assert net.layers[0].trained == []
    assert net.parameters.tobytes() == before.tobytes()


def test_a_handler_of_ones_own_is_called_and_stays(ctrl_c):
    calls = []

    def handler(signum, frame):
        calls.append(signum)

    signal.signal(signal.SIGINT, handler)

    class Interrupted(fb.SGD):
        def update(self, parameters, gradients, learning_rate):
            signal.raise_signal(signal.SIGINT)
            super().update(parameters, gradients, learning_rate)

    a_fit(a_net(), optimizer=Interrupted(0.1))
    assert calls == [signal.SIGINT] * 10
    assert signal.getsignal(signal.SIGINT) is handler


def fails(training):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("options", [{}, {"callbacks": [fails]}, {"optimizer": fb.SGD(1e300)}],
                         ids=["success", "callback fails", "divergence"])
@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN, signal.SIG_DFL])
def test_the_handler_is_put_back(ctrl_c, options, handler):
    signal.signal(signal.SIGINT, handler)
    try:
        a_fit(a_net(), **options)
    except (RuntimeError, FloatingPointError):
        assert options
    assert signal.getsignal(signal.SIGINT) is handler


def test_fit_in_another_thread_leaves_signals_alone(ctrl_c):
    found = []

    def train():
        a_fit(a_net(), callbacks=[lambda _: found.append(signal.getsignal(signal.SIGINT))])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [ctrl_c] * 2


# Progress


def test_silence_by_default(capsys):
    a_fit(a_net())
    assert capsys.readouterr() == ("", "")


LINE = r"epoch %d/2  loss \d\.\d{4}  accuracy \d\.\d{4}  val_loss \d\.\d{4}  " \
       r"val_accuracy \d\.\d{4}  (\d+\.\d\d s|\d+\.\d ms)"


@pytest.mark.parametrize("verbose", [1, 2, True])
@pytest.mark.parametrize("bar", ["there", "missing"])
def test_a_line_for_each_epoch(capsys, monkeypatch, verbose, bar):
    if bar == "missing":
        monkeypatch.setitem(sys.modules, "tqdm", None)
        monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    a_fit(a_net(), verbose=verbose, validation_fraction=0.2)
    out, err = capsys.readouterr()
    assert re.fullmatch(LINE % 1 + "\n" + LINE % 2 + "\n", out), out
    assert err == ""


class FakeBar:
    def __init__(self, made, **options):
        self.disable, self.options, self.updates, self.closed = False, options, 0, False
        made.append(self)

    def set_postfix_str(self, text, refresh):
        self.text = text

    def update(self, n=1):
        self.updates += n

    def close(self):
        self.closed = True


@pytest.fixture
def bars(monkeypatch):
    """The progress bars that were made."""
    made = []
    monkeypatch.setattr(tqdm.auto, "tqdm", partial(FakeBar, made))
    return made


@pytest.mark.parametrize("verbose", [0, 1, 2, 3])
def test_a_bar_over_the_steps_while_verbose_is_1_or_3(bars, verbose, capsys):
    history = a_fit(a_net(), verbose=verbose)
    assert len(capsys.readouterr().out.splitlines()) == (2 if verbose in (1, 2) else 0)
    assert len(bars) == (2 if verbose in (1, 3) else 0)
    for i, bar in enumerate(bars):
        assert (bar.options["total"], bar.updates, bar.closed) == (5, 5, True)
        assert bar.options["desc"] == f"epoch {i + 1}/2"
        assert bar.text == f"loss {history['loss'][i]:.4f}"


@pytest.mark.parametrize("verbose", [4, -1, 1.0, "1", None])
def test_verbose_is_one_of_four(verbose):
    with pytest.raises(ValueError, match=rf"^verbose: expected 0, 1, 2 or 3, got {verbose!r}"):
        a_fit(a_net(), verbose=verbose)


def test_the_bar_alone_without_tqdm(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    a_fit(a_net(), verbose=3)
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_closed_when_training_fails(bars):
    with pytest.raises(FloatingPointError):
        a_fit(a_net(), verbose=1, optimizer=fb.SGD(1e300))
    assert [bar.closed for bar in bars] == [True]


def test_the_bar_does_not_change_the_bits(bars):
    nets = a_net(), a_net()
    a_fit(nets[0], seed=0)
    a_fit(nets[1], seed=0, verbose=1)
    assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()


# What a callback may set


def both_paths(change, dtype="float32", **options):
    """What a training with this callback leaves behind, which is the same on both paths."""
    results = []
    for watch in (lambda optimizer: optimizer, record):
        net = a_net(dtype)
        options_now = {"optimizer": watch(fb.Adam(0.01)), "epochs": 4, "seed": 0, **options}
        history = a_fit(net, callbacks=[change], **options_now)
        results.append((net.parameters.tobytes(), repr(timeless(history))))
    assert results[0] == results[1]
    return results[0]


def test_another_batch_size_counts_from_the_next_epoch(dtype):
    seen = []

    def change(training):
        seen.append((training.batch_size, training.steps_per_epoch, len(training.sums.rows)))
        training.batch_size = [23, 4, 1000, 7][training.epoch]

    assert both_paths(change, dtype) != both_paths(lambda training: None, dtype)
    assert seen[:4] == [(5, 5, 5), (23, 1, 1), (4, 6, 6), (1000, 1, 1)]


def test_a_batch_size_set_before_the_first_epoch_is_that_of_fit(dtype):
    class Set(fb.Callback):
        def on_epoch_begin(self, training):
            training.batch_size = 4

    first, second = a_net(dtype), a_net(dtype)
    a_fit(first, seed=0, callbacks=[Set()])
    a_fit(second, seed=0, batch_size=4)
    assert first.parameters.tobytes() == second.parameters.tobytes()


@pytest.mark.parametrize(("name", "value", "error"), [
    ("batch_size", 0, ValueError), ("batch_size", -3, ValueError), ("batch_size", 2.5, TypeError),
    ("batch_size", None, TypeError), ("batch_size", True, ValueError),
    ("l2", np.nan, ValueError), ("l2", -1, ValueError), ("l2", np.inf, ValueError),
    ("l2", "a", TypeError), ("l2", np.ones(2), TypeError),
    ("loss", None, TypeError), ("loss", fb.MeanSquaredError, TypeError),
    ("loss", lambda Z, y: 0, TypeError), ("loss", fb.MeanSquaredError(), ValueError),
])
def test_what_a_callback_sets_is_checked(name, value, error):
    net = a_net()
    with pytest.raises(error, match=r"^(y|loss|l2|batch_size): expected"):
        a_fit(net, callbacks=[lambda training: setattr(training, name, value)])
    assert np.isfinite(net.history["loss"]).all()


def test_a_loss_that_does_not_fit_the_validation_data_changes_nothing():
    X, y = classes()
    T = np.eye(3)[y]
    seen = []

    def change(training):
        before = training.loss
        with pytest.raises(ValueError, match="validation_data y: expected targets"):
            training.loss = fb.SigmoidCrossEntropy()
        seen.append(training.loss is before)

    a_fit(a_net(), X, T, loss=fb.MeanSquaredError(), validation_data=(X, 2 * T), callbacks=[change])
    assert seen == [True, True]


@pytest.mark.parametrize("name", ["batch_size", "l2", "loss"])
@pytest.mark.parametrize("validating", [False, True])
def test_nothing_is_set_while_an_epoch_is_under_way(name, validating):
    class Meddles(fb.Layer):
        training = None

        def forward(self, X, training=True):
            if training is not validating and self.training is not None:
                setattr(self.training, name, getattr(self.training, name))
            return X + 0

        def backward(self, dZ):
            return dZ + 0

    net = fb.Sequential([fb.Dense(4, 3), Meddles()], seed=0)
    with pytest.raises(RuntimeError, match=f"training.{name}: expected to be set between epochs"):
        a_fit(net, validation_data=classes(),
              callbacks=[lambda training: setattr(net.layers[1], "training", training)])


def test_a_dropout_layers_own_count_of_steps_counts_on_both_paths(dtype):
    def train(watch):
        net = fb.Sequential([fb.Dense(4, 6), fb.Dropout(0.5), fb.Dense(6, 6), fb.Dropout(0.5),
                             fb.Dense(6, 3)], dtype, seed=0)

        def change(training):
            net.layers[3].step, net.layers[1].step = 5, 1000 * training.epoch

        a_fit(net, optimizer=watch(fb.SGD(0.1)), seed=0, epochs=3, callbacks=[change])
        return net.parameters.tobytes(), [layer.step for layer in net.layers]

    assert train(lambda optimizer: optimizer) == train(record)


# Switches and orders


@pytest.mark.parametrize("shuffle", [
    [2, 1, 0], np.arange(23), np.arange(23)[::-1].tolist(), "False", "", 5, 0, None, 1.0,
    np.random.default_rng(0), range(23),
], ids=lambda shuffle: type(shuffle).__name__)
def test_a_shuffle_that_is_no_order(shuffle):
    net = a_net()
    history = net.history = object()
    draws = copy.deepcopy(net).reseed().random()
    with pytest.raises(TypeError, match=r"^shuffle: expected True, False or a function .*lambda n"):
        a_fit(net, shuffle=shuffle)
    assert net.history is history
    assert net.reseed().random() == draws


@pytest.mark.parametrize("value", [np.bool_(True), np.bool_(False)])
def test_numpys_booleans_are_switches(value):
    first, second = a_net(), a_net()
    a_fit(first, shuffle=value, gradient_norms=value, seed=0)
    a_fit(second, shuffle=bool(value), gradient_norms=bool(value), seed=0)
    assert first.parameters.tobytes() == second.parameters.tobytes()
    assert list(first.history) == list(second.history)


@pytest.mark.parametrize("name", ["gradient_norms", "resume"])
@pytest.mark.parametrize("value", ["False", 1, None, np.ones(2), []])
def test_switches_are_booleans(name, value, tmp_path):
    net = a_net()
    with pytest.raises(TypeError, match=f"^{name}: expected True or False"):
        a_fit(net, checkpoint=tmp_path / "run", **{name: value})
    assert net.history is None and not (tmp_path / "run").exists()


# A handler of a callback's own


@pytest.mark.parametrize("chained", [False, True])
def test_a_handler_that_a_callback_installs_stays(ctrl_c, chained):
    called = []

    def install(training):
        if training.epoch == 0:
            found = signal.getsignal(signal.SIGINT)

            def mine(signum, frame):
                called.append(training.epoch)
                if chained:
                    found(signum, frame)

            install.handler = mine
            signal.signal(signal.SIGINT, mine)
        if training.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        a_fit(a_net(), epochs=4, callbacks=[install])
        assert not chained
    except KeyboardInterrupt:
        assert chained
    assert called == [1]
    assert signal.getsignal(signal.SIGINT) is install.handler


def test_a_handler_that_a_callback_installs_waits_for_a_whole_step(ctrl_c):
    """It is called after the update during which the signal came, not in it."""
    when = []

    class Interrupted(fb.SGD):
        writing = False

        def update(self, *arguments):
            self.writing = True
            if self.steps == 8:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            super().update(*arguments)
            self.writing = False

    optimizer = Interrupted(0.1)

    def install(training):
        signal.signal(signal.SIGINT, lambda *_: when.append((optimizer.writing, optimizer.steps)))

    a_fit(a_net(), optimizer=optimizer, callbacks=[install])
    assert when == [(False, 8)]
