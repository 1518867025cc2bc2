"""Random sequences of calls and assignments, played on networks, trainings and estimators.

    python bench/fuzz_calls.py --sequences 100000

Each sequence is played twice in a process of its own: once as usual, with any instruction set and
number of threads, and once with the compiled forms switched off, layer by layer.  Both have to
come to the same bits and the same kinds of errors after every action, also those within callbacks.
Not allowed are the end of the process, other errors than those in EXPECTED, and NaN or infinity
where no such number, and no enormous one, was accepted before.  `--show N` plays one sequence and
prints each call before it is made.  The script ends with 1 if there are findings.
"""

import argparse
import collections
import contextlib
import copy
import json
import math
import os
import pickle
import random
import selectors
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings

import numpy as np
import pandas as pd
import scipy.sparse
import sklearn.base

import fastbp as fb
from fastbp import estimators, losses, metrics, schedules, training
from fastbp.kernels import checks, dispatch, threads

SECONDS = 300  # for one sequence
CHUNK = 400  # sequences for one process
EXPECTED = (TypeError, ValueError, AttributeError, RuntimeError, FloatingPointError,
            NotImplementedError, OSError, MemoryError, IndexError, KeyError)
ENORMOUS = 1e3  # parameters above may well make infinities
SOURCE = os.path.dirname(fb.__file__)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sequences", type=int, default=100_000, metavar="N",
                        help="(default: 100000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one's")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--show", type=int, metavar="N", help="play this one, and say how it goes")
    arguments = parser.parse_args()
    start = time.perf_counter()
    quiet()
    if arguments.show is not None:
        with tempfile.TemporaryDirectory() as folder:
            _, found = play_both(arguments.show, folder, show=True)
        print(found or "no finding")
        raise SystemExit(found is not None)
    n_actions, findings = fuzz(arguments.sequences, arguments.seed, arguments.processes)
    for what, seeds in sorted(findings.items(), key=lambda item: -len(item[1])):
        print(f"{len(seeds):7,d}  {what}: seeds {', '.join(map(str, sorted(seeds)[:5]))}")
    count = collections.Counter()
    for what, seeds in findings.items():
        count[what.split(":")[0]] += len(seeds)
    print(f"{arguments.sequences:,} sequences, {n_actions:,} actions, {count.pop('crash', 0)} "
          f"crashes, {count.pop('disagreement', 0)} disagreements, {count.pop('unasked', 0)} "
          f"unasked NaN, {sum(count.values())} other errors, {time.perf_counter() - start:.0f} s")
    raise SystemExit(bool(findings))


def quiet():
    warnings.simplefilter("ignore")
    np.seterr(all="ignore")


def fuzz(n, first_seed, processes):
    """The number of actions, and the seeds of each finding."""
    n_actions, findings = 0, collections.defaultdict(list)
    waiting = collections.deque((start, min(start + CHUNK, first_seed + n))
                                for start in range(first_seed, first_seed + n, CHUNK))
    running = selectors.DefaultSelector()
    with tempfile.TemporaryDirectory() as folder:
        while waiting or running.get_map():
            while waiting and len(running.get_map()) < processes:
                begin(running, *waiting.popleft(), folder)
            for key, _ in running.select():
                state, line = key.data, key.fileobj.readline()
                if line:
                    kind, seed, actions, what = json.loads(line)
                    state["at"], n_actions = seed + (kind == "end"), n_actions + actions
                    if what is not None:
                        found(findings, what, seed)
                    continue
                running.unregister(key.fileobj)
                key.fileobj.close()
                status = os.waitstatus_to_exitcode(os.waitpid(state["pid"], 0)[1])
                if (seed := state["at"]) < state["stop"]:
                    how = (f"died with signal {signal.Signals(-status).name}" if status < 0
                           else f"ended with status {status}")
                    found(findings, f"crash: {how}", seed)
                    if seed + 1 < state["stop"]:
                        waiting.append((seed + 1, state["stop"]))
    return n_actions, findings


def found(findings, what, seed):
    findings[what].append(seed)
    if len(findings[what]) <= 3:
        print(f"seed {seed}: {what}", flush=True)


def begin(running, start, stop, folder):
    """A process that plays sequences and says before each that it begins."""
    reader, writer = os.pipe()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            os.close(reader)
            folder = tempfile.mkdtemp(dir=folder)
            for seed in range(start, stop):
                os.write(writer, json.dumps(["begin", seed, 0, None]).encode() + b"\n")
                signal.alarm(SECONDS)
                n_actions, what = play_both(seed, folder)
                os.write(writer, json.dumps(["end", seed, n_actions, what]).encode() + b"\n")
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    # Unbuffered: what select waits for would not know of lines that were read already.
    running.register(open(reader, "rb", buffering=0), selectors.EVENT_READ,
                     {"pid": pid, "at": start, "stop": stop})


class Refused(Exception):
    """The library raised one of the errors that it may raise, which is the cause of this."""


class Finding(BaseException):
    """What may not be; nothing on the way catches it."""


def play_both(seed, folder, show=False):
    """How many actions there were, and what was found, or None."""
    trace, n_actions = [], 0
    for by_layers in (False, True):
        inner = tempfile.mkdtemp(dir=folder)
        world = World(seed, inner, trace, by_layers, show)
        try:
            with compiled_forms_off() if by_layers else any_way():
                world.play()
        except Finding as finding:
            return n_actions + world.n_actions, str(finding)
        finally:
            shutil.rmtree(inner, ignore_errors=True)
        n_actions += world.n_actions
    return n_actions, None


@contextlib.contextmanager
def any_way():
    best, work = dispatch.isa(), threads.set_work_per_thread(0)
    threads.set_work_per_thread(work)
    try:
        yield
    finally:
        dispatch.use(best)
        threads.set_work_per_thread(work)
        threads.set_num_threads(None)


class NoPredictor:
    """Stands where estimators rely on a Predictor; takes nothing."""

    def accepts(self, X):
        return False

    def __call__(self, X, out=None):
        return None


@contextlib.contextmanager
def compiled_forms_off():
    has_compiled_form, predictor = checks.has_compiled_form, fb.Sequential._predictor

    def no_predictor(self, activation):
        predictor(self, activation)  # which may refuse the activation
        return NoPredictor()

    checks.has_compiled_form = lambda piece: False
    fb.Sequential._predictor = no_predictor
    try:
        yield
    finally:
        checks.has_compiled_form, fb.Sequential._predictor = has_compiled_form, predictor


class World:
    """What there is in one play of a sequence, and what came of it so far."""

    def __init__(self, seed, folder, trace, by_layers, show):
        self.rng = random.Random(seed)
        self.way = None if by_layers else random.Random(f"way {seed}")
        self.folder, self.trace, self.by_layers, self.show = folder, trace, by_layers, show
        self.place = self.n_actions = self.depth = 0
        self.nets, self.optimizers, self.losses, self.arrays = [], [], [], []
        self.models, self.trainings, self.callbacks, self.saved = [], [], [], []
        self.wild = False  # a number was drawn that may make NaN
        self.tainted = False  # such a number was accepted
        self.lenient = False  # the result may be infinite, whatever was given
        np.random.seed(seed % 2**32)

    def play(self):
        self.say("as usual" if self.way else "layer by layer")
        table = ESTIMATORS if self.rng.random() < 0.12 else ACTIONS
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            if table is ESTIMATORS:
                self.models.append(some_model(self))
            self.act([a_network])
            for _ in range(self.rng.randrange(3, 13)):
                self.act(table)

    def say(self, text):
        if self.show:
            print(f"{'    ' * self.depth}{text}", file=sys.__stdout__, flush=True)

    def act(self, table):
        """Do something; the error with which that was refused, if it was."""
        action = self.rng.choice(table)
        if self.way and self.way.random() < 0.2:
            change_way(self.way)
        self.n_actions += 1
        self.say(f"{action.__name__}:")
        self.tainted |= self.wild
        self.wild, error, name = False, None, action.__name__
        self.depth += 1
        try:
            result = action(self)
        except Refused as refused:
            error = refused.__cause__
            result = type(error).__name__
            self.tainted |= isinstance(error, FloatingPointError)
            self.say(f"-> {result}: {str(error)[:150]}")
        except Exception as error:
            raise Finding(f"error: {place_of(error)} in {name}") from error
        else:
            self.tainted |= self.wild
        finally:
            self.depth -= 1
            self.wild = False
        self.record(name, result, error)
        return error

    def do(self, function, *arguments, **options):
        """Call what the library has."""
        if self.show:
            shown = [*map(short, arguments), *(f"{k}={short(v)}" for k, v in options.items())]
            self.say(f"{getattr(function, '__qualname__', function)}({', '.join(shown)})")
        try:
            return function(*arguments, **options)
        except RecursionError:
            raise
        except EXPECTED as error:
            raise Refused from error

    def record(self, name, result, error):
        """Compare what came of an action, and what there is now, with the other play."""
        self.strange = False
        result = self.canonical(result)
        if self.strange and not (self.tainted or self.lenient):
            raise Finding(f"unasked: NaN or infinity from {name}")
        self.lenient = False
        state = [(net.__class__.__name__, *map(self.parameters, (net.parameters, net.gradients)),
                  *[(layer.key, layer.step) for layer in net.layers]) for net in self.nets]
        if isinstance(error, FloatingPointError):
            state = [(name, parameters) for name, parameters, *_ in state]
        if self.strange and not self.tainted:
            raise Finding(f"unasked: parameters that are not finite after {name}")
        state += [(self.canonical(each.steps), self.canonical(each.state))
                  for each in self.optimizers if not isinstance(error, FloatingPointError)]
        entry = name, result, self.canonical(state)
        if not self.by_layers:
            self.trace.append(entry)
            return
        other = self.trace[self.place]
        self.place += 1
        if other == entry:
            return
        what = next(i for i in range(3) if other[i] != entry[i])
        kind = ("another action", f"results of {name}", f"state after {name}")[what]
        if what == 1 and str in map(type, (result, other[1])):
            kind = f"{name}: {short(other[1], 25)} compiled, {short(result, 25)} by layers"
        if self.show:
            self.say(f"compiled: {other}\nby layers: {entry}")
        raise Finding(f"disagreement: {kind}")

    def parameters(self, array):
        if array.dtype.kind == "f" and not np.abs(array).max(initial=0) <= ENORMOUS:
            self.strange = self.strange or not np.isfinite(array).all()
            self.tainted |= not self.strange
        return array

    def canonical(self, value):
        """Something that can be compared; NaN is NaN, and seconds do not count."""
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self.strange = True
                value = np.where(np.isnan(value), value.dtype.type("nan"), value)
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, float | np.floating):
            self.strange = self.strange or not math.isfinite(value)
            return repr(float(value))
        if isinstance(value, dict):
            return tuple((repr(key), self.canonical(each)) for key, each in value.items()
                         if key != "seconds")
        if isinstance(value, list | tuple | np.ndarray):
            return tuple(map(self.canonical, value))
        if value is None or isinstance(value, str | int | bytes | np.generic):
            return repr(value)
        return type(value).__name__


def change_way(way):
    """Another instruction set or number of threads, on which nothing depends."""
    how = way.randrange(3)
    if how == 0:
        dispatch.use(way.choice(dispatch.available()))
    elif how == 1:
        threads.set_work_per_thread(way.choice([0, 0, 1 << 20]))
    else:
        threads.set_num_threads(way.choice([1, 2, 3, None]))


def place_of(error):
    """An error and where in the library it was raised."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if frame.filename.startswith(SOURCE) or "fastbp" in frame.filename]
    where = "the fuzzer"
    if frames:
        where = f"{os.path.relpath(frames[-1].filename, SOURCE)}, {frames[-1].name}"
    return f"{type(error).__name__} ({str(error)[:80]}) at {where}"


def short(value, length=70):
    if isinstance(value, np.ndarray):
        return f"array<{value.dtype.str} {value.shape} {value.strides}>"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= length else text[:length] + "…"


# Layers, losses, optimizers and callbacks of the user's own


class Scale(fb.Layer):
    """As in the documentation."""

    def __init__(self, n):
        super().__init__(n_in=n, n_out=n, scale=(n,))
        self.n = n

    def initialize(self, rng):
        self.scale = 1.0

    def forward(self, X, training=True):
        self.cache = X
        return X * self.scale

    def backward(self, dZ):
        self.dscale = (dZ * self.cache).sum(axis=0)
        return dZ * self.scale


def wrong(how, array):
    """What a layer or a loss should not return, or may just so."""
    if how == "writes":
        array[...] = 0
    return {"None": None, "list": array.tolist(), "shape": array[:, :0], "rows": array[1:],
            "dtype": array.astype("f2"), "other": array.astype("f8"), "text": "x", "itself": array,
            "flat": array.ravel(), "fortran": np.asfortranarray(array),
            "strided": np.repeat(array, 2, axis=1)[:, ::2],
            "masked": np.ma.masked_array(array)}.get(how, array)


WRONGS = ["None", "list", "shape", "rows", "dtype", "other", "text", "itself", "flat", "fortran",
          "strided", "masked", "writes", "raises"]


class Odd(fb.Layer):
    """Returns what it should not, from `forward` or `backward`."""

    def __init__(self, how, where):
        super().__init__()
        self.how, self.where = how, where

    def forward(self, X, training=True):
        if self.how == "raises" and self.where == "forward":
            raise KeyError("forward")
        return wrong(self.how, X) if self.where == "forward" else X

    def backward(self, dZ):
        return wrong(self.how, dZ) if self.where == "backward" else dZ


class OwnDense(fb.Dense):
    """A class derived from one of the library's."""


class OwnSGD(fb.SGD):
    """Likewise."""


class OwnLoss(fb.Loss):
    """The mean of Z²/2, in all ways to return it."""

    def __init__(self, how="fine"):
        self.how = how

    def __call__(self, Z, y, sample_weight=None):
        dZ = Z / Z.dtype.type(len(Z))
        value = float((Z * dZ).sum(dtype=float)) / 2
        if self.how == "raises":
            raise KeyError("loss")
        return value if self.how == "text" else (value, wrong(self.how, dZ))


class Actor(fb.Callback):
    """A callback that does anything."""

    def __init__(self, world, often):
        self.world, self.often = world, often

    def __reduce__(self):
        return fb.Callback, ()

    def __deepcopy__(self, memo):
        return self

    def now(self, training):
        world = self.world
        while world.rng.random() < self.often:
            world.trainings.append(training)
            try:
                error = world.act(IN_CALLBACKS)
            finally:
                del world.trainings[-1]
            if error is not None and world.rng.random() < 0.15:
                raise error

    on_train_begin = on_epoch_begin = on_epoch_end = on_train_end = now


# What is drawn


FINE = [0, 1, 2, 3, 0.0, 0.5, 0.9, 1e-3, 1.0, 10.0, True, False, np.float32(0.5), np.int64(2)]
ODD = [None, -1, -0.5, -1e-9, "x", "", b"x", (), [], {}, [1, 2], {"a": 1}, 1j, np.array(0.5),
       np.array([1]), np.bool_(True), object, len, Ellipsis, 1.5, 1e-45, 1e-320, -0.0, range(3)]
WILD = [math.nan, math.inf, -math.inf, 1e30, 1e38, -1e300, 1e300, 10**30, -10**30, 2**31, 2**62,
        2**63 - 1, 2**63, 2**64, 10**400, np.float64("nan"), np.float32("inf")]
GOOD = {  # for what is called so
    "learning_rate": [0.01, 0.1, 0.0, 0.3, schedules.Step(0.1, 1), lambda t: 0.1 / (1 + t)],
    "momentum": [0.0, 0.5, 0.9, 1.0], "nesterov": [True, False], "weight_decay": [0.0, 0.01, 0.5],
    "clip_norm": [None, 0.1, 1.0, 100.0], "beta1": [0.0, 0.5, 0.9], "beta2": [0.0, 0.9, 0.999],
    "epsilon": [1e-8, 0.1], "epsilon_hat": [True, False], "rate": [0.0, 0.1, 0.5],
    "alpha": [0.0, 0.01, 0.5, 1.0, -0.5], "key": [0, 5, 2**64 - 1], "step": [0, 3, 2**40],
    "l2": [0.0, 0.1, 1.0], "batch_size": [1, 3, 4, 5, 100, 10**30], "epochs": [1, 2, 3],
    "label_smoothing": [0.0, 0.1, 0.5], "cap": [None, 1.0, 5], "delta": [0.1, 1.0, 2],
    "value": [1.0, 2.0], "gradient": [1.0, 0.5], "patience": [1, 2, 10], "monitor": ["loss"],
    "min_delta": [0.0, 0.1], "tol": [0.0, 1e-4, 0.1], "factor": [None, 0.5], "steps": [0, 1, 5],
    "metric": [None, metrics.Accuracy, metrics.R2, metrics.SubsetAccuracy],
    "init": ["he_uniform", "glorot_normal", lambda rng, n_in, n_out: rng.normal(size=(n_in, n_out))],
    "seed": [0, 1, 7], "shuffle": [True, False, lambda n: np.arange(n)[::-1]],
    "dtype": ["float32", "float64", np.float64], "gradient_norms": [True, False],
    "verbose": [0, 1, 2, 3], "n_threads": [1, 2, 3, None], "validation_fraction": [0.0, 0.2, 0.5],
}


def a_value(world, name=""):
    """Something to pass or assign, good or not."""
    rng = world.rng
    if name in GOOD and rng.random() < 0.6:
        return rng.choice(GOOD[name])
    how = rng.randrange(12)
    if how < 3:
        return rng.choice(FINE)
    if how < 6:
        return rng.choice(ODD)
    if how < 8:
        value = rng.choice(WILD)
        world.wild = True
        return min(value, 3) if name in ("epochs", "n_threads") and value != math.inf else value
    if how < 10:
        return an_array(world, rng.choice([(3,), (2, 2), (1,), (0,), (4, 1), (2, 1, 2)]))
    return rng.choice([some_layer, some_net, some_loss, some_optimizer, a_class])(world)


def a_class(world):
    return world.rng.choice([fb.Dense, fb.Adam, fb.SoftmaxCrossEntropy, fb.Sequential, int])


def numbers(world):
    return np.random.default_rng(world.rng.randrange(2**32))


def an_array(world, shape, kinds=("f4", "f8")):
    """Numbers in one of these dtypes; now and then in another, or with some that are wild."""
    rng = world.rng
    array = numbers(world).normal(size=shape)
    kind = rng.choice(kinds) if rng.random() < 0.9 else rng.choice(
        ["i4", "i8", "?", "u1", "f2", ">f4", "g", "O", "c8"])
    array = array.astype(kind) if kind == "?" else np.asarray(array * (1 + (kind[0] in "iu")), kind)
    if array.size and kind in ("f4", "f8") and rng.random() < 0.05:
        array.flat[rng.randrange(array.size)] = rng.choice([math.nan, math.inf, 1e30, -1e38])
        world.wild = True
    world.arrays = [*world.arrays[-11:], array]
    return array


def in_some_form(world, array):
    """As people keep their data."""
    how = world.rng.randrange(22)
    if how == 0:
        return array.tolist()
    if how == 1:
        return np.asfortranarray(array)
    if how == 2 and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if how == 3 and array.ndim:
        return array[::-1]
    if how == 4 and array.dtype.kind in "fiu" and array.dtype.isnative and array.ndim in (1, 2):
        return pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)
    if how in (5, 6) and array.ndim == 2 and array.dtype.kind in "fiu" and array.dtype.isnative:
        made = world.rng.choice([scipy.sparse.csr_array, scipy.sparse.csc_matrix,
                                 scipy.sparse.coo_array])
        return made(array * (array > 0)) if array.dtype.itemsize in (4, 8) else array
    if how == 7:
        array = array.copy()
        array.flags.writeable = False
    return array


def some_X(world, net, n=None):
    rng = world.rng
    n = rng.choice([1, 2, 3, 8, 17, 24]) if n is None else n
    columns = net.n_in or rng.randrange(1, 5)
    if rng.random() < 0.04:
        n, columns = rng.choice([(0, columns), (n, columns + 1), (n, 0), (n, max(1, columns - 1))])
    X = an_array(world, (n, columns), [net.dtype.str[1:], net.dtype.str[1:], "f4", "f8"])
    return X if rng.random() < 0.5 else in_some_form(world, X)


def some_y(world, loss, n, n_out):
    """Targets for a loss."""
    rng = world.rng
    while isinstance(loss, losses.Scaled):
        loss = loss.loss
    n += rng.choice([-1, 1]) if rng.random() < 0.02 else 0
    rows = max(0, n)
    draw = numbers(world)
    if isinstance(loss, fb.SoftmaxCrossEntropy):
        y = draw.integers(0, n_out, rows)
        if rng.random() < 0.25:
            y = np.eye(n_out, dtype="f4")[y]
        elif rng.random() < 0.05 and rows:
            y[rng.randrange(rows)] = rng.choice([-1, n_out, 2**62])
    elif isinstance(loss, fb.SigmoidCrossEntropy):
        y = draw.integers(0, 2, (rows, n_out))
    elif isinstance(loss, fb.PoissonDeviance):
        y = draw.integers(0, 5, (rows, n_out))
    else:
        y = an_array(world, (rows, n_out))
    if n_out == 1 and rng.random() < 0.5:
        y = y.reshape(-1)
    if rng.random() < 0.03:
        return a_value(world)
    if y.dtype == np.int64 and rng.random() < 0.5:
        y = y.astype(rng.choice(["f4", "f8", "i4", "u1"]))
    world.arrays = [*world.arrays[-11:], y]
    return y if rng.random() < 0.6 else in_some_form(world, y)


def some_weights(world, n):
    if world.rng.random() < 0.7:
        return None
    weights = np.abs(an_array(world, (n,), ["f4", "f8"])) if n else np.ones(0)
    weights *= world.rng.choice([1, 1, 1, 0, -1]) if weights.dtype.kind == "f" else 1
    if n and world.rng.random() < 0.3:
        weights[: world.rng.randrange(n)] = 0
    return weights


def rows_of(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


def some_data(world, net, loss):
    X = some_X(world, net)
    n = rows_of(X)
    n_out = net.n_out or (X.shape[1] if hasattr(X, "shape") else len(X[0]) if n else 1)
    return X, some_y(world, loss, n, max(1, n_out)), some_weights(world, n)


def good(world, name):
    return world.rng.choice(GOOD[name])


def some_layer(world, n_in=None, n_out=None):
    """From n_in columns to n_out, where that can be chosen."""
    rng = world.rng
    n_in = rng.randrange(1, 6) if n_in is None else n_in
    makers = [lambda: fb.Dense(n_in, n_out or rng.randrange(1, 6), good(world, "init"))] * 8
    makers += [fb.ReLU, fb.Tanh, fb.Sigmoid, fb.GELU, fb.SiLU,
               lambda: fb.LeakyReLU(good(world, "alpha")), lambda: fb.ELU(good(world, "alpha")),
               lambda: fb.Dropout(good(world, "rate"))]
    if rng.random() < 0.1:
        makers = [lambda: Scale(n_in), lambda: OwnDense(n_in, n_out or 3),
                  lambda: Odd(rng.choice(WRONGS), rng.choice(["forward", "backward"]))]
    return rng.choice(makers)()


def some_layers(world):
    width, made = world.rng.randrange(1, 6), []
    for _ in range(world.rng.randrange(1, 6)):
        made.append(some_layer(world, width))
        width = made[-1].n_out or width
    return made


def some_net(world):
    if not world.nets or (len(world.nets) < 3 and world.rng.random() < 0.1):
        net = fb.Sequential(some_layers(world), good(world, "dtype"), seed=good(world, "seed"))
        world.nets.append(net)
    return world.rng.choice(world.nets)


def some_loss(world):
    rng = world.rng
    if len(world.losses) < 3 or rng.random() < 0.2:
        plain = [lambda: fb.SoftmaxCrossEntropy(good(world, "label_smoothing"), good(world, "cap")),
                 lambda: fb.SoftmaxCrossEntropy(), lambda: fb.SigmoidCrossEntropy(),
                 lambda: fb.SigmoidCrossEntropy(good(world, "cap")), fb.MeanSquaredError,
                 fb.MeanAbsoluteError, fb.PoissonDeviance, lambda: fb.Huber(good(world, "delta"))]
        makers = [*plain * 2, lambda: losses.Scaled(rng.choice(plain)(), 2.0, 0.5),
                  lambda: OwnLoss(rng.choice(["fine", *WRONGS]))]
        world.losses = [*world.losses[-4:], rng.choice(makers)()]
    return rng.choice(world.losses)


def some_optimizer(world):
    rng = world.rng
    if len(world.optimizers) < 2 or rng.random() < 0.2:
        common = {"learning_rate": good(world, "learning_rate"),
                  "weight_decay": good(world, "weight_decay"), "clip_norm": good(world, "clip_norm")}
        made = rng.choice([fb.SGD, fb.SGD, fb.Adam, fb.Adam, fb.AdamW, OwnSGD])
        extra = {name: good(world, name) for name in (
            ["momentum", "nesterov"] if issubclass(made, fb.SGD) else ["beta1", "beta2"])}
        world.optimizers = [*world.optimizers[-3:], made(**common, **extra)]
    return rng.choice(world.optimizers)


def some_callbacks(world):
    rng = world.rng
    made = []
    if rng.random() < 0.6:
        made.append(Actor(world, rng.choice([0.1, 0.3, 0.5])))
    if rng.random() < 0.2:
        made.append(fb.EarlyStopping(rng.choice([1, 2]), monitor=rng.choice(["loss", "val_loss"])))
    if rng.random() < 0.2:
        made.append(fb.callbacks.Plateau(1, factor=good(world, "factor"), keep_best=rng.random() < 0.5))
    if rng.random() < 0.03:
        made.append(a_value(world))
    world.callbacks = [*world.callbacks[-3:], *made]
    rng.shuffle(made)
    return made


# Actions: each takes the world, makes its calls with `world.do`, and returns what to compare


def a_network(world):
    net = world.do(fb.Sequential, some_layers(world), a_value(world, "dtype")
                   if world.rng.random() < 0.1 else good(world, "dtype"), seed=good(world, "seed"))
    world.nets = [*world.nets[-2:], net]
    return net.parameters


def odd_options(world, options, names, chance=0.25):
    """Some more options, mostly good ones."""
    for name in names:
        if world.rng.random() < chance:
            options[name] = good(world, name)
    if world.rng.random() < 0.12:
        name = world.rng.choice([*names, *options])
        options[name] = a_value(world, name)
    return options


def fit(world, net=None, **more):
    if world.depth > 3:
        return predict(world)
    net = net or some_net(world)
    loss = some_loss(world)
    X, y, weights = some_data(world, net, loss)
    options = {"loss": loss, "optimizer": some_optimizer(world), "epochs": good(world, "epochs"),
               "batch_size": world.rng.choice([3, 4, 8, 8, 32, 100]), "sample_weight": weights,
               "callbacks": some_callbacks(world)}
    if world.rng.random() < 0.2:
        X_val, y_val, w_val = some_data(world, net, loss)
        options["validation_data"] = (X_val, y_val) if w_val is None else (X_val, y_val, w_val)
    options = odd_options(world, options, ["l2", "validation_fraction", "shuffle", "verbose", "seed",
                                           "gradient_norms", "n_threads"])
    return world.do(net.fit, X, y, **(options | more))


def fit_again(world):
    """From checkpoints, perhaps of another training."""
    net, folder = some_net(world), os.path.join(world.folder, "checkpoints")
    loss = some_loss(world)
    X, y, _ = some_data(world, net, loss)
    options = {"loss": loss, "checkpoint": folder, "resume": True, "seed": 0, "batch_size": 8}
    results = []
    for epochs in (1, 3):
        optimizer = some_optimizer(world)
        results.append(world.do(net.fit, X, y, optimizer=optimizer, epochs=epochs, **options,
                                callbacks=some_callbacks(world) if world.rng.random() < 0.4 else []))
        if world.rng.random() < 0.2:
            net = world.do(copy.deepcopy, net)
            world.nets = [*world.nets[-2:], net]
    return results


def fit_while_arrays_are_resized(world):
    """Arrays of nobody else, which a callback may thus resize."""
    rng = world.rng
    net = fb.mlp([3, 4, 2], rng.choice(["relu", "tanh"]), dtype=good(world, "dtype"), seed=0)
    X, y = (numbers(world).normal(size=(12, k)).astype(rng.choice(["f4", "f8"])) for k in (3, 2))
    w = np.ones(12, net.dtype)
    array = rng.choice([X, y, w])
    shape = rng.choice([(1,), (0,), (3,), (1000, 3), (12,), (24,), (100_000,)])

    def resize(training):
        if training.epoch == 1:
            array.resize(shape, refcheck=False)
            if rng.random() < 0.5:
                training.l2 = 0.5

    world.nets = [*world.nets[-2:], net]
    return world.do(net.fit, X, y, loss=fb.MeanSquaredError(), sample_weight=w, epochs=3,
                    batch_size=5, callbacks=[resize], seed=0)


def predict(world):
    net = some_net(world)
    X = some_X(world, net)
    options = {}
    if world.rng.random() < 0.3:
        options["activation"] = world.rng.choice(["softmax", "sigmoid", "exp", a_value(world)])
        world.lenient = options["activation"] == "exp" if isinstance(
            options["activation"], str) else False
    if world.rng.random() < 0.2:
        options["n_threads"] = a_value(world, "n_threads")
    if world.rng.random() < 0.2:
        shape = rows_of(X), net.n_out or X.shape[1] if hasattr(X, "shape") else 1
        options["out"] = an_array(world, shape, [net.dtype.str[1:]])
        if world.rng.random() < 0.3:
            options["out"] = world.rng.choice([net.parameters, X, *world.arrays])
    return world.do(net.predict, X, **options)


def evaluate(world):
    net, loss = some_net(world), some_loss(world)
    X, y, weights = some_data(world, net, loss)
    return world.do(net.evaluate, X, y, loss=loss, sample_weight=weights)


def go_forward_and_backward(world):
    net = some_net(world)
    X = some_X(world, net)
    results = []
    if world.rng.random() < 0.8:
        results.append(world.do(net.forward, X, training=world.rng.random() < 0.8))
    shape = results[0].shape if results else (3, 2)
    dZ = an_array(world, shape, [net.dtype.str[1:]])
    if world.rng.random() < 0.1:
        dZ = a_value(world)
    results.append(world.do(net.backward, dZ, input_gradient=world.rng.random() < 0.5))
    return results


def save_and_load(world):
    path = os.path.join(world.folder, f"model-{world.rng.randrange(2)}")
    if world.rng.random() < 0.7:
        world.do(some_net(world).save, path)
    net = world.do(fb.load, path, [Scale, Odd, OwnDense])
    net._entropy = 0  # which no file holds
    world.nets = [*world.nets[-2:], net]
    return net.parameters


def make_a_copy(world):
    what = world.rng.choice([some_net, some_net, some_optimizer, some_loss, some_layer])(world)
    how = world.rng.choice([copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    if any(map(callable, vars(what).values())) or "lambda" in repr(what):
        how = copy.deepcopy  # pickle says more or less, with the function's place
    made = world.do(how, what)
    if isinstance(made, fb.Sequential):
        if world.rng.random() < 0.4:
            made = world.do(made.astype, a_value(world, "dtype"))
        world.nets = [*world.nets[-2:], made]
    elif isinstance(made, fb.Optimizer):
        world.optimizers = [*world.optimizers[-3:], made]
    return None


def look(world):
    net = some_net(world)
    what = world.rng.choice([net.summary, net.__repr__, net.reseed, some_loss(world).__repr__])
    if what == net.reseed:
        seed = a_value(world, "seed")
        return world.do(net.reseed, seed).random()
    return world.do(what)


def replace_layers(world):
    net, rng = some_net(world), world.rng
    layers = list(net.layers)
    how = rng.randrange(6)
    at = rng.randrange(len(layers))
    if how < 2:
        layers[at] = some_layer(world, layers[at].n_in, layers[at].n_out)
    elif how == 2:
        layers.insert(at, some_layer(world, layers[at].n_in))
    elif how == 3:
        del layers[at]
    elif how == 4:
        layers[at] = rng.choice([*some_net(world).layers, some_layer(world)])
    else:
        layers = rng.choice([some_layers(world), a_value(world)])
    world.do(setattr, net, "layers", layers)
    return [short(layer) for layer in net.layers]


def an_object(world):
    """One whose attributes can be set."""
    rng = world.rng
    if world.trainings and rng.random() < 0.5:
        training = world.trainings[-1]
        return rng.choice([training] * 3 + [training.network, training.optimizer, training.history,
                                            training.loss, *training.network.layers])
    net = some_net(world)
    return rng.choice([net, *net.layers, *net.layers, some_optimizer(world), some_optimizer(world),
                       some_loss(world), *world.callbacks[-1:], *world.trainings[-1:]])


# What the layers' own methods use and the compiled code does not: to give an object another is to
# change its class behind its back.
METHODS_NAMED_AS_DATA = {"limits", "operation", "from_output", "decoupled", "state_names", "kept"}
names_of_types = {}


def names_of(something):
    """The names of its public attributes that are no methods."""
    cls = type(something)
    if cls not in names_of_types:
        names_of_types[cls] = [
            name for name in dir(cls) if not name.startswith("_") and name not in METHODS_NAMED_AS_DATA
            and (name == "metric" or not callable(getattr(cls, name)))]
    own = [name for name in getattr(something, "__dict__", ()) if not name.startswith("_")
           and not (isinstance(something, Actor) and name in ("world", "often"))]
    return sorted({*names_of_types[cls], *own, "nonsense"})


def assign(world):
    something = an_object(world)
    name = world.rng.choice(names_of(something))
    if name == "history" and isinstance(something, fb.Sequential):
        return None
    value = a_value(world, name)
    current = None
    with contextlib.suppress(Exception):
        current = getattr(something, name)
    if isinstance(current, np.ndarray) and world.rng.random() < 0.6:
        value = an_array(world, current.shape)
    world.do(setattr, something, name, value)
    return None


def delete(world):
    something = an_object(world)
    world.do(delattr, something, world.rng.choice(names_of(something)))


def arrays_within_reach(world):
    found = [array for net in world.nets for array in (net.parameters, net.gradients)]
    found += [getattr(layer, name) for net in world.nets for layer in net.layers
              for name in layer.parameter_shapes if name in vars(layer)]
    found += [array for each in world.optimizers if isinstance(each.state, dict)
              for array in each.state.values()]
    return [array for array in [*found, *world.arrays] if isinstance(array, np.ndarray)]


def change_what_an_array_is(world):
    """Its dtype, shape or strides, within its memory."""
    array, rng = world.rng.choice(arrays_within_reach(world)), world.rng
    if array.dtype.hasobject:
        return
    world.wild = True
    how = rng.randrange(3)
    if how == 0:
        world.do(setattr, array, "dtype", rng.choice(["f4", "f8", "i4", "i8", "u1", ">f4", "?"]))
    elif how == 1:
        world.do(setattr, array, "shape", rng.choice([(-1,), (-1, 1), (1, -1), (2, -1), (-1, 2),
                                                      array.shape[::-1], (1, 1, -1)]))
    elif array.ndim:
        world.do(setattr, array, "strides", rng.choice(
            [array.strides[::-1], (0,) * array.ndim, (array.itemsize,) * array.ndim,
             (array.itemsize // 2,) * array.ndim, array.strides]))


def change_numbers(world):
    """Those of an array that somebody may be using."""
    array = world.rng.choice(arrays_within_reach(world))
    value = a_value(world) if world.rng.random() < 0.3 else world.rng.choice([0, 1, 0.5, 2, -1, 7])
    world.do(array.__setitem__, world.rng.choice([..., 0, -1, slice(0, 1)]), value)


def step_by_hand(world):
    optimizer, net = some_optimizer(world), some_net(world)
    rng = world.rng
    parameters, gradients = net.parameters, net.gradients
    if rng.random() < 0.15:
        parameters = rng.choice([an_array(world, net.parameters.shape), a_value(world), gradients])
    if rng.random() < 0.3:
        gradients = rng.choice([an_array(world, net.parameters.shape), a_value(world), gradients[:1]])
    return world.do(optimizer.step, parameters, gradients, rng.choice([0.0, 1.5, a_value(world)]))


def change_state(world):
    """Of an optimizer."""
    optimizer, other = some_optimizer(world), some_optimizer(world)
    if world.rng.random() < 0.2:
        world.do(setattr, optimizer, "state", other.state)
    elif isinstance(optimizer.state, dict) and optimizer.state:
        name = world.rng.choice([*optimizer.state, "m"])
        if world.rng.random() < 0.3:
            optimizer.state.pop(name, None)
        else:
            array = optimizer.state.get(name)
            optimizer.state[name] = an_array(world, array.shape) if isinstance(
                array, np.ndarray) and world.rng.random() < 0.6 else a_value(world)


def minimise(world):
    net, loss = some_net(world), some_loss(world)
    X, y, weights = some_data(world, net, loss)
    result = world.do(training.lbfgs, net, X, y, loss=loss, sample_weight=weights, max_iter=2,
                      **odd_options(world, {}, ["l2", "tol"]))
    return [result.x, result.fun, result.nit]


def call_training(world):
    """A method of a running training, or what its callbacks may set."""
    training = world.trainings[-1]
    how = world.rng.randrange(5)
    if how == 0:
        world.do(training.stop, a_value(world))
    elif how == 1:
        name = world.rng.choice([*training.history, "x"])
        training.history[name] = world.rng.choice([[], [1.0], None, a_value(world)])
    elif how == 2:
        training.history.pop(world.rng.choice([*training.history, "x"]), None)
    else:
        name = world.rng.choice(["batch_size", "l2", "loss"])
        value = a_value(world, name) if name != "loss" else some_loss(world)
        world.do(setattr, training, name, value)
        return [training.steps_per_epoch, training.l2]
    return None


def fit_what_is_trained(world):
    return fit(world, world.trainings[-1].network, optimizer=world.trainings[-1].optimizer)


# Estimators


PARAMETERS = {
    "hidden_layer_sizes": [(), (3,), (4, 2), 3, [5]], "solver": ["adam", "sgd", "adamw", "lbfgs"],
    "activation": ["relu", "tanh", "logistic", "identity", "gelu", ("relu",), ("tanh", "silu")],
    "alpha": [0.0, 1e-4, 0.5], "batch_size": ["auto", 4, 7, 100], "max_iter": [1, 2, 3],
    "learning_rate": ["constant", "adaptive", "invscaling", schedules.Step(0.01, 1)],
    "learning_rate_init": [0.001, 0.1], "shuffle": [True, False], "random_state": [0, 1, None],
    "warm_start": [True, False], "early_stopping": [True, False], "validation_fraction": [0.1, 0.4],
    "n_iter_no_change": [1, 3], "dropout": [0.0, 0.3], "clip_norm": [None, 1.0], "momentum": [0.9],
    "monitor": ["score", "loss"], "dtype": [None, "float32", "float64"], "n_threads": [None, 1, 2],
    "tol": [1e-4, 0.0], "verbose": [False], "beta_1": [0.9, 0.0], "epsilon": [1e-8],
    "power_t": [0.5], "nesterovs_momentum": [True, False], "max_fun": [1, 15000],
    "loss": ["squared_error", "poisson", "absolute_error", "huber"], "huber_delta": [1.0],
    "class_weight": [None, "balanced", {0: 2.0}], "label_smoothing": [0.0, 0.1],
}


def some_parameters(world, cls, n):
    """Parameters of an estimator."""
    known = cls._get_param_names()
    chosen = {name: world.rng.choice(PARAMETERS[name])
              for name in world.rng.sample([name for name in known if name in PARAMETERS], n)}
    if world.rng.random() < 0.1:
        name = world.rng.choice([name for name in known if name != "callbacks"])
        chosen[name] = a_value(world, name)
        if name in ("max_iter", "max_fun") and not isinstance(chosen[name], str | list | np.ndarray):
            chosen[name] = 2
    if world.rng.random() < 0.2:
        chosen["callbacks"] = some_callbacks(world)
    return chosen


def some_model(world):
    if len(world.models) < 1 or (len(world.models) < 3 and world.rng.random() < 0.1):
        cls = world.rng.choice([estimators.MLPClassifier, estimators.MLPRegressor])
        given = some_parameters(world, cls, 4)
        world.models.append(cls(**{"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0} | given))
    return world.rng.choice(world.models)


def rows_and_targets(world, model):
    rng = world.rng
    n = rng.choice([2, 9, 20, 20])
    X = in_some_form(world, an_array(world, (n, rng.choice([3] * 12 + [2, 0]))))
    how = rng.randrange(12)
    draw = numbers(world)
    if how == 0:
        return X, a_value(world)
    if how < 3:
        return X, draw.integers(0, 2, (n, 2))
    if how == 3:
        return X, an_array(world, (n,) if rng.random() < 0.5 else (n, 2))
    if isinstance(model, estimators.MLPRegressor):
        return X, in_some_form(world, np.abs(draw.normal(size=n)))
    return X, np.array(rng.choice([[0, 1], [0, 1, 2], ["a", "b"], [0]]))[
        draw.integers(0, 99, n) % rng.choice([1, 2, 2])]


def state_of(model):
    return {name: value for name, value in vars(model).items() if name in (
        "coefs_", "intercepts_", "loss_curve_", "n_iter_", "t_", "out_activation_")}


def fit_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    options = {}
    if world.rng.random() < 0.2:
        options["sample_weight"] = some_weights(world, rows_of(X))
    if world.rng.random() < 0.15:
        options["X_val"], options["y_val"] = rows_and_targets(world, model)
    world.do(model.fit, X, y, **options)
    return state_of(model)


def partial_fit_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    options = {}
    if isinstance(model, estimators.MLPClassifier) and world.rng.random() < 0.8:
        options["classes"] = world.rng.choice([[0, 1], [0, 1, 2], ["a", "b"], a_value(world)])
    if world.rng.random() < 0.2:
        options["epochs"] = a_value(world, "epochs")
    world.do(lambda: model.partial_fit(X, y, **options))
    return state_of(model)


def predict_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    name = world.rng.choice(["predict", "predict", "predict_proba", "predict_log_proba", "score"])
    if not hasattr(model, name):
        return None
    world.lenient = name == "predict_log_proba" or getattr(model, "loss", "") == "poisson"
    return world.do(getattr(model, name), X, *[y] * (name == "score"))


def assign_to_estimator(world):
    model, rng = some_model(world), world.rng
    how = rng.randrange(4)
    if how == 0:
        world.do(model.set_params, **some_parameters(world, type(model), 2))
    elif how == 1:
        name = rng.choice(names_of(model))
        value = a_value(world, name)
        if name not in ("max_iter", "max_fun"):
            world.do(setattr, model, name, value)
    elif "coefs_" in vars(model) and isinstance(model.coefs_, list) and model.coefs_:
        arrays = rng.choice([model.coefs_, model.intercepts_])
        if isinstance(arrays, list) and arrays:
            at = rng.randrange(len(arrays))
            array = arrays[at]
            arrays[at] = an_array(world, array.shape) if isinstance(array, np.ndarray) and (
                rng.random() < 0.7) else a_value(world)


def copy_estimator(world):
    model = some_model(world)
    made = world.do(world.rng.choice([sklearn.base.clone, copy.deepcopy]), model)
    world.models = [*world.models[-2:], made]
    return state_of(made)


def network_of_estimator(world):
    net = world.do(some_model(world).to_network)
    net._entropy = 0  # its weights are scikit-learn's, and this is drawn by nobody's seed
    world.nets = [*world.nets[-2:], net]
    return net.parameters


TABLE = {  # how often each is drawn
    fit: 8, predict: 4, evaluate: 3, go_forward_and_backward: 3, make_a_copy: 2, look: 1,
    replace_layers: 2, assign: 8, delete: 1, change_what_an_array_is: 2, change_numbers: 2,
    step_by_hand: 2, change_state: 2, a_network: 1, save_and_load: 1, minimise: 1,
    fit_again: 1, fit_while_arrays_are_resized: 1,
}
ACTIONS = [action for action, n in TABLE.items() for _ in range(n)]
IN_CALLBACKS = [*ACTIONS, *[call_training] * 12, *[assign] * 4, fit_what_is_trained]
ESTIMATORS = [*[fit_estimator] * 8, *[partial_fit_estimator] * 4, *[predict_estimator] * 6,
              *[assign_to_estimator] * 6, copy_estimator, network_of_estimator, *ACTIONS[::4]]


if __name__ == "__main__":
    main()
