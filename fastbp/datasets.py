"""Tables to learn from: the digits, a user's own file, and what a table needs before training.

>>> from fastbp import datasets
>>> table = datasets.read_table("houses.csv", "price")          # doctest: +SKIP
>>> train, test = datasets.hold_out(table.y, 0.2, seed=0)       # doctest: +SKIP
>>> standardize = datasets.Standardizer(table.X[train])         # doctest: +SKIP
"""

import math
import os
from array import array
from dataclasses import dataclass

import numpy as np

from .kernels import checks
from .layers import Dense

__all__ = ["Standardizer", "Table", "digits", "fold", "hold_out", "read_table"]

# Cells of a CSV file that stand for "no value", in lower case.
MISSING = {"", "na", "n/a", "nan", "null"}

# How many columns or classes a message lists before it says how many more there are.
LISTED = 20


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers to learn or predict from, and the target to be learned if there is one.

    Attributes
    ----------
    X : ndarray of shape (rows, columns)
        Finite numbers.
    y : ndarray of shape (rows,), or None
        Finite numbers, or text (dtype kind ``"U"``): names of classes.
    columns : list of str
        The names of X's columns.
    target : str or None
        The name of y.
    """

    X: np.ndarray
    y: np.ndarray | None
    columns: list
    target: str | None


def digits(part="all"):
    """The handwritten digits that scikit-learn ships: 1797 pictures of 8 × 8 pixels.

    Parameters
    ----------
    part : {"all", "train", "test"}, default "all"
        ``"test"`` is a fixed fifth of each digit's pictures, ``"train"`` the others.

    Returns
    -------
    X : ndarray of shape (rows, 64), float32
        Pixels from 0 (white) to 1 (black).
    y : ndarray of shape (rows,), int64
        The digit, 0 to 9.

    Raises
    ------
    ImportError
        If scikit-learn is missing.
    ValueError
        If `part` is none of the three.

    References
    ----------
    E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine
    Learning Repository, 1998.
    """
    if part not in ("all", "train", "test"):
        raise ValueError(f'part: expected "all", "train" or "test", got {part!r}')
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError('the digits come with scikit-learn: '
                          'pip install "fastbp[sklearn]"') from error
    X, y = load_digits(return_X_y=True)
    X, y = (X / 16).astype(np.float32), y.astype(np.int64)
    if part == "all":
        return X, y
    train, test = hold_out(y, 0.2, seed=0, stratify=True)
    rows = train if part == "train" else test
    return X[rows], y[rows]


def read_table(path, target=None, drop=(), columns=None):
    """Read a CSV file or a NumPy ``.npz`` file.

    A CSV file is UTF-8 text, separated by commas, semicolons or tabs, whose first line
    names the columns.  The target may be text; all other columns must be numbers.  An
    ``.npz`` file holds the arrays ``X`` and ``y``.

    To learn from a CSV file, name its target.  To predict, name the columns that were learned
    from: wherever they are in the new file, X has them in that order, and no target is needed.

    Parameters
    ----------
    path : str or path-like
        Read as ``.npz`` if its name ends so, as CSV otherwise.
    target : str, optional
        The column to learn.  For ``.npz``: the array to learn, by default ``y``.
    drop : sequence of str, default ()
        Columns to leave out; not for ``.npz``.
    columns : sequence of str, optional
        The columns of X, in order; not for ``.npz``.  By default all but the target and those
        to leave out, as the file has them.

    Returns
    -------
    Table

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If there is anything in it that cannot be learned from.  The message names the
        columns, says what is wrong with them and what to do.
    """
    path = os.fspath(path)
    try:
        if path.lower().endswith(".npz"):
            if columns is not None or len(drop):
                raise ValueError(f"{'drop' if len(drop) else 'columns'}: the columns of an .npz "
                                 f"file have no names; select them in X")
            return _read_npz(path, "y" if target is None else target)
        drop, columns = ([names] if isinstance(names, str) else names for names in (drop, columns))
        return _read_csv(path, target, drop, columns)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def hold_out(y, test_share=0.2, seed=0, stratify=False):
    """Draw rows at random that are kept out of the training, to test on.

    Parameters
    ----------
    y : array_like of shape (rows,)
    test_share : float in (0, 1), default 0.2
        Of the rows to keep out.
    seed : int, default 0
    stratify : bool, default False
        Whether that share is taken of the rows of each value of y (each class).

    Returns
    -------
    train, test : ndarray of int
        Row numbers, in ascending order.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as above, or there are too few rows to keep one out.
    """
    y = np.asarray(y)
    share = checks.number("test_share", test_share, 0, 1, low_open=True, high_open=True)
    rng = np.random.default_rng(checks.integer("seed", seed, 0))
    order = rng.permutation(len(y))
    if stratify:
        order = order[np.argsort(y[order], kind="stable")]  # classes side by side
    # Taken evenly along that order, the share is that of each class too.
    taken = np.floor(np.arange(len(y) + 1) * share)
    is_test = taken[1:] > taken[:-1]
    if not is_test.any():
        raise ValueError(
            f"test_share: expected one that keeps a row out, got {share} of "
            f"{counted(len(y), 'row')}"
        )
    return np.sort(order[~is_test]), np.sort(order[is_test])


class Standardizer:
    """Shifts and scales each column, so that those it was made from have mean 0, deviation 1.

    Parameters
    ----------
    X : array_like of shape (rows, columns)
        The training rows only: what is held out must not be known yet.
    names : sequence of str, optional
        What an error calls the columns, by default their numbers.

    Attributes
    ----------
    mean, scale : ndarray of shape (columns,), float64
        What is taken off, and then divided by.  A constant column says nothing, so its
        scale is infinite: it comes out 0, in whatever rows.

    Raises
    ------
    TypeError, ValueError
        If X holds anything but finite numbers, or numbers so large or so close to each other
        that float64 has no place for their squares.
    """

    def __init__(self, X, names=None):
        X = checks.data("X", X)
        # Not by a deviation of 0: that of equal numbers may come out as 1e-17.
        constant = X.min(axis=0) == X.max(axis=0)
        with np.errstate(over="ignore", under="ignore", invalid="ignore"):
            self.mean = np.where(constant, X[0], X.mean(axis=0, dtype=np.float64))
            deviation = X.std(axis=0, dtype=np.float64)
        lost = np.flatnonzero(~constant & ~(np.isfinite(deviation) & (deviation > 0)))
        if len(lost):
            i = lost[0]
            raise ValueError(
                f"column {i if names is None else repr(names[i])}: expected numbers whose squares "
                f"float64 can hold, got {X[:, i].min():g} to {X[:, i].max():g}; give the column "
                f"in another unit, or its logarithm"
            )
        self.scale = np.where(constant, np.inf, deviation)

    def __call__(self, X):
        """X, an array of shape (rows, columns), shifted and scaled; float64."""
        return (X - self.mean) / self.scale


def fold(network, inputs=None, outputs=None):
    """A copy of a network that was trained on standardised data, for the data as they were.

    Standardising is affine and so is a dense layer: the one goes into the weights of the
    other.

    Parameters
    ----------
    network : Sequential
        Its first and last layers are `Dense`.
    inputs : Standardizer, optional
        What the network's inputs went through.
    outputs : Standardizer, optional
        What its targets went through.

    Returns
    -------
    Sequential
        In float64, since columns as they were may be far from 0 for their deviation.

    Raises
    ------
    TypeError
        If the first layer, with `inputs`, or the last, with `outputs`, is not `Dense`.
    """
    network = network.astype("float64")
    first, last = network.layers[0], network.layers[-1]
    for layer, standardizer in (first, inputs), (last, outputs):
        if standardizer is not None and not isinstance(layer, Dense):
            raise TypeError(f"network: expected a Dense layer to fold into, got {layer!r}")
    if inputs is not None:
        # (x - mean)/scale · W + b  =  x · (W/scale) + (b - mean · (W/scale))
        first.W /= inputs.scale[:, None]
        first.b -= inputs.mean @ first.W
    if outputs is not None:
        scale = np.where(np.isinf(outputs.scale), 0, outputs.scale)
        last.W *= scale
        last.b = last.b * scale + outputs.mean
    return network


def counted(number, noun):
    """A number of things: ``1 row``, ``1,234 rows``."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_decimal_comma(text):
    return "," in text and _is_number(text.replace(",", "."))


class _Column:
    """One column of a CSV file while it is read: its numbers, and what was none."""

    def __init__(self, name):
        self.name = name
        self.values = array("d")
        self.missing = 0
        self.first_missing = self.first_text = self.first_infinite = None  # what and where
        self.decimal_comma = False  # in the first text

    def add(self, cell, line):
        try:
            value = float(cell)
        except ValueError:
            value = float("nan")
        self.values.append(value)
        if math.isfinite(value):
            return
        if cell.strip().lower() in MISSING:
            self.missing += 1
            self.first_missing = self.first_missing or f"line {line}"
        elif not math.isnan(value):
            self.first_infinite = self.first_infinite or f"{cell!r} in line {line}"
        elif not self.first_text:
            self.first_text = f"{cell!r} in line {line}"
            self.decimal_comma = _has_decimal_comma(cell)

    def complaint(self, may_be_text=False):
        """What is wrong with the column; None if nothing is."""
        if self.first_text and not may_be_text:
            return f"column {self.name!r} holds text, first {self.first_text}"
        if self.missing:
            what = "a value, in" if self.missing == 1 else f"{self.missing} values, first in"
            return f"column {self.name!r} lacks {what} {self.first_missing}"
        if self.first_infinite and not self.first_text:
            return f"column {self.name!r} holds an infinite number, {self.first_infinite}"
        return None


def _read_csv(path, target, drop, names):
    import csv

    try:
        # utf-8-sig also reads files that begin with a byte-order mark, as Excel's do.
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            return _parse_csv(reader, target, drop, names)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8, "
            f"which spreadsheets offer as 'CSV UTF-8'"
        ) from None
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no proper CSV: {error}") from None


def _parse_csv(reader, target, drop, names):
    header = [name.strip() for name in next(reader, [])]
    chosen = names is not None
    names = _choose(header, target, drop, names)
    columns = [_Column(name) for name in names]
    target_column = _Column(target)
    places = [(header.index(column.name), column) for column in columns]
    if target is not None:
        places.append((header.index(target), target_column))
    labels = []
    for cells in reader:
        if not cells:  # an empty line
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {reader.line_num} has {counted(len(cells), 'cell')}, but the first line "
                f"names {counted(len(header), 'column')}; put the line right, or text that holds "
                f"a separator between double quotes"
            )
        for place, column in places:
            column.add(cells[place], reader.line_num)
        if target is not None:
            labels.append(cells[header.index(target)].strip())
    if not columns[0].values:
        raise ValueError("has no rows below the first line, which names the columns")
    _check_columns(columns, may_drop=not chosen)
    X = np.column_stack([np.frombuffer(column.values) for column in columns])
    if target is None:
        return Table(X, None, names, None)
    complaint = target_column.complaint(may_be_text=True)
    if complaint:
        raise ValueError(
            f"the target {complaint}; what is to be learned cannot be filled in, so remove such "
            f"rows"
        )
    if not target_column.first_text:
        return Table(X, np.array(target_column.values), names, target)
    if target_column.decimal_comma and all(
        _is_number(label) or _has_decimal_comma(label) for label in labels
    ):
        raise ValueError(f"the target {target_column.complaint()}; write decimals with a point")
    return Table(X, np.array(labels), names, target)


def _choose(header, target, drop, names):
    """The names of X's columns: `names`, or all but the target and those to leave out."""
    if not any(header):
        raise ValueError("is empty, or its first line is; that line must name the columns")
    if all(map(_is_number, header)):
        raise ValueError(
            f"the first line must name the columns, but holds numbers: {_names(header)}; put a "
            f"line of names above it, with a letter in at least one of them"
        )
    there = f"the columns that the first line names are {_names(header)}"
    if names is None:
        if "" in header:
            raise ValueError(
                f"column {header.index('') + 1} has no name in the first line; name it, or remove "
                f"it (pandas writes such a column of row numbers unless told index=False)"
            )
        if target is None:
            raise ValueError(f"target: say which column is to be learned; {there}")
        names = [name for name in header if name != target and name not in drop]
        needed = header
    else:
        names = list(names)
        if len(drop) or not names or target in names:
            raise ValueError("columns: expected names of columns to predict or learn from, without "
                             "the target; and there is no drop beside them")
        missing = [name for name in names if name not in header]
        if missing:
            are_no = "is no column" if len(missing) == 1 else "are no columns"
            raise ValueError(f"columns: there {are_no} {_names(missing)}; {there}")
        needed = [*names, target]  # whatever the others are called
    twice = sorted({name for name in needed if header.count(name) > 1})
    if twice:
        raise ValueError(
            f"the first line names {_names(twice)} more than once; give each column a name of "
            f"its own"
        )
    given = [] if target is None else [("target", target)]
    for option, name in [*given, *(("drop", name) for name in drop)]:
        if name not in header:
            raise ValueError(f"{option}: there is no column {name!r}; {there}")
    if target in drop:
        raise ValueError(f"drop: column {target!r} is the target; drop others only")
    if not names:
        raise ValueError(f"no column is left to learn {target!r} from; {there}")
    return names


def _check_columns(columns, may_drop):
    """Raise ValueError if there is anything but finite numbers in them."""
    bad = [column for column in columns if column.complaint()]
    if not bad:
        return
    remedies = []
    if any(column.decimal_comma for column in bad):
        remedies.append("write decimals with a point")
    if any(column.first_text and not column.decimal_comma for column in bad):
        remedies.append("turn text into numbers (a column of 0 and 1 for each value)")
    if any(column.missing and not column.first_text for column in bad):
        remedies.append("fill in missing values or remove their rows")
    if any(column.first_infinite for column in bad):
        remedies.append("replace infinite numbers")
    complaints = "; ".join(column.complaint() for column in bad[:LISTED])
    more = len(bad) - LISTED
    if more > 0:
        are = "is" if more == 1 else "are"
        complaints += f"; and {counted(more, 'more column')} {are} like that"
    message = f"{complaints}. Expected finite numbers: {', '.join(remedies)}"
    if may_drop:
        import shlex

        names = [column.name for column in bad]
        drop, options = f"drop={names}", " ".join(f"--drop {shlex.quote(name)}" for name in names)
        if more > 0:
            drop, options = "drop=[...]", "--drop COLUMN ..."
        message += f", or leave such columns out with {drop}, on the command line {options}"
    raise ValueError(message)


def _names(names):
    """Names for a message, not too many."""
    text = ", ".join(repr(name) for name in names[:LISTED])
    return text + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _damage():
    """What NumPy and zipfile raise when an .npz file is not what it should be."""
    import zipfile
    import zlib

    return ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error


def _read_npz(path, target):
    with open(path, "rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError
        except _damage():
            raise ValueError(
                "is no .npz file, or a damaged one; write it with numpy.savez(path, X=X, y=y)"
            ) from None
        for name in ("X", target):
            if name not in arrays:
                raise ValueError(
                    f"there is no array {name!r}, but {_names(list(arrays)) or 'none at all'}; "
                    f"write the file with numpy.savez(path, X=X, {target}={target})"
                )
        X, y = _member(arrays, "X"), _member(arrays, target)
    if X.ndim != 2 or X.dtype.kind not in "fiub":
        raise ValueError(
            f"X: expected numbers of shape (rows, columns), got {X.dtype} of shape {X.shape}"
        )
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1 or y.dtype.kind not in "fiubU":
        raise ValueError(
            f"{target}: expected numbers or text of shape (rows,), got {y.dtype} of shape {y.shape}"
        )
    if len(X) != len(y) or X.size == 0:
        raise ValueError(
            f"X and {target}: expected as many rows, at least one of them, and at least one "
            f"column, got shapes {X.shape} and {y.shape}"
        )
    _check_finite("X", X)
    _check_finite(target, y[:, None])
    names = [f"X[:, {i}]" for i in range(X.shape[1])]
    return Table(X, y if y.dtype.kind == "U" else y.astype(np.float64), names, target)


def _member(arrays, name):
    try:
        return arrays[name]
    except _damage() as error:
        if "allow_pickle" in str(error):
            error = f"it holds Python objects; write numbers, as in {name}.astype(float)"
            if name != "X":
                error += f", or {name}.astype(str) for names of classes"
        raise ValueError(f"{name} cannot be read: {error}") from None


def _check_finite(name, array):
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    rows, columns = np.nonzero(~np.isfinite(array))
    where = f" (first in row {rows[0]}, column {columns[0]})" if array.shape[1] > 1 else ""
    raise ValueError(
        f"{name} holds {counted(len(rows), 'NaN or infinite value')}{where}; fill in the "
        f"values or remove the rows"
    )
