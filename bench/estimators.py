"""Estimators: scikit-learn's MLPClassifier and fastbp's replacement for it.

    python bench/estimators.py --quick

Both get the same data, dtype, random state and parameters, and so make the same model; a
difference in their losses ends the script.
"""

import os
import timeit
import warnings
from pathlib import Path
from time import perf_counter

import common
import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_digits, load_iris, make_circles, make_moons
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import MinMaxScaler

import fastbp as fb

ESTIMATORS = {"fastbp": fb.MLPClassifier, "scikit-learn": neural_network.MLPClassifier}
GRID = {
    "hidden_layer_sizes": [(32,), (100,)],
    "alpha": [1e-5, 1e-3, 1e-1],
    "learning_rate_init": [0.001, 0.01],
    "activation": ["relu", "tanh"],
}
# The learning strategies that an example of scikit-learn's gallery compares
# (plot_mlp_training_curves), with SGD; and Adam.
SGD = {"solver": "sgd", "learning_rate_init": 0.2}
STRATEGIES = [
    *(SGD | {"learning_rate": schedule} | momentum
      for schedule in ("constant", "invscaling")
      for momentum in ({"momentum": 0}, {"momentum": 0.9, "nesterovs_momentum": False},
                       {"momentum": 0.9, "nesterovs_momentum": True})),
    {"solver": "adam", "learning_rate_init": 0.01},
]
# How far losses after the same epochs may be apart: rounding errors, grown by training.
TOLERANCE = {"float32": 0.1, "float64": 1e-6}


def main():
    parser = common.parser(__doc__)
    parser.add_argument("--data", type=Path, default=os.environ.get("FASTBP_DATA"),
                        metavar="FOLDER", help="where mnist.npz is (default: FASTBP_DATA)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N",
                        help="n_jobs of the grid search (default: 1)")
    arguments = common.begin(parser)
    warnings.simplefilter("ignore")  # too few epochs to converge
    machine = common.machine(arguments)
    print(common.machine_line(machine) + "\n")
    results = {"machine": machine, "fit": fits(arguments), "tiny": tiny(arguments),
               "gallery": gallery(arguments), "predict": predictions(arguments),
               "search": search(arguments)}
    common.save(arguments, "estimators", results, chart)


def workloads(arguments):
    """Name, X, y and parameters of the fits: an epoch is 9 to 300 steps."""
    X, y = load_digits(return_X_y=True)
    yield "digits, batch_size=32", X / 16, y, {"batch_size": 32, "max_iter": 40}
    yield "digits", X / 16, y, {"max_iter": 100}
    path = None if arguments.data is None else arguments.data / "mnist.npz"
    if path is not None and path.exists():
        with np.load(path) as data:
            name, X, y = "MNIST", data["X_train"].reshape(-1, 784) / 255, data["y_train"]
    else:
        rng = np.random.default_rng(0)
        name, X, y = "as large as MNIST", rng.random((60_000, 784)), rng.integers(0, 10, 60_000)
    n = 6000 if arguments.quick else len(X)
    yield name, X[:n], y[:n].astype(np.int64), {"max_iter": 1 if arguments.quick else 3}


def fits(arguments):
    """`fit` with default parameters but for those named, in both dtypes."""
    results, rows = [], []
    for name, X, y, parameters in workloads(arguments):
        for dtype in ("float32", "float64"):
            x = X.astype(dtype)
            losses = {}

            def contender(which, x=x, y=y, parameters=parameters, losses=losses):
                def fit():
                    model = ESTIMATORS[which](random_state=0, **parameters)
                    seconds = timed(lambda: model.fit(x, y))
                    losses[which] = float(model.loss_)
                    batch = parameters.get("batch_size", 200)
                    return seconds / (model.n_iter_ * -(-len(x) // batch))

                return fit

            contenders = {which: contender(which) for which in ESTIMATORS}
            rounds = min(arguments.rounds, 5)
            times = common.interleave(contenders, rounds)
            apart = abs(losses["fastbp"] / losses["scikit-learn"] - 1)
            if not apart <= TOLERANCE[dtype]:
                raise SystemExit(f"{name} in {dtype}: the losses are {apart:.2g} apart")
            ours, theirs = (times[which]["min"] for which in ESTIMATORS)
            results.append({"workload": name, "dtype": dtype, "fastbp": ours,
                            "scikit-learn": theirs, "ratio": theirs / ours, "apart": apart})
            rows.append([f"{name}, {dtype}", common.time_text(ours), common.time_text(theirs),
                         f"{theirs / ours:.1f}×", f"{apart:.1e}"])
    common.table("fit: time of a step", ["", *ESTIMATORS, "ratio", "losses apart"], rows,
                 arguments.markdown)
    return results


def tiny(arguments):
    """Whole calls of `Sequential.fit` for 4-16-3 on 150 rows in minibatches of 16, beside
    scikit-learn's with as many epochs; `fit` with one epoch is mostly what comes before and after.
    """
    X, y = load_iris(return_X_y=True)
    X = X.astype(arguments.dtype)
    results, rows = [], []
    for solver, optimizer in (("sgd", fb.SGD), ("adam", fb.Adam)):
        for epochs in (1, 20 if arguments.quick else 200):
            def ours(optimizer=optimizer, epochs=epochs):
                net = fb.mlp([4, 16, 3], dtype=arguments.dtype, seed=0)
                return timed(lambda: net.fit(
                    X, y, loss=fb.SoftmaxCrossEntropy(), optimizer=optimizer(0.001),
                    epochs=epochs, batch_size=16))

            def theirs(solver=solver, epochs=epochs):
                model = neural_network.MLPClassifier(
                    (16,), solver=solver, momentum=0, alpha=0, batch_size=16, max_iter=epochs,
                    n_iter_no_change=epochs, tol=0, random_state=0)
                return timed(lambda: model.fit(X, y))

            contenders = {"fastbp": ours, "scikit-learn": theirs}
            times = common.interleave(contenders, arguments.rounds)
            mine, other = (times[which]["min"] for which in contenders)
            results.append({"solver": solver, "epochs": epochs, "fastbp": mine,
                            "scikit-learn": other, "ratio": other / mine})
            rows.append([f"{solver}, {epochs} epoch{'s' * (epochs > 1)}", common.time_text(mine),
                         common.time_text(other), f"{other / mine:.1f}×"])
    common.table(f"a whole fit of 4-16-3 on 150 rows, batch 16, {arguments.dtype}",
                 ["", "fastbp", "scikit-learn", "ratio"], rows, arguments.markdown)
    return results


def gallery(arguments):
    """The seven learning strategies of scikit-learn's example on its four data sets, in float64:
    the time of seven whole fits, whose curves have to be the same."""
    data = {"iris": load_iris(return_X_y=True), "digits": load_digits(return_X_y=True),
            "circles": make_circles(noise=0.2, factor=0.5, random_state=1),
            "moons": make_moons(noise=0.3, random_state=0)}
    results, rows = [], []
    for name, (X, y) in data.items():
        X = MinMaxScaler().fit_transform(X)
        max_iter = 5 if arguments.quick else 15 if name == "digits" else 400
        curves = {}

        def contender(which, X=X, y=y, max_iter=max_iter, curves=curves):
            def fit():
                models = [ESTIMATORS[which](random_state=0, max_iter=max_iter, **strategy)
                          for strategy in STRATEGIES]
                seconds = timed(lambda: [model.fit(X, y) for model in models])
                curves[which] = np.concatenate([model.loss_curve_ for model in models])
                return seconds

            return fit

        times = common.interleave({which: contender(which) for which in ESTIMATORS},
                                  min(arguments.rounds, 5))
        apart = float(abs(curves["fastbp"] / curves["scikit-learn"] - 1).max())
        if not apart <= TOLERANCE["float64"]:
            raise SystemExit(f"{name}: the losses are {apart:.2g} apart")
        ours, theirs = (times[which]["min"] for which in ESTIMATORS)
        results.append({"data": name, "fastbp": ours, "scikit-learn": theirs,
                        "ratio": theirs / ours, "apart": apart})
        rows.append([name, common.time_text(ours), common.time_text(theirs),
                     f"{theirs / ours:.1f}×", f"{apart:.1e}"])
    common.table("seven learning strategies, float64: time of the fits",
                 ["", *ESTIMATORS, "ratio", "losses apart"], rows, arguments.markdown)
    return results


def timed(work):
    start = perf_counter()
    work()
    return perf_counter() - start


def predictions(arguments):
    """A call for one row, and for all, with every check that the estimators make."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(arguments.dtype)
    results, rows = [], []
    for method in ("predict_proba", "predict"):
        for n in (1, len(X)):
            contenders = {}
            for which, estimator in ESTIMATORS.items():
                model = estimator(max_iter=5, random_state=0).fit(X, y)
                call = getattr(model, method)
                contenders[which] = common.seconds_per_call(
                    timeit.Timer("call(x)", globals={"call": call, "x": X[:n]})
                )
            times = common.interleave(contenders, arguments.rounds)
            ours, theirs = (times[which]["min"] for which in ESTIMATORS)
            results.append({"method": method, "rows": n, "fastbp": ours, "scikit-learn": theirs,
                            "ratio": theirs / ours})
            rows.append([f"{method}, {n} row{'s' * (n > 1)}", common.time_text(ours),
                         common.time_text(theirs), f"{theirs / ours:.1f}×"])
    common.table(f"a call on digits, {arguments.dtype}", ["", *ESTIMATORS, "ratio"], rows,
                 arguments.markdown)
    return results


def search(arguments):
    """GridSearchCV over 24 settings on digits, each with three folds."""
    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(arguments.dtype)
    n, max_iter = (300, 5) if arguments.quick else (len(X), 30)
    scores = {}

    def contender(which):
        def fit():
            grid = GridSearchCV(
                ESTIMATORS[which](random_state=0, batch_size=32, max_iter=max_iter), GRID, cv=3,
                n_jobs=arguments.jobs, refit=False,
            )
            seconds = timed(lambda: grid.fit(X[:n], y[:n]))
            scores[which] = grid.best_score_
            return seconds

        return fit

    times = common.interleave({which: contender(which) for which in ESTIMATORS},
                              1 if arguments.quick else min(arguments.rounds, 3))
    ours, theirs = (times[which]["min"] for which in ESTIMATORS)
    common.table(
        f"GridSearchCV on digits, {arguments.dtype}: 24 settings, 3 folds, batch_size=32, "
        f"max_iter={max_iter}, n_jobs={arguments.jobs}",
        ["", "time", "best score", "ratio"],
        [[which, common.time_text(times[which]["min"]), f"{scores[which]:.4f}",
          f"{times[which]['min'] / ours:.1f}×"] for which in ESTIMATORS],
        arguments.markdown,
    )
    return {"jobs": arguments.jobs, "fastbp": ours, "scikit-learn": theirs,
            "ratio": theirs / ours, "scores": scores}


def chart(results):
    """How many times as long as fastbp scikit-learn takes."""
    def draw(plt):
        bars = [(f"fit, {r['workload']}, {r['dtype']}", r["ratio"]) for r in results["fit"]]
        bars += [(f"fit of 4-16-3, {r['solver']}, {r['epochs']} epoch{'s' * (r['epochs'] > 1)}",
                  r["ratio"]) for r in results["tiny"]]
        bars += [(f"learning strategies, {r['data']}", r["ratio"]) for r in results["gallery"]]
        bars += [(f"{r['method']}, {r['rows']} row{'s' * (r['rows'] > 1)}", r["ratio"])
                 for r in results["predict"]]
        bars.append(("GridSearchCV", results["search"]["ratio"]))
        figure, axes = plt.subplots(figsize=(8, 6), layout="constrained")
        names, ratios = zip(*reversed(bars), strict=True)
        axes.barh(names, ratios, color=common.COLORS["scikit-learn"])
        axes.axvline(1, color=common.COLORS["fastbp"], linewidth=1.5)
        for i, ratio in enumerate(ratios):
            axes.annotate(f"{ratio:.1f}", (ratio, i), (3, 0), textcoords="offset points",
                          va="center", fontsize=8)
        axes.set_xlabel("time of scikit-learn's MLPClassifier, fastbp's = 1")
        axes.spines[["top", "right"]].set_visible(False)
        return figure

    return draw


if __name__ == "__main__":
    main()
