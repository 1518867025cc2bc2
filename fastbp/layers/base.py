"""`Layer`, the base class of all layers."""

from __future__ import annotations

import copy
import inspect
import reprlib
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import program
from ..kernels import checks
from ..kernels.types import Array, Floats
from .parameters import Parametrized

if TYPE_CHECKING:
    from ..program import Builder, Programs, Value

__all__ = ["Layer"]

READ_ONLY = frozenset({"n_in", "n_out", "parameter_shapes"})


class Layer(Parametrized):
    """Base class of all layers, fastbp's own and yours.

    A layer maps a batch X of shape (batch, n_in) to Z of shape (batch, n_out).  A subclass calls
    ``super().__init__()`` with its sizes and the shapes of its parameters, and defines either
    `lower`, or both `forward` and `backward`; if it has parameters, it defines `initialize` too.
    What `forward` keeps for `backward` belongs in ``self.cache``.  A network passes read-only
    arrays to `forward` and `backward`, and checks the shape and dtype of what they return.

    Parameters
    ----------
    n_in, n_out : int, optional
        Columns of the input and the output.  Without `n_in` the layer takes any number of columns
        and returns as many; `n_out` is `n_in` by default.
    **parameter_shapes : tuple of int
        The shape of each parameter, by name.  In a network, the parameter ``W`` is the attribute
        ``W`` and its gradient the attribute ``dW``: views into the network's flat arrays.

    Attributes
    ----------
    n_in, n_out : int or None
        Read-only, like `parameter_shapes`.
    parameter_shapes : mapping of str to tuple of int
    cache : object
        What the last `forward` kept for `backward`; None before.
    key, step : int
        The seed and the counter of layers that draw random numbers.  Derive all randomness from
        these two and increment `step` in `forward`, so that the same seed gives the same training.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or a parameter's name is taken.

    Examples
    --------
    >>> import fastbp as fb
    >>> class Scale(fb.Layer):
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
    ...
    >>> net = fb.Sequential([Scale(2)])
    >>> net.predict([[3.0, 4.0]])
    array([[3., 4.]], dtype=float32)
    >>> net.layers[0].scale = [2, 3]
    >>> net.predict([[3.0, 4.0]])
    array([[ 6., 12.]], dtype=float32)
    """

    n_in: int | None
    n_out: int | None
    cache: Any = None
    key: int = 0
    step: int = 0

    def __init__(self, n_in: int | None = None, n_out: int | None = None,
                 **parameter_shapes: tuple[int, ...]) -> None:
        n_in = None if n_in is None else checks.integer("n_in", n_in, 1)
        n_out = n_in if n_out is None else checks.integer("n_out", n_out, 1)
        if n_in is None and n_out is not None:
            raise ValueError("n_in: expected a number of columns since n_out is given, got None")
        super().__init__(**parameter_shapes)
        vars(self).update(n_in=n_in, n_out=n_out)

    @property
    def children(self) -> Sequence[tuple[str, Layer]]:
        """The layers nested in this one, each with its path; empty for most layers."""
        return ()

    def initialize(self, rng: np.random.Generator) -> None:
        """Fill the parameters with their initial values.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of random numbers to use.
        """
        if self.parameter_shapes:
            raise NotImplementedError(
                f"{type(self).__name__} has parameters and needs a method initialize(rng)"
            )

    @property
    def initialized(self) -> bool:
        """Whether the parameters have values, in a network or copied from one.

        A layer without arrays to initialize counts as initialized.
        """
        shapes = self.array_shapes
        return any(name in self.__dict__ for name in shapes) or (
            not shapes and type(self).initialize is Layer.initialize)

    def lower(self, builder: Builder, x: Value) -> Value:
        """Express the layer as instructions of a program.

        The default adds one instruction, which calls `forward` and `backward` in Python.

        Parameters
        ----------
        builder : fastbp.program.Builder
            Adds the instructions.
        x : fastbp.program.Value
            The layer's input.

        Returns
        -------
        fastbp.program.Value
            The layer's output.
        """
        return builder.python(self, x)

    def forward(self, X: Array, training: bool = True) -> Floats:
        """Compute Z from X, and keep what `backward` needs.

        Parameters
        ----------
        X : ndarray of shape (batch, n_in), float32 or float64
        training : bool, default True
            If False, run in prediction mode: no randomness, and nothing is stored for `backward`.

        Returns
        -------
        Z : ndarray of shape (batch, n_out)
        """
        self._check_lowered("forward(X, training)")
        X = checks.floats("X", X)
        columns = X.shape[-1] if X.ndim else 1
        run = program.Interpreter(program.lower_layer(self, columns, training), training)
        Z = run.forward(X)
        if training:
            self.cache = run, Z.shape, Z.dtype
        return Z

    def backward(self, dZ: Array) -> Floats:
        """Write the gradients of the parameters, and compute that of X.

        Parameters
        ----------
        dZ : ndarray of shape (batch, n_out)
            The gradient of the loss with respect to the last output of `forward`.

        Returns
        -------
        dX : ndarray of shape (batch, n_in)
            The gradient with respect to the input of `forward`.

        Raises
        ------
        RuntimeError
            If `forward` was not called before, with ``training=True``.
        """
        self._check_lowered("backward(dZ)")
        dX = self._back(dZ, input_gradient=True)
        assert dX is not None
        return dX

    def backward_parameters(self, dZ: Array) -> None:
        """`backward` without the gradient with respect to X, for a network's first layer."""
        if type(self).backward is Layer.backward:
            self._check_lowered("backward(dZ)")
            self._back(dZ, input_gradient=False)
        else:
            self.backward(dZ)

    def _back(self, dZ: Array, input_gradient: bool) -> Floats | None:
        if self.cache is None:
            raise RuntimeError(
                f"{type(self).__name__}.backward: expected a forward pass before it; "
                f"call forward(X) with training=True first"
            )
        run, shape, dtype = self.cache
        dZ = checks.floats("dZ", dZ, dtype=dtype)
        checks.shape("dZ", dZ, shape, "of what forward returned")
        dX: Floats | None = run.backward(dZ, input_gradient)
        return dX

    def _check_lowered(self, method: str) -> None:
        if type(self).lower is Layer.lower:
            raise NotImplementedError(f"{type(self).__name__} needs a method {method}")

    def config(self) -> dict[str, Any]:
        """The arguments of the constructor, as a dict that can be written as JSON.

        The default reads each argument from the attribute of the same name.
        """
        return {
            name: getattr(self, name)
            for name, parameter in inspect.signature(type(self).__init__).parameters.items()
            if name != "self" and parameter.kind not in (
                parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD
            )
        }

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        try:
            arguments = ", ".join(f"{name}={value!r}" for name, value in self.config().items())
        except AttributeError:
            arguments = "..."
        return f"{type(self).__name__}({arguments})"

    def bind(self, views: Mapping[str, Floats], programs: Programs) -> None:
        """Become part of a network.

        Parameters
        ----------
        views : dict of str to ndarray
            The arrays of `views_into`.
        programs : fastbp.program.Programs
            The network's programs, which are cleared when a setting of the layer changes.
        """
        self.bind_views(views)
        self.__dict__["_programs"] = _ProgramsReference(programs)

    def unbind(self) -> None:
        """Leave the network; the parameters keep their values, in arrays that no network uses."""
        super().unbind()
        for name in ("_programs", "cache"):
            self.__dict__.pop(name, None)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in READ_ONLY:
            if type(value) is int and value == vars(self).get(name):
                return  # as a subclass's constructor may do
            self._refuse(name)
        super().__setattr__(name, value)
        self._clear_programs(name)

    def __delattr__(self, name: str) -> None:
        if name in READ_ONLY:
            self._refuse(name)
        super().__delattr__(name)
        self._clear_programs(name)

    def _clear_programs(self, name: str) -> None:
        """Drop the network's programs after a change of an attribute that `lower` may read."""
        reference = self.__dict__.get("_programs")
        if reference is None or name in ("cache", "key", "step") or name in self._views:
            return
        cls: type = type(self)
        if name == "__class__" or not program.runs_in_python(cls):
            reference.clear()

    def _refuse(self, name: str) -> None:
        raise AttributeError(
            f"{type(self).__name__}.{name} is read-only: a layer's sizes are fixed when it is "
            f"made; make another layer, and assign it to a place in network.layers"
        )

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles include the parameters and buffers, but not gradients or the cache."""
        state = super().__getstate__()
        for name in ("_programs", "cache"):
            state.pop(name, None)
        return state

    def __copy__(self) -> Layer:
        return copy.deepcopy(self)


class _ProgramsReference:
    """A weak reference to a network's programs, which copies and pickles leave behind.

    The programs refer to their layers.  Without a cycle, a network is freed as soon as nobody
    refers to it.
    """

    def __init__(self, programs: Programs | None = None) -> None:
        self._get = None if programs is None else weakref.ref(programs)

    def clear(self) -> None:
        """Clear the programs, if they exist."""
        programs = None if self._get is None else self._get()
        if programs is not None:
            programs.clear()

    def __reduce__(self) -> tuple[Any, ...]:
        return _ProgramsReference, ()


# A parameter of such a name would hide an attribute that every layer has.
Layer.reserved_names = READ_ONLY | frozenset(dir(Layer)) | {
    "_views", "_own_views", "_parameter_shapes", "_buffer_shapes", "_programs"}
