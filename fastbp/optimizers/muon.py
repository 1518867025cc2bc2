"""Muon: steps of matrices are made orthogonal, all other parameters are AdamW's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import kernels
from ..kernels import checks
from ..kernels.types import Floats
from ..layers import Dense
from .base import Optimizer
from .groups import Group, Part, Selection, checked_selection, selects
from .rates import Rate, checked_rate, rate_at

if TYPE_CHECKING:
    from ..layers import Layer
    from ..network import Sequential

__all__ = ["Muon"]


def _selection(name: str, value: Any) -> Selection | None:
    return None if value is None else checked_selection(name, value)


def _own_decay(name: str, value: Any) -> float | None:
    return None if value is None else checks.not_negative(name, value)


def _newton_schulz_steps(name: str, value: Any) -> int:
    return checks.integer(name, value, 1, 100)


class Muon(Optimizer):
    """Muon for the weights of hidden layers, AdamW for all other parameters.

    With G the gradient of a layer's weights W, of shape (n_in, n_out):
    ``M ← momentum·M + (1 - momentum)·G``, and ``U = momentum·M + (1 - momentum)·G``, or M without
    Nesterov's momentum.  `fastbp.kernels.orthogonalize` replaces U by a matrix X with the same
    singular vectors, but singular values near 1: all directions get steps of about the same size.
    Then ``W ← (1 - learning_rate·weight_decay)·W - learning_rate·√max(1, n_out / n_in)·X``.

    A step costs more than AdamW's, at a small batch several times as much, and often fewer are
    needed.

    Parameters
    ----------
    learning_rate : float or callable, default 0.02
        Of the matrices.
    momentum : float in [0, 1), default 0.95
    nesterov : bool, default True
        Whether to use Nesterov momentum.
    ns_steps : int of at least 1, default 5
        Steps of Newton and Schulz that make a matrix orthogonal.
    weight_decay : float, default 0.0
        Each step first multiplies the parameters by ``1 - learning_rate·weight_decay``.
    clip_norm : float, optional
        As for `Optimizer`; it changes how gradients are averaged, but not the size of the steps.
    matrices : str, type or callable, optional
        Which parameters of two dimensions are matrices: a name, a layer class or a predicate, as
        for `Group`.  By default they are the weights of all `Dense` layers but the network's last.
    adam_learning_rate : float or callable, default 0.001
        Of all other parameters.
    adam_beta1, adam_beta2 : float in [0, 1), default 0.9 and 0.999
    adam_epsilon : float above 0, default 1e-8
    adam_weight_decay : float, optional
        `weight_decay` by default.
    groups : sequence of Group, optional
        As for `Optimizer`; a group's settings replace those of matrices and of AdamW.

    Raises
    ------
    TypeError, ValueError
        If a setting has the wrong type or is out of range, here or when it is set.

    Notes
    -----
    `fit` determines which parameters are matrices; if you call `step`, call `assign` before.
    Callbacks that change `learning_rate`, such as `Plateau`, do not change `adam_learning_rate`.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> net = fb.mlp([1, 16, 16, 1], seed=0)
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> optimizer = fb.Muon(0.02, adam_learning_rate=0.01, groups=[fb.Group("b", weight_decay=0)])
    >>> history = net.fit(X, X**2, loss=fb.MeanSquaredError(), optimizer=optimizer, epochs=50,
    ...                   seed=0)
    >>> history["loss"][-1] < 0.01
    True
    """

    validators = Optimizer.validators | {
        "momentum": checks.fraction, "nesterov": checks.boolean,
        "ns_steps": _newton_schulz_steps, "matrices": _selection,
        "adam_learning_rate": checked_rate, "adam_beta1": checks.fraction,
        "adam_beta2": checks.fraction, "adam_epsilon": checks.positive,
        "adam_weight_decay": _own_decay,
    }
    name = "muon"

    def __init__(self, learning_rate: Rate = 0.02, momentum: float = 0.95, nesterov: bool = True,
                 ns_steps: int = 5, weight_decay: float = 0.0, clip_norm: float | None = None, *,
                 matrices: Selection | None = None, adam_learning_rate: Rate = 0.001,
                 adam_beta1: float = 0.9, adam_beta2: float = 0.999, adam_epsilon: float = 1e-8,
                 adam_weight_decay: float | None = None, groups: Sequence[Group] = ()) -> None:
        super().__init__(learning_rate, weight_decay, clip_norm, groups)
        self.momentum = momentum
        self.nesterov = nesterov
        self.ns_steps = ns_steps
        self.matrices = matrices
        self.adam_learning_rate = adam_learning_rate
        self.adam_beta1 = adam_beta1
        self.adam_beta2 = adam_beta2
        self.adam_epsilon = adam_epsilon
        self.adam_weight_decay = adam_weight_decay

    def __setattr__(self, name: str, value: Any) -> None:
        before = vars(self).get(name)
        super().__setattr__(name, value)
        if name == "matrices" and self.matrices is not before:
            self._parts = None  # not known until `assign` is called again

    @property
    def uses_layers(self) -> bool:
        """Whether the update of a parameter depends on its layer: it does."""
        return True

    def find_matrices(self, network: Sequential) -> set[tuple[Layer, str]]:
        """The parameters, by layer and name, that are updated as a whole.

        Parameters
        ----------
        network : Sequential

        Returns
        -------
        set of tuple (Layer, str)

        Raises
        ------
        ValueError
            If `matrices` selects none.

        Examples
        --------
        >>> import fastbp as fb
        >>> net = fb.mlp([2, 3, 4, 1])
        >>> fb.Muon().find_matrices(net) == {(net.layers[0], "W"), (net.layers[2], "W")}
        True
        """
        layers = [layer for _, layer in network.leaves]
        if self.matrices is None:
            return {(layer, "W") for layer in
                    [layer for layer in layers if isinstance(layer, Dense)][:-1]}
        found = {(layer, name) for layer in layers
                 for name, shape in layer.parameter_shapes.items()
                 if len(shape) == 2 and selects(self.matrices, layer, name)}
        if not found:
            raise ValueError(f"matrices: expected to select some parameters of two dimensions, "
                             f"got {self.matrices!r}, which selects none of this network's; "
                             f"\"W\" selects the weights of all dense layers")
        return found

    def part_settings(self, part: Part) -> dict[str, Any]:
        """The learning rate and weight decay of a part, where they are not the matrices'."""
        own: dict[str, Any] = {}
        if part.shape is None:
            own["learning_rate"] = self.adam_learning_rate
            if self.adam_weight_decay is not None:
                own["weight_decay"] = self.adam_weight_decay
        return own | super().part_settings(part)

    @property
    def largest_decay(self) -> float:
        """The largest weight decay of any parameter."""
        return max(super().largest_decay, self.adam_weight_decay or 0.0)

    @property
    def learning_rates(self) -> list[Rate]:
        """The learning rates of all parameters."""
        return [*super().learning_rates, self.adam_learning_rate]

    def group_rates(self, epoch: float, n: int) -> list[float]:
        """The learning rate of each of `group_parts`; as for `Optimizer`."""
        rate_at(self.adam_learning_rate, epoch, "adam_learning_rate")  # an error names it
        return super().group_rates(epoch, n)

    def update_part(self, parameters: Floats, gradients: Floats, learning_rate: float,
                    state: dict[str, Floats], part: Part) -> None:
        """Change the parameters of one part in place; all arrays are those of the part."""
        if part.shape is None:
            super().update_part(parameters, gradients, learning_rate, state, part)
            return
        decay = self.part_settings(part).get("weight_decay", self.weight_decay)
        kernels.muon_step(
            parameters.reshape(part.shape), gradients.reshape(part.shape),
            state["m"].reshape(part.shape), learning_rate=learning_rate, momentum=self.momentum,
            nesterov=self.nesterov, steps=self.ns_steps, weight_decay=decay)
