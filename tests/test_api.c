/* The wall behind bombus.h: wrong arguments are named, NULL is refused or harmless, handles may go in any order, memory may end anywhere. */
#include "base/memory.h"
#include "golden.h"
#include "scratch.h"

/* `call` is an argument error whose message begins with `name`. */
#define CHECK_ARGUMENT(call, name)                                                                            \
    do {                                                                                                      \
        assert_int_equal((call), BOMBUS_ERROR_ARGUMENT);                                                      \
        assert_int_equal(error.status, BOMBUS_ERROR_ARGUMENT);                                                \
        if (strncmp(error.message, (name), strlen(name)) != 0)                                                \
            print_error("%s: %s\n", #call, error.message);                                                    \
        assert_true(strncmp(error.message, (name), strlen(name)) == 0);                                       \
    } while (0)

static void test_null_without_a_model(void **state)
{
    (void)state;
    bombus_error error;
    bombus_model *model = (bombus_model *)&error;
    bombus_tokenizer *tokenizer = (bombus_tokenizer *)&error;
    bombus_template *template_ = (bombus_template *)&error;
    bombus_session *session = (bombus_session *)&error;
    char *text = (char *)&error;
    int32_t *ids = (int32_t *)&error;
    size_t count = 1;
    double rate;
    CHECK_ARGUMENT(bombus_hub_resolve(NULL, "x", NULL, &error), "folder");
    CHECK_ARGUMENT(bombus_hub_resolve(&text, NULL, NULL, &error), "reference");
    assert_null(text);
    CHECK_ARGUMENT(bombus_model_open(NULL, "x", NULL, &error), "model");
    CHECK_ARGUMENT(bombus_model_open(&model, NULL, NULL, &error), "folder");
    assert_null(model);
    CHECK_ARGUMENT(bombus_model_open(&model, "x", &(bombus_model_options){.thread_count = -1}, &error), "thread_count");
    CHECK_ARGUMENT(bombus_model_open(&model, "x", &(bombus_model_options){.precision = (bombus_precision)9}, &error), "precision");
    CHECK_ARGUMENT(bombus_inspect(NULL, "x", &error), "json");
    CHECK_ARGUMENT(bombus_inspect(&text, NULL, &error), "folder");
    CHECK_ARGUMENT(bombus_tokenizer_open(NULL, "x", NULL, &error), "tokenizer");
    CHECK_ARGUMENT(bombus_tokenizer_open(&tokenizer, NULL, NULL, &error), "folder");
    assert_null(tokenizer);
    CHECK_ARGUMENT(bombus_tokenizer_encode(NULL, "x", 1, true, &ids, &count, &error), "tokenizer");
    assert_null(ids);
    assert_int_equal(count, 0);
    CHECK_ARGUMENT(bombus_tokenizer_decode(NULL, NULL, 0, true, &text, &count, &error), "tokenizer");
    assert_null(bombus_tokenizer_eos_ids(NULL, &count));
    assert_null(bombus_tokenizer_eos_ids(NULL, NULL));
    assert_int_equal(bombus_tokenizer_token_id(NULL, "x"), -1);
    assert_null(bombus_tokenizer_special_token(NULL, "bos_token"));
    CHECK_ARGUMENT(bombus_template_create(NULL, "x", 1, &error), "template_");
    CHECK_ARGUMENT(bombus_template_create(&template_, NULL, 1, &error), "source");
    assert_null(template_);
    CHECK_ARGUMENT(bombus_template_open(NULL, "x", NULL, &error), "template_");
    CHECK_ARGUMENT(bombus_template_open(&template_, NULL, NULL, &error), "folder");
    CHECK_ARGUMENT(bombus_template_render(NULL, "{}", 2, &text, NULL, NULL, NULL, &error), "template_");
    CHECK_ARGUMENT(bombus_session_create(NULL, NULL, NULL, &error), "session");
    CHECK_ARGUMENT(bombus_session_create(&session, NULL, NULL, &error), "model");
    assert_null(session);
    CHECK_ARGUMENT(bombus_session_step(NULL, &(int32_t){1}, 1, &error), "session");
    CHECK_ARGUMENT(bombus_sessions_step(NULL, &(int32_t){1}, 1, &error), "sessions");
    CHECK_ARGUMENT(bombus_session_truncate(NULL, 0, &error), "session");
    CHECK_ARGUMENT(bombus_session_save(NULL, "x", &error), "session");
    CHECK_ARGUMENT(bombus_session_load(NULL, "x", &error), "session");
    CHECK_ARGUMENT(bombus_session_score(NULL, &(int32_t){1}, 1, &rate, NULL, NULL, &error), "session");
    CHECK_ARGUMENT(bombus_generate(NULL, NULL, &(int32_t){1}, 1, NULL, &(bombus_generate_result){0}, &error), "session");
    CHECK_ARGUMENT(bombus_sampler_defaults(NULL, "x", &error), "sampler");
    CHECK_ARGUMENT(bombus_sampler_defaults(&(bombus_sampler_options){0}, NULL, &error), "folder");
    CHECK_ARGUMENT(bombus_measure_bandwidth(NULL, 0, 0, 0.1, &error), "bytes_per_second");
    CHECK_ARGUMENT(bombus_measure_bandwidth(&rate, -1, 0, 0.1, &error), "thread_count");
    CHECK_ARGUMENT(bombus_measure_bandwidth(&rate, 1, 0, (double)NAN, &error), "seconds");
    CHECK_ARGUMENT(bombus_measure_bandwidth(&rate, 1, 100, 0.1, &error), "bytes");
    assert_null(bombus_session_logits(NULL));
    assert_null(bombus_session_tokens(NULL));
    assert_int_equal(bombus_session_length(NULL), 0);
    /* An error may be NULL, and so may what is freed. */
    assert_int_equal(bombus_model_open(&model, NULL, NULL, NULL), BOMBUS_ERROR_ARGUMENT);
    bombus_model_close(NULL);
    bombus_tokenizer_close(NULL);
    bombus_template_free(NULL);
    bombus_session_free(NULL);
    bombus_generate_result_clear(NULL);
    bombus_free(NULL);
    bombus_model_get_info(NULL, NULL);
    bombus_model_info info;
    bombus_model_get_info(NULL, &info);
    assert_null(info.architecture);
}

static void test_names(void **state)
{
    (void)state;
    assert_string_equal(bombus_version(), BOMBUS_VERSION);
    assert_string_equal(bombus_status_name(BOMBUS_ERROR_TEMPLATE), "BOMBUS_ERROR_TEMPLATE");
    assert_string_equal(bombus_status_name(BOMBUS_ERROR_DIVERGED), "BOMBUS_ERROR_DIVERGED");
    assert_non_null(bombus_status_name((bombus_status)77));
}

static bombus_model *open_model(const char *folder, const bombus_model_options *options)
{
    bombus_model *model;
    bombus_error error;
    CHECK_OK(bombus_model_open(&model, folder, options, &error), error);
    return model;
}

static void test_null_with_a_model(void **state)
{
    (void)state;
    bombus_error error;
    const char *folder = golden_model("qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    bombus_model *model = open_model(folder, NULL);
    bombus_session *session;
    bombus_tokenizer *tokenizer;
    char *text;
    int32_t *ids;
    size_t count;
    CHECK_OK(bombus_session_create(&session, model, NULL, &error), error);
    CHECK_OK(bombus_tokenizer_open(&tokenizer, folder, NULL, &error), error);
    CHECK_ARGUMENT(bombus_session_step(session, NULL, 1, &error), "tokens");
    CHECK_OK(bombus_session_step(session, NULL, 0, &error), error);
    CHECK_ARGUMENT(bombus_sessions_step(&session, NULL, 1, &error), "tokens");
    CHECK_ARGUMENT(bombus_sessions_step(&(bombus_session *){NULL}, &(int32_t){1}, 1, &error), "sessions[0]");
    CHECK_ARGUMENT(bombus_session_save(session, NULL, &error), "path");
    CHECK_ARGUMENT(bombus_session_load(session, NULL, &error), "path");
    CHECK_ARGUMENT(bombus_session_truncate(session, 1, &error), "length");
    CHECK_ARGUMENT(bombus_session_score(session, NULL, 1, &(double){0}, NULL, NULL, &error), "tokens");
    CHECK_ARGUMENT(bombus_session_score(session, &(int32_t){1}, 1, NULL, NULL, NULL, &error), "logprobs");
    CHECK_ARGUMENT(bombus_generate(session, NULL, &(int32_t){1}, 1, NULL, NULL, &error), "result");
    CHECK_ARGUMENT(bombus_generate(session, NULL, NULL, 1, NULL, &(bombus_generate_result){0}, &error), "prompt");
    const char *const stop = "x";
    bombus_generate_options options = {.stop = &stop, .stop_count = 1};
    CHECK_ARGUMENT(bombus_generate(session, NULL, &(int32_t){1}, 1, &options, &(bombus_generate_result){0}, &error), "stop");
    CHECK_ARGUMENT(bombus_tokenizer_encode(tokenizer, NULL, 1, true, &ids, &count, &error), "text");
    CHECK_ARGUMENT(bombus_tokenizer_encode(tokenizer, "x", 1, true, NULL, &count, &error), "ids");
    CHECK_ARGUMENT(bombus_tokenizer_encode(tokenizer, "x", 1, true, &ids, NULL, &error), "count");
    CHECK_OK(bombus_tokenizer_encode(tokenizer, NULL, 0, false, &ids, &count, &error), error);
    assert_int_equal(count, 0);
    bombus_free(ids);
    CHECK_ARGUMENT(bombus_tokenizer_decode(tokenizer, NULL, 1, true, &text, &count, &error), "ids");
    CHECK_ARGUMENT(bombus_tokenizer_decode(tokenizer, NULL, 0, true, NULL, &count, &error), "text");
    CHECK_ARGUMENT(bombus_tokenizer_decode(tokenizer, NULL, 0, true, &text, NULL, &error), "length");
    CHECK_OK(bombus_tokenizer_decode(tokenizer, NULL, 0, true, &text, &count, &error), error);
    assert_string_equal(text, "");
    bombus_free(text);
    assert_int_equal(bombus_tokenizer_token_id(tokenizer, NULL), -1);
    assert_int_equal(bombus_tokenizer_token_id(tokenizer, "<|im_end|>"), 962);
    assert_null(bombus_tokenizer_special_token(tokenizer, "pad_of_mars"));
    bombus_session *none[1];
    CHECK_ARGUMENT(bombus_sessions_create(none, 0, model, NULL, &error), "count");
    bombus_session_free(session);
    bombus_tokenizer_close(tokenizer);
    bombus_model_close(model);
}

static void test_wrong_devices(void **state)
{
    (void)state;
    bombus_error error;
    bombus_model *model;
    const char *folder = golden_model("qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    assert_int_equal(bombus_model_open(&model, folder, &(bombus_model_options){.device = "abacus"}, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "abacus"));
    assert_null(model);
    bombus_status status = bombus_model_open(&model, folder, &(bombus_model_options){.cpu_level = "slide rule"}, &error);
    assert_true(status == BOMBUS_ERROR_UNSUPPORTED || status == BOMBUS_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "slide rule"));
    assert_int_equal(bombus_model_open(&model, scratch_path("no model here"), NULL, &error), BOMBUS_ERROR_NOT_FOUND);
    assert_null(model);
}

/* A session outlives the model's handle; sessions made together go one by one. */
static void test_handles_in_any_order(void **state)
{
    (void)state;
    enum { COUNT = 3 };
    bombus_error error;
    const char *folder = golden_model("qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    for (int first = 0; first < COUNT; first++) {
        bombus_model *model = open_model(folder, &(bombus_model_options){.thread_count = 2});
        bombus_model_info info;
        bombus_model_get_info(model, &info);
        assert_string_equal(info.architecture, "qwen3");
        assert_non_null(strstr(info.device, "cpu"));
        assert_int_equal(info.vocab_size, 1024);
        assert_true(info.parameter_count > 0 && info.weight_bytes > info.bytes_per_token / 2 && info.bytes_per_token > 0);
        bombus_session *sessions[COUNT], *alone;
        CHECK_OK(bombus_sessions_create(sessions, COUNT, model, NULL, &error), error);
        CHECK_OK(bombus_session_create(&alone, model, NULL, &error), error);
        bombus_model_close(model);
        int32_t tokens[COUNT] = {5, 6, 7};
        CHECK_OK(bombus_sessions_step(sessions, tokens, COUNT, &error), error);
        CHECK_OK(bombus_session_step(alone, &tokens[first], 1, &error), error);
        assert_memory_equal(bombus_session_logits(sessions[first]), bombus_session_logits(alone), 1024 * sizeof(float));
        bombus_session_free(sessions[first]);
        bombus_session *rest[2] = {sessions[(first + 1) % COUNT], sessions[(first + 2) % COUNT]};
        CHECK_OK(bombus_sessions_step(rest, tokens, 2, &error), error);
        bombus_session_free(rest[1]);
        CHECK_OK(bombus_session_step(rest[0], tokens, 2, &error), error);
        assert_int_equal(bombus_session_length(rest[0]), 4);
        assert_non_null(bombus_session_logits(rest[0]));
        bombus_session_free(alone);
        bombus_session_free(rest[0]);
    }
}

/* The precision of a session: its own where it says so, else the model's. */
static void test_precisions(void **state)
{
    (void)state;
    bombus_error error;
    const char *folder = golden_model("qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    float logits[2][2][1024]; /* [model is exact][session is exact] */
    const int32_t tokens[] = {283, 363, 383};
    for (int by_model = 0; by_model < 2; by_model++) {
        bombus_model *model = open_model(folder, &(bombus_model_options){.precision = by_model ? BOMBUS_PRECISION_EXACT : BOMBUS_PRECISION_FAST});
        for (int by_session = 0; by_session < 2; by_session++) {
            bombus_session *session;
            bombus_session_options options = {.has_precision = by_session != by_model,
                                              .precision = by_session ? BOMBUS_PRECISION_EXACT : BOMBUS_PRECISION_FAST};
            CHECK_OK(bombus_session_create(&session, model, &options, &error), error);
            CHECK_OK(bombus_session_step(session, tokens, 3, &error), error);
            memcpy(logits[by_model][by_session], bombus_session_logits(session), sizeof logits[0][0]);
            bombus_session_free(session);
        }
        bombus_model_close(model);
    }
    assert_memory_equal(logits[0][0], logits[1][0], sizeof logits[0][0]);
    assert_memory_equal(logits[0][1], logits[1][1], sizeof logits[0][0]);
    assert_memory_not_equal(logits[0][0], logits[0][1], sizeof logits[0][0]);
    CHECK_NEAR(logits[0][0], logits[0][1], 1024, 0.5);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    const char *folder = golden_model("qwen3-2bit");
    SKIP_WITHOUT_GOLDEN(folder);
    size_t failures = 0, successes = 0;
    for (uint64_t calls = 1; successes < 10 && calls < 1000; calls++) { /* what can be done without may succeed earlier */
        bombus_model *model;
        bombus_session *session = NULL;
        bombus_error error;
        bb_memory_fail_at(calls, false);
        bombus_status status = bombus_model_open(&model, folder, &(bombus_model_options){.thread_count = 1}, &error);
        if (status == BOMBUS_OK)
            status = bombus_session_create(&session, model, NULL, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        assert_true((status == BOMBUS_OK) == (session != NULL));
        failures += status == BOMBUS_ERROR_MEMORY;
        successes += status == BOMBUS_OK;
        bombus_model_close(model);
        bombus_session_free(session);
    }
    assert_true(failures > 30);
    assert_int_equal(successes, 10);
}

static void test_bandwidth(void **state)
{
    (void)state;
    bombus_error error;
    double rate = 0.0;
    CHECK_OK(bombus_measure_bandwidth(&rate, 2, 8 << 20, 0.02, &error), error);
    assert_true(rate > 1e8 && rate < 1e14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_null_without_a_model), cmocka_unit_test(test_names), cmocka_unit_test(test_null_with_a_model),
        cmocka_unit_test(test_wrong_devices), cmocka_unit_test(test_handles_in_any_order), cmocka_unit_test(test_precisions),
        cmocka_unit_test(test_failing_allocations), cmocka_unit_test(test_bandwidth),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
