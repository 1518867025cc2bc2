"""Same bits? One experiment in each library: rows in another order, other batches, more threads.

    python bench/same_bits.py

A network of 784-512-256-10 is trained for two epochs in float32, from the same weights on the same
minibatches, by one thread and by all there are.  With the first thread's weights it predicts 1000
rows as they are, in another order, and in batches of 1, 7 and 100.  What counts is whether a row's
ten outputs have the same bits as before.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from itertools import pairwise

import common
import numpy as np
from reproducibility import numbers

SIZES = [784, 512, 256, 10]
ROWS, BATCH, EPOCHS, RATE = 2000, 250, 2, 0.1
BATCHES = (1, 7, 100)


def data():
    X = numbers(ROWS, SIZES[0], 1).astype(np.float32)
    y = (10 * abs(X[:, 0] + X[:, 1] * X[:, 2])).astype(np.int64) % 10
    weights = [
        (numbers(n_in, n_out, 2).astype(np.float32) / n_in**0.5, np.zeros(n_out, np.float32))
        for n_in, n_out in pairwise(SIZES)
    ]
    return X, y, weights


def fastbp(X, y, weights, threads):
    import fastbp as fb

    fb.set_num_threads(threads)
    net = fb.mlp(SIZES)
    for layer, (W, b) in zip(net.layers[::2], weights, strict=True):
        layer.W, layer.b = W, b
    net.fit(X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=fb.SGD(RATE), epochs=EPOCHS,
            batch_size=BATCH, shuffle=False)
    return net.parameters, net.predict


def scikit_learn(X, y, weights, threads):
    from sklearn.neural_network import MLPClassifier

    model = MLPClassifier(SIZES[1:-1], solver="sgd", learning_rate_init=RATE, momentum=0,
                          batch_size=BATCH, alpha=0, shuffle=False, max_iter=1)
    model.partial_fit(X[:BATCH], y[:BATCH], classes=range(10))
    for place, (W, b) in enumerate(weights):
        model.coefs_[place][...], model.intercepts_[place][...] = W, b
    for _ in range(EPOCHS):
        model.partial_fit(X, y)
    parameters = np.concatenate([p.ravel() for p in (*model.coefs_, *model.intercepts_)])
    return parameters, model.predict_proba


def pytorch(X, y, weights, threads):
    import torch

    torch.set_num_threads(threads)
    stack = []
    for W, b in weights:
        layer = torch.nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        stack += [layer, torch.nn.ReLU()]
    net = torch.nn.Sequential(*stack[:-1])
    optimizer = torch.optim.SGD(net.parameters(), RATE)
    for start in list(range(0, ROWS, BATCH)) * EPOCHS:
        rows = slice(start, start + BATCH)
        optimizer.zero_grad()
        Z = net(torch.from_numpy(X[rows]))
        torch.nn.functional.cross_entropy(Z, torch.from_numpy(y[rows])).backward()
        optimizer.step()
    parameters = np.concatenate([p.detach().numpy().ravel() for p in net.parameters()])

    def predict(X):
        with torch.inference_mode():
            return net(torch.from_numpy(X)).numpy()

    return parameters, predict


def jax(X, y, weights, threads):
    import jax
    import jax.numpy as jnp

    def forward(weights, X):
        for W, b in weights[:-1]:
            X = jax.nn.relu(X @ W + b)
        W, b = weights[-1]
        return X @ W + b

    def loss(weights, X, y):
        scores = jax.nn.log_softmax(forward(weights, X))
        return -jnp.take_along_axis(scores, y[:, None], axis=1).mean()

    @jax.jit
    def step(weights, X, y):
        gradients = jax.grad(loss)(weights, X, y)
        return jax.tree.map(lambda p, g: p - RATE * g, weights, gradients)

    for start in list(range(0, ROWS, BATCH)) * EPOCHS:
        weights = step(weights, X[start : start + BATCH], y[start : start + BATCH])
    parameters = np.concatenate([np.ravel(p) for pair in weights for p in pair])
    predict = jax.jit(forward)
    return parameters, lambda X: np.asarray(predict(weights, X))


LIBRARIES = {
    "fastbp": (fastbp, "fastbp"), "scikit-learn": (scikit_learn, "sklearn"),
    "PyTorch": (pytorch, "torch"), "JAX": (jax, "jax"),
}


def measure(name, threads, folder):
    """One library with so many threads: rows with other bits; parameters to a file."""
    X, y, weights = data()
    parameters, predict = LIBRARIES[name][0](X, y, weights, threads)
    np.save(os.path.join(folder, f"{name}-{threads}.npy"), parameters)
    X = X[:1000]
    usual = predict(X)
    order = np.arange(len(X)) * 7 % len(X)  # 7 and 1000 have no common divisor
    result = {"order": others(predict(X[order]), usual[order])}
    for batch in BATCHES:
        parts = [predict(X[i : i + batch]) for i in range(0, len(X), batch)]
        result[f"batch {batch}"] = others(np.concatenate(parts), usual)
    return result


def others(got, expected):
    """How many rows do not have the same bits."""
    return int((got.view(np.uint32) != expected.view(np.uint32)).any(axis=1).sum())


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print the table in Markdown")
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=len(common.available_cores()),
                        help="to compare with one (default: one for each core)")
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.library:
        print(json.dumps(measure(arguments.library, arguments.threads, arguments.folder)))
        return
    import tempfile

    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (_, module) in LIBRARIES.items():
            if importlib.util.find_spec(module) is None:
                print(f"{name} is not installed\n")
                continue
            found = [child(name, threads, folder) for threads in (1, arguments.threads)]
            one, more = (np.load(os.path.join(folder, f"{name}-{threads}.npy"))
                         for threads in (1, arguments.threads))
            trained = (one.view(np.uint32) != more.view(np.uint32)).mean()
            rows.append([name, *(str(found[0][key]) for key in found[0]), f"{trained:.0%}"])
    common.table(
        "Rows of 1000 whose outputs have other bits, and parameters that have after training",
        ["", "in another order", *(f"in batches of {batch}" for batch in BATCHES),
         f"{arguments.threads} threads for 1"], rows, arguments.markdown,
    )


def child(name, threads, folder):
    """The measurement in a child process, since libraries set their threads as they load."""
    cores = common.available_cores()[:threads]
    script = (f"import os, runpy, sys; os.sched_setaffinity(0, {cores}); "
              f"sys.argv[0] = {__file__!r}; sys.path[0] = {os.path.dirname(__file__)!r}; "
              f"runpy.run_path({__file__!r}, run_name='__main__')")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, "--library", name, "--threads",
         str(threads), "--folder", folder],
        env=os.environ | {variable: str(threads) for variable in common.THREAD_VARIABLES},
        stdout=subprocess.PIPE, check=True,
    )
    return json.loads(result.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
