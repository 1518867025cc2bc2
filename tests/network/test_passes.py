"""forward and backward, and what layers of the caller's own are held to."""

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb

from ..cases import each
from .networks import Odd, a_net, same_bits

# forward and backward


def test_a_network_worked_by_hand(dtype):
    """X·W₁ + b₁ = (3, -1), ReLU (3, 0), ·W₂ + b₂ = 7; y = 5: L = 4, dZ = 4."""
    net = fb.Sequential([fb.Dense(2, 2), fb.ReLU(), fb.Dense(2, 1)], dtype)
    first, _, last = net.layers
    first.W, first.b = [[1, -1], [1, 0]], [0, 0]
    last.W, last.b = [[2], [5]], 1
    Z = net.forward([[1, 2]])
    assert Z.tolist() == [[7]]
    value, dZ = fb.MeanSquaredError()(Z, [5])
    assert (value, dZ.tolist()) == (4, [[4]])
    assert net.backward(dZ).tolist() == [[8, 8]]
    assert last.dW.tolist() == [[12], [0]]
    assert last.db.tolist() == [4]
    assert first.dW.tolist() == [[8, 0], [16, 0]]
    assert first.db.tolist() == [8, 0]
    fb.SGD(0.5).step(net.parameters, net.gradients)
    assert last.W.tolist() == [[-4], [5]]


@each(
    ("X", "error", "message"),
    [
        (np.zeros(4), ValueError, r"expected 2 dimensions.*got 1 \(shape \(4,\)\).*X\[None, :\]"),
        (np.zeros((2, 4, 1)), ValueError, "expected 2 dimensions.*got 3"),
        (3.0, ValueError, "expected 2 dimensions.*got 0"),
        (np.zeros((2, 5)), ValueError, r"expected 4 columns.*got 5 \(shape \(2, 5\)\)"),
        (np.zeros((0, 3)), ValueError, "expected 4 columns.*got 3"),
        (np.zeros((2, 4), object), TypeError, "real numbers, got dtype object"),
        ([["a", "b", "c", "d"]], TypeError, "real numbers, got dtype <U1.*text"),
        (np.zeros((2, 4), complex), TypeError, "complex128.*real"),
        ([[1, 2, 3, 4], [1, 2]], ValueError, "array of numbers"),
        (None, TypeError, "real numbers, got None"),
    ],
)
@each("method", ["forward", "predict"])
def test_bad_X(method, X, error, message):
    net = a_net()
    before = net.parameters.copy()
    with pytest.raises(error, match=f"^X: .*{message}"):
        getattr(net, method)(X)
    assert same_bits(net.parameters, before)
    assert all(layer.cache is None for layer in net.layers)


@each(
    ("dZ", "error"),
    [
        (np.ones((4, 3), "f4"), ValueError),
        (np.ones((5, 2), "f4"), ValueError),
        (np.ones(5, "f4"), ValueError),
        (np.ones((5, 3)), TypeError),
        (np.ones((5, 3), object), TypeError),
    ],
    ids=["rows", "columns", "dimensions", "float64", "object"],
)
def test_bad_dZ(dZ, error):
    net = fb.mlp([4, 6, 3], seed=0)
    net.forward(np.ones((5, 4)))
    with pytest.raises(error, match="dZ: "):
        net.backward(dZ)
    assert not net.gradients.any()


def test_backward_before_forward():
    with pytest.raises(RuntimeError, match=r"Sequential.backward: .*forward\(X\)"):
        fb.mlp([4, 3]).backward(np.ones((1, 3), "f4"))


# Layers of one's own, and what they are held to


ODD_RETURNS = {
    "None": (lambda A: None, TypeError),
    "a list": (lambda A: A.tolist(), TypeError),
    "a number": (lambda A: 1.0, TypeError),
    "one column": (lambda A: A[:, :1], ValueError),
    "one row": (lambda A: A[:1], ValueError),
    "one dimension": (lambda A: A.ravel(), ValueError),
    "another dtype": (lambda A: A.astype("f8" if A.dtype == "f4" else "f4"), TypeError),
    "another byte order": (lambda A: A.astype(A.dtype.newbyteorder()), TypeError),
    "masked": (lambda A: np.ma.array(A, mask=A > 0), TypeError),
}


@each("place", [0, 2])
@each("odd", ODD_RETURNS)
def test_what_forward_returns_is_checked(odd, place, dtype):
    function, error = ODD_RETURNS[odd]
    layers = [fb.Dense(4, 4), fb.Dense(4, 4)]
    layers.insert(place, Odd(of_forward=function))
    net, X, y = fb.Sequential(layers, dtype, seed=0), np.ones((6, 4)), np.zeros((6, 4))
    before = net.parameters.copy()
    for call in (net.predict, net.forward,
                 lambda X: net.predict(X, out=np.empty((6, 4), dtype)),
                 lambda X: net.evaluate(X, y, loss=fb.MeanSquaredError()),
                 lambda X: net.fit(X, y, loss=fb.MeanSquaredError())):
        with pytest.raises(error, match=rf"^layer {place} \(Odd.*\): forward returned .*"
                                        rf"\(6, 4\)"):
            call(X)
    assert same_bits(net.parameters, before)


@each("place", [1, 2])
@each("odd", ODD_RETURNS)
def test_what_backward_returns_is_checked(odd, place, dtype):
    function, error = ODD_RETURNS[odd]
    layers = [fb.Dense(4, 4), fb.Dense(4, 4)]
    layers.insert(place, Odd(of_backward=function))
    net, X, y = fb.Sequential(layers, dtype, seed=0), np.ones((6, 4)), np.zeros((6, 4))
    before = net.parameters.copy()
    with pytest.raises(error, match=rf"^layer {place} \(Odd.*\): backward returned .*\(6, 4\)"):
        net.fit(X, y, loss=fb.MeanSquaredError())
    assert same_bits(net.parameters, before)
    with pytest.raises(error, match=rf"^layer {place} \(Odd"):
        net.backward(net.forward(X))


def overwrite(A):
    A *= 2
    return A


@each("where", ["forward", "backward"])
@each("place", [0, 1])
def test_layers_are_given_read_only_arrays(where, place, dtype):
    layers = [fb.Tanh()]
    layers.insert(place, Odd(**{"of_" + where: overwrite}))
    net, X = fb.Sequential(layers, dtype, seed=0), np.full((3, 2), 0.5, dtype)
    if where == "backward":
        dZ = net.forward(X) + 0
        before = dZ.copy()
        with pytest.raises(ValueError, match="read-only"):
            net.backward(dZ)
        assert same_bits(dZ, before)
    else:
        y = X.copy()
        for call in (net.predict, net.forward,
                     lambda X: net.evaluate(X, y, loss=fb.MeanSquaredError()),
                     lambda X: net.fit(X, y, loss=fb.MeanSquaredError())):
            with pytest.raises(ValueError, match="read-only"):
                call(X)
    assert (X == 0.5).all()
    assert X.flags.writeable


@each("dZ", [None, 1.0, [[1.0, 2.0]], "dZ", [[1], [2, 3]], np.ones((2, 2), "i8"),
             scipy.sparse.csr_array(np.ones((2, 2), "f4"))],
      ids=["None", "float", "list", "text", "ragged", "integers", "sparse"])
@each("last", [fb.ReLU, fb.Tanh, lambda: fb.Dense(2, 2),
               lambda: fb.Dropout(0.5)])
def test_a_dZ_that_is_no_float_array_of_the_networks_dtype(dZ, last):
    net = fb.Sequential([fb.Dense(2, 2), last()], seed=0)
    net.forward(np.ones((2, 2)))
    with pytest.raises((TypeError, ValueError), match=r"^dZ: expected"):
        net.backward(dZ)
    if not isinstance(dZ, list):  # a list of Python's floats is float64, which a layer would take
        with pytest.raises((TypeError, ValueError), match=r"^dZ: expected"):
            layer = net.layers[-1]
            layer.forward(np.ones((2, 2), "f4"))
            layer.backward(dZ)


def test_what_forward_and_backward_return_may_be_written_to():
    net, X = fb.Sequential([Odd(lambda X: X, lambda dZ: dZ)]), np.ones((2, 3), "f4")
    Z = net.forward(X)
    dX = net.backward(X)
    Z += 1
    dX += 1
    assert (X == 1).all()
