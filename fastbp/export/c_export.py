"""Models as C99 files, whose results are those of `predict`, bit for bit."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..files import checked_path, replace_file
from ..version import __version__
from .c_encoder import EncoderInC, comment
from .c_network import Arrays, NetworkInC, checked_format, number
from .c_sources import declarations
from .models import model_of
from .reading import Model

if TYPE_CHECKING:
    from os import PathLike

__all__ = ["c_source", "write_c"]

DOUBLE = np.dtype(np.float64)
C_TYPES = {np.dtype(np.float32): "float", DOUBLE: "double"}
FORTRAN_TYPES = {"float": "c_float", "double": "c_double"}

HOW = """\
/* Exported by fastbp {version}: for each model NAME below
 *
 *     void NAME_predict(const REAL *x, REAL *y);
 *     void NAME_predict_rows(size_t rows, const REAL *x, REAL *y);
 *
 * x has NAME_N_IN numbers for each row and y NAME_N_OUT; x and y must not overlap.  Compile this as
 * C99 or later with -ffp-contract=off, at any level of optimization, and link libm:
 *
 *     cc -std=c99 -O3 -ffp-contract=off program.c -lm
 *
 * Then the results are those of `predict` in Python, bit for bit, on every machine with IEEE 754
 * arithmetic.  Where the processor has fused multiply-adds, let the compiler use them (-mfma,
 * -march=…): otherwise each is a call of fma of libm, which is slow.  Besides, memcpy{sqrt} is
 * called.  Nothing is allocated, and nothing is kept between calls, so any number of threads may
 * predict.
 *
 * All weights are constant; -D{upper}FLASH='__attribute__((section("…")))' puts them in a section.
 * The functions are those of fastbp, whose license is BSD-3-Clause.
 */
"""

ABOUT = """\
/* {name}: {title}, from {x} to {y}.{more}
 * A call takes {stack} bytes of stack for intermediate results, and some 200 for the functions. */
#define {upper}N_IN {n_in}
#define {upper}N_OUT {n_out}
"""

CHECKS = """\
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || \\
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#error "{name}: compile without -ffast-math, -Ofast and their like, which change the results"
#endif
#if defined(FLT_EVAL_METHOD) && FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16
#error "{name}: this compiler keeps excess precision; on x86 compile with -msse2 -mfpmath=sse"
#endif
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif
#ifndef {upper}FLASH
#define {upper}FLASH
#endif
"""

UNARY = """\
static void {p}unary_{op}(ptrdiff_t n, {real} alpha, {real} *y)
{{
    for (ptrdiff_t j = 0; j < n; j++)
        y[j] = {p}v_zero_below({p}f_{op}(y[j], alpha), {p}FBP_MIN_NORMAL);
}}
"""


def write_c(path: str | PathLike[str], models: Mapping[str, Any], *, weights: str = "decimal",
            fortran: bool = False) -> list[str]:
    """Write models as C.

    Parameters
    ----------
    path : str or path-like
        Ends with ``.h`` for a header that has it all, or with ``.c`` for that and a header beside
        it with the declarations alone.
    models : dict of str to Sequential, Ensemble or fitted estimator
        By the names that their functions begin with, identifiers of C.  They share functions, and
        arrays with the same contents.
    weights : {"decimal", "hex", "bits"}, default "decimal"
        How numbers are written.  All three are exact; "bits", words with the numbers' bits, need
        no reading of decimal or hexadecimal floats, and compile fastest.
    fortran : bool, default False
        Whether to write a Fortran module with the interfaces too, beside a ``.c`` file.

    Returns
    -------
    list of str
        The paths of the files, each of which is replaced only by a complete one.

    Raises
    ------
    TypeError, ValueError
        If an argument is not as described, or a model has an operation that is unknown in C.
    OSError
        If a file cannot be written.
    """
    path = checked_path("path", path)
    stem, suffix = os.path.splitext(path)
    if suffix not in (".h", ".c"):
        raise ValueError(f"path: expected a file that ends with .h or .c, got {path!r}")
    if suffix == ".c" and set(os.path.basename(path)) & set('"\\\n'):
        raise ValueError(f"path: expected a name without quotation marks, backslashes and line "
                         f"breaks, which #include cannot have, got {path!r}")
    if fortran and suffix != ".c":
        raise ValueError(f"fortran: expected False with a header, which Fortran cannot call, got "
                         f"{fortran}; write a .c file")
    name = re.sub(r"\W", "_", os.path.basename(stem), flags=re.ASCII)
    file = _File(_checked(models), f"f_{name}" if name[:1].isdigit() else name,
                 checked_format(weights), f"{os.path.basename(stem)}.h" if suffix == ".c" else None)
    declared, defined = file.texts()
    texts = {path: defined} if suffix == ".h" else {stem + ".h": declared, path: defined}
    if fortran:
        texts[stem + ".f90"] = "\n".join(map(_fortran, file.models))
    for each, text in texts.items():
        replace_file(each, text.encode())
    return list(texts)


def c_source(models: Mapping[str, Any], name: str = "net", weights: str = "decimal",
             header: str | None = None) -> tuple[str, str]:
    """The texts of models in C.

    Parameters
    ----------
    models, weights
        As for `write_c`.
    name : str, default "net"
        What names begin with that are no model's.
    header : str, optional
        The name of the header with the declarations; None for a single header.

    Returns
    -------
    declared, defined : str
        The header with the declarations, empty for a single header, and the file with all else.

    Raises
    ------
    TypeError, ValueError
        As `write_c`.

    Examples
    --------
    >>> import fastbp as fb
    >>> _, text = c_source({"net": fb.mlp([4, 8, 2], seed=0)})
    >>> text.splitlines()[:2]
    ['#ifndef NET_H', '#define NET_H']
    """
    return _File(_checked(models), name, checked_format(weights), header).texts()


def _checked(models: Mapping[str, Any]) -> Mapping[str, Model]:
    if not models:
        raise ValueError("models: expected at least one, got none")
    for each in models:
        if not isinstance(each, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", each):
            raise ValueError(f"name: expected letters, digits and _, the first a letter, got "
                             f"{each!r}")
    if len({each.upper() for each in models}) < len(models):
        raise ValueError(f"name: expected names that differ in more than case, got "
                         f"{', '.join(models)}")
    checked = {name: model_of(model) for name, model in models.items()}
    for name, model in checked.items():
        for network in model.networks:
            if network.precision != "highest":
                raise ValueError(
                    f"{name}: expected a network whose precision is 'highest', got "
                    f"{network.precision!r}, whose bits the C code would not have; set "
                    f"net.precision = 'highest', or fit with precision='highest'")
    return checked


class _File:
    """A file of models, which share arrays with the same contents and the kernels they need."""

    def __init__(self, models: Mapping[str, Model], name: str, weights: str,
                 header: str | None) -> None:
        self.name, self.header = name, header
        self.upper = f"{name.upper()}_"
        dtypes = {model.dtype for model in models.values()}
        dtypes |= {DOUBLE for model in models.values() if model.encoder is not None}
        self.prefixes = {dtype: f"{name}_" if len(dtypes) == 1 else
                         f"{name}_f{8 * dtype.itemsize}_" for dtype in dtypes}
        arrays = Arrays(f"{name}_", f"{self.upper}FLASH", weights)
        self.models = [_ModelInC(each, model, self.prefixes, arrays,
                                 "" if header else "static inline ")
                       for each, model in models.items()]
        self.arrays = arrays.texts

    def texts(self) -> tuple[str, str]:
        """The declarations and the definitions."""
        guard = f"{self.upper}H"
        start = f"#ifndef {guard}\n#define {guard}\n"
        kernels, macros = self._kernels()
        about = "\n".join([
            HOW.format(version=__version__, upper=self.upper,
                       sqrt=" and sqrt" if re.search(r"\bsqrtf?\(", kernels) else ""),
            *(each.about for each in self.models)])
        body = "\n".join([
            "#include <float.h>\n#include <math.h>\n#include <stdint.h>\n#include <string.h>\n",
            CHECKS.format(name=self.name, upper=self.upper), kernels, *self.arrays,
            *(text for each in self.models for text in each.definitions()),
            *(f"#undef {macro}" for macro in [*macros, f"{self.upper}FLASH"]), ""])
        if self.header is None:
            return "", f"{start}{about}\n#include <stddef.h>\n{body}#endif\n"
        declared = "\n".join([
            f"{start}{about}", "#include <stddef.h>", "#ifdef __cplusplus", 'extern "C" {',
            "#endif", *(f"{head};" for each in self.models for head in each.heads),
            "#ifdef __cplusplus", "}", "#endif", "#endif", ""])
        return declared, f'#include "{self.header}"\n{body}'

    def _kernels(self) -> tuple[str, list[str]]:
        """The kernels of each dtype, and the macros among them."""
        texts, macros = [], []
        for dtype, prefix in self.prefixes.items():
            unary = sorted(set().union(*(each.unary for each in self.models
                                         if each.model.dtype == dtype)))
            needs = set().union(*(each.needs[dtype] for each in self.models
                                  if dtype in each.needs))
            text, its_macros = declarations(sorted(needs), 8 * dtype.itemsize, prefix)
            texts += [text, "", *(UNARY.format(p=prefix, real=C_TYPES[dtype], op=op)
                                  for op in unary)]
            macros += its_macros
        return "\n".join(texts), macros


class _ModelInC:
    """The functions of one model: encode a row, run the networks, combine what they return."""

    def __init__(self, name: str, model: Model, prefixes: Mapping[np.dtype[Any], str],
                 arrays: Arrays, inline: str) -> None:
        self.name, self.model, self.inline = name, model, inline
        self.real = C_TYPES[model.dtype]
        self.members = [NetworkInC(network, prefixes[model.dtype], arrays)
                        for network in model.networks]
        self.unary = set().union(*(each.unary for each in self.members))
        self.needs = {model.dtype: set().union(*(each.needs for each in self.members))}
        self.encoder: EncoderInC | None = None
        if model.encoder is not None:
            self.encoder = EncoderInC(model.encoder, name, prefixes[DOUBLE], arrays.constant,
                                      model.dtype)
            self.needs[DOUBLE] = self.needs.get(DOUBLE, set()) | self.encoder.needs
        self.n_in = model.n_in if self.encoder is None else self.encoder.n_columns
        self.x_type = self.real if self.encoder is None else "double"
        self.y_type = self.real if model.scale is None else "double"
        self.heads = [
            f"{inline}void {name}_predict(const {self.x_type} *x, {self.y_type} *y)",
            f"{inline}void {name}_predict_rows(size_t rows, const {self.x_type} *x, "
            f"{self.y_type} *y)"]
        if self.encoder is not None and self.encoder.levels:
            self.heads.append(f"{inline}double {name}_category(int column, const char *text)")

    @property
    def about(self) -> str:
        """A comment and the numbers of columns."""
        n = len(self.members)
        columns = [] if self.encoder is None else [
            f"{self.name}_category(column, text) is the number of a category; the columns of x:",
            *(f"    {line}" for line in self.encoder.about)]
        return ABOUT.format(
            name=self.name, title="a network" if n == 1 else f"the mean of {n} networks",
            x=f"{self.n_in} {self.x_type}s", y=f"{self.model.n_out} {self.y_type}s",
            more="".join(f"\n * {line}" for line in [*_classes_text(self.model), *columns]),
            n_in=self.n_in, n_out=self.model.n_out, stack=f"{self._stack():,}",
            upper=f"{self.name.upper()}_")

    def _stack(self) -> int:
        """Bytes of intermediate results."""
        itemsize, encoded = self.model.dtype.itemsize, 0
        if self.encoder is not None:
            encoded = itemsize * self.encoder.n_encoded
        z = self.model.networks[0].z.columns * (itemsize + 8 * (self.model.weights is not None))
        return (encoded + itemsize * max(each.scratch for each in self.members)
                + (z if self._is_combined else 0))

    @property
    def _is_combined(self) -> bool:
        """Whether more is done than to run a network."""
        model = self.model
        return (model.weights is not None or model.both or model.scale is not None
                or self.encoder is not None)

    def definitions(self) -> list[str]:
        """The functions that predict."""
        texts = []
        row, rows, *_ = self.heads
        for i, each in enumerate(self.members):
            head = f"static void {self.name}_network_{i}(const {self.real} *x, {self.real} *y)"
            scratch = [f"{self.real} t[{each.scratch}];"] if each.scratch else []
            texts.append(_function(head if self._is_combined else row, [*scratch, *each.lines]))
        if self._is_combined:
            texts.append(_function(row, self._combined()))
        texts.append(_function(rows, [
            "for (size_t i = 0; i < rows; i++)",
            f"    {self.name}_predict(x + i * {self.n_in}, y + i * {self.model.n_out});"]))
        if self.encoder is not None and self.encoder.levels:
            texts.append(self.inline + self.encoder.finder(self.name))
        return texts

    def _combined(self) -> list[str]:
        """Encode a row; the mean of an ensemble; what becomes of it."""
        model = self.model
        n = model.networks[0].z.columns
        lines, x = [], "x"
        if self.encoder is not None:
            x = "e"
            lines += [f"{self.real} e[{self.encoder.n_encoded}];",
                      *(line.replace("REAL", self.real) for line in self.encoder.lines)]
        lines.append(f"{self.real} z[{n}];")
        if model.weights is None:
            lines.append(f"{self.name}_network_0({x}, z);")
        else:
            lines.append(f"double sum[{n}];")
            for i, weight in enumerate(model.weights.tolist()):
                lines += [f"{self.name}_network_{i}({x}, z);", f"for (int j = 0; j < {n}; j++) {{",
                          f"    const double part = {weight!r} * (double)z[j];",
                          f"    sum[j] = {'sum[j] + part' if i else 'part'};", "}"]
            lines.append(f"for (int j = 0; j < {n}; j++) z[j] = ({self.real})sum[j];")
        if model.both:
            return [*lines, "y[0] = 1 - z[0];", "y[1] = z[0];"]
        if model.scale is None or model.mean is None:
            return [*lines, f"memcpy(y, z, {n} * sizeof *y);"]
        for j in range(n):
            scale, mean = (number(each[j % len(each)], DOUBLE) for each in (model.scale,
                                                                            model.mean))
            lines += [f"y[{j}] = (double)z[{j}] * {scale};", f"y[{j}] = y[{j}] + {mean};"]
        if model.ascending:
            lines += [f"for (int i = 1; i < {n}; i++)",
                      "    for (int j = i; j > 0 && y[j] < y[j - 1]; j--) {",
                      "        const double upper = y[j - 1];",
                      "        y[j - 1] = y[j];", "        y[j] = upper;", "    }"]
        return lines


def _function(head: str, lines: list[str]) -> str:
    return "\n".join([head, "{", *(f"    {line}" for line in lines), "}", ""])


def _classes_text(model: Model) -> list[str]:
    """What the outputs are, in words."""
    for classes, what in ((model.classes, "classes"), (model.labels, "labels")):
        if classes is not None:
            listed = ", ".join(map(comment, classes.tolist()[:20]))
            return [f"y are the probabilities of the {what} {listed}"
                    f"{', …' * (len(classes) > 20)}"]
    return []


def _fortran(model: _ModelInC) -> str:
    """A module with the interfaces of a model's C functions."""
    name = model.name
    x, y = (FORTRAN_TYPES[each] for each in (model.x_type, model.y_type))
    kinds = ", ".join(sorted({x, y}))
    return f"""\
! {name}_predict and {name}_predict_rows, exported by fastbp {__version__}.
! A row of C is a column here: x(:, i) is the i-th.
module {name}
  implicit none
  integer, parameter :: {name}_n_in = {model.n_in}, {name}_n_out = {model.model.n_out}
  interface
    subroutine {name}_predict(x, y) bind(C, name="{name}_predict")
      use, intrinsic :: iso_c_binding, only: {kinds}
      real({x}), intent(in) :: x({model.n_in})
      real({y}), intent(out) :: y({model.model.n_out})
    end subroutine
    subroutine {name}_predict_rows(rows, x, y) bind(C, name="{name}_predict_rows")
      use, intrinsic :: iso_c_binding, only: {kinds}, c_size_t
      integer(c_size_t), value :: rows
      real({x}), intent(in) :: x({model.n_in}, *)
      real({y}), intent(out) :: y({model.model.n_out}, *)
    end subroutine
  end interface
end module
"""
