/* Sessions: tokens in, logits out, by way of a batch. A step writes keys and values behind what the cache counts as its
 * length and only then advances it, so a step on trial (speculation) is taken back by not advancing. */
#include "generate/session.h"

#include "base/memory.h"
#include "generate/option_checks.h"

#include <string.h>

enum { DEFAULT_CHUNK = 512, MAX_CHUNK = 1 << 16, MAX_GROUP = 1 << 12 };

struct bb_session_group {
    const struct bb_model *model;
    struct bb_run run;
    struct bb_kv_cache *cache;
    struct bb_kv_cache_options cache_options;
    int32_t context_size, chunk_size;
    int32_t spare;      /* a sequence of the cache that no session uses */
    int32_t row_limit;  /* rows a step */
    int32_t *positions; /* [row_limit], as the next three */
    int32_t *output_rows;
    int32_t *tokens;
    struct bb_span *spans;
    float *restored;    /* [vocab_size]: logits that came from a file; NULL until then */
    uint64_t step;      /* counts steps: logits of an earlier one are gone */
    int32_t batch_rows; /* scratch memory is there for batches of this many sessions */
    size_t holders;     /* sessions not freed */
};

static bombus_status check_options(const bombus_session_options *options, bombus_error *error)
{
    bombus_status status = bb_check_option("context_size", options->context_size, 1, 1 << 28, error);
    if (status == BOMBUS_OK)
        status = bb_check_option("max_kv_size", options->max_kv_size, 5, INT32_MAX, error);
    if (status == BOMBUS_OK)
        status = bb_check_option("prefill_step_size", options->prefill_step_size, 1, MAX_CHUNK, error);
    if (status == BOMBUS_OK)
        status = bb_check_cache_options(options->kv_bits, options->kv_group_size, options->precision, error);
    return status;
}

/* Scratch memory that a step needs. */
static bombus_status reserve(struct bb_session_group *group, int32_t rows, int32_t outputs, bombus_error *error)
{
    struct bb_span span = {.row_count = rows};
    for (int32_t i = 0; i < rows; i++)
        group->positions[i] = group->output_rows[i] = i;
    memset(group->tokens, 0, (size_t)rows * sizeof *group->tokens);
    struct bb_batch batch = {.row_count = rows,
                             .tokens = group->tokens,
                             .positions = group->positions,
                             .span_count = 1,
                             .spans = &span,
                             .output_count = outputs,
                             .output_rows = group->output_rows};
    group->step++;
    return bb_decoder_reserve(&group->run, group->model, group->cache, &batch, error);
}

static bombus_status create_rows(struct bb_session_group *group, bombus_error *error)
{
    size_t rows = (size_t)group->row_limit;
    group->positions = bb_allocate(rows, sizeof *group->positions);
    group->output_rows = bb_allocate(rows, sizeof *group->output_rows);
    group->tokens = bb_allocate(rows, sizeof *group->tokens);
    group->spans = bb_allocate(rows, sizeof *group->spans);
    if (group->positions == NULL || group->output_rows == NULL || group->tokens == NULL || group->spans == NULL)
        return bb_fail_memory(error, rows * sizeof *group->spans, "a session's rows");
    return BOMBUS_OK;
}

static void free_group(struct bb_session_group *group)
{
    bb_kv_cache_free(group->cache);
    bb_run_clear(&group->run);
    bb_release(group->positions);
    bb_release(group->output_rows);
    bb_release(group->tokens);
    bb_release(group->spans);
    bb_release(group->restored);
    bb_release(group);
}

static int32_t largest(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static int32_t smallest(int32_t a, int32_t b)
{
    return a < b ? a : b;
}

static bombus_status create_group(struct bb_session_group **group, size_t count, const struct bb_model *model,
                                  struct bb_backend *backend, const bombus_session_options *options, bool is_exact,
                                  bombus_error *error)
{
    struct bb_session_group *made = bb_allocate(1, sizeof *made);
    *group = NULL;
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a session");
    made->model = model;
    made->context_size =
        options->context_size != 0 ? options->context_size : largest(model->recipe.max_position_embeddings, 1);
    made->chunk_size =
        smallest(options->prefill_step_size != 0 ? options->prefill_step_size : DEFAULT_CHUNK, made->context_size);
    made->row_limit = largest(largest(made->chunk_size, BB_MAX_TRY_ROWS), (int32_t)count);
    made->spare = (int32_t)count;
    made->batch_rows = 1;
    bb_run_init(&made->run, backend, is_exact);
    made->cache_options = (struct bb_kv_cache_options){.type = bb_kv_cache_choose_type(options->kv_bits, is_exact),
                                                       .group_size = options->kv_group_size,
                                                       .sequence_count = (int32_t)count + 1,
                                                       .context_size = made->context_size,
                                                       .max_kv_size = options->max_kv_size,
                                                       .page_limit = count * (size_t)bb_kv_pages(made->context_size)};
    bombus_status status = bb_kv_cache_create(&made->cache, &model->recipe, backend, &made->cache_options, error);
    if (status == BOMBUS_OK)
        status = create_rows(made, error);
    if (status == BOMBUS_OK)
        status = reserve(made, made->chunk_size, 1, error);
    if (status != BOMBUS_OK) {
        free_group(made);
        return status;
    }
    *group = made;
    return BOMBUS_OK;
}

static bombus_status create_session(struct bb_session **session, struct bb_session_group *group, int32_t sequence,
                                    bombus_error *error)
{
    size_t bytes = (size_t)group->context_size * sizeof(int32_t);
    struct bb_session *made = bb_allocate(1, sizeof *made);
    int32_t *tokens = bb_allocate((size_t)group->context_size, sizeof *tokens);
    if (made == NULL || tokens == NULL) {
        bb_release(made);
        bb_release(tokens);
        return bb_fail_memory(error, bytes, "a session's tokens");
    }
    *made = (struct bb_session){.group = group, .sequence = sequence, .tokens = tokens};
    group->holders++;
    *session = made;
    return BOMBUS_OK;
}

bombus_status bb_sessions_create(struct bb_session **sessions, size_t count, const struct bb_model *model,
                                 struct bb_backend *backend, const bombus_session_options *options, bool is_exact,
                                 bombus_error *error)
{
    static const bombus_session_options defaults;
    struct bb_session_group *group;
    for (size_t i = 0; i < count; i++)
        sessions[i] = NULL;
    if (count < 1 || count > MAX_GROUP)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "count: %zu sessions, expected a number in [1, %d]", count,
                       MAX_GROUP);
    options = options != NULL ? options : &defaults;
    bombus_status status = check_options(options, error);
    if (status == BOMBUS_OK)
        status = create_group(&group, count, model, backend, options, is_exact, error);
    if (status != BOMBUS_OK)
        return status;
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        status = create_session(&sessions[i], group, (int32_t)i, error);
    if (status == BOMBUS_OK)
        return BOMBUS_OK;
    if (group->holders == 0)
        free_group(group);
    for (size_t i = 0; i < count; i++) {
        bb_session_free(sessions[i]);
        sessions[i] = NULL;
    }
    return status;
}

void bb_session_free(struct bb_session *session)
{
    if (session == NULL)
        return;
    struct bb_session_group *group = session->group;
    bombus_status status = bb_kv_cache_truncate(group->cache, session->sequence, 0, NULL); /* to 0 always succeeds */
    (void)status;
    bb_adapter_choice_free(session->adapters);
    bb_release(session->tokens);
    bb_release(session);
    if (--group->holders == 0)
        free_group(group);
}

const struct bb_model *bb_session_model(const struct bb_session *session)
{
    return session->group->model;
}

int32_t bb_session_context_size(const struct bb_session *session)
{
    return session->group->context_size;
}

const float *bb_session_logits(const struct bb_session *session)
{
    if (session->rows == NULL || session->step != session->group->step)
        return NULL;
    return session->rows + (size_t)(session->row_count - 1) * (size_t)session->group->model->recipe.vocab_size;
}

bombus_status bb_session_reserve(struct bb_session *session, int32_t rows, int32_t outputs, bombus_error *error)
{
    return reserve(session->group, rows, outputs, error);
}

bombus_status bb_session_check(const struct bb_session *session, const int32_t *tokens, size_t count,
                               bombus_error *error)
{
    int32_t vocab_size = session->group->model->recipe.vocab_size;
    for (size_t i = 0; i < count; i++)
        if (tokens[i] < 0 || tokens[i] >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "tokens[%zu]: %d, expected an id in [0, %d)", i, tokens[i],
                           vocab_size);
    if (count > (size_t)(session->group->context_size - session->count))
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL,
                       "%zu tokens do not fit: the session holds %d of %d (context_size)", count, session->count,
                       session->group->context_size);
    return BOMBUS_OK;
}

/* Runs a batch whose spans are filled in; gives the output rows. */
static bombus_status forward(struct bb_session_group *group, const struct bb_batch *batch, const float **rows,
                             bombus_error *error)
{
    bb_run_reset(&group->run);
    group->step++;
    struct bb_tensor logits = bb_decoder_forward(&group->run, group->model, group->cache, batch);
    if (group->run.status != BOMBUS_OK) {
        if (error != NULL)
            *error = group->run.error;
        return group->run.status;
    }
    *rows = logits.data;
    return BOMBUS_OK;
}

/* Before rows are appended: what the cache's content is computed with. */
static void note_adapters(struct bb_session *session)
{
    uint64_t adapters = bb_adapter_choice_fingerprint(session->adapters);
    if (session->count == 0)
        session->content = adapters;
    else if (session->content != adapters)
        session->content = bb_hash(&adapters, sizeof adapters, session->content + (uint64_t)session->count);
}

/* Feeds `count` <= row_limit checked tokens as one step whose last `outputs` rows give logits, and appends them to the session's
 * tokens without accepting them. */
static bombus_status feed(struct bb_session *session, const int32_t *tokens, int32_t count, int32_t outputs,
                          bombus_error *error)
{
    struct bb_session_group *group = session->group;
    struct bb_span span = {.row_count = count,
                           .first_position = session->count,
                           .sequence = session->sequence,
                           .adapters = bb_adapter_choice_set(session->adapters)};
    bombus_status status =
        bb_kv_cache_reserve(group->cache, session->sequence, session->count - session->committed + count, error);
    if (status != BOMBUS_OK)
        return status;
    memmove(session->tokens + session->count, tokens, (size_t)count * sizeof *tokens);
    for (int32_t i = 0; i < count; i++)
        group->positions[i] = session->count + i;
    for (int32_t i = 0; i < outputs; i++)
        group->output_rows[i] = count - outputs + i;
    struct bb_batch batch = {.row_count = count,
                             .tokens = session->tokens + session->count,
                             .positions = group->positions,
                             .span_count = 1,
                             .spans = &span,
                             .output_count = outputs,
                             .output_rows = group->output_rows};
    status = forward(group, &batch, &session->rows, error);
    if (status != BOMBUS_OK)
        return status;
    note_adapters(session);
    session->row_count = outputs;
    session->step = group->step;
    session->count += count;
    return BOMBUS_OK;
}

void bb_session_accept(struct bb_session *session, int32_t count)
{
    bb_kv_cache_advance(session->group->cache, session->sequence, count - session->committed);
    if (count != session->count)
        session->rows = NULL;
    session->count = session->committed = count;
}

/* The next chunk of checked tokens; returns how many it took in *rows. */
static bombus_status step_chunk(struct bb_session *session, const int32_t *tokens, size_t count, size_t *rows,
                                bombus_error *error)
{
    size_t chunk_size = (size_t)session->group->chunk_size;
    *rows = count < chunk_size ? count : chunk_size;
    bombus_status status = feed(session, tokens, (int32_t)*rows, 1, error);
    if (status == BOMBUS_OK)
        bb_session_accept(session, session->count);
    return status;
}

bombus_status bb_session_step(struct bb_session *session, const int32_t *tokens, size_t count, bombus_error *error)
{
    size_t rows;
    bombus_status status = bb_session_check(session, tokens, count, error);
    for (size_t done = 0; status == BOMBUS_OK && done < count; done += rows)
        status = step_chunk(session, tokens + done, count - done, &rows, error);
    return status;
}

bombus_status bb_session_try(struct bb_session *session, const int32_t *tokens, int32_t count, bombus_error *error)
{
    bombus_status status = bb_session_check(session, tokens, (size_t)count, error);
    return status == BOMBUS_OK ? feed(session, tokens, count, count, error) : status;
}

/* Checks the sessions of a batch and lays out its rows: row i is the next position of sessions[i]. */
static bombus_status lay_out(struct bb_session *const *sessions, const int32_t *tokens, size_t count,
                             bombus_error *error)
{
    struct bb_session_group *group = sessions[0]->group;
    for (size_t i = 0; i < count; i++) {
        if (sessions[i]->group != group)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "sessions[%zu]: not made together with sessions[0]", i);
        for (size_t j = 0; j < i; j++)
            if (sessions[j] == sessions[i])
                return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "sessions[%zu]: the same as sessions[%zu]", i, j);
        bombus_status status = bb_session_check(sessions[i], &tokens[i], 1, error);
        if (status == BOMBUS_OK)
            status = bb_kv_cache_reserve(group->cache, sessions[i]->sequence, 1, error);
        if (status != BOMBUS_OK)
            return status;
    }
    for (int32_t i = 0; i < (int32_t)count; i++) {
        group->tokens[i] = tokens[i];
        group->positions[i] = sessions[i]->count;
        group->output_rows[i] = i;
        group->spans[i] = (struct bb_span){.first_row = i,
                                           .row_count = 1,
                                           .first_position = sessions[i]->count,
                                           .sequence = sessions[i]->sequence,
                                           .adapters = bb_adapter_choice_set(sessions[i]->adapters)};
    }
    return BOMBUS_OK;
}

bombus_status bb_sessions_step(struct bb_session *const *sessions, const int32_t *tokens, size_t count,
                               bombus_error *error)
{
    if (count == 0)
        return BOMBUS_OK;
    struct bb_session_group *group = sessions[0]->group;
    int32_t rows = (int32_t)count;
    if (count > (size_t)group->row_limit)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "count: %zu sessions, more than were made together", count);
    if (rows > group->batch_rows) {
        bombus_status status = reserve(group, rows, rows, error);
        if (status != BOMBUS_OK)
            return status;
        group->batch_rows = rows;
    }
    bombus_status status = lay_out(sessions, tokens, count, error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_batch batch = {.row_count = rows,
                             .tokens = group->tokens,
                             .positions = group->positions,
                             .span_count = rows,
                             .spans = group->spans,
                             .output_count = rows,
                             .output_rows = group->output_rows};
    const float *logits;
    status = forward(group, &batch, &logits, error);
    if (status != BOMBUS_OK)
        return status;
    for (size_t i = 0; i < count; i++) {
        struct bb_session *session = sessions[i];
        note_adapters(session);
        session->tokens[session->count++] = tokens[i];
        bb_session_accept(session, session->count);
        session->rows = logits + i * (size_t)group->model->recipe.vocab_size;
        session->row_count = 1;
        session->step = group->step;
    }
    return BOMBUS_OK;
}

bombus_status bb_session_set_adapters(struct bb_session *session, struct bb_adapter *const *adapters,
                                      const float *weights, size_t count, bombus_error *error)
{
    struct bb_adapter_choice *choice;
    bombus_status status = bb_adapter_choice_create(&choice, session->group->model, adapters, weights, count, error);
    if (status != BOMBUS_OK)
        return status;
    bb_adapter_choice_free(session->adapters);
    session->adapters = choice;
    return BOMBUS_OK;
}

bombus_status bb_session_truncate(struct bb_session *session, size_t length, bombus_error *error)
{
    if (length > (size_t)session->count)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "length: %zu, but the session holds %d tokens", length,
                       session->count);
    bombus_status status = BOMBUS_OK;
    if (length < (size_t)session->committed)
        status = bb_kv_cache_truncate(session->group->cache, session->sequence, (int32_t)length, error);
    else /* of what is on trial, that much stays */
        bb_kv_cache_advance(session->group->cache, session->sequence, (int32_t)length - session->committed);
    if (status != BOMBUS_OK)
        return status;
    if (length != (size_t)session->count)
        session->rows = NULL;
    session->count = session->committed = (int32_t)length;
    return BOMBUS_OK;
}

/* Keeps as much of what the session holds as is a prefix of the prompt, but the last token where its logits are gone. */
static bombus_status keep_prefix(struct bb_session *session, const int32_t *prompt, size_t count, size_t *kept,
                                 bombus_error *error)
{
    size_t common = 0;
    bool is_same = session->content == bb_adapter_choice_fingerprint(session->adapters);
    while (is_same && common < count && common < (size_t)session->count && session->tokens[common] == prompt[common])
        common++;
    bool has_logits = common == count && common == (size_t)session->count && bb_session_logits(session) != NULL;
    if (common == count && common > 0 && !has_logits)
        common--;
    bombus_status status = bb_session_truncate(session, common, error);
    if (status == BOMBUS_ERROR_UNSUPPORTED) { /* the cache has dropped what would be seen again */
        common = 0;
        status = bb_session_truncate(session, 0, error);
    }
    *kept = common;
    return status;
}

static bool has_quantized_cache(const struct bb_session *session)
{
    return bb_kv_is_quantized(session->group->cache_options.type);
}

bombus_status bb_session_prepare(struct bb_session *session, const int32_t *prompt, size_t count,
                                 bombus_prompt_progress progress, void *context, size_t *reused, bombus_error *error)
{
    size_t rows;
    bombus_status status = keep_prefix(session, prompt, count, reused, error);
    if (status == BOMBUS_OK)
        status = bb_session_check(session, prompt + *reused, count - *reused, error);
    for (size_t done = *reused; status == BOMBUS_OK && done < count; done += rows) {
        if (progress != NULL && !progress(context, done, count))
            return bb_fail(error, BOMBUS_ERROR_CANCELLED, "stopped by the caller after %zu of %zu prompt tokens", done,
                           count);
        /* A quantized cache shows a first chunk its own keys and values unrounded, but the row whose logits count sees them rounded: mlx-lm feeds the
         * last token of a prompt apart. */
        size_t left = count - done - (has_quantized_cache(session) && count - done > 1);
        status = step_chunk(session, prompt + done, left, &rows, error);
    }
    return status;
}

struct bb_session_identity bb_session_identify(const struct bb_session *session)
{
    const struct bb_session_group *group = session->group;
    int32_t group_size = group->cache_options.group_size;
    bool is_usual = group_size == bb_kv_cache_usual_group_size(group->model->recipe.head_dim);
    return (struct bb_session_identity){.fingerprint = group->model->fingerprint,
                                        .adapters = bb_adapter_choice_fingerprint(session->adapters),
                                        .content = session->content,
                                        .vocab_size = group->model->recipe.vocab_size,
                                        .kv_type = (int32_t)group->cache_options.type,
                                        .kv_group_size = is_usual ? 0 : group_size,
                                        .max_kv_size = group->cache_options.max_kv_size,
                                        .context_size = group->context_size,
                                        .is_exact = group->run.is_exact};
}

bombus_status bb_session_write(const struct bb_session *session, struct bb_buffer *bytes, bombus_error *error)
{
    return bb_kv_cache_write(session->group->cache, session->sequence, bytes, error);
}

/* The bytes go into the spare sequence, which then changes places with the session's own. */
static bombus_status read_cache(struct bb_session *session, int32_t count, const void *bytes, size_t size,
                                bombus_error *error)
{
    struct bb_session_group *group = session->group;
    bombus_status status = bb_kv_cache_read(group->cache, group->spare, bytes, size, error);
    if (status == BOMBUS_ERROR_CONTEXT_FULL && session->count > 0) {
        status = bb_session_truncate(session, 0, error);
        if (status == BOMBUS_OK)
            status = bb_kv_cache_read(group->cache, group->spare, bytes, size, error);
    }
    if (status == BOMBUS_OK && bb_kv_cache_length(group->cache, group->spare) != count)
        status = bb_fail(error, BOMBUS_ERROR_FORMAT, "the cache holds %d positions, expected %d",
                         bb_kv_cache_length(group->cache, group->spare), count);
    int32_t unused = group->spare;
    if (status == BOMBUS_OK) {
        unused = session->sequence;
        session->sequence = group->spare;
        group->spare = unused;
    }
    bombus_status emptied = bb_kv_cache_truncate(group->cache, unused, 0, NULL); /* to 0 always succeeds */
    (void)emptied;
    return status;
}

bombus_status bb_session_replace(struct bb_session *session, const int32_t *tokens, int32_t count, const void *bytes,
                                 size_t size, const float *logits, bombus_error *error)
{
    struct bb_session_group *group = session->group;
    size_t logits_size = (size_t)group->model->recipe.vocab_size * sizeof *logits;
    if (count > group->context_size)
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "%d tokens do not fit into context_size %d", count,
                       group->context_size);
    if (logits != NULL && group->restored == NULL) {
        group->restored = bb_allocate(1, logits_size);
        if (group->restored == NULL)
            return bb_fail_memory(error, logits_size, "logits");
    }
    bombus_status status = read_cache(session, count, bytes, size, error);
    if (status != BOMBUS_OK)
        return status;
    memcpy(session->tokens, tokens, (size_t)count * sizeof *tokens);
    session->count = session->committed = count;
    session->content = bb_adapter_choice_fingerprint(session->adapters);
    session->rows = NULL;
    if (logits != NULL) {
        group->step++; /* another session's restored logits may lie there */
        session->rows = memcpy(group->restored, logits, logits_size);
        session->row_count = 1;
        session->step = group->step;
    }
    return BOMBUS_OK;
}
