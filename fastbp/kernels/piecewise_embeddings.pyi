from collections.abc import Sequence

from numpy.typing import ArrayLike

from .types import Array, Floats

def piecewise_nodes(
    W: ArrayLike, b: ArrayLike, n_bins: Sequence[int] | Array, *, out: Floats | None = None
) -> Floats: ...
def piecewise(
    X: ArrayLike,
    edges: ArrayLike,
    W: ArrayLike,
    nodes: ArrayLike,
    n_bins: Sequence[int] | Array,
    *,
    out: Floats | None = None,
) -> tuple[Floats, Floats, Floats]: ...
def piecewise_backward(
    dZ: ArrayLike,
    bins: ArrayLike,
    fractions: ArrayLike,
    n_bins: Sequence[int] | Array,
    *,
    out: Floats | None = None,
) -> Floats: ...
def piecewise_backward_input(
    dZ: ArrayLike,
    bins: ArrayLike,
    edges: ArrayLike,
    W: ArrayLike,
    n_bins: Sequence[int] | Array,
    *,
    out: Floats | None = None,
) -> Floats: ...
