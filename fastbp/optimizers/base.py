"""`Optimizer`, the base class: settings, and the state of one set of parameters."""

import math
import reprlib

import numpy as np

from .. import kernels
from ..kernels import checks, memory, ops
from .groups import Group
from .rates import checked_rate, rate_at

__all__ = ["Optimizer"]


def _clip(name, value):
    return None if value is None else checks.positive(name, value)


def _state(name, value):
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict of arrays by name, got a "
                        f"{type(value).__name__}; {{}} makes the next step start afresh")
    return value


def _steps(name, value):
    return checks.integer(name, value, 0, 2**62)


def _groups(name, value):
    if not isinstance(value, list | tuple) or not all(isinstance(group, Group) for group in value):
        raise TypeError(f"groups: expected a list of Group, got {value!r}")
    return tuple(value)


class Optimizer(checks.Validated):
    """Base class: the learning rate, clipping, and the state of one set of parameters.

    A subclass of your own names its state arrays in `state_names` and defines `update`.  fastbp's
    own name a row of the table of operations instead, whose attributes and state they have.

    Parameters
    ----------
    learning_rate : float or callable
        A number, or a schedule: a callable of the time in epochs (`fastbp.schedules`).
    weight_decay : float, default 0.0
        Strength of the pull towards 0, on all parameters.
    clip_norm : float, optional
        Gradients whose global norm is above this are scaled down to it.
    groups : sequence of Group, optional
        Parameters with a learning rate or a decay of their own; one that is in several is in the
        first of them.  `fit` finds out which they are; by hand, call `assign`.

    Attributes
    ----------
    state : dict of str to ndarray
        Empty before the first step; then arrays like the parameters.
    steps : int
        Steps made on these parameters.

    References
    ----------
    Clipping: R. Pascanu, T. Mikolov, Y. Bengio, "On the difficulty of training recurrent
    neural networks", ICML 2013.
    """

    validators = {
        "learning_rate": checked_rate, "weight_decay": checks.not_negative, "clip_norm": _clip,
        "state": _state, "steps": _steps, "_groups": _groups,
    }
    name = None  # of the update in kernels/ops.def; fastbp's own have one
    # State arrays that start as the parameters, in place of zeros; and the one, if any, that holds
    # the weights to evaluate and to end with.
    copies = ()
    averaged = None

    def __init__(self, learning_rate, weight_decay=0.0, clip_norm=None, groups=()):
        self.learning_rate = self._first_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.state = {}
        self.steps = 0
        self._parameters = None
        self._groups, self._parts = groups, None

    @property
    def groups(self):
        """Parameters with a learning rate or a decay of their own."""
        return self._groups

    @groups.setter
    def groups(self, groups):
        self._groups, self._parts = groups, None

    def assign(self, network):
        """Find out which of a network's parameters are in which of the groups.

        Parameters
        ----------
        network : Sequential
        """
        parts, start = [], 0
        for _, layer in network.leaves:
            for name, shape in layer.parameter_shapes.items():
                group = next((group for group in self._groups if group.includes(layer, name)),
                             None)
                size = math.prod(shape)
                if parts and parts[-1][2] is group:
                    start, before, _ = parts.pop()
                    size += before
                parts.append((start, size, group))
                start += size
        for group in self._groups:
            if not any(part[2] is group for part in parts):
                raise ValueError(f"groups: expected each to have some parameters, got {group!r}, "
                                 f"which has none of this network's")
        self._parts = parts

    def group_parts(self, n):
        """Where the parameters of each group start, how many they are, and the group or None.

        Parameters
        ----------
        n : int
            How many parameters there are.
        """
        if not self._groups:
            return [(0, n, None)]
        if self._parts is None or sum(size for _, size, _ in self._parts) != n:
            raise RuntimeError("groups: expected to know which parameters are in which; call "
                               "optimizer.assign(network) first")
        return self._parts

    @property
    def state_names(self):
        """Names of the state arrays."""
        return () if self.name is None else ops.UPDATES[self.name].state

    @property
    def operation(self):
        """The name of the update in kernels/ops.def; None without."""
        return self.name

    def group_attributes(self, n):
        """The update's numbers for each group, in the orders of `group_parts` and of ops.def."""
        return np.array([self._attributes(group) for _, _, group in self.group_parts(n)])

    def _attributes(self, group):
        if self.name is None:
            return np.empty(0)
        own = {} if group is None or group.weight_decay is None else {
            "weight_decay": group.weight_decay}
        return np.array([own[key] if key in own else getattr(self, key)
                         for key in ops.UPDATES[self.name].attributes], float)

    @property
    def largest_decay(self):
        """Of all groups."""
        if not self._groups:
            return self.weight_decay
        return max([self.weight_decay, *(group.weight_decay or 0.0 for group in self._groups)])

    def group_rates(self, epoch, n):
        """The learning rate of each group at a time in epochs, in the order of `group_parts`."""
        rate = self.rate(epoch)
        return [rate if group is None or group.learning_rate is None
                else rate_at(group.learning_rate, epoch) for _, _, group in self.group_parts(n)]

    def rate(self, epoch):
        """The learning rate at a time in epochs.

        Raises
        ------
        ValueError
            If a schedule gives a negative number, NaN or infinity.
        """
        return rate_at(self.learning_rate, epoch)

    def step(self, parameters, gradients, epoch=0.0):
        """Change `parameters` in place; the state starts afresh when they are others.

        Parameters
        ----------
        parameters, gradients : ndarray of shape (n,), float32 or float64
            `gradients` are scaled in place where they are clipped, unless they are read-only
            or had to be converted.
        epoch : float, default 0.0
            The time in epochs, for a schedule.

        Raises
        ------
        TypeError, ValueError
            If the arrays are none or do not fit each other; nothing is changed then.
        """
        self.step_at(parameters, gradients, self.group_rates(epoch, np.size(parameters)))

    def step_at(self, parameters, gradients, rates):
        """As `step`, with the learning rate of each group given."""
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
        if len(parts) == 1 and parts[0][2] is None:
            self.update(parameters, gradients, float(rates[0]))
            return
        for (start, size, group), rate in zip(parts, rates, strict=True):
            part = slice(start, start + size)
            self._update(parameters[part], gradients[part], float(rate),
                         {key: array[part] for key, array in self.state.items()}, group)

    def is_for(self, parameters):
        """Whether there is a state, and it was made for this very array."""
        if self._parameters is not parameters or not self.state.keys() >= set(self.state_names):
            return False
        arrays = [self.state[name] for name in self.state_names]
        return all(type(array) is np.ndarray and array.dtype == parameters.dtype
                   and array.shape == parameters.shape for array in arrays)

    def start(self, parameters):
        """Make the state for `parameters`, unless it is theirs already."""
        _check_parameters(parameters)
        self._start(parameters)

    def _start(self, parameters):
        """As `start`, for parameters that were checked."""
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

    def resume(self, parameters, state, steps):
        """Go on with a state that was kept, on these parameters.

        Parameters
        ----------
        parameters : ndarray of shape (n,), float32 or float64
        state : dict of str to ndarray
            As `state` was; copied.
        steps : int
        """
        _check_parameters(parameters)
        copies = {}
        for name, array in _state("state", state).items():
            array = checks.floats(f"state[{name!r}]", array, 1, parameters.dtype)
            checks.shape(f"state[{name!r}]", array, parameters.shape, "like the parameters")
            copies[name] = memory.aligned(array.shape, array.dtype)
            copies[name][...] = array
        self.steps = steps
        self.state = copies
        self._parameters = parameters
        self._start(parameters)

    def update(self, parameters, gradients, learning_rate):
        """Make one step in place."""
        if self.name is None:
            raise NotImplementedError(
                f"{type(self).__name__} needs update(parameters, gradients, learning_rate)"
            )
        self._update(parameters, gradients, learning_rate, self.state, None)

    def _update(self, parameters, gradients, learning_rate, state, group):
        if self.name is None:
            raise NotImplementedError(f"{type(self).__name__}: an optimizer of your own has no "
                                      f"groups")
        op = ops.UPDATES[self.name]
        kernels.optimizers.update_step(
            op.name, parameters, gradients, {key: state[key] for key in op.state},
            learning_rate=learning_rate, step=self.steps,
            attributes=dict(zip(op.attributes, self._attributes(group), strict=True)),
        )

    def __getstate__(self):
        """A copy keeps the settings; it is for other parameters, so not the state."""
        kept = {name: value for name, value in vars(self).items() if name != "_claim"}
        return kept | {"state": {}, "steps": 0, "_parameters": None}

    @reprlib.recursive_repr()
    def __repr__(self):
        arguments = ", ".join(
            f"{name}={value!r}"
            for name, value in vars(self).items()
            if name != "state" and name != "steps" and not name.startswith("_")
        )
        if self._groups:
            arguments += f", groups={list(self._groups)!r}"
        return f"{type(self).__name__}({arguments})"


def _check_parameters(parameters):
    checks.writable("parameters", parameters)
    checks.shape("parameters", parameters, (None,), "(one dimension)",
                 "; pass a flat view, parameters.reshape(-1)")
