"""What TabPack and TabM have in common: the rows set aside, and what messages say of them."""

import warnings

import numpy as np
import pandas as pd
import pytest

import fastbp as fb
from fastbp.estimators.tables import seconds_per_epoch

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


@pytest.mark.parametrize("make", [fb.TabPackClassifier, fb.TabPackRegressor, fb.TabMRegressor])
@pytest.mark.parametrize(("change", "message"), [
    ({"y_val": [0] * 99}, r"^X_val, y_val: .* inconsistent numbers of samples: \[100, 99\]"),
    ({"X_val": 3.0}, "^X_val, y_val: "),
    ({"y_val": np.zeros((100, 2), int)}, "^y_val: expected one class|^y_val: expected 1 output as"),
    ({"sample_weight_val": [1, 2]}, r"^sample_weight_val.shape == \(2,\), expected \(100,\)"),
    ({"sample_weight_val": -np.ones(100)}, "Negative values in .* `sample_weight_val`"),
    ({"sample_weight_val": ["a"] * 100}, "^sample_weight_val: could not convert string"),
    ({"sample_weight_val": [np.nan] * 100}, "sample_weight_val contains NaN"),
    ({"sample_weight_val": np.zeros(100)}, "^sample_weight_val: .*(above 0|at least one non-zero)"),
    ({"sample_weight": np.array(["a"] * 100)}, "^sample_weight: could not convert string"),
])
def test_messages_name_the_argument_of_fit(make, change, message):
    X, y = table()
    with pytest.raises((TypeError, ValueError), match=message):
        make(n_members=1, max_epochs=1).fit(X, y, **{"X_val": X, "y_val": y} | change)


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


def test_the_types_of_levels_are_those_of_all_rows(model):
    """A level that is a number, of the rows set aside, is no surprise: no warning."""
    X, y = table()
    _, aside = model._split(100, y, np.random.RandomState(0))
    X = replaced(X, "text", aside[0], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(X, y).predict(X)


def test_warnings_show_the_line_of_the_call(model):
    X, y = table()
    X["id"] = [f"i{i}" for i in range(100)]
    with pytest.warns(UserWarning, match="like identifiers") as caught:
        model.fit(X, y)
    numbers = X.assign(text=range(100))
    with pytest.warns(UserWarning, match="got numbers too") as unknown:
        model.predict(numbers)
    with pytest.warns(UserWarning, match="got numbers too") as scored:
        model.score(numbers, y)
    with pytest.warns(UserWarning, match="feature names") as unnamed:
        model.predict(X.to_numpy())
    for each in (caught, unknown, scored, unnamed):
        assert {warning.filename for warning in each} == {__file__}


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


class TestTimeLimit:
    def test_one_that_is_not_reached_changes_nothing(self, model):
        X, y = table()
        expected = model.fit(X, y).predict_proba(X)
        model.set_params(time_limit=1e6).fit(X, y)
        assert model.predict_proba(X).tobytes() == expected.tobytes()

    @pytest.mark.parametrize("seconds", [0.0, 1e6])
    def test_weights_of_rows(self, model, seconds):
        """The speed is measured on rows that may all have none."""
        X, y = table()
        weights = np.arange(100) >= 90
        model.set_params(time_limit=seconds + 1e-3, batch_size=10).fit(X, y, sample_weight=weights)
        assert np.isfinite(model.predict_proba(X)).all()

    @pytest.mark.parametrize(("seconds", "members", "per_feature"), [
        (0.0, 9, [8, 32]), (0.01, 9, [8, 32]), (100.0, 9, [8, 32]), (1e6, 1, [2, 2])])
    def test_tabpack_has_fewer_members(self, monkeypatch, seconds, members, per_feature):
        monkeypatch.setattr("fastbp.estimators.tabpack.seconds_per_epoch", lambda *_: seconds)
        X, y = table()
        model = fb.TabPackClassifier(9, width=8, patience=0, time_limit=1e6, refit=False,
                                     random_state=0).fit(X, y)
        found = model.history_.members
        assert len(found) == members
        assert all(per_feature[0] <= each["n_per_feature"] <= per_feature[1] for each in found)

    def test_tabpack_has_narrower_embeddings_if_that_makes_more_members(self, monkeypatch):
        X, y = table()
        for seconds, expected in ([9e4, 1e4], [2] * 9), ([9e4, 8e4], [32]):
            left = iter(seconds)
            monkeypatch.setattr("fastbp.estimators.tabpack.seconds_per_epoch",
                                lambda *_, left=left: next(left))
            model = fb.TabPackClassifier(50, width=8, patience=0, time_limit=1e6, refit=False,
                                         random_state=0).fit(X, y)
            assert [each["n_per_feature"] for each in model.history_.members] == expected

    @pytest.mark.parametrize(("options", "members"), [
        ({}, 5), ({"batch_size": 1}, 20), ({"max_epochs": 5}, 40), ({"batch_size": 2}, 20)])
    def test_tabpack_has_members_of_enough_steps(self, monkeypatch, options, members):
        """200 of 80 rows are 40 epochs by default, of 5 minibatches each."""
        monkeypatch.setattr("fastbp.estimators.tabpack.seconds_per_epoch", lambda *_: 2e4)
        X, y = table()
        model = fb.TabPackClassifier(50, width=8, patience=0, ensemble_patience=0, refit=False,
                                     time_limit=1.01e6, random_state=0, **options).fit(X, y)
        assert len(model.history_.members) == members

    @pytest.mark.parametrize("rows", [1, 16, 48, 10_000])
    def test_the_speed_is_that_of_a_minibatch(self, monkeypatch, rows):
        clock = iter([0.0, 5.0, 7.0])
        monkeypatch.setattr("fastbp.estimators.tables.time.perf_counter", lambda: next(clock))
        trained = []

        def train(n, on_epoch_end):
            trained.append(n)
            on_epoch_end(None)
            on_epoch_end(None)

        assert seconds_per_epoch(train, rows, 16) == 2 * max(1, rows / 16)
        assert trained == [min(rows, 16)]

    def test_nothing_is_measured_twice(self, monkeypatch):
        measured = []
        for name in ("tabpack", "tabm"):
            monkeypatch.setattr(f"fastbp.estimators.{name}.seconds_per_epoch",
                                lambda *_: measured.append(0) or 1e6)
        text = table()[0][["text", "level"]].to_numpy()
        wide = np.random.default_rng(0).normal(size=(20, 4097))
        for make, X, options, times in (
                (fb.TabPackClassifier, text, {}, 1), (fb.TabPackClassifier, wide, {}, 1),
                (fb.TabMClassifier, text, {}, 0), (fb.TabMClassifier, wide[:, :2], {}, 2),
                (fb.TabMClassifier, wide[:, :2], {"n_per_feature": 2}, 1),
                (fb.TabMClassifier, wide[:, :2], {"embedding": None}, 0)):
            measured.clear()
            make(2, width=2, max_epochs=1, time_limit=1e5, random_state=0, **options).fit(
                X, np.arange(len(X)) % 2)
            assert len(measured) == times

    def test_nothing_is_measured_after_it(self, monkeypatch, model):
        """Then the network is the smallest at once."""
        for name in ("tabpack", "tabm"):
            monkeypatch.setattr(f"fastbp.estimators.{name}.seconds_per_epoch",
                                lambda *_: pytest.fail("measured"))
        model.set_params(time_limit=1e-9, random_state=0).fit(*table())
        if isinstance(model, fb.TabPackClassifier):
            assert [each["n_per_feature"] for each in model.history_.members] == [2]
        else:
            assert model.network_.layers[0].n_out < 2 * model.encoder_.n_numeric_ + 10

    @pytest.mark.parametrize(("seconds", "columns"), [([1.0], 4), ([1e6, 1.0], 2), ([1e6, 1e6], 1)])
    def test_tabm_has_narrower_embeddings(self, monkeypatch, seconds, columns):
        left = iter(seconds)
        monkeypatch.setattr("fastbp.estimators.tabm.seconds_per_epoch", lambda *_: next(left))
        X, y = table()
        model = fb.TabMClassifier(n_members=2, width=8, n_per_feature=4, max_epochs=2,
                                  time_limit=1e6, random_state=0).fit(X, y)
        encoder, first = model.encoder_, model.network_.layers[0]
        assert first.n_out == encoder.n_numeric_ * columns + encoder.n_binary_
        assert next(left, None) is None


def test_numbers_of_a_wide_table_become_fewer_columns_each_in_tabm():
    X = np.random.default_rng(0).normal(size=(20, 3000))
    model = fb.TabMClassifier(n_members=1, width=2, n_blocks=1, max_epochs=1, n_bins=2)
    assert model.fit(X, np.arange(20) % 2).network_.layers[0].n_out == 6000
