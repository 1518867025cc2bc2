"""The order of rows against NumPy's permutations."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastbp.kernels.gather import permutations

from ..cases import each


@each("generator", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
@given(n=st.integers(0, 600), count=st.integers(0, 4), seed=st.integers(0, 10**6))
def test_permutations_are_numpys(generator, n, count, seed):
    ours, theirs = (np.random.Generator(generator(seed)) for _ in range(2))
    for rng in ours, theirs:
        rng.integers(9, size=seed % 2, dtype=np.uint32)  # half a word may be left over
    orders = permutations(ours, count, n)
    assert orders.dtype == np.int64 and orders.shape == (count, n)
    for order in orders:
        np.testing.assert_array_equal(order, theirs.permutation(n))
    assert ours.integers(2**63) == theirs.integers(2**63)


def test_a_negative_number_of_rows():
    with pytest.raises(ValueError, match="negative"):
        permutations(np.random.default_rng(0), 1, -1)
