"""Networks in 8-bit integers as C99, for processors without floating point."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import numpy as np

from ..files import checked_path, replace_file
from ..version import __version__
from .c_network import array, number
from .int8 import Quantized, Stage

if TYPE_CHECKING:
    from os import PathLike

    from ..program import Value

__all__ = ["write_c_int8"]

HEADER = """\
#ifndef {upper}_H
#define {upper}_H
/* A network in 8-bit integers, exported by fastbp {version}.
 *
 *     void {name}_predict(const int8_t *x, int32_t *y);
 *
 * x has {n_in} numbers and y {n_out}; they must not overlap.  An input v of column j is
 * x[j] = v / {name}_x_scale[j] + {name}_x_zero[j], rounded to the nearest whole number and limited
 * to -128 and 127: {name}_quantize does that, in floating point.  An output is
 * y[j] * {upper}_Y_SCALE.
 *
 * Only integers are used, of at most 64 bits, so the results are the same on every machine and at
 * every level of optimization.  Nothing is allocated, no library is called, and nothing is kept
 * between calls; a call needs {scratch} bytes of stack for intermediate results, and some 100 more.
 * Weights and tables are {size:,} bytes; with
 * -D{upper}_FLASH='__attribute__((section("…")))' they are in a section of their own.
 *
 * Of {rows:,} rows that were given, the largest error is {largest:.3g} and the root mean square of
 * all errors {rms_error:.3g}, where that of the outputs is {rms:.3g}.{same}
 */
#include <stddef.h>
#include <stdint.h>

#ifndef {upper}_FLASH
#define {upper}_FLASH
#endif
#define {upper}_N_IN {n_in}
#define {upper}_N_OUT {n_out}
#define {upper}_Y_SCALE {y_scale}

"""

FUNCTIONS = """\
/* v / 2^shift, rounded to the nearest whole number, halves away from 0 */
static inline int32_t {p}rounded(int64_t v, int shift)
{{
    const int64_t half = (int64_t)1 << (shift - 1);
    return (int32_t)(v < 0 ? -((-v + half) >> shift) : (v + half) >> shift);
}}
static inline int8_t {p}limited(int32_t v, int32_t low)
{{
    return (int8_t)(v < low ? low : v > 127 ? 127 : v);
}}
static inline void {p}quantize(const float *v, int8_t *x)
{{
    for (int j = 0; j < {n_in}; j++) {{
        const float ratio = v[j] / {p}x_scale[j];
        const float q = ratio + (float){p}x_zero[j];
        x[j] = (int8_t)(!(q > -128) ? -128 : q >= 127 ? 127 : (int)(q < 0 ? q - 0.5f : q + 0.5f));
    }}
}}
"""


def write_c_int8(path: str | PathLike[str], model: Quantized, n_rows: int,
                 name: str = "net") -> list[str]:
    """Write a network in integers as a C header.

    Parameters
    ----------
    path : str or path-like
        Ends with ``.h``.
    model : Quantized
    n_rows : int
        How many rows its report is about.
    name : str, default "net"

    Returns
    -------
    list of str
        The path.

    Raises
    ------
    TypeError, ValueError, OSError
        As `write_c`.
    """
    path = checked_path("path", path)
    if not path.endswith(".h"):
        raise ValueError(f"path: expected a file that ends with .h, got {path!r}")
    if not isinstance(name, str) or not re.fullmatch("[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(f"name: expected letters, digits and _, the first a letter, got {name!r}")
    replace_file(path, _Writer(model, n_rows, name).text().encode())
    return [os.fspath(path)]


class _Writer:
    """Writes one network."""

    def __init__(self, model: Quantized, n_rows: int, name: str) -> None:
        self.model, self.n_rows, self.name, self.p = model, n_rows, name, f"{name}_"
        self.arrays: list[str] = []
        self.size = 0
        self.places: dict[Value, int] = {}
        self.scratch = 0

    def text(self) -> str:
        """The file."""
        model, upper = self.model, self.name.upper()
        lines = [line for i, stage in enumerate(model.stages) for line in self._stage(i, stage)]
        if not any(stage.write is model.z for stage in model.stages):
            raise ValueError("net: expected layers that compute something in prediction, got "
                             "none, as Dropout does nothing then; add a Dense layer, or use the "
                             "rows as they are")
        report = model.report
        same = ""
        if "same_largest" in report:
            same = (f"  The same\n * output is largest in {100 * report['same_largest']:.2f} % of "
                    f"them.")
        scales = [array(f"{self.p}x_scale", model.x_scale.astype(np.float32), "decimal"),
                  array(f"{self.p}x_zero", model.x_zero.astype(np.int16), "decimal")]
        scratch = [f"int8_t t[{self.scratch}];"] if self.scratch else []
        return "".join([
            HEADER.format(
                upper=upper, version=__version__, name=self.name, n_in=model.x.columns,
                n_out=model.z.columns, scratch=self.scratch, size=self.size, rows=self.n_rows,
                largest=report["largest_error"], rms_error=report["rms_error"], rms=report["rms"],
                same=same, y_scale=number(model.y_scale, "float64")),
            "\n".join([*scales, *self.arrays, FUNCTIONS.format(p=self.p, n_in=model.x.columns)]),
            "\n".join([f"static inline void {self.p}predict(const int8_t *x, int32_t *y)", "{",
                       *(f"    {line}" for line in [*scratch, *lines]), "}",
                       f"#undef {upper}_FLASH", "#endif", ""])])

    def _array(self, stage: int, name: str) -> str:
        """The name of a stage's array, which is written."""
        values = self.model.stages[stage].arrays[name]
        full = f"{self.p}{stage}_{name}"
        self.size += values.nbytes
        self.arrays.append(array(full, values, "decimal", f"{self.name.upper()}_FLASH"))
        return full

    def _place(self, value: Value) -> str:
        """An expression for the first element of a value; all have places of their own."""
        if value is self.model.x:
            return "x"
        if value is self.model.z:
            return "y"
        if value not in self.places:
            self.places[value] = self.scratch
            self.scratch += value.columns
        return f"(t + {self.places[value]})"

    def _stage(self, i: int, stage: Stage) -> list[str]:
        arrays = stage.arrays
        out = self._place(stage.write)
        start = int(arrays["start"][0]) if "start" in arrays else 0
        target = f"{out}[{start} + j]" if start else f"{out}[j]"
        reads = [self._place(value) for value in stage.reads]
        at = f"{self._array(i, 'columns')}[j]" if "columns" in arrays else "j"
        if stage.op == "take":
            return [f"for (int j = 0; j < {stage.write.columns}; j++) {target} = {reads[0]}[{at}];"]
        if stage.op == "table":
            return [f"for (int j = 0; j < {stage.write.columns}; j++)",
                    f"    {target} = {self._array(i, 'table')}[{reads[0]}[j] + 128];"]
        if stage.op == "dense":
            k, n = arrays["W"].shape
            head = [f"for (int j = 0; j < {n}; j++) {{",
                    f"    int32_t sum = {self._array(i, 'bias')}[j];",
                    f"    for (int p = 0; p < {k}; p++)",
                    f"        sum += (int32_t){reads[0]}[p] * {self._array(i, 'W')}[p * {n} + j];",
                    f"    const int64_t v = (int64_t)sum * {self._array(i, 'factor')}[j];"]
        else:
            n = len(arrays["shift"])
            terms = [f"(int64_t)({read}[{at}] - ({int(arrays[f'zero{part}'][0])})) * "
                     f"{self._array(i, f'factor{part}')}[j]" for part, read in enumerate(reads)]
            terms.append(f"{self._array(i, 'summand')}[j]")
            head = [f"for (int j = 0; j < {n}; j++) {{",
                    f"    const int64_t v = {' + '.join(terms)};"]
        zero = int(arrays["zero"][0])
        result = f"{self.p}rounded(v, {self._array(i, 'shift')}[j]) + ({zero})"
        if stage.write is not self.model.z:
            result = f"{self.p}limited({result}, {stage.low})"
        elif stage.low > -(1 << 31):  # a ReLU
            return [*head, f"    const int32_t result = {result};",
                    f"    {target} = result < {stage.low} ? {stage.low} : result;", "}"]
        return [*head, f"    {target} = {result};", "}"]
