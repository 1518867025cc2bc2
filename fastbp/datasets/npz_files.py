"""The reader of NumPy's ``.npz`` files."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ..messages import counted, listed

if TYPE_CHECKING:
    from ..kernels.types import Array

__all__ = ["read_npz"]

# What NumPy and zipfile raise for a file that is damaged, or is not an .npz file at all.
DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def read_npz(path: str | os.PathLike[str], target: str) -> tuple[Array, Array, list[str]]:
    """Read the array ``X`` and a target from an ``.npz`` file.

    Parameters
    ----------
    path : str or path-like
    target : str
        The name of the target's array.

    Returns
    -------
    X : ndarray of shape (rows, columns)
        Finite numbers.
    y : ndarray of shape (rows,)
        Finite numbers in float64, or text.
    names : list of str
        What to call X's columns: ``X[:, 0]`` and so on.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If it is damaged, if an array is missing or has another shape or dtype, or if a number is
        NaN or infinite.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "measured.npz")
    >>> np.savez(path, X=[[1, 2], [3, 4]], y=[0.5, 1.5])
    >>> read_npz(path, "y")[1:]
    (array([0.5, 1.5]), ['X[:, 0]', 'X[:, 1]'])
    >>> folder.cleanup()
    """
    with open(path, "rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError
        except DAMAGE:
            raise ValueError(
                "is not an .npz file, or is damaged; write it with numpy.savez(path, X=X, y=y)"
            ) from None
        for name in ("X", target):
            if name not in arrays:
                raise ValueError(
                    f"there is no array {name!r}, but {listed(list(arrays)) or 'none at all'}; "
                    f"write the file with numpy.savez(path, X=X, {target}={target})"
                )
        X, y = _member(arrays, "X"), _member(arrays, target)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            f"X: expected numbers of shape (rows, columns), got {X.dtype} of shape {X.shape}"
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "fiubU":
        raise ValueError(
            f"{target}: expected numbers or text of shape (rows,), got {y.dtype} of shape {y.shape}"
        )
    if len(X) != len(y) or X.size == 0:
        raise ValueError(
            f"X and {target}: expected the same number of rows, at least one, and at least "
            f"one column, got shapes {X.shape} and {y.shape}"
        )
    _check_finite("X", X)
    _check_finite(target, y[:, None])
    names = [f"X[:, {i}]" for i in range(X.shape[1])]
    return X, y if y.dtype.kind == "U" else y.astype(np.float64), names


def _member(arrays: np.lib.npyio.NpzFile, name: str) -> Array:
    try:
        array: Array = arrays[name]
    except DAMAGE as error:
        reason = str(error)
        if "allow_pickle" in reason:
            reason = f"it holds Python objects; write numbers, as in {name}.astype(float)"
            if name != "X":
                reason += f", or {name}.astype(str) for class names"
        raise ValueError(f"{name} cannot be read: {reason}") from None
    return array


def _check_finite(name: str, array: Array) -> None:
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    rows, columns = np.nonzero(~np.isfinite(array))
    where = f" (first in row {rows[0]}, column {columns[0]})" if array.shape[1] > 1 else ""
    raise ValueError(
        f"{name} holds {counted(len(rows), 'NaN or infinite value')}{where}; fill in the "
        f"values or remove the rows"
    )
