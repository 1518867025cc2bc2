"""Trainings give the bits that they gave on another day: the hashes of bench/reproducibility.py."""

import importlib.util
import json
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "bench" / "reproducibility.py"

pytestmark = [pytest.mark.once,
              pytest.mark.skipif(not SCRIPT.exists(), reason="no benchmarks beside the tests")]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("reproducibility", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", ["classification", "regression", "deep", "embeddings", "matrices", "members"])
def test_every_way_to_train_gives_the_stored_hash(script, name):
    stored = json.loads(script.STORED.read_text())
    found = script.check([name])
    assert len(found) == 2 * len(list(script.ways())) >= 16
    wrong = [each for each in found if each[3] != stored[f"{each[0]} {each[1]}"]]
    assert not wrong


def test_a_hash_is_of_what_a_training_leaves(script):
    """Another seed is another hash, and so is another row of the data."""
    seen = {script.fingerprint(name, dtype) for name in script.NETWORKS
            for dtype in script.dtypes(name)}
    script.NETWORKS["other"] = lambda dtype: (
        script.fb.mlp([20, 64, 33, 5], dtype=dtype, seed=2), *script.classification(dtype)[1:])
    seen.add(script.fingerprint("other", "float32"))
    numbers = script.numbers
    script.numbers = lambda *shape: numbers(*shape) * (1 + 1e-7)
    try:
        seen.add(script.fingerprint("classification", "float32"))
    finally:
        script.numbers = numbers
    assert len(seen) == 2 * 6 + 2 + 2
