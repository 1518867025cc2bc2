"""Programs are shared by networks whose layers compute the same, and by no others."""

import copy
import pickle

import numpy as np
import pytest

import fastbp as fb
from fastbp.program import cache


@pytest.fixture
def X(rng):
    return rng.normal(size=(5, 4)).astype("f4")


@pytest.fixture(autouse=True)
def _empty(monkeypatch):
    monkeypatch.setattr(cache, "ENCODED", {})


def network(layer):
    return fb.Sequential([fb.Dense(4, 3), layer], seed=0)


def test_equal_networks_share_a_program(X):
    for _ in range(3):
        fb.mlp([4, 8, 3], seed=0).predict(X)
    assert len(cache.ENCODED) == 1


@pytest.mark.parametrize(("one", "other"), [
    (fb.LeakyReLU(0.0), fb.LeakyReLU(-0.0)), (fb.LeakyReLU(0.1), fb.LeakyReLU(0.2)),
    (fb.ReLU(), fb.Tanh()),
])
def test_others_do_not(one, other, X):
    for layer in (one, other):
        net = network(layer)
        np.testing.assert_array_equal(net.predict(X), net.forward(X))
    assert len(cache.ENCODED) == 2


def test_an_instances_own_lower_is_its_own(X):
    net, plain = network(fb.ReLU()), network(fb.ReLU())
    net.layers[1].lower = lambda builder, x: builder.op("tanh", x)
    np.testing.assert_array_equal(net.predict(X), np.float32(fb.kernels.tanh(
        fb.kernels.dense_forward(X, net.layers[0].W, net.layers[0].b))))
    assert plain.predict(X).min() == 0


def test_layers_that_run_in_python_or_draw_are_not_shared(X):
    class Own(fb.Layer):
        def forward(self, X, training=True):
            return 2 * X

        def backward(self, dZ):
            return 2 * dZ

    for layer in (Own(), Own(), fb.Dropout(0.5)):
        network(layer).programs.training(4, 16)
    assert not cache.ENCODED


def test_caches_are_emptied_when_they_are_full(monkeypatch, rng):
    monkeypatch.setattr(cache, "MOST_KEPT", 4)
    net = fb.Sequential([fb.ReLU()])  # takes any number of columns
    for n in range(1, 20):
        X = rng.normal(size=(2, n)).astype("f4")
        np.testing.assert_array_equal(net.predict(X), np.maximum(X, 0))
    assert len(cache.ENCODED) <= 4


class Twice(fb.layers.Container):
    """A layer, and then a leaky ReLU of its own."""

    def __init__(self, layer, slope):
        super().__init__(layer.n_in, layer.n_out)
        self.layer, self.slope = layer, slope

    @property
    def children(self):
        return [("layer", self.layer)]

    def lower(self, builder, x):
        x = builder.layer("layer", self.layer, x)
        return builder.op("leaky_relu", x, alpha=self.slope)


class TestSettings:
    """A setting that changes is heeded by the next prediction."""

    def test_of_containers(self, X):
        net = fb.Sequential([Twice(fb.Dense(4, 3), 0.1)], seed=0)
        before = net.predict(X)
        net.layers[0].slope = 1.0
        np.testing.assert_array_equal(net.predict(X), net.forward(X))
        assert (net.predict(X) != before).any()

    def test_of_containers_in_a_fit(self, X):
        def ends_with(set_slope):
            net = fb.Sequential([Twice(fb.Dense(4, 1), 0.1)], seed=0)
            net.fit(X, X[:, 0], loss=fb.MeanSquaredError(), optimizer=fb.SGD(0.1), epochs=2,
                    seed=0, callbacks=[lambda run: set_slope(run.network.layers[0])])
            return net.parameters.copy()

        same = ends_with(lambda layer: None)
        assert (ends_with(lambda layer: setattr(layer, "slope", 0.9)) != same).any()

    def test_that_are_deleted(self, X):
        class Leaky(fb.Layer):
            slope = 1.0

            def lower(self, builder, x):
                return builder.op("leaky_relu", x, alpha=self.slope)

        net = network(Leaky())
        net.layers[1].slope = 0.0
        assert net.predict(X).min() == 0
        del net.layers[1].slope
        assert net.predict(X).min() < 0

    def test_a_container_that_left_is_free(self, X):
        container = Twice(fb.Dense(4, 3), 0.1)
        net = fb.Sequential([container], seed=0)
        net.layers = [fb.Dense(4, 2)]
        other = fb.Sequential([container])
        container.slope = 0.5
        np.testing.assert_array_equal(other.predict(X), other.forward(X))


def test_layers_with_a_getstate_of_their_own(X):
    class Plain(fb.ReLU):
        def __getstate__(self):
            return dict(self.__dict__)

    globals()["Plain"] = Plain
    Plain.__qualname__ = "Plain"
    net = network(Plain())
    net.predict(X)
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_dropout_layers_that_are_equal_draw_on_their_own(X):
    class Equal(fb.Dropout):
        __hash__ = None

        def __eq__(self, other):
            return isinstance(other, Equal)

    net = fb.Sequential([Equal(0.5), fb.Dense(4, 4), Equal(0.5)], seed=0)
    net.fit(X, X, loss=fb.MeanSquaredError(), epochs=2, seed=0)
    assert [net.layers[i].step for i in (0, 2)] == [2, 2]
