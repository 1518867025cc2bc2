"""Networks as exporters read them: the instructions of a prediction, and the arrays they read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..kernels import checks
from ..kernels.types import Array, Doubles, Floats
from ..program import Instruction, Value, lower
from ..program.reference import KERNELS

if TYPE_CHECKING:
    from ..layers import Layer

__all__ = ["Model", "Network", "read_network"]


@dataclass(frozen=True)
class Network:
    """The lowered program of one network's prediction.

    Attributes
    ----------
    x, z : Value
        The input and the output.
    instructions : tuple of Instruction
        Those that the output depends on and that depend on the input, in order.
    constants : dict of Value to ndarray
        What else they read: parameters, buffers, and what follows from these alone.
    sources : dict of Value to Instruction
        How those that follow from others were computed.
    dtype : numpy.dtype
    precision : {"highest", "high", "medium"}
        Of the products in `predict`.
    """

    x: Value
    z: Value
    instructions: tuple[Instruction, ...]
    constants: dict[Value, Floats]
    sources: dict[Value, Instruction]
    dtype: np.dtype[Any]
    precision: str = "highest"


@dataclass(frozen=True)
class Model:
    """What is exported: one network, or several whose outputs are averaged, and what surrounds it.

    Attributes
    ----------
    networks : tuple of Network
    weights : ndarray or None
        Of an ensemble's networks: the outputs are summed in float64, in order.
    classes : ndarray or None
        Of a classifier, whose outputs are their probabilities.
    labels : ndarray or None
        Of a classifier with several labels for a row, whose outputs are their probabilities.
    both : bool
        Whether a single output p becomes the two probabilities 1 - p and p.
    encoder : fastbp.estimators.TableEncoder or None
        What turns raw rows into the networks' input.
    scale, mean : ndarray or None
        Of targets: the prediction is ``Z·scale + mean``, in float64.
    ascending : bool
        Whether the outputs of a row are sorted: they are quantiles.
    is_estimator : bool
        Whether it is a classifier or regressor with scikit-learn's interface.
    """

    networks: tuple[Network, ...]
    weights: Doubles | None = None
    classes: Array | None = None
    labels: Array | None = None
    both: bool = False
    encoder: Any = None
    scale: Doubles | None = None
    mean: Doubles | None = None
    ascending: bool = False
    is_estimator: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """The networks' dtype."""
        return self.networks[0].dtype

    @property
    def n_in(self) -> int:
        """Columns of the networks' input."""
        return self.networks[0].x.columns

    @property
    def n_out(self) -> int:
        """Columns of the prediction."""
        return 2 if self.both else self.networks[0].z.columns


def read_network(layers: Iterable[Layer], n_in: int | None, dtype: Any,
                 end: str | None = None) -> Network:
    """Lower layers for prediction, and compute what does not depend on the input.

    Parameters
    ----------
    layers : iterable of Layer
    n_in : int or None
        Columns of the input.
    dtype : dtype_like
    end : {"softmax", "sigmoid", "exp"}, optional
        Applied to the output.

    Returns
    -------
    Network

    Raises
    ------
    ValueError
        If `n_in` is None, or a layer runs in Python.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Dense(3, 2), fb.BatchNorm(2)], seed=0)
    >>> [each.op for each in read_network(net.layers, 3, net.dtype).instructions]
    ['dense', 'normalize_columns', 'scale_shift']
    """
    if n_in is None:
        raise ValueError("n_in: expected the number of columns of the input, since no layer fixes "
                         "it, got None; pass n_in=…")
    program = lower(layers, checks.integer("n_in", n_in, 1), end=end)
    constants: dict[Value, Floats] = {}
    sources: dict[Value, Instruction] = {}
    kept: list[Instruction] = []
    for each in program.forward:
        if each.op == "python":
            raise ValueError(
                f"layer {each.where} ({each.layer!r}): expected one that is lowered to operations "
                f"of kernels/ops.def, got one that runs in Python, which cannot be exported; "
                f"define its `lower`, or leave it out: net.layers = […]")
        for value in each.reads:
            if value.owner is not None and value not in constants:
                layer, name = value.owner
                layer.restore_views()
                constants[value] = np.array(getattr(layer, name), dtype)
        if all(value in constants for value in each.reads):
            results = KERNELS[each.op](*(constants[value] for value in each.reads),
                                       **each.attributes)
            results = results if isinstance(results, tuple) else (results,)
            constants |= dict(zip(each.writes, results, strict=True))
            sources |= dict.fromkeys(each.writes, each)
        else:
            kept.append(each)
    needed = {program.z}
    live: list[Instruction] = []
    for each in reversed(kept):
        if needed.intersection(each.writes):
            needed.update(each.reads)
            live.append(each)
    needed |= {value for result, each in sources.items() if result in needed
               for value in each.reads}
    return Network(program.x, program.z, tuple(reversed(live)),
                   {value: array for value, array in constants.items() if value in needed},
                   sources, np.dtype(dtype))
