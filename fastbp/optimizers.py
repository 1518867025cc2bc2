"""Optimizers: small classes over the kernels that hold the state between steps.

By hand::

    optimizer = SGD(learning_rate=0.1, momentum=0.9)
    optimizer.step(net.parameters, net.gradients)
"""

import reprlib

import numpy as np

from . import kernels
from .kernels import checks, memory, ops

__all__ = ["SGD", "Adam", "AdamW", "Lion", "Optimizer"]


def _rate(name, value):
    return value if callable(value) else checks.not_negative(name, value)


def _clip(name, value):
    return None if value is None else checks.positive(name, value)


def _momentum(name, value):
    return checks.number(name, value, 0, 1)


def _state(name, value):
    if not isinstance(value, dict):
        raise TypeError(f"{name}: expected a dict of arrays by name, got a "
                        f"{type(value).__name__}; {{}} makes the next step start afresh")
    return value


def _steps(name, value):
    return checks.integer(name, value, 0, 2**62)


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
        "learning_rate": _rate, "weight_decay": checks.not_negative, "clip_norm": _clip,
        "state": _state, "steps": _steps,
    }
    name = None  # of the update in kernels/ops.def; fastbp's own have one

    def __init__(self, learning_rate, weight_decay=0.0, clip_norm=None):
        self.learning_rate = self._first_rate = learning_rate
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.state = {}
        self.steps = 0
        self._parameters = None

    @property
    def state_names(self):
        """Names of the state arrays."""
        return () if self.name is None else ops.UPDATES[self.name].state

    @property
    def operation(self):
        """The name of the update in kernels/ops.def; None without."""
        return self.name

    @property
    def attributes(self):
        """The update's numbers, in the order of ops.def."""
        if self.name is None:
            return np.empty(0)
        return np.array([getattr(self, key) for key in ops.UPDATES[self.name].attributes], float)

    def rate(self, epoch):
        """The learning rate at a time in epochs.

        Raises
        ------
        ValueError
            If a schedule gives a negative number, NaN or infinity.
        """
        if not callable(self.learning_rate):
            return self.learning_rate
        epoch = checks.not_negative("epoch", epoch)
        return checks.number(f"learning_rate at epoch {epoch:g}", self.learning_rate(epoch), 0)

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
        self.step_at(parameters, gradients, self.rate(epoch))

    def step_at(self, parameters, gradients, rate):
        """As `step`, with the learning rate given."""
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
        self.steps += 1
        self.update(parameters, gradients, rate)

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
        op = ops.UPDATES[self.name]
        kernels.optimizers.update_step(
            op.name, parameters, gradients, {key: self.state[key] for key in op.state},
            learning_rate=learning_rate, step=self.steps,
            attributes={key: getattr(self, key) for key in op.attributes},
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
        return f"{type(self).__name__}({arguments})"


def _check_parameters(parameters):
    checks.writable("parameters", parameters)
    checks.shape("parameters", parameters, (None,), "(one dimension)",
                 "; pass a flat view, parameters.reshape(-1)")


class SGD(Optimizer):
    """Stochastic gradient descent, with momentum and L2 regularisation if wanted.

    Formulas and sources: `fastbp.kernels.sgd_step`.

    Parameters
    ----------
    learning_rate : float or callable, default 0.01
    momentum : float in [0, 1], default 0.0
    nesterov : bool, default False
    weight_decay : float, default 0.0
        ``weight_decay · parameters`` is added to the gradients.
    clip_norm : float, optional
    """

    validators = Optimizer.validators | {"momentum": _momentum, "nesterov": checks.boolean}

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0,
                 clip_norm=None):
        super().__init__(learning_rate, weight_decay, clip_norm)
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def name(self):
        return "momentum" if self.momentum > 0 else "sgd"


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and its square.

    Formulas and sources: `fastbp.kernels.adam_step`.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.0
        ``weight_decay · parameters`` is added to the gradients.
    clip_norm : float, optional
    epsilon_hat : bool, default False
        Whether `epsilon` is added to √v before its bias is corrected, as in scikit-learn and
        TensorFlow, rather than after.
    """

    validators = Optimizer.validators | {
        "beta1": checks.fraction, "beta2": checks.fraction, "epsilon": checks.positive,
        "epsilon_hat": checks.boolean,
    }
    name = "adam"
    decoupled = False

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8,
                 weight_decay=0.0, clip_norm=None, epsilon_hat=False):
        super().__init__(learning_rate, weight_decay, clip_norm)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.epsilon_hat = epsilon_hat


class AdamW(Adam):
    """Adam whose weight decay is taken off the parameters, not added to the gradients.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.01
        Each step multiplies the parameters by ``1 - learning_rate · weight_decay`` first.
    clip_norm : float, optional
    epsilon_hat : bool, default False
    """

    decoupled = True

    def __init__(self, learning_rate=0.001, beta1=0.9, beta2=0.999, epsilon=1e-8,
                 weight_decay=0.01, clip_norm=None, epsilon_hat=False):
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm,
                         epsilon_hat)


class Lion(Optimizer):
    """Steps of one size, in the direction of the sign of a mean of gradients.

    ``U = sign(beta1·M + (1 - beta1)·g)``, ``P ← P - learning_rate·(U + weight_decay·P)``, then
    ``M ← beta2·M + (1 - beta2)·g``.  Rates are a third to a tenth of Adam's, and decays as much
    larger.

    Parameters
    ----------
    learning_rate : float or callable, default 1e-4
    beta1, beta2 : float in [0, 1), default 0.9 and 0.99
    weight_decay : float, default 0.0
    clip_norm : float, optional

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.
    """

    validators = Optimizer.validators | {"beta1": checks.fraction, "beta2": checks.fraction}
    name = "lion"

    def __init__(self, learning_rate=1e-4, beta1=0.9, beta2=0.99, weight_decay=0.0,
                 clip_norm=None):
        super().__init__(learning_rate, weight_decay, clip_norm)
        self.beta1 = beta1
        self.beta2 = beta2
