"""The state of a training between two epochs: taken, checked and restored.
"""

import copy
import math

import numpy as np

from ..kernels import checks
from .described import shown

__all__ = ["check", "reason", "restore", "take"]

def take(run, rng, callbacks):
    """A training between two epochs: what JSON can hold, and arrays."""
    network, optimizer = run.network, run.optimizer
    optimizer.start(network.parameters)
    arrays = {"parameters": network.parameters}
    if network.buffers.size:
        arrays["buffers"] = network.buffers
    if run.trained is not None:
        arrays["trained"] = run.trained
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state.items()}
    kept = [{name: getattr(callback, name) for name in callback.kept} for callback in callbacks]
    for i, values in enumerate(kept):
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if value.dtype.kind not in "fiub":
                    raise TypeError(f"checkpoint: callback {i} ({type(callbacks[i]).__name__}): "
                                    f"{name}: expected an array of real numbers to be kept, got "
                                    f"{value.dtype}")
                # safetensors would write a view's memory, whatever its strides.
                arrays[f"callbacks.{i}.{name}"] = np.array(value, order="C")
                values[name] = None
    rate = optimizer.learning_rate
    state = {
        "rng": rng.bit_generator.state, "history": dict(run.history),
        "stopped": run.history.stopped if run.stopping else None,
        "steps": optimizer.steps, "learning_rate": None if callable(rate) else rate,
        "layer_steps": [layer.step for _, layer in network.leaves], "callbacks": kept,
        "batch_size": run.batch_size, "l2": run.l2, "arrays": sorted(arrays),
        "settings": [_settings(piece) for piece in _pieces(optimizer, network)],
    }
    return state, arrays


def _pieces(optimizer, network):
    """What has settings of its own."""
    return [optimizer, *(layer for _, layer in network.leaves)]


def _settings(piece):
    """The numbers of an optimizer or a layer that may be set as the training goes on."""
    values = {name: getattr(piece, name, None) for name in sorted(piece.validators)}
    return {name: value for name, value in values.items()
            if name not in KEPT_ELSEWHERE and isinstance(value, bool | int | float | None)}


# What `take` has by itself, and what follows from the seed.
KEPT_ELSEWHERE = {"learning_rate", "state", "steps", "key", "step"}


def check(state, arrays, epoch, network, optimizer, callbacks, history):
    """Raise unless this is what `take` makes of such a training after so many epochs.

    Nothing that this lets through may make `restore` fail.
    """
    _expect("the names of its arrays", state.get("arrays", sorted(arrays)), sorted(arrays))
    if "settings" in state:  # older versions did not keep them
        _list("settings", state["settings"], 1 + len(network.leaves))
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            _check_settings(piece, settings)
        optimizer = copy.copy(optimizer)  # which state it has depends on its settings
        vars(optimizer).update(state["settings"][0])
    for name in ("parameters", *(f"optimizer.{name}" for name in optimizer.state_names)):
        checks.exactly(name, arrays.get(name), network.parameters.shape, network.dtype)
    if network.buffers.size:
        checks.exactly("buffers", arrays.get("buffers"), network.buffers.shape, network.dtype)
    if "trained" in arrays:
        checks.exactly("trained", arrays["trained"], network.parameters.shape, network.dtype)
    for name in ("steps", "reseeded"):
        _count(name, state[name])
    _require("entropy", _is_whole(state["entropy"]) and state["entropy"] >= 0,
             "a whole number of at least 0", state["entropy"])
    _list("layer_steps", state["layer_steps"], len(network.leaves), _count)
    if state["learning_rate"] is not None:
        _not_negative("learning_rate", state["learning_rate"])
    if "batch_size" in state:  # older versions did not keep these two
        _count("batch_size", state["batch_size"], 1)
    if "l2" in state:
        _not_negative("l2", state["l2"])
    _require("stopped", state["stopped"] is None or isinstance(state["stopped"], str),
             "a text or None", state["stopped"])
    _check_rng(state["rng"])
    _check_history(state["history"], epoch, history)
    _list("callbacks", state["callbacks"], len(callbacks))
    for i, callback in enumerate(callbacks):
        _check_callback(i, callback, state["callbacks"][i], arrays, network)


def _check_settings(piece, settings):
    """Raise unless these can be set."""
    name = f"settings of {type(piece).__name__}"
    _require(name, isinstance(settings, dict), "numbers by name", settings)
    _expect(f"{name}: the names", sorted(settings), sorted(_settings(piece)))
    for key, value in settings.items():
        try:
            piece.validators[key](key, value)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: {reason(error)}") from None


def _check_rng(state):
    trial = np.random.default_rng(0).bit_generator
    try:
        trial.state = state
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"rng: {reason(error)}") from None
    _expect("rng", state, trial.state)


def _check_history(saved, epoch, history):
    _require("history", isinstance(saved, dict), "columns by name", saved)
    for key, values in saved.items():
        _list(f"history[{key!r}]", values)
    for key in history:
        if key == "gradient_norms":
            _list(f"history[{key!r}]", saved[key], epoch, lambda name, row: _list(
                name, row, len(history.layer_names), _number))
        else:
            _list(f"history[{key!r}]", saved[key], epoch, _number)


def _check_callback(i, callback, values, arrays, network):
    name = f"callback {i} ({type(callback).__name__})"
    _require(name, isinstance(values, dict), "values by name", values)
    _expect(f"{name}: the names of its values", sorted(values), sorted(set(callback.kept)))
    for key in values:
        if f"callbacks.{i}.{key}" in arrays:
            _require(f"{name}: {key}", values[key] is None, "None beside its array", values[key])
    try:
        callback.check_kept(_kept(i, values, arrays), network)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {reason(error)}") from None


def _kept(i, values, arrays):
    """What a callback has kept, with its arrays in their places."""
    return {name: arrays.get(f"callbacks.{i}.{name}", value) for name, value in values.items()}


def restore(run, rng, callbacks, state, arrays):
    """Set a training to what `take` made, once `check` has seen it."""
    network, optimizer = run.network, run.optimizer
    network.parameters[...] = arrays["parameters"]
    if network.buffers.size:
        network.buffers[...] = arrays["buffers"]
    if "settings" in state:
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            for name, value in settings.items():
                setattr(piece, name, value)
    moments = {name: arrays[f"optimizer.{name}"] for name in optimizer.state_names}
    optimizer.resume(network.parameters, moments, state["steps"])
    run.go_on(arrays.get("trained"))
    if state["learning_rate"] is not None:
        optimizer.learning_rate = state["learning_rate"]
    for name in ("batch_size", "l2"):
        if name in state:
            setattr(run, name, state[name])
    for (_, layer), step in zip(network.leaves, state["layer_steps"], strict=True):
        layer.step = step
    for i, callback in enumerate(callbacks):
        for name, value in _kept(i, state["callbacks"][i], arrays).items():
            setattr(callback, name, value)
    rng.bit_generator.state = state["rng"]
    for key, values in state["history"].items():
        run.history[key] = [_as_array(value) if isinstance(value, list) else value
                            for value in values]
    if state["stopped"] is not None:
        run.stop(state["stopped"])


def _as_array(values):
    """A list of a user's history as an array, unless its rows are of different lengths."""
    try:
        return np.array(values)
    except ValueError:
        return values


# What a checkpoint holds, value by value: each raises an error that says what is wrong.


def _require(name, condition, expected, value):
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {shown.repr(value)}")


def _expect(name, value, expected):
    _require(name, value == expected, shown.repr(expected), value)


def _is_whole(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _count(name, value, least=0):
    # Below 2⁶², so that a training can count on without leaving 64 bits.
    _require(name, _is_whole(value) and least <= value < 1 << 62,
             f"a whole number from {least} to 2**62 - 1", value)


def _number(name, value):
    _require(name, isinstance(value, float) or (_is_whole(value) and abs(value) < 1 << 64),
             "a number", value)


def _not_negative(name, value):
    _number(name, value)
    _require(name, 0 <= value < math.inf, "a finite number of at least 0", value)


def _list(name, values, length=None, check=None):
    """Of this length, and `check` likes each of it."""
    of_length = "" if length is None else f" of length {length}"
    _require(name, isinstance(values, list) and length in (None, len(values)),
             f"a list{of_length}", values)
    for i, value in enumerate(values if check else ()):
        check(f"{name}[{i}]", value)


def reason(error):
    """An error in words; those of a dict say no more than a key."""
    return f"it lacks {error}" if isinstance(error, KeyError) else str(error)
