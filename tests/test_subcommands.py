"""``fastbp export``, ``fastbp predict`` and ``fastbp explain``."""

import csv
import io
import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import fastbp as fb
from fastbp.__main__ import main

from .export.c_programs import call, compiled, compiler, same_bits

LOSS = ["--loss", "SoftmaxCrossEntropy"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of numbers with two classes, and a folder with what was learned of it."""
    folder = tmp_path_factory.mktemp("table")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 3)).round(3)
    lines = ["a,b,c,kind", *(f"{a},{b},{c},{'yes' if a + b > 0 else 'no'}" for a, b, c in X)]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    assert main(["--data", str(folder / "table.csv"), "--target", "kind", "--epochs", "4",
                 "--quiet", "--output", str(folder)]) == 0
    return folder, X


def run(capsys, *arguments, status=0):
    """What is printed."""
    assert main([str(each) for each in arguments]) == status
    captured = capsys.readouterr()
    return captured.out if status == 0 else captured.err


@pytest.mark.once
def test_c_code_of_what_was_learned(table, tmp_path, capsys):
    """It takes the columns in their own units, and gives the probabilities of the classes."""
    folder, X = table
    out = run(capsys, "export", folder / "model.safetensors", tmp_path / "kind.c", "--name", "kind",
              "--weights", "hex", "--fortran")
    assert out.split() == [str(tmp_path / f"kind.{end}") for end in ("h", "c", "f90")]
    P = fb.load(folder / "model.safetensors").predict(X, activation="softmax")
    library = compiled(tmp_path / "kind.c", compiler("gcc"), "-O1")
    assert same_bits(P, call(library.kind_predict_rows, X, P.shape, P.dtype))
    classes = json.loads((folder / "model.json").read_text())["classes"]
    text = (tmp_path / "kind.h").read_text()
    assert f"the classes {', '.join(map(repr, classes))}" in text


def test_predictions(table, tmp_path, capsys):
    folder, _ = table
    rows = run(capsys, "predict", folder / "model.safetensors", folder / "table.csv").split()
    run(capsys, "--predict", folder / "table.csv", "--output", folder)
    assert rows == (folder / "predictions.csv").read_text().split()
    assert rows[0] == "kind" and set(rows[1:]) == {"yes", "no"}
    out = run(capsys, "predict", folder / "model.safetensors", folder / "table.csv",
              "--output", tmp_path / "out.csv")
    assert out == f"predicted 200 rows: {tmp_path / 'out.csv'}\n"
    assert (tmp_path / "out.csv").read_text().split() == rows


def test_other_models(tmp_path, capsys):
    """A network and an ensemble that Python has saved predict all columns of a file."""
    X = np.array([[1.5, 2], [3, -4]])
    (tmp_path / "rows.csv").write_text("u,v\n1.5,2\n3,-4\n")
    net = fb.mlp([2, 3], dtype="float64", seed=0)
    ensemble = fb.Ensemble([net, fb.mlp([2, 4, 3], dtype="float64", seed=1)], activation="softmax")
    for model in (net, ensemble):
        model.save(tmp_path / "net.safetensors")
        text = run(capsys, "predict", tmp_path / "net.safetensors", tmp_path / "rows.csv")
        head, *rows = csv.reader(io.StringIO(text))
        assert head == ["prediction_0", "prediction_1", "prediction_2"]
        assert (np.array(rows, float) == model.predict(X)).all()


def test_weights_for_pytorch(tmp_path, capsys):
    net = fb.mlp([2, 3], seed=0)
    net.save(tmp_path / "net.safetensors")
    run(capsys, "export", tmp_path / "net.safetensors", tmp_path / "torch.safetensors")
    assert sorted(load_file(tmp_path / "torch.safetensors")) == ["0.bias", "0.weight"]


@pytest.mark.once
def test_explanations(table, tmp_path, capsys, monkeypatch):
    """Of the example, and of what was learned, in the file's columns and classes."""
    monkeypatch.chdir(tmp_path)
    out = run(capsys, "explain")
    assert out.startswith("Backpropagation through 2 → Dense 3 → Tanh") and out.endswith(
        "\n\nbackprop.html\n")
    assert (tmp_path / "backprop.html").read_text().startswith("<!doctype html>")
    folder, X = table
    out = run(capsys, "explain", folder / "model.safetensors", folder / "table.csv", "--row", 3,
              "--row", 8, "--learning-rate", 0.25, "--output", "kind.html")
    net = fb.load(folder / "model.safetensors").astype("float64")
    y = (X[:, 0] + X[:, 1] > 0).astype(int)[[3, 8]]
    before = net.evaluate(X[[3, 8]], y, loss=fb.SoftmaxCrossEntropy())["loss"]
    assert f"2 rows, SoftmaxCrossEntropy(label_smoothing=0.0, cap=None): L = {before:.4g}" in out
    assert "learning rate 0.25" in out and (tmp_path / "kind.html").exists()


@pytest.mark.once
def test_explanations_of_other_models(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fb.mlp([2, 3], seed=0).save("net.safetensors")
    (tmp_path / "rows.csv").write_text("u,v,k\n1.5,2,0\n3,-4,2\n")
    out = run(capsys, "explain", "net.safetensors", "rows.csv", "--target", "k", "--loss",
              "SoftmaxCrossEntropy")
    assert "2 rows, SoftmaxCrossEntropy" in out


@pytest.mark.once
def test_an_explanation_of_an_npz_file_takes_its_y(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fb.mlp([2, 3], seed=0).save("net.safetensors")
    np.savez("rows.npz", X=[[1.5, 2], [3, -4]], y=[0, 2])
    assert "2 rows, SoftmaxCrossEntropy" in run(capsys, "explain", "net.safetensors", "rows.npz",
                                                *LOSS)


@pytest.mark.once
def test_names_of_classes_that_look_like_numbers(tmp_path, capsys, monkeypatch):
    """They are text where another class is, and in a file without that one too."""
    monkeypatch.chdir(tmp_path)
    fb.mlp([1, 3], seed=0).save("model.safetensors")
    (tmp_path / "model.json").write_text(json.dumps({
        "task": "classification", "target": "k", "columns": ["u"], "classes": ["1", "2", "other"]}))
    (tmp_path / "rows.csv").write_text("u,k\n1.5,2\n3,1\n")
    out = run(capsys, "explain", "model.safetensors", "rows.csv")
    before = fb.load("model.safetensors").astype("float64").evaluate(
        [[1.5], [3]], [1, 0], loss=fb.SoftmaxCrossEntropy())["loss"]
    assert f"L = {before:.4g}" in out
    (tmp_path / "rows.csv").write_text("u,k\n1.5,2\n3,4\n")
    error = run(capsys, "explain", "model.safetensors", "rows.csv", status=2)
    assert "expected one of the model's classes, 1, 2, other, got '4' in row 1" in error


@pytest.mark.parametrize(("about", "message"), [
    ({"classes": 3}, "classes: expected a list of names or numbers, as a run writes it, got 3"),
    ({"classes": [None, 1]}, "classes: expected a list of names or numbers"),
    ({"columns": 5}, "columns: expected a list of names of columns, as a run writes it, got 5"),
    ({"task": ["x"]}, 'task: expected "classification" or "regression"'),
    ({"target": 1}, "target: expected the name of a column"),
    ([3], "expected an object of JSON, as a run writes it, got [3]"),
    ({"classes": ["a"]}, "classes: expected one for each of the model's 3 outputs, got 1"),
])
def test_a_file_that_was_edited(tmp_path, capsys, monkeypatch, about, message):
    monkeypatch.chdir(tmp_path)
    fb.mlp([1, 3], seed=0).save("model.safetensors")
    if isinstance(about, dict):
        about = {"task": "classification", "target": "k", "columns": ["u"]} | about
    (tmp_path / "model.json").write_text(json.dumps(about))
    (tmp_path / "rows.csv").write_text("u,k\n1.5,a\n")
    commands = [["predict", "model.safetensors", "rows.csv"],
                ["--predict", "rows.csv", "--output", "."]]
    if "outputs" not in message:
        commands += [["explain", "model.safetensors", "rows.csv"],
                     ["export", "model.safetensors", "net.h"]]
    for command in commands:
        error = run(capsys, *command, status=2)
        assert f"model.json: {message}" in error and error.count("\n") == 1


def test_a_target_that_is_an_input(table, capsys):
    folder, _ = table
    error = run(capsys, "explain", folder / "model.safetensors", folder / "table.csv",
                "--target", "b", status=2)
    assert ("--target: expected a column with the targets, such as 'kind', got 'b', which is an "
            "input of the model; leave the option out") in error


@pytest.mark.once
def test_estimators(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("size,color,price\n" + "".join(
        f"{i},{['red', 'blue'][i % 2]},{i + 10 * (i % 2)}\n" for i in range(60)))
    run(capsys, "--data", tmp_path / "t.csv", "--target", "price", "--model", "tabm", "--members",
        2, "--time-limit", 1, "--quiet", "--output", tmp_path)
    run(capsys, "export", tmp_path / "model.safetensors", tmp_path / "price.h", "--name", "price")
    assert "1: 'color', a category: 0 'blue', 1 'red'" in (tmp_path / "price.h").read_text()
    rows = run(capsys, "predict", tmp_path / "model.safetensors", tmp_path / "t.csv").split()
    assert rows[0] == "price" and len(rows) == 61


@pytest.mark.once
def test_onnx(tmp_path, capsys, table):
    """Out, and in again."""
    onnx = pytest.importorskip("onnx")
    folder, _ = table
    run(capsys, "export", folder / "model.safetensors", tmp_path / "net.onnx")
    names = [each.name for each in onnx.load(tmp_path / "net.onnx").graph.output]
    assert names == ["label", "probabilities"]
    run(capsys, "export", tmp_path / "net.onnx", tmp_path / "net.h")
    assert "3 doubles to 2 doubles" in (tmp_path / "net.h").read_text()


@pytest.mark.parametrize(("arguments", "message"), [
    (["export"], "the following arguments are required: MODEL, FILE; --help lists the options"),
    (["export", "no.safetensors", "net.h"], "there is no file 'no.safetensors'"),
    (["export", "net.safetensors", "net.txt"], "FILE: expected a name that ends with .h, .c, .onn"),
    (["export", "net.safetensors", "net.onnx", "--fortran"], "--fortran: expected a file"),
    (["export", "net.safetensors", "net.safetensors"], "FILE: expected another file than MODEL"),
    (["export", "net.safetensors", "w.safetensors", "--activation", "exp"], "without --activation"),
    (["export", "net.safetensors", "net.h", "--name", "a-b"], "name: expected letters, digits"),
    (["export", "net.safetensors", "net.h", "--bits", "4"], "unrecognized arguments: --bits 4"),
    (["predict", "net.safetensors"], "the following arguments are required: ROWS"),
    (["predict", "net.safetensors", "no.csv"], "no.csv: No such file"),
    (["predict", "broken.safetensors", "no.csv"], "is not a fastbp model"),
    (["explain", "net.safetensors"], "ROWS: expected a .csv with the rows to explain"),
    (["explain", "--row", "0"], "--row: expected MODEL and ROWS with it, got neither"),
    (["explain", "no.safetensors", "rows.csv"], "there is no file 'no.safetensors'"),
    (["explain", "net.safetensors", "rows.csv"], "--target: expected the name of the column"),
    (["explain", "net.safetensors", "rows.csv", "--target", "k"], "--loss: expected one of"),
    (["explain", "net.safetensors", "rows.csv", "--target", "z", *LOSS], "rows.csv: "),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", *LOSS], "at most 16 rows"),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", *LOSS, "--row", "20"],
     "--row: expected a row from 0 to 19, got 20"),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", *LOSS, "--row", "3"], "y: "),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", *LOSS, "--row", "0",
      "--learning-rate", "-1"], "--learning-rate: expected"),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", *LOSS, *["--row", "0"] * 17],
     "--row: expected it at most 16 times, got it 17 times"),
    (["explain", "--output", "."], "--output: expected a file, got the folder '.'; name a file"),
    (["predict", "net.safetensors", "rows.csv", "--output", "."], "--output: expected a file"),
    (["explain", "net.safetensors", "rows.csv", "--target", "k", "--loss", "L1"], "invalid choice"),
    (["explain", "ensemble.safetensors", "rows.csv", "--target", "k", *LOSS],
     "MODEL: expected a single network"),
])
def test_refused_in_one_line(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    fb.mlp([2, 3], seed=0).save("net.safetensors")
    fb.Ensemble([fb.mlp([2, 3], seed=0)]).save("ensemble.safetensors")
    (tmp_path / "rows.csv").write_text("u,v,k\n" + "".join(f"1,2,{i}\n" for i in range(20)))
    (tmp_path / "broken.safetensors").write_text("hello")
    before = sorted(tmp_path.iterdir())
    error = run(capsys, *arguments, status=2)
    assert error.startswith("fastbp: ") and message in error and error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("command", ["export", "predict", "explain"])
def test_help(capsys, command):
    text = run(capsys, command, "--help")
    assert text.startswith(f"usage: fastbp {command}") and "MODEL" in text
    assert command == "export" or ("--output FILE" in text and "the file to write the" in text)


def test_arguments_of_to_c_are_named(tmp_path):
    net, dropout = fb.mlp([2, 3], seed=0), fb.Sequential([fb.Dropout(0.5)])
    path = tmp_path / "net.h"
    for options, error, message in (
            ({"name": ["a"]}, TypeError, r"name: expected a name for the functions, such as 'net'"),
            ({"n_in": "2"}, TypeError, r"n_in: expected a whole number, got '2' \(str\)"),
            ({"n_in": 4}, ValueError, r"n_in: expected 2, which the network's first layer takes"),
            ({"fortran": "yes"}, TypeError, r"fortran: expected")):
        with pytest.raises(error, match=message):
            net.to_c(path, **options)
    with pytest.raises(ValueError, match=r"expected layers that compute something.*Dropout.*add a"):
        dropout.to_c_int8(path, np.eye(3), n_in=3)
    assert not path.exists()
