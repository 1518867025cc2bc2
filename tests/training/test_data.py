"""Which rows a fit sees and in which order, what it sets aside, and what it leaves alone."""

import copy
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb

from ..cases import each
from .fits import (
    CROSS_ENTROPY,
    SQUARED,
    Recorder,
    a_fit,
    a_net,
    classes,
    flat,
    numbers,
    record,
    timeless,
    unwatched,
)

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


@each("kind", [np.int64, np.int32, np.uint8, ">i2", list, "reversed"])
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


@each("weighted", [False, True])
@each("fraction", [0, 0.3])
def test_an_order_of_ones_own_on_both_paths(dtype, weighted, fraction):
    X, y = classes()
    w = np.arange(23.0) if weighted else None

    def run(watch, order):
        net = a_net(dtype)
        history = a_fit(net, X, y, seed=0, shuffle=order, sample_weight=w, epochs=3,
                        optimizer=watch(fb.Adam(0.01)), validation_fraction=fraction)
        return timeless(history), net.parameters.tobytes()

    assert run(record, an_order) == run(unwatched, an_order)
    if not fraction:
        same = run(unwatched, lambda n: np.arange(n))
        assert same == run(unwatched, False)


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


@each("order", [
    lambda n: np.arange(n - 1), lambda n: np.arange(n + 1), lambda n: np.arange(n)[None],
    lambda n: np.arange(n, dtype=float), lambda n: np.ones(n, bool), lambda n: None,
    lambda n: 3, lambda n: [], lambda n: ["a"] * n, lambda n: np.arange(n) - 1,
    lambda n: np.arange(n) + 1, lambda n: np.full(n, 2**64 - 1, np.uint64),
    lambda n: np.full(n, -(2**63)), lambda n: [*range(n - 1), n], lambda n: [2**70] * n,
    lambda n: [[0], [1, 2]],
], ids=range(16))
@each("own", [False, True])
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


@each("shuffle", [
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
