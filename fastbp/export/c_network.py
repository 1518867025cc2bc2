"""A network's instructions as C: one call of a kernel each, for a single row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels import ops
from ..kernels.types import Array
from ..program import Instruction, Value
from .reading import Network

__all__ = ["Arrays", "NetworkInC", "array", "checked_format", "number"]

# How weights are written.
ARRAY_FORMATS = "decimal", "hex", "bits"


def checked_format(weights: object) -> str:
    """A way to write weights, if it is one.

    Parameters
    ----------
    weights : object

    Returns
    -------
    str

    Raises
    ------
    ValueError
        If it is not "decimal", "hex" or "bits".

    Examples
    --------
    >>> checked_format("hex")
    'hex'
    """
    if not isinstance(weights, str) or weights not in ARRAY_FORMATS:
        raise ValueError(f"weights: expected one of {', '.join(ARRAY_FORMATS)}, got {weights!r}")
    return weights


def number(value: float, dtype: Any) -> str:
    """A number as C writes it, exactly.

    Parameters
    ----------
    value : float
    dtype : dtype_like
        float32 or float64.

    Returns
    -------
    str

    Examples
    --------
    >>> number(0.1, "float32"), number(0.1, "float64"), number(-0.0, "float64")
    ('0.1f', '0.1', '-0.0')
    """
    value = np.dtype(dtype).type(value)
    suffix = "f" if np.dtype(dtype) == np.float32 else ""
    if np.isnan(value):
        return f"({'float' if suffix else 'double'})NAN"
    if np.isinf(value):
        return f"({'-' * bool(value < 0)}({'float' if suffix else 'double'})INFINITY)"
    # repr of NumPy's numbers is the shortest text that is read as the same number.
    return np.format_float_scientific(value, unique=True, trim="0") + suffix if (
        value != 0 and not 1e-4 <= abs(value) < 1e6) else str(value) + suffix


def array(name: str, values: Array, how: str, attribute: str = "") -> str:
    """The definition of a constant array.

    Parameters
    ----------
    name : str
    values : ndarray
        Flattened in C order: float32, float64 or whole numbers.
    how : {"decimal", "hex", "bits"}
        Decimal or hexadecimal numbers, or words that hold the bits.
    attribute : str, default ""
        Put before the definition.

    Returns
    -------
    str
        Elements are read as ``name``, followed by ``.values`` for "bits".

    Examples
    --------
    >>> print(array("b", np.array([0.5, -2], "f4"), "hex"))
    static const float b[2] = {
        0x1p-1f, -0x1p+1f,
    };
    """
    values = np.ascontiguousarray(values).ravel()
    types = {"f4": "float", "f8": "double", "i8": "int64_t", "i4": "int32_t", "i2": "int16_t",
             "i1": "int8_t"}
    kind = types[values.dtype.str[1:]]
    start = f"{attribute} " if attribute else ""
    if values.dtype.kind == "i":
        return f"{start}static const {kind} {name}[{values.size}] = {_braces(map(str, values))};"
    if how == "bits":
        bits = values.view(f"u{values.itemsize}")
        width = 2 * values.itemsize
        words = _braces(f"0x{word:0{width}x}{'ull' * (width == 16)}" for word in bits.tolist())
        return (f"{start}static const union {{\n    uint{4 * width}_t bits[{values.size}];\n"
                f"    {kind} values[{values.size}];\n}} {name} = {{{words}}};")
    if how == "hex":
        texts = [_hex(value, values.dtype) for value in values.tolist()]
    else:
        texts = [number(value, values.dtype) for value in values]
    return f"{start}static const {kind} {name}[{values.size}] = {_braces(texts)};"


def _hex(value: float, dtype: Any) -> str:
    if not np.isfinite(value):
        return number(value, dtype)
    mantissa, _, exponent = value.hex().partition("p")
    mantissa = mantissa.rstrip("0").removesuffix(".") if "." in mantissa else mantissa
    return f"{mantissa}p{exponent}{'f' * (np.dtype(dtype) == np.float32)}"


def _braces(texts: Any) -> str:
    """Numbers between braces, in lines."""
    lines, line = ["{"], "   "
    for text in texts:
        if len(line) + len(text) + 2 > 100:
            lines.append(line)
            line = "   "
        line += f" {text},"
    return "\n".join([*lines, line, "}"])


@dataclass
class Arrays:
    """Constant arrays; those with the same contents are written once.

    Parameters
    ----------
    prefix : str
        Of their names.
    attribute : str
        Put before each definition.
    weights : {"decimal", "hex", "bits"}

    Attributes
    ----------
    texts : list of str
        The definitions.
    """

    prefix: str
    attribute: str
    weights: str
    texts: list[str] = field(default_factory=list)
    names: dict[tuple[str, bytes], str] = field(default_factory=dict)

    def constant(self, name: str, values: Array) -> str:
        """An expression for an array, which is written if it is new.

        Parameters
        ----------
        name : str
            What its name ends with.
        values : ndarray

        Returns
        -------
        str
        """
        key = values.dtype.str, values.tobytes()
        if key not in self.names:
            base = "".join(c if c.isascii() and c.isalnum() else "_" for c in name)
            self.names[key] = full = f"{self.prefix}w{len(self.names)}_{base}"
            self.texts.append(array(full, values, self.weights, self.attribute))
        suffix = ".values" if self.weights == "bits" and values.dtype.kind == "f" else ""
        return self.names[key] + suffix


@dataclass
class NetworkInC:
    """The C code of one network's row.

    Parameters
    ----------
    network : Network
    prefix : str
        Of the kernels' names.
    arrays : Arrays
        To which the network's are added.

    Attributes
    ----------
    lines : list of str
        Statements that set the elements of ``y`` from those of ``x``, with intermediate results in
        ``t``.
    scratch : int
        How many numbers ``t`` has.
    needs, unary : set of str
        Kernels, and functions of an element, that are called.

    Raises
    ------
    ValueError
        If there is an operation that is unknown in C.
    """

    network: Network
    prefix: str
    arrays: Arrays
    needs: set[str] = field(default_factory=set)
    unary: set[str] = field(default_factory=set)
    lines: list[str] = field(default_factory=list)
    scratch: int = 0

    def __post_init__(self) -> None:
        self._places = _Places(self.network)
        for each in self.network.instructions:
            if each.op not in WRITERS and each.op not in (*ops.ACTIVATIONS, *ops.FUNCTIONS):
                raise ValueError(f"layer {each.where}: expected operations that are known in C, "
                                 f"got {each.op}; leave the layer out")
            self.lines += WRITERS.get(each.op, _unary)(self, each)
        if not any(self.network.z in each.writes for each in self.network.instructions):
            self.lines += _copy("y", self._expression(self.network.z), self.network.z.columns)
        self.scratch = self._places.size

    def value(self, value: Value) -> str:
        """An expression for the first element of a value, of this row."""
        return "y" if value is self.network.z else self._expression(value)

    def _expression(self, value: Value) -> str:
        if value in self.network.constants:
            return self.arrays.constant(value.name, self.network.constants[value])
        if value is self.network.x:
            return "x"
        place = self._places[value]
        return f"t + {place}" if place else "t"

    def call(self, kernel: str, *arguments: object) -> str:
        """A call of a kernel."""
        self.needs.add(kernel)
        return f"{self.prefix}{kernel}({', '.join(map(str, arguments))});"

    def number(self, value: float) -> str:
        """A number of the network's dtype."""
        return number(value, self.network.dtype)


class _Places(dict[Value, int]):
    """Where temporaries are in the scratch array: the first gap among those that are in use."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.size = 0
        last: dict[Value, int] = {}
        for i, each in enumerate(network.instructions):
            last |= dict.fromkeys((*each.reads, *each.writes), i)
        ends: dict[Value, int] = {}  # of values in use, where they end
        for i, each in enumerate(network.instructions):
            first = each.reads[0]
            op = ops.OPS.get(each.op)
            for n, value in enumerate(each.writes):
                if value is network.z:
                    continue
                if (n == 0 and op is not None and op.in_place != "no" and last[first] == i
                        and first in ends and first.columns == value.columns):
                    self[value], ends[value] = self[first], ends.pop(first)
                    continue
                start = 0
                for used in sorted(ends, key=self.__getitem__):
                    if start + value.columns <= self[used]:
                        break
                    start = max(start, ends[used])
                self[value], ends[value] = start, start + value.columns
                self.size = max(self.size, ends[value])
            ends = {value: end for value, end in ends.items() if last[value] > i}


def _unary(code: NetworkInC, each: Instruction) -> list[str]:
    (x,), (y,) = each.reads, each.writes
    code.unary.add(each.op)
    code.needs |= {f"f_{each.op}", "v_zero_below", "FBP_MIN_NORMAL"}
    alpha = code.number(each.attributes.get("alpha", 0.0))
    copy = _copy(code.value(y), code.value(x), x.columns) if code.value(x) != code.value(y) else []
    return [*copy, f"{code.prefix}unary_{each.op}({x.columns}, {alpha}, {code.value(y)});"]


def _copy(to: str, source: str, n: int) -> list[str]:
    return [f"memcpy({to}, {source}, {n} * sizeof *y);"]


def _dense(code: NetworkInC, each: Instruction) -> list[str]:
    x, W, *b = each.reads
    k, n = code.network.constants[W].shape
    return [code.call("dense", k, n, code.value(x), code.value(W), _optional(code, b),
                      code.value(each.writes[0]))]


def _optional(code: NetworkInC, values: list[Value]) -> str:
    return code.value(values[0]) if values else "NULL"


def _members_dense(code: NetworkInC, each: Instruction) -> list[str]:
    """Members one after the other, with weights in common or each its own."""
    x, W, *b = each.reads
    weights = code.network.constants[W]
    separate = each.op == "separate_dense"
    k, n = weights.shape[-2:]
    w_step, b_step = (f" + i * {k * n}", f" + i * {n}") if separate else ("", "")
    bias = _optional(code, b) + (b_step if b else "")
    call = code.call("dense", k, n, f"{code.value(x)} + i * {k}", code.value(W) + w_step, bias,
                     f"{code.value(each.writes[0])} + i * {n}")
    return [f"for (ptrdiff_t i = 0; i < {x.columns // k}; i++)", f"    {call}"]


def _rows(kernel: str, *attributes: str) -> Callable[[NetworkInC, Instruction], list[str]]:
    """A kernel over rows: (rows, columns, reads…, writes…, attributes…)."""
    def write(code: NetworkInC, each: Instruction) -> list[str]:
        n_members = each.attributes.get("n_members", 1)
        values = [code.value(value) for value in (*each.reads, *each.writes)]
        numbers = [each.attributes[name] for name in attributes]
        columns = each.writes[0].columns // n_members
        return [code.call(kernel, n_members, columns, *values, *map(_plain, numbers))]
    return write


def _plain(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else number(value, "float64")


def _scale(code: NetworkInC, each: Instruction) -> list[str]:
    x, gamma, *beta = each.reads
    return [code.call("scale_columns", 1, x.columns, code.value(x), code.value(gamma),
                      _optional(code, beta), code.value(each.writes[0]), 0)]


def _add(code: NetworkInC, each: Instruction) -> list[str]:
    x, y = each.reads
    return [code.call("add", x.columns, code.value(x), code.value(y),
                      code.value(each.writes[0]), 0)]


def _embedding(code: NetworkInC, each: Instruction) -> list[str]:
    codes, table = each.reads
    n_categories, n = code.network.constants[table].shape
    return [code.call("embedding", n_categories, n, f"*({code.value(codes)})", code.value(table),
                      code.value(each.writes[0]))]


def _periodic(code: NetworkInC, each: Instruction) -> list[str]:
    x, *constants = each.reads
    k, d = code.network.constants[each.reads[3]].shape
    return [code.call("periodic_row", k, d, code.value(x), *map(code.value, constants),
                      code.value(each.writes[0]))]


def _piecewise(code: NetworkInC, each: Instruction) -> list[str]:
    x, edges, W, _, nodes = each.reads
    starts = np.array(each.attributes["columns"], np.int64)
    d = code.network.constants[W].shape[1]
    name = code.arrays.constant("starts", starts)
    z, bins, fractions = map(code.value, each.writes)
    return [code.call("piecewise", 1, x.columns, d, name, code.value(x), code.value(edges),
                      code.value(W), code.value(nodes), z, bins, fractions)]


def _members(kernel: str) -> Callable[[NetworkInC, Instruction], list[str]]:
    def write(code: NetworkInC, each: Instruction) -> list[str]:
        x, y = each.reads[0], each.writes[0]
        n, several = sorted((x.columns, y.columns))
        return [code.call(kernel, 1, n, several // n, code.value(x),
                          number(each.attributes["factor"], "float64"), code.value(y), 0)]
    return write


def _take_columns(code: NetworkInC, each: Instruction) -> list[str]:
    columns = each.attributes["columns"]
    x, y = code.value(each.reads[0]), code.value(each.writes[0])
    first, n = columns[0], len(columns)
    if tuple(columns) == tuple(range(first, first + n)):
        return _copy(y, f"{x} + {first}", n)
    indices = code.arrays.constant("columns", np.array(columns, np.int32))
    return [f"for (ptrdiff_t j = 0; j < {n}; j++) ({y})[j] = ({x})[{indices}[j]];"]


def _join(code: NetworkInC, each: Instruction) -> list[str]:
    lines, start = [], 0
    for value in each.reads:
        lines += _copy(f"{code.value(each.writes[0])} + {start}", code.value(value), value.columns)
        start += value.columns
    return lines


# How each operation is written; activations and other functions of an element by `_unary`.
WRITERS: dict[str, Callable[[NetworkInC, Instruction], list[str]]] = {
    "dense": _dense,
    "shared_dense": _members_dense,
    "shared_product": _members_dense,
    "separate_dense": _members_dense,
    "softmax": _rows("softmax"),
    "add": _add,
    "scale": _scale,
    "scale_shift": _scale,
    "normalize_rows": _rows("normalize_rows", "epsilon", "center"),
    "normalize_columns": _rows("normalize_columns"),
    "prelu": _rows("prelu"),
    "embedding": _embedding,
    "periodic": _periodic,
    "piecewise": _piecewise,
    "repeat": _members("repeat_columns"),
    "sum_members": _members("sum_members"),
    "take_columns": _take_columns,
    "join": _join,
}
