"""Gradients of weights that are computed in the update, a panel at a time: the same bits, and the
same promise that a training which diverges leaves its last finite weights."""

import contextlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, sampled_from

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch, step_checks, threads
from fastbp.program import cache, reference

from ..cases import each

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
ROWS = 40
OPTIMIZERS = {
    "sgd": lambda: fb.SGD(0.1), "decay": lambda: fb.SGD(0.1, weight_decay=0.01),
    "momentum": lambda: fb.SGD(0.1, momentum=0.9, nesterov=True), "adam": fb.Adam,
    "adamw": lambda: fb.AdamW(0.01, weight_decay=0.1), "lion": lambda: fb.Lion(0.01),
    "schedule-free": lambda: fb.ScheduleFreeAdamW(0.01),
    "groups": lambda: fb.Adam(groups=[fb.Group("b", learning_rate=0.1),
                                      fb.Group(fb.LayerNorm, weight_decay=0.1)]),
}


def data(n_in, dtype):
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, n_in)).astype(dtype), rng.integers(0, 3, ROWS)


def network(dtype="float32", n_in=70, hidden=65):
    return fb.Sequential([fb.Dense(n_in, hidden), fb.ReLU(), fb.LayerNorm(hidden),
                          fb.Dense(hidden, 33), fb.Tanh(), fb.Dense(33, 3)], dtype, seed=0)


def trained(net, X, y, optimizer=None, **options):
    """All that a training leaves behind."""
    optimizer = optimizer or fb.SGD(0.1)
    options = {"epochs": 3, "batch_size": 4, "seed": 0, "loss": fb.SoftmaxCrossEntropy()} | options
    history = net.fit(X, y, optimizer=optimizer, **options)
    return (net.parameters.tobytes(), net.gradients.tobytes(), net.buffers.tobytes(),
            {name: array.tobytes() for name, array in optimizer.state.items()},
            history["loss"], optimizer.steps)


def is_fused(net, batch_size):
    return net.programs.training(net.n_in, batch_size) is not net.programs.training(net.n_in, 999)


@contextlib.contextmanager
def unfused():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "MOST_ROWS_TO_FUSE", 0)
        yield patch


@pytest.fixture
def threads_for_any_work():
    before = threads.set_work_per_thread(0)
    yield
    threads.set_work_per_thread(before)


@each("make", OPTIMIZERS.values())
@each("dtype", ["float32", "float64"])
@each("l2", [0.0, 0.1])
def test_the_bits_of_updates_that_are_not_fused(make, dtype, l2):
    X, y = data(70, dtype)
    assert is_fused(network(dtype), 4)
    results = [trained(network(dtype), X, y, make(), l2=l2)]
    with unfused() as patch:
        assert not is_fused(network(dtype), 4)
        results.append(trained(network(dtype), X, y, make(), l2=l2))
        patch.setattr(training.run, "new_steps", reference.new_steps)
        results.append(trained(network(dtype), X, y, make(), l2=l2))
    assert results[0] == results[1] == results[2]


@pytest.mark.usefixtures("threads_for_any_work")
@each("isa", dispatch.available())
@each("n_threads", [1, 2, 3, 4])
@each("make", [fb.Adam, fb.SGD])
def test_the_same_bits_in_every_tier_and_number_of_threads(isa, n_threads, make):
    X, y = data(70, "float32")
    used = dispatch.isa()
    with unfused():
        expected = trained(network(), X, y, make(), l2=0.01, n_threads=1)
    try:
        dispatch.use(isa)
        assert trained(network(), X, y, make(), l2=0.01, n_threads=n_threads) == expected
    finally:
        dispatch.use(used)


@settings(max_examples=60, deadline=None)
@given(batch=integers(1, 10), n_in=integers(1, 40), hidden=sampled_from([1, 17, 64, 511, 600]),
       dtype=sampled_from(["float32", "float64"]), decay=sampled_from([0.0, 0.1]),
       l2=sampled_from([0.0, 0.1]))
def test_small_minibatches_with_sgd(batch, n_in, hidden, dtype, decay, l2):
    """Their gradients do not leave the registers, with up to 8 rows."""
    X, y = data(n_in, dtype)
    X[::3] = 0  # gradients of 0, of both signs
    X[:, -1] *= -1e-30 if dtype == "float32" else -1e-300  # and some that count as 0

    def result():
        net = fb.Sequential([fb.Dense(n_in, hidden), fb.ReLU(), fb.Dense(hidden, 3)], dtype,
                            seed=0)
        return trained(net, X, y, fb.SGD(0.1, weight_decay=decay), l2=l2, batch_size=batch,
                       epochs=2)

    fused = result()
    with unfused():
        assert result() == fused


@pytest.mark.usefixtures("threads_for_any_work")
@each("n_threads", [2, 4])
def test_a_metric_that_overwrites_the_gradient_of_the_outputs_waits(n_threads):
    """`record` writes exp(Z) where dZ was, from which other threads compute gradients."""
    X, y = data(2000, "float32")

    def weights(n_threads):
        net = fb.Sequential([fb.Dense(2000, 40)], seed=0)
        assert is_fused(net, 16) == (cache.MOST_ROWS_TO_FUSE > 0)
        net.fit(X / 20, np.tile(y[:, None], 40), loss=fb.PoissonDeviance(), epochs=2,
                batch_size=16, seed=0, n_threads=n_threads)
        return net.parameters.tobytes()

    with unfused():
        expected = weights(1)
    assert all(weights(n_threads) == expected for _ in range(5))


@each("column", [0, 70])
def test_an_infinite_weight_diverges_at_the_same_step(column):
    """Weight decay multiplies it by 0, in vectors of a few columns and of one."""
    def message():
        net = fb.Sequential([fb.Dense(40, 72), fb.ReLU(), fb.Dense(72, 3)], seed=0)
        net.layers[0].W[0, column] = -np.inf  # in a unit that is 0
        X = np.random.default_rng(0).random((6, 40)).astype("f4") + 0.1
        with pytest.raises(FloatingPointError) as caught:
            net.fit(X, [0, 1, 2] * 2, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(0.1),
                    batch_size=3, seed=0)
        return str(caught.value)

    fused = message()
    with unfused():
        assert message() == fused


def test_a_layer_in_python_that_changes_the_gradient_of_a_later_one():
    class Tied(fb.Layer):
        def __init__(self, other):
            super().__init__(n_in=30, n_out=30)
            self.others = [other]

        def forward(self, X, training=True):
            self.seen = X
            return X @ self.others[0].W

        def backward(self, dZ):
            self.others[0].dW[...] += self.seen.T @ dZ
            return dZ @ self.others[0].W.T

    X, y = data(30, "float32")

    def results():
        later = fb.Dense(30, 30)
        return trained(fb.Sequential([Tied(later), fb.Tanh(), later, fb.Dense(30, 3)], seed=0),
                       X, y)

    with unfused():
        expected = results()
    assert results() == expected


def test_a_penalty_that_overflows_is_found_before_the_weights_are_lost():
    X, y = data(30, "float32")
    net = fb.Sequential([fb.Dense(30, 20), fb.Tanh(), fb.Dense(20, 3)], seed=0)
    net.parameters[...] = 0
    with pytest.raises(FloatingPointError, match="step 1 "):
        trained(net, X, y, l2=1e9, sample_weight=np.full(ROWS, 1e-31, "f4"))
    assert not net.parameters.any()


@each("options", [
    {"optimizer": lambda: fb.SGD(0.1, clip_norm=0.1)}, {"gradient_norms": True},
    {"sample_weight": np.arange(ROWS) + 0.0}, {"ema": 0.9}, {"batch_size": 1},
    {"batch_size": 7}, {"epochs": 1, "batch_size": 40}, {"shuffle": False},
])
def test_the_same_bits_with_other_options(options):
    X, y = data(70, "float32")
    make = options.pop("optimizer", fb.Adam)
    fused = trained(network(), X, y, make(), **options)
    with unfused():
        assert trained(network(), X, y, make(), **options) == fused


@each("sizes", [[3, 40_000, 3], [40_000, 3], [300, 130, 3]])
def test_panels_of_one_row_and_of_many(sizes):
    """Rows that are longer than a panel, and panels of several rows that do not fill the last."""
    X, y = data(sizes[0], "float32")
    options = {"epochs": 1, "batch_size": 1}
    assert is_fused(fb.mlp(sizes), 1)
    fused = trained(fb.mlp(sizes, seed=0), X, y, fb.SGD(0.01, momentum=0.5), **options)
    with unfused():
        assert trained(fb.mlp(sizes, seed=0), X, y, fb.SGD(0.01, momentum=0.5), **options) == fused


def test_callers_see_the_last_steps_gradients():
    X, y = data(70, "float32")

    def seen():
        found = []
        net = network()
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=2, batch_size=4, seed=0,
                callbacks=[lambda run: found.append(run.network.gradients.tobytes())])
        return found, net.gradients.tobytes()

    fused = seen()
    with unfused():
        assert seen() == fused


# A training that diverges


def diverging(step, where, dtype):
    """Rows, of which that of one step makes something overflow, and a loss.

    With an enormous target it is the loss; with an enormous input the outputs; with a large one
    only the square of the gradient, which Adam keeps.
    """
    X = np.full((ROWS, 4), 0.5, dtype)
    y = np.zeros((ROWS, 2), dtype)
    largest = np.finfo(dtype).max
    if where == "target":
        y[step, 1] = largest / 8
        return X, y, fb.MeanSquaredError()
    X[step, 1] = largest / 8 if where == "input" else largest**0.7
    Z = fb.mlp([4, 30, 2], dtype=dtype, seed=0).predict(X[:, :4] / largest**0.7)
    return X, Z.argmin(axis=1), fb.SoftmaxCrossEntropy()  # labels that it gets wrong


@pytest.mark.usefixtures("threads_for_any_work")
@each("dtype", ["float32", "float64"])
@each("where", ["input", "target", "square"])
@each("step", [0, 1, 17, 38, 39])
@each("make", [lambda: fb.SGD(0.01), lambda: fb.SGD(0.01, momentum=0.9), fb.Adam, fb.Lion])
@each("n_threads", [1, 3])
def test_an_overflow_leaves_the_last_finite_weights(dtype, where, step, make, n_threads):
    X, y, loss = diverging(step, where, dtype)

    def ends_with():
        net, optimizer = fb.mlp([4, 30, 2], dtype=dtype, seed=0), make()
        assert is_fused(net, 1) == (cache.MOST_ROWS_TO_FUSE > 0)
        message = None
        try:
            net.fit(X, y, loss=loss, optimizer=optimizer, epochs=1, batch_size=1,
                    shuffle=False, n_threads=n_threads)
        except FloatingPointError as error:
            message = str(error)
        assert np.isfinite(net.parameters).all()
        assert all(np.isfinite(array).all() for array in optimizer.state.values())
        return (net.parameters.tobytes(), optimizer.steps, message,
                {name: array.tobytes() for name, array in optimizer.state.items()})

    fused = ends_with()
    with unfused():
        assert ends_with() == fused
    if fused[2] is not None:
        # A step that is enormous and finite is made, and the next one diverges.
        assert step <= fused[1] <= step + 1
        assert f"step {fused[1] + 1} " in fused[2]


@each("layer", [0, 2, 4])
@each("element", [0, 7, -1])
@each("value", [np.inf, np.nan, 1e30, 1e37])
def test_a_weight_that_is_set_to_something_enormous(layer, element, value):
    """In any layer and element; a bound that is too large is not yet a divergence."""
    def ends_with():
        net = fb.mlp([6, 40, 30, 2], "tanh", seed=0)
        X, y = data(6, "float32")

        def change(run):
            if run.epoch == 0:
                net.layers[layer].W.flat[element] = value

        message = None
        try:
            net.fit(X, y % 2, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(0.1), epochs=2,
                    batch_size=2, seed=0, callbacks=[change])
        except FloatingPointError as error:
            message = str(error)
        return net.parameters.tobytes(), message

    fused = ends_with()
    with unfused():
        assert ends_with() == fused
    assert fused[1] or np.isfinite(value)


def test_the_rest_of_the_parameters():
    assert step_checks.rest_of([(0, 10)], [(0, 10)], [(0, 10)]) == []
    assert step_checks.rest_of([(0, 4), (4, 6)], [], [(2, 2)]) == [(0, 2, 0, False),
                                                                   (4, 6, 1, False)]
    assert step_checks.range_with([(0, 4)], 2, 3) is None


@each("options", [{"batch_size": 999}, {"batch_size": None},
                  {"optimizer": fb.SGD(0.1, clip_norm=1.0)},
                  {"optimizer": type("Mine", (fb.SGD,), {})(0.1)}])
def test_the_program_shows_what_is_fused(options):
    def gradients_in_the_update(**options):
        text = network().program(**{"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.SGD(0.1)}
                                 | options)
        backward, update = text.split("BACKWARD")[1].split("UPDATE")
        assert backward.count("= dense_backward_weights") + update.count("a panel at a time") == 3
        return update.count("a panel at a time")

    assert gradients_in_the_update(batch_size=4) == 3
    assert gradients_in_the_update(**{"batch_size": 4} | options) == 0
