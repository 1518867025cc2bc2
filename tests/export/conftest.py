"""What the tests of exporters share: random networks."""

import functools

import numpy as np
import pytest

ENDS = [None, None, "softmax", "sigmoid", "exp"]


class Case:
    """A random network with rows to predict; parameters that are initially 0 or 1 have others."""

    def __init__(self, random_programs, seed):
        self.seed = seed
        case = random_programs.Case(seed, own=False)
        self.network, rng = case.network(), np.random.default_rng(seed)
        self.network.precision = "highest"  # what exported models compute in
        self.network.parameters[...] += 0.1 * rng.standard_normal(self.network.parameters.size)
        self.X = np.ascontiguousarray(case.X[:40], self.network.dtype)
        self.activation = ENDS[seed % len(ENDS)]
        self.n_in = None if self.network.n_in else self.X.shape[1]

    def predict(self):
        return self.network.predict(self.X, activation=self.activation)


@pytest.fixture(scope="session")
def random_case(random_programs):
    """A function that makes the random network of a seed, each once."""
    return functools.cache(functools.partial(Case, random_programs))
