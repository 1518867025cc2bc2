"""Allocation of aligned arrays; raises MemoryError for requests beyond physical memory."""

import functools
import math
import os
import sys
from collections.abc import Iterable

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .types import Array

CACHE_LINE = 64  # bytes; also the size of the widest vector


@functools.cache
def physical() -> int:
    """Bytes of physical memory of this machine; `sys.maxsize` where the system does not say."""
    try:
        pages = os.sysconf("SC_PHYS_PAGES")
        return pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else sys.maxsize
    except (AttributeError, OSError, ValueError):
        return sys.maxsize


def check(what: str, n_bytes: int) -> None:
    """Raise MemoryError if `what` needs more bytes than this machine has.

    Linux may grant such a request and kill the process once it uses the memory.
    """
    if n_bytes > physical():
        raise MemoryError(f"{what}: {n_bytes >> 20:,} MiB are needed, but this machine has "
                          f"{physical() >> 20:,} MiB")


def workspace(sizes: Iterable[int]) -> tuple[NDArray[np.uint8], list[int]]:
    """Zeros for several arrays in one block, each starting at a cache line.

    Parameters
    ----------
    sizes : iterable of int
        Bytes of each array.

    Returns
    -------
    block : ndarray of uint8
    starts : list of int
        Where each array starts, in bytes.

    Raises
    ------
    MemoryError
        If the machine has less memory.

    Examples
    --------
    >>> block, starts = workspace([100, 8])
    >>> starts, block.size
    ([0, 128], 192)
    """
    starts, total = [], 0
    for size in sizes:
        starts.append(total)
        total += -(-size // CACHE_LINE) * CACHE_LINE
    return aligned(total, np.uint8), starts


def aligned(shape: int | tuple[int, ...], dtype: DTypeLike, *, zeros: bool = True) -> Array:
    """Zeros that start at a cache line, so that no vector load crosses one.

    Parameters
    ----------
    shape : int or tuple of int
    dtype : dtype_like
    zeros : bool, default True
        Without, the elements are whatever is in memory.

    Returns
    -------
    ndarray

    Raises
    ------
    MemoryError
        If the machine has less memory.

    Examples
    --------
    >>> array = aligned((2, 3), np.float32)
    >>> array.shape, array.ctypes.data % CACHE_LINE
    ((2, 3), 0)
    """
    # Python's integers, as NumPy's product could overflow.
    n = math.prod(shape) if isinstance(shape, tuple) else int(shape)
    n_bytes = n * np.dtype(dtype).itemsize
    check(f"an array of shape {shape}", n_bytes)
    raw = (np.zeros if zeros else np.empty)(n_bytes + CACHE_LINE, np.uint8)
    start = -raw.ctypes.data % CACHE_LINE
    return raw[start : start + n_bytes].view(dtype).reshape(shape)
