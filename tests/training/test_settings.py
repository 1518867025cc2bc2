"""What a callback may set while a training runs."""

import numpy as np
import pytest

import fastbp as fb

from .fits import a_fit, a_net, classes, record, timeless, unwatched


def both_paths(change, dtype="float32", **options):
    """What a training with this callback leaves behind, which is the same on both paths."""
    results = []
    for watch in (unwatched, record):
        net = a_net(dtype)
        options_now = {"optimizer": watch(fb.Adam(0.01)), "epochs": 4, "seed": 0, **options}
        history = a_fit(net, callbacks=[change], **options_now)
        results.append((net.parameters.tobytes(), repr(timeless(history))))
    assert results[0] == results[1]
    return results[0]


def test_another_batch_size_counts_from_the_next_epoch(dtype):
    seen = []

    def change(training):
        seen.append((training.batch_size, training.steps_per_epoch, len(training.sums.rows)))
        training.batch_size = [23, 4, 1000, 7][training.epoch]

    assert both_paths(change, dtype) != both_paths(lambda training: None, dtype)
    assert seen[:4] == [(5, 5, 5), (23, 1, 1), (4, 6, 6), (1000, 1, 1)]


def test_a_batch_size_set_before_the_first_epoch_is_that_of_fit(dtype):
    class Set(fb.Callback):
        def on_epoch_begin(self, training):
            training.batch_size = 4

    first, second = a_net(dtype), a_net(dtype)
    a_fit(first, seed=0, callbacks=[Set()])
    a_fit(second, seed=0, batch_size=4)
    assert first.parameters.tobytes() == second.parameters.tobytes()


@pytest.mark.parametrize(("name", "value", "error"), [
    ("batch_size", 0, ValueError), ("batch_size", -3, ValueError), ("batch_size", 2.5, TypeError),
    ("batch_size", None, TypeError), ("batch_size", True, ValueError),
    ("l2", np.nan, ValueError), ("l2", -1, ValueError), ("l2", np.inf, ValueError),
    ("l2", "a", TypeError), ("l2", np.ones(2), TypeError),
    ("loss", None, TypeError), ("loss", fb.MeanSquaredError, TypeError),
    ("loss", lambda Z, y: 0, TypeError), ("loss", fb.MeanSquaredError(), ValueError),
])
def test_what_a_callback_sets_is_checked(name, value, error):
    net = a_net()
    with pytest.raises(error, match=r"^(y|loss|l2|batch_size): expected"):
        a_fit(net, callbacks=[lambda training: setattr(training, name, value)])
    assert np.isfinite(net.history["loss"]).all()


def test_a_loss_that_does_not_fit_the_validation_data_changes_nothing():
    X, y = classes()
    T = np.eye(3)[y]
    seen = []

    def change(training):
        before = training.loss
        with pytest.raises(ValueError, match="validation_data y: expected targets"):
            training.loss = fb.SigmoidCrossEntropy()
        seen.append(training.loss is before)

    a_fit(a_net(), X, T, loss=fb.MeanSquaredError(), validation_data=(X, 2 * T), callbacks=[change])
    assert seen == [True, True]


@pytest.mark.parametrize("name", ["batch_size", "l2", "loss"])
@pytest.mark.parametrize("validating", [False, True])
def test_nothing_is_set_while_an_epoch_is_under_way(name, validating):
    class Meddles(fb.Layer):
        training = None

        def forward(self, X, training=True):
            if training is not validating and self.training is not None:
                setattr(self.training, name, getattr(self.training, name))
            return X + 0

        def backward(self, dZ):
            return dZ + 0

    net = fb.Sequential([fb.Dense(4, 3), Meddles()], seed=0)
    with pytest.raises(RuntimeError, match=f"training.{name}: expected to be set between epochs"):
        a_fit(net, validation_data=classes(),
              callbacks=[lambda training: setattr(net.layers[1], "training", training)])


def test_a_dropout_layers_own_count_of_steps_counts_on_both_paths(dtype):
    def train(watch):
        net = fb.Sequential([fb.Dense(4, 6), fb.Dropout(0.5), fb.Dense(6, 6), fb.Dropout(0.5),
                             fb.Dense(6, 3)], dtype, seed=0)

        def change(training):
            net.layers[3].step, net.layers[1].step = 5, 1000 * training.epoch

        a_fit(net, optimizer=watch(fb.SGD(0.1)), seed=0, epochs=3, callbacks=[change])
        return net.parameters.tobytes(), [layer.step for layer in net.layers]

    assert train(unwatched) == train(record)
