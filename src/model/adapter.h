/* An adapter loaded for a model: its pairs by slot, as operations take them. Immutable after open and shared by threads; counted, so that it can be
 * closed (or replaced) while a model runs: whoever still uses it keeps it. */
#ifndef BB_ADAPTER_H
#define BB_ADAPTER_H

#include "files/adapter_file.h"
#include "model/weights.h"

#include <stdatomic.h>

struct bb_adapter_options {
    bool has_scale;
    float scale; /* in place of the file's */
};

struct bb_adapter {
    atomic_size_t holders;
    struct bb_low_rank *pairs; /* [slot_count]: rank 0 where the adapter has none */
    int32_t slot_count;
    uint64_t model_fingerprint;
    uint64_t fingerprint; /* of the tensors' bytes, their places and scales */
    enum bb_adapter_format format;
    bool is_dora;
    int32_t rank;        /* the largest */
    float scale;         /* of the first module; PEFT's patterns may give others to some */
    int32_t layer_count; /* blocks with at least one pair */
    int32_t module_count;
    int64_t parameter_count;
    struct bb_arena arena; /* pairs and all their numbers, packed */
};

/* Opens the folder for the model, which must be of the kind that it was trained on: a module that the model has no projection for, or one of another
 * shape, is BOMBUS_ERROR_MISMATCH and named with what was expected and found. Nothing of model or files is borrowed. On failure *adapter is NULL. */
BB_RESULT bombus_status bb_adapter_open(struct bb_adapter **adapter, const struct bb_model *model, const char *folder,
                                        const struct bb_adapter_options *options, bombus_error *error);
void bb_adapter_hold(struct bb_adapter *adapter);  /* one more holder */
void bb_adapter_close(struct bb_adapter *adapter); /* one less; NULL is allowed */

/* DoRA: gains[i] = magnitude[i] / |row i of W + scale * B A|, for rows [first, end). `row` is scratch [weight->cols].
 * A row of length 0 has gain 1. */
void bb_adapter_gains(const struct bb_weight *weight, const struct bb_low_rank *pair, const float *magnitude,
                      int64_t first, int64_t end, float *gains, float *row);

/* The adapters at work in a session, with weights: a set that owns itself and holds its adapters. NULL stands for none. */
struct bb_adapter_choice;

/* The sum of weights[i] * adapters[i]; those of weight 0 are left out, and where none is left *choice is NULL. Each must have been opened for `model`. */
BB_RESULT bombus_status bb_adapter_choice_create(struct bb_adapter_choice **choice, const struct bb_model *model,
                                                 struct bb_adapter *const *adapters, const float *weights, size_t count,
                                                 bombus_error *error);
void bb_adapter_choice_free(struct bb_adapter_choice *choice);                              /* NULL is allowed */
const struct bb_adapter_set *bb_adapter_choice_set(const struct bb_adapter_choice *choice); /* NULL of NULL */
uint64_t bb_adapter_choice_fingerprint(const struct bb_adapter_choice *choice); /* 0 of NULL, else never 0 */

#endif
