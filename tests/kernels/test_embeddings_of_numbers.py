"""Periodic and piecewise linear embeddings: closed forms in float64, promised bits, central
differences.

That every tier has the same bits: test_dispatch.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import kernels

from ..cases import each

pytestmark = pytest.mark.once

EVERY_SHAPE = settings(max_examples=25, deadline=None)
# Rows, features, columns of the output for each.
SHAPES = st.tuples(st.integers(1, 600), st.integers(1, 5), st.integers(2, 40)).filter(
    lambda shape: np.prod(shape) < 30_000)


def normal(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(0.3, 1.5, shape).astype(dtype)


def close(got, true, dtype, size=100):
    """Within some units in the last place of the largest number."""
    assert got.dtype == dtype
    largest = max(1.0, abs(true).max(initial=0))
    np.testing.assert_allclose(got, true, rtol=0, atol=size * np.finfo(dtype).eps * largest)


def blocks_sum(terms):
    """Column sums as they are promised: chains over 256 rows, added in order."""
    total = None
    for start in range(0, len(terms), 256):
        chain = np.zeros(terms.shape[1:], terms.dtype)
        for row in terms[start : start + 256]:
            chain = chain + row
        total = chain if total is None else total + chain
    return total


def slope_of(f, X, h=1e-5):
    """The gradient of f by central differences."""
    slope = np.empty_like(X)
    for index in np.ndindex(X.shape):
        above, below = X.copy(), X.copy()
        above[index] += h
        below[index] -= h
        slope[index] = (f(above) - f(below)) / (2 * h)
    return slope


def waves(shape, dtype, seed=0):
    """Random X, frequencies, phases, gamma and beta."""
    m, k, d = shape
    return [normal(seed + i, *each, dtype=dtype)
            for i, each in enumerate(((m, k), (k, d - 1), (k, d - 1), (k, d), (k, d)))]


def cosine(t, dtype):
    """The kernel's cosine of t turns."""
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    t = np.asarray(t, dtype).reshape(-1, 1)
    return kernels.periodic(t, one, zero, np.ones((1, 2), dtype), np.zeros((1, 2), dtype))[:, 1]


def sine(t, dtype):
    """The kernel's sine of t turns, up to the rounding of two products."""
    one, zero = np.ones((1, 1), dtype), np.zeros((1, 1), dtype)
    t = np.asarray(t, dtype).reshape(-1, 1)
    dZ = np.tile(np.array([[0, 1]], dtype), (len(t), 1))
    gamma = np.array([[0, -1 / (2 * np.pi)]], dtype)
    return kernels.periodic_backward_input(dZ, t, one, zero, gamma)[:, 0]


class TestCosineAndSine:
    def turns(self, dtype):
        rng = np.random.default_rng(0)
        near = rng.choice([0, 0.25, 0.5, -0.75, 3, 1000.5], 3000)
        near += np.ldexp(rng.normal(size=3000), rng.integers(-30, -2, 3000))
        return np.r_[rng.uniform(-3, 3, 6000), rng.uniform(-1000, 1000, 3000), near].astype(dtype)

    def test_against_longdouble(self, dtype):
        t = self.turns(dtype)
        rest = t.astype(np.longdouble)
        rest -= np.round(rest)
        two_pi = 8 * np.arctan(np.longdouble(1))
        eps = np.finfo(dtype).eps
        close(cosine(t, dtype), np.cos(two_pi * rest), dtype, 1.3)
        close(sine(t, dtype), np.sin(two_pi * rest), dtype, 3.5)
        # Near its zeros as well, to a few units in the last place.
        quarter = np.longdouble(0.25) - abs(rest)
        small = abs(quarter) < 0.125
        true = np.sin(two_pi * quarter[small])
        assert (abs(cosine(t, dtype)[small] - true) <= 2.5 * eps * abs(true)).all()

    def test_exact_where_there_is_nothing_to_round(self, dtype):
        whole = np.array([0, -0.0, 1, -7, 2**20, 2**22 + 1, 2.0**23, 1e30, -1e38], dtype)
        assert (cosine(whole, dtype) == 1).all()
        assert (sine(whole, dtype) == 0).all()
        half = np.array([0.5, -0.5, 1.5, 2**21 + 0.5, -(2**22) - 0.5], dtype)
        assert (cosine(half, dtype) == -1).all()
        assert (sine(half, dtype) == 0).all()
        quarter = np.array([0.25, -0.25, 0.75, 1.25, 2**20 + 0.75], dtype)
        assert (cosine(quarter, dtype) == 0).all()
        np.testing.assert_allclose(sine(quarter, dtype), [1, -1, -1, 1, -1], rtol=1e-6)

    def test_even_and_odd(self, dtype, same_bits):
        t = self.turns(dtype)
        same_bits(cosine(-t, dtype), cosine(t, dtype))
        np.testing.assert_array_equal(sine(-t, dtype), -sine(t, dtype))
        assert abs(cosine(t, dtype)).max() <= 1 + np.finfo(dtype).eps

    def test_what_is_finite_stays_finite(self, dtype):
        most = np.finfo(dtype).max
        X = np.array([[most], [-most], [most / 2]], dtype)
        frequencies = np.full((1, 3), most, dtype)  # the product overflows
        phases, scale = np.zeros_like(frequencies), np.full((1, 4), 0.5, dtype)
        assert np.isfinite(kernels.periodic(X, frequencies, phases, scale, 0 * scale)).all()

    def test_nan_stays_nan(self, dtype):
        assert np.isnan(cosine([np.nan, 0, np.nan], dtype)).tolist() == [True, False, True]


class TestPeriodic:
    @given(shape=SHAPES, seed=st.integers(0, 2**32))
    @EVERY_SHAPE
    def test_closed_form(self, dtype, same_bits, shape, seed):
        m, k, d = shape
        X, frequencies, phases, gamma, _ = arrays = waves(shape, dtype, seed)
        x, omega, phi, g, b = (array.astype(np.float64) for array in arrays)
        t = omega * x[:, :, None] + phi
        N = np.concatenate([x[:, :, None], np.cos(2 * np.pi * t)], axis=2)
        Z, kept = kernels.periodic_features(*arrays)
        close(Z, (g * N + b).reshape(m, -1), dtype)
        close(kept, N.reshape(m, -1), dtype)
        same_bits(kernels.periodic(*arrays), Z)
        dZ = normal(seed + 9, m, k * d, dtype=dtype)
        dz = dZ.astype(np.float64).reshape(m, k, d)
        dgamma, dbeta, dfrequencies, dphases = kernels.periodic_backward(
            dZ, X, frequencies, phases, gamma)
        # The sums' errors grow with their terms'.
        close(dgamma / dtype.type(m), (dz * N).mean(axis=0), dtype, 300)
        close(dbeta / dtype.type(m), dz.mean(axis=0), dtype, 300)
        dt = -2 * np.pi * np.sin(2 * np.pi * t) * (dz * g)[:, :, 1:]
        close(dphases / dtype.type(m), dt.mean(axis=0), dtype, 1000)
        close(dfrequencies / dtype.type(m), (dt * x[:, :, None]).mean(axis=0), dtype, 2000)
        dX = kernels.periodic_backward_input(dZ, X, frequencies, phases, gamma)
        close(dX, (dt * omega).sum(axis=2) + dz[:, :, 0] * g[:, 0], dtype, 1000)

    @each("m, d", [(1, 2), (255, 8), (256, 16), (257, 5), (700, 24)])
    def test_promised_bits(self, m, d, dtype, same_bits):
        X, frequencies, phases, gamma, _ = arrays = waves((m, 3, d), dtype)
        dZ = np.ldexp(1.0, np.random.default_rng(0).integers(-3, 4, (m, 3 * d))).astype(dtype)
        _, N = kernels.periodic_features(*arrays)
        dgamma, dbeta, *_ = kernels.periodic_backward(dZ, X, frequencies, phases, gamma)
        # Products with powers of 2 are exact, so that fused multiply-adds are sums.
        same_bits(dgamma, blocks_sum(dZ * N).reshape(3, d))
        same_bits(dbeta, blocks_sum(dZ).reshape(3, d))
        for got, expected in zip(kernels.scale_shift_backward(dZ, N), (dgamma, dbeta), strict=True):
            same_bits(got, expected.reshape(-1))
        same_bits(dgamma.reshape(-1), kernels.column_dots(dZ, N))
        # With x = 1 the gradients of a frequency and of a phase are the same sum.
        same = kernels.periodic_backward(dZ, np.ones_like(X), frequencies, phases, gamma)
        same_bits(same[2], same[3])

    def test_gradients_by_central_differences(self):
        X, *parameters = waves((4, 2, 5), np.float64)
        dZ = normal(9, 4, 10)
        got = kernels.periodic_backward(dZ, X, *parameters[:3])
        order = [2, 3, 0, 1]
        for i, gradient in zip(order, got, strict=True):
            def loss(array, i=i):
                changed = [*parameters[:i], array, *parameters[i + 1 :]]
                return (kernels.periodic(X, *changed) * dZ).sum()
            np.testing.assert_allclose(gradient, slope_of(loss, parameters[i]), atol=1e-7)
        dX = slope_of(lambda X: (kernels.periodic(X, *parameters) * dZ).sum(), X)
        np.testing.assert_allclose(kernels.periodic_backward_input(dZ, X, *parameters[:3]), dX,
                                   atol=1e-6)

    def test_rows_by_themselves(self, dtype, same_bits):
        X, *parameters = waves((9, 3, 7), dtype)
        whole = kernels.periodic(X, *parameters)
        for i in range(9):
            same_bits(kernels.periodic(X[i : i + 1], *parameters), whole[i : i + 1])

    def test_shapes(self):
        X, frequencies, phases, gamma, beta = waves((4, 2, 5), np.float64)
        for wrong, message in (
            ((X, frequencies[:1], phases, gamma, beta), r"^frequencies: expected shape \(2, any\)"),
            ((X, frequencies, phases[:, 1:], gamma, beta), r"^phases: .* like frequencies"),
            ((X, frequencies, phases, gamma[:, 1:], beta), r"^gamma: .*column more than freq"),
        ):
            with pytest.raises(ValueError, match=message):
                kernels.periodic(*wrong)
        with pytest.raises(ValueError, match=r"^gamma: expected a row for each of X's columns"):
            kernels.periodic_backward(np.ones((4, 9)), X, frequencies, phases, gamma)


def edges_of(rng, n_bins, dtype):
    return [np.cumsum(rng.uniform(0.1, 1, n + 1)).astype(dtype) - dtype.type(1.5) for n in n_bins]


def encoding(x, edges):
    """How much of each bin lies below x, as the paper has it."""
    e = (x[:, None] - edges[:-1]) / (edges[1:] - edges[:-1])
    n = len(edges) - 1
    low = np.where(np.arange(n) > 0, 0, -np.inf)
    return np.clip(e, low, np.where(np.arange(n) < n - 1, 1, np.inf))


# Rows, columns of the output for each feature, and how many bins each feature has.
CURVES = st.tuples(st.integers(1, 600), st.integers(1, 40),
                   st.lists(st.integers(1, 20), min_size=1, max_size=4)).filter(
    lambda case: case[0] * case[1] * len(case[2]) < 30_000)


class TestPiecewise:
    def curves(self, case, dtype, seed=0):
        m, d, n_bins = case
        rng = np.random.default_rng(seed)
        edges = edges_of(rng, n_bins, np.dtype(dtype))
        X = normal(seed, m, len(n_bins), dtype=dtype) * 3
        for f, some in enumerate(edges):
            X[:: 3 + f, f] = rng.choice(some, len(X[:: 3 + f]))  # on edges
        W, b = (normal(seed + i, n, d, dtype=dtype) for i, n in ((1, sum(n_bins)),
                                                                 (2, len(n_bins))))
        return X, edges, W, b

    @given(case=CURVES, seed=st.integers(0, 2**32))
    @EVERY_SHAPE
    def test_closed_form(self, dtype, case, seed):
        m, d, n_bins = case
        X, edges, W, b = self.curves(case, dtype, seed)
        flat = np.concatenate(edges)
        Z, bins, fractions = kernels.piecewise(X, flat, W, kernels.piecewise_nodes(W, b, n_bins),
                                               n_bins)
        dZ = normal(seed + 7, m, d * len(n_bins), dtype=dtype)
        dW = kernels.piecewise_backward(dZ, bins, fractions, n_bins)
        dX = kernels.piecewise_backward_input(dZ, bins, flat, W, n_bins)
        starts = np.cumsum([0, *n_bins])
        for f, n in enumerate(n_bins):
            x, own = X[:, f].astype(np.float64), edges[f].astype(np.float64)
            e, rows = encoding(x, own), slice(starts[f], starts[f + 1])
            part = slice(f * d, (f + 1) * d)
            close(Z[:, part], b[f] + e @ W[rows].astype(np.float64), dtype, 300)
            dz = dZ[:, part].astype(np.float64)
            close(dW[rows] / dtype.type(m), e.T @ dz / m, dtype, 300)
            assert (bins[:, f] == np.searchsorted(own[1:-1], x, "right")).all()
            assert ((fractions[:, f] >= 0) | (bins[:, f] == 0)).all()
            assert ((fractions[:, f] <= 1) | (bins[:, f] == n - 1)).all()
            at = bins[:, f].astype(int)
            close(dX[:, f], (dz * W[rows][at]).sum(axis=1) / np.diff(own)[at], dtype, 300)

    def test_is_the_chain_over_all_bins(self, dtype, same_bits):
        case = 300, 5, [7, 1, 3]
        X, edges, W, b = self.curves(case, dtype)
        whole = np.round(W * 64) / 64  # sums of these, and products with 1 and 0, are exact
        nodes = kernels.piecewise_nodes(whole, b, case[2])
        Z, bins, fractions = kernels.piecewise(X, np.concatenate(edges), whole, nodes, case[2])
        for f, start in enumerate(np.cumsum([0, *case[2]])[:-1]):
            for i in range(0, 300, 7):
                total, t = b[f], int(bins[i, f])
                for row in whole[start : start + t]:
                    total = total + row
                close(Z[i, f * 5 : f * 5 + 5], total.astype(np.longdouble) + fractions[i, f]
                      .astype(np.longdouble) * whole[start + t], dtype, 1)

    @each("m, n", [(1, 1), (300, 5), (256, 300), (600, 257), (520, 700)])
    def test_promised_bits_of_the_gradient(self, m, n, dtype, same_bits):
        rng = np.random.default_rng(m)
        bins = rng.integers(n, size=(m, 2)) * [1, 0]
        fractions = np.ldexp(1.0, rng.integers(-3, 0, (m, 2))).astype(dtype)
        dZ = normal(m, m, 6, dtype=dtype)
        got = kernels.piecewise_backward(dZ, bins, fractions, [n, 1])
        total = None
        for start in range(0, m, 256):
            rows = slice(start, start + 256)
            inside, sums = (np.zeros((n, 3), dtype) for _ in range(2))
            for t, e, dz in zip(bins[rows, 0], fractions[rows, 0], dZ[rows, :3], strict=True):
                inside[t] += e * dz
                sums[t] += dz
            above = np.zeros(3, dtype)
            for t in range(n - 1, -1, -1):
                inside[t] += above
                above = above + sums[t]
            total = inside if total is None else total + inside
        same_bits(got[:n], total)
        same_bits(got[n:], blocks_sum(fractions[:, 1:] * dZ[:, 3:])[None])

    def test_gradients_by_central_differences(self):
        case = 5, 3, [3, 1, 2]
        X, edges, W, b = self.curves(case, np.dtype("f8"))
        X += 0.05  # off the edges, where the curve bends
        flat, dZ = np.concatenate(edges), normal(9, 5, 9)

        def loss(X=X, W=W, b=b):
            return (kernels.piecewise(X, flat, W, kernels.piecewise_nodes(W, b, case[2]),
                                      case[2])[0] * dZ).sum()

        _, bins, fractions = kernels.piecewise(X, flat, W, W, case[2])
        dW = kernels.piecewise_backward(dZ, bins, fractions, case[2])
        np.testing.assert_allclose(dW, slope_of(lambda W: loss(W=W), W), atol=1e-8)
        dX = kernels.piecewise_backward_input(dZ, bins, flat, W, case[2])
        np.testing.assert_allclose(dX, slope_of(lambda X: loss(X=X), X), atol=1e-7)

    @each("n", [1, 2, 63, 64, 65, 128, 129, 130, 1000])
    def test_number_of_bins(self, n, dtype):
        # Few edges are compared with several rows at once, and many are searched.
        edges = np.arange(n + 1, dtype=dtype)
        X = np.r_[-5, np.arange(n + 1), np.arange(n) + 0.5, n + 5].astype(dtype)[:, None]
        W = np.ones((n, 1), dtype)
        nodes = kernels.piecewise_nodes(W, np.zeros((1, 1), dtype), [n])
        Z, bins, _ = kernels.piecewise(X, edges, W, nodes, [n])
        assert Z.tolist() == X.tolist()  # with slope 1 everywhere
        assert (bins[:, 0] == np.clip(np.floor(X[:, 0]), 0, n - 1)).all()

    def test_special_numbers(self, dtype):
        X = np.array([[np.nan], [np.inf], [-np.inf], [1]], dtype)
        W = np.ones((2, 1), dtype)
        Z, bins, _ = kernels.piecewise(X, np.array([0, 1, 2], dtype), W, W, [2])
        np.testing.assert_array_equal(Z[:, 0], [np.nan, np.inf, -np.inf, 1])
        assert bins[:, 0].tolist() == [0, 1, 0, 1]

    @each("bad, message", [
        ([0.0, 0.0, 1.0], "ascend"), ([0.0, np.nan, 1.0], "finite"), ([2.0, 1.0, 3.0], "ascend"),
        ([0.0, 1.0], r"shape \(3,\)"), ([0.0, 1.0, np.inf], "finite")])
    def test_edges(self, bad, message):
        W = np.ones((2, 1))
        with pytest.raises(ValueError, match=rf"^edges: expected .*{message}"):
            kernels.piecewise([[1.0]], bad, W, W, [2])

    def test_edges_of_another_feature_may_lie_below(self):
        W = np.ones((2, 1))
        Z, *_ = kernels.piecewise([[1.0, 1.0]], [5.0, 6.0, 0.0, 2.0], W, 0 * W, [1, 1])
        assert Z.tolist() == [[-4.0, 0.5]]

    @each("bad, error", [(3, TypeError), ("12", TypeError), ([1.5], TypeError), ([0], ValueError),
                         ([None], TypeError)])
    def test_numbers_of_bins(self, bad, error):
        with pytest.raises(error, match=r"^n_bins: expected a"):
            kernels.piecewise_nodes(np.ones((1, 1)), np.ones((1, 1)), bad)

    @each("bad", [2, -1, 0.5, np.nan])
    def test_bins_that_do_not_exist(self, bad):
        bins = np.array([[0], [bad]])
        with pytest.raises(ValueError, match=r"^bins: expected whole numbers from 0"):
            kernels.piecewise_backward(np.ones((2, 1)), bins, np.ones((2, 1)), [2])
        with pytest.raises(ValueError, match=r"^bins: expected whole numbers from 0"):
            kernels.piecewise_backward_input(np.ones((2, 1)), bins, [0.0, 1, 2], np.ones((2, 1)),
                                             [2])
