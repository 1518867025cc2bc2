"""Values for bench/fuzz_calls.py: arrays, layers, losses, optimizers, callbacks.

Each function that makes something takes the world, and draws from its random numbers alone.
"""

import copy
import math

import numpy as np
import pandas as pd
import scipy.sparse

import fastbp as fb
from fastbp import estimators, losses, metrics, schedules

# Layers, losses, optimizers and callbacks of the user's own


class Scale(fb.Layer):
    """As in the documentation."""

    def __init__(self, n):
        super().__init__(n_in=n, n_out=n, scale=(n,))
        self.n = n

    def initialize(self, rng):
        self.scale = 1.0

    def forward(self, X, training=True):
        self.cache = X
        return X * self.scale

    def backward(self, dZ):
        self.dscale = (dZ * self.cache).sum(axis=0)
        return dZ * self.scale


def falling(epoch):
    """A learning rate."""
    return 0.1 / (1 + epoch)


def normal(rng, n_in, n_out):
    """Initial weights."""
    return rng.normal(size=(n_in, n_out))


def wrong(how, array):
    """What a layer or a loss should not return, or may just so."""
    if how == "writes":
        array[...] = 0
    return {"None": None, "list": array.tolist(), "shape": array[:, :0], "rows": array[1:],
            "dtype": array.astype("f2"), "other": array.astype("f8"), "text": "x", "itself": array,
            "flat": array.ravel(), "fortran": np.asfortranarray(array),
            "strided": np.repeat(array, 2, axis=1)[:, ::2],
            "masked": np.ma.masked_array(array)}.get(how, array)


WRONGS = ["None", "list", "shape", "rows", "dtype", "other", "text", "itself", "flat", "fortran",
          "strided", "masked", "writes", "raises"]


class Odd(fb.Layer):
    """Returns what it should not, from `forward` or `backward`."""

    def __init__(self, how, where):
        super().__init__()
        self.how, self.where = how, where

    def forward(self, X, training=True):
        if self.how == "raises" and self.where == "forward":
            raise KeyError("forward")
        return wrong(self.how, X) if self.where == "forward" else X

    def backward(self, dZ):
        return wrong(self.how, dZ) if self.where == "backward" else dZ


class OwnDense(fb.Dense):
    """A class derived from one of the library's."""


class OwnSGD(fb.SGD):
    """Likewise."""


class OwnLoss(fb.Loss):
    """The mean of Z²/2, in all ways to return it."""

    def __init__(self, how="fine"):
        self.how = how

    def __call__(self, Z, y, sample_weight=None):
        dZ = Z / Z.dtype.type(len(Z))
        value = float((Z * dZ).sum(dtype=float)) / 2
        if self.how == "raises":
            raise KeyError("loss")
        return value if self.how == "text" else (value, wrong(self.how, dZ))


class Actor(fb.Callback):
    """A callback that does anything."""

    def __init__(self, world, often):
        self.world, self.often = world, often

    def __reduce__(self):
        return fb.Callback, ()

    def __deepcopy__(self, memo):
        return self

    def now(self, training):
        world = self.world
        while world.rng.random() < self.often:
            world.trainings.append(training)
            try:
                error = world.act(world.in_callbacks)
            finally:
                del world.trainings[-1]
            if error is not None and world.rng.random() < 0.15:
                raise error

    on_train_begin = on_epoch_begin = on_epoch_end = on_train_end = now


# What is drawn


FINE = [0, 1, 2, 3, 0.0, 0.5, 0.9, 1e-3, 1.0, 10.0, True, False, np.float32(0.5), np.int64(2)]
ODD = [None, -1, -0.5, -1e-9, "x", "", b"x", (), [], {}, [1, 2], {"a": 1}, 1j, np.array(0.5),
       np.array([1]), np.bool_(True), object, len, Ellipsis, 1.5, 1e-45, 1e-320, -0.0, range(3)]
WILD = [math.nan, math.inf, -math.inf, 1e30, 1e38, -1e300, 1e300, 10**30, -10**30, 2**31, 2**62,
        2**63 - 1, 2**63, 2**64, 10**400, np.float64("nan"), np.float32("inf")]
GOOD = {  # for what is called so
    "learning_rate": [0.01, 0.1, 0.0, 0.3, schedules.Step(0.1, 1), falling],
    "momentum": [0.0, 0.5, 0.9, 1.0], "nesterov": [True, False], "weight_decay": [0.0, 0.01, 0.5],
    "clip_norm": [None, 0.1, 1.0, 100.0], "beta1": [0.0, 0.5, 0.9], "beta2": [0.0, 0.9, 0.999],
    "epsilon": [1e-8, 0.1], "epsilon_hat": [True, False], "rate": [0.0, 0.1, 0.5],
    "alpha": [0.0, 0.01, 0.5, 1.0, -0.5], "key": [0, 5, 2**64 - 1], "step": [0, 3, 2**40],
    "l2": [0.0, 0.1, 1.0], "batch_size": [1, 3, 4, 5, 100, 10**30], "epochs": [1, 2, 3],
    "label_smoothing": [0.0, 0.1, 0.5], "cap": [None, 1.0, 5], "delta": [0.1, 1.0, 2],
    "quantiles": [0.5, 0.9, (0.25,), [0.1, 0.9], [0.1, 0.5, 0.9]],
    "value": [1.0, 2.0], "gradient": [1.0, 0.5], "patience": [1, 2, 10], "monitor": ["loss"],
    "min_delta": [0.0, 0.1], "tol": [0.0, 1e-4, 0.1], "factor": [None, 0.5], "steps": [0, 1, 5],
    "metric": [None, metrics.Accuracy, metrics.R2, metrics.SubsetAccuracy],
    "init": ["he_uniform", "glorot_normal", normal],
    "seed": [0, 1, 7], "shuffle": [True, False, lambda n: np.arange(n)[::-1]],
    "dtype": ["float32", "float64", np.float64], "gradient_norms": [True, False],
    "verbose": [0, 1, 2, 3], "n_threads": [1, 2, 3, None], "validation_fraction": [0.0, 0.2, 0.5],
}


def a_value(world, name=""):
    """Something to pass or assign, good or not."""
    rng = world.rng
    if name in GOOD and rng.random() < 0.6:
        return rng.choice(GOOD[name])
    how = rng.randrange(12)
    if how < 3:
        return rng.choice(FINE)
    if how < 6:
        return copy.copy(rng.choice(ODD))
    if how < 8:
        value = rng.choice(WILD)
        world.wild = True
        return min(value, 3) if name in ("epochs", "n_threads") and value != math.inf else value
    if how < 10:
        return an_array(world, rng.choice([(3,), (2, 2), (1,), (0,), (4, 1), (2, 1, 2)]))
    return rng.choice([some_layer, some_net, some_loss, some_optimizer, a_class])(world)


def a_class(world):
    return world.rng.choice([fb.Dense, fb.Adam, fb.SoftmaxCrossEntropy, fb.Sequential, int])


def numbers(world):
    return np.random.default_rng(world.rng.randrange(2**32))


def an_array(world, shape, kinds=("f4", "f8")):
    """Numbers in one of these dtypes; now and then in another, or with some that are wild."""
    rng = world.rng
    array = numbers(world).normal(size=shape)
    kind = rng.choice(kinds) if rng.random() < 0.9 else rng.choice(
        ["i4", "i8", "?", "u1", "f2", ">f4", "g", "O", "c8"])
    array = np.abs(array) if kind == "u1" else array
    array = array.astype(kind) if kind == "?" else np.asarray(array * (1 + (kind[0] in "iu")), kind)
    if array.size and kind in ("f4", "f8") and rng.random() < 0.05:
        array.flat[rng.randrange(array.size)] = rng.choice([math.nan, math.inf, 1e30, -1e38])
        world.wild = True
    world.arrays = [*world.arrays[-11:], array]
    return array


def in_some_form(world, array):
    """As people keep their data."""
    how = world.rng.randrange(22)
    if how == 0:
        return array.tolist()
    if how == 1:
        return np.asfortranarray(array)
    if how == 2 and array.ndim:
        return np.repeat(array, 2, axis=0)[::2]
    if how == 3 and array.ndim:
        return array[::-1]
    if how == 4 and array.dtype.kind in "fiu" and array.dtype.isnative and array.ndim in (1, 2):
        return pd.DataFrame(array) if array.ndim == 2 else pd.Series(array)
    if how in (5, 6) and array.ndim == 2 and array.dtype.kind in "fiu" and array.dtype.isnative:
        made = world.rng.choice([scipy.sparse.csr_array, scipy.sparse.csc_matrix,
                                 scipy.sparse.coo_array])
        return made(array * (array > 0)) if array.dtype.itemsize in (4, 8) else array
    if how == 7:
        array = array.copy()
        array.flags.writeable = False
    return array


def some_X(world, net, n=None):
    rng = world.rng
    n = rng.choice([1, 2, 3, 8, 17, 24]) if n is None else n
    columns = net.n_in or rng.randrange(1, 5)
    if rng.random() < 0.04:
        n, columns = rng.choice([(0, columns), (n, columns + 1), (n, 0), (n, max(1, columns - 1))])
    X = an_array(world, (n, columns), [net.dtype.str[1:], net.dtype.str[1:], "f4", "f8"])
    return X if rng.random() < 0.5 else in_some_form(world, X)


def unscaled(loss):
    for _ in range(9):  # a loss may have been made to scale itself
        loss = getattr(loss, "loss", None) if isinstance(loss, losses.Scaled) else loss
    return loss


def some_y(world, loss, n, n_out):
    """Targets for a loss."""
    rng = world.rng
    loss = unscaled(loss)
    n += rng.choice([-1, 1]) if rng.random() < 0.02 else 0
    rows = max(0, n)
    draw = numbers(world)
    if isinstance(loss, fb.SoftmaxCrossEntropy):
        y = draw.integers(0, n_out, rows)
        if rng.random() < 0.25:
            y = np.eye(n_out, dtype="f4")[y]
        elif rng.random() < 0.05 and rows:
            y[rng.randrange(rows)] = rng.choice([-1, n_out, 2**62])
    elif isinstance(loss, fb.SigmoidCrossEntropy):
        y = draw.integers(0, 2, (rows, n_out))
    elif isinstance(loss, fb.PoissonDeviance):
        y = draw.integers(0, 5, (rows, n_out))
    else:
        y = an_array(world, (rows, n_out))
        if isinstance(loss, fb.PinballLoss) and rng.random() < 0.5:
            y = y[:, :1]
    if n_out == 1 and rng.random() < 0.5:
        y = y.reshape(-1)
    if rng.random() < 0.03:
        return a_value(world)
    if y.dtype == np.int64 and rng.random() < 0.5:
        y = y.astype(rng.choice(["f4", "f8", "i4", "u1"]))
    if (y.ndim == 1 and isinstance(loss, fb.SoftmaxCrossEntropy)) or (
            "targets out of range" not in world.left_out):
        world.arrays = [*world.arrays[-11:], y]
    return y if rng.random() < 0.6 else in_some_form(world, y)


def some_weights(world, n):
    if world.rng.random() < 0.7:
        return None
    weights = np.abs(an_array(world, (n,), ["f4", "f8"])) if n else np.ones(0)
    factor = world.rng.choice([1, 1, 1, 0, -1])
    if weights.dtype.kind == "f":
        weights *= factor
    if n and world.rng.random() < 0.3:
        weights[: world.rng.randrange(n)] = 0
    return weights


def rows_of(X):
    return X.shape[0] if hasattr(X, "shape") else len(X)


def some_data(world, net, loss):
    X = some_X(world, net)
    n = rows_of(X)
    n_out = net.n_out or (X.shape[1] if hasattr(X, "shape") else len(X[0]) if n else 1)
    return X, some_y(world, loss, n, max(1, n_out)), some_weights(world, n)


def good(world, name):
    return world.rng.choice(GOOD[name])


def some_layer(world, n_in=None, n_out=None):
    """From n_in columns to n_out, where that can be chosen."""
    rng = world.rng
    n_in = rng.randrange(1, 6) if n_in is None else n_in
    makers = [lambda: fb.Dense(n_in, n_out or rng.randrange(1, 6), good(world, "init"))] * 8
    makers += [fb.ReLU, fb.Tanh, fb.Sigmoid, fb.GELU, fb.SiLU,
               lambda: fb.LeakyReLU(good(world, "alpha")), lambda: fb.ELU(good(world, "alpha")),
               lambda: fb.Dropout(good(world, "rate"))]
    if rng.random() < 0.1:
        makers = [lambda: Scale(n_in), lambda: OwnDense(n_in, n_out or 3),
                  lambda: Odd(rng.choice(WRONGS), rng.choice(["forward", "backward"]))]
    return rng.choice(makers)()


def some_layers(world):
    width, made = world.rng.randrange(1, 6), []
    for _ in range(world.rng.randrange(1, 6)):
        made.append(some_layer(world, width))
        width = made[-1].n_out or width
    return made


def some_net(world):
    if not world.nets or (len(world.nets) < 3 and world.rng.random() < 0.1):
        net = fb.Sequential(some_layers(world), good(world, "dtype"), seed=good(world, "seed"))
        world.nets.append(net)
    return world.rng.choice(world.nets)


def some_loss(world):
    rng = world.rng
    if len(world.losses) < 3 or rng.random() < 0.2:
        plain = [lambda: fb.SoftmaxCrossEntropy(good(world, "label_smoothing"), good(world, "cap")),
                 lambda: fb.SoftmaxCrossEntropy(), lambda: fb.SigmoidCrossEntropy(),
                 lambda: fb.SigmoidCrossEntropy(good(world, "cap")), fb.MeanSquaredError,
                 fb.MeanAbsoluteError, fb.PoissonDeviance, lambda: fb.Huber(good(world, "delta")),
                 lambda: fb.PinballLoss(good(world, "quantiles"))]
        makers = [*plain * 2, lambda: losses.Scaled(rng.choice(plain)(), 2.0, 0.5),
                  lambda: OwnLoss(rng.choice(["fine", *WRONGS]))]
        world.losses = [*world.losses[-4:], rng.choice(makers)()]
    return rng.choice(world.losses)


def some_optimizer(world):
    rng = world.rng
    if len(world.optimizers) < 2 or rng.random() < 0.2:
        common = {name: good(world, name)
                  for name in ("learning_rate", "weight_decay", "clip_norm")}
        made = rng.choice([fb.SGD, fb.SGD, fb.Adam, fb.Adam, fb.AdamW, OwnSGD])
        extra = {name: good(world, name) for name in (
            ["momentum", "nesterov"] if issubclass(made, fb.SGD) else ["beta1", "beta2"])}
        world.optimizers = [*world.optimizers[-3:], made(**common, **extra)]
    return rng.choice(world.optimizers)


def some_callbacks(world):
    rng = world.rng
    made = []
    if rng.random() < 0.6:
        made.append(Actor(world, rng.choice([0.1, 0.3, 0.5])))
    if rng.random() < 0.2:
        made.append(fb.EarlyStopping(rng.choice([1, 2]), monitor=rng.choice(["loss", "val_loss"])))
    if rng.random() < 0.2:
        made.append(fb.callbacks.Plateau(1, factor=good(world, "factor"),
                                         keep_best=rng.random() < 0.5))
    if rng.random() < 0.03:
        made.append(a_value(world))
    world.callbacks += [each for each in made if isinstance(each, fb.Callback)]
    rng.shuffle(made)
    return made


def short(value, length=70):
    if isinstance(value, np.ndarray):
        return f"array<{value.dtype.str} {value.shape} {value.strides}>"
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= length else text[:length] + "…"


# Estimators


PARAMETERS = {
    "hidden_layer_sizes": [(), (3,), (4, 2), 3, [5]], "solver": ["adam", "sgd", "adamw", "lbfgs"],
    "activation": ["relu", "tanh", "logistic", "identity", "gelu", ("relu",), ("tanh", "silu")],
    "alpha": [0.0, 1e-4, 0.5], "batch_size": ["auto", 4, 7, 100], "max_iter": [1, 2, 3],
    "learning_rate": ["constant", "adaptive", "invscaling", schedules.Step(0.01, 1)],
    "learning_rate_init": [0.001, 0.1], "shuffle": [True, False], "random_state": [0, 1, None],
    "warm_start": [True, False], "early_stopping": [True, False], "validation_fraction": [0.1, 0.4],
    "n_iter_no_change": [1, 3], "dropout": [0.0, 0.3], "clip_norm": [None, 1.0], "momentum": [0.9],
    "monitor": ["score", "loss"], "dtype": [None, "float32", "float64"], "n_threads": [None, 1, 2],
    "tol": [1e-4, 0.0], "verbose": [False], "beta_1": [0.9, 0.0], "epsilon": [1e-8],
    "power_t": [0.5], "nesterovs_momentum": [True, False], "max_fun": [1, 15000],
    "loss": ["squared_error", "poisson", "absolute_error", "huber"], "huber_delta": [1.0],
    "class_weight": [None, "balanced", {0: 2.0}], "label_smoothing": [0.0, 0.1],
}


def some_parameters(world, cls, n):
    """Parameters of an estimator."""
    known = cls._get_param_names()
    chosen = {name: world.rng.choice(PARAMETERS[name])
              for name in world.rng.sample([name for name in known if name in PARAMETERS], n)}
    if world.rng.random() < 0.1:
        name = world.rng.choice([name for name in known if name != "callbacks"])
        chosen[name] = a_value(world, name)
        if name in ("max_iter", "max_fun") and isinstance(chosen[name], int | float | np.number):
            chosen[name] = min(chosen[name], 2)
    if world.rng.random() < 0.2:
        chosen["callbacks"] = some_callbacks(world)
    return chosen


def some_model(world):
    if len(world.models) < 1 or (len(world.models) < 3 and world.rng.random() < 0.1):
        cls = world.rng.choice([estimators.MLPClassifier, estimators.MLPRegressor])
        given = some_parameters(world, cls, 4)
        usual = {"hidden_layer_sizes": 3, "max_iter": 2, "random_state": 0}
        world.models.append(cls(**usual | given))
    return world.rng.choice(world.models)
