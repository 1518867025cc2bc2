"""Layers in a row whose parameters, gradients and buffers are views into three flat arrays."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, Self, TypeAlias

import numpy as np

from . import layers, program, summaries
from .kernels import checks, memory
from .kernels.types import Floats
from .layers import Layer, chain, checked_layers
from .locks import Exclusive

__all__ = ["Stack", "shuffling"]

# The leaf layers (those that are not containers), each with its path in the network.
Leaves: TypeAlias = tuple[tuple[str, Layer], ...]

# A stream of random numbers: what a `numpy.random.SeedSequence` is made from.
Stream: TypeAlias = tuple[Any, tuple[int, ...]]


class Stack(layers.LayerSequence, Exclusive):
    """Base class of `Sequential`: its layers, their arrays, and their random numbers.

    Parameters
    ----------
    layers, dtype, seed, precision
        As for `Sequential`.
    """

    _layers: tuple[Layer, ...] = ()
    _leaves: Leaves = ()
    _interpreter: program.Interpreter | None = None  # of the last forward, for backward
    _precision = "highest"
    _assigned = 0  # how often other layers took the place of the first ones

    def __init__(self, layers: Iterable[Layer], dtype: Any = "float32",
                 seed: int | None = None, *, precision: str = "highest") -> None:
        sequence = checked_layers(layers)
        self._dtype = _checked_dtype(dtype)
        self._precision = checks.precision(precision, self._dtype)
        if seed is not None:
            seed = checks.integer("seed", seed, 0)
        # The first number of a spawn key is the purpose of a stream: 0 weights, 1 training,
        # 2 weights of layers that were assigned later.
        self._entropy = np.random.SeedSequence(seed).entropy
        self._reseeded = 0
        self._place(sequence, (0,))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, a tuple.

        Assign another sequence to replace some, for example a network's head::

            net.layers = [*net.layers[:-1], fb.Dense(128, 5)]

        Layers that are kept keep their weights, new ones are initialized, and removed ones can be
        used in another network.  `parameters` and `gradients` are then new arrays, so the state of
        an optimizer that was used before is reset.
        """
        return self._layers

    @layers.setter
    def layers(self, layers: Iterable[Layer]) -> None:
        lock = self.exclusive_use("network")
        try:
            self._place(checked_layers(layers, self._own()), (2, self._assigned))
            self._assigned += 1
        finally:
            lock.release()

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the parameters."""
        return self._dtype

    @dtype.setter
    def dtype(self, value: Any) -> None:
        self._check_fixed("dtype", value)

    @property
    def precision(self) -> str:
        """How exactly the products of dense layers take their operands; see `Sequential`.

        It can be assigned, between fits and predictions.
        """
        return self._precision

    @precision.setter
    def precision(self, value: str) -> None:
        lock = self.exclusive_use("network")
        try:
            self._precision = checks.precision(value, self._dtype)
            self.programs.precision = self._precision
        finally:
            lock.release()

    @property
    def n_in(self) -> int | None:
        """Columns of the input; None where no layer fixes them."""
        return self._n_in

    @n_in.setter
    def n_in(self, value: Any) -> None:
        self._check_fixed("n_in", value)

    @property
    def n_out(self) -> int | None:
        """Columns of the output; None where no layer fixes them."""
        return self._n_out

    @n_out.setter
    def n_out(self, value: Any) -> None:
        self._check_fixed("n_out", value)

    def _check_fixed(self, name: str, value: Any) -> None:
        """Raise unless an attribute is set to the value it has, as a subclass may do."""
        if value != getattr(self, name):
            raise AttributeError(f"{type(self).__name__}.{name} is read-only: it follows from the "
                                 f"layers and the dtype; assign other layers, or use astype")

    def _own(self) -> list[Layer]:
        """All layers, including those inside containers."""
        return _with_children(self._layers)

    def _place(self, sequence: tuple[Layer, ...], stream: tuple[int, ...]) -> None:
        """Make these the network's layers; if anything fails, change nothing.

        New layers are initialized, each from its own random stream.
        """
        n_in, n_out = chain(sequence)
        leaves = tuple(layers.leaves(sequence))
        fresh = [layer for _, layer in leaves if not (layer.bound or layer.initialized)]
        for _, layer in leaves:
            if isinstance(layer, layers.Embedding | layers.PiecewiseLinearEmbedding):
                layer.check_dtype(self.dtype)
        self._check_size(leaves, fresh)
        new = {id(layer) for layer in fresh}
        try:
            for i, (where, layer) in enumerate(leaves):
                if id(layer) in new:
                    layer.allocate(self.dtype)
                    layer.initialize(np.random.default_rng(self._stream(*stream, i)))
                try:
                    layer.check_values()
                except (TypeError, ValueError) as error:
                    raise type(error)(f"layers: layer {where} ({layer!r}): {error}") from None
            arrays = self._new_arrays(leaves)
        except BaseException:
            for layer in fresh:
                layer.clear()
            raise
        stays = {id(layer) for layer in _with_children(sequence)}
        for layer in self._own():
            if id(layer) not in stays:
                layer.unbind()
        self._n_in, self._n_out = n_in, n_out
        self._bind(sequence, leaves, *arrays)

    def _check_size(self, leaves: Leaves, fresh: list[Layer]) -> None:
        """Raise MemoryError if parameters and gradients exceed the machine's memory."""
        n = sum(layer.n_parameters for _, layer in leaves)
        n_fresh = sum(layer.n_parameters for layer in fresh)  # drawn in float64
        memory.check(f"layers: {n:,} {self.dtype} parameters, and as many gradients",
                     2 * n * self.dtype.itemsize + 8 * n_fresh)

    def _stream(self, *spawn_key: int) -> np.random.SeedSequence:
        return np.random.SeedSequence(self._entropy, spawn_key=spawn_key)

    def _new_arrays(self, leaves: Leaves) -> tuple[Floats, Floats, Floats, list[dict[str, Any]]]:
        """Allocate flat arrays for the layers' parameters, gradients and buffers, copy the values
        into them, and return them with each layer's views."""
        n = sum(layer.n_parameters for _, layer in leaves)
        n_buffers = sum(layer.n_buffers for _, layer in leaves)
        parameters, gradients, buffers = (memory.aligned(size, self.dtype)
                                          for size in (n, n, n_buffers))
        views, start, first = [], 0, 0
        with np.errstate(over="ignore"):  # of float64 weights that are beyond float32
            for _, layer in leaves:
                stop, last = start + layer.n_parameters, first + layer.n_buffers
                views.append(layer.views_into(parameters[start:stop], gradients[start:stop],
                                              buffers[first:last]))
                start, first = stop, last
        return parameters, gradients, buffers, views

    def _bind(self, sequence: tuple[Layer, ...], leaves: Leaves, parameters: Floats,
              gradients: Floats, buffers: Floats, views: list[dict[str, Any]]) -> None:
        """Make these the layers and the flat arrays."""
        places: dict[tuple[int, str], int] = {}
        for kind in ("parameter_shapes", "buffer_shapes"):
            start = 0
            for _, layer in leaves:
                for name, shape in getattr(layer, kind).items():
                    places[id(layer), name] = start
                    start += math.prod(shape)
        programs = program.Programs(sequence, self._n_in, parameters, gradients, buffers, places,
                                    self._precision)
        for (_, layer), its_views in zip(leaves, views, strict=True):
            layer.bind(its_views, programs)
        for layer in _with_children(sequence):
            if isinstance(layer, layers.Container):
                layer.bind({}, programs)
        self._parameters, self._gradients, self._buffers = parameters, gradients, buffers
        self._layers, self._leaves, self.programs = sequence, leaves, programs
        self._interpreter = None

    @property
    def parameters(self) -> Floats:
        """All parameters, flat."""
        return self._parameters.view()  # whose shape or dtype may be set without harm

    @property
    def gradients(self) -> Floats:
        """All gradients, flat, in the order of the parameters."""
        return self._gradients.view()

    @property
    def buffers(self) -> Floats:
        """All buffers, flat: what is kept and saved but not trained, such as running means."""
        return self._buffers.view()

    @property
    def leaves(self) -> Leaves:
        """The layers that are not containers, in order: tuples of a path, such as ``"2.0"``, and
        the layer."""
        return self._leaves

    @property
    def arrays(self) -> dict[str, Any]:
        """The flat arrays by their names."""
        return {"parameters": self._parameters, "gradients": self._gradients,
                "buffers": self._buffers}

    def parameter_ranges(self) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """The ranges of the flat arrays that are weights, and those that are a layer's parameters.

        Returns
        -------
        weights, layers : list of tuple of int
            Start and size of each range; weights are parameters of two or more dimensions, and
            layers without parameters are left out.
        """
        weights: list[tuple[int, int]] = []
        own: list[tuple[int, int]] = []
        start = 0
        for _, layer in self.leaves:
            first = start
            for shape in layer.parameter_shapes.values():
                size = math.prod(shape)
                if len(shape) >= 2:
                    weights.append((start, size))
                start += size
            if start > first:
                own.append((first, start - first))
        return weights, own

    def get_state(self) -> Floats:
        """The parameters and, after them, the buffers: a copy that `set_state` takes."""
        return np.concatenate([self._parameters, self._buffers])

    def set_state(self, state: Floats) -> None:
        """Set the parameters and the buffers.

        Parameters
        ----------
        state : ndarray of shape (n_parameters + n_buffers,)
            As `get_state` returned it.
        """
        n = self._parameters.size
        checks.exactly("state", state, (n + self._buffers.size,), self.dtype)
        self._parameters[...], self._buffers[...] = state[:n], state[n:]

    def checked_rows(self, name: str, X: Any) -> Any:
        """X as a 2-D array of real numbers that fits the first layer; not copied.

        Sparse arrays are returned as CSR.
        """
        check = checks.sparse_rows if checks.is_sparse(X) else checks.real_numbers
        X = check(name, X)
        if X.ndim != 2:
            hint = f"; for one row use {name}[None, :]" if X.ndim == 1 else ""
            raise ValueError(f"{name}: expected 2 dimensions (rows, columns), got {X.ndim} "
                             f"(shape {X.shape}){hint}")
        if self.n_in is not None and X.shape[1] != self.n_in:
            raise ValueError(f"{name}: expected {self.n_in} columns, as many as the network's "
                             f"first layer takes, got {X.shape[1]} (shape {X.shape})")
        return X

    def codes(self, n_in: int) -> program.Codes:
        """The columns of the input that are codes: see `fastbp.program.code_columns`."""
        programs = self.programs
        if not any(isinstance(layer, layers.Embedding) for _, layer in self._leaves):
            return []
        return programs.codes(n_in)

    def summary(self) -> str:
        """A table of the layers, their shapes and sizes; a notebook shows it for a network.

        Layers in a container are below it, further to the right.

        Returns
        -------
        str
        """
        return summaries.summary_text(self)

    def _repr_html_(self) -> str:
        """The same table in a notebook."""
        return summaries.summary_html(self)

    @property
    def seeds(self) -> dict[str, Any]:
        """What future random numbers depend on, as a dict.

        ``"entropy"`` is that of the seed; ``"reseeded"`` and ``"assigned"`` are how often layers
        were given new streams and how often `layers` was assigned.
        """
        return {"entropy": self._entropy, "reseeded": self._reseeded, "assigned": self._assigned}

    @seeds.setter
    def seeds(self, seeds: dict[str, Any]) -> None:
        self._entropy, self._reseeded = seeds["entropy"], seeds["reseeded"]
        self._assigned = seeds.get("assigned", self._assigned)

    def reseed(self, seed: int | None = None) -> np.random.Generator:
        """Give the layers new streams of random numbers, as each `fit` does.

        Parameters
        ----------
        seed : int, optional
            By default they follow from the network's own seed and from how often this was done.

        Returns
        -------
        numpy.random.Generator
            For shuffling.
        """
        root = self.random_stream(seed)
        rng = shuffling(root)
        self.use_stream(root)
        return rng

    def random_stream(self, seed: int | None) -> Stream:
        """The next stream, not used up yet: see `shuffling` and `use_stream`."""
        return (self._entropy, (1, self._reseeded)) if seed is None else (seed, ())

    def use_stream(self, root: Stream) -> None:
        """Let the layers draw their random numbers from the stream of `random_stream`."""
        for i, (_, layer) in enumerate(self.leaves, 1):
            cls: type = type(layer)
            if isinstance(layer, layers.Dropout) or not checks.is_own(cls):  # others draw none
                layer.key = int(_child(root, i).generate_state(1, np.uint64)[0])
                layer.step = 0
        self._reseeded += 1

    def __copy__(self) -> Self:
        return copy.deepcopy(self)

    def __getstate__(self) -> dict[str, Any]:
        """The layers hold the parameters; the flat arrays are made again from them."""
        state = self.__dict__.copy()
        for name in ("_parameters", "_gradients", "_buffers", "_leaves", "programs", "_interpreter",
                     "_training_lock"):
            state.pop(name, None)
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        leaves = tuple(layers.leaves(self._layers))
        self._bind(self._layers, leaves, *self._new_arrays(leaves))


def shuffling(root: Stream) -> np.random.Generator:
    """The generator that shuffles rows, from the stream of `Stack.random_stream`."""
    return np.random.default_rng(_child(root, 0))


def _child(root: Stream, i: int) -> np.random.SeedSequence:
    """Child i as `SeedSequence.spawn` would return it, without those before it."""
    entropy, spawn_key = root
    return np.random.SeedSequence(entropy, spawn_key=(*spawn_key, i))


def _with_children(sequence: Iterable[Layer]) -> list[Layer]:
    found = list(sequence)
    for layer in found:  # which grows
        found += [child for _, child in layer.children]
    return found


def _checked_dtype(dtype: Any) -> np.dtype[Any]:
    result: np.dtype[Any]
    try:
        result = np.dtype(dtype)
    except (TypeError, ValueError):
        result = np.dtype(object)
    if dtype is None or result not in checks.FLOATS:  # None would be float64 to NumPy
        raise ValueError(f'dtype: expected "float32" or "float64", got {dtype!r}')
    return result
