"""Embeddings: rows of a table looked up by index, and the gradient of the table.

An embedding equals a dense layer of one-hot rows without the products: an output is a row of the
table, and the gradient with respect to the output is added to that row.
"""

from fastbp.kernels.dispatch cimport fbp_embedding, fbp_embedding_backward, real, tier

import numpy as np

from . import checks


cdef int look_up(const real[::1] codes, const real[:, ::1] table, real[:, ::1] Z) except -1:
    with nogil:
        fbp_embedding(tier, codes.shape[0], table.shape[1], &codes[0], 1, &table[0, 0], &Z[0, 0])
    return 0


cdef int add_up(const real[::1] codes, const real[:, ::1] dZ, real[:, ::1] dtable) except -1:
    with nogil:
        fbp_embedding_backward(tier, codes.shape[0], dZ.shape[1], dZ.shape[1], &codes[0], 1,
                               &dZ[0, 0], dtable.shape[0], &dtable[0, 0], 0)
    return 0


def _codes(codes, n_categories, dtype):
    """Whole numbers in [0, n_categories), which the kernels read as floats."""
    codes = checks.real_numbers("codes", codes)
    if codes.ndim != 1:
        raise ValueError(f"codes: expected 1 dimension, got {codes.ndim} (shape {codes.shape}); "
                         f"pass one column at a time")
    whole = codes if codes.dtype.kind in "iub" else np.floor(codes)
    wrong = (codes != whole) | (codes < 0) | (codes >= n_categories)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"codes: expected whole numbers from 0 to {n_categories - 1}, one for "
                         f"each row of the table, got {codes[i]} in row {i}")
    return np.require(codes, dtype, ["C", "ALIGNED"])


def _check_categories(name, n_categories, dtype):
    """Raise unless the dtype holds the number of every row of a table."""
    most = 2 ** (np.finfo(dtype).nmant + 1)
    if n_categories > most:
        raise ValueError(f"{name}: expected at most {most} categories, whose numbers {dtype} "
                         f"can hold, got {n_categories}; use float64 or fewer categories")


def embedding(codes, table, *, out=None):
    """A row of the table for each code: ``Z[i] = table[codes[i]]``.

    Parameters
    ----------
    codes : array_like of shape (batch,), integers or whole floats
    table : array_like of shape (n_categories, n), float32 or float64
    out : ndarray of shape (batch, n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    Z : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If the table's dtype is neither float32 nor float64, or the codes are not numbers.
    ValueError
        If a code is not a whole number or not the number of a row, dimensions do not match, or
        `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.embedding([1, 0, 1], [[0.1, 0.2], [0.3, 0.4]]).tolist()
    [[0.3, 0.4], [0.1, 0.2], [0.3, 0.4]]
    """
    table = checks.floats("table", table, 2)
    _check_categories("table", table.shape[0], table.dtype)
    codes = _codes(codes, table.shape[0], table.dtype)
    Z = checks.output(out, (codes.shape[0], table.shape[1]), table.dtype, codes=codes,
                      table=table)
    if table.dtype == "f4":
        look_up[float](codes, table, Z)
    else:
        look_up[double](codes, table, Z)
    return Z


def embedding_backward(codes, dZ, n_categories, *, out=None):
    """Gradient with respect to the table of `embedding`: for each code, the sum of its rows of dZ.

    Rows are added in ascending order in blocks of 256 rows of the batch, and the blocks' sums in
    order.

    Parameters
    ----------
    codes : array_like of shape (batch,), integers or whole floats
        The input of `embedding`.
    dZ : array_like of shape (batch, n), float32 or float64
        Gradient of the loss with respect to Z.
    n_categories : int
        Rows of the table.
    out : ndarray of shape (n_categories, n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dtable : ndarray of shape (n_categories, n)
        Exactly 0 in the rows whose code is not in the batch.

    Raises
    ------
    TypeError
        If dZ's dtype is neither float32 nor float64, or the codes are not numbers.
    ValueError
        If a code is not a whole number or not below `n_categories`, dimensions or shapes do not
        match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.embedding_backward([1, 0, 1], [[1.0], [2.0], [3.0]], n_categories=3).tolist()
    [[2.0], [4.0], [0.0]]
    """
    dZ = checks.floats("dZ", dZ, 2)
    n_categories = checks.integer("n_categories", n_categories, 0)
    _check_categories("n_categories", n_categories, dZ.dtype)
    codes = _codes(codes, n_categories, dZ.dtype)
    checks.shape("codes", codes, dZ.shape[:1], "to match dZ's rows")
    dtable = checks.output(out, (n_categories, dZ.shape[1]), dZ.dtype, codes=codes, dZ=dZ)
    if dZ.dtype == "f4":
        add_up[float](codes, dZ, dtable)
    else:
        add_up[double](codes, dZ, dtable)
    return dtable
