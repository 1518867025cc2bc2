"""TabM as estimators: what is trained, scikit-learn's checks, same bits, and every argument."""

import copy
import pickle
import time

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import check_estimator

import fastbp as fb
from fastbp.estimators import TabMClassifier, TabMRegressor
from fastbp.kernels import dispatch, threads

SMALL = {"n_members": 4, "width": 8, "n_blocks": 2, "n_per_feature": 4, "max_epochs": 6,
         "batch_size": 32, "learning_rate": 0.01, "random_state": 0}
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)
TWO = IRIS[0][50:], np.array(["no", "yes"])[IRIS[1][50:] - 1]
KINDS = {"classes": (TabMClassifier, IRIS), "two classes": (TabMClassifier, TWO),
         "numbers": (TabMRegressor, DIABETES),
         "two numbers": (TabMRegressor, (DIABETES[0], np.c_[DIABETES[1], -DIABETES[1] / 100]))}
each_kind = pytest.mark.parametrize("kind", KINDS)

RNG = np.random.default_rng(0)
TABLE = [[RNG.normal(), RNG.choice(["red", "blue", None]), bool(RNG.integers(2)), f"c{i % 40}"]
         for i in range(300)]
TABLE[7][0] = None
OF_TABLE = [(row[0] or 0) > 0 or row[1] == "red" for row in TABLE]


def fitted(kind, **options):
    make, (X, y) = KINDS[kind]
    return make(**SMALL | options).fit(X, y)


def outputs(model, X):
    return model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)


# scikit-learn's own checks

# The rows set aside are not those of the repeated rows.
ALIKE = {"check_sample_weight_equivalence_on_dense_data"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("make", [TabMClassifier, TabMRegressor])
def test_check_estimator(make):
    model = make(**SMALL | {"max_epochs": 60, "width": 16, "patience": 60, "batch_size": None})
    results = check_estimator(model, on_fail=None)
    failed = {r["check_name"]: r["exception"] for r in results if r["status"] == "failed"}
    assert set(failed) <= ALIKE, failed


@pytest.mark.parametrize("make", [TabMClassifier, TabMRegressor])
def test_parameters(make):
    model = make()
    assert clone(model).get_params() == model.get_params()
    assert make(**SMALL).get_params().items() >= SMALL.items()
    assert (model.n_members, model.patience, model.max_epochs) == (16, 16, 1000)


# What is learned


@pytest.mark.parametrize("variant", ["tabm", "tabm-mini"])
@pytest.mark.parametrize("embedding", ["piecewise", "periodic", None])
def test_learns(variant, embedding):
    options = {"variant": variant, "embedding": embedding, "max_epochs": 60}
    X, y = IRIS
    assert fitted("classes", **options).score(X, y) > 0.9
    X, y = DIABETES
    assert fitted("numbers", **options).score(X, y) > 0.35


@each_kind
def test_the_best_epoch_is_kept(kind):
    make, (X, y) = KINDS[kind]
    X_val, y_val = X[::3], y[::3]
    model = make(**SMALL | {"max_epochs": 30, "patience": 3, "learning_rate": 0.03}).fit(
        X, y, X_val, y_val)
    scores = model.history_["val_score"]
    assert len(scores) == len(model.history_["loss"])
    assert model.best_score_ == max(scores) == scores[model.best_epoch_]
    assert len(scores) in (30, model.best_epoch_ + 4)
    if kind == "classes":
        np.testing.assert_allclose(model.best_score_, -log_loss(y_val, model.predict_proba(X_val)),
                                   rtol=1e-5)
    elif kind == "numbers":
        rmse = np.sqrt(np.mean((model.predict(X_val) - y_val) ** 2)) / y.std()
        np.testing.assert_allclose(model.best_score_, -rmse, rtol=1e-5)


@pytest.mark.parametrize("variant", ["tabm", "tabm-mini"])
def test_predictions_are_means_of_the_members(variant):
    X = IRIS[0]
    model = fitted("classes", variant=variant)
    Z = model.network_.predict(model.encoder_.transform(X)).reshape(150, 4, 3).astype(float)
    E = np.exp(Z)
    P = (E / E.sum(axis=2, keepdims=True)).mean(axis=1)
    np.testing.assert_allclose(model.predict_proba(X), P, rtol=1e-5)
    assert (model.predict(X) == model.classes_[model.predict_proba(X).argmax(axis=1)]).all()
    model = fitted("two classes", variant=variant)
    Z = model.network_.predict(model.encoder_.transform(X)).astype(float)
    P = (1 / (1 + np.exp(-Z))).mean(axis=1)
    np.testing.assert_allclose(model.predict_proba(X)[:, 1], P, rtol=1e-5)
    np.testing.assert_allclose(model.predict_proba(X).sum(axis=1), 1, rtol=1e-6)
    model = fitted("two numbers", variant=variant)
    Z = model.network_.predict(model.encoder_.transform(DIABETES[0])).astype(float)
    means = Z.reshape(-1, 4, 2).mean(axis=1)
    np.testing.assert_allclose(model.predict(DIABETES[0]), model.target_scaler_.inverse(means),
                               rtol=1e-5, atol=1e-4)


def test_the_network():
    full, mini = (fitted("numbers", variant=variant, dropout=0.0).network_
                  for variant in ("tabm", "tabm-mini"))
    names = [type(layer).__name__ for layer in mini.layers]
    assert names == ["Columns", "Repeat", "Scale", "EnsembleDense", "ReLU", "EnsembleDense",
                     "ReLU", "SeparateDense"]
    assert [type(layer).__name__ for layer in full.layers] == names[:2] + names[3:]
    assert mini.layers[3].factors is None
    assert full.layers[2].factors == "ones"


@pytest.mark.parametrize("variant", ["tabm", "tabm-mini"])
def test_first_factors(variant):
    """The columns of a feature begin with the same factor, and members with different ones."""
    model = fitted("numbers", variant=variant, learning_rate=1e-12, weight_decay=0.0)
    layer = model.network_.layers[2]
    factors = (layer.gamma if variant == "tabm-mini" else layer.r).reshape(4, -1)
    numeric = factors[:, : 4 * model.encoder_.n_numeric_].reshape(4, -1, 4)
    assert (np.ptp(numeric, axis=2) < 1e-6).all()
    assert len(np.unique(numeric[:, :, 0])) == numeric[:, :, 0].size
    model = fitted("numbers", variant=variant, learning_rate=1e-12, embedding=None)
    layer = model.network_.layers[2]
    factors = layer.gamma if variant == "tabm-mini" else layer.r
    np.testing.assert_allclose(abs(factors), 1, rtol=1e-6)
    assert 0.2 < (factors > 0).mean() < 0.8


# Same bits


@each_kind
@pytest.mark.parametrize("variant", ["tabm", "tabm-mini"])
def test_every_tier_and_number_of_threads(kind, variant):
    X, found = KINDS[kind][1][0], set()
    tier, work = dispatch.isa(), threads.set_work_per_thread(0)
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for n_threads in (1, 2, 3):
                model = fitted(kind, variant=variant, n_threads=n_threads, max_epochs=3)
                found.add((model.network_.get_state().tobytes(), outputs(model, X).tobytes(),
                           tuple(model.history_["val_score"])))
    finally:
        threads.set_work_per_thread(work)
        dispatch.use(tier)
    assert len(found) == 1


@each_kind
def test_copies(kind):
    X = KINDS[kind][1][0]
    model = fitted(kind)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), fitted(kind)):
        assert outputs(other, X).tobytes() == outputs(model, X).tobytes()
    rows = np.concatenate([outputs(model, X[i : i + 7]) for i in range(0, len(X), 7)])
    assert rows.tobytes() == outputs(model, X).tobytes()
    assert outputs(fitted(kind, random_state=1), X).tobytes() != outputs(model, X).tobytes()


def test_many_rows_at_a_time(monkeypatch):
    model = fitted("classes")
    expected = model.predict_proba(IRIS[0])
    monkeypatch.setattr("fastbp.estimators.tabm.OUTPUTS_AT_ONCE", 100)
    assert model.predict_proba(IRIS[0]).tobytes() == expected.tobytes()


# Arguments


def test_a_table():
    model = TabMClassifier(**SMALL | {"max_epochs": 30}).fit(TABLE, OF_TABLE)
    assert model.score(TABLE, OF_TABLE) > 0.8
    assert model.n_features_in_ == 4
    assert model.encoder_.n_codes_
    assert any(isinstance(layer, fb.Embedding) for _, layer in model.network_.leaves)
    only = TabMClassifier(**SMALL, categories=[0], embedding="periodic").fit(
        [[str(i % 3)] for i in range(60)], [i % 3 == 1 for i in range(60)])
    assert only.encoder_.n_numeric_ == 0


def test_weights():
    """Rows without weight might as well be others."""
    X, y = IRIS
    weights = np.where(np.arange(150) % 2, 1.0, 0.0)
    others = np.where(weights > 0, y, 0)
    for options in ({}, {"class_weight": {0: 1, 1: 2, 2: 0.5}}):
        found = [TabMClassifier(**SMALL | options).fit(X, labels, X, y, weights, weights)
                 .predict_proba(X).tobytes() for labels in (y, others)]
        assert found[0] == found[1]
    balanced = TabMClassifier(**SMALL, class_weight="balanced").fit(X[:110], y[:110])
    plain = TabMClassifier(**SMALL).fit(X[:110], y[:110])
    assert (balanced.predict_proba(X)[:, 2].mean() > plain.predict_proba(X)[:, 2].mean())


@pytest.mark.parametrize(("kind", "scoring"), [
    ("classes", "accuracy"), ("two classes", "roc_auc"), ("classes", "f1_macro"), ("numbers", "r2"),
    ("numbers", lambda model, X, y: -abs(model.predict(X) - y).max()),
])
def test_scoring(kind, scoring):
    model = fitted(kind, scoring=scoring)
    assert model.best_score_ == max(model.history_["val_score"])


def test_time_limit():
    start = time.monotonic()
    model = fitted("classes", time_limit=1e-3, max_epochs=100_000)
    assert time.monotonic() - start < 20
    assert len(model.history_["loss"]) == 1
    assert model.history_.stopped == "the time limit was reached"


def test_verbose(capsys):
    fitted("classes", verbose=1, max_epochs=2)
    out = capsys.readouterr().out
    assert out.startswith("number: 'x0'")
    assert out.count("val_score") == 2


def test_with_the_rest_of_scikit_learn():
    model = make_pipeline(FunctionTransformer(), TabMRegressor(**SMALL))
    search = GridSearchCV(model, {"tabmregressor__width": [4, 8]}, cv=2)
    assert search.fit(*DIABETES).best_params_["tabmregressor__width"] in (4, 8)


@pytest.mark.parametrize("options", [
    {"n_members": 0}, {"variant": "tabm-naive"}, {"n_blocks": 0}, {"width": 1.5}, {"dropout": 1.0},
    {"embedding": "linear"}, {"n_per_feature": 1}, {"n_bins": 0}, {"learning_rate": 0.0},
    {"weight_decay": -1}, {"ema": 1.0}, {"batch_size": 0}, {"max_epochs": 0}, {"patience": 0},
    {"scoring": 3}, {"validation_fraction": 1.0}, {"time_limit": 0}, {"n_threads": 0},
])
def test_bad_parameters(options):
    name, = options
    for make, (X, y) in (KINDS["classes"], KINDS["numbers"]):
        with pytest.raises(ValueError, match=f"'{name}' parameter of {make.__name__} must be"):
            make(**SMALL | options).fit(X, y)


def test_bad_arguments():
    X, y = IRIS
    model = TabMClassifier(**SMALL)
    with pytest.raises(NotFittedError):
        model.predict(X)
    with pytest.raises(ValueError, match="X_val and y_val: expected both"):
        model.fit(X, y, X)
    with pytest.raises(ValueError, match="expected the classes of the training rows"):
        model.fit(X[:100], y[:100], X, y)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        model.fit(X, y[:-1])
    with pytest.raises(ValueError, match="Negative values"):
        model.fit(X, y, sample_weight=-np.ones(150))
