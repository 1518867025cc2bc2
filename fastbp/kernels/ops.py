"""The table of operations (ops.def) as Python reads it; `write_stubs` makes stubs from it.

The functions of `fastbp.kernels`, the layer classes and the lists that tests run over are made from
`ACTIVATIONS`, `FUNCTIONS`, `LOSSES` and `UPDATES`, whose order is that of the compiled tables.
"""

import ast
import re
import textwrap
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Activation:
    """An element-wise function with a derivative; ops.def describes the fields of all rows."""

    name: str
    layer: str
    saved: str
    default_alpha: float | None
    title: str
    forward: str
    backward: str
    about_alpha: str
    source: str

    @property
    def from_output(self) -> bool:
        """Whether the derivative is a function of the activation's output."""
        return self.saved == "A"

    @property
    def in_place(self) -> bool:
        """Whether the derivative can do without the input, so that the output may replace it."""
        return self.saved != "Z"


@dataclass(frozen=True)
class Function:
    """An element-wise function without a derivative."""

    name: str
    formula: str


@dataclass(frozen=True)
class Loss:
    """A loss; its text is empty where the targets are labels."""

    name: str
    low: float | None
    high: float | None
    takes_labels: bool
    takes_quantiles: bool
    default_delta: float | None
    title: str
    scores: str
    value: str
    gradient: str
    about_parameter: str
    source: str


@dataclass(frozen=True)
class Update:
    """The update of an optimizer: its attributes and state arrays."""

    name: str
    attributes: tuple[str, ...]
    state: tuple[str, ...]


@dataclass(frozen=True)
class Operand:
    """A value that an instruction reads or writes: its name, and letters for rows and columns."""

    name: str
    rows: str
    columns: str


@dataclass(frozen=True)
class Op:
    """An instruction of a program."""

    name: str
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    in_place: str
    attributes: tuple[str, ...]


def _value(argument: ast.expr) -> Any:
    if isinstance(argument, ast.Name):
        return argument.id
    if isinstance(argument, ast.Tuple):
        return tuple(map(_value, argument.elts))
    return ast.literal_eval(argument)


_TEXT = Path(__file__).with_name("ops.def").read_text(encoding="utf-8")
# Compiled modules compare it with that of the table they were built from.
CHECKSUM = zlib.crc32(_TEXT.encode())


def _rows() -> dict[str, list[list[Any]]]:
    """The arguments of each macro's calls, in order, which are also Python syntax."""
    text = re.sub(r"/\*.*?\*/|^#.*?$", "", _TEXT, flags=re.DOTALL | re.MULTILINE)
    rows: dict[str, list[list[Any]]] = {}
    for statement in ast.parse(text).body:
        assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
        assert isinstance(statement.value.func, ast.Name)
        rows.setdefault(statement.value.func.id, []).append(
            [_value(argument) for argument in statement.value.args])
    return rows


def _or_none(value: Any) -> Any:
    return None if value == "none" else value


def _activation(name: str, layer: str, saved: str, alpha: float | str, *text: str) -> Activation:
    return Activation(name, layer, saved, _or_none(alpha), *text)


def _loss(name: str, targets: Any, parameter: float | str = "none", *text: str) -> Loss:
    takes_labels, takes_quantiles = targets == "labels", parameter == "quantiles"
    low, high = (None, None) if takes_labels else map(_or_none, targets)
    delta = None if takes_quantiles else _or_none(parameter)
    return Loss(name, low, high, takes_labels, takes_quantiles, delta, *(text or [""] * 6))


def _operands(text: str) -> tuple[Operand, ...]:
    return tuple(Operand(*operand.split()) for operand in text.split(", "))


def _op(name: str, reads: str, writes: str, in_place: str, attributes: tuple[str, ...]) -> Op:
    return Op(name, _operands(reads), _operands(writes), in_place, attributes)


def _ops_of(activation: Activation) -> tuple[Op, Op]:
    """An activation and its gradient, as instructions."""
    name = activation.name
    alpha = () if activation.default_alpha is None else ("alpha",)
    return (_op(name, "Z m n", "A m n", "yes", alpha),
            _op(f"{name}_backward", "dA m n, saved m n", "dZ m n", "yes", alpha))


_ROWS = _rows()
ACTIVATIONS = {row[0]: _activation(*row) for row in _ROWS["FBP_ACTIVATION"]}
FUNCTIONS = {row[0]: Function(*row) for row in _ROWS["FBP_FUNCTION"]}
LOSSES = {row[0]: _loss(*row) for row in _ROWS["FBP_LOSS"]}
UPDATES = {row[0]: Update(*row) for row in _ROWS["FBP_UPDATE"]}
# Element-wise functions and the gradients of activations are instructions too.
OPS = {
    **{row[0]: _op(*row) for row in _ROWS["FBP_OP"]},
    **{name: _op(name, "X m n", "Y m n", "yes", ()) for name in FUNCTIONS},
    **{each.name: each for activation in ACTIVATIONS.values() for each in _ops_of(activation)},
}

# The products of a dense layer, which may be of reduced precision.
REDUCED = frozenset({"dense", "dense_backward_weights", "dense_backward_input"})


# Sizes that depend on others, where an operation has all of these letters.
_DEPENDENT: tuple[tuple[str, str, Callable[..., int]], ...] = (
    ("n", "kd", lambda k, d: k * d), ("q", "kp", lambda k, p: k * p), ("d", "p", lambda p: p + 1),
    ("e", "sk", lambda s, k: s + k),
    # Whole numbers of columns for each of v / n members.
    ("v", "vn", lambda v, n: max(1, v // n) * n),
    ("u", "ukvn", lambda u, k, v, n: v // n * k),
    ("u", "uvn", lambda u, v, n: u // (v // n) * (v // n)),
)


def sizes(op: Op, reads: Sequence[tuple[int | None, int]],
          writes: Sequence[tuple[int | None, int]] | None = None,
          known: Mapping[str, int] | None = None) -> dict[str, int | None]:
    """The size of each letter of an operation, from what it reads and writes.

    Parameters
    ----------
    op : Op
    reads, writes : sequence of tuple
        Rows and columns of each value; rows are None where they are those of the minibatch.
        Without `writes` only what is read is checked.
    known : dict of str to int, optional
        Sizes that do not follow from what is read, by their letters.

    Returns
    -------
    dict of str to int or None
        None for m, the rows of the minibatch.

    Raises
    ------
    ValueError
        If there are more or fewer values than the operation has, or a letter would have two sizes.

    Examples
    --------
    >>> sizes(OPS["dense"], [(None, 3), (3, 4), (1, 4)])
    {'m': None, '1': 1, 'k': 3, 'n': 4}
    """
    found: dict[str, int | None] = {"m": None, "1": 1, **(known or {})}
    both = [(op.reads, reads)]
    if op.reads[-1].columns == "*":  # values side by side
        if not reads or any(rows is not None for rows, _ in reads):
            raise ValueError(f"{op.name}: expected values with the rows of the minibatch")
        found["n"] = sum(columns for _, columns in reads)
        both = []
    if writes is not None:
        both.append((op.writes, writes))
    for operands, shapes in both:
        if len(operands) != len(shapes):
            raise ValueError(f"{op.name}: expected {len(operands)} values, got {len(shapes)}")
        for operand, (rows, columns) in zip(operands, shapes, strict=True):
            if (found.setdefault(operand.rows, rows) != rows
                    or found.setdefault(operand.columns, columns) != columns):
                raise ValueError(f"{op.name}: expected {operand.name} of shape "
                                 f"{(found.get(operand.rows), found.get(operand.columns))}, got "
                                 f"{(rows, columns)}")
    for size, of, formula in _DEPENDENT:
        if {size, *of} <= found.keys() and found[size] != formula(*(found[each] for each in of)):
            raise ValueError(f"{op.name}: expected sizes where {size} = "
                             f"{formula(*(found[each] for each in of))}, got {found}")
    return found


# Docstrings

_OUT = """\
    out : ndarray like {like}, optional
        Where to write the result; may be {may}.

    Returns
    -------
    {result} : ndarray like {like}

    Raises
    ------
    TypeError
        If {a_dtype} is neither float32 nor float64{mixed}.
    ValueError
        If {shapes}`out` cannot hold the result.
"""


def _source(op: Activation | Loss) -> str:
    if not op.source:
        return ""
    lines = textwrap.fill(op.source, 90, initial_indent="    ", subsequent_indent="    ")
    return f"\n    References\n    ----------\n{lines}\n"


def _example(name: str, *arguments: list[float]) -> str:
    """The section that shows a call of an element-wise function."""
    return f"""
    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.{name}({', '.join(map(str, arguments))}).shape
    ({len(arguments[0])},)
    """


def _alpha(op: Activation) -> str:
    if op.default_alpha is None:
        return ""
    return f"    alpha : float, default {op.default_alpha}\n        {op.about_alpha}\n"


def forward_docstring(op: Activation) -> str:
    """Docstring of the function of an activation."""
    out = _OUT.format(like="Z", may="`Z`", result="A", a_dtype="the dtype", mixed="", shapes="")
    return (f"{op.title}: ``{op.forward}``.\n\n    Parameters\n    ----------\n"
            f"    Z : array_like of any shape, float32 or float64\n{_alpha(op)}{out}{_source(op)}"
            f"{_example(op.name, [-2.0, 0.0, 1.0])}")


def backward_docstring(op: Activation) -> str:
    """Docstring of the function that computes the gradient of an activation."""
    values = [0.1, 0.5, 0.9] if op.from_output else [-2.0, 0.0, 1.0]
    given = "A" if op.from_output else "Z"
    out = _OUT.format(like="dA", may=f"`dA` or `{given}`", result="dZ", a_dtype="a dtype",
                      mixed=", or they are mixed", shapes="the shapes differ, or ")
    return (f"Gradient through `{op.name}`: ``{op.backward}``.\n\n    Parameters\n    ----------\n"
            f"    dA : array_like of any shape, float32 or float64\n"
            f"        Gradient of the loss with respect to A.\n"
            f"    {given} : array_like, same shape and dtype\n"
            f"        The {'output' if op.from_output else 'input'} of `{op.name}`.\n"
            f"{_alpha(op)}{out}"
            f"{_example(f'{op.name}_backward', [1.0, 1.0, 1.0], values)}")


def function_docstring(op: Function) -> str:
    """Docstring of an element-wise function."""
    return f"""``{op.formula}``, element by element, with the same bits on every machine.

    Parameters
    ----------
    X : array_like of any shape, float32 or float64
    out : ndarray like X, optional
        Where to write the result; may be `X`.

    Returns
    -------
    Y : ndarray like X
        Within 2 units in the last place; 0 where it would be subnormal.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.
    ValueError
        If `out` cannot hold the result.
{_example(op.name, [0.5, 1.0, 2.0])}"""


def loss_docstring(loss: Loss) -> str:
    """Docstring of the function of a loss whose targets are numbers."""
    low = 0.0 if loss.low is None else float(loss.low)
    Z, Y = [[0.5], [2.0]], [[low], [low + 1 if loss.high is None else float(loss.high)]]
    limits = target_limits(loss)
    targets = f"Targets {limits}" if limits else "Targets"
    a_target = f"a target is not {limits}, " if limits else ""
    shared = ""
    parameter = ("" if loss.default_delta is None else
                 f"    delta : float, default {loss.default_delta}\n"
                 f"        {loss.about_parameter}\n")
    if loss.takes_quantiles:
        shared = (".  With a quantile for each\n        output, targets of one column, "
                  "(batch,) or (batch, 1), are those of all outputs")
        parameter = ("    quantiles : float or array_like of shape (outputs,), default 0.5\n"
                     f"        {loss.about_parameter}\n")
    return f"""{loss.title}.

    ``{loss.value}``;
    ``{loss.gradient}``.

    Parameters
    ----------
    Z : array_like of shape (batch, outputs), float32 or float64
        {loss.scores}
    y : array_like of shape (batch, outputs), same dtype
        {targets}; of shape (batch,) where there is one output{shared}.
    sample_weight : array_like of shape (batch,), optional
        How much each row counts, same dtype.
{parameter}    cap : float above 0, optional
        Upper limit of an output's contribution to the loss; the gradient ignores it.
    out : ndarray of shape (batch, outputs), optional
        Where to write dZ; may be `Z`.

    Returns
    -------
    loss : float
        The mean over the batch and the outputs.
    dZ : ndarray of shape (batch, outputs)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If shapes do not match, {a_target}a weight is negative, a parameter is out of range, or
        `out` cannot hold the result.
{_source(loss)}
    Examples
    --------
    >>> from fastbp import kernels
    >>> loss, dZ = kernels.{loss.name}({Z}, {Y})
    >>> loss > 0, dZ.shape
    (True, (2, 1))
    """


def target_limits(loss: Loss) -> str:
    """The range of a loss's targets in words; empty where it is unlimited."""
    if loss.low is None:
        return ""
    return (f"of at least {loss.low}" if loss.high is None else
            f"between {loss.low} and {loss.high}")


def layer_docstring(op: Activation) -> str:
    """Docstring of the layer class of an activation."""
    parameters = f"\n\n    Parameters\n    ----------\n{_alpha(op)}    " if _alpha(op) else ""
    return f"{op.title}: ``{op.forward}``.{parameters}"


# Stubs

_HEAD = """\
# Written by ops.py from ops.def.
"""


def kernels_stub() -> str:
    """Stub of `fastbp.kernels.activations`."""
    lines = [_HEAD + "from numpy.typing import ArrayLike\n\nfrom .types import Floats\n"]
    names: list[str] = []

    def add(name: str, parameters: str) -> None:
        names.append(name)
        lines.append(f"def {name}({parameters}, *, out: Floats | None = None) -> Floats: ...")

    for op in ACTIVATIONS.values():
        alpha = "" if op.default_alpha is None else f", alpha: float = {op.default_alpha}"
        add(op.name, f"Z: ArrayLike{alpha}")
        given = "A" if op.from_output else "Z"
        add(f"{op.name}_backward", f"dA: ArrayLike, {given}: ArrayLike{alpha}")
    for name in FUNCTIONS:
        add(name, "X: ArrayLike")
    add("dropout", "X: ArrayLike, rate: float, key: int, step: int")
    add("softmax", "Z: ArrayLike")
    return "\n".join([*lines, "", f"__all__ = {sorted(names)!r}", ""])


def losses_stub() -> str:
    """Stub of `fastbp.kernels.losses`."""
    lines = [_HEAD + "from numpy.typing import ArrayLike\n\nfrom .ops import Loss\n"
             "from .types import Array, Floats\n\n"
             "def check_quantiles(name: str, value: object) -> float | tuple[float, ...]: ...\n"
             "def check_targets(loss: Loss, Y: Array) -> None: ..."]
    for loss in LOSSES.values():
        own = ("label_smoothing: float = 0.0, " if loss.takes_labels else
               "quantiles: ArrayLike = 0.5, " if loss.takes_quantiles else
               "" if loss.default_delta is None else f"delta: float = {loss.default_delta}, ")
        lines.append(
            f"def {loss.name}(\n    Z: ArrayLike, y: ArrayLike, "
            f"sample_weight: ArrayLike | None = None, *,\n    {own}cap: float | None = None, "
            f"out: Floats | None = None,\n) -> tuple[float, Floats]: ...")
    return "\n".join([*lines, "", f"__all__ = {sorted(LOSSES)!r}", ""])


def layers_stub() -> str:
    """Stub of `fastbp.layers.activations`."""
    lines = [_HEAD + """from typing import ClassVar

from ..kernels import ops
from ..program import Builder, Value
from .base import Layer

ACTIVATIONS: dict[str, type[Activation]]

class Activation(Layer):
    function: ClassVar[str]
    def __init__(self) -> None: ...
    def lower(self, builder: Builder, x: Value) -> Value: ...

def activation_class(op: ops.Activation) -> type[Activation]: ...
"""]
    for op in ACTIVATIONS.values():
        lines.append(f"class {op.layer}(Activation):")
        if op.default_alpha is None:
            lines.append("    def __init__(self) -> None: ...\n")
        else:
            lines += ["    alpha: float",
                      f"    def __init__(self, alpha: float = {op.default_alpha}) -> None: ...\n"]
    names = sorted(op.layer for op in ACTIVATIONS.values())
    return "\n".join([*lines, f"__all__ = {names!r}", ""])


def write_stubs() -> None:
    """Write the stubs into the source tree, where they are not what they should be."""
    kernels = Path(__file__).parent
    for path, text in ((kernels / "activations.pyi", kernels_stub()),
                       (kernels / "losses.pyi", losses_stub()),
                       (kernels.parent / "layers" / "activations.pyi", layers_stub())):
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write_stubs()
