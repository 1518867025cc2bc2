"""`Layer`, the base class of all layers.

A layer maps a batch X (batch, n_in) to Z (batch, n_out); `lower` says how.  By hand,
``forward(X)`` keeps what ``backward(dZ)`` will need; ``backward`` takes the loss's gradient with
respect to Z, writes those of the layer's parameters, and returns that with respect to X.

Parameters and gradients are views into the two flat arrays of the network the layer is
in: the array ``W`` has its gradient beside it as ``dW``.
"""

import copy
import inspect
import math
import reprlib
import weakref
from types import MappingProxyType

import numpy as np

from .. import program
from ..kernels import checks

__all__ = ["Layer"]


class Layer(checks.Validated):
    """Base class of all layers, and of your own.

    A subclass calls ``super().__init__()`` with its sizes and the shapes of its
    parameters, and defines `forward` and `backward`, or `lower` in place of both; if it has
    parameters, `initialize` too.  What `forward` keeps for `backward` belongs in
    ``self.cache``.  In a network both are given read-only arrays, and what they return is
    checked for its shape and dtype.

    Parameters
    ----------
    n_in, n_out : int, optional
        Columns of what the layer takes and returns.  Without them it takes any number
        and returns as many.
    **parameter_shapes : tuple of int
        The shape of each parameter, by name.  Once the layer is in a network it has the
        attributes ``name`` and ``dname``: views into the network's flat arrays.

    Attributes
    ----------
    n_in, n_out : int or None
        Read-only, like `parameter_shapes`: another size is another layer.
    parameter_shapes : mapping of str to tuple of int
    cache : object
        What the last `forward` kept for `backward`; None before.
    key, step : int
        For layers that draw random numbers: draw them from these alone, and count `step`
        up in `forward`, so that the same seed gives the same training.

    Examples
    --------
    >>> class Scale(Layer):
    ...     def __init__(self, n):
    ...         super().__init__(n_in=n, n_out=n, scale=(n,))
    ...         self.n = n
    ...
    ...     def initialize(self, rng):
    ...         self.scale = 1.0
    ...
    ...     def forward(self, X, training=True):
    ...         self.cache = X
    ...         return X * self.scale
    ...
    ...     def backward(self, dZ):
    ...         self.dscale = (dZ * self.cache).sum(axis=0)
    ...         return dZ * self.scale
    """

    cache = None
    key = 0
    step = 0
    _buffer_shapes = MappingProxyType({})  # of layers from files that were written before buffers

    def __init__(self, n_in=None, n_out=None, **parameter_shapes):
        n_in = None if n_in is None else checks.integer("n_in", n_in, 1)
        n_out = n_in if n_out is None else checks.integer("n_out", n_out, 1)
        if n_in is None and n_out is not None:
            raise ValueError("n_in: expected a number of columns since n_out is given, got None")
        for name in parameter_shapes:
            self._check_name(name, parameter_shapes)
        shapes = {
            name: tuple(checks.integer(name, size, 0) for size in shape)
            for name, shape in parameter_shapes.items()
        }
        vars(self).update(n_in=n_in, n_out=n_out, _parameter_shapes=shapes, _buffer_shapes={})

    def _check_name(self, name, others):
        """Raise unless a parameter of this name and its gradient can be attributes."""
        if "d" + name in others:
            raise ValueError(f"parameter_shapes: expected no parameter named d{name} beside "
                             f"{name}, whose gradient has that name")
        for attribute in (name, "d" + name):
            is_method = callable(getattr(type(self), attribute, None))
            if is_method or attribute in TAKEN:
                raise ValueError(f"parameter_shapes: expected a name that is free for a "
                                 f"parameter and its gradient, got {name!r}, but "
                                 f"{attribute!r} is an attribute of every layer; choose another")

    @property
    def parameter_shapes(self):
        """The shape of each parameter, by name."""
        return MappingProxyType(self._parameter_shapes)

    def add_buffers(self, **shapes):
        """Have arrays besides the parameters that are kept and saved, but not trained.

        To be called by a constructor, after ``super().__init__``.

        Parameters
        ----------
        **shapes : tuple of int
            The shape of each, by name; it becomes an attribute, as that of a parameter does.
        """
        for name in shapes:
            self._check_name(name, self.parameter_shapes)
        self._buffer_shapes.update(shapes)

    @property
    def buffer_shapes(self):
        """The shape of each buffer, by name."""
        return MappingProxyType(self._buffer_shapes)

    @property
    def array_shapes(self):
        """The shape of each parameter and buffer, by name."""
        return {**self._parameter_shapes, **self._buffer_shapes}

    @property
    def children(self):
        """The layers that this one consists of, each with its place; none in most."""
        return ()

    def initialize(self, rng):
        """Fill the parameters; `rng` is a `numpy.random.Generator`."""
        if self.parameter_shapes:
            raise NotImplementedError(
                f"{type(self).__name__} has parameters and needs a method initialize(rng)"
            )

    @property
    def signature(self):
        """What `lower` goes by, so that equal ones mean equal instructions; None where it may go
        by anything, and where an instruction asks the layer itself."""
        return None

    def lower(self, builder, x):
        """Say what the layer does, as instructions of a program.

        The default is one that runs in Python: it calls `forward` and `backward`.

        Parameters
        ----------
        builder : fastbp.program.Builder
        x : fastbp.program.Value
            What the layer is given.

        Returns
        -------
        fastbp.program.Value
            What it returns.
        """
        return builder.python(self, x)

    def forward(self, X, training=True):
        """Z (batch, n_out) from X (batch, n_in).

        With ``training=False`` nothing is kept and nothing is random: prediction.
        """
        self._check_lowered("forward(X, training)")
        X = checks.floats("X", X)
        columns = X.shape[-1] if X.ndim else 1
        run = program.Interpreter(program.lower_layer(self, columns, training), training)
        Z = run.forward(X)
        if training:
            self.cache = run, Z.shape, Z.dtype
        return Z

    def backward(self, dZ):
        """Write the parameters' gradients and return dX (batch, n_in)."""
        self._check_lowered("backward(dZ)")
        return self._back(dZ, input_gradient=True)

    def _back(self, dZ, input_gradient):
        run, shape, dtype = self._kept()
        return run.backward(self._checked_dZ(dZ, shape, dtype), input_gradient)

    def _check_lowered(self, method):
        if type(self).lower is Layer.lower:
            raise NotImplementedError(f"{type(self).__name__} needs a method {method}")

    def backward_parameters(self, dZ):
        """Write the parameters' gradients only: nobody needs dX of a first layer."""
        if type(self).backward is Layer.backward:
            self._check_lowered("backward(dZ)")
            self._back(dZ, input_gradient=False)
        else:
            self.backward(dZ)

    def config(self):
        """The constructor's arguments, as a dict that JSON can hold.

        The default reads each from the attribute of the same name.
        """
        return {
            name: getattr(self, name)
            for name, parameter in inspect.signature(type(self).__init__).parameters.items()
            if name != "self" and parameter.kind not in (
                parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD
            )
        }

    @reprlib.recursive_repr()
    def __repr__(self):
        try:
            arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        except AttributeError:
            arguments = "..."
        return f"{type(self).__name__}({arguments})"

    # The rest keeps parameters and gradients views into the network's arrays.

    @property
    def bound(self):
        """Whether the layer is in a network."""
        return "_views" in self.__dict__

    @property
    def initialized(self):
        """Whether the parameters have values, in a network or in a copy from one; or there are
        none."""
        shapes = self.array_shapes
        return any(name in self.__dict__ for name in shapes) or (
            not shapes and type(self).initialize is Layer.initialize)

    @property
    def n_parameters(self):
        """How many numbers the parameters are."""
        return sum(map(math.prod, self._parameter_shapes.values()))

    @property
    def n_buffers(self):
        """How many numbers the buffers are."""
        return sum(map(math.prod, self._buffer_shapes.values()))

    def allocate(self, dtype):
        """Parameters and buffers of its own, zeros, until it is bound to a network's."""
        self._check_unbound("allocate")
        for name, shape in self.array_shapes.items():
            self.__dict__[name] = np.zeros(shape, dtype)

    def clear(self):
        """Forget the parameters it has of its own."""
        self._check_unbound("clear")
        for name in self.array_shapes:
            self.__dict__.pop(name, None)

    def _check_unbound(self, method):
        if self.bound:
            raise RuntimeError(f"{type(self).__name__}.{method}: expected a layer that is in no "
                               f"network; the parameters of one that is are the network's")

    def check_values(self):
        """Raise unless the parameters it has of its own can be copied into a network's."""
        self.restore_views()
        for name, shape in self.array_shapes.items():
            if name in self.__dict__:
                values = checks.real_numbers(name, self.__dict__[name])
                if values.ndim > 0:
                    checks.shape(name, values, shape, "as parameter_shapes says")

    def views_into(self, parameters, gradients, buffers):
        """Views of these flat arrays for each parameter, with its values, and its gradient, and
        for each buffer."""
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

    def bind(self, views, programs):
        """Make these views the parameters and their gradients.

        The network's programs are made anew once a setting has changed.
        """
        self.__dict__.update(views)
        own = {name: view.view() for name, view in views.items()}  # which nobody else has
        # A reference that is weak, for the programs know their layers: a network that nobody has
        # any more is freed at once.
        self.__dict__.update(_views=views, _own_views=own, _programs=weakref.ref(programs))

    def restore_views(self):
        """Give views whose shape or dtype somebody has set those that they had.

        Compiled code knows nothing of such a change, and the layers shall not either.
        """
        for name, own in self.__dict__.get("_own_views", {}).items():
            view = self._views[name]
            if (view.shape, view.strides, view.dtype) != (own.shape, own.strides, own.dtype):
                self._views[name] = self.__dict__[name] = own.view()

    def unbind(self):
        """Leave the network: the parameters keep their values, in arrays that no network uses."""
        for name in ("_views", "_own_views", "_programs", "cache"):
            self.__dict__.pop(name, None)
        for name in self.parameter_shapes:
            self.__dict__.pop("d" + name, None)

    def __setattr__(self, name, value):
        """Assigning to a parameter or its gradient writes into the network's arrays."""
        view = self.__dict__.get("_views", {}).get(name)
        if view is None:
            if name in READ_ONLY and type(value) is int and value == vars(self).get(name):
                return  # as a subclass's constructor may do
            self._check_writable(name)
            super().__setattr__(name, value)
            programs = self.__dict__.get("_programs", lambda: None)()
            if (programs is not None and name not in ("cache", "key", "step")
                    and not program.runs_in_python(type(self))):
                programs.clear()
        elif view is not value:  # `layer.W += 1` ends in an assignment to itself
            values = checks.real_numbers(name, value)
            view = self.__dict__["_own_views"][name]  # whatever became of the one given out
            try:
                view[...] = values
            except ValueError:
                raise ValueError(f"{name}: expected numbers of shape {view.shape}, got shape "
                                 f"{values.shape}") from None

    def __delattr__(self, name):
        self._check_writable(name)
        super().__delattr__(name)

    def _check_writable(self, name):
        if name in READ_ONLY:
            raise AttributeError(
                f"{type(self).__name__}.{name} is read-only: a layer's sizes are fixed when it is "
                f"made; make another layer, and assign it to a place in network.layers"
            )
        if name in self.__dict__.get("_views", ()):
            raise AttributeError(f"{type(self).__name__}.{name} cannot be deleted: it is part of "
                                 f"the network's parameters or gradients")

    def __getstate__(self):
        """A copy has arrays of its own; gradients and caches stay behind."""
        self.restore_views()
        state = self.__dict__.copy()
        views = state.pop("_views", {})
        for name in ("_own_views", "_programs"):
            state.pop(name, None)
        for name in self.parameter_shapes:
            if name in views:
                state.pop("d" + name)
        state.pop("cache", None)
        return state

    def __copy__(self):
        return copy.deepcopy(self)

    @staticmethod
    def _checked_dZ(dZ, shape, dtype):
        """dZ, if it is an array of floats that fits what `forward` kept."""
        dZ = checks.floats("dZ", dZ, dtype=dtype)
        checks.shape("dZ", dZ, shape, "of what forward returned")
        return dZ

    def _kept(self):
        if self.cache is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: nothing to go back from; "
                f"call forward(X) with training=True first"
            )
        return self.cache


READ_ONLY = {"n_in", "n_out", "parameter_shapes"}
# What no parameter can be named after: it would hide, or be hidden by, what a layer has.
TAKEN = {*READ_ONLY, *dir(Layer), "_views", "_own_views", "_parameter_shapes",
         "_buffer_shapes", "_programs"}
