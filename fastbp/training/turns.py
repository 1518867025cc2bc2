"""The Python functions that a compiled training step calls."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from .. import kernels, losses
from ..kernels.types import Array, Doubles, Floats
from .data import Dataset, batch_weight

if TYPE_CHECKING:
    from .interrupts import DeferInterrupt
    from .run import Training

__all__ = ["Turns"]


class Turns:
    """The Python functions that a compiled step calls; see `fastbp.kernels.steps.Steps`.

    Parameters
    ----------
    run : Training
    """

    def __init__(self, run: Training) -> None:
        self._run: Training = weakref.proxy(run)  # not a cycle, which would delay freeing memory

    def begin(self, orders: Array, rates: Doubles, interrupts: DeferInterrupt | None) -> None:
        """Before some epochs: take the orders of their rows and the learning rates of their steps.
        """
        self._orders, self._rates, self._interrupts = orders, rates, interrupts

    def _data_and_order(self, step: int) -> tuple[Dataset, Array]:
        size = self._run.batch_size
        epoch, batch = divmod(step, self._run.steps_per_epoch)
        return self._run.data, self._orders[epoch, batch * size : (batch + 1) * size]

    def gather(self, step: int) -> Floats:
        """The step's rows of X."""
        data, order = self._data_and_order(step)
        return data.inputs(order)

    def weight(self, step: int) -> float:
        """The sum of the step's sample weights."""
        data, order = self._data_and_order(step)
        return batch_weight(data.targets_of(order)[1], len(order))

    def compute_loss(self, step: int, Z: Floats) -> tuple[float, Floats]:
        """The loss, and its gradient with respect to Z."""
        data, order = self._data_and_order(step)
        return losses.compute_loss(data.loss, Z, *data.targets_of(order))

    def count(self, step: int, Z: Floats) -> None:
        """Update the metric with the step's outputs."""
        data, order = self._data_and_order(step)
        sums = self._run.sums
        metric = None if sums is None else sums.metric
        if metric is not None:
            metric.update(Z, *data.targets_of(order))

    def refuse(self, step: int) -> None:
        """Raise the error for data that became invalid after they were checked."""
        data, order = self._data_and_order(step)
        self._run.network.forward(data.inputs(order), training=False)
        self.compute_loss(step, np.zeros((len(order), data.n_out), data.dtype))

    def update(self, step: int, loss: float, penalty: float) -> None:
        """Make one optimizer step, and undo it if a weight becomes infinite.

        A copy for this is made only when the gradients, weights or learning rate are large enough
        for that to happen.
        """
        network, rates = self._run.network, self._rates[step]
        if not np.isfinite(loss + penalty):
            self._diverged(step, f"the loss is {loss + penalty}")
        gradient_norm = kernels.norm(network.gradients)
        if not np.isfinite(gradient_norm):
            self._diverged(step, "the gradients are not finite")
        assert self._interrupts is not None
        self._interrupts.call(self._update, step, rates, gradient_norm)

    def _update(self, step: int, rates: Doubles, gradient_norm: float) -> None:
        network, optimizer = self._run.network, self._run.optimizer
        self._run.count_steps()
        rate, decay = float(max(rates)), optimizer.largest_decay
        size = gradient_norm + (decay * kernels.norm(network.parameters) if decay > 0 else 0)
        # Below the square root of the largest number nothing that is multiplied overflows.
        safe = float(np.finfo(network.dtype).max) ** 0.5
        if max(1.0, rate) * max(1.0, decay) * max(1.0, size) < safe:
            optimizer.step_at(network.parameters, network.gradients, rates)
            return
        optimizer.start(network.parameters)
        changed = [network.parameters, *optimizer.state.values()]
        before, steps = [array.copy() for array in changed], optimizer.steps
        optimizer.step_at(network.parameters, network.gradients, rates)
        if not all(np.isfinite(array).all() for array in changed):
            for array, values in zip(changed, before, strict=True):
                array[...] = values
            optimizer.steps = steps
            self._diverged(step, "the step makes weights that are not finite")

    def _diverged(self, step: int, what: str) -> NoReturn:
        run = self._run
        epoch, batch = divmod(step, run.steps_per_epoch)
        raise FloatingPointError(
            f"training diverged at step {run.steps_before + step + 1} (epoch "
            f"{run.epoch + epoch + 1}, batch {batch + 1} of {run.steps_per_epoch}): {what}. The "
            f"network keeps the weights "
            f"from before this step. Try a smaller learning rate, clip_norm=1.0 on the optimizer, "
            f"or inputs and targets scaled to a standard deviation of about 1"
        )
