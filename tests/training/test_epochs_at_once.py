"""Short epochs run several at once, and nobody who is called between them can tell."""

import subprocess
import sys

import numpy as np
import pytest

import fastbp as fb
from fastbp import training
from fastbp.callbacks import Plateau
from fastbp.training import run

from ..cases import each

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype("f4")
LABELS = RNG.integers(0, 3, 50)
TARGETS = RNG.normal(size=(50, 3)).astype("f4")


def network(*, dropout=0.0):
    return fb.mlp([4, 8, 3], dropout=dropout, seed=0)


@pytest.fixture
def at_once(monkeypatch):
    """How many epochs were run at once, each time."""
    seen = []
    run_epochs = training.Training.run_epochs

    def counted(self, orders, *arguments):
        seen.append(len(orders))
        return run_epochs(self, orders, *arguments)

    monkeypatch.setattr(training.Training, "run_epochs", counted)
    monkeypatch.setattr(run, "AT_ONCE", 1e9)  # however slow a busy machine is
    return seen


def fit(callbacks=(), net=None, y=LABELS, loss=None, optimizer=None, **options):
    net = net or network()
    history = net.fit(X, y, loss=loss or fb.SoftmaxCrossEntropy(),
                      optimizer=optimizer or fb.SGD(0.1), **{
                          "epochs": 30, "batch_size": 16, "seed": 1, "callbacks": callbacks}
                      | options)
    values = {key: np.array(value).tolist() for key, value in history.items() if key != "seconds"}
    assert len(history["seconds"]) == len(history["loss"])
    assert min(history["seconds"]) > 0
    return net.parameters.tobytes(), values


@each("options", [
    {}, {"shuffle": False}, {"gradient_norms": True}, {"l2": 0.1}, {"ema": 0.9},
    {"batch_size": 50}, {"batch_size": 1}, {"epochs": 1}, {"epochs": 2},
    {"sample_weight": np.arange(50.0)}, {"n_threads": 2},
    {"loss": fb.MeanSquaredError(), "y": TARGETS}, {"loss": fb.Huber(), "y": TARGETS},
    {"loss": fb.PoissonDeviance(), "y": np.abs(TARGETS)},
    {"loss": fb.SigmoidCrossEntropy(), "y": TARGETS > 0},
    {"loss": fb.PinballLoss(0.2), "y": TARGETS},
])
def test_the_same_bits_as_one_epoch_at_a_time(options):
    # A plain function is called after each epoch, before the next begins.
    assert fit(**options) == fit([lambda run: None], **options)


@each("make", [
    fb.Adam, lambda: fb.SGD(fb.schedules.Cosine(0.1, epochs=30, warm_up=2)),
    lambda: fb.AdamW(groups=[fb.Group("b", weight_decay=0, learning_rate=0.1)]),
    lambda: fb.ScheduleFreeAdamW(0.01), lambda: fb.SGD(0.1, clip_norm=0.01),
])
def test_the_same_bits_with_other_optimizers(make):
    one, other = make(), make()
    assert fit(optimizer=one) == fit([lambda run: None], optimizer=other)
    assert one.steps == other.steps == 30 * 4


def test_the_same_bits_with_dropout():
    nets = network(dropout=0.5), network(dropout=0.5)
    assert fit(net=nets[0]) == fit([lambda run: None], net=nets[1])


def test_epochs_run_at_once_where_nobody_looks(at_once):
    fit()
    assert at_once[0] == 1  # which shows how long an epoch takes
    assert max(at_once) > 5
    assert sum(at_once) == 30


@each("options", [
    {"callbacks": [lambda run: None]}, {"validation_data": (X, LABELS)},
    {"validation_fraction": 0.2}, {"verbose": 3}, {"shuffle": np.arange},
    {"optimizer": fb.SGD(lambda epoch: 0.1)},
    {"optimizer": fb.SGD(0.1, groups=[fb.Group("b", learning_rate=lambda epoch: 0.1)])},
    {"callbacks": [fb.EarlyStopping(monitor="loss")]}, {"callbacks": [Plateau(keep_best=True)]},
    {"callbacks": [type("Mine", (Plateau,), {})()]},
])
def test_one_at_a_time_where_somebody_does(options):
    seen = []
    run_epochs = training.Training.run_epochs
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.Training, "run_epochs", lambda self, orders, *arguments: (
            seen.append(len(orders)), run_epochs(self, orders, *arguments))[1])
        fit(epochs=3, **options)
    assert seen == [1, 1, 1]


class Watching(fb.Callback):
    """What a callback that can wait sees."""

    def __init__(self, ahead):
        self.ahead, self.seen = ahead, []

    def epochs_ahead(self, training):
        return self.ahead

    def on_epoch_begin(self, training):
        last = None if training.sums is None else training.sums.loss
        self.seen.append((training.epoch, len(training.history["loss"]), last))

    def on_epoch_end(self, training):
        assert training.sums.loss == training.history["loss"][-1]
        assert training.sums.metric.result() == training.history["accuracy"][-1]
        self.seen.append((training.epoch, training.history["loss"][-1]))


def test_callbacks_that_can_wait_see_the_same_later(at_once):
    now, later, endless = Watching(0), Watching(4), Watching(np.inf)
    fit([now])
    assert set(at_once) == {1}
    at_once.clear()
    fit([later])
    assert max(at_once) == 5
    at_once.clear()
    fit([endless])
    assert max(at_once) > 5
    assert now.seen == later.seen == endless.seen


def test_a_plateau_ends_training_after_the_same_epoch(at_once):
    class Same(Plateau):
        """Which the loop knows nothing about."""

    ended = []
    for kind in (Plateau, Same):
        net = network()
        history = net.fit(X, LABELS, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(0.5),
                          epochs=200, seed=1, callbacks=[kind(patience=7, tol=0.02)])
        ended.append((history.stopped, history["loss"], net.parameters.tobytes()))
        if kind is Plateau:
            assert max(at_once) == 8
    assert ended[0] == ended[1]
    assert 8 < len(ended[0][1]) < 200


def test_divergence_is_told_of_the_epoch_that_it_is_in(at_once):
    def diverge(callbacks):
        net = network()
        with pytest.raises(FloatingPointError) as raised:
            net.fit(X, TARGETS * 1e8, loss=fb.MeanSquaredError(), optimizer=fb.SGD(1e4),
                    epochs=30, batch_size=16, seed=1, callbacks=callbacks)
        return str(raised.value), net.history["loss"], net.parameters.tobytes()

    assert diverge([]) == diverge([lambda run: None])

    class Breaks(fb.Callback):
        """The data diverge in the middle of a run of epochs."""

        def epochs_ahead(self, training):
            if training.epoch > 0 and len(data) > 40:
                data[40] = 1e30
            return np.inf

    data = X.copy()
    at_once.clear()
    net = network()
    with pytest.raises(FloatingPointError, match="epoch"):
        net.fit(data, TARGETS, loss=fb.MeanSquaredError(), optimizer=fb.SGD(0.1), epochs=30,
                batch_size=1, seed=1, callbacks=[Breaks()])
    assert len(net.history["loss"]) < 30
    assert np.isfinite(net.parameters).all()


@each("name", ["_new_rates", "_prepare"])
def test_an_error_before_the_first_step_of_a_run_records_nothing_twice(name, monkeypatch):
    original, net = getattr(training.Training, name), network()

    def interrupted(run, *arguments):
        if run.epoch > 3:  # in the third run, as the callback allows
            raise RuntimeError("too early")
        return original(run, *arguments)

    monkeypatch.setattr(training.Training, name, interrupted)
    with pytest.raises(RuntimeError, match="too early"):
        fit([Watching(2)], net=net)
    assert len(net.history["loss"]) == 4
    assert len(net.history["loss"]) == len(set(net.history["loss"]))


def test_a_schedule_that_overflows_ends_training_where_it_does(at_once):
    def ended(callbacks):
        net, optimizer = fb.mlp([4, 3], seed=0), fb.SGD(fb.schedules.Exponential(1e-300, factor=9))
        with pytest.raises(ValueError, match="learning_rate at epoch 323"):
            fit(callbacks, net=net, optimizer=optimizer, y=TARGETS * 0 + 1e-30, epochs=1000,
                loss=fb.MeanAbsoluteError())
        return net.history["learning_rate"], net.history["loss"], optimizer.steps

    assert ended([]) == ended([lambda run: None])
    assert max(at_once) > 1


@each("act", [
    lambda run: run.stop(), lambda run: setattr(run, "loss", MyLoss()),
    lambda run: setattr(run, "batch_size", 7), lambda run: run.network.parameters.fill(0.5),
])
def test_callbacks_that_act_before_the_epoch_that_begins_next(act):
    class Acts(fb.Callback):
        def __init__(self, ahead):
            self.ahead = ahead

        def epochs_ahead(self, training):
            return min(self.ahead, 4 - training.epoch) if training.epoch < 5 else self.ahead

        def on_epoch_begin(self, training):
            if training.epoch == 5:
                act(training)

    assert fit([Acts(0)]) == fit([Acts(100)])


class MyLoss(fb.SoftmaxCrossEntropy):
    """Of somebody else, hence called in Python."""


def test_an_error_between_epochs_that_have_run_leaves_no_hole_in_the_history():
    class Raises(Watching):
        def on_epoch_begin(self, training):
            if training.epoch == 10:
                raise RuntimeError

    net = network()
    with pytest.raises(RuntimeError):
        fit([Raises(np.inf)], net=net)
    epochs = len(net.history["loss"])
    assert epochs > 10
    again = network()
    assert fit(net=again, epochs=epochs)[1]["loss"] == net.history["loss"]
    assert again.parameters.tobytes() == net.parameters.tobytes()


def test_a_function_for_the_order_is_called_before_each_epoch(at_once):
    class Order:
        ahead = True

        def __call__(self, n):
            return np.arange(n)

    fit(shuffle=Order())
    assert set(at_once) == {1}


@each("ahead", [np.nan, -1, None, "2"])
def test_numbers_of_epochs_that_are_none(ahead):
    with pytest.raises(ValueError, match=r"Watching\.epochs_ahead: expected a number of epochs"):
        fit([Watching(ahead)])


# In a process of its own: elsewhere somebody's callback of the garbage collector may swallow it.
CTRL_C = """
import signal, sys, threading
import numpy as np, fastbp as fb
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
X, y = rng.normal(size=(50, 4)), rng.integers(0, 3, 50)
seen = []

class Waits(fb.Callback):
    def epochs_ahead(self, training):
        return np.inf

    def on_epoch_end(self, training):
        seen.append(training.epoch)

def fit(epochs, callbacks):
    net, optimizer = fb.mlp([4, 8, 3], seed=0), fb.SGD(0.1)
    try:
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs,
                batch_size=16, seed=1, callbacks=callbacks)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
    return net, optimizer

for seconds in (0.05, 0.2, 0.4):
    seen.clear()
    threading.Timer(seconds, signal.raise_signal, [signal.SIGINT]).start()
    net, optimizer = fit(10**7, [Waits()])
    whole = len(net.history["loss"])
    assert seen == list(range(whole)), (len(seen), whole)
    assert whole <= optimizer.steps / 4 < whole + 1, (whole, optimizer.steps)
    assert not whole or fit(whole, [])[0].history["loss"] == net.history["loss"]
"""


def test_epochs_that_were_complete_are_recorded_after_ctrl_c():
    child = subprocess.run([sys.executable, "-c", CTRL_C], capture_output=True, text=True,
                           check=False, timeout=60)
    assert child.returncode == 0, child.stderr
    assert child.stdout == "interrupted\n" * 3
