"""Searches and ensembles over the workers of a Dask cluster."""

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.model_selection import GridSearchCV

import fastbp as fb

distributed = pytest.importorskip("distributed")

pytestmark = [pytest.mark.once, pytest.mark.filterwarnings("ignore")]

X, y = load_iris(return_X_y=True)
SETTINGS = {"hidden_layer_sizes": (8,), "learning_rate_init": 0.02, "max_iter": 10}


@pytest.fixture(scope="module")
def client():
    with (distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
          as cluster, distributed.Client(cluster) as client):
        yield client


def test_an_ensemble_has_the_bits_of_this_process(client):
    def model(seed):
        return fb.MLPClassifier(random_state=seed, **SETTINGS)

    # A method of fastbp's, which workers can import, unlike this module.
    futures = [client.submit(model(seed).fit, X, y) for seed in range(4)]
    for seed, future in enumerate(futures):
        there, here = future.result(timeout=60), model(seed).fit(X, y)
        assert all(map(np.array_equal, there.coefs_, here.coefs_))
        assert there.loss_curve_ == here.loss_curve_


def test_a_search_has_the_scores_of_this_process(client):
    def search():
        grid = {"alpha": [1e-4, 1.0], "activation": ["relu", "tanh"]}
        return GridSearchCV(fb.MLPClassifier(random_state=0, **SETTINGS), grid, cv=2)

    with joblib.parallel_config("dask", wait_for_workers_timeout=30):
        there = search().fit(X, y)
    here = search().fit(X, y)
    assert there.best_params_ == here.best_params_
    assert (there.cv_results_["mean_test_score"] == here.cv_results_["mean_test_score"]).all()
