/* A greedy generation with the adapters that are being trained. */
#include "train/sample.h"

#include "base/memory.h"
#include "model/decoder.h"

struct sample {
    const struct bb_trainable *trainable;
    struct bb_kv_cache *cache;
    struct bb_run run;
    int32_t *tokens, *positions; /* [limit]: prompt, then what is generated */
    size_t count, limit;
};

static bombus_status create(struct sample *sample, const struct bb_trainable *trainable, struct bb_backend *backend,
                            const struct bb_sample_options *options, bombus_error *error)
{
    *sample = (struct sample){.trainable = trainable, .limit = options->count + (size_t)options->max_tokens};
    const struct bb_kv_cache_options cache = {.type = bb_kv_cache_choose_type(0, options->is_exact),
                                              .sequence_count = 1,
                                              .context_size = (int32_t)sample->limit};
    bb_run_init(&sample->run, backend, options->is_exact);
    sample->tokens = bb_allocate(sample->limit, sizeof *sample->tokens);
    sample->positions = bb_allocate(sample->limit, sizeof *sample->positions);
    if (sample->tokens == NULL || sample->positions == NULL)
        return bb_fail_memory(error, sample->limit * sizeof(int32_t), "a sample text");
    for (size_t i = 0; i < sample->limit; i++)
        sample->positions[i] = (int32_t)i;
    for (; sample->count < options->count; sample->count++)
        sample->tokens[sample->count] = options->prompt[sample->count];
    return bb_kv_cache_create(&sample->cache, &trainable->model->recipe, backend, &cache, error);
}

static void clear(struct sample *sample)
{
    bb_kv_cache_free(sample->cache);
    bb_run_clear(&sample->run);
    bb_release(sample->tokens);
    bb_release(sample->positions);
}

/* Feeds the tokens from `first` on; *logits are those of the last one. */
static bombus_status feed(struct sample *sample, size_t first, const float **logits, bombus_error *error)
{
    struct bb_run *run = &sample->run;
    int32_t rows = (int32_t)(sample->count - first), last = rows - 1;
    const struct bb_span span = {
        .row_count = rows, .first_position = (int32_t)first, .adapters = sample->trainable->set};
    const struct bb_batch batch = {.row_count = rows,
                                   .tokens = sample->tokens + first,
                                   .positions = sample->positions + first,
                                   .span_count = 1,
                                   .spans = &span,
                                   .output_count = 1,
                                   .output_rows = &last};
    bombus_status status = bb_kv_cache_reserve(sample->cache, 0, rows, error);
    if (status != BOMBUS_OK)
        return status;
    /* The prompt comes first, and no later step is larger. */
    if (first == 0)
        status = bb_decoder_reserve(run, sample->trainable->model, sample->cache, &batch, error);
    if (status != BOMBUS_OK)
        return status;
    bb_run_reset(run);
    *logits = bb_decoder_forward(run, sample->trainable->model, sample->cache, &batch).data;
    if (run->status != BOMBUS_OK) {
        if (error != NULL)
            *error = run->error;
        return run->status;
    }
    bb_kv_cache_advance(sample->cache, 0, rows);
    return BOMBUS_OK;
}

static int32_t likeliest(const float *logits, int32_t count)
{
    int32_t best = 0;
    for (int32_t i = 1; i < count; i++)
        best = logits[i] > logits[best] ? i : best;
    return best;
}

static bool ends(const struct bb_tokenizer *tokenizer, int32_t id)
{
    size_t count = 0;
    const int32_t *ids = bb_tokenizer_eos_ids(tokenizer, &count);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == id)
            return true;
    }
    return false;
}

bombus_status bb_sample_text(struct bb_buffer *text, const struct bb_trainable *trainable, struct bb_backend *backend,
                             const struct bb_tokenizer *tokenizer, const struct bb_sample_options *options,
                             bombus_error *error)
{
    struct sample sample;
    const float *logits = NULL;
    bombus_status status = create(&sample, trainable, backend, options, error);
    size_t first = 0;
    while (status == BOMBUS_OK && sample.count < sample.limit &&
           !atomic_load_explicit(options->is_cancelled, memory_order_relaxed)) {
        status = feed(&sample, first, &logits, error);
        if (status != BOMBUS_OK)
            break;
        int32_t id = likeliest(logits, trainable->model->recipe.vocab_size);
        if (ends(tokenizer, id))
            break;
        first = sample.count;
        sample.tokens[sample.count++] = id;
    }
    if (status == BOMBUS_OK)
        status = bb_tokenizer_decode(tokenizer, sample.tokens + options->count, sample.count - options->count, true,
                                     text, error);
    clear(&sample);
    return status;
}
