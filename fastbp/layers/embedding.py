"""Embeddings of categories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike

from ..kernels import checks
from .base import Layer

if TYPE_CHECKING:
    from ..initializers import Initializer
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = ["Embedding"]


class Embedding(Layer):
    """A learned vector for each category: ``Z`` is the row of the table that the code selects.

    Parameters
    ----------
    n_categories : int
        The input is one column of codes: whole numbers from 0 to ``n_categories - 1``.
    n_out : int
        Columns of the table, and of the output.
    init : str or callable, default "normal"
        Initial table: ``"normal"``, which has mean 0 and standard deviation 1, or a callable
        ``(rng, n_categories, n_out) -> (n_categories, n_out) array``.

    Attributes
    ----------
    table, dtable : ndarray of shape (n_categories, n_out)
        The vectors and their gradient.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, or `init` is neither ``"normal"`` nor callable.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Embedding(3, 2)])
    >>> net.layers[0].table = [[0, 1], [2, 3], [4, 5]]
    >>> net.predict([[2], [0]])
    array([[4., 5.],
           [0., 1.]], dtype=float32)
    """

    n_in: int
    n_out: int
    table: ArrayAttribute
    dtable: ArrayAttribute

    def __init__(self, n_categories: int, n_out: int, init: str | Initializer = "normal") -> None:
        n_categories = checks.integer("n_categories", n_categories, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(1, n_out, table=(n_categories, n_out))
        if init != "normal" and not callable(init):
            raise ValueError(f'init: expected "normal" or a callable, got {init!r}')
        self.init = init

    @property
    def n_categories(self) -> int:
        """The number of categories."""
        return self.parameter_shapes["table"][0]

    def check_dtype(self, dtype: DTypeLike) -> None:
        """Check that every code is exact in a network's dtype.

        Parameters
        ----------
        dtype : dtype_like
            float32 or float64.

        Raises
        ------
        ValueError
            If there are more categories than the dtype has consecutive whole numbers.
        """
        dtype = np.dtype(dtype)
        most = 2 ** (np.finfo(dtype).nmant + 1)
        if self.n_categories > most:
            raise ValueError(f"n_categories: expected at most {most:,} in a network of {dtype}, "
                             f"which cannot represent more codes exactly, got "
                             f"{self.n_categories:,}"
                             + ('; use dtype="float64"' if dtype == np.float32 else ""))

    def initialize(self, rng: np.random.Generator) -> None:
        n_categories, n_out = shape = self.parameter_shapes["table"]
        table = (self.init(rng, n_categories, n_out) if callable(self.init)
                 else rng.standard_normal(shape))
        table = checks.data("init", table)
        checks.shape("init", table, shape, "from the callable")
        self.table = table

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("embedding", x, builder.parameter(self, "table"))
        return z

    def config(self) -> dict[str, Any]:
        """`Layer.config` without a callable `init`, which is no longer needed."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config
