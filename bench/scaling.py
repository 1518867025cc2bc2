"""How training scales with threads, width, depth and batch size, compared with PyTorch and JAX.

    python bench/scaling.py --quick

Each number of threads runs in its own process, since libraries read it as they load; there fastbp
runs on one thread, too, in turn with the others.
"""

import contextlib
import json
import os
import subprocess
import sys

import common
from peers import TRAINERS, FastBPAlone, make_task
from training import WORKLOADS, contend

PEERS = {key: TRAINERS[key] for key in ("torch", "scan")}
SHAPES = {
    "width": [16, 32, 64, 128, 256, 512, 1024, 2048],
    "depth": [1, 2, 4, 8, 16, 32],
    "batch": [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
}
QUICK = {"width": [16, 128, 1024], "depth": [1, 4, 16], "batch": [1, 16, 256]}
WHAT = {
    "threads": "Threads",
    "width": "Width n of n-n-n-n, batch 128",
    "depth": "Hidden layers of 128, batch 128",
    "batch": "Batch size of 784-256-128-10",
}


def main():
    parser = common.parser(__doc__, PEERS)
    parser.add_argument("--sweep", choices=("threads", "shapes"),
                        help="this alone, in this process, as JSON")
    arguments = parser.parse_args()
    if arguments.sweep:
        with contextlib.redirect_stdout(sys.stderr):
            results = sweep(common.begin(parser))
        print(json.dumps(results))
        return
    chosen = common.choose(arguments, PEERS)
    options = ["--peers", *(key for key in PEERS if PEERS[key] in chosen)]
    shapes = run_alone("--sweep", "shapes", *options)
    threads = [run_alone("--sweep", "threads", "--threads", str(n), *options)
               for n in range(1, 1 + len(common.available_cores()))]
    machine = shapes["machine"]
    print(common.machine_line(machine) + "\n")
    by_threads = [point for child in threads for point in child["points"]]
    show_threads(by_threads, chosen, arguments.markdown)
    for what in SHAPES:
        show(what, [point for point in shapes["points"] if point["what"] == what],
             machine["peak"], chosen, arguments.markdown)
    common.save(
        arguments, "scaling",
        {"machine": machine, "peaks": [child["machine"]["peak"] for child in threads],
         "threads": by_threads, "shapes": shapes["points"]},
        chart,
    )


def run_alone(*options):
    """This script in a child process, on its own cores."""
    environment = {name: value for name, value in os.environ.items() if name != common.STARTED}
    command = [sys.executable, __file__, *sys.argv[1:], *options]
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    return json.loads(child.stdout)


def sweep(arguments):
    """The points of one process."""
    peers = [PEERS[key] for key in arguments.peers]
    if arguments.sweep == "threads" and arguments.threads > 1:
        peers.append(FastBPAlone)
    points = []
    for what, value, sizes, batch in cases(arguments):
        task = make_task(sizes, batch, 1, dtype=arguments.dtype)
        enough = (2e8 if arguments.quick else 2e9) / task.flops
        task = make_task(sizes, batch, int(min(max(enough, 4), 500)), dtype=arguments.dtype)
        times = contend(task, peers, arguments.rounds)
        points.append({
            "what": what, "value": value, "threads": arguments.threads, "contenders": times,
            "gflops": {name: task.flops / row["min"] / 1e9 for name, row in times.items()},
        })
    return {"machine": common.machine(arguments), "points": points}


def cases(arguments):
    """What is varied, its value, layers, batch size."""
    if arguments.sweep == "threads":
        for sizes, batch, _ in WORKLOADS:
            yield "threads", f"{'-'.join(map(str, sizes))}, {batch}", sizes, batch
        return
    values = QUICK if arguments.quick else SHAPES
    for n in values["width"]:
        yield "width", n, [n] * 4, 128
    for n in values["depth"]:
        yield "depth", n, [128] * (n + 1) + [10], 128
    for n in values["batch"]:
        yield "batch", n, [784, 256, 128, 10], n


def time_and_speed(points, name, workload, threads):
    """A contender's time of a step and its speed over one thread: of the same process if it has
    measured that, else of the process with one thread.  None where it was left out."""
    found = {point["threads"]: point["contenders"] for point in points
             if point["value"] == workload}
    if name not in found[threads]:
        return None
    time = found[threads][name]["min"]
    alone = found[threads].get(f"{name}, 1 thread") or found[1].get(name)
    return time, alone["min"] / time


def show_threads(points, peers, markdown):
    names = ["fastbp", *(peer.name for peer in peers)]
    counts = sorted({point["threads"] for point in points})
    rows = []
    for workload in dict.fromkeys(point["value"] for point in points):
        row = [workload]
        for name in names:
            for n in counts:
                found = time_and_speed(points, name, workload, n)
                row.append("–" if found is None else common.time_text(found[0]) if n == 1
                           else f"{common.time_text(found[0])} ({found[1]:.2f}×)")
        rows.append(row)
    header = ["layers, batch", *(f"{name}, {n}" for name in names for n in counts)]
    common.table("Threads: time of a step with SGD (and speed over one thread)", header, rows,
                 markdown)


def show(what, points, peak, peers, markdown):
    names = ["fastbp", *(peer.name for peer in peers)]
    rows = [
        [str(p["value"]), common.time_text(p["contenders"]["fastbp"]["min"]),
         *(f"{p['gflops'][name]:.1f}" if name in p["gflops"] else "–" for name in names),
         f"{p['gflops']['fastbp'] / peak:.0%}"]
        for p in points
    ]
    common.table(WHAT[what] + ": GFLOP/s with SGD",
                 [what, "fastbp's step", *names, "fastbp, of peak"], rows, markdown)


def chart(results):
    """Four panels: speed over one thread, then GFLOP/s over width, depth and batch size."""
    by_threads, by_shape = results["threads"], results["shapes"]
    peak = results["machine"]["peak"]

    def draw(plt):
        figure, panels = plt.subplots(2, 2, figsize=(11, 8), layout="constrained")
        first, *others = panels.flat
        counts = sorted({point["threads"] for point in by_threads})
        workloads = list(dict.fromkeys(point["value"] for point in by_threads))
        lines = [("fastbp", workload, 0.3 + 0.7 * i / (len(workloads) - 1), "-")
                 for i, workload in enumerate(workloads)]
        lines += [(name, workloads[-1], 1, "--")
                  for name in by_threads[0]["contenders"] if name != "fastbp"]
        for name, workload, alpha, style in lines:
            speeds = [time_and_speed(by_threads, name, workload, n)[1] for n in counts]
            first.plot(counts, speeds, style, marker="o", alpha=alpha,
                       color=common.COLORS[name], label=f"{name}, {workload.split(',')[0]}")
        first.plot(counts, counts, ":", color="black", label="ideal")
        first.set_ylabel("speed over one thread")
        first.set_xticks(counts)
        first.set_ylim(0)
        first.set_title(WHAT["threads"], loc="left")
        first.legend(frameon=False, fontsize=8)
        for axes, what in zip(others, SHAPES, strict=True):
            points = [point for point in by_shape if point["what"] == what]
            for name in points[0]["gflops"]:
                some = [point for point in points if name in point["gflops"]]
                axes.plot([p["value"] for p in some], [p["gflops"][name] for p in some],
                          marker="o", color=common.COLORS[name], label=name)
            axes.axhline(peak, linestyle=":", color="black", label="FMA peak")
            axes.set_xscale("log", base=2)
            axes.set_xticks([p["value"] for p in points], [str(p["value"]) for p in points])
            axes.minorticks_off()
            axes.set_ylim(0, 1.08 * peak)
            axes.set_ylabel("GFLOP/s")
            axes.set_title(WHAT[what], loc="left")
            axes.legend(frameon=False, fontsize=8)
        for axes in panels.flat:
            axes.grid(alpha=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        return figure

    return draw


if __name__ == "__main__":
    main()
