/* What is trained: named f32 arrays, their gradients beside them, and the model as it is with them at work. */
#ifndef BB_TRAINABLE_H
#define BB_TRAINABLE_H

#include "base/threads.h"
#include "model/weights.h"

struct bb_trainable_options {
    bombus_fine_tune type;    /* full: all projections, biases and norms of the blocks, which must not be quantized */
    int32_t num_layers;       /* the last so many blocks; <= 0: all */
    int32_t rank;
    float scale;              /* used as it is */
    float dropout;            /* while training: of a pair's input; of an embedding's lookup, of what the pair adds */
    const char *const *keys;  /* [key_count]: projections as mlx-lm names them ("self_attn.q_proj", "model.embed_tokens"); NULL: every projection of
                               * the blocks */
    size_t key_count;
    uint64_t seed;            /* of lora_a; lora_b begins as zeros */
    struct bb_pool *pool;     /* borrowed: for DoRA's gains; NULL: the calling thread. The bits are the same */
};

/* One array. In files it has shape [shape[0], ...]; in memory lora_a is transposed (tensor/low_rank.h). */
struct bb_parameter {
    const char *name;     /* in files: "model.layers.3.self_attn.q_proj.lora_a" */
    float *value, *gradient; /* [count] */
    size_t count;
    int64_t shape[3];     /* as in files */
    int32_t rank;         /* of shape */
    bool is_transposed;   /* memory holds the last two dimensions the other way round */
};

struct bb_trainable {
    struct bb_trainable_options options; /* keys owned */
    const struct bb_model *model;        /* to run: the given one, or (full) a view of it whose blocks point at the values */
    struct bb_parameter *parameters;     /* [parameter_count] */
    size_t parameter_count;
    float *values, *gradients;           /* [value_count]: all parameters one after the other */
    size_t value_count;
    int32_t first_layer;                 /* the lowest block with a parameter: no gradient is wanted below it */
    bool trains_embedding;
    const struct bb_adapter_set *set;    /* for the spans of a batch; NULL when all of the model is trained */
};

/* The model is borrowed. On failure *trainable is NULL. A key that fits no projection is BOMBUS_ERROR_ARGUMENT and named. */
BB_RESULT bombus_status bb_trainable_create(struct bb_trainable **trainable, const struct bb_model *model,
                                            const struct bb_trainable_options *options, bombus_error *error);
void bb_trainable_free(struct bb_trainable *trainable); /* NULL is allowed */

/* After values have changed: what follows from them (DoRA's gains). Call before the next step. */
BB_RESULT bombus_status bb_trainable_refresh(struct bb_trainable *trainable, bombus_error *error);
void bb_trainable_zero_gradients(struct bb_trainable *trainable);

/* All parameters as one safetensors file of mlx-lm's names and shapes, written atomically; and back: every parameter must be there with its
 * shape, and nothing else. Loading refreshes. */
BB_RESULT bombus_status bb_trainable_save(const struct bb_trainable *trainable, const char *path, bombus_error *error);
BB_RESULT bombus_status bb_trainable_load(struct bb_trainable *trainable, const char *path, bombus_error *error);

#endif
