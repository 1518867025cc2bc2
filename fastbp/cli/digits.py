"""The run without ``--data``: learn to read digits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import datasets, plot
from ..builders import mlp
from ..losses import SoftmaxCrossEntropy
from ..optimizers import SGD
from .output import save
from .training import train

if TYPE_CHECKING:
    from .options import Options

__all__ = ["train_on_digits"]


def train_on_digits(options: Options) -> None:
    """Learn to read digits, save the network, and show how to do the same in Python.

    Parameters
    ----------
    options : Options

    Examples
    --------
    >>> from fastbp.cli.options import parse
    >>> train_on_digits(parse(["--quiet"]))  # doctest: +SKIP
    held out  accuracy 0.9861
    """
    X, y = datasets.digits("train")
    X_test, y_test = datasets.digits("test")
    options.say(f"data      handwritten digits of 8 × 8 pixels: {len(X):,} to train on, "
                f"{len(X_test):,} held out, 10 classes")
    sizes = [64, *options.hidden, 10]
    net = mlp(sizes, options.activation, options.dropout, precision=options.precision,
              seed=options.seed)
    loss = SoftmaxCrossEntropy(0.1)
    optimizer = SGD(options.learning_rate, momentum=0.9)
    # Nothing is chosen by the held-out digits: they are evaluated, for the user to see.
    history = train(options, net, (X, y), (X_test, y_test), loss, optimizer)

    accuracy = net.evaluate(X_test, y_test, loss=loss)["accuracy"]
    print(f"held out  accuracy {accuracy:.4f}")
    save(options, net.save, lambda: plot.learning_curves(history), {
        "data": "the digits that scikit-learn ships, pixels from 0 to 1",
        "task": "classification",
        "classes": list(range(10)),
        "score": {"accuracy": accuracy},
    })
    activation = "" if options.activation == "relu" else f", activation={options.activation!r}"
    precision = ("" if options.precision == "highest"
                 else f", precision={options.precision!r}")
    batch_size = "" if options.batch_size == 32 else f", batch_size={options.batch_size}"
    options.say(f"""
The same in three lines of Python:

    from fastbp import SGD, SoftmaxCrossEntropy, datasets, mlp

    X, y = datasets.digits("train")
    net = mlp({sizes}{activation}, dropout={options.dropout}{precision}, \
seed={options.seed})
    net.fit(X, y, loss=SoftmaxCrossEntropy(0.1), optimizer=SGD({options.learning_rate}, \
momentum=0.9), epochs={options.epochs}{batch_size})""")
