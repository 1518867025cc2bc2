"""`fit_many`: networks that are trained at the same time, each as it would be alone."""

import copy
import io
import os
import pickle
import signal
import threading
import time

import numpy as np
import pytest
import scipy.sparse
import tqdm.auto

import fastbp as fb
from fastbp.kernels import threads
from fastbp.training import Training

from ..cases import each
from .fits import Recorder

CROSS_ENTROPY = fb.SoftmaxCrossEntropy()
RNG = np.random.default_rng(0)
X, LABELS = RNG.normal(size=(60, 5)), RNG.integers(0, 3, 60)


def networks(n, **options):
    return [fb.mlp([5, 4 + 3 * i, 3], seed=i, **options) for i in range(n)]


def values(history):
    return {key: np.array(value).tolist() for key, value in history.items() if key != "seconds"}


def same(history, other):
    assert values(history) == values(other)
    assert history.stopped == other.stopped
    assert len(history["seconds"]) == len(history["loss"])


@pytest.fixture
def small_work_is_shared():
    """Any work is worth the most threads allowed, even more than there are processors."""
    before = threads.set_work_per_thread(0)
    yield
    threads.set_work_per_thread(before)


def random_network(rng, dtype):
    layers, n = [], 5
    for _ in range(rng.integers(0, 4)):
        width = int(rng.integers(1, 20))
        layers += [fb.Dense(n, width), rng.choice([fb.ReLU, fb.Tanh, fb.GELU])()]
        if rng.random() < 0.3:
            layers.append(rng.choice([fb.LayerNorm, fb.BatchNorm])(width))
        if rng.random() < 0.4:
            layers.append(fb.Dropout(0.2))
        n = width
    return fb.Sequential([*layers, fb.Dense(n, 3)], dtype, seed=int(rng.integers(100)))


def random_optimizer(rng):
    kind = rng.choice([fb.SGD, fb.Adam, fb.AdamW, fb.Lion, fb.ScheduleFreeAdamW])
    return kind(float(10 ** rng.uniform(-4, -1)), clip_norm=rng.choice([None, 0.5]))


def random_pack(seed):
    """Networks, what differs between them, and what they share."""
    rng = np.random.default_rng(seed)
    dtype = rng.choice(["float32", "float64"])
    n = int(rng.integers(1, 6))
    nets = [random_network(rng, dtype) for _ in range(n)]
    own = {
        "epochs": rng.integers(1, 6, n).tolist(), "batch_size": rng.integers(1, 70, n).tolist(),
        "l2": rng.choice([0.0, 0.1], n).tolist(), "seeds": rng.integers(0, 1000, n).tolist(),
        "optimizers": [random_optimizer(rng) for _ in range(n)],
        "patience": [None] * n,
    }
    shared = {"sample_weight": rng.choice([None, 1]) and rng.uniform(0.5, 2, 60),
              "shuffle": bool(rng.random() < 0.8), "gradient_norms": bool(rng.random() < 0.2)}
    if rng.random() < 0.5:
        shared["validation_data"] = X[::2], LABELS[::2]
        own["patience"] = rng.choice([None, 1, 2], n).tolist()
    elif rng.random() < 0.5:
        shared["validation_fraction"] = 0.3
    if all(optimizer.averaged is None for optimizer in own["optimizers"]):
        own["ema"] = rng.choice([None, 0.9], n).tolist()
    return nets, own, shared


def train_alone(network, shared, *, optimizers, seeds, patience, **own):
    stopping = [] if patience is None else [fb.EarlyStopping(patience)]
    return network.fit(X, LABELS, loss=CROSS_ENTROPY, optimizer=optimizers, seed=seeds,
                       callbacks=stopping, n_threads=1, **own, **shared)


class TestBits:
    @pytest.mark.once
    @pytest.mark.parametrize("n_threads", [1, 2, 3, 4])
    def test_each_network_is_what_it_is_alone(self, n_threads, small_work_is_shared):
        for seed in range(n_threads, 200, 4):  # 200 packs in all
            nets, own, shared = random_pack(seed)
            alone, own_alone, _ = random_pack(seed)
            watched = {"on_epoch_end": lambda _: None} if seed % 3 == 0 else {}
            histories = fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, n_threads=n_threads,
                                    **own, **shared, **watched)
            for i, (network, history) in enumerate(zip(nets, histories, strict=True)):
                same(history, train_alone(alone[i], shared,
                                          **{key: each[i] for key, each in own_alone.items()}))
                assert network.get_state().tobytes() == alone[i].get_state().tobytes(), (seed, i)
                assert network.history is history

    def test_own_layers_and_losses(self):
        def net():
            return fb.Sequential([Recorder(), fb.Dense(5, 8), fb.ReLU(), fb.Dense(8, 3)], seed=1)

        class Own(fb.losses.Loss):
            metric = None

            def targets(self, y, n_out, dtype):
                return np.eye(n_out, dtype=dtype)[y]

            def __call__(self, Z, Y, sample_weight=None):
                return float(((Z - Y) ** 2).mean()), 2 * (Z - Y) / Z.size

        nets = [net() for _ in range(4)]
        fb.fit_many(nets, X, LABELS, loss=Own(), seeds=range(4), epochs=3, n_threads=3)
        for i, network in enumerate(nets):
            alone = net()
            alone.fit(X, LABELS, loss=Own(), seed=i, epochs=3)
            assert network.parameters.tobytes() == alone.parameters.tobytes()
            assert network.layers[0].trained == alone.layers[0].trained

    def test_sparse_rows(self):
        nets, alone = networks(3), networks(3)
        fb.fit_many(nets, scipy.sparse.csr_array(X), LABELS, loss=CROSS_ENTROPY, seeds=0)
        for i, network in enumerate(alone):
            network.fit(X, LABELS, loss=CROSS_ENTROPY, seed=i)
            assert network.parameters.tobytes() == nets[i].parameters.tobytes()

    def test_one_optimizer_is_copied(self):
        optimizer = fb.SGD(0.1, momentum=0.9)
        nets, alone = networks(3), networks(3)
        fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, optimizers=optimizer, seeds=5)
        assert optimizer.steps == 0
        for i, network in enumerate(alone):
            network.fit(X, LABELS, loss=CROSS_ENTROPY, optimizer=copy.deepcopy(optimizer),
                        seed=5 + i)
            assert network.parameters.tobytes() == nets[i].parameters.tobytes()


class TestCallbacks:
    def test_on_epoch_end_sees_all_and_can_end_any(self):
        seen = []

        def look(trainings):
            assert all(isinstance(each, Training) for each in trainings)
            seen.append([len(each.history["loss"]) for each in trainings])
            if len(seen) == 2:
                trainings[1].stop("it was enough")

        histories = fb.fit_many(networks(3), X, LABELS, loss=CROSS_ENTROPY, epochs=[1, 9, 4],
                                on_epoch_end=look, n_threads=2)
        assert seen == [[1, 1, 1], [1, 2, 2], [1, 2, 3], [1, 2, 4]]
        assert [history.stopped for history in histories] == [None, "it was enough", None]

    def test_callbacks_are_called_in_the_order_of_the_networks(self):
        called, main = [], threading.get_ident()

        class Tell(fb.Callback):
            def __init__(self, name):
                self.name = name

            def on_epoch_end(self, training):
                assert threading.get_ident() == main
                called.append((self.name, training.epoch))

            def on_train_end(self, training):
                called.append((self.name, "end"))

        fb.fit_many(networks(3), X, LABELS, loss=CROSS_ENTROPY, epochs=[2, 1, 2], n_threads=3,
                    callbacks=[[Tell("a")], (), [Tell("c"), lambda training: None]])
        assert called == [("a", 0), ("c", 0), ("a", 1), ("c", 1), ("a", "end"), ("c", "end")]

    def test_patience_restores_the_best_weights(self):
        nets = networks(3)
        histories = fb.fit_many(
            nets, X, LABELS, loss=CROSS_ENTROPY, optimizers=fb.Adam(0.1), epochs=500,
            patience=[3, 5, None], validation_data=(X[:20], LABELS[:20] * 0), seeds=0)
        assert "3 epochs" in histories[0].stopped and "5 epochs" in histories[1].stopped
        assert len(histories[2]["loss"]) == 500
        for network, history in list(zip(nets, histories, strict=True))[:2]:
            score = network.evaluate(X[:20], LABELS[:20] * 0, loss=CROSS_ENTROPY)
            assert score["loss"] == min(history["val_loss"])


class TestErrors:
    def test_a_network_that_diverges_leaves_the_others_alone(self):
        nets, alone = networks(3), networks(3)
        rates = [0.1, 1e38, 0.1]
        with pytest.warns(RuntimeWarning, match=r"networks\[1\]: training diverged at step") as w:
            histories = fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, seeds=0,
                                    optimizers=[fb.SGD(rate) for rate in rates])
        assert w[0].filename == __file__
        assert "diverged" in histories[1].stopped and len(histories[1]["loss"]) < 10
        assert np.isfinite(nets[1].parameters).all()
        for i in (0, 2):
            same(histories[i], alone[i].fit(X, LABELS, loss=CROSS_ENTROPY, seed=i,
                                            optimizer=fb.SGD(rates[i])))

    def test_an_error_ends_all_and_names_the_network(self):
        class Broken(fb.Layer):
            def forward(self, X, training=True):
                if training:
                    time.sleep(0.01)
                    raise ZeroDivisionError("broken")
                return X

            def backward(self, dZ):
                return dZ

        nets = [fb.mlp([5, 64, 3], seed=0), fb.Sequential([Broken(), fb.Dense(5, 3)]),
                fb.mlp([5, 64, 3], seed=0)]
        begin = time.monotonic()
        with pytest.raises(ZeroDivisionError, match="broken") as caught:
            fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, epochs=10**7, n_threads=3)
        assert time.monotonic() - begin < 60
        assert caught.value.__notes__ == ["(for networks[1])"]
        for i in (0, 2):
            assert len(nets[i].history["loss"]) == len(nets[i].history["seconds"])
            nets[i].fit(X, LABELS, loss=CROSS_ENTROPY, epochs=1)  # it is free again
        assert fb.get_num_threads() == threads.get_num_threads()

    def test_an_error_in_a_callback(self):
        def fail(training):
            raise LookupError("no")

        nets = networks(3)
        with pytest.raises(LookupError) as caught:
            fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, n_threads=2,
                        callbacks=[[], [fail], []])
        assert caught.value.__notes__ == ["(for networks[1])"]
        assert [len(net.history["loss"]) for net in nets][1] == 1

    @pytest.mark.parametrize("n_threads", [1, 2])
    def test_ctrl_c(self, n_threads, ctrl_c):
        nets = networks(3)
        timer = threading.Timer(0.5, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, epochs=10**7, n_threads=n_threads)
        timer.join()
        assert signal.getsignal(signal.SIGINT) is ctrl_c
        for net in nets:
            assert len(net.history["loss"]) == len(net.history["seconds"])
            assert np.isfinite(net.parameters).all()
            net.fit(X, LABELS, loss=CROSS_ENTROPY, epochs=1)

    def test_a_network_or_optimizer_in_use(self):
        busy = fb.mlp([5, 3])

        def again(training):
            with pytest.raises(RuntimeError, match="network is being used"):
                fb.fit_many([fb.mlp([5, 3]), busy], X, LABELS, loss=CROSS_ENTROPY)

        busy.fit(X, LABELS, loss=CROSS_ENTROPY, epochs=1, callbacks=[again])

    @each("arguments, error, message", [
        ({"networks": []}, ValueError, "networks: expected at least one"),
        ({"networks": fb.mlp([5, 3])}, TypeError, "networks: expected a list of networks, got a"),
        ({"networks": [fb.Dense(5, 3)]}, TypeError, r"networks\[0\]: expected a Sequential"),
        ({"networks": [fb.mlp([5, 3])] * 2}, ValueError, "the same at 0 and 1; use a copy"),
        ({"optimizers": [fb.SGD()]}, ValueError, "optimizers: expected one for all networks or 3"),
        ({"optimizers": [fb.SGD()] * 3}, ValueError, "optimizers: expected 3 different"),
        ({"optimizers": "adam"}, TypeError, "optimizers: expected an Optimizer"),
        ({"optimizers": 0.1}, TypeError, "optimizers: expected an Optimizer"),
        ({"epochs": [1, 2]}, ValueError, "epochs: expected one for all networks or 3"),
        ({"epochs": [1, 2, 0]}, ValueError, "epochs: expected"),
        ({"batch_size": 0}, ValueError, "batch_size: expected"),
        ({"seeds": -1}, ValueError, "seeds: expected"),
        ({"seeds": [1, -1, 2]}, ValueError, "seed: expected"),
        ({"seeds": 1.5}, TypeError, "seeds: expected"),
        ({"patience": 0}, ValueError, "patience: expected"),
        ({"patience": 3}, ValueError, "val_loss"),
        ({"callbacks": [fb.EarlyStopping()]}, ValueError, "callbacks: expected 3 lists"),
        ({"callbacks": fb.EarlyStopping()}, ValueError, "callbacks: expected 3 lists"),
        ({"callbacks": [[], [], [3]]}, TypeError, "callbacks: expected Callback"),
        ({"on_epoch_end": 3}, TypeError, "on_epoch_end: expected a function"),
        ({"shuffle": np.arange}, TypeError, "shuffle: expected True or False"),
        ({"verbose": 4}, ValueError, "verbose: expected 0, 1, 2 or 3"),
        ({"loss": [CROSS_ENTROPY] * 2}, ValueError, "loss: expected one for all"),
        ({"loss": "mse"}, TypeError, "loss"),
        ({"X": X[:, :4]}, ValueError, "X: expected 5 columns"),
        ({"X": [["a"]]}, TypeError, "X: expected"),
        ({"y": LABELS[:10]}, ValueError, "60|10"),
        ({"resume": True}, ValueError, "resume: expected False without checkpoint"),
        ({"checkpoint": 3}, TypeError, "checkpoint: expected"),
    ])
    def test_bad_arguments(self, arguments, error, message):
        nets = networks(3)
        before = [net.parameters.tobytes() for net in nets]
        arguments = {"networks": nets, "X": X, "y": LABELS, "loss": CROSS_ENTROPY} | arguments
        with pytest.raises(error, match=message):
            fb.fit_many(arguments.pop("networks"), arguments.pop("X"), arguments.pop("y"),
                        **arguments)
        assert before == [net.parameters.tobytes() for net in nets]
        for net in nets:
            net.exclusive_use("network").release()

    def test_a_callback_that_refuses_leaves_every_network_unchanged(self, folder):
        nets = networks(2)
        seeds = [net.seeds for net in nets]
        with pytest.raises(ValueError, match="val_loss") as caught:
            fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, checkpoint=folder,
                        callbacks=[[], [fb.EarlyStopping(3)]])
        assert caught.value.__notes__ == ["(for networks[1])"]
        assert [net.history for net in nets] == [None, None]
        assert [net.seeds for net in nets] == seeds
        assert not list(folder.glob("*/*.fastbp"))

    def test_the_network_that_an_argument_does_not_fit_is_named(self):
        with pytest.raises(ValueError, match="expected 4 columns") as caught:
            fb.fit_many([fb.mlp([5, 3]), fb.mlp([4, 3])], X, LABELS, loss=CROSS_ENTROPY)
        assert caught.value.__notes__ == ["(for networks[1])"]


class TestCheckpoints:
    def test_resuming_gives_the_bits_of_an_uninterrupted_training(self, folder):
        def train(nets, **options):
            return fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, epochs=[6, 4, 8], seeds=1,
                               **options)

        class Enough(Exception):
            pass

        def stop(trainings):
            if trainings[2].epoch == 4:
                raise Enough

        nets, resumed, expected = networks(3), networks(3), networks(3)
        histories = train(expected)
        with pytest.raises(Enough):
            train(nets, checkpoint=folder, on_epoch_end=stop)
        assert sorted(path.name for path in folder.iterdir()) == ["0000", "0001", "0002"]
        with pytest.raises(FileExistsError):
            train(resumed, checkpoint=folder)
        for history, other in zip(train(resumed, checkpoint=folder, resume=True), histories,
                                  strict=True):
            same(history, other)
        for net, other in zip(resumed, expected, strict=True):
            assert net.parameters.tobytes() == other.parameters.tobytes()

    def test_one_that_on_epoch_end_has_stopped_stays_so(self, folder):
        def train(nets, on_epoch_end, **options):
            return fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, epochs=6, seeds=1,
                               checkpoint=folder, checkpoint_every=4, on_epoch_end=on_epoch_end,
                               **options)

        def stop(trainings):
            if trainings[0].epoch == 1:
                trainings[0].stop("early")
            if trainings[1].epoch == 2:
                raise InterruptedError

        nets, resumed = networks(2), networks(2)
        with pytest.raises(InterruptedError):
            train(nets, stop)
        first, second = train(resumed, lambda trainings: None, resume=True)
        assert (len(first["loss"]), first.stopped) == (2, "early")
        assert (len(second["loss"]), second.stopped) == (6, None)
        assert resumed[0].parameters.tobytes() == nets[0].parameters.tobytes()

    def test_those_that_are_behind_catch_up(self, folder):
        def train(nets, epochs, **options):
            fb.fit_many(nets, X, LABELS, loss=CROSS_ENTROPY, epochs=epochs, seeds=1,
                        checkpoint=folder, **options)

        train(networks(2), [1, 3])
        seen = []
        train(networks(2), 4, resume=True, on_epoch_end=lambda trainings: seen.append(
            [len(each.history["loss"]) for each in trainings]))
        assert seen == [[2, 3], [3, 3], [4, 4]]


@pytest.mark.parametrize("make", [fb.EarlyStopping, lambda: fb.callbacks.Plateau(monitor="loss"),
                                  lambda: fb.callbacks.TensorBoard("runs")])
def test_a_callback_with_a_state_serves_one_network(make, tmp_path, monkeypatch):
    """Its state, or the curves that it draws, would be of all of them."""
    monkeypatch.chdir(tmp_path)
    options = {"loss": CROSS_ENTROPY, "epochs": 2, "validation_fraction": 0.2}
    nets, callback = networks(2), make()
    if isinstance(callback, fb.callbacks.TensorBoard):
        pytest.importorskip("tensorboardX")
    before = [net.parameters.tobytes() for net in nets]
    name = type(callback).__name__
    with pytest.raises(RuntimeError, match=f"this {name} is being used by a training already, in "
                                           f"another fit or for another network of fit_many; "
                                           f"callbacks: expected each to have its own {name}"
                       ) as raised:
        fb.fit_many(nets, X, LABELS, callbacks=[[callback], [callback]], **options)
    assert raised.value.__notes__ == ["(for networks[1])"]
    assert [net.parameters.tobytes() for net in nets] == before
    assert not list(tmp_path.iterdir())
    for net in nets:  # one after the other it may, also twice in a list, and be copied
        net.fit(X, LABELS, callbacks=[callback, callback], **options)
    copied = [[copy.deepcopy(callback)], [pickle.loads(pickle.dumps(callback))]]
    if name != "TensorBoard":
        fb.fit_many(nets, X, LABELS, callbacks=copied, **options)


def test_what_is_printed(capsys):
    fb.fit_many(networks(2), X, LABELS, loss=CROSS_ENTROPY, epochs=[1, 3], verbose=2,
                validation_fraction=0.2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition("  lowest loss")[0] for line in lines] == [
        "epoch 1/3  1 of 2 networks still training", "epoch 2/3  1 of 2 networks still training",
        "epoch 3/3  0 of 2 networks still training"]
    assert all("lowest val_loss" in line for line in lines)


def test_a_bar_over_all_networks(monkeypatch):
    bars = []

    class Bar(tqdm.auto.tqdm):
        def __init__(self, **options):
            super().__init__(**options | {"disable": False, "file": io.StringIO()})
            bars.append(self)

    monkeypatch.setattr(tqdm.auto, "tqdm", Bar)
    fb.fit_many(networks(2), X, LABELS, loss=CROSS_ENTROPY, epochs=[3, 5], verbose=3)
    (bar,) = bars
    assert (bar.n, bar.total) == (8, 8)
