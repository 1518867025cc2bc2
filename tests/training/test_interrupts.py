"""Ctrl-C during a training, and handlers of the caller's own."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import fastbp as fb
from fastbp.training.interrupts import DeferInterrupt

from .fits import Recorder, a_fit, a_net, record

# Ctrl-C


CHILD = """
import signal, sys
import numpy as np, fastbp as fb
signal.signal(signal.SIGINT, signal.default_int_handler)
rng = np.random.default_rng(0)
X, Y = rng.normal(size=(3200, 20)), rng.normal(size=(3200, 2))

class Enough(Exception):
    pass

class Counted(fb.Adam):
    until = None
    def update(self, parameters, gradients, learning_rate):
        super().update(parameters, gradients, learning_rate)
        if self.steps == self.until:
            raise Enough

def train(until=None, tell=()):
    net = fb.mlp([20, 128, 128, 2], dropout=0.2, seed=1)
    optimizer = Counted() if until else fb.Adam()
    optimizer.until = until
    try:
        net.fit(X, Y, loss=fb.Huber(), optimizer=optimizer, epochs=10**9, batch_size=64, seed=2,
                callbacks=tell)
    except (Enough, KeyboardInterrupt) as error:
        assert isinstance(error, KeyboardInterrupt) == (until is None)
    return net.parameters.tobytes(), optimizer.steps

class Tell(fb.Callback):
    def on_epoch_begin(self, training):
        if training.epoch == 0:
            print("training", flush=True)

for line in sys.stdin:
    bits, steps = train(tell=[Tell()])
    print("stopped", flush=True)
    whole = steps == 0 or train(until=steps)[0] == bits
    print("whole" if whole else "torn", steps, flush=True)
"""


def test_ctrl_c_leaves_whole_steps():
    """Interrupted at random, it has exactly the parameters of as many steps made anew."""
    child = subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, child.kill)
    watchdog.start()
    rng = np.random.default_rng()
    try:
        with child:
            for _ in range(6):
                child.stdin.write("go\n")
                child.stdin.flush()
                assert child.stdout.readline() == "training\n"
                time.sleep(0.02 + 0.2 * rng.random())
                sent = time.monotonic()
                child.send_signal(signal.SIGINT)
                assert child.stdout.readline() == "stopped\n"
                assert time.monotonic() - sent < 10
                verdict, steps = child.stdout.readline().split()
                assert verdict == "whole", f"after {steps} steps"
            child.stdin.close()
            assert child.wait() == 0
    finally:
        watchdog.cancel()
        child.kill()


LONG_STEP = """
import signal
import numpy as np, fastbp as fb
signal.signal(signal.SIGINT, signal.default_int_handler)

class Tell(fb.Callback):
    def on_epoch_begin(self, training):
        print("training", flush=True)

net = fb.mlp([4000, 4000, 1], seed=0)
before = net.parameters.tobytes()
X = np.ones((4000, 4000), "f4")
try:
    net.fit(X, X[:, 0], loss=fb.Huber(), batch_size=4000, callbacks=[Tell()])
except KeyboardInterrupt:
    print(net.parameters.tobytes() == before)
"""


def test_ctrl_c_is_answered_within_a_long_step():
    """One product here takes two minutes in the scalar tier."""
    child = subprocess.Popen([sys.executable, "-c", LONG_STEP], stdout=subprocess.PIPE, text=True,
                             env=os.environ | {"FASTBP_ISA": "scalar"})
    with child:
        try:
            assert child.stdout.readline() == "training\n"
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            assert child.communicate(timeout=10)[0] == "True\n"
        finally:
            child.kill()


def test_ctrl_c_within_a_step_waits_for_its_end(ctrl_c):
    class Interrupted(fb.Adam):
        def update(self, parameters, gradients, learning_rate):
            if self.steps == 7:
                signal.raise_signal(signal.SIGINT)
            parameters[0] += 0  # Python's chance to answer the signal
            super().update(parameters, gradients, learning_rate)

    net, twin, optimizer, whole = a_net(), a_net(), Interrupted(), record(fb.Adam())
    with pytest.raises(KeyboardInterrupt):
        a_fit(net, optimizer=optimizer, seed=0)
    a_fit(twin, optimizer=whole, seed=0)
    assert optimizer.steps == 7
    assert net.parameters.tobytes() == whole.after[6].tobytes()
    assert len(net.history["loss"]) == 1, "the epoch before it stays in the history"
    assert signal.getsignal(signal.SIGINT) is ctrl_c


def test_ctrl_c_between_steps_is_answered_at_once(ctrl_c):
    class Interrupting(Recorder):
        def forward(self, X, training=True):
            signal.raise_signal(signal.SIGINT)
            return super().forward(X, training)

    net = fb.Sequential([Interrupting(), fb.Dense(4, 3)], seed=0)
    before = net.parameters.copy()
    with pytest.raises(KeyboardInterrupt):
        a_fit(net)
    assert net.layers[0].trained == []
    assert net.parameters.tobytes() == before.tobytes()


def test_a_handler_of_ones_own_is_called_and_stays(ctrl_c):
    calls = []

    def handler(signum, frame):
        calls.append(signum)

    signal.signal(signal.SIGINT, handler)

    class Interrupted(fb.SGD):
        def update(self, parameters, gradients, learning_rate):
            signal.raise_signal(signal.SIGINT)
            super().update(parameters, gradients, learning_rate)

    a_fit(a_net(), optimizer=Interrupted(0.1))
    assert calls == [signal.SIGINT] * 10
    assert signal.getsignal(signal.SIGINT) is handler


def fails(training):
    raise RuntimeError("on purpose")


@pytest.mark.parametrize("options", [{}, {"callbacks": [fails]}, {"optimizer": fb.SGD(1e300)}],
                         ids=["success", "callback fails", "divergence"])
@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN, signal.SIG_DFL])
def test_the_handler_is_put_back(ctrl_c, options, handler):
    signal.signal(signal.SIGINT, handler)
    try:
        a_fit(a_net(), **options)
    except (RuntimeError, FloatingPointError):
        assert options
    assert signal.getsignal(signal.SIGINT) is handler


def test_fit_in_another_thread_leaves_signals_alone(ctrl_c):
    found = []

    def train():
        a_fit(a_net(), callbacks=[lambda _: found.append(signal.getsignal(signal.SIGINT))])

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert found == [ctrl_c] * 2


# A handler of a callback's own


@pytest.mark.parametrize("chained", [False, True])
def test_a_handler_that_a_callback_installs_stays(ctrl_c, chained):
    called = []

    def install(training):
        if training.epoch == 0:
            found = signal.getsignal(signal.SIGINT)

            def mine(signum, frame):
                called.append(training.epoch)
                if chained:
                    found(signum, frame)

            install.handler = mine
            signal.signal(signal.SIGINT, mine)
        if training.epoch == 1:
            os.kill(os.getpid(), signal.SIGINT)

    try:
        a_fit(a_net(), epochs=4, callbacks=[install])
        assert not chained
    except KeyboardInterrupt:
        assert chained
    assert called == [1]
    assert signal.getsignal(signal.SIGINT) is install.handler


def test_a_handler_that_a_callback_installs_waits_for_a_whole_step(ctrl_c):
    """It is called after the update during which the signal came, not in it."""
    when = []

    class Interrupted(fb.SGD):
        writing = False

        def update(self, *arguments):
            self.writing = True
            if self.steps == 8:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
            super().update(*arguments)
            self.writing = False

    optimizer = Interrupted(0.1)

    def install(training):
        signal.signal(signal.SIGINT, lambda *_: when.append((optimizer.writing, optimizer.steps)))

    a_fit(a_net(), optimizer=optimizer, callbacks=[install])
    assert when == [(False, 8)]


def test_what_is_still_deferred_at_the_end_is_handled_there(ctrl_c):
    def fail():
        signal.raise_signal(signal.SIGINT)
        raise ValueError("and then this")

    interrupts = DeferInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught, interrupts:
        interrupts.call(fail)
    assert str(caught.value.__context__) == "and then this"
    assert signal.getsignal(signal.SIGINT) is ctrl_c
    with pytest.raises(KeyboardInterrupt), DeferInterrupt(until_asked=True):
        signal.raise_signal(signal.SIGINT)
