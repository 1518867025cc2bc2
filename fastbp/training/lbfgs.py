"""All rows in one step: SciPy's L-BFGS-B over the network's parameters."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from .. import layers
from ..kernels import checks
from .data import Dataset
from .history import History
from .run import Training

if TYPE_CHECKING:
    from ..kernels.types import Doubles
    from ..losses import Loss
    from ..network import Sequential

__all__ = ["lbfgs"]


def lbfgs(network: Sequential, X: ArrayLike, y: ArrayLike, *, loss: Loss,
          sample_weight: ArrayLike | None = None, l2: float = 0.0, max_iter: int = 200,
          max_evaluations: int = 15000, tol: float = 1e-4,
          callback: Callable[[Any], None] | None = None) -> Any:
    """Minimize the loss of all rows together with SciPy's L-BFGS-B.

    Parameters
    ----------
    network : Sequential
        Its parameters are the starting point, and are set to the result.
    X, y, loss, sample_weight, l2
        As in `Sequential.fit`.
    max_iter, max_evaluations : int
        Iterations, and evaluations of the loss, after which it stops.
    tol : float, default 1e-4
        Converged when no component of the gradient is larger in magnitude; SciPy may stop earlier,
        when the loss hardly decreases.
    callback : callable, optional
        Called after each iteration with SciPy's result so far, which has `x` and `fun`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `status` is 0 where it converged; `message` says why it stopped, `fun` is the loss with
        its penalty, `nit` the number of iterations.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    TypeError, ValueError
        As for `Sequential.fit`, or if the network contains Dropout or BatchNorm.
    FloatingPointError
        If it ends with weights that are not finite.

    References
    ----------
    C. Zhu, R. H. Byrd, P. Lu, J. Nocedal, "Algorithm 778: L-BFGS-B", ACM Transactions on
    Mathematical Software 23, 1997.
    """
    from scipy.optimize import minimize

    l2 = checks.not_negative("l2", l2)
    max_iter = checks.integer("max_iter", max_iter, 1)
    max_evaluations = checks.integer("max_evaluations", max_evaluations, 1)
    tol = checks.not_negative("tol", tol)
    if any(isinstance(layer, layers.Dropout) and layer.rate > 0 for _, layer in network.leaves):
        raise ValueError("network: expected one without dropout, whose loss would be another in "
                         "each evaluation; use fit")
    if network.buffers.size:
        raise ValueError("network: expected one without BatchNorm, whose running statistics no "
                         "evaluation of the loss moves; use fit, or LayerNorm")
    data = Dataset(network, X, y, loss, sample_weight)
    run = Training(network, data, None, 1, len(data), History(), l2)
    # Weights before biases, as in scikit-learn, so that SciPy's sums round alike.
    order = np.argsort([
        len(shape) != 2
        for _, layer in network.leaves
        for shape in layer.parameter_shapes.values()
        for _ in range(math.prod(shape))
    ], kind="stable")

    def objective(x: Doubles) -> tuple[float, Doubles]:
        network.parameters[order] = x
        value = run.loss_and_gradients().sum()
        return value, network.gradients[order].astype(np.float64)

    def call_back(intermediate_result: Any) -> None:  # SciPy goes by the name
        assert callback is not None
        callback(intermediate_result)

    options = {"maxiter": max_iter, "maxfun": max_evaluations, "gtol": tol}
    start = network.parameters.copy()
    used = network.exclusive_use("network")
    try:
        result = minimize(objective, network.parameters[order].astype(np.float64),
                          method="L-BFGS-B", jac=True, options=options,
                          callback=None if callback is None else call_back)
        network.parameters[order] = result.x
        if not np.isfinite(network.parameters).all():  # in the network's dtype
            raise FloatingPointError(
                "lbfgs diverged: its last step makes weights that are not finite. The network has "
                "the weights that it started with. Try inputs and targets scaled to a standard "
                "deviation of about 1, or fit"
            )
        return result
    finally:
        if not np.isfinite(network.parameters).all():
            network.parameters[...] = start
        used.release()
