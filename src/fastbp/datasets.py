"""Tables to learn from: the digits, a user's own file, and what a table needs before training.

>>> from fastbp import datasets
>>> table = datasets.read_table("houses.csv", "price")          # doctest: +SKIP
>>> train, test = datasets.hold_out(table.y, 0.2, seed=0)       # doctest: +SKIP
>>> standardize = datasets.Standardizer(table.X[train])         # doctest: +SKIP
"""

import csv
import math
import os
import shlex
import zipfile
import zlib
from array import array
from dataclasses import dataclass

import numpy as np

from .kernels import checks
from .layers import Dense

__all__ = ["Standardizer", "Table", "digits", "fold", "hold_out", "read_table"]

# Cells of a CSV file that stand for "no value", in lower case.
MISSING = {"", "na", "n/a", "nan", "null"}

# What NumPy and zipfile raise when an .npz file is not what it should be.
DAMAGE = (ValueError, OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)

# How many columns or classes a message lists before it says how many more there are.
LISTED = 20


@dataclass(frozen=True, eq=False)
class Table:
    """Numbers to learn from, and the target to be learned.

    Attributes
    ----------
    X : ndarray of shape (rows, columns)
        Finite numbers.
    y : ndarray of shape (rows,)
        Finite numbers, or text (dtype kind ``"U"``): names of classes.
    columns : list of str
        The names of X's columns.
    target : str
        The name of y.
    """

    X: np.ndarray
    y: np.ndarray
    columns: list
    target: str


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


def read_table(path, target=None, drop=()):
    """Read a CSV file or a NumPy ``.npz`` file.

    A CSV file is UTF-8 text, separated by commas, semicolons or tabs, whose first line
    names the columns.  The target may be text; all other columns must be numbers.  An
    ``.npz`` file holds the arrays ``X`` and ``y``.

    Parameters
    ----------
    path : str or path-like
        Read as ``.npz`` if its name ends so, as CSV otherwise.
    target : str, optional
        The column to learn.  For ``.npz``: the array to learn, by default ``y``.
    drop : sequence of str, default ()
        Columns to leave out; not for ``.npz``.

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
            return _read_npz(path, "y" if target is None else target, drop)
        return _read_csv(path, target, [drop] if isinstance(drop, str) else list(drop))
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
    rng = np.random.default_rng(checks.whole("seed", seed, 0))
    order = rng.permutation(len(y))
    if stratify:
        order = order[np.argsort(y[order], kind="stable")]  # classes side by side
    # Taken evenly along that order, the share is that of each class too.
    taken = np.floor(np.arange(len(y) + 1) * share)
    is_test = taken[1:] > taken[:-1]
    if not is_test.any():
        raise ValueError(
            f"test_share: expected one that keeps a row out, got {share} of {len(y)} rows"
        )
    return np.sort(order[~is_test]), np.sort(order[is_test])


class Standardizer:
    """Shifts and scales each column, so that those it was made from have mean 0, deviation 1.

    Parameters
    ----------
    X : array_like of shape (rows, columns)
        The training rows only: what is held out must not be known yet.

    Attributes
    ----------
    mean, scale : ndarray of shape (columns,), float64
        What is taken off, and then divided by.  A constant column says nothing, so its
        scale is infinite: it comes out 0, in whatever rows.
    """

    def __init__(self, X):
        X = checks.data("X", X)
        self.mean = X.mean(axis=0, dtype=np.float64)
        # Not by a deviation of 0: that of equal numbers may come out as 1e-17.
        constant = X.min(axis=0) == X.max(axis=0)
        self.scale = np.where(constant, np.inf, X.std(axis=0, dtype=np.float64))

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


class _Column:
    """One column of a CSV file while it is read: its numbers, and what was none."""

    def __init__(self, name):
        self.name = name
        self.values = array("d")
        self.missing = 0
        self.first_missing = self.first_text = self.first_infinite = None  # what and where

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
        elif math.isnan(value):
            self.first_text = self.first_text or f"{cell!r} in line {line}"
        else:
            self.first_infinite = self.first_infinite or f"{cell!r} in line {line}"

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


def _read_csv(path, target, drop):
    try:
        # utf-8-sig also reads files that begin with a byte-order mark, as Excel's do.
        with open(path, encoding="utf-8-sig", newline="") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator, strict=True)
            return _parse_csv(reader, target, drop)
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}); save it as UTF-8, "
            f"which spreadsheets offer as 'CSV UTF-8'"
        ) from None
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num} is no proper CSV: {error}") from None


def _parse_csv(reader, target, drop):
    header = [name.strip() for name in next(reader, [])]
    _check_header(header, target, drop)
    columns = {name: _Column(name) for name in header if name not in drop}
    labels = []
    for cells in reader:
        if not cells:  # an empty line
            continue
        if len(cells) != len(header):
            raise ValueError(
                f"line {reader.line_num} has {len(cells)} cells, but the first line names "
                f"{len(header)} columns; put the line right, or text that holds a separator "
                f"between double quotes"
            )
        for name, cell in zip(header, cells, strict=True):
            if name in columns:
                columns[name].add(cell, reader.line_num)
            if name == target:
                labels.append(cell.strip())
    if not labels:
        raise ValueError("has no rows below the first line, which names the columns")
    target_column = columns.pop(target)
    _check_columns(columns.values())
    complaint = target_column.complaint(may_be_text=True)
    if complaint:
        raise ValueError(
            f"the target {complaint}; what is to be learned cannot be filled in, so remove such "
            f"rows"
        )
    X = np.column_stack([np.frombuffer(column.values) for column in columns.values()])
    y = np.array(labels) if target_column.first_text else np.array(target_column.values)
    return Table(X, y, list(columns), target)


def _check_header(header, target, drop):
    if not any(header):
        raise ValueError("is empty, or its first line is; that line must name the columns")
    if "" in header:
        raise ValueError(
            f"column {header.index('') + 1} has no name in the first line; name it, or remove it "
            f"(pandas writes such a column of row numbers unless told index=False)"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise ValueError(
            f"the first line names {_names(twice)} more than once; give each column a name of "
            f"its own"
        )
    there = f"the columns that the first line names are {_names(header)}"
    if target is None:
        raise ValueError(f"target: say which column is to be learned; {there}")
    for option, name in [("target", target), *(("drop", name) for name in drop)]:
        if name not in header:
            raise ValueError(f"{option}: there is no column {name!r}; {there}")
    if target in drop:
        raise ValueError(f"drop: column {target!r} is the target; drop others only")
    if len(set(drop)) == len(header) - 1:
        raise ValueError(f"no column is left to learn {target!r} from; {there}")


def _check_columns(columns):
    """Raise ValueError if there is anything but finite numbers in them."""
    bad = [column for column in columns if column.complaint()]
    if not bad:
        return
    remedies = []
    if any(column.first_text for column in bad):
        remedies.append("turn text into numbers (a column of 0 and 1 for each value)")
    if any(column.missing and not column.first_text for column in bad):
        remedies.append("fill in missing values or remove their rows")
    if any(column.first_infinite for column in bad):
        remedies.append("replace infinite numbers")
    complaints = "; ".join(column.complaint() for column in bad[:LISTED])
    drop, options = "drop=[...]", "--drop COLUMN ..."
    if len(bad) > LISTED:
        complaints += f"; and {len(bad) - LISTED} more columns are like that"
    else:
        names = [column.name for column in bad]
        drop, options = f"drop={names}", " ".join(f"--drop {shlex.quote(name)}" for name in names)
    raise ValueError(
        f"{complaints}. Expected finite numbers: {', '.join(remedies)}, or leave such columns out "
        f"with {drop}, on the command line {options}"
    )


def _names(names):
    """Names for a message, not too many."""
    text = ", ".join(repr(name) for name in names[:LISTED])
    return text + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def _read_npz(path, target, drop):
    if len(drop):
        raise ValueError("drop: the columns of an .npz file have no names; leave them out of X")
    with open(path, "rb") as file:
        try:
            arrays = np.load(file, allow_pickle=False)
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError
        except DAMAGE:
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
    except DAMAGE as error:
        if "allow_pickle" in str(error):
            error = f"it holds Python objects; write numbers, as in {name}.astype(float)"
        raise ValueError(f"{name} cannot be read: {error}") from None


def _check_finite(name, array):
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    rows, columns = np.nonzero(~np.isfinite(array))
    where = f" (first in row {rows[0]}, column {columns[0]})" if array.shape[1] > 1 else ""
    raise ValueError(
        f"{name} holds {len(rows)} NaN or infinite values{where}; fill in the values or remove "
        f"the rows"
    )
