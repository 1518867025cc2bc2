"""The dense products: exact arithmetic, NumPy, central differences, and the bits promised."""

import signal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fastbp.kernels import (
    dense_backward_bias,
    dense_backward_input,
    dense_backward_weights,
    dense_forward,
    dispatch,
    threads,
)

from ..cases import each

LEAST = {"float32": 2.0**-126, "float64": 2.0**-1022}
LEAST_GRADIENT = {"float32": 2.0**-100, "float64": 2.0**-960}
BLOCK = 256

# Sizes around the block of 256, and one chain of each kind of length.
LENGTHS = [0, 1, 2, 255, 256, 257, 511, 512, 513, 769]


def fma(a, b, c, dtype):
    """a·b + c rounded once, by exact arithmetic."""
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    value = float(exact)  # the nearest float64
    if dtype == np.float64:
        return value
    # Rounding twice, to 53 bits and then to 24, is right if the first goes to odd.
    if Fraction(value) != exact and not np.float64(value).view(np.uint64) & 1:
        value = np.nextafter(value, np.inf if exact > Fraction(value) else -np.inf)
    return float(np.float32(value))


def promised_product(A, B, bias, least):
    """bias + A·B as the numerics contract says it, one element at a time."""
    (m, k), n, dtype = A.shape, B.shape[1], A.dtype
    a, b = A.tolist(), B.tolist()
    C = np.zeros((m, n), dtype)
    for i in range(m):
        for j in range(n):
            total = 0.0 if bias is None else float(bias[j])
            for start in range(0, k, BLOCK):
                chain = total if start == 0 else 0.0
                for p in range(start, min(k, start + BLOCK)):
                    chain = fma(a[i][p], b[p][j], chain, dtype)
                total = chain if start == 0 else fma(1.0, total, chain, dtype)
            C[i, j] = total if abs(total) >= least else 0.0
    return C


def wide(rng, shape, dtype):
    """Numbers of all signs and of sizes from 2**-12 to 2**12: rounding shows."""
    return np.ldexp(rng.normal(size=shape), rng.integers(-12, 13, size=shape)).astype(dtype)


def test_fma_rounds_once():
    # 1 + 2**-24 + 2**-60 is above the tie and rounds up; through float64 it would not.
    assert fma(2.0**-12 + 2.0**-48, 2.0**-12, 1.0, np.float32) == 1 + 2.0**-23
    assert fma(2.0**-12, 2.0**-12, 1.0, np.float32) == 1.0
    assert fma(1 + 2.0**-30, 1 - 2.0**-30, -1.0, np.float64) == -(2.0**-60)


class TestByHand:
    X = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    W = np.array([[1.0, 0.0, -1.0], [2.0, 1.0, 0.5]])
    b = np.array([10.0, 20.0, 30.0])
    dZ = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0], [2.0, 0.0, 0.0]])

    def test_forward(self, dtype):
        Z = dense_forward(self.X.astype(dtype), self.W.astype(dtype), self.b.astype(dtype))
        assert Z.dtype == dtype
        assert Z.tolist() == [[15.0, 22.0, 30.0], [21.0, 24.0, 29.0], [27.0, 26.0, 28.0]]

    def test_backward_weights(self, dtype):
        dW = dense_backward_weights(self.X.astype(dtype), self.dZ.astype(dtype))
        assert dW.dtype == dtype
        assert dW.tolist() == [[11.0, -1.0, 6.0], [14.0, 0.0, 10.0]]

    def test_backward_bias(self, dtype):
        db = dense_backward_bias(self.dZ.astype(dtype))
        assert db.dtype == dtype
        assert db.tolist() == [3.0, 1.0, 4.0]

    def test_backward_input(self, dtype):
        dX = dense_backward_input(self.dZ.astype(dtype), self.W.astype(dtype))
        assert dX.dtype == dtype
        assert dX.tolist() == [[-2.0, 5.5], [-1.0, -0.5], [2.0, 4.0]]


class TestPromisedBits:
    """The same bits as exact rational arithmetic in the promised order."""

    @each("k", LENGTHS)
    def test_forward(self, dtype, k, same_bits):
        rng = np.random.default_rng(k)
        X, W, b = (wide(rng, shape, dtype) for shape in ((2, k), (k, 3), (3,)))
        same_bits(dense_forward(X, W, b), promised_product(X, W, b, LEAST[dtype.name]))

    @each("batch", LENGTHS)
    def test_backward_weights(self, dtype, batch, same_bits):
        rng = np.random.default_rng(batch)
        X, dZ = wide(rng, (batch, 2), dtype), wide(rng, (batch, 3), dtype)
        expected = promised_product(X.T, dZ, None, LEAST_GRADIENT[dtype.name])
        same_bits(dense_backward_weights(X, dZ), expected)

    @each("batch", LENGTHS)
    def test_backward_bias(self, dtype, batch, same_bits):
        dZ = wide(np.random.default_rng(batch), (batch, 3), dtype)
        ones = np.ones((1, batch), dtype)
        expected = promised_product(ones, dZ, None, LEAST_GRADIENT[dtype.name])
        same_bits(dense_backward_bias(dZ), expected[0])

    @each("n_out", LENGTHS)
    def test_backward_input(self, dtype, n_out, same_bits):
        rng = np.random.default_rng(n_out)
        dZ, W = wide(rng, (2, n_out), dtype), wide(rng, (3, n_out), dtype)
        expected = promised_product(dZ, W.T, None, LEAST_GRADIENT[dtype.name])
        same_bits(dense_backward_input(dZ, W), expected)

    def test_bias_starts_the_first_chain(self, dtype):
        # Added last, the bias would meet a sum that is exactly 0.
        large = 2.0 / np.finfo(dtype).eps
        X, W = np.array([[1.0, 1.0]], dtype), np.array([[large], [-large]], dtype)
        assert dense_forward(X, W, np.array([0.5], dtype)).tolist() == [[0.0]]

    def test_a_product_is_not_rounded_before_it_is_added(self, dtype):
        eps = float(np.finfo(dtype).eps)
        X, W = np.array([[1 + eps]], dtype), np.array([[1 - eps]], dtype)
        assert dense_forward(X, W, np.array([-1.0], dtype)).tolist() == [[-(eps**2)]]

    def test_second_block_starts_at_zero(self, dtype):
        # A chain that ran on would lose each of the small terms against the first one.
        half = float(np.finfo(dtype).eps) / 2
        X = np.ones((1, BLOCK + 4), dtype)
        W = np.zeros((BLOCK + 4, 1), dtype)
        W[0], W[BLOCK:] = 1.0, half
        Z = dense_forward(X, W, np.zeros(1, dtype))
        assert Z.tolist() == [[1.0 + 4 * half]]

    @given(m=st.integers(1, 3), k=st.integers(0, 20), n=st.integers(1, 3), seed=st.integers(0))
    @settings(max_examples=40, deadline=None)
    def test_small_shapes(self, dtype, same_bits, m, k, n, seed):
        rng = np.random.default_rng(seed)
        X, W, b, dZ = (wide(rng, s, dtype) for s in ((m, k), (k, n), (n,), (m, n)))
        gradient = LEAST_GRADIENT[dtype.name]
        same_bits(dense_forward(X, W, b), promised_product(X, W, b, LEAST[dtype.name]))
        same_bits(dense_backward_weights(X, dZ), promised_product(X.T, dZ, None, gradient))
        same_bits(dense_backward_input(dZ, W), promised_product(dZ, W.T, None, gradient))


class TestAgainstNumPy:
    """float64 or longdouble products, within the worst rounding that a chain can gather."""

    @each(
        "batch, n_in, n_out",
        [(1, 1, 1), (1, 300, 7), (128, 784, 64), (97, 101, 103), (1000, 3, 1), (17, 1031, 33),
         (2, 1, 500), (64, 64, 64)],
    )
    def test_all_products(self, dtype, batch, n_in, n_out):
        rng = np.random.default_rng(batch + n_in + n_out)
        X, W, b, dZ = (rng.normal(size=shape).astype(dtype)
                       for shape in ((batch, n_in), (n_in, n_out), (n_out,), (batch, n_out)))
        eps = np.finfo(dtype).eps
        x, w, c, d = (array.astype(np.float64) for array in (X, W, b, dZ))
        for got, true, size, length in (
            (dense_forward(X, W, b), x @ w + c, abs(x) @ abs(w) + abs(c), n_in + 1),
            (dense_backward_weights(X, dZ), x.T @ d, abs(x).T @ abs(d), batch),
            (dense_backward_bias(dZ), d.sum(axis=0), abs(d).sum(axis=0), batch),
            (dense_backward_input(dZ, W), d @ w.T, abs(d) @ abs(w).T, n_out),
        ):
            assert got.shape == true.shape
            # NumPy's own float64 rounding is in it, hence twice.
            assert (abs(got - true) <= 2 * length * eps * size).all()

    def test_more_work_than_one_look_at_signals(self, same_bits):
        # Above 2**25 multiply-adds the rows go panel by panel.
        rng = np.random.default_rng(0)
        X, W, b = (rng.normal(size=shape).astype(np.float32)
                   for shape in ((270, 500), (500, 260), (260,)))
        Z = dense_forward(X, W, b)
        np.testing.assert_allclose(Z, X.astype(float) @ W + b, rtol=0, atol=2e-3)
        for i in (0, 257, 258, 269):
            same_bits(Z[i], dense_forward(X[i : i + 1], W, b)[0], f"row {i}")
        dX = dense_backward_input(Z, W)
        scale = abs(Z.astype(float)) @ abs(W.T)
        assert (abs(dX - Z.astype(float) @ W.T) <= 1e-5 * scale).all()
        dW = dense_backward_weights(X, Z)
        scale = abs(X.T.astype(float)) @ abs(Z)
        assert (abs(dW - X.T.astype(float) @ Z) <= 1e-5 * scale).all()

    @given(st.data())
    @settings(max_examples=100, deadline=None)
    def test_whole_numbers_infinities_and_nan_exactly(self, dtype, data):
        m, k, n = (data.draw(st.integers(0, 9)) for _ in range(3))
        numbers = st.sampled_from([0.0, -0.0, 1.0, -2.0, 3.0, np.inf, -np.inf, np.nan]
                                  + [float(i) for i in range(-9, 10)])
        X, W, b, dZ = (data.draw(hnp.arrays(dtype, shape, elements=numbers, fill=numbers))
                       for shape in ((m, k), (k, n), n, (m, n)))
        with np.errstate(invalid="ignore"):
            x, w, d = (array.astype(np.float64) for array in (X, W, dZ))
            np.testing.assert_array_equal(dense_forward(X, W, b), x @ w + b)
            np.testing.assert_array_equal(dense_backward_weights(X, dZ), x.T @ d)
            np.testing.assert_array_equal(dense_backward_input(dZ, W), d @ w.T)
            np.testing.assert_array_equal(dense_backward_bias(dZ), d.sum(axis=0))

    def test_huge_numbers_overflow_only_where_the_result_does(self):
        X = np.array([[1e30, 1e30]], np.float32)
        W = np.array([[1e30, 1e30, 1e8], [-1e30, 1e30, 0.0]], np.float32)
        # A product is not rounded, so that a sum of -inf and inf does not arise from it.
        assert dense_forward(X[:, :1], W[:1, 2:], np.zeros(1, np.float32)) == np.float32(1e38)
        Z = dense_forward(X, W, np.zeros(3, np.float32))
        assert Z[0, 1] == np.inf
        assert Z[0, 2] == X[0, 0] * W[0, 2]

    @pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no timers")
    def test_an_interrupt_stops_a_long_product(self):
        def interrupt(*_):
            raise KeyboardInterrupt

        A, out = np.ones((600, 600)), np.full((600, 600), np.nan)
        tier, handler = dispatch.isa(), signal.signal(signal.SIGALRM, interrupt)
        dispatch.use("scalar")  # in which this takes six looks at signals
        try:
            with pytest.raises(KeyboardInterrupt), threads.using(1):
                signal.setitimer(signal.ITIMER_REAL, 0.005)
                dense_forward(A, A, A[0], out=out)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            dispatch.use(tier)
        assert np.isnan(out[-1]).all()


class TestShapes:
    @each("batch, n_in, n_out", [(0, 3, 2), (4, 0, 2), (4, 3, 0), (0, 0, 0)])
    def test_empty(self, dtype, batch, n_in, n_out):
        X, W = np.ones((batch, n_in), dtype), np.ones((n_in, n_out), dtype)
        b, dZ = np.arange(1, n_out + 1, dtype=dtype), np.ones((batch, n_out), dtype)
        np.testing.assert_array_equal(dense_forward(X, W, b), X @ W + b)
        np.testing.assert_array_equal(dense_backward_weights(X, dZ), X.T @ dZ)
        np.testing.assert_array_equal(dense_backward_bias(dZ), dZ.sum(axis=0))
        np.testing.assert_array_equal(dense_backward_input(dZ, W), dZ @ W.T)

    def test_a_row_has_the_same_bits_in_any_batch(self, dtype, same_bits):
        rng = np.random.default_rng(0)
        X, W, b = (wide(rng, shape, dtype) for shape in ((45, 300), (300, 37), (37,)))
        whole = dense_forward(X, W, b)
        dX = dense_backward_input(whole, W)
        for start, stop in ((0, 1), (3, 5), (7, 21), (13, 45), (44, 45)):
            rows = slice(start, stop)
            same_bits(dense_forward(X[rows], W, b), whole[rows], f"Z[{start}:{stop}]")
            same_bits(dense_backward_input(whole[rows], W), dX[rows], f"dX[{start}:{stop}]")

    def test_a_column_has_the_same_bits_beside_any_others(self, dtype, same_bits):
        rng = np.random.default_rng(0)
        X, W, b, dZ = (wide(rng, shape, dtype) for shape in ((30, 40), (40, 67), (67,), (30, 67)))
        for j in (0, 15, 16, 31, 64, 66):
            one = slice(j, j + 1)
            same_bits(dense_forward(X, W[:, one], b[one]), dense_forward(X, W, b)[:, one])
            same_bits(dense_backward_weights(X, dZ[:, one]), dense_backward_weights(X, dZ)[:, one])
            same_bits(dense_backward_bias(dZ[:, one]), dense_backward_bias(dZ)[one])

    def test_the_same_array_twice(self, dtype):
        A = np.array([[1.0, 2.0], [3.0, 4.0]], dtype)
        assert dense_backward_weights(A, A).tolist() == [[10.0, 14.0], [14.0, 20.0]]
        assert dense_backward_input(A, A).tolist() == [[5.0, 11.0], [11.0, 25.0]]

    @each(
        "function, shapes, wrong",
        [
            (dense_forward, {"X": (3, 4), "W": (5, 2), "b": (2,)}, "W"),
            (dense_forward, {"X": (3, 4), "W": (4, 2), "b": (3,)}, "b"),
            (dense_forward, {"X": (3, 4), "W": (4, 2), "b": (1,)}, "b"),  # no broadcasting
            (dense_forward, {"X": (4,), "W": (4, 2), "b": (2,)}, "X"),
            (dense_forward, {"X": (3, 4), "W": (4,), "b": (2,)}, "W"),
            (dense_forward, {"X": (3, 4), "W": (4, 2), "b": (1, 2)}, "b"),
            (dense_forward, {"X": (1, 3, 4), "W": (4, 2), "b": (2,)}, "X"),
            (dense_forward, {"X": (), "W": (4, 2), "b": (2,)}, "X"),
            (dense_backward_weights, {"X": (3, 4), "dZ": (2, 5)}, "dZ"),
            (dense_backward_weights, {"X": (3, 4), "dZ": (3,)}, "dZ"),
            (dense_backward_bias, {"dZ": (3,)}, "dZ"),
            (dense_backward_input, {"dZ": (3, 4), "W": (4, 2)}, "W"),
            (dense_backward_input, {"dZ": (4,), "W": (2, 4)}, "dZ"),
        ],
    )
    def test_sizes_that_do_not_fit(self, function, shapes, wrong):
        with pytest.raises(ValueError, match=rf"^{wrong}: expected"):
            function(**{name: np.ones(shape) for name, shape in shapes.items()})


def test_gradients_by_central_differences():
    # With L = Σ G·Z the gradient with respect to Z is G; L is linear in each argument.
    rng = np.random.default_rng(0)
    X, W, b, G = (rng.normal(size=shape) for shape in ((4, 3), (3, 2), (2,), (4, 2)))
    gradients = (dense_backward_input(G, W), dense_backward_weights(X, G), dense_backward_bias(G))
    for array, gradient in zip((X, W, b), gradients, strict=True):
        for place in np.ndindex(array.shape):
            kept = array[place]
            array[place] = kept + 0.5
            above = (G * dense_forward(X, W, b)).sum()
            array[place] = kept - 0.5
            below = (G * dense_forward(X, W, b)).sum()
            array[place] = kept
            assert gradient[place] == pytest.approx(above - below, rel=1e-12, abs=1e-12)


class TestTinyResults:
    """Results below the least number become 0, of either sign; the least itself stays."""

    def test_forward(self, dtype):
        least = LEAST[dtype.name]
        X = np.array([[least], [-least], [least * 0.75], [-least * 0.75], [least * 2]], dtype)
        Z = dense_forward(X, np.ones((1, 1), dtype), np.zeros(1, dtype))
        assert Z[:, 0].tolist() == [least, -least, 0.0, 0.0, least * 2]
        assert dense_forward(X * 0, np.ones((1, 1), dtype), X[2])[0, 0] == 0.0

    def test_gradients(self, dtype):
        least = LEAST_GRADIENT[dtype.name]
        below = float(np.nextafter(dtype.type(least), dtype.type(0)))
        values, kept = [least, -least, below, -below], [least, -least, 0.0, 0.0]
        d = np.array([values], dtype)
        one = np.ones((1, 1), dtype)
        assert dense_backward_bias(d).tolist() == kept
        assert dense_backward_weights(one, d).tolist() == [kept]
        assert dense_backward_input(d.T.copy(), one)[:, 0].tolist() == kept

    def test_only_the_result_is_cut_not_the_terms(self, dtype):
        half = LEAST_GRADIENT[dtype.name] / 2
        d = np.full((4, 1), half, dtype)
        assert dense_backward_bias(d).tolist() == [4 * half]
        assert dense_backward_weights(np.ones((4, 1), dtype), d).tolist() == [[4 * half]]
        assert dense_backward_input(d.T.copy(), np.ones((1, 4), dtype)).tolist() == [[4 * half]]

    def test_zero_has_no_sign(self, dtype):
        zero = -np.zeros((1, 1), dtype)
        for result in (
            dense_forward(zero, zero + 1, zero[0]),
            dense_forward(zero[:, :0], zero[:0], zero[0]),  # the bias alone
            dense_backward_weights(zero, zero + 1),
            dense_backward_bias(zero),
        ):
            assert result == 0
            assert not np.signbit(result).any()
