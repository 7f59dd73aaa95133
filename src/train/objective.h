/* Loss and gradients of one batch of examples, in each of the modes: what lies between a batch and bb_backward_step. */
#ifndef BB_OBJECTIVE_H
#define BB_OBJECTIVE_H

#include "model/backward.h"
#include "train/batches.h"

struct bb_objective {
    const bombus_train_options *options; /* borrowed */
    struct bb_trainable *trainable;      /* borrowed */
    struct bb_backend *backend;          /* borrowed */
    struct bb_backward_options backward_options;
    struct bb_backward *backward;
    struct bb_span *spans;            /* [sequence_limit]: the batch's, with the adapters at work, */
    struct bb_span *reference_spans;  /* and without (DPO) */
    struct bb_answer *answers;        /* [sequence_limit] (DPO, ORPO) */
    float *nll, *reference, *weights; /* [row_limit] */
    int32_t *targets;                 /* [row_limit] (ORPO) */
};

/* What a batch cost. Gradients of loss * weight were added; dividing what several batches added by the sum of their weights gives the mean:
 * over tokens or pairs, or, as mlx-lm has it, over batches. */
struct bb_batch_loss {
    double loss;   /* mean of the batch's targets or pairs */
    double weight; /* 0: there was nothing to learn */
    double count;  /* targets or pairs */
};

/* `options` have their defaults filled in (train_options.h). Room comes with bb_objective_reserve. */
void bb_objective_init(struct bb_objective *objective, const bombus_train_options *options, bool is_exact,
                       struct bb_trainable *trainable, struct bb_backend *backend);
void bb_objective_clear(struct bb_objective *objective); /* a zeroed one too */

/* Room for batches of so many rows and sequences; never shrinks. */
BB_RESULT bombus_status bb_objective_reserve(struct bb_objective *objective, int32_t rows, int32_t sequences,
                                             bombus_error *error);

/* Bytes in use beside the weights, the trainable and the optimizer. */
size_t bb_objective_bytes(const struct bb_objective *objective);

/* Adds the gradients. The seed is of dropout and noise. */
BB_RESULT bombus_status bb_objective_train(struct bb_objective *objective, const struct bb_train_batch *batch,
                                           uint64_t seed, struct bb_batch_loss *loss, bombus_error *error);
/* The loss alone, without dropout and noise. */
BB_RESULT bombus_status bb_objective_evaluate(struct bb_objective *objective, const struct bb_train_batch *batch,
                                              struct bb_batch_loss *loss, bombus_error *error);

#endif
