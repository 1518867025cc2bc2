"""The kernels one by one, in each tier: share of the peak for products, ns per element for others.

    python bench/kernels.py --quick
"""

import math
import timeit

import common
import numpy as np
from peers import tier

from fastbp import kernels
from fastbp.kernels import dispatch, ops

# Rows, n_in, n_out: those of the training benchmarks, and some that fit no tile.
SHAPES = [
    (64, 8, 64), (32, 64, 10), (64, 64, 64), (256, 128, 128), (128, 784, 256), (256, 1024, 1024),
    (100, 37, 101), (101, 101, 37), (7, 13, 5), (128, 257, 129),
]
ELEMENTS = 16384  # of a map: read from one cache, written to another
PARAMETERS = 100_000  # of an optimizer
CLASSES = (256, 10)  # outputs that a loss sees


def main():
    parser = common.parser(__doc__)
    tiers = dispatch.available()
    parser.add_argument("--tiers", nargs="+", choices=tiers, default=tiers, metavar="TIER",
                        help=f"of {', '.join(tiers)} (default: all)")
    arguments = common.begin(parser)
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    peaks = {isa: common.fma_peak(arguments.dtype, arguments.threads, isa)
             for isa in arguments.tiers}
    shapes = [*SHAPES[2:5], *SHAPES[6:8]] if arguments.quick else SHAPES
    results = {"machine": machine, "peaks": peaks,
               "products": products(arguments, shapes, peaks), "others": others(arguments)}
    common.save(arguments, "kernels", results, chart)


def measure(arguments, tasks, numpy_task=None):
    """Seconds of a call, by tier, and NumPy's.

    Parameters
    ----------
    tasks : dict of str to callable
        By tier.
    """
    blocks = {}
    for isa, task in tasks.items():
        with tier(isa):
            block = common.seconds_per_call(timeit.Timer(task), 0.001)

        def in_tier(isa=isa, block=block):
            with tier(isa):
                return block()

        blocks[isa] = in_tier
    if numpy_task is not None:
        blocks["NumPy"] = common.seconds_per_call(timeit.Timer(numpy_task), 0.001)
    times = common.interleave(blocks, arguments.rounds)
    return {name: time["min"] for name, time in times.items()}


def products(arguments, shapes, peaks):
    """The three products of a dense layer."""
    results, rows = [], []
    for shape in shapes:
        flops = 2 * math.prod(shape)
        # Plain C calls a function for each multiply-add: seconds for the largest.
        tiers = [isa for isa in arguments.tiers if isa != "scalar" or flops < 1e7]
        for name, ours, numpys in dense(shape, arguments.dtype):
            times = measure(arguments, dict.fromkeys(tiers, ours), numpys)
            rates = {contender: flops / time / 1e9 for contender, time in times.items()}
            results.append({"kernel": name, "shape": list(shape), "gflops": rates})
            rows.append([
                f"{name}, {' × '.join(map(str, shape))}",
                *(f"{rates[isa]:.1f} ({rates[isa] / peaks[isa]:.0%})" if isa in rates else "–"
                  for isa in arguments.tiers),
                f"{rates['NumPy']:.1f}",
            ])
    header = ["rows × n_in × n_out",
              *(f"{isa}, peak {peaks[isa]:.3g}" for isa in arguments.tiers), "NumPy"]
    common.table("Products: GFLOP/s (and share of the tier's peak)", header, rows,
                 arguments.markdown)
    return results


def dense(shape, dtype):
    """Name, call, NumPy's call."""
    rows, n_in, n_out = shape
    rng = np.random.default_rng(0)
    X, dX, Z, dZ, W, dW, b = (
        rng.standard_normal(shape).astype(dtype)
        for shape in (*[(rows, n_in)] * 2, *[(rows, n_out)] * 2, *[(n_in, n_out)] * 2, n_out)
    )

    def numpy_forward():
        np.dot(X, W, out=Z)
        np.add(Z, b, out=Z)

    yield "X·W + b", lambda: kernels.dense_forward(X, W, b, out=Z), numpy_forward
    yield ("Xᵀ·dZ", lambda: kernels.dense_backward_weights(X, dZ, out=dW),
           lambda: np.dot(X.T, dZ, out=dW))
    yield ("dZ·Wᵀ", lambda: kernels.dense_backward_input(dZ, W, out=dX),
           lambda: np.dot(dZ, W.T, out=dX))


def others(arguments):
    """The kernels that read each element once."""
    results, rows = [], []
    for name, ours, numpys, elements, arrays in elementwise(arguments.dtype):
        times = measure(arguments, dict.fromkeys(arguments.tiers, ours), numpys)
        ns = {contender: time / elements * 1e9 for contender, time in times.items()}
        moved = arrays * np.dtype(arguments.dtype).itemsize
        results.append({"kernel": name, "elements": elements, "bytes_per_element": moved,
                        "ns_per_element": ns})
        rows.append([name, *(f"{ns[isa]:.3f} ({moved / ns[isa]:.2g})" for isa in arguments.tiers),
                     f"{ns['NumPy']:.3f}" if "NumPy" in ns else "–"])
    common.table("The others: ns per element (and GB/s read and written)",
                 ["", *arguments.tiers, "NumPy"], rows, arguments.markdown)
    return results


def elementwise(dtype):
    """Name, call, NumPy's call or None, elements, arrays read and written."""
    rng = np.random.default_rng(0)
    Z, dA, out = (rng.standard_normal((128, ELEMENTS // 128)).astype(dtype) for _ in range(3))
    positive = np.abs(Z) + np.asarray(0.1, dtype)
    numpys = {
        "relu": lambda: np.maximum(Z, 0, out=out), "tanh": lambda: np.tanh(Z, out=out),
        "exp": lambda: np.exp(Z, out=out), "expm1": lambda: np.expm1(Z, out=out),
        "log": lambda: np.log(positive, out=out), "log1p": lambda: np.log1p(positive, out=out),
    }
    for name in ops.ACTIVATIONS:
        forward, backward = getattr(kernels, name), getattr(kernels, name + "_backward")
        yield name, lambda f=forward: f(Z, out=out), numpys.get(name), Z.size, 2
        yield f"{name}_backward", lambda f=backward: f(dA, Z, out=out), None, Z.size, 3
    for name in ops.FUNCTIONS:
        X, function = positive if name.startswith("log") else Z, getattr(kernels, name)
        yield name, lambda f=function, X=X: f(X, out=out), numpys.get(name), Z.size, 2
    yield "dropout", lambda: kernels.dropout(Z, 0.5, 1, 2, out=out), None, Z.size, 2

    db, ones = np.empty(Z.shape[1], dtype), np.ones(len(Z), dtype)
    yield ("dense_backward_bias", lambda: kernels.dense_backward_bias(Z, out=db),
           lambda: np.dot(ones, Z, out=db), Z.size, 1)

    scores, grad = (rng.standard_normal(CLASSES).astype(dtype) for _ in range(2))
    labels = rng.integers(CLASSES[1], size=CLASSES[0])
    targets = rng.random(CLASSES).astype(dtype)
    yield "softmax", lambda: kernels.softmax(scores, out=grad), None, scores.size, 2
    yield ("softmax_cross_entropy",
           lambda: kernels.softmax_cross_entropy(scores, labels, out=grad), None, scores.size, 2)
    for name in ("sigmoid_cross_entropy", "mean_squared_error", "mean_absolute_error", "huber",
                 "pinball_loss"):
        loss = getattr(kernels, name)
        yield name, lambda f=loss: f(scores, targets, out=grad), None, scores.size, 3

    P, G, M, V, scratch = (np.abs(rng.standard_normal(PARAMETERS)).astype(dtype) for _ in range(5))

    def numpy_sgd():
        np.multiply(G, 1e-9, out=scratch)
        np.subtract(P, scratch, out=P)

    yield ("sgd_step", lambda: kernels.sgd_step(P, G, learning_rate=1e-9), numpy_sgd, P.size, 3)
    yield ("sgd_step, momentum",
           lambda: kernels.sgd_step(P, G, M, learning_rate=1e-9, momentum=0.9), None, P.size, 5)
    yield ("adam_step", lambda: kernels.adam_step(P, G, M, V, 10, learning_rate=1e-9), None,
           P.size, 7)
    yield "norm", lambda: kernels.norm(G), lambda: np.dot(G, G), P.size, 1


def chart(results):
    """Share of the tier's own peak, product by product."""
    peaks, products = results["peaks"], results["products"]

    def draw(plt):
        tiers = [isa for isa in peaks if isa != "scalar"] or list(peaks)
        shapes = list(dict.fromkeys(tuple(row["shape"]) for row in products))
        figure, panels = plt.subplots(3, 1, figsize=(10, 7), sharex=True, sharey=True,
                                      layout="constrained")
        colors = ["#e8a09c", common.COLORS["fastbp"], "#701510"][-len(tiers):]
        contenders = [*zip(tiers, colors, strict=False), ("NumPy", common.COLORS["NumPy"])]
        names = dict.fromkeys(row["kernel"] for row in products)
        for axes, name in zip(panels, names, strict=True):
            rows = [row for row in products if row["kernel"] == name]
            for i, (contender, color) in enumerate(contenders):
                peak = peaks.get(contender, max(peaks.values()))
                shares = [100 * row["gflops"].get(contender, 0) / peak for row in rows]
                width = 0.8 / len(contenders)
                places = np.arange(len(rows)) - 0.4 + width * (i + 0.5)
                axes.bar(places, shares, 0.92 * width, color=color, label=contender)
            axes.set_title(name, loc="left")
            axes.set_ylabel("% of peak")
            axes.set_ylim(0, 100)
            axes.grid(axis="y", alpha=0.3)
            axes.set_axisbelow(True)
            axes.spines[["top", "right"]].set_visible(False)
        panels[-1].set_xticks(range(len(shapes)), ["×".join(map(str, shape)) for shape in shapes],
                              fontsize=8)
        panels[-1].set_xlabel("rows × n_in × n_out")
        panels[0].legend(frameon=False, ncols=len(contenders), loc="lower right",
                         bbox_to_anchor=(1, 1))
        return figure

    return draw


if __name__ == "__main__":
    main()
