"""Tables of numbers, dates and text, with missing values, read from CSV, Parquet and NumPy
files.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..messages import listed
from .tables import Table, file_format

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..kernels.types import Array

__all__ = ["Frame", "read_frame"]


@dataclass(frozen=True, eq=False)
class Frame:
    """Columns of numbers, dates and text, and the target to learn from them if there is one.

    The estimators for tables take it as X.

    Attributes
    ----------
    cells : list of ndarray of shape (rows,)
        Of each column: numbers in float64, NaN where missing; dates in datetime64, NaT where
        missing; or text in an array of objects, None where missing.
    y : ndarray of shape (rows,), or None
    columns : list of str
        Their names.
    target : str or None
        The name of y.

    Examples
    --------
    >>> frame = Frame([np.array([1.5, np.nan])], np.array(["cat", "dog"]), ["height"], "animal")
    >>> len(frame), frame[[1]].y, frame.is_complete
    (2, array(['dog'], dtype='<U3'), False)
    """

    cells: list[Array]
    y: Array | None
    columns: list[str]
    target: str | None

    def __len__(self) -> int:
        return len(self.cells[0])

    def __getitem__(self, rows: Sequence[int] | Array) -> Frame:
        """Some of the rows, by their indices."""
        y = None if self.y is None else self.y[rows]
        return Frame([each[rows] for each in self.cells], y, self.columns, self.target)

    @property
    def is_complete(self) -> bool:
        """Whether all cells are numbers, of which none is missing."""
        return all(each.dtype == np.float64 and np.isfinite(each).all() for each in self.cells)

    def to_table(self) -> Table:
        """The same rows as an array of numbers, if the frame is complete."""
        return Table(np.column_stack(self.cells), self.y, self.columns, self.target)


def read_frame(
    path: str | os.PathLike[str],
    target: str | None = None,
    drop: str | Sequence[str] = (),
    columns: str | Sequence[str] | None = None,
    kinds: Mapping[str, str] | None = None,
) -> Frame:
    """Read a CSV, Parquet or ``.npz`` file whose columns may hold dates or text, and lack values.

    Parameters
    ----------
    path, target, drop, columns
        As for `read_table`.  The target must be there in every row.
    kinds : mapping of str to str, optional
        What each column is, and which there are unless `columns` says so: "number", "date" or
        "category", as in the attribute ``encoder_.kinds_`` of an estimator, so that rows to predict
        are read as those to learn from were.  By default a column is of dates if all its cells are
        such as 2024-02-29 or 2024-02-29 18:30, and of categories if another one is text.  The
        columns of a Parquet file have types, so that text is never taken as numbers.

    Returns
    -------
    Frame

    Raises
    ------
    OSError
        If the file cannot be read.
    ImportError
        If it is a Parquet file, and polars is not installed.
    ValueError
        If there is a problem with its contents.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "houses.csv")
    >>> _ = path.write_text("rooms,street,price\\n4,Elm,250000\\n,Oak,190000\\n")
    >>> read_frame(path, "price").cells
    [array([ 4., nan]), array(['Elm', 'Oak'], dtype=object)]
    >>> folder.cleanup()
    """
    drop = [drop] if isinstance(drop, str) else drop
    columns = [columns] if isinstance(columns, str) else columns
    if kinds is not None and columns is None:
        columns = list(kinds)
    form = file_format(path)
    try:
        absent = [] if kinds is None else [name for name in columns or () if name not in kinds]
        if absent:
            raise ValueError(f"kinds: expected one for each column, got none for {listed(absent)}")
        # Imported here because csv and zipfile would slow down `import fastbp`.
        if form == "npz":
            from .npz_files import read_npz_cells

            if len(drop):
                raise ValueError("drop: the columns of an .npz file have no names; select them in "
                                 "X")
            if target is None and columns is None:
                target = "y"
            return Frame(*read_npz_cells(path, target, columns, kinds), target)
        if form == "parquet":
            from .parquet_files import read_parquet

            return Frame(*read_parquet(path, target, drop, columns, kinds), target)
        from .csv_files import read_cells

        return Frame(*read_cells(path, target, drop, columns, kinds), target)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None
