"""Layers with running statistics, embeddings, and layers in layers: what a network does with
their arrays when it is copied, saved, changed, trained, cut off, and given bad codes."""

import copy
import json
import math
import pickle
import struct

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb
from fastbp import training
from fastbp.callbacks import Plateau
from fastbp.program import reference

from .cases import each

pytestmark = pytest.mark.once

RNG = np.random.default_rng(5)
X = np.c_[RNG.normal(size=(60, 3)), RNG.integers(0, 4, 60), RNG.integers(0, 7, 60)]
Y = (X[:, 0] > 0) + (X[:, 3] > 2).astype(int)
LOSS = fb.SoftmaxCrossEntropy()


def some_layers():
    """Every layer that has arrays, in containers of each kind."""
    return [
        fb.Columns([(slice(0, 3), fb.BatchNorm(3, 0.3, 1e-3)), (3, [fb.Embedding(4, 2)]),
                    ([4], [fb.Embedding(7, 3), fb.LayerNorm(3, 1e-4)]), ([0, 4], [])], n_in=5),
        fb.Residual([fb.BatchNorm(10), fb.Dense(10, 6), fb.PReLU(6, 0.1), fb.Dropout(0.2),
                     fb.Residual([fb.RMSNorm(6, 1e-4), fb.Tanh()]), fb.Dense(6, 10)]),
        fb.Sequential([fb.Dense(10, 8), fb.BatchNorm(8), fb.GELU()], seed=1),
        fb.Dense(8, 3),
    ]


def a_net(dtype="float32", seed=0):
    return fb.Sequential(some_layers(), dtype, seed)


def fit(net, X=X, Y=Y, **options):
    options = {"loss": LOSS, "epochs": 2, "batch_size": 16, "seed": 3} | options
    return net.fit(X, Y, **options)


@pytest.fixture
def trained(dtype):
    net = a_net(dtype)
    fit(net)
    assert np.isin(net.buffers, [0, 1]).sum() == 0, "the statistics have moved"
    return net


def same(net, other):
    assert repr(net) == repr(other)
    assert net.parameters.tobytes() == other.parameters.tobytes()
    assert net.buffers.tobytes() == other.buffers.tobytes()
    assert net.predict(X).tobytes() == other.predict(X).tobytes()


# Constructors


@each(("make", "error", "message"), [
    *[(lambda cls=cls, n=n: cls(n), error, f"^n: .*got {n}") for n, error in (
        (0, ValueError), (2.5, TypeError), (True, ValueError))
      for cls in (fb.LayerNorm, fb.RMSNorm, fb.BatchNorm, fb.PReLU)],
    *[(lambda cls=cls, value=value: cls(2, epsilon=value), error, "^epsilon: ")
      for value, error in ((0, ValueError), (-1, ValueError), (math.nan, ValueError),
        ("x", TypeError), (None, TypeError))
      for cls in (fb.LayerNorm, fb.RMSNorm, fb.BatchNorm)],
    (lambda: fb.BatchNorm(2, -0.1), ValueError, "^momentum: .*got -0.1"),
    (lambda: fb.BatchNorm(2, 1.1), ValueError, "^momentum: .*got 1.1"),
    (lambda: fb.BatchNorm(2, None), TypeError, "^momentum: .*got None"),
    (lambda: fb.PReLU(2, math.inf), ValueError, "^initial_slope: .*got inf"),
    (lambda: fb.Embedding(0, 2), ValueError, "^n_categories: .*got 0"),
    (lambda: fb.Embedding(2, 1.5), TypeError, "^n_out: .*got 1.5"),
    (lambda: fb.Embedding(2, 2, "he_normal"), ValueError, '^init: .*"normal".*he_normal'),
    (lambda: fb.Residual(fb.ReLU()), TypeError, r"^layers: .*ReLU\(\) alone"),
    (lambda: fb.Residual([]), ValueError, "^layers: .*at least one"),
    (lambda: fb.Residual([fb.ReLU]), TypeError, "^layers: .*class ReLU"),
    (lambda: fb.Residual(3), TypeError, "^layers: .*sequence of layers, got 3"),
    (lambda: fb.Residual([fb.Dense(2, 3)]), ValueError, "^layers: .*got 2 to 3"),
    (lambda: fb.Residual([fb.Dense(2, 3), fb.Dense(2, 2)]), ValueError, "layer 1 .*takes 2"),
    (lambda: fb.Residual([fb.Residual([each := fb.ReLU()]), each]), ValueError, "same object"),
    (lambda: fb.Columns([]), ValueError, "^parts: .*at least one"),
    (lambda: fb.Columns(3), TypeError, "^parts: .*pairs"),
    (lambda: fb.Columns([3]), TypeError, "^parts: .*pairs"),
    (lambda: fb.Columns([("a", [])]), TypeError, r"^parts\[0\]: a column"),
    (lambda: fb.Columns([(-1, [])]), ValueError, r"^parts\[0\]: a column: .*got -1"),
    (lambda: fb.Columns([(0, []), ([], [])]), ValueError, r"^parts\[1\]: .*at least one column"),
    (lambda: fb.Columns([(slice(1, None), [])]), ValueError, r"^parts\[0\]: .*a stop"),
    (lambda: fb.Columns([(slice(0, 4, 2), [])]), ValueError, r"^parts\[0\]: .*a stop"),
    (lambda: fb.Columns([(0, fb.ReLU)]), TypeError, r"^parts\[0\]: "),
    (lambda: fb.Columns([(0, 7)]), TypeError, r"^parts\[0\]: .*got 7"),
    (lambda: fb.Columns([(0, fb.Dense(2, 3))]), ValueError, r"^parts\[0\]: .*1 columns, got 2"),
    (lambda: fb.Columns([([0, 3], [])], n_in=3), ValueError, "^n_in: .*at least 4, got 3"),
    (lambda: fb.Columns([(0, each := fb.ReLU()), (1, each)]), ValueError, "same object"),
])
def test_a_bad_argument_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_layer_in_a_network_goes_into_no_container():
    net = a_net()
    for layer in (net.layers[3], net.layers[1], net.layers[1].layers[0]):
        with pytest.raises(ValueError, match="in another network already"):
            fb.Residual([fb.Dense(3, layer.n_in), layer, fb.Dense(layer.n_out, 3)])


# Copies and files


def test_what_is_loaded_is_what_was_saved(trained, tmp_path):
    trained.save(tmp_path / "net")
    same(fb.load(tmp_path / "net"), trained)
    fit(other := fb.load(tmp_path / "net"), optimizer=fb.SGD(0.1))
    fit(trained, optimizer=fb.SGD(0.1))
    same(other, trained)


@pytest.mark.parametrize("make", [
    lambda: fb.LayerNorm(3, 0.1), lambda: fb.RMSNorm(3, 0.1), lambda: fb.BatchNorm(3, 0.5, 0.1),
    lambda: fb.PeriodicEmbedding(3, 4, 0.5), lambda: fb.PiecewiseLinearEmbedding([[0, 1, 5]], 3),
    lambda: fb.PeriodicEmbedding(3, 4, trainable=False, random_phases=True),
    lambda: fb.PReLU(3, 0.7), lambda: fb.Embedding(5, 3), lambda: fb.Residual([fb.PReLU(3, 0.7)]),
    lambda: fb.Columns([(0, []), ([1, 1], fb.Residual([fb.RMSNorm(2)]))], 4),
])
def test_each_layer_by_itself(make, dtype, tmp_path):
    net = fb.Sequential([make()], dtype, seed=1)
    net.parameters[:] += np.arange(net.parameters.size)
    net.buffers[:] += np.arange(net.buffers.size)
    net.save(tmp_path / "net")
    other = fb.load(tmp_path / "net")
    assert repr(other) == repr(net)
    assert other.get_state().tobytes() == net.get_state().tobytes()


@each("duplicate", [
    copy.copy, copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net)),
    lambda net: fb.Sequential([net], net.dtype),
    lambda net: fb.Sequential([copy.deepcopy(layer) for layer in net.layers], net.dtype),
    lambda net: fb.Sequential(pickle.loads(pickle.dumps(net.layers)), net.dtype),
    lambda net: net.astype(net.dtype),
])
def test_copies_have_the_arrays_and_share_none(trained, duplicate):
    other = duplicate(trained)
    same(trained, other)
    before = trained.get_state()
    fit(other, X + 0)
    assert trained.get_state().tobytes() == before.tobytes()
    assert other.buffers.tobytes() != trained.buffers.tobytes()


def test_another_dtype(trained):
    other = trained.astype("float64" if trained.dtype == "float32" else "float32")
    np.testing.assert_allclose(other.get_state(), trained.get_state(), rtol=1e-6)
    np.testing.assert_allclose(other.predict(X), trained.predict(X), atol=1e-4)


def test_other_layers_in_some_places(trained):
    """Those that stay keep their statistics, those that go take them along."""
    first, residual, *_, last = trained.layers
    inner, outer = first.parts[0][0], residual.layers[0]
    statistics = {layer: (layer.mean.copy(), layer.variance.copy()) for layer in (inner, outer)}
    trained.layers = [first, fb.BatchNorm(10), fb.Dense(10, 2)]
    assert not residual.bound
    assert not last.bound
    for layer, (mean, variance) in statistics.items():
        assert layer.mean.tobytes() == mean.tobytes()
        assert layer.variance.tobytes() == variance.tobytes()
    assert np.shares_memory(inner.mean, trained.buffers)
    assert trained.buffers.tolist() == [*inner.mean, *inner.variance, *[0] * 10, *[1] * 10]
    fit(trained, Y=Y % 2)
    assert outer.mean.tobytes() == statistics[outer][0].tobytes()
    other = fb.Sequential([residual], trained.dtype)
    assert np.shares_memory(outer.mean, other.buffers)
    assert outer.variance.tobytes() == statistics[outer][1].tobytes()


# Running statistics


def test_a_prediction_does_not_depend_on_the_rows_around_it(trained):
    whole = trained.predict(X)
    assert trained.predict(X[::-1])[::-1].tobytes() == whole.tobytes()
    assert np.concatenate([trained.predict(row[None]) for row in X]).tobytes() == whole.tobytes()
    before = trained.buffers.copy()
    trained.forward(X, training=False)
    trained.evaluate(X, Y, loss=LOSS)
    assert trained.buffers.tobytes() == before.tobytes(), "nor do the statistics change"


@pytest.mark.parametrize("by_interpreter", [False, True])
@pytest.mark.parametrize("momentum", [0, 0.25, 1])
def test_the_running_statistics(momentum, by_interpreter, dtype, monkeypatch):
    if by_interpreter:
        monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
    data = np.random.default_rng(0).normal(2, 3, (25, 4))
    net = fb.Sequential([fb.BatchNorm(4, momentum), fb.Dense(4, 1)], dtype)
    net.fit(data, data[:, 0], loss=fb.MeanSquaredError(), epochs=1, batch_size=12, shuffle=False)
    mean, variance = np.zeros(4), np.ones(4)
    for rows in (data[:12], data[12:24]):
        mean += momentum * (rows.mean(axis=0) - mean)
        variance += momentum * (rows.var(axis=0, ddof=1) - variance)
    mean += momentum * (data[24] - mean)  # one row says nothing of the variance
    np.testing.assert_allclose(net.layers[0].mean, mean, rtol=1e-5)
    np.testing.assert_allclose(net.layers[0].variance, variance, rtol=1e-5)


def test_minibatches_of_one_row(dtype):
    net = a_net(dtype)
    net.layers[0].parts[0][0].variance = 5
    fit(net, batch_size=1)
    assert np.isfinite(net.get_state()).all()
    assert (net.layers[0].parts[0][0].variance == 5).all()
    assert (net.layers[0].parts[0][0].mean != 0).all()


def test_early_stopping_goes_back_to_the_best_statistics(dtype):
    net, states = a_net(dtype), []
    fit(net, optimizer=fb.SGD(0.5), epochs=6, validation_data=(X[:20], Y[:20]),
        callbacks=[stopping := fb.EarlyStopping(9, monitor="val_accuracy"),
                   lambda run: states.append(run.network.get_state())])
    assert net.get_state().tobytes() == states[stopping.best_epoch].tobytes()
    assert len({state.tobytes() for state in states}) == len(states)
    result = net.evaluate(X[:20], Y[:20], loss=LOSS)
    assert result["accuracy"] == stopping.best


def test_a_plateau_keeps_the_best_statistics(dtype):
    net, states = a_net(dtype), []
    history = fit(net, optimizer=fb.SGD(0.5), epochs=6, callbacks=[
        plateau := Plateau(keep_best=True), lambda run: states.append(run.network.get_state())])
    fit(net, optimizer=fb.SGD(5.0), epochs=1)
    plateau.restore(net)
    assert net.get_state().tobytes() == states[int(np.argmin(history["loss"][:6]))].tobytes()


# Checkpoints


class Stop(Exception):
    pass


@pytest.mark.parametrize("by_interpreter", [False, True])
def test_what_was_cut_off_ends_with_the_same_bits(tmp_path, dtype, by_interpreter, monkeypatch):
    if by_interpreter:
        monkeypatch.setattr(training.run, "new_steps", reference.new_steps)

    def job(folder, at=None, resume=True):
        def stop(run):
            if run.epoch == at:
                raise Stop

        net, optimizer = a_net(dtype), fb.Adam(0.03)
        fit(net, optimizer=optimizer, epochs=5, validation_fraction=0.2, seed=None,
            callbacks=[fb.EarlyStopping(2), Plateau(1, factor=0.5, keep_best=True), stop],
            checkpoint=folder, resume=resume)
        fit(net, epochs=1)
        return (net.get_state().tobytes(), [layer.step for _, layer in net.leaves],
                {name: array.tobytes() for name, array in optimizer.state.items()},
                {name: values for name, values in net.history.items() if name != "seconds"})

    whole = job(None, resume=False)
    for at in (0, 2):
        with pytest.raises(Stop):
            job(tmp_path / str(at), at)
        assert job(tmp_path / str(at)) == whole


def test_a_checkpoint_of_other_containers_is_refused(tmp_path):
    fit(a_net(), checkpoint=tmp_path / "run")
    layers = some_layers()
    layers[1] = fb.Residual([fb.BatchNorm(10, 0.2), *layers[1].layers[1:]])
    for others in (layers, [*some_layers()[:2], fb.Dense(10, 8), fb.GELU(), fb.Dense(8, 3)]):
        with pytest.raises(ValueError, match="layers"):
            fit(fb.Sequential(others, seed=0), checkpoint=tmp_path / "run", resume=True)


# Codes


BAD = [4, -1, 0.5, 1e30]


def call(net, name, X):
    y = np.resize(Y, X.shape[0])
    if name == "predict":
        return net.predict(X)
    if name == "evaluate":
        return net.evaluate(X, y, loss=LOSS)
    if name == "validation":
        return fit(net, validation_data=(X, y))
    return fit(net, X, y)


@each("name", ["fit", "validation", "evaluate", "predict"])
@each("row", [0, 37, 2100])
@each("code", BAD)
@each("kind", ["f4", "f8", "csr", "csc", "strided"])
def test_bad_codes_are_named(name, row, code, kind):
    data = np.resize(X, (max(60, row + 1), 5))
    data[row, 3] = code
    data = {"csr": scipy.sparse.csr_array, "csc": scipy.sparse.csc_array,
            "strided": lambda data: np.asfortranarray(data[::-1])[::-1]}.get(
                kind, lambda data: data.astype(kind))(data)
    net = a_net()
    before = net.get_state()
    with pytest.raises(ValueError, match=rf"X: .*from 0 to 3 in column 3, the codes of layer 0\.1"
                                         rf"\.0 \(Embedding\), got .* in row {row}$"):
        call(net, name, data)
    assert net.get_state().tobytes() == before.tobytes()


@each("name", ["fit", "validation", "evaluate", "predict"])
@each("row", [0, 37, 2100])
def test_missing_codes_are_named(name, row):
    data = np.resize(X, (max(60, row + 1), 5))
    data[row, 3] = np.nan
    with pytest.raises(ValueError, match=rf"X: .* row {row}\b"):
        call(a_net(), name, data)


def test_bad_codes_in_other_numbers(dtype):
    net = fb.Sequential([fb.Embedding(4, 2), fb.Dense(2, 3)], dtype, seed=0)
    for kind in ("i1", "i8", "u1", "u8", "f2"):
        net.predict(np.array([[0], [3]], kind))
        for name in ("fit", "evaluate", "predict"):
            with pytest.raises(ValueError, match=r"column 0, .*layer 0 .*got 4.* in row 1$"):
                call(net, name, np.array([[0], [4]], kind))
    for code in (-1, 4):
        for options in ({}, {"training": False}):
            with pytest.raises(ValueError, match=rf"column 0, the codes .*got {code}.* in row 0$"):
                net.forward([[code]], **options)


@pytest.mark.parametrize("by_interpreter", [False, True])
@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("code", [*BAD, 10**9, np.nan, np.inf])
def test_codes_that_a_callback_makes_bad(code, n_threads, by_interpreter, monkeypatch):
    """An error, and the steps before it stay made."""
    if by_interpreter:
        monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
    data, net, states = X.copy(), a_net(), []

    def change(run):
        states.append(run.network.get_state())
        data[41, 3] = code

    with pytest.raises(ValueError, match=r"(column 3|code)"):
        fit(net, data, callbacks=[change], epochs=3, n_threads=n_threads, batch_size=60)
    assert len(states) == 1
    assert net.get_state().tobytes() == states[0].tobytes()


def test_codes_of_an_embedding_within(dtype):
    """What layers make of X may be codes too; they are checked where they are looked up."""
    net = fb.Sequential([fb.ReLU(), fb.Embedding(3, 2)], dtype, seed=0)
    assert net.predict([[-5], [2]]).tolist() == [*net.layers[1].table[[0, 2]].tolist()]
    for code in (3, 0.5, np.nan):
        with pytest.raises(ValueError, match="code"):
            net.predict([[0], [code]])
        with pytest.raises(ValueError, match="code"):
            net.forward([[0], [code]])


# Damaged files


def rewritten(path, change):
    """The file with another description."""
    content = path.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    text = change(header["__metadata__"]["fastbp"])
    header["__metadata__"]["fastbp"] = text
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + content[8 + length :])


def text_of(depth, kind):
    """As json.dumps would write it, had it the stack."""
    left, right = {"Residual": ('{"type": "Residual", "config": {"layers": [', "]}}"),
                   "Columns": ('{"type": "Columns", "config": {"n_in": 2, "parts": '
                               '[[[0, 1], [', "]]]}}")}[kind]
    return left * depth + '{"type": "PReLU", "config": {"n": 2}}' + right * depth


@pytest.mark.parametrize("kind", ["Residual", "Columns"])
def test_deep_files(tmp_path, kind):
    path = tmp_path / "net"
    net = fb.Sequential([fb.PReLU(2)])
    for depth in (1, 5, 20, *range(40, 400, 7), 1000, 3000, 50_000):
        net.save(path)
        rewritten(path, lambda text, depth=depth: text.replace(
            '{"type": "PReLU", "config": {"n": 2, "initial_slope": 0.25}}', text_of(depth, kind)))
        with pytest.raises(ValueError, match=r"^path: .*(missing|RecursionError|recursion|deep)"):
            fb.load(path)


@pytest.mark.parametrize("layer", [
    {"type": "Residual", "config": {"layers": 3}}, {"type": "Residual", "config": {"layers": []}},
    {"type": "Residual", "config": {"layers": [3]}}, {"type": "Residual", "config": {}},
    {"type": "Residual", "config": {"layers": None}},
    {"type": "Residual", "config": {"layers": {}}},
    {"type": "Residual", "config": {"layers": {"type": "ReLU", "config": {}}}},
    {"type": "Residual", "config": {"layers": [{"type": "Other", "config": {}}]}},
    {"type": "Residual", "config": {"layers": [{"type": [], "config": {}}]}},
    {"type": "Residual", "config": {"layers": [{"type": "ReLU", "config": []}]}},
    {"type": "Residual", "config": {"layers": [{"type": "ReLU", "config": {"a": 1}}]}},
    {"type": "Residual", "config": {"layers": [{"type": "ReLU"}]}},
    {"type": "Residual", "config": {"layers": "ReLU"}},
    {"type": "Columns", "config": {"parts": 3}}, {"type": "Columns", "config": {"parts": [[0]]}},
    {"type": "Columns", "config": {"parts": [[0, [], []]]}},
    {"type": "Columns", "config": {"parts": [["a", []]]}},
    {"type": "Columns", "config": {"parts": [[[[0]], []]]}},
    {"type": "Columns", "config": {"parts": [[{}, []]]}},
    {"type": "Columns", "config": {"parts": [[None, []]]}},
    {"type": "Columns", "config": {"parts": [[-1, []]]}},
    {"type": "Columns", "config": {"parts": [[0.5, []]]}},
    {"type": "Columns", "config": {"parts": [[10**400, []]]}},
    {"type": "Columns", "config": {"parts": [[0, 3]]}},
    {"type": "Columns", "config": {"parts": [[0, {"a": 1}]]}},
    {"type": "Columns", "config": {"parts": {"0": []}}},
    {"type": "Columns", "config": {"parts": [[0, []]], "n_in": "2"}},
    {"type": "BatchNorm", "config": {"n": 10**30}}, {"type": "BatchNorm", "config": {"n": [2]}},
    {"type": "BatchNorm", "config": {"n": 2, "momentum": {"type": "ReLU", "config": {}}}},
    {"type": "LayerNorm", "config": {"n": {"type": "PReLU", "config": {"n": 2}}}},
    {"type": "Embedding", "config": {"n_categories": 10**18, "n_out": 10**18}},
    {"type": "Embedding", "config": {"n_categories": 2, "n_out": 1, "init": [1]}},
    {"type": "PReLU", "config": {"n": 2, "initial_slope": "x"}},
    {"type": "Container", "config": {}}, {"type": "Sequential", "config": {"layers": []}},
], ids=lambda layer: json.dumps(layer)[:60])
def test_descriptions_that_cannot_be_built(tmp_path, layer):
    path = tmp_path / "net"
    fb.Sequential([fb.PReLU(2)]).save(path)
    for description in (layer, {"type": "Residual", "config": {"layers": [layer]}}):
        rewritten(path, lambda text, description=description: json.dumps(
            json.loads(text) | {"layers": [description]}))
        with pytest.raises(ValueError, match=r"^path: "):
            fb.load(path)


def test_statistics_that_are_missing_or_of_another_shape(tmp_path):
    path = tmp_path / "net"
    fb.Sequential([fb.Residual([fb.BatchNorm(2)])]).save(path)
    content = path.read_bytes()
    for name in (b"layers.0.0.maen", b"layers.0.1.mean"):
        path.write_bytes(content.replace(b"layers.0.0.mean", name))
        with pytest.raises(ValueError, match=r"^path: .*missing: layers\.0\.0\.mean"):
            fb.load(path)
    path.write_bytes(content)
    rewritten(path, lambda text: text.replace('"n": 2', '"n": 3'))
    with pytest.raises(ValueError, match=r"^path: .*of shape \[2\], expected"):
        fb.load(path)


def test_lbfgs_has_no_running_statistics():
    net = fb.Sequential([fb.Dense(3, 4), fb.BatchNorm(4), fb.Dense(4, 1)])
    with pytest.raises(ValueError, match=r"^network: expected one without BatchNorm"):
        fb.training.lbfgs(net, np.eye(3), np.ones(3), loss=fb.MeanSquaredError())


def test_more_codes_than_the_dtype_can_tell_apart(monkeypatch):
    big = fb.Embedding(2**24 + 1, 1)
    monkeypatch.setattr(fb.Layer, "allocate", lambda layer, dtype: pytest.fail("allocated"))
    with pytest.raises(ValueError, match=r"^n_categories: .*float64"):
        fb.Sequential([big], "float32")


def test_a_layer_that_is_taken_out_of_another():
    net = fb.Sequential([fb.Residual([fb.Dense(3, 3, init=lambda rng, n, m: np.eye(3))])], seed=0)
    net.layers = [net.layers[0].layers[0]]
    np.testing.assert_array_equal(net.predict(np.eye(3)), np.eye(3))


def test_forward_by_hand_names_the_column_of_a_code():
    net = fb.Sequential([fb.Columns([(0, []), (1, fb.Embedding(4, 2))])], seed=0)
    with pytest.raises(ValueError, match=r"^X: .*column 1.*got 4.0 in row 0"):
        net.forward(np.array([[0.5, 4]]))
