/* The order of examples in an epoch, and batches of them without padding.
 *
 * A batch is a list of spans, one a sequence, so examples of any lengths stand side by side and attention never crosses them. Where the
 * work is divided over `size` processes, batch n belongs to process n % size: the same batches as in one process with size times the
 * accumulation. Which batch comes next is a function of a few numbers (struct bb_batches_state), so a training can go on where it was. */
#ifndef BB_BATCHES_H
#define BB_BATCHES_H

#include "tensor/batch.h"
#include "train/dataset.h"
#include "train/numpy_random.h"

enum bb_order {
    BB_ORDER_SHUFFLED, /* lines of like length together, in batches whose order is shuffled; each once an epoch */
    BB_ORDER_FILE,     /* as in the file; each once an epoch */
    BB_ORDER_MLX       /* mlx-lm's: consecutive lines make a batch, np.random.permutation orders them, an incomplete one is left out */
};

struct bb_batches_options {
    int32_t batch_size; /* examples */
    enum bb_order order;
    bool packing;   /* a batch is as many examples as fit batch_size * max_seq_length tokens; not with BB_ORDER_MLX */
    uint64_t seed;  /* of BB_ORDER_SHUFFLED */
    int32_t rank, size; /* this process, of how many; size 0: 1 */
    bool is_endless;    /* epoch after epoch; else next stops behind the first */
    struct bb_numpy_random *numpy; /* of BB_ORDER_MLX; borrowed: training and validation draw from the same one */
};

/* What one step computes. Row i takes tokens[i] at positions[i] and learns targets[i]. Rows behind an example's last target are left out, as
 * nothing depends on them. All memory is the batches', valid until the next call. */
struct bb_train_batch {
    int32_t row_count;        /* 0: all lines of this batch were unusable; it still counts as a batch */
    const int32_t *tokens;    /* [row_count] */
    const int32_t *positions; /* [row_count], from 0 in each span */
    const int32_t *targets;   /* [row_count]: the id to predict; -1: not counted */
    int32_t span_count;
    const struct bb_span *spans; /* [span_count]; sequence i is span i. Of preferences: 2i is the chosen, 2i + 1 the rejected one */
    const uint32_t *lines;       /* [span_count]: line in the file, 1-based */
    int64_t target_count;        /* targets that are not -1 */
    int64_t token_count;         /* of the examples, whether learnt or not */
    int32_t example_count;
    uint64_t number, epoch; /* of this batch, from 0 over all epochs and processes; of its epoch, from 0 */
};

/* Everything that the next batch depends on besides data and options. */
struct bb_batches_state {
    uint64_t epoch;
    uint64_t next;         /* in the epoch: batches that were made, or, with packing, examples that were taken */
    uint64_t number;       /* batches made since the beginning */
    uint64_t epoch_draws;  /* BB_ORDER_MLX: the generator's, before this epoch's order was drawn */
    uint64_t draws;        /* and now, evaluations included */
};

struct bb_batches {
    struct bb_dataset *dataset; /* borrowed */
    struct bb_batches_options options;
    struct bb_batches_state state; /* save this; draws is filled in by bb_batches_get_state */
    uint32_t *order;               /* [dataset->count]: examples in this epoch's order */
    size_t count;                  /* examples of an epoch */
    bool has_order;
    struct bb_train_batch batch;
    struct bb_batch_memory *memory;
};

/* BOMBUS_ERROR_ARGUMENT where BB_ORDER_MLX has fewer examples than batch_size. */
BB_RESULT bombus_status bb_batches_open(struct bb_batches *batches, struct bb_dataset *dataset,
                                        const struct bb_batches_options *options, bombus_error *error);
void bb_batches_close(struct bb_batches *batches);

/* This process's next batch. *batch: NULL behind the end of the only epoch (not is_endless); then the next call begins it anew, in the
 * next epoch's order. With several processes, all get NULL at the same call; one may get an empty batch before. */
BB_RESULT bombus_status bb_batches_next(struct bb_batches *batches, const struct bb_train_batch **batch,
                                        bombus_error *error);

/* Batches an epoch has, over all processes; with packing an estimate by the lengths of the lines. */
size_t bb_batches_per_epoch(const struct bb_batches *batches);

/* To begin an epoch before the last one has ended (an evaluation of the first few batches). */
void bb_batches_restart(struct bb_batches *batches);

/* The next call of bb_batches_next after `set` gives what it would have given after `get`, on the same data with the same options
 * (also of other processes). A state that is not of these data is BOMBUS_ERROR_MISMATCH. */
struct bb_batches_state bb_batches_get_state(const struct bb_batches *batches);
BB_RESULT bombus_status bb_batches_set_state(struct bb_batches *batches, const struct bb_batches_state *state,
                                             bombus_error *error);

#endif
