/* The queue and the thread. The lock guards the lists, the figures and `is_stopping`; it is never held while a callback,
 * or the model, runs. Requests are made by the thread that submits and freed by the engine's, which alone uses the runner.
 *
 * Who begins next: the highest priority, then the order of arrival. Nobody begins before who is next, even if there were room for a smaller one; and
 * a request that OVERTAKE_LIMIT later ones have overtaken is next whatever its priority. So everybody begins in the end. */
#include "generate/engine.h"

#include "base/clock.h"
#include "base/lock.h"
#include "base/memory.h"
#include "generate/option_checks.h"

#include <pthread.h>
#include <string.h>

enum {
    DEFAULT_BATCH = 16,
    MAX_BATCH = 1024,
    DEFAULT_CHUNK = 128,
    MAX_CHUNK = 1 << 16,
    DEFAULT_QUEUE = 1024,
    OVERTAKE_LIMIT = 64,
    DEFAULT_KV_BYTES = 1 << 30
};

struct list {
    struct bb_request *first, **end; /* `end`: where the next one is linked */
    int32_t count;
};

struct bb_engine {
    const struct bb_tokenizer *tokenizer;
    struct bb_request_limits limits;
    int32_t queue_limit;
    struct bb_runner *runner; /* of the engine's thread */
    pthread_t thread;
    bool has_thread;
    struct bb_lock lock;
    struct bb_signal wake;
    bool is_stopping;
    struct list waiting, running;
    uint64_t last_id;
    bombus_engine_stats stats;
};

/* ---- lists ---- */

static void list_init(struct list *list)
{
    *list = (struct list){.end = &list->first};
}

static void append(struct list *list, struct bb_request *request)
{
    request->next = NULL;
    *list->end = request;
    list->end = &request->next;
    list->count++;
}

/* Takes out what *link points at. */
static struct bb_request *take(struct list *list, struct bb_request **link)
{
    struct bb_request *request = *link;
    *link = request->next;
    if (list->end == &request->next)
        list->end = link;
    list->count--;
    request->next = NULL;
    return request;
}

static struct bb_request **find_link(struct list *list, const struct bb_request *request)
{
    struct bb_request **link = &list->first;
    while (*link != request)
        link = &(*link)->next;
    return link;
}

/* ---- the engine's thread ---- */

static void note_end(struct bb_engine *engine, const struct bb_request *request, const bombus_error *error)
{
    bombus_finish_reason reason = request->completion.finish_reason;
    if (error != NULL)
        engine->stats.failed_count++;
    else if (reason == BOMBUS_FINISH_CANCELLED || reason == BOMBUS_FINISH_DEADLINE)
        engine->stats.cancelled_count++;
    else
        engine->stats.finished_count++;
}

static void note_counts(struct bb_engine *engine)
{
    struct bb_runner_counts counts = bb_runner_count(engine->runner);
    bombus_engine_stats *stats = &engine->stats;
    stats->step_count = counts.steps;
    stats->prompt_tokens = counts.prompt_tokens;
    stats->reused_tokens = counts.reused_tokens;
    stats->generated_tokens = counts.generated_tokens;
    stats->kv_bytes = counts.used_bytes;
    stats->prefix_bytes = counts.kept_bytes;
    stats->evicted_bytes = counts.evicted_bytes;
}

/* The runner is done with a request. */
static void end_running(void *context, struct bb_request *request, const bombus_error *error)
{
    struct bb_engine *engine = context;
    bb_lock_take(&engine->lock);
    take(&engine->running, find_link(&engine->running, request));
    note_end(engine, request, error);
    note_counts(engine);
    bb_lock_give(&engine->lock);
    bb_request_report(request, error);
    bb_request_free(request);
}

/* Ends those that wait and are cancelled or overdue. */
static void end_waiting(struct bb_engine *engine)
{
    double now = bb_clock_seconds();
    struct list ended;
    list_init(&ended);
    bb_lock_take(&engine->lock);
    for (struct bb_request **link = &engine->waiting.first; *link != NULL;) {
        struct bb_request *request = *link;
        if (bb_request_is_unwanted(request, now)) {
            append(&ended, take(&engine->waiting, link));
            note_end(engine, request, NULL);
        } else {
            link = &request->next;
        }
    }
    bb_lock_give(&engine->lock);
    while (ended.first != NULL) {
        struct bb_request *request = take(&ended, &ended.first);
        bb_request_report(request, NULL);
        bb_request_free(request);
    }
}

/* Who begins next; NULL if nobody waits. Under the lock. */
static struct bb_request *next_waiting(const struct bb_engine *engine)
{
    struct bb_request *next = engine->waiting.first;
    for (struct bb_request *request = next; request != NULL; request = request->next) {
        if (request->overtaken >= OVERTAKE_LIMIT)
            return request;
        if (request->priority > next->priority)
            next = request;
    }
    return next;
}

/* Begins what fits, in order. */
static void admit(struct bb_engine *engine)
{
    for (;;) {
        bb_lock_take(&engine->lock);
        struct bb_request *request = next_waiting(engine);
        bool fits = request != NULL && bb_runner_fits(engine->runner, request);
        if (fits) {
            for (struct bb_request *other = engine->waiting.first; other != request; other = other->next)
                other->overtaken++; /* the list is in order of arrival */
            append(&engine->running, take(&engine->waiting, find_link(&engine->waiting, request)));
        }
        bb_lock_give(&engine->lock);
        if (!fits)
            return;
        bb_runner_add(engine->runner, request);
    }
}

/* Sleeps while there is nothing to do; false: stop. */
static bool wait_for_work(struct bb_engine *engine)
{
    bb_lock_take(&engine->lock);
    note_counts(engine);
    while (!engine->is_stopping && engine->waiting.count == 0 && engine->running.count == 0)
        bb_signal_wait(&engine->wake, &engine->lock);
    bool goes_on = !engine->is_stopping;
    bb_lock_give(&engine->lock);
    return goes_on;
}

static void cancel_all(struct bb_engine *engine)
{
    bb_lock_take(&engine->lock);
    for (struct bb_request *request = engine->waiting.first; request != NULL; request = request->next)
        atomic_store_explicit(&request->is_cancelled, true, memory_order_relaxed);
    for (struct bb_request *request = engine->running.first; request != NULL; request = request->next)
        atomic_store_explicit(&request->is_cancelled, true, memory_order_relaxed);
    bb_lock_give(&engine->lock);
    end_waiting(engine);
    bb_runner_end_unwanted(engine->runner);
}

static void *work(void *context)
{
    struct bb_engine *engine = context;
    while (wait_for_work(engine)) {
        end_waiting(engine);
        admit(engine);
        bb_runner_step(engine->runner);
    }
    cancel_all(engine);
    return NULL;
}

/* ---- creation ---- */

static bombus_status check_options(const bombus_engine_options *options, bombus_error *error)
{
    bombus_status status = bb_check_option("max_batch", options->max_batch, 1, MAX_BATCH, error);
    if (status == BOMBUS_OK)
        status = bb_check_option("context_size", options->context_size, 1, 1 << 28, error);
    if (status == BOMBUS_OK)
        status = bb_check_option("prefill_step_size", options->prefill_step_size, BB_KV_PAGE_SIZE, MAX_CHUNK, error);
    if (status == BOMBUS_OK)
        status = bb_check_option("queue_limit", options->queue_limit, 1, INT32_MAX, error);
    if (status == BOMBUS_OK)
        status = bb_check_cache_options(options->kv_bits, options->kv_group_size, options->precision, error);
    return status;
}

/* Pages of the cache by kv_bytes. */
static bombus_status choose_page_limit(const bombus_engine_options *options, size_t page_bytes, int32_t context_size,
                                       int32_t *limit, bombus_error *error)
{
    uint64_t one = (uint64_t)bb_kv_pages(context_size), bytes = options->kv_bytes;
    uint64_t pages = page_bytes > 0 ? (bytes != 0 ? bytes : DEFAULT_KV_BYTES) / page_bytes
                                    : one; /* 0: the cache says what is wrong */
    if (bytes == 0 && pages < one)
        pages = one;
    if (pages == 0)
        return bb_fail(error, BOMBUS_ERROR_ARGUMENT,
                       "kv_bytes: %llu, expected 0 (default) or at least a page of %d positions, %zu",
                       (unsigned long long)bytes, BB_KV_PAGE_SIZE, page_bytes);
    *limit = pages < INT32_MAX ? (int32_t)pages : INT32_MAX;
    return BOMBUS_OK;
}

static bombus_status start(struct bb_engine *engine, bombus_error *error)
{
    bombus_status status = bb_lock_init(&engine->lock, false, error);
    if (status == BOMBUS_OK)
        status = bb_signal_init(&engine->wake, error);
    if (status != BOMBUS_OK)
        return status;
    if (pthread_create(&engine->thread, NULL, work, engine) != 0)
        return bb_fail(error, BOMBUS_ERROR_MEMORY, "an engine's thread cannot be started");
    engine->has_thread = true;
    return BOMBUS_OK;
}

bombus_status bb_engine_create(struct bb_engine **engine, const struct bb_model *model, struct bb_backend *backend,
                               const struct bb_tokenizer *tokenizer, const bombus_engine_options *options,
                               bool is_exact, bombus_error *error)
{
    *engine = NULL;
    bombus_status status = check_options(options, error);
    if (status != BOMBUS_OK)
        return status;
    struct bb_engine *made = bb_allocate(1, sizeof *made);
    if (made == NULL)
        return bb_fail_memory(error, sizeof *made, "an engine");
    const struct bb_recipe *recipe = &model->recipe;
    int32_t longest = recipe->max_position_embeddings > 0 ? recipe->max_position_embeddings : 1;
    struct bb_runner_options runner_options = {
        .max_batch = options->max_batch != 0 ? options->max_batch : DEFAULT_BATCH,
        .context_size = options->context_size != 0 ? options->context_size : longest,
        .chunk_size = options->prefill_step_size != 0 ? options->prefill_step_size : DEFAULT_CHUNK,
        .kv_type = bb_kv_cache_choose_type(options->kv_bits, is_exact),
        .kv_group_size = options->kv_group_size,
        .is_exact = is_exact,
        .shares_prefixes = !options->no_prefix_sharing};
    made->tokenizer = tokenizer;
    made->queue_limit = options->queue_limit != 0 ? options->queue_limit : DEFAULT_QUEUE;
    const size_t page_bytes =
        bb_kv_cache_page_bytes(recipe, runner_options.kv_type, runner_options.kv_group_size);
    list_init(&made->waiting);
    list_init(&made->running);
    status =
        choose_page_limit(options, page_bytes, runner_options.context_size, &runner_options.page_limit, error);
    if (status == BOMBUS_OK)
        status = bb_runner_create(&made->runner, model, backend, &runner_options, end_running, made, error);
    made->limits = (struct bb_request_limits){.vocab_size = recipe->vocab_size,
                                              .context_size = runner_options.context_size,
                                              .page_limit = runner_options.page_limit};
    made->stats.kv_limit_bytes = (uint64_t)runner_options.page_limit * page_bytes;
    if (status == BOMBUS_OK)
        status = start(made, error);
    if (status == BOMBUS_OK)
        *engine = made;
    else
        bb_engine_free(made);
    return status;
}

void bb_engine_free(struct bb_engine *engine)
{
    if (engine == NULL)
        return;
    if (engine->has_thread) {
        bb_lock_take(&engine->lock);
        engine->is_stopping = true;
        bb_signal_one(&engine->wake);
        bb_lock_give(&engine->lock);
        pthread_join(engine->thread, NULL);
    }
    bb_signal_clear(&engine->wake);
    bb_lock_clear(&engine->lock);
    bb_runner_free(engine->runner);
    bb_release(engine);
}

/* ---- calls of any thread ---- */

/* Puts it into the queue, if there is room. */
static bombus_status enqueue(struct bb_engine *engine, struct bb_request *request, uint64_t *id, bombus_error *error)
{
    bombus_status status = BOMBUS_OK;
    bb_lock_take(&engine->lock);
    if (engine->is_stopping) {
        status = bb_fail(error, BOMBUS_ERROR_CANCELLED, "the engine is being freed");
    } else if (engine->waiting.count >= engine->queue_limit) {
        status = bb_fail(error, BOMBUS_ERROR_LIMIT, "the engine's queue is full: %d requests wait (queue_limit)",
                         engine->waiting.count);
    } else {
        request->id = ++engine->last_id;
        if (id != NULL)
            *id = request->id;
        append(&engine->waiting, request);
        bb_signal_one(&engine->wake);
    }
    bb_lock_give(&engine->lock);
    return status;
}

bombus_status bb_engine_submit(struct bb_engine *engine, const bombus_request *given,
                               struct bb_adapter_choice *adapters, uint64_t *id, bombus_error *error)
{
    struct bb_request *request;
    bombus_status status = bb_request_create(&request, given, engine->tokenizer, &engine->limits, error);
    if (status != BOMBUS_OK) {
        bb_adapter_choice_free(adapters);
        return status;
    }
    request->adapters = adapters;
    status = enqueue(engine, request, id, error);
    if (status != BOMBUS_OK)
        bb_request_free(request);
    return status;
}

static bool cancel_in(const struct list *list, uint64_t id)
{
    struct bb_request *request = list->first;
    while (request != NULL && request->id != id)
        request = request->next;
    if (request != NULL)
        atomic_store_explicit(&request->is_cancelled, true, memory_order_relaxed);
    return request != NULL;
}

bool bb_engine_cancel(struct bb_engine *engine, uint64_t id)
{
    bb_lock_take(&engine->lock);
    bool is_found = cancel_in(&engine->running, id) || cancel_in(&engine->waiting, id);
    bb_lock_give(&engine->lock);
    return is_found;
}

void bb_engine_get_stats(struct bb_engine *engine, bombus_engine_stats *stats)
{
    bb_lock_take(&engine->lock);
    *stats = engine->stats;
    stats->running_count = engine->running.count;
    stats->waiting_count = engine->waiting.count;
    bb_lock_give(&engine->lock);
}
