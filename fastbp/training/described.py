"""What a training consists of, described so that checkpoints can be compared with it.
"""

import hashlib
import reprlib

import numpy as np

from ..kernels import checks
from ..layers import Container

__all__ = ["checksum", "compare", "describe", "describe_piece", "shown"]

# A file may hold texts and lists of any length, lists of any depth.
shown = reprlib.Repr()
shown.maxstring = shown.maxother = 300
shown.maxlist = shown.maxdict = 100

CONTENTS = "contents of"

# What goes on changing in an optimizer; the checkpoint has it.
COUNTERS = {"steps", "learning_rate", "_first_rate"}

# Words of 8 bytes: a block, its multipliers and its products fit in L2 caches.  With another
# number all checksums would be others, and no checkpoint that is there could be gone on from.
BLOCK = 1 << 14


def describe(data, validation, **settings):
    """What a training is made of, for comparison: as JSON has it.

    Parameters
    ----------
    data, validation : Dataset
        `validation` may be None.
    **settings
        Numbers, texts, layers, losses and optimizers, or lists of them.
    """
    described = {name: describe_piece(value) for name, value in settings.items()}
    described["shape of X"] = list(data.X.shape)
    described["rows of validation_data"] = None if validation is None else len(validation)
    for prefix, each in (("", data), ("validation_data ", validation)):
        if each is not None:
            for name in ("X", "y", "sample_weight"):
                described[f"{CONTENTS} {prefix}{name}"] = _contents(getattr(each, name))
    return described


def _contents(array):
    """A checksum of an array's shape, dtype and numbers, or of a sparse one's parts."""
    if array is None:
        return None
    if not checks.is_sparse(array):
        return checksum(np.asarray(array))
    places = (checksum(part, np.dtype(np.int64)) for part in (array.indices, array.indptr))
    return " ".join([checksum(array.data), *places])


def checksum(array, dtype=None):
    """A checksum of an array's shape, dtype and numbers, whatever their order in memory.

    Some GB a second, more than twice what CRC-32 or SHA-256 do.  Each word of a block is
    multiplied by an odd number of its own; when a single word is another, so is the sum of the
    products modulo 2⁶⁴.  The sums are hashed.

    Parameters
    ----------
    array : ndarray of numbers
    dtype : numpy.dtype, optional
        What the numbers are to be taken for, in place of the array's own.

    Returns
    -------
    str
    """
    dtype = (dtype or array.dtype).newbyteorder("<")
    if dtype.kind == "f" and dtype.itemsize > 8:  # has bytes that may be anything
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
            # A number's sign must get below the top bit, where two of them would cancel out.
            np.right_shift(block, 29, out=mixed)
            np.bitwise_xor(block, mixed, out=mixed)
            np.multiply(mixed, multipliers[: len(block)], out=mixed)
            digest.update(int(np.add.reduce(mixed)).to_bytes(8, "little"))
        digest.update(content[whole:])
    return digest.hexdigest()


@reprlib.recursive_repr()  # one may hold itself
def describe_piece(value):
    """An object by its class and settings; functions by nothing, since they have no text."""
    if isinstance(value, list | tuple):
        return [describe_piece(each) for each in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Container):
        return [type(value).__name__, describe_piece(list(value.config().items()))]
    if callable(getattr(value, "config", None)):  # a layer, by what saving would write
        try:
            settings = value.config()
        except AttributeError:
            settings = {}
    else:
        settings = {name: describe_piece(setting) if isinstance(setting, checks.Validated)
                    else setting
                    for name, setting in sorted(getattr(value, "__dict__", {}).items())}
    settings = {name: setting for name, setting in settings.items()
                if isinstance(setting, bool | int | float | str) and name not in COUNTERS}
    return f"{type(value).__name__} {settings}"


def compare(saved, now):
    """Raise unless the checkpoint is one of the same training; its length may differ."""
    for name, value in now.items():
        if name not in saved or saved[name] == value:  # an older version described less
            continue
        if name.startswith(CONTENTS):
            raise ValueError(f"resume: expected the same training as the checkpoint's, but the "
                             f"{name} are not the same; pass what it had, or another folder")
        raise ValueError(f"resume: expected the same training as the checkpoint's, which has "
                         f"{name} = {shown.repr(saved[name])}, got {value!r}")
