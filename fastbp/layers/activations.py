"""Activations: a layer class for each row of the table of operations (kernels/ops.def).

The stub that type checkers read is made from the same table by `fastbp.kernels.ops.layers_stub`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ..kernels import checks, ops
from .base import Layer

if TYPE_CHECKING:
    from ..program import Builder, Value

# The layer classes by the names of their functions, which are also the names that `mlp` takes.
ACTIVATIONS: dict[str, type[Activation]] = {}

_EXAMPLE = """
    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Dense(4, 8), fb.{layer}(), fb.Dense(8, 2)])
    """


class Activation(Layer):
    """Base class of the activations, which apply a function to each element.

    Attributes
    ----------
    function : str
        The name of the function in `fastbp.kernels` and in kernels/ops.def.

    Examples
    --------
    >>> import fastbp as fb
    >>> isinstance(fb.ReLU(), fb.layers.Activation), fb.ReLU.function
    (True, 'relu')
    """

    function: ClassVar[str] = ""

    def __init__(self) -> None:
        super().__init__()

    def lower(self, builder: Builder, x: Value) -> Value:
        alpha = {name: getattr(self, name) for name in ops.OPS[self.function].attributes}
        a: Value = builder.op(self.function, x, **alpha)
        return a


def activation_class(op: ops.Activation) -> type[Activation]:
    """Make the layer class of an activation.

    Parameters
    ----------
    op : fastbp.kernels.ops.Activation
        Its row of kernels/ops.def.

    Returns
    -------
    type

    Examples
    --------
    >>> from fastbp.kernels import ops
    >>> from fastbp.layers.activations import activation_class
    >>> activation_class(ops.ACTIVATIONS["elu"])()
    ELU(alpha=1.0)
    """
    doc = f"{ops.layer_docstring(op).rstrip()}\n{_EXAMPLE.format(layer=op.layer)}"
    contents: dict[str, Any] = {"__doc__": doc, "__module__": __name__, "function": op.name}
    if op.default_alpha is not None:
        def __init__(self: Any, alpha: float = op.default_alpha) -> None:
            Activation.__init__(self)
            self.alpha = alpha

        __init__.__qualname__ = f"{op.layer}.__init__"
        contents |= {"__init__": __init__, "validators": {"alpha": checks.number}}
    return type(op.layer, (Activation,), contents)


ACTIVATIONS |= {op.name: activation_class(op) for op in ops.ACTIVATIONS.values()}
__all__ = sorted(op.layer for op in ops.ACTIVATIONS.values())
globals().update((layer.__name__, layer) for layer in ACTIVATIONS.values())
