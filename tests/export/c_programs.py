"""C compilers, and calls of what they compile."""

import ctypes
import shutil
import subprocess

import numpy as np
import pytest

STRICT = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]


def compiler(name):
    """A compiler, or a skipped test."""
    if shutil.which(name) is None:
        pytest.skip(f"no {name} here")
    return name


def compiled(source, *command, flags=STRICT):
    """A C file as a library of functions."""
    library = source.with_suffix(".so")
    subprocess.run([*command, *flags, "-shared", "-fPIC", "-o", library, source, "-lm"], check=True)
    return ctypes.CDLL(str(library))


def call(function, X, shape, dtype):
    """What a function of rows writes for an array."""
    Y = np.full(shape, 7, dtype)
    X = np.ascontiguousarray(X)
    function(ctypes.c_size_t(len(X)), X.ctypes.data_as(ctypes.c_void_p),
             Y.ctypes.data_as(ctypes.c_void_p))
    return Y


def same_bits(Z, Y):
    """Whether two arrays have the same bits, or NaN in the same places."""
    missing = np.isnan(Z)
    return bool((missing == np.isnan(Y)).all()) and (
        np.where(missing, 0, Z).tobytes() == np.where(missing, 0, Y).tobytes())
