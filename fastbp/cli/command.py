"""The command: a run from its arguments to its exit status."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING

from ..kernels import dispatch, threads
from ..messages import counted
from ..training import together, world
from ..version import __version__
from .digits import train_on_digits
from .options import parse
from .prediction import predict_rows
from .subcommands import SUBCOMMANDS, run_subcommand
from .table import train_on_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .options import Options

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit status: 0 done, 1 the training diverged, 2 bad options or data or too little
        memory, 130 interrupted, 141 broken pipe.

    Examples
    --------
    >>> main(["--version"])  # doctest: +SKIP
    fastbp 0.2.0
    0
    """
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):  # the terminal may be limited to ASCII
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(argv)
        print(end="", flush=True)
    except BrokenPipeError:  # the reader has gone, as with `| head`
        # Otherwise Python would fail once more at exit, when it flushes the buffer.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _run(argv: Sequence[str] | None) -> int:
    """What `main` does, apart from the streams it prints to."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    with contextlib.ExitStack() as streams:
        try:
            communicator = world()
            if communicator is not None and communicator.rank > 0:  # the first process prints
                nowhere = streams.enter_context(open(os.devnull, "w"))
                streams.enter_context(contextlib.redirect_stdout(nowhere))
                streams.enter_context(contextlib.redirect_stderr(nowhere))
            if arguments and arguments[0] in SUBCOMMANDS:
                if communicator is None or communicator.rank == 0:
                    run_subcommand(arguments)
                return 0
            with together(communicator) as processes:
                options = parse(arguments)
                options.processes = processes
                _carry_out(options)
        except SystemExit as done:  # --help and --version
            return int(done.code or 0)
        except KeyboardInterrupt:
            return _fail(130, "stopped by Ctrl-C")
        except FloatingPointError as error:
            return _fail(1, error)
        except BrokenPipeError:
            raise
        except OSError as error:
            reason = error.strerror or error
            return _fail(2, f"{error.filename}: {reason}" if error.filename else reason)
        except (MemoryError, OverflowError) as error:
            return _fail(2, f"too little memory: {error or 'none is left'}; choose a smaller "
                            f"--hidden, --batch-size or --members")
        except (ValueError, ImportError) as error:
            return _fail(2, error)
    return 0


def _carry_out(options: Options) -> None:
    """What the options ask for."""
    several = "" if options.processes is None else f", {options.processes.size} processes"
    options.say(f"fastbp    {__version__}, {dispatch.isa()} instructions, "
                f"{counted(threads.get_num_threads(), 'thread')}, float32{several}")
    if options.predict is not None:
        if options.is_first:
            predict_rows(options, options.predict)
    elif options.data is None:
        train_on_digits(options)
    else:
        train_on_table(options, options.data)


def _fail(status: int, message: object) -> int:
    """Print a message in one line; the exit status."""
    print("fastbp:", *str(message).split(), file=sys.stderr)
    return status
