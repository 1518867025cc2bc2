"""The training state between two epochs: saving, checking and restoring it."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import checks
from ..kernels.types import Array
from .described import short_repr

if TYPE_CHECKING:
    from ..callbacks import Callback
    from ..network import Sequential
    from ..optimizers import Optimizer
    from .history import History
    from .run import Training

__all__ = ["check_state", "reason", "restore_state", "take_state"]

# Settings that `take_state` saves under separate keys, or that are derived from the seed.
SAVED_ELSEWHERE = {"learning_rate", "state", "steps", "key", "step"}


def take_state(run: Training, rng: np.random.Generator, callbacks: Sequence[Callback],
               ) -> tuple[dict[str, Any], dict[str, Array]]:
    """The training state between two epochs.

    Parameters
    ----------
    run : Training
    rng : numpy.random.Generator
        The one that shuffles the rows.
    callbacks : sequence of Callback

    Returns
    -------
    state : dict
        JSON-serializable, except that it may contain NumPy scalars and arrays.
    arrays : dict of str to ndarray
        The large arrays; not copied, except for those of callbacks.

    Raises
    ------
    TypeError
        If a callback has an array to save that is not made of real numbers.
    """
    network, optimizer = run.network, run.optimizer
    optimizer.start(network.parameters)
    arrays: dict[str, Array] = {"parameters": network.parameters}
    if network.buffers.size:
        arrays["buffers"] = network.buffers
    if run.averages.trained is not None:
        arrays["trained"] = run.averages.trained
    arrays |= {f"optimizer.{name}": array for name, array in optimizer.state.items()}
    kept = [{name: getattr(callback, name) for name in callback.kept} for callback in callbacks]
    for i, values in enumerate(kept):
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                if value.dtype.kind not in "fiub":
                    raise TypeError(f"checkpoint: callback {i} ({type(callbacks[i]).__name__}): "
                                    f"{name}: expected an array of real numbers, got dtype "
                                    f"{value.dtype}; arrays of other types cannot be saved")
                # safetensors ignores strides when it writes a view's memory.
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


def _pieces(optimizer: Optimizer, network: Sequential) -> list[checks.Validated]:
    """The objects with settings: the optimizer and the layers."""
    return [optimizer, *(layer for _, layer in network.leaves)]


def _settings(piece: checks.Validated) -> dict[str, bool | int | float | None]:
    """The settings of an optimizer or a layer that may change during training."""
    values = {name: getattr(piece, name, None) for name in sorted(piece.validators)}
    return {name: value for name, value in values.items()
            if name not in SAVED_ELSEWHERE and isinstance(value, bool | int | float | None)}


def check_state(state: dict[str, Any], arrays: dict[str, Array], epoch: int, network: Sequential,
                optimizer: Optimizer, callbacks: Sequence[Callback], history: History) -> None:
    """Raise unless a state read from a file is one that `restore_state` can restore.

    Parameters
    ----------
    state, arrays : dict
        From a file: as `take_state` returns them, but possibly with anything in them.
    epoch : int
        The number of epochs after which it was taken.
    network : Sequential
    optimizer : Optimizer
    callbacks : sequence of Callback
    history : History
        That of the fit that resumes, still empty.

    Raises
    ------
    ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
        If something is missing, or is not what `take_state` returns for this fit; see `reason` for
        the message.
    """
    _expect("names of the arrays", state.get("arrays", sorted(arrays)), sorted(arrays))
    if "settings" in state:  # older versions did not save them
        _list("settings", state["settings"], 1 + len(network.leaves))
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            _check_settings(piece, settings)
        optimizer = copy.copy(optimizer)  # its settings decide which state arrays it has
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
    if "batch_size" in state:  # older versions did not save this and l2
        _count("batch_size", state["batch_size"], 1)
    if "l2" in state:
        _not_negative("l2", state["l2"])
    _require("stopped", state["stopped"] is None or isinstance(state["stopped"], str),
             "a string or None", state["stopped"])
    _check_rng(state["rng"])
    _check_history(state["history"], epoch, history)
    _list("callbacks", state["callbacks"], len(callbacks))
    for i, callback in enumerate(callbacks):
        _check_callback(i, callback, state["callbacks"][i], arrays, network)


def _check_settings(piece: checks.Validated, settings: Any) -> None:
    """Raise unless these are the settings of an optimizer or a layer, with valid values."""
    name = f"settings of {type(piece).__name__}"
    _require(name, isinstance(settings, dict), "a dict", settings)
    _expect(f"{name}: names", sorted(settings), sorted(_settings(piece)))
    for key, value in settings.items():
        try:
            piece.validators[key](key, value)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise ValueError(f"{name}: {reason(error)}") from None


def _check_rng(state: Any) -> None:
    """Raise unless this is a state of NumPy's default bit generator."""
    trial = np.random.default_rng(0).bit_generator
    try:
        trial.state = state
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"rng: {reason(error)}") from None
    _expect("rng", state, trial.state)


def _check_history(saved: Any, epoch: int, history: History) -> None:
    """Raise unless each column has a list, and those that fit fills have numbers."""
    _require("history", isinstance(saved, dict), "a dict", saved)
    for key, values in saved.items():
        _list(f"history[{key!r}]", values)
    for key in history:
        if key == "gradient_norms":
            _list(f"history[{key!r}]", saved[key], epoch, lambda name, row: _list(
                name, row, len(history.layer_names), _number))
        else:
            _list(f"history[{key!r}]", saved[key], epoch, _number)


def _check_callback(i: int, callback: Callback, values: Any, arrays: dict[str, Array],
                    network: Sequential) -> None:
    """Raise unless callback number i accepts its saved values."""
    name = f"callback {i} ({type(callback).__name__})"
    _require(name, isinstance(values, dict), "a dict", values)
    _expect(f"{name}: names of the values", sorted(values), sorted(set(callback.kept)))
    for key in values:
        if f"callbacks.{i}.{key}" in arrays:
            _require(f"{name}: {key}", values[key] is None,
                     "None, since there is an array of this name", values[key])
    try:
        callback.check_kept(_kept(i, values, arrays), network)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{name}: {reason(error)}") from None


def _kept(i: int, values: Mapping[str, Any], arrays: dict[str, Array]) -> dict[str, Any]:
    """All saved values of callback number i: those in the state, and its arrays."""
    return {name: arrays.get(f"callbacks.{i}.{name}", value) for name, value in values.items()}


def restore_state(run: Training, rng: np.random.Generator, callbacks: Sequence[Callback],
                  state: dict[str, Any], arrays: dict[str, Array]) -> None:
    """Restore a saved state, before the first step.

    Parameters
    ----------
    run : Training
    rng : numpy.random.Generator
        The one that shuffles the rows.
    callbacks : sequence of Callback
    state, arrays : dict
        As `take_state` returned them, checked by `check_state`.
    """
    network, optimizer = run.network, run.optimizer
    network.parameters[...] = arrays["parameters"]
    if network.buffers.size:
        network.buffers[...] = arrays["buffers"]
    if "settings" in state:
        for piece, settings in zip(_pieces(optimizer, network), state["settings"], strict=True):
            for name, value in settings.items():
                setattr(piece, name, value)
    moments: dict[str, ArrayLike] = {
        name: arrays[f"optimizer.{name}"] for name in optimizer.state_names}
    optimizer.resume(network.parameters, moments, state["steps"])
    run.averages.resume(arrays.get("trained"))
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


def _as_array(values: list[Any]) -> Array | list[Any]:
    """A list in the history as an array, unless its rows have different lengths."""
    try:
        return np.array(values)
    except ValueError:
        return values


# Checks of single values in a state; `name` says in the message which value it is.


def _require(name: str, condition: bool, expected: str, value: object) -> None:
    if not condition:
        raise ValueError(f"{name}: expected {expected}, got {short_repr(value)}")


def _expect(name: str, value: object, expected: object) -> None:
    _require(name, value == expected, short_repr(expected), value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _count(name: str, value: Any, least: int = 0) -> None:
    # Below 2⁶², so that training can add to it without overflowing 64 bits.
    _require(name, _is_whole(value) and least <= value < 1 << 62,
             f"a whole number from {least} to 2**62 - 1", value)


def _number(name: str, value: Any) -> None:
    _require(name, isinstance(value, float) or (_is_whole(value) and abs(value) < 1 << 64),
             "a number", value)


def _not_negative(name: str, value: Any) -> None:
    _number(name, value)
    _require(name, 0 <= value < math.inf, "a finite number of at least 0", value)


def _list(name: str, values: Any, length: int | None = None,
          check: Callable[[str, Any], None] | None = None) -> None:
    """A list, of this length if one is given, of which each element passes `check`."""
    of_length = "" if length is None else f" of length {length}"
    _require(name, isinstance(values, list) and length in (None, len(values)),
             f"a list{of_length}", values)
    if check is not None:
        for i, value in enumerate(values):
            check(f"{name}[{i}]", value)


def reason(error: Exception) -> str:
    """The message of an error of `check_state`.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str

    Examples
    --------
    >>> from fastbp.training.state import reason
    >>> reason(ValueError("steps: expected a whole number"))
    'steps: expected a whole number'
    >>> reason(KeyError("steps"))
    "'steps' is missing"
    """
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)
