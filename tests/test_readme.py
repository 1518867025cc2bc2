"""The README's examples run as written, and what it points to is there."""

import ast
import contextlib
import io
import re
import warnings
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning

import fastbp as fb

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the README's blocks define, run in order, with all they printed."""
    namespace, printed = {"__name__": "readme"}, []
    folder = tmp_path_factory.mktemp("readme")
    write_people(folder / "people.csv")
    with contextlib.chdir(folder):
        for i, block in enumerate(BLOCKS):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, f"README block {i}", "exec"), namespace)
            printed.append(out.getvalue().splitlines())
    return namespace | {"printed": printed, "folder": folder}


def write_people(path):
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


def test_the_ten_lines(names):
    scores, label = names["printed"][0]
    assert ast.literal_eval(scores)["accuracy"] > 0.9
    assert int(label) == names["y"][0]
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 12
    assert sorted(path.name for path in names["folder"].iterdir()) == [
        "digits.h", "digits.safetensors", "digits8.h", "estimators.png", "members.png",
        "people.csv", "scaled.safetensors", "weights.safetensors"]


def test_the_loop_of_ones_own(names):
    assert names["value"] < 0.5
    assert names["optimizer"].steps == 44


def test_the_grid_search(names):
    best, accuracy = names["printed"][2]
    assert ast.literal_eval(best) == names["search"].best_params_
    assert float(accuracy.split()[-1]) > 0.94
    assert len(names["left"].lines) == 3 and len(names["right"].lines) == 2
    assert (names["folder"] / "estimators.png").stat().st_size > 20_000


def test_the_table(names):
    """From a file with text and missing values to predictions, in eight lines."""
    assert len([line for line in BLOCKS[3].splitlines() if line]) == 8
    kinds = names["printed"][3]
    assert any("'age' (missing" in line for line in kinds)
    people, model = names["people"], names["model"]
    unknown = people[people["income"].isna()]
    ages, cities = unknown["age"], unknown["city"]
    right = np.where((ages > 45) != (cities == "Oslo"), "high", "low")
    sure = (ages.notna() & cities.notna()).to_numpy()
    predicted = model.predict(unknown.drop(columns="income"))
    assert np.mean(predicted[sure] == right[sure]) > 0.85
    assert (names["folder"] / "members.png").stat().st_size > 10_000


def test_out_and_in(names):
    X, theirs, ours = names["X_test"], names["theirs"], names["ours"]
    assert np.allclose(ours.predict_proba(X), theirs.predict_proba(X), atol=1e-6)
    assert names["report"]["same_largest"] > 0.97
    header = (names["folder"] / "digits.h").read_text(encoding="utf-8")
    assert "from 64 floats to 10 floats" in header


def test_networks_that_are_no_chain(names):
    loss = names["deep"].history["loss"]
    assert loss[-1] < loss[0]
    X = np.array([[0.5, -1.0, 6, 11], [0.1, 2.0, 0, 0]])
    assert names["table"].predict(X).shape == (2, 1)


def test_the_layer_that_is_lowered(names):
    (check,) = names["printed"][7]
    assert float(re.search("worst relative error ([^ ]+)", check)[1]) < 1e-6
    assert "in Python" not in names["gated"].program(loss=fb.SoftmaxCrossEntropy())


def test_the_layer_of_ones_own(names):
    (check,) = names["printed"][6]
    assert float(re.search("worst relative error ([^ ]+)", check)[1]) < 1e-6
    net, X, y = names["net"], names["X"], names["y"]
    assert [type(layer).__name__ for layer in net.layers] == ["Dense", "Tanh", "Scale", "Dense"]
    assert net.layers[2].s.tolist() == [1] * 32
    history = net.fit(X[:300], y[:300], loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01),
                      epochs=5, seed=0)
    assert history["loss"][-1] < history["loss"][0] / 2
    assert (net.layers[2].s != 1).all()
    assert np.shares_memory(net.layers[2].s, net.parameters)


TEXT = README[: README.index("## The formulas")]
SNIPPETS = re.findall(r"`([^`\n]*(?:fb\.|callbacks=|MLP|model\.)[^`\n]*)`", TEXT)


@pytest.mark.parametrize("snippet", SNIPPETS)
def test_lines_in_the_text(names, snippet, monkeypatch, capsys, tmp_path):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    import matplotlib.pyplot as plt

    X, y = names["X"][:40], names["y"][:40]
    net, loss = fb.mlp([64, 128, 10], seed=0), fb.SoftmaxCrossEntropy()
    history = net.fit(X, y, loss=loss, epochs=2, validation_fraction=0.2, gradient_norms=True)
    model = fb.MLPClassifier(max_iter=2, verbose=True, early_stopping=True, validation_fraction=0.2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, y)
        code = snippet.replace("fit(…", "fit(X, y, loss=loss, epochs=1").replace(", …]", "]")
        names = {
            "fb": fb, "net": net, "networks": [net, fb.mlp([64, 10])], "X": X, "y": y,
            "loss": loss, "history": history, "model": model, "X_val": X, "y_val": y,
            "MLPClassifier": fb.MLPClassifier, "MLPRegressor": fb.MLPRegressor,
            "weights": np.ones(len(y)), "fitted": model.to_sklearn(),
        }
        exec(f"made = {code}", names)
        made = names["made"]
        if isinstance(made, BaseEstimator) and hasattr(made, "max_epochs"):
            table = pd.DataFrame(X[:, 2:5], columns=["zip code", "b", "c"])
            made.set_params(max_epochs=1, n_members=2, width=8).fit(table, y % 2)
        elif isinstance(made, BaseEstimator):
            made.set_params(max_iter=2).fit(X, y)
    plt.close("all")


def test_every_file_it_links_to_is_there():
    links = re.findall(r"\]\(([^)#:]+)\)", README)
    assert len(links) > 10
    for link in links:
        assert (ROOT / link).exists(), link


def test_the_four_steps_to_where_dW_is_computed():
    """Each step names a function in the file that it links to."""
    section = README[README.index("To see where dW is computed") :]
    steps = re.findall(r"^\d\. (.*?)(?=^\d\. |\n\n)", section, re.DOTALL | re.MULTILINE)
    assert len(steps) == 4
    for step, words in zip(
        steps,
        [["def _dense(", '"dense_backward_weights"'],
         ["void carry_out(", "FBP_OP_dense_backward_weights"],
         ["backward_weights(", "Xᵀ·dZ"], ["v_fma(A[", "a chain of fused multiply-adds"]],
        strict=True,
    ):
        code = (ROOT / re.search(r"\]\(([^)]+)\)", step)[1]).read_text(encoding="utf-8")
        for word in words:
            assert word in code


def test_the_table_has_every_layer_loss_and_optimizer():
    rows = re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE)
    kinds = [fb.Layer, fb.Loss, fb.Optimizer]
    public = [
        name for name in fb.__all__ if isinstance(getattr(fb, name), type)
        and issubclass(getattr(fb, name), tuple(kinds)) and getattr(fb, name) not in kinds
    ]
    assert sorted(rows) == sorted(public)


def test_the_map_lists_every_module():
    listed = {Path(path) for path in re.findall(r"\]\((fastbp/[^)]+\.pyx?)\)", README)}
    there = {path.relative_to(ROOT) for kind in ("py", "pyx")
             for path in ROOT.glob(f"fastbp/**/*.{kind}") if path.name != "__init__.py"}
    assert listed == there
