"""What fastbp's estimators have and scikit-learn's have not."""

import warnings

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils import compute_sample_weight

import fastbp as fb

from ..cases import each
from .problems import (
    ESTIMATORS,
    IRIS,
    LABELS,
    PROBLEMS,
    ROWS,
    SMALL,
    X_SPARSE,
    agree,
    data,
    difference,
    losses,
    parameters,
    problem,
    quiet,
)


@quiet
@pytest.mark.parametrize("class_weight", [{0: 2, 1: 0.5}, {1: 5.0}, "balanced"], ids=str)
@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"solver": "lbfgs"}], ids=str)
def test_class_weight(class_weight, options):
    X, y = IRIS[0][:120], IRIS[1][:120]
    weights = compute_sample_weight(class_weight, y)
    truth = neural_network.MLPClassifier(**SMALL | options | {"max_iter": 8})
    model = fb.MLPClassifier(class_weight=class_weight, **SMALL | options | {"max_iter": 8})
    agree(truth.fit(X, y, weights), model.fit(X, y))
    extra = np.linspace(1, 2, 120)
    agree(truth.fit(X, y, weights * extra), model.fit(X, y, extra))


@pytest.mark.parametrize("way", ["partial_fit", "X_val"])
@quiet
def test_class_weight_where_its_class_is_missing(way):
    X, y = IRIS
    some = y != 1
    model = fb.MLPClassifier(class_weight={1: 5.0}, **SMALL)
    if way == "X_val":
        model.fit(X, y, X_val=X[some], y_val=y[some])
        assert model.validation_scores_[-1] == model.score(X[some], y[some])
    else:
        model.partial_fit(X[some], y[some], classes=[0, 1, 2])
        plain = neural_network.MLPClassifier(**SMALL)
        assert difference(model, plain.partial_fit(X[some], y[some], classes=[0, 1, 2])) < 1e-6


def test_balanced_needs_all_of_y():
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial"):
        fb.MLPClassifier(class_weight="balanced").partial_fit(*IRIS, classes=[0, 1, 2])


class Watch(fb.Callback):
    """The score and loss on the validation data after each epoch, by other means."""

    def __init__(self, X, y, weights):
        self.data, self.model, self.found = (X, y, weights), None, []

    def on_epoch_end(self, training):
        X, y, weights = self.data
        self.found.append((self.model.score(X, y, weights), losses(self.model, *self.data)))


@quiet
@pytest.mark.parametrize("weights", [None, np.linspace(0, 3, 75)], ids=["", "weighted"])
@pytest.mark.parametrize("early_stopping", [False, True])
@pytest.mark.parametrize("y", PROBLEMS.values(), ids=PROBLEMS)
def test_validation_data(y, early_stopping, weights):
    X = IRIS[0]
    estimator = ESTIMATORS["classifier" if y.dtype.kind != "f" else "regressor"][1]
    watch = Watch(X[1::2], y[1::2], weights)
    model = watch.model = estimator(**SMALL | {"max_iter": 12}, learning_rate_init=0.02,
                                    early_stopping=early_stopping, callbacks=[watch])
    model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2], sample_weight_val=weights)
    found = np.array(watch.found)
    np.testing.assert_allclose(model.validation_scores_, found[:, 0], rtol=1e-9)
    np.testing.assert_allclose(model.validation_loss_curve_, found[:, 1], rtol=1e-9)
    assert model.best_validation_score_ == max(model.validation_scores_)
    assert model.t_ == 75 * model.n_iter_
    if early_stopping:
        assert model.best_loss_ is None
        assert model.score(*watch.data) == pytest.approx(model.best_validation_score_)
    else:
        truth = type(model)(**SMALL | {"max_iter": 12}, learning_rate_init=0.02)
        assert difference(model, truth.fit(X[::2], y[::2])) == 0
        assert model.best_loss_ == min(model.loss_curve_)


@quiet
@pytest.mark.parametrize("convert", [scipy.sparse.csr_matrix, pd.DataFrame, np.ndarray.tolist,
                                     np.float32])
def test_validation_data_of_other_kinds(convert):
    X, y = X_SPARSE[::2], IRIS[1][::2]
    model = fb.MLPClassifier(**SMALL).fit(X, y, X_val=convert(X), y_val=y.tolist())
    assert model.validation_scores_[-1] == model.score(X, y)
    assert model.validation_loss_curve_[-1] == pytest.approx(losses(model, X, y))


def test_early_stopping_on_the_loss():
    X, y = data("breast_cancer")
    model = fb.MLPClassifier(early_stopping=True, monitor="loss", max_iter=400, random_state=0,
                             n_iter_no_change=5, tol=0, learning_rate_init=0.05, alpha=0)
    model.fit(X[::2], y[::2], X_val=X[1::2], y_val=y[1::2])
    curve = model.validation_loss_curve_
    assert model.n_iter_ == len(curve) == np.argmin(curve) + 7
    assert losses(model, X[1::2], y[1::2]) == pytest.approx(min(curve))
    assert losses(model, X[1::2], y[1::2]) < curve[-1]
    assert model.best_validation_score_ == max(model.validation_scores_)
    model.fit(X, y)
    assert model.t_ == 512 * model.n_iter_


@quiet
@each(("options", "message"), [
    ({"X_val": IRIS[0]}, "X_val and y_val: expected both or neither, got only X_val"),
    ({"y_val": IRIS[1]}, "X_val and y_val: expected both or neither, got only y_val"),
    ({"X_val": IRIS[0][:, :3], "y_val": IRIS[1]},
     "X_val, y_val: X has 3 features, but MLPClassifier is expecting 4"),
    ({"X_val": IRIS[0], "y_val": IRIS[1][:9]}, "X_val, y_val: .* inconsistent numbers of samples"),
    ({"X_val": IRIS[0], "y_val": IRIS[1] + 1},
     "X_val, y_val: `y` has classes not in `self.classes_`"),
    ({"X_val": IRIS[0] * np.nan, "y_val": IRIS[1]}, "X_val, y_val: Input X contains NaN"),
    ({"X_val": IRIS[0], "y_val": IRIS[1], "sample_weight_val": IRIS[1][:3]},
     "X_val, y_val, sample_weight_val: sample_weight.shape"),
])
def test_validation_data_that_does_not_fit(options, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        fb.MLPClassifier(**SMALL).fit(*IRIS, **options)


@quiet
def test_dropout():
    def fit(**options):
        return parameters(fb.MLPClassifier(**SMALL | options).fit(*IRIS))

    assert (fit(dropout=0.5) == fit(dropout=0.5)).all()
    assert not (fit(dropout=0.5) == fit(dropout=0)).any()
    assert not (fit(dropout=0.5) == fit(dropout=0.4)).all()
    assert not (fit(dropout=0.5) == fit(dropout=0.5, random_state=2)).any()
    assert (fit(dropout=0.5, random_state=np.random.RandomState(1)) == fit(dropout=0.5)).all()
    model = fb.MLPClassifier(**SMALL, dropout=0.9).fit(*IRIS)
    assert (model.predict_proba(IRIS[0]) == model.predict_proba(IRIS[0])).all()
    layers = [type(layer).__name__ for layer in model.to_network().layers]
    assert layers == ["Dense", "ReLU", "Dropout", "Dense"]


def test_dropout_leaves_out_others_in_every_partial_fit():
    model = fb.MLPClassifier((40,), "tanh", solver="sgd", dropout=0.5, alpha=0, random_state=0)
    model.set_params(learning_rate=lambda epoch: 0.0).partial_fit(*IRIS, classes=[0, 1, 2])
    before = model.coefs_[0].copy()
    model.set_params(learning_rate=lambda epoch: 0.1)
    for _ in range(30):
        model.partial_fit(IRIS[0][:1], IRIS[1][:1])
    assert (model.coefs_[0] != before).all()


@quiet
@pytest.mark.parametrize("X", [IRIS[0], ROWS["csr"], IRIS[0].astype(np.float32)],
                         ids=["float64", "csr", "float32"])
@pytest.mark.parametrize("dtype", ["float32", np.float64])
def test_dtype(X, dtype):
    model = fb.MLPClassifier(**SMALL, dtype=dtype).fit(X, IRIS[1])
    assert {array.dtype for array in (*model.coefs_, *model.intercepts_)} == {np.dtype(dtype)}
    assert model.predict_proba(X).dtype == model.to_network().dtype == dtype
    plain = fb.MLPClassifier(**SMALL).fit(X.astype(dtype), IRIS[1])
    assert (parameters(model) == parameters(plain)).all()
    assert clone(model).get_params()["dtype"] is dtype


SOLVERS = ["sgd", "adam", "adamw"]


@quiet
@pytest.mark.parametrize("solver", SOLVERS)
def test_schedules(solver):
    options = SMALL | {"solver": solver, "batch_size": 40}
    plain = fb.MLPClassifier(**options, learning_rate_init=0.02).fit(*IRIS)
    for schedule in (lambda epoch: 0.02, fb.schedules.Constant(0.02)):
        model = fb.MLPClassifier(**options, learning_rate=schedule).fit(*IRIS)
        assert (parameters(model) == parameters(plain)).all()
    times = []
    model = fb.MLPClassifier(**options | {"max_iter": 2},
                             learning_rate=lambda epoch: times.append(epoch) or 0.1).fit(*IRIS)
    model.partial_fit(*IRIS, epochs=2).partial_fit(*IRIS)
    asked = sorted(set(times))
    assert asked == [i / 4 for i in range(20)]
    still = fb.MLPClassifier(**options | {"weight_decay": 0}, learning_rate=lambda epoch: 0.0)
    assert (parameters(still.fit(*IRIS)) == parameters(still.fit(*IRIS))).all()


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "0.1"])
def test_schedules_that_give_no_rate(value):
    with pytest.raises((ValueError, TypeError), match="learning_rate"):
        fb.MLPClassifier(**SMALL, learning_rate=lambda epoch: value).fit(*IRIS)


def initial(estimator, X, y, **options):
    """What it is before the first step, and the loss it has then."""
    options = SMALL | {"max_iter": 1, "batch_size": len(X), "alpha": 0.3} | options
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator(learning_rate=lambda epoch: 0.0, **options).fit(X, y)


def gradients(model, X, delta):
    """Of a loss whose gradient with respect to the outputs is delta; there is no hidden layer."""
    n = len(X)
    return X.T @ delta / n + model.alpha * model.coefs_[0] / n, delta.mean(axis=0)


@quiet
@pytest.mark.parametrize("clip_norm", [1e-3, 0.1, 1e9])
def test_clip_norm(clip_norm):
    X, y = IRIS
    options = {"hidden_layer_sizes": (), "alpha": 0.3, "batch_size": 150}
    model = initial(fb.MLPClassifier, X, y, **options)
    dW, db = gradients(model, X, model.predict_proba(X) - np.eye(3)[y])
    scale = min(1.0, clip_norm / np.sqrt((dW**2).sum() + (db**2).sum()))
    step = fb.MLPClassifier(**SMALL | options | {"max_iter": 1}, solver="sgd", momentum=0,
                            learning_rate_init=0.5, clip_norm=clip_norm).fit(X, y)
    np.testing.assert_allclose(step.coefs_[0], model.coefs_[0] - 0.5 * scale * dW, rtol=1e-9)
    np.testing.assert_allclose(step.intercepts_[0], model.intercepts_[0] - 0.5 * scale * db,
                               rtol=1e-9)


@quiet
def test_adamw():
    X, y = IRIS
    options = {"hidden_layer_sizes": (), "alpha": 0.3, "batch_size": 150}
    model = initial(fb.MLPClassifier, X, y, **options)
    W, b = model.coefs_[0], model.intercepts_[0]
    m, v = [np.zeros_like(W), np.zeros_like(b)], [np.zeros_like(W), np.zeros_like(b)]
    for t in range(1, 6):
        exp = np.exp(X @ W + b)
        model.coefs_[0] = W
        both_gradients = gradients(model, X, exp / exp.sum(axis=1, keepdims=True) - np.eye(3)[y])
        stepped = []
        for i, (p, g) in enumerate(zip((W, b), both_gradients, strict=True)):
            m[i], v[i] = 0.8 * m[i] + 0.2 * g, 0.95 * v[i] + 0.05 * g * g
            ratio = m[i] / (1 - 0.8**t) / (np.sqrt(v[i] / (1 - 0.95**t)) + 1e-4)
            stepped.append(p - 0.05 * (ratio + 0.2 * p))
        W, b = stepped
    found = fb.MLPClassifier(**SMALL | options | {"max_iter": 5}, solver="adamw", beta_1=0.8,
                             beta_2=0.95, epsilon=1e-4, learning_rate_init=0.05,
                             weight_decay=0.2).fit(X, y)
    np.testing.assert_allclose(found.coefs_[0], W, rtol=1e-9)
    np.testing.assert_allclose(found.intercepts_[0], b, rtol=1e-9)


@pytest.mark.parametrize("y", [IRIS[1], IRIS[1] > 0, LABELS], ids=["classes", "binary", "labels"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_label_smoothing(y, smoothing):
    X = IRIS[0]
    model = initial(fb.MLPClassifier, X, y, label_smoothing=smoothing)
    P = model.predict_proba(X)
    T = np.eye(3)[y] if y is IRIS[1] else np.eye(2)[y.astype(int)] if y.ndim == 1 else y
    if y.ndim == 1:
        T = (1 - smoothing) * T + smoothing / T.shape[1]
        loss = -(T * np.log(P)).sum(axis=1).mean()
    else:
        T = (1 - smoothing) * T + smoothing / 2
        loss = -(T * np.log(P) + (1 - T) * np.log(1 - P)).sum(axis=1).mean()
    penalty = 0.15 * sum((W**2).sum() for W in model.coefs_) / 150
    assert model.loss_ == pytest.approx(loss + penalty, rel=1e-12)


@quiet
def test_label_smoothing_with_early_stopping_splits_as_without():
    models = [fb.MLPClassifier(**SMALL, early_stopping=True, label_smoothing=s).fit(
        IRIS[0], IRIS[1] > 0) for s in (0.0, 0.3)]
    assert models[0].validation_scores_[0] == models[1].validation_scores_[0]
    assert difference(*models) > 0


@quiet
@pytest.mark.parametrize("loss", ["absolute_error", "huber", "squared_error"])
@pytest.mark.parametrize("y", [PROBLEMS["number"], PROBLEMS["numbers"]], ids=["one", "two"])
def test_losses_of_a_regressor(loss, y):
    X, options = IRIS[0], {"hidden_layer_sizes": (), "alpha": 0.3, "huber_delta": 0.7}
    model = initial(fb.MLPRegressor, X, y, loss=loss, **options)
    E = model.predict(X).reshape(150, -1) - y.reshape(150, -1)
    values, slopes = {
        "absolute_error": (np.abs(E), np.sign(E)),
        "huber": (np.where(np.abs(E) < 0.7, E**2 / 2, 0.7 * (np.abs(E) - 0.35)),
                  np.clip(E, -0.7, 0.7)),
        "squared_error": (E**2 / 2, E),
    }[loss]
    penalty = 0.15 * (model.coefs_[0] ** 2).sum() / 150
    assert model.loss_ == pytest.approx(values.mean() + penalty, rel=1e-12)
    dW, db = gradients(model, X, slopes)
    step = fb.MLPRegressor(loss, **SMALL | options | {"max_iter": 1}, solver="sgd", momentum=0,
                           learning_rate_init=0.1, batch_size=150).fit(X, y)
    np.testing.assert_allclose(step.coefs_[0], model.coefs_[0] - 0.1 * dW, rtol=1e-9)
    np.testing.assert_allclose(step.intercepts_[0], model.intercepts_[0] - 0.1 * db, rtol=1e-9)


FORMULAS = {
    "identity": lambda Z: Z, "logistic": lambda Z: 1 / (1 + np.exp(-Z)), "tanh": np.tanh,
    "relu": lambda Z: np.maximum(Z, 0), "leaky_relu": lambda Z: np.where(Z > 0, Z, 0.01 * Z),
    "elu": lambda Z: np.where(Z > 0, Z, np.expm1(Z)), "silu": lambda Z: Z / (1 + np.exp(-Z)),
    "gelu": lambda Z: Z * scipy.stats.norm.cdf(Z),
}


@quiet
@pytest.mark.parametrize("names", [*((name,) for name in FORMULAS), ("tanh", "relu", "elu"),
                                   ["gelu", "identity"]], ids=str)
def test_activations(names):
    model = fb.MLPRegressor(hidden_layer_sizes=[6] * len(names), activation=names, random_state=0,
                            max_iter=5).fit(*problem("diabetes", "scaled")[1:])
    A = X = data("diabetes")[0]
    for name, W, b in zip((*names, "identity"), model.coefs_, model.intercepts_, strict=True):
        A = FORMULAS[name](A @ W + b)
    np.testing.assert_allclose(model.predict(X), A.ravel(), rtol=1e-6)
    if len(names) == 1:
        alone = clone(model).set_params(activation=names[0])
        assert difference(alone.fit(*problem("diabetes", "scaled")[1:]), model) == 0


@quiet
def test_to_network():
    X = IRIS[0]
    for y, activation in [(IRIS[1], "softmax"), (LABELS, "sigmoid")]:
        model = fb.MLPClassifier(**SMALL, dropout=0.2).fit(X, y)
        network, expected = model.to_network(), model.predict_proba(X)
        assert isinstance(network, fb.Sequential)
        np.testing.assert_allclose(network.predict(X, activation=activation), expected)
        network.fit(X, X[:, :3], loss=fb.MeanSquaredError(), epochs=1)
        network.parameters[...] = 0
        assert (model.predict_proba(X) == expected).all()
        assert (model.to_network().predict(X) != 0).any()
    model = fb.MLPRegressor(**SMALL).fit(X, X[:, :2])
    network = model.to_network()
    assert (network.predict(X) == model.predict(X)).all()
    model.partial_fit(X, X[:, :2])
    assert (network.predict(X) != model.predict(X)).any()
    with pytest.raises(NotFittedError):
        fb.MLPClassifier().to_network()


@quiet
def test_callbacks():
    seen = []

    class Recorder(fb.Callback):
        def on_train_begin(self, training):
            seen.append("begin")

        def on_epoch_begin(self, training):
            seen.append(training.epoch)

        def on_train_end(self, training):
            seen.append("end")

    def stop(training):
        if training.history["loss"][-1] < 1.19:
            training.stop("small enough")

    model = fb.MLPClassifier(**SMALL, callbacks=[Recorder(), stop])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.fit(*IRIS)
    n = model.n_iter_
    assert 0 < n < 20
    assert seen == ["begin", *range(n), "end"]
    assert model.history_.stopped == "small enough"
    assert model.history_["loss"] == model.loss_curve_
    assert model.loss_curve_[-1] < 1.19 <= model.loss_curve_[-2]
    model = fb.MLPClassifier(**SMALL, callbacks=(fb.EarlyStopping(2, 9.0, "loss"),)).fit(*IRIS)
    assert model.n_iter_ == 3


@quiet
@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_callback_changes_the_batch_size(kind, early_stopping):
    """The records are the mean over the rows, whichever batches they were in."""
    sums = []

    def grow(training):
        losses = training.sums.step_stats[:, :2].sum(axis=1)
        sizes = [training.batch_size] * len(losses)
        sizes[-1] = n - sum(sizes[:-1])
        sums.append(np.average(losses, weights=sizes))
        assert training.history["loss"][-1] == pytest.approx(sums[-1], rel=1e-12)
        training.batch_size = 2 * training.batch_size + 1

    model = ESTIMATORS[kind][1](**SMALL | {"max_iter": 5}, batch_size=20, callbacks=[grow],
                                early_stopping=early_stopping)
    n = 135 if early_stopping else 150
    model.fit(*IRIS)
    np.testing.assert_allclose(model.loss_curve_, sums, rtol=1e-12)
    assert len(sums) == 5
    assert model.t_ == 5 * n
    # Batches of 20, then of 41, as if it had been told so in two calls.
    parts = ESTIMATORS[kind][1](**SMALL, batch_size=20, shuffle=False)
    first = {"classes": [0, 1, 2]} if kind == "classifier" else {}
    parts.partial_fit(*IRIS, **first).set_params(batch_size=41).partial_fit(*IRIS)
    once = clone(parts).set_params(batch_size=20, callbacks=[
        lambda training: setattr(training, "batch_size", 41)])
    once.partial_fit(*IRIS, **first, epochs=2)
    assert once.loss_curve_ == parts.loss_curve_
    assert (parameters(once) == parameters(parts)).all()


@quiet
def test_threads_do_not_change_the_bits():
    X, y = data("digits")
    found = set()
    for n_threads in (1, 2, 3):
        model = fb.MLPClassifier((40,), batch_size=500, random_state=0, max_iter=3, dropout=0.1,
                                 n_threads=n_threads).fit(X, y)
        lbfgs = fb.MLPClassifier((40,), solver="lbfgs", random_state=0, max_iter=3,
                                 n_threads=n_threads).fit(X, y)
        found.add((parameters(model).tobytes(), model.predict_proba(X).tobytes(),
                   parameters(lbfgs).tobytes()))
    assert len(found) == 1
