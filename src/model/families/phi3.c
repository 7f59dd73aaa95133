/* Phi-3, Phi-3.5, Phi-4 (mini): q, k, v in one matrix, gate and up in another; longrope over part of each head. */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    const char *share_key = bb_read_has(reader, "partial_rotary_factor") ? "partial_rotary_factor" : "rope_parameters/partial_rotary_factor";
    double share = (double)bb_read_number(reader, share_key, 1.0);
    if (!(share > 0.0 && share <= 1.0)) {
        bb_read_reject(reader, "partial_rotary_factor must be above 0 and at most 1");
        return;
    }
    const struct bb_rope *rope = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = (int32_t)(recipe->head_dim * share),
        .theta = 10000.0,
        .is_traditional = bb_read_boolean(reader, "rope_traditional", false),
        .original_max_position_embeddings = bb_read_integer(reader, "original_max_position_embeddings", 0, 0, INT32_MAX) });
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
        recipe->layers[i].rope = rope;
}

static const struct bb_names names = {
    .input_norm = "input_layernorm",
    .pre_feed_forward_norm = "post_attention_layernorm",
    .qkv = "self_attn.qkv_proj",
    .gate_up = "mlp.gate_up_proj",
};
static const char *const model_types[] = { "phi3", NULL };

const struct bb_family bb_family_phi3 = {
    .model_types = model_types, .names = &names, .rms_norm_eps = 1e-5, .max_position_embeddings = 131072, .configure = configure
};
