"""Random networks of every layer, trained by the executor and by the reference interpreter.

    python bench/random_programs.py --programs 1000

A network is lowered to a program; the executor runs it in compiled code, and the
interpreter of `fastbp.program.reference` instruction by instruction in Python.  Both must produce
the same bits, with every instruction set and 1 to 4 threads: parameters, gradients, buffers,
the optimizer's state, history, the layers' steps, and predictions.  `--show N` prints one program
that was drawn.  The script ends with 1 where anything differs.
"""

import argparse
import os
import random
import sys
import time

import numpy as np

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # of several threads to a core most wait

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch, threads
from fastbp.program import reference

WIDTHS = [1, 2, 3, 5, 8, 16, 17, 33]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=1000, metavar="N", help="(default: 1000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="the first one's")
    parser.add_argument("--show", type=int, metavar="N", help="print program N, and no more")
    arguments = parser.parse_args()
    if arguments.show is not None:
        print(Case(arguments.show))
        return 0
    began, found, ended = time.perf_counter(), 0, 0
    for seed in range(arguments.seed, arguments.seed + arguments.programs):
        case = Case(seed)
        differences = case.differences()
        ended += case.ended is not None
        if differences:
            found += 1
            print(f"seed {seed}: {'; '.join(differences)}\n{case}", flush=True)
    print(f"{arguments.programs} programs, {ended} of which diverged, "
          f"{time.perf_counter() - began:.0f} s: {found} with other bits")
    return int(found > 0)


# User-defined pieces


class Own(fb.Layer):
    """A scale for each column, in Python, which returns another memory order."""

    def __init__(self, n):
        super().__init__(n, scale=(n,))
        self.n = n

    def initialize(self, rng):
        self.scale = rng.uniform(0.5, 1.5, self.n)

    def forward(self, X, training=True):
        if training:
            self.cache = X
        return np.asfortranarray(X * self.scale)

    def backward(self, dZ):
        self.dscale = (dZ * self.cache).sum(axis=0)
        return np.asfortranarray(dZ * self.scale)


class OwnLoss(fb.Loss):
    """Half the mean of squares, in Python."""

    def __call__(self, Z, y, sample_weight=None):
        w = np.ones(len(Z)) if sample_weight is None else np.asarray(sample_weight, float)
        share = (w / w.sum())[:, None] / Z.shape[1] if w.any() else np.zeros((len(Z), 1))
        R = Z.astype(float) - y
        return float((share * R * R).sum() / 2), np.asfortranarray(share * R, Z.dtype)


class OwnOptimizer(fb.Optimizer):
    """Steps against a mean of the gradients, in Python."""

    state_names = ("mean",)

    def update(self, parameters, gradients, learning_rate):
        mean = self.state["mean"]
        mean *= mean.dtype.type(0.8)
        mean += gradients
        parameters -= parameters.dtype.type(learning_rate) * mean


# What is drawn


class Layers:
    """Draws layers.

    Parameters
    ----------
    draw : random.Random
    own, dropout : bool, default True
        Whether there may be some that run in Python, and that draw random numbers.
    """

    def __init__(self, draw, own=True, dropout=True):
        self.draw, self.own, self.dropout = draw, own, dropout

    def network(self):
        """Layers, and how many codes there are in each column that is one, by the column."""
        draw, codes = self.draw, {}
        kind = draw.random()
        if kind < 0.1:
            n_codes = draw.randint(1, 9)
            width = draw.choice(WIDTHS)
            layers, codes = [fb.Embedding(n_codes, width)], {0: n_codes}
        elif kind < 0.5:
            n_in = draw.randint(1, 6)
            codes = {j: draw.randint(1, 9) for j in range(n_in) if draw.random() < 0.6}
            layer = self.columns(n_in, 1, codes)
            width = layer.n_out
            if draw.random() < 0.2:  # a program that reads codes as numbers besides
                layers, width = [fb.Residual([layer, fb.Dense(width, n_in)])], n_in
            elif draw.random() < 0.2:  # columns of columns
                layers = [fb.Columns([(slice(0, n_in), layer), (0, [])])]
                width += 1
            else:
                layers = [layer]
        else:
            layers, width = [], draw.choice(WIDTHS)
        for _ in range(draw.randint(1, 3)):
            more, width = self.sequence(width, 2)
            layers += more
        if draw.random() < 0.7 or not layers:
            layers.append(fb.Dense(width, draw.choice([1, 2, 3, 10])))
        return layers, codes

    def sequence(self, width, depth, returns=None):
        """Some layers, one after the other, and how many columns they return."""
        layers = []
        for _ in range(self.draw.randint(1, 4)):
            layer = self.layer(width, depth)
            layers.append(layer)
            width = layer.n_out or width
        if returns not in (None, width):
            layers.append(fb.Dense(width, returns))
            width = returns
        return layers, width

    def layer(self, width, depth):
        draw = self.draw
        kind = draw.choice(["dense", "dense", "dense", "activation", "activation", "activation",
                            "dropout", "layer norm", "rms norm", "batch norm", "prelu", "own",
                            *["residual", "columns", "network"] * (depth > 0)])
        if kind == "dropout" and self.dropout:
            return fb.Dropout(draw.choice([0.0, 0.2, 0.5]))
        if kind == "layer norm":
            return fb.LayerNorm(width, draw.choice([1e-5, 0.1]))
        if kind == "rms norm":
            return fb.RMSNorm(width, draw.choice([1e-5, 0.1]))
        if kind == "batch norm":
            return fb.BatchNorm(width, draw.choice([0, 0.1, 0.7, 1]), draw.choice([1e-5, 0.1]))
        if kind == "prelu":
            return fb.PReLU(width, draw.choice([0.25, -0.5, 0.0]))
        if kind == "own" and self.own:
            return Own(width)
        if kind == "residual":
            return fb.Residual(self.sequence(width, depth - 1, width)[0])
        if kind == "columns":
            return self.columns(width, depth - 1)
        if kind == "network":
            return fb.Residual([fb.Sequential(self.sequence(width, depth - 1, width)[0],
                                              draw.choice(["float32", "float64"]), seed=3)])
        if kind == "activation":
            cls = draw.choice(list(fb.layers.ACTIVATIONS.values()))
            has_alpha = "alpha" in cls.validators and draw.random() < 0.5
            return cls(draw.choice([0.2, 1.5])) if has_alpha else cls()
        return fb.Dense(width, draw.choice(WIDTHS))

    def columns(self, width, depth, codes=None):
        """Parts of some columns; codes go to an embedding, or as numbers to other layers."""
        draw, parts = self.draw, []
        for column, n_codes in (codes or {}).items():
            for _ in range(draw.choice([1, 1, 2])):  # several may read one column
                layers = [fb.Embedding(n_codes, draw.choice([1, 2, 5]))]
                if draw.random() < 0.3:
                    layers += self.sequence(layers[0].n_out, depth)[0]
                parts.append((column, layers))
        for _ in range(draw.randint(not parts, 2)):
            start = draw.randrange(width)
            stop = draw.randint(start + 1, width)
            which = draw.choice([start, slice(start, stop),
                                 [draw.randrange(width) for _ in range(draw.randint(1, 4))]])
            n = {int: 1, slice: stop - start}.get(type(which)) or len(which)
            kind = draw.choice(["none", "one", "several", "network"])
            layers = [] if kind == "none" else self.sequence(n, depth)[0]
            if kind == "one":
                layers = layers[0]
            elif kind == "network":
                layers = fb.Sequential(layers, seed=4)
            parts.append((which, layers))
        draw.shuffle(parts)
        return fb.Columns(parts, n_in=width)


def embedded_numbers(draw, n):
    """An embedding of n numbers, by itself or among other layers, that returns n columns again."""
    size = draw.choice([2, 3, 8, 17])
    if draw.random() < 0.5:
        embedding = fb.PeriodicEmbedding(n, size, draw.choice([0.1, 1.0]),
                                         trainable=draw.random() < 0.5,
                                         random_phases=draw.random() < 0.5)
    else:
        edges = [sorted(draw.sample(range(-9, 10), draw.choice([2, 3, 6]))) for _ in range(n)]
        embedding = fb.PiecewiseLinearEmbedding(edges, size)
    layers = [embedding, fb.Dense(n * size, n)]
    kind = draw.choice(["first", "second", "columns", "residual"])
    if kind == "second":  # where its gradient with respect to the input is needed
        layers = [fb.Dense(n, n), *layers]
    elif kind == "columns":
        layers = [fb.Columns([(slice(0, n), layers)])]
    elif kind == "residual":
        layers = [fb.Residual(layers)]
    return layers


def ensemble(draw, n):
    """Members side by side, from n columns to n columns: their mean, or those of a dense layer."""
    k, width = draw.choice([1, 2, 3, 5]), draw.choice([1, 6, 16, 19])
    factors = draw.choice(["ones", "normal", "random_signs", None])
    layers = [fb.Repeat(n, k)]
    if draw.random() < 0.5:
        layers.append(fb.Scale(n * k, draw.choice(["ones", "normal", "random_signs"])))
    layers.append(fb.EnsembleDense(n, width, k, factors))
    for _ in range(draw.choice([0, 1, 2])):
        layers += [draw.choice([fb.ReLU, fb.Tanh])(), fb.EnsembleDense(width, width, k, factors)]
    layers += [fb.ReLU(), fb.SeparateDense(width, n, k)]
    layers.append(draw.choice([fb.MeanOfMembers(n, k), fb.Dense(n * k, n)]))
    return [fb.Residual(layers)] if draw.random() < 0.3 else layers


LOSSES = {
    "labels": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(0.1), rng.integers(0, n, rows)),
    "shares": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(), rng.dirichlet(np.ones(n), rows)),
    "capped": lambda rng, rows, n: (fb.SoftmaxCrossEntropy(cap=0.8), rng.integers(0, n, rows)),
    "signs": lambda rng, rows, n: (fb.SigmoidCrossEntropy(), rng.integers(0, 2, (rows, n))),
    "squared": lambda rng, rows, n: (fb.MeanSquaredError(), rng.normal(size=(rows, n))),
    "absolute": lambda rng, rows, n: (fb.MeanAbsoluteError(), rng.normal(size=(rows, n))),
    "huber": lambda rng, rows, n: (fb.Huber(0.7), rng.normal(size=(rows, n))),
    "quantiles": lambda rng, rows, n: (
        fb.PinballLoss(np.linspace(0.1, 0.9, n)), rng.normal(size=rows)),
    "counts": lambda rng, rows, n: (fb.PoissonDeviance(), rng.poisson(2, (rows, n))),
    "own": lambda rng, rows, n: (OwnLoss(), rng.normal(size=(rows, n))),
}


def an_optimizer(draw):
    decay, clip = draw.choice([0.0, 0.01]), draw.choice([None, None, 0.1, 1.0])
    rate = draw.choice([0.01, fb.schedules.Cosine(0.02, 3, 1), fb.schedules.Step(0.01, 1)])
    options = {"weight_decay": decay, "clip_norm": clip}
    kind = draw.choice(["sgd", "momentum", "nesterov", "adam", "adamw", "lion", "muon", "own"])
    if kind in ("sgd", "momentum", "nesterov"):
        return fb.SGD(rate, {"sgd": 0.0}.get(kind, 0.9), kind == "nesterov", **options)
    if kind == "adam":
        return fb.Adam(rate, epsilon=1e-3, epsilon_hat=draw.random() < 0.5, **options)
    if kind == "muon":
        matrices = draw.choice([None, lambda layer, name: True])  # all of two dimensions
        return fb.Muon(rate, nesterov=draw.random() < 0.5, matrices=matrices, **options)
    return {"adamw": fb.AdamW, "lion": fb.Lion, "own": OwnOptimizer}[kind](rate, **options)


class Case:
    """One program with its data and settings: all of it from a seed.

    Parameters
    ----------
    seed : int
    own, dropout : bool, default True
        As for `Layers`.

    Attributes
    ----------
    dtype : str
    X, y, loss, options : object
        For `fit`.
    ended : str or None
        Why the last training diverged, if it did.
    """

    def __init__(self, seed, own=True, dropout=True):
        self.seed, self._own, self._dropout, self.ended = seed, own, dropout, None
        draw, rng = random.Random(f"settings {seed}"), np.random.default_rng(seed)
        self.dtype = draw.choice(["float32", "float64"])
        net, codes = self.network(), self._layers()[1]
        rows = draw.choice([2, 7, 37, 64, 64, 300])
        self.X = rng.normal(size=(rows, net.n_in or 4)).astype(draw.choice(["f4", "f8"]))
        for column, n in codes.items():
            self.X[:, column] = rng.integers(0, n, rows)
        if draw.random() < 0.1:
            self.X = np.abs(self.X).astype("u1")  # codes stay what they are
        n_out = net.n_out or self.X.shape[1]
        self.loss, self.y = LOSSES[draw.choice(sorted(LOSSES))](rng, rows, n_out)
        self.options = {
            "batch_size": draw.choice([1, 7, 16, 64, 256, 1000]) if rows < 300 else
                          draw.choice([32, 64, 257, 300]),
            "sample_weight": draw.choice([None, rng.integers(0, 3, rows) + (np.arange(rows) < 1)]),
            "l2": draw.choice([0.0, 0.0, 0.01, 1.0]),
            "validation_fraction": draw.choice([0.0, 0.0, 0.5]),
            "shuffle": draw.random() < 0.8,
            "gradient_norms": draw.random() < 0.5,
            "epochs": 2,
        }

    def __repr__(self):
        with np.printoptions(threshold=5):
            return (f"Case({self.seed}): {self.network()!r}\n  X {self.X.shape} {self.X.dtype}, "
                    f"{self.loss}, {self.optimizer()}\n  {self.options}")

    def _layers(self):
        layers, codes = Layers(random.Random(f"layers {self.seed}"), self._own,
                               self._dropout).network()
        draw, n_in = random.Random(f"numbers {self.seed}"), fb.layers.chain(layers)[0]
        if not codes and n_in is not None and draw.random() < 0.6:
            layers = embedded_numbers(draw, n_in) + layers
        draw = random.Random(f"ensemble {self.seed}")
        n_out = fb.layers.chain(layers)[1]
        if n_out is not None and draw.random() < 0.3:
            layers = layers + ensemble(draw, n_out)
        return layers, codes

    def network(self, dtype=None):
        """A new network."""
        net = fb.Sequential(self._layers()[0], dtype or self.dtype, seed=self.seed)
        if net.dtype == "float32":
            draw = random.Random(f"precision {self.seed}")
            net.precision = draw.choice(["highest", "highest", "high", "medium"])
        for _, layer in net.leaves:
            if isinstance(layer, fb.PeriodicEmbedding):
                layer.gamma = 0.7  # which is 0 initially, and would hide the rest
        return net

    def optimizer(self):
        """A new optimizer."""
        return an_optimizer(random.Random(f"optimizer {self.seed}"))

    def train(self, n_threads, by_interpreter=False):
        """All results of a training, by name."""
        net, optimizer = self.network(), self.optimizer()
        given, training.run.new_steps = training.run.new_steps, (
            reference.new_steps if by_interpreter else training.run.new_steps)
        try:
            history = net.fit(self.X, self.y, loss=self.loss, optimizer=optimizer, seed=1,
                              n_threads=n_threads, **self.options)
            self.ended = None
        except FloatingPointError as error:  # a random network may diverge; both must, alike
            history, self.ended = net.history, str(error)
        finally:
            training.run.new_steps = given
        Z = (net.forward(self.X, training=False) if by_interpreter
             else net.predict(self.X, n_threads=n_threads))
        return {
            "parameters": net.parameters.tobytes(),
            "gradients": None if self.ended else net.gradients.tobytes(),
            "buffers": net.buffers.tobytes(),
            "state": {name: array.tobytes() for name, array in optimizer.state.items()},
            "optimizer.steps": optimizer.steps,
            "layers' steps": [layer.step for _, layer in net.leaves],
            "history": {name: np.array(values).tobytes() for name, values in history.items()
                        if name != "seconds"},
            "ended": self.ended,
            "predictions": np.where(np.isnan(Z), np.nan, Z).tobytes(),
        }

    def differences(self):
        """Where the results of the executor and of the interpreter differ."""
        found, used = [], dispatch.isa()
        paid = threads.set_work_per_thread(0)  # however little there is to do
        try:
            with np.errstate(all="ignore"):
                dispatch.use("scalar")
                expected = self.train(1, by_interpreter=True)
                for isa in dispatch.available():
                    dispatch.use(isa)
                    for n_threads in (1, 2, 3, 4):
                        got = self.train(n_threads)
                        names = [name for name in expected if got[name] != expected[name]]
                        if names:
                            found.append(f"{isa}, {n_threads} threads: {', '.join(names)}")
        finally:
            dispatch.use(used)
            threads.set_work_per_thread(paid)
        return found


if __name__ == "__main__":
    sys.exit(main())
