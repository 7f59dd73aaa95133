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

/* A projection as adapters name it, and the slots of the matrices that it is made of here. */
struct bb_projection {
    const char *path;        /* as mlx-lm writes it: "model.layers.3.self_attn.q_proj", "model.embed_tokens" */
    const char *expert_path; /* a mixture's: EXPERT_PATH.7.EXPERT_NAME is expert 7 alone, as Hugging Face models have it; NULL: none */
    const char *expert_name;
    int64_t rows, cols;      /* of the whole; of one expert */
    int32_t layer;           /* -1: embedding, head */
    int32_t expert_count;    /* 0: no mixture */
    int32_t first_slot, slot_count; /* consecutive: one an expert, or one a part of a fused matrix, in row order */
    bool is_embedding;
};

struct bb_model {
    struct bb_recipe recipe;
    struct bb_weight embedding;
    int32_t embedding_slot;  /* of the lookup; a tied head has another one */
    int32_t slot_count;
    const struct bb_linear **slots; /* [slot_count]; NULL: the whole of a fused matrix, whose parts have slots of their own */
    struct bb_projection *projections; /* [projection_count]: embedding, head, then block by block (projections.c) */
    int32_t projection_count;
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

/* The projection of a path as mlx-lm writes it; NULL if the model has none. */
const struct bb_projection *bb_model_projection(const struct bb_model *model, const char *path);
/* The list of projections and the table of slots, in the model's arena; for bb_model_open. */
BB_RESULT bombus_status bb_projections_list(struct bb_model *model, bombus_error *error);

#endif
