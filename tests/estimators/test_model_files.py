"""Files of fitted TabPack and TabM: they predict the same bits, and damaged ones are refused."""

import datetime
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from sklearn.exceptions import NotFittedError

import fastbp as fb
from fastbp.estimators import (
    MLPClassifier,
    TabMClassifier,
    TabMRegressor,
    TabPackClassifier,
    TabPackRegressor,
    load_model,
    save_model,
)

SMALL = {"max_epochs": 3, "random_state": 0}
PACK = {"n_members": 3} | SMALL


@pytest.fixture
def table(rng):
    """Numbers with missing ones, few and many levels, booleans, dates, a constant."""
    n = 200
    return [[None if i % 7 == 0 else float(rng.normal()), "abc"[i % 3], i // 5, bool(i % 2), 1,
             datetime.date(2024, 1, 1) + datetime.timedelta(i)] for i in range(n)]


def described(path):
    with safe_open(path, framework="numpy") as file:
        return json.loads(file.metadata()["fastbp"])["settings"]


TARGETS = {
    "text": (TabPackClassifier(**PACK, categories=[2]), lambda rng: rng.choice(["u", "v"], 200)),
    "booleans": (TabPackClassifier(**PACK), lambda rng: rng.random(200) < 0.5),
    "three classes": (TabMClassifier(**SMALL, categories=[2]),
                      lambda rng: rng.integers(3, size=200)),
    "numbers": (TabMRegressor(**SMALL), lambda rng: rng.normal(5, 9, 200)),
    "several": (TabPackRegressor(**PACK), lambda rng: rng.normal(size=(200, 2)) * [1, 0]),
    "a quantile": (TabPackRegressor(**PACK, quantiles=0.9), lambda rng: rng.normal(size=200)),
    "quantiles": (TabPackRegressor(**PACK, quantiles=[0.1, 0.9]),
                  lambda rng: rng.normal(size=200)),
}


@pytest.mark.parametrize("case", TARGETS)
def test_a_loaded_model_predicts_the_same(case, table, rng, tmp_path):
    model, make = TARGETS[case]
    model.fit(table, make(rng))
    save_model(tmp_path / "m.safetensors", model)
    loaded = load_model(tmp_path / "m.safetensors")
    assert type(loaded) is type(model) and loaded.get_params()["max_epochs"] == 3
    rows = [*table[:20], [None, "new", 10**6, None, None, None]]
    got, expected = loaded.predict(rows), model.predict(rows)
    assert got.dtype == expected.dtype
    np.testing.assert_array_equal(got, expected)
    if hasattr(model, "predict_proba"):
        np.testing.assert_array_equal(loaded.predict_proba(rows), model.predict_proba(rows))
    assert loaded.encoder_.describe() == model.encoder_.describe()
    save_model(tmp_path / "again.safetensors", loaded)
    assert described(tmp_path / "again.safetensors") == described(tmp_path / "m.safetensors")


@pytest.mark.parametrize(("model", "error", "message"), [
    (TabPackClassifier(), NotFittedError, "not fitted"),
    (MLPClassifier(), TypeError, "model: expected one of TabPackClassifier, TabPackRegressor"),
])
def test_what_cannot_be_saved(model, error, message, tmp_path):
    with pytest.raises(error, match=message):
        save_model(tmp_path / "m.safetensors", model)
    assert not list(tmp_path.iterdir())


def test_files_of_another_kind(table, rng, tmp_path):
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match="there is no file"):
        load_model(path)
    network = fb.mlp([2, 1], seed=0)
    network.save(path)
    with pytest.raises(ValueError, match=r"single network; read it with fastbp\.load"):
        load_model(path)
    fb.Ensemble([network]).save(path)
    with pytest.raises(ValueError, match=r"without an encoder; read it with fastbp\.Ensemble"):
        load_model(path)
    save_model(path, TabPackClassifier(**PACK).fit(table, np.arange(200) % 2))
    with pytest.raises(ValueError, match=r"read it with fastbp\.estimators\.load_model"):
        fb.Ensemble.load(path)


@pytest.mark.parametrize("damage", [
    lambda state: state.pop("encoder"),
    lambda state: state.update(kind="Popen"),
    lambda state: state.update(parameters={"unknown": 1}),
    lambda state: state["classes"].update(dtype="O"),
    lambda state: state["classes"].update(values=["u"]),
    lambda state: state["encoder"]["columns"].pop(),
    lambda state: state["encoder"]["columns"][0].pop(),
    lambda state: state["encoder"]["columns"][0].__setitem__(0, 99),
    lambda state: state["encoder"]["columns"][0][2]["parts"][0].update(quantiles=["x"]),
    lambda state: state["encoder"]["columns"][1][2].update(table=[["a", 99]]),
    lambda state: state.update(weights=[-1]),
    lambda state: state.clear(),
])
def test_damaged_files_are_refused(damage, table, tmp_path):
    path = tmp_path / "m.safetensors"
    save_model(path, TabPackClassifier(**PACK).fit(table, np.arange(200) % 2))
    with safe_open(path, framework="numpy") as file:
        description = json.loads(file.metadata()["fastbp"])
    damage(description["settings"]["estimator"])
    save_file(load_file(path), path, {"fastbp": json.dumps(description)})
    with pytest.raises(ValueError, match=r"^path: .* is not a complete fastbp model: "):
        load_model(path)
