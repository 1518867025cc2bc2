"""Products of reduced precision: recorded tiles, the contract, and the bits of every tier."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp.kernels import (
    dense_backward_input,
    dense_backward_weights,
    dense_forward,
    dispatch,
    threads,
)

from ..cases import each
from .test_dispatch import SHAPES, compare, running

# What TDPBF16PS made of 96 pairs of tiles on a processor that has it: A (16, 32), B (32, 16) and C
# (16, 16) before, D after; numbers near 1, of any finite size, and small ones.
RECORDED = Path(__file__).parent.parent / "data" / "tdpbf16ps.npz"

LEAST = np.float32(2.0**-56)
PRECISIONS = "high", "medium"


def widened(bits):
    """float32 from the upper halves of its bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def fma(a, b, c):
    """a·b + c rounded once to float32, where a·b is exact in float64."""
    product, c = np.float64(a) * b, np.float64(c)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    # Rounding twice, to 53 bits and then to 24, is right if the first goes to odd.
    is_even = total.view(np.uint64) % 2 == 0
    inward = np.nextafter(total, np.where(error > 0, np.inf, -np.inf))
    return np.where((error != 0) & np.isfinite(error) & is_even, inward, total).astype(np.float32)


def flushed(x):
    """0 for subnormal numbers, as the instruction reads and writes them."""
    return np.where(abs(x) < np.float32(2.0**-126), np.float32(0), x)


def block(A, B):
    """The product of A (m, 32) and B (32, n): chains over even and over odd k, added."""
    chains = []
    for start in (0, 1):
        chain = np.zeros((len(A), B.shape[1]), np.float32)
        for k in range(start, 32, 2):
            chain = flushed(fma(A[:, k, None], B[k], chain))
        chains.append(chain)
    return flushed(chains[0] + chains[1])


def rounded(x):
    """The nearest bfloat16 number, ties to even; 0 below 2**-56."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    up = (bits.astype(np.uint64) + 0x7FFF + (bits >> 16) % 2) >> 16 << 16
    nearest = np.where(np.isnan(x), x, up.astype(np.uint32).view(np.float32))
    return np.where(abs(nearest) < LEAST, np.float32(0), nearest)


def terms(x, precision):
    hi = rounded(x)
    if precision == "medium":
        return [hi]
    return [hi, np.where(np.isfinite(hi), rounded(x - hi), np.float32(0))]


def promised(A, B, precision, cut=None):
    """A·B as simd/bfloat16.h says it; the sum starts again every `cut` numbers of k."""
    k = A.shape[1]
    padded = -(-k // 32) * 32
    A = [np.pad(each, [(0, 0), (0, padded - k)]) for each in terms(A, precision)]
    B = [np.pad(each, [(0, padded - k), (0, 0)]) for each in terms(B, precision)]
    order = [(0, 0)] if precision == "medium" else [(1, 0), (0, 1), (0, 0)]
    parts = []
    for p in range(0, padded, 32):
        if p % (cut or padded) == 0:
            parts.append(np.zeros((len(A[0]), B[0].shape[1]), np.float32))
        for a, b in order:
            parts[-1] = parts[-1] + block(A[a][:, p : p + 32], B[b][p : p + 32])
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def products(A, B, precision, bias=None):
    """A·B by each of the three functions."""
    bias = np.zeros(B.shape[1], np.float32) if bias is None else bias
    return {
        "forward": dense_forward(A, B, bias, precision=precision),
        "input": dense_backward_input(A, np.ascontiguousarray(B.T), precision=precision),
        "weights": dense_backward_weights(np.ascontiguousarray(A.T), B, precision=precision),
    }


def numbers(rng, shape, exponents=(-8, 9)):
    return np.ldexp(rng.normal(size=shape), rng.integers(*exponents, size=shape)).astype("f4")


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        tiles = dict(file)
    return widened(tiles["A"]), widened(tiles["B"]), tiles["C"], tiles["D"]


def test_the_contract_is_what_the_hardware_computed(recorded, same_bits):
    with np.errstate(over="ignore", invalid="ignore"):
        for i, (A, B, C, D) in enumerate(zip(*recorded, strict=True)):
            same_bits(flushed(flushed(C) + block(flushed(A), flushed(B))) + 0, D + 0, f"tile {i}")


@pytest.mark.parametrize("tier", dispatch.available())
def test_every_tier_gives_the_recorded_tiles(recorded, same_bits, tier):
    """C, a row at a time, as the bias: it is added to the block as the instruction adds it."""
    seen = 0
    for i, (A, B, C, D) in enumerate(zip(*recorded, strict=True)):
        if min(abs(A).min(), abs(B).min()) < LEAST:
            continue  # here they count as 0
        seen += 1
        with running(tier):
            Z = np.vstack([dense_forward(A[j : j + 1], B, C[j], precision="medium")
                           for j in range(16)])
        same_bits(Z + 0, D + 0, f"tile {i}")
    assert seen >= 32


@pytest.mark.parametrize("tier", ["scalar", dispatch.available()[-1]])
@given(shape=st.tuples(st.integers(1, 40), st.integers(1, 600), st.integers(1, 40)),
       precision=st.sampled_from(PRECISIONS), seed=st.integers(0, 2**32),
       exponents=st.sampled_from([(-8, 9), (-60, -50), (-40, 20)]))
@settings(max_examples=15, deadline=None)
def test_the_three_products_are_those_promised(tier, same_bits, shape, precision, seed, exponents):
    rng = np.random.default_rng(seed)
    m, k, n = shape
    A, B = numbers(rng, (m, k), exponents), numbers(rng, (k, n))
    bias = rng.normal(size=n).astype("f4")
    with running(tier):
        results = products(A, B, precision, bias)
    once, in_blocks = promised(A, B, precision), promised(A, B, precision, cut=256)
    tiny = np.float32(2.0**-100)
    same_bits(results["forward"], once + bias, "forward")
    same_bits(results["input"], np.where(abs(once) < tiny, 0, once) + np.float32(0), "input")
    same_bits(results["weights"],
              np.where(abs(in_blocks) < tiny, 0, in_blocks) + np.float32(0), "weights")


@pytest.mark.parametrize("tier", [name for name in dispatch.available() if name != "scalar"])
class TestSameBits:
    @given(shape=SHAPES, seed=st.integers(0, 2**32), offset=st.integers(0, 17))
    @settings(max_examples=30, deadline=None)
    def test_any_shape(self, tier, reduced_calls, same_bits, shape, seed, offset):
        m, k, n = shape
        compare(reduced_calls, same_bits, tier, "float32", seed, (-8, 9), offset, m=m, k=k, n=n)

    @pytest.mark.parametrize(
        "m, k, n", [(1, 1000, 1), (16, 32, 16), (17, 33, 49), (300, 64, 300), (33, 1100, 97),
                    (600, 40, 5), (2, 300, 700), (1, 70, 300)],
    )
    def test_around_and_beyond_blocks(self, tier, reduced_calls, same_bits, m, k, n):
        compare(reduced_calls, same_bits, tier, "float32", 0, (-1, 2), 3, m=m, k=k, n=n)

    def test_more_than_is_packed_at_a_time(self, tier, same_bits):
        rng = np.random.default_rng(0)
        A, B = numbers(rng, (70, 9000), (-1, 2)), numbers(rng, (9000, 66), (-1, 2))
        for precision in PRECISIONS:
            with running("scalar"):
                expected = products(A, B, precision)
            with running(tier):
                for name, result in products(A, B, precision).items():
                    same_bits(result, expected[name], f"{name} {precision}")

    @each("value", [np.nan, np.inf, -np.inf, 3.4e38, 1e-40, 2.0**-56, 1.42e-17])
    def test_numbers_at_the_limits(self, tier, same_bits, value):
        rng = np.random.default_rng(1)
        A, B = numbers(rng, (37, 65), (-1, 2)), numbers(rng, (65, 35), (-1, 2))
        A[3, 7] = B[40, 2] = value
        for precision in PRECISIONS:
            with np.errstate(all="ignore"):
                expected = promised(A, B, precision)
                with running(tier):
                    for name, result in products(A, B, precision).items():
                        same_bits(result, expected + 0, f"{name} {precision}")

    @each("n_threads", [2, 3, 4])
    def test_any_number_of_threads(self, tier, same_bits, n_threads):
        rng = np.random.default_rng(2)
        A, B = numbers(rng, (135, 300), (-1, 2)), numbers(rng, (300, 520), (-1, 2))
        before = threads.set_work_per_thread(0)
        try:
            with running(tier):
                for precision in PRECISIONS:
                    with threads.using(1):
                        alone = products(A, B, precision)
                    with threads.using(n_threads):
                        for name, result in products(A, B, precision).items():
                            same_bits(result, alone[name], f"{name} {precision}")
        finally:
            threads.set_work_per_thread(before)


@each("value, expected", [
    (1 + 2.0**-8, 1.0),  # a tie, to even
    (1 + 3 * 2.0**-8, 1 + 2.0**-6),
    (1 + 2.0**-8 + 2.0**-23, 1 + 2.0**-7),
    (2.0**-56, 2.0**-56),
    (2.0**-56 - 2.0**-65, 2.0**-56),  # rounded first
    (2.0**-56 - 2.0**-64, 0.0),
    (3.4e38, np.inf),
    (-1e-40, 0.0),
])
def test_operands_are_rounded_to_nearest_even(value, expected):
    X, one, zero = np.full((2, 1), value, "f4"), np.ones((1, 1), "f4"), np.zeros(1, "f4")
    for tier in dispatch.available():
        with running(tier):
            assert dense_forward(X, one, zero, precision="medium").tolist() == [[expected]] * 2
            assert dense_forward(X[:1], one, zero, precision="medium").tolist() == [[expected]]


@each("precision, bits", [("medium", 8), ("high", 16)])
def test_how_exact_it_is(precision, bits):
    rng = np.random.default_rng(3)
    A, B = rng.uniform(0.5, 1, (40, 400)), rng.uniform(0.5, 1, (400, 30))
    Z = dense_forward(A.astype("f4"), B.astype("f4"), np.zeros(30, "f4"), precision=precision)
    error = abs(Z - A @ B).max() / (A @ B).max()
    assert 2.0 ** -(bits + 8) < error < 2.0**-bits


def test_float64_has_the_highest_precision_only():
    X = np.ones((2, 2))
    with pytest.raises(ValueError, match=r"precision: expected .highest. with float64, got .high."):
        dense_backward_weights(X, X, precision="high")
    with pytest.raises(ValueError, match="precision: expected one of highest, high, medium, got 3"):
        dense_backward_input(X, X, precision=3)


@pytest.mark.skipif("amx" not in dispatch.available(), reason="this processor has no AMX")
def test_where_the_system_refuses_amx():
    """Linux refuses while a signal handler's stack is too small to save the tiles."""
    code = """
import ctypes
class Stack(ctypes.Structure):
    _fields_ = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]
memory = ctypes.create_string_buffer(1 << 13)
stack = Stack(ctypes.addressof(memory), 0, 1 << 13)
assert ctypes.CDLL(None).sigaltstack(ctypes.byref(stack), None) == 0
import fastbp
from fastbp.kernels import dispatch
assert "amx" not in dispatch.available() and "amx" in dispatch.compiled()
fastbp.show_config()
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert "by fused multiply-adds (the system refuses AMX)" in run.stdout
