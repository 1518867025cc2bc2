"""A description of data and settings, saved in checkpoints and compared when training resumes."""

from __future__ import annotations

import hashlib
import reprlib
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import checks
from ..kernels.types import Array
from ..layers import Container

if TYPE_CHECKING:
    from .data import Dataset

__all__ = ["check_same", "checksum", "describe", "describe_piece", "short_repr"]

CONTENTS = "contents of"

# What changes in an optimizer during training, and is in the checkpoint's state.
COUNTERS = {"steps", "learning_rate", "_first_rate"}

# In words of 8 bytes; a block, its multipliers and its products fit into L2 caches.  Another size
# would change all checksums, and existing checkpoints could not be resumed.
BLOCK = 1 << 14

# A file may hold strings and lists of any length, and lists nested to any depth.
_abridged = reprlib.Repr()
_abridged.maxstring = _abridged.maxother = 300
_abridged.maxlist = _abridged.maxdict = 100


def short_repr(value: object) -> str:
    """`repr` for messages: long strings and containers are abridged.

    Parameters
    ----------
    value : object

    Returns
    -------
    str

    Examples
    --------
    >>> from fastbp.training.described import short_repr
    >>> short_repr([[1], "two"])
    "[[1], 'two']"
    >>> len(short_repr("x" * 1000))
    300
    """
    return _abridged.repr(value)


def describe(data: Dataset, validation: Dataset | None, **settings: object) -> dict[str, Any]:
    """Describe a fit by its data and settings.

    Parameters
    ----------
    data : Dataset
        The rows to train on.
    validation : Dataset or None
        The rows to validate on.
    **settings
        Numbers, strings, layers, losses and optimizers, or lists of them.

    Returns
    -------
    dict
        Of what JSON can hold: `describe_piece` of each setting, and shapes and checksums of the
        data.
    """
    description: dict[str, Any] = {name: describe_piece(value) for name, value in settings.items()}
    description["shape of X"] = [data.n_rows, *data.X.shape[1:]]
    description["rows of validation_data"] = None if validation is None else len(validation)
    for prefix, each in (("", data), ("validation_data ", validation)):
        if each is not None:
            for name in each.described:
                description[f"{CONTENTS} {prefix}{name}"] = _contents(getattr(each, name))
    return description


def _contents(array: Any) -> str | None:
    """The checksum of an array, or the checksums of a sparse array's data, indices and indptr."""
    if array is None:
        return None
    if not checks.is_sparse(array):
        return checksum(np.asarray(array))
    places = (checksum(part, np.dtype(np.int64)) for part in (array.indices, array.indptr))
    return " ".join([checksum(array.data), *places])


def checksum(array: Array, dtype: np.dtype[Any] | None = None) -> str:
    """A checksum of an array's shape, dtype and elements, whatever their layout in memory.

    It reads a few GB per second, more than twice as fast as CRC-32 or SHA-256.  The array is
    split into blocks of 64-bit words.  Each word of a block is multiplied by an odd random number
    of its own, and the products are summed modulo 2⁶⁴, so that changing one word always changes
    the sum.  The result is the SHA-256 of the dtype, the shape and all sums.

    Parameters
    ----------
    array : ndarray of shape (rows, ...)
        Of real numbers.
    dtype : numpy.dtype, optional
        Converts the elements first.

    Returns
    -------
    str
        64 hexadecimal digits.

    References
    ----------
    The sums are a multilinear hash: D. Lemire, O. Kaser, "Strongly universal string hashing is
    fast", The Computer Journal 57(11), 2014.

    Examples
    --------
    >>> from fastbp.training.described import checksum
    >>> X = np.arange(6.0).reshape(2, 3)
    >>> checksum(X) == checksum(np.asfortranarray(X))
    True
    >>> checksum(X) == checksum(X.reshape(3, 2))
    False
    """
    dtype = (dtype or array.dtype).newbyteorder("<")
    if dtype.kind == "f" and dtype.itemsize > 8:  # a longdouble has padding bytes of any value
        dtype = np.dtype("<f8")
    digest = hashlib.sha256(f"{dtype.str} {array.shape}".encode())
    multipliers = np.random.PCG64(0).random_raw(BLOCK) | np.uint64(1)
    scratch = np.empty(BLOCK, np.uint64)
    rows = max(1, 8 * BLOCK * len(array) // max(1, array.size * dtype.itemsize))
    for start in range(0, len(array), rows):
        part = np.ascontiguousarray(array[start : start + rows], dtype).reshape(-1)
        content = part.view(np.uint8)
        whole = content.size - content.size % 8
        words = content[:whole].view("<u8")
        for first in range(0, len(words), BLOCK):
            block = words[first : first + BLOCK]
            mixed = scratch[: len(block)]
            # Mix the top bits into lower ones.  Otherwise flipping a top bit would only flip the
            # top bit of the sum, and two sign changes would cancel out.
            np.right_shift(block, 29, out=mixed)
            np.bitwise_xor(block, mixed, out=mixed)
            np.multiply(mixed, multipliers[: len(block)], out=mixed)
            digest.update(int(np.add.reduce(mixed)).to_bytes(8, "little"))
        digest.update(content[whole:].data)
    return digest.hexdigest()


@reprlib.recursive_repr()  # an object may contain itself
def describe_piece(value: object) -> Any:
    """Describe a setting; an object by its class and its own settings.

    Parameters
    ----------
    value : object
        A number, string, layer, loss or optimizer, or a list of them.  A function is described
        by its class alone, since its code cannot be compared.

    Returns
    -------
    None, bool, int, float, str or list

    Examples
    --------
    >>> import fastbp as fb
    >>> from fastbp.training.described import describe_piece
    >>> describe_piece([0.5, fb.Dropout(0.25), abs])
    [0.5, "Dropout {'rate': 0.25}", 'builtin_function_or_method {}']
    """
    if isinstance(value, list | tuple):
        return [describe_piece(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Container):
        return [type(value).__name__, describe_piece(list(value.config().items()))]
    config = getattr(value, "config", None)
    if callable(config):  # a layer: by what would be saved
        try:
            settings = config()
        except AttributeError:
            settings = {}
    else:
        settings = {name: describe_piece(setting) if isinstance(setting, checks.Validated)
                    else setting
                    for name, setting in sorted(getattr(value, "__dict__", {}).items())}
    settings = {name: setting for name, setting in settings.items()
                if _is_plain(setting) and name not in COUNTERS}
    return f"{type(value).__name__} {settings}"


def _is_plain(setting: object) -> bool:
    """Whether a setting's `repr` describes it: a number, a string or numbers, such as quantiles."""
    if isinstance(setting, tuple):
        return bool(setting) and all(isinstance(each, float) for each in setting)
    return isinstance(setting, bool | int | float | str)


def check_same(saved: dict[str, Any], now: dict[str, Any]) -> None:
    """Raise unless a checkpoint is of the same training.

    Parameters
    ----------
    saved : dict
        The checkpoint's description; one of an older version may have fewer entries.
    now : dict
        What `describe` returns for the fit that is to resume.

    Raises
    ------
    ValueError
        If an entry differs.

    Examples
    --------
    >>> from fastbp.training.described import check_same
    >>> check_same({"l2": 0.1}, {"l2": 0.2})
    Traceback (most recent call last):
    ValueError: resume: expected the training that made the checkpoint, with l2 = 0.1, got 0.2
    """
    for name, value in now.items():
        if name not in saved or saved[name] == value:
            continue
        if name.startswith(CONTENTS):
            raise ValueError(f"resume: expected the training that made the checkpoint, but the "
                             f"{name} are not the same; pass the same data, or another folder")
        raise ValueError(f"resume: expected the training that made the checkpoint, with "
                         f"{name} = {short_repr(saved[name])}, got {value!r}")
