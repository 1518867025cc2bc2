"""The stubs of the compiled modules say what the modules have."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import fastbp
from fastbp import kernels

pytestmark = pytest.mark.once

# What every compiled module has and nobody calls.
ALLOWED = r"""
fastbp\.kernels\.\w+\.__test__
fastbp\.kernels\.\w+\.__pyx_capi__
fastbp\.kernels\.\w+\.__(reduce|setstate)_cython__
"""


KERNELS = sorted(path.stem for path in Path(kernels.__file__).parent.glob("*.pyi"))
MODULES = [*(f"fastbp.kernels.{name}" for name in KERNELS), "fastbp.layers.activations"]


def test_stubs_agree_with_the_compiled_modules(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    config = tmp_path / "mypy.ini"
    config.write_text("[mypy]\nignore_missing_imports = True\nignore_errors = True\n")
    environment, folder = dict(os.environ), Path(fastbp.__file__).parent.parent
    if folder == Path(__file__).parent.parent:  # installed as editable, which mypy does not see
        environment["MYPYPATH"] = str(folder)
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", *MODULES, "--allowlist", allowed,
         "--ignore-unused-allowlist", "--mypy-config-file", config],
        capture_output=True, text=True, cwd=tmp_path, check=False, env=environment,
    )
    assert result.returncode == 0, result.stdout + result.stderr
