"""Reduced precision: training and prediction in float32, "high" and "medium".

    python bench/precision.py --quick

Beside them the same in the widest tier without AMX, the peers in float32, and PyTorch's autocast to
bfloat16.  Speeds are of one run on one machine, and so are the peaks: of fused multiply-adds, and
of the instructions that products of bfloat16 are made of.
"""

import os
import time
import timeit
from pathlib import Path

import common
import inference
import numpy as np
from peers import TRAINERS, FastBP, PyTorchBF16, Task, distances, make_task, make_weights, tier

import fastbp as fb
from fastbp.kernels import dispatch

WORKLOADS = [
    ([784, 256, 128, 10], 128, 40),
    ([384, 384, 384, 384, 2], 256, 20),
    ([784, 1024, 1024, 1024, 10], 256, 6),
]
PREDICTION = [784, 1024, 1024, 1024, 10], 1024
PRECISIONS = "highest", "high", "medium"
# How far parameters may be from those of the highest precision after an epoch, as a share of the
# way that they have come: a network of ReLUs carries an operand's error on.
FAR = {"highest": 2e-3, "high": 2e-2, "medium": 0.5}
PARTS = "training", "prediction", "mnist"


def main():
    parser = common.parser(__doc__, TRAINERS, dtypes=("float32",))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, metavar="PART",
                        help=f"of {', '.join(PARTS)} (default: all)")
    parser.add_argument("--data", type=Path, default=os.environ.get("FASTBP_DATA"),
                        metavar="FOLDER", help="where mnist.npz is (default: FASTBP_DATA)")
    parser.add_argument("--seeds", type=int, default=5, metavar="N",
                        help="how many networks learn MNIST in each precision (default: 5)")
    arguments = common.begin(parser)
    if arguments.quick and arguments.peers == list(TRAINERS):
        arguments.peers.remove("compile")
    chosen = common.choose(arguments, TRAINERS)
    machine = common.machine(arguments)
    results = {"machine": machine, "peaks": {isa: bf16_peak(isa) for isa in tiers()}}
    print(common.machine_line(machine))
    print("Peaks of bfloat16 products: " + ", ".join(
        f"{isa} {peak:.0f} GFLOP/s" for isa, peak in results["peaks"].items()))
    missing = dispatch.amx()
    results["amx"] = missing is None
    print(f"AMX: {'yes' if missing is None else f'no, {missing}: its rows are missing'}\n")
    if "training" in arguments.parts:
        results["training"] = training(arguments, chosen)
    if "prediction" in arguments.parts:
        results["prediction"] = prediction(arguments)
    if "mnist" in arguments.parts:
        results["mnist"] = mnist(arguments)
    common.save(arguments, "precision", results, chart)


def tiers():
    """The best tier, and the best one without AMX."""
    others = [isa for isa in dispatch.available() if isa != "amx"]
    return list(dict.fromkeys([dispatch.available()[-1], others[-1]]))


def bf16_peak(isa):
    """GFLOP/s of the tier's instructions for products of bfloat16 alone."""
    def rate():
        start = time.perf_counter()
        flops = dispatch.bf16_products(20_000)
        return flops / (time.perf_counter() - start) / 1e9

    with tier(isa):
        return max(rate() for _ in range(300))


def ours():
    """Precision and tier of each of our contenders, by name."""
    best, *others = tiers()
    names = {f"fastbp {precision}": (precision, best) for precision in PRECISIONS}
    for isa in others:
        names |= {f"{isa} {precision}": (precision, isa) for precision in PRECISIONS[1:]}
    return names


def training(arguments, chosen):
    """A step of SGD: ours in each precision, the peers in float32, PyTorch under autocast."""
    results, rows = [], []
    if any(peer.module == "torch" for peer in chosen):
        chosen = [*chosen, PyTorchBF16]
    names = [*ours(), *(peer.name for peer in chosen)]
    for sizes, batch, steps in WORKLOADS:
        task = make_task(sizes, batch, max(3, steps // 5) if arguments.quick else steps)
        made = {name: FastBP(task, isa, precision) for name, (precision, isa) in ours().items()}
        check(task, made)
        for peer in chosen:
            contender = common.make(peer, task)
            if contender is not None:
                contender.epoch()  # to warm up
                made[peer.name] = contender
        times = common.interleave({name: each.epoch for name, each in made.items()},
                                  arguments.rounds)
        name = f"{'-'.join(map(str, sizes))}, {batch}"
        exact = times["fastbp highest"]["min"]
        contenders = {key: {"min": each["min"] / task.steps, "ratio": exact / each["min"],
                            "gflops": task.flops * task.steps / each["min"] / 1e9,
                            "all": [seconds / task.steps for seconds in each["all"]]}
                      for key, each in times.items()}
        results.append({"workload": name, "contenders": contenders})
        rows.append([name, *(f"{common.time_text(contenders[key]['min'])} "
                             f"({contenders[key]['ratio']:.2f}×)" if key in contenders else "–"
                             for key in names)])
    common.table("SGD: time of a step (and how many times as fast as fastbp's highest)",
                 ["layers, batch", *names], rows, arguments.markdown)
    return results


def check(task, made):
    """Raise SystemExit unless all learn about the same, and every tier exactly the same."""
    for (name, each), distance in zip(made.items(), distances(task, list(made.values())),
                                      strict=True):
        if not distance <= FAR[each.net.precision]:
            raise SystemExit(f"{name} learns something else: after an epoch its parameters are "
                             f"{distance:.2g} of the way off")
        twin = made[f"fastbp {each.net.precision}"]
        if not np.array_equal(each.parameters(), twin.parameters()):
            raise SystemExit(f"{name}: its bits are not those of fastbp {each.net.precision}")


def prediction(arguments):
    """A call of predict of many rows, beside ONNX Runtime in float32."""
    sizes, n_rows = PREDICTION
    task = make_task(sizes, n_rows, 1)
    networks = {name: FastBP(task, isa, precision) for name, (precision, isa) in ours().items()}
    calls = {name: lambda each=each: timed(each) for name, each in networks.items()}
    made = common.make(inference.ONNXRuntime, task.weights, task.X) if arguments.peers else None
    if made is not None:
        calls[made.name] = lambda: min(timeit.repeat(lambda: made.predict(made.X), number=1,
                                                     repeat=2))
    times = common.interleave(calls, max(3, arguments.rounds))
    exact = times["fastbp highest"]["min"]
    results = {name: {"min": each["min"], "ratio": exact / each["min"]}
               for name, each in times.items()}
    common.table(f"Prediction of {n_rows} rows, {'-'.join(map(str, sizes))}",
                 ["", "time", "times as fast as highest"],
                 [[name, common.time_text(each["min"]), f"{each['ratio']:.2f}×"]
                  for name, each in results.items()], arguments.markdown)
    return results


def timed(contender):
    """Seconds of one prediction, the faster of two."""
    with tier(contender.isa):
        return min(timeit.repeat(lambda: contender.predict(contender.task.X), number=1, repeat=2))


def mnist(arguments):
    """The recipe of training.py: the mean test accuracy over several seeds in each precision."""
    path = None if arguments.data is None else arguments.data / "mnist.npz"
    if path is None or not path.exists():
        print("MNIST is left out: there is no mnist.npz in the folder given by --data or "
              "FASTBP_DATA\n")
        return None
    with np.load(path) as data:
        X, X_test = ((data[name].reshape(-1, 784) / 255).astype("float32")
                     for name in ("X_train", "X_test"))
        y, y_test = (data[name].astype(np.int64) for name in ("y_train", "y_test"))
    epochs = 2 if arguments.quick else 20
    seeds = 1 if arguments.quick else arguments.seeds
    results, rows = {}, []
    for precision in PRECISIONS:
        accuracies, seconds = [], []
        for seed in range(seeds):
            weights = make_weights([784, 256, 128, 10], "float32", np.random.default_rng(seed))
            task = Task(X, y, weights, 128, "adam", fb.schedules.Cosine(0.002, epochs=epochs),
                        dropout=0.2)
            contender = FastBP(task, precision=precision)
            history = contender.net.fit(X, y, loss=contender.loss, batch_size=128, seed=seed,
                                        optimizer=contender.optimizer, epochs=epochs)
            accuracies.append(float((contender.predict(X_test).argmax(axis=1) == y_test).mean()))
            seconds.append(min(history["seconds"]))
        results[precision] = {"test_accuracy": float(np.mean(accuracies)), "all": accuracies,
                              "seconds_per_epoch": min(seconds)}
        rows.append([precision, f"{np.mean(accuracies):.2%}",
                     f"{min(accuracies):.2%} to {max(accuracies):.2%}", f"{min(seconds):.3f}"])
    common.table(f"MNIST, the recipe of training.py, {epochs} epochs, mean of {seeds} seeds",
                 ["", "test accuracy", "of the seeds", "seconds per epoch"], rows,
                 arguments.markdown)
    return results


def chart(results):
    """How many times as fast as our float32 each contender is; None if that was not measured."""
    if "training" not in results:
        return None
    rows = results["training"]

    def draw(plt):
        figure, axes = plt.subplots(figsize=(10, 4), layout="constrained")
        names = list(rows[0]["contenders"])
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            ratios = [row["contenders"].get(name, {}).get("ratio", np.nan) for row in rows]
            places = np.arange(len(rows)) - 0.4 + width * (i + 0.5)
            own = name.split()[0] in ("fastbp", *dispatch.available())
            axes.bar(places, ratios, 0.92 * width, label=name, edgecolor="white",
                     color=common.COLORS["fastbp"] if own else common.COLORS.get(name, "#808080"))
            for place, ratio in zip(places, ratios, strict=True):
                axes.annotate(f"{name}  {ratio:.2f}", (place, ratio), (0, 2), ha="center",
                              textcoords="offset points", fontsize=6, rotation=90)
        axes.set_ylabel("speed, fastbp in float32 = 1")
        axes.margins(y=0.35)
        axes.set_xticks(range(len(rows)), [row["workload"] for row in rows])
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    return draw


if __name__ == "__main__":
    main()
