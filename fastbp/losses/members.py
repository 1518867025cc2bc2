"""The loss of an ensemble whose members' outputs are side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..kernels import checks
from ..kernels.types import Array, Floats
from .base import Loss, checked_loss, compute_loss

__all__ = ["EnsembleLoss"]


class EnsembleLoss(Loss):
    """The mean of the losses of several members, whose outputs are side by side.

    For a network such as TabM, which is an ensemble by itself (see `fastbp.EnsembleDense`): all
    members have the same targets.

    Parameters
    ----------
    loss : Loss
        Of one member.
    n_members : int
        How many there are; the network has n_members times as many outputs as one of them.

    Raises
    ------
    TypeError, ValueError
        If `loss` is not a loss, or `n_members` not a positive whole number.

    Notes
    -----
    Each row counts once for each member: outputs of shape (batch, n_members·n) are, in memory,
    n_members·batch rows of n, and their losses are added in the order of these rows.

    Examples
    --------
    Two members that predict one number each:

    >>> import fastbp as fb
    >>> loss = fb.EnsembleLoss(fb.MeanSquaredError(), 2)
    >>> loss(np.array([[1.0, 5.0]]), np.array([[3.0]]))
    (4.0, array([[-2.,  2.]]))
    """

    def __init__(self, loss: Loss, n_members: int) -> None:
        self.loss = checked_loss(loss)
        self.n_members = checks.integer("n_members", n_members, 1)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("loss", "n_members") and name in vars(self):
            raise AttributeError(f"EnsembleLoss.{name} is read-only; make another EnsembleLoss")
        super().__setattr__(name, value)

    @property
    def operation(self) -> tuple[Any, ...] | None:  # type: ignore[override]  # as the member's
        operation = checks.compiled_form(self.loss)
        if operation is None or isinstance(self.loss, EnsembleLoss):
            return None
        return (*operation, *((1.0, 1.0) if len(operation) == 3 else ()), self.n_members)

    def __call__(self, Z: Floats, y: Array,
                 sample_weight: Array | None = None) -> tuple[float, Floats]:
        rows = np.ascontiguousarray(Z).reshape(len(Z) * self.n_members, -1)
        y = np.repeat(np.asarray(y), self.n_members, axis=0)
        weights = None if sample_weight is None else np.repeat(sample_weight, self.n_members)
        value, dZ = compute_loss(self.loss, rows, y, weights)
        return value, dZ.reshape(Z.shape)

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """The checked targets: those of one member, which has n_out / n_members outputs."""
        n, rest = divmod(n_out, self.n_members)
        if rest:
            raise ValueError(f"loss: expected as many outputs for each of {self.n_members} "
                             f"members, got a network of {n_out} outputs")
        return self.loss.targets(y, n, dtype)
