from .types import Doubles, Floats, Labels

def add_labels(
    Z: Floats,
    labels: Labels,
    weights: Floats | None,
    sums: Doubles,
) -> None: ...
def add_label_rows(
    Z: Floats, Y: Floats, weights: Floats | None, sums: Doubles
) -> None: ...
def add_sign_rows(
    Z: Floats,
    Y: Floats,
    weights: Floats | None,
    whole_rows: bool,
    sums: Doubles,
) -> None: ...
def add_square_rows(
    Z: Floats,
    Y: Floats,
    weights: Floats | None,
    mean: Doubles,
    sums: Doubles,
) -> None: ...
def weighted_mean(Y: Floats, weights: Floats | None, mean: Doubles) -> None: ...
