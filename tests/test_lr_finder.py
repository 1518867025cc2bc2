"""The test of learning rates: what it finds, what it leaves alone, what it refuses."""

import copy
import importlib
import re
from io import BytesIO

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb

LOSS = fb.SoftmaxCrossEntropy()
lr_finder_module = importlib.import_module("fastbp.lr_finder")


@pytest.fixture(scope="module")
def digits():
    return fb.datasets.digits("train")


def network(**options):
    return fb.mlp([64, 32, 10], seed=0, **options)


@pytest.mark.parametrize("make", [
    fb.SGD, lambda rate=0.1: fb.SGD(rate, momentum=0.9), fb.Adam, fb.Lion, fb.Muon],
    ids=["SGD", "momentum", "Adam", "Lion", "Muon"])
def test_the_suggestion_trains_well(digits, make):
    """Nearly as well as the best of rates that were tried out, and better than a tenth of it."""
    X, y = digits
    rate = fb.lr_finder(network(), X, y, loss=LOSS, optimizer=make()).suggestion

    def trained(rate):
        net = network()
        net.fit(X, y, loss=LOSS, optimizer=make(rate), epochs=5, seed=0)
        return net.evaluate(X, y, loss=LOSS)["accuracy"]

    assert trained(rate) > max(trained(each) for each in (1e-3, 1e-2, 1e-1)) - 0.04
    assert trained(rate) > trained(rate / 1000) + 0.2


def test_each_step_is_one_of_a_training_with_that_rate(digits):
    """The same steps by hand: forward, loss, backward, update."""
    X, y = digits
    net = network()
    test = fb.lr_finder(net, X, y, loss=LOSS, optimizer=fb.SGD(), steps=20, low=0.01, high=1.0,
                        seed=3)
    np.testing.assert_allclose(test.rates, np.geomspace(0.01, 1.0, 20), rtol=1e-14)
    chosen = np.random.default_rng(3).permutation(len(X))[: 20 * 32]
    by_hand, optimizer, losses = copy.deepcopy(net), fb.SGD(), []
    order = np.random.default_rng(np.random.SeedSequence(3, spawn_key=(0,))).permutation(20 * 32)
    for step, rate in enumerate(test.rates):
        rows = chosen[order[32 * step : 32 * step + 32]]
        value, dZ = LOSS(by_hand.forward(X[rows]), y[rows])
        by_hand.backward(dZ)
        optimizer.learning_rate = float(rate)
        optimizer.step(by_hand.parameters, by_hand.gradients)
        losses.append(value)
    assert test.losses.tolist() == losses


def test_nothing_is_changed_and_the_result_is_always_the_same(digits):
    X, y = digits
    net, optimizer = network(dropout=0.2), fb.Adam(0.003)
    net.fit(X, y, loss=LOSS, optimizer=optimizer, epochs=1, seed=0)
    state, steps, history = net.get_state(), optimizer.steps, net.history
    first = {name: array.copy() for name, array in optimizer.state.items()}
    seeds, drawn = net.seeds, [(layer.key, layer.step) for _, layer in net.leaves]
    tests = [fb.lr_finder(net, X, y, loss=LOSS, optimizer=optimizer) for _ in range(2)]
    assert tests[0].losses.tolist() == tests[1].losses.tolist()
    assert tests[0].suggestion == tests[1].suggestion
    assert (net.get_state() == state).all() and net.history is history and net.seeds == seeds
    assert [(layer.key, layer.step) for _, layer in net.leaves] == drawn
    assert optimizer.steps == steps and optimizer.learning_rate == 0.003
    assert all((optimizer.state[name] == array).all() for name, array in first.items())
    other = fb.lr_finder(net, X, y, loss=LOSS, optimizer=optimizer, seed=1)
    assert other.losses.tolist() != tests[0].losses.tolist()


def test_few_rows_are_taken_again_and_again(rng):
    X = rng.normal(size=(50, 3))
    test = fb.lr_finder(fb.mlp([3, 16, 1], seed=0), X, X[:, :1] ** 2, loss=fb.MeanSquaredError(),
                        batch_size=16, steps=90)
    assert len(test.rates) == len(test.losses) == 90
    assert 1e-4 < test.suggestion < 1


def test_a_divergence_ends_the_test(rng):
    X = rng.normal(size=(500, 3))
    test = fb.lr_finder(fb.mlp([3, 16, 1], seed=0), X, X[:, :1], loss=fb.MeanSquaredError(),
                        optimizer=fb.SGD(), high=1e6)
    assert len(test.rates) == len(test.losses) < 200
    assert np.isfinite(test.losses).all() and len(test.smoothed) <= len(test.losses)
    assert test.losses[-1] > 10 * test.losses[0]
    assert 1e-4 < test.suggestion < 1


def test_no_suggestion_where_nothing_is_learned(rng):
    X = rng.normal(size=(500, 3))
    test = fb.lr_finder(fb.mlp([3, 1], seed=0), X, X[:, :1], loss=fb.MeanSquaredError(),
                        low=1e-9, high=1e-8)
    assert test.suggestion is None
    assert repr(test) == ("LearningRateTest(suggestion=None, as the loss did not fall; 200 steps "
                          "from 1e-09 to 1e-08)")
    legend = test.plot().axes[0].get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["minibatches", "smoothed"]


def test_weights_and_sparse_rows(digits):
    X, y = digits
    dense = fb.lr_finder(network(), X, y, loss=LOSS, sample_weight=np.ones(len(X)))
    sparse = fb.lr_finder(network(), scipy.sparse.csr_array(X), y, loss=LOSS)
    assert dense.losses.tolist() == sparse.losses.tolist()
    heavy = fb.lr_finder(network(), X, y, loss=LOSS, sample_weight=np.where(y == 0, 1.0, 1e-3))
    assert heavy.losses.tolist() != dense.losses.tolist()


def test_minibatches_without_weight_are_left_out(digits):
    """They have no loss, and the test goes on behind them."""
    X, y = digits[0][:320], digits[1][:320]
    weights = np.zeros(320)
    order = np.random.default_rng(0).permutation(320)  # as lr_finder takes the rows
    taken = np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))).permutation(320)
    weights[order[taken[64:]]] = 1  # the first two minibatches of the first epoch have none
    test = fb.lr_finder(network(), X, y, loss=LOSS, sample_weight=weights, steps=10, low=1e-3,
                        high=1.0)
    assert len(test.losses) == 8 and (test.losses > 0).all()
    np.testing.assert_allclose(test.rates, np.geomspace(1e-3, 1.0, 10)[2:], rtol=1e-14)


@pytest.mark.parametrize("optimizer", [
    fb.SGD(groups=[fb.Group("W", learning_rate=0.5), fb.Group("b", learning_rate=0.5)]),
    fb.Muon(matrices=lambda layer, name: layer.n_out == 32 and name == "W",
            adam_learning_rate=0.05)], ids=["groups", "Muon"])
def test_the_loss_that_others_are_compared_with_is_that_of_the_untrained_network(
        digits, monkeypatch, optimizer):
    """Also where parameters have rates of their own, which the test does not change."""
    X, y = digits
    seen = []
    analysis = lr_finder_module._analysis
    monkeypatch.setattr(lr_finder_module, "_analysis",
                        lambda *given: seen.append(given) or analysis(*given))
    for each in fb.SGD(), optimizer:
        fb.lr_finder(network(), X, y, loss=LOSS, optimizer=each, steps=40)
    (_, found, plain), (_, trained, other) = seen
    assert plain.tolist() == other.tolist()
    assert found.tolist() != trained.tolist()


def test_the_picture(digits):
    X, y = digits
    test = fb.lr_finder(network(), X, y, loss=LOSS)
    figure = test.plot()
    axes, = figure.axes
    minibatches, smoothed, suggestion = axes.lines
    assert minibatches.get_xdata().tolist() == test.rates.tolist()
    assert smoothed.get_ydata().tolist() == test.smoothed.tolist()
    assert set(suggestion.get_xdata()) == {test.suggestion}
    assert axes.get_xscale() == "log"
    assert suggestion.get_label() == f"suggestion: {test.suggestion:.2g}"
    low, high = axes.get_ylim()
    assert low < test.smoothed.min() and test.smoothed[0] < high < 10
    figure.savefig(BytesIO(), format="png")


@pytest.mark.parametrize(("options", "message"), [
    ({"low": 0}, "low: expected a finite number and above 0, got 0"),
    ({"low": 1.0, "high": 0.1}, "low, high: expected a low rate below the high one, got 1 and 0.1"),
    ({"steps": 3}, "steps: expected a whole number of at least 10, got 3"),
    ({"batch_size": 0}, "batch_size: expected a whole number of at least 1"),
    ({"optimizer": 0.1}, "optimizer: expected an Optimizer such as Adam(), got 0.1"),
    ({"loss": "mse"}, "loss: expected"),
    ({"l2": -1}, "l2: expected"),
    ({"y": np.zeros(3, int)}, "y: expected"),
    ({"X": np.zeros((5, 9))}, "X: expected 64 columns"),
    ({"net": fb.EarlyStopping()}, "net: expected a network, a Sequential, got EarlyStopping"),
])
def test_bad_arguments(digits, options, message):
    arguments = {"net": network(), "X": digits[0], "y": digits[1], "loss": LOSS} | options
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        fb.lr_finder(arguments.pop("net"), arguments.pop("X"), arguments.pop("y"), **arguments)
