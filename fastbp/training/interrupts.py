"""Ctrl-C during a training.
"""

import signal
import threading

__all__ = ["DeferInterrupt"]

class DeferInterrupt:
    """Holds Ctrl-C back while parameters are being written, for the with statement.

    Anywhere else it is answered at once: what an unfinished step has computed is scratch.
    Only the main thread can receive signals, so elsewhere this does nothing.  A handler that
    a callback installs is answered in the same way from the next epoch on, and stays.
    """

    def __init__(self):
        self.writing = False
        self.pending = None  # a handler and its arguments
        self.handler = self.stand_in = None  # the caller's, and what is installed instead

    def __enter__(self):
        self.install()
        return self

    def install(self):
        """Stand in for the handler that there is now, unless that is done."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or handler is self.stand_in:
            return

        # A function for each handler: a later handler may call the one that it found.
        def stand_in(signum, frame):
            if self.writing:
                self.pending = handler, signum, frame
            else:
                handler(signum, frame)

        self.handler, self.stand_in = handler, stand_in
        signal.signal(signal.SIGINT, stand_in)

    def __exit__(self, *error):
        self.writing = False
        if self.stand_in is not None and signal.getsignal(signal.SIGINT) is self.stand_in:
            signal.signal(signal.SIGINT, self.handler)

    def call(self, function, *arguments):
        """Call a function that writes parameters, then answer what came meanwhile."""
        self.writing = True
        try:
            function(*arguments)
        finally:
            self.writing = False
        if self.pending is not None:
            (handler, *arguments), self.pending = self.pending, None
            handler(*arguments)
