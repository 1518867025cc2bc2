from fastbp.kernels.dispatch cimport FBP_MOST_STATE, int64_t, uint64_t
from fastbp.kernels.gather cimport Source
from fastbp.kernels.instructions cimport Frame
from fastbp.kernels.shares cimport Piece
from fastbp.kernels.threads cimport fbp_flag, fbp_worker


# In place of the index of a loss, metric or update.
cdef enum:
    NONE = -1
    IN_PYTHON = -2

cdef enum:
    LABELS, SIGNS, ROWS_OF_SIGNS, SQUARES, SQUARES_OF_RATES


# Bytes of a gradient that is computed in the update, at a time: few enough for a level-2 cache.
# A panel has at most one row more, or in reduced precision PANEL_ROWS, the rows of two tiles.
cdef enum:
    LEAST_PANEL = 1 << 17
    MOST_PANEL = 1 << 20
    PANEL_ROWS = 32

cdef inline Py_ssize_t panel_bytes(Py_ssize_t batch_size, Py_ssize_t row_bytes) noexcept nogil:
    """As many rows as the minibatch has: each panel's product packs all of dZ again."""
    return min(max(LEAST_PANEL, batch_size * row_bytes), MOST_PANEL)

cdef inline Py_ssize_t panel_row(Py_ssize_t columns) noexcept nogil:
    """How far apart a panel's rows are in reduced precision: at multiples of 1 KiB too many would
    share a set of the level-1 cache, where tiles of many rows are stored."""
    return columns + 16 if columns % 256 == 0 else columns


# The stages of a step.
cdef enum:
    GATHER, FORWARD, LOSS, BACKWARD, ADD_UP, REDUCE, UPDATE, RECORD

# Numbers recorded for each step: the loss, the penalty and the batch's weight.
cdef enum:
    N_STATS = 3

# Numbers recorded for each epoch: the sums over its steps of loss and penalty times weight, and of
# the weights, and when it ended.
cdef enum:
    N_EPOCH_STATS = 3


# A range of the flat arrays.
cdef struct Part:
    Py_ssize_t start, size
    Py_ssize_t columns          # of a matrix that is updated as a whole, else 0


# A layer's weights whose gradient is computed a panel of rows at a time, in the update.
cdef struct Fused:
    int instruction             # that of the gradient
    int group
    Py_ssize_t start, rows, columns


# Other parameters, of one group.
cdef struct Rest:
    Py_ssize_t start, size
    int group
    bint penalized


# What does not change from run to run.
cdef struct Plan:
    int forward, backward, update_section  # ends of the program's sections
    int weights_section         # where the instructions of `fused` begin
    int x, z, dz
    Py_ssize_t n_parameters, n_out, batch_size
    Py_ssize_t n_rows           # of X, the targets and the weights
    bint reduced                # whether some products are of reduced precision
    bint gathers                # whether rows of X are gathered here rather than in Python

    const Part *weights         # parameters with a penalty
    const Part *layers          # parameters of each layer
    const Part *groups          # parameters that share a learning rate and attributes
    int n_weights, n_layers, n_groups
    const Fused *fused
    const Rest *rest            # all parameters that are not fused
    int n_fused, n_rest
    void *average               # of the parameters over the steps, or NULL

    int loss, metric
    const void *loss_parameters  # of a member: n_out / members times, or one for each output
    double loss_cap, value_scale, gradient_scale
    Py_ssize_t members           # that the loss is the mean of, each with n_out / members outputs

    # Of a minibatch that several processes share; see shares.pyx.
    int rank, processes          # 1 where nothing is shared
    const Piece *pieces
    const int *segments          # where the pieces of each begin, and where the last's end
    int n_segments

    int update
    int n_state
    void *state[FBP_MOST_STATE]

    const void *Y
    const int64_t *labels
    const void *row_weights

    # The workspace.
    void *Z                # of the whole minibatch
    void *dZ
    void *x_batch
    void *y_batch
    void *w_batch
    void *loss_weights     # w_batch, or each weight once for each member
    int64_t *label_batch
    double *row_losses
    double *sizes          # of blocks of parameters or gradients
    double *squares        # sums of blocks of weights
    void *matrix           # for the update of one matrix at a time: see muon.pxd
    double *matrix_squares
    double *bounds         # 2 n_fused + 1 for each thread
    void *panels           # panel_size elements for each thread
    Py_ssize_t panel_size
    void *for_products     # `workspace` elements for each thread
    Py_ssize_t workspace
    void *arena            # of the program


# A run of steps.  Part 0 writes here, and the other threads read it after the next barrier.
cdef struct Run:
    const Plan *plan
    Frame frame
    const int64_t *rows         # of each epoch, one after the other
    Py_ssize_t n_rows, per_epoch, first, stop
    const double *rates         # of each step, one for each group
    const double *attributes    # of the update, likewise
    int n_attributes
    double average_keep
    double weight_decay, clip_norm, l2
    bint fuses                  # whether updates are fused, but for that of the last step
    double *step_stats
    double *metric_sums         # of each epoch, n_metric_sums
    Py_ssize_t n_metric_sums
    const double *metric_mean
    double *layer_norms         # of each epoch
    double *epoch_stats         # of each epoch, N_EPOCH_STATS
    double deadline, loss, penalty
    fbp_flag no_label, no_row
    bint in_time
    int64_t steps_before           # the first, as the optimizer counts
    Py_ssize_t made, updates

    # Where the team starts, and where it stopped.
    int stage, i                 # the next instruction
    Py_ssize_t step
    bint done                    # whether this stage's work in Python is done
    bint turn                    # whether Python is needed now
    const Source *X


cdef int check_sums(int metric, Py_ssize_t n_out, Py_ssize_t epochs,
                    const double[:, ::1] metric_sums, const double[::1] metric_mean) except -1
cdef int check_run(const Plan *plan, Py_ssize_t epochs, Py_ssize_t n_random,
                   const double[:, ::1] rates, const double[:, ::1] attributes,
                   const uint64_t[:, ::1] random, const double[:, ::1] layer_norms,
                   const double[:, ::1] epoch_stats) except -1
cpdef double seconds() noexcept nogil
cdef void run_floats(void *work, fbp_worker *me) noexcept nogil
cdef void run_doubles(void *work, fbp_worker *me) noexcept nogil
