"""Pictures of a history: what is drawn where, without a display, and what is refused."""

import subprocess
import sys
from io import BytesIO

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

import fastbp as fb
from fastbp import plot


def history(epochs=4, **values):
    record = fb.History(values, ["0 Dense", "2 Dense"])
    for key, value in values.items():
        record[key] = list(value)[:epochs]
    return record


def classified(epochs=4, **more):
    return history(
        epochs, loss=[3.0, 2.0, 1.0, 0.5], accuracy=[0.1, 0.2, 0.3, 0.4],
        val_loss=[3.5, 2.5, 2.25, 2.75], val_accuracy=[0.1, 0.2, 0.25, 0.2],
        learning_rate=[1, 1, 1, 1], seconds=[9, 9, 9, 9], **more,
    )


def curves(figure):
    """Every line of a figure by its label, as lists of x and y."""
    return {
        line.get_label(): (line.get_xdata().tolist(), line.get_ydata().tolist())
        for ax in figure.axes for line in ax.lines
    }


def draw(figure):
    """Draw it for real: layout and ticks only then have their say."""
    picture = BytesIO()
    figure.savefig(picture, format="png")
    assert picture.getvalue().startswith(b"\x89PNG")
    return figure


def whole_ticks(axis, low, high):
    ticks = [tick for tick in axis.get_ticklocs() if low <= tick <= high]
    return len(ticks) > 0 and all(tick == round(tick) for tick in ticks)


def test_learning_curves_draws_loss_and_metric_by_epoch_from_1():
    figure = draw(plot.learning_curves(classified()))
    epochs = [1, 2, 3, 4]
    assert curves(figure) == {
        "training loss": (epochs, [3.0, 2.0, 1.0, 0.5]),
        "validation loss": (epochs, [3.5, 2.5, 2.25, 2.75]),
        "lowest: epoch 3": ([3], [2.25]),
        "training accuracy": (epochs, [0.1, 0.2, 0.3, 0.4]),
        "validation accuracy": (epochs, [0.1, 0.2, 0.25, 0.2]),
    }
    left, right = figure.axes
    assert (left.get_xlabel(), left.get_ylabel(), right.get_ylabel()) == ("epoch", "loss",
                                                                          "accuracy")
    legend = [text.get_text() for text in right.get_legend().get_texts()]
    assert legend == list(curves(figure))


@pytest.mark.parametrize("epochs", [1, 2, 4])
def test_epoch_ticks_are_whole_numbers(epochs):
    figure = draw(plot.learning_curves(classified(epochs)))
    assert whole_ticks(figure.axes[0].xaxis, 1, epochs)
    assert figure.axes[0].get_xlim()[0] > 0  # there is no epoch 0


def test_a_single_epoch_can_be_seen():
    figure = plot.learning_curves(classified(1))
    assert all(line.get_marker() not in (None, "None", "") for line in figure.axes[0].lines)


def test_learning_curves_without_validation_or_metric():
    assert list(curves(draw(plot.learning_curves(history(loss=[2.0, 1.0]))))) == ["training loss"]


def test_validation_losses_that_are_not_numbers_are_no_lowest():
    record = history(3, loss=[3.0, 2.0, 1.0], val_loss=[np.nan, 2.0, np.inf])
    assert "lowest: epoch 2" in curves(draw(plot.learning_curves(record)))
    record = history(2, loss=[3.0, 2.0], val_loss=[np.nan, np.nan])
    assert not any("lowest" in label for label in curves(draw(plot.learning_curves(record))))


def test_r2_far_below_0_does_not_flatten_the_rest():
    record = history(loss=[9.0, 1.0, 0.5], r2=[-500.0, 0.5, 0.7])
    figure = draw(plot.learning_curves(record))
    assert figure.axes[1].get_ylabel() == "R²"
    assert figure.axes[1].get_ylim()[0] == -1


def test_what_fit_returns_can_be_drawn(rng):
    X = rng.normal(size=(40, 3))
    net = fb.mlp([3, 4, 1], seed=0)
    record = net.fit(X, X[:, 0], loss=fb.MeanSquaredError(), epochs=2, validation_fraction=0.25,
                     gradient_norms=True)
    lines = curves(draw(plot.learning_curves(record)))
    assert lines["training loss"][1] == record["loss"]
    assert lines["validation R²"][1] == record["val_r2"]
    draw(plot.gradient_flow(record))


@pytest.mark.parametrize("function", [plot.learning_curves, plot.gradient_flow])
def test_draws_into_the_axis_given(function):
    figure = Figure()
    other, mine = figure.subplots(1, 2)
    record = classified(gradient_norms=[np.array([1.0, 2.0])] * 4)
    assert function(record, ax=mine) is figure
    assert mine.lines and not other.lines
    draw(figure)


NORMS = [np.array([1e-6, 1e-1]), np.array([1e-5, 1.0]), np.array([1e-4, 2.0])]


def test_gradient_flow_has_a_line_per_epoch_over_the_layers():
    figure = draw(plot.gradient_flow(history(gradient_norms=NORMS)))
    main, bar = figure.axes
    assert [line.get_ydata().tolist() for line in main.lines] == [row.tolist() for row in NORMS]
    assert len({line.get_color() if isinstance(line.get_color(), str)
                else tuple(line.get_color()) for line in main.lines}) == 3
    assert main.get_yscale() == "log"
    assert [label.get_text() for label in main.get_xticklabels()] == ["0 Dense", "2 Dense"]
    assert bar.get_ylabel() == "epoch" and whole_ticks(bar.yaxis, 1, 3)
    assert bar.get_ylim() == (1, 3)
    low, high = main.get_ylim()
    assert low < 1e-6 and high > 2


def test_gradient_flow_of_one_epoch_and_one_layer():
    figure = draw(plot.gradient_flow(history(gradient_norms=[np.array([0.5, 0.25])])))
    assert len(figure.axes) == 1  # one colour needs no scale
    record = history(gradient_norms=[np.array([0.5])])
    record.layer_names = ["0 Dense"]
    (line,) = draw(plot.gradient_flow(record)).axes[0].lines
    assert line.get_marker() == "."


@pytest.mark.parametrize("norms", [
    [np.array([0.0, 1e-3])],
    [np.array([0.0, 1e-3]), np.array([1e-2, 0.0])],
    [np.array([0.0, 0.0])] * 2,
])
def test_norms_of_0_are_marked_below_the_others_on_the_log_scale(norms):
    ax = draw(plot.gradient_flow(history(gradient_norms=norms))).axes[0]
    norms = np.array(norms)
    (marks,) = (c for c in ax.collections if isinstance(c, PathCollection))
    x, y = np.asarray(marks.get_offsets()).T
    assert sorted(x) == sorted(np.nonzero(norms == 0)[1])
    low, high = ax.get_ylim()
    assert (low < y).all() and (y < high).all() and np.isfinite([low, high]).all()
    drawn = np.array([line.get_ydata() for line in ax.lines])
    np.testing.assert_array_equal(np.isnan(drawn), norms == 0)
    if (norms > 0).any():
        assert (y < norms[norms > 0].min()).all()


def test_vanishing_gradients_are_plain_to_see_and_gone_with_relu(rng):
    X, span = rng.normal(size=(64, 8)), {}
    y = (X[:, 0] > 0).astype(int)
    for activation in "sigmoid", "relu":
        net = fb.mlp([8, *[16] * 8, 2], activation, seed=0)
        record = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=2, gradient_norms=True)
        ax = draw(plot.gradient_flow(record)).axes[0]
        first_epoch = ax.lines[0].get_ydata()
        span[activation] = first_epoch[-1] / first_epoch[0]
        low, high = ax.get_ylim()
        height = np.log(span[activation]) / np.log(high / low)  # share of the picture's height
        assert height > 0.7 if activation == "sigmoid" else abs(height) < 0.3
    assert span["sigmoid"] > 1e3 and 0.1 < span["relu"] < 10


@pytest.mark.parametrize("function", [plot.learning_curves, plot.gradient_flow])
@pytest.mark.parametrize("not_a_history", [None, [1.0], fb.mlp([2, 1])])
def test_anything_but_a_history_is_refused(function, not_a_history):
    with pytest.raises(TypeError, match=r"history: expected what fit returns.*net\.history"):
        function(not_a_history)


def test_a_history_without_the_key_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"fit\(\.\.\., gradient_norms=True\) records.*has no"):
        plot.gradient_flow(classified())
    with pytest.raises(ValueError, match="no epoch is recorded"):
        plot.learning_curves(fb.History(["loss"]))
    with pytest.raises(ValueError, match="no layer of this network has parameters"):
        plot.gradient_flow(history(gradient_norms=[np.array([])]))


@pytest.mark.parametrize("function", [plot.learning_curves, plot.gradient_flow])
def test_without_matplotlib_the_error_names_the_extra(function, monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r'pip install "fastbp\[plot\]"'):
        function(classified(gradient_norms=NORMS + NORMS[:1]))


def test_matplotlib_is_imported_when_drawing_and_pyplot_never():
    code = """
import sys, io, fastbp as fb
assert not any(name.startswith("matplotlib") for name in sys.modules)
fb.plot.learning_curves({"loss": [2.0, 1.0]}).savefig(io.BytesIO())
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(("draw", "message"), [
    (plot.learning_rates, "test: expected what fastbp.lr_finder returns, got History"),
    (plot.ensemble_selection, "history: expected model.history_ of a TabPack.*got History")])
def test_other_things_than_those_to_plot(draw, message):
    net = fb.mlp([2, 1], seed=0)
    net.fit(np.eye(2), np.ones((2, 1)), loss=fb.MeanSquaredError(), epochs=1, seed=0)
    with pytest.raises(TypeError, match=message):
        draw(net.history)


@pytest.mark.parametrize(("model", "metric"), [
    (lambda: fb.TabPackClassifier(2, max_epochs=2), "negative log loss"),
    (lambda: fb.TabPackClassifier(2, max_epochs=2, scoring="accuracy"), "accuracy"),
    (lambda: fb.TabPackClassifier(2, max_epochs=2, scoring="f1_macro"), "f1_macro"),
    (lambda: fb.TabPackRegressor(2, max_epochs=2), "negative RMSE of standardized targets"),
    (lambda: fb.TabPackRegressor(2, max_epochs=2, quantiles=[0.1, 0.9]),
     "negative pinball loss of standardized targets"),
])
def test_the_axis_names_the_metric_that_members_are_selected_by(model, metric):
    X = np.random.default_rng(0).normal(size=(60, 2))
    history = model().fit(X, np.arange(60) % 2).history_
    assert plot.ensemble_selection(history).axes[0].get_ylabel() == f"{metric} on validation rows"
