"""Targets: classes as whole numbers, and standardized numbers."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn.exceptions import DataConversionWarning
from sklearn.preprocessing import LabelEncoder, StandardScaler

from fastbp.estimators.targets import TargetScaler, encode_classes

try:
    import polars as pl
except ImportError:
    pl = None

CLASSES = {
    "text": ["b", "a", "c", "a"], "array": np.array(["b", "a", "c"]), "ints": [3, 1, 3, 2],
    "bools": [True, False, True], "objects": np.array(["b", "a"], dtype=object),
    "floats": [1.0, 2.0, 1.0], "category": pd.Series(["x", "y", "x"], dtype="category"),
    "Int64": pd.Series([3, 1], dtype="Int64"), "string": pd.Series(["b", "a"], dtype="string"),
    "boolean": pd.Series([True, False], dtype="boolean"),
}


@pytest.mark.parametrize("y", CLASSES.values(), ids=CLASSES)
def test_classes_as_by_scikit_learn(y):
    codes, classes = encode_classes(y)
    truth = LabelEncoder().fit(np.array(list(y)))
    assert codes.tolist() == truth.transform(np.array(list(y))).tolist()
    assert classes.tolist() == truth.classes_.tolist() and classes.dtype == truth.classes_.dtype
    again, same = encode_classes(y, classes)
    assert (again == codes).all() and same is classes


def test_a_column_of_classes():
    with pytest.warns(DataConversionWarning):
        codes, _ = encode_classes(np.array([["a"], ["b"]]))
    assert codes.tolist() == [0, 1]


@pytest.mark.skipif(pl is None, reason="polars is not installed")
def test_series_of_polars():
    for dtype in (pl.String, pl.Categorical):
        codes, classes = encode_classes(pl.Series(["b", "a", "b"]).cast(dtype))
        assert (codes.tolist(), classes.tolist()) == ([1, 0, 1], ["a", "b"])
    with pytest.raises(ValueError, match="1 missing value in 3 rows, the first in row 1"):
        encode_classes(pl.Series(["b", None, "b"]))
    assert TargetScaler(pl.Series([1, 3])).mean.tolist() == [2]


@pytest.mark.parametrize(("y", "error", "message"), [
    (["a", None, "b", None], ValueError, "Input y contains NaN: 2 missing values in 4 rows, the "
                                         "first in row 1; remove such rows from features and "
                                         "targets"),
    (["a", float("nan"), "b"], ValueError, "1 missing value in 3 rows, the first in row 1"),
    (pd.Series([1, pd.NA], dtype="Int64"), ValueError, "1 missing value in 2 rows"),
    ([1.0, np.nan], ValueError, "Input y contains NaN"),
    ([], ValueError, "a class for each row, got none"),
    (["a", "a"], ValueError, "only one class: 'a'"),
    ([1.5, 2.5, 3.5], ValueError, "Unknown label type: continuous"),
    ([[1, 0], [0, 1]], ValueError, r"one class for each row.*got shape \(2, 2\)"),
    (None, ValueError, "requires y to be passed, but the target y is None"),
    (scipy.sparse.eye_array(2), TypeError, "Sparse data was passed for y"),
    (3, ValueError, r"got shape \(\)"),
], ids=str)
def test_classes_that_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        encode_classes(y)


def test_a_class_that_is_not_in_training():
    _, classes = encode_classes([1, 2, 4])
    assert encode_classes([4, 4], classes)[0].tolist() == [2, 2]
    with pytest.raises(ValueError, match="the classes of the training rows, '1', '2', '4', got "
                                         "'3', '7' too"):
        encode_classes([3, 1, 7], classes)


@pytest.mark.parametrize("shape", [(30,), (30, 1), (30, 3)])
def test_numbers_as_by_scikit_learn(shape, rng):
    y = rng.normal(5, 3, shape)
    scaler = TargetScaler(y)
    truth = StandardScaler().fit(y.reshape(30, -1))
    np.testing.assert_allclose(scaler.mean, truth.mean_)
    np.testing.assert_allclose(scaler.scale, truth.scale_)
    Z = scaler.transform(y, "float64")
    np.testing.assert_allclose(Z, truth.transform(y.reshape(30, -1)))
    inverse = scaler.inverse(Z)
    assert inverse.shape == (shape if shape[-1] != 1 else (30,))
    np.testing.assert_allclose(inverse, y.reshape(inverse.shape))
    assert scaler.transform(y[:3]).dtype == np.float32


def test_forms_of_numbers():
    for y in ([1, 2, 3], np.array([1, 2, 3], dtype=object), pd.Series([1, 2, 3], dtype="Int64"),
              pd.DataFrame({"a": [1, 2, 3]}), [True, 2, 3.0]):
        scaler = TargetScaler(y)
        assert scaler.mean.tolist() == [2]
        assert scaler.inverse(scaler.transform(y)).tolist() == pytest.approx([1, 2, 3])


def test_a_constant_target():
    scaler = TargetScaler([[7.0, 1.0], [7.0, 3.0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert scaler.transform([[7.0, 3.0], [9.0, 1.0]]).tolist() == [[0, 1], [0, -1]]
        assert scaler.inverse([[0.3, 1.0]]).tolist() == [[7, 3]]


@pytest.mark.parametrize(("y", "error", "message"), [
    ([1.0, np.nan, 2.0, None], ValueError, "2 missing values in 4 rows, the first in row 1"),
    ([1.0, np.inf], ValueError, "y contains infinity in 1 row of 2"),
    ([[1.0, 2.0], [3.0, np.nan]], ValueError, "Input y, column 1 contains NaN: 1 missing value"),
    (["a", "b"], ValueError, "y: expected numbers, got 'a' in row 0; convert them"),
    (np.array(["1", "2"]), ValueError, "y: expected numbers, got '1' in row 0"),
    ([1j, 2.0], ValueError, "Complex data not supported"),
    (np.ones((2, 2, 2)), ValueError, r"got shape \(2, 2, 2\)"),
    ([], ValueError, r"got shape \(0,\)"),
    (np.array(["2024-01-01"], dtype="M8[D]"), TypeError, "y: expected numbers, got dates"),
    ([1e300, -1e300], ValueError, "whose squares float64 can hold"),
], ids=str)
def test_numbers_that_are_refused(y, error, message):
    with pytest.raises(error, match=message):
        TargetScaler(y)


def test_another_number_of_outputs():
    with pytest.raises(ValueError, match="expected 1 output as in training, got 2"):
        TargetScaler([1.0, 2.0]).transform([[1.0, 2.0]])
