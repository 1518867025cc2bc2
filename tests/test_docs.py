"""The pages of the documentation run as they stand."""

import contextlib
import io
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

import fastbp as fb

from .export.c_programs import compiler

pytestmark = pytest.mark.once

ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"^```(python|c|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="no documentation beside the tests")
def test_from_a_table_to_a_c_program(tmp_path):
    compiler("cc")
    namespace, printed = {"__name__": "page"}, []
    for kind, text in BLOCK.findall((ROOT / "docs" / "export.md").read_text(encoding="utf-8")):
        with contextlib.chdir(tmp_path):
            if kind == "python":
                with contextlib.redirect_stdout(io.StringIO()) as out:
                    exec(compile(text, "docs/export.md", "exec"), namespace)
                printed.append(out.getvalue())
            elif kind == "c":
                Path(re.match(r"/\* (\S+) \*/", text)[1]).write_text(text)
            else:
                run = subprocess.run(["sh", "-e"], input=text, text=True, check=True,
                                     capture_output=True)
                assert run.stderr == ""
                printed.append(run.stdout)
    from_c, from_python = [each for each in printed if each]
    assert from_c == from_python and len(from_c.split()) == 2
    prices = [float(each) for each in from_c.split()]
    assert 350 < prices[0] < 420 and 170 < prices[1] < 230


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="no documentation beside the tests")
def test_backpropagation_number_by_number(tmp_path):
    text = (ROOT / "docs" / "explain.md").read_text(encoding="utf-8")
    code = "\n".join(block for kind, block in BLOCK.findall(text) if kind == "python")
    with contextlib.chdir(tmp_path), contextlib.redirect_stdout(io.StringIO()) as out:
        exec(compile(code, "docs/explain.md", "exec"), {"__name__": "page"})
    assert (tmp_path / "backprop.html").stat().st_size > 10_000
    assert "0.W[1,2]" in out.getvalue() and "vanishes" in out.getvalue()


@pytest.mark.skipif(not (ROOT / "docs").exists(), reason="no documentation beside the tests")
def test_notebooks_and_plots(tmp_path, capsys):
    pytest.importorskip("tensorboardX")
    page = (ROOT / "docs" / "notebooks-and-plots.md").read_text(encoding="utf-8")
    names = {}
    with contextlib.chdir(tmp_path):
        for _, text in BLOCK.findall(page):
            exec(compile(text, "docs/notebooks-and-plots.md", "exec"), names)
    printed = capsys.readouterr().out
    assert "4,810 parameters" in printed and "LearningRateTest(suggestion=0.1" in printed
    pictures = sorted(tmp_path.glob("*.png"))
    assert len(pictures) == 4 and all(each.stat().st_size > 10_000 for each in pictures)
    assert list((tmp_path / "runs" / "first" / "validation").iterdir())


def test_links():
    """What the pages point to is there."""
    for page in (ROOT / "docs").glob("*.md"):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("http") or (page.parent / link).exists(), (page, link)


def test_the_readme_of_onnx_and_pytorch(tmp_path):
    """Its lines that need packages which the README's other examples do without."""
    for package in ("onnx", "onnxruntime", "torch"):
        pytest.importorskip(package)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = [each for each in re.findall(r"^```py\n(.*?)^```", readme, re.DOTALL | re.MULTILINE)
                if "to_onnx" in each]
    net = fb.mlp([4, 8, 3], seed=0)
    names = {"fb": fb, "net": net}
    with contextlib.chdir(tmp_path):
        exec(compile(block, "README", "exec"), names)
    X = np.random.default_rng(0).normal(size=(9, 4)).astype("f4")
    assert names["net"] is not net
    assert [type(each) for each in names["net"].layers] == [type(each) for each in net.layers]
    assert (names["net"].predict(X) == net.predict(X)).all()
