/* Llama and what mlx-lm maps to it: Llama 1 to 3.x, Mistral, Ministral. A mistral's sliding_window counts only where layer_types says so. */
#include "model/families/family.h"
#include "model/rope.h"

const struct bb_names bb_llama_names = {
    .input_norm = "input_layernorm",
    .pre_feed_forward_norm = "post_attention_layernorm",
};

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    bb_read_layer_types(reader, recipe, bb_read_integer(reader, "sliding_window", 0, 0, INT32_MAX), false);
    bb_read_common_rope(reader, recipe, 10000.0);
}

static const char *const model_types[] = { "llama", "mistral", NULL };

const struct bb_family bb_family_llama = { .model_types = model_types, .names = &bb_llama_names, .configure = configure };
