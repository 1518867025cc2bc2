"""Data sets: built-in ones, a user's own files, and preparing them for training.

==================  ==========================================================================
`builtin`           `digits`, the data set that needs no file
`tables`            `read_table` and its result, `Table`
`frames`            `read_frame` and its result, `Frame`: with text and missing values
`columns`           what the readers share: selecting columns, kinds of cells
`csv_files`         the reader of CSV files
`parquet_files`     the reader of Parquet files
`npz_files`         the reader of NumPy's ``.npz`` files
`splits`            `hold_out`: which rows to train on and which to test on
`preprocessing`     `Standardizer`, and `fold` to make it part of a trained network
==================  ==========================================================================

Examples
--------
>>> from fastbp import datasets
>>> X, y = datasets.digits()
>>> train, test = datasets.hold_out(y, 0.2, stratify=True)
>>> standardize = datasets.Standardizer(X[train])
>>> X_train, X_test = standardize(X[train]), standardize(X[test])
"""

from .builtin import digits
from .frames import Frame, read_frame
from .preprocessing import Standardizer, fold
from .splits import hold_out
from .tables import Table, read_table

__all__ = ["Frame", "Standardizer", "Table", "digits", "fold", "hold_out", "read_frame",
           "read_table"]
