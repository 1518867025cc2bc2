"""A training that diverges stops with the last finite weights."""

import math

import numpy as np
import pytest

import fastbp as fb

from .fits import SQUARED, numbers, record


class Turns(fb.MeanSquaredError):
    """Fine for three batches, then the value or the gradient is not."""

    def __init__(self, value=1.0, gradient=1.0):
        self.after = iter([(1.0, 1.0)] * 3 + [(value, gradient)])

    def __call__(self, Z, y, sample_weight=None):
        value, gradient = next(self.after)
        return value, np.full_like(Z, gradient)


DIVERGES = {
    "SGD": lambda: (fb.SGD(1e4), SQUARED),
    "enormous rate": lambda: (fb.SGD(1e300), SQUARED),
    "momentum": lambda: (fb.SGD(1e3, momentum=0.9, nesterov=True), SQUARED),
    "Adam": lambda: (fb.Adam(1e200), SQUARED),
    "AdamW": lambda: (fb.AdamW(1e20, weight_decay=1e10), SQUARED),
    "L2": lambda: (fb.SGD(0.1, weight_decay=1e30), SQUARED),
    "decay": lambda: (fb.SGD(1e-3, weight_decay=1e300), SQUARED),
    "schedule": lambda: (fb.SGD(lambda t: 10.0 ** (40 * t)), SQUARED),
    "loss": lambda: (fb.SGD(0.01), Turns(value=math.nan)),
    "gradient": lambda: (fb.SGD(0.01), Turns(gradient=math.inf)),
}


@pytest.mark.parametrize("case", DIVERGES)
def test_divergence_stops_with_the_last_finite_weights(dtype, case):
    rng = np.random.default_rng(0)
    X, Y = 10 * rng.normal(size=(20, 2)), rng.normal(size=(20, 2))

    def diverge(watch):
        net = fb.mlp([2, 4, 2], "relu", dtype=dtype, seed=0)
        start = net.parameters.copy()
        optimizer, loss = DIVERGES[case]()
        watch(optimizer)
        with pytest.raises(FloatingPointError, match=r"step \d+ .*smaller learning rate") as error:
            net.fit(X, Y, loss=loss, optimizer=optimizer, epochs=2000, batch_size=8, seed=1)
        return net, optimizer, str(error.value), start

    net, optimizer, message, _ = diverge(lambda optimizer: None)
    _, recorded, the_same, start = diverge(record)
    assert message == the_same
    assert np.isfinite(net.parameters).all()
    step = int(message.split("step ")[1].split()[0])
    epoch, batch = divmod(step - 1, 3)
    assert f"(epoch {epoch + 1}, batch {batch + 1} of 3)" in message
    last = [start, *recorded.after][step - 1]
    assert net.parameters.tobytes() == last.tobytes(), "not the weights from before this step"
    assert optimizer.steps == step - 1
    assert all(np.isfinite(array).all() for array in optimizer.state.values())
    assert len(net.history["loss"]) == epoch
    assert np.isfinite(net.history["loss"]).all()


@pytest.mark.parametrize("make", [lambda: fb.SGD(1e39), lambda: fb.Adam(1e39),
                                  lambda: fb.SGD(0.1, weight_decay=1e39),
                                  lambda: fb.AdamW(0.1, weight_decay=1e41),
                                  lambda: fb.Adam(epsilon=1e-50),
                                  lambda: fb.Adam(epsilon=1e-50, epsilon_hat=True),
                                  lambda: fb.Adam(epsilon=1e300, epsilon_hat=True)],
                         ids=["SGD", "Adam", "L2", "decay", "epsilon", "epsilon hat", "enormous"])
def test_settings_beyond_float32_make_no_nan(make):
    """They round to infinity or 0, and 0 times infinity, or 0 / 0, is NaN."""
    net = fb.Sequential([fb.Dense(2, 2, init=lambda rng, n_in, n_out: np.zeros((n_in, n_out)))])
    X = np.array([[0, 1], [0, 2]])  # the first input's weights have no gradient
    for Y in (np.zeros((2, 2)), np.ones((2, 2))):
        try:
            net.fit(X, Y, loss=SQUARED, optimizer=make(), epochs=2)
        except FloatingPointError:
            pass
        except ValueError as error:
            assert "epsilon" in str(error) or "weight_decay" in str(error) \
                or "learning_rate" in str(error)
        assert np.isfinite(net.parameters).all()


def test_after_divergence_the_same_optimizer_can_train():
    """Its memory of the squares, once infinite, would make every later step 0."""
    X, Y = numbers()
    net, optimizer = fb.mlp([2, 2], seed=0), fb.Adam(0.01)
    with pytest.raises(FloatingPointError, match="diverged at step 1 "):
        net.fit(X * 1e18, Y * 1e18, loss=SQUARED, optimizer=optimizer)
    before = net.evaluate(X, X, loss=SQUARED)["loss"]
    net.fit(X, X, loss=SQUARED, optimizer=optimizer, epochs=100)
    assert net.evaluate(X, X, loss=SQUARED)["loss"] < 0.8 * before
