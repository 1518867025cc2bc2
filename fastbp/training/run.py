"""A running training, as callbacks see it."""

from __future__ import annotations

import itertools
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .. import losses
from ..kernels import checks
from ..kernels.stages import seconds
from ..kernels.steps import Steps
from ..kernels.types import Array, Doubles, Floats
from .averages import Averages
from .data import Dataset
from .distributed import Processes
from .history import EpochSums, History, RunSums
from .own_rows import outputs_of
from .shared_turns import SharedTurns
from .turns import Turns

if TYPE_CHECKING:
    from ..layers import Layer
    from ..losses import Loss
    from ..network import Sequential
    from ..optimizers import Optimizer
    from ..optimizers.groups import Part
    from ..program import Programs
    from .interrupts import DeferInterrupt
    from .progress import StepProgress

__all__ = ["Training", "new_steps"]

NO_RANDOM = np.empty((2, 0), np.uint64)
NO_ATTRIBUTES = np.empty((0, 0))

# What runs at most before Python has a look, in seconds and in rows.
AT_ONCE = 0.05
ROWS_AT_ONCE = 1 << 20


class Training:
    """A running `fit`, as callbacks see it.

    Between epochs, callbacks may set `batch_size`, `l2` and `loss`, settings of the optimizer and
    of the layers, and the weights; later steps use them.  Everything else is read-only.

    Attributes
    ----------
    batch_size : int
    l2 : float
        Strength of the penalty on the weights.
    loss : Loss
        Another one is checked against the targets.
    network : Sequential
    optimizer : Optimizer
    history : History
    epoch : int
        The current epoch, from 0.
    epochs : int
        How many there will be at most.
    steps_per_epoch : int
    stopping : bool
        Whether training ends after this epoch: see `stop`.
    sums : EpochSums or None
        Sums over the steps of the current or last epoch; None before the first.
    compiled : fastbp.kernels.steps.Steps or None
        The compiled steps, once there are some.
    averages : Averages
        The average of the parameters, if there is one.
    data : Dataset
        The rows to train on.
    is_first : bool
        Whether this process, of those that train together, writes for all of them.
    """

    # With slots, a callback that sets a misspelled attribute gets an AttributeError.
    __slots__ = (
        "__weakref__", "_averages", "_batch_size", "_compiled", "_compiled_from", "_counted",
        "_data", "_ended", "_epoch", "_epochs", "_first_epoch", "_history", "_in_epoch", "_l2",
        "_layers", "_made_before", "_network", "_optimizer", "_processes", "_random", "_rates",
        "_seconds", "_start", "_steps", "_stopping", "_sums", "_turns", "_updates_counted",
        "_validation", "_weights",
    )

    def __init__(self, network: Sequential, data: Dataset, optimizer: Optimizer | None,
                 epochs: int, batch_size: int, history: History, l2: float = 0.0,
                 validation: Dataset | None = None, ema: float | None = None,
                 processes: Processes | None = None) -> None:
        self._network = network
        self._data, self._validation = data, validation
        self._optimizer = optimizer
        self._epoch, self._epochs = 0, epochs
        self._history = history
        self._stopping = self._in_epoch = False
        self._sums: RunSums | None = None
        self._first_epoch = self._ended = 0  # of `_sums`, and the one that `sums` is of
        self._compiled: Stepper | None = None
        self._compiled_from: list[Hashable] | None = None
        self._made_before: int | None = None  # steps, when the epochs that run now began
        self._steps: int | None = None  # before this epoch
        self._counted = self._updates_counted = 0  # of the compiled steps
        self._random: tuple[Layer, ...] = ()
        self._weights, self._layers = network.parameter_ranges()
        self._processes = processes
        self._turns = Turns(self) if processes is None else SharedTurns(self, processes)
        self._averages = Averages(network, optimizer, ema)
        self.batch_size, self.l2 = batch_size, l2

    @property
    def network(self) -> Sequential:
        """The network that is trained."""
        return self._network

    @property
    def optimizer(self) -> Optimizer:
        """The optimizer; a run of `lbfgs`, which no callback sees, has none."""
        assert self._optimizer is not None
        return self._optimizer

    @property
    def history(self) -> History:
        """What was recorded so far."""
        return self._history

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        return self._epoch

    @property
    def epochs(self) -> int:
        """How many epochs there will be at most."""
        return self._epochs

    @property
    def stopping(self) -> bool:
        """Whether training ends after this epoch."""
        return self._stopping

    @property
    def sums(self) -> EpochSums | None:
        """Sums over the steps of the current or last epoch; None before the first."""
        return None if self._sums is None else self._sums[self._ended - self._first_epoch]

    @property
    def compiled(self) -> Stepper | None:
        """The compiled steps, once there are some."""
        return self._compiled

    @property
    def averages(self) -> Averages:
        """The average of the parameters, if there is one."""
        return self._averages

    @property
    def data(self) -> Dataset:
        """The rows to train on."""
        return self._data

    @property
    def is_first(self) -> bool:
        """Whether this process, of those that train together, writes for all of them."""
        return self._processes is None or self._processes.rank == 0

    def _check_between_epochs(self, name: str) -> None:
        if self._in_epoch:
            raise RuntimeError(f"training.{name}: expected to be set between epochs, in "
                               f"on_epoch_begin or on_epoch_end, not while one is under way")

    @property
    def batch_size(self) -> int:
        """Rows of a minibatch; the last of an epoch may have fewer."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, batch_size: int) -> None:
        self._check_between_epochs("batch_size")
        self._batch_size = checks.integer("batch_size", batch_size, 1)

    @property
    def l2(self) -> float:
        """Strength of the penalty on the weights."""
        return self._l2

    @l2.setter
    def l2(self, l2: float) -> None:
        self._check_between_epochs("l2")
        self._l2 = checks.not_negative("l2", l2)

    @property
    def loss(self) -> Loss:
        """The loss that is minimized."""
        return self._data.loss

    @loss.setter
    def loss(self, loss: Loss) -> None:
        self._check_between_epochs("loss")
        losses.checked_loss(loss)
        data = [each for each in (self._data, self._validation) if each is not None]
        for each in data:
            each.check_unchanged()
        targets = [each.targets(loss) for each in data]  # which may refuse it
        for each, its_targets in zip(data, targets, strict=True):
            each.use(loss, its_targets)
        self._compiled = None  # the next epoch shows what steps with this loss need

    @property
    def steps_before(self) -> int:
        """The number of steps in the epochs before this one."""
        return self._steps or 0

    @property
    def steps_per_epoch(self) -> int:
        """The number of minibatches in an epoch."""
        return -(-len(self._data) // self.batch_size)

    def stop(self, reason: str = "a callback asked for it") -> None:
        """End training after the current epoch; called in `on_train_begin`, before the first."""
        self._stopping = True
        self._history.stopped = str(reason)

    def begin_epoch(self, epoch: int) -> None:
        """Make this the current epoch."""
        self._epoch = epoch

    def end_epoch(self) -> None:
        """Make this one of the epochs that have run the last, whose sums callbacks see."""
        self._ended = self._epoch

    def epochs_at_once(self) -> float:
        """How many epochs may run without returning to Python, for all that compiled steps,
        validation and learning rates need of it, and without delaying Ctrl-C."""
        compiled = self._compiled
        if compiled is None or compiled.in_python or self._validation is not None:
            return 1  # the first epoch also shows how long one takes
        if (self._stopping or self._processes is not None
                or not self.optimizer.rates_follow_from_time):
            return 1
        seconds: float = max(self._seconds, 1e-9)
        return min(AT_ONCE / seconds, ROWS_AT_ONCE / max(1, len(self._data)))

    def run_epochs(self, orders: Array, interrupts: DeferInterrupt,
                   progress: StepProgress) -> dict[str, list[Any]]:
        """Run all steps of the current epoch and of those after it, and the validation.

        Where the learning rate of a later epoch raises an error, only those before it are run.

        Parameters
        ----------
        orders : ndarray of int64, of shape (epochs, rows)
            The order in which each epoch takes the rows.
        interrupts : DeferInterrupt
        progress : StepProgress

        Returns
        -------
        dict
            Lists with a value for each epoch that was run, for the history.
        """
        if self._steps is None:
            # Those of the fit that this one resumes.
            self._steps = self._epoch * self.steps_per_epoch
        self._data.check_unchanged()
        self._made_before = None
        self._in_epoch, self._start = True, seconds()
        try:
            self._averages.use_trained()
            epochs = self._run_steps(orders, interrupts, progress)
            self._averages.use_average()
            values = self._values(epochs)
            if self._validation is not None:
                Z = (None if self._processes is None
                     else outputs_of(self._processes, self._network, self._validation))
                scores = self._network.evaluate_dataset(self._validation, Z)
                values |= {"val_" + key: [value] for key, value in scores.items()}
                values["seconds"] = [seconds() - self._start]
        finally:
            self._in_epoch = False
        return values

    def complete_epochs(self) -> dict[str, list[Any]]:
        """After `run_epochs` has raised an error: what it would return of the epochs before."""
        if (self._made_before is None or self._sums is None or self._sums.epochs == 1
                or self._compiled is None):
            return {"loss": []}
        made = self._compiled.made - self._made_before
        return self._values(made // self.steps_per_epoch)

    def measure(self, seconds: float) -> None:
        """Note how long an epoch takes, with the calls that come after it."""
        self._seconds = seconds

    def _run_steps(self, orders: Array, interrupts: DeferInterrupt, progress: StepProgress) -> int:
        """All steps of the epochs; returns how many epochs were run."""
        n_steps = self.steps_per_epoch
        rates = self._rates = self._new_rates(len(orders), n_steps)
        epochs = len(rates) // n_steps
        self._first_epoch = self._ended = self._epoch
        self._sums = RunSums(
            epochs, n_steps, len(self._data), self.batch_size, self._data.new_metric(),
            len(self._layers) if "gradient_norms" in self._history else None)
        self._turns.begin(orders, rates, interrupts)
        self._made_before = self._prepare().made
        rows, i = self._data.row_indices(orders[:epochs]), 0
        while i < epochs * n_steps:
            made = self._run_compiled(rows, i, epochs * n_steps, rates, interrupts)
            i += made
            progress.update(made, self)
        self._steps = self.steps_before + epochs * n_steps
        return epochs

    def _values(self, epochs: int) -> dict[str, list[Any]]:
        """What the history records of the first of the epochs that `_run_steps` has run."""
        assert self._sums is not None
        n_steps, optimizer = self.steps_per_epoch, self.optimizer
        if optimizer.uses_layers:
            rates = [optimizer.rate(self._first_epoch + i + (n_steps - 1) / n_steps)
                     for i in range(epochs)]
        else:
            rates = self._rates[n_steps - 1 :: n_steps, 0][:epochs].tolist()
        ended = [self._start, *self._sums.epoch_stats[:epochs, 2].tolist()]
        seconds = [stop - start for start, stop in itertools.pairwise(ended)]
        return self._sums.values(epochs) | {"learning_rate": rates, "seconds": seconds}

    def _new_rates(self, epochs: int, n: int) -> Doubles:
        """The learning rates of each of the epochs' steps, one for each group of parameters."""
        optimizer = self.optimizer
        size = self._network.parameters.size
        if not any(map(callable, optimizer.learning_rates)):
            constant = optimizer.group_rates(0.0, size)
            return np.full((epochs * n, len(constant)), constant)
        rates: list[Any] = []
        for epoch in range(self._epoch, self._epoch + epochs):
            try:
                rates += [optimizer.group_rates(epoch + i / n, size) for i in range(n)]
            except (ValueError, ArithmeticError):
                if epoch == self._epoch:
                    raise
                return np.array(rates[: len(rates) // n * n])
        return np.array(rates)

    def _prepare(self) -> Stepper:
        """The compiled steps, which are rebuilt if something has changed."""
        network, data, optimizer = self._network, self._data, self._optimizer
        update: str | None = None
        metric: str | None = None
        average: Floats | None = None  # that the compiled steps keep
        state: list[Floats] = []
        groups: list[Part] = []
        loss = checks.compiled_form(data.loss)
        programs = network.programs
        if optimizer is not None:
            is_checked = not optimizer.is_for(programs.parameters)
            if is_checked:
                optimizer.start(programs.parameters)
            groups = optimizer.group_parts(programs.parameters.size)
            update = checks.compiled_form(optimizer) or "python"
            if update != "python":
                state = [optimizer.state[name] for name in optimizer.state_names]
            if data.loss.metric is not None:
                metric = (loss and checks.compiled_form(data.loss.metric)) or "python"
        batch_size = min(self._batch_size, len(data))
        processes = self._processes
        program = programs.training(data.X.shape[1], batch_size, processes is not None)
        if self._averages.decay is not None:
            average = self._averages.current()
        made_from: list[Any] = [program, loss, metric, update, groups, self._batch_size,
                                *map(id, (data.y, average, *state))]
        if self._compiled is not None and made_from == self._compiled_from:
            return self._compiled
        if optimizer is not None and not is_checked:
            optimizer.start(programs.parameters)
        self._compiled = new_steps(
            programs, data.X.shape[1], parameters=programs.parameters,
            gradients=programs.gradients,
            X=data.compiled_X,
            y=None if loss is None else data.y, sample_weight=data.sample_weight,
            n_rows=data.n_rows, batch_size=batch_size, loss=loss,
            metric=metric, update=update, state=state, weights=self._weights, layers=self._layers,
            groups=[part[:2] for part in groups],
            shapes=[None if update == "python" else part.shape for part in groups],
            average=average, turns=self._turns,
            share=None if processes is None else (processes.rank, processes.size),
        )
        if processes is not None:
            processes.warn_of_idle(batch_size)
        self._random = program.random
        self._compiled_from, self._counted, self._updates_counted = made_from, 0, 0
        return self._compiled

    def _run_compiled(self, rows: Array, i: int, n_steps: int, rates: Doubles,
                      interrupts: DeferInterrupt) -> int:
        """Make steps i to n_steps, or some of them; returns how many."""
        assert self._compiled is not None and self._sums is not None
        sums, metric, optimizer = self._sums, self._sums.metric, self.optimizer
        made = self._compiled.run(
            rows, i, n_steps, rates,
            optimizer.group_attributes(self._network.parameters.size), self._averages.decay or 0.0,
            optimizer.largest_decay, optimizer.clip_norm or 0.0, self._l2, optimizer.steps,
            self._random_state(),
            sums.step_stats, sums.metric_sums, getattr(metric, "mean", None), sums.norms,
            sums.epoch_stats,
        )
        interrupts.call(self.count_steps)
        return made

    def _random_state(self) -> Array:
        """The keys and step counts of the layers that draw random numbers."""
        if not self._random:
            return NO_RANDOM
        return np.array([[layer.key for layer in self._random],
                         [layer.step for layer in self._random]], np.uint64)

    def count_steps(self) -> None:
        """Update the step counts of the optimizer and of layers that draw random numbers."""
        if self._compiled is None:
            return
        made = self._compiled.made - self._counted
        updates = self._compiled.updates - self._updates_counted
        self._counted += made
        self._updates_counted += updates
        if updates:
            self.optimizer.steps += updates
        for layer in self._random:
            layer.step += made

    def loss_and_gradients(self) -> Doubles:
        """The loss of all rows together, and the penalty; gradients are written to the network.

        Returns
        -------
        ndarray of shape (2,)
        """
        if self._optimizer is not None:
            raise RuntimeError("Training.loss_and_gradients: expected a training without an "
                               "optimizer, whose steps would be another's")
        self._data.check_unchanged()
        order = np.arange(len(self._data))[None]
        step_stats, rates = np.zeros((1, 3)), np.zeros((1, 1))
        compiled = self._prepare()
        self._turns.begin(order, rates, None)
        steps = [layer.step for _, layer in self._network.leaves]
        compiled.run(
            self._data.row_indices(order), 0, 1, rates, NO_ATTRIBUTES, 0.0, 0.0, 0.0,
            self._l2, 0, self._random_state(), step_stats, None, None, None, np.zeros((1, 3)),
        )
        for (_, layer), step in zip(self._network.leaves, steps, strict=True):
            if layer.step is not step:
                layer.step = step  # an evaluation is not a step
        losses_and_penalty: Doubles = step_stats[0, :2]
        return losses_and_penalty


class Stepper(Protocol):
    """What makes steps: `fastbp.kernels.steps.Steps`, or that of `fastbp.program.reference`."""

    made: int
    updates: int
    threads: int

    @property
    def in_python(self) -> tuple[str, ...]:
        """What is done in Python; see `fastbp.kernels.steps.Steps`."""

    def run(self, *arguments: Any) -> int:
        """Make some steps, and return how many."""
        ...


def new_steps(programs: Programs, n_in: int, batch_size: int, share: tuple[int, int] | None = None,
              **arguments: Any) -> Stepper:
    """Compiled steps; to check them, `fastbp.program.reference` has a function of this name too."""
    return Steps(programs.training(n_in, batch_size, share is not None), batch_size=batch_size,
                 share=share, **arguments)
