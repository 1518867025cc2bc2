"""Memory that starts where vectors like it."""

import numpy as np

CACHE_LINE = 64  # bytes, and as many as the widest vector has


def aligned(n, dtype):
    """An array of n numbers that starts at a cache line, so that no vector lies in two.

    Parameters
    ----------
    n : int
    dtype : dtype_like

    Returns
    -------
    ndarray of shape (n,)
        All 0.
    """
    dtype = np.dtype(dtype)
    raw = np.zeros(n * dtype.itemsize + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n * dtype.itemsize].view(dtype)
