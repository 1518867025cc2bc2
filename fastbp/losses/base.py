"""`Loss`, the base class of all losses, and calling one with checks."""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from ..kernels import checks
from ..kernels.types import Array, Floats
from ..metrics import Metric

__all__ = ["Loss", "checked_loss", "compute_loss"]


class Loss(checks.Validated):
    """Base class of all losses, fastbp's own and yours, which define ``__call__``.

    Attributes
    ----------
    metric : class or None
        The score that `fit` and `evaluate` report beside the loss (see `fastbp.metrics`).

    Examples
    --------
    Your own loss, the mean of (z - y)⁴:

    >>> import fastbp as fb
    >>> class FourthPower(fb.Loss):
    ...     def __call__(self, Z, y, sample_weight=None):
    ...         R = Z - y
    ...         return np.mean(R**4), 4 * R**3 / R.size
    ...
    >>> X = np.linspace(-1, 1, 20)[:, None]
    >>> history = fb.mlp([1, 8, 1], seed=0).fit(X, X, loss=FourthPower(), epochs=5, seed=0)
    """

    metric: type[Metric] | None = None
    # (name in ops.def, parameter or a tuple of one for each output, cap) of the compiled kernel
    # that replaces ``__call__`` in training; None for user-defined losses.
    operation: tuple[Any, ...] | None = None

    def __call__(self, Z: Floats, y: Array,
                 sample_weight: Array | None = None) -> tuple[float, Floats]:
        """The mean loss and its gradient.

        Parameters
        ----------
        Z : ndarray of shape (batch, n_out)
            The network's output.
        y : ndarray
            The targets of the batch, as `targets` returns them.
        sample_weight : ndarray of shape (batch,), optional
            The weight of each row.

        Returns
        -------
        value : float
        dZ : ndarray of shape (batch, n_out)
            The gradient with respect to Z.
        """
        raise NotImplementedError(f"{type(self).__name__} needs __call__(Z, y, sample_weight)")

    def targets(self, y: ArrayLike, n_out: int, dtype: DTypeLike) -> Array:
        """Check all targets before training, and convert them to the form ``__call__`` takes.

        By default these are numbers of shape (rows, n_out) in the network's dtype; y may have the
        shape (rows,) if n_out is 1.

        Parameters
        ----------
        y : array_like
        n_out : int
            Columns of the network's output.
        dtype : dtype_like
            The network's dtype.

        Returns
        -------
        ndarray
            One row for each row of y.

        Raises
        ------
        TypeError
            If y is not made of real numbers.
        ValueError
            If its shape does not fit, or a value is NaN, infinite or out of range.

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.MeanSquaredError().targets([1, 2], n_out=1, dtype="float32")
        array([[1.],
               [2.]], dtype=float32)
        """
        array = checks.data("y", y)
        if array.ndim == 1 and n_out == 1:
            array = array[:, None]
        checks.shape("y", array, (None, n_out), "for the network's outputs")
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(array, dtype)
        checks.finite("y", converted)
        return converted

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in vars(self).items())
        return f"{type(self).__name__}({arguments})"


def compute_loss(loss: Loss, Z: Floats, y: Array,
                 sample_weight: Array | None = None) -> tuple[float, Floats]:
    """Call a loss, and check what it returns unless it is a built-in one.

    Parameters
    ----------
    loss : Loss
    Z : ndarray of shape (batch, n_out)
    y : ndarray
        Targets, as `Loss.targets` returns them.
    sample_weight : ndarray of shape (batch,), optional

    Returns
    -------
    value : float
    dZ : ndarray of shape (batch, n_out)

    Raises
    ------
    TypeError, ValueError
        If the loss does not return a pair of a real number, which may be infinite or NaN, and
        an array of Z's shape and dtype.

    Examples
    --------
    >>> import fastbp as fb
    >>> from fastbp.losses import compute_loss
    >>> class Wrong(fb.Loss):
    ...     def __call__(self, Z, y, sample_weight=None):
    ...         return 0.0
    ...
    >>> compute_loss(Wrong(), np.zeros((1, 1)), np.zeros((1, 1)))
    Traceback (most recent call last):
    TypeError: loss Wrong() returned 0.0; expected a pair (value, dZ)
    """
    if checks.compiled_form(loss) is not None:
        return loss(Z, y, sample_weight)
    arrays: list[Any] = [checks.read_only(each) if isinstance(each, np.ndarray) else each
                         for each in (Z, y, sample_weight)]
    result: Any = loss(*arrays)
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise TypeError(f"loss {loss!r} returned {_shown(result)}; expected a pair (value, dZ)")
    value, dZ = result
    try:
        if isinstance(value, str | bytes) or np.ndim(value) != 0 or np.iscomplexobj(value):
            raise TypeError
        value = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"loss {loss!r} returned {_shown(value)} as its value; expected a real "
                        f"number") from None
    checks.returned(f"loss {loss!r}", "dZ", dZ, Z.shape, Z.dtype)
    return value, dZ


def _shown(value: Any) -> str:
    """A value for a message: arrays and sequences by their size."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    return repr(value)


def checked_loss(loss: Any) -> Loss:
    """Check that `loss` is a loss.

    Parameters
    ----------
    loss : Loss

    Returns
    -------
    Loss

    Raises
    ------
    TypeError
        If it is anything else, such as a class.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.losses.checked_loss(fb.Huber)
    Traceback (most recent call last):
    TypeError: loss: expected a loss, got the class Huber; make one: Huber()
    """
    if isinstance(loss, type) and issubclass(loss, Loss):
        raise TypeError(f"loss: expected a loss, got the class {loss.__name__}; "
                        f"make one: {loss.__name__}()")
    if not isinstance(loss, Loss):
        raise TypeError(f"loss: expected a Loss such as SoftmaxCrossEntropy(), got {loss!r}")
    return loss
