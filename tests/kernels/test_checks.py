"""Argument checks: by themselves, and as every kernel applies them to its arrays and `out`."""

import inspect
from decimal import Decimal
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from fastbp import kernels
from fastbp.kernels import checks

from ..cases import each


def swapped(array):
    """The same numbers in the other byte order."""
    return array.astype(array.dtype.newbyteorder())


def unaligned(array):
    memory = bytearray(array.nbytes + 1)
    result = np.frombuffer(memory, array.dtype, array.size, offset=1).reshape(array.shape)
    result[...] = array
    return result


def read_only(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def strided(array):
    """Every second element, along all axes, of an array that is NaN elsewhere."""
    memory = np.full([2 * size for size in array.shape], 0 if array.dtype.kind == "i" else np.nan,
                     array.dtype)
    every_second = (slice(None, None, 2),) * array.ndim
    memory[every_second] = array
    return memory[every_second]


def backwards(array):
    all_axes = (slice(None, None, -1),) * array.ndim
    return array[all_axes].copy()[all_axes]


LAYOUTS = {
    "transposed": lambda array: array.T.copy().T,
    "strided": strided,
    "backwards": backwards,
    "read-only": read_only,
    "unaligned": unaligned,
    "a list": lambda array: array.tolist(),
    "a view of a subclass": lambda array: array.view(np.recarray),
}

WITH_OUT = [name for name in kernels.__all__
            if "out" in inspect.signature(getattr(kernels, name)).parameters]
# Those whose result has the shape of an input, which it may take the place of.
MAPS = [name for name in WITH_OUT
        if not name.startswith(("dense", "embedding", "column", "prelu_slope", "periodic",
                                "piecewise", "orthogonalize", "repeat", "separate", "sum"))]
FLOATS = (np.dtype("f4"), np.dtype("f8"))


def other(dtype):
    return np.dtype("f8") if dtype == np.float32 else np.dtype("f4")


class TestKernelsTake:
    @each("layout", LAYOUTS)
    @each("name", kernels.__all__)
    def test_any_layout(self, name, layout, calls, dtype, same_bits):
        call = calls[name]
        if layout == "a list":
            dtype = np.dtype(np.float64)  # which is what a list of floats becomes
        arrays = call.make(dtype)
        expected = call.run({key: array.copy() for key, array in arrays.items()})
        for argument in arrays:
            if argument in call.changed:
                continue  # TestBoth in test_optimizers.py
            one = {key: array.copy() for key, array in arrays.items()}
            one[argument] = LAYOUTS[layout](one[argument])
            for result, right in zip(call.run(one), expected, strict=True):
                same_bits(result, right, f"{argument} {layout}:")

    def test_the_other_byte_order(self, calls, dtype, same_bits):
        for name, call in calls.items():
            arrays = call.make(dtype)
            expected = call.run({key: array.copy() for key, array in arrays.items()})
            for argument in set(arrays) - set(call.changed):
                one = {key: array.copy() for key, array in arrays.items()}
                one[argument] = swapped(one[argument])
                for result, right in zip(call.run(one), expected, strict=True):
                    same_bits(result, right, f"{name}, {argument}:")

    @each("name", kernels.__all__)
    def test_a_memmap(self, name, calls, dtype, same_bits, tmp_path):
        call = calls[name]
        arrays = call.make(dtype)
        expected = call.run({key: array.copy() for key, array in arrays.items()})
        maps = {}
        for key, array in arrays.items():
            maps[key] = np.memmap(tmp_path / key, dtype, "w+", shape=array.shape)
            maps[key][...] = array
        for result, right in zip(call.run(maps), expected, strict=True):
            same_bits(np.asarray(result), right)

    @each("name", kernels.__all__)
    def test_and_leave_their_inputs_alone(self, name, calls, dtype):
        for call in calls.values():
            if call.kernel == name:
                arrays = call.make(dtype)
                kept = {key: array.copy() for key, array in arrays.items()}
                call.run(arrays)
                for key in set(arrays) - set(call.changed):
                    np.testing.assert_array_equal(arrays[key], kept[key], key)


class TestKernelsRefuse:
    KINDS = (
        ("integers", lambda a: np.ones(a.shape, np.int64)),
        ("small integers", lambda a: np.ones(a.shape, np.uint8)),
        ("booleans", lambda a: np.ones(a.shape, bool)),
        ("half precision", lambda a: a.astype(np.float16)),
        ("longdouble", lambda a: a.astype(np.longdouble)),
        ("complex", lambda a: a.astype(complex)),
        ("objects", lambda a: a.astype(object)),
        ("text", lambda a: a.astype(str)),
        ("dates", lambda a: np.ones(a.shape, "M8[s]")),
        ("fields", lambda a: np.ones(a.shape, [("x", "f8")])),
        ("nothing", lambda a: None),
        ("a word", lambda a: "word"),
        ("a dictionary", lambda a: {}),
        ("the other dtype", lambda a: a.astype(other(a.dtype))),
    )

    @each("name", kernels.__all__)
    def test_other_types(self, name, calls):
        call, dtype = calls[name], np.dtype(np.float64)
        for (kind, make), (position, argument) in product(self.KINDS, enumerate(call.arrays)):
            if kind == "the other dtype" and position == 0:
                continue  # then the second one is named
            if kind == "nothing" and argument in ("sample_weight", "velocity", "B", "beta"):
                continue  # they are optional
            if argument in ("codes", "bins"):
                continue  # of any type of numbers: test_embeddings.py
            if kind == "longdouble" and np.dtype(np.longdouble) in FLOATS:
                continue
            arrays = call.make(dtype)
            arrays[argument] = make(arrays[argument])
            with pytest.raises(TypeError, match=rf"^{argument}: expected"):
                call.run(arrays)

    @each("name", kernels.__all__)
    def test_lists_of_whole_numbers_and_of_different_lengths(self, name, calls):
        call = calls[name]
        for argument, letters in call.arrays.items():
            arrays = call.make(np.dtype(np.float64))
            if argument in ("codes", "bins"):
                continue
            arrays[argument] = np.ones(arrays[argument].shape, int).tolist()
            with pytest.raises(TypeError, match=rf"^{argument}: expected"):
                call.run(arrays)
            if len(letters) == 2 and argument not in call.changed:
                arrays[argument] = [[1.0, 2.0], [3.0]]
                with pytest.raises(ValueError, match=rf"\b{argument}\b"):
                    call.run(arrays)

    @each("name", kernels.__all__)
    def test_arrays_that_do_not_fit_the_first(self, name, calls):
        call, dtype = calls[name], np.dtype(np.float64)
        if len(call.arrays) == 1:
            return  # nothing to fit
        for argument in list(call.arrays)[1:]:
            arrays = call.make(dtype)
            shape = arrays[argument].shape
            for wrong in ((*shape, 1), (1, *shape), tuple(size + 1 for size in shape), ()):
                arrays[argument] = np.full(wrong, 0.5, dtype)
                with pytest.raises(ValueError, match=rf"^{argument}: expected"):
                    call.run(arrays)


class TestKernelsWriteTo:
    @each("name", WITH_OUT)
    def test_out(self, name, calls, dtype, same_bits):
        call = calls[name]
        arrays = call.make(dtype)
        *_, expected = call.run(arrays)
        out = np.full_like(expected, np.nan)
        result = getattr(kernels, name)(**arrays, **call.options, out=out)
        if isinstance(result, tuple):
            result = result[1 if np.ndim(result[0]) == 0 else 0]
        assert result is out
        same_bits(out, expected)

    @each("name", WITH_OUT)
    def test_no_out(self, name, calls, dtype):
        call = calls[name]
        arrays = call.make(dtype)
        first, second = call.run(arrays)[-1], call.run(arrays)[-1]
        assert not np.shares_memory(first, second)
        assert first.flags.c_contiguous
        assert first.flags.writeable
        assert first.flags.owndata

    @each("name", WITH_OUT)
    def test_a_memmap(self, name, calls, dtype, same_bits, tmp_path):
        call = calls[name]
        arrays = call.make(dtype)
        *_, expected = call.run(arrays)
        out = np.memmap(tmp_path / "out", dtype, "w+", shape=expected.shape)
        call.run(arrays, out=out)
        same_bits(np.asarray(out), expected)

    UNFIT = (
        ("a list", lambda a: a.tolist(), TypeError),
        ("a number", lambda a: 0.0, TypeError),
        ("a buffer", memoryview, TypeError),
        ("the other dtype", lambda a: a.astype(other(a.dtype)), TypeError),
        ("integers", lambda a: np.ones(a.shape, f"i{a.itemsize}"), TypeError),
        ("swapped bytes", swapped, TypeError),
        ("objects", lambda a: a.astype(object), TypeError),
        ("one more", lambda a: np.resize(a, (a.shape[0] + 1, *a.shape[1:])), ValueError),
        ("flat or one axis more", lambda a: a.reshape(-1, 1), ValueError),
        ("strided", strided, ValueError),
        ("backwards", backwards, ValueError),
        ("read-only", read_only, ValueError),
        ("unaligned", unaligned, ValueError),
        ("one number broadcast", lambda a: np.broadcast_to(a[:1] * 0, a.shape), ValueError),
    )

    @each("name", WITH_OUT)
    def test_nothing_unfit(self, name, calls, dtype):
        call = calls[name]
        arrays = call.make(dtype)
        *_, expected = call.run(arrays)
        for kind, make, error in self.UNFIT:
            with pytest.raises(error, match=r"^out\b"):
                call.run(arrays, out=make(expected))
                pytest.fail(kind)

    def test_transposed_out(self, calls, dtype):
        tried = 0
        for call in calls.values():
            if call.kernel in WITH_OUT:
                *_, expected = call.run(call.make(dtype))
                if expected.ndim == 2:
                    tried += 1
                    with pytest.raises(ValueError, match=r"^out: expected a C-contiguous array"):
                        call.run(call.make(dtype), out=np.empty_like(expected, order="F"))
        assert tried > 20

    @each("name", MAPS)
    def test_its_own_input(self, name, calls, dtype, same_bits):
        for call in (call for call in calls.values() if call.kernel == name):
            assert call.in_place
            *_, expected = call.run(call.make(dtype))
            for argument in call.in_place:
                arrays = call.make(dtype)
                *_, result = call.run(arrays, out=arrays[argument])
                assert result is arrays[argument]
                same_bits(result, expected, f"over {argument}")

    @each("name", MAPS)
    def test_its_own_input_by_another_name(self, name, calls, dtype, same_bits, tmp_path):
        call = calls[name]
        *_, expected = call.run(call.make(dtype))
        for argument in call.in_place:
            arrays = call.make(dtype)
            inside = np.memmap(tmp_path / argument, dtype, "w+", shape=arrays[argument].shape)
            inside[...] = arrays[argument]
            for array, out in ((inside, inside), (arrays[argument], arrays[argument][:])):
                call.run(arrays | {argument: array}, out=out)
                same_bits(np.asarray(out), expected, f"over {argument}")

    @each("name", [name for name in MAPS if name.endswith("_backward")])
    def test_one_array_that_is_both_inputs(self, name, calls, same_bits):
        # Element i is read before element i is written, whichever argument it came by.
        call = calls[name]
        arrays = call.make(np.dtype(np.float64))
        first, second = call.in_place
        both = arrays[first]
        *_, expected = call.run(arrays | {first: both.copy(), second: both.copy()})
        *_, result = call.run(arrays | {first: both, second: both}, out=both)
        same_bits(result, expected)

    @each("name", WITH_OUT)
    @each("shift", [-2, 0, 1, 2])
    def test_no_part_of_an_input(self, name, shift, calls, dtype):
        call = calls[name]
        arrays = call.make(dtype)
        *_, expected = call.run(arrays)
        for argument in arrays:
            if shift == 0 and argument in call.in_place:
                continue
            memory = np.zeros(100, dtype)
            inside = memory[5 : 5 + arrays[argument].size].reshape(arrays[argument].shape)
            inside[...] = arrays[argument]
            out = memory[5 + shift : 5 + shift + expected.size].reshape(expected.shape)
            with pytest.raises(ValueError, match=r"^out overlaps"):
                call.run(arrays | {argument: inside}, out=out)
            np.testing.assert_array_equal(inside, arrays[argument])

    @each("name", WITH_OUT)
    def test_a_neighbour_in_memory(self, name, calls, dtype):
        call = calls[name]
        arrays = call.make(dtype)
        *_, expected = call.run(arrays)
        for argument, array in arrays.items():
            memory = np.zeros(200, dtype)
            inside = memory[: array.size].reshape(array.shape)
            inside[...] = array
            out = memory[array.size : array.size + expected.size].reshape(expected.shape)
            call.run(arrays | {argument: inside}, out=out)
            np.testing.assert_array_equal(out, expected)

    def test_memory_of_an_input_that_had_to_be_copied(self):
        Z = np.array([[1.0, -2.0], [3.0, -4.0]])
        assert kernels.relu(Z.T, out=Z).tolist() == [[1.0, 3.0], [0.0, 0.0]]


class TestFloats:
    def test_returns_what_needs_no_copy(self, dtype):
        for array in (np.ones((2, 3), dtype), np.ones((), dtype), np.ones((0, 2), dtype),
                      read_only(np.ones(3, dtype))):
            assert checks.floats("X", array) is array

    @each("layout", ["transposed", "strided", "backwards", "unaligned"])
    def test_copies_what_cannot_be_walked(self, layout, dtype):
        array = np.arange(12, dtype=dtype).reshape(3, 4)
        result = checks.floats("X", LAYOUTS[layout](array))
        assert result.flags.c_contiguous
        assert result.flags.aligned
        np.testing.assert_array_equal(result, array)

    def test_converts_the_other_byte_order(self, dtype):
        array = np.arange(12, dtype=dtype).reshape(3, 4)
        for required in (None, dtype):
            result = checks.floats("X", swapped(array), dtype=required)
            assert result.dtype == dtype
            assert result.dtype.isnative
            np.testing.assert_array_equal(result, array)

    def test_numbers_and_lists(self):
        assert checks.floats("X", 1.5).shape == ()
        assert checks.floats("X", [[1.5, 2.0]]).dtype == np.float64
        assert checks.floats("X", np.float32(3)).dtype == np.float32

    @each(
        "value, hint",
        [(np.ones(2, int), r"X\.astype\(np\.float32\)"), (np.ones(2, bool), r"X\.astype"),
         (np.ones(2, np.float16), r"X\.astype"), (1j, r"\.real or \.imag"), ("a", "text"),
         (object(), "text and mixed objects"), (None, "objects"), (np.ones(2, "M8[s]"), "dtype")],
    )
    def test_other_types(self, value, hint):
        with pytest.raises(TypeError, match=rf"^X: expected a float32 or float64 array.*{hint}"):
            checks.floats("X", value)

    def test_rows_of_different_lengths(self):
        with pytest.raises(ValueError, match=r"^X: expected an array of numbers, but"):
            checks.floats("X", [[1.0], [1.0, 2.0]])

    def test_required_dtype(self, dtype):
        assert checks.floats("X", np.ones(2, dtype), dtype=dtype).dtype == dtype
        with pytest.raises(TypeError, match=rf"^X: expected dtype {dtype}.* got {other(dtype)}"):
            checks.floats("X", np.ones(2, other(dtype)), dtype=dtype)

    def test_required_dimensions(self):
        for ndim in range(4):
            array = np.ones((1,) * ndim)
            assert checks.floats("X", array, ndim) is array
            for wrong in {0, 1, 2, 3} - {ndim}:
                with pytest.raises(ValueError, match=rf"^X: expected {wrong} dimension.*{ndim}"):
                    checks.floats("X", array, wrong)
        with pytest.raises(ValueError, match=r"X\[None, :\].* X\[:, None\]"):
            checks.floats("X", np.ones(3), 2)


class TestRealNumbers:
    @each("kind", ["f2", "f4", "f8", ">f8", "g", "i1", "u8", "?"])
    def test_kinds(self, kind):
        array = np.ones((2, 2), kind)
        assert checks.real_numbers("y", array) is array
        assert checks.data("y", array) is array

    @each("value", [1j, "a", None, object(), np.ones(2, "m8[s]"), b"a"])
    def test_no_numbers(self, value):
        for check in (checks.real_numbers, checks.data):
            with pytest.raises(TypeError, match=r"^y: expected an array of real numbers"):
                check("y", value)

    def test_rows_of_different_lengths(self):
        for check in (checks.real_numbers, checks.data):
            with pytest.raises(ValueError, match=r"^y: expected an array of numbers, but"):
                check("y", [[1], [1, 2]])

    @pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
    def test_data_is_not_empty(self, shape):
        assert checks.real_numbers("y", np.ones(shape)).shape == shape
        with pytest.raises(ValueError, match=r"^y: expected at least one row"):
            checks.data("y", np.ones(shape))

    @each("bad", [np.nan, np.inf, -np.inf])
    def test_data_is_finite(self, bad, dtype):
        X = np.ones((3, 4), dtype)
        X[2, 1] = X[2, 3] = bad
        with pytest.raises(ValueError, match=rf"^X: expected finite numbers, got {bad} in row 2, "
                                             r"column 1;"):
            checks.data("X", X)
        with pytest.raises(ValueError, match="in row 102, column 1;"):
            checks.finite("X", X, first_row=100)
        with pytest.raises(ValueError, match=rf"^y: .* got {bad} in row 2;"):
            checks.data("y", X[:, 1])
        with pytest.raises(ValueError, match=rf"^y: .* got {bad} in it;"):
            checks.data("y", X[2, 1])
        assert checks.finite("X", X[:2]) is None
        assert checks.finite("X", np.ones(3, int)) is None


class TestShape:
    @each("expected", [(2, 3), (None, 3), (2, None), (None, None)])
    def test_fits(self, expected):
        assert checks.shape("X", np.ones((2, 3)), expected, "why") is None

    @each(
        "expected, text", [((3, 2), "(3, 2)"), ((None, 2), "(any, 2)"), ((2,), "(2,)"),
                           ((), "()"), ((2, 3, None), "(2, 3, any)"), ((None,), "(any,)")]
    )
    def test_does_not_fit(self, expected, text):
        with pytest.raises(ValueError, match=r"^X: expected shape") as caught:
            checks.shape("X", np.ones((2, 3)), expected, "to match Z's rows")
        assert str(caught.value) == f"X: expected shape {text} to match Z's rows, got (2, 3)"


class TestOutput:
    def test_new(self, dtype):
        out = checks.output(None, (2, 3), dtype)
        assert out.shape == (2, 3)
        assert out.dtype == dtype

    def test_given(self, dtype):
        out, X = np.ones((2, 3), dtype), np.ones((2, 3), dtype)
        assert checks.output(out, (2, 3), dtype, X=X, W=None) is out
        assert checks.output(X, [2, 3], dtype, in_place=[X]) is X

    def test_overlap_is_named(self):
        X = np.ones((2, 3))
        with pytest.raises(ValueError, match=r"^room overlaps X,"):
            checks.output(X, (2, 3), X.dtype, "room", X=X)
        memory = np.ones(7)
        with pytest.raises(ValueError, match=r"^out overlaps an input without being the same"):
            checks.output(memory[1:], (6,), X.dtype, in_place=[memory[:6]])

    def test_same(self):
        a = np.ones((2, 3))
        assert checks.same(a, a)
        assert checks.same(a, a[:])
        assert not checks.same(a, a[:1])
        assert not checks.same(a, a.reshape(3, 2))
        assert not checks.same(a, a.copy())

    @each(
        "array, error, text",
        [([1.0], TypeError, "numpy.ndarray, got list"), (1.0, TypeError, "got float"),
         (np.ones(2, int), TypeError, "float32 or float64, got int64"),
         (swapped(np.ones(2)), TypeError, "got [<>]f8|byte order"),
         (np.ones(4)[::2], ValueError, r"strides \(16,\) for shape \(2,\).*ascontiguousarray"),
         (unaligned(np.ones(2)), ValueError, "aligned"), (read_only(np.ones(2)), ValueError,
                                                          "read-only")],
    )
    def test_writable(self, array, error, text):
        with pytest.raises(error, match=rf"^v: expected .*({text})"):
            checks.writable("v", array)

    def test_writable_dtype(self, dtype):
        assert checks.writable("v", np.ones(2, dtype), dtype) is None
        with pytest.raises(TypeError, match=rf"^v: expected dtype {dtype}, got {other(dtype)}"):
            checks.writable("v", np.ones(2, other(dtype)), dtype)


class TestNumber:
    @each(
        "value", [2, 2.0, np.float32(2), np.int8(2), np.array(2.0), Fraction(2), Decimal(2)]
    )
    def test_real_numbers(self, value):
        result = checks.number("rate", value, 0, 3)
        assert result == 2.0
        assert type(result) is float

    def test_bounds(self):
        for value in (0, 0.5, 1):
            assert checks.number("rate", value, 0, 1) == value
        for value, options in (
            (-1e-300, {}), (1 + 1e-15, {}), (0, {"low_open": True}), (1, {"high_open": True}),
            (np.nan, {}), (np.inf, {}), (-np.inf, {}),
        ):
            with pytest.raises(ValueError, match=r"^rate: expected a finite number and .*, got"):
                checks.number("rate", value, 0, 1, **options)
        for value in (np.nan, np.inf, -np.inf):
            with pytest.raises(ValueError, match=r"^rate: expected a finite number, got"):
                checks.number("rate", value)

    @each(
        "options, text",
        [({"low": 0}, "at least 0"), ({"low": 0, "low_open": True}, "above 0"),
         ({"high": -2}, "at most -2"), ({"high": -2, "high_open": True}, "below -2"),
         ({"low": 0, "high": 1}, "at least 0 and at most 1")],
    )
    def test_message_says_what_is_wanted(self, options, text):
        with pytest.raises(ValueError, match=rf"a finite number and {text}, got -1$"):
            checks.number("rate", -1, **options)

    @each(
        "value", ["2", np.str_("2"), "nan", b"2", bytearray(b"2"), None, 2j, [2.0], (), {},
                  object(), np.array([2.0]), np.ones(2)]
    )
    def test_no_numbers(self, value):
        with pytest.raises(TypeError, match=r"^rate: expected a number, got"):
            checks.number("rate", value)

    def test_a_whole_number_too_large_for_a_float(self):
        with pytest.raises(ValueError, match=r"^rate: expected a finite number"):
            checks.number("rate", 10**400)


class TestWhole:
    @each("value", [3, np.int8(3), np.uint64(3), np.array(3), 10**30])
    def test_whole_numbers(self, value):
        result = checks.integer("step", value, 3)
        assert result == value
        assert type(result) is int

    @each("value", [2, -5, True, False, np.int64(2), -(10**30)])
    def test_too_small(self, value):
        with pytest.raises(ValueError, match=r"^step: expected a whole number of at least 3, got"):
            checks.integer("step", value, 3)

    @each("value", [3.0, "3", None, 3j, [3], np.ones(1), np.float32(3), np.nan])
    def test_no_whole_numbers(self, value):
        with pytest.raises(TypeError, match=r"^step: expected a whole number, got"):
            checks.integer("step", value, 3)

    @each("value", [True, False, np.True_, np.False_])
    def test_a_truth_is_no_count(self, value):
        with pytest.raises((TypeError, ValueError), match=r"^step: expected a whole number"):
            checks.integer("step", value, 0)


class TestNothingIsLeftOut:
    """What NumPy would take for something else than it is."""

    CHECKS = (checks.floats, checks.real_numbers, checks.data)

    @pytest.mark.parametrize("check", CHECKS)
    def test_masked_values(self, check):
        masked = np.ma.masked_greater(np.arange(6.0).reshape(2, 3), 3)
        with pytest.raises(ValueError, match=r"^X: expected no masked values, got 2; .*\.filled"):
            check("X", masked)
        result = check("X", masked.filled(0))
        assert result.tolist() == [[0, 1, 2], [3, 0, 0]]

    @pytest.mark.parametrize("check", CHECKS)
    def test_a_masked_array_without_a_masked_value(self, check):
        result = check("X", np.ma.array([1.5, 2.5], mask=[False, False]))
        assert type(result) is np.ndarray
        assert result.tolist() == [1.5, 2.5]

    @pytest.mark.parametrize("check", CHECKS)
    @pytest.mark.parametrize("form", ["csr_array", "csc_matrix", "coo_array", "lil_matrix"])
    def test_sparse_where_dense_is_wanted(self, check, form):
        sparse = pytest.importorskip("scipy.sparse")
        with pytest.raises(TypeError, match=r"^X: expected a dense array.* pass X\.toarray\(\)"):
            check("X", getattr(sparse, form)(np.eye(3)))

    @each("name", kernels.__all__)
    def test_by_every_kernel(self, name, calls):
        sparse = pytest.importorskip("scipy.sparse")
        call = calls[name]
        for argument, array in call.make(np.dtype(np.float64)).items():
            mask = np.zeros(array.shape, bool)
            mask.reshape(-1)[0] = True
            for wrong in (np.ma.array(array, mask=mask), sparse.coo_array(np.atleast_1d(array))):
                if argument in call.changed and isinstance(wrong, np.ma.MaskedArray):
                    continue  # written through: `checks.writable` takes any ndarray
                arrays = call.make(np.dtype(np.float64)) | {argument: wrong}
                with pytest.raises((TypeError, ValueError), match=rf"^{argument}\b"):
                    call.run(arrays)


class TestExtensionTypes:
    @pytest.mark.parametrize(
        "dtype, expected", [("Int64", "i8"), ("Int8", "i1"), ("UInt16", "u2"), ("Float32", "f4"),
                            ("Float64", "f8"), ("boolean", "?")])
    def test_a_column(self, dtype, expected):
        pd = pytest.importorskip("pandas")
        column = pd.Series([1, 0, 1]).astype(dtype)
        for value in (column, column.array, pd.Index(column)):
            result = checks.real_numbers("y", value)
            assert result.tolist() == [1, 0, 1]
            assert result.dtype == expected

    def test_columns_have_the_dtype_that_holds_them_all(self):
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]}).convert_dtypes()
        for columns, dtype in ((["a"], "i8"), (["a", "b"], "f8")):
            result = checks.real_numbers("X", frame[columns])
            assert result.dtype == dtype
            assert (result == frame[columns].to_numpy(dtype)).all()
        assert checks.real_numbers("X", frame).tolist() == [[1, 0.5, 1], [2, 1.5, 0]]

    @pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
    def test_missing_values_become_nan(self, dtype):
        pd = pytest.importorskip("pandas")
        column = pd.Series([1, pd.NA, 0], dtype=dtype)
        np.testing.assert_array_equal(checks.real_numbers("y", column), [1, np.nan, 0])
        with pytest.raises(ValueError, match=r"^y: expected finite numbers, got nan in row 1"):
            checks.data("y", column)

    @pytest.mark.parametrize("values", [["a", "b"], [1, "b"], [None, None]])
    def test_no_numbers(self, values):
        pd = pytest.importorskip("pandas")
        for value in (pd.Series(values, dtype=object), pd.DataFrame({"a": values, "b": [1, 2]}),
                      pd.Series(["a", "b"], dtype="category")):
            with pytest.raises(TypeError, match=r"^y: expected an array of real numbers"):
                checks.real_numbers("y", value)

    def test_columns_of_arrow(self):
        pd = pytest.importorskip("pandas")
        pytest.importorskip("pyarrow")
        frame = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]}).convert_dtypes(dtype_backend="pyarrow")
        assert checks.real_numbers("y", frame["a"]).dtype == "i8"
        assert checks.real_numbers("X", frame).tolist() == [[1, 0.5], [2, 1.5]]


class TestBoolean:
    @each("value", [True, False, np.True_, np.False_])
    def test_booleans(self, value):
        result = checks.boolean("resume", value)
        assert type(result) is bool
        assert result == value

    @each("value", [0, 1, 1.0, "False", "", None, [], {}, np.array(True),
                    np.array([True, False])], ids=repr)
    def test_others(self, value):
        with pytest.raises(TypeError, match=r"^resume: expected True or False, got .* \(\w+\)$"):
            checks.boolean("resume", value)


def test_read_only():
    array = np.ones(3)
    view = checks.read_only(array)
    with pytest.raises(ValueError, match="read-only"):
        view[0] = 2
    array[0] = 2  # the array itself stays as it was
    assert view[0] == 2


class TestExactly:
    def test_fits(self, dtype):
        array = np.ones((2, 3), dtype)
        for expected in ((2, 3), None):
            assert checks.exactly("Z", array, expected, dtype) is None
            assert checks.returned("forward of Scale", "Z", array, expected, dtype) is None
        assert checks.exactly("Z", array.view(np.recarray), None, dtype) is None

    @each(
        "array, error, got",
        [(None, TypeError, "None"), ([1.0], TypeError, "a list"), (1.0, TypeError, "a float"),
         (np.ma.ones((2, 3)), TypeError, "a MaskedArray"),
         (np.ones((2, 3), "i8"), TypeError, r"int64 of shape \(2, 3\)"),
         (np.ones((2, 3), "f4"), TypeError, r"float32 of shape \(2, 3\)"),
         (swapped(np.ones((2, 3))), TypeError, r"[<>]f8 of shape|float64 of shape"),
         (np.ones((3, 2)), ValueError, r"float64 of shape \(3, 2\)"),
         (np.ones(6), ValueError, r"float64 of shape \(6,\)")],
    )
    def test_does_not_fit(self, array, error, got):
        wanted = r"a numpy.ndarray of float64 and shape \(2, 3\)"
        with pytest.raises(error, match=rf"^Z: expected {wanted}, got ({got})"):
            checks.exactly("Z", array, (2, 3), np.dtype("f8"))
        with pytest.raises(error, match=rf"^forward returned ({got}).*; expected Z, {wanted}$"):
            checks.returned("forward", "Z", array, (2, 3), np.dtype("f8"))

    def test_of_any_shape(self):
        with pytest.raises(TypeError, match=r"expected a numpy.ndarray of float64, got"):
            checks.exactly("Z", np.ones(3, "f4"), None, np.dtype("f8"))
