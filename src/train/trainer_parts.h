/* What a trainer is made of, and what all of its files do with it: tell the caller, and look whether it was told to stop. */
#ifndef BB_TRAINER_PARTS_H
#define BB_TRAINER_PARTS_H

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
    int64_t saved_iteration; /* of the last state in the folder; -1: none */
    int32_t expected_rows;   /* of the largest batch, by the lengths of the lines */
    int32_t *sample_prompt;  /* [sample_prompt_count]; NULL: no samples */
    size_t sample_prompt_count;
    atomic_bool is_cancelled;
    bool has_run;
};

/* Tells the caller; a false answer cancels. Processes but the first are silent. */
void bb_trainer_tell(struct bb_trainer *trainer, const bombus_train_event *event);

void bb_trainer_cancel(struct bb_trainer *trainer); /* any thread, a signal handler */
bool bb_trainer_is_cancelled(const struct bb_trainer *trainer);

/* Of the prompt that is asked at evaluations, for as many tokens as the caller wants. */
struct bb_sample_options bb_trainer_sample_options(const struct bb_trainer *trainer);

#endif
