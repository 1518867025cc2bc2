"""The command ``fastbp``: what it learns, says, saves and refuses."""

import contextlib
import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
from sklearn.linear_model import LinearRegression

import fastbp as fb
from fastbp import datasets
from fastbp.__main__ import main
from fastbp.cli.options import build_parser
from fastbp.cli.tasks import decide_task

FILES = ["learning_curves.png", "model.json", "model.safetensors"]


def run(*arguments):
    """What ``main`` prints; it must succeed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main([str(argument) for argument in arguments]) == 0
    return out.getvalue()


def printed_code(out):
    """The lines of Python at the end of what was printed."""
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"    (from|import) ", line))
    code = lines[start:]
    assert all(not line or line.startswith("    ") for line in code)
    return textwrap.dedent("\n".join(code))


def execute(code):
    names = {}
    exec(code, names)
    return names


def number(name, out):
    return float(re.search(rf"{name} (-?[\d.,e+]+\d)", out)[1].replace(",", ""))


# The digits


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """What a run without options printed and saved."""
    folder = tmp_path_factory.mktemp("digits")
    with contextlib.chdir(folder):
        return run(), folder / "fastbp-output"


def test_reads_the_digits(digits):
    out, folder = digits
    accuracy = number("accuracy", out[out.index("held out  ") :])
    assert accuracy >= 0.97
    X, y = datasets.digits("test")
    net = fb.load(folder / "model.safetensors")
    assert round(np.mean(net.predict(X).argmax(axis=1) == y), 4) == accuracy


@pytest.mark.parametrize("seed", [1, 2])
def test_reads_the_digits_from_other_seeds(seed, tmp_path):
    assert number("accuracy", run("--seed", seed, "--quiet", "--output", tmp_path)) >= 0.97


def test_says_what_it_runs_on_and_each_epoch(digits):
    out, _ = digits
    isa = re.escape(fb.kernels.dispatch.isa())
    assert re.match(rf"fastbp +{re.escape(fb.__version__)}, {isa} instructions, \d+ threads?, "
                    r"float32\n", out)
    assert "1,438 to train on, 359 held out, 10 classes" in out
    assert "64-128-10" in out and "9,610 parameters" in out
    assert re.findall(r"^epoch +(\d+)/30 ", out, re.M) == [str(i) for i in range(1, 31)]


def test_saves_and_says_where(digits):
    out, folder = digits
    assert sorted(path.name for path in folder.iterdir()) == FILES
    for name in FILES:
        assert str(Path("fastbp-output") / name) in out
    assert (folder / "learning_curves.png").read_bytes().startswith(b"\x89PNG")
    about = json.loads((folder / "model.json").read_text("utf-8"))
    assert about["classes"] == list(range(10)) and about["score"]["accuracy"] >= 0.97


def test_the_three_lines_do_the_same(digits):
    out, folder = digits
    code = printed_code(out)
    head, lines = code.split("\n\n")
    assert head.startswith("from fastbp import") and "\n" not in head
    assert len(lines.splitlines()) == 3 and max(map(len, code.splitlines())) <= 100
    saved = fb.load(folder / "model.safetensors")
    np.testing.assert_array_equal(execute(code)["net"].parameters, saved.parameters)


@pytest.mark.parametrize("options", [
    ["--hidden", 12, 8, "--activation", "tanh", "--dropout", 0, "--learning-rate", 0.05],
    ["--hidden", "--batch-size", 100, "--seed", 7],
])
def test_the_lines_follow_the_options(options, tmp_path):
    out = run(*options, "--epochs", 2, "--output", tmp_path)
    saved = fb.load(tmp_path / "model.safetensors")
    net = execute(printed_code(out))["net"]
    assert repr(net) == repr(saved)
    np.testing.assert_array_equal(net.parameters, saved.parameters)


def test_as_a_command(tmp_path):
    done = subprocess.run([sys.executable, "-m", "fastbp", "--epochs", "2"], cwd=tmp_path,
                          capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout
    assert sorted(path.name for path in (tmp_path / "fastbp-output").iterdir()) == FILES
    done = subprocess.run([sys.executable, "-m", "fastbp", "--data", "none.csv"], cwd=tmp_path,
                          capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert done.stderr == "fastbp: none.csv: No such file or directory\n"


# A table


def write_csv(path, header, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def test_classes_whose_order_as_text_is_another(tmp_path):
    rng = np.random.default_rng(0)
    rows = [[f"{x:.3f}", color, 2.5 if x < 0 else 10.5]
            for x, color in zip(rng.normal(size=200), rng.choice(["red", "blue"], 200),
                                strict=True)]
    path = write_csv(tmp_path / "t.csv", ["x", "color", "size"], rows)
    out = run("--data", path, "--target", "size", "--task", "classification", "--model", "tabpack",
              "--members", 2, "--output", tmp_path / "out")
    assert float(re.search(r"accuracy ([\d.]+)", out)[1]) > 0.9


@pytest.fixture
def iris(tmp_path):
    data = sklearn.datasets.load_iris()
    rows = [[*x, data.target_names[y]] for x, y in zip(data.data, data.target, strict=True)]
    return write_csv(tmp_path / "iris.csv", ["length", "width", "p length", "p width", "kind"],
                     rows)


def test_classification_of_text(iris, tmp_path):
    folder = tmp_path / "out" / "iris"
    out = run("--data", iris, "--target", "kind", "--output", folder, "--epochs", 60)
    assert ("task      classification: 'kind' holds text, 3 different (setosa, versicolor, "
            "virginica)") in out
    assert "120 to train on, 30 held out" in out
    assert number("accuracy", out[out.index("held out  ") :]) > 0.85
    assert "(always setosa: 0.3333)" in out
    about = json.loads((folder / "model.json").read_text("utf-8"))
    assert about["columns"] == ["length", "width", "p length", "p width"]
    assert about["classes"] == ["setosa", "versicolor", "virginica"]
    prediction = execute(printed_code(out))["prediction"]
    table = datasets.read_table(iris, "kind")
    _, test = datasets.hold_out(table.y, 0.2, 0, stratify=True)
    right = np.array(prediction) == table.y
    assert right[test].mean() == about["score"]["accuracy"]
    assert right.mean() > 0.9


@pytest.fixture
def line(tmp_path, rng):
    """An .npz file: a target in large units, from columns far from 0, as time stamps are."""
    X = rng.normal(size=(400, 3)) * [1e4, 1e-3, 1] + [1.6e9, 100, 0]
    y = 2e5 + 1e5 * ((X[:, 0] - 1.6e9) / 1e4 + X[:, 2]) + rng.normal(size=400) * 1e3
    np.savez(tmp_path / "line.npz", X=X, y=y)
    return tmp_path / "line.npz"


def test_regression_in_the_units_of_the_file(line, tmp_path):
    out = run("--data", line, "--output", tmp_path)
    assert "task      regression: 'y' holds numbers, 400 different" in out
    table = datasets.read_table(line)
    train, test = datasets.hold_out(table.y, 0.2, 0)
    y = table.y[test]
    score = out[out.index("held out  ") :]
    by_mean = np.sqrt(np.mean((table.y[train].mean() - y) ** 2))
    assert number(r"mean: RMSE", score) == round(by_mean)
    rmse = number("RMSE", score)
    assert rmse < 0.15 * by_mean
    # The lines that were printed read the saved network, which takes the columns as they are.
    prediction = execute(printed_code(out))["prediction"]
    assert np.sqrt(np.mean((prediction[test] - y) ** 2)) == pytest.approx(rmse, abs=1)
    r2 = 1 - np.sum((prediction[test] - y) ** 2) / np.sum((y - y.mean()) ** 2)
    assert number("R²", score) == pytest.approx(r2, abs=1e-4)


def test_what_is_saved_agrees_with_what_was_trained(line, tmp_path):
    run("--data", line, "--output", tmp_path, "--epochs", 3, "--hidden", 8, "--dropout", 0)
    table = datasets.read_table(line)
    train, _ = datasets.hold_out(table.y, 0.2, 0)
    inputs = datasets.Standardizer(table.X[train])
    outputs = datasets.Standardizer(table.y[train, None])
    net = fb.mlp([3, 8, 1], seed=0)
    net.fit(inputs(table.X[train]), outputs(table.y[train, None]), loss=fb.MeanSquaredError(),
            optimizer=fb.Adam(fb.schedules.Cosine(0.005, 3)), epochs=3)
    expected = net.predict(inputs(table.X)) * outputs.scale + outputs.mean
    saved = fb.load(tmp_path / "model.safetensors").predict(table.X)
    assert abs(saved - expected).max() < 1e-5 * outputs.scale


@pytest.mark.parametrize("task", ["regression", "classification"])
def test_held_out_rows_have_no_say_in_what_is_learned(tmp_path, rng, task):
    X, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    if task == "classification":
        y = np.arange(60) % 2
    _, test = datasets.hold_out(y, 0.25, 3, stratify=task == "classification")
    parameters = []
    for factor in 1, 1000:
        X[test] *= factor
        np.savez(tmp_path / "t.npz", X=X, y=y)
        run("--data", tmp_path / "t.npz", "--output", tmp_path, "--epochs", 2, "--seed", 3,
            "--test-share", 0.25, "--task", task)
        parameters.append(fb.load(tmp_path / "model.safetensors").parameters)
        if task == "regression":
            y[test] -= 1e6
    np.testing.assert_array_equal(*parameters)


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_what_is_saved_predicts_with_the_precision_asked_for(line, tmp_path, precision, rng):
    np.savez(tmp_path / "near.npz", X=rng.normal(size=(100, 3)) + 20, y=rng.normal(size=100))
    for path, expected in ((tmp_path / "near.npz", (np.float32, precision)),
                           (line, (np.float64, "highest"))):  # float32 would lose time stamps
        run("--data", path, "--output", tmp_path, "--epochs", 1, "--precision", precision)
        net = fb.load(tmp_path / "model.safetensors")
        assert (net.dtype, net.precision) == expected


def test_options_shape_the_network(iris, tmp_path):
    out = run("--data", iris, "--target", "kind", "--drop", "width", "--drop", "p width",
              "--hidden", 5, 4, "--activation", "gelu", "--dropout", 0.25, "--epochs", 1,
              "--batch-size", 60, "--test-share", 0.5, "--output", tmp_path)
    assert "75 to train on, 75 held out" in out and "batches of 60" in out
    net = fb.load(tmp_path / "model.safetensors")
    assert [type(layer).__name__ for layer in net.layers] == (
        ["Dense", "GELU", "Dropout"] * 2 + ["Dense"])
    assert (net.n_in, net.n_out, net.layers[2].rate) == (2, 3, 0.25)
    assert len(execute(printed_code(out))["prediction"]) == 150


def test_quiet_prints_the_score_only(iris, tmp_path):
    out = run("--data", iris, "--target", "kind", "--epochs", 1, "--quiet", "--output", tmp_path)
    assert re.fullmatch(r"held out  accuracy [\d.]+   \(always setosa: 0\.3333\)\n", out)


def test_the_same_seed_gives_the_same_network(iris, tmp_path):
    saved = []
    for seed in 0, 0, 1:
        run("--data", iris, "--target", "kind", "--epochs", 1, "--seed", seed, "--quiet",
            "--output", tmp_path)
        saved.append(fb.load(tmp_path / "model.safetensors").parameters.tobytes())
    assert saved[0] == saved[1] != saved[2]


def test_california_housing(tmp_path):
    folders = [os.environ.get("FASTBP_DATA"), Path(__file__).parents[2] / "shared" / "data"]
    paths = [Path(folder) / "california_housing.csv" for folder in folders if folder]
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        pytest.skip("there is no california_housing.csv in the folder named by FASTBP_DATA, nor "
                    "in ../shared/data")
    drop = ["ocean_proximity", "total_bedrooms"]
    out = run("--data", path, "--target", "median_house_value", "--drop", drop[0], "--drop",
              drop[1], "--output", tmp_path, "--epochs", 4, "--batch-size", 64)
    assert "20,640 rows, 7 columns" in out and "task      regression" in out
    table = datasets.read_table(path, "median_house_value", drop)
    train, test = datasets.hold_out(table.y, 0.2, 0)
    linear = LinearRegression().fit(table.X[train], table.y[train])
    by_line = np.sqrt(np.mean((linear.predict(table.X[test]) - table.y[test]) ** 2))
    rmse = number("RMSE", out[out.index("held out  ") :])
    assert rmse < 0.9 * by_line
    prediction = execute(printed_code(out))["prediction"]
    error = np.sqrt(np.mean((prediction[test] - table.y[test]) ** 2))
    assert error == pytest.approx(rmse, abs=1)


def test_the_lines_read_other_rows_by_name(tmp_path, rng):
    X = rng.normal(size=(80, 2)) * [1, 100]
    path = write_csv(tmp_path / "t.csv", ["a", "b", "y"], np.column_stack([X, X[:, 0]]).tolist())
    out = run("--data", path, "--target", "y", "--epochs", 1, "--output", tmp_path)
    expected = execute(printed_code(out))["prediction"]
    write_csv(path, ["b", "note", "a"], [[b, "text", a] for a, b in X.tolist()])
    np.testing.assert_array_equal(execute(printed_code(out))["prediction"], expected)


def test_a_terminal_of_ascii(tmp_path):
    done = subprocess.run([sys.executable, "-m", "fastbp", "--epochs", "1"], cwd=tmp_path,
                          env=os.environ | {"PYTHONIOENCODING": "ascii"}, capture_output=True)
    assert done.returncode == 0 and b"8 \\xd7 8" in done.stdout


# A table with text and missing values


@pytest.fixture
def houses(tmp_path, rng):
    """A table of numbers, some missing, text, some of it digits, identifiers and a constant."""
    rows = []
    for i in range(120):
        area, street = round(rng.uniform(40, 200), 1), ("Elm", "Oak", "7", "")[i % 4]
        price = round(1000 * area + (50_000 if street == "Elm" else 0))
        cheap = ("yes", "no")[price > 130_000]
        rows.append(["" if i % 9 == 0 else area, street, f"n{i}", 1, price, cheap])
    return write_csv(tmp_path / "houses.csv", ["area", "street", "id", "one", "price", "cheap"],
                     rows)


SMALL = ["--members", 3, "--output"]


def predictions(folder):
    name, *values = (folder / "predictions.csv").read_text("utf-8").splitlines()
    return name, np.array(values)


@pytest.mark.parametrize("model", ["auto", "tabm"])
def test_regression_with_text_and_missing_values(houses, tmp_path, model):
    folder = tmp_path / "my model"
    out = run("--data", houses, "--target", "price", "--drop", "cheap", "--model", model, *SMALL,
              folder)
    assert re.search(r"^number: 'area' \(missing: \d+\)$", out, re.M)
    assert re.search(r"^category: 'street' \(3 levels, missing: \d+\)$", out, re.M)
    assert "dropped: 'id' (identifiers), 'one' (constant)" in out
    assert ("TabPack: 3 networks trained" if model == "auto" else "TabM: one network of 3") in out
    assert re.search(r"^seconds   \d+\.\d$", out, re.M)
    assert number("R²", out[out.index("held out  "):]) > 0.25 and "(always the mean: RMSE" in out
    assert sorted(path.name for path in folder.iterdir()) == FILES
    about = json.loads((folder / "model.json").read_text("utf-8"))
    assert about["taken_as"] == {"area": "number", "street": "category", "id": "category",
                                 "one": "number"}
    assert f"fastbp --predict NEW.csv --output '{folder}'" in out
    # The printed lines and the command predict the same, and what was scored.
    assert "predicted 'price' of 120 rows" in run("--predict", houses, "--output", folder)
    name, predicted = predictions(folder)
    assert name == "price"
    np.testing.assert_array_equal(predicted.astype(float), execute(printed_code(out))["prediction"])
    y = datasets.read_frame(houses, "price").y
    _, test = datasets.hold_out(y, 0.2, 0)
    rmse = np.sqrt(np.mean((predicted.astype(float) - y)[test] ** 2))
    assert rmse == pytest.approx(about["score"]["rmse"])


def test_classification_with_text_and_missing_values(houses, tmp_path):
    arguments = ["--data", houses, "--target", "cheap", "--drop", "price", *SMALL]
    out = run(*arguments, tmp_path / "a")
    score = out[out.index("held out  "):]
    assert number("accuracy", score) > number(r"\(always (?:yes|no):", score) > 0.4
    run("--predict", houses, "--output", tmp_path / "a")
    name, predicted = predictions(tmp_path / "a")
    y = datasets.read_frame(houses, "cheap").y
    _, test = datasets.hold_out(y, 0.2, 0, stratify=True)
    assert name == "cheap"
    assert round(np.mean(predicted[test] == y[test]), 4) == number("accuracy", score)
    assert re.fullmatch(r"held out .*\n", run(*arguments, tmp_path / "b", "--quiet"))
    models = [(tmp_path / each / "model.safetensors").read_bytes() for each in "ab"]
    assert models[0] == models[1]


def test_new_rows_may_be_in_another_order_and_lack_values_and_have_new_text(houses, tmp_path,
                                                                            capsys):
    header, *rows = csv.reader(houses.read_text().splitlines())
    write_csv(houses, [*header, "sold"], [[*row, f"2024-0{1 + i % 9}-2{i % 8}"]
                                          for i, row in enumerate(rows)])
    out = run("--data", houses, "--target", "price", "--drop", "cheap", "--drop", "id", *SMALL,
              tmp_path)
    assert "date: 'sold' (days, month, weekday)" in out
    new = write_csv(tmp_path / "new.csv", ["one", "street", "area", "sold"],
                    [[1, "7", 80, "2030-01-01"], [1, "Ash", 80, "NA"], ["", "", "", ""]])
    run("--predict", new, "--output", tmp_path)
    predicted = predictions(tmp_path)[1].astype(float)
    assert len(predicted) == 3 and np.isfinite(predicted).all()
    for header, row, message in [
        (["street", "one", "sold"], ["Elm", 1, ""],
         "new.csv: columns: there is no column 'area'; the columns"),
        (["street", "one", "area", "sold"], ["Elm", 1, 80, "2024-13-01"],
         "new.csv: column 'sold' holds '2024-13-01'; expected dates such as 2024-02-29"),
        (["street", "one", "area", "sold"], ["Elm", 1, "big", ""],
         "new.csv: column 'area' holds text, first 'big' in line 2; correct such cells"),
    ]:
        write_csv(new, header, [row])
        capsys.readouterr()
        assert main(["--predict", str(new), "--output", str(tmp_path)]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1


def test_a_class_of_which_no_row_is_trained_on_and_classes_that_are_fractions(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["a", "y"],
                     [["uv"[i % 2], [0.5, 1.5][i % 2]] for i in range(24)] + [["u", 0.25]])
    run("--data", path, "--target", "y", "--task", "classification", "--test-share", 0.9, *SMALL,
        tmp_path)
    run("--predict", path, "--output", tmp_path)
    assert set(predictions(tmp_path)[1]) <= {"0.25", "0.5", "1.5"}


def test_which_model_is_chosen(iris, houses, tmp_path):
    def model(*arguments):
        run(*arguments, "--quiet", "--output", tmp_path)
        return json.loads((tmp_path / "model.json").read_text("utf-8")).get("model")

    of_iris = ["--data", iris, "--target", "kind"]
    assert model(*of_iris) is None
    assert model(*of_iris, "--members", 2) == "TabPack"
    assert model(*of_iris, "--model", "tabm", "--time-limit", 1) == "TabM"
    assert model("--data", houses, "--target", "price", "--time-limit", 1) == "TabPack"
    numbers = [each for name in ("area", "street", "id", "cheap") for each in ("--drop", name)]
    assert model("--data", houses, "--target", "price", *numbers) is None


def test_the_precision_of_tabpack(houses, tmp_path):
    """It is no option of the network alone, and so does not choose it."""
    run("--data", houses, "--target", "price", "--precision", "medium", "--time-limit", 1,
        "--quiet", "--output", tmp_path)
    model = fb.estimators.load_model(tmp_path / "model.safetensors")
    assert model.precision == "medium"
    assert {each.precision for each in model.ensemble_.networks} == {"medium"}


def test_a_network_predicts_from_the_command_line_too(iris, tmp_path):
    out = run("--data", iris, "--target", "kind", "--epochs", 5, "--output", tmp_path)
    run("--predict", iris, "--output", tmp_path)
    assert predictions(tmp_path)[1].tolist() == execute(printed_code(out))["prediction"]


def test_the_network_of_the_digits_does_not_predict_a_file(iris, digits, capsys):
    assert main(["--predict", str(iris), "--output", str(digits[1])]) == 2
    assert "expected a model that learned from a table in the folder" in capsys.readouterr().err


def test_without_scikit_learn_the_message_says_how_to_install_it(houses, tmp_path):
    code = ("import sys; sys.modules['sklearn'] = None\n"
            "from fastbp.__main__ import main; sys.exit(main())")
    done = subprocess.run([sys.executable, "-c", code, "--data", houses, "--target", "price",
                           "--output", tmp_path / "out"], capture_output=True, encoding="utf-8")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "houses.csv holds text or lacks values, which --model tabpack takes: " in done.stderr
    assert 'pip install "fastbp[sklearn]"' in done.stderr


# Which task


@pytest.mark.parametrize(("y", "asked", "task", "reason"), [
    (["a", "b", "a", "b"], None, "classification", "holds text, 2 different (a, b)"),
    ([0, 1, 1, 0], None, "classification",
     "holds whole numbers, 2 different (0, 1); if they are amounts, --task regression"),
    (np.arange(60) % 20, None, "classification", "20 different"),
    (np.arange(63) % 21, None, "regression", "holds whole numbers, 21 different"),
    ([0.5, 1, 0.5, 1], None, "regression", "holds numbers, 2 different"),
    ([0.5, 1, 0.5, 1], "classification", "classification", "as --task says; 't' holds numbers"),
    ([0, 1, 1, 0], "regression", "regression", "as --task says"),
])
def test_the_task_follows_from_the_target(y, asked, task, reason):
    y = np.asarray(y)
    y = y if y.dtype.kind == "U" else y.astype(float)
    table = datasets.Table(np.zeros((len(y), 1)), y, ["x"], "t")
    got, why = decide_task(table, asked)
    assert got == task and reason in why


# What is refused, in one line

TABLE = "a,kind,y,same,id\n" + "".join(f"{i},{'uv'[i % 2]},{i / 7},5,i{i}\n" for i in range(20))
DROP = ["--drop", "kind", "--drop", "id"]

BAD = {
    "unknown option": (["--epoch", "3"], "unrecognized arguments: --epoch 3; --help lists"),
    "not a number": (["--epochs", "ten"], "argument --epochs: invalid int value: 'ten'"),
    "unknown activation": (["--activation", "relo"], "argument --activation: invalid choice"),
    "no epochs": (["--epochs", "0"], "--epochs: expected a whole number of at least 1, got 0"),
    "no batch": (["--batch-size", "0"], "--batch-size: expected a whole number of at least 1"),
    "empty layer": (["--hidden", "8", "0"], "expected a whole number of at least 1, got 0"),
    "dropout": (["--dropout", "1"], "expected a finite number and at least 0 and below 1, got 1"),
    "learning rate": (["--learning-rate", "-1"], "--learning-rate: expected a finite number"),
    "seed": (["--seed", "-1"], "seed: expected a whole number of at least 0, got -1"),
    "target without data": (["--target", "y"], "--target needs --data FILE"),
    "drop without data": (["--drop", "y"], "--drop needs --data FILE"),
    "share without data": (["--test-share", "0.5"], "--test-share needs --data FILE"),
    "no file": (["--data", "none.csv", "--target", "y"], "none.csv: No such file or directory"),
    "folder": (["--data", ".", "--target", "y"], ".: Is a directory"),
    "no target": (["--data", "t.csv"], "t.csv: target: name the column to learn; the columns that "
                                       "the first line names are 'a', 'kind'"),
    "unknown target": (["--data", "t.csv", "--target", "z"], "there is no column 'z'"),
    "text": (["--data", "t.csv", "--target", "y", "--epochs", "3"],
             "column 'kind' holds text, first 'u' in line 2; column 'id' holds text, first 'i0'"),
    "one class": (["--data", "t.csv", "--target", "same"], "the target 'same' is 5.0 in every row"),
    "target missing": (["--data", "m.csv", "--target", "y"],
                       "m.csv: the target column 'y' lacks a value, in line 3; remove such rows"),
    "unknown target with text": (["--data", "m.csv", "--target", "z"],
                                 "m.csv: target: there is no column 'z'"),
    "infinity beside text": (["--data", "m.csv", "--target", "b"],
                             "column 'a' holds an infinite number, 'inf' in line 3"),
    "decimal commas": (["--data", "d.csv", "--target", "y"],
                       "column 'a' holds text, first '1,5' in line 2; write decimals with a point"),
    "unknown model": (["--model", "tree"], "argument --model: invalid choice: 'tree'"),
    "model without data": (["--model", "tabm"], "--model needs --data FILE"),
    "layers of TabPack": (["--data", "t.csv", "--target", "y", "--model", "tabpack", "--hidden"],
                          "--hidden: is an option of --model mlp, but the model is tabpack"),
    "members of layers": (["--data", "t.csv", "--target", "y", "--hidden", "8", "--members", "2"],
                          "--members: is an option of --model tabpack and tabm, but the model is "
                          "mlp, as --hidden is given; leave it out, or choose one of them"),
    "precision of TabM": (["--data", "t.csv", "--model", "tabm", "--precision", "high"],
                          "--precision: is an option of --model mlp and tabpack, but the model is "
                          "tabm; leave it out"),
    "precision of predictions": (["--predict", "t.csv", "--precision", "high"],
                                 "--precision: expected no option of training with --predict"),
    "no members": (["--data", "t.csv", "--members", "0"],
                   "--members: expected a whole number of at least 1, got 0"),
    "no time": (["--data", "t.csv", "--time-limit", "0"], "--time-limit: expected a finite number"),
    "predict without model": (["--predict", "t.csv"],
                              "--predict: expected a model in the folder 'fastbp-output', got no "
                              "model.json in it; train one with --data"),
    "predict and train": (["--predict", "t.csv", "--data", "t.csv"],
                          "--predict: expected no --data"),
    "predict with layers": (["--predict", "t.csv", "--hidden", "3"],
                            "--hidden: expected no option of training with --predict"),
    "npz without y": (["--data", "x.npz"], "x.npz: there is no array 'y', but 'X'"),
    "npz with drop": (["--data", "x.npz", "--drop", "a"], "x.npz: drop: the columns of"),
    "share": (["--data", "t.csv", "--target", "y", *DROP, "--test-share", "1"],
              "--test-share: expected a finite number and above 0 and below 1, got 1.0"),
    "too few rows": (["--data", "t.csv", "--target", "y", *DROP, "--test-share", "0.01"],
                     "test_share: expected a share that holds out at least one row, got 0.01 of"),
    "constant target": (["--data", "t.csv", "--target", "same", *DROP],
                        "the target 'same' is 5.0 in every row to train on"),
    "regression of text": (["--data", "t.csv", "--target", "kind", "--drop", "id", "--task",
                            "regression"],
                           "--task regression: expected numbers, but 'kind' holds text, 2 "
                           "different, such as 'u'"),
    "a class for each row": (["--data", "t.csv", "--target", "id", "--drop", "kind"],
                             "classification: expected few classes, but 'id' holds text, 20 "
                             "different in 20 rows"),
    "output is a file": (["--output", "t.csv"], "--output: expected a folder that can be created, "
                                                "got 't.csv': File exists"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_status_2(case, tmp_path, monkeypatch, capsys):
    arguments, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    Path("t.csv").write_text(TABLE)
    Path("m.csv").write_text("a,b,y\n1,u,2\ninf,v,\n")
    Path("d.csv").write_text("a;b;y\n1,5;u;2\n2;v;3\n;u;4\n")
    np.savez("x.npz", X=np.eye(3))
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("fastbp: ") and err.count("\n") == 1 and err.endswith("\n")
    assert message in err


def test_a_name_with_a_line_end_does_not_break_the_line(tmp_path, capsys):
    path = write_csv(tmp_path / "t.csv", ["a\nb", "y"], [["x", 1]])
    assert main(["--data", str(path), "--target", "y"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_divergence_is_one_line_and_status_1(tmp_path, capsys):
    assert main(["--learning-rate", "1e30", "--output", str(tmp_path)]) == 1
    err = capsys.readouterr().err
    assert err.startswith("fastbp: training diverged at step ") and err.count("\n") == 1
    assert "smaller learning rate" in err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_is_one_line_and_status_130(tmp_path):
    # A shell's background jobs ignore SIGINT, and so would the child.
    code = ("import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from fastbp.__main__ import main; sys.exit(main())")
    command = [sys.executable, "-c", code, "--epochs", "1000000", "--output", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          encoding="utf-8") as process:
        try:
            while not process.stdout.readline().startswith("epoch"):
                assert process.poll() is None
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "fastbp: stopped by Ctrl-C\n")
    assert list(tmp_path.iterdir()) == []


def hide(monkeypatch, package):
    for name in {package, *(name for name in sys.modules if name.startswith(package + "."))}:
        monkeypatch.setitem(sys.modules, name, None)


def test_without_matplotlib_there_is_a_note_instead_of_the_picture(tmp_path, monkeypatch):
    hide(monkeypatch, "matplotlib")
    out = run("--epochs", 1, "--output", tmp_path)
    assert 'no picture: plots need matplotlib: pip install "fastbp[plot]"' in out
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES[1:]


def test_without_scikit_learn_there_are_no_digits(tmp_path, monkeypatch, capsys):
    hide(monkeypatch, "sklearn")
    assert main(["--output", str(tmp_path)]) == 2
    assert 'pip install "fastbp[sklearn]"' in capsys.readouterr().err


def test_help_names_every_option_and_shows_examples(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for action in build_parser()._actions:
        assert action.option_strings[-1] in out and (action.help or "").split(" ")[0] in out
    assert "fastbp --data houses.csv --target price" in out
    assert max(map(len, out.splitlines())) <= 100
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"fastbp {fb.__version__}\n"


def test_an_output_folder_that_cannot_be_written_is_refused_before_training(tmp_path, capsys):
    (tmp_path / "model.safetensors").mkdir()
    assert main(["--output", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    assert "epoch" not in out
    assert "model.safetensors" in err
    assert len(err.splitlines()) == 1


def test_an_old_picture_does_not_stay_beside_a_new_model(tmp_path, capsys, monkeypatch):
    assert main(["--epochs", "1", "--output", str(tmp_path)]) == 0
    assert (tmp_path / "learning_curves.png").exists()
    assert "replaced" not in capsys.readouterr().out
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["--epochs", "1", "--output", str(tmp_path)]) == 0
    assert not (tmp_path / "learning_curves.png").exists()
    out = capsys.readouterr().out
    assert "fastbp[plot]" in out
    assert "model.safetensors (replaced that of an earlier run)\n" in out


def test_a_network_too_large_for_memory_is_one_line_and_status_2(tmp_path, capsys):
    assert main(["--hidden", "100000000000", "--output", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_closed_pipe_ends_quietly(tmp_path):
    command = f'"{sys.executable}" -m fastbp --output "{tmp_path}" | head -n 1'
    result = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert result.stdout.startswith("fastbp")
    assert result.stderr == ""
