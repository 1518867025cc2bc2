"""What all tests share."""

import importlib.util
import os
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

# The tests are of the fastbp that is installed.  `python -m pytest` puts the checkout before it,
# whose fastbp cannot be imported unless it was built in place.  Children import the same one.
ROOT = Path(__file__).parent.parent
BUILT = any((ROOT / "fastbp" / "kernels" / f"dispatch{suffix}").exists()
            for suffix in EXTENSION_SUFFIXES)
if sys.path[0] == str(ROOT):
    if BUILT:
        os.environ["PYTHONPATH"] = os.pathsep.join(
            filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    else:
        del sys.path[0]
os.environ["PYTHONSAFEPATH"] = "1"

# Tests have teams of threads for work that is much too small, on machines that may be busy with
# other things: whoever waits should sleep.  OpenMP reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# OpenBLAS knows no such setting: its threads wait by turning over, which takes whole processors
# from the other workers of a parallel run.  NumPy and SciPy only say here what is true.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# What children print is compared with plain text, also where a terminal or CI asks for colours.
for name in "FORCE_COLOR", "PYTHON_COLORS", "CLICOLOR_FORCE", "MYPY_FORCE_COLOR":
    os.environ.pop(name, None)

import numpy as np
import pytest
from hypothesis import settings

# How long an example takes is no property.  CI draws the same examples each time, so that it
# speaks of the change it runs for; elsewhere every run draws others.
settings.register_profile("fastbp", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("fastbp")


def pytest_configure(config):
    config.addinivalue_line("markers", "once: does not depend on the version of Python")


@pytest.fixture(params=["float32", "float64"], scope="session")
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(2024)


@pytest.fixture(scope="session")
def processors():
    """How many this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


@pytest.fixture(scope="session")
def metrics():
    """Those of scikit-learn, which has no wheels for some systems that fastbp has wheels for."""
    return pytest.importorskip("sklearn.metrics")


@pytest.fixture(scope="session")
def random_programs():
    """The module that draws random networks."""
    path = ROOT / "bench" / "random_programs.py"
    if not path.exists():
        pytest.skip("no benchmarks beside the tests")
    spec = importlib.util.spec_from_file_location("random_programs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
