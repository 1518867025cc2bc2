"""Embeddings: rows of a table, and the sums of rows that its gradient is.

That every tier has the same bits: test_dispatch.py.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import kernels
from fastbp.kernels import dispatch

from ..cases import each


def gradient(codes, dZ, n_categories):
    """As it is promised: for each code a chain in each block of 256 rows, the blocks in order."""
    total = np.zeros((n_categories, dZ.shape[1]), dZ.dtype)
    for start in range(0, len(codes), 256):
        block = np.zeros_like(total)
        for code, row in zip(codes[start : start + 256], dZ[start : start + 256], strict=True):
            block[code] += row
        total += block
    return total


class TestEmbedding:
    @each("kind", ["i1", "u2", "i8", "f4", "f8", ">i4", ">f8", bool])
    def test_codes_of_any_type(self, kind, dtype, same_bits):
        table = np.random.default_rng(0).normal(size=(2, 19)).astype(dtype)
        codes = np.array([0, 1, 1, 0, 1])
        same_bits(kernels.embedding(codes.astype(kind), table), table[codes])
        same_bits(kernels.embedding(codes.astype(kind).tolist(), table), table[codes])
        same_bits(kernels.embedding(codes.astype(kind)[::2], table), table[codes[::2]])

    @given(m=st.integers(0, 300), n=st.integers(0, 70), n_categories=st.integers(1, 600),
           seed=st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def test_rows_of_the_table(self, dtype, same_bits, m, n, n_categories, seed):
        rng = np.random.default_rng(seed)
        table = rng.normal(size=(n_categories, n)).astype(dtype)
        codes = rng.integers(n_categories, size=m)
        same_bits(kernels.embedding(codes, table), table[codes])

    def test_special_numbers(self, dtype, same_bits):
        tiny = np.finfo(dtype).smallest_subnormal
        table = np.array([[np.nan, np.inf, -np.inf, tiny]], dtype)
        same_bits(kernels.embedding([0, -0.0], table), np.repeat(table, 2, axis=0) *
                  np.array([1, 1, 1, 0], dtype))


class TestGradient:
    @given(m=st.integers(0, 1100), n=st.sampled_from([0, 1, 5, 16, 17, 63, 64, 65, 130]),
           n_categories=st.sampled_from([1, 2, 7, 200, 3000]), seed=st.integers(0, 2**32))
    @settings(max_examples=25, deadline=None)
    def test_promised_bits(self, dtype, same_bits, m, n, n_categories, seed):
        rng = np.random.default_rng(seed)
        codes = rng.integers(n_categories, size=m)
        dZ = rng.normal(size=(m, n)).astype(dtype)
        expected = gradient(codes, dZ, n_categories)
        for tier in dispatch.available():
            before = dispatch.isa()
            try:
                dispatch.use(tier)
                got = kernels.embedding_backward(codes, dZ, n_categories)
            finally:
                dispatch.use(before)
            same_bits(got, expected, tier)

    @pytest.mark.parametrize("step", [1, 512, 2**15 + 1, 65535])
    def test_codes_that_share_places(self, step, same_bits):
        # However they fall in the table by which equal codes are found.
        rng = np.random.default_rng(step)
        codes = rng.permutation(np.repeat(np.arange(150) * step, 3))
        dZ = rng.normal(size=(450, 2))
        n = int(codes.max()) + 1
        dtable = kernels.embedding_backward(codes, dZ, n)
        used = np.unique(codes)
        order = np.searchsorted(used, codes)
        same_bits(dtable[used], gradient(order, dZ, used.size))
        assert np.count_nonzero(dtable) == 2 * used.size

    def test_is_the_dense_gradient_of_one_hot_rows(self, dtype, same_bits):
        rng = np.random.default_rng(0)
        codes, dZ = rng.integers(5, size=700), rng.normal(size=(700, 3)).astype(dtype)
        dense = kernels.dense_backward_weights(np.eye(5, dtype=dtype)[codes], dZ)
        same_bits(kernels.embedding_backward(codes, dZ, 5), dense)

    def test_by_hand(self, dtype):
        dZ = np.array([[1, 2], [4, 8], [16, 32]], dtype)
        assert kernels.embedding_backward([2, 0, 2], dZ, 4).tolist() == [
            [4, 8], [0, 0], [17, 34], [0, 0]]

    def test_rows_without_a_code_are_zero_whatever_was_there(self, dtype, same_bits):
        out = np.full((5, 3), np.nan, dtype)
        kernels.embedding_backward([1, 3], np.ones((2, 3), dtype), 5, out=out)
        same_bits(out, np.array([[0], [1], [0], [1], [0]], dtype) * np.ones(3, dtype))

    def test_tiny_gradients_become_zero(self, dtype):
        least = dtype.type(2.0**-100 if dtype == np.float32 else 2.0**-960)
        dZ = np.array([[least, least / 2, -least / 2]], dtype)
        for n_categories in (1, 3):
            dtable = kernels.embedding_backward([0], dZ, n_categories)
            assert dtable[0].tolist() == [least, 0, 0]
        twice = np.repeat(dZ, 2, axis=0)
        assert kernels.embedding_backward([0, 0], twice, 3)[0].tolist() == [2 * least, least,
                                                                           -least]

    def test_nan_stays_in_its_row(self, dtype):
        dZ = np.ones((3, 2), dtype)
        dZ[1, 1] = np.nan
        dtable = kernels.embedding_backward([0, 2, 2], dZ, 4)
        np.testing.assert_array_equal(dtable, [[1, 1], [0, 0], [2, np.nan], [0, 0]])


class TestRefused:
    @each("bad", [3, -1, 2**40, 0.5, -1.0, np.nan, np.inf, -np.inf])
    def test_codes_that_name_no_row(self, bad):
        message = rf"^codes: expected whole numbers from 0 to 2, .* got {bad} in row 1$"
        with pytest.raises(ValueError, match=message):
            kernels.embedding(np.array([0, bad, 1]), np.ones((3, 2)))
        with pytest.raises(ValueError, match=message):
            kernels.embedding_backward(np.array([0, bad, 1]), np.ones((3, 2)), 3)

    @each("bad", [None, "ab", ["a"], [1j], {}, [object()]])
    def test_codes_that_are_no_numbers(self, bad):
        with pytest.raises(TypeError, match=r"^codes: expected an array of real numbers"):
            kernels.embedding(bad, np.ones((3, 2)))

    def test_shapes(self):
        for codes in (0, [[0]], np.zeros((2, 1))):
            with pytest.raises(ValueError, match=r"^codes: expected 1 dimension, got .*column"):
                kernels.embedding(codes, np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"^codes: expected shape \(4,\) to match dZ's rows"):
            kernels.embedding_backward([0], np.ones((4, 2)), 3)
        with pytest.raises(ValueError, match=r"^codes: expected whole numbers from 0 to -1"):
            kernels.embedding([0], np.ones((0, 2)))
        assert kernels.embedding([], np.ones((0, 2))).shape == (0, 2)

    @each("bad, error", [(-1, ValueError), (2.0, TypeError), (None, TypeError),
                         (True, ValueError)])
    def test_number_of_categories(self, bad, error):
        with pytest.raises(error, match=r"^n_categories: expected a whole number"):
            kernels.embedding_backward([0], np.ones((1, 2)), bad)

    def test_more_categories_than_float32_counts(self):
        with pytest.raises(ValueError, match=r"^n_categories: expected at most 16777216 cat.*64"):
            kernels.embedding_backward([0], np.ones((1, 1), np.float32), 2**24 + 1)
        table = np.broadcast_to(np.float32(1), (2**24 + 1, 0))
        with pytest.raises(ValueError, match=r"^table: expected at most 16777216 categories"):
            kernels.embedding([0], table)
