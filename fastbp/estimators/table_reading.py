"""Tables of any library as columns: arrays, lists of rows, data frames of pandas and polars."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..datasets import Frame
from ..messages import listed
from .table_columns import Column

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..kernels.types import Array

__all__ = ["Table", "read_columns"]


class Table(NamedTuple):
    """A table as columns.

    Attributes
    ----------
    columns : list of Column
    names : list of str, or None
        None if the table has no names for its columns, or they are no text.
    n_rows : int
    argument : str
        What messages call it.
    """

    columns: list[Column]
    names: list[str] | None
    n_rows: int
    argument: str = "X"

    def take(self, rows: Array) -> Table:
        """Some of the rows.  Messages have the numbers of the rows of the whole table.

        Parameters
        ----------
        rows : ndarray of int

        Returns
        -------
        Table

        Examples
        --------
        >>> table = read_columns([[1.5, "a"], [2.5, "b"]]).take(np.array([1]))
        >>> table.columns[0].numbers(), table.n_rows
        (array([2.5]), 1)
        """
        return self._replace(columns=[each.take(rows) for each in self.columns], n_rows=len(rows))


def read_columns(X: Any, argument: str = "X") -> Table:
    """The columns of a table.

    Parameters
    ----------
    X : array_like or data frame of shape (rows, columns)
        A NumPy array, a list of rows, a `fastbp.datasets.Frame`, a data frame of
        pandas or polars, or of any other library whose data frames have Arrow's
        ``__arrow_c_stream__`` or the interchange protocol's ``__dataframe__``, if polars is
        installed, or else a method ``to_pandas``.  A `Table` is returned as it is.
    argument : str, default "X"
        What messages call it.

    Returns
    -------
    Table
        Text in arrays and lists, which have one type for all columns, is taken as numbers if all
        of a column's text can be; text in a data frame is text.  In both, text that is dates as
        in ISO 8601 is dates; a `Frame` has been read as what its columns are.

    Raises
    ------
    TypeError, ValueError
        If X is not such a table, or columns have the same name.

    Examples
    --------
    >>> table = read_columns([[1.5, "a"], [2.5, "b"]])
    >>> [column.infer_kind() for column in table.columns], table.names, table.n_rows
    (['number', 'category'], None, 2)
    """
    if isinstance(X, Table):
        return X
    if isinstance(X, Frame):
        columns = [Column(f"{argument}: column {name!r}", cells,
                          "category" if cells.dtype == object else None)
                   for name, cells in zip(X.columns, X.cells, strict=True)]
        return Table(columns, X.columns, len(X), argument)
    module = type(X).__module__.partition(".")[0]
    if module != "polars" and not hasattr(X, "iloc") and (
            hasattr(X, "__arrow_c_stream__") or hasattr(X, "__dataframe__")):
        X = _converted(X, argument)
        module = type(X).__module__.partition(".")[0]
    if module == "polars" and hasattr(X, "get_columns"):
        names = list(X.columns)
        columns = [_polars_column(f"{argument}: column {name!r}", series)
                   for name, series in zip(names, X.get_columns(), strict=True)]
        return Table(columns, names, X.height, argument)
    if hasattr(X, "iloc") and hasattr(X, "columns"):
        text = _text_names(list(X.columns), argument)
        labels = map(repr, text) if text is not None else map(str, range(X.shape[1]))
        columns = [_pandas_column(f"{argument}: column {label}", series)
                   for label, (_, series) in zip(labels, X.items(), strict=True)]
        return Table(columns, text, len(X), argument)
    table = _as_table(X, argument)
    is_text = table.dtype.kind in "OUS"
    columns = [Column(f"{argument}: column {i}", cells.tolist() if is_text else cells,
                      parse=is_text) for i, cells in enumerate(table.T)]
    return Table(columns, None, len(table), argument)


def _text_names(names: Sequence[Any], argument: str) -> list[str] | None:
    """The names if they are text, None if they are anything else; scikit-learn's rule."""
    are_text = [isinstance(name, str) for name in names]
    if not all(are_text):
        if any(are_text):
            first = names[are_text.index(False)]
            raise TypeError(
                f"{argument}: expected names of columns that are all text, got {first!r} too; "
                f"Feature names are only supported if all input features have string names: use "
                f"{argument}.columns = {argument}.columns.astype(str)"
            )
        return None
    twice = sorted(name for name, n in Counter(names).items() if n > 1)
    if twice:
        raise ValueError(f"{argument}: expected a different name for each column, got "
                         f"{listed(twice)} more than once; rename or drop such columns")
    return list(names) if names else None


def _converted(X: Any, argument: str) -> Any:
    """A data frame of another library as one of polars or pandas."""
    try:
        import polars  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        if hasattr(X, "to_pandas"):
            return X.to_pandas()
        raise TypeError(f"{argument}: expected an array or a data frame of pandas or polars, got a "
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


def _as_table(X: Any, argument: str) -> Array:
    """X as an array of two dimensions, of objects if it holds any text."""
    if hasattr(X, "toarray") and hasattr(X, "nnz"):
        raise TypeError(f"Sparse data was passed for {argument}, but dense data is required. Use "
                        f"{argument}.toarray() to convert it to a dense array.")
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
        raise ValueError(f"{argument}: expected rows of the same length, got rows of "
                         f"{' and '.join(map(str, lengths[:3]))} cells")
    if table.ndim != 2 and table.dtype.names is None:
        which = {0: "scalar", 1: "1D"}.get(table.ndim, f"{table.ndim}D")
        raise ValueError(
            f"Expected 2D array, got {which} array instead: {argument} is a {type(X).__name__} of "
            f"shape {table.shape}. Reshape your data using {argument}.reshape(-1, 1) if it has a "
            f"single column, {argument}.reshape(1, -1) if it is a single row; a dict of columns is "
            f"a table as pandas.DataFrame({argument})"
        )
    if table.dtype.names is not None or table.dtype.kind == "V":
        raise TypeError(f"{argument}: expected numbers, text or dates, got dtype {table.dtype}; "
                        f"convert {argument} to a data frame, pandas.DataFrame({argument})")
    if table.dtype.kind == "c":
        raise ValueError(f"Complex data not supported\n{argument} holds complex numbers; use their "
                         f"real and imaginary parts")
    if table.dtype.kind == "S":
        table = table.astype(str)
    return table
