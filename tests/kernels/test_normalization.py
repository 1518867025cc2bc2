"""Normalisation, PReLU and sums of columns: closed forms in float64, central differences, bits.

That every tier has the same bits: test_dispatch.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import kernels

from ..cases import each

LEAST_GRADIENT = {"float32": 2.0**-100, "float64": 2.0**-960}
SHAPES = st.tuples(st.integers(1, 600), st.integers(1, 70)).filter(lambda s: s[0] * s[1] < 20_000)
EVERY_SHAPE = settings(max_examples=25, deadline=None)


def normal(seed, *shape, dtype=np.float64):
    return np.random.default_rng(seed).normal(0.3, 2, shape).astype(dtype)


def close(got, true, dtype, size=100):
    """Within some units in the last place of the largest number."""
    assert got.dtype == dtype
    largest = max(1.0, abs(true).max(initial=0))
    np.testing.assert_allclose(got, true, rtol=0, atol=size * np.finfo(dtype).eps * largest)


def lanes_sum(terms):
    """A row's sum as it is promised: element j in lane j % 16, and the lanes as a tree."""
    lanes = np.zeros(16, terms.dtype)
    for j in range(terms.size):
        lanes[j % 16] += terms[j]
    while lanes.size > 1:
        lanes = lanes[: lanes.size // 2] + lanes[lanes.size // 2 :]
    return lanes[0]


def blocks_sum(terms):
    """Column sums as they are promised: chains over 256 rows, added in order."""
    blocks = []
    for start in range(0, len(terms), 256):
        chain = np.zeros(terms.shape[1], terms.dtype)
        for row in terms[start : start + 256]:
            chain = chain + row
        blocks.append(chain)
    total = blocks[0]
    for block in blocks[1:]:
        total = total + block
    return total


def slope_of(f, X, h=1e-5):
    """The gradient of f, a sum of products, by central differences."""
    slope = np.empty_like(X)
    for index in np.ndindex(X.shape):
        above, below = X.copy(), X.copy()
        above[index] += h
        below[index] -= h
        slope[index] = (f(above) - f(below)) / (2 * h)
    return slope


class TestRows:
    @pytest.mark.parametrize("center", [True, False])
    @given(shape=SHAPES, seed=st.integers(0, 2**32))
    @EVERY_SHAPE
    def test_closed_form(self, dtype, center, shape, seed):
        X = normal(seed, *shape, dtype=dtype)
        N, rstd = kernels.normalize_rows(X, 0.1, center)
        true = X.astype(np.float64)
        d = true - true.mean(axis=1, keepdims=True) * center
        root = 1 / np.sqrt((d**2).mean(axis=1) + 0.1)
        close(rstd, root, dtype)
        close(N, d * root[:, None], dtype)

    @each("n", [1, 7, 16, 17, 33, 130])
    def test_promised_bits(self, n, dtype, same_bits):
        # Of small whole numbers the squares are exact: fused multiply-adds are sums.
        X = np.random.default_rng(n).integers(-9, 10, (4, n)).astype(dtype)
        X[:, 0] += dtype.type(0.5)
        for center in (True, False):
            N, rstd = kernels.normalize_rows(X, center=center)
            for x, y, r in zip(X, N, rstd, strict=True):
                mean = lanes_sum(x) / dtype.type(n) if center else dtype.type(0)
                d = x - mean
                same_bits(y, d * r)
                if not center:
                    variance = lanes_sum(d * d) / dtype.type(n)
                    same_bits(r, 1 / np.sqrt(variance + dtype.type(1e-5)))

    @pytest.mark.parametrize("center", [True, False])
    def test_gradient_by_central_differences(self, center):
        X, dN = normal(0, 3, 5), normal(1, 3, 5)
        N, rstd = kernels.normalize_rows(X, 0.1, center)
        dX = kernels.normalize_rows_backward(dN, N, rstd, center)
        slope = slope_of(lambda X: (kernels.normalize_rows(X, 0.1, center)[0] * dN).sum(), X)
        np.testing.assert_allclose(dX, slope, atol=1e-8)

    @pytest.mark.parametrize("center", [True, False])
    @given(shape=SHAPES, seed=st.integers(0, 2**32))
    @EVERY_SHAPE
    def test_backward_closed_form(self, dtype, center, shape, seed):
        dN, N = (normal(seed + i, *shape, dtype=dtype) for i in range(2))
        rstd = abs(normal(seed, shape[0], dtype=dtype))
        d, y = dN.astype(np.float64), N.astype(np.float64)
        true = d - d.mean(axis=1, keepdims=True) * center
        true = (true - y * (d * y).mean(axis=1, keepdims=True)) * rstd[:, None].astype(np.float64)
        close(kernels.normalize_rows_backward(dN, N, rstd, center), true, dtype)

    def test_rows_by_themselves(self, dtype, same_bits):
        X = normal(0, 9, 21, dtype=dtype)
        N, rstd = kernels.normalize_rows(X)
        dX = kernels.normalize_rows_backward(X, N, rstd)
        for i in range(9):
            row = slice(i, i + 1)
            one, root = kernels.normalize_rows(X[row])
            same_bits(one, N[row])
            same_bits(root, rstd[row])
            same_bits(kernels.normalize_rows_backward(X[row], one, root), dX[row])

    def test_rows_that_are_all_the_same(self, dtype):
        X = np.array([[0.0, 0.0], [3.0, 3.0], [1e30, 1e30]], dtype)
        for epsilon in (1e-5, 1e-300):  # which no float32 holds
            N, rstd = kernels.normalize_rows(X, epsilon)
            assert (N == 0).all()
            assert np.isfinite(rstd).all()

    @each("bad", [np.nan, np.inf])
    @each("center", [True, False])
    def test_nan_and_infinity_spoil_their_own_row_only(self, bad, center, dtype):
        for j in (0, 17):
            X = normal(0, 3, 18, dtype=dtype)
            X[1, j] = bad
            N, _ = kernels.normalize_rows(X, center=center)
            assert np.isnan(N).any(axis=1).tolist() == [False, True, False]
            dX = kernels.normalize_rows_backward(X, np.ones_like(X), np.ones(3, dtype), center)
            assert np.isfinite(dX).all(axis=1).tolist() == [True, False, True]

    def test_shapes(self):
        N, rstd = kernels.normalize_rows(np.empty((0, 3)))
        assert N.shape == (0, 3)
        assert rstd.shape == (0,)
        for call in (lambda X: kernels.normalize_rows(X),
                     lambda X: kernels.normalize_rows_backward(X, X, np.ones(3))):
            with pytest.raises(ValueError, match=r"^d?[XN]: expected at least one column, got"):
                call(np.empty((3, 0)))
        with pytest.raises(ValueError, match=r"^rstd: expected shape \(2,\) to match dN's rows"):
            kernels.normalize_rows_backward(np.ones((2, 3)), np.ones((2, 3)), np.ones(3))

    @pytest.mark.parametrize("bad", [1, "yes", None])
    def test_center_that_is_no_boolean(self, bad):
        with pytest.raises(TypeError, match=r"^center: expected True or False"):
            kernels.normalize_rows(np.ones((2, 3)), center=bad)
        with pytest.raises(TypeError, match=r"^center: expected True or False"):
            kernels.normalize_rows_backward(np.ones((2, 3)), np.ones((2, 3)), np.ones(2), bad)


@each("bad, error", [(0, ValueError), (-1.0, ValueError), (np.nan, ValueError),
                     ("1", TypeError), (None, TypeError)])
def test_epsilon_out_of_range(bad, error):
    for function in (kernels.normalize_rows, kernels.inverse_sqrt):
        with pytest.raises(error, match=r"^epsilon: expected a"):
            function(np.ones((2, 3)), bad)


class TestColumns:
    @given(shape=SHAPES, seed=st.integers(0, 2**32))
    @EVERY_SHAPE
    def test_closed_forms(self, dtype, shape, seed):
        X, B = (normal(seed + i, *shape, dtype=dtype) for i in range(2))
        true, other = X.astype(np.float64), B.astype(np.float64)
        mean, variance = kernels.column_moments(X)
        close(mean, true.mean(axis=0), dtype)
        close(variance, true.var(axis=0), dtype)
        m = shape[0]
        close(kernels.column_dots(X, B) / dtype.type(m), (true * other).mean(axis=0), dtype, 500)

    @each("m, n", [(1, 1), (3, 5), (255, 17), (256, 64), (257, 65), (700, 130)])
    def test_promised_bits(self, m, n, dtype, same_bits):
        X = normal(m, m, n, dtype=dtype)
        mean = blocks_sum(X) / dtype.type(m)
        same_bits(kernels.column_moments(X)[0], mean)
        same_bits(kernels.column_dots(X), blocks_sum(X))
        same_bits(kernels.column_dots(X), kernels.dense_backward_bias(X))
        # Where products are exact, fused multiply-adds are sums.
        powers = np.ldexp(1.0, np.random.default_rng(0).integers(-3, 4, (m, n))).astype(dtype)
        same_bits(kernels.column_dots(X, powers), blocks_sum(X * powers))
        signed = powers * np.sign(powers - 1)
        same_bits(kernels.prelu_slope_gradient(X, signed), blocks_sum(X * np.minimum(signed, 0)))
        sign = np.sign(X)
        dX = kernels.normalize_columns_backward(X, sign, np.ones(n, dtype))
        same_bits(dX, X - mean - sign * (blocks_sum(X * sign) / dtype.type(m)))

    def test_dots_are_a_product_of_matrices(self, dtype, same_bits):
        A, B = normal(0, 600, 3, dtype=dtype), normal(1, 600, 3, dtype=dtype)
        same_bits(kernels.column_dots(A, B), np.diag(kernels.dense_backward_weights(A, B)).copy())

    def test_squares_are_a_product_of_matrices(self, dtype, same_bits):
        X = normal(0, 600, 3, dtype=dtype)
        mean, variance = kernels.column_moments(X)
        same_bits(variance, kernels.column_dots(X - mean, X - mean) / dtype.type(600))

    def test_normalised(self, dtype):
        X = normal(0, 50, 7, dtype=dtype)
        mean, variance = kernels.column_moments(X)
        rstd = kernels.inverse_sqrt(variance, 0.1)
        N = kernels.normalize_columns(X, mean, rstd)
        true = X.astype(np.float64)
        close(rstd, 1 / np.sqrt(true.var(axis=0) + 0.1), dtype)
        close(N, (true - true.mean(axis=0)) / np.sqrt(true.var(axis=0) + 0.1), dtype)

    def test_gradient_by_central_differences(self):
        def normalize(X):
            mean, variance = kernels.column_moments(X)
            rstd = kernels.inverse_sqrt(variance, 0.1)
            return kernels.normalize_columns(X, mean, rstd), rstd

        X, dN = normal(0, 6, 3), normal(1, 6, 3)
        dX = kernels.normalize_columns_backward(dN, *normalize(X))
        slope = slope_of(lambda X: (normalize(X)[0] * dN).sum(), X)
        np.testing.assert_allclose(dX, slope, atol=1e-8)

    @each("bad", [np.nan, np.inf])
    def test_nan_and_infinity_spoil_their_own_column_only(self, bad, dtype):
        X = normal(0, 300, 19, dtype=dtype)
        X[299, 17] = bad
        spoilt = [j == 17 for j in range(19)]
        mean, variance = kernels.column_moments(X)
        N = kernels.normalize_columns(X, mean, variance)
        ones = np.ones(19, dtype)
        for result in (mean, variance, N, kernels.column_dots(X), kernels.column_dots(X, X),
                       kernels.normalize_columns_backward(X, np.ones_like(X), ones)):
            assert (~np.isfinite(np.atleast_2d(result)).all(axis=0)).tolist() == spoilt

    def test_inverse_sqrt(self, dtype):
        X = np.array([0, 0.25, 3.75, -1, np.inf, np.nan], dtype)
        expected = np.array([2, np.sqrt(2), 0.5, np.nan, 0, np.nan], dtype)
        np.testing.assert_allclose(kernels.inverse_sqrt(X, 0.25), expected,
                                   rtol=2 * np.finfo(dtype).eps)
        assert np.isfinite(kernels.inverse_sqrt(np.zeros(3, dtype), 1e-300)).all()

    def test_shapes(self):
        with pytest.raises(ValueError, match=r"^X: expected at least one row, got shape \(0, 3\)"):
            kernels.column_moments(np.empty((0, 3)))
        assert kernels.column_dots(np.empty((0, 3))).tolist() == [0, 0, 0]
        assert kernels.normalize_columns(np.empty((0, 2)), np.ones(2), np.ones(2)).shape == (0, 2)
        with pytest.raises(ValueError, match=r"^rstd: expected shape \(3,\) to match X's columns"):
            kernels.normalize_columns(np.ones((2, 3)), np.ones(3), np.ones(2))


class TestElements:
    def test_add(self, dtype, same_bits):
        X, Y = normal(0, 7, 19, dtype=dtype), normal(1, 7, 19, dtype=dtype)
        for gradient in (False, True):
            same_bits(kernels.add(X, Y, gradient), X + Y)
        assert kernels.add(X[0, 0], Y[0, 0]).shape == ()

    def test_scale_columns(self, dtype, same_bits):
        X, gamma, beta = (normal(i, *shape, dtype=dtype)
                          for i, shape in enumerate(((7, 19), (19,), (19,))))
        same_bits(kernels.scale_columns(X, gamma), X * gamma)
        true = X.astype(np.longdouble) * gamma + beta
        close(kernels.scale_columns(X, gamma, beta), true, dtype, 1)
        # The product and the sum are rounded once.
        eps = np.finfo(dtype).eps
        one = np.ones((1, 1), dtype)
        assert kernels.scale_columns(one + eps, one[0] - eps, -one[0])[0, 0] == -(eps * eps)

    @each("function, n_vectors", [(kernels.add, 0), (kernels.scale_columns, 1)])
    def test_least_result(self, function, n_vectors, dtype):
        for gradient, least in ((False, np.finfo(dtype).smallest_normal),
                                (True, LEAST_GRADIENT[dtype.name])):
            least = dtype.type(least)
            X = np.array([[least, -least, least / 2, -least / 2]], dtype)
            other = np.ones(4, dtype) if n_vectors else np.zeros_like(X)
            assert function(X, other, gradient=gradient).tolist() == [[least, -least, 0, 0]]

    @pytest.mark.parametrize("bad", [1, None, "no"])
    def test_gradient_that_is_no_boolean(self, bad):
        for function, other in ((kernels.add, np.ones((2, 3))),
                                (kernels.scale_columns, np.ones(3))):
            with pytest.raises(TypeError, match=r"^gradient: expected True or False"):
                function(np.ones((2, 3)), other, gradient=bad)

    def test_running_average(self, dtype):
        average, X = normal(0, 19, dtype=dtype), normal(1, 19, dtype=dtype)
        true = 0.9 * average.astype(np.float64) + 0.1 * X
        assert kernels.running_average(average, X, 0.9) is None
        close(average, true, dtype, 2)
        for keep, expected in ((1, average.copy()), (0, X)):
            kernels.running_average(average, X, keep)
            np.testing.assert_array_equal(average, expected)

    def test_running_average_of_arrays_that_do_not_fit(self):
        average = np.ones(8)
        for keep in (-0.1, 1.1, np.nan):
            with pytest.raises(ValueError, match=r"^keep: expected a finite number"):
                kernels.running_average(average, np.ones(8), keep)
        with pytest.raises(ValueError, match=r"^average overlaps X"):
            kernels.running_average(average[:4], average[2:6], 0.5)
        with pytest.raises(ValueError, match=r"^average: expected a C-contiguous array"):
            kernels.running_average(average[::2], np.ones(4), 0.5)
        assert (average == 1).all()


class TestPReLU:
    def test_by_hand(self, dtype):
        X = np.array([[2, -2, 0], [-1, 3, -0.0]], dtype)
        slope = np.array([0.25, -0.5, 1], dtype)
        assert kernels.prelu(X, slope).tolist() == [[2, 1, 0], [-0.25, 3, 0]]
        dY = np.array([[4, 8, 2], [16, 32, 64]], dtype)
        assert kernels.prelu_backward(dY, X, slope).tolist() == [[4, -4, 2], [4, 32, 64]]
        assert kernels.prelu_slope_gradient(dY, X).tolist() == [-16, -16, 0]

    def test_gradients_by_central_differences(self):
        X, dY, slope = normal(0, 4, 5), normal(1, 4, 5), normal(2, 5)
        dX = slope_of(lambda X: (kernels.prelu(X, slope) * dY).sum(), X)
        np.testing.assert_allclose(kernels.prelu_backward(dY, X, slope), dX, atol=1e-8)
        dslope = slope_of(lambda slope: (kernels.prelu(X, slope) * dY).sum(), slope)
        np.testing.assert_allclose(kernels.prelu_slope_gradient(dY, X), dslope, atol=1e-8)

    def test_one_slope_is_leaky_relu(self, dtype, same_bits):
        X, dY = normal(0, 7, 19, dtype=dtype), normal(1, 7, 19, dtype=dtype)
        slope = np.full(19, 0.01, dtype)
        same_bits(kernels.prelu(X, slope), kernels.leaky_relu(X))
        same_bits(kernels.prelu_backward(dY, X, slope), kernels.leaky_relu_backward(dY, X))

    def test_nan_in_nan_out(self, dtype):
        X = np.array([[0.5, 0.5, np.nan, -1]], dtype)
        dY, ones = np.array([[1, np.nan, 1, np.nan]], dtype), np.ones(4, dtype)
        assert np.isnan(kernels.prelu(X, ones)).tolist() == [[False, False, True, False]]
        for dX in (kernels.prelu_backward(dY, X, ones)[0], kernels.prelu_slope_gradient(dY, X)):
            assert np.isnan(dX).tolist() == [False, True, True, True]
