"""Read damaged ONNX files with fb.from_onnx, and check each outcome.

    python bench/fuzz_onnx.py --files 100000

Files of random networks are changed in one to three places: nodes, names, attributes, shapes,
types and arrays, or bytes.  What may come of a file is a network that predicts, or a ValueError
that names the path.  Not allowed are other errors; more memory than a multiple of the file's size;
more than some seconds; that anything is imported, run or opened but the file; and the end of the
process (see fuzz_load.py).  Those files are kept, and the script ends with 1.
"""

import argparse
import collections
import os
import random
import resource
import signal
import tempfile
import time
import warnings
from pathlib import Path

import fuzz_load
import numpy as np
import onnx
import random_programs

import fastbp as fb

SECONDS = 10  # for one file
SLACK, MULTIPLE = 16 << 20, 64  # bytes that may be allocated, and for each byte of the file
CHUNK = 2000  # files for one process
NUMBERS = [0, 1, 2, 3, -1, 7, 24, 1000, 2**31 - 1, 2**31, 2**53, 2**62, 2**63 - 1, -(2**63)]
TEXTS = ["", "X", "Z", "ones", "fastbp", "Gemm", "Relu", "If", "Loop", "Softmax", "Concat",
         "Gather", "os.system", "../secret", "\0", "é" * 10, "x" * 3000]


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
        path, models = os.path.join(folder, "net.onnx"), whole_models(folder)
        for first in range(0, n, CHUNK):
            numbers = iter(range(first, min(n, first + CHUNK)))
            for i, kind in fuzz_load.in_processes(
                    numbers, lambda i: read_one(path, mutant(models, seed, i))):
                counts[kind.partition(": ")[0]] += 1
                if kind.startswith("NOT ALLOWED"):
                    os.makedirs(output, exist_ok=True)
                    kept = os.path.join(output, f"fuzz-onnx-{seed}-{i}")
                    Path(kept).write_bytes(mutant(models, seed, i))
                    bad.append((kept, kind))
    return counts, bad


def read_one(path, content):
    """What comes of reading a file with this content."""
    with open(path, "wb") as file:
        file.write(content)
    signal.alarm(SECONDS)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (
        fuzz_load.address_space() + SLACK + MULTIPLE * len(content), limits[1]))
    fuzz_load.watched.clear()
    net = None
    try:
        fuzz_load.watched.append("begin")
        net = fb.from_onnx(path)
        kind = "a network"
    except BaseException as error:
        text = str(error)
        kind = "ValueError"
        if type(error) is not ValueError or not text.startswith(f"path: {path!r}"):
            kind = f"NOT ALLOWED, {type(error).__name__}: {text[:300]!r}"
    finally:
        events = [each for each in fuzz_load.watched[1:] if repr(path) not in each]
        fuzz_load.watched.clear()
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
    if net is not None:
        kind = of_network(net)
    return f"NOT ALLOWED, {events}" if events else kind


def of_network(net):
    """Whether a network predicts."""
    X = np.zeros((2, net.n_in or 3), np.float32)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            Z = net.predict(X)
    except Exception as error:
        if "expected codes" in str(error):
            return "a network, for other codes"
        return f"NOT ALLOWED, predict: {type(error).__name__}: {error}"
    return "a network" if len(Z) == 2 else f"NOT ALLOWED, {Z.shape}"


def whole_models(folder):
    """Contents of some good files."""
    contents, path = [], os.path.join(folder, "whole.onnx")
    for seed in range(60):
        case = random_programs.Case(seed, own=False)
        net = case.network()
        net.to_onnx(path, activation=[None, "softmax"][seed % 2], n_in=case.X.shape[1])
        fb.from_onnx(path).predict(np.zeros((1, case.X.shape[1])))  # which imports all it needs
        contents.append(Path(path).read_bytes())
    os.unlink(path)
    return sorted(contents, key=len)[:40]


def mutant(models, seed, i):
    """The i-th file."""
    rng = random.Random(f"{seed} {i}")
    content = rng.choice(models)
    structured = rng.random() < 0.75
    for _ in range(rng.choice([1, 1, 1, 2, 2, 3])):
        if structured:
            content = change_structure(content, rng)
        else:
            content = rng.choice(fuzz_load.BYTE_CHANGES)(content, rng, models)
    return content


def change_structure(content, rng):
    """A file that differs in one field of one message."""
    try:
        proto = onnx.ModelProto.FromString(content)
        message = rng.choice(list(messages(proto)))
        change_field(message, rng)
        return proto.SerializeToString()
    except Exception:  # what protobuf does not take
        return content


def messages(message):
    """A message and all within it."""
    yield message
    for field, value in message.ListFields():
        if field.message_type is not None:
            for each in (value if field.is_repeated else [value]):
                yield from messages(each)


def change_field(message, rng):
    """Delete, repeat, exchange or set a field."""
    fields = message.ListFields() or [(each, None) for each in message.DESCRIPTOR.fields]
    field, value = rng.choice(fields)
    how = rng.random()
    if how < 0.15:
        message.ClearField(field.name)
    elif field.is_repeated and value is not None and len(value):
        at = rng.randrange(len(value))
        if how < 0.4:
            del value[at]
        elif field.message_type is not None:
            other = rng.randrange(len(value))
            if how < 0.6:
                value.add().CopyFrom(value[at])
            else:
                value[at].CopyFrom(value[other])
        else:
            value[at] = some_value(field, rng, value[at])
    elif field.message_type is None:
        setattr(message, field.name, some_value(field, rng, getattr(message, field.name)))


def some_value(field, rng, old):
    """A value of a field's type."""
    if isinstance(old, bytes):
        return rng.choice([b"", old[:-1], old + b"\0", old * 2, bytes(reversed(old))])
    if isinstance(old, str):
        return rng.choice(TEXTS)
    if isinstance(old, float):
        return rng.choice([0.0, -1.0, 1e30, float("nan"), float("inf")])
    return rng.choice([*NUMBERS, old + 1, old - 1])


if __name__ == "__main__":
    main()
