"""The dense layer Z = X·W + b and its gradients.

With dZ the gradient of the loss with respect to Z, the chain rule gives

    dW = Xᵀ·dZ        dense_backward_weights
    db = column sums  dense_backward_bias
    dX = dZ·Wᵀ        dense_backward_input

These three and the forward pass use one matrix-product kernel with different strides.  An element
of a product is a chain of fused multiply-adds in ascending order, cut into blocks of 256
(`FBP_K_BLOCK` in simd/dispatch.h) whose sums are added in order: the same bits for any shape, tier
and batch.

The functions over typed memoryviews run each operation without the GIL; the Python functions below
them check arguments and allocate.
"""

from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc

from fastbp.kernels.bfloat16 cimport matmul_bf16, packing_space
from fastbp.kernels.dispatch cimport FBP_HIGHEST
from fastbp.kernels.threads cimport fbp_flag, fbp_set_flag

from . import checks

# With at least this many columns per thread, a product is split by columns rather than rows, so
# that each thread packs only its own part of B, the more expensive copy.  Columns are split at
# multiples of the widest register tile.
cdef enum:
    COLUMNS_PER_THREAD = 128
    WIDEST_TILE = 32


cdef fbp_gemm forward_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                              const real *X, const real *W, const real *b,
                              real *Z) noexcept nogil:
    """Z = X·W + b; X (batch, n_in), W (n_in, n_out), b (n_out,), Z (batch, n_out)."""
    return fbp_gemm(m=batch, n=n_out, k=n_in, A=X, a_row=n_in, a_col=1, B=W, b_row=n_out,
                    b_col=1, bias=b, C=Z, c_row=n_out, gradient=False, part=0, relu=False,
                    relu_mask=NULL, precision=FBP_HIGHEST, over_rows=False)


cdef fbp_gemm weights_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                              const real *X, const real *dZ, real *dW) noexcept nogil:
    """dW = Xᵀ·dZ: row i of Xᵀ is column i of X, so it is read with stride n_in."""
    return fbp_gemm(m=n_in, n=n_out, k=batch, A=X, a_row=1, a_col=n_in, B=dZ, b_row=n_out,
                    b_col=1, bias=NULL, C=dW, c_row=n_out, gradient=True, part=0,
                    relu=False, relu_mask=NULL, precision=FBP_HIGHEST, over_rows=True)


cdef fbp_gemm bias_product(Py_ssize_t batch, Py_ssize_t n_out, const real *one,
                           const real *dZ, real *db) noexcept nogil:
    """db[j] = Σᵢ dZ[i, j]: a row of ones times dZ, where both strides of the ones are 0."""
    return fbp_gemm(m=1, n=n_out, k=batch, A=one, a_row=0, a_col=0, B=dZ, b_row=n_out,
                    b_col=1, bias=NULL, C=db, c_row=n_out, gradient=True, part=0,
                    relu=False, relu_mask=NULL, precision=FBP_HIGHEST, over_rows=True)


cdef fbp_gemm input_product(Py_ssize_t batch, Py_ssize_t n_in, Py_ssize_t n_out,
                            const real *dZ, const real *W, real *dX) noexcept nogil:
    """dX = dZ·Wᵀ: row p of Wᵀ is column p of W, so it is read with stride n_out."""
    return fbp_gemm(m=batch, n=n_in, k=n_out, A=dZ, a_row=n_out, a_col=1, B=W, b_row=1,
                    b_col=n_out, bias=NULL, C=dX, c_row=n_in, gradient=True, part=0,
                    relu=False, relu_mask=NULL, precision=FBP_HIGHEST, over_rows=False)


cdef bint matmul(fbp_gemm product, fbp_worker *me, real *workspace) noexcept nogil:
    """Compute this thread's part of a matrix product with the tier's `matmul` (simd/matmul.h), or
    with `matmul_bf16` in reduced precision, which needs a workspace of `packing_space`.

    Checks for signals now and then.  Returns whether to continue: false once interrupted.
    """
    cdef Py_ssize_t first, stop, panel
    cdef fbp_gemm rows
    if product.m == 0:
        return True
    if me.parts > 1:
        if product.m == 1 or product.n >= COLUMNS_PER_THREAD * me.parts:
            fbp_partition(me, product.n, WIDEST_TILE, &first, &stop)
            fbp_take_columns(&product, first, stop, sizeof(real))
        else:
            fbp_partition(me, product.m, 1, &first, &stop)
            fbp_take_rows(&product, first, stop, sizeof(real))
    if product.precision != FBP_HIGHEST:
        return product.m == 0 or product.n == 0 or matmul_bf16(product, me, <float *>workspace)
    panel = max(1, tier.work_per_look // (max(1, product.n) * max(1, product.k)))
    if product.m <= panel:
        fbp_matmul(tier, &product, workspace)
        return True
    first = 0
    while first < product.m:
        rows = product
        fbp_take_rows(&rows, first, min(first + panel, product.m), sizeof(real))
        fbp_matmul(tier, &rows, workspace)
        if not check_signals(me):
            return False
        first += panel
    return True


cdef void matmul_part(void *work, fbp_worker *me) noexcept nogil:
    """The task of `matmul_alone`: a part of the product, with a workspace for this thread."""
    cdef Alone *alone = <Alone *>work
    cdef void *workspace = NULL
    if alone.space > 0:
        workspace = PyMem_RawMalloc(alone.space * alone.size)
    if workspace is NULL and alone.product.precision != FBP_HIGHEST:
        fbp_set_flag(&alone.no_memory)
        return
    # In float32 it works without one, only slower.
    if alone.size == sizeof(float):
        matmul(alone.product, me, <float *>workspace)
    else:
        matmul(alone.product, me, <double *>workspace)
    PyMem_RawFree(workspace)


cdef struct Alone:
    fbp_gemm product
    size_t size  # of an element, in bytes
    Py_ssize_t space  # elements of each thread's workspace
    fbp_flag no_memory


cdef int matmul_alone(fbp_gemm product, size_t size) except -1:
    """Compute a whole product with its own team of threads and workspaces."""
    cdef Alone alone
    cdef double work = <double>product.m * product.n * product.k
    alone.product, alone.size, alone.no_memory = product, size, False
    alone.space = FBP_WORKSPACE if work >= WORK_FOR_WORKSPACE else 0
    if product.precision != FBP_HIGHEST:
        alone.space = packing_space(product.m, product.n, product.k, product.precision)
    with nogil:
        run_team(threads_for(work), matmul_part, &alone)
    if alone.no_memory:
        raise MemoryError("no memory to pack a product's operands")
    return 0


cdef int forward(const real[:, ::1] X, const real[:, ::1] W, const real[::1] b,
                 real[:, ::1] Z, int precision) except -1:
    cdef fbp_gemm product = forward_product(X.shape[0], W.shape[0], W.shape[1], &X[0, 0],
                                            &W[0, 0], &b[0], &Z[0, 0])
    product.precision = precision
    return matmul_alone(product, sizeof(real))


cdef int backward_weights(const real[:, ::1] X, const real[:, ::1] dZ,
                          real[:, ::1] dW, int precision) except -1:
    cdef fbp_gemm product = weights_product(X.shape[0], X.shape[1], dZ.shape[1], &X[0, 0],
                                            &dZ[0, 0], &dW[0, 0])
    product.precision = precision
    return matmul_alone(product, sizeof(real))


cdef int backward_bias(const real[:, ::1] dZ, real[::1] db) except -1:
    cdef real one = 1
    return matmul_alone(bias_product(dZ.shape[0], dZ.shape[1], &one, &dZ[0, 0], &db[0]),
                        sizeof(real))


cdef int backward_input(const real[:, ::1] dZ, const real[:, ::1] W,
                        real[:, ::1] dX, int precision) except -1:
    cdef fbp_gemm product = input_product(dZ.shape[0], W.shape[0], W.shape[1], &dZ[0, 0],
                                          &W[0, 0], &dX[0, 0])
    product.precision = precision
    return matmul_alone(product, sizeof(real))


def dense_forward(X, W, b, *, out=None, precision="highest"):
    """Affine map of every row: ``Z = X·W + b``.

    Parameters
    ----------
    X : array_like of shape (batch, n_in), float32 or float64
    W : array_like of shape (n_in, n_out), same dtype
    b : array_like of shape (n_out,), same dtype
    out : ndarray of shape (batch, n_out), optional
        Where to write the result; C-contiguous, and must not overlap an input.
    precision : {"highest", "high", "medium"}, default "highest"
        How exactly the operands are taken: see `Sequential`.  float64 takes "highest" only.

    Returns
    -------
    Z : ndarray of shape (batch, n_out)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, `out` cannot hold the result, or `precision` is
        unknown, or not of this dtype.

    Examples
    --------
    >>> from fastbp import kernels
    >>> X, W, b = [[1.0, 2.0]], [[1.0, 0.0, -1.0], [0.5, 1.0, 2.0]], [0.0, 0.0, 10.0]
    >>> kernels.dense_forward(X, W, b).tolist()
    [[2.0, 2.0, 13.0]]
    """
    X = checks.floats("X", X, 2)
    precision = checks.PRECISIONS.index(checks.precision(precision, X.dtype))
    W = checks.floats("W", W, 2, X.dtype)
    b = checks.floats("b", b, 1, X.dtype)
    checks.shape("W", W, (X.shape[1], None), "to follow X's columns")
    checks.shape("b", b, (W.shape[1],), "to match W's columns")
    Z = checks.output(out, (X.shape[0], W.shape[1]), X.dtype, X=X, W=W, b=b)
    if X.dtype == "f4":
        forward[float](X, W, b, Z, precision)
    else:
        forward[double](X, W, b, Z, precision)
    return Z


def dense_backward_weights(X, dZ, *, out=None, precision="highest"):
    """Gradient with respect to the weights: ``dW = Xᵀ·dZ``.

    Parameters
    ----------
    X : array_like of shape (batch, n_in), float32 or float64
        The layer's input.
    dZ : array_like of shape (batch, n_out), same dtype
        Gradient of the loss with respect to the layer's output.
    out : ndarray of shape (n_in, n_out), optional
        Where to write the result; C-contiguous, and must not overlap an input.
    precision : {"highest", "high", "medium"}, default "highest"
        How exactly the operands are taken: see `Sequential`.  float64 takes "highest" only.

    Returns
    -------
    dW : ndarray of shape (n_in, n_out)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, `out` cannot hold the result, or `precision` is
        unknown, or not of this dtype.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.dense_backward_weights([[1.0, 2.0]], [[3.0, 0.0, -1.0]]).tolist()
    [[3.0, 0.0, -1.0], [6.0, 0.0, -2.0]]
    """
    X = checks.floats("X", X, 2)
    precision = checks.PRECISIONS.index(checks.precision(precision, X.dtype))
    dZ = checks.floats("dZ", dZ, 2, X.dtype)
    checks.shape("dZ", dZ, (X.shape[0], None), "to match X's rows")
    dW = checks.output(out, (X.shape[1], dZ.shape[1]), X.dtype, X=X, dZ=dZ)
    if X.dtype == "f4":
        backward_weights[float](X, dZ, dW, precision)
    else:
        backward_weights[double](X, dZ, dW, precision)
    return dW


def dense_backward_bias(dZ, *, out=None):
    """Gradient with respect to the bias: ``db[j] = Σᵢ dZ[i, j]``, the column sums.

    Parameters
    ----------
    dZ : array_like of shape (batch, n_out), float32 or float64
        Gradient of the loss with respect to the layer's output.
    out : ndarray of shape (n_out,), optional
        Where to write the result; C-contiguous, and must not overlap `dZ`.

    Returns
    -------
    db : ndarray of shape (n_out,)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, or `out` cannot hold the result.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.dense_backward_bias([[3.0, 0.0], [1.0, -1.0]]).tolist()
    [4.0, -1.0]
    """
    dZ = checks.floats("dZ", dZ, 2)
    db = checks.output(out, (dZ.shape[1],), dZ.dtype, dZ=dZ)
    if dZ.dtype == "f4":
        backward_bias[float](dZ, db)
    else:
        backward_bias[double](dZ, db)
    return db


def dense_backward_input(dZ, W, *, out=None, precision="highest"):
    """Gradient with respect to the input: ``dX = dZ·Wᵀ``.

    Parameters
    ----------
    dZ : array_like of shape (batch, n_out), float32 or float64
        Gradient of the loss with respect to the layer's output.
    W : array_like of shape (n_in, n_out), same dtype
    out : ndarray of shape (batch, n_in), optional
        Where to write the result; C-contiguous, and must not overlap an input.
    precision : {"highest", "high", "medium"}, default "highest"
        How exactly the operands are taken: see `Sequential`.  float64 takes "highest" only.

    Returns
    -------
    dX : ndarray of shape (batch, n_in)

    Raises
    ------
    TypeError
        If a dtype is neither float32 nor float64, or they are mixed.
    ValueError
        If dimensions or shapes do not match, `out` cannot hold the result, or `precision` is
        unknown, or not of this dtype.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.dense_backward_input([[3.0, 1.0]], [[1.0, 0.0], [0.5, 1.0]]).tolist()
    [[3.0, 2.5]]
    """
    dZ = checks.floats("dZ", dZ, 2)
    precision = checks.PRECISIONS.index(checks.precision(precision, dZ.dtype))
    W = checks.floats("W", W, 2, dZ.dtype)
    checks.shape("W", W, (None, dZ.shape[1]), "to match dZ's columns")
    dX = checks.output(out, (dZ.shape[0], W.shape[0]), dZ.dtype, dZ=dZ, W=W)
    if dZ.dtype == "f4":
        backward_input[float](dZ, W, dX, precision)
    else:
        backward_input[double](dZ, W, dX, precision)
    return dX
