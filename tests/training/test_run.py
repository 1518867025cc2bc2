"""fit: it learns, the same seed gives the same bits, and the optimizer is the caller's."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sklearn.datasets

import fastbp as fb
from fastbp.kernels import dispatch

from .fits import (
    CROSS_ENTROPY,
    SQUARED,
    Recorder,
    a_fit,
    a_net,
    classes,
    flat,
    record,
    timeless,
    unwatched,
)

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
            for watch in (record, unwatched):
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

    assert run(unwatched) == run(record)


@pytest.mark.parametrize("setting", [{"epsilon_hat": True}, {"epsilon": 0.1}])
def test_what_a_callback_changes_of_adam_counts_on_every_path(dtype, setting):
    def run(watch):
        net = a_net(dtype)
        a_fit(net, seed=0, optimizer=watch(fb.Adam(0.01, epsilon=0.01)), epochs=3,
              callbacks=[lambda run: vars(run.optimizer).update(setting)])
        return net.parameters.tobytes()

    plain = a_net(dtype)
    a_fit(plain, seed=0, optimizer=fb.Adam(0.01, epsilon=0.01), epochs=3)
    assert run(unwatched) == run(record) != plain.parameters.tobytes()


def test_trainings_in_threads_do_not_disturb_each_other():
    def train(seed):
        net = a_net(seed=seed)
        a_fit(net, epochs=20)
        return net.parameters.tobytes()

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(train, range(6))) == [train(seed) for seed in range(6)]


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


def test_there_are_no_sums_before_the_first_epoch():
    class Look(fb.Callback):
        def on_epoch_begin(self, training):
            seen.append(training.sums)

    seen = []
    net = fb.mlp([4, 2], seed=0)
    net.fit(np.zeros((6, 4)), np.zeros(6, int), loss=fb.SoftmaxCrossEntropy(), epochs=2,
            callbacks=[Look()])
    assert seen[0] is None and seen[1].n_rows == 6
