"""What all tests share."""

import os

# Tests have teams of threads for work that is much too small, on machines that may be busy with
# other things: whoever waits should sleep.  OpenMP reads this as it is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
from hypothesis import settings

# How long an example takes is no property.  CI draws the same examples each time, so that it
# speaks of the change it runs for; elsewhere every run draws others.
settings.register_profile("fastbp", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("fastbp")


@pytest.fixture(params=["float32", "float64"], scope="session")
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(2024)
