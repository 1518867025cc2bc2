"""Kill one of the processes that train a network together, and check what they leave.

    python bench/kill_processes.py --moments 20

At a random moment a process gets SIGKILL.  The others have to end by themselves within seconds, and
what is in the folder of checkpoints has to resume, in one process, to the bits of a training that
nothing has ended.  The script ends with 1 where that is not so.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import fastbp as fb

SECONDS = 20  # for the others to end


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--moments", type=int, default=20, metavar="N", help="(default: 20)")
    parser.add_argument("--processes", type=int, default=2, metavar="N", help="(default: 2)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the moments")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.work)
        return 0
    draw, bad = random.Random(arguments.seed), 0
    for i in range(arguments.moments):
        victim, delay = draw.randrange(arguments.processes), 2 * draw.random()
        with tempfile.TemporaryDirectory() as folder:
            epochs, seconds, wrong = kill(folder, arguments.processes, victim, delay)
        bad += wrong is not None
        print(f"{i + 1:3}: process {victim} after {delay:.2f} s and {epochs} epochs, the others "
              f"ended within {seconds:.2f} s: {wrong or 'the same bits'}", flush=True)
    print(f"{bad} of {arguments.moments} went wrong")
    return int(bad > 0)


def kill(folder, processes, victim, delay):
    """Kill a process some seconds after all have begun to train.

    Returns the epochs that were saved, the seconds until the others had ended, and what is wrong or
    None.
    """
    started = subprocess.Popen(command(processes, folder), stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    try:
        # MPI may have something to say of its own.
        words = (line.split() for line in started.stdout)
        ids = [int(next(each[1] for each in words if each[:1] == ["process"]))
               for _ in range(processes)]
        time.sleep(delay)
        os.kill(ids[victim], signal.SIGKILL)
        begin = time.monotonic()
        started.communicate(timeout=SECONDS)
    finally:
        started.kill()
    seconds = time.monotonic() - begin
    left = [each for each in ids if is_running(each)]
    saved = Path(folder, "run")
    epochs = max((int(path.stem[-8:]) for path in saved.glob("*.fastbp")), default=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # no checkpoint is damaged
        resumed = train(saved, epochs + 1)
    shutil.rmtree(saved)
    if left or started.returncode == 0:
        return epochs, seconds, f"expected all to end with an error, but {left} are still there"
    if resumed != train(saved, epochs + 1):
        return epochs, seconds, "expected the same bits"
    return epochs, seconds, None


def command(processes, folder):
    mpiexec = Path(sys.executable).with_name("mpiexec")
    return [str(mpiexec if mpiexec.exists() else "mpiexec"), "--allow-run-as-root",
            "--oversubscribe", "-n", str(processes), sys.executable, __file__,
            "--work", str(folder)]


def is_running(process):
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, 0)
        return True
    return False


def work(folder):
    """In each process: train for so long that there is time to kill one."""
    from mpi4py import MPI

    print("process", os.getpid(), flush=True)
    train(Path(folder, "run"), 10000, communicator=MPI.COMM_WORLD)


def train(folder, epochs, communicator=None):
    """A hash of what a training leaves, which goes on where the folder has checkpoints."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1500, 12), np.float32)
    y = (X[:, 0] * X[:, 1] > X[:, 2]).astype(int)
    net = fb.Sequential([fb.Dense(12, 40), fb.BatchNorm(40), fb.ReLU(), fb.Dropout(0.1),
                         fb.Dense(40, 2)], seed=0)
    optimizer = fb.AdamW(0.01)
    history = net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer, epochs=epochs,
                      batch_size=700, seed=0, validation_fraction=0.2, n_threads=1,
                      checkpoint=folder, resume=True, communicator=communicator)
    arrays = [net.parameters, net.buffers, *optimizer.state.values(), *(
        np.asarray(values, float) for name, values in history.items() if name != "seconds")]
    return hashlib.sha256(b"".join(map(np.ndarray.tobytes, arrays))).hexdigest()


if __name__ == "__main__":
    raise SystemExit(main())
