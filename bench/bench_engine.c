/* Many requests through the engine: tokens per second of 1, 2, 4, ... requests at once, beside one; then how long running generations wait for a token
 * while long prompts join them, by the engine's prefill_step_size. `bench_engine FOLDER [threads] [most] [tokens]`. */
#include "bombus.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST = 64, LONG_PROMPT = 1024, PROMPT = 32, WATCHED = 4 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static size_t ended;

/* What one request's callbacks saw. */
struct watch {
    double last, longest; /* seconds: the last token, and the longest wait between two */
    size_t count;
};

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void check(bombus_status status, const bombus_error *error)
{
    if (status == BOMBUS_OK)
        return;
    fprintf(stderr, "bench_engine: %s\n", error->message);
    exit(1);
}

static bool see_token(void *context, const bombus_token_event *event)
{
    (void)event;
    struct watch *watch = context;
    double time = now();
    if (watch->count++ > 0 && time - watch->last > watch->longest)
        watch->longest = time - watch->last;
    watch->last = time;
    return true;
}

static void see_end(void *context, uint64_t id, const bombus_generate_result *result, const bombus_error *error)
{
    (void)context;
    (void)id;
    (void)result;
    if (error != NULL)
        check(error->status, error);
    pthread_mutex_lock(&mutex);
    ended++;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void wait_for(size_t count)
{
    pthread_mutex_lock(&mutex);
    while (ended < count)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

static void submit(bombus_engine *engine, int32_t vocab_size, size_t number, size_t prompt_count, size_t tokens,
                   struct watch *watch)
{
    int32_t prompt[LONG_PROMPT];
    bombus_error error;
    for (size_t i = 0; i < prompt_count; i++)
        prompt[i] = (int32_t)((number * 7919 + i * 104729) % (size_t)vocab_size);
    bombus_generate_options options = {
        .max_tokens = tokens, .ignore_eos = true, .callback = see_token, .context = watch};
    bombus_request request = {.prompt = prompt, .prompt_count = prompt_count, .options = &options, .finished = see_end};
    check(bombus_engine_submit(engine, &request, NULL, &error), &error);
}

/* Tokens per second of `count` requests at once, from the first token of the last to begin until the first end. */
static double measure(bombus_model *model, int32_t vocab_size, size_t count, size_t tokens)
{
    static struct watch watches[MOST];
    bombus_engine *engine;
    bombus_error error;
    bombus_engine_options options = {.max_batch = (int32_t)count, .context_size = 2048, .no_prefix_sharing = true};
    check(bombus_engine_create(&engine, model, NULL, &options, &error), &error);
    double begin = 0.0;
    for (int turn = 0; turn < 2; turn++) { /* the first is not counted: memory is touched for the first time */
        memset(watches, 0, sizeof watches);
        ended = 0;
        begin = now();
        for (size_t i = 0; i < count; i++)
            submit(engine, vocab_size, i, 1, turn == 0 ? 4 : tokens,
                   &watches[i]); /* a prompt of one token: a step like any other */
        wait_for(count);
    }
    double seconds = now() - begin;
    bombus_engine_free(engine);
    return (double)(count * tokens) / seconds;
}

/* Four generate while four long prompts join. */
static void measure_joining(bombus_model *model, int32_t vocab_size, int32_t chunk)
{
    static struct watch watches[2 * WATCHED];
    bombus_engine *engine;
    bombus_error error;
    bombus_engine_options options = {
        .max_batch = 2 * WATCHED, .context_size = 2048, .prefill_step_size = chunk, .no_prefix_sharing = true};
    check(bombus_engine_create(&engine, model, NULL, &options, &error), &error);
    memset(watches, 0, sizeof watches);
    ended = 0;
    for (size_t i = 0; i < WATCHED; i++)
        submit(engine, vocab_size, i, PROMPT, 100, &watches[i]);
    struct timespec pause = {.tv_nsec = 300000000};
    nanosleep(&pause, NULL);
    double begin = now(), longest = 0.0;
    for (size_t i = WATCHED; i < 2 * WATCHED; i++)
        submit(engine, vocab_size, i, LONG_PROMPT, 1, &watches[i]);
    wait_for(2 * WATCHED);
    double end = 0.0;
    for (size_t i = 0; i < 2 * WATCHED; i++) {
        longest = i < WATCHED && watches[i].longest > longest ? watches[i].longest : longest;
        end = i >= WATCHED && watches[i].last > end ? watches[i].last : end;
    }
    printf(
        "  prefill_step_size %4d: longest wait for a token %5.0f ms, all prompts done after %5.2f s (%.0f tokens/s)\n",
        (int)chunk, 1e3 * longest, end - begin, (double)(WATCHED * LONG_PROMPT) / (end - begin));
    bombus_engine_free(engine);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fputs("usage: bench_engine FOLDER [threads] [most] [tokens]\n", stderr);
        return 2;
    }
    bombus_model *model;
    bombus_error error;
    bombus_model_info info;
    bombus_model_options options = {.thread_count = argc > 2 ? atoi(argv[2]) : 0};
    size_t most = argc > 3 ? (size_t)atoi(argv[3]) : 16, tokens = argc > 4 ? (size_t)atoi(argv[4]) : 48;
    check(bombus_model_open(&model, argv[1], &options, &error), &error);
    bombus_model_get_info(model, &info);
    double one = 0.0;
    printf("%s, %s\n", info.architecture, info.device);
    for (size_t count = 1; count <= most && count <= MOST; count *= 2) {
        double speed = measure(model, info.vocab_size, count, tokens);
        one = count == 1 ? speed : one;
        printf("  %2zu at once: %7.1f tokens/s, %.2f times one\n", count, speed, speed / one);
    }
    printf("%d generate, %d prompts of %d tokens join:\n", WATCHED, WATCHED, LONG_PROMPT);
    for (int32_t chunk = 64; chunk <= 512; chunk *= 2)
        measure_joining(model, info.vocab_size, chunk);
    bombus_model_close(model);
    return 0;
}
