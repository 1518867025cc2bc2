"""Pictures of a training's history; matplotlib is an extra, imported only here.

Figures are made without pyplot, so they need no display and no clean-up::

    plot.learning_curves(history).savefig("curves.png")

To see one in a window, draw into an axis of your own: ``fig, ax = plt.subplots()``,
``plot.learning_curves(history, ax)``, ``plt.show()``.
"""

import numpy as np

__all__ = ["gradient_flow", "learning_curves"]

LOSS_COLOR, METRIC_COLOR = "tab:blue", "tab:orange"
MOST_LINES = 50
NOT_CURVES = {"loss", "learning_rate", "seconds", "gradient_norms"}


def learning_curves(history, ax=None):
    """The loss of each epoch, and the metric on a second scale.

    Dashed lines are the training's own rows, as they were met during the epoch; solid ones
    the validation data, with a dot where the validation loss was lowest.

    Parameters
    ----------
    history : History
        What `fit` returned, or ``net.history``; at least one epoch of it.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  Without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is no history.
    ValueError
        If no epoch was recorded in it.
    """
    losses = _recorded(history, "loss", "which every fit records")
    ax = _axes(ax, width=6.4)
    epochs = np.arange(1, len(losses) + 1)
    # Few epochs make a line of few points, and a single one makes none without a marker.
    marker = "." if len(epochs) <= 10 else None
    lines = ax.plot(epochs, losses, "--", marker=marker, color=LOSS_COLOR, label="training loss")
    validation = history.get("val_loss")
    if validation:
        lines += ax.plot(epochs, validation, marker=marker, color=LOSS_COLOR,
                         label="validation loss")
        if np.isfinite(validation).any():
            best = int(np.nanargmin(validation))
            lines += ax.plot(epochs[best], validation[best], "o", color=LOSS_COLOR,
                             label=f"lowest: epoch {best + 1}")
    ax.set_xlim(0.5, len(epochs) + 0.5)
    ax.set_xlabel("epoch")
    ax.set_ylabel("loss", color=LOSS_COLOR)
    ax.grid(axis="x", alpha=0.3)
    _whole_ticks(ax.xaxis)

    metric = next((k for k in history if k not in NOT_CURVES and not k.startswith("val_")), None)
    if metric is not None:
        name = "R²" if metric == "r2" else metric
        twin = ax.twinx()
        for key, style, what in ((metric, "--", "training"), ("val_" + metric, "-", "validation")):
            if key in history:
                lines += twin.plot(epochs, history[key], style, marker=marker,
                                   color=METRIC_COLOR, label=f"{what} {name}")
        twin.set_ylabel(name, color=METRIC_COLOR)
        low, high = twin.get_ylim()
        if metric == "r2" and low < -1 < high:  # below 0 is worse than predicting the mean
            twin.set_ylim(bottom=-1)
        ax = twin  # the upper one: a legend there is not drawn over
    ax.legend(handles=lines, loc="center right", framealpha=0.9)
    return ax.figure


def gradient_flow(history, ax=None):
    """The norm of each layer's gradients, a line per epoch, from dark to bright.

    Of a long history some 50 epochs are drawn, evenly spaced, with the first and the last.

    Where gradients vanish on their way back, as behind many sigmoids, the lines rise from
    the first layers to the last over many powers of ten.

    Parameters
    ----------
    history : History
        Of a `fit` with ``gradient_norms=True``.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  Without it a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is no history.
    ValueError
        If the norms were not recorded.
    """
    norms = _recorded(history, "gradient_norms", "which fit(..., gradient_norms=True) records")
    norms = np.array(norms, float)  # (epochs, layers)
    n_epochs, n_layers = norms.shape
    if n_layers == 0:
        raise ValueError("history: expected gradients of at least one layer, but no layer of "
                         "this network has parameters")
    ax = _axes(ax, width=max(6.4, 0.35 * n_layers))
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    # Without the brightest tenth, which is hard to see on white.
    color_map = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    shown = np.linspace(0, n_epochs - 1, min(n_epochs, MOST_LINES)).round().astype(int)
    norms, colors = norms[shown], color_map(np.linspace(0, 1, n_epochs))[shown]
    layers = np.arange(n_layers)
    positive = norms > 0
    for row, color in zip(np.where(positive, norms, np.nan), colors, strict=True):
        ax.plot(layers, row, marker=".", color=color)
    ax.set_yscale("log")
    if not positive.all():
        # A logarithm has no place for 0: such norms are marked below the smallest other.
        floor = norms[positive].min() / 10 if positive.any() else 1.0
        epoch, layer = np.nonzero(~positive)
        ax.scatter(layer, np.full(len(layer), floor), marker="v", color=colors[epoch],
                   label="0: no gradient", zorder=3)
        ax.legend()
    # At least four powers of ten, or a healthy flow would look as steep as a vanishing one.
    low, high = ax.get_ylim()
    margin = max(1.0, 1e4 * low / high) ** 0.5
    ax.set_ylim(low / margin, high * margin)
    rotate = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if n_layers > 6 else {}
    names = getattr(history, "layer_names", layers)  # a plain dict has none
    ax.set_xticks(layers, [str(name) for name in names], **rotate)
    ax.set_xlabel("layer, from input to output")
    ax.set_ylabel("gradient norm (mean over the epoch)")
    ax.grid(alpha=0.3)
    if n_epochs > 1:
        scale = ScalarMappable(Normalize(1, n_epochs), color_map)
        _whole_ticks(ax.figure.colorbar(scale, ax=ax, label="epoch").ax.yaxis)
    return ax.figure


def _recorded(history, key, remedy):
    """The list ``history[key]``, checked to hold something."""
    if not isinstance(history, dict):
        raise TypeError(f"history: expected what fit returns (net.history keeps it too), "
                        f"got {type(history).__name__}")
    if not history.get(key):
        what = "no epoch is recorded" if key in history else f"it has no {key!r}"
        raise ValueError(f"history: expected a history with {key!r}, {remedy}, but {what}")
    return history[key]


def _axes(ax, width):
    """`ax`, or the only axis of a new figure."""
    if ax is not None:
        return ax
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError('plots need matplotlib: pip install "fastbp[plot]"') from error
    return Figure(figsize=(width, 4), layout="constrained").subplots()


def _whole_ticks(axis):
    """Ticks at whole numbers only, for epochs."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
