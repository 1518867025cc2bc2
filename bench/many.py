"""Many networks at once: `fit_many`, beside JAX's vmap, PyTorch, and scikit-learn's grid search.

    python bench/many.py --quick
"""

import importlib.util
import math
import time
import warnings

import common
import numpy as np
from peers import flatten, make_weights
from sklearn import neural_network
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, ParameterGrid, StratifiedKFold

import fastbp as fb

PARTS = ("tiny", "member", "search")
GRID = {
    "hidden_layer_sizes": [(32,), (100,)],
    "alpha": [1e-5, 1e-3, 1e-1],
    "learning_rate_init": [0.001, 0.01],
    "activation": ["relu", "tanh"],
}
# How far parameters may be from fastbp's after an epoch, as a share of the way they have come.
TOLERANCE = 0.02


def main():
    parser = common.parser(__doc__, ("jax", "torch", "sklearn"), threads="all",
                           dtypes=("float32",))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)} (default: all)")
    arguments = common.begin(parser)
    warnings.simplefilter("ignore")  # too few epochs to converge
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    results = {"machine": machine}
    for part, run in (("tiny", tiny), ("member", member), ("search", search)):
        if part in arguments.parts:
            results[part] = run(arguments)
    common.save(arguments, "many", results, chart)


def show(title, times, arguments):
    """The table of one part, and its numbers: seconds, and ratios to `fit_many`'s."""
    ours = times["fit_many"]["min"]
    common.table(title, ["", "time", "ratio"],
                 [[name, common.time_text(t["min"]), f"{t['min'] / ours:.2f}×"]
                  for name, t in times.items()], arguments.markdown)
    return {name: {"seconds": t["min"], "median": t["median"], "ratio": t["min"] / ours}
            for name, t in times.items()}


def chart(results):
    """How many times as long as `fit_many` the others take."""
    def draw(plt):
        parts = {f"64 tiny networks, {name}": times
                 for name, times in results.get("tiny", {}).items()}
        parts |= {title: results[part] for part, title in (("member", "a TabPack's member"),
                                                           ("search", "grid search"))
                  if part in results}
        bars = [(f"{title}: {name}", times["ratio"]) for title, part in parts.items()
                for name, times in part.items() if name not in ("fit_many", "scores")]
        figure, axes = plt.subplots(figsize=(8, 1 + 0.4 * len(bars)), layout="constrained")
        for i, (_, ratio) in enumerate(reversed(bars)):
            axes.barh(i, ratio, color=common.COLORS["NumPy"])
            axes.annotate(f"{ratio:.2f}", (ratio, i), (3, 0), textcoords="offset points",
                          va="center", fontsize=8)
        axes.set_yticks(range(len(bars)), [name for name, _ in reversed(bars)])
        axes.axvline(1, color=common.COLORS["fastbp"], linewidth=1.5)
        axes.set_xlabel("time, fit_many = 1")
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    return draw


def check(name, learnt, expected, start):
    """End the script if a contender has learnt something else."""
    apart = np.linalg.norm(learnt - expected) / np.linalg.norm(expected - start)
    if not apart <= TOLERANCE:
        raise SystemExit(f"{name} learns something else: its parameters are {apart:.2g} of the "
                         f"way off, more than {TOLERANCE:g}")


# ---- 64 networks that fit no vector ------------------------------------------------------------

def tiny(arguments, n=64, sizes=(4, 16, 3), batch=16, rows=160):
    """Networks of 131 parameters, 10 steps an epoch: time of one network's step."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((rows, sizes[0]), np.float32)
    y = rng.integers(sizes[-1], size=rows)
    weights = [make_weights(sizes, "float32", rng) for _ in range(n)]
    epochs = 5 if arguments.quick else 100
    steps = n * epochs * (rows // batch)
    results = {}
    for optimizer in ("sgd", "adam"):
        settings = {"loss": fb.SoftmaxCrossEntropy(), "batch_size": batch,
                    "optimizers": fb.SGD(0.01) if optimizer == "sgd" else fb.Adam(0.001)}

        def started():
            networks = [fb.mlp(sizes, seed=0) for _ in range(n)]
            for net, each in zip(networks, weights, strict=True):
                net.parameters[:] = flatten(each)
            return networks

        def at_once(settings=settings, started=started):
            networks = started()
            start = time.perf_counter()
            fb.fit_many(networks, X, y, epochs=epochs, seeds=0, **settings)
            return (time.perf_counter() - start) / steps

        def one_by_one(optimizer=settings["optimizers"], loss=settings["loss"], started=started):
            networks = started()
            start = time.perf_counter()
            for seed, net in enumerate(networks):
                net.fit(X, y, epochs=epochs, batch_size=batch, loss=loss, optimizer=optimizer,
                        seed=seed)
            return (time.perf_counter() - start) / steps

        contenders = {"fit_many": at_once, "fit after fit": one_by_one}
        if "jax" in arguments.peers and importlib.util.find_spec("jax"):
            networks = started()
            fb.fit_many(networks, X, y, epochs=1, shuffle=False, **settings)
            peer = common.make(VmappedJAX, X, y, weights, batch, optimizer, epochs)
            if peer is not None:
                check(peer.name, peer.after_an_epoch(),
                      np.concatenate([net.parameters for net in networks]),
                      np.concatenate([flatten(each) for each in weights]))
                contenders[peer.name] = lambda peer=peer: peer.train() / steps
        times = common.interleave(contenders, arguments.rounds)
        results[optimizer] = show(
            f"{n} networks {'-'.join(map(str, sizes))}, batch {batch}, {optimizer}, {epochs} "
            f"epochs of {rows} rows: time of one network's step", times, arguments)
    return results


class VmappedJAX:
    """All networks in one program, their weights stacked; epochs and steps in `lax.scan`."""

    name = "JAX vmap"

    def __init__(self, X, y, weights, batch, optimizer, epochs):
        import jax

        self.jax, self.n, self.epochs = jax, len(weights), epochs
        self.steps, self.batch = len(X) // batch, batch
        tree, numpy = jax.tree, jax.numpy
        X, y = jax.device_put(X), jax.device_put(y.astype(np.int32))
        self.rng, self.weights = np.random.default_rng(0), weights

        def loss(weights, x, labels):
            for W, b in weights[:-1]:
                x = jax.nn.relu(x @ W + b)
            W, b = weights[-1]
            scores = jax.nn.log_softmax(x @ W + b)
            return -(scores * jax.nn.one_hot(labels, scores.shape[1])).sum() / batch

        def step(state, rows):
            weights, means, t = state
            g = jax.grad(loss)(weights, X.at[rows].get(mode="promise_in_bounds"),
                               y.at[rows].get(mode="promise_in_bounds"))
            t += 1
            if means:
                m = tree.map(lambda m, g: 0.9 * m + 0.1 * g, means[0], g)
                v = tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, means[1], g)
                c, d = 1 / (1 - 0.9**t), 1 / (1 - 0.999**t)
                means = m, v
                g = tree.map(lambda m, v: 0.1 * m * c / (numpy.sqrt(v * d) + 1e-8), m, v)
            return (tree.map(lambda p, g: p - 0.01 * g, weights, g), means, t), None

        def train(state, order):
            return jax.vmap(lambda state, order: jax.lax.scan(step, state, order)[0])(state, order)

        def started():
            stacked = tree.map(lambda *each: numpy.stack(each), *self.weights)
            zeros = tree.map(numpy.zeros_like, (stacked, stacked))
            return stacked, zeros * (optimizer == "adam"), numpy.zeros(self.n, "float32")

        self.started, self.jitted = started, jax.jit(train)
        self.train()  # which compiles

    def after_an_epoch(self):
        """All parameters, network by network, after the rows in their order."""
        order = np.arange(self.steps * self.batch, dtype=np.int32)
        order = np.broadcast_to(order, (self.n, len(order)))
        stacked = self.jitted(self.started(), order.reshape(self.n, -1, self.batch))[0]
        return np.concatenate([flatten([(W[i], b[i]) for W, b in stacked])
                               for i in range(self.n)])

    def train(self):
        """Seconds of all epochs, each network with its own order of the rows, drawn before."""
        size = self.n, self.epochs, self.steps * self.batch
        order = self.rng.permuted(
            np.broadcast_to(np.arange(size[-1], dtype=np.int32), size), axis=-1)
        order = self.jax.device_put(order.reshape(self.n, -1, self.batch))
        state = self.jax.block_until_ready(self.started())
        start = time.perf_counter()
        self.jax.block_until_ready(self.jitted(state, order))
        return time.perf_counter() - start


# ---- a member of a TabPack ---------------------------------------------------------------------

def member(arguments, rows=13_209, features=8, d=24, width=128, blocks=2, batch=256):
    """Rows and columns of California housing; embedding, hidden layers of 128, Muon."""
    rng = np.random.default_rng(0)
    rows = 2048 if arguments.quick else rows
    n = 2 * arguments.threads
    X = rng.standard_normal((rows, features), np.float32)
    y = np.sin(X[:, 0]) + 0.5 * X[:, 1] * X[:, 2] + 0.1 * rng.standard_normal(rows)
    y = y.astype(np.float32)

    def network(seed):
        embedding = fb.PeriodicEmbedding(features, d, trainable=False, random_phases=True)
        hidden = [fb.mlp([features * d, *[width] * blocks, 1], seed=seed)]
        return fb.Sequential([embedding, *hidden], seed=seed)

    def optimizer():
        return fb.Muon(0.01, weight_decay=0.02, adam_learning_rate=0.002,
                       groups=[fb.Group("b", weight_decay=0), fb.Group("beta", weight_decay=0)])

    def at_once():
        networks = [network(seed) for seed in range(n)]
        start = time.perf_counter()
        fb.fit_many(networks, X, y, loss=fb.MeanSquaredError(), optimizers=optimizer(), epochs=1,
                    batch_size=batch, seeds=0)
        return (time.perf_counter() - start) / n

    contenders = {"fit_many": at_once}
    if "torch" in arguments.peers and importlib.util.find_spec("torch"):
        peer = common.make(TorchMember, X, y, network(0), batch, arguments.threads)
        if peer is not None:
            contenders[peer.name] = peer.epoch
    times = common.interleave(contenders, min(arguments.rounds, 7))
    return show(f"a member of a TabPack, {rows:,} × {features}, embeddings of {d}, {blocks} layers "
                f"of {width}, batch {batch}, Muon: time of an epoch", times, arguments)


class TorchMember:
    """The same embedding, layers, loss and steps, all threads in each operation."""

    name = "PyTorch"

    def __init__(self, X, y, net, batch, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch, self.batch = torch, batch
        self.X, self.y = torch.from_numpy(X), torch.from_numpy(y)[:, None]
        embedding = net.layers[0]
        self.frequencies = torch.from_numpy(np.array(embedding.frequencies))
        self.phases = torch.from_numpy(np.array(embedding.phases).reshape(
            self.frequencies.shape))
        shape = embedding.n_features, embedding.n_per_feature
        self.scale = torch.zeros(shape, requires_grad=True)
        self.shift = torch.zeros(shape, requires_grad=True)
        layers = []
        for _, layer in net.leaves[1:]:
            if isinstance(layer, fb.Dense):
                linear = torch.nn.Linear(layer.n_in, layer.n_out)
                with torch.no_grad():
                    linear.weight.copy_(torch.from_numpy(np.array(layer.W).T))
                    linear.bias.copy_(torch.from_numpy(np.array(layer.b)))
                layers.append(linear)
            else:
                layers.append(torch.nn.ReLU())
        self.backbone = torch.nn.Sequential(*layers)
        linears = layers[::2]
        matrices = [linear.weight for linear in linears[:-1]]
        self.matrices = [(W, torch.zeros_like(W)) for W in matrices]
        biases = [linear.bias for linear in linears]
        self.adamw = torch.optim.AdamW([
            {"params": [self.scale, layers[-1].weight], "weight_decay": 0.02},
            {"params": [self.shift, *biases], "weight_decay": 0.0},
        ], lr=0.002, fused=True)
        self.epoch()  # to warm up

    def forward(self, x):
        torch = self.torch
        waves = torch.cos(2 * math.pi * (x[:, :, None] * self.frequencies + self.phases))
        z = torch.cat([x[:, :, None], waves], dim=2)
        return self.backbone((self.scale * z + self.shift).flatten(1))

    def orthogonalize(self, G):
        wide = G.shape[0] > G.shape[1]
        X = G.T if wide else G
        X = X / (X.norm() + 1e-7)
        for _ in range(5):
            A = X @ X.T
            B = self.torch.addmm(A, A, A, beta=-4.7750, alpha=2.0315)
            X = self.torch.addmm(X, B, X, beta=3.4445)
        return X.T if wide else X

    def epoch(self):
        start = time.perf_counter()
        order = self.torch.randperm(len(self.X))
        for rows in order.split(self.batch):
            loss = self.torch.nn.functional.mse_loss(self.forward(self.X[rows]), self.y[rows])
            for W, _ in self.matrices:
                W.grad = None
            self.adamw.zero_grad()
            loss.backward()
            self.adamw.step()
            with self.torch.no_grad():
                for W, momentum in self.matrices:
                    momentum.lerp_(W.grad, 0.05)
                    step = self.orthogonalize(W.grad.lerp(momentum, 0.95))
                    W.mul_(1 - 0.01 * 0.02)
                    W.sub_(step, alpha=0.01 * max(1, W.shape[0] / W.shape[1]) ** 0.5)
        return time.perf_counter() - start


# ---- a grid search -----------------------------------------------------------------------------

def search(arguments):
    """24 settings and three folds of digits, as many jobs as threads."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    n, epochs = (300, 2) if arguments.quick else (len(X), 30)
    X, y = X[:n], y[:n]
    scores = {}

    def by_grid_search(name, estimator):
        def run():
            grid = GridSearchCV(estimator(random_state=0, batch_size=32, max_iter=epochs), GRID,
                                cv=3, n_jobs=arguments.threads, refit=False)
            start = time.perf_counter()
            grid.fit(X, y)
            seconds = time.perf_counter() - start
            scores[name] = grid.best_score_
            return seconds
        return run

    def by_fit_many():
        settings = list(ParameterGrid(GRID))
        start = time.perf_counter()
        accuracies = np.zeros(len(settings))
        for train, test in StratifiedKFold(3).split(X, y):
            networks = [fb.mlp([X.shape[1], *s["hidden_layer_sizes"], 10], s["activation"], seed=0)
                        for s in settings]
            fb.fit_many(networks, X[train], y[train], loss=fb.SoftmaxCrossEntropy(),
                        optimizers=[fb.Adam(s["learning_rate_init"]) for s in settings],
                        l2=[s["alpha"] / 32 for s in settings], epochs=epochs, batch_size=32,
                        seeds=0)
            accuracies += [(net.predict(X[test]).argmax(1) == y[test]).mean() for net in networks]
        scores["fit_many"] = accuracies.max() / 3
        return time.perf_counter() - start

    contenders = {"fit_many": by_fit_many,
                  "GridSearchCV, fastbp": by_grid_search("GridSearchCV, fastbp", fb.MLPClassifier)}
    if "sklearn" in arguments.peers:
        name = "GridSearchCV, scikit-learn"
        contenders[name] = by_grid_search(name, neural_network.MLPClassifier)
    times = common.interleave(contenders, 1 if arguments.quick else min(arguments.rounds, 3))
    results = show(f"24 settings × 3 folds on digits, {epochs} epochs, batch 32, "
                   f"{arguments.threads} jobs", times, arguments)
    print("best accuracy: " + ", ".join(f"{name} {score:.4f}" for name, score in scores.items())
          + "\n")
    return results | {"scores": scores}


if __name__ == "__main__":
    main()
