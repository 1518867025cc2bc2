"""Activations: a layer class for each row of the table of operations (kernels/ops.def)."""

from ..kernels import checks, ops
from .base import Layer


class Activation(Layer):
    """Base class of the activations: one function of every element.

    `function` is its name in kernels/ops.def.
    """

    function = None

    def __init__(self):
        super().__init__()

    @property
    def signature(self):
        if ACTIVATIONS.get(self.function) is not type(self):
            return None
        return self.function, getattr(self, "alpha", None)

    def lower(self, builder, x):
        alpha = {name: getattr(self, name) for name in ops.OPS[self.function].attributes}
        return builder.op(self.function, x, **alpha)


def activation_class(op):
    """The class of an activation, from its row in the table of operations (kernels/ops.def)."""
    contents = {"__doc__": ops.layer_docstring(op), "__module__": __name__, "function": op.name}
    if op.default_alpha is not None:
        def __init__(self, alpha=op.default_alpha):
            Activation.__init__(self)
            self.alpha = alpha

        __init__.__qualname__ = f"{op.layer}.__init__"
        contents |= {"__init__": __init__, "validators": {"alpha": checks.number}}
    return type(op.layer, (Activation,), contents)


# By the names of their functions, as `mlp` takes them.
ACTIVATIONS = {op.name: activation_class(op) for op in ops.ACTIVATIONS.values()}
__all__ = sorted(op.layer for op in ops.ACTIVATIONS.values())
globals().update((layer.__name__, layer) for layer in ACTIVATIONS.values())
