/* Sessions, for those who want the logits of every token: a cache that is always put right before it is used. */
#include "c_src/nif.h"

#include <string.h>

struct session_object {
    struct object object;
    struct model_object *model; /* entered; held as the parent */
    bombus_session *session;
    ErlNifMutex *turn; /* one call at a time */
};

static void finish_session(struct object *object)
{
    struct session_object *session = (struct session_object *)object;
    bombus_session_free(session->session);
    if (session->turn != NULL)
        enif_mutex_destroy(session->turn);
    object_leave(&session->model->object);
}

/* session_create(model, context_size) -> {:ok, session} */
NIF(nif_session_create)
{
    bombus_session_options options = {0};
    bombus_error error;
    ERL_NIF_TERM result;
    if (argc != 2 || !enif_get_int(env, argv[1], &options.context_size))
        return enif_make_badarg(env);
    struct model_object *model = object_enter_term(env, argv[0], OBJECT_MODEL, &result);
    if (model == NULL)
        return result;
    struct session_object *made = object_create(sizeof *made, OBJECT_SESSION, finish_session);
    if (made == NULL) {
        object_leave(&model->object);
        return term_no_memory(env);
    }
    made->model = model;
    made->turn = enif_mutex_create("bombus_session");
    if (made->turn == NULL || !object_join(&made->object, &model->object)) {
        result = made->turn == NULL ? term_no_memory(env) : object_closed(env, OBJECT_MODEL);
        object_abandon(&made->object);
        return result;
    }
    bombus_status status = bombus_session_create(&made->session, model->model, &options, &error);
    return object_opened(env, &made->object, status, &error);
}

static bool copy_logits(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    float *out = context;
    memcpy(out + first * (size_t)vocab_size, logits, count * (size_t)vocab_size * sizeof *out);
    return true;
}

/* Makes the session hold `past` exactly: what it has in common stays. */
static bombus_status restore(bombus_session *session, const int32_t *past, size_t count, bombus_error *error)
{
    const int32_t *held = bombus_session_tokens(session);
    size_t length = bombus_session_length(session), common = 0;
    while (common < length && common < count && held[common] == past[common])
        common++;
    bombus_status status = common < length ? bombus_session_truncate(session, common, error) : BOMBUS_OK;
    if (status == BOMBUS_OK && common < count)
        status = bombus_session_step(session, past + common, count - common, error);
    return status;
}

/* ids: [past_count + count]; out: f32 [count, vocab_size]. */
static bombus_status forward(struct session_object *session, const struct adapter_object *adapter, const int32_t *ids,
                             size_t past_count, size_t count, float *out, bombus_error *error)
{
    const bombus_adapter *handle = adapter != NULL ? adapter->adapter : NULL;
    double *logprobs = enif_alloc(count * sizeof *logprobs);
    if (logprobs == NULL) {
        *error = (bombus_error){.status = BOMBUS_ERROR_MEMORY, .message = "out of memory"};
        return BOMBUS_ERROR_MEMORY;
    }
    bombus_status status = bombus_session_set_adapters(session->session, &handle, NULL, handle != NULL, error);
    if (status == BOMBUS_OK)
        status = restore(session->session, ids, past_count, error);
    if (status == BOMBUS_OK)
        status = bombus_session_score(session->session, ids + past_count, count, logprobs, copy_logits, out, error);
    enif_free(logprobs);
    return status;
}

/* session_forward(session, past ids, ids, adapter or nil) -> {:ok, logits of the ids as f32 in a binary}: the
 * session then holds past and ids, whatever it held before. */
NIF(nif_session_forward)
{
    ErlNifBinary past, next, logits;
    bombus_error error;
    bombus_model_info info;
    ERL_NIF_TERM result;
    if (argc != 4 || !enif_inspect_binary(env, argv[1], &past) || !enif_inspect_binary(env, argv[2], &next) ||
        past.size % sizeof(int32_t) != 0 || next.size % sizeof(int32_t) != 0 || next.size == 0)
        return enif_make_badarg(env);
    struct session_object *session = object_enter_term(env, argv[0], OBJECT_SESSION, &result);
    if (session == NULL)
        return result;
    bool has_adapter = !enif_is_atom(env, argv[3]);
    struct adapter_object *adapter = has_adapter ? object_enter_term(env, argv[3], OBJECT_ADAPTER, &result) : NULL;
    if (has_adapter && adapter == NULL) {
        object_leave(&session->object);
        return result;
    }
    bombus_model_get_info(session->model->model, &info);
    size_t count = next.size / sizeof(int32_t);
    int32_t *ids = enif_alloc(past.size + next.size);
    if (ids != NULL && enif_alloc_binary(count * (size_t)info.vocab_size * sizeof(float), &logits)) {
        if (past.size > 0)
            memcpy(ids, past.data, past.size);
        memcpy((char *)ids + past.size, next.data, next.size);
        enif_mutex_lock(session->turn);
        bombus_status status =
            forward(session, adapter, ids, past.size / sizeof *ids, count, (float *)(void *)logits.data, &error);
        enif_mutex_unlock(session->turn);
        result = status == BOMBUS_OK ? term_ok(env, enif_make_binary(env, &logits)) : term_error(env, &error);
        if (status != BOMBUS_OK)
            enif_release_binary(&logits);
    } else {
        result = term_no_memory(env);
    }
    if (ids != NULL)
        enif_free(ids);
    if (adapter != NULL)
        object_leave(&adapter->object);
    object_leave(&session->object);
    return result;
}
