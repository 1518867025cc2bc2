"""Which rows to train on, and which to hold out for testing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels import checks
from ..messages import counted

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["hold_out"]


def hold_out(
    y: ArrayLike, test_share: float = 0.2, seed: int = 0, stratify: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Split the rows at random into those to train on and those to test on.

    Parameters
    ----------
    y : array_like of shape (rows,)
        The target; unless `stratify` is set, only its length matters.
    test_share : float in (0, 1), default 0.2
        The share of the rows to hold out for testing, rounded down to whole rows.
    seed : int, default 0
        Of the random draw.
    stratify : bool, default False
        Whether to hold out that share of the rows of each value of y (each class).

    Returns
    -------
    train, test : ndarray of int
        Row indices, in ascending order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or the share does not amount to a single row.

    Examples
    --------
    >>> y = ["cat"] * 10 + ["dog"] * 5
    >>> train, test = hold_out(y, 0.2, stratify=True)
    >>> [y[row] for row in test]
    ['cat', 'cat', 'dog']
    """
    y = np.asarray(y)
    share = checks.number("test_share", test_share, 0, 1, low_open=True, high_open=True)
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    order = rng.permutation(len(y))
    if stratify:
        order = order[np.argsort(y[order], kind="stable")]  # the rows of a class side by side
    # Rows taken at equal distances along that order are that share of each class too.
    taken = np.floor(np.arange(len(y) + 1) * share)
    is_test = taken[1:] > taken[:-1]
    if not is_test.any():
        raise ValueError(
            f"test_share: expected a share that holds out at least one row, got {share} of "
            f"{counted(len(y), 'row')}"
        )
    return np.sort(order[~is_test]), np.sort(order[is_test])
