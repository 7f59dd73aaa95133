/* The shape of a model family: config.json -> recipe, and the names of its tensors. One file a family; families.c lists them. */
#ifndef BB_FAMILY_H
#define BB_FAMILY_H

#include "model/recipe.h"

/* What is read from config.json, with the first failure sticky: later reads give their fallback and do nothing. */
struct bb_reader {
    const struct bb_config *config;
    struct bb_arena *arena;
    bombus_status status;
    bombus_error *error;
};

/* Keys as in files/config.h; absent or null gives the fallback. */
int32_t bb_read_integer(struct bb_reader *reader, const char *key, int32_t fallback, int32_t minimum, int32_t maximum);
float bb_read_number(struct bb_reader *reader, const char *key, double fallback); /* must be finite */
bool bb_read_boolean(struct bb_reader *reader, const char *key, bool fallback);
const char *bb_read_text(struct bb_reader *reader, const char *key, const char *fallback);
/* True if the key holds something other than null. */
bool bb_read_has(const struct bb_reader *reader, const char *key);
/* Fails with BOMBUS_ERROR_UNSUPPORTED: "FILE: a WHAT is not supported" and the like. */
void bb_read_refuse(struct bb_reader *reader, const char *format, ...) BB_PRINTF(2, 3);
/* Fails with BOMBUS_ERROR_FORMAT. */
void bb_read_reject(struct bb_reader *reader, const char *format, ...) BB_PRINTF(2, 3);

/* Sets each layer's window from "layer_types" (full_attention, sliding_attention) and `window`; without that key all layers are `fallback`. */
void bb_read_layer_types(struct bb_reader *reader, struct bb_recipe *recipe, int32_t window, bool is_sliding_fallback);

/* The tensors of block N begin with "model.layers.N."; `self_attn.{q,k,v,o}_proj`, `mlp.{gate,up,down}_proj`, `model.embed_tokens`, `model.norm`
 * and `lm_head` are the same in all families. NULL: the family has none. */
struct bb_names {
    const char *input_norm, *post_attention_norm, *pre_feed_forward_norm, *post_feed_forward_norm;
    const char *qkv;         /* rows of q, k and v in one matrix, instead of three */
    const char *gate_up;     /* rows of gate and up in one matrix */
    const char *router;
    const char *experts;     /* folder of all experts' matrices, stacked: EXPERTS.gate_proj, ... (as mlx-lm saves them) */
    const char *expert;      /* folder of one expert's matrices: EXPERT.3.GATE (as Hugging Face models have them) */
    const char *expert_gate, *expert_up, *expert_down;
    const char *interleaved; /* a form of the experts that no view can serve: named when it is found */
};

/* The names of llama, shared by most. */
extern const struct bb_names bb_llama_names;

struct bb_family {
    const char *const *model_types; /* NULL-terminated */
    const struct bb_names *names;
    /* What config.json means where it is silent; 0: 1e-6, hidden_size / num_attention_heads, 32768. */
    double rms_norm_eps;
    int32_t head_dim, max_position_embeddings;
    /* Common sizes are there already (recipe.c), choices are those of llama; sets what differs, and each layer's rope. */
    void (*configure)(struct bb_reader *reader, struct bb_recipe *recipe);
};

extern const struct bb_family bb_family_gemma, bb_family_gpt_oss, bb_family_granite, bb_family_llama, bb_family_mixtral,
    bb_family_olmo2, bb_family_phi3, bb_family_qwen, bb_family_smollm3;

#endif
