"""Plots of what a model predicts, through scikit-learn's displays, for networks too."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Number
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ensemble import INVERSES, Ensemble
from ..kernels import checks
from ..messages import listed
from ..network import Sequential
from .figures import axes_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from ..kernels.types import Array

__all__ = ["calibration", "confusion", "partial_dependence"]


def confusion(model: Any, X: Any, y: ArrayLike, ax: Axes | None = None, *,
              normalize: str | None = None) -> Figure:
    """Plot how many rows of each class are taken for which.

    Parameters
    ----------
    model : classifier, Sequential or Ensemble
        A network's prediction is its largest output; with a single output, class 1 where that is
        positive, as after training with `SigmoidCrossEntropy`.
    X : array_like or data frame of shape (rows, columns)
    y : array_like of shape (rows,)
        The classes; a network's are numbers from 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.
    normalize : {"true", "pred", "all"}, optional
        Show shares instead of numbers: of the rows of a class, of those taken for it, or of all.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib or scikit-learn is missing.
    TypeError, ValueError
        If the model is no classifier, or y does not fit X.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("test")
    >>> figure = confusion(fb.mlp([64, 10], seed=0), X, y, normalize="true")
    >>> figure.axes[0].get_ylabel()
    'True label'
    """
    if normalize not in (None, "true", "pred", "all"):
        raise ValueError(f'normalize: expected None, "true", "pred" or "all", got {normalize!r}')
    metrics = _sklearn("metrics")
    predicted, classes = _classes(model, X)
    y = _checked_y(y, len(predicted))
    if isinstance(model, Sequential | Ensemble):
        _check_labels(y, len(classes))
    elif (y.dtype.kind == "U") != isinstance(classes.tolist()[0], str):
        raise ValueError(f"y: expected classes such as the model has learned, "
                         f"{listed(classes.tolist())}, got {y.tolist()[0]!r}")
    shown = np.unique(np.concatenate([classes, np.unique(y)])) if len(classes) else None
    size = max(4.0, 1.5 + 0.45 * (0 if shown is None else len(shown)))
    axes = axes_of(ax, size + 0.8, size)
    metrics.ConfusionMatrixDisplay.from_predictions(
        y, predicted, labels=shown, normalize=normalize, ax=axes, cmap="Blues",
        values_format=None if normalize is None else ".2f",
        xticks_rotation="vertical" if shown is not None and shown.dtype.kind in "UO"
        else "horizontal")
    figure: Figure = axes.figure
    return figure


def calibration(model: Any, X: Any, y: ArrayLike, ax: Axes | None = None, *,
                n_bins: int = 10) -> Figure:
    """Plot how often what a model calls probable is true.

    Rows are put into bins by the probability of a class; each dot is the share of rows of that
    class in a bin, over the mean of the probabilities.  Of more than two classes each has a line.

    Parameters
    ----------
    model : classifier with `predict_proba`, Sequential or Ensemble
        The softmax of a network's outputs is taken, or the sigmoid if it has one; of an `Ensemble`
        with an activation, what it predicts.
    X : array_like or data frame of shape (rows, columns)
    y : array_like of shape (rows,)
        The classes; a network's are numbers from 0.
    ax : matplotlib.axes.Axes, optional
        Where to draw.  By default a new figure is made.
    n_bins : int, default 10
        With the same number of rows each, except for equal probabilities.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib or scikit-learn is missing.
    TypeError, ValueError
        If the model has no probabilities, or y does not fit X.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("test")
    >>> figure = calibration(fb.mlp([64, 10], seed=0), X, y)
    >>> len(figure.axes[0].lines)
    11
    """
    n_bins = checks.integer("n_bins", n_bins, 1)
    display = _sklearn("calibration").CalibrationDisplay
    P, classes = _probabilities(model, X)
    y = _checked_y(y, len(P))
    if isinstance(model, Sequential | Ensemble):
        _check_labels(y, len(classes))
    unknown = sorted(set(y.tolist()) - set(classes.tolist()))
    if unknown:
        raise ValueError(f"y: expected classes that the model has learned, got {unknown[0]!r}; "
                         f"they are {listed(classes.tolist())}")
    axes = axes_of(ax, 6.4, 5.0)
    for i in [1] if len(classes) == 2 else range(len(classes)):
        display.from_predictions(y == classes[i], P[:, i], n_bins=n_bins, strategy="quantile",
                                 ax=axes, name=str(classes[i]), pos_label=True, markersize=4)
    axes.set_xlabel("predicted probability (mean of a bin)")
    axes.set_ylabel("share of rows of the class")
    axes.legend(title="class", loc="best", fontsize="small")
    figure: Figure = axes.figure
    return figure


def partial_dependence(model: Any, X: Any, columns: Any, ax: Axes | None = None, *,
                       output: Any = None, activation: str | None = None,
                       kind: str = "average", **options: Any) -> Figure:
    """Plot what a model predicts on average as one column takes each of its values.

    Parameters
    ----------
    model : estimator, Sequential or Ensemble
    X : array_like or data frame of pandas of shape (rows, columns)
        The rows over which the mean is taken; some hundred are enough.
    columns : int, str, or sequence of int, str or tuple of two
        The columns, by their names or indices (a number is an index, whatever the columns are
        called); a plot for each.  A tuple makes a plot of both together.  A column of text has a
        bar for each category.
    ax : matplotlib.axes.Axes, optional
        Where to draw; it is divided among the plots.  By default a new figure is made.
    output : int or str, optional
        Which class of a classifier, whose probability is plotted: by default the second of two.
        Which output of a network or a regressor with several, from 0.
    activation : {"softmax", "sigmoid", "exp"}, optional
        Applied to a network's outputs; estimators and ensembles have their own.
    kind : {"average", "individual", "both"}, default "average"
        Whether to show the mean, a line for each row, or both.
    **options
        Others of scikit-learn's `PartialDependenceDisplay.from_estimator`, such as
        ``feature_names``, ``categorical_features`` and ``grid_resolution``.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    ImportError
        If matplotlib or scikit-learn is missing.
    TypeError, ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import fastbp as fb
    >>> X, y = fb.datasets.digits("test")
    >>> figure = partial_dependence(fb.mlp([64, 10], seed=0), X, [20, 21], output=3,
    ...                             activation="softmax")
    """
    inspection = _sklearn("inspection")
    X, names = _rows(X, options.get("feature_names"))
    places = _places(columns, names)
    response = _response(model, output, activation)
    X, categories = _with_categories(X, names, places)
    options = {"categorical_features": categories} | options
    if kind == "both":  # whose lines have one color otherwise
        options = {"ice_lines_kw": {"color": "0.7"},
                   "pd_line_kw": {"color": "tab:orange"}} | options
    across = min(3, len(places))
    axes = axes_of(ax, 3.6 * across + 0.6, 3.2 * -(-len(places) // across))
    inspection.PartialDependenceDisplay.from_estimator(
        _regressor(response), X, places, kind=kind, ax=axes, n_cols=across, method="brute",
        **options)
    figure: Figure = axes.figure
    return figure


def _rows(X: Any, names: Any) -> tuple[Any, list[Any]]:
    """X as scikit-learn's displays take it, and the names of its columns; without, indices."""
    if not hasattr(X, "iloc"):
        if checks.is_sparse(X):
            raise TypeError("X: expected an array or a data frame of pandas, got a sparse matrix; "
                            "pass X.toarray()")
        if hasattr(X, "columns"):
            raise TypeError(f"X: expected an array or a data frame of pandas, got "
                            f"{type(X).__module__.partition('.')[0]}.{type(X).__name__}; convert "
                            f"it, as with X.to_pandas()")
        try:
            array = np.asarray(X)
            # Text beside numbers would turn these into text.
            X = array if array.dtype.kind not in "US" else np.array(X, dtype=object)
        except ValueError:
            raise ValueError("X: expected rows of the same length, got a list of others") from None
    if len(X.shape) != 2:
        raise ValueError(f"X: expected shape (rows, columns), got shape {X.shape}")
    if X.shape[0] == 0:
        raise ValueError("X: expected at least one row, got none")
    if names is None:
        names = X.columns if hasattr(X, "columns") else range(X.shape[1])
    return X, list(names)


def _places(columns: Any, names: list[Any]) -> list[Any]:
    """The columns by their indices, and pairs of these."""
    if isinstance(columns, int | np.integer | str):
        columns = [columns]
    expected = f"columns: expected names or indices of X's {len(names)} columns"
    if any(isinstance(name, str) for name in names):
        expected += f", {listed(names)}"

    def place(column: Any) -> int:
        if isinstance(column, str) and column in names:
            return names.index(column)
        if isinstance(column, int | np.integer) and not isinstance(column, bool) and (
                0 <= column < len(names)):
            return int(column)
        hint = ""
        if isinstance(column, int | np.integer) and column in names:
            hint = f"; a number is an index: {names.index(column)} for the column of this name"
        raise ValueError(f"{expected}, got {column!r}{hint}")

    if columns is None or not isinstance(columns, Iterable):
        raise TypeError(f"{expected}, got {columns!r}")
    places: list[Any] = []
    for each in columns:
        if isinstance(each, tuple | list):
            if len(each) != 2:
                raise ValueError(f"columns: expected single columns and pairs, got {each!r}")
            places.append((place(each[0]), place(each[1])))
        else:
            places.append(place(each))
    if not places:
        raise ValueError("columns: expected at least one column, got none")
    return places


def _with_categories(X: Any, names: list[Any], places: list[Any]) -> tuple[Any, list[int] | None]:
    """X with float64 in the columns to plot, unless they hold text; which of them do, if any."""
    X, of_text = X.copy(), []
    for i in sorted({int(i) for each in places for i in np.atleast_1d(each)}):
        cells = X.iloc[:, i] if hasattr(X, "iloc") else X[:, i]
        others = [(row, each) for row, each in enumerate(cells.tolist())
                  if not isinstance(each, str)]
        if 0 < len(others) < len(cells):
            row, cell = others[0]
            raise ValueError(f"X: column {names[i]!r}: expected text in each row, to plot a bar "
                             f"for each category, got {cell!r} in row {row}; pass rows without "
                             f"such cells")
        if not others:
            of_text.append(i)
            continue
        if cells.dtype == object:
            cells = np.array(cells.tolist())
        numbers = checks.real_numbers(f"X: column {names[i]!r}", cells)
        if numbers.dtype.kind == "b":
            continue
        numbers = numbers.astype(np.float64)
        if hasattr(X, "iloc"):
            X.isetitem(i, numbers)
        elif X.dtype.kind in "iu":
            X = X.astype(np.float64)
        else:
            X[:, i] = numbers
    return X, of_text or None


def _sklearn(module: str) -> Any:
    """A module of scikit-learn."""
    import importlib

    try:
        return importlib.import_module(f"sklearn.{module}")
    except ImportError as error:
        raise ImportError('plots of models need scikit-learn: pip install '
                          '"fastbp[sklearn,plot]"') from error


def _probabilities(model: Any, X: Any) -> tuple[Array, Array]:
    """A probability for each row and class, and the classes."""
    if not isinstance(model, Sequential | Ensemble):
        if not hasattr(model, "predict_proba"):
            raise TypeError(f"model: expected a classifier with predict_proba, or a network, got "
                            f"{type(model).__name__}")
        return np.asarray(model.predict_proba(X)), np.asarray(model.classes_)
    P = _outputs(model, X, "sigmoid" if model.n_out == 1 else "softmax")
    _check_no_nan(P)
    if P.shape[1] == 1:
        P = np.hstack([1 - P, P])
    return P, np.arange(P.shape[1])


def _classes(model: Any, X: Any) -> tuple[Array, Array]:
    """The class of each row, and all classes."""
    if isinstance(model, Sequential | Ensemble):
        # Of scores, since probabilities near 0 and 1 are rounded to the same number.
        Z = _outputs(model, X, None)
        if isinstance(model, Ensemble):
            Z = INVERSES[model.activation](Z)
        _check_no_nan(Z)
        predicted = (Z[:, 0] > 0).astype(int) if Z.shape[1] == 1 else Z.argmax(axis=1)
        return predicted, np.arange(max(2, Z.shape[1]))
    if not hasattr(model, "predict") or not hasattr(model, "classes_"):
        raise TypeError(f"model: expected a fitted classifier or a network, got "
                        f"{type(model).__name__}")
    return np.asarray(model.predict(X)), np.asarray(model.classes_)


def _check_no_nan(outputs: Array) -> None:
    rows = np.flatnonzero(np.isnan(outputs).any(axis=1))
    if len(rows):
        raise ValueError(f"model: expected predictions that are numbers, got NaN for {len(rows)} "
                         f"of {len(outputs)} rows, the first of them row {rows[0]}; look for NaN "
                         f"in X and in the model's parameters")


def _outputs(model: Sequential | Ensemble, X: Any, activation: str | None) -> Array:
    """What a network predicts; an ensemble may have the activation already."""
    if isinstance(model, Sequential):
        return model.predict(X, activation=activation)
    if activation is not None and model.activation not in (None, activation):
        raise ValueError(f"model: expected an Ensemble with activation={activation!r}, got one "
                         f"with {model.activation!r}")
    if activation is not None and model.activation is None:
        model = Ensemble(model.networks, model.weights, activation)
    return model.predict(X)


def _response(model: Any, output: Any, activation: str | None) -> Callable[[Any], Array]:
    """A function of rows: the one number for each that is plotted."""
    if isinstance(model, Sequential | Ensemble):
        n_out = model.n_out or 1
        column = _column(output, n_out, "the network's outputs")
        return lambda X: _outputs(model, X, activation)[:, column]
    if activation is not None:
        raise ValueError(f"activation: expected None for a {type(model).__name__}, which has its "
                         f"own, got {activation!r}")
    if hasattr(model, "classes_"):
        classes = np.asarray(model.classes_).tolist()
        if output is None and len(classes) == 2:
            output = classes[1]
        if output not in classes:
            raise ValueError(f"output: expected one of the classes "
                             f"{', '.join(map(repr, classes[:20]))}, got {output!r}")
        index = classes.index(output)
        return lambda X: np.asarray(model.predict_proba(X))[:, index]
    if not hasattr(model, "predict"):
        raise TypeError(f"model: expected a fitted estimator or a network, got "
                        f"{type(model).__name__}")

    def predict(X: Any) -> Array:
        predicted = np.asarray(model.predict(X))
        if predicted.ndim == 1:
            predicted = predicted[:, None]
        return predicted[:, _column(output, predicted.shape[1], "the model's outputs")]

    return predict


def _column(output: Any, n_out: int, what: str) -> int:
    if output is None and n_out > 1:
        raise ValueError(f"output: expected which of {what} to plot, from 0 to {n_out - 1}, got "
                         f"None")
    return 0 if output is None else checks.integer("output", output, 0, n_out - 1)


def _regressor(response: Callable[[Any], Array]) -> Any:
    """A function of rows as scikit-learn's displays take it."""
    from sklearn.base import BaseEstimator, RegressorMixin

    class Response(RegressorMixin, BaseEstimator):  # type: ignore[misc]
        """What a model that is fitted predicts."""

        def fit(self, X: Any, y: Any) -> Any:
            """Nothing to do."""
            return self

        def __sklearn_is_fitted__(self) -> bool:
            return True

        def predict(self, X: Any) -> Array:
            """The response."""
            return response(X)

    return Response()


def _checked_y(y: ArrayLike, n_rows: int) -> Array:
    """A class for each row: numbers, or text."""
    if n_rows == 0:
        raise ValueError("X: expected at least one row, got none")
    # A list of text and numbers would become text.
    y = np.asarray(y) if hasattr(y, "__array__") else np.array(y, dtype=object)
    if y.shape != (n_rows,):
        raise ValueError(f"y: expected a class for each row of X, shape ({n_rows},), got shape "
                         f"{y.shape}")
    if y.dtype.kind not in "biufUO":
        raise TypeError(f"y: expected classes that are numbers or text, got {y.dtype}")
    if y.dtype.kind in "fO":
        kinds = str if isinstance(y[0], str) else (Number, np.bool_)
        for row, each in enumerate(y.tolist()):
            if not isinstance(each, str | Number | np.bool_) or each != each:
                raise ValueError(f"y: expected a class for each row, got {each!r:.40} in row "
                                 f"{row}; leave such rows out of X and y")
            if not isinstance(each, kinds):
                raise ValueError(f"y: expected classes that are all numbers or all text, got "
                                 f"{y[0]!r} in row 0 and {each!r} in row {row}")
        y = np.array(y.tolist())
    return y


def _check_labels(y: Array, n_classes: int) -> None:
    """Raise unless these are a network's classes."""
    if y.dtype.kind not in "iub" or (len(y) and not 0 <= int(y.min()) <= int(y.max()) < n_classes):
        raise ValueError(f"y: expected the numbers of the network's classes, from 0 to "
                         f"{n_classes - 1}, got {y.dtype} such as {y[:3].tolist()}")
