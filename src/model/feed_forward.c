/* The feed-forward half of a block: norm, gated MLP or experts, residual. */
#include "model/feed_forward.h"

static struct bb_tensor experts_forward(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block, struct bb_tensor x)
{
    if (recipe->has_pre_norm)
        x = bb_op_norm(run, &block->pre_feed_forward_norm, x);
    /* The router is small, and a rounding that changes its choice changes everything after it: its product is always exact. */
    bool is_exact = run->is_exact;
    run->is_exact = true;
    struct bb_tensor logits = bb_op_linear(run, &block->router, x);
    run->is_exact = is_exact;
    return bb_op_experts(run, &block->experts, recipe->routing, logits, x);
}

struct bb_tensor bb_feed_forward(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block, const struct bb_layer_recipe *layer,
                                 struct bb_tensor x)
{
    struct bb_tensor out;
    if (layer->has_experts) {
        out = experts_forward(run, recipe, block, x);
    } else {
        struct bb_tensor gated = bb_op_gated_input(run, &(struct bb_gated_input_call){
            .norm = recipe->has_pre_norm ? &block->pre_feed_forward_norm : NULL,
            .gate = &block->gate,
            .up = &block->up,
            .activation = recipe->activation,
            .x = x,
        });
        if (!recipe->has_post_norm)
            return bb_op_linear_add(run, &block->down, gated, x, recipe->residual_scale);
        out = bb_op_linear(run, &block->down, gated);
    }
    if (recipe->has_post_norm)
        out = bb_op_norm(run, &block->post_feed_forward_norm, out);
    return bb_op_add(run, x, out, recipe->residual_scale);
}
