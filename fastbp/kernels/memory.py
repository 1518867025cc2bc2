"""Memory that starts where vectors like it, and no more of it than there is."""

import functools
import math
import os
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .types import Array

CACHE_LINE = 64  # bytes, and as many as the widest vector has


@functools.cache
def physical() -> int:
    """Bytes of memory that this machine has; where it does not say, what can be addressed."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else sys.maxsize
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def check(what: str, n_bytes: int) -> None:
    """Raise MemoryError where this machine has fewer bytes than `what` will need.

    Linux may promise them all the same, and kill the process once it uses them.
    """
    if n_bytes > physical():
        raise MemoryError(f"{what}: {n_bytes >> 20:,} MiB are needed, but this machine has "
                          f"{physical() >> 20:,} MiB")


def workspace(sizes: Iterable[int]) -> tuple[NDArray[np.uint8], list[int]]:
    """Zeros for several arrays in one, each starting at a cache line.

    Parameters
    ----------
    sizes : list of int
        Bytes of each.

    Returns
    -------
    block : ndarray of uint8
    starts : list of int
        Where each array is in it.

    Raises
    ------
    MemoryError
    """
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += -(-size // CACHE_LINE) * CACHE_LINE
    return aligned(total, np.uint8), starts


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike) -> Array:
    """Zeros that start at a cache line, so that no vector lies in two.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype_like

    Returns
    -------
    ndarray

    Raises
    ------
    MemoryError
    """
    # Python's whole numbers: NumPy's product would overflow.
    n = math.prod(shape) if isinstance(shape, tuple) else int(shape)
    n_bytes = n * np.dtype(dtype).itemsize
    check(f"an array of shape {shape}", n_bytes)
    raw = np.zeros(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
