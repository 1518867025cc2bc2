"""The precision of a network: where it is shown and kept, and that all ways to compute agree."""

import copy
import pickle

import numpy as np
import pytest

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch
from fastbp.program import cache, reference

from ..cases import each

PRECISIONS = "high", "medium"


def data(rows=300, columns=12):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(rows, columns)).astype("f4")
    return X, (X[:, 0] + X[:, 1] > 0).astype(int)


def fit(precision, **settings):
    X, y = data()
    net = fb.mlp([12, 40, 30, 2], precision=precision, seed=0)
    net.fit(X, y, **{"loss": fb.SoftmaxCrossEntropy(), "optimizer": fb.SGD(0.1, 0.9), "epochs": 3,
                     "batch_size": 64, "seed": 0} | settings)
    return net


@pytest.fixture(scope="module")
def trained():
    return {precision: fit(precision) for precision in ("highest", *PRECISIONS)}


def test_each_precision_gives_other_results(trained):
    X, y = data()
    outputs = [trained[name].predict(X) for name in ("highest", *PRECISIONS)]
    assert not (outputs[0] == outputs[1]).all()
    assert not (outputs[0] == outputs[2]).all()
    errors = [abs(each - outputs[0]).max() for each in outputs[1:]]
    assert errors[0] < 0.01
    assert errors[1] < 0.5
    for net in trained.values():
        assert net.evaluate(X, y, loss=fb.SoftmaxCrossEntropy())["accuracy"] > 0.9


@each("precision", PRECISIONS)
def test_the_interpreter_gives_the_same_bits(trained, precision):
    steps = training.run.new_steps
    training.run.new_steps = reference.new_steps
    try:
        other = fit(precision)
    finally:
        training.run.new_steps = steps
    np.testing.assert_array_equal(other.parameters, trained[precision].parameters)


@each("precision", PRECISIONS)
def test_updates_that_are_not_fused_give_the_same_bits(trained, precision):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "MOST_ROWS_TO_FUSE", 0)
        patch.setattr(cache, "ENCODED", {})
        other = fit(precision)
    np.testing.assert_array_equal(other.parameters, trained[precision].parameters)


@each("precision", PRECISIONS)
def test_rows_do_not_depend_on_those_around_them(trained, precision):
    X, _ = data()
    net = trained[precision]
    together = net.predict(X)
    for size in (1, 2, 7, 33, 257):
        parts = [net.predict(X[i : i + size]) for i in range(0, len(X), size)]
        np.testing.assert_array_equal(np.concatenate(parts), together)


@each("precision", PRECISIONS)
def test_forward_and_backward_by_layers_have_the_networks_precision(trained, precision):
    X, y = data()
    net = copy.deepcopy(trained[precision])
    np.testing.assert_array_equal(net.forward(X), net.predict(X))
    _, dZ = fb.losses.compute_loss(fb.SoftmaxCrossEntropy(), net.predict(X), y)
    net.backward(dZ)
    gradients = net.gradients.copy()
    net.precision = "highest"
    net.forward(X)
    net.backward(dZ)
    assert not (net.gradients == gradients).all()
    np.testing.assert_allclose(net.gradients, gradients, atol=0.02)


def test_it_can_be_assigned(trained):
    X, _ = data()
    net = copy.deepcopy(trained["highest"])
    before = net.predict(X)
    net.precision = "medium"
    other = net.predict(X)
    assert not (other == before).all()
    net.precision = "highest"
    np.testing.assert_array_equal(net.predict(X), before)


def test_during_a_fit_it_cannot(trained):
    X, y = data()
    net = copy.deepcopy(trained["high"])

    def change(_):
        net.precision = "medium"

    with pytest.raises(RuntimeError, match="network"):
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=1, callbacks=[change])
    assert net.precision == "high"


@each("value", [None, "low", 2, "MEDIUM"])
def test_other_values_are_refused(value):
    with pytest.raises(ValueError, match="precision: expected one of highest, high, medium"):
        fb.mlp([2, 1], precision=value)
    net = fb.mlp([2, 1])
    with pytest.raises(ValueError, match="precision: expected one of"):
        net.precision = value
    assert net.precision == "highest"


def test_float64_has_the_highest_only(trained):
    with pytest.raises(ValueError, match='expected "highest" with float64'):
        fb.mlp([2, 1], dtype="float64", precision="high")
    double = trained["medium"].astype("float64")
    assert double.precision == "highest"
    assert trained["medium"].astype("float32").precision == "medium"
    with pytest.raises(ValueError, match='expected "highest" with float64'):
        double.precision = "medium"


@each("precision", PRECISIONS)
def test_copies_pickles_and_files_keep_it(trained, precision, tmp_path):
    X, _ = data()
    net = trained[precision]
    net.save(tmp_path / "net.safetensors")
    fb.Ensemble([net, trained["highest"]]).save(tmp_path / "both.safetensors")
    both = fb.Ensemble.load(tmp_path / "both.safetensors").networks
    assert [each.precision for each in both] == [precision, "highest"]
    for other in (copy.copy(net), pickle.loads(pickle.dumps(net)), both[0],
                  fb.load(tmp_path / "net.safetensors")):
        assert other.precision == precision
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


def test_a_file_with_another_is_refused(trained, tmp_path):
    path = tmp_path / "net.safetensors"
    trained["medium"].save(path)
    path.write_bytes(path.read_bytes().replace(b"medium", b"Medium"))
    with pytest.raises(ValueError, match="not a complete fastbp model: precision: expected one"):
        fb.load(path)


def test_files_of_the_highest_precision_do_not_name_it(tmp_path):
    fb.mlp([2, 1], seed=0).save(tmp_path / "net.safetensors")
    assert b"precision" not in (tmp_path / "net.safetensors").read_bytes()


def test_it_is_shown(trained):
    net = trained["medium"]
    assert repr(net).endswith('dtype="float32", precision="medium")')
    assert net.summary().endswith('precision "medium"')
    text = net.program(loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD())
    assert "relu(dense(X, 0.W, 0.b, precision=medium))" in text
    assert text.count("precision=medium") == 8  # three products of three layers, but no first dX
    for shown in (repr, fb.Sequential.summary, fb.Sequential.program):
        assert "precision" not in shown(trained["highest"])


@each("precision, batch, last", [("medium", 3000, 1793), ("high", 2144, 2080)])
def test_a_last_minibatch_that_needs_more_workspace_than_the_others(precision, batch, last):
    """Of a shorter sum more rows are kept, and together they may be more numbers."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((batch + last, 4), dtype="f4")
    y = rng.integers(0, 3, batch + last)

    def train(n_threads):
        net = fb.mlp([4, 256, 256, 3], precision=precision, seed=0)
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(0.01), epochs=2,
                batch_size=batch, seed=0, n_threads=n_threads)
        return net.parameters

    steps = training.run.new_steps
    training.run.new_steps = reference.new_steps
    try:
        expected = train(1)
    finally:
        training.run.new_steps = steps
    np.testing.assert_array_equal(train(1), expected)
    np.testing.assert_array_equal(train(2), expected)


def test_layers_that_are_other_products_stay_in_float32():
    """Only Dense layers' products are reduced."""
    net = fb.Sequential([fb.Repeat(4, 2), fb.EnsembleDense(4, 3, 2)], seed=0, precision="medium")
    other = fb.Sequential([fb.Repeat(4, 2), fb.EnsembleDense(4, 3, 2)], seed=0)
    X, _ = data(20, 4)
    np.testing.assert_array_equal(net.predict(X), other.predict(X))


def test_a_checkpoint_of_another_precision_is_not_resumed(tmp_path):
    fit("medium", epochs=1, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="precision = 'medium', got 'high'"):
        fit("high", epochs=2, checkpoint=tmp_path, resume=True)
    resumed = fit("medium", epochs=3, checkpoint=tmp_path, resume=True)
    np.testing.assert_array_equal(resumed.parameters, fit("medium").parameters)


def test_weights_whose_gradient_would_be_infinite_are_not_updated():
    """A number that float32 has and bfloat16 has not."""
    X = np.full((64, 3), 3.4e38, "f4")
    net = fb.mlp([3, 20, 1], precision="medium", seed=0)
    net.layers[0].W[...] = 0
    with pytest.raises(FloatingPointError):
        net.fit(X, np.ones((64, 1)), loss=fb.MeanSquaredError(), optimizer=fb.SGD(1e-30), epochs=1)
    assert np.isfinite(net.parameters).all()


def test_estimators():
    pytest.importorskip("sklearn")
    X, y = data()
    settings = {"random_state": 0, "max_iter": 5, "dtype": "float32"}
    with pytest.warns(UserWarning, match="iterations"):
        exact = fb.MLPClassifier((20,), **settings).fit(X, y)
        model = fb.MLPClassifier((20,), precision="medium", **settings).fit(X, y)
    assert not (model.coefs_[0] == exact.coefs_[0]).all()
    probabilities = model.predict_proba(X)
    model.set_params(precision="highest")
    assert not (model.predict_proba(X) == probabilities).all()
    model.set_params(precision="medium")
    np.testing.assert_array_equal(model.predict_proba(X), probabilities)
    other = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(other.predict_proba(X), probabilities)
    with pytest.raises(ValueError, match=r'"highest" with float64.*dtype="float32"'):
        fb.MLPRegressor(precision="high").fit(X.astype("f8"), y)
    with pytest.raises(ValueError, match="precision"):
        fb.MLPRegressor(precision="low").fit(X, y)


def test_show_config(capsys):
    fb.show_config()
    line = next(line for line in capsys.readouterr().out.splitlines() if "bfloat16" in line)
    if dispatch.isa() == "amx":
        assert line.endswith("  by AMX")
    else:
        assert "by fused multiply-adds (" in line
