"""Random networks of every layer: the executor's bits are the reference interpreter's.

`bench/random_programs.py` draws them, and plays as many more as one likes.
"""

import pytest

import fastbp as fb

pytestmark = pytest.mark.once


# 5065: threads of a team that Python interrupts at once have to have begun.
@pytest.mark.parametrize("seed", [*range(60), 5065])
def test_the_interpreters_bits(random_programs, seed):
    """In every tier and number of threads: all that a training leaves behind."""
    case = random_programs.Case(seed)
    assert case.differences() == [], case


def test_what_is_drawn(random_programs):
    """Every layer, loss and optimizer is among them, and containers within containers."""
    cases = [random_programs.Case(seed) for seed in range(60)]
    networks = [case.network() for case in cases]
    leaves = {type(layer) for net in networks for _, layer in net.leaves}
    assert leaves >= {random_programs.Own, fb.Dense, fb.Dropout, fb.LayerNorm, fb.RMSNorm,
                      fb.BatchNorm, fb.PReLU, fb.Embedding, fb.PeriodicEmbedding,
                      fb.PiecewiseLinearEmbedding, fb.Repeat, fb.Scale, fb.EnsembleDense,
                      fb.SeparateDense, fb.MeanOfMembers, *fb.layers.ACTIVATIONS.values()}
    assert max(where.count(".") for net in networks for where, _ in net.leaves) >= 4
    assert len({type(case.loss) for case in cases}) == 8
    assert len({type(case.optimizer()) for case in cases}) == 6


def test_a_difference_is_noticed(random_programs, monkeypatch):
    case = random_programs.Case(0)
    train = case.train
    monkeypatch.setattr(case, "train", lambda n_threads, by_interpreter=False: (
        train(n_threads, by_interpreter) | {"ended": None if by_interpreter else n_threads == 3}))
    assert [what for what in case.differences() if "scalar, 3 threads: ended" in what]
