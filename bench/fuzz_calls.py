"""Random sequences of calls and assignments, run on networks, trainings and estimators.

    python bench/fuzz_calls.py --sequences 100000

Each sequence is run twice in its own process: once as usual, with any instruction set and number of
threads, and once by the reference interpreter, in Python.  Both must produce the same bits and the
same kinds of errors after every action, also those within callbacks.  Not allowed are the end of
the process, other errors than those in EXPECTED, and NaN or infinity where no such value, and no
enormous one, was accepted before.  `--show N` runs one sequence and prints each call before it is
made.  The script ends with 1 if there are findings.
"""

import argparse
import collections
import contextlib
import json
import math
import os
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
from fuzz_actions import ACTIONS, ESTIMATORS, IN_CALLBACKS, a_network
from fuzz_pieces import short, some_model

import fastbp as fb
from fastbp import program, training
from fastbp.kernels import dispatch, threads

SECONDS = 300  # for one sequence
CHUNK = 400  # sequences for one process
EXPECTED = (TypeError, ValueError, AttributeError, RuntimeError, FloatingPointError,
            NotImplementedError, OSError, MemoryError, IndexError, KeyError)
ENORMOUS = 1e3  # parameters above may well make infinities
# What is known to disagree; `--everything` plays it too.
LEFT_OUT = {
    # The interpreter has a loss look at its targets in every step; compiled steps at labels alone.
    "targets out of range",
    # A view whose shape somebody has set is put back where a layer is asked, which compiled code
    # does not do: the numbers are the same, and the view that was given out is another.
    "layers' arrays",
    # Where all weights of the rows left, or set aside, are 0, their loss is NaN.
    "split weights",
}
SOURCE = os.path.dirname(fb.__file__)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sequences", type=int, default=100_000, metavar="N",
                        help="(default: 100000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one's")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), metavar="N")
    parser.add_argument("--show", type=int, metavar="N", help="play this one, and say how it goes")
    parser.add_argument("--everything", action="store_true", help="also what is left out so far")
    arguments = parser.parse_args()
    if arguments.everything:
        LEFT_OUT.clear()
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
    lines = os.fdopen(reader, "rb", buffering=0)
    running.register(lines, selectors.EVENT_READ, {"pid": pid, "at": start, "stop": stop})


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
            with by_interpreter() if by_layers else any_way():
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


class Interpreted:
    """What stands where a network relies on an executor to predict with."""

    def __init__(self, executor, lowered):
        self.executor, self.lowered = executor, lowered

    def accepts(self, X):
        return False

    def __call__(self, X, out=None):
        if out is None or self.executor(X, out) is None:
            return None
        out[...] = program.Interpreter(self.lowered, training=False).forward(X)
        return out


def interpreted(programs, n_in, activation=None):
    return Interpreted(EXECUTOR(programs, n_in, activation),  # which may refuse the activation
                       program.lower(programs.layers, n_in, end=activation))


EXECUTOR = program.Programs.executor


@contextlib.contextmanager
def by_interpreter():
    steps = training.run.new_steps
    training.run.new_steps, program.Programs.executor = program.reference.new_steps, interpreted
    program.Programs.predictors = property(lambda programs: {}, lambda programs, value: None)
    try:
        yield
    finally:
        training.run.new_steps, program.Programs.executor = steps, EXECUTOR
        del program.Programs.predictors


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
        self.in_callbacks, self.left_out = IN_CALLBACKS, LEFT_OUT
        np.random.seed(seed % 2**32)  # noqa: NPY002 - what scikit-learn's draw from

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
        lenient, self.lenient = self.lenient, False
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
        self.lenient = lenient
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
        self.strange = 0
        if error is not None:
            for net in self.nets:  # what a refused fit has left there is nobody's business
                net.gradients[...] = 0
                for layer in net.layers if self.depth == 0 else ():
                    layer.step = 0
        state = [(f"{what} after {name}", self.canonical(each))
                 for what, each in self.state(isinstance(error, FloatingPointError))]
        if self.strange and not self.tainted:
            raise Finding(f"unasked: parameters that are not finite after {name}")
        self.strange = 0
        entry = [("action", name), (f"result of {name}", self.canonical(result)), *state]
        if self.strange > self.lenient and not self.tainted:
            self.say(f"{result}")
            raise Finding(f"unasked: {('', 'infinity', 'NaN')[self.strange]} from {name}")
        if not self.by_layers:
            self.trace.append(entry)
            return
        other = self.trace[self.place]
        self.place += 1
        for (what, compiled), (same, by_layers) in zip(other, entry, strict=False):
            if (what, compiled) == (same, by_layers):
                continue
            self.say(f"{what}:\ncompiled  {compiled}\nby layers {by_layers}")
            if what == same and str in (type(compiled), type(by_layers)):
                kinds = [each if isinstance(each, str) else "a result"
                         for each in (compiled, by_layers)]
                what += f", {kinds[0]} compiled and {kinds[1]} by layers"
            raise Finding(f"disagreement: {what}")

    def state(self, diverged):
        """What the networks and optimizers hold.

        The states may be those from before or after a step that diverged.
        """
        for net in self.nets:
            yield "parameters", self.parameters(net.parameters)
            yield "gradients", self.parameters(net.gradients)
            if not diverged:
                yield "keys and steps", [(layer.key, layer.step) for layer in net.layers]
        for each in self.optimizers:
            if not diverged:
                yield "optimizer's steps", getattr(each, "steps", None)
                yield "optimizer's state", getattr(each, "state", None)

    def parameters(self, array):
        if array.dtype.kind == "f" and not np.abs(array).max(initial=0) <= ENORMOUS:
            self.strange = self.strange or int(not np.isfinite(array).all())
            self.tainted |= not self.strange
        return array

    def canonical(self, value):
        """Something that can be compared; NaN is NaN, and seconds do not count."""
        if isinstance(value, np.ndarray) and value.dtype.char in "gG":  # has bytes that say nothing
            value = value.tolist()
        if isinstance(value, np.ndarray) and value.dtype.kind != "O":
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                self.strange = max(self.strange, 1 + bool(np.isnan(value).any()))
                value = np.where(np.isnan(value), value.dtype.type("nan"), value)
            return value.dtype.str, value.shape, value.tobytes()
        if isinstance(value, float | np.floating):
            if not math.isfinite(value):
                self.strange = max(self.strange, 1 + math.isnan(value))
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


if __name__ == "__main__":
    main()
