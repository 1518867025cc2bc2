"""Learning-rate schedules against their formulas."""

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import fastbp as fb
from fastbp.schedules import Constant, Cosine, Exponential, InverseScaling, Step

rates = st.floats(1e-6, 10)
times = st.floats(0, 100)


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Constant(0.3), {0: 0.3, 2.5: 0.3, 1000: 0.3}),
        (Step(0.8, every=2, factor=0.5), {0: 0.8, 1.99: 0.8, 2: 0.4, 3.5: 0.4, 4: 0.2, 6: 0.1}),
        (Step(1, every=10), {9.5: 1, 10: 0.1, 20: 0.01}),
        (Step(1, every=0.5, factor=0), {0.25: 1, 0.5: 0, 7: 0}),
        (Exponential(0.4, 0.25), {0: 0.4, 0.5: 0.2, 1: 0.1, 2: 0.025}),
        (InverseScaling(0.6), {0: 0.6, 3: 0.3, 8: 0.2}),
        (InverseScaling(0.6, power=1), {0: 0.6, 1: 0.3, 5: 0.1}),
        (InverseScaling(0.6, power=0), {0: 0.6, 5: 0.6}),
        (Cosine(1, epochs=4), {0: 1, 1: (1 + math.sqrt(0.5)) / 2, 2: 0.5, 4: 0, 9: 0}),
        (
            Cosine(0.5, epochs=6, warm_up=2, final=0.1),
            {0: 0, 0.5: 0.125, 1: 0.25, 2: 0.5, 4: 0.3, 6: 0.1, 60: 0.1},
        ),
    ],
    ids=repr,
)
def test_worked_by_hand(schedule, values):
    for epoch, expected in values.items():
        assert schedule(epoch) == pytest.approx(expected, rel=1e-14, abs=1e-15), epoch


@given(rates, st.floats(0.01, 2), times)
def test_exponential(rate, factor, t):
    assert Exponential(rate, factor)(t) == pytest.approx(rate * factor**t, rel=1e-12)


@given(rates, st.floats(0, 3), times)
def test_inverse_scaling(rate, power, t):
    assert InverseScaling(rate, power)(t) == pytest.approx(rate / (1 + t) ** power, rel=1e-13)


@given(rates, st.floats(1, 50), st.floats(0, 0.99), st.floats(0, 1), times)
@example(1.0, 1.0, 0.0, 0.0, 1.0)
@example(0.1, 20.0, 0.0, 0.0, 30.0)
def test_cosine(rate, epochs, warm_share, final, t):
    warm_up = warm_share * epochs
    if t < warm_up:
        expected = rate * t / warm_up
    else:
        progress = min(1, (t - warm_up) / (epochs - warm_up))
        expected = final + (rate - final) * (1 + math.cos(math.pi * progress)) / 2
    got = Cosine(rate, epochs, warm_up, final)(t)
    assert got == pytest.approx(expected, rel=1e-13, abs=1e-14)
    assert got >= 0


def test_an_optimizer_takes_a_number_a_schedule_or_any_callable():
    assert fb.SGD(0.2).rate(7.5) == 0.2
    assert fb.SGD(Step(0.2, every=1, factor=0.5)).rate(2.5) == 0.05
    assert fb.SGD(lambda t: 1 / (1 + t)).rate(3) == 0.25
    assert fb.SGD(lambda t: np.float32(0.5)).rate(3) == 0.5


@pytest.mark.parametrize(
    ("value", "error"),
    [(-0.1, ValueError), (math.nan, ValueError), (math.inf, ValueError), ("fast", TypeError),
     (None, TypeError)],
)
def test_a_callable_that_returns_no_rate(value, error):
    parameters = np.ones(3)
    with pytest.raises(error, match=r"learning_rate at epoch 1.5"):
        fb.SGD(lambda t: value).step(parameters, np.ones(3), epoch=1.5)
    assert parameters.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Constant(-1), "learning_rate"),
        (lambda: Constant(math.inf), "learning_rate"),
        (lambda: Step(0.1, every=0), "every"),
        (lambda: Step(0.1, every=1, factor=-0.5), "factor"),
        (lambda: Exponential(0.1, 0), "factor"),
        (lambda: InverseScaling(0.1, power=math.nan), "power"),
        (lambda: Cosine(0.1, epochs=0), "epochs"),
        (lambda: Cosine(0.1, epochs=3, warm_up=3), "warm_up"),
        (lambda: Cosine(0.1, epochs=3, warm_up=-1), "warm_up"),
        (lambda: Cosine(0.1, epochs=3, final=-1), "final"),
    ],
)
def test_a_bad_argument_is_named(make, name):
    with pytest.raises(ValueError, match=f"^{name}: "):
        make()
