"""How each kind of column becomes columns of a network's input.

The encoder of a column has *parts*, each of which makes adjacent columns of the result: it is
fitted to the training rows, is told where its columns are, and writes them for any rows.
"""

from __future__ import annotations

import datetime
from decimal import Decimal
from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtri

from ..messages import counted, warn_user
from .table_columns import DATE_PARTS, Column, date_parts, is_missing, level_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.random import Generator

    from ..kernels.types import Doubles, Floats

__all__ = ["ENCODERS", "IDENTIFIERS", "Z_MAX", "Z_MIN", "CategoryEncoder", "ColumnEncoder",
           "DateEncoder", "NumberEncoder", "decoded", "encoded"]

# Why a column is dropped.
CONSTANT, NO_VALUES, IDENTIFIERS = "constant", "no values", "identifiers"

MISSING = "_missing"

# Where scikit-learn's QuantileTransformer cuts the normal distribution off.
PROBABILITY_MIN = 1e-7 - np.spacing(1)
Z_MIN, Z_MAX = ndtri(PROBABILITY_MIN), ndtri(1 - PROBABILITY_MIN)


class Part:
    """Columns of the result.

    Attributes
    ----------
    numeric, binary, codes : sequence of str
        The columns of each block: what follows the name of X's column in theirs.
    numeric_at, binary_at, codes_at : int
        The index in the result of the first of each.
    n_codes : int
        If there are `codes`.
    """

    numeric: Sequence[str] = ()
    binary: Sequence[str] = ()
    codes: Sequence[str] = ()
    numeric_at: int
    binary_at: int
    codes_at: int
    n_codes: int = 0


class ColumnEncoder:
    """Base class of the encoders.

    Parameters
    ----------
    max_one_hot, min_frequency : int
        See `TableEncoder`.

    Attributes
    ----------
    parts : list of Part
    note : str
        What a description says after the name of the column.
    """

    def __init__(self, max_one_hot: int, min_frequency: int) -> None:
        self.max_one_hot, self.min_frequency = max_one_hot, min_frequency
        self.parts: list[Any] = []
        self.note = ""

    def fit(self, column: Column, rng: Generator) -> str | None:
        """Learn from the training rows.

        Parameters
        ----------
        column : Column
        rng : numpy.random.Generator

        Returns
        -------
        str or None
            Why the column is dropped, if it is.
        """
        raise NotImplementedError

    def write(self, column: Column, out: Floats) -> None:
        """Write the columns of the parts.

        Parameters
        ----------
        column : Column
        out : ndarray of shape (rows, columns of the result)
            Zeros where it has not been written.
        """
        raise NotImplementedError


class NumberEncoder(ColumnEncoder):
    """Numbers or booleans.

    Examples
    --------
    >>> encoder = NumberEncoder(32, 5)
    >>> encoder.fit(Column("column 0", [True, None, False]), np.random.default_rng(0))
    >>> encoder.parts[0].binary, encoder.note
    (['', '_missing'], ' (missing: 1)')
    """

    def fit(self, column: Column, rng: Generator) -> str | None:
        values = column.numbers()
        n_missing = int(np.isnan(values).sum())
        part = NumberPart(values, rng)
        if part.is_empty:
            return NO_VALUES if n_missing == len(values) else CONSTANT
        self.parts = [part]
        self.note = f" (missing: {n_missing})" if n_missing else ""
        return None

    def write(self, column: Column, out: Floats) -> None:
        self.parts[0].write(column.numbers(), out)


class DateEncoder(ColumnEncoder):
    """Dates, as several numbers.

    Examples
    --------
    >>> encoder = DateEncoder(32, 5)
    >>> dates = np.array(["2024-01-01", "2024-01-08", "2024-02-05"], dtype="M8[D]")
    >>> encoder.fit(Column("column 0", dates), np.random.default_rng(0))
    >>> encoder.note
    ' (days, month)'
    """

    def fit(self, column: Column, rng: Generator) -> str | None:
        dates = column.dates()
        if np.isnat(dates).all():
            return NO_VALUES
        self.origin = dates[~np.isnat(dates)].min()
        parts = [NumberPart(values, rng, f"_{name}", indicator=name == "days")
                 for name, values in zip(DATE_PARTS, date_parts(dates, self.origin), strict=True)]
        self.kept = [i for i, part in enumerate(parts) if not part.is_empty]
        self.parts = [parts[i] for i in self.kept]
        n_missing = int(np.isnat(dates).sum())
        names = ", ".join(DATE_PARTS[i] for i in self.kept)
        self.note = f" ({names}{f', missing: {n_missing}' if n_missing else ''})"
        return None if self.parts else CONSTANT

    def write(self, column: Column, out: Floats) -> None:
        values = date_parts(column.dates(), self.origin)
        for i, part in zip(self.kept, self.parts, strict=True):
            part.write(values[i], out)


class NumberPart(Part):
    """Numbers as a numeric column or one of zeros and ones, and where they are missing.

    Parameters
    ----------
    values : ndarray of float64
        Of the training rows, NaN where missing.
    rng : numpy.random.Generator
    name : str, default ""
        Of the column, as in `Part`.
    indicator : bool, default True
        Whether there is a column that says where numbers are missing, if any are.

    Examples
    --------
    >>> part = NumberPart(np.array([3.0, 4.0, np.nan]), np.random.default_rng(0))
    >>> part.threshold, part.binary
    (3.5, ['', '_missing'])
    """

    def __init__(self, values: Doubles, rng: Generator, name: str = "",
                 indicator: bool = True) -> None:
        present = values[~np.isnan(values)]
        self.quantiles: Doubles | None = None
        self.threshold: float | None = None
        self.indicator = indicator and 0 < len(present) < len(values)
        if len(present):
            low, high = float(present.min()), float(present.max())
            if low < high and ((present == low) | (present == high)).all():
                self.threshold = low / 2 + high / 2
            elif low < high:
                self.quantiles = noisy_quantiles(present, rng)
                self.references = np.linspace(0, 1, len(self.quantiles))
        self.numeric = [name] if self.quantiles is not None else []
        self.binary = [name] if self.threshold is not None else []
        self.binary += [MISSING] if self.indicator else []

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to learn from: all values are the same, or missing."""
        return not (self.numeric or self.binary)

    def write(self, values: Doubles, out: Floats) -> None:
        """Write the columns.

        Parameters
        ----------
        values : ndarray of float64
        out : ndarray
        """
        if self.quantiles is not None:
            z = ndtri(np.interp(values, self.quantiles, self.references))
            np.clip(z, Z_MIN, Z_MAX, out=z)
            z[np.isnan(z)] = 0
            out[:, self.numeric_at] = z
        if self.threshold is not None:
            out[:, self.binary_at] = values > self.threshold
        if self.indicator:
            out[:, self.binary_at + len(self.binary) - 1] = np.isnan(values)


def noisy_quantiles(values: Doubles, rng: Generator) -> Doubles:
    """Quantiles at equal distances, of values to which noise was added so that none are equal.

    Parameters
    ----------
    values : ndarray of float64
        Two or more, finite.
    rng : numpy.random.Generator

    Returns
    -------
    ndarray of float64
        In ascending order.

    Examples
    --------
    >>> noisy_quantiles(np.arange(3.0), np.random.default_rng(0)).round(3)
    array([0., 1., 2.])
    """
    n = len(values)
    with np.errstate(over="ignore", invalid="ignore"):
        scale = 1e-5 * np.fmin(1, values.std())
        # So that large numbers change too.
        scale = np.maximum(scale, 4 * np.finfo(np.float64).eps * np.abs(values))
        ordered = np.sort(np.nan_to_num(values + scale * rng.normal(size=n)))
    place = np.linspace(0, n - 1, min(max(min(n // 30, 1000), 10), n))
    below = np.minimum(place.astype(np.intp), n - 2)
    above = place - below
    quantiles = ordered[below] * (1 - above) + ordered[below + 1] * above
    ascending: Doubles = np.maximum.accumulate(quantiles)
    return ascending


class CategoryEncoder(ColumnEncoder, Part):
    """Categories, as zeros and ones or as codes; its own and only part.

    Attributes
    ----------
    table : dict
        The number of each level, as `Column.encode` takes it.
    missing : int
        The number of missing values, or -1.
    types : list of str
        What the levels of the training rows, and of those set aside, were, in words.

    Examples
    --------
    >>> encoder = CategoryEncoder(32, 5)
    >>> encoder.fit(Column("column 0", ["b", "a", None, "b"]), np.random.default_rng(0))
    >>> encoder.binary, encoder.note
    (['_a', '_b', '_missing'], ' (2 levels, missing: 1)')
    """

    def fit(self, column: Column, rng: Generator) -> str | None:
        self.parts = [self]
        counts: dict[str, int] = {}
        values: dict[str, Any] = {}
        n_missing = 0
        found = column.counts()
        for value, count in found.items():
            if is_missing(value):
                n_missing += count
            else:
                level = level_text(value, column)
                counts[level] = counts.get(level, 0) + count
                values[level] = value
        self.types = sorted(_types(found if column.rows is None else column.whole().counts()))
        n_levels = len(counts) + (n_missing > 0)
        if n_levels < 2:
            return CONSTANT if counts else NO_VALUES
        one_hot = n_levels <= self.max_one_hot
        least = 1 if one_hot else self.min_frequency
        try:
            levels = sorted(counts, key=values.__getitem__)  # numbers and dates in their order
        except TypeError:
            levels = sorted(counts)
        levels = [level for level in levels if counts[level] >= least]
        first = 0 if one_hot else 1
        self.table: dict[Any, int] = {level: i for i, level in enumerate(levels, first)}
        for level, i in list(self.table.items()):
            if isinstance(values[level], bool | int | float):
                self.table[values[level]] = i  # found without its text
        # Booleans are 0 and 1, but go by their names.
        names = [str(values[level]) if isinstance(values[level], bool | np.bool_) else level
                 for level in levels]
        for i, name in enumerate(names, first):
            self.table.setdefault(name, i)
        has_missing = n_missing >= least
        self.missing = first + len(levels) if has_missing else -1
        self.n_codes = first + len(levels) + has_missing
        self.note = f" ({counted(len(counts), 'level')}"
        if one_hot:
            self.binary = [f"_{name}" for name in names] + [MISSING] * has_missing
        elif self.n_codes == 1:
            return IDENTIFIERS
        else:
            self.codes = [""]
            self.note += f" in {counted(self.n_codes, 'code')}"
        self.note += f", missing: {n_missing})" if n_missing else ")"
        return None

    def write(self, column: Column, out: Floats) -> None:
        found = column.encode(self.table, self.missing)
        self._check_types(column.take(np.flatnonzero(found < 0)))
        if self.codes:
            out[:, self.codes_at] = np.maximum(found, 0)
        else:
            rows = np.flatnonzero(found >= 0)
            out[rows, self.binary_at + found[rows]] = 1

    def _check_types(self, unknown: Column) -> None:
        """Warn if levels that are not in the table are of other types than those of training."""
        new = sorted(_types(unknown.counts()).difference(self.types))
        if self.types and new:
            levels = [repr(level) for level in self.table if isinstance(level, str)][:3]
            examples = f", such as {', '.join(levels)}" if levels and "text" in self.types else ""
            warn_user(
                f"{unknown.name}: expected {' or '.join(self.types)} as in fit{examples}; got "
                f"{' and '.join(new)} too, which are none of its levels and count as unknown ones; "
                f"convert the column to what it was in fit")


def _types(levels: Iterable[Any]) -> set[str]:
    """What levels are, missing ones aside: "text", "numbers", "booleans", "dates" or others."""
    names: dict[str, Any] = {
        "text": str, "booleans": bool | np.bool_, "numbers": Real | Decimal,
        "dates": datetime.date | np.datetime64,
    }
    types = {type(level) for level in levels if not is_missing(level)}
    return {next((name for name, each in names.items() if issubclass(kind, each)),
                 f"{kind.__name__} objects") for kind in types}


ENCODERS: dict[str, type[ColumnEncoder]] = {
    "number": NumberEncoder, "boolean": NumberEncoder, "date": DateEncoder,
    "category": CategoryEncoder,
}


# Encoders for files.


def encoded(encoder: ColumnEncoder) -> tuple[str, dict[str, Any]]:
    """A fitted encoder as what JSON can hold.

    Parameters
    ----------
    encoder : ColumnEncoder

    Returns
    -------
    kind : str
        Of the column.
    state : dict
    """
    if isinstance(encoder, CategoryEncoder):
        return "category", {
            "table": list(encoder.table.items()), "missing": encoder.missing,
            "n_codes": encoder.n_codes, "binary": encoder.binary, "codes": encoder.codes,
            "types": encoder.types}
    parts = [{
        "numeric": part.numeric, "binary": part.binary, "indicator": part.indicator,
        "threshold": part.threshold,
        "quantiles": None if part.quantiles is None else part.quantiles.tolist(),
    } for part in encoder.parts]
    if isinstance(encoder, DateEncoder):
        return "date", {"parts": parts, "origin": str(encoder.origin), "kept": encoder.kept}
    return "number", {"parts": parts}


def decoded(kind: str, state: dict[str, Any]) -> ColumnEncoder:
    """The encoder of which `encoded` returned this.

    Parameters
    ----------
    kind : str
    state : dict

    Returns
    -------
    ColumnEncoder

    Examples
    --------
    >>> encoder = NumberEncoder(32, 5)
    >>> encoder.fit(Column("column 0", [1.0, 2.0]), np.random.default_rng(0))
    >>> decoded(*encoded(encoder)).parts[0].threshold
    1.5
    """
    encoder = ENCODERS[kind](0, 0)
    if isinstance(encoder, CategoryEncoder):
        encoder.parts = [encoder]
        encoder.table = {value: int(i) for value, i in state["table"]}
        encoder.missing, encoder.n_codes = int(state["missing"]), int(state["n_codes"])
        encoder.binary, encoder.codes = list(state["binary"]), list(state["codes"])
        encoder.types = list(state.get("types", ()))  # of which older files say nothing
        n = encoder.n_codes if encoder.codes else len(encoder.binary)
        if not all(-1 <= i < n for i in (encoder.missing, *encoder.table.values())):
            raise ValueError(f"expected codes below {n}")
        return encoder
    for each in state["parts"]:
        part = NumberPart.__new__(NumberPart)
        part.numeric, part.binary = list(each["numeric"]), list(each["binary"])
        part.indicator, part.threshold = bool(each["indicator"]), each["threshold"]
        part.quantiles = None
        if each["quantiles"] is not None:
            part.quantiles = np.array(each["quantiles"], dtype=np.float64)
            part.references = np.linspace(0, 1, len(part.quantiles))
        encoder.parts.append(part)
    if isinstance(encoder, DateEncoder):
        encoder.origin, encoder.kept = np.datetime64(state["origin"], "us"), list(state["kept"])
    return encoder
