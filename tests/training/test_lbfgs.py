"""L-BFGS against SciPy on the same objective in NumPy."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch

from .fits import (
    CROSS_ENTROPY,
    SHAPES,
    SQUARED,
    a_net,
    a_numpy_network,
    classes,
    numpy_objective,
    penalized,
    some_zeros,
)


def minimum(shapes, X, T, w, l2, start):
    """Of the objective in NumPy, by SciPy alone."""
    return scipy.optimize.minimize(
        numpy_objective, start, (shapes, X, T, w, l2), method="L-BFGS-B", jac=True,
        options={"gtol": 1e-9, "ftol": 0, "maxiter": 5000, "maxfun": 50000})


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("l2", [0.5, 5.0])
@pytest.mark.parametrize("own", [False, True], ids=["compiled", "in Python"])
def test_lbfgs_finds_the_minimum_of_a_convex_loss(dtype, weighted, l2, own):
    """There is only one, up to a number that softmax ignores."""
    class Own(fb.SoftmaxCrossEntropy):
        pass

    X, y = classes(60)
    w = np.random.default_rng(0).random(60) + 0.1 if weighted else np.ones(60)
    net = fb.mlp([4, 3], dtype=dtype, seed=0)
    expected = minimum([(4, 3)], X, np.eye(3)[y], w, l2, net.parameters.astype(float))
    result = training.lbfgs(net, X, y, loss=Own() if own else CROSS_ENTROPY, l2=l2, tol=1e-6,
                            sample_weight=w if weighted else None)
    close = 3e-3 if dtype == "f4" else 1e-4
    assert result.fun == pytest.approx(expected.fun, rel=3e-7 if dtype == "f4" else 1e-8)
    W, b = next(a_numpy_network([(4, 3)], expected.x))
    np.testing.assert_allclose(net.layers[0].W, W, atol=close)
    np.testing.assert_allclose(net.layers[0].b - net.layers[0].b.mean(), b - b.mean(), atol=close)


def test_lbfgs_goes_as_far_down_as_scipy_does():
    """Of several minima they find the same: float64 and the same steps."""
    net, X, y, T, w = penalized(seed=3, rows=40)
    expected = minimum(SHAPES, X, T, w, 0.3, net.parameters.copy())
    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, sample_weight=w, l2=0.3, tol=1e-7,
                            max_iter=5000)
    assert result.fun == pytest.approx(expected.fun, rel=1e-6)
    value, gradient = numpy_objective(net.parameters, SHAPES, X, T, w, 0.3)
    assert value == pytest.approx(result.fun, rel=1e-12)
    assert abs(gradient).max() < 1e-3


@pytest.mark.parametrize("weighted", [False, True])
def test_lbfgs_has_the_same_bits_on_every_path(dtype, weighted):
    class Own(fb.SoftmaxCrossEntropy):
        pass

    X, y = some_zeros()
    w, used, found = np.arange(23.0) if weighted else None, dispatch.isa(), set()
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for loss in (fb.SoftmaxCrossEntropy(), Own()):
                for rows in (X, scipy.sparse.csr_array(X)):
                    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
                    result = training.lbfgs(net, rows, y, loss=loss, sample_weight=w, l2=0.1,
                                            max_iter=8)
                    found.add((result.fun, result.nit, net.parameters.tobytes()))
    finally:
        dispatch.use(used)
    assert len(found) == 1


@pytest.mark.parametrize("loss", [SQUARED, fb.MeanAbsoluteError(), fb.PoissonDeviance(),
                                  fb.SigmoidCrossEntropy(), fb.PinballLoss((0.2, 0.5, 0.7))],
                         ids=repr)
def test_lbfgs_lowers_every_loss(dtype, loss):
    X, y = classes(40)
    Y = np.eye(3)[y]
    net = fb.mlp([4, 8, 3], "tanh", dtype=dtype, seed=0)
    before = net.evaluate(X, Y, loss=loss)["loss"]
    result = training.lbfgs(net, X, Y, loss=loss, max_iter=60)
    assert net.evaluate(X, Y, loss=loss)["loss"] == pytest.approx(result.fun, rel=1e-5)
    assert result.fun < 0.8 * before


def test_what_lbfgs_returns(dtype):
    X, y = classes(60)
    net, seen = fb.mlp([4, 3], dtype=dtype, seed=0), []

    def callback(intermediate_result):
        seen.append(float(intermediate_result.fun))

    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, l2=1.0, callback=callback)
    assert result.success
    assert result.status == 0
    assert isinstance(result.message, str)
    assert len(seen) == result.nit > 1
    assert result.nfev >= result.nit
    assert seen[-1] == pytest.approx(result.fun)
    assert seen == sorted(seen, reverse=True)
    squares = float((net.layers[0].W.astype(float) ** 2).sum())
    assert result.fun == pytest.approx(
        net.evaluate(X, y, loss=CROSS_ENTROPY)["loss"] + squares / 2 / 60, rel=1e-6)
    assert net.history is None


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_lbfgs_stops_where_it_is_told_to(limit):
    X, y = classes(60)
    net = fb.mlp([4, 6, 3], dtype="float64", seed=0)
    result = training.lbfgs(net, X, y, loss=CROSS_ENTROPY, max_iter=limit)
    assert (result.nit, result.status, result.success) == (limit, 1, False)
    again = training.lbfgs(fb.mlp([4, 6, 3], dtype="float64", seed=0), X, y, loss=CROSS_ENTROPY,
                           max_evaluations=limit)
    assert limit <= again.nfev <= limit + 25
    assert again.status == 1
    twin = fb.mlp([4, 6, 3], dtype="float64", seed=0)
    assert training.lbfgs(twin, X, y, loss=CROSS_ENTROPY, tol=1e9).nit == 0
    np.testing.assert_array_equal(
        twin.parameters, fb.mlp([4, 6, 3], dtype="float64", seed=0).parameters)


def test_a_callback_can_stop_lbfgs():
    def callback(intermediate_result):
        raise StopIteration

    X, y = classes()
    result = training.lbfgs(fb.mlp([4, 3]), X, y, loss=CROSS_ENTROPY, callback=callback)
    assert result.nit == 1


@pytest.mark.parametrize("x", [np.nan, np.inf, 1e300])  # the last is infinite in float32
def test_lbfgs_that_diverges_leaves_the_first_weights(monkeypatch, x):
    def minimize(objective, start, **options):
        objective(np.full_like(start, x))
        return scipy.optimize.OptimizeResult(x=np.full_like(start, x))

    monkeypatch.setattr(scipy.optimize, "minimize", minimize)
    net = fb.Sequential([fb.Dense(2, 1)], seed=0)
    before = net.parameters.copy()
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match="lbfgs diverged"):
        training.lbfgs(net, np.ones((2, 2)), [0, 1], loss=SQUARED)
    assert net.parameters.tobytes() == before.tobytes()


def test_lbfgs_refuses_dropout():
    net = a_net()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=r"^network: expected .*without dropout"):
        training.lbfgs(net, *classes(), loss=CROSS_ENTROPY)
    assert net.parameters.tobytes() == before


@pytest.mark.parametrize("arguments", [{"X": np.ones((12, 2))}, {"y": np.full(12, 3)},
                                       {"loss": None}, {"sample_weight": [1]},
                                       {"X": np.full((12, 4), np.nan)}, {"l2": -1.0},
                                       {"l2": math.nan}, {"l2": "1"}])
def test_lbfgs_refuses_what_fit_refuses(arguments):
    net = fb.mlp([4, 6, 3], seed=0)
    before = net.parameters.tobytes()
    good = {"X": np.ones((12, 4)), "y": np.arange(12) % 3, "loss": CROSS_ENTROPY}
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(arguments))}: "):
        training.lbfgs(net, **good | arguments)
    assert net.parameters.tobytes() == before
