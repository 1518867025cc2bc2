/* A team of threads that works on one piece of work together.
 *
 * A task is called once in each thread of the team and does its own part: some elements of
 * the output, which no other thread computes.  So results do not depend on the number of
 * threads.  Only part 0, the calling thread, may take the GIL, and so notice an interrupt.
 */
#ifndef FBP_TEAM_H
#define FBP_TEAM_H

#include "platform.h"

#ifdef _OPENMP
#include <omp.h>
#define FBP_OPENMP _OPENMP
#else
#define FBP_OPENMP 0
#endif

/* What several members may set at the same time. */
typedef atomic_int fbp_flag;

typedef struct {
    fbp_flag interrupted; /* part 0 has an exception to raise */
    int stopping;         /* whether to stop, as all members are told at a barrier */
    atomic_int arrived;   /* members, at the barrier that is to be passed */
    atomic_int passed;    /* barriers so far; wraps around */
    atomic_int asleep;    /* members that have given up spinning and sleep */
    fbp_monitor monitor;  /* where they sleep */
} fbp_team;

/* How often a member polls the barrier before it sleeps. */
enum { FBP_MOST_SPINS = 2000, FBP_LEAST_SPINS = 100 };

typedef struct {
    fbp_team *team;
    int part, parts;
    int spin_limit;
} fbp_worker;

typedef void (*fbp_task)(void *work, fbp_worker *me);

/* Run a task in at most so many threads.  Returns whether it was interrupted. */
static inline int fbp_run_team(int threads, fbp_task task, void *work)
{
    fbp_team team = {.monitor = FBP_MONITOR_INIT};
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            fbp_worker me = {&team, omp_get_thread_num(), omp_get_num_threads(), FBP_MOST_SPINS};
            task(work, &me);
        }
        return team.interrupted;
    }
#endif
    (void)threads;
    fbp_worker me = {&team, 0, 1, 0};
    task(work, &me);
    return team.interrupted;
}

/* Set a flag; read it after the next barrier. */
static inline void fbp_set_flag(fbp_flag *flag)
{
    atomic_store_explicit(flag, 1, memory_order_relaxed);
}

static inline void fbp_interrupt(fbp_worker *me) { fbp_set_flag(&me->team->interrupted); }

/* Whether this member may stop early, as the task was interrupted; others may not know yet. */
static inline int fbp_interrupted(const fbp_worker *me)
{
    return atomic_load_explicit(&me->team->interrupted, memory_order_relaxed);
}

/* Wait for all members.  Returns whether to continue, the same answer for all.
 *
 * The others are usually close, so a member first spins, for some tens of microseconds at most.
 * Then it sleeps, as on a busy machine the one it waits for may need its CPU.  The more often it
 * had to sleep, the less it spins.  An OpenMP barrier would spin for many time slices of the
 * scheduler, so that two teams on the same CPUs would hardly make progress. */
static inline int fbp_barrier(fbp_worker *me)
{
    fbp_team *team = me->team;
    if (me->parts == 1) return !fbp_interrupted(me); /* though others may be in the team */
    const int passed = atomic_load_explicit(&team->passed, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == me->parts) {
        /* The last to arrive; the others wait until it has counted the barrier. */
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        team->stopping = fbp_interrupted(me);
        atomic_store(&team->passed, passed + 1);
        if (atomic_load(&team->asleep)) {
            fbp_monitor_enter(&team->monitor);
            fbp_monitor_wake_all(&team->monitor);
            fbp_monitor_leave(&team->monitor);
        }
        return !team->stopping;
    }
    for (int i = 0; i < me->spin_limit; i++) {
        if (atomic_load_explicit(&team->passed, memory_order_acquire) != passed) {
            me->spin_limit = FBP_MOST_SPINS;
            return !team->stopping;
        }
        fbp_pause();
    }
    if (me->spin_limit > FBP_LEAST_SPINS) me->spin_limit /= 2;
    fbp_monitor_enter(&team->monitor);
    atomic_fetch_add(&team->asleep, 1);
    while (atomic_load(&team->passed) == passed) fbp_monitor_wait(&team->monitor);
    atomic_fetch_sub(&team->asleep, 1);
    fbp_monitor_leave(&team->monitor);
    return !team->stopping;
}

/* This member's part of n things, split only at multiples of `grain`. */
static inline void fbp_partition(const fbp_worker *me, ptrdiff_t n, ptrdiff_t grain,
                                 ptrdiff_t *first, ptrdiff_t *stop)
{
    if (me->parts == 1) { /* a member that works alone may have any number */
        *first = 0, *stop = n;
        return;
    }
    const ptrdiff_t grains = (n + grain - 1) / grain;
    *first = grains * me->part / me->parts * grain;
    *stop = grains * (me->part + 1) / me->parts * grain;
    if (*first > n) *first = n;
    if (*stop > n) *stop = n;
}
#endif
