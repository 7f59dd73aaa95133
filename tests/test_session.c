/* Sessions: the same logits however tokens are cut into steps, trials and batches; truncation, files, limits, threads. */
#include "base/file.h"
#include "base/memory.h"
#include "generate/prompt_cache.h"
#include "generate/score.h"
#include "generate/session.h"
#include "opened.h"
#include "scratch.h"

#include <pthread.h>

static struct bb_session *create(const struct opened *opened, const bombus_session_options *options, bool is_exact)
{
    struct bb_session *session;
    bombus_error error;
    CHECK_OK(bb_sessions_create(&session, 1, opened->model, opened->backend, options, is_exact, &error), error);
    return session;
}

static float *copy_logits(const struct bb_session *session)
{
    size_t bytes = (size_t)bb_session_model(session)->recipe.vocab_size * sizeof(float);
    assert_non_null(bb_session_logits(session));
    return memcpy(malloc(bytes), bb_session_logits(session), bytes);
}

static void check_same_logits(const struct bb_session *session, const float *expected)
{
    size_t bytes = (size_t)bb_session_model(session)->recipe.vocab_size * sizeof(float);
    assert_non_null(bb_session_logits(session));
    assert_memory_equal(bb_session_logits(session), expected, bytes);
}

/* Logits after all tokens, fed in one step to a session of its own. */
static float *logits_after(const struct opened *opened, const int32_t *tokens, size_t count,
                           const bombus_session_options *options, bool is_exact)
{
    bombus_error error;
    struct bb_session *session = create(opened, options, is_exact);
    CHECK_OK(bb_session_step(session, tokens, count, &error), error);
    float *logits = copy_logits(session);
    bb_session_free(session);
    return logits;
}

/* Bit for bit, over chunk sizes, both precisions, cache types, and a model with sliding windows. */
static void test_chunks(void **state)
{
    (void)state;
    const char *const models[] = {"llama-sliding", "gpt_oss", "qwen3-4bit", "gemma3_text-4bit"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        struct golden_ids prompt;
        bombus_error error;
        OPEN_OR_SKIP(opened, models[m], 2);
        assert_true(golden_ids(&prompt, models[m], "long"));
        for (int kind = 0; kind < 6; kind++) {
            bombus_session_options options = {.kv_bits = kind == 2                ? 8
                                                         : kind == 3 || kind == 5 ? 4
                                                                                  : 0,
                                              .kv_group_size = kind == 5 ? 32 : 0,
                                              .max_kv_size = kind == 4 ? 100 : 0};
            if (options.kv_bits != 0 && opened.model->recipe.head_dim % 32 != 0)
                continue;
            /* A quantized cache rounds the first chunk after its own attention (kv_cache.h), so that one is always the same. */
            size_t first = options.kv_bits != 0 ? 40 : 1;
            struct bb_session *whole = create(&opened, &options, kind == 1);
            CHECK_OK(bb_session_step(whole, prompt.ids, first, &error), error);
            CHECK_OK(bb_session_step(whole, prompt.ids + first, prompt.count - first, &error), error);
            float *expected = copy_logits(whole);
            bb_session_free(whole);
            const size_t sizes[] = {1, 2, 3, 5, 6, 7, 8, 33, 64, 150};
            for (size_t i = 0; i < BB_COUNT(sizes); i++) {
                options.prefill_step_size = sizes[i] == 150 ? 77 : 0;
                struct bb_session *session = create(&opened, &options, kind == 1);
                CHECK_OK(bb_session_step(session, prompt.ids, first, &error), error);
                for (size_t done = first, size; done < prompt.count; done += size) {
                    size = sizes[i] < prompt.count - done ? sizes[i] : prompt.count - done;
                    CHECK_OK(bb_session_step(session, prompt.ids + done, size, &error), error);
                }
                check_same_logits(session, expected);
                assert_int_equal(session->count, prompt.count);
                assert_memory_equal(session->tokens, prompt.ids, prompt.count * sizeof *prompt.ids);
                bb_session_free(session);
            }
            free(expected);
        }
        close_model(&opened);
    }
}

/* A trial's rows are the logits of single steps; what is not accepted leaves no trace, sliding windows included. */
static void test_trials(void **state)
{
    (void)state;
    const char *const models[] = {"llama-sliding", "gpt_oss", "qwen3-4bit", "gemma3_text-4bit"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        struct golden_ids prompt;
        bombus_error error;
        OPEN_OR_SKIP(opened, models[m], 2);
        assert_true(golden_ids(&prompt, models[m], "long"));
        size_t vocab_size = (size_t)opened.model->recipe.vocab_size;
        struct bb_session *session = create(&opened, NULL, false), *plain = create(&opened, NULL, false);
        CHECK_OK(bb_session_reserve(session, BB_MAX_TRY_ROWS, BB_MAX_TRY_ROWS, &error), error);
        for (int32_t done = 0; done + BB_MAX_TRY_ROWS <= (int32_t)prompt.count;) {
            int32_t wrong[BB_MAX_TRY_ROWS], right = 1 + done % 7;
            memcpy(wrong, prompt.ids + done, sizeof wrong);
            for (int32_t i = right; i < BB_MAX_TRY_ROWS; i++)
                wrong[i] = 5 + i;
            CHECK_OK(bb_session_try(session, wrong, BB_MAX_TRY_ROWS, &error), error);
            assert_int_equal(session->count, done + BB_MAX_TRY_ROWS);
            float *rows = malloc(vocab_size * (size_t)right * sizeof *rows);
            memcpy(rows, session->rows, vocab_size * (size_t)right * sizeof *rows);
            bb_session_accept(session, done + right);
            assert_null(bb_session_logits(session));
            for (int32_t i = 0; i < right; i++) {
                CHECK_OK(bb_session_step(plain, &prompt.ids[done + i], 1, &error), error);
                check_same_logits(plain, rows + (size_t)i * vocab_size);
            }
            free(rows);
            done += right;
        }
        bb_session_free(session);
        bb_session_free(plain);
        close_model(&opened);
    }
}

static void test_truncate(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    float *expected = logits_after(&opened, prompt.ids, 150, NULL, false);
    struct bb_session *session = create(&opened, NULL, false);
    assert_null(bb_session_logits(session));
    CHECK_OK(bb_session_step(session, prompt.ids, 200, &error), error);
    CHECK_OK(bb_session_truncate(session, 149, &error), error);
    assert_null(bb_session_logits(session));
    assert_int_equal(bb_session_truncate(session, 150, &error), BOMBUS_ERROR_ARGUMENT);
    CHECK_OK(bb_session_step(session, prompt.ids + 149, 1, &error), error);
    check_same_logits(session, expected);
    CHECK_OK(bb_session_truncate(session, 150, &error), error); /* nothing to forget: the logits stay */
    check_same_logits(session, expected);
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    CHECK_OK(bb_session_step(session, prompt.ids, 150, &error), error);
    check_same_logits(session, expected);
    /* What is on trial stays as far as it is not truncated: then it counts for the cache too, whose pages end at 64. */
    struct bb_buffer bytes = {0};
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    CHECK_OK(bb_session_step(session, prompt.ids, 60, &error), error);
    CHECK_OK(bb_session_try(session, prompt.ids + 60, 20, &error), error);
    CHECK_OK(bb_session_truncate(session, 70, &error), error);
    CHECK_OK(bb_session_write(session, &bytes, &error), error);
    assert_int_equal(*(const int32_t *)(const void *)bytes.data, 70);
    bb_buffer_clear(&bytes);
    CHECK_OK(bb_session_step(session, prompt.ids + 70, 80, &error), error);
    check_same_logits(session, expected);
    /* With max_kv_size, what was dropped cannot come back; nothing is changed then. */
    bombus_session_options options = {.max_kv_size = 20};
    struct bb_session *narrow = create(&opened, &options, false);
    CHECK_OK(bb_session_step(narrow, prompt.ids, 200, &error), error);
    CHECK_OK(bb_session_step(narrow, prompt.ids, 200, &error), error);
    assert_int_equal(bb_session_truncate(narrow, 30, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_int_equal(narrow->count, 400);
    CHECK_OK(bb_session_truncate(narrow, 350, &error), error);
    /* prepare then begins anew. */
    size_t reused;
    CHECK_OK(bb_session_prepare(narrow, prompt.ids, 30, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 0);
    assert_int_equal(narrow->count, 30);
    bb_session_free(narrow);
    bb_session_free(session);
    free(expected);
    close_model(&opened);
}

static bool stop_at_second(void *context, size_t done, size_t total)
{
    size_t *calls = context;
    assert_true(done < total);
    return ++*calls < 2;
}

static void test_prepare(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    size_t reused, calls = 0;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    float *expected = logits_after(&opened, prompt.ids, 100, NULL, false);
    struct bb_session *session = create(&opened, &(bombus_session_options){.prefill_step_size = 40}, false);
    CHECK_OK(bb_session_prepare(session, prompt.ids, 120, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 0);
    CHECK_OK(bb_session_prepare(session, prompt.ids, 100, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 99); /* the last one again, for its logits */
    check_same_logits(session, expected);
    CHECK_OK(bb_session_prepare(session, prompt.ids, 100, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 100);
    check_same_logits(session, expected);
    int32_t other[100];
    memcpy(other, prompt.ids, sizeof other);
    other[60] = 7;
    CHECK_OK(bb_session_prepare(session, other, 100, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 60);
    assert_int_equal(session->tokens[60], 7);
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    assert_int_equal(bb_session_prepare(session, prompt.ids, 100, stop_at_second, &calls, &reused, &error),
                     BOMBUS_ERROR_CANCELLED);
    assert_int_equal(session->count, 40);
    CHECK_OK(bb_session_prepare(session, prompt.ids, 100, NULL, NULL, &reused, &error), error);
    assert_int_equal(reused, 40);
    check_same_logits(session, expected);
    bb_session_free(session);
    free(expected);
    close_model(&opened);
}

/* Rows of several sessions in one step: each gets what it would get alone. */
static void test_batches(void **state)
{
    (void)state;
    enum { COUNT = 5 };
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 2);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    struct bb_session *sessions[COUNT], *plain[COUNT], *stranger = create(&opened, NULL, false);
    CHECK_OK(bb_sessions_create(sessions, COUNT, opened.model, opened.backend, NULL, false, &error), error);
    for (int i = 0; i < COUNT; i++) {
        plain[i] = create(&opened, NULL, false);
        CHECK_OK(bb_session_step(sessions[i], prompt.ids + i, (size_t)(3 + 20 * i), &error), error);
        CHECK_OK(bb_session_step(plain[i], prompt.ids + i, (size_t)(3 + 20 * i), &error), error);
    }
    assert_null(bb_session_logits(sessions[0])); /* the others' steps have used its memory */
    for (int turn = 0; turn < 70; turn++) {
        int32_t tokens[COUNT];
        for (int i = 0; i < COUNT; i++)
            tokens[i] = prompt.ids[turn + 5 * i];
        CHECK_OK(bb_sessions_step(sessions, tokens, COUNT, &error), error);
        for (int i = 0; i < COUNT; i++) {
            CHECK_OK(bb_session_step(plain[i], &tokens[i], 1, &error), error);
            check_same_logits(sessions[i], bb_session_logits(plain[i]));
        }
    }
    struct bb_session *twice[2] = {sessions[0], sessions[0]}, *strange[2] = {sessions[0], stranger};
    assert_int_equal(bb_sessions_step(twice, prompt.ids, 2, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_sessions_step(strange, prompt.ids, 2, &error), BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(bb_sessions_step(sessions, (int32_t[COUNT]){1, 2, 3, 4, -1}, COUNT, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_int_equal(sessions[0]->count, 3 + 70);
    for (int i = 0; i < COUNT; i++) {
        bb_session_free(sessions[(i * 2) % COUNT]);
        bb_session_free(plain[i]);
    }
    bb_session_free(stranger);
    close_model(&opened);
}

static void test_limits(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    struct bb_session *session = create(&opened, &(bombus_session_options){.context_size = 50}, false);
    CHECK_OK(bb_session_step(session, prompt.ids, 45, &error), error);
    float *logits = copy_logits(session);
    assert_int_equal(bb_session_step(session, prompt.ids, 6, &error), BOMBUS_ERROR_CONTEXT_FULL);
    assert_int_equal(session->count, 45);
    check_same_logits(session, logits);
    CHECK_OK(bb_session_step(session, prompt.ids, 5, &error), error);
    assert_int_equal(bb_session_step(session, (int32_t[]){opened.model->recipe.vocab_size}, 1, &error),
                     BOMBUS_ERROR_ARGUMENT);
    assert_non_null(strstr(error.message, "tokens[0]"));
    free(logits);
    bb_session_free(session);
    const struct {
        bombus_session_options options;
        const char *name;
    } cases[] = {
        {{.kv_bits = 3}, "kv_bits"},
        {{.kv_group_size = 32}, "kv_group_size"},
        {{.kv_bits = 8, .kv_group_size = 16}, "kv_group_size"},
        {{.max_kv_size = 4}, "max_kv_size"},
        {{.context_size = -1}, "context_size"},
        {{.prefill_step_size = -1}, "prefill_step_size"},
        {{.precision = (bombus_precision)7}, "precision"},
    };
    for (size_t i = 0; i < BB_COUNT(cases); i++) {
        assert_int_equal(
            bb_sessions_create(&session, 1, opened.model, opened.backend, &cases[i].options, false, &error),
            BOMBUS_ERROR_ARGUMENT);
        assert_null(session);
        assert_non_null(strstr(error.message, cases[i].name));
    }
    close_model(&opened);
}

static double squared_distance(const float *a, const float *b, int32_t count)
{
    double sum = 0.0;
    for (int32_t i = 0; i < count; i++)
        sum += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sum;
}

/* Groups of 64 are the usual ones for a head of 64; smaller groups lose less; files know the size. */
static void test_group_sizes(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 1);
    assert_true(golden_ids(&prompt, "qwen3-4bit", "long"));
    const bombus_session_options options[] = {
        {0}, {.kv_bits = 4}, {.kv_bits = 4, .kv_group_size = 64}, {.kv_bits = 4, .kv_group_size = 32}};
    struct bb_session *sessions[BB_COUNT(options)], *refused;
    const float *logits[BB_COUNT(options)];
    for (size_t i = 0; i < BB_COUNT(options); i++) {
        sessions[i] = create(&opened, &options[i], true);
        CHECK_OK(bb_session_step(sessions[i], prompt.ids, 40, &error), error);
        CHECK_OK(bb_session_step(sessions[i], prompt.ids + 40, 60, &error), error);
        logits[i] = bb_session_logits(sessions[i]);
    }
    int32_t vocab_size = opened.model->recipe.vocab_size;
    assert_memory_equal(logits[1], logits[2], (size_t)vocab_size * sizeof(float));
    double usual = squared_distance(logits[1], logits[0], vocab_size), small = squared_distance(logits[3], logits[0], vocab_size);
    print_message("squared distance to a cache of float32: groups of 64: %g, of 32: %g\n", usual, small);
    assert_true(small > 0.0 && small < usual);
    const char *path = scratch_path("groups.safetensors");
    for (size_t i = 1; i < BB_COUNT(options); i++) {
        CHECK_OK(bb_prompt_cache_save(sessions[i], path, &error), error);
        for (size_t j = 1; j < BB_COUNT(options); j++)
            assert_int_equal(bb_prompt_cache_load(sessions[j], path, &error),
                             (i == 3) == (j == 3) ? BOMBUS_OK : BOMBUS_ERROR_MISMATCH);
    }
    for (size_t i = 0; i < BB_COUNT(options); i++)
        bb_session_free(sessions[i]);
    bombus_session_options wide = {.kv_bits = 4, .kv_group_size = 128};
    assert_int_equal(bb_sessions_create(&refused, 1, opened.model, opened.backend, &wide, false, &error), BOMBUS_ERROR_UNSUPPORTED);
    assert_non_null(strstr(error.message, "kv_group_size 128"));
    close_model(&opened);
}

static void test_no_allocation_per_token(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 2);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    struct bb_session *session = create(&opened, NULL, false);
    CHECK_OK(bb_session_step(session, prompt.ids, 30, &error), error);
    CHECK_OK(bb_session_step(session, prompt.ids, 1, &error), error);
    uint64_t before = bb_memory_count();
    for (size_t i = 0; i < 100; i++)
        CHECK_OK(bb_session_step(session, &prompt.ids[i], 1, &error), error);
    assert_int_equal(bb_memory_count() - before, 0);
    bb_session_free(session);
    close_model(&opened);
}

static void test_failing_allocations(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids prompt;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "short"));
    bombus_status status = BOMBUS_ERROR_MEMORY;
    int calls = 0;
    while (status != BOMBUS_OK) {
        struct bb_session *sessions[2];
        bombus_error error;
        bb_memory_fail_at((uint64_t)++calls, false);
        status = bb_sessions_create(sessions, 2, opened.model, opened.backend, NULL, false, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        assert_true((status == BOMBUS_OK) == (sessions[0] != NULL && sessions[1] != NULL));
        bb_session_free(sessions[0]);
        bb_session_free(sessions[1]);
    }
    assert_true(calls > 8);
    close_model(&opened);
}

/* ---- files ---- */

static void test_files(void **state)
{
    (void)state;
    const char *const models[] = {"llama-sliding", "gpt_oss", "qwen3-4bit", "gemma3_text-4bit"};
    for (size_t m = 0; m < BB_COUNT(models); m++) {
        struct opened opened;
        struct golden_ids prompt;
        bombus_error error;
        OPEN_OR_SKIP(opened, models[m], 1);
        assert_true(golden_ids(&prompt, models[m], "long"));
        const bombus_session_options options[] = {{0}, {.kv_bits = 8}, {.kv_bits = 4}, {.max_kv_size = 90}};
        const char *path = scratch_path("session.safetensors");
        for (size_t i = 0; i < BB_COUNT(options) && opened.model->recipe.head_dim % 32 == 0; i++) {
            struct bb_session *written = create(&opened, &options[i], false),
                              *read = create(&opened, &options[i], false);
            CHECK_OK(bb_session_step(written, prompt.ids, 180, &error), error);
            CHECK_OK(bb_session_step(read, prompt.ids + 20, 10, &error), error);
            CHECK_OK(bb_prompt_cache_save(written, path, &error), error);
            CHECK_OK(bb_prompt_cache_load(read, path, &error), error);
            assert_int_equal(read->count, 180);
            assert_memory_equal(read->tokens, prompt.ids, 180 * sizeof *prompt.ids);
            check_same_logits(read, bb_session_logits(written));
            CHECK_OK(bb_session_step(written, prompt.ids + 180, 20, &error), error);
            CHECK_OK(bb_session_step(read, prompt.ids + 180, 20, &error), error);
            check_same_logits(read, bb_session_logits(written));
            /* Other options, other precision: refused, and the session is as before. */
            for (size_t j = 0; j < BB_COUNT(options) + 2; j++) {
                if (j == i)
                    continue;
                bombus_session_options other = j < BB_COUNT(options) ? options[j] : options[i];
                other.context_size = j == BB_COUNT(options) ? 1000 : 0;
                struct bb_session *different = create(&opened, &other, j == BB_COUNT(options) + 1);
                CHECK_OK(bb_session_step(different, prompt.ids, 3, &error), error);
                assert_int_equal(bb_prompt_cache_load(different, path, &error), BOMBUS_ERROR_MISMATCH);
                assert_int_equal(different->count, 3);
                assert_non_null(bb_session_logits(different));
                bb_session_free(different);
            }
            bb_session_free(written);
            bb_session_free(read);
        }
        close_model(&opened);
    }
}

static void test_file_of_another_model(void **state)
{
    (void)state;
    struct opened opened, other;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 1);
    OPEN_OR_SKIP(other, "qwen3-4bit-g32", 1);
    const char *path = scratch_path("other.safetensors");
    struct bb_session *session = create(&opened, NULL, false), *stranger = create(&other, NULL, false);
    CHECK_OK(bb_session_step(session, (int32_t[]){1, 2, 3}, 3, &error), error);
    CHECK_OK(bb_prompt_cache_save(session, path, &error), error);
    assert_int_equal(bb_prompt_cache_load(stranger, path, &error), BOMBUS_ERROR_MISMATCH);
    assert_non_null(strstr(error.message, "model"));
    /* An empty session is a session too. */
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    CHECK_OK(bb_prompt_cache_save(session, path, &error), error);
    CHECK_OK(bb_session_step(session, (int32_t[]){1, 2, 3}, 3, &error), error);
    CHECK_OK(bb_prompt_cache_load(session, path, &error), error);
    assert_int_equal(session->count, 0);
    assert_null(bb_session_logits(session));
    bb_session_free(session);
    bb_session_free(stranger);
    close_model(&opened);
    close_model(&other);
}

/* Any flipped byte, any cut: an error, and the session as before. */
static void test_damaged_files(void **state)
{
    (void)state;
    struct opened opened;
    bombus_error error;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 1);
    const char *path = scratch_path("whole.safetensors"), *damaged = scratch_path("damaged.safetensors");
    struct bb_session *session = create(&opened, &(bombus_session_options){.kv_bits = 4}, false);
    CHECK_OK(bb_session_step(session, (int32_t[]){1, 2, 3}, 3, &error), error);
    CHECK_OK(bb_prompt_cache_save(session, path, &error), error);
    CHECK_OK(bb_session_step(session, (int32_t[]){4, 5}, 2, &error), error);
    float *logits = copy_logits(session);
    char *data;
    size_t size;
    CHECK_OK(bb_file_read(&data, &size, path, 1 << 24, &error), error);
    for (size_t i = 0; i < size; i += i < 1000 ? 1 : size / 97) {
        data[i] ^= 0x41;
        CHECK_OK(bb_file_write(damaged, data, size, &error), error);
        bombus_status status = bb_prompt_cache_load(session, damaged, &error);
        if (status == BOMBUS_OK || session->count != 5)
            print_error("byte %zu of %zu\n", i, size);
        assert_true(status == BOMBUS_ERROR_FORMAT || status == BOMBUS_ERROR_MISMATCH ||
                    status == BOMBUS_ERROR_UNSUPPORTED);
        assert_int_equal(session->count, 5);
        data[i] ^= 0x41;
    }
    for (size_t cut = 0; cut < size; cut += 1 + size / 50) {
        CHECK_OK(bb_file_write(damaged, data, cut, &error), error);
        assert_int_equal(bb_prompt_cache_load(session, damaged, &error), BOMBUS_ERROR_FORMAT);
    }
    assert_int_equal(bb_prompt_cache_load(session, scratch_path("nowhere"), &error), BOMBUS_ERROR_NOT_FOUND);
    check_same_logits(session, logits);
    /* Failing allocations leave it as before too; a full disk leaves no file. */
    bombus_status status = BOMBUS_ERROR_MEMORY;
    for (int calls = 1; status != BOMBUS_OK; calls++) {
        bb_memory_fail_at((uint64_t)calls, false);
        status = bb_prompt_cache_load(session, path, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        assert_int_equal(session->count, status == BOMBUS_OK ? 3 : 5);
    }
    status = BOMBUS_ERROR_MEMORY;
    for (int calls = 1; status != BOMBUS_OK; calls++) {
        unlink(damaged);
        bb_memory_fail_at((uint64_t)calls, false);
        status = bb_prompt_cache_save(session, damaged, &error);
        bb_memory_fail_at(0, false);
        assert_true(status == BOMBUS_OK || status == BOMBUS_ERROR_MEMORY);
        assert_true((status == BOMBUS_OK) == bb_file_exists(damaged));
    }
    assert_int_equal(bb_prompt_cache_save(session, "/dev/full/x", &error), BOMBUS_ERROR_IO);
    bb_release(data);
    free(logits);
    bb_session_free(session);
    close_model(&opened);
}

/* ---- scores ---- */

struct seen {
    size_t rows;
    const float *last;
};

static bool see(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    struct seen *seen = context;
    assert_int_equal(first, seen->rows);
    assert_int_equal(vocab_size, 1024);
    seen->rows += count;
    seen->last = logits + (count - 1) * 1024;
    return true;
}

static bool refuse(void *context, size_t first, size_t count, const float *logits, int32_t vocab_size)
{
    (void)context, (void)first, (void)count, (void)logits, (void)vocab_size;
    return false;
}

static void test_score(void **state)
{
    (void)state;
    struct opened opened;
    struct golden_ids text;
    bombus_error error;
    double logprobs[512], parts[512], sum = 0.0;
    OPEN_OR_SKIP(opened, "qwen3-4bit", 2);
    assert_true(golden_ids(&text, "qwen3-4bit", NULL));
    struct bb_session *session = create(&opened, NULL, true);
    struct seen seen = {0};
    CHECK_OK(bb_session_score(session, text.ids, text.count, logprobs, see, &seen, &error), error);
    assert_true(isnan(logprobs[0]));
    assert_int_equal(seen.rows, text.count);
    assert_ptr_equal(seen.last, bb_session_logits(session));
    for (size_t i = 1; i < text.count; i++)
        sum -= logprobs[i];
    assert_true(fabs(exp(sum / (double)(text.count - 1)) / 8.436563 - 1.0) < 1e-4); /* reference.json, perplexity f32 */
    /* In two calls the same, the first token of the second by the logits of the first. */
    CHECK_OK(bb_session_truncate(session, 0, &error), error);
    CHECK_OK(bb_session_score(session, text.ids, 100, parts, NULL, NULL, &error), error);
    CHECK_OK(bb_session_score(session, text.ids + 100, text.count - 100, parts + 100, NULL, NULL, &error), error);
    assert_memory_equal(parts + 1, logprobs + 1, (text.count - 1) * sizeof *parts);
    assert_int_equal(bb_session_score(session, text.ids, 2, parts, refuse, NULL, &error), BOMBUS_ERROR_CANCELLED);
    CHECK_OK(bb_session_score(session, text.ids, 0, parts, NULL, NULL, &error), error);
    bb_session_free(session);
    close_model(&opened);
}

/* ---- threads ---- */

struct job {
    const struct opened *opened;
    const struct golden_ids *prompt;
    const float *expected;
    bool is_same;
};

static void *work(void *context)
{
    struct job *job = context;
    struct bb_session *session = NULL;
    size_t bytes = (size_t)job->opened->model->recipe.vocab_size * sizeof(float);
    job->is_same =
        bb_sessions_create(&session, 1, job->opened->model, job->opened->backend, NULL, false, NULL) == BOMBUS_OK &&
        bb_session_step(session, job->prompt->ids, 100, NULL) == BOMBUS_OK;
    for (size_t i = 100; i < 130 && job->is_same; i++)
        job->is_same = bb_session_step(session, &job->prompt->ids[i], 1, NULL) == BOMBUS_OK;
    job->is_same = job->is_same && memcmp(bb_session_logits(session), job->expected, bytes) == 0;
    bb_session_free(session);
    return NULL;
}

/* Sessions of one model on several threads at once. */
static void test_threads(void **state)
{
    (void)state;
    enum { THREADS = 4 };
    struct opened opened;
    struct golden_ids prompt;
    OPEN_OR_SKIP(opened, "qwen3-yarn-mixed", 2);
    assert_true(golden_ids(&prompt, "qwen3-yarn-mixed", "long"));
    float *expected = logits_after(&opened, prompt.ids, 130, NULL, false);
    struct job jobs[THREADS];
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.opened = &opened, .prompt = &prompt, .expected = expected};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_true(jobs[i].is_same);
    }
    free(expected);
    close_model(&opened);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_trials),
        cmocka_unit_test(test_truncate),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_batches),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_group_sizes),
        cmocka_unit_test(test_no_allocation_per_token),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_file_of_another_model),
        cmocka_unit_test(test_damaged_files),
        cmocka_unit_test(test_score),
        cmocka_unit_test(test_threads),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
