"""Training, with a report of what is trained and how."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..messages import counted
from .output import prepare

if TYPE_CHECKING:
    from ..kernels.types import Array
    from ..losses import Loss
    from ..network import Sequential
    from ..optimizers import Optimizer
    from ..training import History
    from .options import Options

__all__ = ["train"]


def train(
    options: Options,
    net: Sequential,
    data: tuple[Array, Array],
    held_out: tuple[Array, Array],
    loss: Loss,
    optimizer: Optimizer,
) -> History:
    """Report what is trained and how, and train it.

    Parameters
    ----------
    options : Options
    net : Sequential
    data : tuple of ndarray
        X and y to train on.
    held_out : tuple of ndarray
        X and y to evaluate after each epoch.
    loss : Loss
    optimizer : Optimizer

    Returns
    -------
    History

    Raises
    ------
    ValueError
        If the output folder cannot be written to; raised before training.
    FloatingPointError
        If training diverges.

    Examples
    --------
    >>> import tempfile
    >>> import fastbp as fb
    >>> from fastbp.cli.options import parse
    >>> X, y = fb.datasets.digits("train")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     options = parse(["--quiet", "--epochs", "2", "--output", folder])
    ...     history = train(options, fb.mlp([64, 10], seed=0), (X, y), (X, y),
    ...                     fb.SoftmaxCrossEntropy(), fb.SGD(0.1))
    >>> len(history["val_accuracy"])
    2
    """
    prepare(options.output)
    sizes = [net.n_in, *(layer.n_out for layer in net.layers if layer.n_parameters)]
    precision = "" if net.precision == "highest" else f', precision "{net.precision}"'
    options.say(f"network   {'-'.join(map(str, sizes))}, {options.activation}, dropout "
                f"{options.dropout:g}; {counted(net.parameters.size, 'parameter')}"
                f"{precision}")
    options.say(f"training  {counted(options.epochs, 'epoch')} in batches of {options.batch_size}; "
                f"{type(optimizer).__name__}, learning rate {options.learning_rate:g}")
    options.say()
    history = net.fit(*data, loss=loss, optimizer=optimizer, epochs=options.epochs,
                      batch_size=options.batch_size, validation_data=held_out,
                      verbose=0 if options.quiet else 1, communicator=options.processes)
    options.say()
    return history
