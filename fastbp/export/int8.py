"""Networks in 8-bit integers: what is computed, and how close it comes.

A value v is stored as q = round(v / scale) + zero, from -128 to 127.  Weights have a scale for each
column and no zero.  A product's sum is an exact 32-bit integer; a factor between scales is a whole
number over a power of two, so all arithmetic is of integers, and the same everywhere [1]_.

References
----------
.. [1] B. Jacob et al., "Quantization and training of neural networks for efficient
   integer-arithmetic-only inference", CVPR 2018.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..kernels import checks, ops
from ..kernels.types import Array, Doubles
from ..program import Instruction, Value
from ..program.reference import KERNELS
from .reading import Network

__all__ = ["Quantized", "Stage", "quantized"]

LOW, HIGH = -128, 127
# Bits of the factors between scales.
FACTOR_BITS = 30
# The largest output: 16 bits with a sign.
LARGEST_OUTPUT = 32767


# Where functions are flat, so that their inputs need no finer scale for what lies beyond.
FLAT: dict[str, tuple[float, float]] = {
    "sigmoid": (-6.0, 6.0), "tanh": (-3.5, 3.5), "gelu": (-3.5, np.inf), "silu": (-8.0, np.inf),
    "mish": (-8.0, np.inf), "elu": (-6.0, np.inf), "selu": (-6.0, np.inf)}


@dataclass
class Stage:
    """One step of integers.

    Attributes
    ----------
    op : {"dense", "affine", "add", "table", "take"}
    reads, write : tuple of Value, Value
    arrays : dict of str to ndarray
    low : int
        Results below become this.
    """

    op: str
    reads: tuple[Value, ...]
    write: Value
    arrays: dict[str, Array]
    low: int = LOW


@dataclass
class Quantized:
    """A network in integers.

    Attributes
    ----------
    x, z : Value
    stages : list of Stage
    x_scale, x_zero : ndarray of shape (n_in,)
        Of the input's columns, float32 and int64.
    y_scale : float
        Of the output, which has no zero and 16 bits.
    report : dict of str to float
        On the given rows: ``"largest_error"`` and ``"rms_error"``, differences from the outputs
        in floating point, ``"rms"`` of these, and for several outputs ``"same_largest"``, the share
        of rows of which the same output is largest.
    """

    x: Value
    z: Value
    stages: list[Stage]
    x_scale: Array
    x_zero: Array
    y_scale: float = 1.0
    report: dict[str, float] = field(default_factory=dict)

    def quantize(self, X: Any) -> Array:
        """Rows as the integers that the network takes; halves are rounded away from 0."""
        q = np.asarray(X, np.float32) / self.x_scale + self.x_zero.astype(np.float32)
        limited = np.clip(np.nan_to_num(q, nan=LOW), LOW, HIGH)
        return np.trunc(limited + np.copysign(np.float32(0.5), limited)).astype(np.int8)

    def run(self, Q: Array) -> Array:
        """The outputs for rows of integers: what the C code computes."""
        values = {self.x: Q.astype(np.int64)}
        for stage in self.stages:
            RUN[stage.op](stage, values, self.z)
        return values[self.z].astype(np.int32)


def quantized(network: Network, X: Any) -> Quantized:
    """Choose scales by what a network's values are for some rows, and quantize it.

    Parameters
    ----------
    network : Network
    X : array_like of shape (rows, n_in)

    Returns
    -------
    Quantized

    Raises
    ------
    TypeError, ValueError
        If X is no such array, or the network has an operation without an integer form; the message
        names the layer.
    """
    X = checks.data("rows", X)
    checks.shape("rows", X, (None, network.x.columns), "like the network's input")
    return _Quantizer(network, X.astype(network.dtype)).result()


class _Quantizer:
    """Chooses scales, one value after the other."""

    def __init__(self, network: Network, X: Array) -> None:
        self.network, self.X = network, X
        self.readers: dict[Value, list[Instruction]] = {}
        for each in network.instructions:
            for value in each.reads:
                self.readers.setdefault(value, []).append(each)
        self.floats = _floats(network, X)
        self.scales: dict[Value, tuple[Any, Any]] = {}
        self.stages: list[Stage] = []
        self.merged: set[int] = set()

    def result(self) -> Quantized:
        """The network in integers, and how close it comes."""
        network = self.network
        by_column = all(each.op == "dense" for each in self.readers.get(network.x, []))
        self._scale(network.x, axis=0 if by_column else None)
        for each in network.instructions:
            if id(each) in self.merged:
                continue
            if each.op in QUANTIZE:
                QUANTIZE[each.op](self, each)
            elif each.op in (*ops.ACTIVATIONS, *ops.FUNCTIONS):
                self._table(each)
            else:
                raise ValueError(f"layer {each.where}: expected operations that have a form in "
                                 f"integers, got {each.op}; leave the layer out, or export in "
                                 f"floating point")
        scale, zero = (np.broadcast_to(each, network.x.columns)
                       for each in self.scales[network.x])
        made = Quantized(network.x, network.z, self.stages, scale.astype(np.float32),
                         zero.astype(np.int64))
        made.y_scale = float(self.scales[network.z][0])
        Z, Y = self.floats[network.z].astype(np.float64), made.run(made.quantize(self.X))
        error = Y * made.y_scale - Z
        made.report = {"largest_error": float(np.max(abs(error))),
                       "rms_error": float(np.sqrt((error**2).mean())),
                       "rms": float(np.sqrt((Z**2).mean()))}
        if Z.shape[1] > 1:
            made.report["same_largest"] = float((Z.argmax(axis=1) == Y.argmax(axis=1)).mean())
        return made

    def _scale(self, value: Value, axis: int | None = None) -> tuple[Any, Any]:
        """Choose the scale and zero of a value; the network's output has 16 bits and no zero."""
        floats = self.floats[value].astype(np.float64)
        if value is self.network.z:
            largest = max(float(np.max(abs(floats))), 1e-30)
            self.scales[value] = largest / LARGEST_OUTPUT, np.int64(0)
        else:
            after = {each.op for each in self.readers.get(value, [])}
            if len(after) == 1:
                floats = np.clip(floats, *FLAT.get(after.pop(), (-np.inf, np.inf)))
            low = np.minimum(np.min(floats, axis=axis), 0)
            high = np.maximum(np.max(floats, axis=axis), 0)
            scale = np.maximum((high - low) / (HIGH - LOW), 1e-30)
            self.scales[value] = scale, np.rint(LOW - low / scale).astype(np.int64)
        return self.scales[value]

    def _target(self, each: Instruction) -> tuple[Value, int]:
        """The value that a stage writes, and the lowest result: that of a ReLU if one follows."""
        value = each.writes[0]
        after = self.readers.get(value, [])
        if len(after) == 1 and after[0].op == "relu" and value is not self.network.z:
            self.merged.add(id(after[0]))
            value = after[0].writes[0]
            _, zero = self._scale(value)
            return value, int(zero)
        self._scale(value)
        return value, -(1 << 31) if value is self.network.z else LOW

    def _dense(self, each: Instruction) -> None:
        x, W, b = each.reads
        s_x, z_x = self.scales[x]
        weights = self.network.constants[W].astype(np.float64)
        if len(weights) > (1 << 31) // (128 * 256):
            raise ValueError(f"layer {each.where}: expected at most 65,535 inputs, whose sums 32 "
                             f"bits can hold, got {len(weights):,}")
        weights = weights * np.broadcast_to(s_x, len(weights))[:, None]
        s_w = np.maximum(abs(weights).max(axis=0), 1e-30) / HIGH
        q = np.rint(weights / s_w).astype(np.int64)
        zeros = np.broadcast_to(z_x, len(weights))
        bias = np.rint(self.network.constants[b].ravel() / s_w) - zeros @ q
        value, low = self._target(each)
        s_y, z_y = self.scales[value]
        factor, shift = _fraction(s_w / s_y)
        self.stages.append(Stage("dense", (x,), value, {
            "W": q.astype(np.int8), "bias": np.clip(bias, -(2.0**31), 2.0**31 - 1).astype(np.int32),
            "factor": factor, "shift": shift, "zero": np.full(1, z_y, np.int32)}, low))

    def _affine(self, each: Instruction) -> None:
        """One factor and one summand for each column."""
        x = each.reads[0]
        constants = [self.network.constants[value].astype(np.float64).ravel()
                     for value in each.reads[1:]]
        if each.op == "normalize_columns":
            mean, rstd = constants
            scale, summand = rstd, -mean * rstd
        else:
            scale, summand = constants[0], constants[1] if len(constants) > 1 else 0 * constants[0]
        self._linear(each, [(x, scale)], summand)

    def _add(self, each: Instruction) -> None:
        a, b = each.reads
        ones = np.ones(a.columns)
        self._linear(each, [(a, ones), (b, ones)], 0 * ones)

    def _linear(self, each: Instruction, parts: list[tuple[Value, Doubles]],
                summand: Doubles) -> None:
        """A sum of values, each times a factor for each column."""
        value, low = self._target(each)
        s_y, z_y = self.scales[value]
        ratios = [scale * self.scales[x][0] / s_y for x, scale in parts]
        largest = np.max([abs(each) for each in ratios], axis=0)
        _, shift = _fraction(largest)
        arrays = {f"factor{i}": np.rint(ratio * 2.0**shift).astype(np.int32)
                  for i, ratio in enumerate(ratios)}
        zeros = {f"zero{i}": np.full(1, self.scales[x][1], np.int32)
                 for i, (x, _) in enumerate(parts)}
        arrays |= zeros | {"summand": np.rint(summand / s_y * 2.0**shift).astype(np.int64),
                           "shift": shift, "zero": np.full(1, z_y, np.int32)}
        self.stages.append(Stage("affine" if len(parts) == 1 else "add",
                                 tuple(x for x, _ in parts), value, arrays, low))

    def _join(self, each: Instruction) -> None:
        """Columns side by side, which get one scale."""
        value, low = self._target(each)
        s_y, z_y = self.scales[value]
        start = 0
        for x in each.reads:
            s_x, z_x = self.scales[x]
            factor, shift = _fraction(np.full(x.columns, s_x / s_y))
            self.stages.append(Stage("affine", (x,), value, {
                "factor0": factor, "zero0": np.full(1, z_x, np.int32), "shift": shift,
                "summand": np.zeros(x.columns, np.int64), "zero": np.full(1, z_y, np.int32),
                "start": np.full(1, start, np.int32)}, low))
            start += x.columns

    def _take(self, each: Instruction) -> None:
        x, value = each.reads[0], each.writes[0]
        columns = np.array(each.attributes["columns"], np.int32)
        if value is self.network.z:
            self._linear(each, [(x, np.ones(len(columns)))], np.zeros(len(columns)))
        else:
            self.scales[value] = self.scales[x]
            self.stages.append(Stage("take", (x,), value, {}))
        self.stages[-1].arrays["columns"] = columns

    def _table(self, each: Instruction) -> None:
        """A function of an element, as a table of 256 results."""
        x, value = each.reads[0], each.writes[0]
        s_x, z_x = self.scales[x]
        s_y, z_y = self._scale(value)
        numbers = ((np.arange(LOW, HIGH + 1) - z_x) * s_x).astype(self.network.dtype)
        results = KERNELS[each.op](numbers, **each.attributes).astype(np.float64)
        q = np.rint(np.nan_to_num(results) / s_y) + z_y
        if value is self.network.z:
            q = np.clip(q, -LARGEST_OUTPUT, LARGEST_OUTPUT).astype(np.int32)
        else:
            q = np.clip(q, LOW, HIGH).astype(np.int8)
        self.stages.append(Stage("table", (x,), value, {"table": q}))


QUANTIZE: dict[str, Callable[[Any, Instruction], None]] = {
    "dense": _Quantizer._dense, "scale": _Quantizer._affine, "scale_shift": _Quantizer._affine,
    "normalize_columns": _Quantizer._affine, "add": _Quantizer._add, "join": _Quantizer._join,
    "take_columns": _Quantizer._take,
}


def _floats(network: Network, X: Array) -> dict[Value, Array]:
    """All values in floating point."""
    values: dict[Value, Any] = {network.x: X, **network.constants}
    for each in network.instructions:
        if each.op not in KERNELS:
            continue  # which is refused later
        results = KERNELS[each.op](*(values[value] for value in each.reads), **each.attributes)
        results = results if isinstance(results, tuple) else (results,)
        values |= dict(zip(each.writes, results, strict=True))
    return values


def _fraction(ratio: Doubles) -> tuple[Array, Array]:
    """Whole numbers and shifts: ``ratio = factor / 2**shift``, with 30 bits."""
    _, exponents = np.frexp(np.maximum(ratio, 2.0**-30))
    shift = np.clip(FACTOR_BITS - exponents, 1, 60)
    return np.rint(ratio * 2.0**shift).astype(np.int32), shift.astype(np.int8)


def _rounded(v: Array, shift: Array) -> Array:
    """``v / 2**shift``, rounded to the nearest whole number, halves away from 0."""
    shift = shift.astype(np.int64)
    magnitude = (abs(v) + (np.int64(1) << (shift - 1))) >> shift
    return np.where(v < 0, -magnitude, magnitude)


def _finish(stage: Stage, values: dict[Value, Array], z: Value, v: Array) -> None:
    arrays = stage.arrays
    result = np.maximum(_rounded(v, arrays["shift"]) + arrays["zero"], stage.low)
    if stage.write is not z:
        result = np.minimum(result, HIGH)
    if "start" in arrays:
        start = int(arrays["start"][0])
        out = values.setdefault(stage.write, np.zeros((len(v), stage.write.columns), np.int64))
        out[:, start : start + v.shape[1]] = result
    else:
        values[stage.write] = result


def _run_dense(stage: Stage, values: dict[Value, Array], z: Value) -> None:
    total = values[stage.reads[0]] @ stage.arrays["W"].astype(np.int64) + stage.arrays["bias"]
    _finish(stage, values, z, total * stage.arrays["factor"])


def _run_linear(stage: Stage, values: dict[Value, Array], z: Value) -> None:
    v = stage.arrays["summand"]
    for i, x in enumerate(stage.reads):
        q = values[x]
        if "columns" in stage.arrays:
            q = q[:, stage.arrays["columns"]]
        v = v + (q - stage.arrays[f"zero{i}"]) * stage.arrays[f"factor{i}"].astype(np.int64)
    _finish(stage, values, z, v)


def _run_table(stage: Stage, values: dict[Value, Array], z: Value) -> None:
    values[stage.write] = stage.arrays["table"].astype(np.int64)[values[stage.reads[0]] - LOW]


def _run_take(stage: Stage, values: dict[Value, Array], z: Value) -> None:
    values[stage.write] = values[stage.reads[0]][:, stage.arrays["columns"]]


RUN: dict[str, Callable[[Stage, dict[Value, Array], Value], None]] = {
    "dense": _run_dense, "affine": _run_linear, "add": _run_linear, "table": _run_table,
    "take": _run_take,
}
