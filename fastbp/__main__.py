"""The command ``fastbp``: train on the digits, or on a table of your own."""

import argparse
import json
import os
import sys
import textwrap
from io import BytesIO
from pathlib import Path

import numpy as np

from . import datasets, io, losses, optimizers, plot, schedules
from .datasets import counted
from .kernels import checks, dispatch, threads
from .layers import ACTIVATIONS
from .network import mlp
from .version import __version__

DESCRIPTION = """\
Train a multilayer perceptron and save it, with a picture of how the training went.

Without --data: on the handwritten digits that scikit-learn ships.
With --data: on a table of your own.  A share of the rows is held out of the training, and
the score is measured on them.
"""

EXAMPLES = """\
examples:
  fastbp
      learn to read digits, in seconds
  fastbp --data houses.csv --target price
      predict a column of a CSV file from all the others
  fastbp --data houses.csv --target price --drop street --drop "owner name"
      from all but these, which hold text
  fastbp --data houses.csv --target price --hidden 128 128 --epochs 100
      with a larger network, for longer
  fastbp --data wine.csv --target quality --task regression
      whole numbers, but amounts rather than classes
  fastbp --data measured.npz
      from NumPy arrays: numpy.savez("measured.npz", X=X, y=y)

what is saved, in the folder that --output names:
  model.safetensors    the network, for fastbp.load; it takes your columns as they are
  model.json           what the columns and classes are called, in order; the scores
  learning_curves.png  loss and score, epoch by epoch (needs pip install "fastbp[plot]")

exit status: 0 done, 1 the training diverged, 2 bad options or data or too little memory,
130 stopped by Ctrl-C, 141 stopped as nobody reads what it prints
"""

# What is used unless an option says otherwise.
DIGITS_RECIPE = {"hidden": [128], "dropout": 0.2, "learning_rate": 0.1}
TABLE_RECIPE = {"hidden": [64, 64], "dropout": 0.1, "learning_rate": 0.005}
ONLY_WITH_DATA = {"target": None, "drop": [], "task": None, "test_share": 0.2}

SAVED = ["model.safetensors", "model.json", "learning_curves.png"]

# A target of no more different whole numbers than this is taken for classes.
FEW = 20


class Parser(argparse.ArgumentParser):
    """A parser whose errors are ours to show: in one line, without the usage."""

    def error(self, message):
        raise ValueError(f"{message}; --help lists the options")


def build_parser():
    """The command line's options."""
    parser = Parser(
        prog="fastbp",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--version", action="version", version=f"fastbp {__version__}")
    add("--quiet", action="store_true", help="print the score only")

    add = parser.add_argument_group("data").add_argument
    text = "a .csv whose first line names the columns, or an .npz with the arrays X and y"
    add("--data", metavar="FILE", help=text)
    add("--target", metavar="COLUMN", help="the column to learn (.npz: the array, default y)")
    text = "a column to leave out; may be given several times"
    add("--drop", metavar="COLUMN", action="append", default=[], help=text)
    tasks = ["classification", "regression"]
    add("--task", choices=tasks, help="default: as the target looks, and it says why")
    text = "the share of rows to hold out, default 0.2"
    add("--test-share", metavar="SHARE", type=float, default=0.2, help=text)

    add = parser.add_argument_group("network").add_argument
    text = "sizes of the hidden layers, default 64 64 (digits: 128); without any: a linear model"
    add("--hidden", metavar="N", type=int, nargs="*", help=text)
    add("--activation", choices=list(ACTIVATIONS), default="relu", help="default relu")
    add("--dropout", metavar="RATE", type=float, help="default 0.1 (digits: 0.2)")

    add = parser.add_argument_group("training").add_argument
    add("--epochs", metavar="N", type=int, default=30, help="default 30")
    add("--batch-size", metavar="N", type=int, default=32, help="default 32")
    text = "default 0.005, for Adam (digits: 0.1, for SGD)"
    add("--learning-rate", metavar="RATE", type=float, help=text)
    text = "default 0; the same seed gives the same network, bit for bit"
    add("--seed", metavar="N", type=int, default=0, help=text)
    text = "where to save, default fastbp-output"
    add("--output", metavar="FOLDER", type=Path, default=Path("fastbp-output"), help=text)
    return parser


def main(argv=None):
    """Run the command line.

    Parameters
    ----------
    argv : list of str, optional
        The arguments, by default the process's own.

    Returns
    -------
    int
        The exit status: 0 done, 1 the training diverged, 2 bad options or data or too little
        memory, 130 interrupted, 141 nobody reads what is printed.
    """
    for stream in sys.stdout, sys.stderr:
        if hasattr(stream, "reconfigure"):  # a terminal may know ASCII only
            stream.reconfigure(errors="backslashreplace")
    try:
        status = _run(argv)
        print(end="", flush=True)
    except BrokenPipeError:  # as behind `| head`
        # What is still in the buffer would be an error once more when Python exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


def _run(argv):
    """What `main` does, but for the streams it prints to."""
    try:
        options = build_parser().parse_args(argv)
        _check(options)
        options.say = _say_nothing if options.quiet else print
        n = threads.get_num_threads()
        options.say(f"fastbp    {__version__}, {dispatch.isa()} instructions, "
                    f"{n} thread{'s' * (n > 1)}, float32")
        if options.data is None:
            train_on_digits(options)
        else:
            train_on_table(options)
    except SystemExit as done:  # --help and --version
        return done.code
    except KeyboardInterrupt:
        return _fail(130, "stopped by Ctrl-C")
    except FloatingPointError as error:
        return _fail(1, error)
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or error
        return _fail(2, f"{error.filename}: {reason}" if error.filename else reason)
    except (MemoryError, OverflowError) as error:
        return _fail(2, f"too little memory: {error or 'none is left'}; take a smaller --hidden or "
                        f"--batch-size")
    except (ValueError, ImportError) as error:
        return _fail(2, error)
    return 0


def _check(options):
    """Fill in the options that were not given; raise ValueError if any makes no sense."""
    for name, default in ONLY_WITH_DATA.items():
        if options.data is None and getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} goes with --data FILE")
    for name, value in (DIGITS_RECIPE if options.data is None else TABLE_RECIPE).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    for size in options.hidden:
        checks.integer("--hidden", size, 1)
    checks.fraction("--dropout", options.dropout)
    checks.integer("--epochs", options.epochs, 1)
    checks.integer("--batch-size", options.batch_size, 1)
    checks.positive("--learning-rate", options.learning_rate)
    checks.integer("--seed", options.seed, 0)
    checks.number("--test-share", options.test_share, 0, 1, low_open=True, high_open=True)


def _fail(status, message):
    print("fastbp:", *str(message).split(), file=sys.stderr)  # in one line
    return status


def train_on_digits(options):
    """Learn to read digits; show how to do the same in Python."""
    X, y = datasets.digits("train")
    X_test, y_test = datasets.digits("test")
    options.say(f"data      handwritten digits of 8 × 8 pixels: {len(X):,} to train on, "
                f"{len(X_test):,} held out, 10 classes")
    sizes = [64, *options.hidden, 10]
    net = mlp(sizes, options.activation, options.dropout, seed=options.seed)
    loss = losses.SoftmaxCrossEntropy(0.1)
    optimizer = optimizers.SGD(options.learning_rate, momentum=0.9)
    # Nothing is chosen by the held-out digits: they are watched, and scored once at the end.
    history = _fit(net, options, (X, y), (X_test, y_test), loss, optimizer)

    accuracy = net.evaluate(X_test, y_test, loss=loss)["accuracy"]
    print(f"held out  accuracy {accuracy:.4f}")
    _save(options, net, history, {
        "data": "the digits that scikit-learn ships, pixels from 0 to 1",
        "task": "classification",
        "classes": list(range(10)),
        "score": {"accuracy": accuracy},
    })
    activation = "" if options.activation == "relu" else f", activation={options.activation!r}"
    batch_size = "" if options.batch_size == 32 else f", batch_size={options.batch_size}"
    options.say(f"""
The same in three lines of Python:

    from fastbp import SGD, SoftmaxCrossEntropy, datasets, mlp

    X, y = datasets.digits("train")
    net = mlp({sizes}{activation}, dropout={options.dropout}, seed={options.seed})
    net.fit(X, y, loss=SoftmaxCrossEntropy(0.1), optimizer=SGD({options.learning_rate}, \
momentum=0.9), epochs={options.epochs}{batch_size})""")


def train_on_table(options):
    """Learn a column of the user's file from the others; show how to use what was learned."""
    table = datasets.read_table(options.data, options.target, options.drop)
    task, reason = decide_task(table, options.task)
    classify = task == "classification"
    train, test = datasets.hold_out(table.y, options.test_share, options.seed, stratify=classify)
    if len(np.unique(table.y[train])) == 1:
        raise ValueError(f"{options.data}: the target {table.target!r} is {table.y[train[0]]} in "
                         f"every row to train on; there is nothing to learn")
    name = Path(options.data).name
    options.say(f"data      {name}: {counted(len(table.X), 'row')}, "
                f"{counted(len(table.columns), 'column')} to learn {table.target!r} from")
    options.say(f"task      {task}: {reason}")
    options.say(f"rows      {len(train):,} to train on, {len(test):,} held out, drawn at random "
                f"with seed {options.seed}")

    # The means and deviations are those of the rows to train on: the others are not known yet.
    inputs = datasets.Standardizer(table.X[train], table.columns)
    X = inputs(table.X)
    if classify:
        classes, y = np.unique(table.y, return_inverse=True)
        outputs, n_out, loss = None, len(classes), losses.SoftmaxCrossEntropy()
    else:
        outputs = datasets.Standardizer(table.y[train, None], [table.target])
        y, n_out, loss = outputs(table.y[:, None]), 1, losses.MeanSquaredError()
    sizes = [X.shape[1], *options.hidden, n_out]
    net = mlp(sizes, options.activation, options.dropout, seed=options.seed)
    optimizer = optimizers.Adam(schedules.Cosine(options.learning_rate, options.epochs))
    # As with the digits, nothing is chosen by the held-out rows.
    history = _fit(net, options, (X[train], y[train]), (X[test], y[test]), loss, optimizer)

    # What is saved takes the columns as they are in the file, and the score is of that.
    net = datasets.fold(net, inputs, outputs)
    Z = net.predict(table.X[test])
    if classify:
        most = np.bincount(y[train]).argmax()
        score = {"accuracy": float(np.mean(Z.argmax(axis=1) == y[test]))}
        baseline = {"accuracy": float(np.mean(y[test] == most))}
        print(f"held out  accuracy {score['accuracy']:.4f}   "
              f"(always {_plain(classes)[most]}: {baseline['accuracy']:.4f})")
    else:
        score = _regression_score(Z[:, 0], table.y[test])
        baseline = _regression_score(table.y[train].mean(), table.y[test])
        print(f"held out  RMSE {_amount(score['rmse'])}, R² {score['r2']:.4f}   "
              f"(always the mean: RMSE {_amount(baseline['rmse'])}, R² {baseline['r2']:.4f})")
    model, description = _save(options, net, history, {
        "data": name,
        "task": task,
        "target": table.target,
        "columns": table.columns,
        **({"classes": _plain(classes)} if classify else {}),
        "rows": {"train": len(train), "test": len(test)},
        "score": score,
        "baseline": baseline,
    })
    # Rows to predict are read by the names of their columns: they have no target, and perhaps
    # another order.
    csv = not options.data.lower().endswith(".npz")
    lines = ["from fastbp import datasets, load" if csv else "from fastbp import load", ""]
    if not csv:
        lines[:0] = ["import numpy as np"]
    if csv or classify:
        lines[:0] = ["import json", "from pathlib import Path"]
        lines += [f"about = json.loads(Path({str(description)!r}).read_text('utf-8'))"]
    lines += [
        f"X = datasets.read_table({options.data!r}, columns=about['columns']).X" if csv
        else f"X = np.load({options.data!r})['X']",
        f"net = load({str(model)!r})",
        "prediction = [about['classes'][i] for i in net.predict(X).argmax(axis=1)]" if classify
        else "prediction = net.predict(X)[:, 0]",
    ]
    options.say("\nTo use it on these rows, or on others: the file need not have the target, nor "
                "the same\norder of columns.\n" if csv else
                "\nTo use it on these rows, or on others with the same columns in X:\n")
    options.say(textwrap.indent("\n".join(lines), "    "))


def decide_task(table, asked=None):
    """Whether to classify or to regress, and the reason.

    Parameters
    ----------
    table : fastbp.datasets.Table
    asked : {"classification", "regression"}, optional
        What the user asked for.

    Returns
    -------
    task : {"classification", "regression"}
    reason : str

    Raises
    ------
    ValueError
        If a regression of text is asked for, or there would be about as many classes as
        rows.
    """
    values = np.unique(table.y)
    text = table.y.dtype.kind == "U"
    whole = not text and bool((values == np.floor(values)).all())
    few = whole and len(values) <= FEW
    holds = "text" if text else "whole numbers" if whole else "numbers"
    reason = f"{table.target!r} holds {holds}, {len(values):,} different"
    if asked == "regression" and text:
        raise ValueError(f"--task regression: expected numbers, but {reason}, such as "
                         f"{str(values[0])!r}")
    task = asked or ("classification" if text or few else "regression")
    if task == "classification" and len(values) > max(2, len(table.y) / 2):
        raise ValueError(f"classification: expected few classes, but {reason} in {len(table.y):,} "
                         f"rows; take another --target, or make it numbers throughout and take "
                         f"--task regression")
    if task == "classification" and len(values) <= FEW:
        reason += f" ({', '.join(map(str, _plain(values)))})"
    if asked:
        reason = f"as --task says; {reason}"
    elif few:
        reason += "; if they are amounts, --task regression"
    return task, reason


def _fit(net, options, data, held_out, loss, optimizer):
    _prepare(options.output)
    sizes = [net.n_in, *(layer.n_out for layer in net.layers if layer.n_parameters)]
    options.say(f"network   {'-'.join(map(str, sizes))}, {options.activation}, dropout "
                f"{options.dropout:g}; {counted(net.parameters.size, 'parameter')}")
    options.say(f"training  {counted(options.epochs, 'epoch')} in batches of {options.batch_size}; "
                f"{type(optimizer).__name__}, learning rate {options.learning_rate:g}")
    options.say()
    history = net.fit(*data, loss=loss, optimizer=optimizer, epochs=options.epochs,
                      batch_size=options.batch_size, validation_data=held_out,
                      verbose=0 if options.quiet else 1)
    options.say()
    return history


def _prepare(folder):
    """Make the folder, and make sure that it can be written to: now, not after the training."""
    import tempfile

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"--output: expected a folder that can be made, got "
                         f"{str(folder)!r}: {error.strerror}") from None
    for name in SAVED:
        if (folder / name).is_dir():
            raise ValueError(f"--output: expected a folder to save {name} in, but in "
                             f"{str(folder)!r} that is a folder itself; remove it, or take "
                             f"another --output FOLDER")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"--output: the folder {str(folder)!r} cannot be written to "
                         f"({error.strerror}); take another with --output FOLDER") from None


def _save(options, net, history, about):
    """Write the network, what to know about it, and the picture; return the first two's paths."""
    model, description, picture = (options.output / name for name in SAVED)
    about = {"fastbp": __version__, "seed": options.seed, **about}
    text = json.dumps(about, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    net.save(model)
    # A file's name may hold bytes that are no UTF-8; a backslash and its code is JSON, too.
    io.replace_file(description, text.encode(errors="backslashreplace"))
    options.say(f"saved     {model}\n          {description}")
    try:
        content = BytesIO()
        plot.learning_curves(history).savefig(content, format="png", dpi=150)
        io.replace_file(picture, content.getvalue())
        options.say(f"          {picture}")
    except ImportError as error:
        earlier = picture.exists()
        picture.unlink(missing_ok=True)
        options.say(f"          no picture: {error}"
                    + "; that of an earlier run is removed" * earlier)
    return model, description


def _say_nothing(*lines):
    """What `print` is with --quiet."""


def _regression_score(prediction, y):
    squares = np.sum((prediction - y) ** 2)
    spread = np.sum((y - y.mean()) ** 2)
    return {
        "rmse": float(np.sqrt(squares / len(y))),
        "r2": float(1 - squares / spread) if spread > 0 else 0.0,
    }


def _amount(number):
    """A number of any size for people to read."""
    return f"{number:,.0f}" if 1e4 <= number < 1e15 else f"{number:.5g}"


def _plain(classes):
    """Classes as JSON can hold them, whole numbers without a point."""
    whole = classes.dtype.kind == "f" and (classes == np.floor(classes)).all()
    return [int(value) for value in classes] if whole else classes.tolist()


if __name__ == "__main__":
    sys.exit(main())
