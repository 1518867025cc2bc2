"""TableEncoder: what it reads, what it makes of it, and what it refuses."""

import datetime
import json
import os
import pickle
import warnings
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, QuantileTransformer
from sklearn.utils.estimator_checks import check_estimator

import fastbp as fb
from fastbp.estimators import TableEncoder
from fastbp.estimators.column_encoders import Z_MAX, Z_MIN, noisy_quantiles

try:
    import polars as pl
except ImportError:
    pl = None

needs_polars = pytest.mark.skipif(pl is None, reason="polars is not installed")

DATA = Path(os.environ.get("FASTBP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def encoded(X, **options):
    return TableEncoder(**{"random_state": 0} | options).fit_transform(X)


def fitted(X, **options):
    return TableEncoder(**{"random_state": 0} | options).fit(X)


def frame(n=200, seed=0):
    rng = np.random.default_rng(seed)
    words = np.array(["red", "green", "blue", None], dtype=object)
    table = {
        "size": rng.lognormal(size=n),
        "count": rng.integers(0, 20, n),
        "color": words[rng.integers(0, 4, n)],
        "town": [f"town {i}" for i in rng.integers(0, 40, n) ** 2 // 40],
        "new": rng.random(n) < 0.5,
        "sold": np.datetime64("2023-12-30") + rng.integers(0, 400, n),
        "age": np.where(rng.random(n) < 0.3, np.nan, rng.normal(size=n)),
    }
    return pd.DataFrame(table)


# Numbers


@pytest.mark.parametrize("n", [2, 3, 9, 31, 299, 300, 2000, 40_000])
def test_numbers_are_transformed_as_by_scikit_learn(n, rng):
    X = np.column_stack([rng.normal(size=n), rng.exponential(size=n), rng.integers(0, 9, n) * 7.0])
    X = X[:, [np.unique(column).size > 2 or n == 2 for column in X.T]]
    others = rng.normal(size=(500, X.shape[1])) * 3
    encoder = fitted(X, dtype="float64")
    if n == 2:
        assert (encoder.n_numeric_, encoder.n_binary_) == (0, 2 + (X[0, 2] != X[1, 2]))
        return
    noise = np.random.default_rng(np.random.RandomState(0).randint(2**31))
    scale = 1e-5 * np.minimum(1, X.std(axis=0))
    noisy = X + scale * noise.normal(size=X.shape[::-1]).T
    n_quantiles = min(n, max(min(n // 30, 1000), 10))
    truth = QuantileTransformer(n_quantiles=n_quantiles, output_distribution="normal",
                                subsample=None).fit(noisy)
    for rows in (X, others):
        np.testing.assert_allclose(encoder.transform(rows), truth.transform(rows), atol=1e-9)


def test_missing_numbers_are_zero_and_have_an_indicator(rng):
    x = rng.normal(size=100)
    with_missing = x.copy()
    with_missing[::3] = np.nan
    encoder = fitted(with_missing[:, None])
    Z = encoder.transform(with_missing[:, None])
    assert encoder.get_feature_names_out().tolist() == ["x0", "x0_missing"]
    assert (encoder.n_numeric_, encoder.n_binary_, encoder.n_codes_) == (1, 1, [])
    assert (Z[::3] == [0, 1]).all() and (Z[1::3, 1] == 0).all()
    present = ~np.isnan(with_missing)
    assert (Z[present, 0] == encoded(with_missing[present, None])[:, 0]).all()
    # Missing in prediction only
    assert fitted(x[:, None]).transform([[np.nan]]).tolist() == [[0]]


def test_columns_of_two_values():
    X = [[3, True, "a", 5.0, None], [7, False, "b", None, 1], [3, True, "a", 5.0, 2]]
    encoder = fitted(X)
    assert encoder.get_feature_names_out().tolist() == [
        "x0", "x1", "x2_a", "x2_b", "x3_missing", "x4", "x4_missing"]
    assert encoder.transform(X).tolist() == [
        [0, 1, 1, 0, 0, 0, 1], [1, 0, 0, 1, 1, 0, 0], [0, 1, 1, 0, 0, 1, 0]]
    assert encoder.transform([[6, None, "c", 8, 9]]).tolist() == [[1, 0, 0, 0, 0, 1, 0]]


@pytest.mark.parametrize("unit", [1e-300, 1e-12, 1e-3, 1.0, 1e6, 1e17, 1e300])
def test_any_unit(unit, rng):
    x = np.concatenate([np.zeros(400), rng.normal(size=600)])
    Z = encoded((x * unit)[:, None], dtype="float64")[:, 0]
    assert np.isfinite(Z).all()
    # Equal numbers are in the middle of those that they are equal to.
    below = (x < 0).mean()
    middle = below + 0.2
    assert abs((Z[:400] < 0).mean() - (middle < 0.5)) <= 1
    order = np.argsort(x[400:])
    assert (np.diff(Z[400:][order]) >= 0).all()
    assert Z.min() >= Z_MIN and Z.max() <= Z_MAX


def test_many_equal_to_the_least_are_not_outliers(rng):
    x = np.concatenate([np.zeros(800), rng.exponential(size=200)])
    Z = encoded(x[:, None])
    assert -1 < Z[0, 0] < 0  # the quantile 0.4


def test_huge_numbers_and_outliers():
    x = np.array([-1.7e308, 1.7e308, 1.0, 2.0, 3.0] * 20)
    quantiles = noisy_quantiles(x, np.random.default_rng(0))
    assert np.isfinite(quantiles).all() and (np.diff(quantiles) >= 0).all()
    Z = encoded(x[:, None])
    assert np.isfinite(Z).all() and (np.diff(Z[[0, 2, 3, 4, 1], 0]) > 0).all()


def test_the_random_state(rng):
    X = rng.integers(0, 5, (1000, 3))
    assert (encoded(X) == encoded(X)).all()
    assert (encoded(X) != encoded(X, random_state=1)).any()
    state = np.random.RandomState(0)
    assert (encoded(X) == encoded(X, random_state=state)).all()


# Categories


@pytest.mark.parametrize("kind", [str, int, float, bool])
def test_levels_as_by_scikit_learn(kind, rng):
    X = rng.integers(0, 2 if kind is bool else 12, (300, 4)).astype(kind)
    X = X.astype(object) if kind is str else X
    others = rng.integers(0, 15, (100, 4)).astype(kind)
    others = others.astype(object) if kind is str else others
    encoder = fitted(X, categories=[0, 1, 2, -1])
    truth = OneHotEncoder(handle_unknown="ignore", sparse_output=False).fit(X)
    for rows in (X, others):
        Z = encoder.transform(rows)
        assert (truth.transform(rows) == Z).all()
    assert (encoder.n_numeric_, encoder.n_binary_) == (0, sum(map(len, truth.categories_)))
    if kind is not float:
        assert (encoder.get_feature_names_out() == truth.get_feature_names_out()).all()


def test_missing_is_a_level_if_it_is_in_training():
    for missing in (None, np.nan, float("nan"), pd.NA, pd.NaT):
        encoder = fitted([["a"], [missing], ["b"]])
        assert encoder.get_feature_names_out().tolist() == ["x0_a", "x0_b", "x0_missing"]
        assert encoder.transform([[None], [np.nan], [pd.NA]]).tolist() == [[0, 0, 1]] * 3
        assert fitted([["a"], ["b"]]).transform([[missing]]).tolist() == [[0, 0]]


def test_codes(rng):
    common = np.repeat([f"level {i:03}" for i in range(50)], 6)
    text = np.concatenate([common, ["rare"] * 4, [None] * 7]).astype(object)
    X = pd.DataFrame({"t": text, "x": rng.normal(size=len(text))})
    encoder = fitted(X)
    assert (encoder.n_numeric_, encoder.n_binary_, encoder.n_codes_) == (1, 0, [52])
    codes = encoder.transform(X)[:, 1]
    expected = np.concatenate([np.repeat(np.arange(1, 51), 6), [0] * 4, [51] * 7])
    assert (codes == expected).all()
    unseen = pd.DataFrame({"t": ["other", None, "level 007"], "x": 0.0})
    assert encoder.transform(unseen)[:, 1].tolist() == [0, 51, 8]
    assert fitted(X, min_frequency=1).n_codes_ == [53]
    assert fitted(X, min_frequency=7).n_codes_ == [2]  # missing, and all others
    assert fitted(X, max_one_hot=52).n_binary_ == 52
    assert fitted(X, max_one_hot=51).n_binary_ == 0
    network = fb.Sequential([fb.Embedding(encoder.n_codes_[0], 3)])
    assert network.predict(codes[:, None]).shape == (len(text), 3)


def test_levels_are_compared_as_text():
    encoder = fitted([["1"], [2], [3.0], ["0.5"], [2.0]], categories=[0])
    assert encoder.n_binary_ == 4
    Z = encoder.transform([[1], ["2"], ["3"], [0.5], [Decimal("0.5")], [np.float32(1)]])
    names = encoder.get_feature_names_out()[Z.argmax(axis=1)]
    assert names.tolist() == ["x0_1", "x0_2", "x0_3", "x0_0.5", "x0_0.5", "x0_1"]
    assert (Z.sum(axis=1) == 1).all()
    booleans = fitted([[True], [False], [True]], categories=[0])
    assert booleans.get_feature_names_out().tolist() == ["x0_False", "x0_True"]
    for true in (True, 1, "1", "True", Decimal(1), np.True_):
        assert booleans.transform(np.array([[true]], dtype=object)).tolist() == [[0, 1]]
    numbers = fitted(np.array([[1], [2], [10]]), categories=[0])
    assert numbers.get_feature_names_out().tolist() == ["x0_1", "x0_2", "x0_10"]
    assert numbers.transform(np.array([["10"], ["1"]])).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_unique_text_is_dropped_with_a_warning(rng):
    X = frame(100).assign(id=[f"id {i}" for i in range(100)])
    for action in (TableEncoder(random_state=0).fit, TableEncoder(random_state=0).fit_transform):
        with pytest.warns(UserWarning, match="column 'id' has no value that occurs "
                                             "min_frequency=5 times.*like identifiers") as caught:
            action(X)
        assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match="columns 'id', 'id2' have .* Leave them out"):
        encoder = fitted(X.assign(id2=X["id"]))
    assert encoder.dropped_ == {"id": "identifiers", "id2": "identifiers"}
    assert "'id' (identifiers)" in encoder.describe()


# Kinds


def test_kinds_are_inferred():
    day = datetime.date(2024, 5, 17)
    X = pd.DataFrame({
        "int": [1, 2, 3], "float": [0.5, None, 2], "bool": [True, False, True],
        "text": ["1.5", "2.5", "3.5"], "objects": pd.Series([1, None, 2.5], dtype=object),
        "decimal": [Decimal("1.5"), None, Decimal(3)], "bools": [True, None, False],
        "mixed": [1, "a", None], "category": pd.Categorical([3, 1, 3]),
        "date": pd.to_datetime(["2024-01-01", None, "2024-02-02"]),
        "dates": pd.Series([day, None, datetime.date(2024, 5, 18)], dtype=object),
        "string": pd.Series(["a", None, "b"], dtype="string"),
        "Int64": pd.Series([1, None, 3], dtype="Int64"),
        "boolean": pd.Series([True, None, False], dtype="boolean"),
        "interval": pd.cut(pd.Series([1, 5, 9]), 2), "none": [None] * 3, "one": 7,
        "zone": pd.to_datetime(["2024-01-01", None, "2024-02-02"]).tz_localize("Asia/Tokyo"),
        "period": pd.period_range("2024-01", periods=3, freq="M"),
        "delta": pd.to_timedelta([1, None, 3], "h"),
        "sparse": pd.arrays.SparseArray([0.0, 1.0, 2.0]),
    })
    encoder = fitted(X)
    assert encoder.kinds_ == {
        "int": "number", "float": "number", "bool": "boolean", "text": "category",
        "objects": "number", "decimal": "number", "bools": "boolean", "mixed": "category",
        "category": "category", "date": "date", "dates": "date", "string": "category",
        "Int64": "number", "boolean": "boolean", "interval": "category", "none": "number",
        "one": "number", "zone": "date", "period": "date", "delta": "number", "sparse": "number",
    }
    assert encoder.dropped_ == {"none": "no values", "one": "constant"}
    assert encoder.n_features_in_ == X.shape[1]
    assert np.isfinite(encoder.transform(X)).all()
    names = encoder.get_feature_names_out().tolist()
    assert {"mixed_1", "mixed_a", "mixed_missing", "date_days", "date_month"} <= set(names)
    for line in ("boolean: 'bool', 'bools' (missing: 1)", "dropped: 'none' (no values), 'one'",
                 "date: 'date' (days, month, weekday, missing: 1)"):
        assert line in encoder.describe()


def test_text_of_numbers_in_arrays_is_numbers():
    numbers = [["1.5"], ["-2e3"], ["nan"], ["7"]]
    for X in (numbers, np.array(numbers), np.array(numbers, dtype=object)):
        assert fitted(X).kinds_ == {"x0": "number"}
        assert fitted(X, categories=[0]).kinds_ == {"x0": "category"}
    assert (encoded(numbers) == encoded([[1.5], [-2e3], [None], [7]])).all()
    assert fitted([["1.5"], ["-2e3"], ["?"]]).kinds_ == {"x0": "category"}
    assert fitted([["nan"], ["inf"]]).kinds_ == {"x0": "category"}
    X = pd.DataFrame({"zip": ["02139", "10001", "94103"]})
    assert fitted(X).kinds_ == {"zip": "category"}
    assert fitted(X, numbers=["zip"]).kinds_ == {"zip": "number"}


def test_kinds_that_are_given():
    X = frame()
    encoder = fitted(X, categories=["count", "new"], numbers=["size"])
    assert encoder.kinds_["count"] == encoder.kinds_["new"] == "category"
    assert "new_False" in encoder.get_feature_names_out()
    by_index = fitted(X, categories=[1, 4])
    assert (by_index.transform(X) == encoder.transform(X)).all()
    category = X.assign(count=X["count"].astype("category"))
    assert (encoded(category, categories=["new"]) == encoder.transform(X)).all()
    assert (encoded(category, numbers=["count"]) == encoded(X)).all()
    for options, message in [
        ({"categories": ["weight"]}, r"^categories: there is no column 'weight' in X; its columns "
                                     r"are 'size', 'count'"),
        ({"numbers": [7]}, "^numbers: there is no column 7 in X"),
        ({"numbers": [0], "categories": ["size"]}, "expected different columns, got 'size' in bot"),
        ({"numbers": ["color"]}, "column 'color': expected a number, got 'red' in row"),
        ({"max_one_hot": -1}, "max_one_hot"), ({"min_frequency": 0}, "min_frequency"),
        ({"dtype": "int64"}, "dtype"), ({"categories": "size"}, "categories"),
    ]:
        with pytest.raises(ValueError, match=message):
            fitted(X, **options)


def test_dates():
    hours = pd.date_range("2023-11-30 05:00", periods=3000, freq="7h")
    X = pd.DataFrame({"when": hours})
    encoder = fitted(X, dtype="float64")
    names = encoder.get_feature_names_out().tolist()
    assert names == ["when_days", "when_month", "when_weekday", "when_hour"]
    parts = pd.DataFrame({"days": (hours - hours[0]) / pd.Timedelta(days=1), "month": hours.month,
                          "weekday": hours.day_of_week, "hour": hours.hour}).astype(float)
    np.testing.assert_array_equal(encoder.transform(X), encoded(parts, dtype="float64"))
    forms = {
        "array": hours.to_numpy()[:, None], "seconds": hours.to_numpy().astype("M8[s]")[:, None],
        "datetimes": [[each.to_pydatetime()] for each in hours],
        "objects": hours.astype(object).to_numpy()[:, None],
        "zone": pd.DataFrame({"when": hours.tz_localize("America/New_York", ambiguous=True,
                                                        nonexistent="shift_forward")}),
    }
    for name, form in forms.items():
        Z = encoded(form, dtype="float64")
        np.testing.assert_allclose(Z, encoder.transform(X), atol=0.1 if name == "zone" else 0)
    assert encoder.transform(pd.DataFrame({"when": [None]})).tolist() == [[0, 0, 0, 0]]
    # Parts that do not vary are left out
    day = pd.DataFrame({"when": pd.date_range("2024-01-01", periods=48, freq="30min")})
    assert fitted(day).get_feature_names_out().tolist() == ["when_days", "when_hour"]
    assert fitted(day.assign(x=range(48))).transform(
        pd.DataFrame({"when": [pd.Timestamp("3024-01-01")], "x": 1})).shape == (1, 3)


def test_dates_may_be_categories():
    X = pd.DataFrame({"d": pd.to_datetime(["2024-01-01", "2024-01-02", None])})
    Z = encoded(X, categories=["d"])
    assert (np.eye(3) == Z).all()
    encoder = fitted(X, categories=["d"])
    assert (encoder.transform(X.astype("M8[s]")) == Z).all()


# Forms of tables


def test_every_form_of_numbers(rng):
    X = rng.normal(size=(50, 3)).round(2)
    truth = encoded(X)
    assert truth.dtype == np.float32 and truth.flags.c_contiguous
    for form in (X.tolist(), X.astype(object), X.astype(str), np.asfortranarray(X), X[::-1][::-1],
                 pd.DataFrame(X), pd.DataFrame(X, columns=list("abc")),
                 pd.DataFrame(X).astype("Float64"), X.astype(np.longdouble),
                 X.astype(X.dtype.newbyteorder()), np.ma.array(X)):
        assert (encoded(form) == truth).all()
    masked = np.ma.array(X, mask=X > 1)
    assert (encoded(masked) == encoded(np.where(X > 1, np.nan, X))).all()
    assert encoded(X, dtype="float64").dtype == encoded(X, dtype=np.float64).dtype == np.float64


@needs_polars
def test_polars_as_pandas():
    X = frame()
    table = pl.DataFrame({name: [None if pd.isna(cell) else cell for cell in X[name]]
                          for name in X}).with_columns(pl.col("sold").cast(pl.Datetime("us")))
    truth = fitted(X)
    for form in (
        table, table.with_columns(pl.col("color").cast(pl.Categorical)),
        table.with_columns(pl.col("color").cast(pl.Enum(["blue", "green", "other", "red"]))),
        table.with_columns(pl.col("sold").cast(pl.Date), pl.col("count").cast(pl.UInt8)),
        table.with_columns(pl.col("sold").dt.replace_time_zone("Asia/Tokyo")),
    ):
        encoder = fitted(form)
        assert encoder.kinds_ == truth.kinds_
        assert (encoder.transform(form) == truth.transform(X)).all()
        assert (encoder.transform(X) == truth.transform(form)).all()
        assert (encoder.feature_names_in_ == list(X)).all()
    reordered = table.select(table.columns[::-1])
    assert (truth.transform(reordered) == truth.transform(X)).all()
    with pytest.raises(ValueError, match="column 'size': expected a number, got 'tiny' in row 1"):
        truth.transform(pl.concat([table.with_columns(pl.col("size").cast(pl.String))[:1],
                                   table.with_columns(pl.lit("tiny").alias("size"))[:1]]))


@needs_polars
def test_dtypes_of_polars():
    X = pl.DataFrame({
        "decimal": pl.Series([Decimal("1.5"), None, Decimal(4), Decimal(6)],
                             dtype=pl.Decimal(9, 2)),
        "flag": [True, None, False, True], "none": pl.Series([None] * 4, dtype=pl.Null),
        "span": [datetime.timedelta(hours=i) for i in range(4)], "int": [1, None, 3, 4],
        "nan": [1.0, float("nan"), None, 2.0],
    })
    encoder = fitted(X)
    assert encoder.kinds_ == {"decimal": "number", "flag": "boolean", "none": "number",
                              "span": "number", "int": "number", "nan": "number"}
    assert encoder.dropped_ == {"none": "no values"}
    assert np.isfinite(encoder.transform(X)).all()
    for bad in ([[1], [2, 3]], [{"a": 1}, {"a": 2}], [datetime.time(3), datetime.time(4)]):
        with pytest.raises(TypeError, match="column 'bad': expected a number, text or a date, got"):
            fitted(pl.DataFrame({"bad": bad, "x": [1, 2]}))
    with pytest.raises((TypeError, ValueError), match="LazyFrame"):
        fitted(X.lazy())


class Foreign:
    """A data frame of a library that is unknown here."""

    def __init__(self, X):
        self.X = X

    def __arrow_c_stream__(self, requested_schema=None):
        return self.X.__arrow_c_stream__(requested_schema)


@needs_polars
def test_data_frames_of_other_libraries():
    X = pl.DataFrame({"a": [1.0, 2.0, None], "b": ["x", "y", "x"]})
    assert (encoded(Foreign(X)) == encoded(X)).all()
    assert fitted(Foreign(X)).feature_names_in_.tolist() == ["a", "b"]


def test_data_frames_of_other_libraries_without_polars(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "polars", None)
    with pytest.raises(TypeError, match=r"got a .*\.Foreign; convert it, or install polars"):
        fitted(Foreign(None))
    monkeypatch.setattr(Foreign, "to_pandas", lambda self: self.X, raising=False)
    assert (encoded(Foreign(frame())) == encoded(frame())).all()


# Names of columns


def test_columns_are_matched_by_name():
    X = frame()
    encoder = fitted(X)
    Z = encoder.transform(X)
    assert (encoder.feature_names_in_ == list(X)).all()
    assert (encoder.transform(X[list(X)[::-1]]) == Z).all()
    with pytest.raises(ValueError, match="seen at fit time, yet now missing:\n- color\n"):
        encoder.transform(X.drop(columns="color"))
    with pytest.raises(ValueError, match="unseen at fit time:\n- extra\n"):
        encoder.transform(X.assign(extra=1))
    with pytest.warns(UserWarning, match="X does not have valid feature names, but") as caught:
        assert (encoder.transform(X.to_numpy(dtype=object)) == Z).all()
    assert caught[0].filename == __file__
    nameless = fitted(X.set_axis(range(7), axis=1))
    assert not hasattr(nameless, "feature_names_in_")
    assert nameless.get_feature_names_out()[0] == "x0"
    with pytest.warns(UserWarning, match="X has feature names, but TableEncoder was fitted with"):
        nameless.transform(X)
    with pytest.raises(ValueError, match="X has 2 features, but TableEncoder is expecting 7 feat"):
        nameless.transform([[1, 2]])
    assert not hasattr(encoder.fit([[1.0], [2.0]]), "feature_names_in_")


def test_names_that_are_refused():
    twice = pd.DataFrame([[1, 2, 3], [4, 5, 6]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="a different name for each column, got 'a' more than"):
        fitted(twice)
    with pytest.raises(TypeError, match="only supported if all input features have string names"):
        fitted(twice.set_axis(["a", 1, "b"], axis=1))
    assert fitted(twice.set_axis([1, 1, 1], axis=1)).n_features_in_ == 3


def test_names_of_the_result():
    X = pd.DataFrame({"a": ["b_c", "missing", None], "a_b": ["c", "d", "d"]})
    names = fitted(X).get_feature_names_out()
    assert names.tolist() == ["a_b_c", "a_missing", "a_missing_", "a_b_c_", "a_b_d"]
    encoder = fitted([[1, "a"], [2, "b"]])
    assert encoder.get_feature_names_out(["n", "t"]).tolist() == ["n", "t_a", "t_b"]
    with pytest.raises(ValueError, match="input_features should have length equal"):
        encoder.get_feature_names_out(["n"])
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        fitted(X).get_feature_names_out(["b", "a"])
    with pytest.raises(NotFittedError):
        TableEncoder().get_feature_names_out()


# What is refused


def test_infinite_numbers():
    X = frame()
    encoder = fitted(X)
    for value in (np.inf, -np.inf):
        bad = X.copy()
        bad.loc[[7, 9], "size"] = value
        for action in (encoder.transform, TableEncoder().fit):
            with pytest.raises(ValueError, match=r"X: column 'size' contains infinity in 2 rows of "
                                                 r"200, the first of them row 7"):
                action(bad)
    with pytest.raises(ValueError, match="X: column 1 contains infinity"):
        fitted([[1, 2], [3, 10**400]])


def test_columns_that_change_their_kind():
    X = frame()
    encoder = fitted(X)
    changes = [
        ("size", ["1.5", "big"] * 100, ValueError, "'size': expected a number, got 'big' in row 1"),
        ("size", X["sold"], TypeError, "'size': expected numbers, got dates"),
        ("size", [datetime.date(2024, 1, 1)] * 200, TypeError, "'size': expected a number, got "),
        ("sold", 7.5, TypeError, "'sold': expected a date, got 7.5 in row 0"),
        ("sold", "1.1.2024", TypeError, "'sold': expected a date, got '1.1.2024' in row 0"),
        ("color", [[1]] * 200, TypeError, r"'color': expected a number, text or a date, got \[1\]"),
    ]
    for name, values, error, message in changes:
        with pytest.raises(error, match=message):
            encoder.transform(X.assign(**{name: values}))
    same = X.assign(size=X["size"].astype(str), new=X["new"].astype(int), sold=X["sold"].astype(
        object), count=X["count"].astype(float), color=X["color"].astype("category"))
    assert (encoder.transform(same) == encoder.transform(X)).all()
    nothing = encoder.transform(X.assign(sold=np.nan, size=None, color=None))
    assert (nothing[:, 0] == 0).all()
    with pytest.warns(UserWarning, match=r"'color': expected text as in fit.* got numbers too"):
        assert encoder.transform(X.assign(color=3)).shape == nothing.shape


DAY = datetime.date(2024, 1, 1)


@pytest.mark.parametrize(("levels", "cells", "message"), [
    (["b", "a"], [1.5, 2.0], "expected text as in fit, such as 'a', 'b'; got numbers too"),
    (["b", "a"], [True, None], "got booleans too"),
    (["b", "a"], [DAY, DAY], "got dates too"),
    (["b", "a"], [DAY, 3], "got dates and numbers too"),
    (["b", "a"], ["a", 3], "got numbers too"),
    (["007", "008"], [7, 8], "expected text as in fit, such as '007', '008'; got numbers too"),
    ([1, 2], ["a", "b"], "expected numbers as in fit; got text too"),
    ([1.5, 2.5], [DAY, DAY], "got dates too"),
    ([True, False], [0.5, 1], "expected booleans as in fit; got numbers too"),
    ([DAY, datetime.date(2024, 1, 2)], [5, 5], "expected dates as in fit; got numbers too"),
    (["b", 1], [DAY, DAY], "expected numbers or text as in fit"),
    (["b", "a"], ["c", "d"], None), ([1, 2], [3.0, 2.5], None), (["1", "2"], [1.0, 2], None),
    ([1, 2], ["1", "2"], None), ([1, 0], [True, False], None), ([True, False], [1.0, 0.0], None),
    (["b", "a"], [None, np.nan], None), (["b", "a", None], [None, pd.NA], None),
])
@pytest.mark.parametrize("max_one_hot", [32, 0])
@pytest.mark.parametrize("of_pandas", [False, True])
def test_levels_of_other_types_than_those_of_fit(levels, cells, message, max_one_hot, of_pandas):
    X = pd.DataFrame({"a": pd.Series(levels * 10, dtype=object), "b": range(10 * len(levels))})
    encoder = fitted(X, categories=["a"], max_one_hot=max_one_hot)
    again = TableEncoder.from_state(json.loads(json.dumps(encoder.get_state())))
    new = pd.DataFrame({"a": pd.Series(cells, dtype=object), "b": range(len(cells))})
    if of_pandas:
        new["a"] = new["a"].astype("category")
    for each in (encoder, again):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            each.transform(new)
        assert len(caught) == (message is not None)
        if message is not None:
            assert str(caught[0].message).startswith("X: column 'a': expected ")
            assert message in str(caught[0].message)


@pytest.mark.parametrize(("X", "error", "message"), [
    ([1.0, 2.0], ValueError, "Expected 2D array, got 1D array instead.*Reshape your data"),
    (3.0, ValueError, "Expected 2D array, got scalar array"),
    ({"a": [1, 2]}, ValueError, r"a dict of columns is a table as pandas.DataFrame\(X\)"),
    (np.ones((2, 2, 2)), ValueError, "Expected 2D array, got 3D array"),
    ([[1, 2], [3]], ValueError, "expected rows of the same length, got rows of 1 and 2 cells"),
    (np.empty((0, 3)), ValueError, r"0 sample\(s\) \(shape=\(0, 3\)\) while a minimum of 2"),
    (np.empty((3, 0)), ValueError, r"0 feature\(s\) \(shape=\(3, 0\)\) while a minimum of 1"),
    (pd.DataFrame(index=range(3)), ValueError, r"0 feature\(s\)"),
    ([[1.0, 2.0]], ValueError, r"1 sample\(s\)"),
    (np.ones((3, 2)), ValueError, "no column is left to learn from, of 2 .*constant"),
    ([[None], [None]], ValueError, "no column is left to learn from.*no values"),
    (np.ones((2, 2)) * 1j, ValueError, "Complex data not supported"),
    (pd.DataFrame({"a": [1j, 2j]}), ValueError, "Complex data not supported\nX: column 'a'"),
    (scipy.sparse.eye_array(3), TypeError, r"Sparse data was passed.*toarray\(\)"),
    (np.zeros(3, [("a", "f8")]), TypeError, r"convert X to a data frame"),
    ([[1, [2, 3]], [4, 5]], TypeError, r"X: column 1: expected a number, .* got \[2, 3\], a list, "
                                       r"in row 0"),
    (pd.DataFrame({"a": [1, {"b": 2}]}), TypeError, "column 'a': .* a dict, in row 1"),
    (pd.DataFrame({"a": ["x", ["y"]]}), TypeError, r"column 'a': .* a list, in row 1"),
    (pd.DataFrame({"a": ["x", (1, 2)]}), TypeError, r"column 'a': .* a tuple, in row 1"),
    (pd.DataFrame({"a": [b"x", b"y"]}), TypeError, "column 'a': .* a bytes, in row 0"),
    (pd.DataFrame({"a": [1.0, datetime.date(2024, 1, 1)]}), TypeError, "mixes dates and numbers"),
], ids=str)
def test_tables_that_are_refused(X, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        fitted(X)


def test_a_series_is_no_table():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array instead"):
        fitted(pd.Series([1.0, 2.0]))


def test_a_fit_that_is_refused_changes_nothing():
    X = frame()
    encoder = fitted(X)
    before = encoder.transform(X)
    with pytest.raises(ValueError, match="infinity"):
        encoder.fit([[np.inf], [1.0]])
    assert (encoder.transform(X) == before).all()
    with pytest.raises(NotFittedError):
        TableEncoder().transform(X)
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        encoder.transform(X[:0])


# scikit-learn


@pytest.mark.filterwarnings("ignore")
def test_check_estimator():
    check_estimator(TableEncoder(), on_fail="raise")


def test_copies_and_pickles():
    X = frame()
    encoder = fitted(X, max_one_hot=8)
    again = pickle.loads(pickle.dumps(encoder))
    assert (again.transform(X) == encoder.transform(X)).all()
    assert again.describe() == encoder.describe()
    fresh = clone(encoder)
    assert fresh.get_params() == encoder.get_params() and not hasattr(fresh, "kinds_")


def test_in_pipelines():
    X = frame()
    y = X["size"] > 1
    model = make_pipeline(TableEncoder(max_one_hot=100, random_state=0),
                          fb.MLPClassifier((16,), solver="lbfgs", random_state=0))
    assert model.fit(X, y).score(X, y) > 0.95
    columns = ColumnTransformer([("table", TableEncoder(random_state=0), ["color", "age"])])
    Z = columns.fit_transform(X)
    assert columns.get_feature_names_out()[0] == "table__age"
    assert (encoded(X[["color", "age"]]) == Z).all()
    frames = TableEncoder(random_state=0).set_output(transform="pandas")
    named = frames.fit_transform(X)
    assert list(named) == frames.get_feature_names_out().tolist()
    assert (named.to_numpy() == encoded(X)).all()
    assert (named.index == X.index).all()


# Any table

CELLS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_infinity=False), st.text(max_size=3),
    st.sampled_from(["a", "b", "1", "nan", ""]), st.dates(), st.datetimes(),
    st.decimals(allow_infinity=False, allow_nan=False, places=2),
)


@st.composite
def tables(draw):
    n = draw(st.integers(2, 12))
    strategies = st.sampled_from([CELLS, st.floats(allow_infinity=False), st.integers(0, 3),
                                  st.sampled_from(["x", "y", None]), st.datetimes()])
    return [draw(st.lists(draw(strategies), min_size=n, max_size=n))
            for _ in range(draw(st.integers(1, 4)))]


@given(tables(), st.booleans(), st.integers(0, 4))
def test_any_table(columns, named, max_one_hot):
    """It is refused with a message that says where, or encoded: finite, row by row."""
    if named:
        X = pd.DataFrame({f"c{i}": pd.Series(cells, dtype=object)
                          for i, cells in enumerate(columns)})
    else:
        X = np.empty((len(columns[0]), len(columns)), dtype=object)
        X[:] = list(zip(*columns, strict=True))
    encoder = TableEncoder(max_one_hot=max_one_hot, min_frequency=2, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            Z = encoder.fit_transform(X)
        except (TypeError, ValueError) as error:
            assert str(error).startswith("X: ")
            return
    assert np.isfinite(Z).all()
    assert (encoder.transform(X) == Z).all()
    one_by_one = [encoder.transform(X[i:i + 1]) for i in range(len(X))]
    assert (np.concatenate(one_by_one) == Z).all()
    n, k = encoder.n_numeric_, encoder.n_numeric_ + encoder.n_binary_
    assert Z.shape[1] == k + len(encoder.n_codes_) == len(encoder.get_feature_names_out())
    assert ((Z[:, n:k] == 0) | (Z[:, n:k] == 1)).all()
    assert (Z[:, k:] == Z[:, k:].astype(int)).all()
    assert (Z[:, k:] < encoder.n_codes_).all() and (Z[:, k:] >= 0).all()


def test_ten_thousand_columns(rng):
    X = pd.DataFrame(rng.normal(size=(20, 10_000)), columns=[f"c{i}" for i in range(10_000)])
    encoder = fitted(X)
    assert encoder.n_numeric_ == 10_000
    assert (encoder.transform(X[X.columns[::-1]]) == encoder.transform(X)).all()
    assert len(encoder.get_feature_names_out()) == 10_000
    assert "and 9980 more" in encoder.describe()


@pytest.mark.parametrize(("name", "target", "counts"), [
    ("adult", "income", (6, 60, [42])), ("diamonds", "price", (6, 20, [])),
    ("california_housing", "median_house_value", (8, 6, [])),
])
def test_real_tables(name, target, counts):
    path = DATA / f"{name}.csv"
    if not path.exists():
        pytest.skip(f"{path} does not exist; FASTBP_DATA names the folder")
    X = pd.read_csv(path).drop(columns=target)
    encoder = fitted(X)
    Z = encoder.transform(X)
    assert (encoder.n_numeric_, encoder.n_binary_, encoder.n_codes_) == counts
    numeric = Z[:, :counts[0]]
    assert np.abs(np.median(numeric, axis=0)).max() < 1.5 and np.abs(numeric).max() < 5.3
    if pl is not None:
        assert (encoder.transform(pl.read_csv(path).drop(target)) == Z).all()


# Text that is dates


ISO = ["2024-02-29", "2024-03-01T18:30", "2023-12-31 23:59:59.5", None, "2024-07-01T00:00:00+02:00"]


@pytest.mark.parametrize("make", [
    lambda texts: [[text] for text in texts], lambda texts: pd.DataFrame({"day": texts}),
], ids=["rows", "pandas"])
def test_text_of_iso_dates_is_encoded_like_the_dates(make):
    dates = np.array(["2024-02-29", "2024-03-01T18:30", "2023-12-31T23:59:59.5", "NaT",
                      "2024-07-01"], dtype="M8[us]")
    encoder = fitted(make(ISO))
    assert list(encoder.kinds_.values()) == ["date"]
    expected = fitted(pd.DataFrame({"day": dates}))
    others = np.array(["2025-01-05T12:00", "NaT"], dtype="M8[us]")
    assert (encoder.transform(make(ISO)) == expected.transform(pd.DataFrame({"day": dates}))).all()
    assert (encoder.transform(make(["2025-01-05T12:00Z", None]))
            == expected.transform(pd.DataFrame({"day": others}))).all()
    with pytest.raises(TypeError, match=r"expected a date, got 'soon' in row 1"):
        encoder.transform(make(["2024-01-01", "soon"]))


@pytest.mark.parametrize("texts", [
    ["2024-02-29", "soon"], ["2023-02-29", "2023-02-28"], ["20240229", "20240301"],
    ["2024-W09-4", "2024-W09-5"], ["29.02.2024", "01.03.2024"],
])
def test_other_text_is_categories(texts):
    assert fitted(pd.DataFrame({"day": texts})).kinds_ == {"day": "category"}


def test_text_of_dates_can_be_listed_as_categories():
    texts = pd.DataFrame({"day": ["2024-02-29", "2024-03-01"]})
    assert fitted(texts, categories=["day"]).kinds_ == {"day": "category"}


def test_files_without_the_types_of_levels():
    state = TableEncoder().fit([["a"], ["b"]]).get_state()
    for *_, column in state["columns"]:
        del column["types"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert TableEncoder.from_state(state).transform([["b"], [1]]).tolist() == [[0, 1], [0, 0]]


def test_a_time_difference_among_text():
    cells = [["a"], ["b"], [np.timedelta64(3, "D")]]
    with pytest.raises(TypeError, match=r"^X: column 0: .* a timedelta64, in row 2;"):
        TableEncoder().fit(cells)
    encoder = TableEncoder().fit(cells[:2])
    with pytest.raises(TypeError, match=r"^X: column 0: .* a timedelta64, in row 1;"):
        encoder.transform(cells[1:])
