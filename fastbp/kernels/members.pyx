"""Ensembles in one network: the columns of k members, side by side.

A row of a value holds a row of each member, one after the other, so that an array of shape
(batch, k·n) has the memory of one of shape (batch·k, n).  A dense layer that the members share is
therefore one product of batch·k rows (`fastbp.kernels.dense`).  This module has the rest: columns
repeated for each member, sums over members, and dense layers that differ from member to member,

    Zᵢ = Xᵢ·Wᵢ + bᵢ,  dWᵢ = Xᵢᵀ·dZᵢ,  dbᵢ = column sums of dZᵢ,  dXᵢ = dZᵢ·Wᵢᵀ,

each of which is the product of a dense layer, with its bits, whose rows are apart in memory.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

from fastbp.kernels.dense cimport (
    WORK_FOR_WORKSPACE, forward_product, input_product, matmul, weights_product,
)
from fastbp.kernels.dispatch cimport (
    FBP_WORKSPACE, fbp_gemm, fbp_repeat, fbp_sum_members, real, tier,
)
from fastbp.kernels.threads cimport fbp_worker, run_team, threads_for

from . import checks


cdef fbp_gemm separate_forward(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                               Py_ssize_t n_out, const real *X, const real *W, const real *b,
                               real *Z, Py_ssize_t i) noexcept nogil:
    """Member i's Z = X·W + b, among the columns of all."""
    cdef fbp_gemm product = forward_product(batch, n_in, n_out, X + i * n_in,
                                            W + i * n_in * n_out, b + i * n_out, Z + i * n_out)
    product.a_row, product.c_row = members * n_in, members * n_out
    return product


cdef fbp_gemm separate_weights(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                               Py_ssize_t n_out, const real *X, const real *dZ, real *dW,
                               Py_ssize_t i) noexcept nogil:
    """Member i's dW = Xᵀ·dZ."""
    cdef fbp_gemm product = weights_product(batch, n_in, n_out, X + i * n_in, dZ + i * n_out,
                                            dW + i * n_in * n_out)
    product.a_col, product.b_row = members * n_in, members * n_out
    return product


cdef fbp_gemm separate_input(Py_ssize_t batch, Py_ssize_t members, Py_ssize_t n_in,
                             Py_ssize_t n_out, const real *dZ, const real *W, real *dX,
                             Py_ssize_t i) noexcept nogil:
    """Member i's dX = dZ·Wᵀ."""
    cdef fbp_gemm product = input_product(batch, n_in, n_out, dZ + i * n_out,
                                          W + i * n_in * n_out, dX + i * n_in)
    product.a_row, product.c_row = members * n_out, members * n_in
    return product


cdef enum:
    FORWARD, WEIGHTS, INPUT


# A product for each member: A, B and C are X, W and Z; X, dZ and dW; or dZ, W and dX.
cdef struct Products:
    int which
    Py_ssize_t batch, members, n_in, n_out
    const void *A
    const void *B
    const void *b
    void *C
    size_t size  # of an element, in bytes
    bint large


cdef void multiply(const Products *all, fbp_worker *me, real *workspace) noexcept nogil:
    cdef const real *A = <const real *>all.A
    cdef const real *B = <const real *>all.B
    cdef real *C = <real *>all.C
    cdef Py_ssize_t i
    cdef fbp_gemm product
    for i in range(all.members):
        if all.which == FORWARD:
            product = separate_forward(all.batch, all.members, all.n_in, all.n_out, A, B,
                                       <const real *>all.b, C, i)
        elif all.which == WEIGHTS:
            product = separate_weights(all.batch, all.members, all.n_in, all.n_out, A, B, C, i)
        else:
            product = separate_input(all.batch, all.members, all.n_in, all.n_out, A, B, C, i)
        if not matmul(product, me, workspace):
            return


cdef void products_part(void *work, fbp_worker *me) noexcept nogil:
    cdef Products *all = <Products *>work
    cdef void *workspace = NULL
    if all.large:
        workspace = PyMem_RawMalloc(FBP_WORKSPACE * all.size)  # works without one, only slower
    if all.size == sizeof(float):
        multiply(all, me, <float *>workspace)
    else:
        multiply(all, me, <double *>workspace)
    PyMem_RawFree(workspace)


cdef int run(Products all) except -1:
    """All members' products, with a team of threads and workspaces of their own."""
    cdef double work = <double>all.batch * all.n_in * all.n_out
    all.large = work >= WORK_FOR_WORKSPACE
    with nogil:
        run_team(threads_for(work * all.members), products_part, &all)
    return 0


cdef int forward(const real[:, ::1] X, const real[:, :, ::1] W, const real[:, ::1] b,
                 real[:, ::1] Z) except -1:
    return run(Products(which=FORWARD, batch=X.shape[0], members=W.shape[0], n_in=W.shape[1],
                        n_out=W.shape[2], A=&X[0, 0], B=&W[0, 0, 0], b=&b[0, 0], C=&Z[0, 0],
                        size=sizeof(real), large=False))


cdef int backward_weights(const real[:, ::1] X, const real[:, ::1] dZ,
                          real[:, :, ::1] dW) except -1:
    return run(Products(which=WEIGHTS, batch=X.shape[0], members=dW.shape[0], n_in=dW.shape[1],
                        n_out=dW.shape[2], A=&X[0, 0], B=&dZ[0, 0], b=NULL, C=&dW[0, 0, 0],
                        size=sizeof(real), large=False))


cdef int backward_input(const real[:, ::1] dZ, const real[:, :, ::1] W,
                        real[:, ::1] dX) except -1:
    return run(Products(which=INPUT, batch=dZ.shape[0], members=W.shape[0], n_in=W.shape[1],
                        n_out=W.shape[2], A=&dZ[0, 0], B=&W[0, 0, 0], b=NULL, C=&dX[0, 0],
                        size=sizeof(real), large=False))


cdef int repeat(const real[:, ::1] X, Py_ssize_t members, double factor, real[:, ::1] Y,
                bint gradient) except -1:
    with nogil:
        fbp_repeat(tier, X.shape[0], X.shape[1], members, &X[0, 0], factor, &Y[0, 0], gradient)
    return 0


cdef int add_up(const real[:, ::1] X, Py_ssize_t members, double factor, real[:, ::1] Y,
                bint gradient) except -1:
    with nogil:
        fbp_sum_members(tier, Y.shape[0], Y.shape[1], members, &X[0, 0], factor, &Y[0, 0],
                        gradient)
    return 0


def repeat_columns(X, n_members, factor=1.0, gradient=False, *, out=None):
    """All columns once for each member: ``Y = factor·(X, X, …)``.

    The gradient is ``sum_members(dY, n_members, factor, gradient=True)``.

    Parameters
    ----------
    X : array_like of shape (batch, n), float32 or float64
    n_members : int
    factor : float, default 1.0
    gradient : bool, default False
        Whether the result is a gradient: then not only subnormal results but all below 2**-100
        (float32) or 2**-960 (float64) in magnitude become 0.
    out : ndarray of shape (batch, n_members·n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    Y : ndarray of shape (batch, n_members·n)

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or another argument is not of its type.
    ValueError
        If `X` has not 2 dimensions, a number is out of range, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.repeat_columns([[1.0, 2.0]], 3).tolist()
    [[1.0, 2.0, 1.0, 2.0, 1.0, 2.0]]
    """
    X = checks.floats("X", X, 2)
    n_members = checks.integer("n_members", n_members, 1)
    factor = checks.number("factor", factor)
    gradient = checks.boolean("gradient", gradient)
    Y = checks.output(out, (X.shape[0], n_members * X.shape[1]), X.dtype, X=X)
    if X.dtype == "f4":
        repeat[float](X, n_members, factor, Y, gradient)
    else:
        repeat[double](X, n_members, factor, Y, gradient)
    return Y


def sum_members(X, n_members, factor=1.0, gradient=False, *, out=None):
    """Sum of the members' columns: ``Y = factor·(X₁ + X₂ + …)``, added in this order.

    The gradient is ``repeat_columns(dY, n_members, factor, gradient=True)``.

    Parameters
    ----------
    X : array_like of shape (batch, n_members·n), float32 or float64
    n_members : int
    factor : float, default 1.0
        ``1 / n_members`` for the mean.
    gradient : bool, default False
        Whether the result is a gradient: then not only subnormal results but all below 2**-100
        (float32) or 2**-960 (float64) in magnitude become 0.
    out : ndarray of shape (batch, n), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    Y : ndarray of shape (batch, n)

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or another argument is not of its type.
    ValueError
        If dimensions or shapes do not match, a number is out of range, or `out` cannot hold the
        result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.sum_members([[1.0, 2.0, 3.0, 5.0]], 2, factor=0.5).tolist()
    [[2.0, 3.5]]
    """
    X = checks.floats("X", X, 2)
    n_members = checks.integer("n_members", n_members, 1)
    factor = checks.number("factor", factor)
    gradient = checks.boolean("gradient", gradient)
    Y = checks.output(out, (X.shape[0], _columns_of_each("X", X, n_members)), X.dtype, X=X)
    if X.dtype == "f4":
        add_up[float](X, n_members, factor, Y, gradient)
    else:
        add_up[double](X, n_members, factor, Y, gradient)
    return Y


def _columns_of_each(name, array, n_members):
    n, rest = divmod(array.shape[1], n_members)
    if rest:
        raise ValueError(f"{name}: expected as many columns for each of {n_members} members, got "
                         f"{array.shape[1]}")
    return n


def separate_dense_forward(X, W, b, *, out=None):
    """A dense layer for each member: ``Zᵢ = Xᵢ·Wᵢ + bᵢ``.

    Parameters
    ----------
    X : array_like of shape (batch, members·n_in), float32 or float64
    W : array_like of shape (members, n_in, n_out), same dtype
    b : array_like of shape (members, n_out), same dtype
    out : ndarray of shape (batch, members·n_out), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    Z : ndarray of shape (batch, members·n_out)
        Bit for bit `dense_forward` of each member.

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> W, b = [[[1.0], [1.0]], [[2.0], [3.0]]], [[0.0], [0.5]]
    >>> kernels.separate_dense_forward([[1.0, 2.0, 3.0, 4.0]], W, b).tolist()
    [[3.0, 18.5]]
    """
    X = checks.floats("X", X, 2)
    W = checks.floats("W", W, 3, X.dtype)
    b = checks.floats("b", b, 2, X.dtype)
    members, n_in, n_out = W.shape
    if X.shape[1] != members * n_in:
        raise ValueError(f"W: expected members and rows whose product is {X.shape[1]}, to follow "
                         f"X's columns, got shape {W.shape}")
    checks.shape("b", b, (members, n_out), "to match W's members and columns")
    Z = checks.output(out, (X.shape[0], members * n_out), X.dtype, X=X, W=W, b=b)
    if X.dtype == "f4":
        forward[float](X, W, b, Z)
    else:
        forward[double](X, W, b, Z)
    return Z


def separate_dense_backward_weights(X, dZ, n_members, *, out=None):
    """Gradients with respect to the weights: ``dWᵢ = Xᵢᵀ·dZᵢ``.

    Those with respect to the biases are ``dense_backward_bias(dZ)``, one member's after the
    other's.

    Parameters
    ----------
    X : array_like of shape (batch, members·n_in), float32 or float64
        The layers' input.
    dZ : array_like of shape (batch, members·n_out), same dtype
        Gradient of the loss with respect to the layers' output.
    n_members : int
    out : ndarray of shape (members, n_in, n_out), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dW : ndarray of shape (members, n_in, n_out)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed, or `n_members` is not an
        integer.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.separate_dense_backward_weights([[1.0, 2.0]], [[3.0, -1.0]], 2).tolist()
    [[[3.0]], [[-2.0]]]
    """
    X = checks.floats("X", X, 2)
    dZ = checks.floats("dZ", dZ, 2, X.dtype)
    n_members = checks.integer("n_members", n_members, 1)
    checks.shape("dZ", dZ, (X.shape[0], None), "to match X's rows")
    each = _columns_of_each("X", X, n_members), _columns_of_each("dZ", dZ, n_members)
    dW = checks.output(out, (n_members, *each), X.dtype, X=X, dZ=dZ)
    if X.dtype == "f4":
        backward_weights[float](X, dZ, dW)
    else:
        backward_weights[double](X, dZ, dW)
    return dW


def separate_dense_backward_input(dZ, W, *, out=None):
    """Gradient with respect to the input: ``dXᵢ = dZᵢ·Wᵢᵀ``.

    Parameters
    ----------
    dZ : array_like of shape (batch, members·n_out), float32 or float64
        Gradient of the loss with respect to the layers' output.
    W : array_like of shape (members, n_in, n_out), same dtype
    out : ndarray of shape (batch, members·n_in), optional
        Where to write the result; C-contiguous, and must not overlap an input.

    Returns
    -------
    dX : ndarray of shape (batch, members·n_in)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.separate_dense_backward_input([[1.0, 2.0]], [[[3.0]], [[4.0]]]).tolist()
    [[3.0, 8.0]]
    """
    dZ = checks.floats("dZ", dZ, 2)
    W = checks.floats("W", W, 3, dZ.dtype)
    if dZ.shape[1] != W.shape[0] * W.shape[2]:
        raise ValueError(f"W: expected members and columns whose product is {dZ.shape[1]}, to "
                         f"match dZ's columns, got shape {W.shape}")
    dX = checks.output(out, (dZ.shape[0], W.shape[0] * W.shape[1]), dZ.dtype, dZ=dZ, W=W)
    if dZ.dtype == "f4":
        backward_input[float](dZ, W, dX)
    else:
        backward_input[double](dZ, W, dX)
    return dX
