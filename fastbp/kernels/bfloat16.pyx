"""Matrix products of reduced precision: which operand is packed when.

simd/bfloat16.h says what they compute.  Each tier packs rows of A and columns of B, rounded, in an
order of its own, and multiplies what is packed.  The smaller operand, or as much of it as stays in
a level-2 cache, is packed and kept; of the other one a panel at a time is packed and multiplied, so
that a matrix of weights is read once, in float32, and written nowhere.
"""

from fastbp.kernels.dispatch cimport (
    fbp_packed_size, fbp_packed_stride, fbp_take_columns, fbp_take_rows, tier,
)
from fastbp.kernels.threads cimport check_signals

# Rows or columns of a panel, and the most numbers of the operand that is kept.
cdef enum:
    PANEL = 64
    KEPT = 33 << 14


cdef Py_ssize_t kept_lines(Py_ssize_t k, int precision) noexcept nogil:
    """How many rows or columns are kept at a time, at most."""
    return max(PANEL, KEPT // fbp_packed_stride(k, precision) // PANEL * PANEL)


cdef Py_ssize_t packing_space(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                              int precision) noexcept nogil:
    """The workspace, in elements, that `matmul_bf16` needs at most for a product or a part of it,
    and for a shorter sum: a smaller k may keep more lines, and with them more numbers."""
    cdef Py_ssize_t panel = fbp_packed_size(PANEL, k, precision)
    return min(fbp_packed_size(min(m, n), k, precision), max(<Py_ssize_t>KEPT, panel)) + panel


cdef inline void narrow(fbp_gemm *product, bint to_rows, Py_ssize_t first,
                        Py_ssize_t stop) noexcept nogil:
    if to_rows:
        fbp_take_rows(product, first, stop, sizeof(float))
    else:
        fbp_take_columns(product, first, stop, sizeof(float))


cdef inline void pack(const fbp_gemm *product, bint rows, float *packed) noexcept nogil:
    if rows:
        tier.bf16.pack_a(product, packed)
    else:
        tier.bf16.pack_b(product, packed)


cdef bint matmul_bf16(fbp_gemm product, fbp_worker *me, float *workspace) noexcept nogil:
    """Compute a product in this thread alone.  Returns whether to continue: see `matmul`."""
    cdef bint keeps_a = product.m <= product.n
    cdef Py_ssize_t n_kept = product.m if keeps_a else product.n
    cdef Py_ssize_t n_others = product.n if keeps_a else product.m
    cdef Py_ssize_t kept = min(n_kept, kept_lines(product.k, product.precision))
    cdef Py_ssize_t first = 0, start, stop, work = 0
    cdef float *panel = workspace + fbp_packed_size(kept, product.k, product.precision)
    cdef fbp_gemm block, part
    if product.m == 1 and product.b_col == 1 and not product.over_rows:
        tier.bf16.row(&product)
        return True
    while first < n_kept:
        block = product
        narrow(&block, keeps_a, first, min(first + kept, n_kept))
        pack(&block, keeps_a, workspace)
        start = 0
        while start < n_others:
            stop = min(start + PANEL, n_others)
            part = block
            narrow(&part, not keeps_a, start, stop)
            pack(&part, not keeps_a, panel)
            if keeps_a:
                tier.bf16.multiply(&part, workspace, panel)
            else:
                tier.bf16.multiply(&part, panel, workspace)
            work += part.m * part.n * part.k
            if work >= tier.work_per_look:
                work = 0
                if not check_signals(me):
                    return False
            start = stop
        first += kept
    return True


cdef Py_ssize_t fused_space(Py_ssize_t n, Py_ssize_t batch, int precision) noexcept nogil:
    """The workspace for dW (…, n) that is computed a panel of rows at a time, all of dZ packed."""
    return fbp_packed_size(n, batch, precision) + fbp_packed_size(PANEL, batch, precision)


cdef void multiply_panel(fbp_gemm product, const float *packed_b, float *room) noexcept nogil:
    """Some rows of a product, whose B is packed already; `room` is for PANEL rows of A."""
    cdef Py_ssize_t start = 0, stop
    cdef fbp_gemm part
    while start < product.m:
        stop = min(start + PANEL, product.m)
        part = product
        fbp_take_rows(&part, start, stop, sizeof(float))
        tier.bf16.pack_a(&part, room)
        tier.bf16.multiply(&part, room, packed_b)
        start = stop
