"""predict: with dense rows and activations, into given arrays, in threads."""

import copy
import math
import pickle
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.sparse
import scipy.special
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import kernels
from fastbp.kernels import dispatch, threads

from .networks import Odd, Same, a_net, same_bits

# predict


@settings(max_examples=25)
@given(rows=st.integers(0, 30), chunk=st.integers(1, 31), seed=st.integers(0, 99))
@example(rows=0, chunk=1, seed=0)
def test_a_rows_prediction_does_not_depend_on_its_chunk(dtype, rows, chunk, seed):
    net = a_net(dtype, seed)
    X = np.random.default_rng(seed).normal(size=(rows, 4))
    whole = net.predict(X)
    assert whole.shape == (rows, 3)
    assert whole.dtype == dtype
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fb.network, "CHUNK_ROWS", chunk)
        assert same_bits(net.predict(X), whole)
    assert same_bits(net.forward(X, training=False), whole)
    for i in range(rows):
        assert same_bits(net.predict(X[i : i + 1]), whole[i : i + 1])


def test_predict_needs_the_workspace_of_a_chunk_alone():
    net = fb.mlp([4, 64, 1], seed=0)
    X = np.broadcast_to(np.ones((1, 4)), (50_000, 4))  # all rows are one
    out = np.empty((50_000, 1), "f4")
    tracemalloc.start()
    net.predict(X, out=out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # the hidden layer of all rows would be 12.8 MB
    assert (out == out[0]).all()


def test_predict_takes_any_array_of_numbers(dtype, rng, tmp_path):
    net = a_net(dtype)
    X = rng.integers(0, 4, size=(20, 4)).astype(dtype)
    expected = net.predict(X)
    mapped = np.memmap(tmp_path / "X", np.float64, "w+", shape=X.shape)
    mapped[:] = X
    frozen = X.copy()
    frozen.setflags(write=False)
    wide = np.zeros((40, 8))
    wide[::2, ::2] = X
    for other in [X.tolist(), X.astype("u1"), X.astype(np.longdouble), X.astype(">f8"), mapped,
                  np.asfortranarray(X), frozen, wide[::2, ::2], X.astype("f2")]:
        assert same_bits(net.predict(other), expected)
    assert same_bits(net.predict(X > 1), net.predict((X > 1).astype(dtype)))


def test_predict_into_an_array_of_the_callers(dtype):
    net, X = a_net(dtype), np.ones((5, 4))
    expected, out = net.predict(X), np.full((5, 3), np.nan, dtype)
    assert net.predict(X, out=out) is out
    assert same_bits(out, expected)


def frozen_output():
    out = np.zeros((5, 3), "f4")
    out.setflags(write=False)
    return out


@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        (np.zeros((4, 3), "f4"), ValueError, r"shape \(5, 3\), got \(4, 3\)"),
        (np.zeros((5, 3)), TypeError, "dtype float32, got float64"),
        (np.zeros((5, 3), "f4", "F"), ValueError, "C-contiguous"),
        (frozen_output(), ValueError, "read-only"),
        ([[0.0] * 3] * 5, TypeError, "numpy.ndarray, got list"),
    ],
)
def test_predict_into_an_array_that_does_not_fit(out, error, message):
    with pytest.raises(error, match=f"^out: .*{message}"):
        a_net().predict(np.ones((5, 4)), out=out)
    assert not np.any(out)


def test_predict_into_its_own_input():
    net = fb.mlp([3, 3])
    X = np.ones((5, 3), "f4")
    with pytest.raises(ValueError, match="out overlaps X"):
        net.predict(X, out=X)
    assert (X == 1).all()


def test_nan_and_infinity_stay_in_their_rows(dtype, rng):
    net = a_net(dtype)
    X = rng.normal(size=(6, 4))
    expected = net.predict(X)
    X[2, 1] = math.nan
    Z = net.predict(X)
    assert np.isnan(Z[2]).all()
    others = [0, 1, 3, 4, 5]
    assert same_bits(Z[others], expected[others])


def test_predict_and_evaluate_change_nothing(rng):
    net = a_net()
    X, y = rng.normal(size=(7, 4)), rng.random((7, 3))
    Z = net.forward(X)
    net.backward(np.ones((7, 3), "f4"))
    before = net.parameters.copy(), net.gradients.copy()
    caches = [layer.cache for layer in net.layers]
    steps = [layer.step for layer in net.layers]
    net.predict(-X)
    net.evaluate(-X, y, loss=fb.SigmoidCrossEntropy())
    assert same_bits(net.parameters, before[0])
    assert same_bits(net.gradients, before[1])
    assert all(a is layer.cache for a, layer in zip(caches, net.layers, strict=True))
    assert steps == [layer.step for layer in net.layers]
    assert net.history is None
    assert Z.shape == (7, 3)


def test_predict_in_many_threads_at_once(dtype, rng):
    net = a_net(dtype)
    batches = [rng.normal(size=(2000, 4)) for _ in range(8)]
    expected = [net.predict(X) for X in batches]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            got = list(pool.map(net.predict, batches))
            assert all(map(same_bits, got, expected))


ACTIVATIONS = {"softmax": kernels.softmax, "sigmoid": kernels.sigmoid, "exp": kernels.exp}
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def probability_nets(dtype):
    """Compiled ones, and some with a layer of one's own, or with no sizes."""
    yield fb.mlp([4, 7, 5], "tanh", dropout=0.3, dtype=dtype, seed=0)
    yield fb.mlp([4, 1], dtype=dtype, seed=0)
    yield fb.Sequential([fb.Dense(4, 9), fb.ReLU()], dtype, seed=0)
    yield fb.Sequential([fb.Dense(4, 9), fb.Sigmoid()], dtype, seed=0)
    yield fb.Sequential([fb.Dense(4, 9), fb.Dropout(0.5)], dtype, seed=0)
    yield fb.Sequential([fb.ReLU(), fb.Dense(4, 300)], dtype, seed=0)
    yield fb.Sequential([fb.Dense(4, 6), Same(), fb.Dense(6, 3)], dtype, seed=0)
    yield fb.Sequential([fb.Tanh(), fb.Dropout(0.5)], dtype)


@each_activation
def test_predict_with_an_activation(dtype, activation, rng):
    """The bits of the kernel that is applied to what `predict` returns without."""
    kernel, used = ACTIVATIONS[activation], dispatch.isa()
    X = rng.normal(size=(33, 4))
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for net in probability_nets(dtype):
                for rows in (X.astype(dtype), X, X[:1], X[:0], X[::-1], np.asfortranarray(X),
                             X.astype("f2"), X > 0, X.tolist(), scipy.sparse.csr_array(X)):
                    Z = net.predict(rows)
                    expected = kernel(Z) if Z.size else Z
                    P = net.predict(rows, activation=activation)
                    assert same_bits(P, expected)
                    assert same_bits(net.predict(rows), Z), "the scores are what they were"
                    out = np.full_like(Z, np.nan)
                    assert net.predict(rows, activation=activation, out=out) is out
                    assert same_bits(out, expected)
    finally:
        dispatch.use(used)


@each_activation
@pytest.mark.parametrize("own", [False, True])
def test_predict_with_an_activation_many_rows(dtype, activation, own, rng):
    net = fb.Sequential([fb.Dense(4, 6), Same() if own else fb.ReLU(), fb.Dense(6, 3)], dtype,
                        seed=0)
    X = rng.normal(size=(2500, 4)).astype(dtype)
    expected = ACTIVATIONS[activation](net.predict(X, n_threads=1))
    paid = threads.set_work_per_thread(0)
    try:
        for n_threads in (1, 2, 3):
            for rows in (X, X.astype("f8"), scipy.sparse.csr_array(X)):
                P = net.predict(rows, activation=activation, n_threads=n_threads)
                assert same_bits(P, expected)
    finally:
        threads.set_work_per_thread(paid)


def test_activations_are_what_they_are_called(dtype, rng):
    net, X = fb.mlp([4, 6, 3], dtype=dtype, seed=0), rng.normal(size=(9, 4))
    Z, close = net.predict(X).astype(float), {"rtol": 20 * np.finfo(dtype).eps}
    for name, true in (("softmax", scipy.special.softmax(Z, axis=1)), ("exp", np.exp(Z)),
                       ("sigmoid", scipy.special.expit(Z))):
        np.testing.assert_allclose(net.predict(X, activation=name), true, **close)


@each_activation
def test_activations_follow_the_weights_and_settings(activation, rng):
    net = fb.Sequential([fb.Dense(4, 6), fb.LeakyReLU(0.1), fb.Dense(6, 3)], seed=0)
    X = rng.normal(size=(9, 4)).astype("f4")

    def check(net):
        assert same_bits(net.predict(X, activation=activation),
                         ACTIVATIONS[activation](net.forward(X, training=False)))

    check(net)
    net.layers[1].alpha = 0.7
    check(net)
    net.layers[0].W *= 2
    check(net)
    net.fit(X, np.arange(9) % 3, loss=fb.SoftmaxCrossEntropy(), epochs=2)
    check(net)
    for duplicate in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), net.astype("f4")):
        net.predict(X)
        check(duplicate)


@pytest.mark.parametrize("activation", ["relu", "Softmax", "", "tanh", 3, True, b"exp", np.exp,
                                        ["softmax"], {}])
@pytest.mark.parametrize("own", [False, True])
def test_an_activation_that_is_none(activation, own):
    net = fb.Sequential([fb.Dense(4, 3), *([Same()] if own else [])])
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^activation: expected one of softmax, sigmoid"):
            net.predict(np.ones((2, 4)), activation=activation)
    assert net.predict(np.ones((2, 4))).shape == (2, 3)


@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_predict_with_an_activation_in_many_threads_at_once(activation, rng):
    """The first calls of a network, which lower it."""
    X = rng.normal(size=(3, 4)).astype("f4")
    expected = fb.mlp([4, 6, 3], seed=0).predict(X, activation=activation)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            for _ in range(30):
                net = fb.mlp([4, 6, 3], seed=0)
                got = list(pool.map(lambda _, net=net: net.predict(X, activation=activation),
                                    range(8)))
                assert all(same_bits(P, expected) for P in got)
    finally:
        sys.setswitchinterval(interval)


# predict(out=...) and what it may not overlap


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_out_does_not_overlap_the_parameters(own, sparse, dtype):
    layers = [fb.Dense(4, 6), *([Odd()] if own else []), fb.Dense(6, 3)]
    net = fb.Sequential(layers, dtype, seed=0)
    before, X = net.parameters.copy(), np.ones((2, 4), dtype)
    X = scipy.sparse.csr_array(X) if sparse else X
    for start in (0, 30, net.parameters.size - 6):
        with pytest.raises(ValueError, match=r"^out overlaps parameters"):
            net.predict(X, out=net.parameters[start : start + 6].reshape(2, 3))
    assert same_bits(net.parameters, before)
    out = np.empty((2, 3), dtype)
    assert net.predict(X, out=out) is out


@pytest.mark.parametrize("name", ["data", "indices", "indptr"])
def test_out_does_not_overlap_sparse_rows(name):
    X = scipy.sparse.csr_array(np.ones((4, 4), "f4"))
    memory = np.zeros(20, "f4")  # of a part of much more SciPy would make a copy
    part = memory[:16].view(getattr(X, name).dtype)[: getattr(X, name).size]
    part[:] = getattr(X, name)
    setattr(X, name, part)
    net = fb.mlp([4, 3], seed=0)
    with pytest.raises(ValueError, match=rf"^out overlaps X\.{name}"):
        net.predict(X, out=memory[:12].reshape(4, 3))
    np.testing.assert_array_equal(X.toarray(), np.ones((4, 4)))
