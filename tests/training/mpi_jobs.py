"""What test_distributed.py runs in several processes: ``mpi_jobs.py folder job…``.

The first process prints what the jobs return, as JSON.  They share the folder.
"""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import scipy.sparse
from sklearn.base import clone

import fastbp as fb
from fastbp.__main__ import main
from fastbp.kernels import dispatch, threads
from fastbp.training import distributed


def digest(*arrays):
    found = hashlib.sha256()
    for array in arrays:
        found.update(np.ascontiguousarray(array).tobytes())
    return found.hexdigest()[:16]


def result(net, history, optimizer):
    """A hash of everything that a fit leaves behind, but for the times."""
    numbers = [np.asarray(values, float) for name, values in history.items() if name != "seconds"]
    return digest(net.parameters, net.buffers, net.gradients, *optimizer.state.values(), *numbers)


class OwnLoss(fb.MeanSquaredError):
    """One without a compiled form, and with a metric that has none."""

    class metric(fb.metrics.R2):
        name = "own_r2"


class OwnOptimizer(fb.SGD):
    """One whose update is in Python."""

    def update(self, parameters, gradients, learning_rate):
        super().update(parameters, gradients, learning_rate)


def data(rows=1500, columns=12):
    rng = np.random.default_rng(3)
    X = rng.standard_normal((rows, columns)).astype(np.float32)
    return X, (X[:, 0] * X[:, 1] > X[:, 2]).astype(np.int64) + (X[:, 3] > 1), X[:, :2] * X[:, 2:4]


def trainings():
    """Networks, and the arguments of their fits: X, y and the others."""
    X, labels, targets = data()
    # Some processes have none but zeros, and so does the first minibatch.
    weights = np.where(np.arange(len(X)) < 375, 0, 0.5 + abs(X[:, 5]))
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
            fb.Sequential([
                fb.Columns([([0], fb.Embedding(9, 5)), ([1, 2], fb.PeriodicEmbedding(2, 4)),
                            ([3], fb.PeriodicEmbedding(1, 4, trainable=False)),
                            ([4, 5], fb.PiecewiseLinearEmbedding([[-1, 0, 1], [-2, 2]], 3)),
                            (range(6, 12), [])]),
                fb.Dense(29, 33), fb.ReLU(), fb.Dense(33, 3)], seed=7),
            np.column_stack([np.arange(len(X)) ** 2 % 9, X[:, 1:]]), labels,
            {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.Adam(0.01), **common}),
        "members": (
            fb.Sequential([fb.Repeat(12, 3), fb.EnsembleDense(12, 20, 3), fb.ReLU(),
                           fb.SeparateDense(20, 3, 3)], seed=8),
            X, labels,
            {"loss": fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), 3), "optimizer": fb.Adam(0.01),
             **common, "ema": 0.5}),
        "loss and optimizer in Python": (
            fb.mlp([12, 20, 2], seed=9), X, targets,
            {"loss": OwnLoss(), "optimizer": OwnOptimizer(0.1), **common}),
        **{precision: (
            fb.mlp([12, 100, 40, 3], precision=precision, seed=10), X, labels,
            {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.SGD(0.05, 0.9), **common})
           for precision in ("high", "medium")},
    }


def train(name, **more):
    net, X, y, arguments = trainings()[name]
    return result(net, net.fit(X, y, **arguments, **more), arguments["optimizer"])


def hashes(communicator, folder, numbers_of_threads=(1, 2)):
    return {name: [train(name, n_threads=n, communicator=communicator)
                   for n in numbers_of_threads] for name in trainings()}


def hashes_of_two_threads(communicator, folder):
    return hashes(communicator, folder, (2,))


def tiers(communicator, folder):
    """The sums of each instruction set."""
    found, before = {}, dispatch.isa()
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            found[isa] = {name: train(name, n_threads=1, communicator=communicator)
                          for name in ("dropout", "batch norm", "embeddings", "members", "high",
                                       "medium")}
    finally:
        dispatch.use(before)
    return found


def own_rows(communicator, folder):
    """Each process brings rows of its own, the later ones more; and sparse ones."""
    size, rank = communicator.size, communicator.rank
    found = {}
    for name in ("classification", "batch norm", "regression", "sample weights", "sparse"):
        net, X, y, arguments = trainings()["classification" if name == "sparse" else name]
        cuts = [len(X) * i * i // size**2 for i in range(size + 1)]
        part = slice(cuts[rank], cuts[rank + 1])
        X_part = scipy.sparse.csr_array(X[part]) if name == "sparse" else X[part]
        more = {}
        if "sample_weight" in arguments:
            more["sample_weight"] = arguments["sample_weight"][part]
        if "validation_data" in arguments:
            of_each = slice(333 * rank // size, 333 * (rank + 1) // size)
            more["validation_data"] = tuple(each[:333][of_each] for each in (X, y))
        history = net.fit(X_part, y[part], **arguments | more, communicator=communicator,
                          rows="own")
        found[name] = result(net, history, arguments["optimizer"])
    return found


class Trouble(fb.callbacks.Callback):
    """Does something in one process: at the end of the second epoch, or at another time."""

    def __init__(self, rank, do, when="epoch"):
        self.do, self.when = do, when if rank == 1 else None

    def on_train_begin(self, training):
        if self.when == "begin":
            self.do(training)

    def on_epoch_end(self, training):
        if self.when == "epoch" and training.epoch == 1:
            self.do(training)

    def on_train_end(self, training):
        if self.when == "end":
            self.do(training)


class Refusing(OwnLoss):
    """A loss that fails in one process, at the fourth minibatch."""

    def __init__(self, rank):
        super().__init__()
        self.calls = iter([False] * 3 + [rank == 1] + [False] * 99)  # nothing that is compared

    def __call__(self, Z, y, sample_weight=None):
        if next(self.calls):
            raise ZeroDivisionError("this loss has no value")
        return super().__call__(Z, y, sample_weight)


def fail(training):
    raise RuntimeError("the disk of this callback is full")


def interrupt(training):
    os.kill(os.getpid(), signal.SIGINT)


def interrupt_soon(training):
    threading.Timer(0.2, interrupt, [training]).start()


def stop(training):
    training.stop("one was enough")


def set_rate(training):
    training.optimizer.learning_rate = 0.5


def set_weights(training):
    training.network.parameters[:] *= 0.5


def errors(communicator, folder):
    """What each process raises for an error of one, and the weights that it is left with."""
    from mpi4py import MPI

    rank = communicator.rank
    X, labels, _ = data(700)
    found = {}

    def attempt(name, seed=0, layers=(), precision="highest", X=X, y=labels, **arguments):
        net = fb.Sequential([fb.Dense(12, 8), fb.ReLU(), *layers, fb.Dense(8, 3)], seed=seed,
                            precision=precision)
        arguments = {"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.SGD(0.1, 0.9), "epochs": 5,
                     "batch_size": 300, "seed": 0, "communicator": communicator} | arguments
        try:
            history = net.fit(X, y, **arguments)
            raised = [None, history.stopped]
        except BaseException as error:
            raised = [type(error).__name__, str(error)]
            history = net.history
        epochs = None if history is None else len(history["loss"])
        begun = bool(arguments["optimizer"].state)
        found[name] = communicator.gather([*raised, epochs, digest(net.parameters), begun])

    def one_has(usual, other):
        return other if rank == 1 else usual

    broken = X.copy()
    broken[5, 3] = np.nan
    attempt("NaN in X", X=one_has(X, broken))
    attempt("batch size", batch_size=one_has(300, 0))
    attempt("epochs", epochs=one_has(5, 6))
    attempt("columns", X=one_has(X, X[:, :11]))
    attempt("rows", X=one_has(X, X[:-1]), y=one_has(labels, labels[:-1]))
    attempt("contents", X=one_has(X, X + 1))
    attempt("seeds", seed=rank)
    attempt("precision", precision=one_has("highest", "medium"))
    attempt("validation", validation_data=one_has((X, labels), None))
    attempt("own validation", validation_data=one_has(None, (X, labels)), rows="own")
    attempt("weights of one", sample_weight=one_has(None, np.ones(len(X))))
    attempt("no weights", sample_weight=np.zeros(len(X)), rows="own")
    with mock.patch.object(distributed, "__version__", one_has(fb.__version__, "0.0.9")):
        attempt("version")
    attempt("own columns", X=one_has(X[:, :12], X[:, :11]), rows="own")
    attempt("mixed", rows=one_has("all", "own"))
    attempt("order", shuffle=one_has(lambda n: np.arange(n), lambda n: np.arange(n)[::-1]))
    for name, do in (("callback", fail), ("interrupt", interrupt), ("stop", stop),
                     ("rate", set_rate), ("weights", set_weights)):
        attempt(name, callbacks=[Trouble(rank, do)])
    attempt("before", callbacks=[Trouble(rank, stop, "begin")])
    attempt("interrupt before", callbacks=[Trouble(rank, interrupt, "begin")])
    attempt("interrupt at the end", callbacks=[Trouble(rank, interrupt, "end")])
    attempt("interrupt in a step", epochs=10000, callbacks=[Trouble(rank, interrupt_soon)])
    attempt("loss", y=X[:, :3], loss=Refusing(rank))
    attempt("diverges", optimizer=fb.SGD(1e30, 0.9))
    attempt("python", layers=[Passing()])
    attempt("no communicator", communicator="world")
    attempt("other rows", rows=one_has("all", "some"))
    attempt("other rows of one process", communicator=MPI.COMM_SELF, rows="some")
    attempt("fine")
    return found


class Passing(fb.Layer):
    """A layer that runs in Python."""

    def forward(self, X, training=True):
        return X

    def backward(self, dZ):
        return dZ


def warned(communicator, folder):
    """The warnings of each process for minibatches of 300 rows."""
    X, labels, _ = data(700)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fb.mlp([12, 3], seed=0).fit(X, labels, loss=fb.SoftmaxCrossEntropy(), epochs=2,
                                    batch_size=300, communicator=communicator)
    return communicator.gather([str(each.message) for each in caught])


def train_with_checkpoints(folder, epochs, **more):
    """Train, or go on if the folder has checkpoints."""
    net, X, y, arguments = trainings()["batch norm"]
    more = {"resume": True} | more
    history = net.fit(X, y, **arguments | {"epochs": epochs}, checkpoint=folder, **more)
    return result(net, history, arguments["optimizer"])


def checkpoints(communicator, folder):
    """Go on from the checkpoints of an earlier job, if there are some."""
    return train_with_checkpoints(os.path.join(folder, "checkpoints"), 2 + communicator.size,
                                  communicator=communicator)


def estimators(communicator, folder):
    """What scikit-learn's estimators learn, and what they raise for an error of one process."""
    X, labels, targets = data(900)
    settings = {"batch_size": 512, "max_iter": 3, "random_state": 0, "tol": 0}
    found = []
    classifier = fb.MLPClassifier((20,), early_stopping=True, dropout=0.2, **settings)
    regressor = fb.MLPRegressor("squared_error", (20,), **settings)
    for model, y in (classifier, labels), (regressor, targets):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # three epochs are few
            clone(model).fit(X, y, communicator=communicator)
            model.fit(X, y, communicator=communicator)
        pickle.loads(pickle.dumps(model))
        found.append([digest(*model.coefs_), model.loss_curve_])
    for name, values in (("alpha", (-1.0, 0.1)), ("random_state", (1, 0))):
        if communicator is None or communicator.size == 1:
            break
        settings[name] = values[communicator.rank == 0]
        try:
            fb.MLPClassifier((20,), **settings).fit(X, labels, communicator=communicator)
        except ValueError as error:
            assert name == "alpha" or "follow from its seed" in str(error), error
            assert communicator.rank == 1 or name != "alpha" or "in process 1" in str(error), error
        else:
            raise AssertionError(name)
        settings[name] = values[1]
    return found


def command(communicator, folder):
    """What the command saves and prints, and says of a file that one process cannot read."""
    rank = 0 if communicator is None else communicator.rank
    table = os.path.join(folder, f"table-{rank}.csv")
    X, labels, _ = data(900, 4)
    np.savetxt(table, np.column_stack([X, labels]), "%.4f", ",", header="a,b,c,d,target",
               comments="")
    said = []
    for name in (table, os.path.join(folder, f"table-{2 * rank}.csv")):
        with (contextlib.redirect_stdout(io.StringIO()) as out,
              contextlib.redirect_stderr(io.StringIO()) as errors):
            status = main(["--data", name, "--target", "target", "--hidden", "20",
                           "--task", "classification", "--epochs", "2", "--batch-size", "512",
                           "--output", os.path.join(folder, "output")])
        said.append([status, out.getvalue(), errors.getvalue()])
    with open(os.path.join(folder, "output", "model.safetensors"), "rb") as model:
        digest_of_model = hashlib.sha256(model.read()).hexdigest()
    return digest_of_model, [said] if communicator is None else communicator.gather(said)


def documented(communicator, folder):
    """The documentation's example prints its loss."""
    text = (Path(__file__).parents[2] / "docs" / "processes.md").read_text(encoding="utf-8")
    script = re.search(r"^```py\n(# train.py\n.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    with contextlib.redirect_stdout(io.StringIO()) as out:
        exec(script, {})
    return communicator.gather(out.getvalue())


JOBS = {job.__name__: job for job in (
    hashes, hashes_of_two_threads, tiers, own_rows, errors, warned, checkpoints, estimators,
    command, documented)}

if __name__ == "__main__":
    from mpi4py import MPI

    threads.set_work_per_thread(0)
    warnings.filterwarnings("ignore", "batch_size: .* the others wait")
    folder, *jobs = sys.argv[1:]
    try:
        results = {job: JOBS[job](MPI.COMM_WORLD, folder) for job in jobs}
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        MPI.COMM_WORLD.Abort(1)  # at its end, the process would wait for the others
    if MPI.COMM_WORLD.rank == 0:
        print(json.dumps(results))
