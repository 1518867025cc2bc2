"""Data, scikit-learn's estimators beside fastbp's, and how the two are compared."""

import functools
import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.datasets
from sklearn import neural_network
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.utils.fixes import parse_version

import fastbp as fb

ESTIMATORS = {
    "classifier": (neural_network.MLPClassifier, fb.MLPClassifier),
    "regressor": (neural_network.MLPRegressor, fb.MLPRegressor),
}
ACTIVATIONS = ["identity", "logistic", "tanh", "relu"]
SMALL = {"hidden_layer_sizes": (7,), "random_state": 1, "max_iter": 20}
# What changed in scikit-learn 1.8: its own early stopping fails on labels that are no numbers or
# sparse before, and sample weights that are all zero are no error.
BEFORE_1_8 = parse_version(sklearn.__version__) < parse_version("1.8")
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
    try:
        expected = warned(truth, action)
    except TypeError:
        if BEFORE_1_8 and options.get("early_stopping"):
            pytest.skip("this version of scikit-learn cannot do it itself")
        raise
    got = warned(model, action)
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


WEIGHTS = {
    "positive": np.random.default_rng(0).exponential(size=442) + 0.01,
    "some zero": np.random.default_rng(0).exponential(size=442)
                 * (np.random.default_rng(1).random(442) > 0.4),
    "whole": np.arange(442) % 3 + 1,
}


NUMBERS = np.where(np.abs(IRIS[0][:, :3]) > 0.6, IRIS[0][:, :3], 0)


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
