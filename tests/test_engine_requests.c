/* The engine's requests: refusals, order, cancelling, deadlines, callbacks that call the engine, many threads, memory that runs out. */
#include "engine_fixture.h"

/* ---- refusals, order, ends ---- */

static void test_refusals(void **state)
{
    (void)state;
    struct opened opened;
    struct plan plan;
    struct log log;
    struct crowd crowd;
    bombus_error error;
    bombus_engine *engine;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    const struct {
        bombus_engine_options options;
        const char *name;
    } wrong[] = {{{.max_batch = -1}, "max_batch"},
                 {{.max_batch = 1025}, "max_batch"},
                 {{.context_size = -1}, "context_size"},
                 {{.prefill_step_size = 63}, "prefill_step_size"},
                 {{.queue_limit = -2}, "queue_limit"},
                 {{.kv_bits = 5}, "kv_bits"},
                 {{.kv_group_size = 64}, "kv_group_size"},
                 {{.kv_bits = 4, .kv_group_size = 48}, "kv_group_size"},
                 {{.precision = (bombus_precision)7, .has_precision = true}, "precision"},
                 {{.kv_bytes = 100}, "kv_bytes"}};
    for (size_t i = 0; i < BB_COUNT(wrong); i++) {
        assert_int_equal(bombus_engine_create(&engine, opened.model, NULL, &wrong[i].options, &error),
                         BOMBUS_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, wrong[i].name));
        assert_null(engine);
    }
    assert_int_equal(bombus_engine_create(NULL, opened.model, NULL, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_engine_create(&engine, NULL, NULL, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    engine =
        new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300, .kv_bytes = 3 * page_bytes(&opened)});
    make_plan(&plan, &opened, 0);
    plan.options.callback = record;
    plan.prompt_count = 100;
    plan.options.max_tokens = 92; /* 191 positions are 3 pages */
    struct plan good = plan;
    CHECK_OK(submit(engine, &log, &crowd, &good, &error), error);
    crowd_wait(&crowd, 1);
    assert_int_equal(log.status, BOMBUS_OK);
    assert_int_equal(log.count, 92);
    plan.options.max_tokens = 94;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_CONTEXT_FULL);
    assert_non_null(strstr(error.message, "kv_bytes"));
    plan = good;
    plan.prompt_count = 0;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    plan = good;
    plan.prompt[3] = 256;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "prompt[3]"));
    plan = good;
    plan.options.ngram_size = 2;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "ngram_size"));
    plan = good;
    plan.options.sampler.temperature = -1.0f;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    plan = good;
    plan.options.stop = &(const char *){"x"};
    plan.options.stop_count = 1;
    assert_int_equal(submit(engine, &log, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    bombus_request request = {.prompt = good.prompt, .prompt_count = 301};
    assert_int_equal(bombus_engine_submit(engine, &request, NULL, &error), BOMBUS_ERROR_CONTEXT_FULL);
    request = (bombus_request){.prompt = good.prompt, .prompt_count = 3, .deadline_ms = -1};
    assert_int_equal(bombus_engine_submit(engine, &request, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_engine_submit(NULL, &request, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_engine_submit(engine, NULL, NULL, &error), BOMBUS_ERROR_ARGUMENT);
    assert_false(bombus_engine_cancel(engine, 1));
    assert_false(bombus_engine_cancel(NULL, 1));
    check_idle(engine, 1);
    bombus_engine_free(engine);
    bombus_engine_free(NULL);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* Requests that end in the order in which they began, one at a time. */
struct order {
    struct log log;
    uint64_t *ended, *count;
};

static void finish_in_order(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    struct order *order = context;
    order->ended[(*order->count)++] = id;
    finish(&order->log, id, result, error);
}

static void test_order(void **state)
{
    (void)state;
    enum { LATE = 70, COUNT = 4 + LATE };
    struct opened opened;
    struct crowd crowd;
    struct gate gate;
    bombus_error error;
    static struct order orders[COUNT];
    uint64_t ended[COUNT], count = 0;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    bombus_engine *engine = new_engine(
        &crowd, &opened, &(bombus_engine_options){.max_batch = 1, .context_size = 100, .queue_limit = COUNT});
    gate_close(&gate, engine, &crowd, &opened, 2);
    /* 0: low. 1, 2: middle. 3: high. Then many of the middle: one after another overtakes the low one, until it has its turn. */
    for (size_t i = 0; i < COUNT; i++) {
        bombus_generate_options options = {.max_tokens = 1, .callback = record, .context = &orders[i].log};
        orders[i] = (struct order){.log.crowd = &crowd, .ended = ended, .count = &count};
        bombus_request request = {.prompt = opened.prompt.ids,
                                  .prompt_count = 3,
                                  .options = &options,
                                  .priority = i == 0   ? -1
                                              : i == 3 ? 7
                                                       : 0,
                                  .finished = finish_in_order,
                                  .context = &orders[i]};
        CHECK_OK(bombus_engine_submit(engine, &request, &orders[i].log.id, &error), error);
    }
    bombus_request one_more = {.prompt = opened.prompt.ids, .prompt_count = 3};
    assert_int_equal(bombus_engine_submit(engine, &one_more, NULL, &error), BOMBUS_ERROR_LIMIT);
    assert_non_null(strstr(error.message, "queue_limit"));
    bombus_engine_stats stats;
    bombus_engine_get_stats(engine, &stats);
    assert_int_equal(stats.running_count, 1);
    assert_int_equal(stats.waiting_count, COUNT);
    gate_open(&gate);
    crowd_wait(&crowd, COUNT + 1);
    assert_int_equal(ended[0], orders[3].log.id);
    assert_int_equal(ended[1], orders[1].log.id);
    assert_int_equal(ended[2], orders[2].log.id);
    assert_int_equal(ended[64], orders[0].log.id); /* after 64 that came later */
    assert_int_equal(ended[65], orders[65].log.id);
    assert_int_equal(ended[COUNT - 1], orders[COUNT - 1].log.id);
    check_idle(engine, COUNT + 1);
    bombus_engine_free(engine);
    gate_clear(&gate);
    crowd_clear(&crowd);
    close_model(&opened);
}

static void test_ends(void **state)
{
    (void)state;
    struct opened opened;
    struct plan plan;
    struct log logs[3], overdue, alone;
    struct crowd crowd;
    struct gate gate;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.max_batch = 2, .context_size = 300});
    gate_close(&gate, engine, &crowd, &opened, 5);
    make_plan(&plan, &opened, 9);
    plan.options.max_tokens = 40;
    run_alone(&alone, &opened, &plan);
    for (size_t i = 0; i < BB_COUNT(logs); i++)
        CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
    memset(&overdue, 0, sizeof overdue);
    overdue.crowd = &crowd;
    bombus_request late = {.prompt = plan.prompt,
                           .prompt_count = 10,
                           .deadline_ms = 1,
                           .priority = -1,
                           .finished = finish,
                           .context = &overdue};
    CHECK_OK(bombus_engine_submit(engine, &late, &overdue.id, &error), error);
    assert_true(bombus_engine_cancel(engine, logs[1].id));
    assert_true(bombus_engine_cancel(engine, gate.log.id));
    assert_false(bombus_engine_cancel(engine, 12345));
    nanosleep(&(struct timespec){.tv_nsec = 3000000}, NULL);
    gate_open(&gate);
    crowd_wait(&crowd, 5);
    assert_int_equal(gate.log.finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_int_equal(gate.log.count, 1);
    assert_int_equal(logs[1].finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_int_equal(logs[1].count, 0);
    assert_int_equal(overdue.finish_reason, BOMBUS_FINISH_DEADLINE);
    assert_int_equal(overdue.count, 0);
    check_same(&logs[0], &alone);
    check_same(&logs[2], &alone);
    gate_clear(&gate);
    /* The same deadline while it runs. */
    gate_close(&gate, engine, &crowd, &opened, 5);
    bombus_generate_options options = {.max_tokens = 50, .callback = record, .context = &overdue};
    late.options = &options;
    memset(&overdue, 0, sizeof overdue);
    overdue.crowd = &crowd;
    late.deadline_ms = 600000;
    CHECK_OK(bombus_engine_submit(engine, &late, NULL, &error), error);
    gate_open(&gate);
    crowd_wait(&crowd, 7);
    assert_int_equal(overdue.finish_reason, BOMBUS_FINISH_LENGTH); /* far away: it has no effect */
    gate_clear(&gate);
    /* The token's callback says stop. */
    plan.options.max_tokens = 40;
    bombus_generate_options stops = plan.options;
    memset(&logs[0], 0, sizeof logs[0]);
    logs[0].crowd = &crowd;
    logs[0].cancel_at = 3;
    stops.context = &logs[0];
    bombus_request request = {.prompt = plan.prompt,
                              .prompt_count = plan.prompt_count,
                              .options = &stops,
                              .finished = finish,
                              .context = &logs[0]};
    CHECK_OK(bombus_engine_submit(engine, &request, NULL, &error), error);
    crowd_wait(&crowd, 8);
    assert_int_equal(logs[0].finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_int_equal(logs[0].count, 3);
    /* Free ends what runs and what waits. */
    gate_close(&gate, engine, &crowd, &opened, 50);
    for (size_t i = 0; i < BB_COUNT(logs); i++)
        CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
    assert_true(bombus_engine_cancel(engine, gate.log.id));
    gate_open(&gate);
    bombus_engine_free(engine);
    assert_int_equal(crowd.ended, 12);
    for (size_t i = 0; i < BB_COUNT(logs); i++)
        assert_int_equal(logs[i].ended, 1);
    gate_clear(&gate);
    crowd_clear(&crowd);
    close_model(&opened);
}

struct sleeper {
    struct log log;
    int calls;
};

static bool sleep_a_token(void *context, const bombus_token_event *event)
{
    struct sleeper *sleeper = context;
    nanosleep(&(struct timespec){.tv_nsec = 5000000}, NULL);
    return record(&sleeper->log, event);
}

static bool stop_at_second_chunk(void *context, size_t done, size_t total)
{
    struct sleeper *sleeper = context;
    return done < total && ++sleeper->calls < 2;
}

static void test_deadline_and_progress(void **state)
{
    (void)state;
    struct opened opened;
    struct crowd crowd;
    bombus_error error;
    static struct sleeper slow, stopped;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    bombus_engine *engine =
        new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300, .prefill_step_size = 64});
    slow = stopped = (struct sleeper){.log.crowd = &crowd};
    bombus_generate_options options = {.max_tokens = 90, .callback = sleep_a_token, .context = &slow};
    bombus_request request = {.prompt = opened.prompt.ids,
                              .prompt_count = 100,
                              .options = &options,
                              .deadline_ms = 60,
                              .finished = finish,
                              .context = &slow.log};
    CHECK_OK(bombus_engine_submit(engine, &request, NULL, &error), error);
    crowd_wait(&crowd, 1);
    assert_int_equal(slow.log.status, BOMBUS_OK);
    assert_int_equal(slow.log.finish_reason, BOMBUS_FINISH_DEADLINE);
    assert_true(slow.log.count < 90);
    assert_true(slow.log.agrees);
    int32_t other[100];
    for (size_t i = 0; i < 100; i++)
        other[i] = opened.prompt.ids[100 + i % 50];
    options = (bombus_generate_options){.max_tokens = 3, .prompt_progress = stop_at_second_chunk, .context = &stopped};
    request = (bombus_request){
        .prompt = other, .prompt_count = 100, .options = &options, .finished = finish, .context = &stopped.log};
    CHECK_OK(bombus_engine_submit(engine, &request, NULL, &error), error);
    crowd_wait(&crowd, 2);
    assert_int_equal(stopped.calls, 2);
    assert_int_equal(stopped.log.finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_int_equal(stopped.log.result_count, 0);
    check_idle(engine, 2);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* ---- callbacks that call the engine ---- */

struct chain {
    struct log log;
    bombus_engine *engine;
    struct chain *next; /* submitted from the end of this one */
    uint64_t victim;    /* cancelled at the second token; 0: none */
    const struct opened *opened;
    int failures;
};

static bool cancel_another(void *context, const bombus_token_event *event)
{
    struct chain *chain = context;
    if (chain->victim != 0 && chain->log.count == 1)
        chain->failures += !bombus_engine_cancel(chain->engine, chain->victim);
    return record(&chain->log, event);
}

static void submit_next(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error);

static bombus_status submit_chain(struct chain *chain, size_t tokens)
{
    bombus_generate_options options = {.max_tokens = tokens, .callback = cancel_another, .context = chain};
    bombus_request request = {.prompt = chain->opened->prompt.ids,
                              .prompt_count = 20,
                              .options = &options,
                              .finished = submit_next,
                              .context = chain};
    return bombus_engine_submit(chain->engine, &request, &chain->log.id, NULL);
}

static void submit_next(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    struct chain *chain = context;
    if (chain->next != NULL)
        chain->failures += submit_chain(chain->next, 4) != BOMBUS_OK;
    finish(&chain->log, id, result, error);
}

static void test_callbacks(void **state)
{
    (void)state;
    enum { COUNT = 12 };
    struct opened opened;
    struct crowd crowd;
    static struct chain chains[COUNT], victim;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 2);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300, .max_batch = 3});
    for (size_t i = 0; i < COUNT; i++)
        chains[i] = (struct chain){
            .log.crowd = &crowd, .engine = engine, .next = i + 1 < COUNT ? &chains[i + 1] : NULL, .opened = &opened};
    victim = (struct chain){.log.crowd = &crowd, .engine = engine, .opened = &opened};
    struct gate gate;
    gate_close(&gate, engine, &crowd, &opened, 2);
    assert_int_equal(submit_chain(&victim, 200), BOMBUS_OK);
    chains[0].victim = victim.log.id;
    assert_int_equal(submit_chain(&chains[0], 4), BOMBUS_OK);
    gate_open(&gate);
    crowd_wait(&crowd, COUNT + 2);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(chains[i].failures, 0);
        assert_int_equal(chains[i].log.status, BOMBUS_OK);
        assert_int_equal(chains[i].log.count, 4);
    }
    assert_int_equal(victim.log.finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_true(victim.log.count < 10);
    check_idle(engine, COUNT + 2);
    bombus_engine_free(engine);
    gate_clear(&gate);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* ---- many threads ---- */

enum { THREADS = 4, A_THREAD = 40 };

struct client {
    pthread_t thread;
    bombus_engine *engine;
    const struct opened *opened;
    struct crowd *crowd;
    uint64_t seed;
    struct log logs[A_THREAD];
    int failures;
};

static void *submit_and_cancel(void *context)
{
    struct client *client = context;
    struct plan plan;
    bombus_error error;
    for (size_t i = 0; i < A_THREAD; i++) {
        uint64_t random = bb_random_at(client->seed, i);
        make_plan(&plan, client->opened, i);
        client->failures += submit(client->engine, &client->logs[i], client->crowd, &plan, &error) != BOMBUS_OK;
        if (random % 3 == 0)
            nanosleep(&(struct timespec){.tv_nsec = (long)(random % 2000000)}, NULL);
        size_t other = bb_random_at(client->seed + 1, i) % (i + 1);
        if (random % 2 == 0)
            bombus_engine_cancel(client->engine, client->logs[other].id);
    }
    return NULL;
}

static void test_random_cancels(void **state)
{
    (void)state;
    struct opened opened;
    struct crowd crowd;
    struct plan plan;
    OPEN_OR_SKIP(opened, "llama-sliding", 2);
    struct client *clients = calloc(THREADS, sizeof *clients);
    struct log *alone = calloc(A_THREAD, sizeof *alone);
    for (size_t i = 0; i < A_THREAD; i++) {
        make_plan(&plan, &opened, i);
        run_alone(&alone[i], &opened, &plan);
    }
    bombus_engine *engine =
        new_engine(&crowd, &opened,
                   &(bombus_engine_options){.context_size = 300, .max_batch = 6, .kv_bytes = 12 * page_bytes(&opened)});
    for (size_t i = 0; i < THREADS; i++) {
        clients[i].engine = engine;
        clients[i].opened = &opened;
        clients[i].crowd = &crowd;
        clients[i].seed = 100 + 10 * i;
        assert_int_equal(pthread_create(&clients[i].thread, NULL, submit_and_cancel, &clients[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(clients[i].thread, NULL);
    crowd_wait(&crowd, THREADS * A_THREAD);
    size_t whole = 0;
    for (size_t i = 0; i < THREADS * A_THREAD; i++) {
        const struct log *log = &clients[i / A_THREAD].logs[i % A_THREAD], *expected = &alone[i % A_THREAD];
        assert_int_equal(log->ended, 1);
        assert_int_equal(log->status, BOMBUS_OK);
        assert_true(log->agrees);
        assert_true(log->count <= expected->count);
        assert_memory_equal(log->ids, expected->ids, log->count * sizeof *log->ids);
        assert_memory_equal(log->logprobs, expected->logprobs, log->count * sizeof *log->logprobs);
        whole += log->finish_reason == BOMBUS_FINISH_LENGTH;
    }
    assert_in_range(whole, 1, THREADS * A_THREAD - 1);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(clients[i].failures, 0);
    check_idle(engine, THREADS * A_THREAD);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    free(clients);
    free(alone);
    close_model(&opened);
}

static void count_end(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    struct crowd *crowd = context;
    (void)id;
    pthread_mutex_lock(&crowd->mutex);
    crowd->ended += error == NULL && result->count > 0;
    pthread_cond_broadcast(&crowd->changed);
    pthread_mutex_unlock(&crowd->mutex);
}

/* Thousands of small requests, then nothing is left but kept prefixes, and the thread sleeps. */
static void test_thousands(void **state)
{
    (void)state;
    enum { COUNT = 4000, QUEUE = 500 };
    struct opened opened;
    struct crowd crowd;
    bombus_error error;
    OPEN_OR_SKIP(opened, "llama-sliding", 1);
    bombus_engine *engine = new_engine(
        &crowd, &opened, &(bombus_engine_options){.context_size = 300, .queue_limit = QUEUE, .max_batch = 32});
    for (size_t i = 0; i < COUNT; i++) {
        bombus_generate_options options = {.max_tokens = 1 + i % 3};
        bombus_request request = {.prompt = opened.prompt.ids + i % 40,
                                  .prompt_count = 1 + i % 70,
                                  .options = &options,
                                  .finished = count_end,
                                  .context = &crowd};
        crowd_wait(&crowd, i < QUEUE ? 0 : i - QUEUE + 1);
        CHECK_OK(bombus_engine_submit(engine, &request, NULL, &error), error);
    }
    crowd_wait(&crowd, COUNT);
    bombus_engine_stats stats = check_idle(engine, COUNT);
    assert_int_equal(stats.finished_count, COUNT);
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double used = (double)(after.tv_sec - before.tv_sec) + 1e-9 * (double)(after.tv_nsec - before.tv_nsec);
    assert_true(used < 0.05);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* ---- memory that runs out ---- */

static void test_failing_creation(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    bombus_engine *engine = NULL;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    for (uint64_t n = 1; engine == NULL; n++) {
        bb_memory_fail_at(n, n % 2 == 0);
        bombus_status status = bombus_engine_create(
            &engine, opened.model, NULL, &(bombus_engine_options){.context_size = 300, .kv_bits = 8}, &error);
        bb_memory_fail_at(0, false);
        assert_true(engine != NULL ? status == BOMBUS_OK : status == BOMBUS_ERROR_MEMORY);
        assert_true(n < 1000);
    }
    /* Submission, while the engine's thread stands in a callback. */
    struct crowd crowd;
    struct gate gate;
    struct log log;
    struct plan plan;
    crowd_init(&crowd);
    gate_close(&gate, engine, &crowd, &opened, 2);
    make_plan(&plan, &opened, 7);
    bombus_status status = BOMBUS_ERROR_MEMORY;
    for (uint64_t n = 1; status != BOMBUS_OK; n++) {
        bb_memory_fail_at(n, n % 2 == 0);
        status = submit(engine, &log, &crowd, &plan, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        assert_true(n < 1000);
    }
    gate_open(&gate);
    crowd_wait(&crowd, 2);
    assert_int_equal(log.status, BOMBUS_OK);
    check_idle(engine, 2);
    bombus_engine_free(engine);
    gate_clear(&gate);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* From its first token on no allocation succeeds, until its end. */
static bool begin_failing(void *context, const bombus_token_event *event)
{
    bb_memory_fail_at(1, true);
    return record(context, event);
}

static void end_failing(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    bb_memory_fail_at(0, false);
    finish(context, id, result, error);
}

static void test_failing_steps(void **state)
{
    (void)state;
    struct opened opened;
    struct plan plan;
    struct log alone, log, victim;
    struct crowd crowd;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    make_plan(&plan, &opened, 8);
    plan.prompt_count = 60;
    plan.options.max_tokens = 90;
    run_alone(&alone, &opened, &plan);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300});
    /* Pages cannot be kept any more: the request goes on alone. */
    plan.options.callback = begin_failing;
    bombus_generate_options options = plan.options;
    memset(&log, 0, sizeof log);
    log.crowd = &crowd;
    options.context = &log;
    bombus_request request = {.prompt = plan.prompt,
                              .prompt_count = plan.prompt_count,
                              .options = &options,
                              .finished = end_failing,
                              .context = &log};
    CHECK_OK(bombus_engine_submit(engine, &request, &log.id, &error), error);
    crowd_wait(&crowd, 1);
    check_same(&log, &alone);
    assert_int_equal(check_idle(engine, 1).prefix_bytes, 0);
    /* A larger batch than any before needs memory of the device: its step fails, and with it the requests in it. */
    struct gate gate;
    gate_close(&gate, engine, &crowd, &opened, 3);
    options.callback = record;
    memset(&victim, 0, sizeof victim);
    victim.crowd = &crowd;
    options.context = &victim;
    int32_t prompt[256];
    for (size_t i = 0; i < 256; i++)
        prompt[i] = opened.prompt.ids[(i * 7) % opened.prompt.count];
    request = (bombus_request){
        .prompt = prompt, .prompt_count = 250, .options = &options, .finished = end_failing, .context = &victim};
    CHECK_OK(bombus_engine_submit(engine, &request, &victim.id, &error), error);
    bb_memory_fail_at(1, true);
    gate_open(&gate);
    crowd_wait(&crowd, 3);
    assert_int_equal(victim.status, BOMBUS_ERROR_MEMORY);
    assert_int_equal(gate.log.status, BOMBUS_ERROR_MEMORY);
    assert_int_equal(gate.log.count, 1);
    check_idle(engine, 3);
    /* And the engine goes on. */
    plan.options.callback = record;
    CHECK_OK(submit(engine, &log, &crowd, &plan, &error), error);
    crowd_wait(&crowd, 4);
    check_same(&log, &alone);
    assert_int_equal(check_idle(engine, 4).failed_count, 2);
    bombus_engine_free(engine);
    gate_clear(&gate);
    crowd_clear(&crowd);
    close_model(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_order),
        cmocka_unit_test(test_ends),          cmocka_unit_test(test_deadline_and_progress),
        cmocka_unit_test(test_callbacks),     cmocka_unit_test(test_random_cancels),
        cmocka_unit_test(test_thousands),     cmocka_unit_test(test_failing_creation),
        cmocka_unit_test(test_failing_steps),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
