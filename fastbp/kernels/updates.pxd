from fastbp.kernels.dispatch cimport int64_t, real
from fastbp.kernels.stages cimport Plan, Run
from fastbp.kernels.threads cimport fbp_worker

cdef bint is_safe(const Run *run, const double *rates, double size, double decay_size,
                  const real *parameters) noexcept nogil
cdef bint penalize(Run *run, fbp_worker *me, Py_ssize_t m, real *parameters,
                   real *gradients) noexcept nogil
cdef bint size_of(const Run *run, fbp_worker *me, const real *X, double *size) noexcept nogil
cdef bint bound_of(Run *run, fbp_worker *me, Py_ssize_t m, const real *parameters,
                   const real *gradients, double *size) noexcept nogil
cdef bint update(const Run *run, fbp_worker *me, const double *rates, double norm, int64_t step,
                 real *parameters, real *gradients, real *workspace) noexcept nogil
cdef void update_fused(const Run *run, const fbp_worker *me, Py_ssize_t m, const double *rates,
                       int64_t step, real *parameters, const real *gradients,
                       real *workspace) noexcept nogil
cdef void add_layer_norms(const Plan *plan, const real *gradients,
                          double *norms) noexcept nogil
