"""Ctrl-C during training."""

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

__all__ = ["DeferInterrupt"]


class DeferInterrupt:
    """A context manager that defers Ctrl-C while parameters are being written.

    At other times it is handled at once, since an unfinished step has not changed the parameters.
    What is still deferred at the end is handled there.
    Only the main thread receives signals, so in other threads this does nothing.  A handler that a
    callback installs is deferred in the same way from the next epoch on, and kept.

    Parameters
    ----------
    until_asked : bool, default False
        Whether it is deferred at all times, and handled by `raised` alone.
    """

    def __init__(self, until_asked: bool = False) -> None:
        self.writing, self.until_asked = False, until_asked
        self.pending: tuple[Any, ...] | None = None  # a handler and its arguments
        # The caller's handler, and the one that is installed instead.
        self.handler: Callable[[int, FrameType | None], Any] | None = None
        self.stand_in: Callable[[int, FrameType | None], None] | None = None

    def __enter__(self) -> "DeferInterrupt":
        self.install()
        return self

    def install(self) -> None:
        """Replace the current handler, unless that is done already."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or handler is self.stand_in:
            return

        # A function for each handler: a later handler may call the one that it found.
        def stand_in(signum: int, frame: FrameType | None) -> None:
            if self.writing or self.until_asked:
                self.pending = handler, signum, frame
            else:
                handler(signum, frame)

        self.handler, self.stand_in = handler, stand_in
        signal.signal(signal.SIGINT, stand_in)

    def __exit__(self, *error: object) -> None:
        self.writing = False
        if self.stand_in is not None and signal.getsignal(signal.SIGINT) is self.stand_in:
            signal.signal(signal.SIGINT, self.handler)
        self._handle()

    def call(self, function: Callable[..., None], *arguments: Any) -> None:
        """Call a function that writes parameters, then handle a signal that came meanwhile."""
        self.writing = True
        try:
            function(*arguments)
        finally:
            self.writing = False
        self.handle()

    def handle(self) -> None:
        """Handle a signal that came during a `call`; within one, at a point where it may."""
        if not self.until_asked:
            self._handle()

    def _handle(self) -> None:
        if self.pending is not None:
            (handler, *of_signal), self.pending = self.pending, None
            handler(*of_signal)

    def raised(self) -> BaseException | None:
        """Handle a signal that came meanwhile, and return what its handler raised."""
        try:
            self._handle()
        except BaseException as error:
            return error
        return None
