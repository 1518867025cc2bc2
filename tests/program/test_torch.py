"""Outputs, gradients and running statistics in float64 are PyTorch's."""

import numpy as np
import pytest

import fastbp as fb

torch = pytest.importorskip("torch")
F = torch.nn.functional

ACTIVATIONS = {
    "ReLU": lambda layer, x: F.relu(x),
    "LeakyReLU": lambda layer, x: F.leaky_relu(x, layer.alpha),
    "Sigmoid": lambda layer, x: torch.sigmoid(x),
    "Tanh": lambda layer, x: torch.tanh(x),
    "ELU": lambda layer, x: F.elu(x, layer.alpha),
    "GELU": lambda layer, x: F.gelu(x),
    "Mish": lambda layer, x: F.mish(x),
    "SELU": lambda layer, x: F.selu(x),
    "SiLU": lambda layer, x: F.silu(x),
}


class Torch:
    """What PyTorch makes of the layers of a network, with copies of their arrays."""

    def __init__(self, net):
        self.net = net
        self.arrays = {
            (where, name): torch.tensor(getattr(layer, name),
                                        requires_grad=name in layer.parameter_shapes)
            for where, layer in net.leaves for name in layer.array_shapes}

    def __call__(self, X, training):
        return self.sequence(enumerate(self.net.layers), X, training)

    def sequence(self, layers, x, training):
        for where, layer in layers:
            x = self.layer(str(where), layer, x, training)
        return x

    def layer(self, where, layer, x, training):
        def array(name):
            return self.arrays[where, name]

        def inner(place, layers, x):
            return self.sequence([(f"{where}.{place}{i}", each) for i, each in enumerate(layers)],
                                 x, training)

        name = type(layer).__name__
        if name in ACTIVATIONS:
            return ACTIVATIONS[name](layer, x)
        if name == "Dense":
            return x @ array("W") + array("b")
        if name == "LayerNorm":
            return F.layer_norm(x, (layer.n,), array("gamma"), array("beta"), layer.epsilon)
        if name == "RMSNorm":
            return F.rms_norm(x, (layer.n,), array("gamma"), layer.epsilon)
        if name == "BatchNorm":
            return F.batch_norm(x, array("mean"), array("variance"), array("gamma"),
                                array("beta"), training, layer.momentum, layer.epsilon)
        if name == "PReLU":
            return F.prelu(x, array("slope"))
        if name == "PeriodicEmbedding":
            k, d = layer.parameter_shapes["gamma"]
            t = array("frequencies") * x[:, :, None] + array("phases").reshape(k, d - 1)
            z = torch.cat([x[:, :, None], torch.cos(2 * torch.pi * t)], dim=2)
            return (array("gamma") * z).flatten(1) + array("beta")
        if name == "PiecewiseLinearEmbedding":
            W, parts, start = array("W"), [], 0
            for f, edges in enumerate(layer.config()["edges"]):
                low, high = torch.tensor(edges[:-1]), torch.tensor(edges[1:])
                number, t = x[:, f : f + 1], torch.arange(len(low))
                # torch.clamp would have the slopes of both bins at an edge.
                left_of, right_of = (number < low) & (t > 0), (number >= high) & (t < t[-1])
                e = torch.where(left_of, 0.0, (number - low) / (high - low))
                parts.append(torch.where(right_of, 1.0, e) @ W[start : start + len(low)])
                start += len(low)
            return torch.cat(parts, dim=1) + array("b")
        if name == "Repeat":
            return x.repeat(1, layer.n_members)
        if name == "MeanOfMembers":
            return x.unflatten(1, (layer.n_members, layer.n)).mean(dim=1)
        if name == "Scale":
            return x * array("gamma")
        if name == "EnsembleDense":
            x = x.unflatten(1, (layer.n_members, layer.n_inputs))
            if layer.factors is None:
                return (x @ array("W") + array("b")).flatten(1)
            r, s, b = (array(each).unflatten(0, (layer.n_members, -1)) for each in "rsb")
            return ((x * r) @ array("W") * s + b).flatten(1)
        if name == "SeparateDense":
            x = x.unflatten(1, (layer.n_members, 1, layer.n_inputs))
            b = array("b").unflatten(0, (layer.n_members, 1, layer.n_outputs))
            return (x @ array("W") + b).flatten(1)
        if name == "Embedding":
            return F.embedding(x[:, 0].detach().long(), array("table"))
        if name == "Residual":
            return x + inner("", layer.layers, x)
        if name == "Columns":
            parts = layer.config()["parts"]
            return torch.cat([inner(f"{i}.", layers, x[:, columns])
                              for i, (columns, layers) in enumerate(parts)], dim=1)
        raise NotImplementedError(name)


def close(got, expected, scale=0.0):
    np.testing.assert_allclose(got, expected, rtol=1e-9, atol=1e-9 * max(scale, 1e-3))


def compare(net, X, seed=0):
    """Both in training and in prediction; each training moves the running statistics."""
    rng = np.random.default_rng(seed)
    for _, layer in net.leaves:  # what starts at 0 or 1 would hide mistakes
        for name in ("b", "beta", "gamma", "slope", "mean", "phases", "r", "s"):
            if name in layer.array_shapes:
                setattr(layer, name, getattr(layer, name) + rng.normal(size=layer.array_shapes[
                    name]) / 4)
    theirs = Torch(net)
    for _ in range(2):
        x = torch.tensor(X, requires_grad=True)
        z = theirs(x, training=True)
        Z = net.forward(X)
        z_hat = z.detach().numpy()
        close(Z, z_hat, abs(z_hat).max())
        dZ = rng.normal(size=Z.shape)
        wanted = [key for key in theirs.arrays if theirs.arrays[key].requires_grad]
        gradients = torch.autograd.grad((z * torch.tensor(dZ)).sum(),
                                        [x, *(theirs.arrays[key] for key in wanted)],
                                        allow_unused=True)
        dX, *rest = (None if each is None else each.numpy() for each in gradients)
        largest = max(abs(each).max() for each in (dX, *rest) if each is not None)
        close(net.backward(dZ), 0 if dX is None else dX, largest)
        layers = dict(net.leaves)
        for (where, name), expected in zip(wanted, rest, strict=True):
            close(getattr(layers[where], "d" + name), expected, largest)
        for (where, name), array in theirs.arrays.items():
            close(getattr(layers[where], name), array.detach().numpy(), 1)
    with torch.no_grad():
        z = theirs(torch.tensor(X), training=False).numpy()
    close(net.predict(X), z, abs(z).max())


@pytest.mark.parametrize("make", [
    *fb.layers.ACTIVATIONS.values(),
    lambda: fb.Dense(5, 3),
    lambda: fb.LayerNorm(5),
    lambda: fb.LayerNorm(5, 0.5),
    lambda: fb.RMSNorm(5),
    lambda: fb.RMSNorm(5, 0.5),
    lambda: fb.BatchNorm(5),
    lambda: fb.BatchNorm(5, 0.6, 0.5),
    lambda: fb.PReLU(5),
    lambda: fb.Scale(5, "normal"),
    lambda: fb.Repeat(5, 3),
    lambda: fb.MeanOfMembers(1, 5),
    lambda: fb.EnsembleDense(1, 3, 5, "normal"),
    lambda: fb.EnsembleDense(5, 3, 1, "random_signs"),
    lambda: fb.EnsembleDense(1, 3, 5, None),
    lambda: fb.SeparateDense(1, 3, 5),
    lambda: fb.PeriodicEmbedding(5, 3),
    lambda: fb.PeriodicEmbedding(5, 17, 0.3, trainable=False, random_phases=True),
    lambda: fb.PiecewiseLinearEmbedding([[-1, 0, 2], [0, 1], [-2, -1, 0, 1], [3, 4], [-1, 1]], 4),
    lambda: fb.Residual([fb.Dense(5, 3), fb.Tanh(), fb.Dense(3, 5)]),
    lambda: fb.Residual([fb.LayerNorm(5), fb.Residual([fb.Dense(5, 5)]), fb.BatchNorm(5)]),
    lambda: fb.Columns([(slice(1, 4), [fb.LayerNorm(3), fb.Dense(3, 2)]), ([4, 0, 4], []),
                        (2, fb.PReLU(1))]),
])
@pytest.mark.parametrize("rows", [2, 300])
def test_a_layer(make, rows, rng):
    compare(fb.Sequential([make()], "float64", seed=0), rng.normal(size=(rows, 5)))


@pytest.mark.parametrize("factors", ["ones", None])
@pytest.mark.parametrize("rows", [2, 300])
def test_ensembles(factors, rows, rng):
    compare(fb.Sequential([
        fb.Dense(5, 6), fb.Repeat(6, 4), fb.EnsembleDense(6, 7, 4, factors), fb.ReLU(),
        fb.EnsembleDense(7, 17, 4, factors), fb.ReLU(), fb.SeparateDense(17, 3, 4),
        fb.MeanOfMembers(3, 4)], "float64", seed=0), rng.normal(size=(rows, 5)))


def test_embeddings(rng):
    X = np.c_[rng.normal(size=300), rng.integers(0, 4, 300), rng.integers(0, 9, 300)]
    columns = fb.Columns([(0, []), (2, fb.Embedding(9, 3)), (1, fb.Embedding(6, 2)),
                          (2, [fb.Embedding(9, 4), fb.LayerNorm(4)])])
    compare(fb.Sequential([columns, fb.Dense(10, 3)], "float64", seed=0), X)
    compare(fb.Sequential([fb.Embedding(9, 3), fb.Dense(3, 3)], "float64", seed=0), X[:, 2:])


@pytest.mark.parametrize("seed", range(100))
def test_networks(random_programs, seed):
    case = random_programs.Case(seed, own=False, dropout=False)
    compare(case.network("float64"), case.X.astype("f8"), seed)
