"""Checkpoints that are damaged, forged, or something else."""

import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import warnings
from collections import Counter

import numpy as np
import pytest
from safetensors.numpy import load, save

import fastbp as fb
from fastbp.callbacks import Plateau
from fastbp.training import checkpoints

from .checkpoint_jobs import NAME, Halving, Y, cut_off, epochs_in, forged, job, parts, signed, start

pytestmark = pytest.mark.once

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
        with pytest.warns(RuntimeWarning, match="was skipped"), \
                pytest.raises(ValueError, match=r"^checkpoint: none of the 2 .* is intact"):
            go_on()
        return
    with pytest.warns(RuntimeWarning, match=r"checkpoint-0{7}4\.fastbp was skipped: ") as caught:
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
    with pytest.warns(RuntimeWarning, match="was skipped"):
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


class Checking(Halving):
    """Checks the values that a checkpoint gives it."""

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
        Plateau(1, tol=0.2, factor=0.5, keep_best=True), fb.EarlyStopping(9), Checking()]} | changes


@pytest.fixture(scope="module")
def whole_one(tmp_path_factory):
    """A file, its state and its arrays; after four epochs of more."""
    folder = tmp_path_factory.mktemp("one") / "run"
    cut_off(folder, 4, **everything())
    file = folder / (NAME % 4)
    return file, *parts(file.read_bytes())


def snapshot(net, options):
    """All that a fit may change, as text."""
    def attributes(it):
        return sorted((name, value) for name, value in vars(it).items() if name != "_training_lock")

    return repr((
        net.parameters.tobytes(), net.gradients.tobytes(), net._entropy, net._reseeded,
        net.history, [(layer.key, layer.step) for layer in net.layers],
        attributes(options["optimizer"]),
        [attributes(callback) for callback in options["callbacks"]
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
    (("callbacks", 0), {"best": 1.0}, r"callback 0 \(Plateau\): names of the values: "),
    (("callbacks", 0, "best"), "low", r"callback 0 \(Plateau\): best: expected a number"),
    (("callbacks", 0, "best"), 10**4000, r"callback 0 \(Plateau\): "),
    (("callbacks", 0, "count"), -1, r"callback 0 \(Plateau\): count: "),
    (("callbacks", 1, "best"), None, r"callback 1 \(EarlyStopping\): best: "),
    (("callbacks", 1, "best_epoch"), 1.5, r"callback 1 \(EarlyStopping\): best_epoch: "),
    (("callbacks", 1, "_best_parameters"), [1.0], r"_best_parameters: expected None, since there"),
    (("callbacks", 2, "count"), "x", r"callback 2 \(Checking\): count: expected int"),
    (("arrays",), [], "names of the arrays: "),
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
