"""What readers of all formats share: which columns are read, and what their cells are."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from ..messages import LISTED, counted, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ..kernels.types import Array, Doubles

__all__ = ["as_kinds", "dates_of", "is_missing", "is_number", "numbers_only", "parsed", "select",
           "target_of_cells", "text_of"]

# Cells of text that stand for a missing value, in lower case.
MISSING = {"", "na", "n/a", "nan", "null"}

# Dates, with or without the time of day.
DATE = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?")


def is_missing(cell: str | None) -> bool:
    """Whether a cell of text stands for a missing value.

    Examples
    --------
    >>> is_missing(" NA"), is_missing("0")
    (True, False)
    """
    return cell is None or cell.strip().lower() in MISSING


def is_number(text: str) -> bool:
    """Whether a text is a number.

    Examples
    --------
    >>> is_number("1e3"), is_number("1,5")
    (True, False)
    """
    try:
        float(text)
    except ValueError:
        return False
    return True


def text_of(cells: Iterable[str | None]) -> Array:
    """Cells of text as an array of objects, with None for missing ones.

    Examples
    --------
    >>> text_of(["Rome", "n/a"])
    array(['Rome', None], dtype=object)
    """
    return np.array([None if is_missing(cell) else cell for cell in cells], dtype=object)


def dates_of(name: str, cells: Iterable[str | None]) -> Array:
    """Cells of text as dates, with NaT for missing ones.

    Parameters
    ----------
    name : str
        The column's, for messages.
    cells : iterable of str or None

    Returns
    -------
    ndarray of datetime64[us]

    Raises
    ------
    ValueError
        If a cell is no date.

    Examples
    --------
    >>> dates_of("sold", ["2024-02-29", ""])
    array(['2024-02-29T00:00:00.000000',                        'NaT'],
          dtype='datetime64[us]')
    """
    dates = ["NaT" if cell is None or is_missing(cell) else cell for cell in cells]
    for cell in dates:
        try:
            if cell != "NaT" and not DATE.fullmatch(cell):
                raise ValueError
            np.datetime64(cell, "us")
        except ValueError:
            raise ValueError(f"column {name!r} holds {cell!r}; expected dates such as 2024-02-29 "
                             f"or 2024-02-29 18:30, or nothing where the date is "
                             f"missing") from None
    return np.array(dates, dtype="M8[us]")


def parsed(name: str, cells: Sequence[str | None], numbers: bool) -> Array:
    """Cells of text as dates if all are dates, and otherwise as text.

    Parameters
    ----------
    name : str
        The column's, for messages.
    cells : sequence of str or None
    numbers : bool
        Whether they are numbers if all of them can be read as such.

    Returns
    -------
    ndarray
        As in `Frame.cells`.

    Examples
    --------
    >>> parsed("age", ["31", "NA"], numbers=True)
    array([31., nan])
    """
    if numbers and all(is_missing(cell) or is_number(str(cell)) for cell in cells):
        return _numbers(name, text_of(cells))
    if all(is_missing(cell) for cell in cells):
        return text_of(cells)
    try:
        return dates_of(name, cells)
    except ValueError:
        return text_of(cells)


def _numbers(name: str, cells: Array) -> Doubles:
    """Text as numbers, with NaN for missing ones."""
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if is_missing(cell):
            continue
        if not is_number(cell):
            raise ValueError(f"column {name!r} holds text, first {cell!r} in row {row}; correct "
                             f"such cells, or leave them out where the value is missing")
        numbers[row] = float(cell)
    return numbers


def select(
    header: Sequence[str], target: str | None, drop: Sequence[str], names: Sequence[str] | None,
    named_by: str,
) -> list[str]:
    """The names of X's columns.

    Parameters
    ----------
    header : sequence of str
        The names of all columns.
    target : str or None
        The column to learn.
    drop : sequence of str
        Columns to leave out.
    names : sequence of str or None
        The columns of X in order; None for all except the target and `drop`.
    named_by : str
        What names the columns, with a verb, for messages.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        If a column is not there, or there twice, or none is left.

    Examples
    --------
    >>> select(["a", "id", "y"], "y", ["id"], None, "the first line names")
    ['a']
    """
    there = f"the columns that {named_by} are {listed(header)}"
    options = [] if target is None else [("target", target)]
    options += [("drop", name) for name in drop]
    if names is None:
        if target is None:
            raise ValueError(f"target: name the column to learn; {there}")
        selected = [name for name in header if name != target and name not in drop]
        needed = list(header)
    else:
        selected = list(names)
        if not selected:
            raise ValueError("columns: expected the names of X's columns, got none")
        if len(drop):
            raise ValueError(f"drop: expected no names together with columns, which says what X "
                             f"is made of, got {listed(drop)}; leave one of them out")
        if target in selected:
            raise ValueError(f"target: expected a column that is not one of X's too, got "
                             f"{target!r}; leave it out of columns, or name another target")
        missing = [name for name in selected if name not in header]
        if missing:
            are_no = "is no column" if len(missing) == 1 else "are no columns"
            raise ValueError(f"columns: there {are_no} {listed(missing)}; {there}")
        needed = selected if target is None else [*selected, target]
    twice = sorted({name for name in needed if header.count(name) > 1})
    if twice:
        raise ValueError(f"{named_by} {listed(twice)} more than once; give each column a name of "
                         f"its own")
    for option, name in options:
        if name not in header:
            raise ValueError(f"{option}: there is no column {name!r}; {there}")
    if target in drop:
        raise ValueError(f"drop: column {target!r} is the target; drop others only")
    if not selected:
        raise ValueError(f"no column is left to learn {target!r} from; {there}")
    return selected


def as_kinds(names: Sequence[str], columns: Sequence[Array],
             kinds: Mapping[str, str] | None) -> list[Array]:
    """Columns as what they are to be.

    Parameters
    ----------
    names : sequence of str
    columns : sequence of ndarray
        Numbers in float64, dates, or text in arrays of objects.
    kinds : mapping of str to str, or None
        "category" for text, "date", or anything else for numbers.  None to leave all as they are.

    Returns
    -------
    list of ndarray
        As in `Frame.cells`.

    Raises
    ------
    ValueError
        If a column cannot be that, or holds infinite numbers.

    Examples
    --------
    >>> as_kinds(["zip"], [np.array([8001.0, np.nan])], {"zip": "category"})
    [array(['8001', None], dtype=object)]
    """
    made = []
    for name, cells in zip(names, columns, strict=True):
        kind = None if kinds is None else kinds[name]
        if kind is not None:
            cells = _as_kind(name, cells, kind)
        if cells.dtype.kind == "f" and np.isinf(cells).any():
            row = int(np.argmax(np.isinf(cells)))
            raise ValueError(f"column {name!r} holds an infinite number in row {row}; replace it, "
                             f"or leave it out if the value is missing")
        made.append(cells)
    return made


def _as_kind(name: str, cells: Array, kind: str) -> Array:
    holds = {"f": "number", "M": "date", "O": "category"}[cells.dtype.kind]
    if kind == "category":
        return cells if holds == kind else np.array(
            [None if cell != cell else _written(cell) for cell in cells], dtype=object)
    if kind == "date":
        if holds == "number" and not np.isnan(cells).all():
            raise ValueError(f"column {name!r} holds numbers; expected dates, as in what the model "
                             f"learned from")
        missing = np.full(len(cells), "NaT", "M8[us]")
        return missing if holds == "number" else (
            cells if holds == "date" else dates_of(name, cells))
    if holds == "date":
        raise ValueError(f"column {name!r} holds dates; expected numbers, as in what the model "
                         f"learned from")
    return cells if holds == "number" else _numbers(name, cells)


def _written(cell: Any) -> str:
    """A number or a date as text, whole numbers without a point."""
    if isinstance(cell, np.datetime64):
        return str(cell)
    return str(int(cell)) if cell == np.floor(cell) and np.isfinite(cell) else str(float(cell))


def target_of_cells(name: str, cells: Array) -> Array:
    """A column as a target: finite numbers or text, none missing.

    Parameters
    ----------
    name : str
    cells : ndarray
        As in `Frame.cells`.

    Returns
    -------
    ndarray of float64 or text

    Raises
    ------
    ValueError
        If it is anything else.

    Examples
    --------
    >>> target_of_cells("kind", np.array(["cat", "dog"], dtype=object))
    array(['cat', 'dog'], dtype='<U3')
    """
    lacks = np.array([cell is None or cell != cell for cell in cells])
    if lacks.any():
        first = int(np.argmax(lacks))
        what = "a value, in" if lacks.sum() == 1 else f"{lacks.sum()} values, first in"
        raise ValueError(f"the target column {name!r} lacks {what} row {first}; remove such rows, "
                         f"since a target cannot be filled in")
    if cells.dtype.kind == "M":
        raise ValueError(f"the target column {name!r} holds dates; expected numbers or text, such "
                         f"as the days since a first date")
    if cells.dtype.kind == "f" and not np.isfinite(cells).all():
        row = int(np.argmax(~np.isfinite(cells)))
        raise ValueError(f"the target column {name!r} holds an infinite number in row {row}; "
                         f"remove such rows")
    return cells.astype(str) if cells.dtype.kind == "O" else cells


def numbers_only(names: Sequence[str], columns: Sequence[Array], may_drop: bool) -> Doubles:
    """Columns of finite numbers, side by side.

    Parameters
    ----------
    names : sequence of str
    columns : sequence of ndarray
        As in `Frame.cells`.
    may_drop : bool
        Whether to say that columns can be left out.

    Returns
    -------
    ndarray of shape (rows, columns), float64

    Raises
    ------
    ValueError
        If a column holds anything else; the message names up to 20 such columns.

    Examples
    --------
    >>> numbers_only(["a", "b"], [np.array([1.0]), np.array([2.0])], may_drop=True)
    array([[1., 2.]])
    """
    bad = {}
    for name, cells in zip(names, columns, strict=True):
        if cells.dtype.kind == "f":
            lacks = ~np.isfinite(cells)
            if lacks.any():
                bad[name] = (f"lacks {counted(int(lacks.sum()), 'value')}, first in row "
                             f"{int(np.argmax(lacks))}")
        else:
            bad[name] = "holds dates" if cells.dtype.kind == "M" else "holds text"
    if not bad:
        return np.column_stack(columns)
    first = "; ".join(f"column {name!r} {what}" for name, what in list(bad.items())[:LISTED])
    more = f"; and {len(bad) - LISTED} more" if len(bad) > LISTED else ""
    message = (f"{first}{more}. Expected finite numbers: turn text and dates into numbers, fill in "
               f"missing values or remove their rows")
    if may_drop:
        drop = " ".join(f"--drop {shlex.quote(name)}" for name in bad)
        message += (f", or leave these columns out with drop={list(bad)}, on the command line "
                    f"{drop}" if len(bad) <= LISTED else ", or leave these columns out")
        message += "; read_frame and --model tabpack take text and missing values"
    raise ValueError(message)
