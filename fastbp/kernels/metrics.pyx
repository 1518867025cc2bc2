"""The sums that metrics are computed from, in float64 and in the order of the rows.

Each function but `weighted_mean` adds to sums that the caller passes in for every batch.
"""

from fastbp.kernels.dispatch cimport fbp_largest_at_label, tier

cdef enum:
    ROWS = 64  # whose scores are looked at in one call


cdef void count_labels(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                       const int64_t *labels, const real *weights,
                       double *sums) noexcept nogil:
    """sums[0] += weights of the rows whose largest score is at their label; sums[1] += all."""
    cdef int64_t largest[ROWS]
    cdef unsigned char right[ROWS]
    cdef const int64_t *places
    cdef Py_ssize_t first = 0, rows, i
    cdef double weight
    while first < m:
        rows = min(m - first, <Py_ssize_t>ROWS)
        places = labels + first
        if labels is NULL:
            places = largest
            for i in range(rows):
                largest[i] = argmax(n, Y + (first + i) * n)
        fbp_largest_at_label(tier, rows, n, Z + first * n, places, right)
        for i in range(rows):
            weight = 1.0 if weights is NULL else weights[first + i]
            sums[0] += weight * right[i]
            sums[1] += weight
        first += rows


cdef inline Py_ssize_t argmax(Py_ssize_t n, const real *z) noexcept nogil:
    """The first of the largest; a NaN is larger than any number, as in NumPy."""
    cdef Py_ssize_t j, best = 0
    cdef real largest = z[0]
    cdef bint larger
    for j in range(1, n):
        # Without a branch, which would be mispredicted.
        larger = (not z[j] <= largest) & (largest == largest)
        best = j if larger else best
        largest = z[j] if larger else largest
    return best


cdef void count_signs(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                      const real *weights, bint whole_rows, double *sums) noexcept nogil:
    """sums[0] += weighted share of each row's outputs with the right sign; sums[1] += its weight.

    With `whole_rows` a row counts only if all its outputs have the right sign.
    """
    cdef Py_ssize_t i, j, right
    cdef double weight
    for i in range(m):
        right = 0
        for j in range(n):
            right += (Z[i * n + j] > 0) == (Y[i * n + j] > 0.5)
        weight = 1.0 if weights is NULL else weights[i]
        if not whole_rows:
            sums[0] += weight * (<double>right / <double>n)
        elif right == n:
            sums[0] += weight
        sums[1] += weight


cdef void add_squares(Py_ssize_t m, Py_ssize_t n, const real *Z, const real *Y,
                      const real *weights, const double *mean, double *sums) noexcept nogil:
    """sums[j] += Σᵢ w (z - y)² and sums[n + j] += Σᵢ w (y - mean)², for each output j."""
    cdef Py_ssize_t i, j
    cdef double weight, residual, deviation
    for i in range(m):
        weight = 1.0 if weights is NULL else weights[i]
        if weight == 0:  # 0 times infinity would be NaN
            continue
        for j in range(n):
            residual = <double>Z[i * n + j] - <double>Y[i * n + j]
            deviation = <double>Y[i * n + j] - mean[j]
            sums[j] += weight * (residual * residual)
            sums[n + j] += weight * (deviation * deviation)


cdef check(const real[:, ::1] Z, Py_ssize_t rows, Py_ssize_t columns, const real[::1] weights,
           const double[::1] sums, Py_ssize_t n_sums):
    """Raise unless the arrays have the lengths that the sums need."""
    if rows != Z.shape[0] or columns != Z.shape[1] or Z.shape[1] == 0:
        raise ValueError(f"targets: expected {Z.shape[0]} rows of {Z.shape[1]} columns like the "
                         f"scores, got {rows} of {columns}")
    if weights is not None and weights.shape[0] != rows:
        raise ValueError(f"sample_weight: expected {rows} numbers, got {weights.shape[0]}")
    if sums.shape[0] != n_sums:
        raise ValueError(f"sums: expected {n_sums} numbers, got {sums.shape[0]}")


def add_labels(const real[:, ::1] Z, const int64_t[::1] labels, const real[::1] weights,
               double[::1] sums):
    """Add the weights of correctly classified rows to ``sums[0]``, and of all to ``sums[1]``."""
    check(Z, labels.shape[0], Z.shape[1], weights, sums, 2)
    count_labels(Z.shape[0], Z.shape[1], &Z[0, 0], <const real *>NULL, &labels[0],
                 <const real *>NULL if weights is None else &weights[0], &sums[0])


def add_label_rows(const real[:, ::1] Z, const real[:, ::1] Y, const real[::1] weights,
                   double[::1] sums):
    """As `add_labels`; a row's label is the column of its largest target."""
    check(Z, Y.shape[0], Y.shape[1], weights, sums, 2)
    count_labels(Z.shape[0], Z.shape[1], &Z[0, 0], &Y[0, 0], <const int64_t *>NULL,
                 <const real *>NULL if weights is None else &weights[0], &sums[0])


def add_sign_rows(const real[:, ::1] Z, const real[:, ::1] Y, const real[::1] weights,
                  bint whole_rows, double[::1] sums):
    """Add weighted shares of outputs with the right sign to ``sums[0]``, weights to ``sums[1]``.

    With `whole_rows` a row counts only if all its outputs have the right sign.
    """
    check(Z, Y.shape[0], Y.shape[1], weights, sums, 2)
    count_signs(Z.shape[0], Z.shape[1], &Z[0, 0], &Y[0, 0],
                <const real *>NULL if weights is None else &weights[0], whole_rows, &sums[0])


def add_square_rows(const real[:, ::1] Z, const real[:, ::1] Y, const real[::1] weights,
                    const double[::1] mean, double[::1] sums):
    """Add squared residuals to ``sums[:n]``, squared deviations from `mean` to ``sums[n:]``."""
    check(Z, Y.shape[0], Y.shape[1], weights, sums, 2 * Z.shape[1])
    if mean.shape[0] != Z.shape[1]:
        raise ValueError(f"mean: expected {Z.shape[1]} numbers, got {mean.shape[0]}")
    add_squares(Z.shape[0], Z.shape[1], &Z[0, 0], &Y[0, 0],
                <const real *>NULL if weights is None else &weights[0], &mean[0], &sums[0])


def weighted_mean(const real[:, ::1] Y, const real[::1] weights, double[::1] mean):
    """mean[j] = Σᵢ wᵢ·yᵢⱼ / Σᵢ wᵢ, in float64 in the order of the rows.

    Differences from the first row are added up, so that the mean of equal numbers is exact.
    """
    check(Y, Y.shape[0], Y.shape[1], weights, mean, Y.shape[1])
    if Y.shape[0] == 0:
        raise ValueError("targets: expected at least one row, got none")
    cdef Py_ssize_t i, j
    cdef double weight, total = 0
    mean[:] = 0
    for i in range(Y.shape[0]):
        weight = 1.0 if weights is None else weights[i]
        total += weight
        for j in range(Y.shape[1]):
            mean[j] += weight * (<double>Y[i, j] - <double>Y[0, j])
    for j in range(Y.shape[1]):
        mean[j] = Y[0, j] + mean[j] / total
