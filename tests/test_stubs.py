"""The stubs of the compiled modules say what the modules have."""

import subprocess
import sys

# What every compiled module has and nobody calls.
ALLOWED = r"""
fastbp\.kernels\.\w+\.__test__
fastbp\.kernels\.\w+\.__pyx_capi__
fastbp\.kernels\.\w+\.__(reduce|setstate)_cython__
"""


MODULES = [
    "activations", "dense", "dispatch", "engine", "inference", "losses", "metrics", "optimizers",
]


def test_stubs_agree_with_the_compiled_modules(tmp_path):
    allowed = tmp_path / "allowed"
    allowed.write_text(ALLOWED)
    result = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", *(f"fastbp.kernels.{name}" for name in MODULES),
         "--allowlist", allowed, "--ignore-unused-allowlist"],
        capture_output=True, text=True, cwd=tmp_path, check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
