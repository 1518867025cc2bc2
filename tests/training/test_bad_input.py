"""What fit refuses: by name, and with nothing changed."""

import math

import numpy as np
import pytest

import fastbp as fb

from .fits import CROSS_ENTROPY, SQUARED, a_fit, a_net


def with_value(value, row, column=None, shape=(12, 4)):
    array = np.ones(shape)
    array[(row,) if column is None else (row, column)] = value
    return array


X, y = np.ones((12, 4)), np.arange(12) % 3
nan, inf = math.nan, math.inf
FAMILIES = {
    "dimensions": [
        ({"X": X[0]}, ValueError, r"X: expected 2 dimensions.*got 1 \(shape \(4,\)\)"),
        ({"X": X[None]}, ValueError, "X: expected 2 dimensions.*got 3"),
        ({"X": 1.0}, ValueError, "X: expected 2 dimensions.*got 0"),
        ({"y": y[:, None]}, ValueError, r"y: expected shape \(any, 3\).*got \(12, 1\)"),
        ({"y": y[None, None]}, ValueError, r"y: expected shape \(any, 3\)"),
        ({"sample_weight": np.ones((12, 1))}, ValueError, r"sample_weight: .*got \(12, 1\)"),
        ({"validation_data": (X[0], y)}, ValueError, "validation_data X: expected 2 dimensions"),
    ],
    "sizes": [
        ({"X": X[:, :3]}, ValueError, r"X: expected 4 columns.*got 3 \(shape \(12, 3\)\)"),
        ({"y": y[:11]}, ValueError, "y: expected 12 rows like X, got 11"),
        ({"y": np.ones((12, 4)) / 4}, ValueError, r"y: expected shape \(any, 3\).*got \(12, 4\)"),
        ({"sample_weight": np.ones(11)}, ValueError, r"sample_weight: expected shape \(12,\)"),
        ({"validation_data": (X[:, 1:], y)}, ValueError, "validation_data X: expected 4 columns"),
        ({"validation_data": (X, y[1:])}, ValueError, "validation_data y: expected 12 rows"),
        ({"validation_data": (X, y, np.ones(3))}, ValueError, "validation_data sample_weight: "),
        ({"y": X[:, :2], "loss": SQUARED}, ValueError, r"y: .*\(any, 3\).*got \(12, 2\)"),
    ],
    "kinds of arrays": [
        ({"X": X.astype(object)}, TypeError, "X: expected an array of real numbers.*object"),
        ({"X": X.astype(str)}, TypeError, "X: .*<U32.*text"),
        ({"X": X.astype(complex)}, TypeError, "X: .*complex128"),
        ({"X": X.astype("M8[D]")}, TypeError, r"X: .*datetime64"),
        ({"X": [[1, 2, 3, 4], [5]]}, ValueError, "X: expected an array of numbers"),
        ({"X": None}, TypeError, "X: .*None"),
        ({"y": y.astype(object)}, TypeError, "y: .*object"),
        ({"y": y.astype(str)}, TypeError, "y: .*text"),
        ({"y": y + 0j}, TypeError, "y: .*complex"),
        ({"sample_weight": ["a"] * 12}, TypeError, "sample_weight: .*text"),
        ({"validation_data": (X, y.astype(str))}, TypeError, "validation_data y: .*text"),
    ],
    "NaN and infinity": [
        ({"X": with_value(nan, 7, 2)}, ValueError, "X: .*got nan in row 7, column 2"),
        ({"X": with_value([-inf, nan], 3, slice(1, 3))}, ValueError, "-inf in row 3, column 1"),
        ({"X": with_value(1e39, 5, 1)}, ValueError, "X as float32: .*inf in row 5, column 1"),
        ({"X": with_value(inf, 0, 3).astype("f2")}, ValueError, "X: .*inf in row 0, column 3"),
        ({"y": with_value(nan, 4, None, 12)}, ValueError, "y: .*got nan in row 4"),
        ({"y": with_value(inf, 4, 1, (12, 3)), "loss": SQUARED}, ValueError,
         "y: .*inf in row 4, column 1"),
        ({"sample_weight": with_value(nan, 2, None, 12)}, ValueError, "sample_weight: .*row 2"),
        ({"validation_data": (with_value(nan, 1, 0), y)}, ValueError,
         "validation_data X: .*row 1, column 0"),
    ],
    "labels": [
        ({"y": y - 1}, ValueError, "y: .*whole numbers from 0 to 2.*got -1 in row 0"),
        ({"y": y + 1}, ValueError, "y: .*3 outputs, got 3 in row 2"),
        ({"y": y + 0.5}, ValueError, "y: .*got 0.5 in row 0"),
        ({"y": np.ones((12, 3))}, ValueError, "y: .*add up to 1.*row 0"),
        ({"y": 2 * np.eye(3)[y], "loss": fb.SigmoidCrossEntropy()}, ValueError,
         "y: .*between 0 and 1, got 2.0 in row 0, column 0"),
    ],
    "weights": [
        ({"sample_weight": with_value(-1, 3, None, 12)}, ValueError,
         "sample_weight: .*got -1.0 in row 3"),
        ({"sample_weight": np.zeros(12)}, ValueError, "sample_weight: expected the largest"),
    ],
    "nothing": [
        ({"X": np.ones((0, 4)), "y": []}, ValueError, r"X: expected at least one row.*\(0, 4\)"),
        ({"X": []}, ValueError, "X: expected 2 dimensions"),
        ({"y": []}, ValueError, "y: expected at least one row"),
        ({"sample_weight": []}, ValueError, "sample_weight: expected at least one row"),
        ({"validation_data": (X[:0], y[:0])}, ValueError, "validation_data X: expected at least"),
    ],
    "counts": [
        *(({name: value}, error, f"{name}: expected a whole number.*got {value!r}")
          for name in ("epochs", "batch_size")
          for value, error in [(0, ValueError), (-3, ValueError), (2.5, TypeError),
                               ("8", TypeError), (None, TypeError), (True, ValueError)]),
        ({"seed": -1}, ValueError, "seed: .*at least 0, got -1"),
        ({"seed": 1.5}, TypeError, "seed: .*got 1.5"),
    ],
    "penalty": [
        *(({"l2": value}, ValueError, f"l2: expected a finite number and at least 0, got {value}")
          for value in (-1, nan, inf)),
        ({"l2": "1"}, TypeError, "l2: expected a number, got '1'"),
        ({"l2": None}, TypeError, "l2: expected a number, got None"),
    ],
    "shares": [
        *(({"validation_fraction": value}, ValueError, f"validation_fraction: .*got {value}")
          for value in (1, -0.1, nan, 0.01, 0.99)),
        ({"validation_fraction": "0.2"}, TypeError, "validation_fraction: .*got '0.2'"),
    ],
    "learning rate": [
        ({"optimizer": fb.SGD(lambda t: -1)}, ValueError, "learning_rate at epoch 0: .*got -1"),
        ({"optimizer": fb.Adam(lambda t: nan)}, ValueError, "learning_rate at epoch 0: .*got nan"),
        ({"optimizer": fb.SGD(lambda t: None)}, TypeError, "learning_rate at epoch 0: .*None"),
    ],
    "objects": [
        ({"loss": None}, TypeError, "loss: expected a Loss.*got None"),
        ({"loss": "mse"}, TypeError, "loss: expected a Loss.*got 'mse'"),
        ({"loss": fb.Huber}, TypeError, r"loss: .*the class Huber; make one: Huber\(\)"),
        ({"optimizer": "adam"}, TypeError, "optimizer: expected an Optimizer.*got 'adam'"),
        ({"optimizer": fb.Adam}, TypeError, "optimizer: .*Adam"),
        ({"callbacks": [3]}, TypeError, "callbacks: .*got 3"),
        ({"callbacks": [fb.EarlyStopping]}, TypeError, "callbacks: .*class EarlyStopping"),
        ({"callbacks": fb.EarlyStopping()}, TypeError, "callbacks: "),
        ({"callbacks": None}, TypeError, "callbacks: "),
        ({"callbacks": [fb.EarlyStopping()]}, ValueError, "val_loss.*validation_data"),
        ({"validation_data": X}, ValueError, r"validation_data: .*\(X, y\).*ndarray"),
        ({"validation_data": (X,)}, ValueError, r"validation_data: .*\(X, y\)"),
    ],
}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [pytest.param(*case, id=f"{family} {i}") for family, cases in FAMILIES.items()
     for i, case in enumerate(cases)],
)
def test_bad_input(arguments, error, message):
    """It is refused, by name, and the network is as if the call had not been made."""
    net, twin = a_net(), a_net()
    for each in (net, twin):
        a_fit(each, X, y)
    bits, gradients, history = net.parameters.tobytes(), net.gradients.tobytes(), net.history
    good = {"X": X, "y": y, "loss": CROSS_ENTROPY, "epochs": 1}
    with pytest.raises(error, match=message):
        net.fit(**good | arguments)
    assert net.parameters.tobytes() == bits
    if "at epoch" in message:  # a schedule is asked in the middle of a training
        return
    assert net.gradients.tobytes() == gradients
    assert net.history is history
    for each in (net, twin):
        a_fit(each, X, y)
    assert net.parameters.tobytes() == twin.parameters.tobytes()


def test_nan_is_found_far_into_the_data():
    X = np.zeros((20_000, 2), "f4")
    X[17_654, 1] = nan
    X[19_000, 0] = inf
    with pytest.raises(ValueError, match=r"^X: .*nan in row 17654, column 1"):
        fb.mlp([2, 1]).fit(X, np.zeros(len(X)), loss=SQUARED)


@pytest.mark.parametrize("arguments", [{"X": X[:, :2]}, {"y": y - 1}, {"loss": None},
                                       {"sample_weight": [1]}, {"X": with_value(nan, 7, 2)}])
def test_evaluate_refuses_the_same(arguments):
    with pytest.raises((ValueError, TypeError), match=f"^{next(iter(arguments))}: "):
        a_net().evaluate(**{"X": X, "y": y, "loss": CROSS_ENTROPY} | arguments)


@pytest.mark.parametrize("value", [np.bool_(True), np.bool_(False)])
def test_numpys_booleans_are_switches(value):
    first, second = a_net(), a_net()
    a_fit(first, shuffle=value, gradient_norms=value, seed=0)
    a_fit(second, shuffle=bool(value), gradient_norms=bool(value), seed=0)
    assert first.parameters.tobytes() == second.parameters.tobytes()
    assert list(first.history) == list(second.history)


@pytest.mark.parametrize("name", ["gradient_norms", "resume"])
@pytest.mark.parametrize("value", ["False", 1, None, np.ones(2), []])
def test_switches_are_booleans(name, value, tmp_path):
    net = a_net()
    with pytest.raises(TypeError, match=f"^{name}: expected True or False"):
        a_fit(net, checkpoint=tmp_path / "run", **{name: value})
    assert net.history is None and not (tmp_path / "run").exists()
