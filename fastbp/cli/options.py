"""The command line's options: what can be asked for, and the defaults."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..kernels import checks
from ..layers import ACTIVATIONS
from ..version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..training.distributed import Processes

__all__ = ["Options", "Parser", "build_parser", "file_to_write", "parse"]

DESCRIPTION = """\
Train a multilayer perceptron and save it, with a picture of how the training went.

Without --data: on the handwritten digits that scikit-learn ships.
With --data: on your own table.  A share of the rows is held out of the training, and
the score is measured on those.
With --predict: the rows of another file, with the model that was saved.
fastbp export, predict, explain, completion: saved models in other forms, what they
predict, how backpropagation computes their gradients, and completion in a shell; each has
a --help.
"""

EXAMPLES = """\
examples:
  fastbp
      learn to read digits, in seconds
  fastbp --data houses.csv --target price
      predict a column of a table from all the others
  fastbp --predict new.csv
      predict the rows of another file, into fastbp-output/predictions.csv
  fastbp --data houses.csv --target price --drop street --drop "owner name"
      leave out columns
  fastbp --data houses.csv --target price --hidden 128 128 --epochs 100
      train a larger network for longer
  fastbp --data wine.csv --target quality --task regression
      whole numbers that are amounts, not classes
  mpiexec -n 4 fastbp --data houses.csv --target price --hidden 512 512 --batch-size 1024
      the same model from four processes, on one machine or several (needs pip install
      "fastbp[mpi]"); they share each minibatch, in blocks of 256 rows
  fastbp export fastbp-output/model.safetensors model.h
      write C code that predicts
  fastbp explain
      show backpropagation in a small network, number by number
  fastbp --data houses.parquet --target price
      from a Parquet file (needs pip install "fastbp[parquet]")
  fastbp --data measured.npz
      from NumPy arrays: numpy.savez("measured.npz", X=X, y=y)

which model, unless --model says so:
  a table in which a column holds text or dates (2024-02-29), or lacks values: TabPack,
  an ensemble of small networks, which takes these, tunes itself, and needs
  pip install "fastbp[sklearn]".
  Everything else, and where an option of the network is given: a multilayer perceptron.
  --model tabpack or tabm is often more accurate than that on a table of numbers too, and
  takes longer.

what is saved, in the --output folder, where it replaces what an earlier run saved:
  model.safetensors    the network, for fastbp.load; it takes your columns in their own units
                       (TabPack, TabM: for fastbp.estimators.load_model; takes raw rows).
                       Nothing in the file is executed when it is read.
  model.json           the names of columns and classes, in order; the scores
  learning_curves.png  loss and score, epoch by epoch (needs pip install "fastbp[plot]")
  predictions.csv      with --predict: a line for each row of the file, in its order

exit status: 0 done, 1 the training diverged, 2 bad options or data or too little memory,
130 stopped by Ctrl-C, 141 broken pipe
"""

# The defaults that differ between the digits and a table.
DIGITS_RECIPE: dict[str, Any] = {"hidden": [128], "dropout": 0.2, "learning_rate": 0.1}
TABLE_RECIPE: dict[str, Any] = {"hidden": [64, 64], "dropout": 0.1, "learning_rate": 0.005}
# Those of both.
RECIPE: dict[str, Any] = {"activation": "relu", "epochs": 30, "batch_size": 32}

# The options of the models.
OF_NETWORK = [*TABLE_RECIPE, *RECIPE]
OF_ESTIMATOR = ["members", "time_limit"]

# The options that need --data, and their defaults.
ONLY_WITH_DATA: dict[str, Any] = {"target": None, "drop": [], "task": None, "test_share": 0.2,
                                  "model": "auto", "members": None, "time_limit": None}


class Options(argparse.Namespace):
    """The values of the command line's options, one attribute for each.

    Examples
    --------
    >>> parse(["--epochs", "5"]).epochs
    5
    """

    quiet: bool
    data: str | None
    target: str | None
    drop: list[str]
    task: str | None
    test_share: float
    predict: str | None
    model: str
    members: int | None
    time_limit: float | None
    hidden: list[int]
    activation: str
    dropout: float
    precision: str
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    output: Path
    processes: Processes | None = None  # that train together

    @property
    def is_first(self) -> bool:
        """Whether this process, of those that train together, prints and saves."""
        return self.processes is None or self.processes.rank == 0

    def say(self, text: str = "") -> None:
        """Print a text, unless ``--quiet`` was given.

        Parameters
        ----------
        text : str, default ""
        """
        if not self.quiet:
            print(text)


class Parser(argparse.ArgumentParser):
    """A parser that raises ValueError where argparse would print the usage and exit."""

    @property
    def arguments(self) -> list[argparse.Action]:
        """The arguments that it knows."""
        return self._actions

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with this message."""
        raise ValueError(f"{message}; --help lists the options")


def file_to_write(text: str) -> Path:
    """The path of a file, for an option; an error names the option.

    Examples
    --------
    >>> file_to_write("page.html").suffix
    '.html'
    """
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"expected a file, got the folder {text!r}; name a file "
                                         f"in it")
    return path


def build_parser() -> Parser:
    """Make the command line's parser, which knows all options and their help texts.

    Returns
    -------
    Parser

    Examples
    --------
    >>> build_parser().parse_args(["--epochs", "5"]).epochs
    5
    """
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
    text = ("a .csv whose first line names the columns, a .parquet, or an .npz with the arrays X "
            "and y")
    add("--data", metavar="FILE", help=text)
    add("--target", metavar="COLUMN", help="the column to learn (.npz: the array, default y)")
    text = "a column to leave out; may be given several times"
    add("--drop", metavar="COLUMN", action="append", default=[], help=text)
    tasks = ["classification", "regression"]
    add("--task", choices=tasks, help="default: decided by the values of the target, and reported")
    text = "the share of rows to hold out, default 0.2"
    add("--test-share", metavar="SHARE", type=float, default=0.2, help=text)

    text = ("predict the rows of this file, .csv, .parquet or .npz, with the model in the --output "
            "folder")
    add("--predict", metavar="FILE", help=text)

    add = parser.add_argument_group("model").add_argument
    text = "default auto: tabpack for text or missing values, else mlp; see below"
    add("--model", choices=["auto", "mlp", "tabpack", "tabm"], default="auto", help=text)
    text = "TabPack: networks to train, default 32; TabM: members of its network"
    add("--members", metavar="N", type=int, help=text)
    text = "TabPack and TabM: stop after this time; the result then depends on the machine"
    add("--time-limit", metavar="SECONDS", type=float, help=text)
    text = ("mlp and TabPack: of matrix products, default highest; lower ones are faster on "
            "processors with AMX")
    add("--precision", choices=list(checks.PRECISIONS), help=text)

    add = parser.add_argument_group("network (mlp)").add_argument
    text = "sizes of the hidden layers, default 64 64 (digits: 128); none for a linear model"
    add("--hidden", metavar="N", type=int, nargs="*", help=text)
    add("--activation", choices=list(ACTIVATIONS), help="default relu")
    add("--dropout", metavar="RATE", type=float, help="default 0.1 (digits: 0.2)")

    add = parser.add_argument_group("training (mlp)").add_argument
    add("--epochs", metavar="N", type=int, help="default 30")
    add("--batch-size", metavar="N", type=int, help="default 32")
    text = "default 0.005, for Adam (digits: 0.1, for SGD)"
    add("--learning-rate", metavar="RATE", type=float, help=text)

    add = parser.add_argument_group("run").add_argument
    text = "default 0; the same seed gives the same model, bit for bit"
    add("--seed", metavar="N", type=int, default=0, help=text)
    text = ("the folder to save in, and with --predict that of the model too; default "
            "fastbp-output (fastbp predict and explain take a file instead)")
    add("--output", metavar="FOLDER", type=Path, default=Path("fastbp-output"), help=text)
    return parser


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read and check the arguments, and fill in the defaults.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    Options

    Raises
    ------
    ValueError
        If an option is unknown or missing its value, or a value is out of range.
    SystemExit
        After ``--help`` or ``--version`` has been printed.

    Examples
    --------
    >>> parse([]).hidden, parse(["--data", "houses.csv"]).hidden
    ([128], [64, 64])
    """
    options = build_parser().parse_args(arguments, Options())
    for name, default in ONLY_WITH_DATA.items():
        if options.data is None and getattr(options, name) != default:
            raise ValueError(f"{_written(name)} needs --data FILE")
    if options.predict is not None and options.data is not None:
        raise ValueError("--predict: expected no --data at the same time; train first, then "
                         "predict with the model in the --output folder")
    _decide_model(options)
    recipe = DIGITS_RECIPE if options.data is None else TABLE_RECIPE
    for name, value in (recipe | RECIPE | {"precision": "highest"}).items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    for size in options.hidden:
        checks.integer("--hidden", size, 1)
    checks.fraction("--dropout", options.dropout)
    checks.integer("--epochs", options.epochs, 1)
    checks.integer("--batch-size", options.batch_size, 1)
    checks.positive("--learning-rate", options.learning_rate)
    if options.members is not None:
        checks.integer("--members", options.members, 1)
    if options.time_limit is not None:
        checks.positive("--time-limit", options.time_limit)
    checks.integer("--seed", options.seed, 0)
    checks.number("--test-share", options.test_share, 0, 1, low_open=True, high_open=True)
    return options


def _decide_model(options: Options) -> None:
    """Decide what other options than ``--model`` imply, and refuse those of another model."""

    def given(names: Sequence[str]) -> list[str]:
        return [_written(name) for name in names if getattr(options, name) is not None]

    of_network, of_estimator = given(OF_NETWORK), given(OF_ESTIMATOR)
    if options.model == "auto" and (of_network or of_estimator):
        options.model = "mlp" if of_network else "tabpack"
    of_training = [*of_network, *given(["precision"])]
    if options.predict is not None and of_training:
        raise ValueError(f"{of_training[0]}: expected no option of training with --predict; leave "
                         f"it out")
    if options.model == "tabm" and options.precision is not None:
        raise ValueError("--precision: is an option of --model mlp and tabpack, but the model is "
                         "tabm; leave it out, or choose one of them")
    if options.model in ("tabpack", "tabm") and of_network:
        raise ValueError(f"{of_network[0]}: is an option of --model mlp, but the model is "
                         f"{options.model}; leave it out, or choose --model mlp")
    if options.model == "mlp" and of_estimator:
        raise ValueError(f"{of_estimator[0]}: is an option of --model tabpack and tabm, but the "
                         f"model is mlp" + f", as {of_network[0]} is given" * bool(of_network)
                         + "; leave it out, or choose one of them")


def _written(name: str) -> str:
    """An option as it is written."""
    return f"--{name.replace('_', '-')}"
