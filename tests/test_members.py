"""Ensembles in one network: against separate networks, gradients, tiers and threads, copies, files,
fusions, the members' loss, and bad input."""

import copy

import numpy as np
import pytest
import scipy.sparse

import fastbp as fb
from fastbp import kernels
from fastbp.kernels import dispatch, step_checks, threads
from fastbp.losses import Scaled
from fastbp.program import reference

from .cases import each

pytestmark = pytest.mark.once

RNG = np.random.default_rng(7)
X = RNG.normal(size=(300, 5))
LABELS = RNG.integers(0, 3, 300)
Y = RNG.normal(size=(300, 2))
WEIGHTS = RNG.random(300) * (RNG.random(300) < 0.9)
K = 6

# Each loss of one member, its targets, and how many outputs it takes.
TASKS = {
    "classes": (lambda: fb.SoftmaxCrossEntropy(0.1), LABELS, 3),
    "capped": (lambda: fb.SoftmaxCrossEntropy(cap=1.5), LABELS, 3),
    "shares": (fb.SoftmaxCrossEntropy, RNG.dirichlet(np.ones(3), 300), 3),
    "binary": (fb.SigmoidCrossEntropy, (Y[:, :1] > 0).astype(float), 1),
    "numbers": (fb.MeanSquaredError, Y, 2),
    "scaled": (lambda: Scaled(fb.Huber(0.5), 3.0, 0.5), Y, 2),
}
NO_DERIVATIVES = "capped", "scaled"


def a_net(factors="ones", n=3, dtype="float32", dropout=0.0, k=K):
    return fb.Sequential([
        fb.Dense(5, 7), fb.Repeat(7, k), fb.EnsembleDense(7, 20, k, factors and "normal"),
        fb.ReLU(), *([fb.Dropout(dropout)] if dropout else []),
        fb.EnsembleDense(20, 17, k, factors), fb.ReLU(), fb.SeparateDense(17, n, k),
    ], dtype, seed=3)


def fit(net, task="classes", **options):
    make, y, _ = TASKS[task]
    k = net.layers[-1].n_members
    return net.fit(X, y, **({
        "loss": fb.EnsembleLoss(make(), k), "optimizer": fb.AdamW(0.01), "epochs": 2,
        "batch_size": 64, "seed": 1} | options))


FACTORS = {"own factors": "ones", "shared": None}


class TestAgainstSeparateNetworks:
    """Member i of an ensemble is a network of its own, whose formulas NumPy has."""

    def member(self, net, i, X):
        """The outputs of member i, and its hidden values."""
        (_, first), *_ = net.leaves
        H, hidden = X @ first.W + first.b, []
        for layer in net.layers:
            if isinstance(layer, fb.EnsembleDense):
                n, p = layer.n_inputs, layer.n_outputs
                r, s = np.ones(n), np.ones(p)
                b = layer.b
                if layer.factors is not None:
                    r, s = layer.r[i * n : (i + 1) * n], layer.s[i * p : (i + 1) * p]
                    b = layer.b[i * p : (i + 1) * p]
                H = np.maximum((H * r) @ layer.W * s + b, 0)
                hidden.append(H)
        last = net.layers[-1]
        return H @ last.W[i] + last.b[i * last.n_outputs : (i + 1) * last.n_outputs], hidden

    @each("factors", FACTORS)
    def test_outputs(self, factors):
        net = a_net(FACTORS[factors], dtype="float64")
        fit(net)
        Z = net.predict(X)
        for i in range(K):
            np.testing.assert_allclose(Z[:, 3 * i : 3 * i + 3], self.member(net, i, X)[0],
                                       rtol=1e-10, atol=1e-12)

    @each("task", TASKS)
    def test_loss_is_the_mean_of_the_members(self, task, dtype):
        make, y, n = TASKS[task]
        loss = fb.EnsembleLoss(make(), K)
        Z = RNG.normal(size=(300, n * K)).astype(dtype)
        y = y if y.ndim == 1 else y.astype(dtype)
        for weights in (None, WEIGHTS.astype(dtype)):
            value, dZ = loss(Z, y, weights)
            members = [make()(np.ascontiguousarray(Z[:, i * n : (i + 1) * n]), y, weights)
                       for i in range(K)]
            close = {"rtol": 1e-5 if dtype == np.float32 else 1e-12, "atol": 1e-9}
            np.testing.assert_allclose(value, np.mean([each for each, _ in members]), **close)
            np.testing.assert_allclose(dZ, np.hstack([each for _, each in members]) / K, **close)

    def test_one_member_is_a_dense_network(self, dtype):
        """With one member, and without factors, all bits are those of `Dense`."""
        ensemble = a_net(None, dtype=dtype, k=1)
        plain = fb.Sequential([fb.Dense(5, 7), fb.Dense(7, 20), fb.ReLU(), fb.Dense(20, 17),
                               fb.ReLU(), fb.Dense(17, 3)], dtype, seed=0)
        plain.parameters[:] = ensemble.parameters
        fit(ensemble)
        plain.fit(X, LABELS, loss=TASKS["classes"][0](), optimizer=fb.AdamW(0.01), epochs=2,
                  batch_size=64, seed=1)
        assert ensemble.parameters.tobytes() == plain.parameters.tobytes()
        assert ensemble.predict(X).tobytes() == plain.predict(X).tobytes()

    def test_a_shared_product_is_one_of_all_rows(self, dtype):
        """Rows of the gradient of W are those of the members, in blocks of 256."""
        rng = np.random.default_rng(0)
        net = fb.Sequential([fb.EnsembleDense(4, 5, 3, None)], dtype, seed=0)
        layer, = net.layers
        x, dz = (rng.normal(size=(300, n)).astype(dtype) for n in (12, 15))
        z, dx = net.forward(x), None
        dx = net.backward(dz)
        rows, drows = x.reshape(900, 4), dz.reshape(900, 5)
        assert z.tobytes() == kernels.dense_forward(rows, layer.W, layer.b).tobytes()
        assert dx.tobytes() == kernels.dense_backward_input(drows, layer.W).tobytes()
        assert layer.dW.tobytes() == kernels.dense_backward_weights(rows, drows).tobytes()
        assert layer.db.tobytes() == kernels.dense_backward_bias(drows).tobytes()

    def test_separate_layers_are_dense_layers(self, dtype):
        rng = np.random.default_rng(0)
        net = fb.Sequential([fb.SeparateDense(9, 3, 4)], dtype, seed=0)
        layer, = net.layers
        layer.b = rng.normal(size=12)
        x, dz = (rng.normal(size=(300, n)).astype(dtype) for n in (36, 12))
        z = net.forward(x)
        dx = net.backward(dz)
        for i in range(4):
            a, d = x[:, 9 * i : 9 * i + 9].copy(), dz[:, 3 * i : 3 * i + 3].copy()
            W, b = layer.W[i], layer.b[3 * i : 3 * i + 3]
            assert z[:, 3 * i : 3 * i + 3].tobytes() == kernels.dense_forward(a, W, b).tobytes()
            assert layer.dW[i].tobytes() == kernels.dense_backward_weights(a, d).tobytes()
            assert dx[:, 9 * i : 9 * i + 9].tobytes() == kernels.dense_backward_input(
                d, W).tobytes()


@each("factors", FACTORS)
@each("task", TASKS)
def test_gradients(factors, task):
    make, y, n = TASKS[task]
    if task in NO_DERIVATIVES:
        return
    net = a_net(FACTORS[factors], n, "float64")
    for _, layer in net.leaves:
        if hasattr(layer, "s"):
            layer.s = RNG.normal(size=layer.s.shape)
    check = fb.gradcheck(net, X[:6], y[:6], loss=fb.EnsembleLoss(make(), K))
    assert check.error < 1e-6, check
    names = {name.rpartition(".")[2] for name in check.by_parameter}
    assert names == ({"W", "b", "X", "r", "s"} if FACTORS[factors] else {"W", "b", "X"})


def test_gradients_of_the_mean_and_of_factors():
    net = fb.Sequential([fb.Repeat(5, 3), fb.Scale(15, "normal"), fb.SeparateDense(5, 4, 3),
                         fb.Tanh(), fb.MeanOfMembers(4, 3), fb.Dense(4, 2)], "float64", seed=0)
    check = fb.gradcheck(net, X[:6], Y[:6], loss=fb.MeanSquaredError())
    assert check.error < 1e-6, check
    assert "1 Scale.gamma" in check.by_parameter


@each("factors", FACTORS)
@each("task", TASKS)
def test_every_tier_and_number_of_threads(factors, task, dtype, monkeypatch):
    n, found = TASKS[task][2], set()
    options = {"batch_size": 100, "sample_weight": WEIGHTS, "l2": 0.1}

    def run(**more):
        net = a_net(FACTORS[factors], n, dtype, 0.2)
        history = fit(net, task, **options, **more)
        outputs = net.predict(X, n_threads=more.get("n_threads"))
        rows = np.concatenate([net.predict(X[i : i + 7]) for i in range(0, 300, 7)])
        assert outputs.tobytes() == rows.tobytes()
        found.add((net.parameters.tobytes(), tuple(history["loss"]), outputs.tobytes()))

    tier, work = dispatch.isa(), threads.set_work_per_thread(0)
    try:
        for isa in dispatch.available():
            dispatch.use(isa)
            for n_threads in (1, 2, 3):
                run(n_threads=n_threads)
    finally:
        threads.set_work_per_thread(work)
        dispatch.use(tier)
    monkeypatch.setattr("fastbp.training.run.new_steps", reference.new_steps)
    run()
    assert len(found) == 1


@each("factors", FACTORS)
def test_copies_and_files(factors, dtype, tmp_path):
    net = a_net(FACTORS[factors], dtype=dtype)
    fit(net)
    net.layers = [*net.layers, fb.MeanOfMembers(3, K)]
    net.save(tmp_path / factors)
    for other in (fb.load(tmp_path / factors), copy.deepcopy(net), net.astype(dtype)):
        assert repr(other) == repr(net)
        assert other.get_state().tobytes() == net.get_state().tobytes()
        assert other.predict(X).tobytes() == net.predict(X).tobytes()


def test_checkpoints(dtype, tmp_path):
    whole, begun, resumed = (a_net(dtype=dtype, dropout=0.2) for _ in range(3))
    fit(whole, epochs=4)
    fit(begun, epochs=2, checkpoint=tmp_path)
    fit(resumed, epochs=4, checkpoint=tmp_path, resume=True)
    assert resumed.get_state().tobytes() == whole.get_state().tobytes()


def test_the_mean_is_the_prediction_of_the_ensemble(dtype):
    net = a_net(dtype=dtype)
    Z = net.predict(X)
    net.layers = [*net.layers, fb.MeanOfMembers(3, K)]
    close = 1e-6 if dtype == np.float32 else 1e-14
    np.testing.assert_allclose(net.predict(X), Z.reshape(300, K, 3).mean(axis=1), atol=close)
    P = net.predict(X, activation="softmax")
    np.testing.assert_allclose(P.sum(axis=1), 1, atol=1e-6)


def test_what_is_fused():
    loss = fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), K)
    net = a_net(None)
    text = str(net.program(batch_size=256, loss=loss, optimizer=fb.AdamW()))
    assert text.count("relu(shared_dense(") == 2
    assert text.count("relu_backward(shared_backward_input(") == 1  # the other is of another layer
    assert "in Python" not in text
    history = fit(net, epochs=1)
    assert "accuracy" not in history


def test_other_optimizers():
    """Muon takes the shared weights as matrices, and not those of separate layers."""
    for make in (lambda: fb.Muon(0.01), lambda: fb.SGD(0.1, momentum=0.9), lambda: fb.Lion(1e-3)):
        nets = [a_net() for _ in range(2)]
        for net, n_threads in zip(nets, (1, 2), strict=True):
            history = fit(net, optimizer=make(), n_threads=n_threads, epochs=8)
        assert history["loss"][-1] < history["loss"][0]
        assert nets[0].get_state().tobytes() == nets[1].get_state().tobytes()


def test_the_penalty_is_on_all_weights():
    net = fb.Sequential([fb.SeparateDense(5, 1, 1)], "float64", seed=0)
    net.fit(X, 0 * Y[:, :1], loss=fb.EnsembleLoss(fb.MeanSquaredError(), 1), epochs=200,
            batch_size=300, optimizer=fb.SGD(0.1), l2=1000.0)
    assert abs(net.layers[0].W).max() < 1e-3


class TestInitialValues:
    def test_factors(self):
        layers = {kind: fb.EnsembleDense(300, 2, 40, kind)
                  for kind in ("ones", "normal", "random_signs")}
        for layer in layers.values():
            fb.Sequential([layer], "float64", seed=0)
            assert (layer.s == 1).all()
            assert (layer.b == 0).all()
            assert abs(layer.W).max() <= np.sqrt(6 / 300)
        assert (layers["ones"].r == 1).all()
        assert set(layers["random_signs"].r) == {-1, 1}
        assert abs(layers["random_signs"].r.mean()) < 0.04
        normal = layers["normal"].r
        assert abs(normal.mean()) < 0.04
        assert abs(normal.std() - 1) < 0.04
        assert len(set(normal)) == 12000

    def test_separate_weights_differ(self):
        layer = fb.SeparateDense(9, 4, 3, "glorot_normal")
        fb.Sequential([layer], seed=0)
        assert len(set(layer.W.ravel().tolist())) == 9 * 4 * 3

    def test_a_callable(self, tmp_path):
        net = fb.Sequential([fb.EnsembleDense(2, 3, 2, init=lambda rng, n_in, n_out: np.full(
            (n_in, n_out), 0.5)), fb.SeparateDense(3, 1, 2, lambda rng, n_in, n_out: [[1]] * 3)])
        assert (net.layers[0].W == 0.5).all()
        assert (net.layers[1].W == 1).all()
        net.save(tmp_path / "net")
        other = fb.load(tmp_path / "net")
        assert other.layers[0].init == "he_uniform"
        assert other.get_state().tobytes() == net.get_state().tobytes()


def test_sizes():
    layer = fb.EnsembleDense(4, 3, 5)
    assert (layer.n_in, layer.n_out, layer.n_inputs, layer.n_outputs) == (20, 15, 4, 3)
    layer = fb.SeparateDense(4, 3, 5)
    assert (layer.n_in, layer.n_out, layer.n_inputs, layer.n_outputs) == (20, 15, 4, 3)
    assert fb.Repeat(4, 5).n == fb.MeanOfMembers(4, 5).n == 4
    assert fb.Repeat(4, 5).n_out == fb.MeanOfMembers(4, 5).n_in == 20
    assert fb.EnsembleDense(4, 3, 5, None).n_parameters == 15
    assert fb.EnsembleDense(4, 3, 5).n_parameters == 12 + 20 + 15 + 15


@pytest.mark.parametrize(("make", "error", "message"), [
    (lambda: fb.Repeat(0, 2), ValueError, r"^n: "),
    (lambda: fb.Repeat(2, 1.5), (TypeError, ValueError), r"^n_members: "),
    (lambda: fb.MeanOfMembers(2, 0), ValueError, r"^n_members: "),
    (lambda: fb.Scale(2, "twos"), ValueError, r"^init: expected one of ones, normal, .*twos"),
    (lambda: fb.EnsembleDense(2, 3, 4, 1.0), ValueError, r"^factors: .*got 1\.0"),
    (lambda: fb.EnsembleDense(0, 3, 4), ValueError, r"^n_inputs: "),
    (lambda: fb.EnsembleDense(2, 3, 4, init="none"), ValueError, r"^init: "),
    (lambda: fb.SeparateDense(2, "3", 4), TypeError, r"^n_outputs: "),
    (lambda: fb.EnsembleLoss(fb.Huber, 2), TypeError, r"^loss: .*Huber\(\)"),
    (lambda: fb.EnsembleLoss(fb.Huber(), 0), ValueError, r"^n_members: "),
])
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(("layer", "name"), [
    (fb.Repeat(2, 3), "n_members"), (fb.MeanOfMembers(2, 3), "n"),
    (fb.EnsembleDense(2, 3, 4), "factors"), (fb.EnsembleDense(2, 3, 4), "n_inputs"),
    (fb.SeparateDense(2, 3, 4), "n_outputs"), (fb.EnsembleLoss(fb.Huber(), 2), "n_members"),
    (fb.EnsembleLoss(fb.Huber(), 2), "loss"),
])
def test_what_cannot_be_changed(layer, name):
    with pytest.raises(AttributeError, match=f"{name} is read-only"):
        setattr(layer, name, 2)


class TestLoss:
    def test_outputs_that_do_not_divide(self):
        net = a_net()
        with pytest.raises(ValueError, match=r"^loss: .*each of 5 members.*18 outputs"):
            net.fit(X, LABELS, loss=fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), 5), epochs=1)

    def test_labels_out_of_range(self):
        with pytest.raises(ValueError, match=r"^y: expected labels.* 0 to 2"):
            a_net().fit(X, LABELS + 1, loss=fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), K), epochs=1)

    def test_evaluation(self):
        net, loss = a_net(), fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), K)
        scores = net.evaluate(X, LABELS, loss=loss)
        assert list(scores) == ["loss"]
        np.testing.assert_allclose(scores["loss"], loss(net.predict(X), LABELS)[0], rtol=1e-6)

    @pytest.mark.parametrize("loss", [
        Scaled(fb.EnsembleLoss(fb.MeanSquaredError(), 3), 2.0, 2.0),
        fb.EnsembleLoss(fb.EnsembleLoss(fb.MeanSquaredError(), 1), 3),
    ])
    def test_in_python(self, loss, dtype):
        """Losses of losses run in Python, with the same results."""
        assert loss.operation is None
        nets = [fb.Sequential([fb.SeparateDense(5, 2, 1), fb.Repeat(2, 3)], dtype, seed=0)
                for _ in range(2)]
        nets[0].fit(X, Y, loss=loss, epochs=2, optimizer=fb.SGD(0.1), seed=0)
        factor = 2 if isinstance(loss, Scaled) else 1
        nets[1].fit(X, Y, loss=fb.EnsembleLoss(fb.MeanSquaredError(), 3), epochs=2,
                    optimizer=fb.SGD(0.1 * factor), seed=0)
        np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-5, atol=1e-6)

    def test_of_a_users_own(self):
        class Own(fb.Loss):
            def __call__(self, Z, y, sample_weight=None):
                assert Z.shape == y.shape
                return float(np.mean((Z - y) ** 2)), 2 * (Z - y) / Z.size

        nets = [a_net(n=2) for _ in range(2)]
        for net, loss in zip(nets, (Own(), fb.MeanSquaredError()), strict=True):
            net.fit(X, Y, loss=fb.EnsembleLoss(loss, K), epochs=2, seed=0)
        np.testing.assert_allclose(nets[0].parameters, nets[1].parameters, rtol=1e-3, atol=1e-4)

    def test_sparse_rows_and_copies(self):
        nets = [a_net() for _ in range(2)]
        loss = copy.deepcopy(fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), K))
        S = np.where(abs(X) > 1, X, 0)
        for net, rows in zip(nets, (S, scipy.sparse.csr_array(S)), strict=True):
            net.fit(rows, LABELS, loss=loss, epochs=2, seed=0)
        assert nets[0].get_state().tobytes() == nets[1].get_state().tobytes()


class TestCompiledStepsRefuse:
    def test_a_loss_of_other_members(self):
        loss = "mean_squared_error", 0.0, np.inf, 1.0, 1.0
        assert step_checks.members_of(None, "python", 7) == 1
        assert step_checks.members_of(loss[:3], "r2", 7) == step_checks.members_of(
            loss, "r2", 7) == 1
        assert step_checks.members_of((*loss, 7), "python", 14) == 7
        for members in (0, -1, 2, 14):
            with pytest.raises(ValueError, match=r"^loss: expected a number of members"):
                step_checks.members_of((*loss, members), None, 7)
        with pytest.raises(ValueError, match=r"^metric: expected none for a loss of 7 members"):
            step_checks.members_of((*loss, 7), "r2", 7)

    def test_sizes_that_do_not_fit(self):
        class Wrong(fb.EnsembleDense):
            def lower(self, builder, x):
                return builder.op("shared_dense", x, builder.parameter(self, "W"),
                                  builder.parameter(self, "b"), sizes={"v": self.n_out + 1})

        net = fb.Sequential([Wrong(4, 3, 5, None)])
        with pytest.raises(ValueError, match=r"^shared_dense: expected sizes where"):
            net.predict(np.ones((2, 20)))

    def test_members_that_do_not_fit(self):
        class Wrong(fb.SeparateDense):
            def lower(self, builder, x):
                return builder.op("separate_dense", builder.op(
                    "take_columns", x, columns=range(7), sizes={"n": 7}),
                    builder.parameter(self, "W"), builder.parameter(self, "b"))

        net = fb.Sequential([Wrong(4, 3, 2)])
        with pytest.raises(ValueError, match=r"^separate_dense: expected"):
            net.predict(np.ones((2, 8)))

    def test_repeated_columns(self):
        class Wrong(fb.Repeat):
            def lower(self, builder, x):
                return builder.op("repeat", x, sizes={"v": 7}, factor=1.0, gradient=0.0)

        net = fb.Sequential([Wrong(3, 2), fb.Dense(6, 1)])
        with pytest.raises(ValueError, match=r"^repeat: expected sizes where v = 6"):
            net.predict(np.ones((2, 3)))
