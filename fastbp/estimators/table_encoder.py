"""TableEncoder: a table of numbers, dates, text and missing values as input of a network."""

from __future__ import annotations

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from ..messages import LISTED, listed, warn_user
from .column_encoders import ENCODERS, IDENTIFIERS, decoded, encoded
from .sklearn_private import (
    Interval,
    Options,
    StrOptions,
    check_feature_names_in,
    validates_parameters,
)
from .table_reading import read_columns

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Self

    from numpy.random import RandomState
    from numpy.typing import DTypeLike

    from ..kernels.types import Array, Floats
    from .column_encoders import ColumnEncoder
    from .table_columns import Column
    from .table_reading import Table

__all__ = ["TableEncoder"]


class TableEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # without types
    """Turn a table of numbers, dates, text and missing values into a network's input.

    Columns may be numbers, booleans, dates, text or categories, with missing values (NaN, None,
    NaT, ``pandas.NA``, polars' null) in any of them.  The result is one array whose columns are,
    in this order:

    1. *Numeric*: each column of numbers, transformed by its quantiles to a normal distribution, as
       by scikit-learn's `QuantileTransformer`.  Missing numbers become 0, the median.
    2. *Zero or one*: one column for booleans and for numbers of which there are two in training
       (1 above their mean); one for each level of a column of categories, where missing is a level
       if it occurs in training; and one that says where numbers are missing, if any are in
       training.
    3. *Codes*: columns of more than `max_one_hot` levels, as whole numbers for `fastbp.Embedding`.
       A level that occurs at least `min_frequency` times in training, as which missing counts, has
       a code of its own.  All others are 0.

    A level that does not occur in training is 0 everywhere, with a warning if it is a number and
    those of training are text, or the like.  Columns that are constant in training
    are dropped, as are those of text that is different in nearly every row.

    Parameters
    ----------
    categories : sequence of str or int, optional
        Columns to take as categories, by name or index, whatever they hold.  By default those of
        text and of the categorical dtypes of pandas and polars.
    numbers : sequence of str or int, optional
        Columns to take as numbers.  By default those of numeric dtypes, and of text in arrays and
        lists if all of it is numbers.  Text in a data frame, such as ``"02139"``, is text.
    max_one_hot : int, default 32
        The largest number of levels for a column to be zeros and ones.
    min_frequency : int, default 5
        How many rows have a level that gets a code of its own.
    dtype : {"float32", "float64"}, default "float32"
        Of the result.
    random_state : int, RandomState instance or None, default None
        Determines the noise that tells equal numbers apart when quantiles are computed.

    Attributes
    ----------
    n_numeric_, n_binary_ : int
        Numeric columns of the result, and columns of zeros and ones.
    n_codes_ : list of int
        For each column of codes, how many codes there are: it holds 0 to one less.
    kinds_ : dict
        What each column was taken as: "number", "boolean", "date" or "category".
    dropped_ : dict
        The columns that are left out, and why.
    n_features_in_ : int
    feature_names_in_ : ndarray
        If X has column names that are strings.

    See Also
    --------
    fastbp.Embedding : The layer for codes.

    Notes
    -----
    There are ``max(min(n // 30, 1000), 10)`` quantiles, and no more than n, of n numbers that are
    not missing.  They are those of the numbers plus normally distributed noise, whose standard
    deviation is 1e-5, or 1e-5 of the column's standard deviation if that is less, which keeps tiny
    numbers apart; and at least a few units in the last place of each number, which keeps huge ones
    from being equal.

    A date becomes up to four columns of numbers, those that vary in training: days since the first
    date, month (1 to 12), day of the week (Monday is 0), and hour.  Dates with a time zone are in
    its local time.  A column of text is of dates if all of it is as in ISO 8601: ``2024-02-29``,
    ``2024-02-29 18:00`` or ``2024-02-29T18:00:00+01:00``, and not listed in `categories`.

    Levels are compared as text: 1, 1.0, True and "1" are one level.

    Data frames are matched by the names of columns, in any order.

    Apart from the result, memory is needed for a few columns at a time: less than 100 bytes for
    each row.  Columns of text are read as Python objects.

    Examples
    --------
    >>> import datetime
    >>> X = [[31.5, "red", True], [None, "blue", False], [18.0, "red", False]]
    >>> encoder = TableEncoder(random_state=0).fit(X)
    >>> encoder.get_feature_names_out().tolist()
    ['x0', 'x0_missing', 'x1_blue', 'x1_red', 'x2']
    >>> encoder.transform([[None, "green", True]])
    array([[0., 1., 0., 0., 1.]], dtype=float32)
    """

    categories: Sequence[str | int] | None
    numbers: Sequence[str | int] | None
    max_one_hot: int
    min_frequency: int
    dtype: DTypeLike
    random_state: int | RandomState | None

    n_numeric_: int
    n_binary_: int
    n_codes_: list[int]
    kinds_: dict[str, str]
    dropped_: dict[str, str]
    n_features_in_: int
    feature_names_in_: Array

    _parameter_constraints = {
        "categories": ["array-like", None],
        "numbers": ["array-like", None],
        "max_one_hot": [Interval(Integral, 0, None, closed="left")],
        "min_frequency": [Interval(Integral, 1, None, closed="left")],
        "dtype": [StrOptions({"float32", "float64"}), Options(type, {np.float32, np.float64})],
        "random_state": ["random_state"],
    }

    def __init__(
        self, categories: Sequence[str | int] | None = None, *,
        numbers: Sequence[str | int] | None = None, max_one_hot: int = 32, min_frequency: int = 5,
        dtype: DTypeLike = "float32", random_state: int | RandomState | None = None,
    ) -> None:
        self.categories = categories
        self.numbers = numbers
        self.max_one_hot = max_one_hot
        self.min_frequency = min_frequency
        self.dtype = dtype
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        tags.transformer_tags.preserves_dtype = []
        return tags

    @validates_parameters
    def fit(self, X: Any, y: Any = None) -> Self:
        """Learn the quantiles and levels of the columns.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)
            The training rows.
        y : None
            Ignored.

        Returns
        -------
        self

        Raises
        ------
        TypeError, ValueError
            If X is not such a table, a number is infinite, or every column is constant.  The
            message names the column and the first row.

        Examples
        --------
        >>> TableEncoder().fit([["a"], ["b"]]).n_binary_
        2
        """
        self._fit(read_columns(X))
        return self

    @validates_parameters
    def fit_transform(self, X: Any, y: Any = None) -> Floats:
        """Learn from rows, and encode them.

        Parameters
        ----------
        X, y
            As for `fit`.

        Returns
        -------
        ndarray of shape (rows, columns of the result)

        Raises
        ------
        TypeError, ValueError
            As `fit`.

        Examples
        --------
        >>> TableEncoder().fit_transform([["a", True], ["b", False]])
        array([[1., 0., 1.],
               [0., 1., 0.]], dtype=float32)
        """
        table = read_columns(X)
        self._fit(table)
        return self._encode(table.columns, table.n_rows)

    def transform(self, X: Any) -> Floats:
        """Encode rows.

        Parameters
        ----------
        X : array_like or data frame of shape (rows, columns)
            Its columns are matched by name if they were named in `fit` and are here, in any order.

        Returns
        -------
        ndarray of shape (rows, columns of the result), C-contiguous

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` has not been called.
        TypeError, ValueError
            If columns are missing or new, or hold what they did not in `fit`, such as text in
            a column of numbers.  The message names the column and the first row.

        Examples
        --------
        >>> encoder = TableEncoder().fit([["a"], ["b"]])
        >>> encoder.transform([["b"], ["c"]])
        array([[0., 1.],
               [0., 0.]], dtype=float32)
        """
        check_is_fitted(self)
        table = read_columns(X)
        self._check_rows(table, 1)
        return self._encode(self._matched(table), table.n_rows)

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Names of the columns of the result.

        Parameters
        ----------
        input_features : array_like of str, optional
            Names of X's columns, if it has none.

        Returns
        -------
        ndarray of str
            The name of X's column, followed by a level, a part of the date or "missing" where it
            has several columns; and by underscores where that is no new name.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` has not been called.
        ValueError
            If `input_features` are not the names of X's columns, or not as many.

        Examples
        --------
        >>> TableEncoder().fit([[1], [3], [5]]).get_feature_names_out(["age"])
        array(['age'], dtype=object)
        """
        check_is_fitted(self)
        given = check_feature_names_in(self, input_features)
        names: dict[str, None] = {}
        for i, end in self._outputs:
            name = f"{given[i]}{end}"
            while name in names:
                name += "_"
            names[name] = None
        return np.array(list(names), dtype=object)

    def describe(self) -> str:
        """What the columns were taken as, in a line for each kind.

        Returns
        -------
        str

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If `fit` has not been called.

        Examples
        --------
        >>> X = [[31.5, "red", True, 1], [None, "blue", False, 1], [18.0, "red", False, 1]]
        >>> print(TableEncoder().fit(X).describe())
        number: 'x0' (missing: 1)
        boolean: 'x2'
        category: 'x1' (2 levels)
        dropped: 'x3' (constant)
        """
        check_is_fitted(self)
        lines = []
        for kind in ("number", "boolean", "date", "category"):
            notes = [f"{name!r}{self._notes[name]}" for name, each in self.kinds_.items()
                     if each == kind and name not in self.dropped_]
            lines += [(kind, notes)] * bool(notes)
        dropped = [f"{name!r} ({why})" for name, why in self.dropped_.items()]
        lines += [("dropped", dropped)] * bool(dropped)
        return "\n".join(
            f"{kind}: " + ", ".join(notes[:LISTED])
            + (f" and {len(notes) - LISTED} more" if len(notes) > LISTED else "")
            for kind, notes in lines
        )

    def get_state(self) -> dict[str, Any]:
        """What was learned, as numbers, text, lists and dicts that JSON can hold.

        Returns
        -------
        dict
            For `from_state`.
        """
        check_is_fitted(self)
        return {
            "dtype": str(np.dtype(self.dtype)), "n_features": self.n_features_in_,
            "named": hasattr(self, "feature_names_in_"), "kinds": self.kinds_,
            "dropped": self.dropped_, "notes": self._notes,
            "columns": [[i, *encoded(each)] for i, each in self._encoders],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The fitted encoder of which `get_state` returned this.

        Parameters
        ----------
        state : dict

        Returns
        -------
        TableEncoder

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is not such a dict.
        """
        encoder = cls(dtype=state["dtype"])
        encoder.kinds_, encoder.dropped_ = dict(state["kinds"]), dict(state["dropped"])
        encoder._notes, encoder.n_features_in_ = dict(state["notes"]), int(state["n_features"])
        if state["named"]:
            encoder.feature_names_in_ = np.array(list(encoder.kinds_), dtype=object)
        encoder._encoders = [(int(i), decoded(kind, each)) for i, kind, each in state["columns"]]
        if not all(0 <= i < encoder.n_features_in_ == len(encoder.kinds_)
                   for i, _ in encoder._encoders):
            raise ValueError("its encoder has other columns than it lists")
        encoder._lay_out()
        return encoder

    # Fitting.

    def _fit(self, table: Table) -> None:
        self._check_rows(table, 2)
        columns, names, n_rows, _ = table
        labels = [f"x{i}" for i in range(len(columns))] if names is None else names
        kinds = self._kinds(columns, labels)
        rng = np.random.default_rng(check_random_state(self.random_state).randint(2**31))
        encoders: list[tuple[int, ColumnEncoder]] = []
        dropped, notes = {}, {}
        for i, (column, kind, label) in enumerate(zip(columns, kinds, labels, strict=True)):
            encoder = ENCODERS[kind](self.max_one_hot, self.min_frequency)
            why = encoder.fit(column, rng)
            if why is None:
                encoders.append((i, encoder))
                notes[label] = encoder.note
            else:
                dropped[label] = why
        if not encoders:
            reasons = ", ".join(sorted(set(dropped.values())))
            raise ValueError(f"X: no column is left to learn from, of {len(columns)} with "
                             f"n_samples={n_rows}: {reasons}; expected a column whose values vary")
        ids = [label for label, why in dropped.items() if why == IDENTIFIERS]
        if ids:
            has, it = ("column {} has", "it") if len(ids) == 1 else ("columns {} have", "them")
            warn_user(
                f"{has.format(listed(ids))} no value that occurs min_frequency="
                f"{self.min_frequency} times, and more than max_one_hot={self.max_one_hot} of "
                f"them, like identifiers: dropped. Leave {it} out, convert numbers and dates that "
                f"are text, or lower min_frequency")
        self._encoders, self.dropped_, self._notes = encoders, dropped, notes
        self.kinds_ = dict(zip(labels, kinds, strict=True))
        self.n_features_in_ = len(columns)
        if names is not None:
            self.feature_names_in_ = np.array(names, dtype=object)
        else:
            self.__dict__.pop("feature_names_in_", None)
        self._lay_out()

    def _lay_out(self) -> None:
        """Tell each part where its columns are."""
        parts = [(i, part) for i, encoder in self._encoders for part in encoder.parts]
        # Of each column of the result: X's column, and what follows its name.
        self._outputs: list[tuple[int, str]] = []
        for block in ("numeric", "binary", "codes"):
            for i, part in parts:
                setattr(part, f"{block}_at", len(self._outputs))
                self._outputs += [(i, end) for end in getattr(part, block)]
        self.n_numeric_ = sum(len(part.numeric) for _, part in parts)
        self.n_binary_ = sum(len(part.binary) for _, part in parts)
        self.n_codes_ = [part.n_codes for _, part in parts if part.codes]

    def _kinds(self, columns: list[Column], labels: list[str]) -> list[str]:
        as_categories = _indices("categories", self.categories, labels)
        as_numbers = _indices("numbers", self.numbers, labels)
        both = sorted(as_categories & as_numbers)
        if both:
            raise ValueError(f"categories, numbers: expected different columns, got "
                             f"{listed([labels[i] for i in both])} in both")
        return ["category" if i in as_categories else "number" if i in as_numbers
                else column.infer_kind() for i, column in enumerate(columns)]

    # Checks, and encoding.

    def _check_rows(self, table: Table, least: int) -> None:
        n_columns = len(table.columns)
        for found, what, enough in ((n_columns, "feature", 1), (table.n_rows, "sample", least)):
            if found < enough:
                raise ValueError(f"Found array with {found} {what}(s) (shape=({table.n_rows}, "
                                 f"{n_columns})) while a minimum of {enough} is required by "
                                 f"{type(self).__name__}.")

    def _matched(self, table: Table) -> list[Column]:
        """The columns in the order of those of fit."""
        columns, names, _, argument = table
        fitted = self.__dict__.get("feature_names_in_")
        kind = type(self).__name__
        if names is not None and fitted is not None:
            expected = fitted.tolist()
            if names == expected:
                return columns
            places = {name: i for i, name in enumerate(names)}
            known = set(expected)
            message = "The feature names should match those that were passed during fit.\n"
            extra = sorted(name for name in names if name not in known)
            absent = sorted(name for name in expected if name not in places)
            for title, differing in (("unseen at fit time", extra),
                                     ("seen at fit time, yet now missing", absent)):
                if differing:
                    message += f"Feature names {title}:\n"
                    message += "".join(f"- {name}\n" for name in differing[:LISTED])
                    message += "- ...\n" * (len(differing) > LISTED)
            if extra or absent:
                raise ValueError(message if argument == "X" else f"{argument}: {message}")
            return [columns[places[name]] for name in expected]
        if (names is None) != (fitted is None):
            has, was = ("has", "without") if fitted is None else ("does not have valid", "with")
            warn_user(f"{argument} {has} feature names, but {kind} was fitted {was} feature names")
        if len(columns) != self.n_features_in_:
            raise ValueError(f"{argument} has {len(columns)} features, but {kind} is expecting "
                             f"{self.n_features_in_} features as input.")
        return columns

    def _encode(self, columns: list[Column], n_rows: int) -> Floats:
        out: Floats = np.zeros((n_rows, len(self._outputs)), dtype=self.dtype)
        for i, encoder in self._encoders:
            encoder.write(columns[i], out)
        return out


def _indices(name: str, given: Iterable[str | int] | None, labels: list[str]) -> set[int]:
    """Indices of columns that are given by name or index."""
    found = set()
    places = {label: i for i, label in enumerate(labels)}
    for each in () if given is None else given:
        if isinstance(each, Integral) and -len(labels) <= each < len(labels):
            found.add(int(each) % len(labels))
        elif each in places:
            found.add(places[str(each)])
        else:
            raise ValueError(f"{name}: there is no column {each!r} in X; its columns are "
                             f"{listed(labels)}")
    return found
