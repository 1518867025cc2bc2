"""Initial weights: their ranges, variances and seeds."""

import copy
import math

import numpy as np
import pytest

import fastbp as fb

N_IN, N_OUT = 200, 300
VARIANCE = {
    "he_normal": 2 / N_IN,
    "he_uniform": 2 / N_IN,  # (√(6 / n_in))² / 3
    "glorot_normal": 2 / (N_IN + N_OUT),
    "glorot_uniform": 2 / (N_IN + N_OUT),
}


@pytest.mark.parametrize("name", VARIANCE)
def test_mean_variance_and_range(name):
    weights = fb.initializers.get(name)(np.random.default_rng(1), N_IN, N_OUT)
    assert weights.shape == (N_IN, N_OUT)
    deviation = math.sqrt(VARIANCE[name])
    assert abs(weights.mean()) < 5 * deviation / math.sqrt(weights.size)
    assert weights.var() == pytest.approx(VARIANCE[name], rel=0.03)
    if name.endswith("uniform"):
        assert 0.999 < abs(weights).max() / (deviation * math.sqrt(3)) <= 1
    else:
        assert 0.003 < (abs(weights) > 2.8 * deviation).mean() < 0.008  # 0.0051 of a normal


@pytest.mark.parametrize("name", VARIANCE)
def test_dense_uses_them(dtype, name):
    layer = fb.Sequential([fb.Dense(N_IN, N_OUT, name)], dtype, seed=4).layers[0]
    assert layer.W.var() == pytest.approx(VARIANCE[name], rel=0.03)
    assert not layer.b.any()


def test_a_callable_of_ones_own():
    def init(rng, n_in, n_out):
        assert isinstance(rng, np.random.Generator)
        return np.arange(n_in * n_out).reshape(n_in, n_out)

    layer = fb.Sequential([fb.Dense(2, 3, init)]).layers[0]
    assert layer.W.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_seeds(dtype):
    def weights(seed):
        return fb.mlp([3, 4, 4, 2], dtype=dtype, seed=seed).parameters.tolist()

    assert weights(0) == weights(0)
    assert weights(0) != weights(1)
    assert weights(None) != weights(None)
    first, second = (fb.Sequential([fb.Dense(4, 4), fb.Dense(4, 4)], seed=0).layers)
    assert first.W.tolist() != second.W.tolist()


@pytest.mark.parametrize(
    "wrong", [np.zeros((3, 2)), np.zeros(6), 0.0], ids=["transposed", "flat", "scalar"]
)
def test_a_callable_that_returns_the_wrong_shape(wrong):
    layer = fb.Dense(2, 3, init=lambda rng, n_in, n_out: wrong)
    with pytest.raises(ValueError, match=r"init: expected shape \(2, 3\)"):
        fb.Sequential([layer])
    layer.init = "he_uniform"
    fb.Sequential([layer])  # mended, it can be used


def test_a_construction_that_fails_leaves_carried_weights_alone():
    carried = copy.deepcopy(fb.mlp([3, 2], seed=0).layers[0])
    weights = carried.W.tolist()
    with pytest.raises(ValueError, match="init: "):
        fb.Sequential([carried, fb.Dense(2, 2, init=lambda rng, n_in, n_out: np.zeros(1))])
    net = fb.Sequential([carried])
    assert net.layers[0].W.tolist() == weights


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (np.full((2, 3), np.nan), ValueError),
        (np.full((2, 3), 1j), TypeError),
        (np.full((2, 3), "a"), TypeError),
    ],
    ids=["NaN", "complex", "text"],
)
def test_a_callable_that_returns_what_is_no_weight(wrong, error):
    with pytest.raises(error, match=r"^init: "):
        fb.Sequential([fb.Dense(2, 3, init=lambda rng, n_in, n_out: wrong)])
