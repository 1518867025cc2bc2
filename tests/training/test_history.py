"""What a history holds."""

import numpy as np
import pytest

import fastbp as fb

from .fits import CROSS_ENTROPY, SQUARED, a_fit, a_net, classes


@pytest.mark.parametrize(
    ("loss", "options", "keys"),
    [
        (CROSS_ENTROPY, {}, "loss accuracy learning_rate seconds"),
        (CROSS_ENTROPY, {"validation_fraction": 0.3},
         "loss accuracy val_loss val_accuracy learning_rate seconds"),
        (SQUARED, {"validation_fraction": 0.3, "gradient_norms": True},
         "loss r2 val_loss val_r2 learning_rate seconds gradient_norms"),
    ],
)
def test_history_has_a_value_for_each_epoch(loss, options, keys):
    X, y = classes()
    y = y if loss is CROSS_ENTROPY else np.eye(3)[y]
    net = a_net()
    history = net.fit(X, y, loss=loss, epochs=3, **options)
    assert history is net.history
    assert isinstance(history, fb.History)
    assert list(history) == keys.split()
    assert all(len(values) == 3 for values in history.values())
    assert all(seconds > 0 for seconds in history["seconds"])
    assert history.layer_names == ["0 Dense", "3 Dense"]
    assert history.stopped is None


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("regression", [False, True])
def test_history_has_the_mean_over_the_epochs_batches(dtype, weighted, regression):
    """With a learning rate of 0 it is what `evaluate` says."""
    X, y = classes(22)
    loss, metric = (SQUARED, "r2") if regression else (CROSS_ENTROPY, "accuracy")
    y = np.eye(3)[y] if regression else y
    w = np.arange(22.0) if weighted else None
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    history = net.fit(X, y, loss=loss, optimizer=fb.SGD(0), epochs=2, batch_size=5,
                      sample_weight=w)
    scores = net.evaluate(X, y, loss=loss, sample_weight=w)
    assert history["loss"] == pytest.approx([scores["loss"]] * 2, rel=1e-6)
    assert history[metric] == pytest.approx([scores[metric]] * 2, rel=1e-6)


def test_gradient_norms_are_those_of_each_layer(dtype):
    X, y = classes()
    net = fb.mlp([4, 6, 3], dtype=dtype, seed=0)
    twin = net.astype(dtype)
    twin.backward(CROSS_ENTROPY(twin.forward(X), y)[1])
    expected = [
        np.linalg.norm(np.r_[layer.dW.ravel(), layer.db].astype(float))
        for layer in (twin.layers[0], twin.layers[2])
    ]
    clipped = fb.SGD(0.1, clip_norm=1e-3)  # norms are of the gradients as they came
    history = a_fit(net, X, y, epochs=1, batch_size=100, shuffle=False, optimizer=clipped,
                    gradient_norms=True)
    np.testing.assert_allclose(history["gradient_norms"][0], expected, rtol=1e-5)


def test_gradient_norms_are_the_mean_over_the_steps():
    X, y = classes(20)
    net = fb.mlp([4, 3], dtype="float64", seed=0)
    singles = [
        a_fit(net.astype("float64"), X[rows], y[rows], epochs=1, optimizer=fb.SGD(0),
              gradient_norms=True)["gradient_norms"][0]
        for rows in np.arange(20).reshape(4, 5)
    ]
    history = a_fit(net, X, y, epochs=1, optimizer=fb.SGD(0), shuffle=False, gradient_norms=True)
    np.testing.assert_allclose(history["gradient_norms"][0], np.mean(singles, axis=0), rtol=1e-12)
