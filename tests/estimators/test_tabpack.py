"""TabPackClassifier and TabPackRegressor."""

import pickle
import time

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.exceptions import NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.utils.estimator_checks import check_estimator

import fastbp as fb
from fastbp.estimators.members import Draw
from fastbp.estimators.selection import Selection, Snapshot

SMALL = {"n_members": 3, "width": 16, "max_epochs": 15, "random_state": 0}
IRIS = load_iris(return_X_y=True)
DIABETES = load_diabetes(return_X_y=True)


def tiny(kind, **options):
    return kind(**{"n_members": 2, "width": 8, "max_epochs": 3, "random_state": 0} | options)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("kind", "options"), [
    # Some of the checks ask for a good fit.
    (fb.TabPackClassifier, {"max_epochs": 100, "width": 32}),
    (fb.TabPackRegressor, {"max_epochs": 100, "width": 32}),
    (fb.TabPackRegressor, {"quantiles": 0.5, "max_epochs": 5}),
])
def test_check_estimator(kind, options):
    # Which rows are set aside and in which minibatch a row is depends on how many there are.
    failing = {"check_sample_weight_equivalence_on_dense_data": "rows are drawn at random"}
    if "quantiles" in options:
        failing["check_supervised_y_2d"] = "y of one column is taken without a warning"
    check_estimator(tiny(kind, **options), on_fail="raise", expected_failed_checks=failing)


class TestSameBits:
    @pytest.mark.parametrize("kind", [fb.TabPackClassifier, fb.TabPackRegressor])
    def test_for_any_number_of_threads_and_from_run_to_run(self, kind):
        X, y = IRIS if kind is fb.TabPackClassifier else DIABETES
        found = set()
        for n_threads in (1, 1, 2, 3):
            model = kind(n_threads=n_threads, **SMALL).fit(X, y)
            predicted = model.predict_proba(X) if hasattr(model, "classes_") else model.predict(X)
            found.add((predicted.tobytes(), tuple(model.history_.chosen)))
        assert len(found) == 1

    def test_a_member_is_what_it_is_alone(self):
        X, y = DIABETES
        model = fb.TabPackRegressor(refit=False, **SMALL).fit(X, y)
        kept, _ = model._split(len(y), None, np.random.RandomState(0))
        (member, epoch) = model.history_.chosen[0]
        draw = Draw(**model.history_.members[member])
        network = draw.network(model.encoder_, 16, 1, "highest")
        network.fit(model.encoder_.transform(X[kept]),
                    model.target_scaler_.transform(y[kept]), loss=fb.MeanSquaredError(),
                    optimizer=draw.optimizer(), epochs=epoch + 1, batch_size=16, seed=draw.seed)
        assert network.get_state().tobytes() == model.ensemble_.networks[0].get_state().tobytes()

    def test_refit_trains_the_chosen_ones_on_all_rows(self):
        X, y = DIABETES
        before = fb.TabPackRegressor(refit=False, **SMALL).fit(X, y)
        model = fb.TabPackRegressor(**SMALL).fit(X, y)
        assert model.history_.chosen == before.history_.chosen
        kept, aside = model._split(len(y), None, np.random.RandomState(0))
        rows = np.concatenate([kept, aside])
        for network, (member, epoch) in zip(model.ensemble_.networks, model.history_.chosen,
                                            strict=True):
            draw = Draw(**model.history_.members[member])
            alone = draw.network(model.encoder_, 16, 1, "highest")
            alone.fit(model.encoder_.transform(X[rows]), model.target_scaler_.transform(y[rows]),
                      loss=fb.MeanSquaredError(), optimizer=draw.optimizer(), epochs=epoch + 1,
                      batch_size=16, seed=draw.seed)
            assert network.get_state().tobytes() == alone.get_state().tobytes()


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    n = 600
    number, text = rng.normal(size=n), rng.choice(["red", "green", "blue"], n)
    y = np.where((number > 0) ^ (text == "red"), "yes", "no")
    table = pd.DataFrame({
        "number": np.where(rng.random(n) < 0.1, np.nan, number),
        "text": np.where(rng.random(n) < 0.1, None, text), "constant": 1,
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), "D"),
        "many": rng.integers(0, 50, n).astype(str),
    })
    return table, y


@pytest.fixture(scope="module")
def model():
    return fb.TabPackRegressor(**SMALL).fit(*DIABETES)


class TestFit:
    def test_a_data_frame_with_missing_values(self, frame, capsys):
        X, y = frame
        model = fb.TabPackClassifier(n_members=4, width=32, max_epochs=40, random_state=0,
                                     verbose=1).fit(X[:400], y[:400])
        printed = capsys.readouterr().out
        assert "category: 'text'" in printed and "epoch 1/" in printed
        assert model.feature_names_in_.tolist() == list(X.columns)
        assert "constant" in model.encoder_.dropped_
        assert model.score(X[400:], y[400:]) > 0.8  # 0.5 without a model
        P = model.predict_proba(X[400:])
        assert P.shape == (200, 2) and np.allclose(P.sum(1), 1)
        assert set(model.predict(X[400:])) <= {"yes", "no"}
        shuffled = X[400:][X.columns[::-1]]
        assert model.predict_proba(shuffled).tobytes() == P.tobytes()

    def test_validation_rows_of_ones_own(self, frame):
        X, y = frame
        model = fb.TabPackClassifier(refit=False, **SMALL).fit(X[:400], y[:400], X[400:], y[400:])
        P = model.predict_proba(X[400:])
        # The mean is rounded to float32 there.
        assert model.best_score_ == pytest.approx(-log_loss(y[400:], P), abs=1e-6)

    def test_sample_and_class_weights(self):
        X, y = load_breast_cancer(return_X_y=True)
        options = SMALL | {"max_epochs": 6}
        plain = fb.TabPackClassifier(**options).fit(X, y).predict_proba(X)[:, 1].mean()
        heavy = fb.TabPackClassifier(class_weight={0: 20, 1: 1}, **options).fit(X, y)
        assert heavy.predict_proba(X)[:, 1].mean() < plain
        weights = np.where(y == 0, 20.0, 1.0)
        same = fb.TabPackClassifier(**options).fit(X, y, sample_weight=weights)
        assert same.predict_proba(X).tobytes() == heavy.predict_proba(X).tobytes()

    @pytest.mark.once
    def test_many_classes_and_scoring(self):
        X, y = IRIS
        for scoring in ("accuracy", "roc_auc", "f1_macro"):
            model = fb.TabPackClassifier(scoring=scoring, **SMALL).fit(X, y)
            assert model.predict_proba(X).shape == (150, 3)
            assert model.best_score_ <= 1

    def test_several_outputs(self):
        X, y = DIABETES
        Y = np.column_stack([y, -y, X[:, 0]])
        predicted = fb.TabPackRegressor(**SMALL).fit(X, Y).predict(X)
        assert predicted.shape == Y.shape
        assert np.corrcoef(predicted[:, 0], y)[0, 1] > 0.5

    @pytest.mark.once
    def test_better_than_a_linear_model(self):
        rng = np.random.default_rng(0)
        X = rng.uniform(-2, 2, (1500, 3))
        y = np.sin(3 * X[:, 0]) + X[:, 1] * (X[:, 2] > 0)
        X_test, y_test = X[1000:], y[1000:]
        model = fb.TabPackRegressor(n_members=6, width=64, random_state=0).fit(X[:1000], y[:1000])
        assert model.score(X_test, y_test) > 0.95

    @pytest.mark.parametrize("rows", [2, 3, 9, 10, 25])
    def test_few_rows(self, rows):
        X, y = np.random.default_rng(0).normal(size=(rows, 2)), np.arange(rows)
        assert np.isfinite(tiny(fb.TabPackRegressor).fit(X, y).predict(X)).all()
        model = tiny(fb.TabPackClassifier).fit(X, y % 2)
        assert np.isfinite(model.predict_proba(X)).all()

    def test_few_rows_are_not_trained_on_twice(self):
        X, y = np.random.default_rng(0).normal(size=(9, 2)), np.arange(9)
        found = {tiny(fb.TabPackRegressor, refit=refit).fit(X, y).predict(X).tobytes()
                 for refit in (True, False)}
        assert len(found) == 1

    def test_a_fit_that_fails_leaves_nothing_of_an_earlier_one(self):
        X, y = IRIS
        model = tiny(fb.TabPackClassifier).fit(X, y)
        with pytest.raises(ValueError, match="infinit"):
            model.fit(np.where(X > 5, np.inf, X), y)
        with pytest.raises(NotFittedError):
            model.predict(X)

    def test_verbose_of_any_size(self, capsys):
        tiny(fb.TabPackClassifier, verbose=10).fit(*IRIS)
        assert "again, on all rows" in capsys.readouterr().out

    def test_scoring_none(self):
        default, none = (tiny(fb.TabPackClassifier, **options).fit(*IRIS).predict_proba(IRIS[0])
                         for options in ({}, {"scoring": None}))
        assert default.tobytes() == none.tobytes()

    def test_weights_of_a_class_that_is_not_among_the_validation_rows(self):
        X, y = load_breast_cancer(return_X_y=True)
        model = tiny(fb.TabPackClassifier, class_weight={1: 2})
        model.fit(X, y, X[y == 0], y[y == 0])
        assert np.isfinite(model.best_score_)

    def test_categories_alone(self):
        X = np.array([["a", "x"], ["b", "y"], ["a", "y"], ["b", "x"]] * 20, dtype=object)
        y = X[:, 0]
        model = tiny(fb.TabPackClassifier, max_epochs=100, width=16).fit(X, y)
        assert model.score(X, y) == 1


class TestTimeLimit:
    def test_it_ends_training(self):
        X, y = DIABETES
        begin = time.monotonic()
        model = fb.TabPackRegressor(time_limit=0.3, patience=10**6, ensemble_patience=10**6,
                                    max_epochs=10**6, random_state=0).fit(X, y)
        assert time.monotonic() - begin < 30
        assert np.isfinite(model.predict(X)).all()

    def test_no_time_to_refit(self):
        X, y = DIABETES
        model = fb.TabPackRegressor(time_limit=1e-6, **SMALL).fit(X, y)
        assert len(model.history_.ensemble_scores) == 1
        assert np.isfinite(model.predict(X)).all()


    def test_no_refit_that_would_not_end_in_time(self, model, monkeypatch):
        chosen = [Snapshot(0, 4, None, None, 0.0)]
        monkeypatch.setattr(model, "_fit_many", lambda *_: pytest.fail("trained"), raising=True)
        deadline = time.monotonic() + 100
        assert model._refit([], None, None, 16, chosen, deadline, seconds=21) == []


class TestUse:
    def test_pickle_and_clone(self, model):
        X, _ = DIABETES
        again = pickle.loads(pickle.dumps(model))
        assert again.predict(X).tobytes() == model.predict(X).tobytes()
        assert not hasattr(clone(model), "ensemble_")

    def test_a_row_does_not_depend_on_others(self, model):
        X, _ = DIABETES
        assert model.predict(X[7:8]).tobytes() == model.predict(X)[7:8].tobytes()

    def test_permutation_importance(self, model):
        X, y = DIABETES
        result = permutation_importance(model, X, y, n_repeats=2, random_state=0)
        assert result.importances_mean[8] > 0  # s5 matters most, or next to most

    def test_history(self, model, tmp_path):
        history = model.history_
        assert len(history.members) == len(history.member_scores) == 3
        assert history.ensemble_scores == sorted(history.ensemble_scores)
        assert history.ensemble_scores[-1] == model.best_score_
        assert max(map(max, history.member_scores)) <= model.best_score_ + 1e-12
        figure = history.plot()
        figure.savefig(tmp_path / "members.png")
        (ax,) = figure.axes
        assert ax.get_xlabel() == "epoch"
        assert len(ax.lines) == 3 + 1 + len(history.chosen)


@pytest.mark.once
def test_columns_of_a_wide_table_become_fewer_numbers_each():
    """Or else 10,000 columns would need 20 GB."""
    X = np.random.default_rng(0).normal(size=(20, 3000))
    model = tiny(fb.TabPackClassifier, n_members=1, max_epochs=1).fit(X, np.arange(20) % 2)
    assert model.ensemble_.networks[0].layers[1].n_in == 6000
    assert np.isfinite(model.predict_proba(X)).all()


class TestBadInput:
    @pytest.mark.parametrize(("change", "message"), [
        ({"n_members": 0}, "n_members"), ({"refit": 3}, "refit"), ({"scoring": 3}, "scoring"),
        ({"time_limit": 0}, "time_limit"), ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"quantiles": [0.9, 0.1]}, "quantiles"), ({"quantiles": 1.0}, "quantiles"),
        ({"scoring": "nonsense"}, "nonsense"), ({"categories": ["age"]}, "age"),
    ])
    def test_parameters(self, change, message):
        with pytest.raises((TypeError, ValueError), match=message):
            tiny(fb.TabPackRegressor, **change).fit(*DIABETES)

    def test_arguments(self):
        X, y = IRIS
        model = tiny(fb.TabPackClassifier)
        with pytest.raises(ValueError, match="only one class"):
            model.fit(X, np.ones(150))
        with pytest.raises(ValueError, match="expected both or neither"):
            model.fit(X, y, X)
        with pytest.raises(ValueError, match="expected the classes of the training rows"):
            model.fit(X[:100], y[:100], X[100:], y[100:])
        with pytest.raises(ValueError, match="missing value"):
            tiny(fb.TabPackRegressor).fit(X, np.where(y == 0, np.nan, y))
        with pytest.raises(ValueError, match="inconsistent"):
            model.fit(X, y[:100])
        with pytest.raises(ValueError, match="infinit"):
            model.fit(np.where(X > 5, np.inf, X), y)
        with pytest.raises(ValueError, match="no member has a score"):
            model.set_params(scoring="roc_auc").fit(X[:100], y[:100], X[:50], y[:50])
        kept, _ = model._split(150, y, np.random.RandomState(0))
        weights = np.arange(150) == kept[0]
        with pytest.raises(ValueError, match="expected one above 0 among the validation rows"):
            model.set_params(scoring="accuracy").fit(X, y, sample_weight=weights)
        fitted = model.fit(X, y)
        with pytest.raises(ValueError, match="features"):
            fitted.predict(X[:, :3])


class Training:
    """As much of a training as `Selection` looks at."""

    def __init__(self, member, epochs=100):
        self.network, self.epochs, self.epoch = self, epochs, -1
        self.member, self.history, self.stopping = member, {"loss": []}, False

    def get_state(self):
        return np.array([self.member, self.epoch])

    def stop(self, reason):
        self.stopping = True


def play(predictions, y, **options):
    """What `Selection` chooses where a member predicts these numbers after its epochs."""
    score = fb.estimators.scores.regression_score(None, np.asarray(y, float)[:, None], None, None,
                                                  None)
    trainings = [Training(i, len(each)) for i, each in enumerate(predictions)]
    selection = Selection(
        lambda network: np.asarray(predictions[network.member][network.epoch], float)[:, None],
        score, n_members=len(predictions),
        **{"patience": 2, "ensemble_patience": 50, "max_size": 9} | options)
    while any(not each.stopping and each.epoch + 1 < each.epochs for each in trainings):
        for each in trainings:
            if not each.stopping and each.epoch + 1 < each.epochs:
                each.epoch += 1
                each.history["loss"].append(0.0)
        selection(trainings)
    return selection, trainings


class TestSelection:
    def test_members_that_complement_each_other(self):
        selection, _ = play([[[1, -1]], [[-1, 1]], [[5, 5]]], [0, 0])
        assert [(each.member, each.epoch) for each in selection.chosen] == [(0, 0), (1, 0)]
        assert selection.best_score == 0

    def test_a_member_ends_after_epochs_without_a_better_score(self):
        worse = [[k] for k in (3, 2, 4, 4, 4, 0, 0)]
        selection, (training, _) = play([worse, [[9]] * 7], [0])
        assert len(training.history["loss"]) == 5  # the third one after the best
        assert selection.member_scores[0] == [-3, -2, -4, -4, -4]
        assert [(each.member, each.epoch) for each in selection.chosen] == [(0, 1)]

    def test_all_end_when_the_ensemble_gets_no_better(self):
        _, trainings = play([[[1]] + [[2]] * 20], [0], patience=50, ensemble_patience=3)
        assert len(trainings[0].history["loss"]) == 5

    def test_a_snapshot_that_was_chosen_stays_although_its_member_gets_worse(self):
        selection, _ = play([[[1, -1], [3, 3]], [[9, 9], [-1, 1]]], [0, 0])
        assert {(each.member, each.epoch) for each in selection.chosen} == {(0, 0), (1, 1)}
        assert selection.chosen[0].state.tolist() in ([0, 0], [1, 1])

    def test_few_rows_have_an_ensemble_of_several_members(self):
        constants = [[[k + epoch] for epoch in range(3)] for k in range(9)]
        selection, _ = play(constants, [0])
        assert [(each.member, each.epoch) for each in selection.chosen] == [(0, 0), (1, 0)]
        selection, _ = play(constants, [0], max_size=1)
        assert len(selection.chosen) == 1
        selection, _ = play([[[first] * 501 for first in each[0]] for each in constants], [0] * 501)
        assert len(selection.chosen) == 1

    def test_the_largest_size(self):
        predictions = [[[1 if i == j else 0 for j in range(6)]] for i in range(6)]
        selection, _ = play(predictions, [0] * 6, max_size=3)
        assert len(selection.chosen) == 3


@pytest.mark.once
def test_beside_trees_on_held_out_rows():
    """As good as gradient-boosted trees where there is something to learn."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    X, y = load_breast_cancer(return_X_y=True)
    X, X_test, y, y_test = train_test_split(X, y, random_state=0, stratify=y)
    model = fb.TabPackClassifier(n_members=8, width=64, random_state=0).fit(X, y)
    trees = HistGradientBoostingClassifier(random_state=0).fit(X, y)
    assert log_loss(y_test, model.predict_proba(X_test)) < log_loss(
        y_test, trees.predict_proba(X_test)) + 0.02
