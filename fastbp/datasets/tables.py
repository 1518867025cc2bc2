"""Tables of numbers to learn from, read from CSV, Parquet and NumPy files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .columns import numbers_only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernels.types import Array

__all__ = ["Table", "column_names", "file_format", "read_table"]


@dataclass(frozen=True, eq=False)
class Table:
    """Columns of numbers, and the target to learn from them if there is one.

    Attributes
    ----------
    X : ndarray of shape (rows, columns)
        Finite numbers; float64 from a CSV file.
    y : ndarray of shape (rows,), or None
        Finite numbers (float64), or class names (dtype kind ``"U"``).
    columns : list of str
        The names of X's columns.
    target : str or None
        The name of y.

    Examples
    --------
    >>> import numpy as np
    >>> table = Table(np.eye(2), np.array(["cat", "dog"]), ["height", "weight"], "animal")
    >>> table.target, table.X[:, table.columns.index("weight")]
    ('animal', array([0., 1.]))
    """

    X: Array
    y: Array | None
    columns: list[str]
    target: str | None


def file_format(path: str | os.PathLike[str]) -> str:
    """The format of a file, by the end of its name.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    {"npz", "parquet", "csv"}
        CSV for all other names.

    Examples
    --------
    >>> file_format("measured.NPZ"), file_format("houses.txt")
    ('npz', 'csv')
    """
    end = os.path.splitext(os.fspath(path))[1].lower()
    return {".npz": "npz", ".parquet": "parquet", ".pq": "parquet"}.get(end, "csv")


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of a file's columns: of CSV, those in its first line.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    list of str
        Those of an ``.npz`` file's X are ``X[:, 0]`` and so on.

    Raises
    ------
    OSError, ValueError, ImportError
        As `read_table`.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("iris.csv").write_text("length;width\\n5.1;3.5\\n")
    >>> column_names("iris.csv")
    ['length', 'width']
    """
    from . import csv_files, npz_files, parquet_files

    read = {"npz": npz_files.npz_names, "parquet": parquet_files.parquet_names,
            "csv": csv_files.column_names}[file_format(path)]
    try:
        return read(path)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def read_table(
    path: str | os.PathLike[str],
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
) -> Table:
    """Read a CSV file, a Parquet file or a NumPy ``.npz`` file.

    A CSV file is UTF-8 text, separated by commas, semicolons or tabs, whose first line
    names the columns.  The target may be text; all other columns must be numbers.  The same
    holds for a Parquet file, which needs ``pip install "fastbp[parquet]"``.  An ``.npz`` file holds
    the arrays ``X`` and ``y``.

    To learn from a CSV or Parquet file, name its target.  To predict, name the columns that were
    learned from (`Table.columns`): X holds them in that order, whatever their order in the file,
    and no target is needed.

    Parameters
    ----------
    path : str or path-like
        Read as ``.npz`` or ``.parquet`` (also ``.pq``) if its name ends in that, as CSV otherwise.
    target : str, optional
        The column to learn.  For ``.npz``: the array to learn, by default ``y``.
    drop : str or sequence of str, default ()
        Columns to leave out; not for ``.npz``.
    columns : str or sequence of str, optional
        The columns of X, in order.  By default all except the target and `drop`, in the file's
        order.  Those of ``.npz`` are called ``X[:, 0]`` and so on; other names say what X's columns
        are, and there must be one for each.

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If the file cannot be read.
    ImportError
        If it is a Parquet file, and polars is not installed.
    ValueError
        If there is a problem with its contents.  The message names the columns and lines, and
        says what to do.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "houses.csv")
    >>> _ = path.write_text("rooms,area,street,price\\n4,90.5,Elm,250000\\n")
    >>> table = read_table(path, "price", drop=["street"])
    >>> table.columns, table.X, table.y
    (['rooms', 'area'], array([[ 4. , 90.5]]), array([250000.]))
    >>> read_table(path, columns=["area", "rooms"]).X
    array([[90.5,  4. ]])
    >>> folder.cleanup()
    """
    path, form = os.fspath(path), file_format(path)
    drop = [drop] if isinstance(drop, str) else drop
    columns = [columns] if isinstance(columns, str) else columns
    try:
        # Imported here because csv and zipfile would slow down `import fastbp`.
        if form == "npz":
            from . import npz_files

            if len(drop):
                raise ValueError("drop: the columns of an .npz file have no names; select them in "
                                 "X")
            if columns is None:
                target = "y" if target is None else target
                return Table(*npz_files.read_npz(path, target), target)
            cells, y, names = npz_files.read_npz_cells(path, target, columns)
            return Table(numbers_only(names, cells, may_drop=False), y, names, target)
        if form == "parquet":
            from .parquet_files import read_parquet

            cells, y, names = read_parquet(path, target, drop, columns)
            return Table(numbers_only(names, cells, may_drop=columns is None), y, names, target)
        from .csv_files import read_csv

        return Table(*read_csv(path, target, drop, columns), target)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
