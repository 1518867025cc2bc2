"""The members of a TabPack: their hyperparameters, networks and optimizers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..layers import Dense, Dropout, Layer, PeriodicEmbedding, ReLU
from ..network import Sequential
from ..optimizers import Group, Muon
from .tables import embeddings, most_per_number

if TYPE_CHECKING:
    from ..kernels.types import Doubles
    from ..optimizers import Optimizer
    from .table_encoder import TableEncoder

__all__ = ["Draw", "default_batch_size"]


class Draw(NamedTuple):
    """A member's hyperparameters, drawn at random."""

    n_blocks: int
    n_per_feature: int
    dropout: float
    scale: float
    learning_rate: float
    muon_learning_rate: float
    weight_decay: float
    seed: int

    @classmethod
    def from_generator(cls, rng: np.random.Generator) -> Draw:
        """The hyperparameters of the next member."""

        def log_uniform(low: float, high: float) -> float:
            return float(np.exp(rng.uniform(np.log(low), np.log(high))))

        return cls(
            n_blocks=int(rng.integers(1, 4)), n_per_feature=4 * int(rng.integers(2, 9)),
            dropout=float(rng.integers(2) * rng.uniform(0, 0.3)), scale=log_uniform(0.5, 8),
            learning_rate=log_uniform(5e-4, 5e-3), muon_learning_rate=log_uniform(1.5e-3, 0.03),
            weight_decay=log_uniform(5e-3, 0.3), seed=int(rng.integers(2**31)))

    def network(self, encoder: TableEncoder, width: int, n_out: int,
                precision: str) -> Sequential:
        """An untrained network for an encoded table."""
        n_numeric = encoder.n_numeric_
        n_per_feature = min(self.n_per_feature, most_per_number(encoder))
        first = embeddings(encoder, PeriodicEmbedding(
            n_numeric, n_per_feature, self.scale, trainable=False, random_phases=True,
        ) if n_numeric else None, _small)
        stack: list[Layer] = [first]
        n = first.n_out
        for _ in range(self.n_blocks):
            stack += [Dense(n, width, _uniform), ReLU()]
            if self.dropout:
                stack.append(Dropout(self.dropout))
            n = width
        network = Sequential([*stack, Dense(n, n_out, _uniform)], seed=self.seed,
                             precision=precision)
        rng = np.random.default_rng(self.seed)
        for _, layer in network.leaves:
            if isinstance(layer, Dense):
                layer.b = _uniform(rng, layer.n_in, layer.n_out)[0]
        return network

    def optimizer(self) -> Optimizer:
        """Muon for the hidden layers and AdamW for all else."""
        return Muon(self.muon_learning_rate, weight_decay=self.weight_decay,
                    adam_learning_rate=self.learning_rate,
                    groups=[Group(_is_shift, weight_decay=0)])


def default_batch_size(n_rows: int) -> int:
    """Rows of a minibatch: a 32nd of all, but 16 to 256, and 512 of more than 50,000.

    Examples
    --------
    >>> [default_batch_size(n) for n in (100, 1000, 5000, 50_000, 500_000)]
    [16, 32, 128, 256, 512]
    """
    if n_rows > 50_000:
        return 512
    return int(min(256, max(16, 2 ** round(math.log2(n_rows / 32)))))


def _uniform(rng: np.random.Generator, n_in: int, n_out: int) -> Doubles:
    bound = n_in**-0.5
    return rng.uniform(-bound, bound, (n_in, n_out))


def _small(rng: np.random.Generator, n_codes: int, n_out: int) -> Doubles:
    return rng.normal(scale=0.1, size=(n_codes, n_out))


def _is_shift(layer: Layer, name: str) -> bool:
    return name in ("b", "beta")
