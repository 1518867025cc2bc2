from numpy.typing import ArrayLike

from .types import Floats

def embedding(
    codes: ArrayLike, table: ArrayLike, *, out: Floats | None = None
) -> Floats: ...
def embedding_backward(
    codes: ArrayLike, dZ: ArrayLike, n_categories: int, *, out: Floats | None = None
) -> Floats: ...
