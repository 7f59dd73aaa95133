/* What the tests of the engine share: models, requests and their logs, what a request gives alone, a gate that holds the engine's thread. */
#ifndef ENGINE_FIXTURE_H
#define ENGINE_FIXTURE_H
#include "base/compiler.h"
#include "base/memory.h"
#include "base/random.h"
#include "golden.h"
#include "open_or_skip.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { MAX_TOKENS = 96 };

struct opened {
    bombus_model *model;
    bombus_tokenizer *tokenizer; /* NULL where the folder has none */
    struct golden_ids prompt;
};

/* A model of the reference data or the fixtures; or a folder, with ids of no meaning. */
static inline bool open_model(struct opened *opened, const char *name, int32_t thread_count)
{
    bool is_folder = strchr(name, '/') != NULL;
    const char *folder = is_folder ? name : golden_model(name);
    bombus_error error;
    if (folder == NULL || (!is_folder && !golden_ids(&opened->prompt, name, "long")))
        return false;
    for (size_t i = 0; is_folder && i < 200; i++) {
        opened->prompt.ids[i] = (int32_t)(bb_random_at(3, i) % 5000);
        opened->prompt.count = i + 1;
    }
    CHECK_OK(bombus_model_open(&opened->model, folder, &(bombus_model_options){.thread_count = thread_count}, &error),
             error);
    opened->tokenizer = NULL;
    if (strstr(folder, "fixtures") == NULL)
        CHECK_OK(bombus_tokenizer_open(&opened->tokenizer, folder, NULL, &error), error);
    return true;
}

static inline void close_model(struct opened *opened)
{
    bombus_model_close(opened->model);
    bombus_tokenizer_close(opened->tokenizer);
}

/* What the callbacks of one request saw. cmocka's assertions are of the main thread alone: here things are written down. */
struct log {
    struct crowd *crowd;
    int32_t ids[MAX_TOKENS];
    float logprobs[MAX_TOKENS], second[MAX_TOKENS];
    size_t count, cancel_at; /* the callback says stop with this token; 0: never */
    char text[2048];
    bombus_status status;
    bombus_finish_reason finish_reason;
    size_t result_count, reused_count;
    uint64_t id, finished_id;
    int ended;
    bool agrees; /* the result is what the tokens' callbacks saw */
};

/* Waits for requests to end. */
struct crowd {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    size_t ended;
};

static inline void crowd_init(struct crowd *crowd)
{
    pthread_mutex_init(&crowd->mutex, NULL);
    pthread_cond_init(&crowd->changed, NULL);
    crowd->ended = 0;
}

static inline void crowd_wait(struct crowd *crowd, size_t count)
{
    pthread_mutex_lock(&crowd->mutex);
    while (crowd->ended < count)
        pthread_cond_wait(&crowd->changed, &crowd->mutex);
    pthread_mutex_unlock(&crowd->mutex);
}

static inline void crowd_clear(struct crowd *crowd)
{
    pthread_cond_destroy(&crowd->changed);
    pthread_mutex_destroy(&crowd->mutex);
}

static inline bool record(void *context, const bombus_token_event *event)
{
    struct log *log = context;
    if (log->count < MAX_TOKENS) {
        log->ids[log->count] = event->id;
        log->logprobs[log->count] = event->logprob;
        log->second[log->count] = event->top_count > 1 ? event->top[1].logprob : 0.0f;
    }
    size_t length = strlen(log->text);
    if (length + event->text_length < sizeof log->text)
        memcpy(log->text + length, event->text, event->text_length);
    return ++log->count != log->cancel_at;
}

static inline void finish(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    struct log *log = context;
    log->status = error != NULL ? error->status : BOMBUS_OK;
    log->finish_reason = result->finish_reason;
    log->result_count = result->count;
    log->reused_count = result->reused_count;
    log->finished_id = id;
    log->agrees = result->count == log->count && memcmp(result->ids, log->ids, log->count * sizeof *log->ids) == 0 &&
                  strcmp(result->text, log->text) == 0 && result->text_length == strlen(log->text);
    log->ended++;
    pthread_mutex_lock(&log->crowd->mutex);
    log->crowd->ended++;
    pthread_cond_broadcast(&log->crowd->changed);
    pthread_mutex_unlock(&log->crowd->mutex);
}

/* A request of the many that the tests make: its prompt is a part of the reference text, with some common beginnings. */
struct plan {
    int32_t prompt[256];
    size_t prompt_count;
    bombus_generate_options options;
    const bombus_adapter *adapters[2];
    float weights[2];
    size_t adapter_count;
};

static inline void make_plan(struct plan *plan, const struct opened *opened, uint64_t number)
{
    static const size_t lengths[] = {1, 2, 30, 63, 64, 65, 66, 100, 127, 128, 129, 130, 150, 190};
    *plan = (struct plan){.prompt_count = lengths[bb_random_at(5, number) % BB_COUNT(lengths)]};
    size_t first = number % 3 == 0 ? 0 : number % 3 == 1 ? 7 : number % 11;
    for (size_t i = 0; i < plan->prompt_count; i++)
        plan->prompt[i] = opened->prompt.ids[(first + i) % opened->prompt.count];
    if (number % 5 == 4) /* leaves the others' prefix in its last tokens */
        plan->prompt[plan->prompt_count - 1] = (int32_t)(number % 17);
    plan->options = (bombus_generate_options){.sampler = {.temperature = number % 4 == 0 ? 0.0f : 0.9f,
                                                          .top_p = number % 4 == 2 ? 0.8f : 0.0f,
                                                          .repetition_penalty = number % 4 == 3 ? 1.2f : 0.0f,
                                                          .seed = number},
                                              .max_tokens = 1 + bb_random_at(6, number) % 70,
                                              .wants_logprobs = true,
                                              .top_logprobs = 2,
                                              .callback = record};
}

/* Adapters of the reference data. */
static inline void open_adapters(bombus_adapter **adapters, const char *const *names, size_t count,
                                 const struct opened *opened)
{
    bombus_error error;
    for (size_t i = 0; i < count; i++) {
        char path[128];
        snprintf(path, sizeof path, "lora/adapters/%s", names[i]);
        SKIP_WITHOUT_GOLDEN(golden_path(path));
        CHECK_OK(bombus_adapter_open(&adapters[i], opened->model, golden_path(path), NULL, &error), error);
    }
}

/* Request `number` takes none, one or two of `count` adapters. */
static inline void plan_adapters(struct plan *plan, bombus_adapter *const *adapters, size_t count, size_t number,
                                 float weight)
{
    for (; plan->adapter_count < number % 3; plan->adapter_count++) {
        plan->adapters[plan->adapter_count] = adapters[(number + plan->adapter_count) % count];
        plan->weights[plan->adapter_count] = weight;
    }
}

/* What the request gives by a session of its own. */
static inline void run_alone_in(struct log *log, const struct opened *opened, const struct plan *plan,
                                const bombus_session_options *session_options)
{
    bombus_error error;
    bombus_session *session;
    bombus_generate_result result;
    bombus_generate_options options = plan->options;
    memset(log, 0, sizeof *log);
    options.context = log;
    CHECK_OK(bombus_session_create(&session, opened->model, session_options, &error), error);
    CHECK_OK(bombus_session_set_adapters(session, plan->adapters, plan->weights, plan->adapter_count, &error), error);
    CHECK_OK(bombus_generate(session, opened->tokenizer, plan->prompt, plan->prompt_count, &options, &result, &error),
             error);
    log->finish_reason = result.finish_reason;
    bombus_generate_result_clear(&result);
    bombus_session_free(session);
}

static inline void run_alone(struct log *log, const struct opened *opened, const struct plan *plan)
{
    run_alone_in(log, opened, plan, &(bombus_session_options){.context_size = 300});
}

/* An engine, and the crowd of those who wait for it. */
static inline bombus_engine *new_engine(struct crowd *crowd, const struct opened *opened,
                                        const bombus_engine_options *options)
{
    bombus_engine *engine;
    bombus_error error;
    CHECK_OK(bombus_engine_create(&engine, opened->model, opened->tokenizer, options, &error), error);
    crowd_init(crowd);
    return engine;
}

static inline bombus_status submit(bombus_engine *engine, struct log *log, struct crowd *crowd, const struct plan *plan,
                                   bombus_error *error)
{
    bombus_generate_options options = plan->options;
    memset(log, 0, sizeof *log);
    log->crowd = crowd;
    options.context = log;
    bombus_request request = {.prompt = plan->prompt,
                              .prompt_count = plan->prompt_count,
                              .options = &options,
                              .adapters = plan->adapters,
                              .adapter_weights = plan->weights,
                              .adapter_count = plan->adapter_count,
                              .finished = finish,
                              .context = log};
    return bombus_engine_submit(engine, &request, &log->id, error);
}

static inline void check_same(const struct log *log, const struct log *alone)
{
    assert_int_equal(log->ended, 1);
    assert_int_equal(log->status, BOMBUS_OK);
    assert_int_equal(log->id, log->finished_id);
    assert_true(log->agrees);
    assert_int_equal(log->finish_reason, alone->finish_reason);
    assert_int_equal(log->count, alone->count);
    assert_memory_equal(log->ids, alone->ids, alone->count * sizeof *alone->ids);
    assert_memory_equal(log->logprobs, alone->logprobs, alone->count * sizeof *alone->logprobs);
    assert_memory_equal(log->second, alone->second, alone->count * sizeof *alone->second);
    assert_string_equal(log->text, alone->text);
}

/* After all requests ended: nothing is held but prefixes. */
static inline bombus_engine_stats check_idle(const bombus_engine *engine, size_t submitted)
{
    bombus_engine_stats stats;
    bombus_engine_get_stats(engine, &stats);
    assert_int_equal(stats.running_count, 0);
    assert_int_equal(stats.waiting_count, 0);
    assert_int_equal(stats.kv_bytes, stats.prefix_bytes);
    assert_true(stats.kv_bytes <= stats.kv_limit_bytes);
    assert_int_equal(stats.finished_count + stats.failed_count + stats.cancelled_count, submitted);
    return stats;
}

/* Bytes of `pages` of the cache, by what an engine says of a limit far above. */
static inline uint64_t page_bytes(const struct opened *opened)
{
    bombus_error error;
    bombus_engine *engine;
    assert_int_equal(
        bombus_engine_create(&engine, opened->model, NULL, &(bombus_engine_options){.kv_bytes = 1}, &error),
        BOMBUS_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "kv_bytes"));
    return strtoull(strrchr(error.message, ' '), NULL, 10);
}

/* A gate in the engine's thread: the first token of one request waits until the test opens it. */
struct gate {
    struct log log;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool is_reached, is_open;
};

static inline bool hold_engine(void *context, const bombus_token_event *event)
{
    struct gate *gate = context;
    pthread_mutex_lock(&gate->mutex);
    gate->is_reached = true;
    pthread_cond_broadcast(&gate->changed);
    while (!gate->is_open)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
    return record(&gate->log, event);
}

static inline void gate_close(struct gate *gate, bombus_engine *engine, struct crowd *crowd,
                              const struct opened *opened, size_t tokens)
{
    bombus_error error;
    memset(gate, 0, sizeof *gate);
    gate->log.crowd = crowd;
    pthread_mutex_init(&gate->mutex, NULL);
    pthread_cond_init(&gate->changed, NULL);
    bombus_generate_options options = {.max_tokens = tokens, .callback = hold_engine, .context = gate};
    bombus_request request = {.prompt = opened->prompt.ids,
                              .prompt_count = 5,
                              .options = &options,
                              .finished = finish,
                              .context = &gate->log};
    CHECK_OK(bombus_engine_submit(engine, &request, &gate->log.id, &error), error);
    pthread_mutex_lock(&gate->mutex);
    while (!gate->is_reached)
        pthread_cond_wait(&gate->changed, &gate->mutex);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_open(struct gate *gate)
{
    pthread_mutex_lock(&gate->mutex);
    gate->is_open = true;
    pthread_cond_broadcast(&gate->changed);
    pthread_mutex_unlock(&gate->mutex);
}

static inline void gate_clear(struct gate *gate)
{
    pthread_cond_destroy(&gate->changed);
    pthread_mutex_destroy(&gate->mutex);
}

#endif
