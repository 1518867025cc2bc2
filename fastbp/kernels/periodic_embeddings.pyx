"""Periodic embeddings of numbers: a number and cosines of its multiples, scaled and shifted.

Feature x becomes ``Z = gamma·N + beta`` with ``N = x, cos 2πt₁, cos 2πt₂, …``, where
``tⱼ = frequencyⱼ·x + phaseⱼ``.  The gradients are sums over rows of

    dgamma = dZ·N,  dbeta = dZ,  dphaseⱼ = -2π·gammaⱼ·dZⱼ·sin 2πtⱼ,  dfrequencyⱼ = dphaseⱼ·x,

and along a row ``dx = dZ₀·gamma₀ - 2π·Σⱼ dZⱼ·gammaⱼ·frequencyⱼ·sin 2πtⱼ``.  Sums over rows are
chains in ascending order, cut into blocks of 256 whose sums are added in order; the sum along a
row runs in 16 lanes that are added as a tree.
"""

from fastbp.kernels.dispatch cimport (
    fbp_periodic, fbp_periodic_backward, fbp_periodic_backward_input, real, tier,
)

import numpy as np

from . import checks


cdef int forward(const real[:, ::1] X, const real[:, ::1] frequencies,
                 const real[:, ::1] phases, const real[:, ::1] gamma, const real[:, ::1] beta,
                 real[:, ::1] Z, real[:, ::1] N) except -1:
    cdef real *features = <real *>NULL if N is None else &N[0, 0]
    with nogil:
        fbp_periodic(tier, X.shape[0], X.shape[1], gamma.shape[1], &X[0, 0], &frequencies[0, 0],
                     &phases[0, 0], &gamma[0, 0], &beta[0, 0], &Z[0, 0], features)
    return 0


cdef int backward(const real[:, ::1] dZ, const real[:, ::1] X, const real[:, ::1] frequencies,
                  const real[:, ::1] phases, const real[:, ::1] gamma, real[:, ::1] dgamma,
                  real[:, ::1] dbeta, real[:, ::1] dfrequencies, real[:, ::1] dphases) except -1:
    with nogil:
        fbp_periodic_backward(tier, X.shape[0], X.shape[1], gamma.shape[1], 0, dZ.shape[1],
                              &dZ[0, 0], &X[0, 0], &frequencies[0, 0], &phases[0, 0],
                              &gamma[0, 0], &dgamma[0, 0], &dbeta[0, 0], &dfrequencies[0, 0],
                              &dphases[0, 0], 0)
    return 0


cdef int input_gradient(const real[:, ::1] dZ, const real[:, ::1] X,
                        const real[:, ::1] frequencies, const real[:, ::1] phases,
                        const real[:, ::1] gamma, real[:, ::1] dX) except -1:
    with nogil:
        fbp_periodic_backward_input(tier, X.shape[0], X.shape[1], gamma.shape[1], &dZ[0, 0],
                                    &X[0, 0], &frequencies[0, 0], &phases[0, 0], &gamma[0, 0],
                                    &dX[0, 0])
    return 0


def _check(X, frequencies, phases, **scales):
    """The arrays in the form that kernels need: a row for each feature, a column of X."""
    k = X.shape[1]
    frequencies = checks.floats("frequencies", frequencies, 2, X.dtype)
    checks.shape("frequencies", frequencies, (k, None), "with a row for each of X's columns")
    phases = checks.like("phases", phases, "frequencies", frequencies)
    result = [frequencies, phases]
    for name, array in scales.items():
        array = checks.floats(name, array, 2, X.dtype)
        checks.shape(name, array, (k, frequencies.shape[1] + 1),
                     "with a column more than frequencies")
        result.append(array)
    return result


def periodic(X, frequencies, phases, gamma, beta, *, out=None):
    """Periodic embedding of every column: ``Z = gamma·(x, cos 2πt₁, …) + beta``.

    ``tⱼ = frequencyⱼ·x + phaseⱼ``.  The error of a cosine is below 2 ULP of the cosine of t as it
    is rounded; where t is too large to have a fraction, the cosine is 1.

    Parameters
    ----------
    X : array_like of shape (batch, features), float32 or float64
    frequencies, phases : array_like of shape (features, n - 1), same dtype
        In turns.
    gamma, beta : array_like of shape (features, n), same dtype
        Their first columns are for x itself.
    out : ndarray of shape (batch, features·n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    Z : ndarray of shape (batch, features·n)
        The n columns of the first feature, then those of the second, and so on.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    References
    ----------
    Y. Gorishniy, I. Rubachev, A. Babenko, "On embeddings for numerical features in tabular deep
    learning", NeurIPS 2022.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.periodic([[0.5]], [[1.0, 2.0]], [[0.0, 0.0]], [[1.0] * 3], [[0.0] * 3]).tolist()
    [[0.5, -1.0, 1.0]]
    """
    X = checks.floats("X", X, 2)
    frequencies, phases, gamma, beta = _check(X, frequencies, phases, gamma=gamma, beta=beta)
    Z = checks.output(out, (X.shape[0], gamma.size), X.dtype, X=X, frequencies=frequencies,
                      phases=phases, gamma=gamma, beta=beta)
    if X.dtype == "f4":
        forward[float](X, frequencies, phases, gamma, beta, Z, None)
    else:
        forward[double](X, frequencies, phases, gamma, beta, Z, None)
    return Z


def periodic_features(X, frequencies, phases, gamma, beta, *, out=None):
    """`periodic`, and what it scales and shifts, from which follow the gradients of these two.

    They are ``scale_shift_backward(dZ, N)``.

    Parameters
    ----------
    X : array_like of shape (batch, features), float32 or float64
    frequencies, phases : array_like of shape (features, n - 1), same dtype
    gamma, beta : array_like of shape (features, n), same dtype
        As for `periodic`.
    out : ndarray of shape (batch, features·n), optional
        Where to write Z; C-contiguous, and must not overlap an input.

    Returns
    -------
    Z : ndarray of shape (batch, features·n)
    N : ndarray of shape (batch, features·n)
        For each feature ``x, cos 2πt₁, …``.

    Raises
    ------
    TypeError, ValueError
        As `periodic`.

    Examples
    --------
    >>> from fastbp import kernels
    >>> Z, N = kernels.periodic_features([[0.5]], [[1.0]], [[0.0]], [[0.0, 2.0]], [[1.0, 0.0]])
    >>> Z.tolist(), N.tolist()
    ([[1.0, -2.0]], [[0.5, -1.0]])
    """
    X = checks.floats("X", X, 2)
    frequencies, phases, gamma, beta = _check(X, frequencies, phases, gamma=gamma, beta=beta)
    Z = checks.output(out, (X.shape[0], gamma.size), X.dtype, X=X, frequencies=frequencies,
                      phases=phases, gamma=gamma, beta=beta)
    N = np.empty_like(Z)
    if X.dtype == "f4":
        forward[float](X, frequencies, phases, gamma, beta, Z, N)
    else:
        forward[double](X, frequencies, phases, gamma, beta, Z, N)
    return Z, N


def _check_gradient(dZ, X, gamma):
    dZ = checks.floats("dZ", dZ, 2)
    X = checks.floats("X", X, 2, dZ.dtype)
    checks.shape("X", X, (dZ.shape[0], None), "to match dZ's rows")
    gamma = checks.floats("gamma", gamma, 2, dZ.dtype)
    if gamma.shape[1] == 0 or gamma.size != dZ.shape[1] or gamma.shape[0] != X.shape[1]:
        raise ValueError(f"gamma: expected a row for each of X's columns and an element for each "
                         f"of dZ's, got shapes {gamma.shape}, {X.shape} and {dZ.shape}")
    return dZ, X, gamma


def periodic_backward(dZ, X, frequencies, phases, gamma):
    """Gradients with respect to all parameters of `periodic`.

    Parameters
    ----------
    dZ : array_like of shape (batch, features·n), float32 or float64
        Gradient of the loss with respect to Z.
    X, frequencies, phases, gamma : array_like, same dtype
        As for `periodic`.

    Returns
    -------
    dgamma, dbeta : ndarray of shape (features, n)
    dfrequencies, dphases : ndarray of shape (features, n - 1)
        Results below 2**-100 (float32) or 2**-960 (float64) in magnitude become 0.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match.

    Examples
    --------
    >>> from fastbp import kernels
    >>> gradients = kernels.periodic_backward([[1.0, 1.0]], [[0.25]], [[1.0]], [[0.0]],
    ...                                       [[3.0, 1.0]])
    >>> [each.round(4).tolist() for each in gradients]
    [[[0.25, 0.0]], [[1.0, 1.0]], [[-1.5708]], [[-6.2832]]]
    """
    dZ, X, gamma = _check_gradient(dZ, X, gamma)
    frequencies, phases = _check(X, frequencies, phases)
    checks.shape("frequencies", frequencies, (None, gamma.shape[1] - 1),
                 "with a column less than gamma")
    dgamma, dbeta = np.empty_like(gamma), np.empty_like(gamma)
    dfrequencies, dphases = np.empty_like(frequencies), np.empty_like(frequencies)
    if dZ.dtype == "f4":
        backward[float](dZ, X, frequencies, phases, gamma, dgamma, dbeta, dfrequencies, dphases)
    else:
        backward[double](dZ, X, frequencies, phases, gamma, dgamma, dbeta, dfrequencies, dphases)
    return dgamma, dbeta, dfrequencies, dphases


def periodic_backward_input(dZ, X, frequencies, phases, gamma, *, out=None):
    """Gradient with respect to the input of `periodic`.

    Parameters
    ----------
    dZ : array_like of shape (batch, features·n), float32 or float64
        Gradient of the loss with respect to Z.
    X, frequencies, phases, gamma : array_like, same dtype
        As for `periodic`.
    out : ndarray of shape (batch, features), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dX : ndarray of shape (batch, features)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.periodic_backward_input([[1.0, 1.0]], [[0.25]], [[1.0]], [[0.0]],
    ...                                 [[3.0, 1.0]]).round(4).tolist()
    [[-3.2832]]
    """
    dZ, X, gamma = _check_gradient(dZ, X, gamma)
    frequencies, phases = _check(X, frequencies, phases)
    checks.shape("frequencies", frequencies, (None, gamma.shape[1] - 1),
                 "with a column less than gamma")
    dX = checks.output(out, X.shape, X.dtype, dZ=dZ, X=X, frequencies=frequencies, phases=phases,
                       gamma=gamma)
    if dZ.dtype == "f4":
        input_gradient[float](dZ, X, frequencies, phases, gamma, dX)
    else:
        input_gradient[double](dZ, X, frequencies, phases, gamma, dX)
    return dX
