"""Networks as modules of PyTorch, and modules as networks."""

import numpy as np
import pytest

import fastbp as fb

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

pytestmark = pytest.mark.once

# Of the largest output; PyTorch adds up in another order.
CLOSE = {"float32": 1e-5, "float64": 1e-12}


def forward(module, X):
    with torch.no_grad():
        return module(torch.from_numpy(X)).numpy()


def error(Z, Y):
    """The largest difference beside the largest number."""
    assert Z.shape == Y.shape and Z.dtype == Y.dtype
    finite = np.isfinite(Z)
    if not finite.any():
        return 0
    return float(abs(Z - Y)[finite].max() / max(abs(Z[finite]).max(), 1e-30))


def test_every_network_and_back(random_case):
    for seed in range(500):
        case = random_case(seed)
        module, Z = case.network.to_torch(), case.network.predict(case.X)
        assert error(Z, forward(module, case.X)) < CLOSE[str(Z.dtype)], case.network
        net = fb.from_torch(module, n_in=case.X.shape[1])
        if net.parameters.size:
            assert net.dtype == Z.dtype
        else:  # nothing has a dtype
            net = net.astype(Z.dtype)
        assert error(Z, net.predict(case.X)) < 1e-7, case.network


def test_training_goes_on(rng):
    """The gradients of a batch are fastbp's, with dropout off and batch statistics."""
    net = fb.Sequential([
        fb.PeriodicEmbedding(3, 4), fb.Dense(12, 8), fb.BatchNorm(8), fb.GELU(),
        fb.Residual([fb.LayerNorm(8), fb.Dense(8, 8), fb.SiLU()]),
        fb.Columns([(slice(0, 4), fb.Dense(4, 2)), ([7, 5], fb.PReLU(2)), (6, [])]),
        fb.Repeat(5, 2), fb.EnsembleDense(5, 3, 2, "normal"), fb.SeparateDense(3, 2, 2),
        fb.MeanOfMembers(2, 2)], "float64", seed=0)
    net.layers[0].gamma = rng.normal(size=(3, 4))
    X, dZ = rng.normal(size=(20, 3)), rng.normal(size=(20, 2))
    module = net.to_torch().train()
    Z = net.forward(X)
    net.backward(dZ)
    output = module(torch.from_numpy(X))
    output.backward(torch.from_numpy(dZ))
    assert np.allclose(output.detach().numpy(), Z, atol=1e-12)
    gradients = dict(module.named_parameters())
    assert sorted(gradients) == sorted(
        name for name in module.state_dict() if "running" not in name and "num_b" not in name)
    for where, layer in net.leaves:
        for name in layer.parameter_shapes:
            key = {"Dense": {"W": "weight", "b": "bias"}, "LayerNorm": {
                "gamma": "weight", "beta": "bias"}, "BatchNorm": {"gamma": "weight",
                "beta": "bias"}, "PReLU": {"slope": "weight"}}.get(
                    type(layer).__name__, {}).get(name, name)
            got, expected = gradients[f"{where}.{key}"].grad.numpy(), getattr(layer, f"d{name}")
            assert np.allclose(got.T if (key, got.ndim) == ("weight", 2) else got, expected,
                               atol=1e-10), (where, name)


def test_standard_modules():
    """What PyTorch has is its own, with its names."""
    net = fb.Sequential([fb.Dense(2, 3), fb.BatchNorm(3, 0.3, 0.01), fb.LeakyReLU(0.2),
                         fb.Dropout(0.4), fb.Dense(3, 1)], seed=0)
    module = net.to_torch()
    assert repr(module) == repr(nn.Sequential(
        nn.Linear(2, 3), nn.BatchNorm1d(3, eps=0.01, momentum=0.3), nn.LeakyReLU(0.2),
        nn.Dropout(0.4), nn.Linear(3, 1)))
    assert not module.training
    assert repr(fb.from_torch(module)) == repr(net)
    module[0].weight.data += 1  # a copy
    assert (net.layers[0].W != module[0].weight.detach().numpy().T).all()


class Block(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.first, self.second, self.norm = nn.Linear(n, 7), nn.Linear(7, n), nn.LayerNorm(n)

    def forward(self, x):
        return self.norm(x + self.second(torch.relu(self.first(x))))


class Table(nn.Module):
    """Two columns of codes, and numbers."""

    def __init__(self):
        super().__init__()
        self.colors, self.shapes = nn.Embedding(5, 3), nn.Embedding(4, 2)
        self.body = nn.Sequential(nn.Linear(8, 6), Block(6), nn.GELU(), Block(6))
        self.scale = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
        self.register_buffer("mean", torch.tensor([0.5, -1.0, 2.0]))
        self.short, self.last = nn.Linear(8, 6, bias=False), nn.Linear(6, 2)

    def forward(self, x):
        numbers = (x[:, 2:5] - self.mean) * self.scale
        x = torch.cat([self.colors(x[:, 0].long()), self.shapes(x[:, 1].long()), numbers], dim=1)
        return self.last(self.body(x) - 0.5 * self.short(x)) / 2 + 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_modules_with_a_forward_of_their_own(rng, dtype):
    torch.manual_seed(0)
    module = Table().to(getattr(torch, dtype)).eval()
    X = rng.normal(size=(30, 5)).astype(dtype)
    X[:, 0], X[:, 1] = rng.integers(0, 5, 30), rng.integers(0, 4, 30)
    net = fb.from_torch(module)
    assert str(net.dtype) == dtype
    assert error(net.predict(X), forward(module, X)) < CLOSE[dtype]


@pytest.mark.parametrize("module", [
    nn.Linear(3, 2), nn.Sequential(nn.ReLU()), nn.Sequential(nn.RMSNorm(3), nn.PReLU()),
    nn.Sequential(nn.LayerNorm(3, elementwise_affine=False)), nn.Sequential(nn.Identity()),
    nn.Sequential(nn.BatchNorm1d(3, affine=False)), nn.Sequential(nn.Flatten(), nn.SELU())])
def test_small_modules(rng, module):
    X = rng.normal(size=(9, 3)).astype("f4")
    assert error(fb.from_torch(module.eval(), n_in=3).predict(X), forward(module, X)) < 1e-6


class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x


class Twice(nn.Module):
    def forward(self, x):
        return torch.sin(x)


@pytest.mark.parametrize(("module", "message"), [
    (nn.Sequential(nn.Linear(3, 3), nn.Hardtanh()), r"1 \(Hardtanh\): expected operators of lay"),
    (nn.Sequential(nn.Conv1d(3, 3, 1)), r"0 \(Conv1d\)"),
    (nn.Sequential(nn.GELU(approximate="tanh")), 'GELU with approximate="none"'),
    (nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)), "running averages"),
    (nn.Sequential(nn.LayerNorm((3, 3))), "over the columns of a row"),
    (nn.Sequential(nn.Linear(3, 2), nn.Linear(3, 2)), "expected 3 columns, got 2"),
    (Branches(), r"Branches cannot be traced.*must not depend on the values"),
    (Twice(), r"sin \(sin\)"),
])
def test_refused_by_name(module, message):
    with pytest.raises(ValueError, match=message):
        fb.from_torch(module, n_in=3)


def test_what_is_no_module():
    with pytest.raises(TypeError, match=r"module: expected a torch.nn.Module, got 3"):
        fb.from_torch(3)


def test_layers_in_python(random_programs):
    net = fb.Sequential([fb.Residual([random_programs.Own(3)])])
    with pytest.raises(ValueError, match=r"layer 0\.0 .*Own.*runs in Python"):
        net.to_torch()


def test_files_for_pytorch(tmp_path):
    """What `save_torch` writes, the module loads; what it writes, `load_torch` reads."""
    from safetensors.torch import load_file, save_file

    net = fb.Sequential([fb.Dense(3, 4), fb.BatchNorm(4), fb.Residual([fb.Dense(4, 4)]),
                         fb.Columns([(0, fb.Embedding(3, 2)), (slice(1, 4), fb.PReLU(3))])],
                        seed=0)
    net.save_torch(tmp_path / "net.safetensors")
    module = fb.Sequential(net.layers and [fb.Dense(3, 4), fb.BatchNorm(4),
                           fb.Residual([fb.Dense(4, 4)]), fb.Columns([
                               (0, fb.Embedding(3, 2)), (slice(1, 4), fb.PReLU(3))])]).to_torch()
    state = load_file(tmp_path / "net.safetensors")
    assert module.load_state_dict(state).missing_keys == []
    for name, values in net.to_torch().state_dict().items():
        assert torch.equal(values, state[name]), name
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_()
    save_file(module.state_dict(), tmp_path / "other.safetensors")
    net.load_torch(tmp_path / "other.safetensors")
    for name, values in net.to_torch().state_dict().items():
        assert torch.equal(values, module.state_dict()[name]), name
