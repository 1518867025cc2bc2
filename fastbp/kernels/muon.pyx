"""Muon's step for a matrix: the average of its gradients, made orthogonal.

The weights W of a dense layer have a row for each input and a column for each output.  With G their
gradient and B the average of the gradients so far:

    B = momentum·B + (1 - momentum)·G
    U = momentum·B + (1 - momentum)·G      with Nesterov's momentum, else B
    X = U / (‖U‖ + 1e-7)                   the Frobenius norm, summed in float64 as for clipping
    X = a·X + (b·A + c·A²)·X, A = X·Xᵀ     five times
    W = (1 - rate·decay)·W - rate·√max(1, n_out/n_in)·X

The singular values of X are at most 1, and each repetition, a step of Newton and Schulz, brings
them closer to 1, to within a third after five, while the singular vectors stay.

X is stored with at least as many rows as columns (as its transpose if W is wider than it is high),
so that the products with A are the small ones, and rows are an odd number of cache lines long, so
that elements below each other do not evict each other.  Then a repetition is three products:

    A = Xᵀ·X        C = a·I + b·A + c·A·A        X = X·C

A and C are symmetric in every bit, as the same products are added in the same order on both sides
of the diagonal.  So blocks below it are copies.

Threads compute blocks of a product, or rows of X, and wait for each other after each product.
Nothing here looks for signals: a step that has begun is completed.
"""

from libc.math cimport sqrt

from fastbp.kernels.dense cimport FBP_WORKSPACE
from fastbp.kernels.dispatch cimport (
    FBP_HIGHEST, fbp_gemm, fbp_matmul, fbp_muon_direction, fbp_newton_schulz, fbp_running_average,
    fbp_scale_to_unit, fbp_sum_of_squares, fbp_transpose, real, tier,
)
from fastbp.kernels.optimizers cimport SQUARES_BLOCK
from fastbp.kernels.threads cimport fbp_barrier, fbp_partition, run_team, threads_for

from . import checks, memory

# Rows and columns of a block of a symmetric product: a multiple of the widest vector.
cdef enum:
    BLOCK = 32
    CACHE_LINE = 64


cdef Py_ssize_t row_length(Py_ssize_t n, size_t size) noexcept nogil:
    """Elements from one row of n to the next: an odd number of cache lines."""
    cdef Py_ssize_t lines = (n * <Py_ssize_t>size + CACHE_LINE - 1) // CACHE_LINE
    return (lines | 1) * CACHE_LINE // <Py_ssize_t>size


cdef Py_ssize_t scratch_size(Py_ssize_t n_in, Py_ssize_t n_out, size_t size) noexcept nogil:
    """Elements of the scratch memory, which starts at a cache line; `size` is in bytes."""
    return 2 * (n_in + n_out) * row_length(min(n_in, n_out), size)


cdef Py_ssize_t n_squares(Py_ssize_t n_in, Py_ssize_t n_out) noexcept nogil:
    """The number of blocks whose squares are summed."""
    return (n_in * n_out + SQUARES_BLOCK - 1) // SQUARES_BLOCK


cdef double work_of(Py_ssize_t n_in, Py_ssize_t n_out, int steps) noexcept nogil:
    """The multiply-adds of a step."""
    cdef double high = max(n_in, n_out), wide = min(n_in, n_out)
    return steps * wide * wide * (1.5 * high + 0.5 * wide)


def needs(shapes, size):
    """What the updates of some matrices need in each step, one after the other.

    Parameters
    ----------
    shapes : list of tuple of int
    size : int
        Bytes of an element.

    Returns
    -------
    squares, scratch : int
        Numbers, and elements of scratch memory.
    work : float
        Multiply-adds, with as many steps of Newton and Schulz as is usual.
    """
    return (max([n_squares(shape[0], shape[1]) for shape in shapes], default=0),
            max([scratch_size(shape[0], shape[1], size) for shape in shapes], default=0),
            sum([work_of(shape[0], shape[1], 5) for shape in shapes], 0.0))


cdef MatrixStep matrix_step(Py_ssize_t n_in, Py_ssize_t n_out, double learning_rate,
                            const double *attributes) noexcept nogil:
    """A step with the attributes of muon in ops.def, but without memory."""
    return MatrixStep(
        n_in=n_in, n_out=n_out, W=NULL, G=NULL, B=NULL, clip=1, momentum=attributes[4],
        nesterov=attributes[5] != 0, steps=<int>attributes[6],
        keep=1 - learning_rate * attributes[0],
        rate=learning_rate * sqrt(max(1.0, <double>n_out / <double>n_in)),
        scratch=NULL, squares=NULL)


cdef void symmetric_product(Py_ssize_t n, Py_ssize_t k, Py_ssize_t row, const real *X,
                            const real *A, real *C, const fbp_worker *me,
                            real *workspace) noexcept nogil:
    """This thread's blocks of C = Xᵀ·X or, where there is an A, C = a·I + b·A + c·Xᵀ·X.

    X has k rows and n columns; `row` is the distance of the rows of all matrices.  Blocks are
    numbered row by row from the diagonal on, and those of one row are one product.
    """
    cdef Py_ssize_t first, stop, start = 0, block, i, i_end, j, j_end, height, width
    cdef Py_ssize_t n_blocks = (n + BLOCK - 1) // BLOCK
    cdef fbp_gemm product
    fbp_partition(me, n_blocks * (n_blocks + 1) // 2, 1, &first, &stop)
    for block in range(n_blocks):
        i = block * BLOCK
        j = i + max(first - start, 0) * BLOCK
        j_end = min(i + (stop - start) * BLOCK, n)
        start += n_blocks - block
        if j >= j_end:
            continue
        i_end = min(i + BLOCK, n)
        height, width = i_end - i, j_end - j
        product = fbp_gemm(
            m=height, n=width, k=k, A=X + i, a_row=1, a_col=row, B=X + j, b_row=row, b_col=1,
            bias=NULL, C=C + i * row + j, c_row=row, gradient=False, part=0,
            relu=False, relu_mask=NULL, precision=FBP_HIGHEST, over_rows=False)
        fbp_matmul(tier, &product, workspace)
        if A is not NULL:
            fbp_newton_schulz(tier, height, width, row, i - j, A + i * row + j, C + i * row + j)
        j = max(j, i_end)
        if j < j_end:
            fbp_transpose(tier, height, j_end - j, C + i * row + j, row, C + j * row + i, row)


cdef bint step_of_matrix(const MatrixStep *t, fbp_worker *me, real *workspace) noexcept nogil:
    """This thread's part of a step; `workspace` is its own, for products.

    Returns whether to continue, after a barrier.
    """
    cdef Py_ssize_t high = max(t.n_in, t.n_out), wide = min(t.n_in, t.n_out)
    cdef Py_ssize_t row = row_length(wide, sizeof(real)), first, stop, n, i
    cdef bint is_transposed = t.n_in < t.n_out
    cdef real *X = <real *>t.scratch
    cdef real *Y = X + high * row
    cdef real *A = Y + high * row
    cdef real *C = A + wide * row
    cdef real *W = <real *>t.W
    cdef fbp_gemm product
    cdef double total = 0, scale
    cdef int _step
    average_gradients(t, me, <real *>t.G, <real *>t.B, Y)
    if not fbp_barrier(me):
        return False
    for i in range(n_squares(t.n_in, t.n_out)):
        total += t.squares[i]
    scale = 1 / (sqrt(total) + 1e-7)
    fbp_partition(me, high, 1, &first, &stop)
    n = stop - first
    if is_transposed:
        for i in range(wide):
            fbp_scale_to_unit(tier, n, Y + i * high + first, Y + i * high + first, scale)
        fbp_transpose(tier, wide, n, Y + first, high, X + first * row, row)
    else:
        for i in range(first, stop):
            fbp_scale_to_unit(tier, wide, Y + i * wide, X + i * row, scale)
    if not fbp_barrier(me):
        return False
    for _step in range(t.steps):
        symmetric_product(wide, high, row, X, <const real *>NULL, A, me, workspace)
        if not fbp_barrier(me):
            return False
        symmetric_product(wide, wide, row, A, A, C, me, workspace)
        if not fbp_barrier(me):
            return False
        product = fbp_gemm(
            m=n, n=wide, k=wide, A=X + first * row, a_row=row, a_col=1, B=C, b_row=row, b_col=1,
            bias=NULL, C=Y + first * row, c_row=row, gradient=False, part=0,
            relu=False, relu_mask=NULL, precision=FBP_HIGHEST, over_rows=False)
        fbp_matmul(tier, &product, workspace)
        X, Y = Y, X
        if not fbp_barrier(me):
            return False
    if is_transposed:
        fbp_transpose(tier, n, wide, X + first * row, row, Y + first, high)
        for i in range(wide):
            fbp_running_average(tier, n, W + i * high + first, Y + i * high + first, t.keep,
                                -t.rate)
    else:
        for i in range(first, stop):
            fbp_running_average(tier, wide, W + i * wide, X + i * row, t.keep, -t.rate)
    return fbp_barrier(me)


cdef void average_gradients(const MatrixStep *t, const fbp_worker *me, real *G, real *B,
                            real *U) noexcept nogil:
    """This thread's blocks of B and U, and the sums of U's squares."""
    cdef Py_ssize_t first, stop, block, start, n, i
    cdef real factor = <real>t.clip
    fbp_partition(me, n_squares(t.n_in, t.n_out), 1, &first, &stop)
    for block in range(first, stop):
        start = block * SQUARES_BLOCK
        n = min(t.n_in * t.n_out - start, SQUARES_BLOCK)
        if t.clip != 1:
            for i in range(start, start + n):
                G[i] *= factor
        fbp_muon_direction(tier, n, G + start, B + start, U + start, t.momentum, t.nesterov)
        t.squares[block] = fbp_sum_of_squares(tier, n, U + start)


cdef struct Alone:
    MatrixStep step
    void *for_products     # FBP_WORKSPACE elements for each thread


cdef void floats_alone(void *work, fbp_worker *me) noexcept nogil:
    cdef Alone *alone = <Alone *>work
    step_of_matrix(&alone.step, me, <float *>alone.for_products + me.part * FBP_WORKSPACE)


cdef void doubles_alone(void *work, fbp_worker *me) noexcept nogil:
    cdef Alone *alone = <Alone *>work
    step_of_matrix(&alone.step, me, <double *>alone.for_products + me.part * FBP_WORKSPACE)


cdef int step_alone(MatrixStep step, real[:, ::1] W, const real[:, ::1] G,
                    real[:, ::1] B) except -1:
    """A step with a team and memory of its own."""
    cdef Alone alone
    cdef Py_ssize_t n_in = step.n_in, n_out = step.n_out
    cdef int threads = threads_for(work_of(n_in, n_out, step.steps))
    block, starts = memory.workspace([
        scratch_size(n_in, n_out, sizeof(real)) * sizeof(real),
        n_squares(n_in, n_out) * sizeof(double), threads * FBP_WORKSPACE * sizeof(real)])
    cdef unsigned char[::1] whole = block
    step.W, step.G, step.B = &W[0, 0], <void *>&G[0, 0], &B[0, 0]
    step.scratch, step.squares = &whole[0], <double *>&whole[<Py_ssize_t>starts[1]]
    alone.step = step
    alone.for_products = &whole[<Py_ssize_t>starts[2]]
    with nogil:
        run_team(threads, floats_alone if real is float else doubles_alone, &alone)
    return 0


def _check_steps(steps):
    return checks.integer("steps", steps, 1, 100)


def muon_step(W, G, m, *, learning_rate, momentum=0.95, nesterov=True, steps=5,
              weight_decay=0.0):
    """One step of Muon for the weights of a dense layer, in place.

    ::

        m = momentum·m + (1 - momentum)·G
        W = W - learning_rate·weight_decay·W
        W = W - learning_rate·√max(1, n_out / n_in)·orthogonalize(U, steps)

    where U is m or, with Nesterov's momentum, ``momentum·m + (1 - momentum)·G``.

    Parameters
    ----------
    W : ndarray of shape (n_in, n_out), float32 or float64
        Changed in place.
    G : array_like of shape (n_in, n_out), same dtype
        The gradient.
    m : ndarray of shape (n_in, n_out), same dtype
        The average of the gradients, zeros before the first step; changed in place.
    learning_rate : float, at least 0
    momentum : float in [0, 1), default 0.95
    nesterov : bool, default True
    steps : int of at least 1, default 5
        Of Newton and Schulz.
    weight_decay : float, at least 0, default 0.0

    Raises
    ------
    TypeError
        If dtypes differ or are neither float32 nor float64, an array that is changed is no
        ndarray, `nesterov` is not a bool, or `steps` is not an integer.
    ValueError
        If shapes differ, arrays overlap, an array that is changed is read-only or not contiguous,
        or a number is out of range.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> import numpy as np
    >>> from fastbp import kernels
    >>> W, m = np.zeros((2, 2)), np.zeros((2, 2))
    >>> kernels.muon_step(W, [[3.0, 0.0], [0.0, -4.0]], m, learning_rate=0.1)
    >>> (abs(W) > 0.06).tolist(), np.sign(W).tolist()
    ([[True, False], [False, True]], [[-1.0, 0.0], [0.0, 1.0]])
    """
    learning_rate = checks.number("learning_rate", learning_rate, 0)
    momentum = checks.number("momentum", momentum, 0, 1, high_open=True)
    weight_decay = checks.number("weight_decay", weight_decay, 0)
    nesterov, steps = checks.boolean("nesterov", nesterov), _check_steps(steps)
    checks.writable("W", W)
    if W.ndim != 2:
        raise ValueError(f"W: expected 2 dimensions, got {W.ndim} (shape {W.shape}); pass the "
                         f"weights of one dense layer")
    G = checks.floats("G", G, 2, W.dtype)
    checks.shape("G", G, W.shape, "like W")
    checks.writable("m", m, W.dtype)
    checks.output(m, W.shape, W.dtype, "m", W=W, G=G)
    checks.output(W, W.shape, W.dtype, "W", G=G)
    if W.size == 0:
        return
    cdef double[7] attributes = [weight_decay, 0, 0, 0, momentum, nesterov, steps]
    cdef MatrixStep step = matrix_step(W.shape[0], W.shape[1], learning_rate, attributes)
    if W.dtype == "f4":
        step_alone[float](step, W, G, m)
    else:
        step_alone[double](step, W, G, m)


def orthogonalize(G, steps=5, *, out=None):
    """A matrix with the singular vectors of G, and singular values near 1.

    With singular values of ``G = U·S·Vᵀ`` that are not much smaller than the largest, it is close
    to ``U·Vᵀ``, the nearest matrix with orthonormal rows or columns: after 5 steps its singular
    values are between 0.6 and 1.3.  Much smaller ones grow by a factor of 3.4445 in each step.

    Parameters
    ----------
    G : array_like of shape (m, n), float32 or float64
    steps : int of at least 1, default 5
        Of Newton and Schulz: ``X = a·X + (b·A + c·A²)·X``, where ``A = X·Xᵀ``, a = 3.4445,
        b = -4.7750 and c = 2.0315, starting from ``G / (‖G‖ + 1e-7)``.
    out : ndarray of shape (m, n), optional
        Where to write the result; C-contiguous, and must not overlap `G`.

    Returns
    -------
    X : ndarray of shape (m, n)
        Zeros if G is.

    Raises
    ------
    TypeError
        If the dtype is neither float32 nor float64, or `steps` is not an integer.
    ValueError
        If G has not two dimensions, `steps` is out of range, or `out` cannot hold the result.

    References
    ----------
    K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024,
    https://kellerjordan.github.io/posts/muon/.

    Examples
    --------
    >>> from fastbp import kernels
    >>> kernels.orthogonalize([[3.0, 0.0], [0.0, -4.0]]).round().tolist()
    [[1.0, 0.0], [0.0, -1.0]]
    """
    G, steps = checks.floats("G", G, 2), _check_steps(steps)
    X = checks.output(out, G.shape, G.dtype, G=G)
    if X.size == 0:
        return X
    X[...] = 0
    B = memory.aligned(G.shape, G.dtype)
    # A step of weights that are 0, without momentum.
    cdef double[7] attributes = [0, 0, 0, 0, 0, 0, steps]
    cdef MatrixStep step = matrix_step(G.shape[0], G.shape[1], 0, attributes)
    step.rate = -1
    if G.dtype == "f4":
        step_alone[float](step, X, G, B)
    else:
        step_alone[double](step, X, G, B)
    return X
