"""`Optimizer`, the base class: settings, and the state of one set of parameters."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from .. import kernels
from ..kernels import checks, memory, ops
from ..kernels.types import Doubles, Floats
from ..locks import Exclusive
from .groups import Group, Part
from .rates import Rate, checked_rate, rate_at

if TYPE_CHECKING:
    from ..layers import Layer
    from ..network import Sequential

__all__ = ["Optimizer"]


def _clip(name: str, value: Any) -> float | None:
    return None if value is None else checks.positive(name, value)


def _state(name: str, value: Any) -> dict[str, Floats]:
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict of arrays by name, got a "
                        f"{type(value).__name__}; {{}} makes the next step start afresh")
    return value


def _steps(name: str, value: Any) -> int:
    return checks.integer(name, value, 0, 2**62)


def _groups(name: str, value: Any) -> tuple[Group, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(group, Group) for group in value):
        raise TypeError(f"groups: expected a list of Group, got {value!r}")
    return tuple(value)


class Optimizer(checks.Validated, Exclusive):
    """Base class of all optimizers, built-in and user-defined.

    To write your own, list the state arrays in `state_names` and define `update`.  Arrays in
    `state` under other names are saved in checkpoints but not restored; settings are restored only
    if they have a validator.  Built-in optimizers instead set `name`, a row of kernels/ops.def that
    lists their state arrays and attributes.

    Parameters
    ----------
    learning_rate : float or callable
        A number, or a schedule: a callable of the time in epochs (`fastbp.schedules`).
    weight_decay : float, default 0.0
        Strength of the decay of all parameters towards 0.
    clip_norm : float, optional
        Gradients with a larger norm, taken over all parameters, are scaled down to this one.
    groups : sequence of Group, optional
        Parameters with their own learning rate or weight decay; the first group that includes a
        parameter counts.  `fit` determines which they are; if you call `step`, call `assign`
        before.

    Attributes
    ----------
    learning_rate, weight_decay, clip_norm
        May be set between steps.
    state : dict of str to ndarray
        Empty before the first step; then arrays of the shape and dtype of the parameters.
    steps : int
        The number of steps made on these parameters.
    name : str or None
        The row of kernels/ops.def; None for user-defined optimizers.
    copies : tuple of str
        The state arrays that start as copies of the parameters instead of zeros.
    averaged : str or None
        The state array, if any, with the weights to evaluate and to finish with.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    Clipping: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent
    neural networks", ICML 2013.

    Examples
    --------
    Your own optimizer, which steps by the sign of the gradient:

    >>> import fastbp as fb
    >>> class SignSGD(fb.Optimizer):
    ...     def update(self, parameters, gradients, learning_rate):
    ...         parameters -= learning_rate * np.sign(gradients)
    ...
    >>> p = np.array([1.0, 2.0])
    >>> SignSGD(0.25).step(p, np.array([5.0, -5.0]))
    >>> p
    array([0.75, 2.25])
    """

    validators = {
        "learning_rate": checked_rate, "weight_decay": checks.not_negative, "clip_norm": _clip,
        "state": _state, "steps": _steps, "_groups": _groups,
    }
    name: str | None = None
    copies: ClassVar[tuple[str, ...]] = ()
    averaged: ClassVar[str | None] = None

    def __init__(self, learning_rate: Rate, weight_decay: float = 0.0,
                 clip_norm: float | None = None, groups: Sequence[Group] = ()) -> None:
        self.learning_rate = self._first_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.state: dict[str, Floats] = {}
        self.steps = 0
        self._parameters: Floats | None = None
        self._parts: list[Part] | None = None
        self._groups = groups

    @property
    def initial_learning_rate(self) -> Rate:
        """The learning rate that the constructor was given."""
        return self._first_rate

    @property
    def groups(self) -> Sequence[Group]:
        """Parameters with their own learning rate or weight decay."""
        return self._groups

    @groups.setter
    def groups(self, groups: Sequence[Group]) -> None:
        self._groups, self._parts = groups, None

    @property
    def uses_layers(self) -> bool:
        """Whether the update of a parameter depends on its layer, so that `assign` is needed."""
        return bool(self._groups)

    def find_matrices(self, network: Sequential) -> set[tuple[Layer, str]]:
        """The parameters, by layer and name, that are updated as a whole: none but Muon's."""
        return set()

    def assign(self, network: Sequential) -> None:
        """Determine which of a network's parameters belong to which group.

        Parameters
        ----------
        network : Sequential

        Raises
        ------
        ValueError
            If a group includes no parameter.

        Examples
        --------
        >>> import fastbp as fb
        >>> net = fb.mlp([2, 3, 1])
        >>> optimizer = fb.SGD(0.1, groups=[fb.Group("b", learning_rate=0.2)])
        >>> optimizer.assign(net)
        >>> optimizer.step(net.parameters, net.gradients)
        """
        parts: list[Part] = []
        start, matrices = 0, self.find_matrices(network)
        for _, layer in network.leaves:
            for name, shape in layer.parameter_shapes.items():
                group = next((group for group in self._groups if group.includes(layer, name)),
                             None)
                part = Part(start, math.prod(shape), group)
                start += part.size
                if (layer, name) in matrices:
                    part = part._replace(shape=(shape[0], shape[1]))
                elif parts and parts[-1].group is group and parts[-1].shape is None:
                    before = parts.pop()
                    part = Part(before.start, before.size + part.size, group)
                parts.append(part)
        for group in self._groups:
            if not any(part.group is group for part in parts):
                raise ValueError(f"groups: expected each to include some parameters, got "
                                 f"{group!r}, which includes none of this network's")
        self._parts = parts

    def group_parts(self, n: int) -> list[Part]:
        """The parts of the parameters, in order, that are updated alike.

        Parameters
        ----------
        n : int
            The total number of parameters.

        Returns
        -------
        list of Part

        Raises
        ------
        RuntimeError
            If `uses_layers`, and `assign` was not called for so many parameters.
        """
        if not self.uses_layers:
            return [Part(0, n)]
        if self._parts is None or sum(part.size for part in self._parts) != n:
            unknown = ("groups: which parameters belong to which group" if self._groups
                       else f"{type(self).__name__}: which parameters are matrices")
            raise RuntimeError(f"{unknown} is not known; call optimizer.assign(network) first")
        return self._parts

    def part_settings(self, part: Part) -> dict[str, Any]:
        """The learning rate and weight decay of a part, where they are not the optimizer's."""
        group = part.group
        own = {} if group is None else {"learning_rate": group.learning_rate,
                                        "weight_decay": group.weight_decay}
        return {name: value for name, value in own.items() if value is not None}

    @property
    def state_names(self) -> tuple[str, ...]:
        """The names of the state arrays."""
        return () if self.name is None else ops.UPDATES[self.name].state

    @property
    def operation(self) -> str | None:
        """What compiled steps run instead of `update`: `name`."""
        return self.name

    def group_attributes(self, n: int) -> Doubles:
        """The attributes of the update, as ops.def orders them, for each of `group_parts`.

        Parameters
        ----------
        n : int
            The total number of parameters.

        Returns
        -------
        ndarray of shape (parts, attributes)
        """
        return np.array([self._attributes(part) for part in self.group_parts(n)])

    def _attributes(self, part: Part) -> Doubles:
        if self.name is None:
            return np.empty(0)
        own = self.part_settings(part)
        return np.array([own[key] if key in own else getattr(self, key)
                         for key in ops.UPDATES[self.name].attributes], float)

    @property
    def largest_decay(self) -> float:
        """The largest weight decay of any group."""
        return max([self.weight_decay, *(group.weight_decay or 0.0 for group in self._groups)])

    @property
    def learning_rates(self) -> list[Rate]:
        """The learning rates of all parameters."""
        own = [group.learning_rate for group in self._groups]
        return [self.learning_rate, *(rate for rate in own if rate is not None)]

    @property
    def rates_follow_from_time(self) -> bool:
        """Whether all learning rates are numbers or fastbp's schedules, not users' functions."""
        kinds: list[type] = [type(rate) for rate in self.learning_rates if callable(rate)]
        return all(map(checks.is_own, kinds))

    def group_rates(self, epoch: float, n: int) -> list[float]:
        """The learning rate of each of `group_parts`.

        Parameters
        ----------
        epoch : float
            The time in epochs.
        n : int
            The total number of parameters.

        Returns
        -------
        list of float
        """
        rate = self.rate(epoch)
        settings = [self.part_settings(part) for part in self.group_parts(n)]
        return [rate_at(own["learning_rate"], epoch) if "learning_rate" in own else rate
                for own in settings]

    def rate(self, epoch: float) -> float:
        """The learning rate at a time.

        Parameters
        ----------
        epoch : float
            The time in epochs.

        Returns
        -------
        float

        Raises
        ------
        TypeError, ValueError
            If a schedule does not return a finite number of at least 0.

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.SGD(lambda epoch: 0.1 / (1 + epoch)).rate(1.0)
        0.05
        """
        return rate_at(self.learning_rate, epoch)

    def step(self, parameters: Floats, gradients: ArrayLike, epoch: float = 0.0) -> None:
        """Make one step: change `parameters` in place.

        The state is reset if `parameters` is not the same array as in the previous step.

        Parameters
        ----------
        parameters : ndarray of shape (n,), float32 or float64
        gradients : ndarray of shape (n,), same dtype
            Clipping scales it in place, unless it is read-only or had to be copied.
        epoch : float, default 0.0
            The time in epochs, for a schedule.

        Raises
        ------
        TypeError, ValueError
            If an argument is not such an array; then nothing is changed.
        RuntimeError
            If there are groups, and `assign` was not called.

        Examples
        --------
        >>> import fastbp as fb
        >>> p = np.array([1.0, 2.0])
        >>> fb.SGD(learning_rate=0.5).step(p, np.array([1.0, 0.0]))
        >>> p
        array([0.5, 2. ])
        """
        self.step_at(parameters, gradients, self.group_rates(epoch, np.size(parameters)))

    def step_at(self, parameters: Floats, gradients: ArrayLike,
                rates: Sequence[float] | Doubles) -> None:
        """Make one step, given the learning rate of each of `group_parts`."""
        _check_parameters(parameters)
        gradients = checks.floats("gradients", gradients, 1, parameters.dtype)
        checks.shape("gradients", gradients, parameters.shape, "like parameters")
        self._start(parameters)
        if self.clip_norm is not None:
            norm = kernels.norm(gradients)
            if norm > self.clip_norm:
                out = gradients if gradients.flags.writeable else None
                scale = gradients.dtype.type(self.clip_norm / norm)
                gradients = np.multiply(gradients, scale, out=out)
        parts = self.group_parts(parameters.size)
        self.steps += 1
        if not self.uses_layers:
            self.update(parameters, gradients, float(rates[0]))
            return
        for part, rate in zip(parts, rates, strict=True):
            at = slice(part.start, part.start + part.size)
            self.update_part(parameters[at], gradients[at], float(rate),
                             {key: array[at] for key, array in self.state.items()}, part)

    def is_for(self, parameters: Floats) -> bool:
        """Whether there is a complete state, made for this very array."""
        if self._parameters is not parameters or not self.state.keys() >= set(self.state_names):
            return False
        arrays = [self.state[name] for name in self.state_names]
        return all(type(array) is np.ndarray and array.dtype == parameters.dtype
                   and array.shape == parameters.shape for array in arrays)

    def start(self, parameters: Floats) -> None:
        """Make the state for these parameters, unless there is one already.

        Parameters
        ----------
        parameters : ndarray of shape (n,), float32 or float64

        Raises
        ------
        TypeError, ValueError
            If `parameters` is not such an array, or a state array does not fit it.
        """
        _check_parameters(parameters)
        self._start(parameters)

    def _start(self, parameters: Floats) -> None:
        """`start` without the check of `parameters`."""
        if self._parameters is None or not checks.same(self._parameters, parameters):
            self.state = {}
            self.steps = 0
        self._parameters = parameters
        for name in self.state_names:
            if name not in self.state:
                self.state[name] = memory.aligned(parameters.shape, parameters.dtype)
                if name in self.copies:
                    self.state[name][...] = parameters
            array = self.state[name]
            checks.writable(f"state[{name!r}]", array, parameters.dtype)
            checks.shape(f"state[{name!r}]", array, parameters.shape, "like the parameters")

    def resume(self, parameters: Floats, state: dict[str, Any], steps: int) -> None:
        """Continue with a saved state.

        Parameters
        ----------
        parameters : ndarray of shape (n,), float32 or float64
        state : dict of str to ndarray
            The saved `state`, which is copied.
        steps : int
            The saved `steps`.

        Raises
        ------
        TypeError, ValueError
            If an argument has the wrong type, or an array does not fit the parameters.

        Examples
        --------
        >>> import fastbp as fb
        >>> p, g = np.ones(3), np.ones(3)
        >>> optimizer = fb.Adam(0.1)
        >>> optimizer.step(p, g)
        >>> other = fb.Adam(0.1)
        >>> other.resume(p, optimizer.state, optimizer.steps)
        >>> other.step(p, g)
        >>> other.steps
        2
        """
        _check_parameters(parameters)
        copies = {}
        for name, saved in _state("state", state).items():
            array = checks.floats(f"state[{name!r}]", saved, 1, parameters.dtype)
            checks.shape(f"state[{name!r}]", array, parameters.shape, "like the parameters")
            copies[name] = memory.aligned(array.shape, array.dtype)
            copies[name][...] = array
        self.steps = steps
        self.state = copies
        self._parameters = parameters
        self._start(parameters)

    def update(self, parameters: Floats, gradients: Floats, learning_rate: float) -> None:
        """Change `parameters` in place; user-defined subclasses override it.

        Parameters
        ----------
        parameters, gradients : ndarray of shape (n,), float32 or float64
        learning_rate : float
        """
        if self.name is None:
            raise NotImplementedError(
                f"{type(self).__name__} needs update(parameters, gradients, learning_rate)"
            )
        self.update_part(parameters, gradients, learning_rate, self.state,
                         Part(0, parameters.size))

    def update_part(self, parameters: Floats, gradients: Floats, learning_rate: float,
                    state: dict[str, Floats], part: Part) -> None:
        """Change the parameters of one part in place; all arrays are those of the part."""
        if self.name is None:
            raise NotImplementedError(f"{type(self).__name__}: groups need one of fastbp's own "
                                      f"optimizers")
        op = ops.UPDATES[self.name]
        kernels.optimizers.update_step(
            op.name, parameters, gradients, {key: state[key] for key in op.state},
            learning_rate=learning_rate, step=self.steps,
            attributes=dict(zip(op.attributes, self._attributes(part), strict=True)),
        )

    def trained(self) -> Floats:
        """The parameters at which gradients are computed; needed only if `averaged` is set."""
        raise NotImplementedError(f"{type(self).__name__} needs a method trained()")

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the settings, but not the state, since it is for other parameters."""
        return super().__getstate__() | {"state": {}, "steps": 0, "_parameters": None}

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "state" and name != "steps" and not name.startswith("_")
        )
        if self._groups:
            arguments += f", groups={list(self._groups)!r}"
        return f"{type(self).__name__}({arguments})"


def _check_parameters(parameters: Any) -> None:
    checks.writable("parameters", parameters)
    checks.shape("parameters", parameters, (None,), "(one dimension)",
                 "; pass a flat view, parameters.reshape(-1)")
