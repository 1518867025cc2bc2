"""Optimizer steps against plain loops in float64, and the norm."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp.kernels import (
    adam_step,
    dispatch,
    norm,
    ops,
    optimizers,
    penalize,
    sgd_step,
)

from ..cases import each

SIZES = [1, 2, 7, 16, 17, 64, 101, 1000]
LEAST_GRADIENT = {"float32": 2.0**-100, "float64": 2.0**-960}


def sgd_loop(p, gradients, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    """The parameters and the velocity after a step with each of the gradients."""
    p, velocity = p.astype(np.float64), np.zeros(p.shape)
    for gradient in gradients.astype(np.float64):
        g = gradient + weight_decay * p
        velocity = momentum * velocity - learning_rate * g
        p = p + (momentum * velocity - learning_rate * g if nesterov else velocity)
    return p, velocity


def adam_loop(p, gradients, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8,
              weight_decay=0.0, decoupled=False, epsilon_hat=False):
    """The parameters and both means after a step with each of the gradients.

    With `epsilon_hat` as at the end of the paper's section 2.
    """
    p, m, v = p.astype(np.float64), np.zeros(p.shape), np.zeros(p.shape)
    for step, gradient in enumerate(gradients.astype(np.float64), start=1):
        g = gradient if decoupled else gradient + weight_decay * p
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        if decoupled:
            p = p - learning_rate * weight_decay * p
        if epsilon_hat:
            rate = learning_rate * np.sqrt(1 - beta2**step) / (1 - beta1**step)
            p = p - rate * m / (np.sqrt(v) + epsilon)
        else:
            p = p - learning_rate * (m / (1 - beta1**step)) / (
                np.sqrt(v / (1 - beta2**step)) + epsilon)
    return p, m, v


def example(n, dtype, steps=12):
    """Parameters, and a gradient for each step."""
    rng = np.random.default_rng(n)
    return rng.normal(size=n).astype(dtype), rng.normal(size=(steps, n)).astype(dtype)


def check(dtype, *pairs):
    eps = np.finfo(dtype).eps
    for got, true in pairs:
        assert got.dtype == dtype
        np.testing.assert_allclose(got, true, rtol=0, atol=100 * eps * max(1, abs(true).max()))


class TestSGD:
    @each("n", SIZES)
    @each(
        "options",
        [
            {},
            {"weight_decay": 0.1},
            {"momentum": 0.9},
            {"momentum": 0.9, "weight_decay": 0.1},
            {"momentum": 0.5, "nesterov": True},
            {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
            {"momentum": 1.0},
            {"momentum": 1, "nesterov": True, "weight_decay": 0.1},
        ],
        ids=lambda options: "-".join(options) or "plain",
    )
    def test_several_steps(self, n, options, dtype):
        p, gradients = example(n, dtype)
        expected, expected_velocity = sgd_loop(p, gradients, 0.05, **options)
        velocity = np.zeros_like(p) if "momentum" in options else None
        for gradient in gradients:
            kept = gradient.copy()
            assert sgd_step(p, gradient, velocity, learning_rate=0.05, **options) is None
            np.testing.assert_array_equal(gradient, kept)
        check(dtype, (p, expected))
        if velocity is not None:
            check(dtype, (velocity, expected_velocity))

    def test_by_hand(self, dtype):
        p, g = np.array([1.0, -2.0], dtype), np.array([4.0, 8.0], dtype)
        sgd_step(p, g, learning_rate=0.25)
        assert p.tolist() == [0.0, -4.0]
        sgd_step(p, g, learning_rate=0.25, weight_decay=0.5)  # g is 4 and 6
        assert p.tolist() == [-1.0, -5.5]

        p, velocity = np.array([1.0, -2.0], dtype), np.array([2.0, 4.0], dtype)
        sgd_step(p, g, velocity, learning_rate=0.25, momentum=0.5)
        assert velocity.tolist() == [0.0, 0.0]
        assert p.tolist() == [1.0, -2.0]

        velocity = np.array([6.0, 8.0], dtype)
        sgd_step(p, g, velocity, learning_rate=0.25, momentum=0.5, nesterov=True)
        assert velocity.tolist() == [2.0, 2.0]
        assert p.tolist() == [1.0, -3.0]  # + 0.5 · 2 - 0.25 · 4 and + 0.5 · 2 - 0.25 · 8

    def test_without_momentum_velocity_changes_nothing(self, dtype):
        p, gradients = example(50, dtype, 1)
        plain, velocity = p.copy(), np.ones(50, dtype)
        sgd_step(plain, gradients[0], learning_rate=0.1)
        sgd_step(p, gradients[0], velocity, learning_rate=0.1)
        check(dtype, (p, plain), (velocity, -dtype.type(0.1) * gradients[0]))

    def test_learning_rate_zero(self, dtype, same_bits):
        p, gradients = example(50, dtype, 1)
        kept = p.copy()
        sgd_step(p, gradients[0], learning_rate=0.0)
        same_bits(p, kept)

    def test_product_and_sum_are_rounded_once(self, dtype):
        # p - rate · g is one fused multiply-add.
        eps = float(np.finfo(dtype).eps)
        p, g = np.array([1.0], dtype), np.array([1 + eps], dtype)
        sgd_step(p, g, learning_rate=1 - eps)
        assert p.tolist() == [eps**2]

    def test_velocity_is_needed_for_momentum(self):
        with pytest.raises(ValueError, match=r"^velocity: expected an array because momentum"):
            sgd_step(np.ones(3), np.ones(3), learning_rate=0.1, momentum=0.9)

    def test_tiny_results_become_zero(self, dtype):
        least = float(np.finfo(dtype).smallest_normal)
        p = np.array([1.5, -1.5, 2.0, -2.0], dtype) * dtype.type(least)
        sgd_step(p, p.copy(), learning_rate=0.5)
        assert p.tolist() == [0, 0, least, -least]
        velocity = np.array([1.5, -1.5, 2.0, -2.0], dtype) * dtype.type(least)
        p, g = np.zeros((2, 4), dtype)
        sgd_step(p, g, velocity, learning_rate=0.5, momentum=0.5)
        assert velocity.tolist() == [0, 0, least, -least]
        assert p.tolist() == [0, 0, least, -least]


class TestAdam:
    OPTIONS = (
        {},
        {"learning_rate": 0.05, "beta1": 0.5, "beta2": 0.9},
        {"beta1": 0.0, "beta2": 0.0},
        {"epsilon": 0.1},
        {"weight_decay": 0.1, "learning_rate": 0.01},
        {"weight_decay": 0.1, "learning_rate": 0.01, "decoupled": True},
        {"epsilon_hat": True},
        {"epsilon_hat": True, "epsilon": 0.1, "beta1": 0.5, "beta2": 0.9},
        {"epsilon_hat": True, "epsilon": 0.1, "weight_decay": 0.1, "decoupled": True},
    )

    @each("n", SIZES)
    @each("options", OPTIONS, ids=lambda options: "-".join(options) or "plain")
    def test_several_steps(self, n, options, dtype):
        p, gradients = example(n, dtype)
        expected = adam_loop(p, gradients, **options)
        m, v = np.zeros_like(p), np.zeros_like(p)
        for step, gradient in enumerate(gradients, start=1):
            kept = gradient.copy()
            assert adam_step(p, gradient, m, v, step, **options) is None
            np.testing.assert_array_equal(gradient, kept)
        check(dtype, *zip((p, m, v), expected, strict=True))

    def test_first_step_by_hand(self, dtype):
        # m̂ = g and v̂ = g², so that every parameter moves by rate · g / (|g| + epsilon).
        p, g = np.array([1.0, 1.0, 1.0], dtype), np.array([1.0, -3.0, 0.0], dtype)
        m, v = np.zeros_like(p), np.zeros_like(p)
        adam_step(p, g, m, v, 1, learning_rate=0.5, beta1=0.75, beta2=0.75, epsilon=1.0)
        np.testing.assert_allclose(p, [1 - 0.25, 1 + 0.375, 1], rtol=4 * np.finfo(dtype).eps)
        assert m.tolist() == [0.25, -0.75, 0.0]
        assert v.tolist() == [0.25, 2.25, 0.0]

    def test_decay_is_added_to_the_gradient_or_taken_off_the_parameter(self, dtype):
        for decoupled, moved in ((False, 1 - 0.1 * 1.0), (True, 1 - 0.1 * 0.5)):
            p, m, v = np.ones(1, dtype), np.zeros(1, dtype), np.zeros(1, dtype)
            adam_step(p, np.zeros(1, dtype), m, v, 1, learning_rate=0.1, weight_decay=0.5,
                      decoupled=decoupled)
            assert p[0] == pytest.approx(moved, rel=1e-6)
            assert bool(m[0]) is not decoupled

    @each("step", [1, 2, 10, 1000, 10**6, 2**40, 2**62])
    def test_bias_correction_at_any_step(self, step, dtype):
        p, g, m, v = (np.full(3, x, dtype) for x in (1.0, 0.5, 0.25, 0.125))
        adam_step(p, g, m, v, step, learning_rate=0.1)
        first = (0.9 * 0.25 + 0.1 * 0.5) / -math.expm1(step * math.log(0.9))
        second = (0.999 * 0.125 + 0.001 * 0.25) / -math.expm1(step * math.log(0.999))
        expected = 1 - 0.1 * first / (math.sqrt(second) + 1e-8)
        np.testing.assert_allclose(p, expected, rtol=20 * np.finfo(dtype).eps)

    def test_epsilon_hat_worked_by_hand(self, dtype):
        # √v is |g| / 2, and the step 0.5 · √0.25 / 0.25 = 1 · m / (|g| / 2 + 1), where m = g / 4.
        p, g = np.array([1.0, 1.0, 1.0], dtype), np.array([2.0, -6.0, 0.0], dtype)
        m, v = np.zeros_like(p), np.zeros_like(p)
        adam_step(p, g, m, v, 1, learning_rate=0.5, beta1=0.75, beta2=0.75, epsilon=1.0,
                  epsilon_hat=True)
        np.testing.assert_allclose(p, [1 - 0.25, 1 + 1.5 / 4, 1], rtol=4 * np.finfo(dtype).eps)

    def test_epsilon_hat_makes_no_difference_late(self, dtype, same_bits):
        results = []
        for hat in (False, True):
            p, g, m, v = (np.full(3, x, dtype) for x in (1.0, 0.5, 0.25, 0.125))
            adam_step(p, g, m, v, 10**6, learning_rate=0.1, epsilon=0.3, epsilon_hat=hat)
            results.append(p)
        same_bits(*results)

    def test_tiny_results_become_zero(self, dtype):
        least = float(np.finfo(dtype).smallest_normal)
        tiny = np.array([1.5, -1.5, 2.0, -2.0], dtype) * dtype.type(least)
        p, g, m, v = (np.zeros(4, dtype) for _ in range(4))
        p[:] = tiny
        adam_step(p, g, m, v, 1, learning_rate=0.5, weight_decay=1.0, decoupled=True)
        assert p.tolist() == [0, 0, least, -least]
        m[:], v[:] = tiny, abs(tiny)
        adam_step(p, g, m, v, 1, beta1=0.5, beta2=0.5)
        assert m.tolist() == [0, 0, least, -least]
        assert v.tolist() == [0, 0, least, least]

    def test_gradients_whose_square_is_tiny_count_as_zero(self, dtype):
        least = 2.0**-56 if dtype == np.float32 else 2.0**-500
        below = np.nextafter(dtype.type(least), dtype.type(0))
        g = np.array([least, -least, below, -below], dtype)
        p, m, v = (np.zeros(4, dtype) for _ in range(3))
        adam_step(p, g, m, v, 1, beta2=0.5)
        assert v.tolist() == [least**2 / 2, least**2 / 2, 0, 0]
        assert (m != 0).tolist() == [True, True, False, False]


    @each("step", [0, -1, True, -(2**70)])
    def test_step_out_of_range(self, step):
        with pytest.raises(ValueError, match=r"^step: expected a whole number of at least 1"):
            adam_step(*np.ones((4, 3)), step)

    @pytest.mark.parametrize("step", [2**63, 2**64, 10**30])
    def test_step_beyond_64_bits(self, step):
        with pytest.raises((ValueError, OverflowError), match=r"\bstep\b"):
            adam_step(*np.ones((4, 3)), step)

    @each("step", [1.0, 1.5, "1", None, [1], np.float64(2), np.nan])
    def test_step_that_is_no_whole_number(self, step):
        with pytest.raises(TypeError, match=r"^step: expected a whole number"):
            adam_step(*np.ones((4, 3)), step)

    def test_step_of_any_integer_type(self, same_bits):
        for kind in (np.int8, np.uint64, np.int32):
            results = []
            for step in (3, kind(3)):
                p, g, m, v = np.full((4, 5), 0.5)
                adam_step(p, g, m, v, step)
                results.append(p)
            same_bits(*results)


def run(function, arrays, **options):
    if function is sgd_step:
        return sgd_step(*arrays, **{"learning_rate": 0.1, "momentum": 0.5} | options)
    step = options.pop("step", 1)
    return adam_step(*arrays, step, **options)


def names(function):
    return ["parameters", "gradients", *(["velocity"] if function is sgd_step else ["m", "v"])]


@pytest.mark.parametrize("function", [sgd_step, adam_step], ids=lambda f: f.__name__)
class TestBoth:
    @each(
        "argument, bad",
        [("learning_rate", -0.1), ("learning_rate", np.nan), ("learning_rate", np.inf),
         ("weight_decay", -1e-9), ("weight_decay", np.nan), ("weight_decay", np.inf)],
    )
    def test_numbers_out_of_range(self, function, argument, bad):
        with pytest.raises(ValueError, match=rf"^{argument}: expected a finite number"):
            run(function, np.ones((len(names(function)), 3)), **{argument: bad})

    @each("bad", ["0.1", None, 1j, [0.1], np.array([0.1, 0.2])])
    def test_no_numbers(self, function, bad):
        for argument in ("learning_rate", "weight_decay"):
            with pytest.raises(TypeError, match=rf"^{argument}: expected a number"):
                run(function, np.ones((len(names(function)), 3)), **{argument: bad})

    def test_nothing_is_changed_by_a_refused_step(self, function):
        arrays = np.random.default_rng(0).random((len(names(function)), 3))
        kept = arrays.copy()
        with pytest.raises(ValueError, match="weight_decay"):
            run(function, arrays, weight_decay=-1)
        frozen = arrays[-1].copy()
        frozen.flags.writeable = False
        with pytest.raises(ValueError, match=names(function)[-1]):
            run(function, [*arrays[:-1], frozen])
        np.testing.assert_array_equal(arrays, kept)

    def test_arrays_that_are_written_must_be_fit_for_it(self, function, dtype):
        other = np.float32 if dtype == np.float64 else np.float64
        frozen = np.ones(4, dtype)
        frozen.flags.writeable = False
        cases = [
            (None, TypeError), ([1.0, 1.0, 1.0, 1.0], TypeError), (np.ones(4, int), TypeError),
            (np.ones(4, complex), TypeError), (np.ones(4, object), TypeError),
            (np.ones(4, dtype.newbyteorder()), TypeError), (np.ones(4, other), TypeError),
            (frozen, ValueError), (np.ones(8, dtype)[::2], ValueError),
            (np.ones(4, dtype)[::-1], ValueError), (np.ones(5, dtype), ValueError),
            (np.ones((4, 1), dtype), ValueError), (np.ones((2, 2), dtype), ValueError),
            (dtype.type(1), TypeError), (np.ones((), dtype), ValueError),
        ]
        for argument in names(function):
            if argument == "gradients":
                continue
            for bad, error in cases:
                arrays = [np.ones(4, dtype) for _ in names(function)]
                arrays[names(function).index(argument)] = bad
                if argument == "parameters" and isinstance(bad, np.ndarray) and (
                    bad.shape == (5,) or bad.dtype == other
                ):
                    continue  # then the others are wrong
                absent = argument == "velocity" and bad is None
                with pytest.raises(ValueError if absent else error, match=rf"^{argument}: "):
                    run(function, arrays)

    def test_gradients_may_be_read_only_and_strided(self, function, dtype, same_bits):
        rng = np.random.default_rng(0)
        start, g = rng.normal(size=6).astype(dtype), rng.normal(size=6).astype(dtype)
        frozen, strided = g.copy(), np.repeat(g, 3)[::3]
        frozen.flags.writeable = False
        results = []
        for gradient in (g, frozen, strided, g[::-1].copy()[::-1]):
            state = [np.zeros(6, dtype) for _ in names(function)[2:]]
            p = start.copy()
            run(function, [p, gradient, *state])
            results.append(p)
        for result in results[1:]:
            same_bits(result, results[0])

    def test_gradients_that_do_not_fit(self, function, dtype):
        other = np.float32 if dtype == np.float64 else np.float64
        for bad, error in (
            (np.ones(5, dtype), ValueError), (np.ones((4, 1), dtype), ValueError),
            (np.ones(1, dtype), ValueError), (np.ones(4, other), TypeError),
            (np.ones(4, int), TypeError), ([1, 2, 3, 4], TypeError), (None, TypeError),
            (["a"] * 4, TypeError), (np.ones(4, complex), TypeError),
        ):
            arrays = [np.ones(4, dtype) for _ in names(function)]
            arrays[1] = bad
            with pytest.raises(error, match=r"^gradients: expected"):
                run(function, arrays)

    def test_overlapping_arrays(self, function, dtype):
        count = len(names(function))
        for first in range(count):
            for second in range(first + 1, count):
                for shift in (0, 1, 3):
                    memory = np.ones(8, dtype)
                    arrays = [np.ones(4, dtype) for _ in range(count)]
                    arrays[first], arrays[second] = memory[:4], memory[shift : shift + 4]
                    with pytest.raises(ValueError, match="overlaps") as caught:
                        run(function, arrays)
                    for i in (first, second):
                        assert names(function)[i] in str(caught.value)

    def test_neighbours_in_memory_do_not_overlap(self, function, dtype):
        memory = np.ones(4 * len(names(function)), dtype)
        run(function, [memory[i : i + 4] for i in range(0, memory.size, 4)])
        assert (memory[:4] != 1).all()

    def test_nothing_to_do(self, function, dtype):
        run(function, [np.empty(0, dtype) for _ in names(function)])

    def test_nan_stays_where_it_is(self, function, dtype):
        arrays = [np.ones(20, dtype) for _ in names(function)]
        arrays[1][7] = np.nan
        run(function, arrays)
        for argument, array in zip(names(function), arrays, strict=True):
            assert np.isnan(array).nonzero()[0].tolist() == [7], argument

    def test_each_element_by_itself(self, function, dtype, same_bits):
        arrays = np.random.default_rng(0).random((len(names(function)), 37)).astype(dtype)
        whole = arrays.copy()
        run(function, whole)
        for i in (0, 15, 16, 36):
            one = arrays[:, i : i + 1].copy()
            run(function, one)
            same_bits(one, whole[:, i : i + 1])


@each(
    "function, argument, bad",
    [(sgd_step, "momentum", -0.1), (sgd_step, "momentum", 1.01), (sgd_step, "momentum", np.nan),
     *[(adam_step, beta, bad) for beta in ("beta1", "beta2") for bad in (-0.1, 1, 1.5, np.nan)],
     (adam_step, "epsilon", 0.0), (adam_step, "epsilon", -1e-8), (adam_step, "epsilon", np.inf)],
)
def test_decay_rates_out_of_range(function, argument, bad):
    with pytest.raises(ValueError, match=rf"^{argument}: expected a finite number"):
        run(function, np.ones((len(names(function)), 3)), **{argument: bad})


@each("bad", ["False", "", None, 0, 1, 2.5, [], np.array([True, False]),
              np.array(True)], ids=repr)
def test_neither_true_nor_false(bad, dtype):
    p, g, m, v = (np.full(3, x, dtype) for x in (1.0, 0.5, 0.25, 0.125))
    with pytest.raises(TypeError, match=r"^nesterov: expected True or False, got"):
        sgd_step(p, g, m, learning_rate=0.1, momentum=0.9, nesterov=bad)
    for name in ("decoupled", "epsilon_hat"):
        with pytest.raises(TypeError, match=rf"^{name}: expected True or False, got"):
            adam_step(p, g, m, v, 1, **{name: bad})
    for array, value in ((p, 1.0), (m, 0.25), (v, 0.125)):
        assert (array == value).all()


def test_booleans_of_numpy(dtype, same_bits):
    for function, name in ((sgd_step, "nesterov"), (adam_step, "decoupled"),
                           (adam_step, "epsilon_hat")):
        found = []
        for value in (True, np.True_):
            p, g, m, v = (np.full(3, x, dtype) for x in (1.0, 0.5, 0.25, 0.125))
            more = {"momentum": 0.9} if function is sgd_step else {"v": v, "step": 3,
                                                                   "weight_decay": 0.1}
            function(p, g, m, learning_rate=0.1, **more, **{name: value})
            found.append(p)
        same_bits(*found)


class TestScheduleFree:
    """A. Defazio et al., NeurIPS 2024: as its authors' program has it, where x is not kept."""

    NUMBERS = {"weight_decay": 0.1, "beta1": 0.9, "beta2": 0.99, "epsilon": 1e-8}

    @staticmethod
    def step(p, g, state, step, average, learning_rate=0.01, **numbers):
        optimizers.update_step(
            "schedule_free_adamw", p, g, state, learning_rate=learning_rate, step=step,
            attributes=TestScheduleFree.NUMBERS | numbers | {"average": average})

    @staticmethod
    def start(p):
        return {"z": p.copy(), "v": np.zeros_like(p), "x": p.copy()}

    @each("n", SIZES)
    @each("numbers", [{}, {"weight_decay": 0.0}, {"beta1": 0.5, "epsilon": 0.1}],
          ids=lambda numbers: "-".join(numbers) or "plain")
    def test_several_steps(self, n, numbers, dtype):
        p, gradients = example(n, dtype)
        o = self.NUMBERS | numbers
        state = self.start(p)
        y = p.astype(np.float64)
        z, v, total = y.copy(), np.zeros(n), 0.0
        for step, gradient in enumerate(gradients, start=1):
            rate = 0.01 * min(1, step / 4)  # a warm-up
            total += rate**2
            c = rate**2 / total
            self.step(p, gradient, state, step, c, rate, **numbers)

            g = gradient.astype(np.float64)
            v += (1 - o["beta2"]) * (g * g - v)
            d = g / (np.sqrt(v / (1 - o["beta2"] ** step)) + o["epsilon"]) + o["weight_decay"] * y
            y += c * (z - y) + rate * (o["beta1"] * (1 - c) - 1) * d
            z -= rate * d
        x = z + (y - z) / o["beta1"]
        check(dtype, (p, y), (state["z"], z), (state["v"], v), (state["x"], x))

    def test_x_is_the_mean_of_all_z(self, dtype):
        p, gradients = example(50, dtype)
        state, seen = self.start(p), []
        for step, gradient in enumerate(gradients, start=1):
            self.step(p, gradient, state, step, 1 / step)
            seen.append(state["z"].astype(np.float64))
            check(dtype, (state["x"], np.mean(seen, axis=0)),
                  (p, 0.1 * state["z"].astype(float) + 0.9 * state["x"]))

    def test_first_step_by_hand(self, dtype, same_bits):
        # v̂ = g², so that z moves by rate · (g / (|g| + epsilon) + decay · p); x and y follow it.
        p = np.array([1.0, 1.0, 1.0, 3.0], dtype)
        g = np.array([1.0, -3.0, 0.0, 0.0], dtype)
        state = self.start(p)
        state["x"][:] = 7
        self.step(p, g, state, 1, 1.0, 0.5, beta2=0.75, epsilon=1.0, weight_decay=0.25)
        moved = [0.5 + 0.25, -0.75 + 0.25, 0.25, 0.75]
        np.testing.assert_allclose(p, [1, 1, 1, 3] - 0.5 * np.array(moved),
                                   rtol=4 * np.finfo(dtype).eps)
        assert state["v"].tolist() == [0.25, 2.25, 0, 0]
        same_bits(state["x"], state["z"])
        same_bits(p, state["z"])

    def test_a_weight_without_gradient_does_not_move(self, dtype, same_bits):
        p, _ = example(50, dtype)
        kept, state = p.copy(), self.start(p)
        for step in range(1, 100):
            self.step(p, np.zeros_like(p), state, step, 1 / step, weight_decay=0.0)
        for array in (p, state["z"], state["x"]):
            same_bits(array, kept)

    def test_every_tier_has_the_same_bits(self, dtype, same_bits):
        used, found = dispatch.isa(), []
        try:
            for isa in dispatch.available():
                dispatch.use(isa)
                for n in SIZES:
                    p, gradients = example(n, dtype)
                    gradients *= np.ldexp(1.0, np.random.default_rng(n).integers(-90, 30, n))
                    state = self.start(p)
                    for step, gradient in enumerate(gradients, start=1):
                        self.step(p, gradient, state, step, 1 / step)
                    found.append((n, np.stack([p, *state.values()])))
        finally:
            dispatch.use(used)
        for n, got in found:
            same_bits(got, dict(found[: len(SIZES)])[n], f"{n}")

    def test_tiny_results_become_zero(self, dtype):
        least = float(np.finfo(dtype).smallest_normal)
        p = np.array([1.5, -1.5, 2.0, -2.0], dtype) * dtype.type(least)
        state = self.start(p)
        state["v"][:] = abs(p)
        self.step(p, np.zeros_like(p), state, 1, 1.0, 0.5, weight_decay=1.0, beta2=0.5)
        for array in (p, state["z"], state["x"]):
            assert array.tolist() == [0, 0, least, -least]
        assert state["v"].tolist() == [0, 0, least, least]

    def test_nan_stays_where_it_is(self, dtype):
        p, g = np.ones((2, 20), dtype)
        g[7] = np.nan
        state = self.start(p)
        self.step(p, g, state, 1, 1.0)
        for array in (p, *state.values()):
            assert np.isnan(array).nonzero()[0].tolist() == [7]

    def test_names_of_the_table(self):
        op = ops.UPDATES["schedule_free_adamw"]
        assert op.state == ("z", "v", "x")
        assert op.attributes == ("weight_decay", "beta1", "beta2", "epsilon", "average")


class TestPenalize:
    @each("n", [*SIZES, 8191, 8192, 8193, 20000])
    def test_against_an_exact_sum(self, n, dtype):
        (p, (g,)), strength = example(n, dtype, 1), 0.3
        kept, expected = p.copy(), g + np.longdouble(dtype.type(strength)) * p
        squares = penalize(p, g, strength)
        assert type(squares) is float
        assert squares == pytest.approx(math.fsum(x * x for x in p.tolist()), rel=1e-14)
        np.testing.assert_array_equal(p, kept)
        # One fused multiply-add, so rounded once.
        np.testing.assert_allclose(g, expected, rtol=np.finfo(dtype).eps, atol=1e-18)

    def test_worked_by_hand(self, dtype):
        p, g = np.array([[1, -2], [0, 4]], dtype), np.array([[0, 1], [-1, 3]], dtype)
        assert penalize(p, g, 0.5) == 21
        assert g.tolist() == [[0.5, 0], [-1, 5]]

    def test_gradient_by_central_differences(self):
        p, (g,) = example(30, np.float64, 1)
        before, h = g.copy(), 1e-4
        penalize(p, g, 0.7)
        for i in range(30):
            nudge = np.zeros(30)
            nudge[i] = h
            above, below = (penalize(p + d, np.zeros(30), 0.0) for d in (nudge, -nudge))
            assert g[i] - before[i] == pytest.approx(0.35 * (above - below) / (2 * h), abs=1e-9)

    def test_strength_of_zero(self, dtype, same_bits):
        p, (g,) = example(50, dtype, 1)
        kept = g.copy()
        assert penalize(p, g, 0) == pytest.approx(norm(p) ** 2, rel=1e-14)
        same_bits(g, kept)

    def test_nothing_to_do(self, dtype):
        assert penalize(np.empty((0, 3), dtype), np.empty((0, 3), dtype), 1.0) == 0

    def test_parameters_may_be_read_only_and_strided(self, dtype, same_bits):
        p, (g,) = example(40, dtype, 1)
        expected = g.copy()
        squares = penalize(p, expected, 0.1)
        frozen = p.copy()
        frozen.flags.writeable = False
        for other in (frozen, np.repeat(p, 2)[::2], p[::-1].copy()[::-1]):
            got = g.copy()
            assert penalize(other, got, 0.1) == squares
            same_bits(got, expected)

    def test_every_tier_has_the_same_bits(self, dtype, same_bits):
        p, (g,) = example(16401, dtype, 1)
        used, found = dispatch.isa(), []
        try:
            for isa in dispatch.available():
                dispatch.use(isa)
                got = g.copy()
                found.append((penalize(p, got, 1 / 3), got))
        finally:
            dispatch.use(used)
        for squares, got in found:
            assert squares == found[0][0]
            same_bits(got, found[0][1])

    def test_tiny_results_become_zero(self, dtype):
        least = LEAST_GRADIENT[dtype.name]
        p, g = np.array([0.5, 1, -0.5, -1], dtype), np.zeros(4, dtype)
        penalize(p, g, least)
        assert g.tolist() == [0, least, 0, -least]

    def test_nan_shows(self, dtype):
        p, g = np.ones(20, dtype), np.ones(20, dtype)
        p[7] = np.nan
        assert math.isnan(penalize(p, g, 0.5))
        assert np.isnan(g).nonzero()[0].tolist() == [7]

    @each("bad, error", [(-0.1, ValueError), (np.nan, ValueError),
                         (np.inf, ValueError), ("1", TypeError),
                         (None, TypeError)])
    def test_strength_out_of_range(self, bad, error):
        with pytest.raises(error, match=r"^strength: expected"):
            penalize(np.ones(3), np.ones(3), bad)

    def test_arrays_that_do_not_fit(self, dtype):
        other = np.float32 if dtype == np.float64 else np.float64
        frozen = np.ones(4, dtype)
        frozen.flags.writeable = False
        for bad, error in ((frozen, ValueError), (np.ones(8, dtype)[::2], ValueError),
                           (np.ones(5, dtype), ValueError), (np.ones((4, 1), dtype), ValueError),
                           (np.ones(4, other), TypeError), ([1.0] * 4, TypeError),
                           (None, TypeError)):
            with pytest.raises(error, match=r"^gradients: expected"):
                penalize(np.ones(4, dtype), bad, 0.1)
        with pytest.raises(TypeError, match=r"^parameters: expected"):
            penalize(np.ones(4, int), np.ones(4, dtype), 0.1)
        memory = np.ones(8, dtype)
        for shift in (0, 1, 3):
            with pytest.raises(ValueError, match="gradients overlaps parameters"):
                penalize(memory[:4], memory[shift : shift + 4], 0.1)
        assert (memory == 1).all()


class TestNorm:
    def test_by_hand(self, dtype):
        assert norm(np.array([3.0, -4.0], dtype)) == 5.0
        assert norm(np.array([[1.0, 1.0], [1.0, -1.0]], dtype)) == 2.0
        assert norm(np.array(-7.0, dtype)) == 7.0
        assert norm(np.zeros((0, 3), dtype)) == 0.0
        assert type(norm(np.ones(2, dtype))) is float

    @given(n=st.integers(0, 300), seed=st.integers(0, 2**32))
    @settings(max_examples=60, deadline=None)
    def test_against_an_exact_sum(self, dtype, n, seed):
        rng = np.random.default_rng(seed)
        X = np.ldexp(rng.normal(size=n), rng.integers(-20, 20, n)).astype(dtype)
        true = math.sqrt(math.fsum(x * x for x in X.tolist()))
        assert norm(X) == pytest.approx(true, rel=1e-14, abs=0)

    @each("n", [1, 5, 16, 17, 40, 100])
    def test_promised_bits(self, n):
        # Element i is added in lane i % 16, and the lanes as a tree; here without rounding.
        X = np.ldexp(1.0, np.random.default_rng(n).integers(-26, 1, n))
        lanes = np.zeros(16)
        for i in range(n):
            lanes[i % 16] += X[i] * X[i]
        while lanes.size > 1:
            lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
        assert norm(X) == math.sqrt(lanes[0])

    def test_float32_neither_overflows_nor_underflows(self):
        for size in (1e30, 1e-30, 1e-44):
            X = np.full(4, size, np.float32)
            assert norm(X) == 2 * float(X[0])

    def test_a_long_sum_is_in_float64(self):
        X = np.full(1_000_000, 0.1, np.float32)
        assert norm(X) == pytest.approx(1000 * float(X[0]), rel=1e-12)

    def test_nan_and_infinity_show(self, dtype):
        for i in (0, 18):
            X = np.ones(20, dtype)
            X[i] = np.nan
            assert math.isnan(norm(X))
            X[i] = -np.inf
            assert norm(X) == np.inf
