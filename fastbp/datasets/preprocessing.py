"""Standardizing columns, and folding that into a trained network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels import checks
from ..layers import BatchNorm, Dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from ..kernels.types import Doubles
    from ..layers import Layer
    from ..network import Sequential

__all__ = ["Standardizer", "fold"]


class Standardizer:
    """Shift and scale each column to mean 0 and standard deviation 1.

    Parameters
    ----------
    X : array_like of shape (rows, columns)
        The rows to take the means and standard deviations of: the training rows only, so that
        nothing about the test rows is known in training.
    names : sequence of str, optional
        The names of the columns for error messages, by default their indices.

    Attributes
    ----------
    mean, scale : ndarray of shape (columns,), float64
        A column is mapped to ``(column - mean) / scale``.  The scale of a column that is
        constant in X is infinite, so that it becomes 0 whatever it holds in other rows.

    Raises
    ------
    TypeError, ValueError
        If X holds anything but finite numbers, or if the squares of a column's deviations
        overflow or underflow in float64.

    Examples
    --------
    >>> standardize = Standardizer([[1.0, 7.0], [3.0, 7.0]])
    >>> standardize.mean, standardize.scale
    (array([2., 7.]), array([ 1., inf]))
    >>> standardize([[1.0, 7.0], [5.0, 9.0]])
    array([[-1.,  0.],
           [ 3.,  0.]])
    """

    mean: Doubles
    scale: Doubles

    def __init__(self, X: ArrayLike, names: Sequence[str] | None = None) -> None:
        table = checks.data("X", X)
        # Not deviation == 0: with rounding errors, that of equal numbers may be 1e-17.
        constant = table.min(axis=0) == table.max(axis=0)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.mean = np.where(constant, table[0], table.mean(axis=0, dtype=np.float64))
            deviation = table.std(axis=0, dtype=np.float64)
        lost = np.flatnonzero(~constant & ~(np.isfinite(deviation) & (deviation > 0)))
        if len(lost):
            i = lost[0]
            raise ValueError(
                f"column {i if names is None else repr(names[i])}: expected numbers whose squares "
                f"float64 can hold, got {table[:, i].min():g} to {table[:, i].max():g}; give the "
                f"column in another unit, or its logarithm"
            )
        self.scale = np.where(constant, np.inf, deviation)

    def __call__(self, X: ArrayLike) -> Doubles:
        """Standardize other rows, with the means and scales of those it was made from.

        Parameters
        ----------
        X : array_like of shape (rows, columns)

        Returns
        -------
        ndarray of shape (rows, columns), float64
        """
        standardized: Doubles = np.subtract(X, self.mean) / self.scale
        return standardized


def fold(
    network: Sequential, inputs: Standardizer | None = None, outputs: Standardizer | None = None
) -> Sequential:
    """Fold standardization into a trained network's first and last layer.

    Standardizing is an affine map, and so is a dense layer: their composition is a dense layer
    too.  The result takes the data, and predicts the targets, in their original units.

    Parameters
    ----------
    network : Sequential
        Its first and last layers are `Dense`.  It is left as it is.
    inputs : Standardizer, optional
        What the network's inputs were standardized with for training.
    outputs : Standardizer, optional
        What its targets were standardized with for training.

    Returns
    -------
    Sequential
        A new network, in float64: columns in their original units may be so far from 0 that
        float32 would lose their differences.  Where it does not, a network whose precision is not
        "highest" stays one in float32 with that precision, and begins with a `BatchNorm` that
        standardizes the inputs, as their differences would be lost in its products.

    Raises
    ------
    TypeError
        If `inputs` is given and the first layer is not `Dense`, or `outputs` and the last.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.array([[1990.0, 3.0], [2010.0, 5.0], [2020.0, 4.0]])
    >>> standardize = Standardizer(X)
    >>> net = fb.mlp([2, 8, 1], dtype="float64", seed=0)
    >>> np.allclose(fold(net, standardize).predict(X), net.predict(standardize(X)))
    True
    """
    reduced = network.precision != "highest" and (inputs is None or _fits_float32(inputs))
    network = network.astype("float32" if reduced else "float64")
    if inputs is not None and reduced:
        # (x - mean) · 1/scale / √(1 + epsilon), where epsilon is too small to count
        norm = BatchNorm(_dense(network.layers[0]).n_in, epsilon=1e-12)
        network.layers = [norm, *network.layers]
        norm.mean, norm.gamma = inputs.mean, 1 / inputs.scale
    elif inputs is not None:
        # (x - mean)/scale · W + b  =  x · (W/scale) + (b - mean · (W/scale))
        first = _dense(network.layers[0])
        first.W /= inputs.scale[:, None]
        first.b -= inputs.mean @ first.W
    if outputs is not None:
        # (h · W + b) · scale + mean  =  h · (W·scale) + (b·scale + mean)
        last = _dense(network.layers[-1])
        scale = np.where(np.isinf(outputs.scale), 0.0, outputs.scale)
        last.W *= scale
        last.b *= scale
        last.b += outputs.mean
    return network


def _fits_float32(columns: Standardizer) -> bool:
    """Whether columns that are rounded to float32 keep 15 bits of their deviation."""
    mean, scale = np.abs(columns.mean), columns.scale
    constant = np.isinf(scale)
    return bool((mean < 1e30).all() and ((mean <= 2**9 * scale)
                                         & (constant | (scale > 1e-30) & (scale < 1e30))).all())


def _dense(layer: Layer) -> Dense:
    if not isinstance(layer, Dense):
        raise TypeError(f"network: expected a Dense layer to fold into, got {layer!r}")
    return layer
