"""Tables of any library as columns: arrays, lists of rows, data frames of pandas and polars."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets import Frame
from ..messages import listed
from .table_columns import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernels.types import Array

__all__ = ["read_columns"]


def read_columns(X: Any) -> tuple[list[Column], list[str] | None, int]:
    """The columns of a table.

    Parameters
    ----------
    X : array_like or data frame of shape (rows, columns)
        A NumPy array, a list of rows, a `fastbp.datasets.Frame`, a data frame of
        pandas or polars, or of any other library whose data frames have Arrow's
        ``__arrow_c_stream__`` or the interchange protocol's ``__dataframe__``, if polars is
        installed, or else a method ``to_pandas``.

    Returns
    -------
    columns : list of Column
        Text in arrays and lists, which have one type for all columns, is taken as numbers if all
        of a column's text can be; text in a data frame is text.  In both, text that is dates as
        in ISO 8601 is dates; a `Frame` has been read as what its columns are.
    names : list of str, or None
        None if X has no names for its columns, or they are no text.
    n_rows : int

    Raises
    ------
    TypeError, ValueError
        If X is not such a table, or columns have the same name.

    Examples
    --------
    >>> columns, names, n_rows = read_columns([[1.5, "a"], [2.5, "b"]])
    >>> [column.infer_kind() for column in columns], names, n_rows
    (['number', 'category'], None, 2)
    """
    if isinstance(X, Frame):
        return ([Column(f"X: column {name!r}", cells, "category" if cells.dtype == object else None)
                 for name, cells in zip(X.columns, X.cells, strict=True)], X.columns, len(X))
    module = type(X).__module__.partition(".")[0]
    if module != "polars" and not hasattr(X, "iloc") and (
            hasattr(X, "__arrow_c_stream__") or hasattr(X, "__dataframe__")):
        X = _converted(X)
        module = type(X).__module__.partition(".")[0]
    if module == "polars" and hasattr(X, "get_columns"):
        names = list(X.columns)
        return ([_polars_column(f"X: column {name!r}", series)
                 for name, series in zip(names, X.get_columns(), strict=True)], names, X.height)
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        text = _text_names(list(X.columns))
        labels = map(repr, text) if text is not None else map(str, range(X.shape[1]))
        columns = [_pandas_column(f"X: column {label}", series)
                   for label, (_, series) in zip(labels, X.items(), strict=True)]
        return columns, text, len(X)
    table = _as_table(X)
    if table.dtype.kind in "OUS":
        columns = [Column(f"X: column {i}", table[:, i].tolist(), parse=True)
                   for i in range(table.shape[1])]
    else:
        columns = [Column(f"X: column {i}", table[:, i]) for i in range(table.shape[1])]
    return columns, None, len(table)


def _text_names(names: Sequence[Any]) -> list[str] | None:
    """The names if they are text, None if they are anything else; scikit-learn's rule."""
    are_text = [isinstance(name, str) for name in names]
    if not all(are_text):
        if any(are_text):
            first = names[are_text.index(False)]
            raise TypeError(
                f"X: expected names of columns that are all text, got {first!r} too; Feature "
                f"names are only supported if all input features have string names: use "
                f"X.columns = X.columns.astype(str)"
            )
        return None
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise ValueError(f"X: expected a different name for each column, got {listed(twice)} more "
                         f"than once; rename or drop such columns")
    return list(names) if names else None


def _converted(X: Any) -> Any:
    """A data frame of another library as one of polars or pandas."""
    try:
        import polars  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        if hasattr(X, "to_pandas"):
            return X.to_pandas()
        raise TypeError(f"X: expected an array or a data frame of pandas or polars, got a "
                        f"{type(X).__module__}.{type(X).__name__}; convert it, or install "
                        f"polars") from None
    if hasattr(X, "__arrow_c_stream__"):
        return polars.DataFrame(X)
    return polars.from_dataframe(X)


def _polars_column(name: str, series: Any) -> Column:
    polars = sys.modules["polars"]
    dtype = series.dtype
    if dtype.is_integer() or dtype.is_float():
        return Column(name, series.to_numpy())
    if dtype.is_numeric() or dtype == polars.Boolean:
        kind = "boolean" if dtype == polars.Boolean else "number"
        return Column(name, series.cast(polars.Float64).to_numpy(), kind)
    if dtype == polars.Categorical or dtype == polars.Enum:
        return Column(name, series.cast(polars.String).to_list(), "category")
    if dtype == polars.Datetime and dtype.time_zone is not None:
        series = series.dt.replace_time_zone(None)
    if dtype in (polars.Datetime, polars.Date, polars.Duration):
        return Column(name, series.to_numpy())
    return Column(name, series.to_list())


def _pandas_column(name: str, series: Any) -> Column:
    dtype = series.dtype
    if hasattr(dtype, "categories"):
        values = series.array
        return Column(name, list(values.categories), "category", np.asarray(values.codes))
    if hasattr(dtype, "freq"):  # periods
        return Column(name, series.dt.to_timestamp().to_numpy())
    if not isinstance(dtype, np.dtype):
        if dtype.kind == "M":
            if getattr(getattr(dtype, "pyarrow_dtype", dtype), "tz", None) is not None:
                series = series.dt.tz_localize(None)
            missing = np.datetime64("NaT", "us")
            return Column(name, series.to_numpy(dtype="M8[us]", na_value=missing))
        if dtype.kind == "m":
            missing_time = np.timedelta64("NaT", "us")
            return Column(name, series.to_numpy(dtype="m8[us]", na_value=missing_time))
        if dtype.kind in "iufb":
            kind = "boolean" if dtype.kind == "b" else "number"
            return Column(name, series.to_numpy(dtype=np.float64, na_value=np.nan), kind)
    elif dtype.kind != "O":
        return _checked_column(name, series.to_numpy())
    return Column(name, series.tolist())


def _checked_column(name: str, values: Array) -> Column:
    if values.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{name} holds complex numbers; use "
                         f"their real and imaginary parts")
    return Column(name, values)


def _as_table(X: Any) -> Array:
    """X as an array of two dimensions, of objects if it holds any text."""
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError("Sparse data was passed for X, but dense data is required. Use "
                        "X.toarray() to convert it to a dense array.")
    if isinstance(X, np.ma.MaskedArray):
        masked = np.ma.getmaskarray(X)
        X = np.array(X.data, dtype=object)
        X[masked] = None
    try:
        table = np.asarray(X)
    except ValueError:  # rows of different lengths, or cells that are lists
        table = np.array(X, dtype=object)
    if table.dtype.kind in "USO" and not isinstance(X, np.ndarray):
        table = np.array(X, dtype=object)
    if table.ndim == 1 and table.size and isinstance(table[0], list | tuple | np.ndarray):
        lengths = sorted({len(row) if hasattr(row, "__len__") else 1 for row in table})
        raise ValueError(f"X: expected rows of the same length, got rows of "
                         f"{' and '.join(map(str, lengths[:3]))} cells")
    if table.ndim != 2 and table.dtype.names is None:
        which = {0: "scalar", 1: "1D"}.get(table.ndim, f"{table.ndim}D")
        raise ValueError(
            f"Expected 2D array, got {which} array instead: X is a {type(X).__name__} of shape "
            f"{table.shape}. Reshape your data using X.reshape(-1, 1) if it has a single column, "
            f"X.reshape(1, -1) if it is a single row; a dict of columns is a table as "
            f"pandas.DataFrame(X)"
        )
    if table.dtype.names is not None or table.dtype.kind == "V":
        raise TypeError(f"X: expected numbers, text or dates, got dtype {table.dtype}; convert X "
                        f"to a data frame, pandas.DataFrame(X)")
    if table.dtype.kind == "c":
        raise ValueError("Complex data not supported\nX holds complex numbers; use their real and "
                         "imaginary parts")
    if table.dtype.kind == "S":
        table = table.astype(str)
    return table
