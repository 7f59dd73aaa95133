/* What a broken-off training goes on from: one file, written atomically, with everything that the next step depends on.
 *
 * training_state.safetensors holds the parameters, the gradients that wait for their update, the optimizer's arrays (all flat f32), counters, and the
 * settings as metadata. */
#ifndef BB_TRAIN_STATE_H
#define BB_TRAIN_STATE_H

#include "model/trainable.h"
#include "train/batches.h"
#include "train/optimizer.h"
#include "train/train_options.h"

#define BB_TRAIN_STATE_FILE "training_state.safetensors"

/* What was counted since the last report. */
struct bb_report_window {
    double loss, weight; /* sums of loss * weight and of weight */
    double seconds;
    int64_t targets, steps;
};

struct bb_train_state {
    int64_t iteration;        /* micro-batches done */
    int64_t pending;          /* of them, those whose gradients wait for an update */
    double pending_weight;    /* sum of their weights */
    int64_t trained_tokens;
    double seconds;           /* of training, without evaluations */
    struct bb_report_window window;
    double train_loss;        /* of the last report; NaN: none */
    double validation_loss;   /* of the last evaluation; NaN: none */
    double best_loss;         /* infinite: none */
    int64_t best_iteration;   /* -1: none */
    int64_t evaluations_without_best;
    bool is_evaluation_due;   /* after this iteration: the run was stopped before it came to a loss */
    struct bb_batches_state batches, validation;
};

/* What is saved together: borrowed parts of a training. */
struct bb_train_parts {
    struct bb_train_state *state;
    struct bb_trainable *trainable;
    struct bb_optimizer *optimizer;
    const struct bb_train_settings *settings;
};

BB_RESULT bombus_status bb_train_state_save(const struct bb_train_parts *parts, const char *path, bombus_error *error);

/* A file of other settings is BOMBUS_ERROR_MISMATCH and names the first that differs; of other sizes or damaged, BOMBUS_ERROR_FORMAT. On
 * failure the parts may hold anything. */
BB_RESULT bombus_status bb_train_state_load(const struct bb_train_parts *parts, const char *path, bombus_error *error);

#endif
