"""Memory that starts where vectors like it."""

import numpy as np

CACHE_LINE = 64  # bytes, and as many as the widest vector has


def aligned(shape, dtype):
    """Zeros that start at a cache line, so that no vector lies in two.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype_like

    Returns
    -------
    ndarray
    """
    n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
