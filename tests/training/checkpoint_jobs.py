"""Trainings that keep checkpoints, and what may strike them.

Run as a script, this file is the processes that the tests kill.
"""

import builtins
import contextlib
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
import scipy.sparse
from safetensors.numpy import load, save

import fastbp as fb
from fastbp import files
from fastbp.callbacks import Plateau
from fastbp.training import checkpoints

RNG = np.random.default_rng(7)
X, WEIGHTS = RNG.normal(size=(50, 6)), RNG.random(50)
Y = (X[:, 0] * X[:, 1] > 0) + (X[:, 2] > 0.5).astype(int)
NAME = "checkpoint-%08d.fastbp"
EPOCHS = 7


class Own(fb.SoftmaxCrossEntropy):
    """One without a compiled form, so that it is Python's turn in each step."""


class Halving(fb.Callback):
    """Keeps a number, a text, None, and arrays of several dtypes; they bear on the training."""

    kept = ("count", "mood", "nothing", "trace", "seen", "bits")

    def on_train_begin(self, training):
        self.count, self.mood, self.nothing = 0, "é\n\"", None
        self.trace, self.seen, self.bits = np.zeros(3), np.ones((2, 3), "i2"), np.ones(2, "?")

    def on_epoch_end(self, training):
        self.count += 1
        self.mood += str(self.count)
        self.trace = np.roll(self.trace, 1)
        self.trace[0] = training.history["loss"][-1]
        self.seen = self.seen + self.count
        self.bits = ~self.bits
        training.network.parameters[:3] *= 0.5 + self.trace.sum() / 9 + self.bits[0] / 7
        if self.count % 3 == 0:
            training.optimizer.learning_rate *= 0.5
        training.history.append(mine=self.trace.copy(), mood=self.mood)


class Stop(Exception):
    pass


class Cut(fb.Callback):
    """Does something at one moment, such as ending it all."""

    def __init__(self, at=None, act=None, when="end"):
        self.at, self.act, self.when = at, act, when

    def on_train_begin(self, training):
        if self.at == "start":
            self.act()

    def on_epoch_begin(self, training):
        if (training.epoch, self.when) == (self.at, "begin"):
            self.act()

    def on_epoch_end(self, training):
        if (training.epoch, self.when) == (self.at, "end"):
            self.act()


def stop():
    raise Stop


def validation():
    return {"validation_data": (X[:9] + 1, Y[:9], WEIGHTS[:9])}


KINDS = {
    "plain": lambda: {},
    "no seed": lambda: {"seed": None},
    "seed of the fit": lambda: {"fit_seed": 5, "dropout": 0.1},
    "dropout": lambda: {"dropout": 0.3, "gradient_norms": True},
    "momentum": lambda: {"optimizer": fb.SGD(0.1, momentum=0.9, clip_norm=1.0)},
    "schedule": lambda: {"optimizer": fb.AdamW(fb.schedules.Cosine(0.05, EPOCHS))},
    "early stopping": lambda: {
        "optimizer": fb.SGD(0.9), "validation_fraction": 0.3, "dropout": 0.2,
        "callbacks": [fb.EarlyStopping(2, min_delta=0.02)]},
    "plateau": lambda: {
        **validation(), "callbacks": [Plateau(1, tol=0.3, factor=0.5, monitor="val_loss",
                                              keep_best=True)]},
    "own callback": lambda: {"callbacks": [Halving()], "optimizer": fb.Adam(0.03)},
    "weights": lambda: {"sample_weight": WEIGHTS, "l2": 0.1, "shuffle": False},
    "sparse": lambda: {"X": scipy.sparse.csr_array(np.where(X > 0, X, 0)), "seed": None},
    "no parameters": lambda: {"layers": [fb.Dropout(0.5)], "X": X[:, :3]},
    "all": lambda: {
        "dropout": 0.2, "optimizer": fb.SGD(0.3, momentum=0.9, weight_decay=0.01),
        "validation_fraction": 0.25, "gradient_norms": True, "sample_weight": WEIGHTS, "l2": 0.01,
        "callbacks": [Plateau(1, tol=0.2, factor=0.5, keep_best=True), fb.EarlyStopping(3),
                      Halving(), lambda training: None]},
}


def start(kind="plain", dtype="float32", loss=fb.SoftmaxCrossEntropy, **changes):
    """A network, and what to fit it with."""
    options = {"X": X, "layers": None, "dropout": 0.0, "seed": 1, "fit_seed": None, "sizes": [8],
               "optimizer": fb.Adam(0.02), "epochs": EPOCHS, "batch_size": 8, "callbacks": [],
               "cut": Cut()}
    options |= KINDS[kind]() | {"loss": loss()} | changes
    layers, dropout, sizes, seed = map(options.pop, ("layers", "dropout", "sizes", "seed"))
    if layers:
        net = fb.Sequential(layers, dtype, seed)
    else:
        net = fb.mlp([6, *sizes, 3], dropout=dropout, dtype=dtype, seed=seed)
    options["seed"] = options.pop("fit_seed")
    options["callbacks"] = [*options["callbacks"], options.pop("cut")]
    return net, options


def outcome(net, options):
    """All that a fit leaves behind, the time it took aside, and what the next one makes of it."""
    optimizer, history = options["optimizer"], net.history
    columns = net.n_in or 3

    def plain(value):
        return value.tobytes() if isinstance(value, np.ndarray) else value

    found = {
        "parameters": net.parameters.tobytes(), "steps": optimizer.steps,
        "state": {name: array.tobytes() for name, array in optimizer.state.items()},
        "rate": None if callable(optimizer.learning_rate) else optimizer.learning_rate,
        "history": {key: [plain(value) for value in values] for key, values in history.items()
                    if key != "seconds"},
        "seconds": len(history["seconds"]), "stopped": history.stopped,
        "callbacks": [{name: plain(getattr(callback, name)) for name in callback.kept}
                      for callback in options["callbacks"] if isinstance(callback, fb.Callback)],
        "predictions": net.predict(X[:, :columns]).tobytes(),
        "layers": [(layer.key, layer.step) for layer in net.layers],
    }
    net.fit(X[:, :columns], Y, loss=fb.SoftmaxCrossEntropy(), epochs=1)
    return found | {"afterwards": net.parameters.tobytes()}


def job(folder=None, kind="plain", resume=False, every=1, **changes):
    """A fit, from the making of the network to what it leaves behind."""
    net, options = start(kind, **changes)
    net.fit(options.pop("X"), Y, checkpoint=folder, checkpoint_every=every, resume=resume,
            **options)
    return outcome(net, options)


def cut_off(folder, at, act=stop, when="end", resume=True, **options):
    with pytest.raises(Stop):
        job(folder, resume=resume, cut=Cut(at, act, when), **options)


def epochs_in(folder):
    return sorted(int(name[11:19]) for name in os.listdir(folder) if name != ".fastbp-lock")


CALLS = ("close", "fileno", "flush", "fsync", "listdir", "makedirs", "open", "replace", "unlink",
         "write")


class Wire:
    """Does something at the n-th call that reaches the disk, before it or after; at others too."""

    def __init__(self, n=None, act=None, after=False, where=lambda i, n, name: i == n):
        self.n, self.act, self.after, self.where = n, act, after, where
        self.calls = []

    def call(self, name, function, *arguments, half=None, **options):
        i = len(self.calls)
        self.calls.append(name)
        if self.n is None or not self.where(i, self.n, name):
            return function(*arguments, **options)
        if self.after or name == "close":  # a file that cannot be closed is closed all the same
            self.result = function(*arguments, **options)
        elif half is not None:
            half()
        return self.act()

    def open(self, path, mode, **options):
        return File(self, self.call("open", builtins.open, path, mode, **options))

    @contextlib.contextmanager
    def laid(self):
        with pytest.MonkeyPatch.context() as patch:
            for module in (files, checkpoints):
                patch.setattr(module, "open", self.open, raising=False)
            for name in set(CALLS) & set(vars(os)) - {"open", "write", "close"}:
                patch.setattr(os, name, functools.partial(self.call, name, getattr(os, name)))
            yield self


class File:
    def __init__(self, wire, file):
        self.wire, self.file = wire, file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def __getattr__(self, name):
        if name in CALLS:
            return functools.partial(self.wire.call, name, getattr(self.file, name))
        return getattr(self.file, name)

    def write(self, content):
        def half():
            self.file.write(content[: len(content) // 2])
            self.file.flush()

        return self.wire.call("write", self.file.write, content, half=half)


def disk_full():
    raise OSError(28, "No space left on device")


def wired(folder, wire, **options):
    """A job with the wire laid, the warnings it gave, and how many calls came before it began."""
    begun = []
    with warnings.catch_warnings(record=True) as caught, wire.laid():
        warnings.simplefilter("always")
        try:
            found = job(folder, cut=Cut("start", lambda: begun.append(len(wire.calls))), **options)
        except OSError as error:
            found = error
    assert {warning.category for warning in caught} <= {RuntimeWarning}
    return found, [str(warning.message) for warning in caught], begun


def calls_of(folder, **options):
    """Those of a job that nothing happens to."""
    _, messages, begun = wired(folder, wire := Wire(), **options)
    assert messages == []
    return wire.calls, begun[0]


def signed(content):
    """A file whose checksum is right, whatever it holds."""
    return checkpoints.HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def parts(content):
    """What a checkpoint's bytes say, as state and arrays."""
    content = content[len(checkpoints.HEAD) + 65 :]
    length = int.from_bytes(content[:8], "little")
    text = json.loads(content[8 : 8 + length])["__metadata__"]["fastbp"]
    return json.loads(text), load(content)


def forged(state, arrays):
    return signed(save(arrays, {"fastbp": json.dumps(state)}))


def rewrite(folder, change):
    """Every checkpoint of a folder as this function changes its state and arrays."""
    for file in folder.glob("*.fastbp"):
        state, arrays = parts(file.read_bytes())
        change(state, arrays)
        file.write_bytes(forged(state, arrays))


def command(*arguments):
    """What runs this file as a script."""
    return [sys.executable, __file__, *map(str, arguments)]


def environment():
    """The variables with which a script finds the fastbp that is tested."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def script(*arguments):
    return subprocess.Popen(command(*arguments), text=True, stdout=subprocess.PIPE,
                            env=environment())


def run_script(*arguments):
    with script(*arguments) as child:
        try:
            out, _ = child.communicate(timeout=100)
        finally:
            child.kill()
    assert child.returncode == 0
    return json.loads(out)


LARGE = {"kind": "all", "sizes": [150, 300], "epochs": 12, "batch_size": 16}


def digest(found):
    return hashlib.sha256(repr(found).encode()).hexdigest()


def forked(function):
    """A child that does this and nothing else, and where its answer comes."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            os.write(writer, json.dumps(function()).encode())
            code = 0
        except KeyboardInterrupt:
            pass
        finally:
            os._exit(code)
    os.close(writer)
    return child, reader


def answer(child, reader):
    """What the child said; None from one that was killed."""
    said = b"".join(iter(functools.partial(os.read, reader, 1000), b""))
    os.close(reader)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert bool(said) == (code == 0), code
    return json.loads(said) if said else None


def kill_at_random(folder, loss, dtype, n, seed):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    rng, options = random.Random(int(seed)), LARGE | {"dtype": dtype}
    options["loss"] = Own if loss == "in Python" else fb.SoftmaxCrossEntropy
    expected = digest(job(**options))
    begun = time.monotonic()
    assert digest(job(folder + "-whole", **options)) == expected
    duration = time.monotonic() - begun
    found = {"kills": 0, "ends": 0, "same": 0, "most files": 0, "unfinished files": 0}
    while found["kills"] < int(n) or not found["ends"]:
        place = f"{folder}-{found['ends']}"
        child, reader = forked(lambda place=place: digest(job(place, resume=True, **options)))
        if found["kills"] < int(n):
            time.sleep(rng.uniform(0, duration / 3))
            os.kill(child, rng.choice([signal.SIGKILL] * 5 + [signal.SIGINT]))
        said = answer(child, reader)
        names = os.listdir(place) if os.path.isdir(place) else []
        found["most files"] = max(found["most files"], len(names) - (".fastbp-lock" in names))
        found["unfinished files"] += any(name.endswith(".part") for name in names)
        if said is None:
            found["kills"] += 1
        else:
            found["ends"] += 1
            found["same"] += said == expected
    return found


def kill_at_every_call(folder):
    options = {"kind": "all", "epochs": 3, "every": 1}
    expected = digest(job(**options))
    os.makedirs(folder)
    calls, _ = calls_of(folder + "/whole", **options)
    found = {"calls": calls, "kills": 0, "wrong": []}
    for n in range(len(calls)):
        for after in (False, True):
            place = f"{folder}/{n}{after}"
            wire = Wire(n, lambda: os.kill(os.getpid(), signal.SIGKILL), after)

            def train(place=place, wire=wire):
                with wire.laid():
                    return digest(job(place, resume=True, **options))

            found["kills"] += answer(*forked(train)) is None
            if digest(job(place, resume=True, **options)) != expected:
                found["wrong"].append([n, calls[n], after])
    return found


def hold(folder):
    def wait():
        print("holding", flush=True)
        time.sleep(60)

    job(folder, cut=Cut(3, wait))


def rush(folder):
    """Children that all begin at once; who gets the folder has it until all have asked."""
    reader, writer = os.pipe()
    asked, asking = os.pipe()

    def wait():
        os.read(asked, 1)

    def train():
        os.read(reader, 1)
        try:
            return job(folder, resume=True, cut=Cut(2, wait)) == job()
        except RuntimeError as error:
            return str(error)

    children = [forked(train) for _ in range(6)]
    os.write(writer, b"x" * 6)
    said, waiting = [], dict(children)
    while len(waiting) > 1:
        child, _ = os.waitpid(-1, os.WNOHANG)
        if child:
            said.append(json.loads(os.read(waiting.pop(child), 1000)))
        time.sleep(0.01)
    os.write(asking, b"x")
    [(child, channel)] = waiting.items()
    said.append(answer(child, channel))
    refused = [text for text in said if isinstance(text, str) and "another training" in text]
    return {"won": said.count(True), "refused": len(refused), "whole": said[-1]}


def fork_within(folder, kill):
    """A training that starts a process which outlives it, and is killed itself or is not."""
    whole = job()
    reader, writer = os.pipe()

    def start_worker():
        there, here = os.pipe()
        if os.fork() == 0:
            os.close(writer)
            os.write(here, b"!")
            os.read(reader, 1)  # until its parent's parent has no more to ask
            os._exit(0)
        os.read(there, 1)  # the worker has begun
        if kill == "1":
            os.kill(os.getpid(), signal.SIGKILL)

    child, channel = forked(lambda: bool(job(folder, cut=Cut(3, start_worker))))
    answered = os.waitpid(child, 0)
    assert os.WIFSIGNALED(answered[1]) == (kill == "1")
    os.close(channel)
    try:
        return {"again": job(folder, resume=True) == whole}
    except RuntimeError as error:
        return {"again": str(error)}
    finally:
        os.close(writer)


def full_disk(folder):
    ballast = folder + "/ballast"

    def fill():
        with contextlib.suppress(OSError), open(ballast, "wb", buffering=0) as file:
            while True:
                file.write(bytes(1024))

    return through_full(folder, fill, lambda: os.unlink(ballast))


def limited(folder):
    import resource

    least, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    return through_full(folder, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, most)),
                        lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (least, most)))


def through_full(folder, fill, free):
    options, same, files = {"sizes": [40, 50], "kind": "momentum"}, [], []
    place = folder + "/run"

    class Fill(Cut):
        def on_epoch_end(self, training):
            if training.epoch in self.at:
                self.at[training.epoch]()

    def train(at, **more):
        with contextlib.suppress(Stop):
            same.append(job(place, cut=Fill(at), **options, **more) == whole)
        files.append(epochs_in(place))

    whole = job(cut=Fill({}), **options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        train({2: fill, 5: free})
        shutil.rmtree(place)
        train({2: fill, 4: stop})
        train({}, resume=True)
        free()
        train({}, resume=True)
    return {"same": same, "files": files, "warnings": [str(each.message) for each in caught]}


def train_once(folder):
    if folder == "-":
        return digest(job(**LARGE, n_threads=2))
    return digest(job(folder, resume=True, **LARGE, n_threads=2))


SCRIPTS = {
    "kill": kill_at_random, "steps": kill_at_every_call, "hold": hold, "rush": rush,
    "fork": fork_within, "full": full_disk, "limit": limited, "train": train_once,
}

if __name__ == "__main__":
    warnings.simplefilter("error")
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    print(json.dumps(SCRIPTS[sys.argv[1]](*sys.argv[2:])))
