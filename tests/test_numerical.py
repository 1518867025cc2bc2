"""Embeddings of numbers as layers: training, copies, files, frozen and trained frequencies, bad
input, and quantiles."""

import copy
import math

import numpy as np
import pytest

import fastbp as fb
from fastbp.kernels import dispatch, threads

from .cases import each

pytestmark = pytest.mark.once

RNG = np.random.default_rng(4)
X = RNG.normal(size=(300, 4))
Y = np.sin(4 * X[:, :1]) + abs(X[:, 1:2])
LOSS = fb.MeanSquaredError()
EDGES = [[-1, 0, 1], [0, 2], [-2, -1, -0.5, 3]]

EMBEDDINGS = {
    "trained": lambda: fb.PeriodicEmbedding(3, 8, 0.5),
    "frozen": lambda: fb.PeriodicEmbedding(3, 8, 0.5, trainable=False, random_phases=True),
    "piecewise": lambda: fb.PiecewiseLinearEmbedding(EDGES, 8),
}


def a_net(kind, dtype="float32", seed=0):
    """The embedding of three columns beside the fourth, and again after a dense layer."""
    net = fb.Sequential([
        fb.Columns([([0, 2, 1], EMBEDDINGS[kind]()), (3, [])]), fb.Dense(25, 3), fb.Tanh(),
        fb.Residual([EMBEDDINGS[kind](), fb.Dense(24, 3)]), fb.Dense(3, 1),
    ], dtype, seed)
    for _, layer in net.leaves:
        if kind != "piecewise" and isinstance(layer, fb.PeriodicEmbedding):
            layer.gamma = np.linspace(-1, 1, 24).reshape(3, 8)
    return net


def fit(net, **options):
    return net.fit(X, Y, **({"loss": LOSS, "optimizer": fb.AdamW(0.01), "epochs": 3,
                             "batch_size": 64, "seed": 1} | options))


@each("kind", EMBEDDINGS)
def test_gradients(kind):
    net = a_net(kind, "float64")
    check = fb.gradcheck(net, X[:6], Y[:6], loss=LOSS)
    assert check.error < 1e-6, check
    names = {name.rpartition(".")[2] for name in check.by_parameter}
    assert names == {"trained": {"W", "b", "X", "gamma", "beta", "frequencies", "phases"},
                     "frozen": {"W", "b", "X", "gamma", "beta"},
                     "piecewise": {"W", "b", "X"}}[kind]


@each("kind", EMBEDDINGS)
def test_every_tier_and_number_of_threads(kind, dtype):
    found, tier, work = set(), dispatch.isa(), threads.set_work_per_thread(0)
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for n_threads in (1, 2, 3, 4):
                net = a_net(kind, dtype)
                fit(net, n_threads=n_threads, batch_size=300, epochs=2)
                outputs = net.predict(X, n_threads=n_threads)
                rows = np.concatenate([net.predict(X[i : i + 7]) for i in range(0, 300, 7)])
                found.add((net.parameters.tobytes(), outputs.tobytes(), rows.tobytes()))
    finally:
        threads.set_work_per_thread(work)
        dispatch.use(tier)
    assert len(found) == 1
    assert outputs.tobytes() == rows.tobytes()


@each("kind", EMBEDDINGS)
def test_copies_and_files(kind, dtype, tmp_path):
    net = a_net(kind, dtype)
    fit(net)
    net.save(tmp_path / f"net {kind}")
    for other in (fb.load(tmp_path / f"net {kind}"), copy.deepcopy(net), net.astype(dtype)):
        assert repr(other) == repr(net)
        assert other.get_state().tobytes() == net.get_state().tobytes()
        assert other.predict(X).tobytes() == net.predict(X).tobytes()
        fit(other)
        again = copy.deepcopy(net)
        fit(again)
        assert other.get_state().tobytes() == again.get_state().tobytes()
    wide = net.astype("float64").astype(dtype)
    assert wide.predict(X).tobytes() == net.predict(X).tobytes()


@each("kind", EMBEDDINGS)
def test_checkpoints(kind, dtype, tmp_path):
    whole, begun = a_net(kind, dtype), a_net(kind, dtype)
    fit(whole, epochs=4)
    folder = tmp_path / kind
    fit(begun, epochs=2, checkpoint=folder)
    resumed = a_net(kind, dtype)
    fit(resumed, epochs=4, checkpoint=folder, resume=True)
    assert resumed.get_state().tobytes() == whole.get_state().tobytes()


class TestPeriodic:
    def test_frozen_and_trained(self, dtype):
        nets = {kind: fb.Sequential([EMBEDDINGS[kind](), fb.Dense(24, 1)], dtype, seed=0)
                for kind in ("trained", "frozen")}
        trained, frozen = (nets[kind].layers[0] for kind in ("trained", "frozen"))
        frozen.frequencies, frozen.phases = trained.frequencies, trained.phases
        before = frozen.frequencies.copy(), frozen.phases.copy()
        assert nets["frozen"].predict(X[:, :3]).tobytes() == nets["trained"].predict(
            X[:, :3]).tobytes()
        for net in nets.values():
            net.fit(X[:, :3], Y, loss=LOSS, optimizer=fb.Adam(0.01), epochs=1, seed=0,
                    shuffle=False)
        assert frozen.frequencies.tobytes() == before[0].tobytes()
        assert frozen.phases.tobytes() == before[1].tobytes()
        assert (trained.frequencies != before[0]).all()
        assert (trained.phases != before[1]).all()
        assert (frozen.gamma != 0).all()
        assert (frozen.beta != 0).all()
        assert "frequencies" not in frozen.parameter_shapes
        assert not hasattr(frozen, "dphases")

    def test_gradients_of_frozen_and_trained_are_the_same_bits(self, dtype):
        made = []
        for kind in ("trained", "frozen"):
            net = a_net(kind, dtype)
            first = net.leaves[0][1]
            first.frequencies = np.linspace(-2, 2, 21).reshape(3, 7)
            first.phases = np.linspace(0, 1, 21)
            single = fb.Sequential([copy.deepcopy(first)], dtype)
            single.forward(X[:, :3])
            dX = single.backward(np.cos(np.arange(300 * 24)).reshape(300, 24).astype(dtype))
            layer = single.layers[0]
            made.append((layer.dgamma.tobytes(), layer.dbeta.tobytes(), dX.tobytes()))
        assert made[0] == made[1]

    def test_initial_values(self):
        layer = fb.PeriodicEmbedding(50, 41, 0.25, random_phases=True)
        fb.Sequential([layer], "float64", seed=0)
        assert abs(layer.frequencies).max() <= 0.75
        assert abs(layer.frequencies).max() > 0.6
        assert abs(layer.frequencies.std() / 0.25 - 0.9866) < 0.05  # of the truncated normal
        assert layer.phases.min() >= 0
        assert layer.phases.max() < 1
        assert abs(layer.phases.mean() - 0.5) < 0.05
        assert not layer.gamma.any()
        assert not layer.beta.any()
        fb.Sequential([plain := fb.PeriodicEmbedding(2, 3)], seed=0)
        assert not plain.phases.any()

    def test_groups_and_penalty(self):
        """Weight decay and `l2` leave beta and the phases alone, gamma and frequencies not."""
        groups = [fb.Group(name, weight_decay=0) for name in ("beta", "phases")]
        for options in ({"l2": 0.3, "optimizer": fb.SGD(0.1)},
                        {"optimizer": fb.SGD(0.1, weight_decay=0.1, groups=groups)}):
            layer = fb.PeriodicEmbedding(2, 3)
            net = fb.Sequential([layer], "float64", seed=0)
            net.parameters[:] = 1
            Z = net.predict(X[:, :2])
            net.fit(X[:, :2], Z, loss=LOSS, epochs=1, batch_size=300, **options)
            assert (layer.beta == 1).all()
            assert (layer.phases == 1).all()
            assert (layer.gamma < 1).all()
            assert (layer.frequencies < 1).all()

    def test_what_is_fixed(self):
        layer = fb.PeriodicEmbedding(2, 3)
        for name in ("trainable", "n_features", "n_per_feature"):
            with pytest.raises(AttributeError):
                setattr(layer, name, 1)

    def test_program(self):
        net = a_net("frozen")
        text = str(net.program(batch_size=8, loss=LOSS, optimizer=fb.SGD(0.1)))
        assert "periodic_features(" in text
        assert "scale_shift_backward(" in text
        assert text.count("periodic_backward_input(") == 1  # not for the network's input
        assert "periodic_features" not in str(net.program())


class TestPiecewise:
    def test_is_any_function_that_is_linear_between_the_edges(self):
        edges = fb.quantile_edges(X[:, :1], 6)
        layer = fb.PiecewiseLinearEmbedding(edges, 1)
        net = fb.Sequential([layer], "float64", seed=0)
        values = np.array([3, -1, 2, 0, 0, 5, 1])
        layer.b, layer.W = values[:1], np.diff(values)[:, None]
        y = np.interp(X[:, 0], edges[0], values)
        np.testing.assert_allclose(net.predict(X[:, :1])[:, 0], y, atol=1e-12)
        # Beyond the edges the first and the last piece go on.
        low, high = edges[0][0], edges[0][-1]
        outside = net.predict([[2 * low - edges[0][1]], [2 * high - edges[0][-2]]])
        np.testing.assert_allclose(outside[:, 0], [3 + 4, 1 - 4], rtol=1e-12)

    def test_initial_values(self):
        layer = fb.PiecewiseLinearEmbedding([np.arange(101), np.arange(5), [3, 9]], 200)
        fb.Sequential([layer], "float64", seed=0)
        for rows, n in ((slice(0, 100), 100), (slice(100, 104), 4), (slice(104, 105), 1)):
            assert abs(layer.W[rows].std() / math.sqrt(2 / n) - 1) < 0.15
        assert not layer.b.any()
        assert layer.edges.tolist() == [*range(101), *range(5), 3, 9]

    def test_edges_are_saved_as_they_are(self, tmp_path):
        layer = fb.PiecewiseLinearEmbedding(EDGES, 2)
        assert layer.config()["edges"] == EDGES
        net = fb.Sequential([layer], seed=0)
        layer.edges[0] = -1.1
        net.save(tmp_path / "net")
        other = fb.load(tmp_path / "net")
        assert other.layers[0].edges.tobytes() == layer.edges.tobytes()
        assert other.layers[0].config() == layer.config()
        assert repr(layer) == ("PiecewiseLinearEmbedding(edges=<of 3 features, 6 bins>, "
                               "n_per_feature=2)")

    def test_edges_that_a_dtype_cannot_tell_apart(self):
        edges = [[0, 1], [1, 1 + 1e-12, 2]]
        net = fb.Sequential([fb.PiecewiseLinearEmbedding(edges, 2)], "float64", seed=0)
        for make in (lambda: fb.Sequential([fb.PiecewiseLinearEmbedding(edges, 2)], seed=0),
                     lambda: net.astype("float32")):
            with pytest.raises(ValueError, match=r"^edges\[1\]: expected .*differ .*float64"):
                make()

    @each("starts", [(0, 2, 3), (0, 2, 2, 6), (1, 2, 3, 6), (0, 2, 3, 5), (0, 3, 2, 6), None])
    def test_bins_outside_of_the_weights(self, starts):
        class Wrong(fb.PiecewiseLinearEmbedding):
            def lower(self, builder, x):
                W, b = builder.parameter(self, "W"), builder.parameter(self, "b")
                nodes = builder.op("piecewise_nodes", W, b, columns=starts)
                return builder.op("piecewise", x, builder.buffer(self, "edges"), W, b, nodes,
                                  columns=starts)[0]

        net = fb.Sequential([Wrong(EDGES, 2)], seed=0)
        with pytest.raises(ValueError, match=r"^piecewise_nodes: expected `columns`"):
            net.predict(X[:, :3])

    def test_nodes_of_another_layer(self):
        class Wrong(fb.PiecewiseLinearEmbedding):
            def lower(self, builder, x):
                W, b = builder.parameter(self, "W"), builder.parameter(self, "b")
                return builder.op("piecewise", x, builder.buffer(self, "edges"), W, b, W,
                                  columns=(0, 2, 3, 6))[0]

        net = fb.Sequential([Wrong(EDGES, 2)], seed=0)
        with pytest.raises(NotImplementedError, match=r"nodes are those of 0\.W and 0\.b"):
            net.fit(X[:, :3], X[:, [0] * 6], loss=LOSS, optimizer=fb.SGD(0.1), epochs=1)


class TestSizes:
    """Programs whose sizes do not fit would read or write past arrays."""

    @each("swap", [(1, 3), (2, 4)])
    def test_of_a_periodic_embedding(self, swap):
        class Wrong(fb.PeriodicEmbedding):
            def lower(self, builder, x):
                names = ["frequencies", "phases", "gamma", "beta"]
                i, j = swap
                names[i - 1], names[j - 1] = names[j - 1], names[i - 1]
                return builder.op("periodic", x, *(builder.parameter(self, name)
                                                   for name in names))

        net = fb.Sequential([Wrong(3, 4)], seed=0)
        with pytest.raises(ValueError, match=r"^periodic: expected sizes where"):
            net.predict(X[:, :3])


@each(("make", "error", "message"), [
    (lambda: fb.PeriodicEmbedding(0, 2), ValueError, "^n_features: .*got 0"),
    (lambda: fb.PeriodicEmbedding(2, 1), ValueError, "^n_per_feature: .*at least 2, got 1"),
    (lambda: fb.PeriodicEmbedding(2, 2.5), TypeError, "^n_per_feature: .*got 2.5"),
    (lambda: fb.PeriodicEmbedding(2, 2, 0), ValueError, "^scale: .*above 0, got 0"),
    (lambda: fb.PeriodicEmbedding(2, 2, math.nan), ValueError, "^scale: .*got nan"),
    (lambda: fb.PeriodicEmbedding(2, 2, trainable=1), TypeError, "^trainable: .*True or False"),
    (lambda: fb.PeriodicEmbedding(2, 2, random_phases="no"), TypeError, "^random_phases: .*'no'"),
    (lambda: fb.PiecewiseLinearEmbedding([], 2), ValueError, "^edges: .*at least one feature"),
    (lambda: fb.PiecewiseLinearEmbedding(3, 2), TypeError, "^edges: .*got 3"),
    (lambda: fb.PiecewiseLinearEmbedding("ab", 2), TypeError, "^edges: .*got 'ab'"),
    (lambda: fb.PiecewiseLinearEmbedding([0, 1, 2], 2), ValueError, r"^edges\[0\]: .*shape \(\)"),
    (lambda: fb.PiecewiseLinearEmbedding([[0, 1], [2]], 2), ValueError, r"^edges\[1\]: .*two"),
    (lambda: fb.PiecewiseLinearEmbedding([[0, 1, 1]], 2), ValueError, r"^edges\[0\]: .*np.unique"),
    (lambda: fb.PiecewiseLinearEmbedding([[0, math.inf]], 2), ValueError, r"^edges\[0\]"),
    (lambda: fb.PiecewiseLinearEmbedding([["a", "b"]], 2), TypeError, r"^edges\[0\]: "),
    (lambda: fb.PiecewiseLinearEmbedding([[0, 1]], 0), ValueError, "^n_per_feature: .*got 0"),
    (lambda: fb.quantile_edges(X, 0), ValueError, "^n_bins: .*got 0"),
    (lambda: fb.quantile_edges(X[:, 0], 3), ValueError, "^X: expected 2 dimensions.*None"),
    (lambda: fb.quantile_edges([[math.nan]], 3), ValueError, "^X: "),
    (lambda: fb.quantile_edges([["a"]], 3), TypeError, "^X: "),
])
def test_a_bad_argument_is_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


class TestQuantiles:
    def test_of_distinct_numbers(self):
        for n_bins in (1, 2, 7, 299, 1000):
            edges = fb.quantile_edges(X, n_bins)
            for column, got in zip(X.T, edges, strict=True):
                np.testing.assert_allclose(
                    got, np.quantile(column, np.linspace(0, 1, n_bins + 1)), rtol=1e-12)

    def test_repetitions_leave_fewer_bins(self):
        column = np.r_[np.zeros(80), np.arange(1, 21)][:, None]
        edges, = fb.quantile_edges(column, 10)
        assert edges[0] == 0
        assert edges.size == 4
        assert (np.diff(edges) > 0).all()

    @each("constant", [0, 5, -3e9, 1e-30])
    def test_constant_columns(self, constant, dtype):
        table = np.full((9, 2), constant, dtype)
        table[:, 1] = np.arange(9)
        edges = fb.quantile_edges(table, 4)
        assert edges[0].size == 2
        net = fb.Sequential([fb.PiecewiseLinearEmbedding(edges, 2)], dtype, seed=0)
        assert np.isfinite(net.predict(table)).all()
        assert (net.predict(table)[:, :2] == 0).all()  # on the left edge, which is b

    def test_distinct_in_the_dtype_of_X(self):
        close = (1 + np.arange(50) * 1e-9)[:, None]
        assert fb.quantile_edges(close, 10)[0].size == 11
        edges = fb.quantile_edges(close.astype("f4"), 10)
        assert edges[0].dtype == np.float32
        fb.Sequential([fb.PiecewiseLinearEmbedding(edges, 2)], "float32", seed=0)

    def test_one_row_and_whole_numbers(self):
        assert fb.quantile_edges([[3]], 4)[0].tolist() == [3, 6]
        assert fb.quantile_edges(np.arange(5)[:, None], 2)[0].tolist() == [0, 2, 4]
