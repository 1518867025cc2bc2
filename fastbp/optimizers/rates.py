"""Learning rates: numbers, or schedules of the time in epochs."""

from ..kernels import checks

__all__ = ["checked_rate", "rate_at"]


def checked_rate(name, value):
    return value if callable(value) else checks.not_negative(name, value)


def rate_at(learning_rate, epoch):
    if not callable(learning_rate):
        return learning_rate
    epoch = checks.not_negative("epoch", epoch)
    return checks.number(f"learning_rate at epoch {epoch:g}", learning_rate(epoch), 0)
