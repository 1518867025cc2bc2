"""The tiers: how one is chosen, and that every kernel gives the same bits in all of them."""

import os
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastbp import kernels
from fastbp.kernels import dispatch, ops

from ..cases import each

pytestmark = pytest.mark.once

TIERS = dispatch.available()
OTHERS = [tier for tier in TIERS if tier != "scalar"]


@contextmanager
def running(tier):
    before = dispatch.isa()
    dispatch.use(tier)
    try:
        yield
    finally:
        dispatch.use(before)


class TestChoice:
    def isa(self, value):
        """What a new process does with FASTBP_ISA; None is unset."""
        environment = {name: v for name, v in os.environ.items() if name != "FASTBP_ISA"}
        if value is not None:
            environment["FASTBP_ISA"] = value
        code = "from fastbp.kernels import dispatch; print(dispatch.isa())"
        return subprocess.run([sys.executable, "-c", code], env=environment, text=True,
                              capture_output=True, check=False)

    @pytest.mark.parametrize("tier", TIERS)
    def test_environment_names_a_tier(self, tier):
        run = self.isa(tier)
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == tier

    @pytest.mark.parametrize("value", [None, ""])
    def test_the_best_is_taken_where_the_environment_names_none(self, value):
        run = self.isa(value)
        assert run.returncode == 0, run.stderr
        assert run.stdout.strip() == TIERS[-1]

    @pytest.mark.parametrize(
        "value", ["mmx", "SCALAR", " scalar", *set(dispatch.compiled()) - set(TIERS)]
    )
    def test_environment_names_no_usable_tier(self, value):
        run = self.isa(value)
        assert run.returncode != 0
        message = run.stderr.strip().splitlines()[-1]
        assert message.startswith("ValueError: environment variable FASTBP_ISA")
        assert repr(value) in message
        assert "scalar" in message  # one that would do

    def test_scalar_is_always_there_and_first(self):
        assert TIERS[0] == "scalar"
        assert set(TIERS) <= set(dispatch.compiled())
        assert len(set(dispatch.compiled())) == len(dispatch.compiled())

    @pytest.mark.parametrize("tier", TIERS)
    def test_use(self, tier):
        before = dispatch.isa()
        with running(tier):
            assert dispatch.isa() == tier
        assert dispatch.isa() == before

    @each("name", ["mmx", "", "SCALAR", None, 0, b"scalar", ["scalar"]])
    def test_use_of_an_unknown_tier(self, name):
        before = dispatch.isa()
        with pytest.raises(ValueError, match="cannot be used: built are") as caught:
            dispatch.use(name)
        assert repr(name) in str(caught.value)
        assert dispatch.isa() == before

    def test_use_of_a_tier_that_this_machine_lacks(self):
        for name in set(dispatch.compiled()) - set(TIERS):
            with pytest.raises(ValueError, match="lacks its instructions"):
                dispatch.use(name)

    def test_build_info(self):
        info = dispatch.build_info()
        assert set(info) == {"compiler", "openmp"}
        assert info["compiler"]


def embedded(array, offset):
    """The same array inside a larger one that is NaN elsewhere, and that larger one."""
    if array.dtype.kind != "f":
        return array, array
    memory = np.full(array.size + offset + 40, np.nan, array.dtype)
    inside = memory[offset : offset + array.size].reshape(array.shape)
    inside[...] = array
    return inside, memory


def run_embedded(call, arrays, offset=0, **sizes):
    """What a call gives on arrays amid NaNs, of which it must change none but its own."""
    pairs = {name: embedded(array, offset) for name, array in arrays.items()}
    inside = {name: pair[0] for name, pair in pairs.items()}
    outside = [memory for _, memory in pairs.values()]
    more = {}
    if call.out:
        shape = call.shape(call.out, **sizes)
        dtype = next(iter(arrays.values())).dtype
        more["out"], memory = embedded(np.full(shape, np.nan, dtype), offset)
        outside.append(memory)
    results = call.run(inside, **more)
    written = [inside[name] for name in call.changed] + list(more.values())
    for memory in outside:
        if memory.dtype.kind == "f":
            assert np.isnan(memory[:offset]).all(), "written before the first element"
            assert np.isnan(memory[-40:]).all(), "written past the last element"
    for name, array in inside.items():
        if not any(array is one for one in written):
            np.testing.assert_array_equal(array, arrays[name], f"{name} was changed")
    return results


def compare(calls, same_bits, tier, dtype, seed, exponents, offset=0, names=None, **sizes):
    """Every kernel on a tier has the bits that it has on the scalar one."""
    for name in names or calls:
        call = calls[name]
        if 0 in call.shape(call.not_empty, **sizes):
            continue  # refused
        arrays = call.make(dtype, **sizes, seed=seed, exponents=exponents)
        with np.errstate(all="ignore"):
            with running("scalar"):
                expected = call.run({key: array.copy() for key, array in arrays.items()})
            with running(tier):
                results = run_embedded(call, arrays, offset, **sizes)
        for result, right in zip(results, expected, strict=True):
            same_bits(result, right, f"{name} {dtype} {sizes} on {tier}:")


# One, primes, and the sizes of vectors, register tiles and cache blocks with their neighbours.
SIZES = st.one_of(
    st.integers(0, 40),
    st.sampled_from([47, 48, 49, 53, 56, 57, 63, 64, 65, 83, 84, 85, 96, 97, 113, 127, 128, 129,
                     191, 192, 193, 255, 256, 257, 383, 384, 385, 511, 512, 513, 769, 1025]),
)
SHAPES = st.tuples(SIZES, SIZES, SIZES).filter(lambda s: s[0] * s[1] * s[2] <= 100_000)


@pytest.mark.parametrize("tier", OTHERS)
class TestSameBits:
    @given(shape=SHAPES, seed=st.integers(0, 2**32), offset=st.integers(0, 17))
    @settings(max_examples=60, deadline=None)
    def test_any_shape(self, tier, calls, same_bits, dtype, shape, seed, offset):
        m, k, n = shape
        compare(calls, same_bits, tier, dtype, seed, (-8, 9), offset, m=m, k=k, n=n)

    @pytest.mark.parametrize(
        "m, k, n",
        [(1, 1, 1), (1, 1000, 1), (15, 257, 33), (14, 256, 32), (28, 512, 64), (29, 513, 65),
         (6, 255, 16), (7, 769, 17), (257, 31, 129), (1031, 3, 37), (97, 300, 530), (300, 64, 300)],
    )
    def test_around_and_beyond_blocks(self, tier, calls, same_bits, dtype, m, k, n):
        compare(calls, same_bits, tier, dtype, 0, (-1, 2), 3, m=m, k=k, n=n)

    @pytest.mark.parametrize(
        "m, k, n",
        [(230, 1100, 150), (530, 600, 40), (290, 70, 610), (16, 700, 23), (523, 300, 1),
         (150, 1024, 150), (130, 576, 640),
         (520, 300, 3)],
    )
    def test_large_and_narrow_products(self, tier, calls, same_bits, dtype, m, k, n):
        # Where operands are copied closer together, or transposed, and panel by panel.
        dense = [name for name in calls if name.startswith("dense")]
        compare(calls, same_bits, tier, dtype, 0, (-1, 2), names=dense, m=m, k=k, n=n)

    def test_more_work_than_one_look_at_signals(self, tier, same_bits):
        # Above 2**30 multiply-adds the rows go panel by panel.
        rng = np.random.default_rng(0)
        X, W, b = (rng.random(shape, np.float32) for shape in ((1100, 1000), (1000, 1000), (1000,)))
        with running(tier):
            whole = kernels.dense_forward(X, W, b)
            for rows in (slice(0, 600), slice(600, 1100)):
                same_bits(kernels.dense_forward(X[rows], W, b), whole[rows])

    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=20, deadline=None)
    def test_numbers_of_every_size(self, tier, calls, same_bits, dtype, seed):
        info = np.finfo(dtype)
        low, high = info.minexp - info.nmant, info.maxexp
        for exponents in ((low, high), (low, low // 2), (high // 3, high)):
            compare(calls, same_bits, tier, dtype, seed, exponents, m=3, k=40, n=37)

    @given(data=st.data(), seed=st.integers(0, 2**32))
    @settings(max_examples=40, deadline=None)
    def test_special_numbers(self, tier, calls, same_bits, dtype, data, seed):
        info, rng = np.finfo(dtype), np.random.default_rng(seed)
        special = np.array([0, -0.0, np.inf, -np.inf, np.nan, 1, -1, info.max, info.min, info.eps,
                            info.smallest_normal, info.smallest_subnormal, 20, -0.625], dtype)
        m, k, n = (data.draw(st.integers(1, 35)) for _ in range(3))
        share = data.draw(st.sampled_from([0.02, 0.3, 1.0]))
        for name, call in calls.items():
            arrays = call.make(dtype, m, k, n, seed)
            for key, array in arrays.items():
                if key in ("y", "sample_weight", "codes", "edges", "bins"):
                    continue  # checked by NumPy, not by a tier
                array[...] = np.where(rng.random(array.shape) < share,
                                      rng.choice(special, array.shape), array)
            with running("scalar"):
                expected = call.run({key: array.copy() for key, array in arrays.items()})
            with running(tier):
                results = run_embedded(call, arrays, 1, m=m, k=k, n=n)
            for result, right in zip(results, expected, strict=True):
                same_bits(result, right, f"{name} on {tier}:")

    @given(seed=st.integers(0, 2**32))
    @settings(max_examples=10, deadline=None)
    def test_functions_of_any_bits(self, tier, same_bits, dtype, seed):
        kind = f"u{dtype.itemsize}"
        bits = np.random.default_rng(seed).integers(2 ** (8 * dtype.itemsize), size=20_000,
                                                    dtype=kind)
        for name in (*ops.ACTIVATIONS, *ops.FUNCTIONS):
            function = getattr(kernels, name)
            with running("scalar"):
                expected = function(bits.view(dtype))
            with running(tier):
                same_bits(function(bits.view(dtype)), expected, f"{name} on {tier}:")

    def test_in_place(self, tier, calls, same_bits, dtype):
        for name, call in calls.items():
            for argument in call.in_place:
                arrays = call.make(dtype, 5, 7, 45)
                with running("scalar"):
                    expected = call.run(arrays)
                with running(tier):
                    results = call.run(arrays, out=arrays[argument])
                for result, right in zip(results, expected, strict=True):
                    same_bits(result, right, f"{name} over {argument} on {tier}:")


@pytest.mark.parametrize("tier", TIERS)
class TestEveryTier:
    @each(
        "m, k, n", [(1, 1, 1), (2, 3, 5), (5, 16, 15), (3, 17, 33), (15, 31, 47), (2, 300, 19)]
    )
    def test_reads_and_writes_within_its_arrays(self, tier, calls, same_bits, dtype, m, k, n):
        # Amid NaNs, which would show in a result if they were read.
        compare(calls, same_bits, tier, dtype, 0, (-1, 2), 5, m=m, k=k, n=n)

    @each("name", kernels.__all__)
    def test_no_subnormal_number_comes_out(self, tier, name, calls, dtype):
        info = np.finfo(dtype)
        gradient = 2.0**-100 if dtype == np.float32 else 2.0**-960
        low = info.minexp - info.nmant
        for call in (call for call in calls.values() if call.kernel == name):
            least = gradient if call.gradient else info.smallest_normal
            for exponents in ((low, info.minexp + 5), (low, 5), (info.minexp // 2 - 5, 0)):
                for seed, n in enumerate((1, 17, 300)):
                    arrays = call.make(dtype, 3, 4, n, seed, exponents)
                    with running(tier), np.errstate(all="ignore"):
                        results = call.run(arrays)
                    for result in results:
                        if result.ndim == 0:
                            continue  # a loss or a norm: one number in float64
                        wrong = (result != 0) & (abs(result) < least)
                        assert not wrong.any(), f"{call}: {result[wrong][0]!r}"


def test_every_kernel_is_called(calls):
    assert {call.kernel for call in calls.values()} == set(kernels.__all__)
