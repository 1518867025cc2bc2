"""The penalty on weights, l2."""

import math

import numpy as np
import pytest

import fastbp as fb
from fastbp import training
from fastbp.program import reference

from .fits import (
    CROSS_ENTROPY,
    SHAPES,
    SQUARED,
    a_fit,
    a_net,
    classes,
    each_update,
    numbers,
    numpy_objective,
    penalized,
    record,
    timeless,
    unwatched,
)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.0, 0.3, 20.0])
@each_update
def test_a_penalty_is_that_of_a_loop_in_numpy(weighted, l2, watch):
    net, X, y, T, w = penalized()
    P, w = net.parameters.copy(), w if weighted else np.ones(23)
    history = a_fit(net, X, y, optimizer=watch(fb.SGD(0.1)), shuffle=False, l2=l2, epochs=3,
                    sample_weight=w if weighted else None)
    losses = []
    for _ in range(3):
        total = 0
        for start in range(0, 23, 5):
            rows = slice(start, start + 5)
            value, gradient = numpy_objective(P, SHAPES, X[rows], T[rows], w[rows], l2)
            P -= 0.1 * gradient
            total += value * w[rows].sum()
        losses.append(total / w.sum())
    np.testing.assert_allclose(net.parameters, P, rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_penaltys_gradient_agrees_with_central_differences(weighted):
    net, X, y, _, w = penalized()
    w, l2, h = w if weighted else None, 0.7, 1e-5
    start = net.parameters.copy()

    def objective(P):
        net.parameters[:] = P
        weights = sum((layer.W**2).sum() for layer in net.layers[::2])
        total = 23 if w is None else w.sum()
        return net.evaluate(X, y, loss=CROSS_ENTROPY, sample_weight=w)["loss"] \
            + l2 / 2 * weights / total

    history = a_fit(net, X, y, optimizer=fb.SGD(1), epochs=1, batch_size=23, sample_weight=w,
                    l2=l2)
    gradient = start - net.parameters
    assert history["loss"] == pytest.approx([objective(start)], rel=1e-12)
    for i in range(start.size):
        nudge = np.zeros(start.size)
        nudge[i] = h
        slope = (objective(start + nudge) - objective(start - nudge)) / (2 * h)
        assert gradient[i] == pytest.approx(slope, abs=1e-8)


def test_a_penalty_on_weights_of_several_blocks(dtype):
    """Of 8192 numbers each: the sum is that of all, compiled and interpreted."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(6, 130)), rng.normal(size=(6, 90))
    found = []
    for new_steps in (training.run.new_steps, reference.new_steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", new_steps)
            net = fb.mlp([130, 200, 90], dtype=dtype, seed=0)
            plain = net.evaluate(X, Y, loss=SQUARED)["loss"]
            squares = math.fsum(float(x) ** 2 for layer in net.layers[::2] for x in layer.W.flat)
            history = net.fit(X, Y, loss=SQUARED, optimizer=fb.SGD(0.01), epochs=1, batch_size=6,
                              l2=0.5, seed=0)
            assert history["loss"][0] == pytest.approx(plain + 0.5 / 2 * squares / 6, rel=1e-6)
            found.append((history["loss"], net.parameters.tobytes()))
    assert found[0] == found[1]


class Bilinear(fb.Layer):
    """A layer of one's own whose parameters have one, two and three dimensions."""

    def __init__(self):
        super().__init__(3, 2, one=(2,), two=(3, 2), three=(2, 2, 2))

    def initialize(self, rng):
        for name in self.parameter_shapes:
            getattr(self, name)[...] = rng.normal(size=getattr(self, name).shape)

    def forward(self, X, training=True):
        self.X = X
        return X @ self.two + self.one + self.three.sum(axis=(0, 1))

    def backward(self, dZ):
        self.dtwo[...] = self.X.T @ dZ
        self.done[...] = dZ.sum(axis=0)
        self.dthree[...] = dZ.sum(axis=0)
        return dZ @ self.two.T


def test_parameters_of_two_dimensions_alone_are_penalized(dtype):
    X, Y = np.zeros((5, 3)), np.zeros((5, 2))
    net = fb.Sequential([Bilinear()], dtype, seed=0)
    layer, start = net.layers[0], net.parameters.copy()
    layer.one, layer.three = 0, 0
    squares = float((layer.two.astype(float) ** 2).sum())
    history = net.fit(X, Y, loss=SQUARED, optimizer=fb.SGD(0.5), epochs=1, batch_size=5, l2=2)
    assert history["loss"] == pytest.approx([2 / 2 * squares / 5], rel=1e-6)
    twin = fb.Sequential([Bilinear()], dtype, seed=0)
    np.testing.assert_array_equal(twin.parameters, start)
    np.testing.assert_allclose(layer.two, twin.layers[0].two * (1 - 0.5 * 2 / 5), rtol=1e-6)
    assert not layer.one.any()
    assert not layer.three.any()


def test_a_penalty_is_no_part_of_validation(dtype):
    X, y = classes()
    net = fb.mlp([4, 3], dtype=dtype, seed=0)
    history = a_fit(net, X, y, l2=5.0, validation_data=(X, y), optimizer=fb.SGD(0), epochs=1,
                    batch_size=23)
    squares = float((net.layers[0].W.astype(float) ** 2).sum())
    assert history["val_loss"] == [net.evaluate(X, y, loss=CROSS_ENTROPY)["loss"]]
    assert history["loss"][0] - history["val_loss"][0] == pytest.approx(
        5 / 2 * squares / 23, rel=1e-5)


def test_a_penalty_where_a_batch_has_no_weight(dtype):
    X, Y = numbers(8)

    def run(watch):
        net = fb.mlp([2, 3, 2], dtype=dtype, seed=0)
        start = net.parameters.copy()
        history = net.fit(X, Y, loss=SQUARED, optimizer=watch(fb.SGD(0.1)), batch_size=4,
                          shuffle=lambda n: [*range(4)] * 2, sample_weight=[0] * 4 + [1] * 4,
                          epochs=2, l2=3.0)
        assert net.parameters.tobytes() == start.tobytes()
        return timeless(history)

    for history in (run(record), run(unwatched)):
        assert np.isnan(history["loss"]).all()


@pytest.mark.parametrize("l2", [1e39, 1e300])
@each_update
def test_a_penalty_that_is_too_strong(dtype, l2, watch):
    net = a_net(dtype)
    with pytest.raises(FloatingPointError, match="diverged at step"):
        a_fit(net, l2=l2, optimizer=watch(fb.SGD(1.0)), epochs=200)
    assert np.isfinite(net.parameters).all()


def test_a_callback_can_change_the_penalty(dtype):
    def run(watch):
        net = a_net(dtype)
        history = a_fit(net, seed=0, l2=0.1, epochs=3, optimizer=watch(fb.Adam(0.01)),
                        callbacks=[lambda run: setattr(run, "l2", 2.0 * run.epoch)])
        return timeless(history), net.parameters.tobytes()

    assert run(record) == run(unwatched)
