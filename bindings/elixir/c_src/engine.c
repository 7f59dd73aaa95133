/* Engines and their requests. Events go to the owner of a request as messages {ref, event}; its death cancels it. */
#include "c_src/nif.h"

#include <string.h>

struct engine_object {
    struct pair_object pair;
    bombus_engine *engine;
};

/* A request behind a resource of its own: it is what watches the owner. The engine's callbacks hold it until the
 * last one. */
struct request {
    struct engine_object *engine; /* held */
    uint64_t id;
    atomic_bool is_submitted; /* id is set; pairs with the acquire in cancel */
    struct mailbox mailbox;   /* of the owner */
    ErlNifMonitor monitor;
    bool wants_tokens;
    int32_t *eos_ids; /* the caller's own; NULL: the tokenizer's */
    size_t eos_count;
    bool is_at_end;                       /* one of them was drawn */
    struct constraint_object *constraint; /* held and entered; NULL: none */
};

static ErlNifResourceType *request_type;

static void cancel(struct request *request)
{
    /* acquire: pairs with the release in submit */
    if (!atomic_load_explicit(&request->is_submitted, memory_order_acquire) ||
        !object_enter(&request->engine->pair.object))
        return;
    bombus_engine_cancel(request->engine->engine, request->id);
    object_leave(&request->engine->pair.object);
}

static void owner_died(ErlNifEnv *env, void *memory, ErlNifPid *pid, ErlNifMonitor *monitor)
{
    (void)env;
    (void)pid;
    (void)monitor;
    cancel(memory);
}

static void collect(ErlNifEnv *env, void *memory)
{
    (void)env;
    struct request *request = memory;
    mailbox_clear(&request->mailbox);
    if (request->eos_ids != NULL)
        enif_free(request->eos_ids);
    if (request->constraint != NULL) {
        object_leave(&request->constraint->object);
        object_release(&request->constraint->object);
    }
    if (request->engine != NULL)
        object_release(&request->engine->pair.object);
}

bool requests_start(ErlNifEnv *env)
{
    ErlNifResourceTypeInit init = {.dtor = collect, .down = owner_died};
    request_type =
        enif_open_resource_type_x(env, "bombus_request", &init, ERL_NIF_RT_CREATE | ERL_NIF_RT_TAKEOVER, NULL);
    return request_type != NULL;
}

/* ---- the engine's callbacks, on its thread ---- */

static void send_event(struct request *request, ERL_NIF_TERM event)
{
    (void)mailbox_send(&request->mailbox,
                       event); /* false: the owner is dead, and what ends the request is on its way */
}

static bool on_token(void *context, const bombus_token_event *event)
{
    struct request *request = context;
    ErlNifEnv *env = request->mailbox.message;
    for (size_t i = 0; i < request->eos_count && !request->is_at_end; i++)
        request->is_at_end = request->eos_ids[i] == event->id;
    if (request->wants_tokens) {
        ERL_NIF_TERM top = enif_make_list(env, 0);
        for (size_t i = event->top_count; i > 0; i--) {
            ERL_NIF_TERM pair = enif_make_tuple2(env, enif_make_int(env, event->top[i - 1].id),
                                                 enif_make_double(env, (double)event->top[i - 1].logprob));
            top = enif_make_list_cell(env, pair, top);
        }
        send_event(request, enif_make_tuple5(env, term_atom(env, "token"), enif_make_int(env, event->id),
                                             term_text(env, event->text, event->text_length),
                                             enif_make_double(env, (double)event->logprob), top));
    }
    return !request->is_at_end;
}

static ERL_NIF_TERM finish_atom(ErlNifEnv *env, const struct request *request, bombus_finish_reason reason)
{
    switch (reason) {
    case BOMBUS_FINISH_LENGTH: return term_atom(env, "length");
    case BOMBUS_FINISH_STOP: return term_atom(env, "stop");
    case BOMBUS_FINISH_CANCELLED: return term_atom(env, request->is_at_end ? "stop" : "cancelled");
    case BOMBUS_FINISH_DEADLINE: return term_atom(env, "deadline");
    }
    return term_atom(env, "unknown");
}

static void on_finished(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    struct request *request = context;
    ErlNifEnv *env = request->mailbox.message;
    (void)id;
    if (error != NULL) {
        send_event(request, term_error(env, error));
    } else {
        const struct term_field fields[] = {
            {"text", term_text(env, result->text, result->text_length)},
            {"ids", term_text(env, (const char *)result->ids, result->count * sizeof *result->ids)},
            {"finish_reason", finish_atom(env, request, result->finish_reason)},
            {"prompt_count", enif_make_uint64(env, result->prompt_count)},
            {"reused_count", enif_make_uint64(env, result->reused_count)},
            {"count", enif_make_uint64(env, result->count)},
            {"queue_seconds", enif_make_double(env, result->queue_seconds)},
            {"prompt_seconds", enif_make_double(env, result->prompt_seconds)},
            {"generation_seconds", enif_make_double(env, result->generation_seconds)}};
        ERL_NIF_TERM map = term_map(env, fields, sizeof fields / sizeof *fields);
        send_event(request, enif_make_tuple2(env, term_atom(env, "done"), map));
    }
    enif_release_resource(request);
}

/* ---- engines ---- */

static void finish_engine(struct object *object)
{
    struct engine_object *engine = (struct engine_object *)object;
    bombus_engine_free(engine->engine);
    pair_leave(&engine->pair);
}

static bool read_engine_options(ErlNifEnv *env, ERL_NIF_TERM map, bombus_engine_options *options)
{
    bool is_exact = false;
    ERL_NIF_TERM ignored;
    options->has_precision = field(env, map, "exact", &ignored);
    bool is_right =
        field_int32(env, map, "max_batch", &options->max_batch) &&
        field_int32(env, map, "context_size", &options->context_size) &&
        field_uint64(env, map, "kv_bytes", &options->kv_bytes) && field_int32(env, map, "kv_bits", &options->kv_bits) &&
        field_int32(env, map, "kv_group_size", &options->kv_group_size) &&
        field_int32(env, map, "prefill_step_size", &options->prefill_step_size) &&
        field_int32(env, map, "queue_limit", &options->queue_limit) && field_bool(env, map, "exact", &is_exact);
    options->precision = is_exact ? BOMBUS_PRECISION_EXACT : BOMBUS_PRECISION_FAST;
    return is_right;
}

/* engine_create(model, tokenizer, options) -> {:ok, engine} */
NIF(nif_engine_create)
{
    bombus_engine_options options = {0};
    bombus_error error;
    if (argc != 3 || !read_engine_options(env, argv[2], &options))
        return enif_make_badarg(env);
    ERL_NIF_TERM result;
    struct engine_object *made =
        pair_create(env, sizeof *made, OBJECT_ENGINE, finish_engine, argv[0], argv[1], &result);
    if (made == NULL)
        return result;
    struct pair_object *pair = &made->pair;
    if (!object_join(&pair->object, &pair->model->object)) {
        object_abandon(&pair->object);
        return object_closed(env, OBJECT_MODEL);
    }
    bombus_status status =
        bombus_engine_create(&made->engine, pair->model->model, pair->tokenizer->tokenizer, &options, &error);
    return object_opened(env, &pair->object, status, &error);
}

NIF(nif_engine_stats)
{
    bombus_engine_stats stats;
    ERL_NIF_TERM result;
    if (argc != 1)
        return enif_make_badarg(env);
    struct engine_object *engine = object_enter_term(env, argv[0], OBJECT_ENGINE, &result);
    if (engine == NULL)
        return result;
    bombus_engine_get_stats(engine->engine, &stats);
    object_leave(&engine->pair.object);
    const struct term_field fields[] = {
        {"running", enif_make_int(env, stats.running_count)},
        {"waiting", enif_make_int(env, stats.waiting_count)},
        {"finished", enif_make_uint64(env, stats.finished_count)},
        {"failed", enif_make_uint64(env, stats.failed_count)},
        {"cancelled", enif_make_uint64(env, stats.cancelled_count)},
        {"steps", enif_make_uint64(env, stats.step_count)},
        {"prompt_tokens", enif_make_uint64(env, stats.prompt_tokens)},
        {"reused_tokens", enif_make_uint64(env, stats.reused_tokens)},
        {"generated_tokens", enif_make_uint64(env, stats.generated_tokens)},
        {"kv_bytes", enif_make_uint64(env, stats.kv_bytes)},
        {"kv_limit_bytes", enif_make_uint64(env, stats.kv_limit_bytes)},
        {"prefix_bytes", enif_make_uint64(env, stats.prefix_bytes)},
        {"evicted_bytes", enif_make_uint64(env, stats.evicted_bytes)}};
    return term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
}

/* ---- requests ---- */

/* What a request is made of while it is handed over. */
struct draft {
    bombus_generate_options options;
    bombus_request request;
    int32_t *prompt;
    char **stop;
    size_t stop_count;
    struct adapter_object **adapters; /* entered */
    const bombus_adapter **handles;
    float *weights;
    size_t adapter_count;
};

static void clear_draft(struct draft *draft)
{
    if (draft->prompt != NULL)
        enif_free(draft->prompt);
    free_strings(draft->stop, draft->stop_count);
    for (size_t i = 0; i < draft->adapter_count; i++)
        object_leave(&draft->adapters[i]->object);
    if (draft->adapters != NULL)
        enif_free(draft->adapters);
    if (draft->handles != NULL)
        enif_free(draft->handles);
    if (draft->weights != NULL)
        enif_free(draft->weights);
}

static int32_t *copy_ids(ErlNifEnv *env, ERL_NIF_TERM term, size_t *count)
{
    ErlNifBinary binary;
    if (!enif_inspect_binary(env, term, &binary) || binary.size == 0 || binary.size % sizeof(int32_t) != 0)
        return NULL;
    int32_t *ids = enif_alloc(binary.size);
    if (ids == NULL)
        return NULL;
    memcpy(ids, binary.data, binary.size);
    *count = binary.size / sizeof *ids;
    return ids;
}

static bool read_sampler(ErlNifEnv *env, ERL_NIF_TERM map, bombus_sampler_options *sampler)
{
    return field_float(env, map, "temperature", &sampler->temperature) &&
           field_float(env, map, "top_p", &sampler->top_p) && field_int32(env, map, "top_k", &sampler->top_k) &&
           field_float(env, map, "min_p", &sampler->min_p) &&
           field_float(env, map, "repetition_penalty", &sampler->repetition_penalty) &&
           field_float(env, map, "presence_penalty", &sampler->presence_penalty) &&
           field_float(env, map, "frequency_penalty", &sampler->frequency_penalty) &&
           field_uint64(env, map, "seed", &sampler->seed);
}

/* False: it is no constraint, or has been unloaded; *result says which. */
static bool read_constraint(ErlNifEnv *env, ERL_NIF_TERM map, struct draft *draft, struct request *request,
                            ERL_NIF_TERM *result)
{
    ERL_NIF_TERM term;
    if (!field(env, map, "constraint", &term))
        return true;
    struct constraint_object *constraint = object_enter_term(env, term, OBJECT_CONSTRAINT, result);
    if (constraint == NULL)
        return false;
    object_hold(&constraint->object);
    request->constraint = constraint;
    draft->options.constraint = constraint->constraint;
    return true;
}

static bool read_options(ErlNifEnv *env, ERL_NIF_TERM map, struct draft *draft, struct request *request)
{
    bombus_generate_options *options = &draft->options;
    uint64_t max_tokens = 0;
    ERL_NIF_TERM ids;
    if (!read_sampler(env, map, &options->sampler) || !field_uint64(env, map, "max_new_tokens", &max_tokens) ||
        !field_strings(env, map, "stop", &draft->stop, &draft->stop_count) ||
        !field_bool(env, map, "ignore_eos", &options->ignore_eos) ||
        !field_bool(env, map, "logprobs", &options->wants_logprobs) ||
        !field_int32(env, map, "top_logprobs", &options->top_logprobs) ||
        !field_int32(env, map, "priority", &draft->request.priority) ||
        !field_int32(env, map, "deadline_ms", &draft->request.deadline_ms) ||
        !field_bool(env, map, "tokens", &request->wants_tokens))
        return false;
    if (field(env, map, "eos_ids", &ids)) {
        request->eos_ids = copy_ids(env, ids, &request->eos_count);
        options->ignore_eos = true;
        if (request->eos_ids == NULL)
            return false;
    }
    options->max_tokens = max_tokens;
    options->stop = (const char *const *)draft->stop;
    options->stop_count = draft->stop_count;
    return true;
}

/* A list of {adapter, weight}; false: it is none, or an adapter has been unloaded (*result says so). */
static bool read_adapters(ErlNifEnv *env, ERL_NIF_TERM list, struct draft *draft, ERL_NIF_TERM *result)
{
    unsigned length;
    ERL_NIF_TERM head;
    if (!enif_get_list_length(env, list, &length))
        return false;
    if (length == 0)
        return true;
    draft->adapters = enif_alloc(length * sizeof *draft->adapters);
    draft->handles = enif_alloc(length * sizeof *draft->handles);
    draft->weights = enif_alloc(length * sizeof *draft->weights);
    if (draft->adapters == NULL || draft->handles == NULL || draft->weights == NULL)
        return false;
    while (enif_get_list_cell(env, list, &head, &list)) {
        const ERL_NIF_TERM *pair;
        int arity;
        double weight;
        if (!enif_get_tuple(env, head, &arity, &pair) || arity != 2 || !enif_get_double(env, pair[1], &weight))
            return false;
        struct adapter_object *adapter = object_enter_term(env, pair[0], OBJECT_ADAPTER, result);
        if (adapter == NULL)
            return false;
        draft->adapters[draft->adapter_count] = adapter;
        draft->handles[draft->adapter_count] = adapter->adapter;
        draft->weights[draft->adapter_count++] = (float)weight;
    }
    return true;
}

/* The engine is entered. */
static struct request *create_request(struct engine_object *engine)
{
    struct request *request = enif_alloc_resource(request_type, sizeof *request);
    if (request == NULL)
        return NULL;
    memset(request, 0, sizeof *request);
    request->engine = engine;
    object_hold(&engine->pair.object);
    return request;
}

/* The engine is entered. */
static ERL_NIF_TERM submit(ErlNifEnv *env, struct request *request, struct draft *draft)
{
    bombus_error error;
    draft->options.callback = request->wants_tokens || request->eos_ids != NULL ? on_token : NULL;
    draft->options.context = request;
    draft->request.prompt = draft->prompt;
    draft->request.options = &draft->options;
    draft->request.adapters = draft->handles;
    draft->request.adapter_weights = draft->weights;
    draft->request.adapter_count = draft->adapter_count;
    draft->request.finished = on_finished;
    draft->request.context = request;
    enif_keep_resource(request); /* the callbacks' hold */
    if (bombus_engine_submit(request->engine->engine, &draft->request, &request->id, &error) != BOMBUS_OK) {
        enif_release_resource(request);
        return term_error(env, &error);
    }
    /* release: pairs with the acquire in cancel */
    atomic_store_explicit(&request->is_submitted, true, memory_order_release);
    if (enif_monitor_process(env, request, &request->mailbox.owner, &request->monitor) != 0)
        cancel(request); /* the owner is dead already */
    return term_ok(env, enif_make_resource(env, request));
}

/* engine_submit(engine, owner, ref, prompt ids, options, [{adapter, weight}]) -> {:ok, request} */
NIF(nif_engine_submit)
{
    struct draft draft = {0};
    ERL_NIF_TERM result = 0; /* no term: badarg, which is made only where it is returned */
    if (argc != 6 || !enif_is_map(env, argv[4]))
        return enif_make_badarg(env);
    struct engine_object *engine = object_enter_term(env, argv[0], OBJECT_ENGINE, &result);
    if (engine == NULL)
        return result;
    struct request *request = create_request(engine);
    if (request == NULL) {
        object_leave(&engine->pair.object);
        return term_no_memory(env);
    }
    draft.prompt = copy_ids(env, argv[3], &draft.request.prompt_count);
    if (draft.prompt != NULL && mailbox_open(&request->mailbox, env, argv[1], argv[2]) &&
        read_options(env, argv[4], &draft, request) && read_constraint(env, argv[4], &draft, request, &result) &&
        read_adapters(env, argv[5], &draft, &result))
        result = submit(env, request, &draft);
    clear_draft(&draft);
    enif_release_resource(request);
    object_leave(&engine->pair.object);
    return result != 0 ? result : enif_make_badarg(env);
}

/* request_cancel(request): it ends before its next token, with a last message as ever. */
NIF(nif_request_cancel)
{
    void *memory;
    if (argc != 1 || !enif_get_resource(env, argv[0], request_type, &memory))
        return enif_make_badarg(env);
    cancel(memory);
    return term_atom(env, "ok");
}

/* sampler_defaults(folder) -> {:ok, %{temperature, top_p, top_k, min_p, repetition_penalty}} */
NIF(nif_sampler_defaults)
{
    bombus_sampler_options sampler = {0};
    bombus_error error;
    char *folder = argc == 1 ? read_string(env, argv[0]) : NULL;
    if (folder == NULL)
        return enif_make_badarg(env);
    bombus_status status = bombus_sampler_defaults(&sampler, folder, &error);
    free_text(folder);
    if (status != BOMBUS_OK)
        return term_error(env, &error);
    const struct term_field fields[] = {
        {"temperature", enif_make_double(env, (double)sampler.temperature)},
        {"top_p", enif_make_double(env, (double)sampler.top_p)},
        {"top_k", enif_make_int(env, sampler.top_k)},
        {"min_p", enif_make_double(env, (double)sampler.min_p)},
        {"repetition_penalty", enif_make_double(env, (double)sampler.repetition_penalty)}};
    return term_ok(env, term_map(env, fields, sizeof fields / sizeof *fields));
}
