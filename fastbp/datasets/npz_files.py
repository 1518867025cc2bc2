"""The reader of NumPy's ``.npz`` files."""

from __future__ import annotations

import os
import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from ..messages import counted, listed
from .columns import as_kinds, parsed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..kernels.types import Array

__all__ = ["npz_names", "read_npz", "read_npz_cells"]

# What NumPy and zipfile raise for a file that is damaged, or is not an .npz file at all.
DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

# The kinds of dtypes that are numbers.
NUMBERS = "fiub"


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
    X, y = _arrays(path, target)
    assert y is not None
    if X.dtype.kind not in NUMBERS:
        raise ValueError(f"X: expected numbers of shape (rows, columns), got {X.dtype} of shape "
                         f"{X.shape}; read_frame and --model tabpack take text")
    _check_finite("X", X)
    return X, y, _names(X.shape[1])


def npz_names(path: str | os.PathLike[str]) -> list[str]:
    """What the columns of the array ``X`` are called: ``X[:, 0]`` and so on.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    list of str

    Raises
    ------
    OSError, ValueError
        As `read_npz`.

    Examples
    --------
    >>> np.savez("measured.npz", X=[[1, 2], [3, 4]])
    >>> npz_names("measured.npz")
    ['X[:, 0]', 'X[:, 1]']
    """
    return _names(_arrays(path, None)[0].shape[1])


def read_npz_cells(
    path: str | os.PathLike[str],
    target: str | None,
    names: Sequence[str] | None,
    kinds: Mapping[str, str] | None = None,
) -> tuple[list[Array], Array | None, list[str]]:
    """Read the columns of ``X``, which may be text and lack values, and a target.

    Parameters
    ----------
    path : str or path-like
    target : str or None
        The name of the target's array.
    names : sequence of str or None
        What the columns of X are, in order, where they have names elsewhere; or which of them to
        take, by names such as ``X[:, 0]``.  None for all.
    kinds : mapping of str to str, or None
        What each column is; see `fastbp.datasets.csv_files.read_cells`.  None if that is decided by
        the cells: a column of an array of text is of numbers if all its cells are.

    Returns
    -------
    columns, y, names
        As of `read_cells`.

    Raises
    ------
    OSError, ValueError
        As `read_npz`, except for text and NaN in X, which stands for a missing value.

    Examples
    --------
    >>> np.savez("measured.npz", X=[["1", "cat"], ["nan", "dog"]], y=[0.5, 1.5])
    >>> read_npz_cells("measured.npz", "y", None)[0]
    [array([ 1., nan]), array(['cat', 'dog'], dtype=object)]
    """
    X, y = _arrays(path, target)
    own = _names(X.shape[1])
    names = own if names is None else list(names)
    if set(names) <= set(own):
        X = X[:, [own.index(name) for name in names]]
    elif len(names) != len(own):
        raise ValueError(f"X: expected {counted(len(names), 'column')}, in this order: "
                         f"{listed(names)}; got {len(own)}")
    if X.dtype.kind == "M":
        columns: list[Array] = [column.astype("M8[us]") for column in X.T]
    elif X.dtype.kind == "U":
        columns = [parsed(name, column.tolist(), numbers=(kinds or {}).get(name) != "category")
                   for name, column in zip(names, X.T, strict=True)]
    else:
        columns = [column.astype(np.float64) for column in X.T]
    return as_kinds(names, columns, kinds), y, names


def _arrays(path: str | os.PathLike[str], target: str | None) -> tuple[Array, Array | None]:
    """The array ``X``, and the target's unless that is None: their shapes and dtypes are right."""
    wanted = ["X"] if target is None else ["X", target]
    with open(path, "rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError
        except DAMAGE:
            raise ValueError(
                "is not an .npz file, or is damaged; write it with numpy.savez(path, X=X, y=y)"
            ) from None
        for name in wanted:
            if name not in arrays:
                given = ", ".join(f"{each}={each}" for each in wanted)
                raise ValueError(
                    f"there is no array {name!r}, but {listed(list(arrays)) or 'none at all'}; "
                    f"write the file with numpy.savez(path, {given})"
                )
        X, *rest = (_member(arrays, name) for name in wanted)
    if X.ndim != 2 or X.dtype.kind not in NUMBERS + "UM":
        raise ValueError(
            f"X: expected numbers or text of shape (rows, columns), got {X.dtype} of shape "
            f"{X.shape}"
        )
    if X.size == 0:
        raise ValueError(f"X: expected at least one row and one column, got shape {X.shape}")
    return X, _checked_target(str(target), rest[0], X) if rest else None


def _checked_target(target: str, y: Array, X: Array) -> Array:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in NUMBERS + "U":
        raise ValueError(
            f"{target}: expected numbers or text of shape (rows,), got {y.dtype} of shape {y.shape}"
        )
    if len(X) != len(y):
        raise ValueError(
            f"X and {target}: expected the same number of rows, got shapes {X.shape} and {y.shape}"
        )
    _check_finite(target, y[:, None])
    return y if y.dtype.kind == "U" else y.astype(np.float64)


def _names(n_columns: int) -> list[str]:
    return [f"X[:, {i}]" for i in range(n_columns)]


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
