"""Compare the speed of two installations of fastbp.

    python bench/compare.py BEFORE/bin/python AFTER/bin/python

Each Python has fastbp installed, for example of the commits before and after a change.  Each works
in its own process on the same core; they take turns, a short piece of work at a time.
The time of a case is the fastest of all turns, its ratio that of the two fastest times; above 1 the
second is faster.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import time
from functools import partial

STEPS = [
    ([8, 64, 64, 4], 64), ([64, 64, 10], 32), ([32, 128, 128, 2], 256), ([784, 256, 128, 10], 128),
    ([784, 1024, 1024, 1024, 10], 256),
]
SECONDS = 0.04  # of one turn


def cases():
    """Functions to call, each with how many things of its kind a call does."""
    import numpy as np

    import fastbp as fb
    from fastbp.kernels import dispatch

    rng = np.random.default_rng(0)
    found = {}

    def training(sizes, batch, optimizer, activation="relu", dropout=0.0, dtype="float32"):
        net = fb.mlp(sizes, activation, dropout, dtype=dtype, seed=0)
        steps = max(4, min(400, 10**8 // (batch * net.parameters.size)))
        X = rng.normal(size=(batch * steps, sizes[0])).astype(dtype)
        y = rng.integers(0, sizes[-1], len(X))
        return lambda: net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=1,
                               batch_size=batch, shuffle=False, seed=0), steps

    for sizes, batch in STEPS:
        name = f"{'-'.join(map(str, sizes))}, {batch}"
        found[f"step of SGD, {name}"] = training(sizes, batch, fb.SGD(1e-3))
        found[f"step of Adam, {name}"] = training(sizes, batch, fb.Adam(1e-4))
    for batch in (1, 2, 4, 8):
        found[f"step of SGD, 784-256-128-10, {batch}"] = training(
            [784, 256, 128, 10], batch, fb.SGD(1e-3))
    small = [64, 64, 10], 32
    found["step, float64"] = training(*small, fb.SGD(1e-3), dtype="float64")
    found["step, gelu and dropout"] = training(*small, fb.SGD(1e-3), "gelu", 0.2)
    found["step, tanh, momentum, clipping"] = training(
        *small, fb.SGD(1e-3, 0.9, clip_norm=1.0), "tanh")

    net, y = fb.mlp([4, 16, 3], seed=0), rng.integers(0, 3, 16)
    X = rng.normal(size=(16, 4)).astype("f4")
    for epochs in (1, 50):
        found[f"fit of {epochs} epochs of one step, 4-16-3"] = (
            lambda epochs=epochs: net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=epochs,
                                          batch_size=16, seed=0), 1)

    def in_tier(isa, function):
        def call():
            used = dispatch.isa()
            dispatch.use(isa)
            try:
                function()
            finally:
                dispatch.use(used)

        return call

    for isa in dispatch.available():
        for dtype in ("float32", "float64"):
            function, steps = training([32, 128, 128, 2], 256, fb.SGD(1e-3), dtype=dtype)
            found[f"step in {isa}, {dtype}"] = in_tier(isa, function), steps

    for sizes in ([64, 64, 64, 8], [784, 100, 10], [784, 1024, 1024, 1024, 10]):
        for rows in (1, 32, 1024):
            predicts = fb.mlp(sizes, seed=0).predict
            batch = rng.normal(size=(rows, sizes[0])).astype("f4")
            out = predicts(batch)
            name = f"predict {rows} rows, {'-'.join(map(str, sizes))}"
            found[name] = lambda predicts=predicts, batch=batch: predicts(batch), 1
            found[f"{name}, out="] = (
                lambda predicts=predicts, batch=batch, out=out: predicts(batch, out=out), 1)

    try:
        return found | of_estimators()
    except ImportError:
        return found


def of_estimators():
    """Those of `cases` that need scikit-learn."""
    import warnings

    import numpy as np
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV

    import fastbp as fb

    warnings.simplefilter("ignore")
    rng, found = np.random.default_rng(0), {}
    digits = load_digits(return_X_y=True)
    for name, (X, y), parameters in (
        ("600 rows, 3 epochs", (rng.random((600, 64)), rng.integers(0, 10, 600)), {"max_iter": 3}),
        ("digits, batch_size=32", digits, {"batch_size": 32, "max_iter": 4}),
        ("digits", digits, {"max_iter": 10}),
        ("as large as MNIST", (rng.random((6000, 784)), rng.integers(0, 10, 6000)),
         {"max_iter": 1}),
    ):
        for dtype in ("float32", "float64"):
            fit = fb.MLPClassifier(random_state=0, n_iter_no_change=99, **parameters).fit
            found[f"MLPClassifier.fit, {name}, {dtype}"] = partial(fit, X.astype(dtype), y), 1
    X, y = (digits[0] / 16).astype("f4"), digits[1]
    fitted = fb.MLPClassifier(random_state=0, max_iter=1).fit(X, y)
    for method in ("predict_proba", "predict"):
        for rows in (1, len(X)):
            call = getattr(fitted, method)
            found[f"MLPClassifier.{method}, {rows} rows"] = (
                lambda call=call, rows=X[:rows]: call(rows), 1)
    search = GridSearchCV(
        fb.MLPClassifier(random_state=0, batch_size=32, max_iter=5),
        {"hidden_layer_sizes": [(32,), (100,)], "activation": ["relu", "tanh"]}, cv=3, refit=False)
    found["GridSearchCV, 300 rows, 5 epochs"] = lambda: search.fit(X[:300], y[:300]), 1
    return found


def work():
    """The loop of a child process: for each case received, send its time."""
    import fastbp as fb

    fb.set_num_threads(1)
    found = cases()
    print(json.dumps(list(found)), flush=True)
    for line in sys.stdin:
        function, things = found[json.loads(line)]
        best, end = math.inf, time.perf_counter() + SECONDS
        while True:
            start = time.perf_counter()
            function()
            now = time.perf_counter()
            best = min(best, now - start)
            if now > end:
                break
        print(best / things, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("pythons", nargs=2, metavar="PYTHON")
    parser.add_argument("--rounds", type=int, default=15, metavar="N")
    parser.add_argument("--core", type=int, metavar="N", help="default: the first there is")
    parser.add_argument("--only", default="", metavar="WORDS", help="cases whose names have them")
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        core = arguments.core
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0)) if core is None else core})
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    workers = [
        subprocess.Popen([python, __file__, "--work"], stdin=subprocess.PIPE, text=True,
                         stdout=subprocess.PIPE, env=environment)
        for python in arguments.pythons
    ]
    names, _ = (json.loads(worker.stdout.readline()) for worker in workers)
    names = [name for name in names if arguments.only in name]
    width, ratios = max(map(len, names)), []
    print(f"{'':{width}}      before       after   before / after")
    for name in names:
        fastest = [math.inf, math.inf]
        for _ in range(arguments.rounds):
            for i, worker in enumerate(workers):
                worker.stdin.write(json.dumps(name) + "\n")
                worker.stdin.flush()
                fastest[i] = min(fastest[i], float(worker.stdout.readline()))
        ratios.append(fastest[0] / fastest[1])
        print(f"{name:{width}}  {1e6 * fastest[0]:8.2f} µs {1e6 * fastest[1]:8.2f} µs"
              f"   {ratios[-1]:.3f}", flush=True)
    print(f"geometric mean {math.prod(ratios) ** (1 / len(ratios)):.3f}, smallest "
          f"{min(ratios):.3f}")
    for worker in workers:
        worker.stdin.close()
        worker.wait()


if __name__ == "__main__":
    work() if "--work" in sys.argv else main()
