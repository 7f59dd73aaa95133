/* The sampler against mlx-lm's vectors, its draws against its distribution, and its cost. */
#include "base/file.h"
#include "base/memory.h"
#include "base/random.h"
#include "files/safetensors.h"
#include "generate/sampler.h"
#include "test.h"

#include <jansson.h>
#include <string.h>
#include <time.h>

struct vectors {
    json_t *json;
    struct bb_safetensors file;
};

/* False where the reference data is absent. */
static bool open_vectors(struct vectors *vectors)
{
    const char *list = golden_path("samplers/samplers.json"), *data = golden_path("samplers/samplers.safetensors");
    bombus_error error;
    if (list == NULL || data == NULL)
        return false;
    vectors->json = json_load_file(list, 0, NULL);
    assert_non_null(vectors->json);
    CHECK_OK(bb_safetensors_open(&vectors->file, data, &error), error);
    return true;
}

static void close_vectors(struct vectors *vectors)
{
    json_decref(vectors->json);
    bb_safetensors_close(&vectors->file);
}

/* A copy, since a file's data may lie unaligned; freed by the caller. NULL if absent. */
static float *vector(const struct vectors *vectors, json_int_t index, const char *part, int32_t *count)
{
    char name[64];
    snprintf(name, sizeof name, "%lld.%s", (long long)index, part);
    const struct bb_safetensors_entry *entry = bb_safetensors_find(&vectors->file, name);
    if (entry == NULL)
        return NULL;
    assert_int_equal(entry->dtype, BB_F32);
    *count = (int32_t)entry->shape[0];
    return memcpy(malloc(entry->size), entry->data, entry->size);
}

static float number(const json_t *object, const char *key, double fallback)
{
    const json_t *value = json_object_get(object, key);
    return (float)(value != NULL ? json_number_value(value) : fallback);
}

struct lists {
    bombus_logit_bias bias[8];
    int32_t special[8], tokens[100];
    size_t token_count;
};

static size_t read_ids(int32_t *ids, const json_t *array)
{
    for (size_t i = 0; i < json_array_size(array); i++)
        ids[i] = (int32_t)json_integer_value(json_array_get(array, i));
    return json_array_size(array);
}

/* A case as options: filters draw at temperature 1, xtc's coin always falls. */
static bombus_sampler_options case_options(json_t *object, struct lists *lists)
{
    bombus_sampler_options options = {.temperature = number(object, "temp", 1.0), .logit_bias = lists->bias};
    const char *name = json_string_value(json_object_get(object, "name")), *key;
    float penalty = number(object, "penalty", 0.0);
    int32_t context = (int32_t)number(object, "context_size", 0.0);
    options.top_p = number(object, "top_p", 0.0);
    options.top_k = (int32_t)number(object, "top_k", 0.0);
    options.min_p = number(object, "min_p", 0.0);
    options.min_tokens_to_keep = (int32_t)number(object, "min_tokens_to_keep", 0.0);
    options.xtc_threshold = number(object, "xtc_threshold", (double)number(object, "xtc", 0.0));
    options.xtc_probability = options.xtc_threshold > 0.0f ? 1.0f : 0.0f;
    options.xtc_special_tokens = lists->special;
    options.xtc_special_token_count = read_ids(lists->special, json_object_get(object, "special"));
    options.repetition_penalty = strcmp(name, "repetition_penalty") == 0 ? penalty : number(object, "repetition", 0.0);
    options.presence_penalty = strcmp(name, "presence_penalty") == 0 ? penalty : number(object, "presence", 0.0);
    options.frequency_penalty = strcmp(name, "frequency_penalty") == 0 ? penalty : number(object, "frequency", 0.0);
    options.repetition_context_size = options.presence_context_size = options.frequency_context_size = context;
    json_t *value;
    json_object_foreach(json_object_get(object, "bias"), key, value) lists->bias[options.logit_bias_count++] =
        (bombus_logit_bias){atoi(key), (float)json_number_value(value)};
    lists->token_count = read_ids(lists->tokens, json_object_get(object, "tokens"));
    return options;
}

/* Ties may be broken either way: where the pattern differs, the score must be the least that stays, and as many must
 * stay. */
static void check_pattern(const float *actual, const float *expected, const float *scores, int32_t count,
                          bool may_break_ties)
{
    int32_t kept = 0, expected_kept = 0;
    float least = INFINITY;
    for (int32_t i = 0; i < count; i++) {
        kept += actual[i] > -INFINITY;
        expected_kept += expected[i] > -INFINITY;
        if (expected[i] > -INFINITY && scores[i] < least)
            least = scores[i];
    }
    assert_int_equal(kept, expected_kept);
    for (int32_t i = 0; i < count; i++)
        if ((actual[i] > -INFINITY) != (expected[i] > -INFINITY)) {
            assert_true(may_break_ties);
            assert_true(scores[i] == least);
        }
}

static void check_case(const struct vectors *vectors, json_t *object)
{
    struct lists lists = {0};
    bombus_sampler_options options = case_options(object, &lists);
    json_int_t index = json_integer_value(json_object_get(object, "i"));
    int32_t count = 0, same = 0;
    float *logits = vector(vectors, index, "logits", &count), *expected = vector(vectors, index, "out", &same);
    float *scores = vector(vectors, index, "logprobs", &same);
    struct bb_sampler *sampler;
    bombus_error error;
    CHECK_OK(bb_sampler_create(&sampler, &options, count, &error), error);
    float *out = malloc((size_t)count * sizeof *out), *logprobs = malloc((size_t)count * sizeof *logprobs);
    if (scores == NULL) { /* bias and penalties */
        const float *processed = bb_sampler_process(sampler, logits, lists.tokens, lists.token_count);
        CHECK_NEAR(processed, expected, (size_t)count, 1e-5);
    } else {
        float normalizer = (float)bb_logits_log_sum_exp(logits, count),
              rest = (float)bb_logits_log_sum_exp(expected, count);
        for (int32_t i = 0; i < count; i++)
            logprobs[i] = logits[i] - normalizer;
        CHECK_NEAR(logprobs, scores, (size_t)count, 1e-5);
        CHECK_OK(bb_sampler_distribution(sampler, logits, NULL, 0, out, &error), error);
        check_pattern(out, expected, scores, count, options.top_k > 0 || options.min_tokens_to_keep > 1);
        /* A chain's vector is normalized, a filter's is what it left of the log-probabilities. */
        for (int32_t i = 0; i < count; i++)
            if (out[i] > -INFINITY && expected[i] > -INFINITY)
                CHECK_NEAR(&out[i], &(float){expected[i] - rest}, 1, 1e-5 + 1e-7 * fabs((double)expected[i]));
    }
    free(logits);
    free(expected);
    free(scores);
    free(out);
    free(logprobs);
    bb_sampler_free(sampler);
}

static void test_vectors(void **state)
{
    (void)state;
    struct vectors vectors;
    size_t index, checked = 0;
    json_t *object;
    if (!open_vectors(&vectors)) {
        SKIP_WITHOUT_GOLDEN(NULL);
        return;
    }
    json_array_foreach(json_object_get(vectors.json, "cases"), index, object)
    {
        check_case(&vectors, object);
        checked++;
    }
    print_message("%zu vectors\n", checked);
    assert_true(checked >= 144);
    close_vectors(&vectors);
}

enum { VOCABULARY = 151936 };

/* Logits shaped like a language model's: a few likely tokens over a wide tail. */
static float *make_logits(int32_t count, uint64_t seed)
{
    struct bb_random random = {.seed = seed};
    float *logits = malloc((size_t)count * sizeof *logits);
    for (int32_t i = 0; i < count; i++) {
        double sum = 0.0;
        for (int j = 0; j < 4; j++)
            sum += bb_random_uniform(&random) - 0.5;
        logits[i] = (float)(sum * 3.0);
    }
    for (int32_t i = 0; i < 40 && i < count; i++)
        logits[bb_random_next(&random) % (uint64_t)count] += (float)(6.0 + 14.0 * bb_random_uniform(&random));
    return logits;
}

static int compare_floats(const void *left, const void *right)
{
    float a = *(const float *)left, b = *(const float *)right;
    return (a < b) - (a > b);
}

/* Selection without a sort keeps what a full sort keeps, for odd sizes, ties, extremes. */
static void test_selection(void **state)
{
    (void)state;
    bombus_error error;
    const int32_t sizes[] = {1, 2, 63, 64, 65, 1000, 20000};
    for (size_t s = 0; s < BB_COUNT(sizes); s++)
        for (int kind = 0; kind < 4; kind++) {
            int32_t count = sizes[s];
            float *logits = make_logits(count, 5), *sorted = malloc((size_t)count * sizeof *sorted);
            for (int32_t i = 0; i < count; i++) {
                if (kind == 1)
                    logits[i] = roundf(logits[i]);
                if (kind == 2)
                    logits[i] = i % 3 == 0 ? -INFINITY : logits[i];
                if (kind == 3)
                    logits[i] = 0.25f;
            }
            if (kind == 2 && count > 1)
                logits[0] = NAN;
            logits[count - 1] = 3.0f;
            int32_t numbers = 0;
            for (int32_t i = 0; i < count; i++)
                if (logits[i] > -INFINITY)
                    sorted[numbers++] = logits[i];
            qsort(sorted, (size_t)numbers, sizeof *sorted, compare_floats);
            struct bb_selection selection;
            CHECK_OK(bb_selection_init(&selection, count, &error), error);
            bb_selection_measure(&selection, logits);
            for (int32_t keep = 1; keep <= count; keep = keep * 3 + 1) {
                bb_selection_gather_top(&selection, logits, keep);
                bb_selection_keep_top(&selection, keep);
                bb_selection_sort(&selection);
                assert_int_equal(selection.count, keep < numbers ? keep : numbers);
                for (int32_t i = 0; i < selection.count; i++)
                    assert_true(selection.candidates[i].logit == sorted[i]);
                if (keep > 500)
                    break;
            }
            assert_true(logits[bb_logits_argmax(logits, count)] == sorted[0]);
            bb_selection_clear(&selection);
            free(logits);
            free(sorted);
        }
}

/* Against double arithmetic, over the whole range. */
static void test_exponentials(void **state)
{
    (void)state;
    float values[1000], out[1000];
    for (int i = 0; i < 1000; i++)
        values[i] = -0.09f * (float)i;
    values[0] = 0.0f;
    bb_logits_exp(out, values, 1000, 0.0f, 1.0f);
    for (int i = 0; i < 960; i++)
        assert_true(fabs((double)out[i] / exp((double)values[i]) - 1.0) < 1e-6);
    assert_true(out[0] == 1.0f);
    assert_true(out[999] == 0.0f);
    float *logits = make_logits(VOCABULARY, 1);
    double fast = bb_logits_log_sum_exp(logits, VOCABULARY), exact = bb_logits_log_sum_exp_exact(logits, VOCABULARY);
    assert_true(fabs(fast - exact) < 1e-6);
    for (int i = 0; i < VOCABULARY; i++)
        logits[i] = -INFINITY;
    assert_int_equal(bb_logits_argmax(logits, VOCABULARY), -1);
    assert_true(bb_logits_log_sum_exp_exact(logits, VOCABULARY) == -HUGE_VAL);
    free(logits);
}

/* Draws over many positions follow the distribution: chi-squared, for filters and for the plain row. */
static void check_frequencies(const bombus_sampler_options *options)
{
    enum { SIZE = 100, DRAWS = 40000 };
    float *logits = make_logits(SIZE, 3), expected[SIZE];
    for (int i = 0; i < SIZE; i++)
        logits[i] *= 0.2f;
    double counts[SIZE] = {0}, statistic = 0.0;
    struct bb_sampler *sampler;
    bombus_error error;
    CHECK_OK(bb_sampler_create(&sampler, options, SIZE, &error), error);
    CHECK_OK(bb_sampler_distribution(sampler, logits, NULL, 0, expected, &error), error);
    static const int32_t tokens[DRAWS];
    for (size_t i = 0; i < DRAWS; i++) {
        int32_t id;
        CHECK_OK(bb_sampler_draw(sampler, logits, tokens, i, &id, &error), error);
        assert_true(expected[id] > -INFINITY);
        counts[id]++;
    }
    int freedom = -1;
    double rest = 0.0, rest_count = 0.0;
    for (int i = 0; i < SIZE; i++) {
        double mean = DRAWS * exp((double)expected[i]);
        if (mean < 5.0) {
            rest += mean;
            rest_count += counts[i];
            continue;
        }
        statistic += (counts[i] - mean) * (counts[i] - mean) / mean;
        freedom++;
    }
    if (rest > 5.0) {
        statistic += (rest_count - rest) * (rest_count - rest) / rest;
        freedom++;
    }
    assert_true(freedom >= 3);
    assert_true(statistic < freedom + 5.0 * sqrt(2.0 * freedom)); /* five standard deviations; the seeds are fixed */
    bb_sampler_free(sampler);
    free(logits);
}

static void test_draws_follow_the_distribution(void **state)
{
    (void)state;
    check_frequencies(&(bombus_sampler_options){.temperature = 1.0f, .seed = 1});
    check_frequencies(&(bombus_sampler_options){.temperature = 0.7f, .top_k = 20, .top_p = 0.95f, .seed = 2});
    check_frequencies(&(bombus_sampler_options){.temperature = 1.5f, .min_p = 0.02f, .seed = 3});
}

/* xtc draws its coin apart from the token: with probability 1/2, about half of the draws may take the top token. */
static void test_xtc_coin(void **state)
{
    (void)state;
    enum { SIZE = 4, DRAWS = 4000 };
    const float logits[SIZE] = {2.0f, 1.9f, 1.0f, 0.0f};
    static const int32_t tokens[DRAWS];
    bombus_sampler_options options = {.temperature = 1.0f, .xtc_probability = 0.5f, .xtc_threshold = 0.2f, .top_k = 1};
    struct bb_sampler *sampler;
    bombus_error error;
    int counts[SIZE] = {0};
    CHECK_OK(bb_sampler_create(&sampler, &options, SIZE, &error), error);
    for (size_t i = 0; i < DRAWS; i++) {
        int32_t id;
        CHECK_OK(bb_sampler_draw(sampler, logits, tokens, i, &id, &error), error);
        counts[id]++;
    }
    assert_int_equal(counts[0] + counts[1], DRAWS); /* above the threshold are 0 and 1: xtc leaves 1 */
    assert_in_range(counts[0], DRAWS / 2 - 160, DRAWS / 2 + 160);
    bb_sampler_free(sampler);
}

static void test_options(void **state)
{
    (void)state;
    const bombus_logit_bias outside = {.id = 10, .bias = 1.0f}, not_a_number = {.id = 1, .bias = NAN};
    const struct {
        bombus_sampler_options options;
        const char *name;
    } cases[] = {
        {{.temperature = -1.0f}, "temperature"},
        {{.temperature = NAN}, "temperature"},
        {{.top_p = -0.1f}, "top_p"},
        {{.top_k = -1}, "top_k"},
        {{.min_p = 1.5f}, "min_p"},
        {{.min_tokens_to_keep = -1}, "min_tokens_to_keep"},
        {{.xtc_probability = 2.0f}, "xtc_probability"},
        {{.xtc_threshold = 0.6f}, "xtc_threshold"},
        {{.repetition_penalty = -1.0f}, "repetition_penalty"},
        {{.presence_penalty = INFINITY}, "presence_penalty"},
        {{.frequency_penalty = NAN}, "frequency_penalty"},
        {{.frequency_context_size = -5}, "frequency_context_size"},
        {{.logit_bias_count = 1}, "logit_bias"},
        {{.logit_bias = &outside, .logit_bias_count = 1}, "logit_bias"},
        {{.logit_bias = &not_a_number, .logit_bias_count = 1}, "logit_bias"},
        {{.xtc_special_token_count = 1}, "xtc_special_tokens"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct bb_sampler *sampler;
        bombus_error error;
        assert_int_equal(bb_sampler_create(&sampler, &cases[i].options, 10, &error), BOMBUS_ERROR_ARGUMENT);
        assert_null(sampler);
        assert_non_null(strstr(error.message, cases[i].name));
    }
}

static void test_hostile_logits(void **state)
{
    (void)state;
    enum { SIZE = 130 };
    float logits[SIZE];
    const bombus_sampler_options options[] = {
        {0},
        {.temperature = 1.0f},
        {.temperature = 1e-38f},
        {.temperature = 0.01f, .top_p = 0.001f, .min_p = 1.0f, .xtc_probability = 1.0f, .top_k = 1000},
        {.temperature = 3e38f, .min_tokens_to_keep = 1000, .min_p = 0.5f}};
    for (size_t i = 0; i < BB_COUNT(options); i++) {
        struct bb_sampler *sampler;
        bombus_error error;
        int32_t id;
        CHECK_OK(bb_sampler_create(&sampler, &options[i], SIZE, &error), error);
        for (int j = 0; j < SIZE; j++)
            logits[j] = NAN;
        assert_int_equal(bb_sampler_draw(sampler, logits, NULL, 0, &id, &error), BOMBUS_ERROR_FORMAT);
        for (int j = 0; j < SIZE; j++)
            logits[j] = -INFINITY;
        assert_int_equal(bb_sampler_draw(sampler, logits, NULL, 0, &id, &error), BOMBUS_ERROR_FORMAT);
        logits[77] = -1e30f;
        logits[78] = NAN;
        CHECK_OK(bb_sampler_draw(sampler, logits, NULL, 0, &id, &error), error);
        assert_int_equal(id, 77);
        bb_sampler_free(sampler);
    }
}

static void test_failing_allocations(void **state)
{
    (void)state;
    const bombus_logit_bias bias = {.id = 3, .bias = 1.0f};
    bombus_sampler_options options = {.logit_bias = &bias, .logit_bias_count = 1};
    bombus_status status = BOMBUS_ERROR_MEMORY;
    int calls = 0;
    while (status != BOMBUS_OK) {
        struct bb_sampler *sampler;
        bombus_error error;
        bb_memory_fail_at((uint64_t)++calls, false);
        status = bb_sampler_create(&sampler, &options, 1000, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        bb_sampler_free(sampler);
    }
    assert_true(calls > 5);
}

static double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Best of several draws, in seconds; and no allocation in them. */
static double time_draw(const bombus_sampler_options *options, const float *logits, const int32_t *tokens, size_t count)
{
    struct bb_sampler *sampler;
    bombus_error error;
    double best = 1.0;
    CHECK_OK(bb_sampler_create(&sampler, options, VOCABULARY, &error), error);
    uint64_t allocations = bb_memory_count();
    for (size_t i = 0; i < 20; i++) {
        int32_t id;
        double begin = seconds_now();
        CHECK_OK(bb_sampler_draw(sampler, logits, tokens, count - i, &id, &error), error);
        double taken = seconds_now() - begin;
        best = taken < best ? taken : best;
    }
    assert_int_equal(bb_memory_count(), allocations);
    bb_sampler_free(sampler);
    return best;
}

/* A token of a 0.6B model takes some 15 ms: no sampler may cost a tenth of that. The limits are wide, for slow machines
 * and sanitizers. */
static void test_cost(void **state)
{
    (void)state;
    static int32_t tokens[64];
    float *logits = make_logits(VOCABULARY, 9), *flat = malloc(VOCABULARY * sizeof *flat);
    for (int32_t i = 0; i < VOCABULARY; i++)
        flat[i] = 1e-3f * logits[i];
    const struct {
        const char *name;
        bombus_sampler_options options;
    } cases[] = {
        {"greedy", {.temperature = 0.0f}},
        {"greedy, penalties", {.repetition_penalty = 1.1f, .presence_penalty = 0.5f}},
        {"temperature", {.temperature = 1.0f}},
        {"top_k 20", {.temperature = 0.7f, .top_k = 20}},
        {"top_p 0.95", {.temperature = 0.7f, .top_p = 0.95f}},
        {"top_p 0.95, top_k 20", {.temperature = 0.6f, .top_p = 0.95f, .top_k = 20}},
        {"min_p 0.05", {.temperature = 1.0f, .min_p = 0.05f}},
        {"xtc", {.temperature = 1.0f, .xtc_probability = 1.0f}},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        double peaked = time_draw(&cases[i].options, logits, tokens, 64),
               even = time_draw(&cases[i].options, flat, tokens, 64);
        print_message("%-22s %.3f ms, flat row %.3f ms\n", cases[i].name, 1e3 * peaked, 1e3 * even);
        assert_true(peaked < 0.05 && even < 0.2);
    }
    free(logits);
    free(flat);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),        cmocka_unit_test(test_selection),
        cmocka_unit_test(test_exponentials),   cmocka_unit_test(test_draws_follow_the_distribution),
        cmocka_unit_test(test_xtc_coin),       cmocka_unit_test(test_options),
        cmocka_unit_test(test_hostile_logits), cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_cost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
