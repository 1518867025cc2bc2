"""Copies, pickles, other dtypes, and seeds."""

import copy
import pickle

import numpy as np
import pytest

import fastbp as fb

from .networks import a_net, same_bits


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
