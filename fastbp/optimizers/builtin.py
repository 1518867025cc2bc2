"""The optimizers: each names a row of the table of operations (kernels/ops.def)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from ..kernels import checks
from ..kernels.types import Floats
from .base import Optimizer
from .groups import Group
from .rates import Rate

__all__ = ["SGD", "Adam", "AdamW", "Lion", "ScheduleFreeAdamW"]


def _momentum(name: str, value: Any) -> float:
    return checks.number(name, value, 0, 1)


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum and L2 regularization.

    With ``g = gradients + weight_decay·P``: ``V ← momentum·V - learning_rate·g``, then
    ``P ← P + V``, or ``P ← P + momentum·V - learning_rate·g`` (Nesterov).

    Parameters
    ----------
    learning_rate : float or callable, default 0.01
    momentum : float in [0, 1], default 0.0
    nesterov : bool, default False
        Whether to use Nesterov momentum.
    weight_decay : float, default 0.0
        Strength of L2 regularization.
    clip_norm : float, optional
    groups : sequence of Group, optional
        As for `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import fastbp as fb
    >>> optimizer = fb.SGD(0.1, momentum=0.9, nesterov=True)
    """

    validators = Optimizer.validators | {"momentum": _momentum, "nesterov": checks.boolean}

    def __init__(self, learning_rate: Rate = 0.01, momentum: float = 0.0, nesterov: bool = False,
                 weight_decay: float = 0.0, clip_norm: float | None = None, *,
                 groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.momentum = momentum
        self.nesterov = nesterov

    @property
    def name(self) -> str:  # type: ignore[override]  # it follows from the momentum
        return "momentum" if self.momentum > 0 else "sgd"


class Adam(Optimizer):
    """Adam: steps scaled by running averages of the gradient and of its square.

    With ``g = gradients + weight_decay·P``: ``M ← beta1·M + (1 - beta1)·g``,
    ``V ← beta2·V + (1 - beta2)·g²``, then ``P ← P - learning_rate·M̂ / (√V̂ + epsilon)``, where
    ``M̂ = M / (1 - beta1ᵗ)`` and ``V̂ = V / (1 - beta2ᵗ)`` at step t.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.0
        Strength of L2 regularization.
    clip_norm : float, optional
    epsilon_hat : bool, default False
        Whether `epsilon` is added to √V before the bias correction, as in scikit-learn and
        TensorFlow, rather than after it.
    groups : sequence of Group, optional
        As for `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> net = fb.mlp([1, 16, 1], seed=0)
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> history = net.fit(X, X**2, loss=fb.MeanSquaredError(), optimizer=fb.Adam(0.01),
    ...                   epochs=100, seed=0)
    >>> history["loss"][-1] < 0.01
    True
    """

    validators = Optimizer.validators | {
        "beta1": checks.fraction, "beta2": checks.fraction, "epsilon": checks.positive,
        "epsilon_hat": checks.boolean,
    }
    name = "adam"
    decoupled: ClassVar[bool] = False

    def __init__(self, learning_rate: Rate = 0.001, beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8, weight_decay: float = 0.0,
                 clip_norm: float | None = None, epsilon_hat: bool = False, *,
                 groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon
        self.epsilon_hat = epsilon_hat


class AdamW(Adam):
    """Adam with decoupled weight decay, which acts on the parameters instead of the gradients.

    Parameters
    ----------
    learning_rate : float or callable, default 0.001
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.01
        Each step first multiplies the parameters by ``1 - learning_rate·weight_decay``.
    clip_norm : float, optional
    epsilon_hat : bool, default False
        As for `Adam`.
    groups : sequence of Group, optional
        As for `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    I. Loshchilov, F. Hutter, "Decoupled weight decay regularization", ICLR 2019.

    Examples
    --------
    >>> import fastbp as fb
    >>> optimizer = fb.AdamW(1e-3, weight_decay=0.05, clip_norm=1.0)
    """

    decoupled = True

    def __init__(self, learning_rate: Rate = 0.001, beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8, weight_decay: float = 0.01,
                 clip_norm: float | None = None, epsilon_hat: bool = False, *,
                 groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, beta1, beta2, epsilon, weight_decay, clip_norm,
                         epsilon_hat, groups=groups)


class Lion(Optimizer):
    """Lion: steps by the sign of a running average of the gradient, all of the same size.

    ``U = sign(beta1·M + (1 - beta1)·g)``, ``P ← P - learning_rate·(U + weight_decay·P)``, then
    ``M ← beta2·M + (1 - beta2)·g``.  Good learning rates are 3 to 10 times smaller than Adam's,
    and good weight decays larger by the same factor.

    Parameters
    ----------
    learning_rate : float or callable, default 1e-4
    beta1, beta2 : float in [0, 1), default 0.9 and 0.99
    weight_decay : float, default 0.0
    clip_norm : float, optional
    groups : sequence of Group, optional
        As for `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    X. Chen et al., "Symbolic discovery of optimization algorithms", NeurIPS 2023.

    Examples
    --------
    >>> import fastbp as fb
    >>> optimizer = fb.Lion(3e-4, weight_decay=0.1)
    """

    validators = Optimizer.validators | {"beta1": checks.fraction, "beta2": checks.fraction}
    name = "lion"

    def __init__(self, learning_rate: Rate = 1e-4, beta1: float = 0.9, beta2: float = 0.99,
                 weight_decay: float = 0.0, clip_norm: float | None = None, *,
                 groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.beta1 = beta1
        self.beta2 = beta2


class ScheduleFreeAdamW(Optimizer):
    """AdamW that needs no schedule: it averages the weights instead of lowering the rate.

    During training the parameters are ``Y = (1 - beta1)·Z + beta1·X``, where the gradients are
    taken.  Each step moves Z by AdamW without its first moment, and X is the mean of all Z.
    `fit` evaluates X on validation data, and leaves it as the parameters.  If you call `step`, X is
    ``state["x"]``.

    Parameters
    ----------
    learning_rate : float or callable, default 0.0025
        A number, or a schedule that is constant but for a warm-up.
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, default 0.0
    clip_norm : float, optional
    groups : sequence of Group, optional
        As for `Optimizer`.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    References
    ----------
    A. Defazio et al., "The road less scheduled", NeurIPS 2024.

    Examples
    --------
    >>> import fastbp as fb
    >>> optimizer = fb.ScheduleFreeAdamW(0.0025)
    """

    validators = Optimizer.validators | {
        "beta1": checks.fraction, "beta2": checks.fraction, "epsilon": checks.positive,
    }
    name = "schedule_free_adamw"
    copies, averaged = ("z", "x"), "x"
    average: ClassVar[float] = 0.0  # 0 means 1 / step, the plain mean; see simd/optimizers.h

    def __init__(self, learning_rate: Rate = 0.0025, beta1: float = 0.9, beta2: float = 0.999,
                 epsilon: float = 1e-8, weight_decay: float = 0.0,
                 clip_norm: float | None = None, *, groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.beta1 = beta1
        self.beta2 = beta2
        self.epsilon = epsilon

    def trained(self) -> Floats:
        """Y, at which gradients are taken, from Z and X."""
        z, x = self.state["z"], self.state["x"]
        y: Floats = z + z.dtype.type(self.beta1) * (x - z)
        return y
