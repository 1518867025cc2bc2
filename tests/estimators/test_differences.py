"""Where they differ from scikit-learn's on purpose, item by item of the list in
docs/scikit-learn.md."""

import contextlib
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

import fastbp as fb

from .problems import ESTIMATORS, IRIS, NUMBERS, SMALL, parameters, quiet


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
