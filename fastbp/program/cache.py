"""The programs of one network, made when they are first needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from ..kernels.encoded import EncodedProgram
from ..kernels.executor import Executor
from ..kernels.types import Floats
from .builder import Places, lower, lower_forward
from .codes import Codes, code_columns
from .compiler import encode
from .gradients import add_backward
from .ir import Program
from .planner import plan
from .reference import Interpreter

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["Programs"]

# Encoded programs by what was lowered, so that thousands of networks of a few shapes are planned
# only a few times.
ENCODED: dict[Any, EncodedProgram] = {}

# Entries that a cache may have before it is emptied.
MOST_KEPT = 256

# In larger batches, to compute the gradients takes so long that reading them does not count.
MOST_ROWS_TO_FUSE = 512

# Operations that a prediction may end with.
ENDS = "softmax", "sigmoid", "exp"

T = TypeVar("T")


class Programs:
    """The programs of a network, cached until a setting of a layer changes.

    A network that is given other layers gets another object, so that a thread that is predicting
    meanwhile finishes with the layers that it started with.

    Parameters
    ----------
    layers : tuple of Layer
    n_in : int or None
        Columns of the input, if the layers determine them.
    parameters, gradients, buffers : ndarray of shape (n,)
        The network's flat arrays.
    places : dict
        As for `Builder`.
    precision : str
        Likewise.

    Attributes
    ----------
    predictors : dict
        Executors for `n_in` columns, by the activation of the outputs.
    """

    def __init__(self, layers: tuple[Layer, ...], n_in: int | None, parameters: Floats,
                 gradients: Floats, buffers: Floats, places: Places,
                 precision: str = "highest") -> None:
        self.layers, self.n_in = layers, n_in
        self.parameters, self.gradients, self.buffers = parameters, gradients, buffers
        self._places, self._precision = places, precision
        self.clear()

    @property
    def precision(self) -> str:
        """Of the products of dense layers."""
        return self._precision

    @precision.setter
    def precision(self, precision: str) -> None:
        self._precision = precision
        self.clear()

    def clear(self) -> None:
        """Drop all cached programs."""
        self._made: dict[Any, Any] = {}
        self.predictors: dict[str | None, Executor] = {}

    def _get(self, key: Any, make: Callable[[], T]) -> T:
        made = self._made  # if it is dropped meanwhile, what is made here is dropped with it
        try:
            found: T = made[key]
        except KeyError:
            found = make()
            _keep(made, key, found)
        return found

    def _lower(self, n_in: int, **options: Any) -> Program:
        return lower(self.layers, n_in, places=self._places, precision=self._precision, **options)

    def planned(self, n_in: int, training: bool, batch_size: int | None) -> Program:
        """A new planned program, which the caller may change."""
        fuse_update = training and batch_size is not None and self._fuses_update(n_in, batch_size)
        return plan(self._lower(n_in, training=training), fuse_update)

    def _compile(self, n_in: int, training: bool = False, end: str | None = None,
                 fuse_update: bool = False, shared: bool = False) -> Executor:
        builder, lowered = lower_forward(self.layers, n_in, training=training,
                                         places=self._places, end=end,
                                         precision=self._precision)
        structure = lowered.structure()
        key = None if structure is None else (training, fuse_update, shared, structure)
        encoded = ENCODED.get(key)
        if encoded is None:
            if training:
                add_backward(builder, lowered)
            encoded = encode(plan(lowered, fuse_update, shared))
            if key is not None:
                _keep(ENCODED, key, encoded)
        return Executor(encoded, self.parameters, self.gradients, self.buffers)

    def executor(self, n_in: int, activation: str | None = None) -> Executor:
        """An executor for prediction from `n_in` columns, with an activation of the outputs.

        Raises
        ------
        ValueError
            If `activation` is not one that a prediction may end with.
        """
        if activation is not None and activation not in list(ENDS):
            raise ValueError(f"activation: expected one of {', '.join(ENDS)}, or None, got "
                             f"{activation!r}")
        predictors = self.predictors
        executor = self._get(("predict", n_in, activation), lambda: self._compile(
            n_in, end=activation))
        if n_in == self.n_in:
            predictors[activation] = executor
        return executor

    def predictor(self, activation: str | None) -> Executor | None:
        """The executor for prediction from `self.n_in` columns, or None if `n_in` is unknown."""
        try:
            return self.predictors[activation]
        except (KeyError, TypeError):  # TypeError: not hashable
            return None if self.n_in is None else self.executor(self.n_in, activation)

    def codes(self, n_in: int) -> Codes:
        """The columns of the input that are codes, as `code_columns` returns them."""
        return self._get(("codes", n_in), lambda: code_columns(self._lower(n_in)))

    def training(self, n_in: int, batch_size: int, shared: bool = False) -> Executor:
        """An executor for training on minibatches of this size, which processes may share."""
        fuse_update = not shared and self._fuses_update(n_in, batch_size)
        return self._get(("train", n_in, fuse_update, shared), lambda: self._compile(
            n_in, training=True, fuse_update=fuse_update, shared=shared))

    def _fuses_update(self, n_in: int, batch_size: int) -> bool:
        """Whether gradients of weights are computed in the update.

        That saves writing them and reading them twice.  It costs a look at all rows of X and dZ,
        for a bound on the gradients.
        """
        return batch_size <= self._get(("fuse", n_in), lambda: self._most_rows_to_fuse(n_in))

    def _most_rows_to_fuse(self, n_in: int) -> float:
        _, lowered = lower_forward(self.layers, n_in, training=True, places=self._places)
        forward = lowered.forward
        if any(each.op == "python" for each in forward):
            return 0  # their `backward` may look at the gradients of later layers, or change them
        weights = [each.reads[1] for each in forward if each.op == "dense"]
        elements = sum(W.rows * W.columns for W in weights if W.rows is not None)
        per_row = sum(W.rows + W.columns for W in weights if W.rows is not None)
        return min(MOST_ROWS_TO_FUSE, elements / max(1, per_row))

    def interpreter(self, n_in: int, training: bool) -> Interpreter:
        """A new interpreter."""
        program = self._get(("interpret", n_in, training),
                            lambda: self._lower(n_in, training=training))
        return Interpreter(program, training)


def _keep(cache: dict[Any, T], key: Any, value: T) -> None:
    """Add to a cache, which is emptied if it is full."""
    if len(cache) >= MOST_KEPT:
        cache.clear()
    cache[key] = value
