"""Parameters with a learning rate or a weight decay of their own."""

from ..kernels import checks
from .rates import checked_rate

__all__ = ["Group"]


def _own_rate(name, value):
    return None if value is None else checked_rate(name, value)


def _own_decay(name, value):
    return None if value is None else checks.not_negative(name, value)


class Group(checks.Validated):
    """Parameters with a learning rate or a weight decay of their own.

    Parameters
    ----------
    parameters : str, type or callable
        Which: those of this name, such as ``"b"``, in all layers; those of layers of this class,
        such as `Embedding`; or those for which ``parameters(layer, name)`` is true.
    learning_rate : float or callable, optional
        A number or a schedule, in place of the optimizer's.
    weight_decay : float, optional
        In place of the optimizer's.

    Examples
    --------
    No decay for biases, and a higher rate for embeddings::

        AdamW(1e-3, groups=[Group("b", weight_decay=0),
                            Group(Embedding, learning_rate=1e-2)])
    """

    validators = {"learning_rate": _own_rate, "weight_decay": _own_decay}

    def __init__(self, parameters, learning_rate=None, weight_decay=None):
        if not (isinstance(parameters, str) or callable(parameters)):
            raise TypeError(f"parameters: expected a name, a class of layers or a function, got "
                            f"{parameters!r}")
        self.parameters = parameters
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def includes(self, layer, name):
        """Whether a parameter of a layer is in it."""
        if isinstance(self.parameters, str):
            return name == self.parameters
        if isinstance(self.parameters, type):
            return isinstance(layer, self.parameters)
        return bool(self.parameters(layer, name))

    def __repr__(self):
        own = {name: value for name, value in vars(self).items() if value is not None}
        return f"Group({', '.join(f'{name}={value!r}' for name, value in own.items())})"
