"""A network whose layers are assigned anew."""

import copy
import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import fastbp as fb

from .networks import same_bits


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
