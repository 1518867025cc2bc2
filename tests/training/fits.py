"""Small networks, data and fits that the tests of training share."""

import numpy as np
import pytest
import scipy.sparse
import scipy.special

import fastbp as fb

CROSS_ENTROPY, SQUARED = fb.SoftmaxCrossEntropy(), fb.MeanSquaredError()


class Recorder(fb.Layer):
    """Passes its input on, and keeps the first column of what it saw."""

    def __init__(self):
        super().__init__()
        self.trained, self.predicted = [], []

    def forward(self, X, training=True):
        (self.trained if training else self.predicted).append(X[:, 0].tolist())
        return X

    def backward(self, dZ):
        return dZ


def flat(batches):
    return [row for batch in batches for row in batch]


def record(optimizer):
    """The optimizer, which now keeps each step's learning rate and the parameters after it.

    Its update is in Python therefore, and has to give the bits of the compiled one.
    """
    kind = type(optimizer)

    class Recorded(kind):
        def update(self, parameters, gradients, learning_rate):
            kind.update(self, parameters, gradients, learning_rate)
            self.rates.append(learning_rate)
            self.after.append(parameters.copy())

    optimizer.__class__, optimizer.rates, optimizer.after = Recorded, [], []
    return optimizer


def unwatched(optimizer):
    """The optimizer as it is, whose update is compiled."""
    return optimizer


each_update = pytest.mark.parametrize("watch", [record, unwatched], ids=["in Python", "compiled"])


def classes(n=23, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)), rng.integers(0, 3, n)


def a_net(dtype="float32", seed=0):
    return fb.mlp([4, 6, 3], "tanh", dropout=0.2, dtype=dtype, seed=seed)


def a_fit(net, X=None, y=None, **options):
    if X is None:
        X, y = classes()
    return net.fit(X, y, **{"loss": CROSS_ENTROPY, "epochs": 2, "batch_size": 5} | options)


def timeless(history):
    return {key: np.array(values).tolist() for key, values in history.items() if key != "seconds"}


def numbers(n=12):
    rng = np.random.default_rng(3)
    return rng.normal(size=(n, 2)), rng.normal(size=(n, 2))


def a_numpy_network(shapes, parameters):
    """W and b of each layer, out of a flat array."""
    start = 0
    for n_in, n_out in shapes:
        yield parameters[start : start + n_in * n_out].reshape(n_in, n_out), \
            parameters[start + n_in * n_out : start + (n_in + 1) * n_out]
        start += (n_in + 1) * n_out


def numpy_objective(parameters, shapes, X, T, w, l2):
    """Cross-entropy of a tanh network, with the penalty, and its gradient, in float64."""
    layers = list(a_numpy_network(shapes, parameters))
    outputs = [X]
    for W, b in layers[:-1]:
        outputs.append(np.tanh(outputs[-1] @ W + b))
    W, b = layers[-1]
    Z = outputs[-1] @ W + b
    loss = (w * (scipy.special.logsumexp(Z, axis=1) - (T * Z).sum(axis=1))).sum()
    penalty = l2 / 2 * sum((W**2).sum() for W, _ in layers)
    dZ, gradient = w[:, None] * (scipy.special.softmax(Z, axis=1) - T), []
    for (W, _), A in zip(layers[::-1], outputs[::-1], strict=True):
        gradient[:0] = [(A.T @ dZ + l2 * W).ravel(), dZ.sum(axis=0)]
        dZ = (dZ @ W.T) * (1 - A**2)
    return (loss + penalty) / w.sum(), np.concatenate(gradient) / w.sum()


SHAPES = [(4, 6), (6, 3)]


def penalized(seed=0, rows=23):
    """A network in float64, data, targets as rows, and weights."""
    X, y = classes(rows, seed)
    w = np.random.default_rng(seed).random(rows) + 0.1
    return fb.mlp([4, 6, 3], "tanh", dtype="float64", seed=seed), X, y, np.eye(3)[y], w


def sparse(X, form, kind=scipy.sparse.csr_array, index=None, dtype=None):
    rows = kind(X.astype(dtype or X.dtype))
    if index is not None:
        rows.indices, rows.indptr = rows.indices.astype(index), rows.indptr.astype(index)
    return rows.asformat(form)


def some_zeros(n=23):
    X, y = classes(n)
    X = np.round(4 * X)
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0
    X[[0, 5, 6, n - 1]] = 0
    return X, y
