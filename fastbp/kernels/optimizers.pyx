"""Optimizer steps over flat arrays, in place; the L2 penalty, and the norm for clipping."""

from libc.math cimport sqrt

import numpy as np

from . import checks, ops
from .dispatch import UPDATE_INDEX as _UPDATE_INDEX


cdef int update(int which, real[::1] parameters, const real[::1] gradients, list state,
                double learning_rate, int64_t step, const double[::1] attributes) except -1:
    cdef real *pointers[FBP_MOST_STATE]
    cdef real[::1] array
    cdef int i
    for i in range(len(state)):
        array = state[i]
        pointers[i] = &array[0]
    with nogil:
        fbp_update(tier, which, parameters.shape[0], &parameters[0], &gradients[0], pointers,
                   learning_rate, step, &attributes[0])
    return 0


def update_step(name, parameters, gradients, state, *, learning_rate, step, attributes):
    """One step of an optimizer's update, in place.

    Parameters
    ----------
    name : str
        Of a row ``FBP_UPDATE`` in ops.def.
    parameters : ndarray of shape (n,), float32 or float64
        Changed in place.
    gradients : array_like of shape (n,), same dtype
    state : dict of str to ndarray of shape (n,), same dtype
        By the names in ops.def; changed in place.
    learning_rate : float, at least 0
    step : int
        1 at the first step.
    attributes : dict of str to float
        By the names in ops.def.

    Raises
    ------
    TypeError
        If dtypes differ or are neither float32 nor float64, `step` is not an integer, or `state` or
        `attributes` is not a dict.
    ValueError
        If a name is missing or unknown, shapes differ, arrays overlap, an array that is changed is
        read-only or not contiguous, or a number is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp.kernels import optimizers
    >>> parameters = np.array([1.0, 2.0])
    >>> optimizers.update_step("sgd", parameters, [1.0, -1.0], {}, learning_rate=0.5, step=1,
    ...                        attributes={"weight_decay": 0.0})
    >>> parameters.tolist()
    [0.5, 2.5]
    """
    op = ops.UPDATES.get(name)
    if op is None:
        raise ValueError(f"name: expected one of {', '.join(ops.UPDATES)}, got {name!r}")
    for what, given, wanted in (("state", state, op.state),
                                ("attributes", attributes, op.attributes)):
        if not isinstance(given, dict):
            raise TypeError(f"{what}: expected a dict, got a {type(given).__name__}")
        if set(given) != set(wanted):
            raise ValueError(f"{what}: expected {', '.join(wanted) or 'nothing'} for {name}, got "
                             f"{', '.join(map(str, given)) or 'nothing'}")
    learning_rate = checks.number("learning_rate", learning_rate, 0)
    step = checks.integer("step", step, 1, 2**62)
    numbers = np.array([0.0, *(checks.number(key, attributes[key]) for key in op.attributes)])[1:]
    arrays = list(map(state.__getitem__, op.state))
    gradients = _state(parameters, gradients, **state)
    if parameters.size == 0:
        return
    which = _UPDATE_INDEX[name]
    if parameters.dtype == "f4":
        update[float](which, parameters, gradients, arrays, learning_rate, step, numbers)
    else:
        update[double](which, parameters, gradients, arrays, learning_rate, step, numbers)


cdef double penalty(const real[::1] parameters, real[::1] gradients,
                    double strength) except? -1:
    cdef double total = 0
    cdef Py_ssize_t start = 0, n = parameters.shape[0]
    with nogil:
        while start < n:
            total += penalize_block(min(n - start, SQUARES_BLOCK), &parameters[start],
                                    &gradients[start], strength)
            start += SQUARES_BLOCK
    return total


cdef double penalize_block(Py_ssize_t n, const real *parameters, real *gradients,
                           double strength) noexcept nogil:
    """Add strength·parameters to the gradients; return the sum of the parameters' squares."""
    fbp_penalize(tier, n, parameters, gradients, strength)
    return fbp_sum_of_squares(tier, n, parameters)


cdef double sum_of_squares(const real[::1] X) except? -1:
    with nogil:
        return sum_of_squares_of(X.shape[0], &X[0])


cdef double sum_of_squares_of(Py_ssize_t n, const real *X) noexcept nogil:
    """The sum in blocks that are added in order, so that threads can share the blocks."""
    cdef double total = 0
    cdef Py_ssize_t start = 0
    while start < n:
        total += fbp_sum_of_squares(tier, min(n - start, SQUARES_BLOCK), X + start)
        start += SQUARES_BLOCK
    return total


def _state(parameters, gradients, **state):
    """Check the flat arrays of a step; all but `gradients` are written."""
    checks.writable("parameters", parameters)
    if parameters.ndim != 1:
        raise ValueError(f"parameters: expected 1 dimension, got {parameters.ndim} "
                         f"(shape {parameters.shape}); pass a flat view, parameters.reshape(-1)")
    gradients = checks.floats("gradients", gradients, 1, parameters.dtype)
    checks.shape("gradients", gradients, parameters.shape, "like parameters")
    seen = {"parameters": parameters, "gradients": gradients}
    for name, array in state.items():
        checks.writable(name, array, parameters.dtype)
        checks.output(array, parameters.shape, parameters.dtype, name, **seen)
        seen[name] = array
    checks.output(parameters, parameters.shape, parameters.dtype, "parameters",
                  gradients=gradients)
    return gradients


def sgd_step(parameters, gradients, velocity=None, *, learning_rate, momentum=0.0,
             nesterov=False, weight_decay=0.0):
    """One step of stochastic gradient descent, in place.

    With ``g = gradients + weight_decay·parameters`` (L2 regularization)::

        velocity   = momentum·velocity - learning_rate·g
        parameters = parameters + velocity
        parameters = parameters + momentum·velocity - learning_rate·g    (Nesterov)

    Parameters
    ----------
    parameters : ndarray of shape (n,), float32 or float64
        Changed in place.
    gradients : array_like of shape (n,), same dtype
    velocity : ndarray of shape (n,), same dtype, optional
        Zeros before the first step; changed in place.  Required where `momentum` is not 0.
    learning_rate : float, at least 0
    momentum : float in [0, 1], default 0.0
    nesterov : bool, default False
    weight_decay : float, at least 0, default 0.0

    Raises
    ------
    TypeError
        If dtypes differ or are neither float32 nor float64, an array that is changed is no
        ndarray, or `nesterov` is not a bool.
    ValueError
        If shapes differ, arrays overlap, an array that is changed is read-only or not
        contiguous, or a number is out of range.

    References
    ----------
    I. Sutskever, J. Martens, G. Dahl, G. Hinton, "On the importance of initialization and
    momentum in deep learning", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> parameters, velocity = np.array([1.0, 2.0]), np.zeros(2)
    >>> for _ in range(2):
    ...     kernels.sgd_step(parameters, [1.0, -1.0], velocity, learning_rate=0.25, momentum=0.5)
    >>> parameters.tolist(), velocity.tolist()
    ([0.375, 2.625], [-0.375, 0.375])
    """
    learning_rate = checks.number("learning_rate", learning_rate, 0)
    momentum = checks.number("momentum", momentum, 0, 1)
    weight_decay = checks.number("weight_decay", weight_decay, 0)
    nesterov = checks.boolean("nesterov", nesterov)
    if momentum > 0 and velocity is None:
        raise ValueError("velocity: expected an array because momentum is not 0, got None; "
                         "pass np.zeros_like(parameters) at the first step and keep it")
    name, state, attributes = "sgd", {}, {"weight_decay": weight_decay}
    if velocity is not None:
        name, state = "momentum", {"velocity": velocity}
        attributes |= {"momentum": momentum, "nesterov": nesterov}
    update_step(name, parameters, gradients, state, learning_rate=learning_rate, step=1,
                attributes=attributes)


def adam_step(parameters, gradients, m, v, step, *, learning_rate=0.001, beta1=0.9,
              beta2=0.999, epsilon=1e-8, weight_decay=0.0, decoupled=False, epsilon_hat=False):
    """One step of Adam, or with `decoupled` of AdamW, in place.

    With ``g = gradients + weight_decay·parameters`` (Adam) or ``g = gradients`` (AdamW)::

        m = beta1·m + (1 - beta1)·g
        v = beta2·v + (1 - beta2)·g²
        parameters = parameters - learning_rate·weight_decay·parameters     (AdamW)
        parameters = parameters - learning_rate·m̂ / (√v̂ + epsilon)

    where ``m̂ = m / (1 - beta1ˢᵗᵉᵖ)`` and ``v̂ = v / (1 - beta2ˢᵗᵉᵖ)``.

    Parameters
    ----------
    parameters : ndarray of shape (n,), float32 or float64
        Changed in place.
    gradients : array_like of shape (n,), same dtype
    m, v : ndarray of shape (n,), same dtype
        Moving averages of the gradient and its square, zeros before the first step; changed in
        place.
    step : int
        1 at the first step.
    learning_rate : float, at least 0, default 0.001
    beta1, beta2 : float in [0, 1), default 0.9 and 0.999
    epsilon : float above 0, default 1e-8
    weight_decay : float, at least 0, default 0.0
    decoupled : bool, default False
        Whether to subtract the decay from the parameters rather than add it to the gradient.
    epsilon_hat : bool, default False
        Add `epsilon` to √v before its bias is corrected: the ε̂ of the paper's section 2,
        as in scikit-learn and TensorFlow.

    Raises
    ------
    TypeError
        If dtypes differ or are neither float32 nor float64, `step` is not an integer, an array
        that is changed is not an ndarray, or `decoupled` or `epsilon_hat` is not a bool.
    ValueError
        If shapes differ, arrays overlap, an array that is changed is read-only or not
        contiguous, or a number is out of range.

    Notes
    -----
    A component of g below 2**-56 (float32) or 2**-500 (float64) counts as 0: its square
    would not be a normal number.

    References
    ----------
    D. P. Kingma, J. Ba, "Adam: a method for stochastic optimization", ICLR 2015,
    algorithm 1; I. Loshchilov, F. Hutter, "Decoupled weight decay regularization",
    ICLR 2019.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> parameters, m, v = np.array([1.0, 2.0]), np.zeros(2), np.zeros(2)
    >>> kernels.adam_step(parameters, [5.0, -0.1], m, v, step=1, learning_rate=0.1)
    >>> parameters.round(4).tolist()
    [0.9, 2.1]
    """
    step = checks.integer("step", step, 1, 2**62)
    learning_rate = checks.number("learning_rate", learning_rate, 0)
    beta1 = checks.number("beta1", beta1, 0, 1, high_open=True)
    beta2 = checks.number("beta2", beta2, 0, 1, high_open=True)
    epsilon = checks.number("epsilon", epsilon, 0, low_open=True)
    weight_decay = checks.number("weight_decay", weight_decay, 0)
    decoupled = checks.boolean("decoupled", decoupled)
    epsilon_hat = checks.boolean("epsilon_hat", epsilon_hat)
    for name, array in (("m", m), ("v", v)):
        if array is None:
            raise TypeError(f"{name}: expected a numpy.ndarray, got None; "
                            f"pass np.zeros_like(parameters) at the first step and keep it")
    update_step(
        "adam", parameters, gradients, {"m": m, "v": v}, learning_rate=learning_rate, step=step,
        attributes={"beta1": beta1, "beta2": beta2, "epsilon": epsilon,
                    "weight_decay": weight_decay, "decoupled": decoupled,
                    "epsilon_hat": epsilon_hat},
    )


def penalize(parameters, gradients, strength):
    """Add the gradient of ``strength/2 · Σ parameters²``, in place.

    Parameters
    ----------
    parameters : array_like of any shape, float32 or float64
    gradients : ndarray, same shape and dtype
        ``strength · parameters`` is added to it.
    strength : float, at least 0

    Returns
    -------
    float
        ``Σ parameters²``, summed in float64.

    Raises
    ------
    TypeError
        If dtypes differ or are neither float32 nor float64.
    ValueError
        If shapes differ, the arrays overlap, `gradients` are read-only or not contiguous, or
        `strength` is out of range.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> gradients = np.zeros(2)
    >>> kernels.penalize([3.0, 4.0], gradients, 0.5)
    25.0
    >>> gradients.tolist()
    [1.5, 2.0]
    """
    strength = checks.number("strength", strength, 0)
    parameters = checks.floats("parameters", parameters)
    checks.writable("gradients", gradients, parameters.dtype)
    checks.output(gradients, parameters.shape, parameters.dtype, "gradients",
                  parameters=parameters)
    if parameters.dtype == "f4":
        return penalty[float](parameters.reshape(-1), gradients.reshape(-1), strength)
    return penalty[double](parameters.reshape(-1), gradients.reshape(-1), strength)


def norm(X):
    """Euclidean norm ``√Σ X²``, summed in float64.

    Parameters
    ----------
    X : array_like of any shape, float32 or float64

    Returns
    -------
    float

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.norm([3.0, 4.0])
    5.0
    """
    X = checks.floats("X", X)
    if X.dtype == "f4":
        return sqrt(sum_of_squares[float](X.reshape(-1)))
    return sqrt(sum_of_squares[double](X.reshape(-1)))
