/* OLMo 2: norms on the outputs of attention and feed-forward only, and over the whole of q and k. */
#include "model/families/family.h"
#include "model/rope.h"

static void configure(struct bb_reader *reader, struct bb_recipe *recipe)
{
    recipe->has_pre_norm = false;
    recipe->has_post_norm = true;
    recipe->has_q_norm = recipe->q_norm_is_whole = true;
    bb_read_common_rope(reader, recipe, 10000.0);
}

static const struct bb_names names = {
    .post_attention_norm = "post_attention_layernorm",
    .post_feed_forward_norm = "post_feedforward_layernorm",
};
static const char *const model_types[] = { "olmo2", NULL };

const struct bb_family bb_family_olmo2 = { .model_types = model_types, .names = &names, .rms_norm_eps = 1e-5, .configure = configure };
