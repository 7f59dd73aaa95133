/* The attention half of a block: norm, q k v, q and k norm, rope, cache, softmax, o_proj, residual. */
#include "model/attention.h"

/* In a mixture, what attention rounds away can change which experts the routers choose: there its products are always exact. (qwen3_moe of the
 * reference data: perplexity off by 1.0 % with rounding, by 0.2 % without; the experts' own rounding is harmless.) */
static bool begin_exact(struct bb_run *run, const struct bb_recipe *recipe)
{
    bool was_exact = run->is_exact;
    run->is_exact = was_exact || recipe->num_experts > 0;
    return was_exact;
}

struct bb_tensor bb_attention_mix(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block,
                                  const struct bb_layer_recipe *layer, const struct bb_kv_view *cache, struct bb_tensor x,
                                  const struct bb_batch *batch)
{
    bool was_exact = begin_exact(run, recipe);
    struct bb_tensor q = bb_op_attention_input(run, &(struct bb_attention_input_call){
        .norm = recipe->has_pre_norm ? &block->input_norm : NULL,
        .q = &block->q,
        .k = &block->k,
        .v = &block->v,
        .q_norm = recipe->has_q_norm ? &block->q_norm : NULL,
        .k_norm = recipe->has_q_norm ? &block->k_norm : NULL,
        .rope = layer->rope,
        .batch = batch,
        .cache = cache,
        .x = x,
    });
    struct bb_tensor mixed = bb_op_attention(run, &block->attention, cache, q, batch);
    run->is_exact = was_exact;
    return mixed;
}

struct bb_tensor bb_attention_add(struct bb_run *run, const struct bb_recipe *recipe, const struct bb_block *block, struct bb_tensor mixed,
                                  struct bb_tensor x)
{
    bool was_exact = begin_exact(run, recipe);
    if (recipe->has_post_norm) {
        struct bb_tensor out = bb_op_norm(run, &block->post_attention_norm, bb_op_linear(run, &block->o, mixed));
        x = bb_op_add(run, x, out, recipe->residual_scale);
    } else {
        x = bb_op_linear_add(run, &block->o, mixed, x, recipe->residual_scale);
    }
    run->is_exact = was_exact;
    return x;
}
