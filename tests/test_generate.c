/* Generation through the public interface: how it ends, what it reports, seeds, reuse, speculation, memory, threads. */
#include "base/compiler.h"
#include "base/memory.h"
#include "golden.h"
#include "scratch.h"

#include <pthread.h>

struct opened {
    bombus_model *model;
    bombus_tokenizer *tokenizer;
    struct golden_ids prompt;
};

static bool open_model(struct opened *opened, const char *name, const char *prompt, int32_t thread_count)
{
    const char *folder = golden_model(name);
    bombus_error error;
    if (folder == NULL || !golden_ids(&opened->prompt, name, prompt))
        return false;
    CHECK_OK(bombus_model_open(&opened->model, folder, &(bombus_model_options){.thread_count = thread_count}, &error),
             error);
    CHECK_OK(bombus_tokenizer_open(&opened->tokenizer, folder, NULL, &error), error);
    return true;
}

static void close_model(struct opened *opened)
{
    bombus_model_close(opened->model);
    bombus_tokenizer_close(opened->tokenizer);
}

#define OPEN_OR_SKIP(opened, name, prompt, threads)                                                                    \
    do {                                                                                                               \
        if (!open_model(&(opened), (name), (prompt), (threads))) {                                                     \
            SKIP_WITHOUT_GOLDEN(NULL);                                                                                 \
            return;                                                                                                    \
        }                                                                                                              \
    } while (0)

static bombus_session *new_session(const struct opened *opened, const bombus_session_options *options)
{
    bombus_session *session;
    bombus_error error;
    CHECK_OK(bombus_session_create(&session, opened->model, options, &error), error);
    return session;
}

/* What the callback saw. */
struct log {
    char text[16384];
    size_t length, count, cancel_at;
    int32_t ids[1024];
    float logprobs[1024];
    float second[1024]; /* logprob of the second alternative */
    uint64_t allocations[1024];
};

static bool record(void *context, const bombus_token_event *event)
{
    struct log *log = context;
    assert_non_null(event->text);
    memcpy(log->text + log->length, event->text, event->text_length);
    log->length += event->text_length;
    log->text[log->length] = '\0';
    log->ids[log->count] = event->id;
    log->logprobs[log->count] = event->logprob;
    for (size_t i = 1; i < event->top_count; i++)
        assert_true(event->top[i].logprob <= event->top[i - 1].logprob);
    log->second[log->count] = event->top_count > 1 ? event->top[1].logprob : 0.0f;
    log->allocations[log->count] = bb_memory_count();
    return ++log->count != log->cancel_at;
}

static void check_log(const struct log *log, const bombus_generate_result *result)
{
    assert_int_equal(log->count, result->count);
    assert_memory_equal(log->ids, result->ids, result->count * sizeof *result->ids);
    assert_int_equal(log->length, result->text_length);
    assert_string_equal(log->text, result->text);
}

static bombus_generate_result generate(bombus_session *session, const struct opened *opened,
                                       bombus_generate_options options, struct log *log)
{
    bombus_generate_result result;
    bombus_error error;
    if (log != NULL) {
        log->length = log->count = 0;
        log->text[0] = '\0';
        options.callback = record;
        options.context = log;
    }
    CHECK_OK(bombus_generate(session, opened->tokenizer, opened->prompt.ids, opened->prompt.count, &options, &result,
                             &error),
             error);
    if (log != NULL)
        check_log(log, &result);
    return result;
}

static void check_same(const bombus_generate_result *a, const bombus_generate_result *b)
{
    assert_int_equal(a->count, b->count);
    assert_memory_equal(a->ids, b->ids, a->count * sizeof *a->ids);
    assert_string_equal(a->text, b->text);
    assert_int_equal(a->finish_reason, b->finish_reason);
}

static void test_lengths_and_text(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    static struct log log;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 2);
    bombus_session *session = new_session(&opened, NULL);
    bombus_generate_result result = generate(session, &opened, (bombus_generate_options){.max_tokens = 40}, &log);
    assert_int_equal(result.count, 40);
    assert_int_equal(result.finish_reason, BOMBUS_FINISH_LENGTH);
    assert_int_equal(result.prompt_count, opened.prompt.count);
    assert_int_equal(result.reused_count, 0);
    assert_true(result.prompt_seconds > 0.0 && result.generation_seconds > 0.0);
    /* The session holds all but the last token, which nobody fed. */
    assert_int_equal(bombus_session_length(session), opened.prompt.count + 39);
    assert_memory_equal(bombus_session_tokens(session) + opened.prompt.count, result.ids, 39 * sizeof *result.ids);
    char *text;
    size_t length;
    CHECK_OK(bombus_tokenizer_decode(opened.tokenizer, result.ids, result.count, true, &text, &length, &error), error);
    assert_string_equal(text, result.text);
    bombus_free(text);
    /* Going on with what was written computes only what is new. */
    int32_t longer[64];
    memcpy(longer, opened.prompt.ids, opened.prompt.count * sizeof *longer);
    memcpy(longer + opened.prompt.count, result.ids, 40 * sizeof *longer);
    bombus_generate_result more;
    CHECK_OK(bombus_generate(session, NULL, longer, opened.prompt.count + 40,
                             &(bombus_generate_options){.max_tokens = 5}, &more, &error),
             error);
    assert_int_equal(more.reused_count, opened.prompt.count + 39);
    assert_int_equal(more.count, 5);
    assert_string_equal(more.text, "");
    bombus_generate_result_clear(&more);
    /* Without options: 256 tokens at most. */
    CHECK_OK(bombus_generate(session, NULL, longer, opened.prompt.count, NULL, &more, &error), error);
    assert_int_equal(more.count, 256);
    assert_memory_equal(more.ids, result.ids, 40 * sizeof *result.ids);
    bombus_generate_result_clear(&more);
    bombus_generate_result_clear(&result);
    bombus_generate_result_clear(&result);
    bombus_session_free(session);
    close_model(&opened);
}

/* Every way in which a stop string can lie over token borders: all substrings of a piece of the text. */
static void test_stop_strings(void **state)
{
    (void)state;
    struct opened opened;
    static struct log log;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    bombus_session *session = new_session(&opened, NULL);
    bombus_generate_result plain = generate(session, &opened, (bombus_generate_options){.max_tokens = 24}, NULL);
    assert_true(plain.text_length > 40);
    for (size_t begin = 3; begin < 30; begin++)
        for (size_t length = 1; length < 12; length += 3) {
            char stop[16] = {0};
            memcpy(stop, plain.text + begin, length);
            const char *const stops[] = {"never in the text", stop};
            bombus_generate_options options = {.max_tokens = 24, .stop = stops, .stop_count = 2};
            bombus_generate_result result = generate(session, &opened, options, &log);
            size_t place = (size_t)(strstr(plain.text, stop) - plain.text);
            assert_int_equal(result.finish_reason, BOMBUS_FINISH_STOP);
            assert_int_equal(result.text_length, place);
            assert_memory_equal(result.text, plain.text, place);
            assert_true(result.count <= plain.count);
            bombus_generate_result_clear(&result);
        }
    /* A beginning that is never completed is held back, and comes out in the end. */
    char almost[16] = {0};
    memcpy(almost, plain.text + plain.text_length - 5, 5);
    strcat(almost, "#");
    const char *const stops[] = {almost};
    bombus_generate_result result =
        generate(session, &opened, (bombus_generate_options){.max_tokens = 24, .stop = stops, .stop_count = 1}, &log);
    check_same(&result, &plain);
    bombus_generate_result_clear(&result);
    bombus_generate_result_clear(&plain);
    bombus_session_free(session);
    close_model(&opened);
}

static void test_end_of_turn(void **state)
{
    (void)state;
    struct opened opened;
    static struct log log;
    size_t eos_count;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    const int32_t *eos = bombus_tokenizer_eos_ids(opened.tokenizer, &eos_count);
    assert_true(eos_count >= 1);
    bombus_session *session = new_session(&opened, NULL);
    for (size_t i = 0; i < eos_count; i++) {
        bombus_logit_bias bias = {.id = eos[i], .bias = 1000.0f};
        bombus_generate_options options = {.max_tokens = 9, .sampler = {.logit_bias = &bias, .logit_bias_count = 1}};
        bombus_generate_result result = generate(session, &opened, options, &log);
        assert_int_equal(result.finish_reason, BOMBUS_FINISH_STOP);
        assert_int_equal(result.count, 1);
        assert_int_equal(result.ids[0], eos[i]);
        assert_string_equal(result.text, "");
        bombus_generate_result_clear(&result);
        options.ignore_eos = true;
        result = generate(session, &opened, options, &log);
        assert_int_equal(result.finish_reason, BOMBUS_FINISH_LENGTH);
        assert_int_equal(result.count, 9);
        bombus_generate_result_clear(&result);
    }
    bombus_session_free(session);
    close_model(&opened);
}

static void test_extra_eos_ids(void **state)
{
    (void)state;
    struct opened opened;
    static struct log log;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    bombus_session *session = new_session(&opened, NULL);
    bombus_generate_result plain = generate(session, &opened, (bombus_generate_options){.max_tokens = 20}, NULL), result;
    size_t place = 1; /* the first token that did not come before it */
    for (size_t i = 0; i < place; i++)
        if (plain.ids[i] == plain.ids[place]) {
            place++;
            i = 0;
        }
    assert_true(place < plain.count);
    const int32_t extra[] = {plain.ids[place], plain.ids[plain.count - 1]};
    for (int kind = 0; kind < 3; kind++) { /* with the tokenizer's, without them, by speculation */
        bombus_generate_options options = {.max_tokens = 20,
                                           .ignore_eos = kind == 1,
                                           .ngram_size = kind == 2 ? 1 : 0,
                                           .extra_eos_ids = extra,
                                           .extra_eos_count = 2};
        result = generate(session, &opened, options, &log);
        assert_int_equal(result.finish_reason, BOMBUS_FINISH_STOP);
        assert_int_equal(result.count, place + 1); /* the id is told, its text is not */
        assert_memory_equal(result.ids, plain.ids, result.count * sizeof *result.ids);
        char *text;
        size_t length;
        CHECK_OK(bombus_tokenizer_decode(opened.tokenizer, plain.ids, place, true, &text, &length, &error), error);
        assert_string_equal(result.text, text);
        bombus_free(text);
        bombus_generate_result_clear(&result);
    }
    bombus_generate_options options = {.max_tokens = 20, .extra_eos_ids = extra, .extra_eos_count = 1};
    CHECK_OK(bombus_generate(session, NULL, opened.prompt.ids, opened.prompt.count, &options, &result, &error), error);
    assert_int_equal(result.count, place + 1); /* no tokenizer is needed */
    bombus_generate_result_clear(&result);
    bombus_generate_result_clear(&plain);
    const int32_t wrong[][1] = {{-1}, {1 << 30}};
    for (size_t i = 0; i < 3; i++) {
        options.extra_eos_ids = i < 2 ? wrong[i] : NULL;
        assert_int_equal(bombus_generate(session, opened.tokenizer, opened.prompt.ids, 2, &options, &result, &error),
                         BOMBUS_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, "extra_eos_ids"));
        bombus_generate_result_clear(&result);
    }
    bombus_session_free(session);
    close_model(&opened);
}

static void test_full_context(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    bombus_generate_result result;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    bombus_session *session = new_session(&opened, &(bombus_session_options){.context_size = 20});
    for (int32_t ngram_size = 0; ngram_size < 3; ngram_size++) {
        bombus_generate_options options = {.ignore_eos = true, .ngram_size = ngram_size, .num_draft_tokens = 8};
        result = generate(session, &opened, options, NULL);
        assert_int_equal(result.finish_reason, BOMBUS_FINISH_LENGTH);
        assert_int_equal(result.count, 20 - opened.prompt.count + 1); /* the last token needs no place */
        assert_int_equal(bombus_session_length(session), 20);
        bombus_generate_result_clear(&result);
    }
    int32_t much[21] = {0};
    assert_int_equal(bombus_generate(session, NULL, much, 21, NULL, &result, &error), BOMBUS_ERROR_CONTEXT_FULL);
    assert_int_equal(bombus_session_length(session), 20);
    bombus_generate_result_clear(&result);
    bombus_session_free(session);
    close_model(&opened);
}

static bool refuse_prompt(void *context, size_t done, size_t total)
{
    (void)context;
    return done + 100 < total;
}

static void test_cancelling(void **state)
{
    (void)state;
    struct opened opened;
    static struct log log;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "long", 1);
    bombus_session *session = new_session(&opened, &(bombus_session_options){.prefill_step_size = 32});
    log.cancel_at = 7;
    bombus_generate_result result = generate(session, &opened, (bombus_generate_options){.ignore_eos = true}, &log);
    log.cancel_at = 0;
    assert_int_equal(result.count, 7);
    assert_int_equal(result.finish_reason, BOMBUS_FINISH_CANCELLED);
    bombus_generate_result_clear(&result);
    CHECK_OK(bombus_session_truncate(session, 0, &error), error);
    result = generate(session, &opened, (bombus_generate_options){.prompt_progress = refuse_prompt}, NULL);
    assert_int_equal(result.count, 0);
    assert_string_equal(result.text, "");
    assert_int_equal(result.finish_reason, BOMBUS_FINISH_CANCELLED);
    assert_int_equal(bombus_session_length(session), 128);
    bombus_generate_result_clear(&result);
    bombus_session_free(session);
    close_model(&opened);
}

/* Log-probabilities are the model's own, whatever the sampler does, and those that scoring gives. */
static void test_logprobs(void **state)
{
    (void)state;
    struct opened opened;
    static struct log log;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    bombus_session *session = new_session(&opened, NULL);
    bombus_generate_options options = {
        .max_tokens = 30,
        .top_logprobs = 5,
        .sampler = {.temperature = 1.3f, .top_k = 30, .presence_penalty = 0.5f, .seed = 5}};
    bombus_generate_result result = generate(session, &opened, options, &log);
    int32_t tokens[64];
    double expected[64];
    memcpy(tokens, opened.prompt.ids, opened.prompt.count * sizeof *tokens);
    memcpy(tokens + opened.prompt.count, result.ids, result.count * sizeof *tokens);
    CHECK_OK(bombus_session_truncate(session, 0, &error), error);
    CHECK_OK(bombus_session_score(session, tokens, opened.prompt.count + result.count, expected, NULL, NULL, &error),
             error);
    for (size_t i = 0; i < result.count; i++) {
        assert_true(fabs((double)log.logprobs[i] - expected[opened.prompt.count + i]) < 1e-5);
        assert_true(log.second[i] < 0.0f);
    }
    bombus_generate_result_clear(&result);
    bombus_session_free(session);
    close_model(&opened);
}

/* The same seed gives the same text, whatever the threads, the chunks of the prompt, and what the session held before. */
static void test_seeds(void **state)
{
    (void)state;
    struct opened one, two;
    OPEN_OR_SKIP(one, "qwen3-4bit", "long", 1);
    OPEN_OR_SKIP(two, "qwen3-4bit", "long", 2);
    bombus_session *first = new_session(&one, NULL),
                   *second = new_session(&two, &(bombus_session_options){.prefill_step_size = 11});
    bombus_generate_options options = {.max_tokens = 60, .sampler = {.temperature = 1.0f, .top_p = 0.95f, .seed = 42}};
    bombus_generate_result a = generate(first, &one, options, NULL), b = generate(second, &two, options, NULL);
    check_same(&a, &b);
    bombus_generate_result again = generate(first, &one, options, NULL);
    check_same(&a, &again);
    options.sampler.seed = 43;
    bombus_generate_result other = generate(first, &one, options, NULL);
    assert_true(strcmp(a.text, other.text) != 0);
    bombus_generate_result_clear(&a);
    bombus_generate_result_clear(&b);
    bombus_generate_result_clear(&again);
    bombus_generate_result_clear(&other);
    bombus_session_free(first);
    bombus_session_free(second);
    close_model(&one);
    close_model(&two);
}

/* Speculation changes nothing but the speed: token for token, log-probability for log-probability, greedy and sampled, with penalties that look back
 * at guessed tokens, for every number of guesses. */
static void check_speculation(const struct opened *opened, const struct opened *small,
                              bombus_session_options session_options, bombus_generate_options options, size_t *accepted)
{
    static struct log plain_log, log;
    bombus_session *plain = new_session(opened, &session_options);
    options.wants_logprobs = true;
    bombus_generate_result expected = generate(plain, opened, options, &plain_log);
    const int32_t counts[] = {1, 3, 8, 64};
    for (size_t i = 0; i < BB_COUNT(counts); i++) {
        bombus_session *session = new_session(opened, &session_options);
        bombus_session *draft = small != NULL ? new_session(small, NULL) : NULL;
        options.num_draft_tokens = counts[i];
        options.draft = draft;
        options.ngram_size = small == NULL ? 1 + (int32_t)i % 3 : 0;
        bombus_generate_result result = generate(session, opened, options, &log);
        check_same(&result, &expected);
        assert_memory_equal(log.logprobs, plain_log.logprobs, result.count * sizeof *log.logprobs);
        assert_true(result.accepted_count <= result.draft_count);
        *accepted += result.accepted_count;
        assert_int_equal(bombus_session_length(session), bombus_session_length(plain));
        assert_memory_equal(bombus_session_tokens(session), bombus_session_tokens(plain),
                            bombus_session_length(plain) * sizeof(int32_t));
        bombus_generate_result_clear(&result);
        /* The draft is in step: going on is as good as beginning (but a quantized cache has rounded the prompt by now). */
        if (session_options.kv_bits == 0) {
            result = generate(session, opened, options, &log);
            check_same(&result, &expected);
            bombus_generate_result_clear(&result);
        }
        bombus_session_free(draft);
        bombus_session_free(session);
    }
    bombus_generate_result_clear(&expected);
    bombus_session_free(plain);
}

static void test_speculation(void **state)
{
    (void)state;
    const bombus_sampler_options samplers[] = {
        {.temperature = 0.0f},
        {.temperature = 0.8f, .seed = 7},
        {.temperature = 1.2f, .top_p = 0.9f, .top_k = 40, .seed = 8},
        {.temperature = 0.7f,
         .repetition_penalty = 1.3f,
         .presence_penalty = 0.4f,
         .frequency_penalty = 0.2f,
         .seed = 9},
        {.temperature = 0.9f, .xtc_probability = 0.5f, .min_p = 0.05f, .seed = 10},
    };
    const char *const models[] = {"qwen3-4bit", "gemma3_text-4bit"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened, small;
        OPEN_OR_SKIP(opened, models[m], "long", 2);
        OPEN_OR_SKIP(small, "qwen3-2bit", "short", 1);
        for (size_t i = 0; i < BB_COUNT(samplers); i++) {
            bombus_generate_options options = {.max_tokens = 48, .sampler = samplers[i]};
            bombus_session_options session_options = {.kv_bits = i == 1 ? 8 : 0, .max_kv_size = i == 2 ? 60 : 0};
            size_t by_model = 0, by_lookup = 0;
#ifdef __SANITIZE_THREAD__
            if (m > 0 || i != 3) /* 30 times as slow there, and the threads have tests of their own */
                continue;
#endif
            check_speculation(&opened, NULL, session_options, options, &by_lookup);
            if (m == 0) /* gemma's vocabulary is another */
                check_speculation(&opened, &small, session_options, options, &by_model);
            print_message("%s, sampler %zu: accepted %zu by the model, %zu by look-up\n", models[m], i, by_model,
                          by_lookup);
            assert_true(m == 1 || by_model > 40);
            assert_true(i != 0 || by_lookup > 10);
        }
        close_model(&opened);
        close_model(&small);
    }
}

static void test_draft_errors(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    bombus_session *session = new_session(&opened, NULL), *other = new_session(&opened, NULL);
    const char *const empty[] = {""};
    const struct {
        bombus_generate_options options;
        const char *name;
    } cases[] = {
        {{.draft = session}, "draft"},
        {{.draft = other, .ngram_size = 2}, "ngram_size"},
        {{.num_draft_tokens = -1}, "num_draft_tokens"},
        {{.num_draft_tokens = 65}, "num_draft_tokens"},
        {{.ngram_size = -1}, "ngram_size"},
        {{.top_logprobs = -1}, "top_logprobs"},
        {{.top_logprobs = 5000}, "top_logprobs"},
        {{.stop_count = 1}, "stop"},
        {{.stop = empty, .stop_count = 1}, "stop[0]"},
        {{.sampler = {.temperature = -1.0f}}, "temperature"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        bombus_generate_result result;
        assert_int_equal(bombus_generate(session, opened.tokenizer, opened.prompt.ids, opened.prompt.count,
                                         &cases[i].options, &result, &error),
                         BOMBUS_ERROR_ARGUMENT);
        assert_non_null(strstr(error.message, cases[i].name));
        assert_null(result.ids);
        bombus_generate_result_clear(&result);
    }
    bombus_generate_result result;
    assert_int_equal(bombus_generate(session, NULL, opened.prompt.ids, 0, NULL, &result, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_generate(session, NULL, (int32_t[]){-5}, 1, NULL, &result, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bombus_session_length(session), 0);
    bombus_session_free(session);
    bombus_session_free(other);
    close_model(&opened);
}

/* 100 tokens in the middle of a generation allocate nothing, with all that a request can ask for. */
static void test_no_allocation_per_token(void **state)
{
    (void)state;
    struct opened opened, small;
    static struct log log;
    const char *const stops[] = {"never in the text", "nor this"};
    OPEN_OR_SKIP(opened, "qwen3-4bit", "long", 2);
    OPEN_OR_SKIP(small, "qwen3-2bit", "short", 1);
    for (int kind = 0; kind < 3; kind++) {
        bombus_session *session = new_session(&opened, NULL), *draft = new_session(&small, NULL);
        bombus_generate_options options = {
            .max_tokens = 130,
            .ignore_eos = true,
            .top_logprobs = 4,
            .stop = stops,
            .stop_count = 2,
            .sampler = {.temperature = 0.8f, .top_p = 0.9f, .top_k = 50, .repetition_penalty = 1.1f},
            .draft = kind == 1 ? draft : NULL,
            .ngram_size = kind == 2 ? 2 : 0};
        bombus_generate_result result = generate(session, &opened, options, &log);
        assert_int_equal(result.count, 130);
        assert_int_equal(log.allocations[125] - log.allocations[25], 0);
        bombus_generate_result_clear(&result);
        bombus_session_free(session);
        bombus_session_free(draft);
    }
    close_model(&opened);
    close_model(&small);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct opened opened, small;
    OPEN_OR_SKIP(opened, "qwen3-4bit", "short", 1);
    OPEN_OR_SKIP(small, "qwen3-2bit", "short", 1);
    bombus_session *session = new_session(&opened, NULL), *draft = new_session(&small, NULL);
    const char *const stops[] = {"never"};
    bombus_generate_options options = {
        .max_tokens = 6, .top_logprobs = 2, .stop = stops, .stop_count = 1, .draft = draft};
    bombus_generate_result expected = generate(session, &opened, options, NULL), result;
    bombus_status status = BOMBUS_ERROR_MEMORY;
    int calls = 0;
    while (status != BOMBUS_OK) {
        bombus_error error;
        bb_memory_fail_at((uint64_t)++calls, false);
        status = bombus_generate(session, opened.tokenizer, opened.prompt.ids, opened.prompt.count, &options, &result,
                                 &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        if (status == BOMBUS_OK)
            check_same(&result, &expected);
        bombus_generate_result_clear(&result);
    }
    assert_true(calls > 15);
    bombus_generate_result_clear(&expected);
    bombus_session_free(session);
    bombus_session_free(draft);
    close_model(&opened);
    close_model(&small);
}

struct job {
    const struct opened *opened;
    uint64_t seed;
    bombus_generate_result result;
};

static void *work(void *context)
{
    struct job *job = context;
    bombus_session *session = NULL;
    bombus_generate_options options = {
        .max_tokens = 24, .ngram_size = 2, .sampler = {.temperature = 1.0f, .seed = job->seed}};
    const struct golden_ids *prompt = &job->opened->prompt;
    bombus_status status = bombus_session_create(&session, job->opened->model, NULL, NULL);
    if (status == BOMBUS_OK)
        status =
            bombus_generate(session, job->opened->tokenizer, prompt->ids, prompt->count, &options, &job->result, NULL);
    bombus_session_free(session);
    return status == BOMBUS_OK ? job : NULL;
}

/* One model and tokenizer, four threads. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct opened opened;
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    OPEN_OR_SKIP(opened, "qwen3-4bit", "long", 2);
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.opened = &opened, .seed = (uint64_t)i / 2};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *done;
        assert_int_equal(pthread_join(threads[i], &done), 0);
        assert_non_null(done);
    }
    check_same(&jobs[0].result, &jobs[1].result);
    check_same(&jobs[2].result, &jobs[3].result);
    assert_true(strcmp(jobs[0].result.text, jobs[2].result.text) != 0);
    for (int i = 0; i < THREADS; i++)
        bombus_generate_result_clear(&jobs[i].result);
    close_model(&opened);
}

static void test_sampler_defaults(void **state)
{
    (void)state;
    bombus_error error;
    bombus_sampler_options sampler = {.temperature = 9.0f, .top_k = 9, .seed = 3};
    CHECK_OK(bombus_sampler_defaults(&sampler, scratch_folder, &error), error);
    assert_true(sampler.temperature == 0.0f && sampler.top_k == 0 && sampler.seed == 3);
    scratch_text("generation_config.json",
                 "{\"do_sample\": true, \"temperature\": 0.6, \"top_k\": 20, \"top_p\": 0.95}");
    CHECK_OK(bombus_sampler_defaults(&sampler, scratch_folder, &error), error);
    assert_true(sampler.temperature == 0.6f && sampler.top_k == 20 && sampler.top_p == 0.95f && sampler.min_p == 0.0f);
    scratch_text("generation_config.json", "{\"do_sample\": false, \"temperature\": 0.6}");
    CHECK_OK(bombus_sampler_defaults(&sampler, scratch_folder, &error), error);
    assert_true(sampler.temperature == 0.0f && sampler.top_k == 0);
    scratch_text("generation_config.json", "{\"do_sample\": true, \"top_k\": \"many\"}");
    assert_int_equal(bombus_sampler_defaults(&sampler, scratch_folder, &error), BOMBUS_ERROR_FORMAT);
    scratch_text("generation_config.json", "{");
    assert_int_equal(bombus_sampler_defaults(&sampler, scratch_folder, &error), BOMBUS_ERROR_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lengths_and_text),
        cmocka_unit_test(test_stop_strings),
        cmocka_unit_test(test_end_of_turn),
        cmocka_unit_test(test_extra_eos_ids),
        cmocka_unit_test(test_full_context),
        cmocka_unit_test(test_cancelling),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_seeds),
        cmocka_unit_test(test_speculation),
        cmocka_unit_test(test_draft_errors),
        cmocka_unit_test(test_no_allocation_per_token),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_sampler_defaults),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
