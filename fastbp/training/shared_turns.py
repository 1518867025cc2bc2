"""What processes that share minibatches send to each other within a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from ..kernels.types import Floats
from .distributed import BLOCK, Processes, import_mpi
from .own_rows import OwnRows
from .turns import Turns

if TYPE_CHECKING:
    from .run import Training

__all__ = ["GradientSum", "SharedTurns"]

# Messages of sums that are not finished, and of those that are.
PART, WHOLE = 1, 2


class SharedTurns(Turns):
    """What processes send to each other in a step, besides what Python does for each.

    Parameters
    ----------
    run : Training
    processes : Processes
    """

    def __init__(self, run: Training, processes: Processes) -> None:
        super().__init__(run)
        self._processes = processes
        self._in_place = import_mpi().IN_PLACE
        self._sum: GradientSum | None = None
        self._last = 0  # the last process that has rows of the minibatch

    def gather(self, step: int) -> Floats:
        """This process's rows of X."""
        data, order = self._data_and_order(step)
        shares = self._processes.shares(len(order))
        if isinstance(data, OwnRows):
            return data.share_of(order, shares)
        first, stop = shares[self._processes.rank]
        return data.inputs(order[first:stop])

    def refuse(self, step: int) -> NoReturn:
        """Raise the error for data that became invalid after they were checked."""
        raise ValueError("X, y: expected data that stay as they were when they were checked")

    def share_outputs(self, step: int, Z: Floats) -> None:
        """Gather the outputs of the whole minibatch in all processes.

        Parameters
        ----------
        step : int
        Z : ndarray of shape (rows, n_out)
            Of which this process has computed its share; written to.
        """
        processes = self._processes
        processes.agree()
        shares = processes.shares(len(Z))
        sizes = [(stop - first) * Z.shape[1] for first, stop in shares]
        processes.communicator.Allgatherv(self._in_place, [Z, sizes])
        self._find_last(len(Z))
        processes.adding_up = True

    def compute_loss(self, step: int, Z: Floats) -> tuple[float, Floats]:
        """The loss, and its gradient with respect to Z; or the error of another process's."""
        processes = self._processes
        processes.adding_up = False
        found = super().compute_loss(step, Z)
        processes.agree(on="the gradients of a step")
        processes.adding_up = True
        return found

    def _find_last(self, rows: int) -> None:
        self._last = min(-(-rows // BLOCK), self._processes.size) - 1

    def begin_sum(self, array: Floats, rows: int) -> None:
        """Receive a sum over the rows of a minibatch that come before this process's."""
        processes = self._processes
        if not processes.adding_up:
            processes.agree()
            processes.adding_up = True
        self._find_last(rows)
        if 0 < processes.rank <= self._last:
            processes.communicator.Recv(array, processes.rank - 1, PART)

    def end_sum(self, array: Floats) -> None:
        """Send a sum on, to the next process or, from the last, to all."""
        processes = self._processes
        if processes.rank < self._last:
            processes.communicator.Send(array, processes.rank + 1, PART)
        processes.communicator.Bcast(array, self._last)

    def share_gradients(self, segments: list[list[tuple[int, int]]], i: int) -> None:
        """Receive segment i of the gradients, and send the one before it.

        Parameters
        ----------
        segments : list of list of tuple of int
            Where the ranges of each segment start and stop in the flat gradients.
        i : int
            Their number, after the last.
        """
        gradients = self._run.network.gradients
        if self._sum is None or self._sum.segments is not segments:
            self._sum = GradientSum(self._processes, gradients, segments)
        self._sum.advance(i, self._last)
        self._processes.adding_up = i < len(segments)


class GradientSum:
    """The sum of the gradients over all processes, a segment at a time.

    A segment goes from the first process, each of which adds the blocks of its rows, to the last
    that has rows.  From there the whole sum goes on, past the first process again, to all others.
    So each process sends and receives each segment twice, or once.

    Parameters
    ----------
    processes : Processes
    gradients : ndarray of shape (n,)
    segments : list of list of tuple of int
        Where the ranges of each segment start and stop.
    """

    def __init__(self, processes: Processes, gradients: Floats,
                 segments: list[list[tuple[int, int]]]) -> None:
        self.segments = segments
        self._communicator = processes.communicator
        self._rank, self._size = processes.rank, processes.size
        self._wait_all = import_mpi().Request.Waitall
        self._test_all = import_mpi().Request.Testall
        self._views = [[gradients[start:stop] for start, stop in ranges] for ranges in segments]

    def advance(self, i: int, last: int) -> None:
        """Send segment i - 1, to which this process has added its rows, and receive segment i.

        Parameters
        ----------
        i : int
        last : int
            The last process that has rows of the minibatch.
        """
        if i == 0:
            self._sent: list[list[Any]] = []  # requests, by segment
            self._passed_on: list[Any] = []
            self._arriving: list[Any] | None = None
            self._arrived = 0  # segments that are whole
        elif self._rank <= last:
            self._sent.append(self._send(i - 1, WHOLE if self._rank == last else PART))
        if i < len(self._views) and 0 < self._rank <= last:
            for view in self._views[i]:
                self._communicator.Recv(view, self._rank - 1, PART)
        if self._rank != last:
            self._receive(last, wait=i == len(self._views))
        if i == len(self._views):
            self._wait_all([*self._passed_on, *(each for sent in self._sent for each in sent)])

    def _send(self, i: int, tag: int) -> list[Any]:
        return [self._communicator.Isend(view, (self._rank + 1) % self._size, tag)
                for view in self._views[i]]

    def _receive(self, last: int, wait: bool) -> None:
        """Receive whole segments, those that have arrived or all, and pass them on."""
        while self._arrived < len(self._views):
            i = self._arrived
            if self._arriving is None:
                if self._rank < last and not (
                        i < len(self._sent) and self._is_done(self._sent[i], wait)):
                    return  # its memory is not free yet
                self._arriving = [
                    self._communicator.Irecv(view, (self._rank - 1) % self._size, WHOLE)
                    for view in self._views[i]]
            if not self._is_done(self._arriving, wait):
                return
            self._arriving, self._arrived = None, i + 1
            if (self._rank + 1) % self._size != last:
                self._passed_on += self._send(i, WHOLE)

    def _is_done(self, requests: list[Any], wait: bool) -> bool:
        if wait:
            self._wait_all(requests)
            return True
        return bool(self._test_all(requests))
