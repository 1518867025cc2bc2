"""Memory that training adds to the process beyond the data, compared with what it has to hold.

    python bench/memory.py --quick

Each case runs in its own process, which makes the data, trains on a few rows so that all
code is loaded, notes how much private memory it has (RssAnon of /proc/self/status: pages that
belong to no file, so neither the map nor the libraries), trains for an epoch, and subtracts.
RssAnon is read every millisecond by a thread, since Linux keeps no peak of it.  The C library is
told to give freed blocks back at once: what it keeps would hide what is added.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import common
import numpy as np

import fastbp as fb

SIZES, BATCH = [100, 256, 128, 10], 256
CASES = {
    "memmap": "memory-mapped float32",
    "float32": "float32 in memory",
    "float64": "float64 in memory",
    "uint8": "uint8 in memory",
}
CHUNK = 10_000  # rows made at once


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--case", choices=CASES, help="this one alone, here, as JSON")
    parser.add_argument("--rows", type=int, help="(default: 1,000,000; quick: 200,000)")
    arguments = common.begin(parser)
    rows = arguments.rows or (200_000 if arguments.quick else 1_000_000)
    if not Path("/proc/self/status").exists():
        raise SystemExit("memory.py reads /proc/self/status, which only Linux has")
    if arguments.case:
        print(json.dumps(measure(arguments.case, rows, arguments.dtype)))
        return
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    results = []
    for case in CASES:
        command = [sys.executable, __file__, "--case", case, "--rows", str(rows),
                   "--threads", str(arguments.threads), "--dtype", arguments.dtype]
        child = subprocess.run(command, stdout=subprocess.PIPE, check=True,
                               env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"})
        results.append(json.loads(child.stdout))
    common.table(
        f"{'-'.join(map(str, SIZES))}, batch {BATCH}, Adam, {arguments.dtype}, on {rows:,} × "
        f"{SIZES[0]}: MB added while it trains",
        ["X", "X itself", "measured", "what training holds", "and the rows' order", "µs per step"],
        [[CASES[r["case"]], *(f"{r[key] / 1e6:.1f}" for key in
                              ("data", "added", "expected", "order")), f"{r['step'] * 1e6:.0f}"]
         for r in results],
        arguments.markdown,
    )
    common.save(arguments, "memory", {"machine": machine, "memory": results}, chart)


def measure(case, rows, dtype):
    """Bytes added while an epoch is trained, and those of the parts."""
    rng = np.random.default_rng(0)
    y = rng.integers(SIZES[-1], size=rows)
    net = fb.mlp(SIZES, dtype=dtype, seed=0)
    optimizer = fb.Adam()
    settings = {"loss": fb.SoftmaxCrossEntropy(), "batch_size": BATCH, "epochs": 1}
    with tempfile.TemporaryDirectory() as folder:
        X = make_data(case, rows, rng, Path(folder) / "X.dat")
        fb.mlp(SIZES, dtype=dtype, seed=0).fit(np.array(X[:BATCH]), y[:BATCH], **settings)
        with Peak() as peak:
            history = net.fit(X, y, optimizer=optimizer, **settings)
    item = np.dtype(dtype).itemsize
    expected = (
        # Parameters and gradients were there before; Adam's two means were not.
        2 * net.parameters.nbytes
        # A minibatch: the rows, activations and their gradients.
        + item * BATCH * (SIZES[0] + 2 * sum(SIZES[1:]))
    )
    return {
        "case": case, "rows": rows, "data": X.nbytes, "added": peak.added, "expected": expected,
        "order": 8 * rows, "step": history["seconds"][0] / -(-rows // BATCH),
    }


def make_data(case, rows, rng, path):
    shape = rows, SIZES[0]
    if case == "memmap":
        X = np.memmap(path, np.float32, "w+", shape=shape)
    else:
        X = np.empty(shape, case)
    for start in range(0, rows, CHUNK):
        part = X[start : start + CHUNK]
        if case == "uint8":
            part[:] = rng.integers(2, size=part.shape, dtype=np.uint8)
        else:
            part[:] = rng.standard_normal(part.shape, np.float32)
    if case == "memmap":
        X.flush()
        X = np.memmap(path, np.float32, "r", shape=shape)
    return X


class Peak:
    """The most private memory there was, beyond that at the start, for the with statement."""

    def __enter__(self):
        self.before = self.most = private_memory()
        self.done = False
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()
        return self

    def watch(self):
        while not self.done:
            self.most = max(self.most, private_memory())
            time.sleep(0.001)

    def __exit__(self, *error):
        self.most = max(self.most, private_memory())
        self.done = True
        self.thread.join()
        self.added = self.most - self.before


def private_memory():
    """Bytes that the process has in pages of no file."""
    with open("/proc/self/status", encoding="ascii") as file:
        line = next(line for line in file if line.startswith("RssAnon"))
    return 1024 * int(line.split()[1])


def chart(results):
    """What is added, beside what training holds, case by case."""
    cases = results["memory"]

    def draw(plt):
        figure, axes = plt.subplots(figsize=(8, 3.2), layout="constrained")
        names = [CASES[r["case"]] for r in cases]
        places = np.arange(len(cases))
        axes.barh(places - 0.2, [r["added"] / 1e6 for r in cases], 0.36,
                  color=common.COLORS["fastbp"], label="measured")
        expected = [r["expected"] / 1e6 for r in cases]
        axes.barh(places + 0.2, expected, 0.36, color="#606060",
                  label="Adam's state and a minibatch")
        axes.barh(places + 0.2, [r["order"] / 1e6 for r in cases], 0.36, expected,
                  color="#b0b0b0", label="the order of the rows")
        axes.set_yticks(places, [f"{name}\n({r['data'] / 1e6:.0f} MB)"
                                 for name, r in zip(names, cases, strict=True)])
        axes.invert_yaxis()
        axes.set_xlabel("MB added while it trains")
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=3)
        return figure

    return draw


if __name__ == "__main__":
    main()
