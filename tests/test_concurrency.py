"""fastbp beside others: threads, forks, global state; and a day's work in a short time.

Run as a script, this file is the processes that its tests start.
"""

import contextlib
import copy
import ctypes
import functools
import gc
import inspect
import json
import multiprocessing
import os
import pickle
import platform
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import joblib
import numpy as np
import pytest
import scipy.sparse

import fastbp as fb
from fastbp import training
from fastbp.kernels import dispatch, threads

RNG = np.random.default_rng(3)
X = RNG.normal(size=(300, 20)).astype("f4")
Y = np.arange(300) % 5
CROSS_ENTROPY = fb.SoftmaxCrossEntropy()

needs_openmp = pytest.mark.skipif(not dispatch.build_info()["openmp"], reason="no OpenMP here")
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="no /proc here")


class Own(fb.SoftmaxCrossEntropy):
    """One without a compiled form, so that it is Python's turn in each step."""


def train(seed, n_threads=None, **options):
    """A network trained and what it predicts, in bytes; of another kind for each seed."""
    net = fb.mlp([20, 40 + seed, 5], ["relu", "tanh", "gelu"][seed % 3], 0.2 * (seed % 2),
                 dtype=["float32", "float64"][seed // 2 % 2], seed=seed)
    options = {"optimizer": [fb.Adam(0.01), fb.SGD(0.1, momentum=0.9)][seed % 2],
               "loss": [CROSS_ENTROPY, Own()][seed % 4 == 3], "epochs": 4,
               "validation_fraction": 0.1 * (seed % 3), "n_threads": n_threads} | options
    history = net.fit(X, Y, **options)
    del history["seconds"]
    return pickle.dumps([net.parameters.tobytes(), net.predict(X, n_threads=n_threads).tobytes(),
                         repr(history)])


@pytest.fixture(params=["whole", "shared"])
def work(request):
    """Small pieces of work in one thread, as usual, or shared out among threads all the same."""
    before = threads.set_work_per_thread(0 if request.param == "shared" else 1 << 20)
    yield
    threads.set_work_per_thread(before)


def at_once(functions):
    """What the functions return, each called in a thread of its own, all at one moment."""
    barrier = threading.Barrier(len(functions))

    def wait_and_call(function):
        barrier.wait(60)
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        return list(pool.map(wait_and_call, functions))


# Threads


def test_many_threads_predict_with_one_network(work, dtype):
    net = fb.mlp([20, 64, 33, 5], "silu", dropout=0.5, dtype=dtype, seed=0)
    large = np.concatenate([X] * 5)
    calls = [
        lambda: net.predict(X).tobytes(),
        lambda: net.predict(X.astype("f8"), activation="softmax", n_threads=2).tobytes(),
        lambda: net.predict(large, activation="sigmoid").tobytes(),
        lambda: net.predict(X[:1], activation="exp").tobytes(),
        lambda: net.predict(scipy.sparse.csr_array(X)).tobytes(),
        lambda: net.predict(large[::3], out=np.empty((500, 5), dtype), n_threads=3).tobytes(),
        lambda: net.evaluate(X, Y, loss=CROSS_ENTROPY, n_threads=2),
    ]
    alone = [call() for call in calls]
    for i in range(6):
        order = [(i + j) % len(calls) for j in range(8)]
        assert at_once([calls[j] for j in order]) == [alone[j] for j in order]


def test_many_threads_train_different_networks(work):
    alone = [train(seed) for seed in range(8)]
    for n_threads in (None, 1, 2):
        assert at_once([functools.partial(train, seed, n_threads) for seed in range(8)]) == alone


def test_threads_train_copies_of_one_network():
    net = fb.mlp([20, 30, 5], dropout=0.2, seed=0)
    net.fit(X, Y, loss=CROSS_ENTROPY, epochs=1)
    copies = [copy.deepcopy(net), copy.copy(net), pickle.loads(pickle.dumps(net)),
              net.astype("float32"), net]

    def fit(each):
        each.fit(X, Y, loss=CROSS_ENTROPY, epochs=3)
        return each.parameters.tobytes()

    assert len(set(at_once([functools.partial(fit, each) for each in copies]))) == 1


def test_predictions_go_on_beside_trainings(work):
    net, other = fb.mlp([20, 30, 5], seed=0), fb.mlp([20, 30, 5], seed=0)
    expected, alone = other.predict(X).tobytes(), train(1)
    calls = [functools.partial(train, 1)] * 2 + [lambda: net.predict(X).tobytes()] * 3
    for _ in range(5):
        assert at_once(calls) == [alone] * 2 + [expected] * 3


def attempt(net):
    try:
        net.fit(X, Y, loss=CROSS_ENTROPY, epochs=20, seed=1)
    except RuntimeError as error:
        return str(error)
    return "trained"


def test_two_threads_that_train_one_network():
    """One of them is refused, and the other's bits are those it would have had alone."""
    alone = fb.mlp([20, 30, 5], seed=0)
    assert attempt(alone) == "trained"
    for _ in range(10):
        net = fb.mlp([20, 30, 5], seed=0)
        said = at_once([functools.partial(attempt, net)] * 2)
        if said == ["trained"] * 2:  # one after the other
            continue
        assert "trained" in said
        assert any("is being used by a training already" in text for text in said)
        assert net.parameters.tobytes() == alone.parameters.tobytes()


def test_while_a_network_is_trained():
    """Nobody else may train it, in whatever way; copies may be; and afterwards anybody may."""
    net, again = fb.mlp([20, 30, 5], seed=0), fb.mlp([20, 30, 5], seed=0)
    ways = [
        lambda: net.fit(X, Y, loss=CROSS_ENTROPY),
        lambda: training.lbfgs(net, X, Y, loss=CROSS_ENTROPY),
    ]
    refused = []

    def meddle(run):
        for way in ways:
            for call in (way, lambda way=way: at_once([way])):
                before = net.parameters.tobytes()
                with pytest.raises(RuntimeError, match=r"used by a training already.*copy"):
                    call()
                assert net.parameters.tobytes() == before
                refused.append(run.epoch)
        attempt(copy.deepcopy(net))
        net.predict(X[:3])

    net.fit(X, Y, loss=CROSS_ENTROPY, epochs=2, callbacks=[meddle])
    again.fit(X, Y, loss=CROSS_ENTROPY, epochs=2)
    assert refused == [0] * 4 + [1] * 4
    assert net.parameters.tobytes() == again.parameters.tobytes()
    for wrong in ({"epochs": 0}, {"callbacks": [lambda run: 1 / 0]},
                  {"optimizer": fb.SGD(1e300)}, {"loss": None}):
        with pytest.raises((ArithmeticError, TypeError, ValueError)):
            net.fit(X, Y, **{"loss": CROSS_ENTROPY} | wrong)
        assert attempt(net) == "trained", "an error gives it back"


@needs_openmp
def test_trainings_at_once_have_a_share_of_the_processors_each(processors):
    if processors < 2:
        pytest.skip("there is one processor")
    found = run_script("shares", OMP_NUM_THREADS=None)
    assert found["alone"] == processors
    assert set(found["beside"]) <= {max(1, processors // 2), processors}
    assert max(1, processors // 2) in found["beside"]


def shares():
    """The threads of one fit, and of others while a large one is at work."""
    rows, seen, stop = np.zeros((4096, 300), "f4"), [], threading.Event()

    def fit(epochs, batch_size, *callbacks):
        fb.mlp([300, 300, 10], seed=0).fit(rows, np.arange(4096) % 10, loss=CROSS_ENTROPY,
                                           epochs=epochs, batch_size=batch_size,
                                           callbacks=callbacks)

    fit(1, 512, lambda run: seen.append(run.compiled.threads))
    began = threading.Event()

    def look(run):
        began.set()
        if stop.is_set():
            run.stop()

    other = threading.Thread(target=fit, args=(10**6, 4096, look))
    other.start()
    began.wait(60)
    for _ in range(12):
        fit(1, 512, lambda run: seen.append(run.compiled.threads))
    stop.set()
    other.join()
    return {"alone": seen[0], "beside": seen[1:]}


# Processes


def in_child(seed):
    return train(seed, 2), fb.get_num_threads()


def pool(method):
    """In a pool of processes whose parent has worked in threads."""
    threads.set_work_per_thread(0)
    fb.set_num_threads(2)
    alone = [train(seed) for seed in range(6)]
    context = multiprocessing.get_context(method)
    with context.Pool(2) as workers:
        first = workers.map(in_child, range(6))
    with ProcessPoolExecutor(2, context) as executor:
        second = list(executor.map(in_child, range(6)))
    assert train(0) == alone[0]
    return {"same": [bits for bits, _ in first + second] == alone * 2,
            "threads": sorted({n for _, n in first + second})}


@needs_openmp
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_processes_of_multiprocessing(method, processors):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip("not on this system")
    found = run_script("pool", method)
    assert found["same"]
    assert found["threads"] == [1] if method == "fork" else max(found["threads"]) <= processors


def workers_of_joblib(backend):
    threads.set_work_per_thread(0)
    alone = [train(seed, 2) for seed in range(6)]
    with joblib.parallel_config(backend, n_jobs=2):
        found = joblib.Parallel()(joblib.delayed(in_child)(seed) for seed in range(6))
    return {"same": [bits for bits, _ in found] == alone, "cpus": joblib.cpu_count(),
            "threads": sorted({n for _, n in found})}


@pytest.mark.parametrize("backend", ["loky", "multiprocessing", "threading"])
def test_workers_of_joblib(backend):
    """Each has its share of the processors, and no more threads than that."""
    found = run_script("joblib", backend, OMP_NUM_THREADS=None)
    assert found["same"]
    share = max(1, found["cpus"] // 2)
    if backend == "loky":
        assert found["threads"] == [share]
    elif backend == "multiprocessing":
        assert found["threads"] == [1]


def search(backend):
    from sklearn.model_selection import GridSearchCV

    model = fb.MLPClassifier((30,), max_iter=4, random_state=0)
    model.fit(X, Y)
    with joblib.parallel_config(backend, n_jobs=2):
        found = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=3).fit(X, Y)
    alone = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=3).fit(X, Y)
    return {"same": (found.predict_proba(X) == alone.predict_proba(X)).all().item()}


def test_a_search_in_workers():
    assert run_script("search", "loky", PYTHONWARNINGS="ignore") == {"same": True}


def prefork():
    """Servers forked from a process that has a network and worked in threads; it goes on too."""
    threads.set_work_per_thread(0)
    fb.set_num_threads(3)
    net = fb.mlp([20, 64, 5], seed=0)
    net.fit(X, Y, loss=CROSS_ENTROPY, epochs=2)
    expected, servers = net.predict(X).tobytes(), []
    trained = train(4)
    for _ in range(4):
        ours, theirs = socket.socketpair()
        child = os.fork()
        if child == 0:
            try:
                ours.close()
                with theirs, theirs.makefile("rwb") as file:
                    for line in file:
                        what = net.predict(X).tobytes() == expected
                        if line == b"train\n":
                            what = what and train(4) == trained
                        file.write(b"%d\n" % what)
                        file.flush()
            finally:
                os._exit(0)
        theirs.close()
        servers.append((child, ours, ours.makefile("rwb")))
    answers = []
    for i in range(20):
        for _, _, file in servers:
            file.write(b"train\n" if i % 10 == 5 else b"predict\n")
            file.flush()
        assert net.predict(X).tobytes() == expected
        answers += [file.readline() for _, _, file in servers]
    for child, ours, _ in servers:
        ours.shutdown(socket.SHUT_WR)
        os.waitpid(child, 0)
    return {"same": answers.count(b"1\n"), "threads": fb.get_num_threads()}


@needs_openmp
@needs_fork
def test_a_server_that_forks_before_it_serves():
    assert run_script("prefork") == {"same": 80, "threads": 3}


def forks_within():
    """Children and theirs, forked at any moment of other threads' trainings and predictions."""
    threads.set_work_per_thread(0)
    fb.set_num_threads(2)
    stop, alone = threading.Event(), train(2)
    net = fb.mlp([20, 100, 5], seed=0)
    expected = net.predict(X).tobytes()

    def keep(function):
        while not stop.is_set():
            function()

    others = [threading.Thread(target=keep, args=(function,)) for function in (
        lambda: train(1), lambda: train(3), lambda: net.predict(X), lambda: net.predict(X[:5]))]
    for other in others:
        other.start()
    codes = []
    for i in range(30):
        time.sleep(random.uniform(0, 0.02))
        child = os.fork()
        if child == 0:
            fine = False
            with contextlib.suppress(BaseException):
                if i % 3 == 0 and (grandchild := os.fork()):
                    os._exit(os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]))
                fine = (net.predict(X).tobytes() == expected and train(2) == alone
                        and fb.get_num_threads() == 1)
            os._exit(0 if fine else 1)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    stop.set()
    for other in others:
        other.join()
    return {"codes": sorted(set(codes)), "parent": train(2) == alone}


@needs_openmp
@needs_fork
def test_forked_while_other_threads_work():
    assert run_script("forks") == {"codes": [0], "parent": True}


# Global state


def state():
    """What a process has one of, fastbp's modules aside."""
    import atexit
    import decimal
    import faulthandler
    import locale
    import logging
    import signal

    mask = os.umask(0)
    os.umask(mask)
    return {
        "environment": dict(os.environ), "directory": os.getcwd(), "umask": mask,
        "signals": {int(number): repr(signal.getsignal(number))
                    for number in signal.valid_signals()},
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "timer": signal.getitimer(signal.ITIMER_REAL), "wakeup": wakeup(signal),
        "errors of NumPy": np.geterr(), "handler of NumPy": repr(np.geterrcall()),
        "printing": repr(np.get_printoptions()), "buffer": np.getbufsize(),
        "warnings": list(map(repr, warnings.filters)), "locale": locale.setlocale(locale.LC_ALL),
        "random": repr(random.getstate()),
        "random of NumPy": repr(np.random.get_state()),  # noqa: NPY002
        "decimal": repr(decimal.getcontext()), "recursion": sys.getrecursionlimit(),
        "switches": sys.getswitchinterval(), "collector": (gc.isenabled(), gc.get_threshold()),
        "path": list(sys.path), "hooks": [repr(hook) for hook in (
            sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook,
            sys.gettrace(), sys.getprofile(), *sys.meta_path, *sys.path_hooks)],
        "streams": [repr(stream) for stream in (sys.stdin, sys.stdout, sys.stderr)],
        "logging": (logging.root.level, logging.root.handlers[:], logging.root.disabled),
        "faults": faulthandler.is_enabled(), "at exit": atexit._ncallbacks(),
        "start method": multiprocessing.get_start_method(allow_none=True),
        "affinity": sorted(os.sched_getaffinity(0)), "niceness": os.nice(0),
        "floating point": floating_point(), "tasks": n_tasks(), "descriptors": descriptors(),
    }


def wakeup(signal):
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    return before


def n_tasks():
    return len(os.listdir("/proc/self/task"))


def descriptors():
    """The open ones, without that of the folder that is listed."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append((int(name), os.readlink(f"/proc/self/fd/{name}")))
    return sorted(found)


LIBM = ctypes.CDLL(None)
# What of C's fenv_t is a mode and no flag that was raised: offset, size and mask.
MODES = {"x86_64": [(0, 2, 0xFFFF), (28, 4, 0xFFFFFFC0)], "aarch64": [(0, 4, 0xFFFFFFFF)]}
FLUSH = {"x86_64": (28, 0x8040), "aarch64": (0, 1 << 24)}  # subnormal results, and inputs, are 0
MACHINE = platform.machine()
needs_modes = pytest.mark.skipif(MACHINE not in MODES or not sys.platform.startswith("linux"),
                                 reason="where the modes are is not known here")


def floating_point():
    """The control bits of the unit: rounding, flushing, traps."""
    environment = (ctypes.c_ubyte * 64)()
    assert LIBM.fegetenv(environment) == 0
    return [int.from_bytes(bytes(environment[at : at + size]), "little") & mask
            for at, size, mask in MODES.get(MACHINE, [])]


@contextlib.contextmanager
def mode(name):
    """The usual one, or another."""
    before = (ctypes.c_ubyte * 64)()
    assert LIBM.fegetenv(before) == 0
    if name in ("up", "towards zero"):
        rounding = {"x86_64": {"up": 0x800, "towards zero": 0xC00},
                    "aarch64": {"up": 0x400000, "towards zero": 0xC00000}}
        assert LIBM.fesetround(rounding[MACHINE][name]) == 0
    elif name == "flushing":
        changed = (ctypes.c_ubyte * 64)(*before)
        at, bits = FLUSH[MACHINE]
        value = int.from_bytes(bytes(changed[at : at + 4]), "little") | bits
        changed[at : at + 4] = value.to_bytes(4, "little")
        assert LIBM.fesetenv(changed) == 0
    try:
        yield
    finally:
        LIBM.fesetenv(before)


def behaves(name):
    """Whether numbers are rounded and flushed as the mode says, in NumPy."""
    one, small = np.ones(9), np.full(9, np.nextafter(0, 1))
    rounded = bool((one + 1e-20 > 1).all())
    with np.errstate(all="ignore"):
        flushed = not (np.full(9, np.finfo("f8").tiny) * 0.5).any() or not (small * 1).any()
    return (rounded, flushed) == (name == "up", name == "flushing")


IMPORT = """
import contextlib, ctypes, gc, json, multiprocessing, os, platform, random, sys, threading, warnings
import numpy as np, numpy.random, safetensors.numpy
if sys.argv[1] == "fastbp.estimators":
    import sklearn.base, sklearn.model_selection, sklearn.neural_network, scipy.optimize
LIBM, MODES, MACHINE = ctypes.CDLL(None), %s, platform.machine()
%s
before, known = state(), set(sys.modules)
__import__(sys.argv[1])
after = state()
print(json.dumps({"changed": [key for key in before if before[key] != after[key]],
                  "loaded": sorted({name.partition(".")[0] for name in set(sys.modules) - known})}))
"""


@needs_proc
@pytest.mark.parametrize("module", ["fastbp", "fastbp.estimators"])
def test_the_import_starts_and_changes_nothing(module):
    functions = (state, wakeup, n_tasks, descriptors, floating_point)
    code = IMPORT % (MODES, "\n".join(map(inspect.getsource, functions)))
    found = json.loads(python("-c", code, module))
    assert found["changed"] == []
    assert "fastbp" in found["loaded"]
    assert not {"sklearn", "scipy", "pandas", "matplotlib", "tqdm", "joblib", "threadpoolctl",
                "asyncio", "socket", "http"} & set(found["loaded"])


def calls(folder):
    """One of each kind of call, by its name; some end in an error."""
    net = fb.mlp([20, 40, 5], "gelu", dropout=0.1, seed=0)
    wide = fb.mlp([20, 40, 5], "silu", dtype="float64", seed=0)
    path, Z, small = os.path.join(folder, "model"), np.ones((300, 5), "f4"), X * np.float32(1e-40)

    def refuse(error, call, *arguments, **options):
        with contextlib.suppress(error), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*arguments, **options)
            raise AssertionError("no error")

    def fit(net, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            return net.fit(X, Y, **{"loss": CROSS_ENTROPY, "epochs": 2} | options)

    def checkpoints():
        with tempfile.TemporaryDirectory(dir=folder) as place:
            for resume in (False, True):
                fit(fb.mlp([20, 9, 5], seed=0), checkpoint=place, resume=resume)
            refuse(FileExistsError, fit, net, checkpoint=place)

    def estimators():
        model = fb.MLPClassifier((10,), max_iter=2, random_state=0, early_stopping=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.fit(X, Y).predict_proba(X)
            model = fb.MLPRegressor("squared_error", (10,), solver="lbfgs", max_iter=2,
                                    random_state=0)
            model.fit(X, X[:, 0]).predict(X)

    def damaged():
        Path(path + "-damaged").write_bytes(Path(path).read_bytes()[:-5])
        fb.load(path + "-damaged")

    net.save(path)
    return {
        "fit": lambda: fit(net),
        "fit in threads": lambda: fit(net, n_threads=2),
        "fit in float64": lambda: fit(wide, optimizer=fb.SGD(0.1, clip_norm=1.0)),
        "fit by layers": lambda: fit(net, loss=Own(), gradient_norms=True, l2=0.1),
        "fit with validation": lambda: fit(net, validation_fraction=0.2,
                                           callbacks=[fb.EarlyStopping(1)]),
        "fit sparse": lambda: net.fit(scipy.sparse.csr_array(X), Y, loss=CROSS_ENTROPY, epochs=1),
        "fit from subnormal numbers": lambda: net.fit(small, Y, epochs=1, loss=CROSS_ENTROPY),
        "a fit that diverges": lambda: refuse(FloatingPointError, fit, net,
                                              optimizer=fb.SGD(1e300)),
        "a fit that is refused": lambda: refuse(ValueError, fit, net, epochs=0),
        "a callback that fails": lambda: refuse(ZeroDivisionError, fit, net,
                                                callbacks=[lambda run: 1 / 0]),
        "lbfgs": lambda: training.lbfgs(fb.mlp([20, 9, 5], seed=0), X, Y, loss=CROSS_ENTROPY,
                                        max_iter=2),
        "predict": lambda: net.predict(X),
        "predict in threads": lambda: net.predict(X, activation="softmax", n_threads=3),
        "predict one": lambda: net.predict(X[:1], activation="exp"),
        "predict what is refused": lambda: refuse(ValueError, net.predict, X[:, :3]),
        "evaluate": lambda: net.evaluate(X, Y, loss=CROSS_ENTROPY),
        "forward and backward": lambda: net.backward(np.ones_like(net.forward(X))),
        "losses": lambda: [loss(Z, Z) for loss in (
            fb.Huber(), fb.MeanSquaredError(), fb.MeanAbsoluteError(), fb.PoissonDeviance(),
            fb.SigmoidCrossEntropy(), fb.PinballLoss())],
        "kernels": lambda: fb.kernels.softmax(Z * 1e30, out=np.empty_like(Z)),
        "gradcheck": lambda: fb.gradcheck(fb.mlp([20, 3, 5], dtype="float64", seed=0), X[:4],
                                          Y[:4], loss=CROSS_ENTROPY),
        "save": lambda: net.save(path),
        "load": lambda: fb.load(path),
        "load what is damaged": lambda: refuse(ValueError, damaged),
        "checkpoints": checkpoints,
        "copies": lambda: [pickle.loads(pickle.dumps(net)), copy.deepcopy(net), repr(net),
                           net.summary(), net.astype("float64")],
        "set_num_threads": lambda: [fb.set_num_threads(2), fb.set_num_threads(None)],
        "estimators": estimators,
    }


@pytest.fixture(scope="module")
def every_call(tmp_path_factory):
    found = calls(tmp_path_factory.mktemp("calls"))
    for call in found.values():
        call()  # what is imported late, and threads that stay for the next team
    return found


@needs_proc
def test_calls_change_nothing(every_call):
    with np.errstate(over="print", under="warn"), np.printoptions(precision=3):
        for name, call in every_call.items():
            before = state()
            call()
            after = state()
            changed = {key: (before[key], after[key]) for key in before
                       if before[key] != after[key]}
            assert not changed, name


@needs_modes
@pytest.mark.parametrize("name", ["usual", "up", "towards zero", "flushing"])
def test_calls_leave_the_floating_point_mode_as_it_was(every_call, name):
    with mode(name):
        before = floating_point()
    assert (before == floating_point()) == (name == "usual"), "the test sees the difference"
    found, held = {}, {}
    for what, call in every_call.items():
        if what == "gradcheck" and name != "usual":
            continue  # its differences may well be others
        with mode(name):
            with contextlib.suppress(FloatingPointError, AssertionError):  # "no error"
                call()
            found[what] = floating_point()
            held[what] = name == "towards zero" or behaves(name)
    assert all(bits == before for bits in found.values()), found
    assert all(held.values()), held


@needs_modes
def test_bits_do_not_depend_on_whether_subnormal_numbers_are_flushed():
    """As they are where some other library was compiled with -ffast-math."""
    alone = [train(seed) for seed in range(4)]
    with mode("flushing"):
        found = [train(seed) for seed in range(4)]
    assert found == alone
    before = floating_point()
    assert at_once([lambda: (train(1), floating_point())[1]] * 3) == [before] * 3


@pytest.mark.parametrize("kind", ["raise", "ignore", "warn"])
def test_bits_do_not_depend_on_what_numpy_does_about_errors(kind):
    alone = [train(seed) for seed in range(4)]
    large, small = X * np.float32(1e4), X * np.float32(1e-40)
    with np.errstate(all=kind):
        assert [train(seed) for seed in range(4)] == alone
        net = fb.mlp([20, 30, 5], seed=0)
        net.predict(large, activation="softmax")
        net.fit(small, Y, loss=CROSS_ENTROPY, epochs=1)


# A day's work


def soak(seconds):
    """Rounds of all calls, and some in threads and children; what is left of them."""
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        every, rng, found, rounds = calls(folder), random.Random(), [], 0
        end = time.monotonic() + float(seconds)
        # The first third is for what is made once: caches, arenas, threads that stay.
        times = [end - float(seconds) * (1 - part) for part in (0.35, 0.65, 1)]
        while times:
            names = rng.sample(sorted(every), len(every))
            for name in names:
                every[name]()
            with ThreadPoolExecutor(3) as pool:
                list(pool.map(lambda name: fb.mlp([20, 40, 5], seed=0).fit(
                    X, Y, loss=CROSS_ENTROPY, epochs=1, n_threads=2), names[:3]))
                list(pool.map(lambda name: every["predict in threads"](), names[:6]))
            if rounds % 10 == 0 and os.fork() == 0:
                every["predict"]()
                os._exit(0)
            elif rounds % 10 == 0:
                os.wait()
            rounds += 1
            if time.monotonic() > times[0] and rounds >= 3 * len(found) + 3:
                times.pop(0)
                gc.collect()
                LIBM.malloc_trim(0)
                found.append({"memory": resident(), "tasks": n_tasks(),
                              "descriptors": len(descriptors()), "rounds": rounds,
                              "objects": len(gc.get_objects())})
    return found


def resident():
    """Bytes in memory that belong to no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    return 0


SOAK = float(os.environ.get("FASTBP_SOAK", "12"))  # seconds


@needs_proc
@pytest.mark.once
def test_a_day_s_work_leaves_nothing_behind():
    first, second, last = run_script("soak", SOAK, timeout=SOAK * 3 + 100, MALLOC_ARENA_MAX="2")
    assert last["rounds"] > second["rounds"] > first["rounds"] >= 3
    assert last["tasks"] == second["tasks"] == first["tasks"]
    assert last["descriptors"] == second["descriptors"] == first["descriptors"]
    assert last["objects"] - second["objects"] < 500
    assert last["memory"] - second["memory"] < 1.5e6, (first, second, last)
    assert last["memory"] - first["memory"] < 3e6, (first, second, last)


# The processes


def python(*arguments, timeout=100, **environment):
    """What a new interpreter prints; an error of this test where it hangs."""
    path = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"PYTHONPATH": path} | environment
    with subprocess.Popen(
        [sys.executable, *map(str, arguments)], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
        env={name: value for name, value in environment.items() if value is not None},
    ) as child:
        try:
            out, err = child.communicate(timeout=timeout)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, 9)  # children of its own too
    assert child.returncode == 0, err
    return out


def run_script(*arguments, timeout=100, **environment):
    return json.loads(python(__file__, *arguments, timeout=timeout, **environment))


SCRIPTS = {
    "shares": shares, "pool": pool, "joblib": workers_of_joblib, "search": search,
    "prefork": prefork, "forks": forks_within, "soak": soak,
}

if __name__ == "__main__":
    warnings.filterwarnings("ignore", ".*fork.*", DeprecationWarning)
    print(json.dumps(SCRIPTS[sys.argv[1]](*sys.argv[2:])))
