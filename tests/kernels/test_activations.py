"""Activations, their derivatives, softmax and dropout, against closed forms and known answers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from fastbp import kernels
from fastbp.kernels import ops

from ..cases import each

pytestmark = pytest.mark.once

LEAST_GRADIENT = {"float32": 2.0**-100, "float64": 2.0**-960}
EVERY_MAP = [*ops.ACTIVATIONS, *ops.FUNCTIONS]
FROM_OUTPUT = [name for name, op in ops.ACTIVATIONS.items() if op.from_output]


def logistic(x):
    """sigmoid in any precision, without overflow."""
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


TRUTH = {
    "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "tanh": np.tanh,
    "sigmoid": logistic, "erf": special.erf,
}
# Where the function neither rounds to a constant nor overflows, float32 and float64.
RANGE = {
    "exp": ((-88, 89), (-709, 710)), "expm1": ((-19, 89), (-40, 710)),
    "log": ((0, 4), (0, 4)), "log1p": ((-1, 4), (-1, 4)), "tanh": ((-10, 10), (-20, 20)),
    "sigmoid": ((-88, 18), (-709, 38)), "erf": ((-4.1, 4.1), (-6, 6)),
}


class TestAccuracy:
    """The elementary functions are within 2 ULP, and 0 where they would be subnormal."""

    def points(self, name, dtype, count):
        """Numbers of every size and sign, the function's range evenly, and its edges."""
        rng = np.random.default_rng(0)
        low, high = RANGE[name][dtype == np.float64]
        any_bits = rng.integers(2 ** (8 * dtype.itemsize), size=count, dtype=f"u{dtype.itemsize}")
        small = np.ldexp(rng.uniform(-1, 1, count), rng.integers(-60, 1, count))
        info = np.finfo(dtype)
        edges = [0.0, -0.0, 1.0, -1.0, info.max, info.min, info.smallest_normal,
                 info.smallest_subnormal, np.inf, -np.inf, np.nan, low, high, info.eps]
        return np.concatenate([
            any_bits.view(dtype), rng.uniform(low, high, count).astype(dtype),
            rng.uniform(-2, 2, count).astype(dtype), (1 + small).astype(dtype),
            small.astype(dtype), np.array(edges, dtype),
        ])

    def errors(self, got, truth):
        """Distances from the truth, which is in a wider type, in units of the last place."""
        info, wide = np.finfo(got.dtype), truth.dtype.type
        # Infinity is where the next power of 2 would be.
        beyond = np.ldexp(wide(1), info.maxexp)
        distance = abs(np.clip(got.astype(wide), -beyond, beyond) - np.clip(truth, -beyond, beyond))
        exponent = np.frexp(np.minimum(abs(truth), info.max))[1] - 1
        ulp = np.ldexp(wide(1), np.maximum(exponent, info.minexp) - info.nmant)
        zero_is_right = (got == 0) & (abs(truth) < wide(info.smallest_normal) + 2 * ulp)
        return np.where(zero_is_right, 0, distance / ulp)

    def check(self, name, X, truth):
        got = getattr(kernels, name)(X)
        assert got.dtype == X.dtype
        np.testing.assert_array_equal(np.isnan(got), np.isnan(truth))
        assert not ((got != 0) & (abs(got) < np.finfo(X.dtype).smallest_normal)).any()
        numbers = ~np.isnan(truth)
        errors = self.errors(got[numbers], truth[numbers])
        worst = int(np.argmax(errors))
        assert errors[worst] <= 2, (
            f"{name}({X[numbers][worst]!r}) is {got[numbers][worst]!r}, "
            f"{errors[worst]:.2f} ULP from {truth[numbers][worst]!r}"
        )

    @pytest.mark.parametrize("name", TRUTH)
    def test_float32_against_float64(self, name):
        X = self.points(name, np.dtype(np.float32), 200_000)
        with np.errstate(all="ignore"):
            truth = TRUTH[name](X.astype(np.float64))
        self.check(name, X, truth)

    @pytest.mark.parametrize("name", [name for name in TRUTH if name != "erf"])
    @pytest.mark.skipif(np.finfo(np.longdouble).nmant < 63, reason="longdouble is no wider")
    def test_float64_against_longdouble(self, name):
        X = self.points(name, np.dtype(np.float64), 60_000)
        with np.errstate(all="ignore"):
            truth = TRUTH[name](X.astype(np.longdouble))
        self.check(name, X, truth)

    @pytest.mark.parametrize("name", TRUTH)
    def test_against_mpmath(self, name, dtype):
        mp = pytest.importorskip("mpmath").mp
        exact = {"sigmoid": lambda x: 1 / (1 + mp.exp(-x))}.get(name) or getattr(mp, name)
        X = self.points(name, dtype, 500)
        least = {"log": 0, "log1p": -1}.get(name, -800)
        X = X[(least < X) & (X < 800)]
        got, info = getattr(kernels, name)(X), np.finfo(dtype)
        with mp.workdps(50):
            for x, y in zip(X.tolist(), got.tolist(), strict=True):
                truth = exact(mp.mpf(x))
                if abs(truth) > float(info.max):
                    assert abs(y) == np.inf
                    continue
                exponent = mp.frexp(truth)[1] - 1 if truth else info.minexp
                ulp = mp.ldexp(1, max(exponent, info.minexp) - info.nmant)
                if y == 0 and abs(truth) < float(info.smallest_normal) + 2 * ulp:
                    continue
                assert abs(y - truth) <= 2 * ulp, f"{name}({x!r}) = {y!r}, not {truth}"

    def test_exact_values(self, dtype):
        values = {
            "exp": {0: 1, -np.inf: 0, np.inf: np.inf},
            "expm1": {0: 0, -np.inf: -1, np.inf: np.inf},
            "log": {1: 0, 0: -np.inf, np.inf: np.inf, -1: np.nan, -np.inf: np.nan},
            "log1p": {0: 0, -1: -np.inf, np.inf: np.inf, -2: np.nan, -np.inf: np.nan},
            "tanh": {0: 0, np.inf: 1, -np.inf: -1, 1e4: 1, -1e4: -1},
            "erf": {0: 0, np.inf: 1, -np.inf: -1, 1e4: 1, -1e4: -1},
            "sigmoid": {0: 0.5, np.inf: 1, -np.inf: 0, 1e4: 1, -1e4: 0},
        }
        for name, pairs in values.items():
            got = getattr(kernels, name)(np.array(list(pairs), dtype))
            np.testing.assert_array_equal(got, np.array(list(pairs.values()), dtype), name)
            assert np.isnan(getattr(kernels, name)(np.array([np.nan], dtype))).all(), name

    @each("name", ["tanh", "erf"])
    def test_odd(self, name, dtype):
        X = self.points(name, dtype, 10_000)
        function = getattr(kernels, name)
        np.testing.assert_array_equal(function(-X), -function(X))

    @each(
        "name, low, high", [("sigmoid", 0, 1), ("tanh", -1, 1), ("erf", -1, 1), ("exp", 0, np.inf)]
    )
    def test_bounds(self, name, low, high, dtype):
        X = self.points(name, dtype, 50_000)
        Y = getattr(kernels, name)(X[~np.isnan(X)])
        assert ((low <= Y) & (high >= Y)).all()

    @each(
        "name, low, high",
        [("exp", -80, 80), ("expm1", -10, 80), ("log", 0.01, 100), ("log1p", -0.99, 100),
         ("tanh", -5, 5), ("erf", -2, 2), ("sigmoid", -80, 8)],
    )
    def test_strictly_increasing(self, name, low, high, dtype):
        # Steps far above the error of 2 ULP.
        Y = getattr(kernels, name)(np.linspace(low, high, 1001, dtype=dtype))
        assert (np.diff(Y) > 0).all()

    def test_sigmoids_of_opposite_numbers_add_up_to_1(self, dtype):
        X = np.linspace(-40, 40, 10_001, dtype=dtype)
        total = kernels.sigmoid(X) + kernels.sigmoid(-X)
        assert abs(total - 1).max() <= 2 * np.finfo(dtype).eps


# f(z) and f'(z) from NumPy's and SciPy's functions, and how large the terms are that are
# added in f and in f', which is what a rounding error is relative to.
FORMULAS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0, None, None),
    "leaky_relu": (lambda z: np.where(z > 0, z, 0.01 * z), lambda z: np.where(z > 0, 1, 0.01),
                   None, None),
    "sigmoid": (special.expit, lambda z: special.expit(z) * special.expit(-z), None, None),
    "tanh": (np.tanh, lambda z: 1 / np.cosh(z) ** 2, None, None),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
            lambda z: np.exp(np.minimum(z, 0)), None, None),
    "gelu": (lambda z: z * special.ndtr(z),
             lambda z: special.ndtr(z) + z * np.exp(-z * z / 2) / math.sqrt(2 * math.pi),
             abs, lambda z: 1 + abs(z)),
    "silu": (lambda z: z * special.expit(z),
             lambda z: special.expit(z) * (1 + z * special.expit(-z)),
             None, lambda z: special.expit(z) * (1 + abs(z))),
    "mish": (lambda z: z * np.tanh(np.log1p(np.exp(z))),
             lambda z: mish_terms(z)[0] + mish_terms(z)[1],
             None, lambda z: mish_terms(z)[0] + abs(mish_terms(z)[1])),
    "selu": (lambda z: SELU[0] * np.where(z > 0, z, SELU[1] * np.expm1(np.minimum(z, 0))),
             lambda z: SELU[0] * np.where(z > 0, 1, SELU[1] * np.exp(np.minimum(z, 0))),
             None, None),
}
SELU = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


def mish_terms(z):
    """The two that are added in its derivative."""
    softplus = np.log1p(np.exp(z))
    return np.tanh(softplus), z * special.expit(z) / np.cosh(softplus) ** 2


def test_every_activation_has_a_formula_here():
    assert list(FORMULAS) == list(ops.ACTIVATIONS)


class TestActivations:
    @each("name", FORMULAS)
    def test_formula(self, name, dtype):
        f, _, size, _ = FORMULAS[name]
        Z = np.linspace(-30, 30, 20_001, dtype=dtype)
        true = f(Z.astype(np.float64))
        error = abs(getattr(kernels, name)(Z) - true)
        bound = abs(true) if size is None else size(Z.astype(np.float64))
        assert (error <= 4 * np.finfo(dtype).eps * bound).all()

    @each("name", FORMULAS)
    def test_derivative(self, name, dtype):
        f, slope, _, size = FORMULAS[name]
        Z = np.linspace(-30, 30, 20_001, dtype=dtype)
        z = Z.astype(np.float64)
        dA = np.random.default_rng(0).normal(size=Z.shape).astype(dtype)
        true, bound, kept = slope(z), slope(z) if size is None else size(z), Z
        if name in FROM_OUTPUT:  # the kernel is given A, which is rounded
            kept = f(z).astype(dtype)
            a = kept.astype(np.longdouble)
            true = bound = a * (1 - a) if name == "sigmoid" else (1 - a) * (1 + a)
        error = abs(getattr(kernels, f"{name}_backward")(dA, kept) - dA * true)
        assert (error <= 5 * np.finfo(dtype).eps * abs(dA) * abs(bound)).all()

    @each("name", FORMULAS)
    def test_derivative_by_central_differences(self, name):
        f, h = getattr(kernels, name), 1e-5
        Z = np.linspace(-8, 8, 401)
        Z = Z[abs(Z) > 2 * h]  # where relu and its like have a corner
        kept = f(Z) if name in FROM_OUTPUT else Z
        slope = getattr(kernels, f"{name}_backward")(np.ones_like(Z), kept)
        np.testing.assert_allclose(slope, (f(Z + h) - f(Z - h)) / (2 * h), rtol=0, atol=1e-9)

    @each("name", ["leaky_relu", "elu"])
    @each("alpha", [0.0, 0.3, 2.0, -0.5])
    def test_alpha(self, name, alpha, dtype):
        Z = np.array([-1e4, -2.0, -0.5, 0.0, 0.5, 3.0], dtype)
        dA = np.array([1.0, -2.0, 3.0, 4.0, 5.0, 6.0], dtype)
        z = Z.astype(np.float64)
        low = z if name == "leaky_relu" else np.expm1(np.minimum(z, 0))
        slope = 1 if name == "leaky_relu" else np.exp(np.minimum(z, 0))
        rtol = 4 * np.finfo(dtype).eps
        for A in (getattr(kernels, name)(Z, alpha), getattr(kernels, name)(Z, alpha=alpha)):
            np.testing.assert_allclose(A, np.where(z > 0, z, alpha * low), rtol)
        dZ = getattr(kernels, f"{name}_backward")(dA, Z, alpha)
        np.testing.assert_allclose(dZ, dA * np.where(z > 0, 1, alpha * slope), rtol)

    def test_by_hand(self, dtype):
        Z = np.array([-2.0, 0.0, 3.0], dtype)
        dA = np.array([10.0, 20.0, 30.0], dtype)
        assert kernels.relu(Z).tolist() == [0.0, 0.0, 3.0]
        assert kernels.relu_backward(dA, Z).tolist() == [0.0, 0.0, 30.0]
        assert kernels.leaky_relu(Z, 0.25).tolist() == [-0.5, 0.0, 3.0]
        assert kernels.leaky_relu_backward(dA, Z, 0.25).tolist() == [2.5, 5.0, 30.0]
        assert kernels.elu(Z, 0.5)[1:].tolist() == [0.0, 3.0]
        assert kernels.elu_backward(dA, Z, 0.5)[1:].tolist() == [10.0, 30.0]
        assert kernels.gelu(Z)[1] == kernels.silu(Z)[1] == 0
        assert kernels.gelu_backward(dA, Z)[1] == kernels.silu_backward(dA, Z)[1] == 10.0
        A = np.array([0.25, 0.5, 1.0], dtype)
        assert kernels.sigmoid_backward(dA, A).tolist() == [1.875, 5.0, 0.0]
        assert kernels.tanh_backward(dA, A).tolist() == [9.375, 15.0, 0.0]

    @each("size", [1e4, 1e30])
    def test_far_from_zero(self, size, dtype):
        Z = np.array([-size, size], dtype)
        limits = {"relu": [0, Z[1]], "leaky_relu": [dtype.type(0.01) * Z[0], Z[1]],
                  "sigmoid": [0, 1], "tanh": [-1, 1], "elu": [-1, Z[1]], "gelu": [0, Z[1]],
                  "silu": [0, Z[1]], "mish": [0, Z[1]],
                  "selu": [dtype.type(-SELU[0] * SELU[1]), dtype.type(SELU[0]) * Z[1]]}
        slopes = {"leaky_relu": [dtype.type(0.01), 1], "sigmoid": [0, 0], "tanh": [0, 0],
                  "selu": [0, dtype.type(SELU[0])]}
        for name, limit in limits.items():
            A = getattr(kernels, name)(Z)
            np.testing.assert_array_equal(A, limit, name)
            kept = A if name in FROM_OUTPUT else Z
            slope = getattr(kernels, f"{name}_backward")(np.ones(2, dtype), kept)
            np.testing.assert_array_equal(slope, slopes.get(name, [0, 1]), name)

    @each("name", ["relu", "leaky_relu", "sigmoid", "tanh", "elu"])
    def test_at_infinity(self, name, dtype):
        f = FORMULAS[name][0]
        Z = np.array([-np.inf, np.inf], dtype)
        np.testing.assert_array_equal(getattr(kernels, name)(Z), f(Z.astype(float)))

    @each("name", EVERY_MAP)
    def test_nan_in_nan_out(self, name, dtype):
        Z = np.array([1.0, np.nan, 2.0], dtype)
        assert np.isnan(getattr(kernels, name)(Z)).tolist() == [False, True, False]

    @each("name", FORMULAS)
    def test_nan_in_nan_out_backward(self, name, dtype):
        backward = getattr(kernels, f"{name}_backward")
        dA = np.array([1.0, np.nan, 1.0, np.nan], dtype)
        Z = np.array([0.5, 0.5, np.nan, np.nan], dtype)
        assert np.isnan(backward(dA, Z)).tolist() == [False, True, True, True]

    def test_relu_is_exactly_zero_at_and_below_zero(self, dtype, same_bits):
        Z = np.array([-0.0, 0.0, -1.0, -np.inf, -1e-30], dtype)
        same_bits(kernels.relu(Z), np.zeros(5, dtype))
        for d in (1.0, -1.0, np.inf, -np.inf, np.nan):
            same_bits(kernels.relu_backward(np.full(5, d, dtype), Z), np.zeros(5, dtype), f"{d}")

    def test_relu_passes_everything_else_unchanged(self, dtype, same_bits):
        Z = np.array([1.0, 1e30, np.inf, np.finfo(dtype).smallest_normal], dtype)
        same_bits(kernels.relu(Z), Z)
        dA = np.array([np.inf, -np.inf, np.nan, -3.0], dtype)
        same_bits(kernels.relu_backward(dA, Z), dA)

    @each("name", ["relu", "leaky_relu", "elu"])
    def test_never_decreasing(self, name, dtype):
        Z = np.sort(np.random.default_rng(0).normal(size=10_000)).astype(dtype)
        assert (np.diff(getattr(kernels, name)(Z)) >= 0).all()

    @each("name", EVERY_MAP)
    @each("shape", [(), (0,), (1,), (3, 0, 2), (2, 3, 5, 7), (1, 1)])
    def test_any_shape(self, name, shape, dtype, same_bits):
        X = np.random.default_rng(0).uniform(0.1, 2, shape).astype(dtype)
        function = getattr(kernels, name)
        Y = function(X)
        assert type(Y) is np.ndarray
        assert Y.shape == shape
        assert Y.dtype == dtype
        one_by_one = [function(x.reshape(1))[0] for x in X.reshape(-1)]
        same_bits(Y.reshape(-1), np.array(one_by_one, dtype))

    @each("name", FORMULAS)
    def test_tiny_gradients_become_zero(self, name, dtype):
        least = LEAST_GRADIENT[dtype.name]
        below = float(np.nextafter(dtype.type(least), dtype.type(0)))
        dA = np.array([least, -least, below, -below], dtype)
        steep = 0 if name == "tanh" else 100  # where the slope is exactly 1
        if name == "selu":  # and where it is this
            dA = dA / dtype.type(SELU[0]) * np.array([1.001, 1.001, 0.999, 0.999], dtype)
        dZ = getattr(kernels, f"{name}_backward")(dA, np.full(4, steep, dtype))
        if name == "sigmoid":
            dZ = kernels.sigmoid_backward(dA * 4, np.full(4, 0.5, dtype))
        if name == "selu":
            np.testing.assert_allclose(dZ[:2], [least, -least], rtol=2e-3)
            assert dZ[2:].tolist() == [0.0, 0.0]
        else:
            assert dZ.tolist() == [least, -least, 0.0, 0.0]

    @each("shapes", [((3,), (4,)), ((3, 1), (3,)), ((2, 3), (3, 2)), ((), (1,))])
    @each("name", FORMULAS)
    def test_backward_wants_one_shape(self, name, shapes):
        wrong = "A" if name in FROM_OUTPUT else "Z"
        with pytest.raises(ValueError, match=rf"^{wrong}: expected shape .* like dA"):
            getattr(kernels, f"{name}_backward")(np.ones(shapes[0]), np.ones(shapes[1]))


class TestSoftmax:
    def test_by_hand(self, dtype):
        Z = np.log(np.array([[1.0, 3.0, 4.0], [2.0, 2.0, 4.0]])).astype(dtype)
        np.testing.assert_allclose(
            kernels.softmax(Z), [[0.125, 0.375, 0.5], [0.25, 0.25, 0.5]],
            rtol=4 * np.finfo(dtype).eps,
        )
        assert kernels.softmax(np.full((1, 4), 7, dtype)).tolist() == [[0.25] * 4]

    @each("shape", [(1, 1), (3, 2), (5, 17), (2, 1000), (101, 3), (7, 64)])
    @each("spread", [1, 20])
    def test_against_scipy(self, shape, spread, dtype):
        Z = np.random.default_rng(0).normal(0, spread, shape).astype(dtype)
        P = kernels.softmax(Z)
        true = special.softmax(Z.astype(np.float64), axis=1)
        below_largest = Z.max(axis=1, keepdims=True) - Z  # has a rounding error of its own
        eps = np.finfo(dtype).eps
        bound = eps * (8 + below_largest) * true + np.finfo(dtype).smallest_normal
        assert (abs(P - true) <= bound).all()
        assert ((P >= 0) & (P <= 1)).all()
        assert abs(P.sum(axis=1, dtype=np.float64) - 1).max() <= 8 * eps

    @each("n", [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 50, 64, 65, 130])
    def test_promised_bits(self, n, dtype, same_bits):
        # Element j is added in lane j % 16, and the lanes as a tree.
        Z = np.random.default_rng(n).normal(0, 3, (4, n)).astype(dtype)
        P = np.empty_like(Z)
        for z, p in zip(Z, P, strict=True):
            e = kernels.exp(z - z.max())
            lanes = np.zeros(16, dtype)
            for j in range(n):
                lanes[j % 16] += e[j]
            while lanes.size > 1:
                lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
            p[:] = e * (dtype.type(1) / lanes[0])
        same_bits(kernels.softmax(Z), P)

    def test_large_scores(self, dtype):
        Z = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [1e30, -1e30, 1e30]], dtype)
        third = dtype.type(1) / dtype.type(3)
        assert kernels.softmax(Z).tolist() == [[1, 0, 0], [third] * 3, [0.5, 0, 0.5]]
        assert kernels.softmax(Z[:1, ::-1]).tolist() == [[0, 0, 1]]

    def test_minus_infinity_is_no_chance(self, dtype):
        Z = np.array([[0.0, -np.inf, 0.0]], dtype)
        assert kernels.softmax(Z).tolist() == [[0.5, 0.0, 0.5]]

    def test_nan_spoils_its_own_row_only(self, dtype):
        for j in range(3):
            Z = np.zeros((3, 3), dtype)
            Z[1, j] = np.nan
            assert np.isnan(kernels.softmax(Z)).any(axis=1).tolist() == [False, True, False]
            assert np.isnan(kernels.softmax(Z))[1].all()

    def test_one_column_is_certain(self, dtype):
        Z = np.array([[-1e4], [0.0], [3.0]], dtype)
        assert kernels.softmax(Z).tolist() == [[1.0], [1.0], [1.0]]

    def test_a_row_has_the_same_bits_in_any_batch(self, dtype, same_bits):
        Z = np.random.default_rng(0).normal(size=(9, 21)).astype(dtype)
        for i in range(9):
            same_bits(kernels.softmax(Z[i : i + 1]), kernels.softmax(Z)[i : i + 1])

    def test_shapes(self, dtype):
        assert kernels.softmax(np.empty((0, 3), dtype)).shape == (0, 3)
        with pytest.raises(ValueError, match=r"^Z: expected at least one column"):
            kernels.softmax(np.empty((3, 0), dtype))
        for shape in ((), (3,), (1, 2, 3)):
            with pytest.raises(ValueError, match=r"^Z: expected 2 dimensions"):
                kernels.softmax(np.ones(shape, dtype))


def philox(counter, key):
    """Philox4x32-10, from the definition: J. K. Salmon et al., SC 2011."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def word(index, key, step):
    """The random word of an element: word i % 4 of counter i // 4."""
    halves = [(number % 2**32, number >> 32) for number in (index // 4, step, key)]
    return philox(halves[0] + halves[1], halves[2])[index % 4]


KEYS = [(0, 0), (1, 0), (0, 1), (2**64 - 1, 2**64 - 1), (0x1234567890ABCDEF, 7), (5, 2**40 + 3)]


class TestDropout:
    def test_known_answers_of_the_generator(self):
        # The vectors of Random123, kat_vectors, philox4x32 10.
        ones = 0xFFFFFFFF
        pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
        answers = {
            (0,) * 6: "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
            (ones,) * 6: "408f276d 41c83b0e a20bc7c6 6d5451fd",
            tuple(pi): "d16cfe09 94fdcceb 5001e420 24126ea1",
        }
        for numbers, words in answers.items():
            assert [f"{w:08x}" for w in philox(numbers[:4], numbers[4:])] == words.split()

    def test_known_answer_through_the_threshold(self, dtype):
        # An element is kept where its word is at least rate · 2**32, which finds the word.
        ones = np.ones(4, dtype)
        for i, w in enumerate((0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)):
            assert kernels.dropout(ones, w / 2**32, 0, 0)[i] != 0
            assert kernels.dropout(ones, (w + 1) / 2**32, 0, 0)[i] == 0

    @each("key, step", KEYS)
    def test_every_word(self, key, step, dtype):
        ones = np.ones(23, dtype)
        for i in range(23):
            w = word(i, key, step)
            assert kernels.dropout(ones, w / 2**32, key, step)[i] != 0
            assert kernels.dropout(ones, (w + 1) / 2**32, key, step)[i] == 0

    @given(n=st.integers(0, 50), rate=st.floats(0, 1, exclude_max=True),
           key=st.integers(0, 2**64 - 1), step=st.integers(0, 2**64 - 1))
    @settings(max_examples=50, deadline=None)
    def test_definition(self, dtype, same_bits, n, rate, key, step):
        X = np.random.default_rng(0).normal(size=n).astype(dtype)
        kept = np.array([word(i, key, step) >= math.floor(rate * 2**32) for i in range(n)], bool)
        with np.errstate(over="ignore"):
            expected = np.where(kept, X * dtype.type(1 / (1 - rate)), dtype.type(0))
        same_bits(kernels.dropout(X, rate, key, step), expected)

    def test_by_hand(self, dtype):
        X = np.array([1.0, 2.0, 3.0, 4.0], dtype)  # words 0.399, 0.88, 0.74, 0.61 of 1
        assert kernels.dropout(X, 0.5, 0, 0).tolist() == [0.0, 4.0, 6.0, 8.0]
        assert kernels.dropout(X, 0.75, 0, 0).tolist() == [0.0, 8.0, 0.0, 0.0]

    def test_first_elements_are_those_of_any_longer_array(self, dtype, same_bits):
        X = np.ones(1000, dtype)
        whole = kernels.dropout(X, 0.4, 3, 5)
        for n in (0, 1, 2, 3, 4, 5, 63, 64, 65, 999):
            same_bits(kernels.dropout(X[:n], 0.4, 3, 5), whole[:n])
        same_bits(kernels.dropout(X.reshape(10, 100), 0.4, 3, 5).reshape(-1), whole)

    def test_index_counts_elements_not_memory(self, dtype, same_bits):
        X = np.arange(1, 13, dtype=dtype).reshape(3, 4)
        same_bits(kernels.dropout(X.T, 0.4, 3, 5), kernels.dropout(X.T.copy(), 0.4, 3, 5))

    def test_masks(self):
        X = np.ones(200)
        mask = kernels.dropout(X, 0.5, 1, 2)
        np.testing.assert_array_equal(mask, kernels.dropout(X, 0.5, 1, 2))
        for key, step in ((2, 2), (1, 3), (2, 1), (1 + 2**32, 2), (1, 2 + 2**32)):
            differ = (mask != kernels.dropout(X, 0.5, key, step)).mean()
            assert 0.3 < differ < 0.7
        # A larger rate drops more of the same elements.
        assert (kernels.dropout(X, 0.2, 1, 2)[mask > 0] > 0).all()
        # Both dtypes have the same mask.
        np.testing.assert_array_equal(mask, kernels.dropout(X.astype(np.float32), 0.5, 1, 2))

    @each("rate", [0.01, 0.1, 0.5, 0.9, 0.999])
    def test_rate(self, rate, dtype):
        n = 200_000
        Y = kernels.dropout(np.ones(n, dtype), rate, 11, 13)
        deviation = math.sqrt(n * rate * (1 - rate))
        assert abs((Y == 0).sum() - n * rate) < 4 * deviation
        assert abs(Y.mean(dtype=np.float64) - 1) < 4 * deviation / (n * (1 - rate))

    def test_neighbours_and_steps_are_independent(self):
        n = 200_000
        kept = [kernels.dropout(np.ones(n), 0.5, 1, step) > 0 for step in (0, 1)]
        for a, b in ((kept[0][1:], kept[0][:-1]), (kept[0][4:], kept[0][:-4]), kept):
            assert abs((a == b).mean() - 0.5) < 4 * 0.5 / math.sqrt(n)

    def test_rate_zero_keeps_everything(self, dtype, same_bits):
        X = np.array([1.0, -2.0, np.inf, -np.inf, np.nan, 1e30, 0.0], dtype)
        same_bits(kernels.dropout(X, 0.0, 1, 1), X)

    def test_what_is_dropped_is_zero_whatever_it_was(self, dtype):
        mask = kernels.dropout(np.ones(64, dtype), 0.5, 1, 1) == 0
        for value in (np.nan, np.inf, -np.inf, -1.0):
            Y = kernels.dropout(np.full(64, value, dtype), 0.5, 1, 1)
            np.testing.assert_array_equal(Y == 0, mask)

    @each("kind", [int, np.int64, np.uint64, np.uint8])
    def test_keys_of_any_integer_type(self, kind):
        X = np.ones(40)
        np.testing.assert_array_equal(
            kernels.dropout(X, 0.5, kind(3), kind(4)), kernels.dropout(X, 0.5, 3, 4)
        )

    @each("argument", ["key", "step"])
    @each(
        "value, error",
        [(-1, ValueError), (2**64, ValueError), (1.5, TypeError), ("1", TypeError),
         (None, TypeError), ([1], TypeError)],
    )
    def test_keys_out_of_range(self, argument, value, error):
        arguments = {"key": 1, "step": 1} | {argument: value}
        with pytest.raises(error, match=rf"\b{argument}\b"):
            kernels.dropout(np.ones(3), 0.5, **arguments)
