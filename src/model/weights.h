/* A loaded model: recipe, embedding, blocks, head. Read-only after open, shared by threads. */
#ifndef BB_WEIGHTS_H
#define BB_WEIGHTS_H

#include "files/checkpoint.h"
#include "model/recipe.h"
#include "ops/run.h"

struct bb_block {
    struct bb_norm input_norm, post_attention_norm, pre_feed_forward_norm, post_feed_forward_norm; /* size 0: absent */
    struct bb_norm q_norm, k_norm;
    struct bb_linear q, k, v, o;
    struct bb_attention_shape attention;
    struct bb_linear gate, up, down; /* dense feed-forward */
    struct bb_linear router;         /* mixture */
    struct bb_experts experts;
};

struct bb_model {
    struct bb_recipe recipe;
    struct bb_weight embedding;
    struct bb_block *blocks; /* [num_hidden_layers] */
    struct bb_norm final_norm;
    struct bb_linear head;   /* the embedding where tied */
    int64_t parameter_count;
    size_t weight_bytes, bytes_per_token; /* see bombus_model_info */
    uint64_t fingerprint;    /* of config and tensor names, shapes, sizes and a sample of their bytes: tells one model from another */
    struct bb_checkpoint checkpoint;
    struct bb_arena arena;
};

/* Opens the folder for a backend (prepare_weight is called where the table has it). On failure *model is NULL. */
BB_RESULT bombus_status bb_model_open(struct bb_model **model, const char *folder, struct bb_backend *backend, bombus_error *error);
void bb_model_close(struct bb_model *model); /* NULL is allowed */

#endif
