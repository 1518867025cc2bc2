"""Teams of threads (team.h), and how many threads a piece of work gets."""

cdef extern from "team.h" nogil:
    int FBP_OPENMP

    ctypedef struct fbp_worker:
        int part, parts

    ctypedef void (*fbp_task)(void *work, fbp_worker *me) noexcept nogil

    bint fbp_run_team(int threads, fbp_task task, void *work) noexcept
    ctypedef bint fbp_flag

    bint fbp_interrupted(const fbp_worker *me) noexcept
    void fbp_set_flag(fbp_flag *flag) noexcept
    bint fbp_barrier(fbp_worker *me) noexcept
    void fbp_partition(const fbp_worker *me, Py_ssize_t n, Py_ssize_t grain,
                       Py_ssize_t *first, Py_ssize_t *stop) noexcept

cdef int run_team(int threads, fbp_task task, void *work) except -1 nogil
cdef int most_threads_for(double work) noexcept nogil
cdef int threads_for(double work) noexcept nogil
cdef bint check_signals(fbp_worker *me) noexcept nogil
