/* Loss and gradients of a batch (backward.h). Blocks below the lowest trained one run as they do at any time; those above run under a tape, whose records
 * are walked back block by block. Keys and values of one layer at a time lie in a small cache of f32, for the attention operation reads them from one. */
#include "model/backward.h"

#include "base/memory.h"
#include "model/attention.h"
#include "model/feed_forward.h"
#include "model/kv_cache.h"
#include "ops/gradients.h"
#include "ops/low_rank.h"

#include <math.h>
#include <string.h>

/* Arrays of hidden_size beside the blocks' inputs: embedding, noise, head, gradients; dropout of embedding and head. */
enum { ROW_ARRAYS = 10, DROPOUT_ROW_ARRAYS = 4 };

struct bb_backward {
    struct bb_trainable *trainable;
    const struct bb_model *model;
    struct bb_backend *backend;
    struct bb_backward_options options;
    struct bb_run run;
    struct bb_tape head_tape, embedding_tape;
    struct bb_tape *tapes;    /* [tape_count]: one, or one a trained block */
    int32_t tape_count;
    struct bb_tensor *inputs; /* [layers + 1]: of the trained blocks; the last is the final norm's */
    struct bb_tensor *outputs; /* [layers], where tapes are kept */
    void *pages;              /* of one layer, on the device */
    size_t page_bytes, page_count;
    const int32_t **page_tables; /* [sequence_limit] */
    int32_t *page_numbers;    /* [page_count]: 0, 1, 2, ... */
    int32_t *rows;            /* [row_limit]: rows with a target */
    int32_t *targets;         /* theirs */
    float *weights, *nll;     /* theirs */
    struct bb_arena arena;
};

static bombus_status check_options(const struct bb_backward *backward, bombus_error *error)
{
    const struct bb_backward_options *options = &backward->options;
    if (backward->backend->table->linear_grad == NULL)
        return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED, "device %s: training is not there", backward->backend->table->name);
    if (options->row_limit < 1 || options->sequence_limit < 1)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "a step of %d rows of %d sequences", options->row_limit, options->sequence_limit);
    return BOMBUS_OK;
}

static bombus_status create_pages(struct bb_backward *backward, bombus_error *error)
{
    const struct bb_recipe *recipe = &backward->model->recipe;
    size_t bytes;
    backward->page_count = (size_t)bb_kv_pages(backward->options.row_limit) + (size_t)backward->options.sequence_limit;
    backward->page_bytes = bb_kv_page_bytes(BB_KV_F32, 0, BB_KV_PAGE_SIZE, recipe->num_key_value_heads, recipe->head_dim);
    if (!bb_multiply_size(backward->page_count, backward->page_bytes, &bytes))
        return bb_fail_memory(error, SIZE_MAX, "keys and values of a step");
    return backward->backend->table->allocate(backward->backend, bytes, &backward->pages, error);
}

static bombus_status create_arrays(struct bb_backward *backward, bombus_error *error)
{
    const size_t layers = (size_t)backward->model->recipe.num_hidden_layers, rows = (size_t)backward->options.row_limit;
    struct bb_arena *arena = &backward->arena;
    backward->tape_count = backward->options.is_kept ? (int32_t)layers - backward->trainable->first_layer : 1;
    backward->tapes = bb_arena_allocate(arena, (size_t)backward->tape_count, sizeof *backward->tapes);
    backward->inputs = bb_arena_allocate(arena, layers + 1, sizeof *backward->inputs);
    backward->outputs = bb_arena_allocate(arena, layers, sizeof *backward->outputs);
    backward->page_tables = bb_arena_allocate(arena, (size_t)backward->options.sequence_limit, sizeof *backward->page_tables);
    backward->page_numbers = bb_arena_allocate(arena, backward->page_count, sizeof *backward->page_numbers);
    backward->rows = bb_arena_allocate(arena, rows, sizeof *backward->rows);
    backward->targets = bb_arena_allocate(arena, rows, sizeof *backward->targets);
    backward->weights = bb_arena_allocate(arena, rows, sizeof *backward->weights);
    backward->nll = bb_arena_allocate(arena, rows, sizeof *backward->nll);
    if (backward->tapes == NULL || backward->inputs == NULL || backward->outputs == NULL || backward->page_tables == NULL ||
        backward->page_numbers == NULL || backward->rows == NULL || backward->targets == NULL || backward->weights == NULL || backward->nll == NULL)
        return bb_fail_memory(error, rows * 4 * sizeof(float), "the tapes of a step");
    for (size_t i = 0; i < backward->page_count; i++)
        backward->page_numbers[i] = (int32_t)i;
    return BOMBUS_OK;
}

static struct bb_kv_view view_of(const struct bb_backward *backward, int32_t layer)
{
    const struct bb_recipe *recipe = &backward->model->recipe;
    return (struct bb_kv_view){.type = BB_KV_F32,
                               .page_size = BB_KV_PAGE_SIZE,
                               .kv_heads = recipe->num_key_value_heads,
                               .head_dim = recipe->head_dim,
                               .base = backward->pages,
                               .page_stride = backward->page_bytes,
                               .page_tables = backward->page_tables,
                               .window = recipe->layers[layer].sliding_window};
}

static struct bb_tensor run_block(struct bb_backward *backward, int32_t layer, struct bb_tensor x, const struct bb_batch *batch)
{
    const struct bb_recipe *recipe = &backward->model->recipe;
    const struct bb_block *block = &backward->model->blocks[layer];
    const struct bb_layer_recipe *layer_recipe = &recipe->layers[layer];
    struct bb_run *run = &backward->run;
    struct bb_kv_view view = view_of(backward, layer);
    struct bb_tensor mixed = bb_attention_mix(run, recipe, block, layer_recipe, &view, x, batch);
    x = bb_attention_add(run, recipe, block, mixed, x);
    return bb_feed_forward(run, recipe, block, layer_recipe, x);
}

/* Scratch memory: arrays of rows, the activations of one block or all, and a gradient for each of one block's. */
static bombus_status reserve(struct bb_backward *backward, bombus_error *error)
{
    const struct bb_recipe *recipe = &backward->model->recipe;
    struct bb_run *run = &backward->run;
    const struct bb_batch batch = {.row_count = backward->options.row_limit};
    const struct bb_tensor x = {.shape = {batch.row_count, recipe->hidden_size, 1, 1}, .dtype = BB_F32};
    size_t largest = 0, bytes;
    const size_t row_array = ((size_t)batch.row_count * (size_t)recipe->hidden_size + 16) * sizeof(float);
    const size_t trained = (size_t)(recipe->num_hidden_layers - backward->trainable->first_layer);
    for (int32_t i = backward->trainable->first_layer; i < recipe->num_hidden_layers; i++) {
        bb_run_reset(run);
        run->is_measuring = true;
        backward->tapes[0].dropout = backward->trainable->options.dropout; /* its outputs take memory too */
        bb_tape_begin(&backward->tapes[0], run, &batch);
        run_block(backward, i, x, &batch);
        bb_tape_end(run);
        run->is_measuring = false;
        if (run->status != BOMBUS_OK) {
            if (error != NULL)
                *error = run->error;
            return run->status;
        }
        largest = run->scratch_peak > largest ? run->scratch_peak : largest;
    }
    bb_run_reset(run);
    const size_t others = ROW_ARRAYS + (backward->trainable->options.dropout > 0.0f ? DROPOUT_ROW_ARRAYS : 0);
    if (!bb_multiply_size(largest, (size_t)backward->tape_count + 1, &bytes) ||
        !bb_add_size(bytes, (trained + 1 + others) * row_array, &bytes))
        return bb_fail_memory(error, SIZE_MAX, "the activations of a step");
    return bb_run_reserve(run, bytes, error);
}

bombus_status bb_backward_create(struct bb_backward **backward, struct bb_trainable *trainable, struct bb_backend *backend,
                                 const struct bb_backward_options *options, bombus_error *error)
{
    struct bb_backward *created = bb_allocate(1, sizeof *created);
    *backward = NULL;
    if (created == NULL)
        return bb_fail_memory(error, sizeof *created, "a training step");
    created->trainable = trainable;
    created->model = trainable->model;
    created->backend = backend;
    created->options = *options;
    bb_run_init(&created->run, backend, options->is_exact);
    bombus_status status = check_options(created, error);
    if (status == BOMBUS_OK)
        status = create_pages(created, error);
    if (status == BOMBUS_OK)
        status = create_arrays(created, error);
    if (status == BOMBUS_OK)
        status = reserve(created, error);
    if (status != BOMBUS_OK) {
        bb_backward_free(created);
        return status;
    }
    *backward = created;
    return BOMBUS_OK;
}

void bb_backward_free(struct bb_backward *backward)
{
    if (backward == NULL)
        return;
    bb_run_clear(&backward->run);
    if (backward->pages != NULL)
        backward->backend->table->release(backward->backend, backward->pages);
    bb_arena_clear(&backward->arena);
    bb_release(backward);
}

size_t bb_backward_bytes(const struct bb_backward *backward)
{
    return backward->run.scratch_size + backward->page_count * backward->page_bytes;
}

static bombus_status check_call(const struct bb_backward *backward, const struct bb_batch *batch, bombus_error *error)
{
    if (batch->row_count > backward->options.row_limit || batch->span_count > backward->options.sequence_limit)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "a batch of %d rows of %d sequences: at most %d and %d", batch->row_count, batch->span_count,
                       backward->options.row_limit, backward->options.sequence_limit);
    const int32_t limit = backward->model->recipe.position_limit;
    for (int32_t i = 0; i < batch->span_count; i++)
        if (limit > 0 && batch->spans[i].row_count > limit)
            return bb_fail(error, BOMBUS_ERROR_UNSUPPORTED,
                           "a sequence of %d tokens: dynamic rope scaling is not supported beyond %d; reduce "
                           "max_seq_length", batch->spans[i].row_count, limit);
    for (int32_t i = 0; i < batch->span_count; i++)
        if (batch->spans[i].first_position != 0 || batch->spans[i].sequence < 0 || batch->spans[i].sequence >= backward->options.sequence_limit)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "span %d is of sequence %d from position %d, expected one of %d from 0", i,
                           batch->spans[i].sequence, batch->spans[i].first_position, backward->options.sequence_limit);
    return BOMBUS_OK;
}

static void place_pages(struct bb_backward *backward, const struct bb_batch *batch)
{
    int32_t next = 0;
    for (int32_t i = 0; i < batch->span_count; i++) {
        backward->page_tables[batch->spans[i].sequence] = backward->page_numbers + next;
        next += bb_kv_pages(batch->spans[i].row_count);
    }
}

static void copy(struct bb_backward *backward, struct bb_tensor to, struct bb_tensor from)
{
    struct bb_run *run = &backward->run;
    if (run->status == BOMBUS_OK && to.data != from.data)
        bb_run_keep(run, backward->backend->table->copy(backward->backend, to.data, from.data, (size_t)bb_tensor_count(from) * sizeof(float), &run->error));
}

static void set_trained(const struct bb_backward *backward, struct bb_tape *tape, const struct bb_backward_call *call)
{
    const struct bb_trainable *trainable = backward->trainable;
    tape->trained = (struct bb_trained){.values = trainable->values, .gradients = trainable->gradients, .count = trainable->value_count};
    tape->dropout = call->is_training ? trainable->options.dropout : 0.0f;
    tape->seed = call->seed;
}

/* Blocks run under their tapes where gradients are wanted, and where there is dropout, which a tape applies: a pass for the loss alone then sees the
 * same activations as the pass for the gradients. */
static bool is_recorded(const struct bb_backward *backward, const struct bb_backward_call *call)
{
    return call->weights != NULL || (call->is_training && backward->trainable->options.dropout > 0.0f);
}

static struct bb_tensor embed(struct bb_backward *backward, const struct bb_backward_call *call, struct bb_tensor *embedded)
{
    const struct bb_model *model = backward->model;
    const float scale = model->recipe.embedding_scale;
    struct bb_run *run = &backward->run;
    if (backward->trainable->trains_embedding && is_recorded(backward, call)) {
        set_trained(backward, &backward->embedding_tape, call);
        bb_tape_begin(&backward->embedding_tape, run, call->batch);
    }
    struct bb_tensor x = bb_op_embed(run, &model->embedding, call->batch, scale);
    bb_op_embed_low_rank(run, model->embedding_slot, call->batch, scale, x);
    bb_tape_end(run);
    *embedded = x;
    if (!call->is_training || backward->options.neftune_alpha <= 0.0f)
        return x;
    struct bb_tensor noisy = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
    copy(backward, noisy, x);
    if (run->status == BOMBUS_OK)
        bb_run_keep(run, backward->backend->table->noise(backward->backend, call->batch, backward->options.neftune_alpha, call->seed, noisy, &run->error));
    return noisy;
}

/* Block `layer` under its tape; its input's gradient is wanted if something below is trained. */
static struct bb_tensor record_block(struct bb_backward *backward, const struct bb_backward_call *call, struct bb_tape *tape, int32_t layer)
{
    struct bb_run *run = &backward->run;
    set_trained(backward, tape, call);
    bb_tape_begin(tape, run, call->batch);
    bb_tape_node(run, backward->inputs[layer], layer > backward->trainable->first_layer || backward->trainable->trains_embedding);
    struct bb_tensor out = run_block(backward, layer, backward->inputs[layer], call->batch);
    bb_tape_end(run);
    return out;
}

static struct bb_tape *tape_of(struct bb_backward *backward, int32_t layer)
{
    return &backward->tapes[backward->options.is_kept ? layer - backward->trainable->first_layer : 0];
}

/* All blocks. What is not recorded is not kept. */
static struct bb_tensor forward(struct bb_backward *backward, const struct bb_backward_call *call, struct bb_tensor x)
{
    const int32_t layers = backward->model->recipe.num_hidden_layers;
    const int32_t first = is_recorded(backward, call) ? backward->trainable->first_layer : layers;
    struct bb_run *run = &backward->run;
    for (int32_t i = 0; i < first && run->status == BOMBUS_OK; i++) {
        size_t mark = bb_run_mark(run);
        x = run_block(backward, i, x, call->batch);
        bb_run_release(run, mark);
    }
    for (int32_t i = first; i < layers && run->status == BOMBUS_OK; i++) {
        backward->inputs[i] = x;
        if (backward->options.is_kept) {
            x = backward->outputs[i] = record_block(backward, call, tape_of(backward, i), i);
            continue;
        }
        struct bb_tensor next = bb_run_allocate(run, x.shape[0], x.shape[1], BB_F32);
        size_t mark = bb_run_mark(run);
        copy(backward, next, record_block(backward, call, tape_of(backward, i), i));
        bb_run_release(run, mark);
        x = next;
    }
    return x;
}

static int32_t find_rows(struct bb_backward *backward, const struct bb_backward_call *call)
{
    int32_t count = 0;
    for (int32_t i = 0; i < call->batch->row_count; i++) {
        call->nll[i] = 0.0f;
        if (call->targets[i] < 0)
            continue;
        backward->rows[count] = i;
        backward->targets[count] = call->targets[i];
        backward->weights[count] = call->weights != NULL ? call->weights[i] : 0.0f;
        count++;
    }
    return count;
}

/* What the pairs of the head take, and the way back: `adds` to out. */
static void drop_out(struct bb_backward *backward, struct bb_tensor x, bool adds, struct bb_tensor out)
{
    const struct bb_tape *tape = &backward->head_tape;
    struct bb_run *run = &backward->run;
    if (run->status == BOMBUS_OK)
        bb_run_keep(run, backward->backend->table->dropout(backward->backend, x, tape->dropout, tape->seed,
                                                           backward->model->head.slot, adds, out, &run->error));
}

/* Of the rows with a target: their loss, and the gradient by x, written to d_x. The batch that adapters see is that of these rows. */
static void run_head(struct bb_backward *backward, const struct bb_backward_call *call, struct bb_tensor x, int32_t count, struct bb_tensor d_x)
{
    const struct bb_model *model = backward->model;
    struct bb_run *run = &backward->run;
    struct bb_batch batch = *call->batch;
    batch.output_rows = backward->rows;
    batch.output_count = count;
    set_trained(backward, &backward->head_tape, call);
    bb_tape_begin(&backward->head_tape, run, &batch);
    bb_tape_node(run, x, true);
    struct bb_tensor normed = bb_op_norm(run, &model->final_norm, bb_op_gather(run, x, backward->rows, count));
    bb_tape_end(run);
    bb_run_begin(run, &batch);
    bb_run_keep_outputs(run);
    struct bb_cross_entropy_call entropy = {.head = &model->head,
                                            .low_rank = bb_op_terms(run, &model->head, 0),
                                            .x = normed,
                                            .targets = backward->targets,
                                            .weights = call->weights != NULL ? backward->weights : NULL,
                                            .scale = model->recipe.logit_scale,
                                            .softcap = model->recipe.logit_softcap,
                                            .is_exact = backward->options.is_exact,
                                            .nll = backward->nll,
                                            .trained = backward->head_tape.trained};
    const bool drops = backward->head_tape.dropout > 0.0f && entropy.low_rank.count > 0;
    if (call->weights != NULL)
        entropy.d_x = bb_run_allocate(run, count, x.shape[1], BB_F32);
    if (drops) {
        entropy.pair_x = bb_run_allocate(run, count, x.shape[1], BB_F32);
        entropy.d_pair_x = bb_run_allocate(run, count, x.shape[1], BB_F32);
        drop_out(backward, normed, false, entropy.pair_x);
    }
    if (run->status == BOMBUS_OK)
        bb_run_keep(run, backward->backend->table->cross_entropy(backward->backend, &entropy, &run->error));
    if (drops && call->weights != NULL)
        drop_out(backward, entropy.d_pair_x, true, entropy.d_x);
    bb_run_begin(run, call->batch);
    if (call->weights != NULL && run->status == BOMBUS_OK)
        copy(backward, d_x, bb_gradients_walk(run, &backward->head_tape, normed, entropy.d_x, x));
    for (int32_t i = 0; i < count; i++)
        call->nll[backward->rows[i]] = backward->nll[i];
}

/* From the last block to the lowest trained one; d_x is the gradient by the last one's output, and is written over. */
static void walk_blocks(struct bb_backward *backward, const struct bb_backward_call *call, struct bb_tensor d_x)
{
    struct bb_run *run = &backward->run;
    for (int32_t i = backward->model->recipe.num_hidden_layers - 1; i >= backward->trainable->first_layer && run->status == BOMBUS_OK; i--) {
        size_t mark = bb_run_mark(run);
        if (!backward->options.is_kept)
            backward->outputs[i] = record_block(backward, call, tape_of(backward, i), i);
        if (run->status != BOMBUS_OK)
            return;
        struct bb_tensor d_input = bb_gradients_walk(run, tape_of(backward, i), backward->outputs[i], d_x, backward->inputs[i]);
        if (d_input.data != NULL)
            copy(backward, d_x, d_input);
        bb_run_release(run, mark);
    }
}

bombus_status bb_backward_step(struct bb_backward *backward, const struct bb_backward_call *call, bombus_error *error)
{
    struct bb_run *run = &backward->run;
    bombus_status status = check_call(backward, call->batch, error);
    if (status != BOMBUS_OK)
        return status;
    int32_t count = find_rows(backward, call);
    if (count == 0)
        return BOMBUS_OK;
    place_pages(backward, call->batch);
    bb_run_reset(run);
    bb_run_begin(run, call->batch);
    struct bb_tensor embedded, d_x = bb_run_allocate(run, call->batch->row_count, backward->model->recipe.hidden_size, BB_F32);
    struct bb_tensor x = forward(backward, call, embed(backward, call, &embedded));
    if (run->status == BOMBUS_OK)
        run_head(backward, call, x, count, d_x);
    if (run->status == BOMBUS_OK && call->weights != NULL)
        walk_blocks(backward, call, d_x);
    if (run->status == BOMBUS_OK && call->weights != NULL && backward->trainable->trains_embedding)
        (void)bb_gradients_walk(run, &backward->embedding_tape, embedded, d_x, (struct bb_tensor){0});
    bb_tape_end(run);
    if (run->status != BOMBUS_OK && error != NULL)
        *error = run->error;
    return run->status;
}
