"""What TabPack and TabM have in common: the rows set aside, and what messages say of them."""

import numpy as np
import pandas as pd
import pytest

import fastbp as fb

KINDS = {
    "TabPack": (fb.TabPackClassifier, {"n_members": 2, "width": 8, "max_epochs": 3}),
    "TabM": (fb.TabMClassifier, {"n_members": 2, "width": 8, "n_blocks": 1, "n_per_feature": 2,
                                 "n_bins": 4, "max_epochs": 3}),
}


@pytest.fixture(params=KINDS)
def model(request):
    make, options = KINDS[request.param]
    return make(random_state=0, **options)


def table(n=100):
    """A data frame with a column of each kind, and classes."""
    rng = np.random.default_rng(0)
    return pd.DataFrame({
        "number": rng.normal(size=n),
        "text": rng.choice(["red", "blue"], n),
        "day": pd.Series([f"2024-01-{1 + i % 28:02}" for i in range(n)], dtype=object),
        "mixed": pd.Series([i % 3 for i in range(n)], dtype=object),
        "level": pd.Categorical([f"l{i % 4}" for i in range(n)]),
    }), np.arange(n) % 2


def replaced(X, name, row, cell):
    X = X.copy()
    X[name] = X[name].astype(object)
    X.loc[row, name] = cell
    return X


class TestMessages:
    """They have the row numbers of the argument that they name."""

    BAD = pytest.mark.parametrize(("name", "cell", "options", "message"), [
        ("number", np.inf, {}, "infinity in 1 row of 100, the first of them row {}"),
        ("number", "many", {"numbers": ["number"]}, "got 'many' in row {}"),
        ("text", b"red", {}, "a bytes, in row {}"),
        ("text", ["red"], {}, "a list, in row {}"),
        ("mixed", (1, 2), {}, "a tuple, in row {}"),
        ("mixed", b"1", {"categories": ["mixed"]}, "a bytes, in row {}"),
        ("mixed", [1], {"categories": ["mixed"]}, "a list, in row {}"),
    ])

    @BAD
    @pytest.mark.parametrize("row", [0, 41, 42, 99])
    def test_of_the_rows_of_fit(self, model, name, cell, options, message, row):
        X, y = table()
        if isinstance(cell, list | tuple):
            X[name] = X[name].astype(object)
            X.at[row, name] = cell
        else:
            X = replaced(X, name, row, cell)
        with pytest.raises((TypeError, ValueError), match=(
                f"^X: column '{name}'.*{message.format(row)}[;,]")):
            model.set_params(**options).fit(X, y)

    @pytest.mark.parametrize("row", [0, 41, 42, 99])
    def test_of_arrays_and_lists(self, model, row):
        X, y = np.random.default_rng(0).normal(size=(100, 3)), np.arange(100) % 2
        X[row, 1] = np.inf
        for each in (X, X.tolist()):
            with pytest.raises(ValueError, match=f"X: column 1 .* the first of them row {row};"):
                model.fit(each, y)

    def test_of_categories_of_pandas_as_numbers(self, model):
        X, y = table()
        X["level"] = pd.Categorical(np.where(X["level"] == "l2", "l2", "1"))
        with pytest.raises(ValueError, match=r"X: column 'level': .* got 'l2' in row 2;"):
            model.set_params(numbers=["level"]).fit(X, y)

    @BAD
    def test_of_validation_rows_that_are_given(self, model, name, cell, options, message):
        X, y = table()
        X_val = X.copy()
        X_val[name] = X_val[name].astype(object)
        X_val.at[7, name] = cell
        with pytest.raises((TypeError, ValueError), match=(
                f"^X_val: column '{name}'.*{message.format(7)}[;,]")):
            model.set_params(**options).fit(X, y, X_val, y)

    def test_of_other_columns_in_validation_rows(self, model):
        X, y = table()
        with pytest.raises(ValueError, match=r"(?s)^X_val: The feature names should match.*text"):
            model.fit(X, y, X.drop(columns="text"), y)
        with pytest.raises(ValueError, match=r"^X_val has 1 features, but .* expecting 2"):
            model.fit(X[["number", "text"]].to_numpy(), y, X[["number"]].to_numpy(), y)
        with pytest.raises(ValueError, match=r"X_val.reshape"):
            model.fit(X[["number"]], y, X["number"], y)

    def test_of_validation_targets(self, model):
        X, y = table()
        with pytest.raises(ValueError, match=r"^y_val: expected the classes of the training rows"):
            model.fit(X, y, X, y + 1)
        with pytest.raises(ValueError, match=r"^Input y_val contains NaN"):
            model.fit(X, y, X, np.where(y, np.nan, 0))
        with pytest.raises(ValueError, match=r"^y_val: expected numbers, got 'x' in row 1"):
            fb.TabPackRegressor().fit(X, y, X, [0, "x"] * 50)


def test_the_kind_of_a_column_is_that_of_all_rows(model):
    """Text that is no number is as good a reason among the rows set aside as among the others."""
    X, y = table()
    cells = np.array([[str(i), "x"] for i in range(100)], dtype=object)
    _, aside = model._split(100, y, np.random.RandomState(0))
    cells[aside[0], 0] = "unknown"
    cells[:, 1] = X["number"]
    with pytest.warns(UserWarning, match="like identifiers"):
        model.fit(cells, y)
    assert model.encoder_.kinds_ == {"x0": "category", "x1": "number"}


def of_polars(X):
    pl = pytest.importorskip("polars")
    return pl.DataFrame({name: X[name].tolist() for name in X.columns})


@pytest.mark.parametrize("convert", [lambda X: X, pd.DataFrame.to_numpy, of_polars,
                                     lambda X: X.to_numpy().tolist()])
def test_rows_set_aside_are_those_of_validation_rows_that_are_given(model, convert):
    X, y = table()
    rows, aside = model._split(100, y, np.random.RandomState(0))
    whole = model.fit(convert(X), y).predict_proba(convert(X))
    # The encoder's seed is drawn after the rows.
    split = np.random.RandomState(0)
    model._split(100, y, split)
    given = model.set_params(random_state=split).fit(
        convert(X.iloc[rows].reset_index(drop=True)), y[rows],
        convert(X.iloc[aside].reset_index(drop=True)), y[aside]).predict_proba(convert(X))
    assert whole.tobytes() == given.tobytes()
