"""Columns of the input that hold category codes, and checks of the codes."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from ..kernels.types import Array
from .ir import Program, Value

__all__ = ["Codes", "check_codes", "code_columns"]

# A column, how many codes it may hold, and where the embedding is in the network.
Codes: TypeAlias = list[tuple[int, int, str]]


def code_columns(program: Program) -> Codes:
    """The columns of the input that an embedding reads directly.

    Parameters
    ----------
    program : Program

    Returns
    -------
    list of tuple
        A column, how many codes it may hold, and where the embedding is in the network.
    """
    columns: dict[Value, Sequence[int]] = {program.x: range(program.x.columns)}
    found: Codes = []
    for each in program.forward:
        source = columns.get(each.reads[0])
        if source is None:
            continue
        if each.op == "take_columns":
            columns[each.writes[0]] = [source[j] for j in each.attributes["columns"]]
        elif each.op == "embedding":
            table = each.reads[1]
            assert table.rows is not None
            found.append((source[0], table.rows, each.where))
    return found


def check_codes(name: str, X: Array, codes: Codes, first_row: int = 0,
                codes_alone: bool = False) -> None:
    """Raise ValueError unless all codes in some rows of X are valid.

    Parameters
    ----------
    name : str
    X : ndarray of shape (rows, columns)
    codes : list of tuple
        As `code_columns` returns them.
    first_row : int, default 0
        The number of X's first row, for the message.
    codes_alone : bool, default False
        Whether the columns of X are those of `codes`, in that order, and no others.
    """
    for place, (column, n_categories, where) in enumerate(codes):
        values = X[:, place if codes_alone else column]
        # Written so that NaN is wrong too.
        right = (values >= 0) & (values < n_categories) & (values == np.floor(values))
        if not right.all():
            i = int(np.argmin(right))
            raise ValueError(
                f"{name}: expected whole numbers from 0 to {n_categories - 1} in column {column}, "
                f"the codes of layer {where} (Embedding), got {values[i]} in row {first_row + i}"
            )
