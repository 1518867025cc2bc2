"""The reader of Parquet files, with polars, which is optional and imported only here."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import open_regular
from .columns import as_kinds, parsed, select, target_of_cells

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..kernels.types import Array

__all__ = ["parquet_names", "read_parquet"]


def _polars() -> Any:
    try:
        import polars
    except ImportError:
        raise ImportError('Parquet files need polars: pip install "fastbp[parquet]"') from None
    return polars


def parquet_names(path: str | os.PathLike[str]) -> list[str]:
    """The names of a Parquet file's columns.

    Parameters
    ----------
    path : str or path-like

    Returns
    -------
    list of str

    Raises
    ------
    ImportError
        If polars is not installed.
    OSError, ValueError
        If the file cannot be read, or is no Parquet file.

    Examples
    --------
    >>> import polars
    >>> polars.DataFrame({"length": [5.1], "kind": ["setosa"]}).write_parquet("iris.parquet")
    >>> parquet_names("iris.parquet")
    ['length', 'kind']
    """
    return list(_read(path, _polars().read_parquet_schema))


def read_parquet(
    path: str | os.PathLike[str],
    target: str | None,
    drop: Sequence[str],
    names: Sequence[str] | None,
    kinds: Mapping[str, str] | None = None,
) -> tuple[list[Array], Array | None, list[str]]:
    """Read columns of numbers, dates and text, with missing values, and a target.

    Parameters
    ----------
    path, target, drop, names, kinds
        As for `fastbp.datasets.csv_files.read_cells`.  Columns of true and false are numbers, and
        text is dates if all of it is such as 2024-02-29.

    Returns
    -------
    columns, y, names
        As of `read_cells`.

    Raises
    ------
    ImportError
        If polars is not installed.
    OSError, ValueError
        If the file cannot be read, or is no Parquet file, lacks one of the columns, or holds what
        is neither numbers, dates nor text.

    Examples
    --------
    >>> import polars
    >>> polars.DataFrame({"length": [5.1, None], "kind": ["a", "b"]}).write_parquet("iris.parquet")
    >>> read_parquet("iris.parquet", "kind", (), None)
    ([array([5.1, nan])], array(['a', 'b'], dtype='<U1'), ['length'])
    """
    polars = _polars()
    selected = select(parquet_names(path), target, drop, names, "the file has")
    needed = selected if target is None else [*selected, target]
    frame = _read(path, polars.read_parquet, columns=needed)
    if frame.height == 0:
        raise ValueError("has no rows")
    as_text = [name for name, kind in (kinds or {}).items() if kind == "category"]
    cells = [_cells(polars, frame[name], name in as_text) for name in selected]
    y = None if target is None else target_of_cells(
        target, _cells(polars, frame[target], as_text=False))
    return as_kinds(selected, cells, kinds), y, selected


def _read(path: str | os.PathLike[str], read: Any, **options: Any) -> Any:
    """What a function of polars reads of a file."""
    polars = _polars()
    with open_regular(path, "rb") as file:  # polars itself would take URLs and patterns
        try:
            return read(file, **options)
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as error:
            reason = str(error).split("\n")[0]
            raise ValueError(f"is not a Parquet file, or a damaged one ({reason}); write it with "
                             f"to_parquet of pandas or write_parquet of polars") from None


def _cells(polars: Any, series: Any, as_text: bool) -> Array:
    """A column as an array: numbers in float64, dates, or text in an array of objects."""
    dtype = series.dtype
    if dtype in (polars.String, polars.Categorical, polars.Enum):
        text = series.cast(polars.String).to_list()
        if as_text or dtype != polars.String:
            return np.array(text, dtype=object)
        cells = parsed(series.name, text, numbers=False)
        # What stands for a missing value in a CSV file is text here.
        return cells if cells.dtype.kind == "M" else np.array(text, dtype=object)
    if dtype in (polars.Date, polars.Datetime):
        if dtype == polars.Datetime and dtype.time_zone is not None:
            series = series.dt.replace_time_zone(None)
        dates: Array = series.cast(polars.Datetime("us")).to_numpy()
        return dates
    if dtype.is_numeric() or dtype in (polars.Boolean, polars.Null):
        if as_text and not dtype.is_float():
            return np.array([None if cell is None else str(cell) for cell in series.to_list()],
                            dtype=object)
        numbers: Array = series.cast(polars.Float64).fill_null(np.nan).to_numpy()
        return numbers
    raise ValueError(f"column {series.name!r} holds {dtype}; expected numbers, text or dates: "
                     f"convert it, or leave it out with drop={[series.name]}, on the command line "
                     f"--drop")
