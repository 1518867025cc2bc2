"""Rows of X, dense or sparse and of any dtype, shuffled and gathered into a minibatch."""

cimport cython
cimport numpy as cnp
from cpython.pycapsule cimport PyCapsule_GetPointer
from libc.stdint cimport int8_t, int16_t, int32_t, uint8_t, uint16_t, uint32_t
from libc.string cimport memcpy, memset

import itertools

import numpy as np

from fastbp.kernels.dispatch cimport int64_t, real, uint64_t
from fastbp.kernels.guards cimport Borrowed

from . import checks

cnp.import_array()

cdef extern from "numpy/random/bitgen.h":
    ctypedef struct bitgen_t:
        void *state
        uint64_t (*next_uint64)(void *state) noexcept nogil
        uint32_t (*next_uint32)(void *state) noexcept nogil

ctypedef fused source:
    float
    double
    int8_t
    int16_t
    int32_t
    int64_t
    uint8_t
    uint16_t
    uint32_t
    uint64_t

ctypedef fused index:
    int32_t
    int64_t

KINDS = "fdbhilBHIL?"


def readable(X, dtype):
    """Whether rows of X can be gathered for a network of this dtype.

    They can be from arrays of numbers with any strides, and from sparse arrays of the network's
    dtype in CSR format.
    """
    if not checks.is_sparse(X):
        return X.dtype.char in KINDS and X.dtype.isnative and X.flags.aligned
    arrays = X.data, X.indices, X.indptr
    return (X.format == "csr" and X.data.dtype == dtype
            and X.indices.dtype in (np.int32, np.int64) and X.indptr.dtype == X.indices.dtype
            and X.indptr.shape == (X.shape[0] + 1,) and X.indices.shape == X.data.shape
            and all(array.dtype.isnative and array.flags.aligned and array.flags.c_contiguous
                    for array in arrays))


@cython.final
cdef class Rows:
    """The memory of X and its layout.

    Parameters
    ----------
    X : ndarray or sparse array of shape (rows, columns)
        One that is `readable`.
    dtype : numpy.dtype
        Of the minibatch.
    """

    def __init__(self, X, dtype):
        if self.borrowed is not None:
            raise RuntimeError("Rows: already initialized; make another")
        if dtype not in checks.FLOATS or X.ndim != 2 or not readable(X, dtype):
            raise ValueError("X: expected a dense or sparse array that is `readable`")
        cdef Source *place = &self.source
        place.n_rows, place.n_columns = X.shape
        place.sparse = checks.is_sparse(X)
        borrowed = list(itertools.starmap(Borrowed, checks.memory("X", X).items()))
        if place.sparse:
            place.starts = cnp.PyArray_DATA(X.indptr)
            place.columns = cnp.PyArray_DATA(X.indices)
            place.values, place.n_values = cnp.PyArray_DATA(X.data), X.data.size
            place.wide = X.indices.dtype == np.int64
        else:
            place.kind = ord(X.dtype.char)
            place.row, place.column = X.strides
            place.data = <const char *>cnp.PyArray_DATA(X)
        self.borrowed = borrowed

    cdef int check(self) except -1:
        """Raise unless the arrays are still where they were."""
        cdef Borrowed array
        for array in self.borrowed:
            array.check()
        return 0


def permutations(rng, Py_ssize_t count, Py_ssize_t n):
    """What several calls of ``rng.permutation(n)`` return, one in each row.

    From the last place on, each number is exchanged for the one at a random place up to its own.
    Places are drawn with as many bits as they need, and again where they are out of range.
    Hence the results do not depend on NumPy's version but for the bits that its generator draws.

    Parameters
    ----------
    rng : numpy.random.Generator
    count, n : int

    Returns
    -------
    ndarray of int64, of shape (count, n)
    """
    orders = np.empty((count, n), np.int64)
    orders[:] = np.arange(n)
    cdef int64_t[:, ::1] places = orders
    cdef bitgen_t *bits = <bitgen_t *>PyCapsule_GetPointer(rng.bit_generator.capsule,
                                                           "BitGenerator")
    cdef Py_ssize_t k, i, j
    cdef uint64_t mask
    with rng.bit_generator.lock, nogil:
        for k in range(count):
            for i in range(n - 1, 0, -1):
                mask = least_mask(i)
                j = draw(bits, mask)
                while j > i:
                    j = draw(bits, mask)
                places[k, i], places[k, j] = places[k, j], places[k, i]
    return orders


cdef inline uint64_t least_mask(uint64_t i) noexcept nogil:
    """The least number of ones alone, in binary, that is not less than i."""
    i |= i >> 1
    i |= i >> 2
    i |= i >> 4
    i |= i >> 8
    i |= i >> 16
    return i | i >> 32


cdef inline Py_ssize_t draw(bitgen_t *bits, uint64_t mask) noexcept nogil:
    if mask >> 32 == 0:
        return <Py_ssize_t>(bits.next_uint32(bits.state) & mask)
    return <Py_ssize_t>(bits.next_uint64(bits.state) & mask)


def dense_rows(X, const int64_t[::1] rows, dtype):
    """Some rows of a sparse array that is `readable`, as a dense array.

    Unlike SciPy's, this conversion checks every index.
    """
    if not readable(X, dtype):
        raise ValueError("X: expected a sparse array as it was when it was checked")
    cdef Rows given = Rows(X, dtype)
    out = np.empty((rows.shape[0], X.shape[1]), dtype)
    cdef void *to = <void *><size_t>out.ctypes.data
    cdef Py_ssize_t i
    for i in range(rows.shape[0]):
        if not 0 <= rows[i] < given.source.n_rows:
            raise IndexError(f"rows: expected numbers from 0 to {given.source.n_rows - 1}, got "
                             f"{rows[i]}")
    if rows.shape[0] > 0 and dtype == np.float32:
        read_rows(&given.source, &rows[0], rows.shape[0], <float *>to)
    elif rows.shape[0] > 0:
        read_rows(&given.source, &rows[0], rows.shape[0], <double *>to)
    return out


cdef void read_rows(const Source *X, const int64_t *rows, Py_ssize_t m,
                    real *out) noexcept nogil:
    """Copy rows of X, converted to the minibatch's dtype."""
    if X.sparse:
        if X.wide:
            spread_rows(X, <const int64_t *>X.starts, <const int64_t *>X.columns, rows,
                        m, out)
        else:
            spread_rows(X, <const int32_t *>X.starts, <const int32_t *>X.columns, rows,
                        m, out)
    elif X.kind == c"f":
        copy_rows(<const float *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"d":
        copy_rows(<const double *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"B" or X.kind == c"?":
        copy_rows(<const uint8_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"b":
        copy_rows(<const int8_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"h":
        copy_rows(<const int16_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"H":
        copy_rows(<const uint16_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"i":
        copy_rows(<const int32_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"I":
        copy_rows(<const uint32_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    elif X.kind == c"l":
        copy_rows(<const int64_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)
    else:
        copy_rows(<const uint64_t *>X.data, X.row, X.column, rows, m, X.n_columns, out)


cdef void copy_rows(const source *data, Py_ssize_t row_bytes, Py_ssize_t column_bytes,
                    const int64_t *rows, Py_ssize_t m, Py_ssize_t n,
                    real *out) noexcept nogil:
    """out[i, j] = data[rows[i], j], with the strides of `data` in bytes."""
    cdef const char *row
    cdef Py_ssize_t i, j
    for i in range(m):
        row = <const char *>data + rows[i] * row_bytes
        if (source is float and real is float) or (source is double and real is double):
            if column_bytes == sizeof(source):
                memcpy(out + i * n, row, n * sizeof(real))
                continue
        if column_bytes == sizeof(source):
            for j in range(n):
                out[i * n + j] = <real>(<const source *>row)[j]
        else:
            for j in range(n):
                out[i * n + j] = <real>(<const source *>(row + j * column_bytes))[0]


cdef void spread_rows(const Source *X, const index *starts, const index *columns,
                      const int64_t *rows, Py_ssize_t m, real *out) noexcept nogil:
    """out[i, columns[p]] += values[p] for each p of row rows[i], and 0 elsewhere.

    Indices out of range, in arrays that were changed after they were checked, are skipped.
    """
    cdef const real *values = <const real *>X.values
    cdef Py_ssize_t i, p, j, n = X.n_columns
    memset(out, 0, m * n * sizeof(real))
    for i in range(m):
        for p in range(max(<Py_ssize_t>starts[rows[i]], 0),
                       min(<Py_ssize_t>starts[rows[i] + 1], X.n_values)):
            j = columns[p]
            if 0 <= j < n:
                out[i * n + j] += values[p]
