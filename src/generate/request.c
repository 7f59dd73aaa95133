/* Requests of an engine. */
#include "generate/request.h"

#include "base/clock.h"
#include "base/memory.h"

#include <string.h>

static bombus_status check(const bombus_request *given, const bombus_generate_options *options,
                           const struct bb_request_limits *limits, bombus_error *error)
{
    bombus_status status = bb_completion_check_prompt(given->prompt, given->prompt_count, limits->vocab_size,
                                                      limits->context_size, error);
    if (status != BOMBUS_OK)
        return status;
    if (given->deadline_ms < 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "deadline_ms: %d, expected 0 (none) or more", given->deadline_ms);
    if (options->draft != NULL || options->ngram_size != 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT, "%s: an engine does not speculate, expected %s",
                       options->draft != NULL ? "draft" : "ngram_size", options->draft != NULL ? "NULL" : "0");
    return BOMBUS_OK;
}

static bombus_status fill(struct bb_request *request, const bombus_request *given,
                          const bombus_generate_options *options, const struct bb_tokenizer *tokenizer,
                          const struct bb_request_limits *limits, bombus_error *error)
{
    size_t limit = bb_completion_limit(options, given->prompt_count, limits->context_size);
    bombus_status status =
        bb_completion_init(&request->completion, tokenizer, options, limits->vocab_size, limit, error);
    if (status != BOMBUS_OK)
        return status;
    request->prompt_count = request->count = (int32_t)given->prompt_count;
    if (bb_request_page_limit(request) > limits->page_limit)
        return bb_fail(
            error, BOMBUS_ERROR_CONTEXT_FULL,
            "prompt: %zu tokens and up to %zu more (max_tokens) take %d pages of the cache, which has %d (kv_bytes)",
            given->prompt_count, limit, bb_request_page_limit(request), limits->page_limit);
    request->timeline = bb_allocate(given->prompt_count + limit, sizeof *request->timeline);
    if (request->timeline == NULL)
        return bb_fail_memory(error, (given->prompt_count + limit) * sizeof *request->timeline,
                              "the tokens of a request");
    memcpy(request->timeline, given->prompt, given->prompt_count * sizeof *given->prompt);
    return BOMBUS_OK;
}

bombus_status bb_request_create(struct bb_request **request, const bombus_request *given,
                                const struct bb_tokenizer *tokenizer, const struct bb_request_limits *limits,
                                bombus_error *error)
{
    static const bombus_generate_options defaults;
    const bombus_generate_options *options = given->options != NULL ? given->options : &defaults;
    *request = NULL;
    bombus_status status = check(given, options, limits, error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_request *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "a request");
    made->progress = options->prompt_progress;
    made->progress_context = options->context;
    made->finished = given->finished;
    made->context = given->context;
    made->priority = given->priority;
    made->submitted = bb_clock_seconds();
    made->deadline = given->deadline_ms > 0 ? made->submitted + 1e-3 * given->deadline_ms : 0.0;
    atomic_init(&made->is_cancelled, false);
    status = fill(made, given, options, tokenizer, limits, error);
    if (status == BOMBUS_OK)
        *request = made;
    else
        bb_request_free(made);
    return status;
}

void bb_request_free(struct bb_request *request)
{
    if (request == NULL)
        return;
    bb_completion_clear(&request->completion);
    bb_adapter_choice_free(request->adapters);
    bb_release(request->timeline);
    bb_release(request);
}

int32_t bb_request_page_limit(const struct bb_request *request)
{
    return bb_kv_pages(request->prompt_count + (int32_t)request->completion.limit - 1);
}

bombus_status bb_request_draw(struct bb_request *request, const float *logits, bombus_error *error)
{
    int32_t id;
    if (request->completion.count == 0)
        request->drawn = bb_clock_seconds();
    bombus_status status =
        bb_completion_next(&request->completion, logits, request->timeline, (size_t)request->count, &id, error);
    if (status == BOMBUS_OK)
        request->timeline[request->count++] = id;
    return status;
}

void bb_request_report(struct bb_request *request, const bombus_error *error)
{
    struct bb_completion *completion = &request->completion;
    if (request->finished == NULL)
        return;
    double now = bb_clock_seconds(), began = request->began > 0.0 ? request->began : now,
           drawn = request->drawn > 0.0 ? request->drawn : now;
    bool has_text = completion->text.data != NULL && !completion->text.is_failed;
    char nothing[] = "";
    bombus_generate_result result = {.ids = completion->ids,
                                     .count = completion->count,
                                     .text = has_text ? completion->text.data : nothing,
                                     .text_length = has_text ? completion->text.length : 0,
                                     .finish_reason = completion->finish_reason,
                                     .prompt_count = (size_t)request->prompt_count,
                                     .reused_count = (size_t)request->reused,
                                     .queue_seconds = began - request->submitted,
                                     .prompt_seconds = drawn - began,
                                     .generation_seconds = now - drawn};
    request->finished(request->context, request->id, &result, error);
}

bool bb_request_is_unwanted(struct bb_request *request, double now)
{
    if (atomic_load_explicit(&request->is_cancelled, memory_order_relaxed))
        request->completion.finish_reason = BOMBUS_FINISH_CANCELLED;
    else if (request->deadline > 0.0 && now >= request->deadline)
        request->completion.finish_reason = BOMBUS_FINISH_DEADLINE;
    else
        return false;
    return true;
}
