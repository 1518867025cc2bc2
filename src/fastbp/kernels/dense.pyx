"""The dense layer: Z = X·W + b, and what backpropagation needs of it.

With dZ the loss's gradient by Z, the chain rule gives

    dW = Xᵀ·dZ        dense_backward_weights
    db = column sums  dense_backward_bias
    dX = dZ·Wᵀ        dense_backward_input

All four are one matrix product with different strides.  An element of a product is a
chain of fused multiply-adds in ascending order, cut into blocks of 256 whose sums are
added in order: the same bits for any shape, tier and batch.

The functions of typed memoryviews state each operation and run it without the GIL; the
Python functions below them check and allocate.
"""

from cpython.exc cimport PyErr_CheckSignals
from libc.stdlib cimport free, malloc

from . import checks


cdef int matmul(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                const real *A, Py_ssize_t a_row, Py_ssize_t a_col,
                const real *B, Py_ssize_t b_row, Py_ssize_t b_col,
                const real *bias, bint gradient, real *C, real *workspace) except -1 nogil:
    """C = bias + A·B (simd/dispatch.h), with a look at signals, such as Ctrl-C, now and then."""
    cdef Py_ssize_t work_per_row = max(1, n) * max(1, k)
    cdef Py_ssize_t panel = max(1, tier.work_per_look // work_per_row)
    cdef Py_ssize_t i = 0
    while i < m:
        fbp_matmul(tier, min(panel, m - i), n, k, A + i * a_row, a_row, a_col,
                   B, b_row, b_col, bias, gradient, C + i * n, workspace)
        i += panel
        if i < m:
            with gil:
                PyErr_CheckSignals()
    return 0


cdef int matmul_alone(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                      const real *A, Py_ssize_t a_row, Py_ssize_t a_col,
                      const real *B, Py_ssize_t b_row, Py_ssize_t b_col,
                      const real *bias, bint gradient, real *C) except -1 nogil:
    """`matmul` with a workspace of its own."""
    cdef real *workspace = NULL
    if <double>m * n * k >= WORK_FOR_WORKSPACE:
        workspace = <real *>malloc(FBP_WORKSPACE * sizeof(real))  # NULL only makes it slower
    try:
        return matmul(m, n, k, A, a_row, a_col, B, b_row, b_col, bias, gradient, C, workspace)
    finally:
        free(workspace)


cdef int forward(const real[:, ::1] X, const real[:, ::1] W, const real[::1] b,
                 real[:, ::1] Z) except -1:
    """Z = X·W + b; X (batch, n_in), W (n_in, n_out), b (n_out,), Z (batch, n_out)."""
    cdef Py_ssize_t n_in = W.shape[0], n_out = W.shape[1]
    with nogil:
        matmul_alone(X.shape[0], n_out, n_in, &X[0, 0], n_in, 1, &W[0, 0], n_out, 1, &b[0],
                     False, &Z[0, 0])
    return 0


cdef int backward_weights(const real[:, ::1] X, const real[:, ::1] dZ,
                          real[:, ::1] dW) except -1:
    """dW = Xᵀ·dZ: row i of Xᵀ is column i of X, so it is walked with stride n_in."""
    cdef Py_ssize_t batch = X.shape[0], n_in = X.shape[1], n_out = dZ.shape[1]
    with nogil:
        matmul_alone(n_in, n_out, batch, &X[0, 0], 1, n_in, &dZ[0, 0], n_out, 1,
                     <const real *>NULL, True, &dW[0, 0])
    return 0


cdef int backward_bias(const real[:, ::1] dZ, real[::1] db) except -1:
    """db[j] = Σᵢ dZ[i, j]."""
    with nogil:
        fbp_column_sums(tier, dZ.shape[0], dZ.shape[1], &dZ[0, 0], &db[0])
    return 0


cdef int backward_input(const real[:, ::1] dZ, const real[:, ::1] W,
                        real[:, ::1] dX) except -1:
    """dX = dZ·Wᵀ: row p of Wᵀ is column p of W, so it is walked with stride n_out."""
    cdef Py_ssize_t n_in = W.shape[0], n_out = W.shape[1]
    with nogil:
        matmul_alone(dZ.shape[0], n_in, n_out, &dZ[0, 0], n_out, 1, &W[0, 0], 1, n_out,
                     <const real *>NULL, True, &dX[0, 0])
    return 0


def dense_forward(X, W, b, *, out=None):
    """Affine map of every row: ``Z = X·W + b``.

    Parameters
    ----------
    X : ndarray of shape (batch, n_in), float32 or float64
    W : ndarray of shape (n_in, n_out), same dtype
    b : ndarray of shape (n_out,), same dtype
    out : ndarray of shape (batch, n_out), optional
        Where to write the result; C-contiguous, and no part of an input.

    Returns
    -------
    Z : ndarray of shape (batch, n_out)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or sizes do not fit, or `out` cannot be written as it is.
    """
    X = checks.floats("X", X, 2)
    W = checks.floats("W", W, 2, X.dtype)
    b = checks.floats("b", b, 1, X.dtype)
    checks.shape("W", W, (X.shape[1], None), "to follow X's columns")
    checks.shape("b", b, (W.shape[1],), "to match W's columns")
    Z = checks.output(out, (X.shape[0], W.shape[1]), X.dtype, X=X, W=W, b=b)
    if X.dtype == "f4":
        forward[float](X, W, b, Z)
    else:
        forward[double](X, W, b, Z)
    return Z


def dense_backward_weights(X, dZ, *, out=None):
    """Gradient of the weights: ``dW = Xᵀ·dZ``.

    Parameters
    ----------
    X : ndarray of shape (batch, n_in), float32 or float64
        What the layer was given.
    dZ : ndarray of shape (batch, n_out), same dtype
        The loss's gradient by what the layer returned.
    out : ndarray of shape (n_in, n_out), optional
        Where to write the result; C-contiguous, and no part of an input.

    Returns
    -------
    dW : ndarray of shape (n_in, n_out)

    Raises
    ------
    TypeError, ValueError
        As `dense_forward`.
    """
    X = checks.floats("X", X, 2)
    dZ = checks.floats("dZ", dZ, 2, X.dtype)
    checks.shape("dZ", dZ, (X.shape[0], None), "to match X's rows")
    dW = checks.output(out, (X.shape[1], dZ.shape[1]), X.dtype, X=X, dZ=dZ)
    if X.dtype == "f4":
        backward_weights[float](X, dZ, dW)
    else:
        backward_weights[double](X, dZ, dW)
    return dW


def dense_backward_bias(dZ, *, out=None):
    """Gradient of the bias: ``db[j] = Σᵢ dZ[i, j]``, the column sums.

    Parameters
    ----------
    dZ : ndarray of shape (batch, n_out), float32 or float64
        The loss's gradient by what the layer returned.
    out : ndarray of shape (n_out,), optional
        Where to write the result; C-contiguous, and no part of `dZ`.

    Returns
    -------
    db : ndarray of shape (n_out,)

    Raises
    ------
    TypeError, ValueError
        As `dense_forward`.
    """
    dZ = checks.floats("dZ", dZ, 2)
    db = checks.output(out, (dZ.shape[1],), dZ.dtype, dZ=dZ)
    if dZ.dtype == "f4":
        backward_bias[float](dZ, db)
    else:
        backward_bias[double](dZ, db)
    return db


def dense_backward_input(dZ, W, *, out=None):
    """Gradient of the input: ``dX = dZ·Wᵀ``.

    Parameters
    ----------
    dZ : ndarray of shape (batch, n_out), float32 or float64
        The loss's gradient by what the layer returned.
    W : ndarray of shape (n_in, n_out), same dtype
    out : ndarray of shape (batch, n_in), optional
        Where to write the result; C-contiguous, and no part of an input.

    Returns
    -------
    dX : ndarray of shape (batch, n_in)

    Raises
    ------
    TypeError, ValueError
        As `dense_forward`.
    """
    dZ = checks.floats("dZ", dZ, 2)
    W = checks.floats("W", W, 2, dZ.dtype)
    checks.shape("W", W, (None, dZ.shape[1]), "to match dZ's columns")
    dX = checks.output(out, (dZ.shape[0], W.shape[0]), dZ.dtype, dZ=dZ, W=W)
    if dZ.dtype == "f4":
        backward_input[float](dZ, W, dX)
    else:
        backward_input[double](dZ, W, dX)
    return dX
