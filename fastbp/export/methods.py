"""Methods that write a model in another form, of networks, ensembles and estimators alike."""

from __future__ import annotations

import os

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
        from . import c_export, models

        model = models.model_of(self, activation=activation, n_in=n_in)
        return c_export.write_c(path, {name: model}, weights=weights, fortran=fortran)
