"""What `fastbp.kernels.steps.Steps` is given, checked and put in order."""

import itertools
import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np

from . import ops
from .guards import apart
from .types import Array, Floats

__all__ = ["check_fit", "check_shapes", "loss_parameters", "members_of", "range_with", "rest_of"]

# A start and a size.
Range: TypeAlias = tuple[int, int]

# Losses and metrics that accept labels; the others need rows of targets.
TAKE_LABELS = {None, "python", "accuracy", *(op.name for op in ops.LOSSES.values()
                                             if op.takes_labels)}


def check_fit(dtype: np.dtype[Any], parameters: Floats, gradients: Floats,
              loss: tuple[Any, ...] | None, metric: str | None, update: str | None,
              state: Sequence[Floats], y: Array | None, sample_weight: Floats | None, n_rows: int,
              n_more: int = 0) -> None:
    """Raise unless the arrays are what the compiled stages, which cannot check, rely on.

    Parameters
    ----------
    dtype, parameters, gradients, loss, metric, update, y, sample_weight, n_rows
        As for `Steps`.
    state : list of ndarray
        The optimizer's arrays, and `n_more` others of the parameters' shape that are written to.
    n_more : int, default 0

    Raises
    ------
    ValueError
        If they are not.
    """
    size = parameters.shape
    flat: dict[str, tuple[Array, tuple[int, ...]]] = {
        "parameters": (parameters, size), "gradients": (gradients, size)}
    flat |= {f"state[{i}]": (array, size) for i, array in enumerate(state)}
    if sample_weight is not None:
        flat["sample_weight"] = (sample_weight, (n_rows,))
    for name, (array, shape) in flat.items():
        if not (array.dtype == dtype and array.shape == shape and array.flags.c_contiguous):
            raise ValueError(f"{name}: expected a contiguous {dtype} array of shape {shape}, "
                             f"got {array.dtype} of shape {array.shape}")
    if y is None and (loss is not None or metric not in (None, "python")):
        raise ValueError("y: expected targets for the loss and the metric, got None")
    if y is not None:
        labels = y.ndim == 1
        if not (len(y) == n_rows and y.flags.c_contiguous
                and y.dtype == (np.int64 if labels else dtype)):
            raise ValueError(f"y: expected {n_rows} contiguous rows of labels or {dtype} targets, "
                             f"got {y.dtype} of shape {y.shape}")
        if labels and not ({loss and loss[0], metric} <= TAKE_LABELS):
            raise ValueError(f"y: expected targets of two dimensions for "
                             f"{loss and loss[0]} and the metric {metric}, got labels")
    written = [(name, array) for name, (array, _) in flat.items() if name != "sample_weight"]
    for i, (name, array) in enumerate(written):
        for other, another in written[:i]:
            if not apart(array, another):
                raise ValueError(f"{name} overlaps {other}; give each memory of its own")
    n_state = n_more + (0 if update in (None, "python") else len(ops.UPDATES[str(update)].state))
    if len(state) != n_state:
        raise ValueError(f"state: expected {n_state} arrays for {update}, got {len(state)}")


def loss_parameters(parameter: float | tuple[float, ...], n_out: int,
                    dtype: np.dtype[Any]) -> Floats:
    """The parameter of a loss for each output.

    Parameters
    ----------
    parameter : float or tuple of float
        One for all outputs, or one for each.
    n_out : int
    dtype : dtype

    Returns
    -------
    ndarray of shape (n_out,)

    Raises
    ------
    ValueError
        If there are more or fewer than outputs.

    Examples
    --------
    >>> from fastbp.kernels.step_checks import loss_parameters
    >>> loss_parameters((0.25, 0.75), 2, np.dtype("f4"))
    array([0.25, 0.75], dtype=float32)
    """
    if isinstance(parameter, tuple) and len(parameter) != n_out:
        raise ValueError(f"loss: expected a parameter for each of {n_out} outputs, got "
                         f"{len(parameter)}")
    return np.full(n_out, parameter, dtype)


def check_shapes(groups: Sequence[Range], shapes: Sequence[tuple[int, int] | None],
                 update: str | None) -> None:
    """Raise unless each group that is said to be a matrix is one, and the update takes matrices.

    Parameters
    ----------
    groups, shapes, update
        As for `Steps`.

    Raises
    ------
    ValueError
        If they do not match.

    Examples
    --------
    >>> from fastbp.kernels.step_checks import check_shapes
    >>> check_shapes([(0, 6), (6, 3)], [(2, 3), None], "muon")
    """
    if len(shapes) != len(groups):
        raise ValueError(f"shapes: expected a shape or None for each of {len(groups)} groups, got "
                         f"{len(shapes)}")
    sizes = [math.prod(shape) if shape else size
             for shape, (_, size) in zip(shapes, groups, strict=True)]
    if sizes != [size for _, size in groups]:
        raise ValueError(f"shapes: expected those of the groups {groups}, got {shapes}")
    if any(shapes) and update != "muon":
        raise ValueError(f"shapes: expected None for each group with {update}, got {shapes}")


def members_of(loss: tuple[Any, ...] | None, metric: str | None, n_out: int) -> int:
    """How many members of an ensemble a loss is the mean of.

    Parameters
    ----------
    loss, metric
        As for `Steps`.
    n_out : int
        Outputs of all members.

    Returns
    -------
    int

    Raises
    ------
    ValueError
        If the outputs cannot be theirs, or there is a compiled metric, which knows of no members.

    Examples
    --------
    >>> from fastbp.kernels.step_checks import members_of
    >>> members_of(("huber", 1.0, float("inf"), 1.0, 1.0, 8), None, 16)
    8
    """
    members = loss[5] if loss is not None and len(loss) > 5 else 1
    if members < 1 or n_out % members:
        raise ValueError(f"loss: expected a number of members that divides {n_out} outputs, got "
                         f"{members}")
    if members > 1 and metric not in (None, "python"):
        raise ValueError(f"metric: expected none for a loss of {members} members, got {metric}")
    return int(members)


def range_with(ranges: Sequence[Range], start: int, size: int) -> int | None:
    """The index of the range that holds another one.

    Parameters
    ----------
    ranges : sequence of tuple of int
        Start and size of each.
    start, size : int

    Returns
    -------
    int or None

    Examples
    --------
    >>> from fastbp.kernels.step_checks import range_with
    >>> range_with([(0, 4), (4, 6)], 5, 2)
    1
    """
    for i, (first, n) in enumerate(ranges):
        if first <= start and start + size <= first + n:
            return i
    return None


def rest_of(groups: Sequence[Range], weights: Sequence[Range],
            taken: Sequence[Range]) -> list[tuple[int, int, int, bool]]:
    """The ranges of the groups that are not taken, cut so that each is of one group, and either
    weights or not.

    Parameters
    ----------
    groups, weights, taken : sequence of tuple of int
        Start and size of ranges of the parameters.

    Returns
    -------
    list of tuple (int, int, int, bool)
        Start, size, the index of the group, and whether it is of weights.

    Examples
    --------
    >>> from fastbp.kernels.step_checks import rest_of
    >>> rest_of([(0, 10), (10, 5)], weights=[(0, 6), (8, 2)], taken=[(0, 6)])
    [(6, 2, 0, False), (8, 2, 0, True), (10, 5, 1, False)]
    """
    borders = {0}
    for start, size in (*groups, *weights, *taken):
        borders |= {start, start + size}
    rest: list[tuple[int, int, int, bool]] = []
    for start, stop in itertools.pairwise(sorted(borders)):
        group = range_with(groups, start, stop - start)
        if group is not None and range_with(taken, start, stop - start) is None:
            penalized = range_with(weights, start, stop - start) is not None
            rest.append((start, stop - start, group, penalized))
    return rest
