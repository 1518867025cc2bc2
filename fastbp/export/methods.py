"""Methods that write a model in another form, of networks, ensembles and estimators alike."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

__all__ = ["Exportable"]

# The exporters know of all kinds of models, so they are imported when they are used.


class Exportable:
    """Base class of what can be exported."""

    def to_c(self, path: str | os.PathLike[str], *, name: str = "net",
             activation: str | None = None, n_in: int | None = None, weights: str = "decimal",
             fortran: bool = False) -> list[str]:
        """Write C99 code that predicts, with the same bits.

        It has all weights, and needs libm alone; it allocates nothing and keeps nothing between
        calls.  The comment at its beginning says how to compile it.  What estimators do to rows
        before, and to outputs after, is part of it: a row has a number for each column, NaN where
        it is missing, and for categories the number that ``net_category`` finds for their text.

        Parameters
        ----------
        path : str or path-like
            Ends with ``.h`` for a header that has it all, or with ``.c`` for that and a header
            beside it with the declarations alone.
        name : str, default "net"
            The functions are ``net_predict(x, y)`` for a row and ``net_predict_rows(rows, x, y)``.
        activation : {"softmax", "sigmoid", "exp"}, optional
            Applied to a network's outputs; other models have their own.
        n_in : int, optional
            Columns of the input, for a network in which no layer fixes it.
        weights : {"decimal", "hex", "bits"}, default "decimal"
            How numbers are written.  All three are exact; "bits" compiles fastest.
        fortran : bool, default False
            Whether to write a Fortran module with the interfaces too, beside a ``.c`` file.

        Returns
        -------
        list of str
            The paths of the files, each of which is replaced only by a complete one.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or the model cannot be exported: the message names
            the layer or column and says what to do.
        OSError
            If a file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp as fb
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     paths = fb.mlp([2, 8, 1], seed=0).to_c(os.path.join(folder, "net.h"))
        ...     os.listdir(folder)
        ['net.h']
        """
        from ..kernels import checks
        from . import c_export, models

        if not isinstance(name, str):
            raise TypeError(f"name: expected a name for the functions, such as 'net', got {name!r}")
        fortran = checks.boolean("fortran", fortran)
        model = models.model_of(self, activation=activation, n_in=n_in)
        return c_export.write_c(path, {name: model}, weights=weights, fortran=fortran)

    def to_onnx(self, path: str | os.PathLike[str], *, activation: str | None = None,
                n_in: int | None = None) -> None:
        """Write an ONNX file.

        A network's input is ``X`` and its output ``Z``, any number of rows.  The outputs of
        `MLPClassifier` are ``label`` and ``probabilities``, that of `MLPRegressor` is
        ``variable``, as skl2onnx has them.  Layers without an operator of ONNX are functions that
        the file defines.

        Parameters
        ----------
        path : str or path-like
        activation : {"softmax", "sigmoid", "exp"}, optional
            Applied to a network's outputs; other models have their own.
        n_in : int, optional
            Columns of the input, for a network in which no layer fixes it.

        Raises
        ------
        ImportError
            If the package onnx is not installed.
        TypeError, ValueError
            If an argument is not as described, or the model cannot be exported: the message names
            the layer and says what to do.
        OSError
            If the file cannot be written.

        See Also
        --------
        fastbp.from_onnx : Reads such files, and those of other programs.

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.mlp([2, 8, 1], seed=0).to_onnx("net.onnx")  # doctest: +SKIP
        """
        from . import models, onnx_writing

        onnx_writing.write_onnx(
            path, models.model_of(self, activation=activation, n_in=n_in))


class Module(Exportable):
    """Base class of networks, which are modules in PyTorch's terms."""

    def to_c_int8(self, path: str | os.PathLike[str], rows: Any, *, name: str = "net",
                  n_in: int | None = None) -> dict[str, float]:
        """Write C99 code of 8-bit integers, for microcontrollers.

        Weights and intermediate results have 8 bits, sums 32, and all arithmetic is of integers:
        the results are the same on every machine.  They are not those of `predict`, but close.
        The network's `precision` has no influence: its weights are rounded to 8 bits, and its
        outputs in full precision are what the results are compared with.

        Parameters
        ----------
        path : str or path-like
            Ends with ``.h``.
        rows : array_like of shape (rows, n_in)
            Some hundred rows as they will be predicted, by which scales are chosen.
        name : str, default "net"
            The function is ``net_predict(x, y)``.
        n_in : int, optional
            Columns of the input, where no layer fixes it.

        Returns
        -------
        dict of str to float
            How close it comes on these rows: ``"largest_error"``, ``"rms_error"``, ``"rms"`` of the
            outputs, and for several outputs ``"same_largest"``, the share of rows of which the same
            output is largest.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described, or a layer has no form in integers: there are dense
            layers, all activations, batch normalization, `Scale`, `Residual` and `Columns`.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import numpy as np, fastbp as fb
        >>> net, X = fb.mlp([4, 16, 3], seed=0), np.random.default_rng(0).normal(size=(300, 4))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     report = net.to_c_int8(os.path.join(folder, "net.h"), X)
        >>> report["rms_error"] < 0.02 * report["rms"]
        True
        """
        from . import c_int8, int8, models

        network, = models.model_of(self, n_in=n_in).networks
        made = int8.quantized(network, rows)
        c_int8.write_c_int8(path, made, len(rows), name)
        return made.report

    def to_torch(self) -> Any:
        """A `torch.nn.Sequential` with the same layers and copies of the weights.

        Layers that PyTorch has too are its own modules.  Others are modules that do what the layer
        is lowered to; they have its parameters and can be trained as well.

        Returns
        -------
        torch.nn.Sequential
            For prediction; call its `train` to go on training.

        Raises
        ------
        ImportError
            If PyTorch is not installed.
        ValueError
            If a layer runs in Python; the message names it.

        See Also
        --------
        fastbp.from_torch : The way back.

        Examples
        --------
        >>> import fastbp as fb
        >>> fb.mlp([2, 8, 1], seed=0).to_torch()  # doctest: +SKIP
        """
        from . import torch_modules

        network: Any = self
        return torch_modules.to_torch(network)

    def save_torch(self, path: str | os.PathLike[str],
                   weights: Mapping[str, str] | None = None) -> None:
        """Write the weights to a safetensors file under the names of `to_torch`'s `state_dict`.

        PyTorch is not needed.

        Parameters
        ----------
        path : str or path-like
        weights : dict of str to str, optional
            Other names for some arrays, by fastbp's: ``{"0.W": "encoder.weight"}``.

        Raises
        ------
        TypeError, ValueError
            If an argument is not as described.
        OSError
            If the file cannot be written.

        Examples
        --------
        >>> import os, tempfile
        >>> import fastbp as fb
        >>> net, other = fb.mlp([2, 8, 1], seed=0), fb.mlp([2, 8, 1], seed=1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     net.save_torch(os.path.join(folder, "net.safetensors"))
        ...     other.load_torch(os.path.join(folder, "net.safetensors"))
        >>> bool((net.parameters == other.parameters).all())
        True
        """
        from . import torch_names

        network: Any = self
        torch_names.save_weights(path, network, weights)

    def load_torch(self, path: str | os.PathLike[str],
                   weights: Mapping[str, str] | None = None) -> None:
        """Set the weights to those in a safetensors file of PyTorch's.

        PyTorch is not needed.  Unless all names and shapes fit, nothing is changed.

        Parameters
        ----------
        path : str or path-like
        weights : dict of str to str, optional
            The names of some arrays in the file, by fastbp's: ``{"0.W": "encoder.weight"}``; the
            file may then hold more than the network.

        Raises
        ------
        FileNotFoundError
            If there is no file at the path.
        TypeError, ValueError
            If it is not such a file, or its names or shapes are others; the message names them.
        """
        from . import torch_names

        network: Any = self
        torch_names.load_weights(path, network, weights)
