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

__all__ = ["Options", "build_parser", "parse"]

DESCRIPTION = """\
Train a multilayer perceptron and save it, with a picture of how the training went.

Without --data: on the handwritten digits that scikit-learn ships.
With --data: on your own table.  A share of the rows is held out of the training, and
the score is measured on those.
"""

EXAMPLES = """\
examples:
  fastbp
      learn to read digits, in seconds
  fastbp --data houses.csv --target price
      predict a column of a CSV file from all the others
  fastbp --data houses.csv --target price --drop street --drop "owner name"
      leave out columns that hold text
  fastbp --data houses.csv --target price --hidden 128 128 --epochs 100
      train a larger network for longer
  fastbp --data wine.csv --target quality --task regression
      whole numbers that are amounts, not classes
  fastbp --data measured.npz
      from NumPy arrays: numpy.savez("measured.npz", X=X, y=y)

what is saved, in the --output folder:
  model.safetensors    the network, for fastbp.load; it takes your columns in their own units
  model.json           the names of columns and classes, in order; the scores
  learning_curves.png  loss and score, epoch by epoch (needs pip install "fastbp[plot]")

exit status: 0 done, 1 the training diverged, 2 bad options or data or too little memory,
130 stopped by Ctrl-C, 141 broken pipe
"""

# The defaults that differ between the digits and a table.
DIGITS_RECIPE: dict[str, Any] = {"hidden": [128], "dropout": 0.2, "learning_rate": 0.1}
TABLE_RECIPE: dict[str, Any] = {"hidden": [64, 64], "dropout": 0.1, "learning_rate": 0.005}

# The options that need --data, and their defaults.
ONLY_WITH_DATA: dict[str, Any] = {"target": None, "drop": [], "task": None, "test_share": 0.2}


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
    hidden: list[int]
    activation: str
    dropout: float
    epochs: int
    batch_size: int
    learning_rate: float
    seed: int
    output: Path

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

    def error(self, message: str) -> NoReturn:
        """Raise ValueError with this message."""
        raise ValueError(f"{message}; --help lists the options")


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
    text = "a .csv whose first line names the columns, or an .npz with the arrays X and y"
    add("--data", metavar="FILE", help=text)
    add("--target", metavar="COLUMN", help="the column to learn (.npz: the array, default y)")
    text = "a column to leave out; may be given several times"
    add("--drop", metavar="COLUMN", action="append", default=[], help=text)
    tasks = ["classification", "regression"]
    add("--task", choices=tasks, help="default: decided by the values of the target, and reported")
    text = "the share of rows to hold out, default 0.2"
    add("--test-share", metavar="SHARE", type=float, default=0.2, help=text)

    add = parser.add_argument_group("network").add_argument
    text = "sizes of the hidden layers, default 64 64 (digits: 128); none for a linear model"
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
            raise ValueError(f"--{name.replace('_', '-')} needs --data FILE")
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
    return options
