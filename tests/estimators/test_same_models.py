"""The same random state gives scikit-learn's model, whatever the options."""

import functools

import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
from hypothesis import given, settings
from hypothesis import strategies as st

from .problems import (
    ACTIVATIONS,
    ESTIMATORS,
    IRIS,
    LABELS,
    SMALL,
    WEIGHTS,
    agree,
    both,
    data,
    difference,
    error,
    fitting,
    parameters,
    problem,
    quiet,
    warned,
)

CASES = [("iris", "classes"), ("breast_cancer", "classes"), ("digits", "classes"),
         ("digits", "labels"), ("diabetes", "number"), ("diabetes", "numbers"),
         ("diabetes", "counts")]


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize(("name", "task"), CASES, ids=str)
def test_the_same_model(name, task, solver, activation):
    kind, X, y = problem(name, task)
    options = {"max_iter": 200, "hidden_layer_sizes": (20, 10)}
    if name == "digits":
        options = {"max_iter": 50, "hidden_layer_sizes": (16,)}
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
