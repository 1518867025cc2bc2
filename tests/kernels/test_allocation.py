"""Memory that runs out: MemoryError, no leaks, nothing half done, and the same bits after.

Allocations are failed one after the other, the first, the second, the third and so on, each in
a call of its own, in a process of its own.
"""

import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest

import fastbp as fb
from fastbp import layers
from fastbp.kernels import memory

# What the scripts below share: calls to fail, what is checked after each failure, and two ways
# to fail the n-th allocation.
SHARED = """
    import collections, ctypes, faulthandler, itertools, os, sys, traceback
    import numpy as np, fastbp as fb
    from fastbp.kernels import threads

    faulthandler.enable()
    threads.set_work_per_thread(0)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 70)).astype("f4")
    y = np.arange(300) % 4
    W, b = rng.normal(size=(70, 900)).astype("f4"), np.zeros(900, "f4")
    net = fb.mlp([70, 64, 4], dropout=0.1, seed=0)
    start = net.parameters.copy()
    seen = set()  # the parameters between any two steps of the fit below

    def predict(n_threads=1):
        return net.predict(X, n_threads=n_threads).tobytes()

    def predict_anew():
        net.programs.clear()
        return net.predict(X[:10], activation="softmax").tobytes()

    def dense_forward():
        with threads.using(2):
            return fb.kernels.dense_forward(X, W, b).tobytes()

    def fit(n_threads=1, **options):
        net.parameters[:] = start
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(clip_norm=1.0), epochs=2,
                batch_size=300, l2=1e-3, seed=1, n_threads=n_threads, **options)
        return net.parameters.tobytes()

    calls = {
        "predict": predict,
        "predict in a team": lambda: predict(3),
        "predict anew": predict_anew,
        "dense_forward": dense_forward,
        "fit": fit,
        "fit in a team": lambda: fit(2),
    }

    def note(run):
        seen.add(run.network.parameters.tobytes())

    seen.add(start.tobytes())
    fit(callbacks=[note])
    assert len(seen) == 3

    # Whether the innermost frame of an exception is in fastbp, not in what it calls.
    def is_ours(error):
        frame = traceback.extract_tb(error.__traceback__)[-1]
        if "ctypes.data" in (frame.line or ""):  # a C function of NumPy
            return False
        folder = os.path.dirname(fb.__file__)
        # Compiled code has the path it was compiled from, as "fastbp/kernels/steps.pyx".
        return frame.filename.startswith((folder, "fastbp" + os.sep))

    def in_turn(call, fail, mend, passed):
        '''Fail one allocation after the other; what came of it, counted.'''
        expected = call()
        got = collections.Counter()
        for n in itertools.count():
            error = None
            fail(n)
            try:
                result = call()
            except BaseException as caught:
                error = caught
            over = error is None and passed(n)
            mend()
            if over:
                return n, got
            got[type(error).__name__] += 1
            if error is None:
                assert result == expected, n
            # Some functions of Python and NumPy forget the exception; Python's locks make
            # another of it.
            elif not isinstance(error, MemoryError):
                assert isinstance(error, (SystemError, RuntimeError)) and not is_ours(error), (
                    n, traceback.format_exception(error))
            error = None
            assert net.parameters.tobytes() in seen, n  # whole steps, and finite
            assert call() == expected, n
"""

OBJECTS = """
    import _testcapi

    def fail(n):
        _testcapi.set_nomemory(n, n + 1)

    def passed(n):
        # If the call made no n allocations, then the n-th is among these.
        try:
            for _ in range(n + 10):
                bytearray(600)
        except MemoryError:
            return True
        return False

    def run(call):
        return in_turn(call, fail, _testcapi.remove_mem_hooks, passed)
"""

# NumPy's arrays have an allocator of their own, which can be replaced from C alone: ctypes.
# https://numpy.org/doc/stable/reference/c-api/data_memory.html
ARRAYS = """
    Malloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
    Calloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)

    class Handler(ctypes.Structure):
        _fields_ = [("name", ctypes.c_char * 127), ("version", ctypes.c_uint8),
                    ("context", ctypes.c_void_p), ("malloc", Malloc), ("calloc", Calloc),
                    ("realloc", ctypes.c_void_p), ("free", ctypes.c_void_p)]

    def pointer(capsule, name):
        get = ctypes.pythonapi.PyCapsule_GetPointer
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        return get(capsule, name)

    table = ctypes.cast(pointer(np._core._multiarray_umath._ARRAY_API, None),
                        ctypes.POINTER(ctypes.c_void_p))
    set_handler = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.py_object)(table[304])
    get_handler = ctypes.PYFUNCTYPE(ctypes.py_object)(table[305])
    new_capsule = ctypes.pythonapi.PyCapsule_New
    new_capsule.restype = ctypes.py_object
    new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    usual = get_handler()
    real = Handler.from_address(pointer(usual, b"mem_handler"))
    count = failing = 0

    def fails():
        global count
        count += 1
        return count == failing

    @Malloc
    def malloc(context, size):
        return None if fails() else real.malloc(context, size)

    @Calloc
    def calloc(context, n, size):
        return None if fails() else real.calloc(context, n, size)

    # What was allocated is freed by the usual function, whenever that is.
    failing_handler = Handler(b"fails the n-th", 1, real.context, malloc, calloc, real.realloc,
                              real.free)
    name = b"mem_handler"
    capsule = new_capsule(ctypes.addressof(failing_handler), name, None)
    # Python may free the last arrays when it has freed this module's objects.
    for needed in failing_handler, name:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(needed))

    def fail(n):
        global count, failing
        count, failing = 0, n + 1
        set_handler(capsule)

    def run(call):
        return in_turn(call, fail, lambda: set_handler(usual), lambda n: count <= n)
"""


def python(*parts):
    """What a new interpreter prints."""
    code = "\n".join(textwrap.dedent(part) for part in parts)
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=False, timeout=600)
    assert result.returncode == 0, result.stderr[-4000:]
    return result.stdout


needs_hooks = pytest.mark.skipif(
    not (sys.implementation.name == "cpython" and hasattr(
        pytest.importorskip("_testcapi", reason="this Python cannot fail an allocation"),
        "set_nomemory")),
    reason="this Python cannot fail an allocation")


CONTROL = """
    import contextlib, _testcapi
    import numpy as np

    class Thing(contextlib.AbstractContextManager):
        def __init__(self, n):
            self.n = n

        def __exit__(self, *error):
            pass

    def work():
        with contextlib.ExitStack() as stack:
            things = [stack.enter_context(Thing(n)) for n in range(20)]
            texts = {f"{each.n}": (each.n, float(each.n)) for each in things}
            return ", ".join(f"{k}={v!r}" for k, v in sorted(texts.items())), np.ones((3, 4)).sum()

    work()
    for n in range(2000):
        _testcapi.set_nomemory(n, n + 1)
        try:
            work()
        except (MemoryError, SystemError):
            pass
        finally:
            _testcapi.remove_mem_hooks()
"""


@pytest.fixture(scope="module")
def python_survives():
    """Python 3.12.1, for one, crashes without any help of ours where an allocation fails."""
    result = subprocess.run([sys.executable, "-c", textwrap.dedent(CONTROL)], check=False,
                            capture_output=True, timeout=600)
    if result.returncode:
        pytest.skip("this Python crashes by itself where an allocation fails")


# At least so many allocations fail in each.
@needs_hooks
@pytest.mark.usefixtures("python_survives")
@pytest.mark.parametrize(("call", "least"), [
    ("predict", 2), ("predict in a team", 4), ("predict anew", 20), ("dense_forward", 10),
    ("fit", 900), ("fit in a team", 900),
])
def test_pythons_and_the_compiled_codes_allocations_fail_in_turn(call, least):
    printed = python(SHARED, OBJECTS, f"print(*run(calls[{call!r}]))")
    assert int(printed.split()[0]) >= least, printed
    print(printed)


@pytest.mark.parametrize(("call", "least"), [
    ("predict", 1), ("predict anew", 1), ("dense_forward", 1), ("fit", 15), ("fit in a team", 15),
])
def test_arrays_fail_in_turn(call, least):
    printed = python(SHARED, ARRAYS, f"""
        n, got = run(calls[{call!r}])
        print(n, got)
        assert set(got) <= {{"MemoryError", "_ArrayMemoryError"}}, got
    """)
    assert int(printed.split()[0]) >= least, printed
    print(printed)


@needs_hooks
@pytest.mark.usefixtures("python_survives")
def test_a_chunks_memory_fails_without_an_output_to_allocate():
    """Nothing but the compiled code allocates here: the chunk's two arrays, in each thread."""
    printed = python(SHARED, OBJECTS, """
        predictor = net.programs.predictor(None)
        out = np.full((300, 4), np.nan, "f4")

        def call():
            predictor(X, out)
            return out.tobytes()

        expected, messages = call(), set()
        for n_threads in 1, 2, 3:
            with threads.using(n_threads):
                for n in range(20):
                    fail(n)
                    try:
                        predictor(X, out)
                    except MemoryError as error:
                        messages.add(str(error))
                    finally:
                        _testcapi.remove_mem_hooks()
                    assert call() == expected
        assert "no memory for the outputs of a chunk of rows" in messages, messages
    """)
    assert printed == ""


@needs_hooks
@pytest.mark.usefixtures("python_survives")
@pytest.mark.parametrize("how", [OBJECTS, ARRAYS], ids=["objects", "arrays"])
def test_nothing_leaks_in_thousands_of_failures(how):
    printed = python(SHARED, how, """
        import gc

        def used():
            gc.collect()
            pages = int(open("/proc/self/statm").read().split()[1])
            return sys.getallocatedblocks(), pages * os.sysconf("SC_PAGE_SIZE")

        # AddressSanitizer keeps for a while what was freed.
        if not os.path.exists("/proc/self/statm") or hasattr(ctypes.CDLL(None), "__asan_init"):
            sys.exit()

        def some(times):
            failed = 0
            for _ in range(times):
                # Python 3.11 itself leaks the arguments of functions that it fails to call: hence
                # without "predict anew", which calls many.
                for name in "predict", "dense_forward", "predict in a team":
                    failed += run(calls[name])[0]
            return failed

        some(20)
        blocks, size = used()
        failed = some(80)
        more_blocks, more_size = used()
        print(failed, more_blocks - blocks, more_size - size)
    """)
    if not printed:
        pytest.skip("nothing says here how much memory a process needs")
    failed, blocks, size = map(int, printed.split())
    # A workspace is 100 kB and more, an object a block: one leaked per failure would be seen.
    assert failed > 200
    assert blocks < failed / 10, printed
    assert size < failed * 1000 + 2**21, printed
    print(printed)


@needs_hooks
@pytest.mark.usefixtures("python_survives")
def test_a_fit_leaks_nothing_where_the_compiled_code_fails():
    """Where it fails to call a function, Python 3.11 itself leaks the arguments."""
    printed = python(SHARED, OBJECTS, """
        import gc

        # Whether the fit failed at an allocation of the compiled code.
        def failed(n):
            fail(n)
            try:
                fit()
            except (MemoryError, SystemError, RuntimeError) as error:
                _testcapi.remove_mem_hooks()
                # Without reading sources, which traceback keeps: that is not a leak.
                frames = [frame.f_code for frame, _ in traceback.walk_tb(error.__traceback__)]
                return frames[-1].co_filename.endswith(
                    ("dense.pyx", "executor.pyx", "instructions.pyx", "stages.pyx", "steps.pyx",
                     "threads.pyx", "updates.pyx"))
            finally:
                _testcapi.remove_mem_hooks()

        fit()
        total, last = 0, run(fit)[0]
        for n in range(last):
            if failed(n) and failed(n):
                fit()
                gc.collect()
                before = sys.getallocatedblocks()
                for _ in range(10):
                    failed(n)
                gc.collect()
                leaked = sys.getallocatedblocks() - before
                assert leaked < 9, (n, leaked)
                total += 1
        print(total, "of", last)
    """)
    assert int(printed.split()[0]) > 10, printed
    print(printed)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not keep the limit")
def test_the_system_itself_has_no_more():
    python("""
        import resource
        import numpy as np, fastbp as fb

        net = fb.mlp([10, 64, 1000], seed=0)
        start = net.parameters.tobytes()
        few = np.ones((100, 10), "f4")
        expected = net.predict(few).tobytes()
        many = np.ones((200_000, 10), "f4")  # 800 MB of outputs
        size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (300 << 20), resource.RLIM_INFINITY))
        for _ in range(50):
            for fail in (
                lambda: net.predict(many),
                lambda: net.predict(many.astype("f8")),
                lambda: net.fit(many, np.zeros(200_000, int), loss=fb.SoftmaxCrossEntropy(),
                                batch_size=200_000, epochs=1),
                lambda: fb.mlp([10, 10_000, 10_000]),
                lambda: fb.kernels.softmax(np.broadcast_to(np.float32(1), (200_000, 1000))),
            ):
                try:
                    fail()
                    raise AssertionError("there was memory")
                except MemoryError:
                    pass
        assert net.parameters.tobytes() == start
        assert net.predict(few).tobytes() == expected
    """)


# What no machine has, and what no size_t can say.
TOO_LARGE = [
    [10**6, 10**6, 10],
    [2**40, 2**40],
    [2**31, 2**32],  # 2**63
    [2**32, 2**32],  # 2**64, which a product of 64 bits takes for 0
    [2**62, 1, 2**62],
    [10**30, 1],
    [10**300, 10**300],
]



class TestNetworksThatAreTooLarge:
    """Refused before anything is allocated: Linux may promise memory that is not there."""

    @pytest.fixture(autouse=True)
    def nothing_is_allocated(self, monkeypatch):
        def fail(*arguments):
            raise AssertionError(f"allocated {arguments}")

        monkeypatch.setattr(layers.Layer, "allocate", fail)
        monkeypatch.setattr(memory, "aligned", fail)

    @pytest.mark.parametrize("sizes", TOO_LARGE)
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_sizes(self, sizes, dtype):
        tracemalloc.start()
        try:
            with pytest.raises(MemoryError, match=r"^layers: .*parameters.* MiB are needed, but"):
                fb.mlp(sizes, dtype=dtype)
            assert tracemalloc.get_traced_memory()[1] < 1 << 20
        finally:
            tracemalloc.stop()

    def test_layers_that_fit_one_by_one(self, monkeypatch):
        monkeypatch.setattr(memory, "physical", lambda: 100_000_000)
        with pytest.raises(MemoryError, match=r"^layers: "):
            fb.Sequential([fb.Dense(2000, 2000), fb.Dense(2000, 2000)])

    def test_the_layers_can_still_be_used(self, monkeypatch):
        layer = fb.Dense(2000, 2000)
        monkeypatch.setattr(memory, "physical", lambda: 1_000_000)
        with pytest.raises(MemoryError):
            fb.Sequential([layer])
        monkeypatch.undo()
        assert fb.Sequential([layer]).parameters.size == 2000 * 2001


class TestArraysThatAreTooLarge:
    @pytest.mark.parametrize("shape", [2**45, (2**32, 2**32), (2**31, 2**32), (2**62, 2, 3)])
    def test_shapes(self, shape):
        with pytest.raises(MemoryError, match=r"^an array of shape .* MiB are needed, but"):
            memory.aligned(shape, np.float64)

    def test_a_fits_workspace(self, monkeypatch):
        """And the network is as it was."""
        net = fb.mlp([2, 1000], seed=0)
        before = net.parameters.copy()
        X, y = np.zeros((5000, 2), "f4"), np.arange(5000) % 1000
        monkeypatch.setattr(memory, "physical", lambda: 10_000_000)
        with pytest.raises(MemoryError, match="an array of shape"):
            net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), batch_size=5000, epochs=1)
        assert (net.parameters == before).all()
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), batch_size=50, epochs=1)

    def test_what_is_small_is_not_refused(self):
        assert memory.aligned((3, 4), "f4").shape == (3, 4)
        assert memory.aligned((), "f4").shape == ()
        assert memory.aligned(0, "f4").shape == (0,)
        assert memory.aligned((0, 5), "f4").shape == (0, 5)
        assert memory.physical() > 1 << 20


@pytest.mark.parametrize("call", [
    lambda X: fb.mlp([10, 10], seed=0).predict(X),
    lambda X: fb.mlp([10, 10], seed=0).forward(X),
    lambda X: fb.kernels.softmax(X),
    lambda X: fb.kernels.dense_forward(X, np.zeros((10, 10), "f4"), np.zeros(10, "f4")),
])
def test_enormous_batches(call):
    """Ten times what an address of 47 bits reaches: no system promises it."""
    X = np.broadcast_to(np.float32(1), (40 * 2**40, 10))
    with pytest.raises((MemoryError, ValueError), match=r"allocate|too (big|large)"):
        call(X)


def test_a_batch_size_is_cut_to_the_rows():
    net = fb.mlp([2, 2], seed=0)
    net.fit(np.eye(2), [0, 1], loss=fb.SoftmaxCrossEntropy(), batch_size=10**30, epochs=1)


def test_layers_of_any_size_can_be_described():
    """A layer alone has no arrays yet."""
    assert fb.Dense(2**40, 2**40).n_parameters == 2**80 + 2**40
