"""Weights as scikit-learn draws them, and the network that they are the weights of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import layers
from ..kernels import checks
from ..network import Sequential
from .parameters import ACTIVATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernels.types import Array

__all__ = ["build_network", "checked_weights", "initial_weights"]


def initial_weights(
    sizes: Sequence[int], activations: Sequence[str], random_state: np.random.RandomState,
    dtype: np.dtype[Any],
) -> tuple[list[Array], list[Array]]:
    """Weights and biases from the uniform distribution of Glorot and Bengio, as scikit-learn's.

    Parameters
    ----------
    sizes : sequence of int
        Columns of the input, of each hidden layer and of the output.
    activations : sequence of str
        For each layer, the name that decides how far its weights are spread.
    random_state : RandomState
    dtype : dtype

    Returns
    -------
    weights : list of ndarray of shape (n_in, n_out)
    biases : list of ndarray of shape (n_out,)

    References
    ----------
    X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", AISTATS 2010.

    Examples
    --------
    >>> weights, biases = initial_weights(
    ...     [2, 3, 1], ["relu", "relu"], np.random.RandomState(0), np.dtype("float32"))
    >>> [W.shape for W in weights], [b.shape for b in biases]
    ([(2, 3), (3, 1)], [(3,), (1,)])
    """
    weights, biases = [], []
    for n_in, n_out, name in zip(sizes[:-1], sizes[1:], activations, strict=True):
        bound = np.sqrt((2.0 if name == "logistic" else 6.0) / (n_in + n_out))
        weights.append(random_state.uniform(-bound, bound, (n_in, n_out)).astype(dtype))
        biases.append(random_state.uniform(-bound, bound, n_out).astype(dtype))
    return weights, biases


def checked_weights(
    coefs: Any, intercepts: Any, *, n_layers: int, n_in: int, n_out: int
) -> tuple[list[Array], list[Array]]:
    """`coefs_` and `intercepts_`, which a user may have set, as arrays that fit each other.

    Parameters
    ----------
    coefs, intercepts : sequence of array_like
        A scalar among the intercepts stands for a bias that is the same for all columns, as in
        scikit-learn.
    n_layers, n_in, n_out : int
        What the network has to have.

    Returns
    -------
    weights : list of ndarray of shape (n_in, n_out)
    biases : list of ndarray of shape (n_out,)

    Raises
    ------
    TypeError, ValueError
        If they do not fit; the message says which.

    Examples
    --------
    >>> checked_weights([np.ones((2, 3))], [np.zeros(2)], n_layers=1, n_in=2, n_out=3)
    Traceback (most recent call last):
        ...
    ValueError: intercepts_[0]: expected shape (3,) like the columns of coefs_[0], got (2,)
    """
    for name, given in (("coefs_", coefs), ("intercepts_", intercepts)):
        if not isinstance(given, list | tuple | np.ndarray):
            raise TypeError(f"{name}: expected a list of {n_layers} arrays, one for each "
                            f"layer, got a {type(given).__name__}")
        if len(given) != n_layers:
            raise ValueError(f"{name}: expected {n_layers} arrays, one for each layer, got "
                             f"{len(given)}")
    weights, biases = [], []
    for i, (W, b) in enumerate(zip(coefs, intercepts, strict=True)):
        W = checks.real_numbers(f"coefs_[{i}]", W)
        columns = n_out if i == n_layers - 1 else None
        checks.shape(f"coefs_[{i}]", W, (n_in, columns), "to fit the layers around it")
        n_in = W.shape[1]
        if n_in == 0:
            raise ValueError(f"coefs_[{i}]: expected at least one column, got {W.shape}")
        b = checks.real_numbers(f"intercepts_[{i}]", b)
        if b.ndim == 0:
            b = np.full(n_in, b)
        checks.shape(f"intercepts_[{i}]", b, (n_in,), f"like the columns of coefs_[{i}]")
        weights.append(W)
        biases.append(b)
    return weights, biases


def build_network(
    weights: Sequence[Array], biases: Sequence[Array], activations: Sequence[str], dropout: float,
    precision: str = "highest",
) -> tuple[Sequential, list[layers.Dense]]:
    """A network with these weights, and its dense layers.

    Parameters
    ----------
    weights, biases : sequence of ndarray
        From `checked_weights`.  They are copied.
    activations : sequence of str
        One for each hidden layer, see `ACTIVATIONS`.
    dropout : float
        Rate of the dropout after each hidden layer; with 0 there are no such layers.
    precision : {"highest", "high", "medium"}, default "highest"

    Returns
    -------
    network : Sequential
        In float32 if all arrays are, else in float64.
    dense : list of Dense

    Examples
    --------
    >>> network, dense = build_network(
    ...     [np.ones((2, 3)), np.ones((3, 1))], [np.zeros(3), np.zeros(1)], ["relu"], 0.5)
    >>> [type(layer).__name__ for layer in network.layers]
    ['Dense', 'ReLU', 'Dropout', 'Dense']
    """
    single = all(array.dtype == np.float32 for array in (*weights, *biases))
    stack: list[layers.Layer] = []
    dense: list[layers.Dense] = []
    for W, b, name in zip(weights, biases, (*activations, "identity"), strict=True):
        layer = layers.Dense(*W.shape)
        layer.W, layer.b = W, b
        dense.append(layer)
        stack.append(layer)
        activation = ACTIVATIONS[name]
        if activation is not None:
            stack.append(activation())
        if dropout > 0 and len(dense) < len(weights):
            stack.append(layers.Dropout(dropout))
    return Sequential(stack, "float32" if single else "float64", precision=precision), dense
