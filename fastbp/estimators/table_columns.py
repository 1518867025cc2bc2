"""A column of a table: numbers, dates or categories, with missing values."""

from __future__ import annotations

import datetime
import itertools
import math
import numbers
import re
from collections import Counter
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np

from ..messages import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..kernels.types import Array, Doubles, Labels

__all__ = ["DATE_PARTS", "Column", "date_parts", "is_missing", "level_text"]

DAY = np.timedelta64(1, "D")

# What a date becomes, in the order of `date_parts`.
DATE_PARTS = ("days", "month", "weekday", "hour")

# What `datetime.fromisoformat` reads, without the forms that could be codes, such as 20240229.
ISO_DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)

MISSING_TYPES = ("NoneType", "NAType", "NaTType")


class Column:
    """One column of a table.

    Parameters
    ----------
    name : str
        What messages call it: ``"column 'age'"``.
    cells : ndarray or list
        An array of numbers, booleans or dates, or a list of Python objects.
    kind : {"number", "boolean", "date", "category"}, optional
        If the table says so.
    codes : ndarray of int, optional
        If given, the column is ``[cells[code] for code in codes]``; missing where a code is -1.
    parse : bool, default False
        Whether text is taken as numbers if all of it can be.  Text that is dates as in ISO 8601,
        such as 2024-02-29 or 2024-02-29T18:00, always is dates.

    Examples
    --------
    >>> column = Column("column 'age'", [31, None, "32"], parse=True)
    >>> column.infer_kind(), column.numbers()
    ('number', array([31., nan, 32.]))
    """

    __slots__ = ("cells", "codes", "kind", "name", "parse")

    def __init__(self, name: str, cells: Any, kind: str | None = None,
                 codes: Array | None = None, parse: bool = False) -> None:
        self.name, self.cells, self.kind, self.codes, self.parse = name, cells, kind, codes, parse

    def infer_kind(self) -> str:
        """What the column holds: "number", "boolean", "date" or "category".

        Returns
        -------
        str

        Raises
        ------
        TypeError
            If a cell is nothing that a table can hold, such as a list.
        ValueError
            If the column holds complex numbers.

        Examples
        --------
        >>> Column("column 0", ["red", None]).infer_kind()
        'category'
        """
        if self.kind is not None:
            return self.kind
        if isinstance(self.cells, np.ndarray):
            kinds = {"b": "boolean", "M": "date"}
            return kinds.get(self.cells.dtype.kind, "number")
        types = {each for each in set(map(type, self.cells)) if each.__name__ not in MISSING_TYPES}
        if any(issubclass(each, str) for each in types):
            if self.parse and self._all_parse():
                return "number"
            return "date" if self._all_dates() else "category"
        groups = {
            "boolean": (bool, np.bool_),
            "number": (bool, np.bool_, numbers.Real, Decimal),
            "date": (datetime.date, np.datetime64),
        }
        for kind, group in groups.items():
            if types and all(issubclass(each, group) for each in types):
                return kind
        # None and NaN only, which is a float, say nothing about the rest.
        rest = {type(cell) for cell in self.cells if not is_missing(cell)}
        if not rest:
            return "number"
        for kind, group in groups.items():
            if all(issubclass(each, group) for each in rest):
                return kind
        known = groups["number"] + groups["date"]
        for row, cell in enumerate(self.cells):
            if not is_missing(cell) and not isinstance(cell, known):
                self._refuse(row, cell)
        raise TypeError(f"{self.name} mixes dates and numbers; convert it to one of them, or "
                        f"to text")

    def numbers(self) -> Doubles:
        """The column as finite numbers, with NaN for missing ones.

        Returns
        -------
        ndarray of float64

        Raises
        ------
        TypeError, ValueError
            If a cell is no number, or infinite.

        Examples
        --------
        >>> Column("column 'age'", [31, "young"]).numbers()
        Traceback (most recent call last):
            ...
        ValueError: column 'age': expected a number, got 'young' in row 1; correct it, put a \
missing value (None) in its place, or list the column in `categories`
        """
        if self.codes is not None:
            known = Column(self.name, list(self.cells)).numbers()
            return np.append(known, np.nan)[self.codes]
        values = self._numbers()
        finite = np.isfinite(values)
        if not finite.all():
            infinite = np.flatnonzero(np.isinf(values))
            if len(infinite):
                raise ValueError(
                    f"{self.name} contains infinity in {counted(len(infinite), 'row')} of "
                    f"{len(values):,}, the first of them row {infinite[0]}; put a finite number, "
                    f"or a missing value (NaN), in its place"
                )
        return values

    def dates(self) -> Array:
        """The column as dates, with NaT for missing ones, in the local time of its time zone.

        Returns
        -------
        ndarray of datetime64

        Raises
        ------
        TypeError
            If a cell is no date.

        Examples
        --------
        >>> Column("column 0", [datetime.date(2024, 2, 29), None]).dates()
        array(['2024-02-29T00:00:00.000000',                        'NaT'],
              dtype='datetime64[us]')
        """
        if self.codes is None and isinstance(self.cells, np.ndarray):
            if self.cells.dtype.kind == "M":
                return self.cells.astype("M8[us]", copy=False)
            if np.isnan(self._numbers()).all():
                return np.full(len(self.cells), "NaT", "M8[us]")
        known: list[Any] = []
        cells = self.cells.tolist() if isinstance(self.cells, np.ndarray) else self.cells
        for row, cell in enumerate(cells):
            if is_missing(cell):
                known.append(None)
            elif isinstance(cell, datetime.datetime):
                known.append(cell.replace(tzinfo=None))
            elif isinstance(cell, datetime.date | np.datetime64):
                known.append(cell)
            elif isinstance(cell, str) and (date := _iso_date(cell)) is not None:
                known.append(date)
            else:
                raise TypeError(f"{self.name}: expected a date, got {_shown(cell)} in row "
                                f"{row}; convert the column, for example with pandas.to_datetime")
        values: Array = np.array(known, dtype="M8[us]")
        if self.codes is None:
            return values
        return np.append(values, np.datetime64("NaT", "us"))[self.codes]

    def counts(self) -> dict[Any, int]:
        """How often each value occurs, missing ones included.

        Returns
        -------
        dict

        Raises
        ------
        TypeError
            If a cell is nothing that a table can hold, such as a list.

        Examples
        --------
        >>> Column("column 0", ["b", "a", "b", None]).counts()
        {'b': 2, 'a': 1, None: 1}
        """
        if self.codes is not None:
            tally = np.bincount(self.codes + 1, minlength=len(self.cells) + 1).tolist()
            return {cell: n for cell, n in zip([None, *self.cells], tally, strict=True) if n}
        try:
            return dict(Counter(self._objects()))
        except TypeError:
            self._refuse_unhashable()
            raise

    def encode(self, table: Mapping[Any, int], missing: int) -> Labels:
        """The number that stands for each value.

        Parameters
        ----------
        table : dict
            The numbers by value, and by its `level_text`.
        missing : int
            The number of missing values.

        Returns
        -------
        ndarray of int64
            -1 for values that are not in the table.

        Raises
        ------
        TypeError
            If a cell is nothing that a table can hold, such as a list.

        Examples
        --------
        >>> Column("column 0", ["b", 7.0, None, "c"]).encode({"b": 0, "7": 1}, 2)
        array([ 0,  1,  2, -1])
        """
        if self.codes is not None:
            known = [table.get(level_text(cell, self), -1) for cell in self.cells]
            return np.array([*known, missing], dtype=np.int64)[self.codes]
        cells = self._objects()
        try:
            found = np.fromiter(map(table.get, cells, itertools.repeat(-1)), np.int64, len(cells))
        except TypeError:
            self._refuse_unhashable()
            raise
        others: dict[Any, int] = {}
        for row in np.flatnonzero(found < 0).tolist():
            cell = cells[row]
            if cell not in others:
                others[cell] = (missing if is_missing(cell)
                                else table.get(level_text(cell, self, row), -1))
            found[row] = others[cell]
        return found

    def _numbers(self) -> Doubles:
        cells = self.cells
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                raise TypeError(f"{self.name}: expected numbers, got dates; convert them, or "
                                f"leave the column out")
            if cells.dtype.kind == "m":
                return cells / DAY
            with np.errstate(over="ignore"):
                return np.ascontiguousarray(cells, dtype=np.float64)
        try:
            values = np.array(cells, dtype=np.float64)
            if values.ndim == 1:
                return values
        except (TypeError, ValueError, OverflowError):
            pass
        values = np.full(len(cells), np.nan)
        for row, cell in enumerate(cells):
            if is_missing(cell):
                continue
            try:
                values[row] = float(cell)
            except OverflowError:
                values[row] = math.inf
            except (TypeError, ValueError):
                if not isinstance(cell, str):
                    self._refuse(row, cell, "a number")
                raise ValueError(
                    f"{self.name}: expected a number, got {_shown(cell)} in row {row}; correct "
                    f"it, put a missing value (None) in its place, or list the column in "
                    f"`categories`"
                ) from None
        return values

    def _all_parse(self) -> bool:
        """Whether the text is that of numbers, at least one of them finite."""
        try:
            return bool(np.isfinite(self._numbers()).any())
        except (TypeError, ValueError):
            return False

    def _all_dates(self) -> bool:
        """Whether all cells that are not missing are text of dates."""
        return all(isinstance(cell, str) and _iso_date(cell) is not None
                   for cell in self.cells if not is_missing(cell))

    def _objects(self) -> list[Any]:
        if not isinstance(self.cells, np.ndarray):
            return list(self.cells)
        if self.cells.dtype.kind == "M":
            return list(self.dates().tolist())
        if self.cells.dtype.kind == "m":
            return list(self.numbers().tolist())
        return list(self.cells.tolist())

    def _refuse_unhashable(self) -> None:
        for row, cell in enumerate(self._objects()):
            if type(cell).__hash__ is None:
                self._refuse(row, cell)

    def _refuse(self, row: int, cell: Any, expected: str = "a number, text or a date") -> None:
        raise TypeError(
            f"{self.name}: expected {expected}, got {_shown(cell)}, a {type(cell).__name__}, "
            f"in row {row}; convert the column, or leave it out"
        )


def is_missing(cell: Any) -> bool:
    """Whether a cell is None, NaN, NaT, pandas.NA or polars' null.

    Parameters
    ----------
    cell : object

    Returns
    -------
    bool

    Examples
    --------
    >>> is_missing(None), is_missing(float("nan")), is_missing("")
    (True, True, False)
    """
    if isinstance(cell, str):
        return False
    if type(cell).__name__ in MISSING_TYPES:
        return True
    return isinstance(cell, numbers.Number | np.datetime64 | Decimal) and bool(cell != cell)


def level_text(cell: Any, column: Column, row: int = 0) -> str:
    """What identifies a category: 1, 1.0, True and "1" are the same one.

    Parameters
    ----------
    cell : object
    column : Column
        That the cell is in.  Categories of pandas may be anything, such as intervals.
    row : int, default 0
        For the message.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If the cell is no number, text or date.

    Examples
    --------
    >>> column = Column("column 0", [])
    >>> [level_text(cell, column) for cell in ("a", True, 3, 3.0, 0.5)]
    ['a', '1', '3', '3', '0.5']
    """
    if isinstance(cell, str):
        return str(cell)
    if isinstance(cell, numbers.Integral | np.bool_):
        return str(int(cell))
    if isinstance(cell, numbers.Real | Decimal):
        number = float(cell)
        return str(int(number)) if number.is_integer() else repr(number)
    if not isinstance(cell, datetime.date | np.datetime64) and column.codes is None:
        column._refuse(row, cell)
    return str(cell)


def date_parts(dates: Array, origin: np.datetime64) -> list[Doubles]:
    """Dates as numbers: days since the origin, month, day of the week (Monday is 0), hour.

    Parameters
    ----------
    dates : ndarray of datetime64
    origin : numpy.datetime64

    Returns
    -------
    list of ndarray of float64
        One for each of `DATE_PARTS`; NaN where a date is missing.

    Examples
    --------
    >>> dates = np.array(["2024-02-29T18:00"], dtype="M8[us]")
    >>> date_parts(dates, np.datetime64("2024-01-01"))
    [array([59.75]), array([2.]), array([3.]), array([18.])]
    """
    day = dates.astype("M8[D]")
    parts = [
        (dates - origin) / DAY,
        (dates.astype("M8[M]") - dates.astype("M8[Y]").astype("M8[M]")) / np.timedelta64(1, "M")
        + 1,
        ((day - np.datetime64("1970-01-05", "D")) / DAY) % 7,  # a Monday
        np.floor((dates - day) / np.timedelta64(1, "h")),
    ]
    return parts


def _iso_date(text: str) -> datetime.datetime | None:
    """The date that text is, in the local time of its time zone; None if it is none."""
    if ISO_DATE.fullmatch(text) is None:
        return None
    try:
        return datetime.datetime.fromisoformat(text).replace(tzinfo=None)
    except ValueError:  # such as 2023-02-29
        return None


def _shown(cell: Any) -> str:
    text = repr(str(cell)) if isinstance(cell, str) else repr(cell)
    return text if len(text) <= 60 else text[:57] + "..."
