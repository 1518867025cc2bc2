"""The axes that plots draw into."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["axes_of"]


def axes_of(ax: Axes | None, width: float = 6.4, height: float = 4.0) -> Any:
    """The axes given, or those of a new figure.

    Parameters
    ----------
    ax : matplotlib.axes.Axes or None
    width, height : float
        Of a new figure, in inches.

    Returns
    -------
    matplotlib.axes.Axes

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `ax` is anything else.

    Examples
    --------
    >>> float(axes_of(None, 3.0).figure.get_figwidth())
    3.0
    """
    if ax is not None:
        if not hasattr(ax, "figure") or not hasattr(ax, "plot"):
            raise TypeError(f"ax: expected axes of matplotlib, as plt.subplots() returns them, got "
                            f"{type(ax).__name__}")
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastbp[plot]"') from error
    return Figure(figsize=(width, height), layout="constrained").subplots()
