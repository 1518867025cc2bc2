"""coefs_ and intercepts_ that the user sets, and predictions from many threads."""

import pickle
import threading

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb

from .problems import IRIS, SMALL, agree, both, fitting, parameters, quiet


@quiet
def test_predictions_from_many_threads_at_once():
    model = fb.MLPClassifier(**SMALL).fit(*IRIS)
    state, expected = pickle.dumps(model), model.predict_proba(IRIS[0])
    for _ in range(20):
        other, barrier, found = pickle.loads(state), threading.Barrier(6), []

        def predict(other=other, barrier=barrier, found=found):
            barrier.wait()
            found.append(other.predict_proba(IRIS[0]))

        workers = [threading.Thread(target=predict) for _ in range(6)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(found) == 6
        assert all((each == expected).all() for each in found)
        other.coefs_[1][...] = 0
        assert not (other.predict_proba(IRIS[0]) == expected).all()


BY_HAND = {
    "an element": lambda e: e.coefs_.__setitem__(0, 2 * e.coefs_[0]),
    "in place": lambda e: e.coefs_[1].__imul__(-3),
    "a bias in place": lambda e: e.intercepts_[0].__setitem__(0, 5.0),
    "the list": lambda e: setattr(e, "coefs_", [2 * W for W in e.coefs_]),
    "a tuple": lambda e: setattr(e, "intercepts_", tuple(b + 1 for b in e.intercepts_)),
    "Fortran": lambda e: e.coefs_.__setitem__(0, np.asfortranarray(2 * e.coefs_[0])),
    "float32": lambda e: e.coefs_.__setitem__(0, e.coefs_[0].astype(np.float32)),
    "whole numbers": lambda e: e.coefs_.__setitem__(0, np.ones(e.coefs_[0].shape, int)),
    "fewer columns": lambda e: [e.coefs_.__setitem__(0, e.coefs_[0][:, :4]),
                                e.coefs_.__setitem__(1, e.coefs_[1][:4]),
                                e.intercepts_.__setitem__(0, e.intercepts_[0][:4])],
}


@quiet
@pytest.mark.parametrize("again", [False, True], ids=["", "after predictions"])
@pytest.mark.parametrize("change", BY_HAND.values(), ids=BY_HAND)
def test_weights_set_by_hand(change, again):
    truth, model = both("classifier", fitting(*IRIS))
    for each in (truth, model):
        if again:
            each.predict(IRIS[0])
        change(each)
    np.testing.assert_allclose(model.predict_proba(IRIS[0]), truth.predict_proba(IRIS[0]),
                               rtol=1e-6)


@quiet
@pytest.mark.parametrize("change", list(BY_HAND.values())[:4], ids=list(BY_HAND)[:4])
def test_training_goes_on_from_weights_set_by_hand(change):
    def action(estimator):
        estimator.fit(*IRIS)
        change(estimator)
        estimator.partial_fit(*IRIS)

    agree(*both("classifier", action))


def into(name, i, value):
    return lambda e: getattr(e, name).__setitem__(i, value)


WHOLE = np.arange(28).reshape(4, 7) % 5 - 2
OTHER_WEIGHTS = {
    "int": into("coefs_", 0, WHOLE), "int8": into("coefs_", 0, WHOLE.astype(np.int8)),
    "bool": into("coefs_", 0, WHOLE > 0), "float16": into("coefs_", 0, WHOLE.astype("f2") / 3),
    "all float16": lambda e: [setattr(e, name, [a.astype("f2") for a in getattr(e, name)])
                              for name in ("coefs_", "intercepts_")],
    "big-endian": into("coefs_", 0, (WHOLE / 3).astype(">f8")),
    "longdouble": into("coefs_", 0, (WHOLE / 3).astype(np.longdouble)),
    "int biases": into("intercepts_", 0, np.arange(7)),
    "one bias for all": into("intercepts_", 0, 3),
}


@quiet
@pytest.mark.parametrize("change", OTHER_WEIGHTS.values(), ids=OTHER_WEIGHTS)
def test_weights_of_other_dtypes(change):
    truth, model = both("classifier", fitting(*IRIS))
    change(truth)
    change(model)
    np.testing.assert_allclose(model.predict_proba(IRIS[0]), truth.predict_proba(IRIS[0]),
                               rtol=1e-9)
    model.set_params(warm_start=True).fit(*IRIS)
    assert parameters(model).dtype == np.float64


MISFITS = {
    "one dimension": (into("coefs_", 0, np.ones(4)), r"coefs_\[0\]: expected shape \(4, any\)"),
    "three": (into("coefs_", 0, np.ones((4, 7, 1))), r"coefs_\[0\]: expected shape \(4, any\)"),
    "other columns of X": (into("coefs_", 0, np.ones((3, 7))), r"coefs_\[0\]: expected shape"),
    "columns and biases": (into("coefs_", 0, np.ones((4, 5))),
                           r"intercepts_\[0\]: expected shape \(5,\).* coefs_\[0\]"),
    "no columns": (into("coefs_", 0, np.ones((4, 0))), r"coefs_\[0\]: expected at least one col"),
    "no chain": (into("coefs_", 1, np.ones((6, 3))), r"coefs_\[1\]: expected shape \(7, 3\)"),
    "other outputs": (into("coefs_", 1, np.ones((7, 2))), r"coefs_\[1\]: expected shape \(7, 3\)"),
    "text": (into("coefs_", 0, "W"), r"coefs_\[0\]: expected an array of real numbers"),
    "None": (into("coefs_", 1, None), r"coefs_\[1\]: expected an array of real numbers"),
    "objects": (into("coefs_", 0, np.full((4, 7), None)), r"coefs_\[0\]: .* real numbers"),
    "complex": (into("coefs_", 0, np.full((4, 7), 1j)), r"coefs_\[0\]: .* real numbers"),
    "ragged": (into("coefs_", 0, [[1], [1, 2]]), r"coefs_\[0\]: expected an array of numbers"),
    "sparse": (into("coefs_", 0, scipy.sparse.eye_array(4, 7)), r"coefs_\[0\]: expected a dense"),
    "masked": (into("coefs_", 0, np.ma.masked_less(WHOLE, 0)), r"coefs_\[0\]: .*no masked"),
    "a column of biases": (into("intercepts_", 0, np.ones((7, 1))), r"intercepts_\[0\]: .*shape"),
    "few biases": (into("intercepts_", 0, np.ones(6)), r"intercepts_\[0\]: expected shape \(7,\)"),
    "text for biases": (into("intercepts_", 1, "b"), r"intercepts_\[1\]: .* real numbers"),
    "None for biases": (into("intercepts_", 0, None), r"intercepts_\[0\]: .* real numbers"),
    "a short list": (lambda e: e.coefs_.pop(), "coefs_: expected 2 arrays.* got 1"),
    "a long list": (lambda e: e.coefs_.append(np.eye(3)), "coefs_: expected 2 arrays.* got 3"),
    "a short list of biases": (lambda e: e.intercepts_.pop(), "intercepts_: expected 2 .* got 1"),
    "two short lists": (lambda e: [e.coefs_.pop(), e.intercepts_.pop()], "coefs_: expected 2"),
    "no list": (lambda e: setattr(e, "coefs_", None), "coefs_: expected a list of 2 arrays"),
    "no list of biases": (lambda e: setattr(e, "intercepts_", 3), "intercepts_: expected a list"),
    "a dict": (lambda e: setattr(e, "coefs_", {0: e.coefs_[0]}), "coefs_: expected a list"),
    "deleted": (lambda e: delattr(e, "intercepts_"), "intercepts_: expected a list"),
}


@quiet
@pytest.mark.parametrize(("change", "message"), MISFITS.values(), ids=MISFITS)
def test_weights_that_do_not_fit_are_named(change, message):
    model = fb.MLPClassifier(**SMALL, warm_start=True).fit(*IRIS)
    change(model)
    before = model.__dict__.copy()
    for action in (lambda e: e.predict(IRIS[0]), lambda e: e.to_network(), fitting(*IRIS),
                   lambda e: e.partial_fit(*IRIS)):
        with pytest.raises((TypeError, ValueError), match=f"^{message}"):
            action(model)
        assert model.__dict__ == before
    assert model.set_params(warm_start=False).fit(*IRIS).score(*IRIS) > 0.3
