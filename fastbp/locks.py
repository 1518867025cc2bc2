"""One training at a time for each network, optimizer and callback with a state."""

import os
import threading
from typing import Any

__all__ = ["Exclusive"]


class Exclusive:
    """Base class of what serves one training at a time: networks, optimizers, some callbacks."""

    def __getstate__(self) -> dict[str, Any]:
        """All attributes but the lock, which cannot be copied."""
        return {name: value for name, value in vars(self).items() if name != "_training_lock"}

    def exclusive_use(self, what: str, remedy: str | None = None) -> threading.Lock:
        """Acquire this object's lock.

        Nothing may come between the call and the try statement that releases it in the end.

        Parameters
        ----------
        what : str
            What the object is, for the message.
        remedy : str, optional
            For the message, where it is not the use of a copy.

        Returns
        -------
        threading.Lock

        Raises
        ------
        RuntimeError
            If another `fit` is using the object.
        MemoryError
            If there is no memory for a lock.
        """
        try:
            mine = os.getpid(), threading.Lock()
        except RuntimeError as error:  # "can't allocate lock"
            raise MemoryError(str(error)) from None
        owner: int
        lock: threading.Lock
        owner, lock = vars(self).setdefault("_training_lock", mine)
        if owner != mine[0]:  # a forked child does not take part in its parent's training
            _, lock = vars(self)["_training_lock"] = mine
        if not lock.acquire(False):
            remedy = remedy or (f"in another thread or by the fit that called back; use a copy: "
                                f"copy.deepcopy({what})")
            raise RuntimeError(f"this {what} is being used by a training already, {remedy}")
        return lock
