"""Scores on validation rows, against scikit-learn's."""

import numpy as np
import pytest
from sklearn import metrics

from fastbp.estimators.scores import classification_score, regression_score

pytestmark = pytest.mark.once

RNG = np.random.default_rng(0)
N = 60
WEIGHTS = RNG.uniform(0.5, 2, N)


def probabilities(n_classes):
    return RNG.dirichlet(np.ones(n_classes), N)


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("n_classes", [2, 3])
class TestClassification:
    @pytest.mark.parametrize(("name", "expected"), [
        ("log_loss", lambda y, P, w: -metrics.log_loss(y, P, sample_weight=w)),
        ("neg_log_loss", lambda y, P, w: -metrics.log_loss(y, P, sample_weight=w)),
        ("accuracy", lambda y, P, w: metrics.accuracy_score(y, P.argmax(1), sample_weight=w)),
        ("roc_auc", lambda y, P, w: metrics.roc_auc_score(
            y, P[:, 1] if P.shape[1] == 2 else P, multi_class="ovr", sample_weight=w)),
        ("balanced_accuracy", lambda y, P, w: metrics.balanced_accuracy_score(
            y, P.argmax(1), sample_weight=w)),
    ])
    def test_of_one_prediction_and_of_the_mean_of_two(self, name, expected, n_classes, weights):
        codes, classes = RNG.integers(0, n_classes, N), np.array(["a", "b", "c"])[:n_classes]
        score = classification_score(name, codes, classes, weights)
        P, Q = probabilities(n_classes), probabilities(n_classes)
        assert score(score.reduced(P)) == pytest.approx(expected(codes, P, weights))
        mean = (score.reduced(P) + score.reduced(Q)) / 2
        assert score(mean) == pytest.approx(expected(codes, (P + Q) / 2, weights))

    def test_a_function_sees_the_classes(self, n_classes, weights):
        classes = np.array(["a", "b", "c"])[:n_classes]
        codes = RNG.integers(0, n_classes, N)

        def scorer(estimator, X, y, sample_weight=None):
            assert set(y) <= set(classes) and len(X) == N
            assert estimator.predict_proba(X).shape == (N, n_classes)
            return np.mean(estimator.predict(X) == y)

        score = classification_score(scorer, codes, classes, weights)
        P = probabilities(n_classes)
        assert score(score.reduced(P)) == np.mean(P.argmax(1) == codes)


def test_area_of_the_classes_that_are_there():
    codes = np.array([0, 2, 2, 0, 2])
    P = RNG.dirichlet(np.ones(3), 5)
    score = classification_score("roc_auc", codes, np.arange(3), None)
    expected = np.mean([metrics.roc_auc_score(codes == k, P[:, k]) for k in (0, 2)])
    assert score(score.reduced(P)) == pytest.approx(expected)
    of_one = classification_score("roc_auc", np.zeros(5, int), np.arange(3), None)
    assert np.isnan(of_one(of_one.reduced(P)))


def test_a_function_without_weights_gets_none():
    score = classification_score(lambda estimator, X, y: 0.5, np.array([0, 1]), np.arange(2),
                                 np.ones(2))
    assert score(score.reduced(np.full((2, 2), 0.5))) == 0.5


def test_a_probability_of_zero_is_finite():
    score = classification_score("log_loss", np.array([0, 1]), np.array([0, 1]), None)
    assert np.isfinite(score(score.reduced(np.array([[0.0, 1.0], [0.0, 1.0]]))))


@pytest.mark.parametrize("weights", [None, WEIGHTS])
@pytest.mark.parametrize("outputs", [1, 3])
class TestRegression:
    def test_root_mean_squared_error(self, outputs, weights):
        y, Z = RNG.normal(size=(2, N, outputs))
        score = regression_score(None, y, weights, None, None)
        expected = np.sqrt(np.average(((y - Z) ** 2).mean(1), weights=weights))
        assert score(score.reduced(Z)) == pytest.approx(-expected)

    def test_scikit_learns_see_the_users_units(self, outputs, weights):
        y, Z = RNG.normal(size=(2, N, outputs))
        score = regression_score("neg_mean_absolute_error", y, weights, None,
                                 lambda Z: 10 * Z + 3)
        expected = metrics.mean_absolute_error(10 * y, 10 * Z, sample_weight=weights)
        assert score(score.reduced(Z)) == pytest.approx(-expected)

    def test_pinball(self, outputs, weights):
        y, Z = RNG.normal(size=(N, 1)), RNG.normal(size=(N, outputs))
        quantiles = np.linspace(0.1, 0.9, outputs)
        score = regression_score(None, y, weights, quantiles, None)
        expected = np.mean([metrics.mean_pinball_loss(y[:, 0], Z[:, i], alpha=q,
                                                      sample_weight=weights)
                            for i, q in enumerate(quantiles)])
        assert score(score.reduced(Z)) == pytest.approx(-expected)


def test_unknown_names():
    with pytest.raises(ValueError, match="nonsense"):
        classification_score("nonsense", np.array([0, 1]), np.array([0, 1]), None)
