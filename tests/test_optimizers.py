"""Optimizers: the formulas of docs/formulas.md, clipping, state, schedules."""

import copy
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp.kernels import ops

from .cases import each


def steps(optimizer, parameters, gradients, dtype="f8"):
    """The parameters after each step."""
    parameters = np.array(parameters, dtype)
    result = []
    for gradient in gradients:
        optimizer.step(parameters, np.array(gradient, dtype))
        result.append(parameters.tolist())
    return result


# By hand: P starts at (1, -2); each row is a step's gradient, and P after it.
G, H = [0.5, 1], [-1, 0]
WORKED = [
    (fb.SGD(0.1), [G, H], [[0.95, -2.1], [1.05, -2.1]]),
    (fb.SGD(0.1, momentum=0.5), [G, G, H], [[0.95, -2.1], [0.875, -2.25], [0.9375, -2.325]]),
    (fb.SGD(0.1, momentum=0.5, nesterov=True), [G, G], [[0.925, -2.15], [0.8375, -2.325]]),
    (fb.SGD(0.1, weight_decay=0.2), [G, H], [[0.93, -2.06], [1.0114, -2.0188]]),
    (fb.SGD(0.1, momentum=0.5, weight_decay=0.2), [G, G],
     [[0.93, -2.06], [0.8264, -2.1488]]),
    # M = (0.25, 0.5), V = (0.0625, 0.25): M̂ = (0.5, 1), √V̂ = (0.5, 1)
    # then M = (-0.375, 0.25), V = (0.296875, 0.1875): M̂ = M / 0.75, V̂ = V / 0.4375
    (fb.Adam(0.1, 0.5, 0.75, epsilon=0.5), [G, H],
     [[1 - 0.1 * 0.5 / 1, -2 - 0.1 * 1 / 1.5],
      [0.95 + 0.1 * 0.5 / (math.sqrt(0.296875 / 0.4375) + 0.5),
       -2 - 0.1 / 1.5 - 0.1 / 3 / (math.sqrt(0.1875 / 0.4375) + 0.5)]]),
    # epsilon is added to √V = (0.25, 0.5), then (√0.296875, √0.1875); the step is
    # 0.1 √0.25 / 0.5 = 0.1, then 0.1 √0.4375 / 0.75
    (fb.Adam(0.1, 0.5, 0.75, epsilon=0.5, epsilon_hat=True), [G, H],
     [[1 - 0.1 * 0.25 / 0.75, -2 - 0.1 * 0.5 / 1],
      [1 - 0.1 / 3 + 0.1 * math.sqrt(0.4375) / 0.75 * 0.375 / (math.sqrt(0.296875) + 0.5),
       -2.05 - 0.1 * math.sqrt(0.4375) / 0.75 * 0.25 / (math.sqrt(0.1875) + 0.5)]]),
    (fb.AdamW(0.1, 0.5, 0.75, epsilon=0.5, weight_decay=0.25, epsilon_hat=True), [G],
     [[1 * 0.975 - 0.1 * 0.25 / 0.75, -2 * 0.975 - 0.1 * 0.5 / 1]]),
    # Without friction the velocity is the sum of all steps.
    (fb.SGD(0.1, momentum=1), [G, G, H], [[0.95, -2.1], [0.85, -2.3], [0.85, -2.5]]),
    (fb.SGD(0.1, momentum=1, nesterov=True), [G, G], [[0.9, -2.2], [0.75, -2.5]]),
    # g = (0.5, 1) + 0.25 (1, -2) = (0.75, 0.5): at the first step M̂ = g and √V̂ = |g|
    (fb.Adam(0.1, epsilon=0.25, weight_decay=0.25), [G],
     [[1 - 0.1 * 0.75 / 1, -2 - 0.1 * 0.5 / 0.75]]),
    (fb.AdamW(0.1, epsilon=0.5, weight_decay=0.25), [G],
     [[1 * 0.975 - 0.1 * 0.5 / 1, -2 * 0.975 - 0.1 * 1 / 1.5]]),
    (fb.AdamW(0.1), [[0, 0]], [[0.999, -1.998]]),
    # U = sign(0.25 M + 0.75 g): of g, and then of 0.25 (0.125, 0.25) + 0.75 (-1, 0)
    (fb.Lion(0.1, 0.25, 0.75), [G, H], [[0.9, -2.1], [1.0, -2.2]]),
    (fb.Lion(0.1, 0.25, 0.75, weight_decay=0.5), [G], [[0.95 - 0.1, -1.9 - 0.1]]),
    (fb.Lion(0.1), [[0, -3]], [[1.0, -1.9]]),
    # The first step is Adam's.
    (fb.ScheduleFreeAdamW(0.1, epsilon=0.5), [G], [[1 - 0.1 * 0.5 / 1, -2 - 0.1 * 1 / 1.5]]),
]


@each(("optimizer", "gradients", "expected"), WORKED)
def test_worked_by_hand(dtype, optimizer, gradients, expected):
    got = steps(copy.deepcopy(optimizer), [1, -2], gradients, dtype)
    np.testing.assert_allclose(got, expected, rtol=10 * np.finfo(dtype).eps)


def test_every_update_is_worked_by_hand():
    worked = {optimizer.operation for optimizer, *_ in WORKED}
    assert worked | {"muon"} == set(ops.UPDATES)  # of matrices: test_muon.py


def test_adam_takes_beta1_and_beta2_for_what_they_are():
    """With β₁ = 0 the numerator is g itself; with β₂ = 0 the denominator is |g|."""
    assert steps(fb.Adam(1, beta1=0, beta2=0, epsilon=1e-300), [0, 0], [[3, -4], [-5, 6]]) == [
        [-1, 1], [0, 0]]


rates, shares, decays = st.floats(1e-4, 0.5), st.floats(0, 0.99), st.floats(0, 0.3)
momenta = st.one_of(shares, st.just(1.0))
seeds = st.integers(0, 10**6)


@settings(max_examples=40)
@given(rates, momenta, st.booleans(), decays, seeds)
def test_sgd_over_twenty_steps(dtype, rate, momentum, nesterov, decay, seed):
    rng = np.random.default_rng(seed)
    P = rng.normal(size=5).astype(dtype).astype(float)
    gradients = rng.normal(size=(20, 5)).astype(dtype)
    got = steps(fb.SGD(rate, momentum, nesterov, decay), P, gradients, dtype)
    V = np.zeros(5)
    for gradient in gradients:
        g = gradient + decay * P
        V = momentum * V - rate * g
        P = P + momentum * V - rate * g if nesterov else P + V
    scale = max(1.0, abs(P).max())
    np.testing.assert_allclose(got[-1], P, rtol=0, atol=1e4 * np.finfo(dtype).eps * scale)


@settings(max_examples=40)
@given(st.sampled_from([fb.Adam, fb.AdamW]), rates, shares, shares, decays, st.booleans(), seeds)
def test_adam_over_twenty_steps(dtype, kind, rate, beta1, beta2, decay, hat, seed):
    rng = np.random.default_rng(seed)
    P = rng.normal(size=5).astype(dtype).astype(float)
    gradients = rng.normal(size=(20, 5)).astype(dtype)
    optimizer = kind(rate, beta1, beta2, epsilon=1e-3, weight_decay=decay, epsilon_hat=hat)
    got = steps(optimizer, P, gradients, dtype)
    M = V = np.zeros(5)
    for t, gradient in enumerate(gradients, start=1):
        g = gradient + decay * P if kind is fb.Adam else gradient
        P = P - rate * decay * P if kind is fb.AdamW else P
        M = beta1 * M + (1 - beta1) * g
        V = beta2 * V + (1 - beta2) * g**2
        if hat:
            P = P - rate * np.sqrt(1 - beta2**t) / (1 - beta1**t) * M / (np.sqrt(V) + 1e-3)
        else:
            P = P - rate * (M / (1 - beta1**t)) / (np.sqrt(V / (1 - beta2**t)) + 1e-3)
    scale = max(1.0, abs(P).max())  # of what a quotient by a small root may amplify
    np.testing.assert_allclose(got[-1], P, rtol=0, atol=1e5 * np.finfo(dtype).eps * scale)


# Clipping


@given(
    rate=st.floats(1e-4, 0.5), beta1=st.floats(0, 0.99), beta2=st.floats(0, 0.99),
    decay=st.sampled_from([0.0, 0.1]), seed=st.integers(0, 99),
)
@settings(max_examples=20)
def test_lion_over_twenty_steps(rate, beta1, beta2, decay, seed):
    rng = np.random.default_rng(seed)
    P, M, gradients = rng.normal(size=37), np.zeros(37), rng.normal(size=(20, 37))
    found = steps(fb.Lion(rate, beta1, beta2, decay), P, gradients)
    for g, after in zip(gradients, found, strict=True):
        P = P - rate * (np.sign(beta1 * M + (1 - beta1) * g) + decay * P)
        M = beta2 * M + (1 - beta2) * g
        np.testing.assert_allclose(after, P, rtol=1e-12, atol=1e-12)


@each("make", [fb.SGD, fb.Adam, fb.AdamW])
def test_clipping_scales_the_whole_gradient_down_to_the_norm(dtype, make):
    gradients = np.array([3, 0, -4], dtype)
    make(0.1, clip_norm=0.5).step(np.zeros(3, dtype), gradients)
    np.testing.assert_allclose(gradients, [0.3, 0, -0.4], rtol=4 * np.finfo(dtype).eps)


def test_clipping_leaves_short_gradients_alone(dtype):
    gradients = np.array([3, 0, -4], dtype)
    fb.SGD(0.1, clip_norm=5).step(np.zeros(3, dtype), gradients)
    assert gradients.tolist() == [3, 0, -4]


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=9), st.floats(1e-3, 1e3))
def test_clipping_bounds_the_step(dtype, gradients, clip_norm):
    (after,) = steps(fb.SGD(1, clip_norm=clip_norm), np.zeros(len(gradients)), [gradients], dtype)
    bound = min(clip_norm, np.linalg.norm(gradients))
    assert np.linalg.norm(after) == pytest.approx(bound, rel=1e-5, abs=1e-20)


# State


def test_state_belongs_to_one_set_of_parameters():
    a, b, g = np.ones(2), np.ones(2), np.array([1.0, -1])
    optimizer = fb.SGD(0.1, momentum=0.9)
    assert (optimizer.state, optimizer.steps) == ({}, 0)
    optimizer.step(a, g)
    optimizer.step(a, g)
    assert optimizer.steps == 2
    np.testing.assert_allclose(optimizer.state["velocity"], -0.19 * g)
    optimizer.step(b, g)
    assert optimizer.steps == 1
    np.testing.assert_allclose(b, 1 - 0.1 * g)


def test_state_goes_on_through_another_view_of_the_same_memory():
    whole, g = np.ones(2), np.array([1.0, -1])
    optimizer = fb.SGD(0.1, momentum=0.9)
    for _ in range(2):
        optimizer.step(whole.reshape(2), g)
    assert optimizer.steps == 2
    np.testing.assert_allclose(whole, 1 - (0.1 + 0.19) * g)


@each(
    ("optimizer", "names"),
    [(fb.SGD(), []), (fb.SGD(momentum=0.9), ["velocity"]), (fb.Adam(), ["m", "v"]),
     (fb.AdamW(), ["m", "v"])],
)
def test_state_is_one_array_for_each_memory(dtype, optimizer, names):
    steps(optimizer, np.ones(3), np.ones((1, 3)), dtype)
    assert list(optimizer.state) == names
    assert all(a.shape == (3,) and a.dtype == dtype for a in optimizer.state.values())


@pytest.mark.parametrize(
    "duplicate", [copy.copy, copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))]
)
def test_a_copy_has_the_settings_and_no_state(duplicate):
    optimizer = fb.AdamW(0.01, beta1=0.8, clip_norm=2)
    steps(optimizer, np.ones(3), np.ones((4, 3)))
    clone = duplicate(optimizer)
    assert repr(clone) == repr(optimizer)
    assert (clone.state, clone.steps) == ({}, 0)
    assert steps(clone, np.ones(3), np.ones((2, 3))) == steps(
        fb.AdamW(0.01, beta1=0.8, clip_norm=2), np.ones(3), np.ones((2, 3)))
    assert optimizer.steps == 4


def test_the_schedule_gives_each_steps_rate():
    optimizer = fb.SGD(lambda epoch: 1 / (1 + epoch))
    parameters = np.zeros(1)
    for epoch in (0, 1, 3):
        optimizer.step(parameters, np.ones(1), epoch)
    assert parameters.tolist() == [-(1 + 1 / 2 + 1 / 4)]


def test_an_optimizer_of_ones_own(rng):
    class Signs(fb.Optimizer):
        def update(self, parameters, gradients, learning_rate):
            parameters -= learning_rate * np.sign(gradients)

    X = rng.normal(size=(50, 2))
    net = fb.mlp([2, 1], seed=0)
    net.fit(X, X @ [1, -2], loss=fb.MeanSquaredError(), optimizer=Signs(0.02), epochs=80, seed=0)
    np.testing.assert_allclose(net.layers[0].W.ravel(), [1, -2], atol=0.1)
    with pytest.raises(NotImplementedError, match="Optimizer needs update"):
        fb.Optimizer(0.1).step(np.ones(1), np.ones(1))


def test_epsilon_hat_goes_with_a_copy():
    for duplicate in (copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))):
        clone = duplicate(fb.AdamW(epsilon=0.1, epsilon_hat=True))
        assert clone.epsilon_hat is True
        assert "epsilon_hat=True" in repr(clone)
    assert fb.Adam().epsilon_hat is False


def test_representation():
    assert repr(fb.SGD(0.5)) == ("SGD(learning_rate=0.5, weight_decay=0.0, clip_norm=None, "
                                 "momentum=0.0, nesterov=False)")


# Bad input


@each(
    ("make", "error", "message"),
    [
        (lambda: fb.SGD(-0.1), ValueError, "learning_rate: .*at least 0.*got -0.1"),
        (lambda: fb.Adam(math.nan), ValueError, "learning_rate: .*finite.*got nan"),
        (lambda: fb.AdamW(math.inf), ValueError, "learning_rate: .*finite.*got inf"),
        (lambda: fb.SGD("0.1"), TypeError, "learning_rate: .*number, got '0.1'"),
        (lambda: fb.SGD(None), TypeError, "learning_rate: .*got None"),
        (lambda: fb.SGD(10**400), ValueError, "learning_rate: .*finite"),
        (lambda: fb.SGD(momentum=1.5), ValueError, "momentum: .*at most 1, got 1.5"),
        (lambda: fb.SGD(momentum=-0.5), ValueError, "momentum: .*at least 0"),
        (lambda: fb.SGD(weight_decay=-1), ValueError, "weight_decay: .*at least 0"),
        (lambda: fb.SGD(clip_norm=0), ValueError, "clip_norm: .*above 0, got 0"),
        (lambda: fb.Adam(beta1=1), ValueError, "beta1: .*below 1"),
        (lambda: fb.Adam(beta2=1.5), ValueError, "beta2: .*below 1"),
        (lambda: fb.Adam(epsilon=0), ValueError, "epsilon: .*above 0"),
    ],
)
def test_a_bad_setting_is_named(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


NO_BOOLEANS = ["False", "", None, 0, 1, 1.0, [], {}, np.array([True, False]), np.array(True)]


@each("value", NO_BOOLEANS, ids=repr)
@each(("make", "name"), [
    (fb.SGD, "nesterov"), (fb.Adam, "epsilon_hat"), (fb.AdamW, "epsilon_hat")])
def test_what_is_neither_true_nor_false(make, name, value):
    with pytest.raises(TypeError, match=f"^{name}: expected True or False, got "):
        make(**{name: value})
    optimizer = make(**{name: True})
    with pytest.raises(TypeError, match=f"^{name}: expected True or False, got "):
        setattr(optimizer, name, value)
    assert getattr(optimizer, name) is True
    setattr(optimizer, name, np.False_)
    assert getattr(optimizer, name) is False


@each(("name", "value", "error", "message"), [
    ("steps", -1, ValueError, "expected a whole number of at least 0, got -1"),
    ("steps", 2**62 + 1, ValueError, "expected a whole number of at most"),
    ("steps", True, ValueError, "expected a whole number"),
    ("steps", 1.0, TypeError, "expected a whole number, got 1.0"),
    ("steps", None, TypeError, "expected a whole number, got None"),
    ("state", None, TypeError, "expected a dict of arrays by name, got a NoneType"),
    ("state", [np.ones(2)], TypeError, "expected a dict of arrays by name, got a list"),
])
def test_a_bad_step_count_or_state_is_refused_when_it_is_set(name, value, error, message):
    optimizer, parameters = fb.Adam(0.1), np.ones(2)
    optimizer.step(parameters, np.ones(2))
    state = optimizer.state
    with pytest.raises(error, match=f"^{name}: {message}"):
        setattr(optimizer, name, value)
    assert optimizer.steps == 1
    assert optimizer.state is state
    optimizer.step(parameters, np.ones(2))
    assert optimizer.steps == 2


@each(("state", "steps", "error", "message"), [
    (None, 1, TypeError, "state: expected a dict"),
    ({"m": [1, 2]}, 1, TypeError, r"state\['m'\]: expected a float32 or float64 array"),
    ({"m": np.ones(2, "f4")}, 1, TypeError, r"state\['m'\]: expected dtype float64"),
    ({"m": np.ones(3)}, 1, ValueError, r"state\['m'\]: expected shape \(2,\)"),
    ({}, -1, ValueError, "steps: expected a whole number of at least 0"),
])
def test_a_state_that_cannot_be_resumed(state, steps, error, message):
    optimizer, parameters = fb.Adam(0.1), np.ones(2)
    optimizer.step(parameters, np.ones(2))
    before = optimizer.state
    with pytest.raises(error, match=f"^{message}"):
        optimizer.resume(parameters, state, steps)
    assert optimizer.state is before
    assert optimizer.steps == 1


NO_GRADIENTS = [
    (None, TypeError, "gradients: expected a float32 or float64 array"),
    ("a", TypeError, "gradients: expected a float32 or float64 array"),
    ([1, 2, 3], TypeError, "gradients: expected a float32 or float64 array"),
    ([[1.0], [2.0, 3.0]], ValueError, "gradients: expected an array of numbers"),
    (np.full(3, 9, "f4"), TypeError, "gradients: expected dtype float64"),
    (np.full(2, 9.0), ValueError, r"gradients: expected shape \(3,\) like parameters"),
    (np.full((3, 1), 9.0), ValueError, "gradients: expected 1 dimension"),
    (np.float64(9.0), ValueError, "gradients: expected 1 dimension"),
]


@each(("gradients", "error", "message"), NO_GRADIENTS)
@each("clip_norm", [None, 1.0])
@each("make", [fb.SGD, fb.Adam])
def test_gradients_that_do_not_fit_are_named(make, clip_norm, gradients, error, message):
    optimizer, parameters = make(0.1, clip_norm=clip_norm), np.ones(3)
    optimizer.step(parameters, np.ones(3))
    before, state = parameters.copy(), copy.deepcopy(optimizer.state)
    for others in (parameters, np.ones(3)):
        with pytest.raises(error, match=f"^{message}"):
            optimizer.step(others, gradients)
    assert (parameters == before).all()
    assert optimizer.steps == 1  # on the first parameters, still
    np.testing.assert_equal(optimizer.state, state)


@each("make", [list, tuple, lambda g: np.repeat(g, 2)[::2],
               lambda g: np.frombuffer(g.tobytes())])
@each("clip_norm", [None, 0.5])
def test_gradients_that_can_only_be_read(make, clip_norm):
    gradients, parameters, expected = np.array([3.0, 0, -4]), np.ones(3), np.ones(3)
    fb.SGD(0.1, clip_norm=clip_norm).step(parameters, make(gradients))
    fb.SGD(0.1, clip_norm=clip_norm).step(expected, gradients)
    assert (parameters == expected).all()


@pytest.mark.parametrize("parameters", [np.ones((3, 1)), np.float64(1.0), np.array(1.0)])
def test_parameters_of_another_number_of_dimensions(parameters):
    optimizer = fb.Adam(0.1)
    with pytest.raises((TypeError, ValueError), match=r"^parameters: expected"):
        optimizer.step(parameters, np.ones(3))
    assert optimizer.steps == 0
    assert optimizer.state == {}


@each(
    ("parameters", "gradients", "error", "message"),
    [
        (np.ones(3), np.ones(2), ValueError, r"gradients: expected shape \(3,\)"),
        (np.ones(3), np.ones(3, "f4"), TypeError, "gradients: expected dtype float64"),
        (np.ones((3, 1)), np.ones((3, 1)), ValueError,
         r"parameters: .*one dimension.*got \(3, 1\); pass a flat view"),
        (np.ones(3, int), np.ones(3, int), TypeError, "gradients|parameters"),
        ([1.0], [1.0], TypeError, "parameters: expected a numpy.ndarray"),
    ],
)
@each("make", [fb.SGD, fb.Adam, lambda: fb.SGD(momentum=0.9)])
def test_a_step_on_arrays_that_do_not_fit(make, parameters, gradients, error, message):
    before = np.array(parameters)
    with pytest.raises(error, match=message):
        make().step(parameters, gradients)
    assert np.array_equal(parameters, before)


# Groups of parameters, and averages of them


def a_training(optimizer, dtype="float64", **options):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 5)), np.arange(90) % 3
    net = fb.Sequential([fb.Dense(5, 8), fb.LayerNorm(8), fb.Tanh(), fb.Dense(8, 3)], dtype, seed=0)
    history = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=3,
                      batch_size=20, seed=0, **options)
    return net, history, X, y


def test_a_group_that_says_nothing_changes_no_bit():
    plain, *_ = a_training(fb.Adam(0.01, weight_decay=0.1))
    grouped, *_ = a_training(fb.Adam(0.01, weight_decay=0.1, groups=[
        fb.Group("b"), fb.Group(fb.LayerNorm, learning_rate=0.01, weight_decay=0.1)]))
    assert grouped.parameters.tobytes() == plain.parameters.tobytes()


def test_groups_have_rates_and_decays_of_their_own():
    """Each parameter goes as in a training where all have its settings, for the first step."""
    X, y = np.eye(5), np.arange(5) % 3

    def step(**options):
        net = fb.Sequential([fb.Dense(5, 8), fb.LayerNorm(8), fb.Dense(8, 3)], "float64", seed=0)
        net.parameters[...] += 0.1
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.AdamW(**options), epochs=1,
                batch_size=5, seed=0)
        return net.layers

    grouped = step(learning_rate=0.01, weight_decay=0.1, groups=[
        fb.Group("b", weight_decay=0), fb.Group(fb.LayerNorm, learning_rate=lambda epoch: 0.5),
        fb.Group(lambda layer, name: layer.n_in == 8 and name == "W", learning_rate=0.0)])
    usual, undecayed = step(learning_rate=0.01, weight_decay=0.1), step(learning_rate=0.01,
                                                                        weight_decay=0)
    fast = step(learning_rate=0.5, weight_decay=0.1)
    start = fb.Sequential([fb.Dense(5, 8), fb.LayerNorm(8), fb.Dense(8, 3)], "float64", seed=0)
    np.testing.assert_array_equal(grouped[0].W, usual[0].W)
    np.testing.assert_array_equal(grouped[0].b, undecayed[0].b)
    np.testing.assert_array_equal(grouped[1].gamma, fast[1].gamma)
    np.testing.assert_array_equal(grouped[2].W, start.layers[2].W + 0.1)
    assert not np.array_equal(grouped[0].b, usual[0].b)


def test_groups_by_hand():
    net, *_ = a_training(fb.SGD(0.1))
    optimizer = fb.SGD(0.1, momentum=0.9, groups=[fb.Group("b", learning_rate=0.0)])
    with pytest.raises(RuntimeError, match=r"optimizer\.assign\(network\)"):
        optimizer.step(net.parameters, net.gradients)
    optimizer.assign(net)
    before = net.parameters.copy()
    biases, weights = net.layers[0].b.copy(), net.layers[0].W.copy()
    net.gradients[:] = 1
    optimizer.step(net.parameters, net.gradients)
    np.testing.assert_array_equal(net.layers[0].b, biases)
    np.testing.assert_allclose(net.layers[0].W, weights - 0.1)
    assert (net.parameters != before).any()
    assert "groups=[Group(parameters='b', learning_rate=0.0)]" in repr(optimizer)


@each(("make", "error"), [
    (lambda: fb.Group(3), TypeError), (lambda: fb.Group("b", learning_rate=-1), ValueError),
    (lambda: fb.Group("b", weight_decay="x"), TypeError),
    (lambda: fb.Adam(groups=[3]), TypeError), (lambda: fb.Adam(groups=fb.Group("b")), TypeError),
])
def test_groups_that_are_none(make, error):
    with pytest.raises(error, match="expected"):
        make()


def test_an_exponential_moving_average_of_the_weights():
    seen = []

    class Watch(fb.SGD):
        def update(self, parameters, gradients, learning_rate):
            super().update(parameters, gradients, learning_rate)
            seen.append(parameters.copy())

    start = fb.Sequential([fb.Dense(5, 8), fb.LayerNorm(8), fb.Tanh(), fb.Dense(8, 3)], "float64",
                          seed=0).parameters.copy()
    watched, *_ = a_training(Watch(0.1), ema=0.8, validation_data=(np.eye(5), np.zeros(5)))
    average = start
    for parameters in seen:
        average = 0.8 * average + 0.2 * parameters
    np.testing.assert_allclose(watched.parameters, average, rtol=1e-12)
    net, history, *_ = a_training(fb.SGD(0.1), ema=0.8,
                                  validation_data=(np.eye(5), np.zeros(5)))
    assert net.parameters.tobytes() == watched.parameters.tobytes()
    scores = net.evaluate(np.eye(5), np.zeros(5), loss=fb.SoftmaxCrossEntropy())
    assert history["val_loss"][-1] == scores["loss"]  # of the average


def test_no_average_changes_how_a_training_goes():
    """It is kept beside the parameters, which go on from where they were."""
    losses = [a_training(fb.Adam(0.01), **options)[1]["loss"] for options in ({}, {"ema": 0.9})]
    assert losses[0] == losses[1]


def test_schedule_free_evaluates_and_ends_with_the_mean():
    optimizer = fb.ScheduleFreeAdamW(0.01, weight_decay=0.01)
    net, history, X, y = a_training(optimizer, validation_data=(np.eye(5), np.zeros(5)))
    np.testing.assert_array_equal(net.parameters, optimizer.state["x"])
    scores = net.evaluate(np.eye(5), np.zeros(5), loss=fb.SoftmaxCrossEntropy())
    assert history["val_loss"][-1] == scores["loss"]
    # It goes on from where gradients were taken.
    again = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=20, seed=1)
    assert again["loss"][-1] < history["loss"][-1]
    with pytest.raises(ValueError, match=r"^ema: expected None with ScheduleFreeAdamW"):
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, ema=0.9)


@pytest.mark.parametrize("make", [
    lambda: {"optimizer": fb.Adam(0.01), "ema": 0.9},
    lambda: {"optimizer": fb.ScheduleFreeAdamW(0.01)},
    lambda: {"optimizer": fb.Lion(1e-3, groups=[fb.Group("b", weight_decay=0.1)])},
])
def test_a_training_with_averages_or_groups_is_resumed(make, tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(90, 5)), np.arange(90) % 3

    def fit(epochs, folder=None, **more):
        net = fb.mlp([5, 8, 3], seed=0)
        options = make() | more
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=epochs, seed=0, checkpoint=folder,
                **options)
        return net.parameters.tobytes(), options["optimizer"].state

    whole, state = fit(5)
    fit(2, tmp_path)
    resumed, resumed_state = fit(5, tmp_path, resume=True)
    assert resumed == whole
    for name, array in state.items():
        assert array.tobytes() == resumed_state[name].tobytes(), name


@each("options", [
    lambda: {"optimizer": fb.ScheduleFreeAdamW(1e-3)},
    lambda: {"optimizer": fb.Adam(1e-3), "ema": 0.5},
])
@each("when", ["between", "on_train_begin", "on_epoch_end"])
def test_averages_begin_anew_where_somebody_sets_the_weights(options, when):
    X, Y, options = np.ones((64, 4)), np.ones((64, 2)), options()
    net = fb.Sequential([fb.Dense(4, 2)], seed=0)

    class Zero(fb.Callback):
        def on_train_begin(self, training):
            if when == "on_train_begin":
                net.parameters[...] = 0

        def on_epoch_end(self, training):
            if when == "on_epoch_end" and training.epoch == 0:
                net.parameters[...] = 0

    if when == "between":
        net.fit(X, Y, loss=fb.MeanSquaredError(), epochs=2, **options)
        net.parameters[...] = 0
    net.fit(X, Y, loss=fb.MeanSquaredError(), epochs=2, batch_size=64, callbacks=[Zero()],
            **options)
    assert 0 < abs(net.parameters).max() < 0.01


def test_a_wrong_average_changes_no_weight():
    net = fb.Sequential([fb.Dense(4, 2)], seed=0)

    def spoil(training):
        training.optimizer.state["x"] = np.zeros(1, "f4")

    with pytest.raises(ValueError, match=r"^state\['x'\]"):
        net.fit(np.ones((8, 4)), np.ones((8, 2)), loss=fb.MeanSquaredError(), epochs=3,
                optimizer=fb.ScheduleFreeAdamW(), callbacks=[spoil])
    assert abs(net.parameters).max() > 0.1


def test_a_group_of_nothing():
    optimizer = fb.Adam()
    optimizer.groups = [fb.Group("bias", learning_rate=9.0)]
    with pytest.raises(ValueError, match=r"^groups: .*'bias'.*which includes none"):
        a_training(optimizer)
