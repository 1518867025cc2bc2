"""Checkpoints: a fit that was cut off, wherever it was, goes on and ends with the same bits.

Run as a script, this file is the processes that its tests kill.
"""

import builtins
import contextlib
import functools
import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from safetensors.numpy import load, save

import fastbp as fb
from fastbp import checkpoints, io
from fastbp import training as loop
from fastbp.callbacks import Plateau
from fastbp.program import reference

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


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


LOSSES = pytest.mark.parametrize("loss", [fb.SoftmaxCrossEntropy, Own], ids=["engine", "layers"])


# Cut off and gone on with


@LOSSES
@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"no seed", "sparse"}))
def test_what_was_cut_off_ends_with_the_same_bits(folder, dtype, kind, loss):
    options = {"kind": kind, "dtype": dtype, "loss": loss}
    whole = job(**options)
    assert job(folder / "whole", **options) == whole, "keeping checkpoints changes nothing"
    for at, when, every in ((0, "begin", 1), (3, "end", 2), (EPOCHS - 1, "begin", 1)):
        place = folder / f"{at}"
        if at < len(whole["history"]["loss"]):
            cut_off(place, at, when=when, every=every, **options)
        assert job(place, resume=True, every=every, **options) == whole
        assert job(place, resume=True, every=every, **options) == whole, "and once more"


@LOSSES
@pytest.mark.parametrize("kind", ["no seed", "sparse", "early stopping"])
def test_without_a_seed_it_is_the_checkpoint_that_knows(folder, tmp_path, dtype, kind, loss):
    """One run, and another that goes on from a copy of its folder, with another network."""
    options = {"kind": kind, "seed": None, "dtype": dtype, "loss": loss}
    for at in (0, 2):
        copy = tmp_path / f"copy {at}"
        whole = job(folder / str(at), **options,
                    cut=Cut(at, lambda at=at, copy=copy: shutil.copytree(folder / str(at), copy)))
        assert job(copy, resume=True, **options) == whole
    assert job(**options) != whole


def test_the_same_objects_go_on_too(folder):
    """In the process that was cut off, with the network, the optimizer and the callbacks."""
    whole = job(kind="all")
    net, options = start("all", cut=(cut := Cut(3, stop)))
    data = options.pop("X")
    with pytest.raises(Stop):
        net.fit(data, Y, checkpoint=folder, **options)
    cut.at = None
    net.fit(data, Y, checkpoint=folder, resume=True, **options)
    assert outcome(net, options) == whole


@pytest.mark.parametrize("every", [1, 3])
def test_cut_off_in_every_epoch(folder, every):
    whole = job(kind="all")
    epochs = len(whole["history"]["loss"])
    for at in range(epochs):
        with contextlib.suppress(Stop):
            job(folder, "all", True, every, cut=Cut(at, stop, "begin" if at % 2 else "end"))
        assert len(epochs_in(folder)) <= 2
        assert epochs_in(folder)[-1] == at // every * every
    assert job(folder, "all", True, every) == whole


@LOSSES
def test_more_epochs_than_at_first(folder, dtype, loss):
    options = {"kind": "dropout", "dtype": dtype, "loss": loss}
    for epochs in (2, 3, EPOCHS):
        longer = job(folder, resume=True, epochs=epochs, **options)
        assert longer == job(epochs=epochs, **options)
    assert job(folder, resume=True, epochs=2, **options) == longer, "never back"


def test_which_checkpoints_stay(folder):
    seen = []
    job(folder, every=3, cut=(cut := Cut()))
    assert epochs_in(folder) == [6, 7], "the last epoch's is always kept"
    assert os.listdir(folder).count(".fastbp-lock") == 1
    shutil.rmtree(folder)
    cut.on_epoch_end = lambda training: seen.append(epochs_in(folder))
    job(folder, every=2, cut=cut)
    assert seen == [[0], [0], [0, 2], [0, 2], [2, 4], [2, 4], [4, 6]]


def test_paths_of_all_kinds(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    whole = job()
    assert job("relative") == job(Path("deep/er")) == job(os.fspath(folder)) == whole
    assert epochs_in("deep/er") == epochs_in("relative") == epochs_in(folder) == [6, 7]
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OSError, match="file"):
            job(wrong)
    with pytest.raises(TypeError):
        job(3)


def test_a_callback_that_changes_the_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        job("run", cut=Cut(1, lambda: os.chdir("elsewhere")))
    assert epochs_in(tmp_path / "run") == [6, 7]


# Ctrl-C


@pytest.fixture
def ctrl_c():
    """A process that was started in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@LOSSES
def test_ctrl_c(folder, loss, ctrl_c):
    whole = job(kind="all", loss=loss)
    for at in ("start", 0, 2, len(whole["history"]["loss"]) - 1):
        with pytest.raises(KeyboardInterrupt):
            job(folder, "all", True, loss=loss,
                cut=Cut(at, functools.partial(signal.raise_signal, signal.SIGINT)))
    assert job(folder, "all", True, loss=loss) == whole


# What is refused


def test_checkpoints_are_not_overwritten(folder):
    cut_off(folder, 2)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(FileExistsError, match=r"^checkpoint: .*run.*resume=True"):
        job(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    folder = folder.parent / "other"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert job(folder) == job(), "other files are in nobody's way"
    assert (folder / "notes.txt").read_text() == "mine"


OTHERS = {
    "layers": {"sizes": [9]}, "dtype": {"dtype": "float64"}, "loss": {"loss": Own},
    "l2": {"l2": 0.5}, "optimizer": {"optimizer": fb.SGD(0.1)}, "batch_size": {"batch_size": 9},
    "seed": {"fit_seed": 3}, "shuffle": {"shuffle": False}, "shape of X": {"X": X[:49]},
    "validation_fraction": {"validation_fraction": 0.1}, "callbacks": {"callbacks": [Halving()]},
    "rows of validation_data": {"validation_data": (X[:5], Y[:5])},
}


@pytest.mark.parametrize("name", OTHERS)
def test_going_on_with_another_training(folder, monkeypatch, name):
    cut_off(folder, 2)
    if name == "shape of X":
        monkeypatch.setattr(sys.modules[__name__], "Y", Y[:49])
    with pytest.raises(ValueError, match=rf"^resume: .* {name} = .*, got "):
        job(folder, resume=True, **OTHERS[name])
    monkeypatch.undo()
    assert job(folder, resume=True) == job(), "and no harm was done"


@pytest.mark.parametrize("changes", [
    {"dropout": 0.4}, {"loss": functools.partial(fb.SoftmaxCrossEntropy, 0.1)},
    {"optimizer": fb.Adam(0.02, beta1=0.5)}, {"optimizer": fb.SGD(0.02)},
    {"gradient_norms": False}, {"sample_weight": WEIGHTS},
], ids=lambda changes: next(iter(changes)))
def test_going_on_with_other_settings(folder, changes):
    cut_off(folder, 2, kind="dropout")
    with pytest.raises(ValueError, match=r"^resume: "):
        job(folder, "dropout", resume=True, **changes)


def test_arguments_that_do_not_go_together(folder):
    with pytest.raises(ValueError, match=r"^resume: .*checkpoint"):
        job(resume=True)
    with pytest.raises(ValueError, match=r"^shuffle: .*checkpoint"):
        job(folder, shuffle=lambda n: np.arange(n))
    for every in (0, -1):
        with pytest.raises(ValueError, match=r"^checkpoint_every: "):
            job(folder, every=every)
    assert not folder.exists()


@pytest.mark.parametrize("array", [
    np.arange(6).reshape(2, 3).T, np.asfortranarray(np.arange(6).reshape(2, 3)),
    np.arange(9)[::2], np.arange(9)[3:7][::-1],
], ids=["transposed", "Fortran", "step", "reversed"])
def test_arrays_in_another_order_of_memory(folder, array):
    class Holder(fb.Callback):
        kept = ("array",)
        array = np.zeros(0)

    first, second = Holder(), Holder()
    first.array = array
    cut_off(folder, 1, callbacks=[first])
    job(folder, callbacks=[second], resume=True)
    assert second.array.tolist() == array.tolist()


@pytest.mark.parametrize("array", [
    np.array(3.5), np.zeros((0, 3)), np.ones((2, 1, 3), "f2"), np.array([np.nan, -0.0]),
    np.array([1, 2], ">i4"), np.array([2**63], "u8"), np.float32(0.1), np.int8(3), np.bool_(True),
    2**70, float("-inf"), "\ud800", [1, [2.5, None]],
], ids=repr)
def test_what_a_checkpoint_holds(folder, array):
    class Holder(fb.Callback):
        kept = ("array",)
        array = None

    first, second = Holder(), Holder()
    first.array = array
    cut_off(folder, 1, callbacks=[first])
    job(folder, callbacks=[second], resume=True)
    np.testing.assert_equal(second.array, array)
    assert getattr(second.array, "shape", ()) == getattr(array, "shape", ())


def test_what_a_checkpoint_cannot_hold(folder):
    class Holder(fb.Callback):
        kept = ("thing",)
        thing = object()

    with pytest.raises(TypeError, match=r"^checkpoint: .*object"):
        job(folder, callbacks=[Holder()])


# One at a time


def test_a_folder_in_use_is_refused(folder):
    """In the same process, from another thread, and by a link; and free again afterwards."""
    errors = []

    def intrude():
        link = folder.parent / "link"
        link.symlink_to(folder)
        for place in (folder, link):
            with pytest.raises(RuntimeError, match=r"^checkpoint: another training is using"):
                job(place, resume=True)
            errors.append(place)

    def from_a_thread():
        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join()

    assert job(folder, cut=Cut(2, from_a_thread)) == job()
    assert len(errors) == 2
    cut_off(folder.parent / "other", 1)
    for _ in range(2):
        assert job(folder, resume=True) == job()


def test_a_folder_that_another_process_uses(folder):
    with script("hold", folder) as holder:
        assert holder.stdout.readline() == "holding\n"
        for resume in (True, False):
            with pytest.raises(RuntimeError, match=r"^checkpoint: another training is using"):
                job(folder, resume=resume)
        holder.kill()
        holder.wait()
    assert job(folder, resume=True) == job()


def test_of_many_that_start_at_once_one_gets_it(folder):
    assert run_script("rush", folder) == {"won": 1, "refused": 5, "whole": True}


@pytest.mark.parametrize("killed", [0, 1])
def test_children_that_live_on_do_not_hold_the_folder(folder, killed):
    """A worker that was forked in a callback, of a training that ended or was killed."""
    assert run_script("fork", folder, killed) == {"again": True}


# Killed


KILLS = int(os.environ.get("FASTBP_KILLS", "30"))  # for each kind, at the least


@pytest.mark.parametrize(("loss", "dtype"), [("engine", "float32"), ("layers", "float64")])
def test_killed_at_random_moments(folder, loss, dtype):
    """kill -9, with some Ctrl-C among them; the files are large, so that many are cut short."""
    found = run_script("kill", folder, loss, dtype, KILLS, random.randrange(10**6))
    assert found["kills"] >= KILLS
    assert found["same"] == found["ends"] >= 1
    assert found["most files"] <= 4, "two, a third before one goes, and what was not finished"


def test_whole_processes_killed_at_random_moments(folder):
    """Not forked, with two threads each, from the interpreter's start on."""
    expected, kills = run_script("train", "-"), 0
    while True:
        with script("train", folder) as child:
            time.sleep(random.uniform(0.2, 0.9))
            if child.poll() is None and kills < 4:
                child.kill()
                kills += 1
            else:
                out, _ = child.communicate(timeout=60)
                assert child.returncode == 0
                break
    assert json.loads(out) == expected


def test_killed_before_and_after_every_call_that_reaches_the_disk(folder):
    found = run_script("steps", folder)
    assert set(found["calls"]) == set(CALLS)
    assert found["kills"] == 2 * len(found["calls"]) >= 60
    assert found["wrong"] == []


# Writes that fail


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
            for module in (io, checkpoints):
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


@pytest.mark.parametrize("name", [
    name for name in CALLS if name != "makedirs"])
def test_a_call_that_fails_once(tmp_path, name):
    """Each of them in turn, with the rest of the training as it would have been."""
    whole = job(epochs=4)
    calls, begun = calls_of(tmp_path / "whole", epochs=4)
    assert calls.pop() == "close", "the lock's, after all else"
    places = [n for n, other in enumerate(calls) if other == name and n >= begun]
    assert len(places) >= 3
    for n in places:
        folder = tmp_path / str(n)
        found, messages, _ = wired(folder, Wire(n, disk_full), epochs=4)
        assert found == whole
        if name not in ("unlink", "listdir"):  # of an old one, which does no harm
            assert len(messages) == 1
            assert re.search(r"checkpoint after epoch \d was not written: .*No space.*goes on",
                             messages[0])
        assert not list(folder.glob("*.part"))
        assert job(folder, resume=True) == job()


def test_a_call_that_fails_before_it_begins(tmp_path):
    """Nothing to warn of yet: the error is raised, and nothing is lost."""
    calls, begun = calls_of(tmp_path / "whole", resume=True)
    for n in range(begun):
        folder = tmp_path / str(n)
        cut_off(folder, 3)
        (folder / (NAME % 3 + ".0123abcd.part")).touch()
        found, messages, _ = wired(folder, Wire(n, disk_full), resume=True)
        assert isinstance(found, OSError) or (found == job() and messages)
        assert job(folder, resume=True) == job()
    assert {"listdir", "makedirs", "open"} <= set(calls[:begun])


@pytest.mark.parametrize("name", ["open", "write", "flush", "fsync", "replace", "unlink"])
def test_calls_that_fail_from_some_moment_on(tmp_path, name):
    whole = job(kind="all")
    calls, begun = calls_of(tmp_path / "whole", kind="all")
    for n in (begun, (begun + len(calls)) // 2):
        folder = tmp_path / str(n)
        wire = Wire(n, disk_full, where=lambda i, n, other: i >= n and other == name)
        found, messages, _ = wired(folder, wire, kind="all")
        assert found == whole
        assert len(messages) >= 2 or name == "unlink"
        assert job(folder, "all", resume=True) == whole


def test_a_warning_made_an_error_ends_it_and_nothing_is_lost(folder):
    calls, begun = calls_of(folder.parent / "whole")
    n = [n for n, name in enumerate(calls) if name == "fsync" and n >= begun][4]
    wire = Wire(n, disk_full)
    with wire.laid(), pytest.raises(RuntimeWarning, match="was not written"):
        job(folder)
    assert epochs_in(folder) == [2, 3]
    assert job(folder, resume=True) == job()


NAMESPACE = ["unshare", "--mount", *(["--user", "--map-root-user"] if os.geteuid() else [])]
MOUNT = 'mount -t tmpfs -o size=160k none "$0" && exec "$@"'


@functools.cache
def may_mount():
    command = [*NAMESPACE, "sh", "-c", MOUNT, "/mnt", "true"]
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def test_a_full_disk(tmp_path):
    if not may_mount():
        pytest.skip("a small tmpfs cannot be mounted here: " + " ".join(NAMESPACE))
    command = [*NAMESPACE, "sh", "-c", MOUNT, tmp_path, sys.executable, __file__, "full", tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
    check_full(json.loads(result.stdout), "No space left")


def test_a_file_that_may_not_grow(tmp_path):
    """As a full disk, where nobody may mount one: the kernel writes a part of it and refuses."""
    check_full(run_script("limit", tmp_path), "File too large")


def check_full(found, message):
    """Full for some epochs; left while full; gone on with while full, and when it no longer is."""
    assert found["same"] == [True] * 3
    assert all(message in warning for warning in found["warnings"])
    epochs = [int(warning.split("epoch ")[1].split()[0]) for warning in found["warnings"]]
    assert epochs == [3, 4, 5, 3, 4, 3, 4, 5, 6, 7]
    assert found["files"] == [[6, 7], [1, 2], [1, 2], [6, 7]]


# Damage


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """A folder of two checkpoints, whose training is not at its end, and what becomes of it."""
    folder = tmp_path_factory.mktemp("two") / "run"
    cut_off(folder, 4, kind="early stopping", optimizer=fb.Adam(0.02))
    assert epochs_in(folder) == [3, 4]
    return folder, job(kind="early stopping", optimizer=fb.Adam(0.02))


def damaged(two, tmp_path, content, both=False):
    """What becomes of a training whose newest checkpoint has this content."""
    source, whole = two
    folder = tmp_path / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, folder)
    for epoch in (3, 4) if both else (4,):
        (folder / (NAME % epoch)).write_bytes(content)

    def go_on():
        return job(folder, "early stopping", resume=True, optimizer=fb.Adam(0.02))

    if both:
        with pytest.warns(RuntimeWarning, match="passed over"), \
                pytest.raises(ValueError, match=r"^checkpoint: none of the 2 .* is whole"):
            go_on()
        return
    with pytest.warns(RuntimeWarning, match=r"checkpoint-0{7}4\.fastbp is passed over: ") as caught:
        assert go_on() == whole
    assert len(caught) == 1


def newest(two):
    return (two[0] / (NAME % 4)).read_bytes()


def test_truncated(two, tmp_path):
    whole = newest(two)
    head = len(checkpoints.HEAD)
    body = head + 65 + 8 + int.from_bytes(whole[head + 65 :][:8], "little")
    places = {0, 1, head - 1, head, head + 1, head + 64, head + 65, head + 66, head + 73, head + 90,
              body - 1, body, body + 1, (body + len(whole)) // 2, len(whole) - 4, len(whole) - 1}
    for place in places:
        damaged(two, tmp_path, whole[:place])
    damaged(two, tmp_path, whole + b"\0")
    damaged(two, tmp_path, whole[: len(whole) // 2], both=True)


def test_flipped_bits(two, tmp_path):
    whole = newest(two)
    offsets = [*range(0, 110, 7), *random.Random().sample(range(110, len(whole)), 40)]
    for offset in offsets:
        content = bytearray(whole)
        content[offset] ^= 1 << random.randrange(8)
        damaged(two, tmp_path, content)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("content", [
    b"", b"\0" * 5000, b"hello\n" * 100, checkpoints.HEAD, b"fastbp checkpoint 2\n" + b"x" * 200,
    checkpoints.HEAD + hashlib.sha256(b"").hexdigest().encode() + b"\n",
    checkpoints.HEAD + b"\n" + bytes(200), os.urandom(4000), "model", "older",
], ids=["empty", "zeros", "text", "head", "version 2", "hash of nothing", "no hash", "noise",
        "model", "older"])
def test_files_of_other_kinds(two, tmp_path, content, both):
    if content == "model":
        fb.mlp([6, 8, 3]).save(tmp_path / "model")
        content = (tmp_path / "model").read_bytes()
    if content == "older":  # its content is not what its checksum is of
        content = newest(two)[:85] + (two[0] / (NAME % 3)).read_bytes()[85:]
    damaged(two, tmp_path, content, both)


def test_a_folder_in_the_place_of_a_file(folder):
    cut_off(folder, 3)
    (folder / (NAME % 9)).mkdir()
    with pytest.warns(RuntimeWarning, match="passed over"):
        assert job(folder, resume=True, epochs=8) == job(epochs=8)


def test_what_a_killed_training_left_unfinished_is_removed(folder):
    cut_off(folder, 3)
    for name in (NAME % 4 + ".0123abcd.part", "x.part", "lock"):
        (folder / name).write_bytes(b"half")
    assert job(folder, resume=True) == job()
    assert sorted(os.listdir(folder)) == [".fastbp-lock", NAME % 6, NAME % 7, "lock", "x.part"]
    assert (folder / "lock").read_bytes() == b"half", "other people's files are left alone"
    with pytest.raises(FileExistsError):
        job(folder)


def signed(content):
    """A file whose checksum is right, whatever it holds."""
    return checkpoints.HEAD + hashlib.sha256(content).hexdigest().encode() + b"\n" + content


@pytest.mark.parametrize("content", [
    b"", b"\0" * 8, b"\xff" * 200, b"\2" + bytes(7) + b"{}", save({"a": np.ones(3)}),
    save({}, {"fastbp": "{"}), save({}, {"fastbp": "[" * 5000}), save({}, {"other": "{}"}),
])
def test_signed_files_of_other_kinds(two, tmp_path, content):
    damaged(two, tmp_path, signed(content))


def mutations(state, rng):
    """Descriptions that differ from this one in one place."""
    values = [None, [], {}, -1, 1e999, "", "x", 10**30, True, [[[]]], {"a": 1}]
    for key in state:
        yield {name: value for name, value in state.items() if name != key}
        for value in rng.sample(values, 5):
            yield state | {key: value}
        if isinstance(state[key], dict):
            for inner in mutations(state[key], rng):
                yield state | {key: inner}
    yield from values


def test_signed_files_that_somebody_made(two, tmp_path):
    """The checksum is right and the content is not: an error, or the training it says."""
    content = newest(two)[85:]
    arrays = load(content)
    length = int.from_bytes(content[:8], "little")
    state = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["fastbp"])
    kinds = Counter()
    cases = [(arrays, mutated) for mutated in mutations(state, random.Random(3))]
    for name, array in arrays.items():
        others = [array[:-1], array[:1], array.astype("f2"), array[None], array * np.nan]
        cases += [(arrays | {name: other}, state) for other in others]
        cases.append(({key: other for key, other in arrays.items() if key != name}, state))
    folder = tmp_path / "signed"
    folder.mkdir()
    for arrays, mutated in cases:
        file = folder / (NAME % 4)
        file.write_bytes(signed(save(arrays, {"fastbp": json.dumps(mutated)})))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                job(folder, "early stopping", resume=True, optimizer=fb.Adam(0.02))
            kinds["went on"] += 1
        except Exception as error:
            kinds[type(error).__name__] += 1
        shutil.rmtree(folder)
        folder.mkdir()
    # Weights or rates that somebody has put there may make the training itself fail.
    assert set(kinds) <= {"went on", "ValueError", "FloatingPointError", "TypeError",
                          "OverflowError"}, kinds
    assert kinds["ValueError"] > 100


# Whole files that do not fit


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


class Careful(Halving):
    """Looks at what it is given."""

    def check_kept(self, values, network):
        for name, kind in {"count": int, "mood": str, "nothing": type(None)}.items():
            if type(values[name]) is not kind:
                raise TypeError(f"{name}: expected {kind.__name__}, got {values[name]!r}")
        if not 0 <= values["count"] < 10**6:
            raise ValueError(f"count: expected less, got {values['count']}")
        for name, dtype, shape in (("trace", "f8", (3,)), ("seen", "i2", (2, 3)),
                                   ("bits", "?", (2,))):
            array = values[name]
            if not (isinstance(array, np.ndarray) and array.dtype == dtype
                    and array.shape == shape):
                raise TypeError(f"{name}: expected an array like the first one, got {array!r}")


def everything(**changes):
    """A training with all that a checkpoint may hold."""
    return {"kind": "all", "batch_size": 16, "callbacks": [
        Plateau(1, tol=0.2, factor=0.5, keep_best=True), fb.EarlyStopping(9), Careful()]} | changes


@pytest.fixture(scope="module")
def whole_one(tmp_path_factory):
    """A file, its state and its arrays; after four epochs of more."""
    folder = tmp_path_factory.mktemp("one") / "run"
    cut_off(folder, 4, **everything())
    file = folder / (NAME % 4)
    return file, *parts(file.read_bytes())


def snapshot(net, options):
    """All that a fit may change, as text."""
    optimizer = options["optimizer"]
    return repr((
        net.parameters.tobytes(), net.gradients.tobytes(), net._entropy, net._reseeded,
        net.history, [(layer.key, layer.step) for layer in net.layers],
        sorted((name, value) for name, value in vars(optimizer).items() if name != "_claim"),
        [sorted(vars(callback).items()) for callback in options["callbacks"]
         if isinstance(callback, fb.Callback)],
    ))


def go_on_with(folder, content, kinds, case):
    """Whatever the file says, the training goes on, or says why not and has changed nothing."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / (NAME % 4)).write_bytes(content)
    net, options = start(**everything())
    data, before = options.pop("X"), snapshot(net, options)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net.fit(data, Y, checkpoint=folder, resume=True, **options)
        kinds["went on"] += 1
    except FloatingPointError:  # with the weights or the rate that somebody has put there
        kinds["diverged"] += 1
    except (ValueError, TypeError) as error:
        assert re.match(r"(checkpoint|resume): ", str(error)), (case, error)
        assert len(str(error)) < 10_000, case
        if "none of" not in str(error) and "resume: " not in str(error):
            assert str(folder / (NAME % 4)) in str(error), (case, error)
        assert snapshot(net, options) == before, (case, error)
        kinds["refused"] += 1
    except Exception as error:
        raise AssertionError(f"{case}: {error!r}") from error
    assert os.listdir(folder).count(NAME % 4) <= 1


VALUES = [None, [], {}, -1, 0, 2**62, 10**300, 1.5, -0.5, float("inf"), float("nan"), "", "x", True,
          [0], [1, 2], [[[]]], {"a": 1}]


def places(value, place=()):
    """All places in a tree of lists and dicts; of a long list the ends."""
    if place:
        yield place
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*place, key))
    elif isinstance(value, list):
        for i in sorted({0, len(value) // 2, len(value) - 1} & set(range(len(value)))):
            yield from places(value[i], (*place, i))


def changed(tree, place, change):
    """A copy of a tree, with another value in this place; None removes it."""
    tree = json.loads(json.dumps(tree))
    at = tree
    for key in place[:-1]:
        at = at[key]
    change(at, place[-1])
    return tree


def removed(at, key):
    del at[key]


def other(value):
    def change(at, key):
        at[key] = value

    return change


def longer(at, key):
    at[key] = [*at[key], *(at[key][-1:] or [0])] if isinstance(at[key], list) else [at[key]]


def other_arrays(array):
    return [array[:-1], array[:1], array[:0], array.reshape(-1)[:1][0:1], array[None],
            np.concatenate([array, array]), array.astype("f2"), array.astype("f8"),
            array.astype("f4"), array.astype("i8"), array.astype("?"), array * np.nan]


def test_a_forged_file_changes_nothing_or_is_gone_on_from(whole_one, folder):
    """Each value of a real file in turn is removed, or becomes one of many others."""
    _, state, arrays = whole_one
    rng, kinds = random.Random(5), Counter()
    go_on_with(folder, forged(state, arrays), kinds, "as it was")
    assert kinds == {"went on": 1}
    for place in places(state):
        if place[0] == "fit" and len(place) > 1:
            changes = [removed, other(rng.choice(VALUES))]
        else:
            several = VALUES if len(place) == 1 else rng.sample(VALUES, 5)
            changes = [removed, longer, *map(other, several)]
        for change in changes:
            tree = changed(state, place, change)
            go_on_with(folder, forged(tree, arrays), kinds, (place, tree.get(place[0])))
    for name, array in arrays.items():
        for another in other_arrays(array):
            go_on_with(folder, forged(state, arrays | {name: another}), kinds, (name, another))
        go_on_with(folder, forged(state, {key: arrays[key] for key in arrays if key != name}),
                   kinds, name)
    for more in ("callbacks.0.best", "callbacks.9.x", "optimizer.m", "x"):
        go_on_with(folder, forged(state, arrays | {more: np.ones(3)}), kinds, more)
    assert kinds["refused"] > 500, kinds
    assert kinds["went on"] > 50, kinds


def test_files_forged_at_random(whole_one, folder):
    """Several values at once."""
    _, state, arrays = whole_one
    rng, kinds = random.Random(), Counter()
    for _ in range(150):
        tree, some = state, dict(arrays)
        for _ in range(rng.randint(1, 3)):
            here = [place for place in places(tree) if place[0] != "fit"]
            change = rng.choice([removed, longer, other(rng.choice(VALUES))])
            tree = changed(tree, rng.choice(here), change)
        if rng.random() < 0.3:
            name = rng.choice(list(some))
            some[name] = rng.choice(other_arrays(some[name]))
        go_on_with(folder, forged(tree, some), kinds, tree)
    assert kinds["refused"] > 20


@pytest.mark.parametrize(("place", "value", "message"), [
    (("entropy",), -1, "entropy: expected a whole number of at least 0, got -1"),
    (("entropy",), 1.0, "entropy: "), (("reseeded",), -1, "reseeded: "),
    (("reseeded",), True, "reseeded: "), (("steps",), -1, "steps: expected a whole number"),
    (("steps",), 2**62, "steps: "), (("steps",), False, "steps: "), (("steps",), 3.0, "steps: "),
    (("learning_rate",), "0.1", "learning_rate: "), (("learning_rate",), -0.1, "learning_rate: "),
    (("learning_rate",), float("nan"), "learning_rate: expected a finite number"),
    (("layer_steps",), [0], "layer_steps: expected a list of length 4, got "),
    (("layer_steps", 2), -1, r"layer_steps\[2\]: "), (("stopped",), 5, "stopped: "),
    (("batch_size",), 0, "batch_size: "), (("batch_size",), 2.5, "batch_size: "),
    (("l2",), -1.0, "l2: "), (("l2",), float("inf"), "l2: "), (("l2",), None, "l2: "),
    (("rng",), {}, "rng: "), (("rng", "state", "state"), -1, "rng: "),
    (("rng", "state", "inc"), 2**200, "rng: "), (("rng", "bit_generator"), "MT19937", "rng: "),
    (("history",), [], "history: "), (("history", "loss"), [0.5], r"history\['loss'\]: .*length 4"),
    (("history", "val_loss", 1), "x", r"history\['val_loss'\]\[1\]: expected a number, got 'x'"),
    (("history", "seconds", 3), True, r"history\['seconds'\]\[3\]: expected a number"),
    (("history", "gradient_norms", 0), [1.0], r"history\['gradient_norms'\]\[0\]: .*length 2"),
    (("history", "gradient_norms", 0), 1.0, r"history\['gradient_norms'\]\[0\]: "),
    (("history", "mine"), 3, r"history\['mine'\]: expected a list"),
    (("callbacks",), [], "callbacks: expected a list of length 4"),
    (("callbacks", 0), None, r"callback 0 \(Plateau\): "),
    (("callbacks", 0), {"best": 1.0}, r"callback 0 \(Plateau\): the names of its values: "),
    (("callbacks", 0, "best"), "low", r"callback 0 \(Plateau\): best: expected a number"),
    (("callbacks", 0, "best"), 10**4000, r"callback 0 \(Plateau\): "),
    (("callbacks", 0, "count"), -1, r"callback 0 \(Plateau\): count: "),
    (("callbacks", 1, "best"), None, r"callback 1 \(EarlyStopping\): best: "),
    (("callbacks", 1, "best_epoch"), 1.5, r"callback 1 \(EarlyStopping\): best_epoch: "),
    (("callbacks", 1, "_best_parameters"), [1.0], r"_best_parameters: expected None beside"),
    (("callbacks", 2, "count"), "x", r"callback 2 \(Careful\): count: expected int"),
    (("arrays",), [], "the names of its arrays: "),
], ids=lambda value: str(value)[:40])
def test_what_is_said_of_a_forged_value(whole_one, folder, place, value, message):
    file, state, arrays = whole_one
    folder.mkdir()
    (folder / file.name).write_bytes(forged(changed(state, place, other(value)), arrays))
    with pytest.raises(ValueError, match=rf"^checkpoint: .*4\.fastbp' .*: {message}.*remove it"):
        job(folder, resume=True, **everything())


@pytest.mark.parametrize("name", [
    "parameters", "optimizer.velocity", "callbacks.0._best_parameters",
    "callbacks.1._best_parameters"])
@pytest.mark.parametrize("change", [lambda a: a[:1], lambda a: a[None], lambda a: a.astype("f8")],
                         ids=["one number", "shape", "dtype"])
def test_arrays_that_do_not_fit(whole_one, folder, name, change):
    file, state, arrays = whole_one
    folder.mkdir()
    (folder / file.name).write_bytes(forged(state, arrays | {name: change(arrays[name])}))
    last = name.split(".")[-1]
    with pytest.raises(ValueError, match=rf"^checkpoint: .*{last}: expected a numpy.ndarray"):
        job(folder, resume=True, **everything())


def test_deep_values_are_refused_in_words(whole_one, folder):
    """Where there is just enough stack to read them, and not to say what they were."""
    file, state, arrays = whole_one
    for depth in (50, 200, *range(880, 1000, 20)):
        for place in (("steps",), ("history", "loss"), ("callbacks", 0, "count"), ("entropy",),
                      ("callbacks", 1, "best_epoch"), ("fit", "seed"), ("history", "mine", 0)):
            text = json.dumps(changed(state, place, other("DEEP")))
            text = text.replace('"DEEP"', "[" * depth + "]" * depth)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / file.name).write_bytes(signed(save(arrays, {"fastbp": text})))
            with warnings.catch_warnings(), contextlib.suppress(ValueError):
                warnings.simplefilter("ignore")
                job(folder, resume=True, **everything())


def test_rows_of_different_lengths_in_ones_own_column(folder):
    def record(training):
        rows = [np.ones(2), np.ones(3)]
        training.history.append(ragged=rows, words={"a": [1, "b"]}, nothing=None)

    cut_off(folder, 2, callbacks=[record])
    net, options = start(callbacks=[record])
    data = options.pop("X")
    history = net.fit(data, Y, checkpoint=folder, resume=True, **options)
    assert history["ragged"][0] == [[1, 1], [1, 1, 1]]
    assert history["words"] == [{"a": [1, "b"]}] * EPOCHS
    assert history["nothing"] == [None] * EPOCHS


def test_values_that_change_on_the_way(folder):
    """A callback may set batch_size and l2; a training goes on with what it had."""
    class Turn(fb.Callback):
        def __init__(self, seen):
            self.seen = seen

        def on_epoch_begin(self, training):
            self.seen.append((training.epoch, training.batch_size, training.l2))

        def on_epoch_end(self, training):
            if training.epoch == 1:
                training.batch_size, training.l2 = np.int64(10), np.float64(0.25)

    whole, seen = job(callbacks=[Turn([])]), []
    cut_off(folder, 4, callbacks=[Turn([])])
    assert job(folder, resume=True, callbacks=[Turn(seen)]) == whole
    assert seen == [(epoch, 10, 0.25) for epoch in (4, 5, 6)]


@pytest.mark.parametrize("name", ["weight_decay", "clip_norm", "momentum", "no momentum", "rate",
                                  "alpha"])
@pytest.mark.parametrize("path", ["engine", "layers"])
def test_settings_that_change_on_the_way(folder, name, path, monkeypatch):
    if path == "layers":
        monkeypatch.setattr(loop, "new_steps", reference.new_steps)

    def change(training):
        if training.epoch == 1:
            optimizer, layers = training.optimizer, training.network.layers
            optimizer.weight_decay = 0.1 if name == "weight_decay" else 0.0
            optimizer.clip_norm = 0.01 if name == "clip_norm" else None
            optimizer.momentum = {"momentum": 0.5, "no momentum": 0.0}.get(name, 0.9)
            layers[1].rate = 0.6 if name == "rate" else 0.2
            layers[2].alpha = 0.5 if name == "alpha" else 0.1

    def train(epochs, **options):
        net = fb.Sequential([fb.Dense(4, 6), fb.Dropout(0.2), fb.ELU(0.1), fb.Dense(6, 3)], seed=0)
        X = np.random.default_rng(0).normal(size=(40, 4))
        net.fit(X, np.arange(40) % 3, loss=fb.SoftmaxCrossEntropy(), epochs=epochs, batch_size=8,
                optimizer=fb.SGD(0.1, 0.9), callbacks=[change], **options)
        return net.parameters.tobytes()

    whole = train(6)
    train(4, checkpoint=folder)
    assert train(6, checkpoint=folder, resume=True) == whole


def test_checkpoints_of_an_older_version(folder):
    """They lack what came later, and are gone on from all the same."""
    whole = job(kind="all")
    cut_off(folder, 2, kind="all")

    def older(state, arrays):
        del state["batch_size"], state["l2"], state["arrays"], state["settings"]
        for name in [name for name in state["fit"] if name.startswith("contents of")]:
            del state["fit"][name]
        state["fit"] |= {"checksum of X": 5, "checksum of y": 6, "sample_weight": 7}

    rewrite(folder, older)
    assert job(folder, "all", resume=True) == whole


# What is in the way


@contextlib.contextmanager
def within(seconds):
    """An error from whatever waits for longer than this."""
    def late(*arguments):
        raise AssertionError("it took too long")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


needs_pipes = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")


@needs_pipes
@pytest.mark.parametrize("with_ends", [False, True], ids=["alone", "with a reader and a writer"])
def test_a_pipe_in_the_place_of_the_lock(folder, with_ends):
    folder.mkdir()
    os.mkfifo(folder / ".fastbp-lock")
    ends = os.open(folder / ".fastbp-lock", os.O_RDWR) if with_ends else None
    with within(5), pytest.raises(ValueError, match=r"^checkpoint: .*lock file.*remove it"):
        job(folder)
    assert os.listdir(folder) == [".fastbp-lock"]
    if with_ends:
        os.close(ends)


def test_a_folder_in_the_place_of_the_lock(folder):
    (folder / ".fastbp-lock").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"^checkpoint: .*lock file.*remove it"):
        job(folder)


@needs_pipes
@pytest.mark.parametrize("with_ends", [False, True], ids=["alone", "with a reader and a writer"])
def test_a_pipe_in_the_place_of_a_file(folder, with_ends):
    cut_off(folder, 3)
    os.mkfifo(folder / (NAME % 9))
    ends = os.open(folder / (NAME % 9), os.O_RDWR) if with_ends else None
    with within(20), pytest.warns(RuntimeWarning, match=r"0009\.fastbp is passed over: .*pipe"):
        assert job(folder, resume=True, epochs=8) == job(epochs=8)
    assert epochs_in(folder) == [7, 8, 9], "and the last two are there besides"
    if with_ends:
        os.close(ends)


@needs_pipes
def test_a_pipe_where_a_file_has_to_be_written(folder):
    """As on a full disk: a warning, and the training goes on; nobody's pipe is removed."""
    folder.mkdir()
    cut_off(folder, 2)
    for name in (NAME % 4, NAME % 5 + ".0123abcd.part"):
        os.mkfifo(folder / name)
    with within(20), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert job(folder, resume=True) == job()
    assert [re.search("passed over|not written", str(warning.message))[0] for warning in caught] \
        == ["passed over", "not written"]
    assert sorted(os.listdir(folder)) == [
        ".fastbp-lock", NAME % 4, NAME % 5 + ".0123abcd.part", NAME % 6, NAME % 7]


def test_damaged_files_of_later_epochs_do_not_count_as_the_last_two(folder):
    cut_off(folder, 3)
    for epoch in (50, 60):
        (folder / (NAME % epoch)).write_bytes(b"")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert job(folder, resume=True) == job()
    assert epochs_in(folder) == [6, 7, 50, 60]


def test_only_what_was_left_unfinished_is_removed(folder, monkeypatch):
    cut_off(folder, 2)
    before = set(os.listdir(folder))
    with monkeypatch.context() as patch:  # as a process that is killed leaves it
        patch.setattr(os, "unlink", lambda path: None)
        patch.setattr(os, "replace", lambda *paths: disk_full())
        for name in (NAME % 3, "checkpoint-123456789.fastbp"):
            with pytest.raises(OSError, match="No space"):
                io.replace_file(folder / name, b"half")
    left = set(os.listdir(folder)) - before
    assert len(left) == 2
    others = [
        "model.0123abcd.part", NAME % 3 + ".0123ABCD.part", NAME % 3 + ".0123abc.part",
        NAME % 3 + ".0123abcd.part.bak", "my " + NAME % 3 + ".0123abcd.part",
        "checkpoint-0000003.fastbp.0123abcd.part", "checkpoint-000000003.fastbp.0123abcd.part",
        "checkpoint-0000000٣.fastbp.0123abcd.part",
        NAME % 3 + ".0123abcd.part\n",
    ]
    for name in others:
        (folder / name).write_bytes(b"mine")
    (folder / (NAME % 4 + ".0123abcd.part")).mkdir()
    (folder / (NAME % 5 + ".0123abcd.part")).symlink_to(folder / others[0])
    (folder / (NAME % 6 + ".0123abcd.part")).write_bytes(b"of an older version")
    assert job(folder, resume=True) == job()
    assert set(os.listdir(folder)) == {
        ".fastbp-lock", NAME % 6, NAME % 7, *others, NAME % 4 + ".0123abcd.part",
        NAME % 5 + ".0123abcd.part"}


def test_a_link_to_nothing_in_the_place_of_the_folder(folder):
    folder.symlink_to(folder.parent / "nothing")
    with pytest.raises(NotADirectoryError, match=r"^checkpoint: .*a link to nothing at .*run"):
        job(folder)
    assert os.listdir(folder.parent) == ["run"]


@pytest.mark.parametrize("bad", ["a\0b", Path("run\0"), "\0"])
def test_a_folder_whose_name_no_system_takes(tmp_path, monkeypatch, bad):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"^checkpoint: .*NUL"):
        job(bad)
    assert os.listdir() == []


# Signals that raise


def too_late():
    raise TimeoutError


def test_an_error_from_a_signal_handler_is_not_ignored(tmp_path):
    """Wherever it strikes; a TimeoutError is an OSError, but not one of the disk's."""
    calls, _ = calls_of(tmp_path / "whole", epochs=3)
    assert calls.pop() == "close", "the lock's, after all else"
    for n in range(len(calls)):
        folder = tmp_path / str(n)
        found, messages, _ = wired(folder, Wire(n, too_late), epochs=3)
        assert (type(found), messages) == (TimeoutError, []), calls[n]
        assert not list(folder.glob("*.part")) or calls[n] in ("unlink", "close")
        assert job(folder, resume=True, epochs=3) == job(epochs=3)


def test_nor_where_checkpoints_are_read(tmp_path):
    cut_off(tmp_path / "whole", 3)
    reading, begun = calls_of(shutil.copytree(tmp_path / "whole", tmp_path / "copy"), resume=True)
    for n in range(begun):
        folder = shutil.copytree(tmp_path / "whole", tmp_path / str(n))
        found, messages, _ = wired(folder, Wire(n, too_late), resume=True)
        assert (type(found), messages) == (TimeoutError, []), reading[n]
        assert job(folder, resume=True) == job()
    assert reading[:begun].count("open") == 2, "the lock and a checkpoint"


def test_nor_while_a_failed_write_is_cleaned_up(folder):
    def late(i, n, name):
        return i == n or (i > n and name == "unlink")

    calls, begun = calls_of(folder.parent / "whole")
    n = [n for n, name in enumerate(calls) if name == "fsync" and n >= begun][1]
    wire = Wire(n, lambda: (too_late if wire.calls[-1] == "unlink" else disk_full)(), where=late)
    found, messages, _ = wired(folder, wire)
    assert (type(found), messages) == (TimeoutError, [])


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="no alarms here")
def test_an_alarm(folder):
    """A real signal, in the middle of writing."""
    def ring(*arguments):
        raise TimeoutError("that is enough")

    before = signal.signal(signal.SIGALRM, ring)
    try:
        calls, begun = calls_of(folder.parent / "whole")
        n = [n for n, name in enumerate(calls) if name == "write" and n >= begun][2]
        with Wire(n, lambda: signal.raise_signal(signal.SIGALRM)).laid(), \
                pytest.raises(TimeoutError, match="enough"):
            job(folder)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert job(folder, resume=True) == job()


# Other data


def large(**changes):
    """A fit of many rows, from the making of the network on."""
    rng = np.random.default_rng(3)
    data = {"X": rng.normal(size=(5000, 6)), "y": np.arange(5000) % 3,
            "sample_weight": rng.random(5000), "X_val": rng.normal(size=(3000, 6)),
            "y_val": np.arange(3000) % 3, "weights_val": rng.random(3000)}
    for name, change in changes.items():
        data[name] = change(data[name])
    return data


def fit_large(folder, resume=False, epochs=1, **changes):
    data = large(**changes)
    aside = data.pop("X_val"), data.pop("y_val"), data.pop("weights_val")
    net = fb.mlp([6, 3], seed=0)
    net.fit(**data, validation_data=aside, loss=fb.SoftmaxCrossEntropy(), epochs=epochs,
            batch_size=500, checkpoint=folder, resume=resume)
    return net.parameters.tobytes()


def half_zeroed(array):
    array = array.copy()
    array[1::2] = 0
    return array


def last_changed(array):
    array = array.copy()
    array[-2:] = array[-2:][::-1]
    return array


def one_changed(array):
    array = array.copy()
    array[(1237, 3)[: array.ndim]] = 2
    return array


@pytest.mark.parametrize("change", [half_zeroed, last_changed, one_changed])
@pytest.mark.parametrize("name", ["X", "y", "sample_weight", "X_val", "y_val", "weights_val"])
def test_data_that_are_not_the_same(folder, name, change):
    fit_large(folder)
    what = {"X_val": "validation_data X", "y_val": "validation_data y",
            "weights_val": "validation_data sample_weight"}.get(name, name)
    with pytest.raises(ValueError, match=rf"^resume: .*contents of {what} are not the same"):
        fit_large(folder, resume=True, epochs=2, **{name: change})
    assert fit_large(folder, resume=True, epochs=2) == fit_large(None, epochs=2)


def test_sparse_data_that_are_not_the_same(folder):
    dense = np.where(RNG.random((5000, 6)) < 0.3, RNG.normal(size=(5000, 6)), 0)
    places = scipy.sparse.csr_array(dense)
    other_number, other_place = places.copy(), np.roll(dense, 1, axis=1)
    other_number.data[2500] += 1
    other_rows = dense.copy()
    other_rows[[10, 11]] = dense[[11, 10]]
    fit_it = functools.partial(
        fb.mlp([6, 3], seed=0).fit, y=np.arange(5000) % 3, loss=fb.SoftmaxCrossEntropy(),
        batch_size=500, checkpoint=folder)
    fit_it(places, epochs=1)
    for another in (other_number, scipy.sparse.csr_array(other_place),
                    scipy.sparse.csr_array(other_rows)):
        with pytest.raises(ValueError, match=r"^resume: .*contents of X are not the same"):
            fit_it(another, epochs=2, resume=True)
    wide = places.copy()
    wide.indices, wide.indptr = wide.indices.astype("i8"), wide.indptr.astype("i8")
    for same in (scipy.sparse.coo_array(dense), scipy.sparse.csc_array(dense), wide):
        fit_it(same, epochs=2, resume=True)


def test_the_checksum_does_not_depend_on_memory(tmp_path):
    rng = np.random.default_rng(0)
    for shape in ((3000, 17), (1, 40_000), (40_000, 1), (5, 30_001), (7,), (70_000,)):
        for dtype in ("f4", "f8", "f2", "u1", "i4", "?"):
            array = (rng.normal(size=shape) * 9).astype(dtype)
            sums = {checkpoints.checksum(array), checkpoints.checksum(np.asfortranarray(array))}
            holder = np.zeros(tuple(3 * n for n in shape), dtype)
            strided = holder[tuple(slice(0, None, 3) for _ in shape)]
            strided[...] = array
            mapped = np.memmap(tmp_path / "mapped", dtype, "w+", offset=3, shape=shape)
            mapped[...] = array
            backwards = array[::-1].copy()[::-1]
            swapped = array.astype(array.dtype.newbyteorder(">"))
            for same in (strided, mapped, backwards, swapped, array.copy()):
                sums.add(checkpoints.checksum(same))
            assert len(sums) == 1, (shape, dtype)
    array = np.arange(70).reshape(7, 10)
    others = {checkpoints.checksum(each) for each in
              (array, array.reshape(-1, 7), array.T, array.astype("u1"), array.ravel())}
    assert len(others) == 5


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_the_checksum_sees_every_change(dtype):
    """Above all of signs, which are the top bits of words: two of them must not cancel out."""
    X = np.random.default_rng(0).normal(size=(700, 64)).astype(dtype)
    others = [X, -X, np.roll(X, 1, axis=0), np.roll(X, 1, axis=1), X[::-1], X[:, ::-1], np.abs(X)]
    for stride in (1, 2, 3, 64, 128):
        flipped = X.copy()
        flipped.reshape(-1)[::stride] *= -1
        if stride > 1:
            others.append(flipped)
    for a, b in ((0, 1), (0, 2), (1, 3), (0, 64), (5, 6), (640, 641), (0, 44_799)):
        for number in (-1, 2, 0):
            two = X.copy()
            two.reshape(-1)[[a, b]] *= number
            others.append(two)
        swapped = X.copy()
        swapped.reshape(-1)[[a, b]] = X.reshape(-1)[[b, a]]
        others.append(swapped)
    for place in range(0, X.size, 997):
        one = X.copy()
        one.reshape(-1)[place] = np.nextafter(one.reshape(-1)[place], 9)
        others.append(one)
    assert len({checkpoints.checksum(other) for other in others}) == len(others)


def test_the_checksum_copies_little():
    X = np.zeros((200_000, 30), order="F")
    tracemalloc.start()
    try:
        for array in (X, X[:, ::2], X.T, X.reshape(-1, order="F"),
                      X.reshape(1, -1, order="F")[:, ::2]):
            tracemalloc.reset_peak()
            checkpoints.checksum(array)
            few = 1.3 if len(array) > 40 else X.nbytes / 1e6  # a row at the most
            assert tracemalloc.get_traced_memory()[1] < few * 1e6
    finally:
        tracemalloc.stop()


# The processes


def script(*arguments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen([sys.executable, __file__, *map(str, arguments)], text=True,
                            stdout=subprocess.PIPE, env=environment)


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
    options["loss"] = Own if loss == "layers" else fb.SoftmaxCrossEntropy
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


def test_another_learning_rate_takes_the_place_of_the_checkpoints(folder):
    def fit(rate, epochs, **options):
        net = fb.mlp([4, 6, 3], seed=0)
        return net.fit(X[:, :4], Y % 3, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(rate),
                       epochs=epochs, seed=0, **options)["learning_rate"]

    X, Y = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30)
    fit(0.5, 2, checkpoint=folder)
    assert fit(0.5, 3, checkpoint=folder, resume=True) == [0.5] * 3
    assert fit(0.1, 4, checkpoint=folder, resume=True) == [0.5] * 3 + [0.1]
    last = fit(fb.schedules.Step(0.4, 5), 6, checkpoint=folder, resume=True)
    assert last == pytest.approx([0.5] * 3 + [0.1, 0.4, 0.04])


def test_other_rows_are_another_training(folder):
    net, X = fb.mlp([4, 6, 3], seed=0), np.random.default_rng(0).normal(size=(30, 4))
    settings = {"loss": fb.SoftmaxCrossEntropy(), "epochs": 2, "checkpoint": folder}
    net.fit(X, np.arange(30) % 3, **settings)
    with pytest.raises(ValueError, match=r"^resume: .* contents of X are not the same"):
        net.fit(X + 5, np.arange(30) % 3, resume=True, **settings)


@pytest.mark.parametrize("bad", ["", b"", True, 5, ["run"]])
def test_no_folder(bad):
    with pytest.raises(TypeError, match=r"^checkpoint: expected the path of a folder"):
        job(bad)


def test_a_file_in_the_place_of_the_folder(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(NotADirectoryError, match=r"^checkpoint: expected a folder, got the file"):
        job(tmp_path / "run")
