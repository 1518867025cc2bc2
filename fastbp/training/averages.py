"""The average of the parameters over the steps, which a network has whenever callers see it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..kernels.types import Floats

if TYPE_CHECKING:
    from ..network import Sequential
    from ..optimizers import Optimizer

__all__ = ["Averages"]


class Averages:
    """Switches a network between the parameters that are trained and their average.

    The average is that of ``fit(ema=…)``, or one that the optimizer keeps.  Without any, the
    network always has the parameters that are trained.

    Parameters
    ----------
    network : Sequential
    optimizer : Optimizer or None
    decay : float or None
        Of an exponential moving average.

    Attributes
    ----------
    decay : float or None
    trained : ndarray of shape (n,) or None
        The unaveraged parameters while the network has the average; otherwise None.
    """

    def __init__(self, network: Sequential, optimizer: Optimizer | None,
                 decay: float | None) -> None:
        self._network, self._optimizer = network, optimizer
        self.decay = decay
        self.trained: Floats | None = None
        self._moving: Floats | None = None

    def current(self) -> Floats | None:
        """The averaged parameters, if there are any."""
        parameters = self._network.parameters
        if self.decay is not None:
            if self._moving is None:
                self._moving = parameters.copy()
            return self._moving
        if self._optimizer is None or self._optimizer.averaged is None:
            return None
        average = self._optimizer.state.get(self._optimizer.averaged)
        fits = (isinstance(average, np.ndarray) and average.shape == parameters.shape
                and average.dtype == parameters.dtype)
        return average if fits else None  # the next step raises an error for a bad array

    def use_average(self) -> None:
        """Give the network the averaged parameters, if there are any."""
        average = self.current()
        if average is not None and self.trained is None:
            self.trained = self._network.parameters.copy()
            self._network.parameters[...] = average

    def use_trained(self) -> None:
        """Give the network back the parameters that are being trained."""
        if self.trained is None:
            return
        parameters, average = self._network.parameters, self.current()
        if average is None or np.array_equal(parameters, average):
            parameters[...] = self.trained
        else:  # a callback has set them; training continues from there
            self._restart()
        self.trained = None

    def _restart(self) -> None:
        """Start the averages again, from the network's parameters."""
        if self._moving is not None:
            self._moving[...] = self._network.parameters
        if self._optimizer is not None:
            for name in self._optimizer.copies:
                self._optimizer.state[name][...] = self._network.parameters

    def resume(self, trained: Floats | None = None) -> None:
        """Resume training that left averaged parameters in the network.

        Parameters
        ----------
        trained : ndarray of shape (n,), optional
            The saved value of `trained`; by default, the optimizer's `trained()`.
        """
        network, optimizer = self._network, self._optimizer
        if (trained is None and optimizer is not None and optimizer.averaged is not None
                and optimizer.steps > 0):
            optimizer.start(network.parameters)
            trained = optimizer.trained() if optimizer.steps > 0 else None
        if trained is not None:
            self.trained = trained.copy()
            self.current()
