"""Threads: who decides how many there are, and that results do not depend on it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given, settings
from hypothesis import strategies as st

import fastbp as fb
from fastbp import kernels
from fastbp.kernels import dispatch, threads

has_openmp = bool(dispatch.build_info()["openmp"])
needs_openmp = pytest.mark.skipif(not has_openmp, reason="this build has no OpenMP")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


@pytest.fixture(autouse=True)
def what_was_set():
    """Everything back to what it was."""
    before = threads.set_work_per_thread(0)
    yield
    threads.set_work_per_thread(before)
    fb.set_num_threads(None)


def python(code, **environment):
    """What a new interpreter prints."""
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True,
        check=False, timeout=300, env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


class TestHowMany:
    def test_the_cpus_this_process_may_use(self, processors):
        code = "import fastbp; print(fastbp.get_num_threads())"
        environment = dict.fromkeys(("OMP_NUM_THREADS", "OMP_THREAD_LIMIT"), "")
        expected = processors if has_openmp else 1
        assert int(python(code, **environment)) == expected

    @needs_openmp
    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"),
                        reason="this system cannot keep a process on one processor")
    def test_affinity_narrows_it(self):
        code = """
            import os
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            import fastbp
            print(fastbp.get_num_threads())
        """
        assert python(code) == "1"

    @needs_openmp
    def test_omp_num_threads_narrows_it(self):
        code = "import fastbp; print(fastbp.get_num_threads())"
        assert python(code, OMP_NUM_THREADS="1") == "1"

    @needs_openmp
    def test_threadpoolctl_sees_and_narrows_it(self):
        fb.mlp([50, 50, 50], seed=0).predict(np.ones((500, 50)), n_threads=2)
        apis = [library["user_api"] for library in threadpoolctl.threadpool_info()]
        assert "openmp" in apis
        with threadpoolctl.threadpool_limits(1):
            assert fb.get_num_threads() == 1

    @needs_openmp
    def test_set_num_threads(self):
        usual = fb.get_num_threads()
        fb.set_num_threads(3)
        assert fb.get_num_threads() == 3
        with threads.using(2):
            assert fb.get_num_threads() == 2
            with threads.using(None):
                assert fb.get_num_threads() == 2
            with threads.using(5):
                assert fb.get_num_threads() == 5
            assert fb.get_num_threads() == 2
        assert fb.get_num_threads() == 3
        fb.set_num_threads(None)
        assert fb.get_num_threads() == usual

    @needs_openmp
    def test_a_call_speaks_for_its_own_thread(self):
        seen = []
        with threads.using(7):
            other = threading.Thread(target=lambda: seen.append(fb.get_num_threads()))
            other.start()
            other.join()
        assert seen == [fb.get_num_threads()]

    @pytest.mark.parametrize("n", [0, -1, 1.5, "2", True, 10**6])
    def test_what_is_no_number_of_threads(self, n):
        net = fb.mlp([2, 2], seed=0)
        X, y, loss = np.eye(2), [0, 1], fb.SoftmaxCrossEntropy()
        for call in (
            lambda: fb.set_num_threads(n),
            lambda: net.fit(X, y, loss=loss, n_threads=n),
            lambda: net.predict(X, n_threads=n),
            lambda: net.evaluate(X, y, loss=loss, n_threads=n),
        ):
            with pytest.raises((TypeError, ValueError), match=r"^n_threads: expected a whole"):
                call()

    @needs_openmp
    def test_small_work_gets_one(self, processors):
        seen = []

        def engine_threads(sizes, batch_size, n_threads):
            X = np.zeros((batch_size, sizes[0]), "f4")
            fb.mlp(sizes, seed=0).fit(
                X, np.arange(batch_size) % sizes[-1], loss=fb.SoftmaxCrossEntropy(), epochs=1,
                batch_size=batch_size, n_threads=n_threads,
                callbacks=[lambda run: seen.append(run.compiled.threads)],
            )
            return seen.pop()

        assert engine_threads([8, 8, 4], 8, 4) == 4
        threads.set_work_per_thread(1e6)
        assert engine_threads([8, 8, 4], 8, 4) == 1
        assert engine_threads([200, 200, 10], 128, 4) == min(4, processors)
        assert engine_threads([200, 200, 10], 128, 1) == 1


THREADS = st.integers(2, 4)
SIZES = st.sampled_from([1, 2, 13, 14, 15, 31, 32, 33, 64, 101, 127, 128, 129, 256, 257, 300,
                         512, 517, 640])


@needs_openmp
@settings(max_examples=60)
@given(m=SIZES, k=SIZES, n=SIZES, dtype=st.sampled_from(["f4", "f8"]), count=THREADS,
       seed=st.integers(0, 999))
def test_products_have_the_same_bits(same_bits, m, k, n, dtype, count, seed):
    rng = np.random.default_rng(seed)
    X, W, b, dZ = (rng.normal(size=shape).astype(dtype) for shape in ((m, k), (k, n), n, (m, n)))
    used = dispatch.isa()
    for name, arrays in (("dense_forward", (X, W, b)), ("dense_backward_weights", (X, dZ)),
                         ("dense_backward_bias", (dZ,)), ("dense_backward_input", (dZ, W))):
        kernel = getattr(kernels, name)
        with threads.using(1):
            expected = kernel(*arrays)
        try:
            for isa in dispatch.available():
                dispatch.use(isa)
                with threads.using(count):
                    same_bits(kernel(*arrays), expected, f"{name}, {isa}")
        finally:
            dispatch.use(used)


@needs_openmp
@settings(max_examples=40)
@given(sizes=st.lists(SIZES, min_size=2, max_size=4), rows=SIZES, count=THREADS,
       dtype=st.sampled_from(["float32", "float64"]))
def test_predictions_have_the_same_bits(same_bits, sizes, rows, count, dtype):
    net = fb.mlp(sizes, dtype=dtype, seed=0)
    X = np.random.default_rng(0).normal(size=(rows, sizes[0])).astype(dtype)
    same_bits(net.predict(X, n_threads=count), net.predict(X, n_threads=1))


@needs_openmp
def test_more_threads_than_rows_or_columns(same_bits):
    X = np.random.default_rng(0).normal(size=(1, 3)).astype("f4")
    net = fb.mlp([3, 1, 2], seed=0)
    same_bits(net.predict(X, n_threads=4), net.predict(X, n_threads=1))
    other = fb.mlp([3, 1, 2], seed=0)
    for trained, count in ((net, 4), (other, 1)):
        trained.fit(X, [1], loss=fb.SoftmaxCrossEntropy(), epochs=3, n_threads=count, seed=0)
    same_bits(net.parameters, other.parameters)


@needs_openmp
@needs_fork
def test_a_fit_takes_fewer_threads_when_it_is_told_to():
    """In the middle, and also in a process that was forked there."""
    code = """
        import os, warnings
        import numpy as np, fastbp as fb
        from fastbp.kernels import threads
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        threads.set_work_per_thread(0)
        fb.set_num_threads(2)
        X, y = np.random.default_rng(0).normal(size=(200, 30)), np.arange(200) % 4
        child = None

        def fork(run):
            global child
            if run.epoch == 1:
                fb.set_num_threads(1)
            if run.epoch == 2:
                fb.set_num_threads(2)
                child = os.fork()

        net = fb.mlp([30, 50, 4], seed=0)
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=5, seed=0, callbacks=[fork])
        if child == 0:
            os._exit(7)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert python(code) == "7"


@needs_openmp
def test_labels_changed_under_the_team():
    X, y = np.zeros((60, 4), "f4"), np.arange(60) % 3

    def change(run):
        y[50] = 7

    with pytest.raises(ValueError, match=r"y: .*got 7"):
        fb.mlp([4, 8, 3], seed=0).fit(X, y, loss=fb.SoftmaxCrossEntropy(), callbacks=[change],
                                      n_threads=3)


@needs_openmp
def test_trainings_in_python_threads_have_teams_of_their_own():
    X = np.random.default_rng(0).normal(size=(300, 20)).astype("f4")
    y = np.arange(300) % 5
    got = {}

    def train(i):
        net = fb.mlp([20, 40, 5], seed=i)
        net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=5, seed=i, n_threads=i % 3 + 1)
        got[i] = net.parameters.tobytes()

    for i in range(4):
        train(i)
    alone, got = got, {}
    workers = [threading.Thread(target=train, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert got == alone


@needs_openmp
@needs_fork
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_trains_in_one_thread():
    code = """
        import os, sys, warnings
        import numpy as np, fastbp as fb
        from fastbp.kernels import threads
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        threads.set_work_per_thread(0)
        X, y = np.random.default_rng(0).normal(size=(200, 30)), np.arange(200) % 4

        def train():
            net = fb.mlp([30, 50, 4], seed=0)
            net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), epochs=2, seed=0, n_threads=2)
            return net.predict(X, n_threads=2).tobytes()

        expected = train()
        child = os.fork()
        if child == 0:
            os._exit(0 if train() == expected and fb.get_num_threads() == 1 else 1)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    assert python(code) == "0"


@needs_openmp
@pytest.mark.parametrize("what", ["fit", "predict", "dense_forward"])
def test_ctrl_c_reaches_a_team(what):
    """In the middle of a product that takes long, in the slowest tier."""
    code = f"""
        import _thread, signal, threading
        import numpy as np, fastbp as fb
        # A process that was started in the background ignores it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        X = np.ones((4000, 1000), "f4")
        net = fb.mlp([1000, 2000, 1000, 10], seed=0)
        W, b = np.ones((1000, 4000), "f4"), np.ones(4000, "f4")
        calls = {{
            "fit": lambda: net.fit(X, np.arange(4000) % 10, loss=fb.SoftmaxCrossEntropy(),
                                   batch_size=4000, n_threads=2),
            "predict": lambda: net.predict(X, n_threads=2),
            "dense_forward": lambda: fb.kernels.dense_forward(X, W, b),
        }}
        fb.set_num_threads(2)
        ended = []
        threading.Timer(0.5, _thread.interrupt_main).start()
        try:
            calls[{what!r}]()
            ended.append(True)
        except KeyboardInterrupt:
            print("interrupted", ended)
        assert np.isfinite(net.parameters).all()
    """
    # A call takes many seconds, and comes to its end unless it looks.
    assert python(code, FASTBP_ISA="scalar") == "interrupted []"


@needs_openmp
@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no timers")
def test_ctrl_c_reaches_a_prediction_of_many_rows():
    """In the fastest tier, whose chunks are too small to be interrupted themselves."""
    code = """
        import signal
        import numpy as np, fastbp as fb
        X = np.ones((300_000, 64), "f4")
        net = fb.mlp([64, 512, 512, 10], activation="tanh", seed=0)
        out = np.full((300_000, 10), np.nan, "f4")
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            net.predict(X, out=out)
        except KeyboardInterrupt:
            print(bool(np.isnan(out).any()))
    """
    assert python(code) == "True"
