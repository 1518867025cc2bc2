"""scikit-learn's interface and checks, and its pipelines, searches and ensembles."""

import contextlib
import inspect
import io
import subprocess
import sys

import joblib
import numpy as np
import pytest
import sklearn
import tqdm.auto
from sklearn import neural_network
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier, VotingRegressor
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_estimator

import fastbp as fb

from .problems import (
    ESTIMATORS,
    IRIS,
    NAMES,
    ROWS,
    SMALL,
    WEIGHTS,
    both,
    data,
    difference,
    fitting,
    problem,
    quiet,
    warned,
)

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
            # scikit-learn has no annotations.
            assert mine[parameter.name].replace(annotation=parameter.annotation) == parameter
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
