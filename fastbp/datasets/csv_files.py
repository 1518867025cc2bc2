"""The reader of CSV files."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import shlex
from array import array
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from ..messages import LISTED, counted, listed
from .columns import dates_of, is_missing, is_number, select, text_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from ..kernels.types import Array, Doubles

__all__ = ["column_names", "read_cells", "read_csv"]


def read_csv(
    path: str | os.PathLike[str],
    target: str | None,
    drop: Sequence[str],
    names: Sequence[str] | None,
) -> tuple[Doubles, Array | None, list[str]]:
    """Read columns of numbers, and a target, from a CSV file.

    Parameters
    ----------
    path : str or path-like
        A file in UTF-8 whose first line names the columns.  The separator is the comma,
        semicolon or tab, whichever that line has most of.
    target : str or None
        The column to learn.
    drop : sequence of str
        Columns to leave out.
    names : sequence of str or None
        The columns of X in order; None for all except the target and `drop`.

    Returns
    -------
    X : ndarray of shape (rows, columns), float64
        Finite numbers.
    y : ndarray of shape (rows,), or None
        The target: finite numbers in float64 if all its cells are numbers, otherwise text; None
        if `target` is.
    names : list of str
        The names of X's columns.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not valid CSV in UTF-8, or lacks one of the columns, or if a cell that should be
        a finite number is not.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "iris.csv")
    >>> _ = path.write_text("length;width;kind\\n5.1;3.5;setosa\\n6.3;3.3;virginica\\n")
    >>> read_csv(path, "kind", ["width"], None)
    (array([[5.1],
           [6.3]]), array(['setosa', 'virginica'], dtype='<U9'), ['length'])
    >>> folder.cleanup()
    """
    columns, selected, y = _read(path, target, drop, names)
    _check_columns(columns, may_drop=names is None)
    return np.column_stack([np.frombuffer(column.numbers) for column in columns]), y, selected


def column_names(path: str | os.PathLike[str]) -> list[str]:
    """The names in the first line of a CSV file.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    list of str

    Raises
    ------
    OSError, ValueError
        If the file cannot be read, or is not valid CSV in UTF-8.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("iris.csv").write_text("length;width\\n5.1;3.5\\n")
    >>> column_names("iris.csv")
    ['length', 'width']
    """
    with contextlib.closing(_rows(path)) as rows:
        _, first_row = next(rows, (0, []))
    return [name.strip() for name in first_row]


def read_cells(
    path: str | os.PathLike[str],
    target: str | None,
    drop: Sequence[str],
    names: Sequence[str] | None,
    kinds: Mapping[str, str] | None,
) -> tuple[list[Array], Array | None, list[str]]:
    """Read columns of numbers, dates and text, with missing values, and a target, from a CSV file.

    Parameters
    ----------
    path, target, drop, names
        As for `read_csv`.
    kinds : mapping of str to str, or None
        What each column is: "category" for text, "date", or anything else for numbers.  None if
        that is decided by the cells.

    Returns
    -------
    columns : list of ndarray of shape (rows,)
        Numbers in float64, NaN where missing; dates in datetime64, NaT where missing; or text in an
        array of objects, None where missing.
    y, names
        As of `read_csv`.

    Raises
    ------
    OSError, ValueError
        As `read_csv`, except for missing values, and for text unless `kinds` excludes it.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = Path(folder.name, "iris.csv")
    >>> _ = path.write_text("length,kind\\n5.1,setosa\\n,\\n")
    >>> read_cells(path, None, (), ["length", "kind"], None)[0]
    [array([5.1, nan]), array(['setosa', None], dtype=object)]
    >>> folder.cleanup()
    """
    columns, selected, y = _read(path, target, drop, names, keep_cells=True)
    if kinds is None:
        kinds = {column.name: column.kind for column in columns}
    cells = []
    for column in columns:
        kind = kinds[column.name]
        if kind == "category":
            cells.append(column.text())
        elif kind == "date":
            cells.append(column.dates())
        else:
            problem = column.problem(may_be_missing=True)
            if problem:
                raise ValueError(f"{problem}; correct such cells, or leave them empty where the "
                                 f"value is missing")
            cells.append(np.array(column.numbers))
    return cells, y, selected


def _read(
    path: str | os.PathLike[str],
    target: str | None,
    drop: Sequence[str],
    names: Sequence[str] | None,
    keep_cells: bool = False,
) -> tuple[list[_Column], list[str], Array | None]:
    """The columns of X, their names, and the target."""
    with contextlib.closing(_rows(path)) as rows:
        _, first_row = next(rows, (0, []))
        header = _checked_header([name.strip() for name in first_row], names)
        selected = select(header, target, drop, names, "the first line names")
        columns = [_Column(name, keep_cells) for name in selected]
        target_column = None if target is None else _Column(target, keep_cells=True)
        places = [(header.index(column.name), column)
                  for column in [*columns, target_column] if column is not None]
        for line, cells in rows:
            if not cells:  # an empty line
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"line {line} has {counted(len(cells), 'cell')}, but the first line names "
                    f"{counted(len(header), 'column')}; correct the line (text that contains a "
                    f"separator belongs in double quotes)"
                )
            for place, column in places:
                column.add(cells[place], line)
    if not columns[0].numbers:
        raise ValueError("has no rows below the first line, which names the columns")
    return columns, selected, None if target_column is None else _target_values(target_column)


def _rows(path: str | os.PathLike[str]) -> Generator[tuple[int, list[str]], None, None]:
    """The rows of a CSV file, each with the number of the line that it ends in."""
    try:
        # utf-8-sig also reads files that begin with a byte-order mark, as Excel's do.
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            for cells in reader:
                yield reader.line_num, cells
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8, "
            f"which spreadsheets offer as 'CSV UTF-8'"
        ) from None
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is not valid CSV: {error}") from None


class _Column:
    """A column while the file is read: its numbers, and which cells are not finite numbers.

    Attributes
    ----------
    name : str
    numbers : array of float
        NaN where a cell is not a number.
    count : Counter
        How many cells are "missing", "text" or "infinite", by these names.
    first : dict
        The first cell of each of these kinds, and its line number.
    cells : list of str, or None
        All of them, if they are kept.
    """

    def __init__(self, name: str, keep_cells: bool = False) -> None:
        self.name = name
        self.cells: list[str] | None = [] if keep_cells else None
        self.numbers = array("d")
        self.count: Counter[str] = Counter()
        self.first: dict[str, tuple[str, int]] = {}

    def add(self, cell: str, line: int) -> None:
        """Append a cell."""
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        self.numbers.append(number)
        if self.cells is not None:
            self.cells.append(cell.strip())
        if not math.isfinite(number):
            kind = ("missing" if is_missing(cell)
                    else "text" if math.isnan(number) else "infinite")
            self.count[kind] += 1
            self.first.setdefault(kind, (cell, line))

    @property
    def has_decimal_comma(self) -> bool:
        """Whether its first text is a number with a decimal comma."""
        return "text" in self.first and _has_decimal_comma(self.first["text"][0])

    @property
    def is_decimal_comma_only(self) -> bool:
        """Whether its text, which is kept, is all of numbers with a decimal comma."""
        return self.has_decimal_comma and all(
            is_number(cell) or _has_decimal_comma(cell) or is_missing(cell)
            for cell in self.cells or ())

    @property
    def kind(self) -> str:
        """What its cells, which are kept, are: "number", "date" or "category"."""
        if "text" not in self.first:
            return "number"
        if self.is_decimal_comma_only:
            raise ValueError(f"{self.problem()}; write decimals with a point")
        try:
            self.dates()
        except ValueError:
            return "category"
        return "date"

    def dates(self) -> Array:
        """The cells, which are kept, as dates, with NaT for missing ones."""
        return dates_of(self.name, self.cells or ())

    def text(self) -> Array:
        """The cells, which are kept, with None for missing ones."""
        return text_of(self.cells or ())

    def problem(self, may_be_text: bool = False, may_be_missing: bool = False) -> str | None:
        """What is wrong with the column; None if nothing is."""
        if "text" in self.first and not may_be_text:
            return f"column {self.name!r} holds text, first {self._place('text')}"
        if "missing" in self.first and not may_be_missing:
            n, (_, line) = self.count["missing"], self.first["missing"]
            what = "a value, in" if n == 1 else f"{n} values, first in"
            return f"column {self.name!r} lacks {what} line {line}"
        if "infinite" in self.first and "text" not in self.first:
            return f"column {self.name!r} holds an infinite number, {self._place('infinite')}"
        return None

    def _place(self, kind: str) -> str:
        cell, line = self.first[kind]
        return f"{cell!r} in line {line}"


def _has_decimal_comma(text: str) -> bool:
    return "," in text and is_number(text.replace(",", "."))


def _checked_header(header: list[str], names: Sequence[str] | None) -> list[str]:
    """The first line, if it names columns."""
    if not any(header):
        raise ValueError("is empty, or its first line is, which must name the columns")
    if all(map(is_number, header)):
        raise ValueError(
            f"the first line must name the columns, but holds numbers: {listed(header)}; add a "
            f"line of names above it, at least one of which is not a number"
        )
    if names is None and "" in header:
        raise ValueError(
            f"column {header.index('') + 1} has no name in the first line; name it, or remove "
            f"it (pandas writes such a column of row numbers unless told index=False)"
        )
    return header


def _check_columns(columns: list[_Column], may_drop: bool) -> None:
    """Raise ValueError if a column holds anything but finite numbers."""
    bad = [column for column in columns if column.first]
    if not bad:
        return
    found = {
        "write decimals with a point": any(column.has_decimal_comma for column in bad),
        "turn text into numbers (a column of 0 and 1 for each value)": any(
            "text" in column.first and not column.has_decimal_comma for column in bad),
        "fill in missing values or remove their rows": any(
            "missing" in column.first and "text" not in column.first for column in bad),
        "replace infinite numbers": any("infinite" in column.first for column in bad),
    }
    remedies = ", ".join(remedy for remedy, needed in found.items() if needed)
    problems = "; ".join(str(column.problem()) for column in bad[:LISTED])
    more = len(bad) - LISTED
    if more > 0:
        are = "is" if more == 1 else "are"
        problems += f"; and {counted(more, 'more column')} {are} like these"
    message = f"{problems}. Expected finite numbers: {remedies}"
    if may_drop:
        names = [column.name for column in bad]
        drop, options = f"drop={names}", " ".join(f"--drop {shlex.quote(name)}" for name in names)
        if more > 0:
            drop, options = "drop=[...]", "--drop COLUMN ..."
        message += f", or leave these columns out with {drop}, on the command line {options}"
        if all("infinite" not in column.first for column in bad):
            message += "; read_frame and --model tabpack take text and missing values"
    raise ValueError(message)


def _target_values(column: _Column) -> Array:
    """The target: numbers if all of its cells are, otherwise the text of its cells."""
    problem = column.problem(may_be_text=True)
    if problem:
        raise ValueError(f"the target {problem}; remove such rows, since a target cannot be "
                         f"filled in")
    if "text" not in column.first:
        return np.array(column.numbers)
    if column.is_decimal_comma_only:
        raise ValueError(f"the target {column.problem()}; write decimals with a point")
    return np.array(column.cells)
