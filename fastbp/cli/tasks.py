"""What a table's target is learned as: classes, or amounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..datasets import Standardizer
from ..losses import Loss, MeanSquaredError, SoftmaxCrossEntropy

if TYPE_CHECKING:
    from ..datasets import Frame, Table
    from ..kernels.types import Array

__all__ = ["Classification", "Regression", "Split", "decide_task", "target_of"]

# A target of whole numbers with at most this many different values is taken for classes.
FEW = 20


class Split(NamedTuple):
    """The task, and the rows.

    Attributes
    ----------
    kind : {"classification", "regression"}
    train, test : ndarray of int
        The rows to train on, and those that are held out.
    """

    kind: str
    train: Array
    test: Array


def decide_task(table: Table | Frame, asked: str | None = None) -> tuple[str, str]:
    """Decide whether to classify or to regress.

    Parameters
    ----------
    table : fastbp.datasets.Table or Frame
        With a target.
    asked : {"classification", "regression"}, optional
        What the user asked for.

    Returns
    -------
    task : {"classification", "regression"}
    reason : str
        Why, for the user.

    Raises
    ------
    ValueError
        If regression is asked for and the target is text, or if there would be fewer than two
        rows for each class on average.

    Examples
    --------
    >>> from fastbp.datasets import Table
    >>> decide_task(Table(np.eye(3), np.array([0.5, 1.0, 1.5]), ["a", "b", "c"], "height"))
    ('regression', "'height' holds numbers, 3 different")
    """
    y = target_of(table)
    values = np.unique(y)
    text = y.dtype.kind == "U"
    whole = not text and bool((values == np.floor(values)).all())
    few = whole and len(values) <= FEW
    holds = "text" if text else "whole numbers" if whole else "numbers"
    reason = f"{table.target!r} holds {holds}, {len(values):,} different"
    if asked == "regression" and text:
        raise ValueError(f"--task regression: expected numbers, but {reason}, such as "
                         f"{str(values[0])!r}")
    task = asked or ("classification" if text or few else "regression")
    if task == "classification" and len(values) > max(2, len(y) / 2):
        raise ValueError(f"classification: expected few classes, but {reason} in {len(y):,} "
                         f"rows; choose another --target, or make all its values numbers and "
                         f"choose --task regression")
    if task == "classification" and len(values) <= FEW:
        reason += f" ({', '.join(map(str, _plain(values)))})"
    if asked:
        reason = f"as --task says; {reason}"
    elif few:
        reason += "; if they are amounts, --task regression"
    return task, reason


def target_of(table: Table | Frame) -> Array:
    """The target of a table to train on, which has one.

    Parameters
    ----------
    table : fastbp.datasets.Table or Frame

    Returns
    -------
    ndarray of shape (rows,)

    Examples
    --------
    >>> from fastbp.datasets import Table
    >>> target_of(Table(np.eye(2), np.array(["cat", "dog"]), ["a", "b"], "animal")).tolist()
    ['cat', 'dog']
    """
    assert table.y is not None
    return table.y


class Classification:
    """A target of classes, learned by their indices.

    Parameters
    ----------
    y : ndarray of shape (rows,)
        Numbers or text.
    train : ndarray of int
        The rows to train on.
    name : str or None
        What the target is called.

    Attributes
    ----------
    targets : ndarray of shape (rows,)
        What the network is trained to predict: class indices.
    n_out : int
        Outputs of the network.
    outputs : Standardizer or None
        What the targets were standardized with: nothing.
    loss : Loss
    about : dict
        What else a user of the network has to know: the classes, in the order of the outputs.
    prediction : str
        A Python expression for the prediction, in terms of ``net``, ``X`` and ``about``.

    Examples
    --------
    >>> y = np.array(["dog", "cat", "dog"])
    >>> task = Classification(y, train=np.array([0, 1, 2]), name="animal")
    >>> task.targets.tolist(), task.about
    ([1, 0, 1], {'classes': ['cat', 'dog']})
    >>> print(task.scores(np.array([[2.0, 1.0]]), rows=np.array([1]))[2])
    accuracy 1.0000   (always dog: 0.0000)
    """

    outputs = None
    prediction = "[about['classes'][i] for i in net.predict(X).argmax(axis=1)]"

    def __init__(self, y: Array, train: Array, name: str | None) -> None:
        classes, self.targets = np.unique(y, return_inverse=True)
        self.n_out = len(classes)
        self.loss: Loss = SoftmaxCrossEntropy()
        self._classes = _plain(classes)
        self._most = np.bincount(self.targets[train]).argmax()
        self.about: dict[str, Any] = {"classes": self._classes}

    def scores(self, Z: Array, rows: Array) -> tuple[dict[str, float], dict[str, float], str]:
        """Score the network's outputs for some rows.

        Parameters
        ----------
        Z : ndarray of shape (rows, n_out)
        rows : ndarray of int

        Returns
        -------
        score : dict
            The accuracy.
        baseline : dict
            That of always predicting the most frequent class of the training rows.
        text : str
            Both, for the user.
        """
        y = self.targets[rows]
        accuracy = float(np.mean(Z.argmax(axis=1) == y))
        baseline = float(np.mean(y == self._most))
        text = f"accuracy {accuracy:.4f}   (always {self._classes[self._most]}: {baseline:.4f})"
        return {"accuracy": accuracy}, {"accuracy": baseline}, text


class Regression:
    """A target of amounts, standardized for training.

    It has the parameters and attributes of `Classification`.

    Examples
    --------
    >>> task = Regression(np.array([1.0, 2.0, 3.0]), train=np.array([0, 2]), name="price")
    >>> task.targets.tolist()
    [[-1.0], [0.0], [1.0]]
    >>> print(task.scores(np.array([[1.0], [2.9]]), rows=np.array([0, 2]))[2])
    RMSE 0.070711, R² 0.9950   (always the mean: RMSE 1, R² 0.0000)
    """

    n_out = 1
    prediction = "net.predict(X)[:, 0]"

    def __init__(self, y: Array, train: Array, name: str | None) -> None:
        self.outputs = Standardizer(y[train, None], [str(name)])
        self.targets = self.outputs(y[:, None])
        self.loss: Loss = MeanSquaredError()
        self.about: dict[str, Any] = {}
        self._y, self._mean = y, y[train].mean()

    def scores(self, Z: Array, rows: Array) -> tuple[dict[str, float], dict[str, float], str]:
        """Score the network's outputs for some rows, in the target's own units.

        Parameters
        ----------
        Z : ndarray of shape (rows, 1)
        rows : ndarray of int

        Returns
        -------
        score : dict
            Root mean squared error, and coefficient of determination.
        baseline : dict
            Those of always predicting the mean of the training rows.
        text : str
            Both, for the user.
        """
        y = self._y[rows]
        score, baseline = _regression_score(Z[:, 0], y), _regression_score(float(self._mean), y)
        text = (f"RMSE {_amount(score['rmse'])}, R² {score['r2']:.4f}   "
                f"(always the mean: RMSE {_amount(baseline['rmse'])}, R² {baseline['r2']:.4f})")
        return score, baseline, text


def _regression_score(prediction: Array | float, y: Array) -> dict[str, float]:
    squares = np.sum((prediction - y) ** 2)
    spread = np.sum((y - y.mean()) ** 2)
    return {
        "rmse": float(np.sqrt(squares / len(y))),
        "r2": float(1 - squares / spread) if spread > 0 else 0.0,
    }


def _amount(number: float) -> str:
    """A number of any size, as people write it."""
    return f"{number:,.0f}" if 1e4 <= number < 1e15 else f"{number:.5g}"


def _plain(classes: Array) -> list[Any]:
    """Classes as JSON can hold them: whole numbers as int."""
    whole = classes.dtype.kind == "f" and (classes == np.floor(classes)).all()
    return [int(value) for value in classes] if whole else classes.tolist()
