"""The optimizers: each names a row of the table of operations (kernels/ops.def)."""

from ..kernels import checks
from .base import Optimizer

__all__ = ["SGD", "Adam", "AdamW", "Lion", "ScheduleFreeAdamW"]


def _momentum(name, value):
    return checks.number(name, value, 0, 1)


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
    groups : sequence of Group, optional
        See `Optimizer`, here and below.
    """

    validators = Optimizer.validators | {"momentum": _momentum, "nesterov": checks.boolean}

    def __init__(self, learning_rate=0.01, momentum=0.0, nesterov=False, weight_decay=0.0,
                 clip_norm=None, *, groups=()):
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
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
                 weight_decay=0.0, clip_norm=None, epsilon_hat=False, *, groups=()):
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
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
                 weight_decay=0.01, clip_norm=None, epsilon_hat=False, *, groups=()):
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm,
                         epsilon_hat, groups=groups)


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
                 clip_norm=None, *, groups=()):
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.beta1 = beta1
        self.beta2 = beta2


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule: it averages the weights in place of turning down the rate.

    Gradients are taken at ``Y = (1 - beta1)·Z + beta1·X``, which is what the parameters are while
    it trains; a step of AdamW with its second moment alone moves Z, and X is the mean of all Z.
    X is what `fit` evaluates on validation data, and what it leaves as the parameters.  By hand, X
    is ``state["x"]``.

    Parameters
    ----------
    learning_rate : float or callable, default 0.0025
        A constant, or a schedule that only warms up.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.0
    clip_norm : float, optional
    groups : sequence of Group, optional

    References
    ----------
    A. Defazio et al., "The road less scheduled", NeurIPS 2024.
    """

    validators = Optimizer.validators | {
        "beta1": checks.fraction, "beta2": checks.fraction, "epsilon": checks.positive,
    }
    name = "schedule_free_adamw"
    copies, averaged = ("z", "x"), "x"
    average = 0.0  # the mean of all steps: see kernels/ops.def

    def __init__(self, learning_rate=0.0025, beta1=0.9, beta2=0.999, epsilon=1e-8,
                 weight_decay=0.0, clip_norm=None, *, groups=()):
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def trained(self):
        """Where gradients are taken: Y, from Z and X."""
        z, x = self.state["z"], self.state["x"]
        return z + z.dtype.type(self.beta1) * (x - z)
