"""Tables of numbers to learn from, read from CSV and NumPy files."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernels.types import Array

__all__ = ["Table", "read_table"]


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


def read_table(
    path: str | os.PathLike[str],
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
) -> Table:
    """Read a CSV file or a NumPy ``.npz`` file.

    A CSV file is UTF-8 text, separated by commas, semicolons or tabs, whose first line
    names the columns.  The target may be text; all other columns must be numbers.  An
    ``.npz`` file holds the arrays ``X`` and ``y``.

    To learn from a CSV file, name its target.  To predict, name the columns that were learned
    from (`Table.columns`): X holds them in that order, whatever their order in the file, and no
    target is needed.

    Parameters
    ----------
    path : str or path-like
        Read as ``.npz`` if its name ends in that, as CSV otherwise.
    target : str, optional
        The column to learn.  For ``.npz``: the array to learn, by default ``y``.
    drop : str or sequence of str, default ()
        Columns to leave out; not for ``.npz``.
    columns : str or sequence of str, optional
        The columns of X, in order; not for ``.npz``.  By default all except the target and
        `drop`, in the file's order.

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If the file cannot be read.
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
    path = os.fspath(path)
    try:
        # Imported here because csv and zipfile would slow down `import fastbp`.
        if path.lower().endswith(".npz"):
            from .npz_files import read_npz

            if columns is not None or len(drop):
                raise ValueError(f"{'drop' if len(drop) else 'columns'}: the columns of an .npz "
                                 f"file have no names; select them in X")
            target = "y" if target is None else target
            return Table(*read_npz(path, target), target)
        from .csv_files import read_csv

        if isinstance(drop, str):
            drop = [drop]
        if isinstance(columns, str):
            columns = [columns]
        return Table(*read_csv(path, target, drop, columns), target)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
