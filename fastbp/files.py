"""Paths, and files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import stat
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from os import PathLike

__all__ = ["checked_path", "directory_error", "from_handler", "ignored_errors", "is_regular",
           "keep_mode", "open_regular", "replace_file", "status"]


def checked_path(name: str, path: object, what: str = "file") -> str:
    """A path as a string, if the system accepts it.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    path : str or path-like
    what : str, default "file"
        What it is the path of, for messages.

    Returns
    -------
    str

    Raises
    ------
    TypeError
        If it is not a path: bytes, a number, None, empty.
    ValueError
        If it contains characters that a path cannot have.

    Examples
    --------
    >>> from pathlib import Path
    >>> checked_path("path", Path("model.safetensors"))
    'model.safetensors'
    >>> checked_path("path", 3)
    Traceback (most recent call last):
        ...
    TypeError: path: expected the path of a file, a string or a path-like object, got 3
    """
    text = path.__fspath__() if isinstance(path, os.PathLike) else path
    if not isinstance(text, str) or not text:
        hint = "; decode it with os.fsdecode" if isinstance(text, bytes) and text else ""
        raise TypeError(f"{name}: expected the path of a {what}, a string or a path-like object, "
                        f"got {path!r}{hint}")
    try:
        has_nul = b"\0" in os.fsencode(text)
    except UnicodeEncodeError as error:
        raise ValueError(f"{name}: expected the path of a {what}, got {text!r}, which the system "
                         f"cannot encode ({error.reason})") from None
    if has_nul:
        raise ValueError(f"{name}: expected the path of a {what}, got {text!r}, which contains a "
                         f"NUL character")
    return text


def status(path: str | PathLike[str]) -> os.stat_result | None:
    """The result of `os.stat`, or None if nothing exists at the path.

    Raises
    ------
    OSError
        If the system cannot tell, because permission is denied, for example.

    Examples
    --------
    >>> status("no such file") is None
    True
    """
    try:
        return os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None


def is_regular(path: str | PathLike[str]) -> bool:
    """Whether a regular file exists at the path: not a directory, a pipe or a device.

    Examples
    --------
    >>> is_regular(os.devnull)
    False
    """
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def from_handler(error: BaseException) -> bool:
    """Whether an error is an OSError that a signal handler has raised, such as TimeoutError.

    The system's own errors have an `errno`.  Ignoring one from a handler would ignore the signal.

    Examples
    --------
    >>> from_handler(TimeoutError("took too long")), from_handler(OSError(errno.EIO, "I/O error"))
    (True, False)
    """
    return isinstance(error, OSError) and error.errno is None


@contextlib.contextmanager
def ignored_errors() -> Iterator[None]:
    """Ignore the system's errors in a with statement, but not those from signal handlers.

    Examples
    --------
    >>> with ignored_errors():
    ...     os.unlink("no such file")
    """
    try:
        yield
    except OSError as error:
        if from_handler(error):
            raise


def directory_error(path: str) -> IsADirectoryError:
    """The error for a directory where a file is expected.

    Examples
    --------
    >>> print(directory_error("models"))
    path: expected a file, got the directory 'models'
    """
    error = IsADirectoryError(f"path: expected a file, got the directory {path!r}")
    error.errno = errno.EISDIR  # like the system's own, see `from_handler`
    return error


def replace_file(path: str | PathLike[str], content: bytes) -> None:
    """Write a file next to `path`, flush it to the disk, then rename it to `path`.

    Whoever reads `path` finds the old content or the new, even after a crash.  Symbolic links are
    followed, and the file keeps the owner, group and mode of the one that it replaces.

    Parameters
    ----------
    path : str or path-like
    content : bytes

    Raises
    ------
    ValueError
        If the path is a pipe or a device.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "a")
    ...     replace_file(path, b"1")
    ...     replace_file(path, b"2")
    ...     with open(path, "rb") as file:
    ...         os.listdir(folder), file.read()
    (['a'], b'2')
    """
    path = os.fspath(path)
    old = status(path)
    if os.path.basename(path) == "" or (old is not None and stat.S_ISDIR(old.st_mode)):
        raise directory_error(path)
    if old is not None and not stat.S_ISREG(old.st_mode):
        raise ValueError(f"path: expected a file, or none yet, got the pipe or device {path!r}")
    folder, name = os.path.split(os.path.realpath(path))
    # 60 characters are at most 240 bytes, and a name may have 255.
    temporary = os.path.join(folder, f"{name[:60]}.{os.urandom(4).hex()}.part")
    # Nobody else may read it before it has the mode of the old file.
    opener = functools.partial(os.open, mode=0o666 if old is None else 0o600)
    try:
        with open(temporary, "xb", opener=opener) as file:
            file.write(content)
            file.flush()
            if old is not None:
                keep_mode(temporary, old)
            os.fsync(file.fileno())
        os.replace(temporary, os.path.join(folder, name))
    except BaseException as error:
        with ignored_errors():
            os.unlink(temporary)
        if isinstance(error, OSError) and error.filename == temporary:
            error.filename = path  # nobody else knows the temporary file
            error.filename2 = None
            if isinstance(error, FileNotFoundError):
                error.strerror = (f"there is no folder {os.path.dirname(path)!r}; create it, or "
                                  f"choose another path")
        raise


def keep_mode(path: str | PathLike[str], old: os.stat_result) -> None:
    """Give a new file the owner, group and mode of an old one, as far as the system permits.

    If it does not permit to change the group, the file loses the group's permissions.

    Parameters
    ----------
    path : str or path-like
    old : os.stat_result
        The status of the old file.
    """
    mode = old.st_mode & 0o777
    if hasattr(os, "chown"):
        for owner, group in ((old.st_uid, -1), (-1, old.st_gid)):
            with ignored_errors():
                os.chown(path, owner, group)
        if os.stat(path).st_gid != old.st_gid:
            mode &= 0o707  # those of the old group, and not of another
    with ignored_errors():
        os.chmod(path, mode)


def open_regular(path: str | PathLike[str], mode: str) -> IO[Any]:
    """Open a file as `open` does, if it is a regular file; never wait for a pipe.

    Parameters
    ----------
    path : str or path-like
    mode : str
        As for `open`.

    Returns
    -------
    file object

    Raises
    ------
    ValueError
        If the path is a pipe, a device or a socket.
    OSError
        If it cannot be opened.

    Examples
    --------
    >>> open_regular(os.devnull, "rb")
    Traceback (most recent call last):
        ...
    ValueError: expected a file, got the pipe or device '/dev/null'
    """
    irregular = ValueError(f"expected a file, got the pipe or device {path!r}")
    try:
        with contextlib.ExitStack() as on_error:
            file: IO[Any] = on_error.enter_context(open(path, mode, opener=_open_at_once))
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise irregular
            on_error.pop_all()
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe without a reader, or a socket
            raise irregular from None
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
