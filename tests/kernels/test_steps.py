"""Compiled training steps have the bits of the interpreted ones, in every tier and with any number
of threads."""

import itertools
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch, gather, threads
from fastbp.losses import Scaled
from fastbp.metrics import SubsetAccuracy
from fastbp.program import reference

from ..cases import each

pytestmark = pytest.mark.once

ACTIVATIONS = list(fb.layers.ACTIVATIONS.values())


@st.composite
def networks(draw):
    """Layers, as functions that make them: no two networks can share one."""
    width = n_in = draw(st.sampled_from([1, 3, 16, 33]))
    layers = []

    def others(most):
        for _ in range(draw(st.integers(0, most))):
            if draw(st.booleans()):
                layers.append(draw(st.sampled_from(ACTIVATIONS)))
            else:
                rate = draw(st.sampled_from([0.0, 0.3]))
                layers.append(lambda rate=rate: fb.Dropout(rate))

    others(1)
    for _ in range(draw(st.integers(1, 3))):
        n_out = draw(st.sampled_from([1, 2, 5, 16, 37]))
        layers.append(lambda n_in=width, n_out=n_out: fb.Dense(n_in, n_out))
        width = n_out
        others(3)
    n_out = draw(st.sampled_from([1, 3, 10]))
    layers.append(lambda n_in=width, n_out=n_out: fb.Dense(n_in, n_out))
    others(1)
    return layers, n_in, n_out


def subsets():
    loss = fb.SigmoidCrossEntropy()
    loss.metric = SubsetAccuracy
    return loss


LOSSES = {
    "labels": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(0.1), rng.integers(0, n, rows)),
    "shares": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(), rng.dirichlet(np.ones(n), rows)),
    "signs": lambda rng, rows, n: (fb.SigmoidCrossEntropy(), rng.integers(0, 2, (rows, n))),
    "capped": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(cap=0.8), rng.integers(0, n, rows)),
    "squared": lambda rng, rows, n: (fb.MeanSquaredError(), rng.normal(size=(rows, n))),
    "absolute": lambda rng, rows, n: (fb.MeanAbsoluteError(), rng.normal(size=(rows, n))),
    "huber": lambda rng, rows, n: (fb.Huber(0.7), rng.normal(size=(rows, n))),
    "quantiles": lambda rng, rows, n: (
        fb.PinballLoss(np.linspace(0.1, 0.9, n)), rng.normal(size=rows)),
    "a quantile": lambda rng, rows, n: (fb.PinballLoss(0.3), rng.normal(size=(rows, n))),
    "counts": lambda rng, rows, n: (fb.PoissonDeviance(), rng.poisson(2, (rows, n))),
    "subsets": lambda rng, rows, n: (subsets(), rng.integers(0, 2, (rows, n))),
    "scaled labels": lambda rng, rows, n: (
        Scaled(fb.SoftmaxCrossEntropy(0.1), 0.3, 1 / 3), rng.integers(0, n, rows)),
    "scaled signs": lambda rng, rows, n: (
        Scaled(fb.SigmoidCrossEntropy(), n, n), rng.integers(0, 2, (rows, n))),
    "scaled squares": lambda rng, rows, n: (
        Scaled(fb.MeanSquaredError(), 0.5, 0.7), rng.normal(size=(rows, n))),
    "scaled quantiles": lambda rng, rows, n: (
        Scaled(fb.PinballLoss(np.linspace(0.1, 0.9, n)), 0.5, 0.7), rng.normal(size=(rows, n))),
}
OPTIMIZERS = {
    "sgd": lambda: fb.SGD(0.05, weight_decay=0.01),
    "nesterov": lambda: fb.SGD(fb.schedules.Cosine(0.1, 3, 1), 0.9, nesterov=True),
    "clipped": lambda: fb.SGD(0.05, 0.5, clip_norm=0.1),
    "adam": lambda: fb.Adam(0.01, weight_decay=0.01, clip_norm=1.0),
    "adamw": lambda: fb.AdamW(fb.schedules.Step(0.01, 1)),
    "undamped": lambda: fb.SGD(0.01, 1.0),
    "lion": lambda: fb.Lion(0.003, weight_decay=0.1, clip_norm=1.0),
    "adam with epsilon hat": lambda: fb.Adam(0.01, epsilon=1e-3, epsilon_hat=True),
}


def train(layers, dtype, X, y, loss, optimizer, isa="scalar", **options):
    """Everything that a training leaves behind, as bytes."""
    net = fb.Sequential([layer() for layer in layers], dtype=dtype, seed=0)
    used = dispatch.isa()
    dispatch.use(isa)
    try:
        history = net.fit(X, y, loss=loss, optimizer=optimizer, seed=1, epochs=2,
                          gradient_norms=True, **options)
        ended = None
    except FloatingPointError as error:  # a random network may diverge; both must, alike
        history, ended = net.history, str(error)
    finally:
        dispatch.use(used)
    del history["seconds"]
    assert np.isfinite(net.parameters).all()
    return (
        net.parameters.tobytes(),
        None if ended else net.gradients.tobytes(),
        {name: array.tobytes() for name, array in optimizer.state.items()},
        optimizer.steps,
        [layer.step for layer in net.layers],
        {key: np.array(values).tobytes() for key, values in history.items()},
        ended,
    )


@settings(max_examples=150, deadline=None)
@example(  # diverges by a NaN in the gradients, with a loss that is finite
    network=([lambda: fb.Dense(1, 5), lambda: fb.Dropout(0.3), lambda: fb.Dense(5, 2),
              lambda: fb.Dense(2, 3), lambda: fb.Dropout(0.3)], 1, 3),
    dtype="float32", loss="labels", optimizer="nesterov", kind="i8", rows=37, batch_size=1,
    weighted=False, validation_fraction=0.0, n_threads=2, l2=0.0, sparse=None,
)
@given(
    network=networks(),
    dtype=st.sampled_from(["float32", "float64"]),
    loss=st.sampled_from(sorted(LOSSES)),
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    kind=st.sampled_from(["f4", "f8", "u1", "i8", "?"]),
    rows=st.sampled_from([2, 37, 64]),
    batch_size=st.sampled_from([1, 7, 64, 1000]),
    weighted=st.booleans(),
    validation_fraction=st.sampled_from([0.0, 0.5]),
    n_threads=st.integers(2, 4),
    l2=st.sampled_from([0.0, 0.01, 3.0]),
    sparse=st.sampled_from([None, None, "csr", "csc", "coo"]),
)
def test_the_layers_bits(network, dtype, loss, optimizer, kind, rows, batch_size, weighted,
                         validation_fraction, n_threads, l2, sparse):
    layers, n_in, n_out = network
    rng = np.random.default_rng(0)
    X = (3 * rng.normal(size=(rows, n_in)) + 4 * (kind == "u1")).clip(-9, 99).astype(kind)
    X = np.where(rng.random(X.shape) < (0.5 if sparse else 0), X.dtype.type(0), X)
    given_X = X if sparse is None else scipy.sparse.csr_array(X).asformat(sparse)
    loss, y = LOSSES[loss](rng, rows, n_out)
    options = {
        "batch_size": batch_size,
        "sample_weight": rng.integers(0, 3, rows) + (np.arange(rows) < 1) if weighted else None,
        "validation_fraction": validation_fraction,
        "l2": l2,
    }

    def run(isa, n_threads=1, X=given_X):
        return train(layers, dtype, X, y, loss, OPTIMIZERS[optimizer](), isa,
                     n_threads=n_threads, **options)

    paid = threads.set_work_per_thread(0)  # however little there is to do
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", reference.new_steps)
            by_layers = run("scalar", X=X)
            assert run(dispatch.isa(), n_threads) == by_layers
        for isa in dispatch.available():
            assert run(isa) == by_layers, isa
            assert run(isa, n_threads) == by_layers, (isa, n_threads)
    finally:
        threads.set_work_per_thread(paid)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("sizes", "batch_size", "l2"), [
    ([300, 517, 10], 300, 0.0),  # past the blocks of k, forward and for the weights
    ([576, 512, 640, 3], 60, 0.1),  # rows whose distance shares sets of a cache
    ([101, 257, 263, 1], 31, 2.0),
    ([1, 1024, 3], 258, 0.0),
    ([64, 128, 128, 1], 5, 0.5),  # weights of one and of two blocks of squares, and no more
])
def test_wide_networks_have_the_same_bits(sizes, batch_size, l2, dtype, monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(batch_size + 1, sizes[0])).astype(dtype)
    y = rng.normal(size=(batch_size + 1, sizes[-1]))

    def run(isa, n_threads):
        layers = [lambda: fb.Dense(sizes[0], sizes[1])]
        for n_in, n_out in itertools.pairwise(sizes[1:]):
            layers += [fb.ReLU, lambda a=n_in, b=n_out: fb.Dense(a, b)]
        return train(layers, dtype, X, y, fb.MeanSquaredError(), fb.Adam(clip_norm=0.1), isa,
                     batch_size=batch_size, n_threads=n_threads, l2=l2)

    expected = run("scalar", 1)
    with monkeypatch.context() as patch:
        patch.setattr(training.run, "new_steps", reference.new_steps)
        assert run(dispatch.isa(), 1) == expected
    paid = threads.set_work_per_thread(0)
    try:
        for isa in dispatch.available():
            for n_threads in (1, 2, 3, 4):
                assert run(isa, n_threads) == expected, (isa, n_threads)
    finally:
        threads.set_work_per_thread(paid)


@pytest.mark.parametrize("by_layers", [False, True])
def test_gradients_whose_squares_overflow(monkeypatch, by_layers):
    """Each of them could still be taken a step; their norm, which the layers ask for, cannot."""
    if by_layers:
        monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
    net = fb.mlp([4, 1], dtype="float64", seed=0)
    net.parameters[:] = 0
    with pytest.raises(FloatingPointError, match="the gradients are not finite"):
        net.fit(np.full((1, 4), 1.2e154), np.ones((1, 1)), loss=fb.MeanAbsoluteError(),
                optimizer=fb.SGD(1e-160), epochs=1)
    assert not net.parameters.any()


def in_python(net, X, y, loss, optimizer=None):
    """What of a fit's steps is left to Python."""
    seen = []
    net.fit(X, y, loss=loss, optimizer=optimizer, epochs=1,
            callbacks=[lambda run: seen.append(run.compiled.in_python)])
    return seen[0]


def lowered(*arguments):
    return in_python(*arguments) == ()


class TestWhatIsLowered:
    X, y = np.eye(3, dtype="f4"), np.arange(3)
    loss = fb.SoftmaxCrossEntropy()

    def test_built_in_networks_are(self):
        assert lowered(fb.mlp([3, 4, 3], dropout=0.1), self.X, self.y, self.loss)

    @each("optimizer", OPTIMIZERS)
    def test_with_every_optimizer(self, optimizer):
        net = fb.mlp([3, 4, 3])
        assert lowered(net, self.X, self.y, self.loss, OPTIMIZERS[optimizer]())

    @each("kind", ["f4", "f8", "?", "b", "B", "h", "H", "i", "I", "l", "L"])
    def test_rows_of_every_kind_are_read(self, kind):
        assert gather.readable(self.X.astype(kind), np.float32)

    def test_rows_further_apart_are_read(self):
        assert gather.readable(np.zeros((6, 4))[::2], np.float32)
        assert gather.readable(np.zeros((6, 4))[::-1, :3], np.float32)

    @each("order", [lambda X: X.T.copy().T, lambda X: X[::-1, ::-1],
                    lambda X: X.repeat(2, axis=1)[:, ::2]])
    @each("kind", ["f4", "f8", "u1"])
    def test_columns_further_apart_are_read(self, order, kind):
        X = np.random.default_rng(0).integers(0, 9, (40, 3)).astype(kind)
        y = np.arange(40) % 3
        odd, even = fb.mlp([3, 4, 3], seed=0), fb.mlp([3, 4, 3], seed=0)
        assert lowered(odd, order(X), y, self.loss)
        assert lowered(even, np.ascontiguousarray(order(X)), y, self.loss)
        assert odd.parameters.tobytes() == even.parameters.tobytes()

    @pytest.mark.parametrize("X", [np.zeros((3, 3), "f2"), np.zeros((3, 3), ">f4")])
    def test_other_arrays_are_gathered_by_numpy(self, X):
        assert not gather.readable(X, np.float32)
        net = fb.mlp([3, 4, 3])
        assert in_python(net, X, self.y, self.loss) == ("gather",)

    def test_pieces_of_ones_own_are_called(self):
        class Mine(fb.ReLU):
            def forward(self, X, training=True):
                return super().forward(X, training)

        class MyLoss(fb.SoftmaxCrossEntropy):
            pass

        class MyOptimizer(fb.Adam):
            pass

        dense = [fb.Dense(3, 3)]
        assert in_python(fb.Sequential([*dense, Mine()]), self.X, self.y, self.loss) == ("layers",)
        net = fb.Sequential([fb.Dense(3, 3)])
        assert in_python(net, self.X, self.y, MyLoss()) == ("loss", "metric")
        assert in_python(net, self.X, self.y, self.loss, MyOptimizer()) == ("update",)

    def test_a_class_that_changes_nothing_is_lowered(self):
        class Mine(fb.ReLU):
            pass

        assert lowered(fb.Sequential([fb.Dense(3, 3), Mine()]), self.X, self.y, self.loss)


class TestWhatACallbackChanges:
    """Arrays are checked again before each run of steps: nothing may crash the process."""

    X = np.random.default_rng(0).normal(size=(60, 8)).astype("f4")

    def fit(self, change, loss=None, optimizer=None, y=None):
        y = np.arange(60) % 4 if y is None else y
        net = fb.mlp([8, 16, 4], seed=0)
        net.fit(self.X, y, loss=loss or fb.SoftmaxCrossEntropy(), optimizer=optimizer,
                epochs=3, seed=0, callbacks=[change])
        return net

    @pytest.mark.parametrize("label", [4, 10**7, -1])
    def test_labels_that_are_none(self, label):
        y = np.arange(60) % 4

        def change(run):
            y[7] = label

        with pytest.raises(ValueError, match=rf"y: .*got {label}"):
            self.fit(change, y=y)

    @pytest.mark.parametrize("label", [4, 10**12, -1])
    def test_validation_labels_that_are_none(self, label):
        y, y_val = np.arange(60) % 4, np.arange(60) % 4

        def change(run):
            y_val[7] = label

        with pytest.raises(ValueError, match=rf"y: .*got {label}"):
            fb.mlp([8, 16, 4], seed=0).fit(
                self.X, y, loss=fb.SoftmaxCrossEntropy(), validation_data=(self.X, y_val),
                callbacks=[change])

    def test_a_loss_with_other_targets(self):
        with pytest.raises(ValueError, match="y: expected shape"):
            self.fit(lambda run: setattr(run, "loss", fb.SigmoidCrossEntropy()))

    def test_a_metric_with_other_targets(self):
        loss = fb.SoftmaxCrossEntropy()
        loss.metric = fb.metrics.BinaryAccuracy
        with pytest.raises(ValueError, match="y: expected targets of two dimensions"):
            self.fit(lambda run: None, loss)

    @each("state", [np.zeros(3, "f4"), np.zeros(212), None, [0.0] * 212])
    def test_a_state_that_does_not_fit(self, state):
        def change(run):
            run.optimizer.state["m"] = state

        with pytest.raises((TypeError, ValueError), match=r"state\['m'\]"):
            self.fit(change, optimizer=fb.Adam())

    def test_a_state_in_another_order_or_with_more(self):
        def change(run):
            state = run.optimizer.state
            run.optimizer.state = {"more": np.zeros(2), "v": state["v"], "m": state["m"]}

        changed = self.fit(change, optimizer=fb.Adam())
        same = self.fit(lambda run: None, optimizer=fb.Adam())
        assert changed.parameters.tobytes() == same.parameters.tobytes()

    @each(("setting", "value"), [
        ("learning_rate", -0.1), ("beta1", 1.0), ("beta2", 1.0), ("epsilon", 0), ("clip_norm", -1),
        ("weight_decay", -1), ("weight_decay", np.nan),
    ])
    def test_settings_are_checked_when_they_are_set(self, setting, value):
        with pytest.raises(ValueError, match=rf"^{setting}: expected"):
            self.fit(lambda run: setattr(run.optimizer, setting, value), optimizer=fb.Adam())

    def test_momentum_can_be_turned_on(self):
        optimizer = fb.SGD(0.1)
        self.fit(lambda run: setattr(run.optimizer, "momentum", 0.9), optimizer=optimizer)
        assert optimizer.state["velocity"].any()


class TestSparseRows:
    """Which CSR arrays are read in place, and which SciPy converts first."""

    X = np.random.default_rng(0).normal(size=(40, 5)).astype("f4")
    X[np.random.default_rng(1).random(X.shape) < 0.6] = 0
    X[[0, 7, 39]] = 0
    y = np.arange(40) % 3
    loss = fb.SoftmaxCrossEntropy()

    @each("make", [scipy.sparse.csr_array, scipy.sparse.csr_matrix])
    @each("index", ["i4", "i8"])
    def test_are_read(self, make, index):
        X = make(self.X)
        X.indices, X.indptr = X.indices.astype(index), X.indptr.astype(index)
        assert gather.readable(X, np.float32)
        assert not gather.readable(X, np.float64)
        nets = fb.mlp([5, 4, 3], seed=0), fb.mlp([5, 4, 3], seed=0)
        assert lowered(nets[0], X, self.y, self.loss)
        assert lowered(nets[1], self.X, self.y, self.loss)
        assert nets[0].parameters.tobytes() == nets[1].parameters.tobytes()
        assert X.indices.dtype == X.indptr.dtype == np.dtype(index)

    def test_indices_of_two_kinds_are_left_to_scipy(self):
        X = scipy.sparse.csr_array(self.X)
        X.indices, X.indptr = X.indices.astype("i8"), X.indptr.astype("i4")
        assert not gather.readable(X, np.float32)

    @each("change", [
        lambda X: setattr(X, "data", X.data[::-1]),
        lambda X: setattr(X, "indices", X.indices[:-1]),
        lambda X: setattr(X, "indptr", X.indptr[:-1]),
        lambda X: setattr(X, "indptr", X.indptr.astype("u4")),
        lambda X: setattr(X, "indices", X.indices.astype(">i4")),
    ])
    def test_what_does_not_fit_is_not(self, change):
        X = scipy.sparse.csr_array(self.X)
        change(X)
        assert not gather.readable(X, np.float32)

    @each("form", ["csc", "coo", "lil", "bsr", "dia", "dok"])
    def test_other_forms_become_rows(self, form):
        X = scipy.sparse.coo_array(self.X).asformat(form)
        assert lowered(fb.mlp([5, 4, 3]), X, self.y, self.loss)
        assert X.format == form

    @pytest.mark.parametrize("by_layers", [False, True])
    def test_order_and_duplicates(self, by_layers, monkeypatch):
        """The entries of a row in any order; those of one place add up."""
        if by_layers:
            monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
        X = scipy.sparse.csr_array(
            (np.array([1, 2, 4, 8, 16, 0, 32], "f4"), [4, 0, 4, 2, 0, 1, 4], [0, 3, 3, 7]),
            shape=(3, 5))
        assert X.toarray().tolist() == [[2, 0, 0, 0, 5], [0] * 5, [16, 0, 8, 0, 32]]
        kept = X.copy()
        results = []
        for rows in (X, X.toarray()):
            net = fb.mlp([5, 4, 3], seed=0)
            net.fit(rows, [0, 1, 2], loss=self.loss, batch_size=2, seed=0)
            results.append(net.parameters.tobytes())
        assert results[0] == results[1]
        for name in ("data", "indices", "indptr"):
            np.testing.assert_array_equal(getattr(X, name), getattr(kept, name))


CORRUPTED = """
import sys
import numpy as np, scipy.sparse, fastbp as fb
from fastbp import training
from fastbp.program import reference

where, value, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
if path == "interpreted":
    training.run.new_steps = reference.new_steps
X = scipy.sparse.random_array((300, 60), density=0.3, format="csr", rng=np.random.default_rng(0),
                              dtype="f4")
y = np.arange(300) % 4

def corrupt(run):
    getattr(X, where)[7:-1:3] = value

net = fb.mlp([60, 8, 4], seed=0)
try:
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=4, seed=0, callbacks=[corrupt],
            validation_fraction=0.3 if path == "validation" else 0)
except (ValueError, IndexError):
    pass
assert np.isfinite(net.parameters).all()
print("alive")
"""


@pytest.mark.parametrize("path", ["compiled", "interpreted", "validation"])
@pytest.mark.parametrize("where", ["indices", "indptr"])
@pytest.mark.parametrize("value", [10**9, -(10**9)])
def test_a_callback_that_corrupts_sparse_rows(where, value, path):
    """In a process of its own, whose memory it may spoil."""
    run = subprocess.run([sys.executable, "-c", CORRUPTED, where, str(value), path],
                         capture_output=True, text=True, check=False)
    assert run.stdout == "alive\n", f"ended with {run.returncode}: {run.stderr}"


def test_a_run_ends_in_time_and_the_next_goes_on(monkeypatch):
    """Steps are made in several runs, with what the first would have made alone."""
    X = np.random.default_rng(0).normal(size=(20000, 30))
    y = np.random.default_rng(1).integers(0, 5, 20000)
    runs = []
    real = training.Training._run_compiled

    def count(self, *arguments):
        made = real(self, *arguments)
        runs.append(made)
        return made

    def parameters(isa):
        dispatch.use(isa)
        net = fb.mlp([30, 64, 5], seed=0)
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=1, batch_size=8, seed=0)
        return net.parameters.tobytes()

    monkeypatch.setattr(training.Training, "_run_compiled", count)
    used = dispatch.isa()
    try:
        slow = parameters("scalar")
        assert len(runs) > 1
        assert sum(runs) == 2500
        assert parameters(used) == slow
    finally:
        dispatch.use(used)


@pytest.mark.parametrize("by_layers", [False, True])
def test_weights_that_somebody_made_infinite_stop_a_training_with_decay(monkeypatch, by_layers):
    """Behind a ReLU the loss does not show it, and the decay would make it NaN."""
    if by_layers:
        monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
    net = fb.mlp([3, 4, 2], seed=0)
    net.layers[0].b[0] = -np.inf
    before = net.parameters.copy()
    with pytest.raises(FloatingPointError):
        net.fit(np.ones((8, 3)), np.zeros((8, 2)), loss=fb.MeanSquaredError(), epochs=1,
                optimizer=fb.SGD(0.0, weight_decay=0.01))
    assert net.parameters.tobytes() == before.tobytes()


def test_an_update_in_python_after_compiled_ones_counts_them():
    """A step that may make a weight infinite is the optimizer's own, which has to know which."""
    X = np.ones((4, 2))
    X[2] = 1e153
    found = []
    for new_steps in (training.run.new_steps, reference.new_steps):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training.run, "new_steps", new_steps)
            net = fb.Sequential([fb.Dense(2, 1)], "float64", seed=0)
            optimizer = fb.Adam(100.0, clip_norm=1.0)
            net.fit(X, np.zeros(4), loss=fb.MeanAbsoluteError(), optimizer=optimizer, epochs=2,
                    batch_size=1, shuffle=False)
            found.append((net.parameters.tobytes(), optimizer.steps))
    assert found[0] == found[1]
