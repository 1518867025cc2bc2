"""Prediction: the time of a call, for one row and for a thousand, compared with the peers.

    python bench/inference.py --quick
"""

import timeit

import common
import numpy as np
import peers
from peers import FastBP, Task, make_weights

# Layers, rows of a call.
CASES = [
    ([64, 64, 64, 8], 1),
    ([784, 100, 10], 1),
    ([784, 100, 10], 1024),
    ([784, 1024, 1024, 1024, 10], 1024),
]


class NumPy:
    """Products and sums into preallocated arrays."""

    name, module, pip = "NumPy", "numpy", "numpy"

    def __init__(self, weights, X):
        self.X, self.weights = X, weights
        self.outputs = [np.empty((len(X), len(b)), X.dtype) for _, b in weights]

    def predict(self, X):
        for (W, b), Z in zip(self.weights, self.outputs, strict=True):
            np.dot(X, W, out=Z)
            Z += b
            if Z is not self.outputs[-1]:
                np.maximum(Z, 0, out=Z)
            X = Z
        return X


class ScikitLearn:
    """`MLPRegressor.predict`, since a classifier's adds softmax."""

    name, module, pip = "scikit-learn", "sklearn", "scikit-learn"

    def __init__(self, weights, X):
        from sklearn.neural_network import MLPRegressor

        self.X = X
        model = MLPRegressor(hidden_layer_sizes=[len(b) for _, b in weights[:-1]])
        model.partial_fit(X[:1], np.zeros((1, len(weights[-1][1])), X.dtype))
        model.coefs_, model.intercepts_ = map(list, zip(*weights, strict=True))
        self.predict = model.predict


class PyTorch:
    """A module in inference mode."""

    name, module, pip = "PyTorch", "torch", "torch"

    def __init__(self, weights, X):
        import torch

        net = peers.PyTorch(Task(X, np.zeros(len(X), int), weights, len(X))).net.eval()
        for parameter in net.parameters():
            parameter.requires_grad_(False)
        # For as long as the process lives: going in and out of it would be part of each call.
        self.mode = torch.inference_mode()
        self.mode.__enter__()
        self.X, self.predict = torch.from_numpy(X), net

    def close(self):
        self.mode.__exit__(None, None, None)


class JAX:
    """A jitted function that holds the weights as constants."""

    name, module, pip = "JAX", "jax", "jax"

    def __init__(self, weights, X):
        import jax

        jax.config.update("jax_enable_x64", X.dtype == np.float64)
        weights = jax.device_put(weights)

        @jax.jit
        def forward(X):
            for W, b in weights[:-1]:
                X = jax.nn.relu(X @ W + b)
            W, b = weights[-1]
            return X @ W + b

        self.X = jax.device_put(X)
        self.predict = lambda X: forward(X).block_until_ready()


class ONNXRuntime:
    """A session of Gemm and Relu nodes; with IO binding if that is faster."""

    name, module, pip = "ONNX Runtime", "onnxruntime", "onnx onnxruntime"

    def __init__(self, weights, X):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = common.fb.get_num_threads()
        options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            onnx_model(weights, X.dtype).SerializeToString(), options, ["CPUExecutionProvider"]
        )
        Z = np.empty((len(X), len(weights[-1][1])), X.dtype)
        binding = session.io_binding()
        binding.bind_ortvalue_input("X", onnxruntime.OrtValue.ortvalue_from_numpy(X))
        output = onnxruntime.OrtValue.ortvalue_from_numpy(Z)
        binding.bind_ortvalue_output("Z", output)

        def bound(X):
            session.run_with_iobinding(binding)
            return output

        def plain(X):
            return session.run(None, {"X": X})[0]

        self.X = X
        self.predict = min(bound, plain, key=lambda predict: min(
            timeit.repeat(lambda: predict(X), number=max(1, 100 // len(X)), repeat=5)))
        self.how = self.predict.__name__


def onnx_model(weights, dtype):
    import onnx
    from onnx import helper, numpy_helper

    nodes, constants, source = [], [], "X"
    for i, (W, b) in enumerate(weights):
        constants += [numpy_helper.from_array(W, f"W{i}"), numpy_helper.from_array(b, f"b{i}")]
        last = i == len(weights) - 1
        output = "Z" if last else f"Z{i}"
        nodes.append(helper.make_node("Gemm", [source, f"W{i}", f"b{i}"], [output]))
        if not last:
            source = f"A{i}"
            nodes.append(helper.make_node("Relu", [output], [source]))
    kind = helper.np_dtype_to_tensor_dtype(dtype)
    graph = helper.make_graph(
        nodes, "mlp",
        [helper.make_tensor_value_info("X", kind, ["rows", len(weights[0][0])])],
        [helper.make_tensor_value_info("Z", kind, ["rows", len(weights[-1][1])])], constants,
    )
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=onnx.IR_VERSION_2023_5_5)


PREDICTORS = {
    "numpy": NumPy, "sklearn": ScikitLearn, "torch": PyTorch, "jax": JAX, "onnx": ONNXRuntime,
}


def main():
    arguments = common.begin(common.parser(__doc__, PREDICTORS))
    chosen = common.choose(arguments, PREDICTORS)
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    results = [measure(arguments, chosen, *case) for case in CASES]
    peak, rows = machine["peak"], []
    for case in results:
        case["share_of_peak"] = case["gflops"] / peak
        times = case["contenders"]
        rows.append([
            case["case"], *(common.time_text(times[name]["min"]) for name in ("fastbp", "out=")),
            f"{case['share_of_peak']:.0%}",
            *(f"{common.time_text(times[p.name]['min'])} ({times[p.name]['ratio']:.2f}×)"
              if p.name in times else "–" for p in chosen),
        ])
    header = ["layers, rows", "fastbp", "with out=", "of peak", *(peer.name for peer in chosen)]
    common.table("Time of a call of predict (and its ratio to fastbp's without out=)", header,
                 rows, arguments.markdown)
    common.save(arguments, "inference", {"machine": machine, "inference": results}, chart)


def measure(arguments, chosen, sizes, n_rows):
    """One case: all agree on the outputs, then all are timed."""
    rng = np.random.default_rng(0)
    weights = make_weights(sizes, arguments.dtype, rng)
    X = rng.standard_normal((n_rows, sizes[0]), np.float32).astype(arguments.dtype)
    net = FastBP(Task(X, np.zeros(n_rows, int), weights, n_rows)).net
    Z = net.predict(X)
    statements = {
        "fastbp": ("predict(X)", {"predict": net.predict, "X": X}),
        "out=": ("predict(X, out=out)", {"predict": net.predict, "X": X, "out": Z.copy()}),
    }
    made = [predictor for peer in chosen if (predictor := common.make(peer, weights, X))]
    apart = {}
    for peer in made:
        output = peer.predict(peer.X)
        output = output.numpy() if hasattr(output, "numpy") else np.asarray(output)
        apart[peer.name] = float(np.abs(output - Z).max() / np.abs(Z).max())
        if not apart[peer.name] < 1e-4:
            raise SystemExit(f"{peer.name} predicts something else: {apart[peer.name]:.2g} of the "
                             "largest output off")
        statements[peer.name] = ("predict(X)", {"predict": peer.predict, "X": peer.X})
    contenders = {
        name: common.seconds_per_call(timeit.Timer(statement, globals=names))
        for name, (statement, names) in statements.items()
    }
    times = common.interleave(contenders, 2 * arguments.rounds)
    for name, row in times.items():
        row |= {"ratio": row["min"] / times["fastbp"]["min"], "apart": apart.get(name, 0.0)}
    for peer in made:
        if hasattr(peer, "close"):
            peer.close()
    flops = 2 * n_rows * sum(W.size for W, _ in weights)
    return {"case": f"{'-'.join(map(str, sizes))}, {n_rows}",
            "gflops": flops / times["fastbp"]["min"] / 1e9, "contenders": times}


def chart(results):
    """The time of a call, case by case."""
    cases = results["inference"]

    def draw(plt):
        figure, panels = plt.subplots(1, len(cases), figsize=(3 * len(cases), 3.4),
                                      layout="constrained")
        for axes, case in zip(panels, cases, strict=True):
            names = [name for name in case["contenders"] if name != "out="]
            times = [case["contenders"][name]["min"] for name in names]
            axes.barh(names, times, color=[common.COLORS[name] for name in names])
            for i, seconds in enumerate(times):
                axes.annotate(common.time_text(seconds), (seconds, i), (3, 0),
                              textcoords="offset points", va="center", fontsize=8)
            axes.invert_yaxis()
            axes.set_xlim(0, 1.3 * max(times))
            axes.set_xticks([])
            axes.spines[["top", "right", "bottom"]].set_visible(False)
            layers, rows = case["case"].split(", ")
            axes.set_title(f"{layers}\n{rows} row{'s' * (rows != '1')}", fontsize=10)
        for axes in panels[1:]:
            axes.set_yticklabels([])
        return figure

    return draw


if __name__ == "__main__":
    main()
