"""Embeddings of categories."""

import numpy as np

from ..kernels import checks
from .base import Layer

__all__ = ["Embedding"]


class Embedding(Layer):
    """A row of a table for each code: a learned vector in place of a category.

    Parameters
    ----------
    n_categories : int
        Codes are whole numbers from 0 to ``n_categories - 1``, in one column.
    n_out : int
        Columns of the table.
    init : str or callable, default "normal"
        Initial table: ``"normal"``, of standard deviation 1, or a callable
        ``(rng, n_categories, n_out) -> (n_categories, n_out) array``.

    Attributes
    ----------
    table, dtable : ndarray of shape (n_categories, n_out)
    """

    def __init__(self, n_categories, n_out, init="normal"):
        n_categories = checks.integer("n_categories", n_categories, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(1, n_out, table=(n_categories, n_out))
        if init != "normal" and not callable(init):
            raise ValueError(f'init: expected "normal" or a callable, got {init!r}')
        self.init = init

    @property
    def n_categories(self):
        """How many codes there are."""
        return self.parameter_shapes["table"][0]

    def check_dtype(self, dtype):
        """Raise ValueError unless numbers of a network's dtype can tell all codes apart."""
        most = 2 ** (np.finfo(dtype).nmant + 1)
        if self.n_categories > most:
            raise ValueError(f"n_categories: expected at most {most:,} in a network of {dtype}, "
                             f"which cannot tell more codes apart, got {self.n_categories:,}"
                             + ('; use dtype="float64"' if dtype == np.float32 else ""))

    def initialize(self, rng):
        shape = self.parameter_shapes["table"]
        table = rng.standard_normal(shape) if self.init == "normal" else self.init(rng, *shape)
        table = checks.data("init", table)
        checks.shape("init", table, shape, "from the callable")
        self.table = table

    def lower(self, builder, x):
        return builder.op("embedding", x, builder.parameter(self, "table"))

    def config(self):
        """As `Layer.config`; a callable `init` has done its work and is left out."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config
