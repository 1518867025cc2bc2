"""The actions of bench/fuzz_calls.py: calls and assignments, listed in TABLE at the end."""

import contextlib
import copy
import os
import pickle

import numpy as np
import sklearn.base
from fuzz_pieces import (
    Actor,
    Odd,
    OwnDense,
    Scale,
    a_value,
    an_array,
    good,
    in_some_form,
    numbers,
    rows_of,
    short,
    some_callbacks,
    some_data,
    some_layer,
    some_layers,
    some_loss,
    some_model,
    some_net,
    some_optimizer,
    some_parameters,
    some_weights,
    some_X,
    unscaled,
)

import fastbp as fb
from fastbp import estimators, training
from fastbp.kernels import checks

# Actions: each takes the world, makes its calls with `world.do`, and returns what to compare


def a_network(world):
    net = world.do(fb.Sequential, some_layers(world), a_value(world, "dtype")
                   if world.rng.random() < 0.1 else good(world, "dtype"), seed=good(world, "seed"))
    world.nets = [*world.nets[-2:], net]
    return net.parameters


def odd_options(world, options, names, chance=0.25):
    """Some more options, mostly good ones."""
    for name in names:
        if world.rng.random() < chance:
            options[name] = good(world, name)
    if world.rng.random() < 0.12:
        name = world.rng.choice([*names, *options])
        options[name] = a_value(world, name)
    return options


def fit(world, net=None, **more):
    if world.depth > 3:
        return predict(world)
    net = net or some_net(world)
    loss = some_loss(world)
    X, y, weights = some_data(world, net, loss)
    options = {"loss": loss, "optimizer": some_optimizer(world), "epochs": good(world, "epochs"),
               "batch_size": world.rng.choice([3, 4, 8, 8, 32, 100]), "sample_weight": weights,
               "callbacks": some_callbacks(world)}
    if world.rng.random() < 0.2:
        X_val, y_val, w_val = some_data(world, net, loss)
        options["validation_data"] = (X_val, y_val) if w_val is None else (X_val, y_val, w_val)
    options = odd_options(world, options, [
        "l2", "validation_fraction", "shuffle", "verbose", "seed", "gradient_norms", "n_threads"])
    if "split weights" in world.left_out and "validation_fraction" in options:
        options["sample_weight"] = None
    world.lenient = isinstance(unscaled(loss), fb.PoissonDeviance)
    return world.do(net.fit, X, y, **(options | more))


def fit_again(world):
    """From checkpoints, perhaps of another training."""
    net, folder = some_net(world), os.path.join(world.folder, "checkpoints")
    loss = some_loss(world)
    X, y, _ = some_data(world, net, loss)
    options = {"loss": loss, "checkpoint": folder, "resume": True, "seed": 0, "batch_size": 8}
    results = []
    for epochs in (1, 3):
        optimizer = some_optimizer(world)
        callbacks = some_callbacks(world) if world.rng.random() < 0.4 else []
        results.append(world.do(net.fit, X, y, optimizer=optimizer, epochs=epochs,
                                callbacks=callbacks, **options))
        if world.rng.random() < 0.2:
            net = world.do(copy.deepcopy, net)
            world.nets = [*world.nets[-2:], net]
    return results


def fit_while_arrays_are_resized(world):
    """Arrays of nobody else, which a callback may thus resize."""
    rng = world.rng
    net = fb.mlp([3, 4, 2], rng.choice(["relu", "tanh"]), dtype=good(world, "dtype"), seed=0)
    X, y = (numbers(world).normal(size=(12, k)).astype(rng.choice(["f4", "f8"])) for k in (3, 2))
    w = np.ones(12, net.dtype)
    array = rng.choice([X, y, w])
    shape = rng.choice([(1,), (0,), (3,), (1000, 3), (12,), (24,), (100_000,)])

    def resize(training):
        if training.epoch == 1:
            array.resize(shape, refcheck=False)
            if rng.random() < 0.5:
                training.l2 = 0.5

    world.nets = [*world.nets[-2:], net]
    return world.do(net.fit, X, y, loss=fb.MeanSquaredError(), sample_weight=w, epochs=3,
                    batch_size=5, callbacks=[resize], seed=0)


def predict(world):
    net = some_net(world)
    X = some_X(world, net)
    options = {}
    if world.rng.random() < 0.3:
        options["activation"] = world.rng.choice(["softmax", "sigmoid", "exp", a_value(world)])
        world.lenient = options["activation"] == "exp" if isinstance(
            options["activation"], str) else False
    if world.rng.random() < 0.2:
        options["n_threads"] = a_value(world, "n_threads")
    if world.rng.random() < 0.2:
        shape = rows_of(X), net.n_out or X.shape[1] if hasattr(X, "shape") else 1
        options["out"] = an_array(world, shape, [net.dtype.str[1:]])
        if world.rng.random() < 0.3:
            options["out"] = world.rng.choice([net.parameters, X, *world.arrays])
    return world.do(net.predict, X, **options)


def evaluate(world):
    net, loss = some_net(world), some_loss(world)
    X, y, weights = some_data(world, net, loss)
    world.lenient = isinstance(unscaled(loss), fb.PoissonDeviance)
    return world.do(net.evaluate, X, y, loss=loss, sample_weight=weights)


def go_forward_and_backward(world):
    net = some_net(world)
    X = some_X(world, net)
    results = []
    if world.rng.random() < 0.1:
        net = world.do(copy.copy, net)  # in which no `forward`, nor a fit by layers, kept a thing
    else:
        results.append(world.do(net.forward, X, training=True))
        if world.rng.random() < 0.2:
            results.append(world.do(net.forward, X, training=False))
    shape = results[0].shape if results else (3, 2)
    dZ = an_array(world, shape, [net.dtype.str[1:]])
    if world.rng.random() < 0.1:
        dZ = a_value(world)
    results.append(world.do(net.backward, dZ, input_gradient=world.rng.random() < 0.5))
    return results


def save_and_load(world):
    path = os.path.join(world.folder, f"model-{world.rng.randrange(2)}")
    if world.rng.random() < 0.7:
        world.do(some_net(world).save, path)
    net = world.do(fb.load, path, [Scale, Odd, OwnDense])
    net._entropy = 0  # which no file holds
    world.nets = [*world.nets[-2:], net]
    return net.parameters


def make_a_copy(world):
    what = world.rng.choice([some_net, some_net, some_optimizer, some_loss, some_layer])(world)
    how = world.rng.choice([copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
    made = world.do(how, what)
    if isinstance(made, fb.Sequential):
        if world.rng.random() < 0.4:
            made = world.do(made.astype, a_value(world, "dtype"))
        world.nets = [*world.nets[-2:], made]
    elif isinstance(made, fb.Optimizer):
        world.optimizers = [*world.optimizers[-3:], made]
    return None


def look(world):
    net = some_net(world)
    what = world.rng.choice([net.summary, net.__repr__, net.reseed, some_loss(world).__repr__])
    if what == net.reseed:
        seed = a_value(world, "seed")
        return world.do(net.reseed, seed).random()
    return world.do(what)


def replace_layers(world):
    net, rng = some_net(world), world.rng
    layers = list(net.layers)
    how = rng.randrange(6)
    at = rng.randrange(len(layers))
    if how < 2:
        layers[at] = some_layer(world, layers[at].n_in, layers[at].n_out)
    elif how == 2:
        layers.insert(at, some_layer(world, layers[at].n_in))
    elif how == 3:
        del layers[at]
    elif how == 4:
        layers[at] = rng.choice([*some_net(world).layers, some_layer(world)])
    else:
        layers = rng.choice([some_layers(world), a_value(world)])
    world.do(setattr, net, "layers", layers)
    return [short(layer) for layer in net.layers]


def an_object(world):
    """One whose attributes can be set."""
    rng = world.rng
    if world.trainings and rng.random() < 0.5:
        training = world.trainings[-1]
        return rng.choice([training] * 3 + [training.network, training.optimizer, training.history,
                                            training.loss, *training.network.layers])
    net = some_net(world)
    return rng.choice([net, *net.layers, *net.layers, some_optimizer(world), some_optimizer(world),
                       some_loss(world), *world.callbacks[-1:], *world.trainings[-1:]])


# Attributes of classes which their methods use, and the compiled code does not; and `cache`, which
# the compiled code leaves as it was.
NOT_TO_BE_SET = {"validators", "arguments", "name", "operation", "from_output", "decoupled",
                 "state_names", "kept", "cache"}
names_of_types = {}


def names_of(something):
    """The names of its public attributes that are not methods."""
    cls = type(something)
    if cls not in names_of_types:
        names_of_types[cls] = [
            name for name in dir(cls)
            if not name.startswith("_") and name not in NOT_TO_BE_SET
            and (name == "metric" or not callable(getattr(cls, name)))]
    own = [name for name in getattr(something, "__dict__", ())
           if not name.startswith("_") and name not in NOT_TO_BE_SET
           and not (isinstance(something, Actor) and name in ("world", "often"))]
    return sorted({*names_of_types[cls], *own, "nonsense"})


def assign(world):
    something = an_object(world)
    name = world.rng.choice(names_of(something))
    if name == "history" and isinstance(something, fb.Sequential):
        return None
    value = a_value(world, name)
    if "unchecked settings" in world.left_out:
        if name in ("nesterov", "epsilon_hat", "steps"):
            value = world.rng.randrange(2)
        elif name in ("state", "layer_names"):
            return None
    if name == "momentum" and "momentum to 0" in world.left_out:
        value = world.rng.choice([0.5, 0.9]) if getattr(something, name, 0) else None
    if "cycles" in world.left_out and isinstance(something, checks.Validated) and isinstance(
            value, checks.Validated | fb.Sequential):
        value = None
    current = None
    with contextlib.suppress(Exception):
        current = getattr(something, name)
    if isinstance(current, np.ndarray):
        if world.rng.random() < 0.6:
            value = an_array(world, current.shape)
        if value is None and "None as a number" in world.left_out:
            value = 1
        if isinstance(value, int) and "numbers too large" in world.left_out:
            value = value % 2**64
    world.do(setattr, something, name, value)
    return None


def delete(world):
    something = an_object(world)
    name = world.rng.choice(names_of(something))
    if "settings deleted" in world.left_out and isinstance(something, checks.Validated):
        return
    world.do(delattr, something, name)


def arrays_within_reach(world, to_be="written"):
    found = [*world.arrays]
    if to_be == "written" or "flat arrays" not in world.left_out:
        found += [array for net in world.nets for array in (net.parameters, net.gradients)]
    if to_be == "written" or "layers' arrays" not in world.left_out:
        found += [getattr(layer, name) for net in world.nets for layer in net.layers
                  for name in layer.parameter_shapes if name in vars(layer)]
    found += [array for each in world.optimizers
              if isinstance(state := getattr(each, "state", None), dict)
              for array in state.values()]
    return [array for array in found if isinstance(array, np.ndarray)] or [np.zeros(3)]


def change_what_an_array_is(world):
    """Its dtype, shape or strides, within its memory."""
    array, rng = world.rng.choice(arrays_within_reach(world, "turned into others")), world.rng
    if array.dtype.hasobject or (array.dtype.kind == "f" and np.isnan(array).any()):
        return  # which NaN it is may differ
    world.wild = True
    how = rng.randrange(3)
    if how == 0:
        world.do(setattr, array, "dtype", rng.choice(["f4", "f8", "i4", "i8", "u1", ">f4", "?"]))
    elif how == 1:
        world.do(setattr, array, "shape", rng.choice([(-1,), (-1, 1), (1, -1), (2, -1), (-1, 2),
                                                      array.shape[::-1], (1, 1, -1)]))
    elif array.ndim:
        world.do(setattr, array, "strides", rng.choice(
            [array.strides[::-1], (0,) * array.ndim, (array.itemsize,) * array.ndim,
             (array.itemsize // 2,) * array.ndim, array.strides]))


def change_numbers(world):
    """Those of an array that somebody may be using."""
    array = world.rng.choice(arrays_within_reach(world))
    value = a_value(world) if world.rng.random() < 0.3 else world.rng.choice([0, 1, 0.5, 2, -1, 7])
    where = world.rng.choice([..., 0, -1, slice(0, 1)])
    with contextlib.suppress(Exception):  # NumPy's own
        # None is NaN to NumPy, and Adam takes roots of what is in its state.
        world.wild |= value is None or not any(array is each for each in world.arrays)
        array[where] = value


def step_by_hand(world):
    optimizer, net = some_optimizer(world), some_net(world)
    rng = world.rng
    parameters, gradients = net.parameters, net.gradients
    if rng.random() < 0.15:
        parameters = rng.choice([an_array(world, net.parameters.shape), a_value(world), gradients])
    if rng.random() < 0.3:
        gradients = rng.choice([an_array(world, net.parameters.shape), a_value(world),
                                gradients[:1]])
    epoch = rng.choice([0.0, 1.5, a_value(world)])
    if "late epochs" in world.left_out and isinstance(epoch, int | float | np.number):
        epoch = min(max(epoch, 0), 99)
    return world.do(optimizer.step, parameters, gradients, epoch)


def change_state(world):
    """Of an optimizer."""
    optimizer, other = some_optimizer(world), some_optimizer(world)
    world.wild = True  # Adam takes roots of what is there
    if not all(hasattr(each, "state") for each in (optimizer, other)):
        return
    if world.rng.random() < 0.2:
        world.do(setattr, optimizer, "state", other.state)
    elif isinstance(optimizer.state, dict) and optimizer.state:
        name = world.rng.choice([*optimizer.state, "m"])
        if world.rng.random() < 0.3:
            optimizer.state.pop(name, None)
        else:
            array = optimizer.state.get(name)
            optimizer.state[name] = an_array(world, array.shape) if isinstance(
                array, np.ndarray) and world.rng.random() < 0.6 else a_value(world)


def minimise(world):
    net, loss = some_net(world), some_loss(world)
    X, y, weights = some_data(world, net, loss)
    if "dropout in lbfgs" in world.left_out and any(
            isinstance(layer, fb.Dropout) for layer in net.layers):
        return None
    world.lenient = 2 * isinstance(unscaled(loss), fb.PoissonDeviance)
    result = world.do(training.lbfgs, net, X, y, loss=loss, sample_weight=weights, max_iter=2,
                      **odd_options(world, {}, ["l2", "tol"]))
    if world.lenient:
        net.gradients[...] = 0  # of a rate that overflowed, where no step was made
    return [result.x, result.fun, result.nit]


def call_training(world):
    """A method of a running training, or what its callbacks may set."""
    training = world.trainings[-1]
    how = world.rng.randrange(5)
    if how == 0:
        world.do(training.stop, a_value(world))
    elif how == 1:
        name = world.rng.choice([*training.history, "x"])
        training.history[name] = world.rng.choice([[], [1.0], None, a_value(world)])
    elif how == 2:
        training.history.pop(world.rng.choice([*training.history, "x"]), None)
    else:
        name = world.rng.choice(["batch_size", "l2", "loss"])
        value = a_value(world, name) if name != "loss" else some_loss(world)
        world.do(setattr, training, name, value)
        return [training.steps_per_epoch, training.l2]
    return None


def fit_what_is_trained(world):
    return fit(world, world.trainings[-1].network, optimizer=world.trainings[-1].optimizer)


# Estimators


def rows_and_targets(world, model):
    rng = world.rng
    n = rng.choice([2, 9, 20, 20])
    X = in_some_form(world, an_array(world, (n, rng.choice([3] * 12 + [2, 0]))))
    how = rng.randrange(12)
    draw = numbers(world)
    if how == 0:
        return X, a_value(world)
    if how < 3:
        return X, draw.integers(0, 2, (n, 2))
    if how == 3:
        return X, an_array(world, (n,) if rng.random() < 0.5 else (n, 2))
    if isinstance(model, estimators.MLPRegressor):
        return X, in_some_form(world, np.abs(draw.normal(size=n)))
    labels = np.array(rng.choice([[0, 1], [0, 1, 2], ["a", "b"], [0]]))
    return X, labels[draw.integers(0, len(labels), n)]


def state_of(model):
    return {name: value for name, value in vars(model).items() if name in (
        "coefs_", "intercepts_", "loss_curve_", "n_iter_", "t_", "out_activation_")}


def fit_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    options = {}
    if world.rng.random() < 0.2:
        options["sample_weight"] = some_weights(world, rows_of(X))
    if world.rng.random() < 0.15:
        options["X_val"], options["y_val"] = rows_and_targets(world, model)
    world.do(model.fit, X, y, **options)
    return state_of(model)


def partial_fit_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    options = {}
    if isinstance(model, estimators.MLPClassifier) and world.rng.random() < 0.8:
        options["classes"] = world.rng.choice([[0, 1], [0, 1, 2], ["a", "b"], a_value(world)])
    if world.rng.random() < 0.2:
        options["epochs"] = a_value(world, "epochs")
    world.do(lambda: model.partial_fit(X, y, **options))
    return state_of(model)


def predict_estimator(world):
    model = some_model(world)
    X, y = rows_and_targets(world, model)
    name = world.rng.choice(["predict", "predict", "predict_proba", "predict_log_proba", "score"])
    if not hasattr(model, name):
        return None
    world.lenient = name == "predict_log_proba" or "poisson" in repr(vars(model))
    return world.do(getattr(model, name), X, *[y] * (name == "score"))


def assign_to_estimator(world):
    model, rng = some_model(world), world.rng
    how = rng.randrange(4)
    if how == 0:
        world.do(model.set_params, **some_parameters(world, type(model), 2))
    elif how == 1:
        name = rng.choice(names_of(model))
        value = a_value(world, name)
        # How many columns there are scikit-learn's checks alone ask n_features_in_.
        if name not in ("max_iter", "max_fun", "n_features_in_"):
            world.do(setattr, model, name, value)
    elif "coefs_" in vars(model) and isinstance(model.coefs_, list) and model.coefs_:
        arrays = rng.choice([model.coefs_, model.intercepts_])
        if isinstance(arrays, list) and arrays:
            at = rng.randrange(len(arrays))
            array = arrays[at]
            arrays[at] = an_array(world, array.shape) if isinstance(array, np.ndarray) and (
                rng.random() < 0.7) else a_value(world)


def copy_estimator(world):
    model = some_model(world)
    made = world.do(world.rng.choice([sklearn.base.clone, copy.deepcopy]), model)
    world.models = [*world.models[-2:], made]
    return state_of(made)


def network_of_estimator(world):
    net = world.do(some_model(world).to_network)
    net._entropy = 0  # its weights are scikit-learn's, and this is drawn by nobody's seed
    world.nets = [*world.nets[-2:], net]
    return net.parameters


TABLE = {  # how often each is drawn
    fit: 8, predict: 4, evaluate: 3, go_forward_and_backward: 3, make_a_copy: 2, look: 1,
    replace_layers: 2, assign: 8, delete: 1, change_what_an_array_is: 2, change_numbers: 2,
    step_by_hand: 2, change_state: 2, a_network: 1, save_and_load: 1, minimise: 1,
    fit_again: 1, fit_while_arrays_are_resized: 1,
}
ACTIONS = [action for action, n in TABLE.items() for _ in range(n)]
IN_CALLBACKS = [*ACTIONS, *[call_training] * 12, *[assign] * 4, fit_what_is_trained]
ESTIMATORS = [*[fit_estimator] * 8, *[partial_fit_estimator] * 4, *[predict_estimator] * 6,
              *[assign_to_estimator] * 6, copy_estimator, network_of_estimator, *ACTIONS[::4]]
