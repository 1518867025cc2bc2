"""Pictures of what models predict, through scikit-learn's displays, for networks too."""

import re
import sys
from io import BytesIO

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.sparse import csr_array
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


@pytest.fixture(scope="module")
def tabpack():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"size": rng.normal(size=60), "where": rng.choice(["a", "b"], 60)})
    model = fb.TabPackRegressor(2, max_epochs=8, random_state=0)
    return model.fit(table, 2 * table["size"] + 3 * (table["where"] == "b")), table


@pytest.mark.parametrize("dtype", [object, "str", "category"])
def test_columns_of_text_have_a_bar_for_each_category(tabpack, dtype):
    model, table = tabpack
    figure = plot.partial_dependence(model, table.astype({"where": dtype}), "where")
    (axes,) = [each for each in figure.axes if each.get_xlabel() == "where"]
    assert len(axes.patches) == 2


def test_columns_of_text_in_rows_without_names(tabpack):
    _, table = tabpack
    rows = table.to_numpy().tolist()
    model = fb.TabPackRegressor(2, max_epochs=2, random_state=0)
    model.fit(np.array(rows, dtype=object), table["size"])
    figure = plot.partial_dependence(model, rows, [0, 1])
    assert sorted(len(axes.patches) for axes in figure.axes)[-2:] == [0, 2]


@pytest.mark.parametrize("dtype", ["int64", "Int64", "float32", "Float32", "int8"])
def test_columns_of_all_numbers(dtype):
    """Which scikit-learn refuses, or cannot write other numbers into."""
    table = pd.DataFrame({"size": np.arange(50) % 7}).astype(dtype)
    model = LinearRegression().fit(table, table["size"].astype(float))
    axes = plot.partial_dependence(model, table, "size", grid_resolution=5).axes
    (line,) = [each.lines[0] for each in axes if each.lines]
    np.testing.assert_allclose(line.get_xdata(), [0, 1.5, 3, 4.5, 6])
    np.testing.assert_allclose(line.get_ydata(), line.get_xdata(), atol=1e-6)
    assert table["size"].dtype == dtype


def test_rows_in_lists(classes):
    net, X, _ = classes
    figures = [plot.partial_dependence(net, rows, [1], output=0) for rows in (X, X.tolist())]
    ours, other = (next(axes.lines[0] for axes in each.axes if axes.lines) for each in figures)
    np.testing.assert_allclose(ours.get_ydata(), other.get_ydata(), rtol=1e-5)


def test_numbers_are_indices_whatever_columns_are_called(classes):
    net, X, _ = classes
    table = pd.DataFrame(X, columns=[10, 20, 30])
    figure = plot.partial_dependence(net, table, [1], output=0)
    assert "20" in [axes.get_xlabel() for axes in figure.axes]
    with pytest.raises(ValueError, match="got 20; a number is an index: 1 for the column of this"):
        plot.partial_dependence(net, table, [20], output=0)
    named = plot.partial_dependence(net, X, "b", output=0, feature_names=["a", "b", "c"])
    assert "b" in [axes.get_xlabel() for axes in named.axes]


@pytest.mark.parametrize(("change", "columns", "message"), [
    (lambda table: table, None, "columns: expected names or indices of X's 2 columns, 'size', 'wh"),
    (lambda table: table, "town", "'size', 'where', got 'town'"),
    (lambda table: table, [-1], "'size', 'where', got -1"),
    (lambda table: table, [True], "'size', 'where', got True"),
    (lambda table: table, [("size", "where", 0)], "columns: expected single columns and pairs, g"),
    (lambda table: table[:0], "size", "X: expected at least one row, got none"),
    (lambda table: table["size"], "size", "X: expected shape (rows, columns), got shape (60,)"),
    (lambda table: [[1, 2], [3]], 0, "X: expected rows of the same length, got a list of others"),
    (lambda table: csr_array(np.eye(2)), 0, "got a sparse matrix; pass X.toarray()"),
    (lambda table: table.assign(where=table["where"].where(table["size"] > 0)), "where",
     "X: column 'where': expected text in each row, to plot a bar for each category, got nan in r"),
    (lambda table: table.assign(where=pd.Timestamp("2024-02-29")), "where",
     "X: column 'where': expected an array of real numbers, got dtype datetime64[us]; dates and "),
])
def test_bad_rows_and_columns(tabpack, change, columns, message):
    model, table = tabpack
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        plot.partial_dependence(model, change(table), columns)


def test_frames_of_polars_are_to_be_converted(classes):
    polars = pytest.importorskip("polars")
    net, X, _ = classes
    with pytest.raises(TypeError, match=r"X: expected an array or a data frame of pandas, got "
                                        r"polars\.DataFrame; convert it, as with X\.to_pandas\(\)"):
        plot.partial_dependence(net, polars.DataFrame({"a": X[:, 0]}), "a")


def test_classes_in_an_array_of_objects(classes):
    net, X, y = classes
    expected = numbers(plot.confusion(net, X, y).axes[0])
    assert numbers(plot.confusion(net, X, y.astype(object)).axes[0]) == expected
    names = np.array(["low", "middle", "high"])[y]
    model = LogisticRegression().fit(X, names)
    expected = numbers(plot.confusion(model, X, names).axes[0])
    assert numbers(plot.confusion(model, X, pd.Series(names, dtype=object)).axes[0]) == expected


@pytest.mark.parametrize("draw", [plot.confusion, plot.calibration])
@pytest.mark.parametrize(("change", "message"), [
    (lambda y: [None, *y[1:]], "y: expected a class for each row, got None in row 0; leave such"),
    (lambda y: [*y[:-1], np.nan], "y: expected a class for each row, got nan in row 299"),
    (lambda y: [*y[:-1], pd.NA], "got <NA> in row 299"),
    (lambda y: [*y[:2], 7, *y[3:]],
     "expected classes that are all numbers or all text, got 'low' in row 0 and 7 in row 2"),
    (lambda y: [y.tolist()] + [[0, 1]] * 299, "y: expected a class for each row, got ["),
    (lambda y: np.full(300, "2024-02-29", "M8[D]"), "y: expected classes that are numbers or tex"),
    (lambda y: np.zeros(300, int), "y: expected classes"),
])
def test_bad_classes(classes, draw, change, message):
    _, X, y = classes
    names = np.array(["low", "middle", "high"])[y]
    names[0] = "low"
    model = LogisticRegression().fit(X, names)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        draw(model, X, change(names.astype(object)))


@pytest.mark.parametrize("draw", [plot.confusion, plot.calibration])
def test_no_rows(classes, draw):
    net, X, y = classes
    with pytest.raises(ValueError, match="X: expected at least one row, got none"):
        draw(net, X[:0], y[:0])


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
