"""Which parameters are updated how: selections, groups and parts of the flat arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from ..kernels import checks
from .rates import Rate, checked_rate

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["Group"]

# Which parameters: a name, a class of layers, or a function of layer and name.
Selection: TypeAlias = "str | type[Layer] | Callable[[Layer, str], bool]"


class Part(NamedTuple):
    """Parameters that are updated alike.

    Attributes
    ----------
    start, size : int
        Where they are in the flat array.
    group : Group or None
        None for those that are in no group.
    shape : tuple of int or None
        That of a matrix that is updated as a whole.
    """

    start: int
    size: int
    group: Group | None = None
    shape: tuple[int, int] | None = None


def checked_selection(name: str, value: Any) -> Selection:
    """Check that `value` says which parameters.

    Parameters
    ----------
    name : str
        The name of the argument, for messages.
    value : str, type or callable

    Returns
    -------
    str, type or callable

    Raises
    ------
    TypeError
        If it is none of these.

    Examples
    --------
    >>> from fastbp.optimizers.groups import checked_selection
    >>> checked_selection("parameters", "b")
    'b'
    """
    if not (isinstance(value, str) or callable(value)):
        raise TypeError(f"{name}: expected a name, a class of layers or a function, got {value!r}")
    selection: Selection = value
    return selection


def selects(selection: Selection, layer: Layer, name: str) -> bool:
    """Whether a parameter is one of a selection.

    Parameters
    ----------
    selection : str, type or callable
    layer : Layer
    name : str
        The parameter's name in the layer.

    Returns
    -------
    bool

    Examples
    --------
    >>> import fastbp as fb
    >>> from fastbp.optimizers.groups import selects
    >>> selects(fb.Dense, fb.Dense(2, 3), "W")
    True
    """
    if isinstance(selection, str):
        return name == selection
    if isinstance(selection, type):
        return isinstance(layer, selection)
    return bool(selection(layer, name))


def _own_rate(name: str, value: Any) -> Rate | None:
    return None if value is None else checked_rate(name, value)


def _own_decay(name: str, value: Any) -> float | None:
    return None if value is None else checks.not_negative(name, value)


class Group(checks.Validated):
    """Parameters with their own learning rate or weight decay.

    Parameters
    ----------
    parameters : str, type or callable
        Which parameters: the name that they have in all layers, such as ``"b"``; a layer class,
        such as `Embedding`, for all parameters of its layers; or a predicate
        ``parameters(layer, name)``.
    learning_rate : float or callable, optional
        A number or a schedule that replaces the optimizer's.
    weight_decay : float, optional
        Replaces the optimizer's.

    Raises
    ------
    TypeError, ValueError
        If `parameters` is none of these, or a number is out of range.

    Examples
    --------
    No weight decay for biases, and a higher learning rate for embeddings:

    >>> import fastbp as fb
    >>> optimizer = fb.AdamW(1e-3, groups=[fb.Group("b", weight_decay=0),
    ...                                    fb.Group(fb.Embedding, learning_rate=1e-2)])
    """

    validators = {"learning_rate": _own_rate, "weight_decay": _own_decay}

    def __init__(self, parameters: Selection, learning_rate: Rate | None = None,
                 weight_decay: float | None = None) -> None:
        self.parameters = checked_selection("parameters", parameters)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def includes(self, layer: Layer, name: str) -> bool:
        """Whether the group includes a parameter.

        Parameters
        ----------
        layer : Layer
        name : str
            The parameter's name in the layer.

        Returns
        -------
        bool

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.Group("b").includes(fb.Dense(2, 3), "W")
        False
        """
        return selects(self.parameters, layer, name)

    def __repr__(self) -> str:
        own = {name: value for name, value in vars(self).items() if value is not None}
        return f"Group({', '.join(f'{name}={value!r}' for name, value in own.items())})"
