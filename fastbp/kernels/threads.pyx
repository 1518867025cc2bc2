"""Teams of threads, and how many threads a piece of work gets.

The limit is, in order of precedence, that of the call (`using`), that of `set_num_threads`, or
OpenMP's default, which depends on OMP_NUM_THREADS, the CPUs this process may use and threadpoolctl.
Small work gets fewer threads, and concurrent teams share the CPUs.  Results never depend on the
number of threads.
"""

import os

from . import checks

cdef extern from *:
    """
    #ifdef _OPENMP
    static int fbp_openmp_threads(void)
    {
        const int most = omp_get_max_threads(), limit = omp_get_thread_limit();
        return most < limit ? most : limit;
    }
    static int fbp_processors(void) { return omp_get_num_procs(); }
    #else
    static int fbp_openmp_threads(void) { return 1; }
    static int fbp_processors(void) { return 1; }
    #endif
    /* The limit of this thread's current call, or 0. */
    static _Thread_local int fbp_asked = 0;
    /* How many calls, each from a thread of its own, share this thread's limit. */
    static _Thread_local int fbp_sharing = 1;
    /* Teams running in this process. */
    static _Atomic int fbp_running = 0;
    static int fbp_teams(void) { return fbp_running; }
    static void fbp_enter(void) { fbp_running++; }
    static void fbp_leave(void) { fbp_running--; }
    static void fbp_forget(void) { fbp_running = 0; }
    """
    int fbp_openmp_threads() noexcept nogil
    int fbp_processors() noexcept nogil
    int fbp_asked
    int fbp_sharing
    int fbp_teams() noexcept nogil
    void fbp_enter() noexcept nogil
    void fbp_leave() noexcept nogil
    void fbp_forget() noexcept nogil

cdef extern from "team.h" nogil:
    void fbp_interrupt(fbp_worker *me) noexcept

cdef extern from "Python.h":
    # Without Cython's check, so that the exception stays set for the end of the task.
    int PyErr_CheckSignals() noexcept

# The most threads that may be asked for; more would be a mistake.
MOST = 1024

# The limit from `set_num_threads`, or 0.
cdef int preferred = 0

# A forked process has none of its parent's threads, and OpenMP may wait for them forever.
cdef bint forked = False

# Multiply-adds that are worth a thread: about twenty microseconds of work.
cdef double work_per_thread = 1 << 20


def _after_fork():
    global forked
    forked = True
    fbp_forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef int limit() noexcept nogil:
    """The most threads that a call from this thread may use."""
    if not FBP_OPENMP or forked:
        return 1
    if fbp_asked > 0:
        return fbp_asked
    if preferred > 0:
        return preferred
    return min(fbp_openmp_threads(), fbp_processors())


cdef int most_threads_for(double work) noexcept nogil:
    """The number of threads for so many multiply-adds, if nothing else runs."""
    if work_per_thread == 0:
        return limit()
    cdef double paid = work / work_per_thread
    return 1 if paid < 2 else <int>min(paid, max(1, min(limit(), fbp_processors())))


cdef int threads_for(double work) noexcept nogil:
    """The number of threads for so many multiply-adds, at most a share of the processors."""
    cdef int most = most_threads_for(work)
    if work_per_thread == 0 or most == 1:
        return most
    return min(most, max(1, min(limit() // fbp_sharing, fbp_processors() // (fbp_teams() + 1))))


cdef int run_team(int threads, fbp_task task, void *work) except -1 nogil:
    """Run a task in a team; raise an exception that a signal handler raised meanwhile."""
    fbp_enter()
    cdef int raised = fbp_run_team(threads, task, work)
    fbp_leave()
    return -1 if raised else 0


cdef bint check_signals(fbp_worker *me) noexcept nogil:
    """Handle pending signals, such as Ctrl-C.  Returns whether to continue."""
    if me.part == 0 and not fbp_interrupted(me):
        with gil:
            if PyErr_CheckSignals() != 0:
                fbp_interrupt(me)
    return not fbp_interrupted(me)


def get_num_threads():
    """The largest number of threads for fitting and predicting, unless a call sets another.

    Small work gets fewer threads, and none gets more than there are CPUs.

    Returns
    -------
    int
        The limit from `set_num_threads`, or else OpenMP's default: the smallest of
        ``OMP_NUM_THREADS``, ``OMP_THREAD_LIMIT`` and the number of CPUs that this process
        may run on.  It is 1 in a forked process, and where the compiler had no OpenMP.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.get_num_threads() >= 1
    True
    """
    return limit()


def set_num_threads(n_threads):
    """Set the most threads that fitting and predicting use.

    Small work gets fewer threads.  Results do not depend on the number.

    Parameters
    ----------
    n_threads : int or None
        None restores OpenMP's default.

    Raises
    ------
    TypeError
        If `n_threads` is not an integer.
    ValueError
        If it is below 1 or too large.

    Examples
    --------
    >>> import fastbp as fb
    >>> fb.set_num_threads(1)
    >>> fb.get_num_threads()
    1
    >>> fb.set_num_threads(None)
    """
    global preferred
    preferred = 0 if n_threads is None else checks.integer("n_threads", n_threads, 1, MOST)


class using:
    """Context manager: calls from this thread use at most so many threads; None changes nothing.

    With `shared_by`, so many calls share these threads, each from a thread of its own.
    """

    def __init__(self, n_threads, shared_by=1):
        if n_threads is not None:
            n_threads = checks.integer("n_threads", n_threads, 1, MOST)
        self.n_threads = n_threads
        self.shared_by = checks.integer("shared_by", shared_by, 1, MOST)

    def __enter__(self):
        global fbp_asked, fbp_sharing
        self.before = fbp_asked, fbp_sharing
        if self.n_threads is not None:
            fbp_asked = self.n_threads
            fbp_sharing = self.shared_by

    def __exit__(self, *error):
        global fbp_asked, fbp_sharing
        fbp_asked, fbp_sharing = self.before


def set_work_per_thread(double multiply_adds):
    """Set how much work is worth a thread, for tests and benchmarks.

    Parameters
    ----------
    multiply_adds : float
        0 gives any work the most threads allowed, even more than there are processors.

    Returns
    -------
    float
        The previous value.
    """
    global work_per_thread
    before = work_per_thread
    work_per_thread = multiply_adds
    return before
