"""Tabular estimators: accuracy on real tables, and the time to fit and to predict.

    python bench/tables.py --quick
    python bench/tables.py --only california,adult --methods tabpack,lightgbm --tune 300
    python bench/tables.py --resume

Every method gets the same training, validation and test rows and the same number of threads.  The
seeds vary what a method draws, and not the split.
"""

import argparse
import json
import os
import pickle
import statistics
import sys
import time
import warnings
from functools import partial
from pathlib import Path

import common
import numpy as np
import tables_data
import tables_peers

PACKAGES = ("numpy", "pandas", "scikit-learn", "lightgbm", "xgboost", "catboost", "optuna",
            "pytabkit", "torch")
BATCH = 1000  # rows of the smaller of the two predictions


def main():
    arguments = read_arguments()
    warnings.simplefilter("ignore")  # of other libraries, about each other
    machine = common.machine(arguments, PACKAGES)
    print(common.machine_line(machine) + "\n")
    methods = choose(arguments)
    results = {"machine": machine, "tune": arguments.tune, "tables": earlier(arguments)}
    save = partial(common.save, arguments, "tables", results, json_path=arguments.json,
                   picture=arguments.picture)
    for name in arguments.only:
        try:
            table = tables_data.load(name, arguments.data, 600 if arguments.quick else None)
        except tables_data.NotHere as error:
            print(f"{name} is left out: {error}\n")
            continue
        result = next((each for each in results["tables"] if each["table"] == name), None)
        if result is None:
            result = described(table)
            results["tables"].append(result)
        for _ in measure(table, methods, arguments, result["runs"]):
            save()  # a run of hours that is interrupted has not been in vain
        show(result, arguments)
    save(chart)


def read_arguments():
    parser = common.parser(__doc__, threads="all", dtypes=("float32",))
    add = parser.add_argument
    add("--data", type=Path, metavar="FOLDER",
        help="where the tables' files are (default: FASTBP_DATA, then ../shared/data)")
    add("--only", type=names(tables_data.TABLES), default=list(tables_data.TABLES),
        metavar="TABLES", help=f"of {','.join(tables_data.TABLES)} (default: all)")
    add("--methods", type=names(tables_peers.METHODS), default=list(tables_peers.METHODS),
        metavar="METHODS", help=f"of {','.join(tables_peers.METHODS)} (default: all)")
    add("--seeds", type=int, metavar="N", help="fits of each (default: 5; quick: 1)")
    add("--tune", type=float, metavar="SECONDS",
        help="search the settings of boosted trees for so long, too")
    add("--resume", action="store_true",
        help="add to the JSON file of an earlier run what is not in it")
    add("--json", type=Path, metavar="FILE", help="default: tables.json in the output folder")
    add("--picture", type=Path, metavar="FILE", help="default: beside the JSON")
    # Threads of one library that spin while they wait, as OpenMP's do otherwise, would take time
    # from the next, and slow down everybody where other processes run.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    arguments = common.begin(parser)
    arguments.rounds = min(arguments.rounds, 5)
    arguments.seeds = arguments.seeds or (1 if arguments.quick else 5)
    return arguments


def names(known):
    """Of an argument: a list with commas."""
    def read(text):
        chosen = [name for name in text.split(",") if name]
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"expected some of {','.join(known)}, got {name}")
        return chosen

    return read


def choose(arguments):
    """The methods whose libraries are installed, and the tuned ones."""
    known = dict(tables_peers.METHODS)
    arguments.peers = list(arguments.methods)
    if arguments.tune:
        for key in arguments.methods:
            if issubclass(known[key], tables_peers.Boosted) and not key.endswith("-refit"):
                known[f"tuned-{key}"] = tables_peers.Tuned(known[key], arguments.tune)
                arguments.peers.append(f"tuned-{key}")
    return common.choose(arguments, known)


def earlier(arguments):
    """The tables of the JSON file that `--resume` adds to."""
    path = arguments.json or arguments.output / "tables.json"
    return json.loads(path.read_text())["tables"] if arguments.resume and path.exists() else []


def described(table):
    """A table's entry in the results, without runs."""
    return {"table": table.name, "target": table.target, "metrics": table.metrics,
            "rows": [len(part) for part in table.y], "columns": table.X[0].shape[1],
            "classes": table.n_classes, "runs": []}


def measure(table, methods, arguments, runs):
    """All runs on one table that are not among `runs`, to which they are added.

    For each seed the fits are one after another, then the predictions; after each seed it yields.
    """
    settings = tables_peers.Settings(arguments.threads, arguments.quick)
    (X, y), methods = (table.X[2], table.y[2]), list(methods)
    some = np.resize(np.arange(len(y)), BATCH)
    done = {(run["method"], run["seed"]) for run in runs}
    for seed in range(arguments.seeds):
        made, new = {}, []
        for method in list(methods):
            if (method.name, seed) in done:
                continue
            peer = common.make(method, table, seed, settings)
            if peer is None:
                methods.remove(method)  # it would fail with the next seed too
                continue
            made[method.name] = peer
            predicted = peer.predict(peer.test[0])
            new.append({
                "method": method.name, "seed": seed, "fit_seconds": peer.fit_seconds,
                "test": table.scores(y, predicted), "bytes": size(peer.model),
                "validation": table.scores(table.y[1], peer.predict(peer.validation[0])),
                "trials": getattr(peer, "trials", None),
            })
            score = new[-1]["test"][table.metrics[0]]
            print(f"{table.name}, seed {seed}, {method.name}: {table.metrics[0]} {score:.4f} "
                  f"after {common.time_text(peer.fit_seconds)}", file=sys.stderr, flush=True)
        calls = {(name, which): call(peer, X[rows] if isinstance(X, np.ndarray) else X.iloc[rows])
                 for name, peer in made.items()
                 for which, rows in (("some", some), ("all", np.arange(len(y))))}
        times = common.interleave(calls, arguments.rounds) if calls else {}
        for run in new:
            run["predict_1000_seconds"] = times[run["method"], "some"]["median"]
            run["predict_all_seconds"] = times[run["method"], "all"]["median"]
        runs += new
        yield


def call(peer, X):
    """A function that times one prediction."""
    X = peer.prepare(X)

    def predict():
        start = time.perf_counter()
        peer.predict(X)
        return time.perf_counter() - start

    return predict


def size(model):
    """Bytes of the pickled model, or None where it cannot be pickled."""
    try:
        return len(pickle.dumps(model))
    except Exception:
        return None


def summary(result):
    """For each method, the mean and deviation of its scores and the median of the rest."""
    found = {}
    for name in dict.fromkeys(run["method"] for run in result["runs"]):
        runs = [run for run in result["runs"] if run["method"] == name]
        found[name] = {
            metric: (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0)
            for metric in result["metrics"]
            if (values := [run["test"][metric] for run in runs])
        } | {"seeds": len(runs)} | {
            key: statistics.median(run[key] for run in runs)
            for key in ("fit_seconds", "predict_1000_seconds", "predict_all_seconds", "bytes")
            if runs[0][key] is not None
        }
    return found


def show(result, arguments):
    train, validation, test = result["rows"]
    rows = []
    for name, row in summary(result).items():
        scores = [f"{mean:.4f}" + (f" ± {deviation:.4f}" if row["seeds"] > 1 else "")
                  for mean, deviation in (row[metric] for metric in result["metrics"])]
        rows.append([name, str(row["seeds"]), *scores, *(common.time_text(row[key]) for key in (
            "fit_seconds", "predict_1000_seconds", "predict_all_seconds")),
            f"{row['bytes'] / 1e6:.2f} MB" if "bytes" in row else "–"])
    common.table(
        f"{result['table']}, {result['target']}: {result['columns']} columns; {train:,} rows to "
        f"train on, {validation:,} to choose by, {test:,} to test",
        ["", "seeds", *result["metrics"], "fit", f"predict {BATCH:,} rows", f"{test:,} rows",
         "model"], rows, arguments.markdown)


# Colors of Okabe and Ito, which the colour-blind can tell apart; markers differ as well.
LOOKS = {
    "fastbp TabPack": ("#D55E00", "*"), "fastbp TabM": ("#D55E00", "h"),
    "LightGBM": ("#0072B2", "o"), "XGBoost": ("#56B4E9", "s"), "CatBoost": ("#009E73", "^"),
    "HistGradientBoosting": ("#E69F00", "D"), "scikit-learn MLP": ("#000000", "P"),
    "RealMLP": ("#CC79A7", "v"), "TabM (pytabkit)": ("#CC79A7", "X"),
}


def chart(results):
    """The score of each method over the seconds that a fit takes, a panel for each table."""
    tables = results["tables"]

    def draw(plt):
        columns = min(2, max(1, len(tables)))
        lines = max(1, -(-len(tables) // columns))
        figure, panels = plt.subplots(lines, columns, squeeze=False, layout="constrained",
                                      figsize=(6.5 * columns, 4.5 * lines))
        for axes in panels.flat[len(tables):]:
            axes.axis("off")
        labels = [panel(axes, result)
                  for axes, result in zip(panels.flat, tables, strict=False)]
        figure.canvas.draw()  # after which it is known where the points are
        for axes, texts in zip(panels.flat, labels, strict=False):
            spread(axes, texts)
        return figure

    return draw


def panel(axes, result):
    """One table; returns the labels."""
    metric, texts = result["metrics"][0], []
    for name, row in summary(result).items():
        color, marker = LOOKS[name.partition(", ")[0]]
        mean, deviation = row[metric]
        axes.errorbar(row["fit_seconds"], mean, deviation, color=color, marker=marker,
                      markersize=11 if marker == "*" else 8, linestyle="none", capsize=3,
                      markerfacecolor="white" if ", " in name else color)
        texts.append(axes.annotate(name, (row["fit_seconds"], mean), (9, 0), fontsize=8,
                                   textcoords="offset points", va="center"))
    axes.set_xscale("log")
    axes.margins(0.08, 0.12)
    if texts:
        axes.set_xlim(right=axes.get_xlim()[1] ** 1.35 / axes.get_xlim()[0] ** 0.35)  # for labels
    if metric == "RMSE":
        axes.invert_yaxis()
    axes.set_title(f"{result['table']}, {result['target']}", loc="left")
    axes.set_xlabel("seconds of a fit")
    axes.set_ylabel(f"test {metric}, {'lower' if metric == 'RMSE' else 'higher'} is better ↑")
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return texts


def spread(axes, texts, step=11):
    """Move labels up or down until none covers another or a point; lines lead to those moved."""
    from matplotlib.transforms import Bbox

    pixels = axes.figure.dpi / 72
    taken = []
    for text in texts:
        x, y = axes.transData.transform(text.xy)
        half = 5 * pixels
        taken.append(Bbox([[x - half, y - half], [x + half, y + half]]))
    for text in sorted(texts, key=lambda text: text.get_window_extent().y0):
        for up in sorted(range(-8 * step, 9 * step, step), key=abs):
            box = text.get_window_extent().translated(0, up * pixels)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(box)
        text.set_position((9, up))
        if up:
            axes.annotate("", text.xy, (9, up), textcoords="offset points",
                          arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6})


if __name__ == "__main__":
    main()
