"""Sparse rows give the bits of dense ones, and broken ones are refused."""

import math

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb

from .fits import CROSS_ENTROPY, a_fit, a_net, classes, each_update, some_zeros, sparse, timeless


@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
@pytest.mark.parametrize("kind", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
@each_update
def test_sparse_rows_give_the_bits_of_dense_ones(dtype, form, kind, watch):
    X, y = some_zeros()
    w = np.arange(23.0)

    def run(X, **options):
        net = a_net(dtype)
        history = a_fit(net, X, y, seed=0, optimizer=watch(fb.Adam(0.01)), **options)
        return timeless(history), net.parameters.tobytes(), net.predict(X).tobytes(), \
            net.evaluate(X, y, loss=CROSS_ENTROPY)

    for options in ({}, {"sample_weight": w, "validation_fraction": 0.3, "l2": 0.1},
                    {"validation_data": (sparse(X, form, kind), y, w)}):
        expected = run(X, **options)
        assert run(sparse(X, form, kind), **options) == expected
        for other in ("f4", "f8", "i1", "i8", "g"):
            assert run(sparse(X, form, kind, dtype=other), **options) == expected, other
        if form == "csr":
            for index in ("i4", "i8"):
                assert run(sparse(X, form, kind, index), **options) == expected, index
    assert run(sparse(X > 1, form, kind)) == run((X > 1).astype(dtype))


@each_update
def test_sparse_rows_without_a_number(dtype, watch):
    y = classes()[1]
    results = []
    for X in (np.zeros((23, 4)), scipy.sparse.csr_array((23, 4)), scipy.sparse.coo_matrix((23, 4))):
        net = a_net(dtype)
        results.append((timeless(a_fit(net, X, y, seed=0, optimizer=watch(fb.Adam()))),
                        net.parameters.tobytes(), net.predict(X).tobytes()))
    assert results[0] == results[1] == results[2]


@pytest.mark.parametrize("kind", ["f4", "f8", "i1", "u1", "?"])
@each_update
def test_sparse_rows_with_duplicates_in_any_order(dtype, kind, watch):
    """They are summed as SciPy sums them, whatever their dtype, by `fit` as by `predict`."""
    rng = np.random.default_rng(0)
    starts = np.r_[0, np.cumsum(rng.integers(0, 9, 23) * np.r_[9, [1] * 21, 9])]
    values = rng.normal(size=starts[-1]) if kind[0] == "f" else rng.integers(0, 99, starts[-1])
    X = scipy.sparse.csr_array((values.astype(kind), rng.integers(0, 4, starts[-1]), starts),
                               shape=(23, 4))
    assert not X.has_canonical_format
    y, kept, results = classes()[1], X.copy(), []
    for rows in (X, X.toarray()):
        net = a_net(dtype)
        history = a_fit(net, rows, y, seed=0, optimizer=watch(fb.SGD(0.1)),
                        validation_fraction=0.2)
        results.append((timeless(history), net.parameters.tobytes(), net.predict(rows).tobytes(),
                        net.evaluate(rows, y, loss=CROSS_ENTROPY)))
    assert results[0] == results[1]
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(X, name), getattr(kept, name))


def broken(**parts):
    """A CSR array of which some part has been overwritten."""
    X = scipy.sparse.csr_array(np.ones((12, 4)))
    for name, (place, value) in parts.items():
        getattr(X, name)[place] = value
    return X


@pytest.mark.parametrize("parts", [
    {"indices": (5, 4)}, {"indices": (5, 10**9)}, {"indices": (5, -1)}, {"indptr": (3, 10**9)},
    {"indptr": (3, -1)}, {"indptr": (12, 10**6)}, {"indptr": (0, 1)}, {"indptr": (3, 40)},
    {"data": (7, math.nan)}, {"data": (7, -math.inf)}, {"data": (7, 1e39)},
], ids=str)
@pytest.mark.parametrize("prefix", ["", "validation_data "])
def test_sparse_rows_that_are_broken(parts, prefix):
    X, y, net = broken(**parts), np.arange(12) % 3, a_net()
    before = net.parameters.tobytes()
    with pytest.raises(ValueError, match=f"^{prefix}X[.:]"):
        if prefix:
            a_fit(net, np.ones((12, 4)), y, validation_data=(X, y))
        else:
            a_fit(net, X, y)
    assert net.parameters.tobytes() == before
    with pytest.raises(ValueError, match=r"^X"):
        net.evaluate(X, y, loss=CROSS_ENTROPY)


@pytest.mark.parametrize(("X", "error", "message"), [
    (scipy.sparse.csr_array(np.ones((12, 3))), ValueError, "X: expected 4 columns.*got 3"),
    (scipy.sparse.csr_array((0, 4)), ValueError, r"X: expected at least one row.*\(0, 4\)"),
    (scipy.sparse.coo_array(np.ones(4)), ValueError, "X: expected 2 dimensions.*got 1"),
    (scipy.sparse.csr_array(np.ones((12, 4), complex)), TypeError, "X.*real numbers.*complex"),
    (scipy.sparse.csr_array(np.ones((11, 4))), ValueError, "y: expected 11 rows"),
])
def test_sparse_rows_that_do_not_fit(X, error, message):
    with pytest.raises(error, match=f"^{message}"):
        a_fit(a_net(), X, np.arange(12) % 3)


@pytest.mark.parametrize("index", ["i4", "i8"])
@pytest.mark.parametrize("kind", ["f4", "f8"])
def test_sparse_rows_are_left_alone(index, kind):
    X = sparse(some_zeros()[0], "csr", index=index, dtype=kind)
    kept = X.copy()
    a_fit(a_net(), X, some_zeros()[1], validation_fraction=0.3)
    a_net().predict(X)
    for name in ("data", "indices", "indptr"):
        after, before = getattr(X, name), getattr(kept, name)
        assert (after.dtype, after.tobytes()) == (before.dtype, before.tobytes())
