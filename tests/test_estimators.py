"""MLPClassifier and MLPRegressor: scikit-learn's models and answers, and what it has not got."""

import contextlib
import copy
import functools
import inspect
import io
import pickle
import re
import subprocess
import sys
import threading
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.datasets
import tqdm.auto
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import compute_sample_weight, get_tags
from sklearn.utils._param_validation import InvalidParameterError
from sklearn.utils.estimator_checks import check_estimator

import fastbp as fb

ESTIMATORS = {
    "classifier": (neural_network.MLPClassifier, fb.MLPClassifier),
    "regressor": (neural_network.MLPRegressor, fb.MLPRegressor),
}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SMALL = {"hidden_layer_sizes": (7,), "random_state": 1, "max_iter": 20}
quiet = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@functools.cache
def data(name):
    X, y = getattr(sklearn.datasets, f"load_{name}")(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def problem(name, task):
    """A kind of estimator, X and y."""
    X, y = data(name)
    if task == "labels":
        return "classifier", X, np.stack([y % 2 == 1, y > 4, y % 3 == 0], axis=1).astype(int)
    if task == "numbers":
        return "regressor", X, np.stack([y, 10 * X[:, 0]], axis=1)
    if task == "scaled":
        return "regressor", X, (y - y.mean()) / y.std()
    return ("classifier" if task == "classes" else "regressor"), X, y


IRIS = data("iris")
NAMES = np.array(["ü", "b", "a"])[IRIS[1]]
LABELS = np.c_[IRIS[1] > 0, IRIS[1] > 1, IRIS[0][:, 0] > 0].astype(int)


def parameters(model):
    return np.concatenate([np.ravel(array) for array in (*model.coefs_, *model.intercepts_)])


def error(values, truth):
    """The largest difference, as a share of the largest value."""
    values, truth = np.asarray(values, np.float64), np.asarray(truth, np.float64)
    assert values.shape == truth.shape
    return np.abs(values - truth).max() / (np.abs(truth).max() or 1.0)


def difference(model, truth):
    return error(parameters(model), parameters(truth))


def warned(estimator, action):
    """What the action gives, and its warnings but for those of NumPy's arithmetic."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = action(estimator)
    return result, [(w.category, str(w.message)[: 5 if "lbfgs" in str(w.message) else None])
                    for w in caught if not issubclass(w.category, RuntimeWarning)]


def both(kind, action, **options):
    """scikit-learn's estimator and fastbp's after the same action, which warn of the same."""
    truth, model = (estimator(**SMALL | options) for estimator in ESTIMATORS[kind])
    expected, got = warned(truth, action), warned(model, action)
    assert got[1] == expected[1]
    return truth, model


RECORDS = ("loss_curve_", "validation_scores_", "best_loss_", "best_validation_score_", "loss_")
COUNTS = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_")


def agree(truth, model, tolerance=1e-6):
    for name in COUNTS:
        assert getattr(model, name, None) == getattr(truth, name, None), name
    assert difference(model, truth) <= tolerance
    for name in RECORDS:
        expected = getattr(truth, name, None)
        if expected is None:
            assert getattr(model, name, None) is None, name
        else:
            assert error(getattr(model, name), expected) <= tolerance, name
    for ours, theirs in zip((*model.coefs_, *model.intercepts_),
                            (*truth.coefs_, *truth.intercepts_), strict=True):
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)


def fitting(X, y, **weights):
    return lambda estimator: estimator.fit(X, y, **weights)


# The same random state gives the same model


CASES = [("iris", "classes"), ("breast_cancer", "classes"), ("digits", "classes"),
         ("digits", "labels"), ("diabetes", "number"), ("diabetes", "numbers"),
         ("diabetes", "counts")]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "task"), CASES, ids=str)
def test_the_same_model(name, task, solver, activation):
    kind, X, y = problem(name, task)
    options = {"max_iter": 70 if task == "labels" else 200, "hidden_layer_sizes": (16,)}
    if name != "digits":
        options["hidden_layer_sizes"] = (20, 10)
    if task == "counts":
        options |= {"loss": "poisson"}
    if kind == "regressor" and solver == "sgd":
        options["learning_rate_init"] = 1e-5 if task == "counts" else 1e-4
    agree(*both(kind, fitting(X, y), solver=solver, activation=activation, **options))


@quiet
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("name", "task"), CASES, ids=str)
def test_the_same_model_by_lbfgs(name, task, activation):
    """Or, where a last digit of X changes scikit-learn's own, the same first ten iterations."""
    kind, X, y = problem(name, task)
    options = {"hidden_layer_sizes": (16,), "solver": "lbfgs", "activation": activation}
    if task == "counts":
        options["loss"] = "poisson"

    def compare(max_iter):
        truth, model = both(kind, fitting(X, y), max_iter=max_iter, **options)
        found = difference(model, truth), error(model.loss_, truth.loss_)
        if max(found) <= 1e-6 and model.n_iter_ == truth.n_iter_:
            return 0.0, 0.0
        moved = ESTIMATORS[kind][0](**SMALL | options | {"max_iter": max_iter})
        moved.fit(np.nextafter(X, np.inf), y)
        return max(found), max(difference(moved, truth), error(moved.loss_, truth.loss_))

    found, its_own = compare(200)
    if found > 0:
        assert its_own > 1e-9
        found, its_own = compare(10)
        assert found <= 100 * its_own
        assert found == 0 or its_own > 1e-9


OPTIONS = {
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling"},
    "invscaling power_t=0": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.01,
                 "n_iter_no_change": 2},
    "adaptive to the end": {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0,
                            "n_iter_no_change": 1, "learning_rate_init": 0.015625},
    "no momentum": {"solver": "sgd", "momentum": 0},
    "full momentum": {"solver": "sgd", "momentum": 1},
    "full momentum, plain": {"solver": "sgd", "momentum": 1.0, "nesterovs_momentum": False},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "betas 0": {"beta_1": 0, "beta_2": 0},
    "epsilon 1": {"epsilon": 1.0},
    "epsilon tiny": {"epsilon": 1e-300},
    "alpha 0": {"alpha": 0},
    "alpha 100": {"alpha": 100.0},
    "tol 0": {"tol": 0},
    "no change inf": {"n_iter_no_change": np.inf},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 3, "learning_rate_init": 0.01},
    "early stopping, sgd": {"early_stopping": True, "solver": "sgd", "n_iter_no_change": 2},
    "early stopping, adaptive": {"early_stopping": True, "solver": "sgd", "tol": 0.1,
                                 "learning_rate": "adaptive", "n_iter_no_change": 1},
    "early stopping, in order": {"early_stopping": True, "shuffle": False},
    "nearly all aside": {"early_stopping": True, "validation_fraction": 0.97},
    "early stopping, lbfgs": {"early_stopping": True, "solver": "lbfgs", "max_iter": 5},
    "in order": {"shuffle": False},
    "batches of 1": {"batch_size": 1, "max_iter": 2},
    "batches of 7": {"batch_size": 7, "max_iter": 5},
    "clipped batch": {"batch_size": 1000},
    "a batch of all": {"batch_size": 442},
    "a number of columns": {"hidden_layer_sizes": 5},
    "an array of columns": {"hidden_layer_sizes": np.array([4, 3])},
    "three layers": {"hidden_layer_sizes": [4, 3, 2], "activation": "tanh"},
    "max_fun": {"solver": "lbfgs", "max_fun": 4},
    "NumPy's numbers": {"max_iter": np.int64(3), "alpha": np.float32(0.1),
                        "early_stopping": np.bool_(True), "random_state": np.int32(5)},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize(("name", "task"), [("iris", "classes"), ("diabetes", "scaled")],
                         ids=str)
def test_every_option(name, task, options):
    kind, X, y = problem(name, task)
    agree(*both(kind, fitting(X, y), **{"max_iter": 40} | options))


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(("name", "task"), [("iris", "classes"), ("diabetes", "scaled")],
                         ids=str)
def test_no_hidden_layers(name, task, activation):
    kind, X, y = problem(name, task)
    agree(*both(kind, fitting(X, y), hidden_layer_sizes=(), activation=activation))


@settings(max_examples=25)
@given(st.fixed_dictionaries({
    "solver": st.sampled_from(["sgd", "adam"]),
    "activation": st.sampled_from(ACTIVATIONS),
    "hidden_layer_sizes": st.lists(st.integers(1, 9), min_size=1, max_size=3),
    "batch_size": st.sampled_from(["auto", 1, 2, 13, 59, 60, 61]),
    "alpha": st.sampled_from([0.0, 1e-4, 1.0]),
    "learning_rate_init": st.sampled_from([1e-4, 1e-2]),
    "early_stopping": st.booleans(), "shuffle": st.booleans(),
    "n_iter_no_change": st.integers(1, 4), "tol": st.sampled_from([0.0, 1e-4, 0.1]),
    "random_state": st.integers(0, 2**32 - 1),
}), st.sampled_from(["classes", "labels", "binary", "number", "numbers"]), st.booleans())
def test_any_options_together(options, task, weighted):
    X, y = IRIS[0][::2].copy(), IRIS[1][::2]
    targets = {"classes": y, "labels": LABELS[::2], "binary": y > 0, "number": X[:, 0] + y,
               "numbers": X[:, :2] * X[:, 2:]}
    weights = {"sample_weight": np.linspace(0.5, 2, len(X))} if weighted else {}
    kind = "regressor" if task.startswith("number") else "classifier"
    agree(*both(kind, fitting(X, targets[task], **weights), max_iter=6, **options))


def test_saturated_probabilities():
    """scikit-learn keeps probabilities this side of 0 and 1 in the loss."""
    agree(*both("classifier", fitting(*IRIS), learning_rate_init=10.0))


def test_saturated_probabilities_of_raw_data():
    """scikit-learn's log(1 - p) loses digits where p is almost 1."""
    X, y = sklearn.datasets.load_breast_cancer(return_X_y=True)
    agree(*both("classifier", fitting(X, y)), tolerance=1e-4)


WEIGHTS = {
    "positive": np.random.default_rng(0).exponential(size=442) + 0.01,
    "some zero": np.random.default_rng(0).exponential(size=442)
                 * (np.random.default_rng(1).random(442) > 0.4),
    "whole": np.arange(442) % 3 + 1,
}


@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("options", [{"solver": "sgd"}, {"batch_size": 33},
                                     {"early_stopping": True}, {"solver": "lbfgs", "max_iter": 8}],
                         ids=str)
@pytest.mark.parametrize("task", ["classes", "labels", "scaled", "numbers", "counts"])
def test_sample_weight(task, options, weights):
    kind, X, y = problem("iris" if task in ("classes", "labels") else "diabetes", task)
    loss = {"loss": "poisson", "learning_rate_init": 1e-5} if task == "counts" else {}
    weights = weights[: len(X)]
    agree(*both(kind, fitting(X, y, sample_weight=weights), **options, **loss))


@pytest.mark.parametrize("weights", [2.5, WEIGHTS["positive"][:150].tolist(),
                                     WEIGHTS["positive"][:150].astype(np.float32)],
                         ids=["one for all", "list", "float32"])
def test_kinds_of_sample_weight(weights):
    agree(*both("classifier", fitting(*IRIS, sample_weight=weights)))


TARGETS = {
    "text": NAMES, "objects": NAMES.astype(object), "bool": IRIS[1] > 0, "float": IRIS[1] - 1.0,
    "list": IRIS[1].tolist(), "series": pd.Series(IRIS[1], index=range(150, 0, -1)),
    "category": pd.Series(pd.Categorical(NAMES)), "Int64": pd.Series(IRIS[1]).astype("Int64"),
    "string": pd.Series(NAMES).astype("string"), "column": IRIS[1][:, None],
    "frame": pd.DataFrame({"t": NAMES}), "one class": np.zeros(150),
    "two names": np.where(IRIS[1] > 0, "yes", "no"), "-1 and 1": np.where(IRIS[1] > 0, 1, -1),
    "many": np.arange(150) % 50, "huge": IRIS[1] * 10**17, "labels": LABELS,
    "bool labels": LABELS > 0, "frame of labels": pd.DataFrame(LABELS),
    "sparse labels": scipy.sparse.csr_matrix(LABELS), "one label": LABELS[:, :1],
    "constant label": np.c_[LABELS, LABELS[:, 0] * 0],
}


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("y", TARGETS.values(), ids=TARGETS)
def test_targets_of_a_classifier(y, early_stopping):
    X = IRIS[0]
    truth, model = both("classifier", fitting(X, y), early_stopping=early_stopping)
    agree(truth, model)
    assert model.classes_.dtype == truth.classes_.dtype
    assert (model.classes_ == truth.classes_).all()
    ours, theirs = model.predict(X), truth.predict(X)
    assert (type(ours), ours.dtype, ours.shape) == (type(theirs), theirs.dtype, theirs.shape)
    assert not (ours != theirs).sum()
    for method in ("predict_proba", "predict_log_proba"):
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(getattr(model, method)(X), getattr(truth, method)(X),
                                       rtol=1e-9)
    assert model.score(X, y) == truth.score(X, y)
    assert model.score(X, y, np.arange(150)) == pytest.approx(truth.score(X, y, np.arange(150)))


@pytest.mark.parametrize("y", [IRIS[1], IRIS[1].tolist(), pd.Series(IRIS[1]), IRIS[1][:, None],
                               pd.DataFrame({"a": IRIS[1], "b": 2.5}), np.ones(150),
                               np.c_[np.ones(150), IRIS[1]], IRIS[1].astype(object)],
                         ids=["int", "list", "series", "column", "frame", "constant",
                              "one constant", "objects"])
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"loss": "poisson"}], ids=str)
def test_targets_of_a_regressor(y, options):
    truth, model = both("regressor", fitting(IRIS[0], y), **options)
    agree(truth, model)
    ours, theirs = model.predict(IRIS[0]), truth.predict(IRIS[0])
    assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert model.score(IRIS[0], y) == pytest.approx(truth.score(IRIS[0], y), rel=1e-9)


NUMBERS = np.where(np.abs(IRIS[0][:, :3]) > 0.6, IRIS[0][:, :3], 0)


@quiet
@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"batch_size": 40},
                                     {"solver": "lbfgs", "max_iter": 5}], ids=str)
@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_array", "lil_array", "dok_array",
                                  "bsr_array"])
def test_sparse_targets_of_a_regressor(form, options):
    """As scikit-learn's fit of the same sparse targets, and our own of the dense ones."""
    y = getattr(scipy.sparse, form)(NUMBERS)
    truth, model = both("regressor", fitting(IRIS[0], y), **options)
    agree(truth, model)
    dense = fb.MLPRegressor(**SMALL | options).fit(IRIS[0], NUMBERS)
    assert (parameters(model) == parameters(dense)).all()
    assert model.predict(IRIS[0]).shape == (150, 3)


@quiet
@pytest.mark.parametrize("y", [scipy.sparse.csr_array(NUMBERS.astype("f4")),
                               scipy.sparse.csr_array((3 * NUMBERS).astype(int)),
                               scipy.sparse.coo_array(NUMBERS[:, 0])],
                         ids=["float32", "int", "one dimension"])
def test_kinds_of_sparse_targets(y):
    agree(*both("regressor", fitting(IRIS[0], y)))
    agree(*both("regressor", fitting(ROWS["csr"], y, sample_weight=np.ones(150))))


@quiet
def test_sparse_targets_where_scikit_learn_takes_none():
    y = scipy.sparse.csr_array(NUMBERS)
    with pytest.raises(TypeError):
        neural_network.MLPRegressor(**SMALL, early_stopping=True).fit(IRIS[0], y)
    with pytest.raises(np.linalg.LinAlgError):
        neural_network.MLPRegressor(**SMALL).fit(IRIS[0], scipy.sparse.csr_matrix(y))
    found = fb.MLPRegressor(**SMALL).fit(IRIS[0], scipy.sparse.csr_matrix(y))
    agree(neural_network.MLPRegressor(**SMALL).fit(IRIS[0], y), found)
    for options, arguments in (({"early_stopping": True}, {}),
                               ({}, {"X_val": IRIS[0], "y_val": y})):
        sparse, dense = (fb.MLPRegressor(**SMALL | options).fit(IRIS[0], targets, **arguments)
                         for targets in (y, NUMBERS))
        assert (parameters(sparse) == parameters(dense)).all()
        assert sparse.validation_scores_ == dense.validation_scores_


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_sparse_column_is_refused_as_in_scikit_learn(kind):
    column = scipy.sparse.csr_array(LABELS[:, :1])
    for estimator in ESTIMATORS[kind]:
        with pytest.raises(TypeError, match="Sparse data was passed for y, but dense data is"):
            estimator(**SMALL).fit(IRIS[0], column)


@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("form", ["csr_array", "csc_array", "coo_array", "lil_array"])
def test_sparse_labels(form, early_stopping):
    y = getattr(scipy.sparse, form)(LABELS)
    truth, model = both("classifier", fitting(IRIS[0], y), early_stopping=early_stopping)
    agree(truth, model)
    ours, theirs = model.predict(IRIS[0]), truth.predict(IRIS[0])
    assert type(ours) is type(theirs)
    assert not (ours != theirs).sum()


X_SPARSE = np.where(np.abs(IRIS[0]) > 0.6, IRIS[0], 0)


def untidy():
    """Rows out of order, every number in two halves, and some zeros in plain sight."""
    X = scipy.sparse.csr_matrix(X_SPARSE)
    X.data[::7] = 0
    places = np.concatenate([np.repeat(np.arange(a, b)[::-1], 2)
                             for a, b in zip(X.indptr, X.indptr[1:], strict=False)])
    return scipy.sparse.csr_matrix((X.data[places] / 2, X.indices[places], 2 * X.indptr), X.shape)


def wide_indices():
    X = scipy.sparse.csr_matrix(X_SPARSE)
    X.indices, X.indptr = X.indices.astype(np.int64), X.indptr.astype(np.int64)
    return X


ROWS = {
    "csr": scipy.sparse.csr_matrix(X_SPARSE), "csc": scipy.sparse.csc_matrix(X_SPARSE),
    "csr_array": scipy.sparse.csr_array(X_SPARSE), "coo": scipy.sparse.coo_array(X_SPARSE),
    "lil": scipy.sparse.lil_array(X_SPARSE), "untidy": untidy(), "wide": wide_indices(),
    "whole csr": scipy.sparse.csr_matrix(X_SPARSE).astype(int),
    "Fortran": np.asfortranarray(IRIS[0]), "strided": np.repeat(IRIS[0], 2, 0)[::2],
    "reversed": IRIS[0][::-1], "list": IRIS[0].tolist(), "int": (3 * IRIS[0]).astype(int),
    "bool": IRIS[0] > 0, "objects": IRIS[0].astype(object), "big-endian": IRIS[0].astype(">f8"),
    "float16": IRIS[0].astype(np.float16), "read-only": np.frombuffer(
        IRIS[0].tobytes()).reshape(IRIS[0].shape),
    "frame": pd.DataFrame(IRIS[0], columns=list("abcd")), "numbered frame": pd.DataFrame(IRIS[0]),
    "Int64": pd.DataFrame((3 * IRIS[0]).round()).astype("Int64"),
}


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS)
def test_kinds_of_rows(X, solver):
    options = {"max_iter": 8, "early_stopping": solver == "sgd", "batch_size": 41}
    truth, model = both("classifier", fitting(X, IRIS[1]), solver=solver, **options)
    agree(truth, model)
    ours, theirs = model.predict_proba(X), truth.predict_proba(X)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert getattr(model, "feature_names_in_", None) is None or (
        model.feature_names_in_ == truth.feature_names_in_).all()
    assert hasattr(model, "feature_names_in_") == hasattr(truth, "feature_names_in_")


@quiet
@pytest.mark.parametrize("X", ROWS.values(), ids=ROWS)
def test_kinds_of_rows_to_predict(X):
    truth, model = both("regressor", fitting(IRIS[0], IRIS[1]))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "X has feature names")
        ours, theirs = model.predict(X), truth.predict(X)
    assert ours.dtype == theirs.dtype
    np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("convert", [np.asarray, scipy.sparse.csr_matrix])
def test_float32(convert, options):
    X = convert(data("breast_cancer")[0].astype(np.float32))
    truth, model = both("classifier", fitting(X, data("breast_cancer")[1]), **options)
    agree(truth, model, 1e-3)
    assert model.predict_proba(X).dtype == truth.predict_proba(X).dtype == np.float32
    np.testing.assert_allclose(model.predict_proba(X), truth.predict_proba(X), atol=1e-4)


@quiet
def test_float32_by_lbfgs():
    """scikit-learn's weights are float64 after that."""
    X, y = data("breast_cancer")
    X = X.astype(np.float32)
    truth, model = both("classifier", fitting(X, y), solver="lbfgs", max_iter=8)
    assert difference(model, truth) < 1e-3
    assert parameters(model).dtype == model.predict_proba(X).dtype == np.float32


@pytest.mark.parametrize("options", [
    {}, {"shuffle": False}, {"solver": "lbfgs"}, {"early_stopping": True}, {"batch_size": 10},
], ids=str)
@pytest.mark.parametrize("y", [IRIS[1], IRIS[1] > 0, LABELS], ids=["classes", "binary", "labels"])
def test_random_states_are_left_alike(options, y):
    def state(estimator, random_state):
        estimator.set_params(random_state=random_state).fit(IRIS[0], y)
        if random_state is None:
            return np.random.get_state()  # noqa: NPY002
        return random_state.get_state()

    for own in (True, False):
        states = []
        for estimator in ESTIMATORS["classifier"]:
            np.random.seed(3)  # noqa: NPY002
            random_state = np.random.RandomState(4) if own else None
            states.append(warned(estimator(**SMALL | options),
                                 functools.partial(state, random_state=random_state))[0])
        np.testing.assert_equal(states[1], states[0])


# Going on: warm starts and partial fits


@pytest.mark.parametrize("change", [{}, {"alpha": 1.0}, {"learning_rate_init": 0.1},
                                    {"solver": "sgd"}, {"max_iter": 3}, {"batch_size": 20},
                                    {"tol": 10.0}, {"n_iter_no_change": 2, "tol": 1.0}], ids=str)
@pytest.mark.parametrize("options", [
    {}, {"solver": "sgd", "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 3},
], ids=str)
def test_warm_start(options, change):
    def action(estimator):
        estimator.fit(*IRIS).set_params(**change).fit(*IRIS)

    agree(*both("classifier", action, warm_start=True, **options))


@quiet
def test_warm_start_by_lbfgs():
    X, y = data("digits")
    agree(*both("classifier", lambda e: e.fit(X, y).fit(X, y), solver="lbfgs", warm_start=True,
                max_iter=4))


@pytest.mark.parametrize("y", [IRIS[1] > 0, [0, 1, 3] * 50, [0, 1, 2, 3, 4] * 30])
@quiet
def test_warm_start_has_the_same_classes(y):
    model = fb.MLPClassifier(warm_start=True, **SMALL).fit(*IRIS)
    with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same"):
        model.fit(IRIS[0], y)


@quiet
def test_warm_start_with_early_stopping_keeps_the_best():
    X, y = IRIS
    model = fb.MLPClassifier(early_stopping=True, warm_start=True, learning_rate_init=0.02,
                             **SMALL)
    for rate in (0.02, 0.5, 0.5):
        model.set_params(learning_rate_init=rate).fit(X, y, X_val=X, y_val=y)
        assert model.score(X, y) == model.best_validation_score_ == max(model.validation_scores_)


PARTIAL = {
    "epochs": lambda e: [e.partial_fit(*IRIS, classes=[2, 1, 0]) for _ in range(4)],
    "chunks": lambda e: [e.partial_fit(IRIS[0][i::9], IRIS[1][i::9], classes=[0, 1, 2])
                         for i in range(9)],
    "one class at a time": lambda e: [
        e.partial_fit(IRIS[0][i : i + 50], IRIS[1][i : i + 50], classes=[0, 1, 2])
        for i in (0, 50, 100)],
    "rows": lambda e: [e.partial_fit(IRIS[0][i : i + 1], IRIS[1][i : i + 1], classes=[0, 1, 2])
                       for i in range(0, 150, 11)],
    "classes to come": lambda e: e.partial_fit(*IRIS, classes=range(5)).partial_fit(*IRIS),
    "text": lambda e: e.partial_fit(IRIS[0], NAMES, classes=NAMES).partial_fit(IRIS[0], NAMES),
    "labels": lambda e: e.partial_fit(IRIS[0], LABELS, classes=[0, 1, 2]),
    "weights": lambda e: e.partial_fit(*IRIS, WEIGHTS["positive"][:150], [0, 1, 2]),
    "after fit": lambda e: e.fit(*IRIS).partial_fit(*IRIS).partial_fit(*IRIS),
    "fit after": lambda e: e.partial_fit(*IRIS, classes=range(4)).fit(*IRIS),
    "one class": lambda e: e.partial_fit(IRIS[0], IRIS[1] * 0, classes=[0]),
    "another rate": lambda e: [e.fit(*IRIS), e.set_params(learning_rate_init=0.5, momentum=0.1),
                               e.partial_fit(*IRIS), e.partial_fit(*IRIS)],
    "sparse": lambda e: [e.partial_fit(ROWS["csr"], IRIS[1], classes=[0, 1, 2]),
                         e.partial_fit(*IRIS)],
}


@pytest.mark.parametrize("options", [
    {}, {"solver": "sgd"}, {"solver": "sgd", "learning_rate": "invscaling"},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
    {"batch_size": 40, "shuffle": False},
], ids=str)
@pytest.mark.parametrize("action", PARTIAL.values(), ids=PARTIAL)
def test_partial_fit(action, options):
    agree(*both("classifier", action, **options))


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_partial_fit_of_a_regressor_with_one_random_state(solver):
    _, X, y = problem("diabetes", "scaled")

    def action(estimator):
        estimator.set_params(random_state=np.random.RandomState(2))
        for i in range(6):
            estimator.partial_fit(X[i::3], y[i::3], WEIGHTS["positive"][i::3])

    agree(*both("regressor", action, solver=solver, batch_size=50))


@quiet
def test_refitting_forgets():
    X, y = IRIS
    model = fb.MLPClassifier(**SMALL).fit(X, y)
    first = parameters(model)
    model.fit(X[:, :2], y > 0).fit(X, y)
    assert (parameters(model) == first).all()


# What it says


def output(estimator):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        warned(estimator, fitting(*IRIS))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("options", [
    {}, {"solver": "sgd", "early_stopping": True, "n_iter_no_change": 2}, {"tol": 1.0},
    {"verbose": 10, "solver": "sgd", "learning_rate": "adaptive", "tol": 1.0},
], ids=str)
def test_verbose_lines(options):
    truth, model = (output(estimator(**SMALL | {"verbose": True} | options))
                    for estimator in ESTIMATORS["classifier"])
    assert len(model) == len(truth)
    for ours, theirs in zip(model, truth, strict=True):
        if theirs.startswith(("Iteration", "Validation score:")):
            assert ours == theirs
        else:
            assert ("learning rate" in ours) == ("learning rate" in theirs)
            assert ours.endswith("Stopping.") == theirs.endswith("Stopping.")


@quiet
@pytest.mark.parametrize(("verbose", "bars"), [(False, 0), (True, 3)])
def test_a_progress_bar_when_verbose(monkeypatch, capsys, verbose, bars):
    made = []

    def bar(**options):
        made.append(options["total"])
        return tqdm_bar(**options | {"disable": True})

    tqdm_bar = tqdm.auto.tqdm
    monkeypatch.setattr(tqdm.auto, "tqdm", bar)
    fb.MLPClassifier(**SMALL | {"max_iter": 3}, verbose=verbose, batch_size=40).fit(*IRIS)
    assert made == [4] * bars
    assert capsys.readouterr().err == ""


def test_warnings():
    X, y = IRIS
    model = fb.MLPClassifier(**SMALL)
    with pytest.warns(ConvergenceWarning, match=r"^Stochastic Optimizer: Maximum iterations \(20\)"
                      r" reached and the optimization hasn't converged yet\.$") as caught:
        model.fit(X, y)
    assert caught[0].filename == __file__
    with (pytest.warns(ConvergenceWarning),
          pytest.warns(DataConversionWarning, match="A column-vector y was passed")):
        model.fit(X, y[:, None])
    with (pytest.warns(ConvergenceWarning),
          pytest.warns(UserWarning, match="Got `batch_size` less than 1 or larger than sample")):
        clone(model).set_params(batch_size=151).fit(X, y)
    with pytest.warns(ConvergenceWarning, match="lbfgs .*converge after 20 iteration"):
        clone(model).set_params(solver="lbfgs", tol=0.0).fit(X, y)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        clone(model).set_params(tol=9.0).fit(ROWS["frame"], y).predict(X)


def test_no_warning_where_it_stopped():
    for options in ({"tol": 1.0}, {"tol": 1.0, "max_iter": 12}, {"n_iter_no_change": 1,
                    "max_iter": 400, "early_stopping": True}):
        fb.MLPClassifier(**SMALL | {"random_state": 0} | options).fit(*IRIS)


def test_interrupted():
    def interrupt(training):
        if training.epoch == 4:
            raise KeyboardInterrupt

    model = fb.MLPClassifier(callbacks=[interrupt], **SMALL)
    with pytest.warns(UserWarning, match="Training interrupted by user"):
        model.fit(*IRIS)
    assert len(model.loss_curve_) == model.n_iter_ == 5
    truth, _ = warned(neural_network.MLPClassifier(**SMALL | {"max_iter": 5}), fitting(*IRIS))
    assert difference(model, truth) < 1e-6


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_same_interface(kind):
    theirs, ours = ESTIMATORS[kind]
    for name in ("__init__", "fit", "partial_fit", "predict", "score", "set_params"):
        mine = inspect.signature(getattr(ours, name)).parameters
        for place, parameter in enumerate(
                inspect.signature(getattr(theirs, name)).parameters.values()):
            assert mine[parameter.name] == parameter
            if parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                assert list(mine)[place] == parameter.name
        new = set(mine) - set(inspect.signature(getattr(theirs, name)).parameters)
        assert all(mine[name].kind is inspect.Parameter.KEYWORD_ONLY for name in new)
    public = {name for name in dir(theirs()) if not name.startswith("_")}
    assert public <= set(dir(ours()))
    assert theirs().get_params().items() <= ours().get_params().items()
    assert get_tags(ours()) == get_tags(theirs())
    assert repr(ours(solver="sgd", alpha=3)) == repr(theirs(solver="sgd", alpha=3))
    for solver in ("sgd", "lbfgs"):
        truth, model = both(kind, fitting(*IRIS), solver=solver)
        assert {name for name in vars(truth) if not name.startswith("_")} <= (
            set(vars(model)) | {"loss"})
        assert hasattr(model, "loss_curve_") == hasattr(truth, "loss_curve_")


# scikit-learn's own checks


ALIKE = {"check_sample_weight_equivalence_on_dense_data",
         "check_sample_weight_equivalence_on_sparse_data"}


QUICK = {"hidden_layer_sizes": (30,), "max_iter": 80, "learning_rate_init": 0.02}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("options", [
    {}, QUICK | {"solver": "lbfgs", "alpha": 1.0}, QUICK | {"solver": "sgd"},
    QUICK | {"solver": "adamw", "activation": ("gelu",), "clip_norm": 10.0},
], ids=["default", "lbfgs", "sgd", "adamw"])
def test_check_estimator(kind, options):
    check_estimator(ESTIMATORS[kind][1](**options), on_fail="raise")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("options", [
    QUICK | {"early_stopping": True, "validation_fraction": 0.5},
    QUICK | {"dropout": 0.1, "dtype": "float32"},
], ids=["early stopping", "dropout and float32"])
def test_check_estimator_but_for_repeated_rows(kind, options):
    """Rows set aside or left out by chance, or rounded to float32, are not the repeated rows."""
    results = check_estimator(ESTIMATORS[kind][1](**options), on_fail=None)
    assert {r["check_name"] for r in results if r["status"] == "failed"} <= ALIKE


# With the rest of scikit-learn


@quiet
def test_cross_validation_and_search():
    X, y = data("breast_cancer")
    found = []
    for estimator in ESTIMATORS["classifier"]:
        pipeline = make_pipeline(StandardScaler(), estimator(**SMALL | {"max_iter": 5}))
        scores = cross_val_score(pipeline, X, y, cv=3)
        grid = {"mlpclassifier__alpha": [1e-4, 30.0], "mlpclassifier__batch_size": [20, 200]}
        with joblib.parallel_config("threading"):
            search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2, scoring="neg_log_loss")
            search.fit(X, y)
        found.append([scores, search.best_params_, search.cv_results_["mean_test_score"]])
    np.testing.assert_allclose(found[1][0], found[0][0])
    assert found[1][1] == found[0][1]
    np.testing.assert_allclose(found[1][2], found[0][2], rtol=1e-9)


@quiet
def test_search_over_what_is_new():
    model = fb.MLPClassifier(**SMALL, callbacks=[fb.EarlyStopping(monitor="loss")])
    search = GridSearchCV(model, {"activation": [("gelu",), "relu"], "dropout": [0.0, 0.3],
                                  "class_weight": [None, "balanced"]}, cv=2).fit(*IRIS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    with joblib.parallel_config("threading"):
        scores = joblib.Parallel(n_jobs=4)(joblib.delayed(cross_val_score)(clone(model), *IRIS)
                                           for _ in range(8))
    assert len({each.tobytes() for each in scores}) == 1


@quiet
def test_ensembles_and_calibration():
    X, y = IRIS
    _, X_reg, y_reg = problem("diabetes", "scaled")
    found = []
    for classifier, regressor in zip(*ESTIMATORS.values(), strict=True):
        members = [(name, classifier(**SMALL, activation=name)) for name in ("tanh", "relu")]
        voting = VotingClassifier(members, voting="soft").fit(X, y)
        calibrated = CalibratedClassifierCV(classifier(**SMALL), cv=3).fit(X, y)
        regressors = VotingRegressor([("a", regressor(**SMALL))]).fit(X_reg, y_reg)
        found.append([voting.predict_proba(X), calibrated.predict_proba(X),
                      regressors.predict(X_reg)])
    for ours, theirs in zip(found[1], found[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@quiet
def test_pipeline_of_frames():
    X = ROWS["frame"]
    plain = make_pipeline(StandardScaler(), fb.MLPClassifier(**SMALL)).fit(IRIS[0], NAMES)
    pipeline = clone(plain).set_output(transform="pandas").fit(X, NAMES)
    assert pipeline[-1].feature_names_in_.tolist() == list("abcd")
    assert (pipeline.predict(X) == plain.predict(IRIS[0])).all()
    with pytest.raises(ValueError, match="feature names should match"):
        pipeline[-1].predict(X[list("dcba")])


@quiet
def test_metadata_routing():
    X, y, weights = *IRIS, WEIGHTS["some zero"][:150]
    with sklearn.config_context(enable_metadata_routing=True):
        model = fb.MLPClassifier(**SMALL).set_fit_request(
            sample_weight=True, X_val=True, y_val=True).set_score_request(sample_weight=True)
        assert model.set_partial_fit_request(classes=True, sample_weight=True) is model
        pipeline = make_pipeline(StandardScaler().set_fit_request(sample_weight=False), model)
        pipeline.fit(X, y, sample_weight=weights, X_val=X, y_val=y)
        search = GridSearchCV(fb.MLPClassifier(**SMALL).set_fit_request(sample_weight=True)
                              .set_score_request(sample_weight=True), {"alpha": [1e-4]}, cv=2)
        search.fit(X, y, sample_weight=weights)
    direct = fb.MLPClassifier(**SMALL).fit(X, y, weights)
    assert difference(pipeline[-1], direct) < 1e-9
    assert len(pipeline[-1].validation_scores_) == 20
    assert difference(search.best_estimator_, direct) == 0


@quiet
@pytest.mark.parametrize("copied", [
    lambda m: pickle.loads(pickle.dumps(m)), copy.deepcopy,
    lambda m: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(m)))),
], ids=["pickle", "deepcopy", "twice"])
@pytest.mark.parametrize("options", [
    {"solver": "sgd"}, {"solver": "adam"}, {"solver": "adamw", "weight_decay": 0.1},
    {"dropout": 0.3}, {"early_stopping": True, "n_iter_no_change": 2},
    {"learning_rate": fb.schedules.Exponential(0.1, 0.5)},
    {"random_state": np.random.RandomState(4)},
    {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
], ids=lambda options: ", ".join(options))
def test_copies_go_on_with_the_same_bits(options, copied):
    model = fb.MLPClassifier(**SMALL | options, batch_size=40)
    for _ in range(3):
        model.partial_fit(*IRIS, classes=[0, 1, 2])
    other = copied(model)
    assert (other.predict_proba(IRIS[0]) == model.predict_proba(IRIS[0])).all()
    for each in (model, other):
        for _ in range(4):
            each.partial_fit(*IRIS)
    assert parameters(other).tobytes() == parameters(model).tobytes()
    assert other.loss_curve_ == model.loss_curve_
    assert difference(clone(model).fit(*IRIS), clone(model).fit(*IRIS)) == 0


@quiet
def test_a_copy_is_a_copy():
    model = fb.MLPClassifier(**SMALL).fit(*IRIS)
    before = parameters(model)
    for other in (copy.deepcopy(model), copy.copy(model), pickle.loads(pickle.dumps(model))):
        other.partial_fit(*IRIS)
        assert difference(other, model) > 0
        assert (parameters(model) == before).all()


@quiet
@pytest.mark.parametrize("mmap_mode", [None, "r"])
def test_joblib(tmp_path, mmap_mode):
    model = fb.MLPClassifier(**SMALL).fit(*IRIS)
    joblib.dump(model, tmp_path / "model")
    other = joblib.load(tmp_path / "model", mmap_mode=mmap_mode)
    assert (other.predict_proba(IRIS[0]) == model.predict_proba(IRIS[0])).all()
    model.partial_fit(*IRIS)
    other.partial_fit(*IRIS)
    assert (parameters(other) == parameters(model)).all()


@quiet
def test_predictions_from_many_threads_at_once():
    model = fb.MLPClassifier(**SMALL).fit(*IRIS)
    state, expected = pickle.dumps(model), model.predict_proba(IRIS[0])
    for _ in range(20):
        other, barrier, found = pickle.loads(state), threading.Barrier(6), []

        def predict(other=other, barrier=barrier, found=found):
            barrier.wait()
            found.append(other.predict_proba(IRIS[0]))

        workers = [threading.Thread(target=predict) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 6
        assert all((each == expected).all() for each in found)
        other.coefs_[1][...] = 0
        assert not (other.predict_proba(IRIS[0]) == expected).all()


BY_HAND = {
    "an element": lambda e: e.coefs_.__setitem__(0, 2 * e.coefs_[0]),
    "in place": lambda e: e.coefs_[1].__imul__(-3),
    "a bias in place": lambda e: e.intercepts_[0].__setitem__(0, 5.0),
    "the list": lambda e: setattr(e, "coefs_", [2 * W for W in e.coefs_]),
    "a tuple": lambda e: setattr(e, "intercepts_", tuple(b + 1 for b in e.intercepts_)),
    "Fortran": lambda e: e.coefs_.__setitem__(0, np.asfortranarray(2 * e.coefs_[0])),
    "float32": lambda e: e.coefs_.__setitem__(0, e.coefs_[0].astype(np.float32)),
    "whole numbers": lambda e: e.coefs_.__setitem__(0, np.ones(e.coefs_[0].shape, int)),
    "fewer columns": lambda e: [e.coefs_.__setitem__(0, e.coefs_[0][:, :4]),
                                e.coefs_.__setitem__(1, e.coefs_[1][:4]),
                                e.intercepts_.__setitem__(0, e.intercepts_[0][:4])],
}


@quiet
@pytest.mark.parametrize("again", [False, True], ids=["", "after predictions"])
@pytest.mark.parametrize("change", BY_HAND.values(), ids=BY_HAND)
def test_weights_set_by_hand(change, again):
    truth, model = both("classifier", fitting(*IRIS))
    for each in (truth, model):
        if again:
            each.predict(IRIS[0])
        change(each)
    np.testing.assert_allclose(model.predict_proba(IRIS[0]), truth.predict_proba(IRIS[0]),
                               rtol=1e-6)


@quiet
@pytest.mark.parametrize("change", list(BY_HAND.values())[:4], ids=list(BY_HAND)[:4])
def test_training_goes_on_from_weights_set_by_hand(change):
    def action(estimator):
        estimator.fit(*IRIS)
        change(estimator)
        estimator.partial_fit(*IRIS)

    agree(*both("classifier", action))


def into(name, i, value):
    return lambda e: getattr(e, name).__setitem__(i, value)


WHOLE = np.arange(28).reshape(4, 7) % 5 - 2
OTHER_WEIGHTS = {
    "int": into("coefs_", 0, WHOLE), "int8": into("coefs_", 0, WHOLE.astype(np.int8)),
    "bool": into("coefs_", 0, WHOLE > 0), "float16": into("coefs_", 0, WHOLE.astype("f2") / 3),
    "all float16": lambda e: [setattr(e, name, [a.astype("f2") for a in getattr(e, name)])
                              for name in ("coefs_", "intercepts_")],
    "big-endian": into("coefs_", 0, (WHOLE / 3).astype(">f8")),
    "longdouble": into("coefs_", 0, (WHOLE / 3).astype(np.longdouble)),
    "int biases": into("intercepts_", 0, np.arange(7)),
    "one bias for all": into("intercepts_", 0, 3),
}


@quiet
@pytest.mark.parametrize("change", OTHER_WEIGHTS.values(), ids=OTHER_WEIGHTS)
def test_weights_of_other_dtypes(change):
    truth, model = both("classifier", fitting(*IRIS))
    change(truth)
    change(model)
    np.testing.assert_allclose(model.predict_proba(IRIS[0]), truth.predict_proba(IRIS[0]),
                               rtol=1e-9)
    model.set_params(warm_start=True).fit(*IRIS)
    assert parameters(model).dtype == np.float64


MISFITS = {
    "one dimension": (into("coefs_", 0, np.ones(4)), r"coefs_\[0\]: expected shape \(4, any\)"),
    "three": (into("coefs_", 0, np.ones((4, 7, 1))), r"coefs_\[0\]: expected shape \(4, any\)"),
    "other columns of X": (into("coefs_", 0, np.ones((3, 7))), r"coefs_\[0\]: expected shape"),
    "columns and biases": (into("coefs_", 0, np.ones((4, 5))),
                           r"intercepts_\[0\]: expected shape \(5,\).* coefs_\[0\]"),
    "no columns": (into("coefs_", 0, np.ones((4, 0))), r"coefs_\[0\]: expected at least one col"),
    "no chain": (into("coefs_", 1, np.ones((6, 3))), r"coefs_\[1\]: expected shape \(7, 3\)"),
    "other outputs": (into("coefs_", 1, np.ones((7, 2))), r"coefs_\[1\]: expected shape \(7, 3\)"),
    "text": (into("coefs_", 0, "W"), r"coefs_\[0\]: expected an array of real numbers"),
    "None": (into("coefs_", 1, None), r"coefs_\[1\]: expected an array of real numbers"),
    "objects": (into("coefs_", 0, np.full((4, 7), None)), r"coefs_\[0\]: .* real numbers"),
    "complex": (into("coefs_", 0, np.full((4, 7), 1j)), r"coefs_\[0\]: .* real numbers"),
    "ragged": (into("coefs_", 0, [[1], [1, 2]]), r"coefs_\[0\]: expected an array of numbers"),
    "sparse": (into("coefs_", 0, scipy.sparse.eye_array(4, 7)), r"coefs_\[0\]: expected a dense"),
    "masked": (into("coefs_", 0, np.ma.masked_less(WHOLE, 0)), r"coefs_\[0\]: .*no masked"),
    "a column of biases": (into("intercepts_", 0, np.ones((7, 1))), r"intercepts_\[0\]: .*shape"),
    "few biases": (into("intercepts_", 0, np.ones(6)), r"intercepts_\[0\]: expected shape \(7,\)"),
    "text for biases": (into("intercepts_", 1, "b"), r"intercepts_\[1\]: .* real numbers"),
    "None for biases": (into("intercepts_", 0, None), r"intercepts_\[0\]: .* real numbers"),
    "a short list": (lambda e: e.coefs_.pop(), "coefs_: expected 2 arrays.* got 1"),
    "a long list": (lambda e: e.coefs_.append(np.eye(3)), "coefs_: expected 2 arrays.* got 3"),
    "a short list of biases": (lambda e: e.intercepts_.pop(), "intercepts_: expected 2 .* got 1"),
    "two short lists": (lambda e: [e.coefs_.pop(), e.intercepts_.pop()], "coefs_: expected 2"),
    "no list": (lambda e: setattr(e, "coefs_", None), "coefs_: expected a list of 2 arrays"),
    "no list of biases": (lambda e: setattr(e, "intercepts_", 3), "intercepts_: expected a list"),
    "a dict": (lambda e: setattr(e, "coefs_", {0: e.coefs_[0]}), "coefs_: expected a list"),
    "deleted": (lambda e: delattr(e, "intercepts_"), "intercepts_: expected a list"),
}


@quiet
@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_are_named(change, message):
    model = fb.MLPClassifier(**SMALL, warm_start=True).fit(*IRIS)
    change(model)
    before = model.__dict__.copy()
    for action in (lambda e: e.predict(IRIS[0]), lambda e: e.to_network(), fitting(*IRIS),
                   lambda e: e.partial_fit(*IRIS)):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            action(model)
        assert model.__dict__ == before
    assert model.set_params(warm_start=False).fit(*IRIS).score(*IRIS) > 0.3


# What scikit-learn's have not


@quiet
@pytest.mark.parametrize("class_weight", [{0: 2, 1: 0.5}, {1: 5.0}, "balanced"], ids=str)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_class_weight(class_weight, options):
    X, y = IRIS[0][:120], IRIS[1][:120]
    weights = compute_sample_weight(class_weight, y)
    truth = neural_network.MLPClassifier(**SMALL | options | {"max_iter": 8})
    model = fb.MLPClassifier(class_weight=class_weight, **SMALL | options | {"max_iter": 8})
    agree(truth.fit(X, y, weights), model.fit(X, y))
    extra = np.linspace(1, 2, 120)
    agree(truth.fit(X, y, weights * extra), model.fit(X, y, extra))


@pytest.mark.parametrize("way", ["partial_fit", "X_val"])
@quiet
def test_class_weight_where_its_class_is_missing(way):
    X, y = IRIS
    some = y != 1
    model = fb.MLPClassifier(class_weight={1: 5.0}, **SMALL)
    if way == "X_val":
        model.fit(X, y, X_val=X[some], y_val=y[some])
        assert model.validation_scores_[-1] == model.score(X[some], y[some])
    else:
        model.partial_fit(X[some], y[some], classes=[0, 1, 2])
        plain = neural_network.MLPClassifier(**SMALL)
        assert difference(model, plain.partial_fit(X[some], y[some], classes=[0, 1, 2])) < 1e-6


def test_balanced_needs_all_of_y():
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial"):
        fb.MLPClassifier(class_weight="balanced").partial_fit(*IRIS, classes=[0, 1, 2])


PROBLEMS = {"classes": IRIS[1], "binary": IRIS[1] > 0, "text": NAMES, "labels": LABELS,
            "number": IRIS[0][:, 0] * IRIS[0][:, 1], "numbers": IRIS[0][:, :2] * 3}


def losses(model, X, y, weights=None):
    """The loss without its penalty, from scikit-learn's or NumPy's formula."""
    if not hasattr(model, "classes_"):
        squares = (np.reshape(y, (len(y), -1)) - model.predict(X).reshape(len(y), -1)) ** 2
        return np.average(squares, weights=weights, axis=0).mean() / 2
    P = model.predict_proba(X)
    if np.ndim(y) == 1:
        return log_loss(y, P, sample_weight=weights, labels=model.classes_)
    rows = -(y * np.log(P) + (1 - y) * np.log(1 - P)).sum(axis=1)
    return np.average(rows, weights=weights)


class Watch(fb.Callback):
    """The score and loss on the validation data after each epoch, by other means."""

    def __init__(self, X, y, weights):
        self.data, self.model, self.found = (X, y, weights), None, []

    def on_epoch_end(self, training):
        X, y, weights = self.data
        self.found.append((self.model.score(X, y, weights), losses(self.model, *self.data)))


@quiet
@pytest.mark.parametrize("weights", [None, np.linspace(0, 3, 75)], ids=["", "weighted"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("y", PROBLEMS.values(), ids=PROBLEMS)
def test_validation_data(y, early_stopping, weights):
    X = IRIS[0]
    estimator = ESTIMATORS["classifier" if y.dtype.kind != "f" else "regressor"][1]
    watch = Watch(X[1::2], y[1::2], weights)
    model = watch.model = estimator(**SMALL | {"max_iter": 12}, learning_rate_init=0.02,
                                    early_stopping=early_stopping, callbacks=[watch])
    model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2], sample_weight_val=weights)
    found = np.array(watch.found)
    np.testing.assert_allclose(model.validation_scores_, found[:, 0], rtol=1e-9)
    np.testing.assert_allclose(model.validation_loss_curve_, found[:, 1], rtol=1e-9)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.t_ == 75 * model.n_iter_
    if early_stopping:
        assert model.best_loss_ is None
        assert model.score(*watch.data) == pytest.approx(model.best_validation_score_)
    else:
        truth = type(model)(**SMALL | {"max_iter": 12}, learning_rate_init=0.02)
        assert difference(model, truth.fit(X[::2], y[::2])) == 0
        assert model.best_loss_ == min(model.loss_curve_)


@quiet
@pytest.mark.parametrize("convert", [scipy.sparse.csr_matrix, pd.DataFrame, np.ndarray.tolist,
                                     np.float32])
def test_validation_data_of_other_kinds(convert):
    X, y = X_SPARSE[::2], IRIS[1][::2]
    model = fb.MLPClassifier(**SMALL).fit(X, y, X_val=convert(X), y_val=y.tolist())
    assert model.validation_scores_[-1] == model.score(X, y)
    assert model.validation_loss_curve_[-1] == pytest.approx(losses(model, X, y))


def test_early_stopping_on_the_loss():
    X, y = data("breast_cancer")
    model = fb.MLPClassifier(early_stopping=True, monitor="loss", max_iter=400, random_state=0,
                             n_iter_no_change=5, tol=0, learning_rate_init=0.05, alpha=0)
    model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    curve = model.validation_loss_curve_
    assert model.n_iter_ == len(curve) == np.argmin(curve) + 7
    assert losses(model, X[1::2], y[1::2]) == pytest.approx(min(curve))
    assert losses(model, X[1::2], y[1::2]) < curve[-1]
    assert model.best_validation_score_ == max(model.validation_scores_)
    model.fit(X, y)
    assert model.t_ == 512 * model.n_iter_


@quiet
def test_validation_data_that_does_not_fit():
    X, y = IRIS
    for options, message in [
        ({"X_val": X}, "X_val and y_val: expected both or neither, got only X_val"),
        ({"y_val": y}, "X_val and y_val: expected both or neither, got only y_val"),
        ({"X_val": X[:, :3], "y_val": y}, "X has 3 features, but MLPClassifier is expecting 4"),
        ({"X_val": X, "y_val": y[:9]}, "inconsistent numbers of samples"),
        ({"X_val": X, "y_val": y + 1}, "`y` has classes not in `self.classes_`"),
        ({"X_val": X * np.nan, "y_val": y}, "Input X contains NaN"),
        ({"X_val": X, "y_val": y, "sample_weight_val": y[:3]}, "sample_weight.shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            fb.MLPClassifier(**SMALL).fit(X, y, **options)


@quiet
def test_dropout():
    def fit(**options):
        return parameters(fb.MLPClassifier(**SMALL | options).fit(*IRIS))

    assert (fit(dropout=0.5) == fit(dropout=0.5)).all()
    assert not (fit(dropout=0.5) == fit(dropout=0)).any()
    assert not (fit(dropout=0.5) == fit(dropout=0.4)).all()
    assert not (fit(dropout=0.5) == fit(dropout=0.5, random_state=2)).any()
    assert (fit(dropout=0.5, random_state=np.random.RandomState(1)) == fit(dropout=0.5)).all()
    model = fb.MLPClassifier(**SMALL, dropout=0.9).fit(*IRIS)
    assert (model.predict_proba(IRIS[0]) == model.predict_proba(IRIS[0])).all()
    layers = [type(layer).__name__ for layer in model.to_network().layers]
    assert layers == ["Dense", "ReLU", "Dropout", "Dense"]


def test_dropout_leaves_out_others_in_every_partial_fit():
    model = fb.MLPClassifier((40,), "tanh", solver="sgd", dropout=0.5, alpha=0, random_state=0)
    model.set_params(learning_rate=lambda epoch: 0.0).partial_fit(*IRIS, classes=[0, 1, 2])
    before = model.coefs_[0].copy()
    model.set_params(learning_rate=lambda epoch: 0.1)
    for _ in range(30):
        model.partial_fit(IRIS[0][:1], IRIS[1][:1])
    assert (model.coefs_[0] != before).all()


@quiet
@pytest.mark.parametrize("X", [IRIS[0], ROWS["csr"], IRIS[0].astype(np.float32)],
                         ids=["float64", "csr", "float32"])
@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_dtype(X, dtype):
    model = fb.MLPClassifier(**SMALL, dtype=dtype).fit(X, IRIS[1])
    assert {array.dtype for array in (*model.coefs_, *model.intercepts_)} == {np.dtype(dtype)}
    assert model.predict_proba(X).dtype == model.to_network().dtype == dtype
    plain = fb.MLPClassifier(**SMALL).fit(X.astype(dtype), IRIS[1])
    assert (parameters(model) == parameters(plain)).all()
    assert clone(model).get_params()["dtype"] is dtype


SOLVERS = ["sgd", "adam", "adamw"]


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_schedules(solver):
    options = SMALL | {"solver": solver, "batch_size": 40}
    plain = fb.MLPClassifier(**options, learning_rate_init=0.02).fit(*IRIS)
    for schedule in (lambda epoch: 0.02, fb.schedules.Constant(0.02)):
        model = fb.MLPClassifier(**options, learning_rate=schedule).fit(*IRIS)
        assert (parameters(model) == parameters(plain)).all()
    times = []
    model = fb.MLPClassifier(**options | {"max_iter": 2},
                             learning_rate=lambda epoch: times.append(epoch) or 0.1).fit(*IRIS)
    model.partial_fit(*IRIS, epochs=2).partial_fit(*IRIS)
    asked = sorted(set(times))
    assert asked == [i / 4 for i in range(20)]
    still = fb.MLPClassifier(**options | {"weight_decay": 0}, learning_rate=lambda epoch: 0.0)
    assert (parameters(still.fit(*IRIS)) == parameters(still.fit(*IRIS))).all()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "0.1"])
def test_schedules_that_give_no_rate(value):
    with pytest.raises((ValueError, TypeError), match="learning_rate"):
        fb.MLPClassifier(**SMALL, learning_rate=lambda epoch: value).fit(*IRIS)


def initial(estimator, X, y, **options):
    """What it is before the first step, and the loss it has then."""
    options = SMALL | {"max_iter": 1, "batch_size": len(X), "alpha": 0.3} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(learning_rate=lambda epoch: 0.0, **options).fit(X, y)


def gradients(model, X, delta):
    """Of a loss with this gradient by the outputs, through no hidden layer."""
    n = len(X)
    return X.T @ delta / n + model.alpha * model.coefs_[0] / n, delta.mean(axis=0)


@quiet
@pytest.mark.parametrize("clip_norm", [1e-3, 0.1, 1e9])
def test_clip_norm(clip_norm):
    X, y = IRIS
    options = {"hidden_layer_sizes": (), "alpha": 0.3, "batch_size": 150}
    model = initial(fb.MLPClassifier, X, y, **options)
    dW, db = gradients(model, X, model.predict_proba(X) - np.eye(3)[y])
    scale = min(1.0, clip_norm / np.sqrt((dW**2).sum() + (db**2).sum()))
    step = fb.MLPClassifier(**SMALL | options | {"max_iter": 1}, solver="sgd", momentum=0,
                            learning_rate_init=0.5, clip_norm=clip_norm).fit(X, y)
    np.testing.assert_allclose(step.coefs_[0], model.coefs_[0] - 0.5 * scale * dW, rtol=1e-9)
    np.testing.assert_allclose(step.intercepts_[0], model.intercepts_[0] - 0.5 * scale * db,
                               rtol=1e-9)


@quiet
def test_adamw():
    X, y = IRIS
    options = {"hidden_layer_sizes": (), "alpha": 0.3, "batch_size": 150}
    model = initial(fb.MLPClassifier, X, y, **options)
    W, b = model.coefs_[0], model.intercepts_[0]
    m, v = [np.zeros_like(W), np.zeros_like(b)], [np.zeros_like(W), np.zeros_like(b)]
    for t in range(1, 6):
        exp = np.exp(X @ W + b)
        model.coefs_[0] = W
        both_gradients = gradients(model, X, exp / exp.sum(axis=1, keepdims=True) - np.eye(3)[y])
        stepped = []
        for i, (p, g) in enumerate(zip((W, b), both_gradients, strict=True)):
            m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.95 * v[i] + 0.05 * g * g
            ratio = m[i] / (1 - 0.8**t) / (np.sqrt(v[i] / (1 - 0.95**t)) + 1e-4)
            stepped.append(p - 0.05 * (ratio + 0.2 * p))
        W, b = stepped
    found = fb.MLPClassifier(**SMALL | options | {"max_iter": 5}, solver="adamw", beta_1=0.8,
                             beta_2=0.95, epsilon=1e-4, learning_rate_init=0.05,
                             weight_decay=0.2).fit(X, y)
    np.testing.assert_allclose(found.coefs_[0], W, rtol=1e-9)
    np.testing.assert_allclose(found.intercepts_[0], b, rtol=1e-9)


@pytest.mark.parametrize("y", [IRIS[1], IRIS[1] > 0, LABELS], ids=["classes", "binary", "labels"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing(y, smoothing):
    X = IRIS[0]
    model = initial(fb.MLPClassifier, X, y, label_smoothing=smoothing)
    P = model.predict_proba(X)
    T = np.eye(3)[y] if y is IRIS[1] else np.eye(2)[y.astype(int)] if y.ndim == 1 else y
    if y.ndim == 1:
        T = (1 - smoothing) * T + smoothing / T.shape[1]
        loss = -(T * np.log(P)).sum(axis=1).mean()
    else:
        T = (1 - smoothing) * T + smoothing / 2
        loss = -(T * np.log(P) + (1 - T) * np.log(1 - P)).sum(axis=1).mean()
    penalty = 0.15 * sum((W**2).sum() for W in model.coefs_) / 150
    assert model.loss_ == pytest.approx(loss + penalty, rel=1e-12)


@quiet
def test_label_smoothing_with_early_stopping_splits_as_without():
    models = [fb.MLPClassifier(**SMALL, early_stopping=True, label_smoothing=s).fit(
        IRIS[0], IRIS[1] > 0) for s in (0.0, 0.3)]
    assert models[0].validation_scores_[0] == models[1].validation_scores_[0]
    assert difference(*models) > 0


@quiet
@pytest.mark.parametrize("loss", ["absolute_error", "huber", "squared_error"])
@pytest.mark.parametrize("y", [PROBLEMS["number"], PROBLEMS["numbers"]], ids=["one", "two"])
def test_losses_of_a_regressor(loss, y):
    X, options = IRIS[0], {"hidden_layer_sizes": (), "alpha": 0.3, "huber_delta": 0.7}
    model = initial(fb.MLPRegressor, X, y, loss=loss, **options)
    E = model.predict(X).reshape(150, -1) - y.reshape(150, -1)
    values, slopes = {
        "absolute_error": (np.abs(E), np.sign(E)),
        "huber": (np.where(np.abs(E) < 0.7, E**2 / 2, 0.7 * (np.abs(E) - 0.35)),
                  np.clip(E, -0.7, 0.7)),
        "squared_error": (E**2 / 2, E),
    }[loss]
    penalty = 0.15 * (model.coefs_[0] ** 2).sum() / 150
    assert model.loss_ == pytest.approx(values.mean() + penalty, rel=1e-12)
    dW, db = gradients(model, X, slopes)
    step = fb.MLPRegressor(loss, **SMALL | options | {"max_iter": 1}, solver="sgd", momentum=0,
                           learning_rate_init=0.1, batch_size=150).fit(X, y)
    np.testing.assert_allclose(step.coefs_[0], model.coefs_[0] - 0.1 * dW, rtol=1e-9)
    np.testing.assert_allclose(step.intercepts_[0], model.intercepts_[0] - 0.1 * db, rtol=1e-9)


FORMULAS = {
    "identity": lambda Z: Z, "logistic": lambda Z: 1 / (1 + np.exp(-Z)), "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0), "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
    "elu": lambda Z: np.where(Z > 0, Z, np.expm1(Z)), "silu": lambda Z: Z / (1 + np.exp(-Z)),
    "gelu": lambda Z: Z * scipy.stats.norm.cdf(Z),
}


@quiet
@pytest.mark.parametrize("names", [*((name,) for name in FORMULAS), ("tanh", "relu", "elu"),
                                   ["gelu", "identity"]], ids=str)
def test_activations(names):
    model = fb.MLPRegressor(hidden_layer_sizes=[6] * len(names), activation=names, random_state=0,
                            max_iter=5).fit(*problem("diabetes", "scaled")[1:])
    A = X = data("diabetes")[0]
    for name, W, b in zip((*names, "identity"), model.coefs_, model.intercepts_, strict=True):
        A = FORMULAS[name](A @ W + b)
    np.testing.assert_allclose(model.predict(X), A.ravel(), rtol=1e-6)
    if len(names) == 1:
        alone = clone(model).set_params(activation=names[0])
        assert difference(alone.fit(*problem("diabetes", "scaled")[1:]), model) == 0


@quiet
def test_to_network():
    X = IRIS[0]
    for y, activation in [(IRIS[1], "softmax"), (LABELS, "sigmoid")]:
        model = fb.MLPClassifier(**SMALL, dropout=0.2).fit(X, y)
        network, expected = model.to_network(), model.predict_proba(X)
        assert isinstance(network, fb.Sequential)
        np.testing.assert_allclose(network.predict(X, activation=activation), expected)
        network.fit(X, X[:, :3], loss=fb.MeanSquaredError(), epochs=1)
        network.parameters[...] = 0
        assert (model.predict_proba(X) == expected).all()
        assert (model.to_network().predict(X) != 0).any()
    model = fb.MLPRegressor(**SMALL).fit(X, X[:, :2])
    network = model.to_network()
    assert (network.predict(X) == model.predict(X)).all()
    model.partial_fit(X, X[:, :2])
    assert (network.predict(X) != model.predict(X)).any()
    with pytest.raises(NotFittedError):
        fb.MLPClassifier().to_network()


@quiet
def test_callbacks():
    seen = []

    class Recorder(fb.Callback):
        def on_train_begin(self, training):
            seen.append("begin")

        def on_epoch_begin(self, training):
            seen.append(training.epoch)

        def on_train_end(self, training):
            seen.append("end")

    def stop(training):
        if training.history["loss"][-1] < 1.19:
            training.stop("small enough")

    model = fb.MLPClassifier(**SMALL, callbacks=[Recorder(), stop])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(*IRIS)
    n = model.n_iter_
    assert 0 < n < 20
    assert seen == ["begin", *range(n), "end"]
    assert model.history_.stopped == "small enough"
    assert model.history_["loss"] == model.loss_curve_
    assert model.loss_curve_[-1] < 1.19 <= model.loss_curve_[-2]
    model = fb.MLPClassifier(**SMALL, callbacks=(fb.EarlyStopping(2, 9.0, "loss"),)).fit(*IRIS)
    assert model.n_iter_ == 3


@quiet
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_changes_the_batch_size(kind, early_stopping):
    """The records are the mean over the rows, whichever batches they were in."""
    sums = []

    def grow(training):
        losses = training.sums.step_stats[:, :2].sum(axis=1)
        sizes = [training.batch_size] * len(losses)
        sizes[-1] = n - sum(sizes[:-1])
        sums.append(np.average(losses, weights=sizes))
        assert training.history["loss"][-1] == pytest.approx(sums[-1], rel=1e-12)
        training.batch_size = 2 * training.batch_size + 1

    model = ESTIMATORS[kind][1](**SMALL | {"max_iter": 5}, batch_size=20, callbacks=[grow],
                                early_stopping=early_stopping)
    n = 135 if early_stopping else 150
    model.fit(*IRIS)
    np.testing.assert_allclose(model.loss_curve_, sums, rtol=1e-12)
    assert len(sums) == 5
    assert model.t_ == 5 * n
    # Batches of 20, then of 41, as if it had been told so in two calls.
    parts = ESTIMATORS[kind][1](**SMALL, batch_size=20, shuffle=False)
    first = {"classes": [0, 1, 2]} if kind == "classifier" else {}
    parts.partial_fit(*IRIS, **first).set_params(batch_size=41).partial_fit(*IRIS)
    once = clone(parts).set_params(batch_size=20, callbacks=[
        lambda training: setattr(training, "batch_size", 41)])
    once.partial_fit(*IRIS, **first, epochs=2)
    assert once.loss_curve_ == parts.loss_curve_
    assert (parameters(once) == parameters(parts)).all()


@quiet
@pytest.mark.parametrize("options", [{"solver": "sgd"}, {}, {"solver": "adamw"},
                                     {"solver": "sgd", "learning_rate": "invscaling"},
                                     {"learning_rate": fb.schedules.Exponential(0.1, 0.5)}],
                         ids=str)
def test_epochs_of_partial_fit(options):
    once = fb.MLPClassifier(**SMALL | options, shuffle=False, batch_size=40)
    often = clone(once)
    once.partial_fit(*IRIS, classes=[0, 1, 2], epochs=5).partial_fit(*IRIS, epochs=2)
    for _ in range(7):
        often.partial_fit(*IRIS, classes=[0, 1, 2])
    assert (parameters(once) == parameters(often)).all()
    assert once.loss_curve_ == often.loss_curve_
    assert (once.n_iter_, once.t_, often.n_iter_, often.t_) == (2, 1050, 1, 1050)
    with pytest.raises(ValueError, match=r"^epochs: "):
        once.partial_fit(*IRIS, epochs=0)
    with pytest.raises(TypeError, match=r"^epochs: "):
        once.partial_fit(*IRIS, epochs=1.5)


@quiet
@pytest.mark.parametrize("monitor", ["score", "loss"])
@pytest.mark.parametrize("given", [True, False], ids=["X_val", "set aside"])
def test_partial_fit_stops_early(monitor, given):
    X, y = data("breast_cancer")
    model = fb.MLPClassifier((8,), early_stopping=True, n_iter_no_change=4, monitor=monitor,
                             learning_rate_init=0.05, random_state=0,
                             tol=0 if monitor == "loss" else 1e-4)
    validation = {"X_val": X[1::2], "y_val": y[1::2]} if given else {}
    epochs = 0
    for _ in range(100):
        model.partial_fit(X[::2], y[::2], classes=[0, 1], epochs=3, **validation)
        epochs += model.n_iter_
        if model.history_.stopped:
            break
    curve = model.validation_scores_ if monitor == "score" else model.validation_loss_curve_
    curve = np.array(curve) if monitor == "score" else -np.array(curve)
    assert epochs == len(curve) < 300
    if monitor == "loss":
        assert epochs == curve.argmax() + 6
    if given and monitor == "score":
        assert model.score(X[1::2], y[1::2]) == model.best_validation_score_ == curve.max()
    elif given:
        assert losses(model, X[1::2], y[1::2]) == pytest.approx(-curve.max())
    model.partial_fit(X[::2], y[::2], epochs=4, **validation)
    assert model.n_iter_ == 4


@quiet
def test_threads_do_not_change_the_bits():
    X, y = data("digits")
    found = set()
    for n_threads in (1, 2, 3):
        model = fb.MLPClassifier((40,), batch_size=500, random_state=0, max_iter=3, dropout=0.1,
                                 n_threads=n_threads).fit(X, y)
        lbfgs = fb.MLPClassifier((40,), solver="lbfgs", random_state=0, max_iter=3,
                                 n_threads=n_threads).fit(X, y)
        found.add((parameters(model).tobytes(), model.predict_proba(X).tobytes(),
                   parameters(lbfgs).tobytes()))
    assert len(found) == 1


# Bad input


X, y = IRIS
BAD = {
    "one dimension": lambda e: e.fit(X[0], y[:4]), "three": lambda e: e.fit(X[None], y),
    "no rows": lambda e: e.fit(X[:0], y[:0]), "no columns": lambda e: e.fit(X[:, :0], y),
    "NaN": lambda e: e.fit(X * np.nan, y), "infinity": lambda e: e.fit(X * np.inf, y),
    "text": lambda e: e.fit(np.array([["a"]] * 150), y), "complex": lambda e: e.fit(X * 1j, y),
    "no y": lambda e: e.fit(X, None), "short y": lambda e: e.fit(X, y[:3]),
    "NaN in y": lambda e: e.fit(X, np.where(y > 1, np.nan, y)),
    "infinity in y": lambda e: e.fit(X, np.where(y > 1, np.inf, y)),
    "ragged y": lambda e: e.fit(X, [[1], [1, 2]] * 75),
    "three dimensions of y": lambda e: e.fit(X, np.ones((150, 1, 1))),
    "short weights": lambda e: e.fit(X, y, np.ones(3)),
    "columns of weights": lambda e: e.fit(X, y, np.ones((150, 1))),
    "weights of 0": lambda e: e.fit(X, y, np.zeros(150)),
    "NaN weights": lambda e: e.fit(X, y, np.full(150, np.nan)),
    "text for weights": lambda e: e.fit(X, y, np.array(["a"] * 150)),
    "unfitted": lambda e: e.predict(X), "unfitted score": lambda e: e.score(X, y),
    "predict NaN": lambda e: e.fit(X, y).predict(X * np.nan),
    "predict infinity": lambda e: e.fit(X, y).predict(X + np.inf),
    "predict other columns": lambda e: e.fit(X, y).predict(X[:, :3]),
    "predict one row": lambda e: e.fit(X, y).predict(X[0]),
    "predict no rows": lambda e: e.fit(X, y).predict(X[:0]),
    "predict text": lambda e: e.fit(X, y).predict(np.array([["a"] * 4])),
    "predict complex": lambda e: e.fit(X, y).predict(X * 1j),
    "predict sparse, other columns": lambda e: e.fit(X, y).predict(ROWS["csr"][:, :3]),
    "predict names in another order": lambda e: e.fit(ROWS["frame"], y).predict(
        ROWS["frame"][list("dcba")]),
    "partial_fit of other columns": lambda e: e.fit(X, y).partial_fit(X[:, :3], y),
    "lbfgs has no partial_fit": lambda e: e.set_params(solver="lbfgs").partial_fit(X, y)
    if isinstance(e, (neural_network.MLPClassifier, fb.MLPClassifier)) else e.predict(X),
    "too few rows to set aside": lambda e: e.set_params(early_stopping=True).fit(X[::75], y[::75]),
    "nothing set aside": lambda e: e.set_params(early_stopping=True,
                                                validation_fraction=0.0).fit(X, y),
    "little set aside": lambda e: e.set_params(early_stopping=True,
                                               validation_fraction=0.005).fit(X, y),
    "zero columns": lambda e: e.set_params(hidden_layer_sizes=(3, 0)).fit(X, y),
    "part of a column": lambda e: e.set_params(hidden_layer_sizes=(3.5,)).fit(X, y),
    "lists of columns": lambda e: e.set_params(hidden_layer_sizes=[[3, 4]]).fit(X, y),
    "an unknown parameter": lambda e: e.set_params(layers=3),
    "a huge X": lambda e: e.fit(X * 1e308, y),
}
BAD_CLASSES = {
    "numbers": lambda e: e.fit(X, X[:, 0]), "classes twice": lambda e: e.fit(X, np.c_[y, y]),
    "unfitted probabilities": lambda e: e.predict_proba(X),
    "no classes": lambda e: e.partial_fit(X, y),
    "classes missing": lambda e: e.partial_fit(X, y, classes=[0, 1]),
    "no classes at all": lambda e: e.partial_fit(X, y, classes=[]),
    "other classes": lambda e: e.partial_fit(X, y, classes=[0, 1, 2]).partial_fit(
        X, y, classes=[0, 1]),
    "a new class": lambda e: e.fit(X[:100], y[:100]).partial_fit(X, y),
    "other classes after fit": lambda e: e.fit(X, y).partial_fit(X, y, classes=[0, 1]),
    "rows of ones after classes": lambda e: e.fit(X, y).partial_fit(X, np.eye(3, dtype=int)[y]),
    "a class with one row": lambda e: e.set_params(early_stopping=True).fit(X[:4], [0, 0, 0, 1]),
}


def raised(estimator, action):
    with warnings.catch_warnings(), pytest.raises(Exception) as info:
        warnings.simplefilter("ignore")
        action(estimator)
    return info.value


@pytest.mark.parametrize(("kind", "action"), [
    *(pytest.param(kind, action, id=f"{kind}, {name}")
      for kind in ESTIMATORS for name, action in BAD.items()),
    *(pytest.param("classifier", action, id=name) for name, action in BAD_CLASSES.items()),
])
def test_bad_input_as_scikit_learn_answers_it(kind, action):
    truth, found = (raised(estimator(**SMALL), action) for estimator in ESTIMATORS[kind])
    assert isinstance(found, type(truth))
    assert str(found)
    if "contain" in str(truth):
        assert str(found) == str(truth)


PARAMETERS = {
    "hidden_layer_sizes": [0, "a", None], "activation": ["x", 3, None], "solver": ["x", None],
    "alpha": [-1, "a", None], "batch_size": [0, 1.5, "x"], "learning_rate": ["x", 0.1, None],
    "learning_rate_init": [0, -1, "a", np.inf], "power_t": [-1, "a"], "max_iter": [0, 1.5, "a"],
    "shuffle": ["a", 2], "random_state": ["a", -1], "tol": [-1, "a"], "verbose": ["a", -1],
    "warm_start": ["a", 3], "momentum": [-1, 2, "a"], "nesterovs_momentum": ["a", 3],
    "early_stopping": ["a", 3], "validation_fraction": [-1, 1, "a"], "beta_1": [-1, 1, "a"],
    "beta_2": [-1, 1, "a"], "epsilon": [0, "a"], "n_iter_no_change": [0, 1.5, "a"],
    "max_fun": [0, 1.5, "a"], "loss": ["x", None],
    "dropout": [-0.1, 1, "a", None, np.nan], "weight_decay": [-1, "a", None, np.nan],
    "clip_norm": [0, -1, "a", np.nan], "monitor": ["accuracy", None, 3],
    "dtype": ["float16", int, "f4", 32], "n_threads": [0, -1, 1.5, "a"],
    "callbacks": [3, "a", fb.EarlyStopping()], "class_weight": ["x", 3, [1, 2]],
    "label_smoothing": [-0.1, 1, "a", None], "huber_delta": [0, -1, "a", None],
}


@pytest.mark.parametrize(("kind", "name", "value"), [
    (kind, name, value) for kind, (theirs, ours) in ESTIMATORS.items()
    for name, values in PARAMETERS.items() for value in values if name in ours().get_params()
], ids=lambda each: re.sub(" object at 0x.*", "", repr(each)))  # the same in every process
def test_bad_parameters(kind, name, value):
    theirs, ours = ESTIMATORS[kind]
    estimator = ours(**{name: value})
    starts = [lambda e: e.fit(None, None)]
    if name != "solver":
        starts.append(lambda e: e.partial_fit(
            X, y, **({"classes": [0, 1, 2]} if kind == "classifier" else {})))
    for start in starts:
        found = raised(clone(estimator), start)
        assert type(found) is InvalidParameterError
        assert f"The '{name}' parameter of {ours.__name__} must be" in str(found)
    if name in theirs().get_params():
        assert type(raised(theirs(**{name: value}), starts[0])) is InvalidParameterError


LARGE = 10**400  # for a float
NEARLY = np.longdouble(1) - np.finfo(np.longdouble).epsneg  # 1, as a float
REALS = [np.inf, np.nan, True, False, np.True_, np.float32(0.5), np.longdouble(0.5), np.array(0.5),
         np.array([0.5]), 1, 0, 1e-320, 1e308, 10**30, LARGE, NEARLY, 1j, "0.5"]
WHOLES = [True, False, np.True_, np.int8(2), np.uint64(2), np.array(2), 2.0, np.inf, np.nan, 10**30,
          2**63, LARGE, np.float32(np.inf), None, "2"]
TRUTHS = [np.True_, np.False_, 0, 1, None, "False", np.array(True), []]
ODD = {
    **dict.fromkeys(("alpha", "learning_rate_init", "tol", "momentum", "validation_fraction",
                     "beta_1", "beta_2", "epsilon", "dropout", "weight_decay", "clip_norm",
                     "label_smoothing", "huber_delta"), REALS),
    # NumPy does not stop for Ctrl-C in so large a power.
    "power_t": [value for value in REALS if value is not LARGE],
    **dict.fromkeys(("batch_size", "max_iter", "n_iter_no_change", "max_fun", "n_threads"), WHOLES),
    **dict.fromkeys(("shuffle", "warm_start", "nesterovs_momentum", "early_stopping"), TRUTHS),
    "verbose": [np.True_, np.int64(0), -1, np.inf, "a"],
    "hidden_layer_sizes": [
        True, np.True_, (True, 2), np.array([True]), np.int64(2), np.array(2), np.array([2], "u1"),
        {2}, {2: 3}, range(2, 4), [], 2.0, (2.0,), (2, 2.5), np.array([2.0]), [np.nan], [np.inf],
        (0,), (2, -1), [[2]], [[2], [2, 3]], np.ones((1, 2), int), (None,), ("2",), "2", b"2",
        {"a"}, (2j,), 10**30, (2, LARGE), None, np.array([2], object)],
    "activation": [np.str_("tanh"), b"relu", ["relu"], [["relu"]], [{}], [None], (), {"relu"}, 3],
    "solver": [np.str_("sgd"), b"sgd", ["sgd"], 3],
    "learning_rate": [np.str_("constant"), ["constant"], 0.1, lambda epoch: np.inf,
                      lambda epoch: "a"],
    "random_state": [True, np.int64(3), np.array(3), 2**32, LARGE, -1, 3.0, "a",
                     np.random.default_rng(0)],
    "monitor": [np.str_("loss"), b"loss", ["loss"], None],
    "class_weight": [{0: -1}, {0: np.nan}, {1: "a"}, {1: LARGE}, {7: 1}, {0: 0, 1: 0, 2: 0},
                     {0: True}, "x", [1, 2, 3], {0: [1]}],
    "dtype": [np.dtype("float32"), np.float16, "float", "f4", 3],
    "callbacks": [[3], [fb.EarlyStopping], [fb.EarlyStopping()], 3, fb.EarlyStopping(), "a", ()],
    "loss": [np.str_("poisson"), b"poisson", ["poisson"], None],
}


@quiet
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "lbfgs"])
@pytest.mark.parametrize(("kind", "name"), [
    (kind, name) for kind, (_, ours) in ESTIMATORS.items() for name in ours().get_params()])
def test_whatever_is_wrong_is_named_as_the_user_knows_it(kind, name, solver):
    """Whatever a parameter is set to: a fit works, diverges, or says which one it was."""
    options = SMALL | {"hidden_layer_sizes": (3,), "max_iter": 2, "solver": solver}
    if name == "power_t":
        options["learning_rate"] = "invscaling"
    if name == "validation_fraction":
        options["early_stopping"] = True
    if name == "huber_delta":
        options["loss"] = "huber"
    for value in ODD[name]:
        model = ESTIMATORS[kind][1](**options | {name: value})
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                model.fit(IRIS[0][::3], IRIS[1][::3]).predict(IRIS[0])
        except (ValueError, TypeError, MemoryError) as found:
            if name == "callbacks" and str(found).startswith("EarlyStopping(monitor="):
                assert str(found).endswith("set early_stopping=True, or give fit X_val and y_val")
                continue
            named = (rf"(\[.*\])?( at epoch 0)?: |The '{name}' parameter of {type(model).__name__} "
                     r"|The validation set is too small|Solver produced non-finite")
            assert re.match(rf"({name})?({named})", str(found)), (value, found)


@quiet
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("name", ["max_iter", "batch_size", "n_iter_no_change", "max_fun",
                                  "hidden_layer_sizes"])
def test_true_is_the_number_one(kind, name):
    """As in scikit-learn, but for hidden_layer_sizes, where NumPy refuses it."""
    options = {"max_iter": 5, "tol": 0.1, "solver": "lbfgs" if name == "max_fun" else "adam"}
    if name == "hidden_layer_sizes":
        for value in (True, (True,), [np.True_], np.array([True])):
            a, b = (fb.MLPRegressor(**SMALL | {name: each}).fit(*IRIS) for each in (value, 1))
            assert (parameters(a) == parameters(b)).all()
        return
    agree(*both(kind, fitting(*IRIS), **options | {name: True}))
    a, b = (ESTIMATORS[kind][1](**SMALL | options | {name: value}).fit(*IRIS)
            for value in (True, 1))
    assert (parameters(a) == parameters(b)).all()


@quiet
def test_powers_beyond_a_float():
    """The learning rate is 0 then; Python's own power would raise OverflowError."""
    options = {"solver": "sgd", "momentum": 0}
    once = fb.MLPClassifier(**SMALL | options | {"max_iter": 1}).fit(*IRIS)
    often = fb.MLPClassifier(**SMALL | options | {"max_iter": 4}, learning_rate="invscaling",
                             power_t=1e6).fit(*IRIS)
    assert len(often.loss_curve_) == 4
    assert (parameters(often) == parameters(once)).all()


X_AND_NUMBER = IRIS[0], IRIS[0][:, 0] ** 2


@quiet
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(("arguments", "options", "message"), [
    ({"sample_weight_val": -np.ones(150)}, {}, "sample_weight_val: expected numbers of at least 0"),
    ({"sample_weight_val": np.zeros(150)}, {}, "X_val, y_val, sample_weight_val: Sample weights"),
    ({"sample_weight_val": np.ones(3)}, {}, "X_val, y_val, sample_weight_val: sample_weight.shape"),
    ({"y_val": -np.ones(150)}, {"loss": "poisson"}, "y_val: expected targets of at least 0"),
    ({"y_val": np.full(150, 1e200)}, {"dtype": "float32"}, "y_val: expected finite numbers"),
    ({"y_val": np.ones((150, 2))}, {}, r"y_val: expected shape \(any, 1\)"),
    ({"y_val": scipy.sparse.csr_array(np.ones((150, 1)))}, {}, "X_val, y_val: Sparse data"),
    ({"X_val": IRIS[0] * 1e200}, {"dtype": "float32"}, "X_val, y_val: Input X contains infinity"),
    ({"X_val": None}, {}, "X_val and y_val: expected both or neither"),
])
def test_validation_data_is_named_by_its_arguments(arguments, options, message):
    X, y = X_AND_NUMBER
    model = fb.MLPRegressor(**SMALL | options)
    with pytest.raises((TypeError, ValueError), match=f"^{message}"):
        model.fit(X, y, **{"X_val": X, "y_val": y} | arguments)
    assert not hasattr(model, "coefs_")


@quiet
def test_weights_of_the_rows_set_aside_are_named():
    weights = (np.arange(150) == 3).astype(float)
    with pytest.raises(ValueError, match=r"^sample_weight, of the rows set aside: expected some"):
        fb.MLPRegressor(**SMALL, early_stopping=True).fit(*X_AND_NUMBER, weights)
    with pytest.raises(ValueError, match=r"^class_weight: expected some numbers between"):
        fb.MLPClassifier(**SMALL, class_weight={0: 0}).partial_fit(
            IRIS[0][:5], IRIS[1][:5], classes=[0, 1, 2])


@quiet
def test_what_does_not_fit_the_fit_before_is_named():
    X, y = X_AND_NUMBER
    model = fb.MLPRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"^y: expected the layers of the fit before"):
        model.partial_fit(X, np.c_[y, y])
    with pytest.raises(ValueError, match=r"^hidden_layer_sizes, activation: expected the layers"):
        model.set_params(hidden_layer_sizes=3).partial_fit(X, y)


@pytest.mark.parametrize(("options", "message"), [
    ({"activation": ("tanh", "relu")}, "activation: expected a name or 1 names.* got 2"),
    ({"activation": ()}, "activation: expected a name or 1 names.* got 0"),
    ({"activation": ("softmax",)}, "activation: expected each one of .*'softmax'"),
    ({"activation": (None,)}, "activation: expected each one of .*None"),
    ({"activation": (["relu"],)}, "activation: expected each one of .*relu"),
    ({"dropout": 0.1, "hidden_layer_sizes": ()}, "dropout: expected 0 where there is no hidden"),
    ({"solver": "lbfgs", "dropout": 0.1}, "dropout: expected its default with solver='lbfgs'"),
    ({"solver": "lbfgs", "clip_norm": 1.0}, "clip_norm: expected its default"),
    ({"solver": "lbfgs", "callbacks": [print]}, "callbacks: expected its default"),
    ({"solver": "lbfgs", "learning_rate": float}, "learning_rate: expected its default"),
], ids=str)
def test_parameters_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        fb.MLPClassifier(**SMALL | options).fit(*IRIS)


@pytest.mark.parametrize("callback", [3, "a", fb.EarlyStopping, None])
def test_a_list_of_no_callbacks(callback):
    with pytest.raises(TypeError, match="callback"):
        fb.MLPClassifier(**SMALL, callbacks=[callback]).fit(*IRIS)


@quiet
def test_validation_of_parameters_can_be_switched_off():
    for estimator in ESTIMATORS["classifier"]:
        with sklearn.config_context(skip_parameter_validation=True):
            estimator(**SMALL, alpha=np.array(1e-4)).fit(*IRIS)


@quiet
@pytest.mark.parametrize("failing", [
    lambda m: m.fit(X * np.nan, y), lambda m: m.set_params(alpha=-1).fit(X, y),
    lambda m: m.fit(X, y, X_val=X[:, :3], y_val=y), lambda m: m.fit(X, y, X_val=X, y_val=y + 5),
    lambda m: m.fit(X, y, np.ones(3)), lambda m: m.set_params(callbacks=[3]).fit(X, y),
], ids=["NaN", "alpha", "columns of X_val", "classes of y_val", "weights", "callbacks"])
def test_a_refit_that_is_refused_changes_nothing(failing):
    model = fb.MLPClassifier(**SMALL).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises((ValueError, TypeError)):
        failing(model)
    assert (model.predict_proba(X) == before).all()
    fresh = fb.MLPClassifier(**SMALL)
    with pytest.raises((ValueError, TypeError)):
        failing(fresh)
    with pytest.raises(AttributeError):
        fresh.predict(X)


def test_divergence():
    X, y = data("diabetes")
    options = {"solver": "sgd", "learning_rate_init": 1e4, "random_state": 0, "max_iter": 30}
    with pytest.raises(ValueError, match="Solver produced non-finite parameter weights"):
        fb.MLPRegressor(**options).fit(X, y)
    model = fb.MLPRegressor(early_stopping=True, **options)
    with pytest.warns(ConvergenceWarning, match="diverged"):
        model.fit(X, y)
    assert np.isnan(model.validation_scores_[-1])
    assert type(model.validation_scores_[-1]) is float
    assert np.isfinite(parameters(model)).all()
    assert np.isfinite(model.predict(X)).all()


# Imports


def run(code):
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=True)
    return result.stdout.strip()


def test_scikit_learn_is_imported_when_it_is_needed():
    assert run("import sys, fastbp; dir(fastbp); fastbp.mlp([2, 1])\n"
               "print('sklearn' in sys.modules, 'MLPClassifier' in dir(fastbp))") == "False True"


def test_without_scikit_learn():
    found = run("import sys; sys.modules['sklearn'] = None\nimport fastbp\n"
                "for name in ('MLPClassifier', 'MLPRegressor'):\n"
                "    try: getattr(fastbp, name)\n"
                "    except ImportError as error: print(error)\n")
    assert found.count('pip install "fastbp[sklearn]"') == 2
    with pytest.raises(AttributeError, match="has no attribute 'MLP'"):
        fb.MLP  # noqa: B018


def test_a_warm_start_after_lbfgs():
    X, y = sklearn.datasets.load_iris(return_X_y=True)
    model = fb.MLPClassifier((7,), solver="lbfgs", max_iter=5, warm_start=True, random_state=0)
    with pytest.warns(ConvergenceWarning, match="lbfgs failed to converge after 5 iteration"):
        model.fit(X, y)
    loss = model.loss_
    model.set_params(solver="adam", max_iter=200, tol=0.01).fit(X, y)
    assert model.loss_curve_[0] < 1.1 * loss
    assert len(model.loss_curve_) == model.n_iter_


def test_another_dropout_in_a_warm_start():
    X, y = sklearn.datasets.load_iris(return_X_y=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = fb.MLPClassifier((7,), warm_start=True, max_iter=2, random_state=0).fit(X, y)
        model.set_params(dropout=0.8).fit(X, y)
        assert any(isinstance(layer, fb.Dropout) for layer in model.to_network().layers)
        model.set_params(dropout=0.0, solver="lbfgs").fit(X, y)
    assert not hasattr(model, "history_")


def test_a_first_partial_fit_that_is_refused():
    X, y = sklearn.datasets.load_iris(return_X_y=True)
    model = fb.MLPClassifier((7,), random_state=0)
    with pytest.raises(ValueError, match="contains NaN"):
        model.partial_fit(X * np.nan, y, classes=[0, 1])
    with pytest.raises(NotFittedError):
        model.predict(X)
    assert list(model.partial_fit(X, y, classes=[0, 1, 2]).classes_) == [0, 1, 2]


def test_validation_data_is_named_where_it_is_wrong():
    X, y = sklearn.datasets.load_iris(return_X_y=True)
    for arguments in ({"X_val": X * np.nan, "y_val": y}, {"X_val": X, "y_val": y[:5]},
                      {"X_val": X, "y_val": y + 1}):
        with pytest.raises(ValueError, match=r"^X_val, y_val: "):
            fb.MLPClassifier((7,)).fit(X, y, **arguments)


# Where they differ on purpose, item by item of the README's list


def outcome(kind, action, **options):
    """What scikit-learn's estimator and fastbp's come to: a result, or the error's class."""
    found = []
    for estimator in ESTIMATORS[kind]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found.append(action(estimator(**SMALL | options)))
        except Exception as error:
            found.append(type(error))
    return found


def fitted(X, y, *weights):
    return lambda e: bool(np.isfinite(parameters(e.fit(X, y, *weights))).all())


def refitted(**change):
    return lambda e: fitted(*IRIS)(e.fit(*IRIS).set_params(**change))


FEW = np.arange(150) < 3


@pytest.mark.parametrize(("kind", "action", "options"), [
    ("classifier", fitted(*IRIS, np.where(FEW, -1.0, 1.0)), {}),
    ("classifier", fitted(*IRIS, np.full(150, 1e-310)), {}),
    ("regressor", lambda e: e.fit(IRIS[0], IRIS[1] - 1.0) is e, {"loss": "poisson"}),
    ("classifier", refitted(hidden_layer_sizes=(5,)), {"warm_start": True}),
    ("classifier", refitted(activation="tanh"), {"warm_start": True}),
], ids=["negative weights", "tiny weights", "Poisson", "sizes", "activation"])
def test_refused_where_scikit_learn_goes_on(kind, action, options):
    assert outcome(kind, action, **options) == [True, ValueError]


@quiet
def test_weights_near_the_largest_float_are_told_from_bad_data():
    for estimator, message in zip(ESTIMATORS["classifier"], ("Solver produced", "sample_weight: "),
                                  strict=True):
        with warnings.catch_warnings(), pytest.raises(ValueError, match=f"^{message}"):
            warnings.simplefilter("ignore", RuntimeWarning)
            estimator(**SMALL).fit(*IRIS, np.full(150, 1e307))


def test_the_error_of_a_bad_list_of_activations():
    assert outcome("classifier", fitted(*IRIS), activation=["x"]) == [
        InvalidParameterError, ValueError]


@pytest.mark.parametrize(("kind", "action", "options", "theirs"), [
    ("classifier", fitted(*IRIS, np.where(np.arange(150) < 40, 0.0, 1.0)),
     {"batch_size": 20, "shuffle": False}, ZeroDivisionError),
    ("regressor", fitted(IRIS[0], scipy.sparse.csr_array(NUMBERS)), {"early_stopping": True},
     TypeError),
    ("regressor", fitted(IRIS[0], scipy.sparse.csr_matrix(NUMBERS)), {}, np.linalg.LinAlgError),
    ("classifier", fitted(*IRIS), {"hidden_layer_sizes": (True, 2)}, TypeError),
    ("classifier", fitted(*IRIS), {"hidden_layer_sizes": np.array(3)}, TypeError),
    ("classifier", lambda e: e.fit(*IRIS).partial_fit(IRIS[0][:50], IRIS[1][:50]).n_iter_ == 1,
     {"warm_start": True}, ValueError),
    ("classifier", lambda e: e.partial_fit(*IRIS, classes=[0, 1, 2]).n_iter_ == 1,
     {"early_stopping": True}, ValueError),
    ("classifier", lambda e: e.fit(*IRIS).set_params(early_stopping=False).partial_fit(
        *IRIS).n_iter_ == 1, {"early_stopping": True, "n_iter_no_change": 1}, TypeError),
], ids=["zero weights", "sparse, early stopping", "sparse matrix", "True columns", "0-d columns",
        "some classes", "partial_fit, early stopping", "partial_fit after early stopping"])
def test_taken_where_scikit_learn_raises_an_error(kind, action, options, theirs):
    assert outcome(kind, action, **options) == [theirs, True]


def test_a_minibatch_whose_weights_are_zero_changes_nothing():
    X, y = IRIS
    options = {"batch_size": 50, "shuffle": False, "alpha": 0.0, "solver": "sgd", "momentum": 0.0,
               "max_iter": 5}
    a, b = fb.MLPClassifier(**SMALL | options), fb.MLPClassifier(**SMALL | options)
    first = np.arange(150) < 100
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        a.fit(np.r_[X[::2], X[1::2]], np.r_[y[::2], y[1::2]], first.astype(float))
        b.fit(np.r_[X[::2], X[1::2]][first], np.r_[y[::2], y[1::2]][first])
    assert (parameters(a) == parameters(b)).all()


def test_how_a_divergence_ends():
    def diverge(estimator):
        with contextlib.suppress(ValueError):
            estimator.fit(10 * IRIS[0], IRIS[1])
        return estimator.n_iter_, bool(np.isfinite(parameters(estimator)).all())

    options = {"solver": "sgd", "learning_rate_init": 1e4}
    theirs, (n_iter, finite) = outcome("regressor", diverge, **options)
    assert theirs == (20, False)
    assert n_iter < 10
    assert finite
    theirs, (n_iter, finite) = outcome("regressor", diverge, **options, early_stopping=True)
    assert theirs[0] == 20
    assert n_iter < 10
    assert finite


def test_what_a_refused_fit_leaves():
    def refuse(estimator):
        estimator.fit(*IRIS)
        with pytest.raises(ValueError):
            estimator.fit(IRIS[0][:, :2], IRIS[1], np.ones(3))
        return estimator.predict(IRIS[0]).shape

    assert outcome("classifier", refuse) == [ValueError, (150,)]


@pytest.mark.parametrize(("fit", "predict", "solver", "dtypes"), [
    ("f4", "f8", "adam", ["f8", "f4"]), ("f4", "f4", "lbfgs", ["f8", "f4"]),
    ("f8", "g", "adam", ["g", "f8"]), ("f8", "f4", "adam", ["f8", "f8"]),
])
def test_predictions_have_the_dtype_of_the_weights(fit, predict, solver, dtypes):
    found = outcome("classifier", lambda e: e.fit(IRIS[0].astype(fit), IRIS[1]).predict_proba(
        IRIS[0].astype(predict)).dtype, solver=solver)
    assert found == [np.dtype(dtype) for dtype in dtypes]


# Columns of pandas that NumPy takes for objects


FRAME = pd.DataFrame({"a": IRIS[0][:, 0].astype("f4"), "b": np.arange(150) % 7,
                      "c": IRIS[0][:, 1] > 0, "d": IRIS[0][:, 2]})


def converted(value, backend):
    if backend == "pyarrow":
        pytest.importorskip("pyarrow")
    return value.convert_dtypes(dtype_backend=backend)


@quiet
@pytest.mark.parametrize("backend", ["numpy_nullable", "pyarrow"])
@pytest.mark.parametrize(("kind", "y"), [
    ("classifier", pd.Series(IRIS[1])), ("classifier", pd.Series(IRIS[1] > 0)),
    ("classifier", pd.DataFrame(LABELS > 0)), ("regressor", FRAME["d"]), ("regressor", FRAME)],
    ids=["classes", "bool", "labels", "number", "frame"])
def test_columns_of_extension_types(kind, y, backend):
    weights = pd.Series(WEIGHTS["positive"][:150])
    X, own, own_weights = (converted(value, backend) for value in (FRAME, y, weights))
    model, expected = ESTIMATORS[kind][1](**SMALL), ESTIMATORS[kind][1](**SMALL)
    model.fit(X, own, own_weights, X_val=X, y_val=own, sample_weight_val=own_weights)
    expected.fit(FRAME, y, weights, X_val=FRAME, y_val=y, sample_weight_val=weights)
    assert (parameters(model) == parameters(expected)).all()
    assert model.validation_scores_ == expected.validation_scores_
    assert (model.predict(X) == expected.predict(FRAME)).all()
    if not (kind == "classifier" and y.ndim == 2):  # which scikit-learn's accuracy cannot take
        assert model.score(X, own) == expected.score(FRAME, y)
    holed = X.copy()
    holed.loc[3, "b"] = pd.NA
    for action in (lambda: model.predict(holed), lambda: model.fit(holed, own)):
        with pytest.raises(ValueError, match="contains NaN"):
            action()
