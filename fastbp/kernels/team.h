/* A team of threads that works on one piece of work together.
 *
 * A task is called once in each thread of the team and does its own part: some elements of
 * the output, which no other thread computes.  So results do not depend on the number of
 * threads.  Only part 0, the calling thread, may take the GIL, and so notice an interrupt.
 */
#ifndef FBP_TEAM_H
#define FBP_TEAM_H

#include <pthread.h>
#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#define FBP_OPENMP _OPENMP
#else
#define FBP_OPENMP 0
#endif

typedef struct {
    int interrupted; /* part 0 has an exception to raise */
    int stopping;    /* whether to stop, as all members are told at a barrier */
    int arrived;     /* members, at the barrier that is to be passed */
    int passed;      /* barriers so far; wraps around */
    int asleep;      /* members that have given up spinning and sleep */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
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
    fbp_team team = {.mutex = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER};
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

static inline void fbp_interrupt(fbp_worker *me)
{
    __atomic_store_n(&me->team->interrupted, 1, __ATOMIC_RELAXED);
}

/* Whether this member may stop early, as the task was interrupted; others may not know yet. */
static inline int fbp_interrupted(const fbp_worker *me)
{
    return __atomic_load_n(&me->team->interrupted, __ATOMIC_RELAXED);
}

/* Set a flag that other members may set at the same time; read it after the next barrier. */
static inline void fbp_set_flag(int *flag) { __atomic_store_n(flag, 1, __ATOMIC_RELAXED); }

static inline void fbp_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
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
    const int passed = __atomic_load_n(&team->passed, __ATOMIC_RELAXED);
    if (__atomic_add_fetch(&team->arrived, 1, __ATOMIC_ACQ_REL) == me->parts) {
        /* The last to arrive; the others wait until it has counted the barrier. */
        __atomic_store_n(&team->arrived, 0, __ATOMIC_RELAXED);
        team->stopping = fbp_interrupted(me);
        __atomic_store_n(&team->passed, passed + 1, __ATOMIC_SEQ_CST);
        if (__atomic_load_n(&team->asleep, __ATOMIC_SEQ_CST)) {
            pthread_mutex_lock(&team->mutex);
            pthread_cond_broadcast(&team->wake);
            pthread_mutex_unlock(&team->mutex);
        }
        return !team->stopping;
    }
    for (int i = 0; i < me->spin_limit; i++) {
        if (__atomic_load_n(&team->passed, __ATOMIC_ACQUIRE) != passed) {
            me->spin_limit = FBP_MOST_SPINS;
            return !team->stopping;
        }
        fbp_pause();
    }
    if (me->spin_limit > FBP_LEAST_SPINS) me->spin_limit /= 2;
    pthread_mutex_lock(&team->mutex);
    __atomic_add_fetch(&team->asleep, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&team->passed, __ATOMIC_SEQ_CST) == passed)
        pthread_cond_wait(&team->wake, &team->mutex);
    __atomic_sub_fetch(&team->asleep, 1, __ATOMIC_SEQ_CST);
    pthread_mutex_unlock(&team->mutex);
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
