"""Training: microseconds per step, compared with the peers and the processor's peak.

    python bench/training.py --quick
"""

import dataclasses
import os
from pathlib import Path

import common
import numpy as np
from peers import (
    TOLERANCE,
    TRAINERS,
    FastBP,
    NumPy,
    PyTorch,
    Task,
    distances,
    make_task,
    make_weights,
)

import fastbp as fb
from fastbp.kernels import dispatch

# Layers, rows of a batch, steps of an epoch: 10 ms or more each, so that nothing but steps counts.
WORKLOADS = [
    ([8, 64, 64, 4], 64, 500),
    ([64, 64, 10], 32, 500),
    ([32, 128, 128, 2], 256, 100),
    ([784, 256, 128, 10], 128, 40),
    ([784, 1024, 1024, 1024, 10], 256, 6),
]
PARTS = ("peers", "tiers", "subnormals", "mnist")


def main():
    parser = common.parser(__doc__, TRAINERS)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("FASTBP_DATA"),
                        metavar="FOLDER", help="where mnist.npz is (default: FASTBP_DATA)")
    arguments = common.begin(parser)
    if arguments.quick and arguments.peers == list(TRAINERS):
        arguments.peers.remove("compile")
        print("torch.compile takes a minute and is left out of --quick, unless --peers names it\n")
    peers = common.choose(arguments, TRAINERS)
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    results = {"machine": machine}
    if "peers" in arguments.parts:
        results["peers"] = [
            row for optimizer in ("sgd", "adam")
            for row in against_peers(arguments, peers, optimizer, machine["peak"])
        ]
        print(rows_behind(results["peers"]) + "\n")
    if "tiers" in arguments.parts:
        results["tiers"] = tiers_and_dtypes(arguments)
    if "subnormals" in arguments.parts:
        results["subnormals"] = subnormals(arguments, peers)
    if "mnist" in arguments.parts:
        results["mnist"] = mnist(arguments, peers)
    common.save(arguments, "training", results, chart)


def workloads(arguments, **settings):
    """Each with its name: layers and batch size."""
    for sizes, batch, steps in WORKLOADS:
        if arguments.quick:
            steps = max(3, steps // 5)
        yield f"{'-'.join(map(str, sizes))}, {batch}", make_task(sizes, batch, steps, **settings)


def contend(task, peers, rounds):
    """All contenders that learn the same as fastbp, timed in turn; the times are those of a step.

    Returns
    -------
    dict of str to dict
        By contender: ``"min"``, ``"median"`` and ``"all"``, in seconds, ``"ratio"`` of the minimum
        to fastbp's, and ``"apart"``: see `peers.distances`.
    """
    made = [common.make(peer, task) for peer in peers]
    contenders = [FastBP(task), *(peer for peer in made if peer is not None)]
    apart = {}
    for contender, distance in zip(contenders, distances(task, contenders), strict=True):
        limit = getattr(contender, "tolerance", TOLERANCE)[task.optimizer]
        if not distance <= limit:
            raise SystemExit(f"{contender.name} learns something else: after an epoch its "
                             f"parameters are {distance:.2g} of the way off, more than {limit:g}")
        apart[contender.name] = distance
    epochs = common.interleave({peer.name: peer.epoch for peer in contenders}, rounds)
    return {
        name: {
            "min": times["min"] / task.steps,
            "median": times["median"] / task.steps,
            "ratio": times["min"] / epochs["fastbp"]["min"],
            "apart": apart[name],
            "all": [seconds / task.steps for seconds in times["all"]],
        }
        for name, times in epochs.items()
    }


def against_peers(arguments, peers, optimizer, peak):
    """The five workloads with one optimizer."""
    results, rows = [], []
    for name, task in workloads(arguments, optimizer=optimizer, dtype=arguments.dtype):
        times = contend(task, peers, arguments.rounds)
        rate = task.flops / times["fastbp"]["min"] / 1e9
        results.append({"workload": name, "optimizer": optimizer, "gflops": rate,
                        "share_of_peak": rate / peak, "contenders": times})
        rows.append([
            name, common.time_text(times["fastbp"]["min"]), f"{rate:.1f}", f"{rate / peak:.0%}",
            *(f"{common.time_text(times[p.name]['min'])} ({times[p.name]['ratio']:.2f}×)"
              if p.name in times else "–" for p in peers),
        ])
    header = ["layers, batch", "fastbp", "GFLOP/s", "of peak", *(peer.name for peer in peers)]
    title = {"sgd": "SGD", "adam": "Adam"}[optimizer]
    common.table(f"{title}: time of a step (and its ratio to fastbp's)", header, rows,
                 arguments.markdown)
    return results


def rows_behind(results):
    """A line that counts the rows in which a peer's step takes less time than fastbp's."""
    behind = []
    for row in results:
        ahead = [f"{name} {times['ratio']:.2f}×" for name, times in row["contenders"].items()
                 if times["ratio"] < 1]
        if ahead:
            behind.append(f"{row['workload']}, {row['optimizer']} ({', '.join(ahead)})")
    count = f"Rows in which a peer is ahead: {len(behind) or 'none'} of {len(results)}"
    return f"{count}: {'; '.join(behind)}." if behind else f"{count}."


def tiers_and_dtypes(arguments):
    """SGD in each tier but plain C, and in float64, against the tier's own peak for the dtype."""
    best = dispatch.isa()
    tiers = [best, *(isa for isa in reversed(dispatch.available()) if isa not in (best, "scalar"))]
    cases = [(isa, "float32") for isa in tiers] + [(best, "float64")]
    peaks = {case: common.fma_peak(case[1], arguments.threads, case[0]) for case in cases}
    results, rows = [], []
    double = workloads(arguments, dtype="float64")
    for (name, single), (_, other) in zip(workloads(arguments), double, strict=True):
        tasks = {"float32": single, "float64": other}
        contenders = {(isa, dtype): FastBP(tasks[dtype], isa) for isa, dtype in cases}
        times = common.interleave({case: net.epoch for case, net in contenders.items()},
                                  1 + arguments.rounds)  # one to warm up
        rates = {case: single.flops * single.steps / times[case]["min"] / 1e9 for case in cases}
        results += [
            {"workload": name, "tier": isa, "dtype": dtype, "gflops": rates[isa, dtype],
             "share_of_peak": rates[isa, dtype] / peaks[isa, dtype],
             "rate_to_first": rates[isa, dtype] / rates[cases[0]]}
            for isa, dtype in cases
        ]
        rows.append([name, *(f"{rates[case]:.1f} ({rates[case] / peaks[case]:.0%})"
                             for case in cases), f"{rates[cases[-1]] / rates[cases[0]]:.0%}"])
    header = ["layers, batch", *(f"{isa} {dtype}, peak {peaks[isa, dtype]:.0f}"
                                 for isa, dtype in cases), "float64 to float32"]
    common.table("fastbp with SGD, tier by tier: GFLOP/s (and share of that tier's peak)", header,
                 rows, arguments.markdown)
    return results


def subnormals(arguments, peers):
    """A network whose gradients are below the least normal number, compared with an ordinary one.

    The last layer's weights are so small that what comes back through them is subnormal, and so
    are all gradients before it.  A learning rate that rounds every step to 0 keeps it that way.
    """
    sizes, batch, steps = [64, 128, 128, 128, 10], 128, 20 if arguments.quick else 100
    well = make_task(sizes, batch, steps, dtype=arguments.dtype)
    well.learning_rate = 5e-324  # the least number above 0, which scikit-learn would refuse
    tiny = np.finfo(arguments.dtype).tiny
    W, b = well.weights[-1]
    sunk = dataclasses.replace(well, weights=[*well.weights[:-1], (W * (100 * tiny), b)])

    check = NumPy(sunk)
    check.train(np.arange(batch))
    check.forward()  # the update has used the gradients up
    check.backward()
    gradients = np.abs(np.concatenate([dA.ravel() for dA in check.dA[1:-1]]))
    gradients = gradients[gradients > 0]
    share = float((gradients < tiny).mean())

    contenders = {}
    for peer in (FastBP, *peers):
        pair = common.make(peer, well), common.make(peer, sunk)
        if None not in pair:
            contenders |= {(peer.name, kind): made.epoch
                           for kind, made in zip(("well", "sunk"), pair, strict=True)}
    common.interleave(contenders, 1)  # to warm up
    times = common.interleave(contenders, 2 * arguments.rounds)
    results, rows = {"share_subnormal": share, "contenders": {}}, []
    for name in dict.fromkeys(name for name, _ in times):
        usual, slow = (times[name, kind]["min"] / steps for kind in ("well", "sunk"))
        results["contenders"][name] = {"normal": usual, "subnormal": slow, "ratio": slow / usual}
        rows.append([name, common.time_text(usual), common.time_text(slow), f"{slow / usual:.2f}"])
    common.table(
        f"{'-'.join(map(str, sizes))}, {batch}: time of a step where {share:.0%} of the gradients "
        "that NumPy propagates are subnormal",
        ["", "normal", "subnormal", "ratio"], rows, arguments.markdown,
    )
    return results


def mnist(arguments, peers):
    """Handwritten digits to 98 % and more, and PyTorch with the same recipe, epochs in turn."""
    path = None if arguments.data is None else arguments.data / "mnist.npz"
    if path is None or not path.exists():
        print("MNIST is left out: there is no mnist.npz in the folder given by --data or "
              "FASTBP_DATA\n")
        return None
    with np.load(path) as data:
        X, X_test = ((data[name].reshape(-1, 784) / 255).astype(arguments.dtype)
                     for name in ("X_train", "X_test"))
        y, y_test = (data[name].astype(np.int64) for name in ("y_train", "y_test"))
    epochs = 2 if arguments.quick else 20
    weights = make_weights([784, 256, 128, 10], arguments.dtype, np.random.default_rng(0))
    task = Task(X, y, weights, 128, "adam", fb.schedules.Cosine(0.002, epochs=epochs), dropout=0.2)
    contender = FastBP(task)
    other = common.make(PyTorch, task) if PyTorch in peers else None
    others_seconds = []
    history = contender.net.fit(
        X, y, loss=contender.loss, optimizer=contender.optimizer, epochs=epochs, batch_size=128,
        callbacks=[lambda run: others_seconds.append(other.epoch())] if other else [], seed=0,
    )
    results = {"epochs": epochs}
    for name, net, seconds in (("fastbp", contender, history["seconds"]),
                               ("PyTorch", other, others_seconds)):
        if net is not None:
            accuracy = float((net.predict(X_test).argmax(axis=1) == y_test).mean())
            results[name] = {"test_accuracy": accuracy, "seconds_per_epoch": min(seconds),
                             "median": float(np.median(seconds)), "all": seconds}
    rows = [
        [name, f"{r['test_accuracy']:.2%}", f"{r['seconds_per_epoch']:.3f}",
         f"{r['seconds_per_epoch'] / results['fastbp']['seconds_per_epoch']:.2f}×"]
        for name, r in results.items() if name != "epochs"
    ]
    common.table(
        f"MNIST, 784-256-128-10, batch 128, dropout 0.2, Adam at 0.002 falling along a cosine, "
        f"{epochs} epochs",
        ["", "test accuracy", "seconds per epoch", "ratio"], rows, arguments.markdown,
    )
    return results


def chart(results):
    """How many times as long as fastbp each peer takes; None if no peer was measured."""
    if "peers" not in results:
        return None
    steps = results["peers"]

    def draw(plt):
        figure, panels = plt.subplots(2, 1, figsize=(10, 7.5), sharey=True, layout="constrained")
        names = list(dict.fromkeys(name for row in steps for name in row["contenders"]))[1:]
        for axes, optimizer in zip(panels, ("sgd", "adam"), strict=True):
            rows = [row for row in steps if row["optimizer"] == optimizer]
            width = 0.8 / max(1, len(names))
            for i, name in enumerate(names):
                ratios = [row["contenders"].get(name, {}).get("ratio", np.nan) for row in rows]
                places = np.arange(len(rows)) - 0.4 + width * (i + 0.5)
                axes.bar(places, np.subtract(ratios, 1), 0.92 * width, 1,
                         color=common.COLORS[name], label=name)
                for place, ratio in zip(places, ratios, strict=True):
                    if ratio == ratio:
                        axes.annotate(f"{ratio:.{2 if ratio < 9.995 else 1}f}",
                                      (place, max(1, ratio)), (0, 2), textcoords="offset points",
                                      ha="center", fontsize=6.5)
            axes.axhline(1, color=common.COLORS["fastbp"], linewidth=1.5)
            axes.set_yscale("log")
            axes.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
            axes.minorticks_off()
            axes.set_ylabel("time of a step, fastbp = 1")
            axes.set_title("SGD" if optimizer == "sgd" else "Adam", loc="left")
            axes.spines[["top", "right"]].set_visible(False)
            axes.set_xticks(range(len(rows)), [
                f"{row['workload'].replace(', ', chr(10) + 'batch ')}\n{row['share_of_peak']:.0%} "
                "of peak" for row in rows
            ])
        if names:
            panels[0].legend(frameon=False, ncols=3)
        return figure

    return draw


if __name__ == "__main__":
    main()
