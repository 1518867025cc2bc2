"""The folder that a run saves its results in."""

from __future__ import annotations

import json
import tempfile
from io import BytesIO
from typing import TYPE_CHECKING, Any

from ..files import replace_file
from ..version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from .options import Options

__all__ = ["prepare", "save"]

SAVED = ["model.safetensors", "model.json", "learning_curves.png"]


def prepare(folder: Path) -> None:
    """Create the folder, and check before training that results can be saved in it.

    Parameters
    ----------
    folder : pathlib.Path

    Raises
    ------
    ValueError
        If it cannot be created or written to.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> folder = tempfile.TemporaryDirectory()
    >>> prepare(Path(folder.name, "results", "today"))
    >>> Path(folder.name, "results", "today").is_dir()
    True
    >>> folder.cleanup()
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output: expected a folder that can be created, got "
                         f"{str(folder)!r}: {error.strerror}") from None
    for name in SAVED:
        if (folder / name).is_dir():
            raise ValueError(f"--output: expected a folder to save {name} in, but "
                             f"{str(folder)!r} has a subfolder of that name; remove it, or "
                             f"choose another --output FOLDER")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--output: the folder {str(folder)!r} cannot be written to "
                         f"({error.strerror}); choose another --output FOLDER") from None


def save(
    options: Options, write: Callable[[Path], None], draw: Callable[[], Figure],
    about: dict[str, Any],
) -> tuple[Path, Path]:
    """Save the model, its description and the learning curves, and say where.

    Parameters
    ----------
    options : Options
    write : callable
        Writes the model to a path.
    draw : callable
        Makes the picture if matplotlib is installed.
    about : dict
        What JSON can hold: the task, the names of columns and classes, the scores.

    Returns
    -------
    model, description : pathlib.Path
        The files of the model and of `about`.

    Raises
    ------
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import fastbp as fb
    >>> from fastbp.cli.options import parse
    >>> X, net = [[0.0], [1.0]], fb.mlp([1, 1], seed=0)
    >>> history = net.fit(X, X, loss=fb.MeanSquaredError(), epochs=2, seed=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     options = parse(["--quiet", "--output", folder])
    ...     model, description = save(
    ...         options, net.save, lambda: fb.plot.learning_curves(history), {"task": "regression"})
    >>> model.name, description.name
    ('model.safetensors', 'model.json')
    """
    model, description, picture = (options.output / name for name in SAVED)
    if not options.is_first:
        return model, description
    about = {"fastbp": __version__, "seed": options.seed, **about}
    text = json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    earlier = " (replaced that of an earlier run)" if model.exists() else ""
    write(model)
    # A file name may hold bytes that are not UTF-8: written as backslash escapes, which JSON has.
    replace_file(description, text.encode(errors="backslashreplace"))
    options.say(f"saved     {model}{earlier}\n          {description}")
    try:
        content = BytesIO()
        draw().savefig(content, format="png", dpi=150)
        replace_file(picture, content.getvalue())
        options.say(f"          {picture}")
    except ImportError as error:
        removed = "; that of an earlier run is removed" if picture.exists() else ""
        picture.unlink(missing_ok=True)
        options.say(f"          no picture: {error}{removed}")
    return model, description
