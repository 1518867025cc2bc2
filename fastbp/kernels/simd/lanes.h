/* Sums along a row, in FBP_SUM_LANES lanes: VECTORS vectors hold them. */

#define VECTORS (FBP_SUM_LANES / FBP_LANES) /* vectors that hold the lanes of a row's sum */

static inline void clear(vec lanes[VECTORS])
{
    for (int u = 0; u < VECTORS; u++) lanes[u] = v_splat(0);
}

/* The tree: l + (l + 8), then 4, 2, 1; vectors are added while there is more than one. */
static inline real add_lanes(vec lanes[VECTORS])
{
    for (int count = VECTORS / 2; count > 0; count /= 2)
        for (int u = 0; u < count; u++) lanes[u] = lanes[u] + lanes[u + count];
    return v_fold(lanes[0], v_add);
}

/* The lane that column j belongs to, as an index of its vector. */
#define LANE(j) (((j) / FBP_LANES) % VECTORS)
