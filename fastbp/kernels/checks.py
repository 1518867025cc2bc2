"""Checks of arguments and settings.

A check of an array returns it in the form that kernels need (C-contiguous, float32 or float64) or
raises an error that names the argument, what was expected and what was given.
"""

import functools
import math
import operator
import sys
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from .types import Array, Floats

# Given the name of a setting and a value, returns the value to keep or raises an error.
Validator: TypeAlias = Callable[[str, Any], Any]

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
PRECISIONS = "highest", "high", "medium"  # of products, in the order of simd/dispatch.h


def floats(name: str, value: object, ndim: int | None = None,
           dtype: np.dtype[Any] | None = None) -> Floats:
    """`value` as a C-contiguous float32 or float64 array, copied only if it is not one.

    Parameters
    ----------
    name : str
        The argument's name, for the message.
    value : array_like
    ndim : int, optional
        Required number of dimensions.
    dtype : numpy.dtype, optional
        Required dtype: that of the call's first array.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or is not `dtype`.
    ValueError
        If the number of dimensions is wrong.
    """
    array = _as_array(name, value)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.dtype not in FLOATS:
        raise TypeError(
            f"{name}: expected a float32 or float64 array, got dtype {array.dtype}"
            f"{_remedy(name, array.dtype)}"
        )
    if dtype is not None and array.dtype != dtype:
        raise TypeError(
            f"{name}: expected dtype {dtype} like the arrays before it, got {array.dtype}; "
            f"convert one of them, as in {name}.astype(np.{dtype})"
        )
    if ndim is not None and array.ndim != ndim:
        raise ValueError(
            f"{name}: expected {ndim} dimension{'s' * (ndim != 1)}, "
            f"got {array.ndim} (shape {array.shape}){_reshape_hint(name, array, ndim)}"
        )
    if not (array.flags.c_contiguous and array.flags.aligned):
        array = np.array(array, order="C")
    return array


def real_numbers(name: str, value: object) -> Array:
    """`value` as an array of real numbers of any dtype: floats, integers or booleans.

    Raises
    ------
    TypeError
        If it holds anything else: text, objects, complex numbers, dates.
    ValueError
        If it is not an array, such as rows of different lengths, or some of it is masked.
    """
    array = _as_array(name, value)
    if value is None:
        raise TypeError(f"{name}: expected an array of real numbers, got None")
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected an array of real numbers, got dtype {array.dtype}"
                        f"{_remedy(name, array.dtype)}")
    return array


def _as_array(name: str, value: object) -> Array:
    """`value` as a NumPy array; an error where that would drop a mask or sparsity."""
    if type(value) is np.ndarray:
        return value
    if is_sparse(value):
        raise TypeError(f"{name}: expected a dense array, got a sparse one; pass "
                        f"{name}.toarray()")
    # Without the module there are no such arrays, and importing it takes a while.
    if ("numpy.ma" in sys.modules and isinstance(value, np.ma.MaskedArray)
            and np.ma.is_masked(value)):
        raise ValueError(f"{name}: expected no masked values, got {np.count_nonzero(value.mask)}; "
                         f"remove their rows, or fill them in, as in {name}.filled(0)")
    try:
        array = np.asarray(value)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"{name}: expected an array of numbers, but {error}") from None
    return _from_extension_types(value) if array.dtype == object else array


def _from_extension_types(value: Any) -> Array:
    """A pandas object as an array of numbers where its columns are.

    NumPy converts nullable and Arrow-backed columns to Python objects.  Missing values become NaN.
    """
    dtypes = getattr(value, "dtypes", getattr(value, "dtype", None))
    dtypes = [dtypes] if hasattr(dtypes, "kind") else list(() if dtypes is None else dtypes)
    if not dtypes or not all(getattr(dtype, "kind", "O") in "fiub" for dtype in dtypes):
        return np.asarray(value)
    dtype = np.result_type(*(getattr(each, "numpy_dtype", each) for each in dtypes))
    try:
        return np.asarray(value.to_numpy(dtype=dtype))
    except (TypeError, ValueError):  # integers cannot represent missing values
        return np.asarray(value.to_numpy(dtype=np.float64, na_value=np.nan))


def is_sparse(value: object) -> bool:
    """Whether `value` is a SciPy sparse matrix or array; SciPy need not be installed."""
    return hasattr(value, "tocsr")


def sparse_rows(name: str, X: Any) -> Any:
    """A sparse array in CSR format, checked: real numbers, valid sorted indices, no duplicates.

    Raises
    ------
    TypeError
        If it holds anything but real numbers.
    ValueError
        If an index is out of range or the arrays do not match each other.
    """
    X = X.tocsr()
    real_numbers(f"{name}.data", X.data)
    try:
        X.check_format(full_check=True)
    except ValueError as error:
        raise ValueError(f"{name}: expected a valid sparse array, but {error}") from None
    if not X.has_canonical_format:
        X = X.tocsc().tocsr()  # sorts the columns, keeping the order of duplicates
        X.sum_duplicates()
    return X


def memory(name: str, X: Any) -> dict[str, Array]:
    """The arrays that X consists of, three where it is sparse, by their names in messages."""
    if is_sparse(X):
        return {f"{name}.{part}": getattr(X, part) for part in ("data", "indices", "indptr")}
    return {name: X}


def dense(X: Any, dtype: DTypeLike) -> Array:
    """X, which may be sparse, as a C-contiguous array of this dtype."""
    return np.ascontiguousarray(X.toarray() if is_sparse(X) else X, dtype)


def data(name: str, value: object) -> Array:
    """`value` as an array of finite real numbers that is not empty.

    Raises
    ------
    TypeError
        As `real_numbers`.
    ValueError
        If it is empty, or holds NaN or infinity.
    """
    array = real_numbers(name, value)
    if array.size == 0:
        raise ValueError(f"{name}: expected at least one row and one column, "
                         f"got shape {array.shape}")
    finite(name, array)
    return array


def finite(name: str, array: Array, first_row: int = 0) -> None:
    """Raise ValueError if `array` holds NaN or infinity, naming the first place that does."""
    if array.dtype.kind != "f" or np.isfinite(array).all():
        return
    place = np.argwhere(~np.isfinite(array))[0]
    where = f"row {first_row + place[0]}" if array.ndim else "it"
    if array.ndim > 1:
        where += f", column {place[1]}"
    raise ValueError(f"{name}: expected finite numbers, got {array[tuple(place)]} in {where}; "
                     f"remove such rows or fill in the values")


def _remedy(name: str, dtype: np.dtype[Any]) -> str:
    if dtype.kind in "iub" or dtype == np.float16 or dtype == np.longdouble:
        return f"; convert it, as in {name}.astype(np.float32)"
    if dtype.kind == "c":
        return "; complex numbers are not supported, take .real or .imag"
    if dtype.kind in "OUS":
        return "; text and mixed objects must be turned into numbers first"
    if dtype.kind in "mM":
        return "; dates and times must be turned into numbers first, such as days since a first one"
    return ""


def _reshape_hint(name: str, array: Array, ndim: int) -> str:
    if ndim == 2 and array.ndim == 1:
        return f"; for one row use {name}[None, :], for one column {name}[:, None]"
    return ""


def shape(name: str, array: Array, expected: Sequence[int | None], why: str,
          hint: str = "") -> None:
    """Raise ValueError unless `array` has the expected shape; None stands for any size."""
    if len(expected) != array.ndim or any(
        want not in (None, got) for want, got in zip(expected, array.shape, strict=True)
    ):
        wanted = tuple("any" if size is None else size for size in expected)
        text = "(" + ", ".join(str(size) for size in wanted) + "," * (len(wanted) == 1) + ")"
        raise ValueError(f"{name}: expected shape {text} {why}, got {array.shape}{hint}")


def matrix(name: str, value: object, axis: int) -> Floats:
    """`value` as by `floats`, of two dimensions, with at least one row (axis 0) or column (1)."""
    array = floats(name, value, 2)
    if array.shape[axis] == 0:
        raise ValueError(f"{name}: expected at least one {('row', 'column')[axis]}, "
                         f"got shape {array.shape}")
    return array


def like(name: str, value: object, first: str, other: Floats) -> Floats:
    """`value` as by `floats`, of the shape and dtype of the call's array `other`, named `first`."""
    array = floats(name, value, 2, other.dtype)
    shape(name, array, other.shape, f"like {first}")
    return array


def vector(name: str, value: object, size: int, dtype: np.dtype[Any], why: str) -> Floats:
    """`value` as by `floats`, of shape (size,); `why` ends the message where it is not."""
    array = floats(name, value, 1, dtype)
    shape(name, array, (size,), why)
    return array


def output(out: Floats | None, expected: Sequence[int], dtype: np.dtype[Any], name: str = "out",
           in_place: Sequence[Array] = (), **inputs: Array | None) -> Floats:
    """The array a kernel writes to: a new one, or `out` if it fits.

    Parameters
    ----------
    out : numpy.ndarray or None
    expected : tuple of int
        The shape of the result.
    dtype : numpy.dtype
    name : str, default "out"
    in_place : sequence of numpy.ndarray
        The inputs that `out` may be the same array as.
    **inputs : numpy.ndarray or None
        The inputs that `out` must not overlap, by their names in messages.

    Raises
    ------
    TypeError
        If `out` is not an array, or has another dtype.
    ValueError
        If its shape or layout does not fit, it is read-only, or it overlaps an input.
    """
    if out is None:
        return np.empty(expected, dtype)
    writable(name, out, dtype)
    if out.shape != tuple(expected):
        raise ValueError(f"{name}: expected shape {tuple(expected)}, got {out.shape}")
    for other, array in inputs.items():
        if array is not None and np.may_share_memory(out, array):
            raise ValueError(f"{name} overlaps {other}, which must be read after {name} is "
                             f"written; give {name} memory of its own")
    for array in in_place:
        if np.may_share_memory(out, array) and not same(out, array):
            raise ValueError(f"{name} overlaps an input without being the same array; "
                             f"pass the input itself or memory of its own")
    return out


def same(a: Array, b: Array) -> bool:
    """Whether two C-contiguous arrays are the same memory, element for element."""
    return a.shape == b.shape and a.ctypes.data == b.ctypes.data


def writable(name: str, array: object, dtype: np.dtype[Any] | None = None) -> None:
    """Raise unless `array` is a C-contiguous float array that may be written to."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name}: expected a numpy.ndarray, got {type(array).__name__}")
    if array.dtype not in FLOATS or (dtype is not None and array.dtype != dtype):
        raise TypeError(f"{name}: expected dtype {dtype or 'float32 or float64'}, "
                        f"got {array.dtype}")
    if not array.dtype.isnative:
        raise TypeError(f"{name}: expected native byte order, got {array.dtype.str}")
    if not array.flags.c_contiguous:
        raise ValueError(f"{name}: expected a C-contiguous array, got strides {array.strides} "
                         f"for shape {array.shape}; pass np.ascontiguousarray({name})")
    if not array.flags.aligned:
        raise ValueError(f"{name}: expected an array aligned to its dtype; pass {name}.copy()")
    if not array.flags.writeable:
        raise ValueError(f"{name}: expected an array that can be written to, got a read-only one")


def read_only(array: Array) -> Array:
    """A view of an array that cannot be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def exactly(name: str, array: object, expected: tuple[int, ...] | None,
            dtype: np.dtype[Any]) -> None:
    """Raise unless `array` is a NumPy array of this shape and dtype.

    Parameters
    ----------
    name : str
    array : object
    expected : tuple of int or None
        None accepts any shape.
    dtype : numpy.dtype
    """
    error, got = _mismatch(array, expected, dtype)
    if error is not None:
        raise error(f"{name}: expected {_wanted(expected, dtype)}, got {got}")


def returned(what: str, name: str, array: object, expected: tuple[int, ...] | None,
             dtype: np.dtype[Any]) -> None:
    """Check the value `name` that a user's layer or loss (`what`) returned, like `exactly`."""
    error, got = _mismatch(array, expected, dtype)
    if error is not None:
        raise error(f"{what} returned {got}; expected {name}, {_wanted(expected, dtype)}")


def _mismatch(array: object, expected: tuple[int, ...] | None,
              dtype: np.dtype[Any]) -> tuple[type[Exception] | None, str]:
    """The error to raise, None if nothing is wrong, and a description of what was given."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        return TypeError, "None" if array is None else f"a {type(array).__name__}"
    got = f"{array.dtype} of shape {array.shape}"
    if array.dtype != dtype:
        return TypeError, got
    return (None if expected in (None, array.shape) else ValueError), got


def _wanted(shape: tuple[int, ...] | None, dtype: np.dtype[Any]) -> str:
    return f"a numpy.ndarray of {dtype}" + (f" and shape {shape}" if shape is not None else "")


class Validated:
    """Base class of objects whose settings are checked at every assignment.

    Attributes
    ----------
    validators : dict of str to callable
        For a setting's name, a function ``(name, value)`` that returns the value to keep or
        raises an error.
    """

    validators: ClassVar[dict[str, Validator]] = {}

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.validators:
            value = self.validators[name](name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self.validators:
            raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted; set it to "
                                 f"another value")
        super().__delattr__(name)


class CodeError(ValueError):
    """A code outside the categories of an embedding."""


def compiled_form(piece: object) -> Any:
    """The name of the compiled form of a loss, optimizer or metric; None where it has to be called.

    Built-in classes give it as `operation`.  A subclass from elsewhere may compute something else,
    so it is always called.
    """
    cls = piece if isinstance(piece, type) else type(piece)
    return getattr(piece, "operation", None) if is_own(cls) else None


@functools.lru_cache(maxsize=256)
def is_own(cls: type) -> bool:
    """Whether a class is one of this package's."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


def precision(value: object, dtype: np.dtype[Any]) -> str:
    """The precision of products, if it is one, and one that arrays of this dtype can have."""
    if not (isinstance(value, str) and value in PRECISIONS):
        raise ValueError(f"precision: expected one of {', '.join(PRECISIONS)}, got {value!r}")
    if dtype == np.float64 and value != "highest":
        raise ValueError(f'precision: expected "highest" with float64, got {value!r}; lower ones '
                         f'are for dtype="float32"')
    return value


def boolean(name: str, value: object) -> bool:
    """`value` as a bool, if it is True or False.

    Raises
    ------
    TypeError
        If it is anything else, including other values that Python treats as true or false.
    """
    if isinstance(value, bool | np.bool_):
        return bool(value)
    raise TypeError(f"{name}: expected True or False, got {value!r} ({type(value).__name__})")


def fraction(name: str, value: Any) -> float:
    """A number in [0, 1)."""
    return number(name, value, 0, 1, high_open=True)


def positive(name: str, value: Any) -> float:
    """A number above 0."""
    return number(name, value, 0, low_open=True)


def not_negative(name: str, value: Any) -> float:
    """A number of at least 0."""
    return number(name, value, 0)


def number(name: str, value: Any, low: float | None = None, high: float | None = None, *,
           low_open: bool = False, high_open: bool = False) -> float:
    """`value` as a float, if it is finite and between `low` and `high`.

    Raises
    ------
    TypeError
        If it is not a real number.
    ValueError
        If it is out of range, infinite or NaN.
    """
    try:
        if not isinstance(value, float | int) and (
                isinstance(value, str | bytes | bytearray) or np.ndim(value) != 0):
            raise TypeError
        result = float(value)
    except OverflowError:
        result = float("inf")
    except (TypeError, ValueError):
        raise TypeError(
            f"{name}: expected a number, got {value!r} ({type(value).__name__})"
        ) from None
    too_low = low is not None and (result <= low if low_open else result < low)
    too_high = high is not None and (result >= high if high_open else result > high)
    if too_low or too_high or not math.isfinite(result):
        bounds = []
        if low is not None:
            bounds.append(f"{'above' if low_open else 'at least'} {low}")
        if high is not None:
            bounds.append(f"{'below' if high_open else 'at most'} {high}")
        wanted = " and ".join(["a finite number", *bounds])
        raise ValueError(f"{name}: expected {wanted}, got {value!r}")
    return result


def integer(name: str, value: Any, low: int, high: int | None = None) -> int:
    """`value` as an int, if it is whole and between `low` and `high`.

    Raises
    ------
    TypeError
        If it is not a whole number.
    ValueError
        If it is below `low` or above `high`.
    """
    try:
        result = operator.index(value)
    except TypeError:
        raise TypeError(
            f"{name}: expected a whole number, got {value!r} ({type(value).__name__})"
        ) from None
    if result < low or isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name}: expected a whole number of at least {low}, got {value!r}")
    if high is not None and result > high:
        raise ValueError(f"{name}: expected a whole number of at most {high}, got {value!r}")
    return result
