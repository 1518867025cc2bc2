"""Layers: the formulas of docs/formulas.md, what is kept for backward, and parameters as views."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb

from .cases import each

ln2, ln3 = math.log(2), math.log(3)
erf = np.vectorize(math.erf, otypes=[float])


def sigma(z):
    return 1 / (1 + np.exp(-z))


def Phi(z):
    return (1 + erf(z / math.sqrt(2))) / 2


def phi(z):
    return np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def tanh_softplus(z):
    return np.tanh(np.log(1 + np.exp(z)))


SELU = 1.0507009873554805, 1.6732632423543772

# Layer, A from Z, and dA/dZ, as the table of docs/formulas.md has them.
FORMULAS = {
    "ReLU": (fb.ReLU, lambda z: np.maximum(z, 0), lambda z: 1.0 * (z > 0)),
    "LeakyReLU": (
        partial(fb.LeakyReLU, 0.2),
        lambda z: np.where(z > 0, z, 0.2 * z),
        lambda z: np.where(z > 0, 1, 0.2),
    ),
    "Sigmoid": (fb.Sigmoid, sigma, lambda z: sigma(z) * (1 - sigma(z))),
    "Tanh": (fb.Tanh, np.tanh, lambda z: 1 - np.tanh(z) ** 2),
    "ELU": (
        partial(fb.ELU, 1.5),
        lambda z: np.where(z > 0, z, 1.5 * (np.exp(z) - 1)),
        lambda z: np.where(z > 0, 1, 1.5 * np.exp(z)),
    ),
    "GELU": (fb.GELU, lambda z: z * Phi(z), lambda z: Phi(z) + z * phi(z)),
    "Mish": (fb.Mish, lambda z: z * tanh_softplus(z),
             lambda z: tanh_softplus(z) + z * sigma(z) * (1 - tanh_softplus(z) ** 2)),
    "SELU": (fb.SELU, lambda z: SELU[0] * np.where(z > 0, z, SELU[1] * (np.exp(z) - 1)),
             lambda z: SELU[0] * np.where(z > 0, 1, SELU[1] * np.exp(z))),
    "SiLU": (fb.SiLU, lambda z: z * sigma(z), lambda z: sigma(z) * (1 + z * sigma(-z))),
}
ACTIVATIONS = [make for make, _, _ in FORMULAS.values()]


def tolerance(dtype):
    return {"rtol": 64 * np.finfo(dtype).eps, "atol": 8 * np.finfo(dtype).eps}


# Dense


def test_dense_on_numbers_worked_by_hand(dtype):
    net = fb.Sequential([fb.Dense(2, 3)], dtype=dtype)
    dense = net.layers[0]
    dense.W = [[1, 0, -1], [2, 1, 0.5]]
    dense.b = [0.5, 0, -1]
    Z = net.forward([[1, 2], [3, -1]])
    assert Z.dtype == dtype
    assert Z.tolist() == [[5.5, 2, -1], [1.5, -1, -4.5]]
    dX = net.backward(np.array([[1, 0, 2], [-1, 3, 0]], dtype))
    assert dense.dW.tolist() == [[-2, 9, 2], [3, -3, 4]]
    assert dense.db.tolist() == [0, 3, 2]
    assert dX.tolist() == [[-1, 3], [-1, 1]]


@given(
    m=st.integers(1, 9), n_in=st.integers(1, 9), n_out=st.integers(1, 9), seed=st.integers(0, 99)
)
def test_dense_of_any_shape(dtype, m, n_in, n_out, seed):
    rng = np.random.default_rng(seed)
    net = fb.Sequential([fb.Dense(n_in, n_out)], dtype=dtype, seed=seed)
    dense = net.layers[0]
    dense.b = rng.normal(size=n_out)
    X = rng.normal(size=(m, n_in)).astype(dtype)
    dZ = rng.normal(size=(m, n_out)).astype(dtype)
    Z, dX = net.forward(X), net.backward(dZ)
    X, dZ, W, b = (array.astype(float) for array in (X, dZ, dense.W, dense.b))
    close = {"rtol": 0, "atol": 300 * np.finfo(dtype).eps}
    np.testing.assert_allclose(Z, X @ W + b, **close)
    np.testing.assert_allclose(dense.dW, X.T @ dZ, **close)
    np.testing.assert_allclose(dense.db, dZ.sum(axis=0), **close)
    np.testing.assert_allclose(dX, dZ @ W.T, **close)


def test_the_first_layers_gradients_do_not_need_dX(rng):
    net = fb.mlp([3, 4, 2], seed=0)
    dZ = rng.normal(size=(5, 2)).astype("f4")
    net.forward(rng.normal(size=(5, 3)))
    assert net.backward(dZ).shape == (5, 3)
    gradients = net.gradients.copy()
    net.gradients[:] = np.nan
    assert net.backward(dZ, input_gradient=False) is None
    assert net.gradients.tobytes() == gradients.tobytes()


# Activations


@each(
    ("layer", "z", "a", "slope"),
    [
        (fb.ReLU(), -1.5, 0, 0),
        (fb.ReLU(), 0, 0, 0),
        (fb.ReLU(), 2.5, 2.5, 1),
        (fb.LeakyReLU(), -2, -0.02, 0.01),
        (fb.LeakyReLU(0.25), 0, 0, 0.25),
        (fb.LeakyReLU(0.25), 3, 3, 1),
        (fb.Sigmoid(), 0, 1 / 2, 1 / 4),
        (fb.Sigmoid(), ln3, 3 / 4, 3 / 16),
        (fb.Tanh(), 0, 0, 1),
        (fb.Tanh(), -ln2, -3 / 5, 16 / 25),
        (fb.ELU(), 1.5, 1.5, 1),
        (fb.ELU(), -ln2, -1 / 2, 1 / 2),
        (fb.ELU(2), 0, 0, 2),
        (fb.GELU(), 0, 0, 1 / 2),
        (fb.GELU(), 1, 0.8413447460685429, 1.0833154705876863),
        (fb.GELU(), -1, -0.15865525393145707, -0.0833154705876863),
        (fb.SiLU(), 0, 0, 1 / 2),
        (fb.SiLU(), ln3, 3 / 4 * ln3, 3 / 4 * (1 + ln3 / 4)),
        (fb.SiLU(), -ln3, -ln3 / 4, 1 / 4 * (1 - ln3 * 3 / 4)),
    ],
    ids=repr,
)
def test_activations_on_numbers_worked_by_hand(dtype, layer, z, a, slope):
    A = layer.forward(np.array([[z]], dtype))
    dZ = layer.backward(np.array([[2]], dtype))
    assert A.dtype == dZ.dtype == dtype
    np.testing.assert_allclose([A[0, 0], dZ[0, 0]], [a, 2 * slope], **tolerance(dtype))


@pytest.mark.parametrize("name", FORMULAS)
def test_activations_follow_their_formulas(dtype, name, rng):
    make, function, slope = FORMULAS[name]
    layer = make()
    Z = np.r_[0, -0.0, rng.normal(scale=3, size=198)].reshape(20, 10).astype(dtype)
    dA = rng.normal(size=Z.shape).astype(dtype)
    A, dZ = layer.forward(Z), layer.backward(dA)
    np.testing.assert_allclose(A, function(Z.astype(float)), **tolerance(dtype))
    np.testing.assert_allclose(dZ, dA * slope(Z.astype(float)), **tolerance(dtype))


@each("make", ACTIVATIONS, ids=FORMULAS)
def test_activations_are_stable_far_out_and_let_nan_through(dtype, make):
    layer = make()
    A = layer.forward(np.array([[1e4, -1e4, np.nan]], dtype))
    dZ = layer.backward(np.ones((1, 3), dtype))
    assert np.isfinite(A[0, :2]).all()
    assert np.isfinite(dZ[0, :2]).all()
    assert np.isnan(A[0, 2])
    assert np.isnan(dZ[0, 2]) or isinstance(layer, (fb.ReLU, fb.LeakyReLU, fb.ELU))


def test_the_gradient_of_relu_is_exactly_zero_up_to_zero(dtype):
    layer = fb.ReLU()
    layer.forward(np.array([[-1, -0.0, 0, np.finfo(dtype).tiny]], dtype))
    assert layer.backward(np.full((1, 4), 7, dtype)).tolist() == [[0, 0, 0, 7]]


# Dropout


def test_dropout_zeroes_a_share_and_scales_the_rest_up(dtype):
    layer = fb.Dropout(0.2)
    X = np.full((200, 100), 3, dtype)
    A = layer.forward(X)
    kept = A != 0
    np.testing.assert_allclose(A[kept], 3 / 0.8, **tolerance(dtype))
    assert abs(kept.mean() - 0.8) < 5 * math.sqrt(0.2 * 0.8 / X.size)
    assert abs(np.corrcoef(kept[:, :-1].ravel(), kept[:, 1:].ravel())[0, 1]) < 0.04


def test_dropout_goes_back_through_the_mask_it_went_forward_through(dtype):
    layer = fb.Dropout(0.5)
    X = np.ones((30, 20), dtype)
    first = layer.forward(X)
    assert layer.backward(5 * X).tolist() == (5 * first).tolist()
    second = layer.forward(X)
    assert (second != first).any(), "another step, another mask"
    assert layer.backward(X).tolist() == second.tolist()


def test_dropout_masks_depend_on_seed_and_place():
    X = np.ones((30, 20), "f4")

    def masks(seed):
        net = fb.Sequential([fb.Dropout(0.5), fb.Dropout(0.5)])
        net.reseed(seed)
        return [layer.forward(X).tolist() for layer in net.layers]

    assert masks(1) == masks(1)
    assert masks(1)[0] != masks(1)[1]
    assert masks(1)[0] != masks(2)[0]


def test_dropout_lets_predictions_and_rate_zero_through(dtype, rng):
    X = rng.normal(size=(4, 5)).astype(dtype)
    assert fb.Dropout(0.9).forward(X, training=False).tolist() == X.tolist()
    layer = fb.Dropout(0)
    assert layer.forward(X).tolist() == X.tolist()
    assert layer.backward(X).tolist() == X.tolist()


# What is kept


@each("make", [*ACTIVATIONS, partial(fb.Dense, 3, 3)])
def test_prediction_keeps_nothing_and_backward_says_what_it_needs(make):
    net = fb.Sequential([make()])
    net.forward(np.ones((2, 3)), training=False)
    assert net.layers[0].cache is None
    with pytest.raises(RuntimeError, match=r"Sequential.*forward\(X\)"):
        net.backward(np.ones((2, 3), "f4"))
    layer = net.layers[0]
    layer.forward(np.ones((2, 3), "f4"), training=False)
    assert layer.cache is None
    with pytest.raises(RuntimeError, match=rf"{type(layer).__name__}.*forward\(X\)"):
        layer.backward(np.ones((2, 3), "f4"))


# Parameters are views


def a_net():
    return fb.Sequential([fb.Dense(2, 3), fb.Tanh(), fb.Dense(3, 1)], seed=3)


def test_layers_are_views_into_the_flat_arrays():
    net = a_net()
    first, _, last = net.layers
    assert net.parameters.shape == net.gradients.shape == (2 * 3 + 3 + 3 + 1,)
    assert net.parameters.flags.c_contiguous
    parts = [first.W, first.b, last.W, last.b]
    assert np.concatenate([p.ravel() for p in parts]).tolist() == net.parameters.tolist()
    net.parameters[:] = np.arange(13)
    assert first.W.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert last.b.tolist() == [12]
    net.gradients[:] = -np.arange(13)
    assert first.dW.tolist() == [[0, -1, -2], [-3, -4, -5]]
    assert last.db.tolist() == [-12]


def test_assignments_write_into_the_flat_arrays():
    net = a_net()
    first = net.layers[0]
    first.W = np.arange(6).reshape(2, 3)
    first.b = 7
    first.W += 1
    first.W[1, 2] *= 2
    first.dW = 5
    first.db += 4
    assert net.parameters[:9].tolist() == [1, 2, 3, 4, 5, 12, 7, 7, 7]
    assert net.gradients[:9].tolist() == [5] * 6 + [4] * 3
    assert np.shares_memory(first.W, net.parameters)
    assert np.shares_memory(first.dW, net.gradients)


def test_an_assignment_of_the_wrong_shape_changes_nothing():
    net = a_net()
    before = net.parameters.copy()
    with pytest.raises(ValueError, match="shape"):
        net.layers[0].W = np.zeros((3, 2))
    assert net.parameters.tolist() == before.tolist()


def pickled(protocol):
    def through_pickle(value):
        return pickle.loads(pickle.dumps(value, protocol))

    through_pickle.__name__ = f"pickle {protocol}"
    return through_pickle


COPIES = [copy.copy, copy.deepcopy, *map(pickled, range(pickle.HIGHEST_PROTOCOL + 1))]
by_name = {"ids": lambda function: function.__name__}


@each("duplicate", COPIES, **by_name)
def test_a_copied_layer_has_weights_of_its_own_and_takes_them_along(duplicate):
    net = a_net()
    net.forward(np.ones((4, 2)))
    layer = net.layers[0]
    before = net.parameters.copy()
    clone = duplicate(layer)
    assert clone.cache is None
    assert clone.W.tolist() == layer.W.tolist()
    clone.W += 1
    assert net.parameters.tolist() == before.tolist(), "the copy shares the network's memory"
    other = fb.Sequential([clone, fb.ReLU(), fb.Dense(3, 2)], seed=9)
    assert other.parameters[:9].tolist() == [*(before[:6] + 1), *before[6:9]]
    assert np.shares_memory(other.layers[0].W, other.parameters)
    assert not np.shares_memory(other.parameters, net.parameters)


# Layers of one's own


class Affine(fb.Layer):
    """Z = s ⊙ X + t."""

    def __init__(self, n):
        super().__init__(n, s=(n,), t=(n,))
        self.n = n

    def initialize(self, rng):
        self.s = rng.normal(size=self.n)
        self.t = 0

    def forward(self, X, training=True):
        self.cache = X
        return X * self.s + self.t

    def backward(self, dZ):
        self.ds = (dZ * self.cache).sum(axis=0)
        self.dt = dZ.sum(axis=0)
        return dZ * self.s


def test_a_layer_of_ones_own_gets_views_and_trains(dtype):
    net = fb.Sequential([fb.Dense(2, 3), Affine(3), fb.ReLU(), fb.Dense(3, 1)], dtype, seed=0)
    own = net.layers[1]
    assert (own.n_in, own.n_out, own.n_parameters) == (3, 3, 6)
    assert own.s.dtype == own.dt.dtype == dtype
    assert net.parameters[9:15].tolist() == [*own.s, 0, 0, 0]
    net.forward(np.ones((2, 2)))
    net.backward(np.ones((2, 1), dtype), input_gradient=False)
    assert net.gradients[9:15].tolist() == [*own.ds, *own.dt]
    X = np.random.default_rng(0).normal(size=(64, 2))
    sgd = fb.SGD(0.05)
    history = net.fit(X, X[:, 0], loss=fb.MeanSquaredError(), optimizer=sgd, epochs=30, seed=0)
    assert history["loss"][-1] < history["loss"][0] / 4
    assert repr(own) == "Affine(n=3)"


def test_what_a_layer_of_ones_own_must_define():
    class Bare(fb.Layer):
        pass

    class Forgetful(fb.Layer):
        def __init__(self):
            super().__init__(2, s=(2,))

    with pytest.raises(NotImplementedError, match="Bare needs a method forward"):
        fb.Sequential([Bare()]).forward(np.ones((1, 2)))
    with pytest.raises(NotImplementedError, match="Bare needs a method backward"):
        Bare().backward(np.ones((1, 2), "f4"))
    with pytest.raises(NotImplementedError, match=r"Forgetful .* initialize"):
        fb.Sequential([Forgetful()])
    with pytest.raises(ValueError, match="n_in"):
        fb.Layer(n_out=3)


# Bad input


@each(
    ("make", "error", "message"),
    [
        (lambda: fb.Dense(0, 2), ValueError, "n_in: .*at least 1, got 0"),
        (lambda: fb.Dense(2, -1), ValueError, "n_out: .*at least 1, got -1"),
        (lambda: fb.Dense(2.5, 2), TypeError, "n_in: .*whole number, got 2.5"),
        (lambda: fb.Dense(2, "3"), TypeError, "n_out: .*whole number, got '3'"),
        (lambda: fb.Dense(True, 2), ValueError, "n_in: .*got True"),
        (lambda: fb.Dense(2, 2, init="xavier"), ValueError, "init: .*he_uniform.*'xavier'"),
        (lambda: fb.Dense(2, 2, init=3), TypeError, "init: .*callable.*got 3"),
        (lambda: fb.Dropout(1), ValueError, "rate: .*below 1, got 1"),
        (lambda: fb.Dropout(-0.1), ValueError, "rate: .*at least 0.*got -0.1"),
        (lambda: fb.Dropout(math.nan), ValueError, "rate: .*got nan"),
        (lambda: fb.Dropout("half"), TypeError, "rate: .*number, got 'half'"),
        (lambda: fb.LeakyReLU(math.inf), ValueError, "alpha: .*finite.*got inf"),
        (lambda: fb.ELU(None), TypeError, "alpha: .*number, got None"),
        (lambda: fb.ELU(10**400), ValueError, "alpha: .*finite"),
    ],
)
def test_a_bad_argument_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_whose_constructor_forgets_the_base_class():
    class Forgetful(fb.Layer):
        def __init__(self):
            pass

    with pytest.raises(TypeError, match=r"layer 1 \(Forgetful\).*super\(\).__init__"):
        fb.Sequential([fb.ReLU(), Forgetful()])


def test_a_layer_whose_backward_returns_nothing():
    class Silent(fb.ReLU):
        def backward(self, dZ):
            super().backward(dZ)

    net = fb.Sequential([fb.Dense(2, 2), Silent()])
    with pytest.raises(TypeError, match=r"layer 1 \(Silent\(\)\): backward returned None"):
        net.backward(net.forward(np.ones((3, 2))))


def test_dropout_draws_anew_with_each_forward_and_goes_back_through_the_same():
    net = fb.Sequential([fb.Dropout(0.5)], seed=0)
    X = np.ones((20, 20), "f4")
    first, second = net.forward(X), net.forward(X)
    assert (first != second).any()
    assert np.array_equal(net.backward(X), second)
    assert np.array_equal(net.backward(X), second)


def test_a_parameter_named_like_a_gradient():
    with pytest.raises(ValueError, match="dW beside W"):
        fb.Layer(1, 1, W=(1,), dW=(1,))


@each("name", ["forward", "backward", "config", "cache", "key", "step",
               "parameter_shapes", "bound", "own", "validators"])
def test_a_parameter_named_like_what_a_layer_has(name):
    class Own(fb.Layer):
        def own(self):
            pass

    with pytest.raises(ValueError, match=f"parameter_shapes: expected .* free .*{name}"):
        Own(1, 1, **{name: (1,)})


@each("name", ["key", "step"])
@each("value", [-1, 0.5, "a", None, 2**70])
def test_dropouts_counters_are_checked_when_they_are_set(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^{name}: expected"):
        setattr(fb.Dropout(0.5), name, value)


@pytest.mark.parametrize("method", ["clear", "allocate"])
def test_what_a_layer_in_a_network_cannot_do(method):
    net = fb.mlp([2, 2], seed=0)
    with pytest.raises(RuntimeError, match=f"Dense.{method}: expected a layer that is in no"):
        getattr(net.layers[0], method)(*["f4"] * (method == "allocate"))
    with pytest.raises(AttributeError, match="W cannot be deleted"):
        del net.layers[0].W


def test_activations_of_ones_own_with_other_arguments():
    class Named(fb.ReLU):
        def __init__(self, label):
            super().__init__()
            self.label = label

    class Steep(fb.ELU):
        def __init__(self):
            super().__init__(3.0)

    Z = np.array([[-1.0, 2.0]])
    assert Named("a").forward(Z).tolist() == [[0, 2]]
    np.testing.assert_allclose(Steep().forward(Z), [[3 * math.expm1(-1), 2]])
    assert fb.gradcheck(fb.Sequential([Steep(), fb.Dense(2, 1)], seed=0), Z, [0.0],
                        loss=fb.MeanSquaredError()).error < 1e-6


@each("W", [np.ones(2), np.ones((3, 2)), "W", None, 1j,
            np.ma.array(np.ones((2, 2)), mask=[[True, False]] * 2)])
def test_what_cannot_be_assigned_to_a_parameter(W):
    net = fb.mlp([2, 3], seed=0)
    before = net.parameters.copy()
    with pytest.raises((TypeError, ValueError), match=r"^W: expected"):
        net.layers[0].W = W
    assert net.parameters.tobytes() == before.tobytes()
