/* Mixtral: Mistral's block with experts in every layer. As in mlx-lm, neither sliding_window nor rope_scaling has an effect. */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->num_experts = bb_read_integer(reader, "num_local_experts", 8, 1, 4096);
    recipe->num_experts_per_tok = bb_read_integer(reader, "num_experts_per_tok", 2, 1, 4096);
    recipe->moe_intermediate_size = recipe->intermediate_size;
    recipe->routing = BB_ROUTE_TOP_SOFTMAX;
    const struct bb_rope *rope = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = recipe->head_dim, .theta = 1e6, .ignores_scaling = true, .is_traditional = bb_read_boolean(reader, "rope_traditional", false) });
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++) {
        recipe->layers[i].has_experts = true;
        recipe->layers[i].rope = rope;
    }
}

static const struct bb_names names = {
    .input_norm = "input_layernorm",
    .pre_feed_forward_norm = "post_attention_layernorm",
    .router = "block_sparse_moe.gate",
    .experts = "block_sparse_moe.switch_mlp",
    .expert = "block_sparse_moe.experts",
    .expert_gate = "w1",
    .expert_up = "w3",
    .expert_down = "w2",
};
static const char *const model_types[] = { "mixtral", NULL };

const struct bb_family bb_family_mixtral = { .model_types = model_types, .names = &names, .rms_norm_eps = 1e-5, .configure = configure };
