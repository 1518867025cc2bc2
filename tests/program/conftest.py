"""What the tests of programs share."""

import importlib.util
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench" / "random_programs.py"


@pytest.fixture(scope="session")
def random_programs():
    """The module that draws them."""
    if not BENCH.exists():
        pytest.skip("no benchmarks beside the tests")
    spec = importlib.util.spec_from_file_location("random_programs", BENCH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
