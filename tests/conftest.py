"""What all tests share."""

import numpy as np
import pytest
from hypothesis import settings

settings.register_profile("fastbp", deadline=None)  # how long an example takes is no property
settings.load_profile("fastbp")


@pytest.fixture(params=["float32", "float64"], scope="session")
def dtype(request):
    return np.dtype(request.param)


@pytest.fixture
def rng():
    return np.random.default_rng(2024)
