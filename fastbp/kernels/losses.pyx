"""Losses, each with its gradient with respect to the network's output in the same pass.

The value is the mean over the batch, weighted by `sample_weight` where it is given:
L = Σᵢ wᵢ·lᵢ / Σᵢ wᵢ, summed in float64 in the order of the rows.  A row's own loss lᵢ is
the mean over its outputs, except for softmax, where a row has a single loss.
"""

from libc.math cimport INFINITY

import numpy as np

from . import checks, ops
from .dispatch import LOSS_INDEX as _LOSS_INDEX

__all__ = sorted(ops.LOSSES)


cdef double mean_loss(int which, const real[:, ::1] Z, const real[:, ::1] Y,
                      const int64_t[::1] labels, const real[::1] weights, double parameter,
                      const real[::1] quantiles, double cap, real[:, ::1] dZ,
                      double[::1] row_losses) except? -1:
    """The mean loss; one of Y and labels is None, and weights may be.

    The loss's parameter is one number, or quantiles, which are None otherwise.
    """
    cdef const real *Y_data = <const real *>NULL if Y is None else &Y[0, 0]
    cdef const int64_t *label_data = <const int64_t *>NULL if labels is None else &labels[0]
    cdef const real *weight_data = <const real *>NULL if weights is None else &weights[0]
    cdef real number = <real>parameter
    cdef const real *parameters = <const real *>&number if quantiles is None else &quantiles[0]
    cdef Py_ssize_t m = Z.shape[0]
    cdef double scale
    with nogil:
        scale = loss_scale(m, weight_data)
        fbp_loss(tier, which, m, Z.shape[1], &Z[0, 0], Y_data, label_data, weight_data, scale,
                 parameters, cap, &dZ[0, 0], &row_losses[0])
        return sum_of_losses(m, weight_data, &row_losses[0]) * scale


cdef double loss_scale(Py_ssize_t m, const real *weights) noexcept nogil:
    """The factor from a weighted sum to the mean: 1 / Σ weights, or 0 where all weights are 0."""
    cdef double total = sum_of_weights(m, weights)
    return 1.0 / total if total > 0 else 0.0


cdef double sum_of_weights(Py_ssize_t m, const real *weights) noexcept nogil:
    cdef double total = 0
    cdef Py_ssize_t i
    if weights is NULL:
        return <double>m
    for i in range(m):
        total += weights[i]
    return total


cdef double sum_of_losses(Py_ssize_t m, const real *weights,
                          const double *row_losses) noexcept nogil:
    """The weighted sum, in the order of the rows."""
    cdef double total = 0
    cdef Py_ssize_t i
    for i in range(m):
        total += row_losses[i] if weights is NULL else weights[i] * row_losses[i]
    return total


cdef _loss(name, Z, Y, labels, sample_weight, double parameter, out,
           double cap=INFINITY, quantiles=None):
    dZ = checks.output(out, Z.shape, Z.dtype, in_place=[Z], y=labels if Y is None else Y,
                       sample_weight=sample_weight)
    row_losses = np.empty(Z.shape[0], np.float64)
    cdef int which = _LOSS_INDEX[name]
    if Z.dtype == "f4":
        value = mean_loss[float](which, Z, Y, labels, sample_weight, parameter, quantiles, cap,
                                 dZ, row_losses)
    else:
        value = mean_loss[double](which, Z, Y, labels, sample_weight, parameter, quantiles, cap,
                                  dZ, row_losses)
    return value, dZ


def _cap(cap):
    return INFINITY if cap is None else checks.number("cap", cap, 0, low_open=True)


def _scores(Z):
    Z = checks.floats("Z", Z, 2)
    if Z.size == 0:
        raise ValueError(f"Z: expected at least one row and one column, got shape {Z.shape}")
    return Z


def _weights(sample_weight, Z):
    if sample_weight is None:
        return None
    weights = checks.floats("sample_weight", sample_weight, 1, Z.dtype)
    checks.shape("sample_weight", weights, Z.shape[:1], "to match Z's rows")
    if not (weights >= 0).all() or not np.isfinite(weights).all():
        i = int(np.argmin((weights >= 0) & np.isfinite(weights)))
        raise ValueError(f"sample_weight: expected finite numbers of at least 0, "
                         f"got {weights[i]} in row {i}")
    return weights


def _targets(y, Z):
    """Targets as an array of Z's shape; shape (batch,) is accepted where there is one output."""
    y = checks.floats("y", y, None, Z.dtype)
    if y.ndim == 1 and Z.shape[1] == 1:
        y = y[:, None]
    checks.shape("y", y, Z.shape, "like Z")
    return y


def _labels(y, Z):
    """Labels in [0, classes), given as integers or whole floats, as int64."""
    checks.shape("y", y, Z.shape[:1], "to match Z's rows")
    classes = Z.shape[1]
    whole = y if y.dtype.kind in "iub" else np.floor(y)
    wrong = (y != whole) | (y < 0) | (y >= classes)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"y: expected labels that are whole numbers from 0 to {classes - 1}, "
                         f"one for each of Z's columns, got {y[i]} in row {i}")
    return np.ascontiguousarray(y, np.int64)


def _distributions(y, Z):
    """Rows of probabilities: not negative, and adding up to 1."""
    y = checks.floats("y", y, 2, Z.dtype)
    checks.shape("y", y, Z.shape, "like Z")
    with np.errstate(invalid="ignore", over="ignore"):
        wrong = ~((y >= 0).all(axis=1) & (abs(y.sum(axis=1) - 1) <= 1e-3))
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(f"y: expected rows of probabilities that add up to 1, "
                         f"got {y[i]} in row {i}")
    return y


def softmax_cross_entropy(Z, y, sample_weight=None, *, label_smoothing=0.0, cap=None,
                          out=None):
    """Cross-entropy of softmax(Z) with the targets, and its gradient, in one pass.

    ``lᵢ = log Σⱼ exp(Zᵢⱼ) - Σⱼ Tᵢⱼ·Zᵢⱼ`` and ``dZ = (softmax(Z) - T) / batch``, where the
    targets are ``T = (1 - s)·onehot(y) + s / classes`` with the label smoothing s.

    Parameters
    ----------
    Z : array_like of shape (batch, classes), float32 or float64
        Scores before softmax (logits).
    y : array_like
        Labels, whole numbers in [0, classes), of shape (batch,); or rows of
        probabilities of shape (batch, classes) and Z's dtype.
    sample_weight : array_like of shape (batch,), optional
        How much each row counts, Z's dtype.
    label_smoothing : float in [0, 1), default 0.0
    cap : float above 0, optional
        Upper limit of a row's contribution to the loss; the gradient ignores it.
    out : ndarray of shape (batch, classes), optional
        Where to write dZ; may be `Z`.

    Returns
    -------
    loss : float
        The mean over the batch.
    dZ : ndarray of shape (batch, classes)

    Raises
    ------
    TypeError
        If a dtype is not as described above.
    ValueError
        If shapes do not match, a label or a probability is out of range, a weight is
        negative, or `out` cannot hold the result.

    References
    ----------
    Label smoothing: C. Szegedy et al., "Rethinking the Inception architecture for
    computer vision", CVPR 2016.

    Examples
    --------
    >>> from fastbp import kernels
    >>> loss, dZ = kernels.softmax_cross_entropy([[0.0, 0.0], [1.0, 3.0]], [0, 1])
    >>> round(loss, 4), dZ.round(4).tolist()
    (0.41, [[-0.25, 0.25], [0.0596, -0.0596]])
    """
    Z = _scores(Z)
    smoothing = checks.number("label_smoothing", label_smoothing, 0, 1, high_open=True)
    weights = _weights(sample_weight, Z)
    y = checks.real_numbers("y", y)
    if y.ndim == 1:
        return _loss("softmax_cross_entropy", Z, None, _labels(y, Z), weights, smoothing, out,
                     _cap(cap))
    return _loss("softmax_cross_entropy", Z, _distributions(y, Z), None, weights, smoothing,
                 out, _cap(cap))


def _of_numbers(loss):
    """The function of a loss whose targets are numbers, from its row in the table."""
    if loss.takes_quantiles:
        def function(Z, y, sample_weight=None, *, quantiles=0.5, cap=None, out=None):
            return _mean_of_quantiles(loss, Z, y, sample_weight, quantiles, cap, out)
    elif loss.default_delta is None:
        def function(Z, y, sample_weight=None, *, cap=None, out=None):
            return _mean(loss, Z, y, sample_weight, 0.0, cap, out)
    else:
        def function(Z, y, sample_weight=None, *, delta=loss.default_delta, cap=None, out=None):
            return _mean(loss, Z, y, sample_weight,
                         checks.number("delta", delta, 0, low_open=True), cap, out)

    function.__name__ = function.__qualname__ = loss.name
    function.__doc__ = ops.loss_docstring(loss)
    globals()[loss.name] = function


def _mean(loss, Z, y, sample_weight, double delta, cap, out):
    Z = _scores(Z)
    Y = _targets(y, Z)
    check_targets(loss, Y)
    return _loss(loss.name, Z, Y, None, _weights(sample_weight, Z), delta, out, _cap(cap))


def _mean_of_quantiles(loss, Z, y, sample_weight, quantiles, cap, out):
    Z = _scores(Z)
    n = Z.shape[1]
    quantiles = check_quantiles("quantiles", quantiles)
    if isinstance(quantiles, tuple):
        if len(quantiles) != n:
            raise ValueError(f"quantiles: expected one for each of Z's {n} columns, got "
                             f"{len(quantiles)}: {quantiles}")
        y = checks.floats("y", y, None, Z.dtype)
        if y.shape == Z.shape[:1] or y.shape == (Z.shape[0], 1):
            y = np.repeat(y.reshape(-1, 1), n, axis=1)
    Y = _targets(y, Z)
    check_targets(loss, Y)
    return _loss(loss.name, Z, Y, None, _weights(sample_weight, Z), 0.0, out, _cap(cap),
                 np.full(n, quantiles, Z.dtype))


def check_quantiles(name, value):
    """`value` as one or several numbers between 0 and 1, both excluded.

    Parameters
    ----------
    name : str
    value : float or array_like of shape (quantiles,)

    Returns
    -------
    float or tuple of float

    Raises
    ------
    TypeError
        If it is anything but numbers.
    ValueError
        If a number is out of range, or there are none.
    """
    array = checks.real_numbers(name, value)
    if array.ndim == 0:
        return checks.number(name, value, 0, 1, low_open=True, high_open=True)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name}: expected a number or a sequence of numbers, got an array of "
                         f"shape {array.shape}")
    numbers = []
    for i, each in enumerate(array.tolist()):
        numbers.append(checks.number(f"{name}[{i}]", each, 0, 1, low_open=True, high_open=True))
    return tuple(numbers)


def check_targets(loss, Y):
    """Raise unless all targets are in the range of a loss.

    Parameters
    ----------
    loss : fastbp.kernels.ops.Loss
    Y : ndarray of shape (rows, outputs)

    Raises
    ------
    ValueError
        Naming the first target out of range.
    """
    if loss.low is None:
        return
    fits = Y >= loss.low if loss.high is None else (Y >= loss.low) & (Y <= loss.high)
    if not fits.all():
        i, j = np.argwhere(~fits)[0]
        raise ValueError(f"y: expected targets {ops.target_limits(loss)}, "
                         f"got {Y[i, j]} in row {i}, column {j}")


for _each in ops.LOSSES.values():
    if not _each.takes_labels:
        _of_numbers(_each)
