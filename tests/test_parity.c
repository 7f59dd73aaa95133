/* Whole models against saved logits: the reference data (golden/) and the tiny models of tests/fixtures, in both precisions; and that neither batch,
 * chunk, thread nor sequence number changes a bit of a row. */
#include "parity.h"
#include "test.h"

#include <dirent.h>

static const char fixtures[] = "tests/fixtures/models";

static int compare_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Names of the folders in `folder`, sorted; NULL behind the last. */
static char **list_folder(const char *folder)
{
    static char names[64][64];
    static char *list[65];
    size_t count = 0;
    DIR *directory = opendir(folder);
    for (struct dirent *item = directory != NULL ? readdir(directory) : NULL; item != NULL && count < 64; item = readdir(directory)) {
        if (item->d_name[0] == '.')
            continue;
        list[count] = names[count];
        snprintf(names[count++], sizeof names[0], "%.63s", item->d_name);
    }
    if (directory != NULL)
        closedir(directory);
    list[count] = NULL;
    qsort(list, count, sizeof *list, compare_text);
    return list;
}

static void open_model(struct parity_runner *runner, const char *folder, struct parity_options options)
{
    if (!parity_open(runner, folder, &options))
        fail_msg("%s: %s", folder, runner->error.message);
}

/* ---- golden ---- */

static void check_golden(const char *name, const char *model_folder, const char *reference_folder, bool is_exact)
{
    struct parity_runner runner;
    struct parity_reference reference;
    struct parity_difference difference = {0};
    struct parity_greedy greedy = {0};
    open_model(&runner, model_folder, (struct parity_options){ .is_exact = is_exact });
    assert_true(parity_reference_open(&reference, reference_folder));
    bool is_mixture = runner.model->recipe.num_experts > 0;
    double worst, expected = json_number_value(json_object_get(json_object_get(json_object_get(reference.root, "perplexity"), "f32"), "mean_nll"));
    bool is_good = parity_prompts(&runner, &reference, 0, &difference);
    double share = exp(parity_nll(&runner, &reference, &worst) - expected) - 1.0;
    /* Twice the logits' tolerance; in fast the rounding moves logits by some 0.1. */
    is_good = is_good && parity_greedy_all(&runner, &reference, "greedy", "f32", is_exact ? 2e-3 : 0.2, &greedy);
    if (!is_good)
        fail_msg("%s: %s", name, runner.error.message);
    bool is_close = is_exact ? difference.max_abs <= 1e-3 && worst <= 1e-4
                             : is_mixture || (parity_kl_mean(&difference) <= 1e-3 && difference.kl_max <= 2e-2);
    if (!is_close || !(fabs(share) <= (is_exact ? 1e-4 : 5e-3)) || greedy.wrong > 0)
        fail_msg("%s, %s: logits differ by %g, KL %g (worst %g), perplexity %+.4f %%, nll %g, greedy wrong %d (margin %g)", name,
                 is_exact ? "exact" : "fast", difference.max_abs, parity_kl_mean(&difference), difference.kl_max, 100 * share, worst,
                 greedy.wrong, greedy.worst_margin);
    parity_reference_close(&reference);
    parity_close(&runner);
}

/* With sanitizers every fifth model is enough: they look for other faults than wrong numbers. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MODEL_STEP = 5 };
#else
enum { MODEL_STEP = 1 };
#endif

static void check_all_golden(bool is_exact)
{
    const char *models = golden_path("models");
    SKIP_WITHOUT_GOLDEN(models);
    char folder[512], reference[512];
    size_t number = 0;
    for (char **name = list_folder(models); *name != NULL; name++) {
        if (number++ % MODEL_STEP != 0)
            continue;
        snprintf(folder, sizeof folder, "%s/%s", models, *name);
        snprintf(reference, sizeof reference, "%s/../reference/%s", models, *name);
        check_golden(*name, folder, reference, is_exact);
    }
}

static void test_golden_exact(void **state)
{
    (void)state;
    check_all_golden(true);
}

static void test_golden_fast(void **state)
{
    (void)state;
    check_all_golden(false);
}

/* mlx-lm's 8- and 4-bit caches, quantized from the first position. */
static void test_quantized_cache(void **state)
{
    (void)state;
    const char *folder = golden_path("models/qwen3-4bit"), *reference_folder = golden_path("reference/qwen3-4bit");
    SKIP_WITHOUT_GOLDEN(folder);
    for (int32_t kv_bits = 8; kv_bits >= 4; kv_bits -= 4) {
        struct parity_runner runner;
        struct parity_reference reference;
        struct parity_greedy greedy = {0};
        open_model(&runner, folder, (struct parity_options){ .is_exact = true, .kv_bits = kv_bits });
        assert_true(parity_reference_open(&reference, reference_folder));
        /* A code that falls to the other side of a tie moves logits by far more than f32 rounding does. */
        bool is_good = parity_greedy_all(&runner, &reference, "greedy_kv_quant", kv_bits == 8 ? "f32.kv8" : "f32.kv4", 5e-3, &greedy);
        if (!is_good || greedy.wrong > 0)
            fail_msg("kv%d: %s; %d of %d tokens, margin %g", kv_bits, runner.error.message, greedy.agreed, greedy.tokens, greedy.worst_margin);
        assert_true(greedy.agreed > 60);
        parity_reference_close(&reference);
        parity_close(&runner);
    }
}

/* ---- fixtures ---- */

struct fixture {
    struct bb_safetensors file;
    int32_t *ids, *positions;
    float *logits;
    size_t id_count, row_count;
};

static void *copy_tensor(const struct bb_safetensors *file, const char *name, size_t *count)
{
    const struct bb_safetensors_entry *entry = bb_safetensors_find(file, name);
    assert_non_null(entry);
    void *copy = malloc(entry->size);
    memcpy(copy, entry->data, entry->size);
    *count = entry->size / 4;
    return copy;
}

static void open_fixture(struct fixture *fixture, const char *folder)
{
    char path[300];
    bombus_error error;
    size_t ignored;
    snprintf(path, sizeof path, "%s/reference.safetensors", folder);
    CHECK_OK(bb_safetensors_open(&fixture->file, path, &error), error);
    fixture->ids = copy_tensor(&fixture->file, "ids", &fixture->id_count);
    fixture->positions = copy_tensor(&fixture->file, "positions", &fixture->row_count);
    fixture->logits = copy_tensor(&fixture->file, "logits", &ignored);
}

static void close_fixture(struct fixture *fixture)
{
    bb_safetensors_close(&fixture->file);
    free(fixture->ids);
    free(fixture->positions);
    free(fixture->logits);
}

/* The whole text at once, and in chunks of 7. */
static void check_fixture(const char *folder, bool is_exact)
{
    struct parity_runner runner;
    struct fixture fixture;
    struct parity_difference difference = {0};
    open_model(&runner, folder, (struct parity_options){ .is_exact = is_exact });
    open_fixture(&fixture, folder);
    int32_t vocab_size = runner.model->recipe.vocab_size, count = (int32_t)fixture.id_count;
    for (int32_t chunk = count; chunk > 0; chunk = chunk > 7 ? 7 : 0) {
        size_t next = 0;
        assert_true(parity_restart(&runner));
        for (int32_t first = 0; first < count; first += chunk) {
            int32_t taken = count - first < chunk ? count - first : chunk;
            const float *logits = parity_feed(&runner, fixture.ids + first, taken, true);
            if (logits == NULL)
                fail_msg("%s: %s", folder, runner.error.message);
            for (; next < fixture.row_count && fixture.positions[next] < first + taken; next++)
                parity_compare(&difference, logits + (size_t)(fixture.positions[next] - first) * (size_t)vocab_size,
                               fixture.logits + next * (size_t)vocab_size, vocab_size);
        }
    }
    assert_int_equal(difference.rows, 2 * fixture.row_count);
    /* Random weights of 64 columns are a harder ground for rounding than a trained model: the fast bound only tells right from wrong. */
    bool is_close = is_exact ? difference.max_abs <= 2e-4 : parity_kl_mean(&difference) <= 5e-2;
    if (!is_close)
        fail_msg("%s, %s: logits differ by %g, KL %g (worst %g)", folder, is_exact ? "exact" : "fast", difference.max_abs,
                 parity_kl_mean(&difference), difference.kl_max);
    close_fixture(&fixture);
    parity_close(&runner);
}

static void test_fixtures(void **state)
{
    (void)state;
    char folder[300];
    size_t count = 0;
    for (char **name = list_folder(fixtures); *name != NULL; name++, count++) {
        snprintf(folder, sizeof folder, "%s/%s", fixtures, *name);
        check_fixture(folder, true);
        check_fixture(folder, false);
    }
    assert_true(count >= 16);
}

/* ---- the same row, whatever surrounds it ---- */

enum { SEQUENCES = 3, STEPS = 6 };
/* Rows that each sequence feeds in each step. */
static const int32_t plan[STEPS][SEQUENCES] = { { 5, 0, 0 }, { 1, 17, 0 }, { 1, 1, 9 }, { 1, 0, 1 }, { 13, 1, 1 }, { 1, 1, 1 } };

/* Logits of every row of sequence `wanted` (-1: of all sequences together, in one batch a step), into out[sequence][position]. */
static void run_plan(const char *folder, const struct fixture *fixture, struct parity_options options, int32_t wanted,
                     float *out[SEQUENCES])
{
    struct parity_runner runner;
    options.sequence_count = SEQUENCES;
    options.context_size = 64;
    open_model(&runner, folder, options);
    size_t vocab_size = (size_t)runner.model->recipe.vocab_size;
    int32_t done[SEQUENCES] = {0};
    for (int32_t step = 0; step < STEPS; step++) {
        struct bb_span spans[SEQUENCES];
        int32_t tokens[64], span_count = 0, rows = 0;
        for (int32_t s = 0; s < SEQUENCES; s++) {
            if (plan[step][s] == 0 || (wanted >= 0 && s != wanted))
                continue;
            spans[span_count++] = (struct bb_span){ .row_count = plan[step][s], .sequence = s };
            for (int32_t i = 0; i < plan[step][s]; i++)
                tokens[rows++] = fixture->ids[(done[s] + i + 11 * s) % (int32_t)fixture->id_count];
        }
        if (span_count == 0)
            continue;
        const float *logits = parity_step(&runner, spans, span_count, tokens, true);
        if (logits == NULL)
            fail_msg("%s: %s", folder, runner.error.message);
        for (int32_t i = 0; i < span_count; i++) {
            int32_t s = spans[i].sequence;
            memcpy(out[s] + (size_t)done[s] * vocab_size, logits + (size_t)spans[i].first_row * vocab_size,
                   (size_t)spans[i].row_count * vocab_size * sizeof(float));
            done[s] += spans[i].row_count;
        }
    }
    parity_close(&runner);
}

static void check_invariance(const char *folder, struct parity_options options)
{
    struct fixture fixture;
    float *together[SEQUENCES], *alone[SEQUENCES];
    open_fixture(&fixture, folder);
    size_t entries = 64 * 256; /* no fixture has a larger vocabulary */
    for (int32_t s = 0; s < SEQUENCES; s++) {
        together[s] = calloc(entries, sizeof(float));
        alone[s] = calloc(entries, sizeof(float));
    }
    options.thread_count = 2;
    run_plan(folder, &fixture, options, -1, together);
    options.thread_count = 1;
    for (int32_t s = 0; s < SEQUENCES; s++) {
        run_plan(folder, &fixture, options, s, alone);
        if (memcmp(together[s], alone[s], entries * sizeof(float)) != 0)
            fail_msg("%s: sequence %d gives other logits in a batch than alone", folder, s);
        free(together[s]);
        free(alone[s]);
    }
    close_fixture(&fixture);
}

static void test_batch_invariance(void **state)
{
    (void)state;
    char folder[300];
    for (char **name = list_folder(fixtures); *name != NULL; name++) {
        snprintf(folder, sizeof folder, "%s/%s", fixtures, *name);
        check_invariance(folder, (struct parity_options){ .is_exact = true });
        check_invariance(folder, (struct parity_options){ .is_exact = false });
    }
    check_invariance("tests/fixtures/models/gpt_oss", (struct parity_options){ .kv_bits = 8 });
    check_invariance("tests/fixtures/models/gemma2", (struct parity_options){ .kv_bits = 4, .max_kv_size = 16 });
}

/* A row's logits do not depend on which other rows' logits are wanted. */
static void test_output_rows(void **state)
{
    (void)state;
    char folder[300];
    for (char **name = list_folder(fixtures); *name != NULL; name++) {
        struct parity_runner runner;
        struct fixture fixture;
        snprintf(folder, sizeof folder, "%s/%s", fixtures, *name);
        open_fixture(&fixture, folder);
        open_model(&runner, folder, (struct parity_options){ .is_exact = false });
        size_t bytes = (size_t)runner.model->recipe.vocab_size * sizeof(float);
        float *expected = malloc(bytes);
        const float *all = parity_feed(&runner, fixture.ids, (int32_t)fixture.id_count, true);
        assert_non_null(all);
        memcpy(expected, all + (fixture.id_count - 1) * bytes / sizeof(float), bytes);
        assert_true(parity_restart(&runner));
        const float *one = parity_feed(&runner, fixture.ids, (int32_t)fixture.id_count, false);
        assert_non_null(one);
        assert_memory_equal(one, expected, bytes);
        free(expected);
        close_fixture(&fixture);
        parity_close(&runner);
    }
}

/* A prompt in chunks of any size gives the same bits as token by token, in every kind of cache. */
static void test_chunk_invariance(void **state)
{
    (void)state;
    static const char *const folders[] = { "tests/fixtures/models/gpt_oss", "tests/fixtures/models/llama-multi-query",
                                           "tests/fixtures/models/gemma3_text-linear" };
    static const struct parity_options options[] = { { .is_exact = true }, { .is_exact = false }, { .kv_bits = 8 }, { .max_kv_size = 12 } };
    for (size_t i = 0; i < BB_COUNT(folders) * BB_COUNT(options); i++) {
        struct parity_runner runner;
        struct fixture fixture;
        open_fixture(&fixture, folders[i / BB_COUNT(options)]);
        open_model(&runner, folders[i / BB_COUNT(options)], options[i % BB_COUNT(options)]);
        size_t vocab_size = (size_t)runner.model->recipe.vocab_size;
        float *expected = calloc(fixture.id_count * vocab_size, sizeof *expected);
        /* A quantized cache takes the first chunk unrounded: that one is the same throughout. */
        int32_t start = options[i % BB_COUNT(options)].kv_bits > 0 ? 5 : 0;
        for (size_t j = 0; j < fixture.id_count; j += j == 0 && start > 0 ? (size_t)start : 1)
            memcpy(expected + j * vocab_size, parity_feed(&runner, fixture.ids + j, j == 0 && start > 0 ? start : 1, true),
                   (j == 0 && start > 0 ? (size_t)start : 1) * vocab_size * sizeof *expected);
        for (int32_t chunk = 2; chunk <= (int32_t)fixture.id_count; chunk = chunk * 3 - 1) {
            assert_true(parity_restart(&runner));
            for (int32_t first = 0, taken; first < (int32_t)fixture.id_count; first += taken) {
                int32_t left = (int32_t)fixture.id_count - first;
                taken = first == 0 && start > 0 ? start : left < chunk ? left : chunk;
                const float *logits = parity_feed(&runner, fixture.ids + first, taken, true);
                assert_non_null(logits);
                assert_memory_equal(logits, expected + (size_t)first * vocab_size, (size_t)taken * vocab_size * sizeof *logits);
            }
        }
        free(expected);
        close_fixture(&fixture);
        parity_close(&runner);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixtures),         cmocka_unit_test(test_batch_invariance), cmocka_unit_test(test_output_rows),
        cmocka_unit_test(test_chunk_invariance), cmocka_unit_test(test_golden_exact),     cmocka_unit_test(test_golden_fast),
        cmocka_unit_test(test_quantized_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
