"""Initial weights.

An initializer is a callable ``(rng, n_in, n_out) -> array of shape (n_in, n_out)``, with
`rng` a `numpy.random.Generator`.  Those here keep the variance of what flows through a
layer the same from layer to layer: He's for layers that a ReLU follows, which halves it,
Glorot's for the others.

References
----------
X. Glorot, Y. Bengio, "Understanding the difficulty of training deep feedforward neural
networks", AISTATS 2010.
K. He, X. Zhang, S. Ren, J. Sun, "Delving deep into rectifiers", ICCV 2015.
"""

import numpy as np

__all__ = ["glorot_normal", "glorot_uniform", "he_normal", "he_uniform"]


def he_normal(rng, n_in, n_out):
    """Normal with variance ``2 / n_in``."""
    return np.sqrt(2 / n_in) * rng.standard_normal((n_in, n_out))


def he_uniform(rng, n_in, n_out):
    """Uniform within ``±√(6 / n_in)``."""
    return np.sqrt(6 / n_in) * rng.uniform(-1, 1, (n_in, n_out))


def glorot_normal(rng, n_in, n_out):
    """Normal with variance ``2 / (n_in + n_out)``."""
    return np.sqrt(2 / (n_in + n_out)) * rng.standard_normal((n_in, n_out))


def glorot_uniform(rng, n_in, n_out):
    """Uniform within ``±√(6 / (n_in + n_out))``."""
    return np.sqrt(6 / (n_in + n_out)) * rng.uniform(-1, 1, (n_in, n_out))


BY_NAME = {
    "he_normal": he_normal,
    "he_uniform": he_uniform,
    "glorot_normal": glorot_normal,
    "glorot_uniform": glorot_uniform,
}


def get(init):
    """The initializer of that name, or `init` itself if it is callable.

    Raises
    ------
    ValueError
        If the name is none of the four.
    TypeError
        If it is neither a name nor callable.
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
