"""The compiled way through a network for prediction: the layers' bits, row by row."""

import copy
import itertools
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import kernels
from fastbp.kernels import dispatch, ops

from ..cases import each

ACTIVATIONS = list(fb.layers.ACTIVATIONS.values())


def by_layers(net, X):
    """What the layers' own methods return."""
    X = np.ascontiguousarray(X, net.dtype)
    for layer in net.layers:
        X = layer.forward(X, training=False)
    return X


@settings(max_examples=60)
@given(
    sizes=st.lists(st.sampled_from([1, 3, 17, 60, 300]), min_size=2, max_size=4),
    kinds=st.lists(st.sampled_from([*ACTIVATIONS, lambda: fb.Dropout(0.5)]), max_size=5),
    rows=st.sampled_from([0, 1, 2, 7, 257]),
    dtype=st.sampled_from(["float32", "float64"]),
    first=st.booleans(),
)
def test_the_layers_bits(sizes, kinds, rows, dtype, first):
    stack = [kinds[0]()] if first and kinds else []
    for n_in, n_out in itertools.pairwise(sizes):
        stack += [fb.Dense(n_in, n_out), *(kind() for kind in kinds)]
    net = fb.Sequential(stack, dtype=dtype, seed=0)
    X = np.random.default_rng(0).normal(size=(rows, sizes[0])).astype(dtype)
    used = dispatch.isa()
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            expected = by_layers(net, X)
            predictor = net.programs.executor(net.n_in)
            assert predictor(X).tobytes() == expected.tobytes()
            assert net.predict(X).tobytes() == expected.tobytes()
            out = np.full((rows, sizes[-1]), np.nan, dtype)
            assert net.predict(X, out=out) is out
            assert out.tobytes() == expected.tobytes()
    finally:
        dispatch.use(used)


ENDS = {"softmax": kernels.softmax, "sigmoid": kernels.sigmoid, "exp": kernels.exp}


@settings(max_examples=40)
@given(
    sizes=st.lists(st.sampled_from([1, 3, 17, 60]), min_size=2, max_size=3),
    last=st.sampled_from([None, *ACTIVATIONS, lambda: fb.Dropout(0.5)]),
    rows=st.sampled_from([0, 1, 7, 257, 600]),
    dtype=st.sampled_from(["float32", "float64"]),
    end=st.sampled_from(sorted(ENDS)),
)
def test_the_bits_of_what_is_made_of_the_outputs(sizes, last, rows, dtype, end):
    stack = [fb.Dense(n_in, n_out) for n_in, n_out in itertools.pairwise(sizes)]
    net = fb.Sequential([*stack, *([last()] if last else [])], dtype=dtype, seed=0)
    X = np.random.default_rng(0).normal(size=(rows, sizes[0])).astype(dtype)
    used = dispatch.isa()
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            Z = by_layers(net, X)
            expected = ENDS[end](Z) if rows else Z
            predictor = net.programs.executor(net.n_in, end)
            assert predictor(X).tobytes() == expected.tobytes()
            out = np.full(expected.shape, np.nan, dtype)
            assert predictor(X, out) is out
            assert out.tobytes() == expected.tobytes()
    finally:
        dispatch.use(used)


class TestWhatItTakes:
    net = fb.mlp([3, 4, 2], seed=0)
    predictor = net.programs.executor(3)
    X = np.arange(12, dtype="f4").reshape(4, 3)

    @each("X", [
        X.astype("f8"), X.astype(">f4"), X.astype(int), X.T, X[:, ::-1], X[::2], X[0], X[:, :2],
        X.tolist(), None, X[None], np.ma.array(X), np.frombuffer(bytes(49), "u1")[1:].view("f4"),
    ])
    def test_others_are_left_to_the_layers(self, X):
        assert self.predictor(X) is None

    @each("out", [
        np.zeros((4, 2)), np.zeros((3, 2), "f4"), np.zeros((4, 3), "f4"), [0] * 8,
        np.zeros((2, 4), "f4").T, X.reshape(-1)[:8].reshape(4, 2), X.reshape(6, 2)[2:],
        np.frombuffer(bytes(32), "f4").reshape(4, 2),
    ])
    def test_so_are_arrays_it_cannot_write_to(self, out):
        assert self.predictor(self.X, out) is None
        with pytest.raises((TypeError, ValueError), match="out"):
            self.net.predict(self.X, out=out)

    def test_neighbours_in_memory_are_apart(self):
        memory = np.zeros(20, "f4")
        memory[:12] = self.X.reshape(-1)
        X, out = memory[:12].reshape(4, 3), memory[12:].reshape(4, 2)
        assert self.predictor(X, out) is out
        assert out.tobytes() == by_layers(self.net, self.X).tobytes()


class TestUpToDate:
    X = np.random.default_rng(0).normal(size=(5, 3)).astype("f4")

    def check(self, net):
        assert net.predict(self.X).tobytes() == by_layers(net, self.X).tobytes()

    def test_after_weights_change(self):
        net = fb.mlp([3, 8, 2], seed=0)
        self.check(net)
        net.layers[0].W *= 2
        self.check(net)
        net.parameters[:] = 0.5
        self.check(net)
        net.fit(self.X, np.arange(5) % 2, loss=fb.SoftmaxCrossEntropy(), epochs=2)
        self.check(net)

    @pytest.mark.parametrize("kind", [fb.LeakyReLU, fb.ELU])
    def test_after_a_setting_changes(self, kind):
        net = fb.Sequential([fb.Dense(3, 4), kind()], seed=0)
        before = net.predict(self.X)
        net.layers[1].alpha = 0.7
        self.check(net)
        assert (net.predict(self.X) != before).any()

    @each("copied", [copy.copy, copy.deepcopy,
                     lambda net: pickle.loads(pickle.dumps(net)),
                     lambda net: net.astype("float32")])
    def test_in_a_copy(self, copied):
        net = fb.mlp([3, 8, 2], seed=0)
        expected = net.predict(self.X)
        other = copied(net)
        net.parameters[:] = 0
        assert other.predict(self.X).tobytes() == expected.tobytes()
        other.parameters[:] = 0
        assert not other.predict(self.X).any()

    def test_a_layer_of_ones_own_is_called(self):
        class Twice(fb.ReLU):
            def forward(self, X, training=True):
                return 2 * X

        net = fb.Sequential([fb.Dense(3, 4), Twice()], seed=0)
        self.check(net)

    def test_a_bare_layer_says_what_it_lacks(self):
        net = fb.Sequential([fb.Dense(3, 4), fb.Layer()])
        with pytest.raises(NotImplementedError, match="forward"):
            net.predict(self.X)


@pytest.mark.once  # of the sources
def test_every_operation_has_a_branch():
    """What has none would do nothing, without an error."""
    source = Path(__file__).parents[2].joinpath("fastbp", "kernels", "instructions.pyx").read_text()
    branches = set(re.findall(r"\bop == FBP_OP_(\w+)", source))
    declared = {name for name in ops.OPS
                if name not in ops.FUNCTIONS and name.removesuffix("_backward") not in
                ops.ACTIVATIONS}
    assert declared == branches
