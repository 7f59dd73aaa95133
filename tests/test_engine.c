/* The engine: the tokens that a request gives alone, whatever runs beside it, whatever is shared and evicted. */
#include "engine_fixture.h"

/* Every request of a crowd gives, to the last bit of its log-probabilities, what it gives alone. */
static bombus_engine_stats check_crowd(const struct opened *opened, const bombus_engine_options *options, size_t count)
{
    struct log *logs = calloc(count, sizeof *logs), *alone = calloc(count, sizeof *alone);
    struct plan plan;
    struct crowd crowd;
    bombus_error error;
    for (size_t i = 0; i < count; i++) {
        make_plan(&plan, opened, i);
        run_alone_in(&alone[i], opened, &plan,
                     &(bombus_session_options){.context_size = 300,
                                               .kv_bits = options->kv_bits,
                                               .kv_group_size = options->kv_group_size,
                                               .prefill_step_size = options->kv_bits != 0 ? 64 : 0});
    }
    bombus_engine *engine = new_engine(&crowd, opened, options);
    for (size_t i = 0; i < count; i++) {
        make_plan(&plan, opened, i);
        CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
        memset(&plan, 255, sizeof plan); /* the engine has copied it */
    }
    crowd_wait(&crowd, count);
    for (size_t i = 0; i < count; i++)
        check_same(&logs[i], &alone[i]);
    bombus_engine_stats stats = check_idle(engine, count);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    free(logs);
    free(alone);
    return stats;
}

/* 64 at once, over models, batches, chunks, caches and thread counts; with and without shared prefixes. */
static void test_same_tokens(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3-yarn-mixed", "llama-sliding", "gpt_oss", "qwen3_moe-sparse", "gemma2"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        for (int32_t threads = 1; threads <= 2; threads++) {
            struct opened opened;
            OPEN_OR_SKIP(opened, models[m], threads);
            bombus_engine_options options = {.max_batch = 64, .context_size = 300};
            bombus_engine_stats stats = check_crowd(&opened, &options, threads == 2 ? 64 : 20);
            assert_true(stats.reused_tokens > 0);
            options = (bombus_engine_options){.max_batch = 5, .context_size = 300, .prefill_step_size = 64};
            stats = check_crowd(&opened, &options, 24);
            assert_true(stats.reused_tokens > 0);
            options.no_prefix_sharing = true;
            stats = check_crowd(&opened, &options, 12);
            assert_int_equal(stats.reused_tokens, 0);
            assert_int_equal(stats.kv_bytes, 0);
            close_model(&opened);
        }
    }
}

/* The default model has shapes of a real one: products of all sizes of blocks. */
static void test_default_model(void **state)
{
    (void)state;
    struct opened opened;
    assert_true(open_model(&opened, "models/bombus-stories-28m-4bit", 2));
    check_crowd(&opened, &(bombus_engine_options){.max_batch = 24, .context_size = 300}, 24);
    close_model(&opened);
}

static void test_quantized_cache(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3-yarn-mixed", "gpt_oss"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        OPEN_OR_SKIP(opened, models[m], 2);
        for (int32_t bits = 4; bits <= 8; bits += 4) {
            bombus_engine_options options = {.max_batch = 16, .context_size = 300, .kv_bits = bits};
            assert_true(check_crowd(&opened, &options, 40).reused_tokens > 0);
            options.prefill_step_size = 100;
            options.max_batch = 3;
            check_crowd(&opened, &options, 20);
        }
        close_model(&opened);
    }
    struct opened opened;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2); /* heads of 64 */
    bombus_engine_options options = {.max_batch = 16, .context_size = 300, .kv_bits = 4, .kv_group_size = 32};
    assert_true(check_crowd(&opened, &options, 20).reused_tokens > 0);
    close_model(&opened);
}

static void test_exact(void **state)
{
    (void)state;
    struct opened opened;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 2);
    const char *folder = golden_model("qwen3-yarn-mixed");
    bombus_error error;
    bombus_model_close(opened.model);
    CHECK_OK(bombus_model_open(&opened.model, folder,
                               &(bombus_model_options){.precision = BOMBUS_PRECISION_EXACT, .thread_count = 2}, &error),
             error);
    check_crowd(&opened, &(bombus_engine_options){.max_batch = 20, .context_size = 300}, 20);
    close_model(&opened);
}

/* Little memory: requests wait, prefixes are evicted, and the tokens stay the same. */
static void test_pressure(void **state)
{
    (void)state;
    static const char *const models[] = {"qwen3-yarn-mixed", "llama-sliding"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        OPEN_OR_SKIP(opened, models[m], 2);
        bombus_engine_options options = {.max_batch = 16, .context_size = 300, .kv_bytes = 7 * page_bytes(&opened)};
        bombus_engine_stats stats = check_crowd(&opened, &options, 48);
        assert_true(stats.evicted_bytes > 0);
        assert_true(stats.reused_tokens > 0);
        assert_int_equal(stats.kv_limit_bytes, options.kv_bytes);
        close_model(&opened);
    }
}

/* Text, stop strings and end-of-turn ids come with a tokenizer. */
static void test_text(void **state)
{
    (void)state;
    static const char *const stop[] = {"e"};
    struct opened opened;
    struct log logs[8], alone[8];
    struct plan plan;
    struct crowd crowd;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300});
    for (size_t i = 0; i < BB_COUNT(logs); i++) {
        make_plan(&plan, &opened, i);
        plan.options.stop = stop;
        plan.options.stop_count = i % 2;
        run_alone(&alone[i], &opened, &plan);
        CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
    }
    crowd_wait(&crowd, BB_COUNT(logs));
    bool stopped = false;
    for (size_t i = 0; i < BB_COUNT(logs); i++) {
        check_same(&logs[i], &alone[i]);
        stopped = stopped || logs[i].finish_reason == BOMBUS_FINISH_STOP;
    }
    assert_true(stopped);
    check_idle(engine, BB_COUNT(logs));
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* The second of two equal prompts takes the first one's pages, also those of the generated tokens; equal prompts at once are computed once. */
static void test_prefixes(void **state)
{
    (void)state;
    struct opened opened;
    struct log first, second, third, many[6];
    struct plan plan;
    struct crowd crowd;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    bombus_engine *engine =
        new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 400, .prefill_step_size = 128});
    make_plan(&plan, &opened, 0);
    plan.options.max_tokens = 80;
    plan.prompt_count = 100;
    for (size_t i = 0; i < 256; i++)
        plan.prompt[i] = opened.prompt.ids[i % opened.prompt.count];
    CHECK_OK(submit(engine, &first, &crowd, &plan, &error), error);
    crowd_wait(&crowd, 1);
    assert_int_equal(first.reused_count, 0);
    CHECK_OK(submit(engine, &second, &crowd, &plan, &error), error);
    crowd_wait(&crowd, 2);
    assert_int_equal(second.reused_count, 64);
    check_same(&second, &first);
    memcpy(plan.prompt + 100, first.ids, 80 * sizeof *first.ids);
    plan.prompt_count = 180;
    CHECK_OK(submit(engine, &third, &crowd, &plan, &error), error);
    crowd_wait(&crowd, 3);
    assert_int_equal(third.reused_count, 128);
    bombus_engine_stats before = check_idle(engine, 3), after;
    plan.prompt[0]++;
    plan.prompt_count = 193;
    for (size_t i = 0; i < BB_COUNT(many); i++)
        CHECK_OK(submit(engine, &many[i], &crowd, &plan, &error), error);
    crowd_wait(&crowd, 3 + BB_COUNT(many));
    after = check_idle(engine, 3 + BB_COUNT(many));
    for (size_t i = 1; i < BB_COUNT(many); i++)
        check_same(&many[i], &many[0]);
    assert_int_equal(after.prompt_tokens - before.prompt_tokens, 192 + BB_COUNT(many));
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

/* Adapters of the reference data, one request this, another that, some a sum of two, some none; closed while requests use them. */
static void test_adapters(void **state)
{
    (void)state;
    enum { COUNT = 48, ADAPTERS = 4 };
    static const char *const names[ADAPTERS] = {"lora-default-r8", "lora-embed-r4", "dora-r4", "lora-qv-r4-last2"};
    static struct log logs[COUNT], alone[COUNT];
    struct opened opened;
    bombus_adapter *adapters[ADAPTERS];
    struct plan plan;
    struct crowd crowd;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2);
    open_adapters(adapters, names, ADAPTERS, &opened);
    bombus_engine *engine = new_engine(&crowd, &opened, &(bombus_engine_options){.context_size = 300, .max_batch = 12});
    for (int turn = 0; turn < 2;
         turn++) /* alone; then together, closing the adapters before all that use them have begun */
        for (size_t i = 0; i < COUNT; i++) {
            make_plan(&plan, &opened, i);
            plan.options.max_tokens = 20;
            plan_adapters(&plan, adapters, ADAPTERS, i, i % 2 == 0 ? 1.0f : 0.4f);
            if (turn == 0)
                run_alone(&alone[i], &opened, &plan);
            else
                CHECK_OK(submit(engine, &logs[i], &crowd, &plan, &error), error);
        }
    plan.adapters[0] = NULL;
    plan.adapter_count = 1;
    struct log refused;
    assert_int_equal(submit(engine, &refused, &crowd, &plan, &error), BOMBUS_ERROR_ARGUMENT);
    for (size_t i = 0; i < ADAPTERS; i++)
        bombus_adapter_close(adapters[i]);
    crowd_wait(&crowd, COUNT);
    for (size_t i = 0; i < COUNT; i++)
        check_same(&logs[i], &alone[i]);
    make_plan(&plan, &opened, 1); /* had an adapter above */
    plan.options.max_tokens = 20;
    run_alone(&logs[1], &opened, &plan);
    assert_memory_not_equal(logs[1].logprobs, alone[1].logprobs, sizeof alone[1].logprobs);
    assert_true(check_idle(engine, COUNT).reused_tokens > 0);
    bombus_engine_free(engine);
    crowd_clear(&crowd);
    close_model(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_tokens),     cmocka_unit_test(test_default_model),
        cmocka_unit_test(test_quantized_cache), cmocka_unit_test(test_exact),
        cmocka_unit_test(test_pressure),        cmocka_unit_test(test_text),
        cmocka_unit_test(test_prefixes),        cmocka_unit_test(test_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
