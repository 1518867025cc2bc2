"""Muon: its formulas in NumPy, and that training has the bits of single steps in every way."""

import copy
import math

import numpy as np
import pytest

import fastbp as fb
from fastbp import kernels, training
from fastbp.kernels import dispatch, step_checks, threads
from fastbp.program import reference

from .cases import each

pytestmark = pytest.mark.once

SHAPES = [(1, 1), (1, 7), (7, 1), (3, 5), (17, 16), (33, 31), (48, 48), (40, 100), (100, 40),
          (300, 70), (70, 300)]
ROWS = 60


def orthogonal(G, steps=5):
    """By the formulas, of a matrix with a row for each output."""
    if len(G) > len(G.T):
        return orthogonal(G.T, steps).T
    X = G / (np.linalg.norm(G) + 1e-7)
    for _ in range(steps):
        A = X @ X.T
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X


def a_matrix(shape, dtype, seed=0, smallest=0.3):
    """With singular values between `smallest` and 1."""
    rng = np.random.default_rng(seed)
    U, _, Vt = np.linalg.svd(rng.normal(size=shape), full_matrices=False)
    return (U * rng.uniform(smallest, 1, min(shape)) @ Vt).astype(dtype)


@pytest.fixture
def threads_for_any_work():
    before = threads.set_work_per_thread(0)
    yield
    threads.set_work_per_thread(before)


class TestOrthogonalize:
    @each("shape", SHAPES)
    @each("steps", [1, 5, 8])
    def test_the_formulas(self, shape, steps, dtype):
        G = 100 * a_matrix(shape, dtype)
        X = kernels.orthogonalize(G, steps)
        assert X.dtype == dtype
        np.testing.assert_allclose(X, orthogonal(G.astype(float).T, steps).T, rtol=0,
                                   atol=200 * np.finfo(dtype).eps)

    @each("shape", SHAPES)
    def test_singular_values_are_near_1(self, shape, dtype):
        values = np.linalg.svd(kernels.orthogonalize(a_matrix(shape, dtype)), compute_uv=False)
        assert values.min() > 0.5
        assert values.max() < 1.3

    def test_the_nearest_orthogonal_matrix(self):
        U, _, Vt = np.linalg.svd(np.random.default_rng(0).normal(size=(20, 20)))
        X = kernels.orthogonalize(U @ np.diag(np.linspace(0.5, 1, 20)) @ Vt)
        assert abs(X - U @ Vt).max() < 0.25
        assert np.trace(X.T @ U @ Vt) > 0.7 * 20

    @pytest.mark.usefixtures("threads_for_any_work")
    @each("shape", SHAPES)
    def test_the_same_bits_in_every_tier_and_number_of_threads(self, shape, dtype):
        G, used, found = a_matrix(shape, dtype), dispatch.isa(), set()
        try:
            for isa in dispatch.available():
                dispatch.use(isa)
                for n_threads in (1, 2, 3, 4, 7):
                    with threads.using(n_threads):
                        found.add(kernels.orthogonalize(G).tobytes())
        finally:
            dispatch.use(used)
        assert len(found) == 1

    @each("value", [0.0, 1e-30, 1e30])
    def test_of_any_size(self, value, dtype):
        """Zeros stay zeros; what is tiny beside 1e-7 stays small; what is large is scaled."""
        G = np.full((4, 6), value, dtype)
        X = kernels.orthogonalize(G)
        expected = 0 if value < 1 else orthogonal(np.ones((6, 4))).T
        np.testing.assert_allclose(X, np.broadcast_to(expected, (4, 6)), rtol=1e-4, atol=1e-15)

    def test_rows_and_columns_of_zeros_stay(self, dtype):
        G = a_matrix((20, 30), dtype)
        G[3], G[:, 5] = 0, 0
        X = kernels.orthogonalize(G)
        assert not X[3].any()
        assert not X[:, 5].any()

    def test_inputs_of_other_layouts(self, dtype):
        G, out = a_matrix((12, 10), dtype), np.full((12, 10), np.nan, dtype)
        assert kernels.orthogonalize(np.asfortranarray(G), out=out) is out
        assert out.tobytes() == kernels.orthogonalize(G).tobytes()
        assert kernels.orthogonalize(np.empty((0, 3), dtype)).shape == (0, 3)

    @each(("arguments", "error", "message"), [
        (([1.0],), ValueError, r"G: expected 2 dimensions"),
        (([["a"]],), TypeError, r"G: expected a float32 or float64"),
        (([[1.0]], 0), ValueError, r"steps: expected a whole number of at least 1, got 0"),
        (([[1.0]], 1.5), TypeError, r"steps: expected a whole number, got 1.5"),
    ])
    def test_bad_input(self, arguments, error, message):
        with pytest.raises(error, match=f"^{message}"):
            kernels.orthogonalize(*arguments)


class TestMuonStep:
    @each("shape", [(8, 8), (5, 20), (20, 5), (1, 6)])
    @each("nesterov", [True, False])
    def test_several_steps(self, shape, nesterov, dtype):
        rng = np.random.default_rng(1)
        W, m = rng.normal(size=shape).astype(dtype), np.zeros(shape, dtype)
        expected, M = W.astype(float), np.zeros(shape)
        for i in range(5):
            G = a_matrix(shape, dtype, i)
            kernels.muon_step(W, G, m, learning_rate=0.1, momentum=0.9, nesterov=nesterov,
                              weight_decay=0.2)
            M = 0.9 * M + (1 - 0.9) * G
            U = 0.9 * M + (1 - 0.9) * G if nesterov else M
            factor = math.sqrt(max(1, shape[1] / shape[0]))
            expected = (1 - 0.1 * 0.2) * expected - 0.1 * factor * orthogonal(U.T).T
        np.testing.assert_allclose(m, M, rtol=0, atol=10 * np.finfo(dtype).eps)
        np.testing.assert_allclose(W, expected, rtol=0, atol=1e4 * np.finfo(dtype).eps)

    def test_zero_gradients_change_nothing(self, dtype):
        W, m = np.ones((3, 4), dtype), np.zeros((3, 4), dtype)
        kernels.muon_step(W, np.zeros_like(W), m, learning_rate=0.1)
        assert (W == 1).all()
        assert not m.any()

    @each(("change", "error", "message"), [
        ({"W": np.ones(4)}, ValueError, r"W: expected 2 dimensions, got 1"),
        ({"W": [[1.0]]}, TypeError, "W: expected a numpy.ndarray"),
        ({"G": np.ones((2, 3))}, ValueError, r"G: expected shape \(2, 2\) like W"),
        ({"m": np.ones((2, 2), "f4")}, TypeError, "m: expected dtype float64"),
        ({"m": np.ones((3, 2))}, ValueError, "m: expected shape"),
        ({"learning_rate": -1}, ValueError, "learning_rate: .*at least 0"),
        ({"momentum": 1}, ValueError, "momentum: .*below 1"),
        ({"nesterov": 1}, TypeError, "nesterov: expected True or False"),
        ({"steps": 0}, ValueError, "steps: .*at least 1"),
        ({"weight_decay": math.nan}, ValueError, "weight_decay: .*finite"),
    ])
    def test_bad_input(self, change, error, message):
        arguments = {"W": np.ones((2, 2)), "G": np.ones((2, 2)), "m": np.zeros((2, 2)),
                     "learning_rate": 0.1} | change
        with pytest.raises(error, match=f"^{message}"):
            kernels.muon_step(arguments.pop("W"), arguments.pop("G"), arguments.pop("m"),
                              **arguments)

    def test_arrays_that_overlap(self):
        W = np.ones((2, 2))
        for G, m in ((np.ones((2, 2)), W), (W, np.zeros((2, 2)))):
            with pytest.raises(ValueError, match="overlap"):
                kernels.muon_step(W, G, m, learning_rate=0.1)


# The optimizer


def network(dtype="float32"):
    return fb.Sequential([fb.Dense(20, 40), fb.LayerNorm(40), fb.ReLU(), fb.Dense(40, 24),
                          fb.Tanh(), fb.Dense(24, 24), fb.ReLU(), fb.Dense(24, 3)], dtype, seed=0)


def data(dtype="float32"):
    rng = np.random.default_rng(1)
    return rng.normal(size=(ROWS, 20)).astype(dtype), rng.integers(0, 3, ROWS)


def is_middle(layer, name):
    return name == "W" and layer.n_in == 40


OPTIMIZERS = {
    "default": fb.Muon,
    "plain momentum": lambda: fb.Muon(0.05, 0.8, nesterov=False, ns_steps=3),
    "decay": lambda: fb.Muon(weight_decay=0.1, adam_weight_decay=0.01, adam_beta2=0.95),
    "clipped": lambda: fb.Muon(clip_norm=0.05),
    "schedules": lambda: fb.Muon(fb.schedules.Cosine(0.05, 3, 1),
                                 adam_learning_rate=fb.schedules.Step(0.01, 1)),
    "groups": lambda: fb.Muon(weight_decay=0.1, groups=[
        fb.Group("b", weight_decay=0), fb.Group(fb.LayerNorm, learning_rate=0.1),
        fb.Group(is_middle, learning_rate=0.003)]),
    "all matrices": lambda: fb.Muon(matrices="W"),
}


def trained(make, dtype="float32", net=None, **options):
    net, optimizer = net or network(dtype), make()
    X, y = data(dtype)
    options = {"epochs": 3, "batch_size": 16, "seed": 0, "loss": fb.SoftmaxCrossEntropy()} | options
    history = net.fit(X, y, optimizer=optimizer, **options)
    return (net.parameters.tobytes(), net.gradients.tobytes(), history["loss"], optimizer.steps,
            {name: array.tobytes() for name, array in optimizer.state.items()})


@each("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@each("batch_size", [4, 16])
def test_training_has_the_bits_of_single_steps(make, batch_size, dtype, monkeypatch):
    options = {"batch_size": batch_size, "l2": 0.01}
    compiled = trained(make, dtype.name, **options)
    net, optimizer, loss = network(dtype), make(), fb.SoftmaxCrossEntropy()
    optimizer.assign(net)
    X, y = data(dtype)
    monkeypatch.setattr(training.run, "new_steps", reference.new_steps)
    assert trained(make, dtype.name, **options) == compiled
    n = -(-ROWS // batch_size)
    expected = trained(make, dtype.name, batch_size=batch_size, shuffle=False)
    for epoch, i in np.ndindex(3, n):
        rows = slice(i * batch_size, (i + 1) * batch_size)
        _, dZ = loss(net.forward(X[rows]), y[rows])
        net.backward(dZ)
        optimizer.step(net.parameters, net.gradients, epoch + i / n)
    assert net.parameters.tobytes() == expected[0]
    assert optimizer.state["m"].tobytes() == expected[4]["m"]


@pytest.mark.usefixtures("threads_for_any_work")
@each("isa", dispatch.available())
@each("n_threads", [1, 2, 3, 4])
def test_the_same_bits_in_every_tier_and_number_of_threads(isa, n_threads, dtype):
    expected = trained(OPTIMIZERS["groups"], dtype.name, n_threads=1)
    used = dispatch.isa()
    try:
        dispatch.use(isa)
        assert trained(OPTIMIZERS["groups"], dtype.name, n_threads=n_threads) == expected
    finally:
        dispatch.use(used)


def test_matrices_get_muon_and_the_rest_adamw():
    net = network("float64")
    before, muon, adamw = net.parameters.copy(), fb.Muon(0.1), fb.AdamW(0.001, weight_decay=0)
    g = np.random.default_rng(0).normal(size=before.size)
    muon.assign(net)
    muon.step(net.parameters, g)
    after = net.parameters.copy()
    net.parameters[...] = before
    adamw.step(net.parameters, g)
    start = 0
    for _, layer in net.leaves:
        for name, shape in layer.parameter_shapes.items():
            part = slice(start, start + math.prod(shape))
            if name == "W" and layer is not net.layers[-1]:
                U = (0.95 * 0.05 + 0.05) * g[part].reshape(shape)
                X = orthogonal(U.T).T
                moved = 0.1 * math.sqrt(max(1, shape[1] / shape[0])) * X.ravel()
                np.testing.assert_allclose(before[part] - after[part], moved, atol=1e-12)
            else:
                np.testing.assert_array_equal(after[part], net.parameters[part])
            start = part.stop


@each(("matrices", "shapes"), [
    (None, [(20, 40), (40, 24), (24, 24)]),
    ("W", [(20, 40), (40, 24), (24, 24), (24, 3)]),
    (fb.Dense, [(20, 40), (40, 24), (24, 24), (24, 3)]),
    (lambda layer, name: getattr(layer, "n_out", 0) == 24, [(40, 24), (24, 24)]),
])
def test_which_parameters_are_matrices(matrices, shapes):
    net, optimizer = network(), fb.Muon(matrices=matrices)
    optimizer.assign(net)
    parts = optimizer.group_parts(net.parameters.size)
    assert [part.shape for part in parts if part.shape] == shapes
    assert sum(part.size for part in parts) == net.parameters.size


def test_embeddings_may_be_matrices_too():
    net = fb.Sequential([fb.Columns([([0], fb.Embedding(5, 4)), ([1, 2], fb.Dense(2, 3))], n_in=3),
                         fb.Dense(7, 8), fb.ReLU(), fb.Dense(8, 1)], seed=0)
    X = np.column_stack([np.arange(40) % 5, np.random.default_rng(0).normal(size=(40, 2))])
    for matrices, n in ((None, 2), ("W", 3), (fb.Embedding, 1)):
        optimizer = fb.Muon(matrices=matrices)
        net.fit(X, X[:, 1], loss=fb.MeanSquaredError(), optimizer=optimizer, epochs=2)
        assert sum(part.shape is not None
                   for part in optimizer.group_parts(net.parameters.size)) == n


def test_one_dense_layer_is_adamws():
    one, other = (fb.Sequential([fb.Dense(20, 3)], seed=0) for _ in range(2))
    assert trained(fb.Muon, net=one)[:4] == trained(lambda: fb.AdamW(weight_decay=0),
                                                    net=other)[:4]


def test_settings_reach_their_parts():
    net = network()
    optimizer = fb.Muon(lambda epoch: 0.1 + epoch, weight_decay=0.1, adam_weight_decay=0.2,
                        adam_learning_rate=0.5, groups=[fb.Group("b", weight_decay=0.0),
                                                        fb.Group(fb.LayerNorm, 0.25)])
    optimizer.assign(net)
    n = net.parameters.size
    parts, rates = optimizer.group_parts(n), optimizer.group_rates(1.0, n)
    decays = optimizer.group_attributes(n)[:, 0]
    for part, rate, decay in zip(parts, rates, decays, strict=True):
        group = part.group
        if part.shape:
            assert (rate, decay) == (1.1, 0.1)
        elif group is None:
            assert (rate, decay) == (0.5, 0.2)
        else:
            assert (rate, decay) == ((0.25, 0.2) if group is optimizer.groups[1] else (0.5, 0.0))
    assert optimizer.largest_decay == 0.2
    assert not optimizer.rates_follow_from_time
    assert fb.Muon(adam_learning_rate=fb.schedules.Step(0.1, 1)).rates_follow_from_time
    history = net.fit(*data(), loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=2,
                      batch_size=ROWS)
    assert history["learning_rate"] == [0.1, 1.1]


def test_the_history_has_the_matrices_learning_rate():
    net = network()
    history = net.fit(*data(), loss=fb.SoftmaxCrossEntropy(), epochs=2,
                      optimizer=fb.Muon(0.03, matrices=lambda layer, name: layer.n_in == 24))
    assert history["learning_rate"] == [0.03, 0.03]


def test_matrices_that_change_are_assigned_again():
    net, optimizer = network(), fb.Muon()
    optimizer.assign(net)
    optimizer.matrices = "W"
    with pytest.raises(RuntimeError, match=r"^Muon: which .*call optimizer.assign\(network\)"):
        optimizer.step(net.parameters, net.gradients)
    optimizer.assign(net)
    optimizer.step(net.parameters, net.gradients)


@each("options", [{"ema": 0.9}, {}, {"gradient_norms": True}])
@each("make", [OPTIMIZERS["schedules"], OPTIMIZERS["groups"]])
def test_a_training_is_resumed(options, make, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints")
    whole = trained(make, epochs=5, **options)
    trained(make, epochs=2, checkpoint=folder, **options)
    assert trained(make, epochs=5, checkpoint=folder, resume=True, **options) == whole


def test_settings_that_a_callback_changes_are_resumed(tmp_path):
    def change(run):
        if run.epoch == 1:
            run.optimizer.adam_learning_rate = 0.1
            run.optimizer.ns_steps = 3

    whole = trained(fb.Muon, epochs=5, callbacks=[change])
    trained(fb.Muon, epochs=3, callbacks=[change], checkpoint=tmp_path)
    assert trained(fb.Muon, epochs=5, callbacks=[change], checkpoint=tmp_path,
                   resume=True) == whole


def test_ema_is_of_all_parameters():
    net, optimizer = network("float64"), fb.Muon()
    net.fit(*data("float64"), loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=1,
            batch_size=ROWS, ema=0.75)
    start, end = network("float64"), network("float64")
    end.fit(*data("float64"), loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Muon(), epochs=1,
            batch_size=ROWS)
    np.testing.assert_allclose(net.parameters,
                               0.75 * start.parameters + 0.25 * end.parameters, atol=1e-15)


def test_a_copy_has_the_settings_and_no_state():
    optimizer = OPTIMIZERS["decay"]()
    trained(lambda: optimizer)
    clone = copy.deepcopy(optimizer)
    assert repr(clone) == repr(optimizer)
    assert (clone.state, clone.steps) == ({}, 0)


def test_it_learns():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 10))
    net = fb.mlp([10, 64, 64, 1], seed=0)
    history = net.fit(X, np.sin(X[:, 0] * X[:, 1]), loss=fb.MeanSquaredError(), seed=0, epochs=60,
                      optimizer=fb.Muon(0.01, adam_learning_rate=0.01))
    assert history["loss"][-1] < 0.02


def test_the_program_shows_the_matrices():
    text = network().program(batch_size=4, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Muon())
    assert text.count("made orthogonal") == 3
    assert "a panel at a time" not in text


# A training that diverges


@pytest.mark.usefixtures("threads_for_any_work")
@each("where", ["input", "target", "square"])
@each("step", [0, 1, 17, 39])
@each("n_threads", [1, 3])
@each("clip_norm", [None, 1.0])
def test_an_overflow_leaves_the_last_finite_weights(dtype, where, step, n_threads, clip_norm):
    largest = np.finfo(dtype).max
    X, y = np.full((40, 4), 0.5, dtype), np.zeros((40, 2), dtype)
    if where == "target":
        y[step, 1] = largest / 8
    else:
        X[step, 1] = largest / 8 if where == "input" else largest**0.7
    finite = []

    class Watch(fb.Callback):
        def on_epoch_end(self, run):
            finite.append(np.isfinite(run.network.parameters).all())

    net, optimizer = fb.mlp([4, 30, 20, 2], dtype=dtype, seed=0), fb.Muon(clip_norm=clip_norm)
    try:
        net.fit(X, y, loss=fb.MeanSquaredError(), optimizer=optimizer, epochs=2, batch_size=1,
                shuffle=False, n_threads=n_threads, callbacks=[Watch()])
        assert all(finite)
    except FloatingPointError as error:
        assert step <= optimizer.steps <= step + 1
        assert f"step {optimizer.steps + 1} " in str(error)
    assert np.isfinite(net.parameters).all()
    assert all(np.isfinite(array).all() for array in optimizer.state.values())


@each("settings", [{"learning_rate": 1e38}, {"adam_learning_rate": 1e38},
                   {"learning_rate": 1.0, "weight_decay": 1e38}, {"weight_decay": 1e3}])
def test_a_step_that_is_too_large_is_undone(settings):
    net = network()
    optimizer = fb.Muon(**settings)
    with pytest.raises(FloatingPointError, match="training diverged"):
        net.fit(*data(), loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=50)
    assert np.isfinite(net.parameters).all()
    assert all(np.isfinite(array).all() for array in optimizer.state.values())


# Bad input


@each(("settings", "error", "message"), [
    ({"learning_rate": -1}, ValueError, "learning_rate: .*at least 0, got -1"),
    ({"momentum": 1.0}, ValueError, "momentum: .*below 1"),
    ({"nesterov": 1}, TypeError, "nesterov: expected True or False"),
    ({"ns_steps": 0}, ValueError, "ns_steps: .*at least 1, got 0"),
    ({"ns_steps": 2.0}, TypeError, "ns_steps: expected a whole number"),
    ({"matrices": 3}, TypeError, "matrices: expected a name, a class of layers or a function"),
    ({"adam_learning_rate": "a"}, TypeError, "adam_learning_rate: expected a number"),
    ({"adam_learning_rate": -1}, ValueError, "adam_learning_rate: .*at least 0"),
    ({"adam_beta1": 1}, ValueError, "adam_beta1: .*below 1"),
    ({"adam_beta2": -1}, ValueError, "adam_beta2: .*at least 0"),
    ({"adam_epsilon": 0}, ValueError, "adam_epsilon: .*above 0"),
    ({"adam_weight_decay": -1}, ValueError, "adam_weight_decay: .*at least 0"),
])
def test_a_bad_setting_is_named(settings, error, message):
    with pytest.raises(error, match=f"^{message}"):
        fb.Muon(**settings)
    optimizer = fb.Muon()
    ((name, value),) = settings.items()
    with pytest.raises(error, match=f"^{message}"):
        setattr(optimizer, name, value)


def test_a_selection_of_nothing():
    with pytest.raises(ValueError, match=r"^matrices: expected to select .*'b', which"):
        trained(lambda: fb.Muon(matrices="b"))


def test_a_bad_schedule_of_adams_is_named():
    with pytest.raises(ValueError, match=r"^adam_learning_rate at epoch 0: .*at least 0, got -1"):
        trained(lambda: fb.Muon(adam_learning_rate=lambda epoch: -1))


def test_a_step_before_it_is_known_which_are_matrices():
    p = np.ones(3)
    with pytest.raises(RuntimeError, match=r"^Muon: which parameters are matrices is not known; "):
        fb.Muon().step(p, np.ones(3))
    assert (p == 1).all()


def test_shapes_that_are_not_those_of_the_groups():
    with pytest.raises(ValueError, match=r"^shapes: expected those of the groups"):
        step_checks.check_shapes([(0, 6)], [(2, 4)], "muon")
    with pytest.raises(ValueError, match=r"^shapes: expected a shape or None for each of 1 groups"):
        step_checks.check_shapes([(0, 6)], [], "muon")
    with pytest.raises(ValueError, match=r"^shapes: expected None for each group with adam"):
        step_checks.check_shapes([(0, 6)], [(2, 3)], "adam")
