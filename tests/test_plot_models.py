"""Pictures of what models predict, through scikit-learn's displays, for networks too."""

import re
import sys
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.inspection import partial_dependence
from sklearn.linear_model import LinearRegression, LogisticRegression

import fastbp as fb
from fastbp import plot


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 3)).astype("f4")
    y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 0.5)
    net = fb.mlp([3, 16, 3], seed=0)
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01), epochs=10, seed=0)
    return net, X, y


def draw(figure):
    figure.savefig(BytesIO(), format="png")
    return figure


def numbers(axes):
    """The texts in the cells of a confusion matrix."""
    return [float(text.get_text()) for text in axes.texts]


def test_confusion_of_networks_ensembles_and_estimators(classes):
    net, X, y = classes
    predicted = net.predict(X).argmax(axis=1)
    counts = [np.sum((y == i) & (predicted == j)) for i in range(3) for j in range(3)]
    for model in net, fb.Ensemble([net]), fb.Ensemble([net], activation="softmax"):
        axes = draw(plot.confusion(model, X, y)).axes[0]
        assert numbers(axes) == counts
    names = np.array(["low", "middle", "high"])[y]
    model = LogisticRegression().fit(X, names)
    axes = draw(plot.confusion(model, X, names, normalize="true")).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["high", "low", "middle"]
    rows = np.reshape(numbers(axes), (3, 3))
    assert np.allclose(rows.sum(axis=1), 1, atol=0.011)
    picture = plot.confusion(model, X[:9], names[:9])  # of whose classes some may be missing
    assert len(picture.axes[0].texts) == 9


def test_a_single_output_is_two_classes(classes):
    _, X, _ = classes
    y = (X[:, 0] > 0).astype(int)
    net = fb.mlp([3, 1], seed=0)
    net.fit(X, y, loss=fb.SigmoidCrossEntropy(), optimizer=fb.Adam(0.1), epochs=10, seed=0)
    Z = net.predict(X)[:, 0]
    counts = [np.sum((y == i) & ((Z > 0) == j)) for i in range(2) for j in range(2)]
    assert numbers(draw(plot.confusion(net, X, y)).axes[0]) == counts
    (_, line) = draw(plot.calibration(net, X, y, n_bins=4)).axes[0].lines
    P = 1 / (1 + np.exp(-Z.astype(float)))
    order = np.argsort(P)
    means = [P[part].mean() for part in np.array_split(order, 4)]
    shares = [y[part].mean() for part in np.array_split(order, 4)]
    np.testing.assert_allclose(line.get_xdata(), means, rtol=1e-5)
    np.testing.assert_allclose(line.get_ydata(), shares, rtol=1e-5)


def test_scores_whose_probabilities_are_equal_in_float32():
    """The class is that of the largest output, as in evaluate."""
    net = fb.Sequential([fb.Dense(1, 2)], seed=0)
    net.layers[0].W, net.layers[0].b = [[0, 0]], [1, np.nextafter(np.float32(1), np.float32(2))]
    X, y = np.zeros((1, 1)), [1]
    assert net.evaluate(X, y, loss=fb.SoftmaxCrossEntropy())["accuracy"] == 1
    for model in net, fb.Ensemble([net]):
        assert numbers(plot.confusion(model, X, y).axes[0]) == [0, 0, 0, 1]
    single = fb.Sequential([fb.Dense(1, 1)], seed=0)
    single.layers[0].W, single.layers[0].b = [[0]], [1e-9]
    assert single.evaluate(X, y, loss=fb.SigmoidCrossEntropy())["accuracy"] == 1
    for model in single, fb.Ensemble([single]):
        assert numbers(plot.confusion(model, X, y).axes[0]) == [0, 0, 0, 1]
    sure = fb.Sequential([fb.Dense(1, 1)], seed=0)
    sure.layers[0].W, sure.layers[0].b = [[0]], [-1]
    model = fb.Ensemble([sure], activation="sigmoid")
    assert numbers(plot.confusion(model, X, [0]).axes[0]) == [1, 0, 0, 0]


@pytest.mark.parametrize("draw", [plot.confusion, plot.calibration])
def test_predictions_that_are_nan_are_refused(draw):
    net = fb.mlp([3, 4, 2], seed=0)
    net.parameters[:] = np.nan
    with pytest.raises(ValueError, match="got NaN for 5 of 5 rows, the first of them row 0"):
        draw(net, np.ones((5, 3), dtype="f4"), [0, 1, 0, 1, 1])


def test_a_column_may_be_an_integer_of_numpy(classes):
    net, X, _ = classes
    assert plot.partial_dependence(net, X, np.int64(1), output=0).axes


def test_calibration_has_a_line_for_each_class(classes):
    net, X, y = classes
    axes = draw(plot.calibration(net, X, y, n_bins=5)).axes[0]
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["Perfectly calibrated", "0", "1", "2"]
    same = draw(plot.calibration(fb.Ensemble([net]), X, y, n_bins=5)).axes[0]
    for ours, other in zip(axes.lines, same.lines, strict=True):
        np.testing.assert_allclose(ours.get_ydata(), other.get_ydata())
    model = fb.MLPClassifier((8,), max_iter=5, random_state=0, tol=1, n_iter_no_change=2)
    names = np.array(["no", "yes"])[(y > 0).astype(int)]
    axes = draw(plot.calibration(model.fit(X, names), X, names)).axes[0]
    assert axes.get_legend().get_texts()[-1].get_text() == "yes"


def test_partial_dependence_of_a_linear_network_is_its_weights(classes):
    _, X, _ = classes
    net = fb.mlp([3, 2], seed=0)
    for output in 0, 1:
        figure = draw(plot.partial_dependence(net, X, [0, 2, (0, 1)], output=output))
        lines = [axes.lines[0] for axes in figure.axes if axes.lines][:2]
        for column, line in zip((0, 2), lines, strict=True):
            slopes = np.diff(line.get_ydata()) / np.diff(line.get_xdata())
            np.testing.assert_allclose(slopes, net.layers[0].W[column, output], rtol=1e-3)


def test_partial_dependence_is_that_of_scikit_learn(classes):
    _, X, y = classes
    model = LinearRegression().fit(X, np.column_stack([y, X[:, 2]]))
    expected = partial_dependence(model, X, [2], kind="average")["average"][1]
    figure = draw(plot.partial_dependence(model, X, [2], output=1))
    line, = (axes.lines[0] for axes in figure.axes if axes.lines)
    np.testing.assert_allclose(line.get_ydata(), expected, rtol=1e-4)


@pytest.mark.parametrize("label", ["more", "less"])
def test_the_class_that_is_asked_for_of_two(classes, label):
    """Which scikit-learn does not let one choose."""
    _, X, _ = classes
    y = np.where(X[:, 0] > 0, "more", "less")
    model = LogisticRegression().fit(X, y)
    figure = plot.partial_dependence(model, X, 0, output=label, kind="both")
    average = next(line for axes in figure.axes for line in axes.lines
                   if line.get_label() == "average")
    rises = average.get_ydata()[-1] > average.get_ydata()[0]
    assert rises == (label == "more")
    default = plot.partial_dependence(model, X, 0)
    line = next(line for axes in default.axes for line in axes.lines)
    assert line.get_ydata()[-1] > line.get_ydata()[0]  # the second, "more"


def test_partial_dependence_of_a_table_with_categories():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=200), "where": rng.choice(["a", "b"], 200)})
    model = fb.TabPackRegressor(2, max_epochs=8, random_state=0)
    model.fit(table, 2 * table["size"] + 3 * (table["where"] == "b"))
    figure = draw(plot.partial_dependence(model, table[:50], ["size", "where"],
                                          categorical_features=["where"]))
    axes = [each for each in figure.axes if each.get_xlabel() in ("size", "where")]
    assert [each.get_xlabel() for each in axes] == ["size", "where"]
    low, high = (bar.get_height() for bar in axes[1].patches)
    assert high - low > 1


@pytest.mark.parametrize("function", [plot.confusion, plot.calibration])
def test_they_draw_into_the_axes_given(classes, function):
    figure = Figure()
    left, right = figure.subplots(1, 2)
    assert function(*classes, ax=right) is figure
    assert right.has_data() and not left.has_data()
    with pytest.raises(TypeError, match=r"ax: expected axes of matplotlib, as plt\.subplots"):
        function(*classes, ax=figure)


@pytest.mark.parametrize(("call", "message"), [
    (lambda net, X, y: plot.confusion(net, X, y + 1), "from 0 to 2, got int64 such as"),
    (lambda net, X, y: plot.confusion(net, X, y.astype(str)), "y: expected the numbers of the net"),
    (lambda net, X, y: plot.confusion(net, X, y[:5]), "y: expected a class for each row of X, sha"),
    (lambda net, X, y: plot.confusion(net, X[:, :2], y), "X: expected 3 columns"),
    (lambda net, X, y: plot.confusion(net, X, y, normalize="rows"), 'normalize: expected None, "t'),
    (lambda net, X, y: plot.confusion(LinearRegression().fit(X, y), X, y),
     "model: expected a fitted classifier or a network, got LinearRegression"),
    (lambda net, X, y: plot.calibration(LinearRegression().fit(X, y), X, y),
     "model: expected a classifier with predict_proba, or a network, got LinearRegression"),
    (lambda net, X, y: plot.calibration(net, X, y, n_bins=0), "n_bins: expected a whole number"),
    (lambda net, X, y: plot.calibration(LogisticRegression().fit(X, y), X, y + 1),
     "y: expected classes that the model has learned, got 3; they are 0, 1, 2"),
    (lambda net, X, y: plot.calibration(fb.Ensemble([net], activation="exp"), X, y),
     "model: expected an Ensemble with activation='softmax', got one with 'exp'"),
    (lambda net, X, y: plot.partial_dependence(net, X, [0]),
     "output: expected which of the network's outputs to plot, from 0 to 2, got None"),
    (lambda net, X, y: plot.partial_dependence(net, X, [0], output=3), "output: expected a whole"),
    (lambda net, X, y: plot.partial_dependence(net, X, [], output=0), "columns: expected at least"),
    (lambda net, X, y: plot.partial_dependence(LogisticRegression().fit(X, y), X, [0]),
     "output: expected one of the classes 0, 1, 2, got None"),
    (lambda net, X, y: plot.partial_dependence(LinearRegression().fit(X, y), X, [0],
                                               activation="exp"), "activation: expected None for"),
])
def test_bad_arguments(classes, call, message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        call(*classes)


def test_without_scikit_learn_the_error_names_the_extra(classes, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(ImportError, match=r'pip install "fastbp\[sklearn,plot\]"'):
        plot.confusion(*classes)
