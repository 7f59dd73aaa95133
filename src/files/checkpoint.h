/* A model folder: config.json and the tensors of all its safetensors files, by name. */
#ifndef BB_CHECKPOINT_H
#define BB_CHECKPOINT_H

#include "files/config.h"
#include "files/safetensors.h"
#include "tensor/weight.h"

struct bb_checkpoint {
    char *folder;
    struct bb_config *config;
    const char *quantization_key; /* the key of config.json that holds the schemes; NULL: none does */
    struct bb_scheme scheme;      /* what it says of all matrices but those it names; mode BB_QUANT_NONE: nothing */
    struct bb_safetensors *files;
    size_t file_count;
    struct bb_map index; /* tensor name -> number over all files */
    const struct bb_safetensors_entry **entries;
    bool *is_used; /* [tensor_count]: set by find, so that surplus tensors can be named */
    size_t tensor_count;
};

/* One model.safetensors, or the shards that model.safetensors.index.json names (a shard that is absent, or a tensor
 * that is not where the index says, is named), or where there is neither every model*.safetensors, or else every
 * *.safetensors. Quantizations of another kind than MLX's (GPTQ, AWQ, bitsandbytes, fp8 ...) are
 * BOMBUS_ERROR_UNSUPPORTED and named. */
BB_RESULT bombus_status bb_checkpoint_open(struct bb_checkpoint *checkpoint, const char *folder, bombus_error *error);
void bb_checkpoint_close(struct bb_checkpoint *checkpoint);

/* NULL if absent; marks it as used. */
const struct bb_safetensors_entry *bb_checkpoint_find(struct bb_checkpoint *checkpoint, const char *name);

/* True if there is a tensor of this (whole) name; does not mark it. */
bool bb_checkpoint_has(const struct bb_checkpoint *checkpoint, const char *name);

/* The matrix `base`.weight, with `base`.scales and `base`.biases if it is quantized, checked against the scheme that
 * config.json gives for that path (an entry for the path itself, whose `false` means not quantized; else, as in mlx-lm,
 * what the shapes of its parts say) and against `rows` and `cols`. Stacked experts [count, rows of one, cols] are one
 * matrix of all their rows: pass rows = count * rows of one; expert e is bb_weight_rows(&weight, e * rows of one, rows
 * of one). All missing parts are named. `base` is "model.layers.0.self_attn.q_proj". */
BB_RESULT bombus_status bb_checkpoint_weight(struct bb_checkpoint *checkpoint, const char *base, int64_t rows,
                                             int64_t cols, struct bb_weight *weight, bombus_error *error);

/* The same for one that looks at a folder without knowing the model: rows and cols are what its shapes and config.json
 * imply. Marks nothing as used. */
BB_RESULT bombus_status bb_checkpoint_describe(const struct bb_checkpoint *checkpoint, const char *base,
                                               struct bb_weight *weight, bombus_error *error);

/* BOMBUS_ERROR_FORMAT naming (up to a few of) the tensors that nothing used; names for which is_ignored (may be NULL)
 * returns true may stay unused (rotary inv_freq buffers and the like). */
BB_RESULT bombus_status bb_checkpoint_check_surplus(const struct bb_checkpoint *checkpoint,
                                                    bool (*is_ignored)(const char *name), bombus_error *error);

#endif
