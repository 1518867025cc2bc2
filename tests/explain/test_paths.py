"""Sums over paths are gradients, and the paths are the ones there are."""

import random

import numpy as np
import pytest

import fastbp as fb

from .oracle import all_products, random_layers

pytestmark = pytest.mark.once


def random_case(seed):
    draw, rng = random.Random(seed), np.random.default_rng(seed)
    width = draw.randint(1, 4)
    layers, n_out = random_layers(draw, width)
    if not any(isinstance(each, fb.Dense) for each in layers):
        layers.append(fb.Dense(n_out, 2))
        n_out = 2
    net = fb.Sequential(layers, "float64", seed=seed)
    for _, layer in net.leaves:
        if isinstance(layer, fb.Dense):
            layer.b = rng.normal(size=layer.b.shape)
    rows = draw.randint(1, 3)
    X = rng.normal(size=(rows, width))
    if draw.random() < 0.5:
        return net, X, rng.integers(0, n_out, rows), fb.SoftmaxCrossEntropy()
    return net, X, rng.normal(size=(rows, n_out)), fb.MeanSquaredError()


def check_all_weights(net, X, y, loss):
    """Compare every weight's paths with those of the oracle."""
    explanation = fb.explain(net, X, y, loss=loss)
    _, dZ = loss(net.forward(X), y)
    net.backward(dZ)
    expected = all_products(net, X, dZ)
    for where, layer in net.leaves:
        if not isinstance(layer, fb.Dense):
            continue
        for i, j in np.ndindex(layer.W.shape):
            products = np.array(sorted(expected[id(layer), i, j], key=abs, reverse=True))
            rounding = 1e-14 * (np.abs(products).sum() + 1e-300)
            k = 1 + (i + j) % 5
            gradient = explanation.weight(f"{where}.W", i, j, paths=k)
            assert gradient.n_paths == len(products)
            assert gradient.n_zero == (products == 0).sum()
            listed = np.array([path.product for path in gradient.paths])
            assert len(listed) == min(k, len(products))
            # Those of the same magnitude may come in any order.
            assert np.allclose(np.abs(listed), np.abs(products[:k]), rtol=1e-12, atol=rounding)
            assert np.allclose([np.prod(path.factors) for path in gradient.paths], listed,
                               rtol=1e-12, atol=0)
            assert abs(listed.sum() + gradient.rest - layer.dW[i, j]) <= rounding
            assert abs(products.sum() - gradient.total) <= rounding
            assert abs(gradient.total - gradient.engine) <= rounding
            assert np.isclose(gradient.magnitude, np.abs(products).sum(), rtol=1e-12, atol=0)
    assert explanation.error <= 1e-14


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_all_paths_of_random_networks(first):
    """200 networks of dense, element-wise and residual layers, path by path."""
    for seed in range(first, first + 50):
        check_all_weights(*random_case(seed))


@pytest.mark.parametrize("first", [0, 20])
def test_networks_of_all_layers(random_programs, first):
    """Normalization, embeddings, columns, members and layers of one's own, too."""
    for seed in range(first, first + 20):
        case = random_programs.Case(seed)
        net, rows = case.network("float64"), 1 + seed % 3
        X, y = case.X[:rows].astype(float), np.asarray(case.y)[:rows]
        explanation = fb.explain(net, X, y, loss=case.loss, learning_rate=1e-3)
        assert explanation.error < 1e-8, seed
        for name in explanation.parameters:
            gradient = explanation.weight(name, *explanation.largest(name))
            scale = gradient.magnitude + np.abs(explanation.parameters[name].gradient).max()
            listed = sum(path.product for path in gradient.paths)
            assert abs(listed + gradient.rest - gradient.engine) <= 1e-8 * scale, (seed, name)
            for path in gradient.paths:
                assert np.isclose(np.prod(path.factors), path.product, rtol=1e-12, atol=0)
                assert path.hops[0].node is explanation.graph.output
                assert path.hops[-1].node is explanation.parameters[name].node


def test_all_paths_through_a_normalization():
    """Factors between the units of a normalized row are those of its Jacobian."""
    rng = np.random.default_rng(0)
    net = fb.Sequential([fb.Dense(2, 3), fb.LayerNorm(3), fb.Dense(3, 1)], "float64", seed=0)
    x, epsilon = rng.normal(size=2), 1e-5
    explanation = fb.explain(net, x, 0.0, loss=fb.MeanSquaredError())
    z = x @ net.layers[0].W + net.layers[0].b
    r = 1 / np.sqrt(z.var() + epsilon)
    normal = (z - z.mean()) * r
    jacobian = r * (np.eye(3) - 1 / 3 - np.outer(normal, normal) / 3)
    dz = 2 * (normal @ net.layers[2].W + net.layers[2].b)
    products = [dz[0] * net.layers[2].W[j, 0] * jacobian[j, 1] * x[0] for j in range(3)]
    gradient = explanation.weight("0.W", 0, 1)
    assert np.allclose(sorted(path.product for path in gradient.paths), sorted(products),
                       rtol=1e-10)


def test_rows_that_depend_on_each_other():
    """In batch normalization a path may go from one row to another."""
    rng = np.random.default_rng(0)
    net = fb.Sequential([fb.Dense(2, 3), fb.BatchNorm(3), fb.Dense(3, 1)], seed=0)
    explanation = fb.explain(net, rng.normal(size=(4, 2)), rng.normal(size=4),
                             loss=fb.MeanSquaredError())
    gradient = explanation.weight("0.W", 0, 1, paths=16)
    assert gradient.n_paths == len(gradient.paths) == 16  # each row's output by each row's input
    assert len({tuple(hop.row for hop in path.hops) for path in gradient.paths}) == 16


def test_a_column_that_is_taken_twice():
    net = fb.Sequential([fb.Dense(1, 1), fb.Columns([([0, 0], []), (0, [fb.Tanh()])]),
                         fb.Dense(3, 1)], seed=0)
    gradient = fb.explain(net, [2.0], 1.0, loss=fb.MeanSquaredError()).weight("0.W", 0, 0)
    assert gradient.n_paths == len(gradient.paths) == 3


def test_deep_networks_have_more_paths_than_can_be_listed():
    net = fb.mlp([30, *[30] * 14, 2], "tanh", seed=0)
    explanation = fb.explain(net, np.ones(30), 1, loss=fb.SoftmaxCrossEntropy())
    gradient = explanation.weight("0.W", 3, 4)
    assert gradient.n_paths == 2 * 30**13
    assert len(gradient.paths) == 8 and gradient.rest != 0
    assert abs(gradient.total - gradient.engine) <= 1e-14 * gradient.magnitude
    assert f"{2 * 30.0**13:.3g}" in str(gradient)


def test_the_largest_of_many_paths():
    """The largest eight of 4096 are those of a search through all."""
    net = fb.mlp([2, 16, 16, 16, 1], "tanh", dtype="float64", seed=1)
    x = np.array([0.3, -0.7])
    explanation = fb.explain(net, x, 0.5, loss=fb.MeanSquaredError())
    _, dZ = fb.MeanSquaredError()(net.forward(x[None]), np.array([[0.5]]))
    products = all_products(net, x[None], dZ)[id(net.layers[0]), 1, 3]
    gradient = explanation.weight("0.W", 1, 3)
    assert gradient.n_paths == len(products) == 256
    assert np.allclose([abs(path.product) for path in gradient.paths],
                       sorted(np.abs(products), reverse=True)[:8], rtol=1e-12)
