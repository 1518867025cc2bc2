"""TabPackRegressor with quantiles: its coverage, their order, its score and what is refused."""

import pickle

import numpy as np
import pytest
import sklearn.metrics
from sklearn.base import clone

from fastbp.estimators.tabpack import TabPackRegressor
from fastbp.estimators.targets import TargetScaler, checked_quantiles

SMALL = {"n_members": 4, "width": 32, "max_epochs": 60, "random_state": 0}
QUANTILES = [0.05, 0.25, 0.5, 0.75, 0.95]


def noisy(rows, seed):
    """A line whose noise grows along it, in units far from 1."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1, 1, (rows, 2))
    spread = 0.2 + 0.8 * (X[:, 0] + 1)
    return X, 1000 + 50 * (2 * X[:, 0] + spread * rng.normal(size=rows)), spread


def pinball(y, predicted, quantiles, weights=None):
    return np.mean([sklearn.metrics.mean_pinball_loss(y, predicted[:, j], alpha=q,
                                                      sample_weight=weights)
                    for j, q in enumerate(quantiles)])


@pytest.fixture(scope="module")
def model():
    X, y, _ = noisy(1600, 0)
    return TabPackRegressor(quantiles=QUANTILES, **SMALL).fit(X, y)


def test_coverage(model):
    X, y, spread = noisy(4000, 1)
    predicted = model.predict(X)
    assert predicted.shape == (4000, 5)
    np.testing.assert_allclose((y[:, None] < predicted).mean(0), QUANTILES, atol=0.05)
    for narrow in (True, False):  # the noise is known where it is small and where it is large
        rows = (spread < 1) == narrow
        covered = (predicted[rows, 0] < y[rows]) & (y[rows] < predicted[rows, -1])
        assert covered.mean() == pytest.approx(0.9, abs=0.06)
    widths = predicted[:, -1] - predicted[:, 0]
    assert widths[spread > 1.5].mean() > 2 * widths[spread < 0.5].mean()


def test_quantiles_never_cross(model):
    X, y, _ = noisy(500, 2)
    X = np.vstack([X, 30 * X])  # far from the training rows too, where networks do cross
    predicted = model.predict(X)
    assert (np.diff(predicted, axis=1) >= 0).all()
    Z = model.ensemble_.predict(model.encoder_.transform(X)).astype(float)
    unsorted = Z * model.target_scaler_.scale + model.target_scaler_.mean
    np.testing.assert_array_equal(predicted, np.sort(unsorted, axis=1))
    assert (pinball(y, predicted[:500], QUANTILES)
            <= pinball(y, unsorted[:500], QUANTILES) + 1e-9)


@pytest.mark.parametrize("weighted", [False, True])
def test_score(model, weighted):
    X, y, _ = noisy(300, 3)
    weights = np.random.default_rng(0).random(300) if weighted else None
    expected = -pinball(y, model.predict(X), QUANTILES, weights)
    assert model.score(X, y, weights) == pytest.approx(expected, rel=1e-12)
    assert model.score(X, y[:, None], weights) == model.score(X, y, weights)
    constant = np.tile(np.quantile(y, QUANTILES), (300, 1))
    assert expected > -0.8 * pinball(y, constant, QUANTILES)


def test_chosen_by_the_pinball_loss(model):
    X, y, _ = noisy(1600, 0)
    X_val, y_val, _ = noisy(400, 4)
    own = TabPackRegressor(quantiles=QUANTILES, refit=False, **SMALL).fit(X, y, X_val, y_val)
    Z = own.ensemble_.predict(own.encoder_.transform(X_val)).astype(float)
    scale = own.target_scaler_.scale[0]
    unsorted = Z * scale + own.target_scaler_.mean
    assert own.best_score_ == pytest.approx(-pinball(y_val, unsorted, QUANTILES) / scale, rel=1e-4)


def test_a_single_quantile():
    X, y, _ = noisy(1600, 0)
    model = TabPackRegressor(quantiles=0.9, **SMALL).fit(X, y)
    X, y, _ = noisy(4000, 1)
    predicted = model.predict(X)
    assert predicted.shape == (4000,)
    assert (y < predicted).mean() == pytest.approx(0.9, abs=0.05)
    expected = -sklearn.metrics.mean_pinball_loss(y, predicted, alpha=0.9)
    assert model.score(X, y) == pytest.approx(expected, rel=1e-12)


def test_as_many_columns_as_quantiles_in_a_sequence():
    X, y, _ = noisy(60, 0)
    quick = SMALL | {"max_epochs": 2}
    number, sequence = (TabPackRegressor(quantiles=q, **quick).fit(X, y) for q in (0.5, [0.5]))
    assert (number.quantiles_, sequence.quantiles_) == (0.5, (0.5,))
    np.testing.assert_array_equal(number.predict(X)[:, None], sequence.predict(X))
    plain = TabPackRegressor(**quick).fit(X, y)
    assert plain.quantiles_ is None
    assert plain.score(X, y) == pytest.approx(sklearn.metrics.r2_score(y, plain.predict(X)))


def test_a_fitted_model_keeps_its_quantiles(model):
    X, _, _ = noisy(20, 5)
    copied = pickle.loads(pickle.dumps(model)).set_params(quantiles=None)
    np.testing.assert_array_equal(copied.predict(X), model.predict(X))
    assert clone(model).quantiles == QUANTILES


def test_weights_and_constant_targets():
    X, y, _ = noisy(1600, 0)
    weights = (np.random.default_rng(0).random(1600) < 0.6).astype(float)
    model = TabPackRegressor(quantiles=[0.2, 0.8], **SMALL)
    model.fit(X, np.where(weights, y, y - 200), sample_weight=weights)  # the others do not count
    shares = (y[:, None] < model.predict(X)).mean(0)
    np.testing.assert_allclose(shares, [0.2, 0.8], atol=0.08)
    constant = model.set_params(max_epochs=2).fit(X, np.full(1600, 3.5)).predict(X)
    assert (constant == 3.5).all()


def test_a_score_of_ones_own():
    seen = []

    def width(estimator, X, y):
        predicted = estimator.predict(X)
        seen.append((predicted.shape, y.shape, (np.diff(predicted, axis=1) >= 0).all()))
        return -np.mean(predicted[:, 1] - predicted[:, 0])

    X, y, _ = noisy(100, 0)
    TabPackRegressor(quantiles=[0.1, 0.9], scoring=width, **SMALL | {"max_epochs": 2}).fit(X, y)
    assert set(seen) == {((20, 2), (20,), True)}
    for scoring in ("rmse", "neg_mean_absolute_error"):
        TabPackRegressor(quantiles=0.5, scoring=scoring, **SMALL | {"max_epochs": 2}).fit(X, y)


@pytest.mark.parametrize(("options", "message"), [
    ({"quantiles": 0}, "'quantiles' parameter"),
    ({"quantiles": 1.5}, "'quantiles' parameter"),
    ({"quantiles": "0.5"}, "'quantiles' parameter"),
    ({"quantiles": [0.5, 1]}, r"^quantiles\[1\]: .*below 1, got 1"),
    ({"quantiles": []}, r"^quantiles: expected a number or a sequence of numbers.*\(0,\)"),
    ({"quantiles": [[0.1, 0.9]]}, r"^quantiles: .*\(1, 2\)"),
    ({"quantiles": [0.9, 0.1]}, "^quantiles: .*ascending order, got 0.1 after 0.9"),
    ({"quantiles": [0.1, 0.5, 0.5]}, "^quantiles: .*ascending order, got 0.5 after 0.5"),
    ({"quantiles": [0.1, 0.9], "scoring": "r2"}, "^scoring: expected None with several .*'r2'"),
])
def test_bad_input(options, message):
    X, y, _ = noisy(30, 0)
    with pytest.raises(ValueError, match=message):
        TabPackRegressor(**SMALL | options).fit(X, y)


def test_several_outputs(model):
    X, y, _ = noisy(30, 0)
    Y = np.stack([y, y], axis=1)
    for call in (TabPackRegressor(quantiles=[0.1, 0.9], **SMALL).fit, model.score):
        with pytest.raises(ValueError, match=r"^y: expected one dimension with quantiles, got 2"):
            call(X, Y)


def test_text_for_quantiles():
    with pytest.raises(TypeError, match=r"^quantiles: .*text"):
        checked_quantiles(["a", "b"], None, np.zeros((3, 1)))


def test_units():
    scaler = TargetScaler([10.0, 30.0])
    assert scaler.inverse_quantiles([[1.0], [-1.0]]).tolist() == [30, 10]
    assert scaler.inverse_quantiles([[1.0, -1.0], [0.0, 0.5]]).tolist() == [[10, 30], [20, 25]]
