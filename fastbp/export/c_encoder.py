"""Rows of a table as C takes them, and their encoding, as of `fastbp.estimators.TableEncoder`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from .c_network import number

if TYPE_CHECKING:
    from ..estimators import TableEncoder
    from ..kernels.types import Array

__all__ = ["EncoderInC", "comment"]


def comment(value: object) -> str:
    """A value as text that neither ends a comment nor begins one.

    Parameters
    ----------
    value : object

    Returns
    -------
    str

    Examples
    --------
    >>> print(comment("a */ b"))
    'a * / b'
    """
    return repr(value).replace("*/", "* /").replace("/*", "/ *")


class EncoderInC:
    """The C code that turns a row of a table into a network's input.

    A row has a double for each column: numbers, NaN where they are missing, and for categories the
    index of their level.

    Parameters
    ----------
    encoder : TableEncoder
        Fitted.
    name : str
        The model's.
    prefix : str
        Of the kernels for doubles.
    constant : callable
        ``constant(name, array)`` writes an array and returns its name.
    dtype : numpy.dtype
        The network's.

    Attributes
    ----------
    lines : list of str
        Statements that set the elements of ``e`` from those of ``x``.
    about : list of str
        A line about each column.
    levels : dict of int to list of str
        The levels of columns of categories, by the index of the column.
    needs : set of str
        Kernels for doubles.

    Raises
    ------
    ValueError
        If a column holds dates.
    """

    def __init__(self, encoder: TableEncoder, name: str, prefix: str,
                 constant: Callable[[str, Array], str], dtype: np.dtype[Any]) -> None:
        from ..estimators.column_encoders import Z_MAX, Z_MIN

        self._prefix, self._constant, self._dtype = prefix, constant, dtype
        self._range = [number(float(each), "float64") for each in (Z_MIN, Z_MAX)]
        state = encoder.get_state()
        self.n_columns, self.n_encoded = state["n_features"], 0
        self.lines: list[str] = []
        self.needs: set[str] = set()
        self.levels: dict[int, list[str]] = {}
        names = list(state["kinds"])
        self.about = [f"{i}: {comment(each)}, not used" for i, each in enumerate(names)]
        columns = [(i, kind, each) for i, kind, each in state["columns"]]
        for i, kind, _ in columns:
            if kind == "date":
                raise ValueError(f"column {names[i]!r}: expected numbers or categories, got dates, "
                                 f"which cannot be exported to C; turn them into numbers before "
                                 f"fit, or leave the column out")
        # The result has a block of numbers, one of zeros and ones, and one of codes.
        for block in ("numeric", "binary", "codes"):
            for i, kind, each in columns:
                for part in [each] if kind == "category" else each["parts"]:
                    self._write(block, i, kind, part, self.n_encoded)
                    self.n_encoded += len(part.get(block, ()))
        for i, kind, each in columns:
            if kind == "category":
                self._describe_levels(i, names[i], each)
            else:
                self.about[i] = f"{i}: {comment(names[i])}, a number, NaN where it is missing"

    def _write(self, block: str, i: int, kind: str, part: dict[str, Any], at: int) -> None:
        """Write the columns of one block of one part."""
        if not part.get(block):
            return
        if kind == "category":
            first, missing = self._first(part), part["missing"]
            n = len(self._levels(part))
            find = (f"const int c{i} = x[{i}] != x[{i}] ? {missing} : x[{i}] >= 0 && x[{i}] < {n} "
                    f"? {first} + (int)x[{i}] : -1;")
            if block == "codes":
                self.lines += [find, f"e[{at}] = (REAL)(c{i} > 0 ? c{i} : 0);"]
            else:
                self.lines += [find, f"for (int j = 0; j < {len(part[block])}; j++) "
                                     f"e[{at} + j] = j == c{i};"]
        elif block == "numeric":
            quantiles = np.array(part["quantiles"], np.float64)
            references = np.linspace(0, 1, len(quantiles))
            arrays = ", ".join((self._constant(f"quantiles_{i}", quantiles),
                                self._constant("references", references)))
            self.needs |= {"interpolate", "normal_quantile"}
            self.lines.append(
                f"e[{at}] = (REAL){self._prefix}normal_quantile({self._prefix}interpolate("
                f"{len(quantiles)}, {arrays}, x[{i}]), {', '.join(self._range)});")
        else:
            if part["threshold"] is not None:
                self.lines.append(f"e[{at}] = x[{i}] > {number(part['threshold'], 'float64')};")
            if part["indicator"]:
                self.lines.append(f"e[{at + len(part[block]) - 1}] = x[{i}] != x[{i}];")

    @staticmethod
    def _first(part: dict[str, Any]) -> int:
        """The code of the first level: 0 stands for other values where there are codes."""
        return 1 if part["codes"] else 0

    def _levels(self, part: dict[str, Any]) -> list[str]:
        """The levels as text, in the order of their codes."""
        texts: dict[int, str] = {}
        for value, code in part["table"]:
            if isinstance(value, str):
                texts[code] = value  # the last is the name
        return [texts[code] for code in sorted(texts)]

    def _describe_levels(self, i: int, name: str, part: dict[str, Any]) -> None:
        self.levels[i] = levels = self._levels(part)
        listed = ", ".join(f"{j} {comment(level)}" for j, level in enumerate(levels[:8]))
        more = f" and {len(levels) - 8} more" if len(levels) > 8 else ""
        self.about[i] = (f"{i}: {comment(name)}, a category: {listed}{more}, NaN where it is "
                         f"missing, -1 any other")

    def finder(self, name: str) -> str:
        """A function that finds a level's index by its text."""
        cases = []
        for i, levels in self.levels.items():
            texts = ", ".join(_quoted(level) for level in levels)
            cases += [f"    static const char *const levels_{i}[] = {{{texts}}};"]
        for i, levels in self.levels.items():
            cases += [f"    for (int j = 0; column == {i} && j < {len(levels)}; j++)",
                      f"        if (strcmp(text, levels_{i}[j]) == 0) return j;"]
        return "\n".join([f"double {name}_category(int column, const char *text)", "{", *cases,
                          "    return -1;", "}", ""])


def _quoted(text: str) -> str:
    """A string literal of C, in UTF-8."""
    characters = [chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
                  for byte in text.encode("utf-8", "surrogatepass")]
    return '"' + "".join(characters) + '"'
