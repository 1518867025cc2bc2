"""How messages count things and list names, and whose line a warning shows."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from types import FrameType

__all__ = ["LISTED", "counted", "listed", "warn_user"]

# How many names a message lists before it says how many more there are.
LISTED = 20


def counted(number: int, noun: str) -> str:
    """A number of things, with the noun in the plural unless there is one.

    Parameters
    ----------
    number : int
    noun : str
        In the singular; its plural is formed with an s.

    Returns
    -------
    str

    Examples
    --------
    >>> counted(1, "row"), counted(1234, "row")
    ('1 row', '1,234 rows')
    """
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: Sequence[str]) -> str:
    """Names in quotes, separated by commas; at most `LISTED` of them.

    Parameters
    ----------
    names : sequence of str

    Returns
    -------
    str

    Examples
    --------
    >>> print(listed(["age", "owner name"]))
    'age', 'owner name'
    >>> print(listed([f"x{i}" for i in range(300)])[-18:])
    'x19' and 280 more
    """
    text = ", ".join(repr(name) for name in names[:LISTED])
    return text + (f" and {len(names) - LISTED} more" if len(names) > LISTED else "")


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn with the line of the user's call, however many functions of ours are in between.

    Parameters
    ----------
    message : str
    category : type of Warning, default UserWarning
    """
    level = 1
    frame: FrameType | None = sys._getframe()
    while frame is not None and (
            frame.f_globals.get("__name__", "").partition(".")[0] in ("fastbp", "sklearn")):
        frame = frame.f_back
        level += 1
    warnings.warn(message, category, stacklevel=level)
