"""Every gradient, against central differences, float64, and automatic differentiation."""

import itertools
from functools import partial

import autograd
import autograd.numpy as anp
import numpy as np
import pytest
from autograd.scipy.special import logsumexp
from autograd.scipy.stats import norm

import fastbp as fb

from .cases import each

pytestmark = pytest.mark.once

LAYERS = {
    "Dense": partial(fb.Dense, 4, 4), "Dropout": partial(fb.Dropout, 0.3), "ReLU": fb.ReLU,
    "LeakyReLU": partial(fb.LeakyReLU, 0.1), "Sigmoid": fb.Sigmoid, "Tanh": fb.Tanh,
    "ELU": partial(fb.ELU, 0.8), "GELU": fb.GELU, "SiLU": fb.SiLU,
}
QUANTILES = (0.1, 0.5, 0.8)
LOSSES = {
    "SoftmaxCrossEntropy": fb.SoftmaxCrossEntropy(),
    "SoftmaxCrossEntropy smoothed": fb.SoftmaxCrossEntropy(0.2),
    "SigmoidCrossEntropy": fb.SigmoidCrossEntropy(),
    "MeanSquaredError": fb.MeanSquaredError(),
    "MeanAbsoluteError": fb.MeanAbsoluteError(),
    "Huber": fb.Huber(0.6),
    "PinballLoss": fb.PinballLoss(QUANTILES),
}
PAIRS = list(itertools.product(LAYERS, LOSSES))


def case(layer, loss, dtype="float64", seed=0):
    """The layer between two others, so that parameters before and after it are checked."""
    net = fb.Sequential([fb.Dense(3, 4), LAYERS[layer](), fb.Dense(4, 3)], dtype, seed=seed)
    net.reseed(seed)
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(6, 3)).astype(dtype)
    y = rng.integers(0, 3, 6) if loss.startswith("Softmax") else rng.random((6, 3)).astype(dtype)
    return net, X, y, LOSSES[loss]


@each(("layer", "loss"), PAIRS)
@each("weighted", [False, True])
def test_every_layer_with_every_loss(layer, loss, weighted):
    net, X, y, loss = case(layer, loss)
    weights = [1, 0, 2, 0.5, 3, 1] if weighted else None
    check = fb.gradcheck(net, X, y, loss=loss, sample_weight=weights)
    assert check.error <= 1e-6, check
    assert check.checked == X.size + net.parameters.size


@each("layer", LAYERS)
def test_every_layer_alone(layer):
    net = fb.Sequential([LAYERS[layer]()], "float64", seed=0)
    rng = np.random.default_rng(1)
    X, Y = rng.normal(size=(5, 4)), rng.normal(size=(5, 4))
    assert fb.gradcheck(net, X, Y, loss=fb.MeanSquaredError()).error <= 1e-6


def gradients(net, X, y, loss):
    dX = net.backward(loss(net.forward(X), y)[1])
    return np.concatenate([net.gradients, dX.ravel()])


@each(("layer", "loss"), PAIRS)
def test_float32_gradients_are_those_of_float64_rounded(layer, loss):
    net, X, y, loss = case(layer, loss, "float32")
    wide = gradients(net.astype("float64"), X, y, loss)
    got = gradients(net, X, y, loss)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, wide, rtol=0, atol=3e-6 * abs(wide).max())


# The formulas as autograd differentiates them: https://github.com/HIPS/autograd
FORWARD = {
    "Dense": lambda Z, W, b: Z @ W + b,
    "ReLU": lambda Z: anp.maximum(Z, 0),
    "LeakyReLU": lambda Z: anp.where(Z > 0, Z, 0.1 * Z),
    "Sigmoid": lambda Z: 1 / (1 + anp.exp(-Z)),
    "Tanh": anp.tanh,
    "ELU": lambda Z: anp.where(Z > 0, Z, 0.8 * (anp.exp(anp.minimum(Z, 0)) - 1)),
    "GELU": lambda Z: Z * norm.cdf(Z),
    "SiLU": lambda Z: Z / (1 + anp.exp(-Z)),
}
VALUE = {
    "SoftmaxCrossEntropy": lambda Z, T: anp.mean(logsumexp(Z, axis=1) - anp.sum(T * Z, axis=1)),
    "SigmoidCrossEntropy": lambda Z, Y: anp.mean(anp.logaddexp(0, Z) - Y * Z),
    "MeanSquaredError": lambda Z, Y: anp.mean((Z - Y) ** 2),
    "MeanAbsoluteError": lambda Z, Y: anp.mean(anp.abs(Z - Y)),
    "Huber": lambda Z, Y: anp.mean(anp.where(
        anp.abs(Z - Y) <= 0.6, (Z - Y) ** 2 / 2, 0.6 * (anp.abs(Z - Y) - 0.3))),
    "PinballLoss": lambda Z, Y: anp.mean(anp.maximum(
        anp.array(QUANTILES) * (Y - Z), (anp.array(QUANTILES) - 1) * (Y - Z))),
}


@each(("layer", "loss"), [*itertools.product(FORWARD, LOSSES)])
def test_the_same_gradients_as_autograd(layer, loss):
    net, X, y, ours = case(layer, loss)
    smoothing = getattr(ours, "label_smoothing", 0)
    Y = (1 - smoothing) * np.eye(3)[y] + smoothing / 3 if y.ndim == 1 else y

    def value(arrays):
        W1, b1, *middle, W2, b2, X = arrays
        return VALUE[loss.split()[0]](FORWARD[layer](X @ W1 + b1, *middle) @ W2 + b2, Y)

    got = gradients(net, X, y, ours)
    arrays = [getattr(part, name) for part in net.layers for name in part.parameter_shapes]
    expected = autograd.grad(value)([*arrays, X])
    assert ours(net.forward(X), y)[0] == pytest.approx(value([*arrays, X]), rel=1e-12)
    np.testing.assert_allclose(got, np.concatenate([array.ravel() for array in expected]),
                               rtol=1e-11, atol=1e-13)


# What it finds, and says


class Wrong(fb.Layer):
    """Z = s ⊙ X, with one sign turned in the gradient with respect to s."""

    def __init__(self, n, at=None):
        super().__init__(n, s=(n,))
        self.n, self.at = n, at

    def initialize(self, rng):
        self.s = rng.normal(size=self.n)

    def forward(self, X, training=True):
        self.cache = X
        return X * self.s

    def backward(self, dZ):
        self.ds = (dZ * self.cache).sum(axis=0)
        if self.at is not None:
            self.ds[self.at] *= -1
        return dZ * self.s


@pytest.mark.parametrize("at", [None, 0, 2, 4])
def test_it_finds_one_wrong_sign(at, rng):
    net = fb.Sequential([fb.Dense(3, 5), Wrong(5, at), fb.Tanh(), fb.Dense(5, 2)], seed=0)
    check = fb.gradcheck(net, rng.normal(size=(4, 3)), [0, 1, 1, 0], loss=fb.SoftmaxCrossEntropy())
    if at is None:
        assert check.error <= 1e-6
    else:
        assert check.error > 0.5
        assert (check.layer, check.parameter, check.index) == ("1 Wrong", "s", (at,))
        assert check.analytic == pytest.approx(-check.numeric, rel=1e-5)
        assert str(check).startswith(f"worst relative error 2 at 1 Wrong.s[{at}]: backward gives")
        assert [name for name, error in check.by_parameter.items() if error > 1e-6] == ["1 Wrong.s"]


def test_it_finds_a_wrong_input_gradient(rng):
    class Blocks(fb.Layer):
        def forward(self, X, training=True):
            return X * 2

        def backward(self, dZ):
            dX = dZ * 2
            dX[1, 2] += 0.1
            return dX

    X, y = rng.normal(size=(3, 4)), rng.normal(size=(3, 4))
    check = fb.gradcheck(fb.Sequential([Blocks()]), X, y, loss=fb.MeanSquaredError())
    assert (check.layer, check.parameter, check.index) == ("input", "X", (1, 2))
    assert check.error > 1e-2


def test_it_finds_a_wrong_loss(rng):
    class Doubled(fb.MeanSquaredError):
        def __call__(self, Z, y, sample_weight=None):
            value, dZ = super().__call__(Z, y, sample_weight)
            return value, 2 * dZ

    X, y = rng.normal(size=(3, 2)), rng.normal(size=3)
    check = fb.gradcheck(fb.mlp([2, 3, 1], "tanh", seed=0), X, y, loss=Doubled())
    assert check.error == pytest.approx(0.5, rel=1e-4)


@pytest.mark.parametrize("gradient", [None, 3, np.zeros((1, 2)), np.full((3, 4), np.nan)],
                         ids=["None", "a number", "another shape", "NaN"])
def test_a_backward_that_returns_no_gradient(gradient, rng):
    class Broken(fb.Layer):
        def forward(self, X, training=True):
            return X

        def backward(self, dZ):
            return gradient

    net, X = fb.Sequential([Broken()]), rng.normal(size=(3, 4))
    if np.shape(gradient) == X.shape:
        assert fb.gradcheck(net, X, X + 1, loss=fb.MeanSquaredError()).error == np.inf
    else:
        with pytest.raises((TypeError, ValueError), match=r"layer 0 .*backward returned"):
            fb.gradcheck(net, X, X + 1, loss=fb.MeanSquaredError())


def test_kinks_do_not_disturb_it():
    """A ReLU with an input so close to 0 that the usual step would cross the kink."""
    net = fb.Sequential([fb.Dense(1, 2), fb.ReLU(), fb.Dense(2, 1)], "float64", seed=0)
    net.layers[0].W = [[1.0, -1.0]]
    net.layers[0].b = [1e-5, 3e-5]
    X = np.array([[0.0], [1.0]])
    for loss in (fb.MeanSquaredError(), fb.MeanAbsoluteError()):
        assert fb.gradcheck(net, X, [0.5, -2], loss=loss).error <= 1e-6


def test_dropout_is_checked_as_in_training(rng):
    net = fb.Sequential([fb.Dropout(0.5), fb.Dense(8, 4), fb.Dropout(0.5), fb.Dense(4, 1)], seed=0)
    X = rng.normal(size=(6, 8)) + 3
    check = fb.gradcheck(net, X, np.ones(6), loss=fb.MeanSquaredError())
    assert check.error <= 1e-6
    wide = net.astype("float64")
    dX = wide.backward(fb.MeanSquaredError()(wide.forward(X), np.ones(6))[1])
    assert 0.3 < (dX == 0).mean() < 0.95, "nothing was dropped"


def test_samples_limit_the_work(rng):
    net = fb.mlp([10, 20, 1], "tanh", seed=0)
    check = fb.gradcheck(net, rng.normal(size=(5, 10)), np.ones(5), loss=fb.MeanSquaredError(),
                         samples=7)
    assert check.checked == 7 + 7 + 7 + 7 + 1  # X, W, b, W, b
    assert list(check.by_parameter) == [
        "input.X", "0 Dense.W", "0 Dense.b", "2 Dense.W", "2 Dense.b"]
    with pytest.raises(ValueError, match=r"^samples: .*at least 1, got 0"):
        fb.gradcheck(net, np.ones((5, 10)), np.ones(5), loss=fb.MeanSquaredError(), samples=0)


def test_it_leaves_the_network_and_the_data_alone(rng):
    net = fb.mlp([3, 4, 2], dropout=0.5, seed=0)
    X, y = rng.normal(size=(4, 3)), np.array([0, 1, 1, 0])
    net.forward(X)
    net.backward(np.ones((4, 2), "f4"))
    before = [array.tobytes() for array in (net.parameters, net.gradients, X, y)]
    steps = [layer.step for layer in net.layers]
    fb.gradcheck(net, X, y, loss=fb.SoftmaxCrossEntropy())
    assert before == [array.tobytes() for array in (net.parameters, net.gradients, X, y)]
    assert steps == [layer.step for layer in net.layers]
    assert net.dtype == np.float32


@each(
    ("X", "y", "message"),
    [
        (np.ones((2, 4)), [0, 1], "^X: expected 3 columns"),
        ([[1, 2, np.nan]], [0], "^X: .*nan in row 0, column 2"),
        (np.ones((2, 3)), [0, 2], "^y: .*got 2"),
        (np.ones((2, 3)), [0], "^y: .*2 rows"),
    ],
)
def test_bad_input(X, y, message):
    with pytest.raises(ValueError, match=message):
        fb.gradcheck(fb.mlp([3, 2]), X, y, loss=fb.SoftmaxCrossEntropy())
