"""Callbacks: when they are called, stopping, and early stopping."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp.callbacks import Plateau

SQUARED = fb.MeanSquaredError()


def data(n=20, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, 3))
    return X, X[:, 0] + 0.1 * rng.normal(size=n)


def a_fit(callbacks, epochs=3, **options):
    net = fb.mlp([3, 4, 1], seed=0)
    history = net.fit(*data(), loss=SQUARED, epochs=epochs, callbacks=callbacks, seed=0, **options)
    return net, history


def network_of(values):
    """What callbacks that keep the best parameters need of a network."""
    parameters = np.array(values, float)

    def set_state(state):
        parameters[:] = state

    return SimpleNamespace(parameters=parameters, get_state=parameters.copy, set_state=set_state)


class Diary(fb.Callback):
    def __init__(self, name, diary):
        self.name, self.diary = name, diary

    def write(self, what, training):
        rows = {len(values) for values in training.history.values()}
        assert len(rows) == 1
        self.diary.append((self.name, what, training.epoch, *rows))

    def on_train_begin(self, training):
        self.write("train begin", training)

    def on_epoch_begin(self, training):
        self.write("begin", training)

    def on_epoch_end(self, training):
        self.write("end", training)

    def on_train_end(self, training):
        self.write("train end", training)


def test_they_are_called_in_order():
    """Name, what, epoch, and how many rows the history has by then."""
    diary = []
    a_fit([Diary("a", diary), Diary("b", diary)], epochs=2)
    expected = [("train begin", 0, 0), ("begin", 0, 0), ("end", 0, 1), ("begin", 1, 1),
                ("end", 1, 2), ("train end", 1, 2)]
    assert diary == [(name, *entry) for entry in expected for name in "ab"]


def test_what_they_see():
    X, y = data()
    net, optimizer, seen = fb.mlp([3, 1], seed=0), fb.SGD(0.1), []
    history = net.fit(X, y, loss=SQUARED, optimizer=optimizer, epochs=2, callbacks=[seen.append])
    training = seen[0]
    assert training is seen[1]
    assert training.network is net
    assert training.history is history
    assert training.loss is SQUARED
    assert training.optimizer is optimizer
    assert training.epochs == 2


def test_a_plain_function_is_called_after_each_epoch():
    epochs = []
    a_fit([lambda training: epochs.append((training.epoch, len(training.history["loss"])))])
    assert epochs == [(0, 1), (1, 2), (2, 3)]


def test_any_of_them_can_stop_the_training():
    diary = []

    def stop(training):
        if training.epoch == 1:
            training.stop("enough is enough")

    _, history = a_fit([stop, Diary("a", diary)], epochs=9)
    assert len(history["loss"]) == 2
    assert history.stopped == "enough is enough"
    assert [entry[1] for entry in diary][-2:] == ["end", "train end"], "the others are still called"


@pytest.mark.parametrize("reason", [(), ("",), (None,)])
def test_stopping_needs_no_reason(reason):
    _, history = a_fit([lambda training: training.stop(*reason)])
    assert len(history["loss"]) == 1


def test_stopping_before_the_first_step():
    class Refuses(fb.Callback):
        def on_epoch_begin(self, training):
            training.stop()

    _, history = a_fit([Refuses()])
    assert len(history["loss"]) == 1, "the epoch that has begun is finished"


def test_the_next_fit_does_not_stop():
    net, _ = a_fit([lambda training: training.stop()])
    assert len(net.fit(*data(), loss=SQUARED, epochs=3)["loss"]) == 3


def test_an_error_in_one_ends_the_training_with_whole_steps():
    def fails(training):
        if training.epoch == 1:
            raise RuntimeError("on purpose")

    diary = []
    net = fb.mlp([3, 4, 1], seed=0)
    with pytest.raises(RuntimeError, match="on purpose"):
        net.fit(*data(), loss=SQUARED, epochs=5, callbacks=[Diary("a", diary), fails], seed=0)
    assert diary[-1][1] == "end", "on_train_end is for trainings that end well"
    assert net.parameters.tobytes() == a_fit([], epochs=2)[0].parameters.tobytes()
    assert len(net.history["loss"]) == 2


# Early stopping


def overfit(callback, epochs=60):
    """Few rows and many weights: the validation loss falls and then rises."""
    net = fb.mlp([3, 30, 1], "tanh", seed=1)
    X, y = data(10, seed=3)
    X_val, y_val = data(40, seed=4)
    history = net.fit(X, y + 0.5 * np.sign(np.sin(9 * y)), loss=SQUARED, optimizer=fb.Adam(0.05),
                      epochs=epochs, batch_size=5, validation_data=(X_val, y_val),
                      callbacks=[callback], seed=0)
    return net, history, net.evaluate(X_val, y_val, loss=SQUARED)


def test_early_stopping_goes_back_to_the_best_weights():
    callback = fb.EarlyStopping(patience=4)
    _, history, scores = overfit(callback)
    best = int(np.argmin(history["val_loss"]))
    assert len(history["loss"]) == best + 1 + 4 < 60
    assert "val_loss" in history.stopped
    assert (callback.best, callback.best_epoch) == (history["val_loss"][best], best)
    assert scores["loss"] == callback.best < history["val_loss"][-1]


def test_it_restores_the_best_even_where_it_did_not_stop():
    callback = fb.EarlyStopping(patience=1000)
    _, history, scores = overfit(callback, epochs=40)
    assert len(history["loss"]) == 40
    assert history.stopped is None
    assert scores["loss"] == min(history["val_loss"]) < history["val_loss"][-1]


def test_it_can_keep_the_last_weights():
    _, history, scores = overfit(fb.EarlyStopping(patience=4, restore_best=False))
    assert len(history["loss"]) < 60
    assert scores["loss"] == history["val_loss"][-1] > min(history["val_loss"])


@pytest.mark.parametrize("monitor", ["loss", "r2", "val_r2"])
def test_losses_should_fall_and_scores_rise(monitor):
    callback = fb.EarlyStopping(patience=3, monitor=monitor)
    _, history, _ = overfit(callback, epochs=30)
    pick = min if monitor == "loss" else max
    assert callback.best == pick(history[monitor])


class Series:
    """A training whose monitored value goes as it is told."""

    def __init__(self, values, **options):
        self.callback = fb.EarlyStopping(**options)
        self.network = network_of([0])
        self.history, self.stopped_at = {"val_loss": []}, None
        self.callback.on_train_begin(self)
        for self.epoch, value in enumerate(values):
            self.network.parameters[:] = self.epoch
            self.history["val_loss"].append(value)
            self.callback.on_epoch_end(self)
            if self.stopped_at is not None:
                break
        self.callback.on_train_end(self)

    def stop(self, reason):
        self.stopped_at = self.epoch


@pytest.mark.parametrize(
    ("values", "options", "stopped_at", "best_epoch"),
    [
        ([3, 2, 1, 2, 2, 2], {"patience": 2}, 4, 2),
        ([3, 2, 1, 2, 0.5, 2], {"patience": 2}, None, 4),
        ([3, 3, 3], {"patience": 1}, 1, 0),
        ([3, 2.95, 2.91, 2.7], {"patience": 2, "min_delta": 0.1}, 2, 0),
        ([3, 2.95, 2.85, 2.84], {"patience": 2, "min_delta": 0.1}, None, 2),
        ([math.inf, 2, 1], {"patience": 1}, None, 2),
        ([3, math.nan, math.nan, 1], {"patience": 2}, 2, 0),
        ([math.nan, 3, 2, 4], {"patience": 2}, None, 2),
        ([math.nan, math.nan, math.nan], {"patience": 2}, 2, 0),
    ],
)
def test_when_it_stops_and_what_is_best(values, options, stopped_at, best_epoch):
    series = Series(values, **options)
    assert series.stopped_at == stopped_at
    assert series.callback.best_epoch == best_epoch
    assert series.network.parameters.tolist() == [best_epoch]


def test_it_can_be_used_again():
    callback = fb.EarlyStopping(patience=4)
    first, history, _ = overfit(callback)
    second, again, _ = overfit(callback)
    assert again["val_loss"] == history["val_loss"]
    assert first.parameters.tobytes() == second.parameters.tobytes()


@pytest.mark.parametrize("monitor", ["val_loss", "val_r2", "accuracy", "nonsense", None])
def test_it_says_what_it_could_monitor(monitor):
    expected = "expected one of loss, r2, learning_rate"
    expected += ".*validation_data" if str(monitor).startswith("val_") else ""
    with pytest.raises(ValueError, match=rf"monitor={monitor!r}.*{expected}"):
        a_fit([fb.EarlyStopping(monitor=monitor)])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [({"patience": 0}, ValueError, "patience: .*at least 1, got 0"),
     ({"patience": 1.5}, TypeError, "patience: .*whole"),
     ({"min_delta": -1}, ValueError, "min_delta: .*at least 0"),
     ({"min_delta": math.nan}, ValueError, "min_delta: .*finite")],
)
def test_bad_settings(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fb.EarlyStopping(**options)


# Plateaus


class Told:
    """A training whose values and learning rate a callback watches, epoch by epoch."""

    def __init__(self, callback, values, learning_rate=1.0):
        self.network = network_of([0])
        self.history, self.stopping, self.stopped = {callback.monitor: []}, False, None
        self.optimizer = fb.SGD(learning_rate)
        self.counts, self.rates = [], []
        callback.on_train_begin(self)
        for self.epoch, value in enumerate(values):
            self.network.parameters[:] = self.epoch
            self.history[callback.monitor].append(value)
            callback.on_epoch_end(self)
            self.counts.append(callback.count)
            self.rates.append(self.optimizer.learning_rate)
            if self.stopping:
                break
        callback.on_train_end(self)

    def stop(self, reason):
        self.stopping, self.stopped = True, reason


class AsScikitLearn:
    """What its multilayer perceptrons do after each epoch, told anew."""

    def __init__(self, falls, tol, n_iter_no_change, factor, least):
        self.falls, self.tol, self.n = falls, tol, n_iter_no_change
        self.factor, self.least = factor, least
        self.best, self.count, self.best_epoch = (math.inf if falls else -math.inf), 0, None

    def run(self, values, rate):
        """How many epochs, and the count, the rate and the best after each."""
        counts, rates = [], []
        for epoch, value in enumerate(values):
            if self.falls:
                worse, better = value > self.best - self.tol, value < self.best
            else:
                worse, better = value < self.best + self.tol, value > self.best
            self.count = self.count + 1 if worse else 0
            if better:
                self.best, self.best_epoch = value, epoch
            stops = False
            if self.count > self.n:
                stops = self.factor is None or rate <= self.least
                if not stops:
                    rate *= self.factor
                    self.count = 0
            counts.append(self.count)
            rates.append(rate)
            if stops:
                break
        return counts, rates


values = st.lists(
    st.one_of(st.sampled_from([0.0, 0.5, 0.6, 1.0, math.nan, math.inf, -math.inf]),
              st.floats(-2, 2)), max_size=40)


@settings(max_examples=300)
@given(
    first=values, second=values,
    monitor=st.sampled_from(["loss", "val_loss", "accuracy", "val_r2"]),
    patience=st.sampled_from([1, 2, 3, math.inf]), tol=st.sampled_from([0.0, 0.1, 1e-4, 0.5]),
    factor=st.sampled_from([None, 0.2, 0.9]), least=st.sampled_from([0.0, 1e-6, 0.05, 1.0]),
)
def test_a_plateau_is_that_of_scikit_learn(first, second, monitor, patience, tol, factor, least):
    """Also in a second fit, which goes on counting."""
    callback = Plateau(patience, tol, monitor, factor, least, keep_best=True)
    model = AsScikitLearn(monitor.endswith("loss"), tol, patience, factor, least)
    assert callback.count == 0
    assert callback.best == model.best
    rate, restored = 1.0, None
    for series in (first, second):
        model.best_epoch = None
        training = Told(callback, series, rate)
        counts, rates = model.run(series, rate)
        assert training.counts == counts
        assert training.rates == rates
        assert callback.best == model.best
        assert training.stopping == (bool(counts) and counts[-1] > patience)
        rate = rates[-1] if rates else rate
        restored = restored if model.best_epoch is None else model.best_epoch
        network = network_of([-1])
        callback.restore(network)
        if restored is not None:
            assert network.parameters.tolist() == [restored]


@pytest.mark.parametrize(
    ("series", "options", "counts", "rates"),
    [
        ([3, 2, 1], {}, [0, 0, 0], [1, 1, 1]),
        ([3, 3, 3, 3], {"patience": 2}, [0, 1, 2, 3], [1] * 4),
        ([3, 2.95, 2.9, 2.7], {"patience": 9, "tol": 0.1}, [0, 1, 2, 0], [1] * 4),
        ([3, 3, 3, 1, 1, 1], {"patience": 1, "factor": 0.5}, [0, 1, 0, 0, 1, 0],
         [1, 1, 0.5, 0.5, 0.5, 0.25]),
        ([3] * 6, {"patience": 1, "factor": 0.5, "least": 0.5}, [0, 1, 0, 1, 2],
         [1, 1, 0.5, 0.5, 0.5]),
        ([3, math.nan, 4, 4], {"patience": 1}, [0, 0, 1, 2], [1] * 4),
        ([1, 2, 3], {"monitor": "r2", "patience": 1}, [0, 0, 0], [1] * 3),
        ([3, 2, 2], {"monitor": "r2", "patience": 1}, [0, 1, 2], [1] * 3),
    ],
)
def test_plateaus_by_hand(series, options, counts, rates):
    training = Told(Plateau(**options), series)
    assert (training.counts, training.rates) == (counts, rates)
    assert training.stopping == (counts[-1] > options.get("patience", 10))


def test_a_plateau_stops_a_fit():
    callback = Plateau(patience=2, tol=1e9, keep_best=True)
    net, history = a_fit([callback], epochs=50)
    assert len(history["loss"]) == 4
    assert "loss has not improved by 1e+09 for 2 epochs" in history.stopped
    assert callback.best == min(history["loss"])
    before = net.parameters.copy()
    callback.restore(net)
    best = fb.mlp([3, 4, 1], seed=0)
    best.fit(*data(), loss=SQUARED, epochs=int(np.argmin(history["loss"])) + 1, seed=0)
    assert net.parameters.tobytes() == best.parameters.tobytes()
    net.parameters[:] = before
    Plateau().restore(net)
    assert net.parameters.tobytes() == before.tobytes()


@pytest.mark.parametrize("compiled", [True, False])
def test_a_plateau_turns_the_learning_rate_down(compiled):
    class Own(fb.SGD):
        pass

    optimizer = (fb.SGD if compiled else Own)(0.1)
    callback = Plateau(patience=1, tol=1e9, factor=0.1, least=1e-3)
    _, history = a_fit([callback], epochs=50, optimizer=optimizer)
    # The first epoch improves on infinity; then every second one is a plateau.
    expected = [0.1] * 3 + [0.01] * 2 + [0.001] * 2
    assert history["learning_rate"][:7] == pytest.approx(expected)
    assert "the learning rate is" in history.stopped
    assert optimizer.learning_rate == pytest.approx(history["learning_rate"][-1])
    assert len(history["loss"]) < 50


def test_a_plateau_without_end():
    _, history = a_fit([Plateau(math.inf, tol=1e9)], epochs=30)
    assert len(history["loss"]) == 30
    assert history.stopped is None


def test_a_plateau_goes_on_counting_in_the_next_fit():
    callback = Plateau(patience=5, tol=1e9)
    _, history = a_fit([callback], epochs=4)
    assert (callback.count, len(history["loss"])) == (3, 4)
    _, history = a_fit([callback], epochs=50)
    assert len(history["loss"]) == 3


@pytest.mark.parametrize("monitor", ["val_loss", "val_r2", "accuracy", "nonsense", None])
def test_a_plateau_says_what_it_could_monitor(monitor):
    expected = "expected one of loss, r2, learning_rate"
    expected += ".*validation_data" if str(monitor).startswith("val_") else ""
    with pytest.raises(ValueError, match=rf"^Plateau\(monitor={monitor!r}.*{expected}"):
        a_fit([Plateau(monitor=monitor)])


def test_a_plateau_and_a_schedule():
    net, before = fb.mlp([3, 4, 1], seed=0), fb.mlp([3, 4, 1], seed=0).parameters.tobytes()
    for factor in (0.5, None):
        arguments = {"loss": SQUARED, "optimizer": fb.SGD(lambda epoch: 0.0), "epochs": 1,
                     "callbacks": [Plateau(factor=factor)]}
        if factor is None:
            net.fit(*data(), **arguments)
        else:
            with pytest.raises(ValueError, match=r"^Plateau\(factor=.*learning_rate.*schedule"):
                net.fit(*data(), **arguments)
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [({"patience": 0}, ValueError, "patience: .*at least 1, got 0"),
     ({"patience": 1.5}, TypeError, "patience: .*whole"),
     ({"patience": math.nan}, TypeError, "patience: "),
     ({"patience": -math.inf}, TypeError, "patience: "),
     ({"tol": -1}, ValueError, "tol: .*at least 0"),
     ({"tol": math.nan}, ValueError, "tol: .*finite"),
     ({"least": -1}, ValueError, "least: .*at least 0"),
     *(({"factor": factor}, ValueError, f"factor: .*above 0 and below 1, got {factor}")
       for factor in (0, 1, -0.5, 2, math.nan))],
)
def test_bad_settings_of_a_plateau(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Plateau(**options)


# What a checkpoint kept


NET = SimpleNamespace(parameters=np.zeros(7, "f4"), buffers=np.zeros(0, "f4"), dtype=np.dtype("f4"))
GOOD = {
    fb.EarlyStopping: {"best": 0.5, "best_epoch": 3, "_best_parameters": np.ones(7, "f4")},
    Plateau: {"best": 0.5, "count": 2, "_best_parameters": np.ones(7, "f4")},
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_they_kept_is_checked(kind):
    callback, good = kind(), GOOD[kind]
    assert set(good) == set(kind.kept)
    before = vars(callback).copy()
    for right in ({}, {"best": -math.inf}, {"best": math.nan}, {"best": 3},
                  {"_best_parameters": None}):
        callback.check_kept(good | right, NET)
    wrong = [{"best": value} for value in (None, "x", True, [], {}, np.ones(7, "f4"), 10**400)]
    wrong += [{"_best_parameters": value} for value in (
        3.5, [1.0] * 7, "x", np.ones(7), np.ones(6, "f4"), np.ones((7, 1), "f4"),
        np.ones(1, "f4"), np.float32(1))]
    number = "best_epoch" if "best_epoch" in good else "count"
    wrong += [{number: value} for value in (-1, 1.5, "x", True, [], np.ones(2))]
    if number == "best_epoch":
        callback.check_kept(good | {"best_epoch": None}, NET)
    else:
        wrong.append({"count": None})
    for values in wrong:
        with pytest.raises((TypeError, ValueError, OverflowError)):
            callback.check_kept(good | values, NET)
    assert vars(callback) == before


def test_a_class_that_keeps_other_things_need_not_check_them():
    class Fewer(fb.EarlyStopping):
        kept = ("best",)

    class Own(fb.Callback):
        kept = ("anything",)

    Fewer().check_kept({"best": 1.0}, NET)
    Own().check_kept({"anything": "at all"}, NET)


def test_a_checkpoint_is_asked_about_before_anything_is_changed(tmp_path):
    class Own(fb.Callback):
        kept = ("total", "trace", "seen")
        total, trace, seen = 0, np.zeros(2), None

        def check_kept(self, values, network):
            self.asked = values, network.parameters.copy()
            raise ValueError("total: expected less")

    options = {"loss": SQUARED, "epochs": 2, "checkpoint": tmp_path, "seed": 0}
    fb.mlp([3, 1], seed=0).fit(*data(), callbacks=[Own()], **options)
    net, callback = fb.mlp([3, 1], seed=0), Own()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match=r"^checkpoint: .*callback 0 \(Own\): total: "):
        net.fit(*data(), callbacks=[callback], resume=True, **options)
    values, parameters = callback.asked
    assert values["total"] == 0
    assert values["trace"].tolist() == [0, 0]
    assert values["seen"] is None
    assert parameters.tobytes() == net.parameters.tobytes() == before.tobytes()
    assert set(vars(callback)) == {"asked"}


@pytest.mark.parametrize("callback", [fb.EarlyStopping(), fb.callbacks.Plateau()],
                         ids=["EarlyStopping", "Plateau"])
@pytest.mark.parametrize("best", ["a", None, 10**400, np.ones(2)], ids=lambda v: type(v).__name__)
def test_the_best_value_is_a_number(callback, best):
    with pytest.raises((TypeError, ValueError), match=r"^best: expected"):
        callback.best = best
    callback.best = np.inf
