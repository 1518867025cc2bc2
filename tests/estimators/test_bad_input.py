"""What the estimators refuse: by the names the user knows, and with nothing changed."""

import contextlib
import io
import re
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.datasets
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils._param_validation import InvalidParameterError

import fastbp as fb

from ..cases import each
from .problems import (
    BEFORE_1_8,
    ESTIMATORS,
    IRIS,
    ROWS,
    SMALL,
    agree,
    both,
    data,
    fitting,
    parameters,
    quiet,
)

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
    if BEFORE_1_8 and action is BAD["weights of 0"]:
        pytest.skip("no error of its own in this version of scikit-learn")
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
    "dtype": ["float16", int, "f4", 32], "precision": ["low", 1, None],
    "n_threads": [0, -1, 1.5, "a"],
    "callbacks": [3, "a", fb.EarlyStopping()], "class_weight": ["x", 3, [1, 2]],
    "label_smoothing": [-0.1, 1, "a", None], "huber_delta": [0, -1, "a", None],
}


@each(("kind", "name", "value"), [
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
    "precision": ["high", "medium", "low", None, 1],
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
@each(("arguments", "options", "message"), [
    ({"sample_weight_val": -np.ones(150)}, {}, "sample_weight_val: expected numbers of at least 0"),
    ({"sample_weight_val": np.zeros(150)}, {},
     "sample_weight_val" if BEFORE_1_8 else "X_val, y_val, sample_weight_val: Sample weights"),
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
    with pytest.raises(ValueError, match=r"^sample_weight, of the rows set aside: expected the"):
        fb.MLPRegressor(**SMALL, early_stopping=True).fit(*X_AND_NUMBER, weights)
    with pytest.raises(ValueError, match=r"^class_weight: expected the largest to be between"):
        fb.MLPClassifier(**SMALL, class_weight={0: 0}).partial_fit(
            IRIS[0][:5], IRIS[1][:5], classes=[0, 1, 2])


@quiet
def test_what_does_not_fit_the_fit_before_is_named():
    X, y = X_AND_NUMBER
    model = fb.MLPRegressor(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match=r"^y: expected the layers of the previous fit"):
        model.partial_fit(X, np.c_[y, y])
    with pytest.raises(ValueError, match=r"^hidden_layer_sizes, activation: expected the layers"):
        model.set_params(hidden_layer_sizes=3).partial_fit(X, y)


@each(("options", "message"), [
    ({"activation": ("tanh", "relu")}, "activation: expected a name, or one.* \\(1\\), got 2"),
    ({"activation": ()}, "activation: expected a name, or one.* \\(1\\), got 0"),
    ({"activation": ("softmax",)}, "activation: expected names among .*'softmax'"),
    ({"activation": (None,)}, "activation: expected names among .*None"),
    ({"activation": (["relu"],)}, "activation: expected names among .*relu"),
    ({"dropout": 0.1, "hidden_layer_sizes": ()}, "dropout: expected 0 without hidden"),
    ({"solver": "lbfgs", "dropout": 0.1}, "dropout: expected its default with solver='lbfgs'"),
    ({"solver": "lbfgs", "clip_norm": 1.0}, "clip_norm: expected its default"),
    ({"solver": "lbfgs", "callbacks": [print]}, "callbacks: expected its default"),
    ({"solver": "lbfgs", "learning_rate": float}, "learning_rate: expected its default"),
], ids=str)
def test_parameters_that_do_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        fb.MLPClassifier(**SMALL | options).fit(*IRIS)


@each("callback", [3, "a", fb.EarlyStopping, None])
def test_a_list_of_no_callbacks(callback):
    with pytest.raises(TypeError, match="callback"):
        fb.MLPClassifier(**SMALL, callbacks=[callback]).fit(*IRIS)


@quiet
def test_validation_of_parameters_can_be_switched_off():
    for estimator in ESTIMATORS["classifier"]:
        with sklearn.config_context(skip_parameter_validation=True):
            estimator(**SMALL, alpha=np.array(1e-4)).fit(*IRIS)


@quiet
@each("failing", [
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
