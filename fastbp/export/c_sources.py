"""The kernels' formulas as C99: what an exported network needs of kernels/simd, one lane wide.

The scalar tier is made of the same headers as every other, with vectors of one element.  Here they
are read as text: conditions on the tier are decided, the declarations that are needed are picked
out with all that they refer to, and names get the network's prefix.  So a formula has one home, and
an exported network has the bits of the kernels.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["declarations"]

KERNELS = Path(__file__).parent.parent / "kernels" / "simd"

# In the order of tier.h; the last is the exporter's own.
HEADERS = [*(KERNELS / f"{name}.h" for name in (
    "vectors", "vector_math", "elementwise", "lanes", "losses", "normalization", "piecewise",
    "members")), Path(__file__).with_name("network.h")]

# What the scalar tier's types are, and what dispatch.h defines.
CONSTANTS = {"FBP_LANES": "1", "FBP_MASKS": "0", "FBP_K_BLOCK": "256", "FBP_SUM_LANES": "16"}
TYPES = {
    32: {"real": "float", "vec": "float", "integer": "int32_t", "ivec": "int32_t",
         "unsigned_integer": "uint32_t", "uvec": "uint32_t"},
    64: {"real": "double", "vec": "double", "integer": "int64_t", "ivec": "int64_t",
         "unsigned_integer": "uint64_t", "uvec": "uint64_t"},
}

WORD = re.compile(r"\b[A-Za-z_]\w*\b")
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(\w+)(?:[ \t]+(.*))?$")


@dataclass(frozen=True)
class Declaration:
    """A function, an array, a type or a macro, with the comment above it."""

    name: str
    text: str
    needs: frozenset[str]

    @property
    def is_macro(self) -> bool:
        """Whether it is a #define."""
        return self.text.partition("*/\n")[2].startswith("#") or self.text.startswith("#")


def declarations(names: Iterable[str], bits: int, prefix: str) -> tuple[str, list[str]]:
    """The declarations of these names and of all that they refer to.

    Parameters
    ----------
    names : iterable of str
        Functions of the kernels, such as ``"f_relu"`` or ``"softmax"``, or of network.h.
    bits : {32, 64}
        For float or double.
    prefix : str
        Put before every name that is declared.

    Returns
    -------
    text : str
        C99, in the order of the kernels' headers.
    macros : list of str
        The names that are macros, with the prefix.

    Raises
    ------
    KeyError
        If there is no such declaration.

    Examples
    --------
    >>> text, macros = declarations(["v_add"], 32, "net_")
    >>> print(text)
    static inline float net_v_add(float a, float b) { return a + b; }
    """
    known = _declared(bits)
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += known[name].needs
    picked = [each for name, each in known.items() if name in found]
    types = TYPES[bits]

    def renamed(match: re.Match[str]) -> str:
        word = match[0]
        return prefix + word if word in found else types.get(word, word)

    text = "\n".join(_outside_comments(WORD, renamed, each.text) for each in picked)
    return text, [prefix + each.name for each in picked if each.is_macro]


def _outside_comments(pattern: re.Pattern[str], replacement: object, text: str) -> str:
    parts = re.split(r"(/\*.*?\*/)", text, flags=re.DOTALL)
    parts[::2] = [pattern.sub(replacement, part) for part in parts[::2]]  # type: ignore[call-overload]
    return "".join(parts)


@functools.cache
def _declared(bits: int) -> dict[str, Declaration]:
    """Every declaration of the headers by its name, in their order."""
    found: dict[str, tuple[str, str]] = {}
    for header in HEADERS:
        lines = _decided(header.read_text("utf-8"), bits)
        for name, text in _split(lines):
            if name not in found and name not in TYPES[bits]:
                found[name] = name, text
    return {name: Declaration(name, text, frozenset(
        word for word in WORD.findall(COMMENT.sub("", text)) if word in found and word != name))
        for name, text in found.values()}


def _decided(text: str, bits: int) -> list[str]:
    """The lines that a scalar tier of this dtype compiles, without directives but #define."""
    text = re.sub(r"__attribute__\(\(always_inline\)\)[ \t]*", "", text)
    for name, value in (CONSTANTS | {"FBP_BITS": str(bits), "INLINE": "static inline"}).items():
        text = _outside_comments(re.compile(rf"(?<!define )(?<!defined\()\b{name}\b"), value, text)
    lines: list[str] = []
    taken = [(True, True)]  # for each open #if whether its lines count, and whether a branch did
    for line in _logical_lines(text):
        directive = DIRECTIVE.match(COMMENT.sub("", line.partition("\n")[0]).rstrip())
        kind, condition = (directive[1], directive[2] or "") if directive else ("", "")
        outer = all(each for each, _ in taken[:-1])
        if kind in ("if", "ifdef", "ifndef"):
            holds = _holds(kind, condition)
            taken.append((holds, holds))
        elif kind == "elif":
            _, done = taken.pop()
            holds = outer and not done and _holds("if", condition)
            taken.append((holds, done or holds))
        elif kind == "else":
            _, done = taken.pop()
            taken.append((not done, True))
        elif kind == "endif":
            taken.pop()
        elif all(each for each, _ in taken) and kind in ("", "define"):
            lines.append(line)
    return lines


def _logical_lines(text: str) -> list[str]:
    """Lines, those of a macro with continuations as one."""
    lines: list[str] = []
    for line in text.split("\n"):
        if lines and lines[-1].endswith("\\"):
            lines[-1] += "\n" + line
        else:
            lines.append(line)
    return lines


def _holds(kind: str, condition: str) -> bool:
    """Whether a condition holds for gcc and a scalar tier on no particular processor."""
    if kind in ("ifdef", "ifndef"):
        return kind == "ifndef"
    condition = re.sub(r"defined\(\w+\)", "0", condition)
    condition = condition.replace("&&", " and ").replace("||", " or ")
    value = functools.reduce(lambda a, b: a or b, (
        all(_compare(each) for each in part.split(" and ")) for part in condition.split(" or ")))
    return bool(value)


def _compare(text: str) -> bool:
    """One comparison of products of whole numbers."""
    match = re.fullmatch(r"\s*([\d* ]+?)\s*(?:(==|>=|>|<|<=)\s*(\d+))?\s*", text)
    if match is None:
        raise ValueError(f"cannot decide {text!r}")
    left = 1
    for factor in match[1].split("*"):
        left *= int(factor)
    if match[2] is None:
        return left != 0
    right = int(match[3])
    return {"==": left == right, ">=": left >= right, ">": left > right, "<": left < right,
            "<=": left <= right}[match[2]]


def _split(lines: list[str]) -> list[tuple[str, str]]:
    """Top-level declarations, each with its name and the comment above it."""
    found: list[tuple[str, str]] = []
    comment: list[str] = []
    current: list[str] = []
    depth = 0
    in_comment = False
    for line in lines:
        if not current and (in_comment or line.lstrip().startswith("/*")):
            comment.append(line)
            in_comment = "*/" not in line
            continue
        if not current and (not line.strip() or re.fullmatch(r"[A-Z_]+\(.*\)\s*", line)):
            comment = []
            continue
        if not current and line.startswith("#"):
            name = WORD.findall(line)[1]
            found.append((name, "\n".join([*comment, line])))
            comment = []
            continue
        current.append(line)
        code = COMMENT.sub("", line)
        depth += code.count("{") - code.count("}")
        text = "\n".join(current)
        # A function ends with its brace, all else with a semicolon.
        is_function = re.match(r"(static|typedef (?!struct))[^=;]*\)\s*\{", text) is not None
        if depth == 0 and code.rstrip().endswith("}" if is_function else ";"):
            found.append((_name(text), "\n".join([*comment, text])))
            comment, current = [], []
    return found


def _name(text: str) -> str:
    """What a declaration declares."""
    text = COMMENT.sub("", text)
    if text.startswith("typedef"):
        function = re.match(r"typedef \w+ (\w+)\(", text)
        return function[1] if function else WORD.findall(text)[-1]
    match = re.match(r"static (?:inline |const )*(?:\w+ )+?\*?(\w+)\s*[(\[]", text)
    if match is None:
        raise ValueError(f"cannot tell what is declared by {text!r}")
    return match[1]
