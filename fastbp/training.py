"""The loop around an epoch: data, steps, validation, history, callbacks, progress.

What `Sequential.fit` does is `fit` below, from top to bottom: check everything, then for
each epoch run the steps, evaluate, record, and ask the callbacks.
"""

import copy
import math
import operator
import os
import signal
import threading
import time
import weakref
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from . import kernels, layers, losses, optimizers
from .callbacks import Callback, EachEpoch
from .checkpoints import Checkpoints
from .checkpoints import describe as describe_fit
from .kernels import checks, gather
from .kernels.guards import Borrowed
from .kernels.steps import Steps
from .program import check_codes

__all__ = ["History", "Training", "fit", "lbfgs"]

# Rows looked at at once when X is searched for NaN: a memmap is never read whole.
CHECK_ROWS = 8192


class History(dict):
    """What happened in each epoch: a dict of lists, a value per epoch.

    Attributes
    ----------
    layer_names : list of str
        The layers that ``history["gradient_norms"]`` speaks of, in its order.
    stopped : str or None
        Why the training ended before its last epoch.
    """

    def __init__(self, keys=(), layer_names=()):
        super().__init__({key: [] for key in keys})
        self.layer_names = list(layer_names)
        self.stopped = None

    def append(self, **values):
        """Add a row."""
        for key, value in values.items():
            self.setdefault(key, []).append(value)


class Dataset:
    """Rows and targets as `fit` and `evaluate` need them: checked, never copied whole.

    Parameters
    ----------
    network : Sequential
    X, y, loss, sample_weight
        As in `Sequential.fit`.
    prefix : str, default ""
        Goes before the arguments' names in messages.
    """

    def __init__(self, network, X, y, loss, sample_weight=None, prefix=""):
        losses.checked_loss(loss)
        self.prefix = prefix
        self.dtype = network.dtype
        self.rows = None  # all of them, in their order
        self.X = network._rows(prefix + "X", X)
        if 0 in self.X.shape:
            raise ValueError(f"{prefix}X: expected at least one row and one column, "
                             f"got shape {self.X.shape}")
        if checks.is_sparse(self.X):
            self.X = self._checked_sparse(prefix + "X")
        self._codes = network.codes(self.X.shape[1])
        self._given, self.n_out = y, network.n_out or self.X.shape[1]
        self.sample_weight = self._borrowed = None
        self.use(loss, self.targets(loss))
        if sample_weight is not None:
            self.sample_weight = self._checked_weights(prefix + "sample_weight", sample_weight)
        self._check_finite(prefix + "X")
        self._borrow()

    def _borrow(self):
        """Remember how the arrays lie that rows are read from: the caller's own, mostly."""
        arrays = checks.memory("X", self.X) | {"y": self.y, "sample_weight": self.sample_weight}
        # Targets of more dimensions are for a loss of the user's own, which NumPy gathers.
        self._borrowed = [Borrowed(self.prefix + name, array) for name, array in arrays.items()
                          if array is not None and array.ndim <= 2]

    def check_unchanged(self):
        """Raise where the caller has turned an array into another since it was checked.

        The numbers may change, and labels are checked again as they are used.
        """
        for array in self._borrowed:
            array.check()

    def _checked_weights(self, name, sample_weight):
        weights = checks.data(name, sample_weight)
        checks.shape(name, weights, self.X.shape[:1], "one for each row of X")
        if (weights < 0).any():
            i = int(np.argmax(weights < 0))
            raise ValueError(f"{name}: expected numbers of at least 0, got {weights[i]} in row {i}")
        with np.errstate(over="ignore"):
            converted = np.ascontiguousarray(weights, self.dtype)
        least, most = np.finfo(self.dtype).tiny, np.finfo(self.dtype).max / len(weights)
        if not least <= converted.max() <= most:
            raise ValueError(f"{name}: expected some numbers between {least:.2g} and {most:.2g}, "
                             f"and none above, got at most {weights.max()}")
        return converted

    def targets(self, loss):
        """y in the form that this loss takes."""
        try:
            targets = loss.targets(self._given, self.n_out, self.dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self.prefix}{error}") from None
        if not isinstance(targets, np.ndarray) or targets.ndim == 0:
            raise TypeError(f"loss {loss!r}: targets returned a {type(targets).__name__}; expected "
                            f"a numpy.ndarray with a row for each row of X")
        if len(targets) != self.X.shape[0]:
            raise ValueError(f"{self.prefix}y: expected {self.X.shape[0]} rows like "
                             f"{self.prefix}X, got {len(targets)}")
        return targets

    def use(self, loss, targets):
        """From now on go by this loss, with what `targets` made for it."""
        self.loss, self.y = loss, targets
        if self._borrowed is not None:
            self._borrow()

    def _checked_sparse(self, name):
        """X in the network's dtype, in a sparse array of its own over arrays of the caller's."""
        checks.finite(f"{name}.data", self.X.data)
        with np.errstate(over="ignore"):
            converted = self.X.astype(self.dtype, copy=False)
        checks.finite(f"{name}.data as {self.dtype}", converted.data)
        return copy.copy(converted)

    def _check_finite(self, name):
        if checks.is_sparse(self.X):
            if self._codes:
                check_codes(name, checks.dense(self.X[:, [each[0] for each in self._codes]],
                                               self.dtype), self._codes, codes_alone=True)
            return
        for start in range(0, self.X.shape[0], CHECK_ROWS):
            rows = self.X[start : start + CHECK_ROWS]
            checks.finite(name, rows, first_row=start)
            check_codes(name, rows, self._codes, first_row=start)
            if rows.dtype.kind == "f" and rows.dtype.itemsize > self.dtype.itemsize:
                with np.errstate(over="ignore"):
                    rows = rows.astype(self.dtype)
                checks.finite(f"{name} as {self.dtype}", rows, first_row=start)

    def __len__(self):
        return self.X.shape[0] if self.rows is None else len(self.rows)

    def row_indices(self, order):
        """Where in X, y and the weights the rows of this order are."""
        return order if self.rows is None else self.rows[order]

    def batch(self, order):
        """X, y and weights of some rows, X in the network's dtype."""
        return self.inputs(order), *self.targets_of(order)

    def inputs(self, order):
        """X of some rows, in the network's dtype."""
        self.check_unchanged()
        rows = self.row_indices(order)
        if checks.is_sparse(self.X):
            return gather.dense_rows(self.X, np.arange(self.X.shape[0])[rows], self.dtype)
        return np.ascontiguousarray(self.X[rows], self.dtype)

    def targets_of(self, order):
        """y and the weights of some rows."""
        self.check_unchanged()
        rows = self.row_indices(order)
        return self.y[rows], None if self.sample_weight is None else self.sample_weight[rows]

    def new_metric(self):
        """The loss's metric, with nothing counted yet; None if it has none."""
        if self.loss.metric is None:
            return None
        rows = slice(None) if self.rows is None else self.rows
        weights = None if self.sample_weight is None else self.sample_weight[rows]
        return self.loss.metric(self.y[rows], weights)

    def n_validation(self, fraction):
        """How many rows a validation fraction sets aside."""
        n = round(len(self) * fraction)
        if not 0 < n < len(self):
            raise ValueError(f"validation_fraction: expected a share that leaves rows on both "
                             f"sides, got {fraction}, which sets aside {n} of {len(self)}")
        return n

    def split(self, n_validation, rng):
        """All but n_validation rows, and those, at random; both parts are views of this one."""
        order = rng.permutation(len(self))
        kept, aside = copy.copy(self), copy.copy(self)
        kept.rows, aside.rows = order[n_validation:], order[:n_validation]
        return kept, aside


def batch_weight(weights, n):
    """What a batch of n rows counts in a mean over all rows."""
    # A cumulative sum adds in the order of the rows; NumPy's sum does not.
    return float(n) if weights is None else float(np.cumsum(weights, dtype=np.float64)[-1])


def exclusive_use(what, piece):
    """The lock of a network or an optimizer, taken: each serves one training at a time.

    To be released in the end; nothing may come between this and the try statement.
    """
    try:
        mine = os.getpid(), threading.Lock()
    except RuntimeError as error:  # "can't allocate lock"
        raise MemoryError(str(error)) from None
    owner, lock = vars(piece).setdefault("_claim", mine)
    if owner != mine[0]:  # a forked child has none of its parent's trainings
        _, lock = piece._claim = mine
    if not lock.acquire(False):
        raise RuntimeError(f"this {what} is being used by a training already, in another thread "
                           f"or by the fit that called back; use a copy: copy.deepcopy({what})")
    return lock


class DeferInterrupt:
    """Holds Ctrl-C back while parameters are being written, for the with statement.

    Anywhere else it is answered at once: what an unfinished step has computed is scratch.
    Only the main thread can receive signals, so elsewhere this does nothing.  A handler that
    a callback installs is answered in the same way from the next epoch on, and stays.
    """

    def __init__(self):
        self.writing = False
        self.pending = None  # a handler and its arguments
        self.handler = self.stand_in = None  # the caller's, and what is installed instead

    def __enter__(self):
        self.install()
        return self

    def install(self):
        """Stand in for the handler that there is now, unless that is done."""
        if threading.current_thread() is not threading.main_thread():
            return
        handler = signal.getsignal(signal.SIGINT)
        if not callable(handler) or handler is self.stand_in:
            return

        # A function for each handler: a later handler may call the one that it found.
        def stand_in(signum, frame):
            if self.writing:
                self.pending = handler, signum, frame
            else:
                handler(signum, frame)

        self.handler, self.stand_in = handler, stand_in
        signal.signal(signal.SIGINT, stand_in)

    def __exit__(self, *error):
        self.writing = False
        if self.stand_in is not None and signal.getsignal(signal.SIGINT) is self.stand_in:
            signal.signal(signal.SIGINT, self.handler)

    def call(self, function, *arguments):
        """Call a function that writes parameters, then answer what came meanwhile."""
        self.writing = True
        try:
            function(*arguments)
        finally:
            self.writing = False
        if self.pending is not None:
            (handler, *arguments), self.pending = self.pending, None
            handler(*arguments)


class Training:
    """A running `fit`, as callbacks see it.

    Between epochs, callbacks may set `batch_size`, `l2` and `loss`, settings of the optimizer
    and of the layers, and the weights; the steps from there on go by them.  Everything else is
    read-only.

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
        Whether the training ends after this epoch: see `stop`.
    sums : EpochSums
        What the last epoch's steps came to.
    compiled : fastbp.kernels.steps.Steps or None
        The compiled steps, once there are some.
    """

    # No attribute but these: to set another, or one that has no setter below, is an error.
    __slots__ = (
        "__weakref__", "_aside", "_average", "_average_keep", "_batch_size", "_compiled",
        "_compiled_from", "_counted", "_data", "_epoch", "_epochs", "_history", "_in_epoch",
        "_l2", "_layers", "_network", "_optimizer", "_random", "_steps", "_stopping", "_sums",
        "_turns", "_updates_counted", "_validation", "_weights",
    )

    network, optimizer, history, epoch, epochs, stopping, sums, compiled = (
        property(operator.attrgetter(name)) for name in
        ("_network", "_optimizer", "_history", "_epoch", "_epochs", "_stopping", "_sums",
         "_compiled")
    )

    def __init__(self, network, data, optimizer, epochs, batch_size, history, l2=0.0,
                 validation=None, ema=None):
        self._network = network
        self._data, self._validation = data, validation
        self._optimizer = optimizer
        self._epoch, self._epochs = 0, epochs
        self._history = history
        self._stopping = self._in_epoch = False
        self._sums = self._compiled = self._compiled_from = None
        self._steps = None  # before this epoch
        self._counted = self._updates_counted = 0  # of the compiled steps
        self._random = []
        self._weights, self._layers = parts(network)
        self._turns = Turns(self)
        # The average of the parameters over the steps, and the parameters that are being trained
        # while the network has the average.
        self._average_keep, self._average, self._aside = ema, None, None
        self.batch_size, self.l2 = batch_size, l2

    def _check_between_epochs(self, name):
        if self._in_epoch:
            raise RuntimeError(f"training.{name}: expected to be set between epochs, in "
                               f"on_epoch_begin or on_epoch_end, not while one is under way")

    @property
    def batch_size(self):
        """Rows of a minibatch; the last of an epoch may have fewer."""
        return self._batch_size

    @batch_size.setter
    def batch_size(self, batch_size):
        self._check_between_epochs("batch_size")
        self._batch_size = checks.integer("batch_size", batch_size, 1)

    @property
    def l2(self):
        """Strength of the penalty on the weights."""
        return self._l2

    @l2.setter
    def l2(self, l2):
        self._check_between_epochs("l2")
        self._l2 = checks.not_negative("l2", l2)

    @property
    def loss(self):
        """What is made smaller."""
        return self._data.loss

    @loss.setter
    def loss(self, loss):
        self._check_between_epochs("loss")
        losses.checked_loss(loss)
        data = [each for each in (self._data, self._validation) if each is not None]
        for each in data:
            each.check_unchanged()
        targets = [each.targets(loss) for each in data]  # which may refuse it
        for each, its_targets in zip(data, targets, strict=True):
            each.use(loss, its_targets)

    @property
    def steps_before(self):
        """Steps of the epochs before this one."""
        return self._steps

    @property
    def steps_per_epoch(self):
        """Minibatches that the rows make."""
        return -(-len(self._data) // self.batch_size)

    def stop(self, reason="a callback asked for it"):
        """End the training after this epoch."""
        self._stopping = True
        self._history.stopped = str(reason)

    def begin_epoch(self, epoch):
        """Count up to an epoch."""
        self._epoch = epoch

    def run_epoch(self, order, interrupts, progress):
        """All steps of one epoch, through the rows in this order, and the validation.

        Returns
        -------
        dict
            The epoch's row of the history.
        """
        if self._steps is None:
            # Those of the fit that this one goes on from.
            self._steps = self._epoch * self.steps_per_epoch
        self._data.check_unchanged()
        self._in_epoch = True
        try:
            self.use_trained()
            row = self._run_steps(order, interrupts, progress)
            self.use_average()
            if self._validation is not None:
                scores = self._network._evaluate(self._validation)
                row |= {"val_" + key: value for key, value in scores.items()}
        finally:
            self._in_epoch = False
        return row

    def _run_steps(self, order, interrupts, progress):
        history, n_steps = self._history, self.steps_per_epoch
        rates = self._rates(n_steps)
        self._sums = EpochSums(
            n_rows=len(self._data), batch_size=self.batch_size,
            step_stats=np.zeros((n_steps, 3)),
            metric=self._data.new_metric(),
            norms=np.zeros(len(self._layers)) if "gradient_norms" in history else None,
        )
        self._turns.begin(order, rates, interrupts)
        self._prepare()
        rows, i = self._data.row_indices(order), 0
        while i < n_steps:
            made = self._run_compiled(rows, i, n_steps, rates, interrupts)
            i += made
            progress.update(made, self._sums)
        self._steps += n_steps
        last = rates[-1, 0]
        if self._optimizer.groups:
            last = self._optimizer.rate(self._epoch + (n_steps - 1) / n_steps)
        row = {"loss": self._sums.loss, "learning_rate": float(last)}
        if self._sums.metric is not None:
            row[self._sums.metric.name] = self._sums.metric.result()
        if self._sums.norms is not None:
            row["gradient_norms"] = self._sums.norms / n_steps
        return row

    def _rates(self, n):
        """The learning rates of each of the epoch's steps, one for each group of parameters."""
        optimizer = self._optimizer
        if not callable(optimizer.learning_rate) and not optimizer.groups:
            return np.full((n, 1), optimizer.learning_rate)
        size = self._network.parameters.size
        return np.array([optimizer.group_rates(self._epoch + i / n, size) for i in range(n)])

    def average(self):
        """The weights to evaluate, if these are not the trained ones; None without."""
        if self._average_keep is not None:
            if self._average is None:
                self._average = self._network.parameters.copy()
            return self._average
        if self._optimizer is None or self._optimizer.averaged is None:
            return None
        average, parameters = (self._optimizer.state.get(self._optimizer.averaged),
                               self._network.parameters)
        fits = (isinstance(average, np.ndarray) and average.shape == parameters.shape
                and average.dtype == parameters.dtype)
        return average if fits else None  # which the next step says

    def use_average(self):
        """Give the network the average of the parameters, if there is one."""
        average = self.average()
        if average is not None and self._aside is None:
            self._aside = self._network.parameters.copy()
            self._network.parameters[...] = average

    def use_trained(self):
        """Give the network the parameters that are being trained."""
        if self._aside is None:
            return
        parameters, average = self._network.parameters, self.average()
        if average is None or np.array_equal(parameters, average):
            parameters[...] = self._aside
        else:  # somebody has set them; it goes on from there
            self._forget_average()
        self._aside = None

    def _forget_average(self):
        """Have averages begin with the network's parameters."""
        if self._average is not None:
            self._average[...] = self._network.parameters
        for name in self._optimizer.copies:
            self._optimizer.state[name][...] = self._network.parameters

    @property
    def trained(self):
        """The parameters that are being trained, while the network has their average; or None."""
        return self._aside

    def go_on(self, trained=None):
        """Take up a training that a network with averaged parameters is the result of.

        Parameters
        ----------
        trained : ndarray of shape (n,), optional
            As `trained` was; without it, what the optimizer says.
        """
        network, optimizer = self._network, self._optimizer
        if trained is None and optimizer.averaged is not None and optimizer.steps > 0:
            optimizer.start(network.parameters)
            trained = optimizer.trained() if optimizer.steps > 0 else None
        if trained is not None:
            self._aside = trained.copy()
            self.average()

    def _prepare(self):
        """Make the compiled steps, unless they are there and nothing was changed since."""
        network, data, optimizer = self._network, self._data, self._optimizer
        update, state, metric, groups, average = None, [], None, [], None
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
        program = programs.training(data.X.shape[1])
        if self._average_keep is not None:
            average = self.average()
        made_from = [program, loss, metric, update, groups, self._batch_size,
                     *map(id, (data.y, average, *state))]
        if made_from == self._compiled_from:
            return
        if optimizer is not None and not is_checked:
            optimizer.start(programs.parameters)
        self._compiled = new_steps(
            programs, data.X.shape[1], parameters=programs.parameters,
            gradients=programs.gradients,
            X=data.X if gather.readable(data.X, data.dtype) else None,
            y=None if loss is None else data.y, sample_weight=data.sample_weight,
            n_rows=data.X.shape[0], batch_size=min(self._batch_size, len(data)), loss=loss,
            metric=metric, update=update, state=state, weights=self._weights, layers=self._layers,
            groups=[part[:2] for part in groups], average=average, turns=self._turns,
        )
        self._random = program.random
        self._compiled_from, self._counted, self._updates_counted = made_from, 0, 0

    def _run_compiled(self, rows, i, n_steps, rates, interrupts):
        """Steps i to n_steps, or some of them; how many."""
        sums, metric, optimizer = self._sums, self._sums.metric, self._optimizer
        made = self._compiled.run(
            rows, i, n_steps, rates,
            optimizer.group_attributes(self._network.parameters.size), self._average_keep or 0.0,
            optimizer.largest_decay, optimizer.clip_norm or 0.0, self._l2, optimizer.steps,
            self._random_state(),
            sums.step_stats, *((None, None) if metric is None else (metric.sums, metric.mean)),
            sums.norms,
        )
        interrupts.call(self.count_steps)
        return made

    def _random_state(self):
        """The keys of the layers that draw random numbers, and the steps they have counted."""
        if not self._random:
            return NO_RANDOM
        return np.array([[layer.key for layer in self._random],
                         [layer.step for layer in self._random]], np.uint64)

    def count_steps(self):
        """Let the optimizer and random layers know of compiled steps they do not know of yet."""
        if self._compiled is None:
            return
        made = self._compiled.made - self._counted
        updates = self._compiled.updates - self._updates_counted
        self._counted += made
        self._updates_counted += updates
        if updates:
            self._optimizer.steps += updates
        for layer in self._random:
            layer.step += made

    def loss_and_gradients(self):
        """The loss of all rows together, and the penalty; the gradients go to the network."""
        if self._optimizer is not None:
            raise RuntimeError("Training.loss_and_gradients: expected a training without an "
                               "optimizer, whose steps would be another's")
        self._data.check_unchanged()
        order = np.arange(len(self._data))
        step_stats, rates = np.zeros((1, 3)), np.zeros((1, 1))
        self._prepare()
        self._turns.begin(order, rates, None)
        steps = [layer.step for _, layer in self._network.leaves]
        self._compiled.run(
            self._data.row_indices(order), 0, 1, rates, NO_ATTRIBUTES, 0.0, 0.0, 0.0,
            self._l2, 0, self._random_state(), step_stats, None, None, None,
        )
        for (_, layer), step in zip(self._network.leaves, steps, strict=True):
            if layer.step is not step:
                layer.step = step  # an evaluation is no step
        return step_stats[0, :2]


def new_steps(programs, n_in, **arguments):
    """Steps that are compiled; `fastbp.program.reference` has another function of this name."""
    return Steps(programs.training(n_in), **arguments)


NO_RANDOM = np.empty((2, 0), np.uint64)
NO_ATTRIBUTES = np.empty((0, 0))


class Turns:
    """What Python does in a step, where compiled code cannot: see `fastbp.kernels.steps.Steps`.

    Parameters
    ----------
    run : Training
    """

    def __init__(self, run):
        self._run = weakref.proxy(run)  # not a cycle, which would keep the workspace for a while

    def begin(self, order, rates, interrupts):
        """Before an epoch: the order of its rows, and the learning rates of its steps."""
        self._order, self._rates, self._interrupts = order, rates, interrupts

    def _data_and_order(self, step):
        size = self._run.batch_size
        return self._run._data, self._order[step * size : (step + 1) * size]

    def gather(self, step):
        """The step's rows of X."""
        data, order = self._data_and_order(step)
        return data.inputs(order)

    def weight(self, step):
        """What its rows count together."""
        data, order = self._data_and_order(step)
        return batch_weight(data.targets_of(order)[1], len(order))

    def compute_loss(self, step, Z):
        """The loss, and its gradient with respect to Z."""
        data, order = self._data_and_order(step)
        return losses.compute_loss(data.loss, Z, *data.targets_of(order))

    def count(self, step, Z):
        """Have the metric count the step."""
        data, order = self._data_and_order(step)
        if self._run.sums.metric is not None:
            self._run.sums.metric.update(Z, *data.targets_of(order))

    def refuse(self, step):
        """Raise what is wrong with the step's data, which somebody has changed."""
        data, order = self._data_and_order(step)
        self._run.network.forward(data.inputs(order), training=False)
        self.compute_loss(step, np.zeros((len(order), data.n_out), data.dtype))

    def update(self, step, loss, penalty):
        """One step of the optimizer, which is taken back if a weight comes out infinite.

        That takes an enormous gradient, weight or learning rate; only then is there a
        copy to go back to.
        """
        network, rates = self._run.network, self._rates[step]
        if not np.isfinite(loss + penalty):
            self._diverged(step, f"the loss is {loss + penalty}")
        gradient_norm = kernels.norm(network.gradients)
        if not np.isfinite(gradient_norm):
            self._diverged(step, "the gradients are not finite")
        self._interrupts.call(self._update, step, rates, gradient_norm)

    def _update(self, step, rates, gradient_norm):
        network, optimizer = self._run.network, self._run.optimizer
        self._run.count_steps()
        rate, decay = max(rates), optimizer.largest_decay
        size = gradient_norm + (decay * kernels.norm(network.parameters) if decay > 0 else 0)
        # Below the square root of the largest number nothing that is multiplied overflows.
        safe = float(np.finfo(network.dtype).max) ** 0.5
        if max(1.0, rate) * max(1.0, decay) * max(1.0, size) < safe:
            optimizer.step_at(network.parameters, network.gradients, rates)
            return
        optimizer.start(network.parameters)
        changed = [network.parameters, *optimizer.state.values()]
        before, steps = [array.copy() for array in changed], optimizer.steps
        optimizer.step_at(network.parameters, network.gradients, rates)
        if not all(np.isfinite(array).all() for array in changed):
            for array, values in zip(changed, before, strict=True):
                array[...] = values
            optimizer.steps = steps
            self._diverged(step, "the step makes weights that are not finite")

    def _diverged(self, step, what):
        run = self._run
        raise FloatingPointError(
            f"training diverged at step {run.steps_before + step + 1} (epoch {run.epoch + 1}, "
            f"batch {step + 1} of {run.steps_per_epoch}): {what}. The network keeps the weights "
            f"from before this step. Try a smaller learning rate, clip_norm=1.0 on the optimizer, "
            f"or inputs and targets scaled to a standard deviation of about 1"
        )


@dataclass
class EpochSums:
    """What an epoch adds up.

    Attributes
    ----------
    n_rows, batch_size : int
    step_stats : ndarray of shape (steps, 3)
        The loss, the penalty and the batch's weight of each step; zeros before it is made.
    metric : Accuracy, R2 or None
    norms : ndarray or None
        The norm of each layer's gradients.
    """

    n_rows: int
    batch_size: int
    step_stats: np.ndarray
    metric: object
    norms: np.ndarray | None

    @property
    def rows(self):
        """How many each step has, an array of shape (steps,)."""
        return np.minimum(self.batch_size, self.n_rows - np.arange(0, self.n_rows, self.batch_size))

    @property
    def loss(self):
        """The mean so far."""
        losses, penalties, weights = self.step_stats.T
        # Cumulative sums add in the order of the steps; NumPy's sum does not.
        total, weight = ((losses + penalties) * weights).cumsum()[-1], weights.cumsum()[-1]
        return float(total / weight) if weight > 0 else float("nan")


def parts(network):
    """Where the weights, and the parameters of each layer that has some, are in the flat arrays.

    Returns
    -------
    weights, layers : list of tuple of int
        Where each starts, and how many numbers it is.
    """
    weights, layers, start = [], [], 0
    for _, layer in network.leaves:
        first = start
        for shape in layer.parameter_shapes.values():
            size = math.prod(shape)
            if len(shape) == 2:
                weights.append((start, size))
            start += size
        if start > first:
            layers.append((first, start - first))
    return weights, layers


def fit(network, X, y, *, loss, optimizer, epochs, batch_size, sample_weight, l2,
        validation_data, validation_fraction, callbacks, shuffle, gradient_norms, seed, verbose,
        checkpoint, checkpoint_every, resume, ema):
    """Train a network; `Sequential.fit` has the description."""
    epochs = checks.integer("epochs", epochs, 1)
    batch_size = checks.integer("batch_size", batch_size, 1)
    validation_fraction = checks.number(
        "validation_fraction", validation_fraction, 0, 1, high_open=True
    )
    l2 = checks.not_negative("l2", l2)
    if seed is not None:
        seed = checks.integer("seed", seed, 0)
    if optimizer is None:
        optimizer = optimizers.Adam()
    if not isinstance(optimizer, optimizers.Optimizer):
        raise TypeError(f"optimizer: expected an Optimizer such as Adam(), got {optimizer!r}")
    shuffle = _checked_shuffle(shuffle)
    gradient_norms = checks.boolean("gradient_norms", gradient_norms)
    resume = checks.boolean("resume", resume)
    if not isinstance(verbose, int | np.integer) or not 0 <= verbose <= 3:
        raise ValueError(f"verbose: expected 0, 1, 2 or 3, got {verbose!r}")
    if optimizer.groups:
        optimizer.assign(network)
    optimizer.group_rates(0.0, network.parameters.size)
    if ema is not None:
        ema = checks.fraction("ema", ema)
        if optimizer.averaged is not None:
            raise ValueError(f"ema: expected None with {type(optimizer).__name__}, which averages "
                             f"the weights itself")
    callbacks = _checked_callbacks(callbacks)
    checkpoint_every = checks.integer("checkpoint_every", checkpoint_every, 1)
    if checkpoint is None and resume:
        raise ValueError("resume: expected False without checkpoint, the folder to go on from")
    if checkpoint is not None and callable(shuffle):
        raise ValueError("shuffle: expected True or False with checkpoint, which cannot keep the "
                         "state of a function")
    data = Dataset(network, X, y, loss, sample_weight)
    validation = None
    if validation_data is not None:
        if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
            raise ValueError("validation_data: expected a tuple (X, y) or (X, y, sample_weight), "
                             f"got {type(validation_data).__name__}")
        X_val, y_val, *w_val = validation_data
        validation = Dataset(network, X_val, y_val, loss, *w_val, prefix="validation_data ")
        validation_fraction = 0.0
    if validation_fraction > 0:
        data.n_validation(validation_fraction)
    described = {} if checkpoint is None else describe_fit(
        data, validation, layers=network.layers, loss=loss, optimizer=optimizer, l2=l2,
        batch_size=batch_size, shuffle=shuffle, gradient_norms=gradient_norms,
        seed=seed, dtype=str(network.dtype), validation_fraction=validation_fraction,
        callbacks=[type(callback).__name__ for callback in callbacks],
        **({} if ema is None else {"ema": ema}),
        **({"groups": [repr(group) for group in optimizer.groups]} if optimizer.groups else {}),
    )
    used = exclusive_use("optimizer", optimizer)
    try:
        with Checkpoints(checkpoint, checkpoint_every, resume, described,
                         optimizer._first_rate) as checkpoints:
            return _fit(network, data, validation, loss, optimizer, epochs, batch_size, l2,
                        validation_fraction, callbacks, shuffle, gradient_norms, seed, verbose,
                        checkpoints, ema)
    finally:
        used.release()


def _fit(network, data, validation, loss, optimizer, epochs, batch_size, l2, validation_fraction,
         callbacks, shuffle, gradient_norms, seed, verbose, checkpoints, ema):
    """As `fit`, with everything checked."""
    metric = [] if loss.metric is None else [loss.metric.name]
    keys = ["loss", *metric]
    if validation is not None or validation_fraction > 0:
        keys += ["val_" + key for key in keys]
    keys += ["learning_rate", "seconds"] + ["gradient_norms"] * gradient_norms
    names = [
        f"{where} {type(layer).__name__}"
        for where, layer in network.leaves if layer.n_parameters
    ]
    history = History(keys, names)
    checkpoints.begin(network, optimizer, callbacks, history)
    streams = network._streams(seed)
    rng = np.random.default_rng(streams[0])
    if validation_fraction > 0:
        data, validation = data.split(data.n_validation(validation_fraction), rng)
    run = Training(network, data, optimizer, epochs, batch_size, history, l2, validation, ema)
    run.go_on()
    for callback in callbacks:
        callback.on_train_begin(run)
    network._reseed(streams)
    network.history = history
    checkpoints.restore(run, rng, callbacks)
    run.begin_epoch(max(0, len(history["loss"]) - 1))
    _run_epochs(run, len(data), shuffle, rng, callbacks, checkpoints, verbose)
    for callback in callbacks:
        callback.on_train_end(run)
    return history


def _run_epochs(run, n_rows, shuffle, rng, callbacks, checkpoints, verbose):
    """The loop."""
    history = run.history
    rows = None if shuffle else np.arange(n_rows)
    with DeferInterrupt() as interrupts:
        try:
            for epoch in range(len(history["loss"]), run.epochs):
                if run.stopping:
                    break
                run.begin_epoch(epoch)
                for callback in callbacks:
                    callback.on_epoch_begin(run)
                if callbacks:  # one may have put a handler of its own in its place
                    interrupts.install()
                start = time.perf_counter()
                order = None  # the last epoch's need not stay
                order = _order(shuffle, n_rows, rng) if shuffle else rows
                with Progress(run, verbose) as progress:
                    row = run.run_epoch(order, interrupts, progress)
                history.append(seconds=time.perf_counter() - start, **row)
                if verbose in (1, 2):
                    print(_line(run), flush=True)
                for callback in callbacks:
                    callback.on_epoch_end(run)
                checkpoints.after_epoch(run, rng, callbacks)
        finally:
            interrupts.call(run.count_steps)
            interrupts.call(run.use_average)


def _checked_shuffle(shuffle):
    if callable(shuffle):
        return shuffle
    if isinstance(shuffle, bool | np.bool_):
        return bool(shuffle)
    raise TypeError(f"shuffle: expected True, False or a function that returns an order of the "
                    f"rows, got a {type(shuffle).__name__}; for the same order in each epoch "
                    f"pass shuffle=lambda n: order, for orders that follow from a seed pass seed")


def _order(shuffle, n, rng):
    """An epoch's order of n rows: one at random, or what the caller's function says."""
    if not callable(shuffle):
        return rng.permutation(n)
    order = shuffle(n)
    try:
        order = np.asarray(order)
    except ValueError as error:  # rows of different lengths
        raise ValueError(f"shuffle: expected {n} whole numbers from the callable, but "
                         f"{error}") from None
    if order.shape != (n,) or order.dtype.kind not in "iu":
        raise ValueError(f"shuffle: expected {n} whole numbers from the callable, one for each "
                         f"row, got {order.dtype} of shape {order.shape}")
    if order.min() < 0 or order.max() >= n:
        raise ValueError(f"shuffle: expected numbers from 0 to {n - 1} from the callable, got "
                         f"some from {order.min()} to {order.max()}")
    return np.ascontiguousarray(order, np.int64)


def lbfgs(network, X, y, *, loss, sample_weight=None, l2=0.0, max_iter=200, max_evaluations=15000,
          tol=1e-4, callback=None):
    """Minimise the loss of all rows together with SciPy's L-BFGS-B.

    Parameters
    ----------
    network : Sequential
        Its parameters are where it starts, and where it leaves the result.
    X, y, loss, sample_weight, l2
        As in `Sequential.fit`.
    max_iter, max_evaluations : int
        Iterations, and evaluations of the loss, after which it stops.
    tol : float, default 1e-4
        It stops where no component of the gradient is larger.
    callback : callable, optional
        Called after each iteration with SciPy's result so far, which has `x` and `fun`.

    Returns
    -------
    scipy.optimize.OptimizeResult
        `status` is 0 where it converged; `message` says why it stopped, `fun` is the loss with
        its penalty, `nit` the number of iterations.

    Raises
    ------
    ImportError
        If SciPy is not installed.
    TypeError, ValueError
        As `Sequential.fit`, or if the network drops out or has a BatchNorm.
    FloatingPointError
        If it ends with weights that are not finite.

    References
    ----------
    C. Zhu, R. H. Byrd, P. Lu, J. Nocedal, "Algorithm 778: L-BFGS-B", ACM Transactions on
    Mathematical Software 23, 1997.
    """
    from scipy.optimize import minimize

    l2 = checks.not_negative("l2", l2)
    max_iter = checks.integer("max_iter", max_iter, 1)
    max_evaluations = checks.integer("max_evaluations", max_evaluations, 1)
    tol = checks.not_negative("tol", tol)
    if any(isinstance(layer, layers.Dropout) and layer.rate > 0 for _, layer in network.leaves):
        raise ValueError("network: expected one without dropout, whose loss would be another in "
                         "each evaluation; use fit")
    if network.buffers.size:
        raise ValueError("network: expected one without BatchNorm, whose running statistics no "
                         "evaluation of the loss moves; use fit, or LayerNorm")
    data = Dataset(network, X, y, loss, sample_weight)
    run = Training(network, data, None, 1, len(data), History(), l2)
    # Weights before biases, as in scikit-learn, so that SciPy's sums round alike.
    order = np.argsort([
        len(shape) != 2
        for _, layer in network.leaves
        for shape in layer.parameter_shapes.values()
        for _ in range(math.prod(shape))
    ], kind="stable")

    def objective(x):
        network.parameters[order] = x
        value = run.loss_and_gradients().sum()
        return value, network.gradients[order].astype(np.float64)

    def call_back(intermediate_result):  # SciPy goes by the name
        callback(intermediate_result)

    options = {"maxiter": max_iter, "maxfun": max_evaluations, "gtol": tol}
    start = network.parameters.copy()
    used = exclusive_use("network", network)
    try:
        result = minimize(objective, network.parameters[order].astype(np.float64),
                          method="L-BFGS-B", jac=True, options=options,
                          callback=None if callback is None else call_back)
        network.parameters[order] = result.x
        if not np.isfinite(network.parameters).all():  # in the network's dtype
            raise FloatingPointError(
                "lbfgs diverged: its last step makes weights that are not finite. The network has "
                "the weights that it started with. Try inputs and targets scaled to a standard "
                "deviation of about 1, or fit"
            )
        return result
    finally:
        if not np.isfinite(network.parameters).all():
            network.parameters[...] = start
        used.release()


def _checked_callbacks(callbacks):
    if isinstance(callbacks, Callback) or not isinstance(callbacks, Iterable):
        raise TypeError(f"callbacks: expected a list of callbacks, got {callbacks!r}")
    return [_checked_callback(callback) for callback in callbacks]


def _checked_callback(callback):
    if isinstance(callback, Callback):
        return callback
    if isinstance(callback, type):
        raise TypeError(f"callbacks: expected a callback, got the class {callback.__name__}; "
                        f"make one: {callback.__name__}()")
    if callable(callback):
        return EachEpoch(callback)
    raise TypeError(f"callbacks: expected Callback objects or functions, got {callback!r}")


def _line(run):
    """The last epoch in one line."""
    history = run.history
    width = len(str(run.epochs))
    parts = [f"epoch {run.epoch + 1:{width}d}/{run.epochs}"]
    for key, values in history.items():
        if key not in ("learning_rate", "seconds", "gradient_norms"):
            parts.append(f"{key} {values[-1]:.4f}")
    seconds = history["seconds"][-1]
    parts.append(f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms")
    return "  ".join(parts)


class Progress:
    """A bar over the steps of an epoch, for the with statement, where verbose is 1 or 3."""

    def __init__(self, run, verbose):
        self.bar = None
        if verbose in (1, 3):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            # disable=None: no bar where the output is not a terminal.
            self.bar = tqdm(total=run.steps_per_epoch, desc=f"epoch {run.epoch + 1}/{run.epochs}",
                            unit="step", leave=False, disable=None, mininterval=0.05)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        if self.bar is not None:
            self.bar.close()

    def update(self, steps, sums):
        """Some more steps, and the epoch's sums so far."""
        if self.bar is not None and not self.bar.disable:
            self.bar.set_postfix_str(f"loss {sums.loss:.4f}", refresh=False)
            self.bar.update(steps)
