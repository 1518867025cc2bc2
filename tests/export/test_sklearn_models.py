"""Models from and for scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import neural_network
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, PolynomialFeatures, StandardScaler

import fastbp as fb

pytestmark = pytest.mark.filterwarnings("ignore:.*(converge|Maximum iterations)")

SETTINGS = {"hidden_layer_sizes": (7, 5), "max_iter": 8, "random_state": 0}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    X = rng.normal(3, 2, (90, 4)) * [1, 10, 0.1, 100]
    score = X[:, 0] + X[:, 1] / 10
    return X, {
        "two": np.where(score > 6, "yes", "no"), "three": np.digitize(score, [5, 8]),
        "labels": np.column_stack([score > 5, score > 8, X[:, 2] > 0.3]).astype(int),
        "amount": score, "amounts": np.column_stack([score, X[:, 2]]),
        "counts": np.digitize(score, [3, 6, 9]).astype(float)}


def classifiers():
    for target in ("two", "three", "labels"):
        for activation in ("relu", "tanh", "logistic", "identity"):
            yield target, neural_network.MLPClassifier(activation=activation, **SETTINGS)


def regressors():
    for target in ("amount", "amounts", "counts"):
        options = {"loss": "poisson"} if target == "counts" else {}
        yield target, neural_network.MLPRegressor(**options, **SETTINGS)


@pytest.mark.parametrize(("target", "theirs"), [*classifiers(), *regressors()])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_to_and_fro(data, target, theirs, dtype):
    """The same predictions, classes and attributes, and training goes on from them."""
    X, targets = data
    X, y = StandardScaler().fit_transform(X).astype(dtype), targets[target]
    theirs.fit(X, y)
    ours = fb.from_sklearn(theirs)
    again = ours.to_sklearn()
    assert type(again) is type(theirs)
    assert again.get_params() == theirs.get_params()
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for model in (ours, again):
        assert np.array_equal(model.predict(X), theirs.predict(X)) or np.allclose(
            model.predict(X), theirs.predict(X), rtol=tolerance, atol=tolerance)
        if hasattr(theirs, "classes_"):
            assert np.array_equal(model.classes_, theirs.classes_)
            assert np.allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=0,
                               atol=tolerance)
        for name in ("n_features_in_", "n_iter_", "n_layers_", "n_outputs_", "out_activation_",
                     "loss_", "loss_curve_", "t_", "best_loss_"):
            assert getattr(model, name) == getattr(theirs, name), name
        for name in ("coefs_", "intercepts_"):
            for own, other in zip(getattr(model, name), getattr(theirs, name), strict=True):
                assert own is not other and own.dtype == other.dtype
                assert np.array_equal(own, other)
        t = model.t_
        model.partial_fit(X, y)
        assert model.t_ == t + len(X)


@pytest.mark.parametrize("scalers", [
    [StandardScaler()], [MinMaxScaler((-1, 3))], [StandardScaler(with_mean=False)],
    [StandardScaler(with_std=False)], [MinMaxScaler(), "passthrough", StandardScaler()]])
def test_scalers(data, scalers):
    """They become part of the first layer."""
    X, targets = data
    X = pd.DataFrame(X, columns=list("abcd"))
    for target, theirs in [*classifiers(), *regressors()][::4]:
        theirs = make_pipeline(*scalers, theirs).fit(X, targets[target])
        ours = fb.from_sklearn(theirs)
        names = list(ours.feature_names_in_)
        assert names == list("abcd") and ours.n_features_in_ == 4
        method = "predict_proba" if hasattr(ours, "classes_") else "predict"
        assert np.allclose(getattr(ours, method)(X), getattr(theirs, method)(X), atol=1e-9)


def test_the_names_of_what_a_scaler_returned(data):
    X, targets = data
    theirs = make_pipeline(StandardScaler().set_output(transform="pandas"),
                           neural_network.MLPRegressor(**SETTINGS)).fit(X, targets["amount"])
    ours = fb.from_sklearn(theirs)
    assert not hasattr(ours, "feature_names_in_")
    assert np.allclose(ours.predict(X), theirs.predict(X))


def test_refused(data):
    X, targets = data
    y = targets["amount"]
    with pytest.raises(TypeError, match="fitted: expected an MLPClassifier or MLPRegressor of sc"):
        fb.from_sklearn(StandardScaler())
    with pytest.raises(NotFittedError):
        fb.from_sklearn(neural_network.MLPRegressor())
    with pytest.raises(NotFittedError):
        fb.from_sklearn(make_pipeline(StandardScaler(), neural_network.MLPRegressor()))
    with pytest.raises(TypeError, match=r"fitted: expected a fitted sklearn.neural_network.MLPCl"):
        fb.MLPClassifier.from_sklearn(neural_network.MLPRegressor())
    for step in (PolynomialFeatures(), MinMaxScaler(clip=True)):
        theirs = Pipeline([("before", step), ("net", neural_network.MLPRegressor(**SETTINGS))])
        with pytest.raises(TypeError, match="fitted: step 'before': expected a StandardScaler"):
            fb.from_sklearn(theirs.fit(X, y))


@pytest.mark.parametrize(("parameters", "message"), [
    ({"activation": "gelu"}, "activation: expected one that scikit-learn has.*got gelu"),
    ({"activation": ["relu", "tanh"]}, "activation: expected one .*got relu, tanh"),
    ({"solver": "adamw"}, r"solver: expected.*model\.set_params\(solver=…\)"),
    ({"loss": "huber"}, r"loss: expected.*model\.set_params\(loss=…\)")])
def test_what_scikit_learn_lacks(data, parameters, message):
    X, targets = data
    with pytest.raises(NotFittedError):
        fb.MLPRegressor(**parameters).to_sklearn()
    ours = fb.MLPRegressor(**SETTINGS | parameters).fit(X, targets["amount"])
    with pytest.raises(ValueError, match=message):
        ours.to_sklearn()
    if "activation" not in parameters:
        ours.set_params(solver="adam", loss="squared_error")
        assert np.allclose(ours.to_sklearn().predict(X), ours.predict(X))


def test_no_hidden_layers(data):
    X, targets = data
    theirs = neural_network.MLPClassifier(hidden_layer_sizes=(), max_iter=3).fit(
        X, targets["two"])
    ours = fb.from_sklearn(theirs)
    assert np.allclose(ours.predict_proba(X), theirs.predict_proba(X))
    assert np.allclose(ours.to_sklearn().predict_proba(X), theirs.predict_proba(X))
