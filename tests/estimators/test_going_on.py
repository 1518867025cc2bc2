"""Training that goes on: warm starts, partial fits, copies."""

import copy
import pickle
import warnings

import joblib
import numpy as np
import pytest
import sklearn.datasets
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning, NotFittedError

import fastbp as fb

from .problems import (
    IRIS,
    LABELS,
    NAMES,
    ROWS,
    SMALL,
    WEIGHTS,
    agree,
    both,
    data,
    difference,
    losses,
    parameters,
    problem,
    quiet,
)


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
def test_a_schedule_of_ones_own_after_inverse_scaling():
    def rates(**options):
        model = fb.MLPClassifier(**SMALL | {"solver": "sgd"}, learning_rate="invscaling",
                                 **options)
        model.partial_fit(*IRIS, classes=[0, 1, 2])
        model.set_params(learning_rate=lambda epoch: 0.01).partial_fit(*IRIS).partial_fit(*IRIS)
        return model.history_["learning_rate"], parameters(model).tobytes()

    assert rates() == rates(callbacks=[lambda run: None])
    assert rates()[0] == [0.01]


@quiet
def test_a_random_state_is_where_it_was_drawn_from_when_training_ends_early():
    """Nobody draws the orders of epochs that do not run from another's generator."""
    X, y = IRIS

    def next_number(callbacks):
        state = np.random.RandomState(0)
        model = fb.MLPRegressor(**SMALL | {"solver": "sgd", "max_iter": 200,
                                           "learning_rate_init": 0.4, "random_state": state},
                                n_iter_no_change=100, callbacks=callbacks)
        with pytest.raises(ValueError, match="non-finite"):
            model.fit(X, y)
        assert len(model.loss_curve_) > 1
        return state.randint(2**31)

    assert next_number(None) == next_number([lambda run: None])


@quiet
def test_refitting_forgets():
    X, y = IRIS
    model = fb.MLPClassifier(**SMALL).fit(X, y)
    first = parameters(model)
    model.fit(X[:, :2], y > 0).fit(X, y)
    assert (parameters(model) == first).all()


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
