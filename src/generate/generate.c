/* The loop of one request. What the session holds is always the prompt and the generated tokens but the last, which nobody has fed yet. */
#include "generate/generate.h"

#include "base/clock.h"
#include "base/memory.h"
#include "files/config.h"
#include "generate/completion.h"
#include "generate/draft.h"

#include <string.h>

enum { DEFAULT_DRAFT_TOKENS = 3 };

struct generation {
    struct bb_session *session;
    struct bb_draft draft;
    struct bb_completion completion;
    int32_t *timeline; /* prompt and generated tokens */
    size_t count;
    int32_t draft_tokens; /* guesses a step; 0: no speculation */
    int32_t vocab_size;
};

static bombus_status check_draft(const struct bb_session *session, const struct bb_session *draft,
                                 const bombus_generate_options *options, bombus_error *error)
{
    int32_t vocab_size = bb_session_model(session)->recipe.vocab_size;
    if (options->num_draft_tokens < 0 || options->num_draft_tokens > BB_MAX_DRAFT_TOKENS)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "num_draft_tokens: %d, expected 0 (default 3) or a number in [1, %d]", options->num_draft_tokens,
                       BB_MAX_DRAFT_TOKENS);
    if (options->ngram_size < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "ngram_size: %d, expected 0 (off) or more", options->ngram_size);
    if (draft == NULL)
        return BOMBUS_OK;
    if (options->ngram_size > 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "draft and ngram_size: give one of them");
    if (draft->group == session->group)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "draft: the session itself, or one made together with it; expected another");
    if (bb_session_model(draft)->recipe.vocab_size != vocab_size)
        return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                       "draft: its model has a vocabulary of %d, expected the session's %d",
                       bb_session_model(draft)->recipe.vocab_size, vocab_size);
    return BOMBUS_OK;
}

static bombus_status begin(struct generation *generation, struct bb_session *draft,
                           const struct bb_tokenizer *tokenizer, const int32_t *prompt, size_t prompt_count,
                           const bombus_generate_options *options, bombus_error *error)
{
    struct bb_session *session = generation->session;
    int32_t vocab_size = bb_session_model(session)->recipe.vocab_size, context_size = bb_session_context_size(session);
    bombus_status status = bb_completion_check_prompt(prompt, prompt_count, vocab_size, context_size, error);
    if (status == BOMBUS_OK)
        status = check_draft(session, draft, options, error);
    if (status != BOMBUS_OK)
        return status;
    size_t limit = bb_completion_limit(options, prompt_count, context_size);
    generation->vocab_size = vocab_size;
    status = bb_completion_init(&generation->completion, tokenizer, options, generation->vocab_size, limit, error);
    if (status != BOMBUS_OK)
        return status;
    generation->timeline = bb_allocate(prompt_count + limit, sizeof *generation->timeline);
    if (generation->timeline == NULL)
        return bb_fail_memory(error, (prompt_count + limit) * sizeof *generation->timeline, "the generated tokens");
    memcpy(generation->timeline, prompt, prompt_count * sizeof *prompt);
    generation->count = prompt_count;
    generation->draft = (struct bb_draft){
        .session = draft, .sampler = generation->completion.sampler, .ngram_size = options->ngram_size};
    if (draft == NULL && options->ngram_size == 0)
        return BOMBUS_OK;
    generation->draft_tokens = options->num_draft_tokens != 0 ? options->num_draft_tokens : DEFAULT_DRAFT_TOKENS;
    return bb_session_reserve(session, generation->draft_tokens + 1, generation->draft_tokens + 1, error);
}

/* The next token by `logits`, onto the timeline. */
static bombus_status add_token(struct generation *generation, const float *logits, bombus_error *error)
{
    int32_t id;
    bombus_status status =
        bb_completion_next(&generation->completion, logits, generation->timeline, generation->count, &id, error);
    if (status == BOMBUS_OK)
        generation->timeline[generation->count++] = id;
    return status;
}

static int32_t guess_limit(const struct generation *generation)
{
    const struct bb_completion *completion = &generation->completion;
    size_t wanted = completion->limit - completion->count - 1; /* one token comes without a guess */
    size_t room = (size_t)(bb_session_context_size(generation->session) - generation->session->count - 1);
    size_t limit = wanted < room ? wanted : room;
    return limit < (size_t)generation->draft_tokens ? (int32_t)limit : generation->draft_tokens;
}

/* Feeds the last token with guesses of the next ones behind it; every row whose guesses before it were right gives a token. */
static bombus_status advance(struct generation *generation, bombus_generate_result *result, bombus_error *error)
{
    struct bb_session *session = generation->session;
    int32_t rows[BB_MAX_TRY_ROWS], guess_count = 0, right = 0, base = session->count;
    bombus_status status = bb_draft_propose(&generation->draft, generation->timeline, generation->count, rows + 1,
                                            guess_limit(generation), &guess_count, error);
    if (status != BOMBUS_OK)
        return status;
    rows[0] = generation->timeline[generation->count - 1];
    status = bb_session_try(session, rows, guess_count + 1, error);
    const float *logits = session->rows;
    for (int32_t row = 0; row <= guess_count && status == BOMBUS_OK; row++) {
        status = add_token(generation, logits + (size_t)row * (size_t)generation->vocab_size, error);
        if (status != BOMBUS_OK || generation->completion.is_done || row == guess_count)
            break;
        if (generation->timeline[generation->count - 1] != rows[row + 1])
            break;
        right++;
    }
    if (session->count > base) /* the try succeeded */
        bb_session_accept(session, base + 1 + right);
    bb_draft_settle(&generation->draft, right);
    result->draft_count += (size_t)guess_count;
    result->accepted_count += (size_t)right;
    return status;
}

static void fill_result(struct generation *generation, bombus_generate_result *result)
{
    struct bb_completion *completion = &generation->completion;
    result->ids = completion->ids;
    result->count = completion->count;
    result->finish_reason = completion->finish_reason;
    result->text = bb_buffer_take(&completion->text, &result->text_length);
    completion->ids = NULL;
}

bombus_status bb_generate(struct bb_session *session, struct bb_session *draft, const struct bb_tokenizer *tokenizer,
                          const int32_t *prompt, size_t prompt_count, const bombus_generate_options *options,
                          bombus_generate_result *result, bombus_error *error)
{
    struct generation generation = {.session = session};
    *result = (bombus_generate_result){.prompt_count = prompt_count};
    double started = bb_clock_seconds(), drawn = started;
    bombus_status status = begin(&generation, draft, tokenizer, prompt, prompt_count, options, error);
    if (status == BOMBUS_OK)
        status = bb_session_prepare(session, prompt, prompt_count, options->prompt_progress, options->context,
                                    &result->reused_count, error);
    if (status == BOMBUS_ERROR_CANCELLED) {
        generation.completion.is_done = true;
        generation.completion.finish_reason = BOMBUS_FINISH_CANCELLED;
        status = BOMBUS_OK;
    } else if (status == BOMBUS_OK) {
        drawn = bb_clock_seconds();
        result->prompt_seconds = drawn - started;
        status = add_token(&generation, bb_session_logits(session), error);
    }
    while (status == BOMBUS_OK && !generation.completion.is_done)
        status = advance(&generation, result, error);
    result->generation_seconds = bb_clock_seconds() - drawn;
    if (generation.completion.ids != NULL)
        fill_result(&generation, result);
    bb_completion_clear(&generation.completion);
    bb_release(generation.timeline);
    return status;
}

/* A number of generation_config.json; absent or null: the fallback. */
static bombus_status read_number(const struct bb_config *config, const char *key, float fallback, float *value,
                                 bombus_error *error)
{
    double number;
    bombus_status status = bb_config_number(config, key, (double)fallback, &number, error);
    if (status == BOMBUS_OK)
        *value = (float)number;
    return status;
}

static bombus_status read_defaults(bombus_sampler_options *sampler, const struct bb_config *config, bombus_error *error)
{
    bool samples;
    int64_t top_k;
    bombus_sampler_options read = *sampler;
    bombus_status status = bb_config_boolean(config, "do_sample", false, &samples, error);
    if (status != BOMBUS_OK || !samples)
        return status;
    status = read_number(config, "temperature", 1.0f, &read.temperature, error);
    if (status == BOMBUS_OK)
        status = read_number(config, "top_p", 0.0f, &read.top_p, error);
    if (status == BOMBUS_OK)
        status = read_number(config, "min_p", 0.0f, &read.min_p, error);
    if (status == BOMBUS_OK)
        status = read_number(config, "repetition_penalty", 0.0f, &read.repetition_penalty, error);
    if (status == BOMBUS_OK)
        status = bb_config_integer(config, "top_k", 0, 0, INT32_MAX, &top_k, error);
    if (status != BOMBUS_OK)
        return status;
    *sampler = read;
    sampler->top_k = (int32_t)top_k;
    return BOMBUS_OK;
}

bombus_status bb_sampler_defaults(bombus_sampler_options *sampler, const char *folder, bombus_error *error)
{
    sampler->temperature = sampler->top_p = sampler->min_p = sampler->repetition_penalty = 0.0f;
    sampler->top_k = 0;
    char *path = bb_path_join(folder, "generation_config.json");
    if (path == NULL)
        return bb_fail_memory(error, strlen(folder), "a path");
    struct bb_config *config = NULL;
    bombus_status status = BOMBUS_OK;
    if (bb_file_exists(path)) {
        status = bb_config_open(&config, path, error);
        if (status == BOMBUS_OK)
            status = read_defaults(sampler, config, error);
        bb_config_close(config);
    }
    bb_release(path);
    return status;
}
