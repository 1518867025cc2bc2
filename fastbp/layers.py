"""Layers: what a network is made of, each a few instructions of a program.

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
from typing import TYPE_CHECKING

import numpy as np

from . import initializers, program
from .kernels import checks, ops

__all__ = [
    "BatchNorm",
    "Columns",
    "Dense",
    "Dropout",
    "Embedding",
    "Layer",
    "LayerNorm",
    "PReLU",
    "RMSNorm",
    "Residual",
]

if TYPE_CHECKING:  # a stub that setup.py writes from the table of operations
    from . import activation_types
    from .activation_types import *

    __all__ += activation_types.__all__


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


class Dense(Layer):
    """Affine map of every row: ``Z = X·W + b``.

    Parameters
    ----------
    n_in, n_out : int
    init : str or callable, default "he_uniform"
        Initial weights: ``"he_uniform"``, ``"he_normal"``, ``"glorot_uniform"``,
        ``"glorot_normal"``, or a callable ``(rng, n_in, n_out) -> (n_in, n_out) array``.
        The bias starts at 0.

    Attributes
    ----------
    W, dW : ndarray of shape (n_in, n_out)
    b, db : ndarray of shape (n_out,)
    """

    def __init__(self, n_in, n_out, init="he_uniform"):
        n_in = checks.integer("n_in", n_in, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(n_in, n_out, W=(n_in, n_out), b=(n_out,))
        initializers.get(init)
        self.init = init

    @property
    def signature(self):
        return ("Dense", *self.parameter_shapes.values()) if type(self) is Dense else None

    def lower(self, builder, x):
        return builder.op("dense", x, builder.parameter(self, "W"), builder.parameter(self, "b"))

    def initialize(self, rng):
        weights = initializers.get(self.init)(rng, self.n_in, self.n_out)
        weights = checks.data("init", weights)
        checks.shape("init", weights, self.parameter_shapes["W"], "from the callable")
        self.W = weights
        self.b = 0

    def config(self):
        """As `Layer.config`; a callable `init` has done its work and is left out."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config


class Dropout(Layer):
    """Zero each input with probability `rate` while training, scale the rest up.

    Parameters
    ----------
    rate : float in [0, 1)

    Notes
    -----
    The mask is a function of the seed, the layer's place, the step and the element's
    index (`fastbp.kernels.dropout`), so it is made anew for the backward pass rather
    than kept.
    """

    validators = Layer.validators | {
        "rate": checks.fraction,
        "key": lambda name, value: checks.integer(name, value, 0, 2**64 - 1),
        "step": lambda name, value: checks.integer(name, value, 0, 2**62),
    }

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def lower(self, builder, x):
        return builder.op("dropout", x, layer=self, rate=self.rate) if builder.training else x


class Columnwise(Layer):
    """Base class of layers with a parameter for each of `n` columns, as many as they return."""

    @property
    def n(self):
        """Columns."""
        return self.n_in


class LayerNorm(Columnwise):
    """Normalise each row, then scale and shift the columns: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``, with the mean and the variance of the row.

    Parameters
    ----------
    n : int
        Columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.
    beta, dbeta : ndarray of shape (n,)
        0 in the beginning.

    References
    ----------
    J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer normalization", arXiv:1607.06450.
    """

    validators = Layer.validators | {"epsilon": checks.positive}

    def __init__(self, n, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1

    def lower(self, builder, x):
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=1.0)
        return builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                          builder.parameter(self, "beta"))


class RMSNorm(Columnwise):
    """Divide each row by its root mean square, then scale the columns: ``Z = N·gamma``.

    ``N = X / √(mean(X²) + epsilon)``.

    Parameters
    ----------
    n : int
        Columns.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.

    References
    ----------
    B. Zhang, R. Sennrich, "Root mean square layer normalization", NeurIPS 2019.
    """

    validators = Layer.validators | {"epsilon": checks.positive}

    def __init__(self, n, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,))
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1

    def lower(self, builder, x):
        normal, _ = builder.op("normalize_rows", x, epsilon=self.epsilon, center=0.0)
        return builder.op("scale", normal, builder.parameter(self, "gamma"), gradient=0.0)


class BatchNorm(Columnwise):
    """Normalise each column over the minibatch, then scale and shift it: ``Z = N·gamma + beta``.

    ``N = (X - mean) / √(variance + epsilon)``.  In training these are the minibatch's, and move
    running ones towards them; prediction goes by those, so a row's output does not depend on the
    rows around it.

    Parameters
    ----------
    n : int
        Columns.
    momentum : float in [0, 1], default 0.1
        How much of a minibatch goes into the running statistics:
        ``running = (1 - momentum)·running + momentum·minibatch``.  The variance is that of the
        population (a sum divided by rows - 1) there; a minibatch of one row leaves it alone.
    epsilon : float above 0, default 1e-5

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        1 in the beginning.
    beta, dbeta : ndarray of shape (n,)
        0 in the beginning.
    mean, variance : ndarray of shape (n,)
        The running statistics, buffers: saved, but not trained.

    References
    ----------
    S. Ioffe, C. Szegedy, "Batch normalization: accelerating deep network training by reducing
    internal covariate shift", ICML 2015.
    """

    validators = Layer.validators | {
        "epsilon": checks.positive,
        "momentum": lambda name, value: checks.number(name, value, 0, 1),
    }

    def __init__(self, n, momentum=0.1, epsilon=1e-5):
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,), beta=(n,))
        self.add_buffers(mean=(n,), variance=(n,))
        self.momentum = momentum
        self.epsilon = epsilon

    def initialize(self, rng):
        self.gamma = 1
        self.variance = 1

    def lower(self, builder, x):
        running = [builder.buffer(self, name) for name in ("mean", "variance")]
        mean, variance = builder.op("column_moments", x) if builder.training else running
        rstd = builder.op("inverse_sqrt", variance, epsilon=self.epsilon)
        normal = builder.op("normalize_columns", x, mean, rstd)
        if builder.training:
            for value, average in zip((mean, variance), running, strict=True):
                builder.after_step(f"running_{average.owner[1]}", value, out=average,
                                   momentum=self.momentum)
        return builder.op("scale_shift", normal, builder.parameter(self, "gamma"),
                          builder.parameter(self, "beta"))


class PReLU(Columnwise):
    """Leaky ReLU whose slope for negative input is learned, a slope for each column.

    ``A = Z`` where Z > 0, ``slope·Z`` elsewhere.

    Parameters
    ----------
    n : int
        Columns.
    initial_slope : float, default 0.25

    Attributes
    ----------
    slope, dslope : ndarray of shape (n,)

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level
    performance on ImageNet classification", ICCV 2015.
    """

    validators = Layer.validators | {"initial_slope": checks.number}

    def __init__(self, n, initial_slope=0.25):
        n = checks.integer("n", n, 1)
        super().__init__(n, slope=(n,))
        self.initial_slope = initial_slope

    def initialize(self, rng):
        self.slope = self.initial_slope

    def lower(self, builder, x):
        return builder.op("prelu", x, builder.parameter(self, "slope"))


class Embedding(Layer):
    """A row of a table for each code: a learned vector in place of a category.

    Parameters
    ----------
    n_categories : int
        Codes are whole numbers from 0 to ``n_categories - 1``, in one column.
    n_out : int
        Columns of the table.
    init : str or callable, default "normal"
        Initial table: ``"normal"``, of standard deviation 1, or a callable
        ``(rng, n_categories, n_out) -> (n_categories, n_out) array``.

    Attributes
    ----------
    table, dtable : ndarray of shape (n_categories, n_out)
    """

    def __init__(self, n_categories, n_out, init="normal"):
        n_categories = checks.integer("n_categories", n_categories, 1)
        n_out = checks.integer("n_out", n_out, 1)
        super().__init__(1, n_out, table=(n_categories, n_out))
        if init != "normal" and not callable(init):
            raise ValueError(f'init: expected "normal" or a callable, got {init!r}')
        self.init = init

    @property
    def n_categories(self):
        """How many codes there are."""
        return self.parameter_shapes["table"][0]

    def check_dtype(self, dtype):
        """Raise ValueError unless numbers of a network's dtype can tell all codes apart."""
        most = 2 ** (np.finfo(dtype).nmant + 1)
        if self.n_categories > most:
            raise ValueError(f"n_categories: expected at most {most:,} in a network of {dtype}, "
                             f"which cannot tell more codes apart, got {self.n_categories:,}"
                             + ('; use dtype="float64"' if dtype == np.float32 else ""))

    def initialize(self, rng):
        shape = self.parameter_shapes["table"]
        table = rng.standard_normal(shape) if self.init == "normal" else self.init(rng, *shape)
        table = checks.data("init", table)
        checks.shape("init", table, shape, "from the callable")
        self.table = table

    def lower(self, builder, x):
        return builder.op("embedding", x, builder.parameter(self, "table"))

    def config(self):
        """As `Layer.config`; a callable `init` has done its work and is left out."""
        config = super().config()
        if callable(self.init):
            del config["init"]
        return config


class LayerSequence:
    """What consists of layers, `layers`, one after the other: a network."""


class Container(Layer):
    """Base class of layers that consist of layers, which they name in `children`."""

    @property
    def n_parameters(self):
        """How many numbers the parameters of its layers are."""
        return sum(layer.n_parameters for _, layer in self.children)

    @property
    def bound(self):
        """Whether its layers are in a network."""
        return any(layer.bound for _, layer in self.children)


class Residual(Container):
    """What some layers make of X, added to X: ``Z = X + F(X)``.

    Parameters
    ----------
    layers : sequence of Layer
        They return as many columns as they take.

    References
    ----------
    K. He, X. Zhang, S. Ren, J. Sun, "Deep residual learning for image recognition", CVPR 2016.
    """

    def __init__(self, layers):
        layers = checked_layers(layers)
        n_in, n_out = chain(layers)
        if n_in != n_out:
            raise ValueError(f"layers: expected layers that return as many columns as they take, "
                             f"got {n_in} to {n_out}")
        super().__init__(n_in)
        vars(self)["_layers"] = layers

    @property
    def layers(self):
        """The layers, a tuple."""
        return self._layers

    @property
    def children(self):
        """The layers, each with its place."""
        return [(str(i), layer) for i, layer in enumerate(self._layers)]

    def lower(self, builder, x):
        z = x
        for i, layer in enumerate(self._layers):
            z = builder.layer(i, layer, z)
        return builder.op("add", x, z, gradient=0.0)


class Columns(Container):
    """Parts of the input's columns, each through its own layers, side by side.

    Parameters
    ----------
    parts : sequence of tuple (columns, layers)
        Columns are a whole number, a slice with a start and a stop, or a sequence of whole
        numbers; layers are one or a sequence, or none, for columns that are taken as they are.
    n_in : int, optional
        Columns of the input; by default as many as the highest that is named needs.

    Examples
    --------
    A number and two categories, of 7 and 12 codes::

        Columns([(0, []), (1, Embedding(7, 4)), (2, Embedding(12, 6))])
    """

    def __init__(self, parts, n_in=None):
        try:
            parts = [(columns, layers) for columns, layers in parts]
        except (TypeError, ValueError):
            raise TypeError(f"parts: expected pairs (columns, layers), got {parts!r}") from None
        if not parts:
            raise ValueError("parts: expected at least one, got none")
        columns = [_columns(f"parts[{i}]", part) for i, (part, _) in enumerate(parts)]
        n_named = 1 + max(max(part) for part in columns)
        n_in = n_named if n_in is None else checks.integer("n_in", n_in, n_named)
        sequences, n_out = [], 0
        for i, (part, (_, layers)) in enumerate(zip(columns, parts, strict=True)):
            layers = [layers] if isinstance(layers, Layer | LayerSequence) else layers
            layers = checked_layers(layers, name=f"parts[{i}]") if layers or not isinstance(
                layers, list | tuple) else ()
            takes, returns = chain(layers) if layers else (None, None)
            if takes not in (None, len(part)):
                raise ValueError(f"parts[{i}]: expected layers that take {len(part)} columns, got "
                                 f"{takes}")
            sequences.append(layers)
            n_out += returns or len(part)
        _check_each_once([layer for layers in sequences for layer in layers])
        super().__init__(n_in, n_out)
        vars(self).update(_columns=columns, _sequences=sequences)

    @property
    def parts(self):
        """The layers of each part."""
        return self._sequences

    @property
    def children(self):
        """The layers, each with its place: the part's, and that in it."""
        return [(f"{i}.{j}", layer) for i, part in enumerate(self._sequences)
                for j, layer in enumerate(part)]

    def lower(self, builder, x):
        results = []
        for i, (columns, layers) in enumerate(zip(self._columns, self._sequences, strict=True)):
            z = builder.op("take_columns", x, columns=columns, sizes={"n": len(columns)})
            for j, layer in enumerate(layers):
                z = builder.layer(f"{i}.{j}", layer, z)
            results.append(z)
        return builder.op("join", *results)

    def config(self):
        """The constructor's arguments, with layers among them."""
        parts = [[list(columns), list(layers)]
                 for columns, layers in zip(self._columns, self._sequences, strict=True)]
        return {"parts": parts, "n_in": self.n_in}


def _columns(name, columns):
    """The numbers of some columns."""
    if isinstance(columns, slice):
        if columns.start is None or columns.stop is None or columns.step not in (None, 1):
            raise ValueError(f"{name}: expected a slice with a start and a stop, got {columns}")
        columns = range(*(checks.integer(f"{name}: {end}", getattr(columns, end), 0)
                          for end in ("start", "stop")))
    elif not isinstance(columns, str) and np.ndim(columns) == 0:
        columns = [columns]
    columns = [checks.integer(f"{name}: a column", column, 0) for column in columns]
    if not columns:
        raise ValueError(f"{name}: expected at least one column, got none")
    return columns


def leaves(layers):
    """The layers that consist of no others, in order, each with its place, such as ``"2.0"``."""
    found = []
    for i, layer in enumerate(layers):
        found += _leaves(str(i), layer)
    return found


def _leaves(where, layer):
    if not isinstance(layer, Container):
        return [(where, layer)]
    return [leaf for i, child in layer.children for leaf in _leaves(f"{where}.{i}", child)]


def checked_layers(sequence, own=(), name="layers"):
    """A tuple of layers that can be put into a network, or a layer, whose layers are `own`.

    A network among them stands for copies of its layers, with their weights.

    Raises
    ------
    TypeError
        If it is no sequence of layers.
    ValueError
        If there are none, one comes twice, or one is in another network.
    """
    if isinstance(sequence, Layer):
        raise TypeError(f"{name}: expected a sequence of layers, got {sequence!r} alone; "
                        f"put it in a list")
    try:
        sequence = list(sequence)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence of layers, got {sequence!r}") from None
    if not sequence:
        raise ValueError(f"{name}: expected at least one layer, got none")
    found = []
    for i, layer in enumerate(sequence):
        if isinstance(layer, type) and issubclass(layer, Layer):
            raise TypeError(f"{name}: expected a layer at {i}, got the class {layer.__name__}; "
                            f"make one: {layer.__name__}(...)")
        if isinstance(layer, LayerSequence):
            found += [copy.deepcopy(each) for each in layer.layers]
            continue
        if not isinstance(layer, Layer):
            raise TypeError(f"{name}: expected a layer at {i}, got {layer!r} "
                            f"({type(layer).__name__})")
        if not hasattr(layer, "parameter_shapes"):
            raise TypeError(f"{name}: layer {i} ({type(layer).__name__}) was not set up; its "
                            f"__init__ has to call super().__init__()")
        if layer.bound and not any(layer is each for each in own):
            raise ValueError(f"{name}: layer {i} ({layer!r}) is in another network already; "
                             f"use copy.deepcopy(layer), which brings its weights along")
        found.append(layer)
    _check_each_once(found, name)
    return tuple(found)


def _check_each_once(sequence, name="layers"):
    first = {}
    for where, layer in leaves(sequence):
        if first.setdefault(id(layer), where) != where:
            raise ValueError(f"{name}: layer {where} is the same object as layer "
                             f"{first[id(layer)]}; make another {type(layer).__name__}")


def chain(sequence):
    """Columns of the input and the output, if each layer takes what the last returns."""
    n_in = width = source = None
    for i, layer in enumerate(sequence):
        if layer.n_in is None:
            continue
        if width is None:
            n_in = layer.n_in
        elif layer.n_in != width:
            raise ValueError(
                f"layers: layer {i} ({layer!r}) takes {layer.n_in} columns, but layer "
                f"{source} ({sequence[source]!r}) returns {width}"
            )
        width, source = layer.n_out, i
    return n_in, width


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


def _activation(op):
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
ACTIVATIONS = {op.name: _activation(op) for op in ops.ACTIVATIONS.values()}
BUILT_IN = {layer.__name__: layer for layer in (
    Dense, Dropout, LayerNorm, RMSNorm, BatchNorm, PReLU, Embedding, Residual, Columns,
    *ACTIVATIONS.values(),
)}
if not TYPE_CHECKING:
    for _layer in ACTIVATIONS.values():
        globals()[_layer.__name__] = _layer
        __all__.append(_layer.__name__)
