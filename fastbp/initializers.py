"""Initial weights.

An initializer is a callable ``(rng, n_in, n_out) -> array of shape (n_in, n_out)``, where `rng` is
a `numpy.random.Generator`.  Those here preserve the variance of activations from layer to layer:
He's for layers followed by a ReLU, which halves it, and Glorot's for the others.

References
----------
X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
networks", AISTATS 2010.
K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers: surpassing human-level performance
on ImageNet classification", ICCV 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from .kernels.types import Doubles

__all__ = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform"]

# In quotes, for evaluating it would import numpy.random.
Initializer: TypeAlias = "Callable[[np.random.Generator, int, int], ArrayLike]"


def he_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    """Normal distribution with mean 0 and variance ``2 / n_in``.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_in, n_out : int

    Returns
    -------
    ndarray of shape (n_in, n_out), float64

    Examples
    --------
    >>> import fastbp as fb
    >>> W = fb.initializers.he_normal(np.random.default_rng(0), 200, 300)
    >>> W.shape, round(float(W.var()), 3)
    ((200, 300), 0.01)
    """
    return math.sqrt(2 / n_in) * rng.standard_normal((n_in, n_out))


def he_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    """Uniform distribution between ``-√(6 / n_in)`` and ``√(6 / n_in)``: variance ``2 / n_in``.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_in, n_out : int

    Returns
    -------
    ndarray of shape (n_in, n_out), float64

    Examples
    --------
    >>> import fastbp as fb
    >>> W = fb.initializers.he_uniform(np.random.default_rng(0), 200, 300)
    >>> bool(abs(W).max() <= (6 / 200) ** 0.5)
    True
    """
    return math.sqrt(6 / n_in) * rng.uniform(-1, 1, (n_in, n_out))


def glorot_normal(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    """Normal distribution with mean 0 and variance ``2 / (n_in + n_out)``.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_in, n_out : int

    Returns
    -------
    ndarray of shape (n_in, n_out), float64

    Examples
    --------
    >>> import fastbp as fb
    >>> W = fb.initializers.glorot_normal(np.random.default_rng(0), 200, 300)
    >>> W.shape, round(float(W.var()), 4)
    ((200, 300), 0.004)
    """
    return math.sqrt(2 / (n_in + n_out)) * rng.standard_normal((n_in, n_out))


def glorot_uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    """Uniform distribution between ``±√(6 / (n_in + n_out))``: variance ``2 / (n_in + n_out)``.

    Parameters
    ----------
    rng : numpy.random.Generator
    n_in, n_out : int

    Returns
    -------
    ndarray of shape (n_in, n_out), float64

    Examples
    --------
    >>> import fastbp as fb
    >>> W = fb.initializers.glorot_uniform(np.random.default_rng(0), 200, 300)
    >>> bool(abs(W).max() <= (6 / 500) ** 0.5)
    True
    """
    return math.sqrt(6 / (n_in + n_out)) * rng.uniform(-1, 1, (n_in, n_out))


BY_NAME: dict[str, Initializer] = {
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
}


def get(init: str | Initializer) -> Initializer:
    """The initializer with a name, or `init` itself if it is callable.

    Parameters
    ----------
    init : str or callable

    Returns
    -------
    callable

    Raises
    ------
    ValueError
        If there is no initializer of this name.
    TypeError
        If `init` is neither a string nor callable.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.initializers.get("he_normal").__name__
    'he_normal'
    """
    if callable(init):
        return init
    if not isinstance(init, str):
        raise TypeError(f"init: expected a name or a callable (rng, n_in, n_out) -> weights, "
                        f"got {init!r}")
    if init not in BY_NAME:
        raise ValueError(f"init: expected one of {', '.join(BY_NAME)}, or a callable, "
                         f"got {init!r}")
    return BY_NAME[init]
