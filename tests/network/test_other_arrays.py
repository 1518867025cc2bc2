"""Sparse rows, masked arrays and columns of pandas."""

import math
import subprocess
import sys
from functools import partial

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb

from .networks import Same, a_net, same_bits

# Sparse rows


@pytest.mark.parametrize("rows", [0, 1, 5, 1500])
@pytest.mark.parametrize("own", [False, True])
def test_predict_sparse_rows(dtype, rows, own, rng, monkeypatch):
    net = fb.Sequential([fb.Dense(4, 6), Same() if own else fb.GELU(), fb.Dense(6, 3)], dtype,
                        seed=0)
    X = rng.integers(-3, 4, (rows, 4)) * (rng.random((rows, 4)) < 0.4)
    expected = net.predict(X)
    for kind in (dtype, "f4", "f8", "i1", "i8", "g"):
        for form in ("csr", "csc", "coo", "lil"):
            for make in (scipy.sparse.coo_array, scipy.sparse.coo_matrix):
                S = make(X.astype(kind)).asformat(form)
                assert same_bits(net.predict(S), expected)
                out = np.empty((rows, 3), dtype)
                assert net.predict(S, out=out) is out
                assert same_bits(out, expected)
                assert S.format == form
    assert same_bits(net.predict(scipy.sparse.csr_array(X > 0)), net.predict(X > 0))
    monkeypatch.setattr(fb.network, "CHUNK_SIZE", 12)
    assert same_bits(net.predict(scipy.sparse.csr_array(X)), expected)
    assert same_bits(net.predict(X), expected)


def test_predict_sparse_nan_stays_in_its_row(dtype):
    net, X = a_net(dtype), np.eye(5, 4)
    expected = net.predict(X)
    X[2, 1] = math.nan
    Z = net.predict(scipy.sparse.csr_array(X))
    assert np.isnan(Z[2]).all()
    assert same_bits(Z[[0, 1, 3, 4]], expected[[0, 1, 3, 4]])


@pytest.mark.parametrize(("X", "error", "message"), [
    (scipy.sparse.csr_array((2, 5)), ValueError, r"expected 4 columns.*got 5 \(shape \(2, 5\)\)"),
    (scipy.sparse.coo_array(np.ones(4)), ValueError, "expected 2 dimensions.*got 1"),
    (scipy.sparse.csr_array(np.ones((2, 4), complex)), TypeError, "real numbers.*complex"),
])
def test_bad_sparse_X(X, error, message):
    with pytest.raises(error, match=f"^X.*{message}"):
        a_net().predict(X)


def test_forward_with_sparse_rows(dtype):
    X = scipy.sparse.csr_array(np.eye(4))
    assert same_bits(a_net(dtype).forward(X, training=False),
                     a_net(dtype).forward(X.toarray(), training=False))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", ["csr", "csc", "coo"])
def test_evaluate_sparse_rows(dtype, form, weighted, rng, monkeypatch):
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    X = rng.normal(size=(40, 4)) * (rng.random((40, 4)) < 0.4)
    y, w = rng.integers(0, 3, 40), rng.random(40) if weighted else None
    S = scipy.sparse.csr_array(X).asformat(form)
    for chunk in (1024, 7):
        monkeypatch.setattr(fb.network, "CHUNK_ROWS", chunk)
        assert net.evaluate(S, y, loss=fb.SoftmaxCrossEntropy(), sample_weight=w) == net.evaluate(
            X, y, loss=fb.SoftmaxCrossEntropy(), sample_weight=w)


BROKEN = """
import sys
import numpy as np, scipy.sparse, fastbp as fb
X = scipy.sparse.csr_array(np.ones((300, 60), "f4"))
getattr(X, sys.argv[1])[7] = int(sys.argv[2])
try:
    fb.mlp([60, 8, 4], seed=0).predict(X)
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(("where", "value"), [("indices", 10**9), ("indices", -(10**9)),
                                              ("indptr", 10**9), ("indptr", -(10**9))])
def test_predict_sparse_rows_that_are_broken(where, value):
    """In a process of its own, whose memory they may spoil."""
    run = subprocess.run([sys.executable, "-c", BROKEN, where, str(value)], capture_output=True,
                         text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("X: ")


# Masked arrays


def test_masked_values_are_refused(dtype):
    net = fb.mlp([2, 3, 2], dtype=dtype, seed=0)
    X, y, w = np.ones((4, 2)), np.arange(4) % 2, np.ones(4)
    fit, evaluate = (partial(method, loss=fb.SoftmaxCrossEntropy())
                     for method in (net.fit, net.evaluate))

    def masked(array):
        return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) == 1)

    calls = {
        "X": [lambda: net.predict(masked(X)), lambda: net.forward(masked(X)),
              lambda: evaluate(masked(X), y), lambda: fit(masked(X), y)],
        "y": [lambda: fit(X, masked(y)), lambda: evaluate(X, masked(y))],
        "sample_weight": [lambda: fit(X, y, sample_weight=masked(w))],
        "validation_data X": [lambda: fit(X, y, validation_data=(masked(X), y))],
    }
    before = net.parameters.copy()
    for name, functions in calls.items():
        for function in functions:
            with pytest.raises(ValueError, match=rf"^{name}: expected no masked values, got 1"):
                function()
    assert same_bits(net.parameters, before)
    nothing = np.ma.array(X, mask=False)
    assert same_bits(net.predict(nothing), net.predict(X))
    fit(nothing, y)


# Columns of pandas that NumPy takes for objects


@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
@pytest.mark.parametrize(("loss", "target"), [
    (fb.SoftmaxCrossEntropy(), "b"), (fb.MeanSquaredError(), "d"), (fb.SigmoidCrossEntropy(), "c"),
    (fb.MeanSquaredError(), ["a", "d"])], ids=["classes", "number", "bool", "two columns"])
def test_columns_of_extension_types(loss, target, backend, rng):
    pd = pytest.importorskip("pandas")
    if backend == "pyarrow":
        pytest.importorskip("pyarrow")
    frame = pd.DataFrame({"a": rng.normal(size=50).astype("f4"), "b": np.arange(50) % 3,
                          "c": rng.random(50) > 0.5, "d": rng.normal(size=50)})
    own, weights = frame.convert_dtypes(dtype_backend=backend), pd.Series(rng.random(50) + 0.1)
    own_weights = weights.convert_dtypes(dtype_backend=backend)
    assert all(dtype.kind in "fib" and not isinstance(dtype, np.dtype) for dtype in own.dtypes)

    def trained(X, y, w):
        net = fb.mlp([4, 3, {"b": 3}.get(target, 1) if isinstance(target, str) else 2], seed=0)
        net.fit(X, y, loss=loss, epochs=2, seed=0, sample_weight=w, validation_data=(X, y, w),
                verbose=0)
        return net, net.evaluate(X, y, loss=loss, sample_weight=w)

    net, scores = trained(own, own[target], own_weights)
    expected, expected_scores = trained(frame.to_numpy("f8"), frame[target].to_numpy(),
                                        weights.to_numpy())
    assert same_bits(net.parameters, expected.parameters)
    assert scores == expected_scores
    assert same_bits(net.predict(own), expected.predict(frame.to_numpy("f8")))
    own.loc[3, "b"] = pd.NA
    with pytest.raises(ValueError, match=r"^X: expected finite numbers, got nan in row 3, col"):
        trained(own, frame[target], own_weights)
