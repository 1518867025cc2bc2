"""Plots of what training records."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .figures import axes_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = ["ensemble_selection", "gradient_flow", "learning_curves", "learning_rates"]

LOSS_COLOR, METRIC_COLOR = "tab:blue", "tab:orange"
# Epochs that `gradient_flow` draws at most.
MOST_LINES = 50
# Keys of a history that are not metrics.
NOT_METRICS = {"loss", "learning_rate", "seconds", "gradient_norms"}


def learning_curves(history: Mapping[str, Any], ax: Axes | None = None) -> Figure:
    """Plot the loss of each epoch, and the metric on a second y-axis.

    Dashed lines are for the training data, averaged over the epoch while the weights changed;
    solid lines are for the validation data, with a dot at the lowest validation loss.

    Parameters
    ----------
    history : History
        From `fit`, or ``net.history``, with at least one epoch.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is not a history.
    ValueError
        If it has no epoch.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> history = fb.mlp([3, 8, 1], seed=0).fit(
    ...     X, X[:, :1], loss=fb.MeanSquaredError(), epochs=5, validation_fraction=0.2, seed=0)
    >>> figure = learning_curves(history)
    >>> [axes.get_ylabel() for axes in figure.axes]
    ['loss', 'R²']
    """
    losses = _recorded(history, "loss", "which every fit records")
    axes = axes_of(ax)
    epochs = np.arange(1, len(losses) + 1)
    # A single epoch would not be visible without a marker.
    marker = "." if len(epochs) <= 10 else None
    lines = axes.plot(epochs, losses, "--", marker=marker, color=LOSS_COLOR, label="training loss")
    validation = history.get("val_loss")
    if validation:
        lines += axes.plot(epochs, validation, marker=marker, color=LOSS_COLOR,
                         label="validation loss")
        if np.isfinite(validation).any():
            best = int(np.nanargmin(validation))
            lines += axes.plot(epochs[best], validation[best], "o", color=LOSS_COLOR,
                             label=f"lowest: epoch {best + 1}")
    axes.set_xlim(0.5, len(epochs) + 0.5)
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss", color=LOSS_COLOR)
    axes.grid(axis="x", alpha=0.3)
    _whole_ticks(axes.xaxis)

    metric = next((k for k in history if k not in NOT_METRICS and not k.startswith("val_")), None)
    if metric is not None:
        name = "R²" if metric == "r2" else metric
        twin = axes.twinx()
        for key, style, what in ((metric, "--", "training"), ("val_" + metric, "-", "validation")):
            if key in history:
                lines += twin.plot(epochs, history[key], style, marker=marker,
                                   color=METRIC_COLOR, label=f"{what} {name}")
        twin.set_ylabel(name, color=METRIC_COLOR)
        low, high = twin.get_ylim()
        if metric == "r2" and low < -1 < high:  # below 0 is worse than predicting the mean
            twin.set_ylim(bottom=-1)
        axes = twin  # drawn last, so that no line covers its legend
    axes.legend(handles=lines, loc="center right", framealpha=0.9)
    figure: Figure = axes.figure
    return figure


def gradient_flow(history: Mapping[str, Any], ax: Axes | None = None) -> Figure:
    """Plot the norm of each layer's gradients: a line per epoch, from dark to bright.

    Of a long history 50 epochs are drawn, evenly spaced, including the first and the last.

    Where gradients vanish, as in a deep network of sigmoids, the lines rise from the first layer
    to the last by many powers of ten.

    Parameters
    ----------
    history : History
        From a `fit` with ``gradient_norms=True``.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` is not a history.
    ValueError
        If it has no gradient norms.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> history = fb.mlp([3, 8, 1], seed=0).fit(
    ...     X, X[:, :1], loss=fb.MeanSquaredError(), epochs=5, gradient_norms=True, seed=0)
    >>> figure = gradient_flow(history)
    >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
    ['0 Dense', '2 Dense']
    """
    recorded = _recorded(history, "gradient_norms", "which fit(..., gradient_norms=True) records")
    norms = np.array(recorded, float)  # (epochs, layers)
    n_epochs, n_layers = norms.shape
    if n_layers == 0:
        raise ValueError("history: expected gradients of at least one layer, but no layer of "
                         "this network has parameters")
    axes = axes_of(ax, width=max(6.4, 0.35 * n_layers))
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    # Without the brightest tenth of the colors, which are hard to see on white.
    color_map = ListedColormap(colormaps["viridis"](np.linspace(0, 0.9, 256)))
    shown = np.linspace(0, n_epochs - 1, min(n_epochs, MOST_LINES)).round().astype(int)
    norms, colors = norms[shown], color_map(np.linspace(0, 1, n_epochs))[shown]
    layers = np.arange(n_layers)
    positive = norms > 0
    for row, color in zip(np.where(positive, norms, np.nan), colors, strict=True):
        axes.plot(layers, row, marker=".", color=color)
    axes.set_yscale("log")
    if not positive.all():
        # Zeros have no place on a logarithmic axis: they are marked below the smallest other norm.
        floor = norms[positive].min() / 10 if positive.any() else 1.0
        epoch, layer = np.nonzero(~positive)
        axes.scatter(layer, np.full(len(layer), floor), marker="v", color=colors[epoch],
                   label="0: no gradient", zorder=3)
        axes.legend()
    # At least four powers of ten, so that small differences do not look like vanishing gradients.
    low, high = axes.get_ylim()
    margin = max(1.0, 1e4 * low / high) ** 0.5
    axes.set_ylim(low / margin, high * margin)
    rotate = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if n_layers > 6 else {}
    names = getattr(history, "layer_names", layers)  # a plain dict has no names
    axes.set_xticks(layers, [str(name) for name in names], **rotate)
    axes.set_xlabel("layer, from input to output")
    axes.set_ylabel("gradient norm (mean over the epoch)")
    axes.grid(alpha=0.3)
    if n_epochs > 1:
        scale = ScalarMappable(Normalize(1, n_epochs), color_map)
        _whole_ticks(axes.figure.colorbar(scale, ax=axes, label="epoch").ax.yaxis)
    figure: Figure = axes.figure
    return figure


def ensemble_selection(history: Any, ax: Axes | None = None) -> Figure:
    """Plot how an ensemble was chosen while its members were trained.

    Grey lines are the members' scores on the validation rows, the blue line is the best score of an
    ensemble so far, and dots are the members that were chosen, at the epochs after which they were
    taken.

    Parameters
    ----------
    history : fastbp.estimators.PackHistory
        ``model.history_`` of a `TabPackClassifier` or `TabPackRegressor`.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `history` or `ax` is something else.

    Examples
    --------
    >>> import fastbp as fb
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> model = fb.TabPackRegressor(4, max_epochs=5, random_state=0).fit(X, X[:, 0] * X[:, 1])
    >>> ensemble_selection(model.history_).savefig("members.png")
    """
    if not hasattr(history, "member_scores"):
        raise TypeError(f"history: expected model.history_ of a TabPackClassifier or "
                        f"TabPackRegressor, got {type(history).__name__}")
    axes = axes_of(ax)
    for i, scores in enumerate(history.member_scores):
        axes.plot(range(1, len(scores) + 1), scores, color="0.75", linewidth=0.8,
                  label=None if i else "members")
    ensemble = history.ensemble_scores
    axes.plot(range(1, len(ensemble) + 1), ensemble, color=LOSS_COLOR, label="ensemble")
    for i, (member, epoch) in enumerate(history.chosen):
        axes.plot(epoch + 1, history.member_scores[member][epoch], "o", color=METRIC_COLOR,
                  markersize=5, label=None if i else f"networks chosen ({len(history.chosen)})")
    # The first epochs are far below all others.
    scores = np.concatenate(history.member_scores)
    low, high = np.quantile(scores[np.isfinite(scores)], 0.25), ensemble[-1]
    if low < high < np.inf:
        axes.set_ylim(low, high + 0.1 * (high - low))
    _whole_ticks(axes.xaxis)
    axes.set_xlabel("epoch")
    axes.set_ylabel(f"{history.metric} on validation rows")
    axes.legend(loc="lower right")
    figure: Figure = axes.figure
    return figure


def learning_rates(test: Any, ax: Axes | None = None) -> Figure:
    """Plot the loss over the learning rate, from a test of learning rates.

    Parameters
    ----------
    test : fastbp.LearningRateTest
        From `fastbp.lr_finder`.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.

    Returns
    -------
    matplotlib.figure.Figure
        The figure of `ax`, or the new one.

    Raises
    ------
    ImportError
        If matplotlib is missing.
    TypeError
        If `test` or `ax` is something else.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("train")
    >>> test = fb.lr_finder(fb.mlp([64, 32, 10], seed=0), X, y, loss=fb.SoftmaxCrossEntropy())
    >>> learning_rates(test).axes[0].get_xscale()
    'log'
    """
    if not hasattr(test, "rates"):
        raise TypeError(f"test: expected what fastbp.lr_finder returns, got "
                        f"{type(test).__name__}")
    axes = axes_of(ax)
    axes.plot(test.rates, test.losses, color="0.75", linewidth=0.8, label="minibatches")
    n = len(test.smoothed)
    axes.plot(test.rates[:n], test.smoothed, color=LOSS_COLOR, label="smoothed")
    if test.suggestion is not None:
        axes.axvline(test.suggestion, color=METRIC_COLOR, linestyle="--",
                     label=f"suggestion: {test.suggestion:.2g}")
    # The losses after it diverges are far above all others.
    low, first = float(np.min(test.smoothed)), float(test.smoothed[0])
    if first > low:
        axes.set_ylim(low - 0.1 * (first - low), first + 0.5 * (first - low))
    axes.set_xscale("log")
    axes.set_xlabel("learning rate")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.3)
    axes.legend(loc="best")
    figure: Figure = axes.figure
    return figure


def _recorded(history: Mapping[str, Any], key: str, remedy: str) -> Any:
    """The list ``history[key]``, if it is not empty."""
    if not isinstance(history, dict):
        raise TypeError(f"history: expected what fit returns (net.history keeps it too), "
                        f"got {type(history).__name__}")
    if not history.get(key):
        what = "no epoch is recorded" if key in history else f"it has no {key!r}"
        raise ValueError(f"history: expected a history with {key!r}, {remedy}, but {what}")
    return history[key]


def _whole_ticks(axis: Axis) -> None:
    """Put ticks at integers only, for epochs."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
