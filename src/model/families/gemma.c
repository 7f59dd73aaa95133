/* Gemma 2 and the text models of Gemma 3: norms before and after both halves of a block, scaled by 1 + weight. */
#include "model/families/family.h"
#include "model/rope.h"

#include <math.h>
#include <string.h>

/* mlx-lm sees all positions in every layer of Gemma 2 (transformers: every second layer only the latest sliding_window). */
static void configure_gemma2(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->tie_word_embeddings = true;
    recipe->ties_without_head = false;
    recipe->embedding_scale = (float)sqrt((double)recipe->hidden_size);
    recipe->attention_scale = (float)(1.0 / sqrt((double)bb_read_number(reader, "query_pre_attn_scalar", 144.0)));
    recipe->attention_softcap = bb_read_number(reader, "attn_logit_softcapping", 50.0);
    recipe->logit_softcap = bb_read_number(reader, "final_logit_softcapping", 30.0);
    const struct bb_rope *rope = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = recipe->head_dim, .theta = 10000.0, .ignores_scaling = true, .is_traditional = bb_read_boolean(reader, "rope_traditional", false) });
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
        recipe->layers[i].rope = rope;
}

/* Every sliding_window_pattern-th layer sees all positions and has its own, slower rope. The embedding's scale is rounded to bf16, in mlx-lm also
 * where everything else is f32. */
static void configure_gemma3(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->has_q_norm = true;
    recipe->ties_without_head = true;
    recipe->embedding_scale = bb_bf16_to_f32(bb_f32_to_bf16((float)sqrt((double)recipe->hidden_size)));
    recipe->attention_scale = (float)(1.0 / sqrt((double)bb_read_number(reader, "query_pre_attn_scalar", 256.0)));
    recipe->logit_softcap = bb_read_number(reader, "final_logit_softcapping", 0.0);
    recipe->attention_softcap = bb_read_number(reader, "attn_logit_softcapping", 0.0);

    int32_t window = bb_read_integer(reader, "sliding_window", 512, 1, INT32_MAX);
    int32_t pattern = bb_read_integer(reader, "sliding_window_pattern", 6, 1, INT32_MAX);
    if (bb_read_has(reader, "sliding_window_pattern") || !bb_read_has(reader, "layer_types")) {
        for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
            recipe->layers[i].sliding_window = (i + 1) % pattern == 0 ? 0 : window;
    } else {
        bb_read_layer_types(reader, recipe, window, true);
    }
    const struct bb_rope *local = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = recipe->head_dim, .theta_key = "rope_local_base_freq", .theta = 10000.0, .layer_type = "sliding_attention", .ignores_scaling = true });
    const struct bb_rope *global = bb_read_rope(reader, recipe, &(struct bb_rope_request){
        .dims = recipe->head_dim, .theta = 1e6, .layer_type = "full_attention" });
    for (int32_t i = 0; i < recipe->num_hidden_layers; i++)
        recipe->layers[i].rope = recipe->layers[i].sliding_window > 0 ? local : global;
}

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->norm_is_plus_one = true;
    recipe->has_post_norm = true;
    if (recipe->activation == BB_GELU_ERF || !bb_read_has(reader, "hidden_activation"))
        recipe->activation = BB_GELU_TANH; /* the models were trained so, whatever an early config.json says */
    if (!(bb_read_number(reader, "query_pre_attn_scalar", 256.0) > 0.0F))
        bb_read_reject(reader, "query_pre_attn_scalar must be above 0");
    if (strcmp(recipe->model_type, "gemma2") == 0)
        configure_gemma2(reader, recipe);
    else
        configure_gemma3(reader, recipe);
}

static const struct bb_names names = {
    .input_norm = "input_layernorm",
    .post_attention_norm = "post_attention_layernorm",
    .pre_feed_forward_norm = "pre_feedforward_layernorm",
    .post_feed_forward_norm = "post_feedforward_layernorm",
};
static const char *const model_types[] = { "gemma2", "gemma3_text", NULL };

const struct bb_family bb_family_gemma = { .model_types = model_types, .names = &names, .head_dim = 256, .configure = configure };
