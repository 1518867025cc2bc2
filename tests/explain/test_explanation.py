"""What `explain` returns, its text, and what it refuses."""

import re

import numpy as np
import pytest

import fastbp as fb
from fastbp.explain import example, graph

from ..cases import each

pytestmark = pytest.mark.once


def test_numbers_of_a_network_by_hand():
    """2 inputs, one tanh unit, one output, squared error: as on a blackboard."""
    net = fb.Sequential([fb.Dense(2, 1), fb.Tanh(), fb.Dense(1, 1)], "float64", seed=0)
    net.layers[0].W = [[0.5], [-0.25]]
    net.layers[0].b = [0.1]
    net.layers[2].W = [[2.0]]
    net.layers[2].b = [0.3]
    explanation = fb.explain(net, [1.0, 2.0], 1.0, loss=fb.MeanSquaredError(), learning_rate=0.5)
    a = np.tanh(0.1)
    dz2 = 2 * (2 * a + 0.3 - 1)
    dz1 = dz2 * 2 * (1 - a * a)
    nodes = {node.name: node for node in explanation.nodes}
    assert list(nodes) == ["x", "z1", "a1", "z2"]
    for name, value, gradient in [
        ("x", [1.0, 2.0], [0.5 * dz1, -0.25 * dz1]), ("z1", [0.1], [dz1]), ("a1", [a], [2 * dz2]),
        ("z2", [2 * a + 0.3], [dz2]),
    ]:
        assert np.allclose(nodes[name].value, [value], rtol=1e-14)
        assert np.allclose(nodes[name].gradient, [gradient], rtol=1e-14)
    gradients = {"0.W": [[dz1], [2 * dz1]], "0.b": [dz1], "2.W": [[dz2 * a]], "2.b": [dz2]}
    for name, expected in gradients.items():
        parameter = explanation.parameters[name]
        assert np.allclose(parameter.gradient, expected, rtol=1e-14)
        assert np.allclose(parameter.after, parameter.before - 0.5 * np.array(expected))
    (path,) = explanation.weight("0.W", 1, 0).paths
    assert np.allclose(path.factors, [dz2, 2, 1 - a * a, 2.0], rtol=1e-14)
    assert np.isclose(explanation.before, (2 * a - 0.7) ** 2)
    W, b, v, c = (explanation.parameters[name].after for name in gradients)
    after = np.tanh(W[0, 0] + 2 * W[1, 0] + b[0]) * v[0, 0] + c[0]
    assert np.isclose(explanation.after, (after - 1) ** 2)


def test_the_network_stays_as_it_is():
    net = fb.Sequential([fb.Dense(2, 3), fb.BatchNorm(3), fb.Dropout(0.5), fb.Dense(3, 2)], seed=0)
    before = net.get_state().copy(), net.gradients.copy(), net.layers[2].step
    explanation = fb.explain(net, np.eye(2), [0, 1], loss=fb.SoftmaxCrossEntropy())
    after = net.get_state(), net.gradients, net.layers[2].step
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))
    assert net.layers[2].rate == 0.5 and explanation.dropout


def test_rows_and_targets_in_their_forms():
    net, loss = fb.mlp([2, 3, 2], "tanh", seed=0), fb.SoftmaxCrossEntropy()
    one = [fb.explain(net, x, y, loss=loss).before for x, y in [
        ([1.0, 2.0], 1), ([[1.0, 2.0]], [1]), ([1, 2], [0.0, 1.0]), ([[1, 2]], [[0.0, 1.0]]),
        (np.array([1, 2], "f4"), np.int64(1))]]
    assert len(set(one)) == 1
    regression = fb.mlp([2, 3, 1], seed=0)
    for y in (0.5, [0.5], [[0.5]]):
        assert fb.explain(regression, [1, 2], y, loss=fb.MeanSquaredError()).rows == 1


def test_numbers_of_float32_and_lower_precision():
    """All is computed in float64, of the weights that the network has."""
    net = fb.mlp([4, 5, 3], seed=0, precision="medium")
    explanation = fb.explain(net, np.arange(4.0), 1, loss=fb.SoftmaxCrossEntropy())
    double = net.astype("float64")
    value, dZ = fb.SoftmaxCrossEntropy()(double.forward(np.arange(4.0)[None]), [1])
    double.backward(dZ)
    assert explanation.before == value
    for where, layer in double.leaves:
        for name in layer.parameter_shapes:
            assert np.allclose(explanation.parameters[f"{where}.{name}"].gradient,
                               getattr(layer, f"d{name}"), rtol=1e-13)


def test_text():
    explanation = example()
    text = str(explanation)
    gradient = explanation.weight("0.W", *explanation.largest("0.W"))
    for path in gradient.paths:
        assert f"{path.product:.4g} = " in text
        assert " · ".join(f"{factor:.4g}" for factor in path.factors) in text
    assert "∂L/∂z3[0] · ∂z3[0]/∂a2[2] · ∂a2[2]/∂z2[2]" in text
    assert f"{gradient.total:.4g}   the sum; the engine's gradient: {gradient.engine:.4g}" in text
    for node in explanation.nodes:
        for value in [*node.value[0], *node.gradient[0]]:
            assert f"{value:.4g}" in text
    assert re.search(rf"L +{explanation.before:.4g} → {explanation.after:.4g}", text)


@each("activation, scale, word", [
    ("sigmoid", 1.0, "vanishes"), ("tanh", 1.0, "neither"), ("identity", 8.0, "explodes")])
def test_what_becomes_of_the_gradient(activation, scale, word):
    layers = []
    for _ in range(12):
        layers += [fb.Dense(8, 8), *([getattr(fb, activation.title())()]
                                     if activation != "identity" else [])]
    net = fb.Sequential([*layers, fb.Dense(8, 1)], seed=0)
    for _, layer in net.leaves:
        if isinstance(layer, fb.Dense):
            layer.W *= scale * (8 / 2) ** 0.5 / 2  # variance 1/8 where scale is 1
    explanation = fb.explain(net, np.ones(8) / 8**6 if scale > 1 else np.ones(8), 0.0,
                             loss=fb.MeanSquaredError(), learning_rate=1e-30)
    assert word in str(explanation)


def test_no_gradient_arrives():
    """Where a ReLU is closed, a path has a factor of 0, which is shown."""
    net = fb.Sequential([fb.Dense(1, 1), fb.ReLU(), fb.Dense(1, 1)], seed=0)
    net.layers[0].W, net.layers[0].b = -1, 0
    explanation = fb.explain(net, [1.0], 1.0, loss=fb.MeanSquaredError())
    gradient = explanation.weight("0.W", 0, 0)
    assert gradient.n_paths == gradient.n_zero == len(gradient.paths) == 1
    assert gradient.paths[0].factors[2] == gradient.total == gradient.engine == 0
    assert "No gradient arrives at z1" in str(explanation)
    assert "(1 path with a factor of 0)" in str(gradient)


@each("layers, x, said", [
    ([([[1]], [0]), ([[1, 1]], [0, 0]), ([[1], [-1]], [0])], [1.0],
     "No gradient arrives at z1: the paths to it cancel out."),
    ([([[-1]], [0]), fb.ReLU], [1.0],
     "No gradient arrives at z1: each path to it has a factor of 0."),
    ([([[1]], [0]), fb.ReLU, ([[-1]], [0]), fb.ReLU], [1.0], "No gradient arrives at z2: each"),
    ([([[1]], [1])], [1.0], "The gradient of the loss with respect to the network's output is 0"),
    ([([[1]], [0])], [1.0], "between layers with weights, of which this network has only one."),
])
def test_why_no_gradient_arrives(layers, x, said):
    made = [fb.Dense(*np.shape(each[0])) if isinstance(each, tuple) else each() for each in layers]
    net = fb.Sequential(made, "float64", seed=0)
    for layer, given in zip(net.layers, layers, strict=True):
        if isinstance(given, tuple):
            layer.W, layer.b = given
    assert said in str(fb.explain(net, x, 2.0, loss=fb.MeanSquaredError()))


def test_a_network_without_dense_layers():
    net = fb.Sequential([fb.PReLU(2)], seed=0)
    assert "of which this network has none." in str(
        fb.explain(net, [1.0, 2.0], [[0.0, 0.0]], loss=fb.MeanSquaredError()))


def test_the_frame_of_notebooks():
    frame = example()._repr_html_()
    assert frame.startswith('<iframe title="Backpropagation"') and frame.endswith("</iframe>")
    assert frame.count("<") == 2 and "&lt;!doctype html&gt;" in frame


class Twice(fb.Layer):
    """Its backward pass is wrong: the gradient of rows depends on the other rows."""

    def forward(self, X, training=True):
        return 2 * X

    def backward(self, dZ):
        return dZ * dZ.sum()


class Wrong(fb.Loss):
    def __call__(self, Z, y, sample_weight=None):
        return float("nan"), np.full_like(Z, np.nan)


def test_layers_that_are_not_explained_are_named():
    net = fb.Sequential([fb.Dense(2, 3), Twice(), fb.Dense(3, 1)], seed=0)
    with pytest.raises(ValueError, match=r"net: layer 1 \(Twice\(.*\)\): expected a layer whose"):
        fb.explain(net, np.eye(2), [1, 2], loss=fb.MeanSquaredError())


class Noise(fb.Layer):
    def forward(self, X, training=True):
        return X + np.random.default_rng().normal(size=X.shape)

    def backward(self, dZ):
        return dZ


def test_a_layer_that_draws_noise_is_named():
    net = fb.Sequential([fb.Dense(2, 3), fb.Residual([Noise()]), fb.Dense(3, 1)], seed=0)
    with pytest.raises(ValueError, match=r"^net: layer 1\.0 \(Noise\): expected a layer that "
                                         r"returns the same each time"):
        fb.explain(net, [1.0, 2.0], 1.0, loss=fb.MeanSquaredError())


@each("rows, most, remedy", [(2, 40, "explain fewer rows"), (2, 10, "is narrower"),
                             (1, 10, "is narrower")])
def test_derivatives_that_need_too_much_memory(monkeypatch, rows, most, remedy):
    monkeypatch.setattr(graph, "MOST_KEPT", most)
    net = fb.Sequential([fb.Dense(2, 6), fb.LayerNorm(6), fb.Dense(6, 1)], seed=0)
    with pytest.raises(ValueError, match=rf"^net: layer 1 \(LayerNorm\): expected at most {most} "
                                         rf"derivatives .* got {rows * 36}; .*{remedy}"):
        fb.explain(net, np.ones((rows, 2)), np.zeros(rows), loss=fb.MeanSquaredError())


@each("arguments, error, message", [
    ({"net": 3}, TypeError, "net: expected a Sequential, got int"),
    ({"net": fb.Sequential([fb.Tanh()])}, ValueError, "net: expected a network with parameters"),
    ({"x": [1.0]}, ValueError, "X: expected 2 columns"),
    ({"x": np.ones((2, 2, 2))}, ValueError, "X: expected 2 dimensions"),
    ({"x": np.ones((0, 2))}, ValueError, "X: expected at least one row"),
    ({"x": np.ones((17, 2)), "y": [0] * 17}, ValueError,
     "x: expected a row, or at most 16, got 17; pass some of them, as in x[:16] and y[:16]"),
    ({"x": [np.nan, 1.0]}, ValueError, "X: expected finite numbers, got nan in row 0, column 0"),
    ({"x": ["a", "b"]}, TypeError, "x: expected"),
    ({"y": [0, 1]}, ValueError, "y: expected 1 rows like X, got 2"),
    ({"y": [7]}, ValueError, "y: "),
    ({"y": [np.nan]}, ValueError, "y: "),
    ({"loss": "mse"}, TypeError, "loss: expected a Loss such as SoftmaxCrossEntropy(), got 'mse'"),
    ({"loss": fb.Huber}, TypeError, "loss: expected a loss, got the class Huber; make one"),
    ({"loss": Wrong(), "y": [[0.0, 1.0]]}, ValueError, "net: expected a network whose loss on"),
    ({"learning_rate": 0}, ValueError, "learning_rate: expected a finite number and above 0"),
    ({"learning_rate": "fast"}, TypeError, "learning_rate: expected a number"),
])
def test_refused(arguments, error, message):
    given = {"net": fb.mlp([2, 3, 2], seed=0), "x": [[1.0, 2.0]], "y": [1],
             "loss": fb.SoftmaxCrossEntropy()} | arguments
    with pytest.raises(error, match="^" + re.escape(message)):
        fb.explain(given.pop("net"), given.pop("x"), given.pop("y"), **given)


@each("arguments, error, message", [
    ({"x": [1e120, -1e120]}, ValueError, "net: expected a network whose gradients on these rows a"),
    ({"x": [1e300, 0.0], "loss": fb.MeanAbsoluteError()}, ValueError, "net: expected a network w"),
    ({"x": [1e300, 1e300]}, ValueError, "net: expected a network whose loss on these rows is fin"),
    ({"learning_rate": 1e308}, FloatingPointError,
     "learning_rate: expected one whose step leads to finite weights, got 1e+308; choose a smal"),
])
def test_numbers_that_are_too_large(arguments, error, message):
    """Nothing was trained that could have diverged."""
    given = {"x": [3.0, 2.0], "loss": fb.MeanSquaredError()} | arguments
    with pytest.raises(error, match="^" + re.escape(message)):
        fb.explain(fb.mlp([2, 3, 1], "relu", seed=1), given.pop("x"), 100.0, **given)


def test_weights_that_are_infinite():
    net = fb.mlp([2, 3, 1], "relu", seed=1)
    net.layers[0].W[0, 0] = -np.inf
    with pytest.raises(ValueError, match="net: expected finite weights"):
        fb.explain(net, [1.0, 1.0], 1.0, loss=fb.MeanSquaredError())


def test_estimators_are_sent_to_their_network():
    with pytest.raises(TypeError, match=r"got MLPClassifier; pass model\.to_network\(\)"):
        fb.explain(fb.MLPClassifier(), [1.0], 1, loss=fb.SoftmaxCrossEntropy())


@each("arguments, error, message", [
    (("1.W", 0, 0), KeyError, "parameter: expected one of 0.W, 0.b, 2.W"),
    (("0.W", 0), IndexError, "index: expected 2 of shape (2, 3), the shape of 0.W, got (0,)"),
    (("0.W", 2, 0), IndexError, "index: expected 2"),
    (("0.W", -1, 0), ValueError, "index: expected a whole number of at least 0, got -1"),
    (("0.W", 0.5, 0), TypeError, "index: expected a whole number"),
])
def test_elements_that_are_not_there(arguments, error, message):
    with pytest.raises(error, match=re.escape(message)):
        example().weight(*arguments)
    with pytest.raises(ValueError, match="paths: expected a whole number of at least 1, got 0"):
        example().weight("0.W", 0, 0, paths=0)


def test_saving(tmp_path):
    with pytest.raises(TypeError, match="path: expected the path of a file"):
        example().save(3)
    with pytest.raises(IsADirectoryError):
        example().save(tmp_path)
