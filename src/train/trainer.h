/* The loop of a training: batches, updates, evaluations, files, and what the caller hears of it.
 *
 * An iteration is one micro-batch, as in mlx-lm; every grad_accumulation_steps of them there is an update. Everything that an iteration
 * depends on is in bb_train_state and the arrays saved with it, so that a run which goes on from a file ends in the same bits. */
#ifndef BB_TRAINER_H
#define BB_TRAINER_H

#include "train/adapter_folder.h"
#include "train/batches.h"
#include "train/objective.h"
#include "train/sample.h"

#include <stdatomic.h>

struct bb_tokenizer;
struct bb_template;

/* What a training runs on; all borrowed. */
struct bb_train_inputs {
    const struct bb_model *model;
    struct bb_backend *backend;
    const struct bb_tokenizer *tokenizer;
    const struct bb_template *template_; /* may be NULL */
    bool is_exact;                       /* where the options do not say */
    int32_t thread_count;                /* of the optimizer; 0: one a physical core */
};

/* A set of examples and its batches. */
struct bb_train_set {
    bool is_open;
    struct bb_dataset dataset;
    struct bb_batches batches;
};

struct bb_trainer {
    bombus_train_options options; /* resolved; texts borrowed */
    struct bb_train_inputs inputs;
    struct bb_pool *pool;
    struct bb_trainable *trainable;
    struct bb_optimizer optimizer;
    struct bb_objective objective;
    struct bb_train_set train, validation, test;
    struct bb_numpy_random numpy; /* of BB_ORDER_MLX */
    struct bb_train_settings settings;
    struct bb_adapter_folder folder;
    struct bb_train_state state;
    int64_t saved_iteration;      /* of the last state in the folder; -1: none */
    int32_t expected_rows;        /* of the largest batch, by the lengths of the lines */
    int32_t *sample_prompt;       /* [sample_prompt_count]; NULL: no samples */
    size_t sample_prompt_count;
    atomic_bool is_cancelled;
    bool has_run;
};

/* See bombus_trainer_create and so on. */
BB_RESULT bombus_status bb_trainer_create(struct bb_trainer **trainer, const struct bb_train_inputs *inputs,
                                          const bombus_train_options *options, bombus_error *error);
void bb_trainer_free(struct bb_trainer *trainer); /* NULL is allowed */
BB_RESULT bombus_status bb_trainer_run(struct bb_trainer *trainer, bombus_train_result *result, bombus_error *error);
void bb_trainer_cancel(struct bb_trainer *trainer); /* any thread, a signal handler */

/* Of the prompt that is asked at evaluations, for as many tokens as the caller wants. */
struct bb_sample_options bb_trainer_sample_options(const struct bb_trainer *trainer);

/* Tells the caller; a false answer cancels. Processes but the first are silent. */
void bb_trainer_tell(struct bb_trainer *trainer, const bombus_train_event *event);

#endif
