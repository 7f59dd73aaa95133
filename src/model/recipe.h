/* The block recipe: the sizes and choices of a model, read once from config.json. decoder.c, attention.c and feed_forward.c branch on it, never on a
 * family's name. Names follow config.json. */
#ifndef BB_RECIPE_H
#define BB_RECIPE_H

#include "base/memory.h"
#include "files/config.h"
#include "ops/ops.h"

enum { BB_MAX_LAYERS = 512 };

/* What differs from layer to layer. */
struct bb_layer_recipe {
    int32_t sliding_window; /* a position sees this many latest ones, itself included; 0: full attention */
    const struct bb_rope *rope; /* NULL: no rotary embedding in this layer (smollm3) */
    bool has_experts;
};

struct bb_recipe {
    const char *model_type; /* config.json's, in the model's arena */
    const struct bb_names *names; /* of the family's tensors (families/family.h); read by weights.c and projections.c alone */
    int32_t vocab_size, hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim;
    int32_t max_position_embeddings;
    int32_t position_limit;             /* positions that the rotary embedding is defined for (dynamic scaling); 0: any */
    float rms_norm_eps;
    bool tie_word_embeddings;
    bool ties_without_head;             /* config.json does not say: tied where the folder has no head */
    bool norm_is_plus_one;
    bool has_pre_norm, has_post_norm;   /* before attention and feed-forward; on their outputs, before the residual (gemma, olmo2) */
    bool has_q_norm;                    /* q and k normalized */
    bool q_norm_is_whole;               /* over the whole projection (olmo2), else a head */
    bool has_qkv_bias, has_o_bias, has_mlp_bias; /* has_mlp_bias: router and experts too */
    enum bb_activation activation;
    float embedding_scale;              /* 1 */
    float residual_scale;               /* 1; granite's residual_multiplier */
    float attention_scale;              /* of q . k */
    float attention_softcap, logit_softcap; /* 0: none */
    float logit_scale;                  /* 1; granite divides by logits_scaling */
    bool has_sinks;
    int32_t num_experts, num_experts_per_tok, moe_intermediate_size; /* 0 where no layer has experts */
    enum bb_routing routing;
    struct bb_layer_recipe layers[BB_MAX_LAYERS]; /* [num_hidden_layers] */
};

/* Reads and checks the recipe of any known family. Frequency tables and names are placed in `arena`. BOMBUS_ERROR_UNSUPPORTED for an unknown
 * model_type (the known ones are listed) and for a feature that is not there (it is named). */
BB_RESULT bombus_status bb_recipe_read(struct bb_recipe *recipe, const struct bb_config *config, struct bb_arena *arena,
                                       bombus_error *error);

#endif
