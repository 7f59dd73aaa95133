/* Adapters: both formats against saved logits, sums, batches in which each row has its own, changes between steps, threads, hostile files. */
#include "adapter_fixture.h"
#include "base/memory.h"
#include "files/module_pattern.h"
#include "generate/prompt_cache.h"
#include "quant/quant_modes.h"

#include <pthread.h>

/* ---- against saved logits ---- */

static struct parity_difference compare_golden(struct bb_session *session, const char *reference)
{
    char json[128], tensors[128];
    snprintf(json, sizeof json, "lora/adapters/%s.reference.json", reference);
    snprintf(tensors, sizeof tensors, "lora/adapters/%s.reference.safetensors", reference);
    return compare(session, golden_path(json), golden_path(tensors));
}

static void test_reference(void **state)
{
    (void)state;
    static const struct {
        const char *model, *adapter, *reference;
    } cases[] = {
        {"qwen3-4bit", "lora-default-r8", "lora-default-r8"},
        {"qwen3-4bit", "lora-qv-r4-last2", "lora-qv-r4-last2"},
        {"qwen3-4bit", "lora-bf16-r16-mlp", "lora-bf16-r16-mlp"},
        {"qwen3-4bit", "lora-embed-r4", "lora-embed-r4"},
        {"qwen3-4bit", "dora-r4", "dora-r4"},
        {"qwen3_moe-4bit", "lora-moe-r4", "lora-moe-r4"},
        {"qwen3-4bit", "peft-lora-default-r8", "lora-default-r8"},
        {"qwen3-4bit", "peft-lora-qv-r4-last2", "lora-qv-r4-last2"},
        {"qwen3-4bit", "peft-dora-r4", "dora-r4"},
        {"qwen3-4bit", "peft-rslora-qv-r4-last2", "lora-qv-r4-last2"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        struct opened opened;
        OPEN_OR_SKIP(opened, cases[i].model, 2);
        struct bb_adapter *adapter = open_golden(&opened, cases[i].adapter);
        for (int is_exact = 0; is_exact < 2; is_exact++) {
            struct bb_session *session = create(&opened, is_exact);
            set(session, adapter, 1.0f);
            struct parity_difference difference = compare_golden(session, cases[i].reference);
            /* As tests/test_parity.c; what fast rounds may choose another expert. */
            if (is_exact ? !(difference.max_abs <= 1e-3)
                         : opened.model->recipe.num_experts == 0 &&
                               !(parity_kl_mean(&difference) <= 1e-3 && difference.kl_max <= 2e-2))
                fail_msg("%s, %s: logits differ by %g, KL %g (worst %g)", cases[i].adapter, is_exact ? "exact" : "fast",
                         difference.max_abs, parity_kl_mean(&difference), difference.kl_max);
            bb_session_free(session);
        }
        bb_adapter_close(adapter);
        close_model(&opened);
    }
}

/* What `bombus train` wrote, against the logits that mlx-lm gave with it (tools/make_trained_adapters.py; PEFT, with
 * the adapter converted, gave the same to 3e-5: pairs of experts and of a tied embedding too). */
static void test_trained(void **state)
{
    (void)state;
    static const char *const names[] = {"trained-lora", "trained-dora", "trained-experts"};
    static const char *const models[] = {"qwen3-yarn-mixed", "qwen3-yarn-mixed", "qwen3_moe-sparse"};
    for (size_t i = 0; i < BB_COUNT(names); i++) {
        struct opened opened;
        struct bb_safetensors reference;
        bombus_error error;
        char path[128];
        double logprobs[64];
        snprintf(path, sizeof path, "tests/fixtures/adapters/%s", names[i]);
        assert_true(open_model(&opened, models[i], 1));
        struct bb_adapter *adapter = open_adapter(&opened, path);
        snprintf(path, sizeof path, "tests/fixtures/adapters/%s/reference.safetensors", names[i]);
        CHECK_OK(bb_safetensors_open(&reference, path, &error), error);
        const struct bb_safetensors_entry *ids = bb_safetensors_find(&reference, "ids"), *positions = bb_safetensors_find(&reference, "positions"),
                                          *logits = bb_safetensors_find(&reference, "logits");
        assert_true(ids != NULL && positions != NULL && logits != NULL && ids->size <= 64 * sizeof(int32_t));
        int32_t tokens[64], places[64];
        float *expected = memcpy(malloc(logits->size), logits->data, logits->size);
        const size_t count = ids->size / sizeof *tokens, place_count = positions->size / sizeof *places;
        memcpy(tokens, ids->data, ids->size);
        memcpy(places, positions->data, positions->size);
        json_t *rows = json_array();
        for (size_t place = 0; place < place_count; place++)
            json_array_append_new(rows, json_integer(places[place]));
        double worst[2]; /* with the adapter, and without */
        for (int turn = 0; turn < 2; turn++) {
            struct bb_session *session = create(&opened, true);
            struct comparison comparison = {.expected = expected, .positions = rows};
            set(session, turn == 0 ? adapter : NULL, 1.0f);
            CHECK_OK(bb_session_score(session, tokens, count, logprobs, compare_rows, &comparison, &error), error);
            assert_int_equal(comparison.next, place_count);
            worst[turn] = comparison.difference.max_abs;
            bb_session_free(session);
        }
        print_message("  %s: within %.1e of mlx-lm, %.1f without it\n", names[i], worst[0], worst[1]);
        assert_true(worst[0] <= 1e-4 && worst[1] > 1.0);
        json_decref(rows);
        free(expected);
        bb_safetensors_close(&reference);
        bb_adapter_close(adapter);
        close_model(&opened);
    }
}

/* ---- made for a model: every family, every projection ---- */

/* Puts W + sum of weights * what the pairs add in the place of each weight, in f32. The memory is freed by the caller. */
static void merge_into(struct bb_model *model, struct bb_adapter *const *adapters, const float *weights, size_t count,
                       void **memory)
{
    for (int32_t slot = 0; slot < model->slot_count; slot++) {
        struct bb_linear *linear = (struct bb_linear *)(uintptr_t)model->slots[slot];
        if (linear == NULL)
            continue;
        int64_t rows = linear->weight.rows, cols = linear->weight.cols;
        float *dense = malloc((size_t)(rows * cols) * sizeof *dense), *row = malloc((size_t)cols * sizeof *row);
        for (int64_t i = 0; i < rows; i++) {
            float *out = dense + i * cols;
            bb_quant_unpack_row(&linear->weight, i, row);
            memcpy(out, row, (size_t)cols * sizeof *row);
            for (size_t k = 0; k < count; k++) {
                const struct bb_low_rank *pair = &adapters[k]->pairs[slot];
                float gain = pair->rank > 0 && pair->gains != NULL ? pair->gains[i] : 1.0f;
                for (int64_t j = 0; j < cols; j++) {
                    float sum = 0.0f;
                    for (int32_t r = 0; r < pair->rank; r++)
                        sum += bb_packed_load(&pair->packed_b, bb_packed_place(&pair->packed_b, pair->rank, r, i)) *
                               bb_packed_load(&pair->packed_a, bb_packed_place(&pair->packed_a, pair->rank, r, j));
                    out[j] += weights[k] * (gain * (row[j] + pair->scale * sum) - row[j]);
                }
            }
        }
        free(row);
        memory[slot] = dense;
        linear->weight = (struct bb_weight){.data = dense, .dtype = BB_F32, .rows = rows, .cols = cols};
        if (slot == model->embedding_slot)
            model->embedding = linear->weight;
    }
}

static void check_merged(const char *name, bool is_dora)
{
    enum { ROWS = 30 };
    struct opened opened, merged;
    struct golden_ids prompt;
    bombus_error error;
    const float weights[] = {0.7f, -0.4f};
    struct bb_adapter *adapters[2];
    if (!open_model(&opened, name, 2) || !open_model(&merged, name, 2))
        fail_msg("%s is not there", name);
    assert_true(golden_ids(&prompt, name, "long"));
    for (size_t i = 0; i < prompt.count; i++)
        prompt.ids[i] %= opened.model->recipe.vocab_size;
    make_adapter(opened.model, "first", false);
    make_adapter(opened.model, "second", is_dora);
    adapters[0] = open_adapter(&opened, scratch_path("first"));
    adapters[1] = open_adapter(&opened, scratch_path("second"));
    struct bb_session *session = create(&opened, true);
    float *plain = all_logits(session, &prompt, ROWS);
    CHECK_OK(bb_session_set_adapters(session, adapters, weights, 2, &error), error);
    float *actual = all_logits(session, &prompt, ROWS);
    void **memory = calloc((size_t)merged.model->slot_count, sizeof *memory);
    merge_into(merged.model, adapters, weights, 2, memory);
    struct bb_session *dense = create(&merged, true);
    float *expected = all_logits(dense, &prompt, ROWS);
    size_t entries = ROWS * (size_t)opened.model->recipe.vocab_size;
    double change = worst_difference(expected, plain, entries);
    if (!(change > 0.05))
        fail_msg("%s: the adapters change nothing (%g)", name, change);
    check_near(actual, expected, entries, 2e-3, name, __FILE__, __LINE__);
    bb_session_free(session);
    bb_session_free(dense);
    for (int32_t i = 0; i < merged.model->slot_count; i++)
        free(memory[i]);
    free(memory);
    free(plain);
    free(actual);
    free(expected);
    bb_adapter_close(adapters[0]);
    bb_adapter_close(adapters[1]);
    close_model(&opened);
    close_model(&merged);
}

/* A model with the weights W + B A computes the same: all families, fused projections, experts, tied and untied embeddings, DoRA, sums. */
static void test_merged(void **state)
{
    (void)state;
    static const char *const models[] = {"llama-linear", "gemma2",           "granite",          "olmo2",  "smollm3",
                                         "mixtral",      "mixtral-hf-names", "qwen3_moe-sparse", "gpt_oss"};
    for (size_t i = 0; i < BB_COUNT(models); i++) {
        check_merged(models[i], false);
        check_merged(models[i], true);
    }
    SKIP_WITHOUT_GOLDEN(golden_model("phi3-4bit"));
    check_merged("phi3-4bit", true);
    check_merged("qwen3-untied-sharded-4bit", true);
}

/* ---- sessions ---- */

static void check_batch(const char *name, bool is_exact)
{
    enum { COUNT = 5, STEPS = 4 };
    static const float weights[COUNT][2] = {{0.0f, 0.0f}, {1.0f, 0.0f}, {0.0f, 0.5f}, {-0.3f, 0.8f}, {1.0f, 0.0f}};
    struct opened opened;
    struct bb_session *together[COUNT], *alone;
    struct bb_adapter *adapters[2];
    struct golden_ids prompt;
    bombus_error error;
    bombus_session_options options = {.context_size = 64};
    if (!open_model(&opened, name, 2))
        fail_msg("%s is not there", name);
    assert_true(golden_ids(&prompt, name, "long"));
    make_adapter(opened.model, "first", false);
    make_adapter(opened.model, "second", true);
    adapters[0] = open_adapter(&opened, scratch_path("first"));
    adapters[1] = open_adapter(&opened, scratch_path("second"));
    CHECK_OK(bb_sessions_create(together, COUNT, opened.model, opened.backend, &options, is_exact, &error), error);
    CHECK_OK(bb_sessions_create(&alone, 1, opened.model, opened.backend, &options, is_exact, &error), error);
    size_t bytes = (size_t)opened.model->recipe.vocab_size * sizeof(float);
    float *logits[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        CHECK_OK(bb_session_set_adapters(together[i], adapters, weights[i], 2, &error), error);
    for (size_t step = 0; step < STEPS; step++) {
        int32_t tokens[COUNT];
        for (size_t i = 0; i < COUNT; i++)
            tokens[i] = (prompt.ids[step] + (int32_t)i) % opened.model->recipe.vocab_size;
        CHECK_OK(bb_sessions_step(together, tokens, COUNT, &error), error);
    }
    for (size_t i = 0; i < COUNT; i++)
        logits[i] = memcpy(malloc(bytes), bb_session_logits(together[i]), bytes);
    for (size_t i = 0; i < COUNT; i++) {
        CHECK_OK(bb_session_set_adapters(alone, adapters, weights[i], 2, &error), error);
        CHECK_OK(bb_session_truncate(alone, 0, &error), error);
        int32_t tokens[STEPS];
        for (size_t step = 0; step < STEPS; step++)
            tokens[step] = (prompt.ids[step] + (int32_t)i) % opened.model->recipe.vocab_size;
        CHECK_OK(bb_session_step(alone, tokens, STEPS, &error), error);
        if (memcmp(bb_session_logits(alone), logits[i], bytes) != 0)
            fail_msg("%s: row %zu of the batch differs from the same sequence alone", name, i);
        free(logits[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        bb_session_free(together[i]);
    bb_session_free(alone);
    bb_adapter_close(adapters[0]);
    bb_adapter_close(adapters[1]);
    close_model(&opened);
}

/* Bit for bit: rows of one batch with different adapters, sums and weights, or none. */
static void test_batch(void **state)
{
    (void)state;
    static const char *const models[] = {"llama-linear", "gemma2", "granite", "mixtral", "qwen3_moe-sparse"};
    for (size_t i = 0; i < BB_COUNT(models); i++)
        for (int is_exact = 0; is_exact < 2; is_exact++)
            check_batch(models[i], is_exact);
}

static void check_prepare(struct bb_session *session, const int32_t *ids, size_t count, size_t expected)
{
    bombus_error error;
    size_t reused;
    CHECK_OK(bb_session_prepare(session, ids, count, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, expected);
}

static void test_prefix(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    static const int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10};
    OPEN_OR_SKIP(opened, "llama-linear", 1);
    make_adapter(opened.model, "first", false);
    struct bb_adapter *adapter = open_adapter(&opened, scratch_path("first"));
    struct bb_session *session = create(&opened, false), *other = create(&opened, false);
    check_prepare(session, ids, 8, 0);
    check_prepare(session, ids, 9, 8);
    set(session, adapter, 1.0f);
    check_prepare(session, ids, 10, 0);
    set(session, adapter, 1.0f); /* the same sum again */
    check_prepare(session, ids, 10, 10);
    set(session, adapter, 0.5f);
    check_prepare(session, ids, 10, 0);
    set(session, adapter, 1.0f);
    CHECK_OK(bb_session_truncate(session, 5, &error), error);
    CHECK_OK(bb_session_step(session, ids, 1, &error), error); /* half of one, half of the other */
    set(session, adapter, 0.5f);
    check_prepare(session, ids, 10, 0);
    set(session, NULL, 0.0f);
    set(session, adapter, 0.0f); /* nothing in two ways */
    check_prepare(session, ids, 10, 0);
    check_prepare(session, ids, 10, 10);

    /* Files: read by a session with the same adapters alone. */
    const char *path = scratch_path("session");
    set(session, adapter, 1.0f);
    check_prepare(session, ids, 10, 0);
    CHECK_OK(bb_prompt_cache_save(session, path, &error), error);
    assert_int_equal(bb_prompt_cache_load(other, path, &error), BOMBUS_ERROR_MISMATCH);
    assert_non_null(strstr(error.message, "adapters"));
    set(other, adapter, 1.0f);
    CHECK_OK(bb_prompt_cache_load(other, path, &error), error);
    check_prepare(other, ids, 10, 10);
    assert_memory_equal(bb_session_logits(other), bb_session_logits(session),
                        (size_t)opened.model->recipe.vocab_size * sizeof(float));
    bb_session_free(session);
    bb_session_free(other);
    bb_adapter_close(adapter);
    close_model(&opened);
}

static void test_allocations(void **state)
{
    (void)state;
    static const char *const models[] = {"llama-linear", "mixtral"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        bombus_error error;
        OPEN_OR_SKIP(opened, models[m], 2);
        make_adapter(opened.model, "first", true);
        struct bb_adapter *adapter = open_adapter(&opened, scratch_path("first"));
        struct bb_session *session = create(&opened, false);
        set(session, adapter, 1.0f);
        int32_t token = 3;
        for (int i = 0; i < 3; i++)
            CHECK_OK(bb_session_step(session, &token, 1, &error), error);
        uint64_t before = bb_memory_count();
        for (int i = 0; i < 100; i++)
            CHECK_OK(bb_session_step(session, &token, 1, &error), error);
        assert_int_equal(bb_memory_count(), before);
        bb_session_free(session);
        bb_adapter_close(adapter);
        close_model(&opened);
    }
}

struct generating {
    const struct opened *opened;
    struct bb_adapter *adapter;
    float *logits; /* after the first round; each round must give the same */
    bool has_differed;
};

static void *generate_on(void *context)
{
    struct generating *generating = context;
    size_t bytes = (size_t)generating->opened->model->recipe.vocab_size * sizeof(float);
    struct bb_session *session = create(generating->opened, false);
    set(session, generating->adapter, 1.0f);
    bb_adapter_close(generating->adapter); /* the session's hold is the last one now */
    for (int round = 0; round < 20; round++) {
        static const int32_t tokens[] = {5, 6, 7};
        bombus_error error;
        if (bb_session_truncate(session, 0, &error) != BOMBUS_OK ||
            bb_session_step(session, tokens, 3, &error) != BOMBUS_OK)
            generating->has_differed = true;
        else if (round == 0)
            generating->logits = memcpy(malloc(bytes), bb_session_logits(session), bytes);
        else if (memcmp(generating->logits, bb_session_logits(session), bytes) != 0)
            generating->has_differed = true;
    }
    bb_session_free(session);
    return NULL;
}

/* Adapters come and go while other threads generate with theirs. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 2 };
    struct opened opened;
    pthread_t threads[THREADS];
    struct generating generating[THREADS];
    OPEN_OR_SKIP(opened, "llama-linear", 2);
    make_adapter(opened.model, "first", false);
    for (size_t i = 0; i < THREADS; i++) {
        generating[i] = (struct generating){.opened = &opened, .adapter = open_adapter(&opened, scratch_path("first"))};
        assert_int_equal(pthread_create(&threads[i], NULL, generate_on, &generating[i]), 0);
    }
    struct bb_session *session = create(&opened, false);
    for (int i = 0; i < 30; i++) {
        bombus_error error;
        int32_t token = 9;
        struct bb_adapter *adapter = open_adapter(&opened, scratch_path("first"));
        set(session, adapter, (float)(i % 3));
        bb_adapter_close(adapter);
        CHECK_OK(bb_session_step(session, &token, 1, &error), error);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(generating[i].has_differed);
        assert_memory_equal(generating[i].logits, generating[0].logits,
                            (size_t)opened.model->recipe.vocab_size * sizeof(float));
    }
    for (size_t i = 0; i < THREADS; i++)
        free(generating[i].logits);
    bb_session_free(session);
    close_model(&opened);
}

/* ---- what is refused ---- */

/* Opening adapter_config.json and a tensors' file with this header must fail with this status and these words. */
static void check_refused(const struct opened *opened, const char *file, const char *config, const char *header,
                          size_t size, bombus_status expected, const char *words)
{
    struct bb_adapter *adapter;
    bombus_error error;
    char name[64];
    scratch_remove(scratch_path("refused"));
    scratch_text("refused/adapter_config.json", config);
    snprintf(name, sizeof name, "refused/%s", file);
    scratch_safetensors(name, header, size);
    bombus_status status = bb_adapter_open(&adapter, opened->model, scratch_path("refused"), NULL, &error);
    if (status != expected || strstr(error.message, words) == NULL)
        fail_msg("%s, expected %s: '%s' has no '%s'", bombus_status_name(status), bombus_status_name(expected),
                 error.message, words);
    assert_null(adapter);
}

#define MLX_CONFIG             "{\"fine_tune_type\": \"lora\", \"lora_parameters\": {\"rank\": 2, \"scale\": 1.0}}"
#define F32(shape, begin, end) "{\"dtype\":\"F32\",\"shape\":[" shape "],\"data_offsets\":[" #begin "," #end "]}"

/* An adapter whose last value is `bits`. */
static void check_value(const struct opened *opened, uint32_t bits, bombus_status expected)
{
    char *data;
    size_t size;
    struct bb_adapter *adapter;
    bombus_error error;
    make_adapter(opened->model, "spoilt", false);
    CHECK_OK(bb_file_read(&data, &size, scratch_path("spoilt/adapters.safetensors"), (size_t)1 << 30, &error), error);
    memcpy(data + size - sizeof bits, &bits, sizeof bits);
    scratch_write("spoilt/adapters.safetensors", data, size);
    bb_release(data);
    assert_int_equal(bb_adapter_open(&adapter, opened->model, scratch_path("spoilt"), NULL, &error), expected);
    if (expected != BOMBUS_OK)
        assert_non_null(strstr(error.message, "infinite values or NaN"));
    bb_adapter_close(adapter);
}

static void test_refused(void **state)
{
    (void)state;
    struct opened opened;
    OPEN_OR_SKIP(opened, "llama-linear", 1);
    const char *mlx = "adapters.safetensors", *peft = "adapter_model.safetensors";
    const char *half = "{\"model.layers.0.self_attn.q_proj.lora_a\":" F32("4,2", 0, 32) "}";
    const char *stranger = "{\"model.layers.0.self_attn.q_proj.weight\":" F32("4,2", 0, 32) "}";
    const char *pair = "{\"x.lora_a\":" F32("4,2", 0, 32) ",\"x.lora_b\":" F32("2,4", 32, 64) "}";
    const char *other = "{\"model.layers.0.self_attn.q_proj.lora_a\":" F32(
        "4,2", 0, 32) ",\"model.layers.0.self_attn.q_proj.lora_b\":" F32("2,4", 32, 64) "}";
    const char *ranks = "{\"x.lora_a\":" F32("4,3", 0, 48) ",\"x.lora_b\":" F32("3,4", 48, 96) "}";
    const char *integers = "{\"x.lora_a\":{\"dtype\":\"I32\",\"shape\":[4,2],\"data_offsets\":[0,32]}}";
    check_refused(&opened, mlx, MLX_CONFIG, half, 32, BOMBUS_ERROR_FORMAT, "has no lora_b");
    check_refused(&opened, mlx, MLX_CONFIG, stranger, 32, BOMBUS_ERROR_FORMAT, "q_proj.weight");
    check_refused(&opened, mlx, MLX_CONFIG, pair, 64, BOMBUS_ERROR_MISMATCH, "'x'");
    check_refused(&opened, mlx, MLX_CONFIG, other, 64, BOMBUS_ERROR_MISMATCH, "[4, 4], expected [");
    check_refused(&opened, mlx, MLX_CONFIG, ranks, 96, BOMBUS_ERROR_FORMAT, "[4, 3], expected a matrix of rank 2");
    check_refused(&opened, mlx, MLX_CONFIG, integers, 32, BOMBUS_ERROR_FORMAT, "I32");
    check_refused(&opened, mlx, MLX_CONFIG, "{}", 0, BOMBUS_ERROR_FORMAT, "no tensor");
    check_refused(&opened, mlx, "{\"lora_parameters\": {\"scale\": 1.0}}", pair, 64, BOMBUS_ERROR_FORMAT, "rank");
    check_refused(&opened, mlx, "{\"lora_parameters\": {\"rank\": 2}}", pair, 64, BOMBUS_ERROR_FORMAT, "scale");
    check_refused(&opened, mlx, "{\"fine_tune_type\": \"full\"}", pair, 64, BOMBUS_ERROR_UNSUPPORTED, "fine_tune_type");
    check_refused(&opened, mlx, "{\"fine_tune_type\": \"dora\", \"lora_parameters\": {\"rank\": 2, \"scale\": 1}}",
                  pair, 64, BOMBUS_ERROR_FORMAT, "magnitude");
    check_refused(&opened, peft, "{\"r\": 2, \"bias\": \"all\"}", pair, 64, BOMBUS_ERROR_UNSUPPORTED,
                  "bias is \"all\"");
    check_refused(&opened, peft, "{\"r\": 2, \"alora_invocation_tokens\": [1, 2]}", pair, 64, BOMBUS_ERROR_UNSUPPORTED,
                  "alora_invocation_tokens");
    check_refused(&opened, peft, "{\"r\": 2, \"init_lora_weights\": \"lora_ga\"}", pair, 64, BOMBUS_ERROR_UNSUPPORTED,
                  "init_lora_weights");
    check_refused(&opened, peft, "{\"r\": 2, \"modules_to_save\": [\"lm_head\"]}", pair, 64, BOMBUS_ERROR_UNSUPPORTED,
                  "modules_to_save");
    check_refused(&opened, peft, "{\"r\": 2, \"peft_type\": \"IA3\"}", pair, 64, BOMBUS_ERROR_UNSUPPORTED, "IA3");
    check_refused(&opened, peft, "{\"r\": 2, \"init_lora_weights\": \"pissa_niter_4\"}", pair, 64,
                  BOMBUS_ERROR_UNSUPPORTED, "init_lora_weights");
    check_refused(&opened, peft, "{\"r\": 2, \"rank_pattern\": {\"(?<=a)b\": 4}}",
                  "{\"base_model.model.x.lora_A.weight\":" F32(
                      "2,4", 0, 32) ",\"base_model.model.x.lora_B.weight\":" F32("4,2", 32, 64) "}",
                  64, BOMBUS_ERROR_UNSUPPORTED, "rank_pattern");
    check_refused(&opened, peft, "{\"r\": 2}", pair, 64, BOMBUS_ERROR_FORMAT, "of PEFT");
    check_refused(&opened, mlx, "{\"lora_parameters\": {\"rank\": 2, \"scale\": 1e300}}", pair, 64, BOMBUS_ERROR_FORMAT,
                  "too large");
    check_value(&opened, 0x7F7FFFFF, BOMBUS_OK); /* the largest number, */
    check_value(&opened, 0x7F800000, BOMBUS_ERROR_FORMAT); /* infinite, */
    check_value(&opened, 0xFFC00001, BOMBUS_ERROR_FORMAT); /* and NaN */
    struct bb_adapter *adapter;
    bombus_error error;
    assert_int_equal(bb_adapter_open(&adapter, opened.model, scratch_path("nowhere"), NULL, &error),
                     BOMBUS_ERROR_NOT_FOUND);
    close_model(&opened);
}

static void test_memory(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    OPEN_OR_SKIP(opened, "mixtral", 1);
    make_adapter(opened.model, "first", true);
    const char *folder = scratch_path("first");
    bool is_done = false;
    for (uint64_t at = 1; !is_done; at++) {
        struct bb_adapter *adapter;
        bb_memory_fail_at(at, false);
        bombus_status status = bb_adapter_open(&adapter, opened.model, folder, NULL, &error);
        bb_memory_fail_at(0, false);
        is_done = status == BOMBUS_OK;
        assert_true(is_done || status == BOMBUS_ERROR_MEMORY);
        assert_true(is_done == (adapter != NULL));
        bb_adapter_close(adapter);
    }
    close_model(&opened);
}

static void test_patterns(void **state)
{
    (void)state;
    static const struct {
        const char *pattern, *name;
        bool is_match;
    } cases[] = {
        {"q_proj", "model.layers.0.self_attn.q_proj", true},
        {"q_proj", "model.layers.0.self_attn.xq_proj", false},
        {"q", "model.q_proj", false},
        {"self_attn.q_proj", "model.layers.0.self_attn.q_proj", true},
        {"model.layers.1.q_proj", "model.layers.11.q_proj", false},
        {"^model\\.layers\\.1\\.q_proj", "model.layers.1.q_proj", true},
        {"^layers.1.q_proj", "model.layers.1.q_proj", false},
        {"layers\\.(1|2|10)\\.mlp\\.(gate|up)_proj", "model.layers.10.mlp.up_proj", true},
        {"layers\\.(1|2|10)\\.mlp\\.(gate|up)_proj", "model.layers.3.mlp.up_proj", false},
        {".*\\.[0-4]\\.self_attn.*", "model.layers.3.self_attn.q_proj", true},
        {".*\\.[0-4]\\.self_attn.*", "model.layers.5.self_attn.q_proj", false},
        {"layers.\\d+.mlp.down_proj$", "model.layers.27.mlp.down_proj", true},
        {"(?:q|k)_proj", "a.k_proj", true},
        {"[^qk]_proj", "a.k_proj", false},
        {"q|k_proj", "a.q", true},
    };
    bombus_error error;
    bool is_match;
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        CHECK_OK(bb_module_pattern_match(cases[i].pattern, cases[i].name, &is_match, &error), error);
        if (is_match != cases[i].is_match)
            fail_msg("'%s' on '%s'", cases[i].pattern, cases[i].name);
    }
    static const char *const refused[] = {"a{2}", "(a|b", "[a", "(a+)+", "\\bq", "a\\", "*a", "(?=q)q"};
    for (size_t i = 0; i < BB_COUNT(refused); i++)
        assert_int_equal(bb_module_pattern_match(refused[i], "a.q_proj", &is_match, &error), BOMBUS_ERROR_UNSUPPORTED);
    char *longest = malloc(4001);
    memset(longest, 'a', 4000);
    longest[4000] = '\0';
    assert_int_equal(bb_module_pattern_match(".*.*.*.*b", longest, &is_match, &error), BOMBUS_ERROR_UNSUPPORTED);
    free(longest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference), cmocka_unit_test(test_trained), cmocka_unit_test(test_merged),
        cmocka_unit_test(test_batch),     cmocka_unit_test(test_prefix),  cmocka_unit_test(test_allocations),
        cmocka_unit_test(test_threads),   cmocka_unit_test(test_refused), cmocka_unit_test(test_memory),
        cmocka_unit_test(test_patterns),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
