"""Sequential: layers in a row, over one flat array of parameters and one of gradients."""

import copy
import math
from collections.abc import Sequence

import numpy as np

from . import io, layers, losses, optimizers, program, training
from .kernels import checks, memory, threads
from .layers import chain, checked_layers

__all__ = ["Sequential", "load", "mlp"]

# Rows that go through the network at once in predict and evaluate, and numbers of X at most.
# The outputs do not depend on it; 1024 rows keep the workspace small and the products long.
CHUNK_ROWS = 1024
CHUNK_SIZE = 1 << 24


class Sequential(layers.LayerSequence):
    """A network: each layer takes what the one before it returns.

    Parameters
    ----------
    layers : sequence of Layer
        Their sizes must chain.  A layer belongs to one network; one that holds weights
        already (a copy of another network's) brings them along.
    dtype : {"float32", "float64"}, default "float32"
        Of the parameters and of everything computed with them.
    seed : int, optional
        Determines the initial weights and, unless `fit` is given its own seed, the
        shuffling and dropout of each fit.  Without it every network is another.

    Attributes
    ----------
    layers : tuple of Layer
        Another sequence may be assigned: see `layers`.
    dtype : numpy.dtype
        Read-only, like `n_in` and `n_out`.
    programs : fastbp.program.Programs
        What the layers were lowered to.
    parameters, gradients : ndarray of shape (n_parameters,)
        All layers' parameters one after the other, and their gradients likewise.  The
        layers' own arrays are views into these: write to them in place.
    n_in, n_out : int or None
        Columns of the input and of the output; None where no layer fixes them.
    history : History or None
        Of the last `fit`, even one that was interrupted.

    Raises
    ------
    TypeError
        If an element of `layers` is no Layer.
    ValueError
        If there are no layers, their sizes do not chain, or a layer is used twice.
    MemoryError
        Before anything is allocated, if parameters and gradients are more than this machine's
        memory.

    Examples
    --------
    >>> net = Sequential([layers.Dense(4, 8), layers.ReLU(), layers.Dense(8, 3)], seed=0)
    >>> net.predict(np.zeros((2, 4))).shape
    (2, 3)
    """

    _layers = _leaves = ()
    _assigned = 0  # how often other layers took the place of the first ones
    _interpreter = None  # of the last forward, with what backward needs

    def __init__(self, layers, dtype="float32", seed=None):
        sequence = checked_layers(layers)
        self._dtype = _checked_dtype(dtype)
        if seed is not None:
            seed = checks.integer("seed", seed, 0)
        self.history = None
        # The first number of a spawn key says what a stream is for: 0 weights, 1 training,
        # 2 weights of layers that were assigned later.
        self._entropy = np.random.SeedSequence(seed).entropy
        self._reseeded = 0
        self._place(sequence, (0,))

    @property
    def layers(self):
        """The layers, a tuple.

        Assign another sequence to replace some, a network's head for instance::

            net.layers = [*net.layers[:-1], fb.Dense(128, 5)]

        Layers that stay keep their weights, and new ones draw theirs; those that go may be put
        into another network.  `parameters` and `gradients` are new arrays then, so an optimizer
        that was used before starts afresh.
        """
        return self._layers

    @layers.setter
    def layers(self, layers):
        used = training.exclusive_use("network", self)
        try:
            self._place(checked_layers(layers, self._own()), (2, self._assigned))
            self._assigned += 1
        finally:
            used.release()

    @property
    def dtype(self):
        """The dtype of the parameters."""
        return self._dtype

    @dtype.setter
    def dtype(self, value):
        self._check_fixed("dtype", value)

    @property
    def n_in(self):
        """Columns of the input; None where no layer fixes them."""
        return self._n_in

    @n_in.setter
    def n_in(self, value):
        self._check_fixed("n_in", value)

    @property
    def n_out(self):
        """Columns of the output; None where no layer fixes them."""
        return self._n_out

    @n_out.setter
    def n_out(self, value):
        self._check_fixed("n_out", value)

    def _check_fixed(self, name, value):
        """Raise unless it is set to what it is, as some subclass may do."""
        if value != getattr(self, name):
            raise AttributeError(f"{type(self).__name__}.{name} is read-only: it follows from the "
                                 f"layers and the dtype; assign other layers, or use astype")

    def _own(self):
        """All layers, with those that others consist of."""
        own = list(self._layers)
        for layer in own:  # which grows
            own += [child for _, child in layer.children]
        return own

    def _place(self, sequence, stream):
        """Put these layers into the network, whole or not at all.

        Weights that are not there yet are drawn, for each place from a stream of its own.
        """
        n_in, n_out = chain(sequence)
        leaves = tuple(layers.leaves(sequence))
        fresh = [layer for _, layer in leaves if not (layer.bound or layer.initialized)]
        for _, layer in leaves:
            if isinstance(layer, layers.Embedding):
                layer.check_dtype(self.dtype)
        self._check_size(leaves, fresh)
        new = {id(layer) for layer in fresh}
        try:
            for i, (where, layer) in enumerate(leaves):
                if id(layer) in new:
                    layer.allocate(self.dtype)
                    layer.initialize(np.random.default_rng(self._stream(*stream, i)))
                try:
                    layer.check_values()
                except (TypeError, ValueError) as error:
                    raise type(error)(f"layers: layer {where} ({layer!r}): {error}") from None
            arrays = self._new_arrays(leaves)
        except BaseException:
            for layer in fresh:
                layer.clear()
            raise
        stays = {id(layer) for _, layer in leaves}
        for _, layer in self._leaves:
            if id(layer) not in stays:
                layer.unbind()
        self._n_in, self._n_out = n_in, n_out
        self._bind(sequence, leaves, *arrays)

    def _check_size(self, leaves, fresh):
        """Raise MemoryError where the parameters and gradients are more than there is memory."""
        n = sum(layer.n_parameters for _, layer in leaves)
        n_fresh = sum(layer.n_parameters for layer in fresh)  # drawn in float64
        memory.check(f"layers: {n:,} {self.dtype} parameters, and as many gradients",
                     2 * n * self.dtype.itemsize + 8 * n_fresh)

    def _stream(self, *spawn_key):
        return np.random.SeedSequence(self._entropy, spawn_key=spawn_key)

    def _new_arrays(self, leaves):
        """Flat arrays for the parameters of these layers, with their values, for the gradients and
        for the buffers; and the layers' views into them."""
        n = sum(layer.n_parameters for _, layer in leaves)
        n_buffers = sum(layer.n_buffers for _, layer in leaves)
        parameters, gradients, buffers = (memory.aligned(size, self.dtype)
                                          for size in (n, n, n_buffers))
        views, start, first = [], 0, 0
        with np.errstate(over="ignore"):  # of float64 weights that are beyond float32
            for _, layer in leaves:
                stop, last = start + layer.n_parameters, first + layer.n_buffers
                views.append(layer.views_into(parameters[start:stop], gradients[start:stop],
                                              buffers[first:last]))
                start, first = stop, last
        return parameters, gradients, buffers, views

    def _bind(self, sequence, leaves, parameters, gradients, buffers, views):
        """Make these the layers and the flat arrays."""
        places = {}
        for kind in ("parameter_shapes", "buffer_shapes"):
            start = 0
            for _, layer in leaves:
                for name, shape in getattr(layer, kind).items():
                    places[id(layer), name] = start
                    start += math.prod(shape)
        programs = program.Programs(sequence, self._n_in, parameters, gradients, buffers, places)
        for (_, layer), its_views in zip(leaves, views, strict=True):
            layer.bind(its_views, programs)
        self._parameters, self._gradients, self._buffers = parameters, gradients, buffers
        self._layers, self._leaves, self.programs = sequence, leaves, programs
        self._interpreter = None

    @property
    def parameters(self):
        """All parameters, flat."""
        return self._parameters.view()  # whose shape or dtype may be set without harm

    @property
    def gradients(self):
        """All gradients, flat, in the order of the parameters."""
        return self._gradients.view()

    @property
    def buffers(self):
        """All buffers, flat: what is kept and saved but not trained, such as running means."""
        return self._buffers.view()

    @property
    def leaves(self):
        """The layers that consist of no others, in order: tuples of a place, such as ``"2.0"``,
        and the layer."""
        return self._leaves

    def get_state(self):
        """The parameters and, after them, the buffers: a copy that `set_state` takes."""
        return np.concatenate([self._parameters, self._buffers])

    def set_state(self, state):
        """Set the parameters and the buffers.

        Parameters
        ----------
        state : ndarray of shape (n_parameters + n_buffers,)
            As `get_state` returned it.
        """
        n = self._parameters.size
        checks.exactly("state", state, (n + self._buffers.size,), self.dtype)
        self._parameters[...], self._buffers[...] = state[:n], state[n:]

    def forward(self, X, training=True):
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
            If X is not made of real numbers, its shape does not fit, or what a layer's
            `forward` returns is no array of the shape and dtype that it should be of.
        """
        X = checks.dense(self._rows("X", X), self.dtype)
        training = bool(training)
        program.check_codes("X", X, self.codes(X.shape[1]))
        interpreter = self.programs.interpreter(X.shape[1], training)
        Z = interpreter.forward(X)
        if training:
            self._interpreter = interpreter
        return Z if Z.flags.writeable else Z.copy()  # where a layer returned what it was given

    def backward(self, dZ, *, input_gradient=True):
        """Gradients of all parameters, from the loss's gradient by the last output.

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
            If there was no `forward` to go back from.
        TypeError, ValueError
            If dZ is not made of real numbers, its shape does not fit, or what a layer's
            `backward` returns is no array of the shape and dtype of its input.
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

    def predict(self, X, *, activation=None, out=None, n_threads=None):
        """Outputs of the last layer, a chunk of rows at a time.

        A row's output does not depend on the rows around it, bit for bit.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
            Read-only arrays, `numpy.memmap` and SciPy's sparse arrays will do.  Other dtypes
            are converted a chunk at a time.
        activation : {"softmax", "sigmoid", "exp"}, optional
            What to make of the last layer's outputs: probabilities of classes, or of each
            output on its own, or rates.
        out : ndarray of shape (rows, n_out), optional
            Where to write the outputs; C-contiguous, of the network's dtype.
        n_threads : int, optional
            Threads to use at most, in place of what `set_num_threads` said; small batches
            get fewer.  The outputs do not depend on it.

        Returns
        -------
        Z : ndarray of shape (rows, n_out)
            Without `activation`, scores (logits) where the network was trained with a
            cross-entropy.

        Raises
        ------
        TypeError, ValueError
            If X is not made of real numbers, its shape or that of `out` does not fit, `out`
            overlaps X or the network's parameters, or `activation` is none of the three.
        """
        if n_threads is None:
            return self._predict(X, out, activation)
        with threads.using(n_threads):
            return self._predict(X, out, activation)

    def _predict(self, X, out=None, activation=None):
        """What `predict` and validation have in common, whoever overrides `predict`."""
        programs = self.programs  # those of the whole call, whatever it comes upon
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
        X = self._rows("X", X)
        Z = checks.output(out, (X.shape[0], self.n_out or X.shape[1]), self.dtype,
                          parameters=self._parameters, gradients=self._gradients,
                          buffers=self._buffers, **checks.memory("X", X))
        executor = programs.executor(X.shape[1], activation)
        for start, chunk in self._chunks(X):
            try:
                executor(chunk, Z[start : start + len(chunk)])
            except checks.CodeError:
                program.check_codes("X", chunk, programs.codes(X.shape[1]), start)
                raise
        return Z

    def codes(self, n_in):
        """The columns of the input that are codes: see `fastbp.program.code_columns`."""
        programs = self.programs
        if not any(isinstance(layer, layers.Embedding) for _, layer in self._leaves):
            return []
        return programs.codes(n_in)

    def evaluate(self, X, y, *, loss, sample_weight=None, n_threads=None):
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
            return self._evaluate(training.Dataset(self, X, y, loss, sample_weight))

    def _evaluate(self, data):
        data.check_unchanged()
        total = weight = 0.0
        metric = data.new_metric()
        n_rows = _chunk_rows(data.X)
        for start in range(0, len(data), n_rows):
            X, y, w = data.batch(slice(start, start + n_rows))
            Z = self._predict(X)
            if metric is not None:
                metric.update(Z, y, w)
            value, _ = losses.compute_loss(data.loss, Z, y, w)
            chunk_weight = training.batch_weight(w, len(X))
            total += value * chunk_weight
            weight += chunk_weight
        scores = {"loss": total / weight if weight > 0 else float("nan")}
        if metric is not None:
            scores[metric.name] = metric.result()
        return scores

    def fit(self, X, y, *, loss, optimizer=None, epochs=10, batch_size=32, sample_weight=None,
            l2=0.0, validation_data=None, validation_fraction=0.0, callbacks=(), shuffle=True,
            gradient_norms=False, seed=None, n_threads=None, verbose=0, checkpoint=None,
            checkpoint_every=1, resume=False, ema=None):
        """Train on minibatches.

        Parameters
        ----------
        X : array_like of shape (rows, n_in)
            Not copied; minibatches are gathered from it, and converted if they are of
            another dtype than the network.  Rows of half precision, or in another
            machine's byte order, are gathered in Python, which is slower.  SciPy's sparse
            arrays will do, and are made dense a minibatch at a time.
        y : array_like
            Targets, as `loss` takes them: labels of shape (rows,) for
            `SoftmaxCrossEntropy`, numbers of shape (rows, n_out) for the others, or
            (rows,) where n_out is 1.
        loss : Loss
        optimizer : Optimizer, default Adam()
            One that was used on this network before goes on with its state.
        epochs : int, default 10
        batch_size : int, default 32
            The last batch of an epoch may be shorter.
        sample_weight : array_like of shape (rows,), optional
            How much each row counts in the loss and the metric.
        l2 : float, default 0.0
            Strength of a penalty on the weights (the parameters of two dimensions, so not the
            biases): a minibatch's objective is ``(Σ wᵢ·lᵢ + l2/2 · Σ W²) / Σ wᵢ``, with wᵢ = 1
            where there is no `sample_weight`.  It is part of ``history["loss"]``.
        validation_data : tuple (X, y) or (X, y, sample_weight), optional
            What to evaluate after each epoch.
        validation_fraction : float in [0, 1), default 0.0
            Without `validation_data`: the share of rows, drawn at random, that is set
            aside for it.
        callbacks : sequence of Callback or callable
            See `fastbp.callbacks`; a plain callable is called at the end of each epoch.
        shuffle : bool or callable, default True
            Whether each epoch goes through the rows in a new order; or a function that is
            given the number of rows and returns the next epoch's order, as many places from
            0 on, in which rows may be left out and others come twice.
        gradient_norms : bool, default False
            Whether to record the norm of each layer's gradients, the mean over an
            epoch's steps, as ``history["gradient_norms"]``.
        seed : int, optional
            Determines shuffling, dropout and what is set aside.  Without it they follow
            from the network's own seed and how many fits there were.
        n_threads : int, optional
            Threads to use at most, in place of what `set_num_threads` said; steps that are
            too small for so many get fewer.  Results do not depend on it.
        verbose : int, default 0
            0 prints nothing; 1 a line per epoch, and while it runs a progress bar (with
            ``pip install "fastbp[progress]"``); 2 the lines alone; 3 the bar alone.
        checkpoint : str or path-like, optional
            A folder for checkpoints: everything the training consists of, after each
            `checkpoint_every` epochs.  The last two stay there.  One that cannot be written,
            on a full disk say, is warned of, and the training goes on.
        checkpoint_every : int, default 1
        resume : bool, default False
            Whether to go on from the newest checkpoint in the folder that is whole, if there
            is one.  With the same data and arguments, but for `epochs`, the training ends with
            the same bits as one that was never interrupted.  Another learning rate than the
            one it began with takes its place from there on.  Layers of your own are kept by
            their parameters alone, callbacks by the attributes they name in `kept`.  A loss that
            a callback set or changed is not kept: set it again in `on_train_begin`.  All
            numbers of X, y, sample weights and validation data are compared with those of the
            training that made the checkpoint, by checksums, and so are the arguments; functions
            and what callbacks were made with are not.

        ema : float in [0, 1), optional
            Keep an exponential moving average of the parameters: each step makes it
            ``ema·average + (1 - ema)·parameters``, 0.999 say.  It is what validation and callbacks
            at the end of an epoch see, and what the network has in the end.

        Returns
        -------
        History
            A dict of lists with a value per epoch: ``"loss"`` and the metric over the
            epoch's minibatches, ``"val_loss"`` and the metric's on validation data,
            ``"learning_rate"``, ``"seconds"``.

        Raises
        ------
        TypeError, ValueError
            Before anything is changed, if an argument is not as above; the message
            names it and says what was expected.
        FloatingPointError
            If the training diverges.  The network keeps its last finite weights.
        FileExistsError, NotADirectoryError
            If there are checkpoints in the folder and `resume` is false, or it is a file or a
            link to nothing.
        RuntimeError
            If the network or the optimizer is being used by a training already, in another
            thread say, or the folder of checkpoints is.
        KeyboardInterrupt
            On Ctrl-C, between two steps.  The network keeps the steps made.
        """
        used = training.exclusive_use("network", self)
        try:
            with threads.using(n_threads):
                return training.fit(
                    self, X, y, loss=loss, optimizer=optimizer, epochs=epochs,
                    batch_size=batch_size, sample_weight=sample_weight, l2=l2,
                    validation_data=validation_data, validation_fraction=validation_fraction,
                    callbacks=callbacks, shuffle=shuffle, gradient_norms=gradient_norms,
                    seed=seed, verbose=verbose, checkpoint=checkpoint,
                    checkpoint_every=checkpoint_every, resume=resume, ema=ema,
                )
        finally:
            used.release()

    def _rows(self, name, X):
        """X as a 2-D array of real numbers that fits the first layer; not copied.

        A sparse one comes in rows of compressed columns.
        """
        check = checks.sparse_rows if checks.is_sparse(X) else checks.real_numbers
        X = check(name, X)
        if X.ndim != 2:
            hint = f"; for one row use {name}[None, :]" if X.ndim == 1 else ""
            raise ValueError(f"{name}: expected 2 dimensions (rows, columns), got {X.ndim} "
                             f"(shape {X.shape}){hint}")
        if self.n_in is not None and X.shape[1] != self.n_in:
            raise ValueError(f"{name}: expected {self.n_in} columns, as many as the network's "
                             f"first layer takes, got {X.shape[1]} (shape {X.shape})")
        return X

    def _chunks(self, X):
        """X in the network's dtype, a few rows at a time."""
        n_rows = _chunk_rows(X)
        for start in range(0, X.shape[0], n_rows):
            yield start, checks.dense(X[start : start + n_rows], self.dtype)

    def save(self, path):
        """Write the network to a safetensors file, which `load` reads.

        The file is replaced only once the new one is whole; it keeps its mode.  A link is
        followed.

        Parameters
        ----------
        path : str or path-like

        Raises
        ------
        TypeError
            If `path` is none, or a layer's `config` cannot be written as JSON.
        ValueError
            If there is a pipe or a device at the path, or no file can have such a name.
        OSError
            If the file cannot be written.
        """
        io.write(path, self.layers, self.dtype)

    def astype(self, dtype):
        """A copy of the network in another dtype.

        Parameters
        ----------
        dtype : {"float32", "float64"}

        Returns
        -------
        Sequential
        """
        other = Sequential([copy.deepcopy(layer) for layer in self.layers], dtype)
        for name in ("_entropy", "_reseeded", "_assigned"):
            setattr(other, name, getattr(self, name))
        return other

    def reseed(self, seed=None):
        """Start the layers' random numbers afresh, as each `fit` does.

        Parameters
        ----------
        seed : int, optional
            Without it they follow from the network's own seed and how often this was done.

        Returns
        -------
        numpy.random.Generator
            For shuffling.
        """
        streams = self._streams(seed)
        self._reseed(streams)
        return np.random.default_rng(streams[0])

    def _streams(self, seed):
        """The next streams, not used up yet: one for shuffling, and one for each layer."""
        root = self._stream(1, self._reseeded) if seed is None else np.random.SeedSequence(seed)
        return root.spawn(1 + len(self.leaves))

    def _reseed(self, streams):
        for (_, layer), stream in zip(self.leaves, streams[1:], strict=True):
            layer.key = int(stream.generate_state(1, np.uint64)[0])
            layer.step = 0
        self._reseeded += 1

    def summary(self):
        """A table of the layers, their shapes and sizes.

        Returns
        -------
        str
        """
        rows, width = [("", "layer", "output", "parameters")], self.n_in
        for i, layer in enumerate(self.layers):
            width = layer.n_out or width
            shape = f"(batch, {'any' if width is None else width})"
            rows.append((str(i), repr(layer), shape, f"{layer.n_parameters:,}"))
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        lines = [
            f"{a:>{widths[0]}}  {b:<{widths[1]}}  {c:<{widths[2]}}  {d:>{widths[3]}}"
            for a, b, c, d in rows
        ]
        size = self.parameters.nbytes
        unit = "bytes" if size < 1024 else "KiB" if size < 1024**2 else "MiB"
        size /= {"bytes": 1, "KiB": 1024, "MiB": 1024**2}[unit]
        lines.insert(1, "─" * len(lines[0]))
        lines.append(f"{self.parameters.size:,} parameters, {self.dtype}, {size:.4g} {unit}")
        return "\n".join(lines)

    def program(self, *, batch_size=None, loss=None, optimizer=None):
        """What is carried out, instruction by instruction, as text.

        Parameters
        ----------
        batch_size : int, optional
            For how many rows the size of the workspace is given.
        loss : Loss, optional
            Without it, the program is that of `predict`; with it, that of a step of training.
        optimizer : Optimizer, optional

        Returns
        -------
        str
            Whatever runs in Python is marked as such.

        Raises
        ------
        TypeError
            If `loss` or `optimizer` is something else.
        ValueError
            If no layer says how many columns the input has.

        Examples
        --------
        >>> print(Sequential([layers.Dense(3, 4), layers.ReLU(), layers.Dense(4, 2)]).program())
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
        planned = self.programs.planned(self.n_in, training=loss is not None)
        return program.step_text(planned, batch_size, loss, optimizer)

    def __repr__(self):
        inner = "".join(f"    {layer!r},\n" for layer in self.layers)
        return f'Sequential([\n{inner}], dtype="{self.dtype}")'

    def __copy__(self):
        return copy.deepcopy(self)

    def __getstate__(self):
        """The layers carry the parameters; the flat arrays are made anew from them."""
        state = self.__dict__.copy()
        for name in ("_parameters", "_gradients", "_buffers", "_leaves", "programs", "_interpreter",
                     "_claim"):
            state.pop(name, None)
        return state

    def __setstate__(self, state):
        self.__dict__.update(state)
        leaves = tuple(layers.leaves(self._layers))
        self._bind(self._layers, leaves, *self._new_arrays(leaves))


def mlp(sizes, activation="relu", dropout=0.0, *, dtype="float32", seed=None):
    """The usual stack: dense layers with an activation after each but the last.

    Parameters
    ----------
    sizes : sequence of int
        Columns of the input, of each hidden layer, and of the output.
    activation : str or sequence of str, default "relu"
        The name of an activation's function in `fastbp.kernels`, such as ``"tanh"``; or one for
        each hidden layer.
    dropout : float in [0, 1), default 0.0
        After each activation.
    dtype : {"float32", "float64"}, default "float32"
    seed : int, optional
        See `Sequential`.

    Returns
    -------
    Sequential
        Weights start as He's (uniform) before relu-like activations, as Glorot's before
        sigmoid, tanh and the output.

    Raises
    ------
    TypeError, ValueError
        If a size is not a whole number of at least 1, there are fewer than two, or an
        activation is unknown.

    Examples
    --------
    >>> mlp([784, 256, 10], seed=0).parameters.size
    203530
    """
    text = str | bytes | bytearray | memoryview  # sequences too, but of other things
    if isinstance(sizes, text) or not isinstance(sizes, Sequence | np.ndarray) or (
        isinstance(sizes, np.ndarray) and sizes.ndim == 0
    ):
        raise TypeError(f"sizes: expected a sequence of whole numbers, got {sizes!r}")
    sizes = [checks.integer(f"sizes[{i}]", size, 1) for i, size in enumerate(sizes)]
    if len(sizes) < 2:
        raise ValueError(f"sizes: expected at least two, those of input and output, got {sizes}")
    dropout = checks.number("dropout", dropout, 0, 1, high_open=True)
    n_hidden = len(sizes) - 2
    names = [activation] * n_hidden if isinstance(activation, str) else activation
    if isinstance(names, text) or not isinstance(names, Sequence):
        raise TypeError(f"activation: expected a name or a sequence of names, got {activation!r}")
    for name in [activation] if isinstance(activation, str) else names:
        if not (isinstance(name, str) and name in layers.ACTIVATIONS):
            raise ValueError(f"activation: expected one of {', '.join(layers.ACTIVATIONS)}, "
                             f"got {name!r}")
    if len(names) != n_hidden:
        raise ValueError(f"activation: expected a name or {n_hidden} names, one for each hidden "
                         f"layer, got {len(names)}")
    stack = []
    for n_in, n_out, name in zip(sizes, sizes[1:-1], names, strict=False):
        init = "glorot_uniform" if name in ("sigmoid", "tanh") else "he_uniform"
        stack += [layers.Dense(n_in, n_out, init), layers.ACTIVATIONS[name]()]
        if dropout:
            stack.append(layers.Dropout(dropout))
    stack.append(layers.Dense(sizes[-2], sizes[-1], "glorot_uniform"))
    return Sequential(stack, dtype=dtype, seed=seed)


def load(path, layer_types=()):
    """Read a network from a file that `Sequential.save` wrote.

    Nothing in the file is executed.

    Parameters
    ----------
    path : str or path-like
    layer_types : iterable of type, optional
        Your own layer classes that the network was made with.

    Returns
    -------
    Sequential

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    TypeError
        If `path` is none.
    ValueError
        If it is no fastbp model, or a damaged one; the message says what is wrong.
    """
    read, dtype = io.read(path, layer_types)
    try:
        return Sequential(read, dtype)
    except ValueError as error:
        raise io.damaged(path, error) from None


def _chunk_rows(X):
    return max(1, min(CHUNK_ROWS, CHUNK_SIZE // max(1, X.shape[1])))


def _checked_dtype(dtype):
    try:
        result = np.dtype(dtype)
    except (TypeError, ValueError):
        result = np.dtype(object)
    if dtype is None or result not in checks.FLOATS:  # None would be float64 to NumPy
        raise ValueError(f'dtype: expected "float32" or "float64", got {dtype!r}')
    return result
