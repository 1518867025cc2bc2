"""Training over processes that communicate by MPI: the time of a step, and what the messages cost.

    python bench/distributed.py --links 1gbit 10gbit

The script starts itself with ``mpiexec``, once for each number of processes.  Each process has one
thread.  A step's time is the fastest epoch's, divided by its steps.  "Elsewhere" is what a process
spends in calls that send, receive or wait for others.  The sum alone is that of the gradients as
training adds them up, without a product between two messages, beside MPI's own Allreduce of as many
bytes.

`model_of_step` is a formula for the time of a step.  Its constants are measured: the time of a row
and of an update in one process, the latency and bandwidth of messages between two.  The first table
compares it with the steps measured, the last uses it for more machines than there are here.

With ``--links`` (and root, iproute2), two network namespaces take the part of two machines, between
which ``tc`` limits the bandwidth.
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np

import fastbp as fb
from fastbp.kernels import segments
from fastbp.kernels.shares import share

SIZES, BATCHES = [784, 1024, 1024, 1024, 10], (512, 1024, 4096)
WIDE = [784, 4096, 4096, 4096, 10]
STEPS = 8  # of an epoch

# Of machines and networks that are not here: processes, and seconds and bytes a second of links.
MACHINES = 8, 64, 512
LINKS = {"1 Gb/s": (50e-6, 0.125e9), "10 Gb/s": (20e-6, 1.25e9), "100 Gb/s": (3e-6, 12.5e9)}
CORES = 8  # of each of those machines, as fast together as so many of this one's


def n_parameters(sizes):
    return sum((n + 1) * m for n, m in itertools.pairwise(sizes))


def model_of_step(sizes, batch, processes, row, update, latency, bandwidth):
    """Seconds of a step, from those of a row in one process and of an update.

    A third of a row's time is the gradient of weights.  It is added up in S segments, one process
    after the other: the last of K processes begins K - 1 segments after the first, and the last
    segment of the sum then passes all processes once more.  A segment takes as long as its product
    or the messages that a process sends of it, two or, of two processes, one, whichever is longer.
    """
    blocks = -(-batch // 256)
    working = min(blocks, processes)
    rows = max(b - a for a, b in (share(batch, rank, processes) for rank in range(processes)))
    if processes == 1:
        return row * batch + update
    n = n_parameters(sizes)
    count = max(1, round(n / segments.segment_size(n, processes)))
    message = latency + 4 * n / count / bandwidth
    segment = max(row * rows / 3 / count, min(2, processes - 1) * message)
    adding = (count + working - 1) * segment + (working - 1 + processes - 1) * message
    # An allreduce of a number before the outputs are gathered, each along a tree.
    outputs = 3 * latency * math.log2(processes) + 4 * batch * sizes[-1] / bandwidth
    return row * rows * 2 / 3 + adding + outputs + update


# What the processes measure.


def measure(batches, rounds):
    """In each process; the first returns what was measured."""
    from mpi4py import MPI

    from fastbp.training.distributed import Processes
    from fastbp.training.shared_turns import GradientSum, SharedTurns

    world = MPI.COMM_WORLD
    elsewhere = [0.0]

    def timed(method):
        def wrapped(*arguments):
            start = time.perf_counter()
            try:
                return method(*arguments)
            finally:
                elsewhere[0] += time.perf_counter() - start
        return wrapped

    for name in ("share_outputs", "share_gradients"):
        setattr(SharedTurns, name, timed(getattr(SharedTurns, name)))
    rng = np.random.default_rng(0)
    X = rng.random((STEPS * max(batches), SIZES[0]), np.float32)
    y = rng.integers(SIZES[-1], size=len(X))
    steps = {}
    for batch in batches:
        net, rows = fb.mlp(SIZES, seed=0), STEPS * batch
        elsewhere[0] = 0.0
        history = net.fit(X[:rows], y[:rows], loss=fb.SoftmaxCrossEntropy(), n_threads=1,
                          optimizer=fb.SGD(0.01), epochs=rounds, batch_size=batch,
                          communicator=world)
        steps[batch] = [min(history["seconds"]) / STEPS, elsewhere[0] / STEPS / rounds]
    found = {"steps": steps, "processes": world.size}
    if world.size > 1:
        n = n_parameters(SIZES)
        size = segments.segment_size(n, world.size)
        gradients, summed = np.ones(n, np.float32), np.empty(n, np.float32)
        chain = GradientSum(Processes(world), gradients,
                            [[(i, min(n, i + size))] for i in range(0, n, size)])

        def add_up():
            for i in range(len(chain.segments) + 1):
                chain.advance(i, world.size - 1)

        found |= {"sum": seconds(world, add_up),
                  "allreduce": seconds(world, lambda: world.Allreduce(gradients, summed)),
                  "latency": exchange(world, 8), "bandwidth": 4e6 / exchange(world, 4_000_000)}
    return found if world.rank == 0 else None


def seconds(world, call, rounds=15):
    """The fastest of some calls that all processes make together."""
    best = math.inf
    for _ in range(rounds):
        world.Barrier()
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


def exchange(world, n_bytes):
    """Seconds that a message of this size takes from the first process to the second."""
    message = np.zeros(n_bytes, np.uint8)

    def there_and_back():
        if world.rank == 0:
            world.Send(message, 1)
            world.Recv(message, 1)
        elif world.rank == 1:
            world.Recv(message, 0)
            world.Send(message, 0)

    return seconds(world, there_and_back) / 2


# How they are started.


def start(processes, batches, rounds, before=(), options=()):
    """What `measure` returns in so many processes."""
    mpiexec = Path(sys.executable).with_name("mpiexec")
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "measured.json")
        command = [*before, str(mpiexec if mpiexec.exists() else "mpiexec"),
                   "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", *options,
                   "-n", str(processes), sys.executable, __file__, "--work", str(output),
                   "--rounds", str(rounds), "--batches", *map(str, batches)]
        subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        return json.loads(output.read_text())


@contextlib.contextmanager
def two_machines(rate):
    """Network namespaces with a link of this rate, such as 1gbit; yields what `start` needs."""
    with tempfile.TemporaryDirectory() as folder:
        agent = Path(folder, "agent")  # in place of ssh: its first argument is an address
        agent.write_text('#!/bin/sh\ni=${1##*.}; shift\nexec ip netns exec fastbp$i '
                         'unshare --uts sh -c "hostname machine$i; $*"\n')
        agent.chmod(0o755)
        try:
            for line in (
                    "netns add fastbp1", "netns add fastbp2",
                    "link add fastbp1 netns fastbp1 type veth peer name fastbp2 netns fastbp2"):
                subprocess.run(["ip", *line.split()], check=True)
            for i in (1, 2):
                for line in (f"ip -n fastbp{i} addr add 10.77.0.{i}/24 dev fastbp{i}",
                             f"ip -n fastbp{i} link set fastbp{i} up",
                             f"ip -n fastbp{i} link set lo up",
                             f"tc -n fastbp{i} qdisc add dev fastbp{i} root tbf rate {rate} "
                             f"burst 256kb latency 50ms"):
                    subprocess.run(line.split(), check=True)
            yield (["ip", "netns", "exec", "fastbp1", "unshare", "--uts", "sh", "-c",
                    'hostname machine1; exec "$0" "$@"'],
                   ["--host", "10.77.0.1:1,10.77.0.2:1", "--prtemca", "plm_ssh_agent", str(agent),
                    "--prtemca", "prte_if_include", "10.77.0.0/24", "--mca", "btl", "tcp,self",
                    "--mca", "btl_tcp_if_include", "10.77.0.0/24"])
        finally:
            for i in (1, 2):
                subprocess.run(["ip", "netns", "del", f"fastbp{i}"], check=False)


def main():
    parser = common.parser(__doc__, dtypes=("float32",))
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], metavar="N")
    parser.add_argument("--batches", type=int, nargs="+", metavar="N")
    parser.add_argument("--links", nargs="*", default=[], metavar="RATE",
                        help="of two simulated machines, as tc takes them: 1gbit")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    rounds = arguments.rounds or (3 if arguments.quick else 15)
    batches = arguments.batches or (BATCHES[:2] if arguments.quick else BATCHES)
    if arguments.work:
        found = measure(batches, rounds)
        if found is not None:
            arguments.work.write_text(json.dumps(found))
        return
    arguments.threads, arguments.rounds = 1, rounds
    machine = common.machine(arguments, ("numpy", "mpi4py"))
    print(common.machine_line(machine) + "\n")
    measured = {f"{n} here": start(n, batches, rounds)
                for n in sorted({1, *arguments.processes})}
    for rate in arguments.links:
        if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("tc")):
            print("--links is left out: it needs root, and ip and tc of iproute2\n")
            break
        with two_machines(rate) as (before, options):
            measured[f"2 over {rate}"] = start(2, batches, rounds, before, options)
    row, update = constants(measured["1 here"]["steps"])
    show_steps(measured, row, update, batches, arguments)
    show_sums(measured, arguments)
    predicted = show_predictions(row, update, arguments)
    common.save(arguments, "distributed", {
        "machine": machine, "row": row, "update": update, "predicted": predicted,
        "measured": [{"where": where, **found} for where, found in measured.items()],
    }, chart)


def constants(steps):
    """Seconds of a row and of an update: a line through two measurements."""
    (few, (short, _)), *_, (many, (long, _)) = ((int(n), found) for n, found in steps.items())
    row = (long - short) / (many - few)
    return row, max(0.0, short - row * few)


def show_steps(measured, row, update, batches, arguments):
    alone = measured["1 here"]["steps"]
    rows = []
    for where, found in measured.items():
        n = found["processes"]
        busy = max(1, n / len(common.available_cores()))  # processes that take turns
        for batch in batches:
            step, elsewhere = found["steps"][str(batch)]
            model = model_of_step(SIZES, batch, n, row * busy, update * busy,
                                  found.get("latency", 0), found.get("bandwidth", 1))
            rows.append([where, str(batch), f"{1e3 * step:.1f}",
                         f"{alone[str(batch)][0] / step:.2f}", f"{1e3 * elsewhere:.1f}",
                         f"{1e3 * model:.1f}", f"{100 * (model / step - 1):+.0f} %"])
    common.table(f"{'-'.join(map(str, SIZES))}, SGD: milliseconds of a step",
                 ["processes", "batch", "step", "times as fast as one", "elsewhere", "model",
                  "model off by"], rows, arguments.markdown)


def show_sums(measured, arguments):
    n_bytes = 4 * n_parameters(SIZES)
    common.table(f"The sum of the gradients, {n_bytes / 1e6:.1f} MB, without computation",
                 ["processes", "ms", "MPI's Allreduce, ms", "MB that a process sends",
                  "latency, µs", "bandwidth, GB/s"],
                 [[where, f"{1e3 * found['sum']:.2f}", f"{1e3 * found['allreduce']:.2f}",
                   f"{n_bytes * min(2, found['processes'] - 1) / 1e6:.1f}",
                   f"{1e6 * found['latency']:.1f}", f"{found['bandwidth'] / 1e9:.2f}"]
                  for where, found in measured.items() if "sum" in found], arguments.markdown)


def show_predictions(row, update, arguments):
    """The model for machines that are not here; returns its numbers."""
    rows, found = [], []
    for sizes in (SIZES, WIDE):
        scale = n_parameters(sizes) / n_parameters(SIZES)
        of_row, of_update = row * scale / CORES, update * scale  # an update is limited by memory
        for link, (latency, bandwidth) in LINKS.items():
            for n in MACHINES:
                def speed(batch, sizes=sizes, n=n, of_row=of_row, of_update=of_update,
                          latency=latency, bandwidth=bandwidth):
                    alone = model_of_step(sizes, batch, 1, of_row, of_update, 0, 1)
                    return alone / model_of_step(sizes, batch, n, of_row, of_update, latency,
                                                 bandwidth)

                least = 256 * n
                pays = next((batch for batch in (least << i for i in range(20))
                             if speed(batch) >= n / 2), None)
                found.append({"sizes": sizes, "link": link, "machines": n, "batch": least,
                              "speed": speed(least), "pays_from": pays})
                rows.append(["-".join(map(str, sizes)), link, str(n), str(least),
                             f"{speed(least):.1f}", "none" if pays is None else str(pays)])
    common.table(f"The model: machines of {CORES} such cores",
                 ["network", "link", "machines", "batch of a block each", "times as fast as one",
                  "smallest batch for half of all machines' speed"], rows, arguments.markdown)
    return found


def chart(results):
    """How many times as fast as one process, over the batch size."""
    measured = {found["where"]: found for found in results["measured"]}

    def draw(plt):
        figure, axes = plt.subplots(figsize=(6, 4))
        alone = measured["1 here"]["steps"]
        for where, found in measured.items():
            axes.plot([int(batch) for batch in found["steps"]],
                      [alone[batch][0] / step for batch, (step, _) in found["steps"].items()],
                      "o-", label=where)
        axes.set(xlabel="batch", ylabel="times as fast as one process", xscale="log")
        axes.legend()
        return figure

    return draw


if __name__ == "__main__":
    main()
