"""Same bits: eight networks trained in every possible way, and their hashes.

    python bench/reproducibility.py

Each is trained in float32 and, but for two of reduced precision, in float64, with every
instruction set of this machine, 1 to 4 threads, by compiled steps and by the reference interpreter,
and predicts in batches of several sizes.  The results (parameters, optimizer state, history,
predictions) are hashed, and the hashes must equal those in reproducibility.json, which may have
been made on another machine.
"""

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path

import numpy as np

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch, threads
from fastbp.program import reference

STORED = Path(__file__).with_suffix(".json")


def numbers(rows, columns, seed):
    """Rows between -1 and 1 that are the same everywhere: whole numbers, divided by 512."""
    i, j = np.ogrid[1 : rows + 1, 1 : columns + 1]
    return (i * 7919 + j * 104729 + i * j * (31 + seed)) % 1021 / 512 - 1


def classification(dtype):
    """Rows of unequal weight, Adam along a cosine, a penalty on the weights."""
    X = numbers(500, 20, 1)
    y = (4 * abs(X[:, 0] + X[:, 1] * X[:, 2])).astype(int) % 5
    net = fb.mlp([20, 64, 33, 5], dtype=dtype, seed=1)
    return net, X, {
        "y": y, "loss": fb.SoftmaxCrossEntropy(0.1), "sample_weight": 1 + abs(X[:, 3]), "l2": 0.1,
        "optimizer": fb.Adam(fb.schedules.Cosine(0.01, 4, 1)), "epochs": 4, "batch_size": 32,
        "validation_fraction": 0.2,
    }


def regression(dtype):
    """Two outputs, tanh and GELU, Nesterov's momentum, clipped gradients."""
    X = numbers(400, 13, 2)
    y = np.stack([X[:, 0] * X[:, 1], X[:, 2] - X[:, 3]], axis=1)
    net = fb.mlp([13, 48, 300, 2], ("tanh", "gelu"), dtype=dtype, seed=2)
    return net, X, {
        "y": y, "loss": fb.Huber(0.5),
        "optimizer": fb.SGD(0.05, 0.9, nesterov=True, weight_decay=1e-3, clip_norm=0.5),
        "epochs": 3, "batch_size": 50, "validation_data": (X[:77], y[:77]),
    }


def deep(dtype):
    """Five hidden layers, each with another activation and dropout, and AdamW."""
    X = numbers(300, 30, 3)
    y = (X[:, :3] > X[:, 3:6]).astype(float)
    names = ("elu", "silu", "leaky_relu", "sigmoid", "relu")
    net = fb.mlp([30, 64, 40, 40, 64, 17, 3], names, dropout=0.2, dtype=dtype, seed=3)
    return net, X, {
        "y": y, "loss": fb.SigmoidCrossEntropy(), "optimizer": fb.AdamW(0.005), "epochs": 3,
        "batch_size": 37, "gradient_norms": True,
    }


def numbers_embedded(dtype):
    """Columns as cosines, trained and frozen, and as piecewise linear curves, and Lion."""
    X = numbers(350, 6, 4)
    y = np.stack([abs(X[:, 0]) - X[:, 1], X[:, 2] * X[:, 4]], axis=1)
    edges = [[-1, -0.5, 0.125, 0.25, 1], [-0.75, 0.75]]
    net = fb.Sequential([
        fb.Columns([(slice(0, 2), fb.PeriodicEmbedding(2, 9, 0.5)),
                    (slice(2, 4), fb.PeriodicEmbedding(2, 16, 2, trainable=False,
                                                       random_phases=True)),
                    (slice(4, 6), fb.PiecewiseLinearEmbedding(edges, 7))]),
        fb.Dense(64, 24), fb.ReLU(), fb.Dense(24, 2), fb.PeriodicEmbedding(2, 3), fb.Dense(6, 2),
    ], dtype, seed=4)
    for _, layer in net.leaves:
        if isinstance(layer, fb.PeriodicEmbedding):
            layer.gamma = 0.5
    return net, X, {
        "y": y, "loss": fb.MeanSquaredError(), "optimizer": fb.Lion(1e-3), "epochs": 3,
        "batch_size": 300,
    }


def matrices(dtype):
    """Muon, for matrices that are high, wide and square, of several blocks, and one with one row.

    A column of zeros and a schedule for the other parameters, without biases' decay.
    """
    X = numbers(300, 41, 4)
    X[:, 7] = 0
    y = X[:, :1] * X[:, 1:3]
    net = fb.mlp([41, 33, 100, 100, 1, 20, 2], "tanh", dtype=dtype, seed=4)
    return net, X, {
        "y": y, "loss": fb.MeanSquaredError(), "epochs": 3, "batch_size": 40, "ema": 0.9,
        "optimizer": fb.Muon(0.02, weight_decay=0.1, clip_norm=1.0,
                             adam_learning_rate=fb.schedules.Cosine(0.01, 3, 1),
                             groups=[fb.Group("b", weight_decay=0)]),
    }


def members(dtype):
    """Ensembles of 5 members with shared weights, with and without factors, classes and weights."""
    X = numbers(300, 9, 5)
    k = 5
    net = fb.Sequential([
        fb.Dense(9, 11), fb.Repeat(11, k), fb.EnsembleDense(11, 24, k, "random_signs"), fb.ReLU(),
        fb.Dropout(0.25), fb.EnsembleDense(24, 17, k), fb.ReLU(),
        fb.EnsembleDense(17, 17, k, None), fb.ReLU(), fb.SeparateDense(17, 3, k),
    ], dtype, seed=5)
    return net, X, {
        "y": (X[:, 0] > 0) + (X[:, 1] > X[:, 2]), "optimizer": fb.AdamW(0.01),
        "loss": fb.EnsembleLoss(fb.SoftmaxCrossEntropy(0.1), k), "epochs": 3, "batch_size": 64,
        "sample_weight": abs(X[:, 3]), "l2": 0.01,
    }


def reduced(dtype, precision):
    """Reduced precision: minibatches of more than one block of rows, and a fused update."""
    X = numbers(700, 45, 6)
    X[:, 3] = 2.0**-60
    net = fb.mlp([45, 70, 300, 33, 5], ("relu", "gelu", "relu"), dtype=dtype, precision=precision,
                 seed=6)
    return net, X, {
        "y": (4 * abs(X[:, 0] + X[:, 1] * X[:, 2])).astype(int) % 5, "epochs": 3,
        "loss": fb.SoftmaxCrossEntropy(), "batch_size": 290,
        "optimizer": fb.SGD(0.05, 0.9, weight_decay=1e-3),
    }


def high(dtype):
    return reduced(dtype, "high")


def medium(dtype):
    return reduced(dtype, "medium")


NETWORKS = {"classification": classification, "regression": regression, "deep": deep,
            "embeddings": numbers_embedded, "matrices": matrices, "members": members,
            "high": high, "medium": medium}

# Reduced precision is for float32.
SINGLE = "high", "medium"


def dtypes(name):
    """Those in which a network is trained."""
    return ["float32"] if name in SINGLE else ["float32", "float64"]


def fingerprint(name, dtype, compiled=True, chunk=None):
    """The hash of all results of a training.

    Parameters
    ----------
    name : str
        One of `NETWORKS`.
    dtype : str
    compiled : bool, default True
        Whether compiled steps train it, or the reference interpreter.
    chunk : int, optional
        Rows to predict at a time; without it all at once.
    """
    network, X, settings = NETWORKS[name](dtype)
    steps = training.run.new_steps
    training.run.new_steps = steps if compiled else reference.new_steps
    try:
        history = network.fit(X, **settings)
    finally:
        training.run.new_steps = steps
    optimizer = settings["optimizer"]
    chunks = range(0, len(X), chunk or len(X))
    outputs = [network.predict(X[i : i + (chunk or len(X))]) for i in chunks]
    hashed = hashlib.sha256()
    for array in (network.parameters, *optimizer.state.values(), np.concatenate(outputs)):
        hashed.update(array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())
    for key, values in history.items():
        if key != "seconds":
            hashed.update(key.encode() + np.asarray(values, "<f8").tobytes())
    return hashed.hexdigest()[:32]


def ways():
    """Instruction set, threads, whether compiled, and rows to predict at a time."""
    for isa in dispatch.available():
        for n_threads in (1, 2, 3, 4):
            yield isa, n_threads, True, None
        yield isa, 1, False, None
        for chunk in (1, 7, 64):
            yield isa, 1, True, chunk


def check(names=NETWORKS):
    """Train in every way; a list of (name, dtype, way, hash), and those stored.

    Returns
    -------
    found : list of tuple
    """
    found, tier = [], dispatch.isa()
    work = threads.set_work_per_thread(0)  # so small a network would get one thread
    try:
        for name in names:
            for dtype in dtypes(name):
                for way in ways():
                    isa, n_threads, compiled, chunk = way
                    dispatch.use(isa)
                    fb.set_num_threads(n_threads)
                    found.append((name, dtype, way, fingerprint(name, dtype, compiled, chunk)))
    finally:
        threads.set_work_per_thread(work)
        fb.set_num_threads(None)
        dispatch.use(tier)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--store", action="store_true",
                        help=f"write the hashes to {STORED.name} (a change of results!)")
    arguments = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, NumPy {np.__version__}, "
          f"instruction sets {', '.join(dispatch.available())}")
    found = check()
    if arguments.store:
        hashes = {f"{name} {dtype}": value for name, dtype, _, value in found}
        STORED.write_text(json.dumps(hashes, indent=1) + "\n")
    stored = json.loads(STORED.read_text())
    wrong = [each for each in found if each[3] != stored[f"{each[0]} {each[1]}"]]
    for key, value in stored.items():
        name, dtype = key.split()
        same = [each[3] == value for each in found if each[:2] == (name, dtype)]
        print(f"{key:<24} {value}  {sum(same)} of {len(same)} ways")
    for name, dtype, (isa, n_threads, compiled, chunk), value in wrong:
        how = "compiled" if compiled else "interpreted"
        print(f"DIFFERENT: {name} {dtype}, {isa}, {n_threads} threads, {how}, "
              f"{chunk or 'all'} rows at a time: {value}")
    print(f"{len(found) - len(wrong)} of {len(found)} hashes are those stored")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
