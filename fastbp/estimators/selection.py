"""The choice of an ensemble while its members are trained."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import plot
from ..ensemble import greedy_ensemble
from ..kernels.types import Doubles, Floats
from .scores import Score

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from ..network import Sequential
    from ..training import Training

__all__ = ["PackHistory", "Selection", "Snapshot"]


# Validation rows over members that an ensemble begins with: two of 500 rows, four of 250.
ENOUGH_ROWS = 1000


class Snapshot(NamedTuple):
    """A member after one of its epochs.

    Attributes
    ----------
    member, epoch : int
    state : ndarray
        As `Sequential.get_state` returns it.
    reduced : ndarray
        Its predictions on the validation rows, as the score takes them.
    score : float
    """

    member: int
    epoch: int
    state: Floats
    reduced: Doubles
    score: float


class Selection:
    """Chooses an ensemble after each epoch of `fit_many`, and ends trainings that are done.

    A member ends after more than `patience` epochs in which its score on the validation rows has
    not improved.  The ensemble is chosen greedily among

    - the snapshots of the last ensemble,
    - the best snapshot of each member that has ended, and
    - the other members as they are now,

    and replaces the last one if it is better.  Where validation rows are few, it begins with the
    best snapshots of several members: the fewer rows, the more often a single one is the best by
    luck.  All members end after more than `ensemble_patience`
    epochs in which it has not improved.

    Parameters
    ----------
    predict : callable
        Returns a network's predictions on the validation rows, of shape (rows, outputs).
    score : Score
    patience, ensemble_patience : int
    max_size : int
        The largest number of snapshots.
    deadline : float
        All end after the first epoch that ends later than this, by `time.monotonic`.

    Attributes
    ----------
    chosen : list of Snapshot
        In the order in which they were chosen.
    best_score : float
    member_scores : list of list of float
        Of each member, after each of its epochs.
    ensemble_scores : list of float
        After each epoch.

    References
    ----------
    Y. Gorishniy et al., "TabPack", arXiv 2607.05380: online ensembling.  R. Caruana et al.,
    "Ensemble selection from libraries of models", ICML 2004: beginning with the best ones.
    """

    def __init__(self, predict: Callable[[Sequential], Floats], score: Score, *, n_members: int,
                 patience: int, ensemble_patience: int, max_size: int,
                 deadline: float = np.inf) -> None:
        self.predict, self.score = predict, score
        self.patience, self.ensemble_patience = patience, ensemble_patience
        self.max_size, self.deadline = max_size, deadline
        self.chosen: list[Snapshot] = []
        self.best_score = -np.inf
        self.member_scores: list[list[float]] = [[] for _ in range(n_members)]
        self.ensemble_scores: list[float] = []
        self._best: list[Snapshot | None] = [None] * n_members
        self._last_improvement = 0

    def __call__(self, trainings: list[Training]) -> None:
        """After an epoch: score the members, choose, and end trainings."""
        now: list[Snapshot] = []
        for member, training in enumerate(trainings):
            if len(training.history["loss"]) == len(self.member_scores[member]):
                continue  # it has ended before
            latest = self._snapshot(member, training)
            self.member_scores[member].append(latest.score)
            best = self._best[member]
            if best is None or latest.score > best.score or math.isnan(best.score):
                self._best[member] = best = latest
            if latest.epoch - best.epoch > self.patience:
                training.stop(f"no better on the validation rows for {self.patience} epochs")
            if not training.stopping and training.epoch + 1 < training.epochs:
                now.append(latest)
        self._choose(now)
        epoch = len(self.ensemble_scores) - 1
        if epoch - self._last_improvement > self.ensemble_patience:
            self._stop(trainings, f"the ensemble is no better for {self.ensemble_patience} epochs")
        elif time.monotonic() > self.deadline:
            self._stop(trainings, "the time limit was reached")

    def _snapshot(self, member: int, training: Training) -> Snapshot:
        reduced = self.score.reduced(self.predict(training.network))
        return Snapshot(member, training.epoch, training.network.get_state(), reduced,
                        self.score(reduced))

    def _choose(self, now: list[Snapshot]) -> None:
        running = {snapshot.member for snapshot in now}
        ended = [best for best in self._best if best is not None and best.member not in running]
        pool = {(each.member, each.epoch): each for each in [*self.chosen, *ended, *now]}
        candidates = list(pool.values())
        if candidates:
            places = greedy_ensemble(np.stack([each.reduced for each in candidates]), None,
                                     lambda _, mean: self.score(mean), self.max_size,
                                     start=self._start(candidates))
            found = [candidates[place] for place in places]
            score = self.score(np.mean([each.reduced for each in found], axis=0))
            if score > self.best_score:
                self.chosen, self.best_score = found, score
                self._last_improvement = len(self.ensemble_scores)
        self.ensemble_scores.append(self.best_score)

    def _start(self, candidates: list[Snapshot]) -> list[int]:
        """The candidates that the ensemble begins with, the best of different members."""
        n_members = len(self._best)
        least = min(n_members // 4, ENOUGH_ROWS // len(candidates[0].reduced), self.max_size)
        if least < 2:
            return []  # the best one is enough
        scored = [place for place, each in enumerate(candidates) if not math.isnan(each.score)]
        best: dict[int, int] = {}
        for place in sorted(scored, key=lambda place: -candidates[place].score):
            best.setdefault(candidates[place].member, place)
        return list(best.values())[:least]

    def _stop(self, trainings: list[Training], reason: str) -> None:
        for training in trainings:
            if not training.stopping and training.epoch + 1 < training.epochs:
                training.stop(reason)


class PackHistory:
    """How an ensemble came about.

    Attributes
    ----------
    members : list of dict
        The hyperparameters of each member.
    metric : str
        What the scores are, in words, such as "negative log loss"; higher is better.
    member_scores : list of list of float
        Of each member, its score on the validation rows after each of its epochs.
    ensemble_scores : list of float
        The best score of an ensemble so far, after each epoch.
    chosen : list of tuple (int, int)
        The members of the ensemble and the epochs, from 0, after which they were taken.
    """

    def __init__(self, selection: Selection, members: list[dict[str, float]]) -> None:
        self.members, self.metric = members, selection.score.name
        self.member_scores = selection.member_scores
        self.ensemble_scores = selection.ensemble_scores
        self.chosen = [(each.member, each.epoch) for each in selection.chosen]

    def plot(self, ax: Axes | None = None) -> Figure:
        """The picture of `fastbp.plot.ensemble_selection`."""
        return plot.ensemble_selection(self, ax)
