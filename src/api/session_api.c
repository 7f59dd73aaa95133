/* Sessions and generation. */
#include "api/handles.h"
#include "generate/generate.h"
#include "generate/prompt_cache.h"
#include "generate/score.h"

static void release_session(bombus_session *session)
{
    if (session == NULL)
        return;
    bb_session_free(session->session);
    bombus_model_close(session->model);
    bb_release(session);
}

/* Handles for `count` sessions; each takes its own hold of the model. */
static bombus_status create(bombus_session **sessions, struct bb_session **inner, size_t count, bombus_model *model,
                            const bombus_session_options *options, bombus_error *error)
{
    bool is_exact =
        options != NULL && options->has_precision ? options->precision == BOMBUS_PRECISION_EXACT : model->is_exact;
    for (size_t i = 0; i < count; i++) {
        sessions[i] = bb_allocate(1, sizeof *sessions[i]);
        if (sessions[i] == NULL)
            return bb_fail_memory(error, sizeof *sessions[i], "a session");
        sessions[i]->model = model;
        atomic_fetch_add_explicit(&model->holders, 1, memory_order_relaxed); /* the caller has a hold while this runs */
    }
    bombus_status status = bb_sessions_create(inner, count, model->model, model->backend, options, is_exact, error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        sessions[i]->session = inner[i];
    return status;
}

bombus_status bombus_sessions_create(bombus_session **sessions, size_t count, bombus_model *model,
                                     const bombus_session_options *options, bombus_error *error)
{
    bombus_status status = bb_check_array(sessions, count, "sessions", error);
    if (status != BOMBUS_OK)
        return status;
    for (size_t i = 0; i < count; i++)
        sessions[i] = NULL;
    status = bb_check_pointer(model, "model", error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_session **inner = bb_allocate(count, sizeof *inner);
    if (inner == NULL)
        return bb_fail_memory(error, count * sizeof *inner, "sessions");
    status = create(sessions, inner, count, model, options, error);
    for (size_t i = 0; i < count && status != BOMBUS_OK; i++) {
        release_session(sessions[i]);
        sessions[i] = NULL;
    }
    bb_release(inner);
    return status;
}

bombus_status bombus_session_create(bombus_session **session, bombus_model *model,
                                    const bombus_session_options *options, bombus_error *error)
{
    bombus_status status = bb_check_pointer(session, "session", error);
    return status != BOMBUS_OK ? status : bombus_sessions_create(session, 1, model, options, error);
}

void bombus_session_free(bombus_session *session)
{
    release_session(session);
}

static bombus_status check_tokens(const bombus_session *session, const int32_t *tokens, size_t count,
                                  bombus_error *error)
{
    bombus_status status = bb_check_pointer(session, "session", error);
    return status != BOMBUS_OK ? status : bb_check_array(tokens, count, "tokens", error);
}

bombus_status bombus_session_step(bombus_session *session, const int32_t *tokens, size_t count, bombus_error *error)
{
    bombus_status status = check_tokens(session, tokens, count, error);
    return status != BOMBUS_OK ? status : bb_session_step(session->session, tokens, count, error);
}

bombus_status bombus_sessions_step(bombus_session *const *sessions, const int32_t *tokens, size_t count,
                                   bombus_error *error)
{
    struct bb_session *few[64], **inner = few;
    bombus_status status = bb_check_array(sessions, count, "sessions", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(tokens, count, "tokens", error);
    for (size_t i = 0; i < count && status == BOMBUS_OK; i++)
        if (sessions[i] == NULL)
            status = bb_fail(error, BOMBUS_ERROR_ARGUMENT, "sessions[%zu]: NULL", i);
    if (status != BOMBUS_OK || count == 0)
        return status;
    if (count > BB_COUNT(few) && (inner = bb_allocate(count, sizeof *inner)) == NULL)
        return bb_fail_memory(error, count * sizeof *inner, "a batch");
    for (size_t i = 0; i < count; i++)
        inner[i] = sessions[i]->session;
    status = bb_sessions_step(inner, tokens, count, error);
    if (inner != few)
        bb_release(inner);
    return status;
}

const float *bombus_session_logits(const bombus_session *session)
{
    return session != NULL ? bb_session_logits(session->session) : NULL;
}

size_t bombus_session_length(const bombus_session *session)
{
    return session != NULL ? (size_t)session->session->count : 0;
}

const int32_t *bombus_session_tokens(const bombus_session *session)
{
    return session != NULL ? session->session->tokens : NULL;
}

bombus_status bombus_session_truncate(bombus_session *session, size_t length, bombus_error *error)
{
    bombus_status status = bb_check_pointer(session, "session", error);
    return status != BOMBUS_OK ? status : bb_session_truncate(session->session, length, error);
}

static bombus_status check_path(const bombus_session *session, const char *path, bombus_error *error)
{
    bombus_status status = bb_check_pointer(session, "session", error);
    return status != BOMBUS_OK ? status : bb_check_pointer(path, "path", error);
}

bombus_status bombus_session_save(const bombus_session *session, const char *path, bombus_error *error)
{
    bombus_status status = check_path(session, path, error);
    return status != BOMBUS_OK ? status : bb_prompt_cache_save(session->session, path, error);
}

bombus_status bombus_session_load(bombus_session *session, const char *path, bombus_error *error)
{
    bombus_status status = check_path(session, path, error);
    return status != BOMBUS_OK ? status : bb_prompt_cache_load(session->session, path, error);
}

bombus_status bombus_session_score(bombus_session *session, const int32_t *tokens, size_t count, double *logprobs,
                                   bombus_logits_callback callback, void *context, bombus_error *error)
{
    bombus_status status = check_tokens(session, tokens, count, error);
    if (status == BOMBUS_OK)
        status = bb_check_array(logprobs, count, "logprobs", error);
    return status != BOMBUS_OK ? status
                               : bb_session_score(session->session, tokens, count, logprobs, callback, context, error);
}

bombus_status bombus_sampler_defaults(bombus_sampler_options *sampler, const char *folder, bombus_error *error)
{
    bombus_status status = bb_check_pointer(sampler, "sampler", error);
    if (status == BOMBUS_OK)
        status = bb_check_pointer(folder, "folder", error);
    return status != BOMBUS_OK ? status : bb_sampler_defaults(sampler, folder, error);
}

bombus_status bombus_generate(bombus_session *session, const bombus_tokenizer *tokenizer, const int32_t *prompt,
                              size_t prompt_count, const bombus_generate_options *options,
                              bombus_generate_result *result, bombus_error *error)
{
    static const bombus_generate_options defaults;
    bombus_status status = bb_check_pointer(result, "result", error);
    if (status != BOMBUS_OK)
        return status;
    *result = (bombus_generate_result){0};
    status = bb_check_pointer(session, "session", error);
    if (status == BOMBUS_OK)
        status = bb_check_array(prompt, prompt_count, "prompt", error);
    if (status != BOMBUS_OK)
        return status;
    options = options != NULL ? options : &defaults;
    return bb_generate(session->session, options->draft != NULL ? options->draft->session : NULL,
                       tokenizer != NULL ? tokenizer->tokenizer : NULL, prompt, prompt_count, options, result, error);
}

void bombus_generate_result_clear(bombus_generate_result *result)
{
    if (result == NULL)
        return;
    bb_release(result->ids);
    bb_release(result->text);
    *result = (bombus_generate_result){0};
}
