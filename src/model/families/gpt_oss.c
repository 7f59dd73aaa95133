/* gpt-oss: experts with biases and a clipped activation, attention sinks, every second layer with a sliding window, yarn.
 *
 * mlx-lm rounds the ends of yarn's ramp to whole pairs; these models say "truncate": false, and were trained without (model/rope.c follows them). */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->has_qkv_bias = recipe->has_o_bias = recipe->has_mlp_bias = true;
    recipe->has_sinks = true;
    recipe->activation = BB_SWIGLU_CLIPPED;
    if (bb_read_number(reader, "swiglu_limit", 7.0) != 7.0F)
        bb_read_refuse(reader, "a swiglu_limit other than 7 is not supported");
    recipe->tie_word_embeddings = recipe->ties_without_head = false;
    recipe->num_experts = bb_read_integer(reader, "num_local_experts", 128, 1, 4096);
    recipe->num_experts_per_tok = bb_read_integer(reader, "num_experts_per_tok", 4, 1, 4096);
    recipe->moe_intermediate_size = recipe->intermediate_size;
    recipe->routing = BB_ROUTE_TOP_SOFTMAX;

    int32_t window = bb_read_integer(reader, "sliding_window", 128, 1, INT32_MAX);
    bb_read_layer_types(reader, recipe, window, true);
    bool has_types = bb_read_has(reader, "layer_types");
    bb_read_common_rope(reader, recipe, 150000.0);
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++) {
        recipe->layers[i].has_experts = true;
        if (!has_types && i % 2 == 1)
            recipe->layers[i].sliding_window = 0;
    }
}

static const struct bb_names names = {
    .input_norm = "input_layernorm",
    .pre_feed_forward_norm = "post_attention_layernorm",
    .router = "mlp.router",
    .experts = "mlp.experts",
    .interleaved = "mlp.experts.gate_up_proj",
};
static const char *const model_types[] = { "gpt_oss", NULL };

const struct bb_family bb_family_gpt_oss = {
    .model_types = model_types, .names = &names, .rms_norm_eps = 1e-5, .head_dim = 64, .max_position_embeddings = 131072, .configure = configure
};
