"""The pages of the documentation run as they stand."""

import ast
import contextlib
import io
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

import fastbp as fb

from .export.c_programs import compiler

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}
# A block, and what it prints, if that stands below it.
BLOCK = re.compile(r"^```(python|c|sh)\n(.*?)^```\n(?:\n```text\n(.*?)^```)?",
                   re.DOTALL | re.MULTILINE)
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")

pytestmark = [pytest.mark.once,
              pytest.mark.skipif(not PAGES, reason="no documentation beside the tests")]


def run(page, folder, kinds=("python",)):
    """What the blocks of a page define and, block by block, what they print."""
    mpl.use("Agg")
    namespace, printed = {"__name__": "page"}, []
    for kind, text, expected in BLOCK.findall(PAGES[page]):
        if kind not in kinds:
            continue
        before = len(printed)
        with contextlib.chdir(folder):
            if kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(text, f"docs/{page}.md", "exec"), namespace)
                printed.append(out.getvalue())
            elif kind == "c":
                Path(re.match(r"/\* (\S+) \*/", text)[1]).write_text(text)
            else:
                result = subprocess.run(["sh", "-e"], input=text, text=True, check=True,
                                        capture_output=True, env=with_the_command(folder))
                assert result.stderr == ""
                printed.append(result.stdout)
        if expected:
            assert_alike(*printed[before:], expected)
    return namespace, printed


def assert_alike(printed, expected):
    """The same text, with numbers that other versions of NumPy may round differently."""
    texts, numbers = [], []
    for each in printed, expected:
        texts.append(NUMBER.sub("#", each).split())
        numbers.append([float(found) for found in NUMBER.findall(each)])
    assert texts[0] == texts[1], printed
    np.testing.assert_allclose(*numbers, rtol=0.02, atol=1e-6)


def with_the_command(folder):
    """An environment in which `fastbp` is this one, installed or not."""
    commands = folder / "commands"
    commands.mkdir(exist_ok=True)
    (commands / "fastbp").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastbp "$@"\n')
    (commands / "fastbp").chmod(0o755)
    return os.environ | {"PATH": f"{commands}{os.pathsep}{os.environ['PATH']}"}


def worst_error(printed):
    return float(re.search("worst relative error ([^ ]+)", printed)[1])


def test_getting_started(tmp_path):
    """A new user's first page: a table by command and in Python, a network, its gradients."""
    names, printed = run("getting-started", tmp_path, ("python", "sh"))
    accuracy = [float(re.search(r"[\d.]+(?=\n|$)", each)[0])
                for each in printed if each.startswith("accuracy")]
    assert len(accuracy) == 2 and min(accuracy) > 0.85
    predictions = pd.read_csv(tmp_path / "predictions.csv")
    assert len(predictions) == len(names["people"])
    (difference,) = [each for each in printed if each.startswith("largest difference")]
    assert float(difference.split()[-1]) < 1e-6
    assert sum(worst_error(each) < 1e-6 for each in printed if "worst relative" in each) == 1
    weight = names["explanation"].weight("2.W", 3, 1)
    assert weight.total == pytest.approx(names["last"].dW[3, 1], rel=1e-4, abs=1e-7)
    assert "<html" in (tmp_path / "backprop.html").read_text(encoding="utf-8")


def test_backpropagation(tmp_path):
    names, printed = run("backpropagation", tmp_path)
    sums = re.search(r"sum: ([-\d.]+)", "".join(printed))[1]
    X, dZ1 = names["X"], names["dZ1"]
    assert float(sums) == pytest.approx(len(X) * X[0, 0] * dZ1[0, 0], abs=2e-6)
    before, after = re.search(r"was ([\d.]+), and is ([\d.]+)", "".join(printed)).groups()
    assert float(after) < float(before)
    assert float(printed[-1].split()[-1]) < 1e-8


def test_from_a_table_to_a_c_program(tmp_path):
    compiler("cc")
    _, printed = run("export", tmp_path, ("python", "c", "sh"))
    from_c, from_python = [each for each in printed if each]
    assert from_c == from_python and len(from_c.split()) == 2
    prices = [float(each) for each in from_c.split()]
    assert 350 < prices[0] < 420 and 170 < prices[1] < 230


def test_backpropagation_number_by_number(tmp_path):
    printed = "".join(run("explain", tmp_path)[1])
    assert (tmp_path / "backprop.html").stat().st_size > 10_000
    assert "2 → Dense 3 → Tanh → Dense 2" in printed
    assert re.search(r"\nFrom layer to layer: .*\n  Between .* it vanishes, [^\n]*\n$", printed,
                     re.DOTALL)


def test_notebooks_and_plots(tmp_path):
    pytest.importorskip("tensorboardX")
    printed = "".join(run("notebooks-and-plots", tmp_path)[1])
    assert "4,810 parameters" in printed and "LearningRateTest(suggestion=0.1" in printed
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 4 and all(each.stat().st_size > 10_000 for each in pictures)
    assert list((tmp_path / "runs" / "first" / "validation").iterdir())


def test_scikit_learn(tmp_path):
    names, (printed,) = run("scikit-learn", tmp_path)
    best, accuracy = printed.splitlines()
    assert ast.literal_eval(best) == names["search"].best_params_
    assert float(accuracy.split()[-1]) > 0.94
    assert len(names["left"].lines) == 3 and len(names["right"].lines) == 2
    assert (tmp_path / "estimators.png").stat().st_size > 20_000


def write_survey(path):
    """A table with text, dates and missing values, in which some incomes are not known."""
    rng = np.random.default_rng(0)
    lines = ["age,city,since,income"]
    for _ in range(400):
        age, city = int(rng.integers(20, 70)), rng.choice(["Rome", "Oslo", "Lima"])
        income = "high" if (age > 45) != (city == "Oslo") else "low"
        lines.append(f"{age if rng.random() < 0.9 else ''},{city if rng.random() < 0.9 else ''},"
                     f"20{rng.integers(10, 26)}-0{rng.integers(1, 10)}-01,"
                     f"{income if rng.random() < 0.8 else ''}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_the_table(tmp_path):
    """From a file with text and missing values to predictions, in eight lines."""
    write_survey(tmp_path / "survey.csv")
    names, (printed,) = run("tables", tmp_path)
    assert "'age' (missing" in printed
    survey, model = names["survey"], names["model"]
    unknown = survey[survey["income"].isna()]
    ages, cities = unknown["age"], unknown["city"]
    right = np.where((ages > 45) != (cities == "Oslo"), "high", "low")
    sure = (ages.notna() & cities.notna()).to_numpy()
    predicted = model.predict(unknown.drop(columns="income"))
    assert np.mean(predicted[sure] == right[sure]) > 0.85
    assert (tmp_path / "members.png").stat().st_size > 10_000


def test_out_and_in(tmp_path):
    names, _ = run("exchange", tmp_path)
    X, theirs, ours = names["X_test"], names["theirs"], names["ours"]
    assert np.allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert names["report"]["same_largest"] > 0.97
    header = (tmp_path / "digits.h").read_text(encoding="utf-8")
    assert "from 64 floats to 10 floats" in header


def test_layers(tmp_path):
    names, printed = run("layers", tmp_path)
    loss = names["deep"].history["loss"]
    assert loss[-1] < loss[0]
    X = np.array([[0.5, -1.0, 6, 11], [0.1, 2.0, 0, 0]])
    assert names["table"].predict(X).shape == (2, 1)
    own, lowered = [worst_error(each) for each in printed if each]
    assert own < 1e-6 and lowered < 1e-6
    assert "in Python" not in names["gated"].program(loss=fb.SoftmaxCrossEntropy())
    net, X, y = names["net"], names["X"], names["y"]
    assert [type(layer).__name__ for layer in net.layers] == ["Dense", "Tanh", "Scale", "Dense"]
    assert net.layers[2].s.tolist() == [1] * 32
    history = net.fit(X[:300], y[:300], loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01),
                      epochs=5, seed=0)
    assert history["loss"][-1] < history["loss"][0] / 2
    assert (net.layers[2].s != 1).all()
    assert np.shares_memory(net.layers[2].s, net.parameters)


def test_many_networks(tmp_path):
    names, printed = run("many-networks", tmp_path)
    accuracy = np.array(ast.literal_eval(printed[0]), float)
    assert len(accuracy) == 6 and accuracy.max() > 0.85
    assert int(printed[1]) == names["y"][0]


def test_checkpoints(tmp_path):
    assert run("checkpoints", tmp_path)[1] == ["6 True\n"]


def test_networks(tmp_path):
    names, _ = run("networks", tmp_path)
    assert names["value"] < 0.5


SNIPPETS = [(page, snippet) for page, text in sorted(PAGES.items())
            if page in ("networks", "scikit-learn", "tables", "exchange")
            for snippet in re.findall(r"`([^`\n]*(?:fb\.|callbacks=|MLP|model\.)[^`\n]*)`",
                                      re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.M))]


@pytest.mark.parametrize(("page", "snippet"), SNIPPETS)
def test_lines_in_the_text(page, snippet, monkeypatch, tmp_path):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    import matplotlib.pyplot as plt
    from sklearn.datasets import load_digits

    X, y = load_digits(return_X_y=True)
    X, y = X[:40] / 16, y[:40]
    net, loss = fb.mlp([64, 128, 10], seed=0), fb.SoftmaxCrossEntropy()
    history = net.fit(X, y, loss=loss, epochs=2, validation_fraction=0.2, gradient_norms=True)
    model = fb.MLPClassifier(max_iter=2, early_stopping=True, validation_fraction=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
        code = snippet.replace("fit(…", "fit(X, y, loss=loss, epochs=1").replace(", …]", "]")
        if page == "tables" and "estimators" in snippet:
            model = fb.TabPackClassifier(2, max_epochs=1, width=8).fit(X, y)
            fb.estimators.save_model("model.safetensors", model)
        names = {
            "fb": fb, "net": net, "networks": [net, fb.mlp([64, 10])], "X": X, "y": y,
            "loss": loss, "history": history, "model": model, "X_val": X, "y_val": y,
            "MLPClassifier": fb.MLPClassifier, "MLPRegressor": fb.MLPRegressor,
            "weights": np.ones(len(y)), "fitted": getattr(model, "to_sklearn", lambda: None)(),
        }
        exec(f"made = {code}", names)
        made = names["made"]
        if isinstance(made, BaseEstimator) and hasattr(made, "max_epochs"):
            table = pd.DataFrame(X[:, 2:5], columns=["zip code", "b", "c"])
            made.set_params(max_epochs=1, n_members=2, width=8).fit(table, y % 2)
        elif isinstance(made, BaseEstimator):
            made.set_params(max_iter=2).fit(X, y)
    plt.close("all")


def test_the_tables_of_formulas_have_every_layer_loss_and_optimizer():
    rows = re.findall(r"^\| `(\w+)` \|", PAGES["formulas"], re.MULTILINE)
    kinds = [fb.Layer, fb.Loss, fb.Optimizer]
    public = [
        name for name in fb.__all__ if isinstance(getattr(fb, name), type)
        and issubclass(getattr(fb, name), tuple(kinds)) and getattr(fb, name) not in kinds
    ]
    assert sorted(rows) == sorted(public)


def test_links():
    """What the pages point to is there, but for pages that the build makes, and has a name."""
    for page, text in PAGES.items():
        assert "[](" not in text, page  # which is blank where the pages are read without a build
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        for link in re.findall(r"\]\(([^)#]+)\)", prose):
            made = link.startswith(("http", "gallery/", "api/"))
            assert made or (DOCS / link).exists(), (page, link)


def test_included_sections_are_there():
    included = [found for text in PAGES.values()
                for found in re.findall(r"^<!-- include: (\S+?)(?:#(\S+))? -->$", text, re.M)]
    assert len(included) >= 5
    for path, anchor in included:
        headings = re.findall(r"^#+ (.*)$", (DOCS / path).read_text(encoding="utf-8"), re.M)
        assert not anchor or anchor in [each.lower().replace(" ", "-") for each in headings]


def test_the_gallery_is_in_order():
    """Each example has its place in the gallery."""
    order = (DOCS / "_ext" / "gallery_order.py").read_text(encoding="utf-8")
    names = ast.literal_eval(re.search(r"NAMES = (\[.*?\])", order, re.DOTALL)[1])
    assert sorted(names) == sorted(path.stem for path in (ROOT / "examples").glob("*.py"))


def test_onnx_and_pytorch(tmp_path):
    """The lines that need packages which the other examples do without."""
    for package in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(package)
    (block,) = [each for each in re.findall(r"^```py\n(.*?)^```", PAGES["exchange"],
                                            re.DOTALL | re.MULTILINE) if "to_onnx" in each]
    net = fb.mlp([4, 8, 3], seed=0)
    names = {"fb": fb, "net": net}
    with contextlib.chdir(tmp_path):
        exec(compile(block, "docs/exchange.md", "exec"), names)
    X = np.random.default_rng(0).normal(size=(9, 4)).astype("f4")
    assert names["net"] is not net
    assert [type(each) for each in names["net"].layers] == [type(each) for each in net.layers]
    assert (names["net"].predict(X) == net.predict(X)).all()
