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
    rows : ndarray of int, optional
        If given, only these rows have values.  Its kind, and what is refused with the number of
        its row, are those of the whole column.

    Examples
    --------
    >>> column = Column("column 'age'", [31, None, "32"], parse=True)
    >>> column.infer_kind(), column.numbers()
    ('number', array([31., nan, 32.]))
    """

    __slots__ = ("cells", "codes", "kind", "name", "parse", "rows")

    def __init__(self, name: str, cells: Any, kind: str | None = None,
                 codes: Array | None = None, parse: bool = False,
                 rows: Array | None = None) -> None:
        self.name, self.cells, self.kind, self.codes, self.parse = name, cells, kind, codes, parse
        self.rows = rows

    def take(self, rows: Array) -> Column:
        """The column with the values of these rows only.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        Column

        Examples
        --------
        >>> Column("column 'age'", [31, None, 32]).take(np.array([2, 0])).numbers()
        array([32., 31.])
        """
        if self.rows is not None:
            rows = self.rows[rows]
        return Column(self.name, self.cells, self.kind, self.codes, self.parse, rows)

    def whole(self) -> Column:
        """The column with the values of all rows."""
        return Column(self.name, self.cells, self.kind, self.codes, self.parse)

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
        for place, cell in enumerate(self.cells):
            if not is_missing(cell) and not isinstance(cell, known):
                self._refuse(place, cell)
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
        values = self._numbers()
        if self.codes is not None:
            values = np.append(values, np.nan)[self.codes]
        finite = np.isfinite(values)
        if not finite.all():
            infinite = np.flatnonzero(np.isinf(values))
            if len(infinite):
                raise ValueError(
                    f"{self.name} contains infinity in {counted(len(infinite), 'row')} of "
                    f"{len(values):,}, the first of them row {infinite[0]}; put a finite number, "
                    f"or a missing value (NaN), in its place"
                )
        return values if self.rows is None else values[self.rows]

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
        values = self._dates()
        if self.codes is not None:
            values = np.append(values, np.datetime64("NaT", "us"))[self.codes]
        return values if self.rows is None else values[self.rows]

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
            codes = self.codes if self.rows is None else self.codes[self.rows]
            tally = np.bincount(codes + 1, minlength=len(self.cells) + 1).tolist()
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
            codes = self.codes if self.rows is None else self.codes[self.rows]
            return np.array([*known, missing], dtype=np.int64)[codes]
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
                                else table.get(level_text(cell, self), -1))
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
        for place, cell in enumerate(cells):
            if is_missing(cell):
                continue
            try:
                values[place] = float(cell)
            except OverflowError:
                values[place] = math.inf
            except (TypeError, ValueError):
                if not isinstance(cell, str):
                    self._refuse(place, cell, "a number")
                raise ValueError(
                    f"{self.name}: expected a number, got {_shown(cell)} {self._where(place)}; "
                    f"correct it, put a missing value (None) in its place, or list the column in "
                    f"`categories`"
                ) from None
        return values

    def _dates(self) -> Array:
        cells = self.cells
        if isinstance(cells, np.ndarray):
            if cells.dtype.kind == "M":
                return cells.astype("M8[us]", copy=False)
            if np.isnan(self._numbers()).all():
                return np.full(len(cells), "NaT", "M8[us]")
            cells = cells.tolist()
        known: list[Any] = []
        for place, cell in enumerate(cells):
            if is_missing(cell):
                known.append(None)
            elif isinstance(cell, datetime.datetime):
                known.append(cell.replace(tzinfo=None))
            elif isinstance(cell, datetime.date | np.datetime64):
                known.append(cell)
            elif isinstance(cell, str) and (date := _iso_date(cell)) is not None:
                known.append(date)
            else:
                raise TypeError(f"{self.name}: expected a date, got {_shown(cell)} "
                                f"{self._where(place)}; convert the column, for example with "
                                f"pandas.to_datetime")
        return np.array(known, dtype="M8[us]")

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
        """The values as Python objects."""
        if not isinstance(self.cells, np.ndarray):
            if self.rows is None:
                return list(self.cells)
            return [self.cells[row] for row in self.rows.tolist()]
        if self.cells.dtype.kind == "M":
            return list(self.dates().tolist())
        if self.cells.dtype.kind == "m":
            return list(self.numbers().tolist())
        return list((self.cells if self.rows is None else self.cells[self.rows]).tolist())

    def _where(self, place: int) -> str:
        """The row of a cell by its index in `cells`, or the first one."""
        if self.codes is None:
            return f"in row {place}"
        rows = np.flatnonzero(self.codes == place)
        return f"in row {rows[0]}" if len(rows) else "among its categories"

    def _refuse_unhashable(self) -> None:
        for place, cell in enumerate(self.cells):
            if type(cell).__hash__ is None:
                self._refuse(place, cell)

    def refuse_level(self, cell: Any) -> None:
        """Raise an error because one of the cells is nothing that a table can hold.

        Parameters
        ----------
        cell : object

        Raises
        ------
        TypeError
        """
        self._refuse(next(i for i, each in enumerate(self.cells) if each is cell), cell)

    def _refuse(self, place: int, cell: Any, expected: str = "a number, text or a date") -> None:
        raise TypeError(
            f"{self.name}: expected {expected}, got {_shown(cell)}, a {type(cell).__name__}, "
            f"{self._where(place)}; convert the column, or leave it out"
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


def level_text(cell: Any, column: Column) -> str:
    """What identifies a category: 1, 1.0, True and "1" are the same one.

    Parameters
    ----------
    cell : object
    column : Column
        That the cell is in.  Categories of pandas may be anything, such as intervals.

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
    if isinstance(cell, np.timedelta64):  # an Integral to NumPy
        column.refuse_level(cell)
    if isinstance(cell, numbers.Integral | np.bool_):
        return str(int(cell))
    if isinstance(cell, numbers.Real | Decimal):
        number = float(cell)
        return str(int(number)) if number.is_integer() else repr(number)
    if not isinstance(cell, datetime.date | np.datetime64) and column.codes is None:
        column.refuse_level(cell)
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
