/* One request's output. All memory is taken at the beginning: a token allocates nothing (but for text far longer than text is). */
#include "generate/completion.h"

#include "base/memory.h"

#include <string.h>

enum { DEFAULT_MAX_TOKENS = 256, TEXT_BYTES_A_TOKEN = 64, MAX_FIRST_TEXT = 4 << 20 };

bombus_status bb_completion_check_prompt(const int32_t *prompt, size_t count, int32_t vocab_size, int32_t context_size,
                                         bombus_error *error)
{
    if (prompt == NULL || count == 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "prompt: empty, expected at least one token");
    if (count > (size_t)context_size)
        return bb_fail(error, BOMBUS_ERROR_CONTEXT_FULL, "prompt: %zu tokens, more than context_size %d", count,
                       context_size);
    for (size_t i = 0; i < count; i++)
        if (prompt[i] < 0 || prompt[i] >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "prompt[%zu]: %d, expected an id in [0, %d)", i, prompt[i],
                           vocab_size);
    return BOMBUS_OK;
}

size_t bb_completion_limit(const bombus_generate_options *options, size_t prompt_count, int32_t context_size)
{
    size_t max_tokens = options->max_tokens != 0 ? options->max_tokens : DEFAULT_MAX_TOKENS;
    size_t room = (size_t)context_size - prompt_count + 1; /* the last token is not fed */
    return max_tokens < room ? max_tokens : room;
}

static bombus_status check_options(const bombus_generate_options *options, const struct bb_tokenizer *tokenizer,
                                   int32_t vocab_size, bombus_error *error)
{
    if (options->top_logprobs < 0 || options->top_logprobs > BB_MAX_TOP_LOGPROBS)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "top_logprobs: %d, expected a number in [0, %d]",
                       options->top_logprobs, BB_MAX_TOP_LOGPROBS);
    if (options->stop_count > 0 && tokenizer == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "stop: stop strings need a tokenizer, which is NULL");
    if (options->extra_eos_count > 0 && options->extra_eos_ids == NULL)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "extra_eos_ids: NULL with extra_eos_count %zu",
                       options->extra_eos_count);
    for (size_t i = 0; i < options->extra_eos_count; i++)
        if (options->extra_eos_ids[i] < 0 || options->extra_eos_ids[i] >= vocab_size)
            return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "extra_eos_ids[%zu]: %d, expected an id in [0, %d)", i,
                           options->extra_eos_ids[i], vocab_size);
    return BOMBUS_OK;
}

/* A constraint knows the ends of turn also where there is no tokenizer. */
static bombus_status take_eos_ids(struct bb_completion *completion, const struct bb_tokenizer *tokenizer,
                                  const bombus_generate_options *options, bombus_error *error)
{
    const int32_t *known = NULL;
    size_t known_count = 0;
    if (options->constraint != NULL && !options->ignore_eos) {
        known = options->constraint->eos_ids;
        known_count = options->constraint->eos_count;
    } else if (tokenizer != NULL && !options->ignore_eos) {
        known = bb_tokenizer_eos_ids(tokenizer, &known_count);
    }
    size_t count = known_count + options->extra_eos_count;
    completion->eos_ids = bb_allocate(count, sizeof *completion->eos_ids);
    if (completion->eos_ids == NULL)
        return bb_fail_memory(error, count * sizeof *completion->eos_ids, "the ids that end a turn");
    for (size_t i = 0; i < known_count; i++)
        completion->eos_ids[i] = known[i];
    for (size_t i = 0; i < options->extra_eos_count; i++)
        completion->eos_ids[known_count + i] = options->extra_eos_ids[i];
    completion->eos_count = count;
    return BOMBUS_OK;
}

static bombus_status take_constraint(struct bb_completion *completion, const struct bombus_constraint *constraint,
                                     bombus_error *error)
{
    if (constraint->trie->size > completion->vocab_size)
        return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                       "constraint: made for a vocabulary of %d, expected at most the model's %d", constraint->trie->size,
                       completion->vocab_size);
    completion->masked = bb_allocate((size_t)completion->vocab_size, sizeof *completion->masked);
    if (completion->masked == NULL)
        return bb_fail_memory(error, (size_t)completion->vocab_size * sizeof *completion->masked, "masked logits");
    bombus_status status = bb_grammar_matcher_init(&completion->matcher, constraint, error);
    completion->matcher.eos_ids = completion->eos_ids;
    completion->matcher.eos_count = completion->eos_count;
    return status;
}

static bombus_status take_memory(struct bb_completion *completion, bombus_error *error)
{
    size_t text_bytes = completion->limit < MAX_FIRST_TEXT / TEXT_BYTES_A_TOKEN ? completion->limit * TEXT_BYTES_A_TOKEN
                                                                                : MAX_FIRST_TEXT;
    completion->ids = bb_allocate(completion->limit, sizeof *completion->ids);
    completion->top = bb_allocate((size_t)completion->top_count, sizeof *completion->top);
    if (completion->ids == NULL || completion->top == NULL || !bb_buffer_reserve(&completion->text, text_bytes))
        return bb_fail_memory(error, completion->limit * sizeof *completion->ids + text_bytes, "the generated text");
    return completion->top_count > 0 ? bb_selection_init(&completion->selection, completion->vocab_size, error)
                                     : BOMBUS_OK;
}

bombus_status bb_completion_init(struct bb_completion *completion, const struct bb_tokenizer *tokenizer,
                                 const bombus_generate_options *options, int32_t vocab_size, size_t limit,
                                 bombus_error *error)
{
    *completion = (struct bb_completion){.vocab_size = vocab_size,
                                         .limit = limit,
                                         .wants_logprobs = options->wants_logprobs || options->top_logprobs > 0,
                                         .callback = options->callback,
                                         .context = options->context};
    bombus_status status = check_options(options, tokenizer, vocab_size, error);
    if (status == BOMBUS_OK)
        completion->top_count = options->top_logprobs < vocab_size ? options->top_logprobs : vocab_size;
    if (status == BOMBUS_OK)
        status = bb_sampler_create(&completion->sampler, &options->sampler, vocab_size, error);
    if (status == BOMBUS_OK && tokenizer != NULL)
        status = bb_text_stream_create(&completion->stream, tokenizer, options->stop, options->stop_count, error);
    if (status == BOMBUS_OK)
        status = take_eos_ids(completion, tokenizer, options, error);
    if (status == BOMBUS_OK)
        status = take_memory(completion, error);
    if (status == BOMBUS_OK && options->constraint != NULL)
        status = take_constraint(completion, options->constraint, error);
    if (status != BOMBUS_OK)
        bb_completion_clear(completion);
    return status;
}

void bb_completion_clear(struct bb_completion *completion)
{
    bb_sampler_free(completion->sampler);
    bb_text_stream_free(completion->stream);
    bb_selection_clear(&completion->selection);
    bb_grammar_matcher_clear(&completion->matcher);
    bb_release(completion->masked);
    bb_release(completion->eos_ids);
    bb_release(completion->top);
    bb_release(completion->ids);
    bb_buffer_clear(&completion->text);
    *completion = (struct bb_completion){0};
}

/* Of the model's own distribution, before the sampler. */
static void find_logprobs(struct bb_completion *completion, const float *logits, int32_t id, bombus_token_event *event)
{
    double normalizer = bb_logits_log_sum_exp(logits, completion->vocab_size);
    event->logprob = (float)((double)logits[id] - normalizer);
    if (completion->top_count == 0)
        return;
    struct bb_selection *selection = &completion->selection;
    bb_selection_measure(selection, logits);
    bb_selection_gather_top(selection, logits, completion->top_count);
    bb_selection_keep_top(selection, completion->top_count);
    bb_selection_sort(selection);
    for (int32_t i = 0; i < selection->count; i++)
        completion->top[i] = (bombus_token_logprob){
            .id = selection->candidates[i].id, .logprob = (float)((double)selection->candidates[i].logit - normalizer)};
    event->top = completion->top;
    event->top_count = (size_t)selection->count;
}

static bool ends_turn(const struct bb_completion *completion, int32_t id)
{
    for (size_t i = 0; i < completion->eos_count; i++)
        if (completion->eos_ids[i] == id)
            return true;
    return false;
}

/* The token's text, and whether it is the last one. */
static bombus_status add_text(struct bb_completion *completion, int32_t id, bombus_token_event *event,
                              bombus_error *error)
{
    bool is_end = ends_turn(completion, id), is_complete = completion->matcher.must_end, is_stopped = false;
    bool is_last = is_end || is_complete || completion->count == completion->limit;
    bombus_status status = BOMBUS_OK;
    event->text = "";
    if (completion->stream != NULL && is_last)
        status = bb_text_stream_finish(completion->stream, is_end ? -1 : id, &event->text, &event->text_length,
                                       &is_stopped, error);
    else if (completion->stream != NULL)
        status = bb_text_stream_add(completion->stream, id, &event->text, &event->text_length, &is_stopped, error);
    if (status != BOMBUS_OK)
        return status;
    bb_buffer_add(&completion->text, event->text, event->text_length);
    if (completion->text.is_failed)
        return bb_fail_memory(error, completion->text.length, "the generated text");
    completion->is_done = is_last || is_stopped;
    completion->finish_reason = is_end || is_complete || is_stopped ? BOMBUS_FINISH_STOP : BOMBUS_FINISH_LENGTH;
    return BOMBUS_OK;
}

/* The token among those that the constraint allows. */
static bombus_status draw_constrained(struct bb_completion *completion, const float *logits, const int32_t *tokens,
                                      size_t count, int32_t *id, bombus_error *error)
{
    size_t allowed;
    bombus_status status = bb_grammar_matcher_find_mask(&completion->matcher, &allowed, error);
    if (status != BOMBUS_OK)
        return status;
    if (allowed == 0)
        return bb_fail(error, BOMBUS_ERROR_MISMATCH,
                       "constraint: no token of the vocabulary can follow the %zu generated ones", completion->count);
    bb_grammar_matcher_mask(&completion->matcher, completion->masked, logits, completion->vocab_size);
    status = bb_sampler_draw(completion->sampler, completion->masked, tokens, count, id, error);
    return status == BOMBUS_OK ? bb_grammar_matcher_advance(&completion->matcher, *id, error) : status;
}

bombus_status bb_completion_next(struct bb_completion *completion, const float *logits, const int32_t *tokens,
                                 size_t count, int32_t *id, bombus_error *error)
{
    bombus_status status = completion->masked != NULL
                               ? draw_constrained(completion, logits, tokens, count, id, error)
                               : bb_sampler_draw(completion->sampler, logits, tokens, count, id, error);
    if (status != BOMBUS_OK)
        return status;
    bombus_token_event event = {.id = *id};
    completion->ids[completion->count++] = *id;
    if (completion->wants_logprobs)
        find_logprobs(completion, logits, *id, &event);
    status = add_text(completion, *id, &event, error);
    if (status != BOMBUS_OK)
        return status;
    if (completion->callback != NULL && !completion->callback(completion->context, &event) && !completion->is_done) {
        completion->is_done = true;
        completion->finish_reason = BOMBUS_FINISH_CANCELLED;
    }
    return BOMBUS_OK;
}
