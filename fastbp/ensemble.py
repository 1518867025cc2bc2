"""Several networks that predict together, and which of many to take."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from . import io, kernels, losses
from .export.methods import Exportable
from .kernels import checks, threads
from .kernels.types import Array, Doubles, Floats
from .layers import Layer
from .network import Sequential
from .training import Dataset, batch_weight

__all__ = ["Ensemble", "greedy_ensemble"]


def _logit(P: Floats) -> Floats:
    kind = np.finfo(P.dtype)
    P = np.clip(P, kind.tiny, 1 - kind.epsneg)
    return kernels.log(P) - kernels.log(1 - P)


# The scores that lead to an activation's outputs, for losses that have it built in.
INVERSES: dict[str | None, Callable[[Floats], Floats]] = {
    None: lambda P: P, "softmax": kernels.log, "sigmoid": _logit, "exp": kernels.log,
}

# Multiply-adds of a prediction, about, for which another thread is started: some 50 microseconds.
WORK_OF_A_THREAD = 2**22


class Ensemble(Exportable):
    """Networks that predict together: the weighted mean of what each predicts.

    Parameters
    ----------
    networks : sequence of Sequential
        Of the same number of inputs and of outputs.
    weights : array_like of shape (networks,), optional
        What each counts; divided by their sum.  By default all count the same.
    activation : {"softmax", "sigmoid", "exp"}, optional
        Function applied to each network's outputs before the mean is taken: with softmax, for
        example, it is probabilities that are averaged, and not scores.

    Attributes
    ----------
    networks : tuple of Sequential
    weights : ndarray of shape (networks,), float64
        Their sum is 1.
    activation : str or None

    Raises
    ------
    TypeError, ValueError
        If there is no network, they do not fit together, a weight is negative or not finite, or
        all are 0.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(300, 2))
    >>> y = (X[:, 0] * X[:, 1] > 0).astype(int)
    >>> networks = [fb.mlp([2, 16, 2], seed=seed) for seed in range(5)]
    >>> histories = fb.fit_many(networks, X, y, loss=fb.SoftmaxCrossEntropy(), epochs=30,
    ...                         optimizers=fb.Adam(0.01), seeds=0)
    >>> ensemble = fb.Ensemble(networks, activation="softmax")
    >>> ensemble.predict(X).shape
    (300, 2)
    >>> ensemble.evaluate(X, y, loss=fb.SoftmaxCrossEntropy())["accuracy"] > 0.9
    True
    """

    def __init__(self, networks: Sequence[Sequential], weights: ArrayLike | None = None,
                 activation: str | None = None) -> None:
        self.networks = _checked_networks(networks)
        self.weights = _checked_weights(weights, len(self.networks))
        if activation not in INVERSES:
            raise ValueError(f'activation: expected None, "softmax", "sigmoid" or "exp", got '
                             f'{activation!r}')
        self.activation = activation

    @property
    def n_in(self) -> int | None:
        """Columns of the input; None if no network fixes them."""
        return next((net.n_in for net in self.networks if net.n_in is not None), None)

    @property
    def n_out(self) -> int | None:
        """Columns of the output; None if no network fixes them."""
        return next((net.n_out for net in self.networks if net.n_out is not None), None)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the predictions: that of the networks, or the wider one of both."""
        return np.result_type(*(network.dtype for network in self.networks))

    def predict(self, X: ArrayLike, *, n_threads: int | None = None) -> Floats:
        """The weighted mean of the networks' predictions.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
            As for `Sequential.predict`.
        n_threads : int, optional
            Largest number of threads, instead of the one set by `set_num_threads`.  The result does
            not depend on it.

        Returns
        -------
        ndarray of shape (rows, n_out)
            The sums are formed in float64, in the order of the networks.

        Raises
        ------
        TypeError, ValueError
            If X does not fit the networks.
        """
        if not checks.is_sparse(X):
            X = checks.real_numbers("X", X)  # once for all networks
        with threads.using(n_threads):
            parts = self._parts(X)
            if len(parts) == 1:
                return self._mean(X)
            try:
                return self._means(parts)
            except (TypeError, ValueError):
                return self._mean(X)  # whose message counts the rows from the first of X

    def _parts(self, X: Any) -> list[Any]:
        """The rows of each thread.

        One that predicts its rows with all networks waits for the others once; with a network's
        own threads it would be once for each.
        """
        if not isinstance(X, np.ndarray) or X.ndim != 2:
            return [X]
        work = len(X) * sum(network.parameters.size for network in self.networks)
        n = min(threads.get_num_threads(), len(X), work // WORK_OF_A_THREAD)
        return np.array_split(X, n) if n > 1 else [X]

    def _means(self, parts: list[Any]) -> Floats:
        def one_thread(rows: Any) -> Floats:
            with threads.using(1):
                return self._mean(rows)

        first, *others = parts
        with ThreadPoolExecutor(len(others), "fastbp") as pool:
            rest = pool.map(one_thread, others)
            return np.concatenate([one_thread(first), *rest])

    def _mean(self, X: Any) -> Floats:
        total: Doubles | None = None
        for network, weight in zip(self.networks, self.weights, strict=True):
            Z = weight * network.outputs(X, activation=self.activation).astype(np.float64)
            total = Z if total is None else total + Z
        assert total is not None
        return total.astype(self.dtype)

    def evaluate(self, X: ArrayLike, y: ArrayLike, *, loss: losses.Loss,
                 sample_weight: ArrayLike | None = None,
                 n_threads: int | None = None) -> dict[str, float]:
        """The loss and its metric on data.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
        y : array_like
            Targets, as `loss` takes them.
        loss : Loss
            One that has the activation built in, such as `SoftmaxCrossEntropy` for softmax, is
            given the scores that lead to the mean of the activations.
        sample_weight : array_like of shape (rows,), optional
        n_threads : int, optional

        Returns
        -------
        dict of str to float
            ``"loss"``, and the metric by its name.

        Raises
        ------
        TypeError, ValueError
            As `Sequential.evaluate`.
        """
        data = Dataset(self.networks[0], X, y, loss, sample_weight)
        Z = INVERSES[self.activation](self.predict(data.X, n_threads=n_threads))
        y, weights = data.targets_of(slice(None))
        value, _ = losses.compute_loss(loss, Z.astype(data.dtype), y, weights)
        scores = {"loss": value if batch_weight(weights, len(data)) > 0 else math.nan}
        metric = data.new_metric()
        if metric is not None:
            metric.update(Z.astype(data.dtype), y, weights)
            scores[metric.name] = metric.result()
        return scores

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write all networks to one safetensors file, which `Ensemble.load` reads.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError, ValueError, OSError
            As `Sequential.save`.
        """
        io.write_ensemble(path, [(network.layers, network.dtype, network.precision)
                                 for network in self.networks],
                          {"weights": self.weights.tolist(), "activation": self.activation})

    @classmethod
    def load(cls, path: str | os.PathLike[str],
             layer_types: Iterable[type[Layer]] = ()) -> Ensemble:
        """Read an ensemble from a file that `save` wrote.

        Nothing in the file is executed.

        Parameters
        ----------
        path : str or path-like
        layer_types : iterable of type, optional
            Your own layer classes that the networks were made with.

        Returns
        -------
        Ensemble

        Raises
        ------
        FileNotFoundError, TypeError, ValueError
            As `load`.
        """
        read, settings = io.read_ensemble(path, layer_types)
        if "estimator" in settings:
            raise ValueError(f"path: {os.fspath(path)!r} holds an estimator; read it with "
                             f"fastbp.estimators.load_model")
        try:
            return cls([Sequential(layers, dtype, precision=precision)
                        for layers, dtype, precision in read], **settings)
        except (TypeError, ValueError) as error:
            raise io.damaged(path, error) from None

    def __len__(self) -> int:
        return len(self.networks)

    def __repr__(self) -> str:
        return (f"Ensemble({len(self)} networks, n_in={self.n_in}, n_out={self.n_out}, "
                f"activation={self.activation!r})")


def _checked_networks(networks: Any) -> tuple[Sequential, ...]:
    if isinstance(networks, Sequential) or not isinstance(networks, Iterable):
        raise TypeError(f"networks: expected a list of networks, got a {type(networks).__name__}")
    checked = tuple(networks)
    for i, network in enumerate(checked):
        if not isinstance(network, Sequential):
            raise TypeError(f"networks[{i}]: expected a Sequential, got {network!r}")
        for name in ("n_in", "n_out"):
            own, first = getattr(network, name), getattr(checked[0], name)
            if None not in (own, first) and own != first:
                raise ValueError(f"networks[{i}]: expected {name}={first} like networks[0], got "
                                 f"{own}")
    if not checked:
        raise ValueError("networks: expected at least one network, got none")
    return checked


def _checked_weights(weights: ArrayLike | None, n: int) -> Doubles:
    if weights is None:
        return np.full(n, 1 / n)
    checked: Doubles = np.asarray(checks.real_numbers("weights", weights), np.float64)
    checks.shape("weights", checked, (n,), "one for each network")
    checks.finite("weights", checked)
    if (checked < 0).any() or not (checked > 0).any():
        raise ValueError(f"weights: expected numbers of at least 0, and one above, got {weights}")
    scaled = checked / checked.max()  # whose sum does not overflow
    # A cumulative sum adds in order; NumPy's sum does not.
    normalized: Doubles = scaled / np.cumsum(scaled)[-1]
    return normalized


def greedy_ensemble(predictions: ArrayLike, y: Any, metric: Callable[[Any, Array], float],
                    max_size: int | None = None, *, start: Sequence[int] = ()) -> list[int]:
    """Choose members of an ensemble whose mean prediction has the best score.

    Starting with the best one, or with those that are given, the member that improves the score of
    the mean most is added, as long as one does; each at most once.

    Parameters
    ----------
    predictions : array_like of shape (members, rows) or (members, rows, outputs)
        Of each member, best on rows that it was not trained on.
    y : object
        Targets, which are passed to `metric`.
    metric : callable
        ``metric(y, mean)``, the score of predictions; the higher the better.
    max_size : int, optional
        Most members to choose; by default there may be any number.
    start : sequence of int
        Members that are chosen in any case.  With few rows, where the best score is often a matter
        of luck, begin with the best few, for example.

    Returns
    -------
    list of int
        The chosen members, in the order in which they were chosen.  Of equal ones the first is
        taken; one whose score is NaN never is, unless all are.

    Raises
    ------
    TypeError, ValueError
        If `predictions` is not an array of numbers with at least one member, `metric` does not
        return numbers, or `start` has other members, one twice, or more than `max_size`.

    References
    ----------
    R. Caruana, A. Niculescu-Mizil, G. Crew, A. Ksikes, "Ensemble selection from libraries of
    models", ICML 2004; here without replacement.

    Examples
    --------
    >>> import numpy as np, fastbp as fb
    >>> y = np.array([1.0, 2.0, 3.0])
    >>> predictions = [y + 1, y + 5, y - 0.8]
    >>> fb.greedy_ensemble(predictions, y, lambda y, mean: -np.mean((y - mean) ** 2))
    [2, 0]
    """
    members = checks.real_numbers("predictions", predictions)
    if members.ndim < 2 or len(members) == 0:
        raise ValueError(f"predictions: expected shape (members, rows) or (members, rows, "
                         f"outputs) with at least one member, got {members.shape}")
    most = len(members) if max_size is None else checks.integer("max_size", max_size, 1)
    if not isinstance(start, Iterable):
        raise TypeError(f"start: expected a sequence of int, such as (0, 2), got {start!r}")
    chosen = [checks.integer("start", i, 0) for i in start]
    if max(chosen, default=0) >= len(members):
        raise ValueError(f"start: expected members from 0 to {len(members) - 1}, got {chosen}")
    if len(set(chosen)) < len(chosen) or len(chosen) > most:
        raise ValueError(f"start: expected at most {min(most, len(members))} different members of "
                         f"{len(members)}, got {chosen}")
    total = np.zeros(members.shape[1:])
    for i in chosen:
        total += members[i]
    best = _score(metric, y, total / len(chosen)) if chosen else -math.inf
    while len(chosen) < min(most, len(members)):
        left = [i for i in range(len(members)) if i not in chosen]
        scores = [_score(metric, y, (total + members[i]) / (len(chosen) + 1)) for i in left]
        place = max(range(len(left)), key=scores.__getitem__)
        if chosen and not scores[place] > best:
            break
        best = scores[place]
        chosen.append(left[place])
        total += members[left[place]]
    return chosen


def _score(metric: Callable[[Any, Array], float], y: Any, mean: Array) -> float:
    score = metric(y, mean)
    try:
        score = float(score)
    except (TypeError, ValueError):
        raise TypeError(f"metric: expected it to return a number, got {score!r}") from None
    return -math.inf if math.isnan(score) else score
