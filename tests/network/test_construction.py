"""Sequential and mlp: what they make of layers and sizes, and what they refuse."""

import gc
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb
from fastbp.kernels import ops

from ..cases import each
from .networks import Same

SOME_ROWS = np.zeros((3, 4), "f4")


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


@each(
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


@each("dtype", ["float16", int, "complex64", "nonsense", None, "O", [1, 2]])
def test_bad_dtype(dtype):
    with pytest.raises(ValueError, match=r'^dtype: expected "float32" or "float64", got '):
        fb.Sequential([fb.Dense(2, 2)], dtype=dtype)


@each("dtype", ["float32", "f4", np.float32, np.dtype("f4")])
def test_ways_to_say_float32(dtype):
    assert fb.Sequential([fb.Dense(2, 2)], dtype).parameters.dtype == np.float32


@each(
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


@each("use", [
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


@each("W", [np.ones(5), np.ones((3, 4)), "W", None, [[1], [2, 3]]])
def test_weights_that_do_not_fit_a_layer(W):
    layer = fb.Dense(4, 3)
    layer.W = W
    with pytest.raises((TypeError, ValueError), match=r"layers: layer 0 .*: W: expected"):
        fb.Sequential([layer])


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


# mlp


def kinds(net):
    return [type(layer).__name__ for layer in net.layers]


@each("activation", ops.ACTIVATIONS)
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


@each(
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
)
def test_mlp_bad_arguments(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fb.mlp(*arguments)


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


@pytest.mark.parametrize(("batch_size", "optimizer", "n_fused"), [
    (4, fb.Adam(), 2), (None, fb.Adam(), 0), (500, fb.Adam(), 0), (4, fb.Adam(clip_norm=1), 0),
])
def test_the_program_says_what_is_fused_with_the_update(batch_size, optimizer, n_fused):
    lines = fb.mlp([40, 60, 3]).program(batch_size=batch_size, loss=fb.SoftmaxCrossEntropy(),
                                        optimizer=optimizer).splitlines()
    update = lines[lines.index("UPDATE") :]
    assert sum("dense_backward_weights" in line for line in update) == n_fused
    assert sum("dense_backward_weights" in line for line in lines) == 2
    assert ("    bound on the gradients" in lines) == (n_fused > 0)


@pytest.mark.parametrize(("options", "error"), [
    ({"loss": fb.SoftmaxCrossEntropy}, TypeError), ({"optimizer": "adam"}, TypeError),
    ({"batch_size": 0}, ValueError),
])
def test_what_a_program_cannot_be_of(options, error):
    with pytest.raises(error, match="expected"):
        fb.mlp([3, 2]).program(**options)
    with pytest.raises(ValueError, match=r"^layers: expected one that says"):
        fb.Sequential([fb.ReLU()]).program()
