"""Ensembles in one network: layers whose members share weights, or have weights of their own.

A value holds the columns of all members, one member's after the other's.  `Repeat` makes such a
value of one that all members have in common; `MeanOfMembers` ends with the mean.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .. import initializers
from ..kernels import checks
from ..kernels.types import Floats
from .base import Layer
from .columnwise import Columnwise

if TYPE_CHECKING:
    from ..initializers import Initializer
    from ..program import Builder, Value
    from .parameters import ArrayAttribute

__all__ = ["EnsembleDense", "MeanOfMembers", "Repeat", "Scale", "SeparateDense"]

# How factors may begin.
FACTORS = "ones", "normal", "random_signs"


def _checked_factors(name: str, value: Any) -> str:
    if not isinstance(value, str) or value not in FACTORS:
        raise ValueError(f"{name}: expected one of {', '.join(FACTORS)}, got {value!r}")
    return value


def _factors(kind: str, rng: np.random.Generator, n: int) -> Any:
    """Initial factors."""
    if kind == "normal":
        return rng.standard_normal(n)
    return 1 if kind == "ones" else rng.integers(0, 2, n) * 2 - 1


def _weights(init: str | Initializer, rng: np.random.Generator, n_in: int, n_out: int) -> Floats:
    weights = checks.data("init", initializers.get(init)(rng, n_in, n_out))
    checks.shape("init", weights, (n_in, n_out), "from the callable")
    return weights


class _OfMembers(Layer):
    """Base class of layers for several members, each with as many columns.

    The constructor's `n_inputs` and `n_outputs` are a member's columns; `n_in` and `n_out`, as of
    all layers, those of all members.
    """

    n_in: int
    n_out: int
    n_members: int

    def __init__(self, n_in: int, n_out: int, n_members: int,
                 **parameter_shapes: tuple[int, ...]) -> None:
        super().__init__(n_in, n_out, **parameter_shapes)
        vars(self)["n_members"] = n_members

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("n", "n_inputs", "n_members", "n_outputs"):
            self._refuse(name)
        super().__setattr__(name, value)


class Repeat(_OfMembers):
    """All columns once for each member: ``Z = (X, X, …)``.

    Parameters
    ----------
    n : int
        Columns of the input.
    n_members : int

    Raises
    ------
    TypeError, ValueError
        If an argument is not a positive whole number.

    See Also
    --------
    EnsembleDense : What may come next.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Sequential([fb.Repeat(2, 3)]).predict([[1, 5]])
    array([[1., 5., 1., 5., 1., 5.]], dtype=float32)
    """

    def __init__(self, n: int, n_members: int) -> None:
        n = checks.integer("n", n, 1)
        n_members = checks.integer("n_members", n_members, 1)
        super().__init__(n, n * n_members, n_members)

    @property
    def n(self) -> int:
        """Columns of the input."""
        return self.n_in

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("repeat", x, sizes={"v": self.n_out}, factor=1.0, gradient=0.0)
        return z


class MeanOfMembers(_OfMembers):
    """The mean of the members' columns: ``Z = (X₁ + X₂ + …) / n_members``.

    A network that ends with it is trained on the loss of the mean; to train members on the mean of
    their losses, use `fastbp.losses.EnsembleLoss`, and add this layer afterwards:
    ``net.layers = [*net.layers, MeanOfMembers(n, n_members)]``.

    Parameters
    ----------
    n : int
        Columns of the output, and of each member.
    n_members : int

    Raises
    ------
    TypeError, ValueError
        If an argument is not a positive whole number.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.Sequential([fb.MeanOfMembers(2, 3)]).predict([[1, 5, 2, 5, 6, 5]])
    array([[3., 5.]], dtype=float32)
    """

    def __init__(self, n: int, n_members: int) -> None:
        n = checks.integer("n", n, 1)
        n_members = checks.integer("n_members", n_members, 1)
        super().__init__(n * n_members, n, n_members)

    @property
    def n(self) -> int:
        """Columns of the output."""
        return self.n_out

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("sum_members", x, sizes={"n": self.n_out},
                              factor=1 / self.n_members, gradient=0.0)
        return z


class Scale(Columnwise):
    """Multiply each column by a factor that is trained: ``Z = X·gamma``.

    After `Repeat`, with random factors, it makes the members' inputs differ.  If the layers after
    it are shared, this alone tells the members apart, as in TabM-mini [1]_.

    Parameters
    ----------
    n : int
        Number of columns.
    init : {"ones", "normal", "random_signs"}, default "ones"
        The initial factors: 1, standard normal, or 1 and -1 at random.

    Attributes
    ----------
    gamma, dgamma : ndarray of shape (n,)
        The factors and their gradient.

    Raises
    ------
    TypeError, ValueError
        If `n` is not a positive whole number, or `init` is something else.

    References
    ----------
    .. [1] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: advancing tabular deep learning with
       parameter-efficient ensembling", ICLR 2025.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.Scale(2)])
    >>> net.layers[0].gamma = [2, 3]
    >>> net.predict([[1, 5]])
    array([[ 2., 15.]], dtype=float32)
    """

    validators = Layer.validators | {"init": _checked_factors}
    gamma: ArrayAttribute
    dgamma: ArrayAttribute

    def __init__(self, n: int, init: str = "ones") -> None:
        n = checks.integer("n", n, 1)
        super().__init__(n, gamma=(n,))
        self.init = init

    def initialize(self, rng: np.random.Generator) -> None:
        self.gamma = _factors(self.init, rng, self.n)

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("scale", x, builder.parameter(self, "gamma"), gradient=0.0)
        return z


class EnsembleDense(_OfMembers):
    """A dense layer whose weights the members share: ``Zᵢ = ((Xᵢ ⊙ rᵢ)·W) ⊙ sᵢ + bᵢ``.

    Member i has factors for its inputs and outputs, rᵢ and sᵢ, and biases bᵢ of its own: the layer
    of BatchEnsemble [1]_, of which TabM [2]_ consists.  All members together are one matrix product
    of n_members times as many rows.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of the input and the output of each member.
    n_members : int
    factors : {"ones", "normal", "random_signs"} or None, default "ones"
        The initial r: 1, standard normal, or 1 and -1 at random, which makes the members differ; it
        is for the first layer of an ensemble.  None is a layer without r and s, whose biases are
        shared too: ``Zᵢ = Xᵢ·W + b``.
    init : str or callable, default "he_uniform"
        Initial weights, as for `Dense`.  All s are initially 1 and all biases 0.

    Attributes
    ----------
    n_in, n_out : int
        Columns of all members.
    W, dW : ndarray of shape (n_inputs, n_outputs)
    r, dr : ndarray of shape (n_members·n_inputs,)
        Like s and b, one member's after the other's.
    s, ds : ndarray of shape (n_members·n_outputs,)
    b, db : ndarray of shape (n_members·n_outputs,), or (n_outputs,) where they are shared

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or `factors` or `init` is something else.

    See Also
    --------
    SeparateDense : Weights that are not shared.

    Notes
    -----
    In the gradient with respect to W a row is that of one member: the sum over rows goes through
    the members of the minibatch's first row, then those of the second, in blocks of 256.

    References
    ----------
    .. [1] Y. Wen, D. Tran, J. Ba, "BatchEnsemble: an alternative approach to efficient ensemble and
       lifelong learning", ICLR 2020.
    .. [2] Y. Gorishniy, A. Kotelnikov, A. Babenko, "TabM: advancing tabular deep learning with
       parameter-efficient ensembling", ICLR 2025.

    Examples
    --------
    Eight members with the same hidden layer, but for its factors:

    >>> import fastbp as fb
    >>> net = fb.Sequential([
    ...     fb.Repeat(4, 8), fb.EnsembleDense(4, 32, 8, "random_signs"), fb.ReLU(),
    ...     fb.SeparateDense(32, 3, 8)], seed=0)
    >>> X, y = np.eye(4)[[0, 1, 2, 3] * 9], np.array([0, 1, 1, 2] * 9)
    >>> loss = fb.EnsembleLoss(fb.SoftmaxCrossEntropy(), 8)
    >>> history = net.fit(X, y, loss=loss, epochs=50, seed=0)
    >>> net.layers = [*net.layers, fb.MeanOfMembers(3, 8)]
    >>> net.predict(np.eye(4)).argmax(axis=1)
    array([0, 1, 1, 2])
    """

    validators = Layer.validators | {
        "factors": lambda name, value: None if value is None else _checked_factors(name, value)}
    factors: str | None
    W: ArrayAttribute
    dW: ArrayAttribute
    r: ArrayAttribute
    dr: ArrayAttribute
    s: ArrayAttribute
    ds: ArrayAttribute
    b: ArrayAttribute
    db: ArrayAttribute

    def __init__(self, n_inputs: int, n_outputs: int, n_members: int,
                 factors: str | None = "ones", init: str | Initializer = "he_uniform") -> None:
        n_inputs = checks.integer("n_inputs", n_inputs, 1)
        n_outputs = checks.integer("n_outputs", n_outputs, 1)
        n_members = checks.integer("n_members", n_members, 1)
        n_in, n_out = n_inputs * n_members, n_outputs * n_members
        own: dict[str, tuple[int, ...]] = {"b": (n_outputs,)}
        if factors is not None:
            own = {"r": (n_in,), "s": (n_out,), "b": (n_out,)}
        super().__init__(n_in, n_out, n_members, W=(n_inputs, n_outputs), **own)
        initializers.get(init)
        self.factors, self.init = factors, init

    @property
    def n_inputs(self) -> int:
        """Columns of each member's input."""
        return self.n_in // self.n_members

    @property
    def n_outputs(self) -> int:
        """Columns of each member's output."""
        return self.n_out // self.n_members

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "factors" and "factors" in vars(self):
            self._refuse(name)
        super().__setattr__(name, value)

    def initialize(self, rng: np.random.Generator) -> None:
        self.W = _weights(self.init, rng, self.n_inputs, self.n_outputs)
        if self.factors is not None:
            self.r = _factors(self.factors, rng, self.n_in)
            self.s = 1
        self.b = 0

    def lower(self, builder: Builder, x: Value) -> Value:
        W, b = builder.parameter(self, "W"), builder.parameter(self, "b")
        sizes = {"v": self.n_out}
        z: Value
        if self.factors is None:
            z = builder.op("shared_dense", x, W, b, sizes=sizes)
            return z
        scaled = builder.op("scale", x, builder.parameter(self, "r"), gradient=0.0)
        product = builder.op("shared_product", scaled, W, sizes=sizes)
        z = builder.op("scale_shift", product, builder.parameter(self, "s"), b)
        return z

    def config(self) -> dict[str, Any]:
        """`Layer.config` without a callable `init`, which is no longer needed."""
        return _without_callable(super().config())


class SeparateDense(_OfMembers):
    """A dense layer for each member: ``Zᵢ = Xᵢ·Wᵢ + bᵢ``.

    Parameters
    ----------
    n_inputs, n_outputs : int
        Columns of the input and the output of each member.
    n_members : int
    init : str or callable, default "he_uniform"
        Initial weights of each member, as for `Dense`.  The biases are initially 0.

    Attributes
    ----------
    n_in, n_out : int
        Columns of all members.
    W, dW : ndarray of shape (n_members, n_inputs, n_outputs)
        The weights and their gradient.
    b, db : ndarray of shape (n_members·n_outputs,)
        The biases and their gradient, one member's after the other's.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive whole number, or `init` is not an initializer.

    See Also
    --------
    EnsembleDense : Weights that the members share.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = fb.Sequential([fb.SeparateDense(1, 1, 3)], seed=0)
    >>> net.layers[0].W = [[[1]], [[2]], [[3]]]
    >>> net.predict([[10.0, 10.0, 1.0]])
    array([[10., 20.,  3.]], dtype=float32)
    """

    W: ArrayAttribute
    dW: ArrayAttribute
    b: ArrayAttribute
    db: ArrayAttribute

    def __init__(self, n_inputs: int, n_outputs: int, n_members: int,
                 init: str | Initializer = "he_uniform") -> None:
        n_inputs = checks.integer("n_inputs", n_inputs, 1)
        n_outputs = checks.integer("n_outputs", n_outputs, 1)
        n_members = checks.integer("n_members", n_members, 1)
        super().__init__(n_inputs * n_members, n_outputs * n_members, n_members,
                         W=(n_members, n_inputs, n_outputs), b=(n_members * n_outputs,))
        initializers.get(init)
        self.init = init

    @property
    def n_inputs(self) -> int:
        """Columns of each member's input."""
        return self.n_in // self.n_members

    @property
    def n_outputs(self) -> int:
        """Columns of each member's output."""
        return self.n_out // self.n_members

    def initialize(self, rng: np.random.Generator) -> None:
        self.W = [_weights(self.init, rng, self.n_inputs, self.n_outputs)
                  for _ in range(self.n_members)]
        self.b = 0

    def lower(self, builder: Builder, x: Value) -> Value:
        z: Value = builder.op("separate_dense", x, builder.parameter(self, "W"),
                              builder.parameter(self, "b"))
        return z

    def config(self) -> dict[str, Any]:
        """`Layer.config` without a callable `init`, which is no longer needed."""
        return _without_callable(super().config())


def _without_callable(config: dict[str, Any]) -> dict[str, Any]:
    if callable(config["init"]):
        del config["init"]
    return config
