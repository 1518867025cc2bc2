"""Files that are no models: fb.load says so, in words, and does nothing else.

And calls and assignments at random, with compiled forms and without.
"""

import collections
import importlib.util
import json
import os
import signal
import struct
import subprocess
import sys
import time
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb

BENCH = Path(__file__).parent.parent / "bench" / "fuzz_load.py"
CALLS = BENCH.with_name("fuzz_calls.py")

pytestmark = pytest.mark.once
needs_fuzzer = pytest.mark.skipif(not BENCH.exists(), reason="no benchmarks beside the tests")


@pytest.fixture(scope="module")
def fuzzer():
    spec = importlib.util.spec_from_file_location("fuzz_load", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(fuzzer, tmp_path_factory):
    return fuzzer.whole_models(tmp_path_factory.mktemp("models"))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model"


# The fuzzer


@needs_fuzzer
def test_some_thousands_of_files(tmp_path):
    seed = os.urandom(4).hex() if "CI" not in os.environ else "0"
    result = subprocess.run(
        [sys.executable, BENCH, "--files", "2500", "--seed", str(int(seed, 16)), "--output",
         tmp_path], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stdout + result.stderr
    lines = result.stdout.splitlines()
    counts = {line[9:].strip(): int(line[:9].replace(",", "")) for line in lines[:-1]}
    assert sum(counts.values()) == 2500
    assert len(counts) >= 9, "of all kinds"
    assert max(counts.values()) < 2250
    assert os.listdir(tmp_path) == []


@needs_fuzzer
@settings(max_examples=500)
@given(data=st.data())
def test_files_that_hypothesis_draws(fuzzer, models, tmp_path_factory, data):
    """As the script's, made smaller where one fails, and without its limits."""
    content = data.draw(st.sampled_from(models))
    if data.draw(st.booleans()):
        header, description, rest = fuzzer.parse(content)
        tree = data.draw(st.sampled_from([header, description]))
        fuzzer.change_tree(tree, data.draw(st.randoms(use_true_random=False)))
        if "__metadata__" not in header:
            header["__metadata__"], description = {}, None
        content = fuzzer.assemble(header, None if tree is header else description, rest)
    else:
        at = data.draw(st.integers(0, len(content)))
        gone = data.draw(st.integers(0, 9))
        content = content[:at] + data.draw(st.binary(max_size=9)) + content[at + gone :]
    path = os.fspath(tmp_path_factory.getbasetemp() / "drawn")
    Path(path).write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            net = fb.load(path)
        except Exception as error:
            kind = fuzzer.of_error(path, error)
        else:
            kind = fuzzer.of_network(path, content, net, caught)
    assert not kind.startswith("NOT ALLOWED"), kind


@needs_fuzzer
@pytest.mark.parametrize(("wrong", "what"), [
    (lambda path: {}["a"], "KeyError"),
    (lambda path: fb.load(path + "x"), "FileNotFoundError"),
    (lambda path: np.ones(30 << 20), "MemoryError"),
    (lambda path: os.kill(os.getpid(), signal.SIGKILL), "the process ended (-9)"),
    (lambda path: os._exit(0), "the process ended (0)"),
    (lambda path: time.sleep(60), "took too long"),
    (lambda path: [fb.mlp([3, 2]), eval("1 + 1")][0], "compile"),
    (lambda path: [fb.mlp([3, 2]), exec("1"), path][0], "exec"),
    (lambda path: [fb.mlp([3, 2]), open(__file__).close()][0], "open"),
    (lambda path: [fb.mlp([3, 2]), os.system("true")][0], "os.system"),
    (lambda path: fb.mlp([3, 2]), "other numbers"),
    (lambda path: [fb.mlp([3, 2]), warnings.warn("x", stacklevel=2)][0], "warnings"),
])
def test_the_fuzzer_notices(fuzzer, tmp_path, monkeypatch, wrong, what):
    """In what is no fb.load at all."""
    load = fb.load
    monkeypatch.setattr(fuzzer, "SECONDS", 1)
    monkeypatch.setattr(fuzzer, "mutant", lambda models, seed, i: models[0])
    monkeypatch.setattr(fuzzer, "fb", type("fb", (), {
        "load": staticmethod(lambda path: load(path) if path.endswith("whole") else wrong(path)),
        **{name: getattr(fb, name) for name in fb.__all__ if name != "load"}}))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        counts, bad = fuzzer.fuzz(2, 0, tmp_path / "bad")
    assert sum(counts.values()) == len(bad) == 2
    assert all(what in kind for _, kind in bad), bad
    assert all(load(kept).n_in == 3 for kept, _ in bad), "the files are kept"


@needs_fuzzer
def test_calls_and_assignments():
    pytest.importorskip("pandas")
    pytest.importorskip("sklearn")
    result = subprocess.run(
        [sys.executable, CALLS, "--sequences", "80", "--processes", "1"],
        capture_output=True, text=True, check=False, timeout=600,
        # It imports the scripts beside it, which conftest.py forbids everybody else.
        env={name: value for name, value in os.environ.items() if name != "PYTHONSAFEPATH"})
    assert result.returncode == 0, result.stdout + result.stderr
    assert "80 sequences" in result.stdout
    assert "0 crashes, 0 disagreements, 0 unasked NaN, 0 other errors" in result.stdout


# Cases by name


ONE = {"version": 1, "dtype": "float32",
       "layers": [{"type": "Dense", "config": {"n_in": 3, "n_out": 2}}]}
W = {"dtype": "F32", "shape": [3, 2], "data_offsets": [0, 24]}
B = {"dtype": "F32", "shape": [2], "data_offsets": [24, 32]}


def a_file(path, W=W, b=B, description=ONE, data=bytes(32), length=None, **tensors):
    """A model of one layer, with something else in it."""
    if not isinstance(description, str):
        description = json.dumps(description)
    header = {"__metadata__": {"fastbp": description}, "layers.0.W": W, "layers.0.b": b} | tensors
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)


def refused(path, what=""):
    with pytest.raises(ValueError, match=rf"^path: '.*' (is|has) .*{what}") as caught:
        fb.load(path)
    assert repr(str(path)) in str(caught.value)


def test_the_file_is_good_as_it_is(path):
    a_file(path)
    assert fb.load(path).parameters.tolist() == [0] * 8


@pytest.mark.parametrize("length", [0, 1, 31, 2**31, 100_000_000, 100_000_001, 2**32, 2**63,
                                    2**64 - 1, 2**64 - 8])
def test_headers_of_the_wrong_length(path, length):
    a_file(path, length=length)
    refused(path, "not a safetensors file")


@pytest.mark.parametrize(("changes", "what"), [
    ({"b": B | {"data_offsets": [0, 8]}}, ""), ({"b": B | {"data_offsets": [16, 24]}}, ""),
    ({"b": B | {"data_offsets": [32, 40]}}, ""), ({"b": B | {"data_offsets": [24, 2**63]}}, ""),
    ({"b": B | {"data_offsets": [32, 24]}}, ""), ({"b": B | {"data_offsets": [-8, 0]}}, ""),
    ({"b": B | {"data_offsets": [24]}}, ""), ({"b": B | {"data_offsets": [24.5, 32]}}, ""),
    ({"data": bytes(31)}, ""), ({"data": bytes(33)}, ""), ({"data": b""}, ""),
    ({"data": bytes(64)}, ""),
    ({"W": W | {"shape": [2**32, 2**32]}}, ""), ({"W": W | {"shape": [2**63, 2]}}, ""),
    ({"W": W | {"shape": [2**62, 4]}}, ""), ({"W": W | {"shape": [-3, -2]}}, ""),
    ({"W": W | {"shape": [2**64 + 3, 2]}}, ""), ({"W": W | {"shape": [6]}}, "shape"),
    ({"W": W | {"shape": [2, 3]}}, "shape"), ({"W": W | {"shape": [3, 2] + [1] * 70}}, "shape"),
    ({"W": W | {"shape": [3, 1], "dtype": "F64"}}, "F64"), ({"W": W | {"dtype": "I32"}}, "I32"),
    ({"W": W | {"dtype": "U32"}}, "U32"), ({"W": W | {"dtype": "F31"}}, ""),
    ({"W": {}}, ""), ({"W": None}, ""), ({"W": 3}, ""),
    ({"layers.1.W": {"dtype": "F32", "shape": [0], "data_offsets": [32, 32]}}, "not expected"),
    ({"__metadata__": {"fastbp": ONE}}, ""), ({"__metadata__": {}}, "another program"),
    ({"__metadata__": None}, ""),
], ids=lambda value: str(value)[:50])
def test_headers_that_do_not_fit(path, changes, what):
    a_file(path, **changes)
    refused(path, what)


DEPTHS = [1, 10, 100, *range(900, 1010, 3), 5000, 100_000]


@pytest.mark.parametrize("place", ['"version": 1', '"float32"', "3", '"Dense"', "{", "[", "2}"])
def test_deep_json(path, place):
    """Also where there is just enough stack to read it, and not to say what it was."""
    start = place.partition(" ")[0] + " " if ":" in place else ""
    for depth in DEPTHS:
        for left, right in (("[", "]"), ('{"a":', "}")):
            deep = left * depth + "1" + right * depth
            a_file(path, description=json.dumps(ONE).replace(place, start + deep, 1))
            refused(path)
    a_file(path, **{"layers.1.W": "DEEP"})
    content = path.read_bytes()[8:].replace(b'"DEEP"', b"[" * 5000 + b"]" * 5000)
    path.write_bytes(struct.pack("<Q", len(content) - 32) + content)
    refused(path, "not a safetensors file")


@pytest.mark.parametrize("n_out", [2**20, 2**31, 2**40, 2**62, 10**30, 10**4000])
def test_sizes_that_the_file_does_not_have(path, n_out):
    """No memory is asked for that the numbers in the file do not fill."""
    layer = {"type": "Dense", "config": {"n_in": 3, "n_out": n_out}}
    wide = {"W": {**W, "shape": [3, n_out], "data_offsets": [0, 12 * n_out]},
            "b": {**B, "shape": [n_out], "data_offsets": [12 * n_out, 16 * n_out]}}
    tracemalloc.start()
    try:
        for tensors in ({}, wide):
            a_file(path, description=ONE | {"layers": [layer]}, **tensors)
            refused(path)
        assert tracemalloc.get_traced_memory()[1] < 5e6
    finally:
        tracemalloc.stop()


def test_wild_numbers_come_with_a_warning(path):
    for number in (np.nan, np.inf, -np.inf):
        for at, name in ((0, "W"), (7, "b")):
            data = np.zeros(8, "f4")
            data[at] = number
            a_file(path, data=data.tobytes())
            with pytest.warns(RuntimeWarning, match=rf"NaN or infinity in layers\.0\.{name}$"):
                assert fb.load(path).parameters.tobytes() == data.tobytes()


def test_other_kinds_of_path(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^path: "):
        fb.load(tmp_path / "nothing")
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match=r"^path: "):
        fb.load(tmp_path / "link")
    if os.path.exists("/dev/zero"):
        refused(Path("/dev/zero"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe(path):
    """In another process: whoever waits holds the GIL."""
    os.mkfifo(path)
    code = "import sys, fastbp as fb; print(flush=True); fb.load(sys.argv[1])"
    with subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as child:
        try:
            child.stdout.readline()
            _, said = child.communicate(timeout=3)
        finally:
            child.kill()
    assert "ValueError: path: " in said


def test_nothing_in_a_file_is_executed(path):
    """Names of everything that could be called, in every place of a description."""
    seen = []

    def watch(event, arguments):
        if seen and event != "object.__getattr__":
            seen.append(event)

    sys.addaudithook(watch)
    names = ["os.system", "__import__('os').abort()", "builtins.exec", "fastbp.Sequential",
             "Sequential", "Layer", "__class__", "__init__", "__reduce__"]
    try:
        for name in names:
            for place in ('"float32"', '"Dense"', '"n_in"', '"config"', '"type"', "3"):
                text = json.dumps(ONE).replace(place, json.dumps(name), 1)
                a_file(path, description=text)
                seen[:] = ["begin"]
                with pytest.raises(ValueError, match=r"^path: "):
                    fb.load(path)
                events, seen[:] = collections.Counter(seen[1:]), []
                assert not set(events) & {"exec", "compile", "import", "os.system", "open",
                                          "pickle.find_class", "subprocess.Popen"}
    finally:
        seen.clear()


def test_a_file_that_is_replaced_meanwhile(path):
    """A save over it while it is being read: the one or the other."""
    small, large = fb.mlp([3, 2], seed=0), fb.mlp([3, 50, 2], seed=1)
    texts = {repr(small), repr(large)}
    small.save(path)
    writer = os.fork() if hasattr(os, "fork") else None
    if writer == 0:
        try:
            for i in range(150):
                (large, small)[i % 2].save(path)
        finally:
            os._exit(0)
    for _ in range(300):
        assert repr(fb.load(path)) in texts
    if writer:
        os.waitpid(writer, 0)
