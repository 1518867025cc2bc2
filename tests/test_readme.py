"""The README's examples run as written, and what it points to is there."""

import ast
import contextlib
import io
import re
from pathlib import Path

import pytest

import fastbp as fb

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def names(tmp_path_factory):
    """What the README's blocks define, run in order, with all they printed."""
    namespace, printed = {"__name__": "readme"}, []
    folder = tmp_path_factory.mktemp("readme")
    with contextlib.chdir(folder):
        for i, block in enumerate(BLOCKS):
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(block, f"README block {i}", "exec"), namespace)
            printed.append(out.getvalue().splitlines())
    return namespace | {"printed": printed, "folder": folder}


def test_the_ten_lines(names):
    scores, label = names["printed"][0]
    assert ast.literal_eval(scores)["accuracy"] > 0.9
    assert int(label) == names["y"][0]
    assert len([line for line in BLOCKS[0].splitlines() if line]) <= 12
    assert fb.load(names["folder"] / "digits.safetensors").n_out == 10


def test_the_loop_of_ones_own(names):
    assert names["value"] < 0.5
    assert names["optimizer"].steps == 44
    (check,) = names["printed"][1]
    assert float(re.search("worst relative error ([^ ]+)", check)[1]) < 1e-6


def test_to_and_from_others(names):
    assert "from 64 floats to 10 floats" in (names["folder"] / "digits.h").read_text("utf-8")
    assert (names["folder"] / "digits8.h").exists()
    X, theirs, ours = names["X"], names["theirs"], names["ours"]
    assert abs(ours.predict_proba(X) - theirs.predict_proba(X)).max() < 1e-6


def test_it_is_short():
    assert README.count("\n") <= 200


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


def test_the_snippets_of_its_table():
    """They are names of `fastbp`, where they are not whole lines."""
    found = re.findall(r"`fb\.(\w+)`", README)
    assert len(found) >= 3
    for name in found:
        assert hasattr(fb, name), name


def test_the_map_lists_every_module():
    listed = {Path(path) for path in re.findall(r"\]\((fastbp/[^)]+\.pyx?)\)", README)}
    there = {path.relative_to(ROOT) for kind in ("py", "pyx")
             for path in ROOT.glob(f"fastbp/**/*.{kind}") if path.name != "__init__.py"}
    assert listed == there
