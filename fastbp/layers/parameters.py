"""Named parameter arrays that become views into the flat arrays of a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..kernels import checks
from ..kernels.types import Floats

__all__ = ["Parametrized"]

if TYPE_CHECKING:
    class ArrayAttribute:
        """Type of a parameter, gradient or buffer: assigning to it writes into its array."""

        def __get__(self, instance: object, owner: object = None) -> Floats: ...
        def __set__(self, instance: object, value: ArrayLike) -> None: ...


class Parametrized(checks.Validated):
    """Base class of objects with named parameters, their gradients, and buffers.

    Outside a network an object has its own parameter arrays, or none yet.  A network binds it: then
    each parameter, gradient and buffer is a view into a flat array of the network, and assigning to
    the attribute writes into that array.

    Parameters
    ----------
    **parameter_shapes : tuple of int
        The shape of each parameter, by name.

    Attributes
    ----------
    reserved_names : frozenset of str
        Names that no parameter, gradient or buffer may have.

    Examples
    --------
    >>> import fastbp as fb
    >>> layer = fb.Dense(2, 3)
    >>> layer.array_shapes, layer.n_parameters, layer.bound
    ({'W': (2, 3), 'b': (3,)}, 9, False)
    >>> net = fb.Sequential([layer])
    >>> layer.b = [1, 2, 3]
    >>> net.parameters[-3:]
    array([1., 2., 3.], dtype=float32)
    """

    reserved_names: ClassVar[frozenset[str]] = frozenset()
    _parameter_shapes: dict[str, tuple[int, ...]]
    # The default is for layers that were pickled before there were buffers.
    _buffer_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({})
    _views: dict[str, Floats]

    def __init__(self, **parameter_shapes: tuple[int, ...]) -> None:
        for name in parameter_shapes:
            self._check_name(name, parameter_shapes)
        shapes = {
            name: tuple(checks.integer(name, size, 0) for size in shape)
            for name, shape in parameter_shapes.items()
        }
        vars(self).update(_parameter_shapes=shapes, _buffer_shapes={})

    def _check_name(self, name: str, others: Mapping[str, object]) -> None:
        """Raise unless a parameter of this name and its gradient can be attributes."""
        if "d" + name in others:
            raise ValueError(f"parameter_shapes: expected no parameter named d{name} beside "
                             f"{name}, whose gradient has that name")
        for attribute in (name, "d" + name):
            is_method = callable(getattr(type(self), attribute, None))
            if is_method or attribute in self.reserved_names:
                raise ValueError(f"parameter_shapes: expected a name that is free for a "
                                 f"parameter and its gradient, got {name!r}, but "
                                 f"{attribute!r} is an attribute of every layer; choose another")

    @property
    def parameter_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each parameter, by name."""
        return MappingProxyType(self._parameter_shapes)

    def add_buffers(self, **shapes: tuple[int, ...]) -> None:
        """Declare buffers: arrays that are saved with the parameters, but not trained.

        Call this in the constructor, after ``super().__init__``.

        Parameters
        ----------
        **shapes : tuple of int
            The shape of each buffer, by name.  Like a parameter it becomes an attribute.

        Raises
        ------
        ValueError
            If a name is taken.
        """
        for name in shapes:
            self._check_name(name, self.parameter_shapes)
        vars(self)["_buffer_shapes"].update(shapes)

    @property
    def buffer_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each buffer, by name."""
        return MappingProxyType(self._buffer_shapes)

    @property
    def array_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of each parameter and buffer, by name."""
        return {**self._parameter_shapes, **self._buffer_shapes}

    @property
    def n_parameters(self) -> int:
        """Total size of the parameters."""
        return sum(map(math.prod, self._parameter_shapes.values()))

    @property
    def n_buffers(self) -> int:
        """Total size of the buffers."""
        return sum(map(math.prod, self._buffer_shapes.values()))

    @property
    def bound(self) -> bool:
        """Whether the arrays are a network's."""
        return "_views" in self.__dict__

    def allocate(self, dtype: DTypeLike) -> None:
        """Make parameters and buffers of zeros that belong to no network.

        Raises
        ------
        RuntimeError
            If the object is in a network.
        """
        self._check_unbound("allocate")
        for name, shape in self.array_shapes.items():
            self.__dict__[name] = np.zeros(shape, dtype)

    def clear(self) -> None:
        """Drop parameters and buffers that belong to no network.

        Raises
        ------
        RuntimeError
            If the object is in a network.
        """
        self._check_unbound("clear")
        for name in self.array_shapes:
            self.__dict__.pop(name, None)

    def _check_unbound(self, method: str) -> None:
        if self.bound:
            raise RuntimeError(f"{type(self).__name__}.{method}: expected a layer that is in no "
                               f"network; in one, the network holds the parameters")

    def check_values(self) -> None:
        """Raise unless the parameters and buffers can be copied into a network's arrays.

        Raises
        ------
        TypeError
            If they are not real numbers.
        ValueError
            If a shape is wrong.
        """
        self.restore_views()
        for name, shape in self.array_shapes.items():
            if name in self.__dict__:
                values = checks.real_numbers(name, self.__dict__[name])
                if values.ndim > 0:
                    checks.shape(name, values, shape, "as parameter_shapes says")

    def views_into(self, parameters: Floats, gradients: Floats,
                   buffers: Floats) -> dict[str, Floats]:
        """Views for `bind` into these flat arrays, to which the present values are copied.

        Parameters
        ----------
        parameters, gradients : ndarray of shape (n_parameters,)
        buffers : ndarray of shape (n_buffers,)

        Returns
        -------
        dict of str to ndarray
            By the names of the attributes.
        """
        views, start = {}, 0
        for name, shape in self.parameter_shapes.items():
            stop = start + math.prod(shape)
            views[name] = parameters[start:stop].reshape(shape)
            views["d" + name] = gradients[start:stop].reshape(shape)
            start = stop
        start = 0
        for name, shape in self.buffer_shapes.items():
            stop = start + math.prod(shape)
            views[name] = buffers[start:stop].reshape(shape)
            start = stop
        for name in self.array_shapes:
            if name in self.__dict__:
                views[name][...] = self.__dict__[name]
        return views

    def bind_views(self, views: Mapping[str, Floats]) -> None:
        """Make these views the parameters, gradients and buffers."""
        self.__dict__.update(views)
        own = {name: view.view() for name, view in views.items()}  # which nobody else has
        self.__dict__.update(_views=views, _own_views=own)

    def restore_views(self) -> None:
        """Undo in-place changes of the shape or dtype of a view.

        Compiled code works on the flat arrays and knows nothing of such a change.
        """
        for name, own in self.__dict__.get("_own_views", {}).items():
            view = self._views[name]
            if (view.shape, view.strides, view.dtype) != (own.shape, own.strides, own.dtype):
                self._views[name] = self.__dict__[name] = own.view()

    def unbind(self) -> None:
        """Leave the network; the parameters keep their values, in arrays that no network uses."""
        for name in ("_views", "_own_views"):
            self.__dict__.pop(name, None)
        for name in self.parameter_shapes:
            self.__dict__.pop("d" + name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        """Assigning to a parameter, gradient or buffer writes into the network's array."""
        view = self.__dict__.get("_views", {}).get(name)
        if view is None:
            super().__setattr__(name, value)
        elif view is not value:  # `layer.W += 1` ends in an assignment to itself
            values = checks.real_numbers(name, value)
            view = self.__dict__["_own_views"][name]  # the view given out may have changed shape
            try:
                view[...] = values
            except ValueError:
                raise ValueError(f"{name}: expected numbers of shape {view.shape}, got shape "
                                 f"{values.shape}") from None

    def __delattr__(self, name: str) -> None:
        if name in self.__dict__.get("_views", ()):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted: it is part of "
                                 f"the network's parameters or gradients")
        super().__delattr__(name)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has its own arrays, and no gradients."""
        self.restore_views()
        state = self.__dict__.copy()
        views = state.pop("_views", {})
        state.pop("_own_views", None)
        for name in self.parameter_shapes:
            if name in views:
                state.pop("d" + name)
        return state
