"""Load files that are not models, or damaged ones, with fb.load, and check each outcome.

    python bench/fuzz_load.py --files 100000

Whole model files are changed in one to three places.  Some changes keep the form, and alter the
header's JSON, the description within it, offsets, dtypes or shapes; others alter bytes.  What may
come of a file is a network, with a warning where it holds NaN, or a ValueError that names the
path.  Not allowed are other errors and warnings; more memory than a multiple of the file's size
(RLIMIT_AS); more than some seconds (an alarm); numbers that are not those of the file; that
anything is imported, run or opened meanwhile (an audit hook); and the end of the process.  Those
files are kept, and the script ends with 1.
"""

import argparse
import collections
import copy
import json
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import fastbp as fb

SECONDS = 10  # for one file
SLACK, MULTIPLE = 8 << 20, 64  # bytes that may be allocated, and for each byte of the file
CHUNK = 2000  # files for one process
MESSAGES = {  # the errors, by what they say
    "no safetensors file": "is not a fastbp model: it is not a safetensors file",
    "of another program": "is not a fastbp model: .*another program",
    "of another version": "is a fastbp model of version",
    "description not readable": "its description cannot be read",
    "no such dtype": "its dtype is",
    "unknown layer": "has a layer .*which fastbp does not know",
    "layer not buildable": r"not a complete fastbp model: layer \d+: ",
    "names of tensors": "not a complete fastbp model: (missing|not expected)",
    "shape or dtype of a tensor": r"is \w+ of shape \[",
    "layers do not chain": "not a complete fastbp model: layers: ",
}
FORBIDDEN = ("exec", "compile", "import", "marshal.loads", "os.system", "os.exec", "os.fork",
             "os.posix_spawn", "subprocess.Popen", "pickle.find_class", "ctypes.dlopen",
             "socket.connect", "code.__new__", "function.__new__")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--files", type=int, default=100_000, metavar="N", help="(default: 100000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="the same one makes the same files (default: 0)")
    parser.add_argument("--output", type=Path, default="bench-output", metavar="FOLDER",
                        help="where files go that are not allowed (default: bench-output)")
    arguments = parser.parse_args()
    start = time.perf_counter()
    counts, bad = fuzz(arguments.files, arguments.seed, arguments.output)
    for kind, count in counts.most_common():
        print(f"{count:9,d}  {kind}")
    print(f"{sum(counts.values()):9,d}  files in {time.perf_counter() - start:.0f} s, "
          f"{len(bad)} of them not allowed")
    for path, kind in bad:
        print(f"{path}: {kind}")
    raise SystemExit(bool(bad))


def fuzz(n, seed, output):
    """Counts of what came of n files, and the files for which it was not allowed, with why."""
    counts, bad = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        path, models = os.path.join(folder, "model"), whole_models(folder)
        for first in range(0, n, CHUNK):
            numbers = iter(range(first, min(n, first + CHUNK)))
            for i, kind in in_processes(numbers, lambda i: load_one(path, models, seed, i)):
                counts[kind.partition(": ")[0]] += 1
                if kind.startswith("NOT ALLOWED"):
                    os.makedirs(output, exist_ok=True)
                    kept = os.path.join(output, f"fuzz-{seed}-{i}")
                    Path(kept).write_bytes(mutant(models, seed, i))
                    bad.append((kept, kind))
    return counts, bad


def in_processes(numbers, function):
    """Pairs of a number and the function's result for it, computed in a child process.

    If the process dies, that is the result for its current number, and another one continues.
    """
    while (first := next(numbers, None)) is not None:
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(reader)
                sys.addaudithook(audit)
                for i in (first, *numbers):
                    os.write(writer, function(i).encode(errors="replace")[:4000] + b"\n")
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader, encoding="utf-8", errors="replace") as lines:
            i = first
            for line in lines:
                yield i, line.rstrip("\n")
                i = next(numbers, None)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if i is not None:
            why = "took too long" if status == -signal.SIGALRM else f"the process ended ({status})"
            yield i, f"NOT ALLOWED, {why}"


def load_one(path, models, seed, i):
    content = mutant(models, seed, i)
    with open(path, "wb") as file:
        file.write(content)
    return outcome(path, content)


def outcome(path, content):
    """What comes of loading a file with this content."""
    signal.alarm(SECONDS)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (
        address_space() + SLACK + MULTIPLE * len(content), limits[1]))
    watched.clear()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            watched.append("begin")
            net = fb.load(path)
            events = watched[1:]
    except BaseException as error:
        events = watched[1:]
        kind = of_error(path, error)
    else:
        kind = of_network(path, content, net, caught)
    finally:
        watched.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
    return f"NOT ALLOWED, {events}" if events else kind


def of_error(path, error):
    text = str(error)
    if type(error) is ValueError and text.startswith("path: ") and repr(path) in text:
        for kind, pattern in MESSAGES.items():
            if re.search(pattern, text, re.DOTALL):
                return f"ValueError, {kind}"
        return "ValueError, other"
    return f"NOT ALLOWED, {type(error).__name__}: {text[:300]!r}"


def of_network(path, content, net, caught):
    numbers = [getattr(layer, name) for layer in net.layers for name in layer.parameter_shapes]
    wild = not all(np.isfinite(array).all() for array in numbers)
    texts = [f"{warning.category.__name__}: {warning.message}" for warning in caught]
    if len(texts) != wild or not all(
        text.startswith(f"RuntimeWarning: path: {path!r} holds NaN or infinity") for text in texts
    ):
        return f"NOT ALLOWED, warnings: {texts}"
    length = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + length]), content[8 + length :]
    for i, layer in enumerate(net.layers):
        for name in layer.parameter_shapes:
            start, stop = header[f"layers.{i}.{name}"]["data_offsets"]
            if getattr(layer, name).tobytes() != data[start:stop]:
                return f"NOT ALLOWED, other numbers in layers.{i}.{name}"
    return "a network, with a warning" if wild else "a network"


def address_space():
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


watched = []  # what was done, from "begin" on


def audit(event, arguments):
    if watched and (event in FORBIDDEN or event == "open"):
        watched.append(f"{event} {arguments!r}"[:200])


# The files


def whole_models(folder):
    """Contents of some good files."""
    rng = np.random.default_rng(0)
    networks = []
    for dtype in ("float32", "float64"):
        networks += [
            fb.mlp([3, 2], dtype=dtype, seed=0),
            fb.mlp([20, 50, 10], "gelu", dropout=0.5, dtype=dtype, seed=1),
            fb.Sequential([fb.Dense(4, 6, "glorot_normal"), fb.GELU(), fb.Dropout(0.3),
                           fb.Dense(6, 5), fb.Tanh(), fb.ELU(0.5), fb.LeakyReLU(0.2), fb.SiLU(),
                           fb.ReLU(), fb.Dense(5, 3), fb.Sigmoid()], dtype, seed=2),
            fb.Sequential([fb.ReLU(), fb.Dropout(0.1)], dtype),
            fb.mlp([1] * 8, "silu", dtype=dtype, seed=3),
        ]
    networks[0].parameters[:] = rng.normal(size=8)
    contents = []
    for net in networks:
        path = os.path.join(folder, "whole")
        net.save(path)
        assert repr(fb.load(path)) == repr(net)  # which also imports all that loading needs
        contents.append(Path(path).read_bytes())
    os.unlink(path)
    return contents


def mutant(models, seed, i):
    """The i-th file."""
    rng = random.Random(f"{seed} {i}")
    content = rng.choice(models)
    structured = rng.random() < 0.75
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        if structured:
            changed = change_structure(content, rng, models)
            content = content if changed is None else changed
        else:
            content = rng.choice(BYTE_CHANGES)(content, rng, models)
    return content


def parse(content):
    """The header, the description in it, and the data; None of what cannot be taken apart."""
    length = int.from_bytes(content[:8], "little")
    try:
        header = json.loads(content[8 : 8 + length])
        description = json.loads(header["__metadata__"]["fastbp"])
        tensors = [name for name in header if name != "__metadata__"]
        assert all(isinstance(header[name], dict) for name in tensors)
    except (ValueError, KeyError, TypeError, RecursionError, AssertionError):
        return None
    return header, description, content[8 + length :]


def assemble(header, description, data):
    if description is not None:
        header["__metadata__"]["fastbp"] = json.dumps(description)
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def change_structure(content, rng, models):
    parts = parse(content)
    if parts is None:
        return None
    header, description, data = parts
    try:
        return rng.choice(STRUCTURE_CHANGES)(header, description, data, rng, models)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, RecursionError):
        return None  # there is nothing left to change in this way, or it is nested too deep


NUMBERS = [0, 1, 2, 3, -1, 7, 24, 1000, 2**31 - 1, 2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63,
           2**64 - 1, 2**64, 10**30, -(2**63), 10**400, 0.5, -0.5, 1.0, 1e308, float("nan"),
           float("inf")]
TEXTS = ["", "a", "Dense", "ReLU", "Layer", "Sequential", "os.system", "__class__", "eval", "F32",
         "F64", "BF16", "float32", "float64", "float16", "he_uniform", "layers.0.W", "layers.9.W",
         "W", "\0", "\ud800", "é" * 10, "../../etc/passwd", "%s%n{0}", "x" * 5000, "__metadata__"]
DTYPES = ["BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16", "I32", "U32",
          "F32", "F64", "I64", "U64", "C64", "F4", "f32", ""]


def some_value(rng):
    choices = [
        lambda: rng.choice(NUMBERS), lambda: rng.choice(NUMBERS), lambda: rng.choice(TEXTS),
        lambda: rng.choice([None, True, False, [], {}, [[]], {"a": 1}, [1, 2], ["x"]]),
        lambda: deep(rng.choice([1, 5, 60, 130, 500])),
        lambda: [rng.choice(NUMBERS) for _ in range(rng.randrange(1, 5))],
    ]
    return rng.choice(choices)()


def deep(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def places(tree):
    """All containers in a tree with their keys."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            yield node, key
            if isinstance(value, dict | list):
                waiting.append(value)


def change_tree(tree, rng):
    """One place of a JSON value is another."""
    node, key = rng.choice(list(places(tree)))
    how = rng.randrange(7)
    if how == 0:
        del node[key]
    elif how == 1 and isinstance(node, dict):
        node[rng.choice(TEXTS)] = node.pop(key)
    elif how == 2:
        other, other_key = rng.choice(list(places(tree)))
        node[key], other[other_key] = copy.deepcopy(other[other_key]), copy.deepcopy(node[key])
    elif how == 3 and isinstance(node[key], int | float):
        node[key] = rng.choice([node[key] + 1, node[key] - 1, node[key] * 2, -node[key],
                                node[key] + 0.5, str(node[key]), node[key] + 2**32])
    elif how == 4 and isinstance(node, dict):
        node[rng.choice(TEXTS)] = some_value(rng)
    elif how == 5 and isinstance(node, list):
        node.insert(rng.randrange(len(node) + 1), copy.deepcopy(node[key]))
    else:
        node[key] = some_value(rng)


def header_value(header, description, data, rng, models):
    change_tree(header, rng)
    return assemble(header, None, data)


def description_value(header, description, data, rng, models):
    change_tree(description, rng)
    return assemble(header, description, data)


def description_text(header, description, data, rng, models):
    text = json.dumps(description)
    at = rng.randrange(len(text))
    header["__metadata__"]["fastbp"] = rng.choice([
        "", "{", "null", "[" * rng.choice([10, 900, 1000, 100_000]), text[:at], text[at:],
        text[:at] + rng.choice(TEXTS) + text[at:], text * 2, " " * 1000 + text, "\ufeff" + text,
        text.replace("1", "1" * 5000, 1), text.replace(":", ":" + '{"a":' * 2000, 1),
        text[:-1] + ', "version": 1}', text[:-1] + ', "layers": []}',
    ])
    return assemble(header, None, data)


def a_tensor(header, rng):
    return rng.choice([name for name in header if name != "__metadata__"])


def offsets(header, description, data, rng, models):
    a, b = a_tensor(header, rng), a_tensor(header, rng)
    start, stop = header[a]["data_offsets"]
    n = rng.choice([1, 4, 8, stop - start, len(data), 2**32, 2**62, 2**63, 2**64 - stop])
    header[a]["data_offsets"] = rng.choice([
        list(header[b]["data_offsets"]), [start + n, stop + n], [start, stop + n],
        [start - n, stop], [stop, start], [start, start], [0, len(data)], [start], [],
        [start, stop, stop], [len(data), len(data) + stop - start], [float(start), stop],
    ])
    return assemble(header, None, data)


def shapes(header, description, data, rng, models):
    tensor = header[a_tensor(header, rng)]
    shape = tensor["shape"]
    tensor["shape"] = rng.choice([
        shape[::-1], [*shape, 1], [1, *shape], shape[:-1], [], [0], [*shape, 0], [2**32, 2**32],
        [2**63, 2], [2**64 - 1, 2**64 - 1], [2**62, 4], [-1, -6], [n * 2 for n in shape],
        [2**32 + n for n in shape], [1] * 5000, [int(np.prod(shape))],
    ])
    return assemble(header, None, data)


def dtypes(header, description, data, rng, models):
    for name in header:
        if name != "__metadata__" and rng.random() < 0.7:
            header[name]["dtype"] = rng.choice(DTYPES)
    return assemble(header, None, data)


def tensors(header, description, data, rng, models):
    name = a_tensor(header, rng)
    how = rng.randrange(5)
    if how == 0:  # its data stays
        del header[name]
    elif how == 1:  # the last with its data
        name = max((n for n in header if n != "__metadata__"),
                   key=lambda n: header[n]["data_offsets"])
        data = data[: header.pop(name)["data_offsets"][0]]
    elif how == 2:
        header[rng.choice(["layers.9.W", "x", "layers.0.V", "layers.1.W", "layers.00.W"])] = {
            "dtype": "F32", "shape": [2], "data_offsets": [len(data), len(data) + 8]}
        data += bytes(8)
    elif how == 3:
        header[rng.choice(TEXTS)] = header.pop(name)
    else:
        header[f"x{name}"] = dict(header[name])
    return assemble(header, None, data)


def sizes(header, description, data, rng, models):
    """The header claims a larger layer and larger tensors, without more data."""
    i = rng.choice([i for i, layer in enumerate(description["layers"])
                    if layer["type"] == "Dense"])
    config, n = description["layers"][i]["config"], rng.choice([2, 2**16, 2**31, 2**32, 2**60])
    config["n_out"] = n * int(config["n_out"])
    for name in ("W", "b"):
        tensor = header[f"layers.{i}.{name}"]
        tensor["shape"][-1] = n * int(tensor["shape"][-1])
        if rng.random() < 0.5:
            start, stop = map(int, tensor["data_offsets"])
            tensor["data_offsets"] = [start, start + (stop - start) * n]
    return assemble(header, description, data)


def many_layers(header, description, data, rng, models):
    kind = rng.choice(["ReLU", "Tanh", "Dense", "Nonsense"])
    config = {"n_in": 1, "n_out": 1} if kind == "Dense" else {}
    description["layers"] += [{"type": kind, "config": config}] * rng.choice([1, 20, 3000])
    return assemble(header, description, data)


def wild_numbers(header, description, data, rng, models):
    item = 8 if description["dtype"] == "float64" else 4
    at = rng.randrange(len(data) // item) * item
    number = rng.choice([np.nan, np.inf, -np.inf, -0.0, 1e-310, 1e300])
    with np.errstate(over="ignore"):
        return assemble(header, None, data[:at] + np.array(number, f"f{item}").tobytes()
                        + data[at + item :])


def duplicates(header, description, data, rng, models):
    text = json.dumps(header)
    key = rng.choice(list(header))
    again = json.dumps({key: rng.choice([header[key], some_value(rng), {}])})
    return assemble((text[:-1] + ", " + again[1:]).encode(), None, data)


def header_length(header, description, data, rng, models):
    content = assemble(header, None, data)
    length = int.from_bytes(content[:8], "little")
    length = rng.choice([0, 1, length - 1, length + 1, length // 2, len(content), len(content) - 8,
                         len(content) - 7, 100_000_000, 100_000_001, 2**31, 2**32 + length, 2**63,
                         2**64 - 1, 2**64 - 8])
    return struct.pack("<Q", length % 2**64) + content[8:]


def large_header(header, description, data, rng, models):
    text = json.dumps(header).encode()
    n = rng.choice([1, 7, 1000, 300_000])
    return assemble(rng.choice([
        text + b" " * n, b" " * n + text, text + b"\0" * n, b"[" * n, b'{"a":' * n, b"{" + b" " * n,
        text[:-1] + b', "x": "' + b"y" * n + b'"}', text[:-1] + b"," * n + b"}", b"\xff" * n,
        text.replace(b"layers", b"l\\u0061yers"), text.replace(b"F", b"\xc3\x28"),
    ]), None, data)


def metadata(header, description, data, rng, models):
    value = header["__metadata__"]
    header["__metadata__"] = rng.choice([
        None, {}, [], "x", {"fastbp": 3}, {"fastbp": None}, {"fastbp": description},
        {"format": "pt"}, value | {"format": "pt"}, value | {"": ""}, {"fastbp ": value["fastbp"]},
        value | {str(i): "x" for i in range(1000)},
    ])
    return assemble(header, None, data)


STRUCTURE_CHANGES = [header_value, header_value, *[description_value] * 8, description_text,
                     description_text, offsets, shapes, dtypes, tensors, tensors, sizes,
                     many_layers, many_layers, wild_numbers, wild_numbers, duplicates,
                     header_length, large_header, metadata]


def flip(content, rng, models):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if content:
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def flip_early(content, rng, models):
    return flip(content[:200], rng, models) + content[200:]


def cut(content, rng, models):
    return content[: rng.randrange(len(content) + 1)]


def extend(content, rng, models):
    return content + rng.choice([b"\0", bytes(1000), rng.randbytes(50), content])


def insert(content, rng, models):
    at = rng.randrange(len(content) + 1)
    return content[:at] + rng.randbytes(rng.choice([1, 4, 100])) + content[at:]


def remove(content, rng, models):
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice([1, 4, 100]) :]


def repeat(content, rng, models):
    at, n = rng.randrange(len(content) + 1), rng.randrange(1, 200)
    return content[: at + n] + content[at:]


def integer(content, rng, models):
    at, size = rng.randrange(len(content) + 1), rng.choice([1, 2, 4, 8])
    number = rng.choice([0, 1, 2**7, 2**8 - 1, 2**15, 2**31, 2**32 - 1, 2**63, 2**64 - 1])
    return content[:at] + (number % 2 ** (8 * size)).to_bytes(size, "little") + content[at + size :]


def splice(content, rng, models):
    other = rng.choice(models)
    return content[: rng.randrange(len(content) + 1)] + other[rng.randrange(len(other)) :]


def noise(content, rng, models):
    return rng.choice([b"", b"PK\x03\x04", b"\x80\x05", b"\x89HDF\r\n"]) + rng.randbytes(
        rng.choice([0, 8, 100, 3000]))


def late(content, rng, models):
    """The header is kept, and the data changed."""
    length = 8 + int.from_bytes(content[:8], "little")
    return content[:length] + rng.randbytes(max(0, len(content) - length))


BYTE_CHANGES = [flip, flip, flip_early, flip_early, cut, extend, insert, remove, repeat, integer,
                integer, splice, noise, late]


if __name__ == "__main__":
    main()
