"""Learning rates: numbers, or schedules, which are callables of the time in epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from ..kernels import checks

__all__ = ["Rate", "checked_rate", "rate_at"]

Rate: TypeAlias = float | Callable[[float], float]


def checked_rate(name: str, value: Any) -> Rate:
    """Check that `value` is a learning rate.

    Parameters
    ----------
    name : str
        The name of the argument, for messages.
    value : float or callable

    Returns
    -------
    float or callable

    Raises
    ------
    TypeError, ValueError
        If it is neither callable nor a finite number of at least 0.

    Examples
    --------
    >>> from fastbp.optimizers.rates import checked_rate
    >>> checked_rate("learning_rate", 1)
    1.0
    """
    rate: Rate = value if callable(value) else checks.not_negative(name, value)
    return rate


def rate_at(learning_rate: Rate, epoch: float, name: str = "learning_rate") -> float:
    """The learning rate at a time.

    Parameters
    ----------
    learning_rate : float or callable
    epoch : float
        The time in epochs.
    name : str, default "learning_rate"
        The name of the setting, for messages.

    Returns
    -------
    float

    Raises
    ------
    TypeError, ValueError
        If a schedule does not return a finite number of at least 0.

    Examples
    --------
    >>> from fastbp.optimizers.rates import rate_at
    >>> rate_at(lambda epoch: 0.1 / (1 + epoch), 1.0)
    0.05
    """
    if not callable(learning_rate):
        return learning_rate
    epoch = checks.not_negative("epoch", epoch)
    return checks.number(f"{name} at epoch {epoch:g}", learning_rate(epoch), 0)
