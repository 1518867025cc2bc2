"""Every form of rows and targets that scikit-learn takes."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import neural_network

import fastbp as fb

from .problems import (
    ESTIMATORS,
    IRIS,
    LABELS,
    NAMES,
    NUMBERS,
    ROWS,
    SMALL,
    WEIGHTS,
    agree,
    both,
    fitting,
    parameters,
    quiet,
)

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
