"""show_config says what runs."""

import platform
import subprocess
import sys

import numpy as np

import fastbp as fb
from fastbp.kernels import dispatch


def test_show_config(capsys):
    assert fb.show_config() is None
    lines = capsys.readouterr().out.splitlines()
    shown = {line[:17].strip(): line[17:].strip() for line in lines}
    assert list(shown) == ["fastbp", "instruction set", "bfloat16", "threads", "OpenMP",
                           "compiler", "machine", "Python", "NumPy"]
    assert shown["fastbp"] == fb.__version__
    assert shown["instruction set"].split()[0] == dispatch.isa()
    assert all(isa in shown["instruction set"] for isa in dispatch.compiled())
    assert shown["threads"].isdigit()
    assert shown["OpenMP"].startswith("yes" if dispatch.build_info()["openmp"] else "no")
    assert shown["compiler"] == dispatch.build_info()["compiler"]
    assert platform.machine() in shown["machine"]
    assert shown["Python"] == platform.python_version()
    assert shown["NumPy"] == np.__version__


def test_a_build_without_openmp_says_so(capsys, monkeypatch):
    build = dispatch.build_info() | {"openmp": None}
    monkeypatch.setattr(fb.config.dispatch, "build_info", lambda: build)
    fb.show_config()
    assert "OpenMP           no: the compiler had none\n" in capsys.readouterr().out


WITHOUT_EXTRAS = """
import sys
for extra in ("matplotlib", "pandas", "scipy", "sklearn", "tqdm", "tqdm.auto"):
    sys.modules[extra] = None
import numpy as np, fastbp as fb
net = fb.mlp([2, 3, 2], seed=0)
net.fit(np.ones((4, 2)), [0, 1, 0, 1], loss=fb.SoftmaxCrossEntropy(), epochs=1, verbose=1)
net.save(sys.argv[1])
fb.load(sys.argv[1]).evaluate(np.ones((4, 2)), np.ones((4, 2)), loss=fb.MeanSquaredError())
"""


def test_numpy_and_safetensors_are_enough(tmp_path):
    result = subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS, tmp_path / "model"],
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_public_names_are_there():
    assert sorted(fb.__all__) == sorted(set(fb.__all__))
    for name in fb.__all__:
        assert getattr(fb, name) is not None


def test_an_import_loads_no_more_than_it_needs():
    code = ("import sys, fastbp; print(*(set(sys.argv[1].split()) & set(sys.modules)))")
    result = subprocess.run(
        [sys.executable, "-c", code,
         "numpy.ma numpy.random sklearn scipy matplotlib pandas tqdm safetensors"],
        capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
