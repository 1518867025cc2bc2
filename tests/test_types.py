"""What type checkers say of programs that use fastbp."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp

pytest.importorskip("mypy")
pytestmark = pytest.mark.once
README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")

# The marked lines are wrong, and no other.
WRONG = """\
import numpy as np
import fastbp as fb

net = fb.Sequential([fb.Dense("4", 8), fb.ReLU()])  # wrong
net = fb.Sequential([fb.Dense(4, 8), "relu"])  # wrong
net = fb.mlp([4, 8, 2], dropout="0.5")  # wrong
X, y = np.zeros((3, 4)), np.zeros(3, int)
net.fit(X, y)  # wrong
net.fit(X, y, loss=fb.SoftmaxCrossEntropy, epochs=3)  # wrong
net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epoch=3)  # wrong
history = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.Adam(0.01), epochs=3)
history.losses  # wrong
Z: str = net.predict(X)  # wrong
Z_float = net.predict(X) + 1.0
net.predict(X, activation=1)  # wrong
fb.Adam(beta_1=0.9)  # wrong
fb.Huber(delta="1")  # wrong
fb.PinballLoss("0.5")  # wrong
fb.PinballLoss([0.1, 0.9])
fb.kernels.huber(X, X, delta=None)  # wrong
fb.kernels.relu(X, 0.1)  # wrong
fb.LeakyReLU(0.1).alpha.upper()  # wrong
net.layers[0].unknown  # wrong
net.save(1)  # wrong
"""


def mypy(code, folder):
    """The lines that ``mypy --strict`` finds fault with, and what it says."""
    (folder / "program.py").write_text(code)
    environment, package = dict(os.environ), Path(fastbp.__file__).parent.parent
    if package == Path(__file__).parent.parent:  # installed as editable, which mypy does not see
        environment["MYPYPATH"] = str(package)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--allow-untyped-calls",
         "--ignore-missing-imports", "program.py"],
        capture_output=True, text=True, cwd=folder, check=False, env=environment)
    assert result.returncode in (0, 1), result.stdout + result.stderr
    errors = re.findall(r"^program\.py:(\d+): error: (.*)$", result.stdout, re.MULTILINE)
    return {int(line): words for line, words in errors}


def test_the_readmes_program_is_right(tmp_path):
    programs = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert mypy("\n".join(programs[:2]), tmp_path) == {}


def test_mistakes_are_found(tmp_path):
    marked = [i for i, line in enumerate(WRONG.splitlines(), 1) if line.endswith("# wrong")]
    found = mypy(WRONG, tmp_path)
    assert sorted(found) == marked, found
