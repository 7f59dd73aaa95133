/* The one forward pass: embedding, blocks, final norm, head. */
#include "model/decoder.h"

#include "model/attention.h"
#include "model/feed_forward.h"
#include "ops/low_rank.h"

struct bb_tensor bb_decoder_forward(struct bb_run *run, const struct bb_model *model, struct bb_kv_cache *cache,
                                    const struct bb_batch *batch)
{
    const struct bb_recipe *recipe = &model->recipe;
    bb_run_begin(run, batch);
    struct bb_tensor x = bb_op_embed(run, &model->embedding, batch, recipe->embedding_scale);
    bb_op_embed_low_rank(run, model->embedding_slot, batch, recipe->embedding_scale, x);
    /* One layer's worth of memory serves all: a layer's unrounded keys and values are of no use after its attention. */
    struct bb_kv_view fresh = {0};
    int32_t fresh_pages = bb_kv_cache_fresh(cache, batch, &fresh), last = recipe->num_hidden_layers - 1;
    if (fresh_pages > 0)
        fresh.base = bb_run_allocate(run, fresh_pages, (int64_t)(fresh.page_stride / sizeof(float)), BB_F32).data;
    for (int32_t i = 0; i <= last && run->status == BOMBUS_OK; i++) {
        const struct bb_block *block = &model->blocks[i];
        size_t mark = bb_run_mark(run);
        struct bb_kv_view view = bb_kv_cache_view(cache, i);
        fresh.window = view.window;
        fresh.keep = view.keep;
        view.fresh = fresh_pages > 0 ? &fresh : NULL;
        struct bb_tensor mixed = bb_attention_mix(run, recipe, block, &recipe->layers[i], &view, x, batch);
        if (i == last && batch->output_count < batch->row_count) {
            /* Of the other rows only keys and values were still of use. */
            mixed = bb_op_gather(run, mixed, batch->output_rows, batch->output_count);
            x = bb_op_gather(run, x, batch->output_rows, batch->output_count);
            bb_run_keep_outputs(run);
        }
        /* Both write their result over x, so that everything else in the scratch memory is free again for the next block. */
        x = bb_attention_add(run, recipe, block, mixed, x);
        x = bb_feed_forward(run, recipe, block, &recipe->layers[i], x);
        if (i < last)
            bb_run_release(run, mark);
    }
    x = bb_op_norm(run, &model->final_norm, x);
    x = bb_op_linear(run, &model->head, x);
    if (recipe->logit_scale != 1.0F || recipe->logit_softcap > 0.0F)
        x = bb_op_scale(run, x, recipe->logit_scale, recipe->logit_softcap);
    return x;
}

bombus_status bb_decoder_reserve(struct bb_run *run, const struct bb_model *model, struct bb_kv_cache *cache,
                                 const struct bb_batch *batch, bombus_error *error)
{
    bb_run_reset(run);
    run->is_measuring = true;
    bb_decoder_forward(run, model, cache, batch);
    run->is_measuring = false;
    bombus_status status = run->status;
    size_t bytes = run->scratch_peak;
    if (status != BOMBUS_OK && error != NULL)
        *error = run->error;
    bb_run_reset(run);
    return status != BOMBUS_OK ? status : bb_run_reserve(run, bytes, error);
}
