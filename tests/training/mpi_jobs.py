"""What tests/training/test_distributed.py runs in several processes: ``mpi_jobs.py job [options]``.

The first process prints the results as JSON.
"""

import hashlib
import json
import sys
import warnings

import numpy as np

import fastbp as fb
from fastbp.kernels import threads


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def result(net, history, optimizer):
    """A hash of everything that a fit leaves behind, but for the times."""
    numbers = [np.asarray(values, float) for name, values in history.items() if name != "seconds"]
    return digest(net.parameters, net.buffers, net.gradients, *optimizer.state.values(), *numbers)


def data(rows=1500, columns=12):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((rows, columns)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > X[:, 2]).astype(np.int64) + (X[:, 3] > 1), X[:, :2] * X[:, 2:4]


def trainings():
    """Networks, and the arguments of their fits: X, y and the others."""
    X, labels, targets = data()
    weights = 0.5 + abs(X[:, 5])
    common = {"epochs": 2, "batch_size": 700, "seed": 5}
    validated = {"validation_fraction": 0.2}
    return {
        "classification": (
            fb.mlp([12, 300, 40, 3], seed=1), X, labels,
            {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.Adam(0.01), "l2": 0.1,
             **common, **validated}),
        "regression": (
            fb.mlp([12, 64, 2], "tanh", dtype="float64", seed=2), X, targets,
            {"loss": fb.Huber(0.5), "optimizer": fb.SGD(0.05, 0.9), **common, "ema": 0.9,
             "validation_data": (X[:333], targets[:333]), "gradient_norms": True}),
        "dropout": (
            fb.Sequential([fb.Dense(12, 50), fb.Mish(), fb.Dropout(0.3), fb.LayerNorm(50),
                           fb.Dense(50, 33), fb.PReLU(33), fb.Dropout(0.2), fb.Dense(33, 3)],
                          seed=3),
            X, labels, {"loss": fb.SoftmaxCrossEntropy(0.1), "optimizer": fb.Lion(1e-3),
                        **common}),
        "batch norm": (
            fb.Sequential([fb.Dense(12, 40), fb.BatchNorm(40), fb.ReLU(), fb.Dense(40, 70),
                           fb.BatchNorm(70), fb.ReLU(), fb.Dense(70, 3)], seed=4),
            X, labels, {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.AdamW(0.01),
                        **common, **validated}),
        "clipping": (
            fb.mlp([12, 64, 64, 2], "gelu", seed=5), X, targets,
            {"loss": fb.MeanSquaredError(), "optimizer": fb.AdamW(0.01, clip_norm=0.1),
             **common, "batch_size": 1024}),
        "sample weights": (
            fb.mlp([12, 31, 3], seed=6), X, labels,
            {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.Muon(0.01),
             "sample_weight": weights, **common, "batch_size": 300, "shuffle": False}),
        "embeddings": (
            fb.Sequential([fb.Columns([([0], fb.Embedding(9, 5)),
                                       (range(1, 6), fb.PeriodicEmbedding(5, 4, 6)),
                                       (range(6, 12), [])]),
                           fb.Dense(31, 33), fb.ReLU(), fb.Dense(33, 3)], seed=7),
            np.column_stack([np.arange(len(X)) ** 2 % 9, X[:, 1:]]), labels,
            {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.Adam(0.01), **common}),
    }


def train(name, **more):
    net, X, y, arguments = trainings()[name]
    return result(net, net.fit(X, y, **arguments, **more), arguments["optimizer"])


def all_hashes(communicator):
    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # some processes have to wait
        for name in trainings():
            found[name] = [train(name, n_threads=n, communicator=communicator) for n in (1, 2)]
    return found


JOBS = {"hashes": all_hashes}

if __name__ == "__main__":
    from mpi4py import MPI

    threads.set_work_per_thread(0)
    results = JOBS[sys.argv[1]](MPI.COMM_WORLD)
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(results))
