/* Qwen2, Qwen2.5, Qwen3 and its mixtures. As in mlx-lm, sliding_window and max_window_layers have no effect, and the mixtures' rope is not scaled. */
#include "model/families/family.h"
#include "model/rope.h"

#include <string.h>

/* Layer i has experts unless mlp_only_layers names it, every decoder_sparse_step layers. */
static void read_experts(struct bb_reader *reader, struct bb_recipe *recipe)
{
    int32_t step = bb_read_integer(reader, "decoder_sparse_step", 1, 1, INT32_MAX);
    recipe->num_experts = bb_read_integer(reader, "num_experts", 0, 0, 4096);
    if (recipe->num_experts == 0)
        return;
    recipe->num_experts_per_tok = bb_read_integer(reader, "num_experts_per_tok", 8, 1, 4096);
    recipe->moe_intermediate_size = bb_read_integer(reader, "moe_intermediate_size", 768, 1, 1 << 22);
    recipe->routing = bb_read_boolean(reader, "norm_topk_prob", false) ? BB_ROUTE_SOFTMAX_TOP_NORMALIZE : BB_ROUTE_SOFTMAX_TOP;
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
        recipe->layers[i].has_experts = (i + 1) % step == 0;
    size_t count = bb_config_array_length(reader->config, "mlp_only_layers");
    for (size_t i = 0; i < count && reader->status == BOMBUS_OK; i++) {
        double layer = 0.0;
        reader->status = bb_config_array_number(reader->config, "mlp_only_layers", i, &layer, reader->error);
        if (layer >= 0.0 && layer < recipe->num_hidden_layers)
            recipe->layers[(int32_t)layer].has_experts = false;
    }
}

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    if (strcmp(recipe->model_type, "qwen2") == 0) {
        recipe->has_qkv_bias = true;
        recipe->has_o_bias = false;
        bb_read_common_rope(reader, recipe, 1e6);
        return;
    }
    recipe->has_q_norm = true;
    if (strcmp(recipe->model_type, "qwen3_moe") == 0) {
        read_experts(reader, recipe);
        const struct bb_rope *rope = bb_read_rope(reader, recipe, &(struct bb_rope_request){
            .dims = recipe->head_dim, .theta = 1e6, .ignores_scaling = true });
        for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
            recipe->layers[i].rope = rope;
    } else {
        bb_read_common_rope(reader, recipe, 1e6);
    }
}

static const struct bb_names names = {
    .input_norm = "input_layernorm",
    .pre_feed_forward_norm = "post_attention_layernorm",
    .router = "mlp.gate",
    .experts = "mlp.switch_mlp",
    .expert = "mlp.experts",
    .expert_gate = "gate_proj",
    .expert_up = "up_proj",
    .expert_down = "down_proj",
};
static const char *const model_types[] = { "qwen2", "qwen3", "qwen3_moe", NULL };

const struct bb_family bb_family_qwen = { .model_types = model_types, .names = &names, .configure = configure };
