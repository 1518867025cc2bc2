/* A team of threads that works on one piece of work together.
 *
 * A task is called once in each thread of the team and does its own part: some elements of
 * the output, which no other thread computes.  So results do not depend on how many there
 * are.  Only part 0, the thread that called, may take the GIL, and so be interrupted.
 */
#ifndef FBP_TEAM_H
#define FBP_TEAM_H

#include <stddef.h>
#ifdef _OPENMP
#include <omp.h>
#define FBP_OPENMP _OPENMP
#else
#define FBP_OPENMP 0
#endif

typedef struct {
    int interrupted; /* part 0 has an exception to raise */
    int stopping[2]; /* what the members were told at the last barriers */
} fbp_team;

typedef struct {
    fbp_team *team;
    int part, parts;
    unsigned barriers; /* that this member has passed */
} fbp_member;

typedef void (*fbp_task)(void *work, fbp_member *me);

/* Run a task in at most so many threads.  Whether it was interrupted. */
static inline int fbp_run_team(int threads, fbp_task task, void *work)
{
    fbp_team team = {0, {0, 0}};
#ifdef _OPENMP
    if (threads > 1) {
#pragma omp parallel num_threads(threads)
        {
            fbp_member me = {&team, omp_get_thread_num(), omp_get_num_threads(), 0};
            task(work, &me);
        }
        return team.interrupted;
    }
#endif
    (void)threads;
    fbp_member me = {&team, 0, 1, 0};
    task(work, &me);
    return team.interrupted;
}

static inline void fbp_interrupt(fbp_member *me)
{
    __atomic_store_n(&me->team->interrupted, 1, __ATOMIC_RELAXED);
}

/* Whether this member may as well leave off; the others find out in their own time. */
static inline int fbp_interrupted(const fbp_member *me)
{
    return __atomic_load_n(&me->team->interrupted, __ATOMIC_RELAXED);
}

/* Wait until all have come this far.  Whether to go on, the same answer for all: what part 0
 * writes for one barrier nobody reads at the next. */
static inline int fbp_meet(fbp_member *me)
{
    if (me->parts == 1) return !me->team->interrupted;
    int *stopping = &me->team->stopping[me->barriers++ % 2];
    if (me->part == 0) *stopping = me->team->interrupted;
#ifdef _OPENMP
#pragma omp barrier
#endif
    return !*stopping;
}

/* This member's part of n things, cut only at multiples of `grain`. */
static inline void fbp_share(const fbp_member *me, ptrdiff_t n, ptrdiff_t grain, ptrdiff_t *first,
                             ptrdiff_t *stop)
{
    const ptrdiff_t grains = (n + grain - 1) / grain;
    *first = grains * me->part / me->parts * grain;
    *stop = grains * (me->part + 1) / me->parts * grain;
    if (*first > n) *first = n;
    if (*stop > n) *stop = n;
}
#endif
