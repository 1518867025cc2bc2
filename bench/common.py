"""What the benchmarks share: arguments, threads, the clock, and the output of results."""

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import fastbp as fb
from fastbp.kernels import dispatch

# How many threads the libraries may use; each reads its own as it loads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS",
                    "VECLIB_MAXIMUM_THREADS", "NUMEXPR_NUM_THREADS")
STARTED = "FASTBP_BENCH_STARTED"  # set where the above is done

PACKAGES = ("numpy", "scikit-learn", "torch", "jax", "onnxruntime")

REPORT = []  # the tables that were printed

def parser(description, peers=(), *, threads="1", dtypes=("float32", "float64")):
    """The arguments of all benchmarks; `threads` is the default of `--threads`."""
    result = argparse.ArgumentParser(description=description.partition("\n")[0])
    add = result.add_argument
    add("--quick", action="store_true", help="fewer and shorter rounds: half a minute or so")
    add("--rounds", type=int, metavar="N",
        help="how often each contender's turn comes (default: 15; quick: 3)")
    add("--threads", default=threads, metavar="N",
        help=f'for everyone; "all": one for each core (default: {threads})')
    add("--core", type=int, metavar="N", help="the first core to use (default: the first there is)")
    if len(dtypes) > 1:
        add("--dtype", choices=dtypes, default=dtypes[0],
            help=f"of all data and weights (default: {dtypes[0]})")
    else:
        result.set_defaults(dtype=dtypes[0])
    add("--output", type=Path, default="bench-output", metavar="FOLDER",
        help="where JSON and charts go (default: bench-output)")
    add("--markdown", action="store_true", help="print tables in Markdown")
    if peers:
        add("--peers", nargs="*", choices=peers, default=list(peers), metavar="PEER",
            help=f"of {', '.join(peers)} (default: all)")
    return result


def begin(parser):
    """Read the arguments and set threads and cores, which may start the script again."""
    arguments = parser.parse_args()
    cores = available_cores()
    try:
        threads = len(cores) if arguments.threads == "all" else int(arguments.threads)
    except ValueError:
        parser.error(f'--threads: expected a number or "all", got {arguments.threads!r}')
    if not 1 <= threads <= len(cores):
        parser.error(f"--threads: expected 1 to {len(cores)}, got {threads}")
    first = cores[0] if arguments.core is None else arguments.core
    if first not in cores:
        parser.error(f"--core: expected one of {cores}, got {first}")
    arguments.threads = threads
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 15)
    if STARTED not in os.environ:
        start_again(cores, first, threads)
    fb.set_num_threads(threads)
    return arguments


def available_cores():
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count()))


def start_again(cores, first, threads):
    """The same script on so many cores: libraries look at them only once, as they load."""
    os.environ |= {name: str(threads) for name in THREAD_VARIABLES} | {STARTED: "1"}
    if hasattr(os, "sched_setaffinity"):
        i = cores.index(first)
        os.sched_setaffinity(0, (cores[i:] + cores[:i])[:threads])
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def fma_peak(dtype, threads=1, isa=None):
    """GFLOP/s of fused multiply-adds alone: an upper bound for every kernel."""
    before = dispatch.isa()
    dispatch.use(isa or before)
    try:
        if threads == 1:
            return max(rate(10_000, dtype) for _ in range(1000))
        # Longer, so that all are running at once.
        with ThreadPoolExecutor(threads) as pool:
            return max(
                sum(pool.map(rate, [200_000] * threads, [dtype] * threads)) for _ in range(300)
            )
    finally:
        dispatch.use(before)


def rate(length, dtype):
    """GFLOP/s of one go at the chains."""
    start = time.perf_counter()
    flops = dispatch.fma_chains(length, dtype)
    return flops / (time.perf_counter() - start) / 1e9


def machine(arguments, packages=PACKAGES):
    """The machine and versions of a measurement."""
    versions = {"Python": platform.python_version(), "fastbp": fb.__version__}
    for package in packages:
        if importlib.util.find_spec(package.replace("scikit-learn", "sklearn")) is not None:
            versions[package] = importlib.metadata.version(package)
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "tier": dispatch.isa(),
        "compiler": dispatch.build_info()["compiler"],
        "threads": arguments.threads,
        "dtype": arguments.dtype,
        "peak": fma_peak(arguments.dtype, arguments.threads),
        "rounds": arguments.rounds,
        "quick": arguments.quick,
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


def cpu_name():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def machine_line(m):
    """`machine` as text."""
    versions = ", ".join(f"{name} {version}" for name, version in m["versions"].items())
    threads = "1 thread on one core" if m["threads"] == 1 else f"{m['threads']} threads"
    quick = " (--quick)" if m["quick"] else ""
    return (f"{m['cpu']}, {threads}, {m['dtype']}; fastbp's tier {m['tier']}, measured FMA peak "
            f"{m['peak']:.0f} GFLOP/s; {m['rounds']} rounds{quick}; {m['system']}, "
            f"{m['compiler']}, {versions}; {m['date']}.")


def choose(arguments, known):
    """The peers asked for that are installed; the others are named."""
    chosen = []
    for key in arguments.peers:
        peer = known[key]
        if importlib.util.find_spec(peer.module) is None:
            print(f"{peer.name} is left out, since it is not installed: pip install {peer.pip}\n")
        else:
            chosen.append(peer)
    return chosen


def make(peer, *arguments):
    """The contender, or None, with the reason printed, where the peer cannot do it."""
    try:
        return peer(*arguments)
    except Exception as error:  # whatever it is, the others can still be measured
        reason = (str(error).strip().splitlines() or [""])[0]
        print(f"{peer.name} is left out here: {type(error).__name__}: {reason[:200]}\n")
        return None


def interleave(contenders, rounds):
    """Each contender in turn, round by round, so that all are measured under the same load.

    Every other round is reversed, so that none always follows the same one.

    Parameters
    ----------
    contenders : dict of str to callable
        Each call makes one measurement and returns it, in seconds.
    rounds : int

    Returns
    -------
    dict of str to dict
        ``"min"`` and ``"median"`` over the rounds, and ``"all"`` of them.
    """
    seconds = {name: [] for name in contenders}
    # Threads that wait for work keep a core busy for a while, 25 ms in OpenBLAS.
    rest = 0.05 if fb.get_num_threads() > 1 else 0
    for i in range(rounds):
        for name in list(contenders)[:: -1 if i % 2 else 1]:
            time.sleep(rest)
            seconds[name].append(contenders[name]())
    return {name: {"min": min(s), "median": median(s), "all": s} for name, s in seconds.items()}


def seconds_per_call(timer, at_least=0.005):
    """A function that times a block of calls that takes at least this long, and divides.

    Parameters
    ----------
    timer : timeit.Timer
        Must not wrap the statement in a call.
    """
    calls = 1
    while (elapsed := timer.timeit(calls)) < at_least:
        calls = max(2 * calls, int(1.2 * calls * at_least / max(elapsed, 1e-9)))
    return lambda: timer.timeit(calls) / calls


def table(title, header, rows, markdown=False):
    """Print a table, the first column to the left and the others to the right; `save` writes it."""
    REPORT.append({"title": title, "header": list(header), "rows": [list(row) for row in rows]})
    if markdown:
        print(f"**{title}**\n")
        print(f"| {' | '.join(header)} |\n|{'|'.join(['---', *['--:'] * (len(header) - 1)])}|")
        for row in rows:
            print(f"| {' | '.join(row)} |")
    else:
        print(title)
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, ["─" * width for width in widths], *rows):
            first, *others = row
            cells = [f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True)]
            print("  ".join([f"{first:<{widths[0]}}", *cells]).rstrip())
    print(flush=True)


def time_text(seconds):
    """Three digits and a unit: 1.23 µs, 45.6 ms."""
    size, unit = next((pair for pair in ((1, "s"), (1e-3, "ms")) if seconds >= 0.9995 * pair[0]),
                      (1e-6, "µs"))
    number = seconds / size
    return f"{number:.{2 if number < 9.995 else 1 if number < 99.95 else 0}f} {unit}"


def save(arguments, name, results, chart=None, *, json_path=None, picture=None):
    """Write NAME.json, and NAME.png where matplotlib is there to draw it.

    The JSON has the tables that were printed too, as ``"report"``: the documentation shows them,
    and draws the chart again from the file.

    Parameters
    ----------
    chart : callable
        Takes what is in the file, and returns a function that takes `matplotlib.pyplot` and makes
        the figure; None if the file lacks what it shows.
    json_path, picture : Path, optional
        Other files than those.
    """
    path = json_path or arguments.output / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    command = " ".join(["python", f"bench/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    text = json.dumps({"command": command, **results, "report": REPORT}, indent=1)
    path.write_text(text + "\n")
    print(f"wrote {path}", end="")
    draw = None if chart is None else chart(json.loads(text))
    if draw is not None:
        try:
            import matplotlib
        except ImportError:
            print("; for a chart: pip install matplotlib")
            return
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt

        path = picture or path.with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(plt).savefig(path, dpi=150, bbox_inches="tight")
        print(f" and {path}", end="")
    print()


# Of the charts: fastbp stands out, and a peer looks the same in each.
COLORS = {
    "fastbp": "#c1272d", "NumPy": "#4d77cf", "scikit-learn": "#f0a030", "PyTorch": "#7b5aa6",
    "torch.compile": "#b79fd6", "JAX": "#2e8b57", "JAX step": "#8fcaa6", "JAX scan": "#2e8b57",
    "ONNX Runtime": "#808080",
}
