/* The kernels without Python: every tier that runs here must give the bits of the scalar tier, and
 * those are printed, as hashes, to be compared with what other compilers and systems give.  Then a
 * team of threads passes barriers. */
#include "team.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "simd/dispatch.h"

enum { ROWS = 37, COLUMNS = 45, DEPTH = 531, NUMBERS = ROWS * COLUMNS };

static uint64_t state = 1;

/* Multiples of 2^-20 from -4 to 4: float and double hold them exactly. */
static double next(void)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return ((double)(state >> 41) - 4194304.0) / 1048576.0;
}

/* FNV-1a; every NaN counts as the same one. */
#define DEFINE_HASH(name, real, word, quiet)                                 \
    static uint64_t name(uint64_t h, const real *x, ptrdiff_t n)             \
    {                                                                        \
        for (ptrdiff_t i = 0; i < n; i++) {                                  \
            word bits = quiet;                                               \
            if (x[i] == x[i]) memcpy(&bits, x + i, sizeof bits);             \
            for (unsigned b = 0; b < sizeof bits; b++)                       \
                h = (h ^ (unsigned char)(bits >> (8 * b))) * 1099511628211u; \
        }                                                                    \
        return h;                                                            \
    }
DEFINE_HASH(hash_f32, float, uint32_t, 0x7fc00000u)
DEFINE_HASH(hash_f64, double, uint64_t, 0x7ff8000000000000u)

/* Hashes of a tier's kernels for one dtype. */
enum { MATMUL, UNARY, SOFTMAX, LOSS, UPDATE, NORMALIZE, DROPOUT, KERNELS };
static const char *const kernels[KERNELS] = {
    [MATMUL] = "products", [UNARY] = "element-wise",      [SOFTMAX] = "softmax", [LOSS] = "losses",
    [UPDATE] = "updates",  [NORMALIZE] = "normalization", [DROPOUT] = "dropout",
};

#define DEFINE_RUN(dtype, real)                                                                 \
    static void run_##dtype(const fbp_table_##dtype *t, uint64_t out[KERNELS])                  \
    {                                                                                           \
        static real A[ROWS * DEPTH], B[DEPTH * COLUMNS], bias[COLUMNS], C[NUMBERS], D[NUMBERS]; \
        static real positive[NUMBERS], states[FBP_MOST_STATE][NUMBERS], rstd[ROWS];             \
        static double row_losses[ROWS];                                                         \
        real *const each[] = {states[0], states[1], states[2], states[3],                       \
                              states[4], states[5], states[6], states[7]};                      \
        real *workspace = malloc(sizeof(real) * FBP_WORKSPACE);                                 \
        if (!workspace) abort();                                                                \
        state = 1;                                                                              \
        for (int i = 0; i < ROWS * DEPTH; i++) A[i] = (real)next();                             \
        for (int i = 0; i < DEPTH * COLUMNS; i++) B[i] = (real)next();                          \
        for (int i = 0; i < COLUMNS; i++) bias[i] = (real)next();                               \
        for (int k = 0; k < KERNELS; k++) out[k] = 14695981039346656037u;                       \
        for (int relu = 0; relu < 2; relu++) {                                                  \
            const fbp_gemm p = {.m = ROWS,                                                      \
                                .n = COLUMNS,                                                   \
                                .k = DEPTH,                                                     \
                                .A = A,                                                         \
                                .a_row = DEPTH,                                                 \
                                .a_col = 1,                                                     \
                                .B = B,                                                         \
                                .b_row = COLUMNS,                                               \
                                .b_col = 1,                                                     \
                                .bias = bias,                                                   \
                                .C = C,                                                         \
                                .c_row = COLUMNS,                                               \
                                .relu = relu};                                                  \
            t->matmul(&p, workspace);                                                           \
            out[MATMUL] = hash_##dtype(out[MATMUL], C, NUMBERS);                                \
        }                                                                                       \
        for (int u = 0; u < FBP_UNARIES; u++) {                                                 \
            t->unary[u](NUMBERS, A, C, (real)0.5);                                              \
            out[UNARY] = hash_##dtype(out[UNARY], C, NUMBERS);                                  \
            if (u >= FBP_ACTIVATIONS) continue;                                                 \
            t->unary_backward[u](NUMBERS, B, C, D, (real)0.5);                                  \
            out[UNARY] = hash_##dtype(out[UNARY], D, NUMBERS);                                  \
        }                                                                                       \
        t->softmax(ROWS, COLUMNS, A, C);                                                        \
        out[SOFTMAX] = hash_##dtype(out[SOFTMAX], C, NUMBERS);                                  \
        for (int i = 0; i < NUMBERS; i++) positive[i] = C[i];                                   \
        for (int l = 0; l < FBP_LOSSES; l++) {                                                  \
            const real parameter[COLUMNS] = {(real)0.25};                                       \
            t->loss[l](ROWS, COLUMNS, A, positive, NULL, NULL, 0.125, parameter, (real)1e30, D, \
                       row_losses);                                                             \
            out[LOSS] = hash_##dtype(out[LOSS], D, NUMBERS);                                    \
            out[LOSS] = hash_f64(out[LOSS], row_losses, ROWS);                                  \
        }                                                                                       \
        for (int u = 0; u < FBP_UPDATES; u++) {                                                 \
            double attributes[FBP_MOST_ATTRIBUTES];                                             \
            for (int i = 0; i < FBP_MOST_ATTRIBUTES; i++) attributes[i] = 0.5;                  \
            memset(states, 0, sizeof states);                                                   \
            memcpy(C, A, sizeof C);                                                             \
            for (int step = 1; step <= 3; step++)                                               \
                t->update[u](NUMBERS, C, B, each, 0.01, step, attributes);                      \
            out[UPDATE] = hash_##dtype(out[UPDATE], C, NUMBERS);                                \
        }                                                                                       \
        for (int center = 0; center < 2; center++) {                                            \
            t->normalize_rows(ROWS, COLUMNS, A, C, rstd, 1e-5, center);                         \
            t->normalize_rows_backward(ROWS, COLUMNS, B, C, rstd, D, center);                   \
            out[NORMALIZE] = hash_##dtype(out[NORMALIZE], C, NUMBERS);                          \
            out[NORMALIZE] = hash_##dtype(out[NORMALIZE], D, NUMBERS);                          \
        }                                                                                       \
        t->dropout(NUMBERS, A, C, 0.3, 12345, 7, 0);                                            \
        out[DROPOUT] = hash_##dtype(out[DROPOUT], C, NUMBERS);                                  \
        free(workspace);                                                                        \
    }
DEFINE_RUN(f32, float)
DEFINE_RUN(f64, double)

/* Of a product in each reduced precision. */
static uint64_t run_bf16(const fbp_bf16 *t)
{
    static float A[ROWS * DEPTH], B[DEPTH * COLUMNS], C[NUMBERS];
    uint64_t h = 14695981039346656037u;
    state = 1;
    for (int i = 0; i < ROWS * DEPTH; i++) A[i] = (float)next();
    for (int i = 0; i < DEPTH * COLUMNS; i++) B[i] = (float)next();
    for (int precision = FBP_HIGH; precision <= FBP_MEDIUM; precision++) {
        const fbp_gemm p = {.m = ROWS,
                            .n = COLUMNS,
                            .k = DEPTH,
                            .A = A,
                            .a_row = DEPTH,
                            .a_col = 1,
                            .B = B,
                            .b_row = COLUMNS,
                            .b_col = 1,
                            .C = C,
                            .c_row = COLUMNS,
                            .precision = precision};
        float *a = malloc(sizeof(float) * (size_t)fbp_packed_size(ROWS, DEPTH, precision));
        float *b = malloc(sizeof(float) * (size_t)fbp_packed_size(COLUMNS, DEPTH, precision));
        if (!a || !b) abort();
        t->pack_a(&p, a);
        t->pack_b(&p, b);
        t->multiply(&p, a, b);
        h = hash_f32(h, C, NUMBERS);
        free(a);
        free(b);
    }
    return h;
}

/* Each member adds to its own number, and after a barrier reads those of all. */
enum { MEMBERS = 4, ROUNDS = 3000 };
typedef struct {
    int numbers[MEMBERS];
    fbp_flag wrong;
} work_together;

static void task(void *argument, fbp_worker *me)
{
    work_together *work = argument;
    for (int round = 1; round <= ROUNDS; round++) {
        work->numbers[me->part] = round;
        if (round % 500 == me->part) { /* long enough for the others to sleep */
            const double start = fbp_seconds();
            while (fbp_seconds() < start + 0.002) fbp_pause();
        }
        fbp_barrier(me);
        for (int i = 0; i < me->parts; i++)
            if (work->numbers[i] != round) fbp_set_flag(&work->wrong);
        fbp_barrier(me);
    }
}

#if !defined(_OPENMP) && !defined(_WIN32)
/* fbp_run_team for a compiler without OpenMP, where a team has one member. */
static struct {
    work_together *work;
    fbp_worker me;
} members[MEMBERS];

static void *start_member(void *i)
{
    task(members[(intptr_t)i].work, &members[(intptr_t)i].me);
    return NULL;
}

static void run_team(work_together *work)
{
    static fbp_team team = {.monitor = FBP_MONITOR_INIT};
    pthread_t threads[MEMBERS];
    for (intptr_t i = 0; i < MEMBERS; i++) {
        members[i].work = work;
        members[i].me = (fbp_worker){&team, (int)i, MEMBERS, FBP_MOST_SPINS};
        if (pthread_create(&threads[i], NULL, start_member, (void *)i)) abort();
    }
    for (int i = 0; i < MEMBERS; i++) pthread_join(threads[i], NULL);
}
#else
static void run_team(work_together *work) { fbp_run_team(MEMBERS, task, work); }
#endif

int main(void)
{
    uint64_t first[2][KERNELS], first_bf16 = 0;
    for (int i = 0; fbp_tier_at(i); i++) {
        const fbp_tier *tier = fbp_tier_at(i);
        if (!tier->runs()) continue;
        uint64_t hashes[2][KERNELS];
        run_f32(tier->f32, hashes[0]);
        run_f64(tier->f64, hashes[1]);
        const uint64_t bf16 = run_bf16(tier->bf16);
        if (i == 0) memcpy(first, hashes, sizeof first), first_bf16 = bf16;
        if (memcmp(first, hashes, sizeof first) || bf16 != first_bf16) {
            fprintf(stderr, "%s: other bits than the scalar tier's\n", tier->name);
            return 1;
        }
        fprintf(stderr, "%s ", tier->name);
    }
    for (int k = 0; k < KERNELS; k++)
        printf("%-14s %016" PRIx64 " %016" PRIx64 "\n", kernels[k], first[0][k], first[1][k]);
    printf("%-14s %016" PRIx64 "\n", "bfloat16", first_bf16);

    static work_together work;
    run_team(&work);
    if (work.wrong || work.numbers[0] != ROUNDS) {
        fprintf(stderr, "barriers did not hold\n");
        return 1;
    }
    fprintf(stderr, "level-2 cache of %td bytes\n", fbp_level2_cache());
    return 0;
}
