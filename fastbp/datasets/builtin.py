"""The data set that needs no file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .splits import hold_out

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..kernels.types import Labels

__all__ = ["digits"]


def digits(part: str = "all") -> tuple[NDArray[np.float32], Labels]:
    """Load the handwritten digits that come with scikit-learn: 1797 images of 8 × 8 pixels.

    Parameters
    ----------
    part : {"all", "train", "test"}, default "all"
        ``"test"`` is a fixed fifth of the images of each digit, ``"train"`` the rest.

    Returns
    -------
    X : ndarray of shape (rows, 64), float32
        Pixels, from 0 (white) to 1 (black).
    y : ndarray of shape (rows,), int64
        The digits, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is not installed.
    ValueError
        If `part` is not one of the three.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine
    Learning Repository, 1998.

    Examples
    --------
    >>> X, y = digits("train")
    >>> X.shape, y.shape
    ((1438, 64), (1438,))
    """
    if part not in ("all", "train", "test"):
        raise ValueError(f'part: expected "all", "train" or "test", got {part!r}')
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits come with scikit-learn: '
                          'pip install "fastbp[sklearn]"') from error
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32), y.astype(np.int64)
    if part == "all":
        return X, y
    train, test = hold_out(y, 0.2, seed=0, stratify=True)
    rows = train if part == "train" else test
    return X[rows], y[rows]
