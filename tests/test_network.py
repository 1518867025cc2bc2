"""Sequential: construction, forward and backward, predict, evaluate, copies."""

import copy
import dataclasses
import gc
import math
import pickle
import subprocess
import sys
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import scipy.sparse
import scipy.special
import sklearn.metrics
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import kernels
from fastbp.kernels import dispatch, ops, threads

ALL_LAYERS = list(fb.layers.BUILT_IN.values())
SOME_ROWS = np.zeros((3, 4), "f4")


def a_net(dtype="float32", seed=0):
    """One of each layer."""
    return fb.Sequential(
        [fb.Dense(4, 6), fb.GELU(), fb.Dropout(0.3), fb.Dense(6, 5, "glorot_normal"), fb.Tanh(),
         fb.Dense(5, 5, "he_normal"), fb.ELU(0.5), fb.LeakyReLU(0.1), fb.Dense(5, 5), fb.SiLU(),
         fb.ReLU(), fb.Dense(5, 3, "glorot_uniform"), fb.Sigmoid()],
        dtype=dtype, seed=seed,
    )


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


# Construction


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=5))
def test_sizes_chain_or_the_layer_is_named(sizes):
    stack = []
    for n_in, n_out in sizes:
        stack += [fb.Dense(n_in, n_out), fb.ReLU()]
    breaks = [i for i in range(1, len(sizes)) if sizes[i][0] != sizes[i - 1][1]]
    if breaks:
        i = breaks[0]
        with pytest.raises(ValueError, match=(
            rf"layer {2 * i} \(Dense\(n_in={sizes[i][0]}.* takes {sizes[i][0]} columns, "
            rf"but layer {2 * i - 2} \(.* returns {sizes[i - 1][1]}")):
            fb.Sequential(stack)
    else:
        net = fb.Sequential(stack)
        assert (net.n_in, net.n_out) == (sizes[0][0], sizes[-1][1])
        assert net.predict(np.ones((2, net.n_in))).shape == (2, net.n_out)


dense = fb.Dense(2, 2)
used = fb.Sequential([fb.Dense(2, 2)]).layers[0]


@pytest.mark.parametrize(
    ("layers", "error", "message"),
    [
        ([], ValueError, "at least one layer"),
        (fb.ReLU(), TypeError, r"sequence of layers, got ReLU\(\) alone"),
        ([fb.ReLU], TypeError, r"at 0, got the class ReLU; make one"),
        ([dense, "relu"], TypeError, r"at 1, got 'relu' \(str\)"),
        ([dense, fb.ReLU(), dense], ValueError, "layer 2 is the same object as layer 0"),
        ([used], ValueError, r"layer 0 \(Dense.*another network already.*deepcopy"),
        (3, TypeError, "sequence of layers, got 3"),
        (None, TypeError, "sequence of layers, got None"),
    ],
)
def test_bad_layers(layers, error, message):
    with pytest.raises(error, match=f"^layers: .*{message}"):
        fb.Sequential(layers)
    assert not dense.bound


@pytest.mark.parametrize("dtype", ["float16", int, "complex64", "nonsense", None, "O", [1, 2]])
def test_bad_dtype(dtype):
    with pytest.raises(ValueError, match=r'^dtype: expected "float32" or "float64", got '):
        fb.Sequential([fb.Dense(2, 2)], dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "f4", np.float32, np.dtype("f4")])
def test_ways_to_say_float32(dtype):
    assert fb.Sequential([fb.Dense(2, 2)], dtype).parameters.dtype == np.float32


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("a", TypeError), (True, ValueError)]
)
def test_bad_seed(seed, error):
    with pytest.raises(error, match=r"^seed: "):
        fb.mlp([2, 1], seed=seed)


def test_sizes_that_no_layer_fixes():
    net = fb.Sequential([fb.ReLU(), fb.Tanh()])
    assert (net.n_in, net.n_out, net.parameters.size) == (None, None, 0)
    for columns in (1, 5):
        assert net.predict(np.ones((2, columns))).shape == (2, columns)
    net.fit([[1.0, 2]], [[0.5, 1]], loss=fb.MeanSquaredError(), epochs=2, gradient_norms=True)


def test_a_network_whose_construction_fails_leaves_its_layers_free():
    layers = [fb.Dense(2, 3), fb.Dense(4, 1)]
    with pytest.raises(ValueError, match="takes 4 columns"):
        fb.Sequential(layers)
    layers[1] = fb.Dense(3, 1)
    fb.Sequential(layers)


@pytest.mark.parametrize("use", [
    lambda net: None, lambda net: net.predict(SOME_ROWS), lambda net: net.forward(SOME_ROWS),
    lambda net: net.fit(SOME_ROWS, np.zeros(3, int), loss=fb.SoftmaxCrossEntropy(), epochs=1),
    lambda net: net.evaluate(SOME_ROWS, np.zeros(3, int), loss=fb.SoftmaxCrossEntropy()),
])
def test_the_memory_is_free_once_nobody_has_the_network(use):
    """Without waiting for the garbage collector."""
    net = fb.Sequential([fb.Dense(4, 8), fb.Residual([fb.BatchNorm(8), fb.Dropout(0.1)]),
                         fb.Dense(8, 3)])
    use(net)
    parameters = weakref.ref(net.parameters.base)
    gc.disable()
    try:
        del net
        assert parameters() is None
    finally:
        gc.enable()


def test_representation_and_summary():
    net = fb.mlp([784, 256, 10], dropout=0.1)
    assert repr(net) == (
        "Sequential([\n    Dense(n_in=784, n_out=256, init='he_uniform'),\n    ReLU(),\n"
        "    Dropout(rate=0.1),\n    Dense(n_in=256, n_out=10, init='glorot_uniform'),\n"
        '], dtype="float32")')
    lines = net.summary().splitlines()
    assert lines[0].split() == ["layer", "output", "parameters"]
    assert [line.split()[-1] for line in lines[2:6]] == ["200,960", "0", "0", "2,570"]
    assert "(batch, 256)" in lines[3]
    assert "Dropout(rate=0.1)" in lines[4]
    assert "(batch, 10)" in lines[5]
    assert lines[6] == "203,530 parameters, float32, 795 KiB"
    assert "(batch, any)" in fb.Sequential([fb.ReLU()]).summary()


# mlp


def kinds(net):
    return [type(layer).__name__ for layer in net.layers]


@pytest.mark.parametrize("activation", ops.ACTIVATIONS)
def test_mlp_is_the_usual_stack(dtype, activation):
    kind = ops.ACTIVATIONS[activation].layer
    init = "glorot" if activation in ("sigmoid", "tanh") else "he"
    net = fb.mlp([4, 5, 6, 2], activation, dropout=0.25, dtype=dtype, seed=1)
    assert kinds(net) == ["Dense", kind, "Dropout"] * 2 + ["Dense"]
    assert [layer.init for layer in net.layers[::3]] == [f"{init}_uniform"] * 2 + ["glorot_uniform"]
    assert [(layer.n_in, layer.n_out) for layer in net.layers[::3]] == [(4, 5), (5, 6), (6, 2)]
    assert net.layers[2].rate == 0.25
    assert net.dtype == dtype


def test_mlp_without_hidden_layers_and_with_mixed_activations():
    assert kinds(fb.mlp([4, 2])) == ["Dense"]
    assert kinds(fb.mlp([4, 3, 3, 2], ["tanh", "relu"])) == [
        "Dense", "Tanh", "Dense", "ReLU", "Dense"]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([4],), ValueError, "sizes: expected at least two"),
        (([4, 0, 2],), ValueError, r"sizes\[1\]: .*at least 1, got 0"),
        (([4, 2.5],), TypeError, r"sizes\[1\]: .*whole number, got 2.5"),
        ((4,), TypeError, "sizes: "),
        (([4, 3, 2], "softmax"), ValueError, "activation: expected one of relu.*'softmax'"),
        (([4, 3, 2], ["relu", "relu"]), ValueError, "activation: .*1 names.*got 2"),
        (([4, 3, 2], None), TypeError, "activation: "),
        (([4, 2], "softmax"), ValueError, "activation: "),
        (([4, 3, 2], "relu", 1.5), ValueError, "dropout: .*below 1, got 1.5"),
        (([4, 2], "relu", -1), ValueError, "dropout: .*at least 0"),
        *((([4, 3, 2], [name]), ValueError, "activation: expected one of relu.*, got ")
          for name in (["relu"], {}, set(), None, 3, b"relu", np.ones(2), fb.ReLU, fb.ReLU())),
        *((([4, 3, 2], names), TypeError, "activation: expected a name or a sequence of names, ")
          for names in ({"relu": 1}, {"relu"}, b"relu", bytearray(b"r"), memoryview(b"r"), 3,
                        (name for name in ["relu"]), np.array("relu"), fb.ReLU())),
        (([4, 2], b""), TypeError, "activation: expected a name or a sequence of names, got b''"),
        *(((sizes,), TypeError, "sizes: expected a sequence of whole numbers, got ")
          for sizes in (None, {2: 1}, {2, 1}, b"ab", bytearray(b"ab"), memoryview(b"ab"), "21",
                        2.5, np.array(3), (size for size in [2, 1]))),
        *(((sizes,), TypeError, r"sizes\[0\]: expected a whole number, got ")
          for sizes in ([[2], [1]], [None, 1], ["2", 1], np.array([2.0, 1]), np.ones((2, 2)))),
        (([True, 2],), ValueError, r"sizes\[0\]: expected a whole number"),
        *((([4, 3, 2], "relu", rate), TypeError, "dropout: expected a number, got ")
          for rate in (None, {}, set(), b"0", "0.1", [0.1], np.array([0.1]), 0.5j,
                       (rate for rate in [0.1]))),
        *((([4, 3, 2], "relu", rate), ValueError, "dropout: expected a finite number and ")
          for rate in (True, np.nan, np.inf, 10**400)),
    ],
    ids=lambda value: "",
)
def test_mlp_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fb.mlp(*arguments)


# forward and backward


def test_a_network_worked_by_hand(dtype):
    """X·W₁ + b₁ = (3, -1), ReLU (3, 0), ·W₂ + b₂ = 7; y = 5: L = 4, dZ = 4."""
    net = fb.Sequential([fb.Dense(2, 2), fb.ReLU(), fb.Dense(2, 1)], dtype)
    first, _, last = net.layers
    first.W, first.b = [[1, -1], [1, 0]], [0, 0]
    last.W, last.b = [[2], [5]], 1
    Z = net.forward([[1, 2]])
    assert Z.tolist() == [[7]]
    value, dZ = fb.MeanSquaredError()(Z, [5])
    assert (value, dZ.tolist()) == (4, [[4]])
    assert net.backward(dZ).tolist() == [[8, 8]]
    assert last.dW.tolist() == [[12], [0]]
    assert last.db.tolist() == [4]
    assert first.dW.tolist() == [[8, 0], [16, 0]]
    assert first.db.tolist() == [8, 0]
    fb.SGD(0.5).step(net.parameters, net.gradients)
    assert last.W.tolist() == [[-4], [5]]


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (np.zeros(4), ValueError, r"expected 2 dimensions.*got 1 \(shape \(4,\)\).*X\[None, :\]"),
        (np.zeros((2, 4, 1)), ValueError, "expected 2 dimensions.*got 3"),
        (3.0, ValueError, "expected 2 dimensions.*got 0"),
        (np.zeros((2, 5)), ValueError, r"expected 4 columns.*got 5 \(shape \(2, 5\)\)"),
        (np.zeros((0, 3)), ValueError, "expected 4 columns.*got 3"),
        (np.zeros((2, 4), object), TypeError, "real numbers, got dtype object"),
        ([["a", "b", "c", "d"]], TypeError, "real numbers, got dtype <U1.*text"),
        (np.zeros((2, 4), complex), TypeError, "complex128.*real"),
        ([[1, 2, 3, 4], [1, 2]], ValueError, "array of numbers"),
        (None, TypeError, "real numbers, got None"),
    ],
)
@pytest.mark.parametrize("method", ["forward", "predict"])
def test_bad_X(method, X, error, message):
    net = a_net()
    before = net.parameters.copy()
    with pytest.raises(error, match=f"^X: .*{message}"):
        getattr(net, method)(X)
    assert same_bits(net.parameters, before)
    assert all(layer.cache is None for layer in net.layers)


@pytest.mark.parametrize(
    ("dZ", "error"),
    [
        (np.ones((4, 3), "f4"), ValueError),
        (np.ones((5, 2), "f4"), ValueError),
        (np.ones(5, "f4"), ValueError),
        (np.ones((5, 3)), TypeError),
        (np.ones((5, 3), object), TypeError),
    ],
    ids=["rows", "columns", "dimensions", "float64", "object"],
)
def test_bad_dZ(dZ, error):
    net = fb.mlp([4, 6, 3], seed=0)
    net.forward(np.ones((5, 4)))
    with pytest.raises(error, match="dZ: "):
        net.backward(dZ)
    assert not net.gradients.any()


def test_backward_before_forward():
    with pytest.raises(RuntimeError, match=r"Sequential.backward: .*forward\(X\)"):
        fb.mlp([4, 3]).backward(np.ones((1, 3), "f4"))


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


class Same(fb.Layer):
    """A layer of one's own: no compiled form."""

    def forward(self, X, training=True):
        return X


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


# Sparse rows


@pytest.mark.parametrize("rows", [0, 1, 5, 1500])
@pytest.mark.parametrize("own", [False, True])
def test_predict_sparse_rows(dtype, rows, own, rng, monkeypatch):
    net = fb.Sequential([fb.Dense(4, 6), Same() if own else fb.GELU(), fb.Dense(6, 3)], dtype,
                        seed=0)
    X = rng.integers(-3, 4, (rows, 4)) * (rng.random((rows, 4)) < 0.4)
    expected = net.predict(X)
    for kind in (dtype, "f4", "f8", "i1", "i8", "g"):
        for form in ("csr", "csc", "coo", "lil"):
            for make in (scipy.sparse.coo_array, scipy.sparse.coo_matrix):
                S = make(X.astype(kind)).asformat(form)
                assert same_bits(net.predict(S), expected)
                out = np.empty((rows, 3), dtype)
                assert net.predict(S, out=out) is out
                assert same_bits(out, expected)
                assert S.format == form
    assert same_bits(net.predict(scipy.sparse.csr_array(X > 0)), net.predict(X > 0))
    monkeypatch.setattr(fb.network, "CHUNK_SIZE", 12)
    assert same_bits(net.predict(scipy.sparse.csr_array(X)), expected)
    assert same_bits(net.predict(X), expected)


def test_predict_sparse_nan_stays_in_its_row(dtype):
    net, X = a_net(dtype), np.eye(5, 4)
    expected = net.predict(X)
    X[2, 1] = math.nan
    Z = net.predict(scipy.sparse.csr_array(X))
    assert np.isnan(Z[2]).all()
    assert same_bits(Z[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


@pytest.mark.parametrize(("X", "error", "message"), [
    (scipy.sparse.csr_array((2, 5)), ValueError, r"expected 4 columns.*got 5 \(shape \(2, 5\)\)"),
    (scipy.sparse.coo_array(np.ones(4)), ValueError, "expected 2 dimensions.*got 1"),
    (scipy.sparse.csr_array(np.ones((2, 4), complex)), TypeError, "real numbers.*complex"),
])
def test_bad_sparse_X(X, error, message):
    with pytest.raises(error, match=f"^X.*{message}"):
        a_net().predict(X)


def test_forward_with_sparse_rows(dtype):
    """It says what it takes, or takes them."""
    X = scipy.sparse.csr_array(np.eye(4))
    try:
        Z = a_net(dtype).forward(X, training=False)
    except (TypeError, ValueError) as error:
        assert str(error).startswith("X: ")
    else:
        assert same_bits(Z, a_net(dtype).forward(X.toarray(), training=False))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_evaluate_sparse_rows(dtype, form, weighted, rng, monkeypatch):
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    X = rng.normal(size=(40, 4)) * (rng.random((40, 4)) < 0.4)
    y, w = rng.integers(0, 3, 40), rng.random(40) if weighted else None
    S = scipy.sparse.csr_array(X).asformat(form)
    for chunk in (1024, 7):
        monkeypatch.setattr(fb.network, "CHUNK_ROWS", chunk)
        assert net.evaluate(S, y, loss=fb.SoftmaxCrossEntropy(), sample_weight=w) == net.evaluate(
            X, y, loss=fb.SoftmaxCrossEntropy(), sample_weight=w)


BROKEN = """
import sys
import numpy as np, scipy.sparse, fastbp as fb
X = scipy.sparse.csr_array(np.ones((300, 60), "f4"))
getattr(X, sys.argv[1])[7] = int(sys.argv[2])
try:
    fb.mlp([60, 8, 4], seed=0).predict(X)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(("where", "value"), [("indices", 10**9), ("indices", -(10**9)),
                                              ("indptr", 10**9), ("indptr", -(10**9))])
def test_predict_sparse_rows_that_are_broken(where, value):
    """In a process of its own, whose memory they may spoil."""
    run = subprocess.run([sys.executable, "-c", BROKEN, where, str(value)], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("X: ")


# evaluate


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 1024])
def test_evaluate_a_classifier(dtype, weighted, chunk, rng, monkeypatch):
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
        sklearn.metrics.accuracy_score(y, Z.argmax(axis=1), sample_weight=w))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", [fb.MeanSquaredError(), fb.MeanAbsoluteError(), fb.Huber(0.5)],
                         ids=repr)
def test_evaluate_a_regression(dtype, weighted, loss, rng, monkeypatch):
    monkeypatch.setattr(fb.network, "CHUNK_ROWS", 6)
    net = fb.mlp([4, 6, 2], dtype=dtype, seed=0)
    X, Y = rng.normal(size=(20, 4)), rng.normal(size=(20, 2))
    w = rng.random(20) if weighted else None
    scores = net.evaluate(X, Y, loss=loss, sample_weight=w)
    Z = net.predict(X)
    assert list(scores) == ["loss", "r2"]
    assert scores["loss"] == pytest.approx(loss(Z, Y, w)[0], rel=1e-6)
    assert scores["r2"] == pytest.approx(
        sklearn.metrics.r2_score(Y, Z, sample_weight=w), rel=1e-5)


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


# Copies


def through_pickle(protocol):
    return lambda net: pickle.loads(pickle.dumps(net, protocol))


COPIES = {
    "copy": copy.copy, "deepcopy": copy.deepcopy,
    **{f"pickle {p}": through_pickle(p) for p in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("duplicate", COPIES.values(), ids=COPIES)
@pytest.mark.parametrize("trained", [False, True])
def test_a_copy_has_the_same_weights_in_memory_of_its_own(dtype, duplicate, trained, rng):
    net, X, y = a_net(dtype), rng.normal(size=(9, 4)), rng.integers(0, 3, 9)

    def fit(net, **more):
        return net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), batch_size=4, epochs=2, **more)

    if trained:
        fit(net)
    clone = duplicate(net)
    assert same_bits(clone.parameters, net.parameters)
    assert same_bits(clone.predict(X), net.predict(X))
    assert not np.shares_memory(clone.parameters, net.parameters)
    assert clone.history == net.history
    assert (clone.history is None) == (not trained)
    for layer in clone.layers:
        for name in layer.parameter_shapes:
            assert np.shares_memory(getattr(layer, name), clone.parameters)
            assert np.shares_memory(getattr(layer, "d" + name), clone.gradients)
    before = net.parameters.copy()
    fit(clone)
    assert same_bits(net.parameters, before)
    fit(net)
    assert same_bits(net.parameters, clone.parameters), "the copy draws other random numbers"


def test_a_copy_leaves_caches_behind(rng):
    net = a_net()
    net.forward(rng.normal(size=(9, 4)))
    assert len(pickle.dumps(net)) < 8000
    assert all(layer.cache is None for layer in copy.copy(net).layers)


def test_astype(rng):
    net = a_net("float32")
    wide = net.astype("float64")
    assert wide.dtype == wide.parameters.dtype == np.float64
    assert wide.parameters.tolist() == net.parameters.tolist()
    assert same_bits(wide.astype("float32").parameters, net.parameters)
    assert not np.shares_memory(net.astype("float32").parameters, net.parameters)
    X = rng.normal(size=(5, 4))
    np.testing.assert_allclose(wide.predict(X), net.predict(X), rtol=1e-4, atol=1e-6)
    twin = net.astype("float32")
    for each in (net, twin):  # the seed comes along as well
        each.fit(X, np.ones((5, 3)), loss=fb.MeanSquaredError(), epochs=1)
    assert same_bits(twin.parameters, net.parameters)
    with pytest.raises(ValueError, match=r"^dtype: "):
        net.astype("float16")


def test_layers_of_one_network_copied_into_another():
    net = fb.mlp([4, 5, 3], seed=1)
    body = [copy.deepcopy(layer) for layer in net.layers[:2]]
    other = fb.Sequential([*body, fb.Dense(5, 2)], seed=2)
    assert other.layers[0].W.tolist() == net.layers[0].W.tolist()
    other.layers[0].W = 0
    assert net.layers[0].W.all()


def test_reseed_follows_from_the_seed():
    def draws(net, *seed):
        return [net.reseed(*seed).random() for _ in range(2)]

    assert draws(a_net(seed=1)) == draws(a_net(seed=1))
    assert len({*draws(a_net(seed=1)), *draws(a_net(seed=2))}) == 4
    assert draws(a_net(seed=1), 5) == draws(a_net(seed=2), 5)


def test_a_predict_of_ones_own_does_not_get_in_the_way():
    class Classifier(fb.Sequential):
        def predict(self, X):
            return super().predict(X).argmax(axis=1)

    net = Classifier([fb.Dense(3, 3)], seed=0)
    X, y, loss = np.eye(3, dtype="f4"), np.arange(3), fb.SoftmaxCrossEntropy()
    history = net.fit(X, y, loss=loss, optimizer=fb.Adam(0.1), validation_data=(X, y), epochs=20)
    assert history["val_loss"][-1] == net.evaluate(X, y, loss=loss)["loss"]
    assert net.predict(X).tolist() == [0, 1, 2]


# Layers of one's own, and what they are held to


class Odd(fb.Layer):
    """One that passes its input on but for what it is told to return."""

    def __init__(self, of_forward=None, of_backward=None):
        super().__init__()
        self.of_forward, self.of_backward = of_forward, of_backward

    def forward(self, X, training=True):
        return self.of_forward(X) if self.of_forward else X.copy()

    def backward(self, dZ):
        return self.of_backward(dZ) if self.of_backward else dZ.copy()


ODD_RETURNS = {
    "None": (lambda A: None, TypeError),
    "a list": (lambda A: A.tolist(), TypeError),
    "a number": (lambda A: 1.0, TypeError),
    "one column": (lambda A: A[:, :1], ValueError),
    "one row": (lambda A: A[:1], ValueError),
    "one dimension": (lambda A: A.ravel(), ValueError),
    "another dtype": (lambda A: A.astype("f8" if A.dtype == "f4" else "f4"), TypeError),
    "another byte order": (lambda A: A.astype(A.dtype.newbyteorder()), TypeError),
    "masked": (lambda A: np.ma.array(A, mask=A > 0), TypeError),
}


@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("odd", ODD_RETURNS)
def test_what_forward_returns_is_checked(odd, place, dtype):
    function, error = ODD_RETURNS[odd]
    layers = [fb.Dense(4, 4), fb.Dense(4, 4)]
    layers.insert(place, Odd(of_forward=function))
    net, X, y = fb.Sequential(layers, dtype, seed=0), np.ones((6, 4)), np.zeros((6, 4))
    before = net.parameters.copy()
    for call in (net.predict, net.forward,
                 lambda X: net.predict(X, out=np.empty((6, 4), dtype)),
                 lambda X: net.evaluate(X, y, loss=fb.MeanSquaredError()),
                 lambda X: net.fit(X, y, loss=fb.MeanSquaredError())):
        with pytest.raises(error, match=rf"^layer {place} \(Odd.*\): forward returned .*"
                                        rf"\(6, 4\)"):
            call(X)
    assert same_bits(net.parameters, before)


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("odd", ODD_RETURNS)
def test_what_backward_returns_is_checked(odd, place, dtype):
    function, error = ODD_RETURNS[odd]
    layers = [fb.Dense(4, 4), fb.Dense(4, 4)]
    layers.insert(place, Odd(of_backward=function))
    net, X, y = fb.Sequential(layers, dtype, seed=0), np.ones((6, 4)), np.zeros((6, 4))
    before = net.parameters.copy()
    with pytest.raises(error, match=rf"^layer {place} \(Odd.*\): backward returned .*\(6, 4\)"):
        net.fit(X, y, loss=fb.MeanSquaredError())
    assert same_bits(net.parameters, before)
    with pytest.raises(error, match=rf"^layer {place} \(Odd"):
        net.backward(net.forward(X))


def overwrite(A):
    A *= 2
    return A


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("place", [0, 1])
def test_layers_are_given_read_only_arrays(where, place, dtype):
    layers = [fb.Tanh()]
    layers.insert(place, Odd(**{"of_" + where: overwrite}))
    net, X = fb.Sequential(layers, dtype, seed=0), np.full((3, 2), 0.5, dtype)
    if where == "backward":
        dZ = net.forward(X) + 0
        with pytest.raises(ValueError, match="read-only"):
            net.backward(dZ)
        assert (dZ == np.tanh(dtype.type(0.5))).all() or np.allclose(dZ, np.tanh(0.5))
    else:
        y = X.copy()
        for call in (net.predict, net.forward,
                     lambda X: net.evaluate(X, y, loss=fb.MeanSquaredError()),
                     lambda X: net.fit(X, y, loss=fb.MeanSquaredError())):
            with pytest.raises(ValueError, match="read-only"):
                call(X)
    assert (X == 0.5).all()
    assert X.flags.writeable


@pytest.mark.parametrize("dZ", [None, 1.0, [[1.0, 2.0]], "dZ", [[1], [2, 3]], np.ones((2, 2), "i8"),
                                scipy.sparse.csr_array(np.ones((2, 2), "f4"))],
                         ids=["None", "float", "list", "text", "ragged", "integers", "sparse"])
@pytest.mark.parametrize("last", [fb.ReLU, fb.Tanh, lambda: fb.Dense(2, 2),
                                  lambda: fb.Dropout(0.5)])
def test_a_dZ_that_is_no_float_array_of_the_networks_dtype(dZ, last):
    net = fb.Sequential([fb.Dense(2, 2), last()], seed=0)
    net.forward(np.ones((2, 2)))
    with pytest.raises((TypeError, ValueError), match=r"^dZ: expected"):
        net.backward(dZ)
    if not isinstance(dZ, list):  # a list of Python's floats is float64, which a layer would take
        with pytest.raises((TypeError, ValueError), match=r"^dZ: expected"):
            layer = net.layers[-1]
            layer.forward(np.ones((2, 2), "f4"))
            layer.backward(dZ)


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


# Masked arrays


def test_masked_values_are_refused(dtype):
    net = fb.mlp([2, 3, 2], dtype=dtype, seed=0)
    X, y, w = np.ones((4, 2)), np.arange(4) % 2, np.ones(4)
    fit, evaluate = (partial(method, loss=fb.SoftmaxCrossEntropy())
                     for method in (net.fit, net.evaluate))

    def masked(array):
        return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) == 1)

    calls = {
        "X": [lambda: net.predict(masked(X)), lambda: net.forward(masked(X)),
              lambda: evaluate(masked(X), y), lambda: fit(masked(X), y)],
        "y": [lambda: fit(X, masked(y)), lambda: evaluate(X, masked(y))],
        "sample_weight": [lambda: fit(X, y, sample_weight=masked(w))],
        "validation_data X": [lambda: fit(X, y, validation_data=(masked(X), y))],
    }
    before = net.parameters.copy()
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=rf"^{name}: expected no masked values, got 1"):
                function()
    assert same_bits(net.parameters, before)
    nothing = np.ma.array(X, mask=False)
    assert same_bits(net.predict(nothing), net.predict(X))
    fit(nothing, y)


# Assigning layers


def test_layers_that_stay_keep_their_weights_and_new_ones_are_drawn(dtype):
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    first, _, last = net.layers
    W, head = first.W.copy(), last.W.copy()
    net.layers = [*net.layers[:-1], fb.Dense(6, 6), fb.Tanh(), fb.Dense(6, 2)]
    assert (net.n_in, net.n_out, len(net.layers)) == (4, 2, 5)
    assert net.parameters.size == net.gradients.size == 30 + 42 + 14
    assert same_bits(net.layers[0].W, W)
    assert net.layers[2].W.any() and net.layers[4].W.any()
    assert np.shares_memory(net.layers[0].W, net.parameters)
    net.parameters[:] = 1
    assert (net.layers[4].W == 1).all()
    assert same_bits(last.W, head)  # the layer that went has its weights, and is free
    assert not last.bound
    other = fb.Sequential([last], dtype)
    assert same_bits(other.layers[0].W, head)
    net.layers = net.layers[::-1][:1]  # its places may change as well
    assert net.n_in == 6


def test_assigned_layers_follow_from_the_seed():
    def heads(seed):
        net = fb.mlp([4, 6, 3], seed=seed)
        found = [net.layers[-1].W.tobytes()]
        for _ in range(2):
            net.layers = [*net.layers[:-1], fb.Dense(6, 3, "glorot_uniform")]
            found.append(net.layers[-1].W.tobytes())
        return found

    assert heads(0) == heads(0)
    assert len(set(heads(0) + heads(1))) == 6


@pytest.mark.parametrize(("layers", "error"), [
    ([], ValueError), (None, TypeError), (fb.Dense(4, 3), TypeError), ([fb.Dense], TypeError),
    ([fb.Dense(4, 3), fb.Dense(4, 3)], ValueError), ([fb.Dense(2**40, 2**20)], MemoryError),
])
def test_layers_that_cannot_be_assigned_change_nothing(layers, error):
    net = fb.mlp([4, 6, 3], seed=0)
    before, X = (net.layers, net.parameters, net.parameters.copy()), np.ones((2, 4))
    Z = net.predict(X)
    with pytest.raises(error, match="layers: "):
        net.layers = layers
    assert net.layers is before[0] and np.shares_memory(net.parameters, before[1])
    assert same_bits(net.parameters, before[2]) and same_bits(net.predict(X), Z)


def test_a_new_layer_that_cannot_be_initialized_changes_nothing():
    class Broken(fb.Layer):
        def __init__(self):
            super().__init__(3, 3, s=(3,))

        def initialize(self, rng):
            raise KeyError("on purpose")

    net = fb.mlp([4, 6, 3], seed=0)
    before, fresh = net.layers, fb.Dense(3, 3)
    with pytest.raises(KeyError):
        net.layers = [*net.layers, fresh, Broken()]
    assert net.layers is before and not fresh.initialized
    net.layers = [*net.layers, fresh]


def test_the_optimizer_of_a_network_with_another_head_starts_afresh():
    net, optimizer = fb.mlp([4, 6, 3], seed=0), fb.Adam()
    X, y = np.ones((8, 4)), np.zeros(8, int)
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=2)
    net.layers = [*net.layers[:-1], fb.Dense(6, 5)]
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=1)
    assert optimizer.steps == 1
    assert optimizer.state["m"].shape == net.parameters.shape


def test_a_network_with_another_head_is_copied_and_saved(tmp_path):
    net = fb.mlp([4, 6, 3], seed=0)
    net.layers = [*net.layers[:-1], fb.Dense(6, 2)]
    net.save(tmp_path / "net")
    X = np.ones((2, 4))
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), fb.load(tmp_path / "net"),
                  net.astype("float32")):
        assert same_bits(other.predict(X), net.predict(X))


@pytest.mark.parametrize("W", [np.ones(5), np.ones((3, 4)), "W", None, [[1], [2, 3]]])
def test_weights_that_do_not_fit_a_layer(W):
    layer = fb.Dense(4, 3)
    layer.W = W
    with pytest.raises((TypeError, ValueError), match=r"layers: layer 0 .*: W: expected"):
        fb.Sequential([layer])


# Columns of pandas that NumPy takes for objects


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
@pytest.mark.parametrize(("loss", "target"), [
    (fb.SoftmaxCrossEntropy(), "b"), (fb.MeanSquaredError(), "d"), (fb.SigmoidCrossEntropy(), "c"),
    (fb.MeanSquaredError(), ["a", "d"])], ids=["classes", "number", "bool", "two columns"])
def test_columns_of_extension_types(loss, target, backend, rng):
    pd = pytest.importorskip("pandas")
    if backend == "pyarrow":
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": rng.normal(size=50).astype("f4"), "b": np.arange(50) % 3,
                          "c": rng.random(50) > 0.5, "d": rng.normal(size=50)})
    own, weights = frame.convert_dtypes(dtype_backend=backend), pd.Series(rng.random(50) + 0.1)
    own_weights = weights.convert_dtypes(dtype_backend=backend)
    assert all(dtype.kind in "fib" and not isinstance(dtype, np.dtype) for dtype in own.dtypes)

    def trained(X, y, w):
        net = fb.mlp([4, 3, {"b": 3}.get(target, 1) if isinstance(target, str) else 2], seed=0)
        net.fit(X, y, loss=loss, epochs=2, seed=0, sample_weight=w, validation_data=(X, y, w),
                verbose=0)
        return net, net.evaluate(X, y, loss=loss, sample_weight=w)

    net, scores = trained(own, own[target], own_weights)
    expected, expected_scores = trained(frame.to_numpy("f8"), frame[target].to_numpy(),
                                        weights.to_numpy())
    assert same_bits(net.parameters, expected.parameters)
    assert scores == expected_scores
    assert same_bits(net.predict(own), expected.predict(frame.to_numpy("f8")))
    own.loc[3, "b"] = pd.NA
    with pytest.raises(ValueError, match=r"^X: expected finite numbers, got nan in row 3, col"):
        trained(own, frame[target], own_weights)


class Wide(fb.Layer):
    """One whose parameter is initialized to something else than it said."""

    def __init__(self, n, values):
        super().__init__(n, n, s=(n,))
        self.n, self.values = n, values

    def initialize(self, rng):
        self.s = self.values

    def forward(self, X, training=True):
        return X * self.s


@pytest.mark.parametrize("values", [np.ones(9), np.ones((8, 1)), np.array("abc"), 1j, None],
                         ids=str)
def test_a_new_layer_that_is_initialized_to_another_shape_changes_nothing(values):
    net = fb.mlp([4, 8, 3], seed=0)
    before, Z = net.layers, net.predict(np.ones((2, 4)))
    with pytest.raises((TypeError, ValueError), match=r"(?s)layers: layer 2 .*s: expected"):
        net.layers = [*net.layers[:-1], Wide(8, values), fb.Dense(8, 3)]
    assert net.layers is before
    assert same_bits(net.predict(np.ones((2, 4))), Z)
    net.layers[0].W = 0
    assert not net.parameters[:32].any()


def test_weights_beyond_the_networks_dtype_are_infinite_without_a_warning():
    big = fb.mlp([4, 8, 3], dtype="float64", seed=0)
    big.layers[-1].W = 1e300
    net = fb.mlp([4, 8, 3], seed=0)
    net.layers = [*net.layers[:-1], copy.deepcopy(big.layers[-1])]
    assert np.isinf(net.layers[-1].W).all()


@dataclasses.dataclass
class Equal(fb.Layer):
    """All of one size are equal to each other."""

    n: int

    def __post_init__(self):
        super().__init__(self.n, self.n, s=(self.n,))

    def initialize(self, rng):
        self.s = 1.0

    def forward(self, X, training=True):
        return X * self.s


def test_layers_are_told_apart_by_what_they_are():
    first = fb.Sequential([fb.Dense(4, 4), Equal(4)], seed=0)
    first.layers[1].s = 7
    net = fb.Sequential([copy.deepcopy(first.layers[1]), Equal(4)], seed=0)
    assert (net.layers[0].s == 7).all() and (net.layers[1].s == 1).all()
    old, new = net.layers[1], Equal(4)
    net.layers = [net.layers[0], new]
    assert net.layers[1] is new and new.bound and not old.bound
    net.layers = [net.layers[0], old, new]
    assert (net.layers[0].s == 7).all()


def test_sizes_may_be_set_to_what_they_are():
    class Own(fb.Layer):
        def __init__(self, n):
            super().__init__(n, n)
            self.n_in = self.n_out = n

    class Network(fb.Sequential):
        def __init__(self):
            super().__init__([fb.Dense(4, 3)])
            self.n_out = 3

    assert (Own(4).n_in, Network().n_out) == (4, 3)
    with pytest.raises(AttributeError, match=r"Network\.n_out is read-only"):
        Network().n_out = 4


def test_what_forward_and_backward_return_may_be_written_to():
    net, X = fb.Sequential([Odd(lambda X: X, lambda dZ: dZ)]), np.ones((2, 3), "f4")
    Z = net.forward(X)
    dX = net.backward(X)
    Z += 1
    dX += 1
    assert (X == 1).all()


def test_layers_that_are_assigned_while_predicting():
    """A call goes through the layers it began with."""
    class Meddles(fb.Layer):
        def forward(self, X, training=True):
            if self.network is not None:
                network, self.network = self.network, None
                network.layers = [fb.Dense(4, 1)]
            return X.copy()

    net = fb.Sequential([fb.Dense(4, 3), Meddles()], seed=0)
    X = np.random.default_rng(0).normal(size=(3000, 4)).astype("f4")
    net.layers[1].network = None
    expected = net.predict(X)
    net.layers[1].network = net
    assert same_bits(net.predict(X), expected)
    assert net.predict(X).shape == (3000, 1)


def test_threads_predict_while_layers_are_assigned():
    net, X = fb.mlp([4, 8, 3], seed=0), np.ones((5, 4), "f4")
    stop = False

    def predict():
        shapes = set()
        while not stop:
            shapes.add(net.predict(X).shape)
        return shapes

    with ThreadPoolExecutor(2) as pool:
        found = [pool.submit(predict) for _ in range(2)]
        for i in range(300):
            net.layers = [*net.layers[:-1], fb.Dense(8, 2 + i % 3)]
        stop = True
    assert all(each.result() <= {(5, n) for n in (2, 3, 4)} for each in found)


# The program as text


def test_the_program_says_what_runs_and_where(dtype):
    net = fb.Sequential([fb.Dense(4, 6), fb.ReLU(), Same(), fb.Dense(6, 3)], dtype, seed=0)

    class Mine(fb.Adam):
        pass

    class MyLoss(fb.SoftmaxCrossEntropy):
        pass

    text = net.program(batch_size=32, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(0.1, 0.9))
    lines = text.splitlines()
    assert [line for line in lines if line.isupper()] == [
        "GATHER", "FORWARD", "LOSS", "BACKWARD", "REDUCE", "UPDATE", "RECORD"]
    assert "relu(dense(X, 0.W, 0.b))" in text  # fused
    assert [line.split("(")[0].split()[-1] for line in lines if line.endswith("# in Python")] == [
        "python", "python_backward"]
    own = net.program(loss=MyLoss(), optimizer=Mine()).splitlines()
    assert sum(line.endswith("# in Python") for line in own) == 5  # loss, update and metric too
    predicting = net.program().splitlines()
    assert [line for line in predicting if line.isupper()] == ["FORWARD"]


@pytest.mark.parametrize(("options", "error"), [
    ({"loss": fb.SoftmaxCrossEntropy}, TypeError), ({"optimizer": "adam"}, TypeError),
    ({"batch_size": 0}, ValueError),
])
def test_what_a_program_cannot_be_of(options, error):
    with pytest.raises(error, match="expected"):
        fb.mlp([3, 2]).program(**options)
    with pytest.raises(ValueError, match=r"^layers: expected one that says"):
        fb.Sequential([fb.ReLU()]).program()
