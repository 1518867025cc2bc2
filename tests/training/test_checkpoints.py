"""Checkpoints: a fit that was cut off, wherever it was, goes on and ends with the same bits."""

import contextlib
import functools
import json
import os
import random
import shutil
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb
from fastbp import training as loop
from fastbp.program import reference

from . import checkpoint_jobs
from .checkpoint_jobs import (
    CALLS,
    EPOCHS,
    KINDS,
    WEIGHTS,
    Cut,
    Halving,
    Own,
    Stop,
    X,
    Y,
    cut_off,
    epochs_in,
    job,
    outcome,
    rewrite,
    run_script,
    script,
    start,
    stop,
)

LOSSES = pytest.mark.parametrize("loss", [fb.SoftmaxCrossEntropy, Own],
                                 ids=["compiled", "in Python"])


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
@pytest.mark.parametrize("path", ["compiled", "interpreted"])
def test_settings_that_change_on_the_way(folder, name, path, monkeypatch):
    if path == "interpreted":
        monkeypatch.setattr(loop.run, "new_steps", reference.new_steps)

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
        monkeypatch.setattr(checkpoint_jobs, "Y", Y[:49])
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


# Killed


KILLS = int(os.environ.get("FASTBP_KILLS", "30"))  # for each kind, at the least


@pytest.mark.parametrize(("loss", "dtype"), [("compiled", "float32"), ("in Python", "float64")])
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
